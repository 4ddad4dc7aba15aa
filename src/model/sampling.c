/* Greedy choice, sampling and divergence.
 *
 * A draw is a pure function of logits, options, seed and step (Philox, base/random.h), so a run can be repeated and
 * does not depend on threads. Candidates are sorted by logit, ties by id. Source of top_p: Holtzman et al. 2020.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/sampling.h"

#include <math.h>   /* exp, isfinite */
#include <stdlib.h> /* qsort */

#include "base/random.h"

int32_t ht_argmax(const float *logits, size_t count) {
    size_t best = 0;
    for (size_t i = 0; i < count; i++) {
        if (!(logits[i] < INFINITY)) /* NaN or +infinity */
            return -1;
        if (logits[i] > logits[best])
            best = i;
    }
    return count && isfinite(logits[best]) ? (int32_t)best : -1;
}

static int by_logit(const void *a, const void *b) {
    const ht_token_choice *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit < y->logit ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

int32_t ht_sample(const float *logits, size_t count, const ht_sampling *sampling, uint64_t step,
                  ht_token_choice *scratch) {
    int32_t best = ht_argmax(logits, count);
    if (best < 0 || !(sampling->temperature > 0))
        return best;
    for (size_t i = 0; i < count; i++)
        scratch[i] = (ht_token_choice){.logit = logits[i], .id = (int32_t)i};
    qsort(scratch, count, sizeof *scratch, by_logit);
    size_t kept = sampling->top_k && sampling->top_k < count ? sampling->top_k : count;
    double total = 0, top = (double)scratch[0].logit, heat = (double)sampling->temperature;
    for (size_t i = 0; i < kept; i++)
        total += exp(((double)scratch[i].logit - top) / heat);
    double limit = total, below = 0;
    if (sampling->top_p > 0 && sampling->top_p < 1) {
        size_t few = 0;
        for (limit = 0; few < kept && limit < (double)sampling->top_p * total; few++)
            limit += exp(((double)scratch[few].logit - top) / heat);
        kept = few;
    }
    double target = (double)ht_random_uniform(sampling->seed, 0, step) * limit;
    for (size_t i = 0; i + 1 < kept; i++) {
        below += exp(((double)scratch[i].logit - top) / heat);
        if (target < below)
            return scratch[i].id;
    }
    return scratch[kept - 1].id;
}

double ht_divergence(const ht_log_softmax *p, const ht_log_softmax *q, const float *weight, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        if (weight[i] > 0)
            sum += (double)(weight[i] * ((q->logits[i] - q->max) - (p->logits[i] - p->max)));
    return sum * exp(-q->logsum) + p->logsum - q->logsum;
}
