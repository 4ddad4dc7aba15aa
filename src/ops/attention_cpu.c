/* Attention on the host: f32 products and sums, exact softmax, the kernels of the table (dot, mix, softmax).
 *
 * Keys and values that are not f32 are converted once for the whole call. One task is 16 query rows of one head, or few
 * rows of several heads that share keys, so that those are read once:
 *
 *     q rows --scale, to f32--> [16, d] --scores--> [16, keys] --softmax--> --mix--> [16, dv] --round--> out
 *
 * Keys beyond the first 2048 are taken in parts of so many, each with a softmax of its own, and merged:
 *
 *     part c: y_c, its largest score m_c, sum s_c of exp(score - m_c)      M = max m_c, w_c = exp(m_c - M)
 *     y = sum over c of (w_c s_c / S) y_c      S = sum w_c s_c      a sink is in every s_c: all but one are taken off S
 *
 * Where parts begin depends on the key's place alone, so a row's result depends on neither threads nor the rows beside
 * it. When tasks are few (decoding), parts are tasks. Scratch per thread is 16 rows of scores of a part, and 16 rows of
 * y for every part. Source: Dao 2022 (tiles), Dao et al. 2023 (Flash-Decoding: parts of the keys in parallel).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>   /* INFINITY, log */
#include <string.h> /* memset */

#include "base/context.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/linear.h"

enum { PART = 2048 };

struct job {
    const ht_attention_args *args;
    ht_dtype rounded; /* of the probabilities */
    ht_kernels kernels;
    float *wide_k, *wide_v; /* [batch, kv heads, kv rows, dim], when the inputs are not f32 */
    size_t pack;            /* heads of a tile */
    size_t tiles, parts;    /* of 16 / pack query rows, of PART keys; of the longest sequence */
    char *partial;          /* when parts are tasks: results of all */
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

/* A thread's scratch. */
struct parts {
    float *q, *y, *bias, *score;
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t parts_at(const struct job *job, char *memory, struct parts *parts) {
    const ht_attention_args *a = job->args;
    size_t q = HT_ATTENTION_ROWS * a->head_dim, y = HT_ATTENTION_ROWS * a->value_dim, keys = least(PART, a->kv_rows);
    size_t bias = a->mask.kind == HT_MASK_BOOL || (a->mask.kind && job->pack > 1) ? HT_ATTENTION_ROWS * keys : 0;
    float *at = (float *)(void *)memory;
    if (memory)
        *parts = (struct parts){.q = at, .y = at + q, .bias = at + q + y, .score = at + q + y + bias};
    return ((q + y + bias) * sizeof(float) + ht_attention_scratch(keys) + 15) / 16 * 16;
}

/* Query rows of heads that share keys: row i is query row + i / heads of head + i % heads. */
struct tile {
    ht_attention_sequence s;
    size_t b, head, heads, row, count; /* count 0: the sequence is shorter */
};

static struct tile tile_at(const struct job *job, size_t task) {
    const ht_attention_args *a = job->args;
    size_t packs = a->heads / job->pack, rows = HT_ATTENTION_ROWS / job->pack;
    struct tile t = {.b = task / job->tiles / packs,
                     .head = task / job->tiles % packs * job->pack,
                     .heads = job->pack,
                     .row = task % job->tiles * rows};
    t.s = ht_attention_sequence_at(a, t.b);
    t.count = t.row >= t.s.q_rows ? 0 : least(rows, t.s.q_rows - t.row) * job->pack;
    return t;
}

static ht_status load_queries(const ht_attention_args *a, const struct tile *t, float *q) {
    float scale = (float)a->scale;
    for (size_t i = 0; i < t->count; i++, q += a->head_dim) {
        size_t at = ht_attention_at(&a->q, t->s.batch, t->s.q_begin + t->row + i / t->heads, t->head + i % t->heads);
        HT_TRY(ht_convert((const char *)a->q.data + at * element_bytes(a->dtype), a->dtype, q, HT_F32, a->head_dim));
        for (size_t c = 0; c < a->head_dim; c++)
            q[c] *= scale;
    }
    return HT_OK;
}

static ht_status store_rows(const ht_attention_args *a, const struct tile *t, const float *y) {
    for (size_t i = 0; i < t->count; i++) {
        size_t at = ht_attention_at(&a->out, t->s.batch, t->s.q_begin + t->row + i / t->heads, t->head + i % t->heads);
        HT_TRY(ht_convert(y + i * a->value_dim, HT_F32, (char *)a->out.data + at * element_bytes(a->out_dtype),
                          a->out_dtype, a->value_dim));
    }
    return HT_OK;
}

/* The mask of the rows over their part of the keys as numbers to add. */
static void set_mask(const ht_attention_args *a, const struct tile *t, float *space, ht_attention_rows *rows) {
    const ht_attention_mask *mask = &a->mask;
    size_t keys = rows->part_end - rows->part_begin, none = mask->kind == HT_MASK_NONE;
    if (mask->kind == HT_MASK_ADDITIVE && t->heads == 1) {
        rows->bias = (const float *)mask->data + t->b * mask->batch + t->head * mask->head + t->row * mask->row +
                     rows->part_begin;
        rows->bias_stride = mask->row;
        return;
    }
    rows->bias = none ? NULL : space;
    rows->bias_stride = keys;
    for (size_t i = 0; i < rows->count && !none; i++) {
        memset(space + i * keys, 0, keys * sizeof *space);
        ht_attention_add_mask(a, t->b, t->head + i % t->heads, t->row + i / t->heads, rows->part_begin, keys,
                              space + i * keys);
    }
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

/* The tile's rows over one part of the keys. */
static ht_attention_rows rows_at(const struct job *job, const struct tile *t, size_t part) {
    const ht_attention_args *a = job->args;
    return (ht_attention_rows){.q_stride = a->head_dim,
                               .keys = t->s.kv_rows,
                               .first = (ptrdiff_t)(t->row + t->s.kv_rows) - (ptrdiff_t)t->s.q_rows,
                               .heads = t->heads,
                               .count = t->count,
                               .causal = a->causal,
                               .window = a->window,
                               .softcap = (float)a->softcap,
                               .sink = a->sinks ? a->sinks + t->head : NULL,
                               .rounded = job->rounded,
                               .part_begin = least(part * PART, t->s.kv_rows),
                               .part_end = least((part + 1) * PART, t->s.kv_rows),
                               .y_stride = a->value_dim};
}

static ht_status run_part(const struct job *job, const struct tile *t, ht_attention_rows *rows,
                          const struct parts *scratch) {
    const ht_attention_args *a = job->args;
    HT_TRY(load_queries(a, t, scratch->q));
    rows->q = scratch->q;
    set_mask(a, t, scratch->bias, rows);
    set_keys(job, &t->s, t->b, t->head / (a->heads / a->kv_heads), rows);
    set_kernels(job, rows);
    job->kernels.of[HT_OPERATION_ATTENTION].attention(rows, scratch->score);
    return HT_OK;
}

/* --- Parts of the keys ------------------------------------------------------------------------------------------- */

/* What the parts of a tile gave: [parts][16] and [parts][16][value_dim]; and room for a row's largest scores. */
struct partial {
    ht_attention_part *part;
    float *y, *max;
};

static size_t partial_at(const struct job *job, char *memory, struct partial *out) {
    size_t rows = job->parts * HT_ATTENTION_ROWS;
    if (memory) {
        out->part = (ht_attention_part *)(void *)memory;
        out->y = (float *)(void *)(out->part + rows);
        out->max = out->y + rows * job->args->value_dim;
    }
    return (rows * sizeof *out->part + (rows * job->args->value_dim + job->parts) * sizeof(float) + 15) / 16 * 16;
}

static ht_status part_of_tile(const struct job *job, const struct tile *t, size_t part, const struct parts *scratch,
                              const struct partial *partial) {
    ht_attention_rows rows = rows_at(job, t, part);
    size_t at = part * HT_ATTENTION_ROWS;
    if (part * PART >= t->s.kv_rows || ht_attention_begin(&rows, 0) >= ht_attention_end(&rows, t->count - 1))
        return HT_OK; /* no row sees any of it */
    rows.y = partial->y + at * job->args->value_dim;
    rows.part = partial->part + at;
    return run_part(job, t, &rows, scratch);
}

/* Row i from its parts [first, end): y and log sum exp. */
static void merge_row(const struct job *job, const struct partial *partial, size_t i, size_t first, size_t end,
                      const float *sink, float *y, float *lse) {
    ht_softmax_fn *softmax = job->kernels.of[HT_OPERATION_SOFTMAX].softmax;
    size_t dv = job->args->value_dim;
    float *weight = partial->max, most = -INFINITY, extra = sink ? *sink : 0, ignored;
    double sum = 0;
    memset(y, 0, dv * sizeof *y);
    *lse = sink ? *sink : -INFINITY;
    int seen = 0; /* anything but -INFINITY; a NaN is something */
    for (size_t c = first; c < end; c++) {
        weight[c] = partial->part[c * HT_ATTENTION_ROWS + i].max;
        seen |= partial->part[c * HT_ATTENTION_ROWS + i].sum != 0;
    }
    if (!seen)
        return;
    softmax(weight + first, end - first, -INFINITY, weight + first, &most);
    for (size_t c = first; c < end; c++) {
        const ht_attention_part *part = &partial->part[c * HT_ATTENTION_ROWS + i];
        sum += part->sum == 0 ? 0 : (double)weight[c] * part->sum;
    }
    if (sink && end - first > 1) {
        softmax(&extra, 1, most, &extra, &ignored);
        sum -= (double)(end - first - 1) * (double)extra;
    }
    *lse = (float)((double)most + log(sum));
    for (size_t c = first; c < end; c++) {
        const ht_attention_part *part = &partial->part[c * HT_ATTENTION_ROWS + i];
        const float *from = partial->y + (c * HT_ATTENTION_ROWS + i) * dv;
        float by = part->sum == 0 ? 0 : (float)((double)weight[c] * part->sum / sum);
        for (size_t j = 0; j < dv; j++)
            y[j] = c == first ? by * from[j] : y[j] + by * from[j];
    }
}

static ht_status merge_tile(const struct job *job, const struct tile *t, const struct parts *scratch,
                            const struct partial *partial) {
    const ht_attention_args *a = job->args;
    ht_attention_rows all = rows_at(job, t, 0);
    all.part_begin = all.part_end = 0;
    for (size_t i = 0; i < t->count; i++) {
        size_t begin = ht_attention_begin(&all, i), end = ht_attention_end(&all, i);
        float lse;
        merge_row(job, partial, i, begin / PART, begin < end ? (end - 1) / PART + 1 : begin / PART,
                  all.sink ? all.sink + i % t->heads : NULL, scratch->y + i * a->value_dim, &lse);
        if (a->lse)
            a->lse[ht_attention_lse_at(a, t->b, t->head + i % t->heads, t->row + i / t->heads)] = lse;
    }
    return store_rows(a, t, scratch->y);
}

/* --- Tasks ------------------------------------------------------------------------------------------------------- */

static struct parts scratch_of(const struct job *job, size_t worker, struct partial *partial) {
    char *memory = job->scratch + worker * job->stride;
    struct parts scratch = {0};
    size_t used = parts_at(job, memory, &scratch);
    partial_at(job, memory + used, partial);
    return scratch;
}

/* Task: a tile over all keys. */
static ht_status run_tile(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    struct tile t = tile_at(job, task);
    struct partial partial = {0};
    struct parts scratch = scratch_of(job, worker, &partial);
    for (size_t part = 0; part < job->parts && t.count; part++)
        HT_TRY(part_of_tile(job, &t, part, &scratch, &partial));
    return t.count ? merge_tile(job, &t, &scratch, &partial) : HT_OK;
}

/* Tasks: a tile over a part of the keys; then a tile from its parts. */
static ht_status run_one_part(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    struct tile t = tile_at(job, task / job->parts);
    struct partial partial;
    struct parts scratch = scratch_of(job, worker, &partial);
    partial_at(job, job->partial + task / job->parts * partial_at(job, NULL, &partial), &partial);
    return t.count ? part_of_tile(job, &t, task % job->parts, &scratch, &partial) : HT_OK;
}

static ht_status run_merge(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    struct tile t = tile_at(job, task);
    struct partial partial;
    struct parts scratch = scratch_of(job, worker, &partial);
    partial_at(job, job->partial + task * partial_at(job, NULL, &partial), &partial);
    return t.count ? merge_tile(job, &t, &scratch, &partial) : HT_OK;
}

/* Parts are tasks when there are not a few tiles for every thread. */
static ht_status run_tasks(ht_context *ctx, struct job *job) {
    const ht_attention_args *a = job->args;
    size_t tasks = a->batch * (a->heads / job->pack) * job->tiles;
    struct partial none;
    if (job->parts == 1 || tasks >= 4 * ht_context_threads(ctx))
        return ht_parallel_for(ctx, tasks, run_tile, job);
    HT_TRY(
        ht_allocate_raw(ctx, tasks, partial_at(job, NULL, &none), "attention over parts of the keys", &job->partial));
    HT_TRY(ht_parallel_for(ctx, tasks * job->parts, run_one_part, job));
    return ht_parallel_for(ctx, tasks, run_merge, job);
}

/* As many heads of a group as fit into a tile with all the query rows and leave every thread something to do. Rows do
 * not depend on each other, so this does not enter the result. */
static size_t heads_together(const ht_attention_args *a, size_t parts, size_t threads) {
    size_t group = a->heads / a->kv_heads, most = HT_ATTENTION_ROWS / (a->q_rows ? a->q_rows : 1);
    size_t pack = least(group, most ? most : 1);
    while (pack > 1 && (group % pack || a->batch * (a->heads / pack) * parts < threads))
        pack--;
    return pack;
}

ht_status ht_attention_cpu_run(ht_context *ctx, const ht_attention_args *a, ht_dtype rounded) {
    struct job job = {.args = a, .rounded = rounded, .kernels = ht_kernels_choose(ht_cpu_flags(ctx))};
    ht_workspace workspace;
    struct parts none;
    struct partial nothing;
    ht_workspace_init(&workspace, ctx);
    job.parts = a->kv_rows > PART ? (a->kv_rows + PART - 1) / PART : 1;
    job.pack = heads_together(a, job.parts, ht_context_threads(ctx));
    job.tiles = (a->q_rows + HT_ATTENTION_ROWS / job.pack - 1) / (HT_ATTENTION_ROWS / job.pack);
    ht_status status = a->dtype == HT_F32 ? HT_OK : widen_all(ctx, &job);
    if (status == HT_OK)
        status = ht_workspace_threads(&workspace, parts_at(&job, NULL, &none) + partial_at(&job, NULL, &nothing),
                                      &job.scratch, &job.stride);
    if (status == HT_OK)
        status = run_tasks(ctx, &job);
    ht_workspace_release(&workspace);
    ht_release(ctx, job.partial);
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
