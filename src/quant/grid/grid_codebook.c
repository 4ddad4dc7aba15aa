/* Grids of code books: a scale per block of a row, plain, or a code into the 8-bit dynamic map times a number of the
 * row, which stays as rounding to nearest chose it. Searched over neighbouring scales. Source: formats specification,
 * section 4; algorithms specification, section 2.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/grid/grid.h"

#include <math.h> /* isinf */

#include "format/bits.h"
#include "format/map.h"
#include "format/pack.h"
#include "format/tile.h"

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
