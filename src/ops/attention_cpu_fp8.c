/* The arithmetic of fp8 attention on the host, to see what it costs: no faster than cpu_f32, so it runs by name only.
 *
 *     q, k, v --to f32, per head--> round to e4m3 and back --> f32 attention, probabilities through e4m3 --> out
 *
 * One scale for the keys and one for the values of a (sequence, kv head), one for the queries that read them, or one
 * for each block of rows. With sum_bits the sums are as narrow as those of tensor cores (attention_narrow.c). Copies of
 * everything in f32 are made. Differs from the GPU's kernel in the order of sums and in which maximum the probabilities
 * are taken against. Source: training and attention specification, sections 3.2 to 3.4.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h> /* snprintf */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/attention.h"
#include "ops/attention_round.h"

struct job {
    const ht_attention_args *from; /* the caller's */
    ht_attention_args wide;        /* f32 copies: [rows of all sequences, heads, dim] each */
    const ht_attention_rounder *rounder;
};

static size_t rows_of(const int32_t *offsets, size_t batch, size_t rows) {
    return offsets ? (size_t)offsets[batch] : batch * rows;
}

/* --- In and out ------------------------------------------------------------------------------------------------- */

/* Rows of some heads, from the caller's operand to the copy, or back. */
static ht_status copy_heads(const ht_attention_operand *x, ht_dtype x_dtype, const ht_attention_operand *y,
                            ht_dtype y_dtype, size_t batch, size_t begin, size_t rows, size_t head, size_t heads,
                            size_t dim) {
    size_t x_bytes = ht_dtype_bits(x_dtype) / 8, y_bytes = ht_dtype_bits(y_dtype) / 8;
    for (size_t i = begin; i < begin + rows; i++)
        for (size_t h = head; h < head + heads; h++)
            HT_TRY(ht_convert((const char *)x->data + ht_attention_at(x, batch, i, h) * x_bytes, x_dtype,
                              (char *)y->data + ht_attention_at(y, batch, i, h) * y_bytes, y_dtype, dim));
    return HT_OK;
}

/* Keys or values of one head, out of pages if they lie there. */
static ht_status copy_keys(const struct job *job, const ht_attention_operand *x, const ht_attention_operand *y,
                           size_t b, size_t kv, size_t dim) {
    const ht_attention_args *a = job->from, *w = &job->wide;
    ht_attention_sequence s = ht_attention_sequence_at(a, b), to = ht_attention_sequence_at(w, b);
    for (size_t j = 0; j < s.kv_rows; j++)
        HT_TRY(ht_convert((const char *)x->data + ht_attention_key_at(a, x, &s, j, kv) * (ht_dtype_bits(a->dtype) / 8),
                          a->dtype, (float *)y->data + ht_attention_key_at(w, y, &to, j, kv), HT_F32, dim));
    return HT_OK;
}

static ht_attention_head head_of(const ht_attention_operand *x, size_t batch, size_t begin, size_t rows, size_t head,
                                 size_t heads, size_t dim) {
    return (ht_attention_head){.x = (float *)x->data + ht_attention_at(x, batch, begin, head),
                               .rows = rows,
                               .stride = x->row,
                               .heads = heads,
                               .dim = dim};
}

/* Rows that share a scale at a time. */
static void round_blocks(const struct job *job, const ht_attention_head *all,
                         void (*round)(const ht_attention_rounder *, const ht_attention_head *)) {
    size_t block = job->from->fp8.block ? job->from->fp8.block : all->rows;
    for (size_t i = 0; i < all->rows; i += block) {
        ht_attention_head some = *all;
        some.x = all->x + i * all->stride;
        some.rows = all->rows - i < block ? all->rows - i : block;
        round(job->rounder, &some);
    }
}

/* Task: a kv head of a sequence, and the queries that read it. */
static ht_status round_task(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->from, *w = &job->wide;
    size_t kv = task % a->kv_heads, group = a->heads / a->kv_heads;
    ht_attention_sequence s = ht_attention_sequence_at(a, task / a->kv_heads);
    (void)worker;
    HT_TRY(copy_heads(&a->q, a->dtype, &w->q, HT_F32, s.batch, s.q_begin, s.q_rows, kv * group, group, a->head_dim));
    HT_TRY(copy_keys(job, &a->k, &w->k, task / a->kv_heads, kv, a->head_dim));
    HT_TRY(copy_keys(job, &a->v, &w->v, task / a->kv_heads, kv, a->value_dim));
    ht_attention_head q = head_of(&w->q, s.batch, s.q_begin, s.q_rows, kv * group, group, a->head_dim);
    ht_attention_head k = head_of(&w->k, s.kv_batch, s.kv_begin, s.kv_rows, kv, 1, a->head_dim);
    ht_attention_head v = head_of(&w->v, s.kv_batch, s.kv_begin, s.kv_rows, kv, 1, a->value_dim);
    round_blocks(job, &q, ht_attention_round_qk);
    round_blocks(job, &k, ht_attention_round_qk);
    round_blocks(job, &v, ht_attention_round_v);
    return HT_OK;
}

static ht_status restore_task(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->from, *w = &job->wide;
    ht_attention_sequence s = ht_attention_sequence_at(a, task / a->kv_heads);
    size_t group = a->heads / a->kv_heads, first = task % a->kv_heads * group;
    (void)worker;
    ht_attention_head out = head_of(&w->out, s.batch, s.q_begin, s.q_rows, first, group, a->value_dim);
    ht_attention_restore(job->rounder, &out);
    return copy_heads(&w->out, HT_F32, &a->out, a->out_dtype, s.batch, s.q_begin, s.q_rows, first, group, a->value_dim);
}

/* --- The row ---------------------------------------------------------------------------------------------------- */

static ht_status make_copy(ht_context *ctx, size_t rows, size_t per_sequence, size_t heads, size_t dim,
                           ht_attention_operand *out) {
    float *data = NULL;
    HT_TRY(ht_allocate_raw(ctx, rows, heads * dim * sizeof(float), "attention operands as f32", &data));
    *out = (ht_attention_operand){data, per_sequence * heads * dim, heads * dim, dim};
    return HT_OK;
}

static ht_status attend(ht_context *ctx, struct job *job) {
    const ht_attention_args *a = job->from;
    ht_attention_args *w = &job->wide;
    size_t queries = rows_of(a->q_offsets, a->batch, a->q_rows), keys = rows_of(a->kv_offsets, a->batch, a->kv_rows);
    HT_TRY(make_copy(ctx, queries, a->q_rows, a->heads, a->head_dim, &w->q));
    HT_TRY(make_copy(ctx, keys, a->kv_rows, a->kv_heads, a->head_dim, &w->k));
    HT_TRY(make_copy(ctx, keys, a->kv_rows, a->kv_heads, a->value_dim, &w->v));
    HT_TRY(make_copy(ctx, queries, a->q_rows, a->heads, a->value_dim, &w->out));
    HT_TRY(ht_parallel_for(ctx, a->batch * a->kv_heads, round_task, job));
    if (a->fp8.sum_bits)
        HT_TRY(ht_attention_narrow_run(ctx, w));
    else
        HT_TRY(ht_attention_cpu_run(ctx, w, job->rounder->how->dtype));
    return ht_parallel_for(ctx, a->batch * a->kv_heads, restore_task, job);
}

static ht_status run(ht_context *ctx, const ht_attention_args *a) {
    ht_attention_rounder rounder;
    HT_TRY(ht_attention_rounder_init(ht_attention_rounding_of(a->precision), a->head_dim, a->value_dim, &rounder));
    struct job job = {.from = a, .wide = *a, .rounder = &rounder};
    job.wide.dtype = job.wide.out_dtype = HT_F32;
    job.wide.pages = (ht_attention_pages){.ids = NULL};
    job.wide.q.data = job.wide.k.data = job.wide.v.data = job.wide.out.data = NULL;
    ht_status status = attend(ctx, &job);
    ht_release(ctx, job.wide.q.data);
    ht_release(ctx, job.wide.k.data);
    ht_release(ctx, job.wide.v.data);
    ht_release(ctx, job.wide.out.data);
    return status;
}

static int refuses(const ht_attention_args *a, char *why, size_t size) {
    const ht_attention_rounding *how = ht_attention_rounding_of(a->precision);
    size_t dim = how->hadamard_qk && !ht_hadamard_exists(a->head_dim)   ? a->head_dim
                 : how->hadamard_v && !ht_hadamard_exists(a->value_dim) ? a->value_dim
                                                                        : 0;
    if (dim)
        snprintf(why, size, "there is no Hadamard transform of dim %zu", dim);
    return dim != 0;
}

const ht_attention_kernel ht_attention_cpu_fp8 = {.name = "cpu_fp8",
                                                  .summary = "host; the rounding of fp8 in f32 products, by name only",
                                                  .fp8 = 1,
                                                  .refuses = refuses,
                                                  .run = run};
