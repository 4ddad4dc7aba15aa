/* Scaled dot-product attention: one call for every layout, mask and precision, on the host or on a GPU.
 *
 *     out[b, i, h] = sum over visible j of softmax_j(cap(scale q[b, i, h] . k[b, j, h / group]) + mask) v[b, j, h /
 * group]
 *
 * Query row i stands at position p = i + kv_rows - q_rows: the last query sees the last key ("bottom-right"). It sees
 * key j when all of these hold:
 *     j < kv_rows;   causal: j <= p;   window w > 0: p - j < w, and j - p < w when not causal;   the mask allows it.
 *
 *                      keys 0 1 2 3 4 5                                      keys 0 1 2 3 4 5
 *     causal,       row 0   x x x x . .         causal, window 2,      row 0  . . x x . .
 *     q_rows 3      row 1   x x x x x .         q_rows 3               row 1  . . . x x .
 *                   row 2   x x x x x x                                row 2  . . . . x x
 *
 * Defined everywhere: a row that sees no key, or only scores of -Inf, is zero and its LSE -Inf; a NaN or +Inf among the
 * scores that a row sees makes that row NaN. Values of v that no row sees must be finite where a mask, a window or
 * causality hides them (they are multiplied by zero). */
#ifndef HT_ATTENTION_H
#define HT_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/status.h>
#include <halftone/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* [batch, rows, heads, dim] in any order, the dim contiguous: steps in elements. [b, s, h, d] has row = h d, head = d;
 * [b, h, s, d] has row = d, head = s d; a fused projection's q, k and v are three of these into one buffer. */
typedef struct ht_attention_operand {
    void *data;
    size_t batch, row, head; /* elements from one to the next; batch may be 0 when there is one */
} ht_attention_operand;

/* Keys and values in pages of a pool, as a server's cache has them: k and v are [count, rows, kv_heads, dim] in any
 * order by their steps, `batch` going from one page to the next. Key j of sequence b is row j % rows of page
 * ids[b per_sequence + j / rows]. Sequences may share pages, and pages lie in any order. Ids that no key needs are not
 * read. On the host an id outside [0, count) fails with ARGUMENT, naming it, before anything is computed; on a GPU ids
 * cannot be read by the call and must be valid. */
typedef struct ht_attention_pages {
    const int32_t *ids;  /* [batch, per_sequence]; NULL: k and v are not in pages */
    size_t per_sequence; /* at least kv_rows / rows, rounded up */
    size_t rows;         /* of a page: 1, 16, 64, 256, .. any */
    size_t count;        /* pages in the pool */
} ht_attention_pages;

typedef enum ht_attention_pairs {
    HT_PAIRS_HALVES,     /* c with c + dims / 2 */
    HT_PAIRS_INTERLEAVED /* 2c with 2c + 1 */
} ht_attention_pairs;

/* Rotary positions, applied to q and k on their way in, so that those of a fused projection can be passed as they are:
 *
 *     (a, b) -> (a cos - b sin, b cos + a sin)      for the pair c of a row at position t, by the angle (t, c)
 *
 * in f32, each operation rounded; the result is rounded to dtype. That is, bit for bit, rotating q and k by themselves
 * and then calling without this. Angles come from tables, or from theta: t f, f = theta^(-2c / dims), f and t f rounded
 * to f32 before the cosine and sine are taken.
 * Where a position lies outside a table: ARGUMENT, naming the row, before anything is computed (on the host; on a GPU
 * positions cannot be read by the call). Memory on the host: rotated copies of q and k. */
typedef struct ht_attention_rope {
    size_t dims; /* rotated channels of every head, the first ones; even, at most head_dim; 0: no rotation */
    ht_attention_pairs pairs;
    double theta;                             /* > 0, when there are no tables */
    const float *cosine, *sine;               /* [positions, dims / 2], both or neither */
    size_t positions;                         /* rows of the tables */
    const int32_t *q_positions, *k_positions; /* of each row as it is stored, [batch, rows] or [offsets[batch]]; NULL:
                                                 query i of a sequence at i + its kv_rows - its q_rows, key j at j */
    int q_only;                               /* k has been rotated when it was written to a cache; needed with pages */
} ht_attention_rope;

typedef enum ht_attention_mask_kind {
    HT_MASK_NONE,
    HT_MASK_BOOL,    /* u8: 0 hides the key */
    HT_MASK_ADDITIVE /* f32, added to the capped and scaled score; -INFINITY hides */
} ht_attention_mask_kind;

/* [batch, heads, q_rows, kv_rows], the keys contiguous; a step of 0 repeats. */
typedef struct ht_attention_mask {
    ht_attention_mask_kind kind;
    const void *data;
    size_t batch, head, row;
} ht_attention_mask;

/* X(enumerator tail, text name). What may be rounded. */
#define HT_ATTENTION_PRECISION_LIST(X)                                                                                 \
    X(INPUT, "input")                   /* as the inputs: f32 for f32, bf16 or f16 products with f32 sums for those */ \
    X(FP8, "fp8")                       /* q, k, v and the probabilities in e4m3, one scale per batch and kv head */   \
    X(FP8_HADAMARD, "fp8-hadamard")     /* the same after a Hadamard transform of q, k and v over the dim */           \
    X(FP8_HADAMARD_V, "fp8-hadamard-v") /* of v only */

typedef enum ht_attention_precision {
#define HT_ATTENTION_PRECISION_ENUMERATOR(name, text) HT_ATTENTION_##name,
    HT_ATTENTION_PRECISION_LIST(HT_ATTENTION_PRECISION_ENUMERATOR)
#undef HT_ATTENTION_PRECISION_ENUMERATOR
        HT_ATTENTION_PRECISION_COUNT
} ht_attention_precision;
HT_API const char *ht_attention_precision_name(ht_attention_precision precision); /* NULL past the end */

/* Details of fp8, read where the precision allows it. x becomes e4m3(x / s) s with s = amax / 448 over the values that
 * share a scale (1 when that is 0, NaN when one of them is NaN or Inf), the division and e4m3 to nearest even. */
typedef struct ht_attention_fp8 {
    size_t block;   /* rows [i block, (i + 1) block) of a sequence share a scale: those of k, of v, and those of all
                       queries that read the key-value head; 0: all rows do */
    size_t promote; /* the sums of P v are added to f32 sums after so many keys, a multiple of 32; 0: the kernel decides
                       (fp8_sm90: by tiles above 32768 keys). On a GPU any other value: by tiles */
    int sum_bits;   /* cpu_fp8 only, 1 to 23: sums of P v as narrow as tensor cores keep them. 32 keys at a time (from
                       multiples of 32) their products and the sum so far are cut, toward zero, to multiples of
                       2^(e - sum_bits), 2^e the binade of the largest among them, and then added. About 13 on Hopper.
                       0: f32 sums */
} ht_attention_fp8;

typedef struct ht_attention_args {
    size_t batch, heads, kv_heads; /* heads a multiple of kv_heads */
    size_t q_rows, kv_rows;        /* of every sequence; with offsets: of the longest */
    size_t head_dim, value_dim;    /* of q and k; of v and out. value_dim 0: head_dim */
    ht_dtype dtype;                /* of q, k and v: f32, bf16 or f16 */
    ht_dtype out_dtype;            /* HT_DTYPE_NONE: dtype */
    ht_attention_operand q, k, v, out;
    double scale; /* 0: 1 / sqrt(head_dim) */
    int causal;
    size_t window;  /* 0: none */
    double softcap; /* scores become softcap tanh(score / softcap); 0: none */
    ht_attention_mask mask;
    const float *sinks; /* [heads]: one more logit each, whose probability goes nowhere; NULL: none */

    /* Sequences of different lengths behind each other: rows [offsets[b], offsets[b + 1]) belong to sequence b, the
     * operands' batch step is not used. [batch + 1] each, not decreasing, from 0. Both or neither; with pages or
     * kv_lengths q_offsets alone. */
    const int32_t *q_offsets, *kv_offsets;
    const int32_t *kv_lengths; /* [batch] keys of each sequence, 0 to kv_rows; NULL: kv_rows, or by kv_offsets. The
                                  last query sees the last of them, what lies behind is not read */
    ht_attention_pages pages;
    ht_attention_rope rope;
    size_t q_total, kv_total; /* offsets[batch]; needed on a GPU only, where the offsets cannot be read */

    float *lse; /* [batch, heads, q_rows], with offsets [heads, offsets[batch]]: log sum exp of the scores, sink
                   included; NULL: not wanted */
    ht_attention_precision precision;
    ht_attention_fp8 fp8;
    const char *kernel; /* NULL: choose; else this one or a refusal */

    /* On a GPU every pointer above but `kernel` is a device pointer, the call only enqueues, and the caller lends
     * scratch. On the host all four stay zero. */
    int on_gpu;
    void *stream;    /* of the CUDA runtime; NULL: the default one */
    void *workspace; /* ht_attention_workspace bytes, 256-byte aligned */
    size_t workspace_bytes;
} ht_attention_args;

/* What ran, and what stood in the way of something faster. */
typedef struct ht_attention_report {
    const char *kernel; /* static string */
    char reason[224];   /* "fp8_sm90: head_dim 96; it does 64, 128, 256"; "" when the first choice ran */
} ht_attention_report;

/* Run one attention. report may be NULL. Fails with SHAPE, ARGUMENT, UNSUPPORTED (dtype, precision, GPU), MEMORY,
 * DEVICE. On the host the result does not depend on the number of threads, and a row of out depends on its own query,
 * the keys and the values alone. */
HT_API ht_status ht_attention(ht_context *ctx, const ht_attention_args *args, ht_attention_report *report);

/* --- The way back --------------------------------------------------------------------------------------------------
 * With P the probabilities of ht_attention, s the scaled and capped score before the mask, and
 * D_i = sum over c of d_out[i][c] out[i][c]:
 *
 *     dv[j] = sum_i P[i][j] d_out[i]                     dS[i][j] = P[i][j] (d_out[i] . v[j] - D_i) cap'(s)
 *     dq[i] = scale sum_j dS[i][j] k[j]                  dk[j] = scale sum_i dS[i][j] q[i]
 *     d_sinks[h] = - sum over the rows of h of exp(sink - lse_i) D_i
 *
 * A key-value head's dk and dv are sums over the queries that read it. P is computed again from lse, so no [q_rows,
 * kv_rows] matrix is kept. The mask gets no gradient. */
typedef struct ht_attention_gradients {
    ht_attention_operand d_out;      /* [batch, q_rows, heads, value_dim] of the args' out_dtype: gradient of out */
    ht_attention_operand dq, dk, dv; /* shaped as q, k, v; overwritten; data NULL: not wanted */
    ht_dtype dtype;                  /* of dq, dk and dv: f32, bf16 or f16; HT_DTYPE_NONE: that of q, k, v */
    float *d_sinks;                  /* [heads], overwritten; NULL: not wanted */
} ht_attention_gradients;

/* Gradients of one attention. args are those of the forward call; its out and lse (both needed) are read and not
 * written. `precision` says what the forward pass was allowed to round: gradients are taken of q, k and v as they are,
 * in products of the inputs' precision, so a forward pass in fp8 has this one as its backward pass. lse is f32: where
 * |lse| is large, P is off by a factor of 1 +- 6e-8 |lse|.
 *
 * A row that sees nothing (lse -Inf) gives nothing and its dq is zero, whatever its q and d_out hold; so padding needs
 * no cleaning. A NaN in q, d_out or lse of a row that sees something, or in a k or v, reaches the gradients that depend
 * on it and may reach others of the same key-value head.
 *
 * Fails as ht_attention does, and with ARGUMENT without lse or out; UNSUPPORTED on a GPU, where no kernel has it. Same
 * bits for any number of threads. Memory on the host: (head_dim + value_dim) f32 for every key and thread, and tiles.
 * Keys in pages have no gradient (UNSUPPORTED); rows of dk and dv behind kv_lengths are not written. With a rotation
 * dq and dk are those of q and k as they were given; they are turned back in f32 and rounded once.
 * Source: Dao 2023 (FlashAttention-2), algorithm 2; the sink as one more key whose value is zero. */
HT_API ht_status ht_attention_backward(ht_context *ctx, const ht_attention_args *args,
                                       const ht_attention_gradients *gradients, ht_attention_report *report);

/* Scratch that the call needs on a GPU; 0 on the host. */
HT_API ht_status ht_attention_workspace(const ht_attention_args *args, size_t *bytes);

/* The kernels, in the order they are tried: name and what it is for; NULL past the end. */
HT_API const char *ht_attention_kernel_name(size_t index);
HT_API const char *ht_attention_kernel_summary(size_t index);

#ifdef __cplusplus
}
#endif
#endif
