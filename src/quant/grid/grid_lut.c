/* Grid of tables (format/lut.h): a value's neighbours are the entries of its tile's table, which rows share.
 *
 * Tables are chosen before codes are: ht_grid_refit fits them anew to weights whose columns count by importance (the
 * diagonal of H), exactly as the encoder does without; the walk of gptq then moves codes under fixed tables.
 * Source: algorithms specification, section 2.6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/pool.h"
#include "format/lut.h"
#include "format/pack.h"
#include "quant/grid/grid.h"

static uint16_t *table_of(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit) {
    size_t tile = row / grid->format.block_rows * (grid->cols / grid->unit) + unit;
    return (uint16_t *)planes->plane[HT_PLANE_SCALES] + (tile << ht_dtype_bits(grid->format.element));
}

static void lut_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    const uint16_t *table = table_of(grid, planes, row, unit);
    unsigned entries = 1u << ht_dtype_bits(grid->format.element);
    float range = ht_f32_from_f16(table[entries - 1]) - ht_f32_from_f16(table[0]);
    *cells = (ht_grid_cell){.scale = range / (float)entries, .table = table};
}

static void lut_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                      uint8_t *codes) {
    unsigned bits = ht_dtype_bits(grid->format.element);
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)ht_lut_encode(cell->table, bits, x[i]);
        values[i] = ht_f32_from_f16(cell->table[codes[i]]);
    }
}

static void lut_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                      const uint8_t *codes) {
    unsigned bits = ht_dtype_bits(grid->format.element);
    size_t stride = ht_packed_bytes(HT_PACK_BITS, bits, grid->cols);
    (void)cells; /* tables are in their plane */
    ht_pack_codes(HT_PACK_BITS, bits, codes, grid->unit,
                  (uint8_t *)planes->plane[HT_PLANE_CODES] + row * stride +
                      ht_packed_bytes(HT_PACK_BITS, bits, unit * grid->unit));
}

/* Tables and codes of the rows from `row` on that share them. */
static void lut_refit(const ht_grid *grid, const ht_planes *planes, const float *weight, const float *importance,
                      size_t row) {
    float x[HT_LUT_VALUES], counts[HT_LUT_VALUES], values[HT_GRID_UNIT];
    uint8_t codes[HT_GRID_UNIT];
    size_t rows = grid->rows - row < grid->format.block_rows ? grid->rows - row : grid->format.block_rows;
    for (size_t unit = 0; unit < grid->cols / grid->unit; unit++) {
        size_t first = unit * grid->unit;
        for (size_t i = 0; i < rows * grid->unit; i++) {
            size_t column = first + i % grid->unit;
            x[i] = weight[(row + i / grid->unit) * grid->cols + column];
            counts[i] = importance && importance[column] > 1e-6f ? importance[column] : importance ? 1e-6f : 1;
        }
        ht_grid_cell cell = {.table = table_of(grid, planes, row, unit)};
        ht_lut_fit(x, counts, rows * grid->unit, ht_dtype_bits(grid->format.element),
                   table_of(grid, planes, row, unit));
        for (size_t r = 0; r < rows; r++) {
            lut_round(grid, &cell, x + r * grid->unit, grid->unit, values, codes);
            lut_store(grid, planes, row + r, unit, &cell, codes);
        }
    }
}

const ht_grid_family ht_grid_lut = {
    .family = HT_FAMILY_LUT, .cells = 1, .load = lut_load, .round = lut_round, .store = lut_store, .refit = lut_refit};

typedef struct refit {
    const ht_grid *grid;
    const ht_planes *planes;
    const float *weight, *importance;
} refit;

static ht_status refit_rows(void *arg, size_t index, size_t worker) {
    const refit *r = arg;
    (void)worker;
    r->grid->family->refit(r->grid, r->planes, r->weight, r->importance, index * r->grid->format.block_rows);
    return HT_OK;
}

ht_status ht_grid_refit(ht_context *ctx, const ht_grid *grid, const ht_planes *planes, const float *weight,
                        const float *importance) {
    refit r = {grid, planes, weight, importance};
    size_t height = grid->format.block_rows;
    if (!grid->family->refit)
        return HT_OK;
    return ht_parallel_for(ctx, (grid->rows + height - 1) / height, refit_rows, &r);
}
