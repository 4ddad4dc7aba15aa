/* The definition of attention's gradients, in f64, one query row at a time. Slow.
 *
 * Probabilities, lse and D come from q, k, v and d_out; the args' out and lse are not read. A task is a key-value head
 * over all sequences; its dk and dv are f64 sums over the heads and rows that read it, rounded once.
 * Source: halftone/attention.h.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>   /* exp */
#include <string.h> /* memset */

#include "base/pool.h"
#include "base/status.h"
#include "ops/linear.h"

struct job {
    const ht_attention_args *args;
    const ht_attention_gradients *to;
    char *scratch;
    size_t stride;
};

struct parts {
    double *space, *p, *raw, *x, *y, *dy, *dq, *dk, *dv; /* x: a row of k; y: of v; space: q */
    double *sinks;                                       /* [heads of the group] */
};

static size_t parts_at(const ht_attention_args *a, char *memory, struct parts *parts) {
    size_t d = a->head_dim, dv = a->value_dim, keys = a->kv_rows, group = a->heads / a->kv_heads;
    double *at = (double *)(void *)memory;
    if (at)
        *parts = (struct parts){.space = at,
                                .x = at + 2 * d,
                                .dq = at + 3 * d,
                                .y = at + 4 * d,
                                .dy = at + 4 * d + dv,
                                .sinks = at + 4 * d + 2 * dv,
                                .p = at + 4 * d + 2 * dv + group,
                                .raw = at + 4 * d + 2 * dv + group + keys,
                                .dk = at + 4 * d + 2 * dv + group + 2 * keys,
                                .dv = at + 4 * d + 2 * dv + group + 2 * keys + keys * d};
    return (4 * d + 2 * dv + group + 2 * keys + keys * (d + dv)) * sizeof(double);
}

static ht_status load(const ht_attention_operand *x, ht_dtype dtype, size_t at, size_t count, double *out) {
    return ht_convert((const char *)x->data + at * (ht_dtype_bits(dtype) / 8), dtype, out, HT_F64, count);
}

static ht_status store(const ht_attention_operand *x, ht_dtype dtype, size_t at, size_t count, const double *from) {
    return x->data ? ht_convert(from, HT_F64, (char *)x->data + at * (ht_dtype_bits(dtype) / 8), dtype, count) : HT_OK;
}

/* dP of one key. It is computed twice: D = sum_j P_j dP_j needs all of them first. */
static ht_status value_product(const ht_attention_args *a, size_t at, const struct parts *parts, double *out) {
    HT_TRY(load(&a->v, a->dtype, at, a->value_dim, parts->y));
    *out = 0;
    for (size_t c = 0; c < a->value_dim; c++)
        *out += parts->dy[c] * parts->y[c];
    return HT_OK;
}

/* One row: dq, and what it adds to dk and dv; the sink's gradient is added to *sink. */
static ht_status row_back(const struct job *job, size_t b, size_t head, size_t row, const struct parts *parts,
                          double *sink) {
    const ht_attention_args *a = job->args;
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    size_t d = a->head_dim, kv = head / (a->heads / a->kv_heads), begin, end;
    double lse, delta = 0, dp;
    HT_TRY(ht_attention_reference_row(a, b, head, row, parts->space, parts->p, parts->raw, &begin, &end, &lse));
    memset(parts->dq, 0, d * sizeof *parts->dq);
    size_t q_at = ht_attention_at(&job->to->dq, s.batch, s.q_begin + row, head);
    if (lse == -(double)INFINITY)
        return store(&job->to->dq, job->to->dtype, q_at, d, parts->dq);
    HT_TRY(load(&a->q, a->dtype, ht_attention_at(&a->q, s.batch, s.q_begin + row, head), d, parts->space));
    HT_TRY(load(&job->to->d_out, a->out_dtype, ht_attention_at(&job->to->d_out, s.batch, s.q_begin + row, head),
                a->value_dim, parts->dy));
    for (size_t j = begin; j < end; j++) {
        HT_TRY(value_product(a, ht_attention_key_at(a, &a->v, &s, j, kv), parts, &dp));
        delta += parts->p[j] * dp;
    }
    for (size_t j = begin; j < end; j++) {
        HT_TRY(value_product(a, ht_attention_key_at(a, &a->v, &s, j, kv), parts, &dp));
        HT_TRY(load(&a->k, a->dtype, ht_attention_key_at(a, &a->k, &s, j, kv), d, parts->x));
        double capped = a->softcap > 0 ? parts->raw[j] / a->softcap : 0;
        double ds = a->scale * parts->p[j] * (dp - delta) * (1 - capped * capped);
        for (size_t c = 0; c < d; c++) {
            parts->dq[c] += ds * parts->x[c];
            parts->dk[j * d + c] += ds * parts->space[c];
        }
        for (size_t c = 0; c < a->value_dim; c++)
            parts->dv[j * a->value_dim + c] += parts->p[j] * parts->dy[c];
    }
    *sink -= a->sinks ? exp((double)a->sinks[head] - lse) * delta : 0;
    return store(&job->to->dq, job->to->dtype, q_at, d, parts->dq);
}

static ht_status store_keys(const struct job *job, size_t b, size_t kv, const struct parts *parts) {
    const ht_attention_args *a = job->args;
    const ht_attention_gradients *to = job->to;
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    for (size_t j = 0; j < s.kv_rows; j++) {
        HT_TRY(store(&to->dk, to->dtype, ht_attention_key_at(a, &to->dk, &s, j, kv), a->head_dim,
                     parts->dk + j * a->head_dim));
        HT_TRY(store(&to->dv, to->dtype, ht_attention_key_at(a, &to->dv, &s, j, kv), a->value_dim,
                     parts->dv + j * a->value_dim));
    }
    return HT_OK;
}

/* Task: a key-value head over all sequences. */
static ht_status run_head(void *arg, size_t kv, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t group = a->heads / a->kv_heads;
    struct parts parts = {0};
    parts_at(a, job->scratch + worker * job->stride, &parts);
    memset(parts.sinks, 0, group * sizeof *parts.sinks);
    for (size_t b = 0; b < a->batch; b++) {
        ht_attention_sequence s = ht_attention_sequence_at(a, b);
        memset(parts.dk, 0, s.kv_rows * a->head_dim * sizeof *parts.dk);
        memset(parts.dv, 0, s.kv_rows * a->value_dim * sizeof *parts.dv);
        for (size_t head = kv * group; head < (kv + 1) * group; head++)
            for (size_t row = 0; row < s.q_rows; row++)
                HT_TRY(row_back(job, b, head, row, &parts, &parts.sinks[head - kv * group]));
        HT_TRY(store_keys(job, b, kv, &parts));
    }
    for (size_t h = 0; h < group && job->to->d_sinks; h++)
        job->to->d_sinks[kv * group + h] = (float)parts.sinks[h];
    return HT_OK;
}

ht_status ht_attention_reference_backward(ht_context *ctx, const ht_attention_args *a,
                                          const ht_attention_gradients *to) {
    struct job job = {.args = a, .to = to};
    ht_workspace workspace;
    struct parts none;
    ht_workspace_init(&workspace, ctx);
    ht_status status = ht_workspace_threads(&workspace, parts_at(a, NULL, &none), &job.scratch, &job.stride);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, a->kv_heads, run_head, &job);
    ht_workspace_release(&workspace);
    return status;
}
