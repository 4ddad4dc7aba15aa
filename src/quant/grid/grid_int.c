/* Grids of integers and of code books.
 *
 * Integers are searched over ranges shrunk by 1 - k/40 and widened by one step, symmetric ones then by the scale with
 * the least weighted error for the codes found (a linear problem), rounded as the plane holds it; with a zero point its
 * two neighbours are tried as well. Code books have a scale per block of a row, plain, or a code into the 8-bit dynamic
 * map times a number of the row, which stays as rounding to nearest chose it.
 * Source: formats specification, sections 4, 6.2 to 6.4; algorithms specification, sections 1.5 (mse) and 2.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/grid/grid.h"

#include <math.h> /* isinf */

#include "format/bits.h"
#include "format/map.h"
#include "format/pack.h"
#include "format/tile.h"

/* --- Integers --------------------------------------------------------------------------------------------- */

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
            q[i] = clamp(nearest(x[i] * (1 / lanes->scale[i])) + lanes->zero[i], least, most);
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

enum { SHRINKS = 20, SHRINK_CELLS = 40 };

static void keep_better(const ht_grid *grid, const float *x, const float *weight, const ht_grid_cell *trial,
                        float *least, ht_grid_cell *best) {
    float error = ht_grid_error(grid, trial, x, weight, grid->unit);
    if (error < *least) {
        *least = error;
        *best = *trial;
    }
}

/* The scale with the least weighted error for the codes of the best cell. */
static void solve_scale(const ht_grid *grid, const float *x, const float *weight, float *least, ht_grid_cell *best) {
    for (int round = 0; round < 3; round++) {
        float values[HT_GRID_UNIT], before = *least;
        uint8_t codes[HT_GRID_UNIT];
        double xq = 0, qq = 0;
        int_round(grid, best, x, grid->unit, values, codes);
        for (size_t i = 0; i < grid->unit; i++) {
            double w = weight ? (double)weight[i] : 1;
            double q = (double)(grid->affine.qmin < 0 ? (float)(int8_t)codes[i] : (float)codes[i]) - best->zero;
            xq += w * (double)x[i] * q;
            qq += w * q * q;
        }
        if (!(qq > 0) || !(xq > 0))
            return;
        ht_grid_cell trial = *best;
        trial.scale = ht_scale_round(grid->format.scale, (float)(xq / qq));
        keep_better(grid, x, weight, &trial, least, best);
        if (!(*least < before))
            return;
    }
}

static void int_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    ht_row_options how = grid->how;
    const ht_values values = {x, HT_F32, grid->unit};
    const ht_tile all = {0, 1, 0, grid->unit};
    float min, max, amax = ht_f32_from_bits(ht_tile_amax(&values, &all)), least = INFINITY;
    how.scale_rule = HT_SCALE_DEFAULT;
    min = -amax;
    max = amax;
    if (grid->format.zero != HT_DTYPE_NONE || how.int_rule == HT_INT_NO_CLIP)
        ht_tile_min_max(&values, &all, &min, &max);
    for (int k = 0; k <= SHRINKS; k++) {
        float factor = k == SHRINKS ? 1 + 1.0f / SHRINK_CELLS : 1 - (float)k / SHRINK_CELLS;
        ht_affine a = grid->affine;
        ht_affine_choose(&grid->format, &how, min * factor, max * factor, &a);
        for (int move = -1; move <= 1; move++) { /* of the zero point */
            if (move && (grid->format.zero == HT_DTYPE_NONE || a.float_zero))
                continue;
            float zero = a.zero + (float)move;
            if (!a.float_zero && (zero < (float)a.qmin || zero > (float)a.qmax) && move)
                continue;
            ht_grid_cell trial = int_cell(grid, a.scale, zero);
            keep_better(grid, x, weight, &trial, &least, cells);
        }
    }
    if (!grid->affine.float_zero)
        solve_scale(grid, x, weight, &least, cells);
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
                                    .search = int_search};

/* --- Code books -------------------------------------------------------------------------------------------- */

static ht_grid_cell book_cell(float scale) {
    return (ht_grid_cell){.scale = scale, .factor = 1.0f / scale};
}

static size_t nest_index(const ht_grid *grid, size_t row, size_t unit) {
    size_t in_row = grid->cols / grid->unit, nests = (in_row + grid->format.block2 - 1) / grid->format.block2;
    return row * nests + unit / grid->format.block2;
}

static ht_grid_cell nested_cell(unsigned code, float scale2) {
    ht_grid_cell cell = book_cell(ht_map_unsigned_8[code] * scale2);
    cell.code[0] = (int16_t)code;
    cell.offset = scale2;
    return cell;
}

static void book_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    size_t index = row * (grid->cols / grid->unit) + unit;
    if (!grid->format.block2)
        *cells = book_cell(((const float *)planes->plane[HT_PLANE_SCALES])[index]);
    else
        *cells = nested_cell(((const uint8_t *)planes->plane[HT_PLANE_SCALES])[index],
                             ((const float *)planes->plane[HT_PLANE_SCALES2])[nest_index(grid, row, unit)]);
}

static void book_choose(const ht_grid *grid, const float *x, ht_grid_cell *cells) {
    float amax = ht_finite_amax(x, grid->unit), scale2 = cells->offset;
    if (!grid->format.block2)
        *cells = book_cell(amax);
    else
        *cells = nested_cell(ht_map_encode(ht_map_unsigned_8, 256, scale2 > 0 ? amax / scale2 : 0), scale2);
}

static void book_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                       uint8_t *codes) {
    for (size_t i = 0; i < n; i++) {
        float v = isinf(cell->factor) ? x[i] / cell->scale : x[i] * cell->factor;
        unsigned code = cell->scale > 0 ? ht_codebook_encode(grid->book, v) : grid->book->zero;
        codes[i] = (uint8_t)code;
        values[i] = grid->book->value[code] * cell->scale;
    }
}

static int book_vary(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out) {
    if (!grid->format.block2) {
        *out = book_cell(from->scale * (1 - (float)step / 40));
        return 1;
    }
    int code = from->code[0] - step;
    if (code < 1 || code > 255)
        return 0;
    *out = nested_cell((unsigned)code, from->offset);
    return 1;
}

static void book_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                       const uint8_t *codes) {
    size_t index = row * (grid->cols / grid->unit) + unit;
    if (!grid->format.block2)
        ((float *)planes->plane[HT_PLANE_SCALES])[index] = cells->scale;
    else
        ((uint8_t *)planes->plane[HT_PLANE_SCALES])[index] = (uint8_t)cells->code[0];
    ht_pack_codes(HT_PACK_HIGH, 4, codes, grid->unit,
                  (uint8_t *)planes->plane[HT_PLANE_CODES] + (row * grid->cols + unit * grid->unit) / 2);
}

const ht_grid_family ht_grid_codebook = {.family = HT_FAMILY_CODEBOOK,
                                         .cells = 1,
                                         .zero = 1,
                                         .load = book_load,
                                         .round = book_round,
                                         .store = book_store,
                                         .vary = book_vary,
                                         .least = -2,
                                         .most = 14,
                                         .choose = book_choose};
