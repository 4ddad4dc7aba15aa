/* One group of columns for a strip of rows (gptq_lanes.h).
 *
 *     | panel | panel | panel |      left-looking: a panel of 12 first gets the errors of the panels before it as one
 *       ----->  ----->               dense tile, then goes column by column, each feeding those after it in the panel
 *
 * Sums have one order, whatever the instruction set: the tile's (kernels/dense.h), then plain f32 in the order of
 * columns.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq_lanes.h"

#include <string.h> /* memset */

void ht_lane_cells_begin(ht_lane_cells *cells, const ht_grid *grid, const ht_grid_cell *base, size_t row_step,
                         size_t rows, int one_unit) {
    cells->grid = grid;
    cells->base = base;
    cells->row_step = row_step;
    cells->rows = rows;
    cells->one_unit = one_unit;
    memset(cells->known, 0, sizeof cells->known);
}

const ht_grid_lanes *ht_lane_cells_of(ht_lane_cells *cells, size_t column) {
    const ht_grid *grid = cells->grid;
    size_t unit = column / grid->unit, cell = column % grid->unit / grid->width;
    if (cells->known[cell] != unit + 1) {
        size_t at = (cells->one_unit ? 0 : unit * grid->family->cells) + cell;
        ht_grid_gather(cells->base + at, cells->row_step, cells->rows, &cells->lanes[cell]);
        cells->known[cell] = unit + 1;
    }
    return &cells->lanes[cell];
}

void ht_lane_feed(const ht_lane_group *group, const float *e, float *c) {
    for (size_t p = 0; p < ht_panels(group->count); p++)
        for (size_t k = 0; k < group->depth; k += HT_DENSE_DEPTH) {
            size_t depth = group->depth - k < HT_DENSE_DEPTH ? group->depth - k : HT_DENSE_DEPTH;
            group->tile(group->panel + p * group->step + k * HT_LANE_PANEL, e + k * HT_LANES, depth,
                        c + p * HT_LANE_PANEL * HT_LANES, HT_LANES);
        }
}

static int finished(const ht_lane_walk *out) {
    int going = 0;
    for (size_t i = 0; out->most && i < HT_LANES; i++)
        going += out->cost[i] < out->most[i];
    return out->most && !going;
}

/* e = weight - q; cost and rest of the position. */
static void note(const float *weight, const float *t, const float *q, float pivot, float *e, float *rest, float *cost) {
    float d[HT_LANES];
    for (size_t i = 0; i < HT_LANES; i++)
        e[i] = weight[i] - q[i];
    if (!rest && !cost)
        return;
    for (size_t i = 0; i < HT_LANES; i++)
        d[i] = t[i] - q[i];
    for (size_t i = 0; rest && i < HT_LANES; i++)
        rest[i] = pivot * d[i];
    for (size_t i = 0; cost && i < HT_LANES; i++)
        cost[i] += pivot * d[i] * d[i];
}

void ht_lane_walk_group(const ht_lane_group *group, ht_lane_cells *cells, const float *weight, float *t, float *e,
                        const ht_lane_walk *out) {
    for (size_t first = 0; first < group->count; first += HT_LANE_PANEL) {
        const float *panel = group->panel + first / HT_LANE_PANEL * group->step + group->depth * HT_LANE_PANEL;
        size_t end = first + HT_LANE_PANEL < group->count ? first + HT_LANE_PANEL : group->count;
        for (size_t k = 0; k < first; k += HT_DENSE_DEPTH)
            group->tile(panel + k * HT_LANE_PANEL, e + k * HT_LANES,
                        first - k < HT_DENSE_DEPTH ? first - k : HT_DENSE_DEPTH, t + first * HT_LANES, HT_LANES);
        for (size_t i = first; i < end; i++) {
            float aim[HT_LANES], value[HT_LANES], *x = t + i * HT_LANES, *error = e + i * HT_LANES;
            uint8_t code[HT_LANES];
            memcpy(aim, x, sizeof aim);
            for (size_t l = 0; out->pruned && l < HT_LANES; l++)
                aim[l] = out->pruned[group->order[i] * HT_LANES + l] ? 0 : aim[l];
            if (cells)
                ht_grid_round_lanes(group->grid, ht_lane_cells_of(cells, group->order[i]), aim, value, code);
            note(weight + i * HT_LANES, x, cells ? value : aim, (float)group->pivot[i], error,
                 out->rest ? out->rest + i * HT_LANES : NULL, out->cost);
            if (out->codes)
                memcpy(out->codes + group->order[i] * HT_LANES, code, sizeof code);
            group->spread(error, panel + i * HT_LANE_PANEL + i + 1 - first, end - i - 1, t + (i + 1) * HT_LANES);
        }
        if (finished(out))
            return;
    }
}
