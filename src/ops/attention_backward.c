/* Gradients of attention on the host: f32 products in tiles of queries and keys, probabilities from lse.
 *
 *     S = q' k^T     P = exp(cap(S) + mask - lse)     dP = dO v^T     dS = P (dP - D) cap'      one tile:
 *     dq += dS k     dk += dS^T q'     dv += P^T dO             128 queries x 256 keys, in the second cache
 *
 * q' is q times the scale, so dk needs none and dq is scaled when it is stored. D = sum(dO out) of a row. Two ways:
 *
 *     whole    a task is a key-value head: head, tile of queries, tile of keys; 5 products a tile
 *     split    tasks are tiles of keys (dk, dv), then tiles of queries (dq); 7 products a tile, many more tasks
 *
 * In both, dq is summed over tiles of keys in increasing order, dk and dv over heads and then tiles of queries in
 * increasing order: the same bits, so the number of threads may choose.
 *
 * Source: Dao 2023 (FlashAttention-2), algorithm 2; training and attention specification, section 4.4.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>   /* INFINITY, exp */
#include <string.h> /* memset */

#include "base/context.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/dense.h"
#include "ops/linear.h"

enum { QUERIES = 128, KEYS = 256 };

struct job {
    ht_context *ctx;
    const ht_attention_args *args;
    const ht_attention_gradients *to;
    ht_kernels kernels;
    size_t query_tiles, key_tiles; /* of the longest sequence */
    int whole;
    char *scratch;
    size_t stride;
};

/* A thread's scratch. */
struct parts {
    float *q, *dy, *lse, *delta; /* [QUERIES, ..]; q scaled */
    float *k, *v;                /* [KEYS, ..], when the inputs are not f32 */
    float *p, *ds, *cap;         /* [QUERIES, keys of the tile]; cap: capped scores over the cap */
    float *dq, *dk, *dv;         /* sums: [QUERIES, ..]; [KEYS, ..], or [kv_rows, ..] of a whole head */
    float *row;                  /* [value_dim] */
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static float *take(float *memory, size_t *used, size_t count) {
    float *at = memory ? memory + *used : NULL;
    *used += (count + 15) / 16 * 16;
    return at;
}

/* Returns the bytes. */
static size_t parts_at(const struct job *job, char *memory, struct parts *parts) {
    const ht_attention_args *a = job->args;
    float *at = (float *)(void *)memory;
    size_t used = 0, d = a->head_dim, dv = a->value_dim, queries = least(QUERIES, a->q_rows);
    size_t keys = least(KEYS, a->kv_rows), tile = queries * keys, sums = job->whole ? a->kv_rows : keys;
    size_t copied = a->dtype == HT_F32 ? 0 : keys;
    *parts = (struct parts){.q = take(at, &used, queries * d),
                            .dy = take(at, &used, queries * dv),
                            .lse = take(at, &used, queries),
                            .delta = take(at, &used, queries),
                            .k = take(at, &used, copied * d),
                            .v = take(at, &used, copied * dv),
                            .p = take(at, &used, tile),
                            .ds = take(at, &used, tile),
                            .cap = take(at, &used, a->softcap > 0 ? tile : 0),
                            .dq = take(at, &used, queries * d),
                            .dk = take(at, &used, sums * d),
                            .dv = take(at, &used, sums * dv),
                            .row = take(at, &used, dv)};
    return used * sizeof(float);
}

/* A tile of query rows of one head. */
struct queries {
    ht_attention_sequence s;
    size_t b, head, row, count;
};

/* --- In and out ------------------------------------------------------------------------------------------------- */

static ht_status load_row(const ht_attention_operand *x, ht_dtype dtype, size_t batch, size_t row, size_t head,
                          size_t dim, float *to) {
    size_t at = ht_attention_at(x, batch, row, head);
    return ht_convert((const char *)x->data + at * (ht_dtype_bits(dtype) / 8), dtype, to, HT_F32, dim);
}

static ht_status store_rows(const ht_attention_operand *x, ht_dtype dtype, size_t batch, size_t row, size_t head,
                            size_t count, size_t dim, const float *from) {
    for (size_t i = 0; i < count; i++) {
        size_t at = ht_attention_at(x, batch, row + i, head);
        HT_TRY(ht_convert(from + i * dim, HT_F32, (char *)x->data + at * (ht_dtype_bits(dtype) / 8), dtype, dim));
    }
    return HT_OK;
}

/* sum of d_out out over one row; dy: the row of d_out as f32. */
static ht_status row_delta(const struct job *job, const struct queries *t, size_t i, float *dy, float *space,
                           double *delta) {
    const ht_attention_args *a = job->args;
    size_t row = t->s.q_begin + t->row + i;
    HT_TRY(load_row(&job->to->d_out, a->out_dtype, t->s.batch, row, t->head, a->value_dim, dy));
    HT_TRY(load_row(&a->out, a->out_dtype, t->s.batch, row, t->head, a->value_dim, space));
    *delta = 0;
    for (size_t c = 0; c < a->value_dim; c++)
        *delta += (double)dy[c] * (double)space[c];
    return HT_OK;
}

/* q', d_out, lse and D of the tile; zeros for rows that see nothing. */
static ht_status load_queries(const struct job *job, const struct queries *t, const struct parts *parts) {
    const ht_attention_args *a = job->args;
    float scale = (float)a->scale;
    for (size_t i = 0; i < t->count; i++) {
        float *q = parts->q + i * a->head_dim, *dy = parts->dy + i * a->value_dim;
        double delta = 0;
        parts->lse[i] = a->lse[ht_attention_lse_at(a, t->b, t->head, t->row + i)];
        if (parts->lse[i] == -INFINITY) {
            memset(q, 0, a->head_dim * sizeof *q);
            memset(dy, 0, a->value_dim * sizeof *dy);
        } else {
            HT_TRY(load_row(&a->q, a->dtype, t->s.batch, t->s.q_begin + t->row + i, t->head, a->head_dim, q));
            for (size_t c = 0; c < a->head_dim; c++)
                q[c] *= scale;
            HT_TRY(row_delta(job, t, i, dy, parts->row, &delta));
        }
        parts->delta[i] = (float)delta;
    }
    return HT_OK;
}

static ht_status store_queries(const struct job *job, const struct queries *t, const struct parts *parts) {
    const ht_attention_args *a = job->args;
    float scale = (float)a->scale;
    for (size_t i = 0; i < t->count * a->head_dim; i++) /* a NaN key does not reach a row that sees nothing */
        parts->dq[i] = parts->lse[i / a->head_dim] == -INFINITY ? 0 : parts->dq[i] * scale;
    return store_rows(&job->to->dq, job->to->dtype, t->s.batch, t->s.q_begin + t->row, t->head, t->count, a->head_dim,
                      parts->dq);
}

static ht_status store_keys(const struct job *job, const ht_attention_sequence *s, size_t kv, size_t key, size_t count,
                            const struct parts *parts) {
    const ht_attention_gradients *to = job->to;
    const ht_attention_args *a = job->args;
    if (to->dk.data)
        HT_TRY(store_rows(&to->dk, to->dtype, s->kv_batch, s->kv_begin + key, kv, count, a->head_dim, parts->dk));
    if (to->dv.data)
        HT_TRY(store_rows(&to->dv, to->dtype, s->kv_batch, s->kv_begin + key, kv, count, a->value_dim, parts->dv));
    return HT_OK;
}

/* --- One tile --------------------------------------------------------------------------------------------------- */

/* Keys [from, from + count) of a head, rows k_step and v_step apart. */
struct keys {
    const float *k, *v;
    size_t k_step, v_step, from, count;
};

static ht_status load_keys(const struct job *job, const struct queries *t, size_t from, size_t count,
                           const struct parts *parts, struct keys *out) {
    const ht_attention_args *a = job->args;
    size_t kv = t->head / (a->heads / a->kv_heads), row = t->s.kv_begin + from, batch = t->s.kv_batch;
    *out = (struct keys){
        .k = parts->k, .v = parts->v, .k_step = a->head_dim, .v_step = a->value_dim, .from = from, .count = count};
    if (a->dtype == HT_F32) {
        out->k = (const float *)a->k.data + ht_attention_at(&a->k, batch, row, kv);
        out->v = (const float *)a->v.data + ht_attention_at(&a->v, batch, row, kv);
        out->k_step = a->k.row;
        out->v_step = a->v.row;
        return HT_OK;
    }
    for (size_t j = 0; j < count; j++) {
        HT_TRY(load_row(&a->k, a->dtype, batch, row + j, kv, a->head_dim, parts->k + j * a->head_dim));
        HT_TRY(load_row(&a->v, a->dtype, batch, row + j, kv, a->value_dim, parts->v + j * a->value_dim));
    }
    return HT_OK;
}

/* Scores of row i over the keys of the tile become probabilities. */
static void probabilities(const struct job *job, const struct queries *t, const ht_attention_rows *range,
                          const struct keys *keys, const struct parts *parts, size_t i) {
    const ht_attention_args *a = job->args;
    size_t begin = ht_attention_begin(range, i), end = ht_attention_end(range, i), last = keys->from + keys->count;
    float *p = parts->p + i * keys->count, lse = parts->lse[i], cap = (float)a->softcap, most = lse;
    begin = begin < keys->from ? keys->from : least(begin, last);
    end = end < begin ? begin : least(end, last);
    size_t skip = begin - keys->from, count = end - begin;
    float *score = p + skip;
    if (cap > 0) {
        job->kernels.of[HT_OPERATION_SOFTCAP].softcap(score, count, cap);
        for (size_t j = 0; j < count; j++)
            parts->cap[i * keys->count + skip + j] = score[j] / cap;
    }
    ht_attention_add_mask(a, t->b, t->head, t->row + i, begin, count, score);
    if (lse == -INFINITY)
        memset(score, 0, count * sizeof *score);
    else
        job->kernels.of[HT_OPERATION_SOFTMAX].softmax(score, count, lse, score, &most);
    /* A score may lie above lse by its rounding (more after a forward pass that rounds): back to exp(score - lse). A
     * NaN in lse becomes one in p. */
    if (most != lse && lse != -INFINITY) {
        float down = lse, ignored;
        job->kernels.of[HT_OPERATION_SOFTMAX].softmax(&down, 1, most, &down, &ignored);
        for (size_t j = 0; j < count; j++)
            score[j] /= down;
    }
    memset(p, 0, skip * sizeof *p);
    memset(score + count, 0, (keys->count - skip - count) * sizeof *p);
}

/* dP becomes dS. */
static void score_gradients(const struct parts *parts, size_t rows, size_t keys, int capped) {
    for (size_t i = 0; i < rows; i++) {
        const float *p = parts->p + i * keys, *cap = parts->cap + i * keys;
        float *ds = parts->ds + i * keys, delta = parts->delta[i];
        for (size_t j = 0; j < keys; j++)
            ds[j] = p[j] * (ds[j] - delta);
        for (size_t j = 0; capped && j < keys; j++)
            ds[j] = p[j] == 0 ? 0 : ds[j] * (1 - cap[j] * cap[j]); /* cap is not set where a row sees nothing */
    }
}

static ht_status product(const struct job *job, size_t m, size_t n, size_t k, ht_dense_operand x, ht_dense_operand y,
                         float *to) {
    const ht_dense_job dense = {.m = m, .n = n, .k = k, .a = x, .b = y, .c = to, .c_stride = n};
    return ht_dense_run(job->ctx, &dense);
}

/* Probabilities and gradients of the scores of one tile. */
static ht_status score_tile(const struct job *job, const struct queries *t, const ht_attention_rows *range,
                            const struct keys *keys, const struct parts *parts) {
    const ht_attention_args *a = job->args;
    size_t d = a->head_dim, dv = a->value_dim, n = keys->count;
    memset(parts->p, 0, t->count * n * sizeof *parts->p);
    memset(parts->ds, 0, t->count * n * sizeof *parts->ds);
    HT_TRY(product(job, t->count, n, d, (ht_dense_operand){parts->q, d, 1},
                   (ht_dense_operand){keys->k, keys->k_step, 1}, parts->p));
    for (size_t i = 0; i < t->count; i++)
        probabilities(job, t, range, keys, parts, i);
    HT_TRY(product(job, t->count, n, dv, (ht_dense_operand){parts->dy, dv, 1},
                   (ht_dense_operand){keys->v, keys->v_step, 1}, parts->ds));
    score_gradients(parts, t->count, n, a->softcap > 0);
    return HT_OK;
}

/* What a tile of queries and the keys [key, key + count) have to do with each other. dq, dk, dv are added to; NULL: not
 * wanted. dk and dv belong to key `key`. */
static ht_status pair(const struct job *job, const struct queries *t, size_t key, size_t count,
                      const struct parts *parts, float *dq, float *dk, float *dv) {
    const ht_attention_args *a = job->args;
    const ht_attention_rows range = {.first = (ptrdiff_t)(t->row + t->s.kv_rows) - (ptrdiff_t)t->s.q_rows,
                                     .keys = t->s.kv_rows,
                                     .causal = a->causal,
                                     .window = a->window};
    size_t from = ht_attention_begin(&range, 0), to = least(key + count, ht_attention_end(&range, t->count - 1));
    from = from > key ? from : key;
    if (from >= to)
        return HT_OK;
    struct keys keys;
    HT_TRY(load_keys(job, t, from, to - from, parts, &keys));
    HT_TRY(score_tile(job, t, &range, &keys, parts));
    size_t n = keys.count, d = a->head_dim, wide = a->value_dim;
    if (dq)
        HT_TRY(product(job, t->count, d, n, (ht_dense_operand){parts->ds, n, 1},
                       (ht_dense_operand){keys.k, 1, keys.k_step}, dq));
    if (dk)
        HT_TRY(product(job, n, d, t->count, (ht_dense_operand){parts->ds, 1, n}, (ht_dense_operand){parts->q, 1, d},
                       dk + (from - key) * d));
    if (dv)
        HT_TRY(product(job, n, wide, t->count, (ht_dense_operand){parts->p, 1, n},
                       (ht_dense_operand){parts->dy, 1, wide}, dv + (from - key) * wide));
    return HT_OK;
}

/* --- Tasks ------------------------------------------------------------------------------------------------------ */

/* Task: a tile of queries of one head: dq. */
static ht_status query_task(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    struct queries t = {.b = task / job->query_tiles / a->heads, .head = task / job->query_tiles % a->heads};
    struct parts parts;
    t.s = ht_attention_sequence_at(a, t.b);
    t.row = task % job->query_tiles * QUERIES;
    if (t.row >= t.s.q_rows)
        return HT_OK;
    t.count = least(QUERIES, t.s.q_rows - t.row);
    parts_at(job, job->scratch + worker * job->stride, &parts);
    HT_TRY(load_queries(job, &t, &parts));
    memset(parts.dq, 0, t.count * a->head_dim * sizeof *parts.dq);
    for (size_t key = 0; key < t.s.kv_rows; key += KEYS)
        HT_TRY(pair(job, &t, key, least(KEYS, t.s.kv_rows - key), &parts, parts.dq, NULL, NULL));
    return store_queries(job, &t, &parts);
}

/* All queries that read a key-value head, over keys [key, key + count): dk and dv, and dq when all keys are here. */
static ht_status key_rows(const struct job *job, size_t b, size_t kv, size_t key, size_t count, struct parts *parts) {
    const ht_attention_args *a = job->args;
    size_t group = a->heads / a->kv_heads, d = a->head_dim, wide = a->value_dim;
    struct queries t = {.s = ht_attention_sequence_at(a, b), .b = b};
    memset(parts->dk, 0, count * d * sizeof *parts->dk);
    memset(parts->dv, 0, count * wide * sizeof *parts->dv);
    for (t.head = kv * group; t.head < (kv + 1) * group; t.head++)
        for (t.row = 0; t.row < t.s.q_rows; t.row += QUERIES) {
            t.count = least(QUERIES, t.s.q_rows - t.row);
            HT_TRY(load_queries(job, &t, parts));
            memset(parts->dq, 0, t.count * d * sizeof *parts->dq);
            for (size_t at = 0; at < count; at += KEYS)
                HT_TRY(pair(job, &t, key + at, least(KEYS, count - at), parts, job->whole ? parts->dq : NULL,
                            job->to->dk.data ? parts->dk + at * d : NULL,
                            job->to->dv.data ? parts->dv + at * wide : NULL));
            if (job->whole)
                HT_TRY(store_queries(job, &t, parts));
        }
    return store_keys(job, &t.s, kv, key, count, parts);
}

/* Task: a key-value head of a sequence, or a tile of its keys. */
static ht_status key_task(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t tiles = job->whole ? 1 : job->key_tiles, b = task / tiles / a->kv_heads, key = task % tiles * KEYS;
    size_t keys = ht_attention_sequence_at(a, b).kv_rows;
    struct parts parts;
    if (!job->whole && key >= keys)
        return HT_OK;
    parts_at(job, job->scratch + worker * job->stride, &parts);
    return key_rows(job, b, task / tiles % a->kv_heads, key, job->whole ? keys : least(KEYS, keys - key), &parts);
}

/* Task: a head: its sink. */
static ht_status sink_task(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    struct queries t = {.head = task};
    struct parts parts;
    double sum = 0;
    parts_at(job, job->scratch + worker * job->stride, &parts);
    for (t.b = 0; t.b < a->batch; t.b++) {
        t.s = ht_attention_sequence_at(a, t.b);
        for (size_t i = 0; i < t.s.q_rows; i++) {
            double delta, lse = (double)a->lse[ht_attention_lse_at(a, t.b, task, i)];
            HT_TRY(row_delta(job, &t, i, parts.dy, parts.row, &delta));
            sum -= lse == -(double)INFINITY ? 0 : exp((double)a->sinks[task] - lse) * delta;
        }
    }
    job->to->d_sinks[task] = (float)sum;
    return HT_OK;
}

static ht_status run_tasks(struct job *job) {
    const ht_attention_args *a = job->args;
    const ht_attention_gradients *to = job->to;
    size_t keys = a->batch * a->kv_heads * (job->whole ? 1 : job->key_tiles);
    if (to->dk.data || to->dv.data)
        HT_TRY(ht_parallel_for(job->ctx, keys, key_task, job));
    if (to->dq.data && !job->whole)
        HT_TRY(ht_parallel_for(job->ctx, a->batch * a->heads * job->query_tiles, query_task, job));
    if (to->d_sinks && a->sinks)
        HT_TRY(ht_parallel_for(job->ctx, a->heads, sink_task, job));
    return HT_OK;
}

ht_status ht_attention_cpu_backward(ht_context *ctx, const ht_attention_args *a, const ht_attention_gradients *to) {
    struct job job = {.ctx = ctx, .args = a, .to = to, .kernels = ht_kernels_choose(ht_cpu_flags(ctx))};
    size_t threads = ht_context_threads(ctx), heads = a->batch * a->kv_heads;
    ht_workspace workspace;
    struct parts none;
    ht_workspace_init(&workspace, ctx);
    job.query_tiles = (a->q_rows + QUERIES - 1) / QUERIES;
    job.key_tiles = (a->kv_rows + KEYS - 1) / KEYS;
    /* Whole heads when the threads end about together: 5 products against 7. */
    job.whole =
        to->dq.data && (to->dk.data || to->dv.data) && 5 * ((heads + threads - 1) / threads) * threads <= 7 * heads;
    ht_status status = ht_workspace_threads(&workspace, parts_at(&job, NULL, &none), &job.scratch, &job.stride);
    if (status == HT_OK)
        status = run_tasks(&job);
    ht_workspace_release(&workspace);
    return status;
}
