/* The definition of attention, in f64, one query row at a time: what every other kernel is compared with. Slow.
 *
 * Scores, their maximum, exponentials and sums are f64; the result is rounded once, to the output's dtype. Keys that a
 * row does not see are not read. Source: halftone/attention.h.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>
#include <string.h> /* memset */

#include "base/pool.h"
#include "base/status.h"
#include "kernels/attention.h"
#include "ops/linear.h"

struct job {
    const ht_attention_args *args;
    char *scratch;
    size_t stride;
};

static ht_status load(const ht_attention_operand *x, ht_dtype dtype, size_t at, size_t count, double *out) {
    return ht_convert((const char *)x->data + at * (ht_dtype_bits(dtype) / 8), dtype, out, HT_F64, count);
}

static double masked(const ht_attention_mask *mask, size_t b, size_t head, size_t row, size_t key, double score) {
    size_t at = b * mask->batch + head * mask->head + row * mask->row + key;
    if (mask->kind == HT_MASK_BOOL)
        return ((const uint8_t *)mask->data)[at] ? score : -(double)INFINITY;
    if (mask->kind == HT_MASK_ADDITIVE)
        return score + (double)((const float *)mask->data)[at];
    return score;
}

/* The row's scores over [begin, end). */
static ht_status score_row(const ht_attention_args *a, size_t b, size_t head, size_t row, size_t begin, size_t end,
                           double *space, double *score, double *raw) {
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    size_t d = a->head_dim, kv = head / (a->heads / a->kv_heads);
    double *q = space, *k = space + d;
    HT_TRY(load(&a->q, a->dtype, ht_attention_at(&a->q, s.batch, s.q_begin + row, head), d, q));
    for (size_t j = begin; j < end; j++) {
        double sum = 0;
        HT_TRY(load(&a->k, a->dtype, ht_attention_key_at(a, &a->k, &s, j, kv), d, k));
        for (size_t c = 0; c < d; c++)
            sum += q[c] * k[c];
        sum *= a->scale;
        if (a->softcap > 0)
            sum = a->softcap * tanh(sum / a->softcap);
        if (raw)
            raw[j] = sum;
        score[j] = masked(&a->mask, b, head, row, j, sum);
    }
    return HT_OK;
}

/* Scores become probabilities; returns log sum exp. */
static double normalize(double *score, size_t begin, size_t end, const float *sink) {
    double max = sink ? (double)*sink : -(double)INFINITY, sum = 0;
    int hidden = 1;
    for (size_t j = begin; j < end; j++) {
        hidden &= score[j] == -(double)INFINITY;
        if (score[j] > max)
            max = score[j];
    }
    if (hidden) {
        for (size_t j = begin; j < end; j++)
            score[j] = 0;
        return max;
    }
    for (size_t j = begin; j < end; j++)
        sum += score[j] = exp(score[j] - max);
    sum += sink ? exp((double)*sink - max) : 0;
    for (size_t j = begin; j < end; j++)
        score[j] /= sum;
    return max + log(sum);
}

ht_status ht_attention_reference_row(const ht_attention_args *a, size_t b, size_t head, size_t row, double *space,
                                     double *score, double *raw, size_t *begin, size_t *end, double *lse) {
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    ht_attention_rows range = {.first = (ptrdiff_t)(row + s.kv_rows) - (ptrdiff_t)s.q_rows,
                               .keys = s.kv_rows,
                               .causal = a->causal,
                               .window = a->window};
    *begin = ht_attention_begin(&range, 0);
    *end = ht_attention_end(&range, 0);
    HT_TRY(score_row(a, b, head, row, *begin, *end, space, score, raw));
    *lse = normalize(score, *begin, *end, a->sinks ? a->sinks + head : NULL);
    return HT_OK;
}

/* Task: one row of one head of one sequence. */
static ht_status run_row(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t row = task % a->q_rows, head = task / a->q_rows % a->heads, b = task / a->q_rows / a->heads;
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    if (row >= s.q_rows)
        return HT_OK;
    size_t begin, end, d = a->value_dim;
    double *space = (double *)(void *)(job->scratch + worker * job->stride), *v = space + 2 * a->head_dim, *y = v + d,
           *score = y + d, lse;
    HT_TRY(ht_attention_reference_row(a, b, head, row, space, score, NULL, &begin, &end, &lse));
    if (a->lse)
        a->lse[ht_attention_lse_at(a, b, head, row)] = (float)lse;
    memset(y, 0, d * sizeof *y);
    for (size_t j = begin; j < end; j++) {
        size_t at = ht_attention_key_at(a, &a->v, &s, j, head / (a->heads / a->kv_heads));
        HT_TRY(load(&a->v, a->dtype, at, d, v));
        for (size_t c = 0; c < d; c++)
            y[c] += score[j] * v[c];
    }
    size_t at = ht_attention_at(&a->out, s.batch, s.q_begin + row, head);
    return ht_convert(y, HT_F64, (char *)a->out.data + at * (ht_dtype_bits(a->out_dtype) / 8), a->out_dtype, d);
}

static ht_status run(ht_context *ctx, const ht_attention_args *a) {
    struct job job = {.args = a};
    ht_workspace workspace;
    ht_workspace_init(&workspace, ctx);
    ht_status status = ht_workspace_threads(
        &workspace, (2 * a->head_dim + 2 * a->value_dim + a->kv_rows) * sizeof(double), &job.scratch, &job.stride);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, a->batch * a->heads * a->q_rows, run_row, &job);
    ht_workspace_release(&workspace);
    return status;
}

const ht_attention_kernel ht_attention_reference = {.name = "reference_f64",
                                                    .summary = "host; the definition, in f64",
                                                    .run = run,
                                                    .backward = ht_attention_reference_backward};
