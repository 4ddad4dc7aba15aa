/* A strip of rows at once: rounding a column of all of them, and choosing the cells of a unit for all of them.
 *
 *     x [unit, HT_GRID_LANES]     | column 0: rows 0 .. 31 | column 1: rows 0 .. 31 | ...
 *
 * The definition is the row at a time (grid.c): same trials in the same order, the sums of a lane in the order of
 * columns, so cells have the same bits. A trial ends early when no lane can win any more: its terms are not negative.
 * What has no way over lanes (families that fit with an encoder of their own, rules that round_lanes does not take,
 * values that are not finite) goes row by row.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy */

#include "quant/grid/grid.h"

enum { LOOK = 8 }; /* columns between two looks at whether a trial is lost */

void ht_grid_gather(const ht_grid_cell *cells, size_t step, size_t rows, ht_grid_lanes *lanes) {
    for (size_t i = 0; i < HT_GRID_LANES; i++) {
        const ht_grid_cell *cell = cells + (i < rows ? i : rows - 1) * step;
        lanes->scale[i] = cell->scale;
        lanes->offset[i] = cell->offset;
        lanes->factor[i] = cell->factor;
        lanes->zero[i] = cell->zero;
        lanes->cell[i] = cell;
    }
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        lanes->inverse[i] = 1 / lanes->scale[i];
}

void ht_grid_round_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values,
                         uint8_t *codes) {
    const ht_grid_family *family = grid->family;
    if (family->round_lanes && family->round_lanes(grid, lanes, x, values, codes))
        return;
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        family->round(grid, lanes->cell[i], x + i, 1, values + i, codes + i);
}

static int is_lost(const float *sum, const float *most) {
    int going = 0;
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        going += sum[i] < most[i];
    return !going;
}

void ht_grid_error_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, const float *weight, size_t n,
                         const float *most, float *error) {
    float sum[HT_GRID_LANES] = {0}, values[HT_GRID_LANES];
    uint8_t codes[HT_GRID_LANES];
    for (size_t c = 0; c < n; c++) {
        const float *column = x + c * HT_GRID_LANES, w = weight ? weight[c] : 1;
        ht_grid_round_lanes(grid, lanes, column, values, codes);
        for (size_t i = 0; i < HT_GRID_LANES; i++) {
            float difference = column[i] - values[i];
            sum[i] += w * difference * difference;
        }
        if (c % LOOK == LOOK - 1 && is_lost(sum, most))
            break;
    }
    memcpy(error, sum, sizeof sum);
}

void ht_grid_strip_row(const ht_grid_strip *strip, size_t row, float *out) {
    for (size_t c = 0; c < strip->grid->unit; c++)
        out[c] = strip->x[c * HT_GRID_LANES + row];
}

/* --- Row by row ------------------------------------------------------------------------------------------------- */

static void choose_rows(const ht_grid_strip *strip, int searched, const ht_grid_cell *frozen) {
    float x[HT_GRID_UNIT];
    for (size_t r = 0; r < strip->rows; r++) {
        ht_grid_strip_row(strip, r, x);
        ht_grid_choose(strip->grid, x, strip->weight, searched, frozen + r * strip->step,
                       strip->cells + r * strip->step);
    }
}

static int is_finite(const ht_grid_strip *strip) {
    float sum[HT_GRID_LANES] = {0}, all = 0; /* 0 * x is 0, or NaN */
    for (size_t c = 0; c < strip->grid->unit; c++)
        for (size_t i = 0; i < HT_GRID_LANES; i++)
            sum[i] += 0 * strip->x[c * HT_GRID_LANES + i];
    for (size_t i = 0; i < strip->rows; i++)
        all += sum[i];
    return all == 0;
}

/* --- Scales near the format's own ------------------------------------------------------------------------------- */

typedef struct trial {
    ht_grid_cell cell[HT_GRID_LANES];
    float error[HT_GRID_LANES], least[HT_GRID_LANES];
} trial;

/* Cells `step` places from the first ones; their errors, INFINITY where there is no such cell. 0: nowhere is. */
static int try_step(const ht_grid_strip *strip, const ht_grid_cell *start, int step, size_t first, trial *t) {
    const ht_grid *grid = strip->grid;
    ht_grid_lanes lanes;
    int there[HT_GRID_LANES], any = 0;
    for (size_t r = 0; r < strip->rows; r++) {
        t->cell[r] = start[r];
        any |= there[r] = grid->family->vary(grid, &start[r], step, &t->cell[r]);
    }
    if (!any)
        return 0;
    ht_grid_gather(t->cell, 1, strip->rows, &lanes);
    ht_grid_error_lanes(grid, &lanes, strip->x + first * HT_GRID_LANES, strip->weight ? strip->weight + first : NULL,
                        grid->width, t->least, t->error);
    for (size_t r = 0; r < strip->rows; r++)
        t->error[r] = there[r] ? t->error[r] : INFINITY;
    return 1;
}

static void search_steps(const ht_grid_strip *strip) {
    const ht_grid_family *family = strip->grid->family;
    for (size_t c = 0; c < family->cells; c++) {
        ht_grid_cell start[HT_GRID_LANES], *cells = strip->cells + c;
        ht_grid_lanes lanes;
        trial t;
        for (size_t r = 0; r < HT_GRID_LANES; r++)
            t.least[r] = INFINITY;
        for (size_t r = 0; r < strip->rows; r++)
            start[r] = cells[r * strip->step];
        ht_grid_gather(start, 1, strip->rows, &lanes);
        ht_grid_error_lanes(strip->grid, &lanes, strip->x + c * strip->grid->width * HT_GRID_LANES,
                            strip->weight ? strip->weight + c * strip->grid->width : NULL, strip->grid->width, t.least,
                            t.error);
        memcpy(t.least, t.error, sizeof t.least);
        for (int step = family->least; step <= family->most; step++)
            if (step && try_step(strip, start, step, c * strip->grid->width, &t))
                ht_grid_keep(strip->rows, t.error, t.cell, 1, t.least, cells, strip->step);
    }
}

void ht_grid_keep(size_t rows, const float *error, const ht_grid_cell *cells, size_t step, float *least,
                  ht_grid_cell *best, size_t best_step) {
    for (size_t r = 0; r < rows; r++)
        if (error[r] < least[r]) {
            least[r] = error[r];
            best[r * best_step] = cells[r * step];
        }
}

void ht_grid_choose_lanes(const ht_grid_strip *strip, int searched, const ht_grid_cell *frozen) {
    const ht_grid *grid = strip->grid;
    const ht_grid_family *family = grid->family;
    int by_row = family->choose || (searched && (!grid->lanes || (family->search && !family->search_lanes)));
    if (by_row || !is_finite(strip)) {
        choose_rows(strip, searched, frozen);
        return;
    }
    ht_grid_choose_plainly(strip, searched);
    if (searched && family->search_lanes)
        family->search_lanes(strip);
    else if (searched)
        search_steps(strip);
}
