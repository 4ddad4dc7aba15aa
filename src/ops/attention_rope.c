/* Rotary positions of attention's q and k on the host: rotated copies, then attention as if they had come so.
 *
 *     stored row of q or k --to f32--> every head turned by the row's angles --to dtype--> copy [rows, heads, dim]
 *
 * A task is one stored row: its cosines and sines are found or computed once for all heads. On the way back the
 * gradients of the rotated rows are kept in f32, turned by the opposite angles, and rounded once. Refuses odd dims,
 * positions outside a table, keys in pages that are not rotated yet. Source: Su et al. 2021; training and attention
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

/* Rows of queries or keys of a call, from one place to another. */
struct job {
    const ht_attention_args *args;
    int of_keys;
    float turn; /* 1: by the angles; -1: back; 0: copied only */
    ht_attention_operand from, to;
    ht_dtype from_dtype, to_dtype;
    size_t heads, dim, longest; /* longest: rows of the longest sequence */
    const float *frequency;     /* [dims / 2], without tables */
    ht_rope_fn *halves;
    char *scratch; /* by worker: a head, cosines, sines */
    size_t stride;
};

static void interleaved(float *x, const float *cosine, const float *sine, size_t half) {
    for (size_t c = 0; c < half; c++) {
        float a = x[2 * c], b = x[2 * c + 1];
        x[2 * c] = a * cosine[c] - b * sine[c];
        x[2 * c + 1] = b * cosine[c] + a * sine[c];
    }
}

/* Cosines and sines of a position, the sines with the sign of the turn. */
static void angles(const struct job *job, int64_t position, float *cosine, float *sine) {
    const ht_attention_rope *rope = &job->args->rope;
    size_t half = rope->dims / 2;
    for (size_t c = 0; c < half; c++) {
        float angle = rope->cosine ? 0 : (float)position * job->frequency[c];
        cosine[c] = rope->cosine ? rope->cosine[(size_t)position * half + c] : (float)cos((double)angle);
        sine[c] = job->turn * (rope->sine ? rope->sine[(size_t)position * half + c] : (float)sin((double)angle));
    }
}

/* Task: a row of a sequence. */
static ht_status rotate_row(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t b = task / job->longest, row = task % job->longest, half = a->rope.dims / 2, d = job->dim;
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    if (row >= (job->of_keys ? s.kv_rows : s.q_rows))
        return HT_OK;
    float *x = (float *)(void *)(job->scratch + worker * job->stride), *cosine = x + d, *sine = cosine + half;
    size_t batch = job->of_keys ? s.kv_batch : s.batch, at = (job->of_keys ? s.kv_begin : s.q_begin) + row;
    size_t from_bytes = ht_dtype_bits(job->from_dtype) / 8, to_bytes = ht_dtype_bits(job->to_dtype) / 8;
    if (job->turn != 0)
        angles(job, position_of(a, job->of_keys, b, row), cosine, sine);
    for (size_t h = 0; h < job->heads; h++) {
        const char *from = (const char *)job->from.data + ht_attention_at(&job->from, batch, at, h) * from_bytes;
        HT_TRY(ht_convert(from, job->from_dtype, x, HT_F32, d));
        if (job->turn != 0 && a->rope.pairs == HT_PAIRS_HALVES)
            job->halves(x, 1, d, cosine, sine, half);
        else if (job->turn != 0)
            interleaved(x, cosine, sine, half);
        HT_TRY(ht_convert(x, HT_F32, (char *)job->to.data + ht_attention_at(&job->to, batch, at, h) * to_bytes,
                          job->to_dtype, d));
    }
    return HT_OK;
}

/* What every job of a call has in common. */
static struct job job_of(ht_context *ctx, const ht_attention_args *a, int of_keys, const float *frequency) {
    return (struct job){.args = a,
                        .of_keys = of_keys,
                        .from_dtype = a->dtype,
                        .to_dtype = a->dtype,
                        .heads = of_keys ? a->kv_heads : a->heads,
                        .dim = a->head_dim,
                        .longest = of_keys ? a->kv_rows : a->q_rows,
                        .frequency = frequency,
                        .halves = ht_kernels_choose(ht_cpu_flags(ctx)).of[HT_OPERATION_ROPE].rope};
}

/* Jobs one after the other; those without a place to write to are left out. */
static ht_status run_jobs(ht_context *ctx, struct job *jobs, size_t count) {
    const ht_attention_args *a = jobs->args;
    size_t wide = a->head_dim > a->value_dim ? a->head_dim : a->value_dim;
    ht_workspace workspace;
    char *scratch;
    size_t stride;
    ht_workspace_init(&workspace, ctx);
    ht_status status = ht_workspace_threads(&workspace, (wide + a->rope.dims) * sizeof(float), &scratch, &stride);
    for (size_t i = 0; i < count && status == HT_OK; i++) {
        jobs[i].scratch = scratch;
        jobs[i].stride = stride;
        if (jobs[i].to.data)
            status = ht_parallel_for(ctx, a->batch * jobs[i].longest, rotate_row, &jobs[i]);
    }
    ht_workspace_release(&workspace);
    return status;
}

/* --- The call ------------------------------------------------------------------------------------------------------
 */

static ht_attention_operand dense(void *data, size_t rows, size_t heads, size_t dim) {
    return (ht_attention_operand){data, rows * heads * dim, heads * dim, dim};
}

static size_t rows_of(const int32_t *offsets, size_t batch, size_t rows) {
    return offsets ? (size_t)offsets[batch] : batch * rows;
}

static void frequencies(const ht_attention_rope *rope, float *out) {
    for (size_t c = 0; c < rope->dims / 2 && !rope->cosine; c++)
        out[c] = (float)pow(rope->theta, -2.0 * (double)c / (double)rope->dims);
}

ht_status ht_attention_rotate(ht_context *ctx, const ht_attention_args *a, ht_attention_args *out, void **memory) {
    size_t bytes = ht_dtype_bits(a->dtype) / 8, d = a->head_dim;
    size_t q_count = rows_of(a->q_offsets, a->batch, a->q_rows) * a->heads;
    size_t k_count = a->rope.q_only ? 0 : rows_of(a->kv_offsets, a->batch, a->kv_rows) * a->kv_heads;
    char *copies;
    *out = *a;
    out->rope = (ht_attention_rope){.dims = 0};
    if (q_count > SIZE_MAX / 2 - k_count)
        return ht_fail(HT_ERR_MEMORY, "attention: rotated queries and keys do not fit in memory");
    HT_TRY(ht_allocate_raw(ctx, 1 + q_count + k_count, d * bytes, "rotated queries and keys", &copies));
    float *frequency = (float *)(void *)copies; /* at most d / 2 of 4 bytes: they fit where a head does */
    frequencies(&a->rope, frequency);
    struct job jobs[2] = {job_of(ctx, a, 0, frequency), job_of(ctx, a, 1, frequency)};
    jobs[0].turn = jobs[1].turn = 1;
    jobs[0].from = a->q;
    jobs[1].from = a->k;
    jobs[0].to = out->q = dense(copies + d * bytes, a->q_rows, a->heads, d);
    if (!a->rope.q_only)
        jobs[1].to = out->k = dense(copies + (1 + q_count) * d * bytes, a->kv_rows, a->kv_heads, d);
    ht_status status = run_jobs(ctx, jobs, 2);
    *memory = copies;
    if (status != HT_OK)
        ht_release(ctx, copies);
    return status;
}

/* Gradients of the rotated call as f32 in `wide`, turned back (not dv) and rounded to where they are wanted. */
static ht_status turn_back(ht_context *ctx, const ht_attention_args *a, const ht_attention_gradients *wide,
                           const ht_attention_gradients *to) {
    float *frequency;
    HT_TRY(ht_allocate_raw(ctx, a->rope.dims / 2, sizeof *frequency, "rotary frequencies", &frequency));
    frequencies(&a->rope, frequency);
    struct job jobs[3] = {job_of(ctx, a, 0, frequency), job_of(ctx, a, 1, frequency), job_of(ctx, a, 1, frequency)};
    const ht_attention_operand *const from[3] = {&wide->dq, &wide->dk, &wide->dv};
    const ht_attention_operand *const out[3] = {&to->dq, &to->dk, &to->dv};
    for (size_t i = 0; i < 3; i++) {
        jobs[i].from = *from[i];
        jobs[i].to = *out[i];
        jobs[i].from_dtype = HT_F32;
        jobs[i].to_dtype = to->dtype;
    }
    jobs[0].turn = -1;
    jobs[1].turn = a->rope.q_only ? 0 : -1;
    jobs[2].dim = a->value_dim;
    ht_status status = run_jobs(ctx, jobs, 3);
    ht_release(ctx, frequency);
    return status;
}

ht_status ht_attention_rotated_backward(ht_context *ctx, const ht_attention_kernel *kernel, const ht_attention_args *a,
                                        const ht_attention_gradients *to) {
    size_t queries = to->dq.data ? rows_of(a->q_offsets, a->batch, a->q_rows) * a->heads : 0;
    size_t keys = rows_of(a->kv_offsets, a->batch, a->kv_rows) * a->kv_heads, d = a->head_dim, dv = a->value_dim;
    size_t k_keys = to->dk.data ? keys : 0, v_keys = to->dv.data ? keys : 0;
    ht_attention_gradients wide = *to;
    ht_attention_args rotated;
    void *memory;
    float *sums = NULL;
    wide.dtype = HT_F32;
    HT_TRY(ht_attention_rotate(ctx, a, &rotated, &memory));
    ht_status status = ht_allocate_raw(ctx, queries + k_keys + v_keys, (d > dv ? d : dv) * sizeof *sums,
                                       "gradients before the rotation", &sums);
    wide.dq = dense(to->dq.data ? sums : NULL, a->q_rows, a->heads, d);
    wide.dk = dense(to->dk.data && sums ? sums + queries * d : NULL, a->kv_rows, a->kv_heads, d);
    wide.dv = dense(to->dv.data && sums ? sums + (queries + k_keys) * d : NULL, a->kv_rows, a->kv_heads, dv);
    if (status == HT_OK)
        status = kernel->backward(ctx, &rotated, &wide);
    if (status == HT_OK)
        status = turn_back(ctx, a, &wide, to);
    ht_release(ctx, sums);
    ht_release(ctx, memory);
    return status;
}
