/* The table of grids, and what is the same for all: choosing by the format's own rule, and the search of scales.
 *
 * The format's own rule needs no second implementation: the unit is quantized as a matrix of one row, and the cells are
 * read from its planes. The search starts there and takes, among the scales that the family offers as neighbours, the
 * one with the least weighted squared error; the first on ties, so that the own choice wins them.
 * Refuses: formats without an encoder or without a row here. Source: algorithms specification, sections 1.7, 1.8, 2.7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/grid/grid.h"

#include <string.h> /* memset */

#include "base/status.h"
#include "format/lanes.h"

static const ht_grid_family *const families[] = {&ht_grid_mx,       &ht_grid_nvfp4, &ht_grid_float8, &ht_grid_int,
                                                 &ht_grid_codebook, &ht_grid_q4_0,  &ht_grid_iq4_nl, &ht_grid_iq4_xs,
                                                 &ht_grid_q4_k,     &ht_grid_q5_k,  &ht_grid_q6_k,   &ht_grid_lut};

static const ht_grid_family *find(const ht_format *format) {
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (families[i]->family == format->family &&
            (format->family != HT_FAMILY_GGUF || families[i]->variant == format->variant))
            return families[i];
    return NULL;
}

ht_status ht_grid_supports(const ht_format *format) {
    char name[64];
    if (find(format))
        return HT_OK;
    ht_format_name(format, name, sizeof name);
    return ht_fail(HT_ERR_UNSUPPORTED, "codes of %s cannot be chosen one by one: use the method rtn", name);
}

ht_status ht_grid_has_zero(const ht_format *format) {
    const ht_grid_family *family = find(format);
    char name[64];
    int whole = format->zero == HT_DTYPE_NONE || format->zero == HT_I8 || format->zero == HT_U8 ||
                format->zero == HT_I32; /* a zero point that is a float leaves a rest */
    if (format->family == HT_FAMILY_PLAIN || (family && family->zero && whole))
        return HT_OK;
    ht_format_name(format, name, sizeof name);
    return ht_fail(HT_ERR_UNSUPPORTED, "%s cannot hold pruned weights: it has no code that is 0 under every scale",
                   name);
}

/* Do the rules let a column of many rows be rounded at once? */
static int has_lanes(const ht_grid *grid) {
    static const float x[HT_GRID_LANES];
    float values[HT_GRID_LANES];
    uint8_t codes[HT_GRID_LANES];
    ht_grid_lanes lanes;
    for (size_t i = 0; i < HT_GRID_LANES; i++)
        lanes.scale[i] = lanes.factor[i] = lanes.inverse[i] = 1, lanes.offset[i] = lanes.zero[i] = 0;
    return grid->family->round_lanes && grid->family->round_lanes(grid, &lanes, x, values, codes);
}

ht_status ht_grid_create(const ht_format *format, const ht_row_options *how, size_t rows, size_t cols, float global,
                         ht_grid *out) {
    HT_TRY(ht_grid_supports(format));
    HT_TRY(ht_format_check_shape(format, rows, cols));
    memset(out, 0, sizeof *out);
    out->family = find(format);
    out->format = *format;
    out->how = how ? *how : ht_row_options_default();
    if (out->how.arithmetic == HT_DTYPE_NONE)
        out->how.arithmetic = HT_F32;
    out->rows = rows;
    out->cols = cols;
    out->unit = format->block_cols && format->block_cols < cols ? format->block_cols : cols;
    out->width = out->unit / out->family->cells;
    out->shared = format->block_rows != 1;
    out->global = global;
    out->element = ht_element_find(format->element);
    if (format->family == HT_FAMILY_INT)
        out->affine = ht_affine_rules(format, &out->how);
    if (format->family == HT_FAMILY_NVFP4)
        out->nvfp4 = ht_nvfp4_rules_of(format, &out->how, global);
    if (format->family == HT_FAMILY_CODEBOOK)
        out->book = ht_codebook_at(format->variant);
    if (out->element && ht_dtype_bits(format->element) <= 8) {
        uint8_t codes[256];
        for (size_t i = 0; i < sizeof codes; i++)
            codes[i] = (uint8_t)(i & ((1u << ht_dtype_bits(format->element)) - 1));
        ht_lanes_decode(format->element, codes, sizeof codes, out->values);
    }
    out->lanes = has_lanes(out);
    return HT_OK;
}

void ht_grid_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    grid->family->load(grid, planes, row, unit, cells);
}

void ht_grid_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                   const uint8_t *codes) {
    grid->family->store(grid, planes, row, unit, cells, codes);
}

float ht_grid_error(const ht_grid *grid, const ht_grid_cell *cell, const float *x, const float *weight, size_t n) {
    float values[HT_GRID_UNIT], sum = 0;
    uint8_t codes[HT_GRID_UNIT];
    grid->family->round(grid, cell, x, n, values, codes);
    for (size_t i = 0; i < n; i++) {
        float difference = x[i] - values[i];
        sum += (weight ? weight[i] : 1) * difference * difference;
    }
    return sum;
}

/* Units of some rows (no more values than HT_GRID_UNIT) as a matrix of their own; cells `step` apart. */
static void choose_plainly(const ht_grid *grid, const ht_row_options *how, const float *x, size_t rows,
                           ht_grid_cell *cells, size_t step) {
    _Alignas(8) uint8_t codes[HT_GRID_UNIT + 16 * HT_GRID_LANES];
    float scale[HT_GRID_LANES + 1], zero[HT_GRID_LANES + 1], scale2[HT_GRID_LANES + 1], global = grid->global;
    ht_grid alone = *grid;
    ht_planes planes = {{codes, scale, zero, scale2, &global}};
    if (ht_format_quantize(&grid->format, how, x, HT_F32, rows, grid->unit, &planes) != HT_OK)
        return; /* cannot be: the format was checked */
    alone.rows = rows;
    alone.cols = grid->unit;
    for (size_t r = 0; r < rows; r++)
        grid->family->load(&alone, &planes, r, 0, cells + r * step);
}

/* Where a search starts, or the rule itself. */
static ht_row_options rule_of(const ht_grid *grid, int searched) {
    ht_row_options how = grid->how;
    if (searched)
        how.scale_rule = grid->format.family == HT_FAMILY_MX ? HT_SCALE_FLOOR : HT_SCALE_DEFAULT;
    return how;
}

void ht_grid_choose_plainly(const ht_grid_strip *strip, int searched) {
    const ht_row_options how = rule_of(strip->grid, searched);
    float x[HT_GRID_UNIT];
    size_t unit = strip->grid->unit, most = HT_GRID_UNIT / unit < HT_GRID_LANES ? HT_GRID_UNIT / unit : HT_GRID_LANES;
    for (size_t first = 0, rows; first < strip->rows; first += rows) {
        rows = strip->rows - first < most ? strip->rows - first : most;
        for (size_t r = 0; r < rows; r++)
            ht_grid_strip_row(strip, first + r, x + r * unit);
        choose_plainly(strip->grid, &how, x, rows, strip->cells + first * strip->step, strip->step);
    }
}

static void search_steps(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    const ht_grid_family *family = grid->family;
    for (size_t c = 0; c < family->cells; c++) {
        const float *xs = x + c * grid->width, *ws = weight ? weight + c * grid->width : NULL;
        ht_grid_cell start = cells[c], trial;
        float least = ht_grid_error(grid, &start, xs, ws, grid->width);
        for (int step = family->least; step <= family->most; step++) {
            if (step == 0 || !family->vary(grid, &start, step, &trial))
                continue;
            float error = ht_grid_error(grid, &trial, xs, ws, grid->width);
            if (error < least) {
                least = error;
                cells[c] = trial;
            }
        }
    }
}

void ht_grid_choose(const ht_grid *grid, const float *x, const float *weight, int searched, const ht_grid_cell *frozen,
                    ht_grid_cell *cells) {
    const ht_row_options how = rule_of(grid, searched);
    if (frozen)
        memcpy(cells, frozen, grid->family->cells * sizeof *cells);
    if (grid->family->choose)
        grid->family->choose(grid, x, cells);
    else if (!searched || grid->family->vary)
        choose_plainly(grid, &how, x, 1, cells, grid->family->cells);
    if (searched && grid->family->search)
        grid->family->search(grid, x, weight, cells);
    else if (searched)
        search_steps(grid, x, weight, cells);
}
