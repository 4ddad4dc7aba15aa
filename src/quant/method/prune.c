/* Pruning by magnitude and input: of every row the weights with the least |w_j| sqrt(mean x_j^2) become zero.
 *
 *     w = (.9 -.5 .4 .3), mean x^2 = (.01 1 4 .25):  measure (.09 .5 .8 .15), half of them: 0 -.5 .4 0
 *
 * That is the output error of dropping one weight if inputs were independent; rows are ranked alone, so every output
 * loses the same share. The least k of n are found by bisection over the bits of the measures, which are in the order
 * of their values: no memory, one result. What is left is rounded as the scheme says.
 * Refuses: weights or statistics that are not finite, formats in which no code means 0 under every scale.
 * Source: Sun et al. 2023, arXiv:2306.11695; algorithms specification, section 7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/prune.h"

#include <math.h>   /* fabsf, isfinite, sqrt */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* strtod */
#include <string.h> /* strcmp */

#include "base/status.h"
#include "format/bits.h"
#include "quant/grid/grid.h"

static const size_t GROUPS[] = {[HT_PATTERN_NONE] = 0, [HT_PATTERN_2_4] = 4, [HT_PATTERN_4_8] = 8};

ht_sparsity ht_sparsity_of(const ht_settings *settings) {
    size_t group = settings ? GROUPS[(int)settings->value[HT_SETTING_PATTERN]] : 0;
    return (ht_sparsity){.share = group ? 0.5 : settings ? settings->value[HT_SETTING_SPARSITY] : 0, .group = group};
}

const char *ht_sparsity_name(const ht_settings *settings, char text[16]) {
    ht_sparsity how = ht_sparsity_of(settings);
    text[0] = '\0';
    if (how.share > 0 && how.group)
        snprintf(text, 16, "%zu:%zu", how.group / 2, how.group);
    else if (how.share > 0)
        snprintf(text, 16, "%.6g", how.share);
    return text;
}

ht_sparsity ht_sparsity_named(const char *name) {
    char *end = NULL;
    double share = name ? strtod(name, &end) : 0;
    if (!name || end == name)
        return (ht_sparsity){0};
    if (*end == ':')
        return (ht_sparsity){.share = 0.5, .group = strcmp(name, "2:4") == 0 ? 4 : strcmp(name, "4:8") == 0 ? 8 : 0};
    return (ht_sparsity){.share = !*end && share > 0 && share < 1 ? share : 0};
}

ht_status ht_sparsity_accepts(const ht_scheme *scheme, const ht_settings *settings) {
    ht_sparsity how = ht_sparsity_of(settings);
    double said = settings->value[HT_SETTING_SPARSITY];
    if (!(how.share > 0))
        return HT_OK;
    if (how.group && said > 0 && said != 0.5)
        return ht_fail(HT_ERR_ARGUMENT, "sparsity is %g and pattern %zu:%zu is a half: leave one of them out", said,
                       how.group / 2, how.group);
    return ht_grid_has_zero(&scheme->weight);
}

/* --- Choosing ------------------------------------------------------------------------------------------------ */

/* In the order of the values; NaN last. */
static uint32_t key(float measure) {
    return ht_f32_bits(measure) & 0x7fffffffu;
}

static size_t count_up_to(const float *measure, size_t n, uint32_t bits) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        count += key(measure[i]) <= bits;
    return count;
}

/* The `drop` least of n. */
static void choose(const float *measure, size_t n, size_t drop, uint8_t *pruned) {
    uint32_t low = 0, high = 0x7fffffffu; /* the least bits that `drop` measures do not exceed lie in low .. high */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (count_up_to(measure, n, middle) >= drop)
            high = middle;
        else
            low = middle + 1;
    }
    size_t below = low ? count_up_to(measure, n, low - 1) : 0, equal = drop - below;
    for (size_t i = n; i-- > 0;) {
        uint32_t bits = key(measure[i]);
        int goes = drop && (bits < low || (bits == low && equal > 0));
        equal -= goes && bits == low;
        pruned[i] = (uint8_t)goes;
    }
}

void ht_prune_choose(const ht_sparsity *how, const float *measure, size_t n, uint8_t *pruned) {
    size_t group = how->group ? how->group : n;
    for (size_t first = 0, count; first < n; first += count) {
        count = n - first < group ? n - first : group;
        choose(measure + first, count, (size_t)floor(how->share * (double)count + 1e-9), pruned + first);
    }
}

void ht_prune_row(const ht_sparsity *how, const float *weight, const ht_moments *input, size_t cols, float *measure,
                  uint8_t *pruned) {
    int known = input && input->tokens && (input->square_sum || input->second);
    for (size_t j = 0; j < cols; j++) {
        double square = !known ? 1 : input->square_sum ? input->square_sum[j] : (double)input->second[j * cols + j];
        measure[j] = (float)((double)fabsf(weight[j]) * (known ? sqrt(square / (double)input->tokens) : 1));
    }
    ht_prune_choose(how, measure, cols, pruned);
}

double ht_prune_share(const float *x, size_t n) {
    size_t zeros = 0;
    for (size_t i = 0; i < n; i++)
        zeros += x[i] == 0;
    return n ? (double)zeros / (double)n : 0;
}

/* --- The method ---------------------------------------------------------------------------------------------- */

unsigned ht_wanda_moments(const ht_settings *settings) {
    (void)settings;
    return HT_MOMENT_MEAN;
}

static ht_status check_finite(const ht_matrix_problem *p) {
    const ht_moments *input = p->input;
    for (size_t i = 0; i < p->rows * p->cols; i++)
        if (!isfinite(p->weight[i]))
            return ht_fail(HT_ERR_NUMERIC, "wanda: weight [%zu, %zu] is not finite", i / p->cols, i % p->cols);
    for (size_t j = 0; input && input->square_sum && j < p->cols; j++)
        if (!isfinite(input->square_sum[j]))
            return ht_fail(HT_ERR_NUMERIC, "wanda: the mean square of input %zu is not finite", j);
    return HT_OK;
}

ht_status ht_wanda_matrix(const ht_matrix_problem *problem, ht_matrix_result *result) {
    HT_TRY(check_finite(problem));
    int known = problem->input && problem->input->tokens;
    return ht_matrix_round(problem, known ? NULL : "pruned by magnitude alone: no calibration token reached it",
                           result);
}
