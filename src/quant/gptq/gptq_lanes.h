/* The walk over columns for HT_GRID_LANES rows at once: rows in lanes, positions one after the other.
 *
 *     values    [positions, HT_GRID_LANES]      of a strip of rows: one vector a column
 *     panels    12 positions side by side, for every position before them (kernels/dense.h): F or H as the tile wants
 * it
 *
 * So the sums over finished columns are dense tiles whose right side is the errors as they lie, and rounding has a
 * column of every row at a time. */
#ifndef HT_QUANT_GPTQ_GPTQ_LANES_H
#define HT_QUANT_GPTQ_GPTQ_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/dense.h"
#include "quant/grid/grid.h"

enum { HT_LANES = HT_GRID_LANES, HT_LANE_PANEL = HT_DENSE_ROWS };

/* Positions of a group side by side, and what comes before them. Panel p holds its positions p * HT_LANE_PANEL ...: for
 * each of `depth` positions before the group and then for each of the group, HT_LANE_PANEL coefficients; zero where the
 * row is not before the column. */
typedef struct ht_lane_group {
    const ht_grid *grid;
    ht_dense_fn *tile;
    ht_spread_fn *spread;
    const uint32_t *order; /* [count] columns */
    const double *pivot;   /* [count] what an error costs */
    const float *panel;
    size_t step; /* floats from a panel to the next */
    size_t depth, count;
} ht_lane_group;

static inline size_t ht_panels(size_t count) {
    return (count + HT_LANE_PANEL - 1) / HT_LANE_PANEL;
}

/* Cells of the rows of a strip, gathered when a column needs them. */
typedef struct ht_lane_cells {
    const ht_grid *grid;
    const ht_grid_cell *base; /* of the first row */
    size_t row_step, rows;
    int one_unit;                /* base holds the cells of the unit at work alone */
    size_t known[HT_GRID_CELLS]; /* unit + 1 whose cell is in lanes[] */
    ht_grid_lanes lanes[HT_GRID_CELLS];
} ht_lane_cells;

void ht_lane_cells_begin(ht_lane_cells *cells, const ht_grid *grid, const ht_grid_cell *base, size_t row_step,
                         size_t rows, int one_unit);
const ht_grid_lanes *ht_lane_cells_of(ht_lane_cells *cells, size_t column);

/* c [count, HT_LANES] += what the group's positions before it (`depth` of them, e) say. Writes zeros of a last panel
 * beyond count into up to HT_LANE_PANEL - 1 further rows of c (adds them: what is there stays). */
void ht_lane_feed(const ht_lane_group *group, const float *e, float *c);

/* What a walk heeds and where it leaves things; each may be NULL. */
typedef struct ht_lane_walk {
    const uint8_t *pruned; /* by column: [cols, HT_LANES] rounded as if they were 0 */
    uint8_t *codes;        /* by column: [cols, HT_LANES] */
    float *rest;           /* [count, HT_LANES] pivot * (t - q) */
    float *cost;           /* [HT_LANES] += pivot * (t - q)^2 */
    const float *most;     /* [HT_LANES] stop when every lane's cost has reached it */
} ht_lane_walk;

/* t [count + HT_LANE_PANEL, HT_LANES] targets that lack the group's own errors; they are added on the way. weight, e
 * [count, HT_LANES]; e gets weight - q. cells NULL: nothing is rounded, q = t,
 * or 0. */
void ht_lane_walk_group(const ht_lane_group *group, ht_lane_cells *cells, const float *weight, float *t, float *e,
                        const ht_lane_walk *out);

#endif
