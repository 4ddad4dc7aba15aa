/* Scales of a unit, chosen when GPTQ's walk reaches it: by the format's rule on what the columns would be if none of
 * them were rounded, or by trial.
 *
 * `searched` takes the better of the format's own rule and the search weighted by the diagonal of H, and then its best
 * neighbour, each by walking through the unit with it: what it adds to the loss is known exactly. All rows of a strip
 * try at once. Source: algorithms specification, sections 1.7 (search over scales that can be stored) and 1.8.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy */

#include "quant/gptq/gptq_state.h"

/* What walking through the unit with these cells [HT_LANES, cells of a unit] costs; only lanes below `most` count. */
static void try_cells(const ht_lane_group *group, ht_gptq_scratch *scratch, const ht_grid_cell *cells, size_t rows,
                      const float *weight, const float *target, const float *most, float *cost) {
    const ht_lane_walk out = {.pruned = scratch->pruned, .cost = cost, .most = most};
    memset(cost, 0, HT_LANES * sizeof *cost);
    memcpy(scratch->tried, target, group->count * HT_LANES * sizeof *target);
    memset(scratch->tried + group->count * HT_LANES, 0, HT_LANE_PANEL * HT_LANES * sizeof *target);
    ht_lane_cells_begin(&scratch->trial, group->grid, cells, group->grid->family->cells, rows, 1);
    ht_lane_walk_group(group, &scratch->trial, weight, scratch->tried, scratch->errors, &out);
}

static int is_pruned(const ht_gptq_scratch *scratch, size_t column, size_t lane) {
    return scratch->pruned && scratch->pruned[column * HT_LANES + lane];
}

/* Keep what is better: all cells of a row's unit. */
static void keep(const ht_grid *grid, const ht_grid_cell *cells, size_t rows, const float *cost, float *least,
                 ht_grid_cell *best) {
    size_t count = grid->family->cells;
    for (size_t r = 0; r < rows; r++)
        if (cost[r] < least[r]) {
            least[r] = cost[r];
            memcpy(best + r * count, cells + r * count, count * sizeof *best);
        }
}

/* All cells of a row's unit moved by one step; 0 when there is no such scale. */
static int vary(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out) {
    size_t c = 0, count = grid->family->cells;
    while (c < count && grid->family->vary(grid, &from[c], step, &out[c]))
        c++;
    if (c < count)
        memcpy(out, from, count * sizeof *out);
    return c == count;
}

static void search_neighbours(const ht_lane_group *group, ht_gptq_scratch *scratch, size_t rows, const float *weight,
                              const float *target, float *least) {
    const ht_grid *grid = group->grid;
    size_t count = grid->family->cells;
    float cost[HT_LANES];
    memcpy(scratch->start, scratch->best, rows * count * sizeof *scratch->start);
    for (int step = grid->family->least; step <= grid->family->most; step++) {
        int there[HT_LANES], any = 0;
        for (size_t r = 0; step && r < rows; r++)
            any |= there[r] = vary(grid, scratch->start + r * count, step, scratch->moved + r * count);
        if (!any)
            continue;
        try_cells(group, scratch, scratch->moved, rows, weight, target, least, cost);
        for (size_t r = 0; r < rows; r++)
            cost[r] = there[r] ? cost[r] : INFINITY;
        keep(grid, scratch->moved, rows, cost, least, scratch->best);
    }
}

/* The columns of the group as they would be if none of them were rounded, by column; in the place of the errors. */
static const float *unrounded(const ht_lane_group *group, ht_gptq_scratch *scratch, const float *weight,
                              const float *target) {
    size_t unit = group->grid->unit;
    memcpy(scratch->tried, target, group->count * HT_LANES * sizeof *target);
    memset(scratch->tried + group->count * HT_LANES, 0, HT_LANE_PANEL * HT_LANES * sizeof *target);
    ht_lane_walk_group(group, NULL, weight, scratch->tried, scratch->errors,
                       &(ht_lane_walk){.pruned = scratch->pruned});
    for (size_t i = 0; i < group->count; i++) {
        float *x = scratch->errors + group->order[i] % unit * HT_LANES;
        for (size_t r = 0; r < HT_LANES; r++)
            x[r] = is_pruned(scratch, group->order[i], r) ? 0 : scratch->tried[i * HT_LANES + r];
    }
    return scratch->errors;
}

void ht_gptq_choose_unit(const ht_gptq_state *s, size_t strip, const ht_lane_group *group, ht_gptq_scratch *scratch,
                         const float *weight, const float *target) {
    const ht_gptq_walk *walk = s->walk;
    const ht_grid *grid = walk->grid;
    size_t rows = ht_gptq_rows(s, strip), unit = group->order[0] / grid->unit, count = grid->family->cells;
    int searched = walk->scales == HT_SCALES_SEARCHED;
    float cost[HT_LANES], least[HT_LANES];
    ht_grid_strip choice = {.grid = grid, .rows = rows, .cells = scratch->best, .step = count};
    choice.x = unrounded(group, scratch, weight, target);
    for (size_t r = 0; r < rows; r++)
        memcpy(scratch->start + r * count, ht_gptq_cells(s, strip * HT_LANES + r, unit), count * sizeof *choice.cells);
    ht_grid_choose_lanes(&choice, 0, scratch->start);
    if (searched) {
        choice.weight = walk->diagonal + unit * grid->unit;
        choice.cells = scratch->moved;
        ht_grid_choose_lanes(&choice, 1, scratch->start);
        try_cells(group, scratch, scratch->best, rows, weight, target, NULL, least);
        try_cells(group, scratch, scratch->moved, rows, weight, target, least, cost);
        keep(grid, scratch->moved, rows, cost, least, scratch->best);
        if (grid->family->vary)
            search_neighbours(group, scratch, rows, weight, target, least);
    }
    for (size_t r = 0; r < rows; r++)
        memcpy(ht_gptq_cells(s, strip * HT_LANES + r, unit), scratch->best + r * count, count * sizeof *scratch->best);
}
