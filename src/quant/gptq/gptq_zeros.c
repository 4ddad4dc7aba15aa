/* Zeros that GPTQ's walk chooses on its way: columns become zero where that costs least, pivot_k t_k^2; they count as
 * rounded to 0, so that what follows makes up for them, too. Chosen for a run of columns when it is reached: neighbours
 * of the pattern, a unit, a block; or from the weights for the whole row, where the order tears neighbours apart.
 * Source: Frantar and Alistarh 2023, arXiv:2301.00774 (SparseGPT).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/memory.h"
#include "base/status.h"
#include "quant/gptq/gptq_state.h"

enum { LEAST_RUN = 64, MOST_RUN = 8192 }; /* columns of which a share becomes zero */

/* The first of n columns that stand side by side in the file, whole groups of the pattern; SIZE_MAX: they do not. */
static size_t first_of_neighbours(const ht_gptq_walk *walk, size_t position, size_t n) {
    size_t low = SIZE_MAX, high = 0, group = walk->sparsity.group;
    for (size_t i = position; i < position + n; i++) {
        low = walk->order[i] < low ? walk->order[i] : low;
        high = walk->order[i] > high ? walk->order[i] : high;
    }
    return high - low + 1 == n && low % group == 0 && (n % group == 0 || high + 1 == walk->grid->cols) ? low : SIZE_MAX;
}

static int holds_groups(const ht_gptq_walk *walk, size_t run) {
    for (size_t at = 0; at < walk->grid->cols; at += run)
        if (first_of_neighbours(walk, at, ht_gptq_least(run, walk->grid->cols - at)) == SIZE_MAX)
            return 0;
    return 1;
}

size_t ht_gptq_run_length(const ht_gptq_state *s) {
    const ht_gptq_walk *walk = s->walk;
    const size_t tries[] = {s->unit ? s->unit : walk->sparsity.group, walk->grid->unit, s->block};
    if (!walk->sparsity.group)
        return s->block >= LEAST_RUN && s->block <= MOST_RUN ? s->block : 0;
    for (size_t i = 0; i < sizeof tries / sizeof *tries; i++)
        if (tries[i] <= MOST_RUN && s->block % tries[i] == 0 && holds_groups(walk, tries[i]))
            return tries[i];
    return 0;
}

/* What it costs to drop what is left of a column; one that never had an input costs nothing. */
static float cost_of_zero(const ht_gptq_walk *walk, size_t position, float t) {
    return walk->diagonal[walk->order[position]] > 0 ? (float)(walk->factor->pivot[position] * (double)t * (double)t)
                                                     : 0;
}

void ht_gptq_prune_run(const ht_gptq_state *s, size_t strip, size_t position, size_t n, const float *target) {
    const ht_gptq_walk *walk = s->walk;
    uint8_t mark[MOST_RUN], *pruned = s->pruned + strip * ht_gptq_strip_values(s);
    size_t low = walk->sparsity.group ? first_of_neighbours(walk, position, n) : SIZE_MAX;
    float cost[MOST_RUN];
    for (size_t r = 0; r < ht_gptq_rows(s, strip); r++) {
        for (size_t i = 0; i < n; i++)
            cost[low == SIZE_MAX ? i : walk->order[position + i] - low] =
                cost_of_zero(walk, position + i, target[i * HT_LANES + r]);
        ht_prune_choose(&walk->sparsity, cost, n, mark);
        for (size_t i = 0; i < n; i++)
            pruned[walk->order[position + i] * HT_LANES + r] =
                mark[low == SIZE_MAX ? i : walk->order[position + i] - low];
    }
}

ht_status ht_gptq_prune_rows(void *state, size_t strip, size_t worker) {
    const ht_gptq_state *s = state;
    const ht_gptq_walk *walk = s->walk;
    size_t cols = walk->grid->cols;
    float *cost = s->scratch[worker].row;
    uint8_t *mark, *pruned = s->pruned + strip * ht_gptq_strip_values(s);
    HT_TRY(ht_allocate_raw(walk->ctx, cols, 1, "zeros of a row", &mark));
    for (size_t r = 0; r < ht_gptq_rows(s, strip); r++) {
        for (size_t i = 0; i < cols; i++)
            cost[walk->order[i]] = cost_of_zero(walk, i, walk->weight[(strip * HT_LANES + r) * cols + walk->order[i]]);
        ht_prune_choose(&walk->sparsity, cost, cols, mark);
        for (size_t c = 0; c < cols; c++)
            pruned[c * HT_LANES + r] = mark[c];
    }
    ht_release(walk->ctx, mark);
    return HT_OK;
}
