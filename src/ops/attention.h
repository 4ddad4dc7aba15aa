/* The attention kernels as rows of a table, and what they share. Public part: halftone/attention.h. */
#ifndef HT_OPS_ATTENTION_H
#define HT_OPS_ATTENTION_H

#include <stddef.h>

#include <halftone/attention.h>

typedef struct ht_attention_kernel {
    const char *name, *summary;
    int on_gpu; /* where the data must be */
    int fp8;    /* rounds to fp8: only when the precision allows it */
    /* Non-zero and a reason without the kernel's name when it cannot run this; the arguments are complete and valid. */
    int (*refuses)(const ht_attention_args *args, char *why, size_t size);
    size_t (*workspace)(const ht_attention_args *args); /* NULL: none */
    ht_status (*run)(ht_context *ctx, const ht_attention_args *args);
    /* NULL: it has no backward pass. Arguments complete and valid, dtype filled in. */
    ht_status (*backward)(ht_context *ctx, const ht_attention_args *args, const ht_attention_gradients *gradients);
} ht_attention_kernel;

/* In the order they are tried. */
extern const ht_attention_kernel ht_attention_gpu_fp8, ht_attention_gpu_16, ht_attention_cpu, ht_attention_cpu_fp8,
    ht_attention_reference;

/* The row cpu_f32, with probabilities rounded to a type (kernels/attention.h; HT_DTYPE_NONE: as they are). */
ht_status ht_attention_cpu_run(ht_context *ctx, const ht_attention_args *args, ht_dtype rounded);

/* The backward passes of cpu_f32 and reference_f64. */
ht_status ht_attention_cpu_backward(ht_context *ctx, const ht_attention_args *args,
                                    const ht_attention_gradients *gradients);
ht_status ht_attention_reference_backward(ht_context *ctx, const ht_attention_args *args,
                                          const ht_attention_gradients *gradients);

/* One row of the definition: probabilities of the keys [*begin, *end) into score, their scaled and capped scores before
 * the mask into raw (NULL: not wanted), both [kv_rows] and indexed by key, and log sum exp. space: 2 head_dim. */
ht_status ht_attention_reference_row(const ht_attention_args *args, size_t b, size_t head, size_t row, double *space,
                                     double *score, double *raw, size_t *begin, size_t *end, double *lse);

/* Sequence b: where its rows begin, in rows of the operands (batch, kv_batch: multiples of their batch step), and how
 * many. */
typedef struct ht_attention_sequence {
    size_t batch, q_begin, q_rows, kv_batch, kv_begin, kv_rows;
    const int32_t *pages; /* ids of its pages; NULL: none */
} ht_attention_sequence;
ht_attention_sequence ht_attention_sequence_at(const ht_attention_args *args, size_t b);

/* Element offset of (sequence, row, head) in an operand. */
static inline size_t ht_attention_at(const ht_attention_operand *x, size_t batch, size_t row, size_t head) {
    return batch * x->batch + row * x->row + head * x->head;
}

/* Element offset of key `row` of a sequence in k or v. */
static inline size_t ht_attention_key_at(const ht_attention_args *args, const ht_attention_operand *x,
                                         const ht_attention_sequence *s, size_t row, size_t head) {
    size_t rows = args->pages.rows;
    return s->pages ? ht_attention_at(x, (size_t)s->pages[row / rows], row % rows, head)
                    : ht_attention_at(x, s->kv_batch, s->kv_begin + row, head);
}

/* Rotated copies (attention_rope.c): *out is args with them and no rotation, *memory theirs to release (ht_release)
 * after the call. Fails with ARGUMENT, SHAPE, MEMORY; nothing is held then. */
ht_status ht_attention_rope_check(const ht_attention_args *args);
ht_status ht_attention_rotate(ht_context *ctx, const ht_attention_args *args, ht_attention_args *out, void **memory);

/* kernel's backward pass of a call with a rotation. */
ht_status ht_attention_rotated_backward(ht_context *ctx, const ht_attention_kernel *kernel,
                                        const ht_attention_args *args, const ht_attention_gradients *gradients);

/* The mask of keys [key, key + count) added to a row's scores. */
void ht_attention_add_mask(const ht_attention_args *args, size_t b, size_t head, size_t row, size_t key, size_t count,
                           float *score);

/* Attention of f32 operands with e4m3 probabilities and sums of args->fp8.sum_bits (attention_narrow.c). */
ht_status ht_attention_narrow_run(ht_context *ctx, const ht_attention_args *args);

/* Where (b, head, row) of a sequence lies in lse. */
size_t ht_attention_lse_at(const ht_attention_args *args, size_t b, size_t head, size_t row);

#endif
