/* Grids of integers.
 *
 * Integers are searched over ranges shrunk by 1 - k/40 and widened by one step, symmetric ones then by the scale with
 * the least weighted error for the codes found (a linear problem), rounded as the plane holds it; with a zero point its
 * two neighbours are tried as well. A row at a time is the definition, a strip of rows does the same over lanes.
 * Source: formats specification, sections 6.2 to 6.4; algorithms specification, sections 1.5 (mse) and 2.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/grid/grid.h"

#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy */

#include "format/bits.h"
#include "format/pack.h"
#include "format/tile.h"

static size_t scale_index(const ht_grid *grid, size_t row, size_t unit) {
    size_t height = grid->format.block_rows ? grid->format.block_rows : grid->rows;
    return row / height * ((grid->cols + grid->unit - 1) / grid->unit) + unit;
}

static ht_affine affine_of(const ht_grid *grid, const ht_grid_cell *cell) {
    ht_affine a = grid->affine;
    a.scale = cell->scale;
    a.zero = a.float_zero ? cell->offset : (float)cell->zero;
    a.start = cell->factor;
    return a;
}

static ht_grid_cell int_cell(const ht_grid *grid, float scale, float zero) {
    ht_dtype t = grid->affine.arithmetic;
    float half = (float)((grid->affine.qmax - grid->affine.qmin + 1) / 2);
    ht_grid_cell cell = {.scale = scale};
    if (grid->affine.float_zero) {
        cell.offset = zero;
        cell.factor = ht_round_to(t, zero - ht_round_to(t, scale * half));
    } else {
        cell.zero = (int16_t)zero;
    }
    return cell;
}

static void int_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    size_t index = scale_index(grid, row, unit);
    const void *zeros = planes->plane[HT_PLANE_ZEROS];
    float zero = (float)grid->affine.middle;
    if (grid->format.zero == HT_I8)
        zero = ((const int8_t *)zeros)[index];
    else if (grid->format.zero == HT_U8)
        zero = ((const uint8_t *)zeros)[index];
    else if (grid->format.zero == HT_I32)
        zero = (float)((const int32_t *)zeros)[index];
    else if (grid->format.zero != HT_DTYPE_NONE)
        zero = ht_scale_load(grid->format.zero, zeros, index);
    *cells = int_cell(grid, ht_scale_load(grid->format.scale, planes->plane[HT_PLANE_SCALES], index), zero);
}

static void int_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                      uint8_t *codes) {
    const ht_affine a = affine_of(grid, cell);
    for (size_t at = 0; at < n; at += HT_TILE_CHUNK) {
        size_t part = n - at < HT_TILE_CHUNK ? n - at : HT_TILE_CHUNK;
        ht_affine_encode(&a, x + at, part, codes + at);
        ht_affine_decode(&a, codes + at, part, values + at);
    }
}

/* Nearest even by adding 1.5 * 2^23, |y| far below that. */
static inline float nearest(float y) {
    y = y < 2048 ? y : 2048;
    y = y > -2048 ? y : -2048;
    return (y + 0x1.8p23f) - 0x1.8p23f;
}

static inline float clamp(float q, float least, float most) {
    q = q < most ? q : most;
    return q > least ? q : least;
}

/* Steps of ht_affine_encode and ht_affine_decode in f32, with a cell a lane. */
static int int_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values, uint8_t *codes) {
    const ht_affine *a = &grid->affine;
    float least = (float)a->qmin, most = (float)a->qmax, middle = (float)a->middle, q[HT_GRID_LANES];
    if (a->code_arithmetic != HT_F32)
        return 0;
    if (a->float_zero)
        for (size_t i = 0; i < HT_GRID_LANES; i++)
            q[i] = clamp(nearest((x[i] - lanes->factor[i]) / lanes->scale[i]) + least, least, most);
    else if (a->divides)
        for (size_t i = 0; i < HT_GRID_LANES; i++)
            q[i] = clamp(nearest(x[i] / lanes->scale[i] + lanes->zero[i]), least, most);
    else
        for (size_t i = 0; i < HT_GRID_LANES; i++)
            q[i] = clamp(nearest(x[i] * lanes->inverse[i]) + lanes->zero[i], least, most);
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        codes[i] = (uint8_t)(int32_t)q[i];
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        values[i] = (q[i] - (a->float_zero ? middle : lanes->zero[i])) * lanes->scale[i];
    if (a->float_zero)
        for (size_t i = 0; i < HT_GRID_LANES; i++)
            values[i] += lanes->offset[i];
    return 1;
}

static void store_scale(const ht_grid *grid, const ht_planes *planes, size_t index, const ht_affine *a) {
    void *zeros = planes->plane[HT_PLANE_ZEROS];
    ht_scale_store(grid->format.scale, planes->plane[HT_PLANE_SCALES], index, a->scale);
    if (grid->format.zero == HT_I8 || grid->format.zero == HT_U8)
        ((uint8_t *)zeros)[index] = (uint8_t)(int)a->zero;
    else if (grid->format.zero == HT_I32)
        ((int32_t *)zeros)[index] = (int32_t)a->zero;
    else if (grid->format.zero != HT_DTYPE_NONE)
        ht_scale_store(grid->format.zero, zeros, index, a->zero);
}

static void int_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                      const uint8_t *codes) {
    const ht_affine a = affine_of(grid, cells);
    unsigned bits = ht_dtype_bits(grid->format.element);
    size_t index = scale_index(grid, row, unit), first = unit * grid->unit, done = 0;
    size_t width = grid->cols - first < grid->unit ? grid->cols - first : grid->unit;
    size_t stride = ht_format_plane_bytes(&grid->format, HT_PLANE_CODES, 1, grid->cols);
    int offset = grid->format.packing == HT_PACK_WORDS && a.qmin < 0 ? 1 << (bits - 1) : 0;
    if (ht_grid_owns_scale(grid, row))
        store_scale(grid, planes, index, &a);
    for (uint8_t shifted[HT_TILE_CHUNK]; done < width; done += HT_TILE_CHUNK) {
        size_t part = width - done < HT_TILE_CHUNK ? width - done : HT_TILE_CHUNK;
        for (size_t i = 0; i < part; i++)
            shifted[i] = (uint8_t)(codes[done + i] + offset);
        ht_pack_codes(grid->format.packing, bits, shifted, part,
                      (uint8_t *)planes->plane[HT_PLANE_CODES] + row * stride +
                          ht_packed_bytes(grid->format.packing, bits, first + done));
    }
}

enum { SHRINKS = 20, SHRINK_CELLS = 40, SOLVES = 3 };

static void keep_better(const ht_grid *grid, const float *x, const float *weight, const ht_grid_cell *trial,
                        float *least, ht_grid_cell *best) {
    float error = ht_grid_error(grid, trial, x, weight, grid->unit);
    if (error < *least) {
        *least = error;
        *best = *trial;
    }
}

/* Sums of a cell's values: weight * value * code, weight * code^2, code without its zero point. */
typedef struct fit {
    double xq, qq;
} fit;

static inline void add_code(const ht_grid *grid, float weight, float x, uint8_t code, int zero, fit *sum) {
    double w = (double)weight;
    double q = (double)(grid->affine.qmin < 0 ? (float)(int8_t)code : (float)code) - zero;
    sum->xq += w * (double)x * q;
    sum->qq += w * q * q;
}

/* The cell with the scale that the sums ask for; 0: there is none. */
static int solved_cell(const ht_grid *grid, const fit *sum, const ht_grid_cell *from, ht_grid_cell *out) {
    *out = *from;
    if (!(sum->qq > 0) || !(sum->xq > 0))
        return 0;
    out->scale = ht_scale_round(grid->format.scale, (float)(sum->xq / sum->qq));
    return 1;
}

/* The scale with the least weighted error for the codes of the best cell. */
static void solve_scale(const ht_grid *grid, const float *x, const float *weight, float *least, ht_grid_cell *best) {
    for (int round = 0; round < SOLVES; round++) {
        float values[HT_GRID_UNIT], before = *least;
        uint8_t codes[HT_GRID_UNIT];
        ht_grid_cell trial;
        fit sum = {0, 0};
        int_round(grid, best, x, grid->unit, values, codes);
        for (size_t i = 0; i < grid->unit; i++)
            add_code(grid, weight ? weight[i] : 1, x[i], codes[i], best->zero, &sum);
        if (!solved_cell(grid, &sum, best, &trial))
            return;
        keep_better(grid, x, weight, &trial, least, best);
        if (!(*least < before))
            return;
    }
}

/* Range of a unit as the rules see it. */
static void range_of(const ht_grid *grid, const float *x, float *min, float *max) {
    const ht_values values = {x, HT_F32, grid->unit};
    const ht_tile all = {0, 1, 0, grid->unit};
    *max = ht_f32_from_bits(ht_tile_amax(&values, &all));
    *min = -*max;
    if (grid->format.zero != HT_DTYPE_NONE || grid->how.int_rule == HT_INT_NO_CLIP)
        ht_tile_min_max(&values, &all, min, max);
}

/* Trial k: the range narrower, the last one wider. */
static ht_affine trial_at(const ht_grid *grid, float min, float max, int k) {
    ht_row_options how = grid->how;
    float factor = k == SHRINKS ? 1 + 1.0f / SHRINK_CELLS : 1 - (float)k / SHRINK_CELLS;
    ht_affine a = grid->affine;
    how.scale_rule = HT_SCALE_DEFAULT;
    ht_affine_choose(&grid->format, &how, min * factor, max * factor, &a);
    return a;
}

/* Its cell with the zero point moved; 0: there is none. */
static int moved_cell(const ht_grid *grid, const ht_affine *a, int move, ht_grid_cell *out) {
    float zero = a->zero + (float)move;
    if (move && !a->float_zero && (zero < (float)a->qmin || zero > (float)a->qmax))
        return 0;
    *out = int_cell(grid, a->scale, zero);
    return 1;
}

/* Steps of the zero point to try, to either side. */
static int moves_of(const ht_grid *grid) {
    return grid->format.zero != HT_DTYPE_NONE && !grid->affine.float_zero;
}

static void int_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    int moves = moves_of(grid);
    float min, max, least = INFINITY;
    range_of(grid, x, &min, &max);
    for (int k = 0; k <= SHRINKS; k++) {
        const ht_affine a = trial_at(grid, min, max, k);
        for (int move = -moves; move <= moves; move++) {
            ht_grid_cell trial;
            if (moved_cell(grid, &a, move, &trial))
                keep_better(grid, x, weight, &trial, &least, cells);
        }
    }
    if (!grid->affine.float_zero)
        solve_scale(grid, x, weight, &least, cells);
}

/* --- The same for a strip ------------------------------------------------------------------------------------- */

typedef struct strip_trial {
    ht_grid_cell cell[HT_GRID_LANES];
    int there[HT_GRID_LANES];
    float error[HT_GRID_LANES], least[HT_GRID_LANES];
} strip_trial;

/* Errors of the cells that are there; the best are kept. */
static void try_strip(const ht_grid_strip *strip, strip_trial *t) {
    ht_grid_lanes lanes;
    ht_grid_gather(t->cell, 1, strip->rows, &lanes);
    ht_grid_error_lanes(strip->grid, &lanes, strip->x, strip->weight, strip->grid->unit, t->least, t->error);
    for (size_t r = 0; r < strip->rows; r++)
        t->error[r] = t->there[r] ? t->error[r] : INFINITY;
    ht_grid_keep(strip->rows, t->error, t->cell, 1, t->least, strip->cells, strip->step);
}

/* Sums of all rows under their best cells. */
static void fit_strip(const ht_grid_strip *strip, fit sum[HT_GRID_LANES]) {
    const ht_grid *grid = strip->grid;
    ht_grid_lanes lanes;
    float values[HT_GRID_LANES];
    uint8_t codes[HT_GRID_LANES];
    ht_grid_gather(strip->cells, strip->step, strip->rows, &lanes);
    for (size_t c = 0; c < grid->unit; c++) {
        const float *x = strip->x + c * HT_GRID_LANES;
        int_lanes(grid, &lanes, x, values, codes);
        for (size_t i = 0; i < HT_GRID_LANES; i++)
            add_code(grid, strip->weight ? strip->weight[c] : 1, x[i], codes[i], (int)lanes.zero[i], &sum[i]);
    }
}

static void solve_strip(const ht_grid_strip *strip, strip_trial *t) {
    for (size_t r = 0; r < strip->rows; r++)
        t->there[r] = 1;
    for (int round = 0, going = 1; round < SOLVES && going; round++) {
        float before[HT_GRID_LANES];
        fit sum[HT_GRID_LANES] = {{0, 0}};
        memcpy(before, t->least, sizeof before);
        fit_strip(strip, sum);
        for (size_t r = 0; r < strip->rows; r++)
            t->there[r] = t->there[r] && solved_cell(strip->grid, &sum[r], &strip->cells[r * strip->step], &t->cell[r]);
        try_strip(strip, t);
        going = 0;
        for (size_t r = 0; r < strip->rows; r++)
            going |= t->there[r] = t->there[r] && t->least[r] < before[r];
    }
}

static void int_search_lanes(const ht_grid_strip *strip) {
    const ht_grid *grid = strip->grid;
    int moves = moves_of(grid);
    float min[HT_GRID_LANES], max[HT_GRID_LANES], x[HT_GRID_UNIT];
    strip_trial t;
    for (size_t r = 0; r < HT_GRID_LANES; r++)
        t.least[r] = r < strip->rows ? INFINITY : 0; /* lanes beyond do not hold a trial up */
    for (size_t r = 0; r < strip->rows; r++) {
        ht_grid_strip_row(strip, r, x);
        range_of(grid, x, &min[r], &max[r]);
    }
    for (int k = 0; k <= SHRINKS; k++) {
        ht_affine a[HT_GRID_LANES];
        for (size_t r = 0; r < strip->rows; r++)
            a[r] = trial_at(grid, min[r], max[r], k);
        for (int move = -moves; move <= moves; move++) {
            for (size_t r = 0; r < strip->rows; r++)
                if (!(t.there[r] = moved_cell(grid, &a[r], move, &t.cell[r])))
                    t.cell[r] = int_cell(grid, a[r].scale, a[r].zero);
            try_strip(strip, &t);
        }
    }
    if (!grid->affine.float_zero)
        solve_strip(strip, &t);
}

static int int_vary(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out) {
    float scale = ht_scale_round(grid->format.scale, from->scale * (1 - (float)step / SHRINK_CELLS));
    *out = int_cell(grid, scale, grid->affine.float_zero ? from->offset : (float)from->zero);
    return 1;
}

const ht_grid_family ht_grid_int = {.family = HT_FAMILY_INT,
                                    .cells = 1,
                                    .zero = 1,
                                    .load = int_load,
                                    .round = int_round,
                                    .round_lanes = int_lanes,
                                    .store = int_store,
                                    .vary = int_vary,
                                    .least = -4,
                                    .most = 8,
                                    .search = int_search,
                                    .search_lanes = int_search_lanes};
