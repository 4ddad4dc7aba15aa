/* Grids of the families with small float elements: MX (power-of-two scale), NVFP4 (e4m3 scale times the matrix'
 * number), FP8 (scale per row, group, tile or matrix). Rounding and decoding are those of src/format, step by step, so
 * that codes for the same scale are the same. Source: formats specification, sections 2.2, 3.1 and 6.6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/grid/grid.h"

#include <float.h>

#include "format/bits.h"
#include "format/lanes.h"
#include "format/pack.h"
#include "format/tile.h"

enum { PIECE = 256 };

/* Number of the scale of a unit. */
static size_t scale_index(const ht_grid *grid, size_t row, size_t unit) {
    size_t height = grid->format.block_rows ? grid->format.block_rows : grid->rows;
    return row / height * ((grid->cols + grid->unit - 1) / grid->unit) + unit;
}

/* codes of y, then what they decode to times the cell's scale. */
static void finish(const ht_grid *grid, const ht_grid_cell *cell, const float *y, size_t n, float *values,
                   uint8_t *codes) {
    ht_lanes_encode(grid->format.element, y, n, codes);
    for (size_t i = 0; i < n; i++)
        values[i] = grid->values[codes[i]] * cell->scale;
}

static void round_multiplied(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                             uint8_t *codes) {
    float y[PIECE];
    for (size_t at = 0; at < n; at += PIECE) {
        size_t part = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < part; i++)
            y[i] = x[at + i] * cell->factor;
        finish(grid, cell, y, part, values + at, codes + at);
    }
}

static void round_divided(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                          uint8_t *codes) {
    ht_dtype type = grid->format.family == HT_FAMILY_FLOAT8 && grid->format.scale == grid->how.arithmetic
                        ? grid->format.scale
                        : HT_F32;
    float y[PIECE];
    for (size_t at = 0; at < n; at += PIECE) {
        size_t part = n - at < PIECE ? n - at : PIECE;
        for (size_t i = 0; i < part; i++)
            y[i] = ht_round_to(type, x[at + i] / cell->factor);
        finish(grid, cell, y, part, values + at, codes + at);
    }
}

static int finish_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *y, float *values,
                        uint8_t *codes) {
    ht_lanes_encode(grid->format.element, y, HT_GRID_LANES, codes);
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        values[i] = grid->values[codes[i]] * lanes->scale[i];
    return 1;
}

static int multiplied_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values,
                            uint8_t *codes) {
    float y[HT_GRID_LANES];
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        y[i] = x[i] * lanes->factor[i];
    return finish_lanes(grid, lanes, y, values, codes);
}

static int divided_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values,
                         uint8_t *codes) {
    float y[HT_GRID_LANES];
    if (grid->format.family == HT_FAMILY_FLOAT8 && grid->format.scale == grid->how.arithmetic &&
        grid->format.scale != HT_F32)
        return 0;
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        y[i] = x[i] / lanes->factor[i];
    return finish_lanes(grid, lanes, y, values, codes);
}

static void pack_codes(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const uint8_t *codes) {
    unsigned bits = ht_dtype_bits(grid->format.element);
    uint8_t *packed = planes->plane[HT_PLANE_CODES];
    size_t stride = ht_packed_bytes(grid->format.packing, bits, grid->cols);
    size_t width = grid->cols - unit * grid->unit < grid->unit ? grid->cols - unit * grid->unit : grid->unit;
    ht_pack_codes(grid->format.packing, bits, codes, width,
                  packed + row * stride + ht_packed_bytes(grid->format.packing, bits, unit * grid->unit));
}

/* --- MX --------------------------------------------------------------------------------------------------- */

static ht_grid_cell mx_cell(int byte) {
    uint8_t stored = (uint8_t)byte;
    ht_grid_cell cell = {.code = {(int16_t)byte, 0}};
    ht_lanes_decode(HT_E8M0, &stored, 1, &cell.scale);
    cell.factor = ht_f32_from_bits(byte == 254 ? 0x00400000u : (254u - (unsigned)byte) << 23);
    return cell;
}

static void mx_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    *cells = mx_cell(((const uint8_t *)planes->plane[HT_PLANE_SCALES])[scale_index(grid, row, unit)]);
}

static int mx_vary(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out) {
    int byte = from->code[0] + step;
    (void)grid;
    if (byte < 0 || byte > 254)
        return 0;
    *out = mx_cell(byte);
    return 1;
}

static void byte_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                       const uint8_t *codes) {
    if (ht_grid_owns_scale(grid, row))
        ((uint8_t *)planes->plane[HT_PLANE_SCALES])[scale_index(grid, row, unit)] = (uint8_t)cells->code[0];
    pack_codes(grid, planes, row, unit, codes);
}

const ht_grid_family ht_grid_mx = {.family = HT_FAMILY_MX,
                                   .cells = 1,
                                   .zero = 1,
                                   .load = mx_load,
                                   .round = round_multiplied,
                                   .round_lanes = multiplied_lanes,
                                   .store = byte_store,
                                   .vary = mx_vary,
                                   .least = -1,
                                   .most = 1};

/* --- NVFP4 ------------------------------------------------------------------------------------------------ */

static ht_grid_cell nvfp4_cell(const ht_grid *grid, int code) {
    float scale = ht_f32_from_e4m3((uint8_t)code);
    return (ht_grid_cell){.code = {(int16_t)code, 0},
                          .scale = grid->nvfp4.divides ? scale / grid->global : scale * grid->global,
                          .factor = ht_nvfp4_encode_factor(&grid->nvfp4, scale)};
}

static void nvfp4_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    *cells = nvfp4_cell(grid, ((const uint8_t *)planes->plane[HT_PLANE_SCALES])[scale_index(grid, row, unit)]);
}

static int nvfp4_vary(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out) {
    int code = from->code[0] + step;
    if (code < 1 || code > 0x7e)
        return 0;
    *out = nvfp4_cell(grid, code);
    return 1;
}

static void nvfp4_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                        uint8_t *codes) {
    if (grid->nvfp4.divides && !grid->nvfp4.training)
        round_divided(grid, cell, x, n, values, codes);
    else
        round_multiplied(grid, cell, x, n, values, codes);
}

static int nvfp4_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values, uint8_t *codes) {
    int divides = grid->nvfp4.divides && !grid->nvfp4.training;
    return (divides ? divided_lanes : multiplied_lanes)(grid, lanes, x, values, codes);
}

const ht_grid_family ht_grid_nvfp4 = {.family = HT_FAMILY_NVFP4,
                                      .cells = 1,
                                      .zero = 1,
                                      .load = nvfp4_load,
                                      .round = nvfp4_round,
                                      .round_lanes = nvfp4_lanes,
                                      .store = byte_store,
                                      .vary = nvfp4_vary,
                                      .least = -4,
                                      .most = 6};

/* --- FP8 -------------------------------------------------------------------------------------------------- */

static void float8_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    float scale = ht_scale_load(grid->format.scale, planes->plane[HT_PLANE_SCALES], scale_index(grid, row, unit));
    *cells = (ht_grid_cell){.scale = scale, .factor = scale};
}

static int float8_vary(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out) {
    float scale = ht_scale_round(grid->format.scale, from->scale * (1 - (float)step / 32));
    if (grid->how.power_of_two)
        return 0;
    *out = (ht_grid_cell){.scale = scale, .factor = scale};
    return 1;
}

static void float8_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit,
                         const ht_grid_cell *cells, const uint8_t *codes) {
    if (ht_grid_owns_scale(grid, row))
        ht_scale_store(grid->format.scale, planes->plane[HT_PLANE_SCALES], scale_index(grid, row, unit), cells->scale);
    pack_codes(grid, planes, row, unit, codes);
}

const ht_grid_family ht_grid_float8 = {.family = HT_FAMILY_FLOAT8,
                                       .cells = 1,
                                       .zero = 1,
                                       .load = float8_load,
                                       .round = round_divided,
                                       .round_lanes = divided_lanes,
                                       .store = float8_store,
                                       .vary = float8_vary,
                                       .least = 1,
                                       .most = 12};
