/* Grids of GGUF blocks: Q4_0, IQ4_NL (one f16 scale for 32 values), IQ4_XS, Q6_K (integers times an f16 number), Q4_K
 * and Q5_K (the same, and minima).
 *
 * The searches of the encoders (gguf_fit.h, gguf_k.h) take the importance of a column as weight of its error. Q4_0's
 * encoder divides by its f32 scale before that is rounded to f16; here values are divided by the scale as stored, as
 * they are under the rule MSE. Source: formats specification, section 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/grid/grid.h"

#include <math.h>
#include <string.h> /* memcpy */

#include "format/gguf_block.h"
#include "format/gguf_fit.h"
#include "format/gguf_iq4.h"
#include "format/gguf_k.h"

static uint8_t *block_at(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit) {
    return (uint8_t *)planes->plane[HT_PLANE_CODES] +
           (row * (grid->cols / grid->unit) + unit) * grid->format.block_bytes;
}

static void halves_of(const ht_grid_cell *cell, uint8_t d[2], uint8_t dmin[2]) {
    ht_put_u16(d, cell->half[0]);
    ht_put_u16(dmin, cell->half[1]);
}

/* --- One scale: Q4_0, IQ4_NL ------------------------------------------------------------------------------ */

static ht_grid_cell plain_cell(const uint8_t d[2]) {
    return (ht_grid_cell){.scale = ht_half(d), .half = {(uint16_t)ht_u16(d), 0}};
}

static void plain_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    *cells = plain_cell(block_at(grid, planes, row, unit)); /* d comes first */
}

static void q4_0_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                       uint8_t *codes) {
    (void)grid;
    for (size_t i = 0; i < n; i++) {
        int q = cell->scale != 0 ? ht_fit_round(x[i] / cell->scale, -8, 7) : 0;
        codes[i] = (uint8_t)(q + 8);
        values[i] = cell->scale * (float)q;
    }
}

static void q4_0_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                       const uint8_t *codes) {
    ht_block_q4_0 *b = (ht_block_q4_0 *)block_at(grid, planes, row, unit);
    ht_put_u16(b->d, cells->half[0]);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(codes[j] | codes[j + 16] << 4);
}

static void q4_0_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    float unit[32], ones[32];
    uint8_t d[2];
    (void)grid;
    for (int i = 0; i < 32; i++)
        ones[i] = 1;
    int exponent = ht_fit_normalize(x, 32, unit);
    ht_put_half(d, ldexpf(ht_fit_symmetric(unit, weight ? weight : ones, 32, 8), exponent));
    *cells = plain_cell(d);
}

const ht_grid_family ht_grid_q4_0 = {.family = HT_FAMILY_GGUF,
                                     .variant = 2,
                                     .cells = 1,
                                     .zero = 1,
                                     .load = plain_load,
                                     .round = q4_0_round,
                                     .store = q4_0_store,
                                     .search = q4_0_search};

static void iq4_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                      uint8_t *codes) {
    (void)grid;
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)ht_iq4_code(x[i], cell->scale);
        values[i] = cell->scale * (float)ht_iq4_values[codes[i]];
    }
}

static void iq4_nl_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit,
                         const ht_grid_cell *cells, const uint8_t *codes) {
    uint8_t d[2], none[2];
    halves_of(cells, d, none);
    ht_iq4_nl_pack(d, codes, block_at(grid, planes, row, unit));
}

static void iq4_nl_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    uint8_t d[2];
    (void)grid;
    ht_iq4_nl_fit(x, weight, d);
    *cells = plain_cell(d);
}

const ht_grid_family ht_grid_iq4_nl = {.family = HT_FAMILY_GGUF,
                                       .variant = 20,
                                       .cells = 1,
                                       .load = plain_load,
                                       .round = iq4_round,
                                       .store = iq4_nl_store,
                                       .search = iq4_nl_search};

/* --- Integers times a scale: IQ4_XS, Q6_K ------------------------------------------------------------------ */

static void scaled_cells(const uint8_t d[2], const int8_t *scales, int count, ht_grid_cell *cells) {
    for (int s = 0; s < count; s++)
        cells[s] = (ht_grid_cell){
            .scale = ht_half(d) * (float)scales[s], .code = {scales[s], 0}, .half = {(uint16_t)ht_u16(d), 0}};
}

static void iq4_xs_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    const uint8_t *block = block_at(grid, planes, row, unit);
    int8_t scales[8];
    ht_iq4_xs_scales(block, scales);
    scaled_cells(block, scales, 8, cells);
}

static void iq4_xs_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit,
                         const ht_grid_cell *cells, const uint8_t *codes) {
    uint8_t d[2], none[2];
    int8_t scales[8];
    halves_of(cells, d, none);
    for (int s = 0; s < 8; s++)
        scales[s] = (int8_t)cells[s].code[0];
    ht_iq4_xs_pack(d, scales, codes, block_at(grid, planes, row, unit));
}

static void iq4_xs_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    uint8_t d[2];
    int8_t scales[8];
    (void)grid;
    ht_iq4_xs_fit(x, weight, d, scales);
    scaled_cells(d, scales, 8, cells);
}

const ht_grid_family ht_grid_iq4_xs = {.family = HT_FAMILY_GGUF,
                                       .variant = 23,
                                       .cells = 8,
                                       .load = iq4_xs_load,
                                       .round = iq4_round,
                                       .store = iq4_xs_store,
                                       .search = iq4_xs_search};

static void q6_k_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    const ht_block_q6_k *b = (const ht_block_q6_k *)block_at(grid, planes, row, unit);
    int8_t scales[16];
    memcpy(scales, b->scales, sizeof scales);
    scaled_cells(b->d, scales, 16, cells);
}

static void q6_k_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                       uint8_t *codes) {
    (void)grid;
    for (size_t i = 0; i < n; i++) {
        int q = cell->scale != 0 ? ht_fit_round(x[i] / cell->scale, -32, 31) : 0;
        codes[i] = (uint8_t)q;
        values[i] = cell->scale * (float)q;
    }
}

static void q6_k_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                       const uint8_t *codes) {
    ht_k_symmetric a;
    uint8_t none[2];
    halves_of(cells, a.d, none);
    for (int s = 0; s < 16; s++)
        a.scale[s] = (int8_t)cells[s].code[0];
    memcpy(a.q, codes, sizeof a.q);
    ht_q6_k_pack(&a, block_at(grid, planes, row, unit));
}

static void q6_k_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    ht_k_symmetric a;
    (void)grid;
    ht_k_symmetric_fit(x, weight, &a);
    scaled_cells(a.d, a.scale, 16, cells);
}

const ht_grid_family ht_grid_q6_k = {.family = HT_FAMILY_GGUF,
                                     .variant = 14,
                                     .cells = 16,
                                     .zero = 1,
                                     .load = q6_k_load,
                                     .round = q6_k_round,
                                     .store = q6_k_store,
                                     .search = q6_k_search};

/* --- Scales and minima: Q4_K, Q5_K ------------------------------------------------------------------------- */

static void affine_cells(const uint8_t d[2], const uint8_t dmin[2], const uint8_t *scale, const uint8_t *minus,
                         ht_grid_cell *cells) {
    for (int s = 0; s < 8; s++)
        cells[s] = (ht_grid_cell){.scale = ht_half(d) * (float)scale[s],
                                  .offset = ht_half(dmin) * (float)minus[s],
                                  .code = {scale[s], minus[s]},
                                  .half = {(uint16_t)ht_u16(d), (uint16_t)ht_u16(dmin)}};
}

static void affine_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells) {
    const ht_block_q4_k *b = (const ht_block_q4_k *)block_at(grid, planes, row, unit); /* q5_k begins alike */
    uint8_t scale[8], minus[8];
    ht_k_scales_unpack(b->scales, scale, minus);
    affine_cells(b->d, b->dmin, scale, minus, cells);
}

static void affine_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                         uint8_t *codes) {
    int top = grid->family->variant == 13 ? 31 : 15;
    for (size_t i = 0; i < n; i++) {
        int q = cell->scale > 0 ? ht_fit_round((x[i] + cell->offset) / cell->scale, 0, top) : 0;
        codes[i] = (uint8_t)q;
        values[i] = cell->scale * (float)q - cell->offset;
    }
}

static void affine_gather(const ht_grid_cell *cells, const uint8_t *codes, ht_k_affine *a) {
    halves_of(cells, a->d, a->dmin);
    for (int s = 0; s < 8; s++) {
        a->scale[s] = (uint8_t)cells[s].code[0];
        a->minus[s] = (uint8_t)cells[s].code[1];
    }
    memcpy(a->q, codes, sizeof a->q);
}

static void q4_k_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                       const uint8_t *codes) {
    ht_k_affine a;
    affine_gather(cells, codes, &a);
    ht_q4_k_pack(&a, block_at(grid, planes, row, unit));
}

static void q5_k_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                       const uint8_t *codes) {
    ht_k_affine a;
    affine_gather(cells, codes, &a);
    ht_q5_k_pack(&a, block_at(grid, planes, row, unit));
}

static void affine_search(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells) {
    ht_k_affine a;
    ht_k_affine_fit(grid->family->variant == 13, x, weight, &a);
    affine_cells(a.d, a.dmin, a.scale, a.minus, cells);
}

const ht_grid_family ht_grid_q4_k = {.family = HT_FAMILY_GGUF,
                                     .variant = 12,
                                     .cells = 8,
                                     .load = affine_load,
                                     .round = affine_round,
                                     .store = q4_k_store,
                                     .search = affine_search};

const ht_grid_family ht_grid_q5_k = {.family = HT_FAMILY_GGUF,
                                     .variant = 13,
                                     .cells = 8,
                                     .load = affine_load,
                                     .round = affine_round,
                                     .store = q5_k_store,
                                     .search = affine_search};
