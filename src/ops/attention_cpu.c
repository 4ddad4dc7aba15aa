/* Attention on the host: f32 products and sums, exact softmax, the kernels of the table (dot, mix, softmax).
 *
 * Keys and values that are not f32 are converted once for the whole call. One task is 16 query rows of one head:
 *
 *     q rows --scale, to f32--> [16, d] --scores--> [16, keys] --softmax--> --mix--> [16, dv] --round--> out
 *
 * Scratch per thread is 16 rows of scores, so memory grows with the keys and not with their square. A row's result
 * depends on neither threads nor the rows beside it (kernels/attention.h).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h> /* INFINITY */

#include "base/context.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/linear.h"

struct job {
    const ht_attention_args *args;
    ht_dtype rounded; /* of the probabilities */
    ht_kernels kernels;
    float *wide_k, *wide_v; /* [batch, kv heads, kv rows, dim], when the inputs are not f32 */
    size_t tiles;           /* of 16 rows, of the longest sequence */
    char *scratch;
    size_t stride;
};

/* --- Keys and values ---------------------------------------------------------------------------------------- */

static size_t element_bytes(ht_dtype dtype) {
    return ht_dtype_bits(dtype) / 8;
}

/* Task: one head of one sequence. */
static ht_status widen(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    (void)worker;
    ht_attention_sequence s = ht_attention_sequence_at(a, task / a->kv_heads);
    size_t head = task % a->kv_heads, bytes = element_bytes(a->dtype);
    for (size_t j = 0; j < s.kv_rows; j++) {
        const char *k = (const char *)a->k.data + ht_attention_key_at(a, &a->k, &s, j, head) * bytes;
        const char *v = (const char *)a->v.data + ht_attention_key_at(a, &a->v, &s, j, head) * bytes;
        size_t row = task * a->kv_rows + j;
        HT_TRY(ht_convert(k, a->dtype, job->wide_k + row * a->head_dim, HT_F32, a->head_dim));
        HT_TRY(ht_convert(v, a->dtype, job->wide_v + row * a->value_dim, HT_F32, a->value_dim));
    }
    return HT_OK;
}

static ht_status widen_all(ht_context *ctx, struct job *job) {
    const ht_attention_args *a = job->args;
    size_t rows = a->batch * a->kv_heads;
    if (a->kv_rows && rows > SIZE_MAX / 65536 / 4 / a->kv_rows)
        return ht_fail(HT_ERR_MEMORY, "attention: %zu x %zu keys as f32 do not fit in memory", rows, a->kv_rows);
    HT_TRY(ht_allocate_raw(ctx, rows * a->kv_rows, a->head_dim * sizeof(float), "keys as f32", &job->wide_k));
    HT_TRY(ht_allocate_raw(ctx, rows * a->kv_rows, a->value_dim * sizeof(float), "values as f32", &job->wide_v));
    return ht_parallel_for(ctx, rows, widen, job);
}

/* --- One tile ----------------------------------------------------------------------------------------------- */

/* The parts of a thread's scratch. */
struct parts {
    float *q, *y, *bias, *score;
};

static size_t parts_at(const ht_attention_args *a, char *memory, struct parts *parts) {
    size_t q = HT_ATTENTION_ROWS * a->head_dim, y = HT_ATTENTION_ROWS * a->value_dim;
    size_t bias = a->mask.kind == HT_MASK_BOOL ? HT_ATTENTION_ROWS * a->kv_rows : 0;
    float *at = (float *)memory;
    if (memory)
        *parts = (struct parts){.q = at, .y = at + q, .bias = at + q + y, .score = at + q + y + bias};
    return (q + y + bias) * sizeof(float) + ht_attention_scratch(a->kv_rows);
}

static ht_status load_queries(const ht_attention_args *a, const ht_attention_sequence *s, size_t head, size_t row,
                              size_t count, float *q) {
    float scale = (float)a->scale;
    for (size_t i = 0; i < count; i++, q += a->head_dim) {
        size_t at = ht_attention_at(&a->q, s->batch, s->q_begin + row + i, head);
        HT_TRY(ht_convert((const char *)a->q.data + at * element_bytes(a->dtype), a->dtype, q, HT_F32, a->head_dim));
        for (size_t c = 0; c < a->head_dim; c++)
            q[c] *= scale;
    }
    return HT_OK;
}

static ht_status store_rows(const ht_attention_args *a, const ht_attention_sequence *s, size_t head, size_t row,
                            size_t count, const float *y) {
    for (size_t i = 0; i < count; i++) {
        size_t at = ht_attention_at(&a->out, s->batch, s->q_begin + row + i, head);
        HT_TRY(ht_convert(y + i * a->value_dim, HT_F32, (char *)a->out.data + at * element_bytes(a->out_dtype),
                          a->out_dtype, a->value_dim));
    }
    return HT_OK;
}

/* The mask of `count` rows as numbers to add. */
static const float *mask_rows(const ht_attention_args *a, size_t b, size_t head, size_t row, size_t count,
                              size_t kv_rows, float *space, size_t *stride) {
    const ht_attention_mask *mask = &a->mask;
    size_t at = b * mask->batch + head * mask->head + row * mask->row;
    *stride = mask->row;
    if (mask->kind == HT_MASK_NONE)
        return NULL;
    if (mask->kind == HT_MASK_ADDITIVE)
        return (const float *)mask->data + at;
    *stride = kv_rows;
    for (size_t i = 0; i < count; i++)
        for (size_t j = 0; j < kv_rows; j++)
            space[i * kv_rows + j] = ((const uint8_t *)mask->data)[at + i * mask->row + j] ? 0.0f : -INFINITY;
    return space;
}

/* Keys and values of one head, converted or where they lie. */
static void set_keys(const struct job *job, const ht_attention_sequence *s, size_t b, size_t kv,
                     ht_attention_rows *rows) {
    const ht_attention_args *a = job->args;
    rows->keys = s->kv_rows;
    rows->head_dim = a->head_dim;
    rows->value_dim = a->value_dim;
    if (job->wide_k) {
        rows->k = job->wide_k + (b * a->kv_heads + kv) * a->kv_rows * a->head_dim;
        rows->v = job->wide_v + (b * a->kv_heads + kv) * a->kv_rows * a->value_dim;
        rows->k_stride = a->head_dim;
        rows->v_stride = a->value_dim;
    } else if (s->kv_rows) {
        size_t batch = s->pages ? 0 : s->kv_batch;
        rows->k = (const float *)a->k.data + ht_attention_at(&a->k, batch, s->kv_begin, kv);
        rows->v = (const float *)a->v.data + ht_attention_at(&a->v, batch, s->kv_begin, kv);
        rows->pages = s->pages;
        rows->page_rows = a->pages.rows;
        rows->k_page = a->k.batch;
        rows->v_page = a->v.batch;
        rows->k_stride = a->k.row;
        rows->v_stride = a->v.row;
    }
}

static void set_kernels(const struct job *job, ht_attention_rows *rows) {
    rows->dot = job->kernels.of[HT_OPERATION_DOT].dot;
    rows->mix = job->kernels.of[HT_OPERATION_MIX].mix;
    rows->softmax = job->kernels.of[HT_OPERATION_SOFTMAX].softmax;
    rows->cap = job->kernels.of[HT_OPERATION_SOFTCAP].softcap;
}

static ht_status run_tile(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t head = task / job->tiles % a->heads, b = task / job->tiles / a->heads;
    size_t row = task % job->tiles * HT_ATTENTION_ROWS;
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    if (row >= s.q_rows)
        return HT_OK;
    size_t count = s.q_rows - row < HT_ATTENTION_ROWS ? s.q_rows - row : HT_ATTENTION_ROWS;
    struct parts parts = {0};
    parts_at(a, job->scratch + worker * job->stride, &parts);
    HT_TRY(load_queries(a, &s, head, row, count, parts.q));
    ht_attention_rows rows = {.q = parts.q,
                              .q_stride = a->head_dim,
                              .first = (ptrdiff_t)(row + s.kv_rows) - (ptrdiff_t)s.q_rows,
                              .count = count,
                              .causal = a->causal,
                              .window = a->window,
                              .softcap = (float)a->softcap,
                              .sink = a->sinks ? a->sinks + head : NULL,
                              .rounded = job->rounded,
                              .y = parts.y,
                              .y_stride = a->value_dim,
                              .lse = a->lse ? a->lse + ht_attention_lse_at(a, b, head, row) : NULL};
    rows.bias = mask_rows(a, b, head, row, count, s.kv_rows, parts.bias, &rows.bias_stride);
    set_keys(job, &s, b, head / (a->heads / a->kv_heads), &rows);
    set_kernels(job, &rows);
    job->kernels.of[HT_OPERATION_ATTENTION].attention(&rows, parts.score);
    return store_rows(a, &s, head, row, count, parts.y);
}

ht_status ht_attention_cpu_run(ht_context *ctx, const ht_attention_args *a, ht_dtype rounded) {
    struct job job = {.args = a, .rounded = rounded, .kernels = ht_kernels_choose(ht_cpu_flags(ctx))};
    ht_workspace workspace;
    struct parts none;
    ht_workspace_init(&workspace, ctx);
    job.tiles = (a->q_rows + HT_ATTENTION_ROWS - 1) / HT_ATTENTION_ROWS;
    ht_status status = a->dtype == HT_F32 ? HT_OK : widen_all(ctx, &job);
    if (status == HT_OK)
        status = ht_workspace_threads(&workspace, parts_at(a, NULL, &none), &job.scratch, &job.stride);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, a->batch * a->heads * job.tiles, run_tile, &job);
    ht_workspace_release(&workspace);
    ht_release(ctx, job.wide_k);
    ht_release(ctx, job.wide_v);
    return status;
}

static ht_status run(ht_context *ctx, const ht_attention_args *a) {
    return ht_attention_cpu_run(ctx, a, HT_DTYPE_NONE);
}

const ht_attention_kernel ht_attention_cpu = {.name = "cpu_f32",
                                              .summary = "host; f32 products and sums, any dim and dtype",
                                              .run = run,
                                              .backward = ht_attention_cpu_backward};
