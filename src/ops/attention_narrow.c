/* fp8 attention with sums of P v as narrow as tensor cores keep them: what promotion to f32 is worth. By row, slow.
 *
 *     32 keys a step, for each channel:   p v  p v  ...  p v   chain      largest has binade e
 *                                          \____ each cut to multiples of 2^(e - bits) ____/   then added, exactly
 *     every `promote` keys:               y += chain, chain = 0            f32
 *
 * A small product beside a large sum is cut to nothing, always toward zero: over many keys a bias and not noise.
 * Probabilities are exp(score - the row's largest) in e4m3. A kernel that meets the largest score late rescales its
 * sums instead; that is not modelled. Products are of the scaled values, so their place on the grid is not the device's
 * bit for bit. Source: training and attention specification, section 4.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/attention.h"

#include <math.h>   /* INFINITY, frexp, ldexp, trunc, fabs, isfinite */
#include <string.h> /* memset */

#include "base/context.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/linear.h"

enum { STEP = 32 };

struct job {
    const ht_attention_args *args; /* f32, no pages */
    ht_kernels kernels;
    char *scratch;
    size_t stride;
};

/* A row's keys. */
struct row {
    const float *v; /* of key 0 */
    size_t v_step, begin, end, dim;
    const float *p; /* of key `begin` */
};

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* chain = the sum of itself and the products of keys [from, to) at channel c. */
static double add_step(const struct row *r, size_t c, size_t from, size_t to, int bits, double chain) {
    double product[STEP], most = fabs(chain), sum = 0;
    int finite = 1, exponent;
    for (size_t j = from; j < to; j++) {
        double x = (double)r->p[j - r->begin] * (double)r->v[j * r->v_step + c];
        product[j - from] = x;
        most = fabs(x) > most ? fabs(x) : most;
        finite &= isfinite(x) != 0;
        sum += x;
    }
    if (!finite || !isfinite(chain) || most == 0)
        return sum + chain;
    frexp(most, &exponent);
    double unit = ldexp(1, exponent - 1 - bits);
    sum = trunc(chain / unit);
    for (size_t j = from; j < to; j++)
        sum += trunc(product[j - from] / unit);
    return sum * unit;
}

static void mix(const struct row *r, const ht_attention_fp8 *fp8, double *chain, float *y) {
    memset(y, 0, r->dim * sizeof *y);
    memset(chain, 0, r->dim * sizeof *chain);
    for (size_t from = r->begin, to; from < r->end; from = to) {
        to = least(r->end, from / STEP * STEP + STEP);
        int ends = to == r->end || (fp8->promote && to % fp8->promote == 0);
        for (size_t c = 0; c < r->dim; c++) {
            chain[c] = add_step(r, c, from, to, fp8->sum_bits, chain[c]);
            y[c] += ends ? (float)chain[c] : 0;
            chain[c] = ends ? 0 : chain[c];
        }
    }
}

/* Scores become e4m3 probabilities times their sum, which is returned; 0: the row sees nothing. */
static double probabilities(const struct job *job, size_t b, size_t head, size_t row, const struct row *r, float *score,
                            float *max) {
    const ht_attention_args *a = job->args;
    ht_softmax_fn *softmax = job->kernels.of[HT_OPERATION_SOFTMAX].softmax;
    size_t count = r->end - r->begin;
    int seen = 0;
    if (a->softcap > 0)
        job->kernels.of[HT_OPERATION_SOFTCAP].softcap(score, count, (float)a->softcap);
    ht_attention_add_mask(a, b, head, row, r->begin, count, score);
    for (size_t j = 0; j < count; j++)
        seen |= score[j] != -INFINITY;
    *max = a->sinks ? a->sinks[head] : -INFINITY;
    if (!seen)
        return 0;
    double sum = softmax(score, count, *max, score, max);
    if (a->sinks) {
        float extra = a->sinks[head], ignored;
        sum += softmax(&extra, 1, *max, &extra, &ignored);
    }
    ht_attention_round_probabilities(HT_F8_E4M3, score, count);
    return sum;
}

/* Task: one row of one head of one sequence. */
static ht_status run_row(void *arg, size_t task, size_t worker) {
    const struct job *job = arg;
    const ht_attention_args *a = job->args;
    size_t row = task % a->q_rows, head = task / a->q_rows % a->heads, b = task / a->q_rows / a->heads;
    size_t d = a->head_dim, dv = a->value_dim, kv = head / (a->heads / a->kv_heads);
    ht_attention_sequence s = ht_attention_sequence_at(a, b);
    if (row >= s.q_rows)
        return HT_OK;
    const ht_attention_rows range = {.first = (ptrdiff_t)(row + s.kv_rows) - (ptrdiff_t)s.q_rows,
                                     .keys = s.kv_rows,
                                     .causal = a->causal,
                                     .window = a->window};
    double *chain = (double *)(void *)(job->scratch + worker * job->stride);
    float *q = (float *)(void *)(chain + dv), *score = q + d, max;
    float *y = (float *)a->out.data + ht_attention_at(&a->out, s.batch, s.q_begin + row, head);
    const float *from = (const float *)a->q.data + ht_attention_at(&a->q, s.batch, s.q_begin + row, head);
    struct row r = {.v_step = a->v.row,
                    .begin = ht_attention_begin(&range, 0),
                    .end = ht_attention_end(&range, 0),
                    .dim = dv,
                    .p = score};
    for (size_t c = 0; c < d; c++)
        q[c] = from[c] * (float)a->scale;
    if (r.begin < r.end) {
        const float *k = (const float *)a->k.data + ht_attention_key_at(a, &a->k, &s, r.begin, kv);
        r.v = (const float *)a->v.data + ht_attention_key_at(a, &a->v, &s, 0, kv);
        job->kernels.of[HT_OPERATION_DOT].dot(q, 1, d, k, r.end - r.begin, a->k.row, d, score, r.end - r.begin);
    }
    double sum = probabilities(job, b, head, row, &r, score, &max);
    if (sum == 0)
        r.end = r.begin;
    mix(&r, &a->fp8, chain, y);
    for (size_t c = 0; c < dv && sum != 0; c++)
        y[c] *= (float)(1 / sum);
    if (a->lse)
        a->lse[ht_attention_lse_at(a, b, head, row)] = sum == 0 ? max : (float)((double)max + log(sum));
    return HT_OK;
}

ht_status ht_attention_narrow_run(ht_context *ctx, const ht_attention_args *a) {
    struct job job = {.args = a, .kernels = ht_kernels_choose(ht_cpu_flags(ctx))};
    ht_workspace workspace;
    ht_workspace_init(&workspace, ctx);
    ht_status status =
        ht_workspace_threads(&workspace, a->value_dim * sizeof(double) + (a->head_dim + a->kv_rows) * sizeof(float),
                             &job.scratch, &job.stride);
    if (status == HT_OK)
        status = ht_parallel_for(ctx, a->batch * a->heads * a->q_rows, run_row, &job);
    ht_workspace_release(&workspace);
    return status;
}
