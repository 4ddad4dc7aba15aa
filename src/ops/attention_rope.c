/* Rotary positions of attention's q and k on the host: rotated copies, then attention as if they had come so.
 *
 *     stored row of q or k --to f32--> every head turned by the row's angles --to dtype--> copy [rows, heads, dim]
 *
 * A task is one stored row: its cosines and sines are found or computed once for all heads. Refuses odd dims, positions
 * outside a table, keys in pages that are not rotated yet. Source: Su et al. 2021; training and attention
 * specification, section 3.4.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>   /* cos, sin, pow, isfinite */
#include <stdint.h> /* int64_t */

#include "base/context.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/linear.h"

/* --- Positions ---------------------------------------------------------------------------------------------------- */

/* Of row i of sequence b, of the queries or the keys. */
static int64_t position_of(const ht_attention_args *a, int of_keys, size_t b, size_t i) {
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    if (of_keys)
        return a->rope.k_positions ? a->rope.k_positions[s.kv_batch * a->kv_rows + s.kv_begin + i] : (int64_t)i;
    return a->rope.q_positions ? a->rope.q_positions[s.batch * a->q_rows + s.q_begin + i]
                               : (int64_t)i + (int64_t)s.kv_rows - (int64_t)s.q_rows;
}

static ht_status check_positions(const ht_attention_args *a, int of_keys) {
    for (size_t b = 0; b < a->batch; b++) {
        ht_attention_sequence s = ht_attention_sequence_at(a, b);
        for (size_t i = 0; i < (of_keys ? s.kv_rows : s.q_rows); i++) {
            int64_t at = position_of(a, of_keys, b, i);
            if (at < 0 || (uint64_t)at >= a->rope.positions)
                return ht_fail(HT_ERR_ARGUMENT,
                               "attention: %s %zu of sequence %zu is at position %lld; the table ends before %zu",
                               of_keys ? "key" : "query", i, b, (long long)at, a->rope.positions);
        }
    }
    return HT_OK;
}

ht_status ht_attention_rope_check(const ht_attention_args *a) {
    const ht_attention_rope *rope = &a->rope;
    if (!rope->dims)
        return HT_OK;
    if (rope->dims % 2 || rope->dims > a->head_dim)
        return ht_fail(HT_ERR_SHAPE, "attention: %zu of %zu channels to rotate; an even number of them", rope->dims,
                       a->head_dim);
    if ((unsigned)rope->pairs > HT_PAIRS_INTERLEAVED || !rope->cosine != !rope->sine)
        return ht_fail(HT_ERR_ARGUMENT, "attention: rotation with pairs of kind %d, or a cosine table without sines",
                       (int)rope->pairs);
    if (!rope->cosine && !(isfinite(rope->theta) && rope->theta > 0))
        return ht_fail(HT_ERR_ARGUMENT, "attention: rotation with theta %g and no tables", rope->theta);
    if (a->pages.ids && !rope->q_only)
        return ht_fail(HT_ERR_ARGUMENT, "attention: keys in pages are rotated when they are written; set q_only");
    if (!rope->cosine)
        return HT_OK;
    HT_TRY(check_positions(a, 0));
    return rope->q_only ? HT_OK : check_positions(a, 1);
}

/* --- Rows --------------------------------------------------------------------------------------------------------- */

/* q or k of a call. */
struct job {
    const ht_attention_args *args;
    int of_keys;
    const ht_attention_operand *from;
    ht_attention_operand to;
    size_t heads, longest;  /* rows of the longest sequence */
    const float *frequency; /* [dims / 2], without tables */
    ht_rope_fn *halves;
    char *scratch; /* by worker: cosines, sines, a head */
    size_t stride;
};

static void interleaved(float *x, const float *cosine, const float *sine, size_t half) {
    for (size_t c = 0; c < half; c++) {
        float a = x[2 * c], b = x[2 * c + 1];
        x[2 * c] = a * cosine[c] - b * sine[c];
        x[2 * c + 1] = b * cosine[c] + a * sine[c];
    }
}

static void angles(const struct job *job, int64_t position, float *cosine, float *sine) {
    for (size_t c = 0; c < job->args->rope.dims / 2; c++) {
        float angle = (float)position * job->frequency[c];
        cosine[c] = (float)cos((double)angle);
        sine[c] = (float)sin((double)angle);
    }
}

/* Task: a row of a sequence. */
static ht_status rotate_row(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t b = task / job->longest, row = task % job->longest, half = a->rope.dims / 2, d = a->head_dim;
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    if (row >= (job->of_keys ? s.kv_rows : s.q_rows))
        return HT_OK;
    int64_t position = position_of(a, job->of_keys, b, row);
    float *x = (float *)(void *)(job->scratch + worker * job->stride), *own_cosine = x + d,
          *own_sine = own_cosine + half;
    const float *cosine = own_cosine, *sine = own_sine;
    if (a->rope.cosine) {
        cosine = a->rope.cosine + (size_t)position * half;
        sine = a->rope.sine + (size_t)position * half;
    } else {
        angles(job, position, own_cosine, own_sine);
    }
    size_t batch = job->of_keys ? s.kv_batch : s.batch, at = (job->of_keys ? s.kv_begin : s.q_begin) + row;
    size_t bytes = ht_dtype_bits(a->dtype) / 8;
    for (size_t h = 0; h < job->heads; h++) {
        HT_TRY(ht_convert((const char *)job->from->data + ht_attention_at(job->from, batch, at, h) * bytes, a->dtype, x,
                          HT_F32, d));
        if (a->rope.pairs == HT_PAIRS_HALVES)
            job->halves(x, 1, d, cosine, sine, half);
        else
            interleaved(x, cosine, sine, half);
        HT_TRY(
            ht_convert(x, HT_F32, (char *)job->to.data + ht_attention_at(&job->to, batch, at, h) * bytes, a->dtype, d));
    }
    return HT_OK;
}

static ht_status rotate_all(ht_context *ctx, struct job *job, ht_attention_operand *out) {
    HT_TRY(ht_parallel_for(ctx, job->args->batch * job->longest, rotate_row, job));
    *out = job->to;
    return HT_OK;
}

static ht_status rotate_both(ht_context *ctx, const ht_attention_args *a, struct job *job, ht_attention_args *out) {
    ht_workspace workspace;
    ht_workspace_init(&workspace, ctx);
    ht_status status =
        ht_workspace_threads(&workspace, (a->head_dim + a->rope.dims) * sizeof(float), &job[0].scratch, &job[0].stride);
    job[1].scratch = job[0].scratch;
    job[1].stride = job[0].stride;
    if (status == HT_OK)
        status = rotate_all(ctx, &job[0], &out->q);
    if (status == HT_OK && !a->rope.q_only)
        status = rotate_all(ctx, &job[1], &out->k);
    ht_workspace_release(&workspace);
    return status;
}

ht_status ht_attention_rotate(ht_context *ctx, const ht_attention_args *a, ht_attention_args *out, void **memory) {
    size_t bytes = ht_dtype_bits(a->dtype) / 8, d = a->head_dim, half = a->rope.dims / 2;
    size_t q_rows = a->q_offsets ? (size_t)a->q_offsets[a->batch] : a->batch * a->q_rows;
    size_t k_rows = a->kv_offsets ? (size_t)a->kv_offsets[a->batch] : a->batch * a->kv_rows;
    size_t q_count = q_rows * a->heads, k_count = a->rope.q_only ? 0 : k_rows * a->kv_heads;
    char *copies;
    *out = *a;
    out->rope = (ht_attention_rope){.dims = 0};
    if (q_count > SIZE_MAX / 2 - k_count)
        return ht_fail(HT_ERR_MEMORY, "attention: rotated queries and keys do not fit in memory");
    HT_TRY(ht_allocate_raw(ctx, 1 + q_count + k_count, d * bytes, "rotated queries and keys", &copies));
    *memory = copies;
    float *frequency = (float *)(void *)copies; /* at most d / 2 of 4 bytes: they fit where a head does */
    char *q = copies + d * bytes;
    for (size_t c = 0; c < half && !a->rope.cosine; c++)
        frequency[c] = (float)pow(a->rope.theta, -2.0 * (double)c / (double)a->rope.dims);
    ht_rope_fn *halves = ht_kernels_choose(ht_cpu_flags(ctx)).of[HT_OPERATION_ROPE].rope;
    struct job job[2] = {{.args = a,
                          .from = &a->q,
                          .to = {q, a->q_rows * a->heads * d, a->heads * d, d},
                          .heads = a->heads,
                          .longest = a->q_rows,
                          .frequency = frequency,
                          .halves = halves},
                         {.args = a,
                          .of_keys = 1,
                          .from = &a->k,
                          .to = {q + q_count * d * bytes, a->kv_rows * a->kv_heads * d, a->kv_heads * d, d},
                          .heads = a->kv_heads,
                          .longest = a->kv_rows,
                          .frequency = frequency,
                          .halves = halves}};
    ht_status status = rotate_both(ctx, a, job, out);
    if (status != HT_OK)
        ht_release(ctx, copies);
    return status;
}
