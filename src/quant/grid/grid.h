/* Grids: what values a format can hold under given scales, for methods that choose codes one by one.
 *
 * A row of a matrix is cut into units, the columns whose scales are chosen together: a group of integers, an MX block,
 * a GGUF super-block, the row itself. A unit has one or more cells; a cell is everything that rounding one value needs.
 *
 *     unit of Q4_K   | cell 0: 32 columns | cell 1 | ... | cell 7 |      d and dmin are the unit's, in every cell
 *     unit of MXFP4  | cell 0: 32 columns |
 *
 *     ht_grid_load     cells from planes (as a rounding to nearest left them)
 *     ht_grid_choose   cells for the values of a unit: by the format's own rule, or searched
 *     ht_grid_round    values of one cell to codes, and what these decode to, bit for bit
 *     ht_grid_store    cells and codes to planes
 *
 * Formats whose scales span several rows (tiles, whole matrices) are `shared`: their cells are only loaded.
 * Families are rows of a table (grid.c); pure functions, no allocation, one row of the matrix at a time. */
#ifndef HT_QUANT_GRID_GRID_H
#define HT_QUANT_GRID_GRID_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/format.h>

#include "format/codebook.h"
#include "format/element.h"
#include "format/int.h"
#include "format/nvfp4.h"

enum { HT_GRID_CELLS = 16, HT_GRID_UNIT = 1024 }; /* cells of a unit; columns of a unit that is chosen anew, at most */

typedef struct ht_grid_cell {
    float scale, offset; /* decoded = scale * unit code (+ or - offset) */
    union {
        struct {
            float factor; /* what a value is multiplied with or divided by before it is rounded */
            int16_t zero;
        };
        const uint16_t *table; /* of LUT, in the plane that it was loaded from; scale: mean distance of its entries */
    };
    int16_t code[2];  /* of scale and minimum, where these are codes themselves */
    uint16_t half[2]; /* the two f16 numbers of a GGUF super-block */
} ht_grid_cell;

typedef struct ht_grid ht_grid;

/* Cells of so many rows side by side, to round one column of all of them. */
enum { HT_GRID_LANES = 32 };
typedef struct ht_grid_lanes {
    float scale[HT_GRID_LANES], offset[HT_GRID_LANES], factor[HT_GRID_LANES], zero[HT_GRID_LANES];
    float inverse[HT_GRID_LANES]; /* 1 / scale */
    const ht_grid_cell *cell[HT_GRID_LANES];
} ht_grid_lanes;

/* A unit of several rows, to choose its cells. */
typedef struct ht_grid_strip {
    const ht_grid *grid;
    const float *x;      /* [unit, HT_GRID_LANES] */
    const float *weight; /* [unit], not negative: importance of a column; NULL: all the same */
    size_t rows;         /* at most HT_GRID_LANES; the lanes beyond hold any numbers */
    ht_grid_cell *cells; /* [rows] `step` apart: what is chosen */
    size_t step;
} ht_grid_strip;

typedef struct ht_grid_family {
    ht_family family;
    uint16_t variant; /* GGUF's type number; elsewhere 0 */
    uint16_t cells;   /* of a unit */
    int zero;         /* rounding 0 gives 0, under every scale */
    void (*load)(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells);
    void (*round)(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                  uint8_t *codes);
    /* The same for HT_GRID_LANES values with a cell each; NULL: one by one. 0: not under these rules. */
    int (*round_lanes)(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values, uint8_t *codes);
    void (*store)(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                  const uint8_t *codes);
    /* A scale that is `step` places from that of *from (0: the same). 0 when there is none. NULL: searches itself. */
    int (*vary)(const ht_grid *grid, const ht_grid_cell *from, int step, ht_grid_cell *out);
    int least, most; /* steps to try */
    /* Whole search of a unit under weights; cells hold the format's own choice, or for nested scales what is frozen. */
    void (*search)(const ht_grid *grid, const float *x, const float *weight, ht_grid_cell *cells);
    /* The same for a strip, where round_lanes takes the rules. */
    void (*search_lanes)(const ht_grid_strip *strip);
    /* Tables and codes of the rows from `row` on that share them, for weights whose columns count by importance (NULL:
     * all the same). Before cells are loaded. NULL: there are no tables. */
    void (*refit)(const ht_grid *grid, const ht_planes *planes, const float *weight, const float *importance,
                  size_t row);
    /* The format's own rule where a unit cannot be quantized alone (nested scales). */
    void (*choose)(const ht_grid *grid, const float *x, ht_grid_cell *cells);
} ht_grid_family;

struct ht_grid {
    const ht_grid_family *family;
    ht_format format;
    ht_row_options how;
    size_t rows, cols, unit, width; /* columns of a unit, of a cell */
    int shared;                     /* scales belong to several rows */
    int lanes;                      /* family->round_lanes takes the rules */
    float global;
    ht_affine affine;
    ht_nvfp4_rules nvfp4;
    const ht_element *element;
    const ht_codebook *book;
    float values[256]; /* of element codes */
};

/* global: the matrix' number (1 where there is none). UNSUPPORTED: no grid for this format. */
ht_status ht_grid_create(const ht_format *format, const ht_row_options *how, size_t rows, size_t cols, float global,
                         ht_grid *out);
/* HT_OK, or UNSUPPORTED naming the format. */
ht_status ht_grid_supports(const ht_format *format);
/* HT_OK when a value that is 0 stays 0 under every scale (pruned weights), or UNSUPPORTED naming the format. */
ht_status ht_grid_has_zero(const ht_format *format);

void ht_grid_load(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, ht_grid_cell *cells);

/* Cells for the `unit` values x (not for shared grids, and units of at most HT_GRID_UNIT). `frozen`: cells of the unit
 * as loaded, for scales of scales, which stay. weight: importance of each column, NULL: all the same. searched: the
 * least weighted squared error over neighbouring scales that can be stored, else the format's own rule. */
void ht_grid_choose(const ht_grid *grid, const float *x, const float *weight, int searched, const ht_grid_cell *frozen,
                    ht_grid_cell *cells);

/* What ht_grid_choose gives for each row of the strip, bit for bit; frozen: cells as far apart as
 * the strip's, but not they. */
void ht_grid_choose_lanes(const ht_grid_strip *strip, int searched, const ht_grid_cell *frozen);

static inline void ht_grid_round(const ht_grid *grid, const ht_grid_cell *cell, const float *x, size_t n, float *values,
                                 uint8_t *codes) {
    grid->family->round(grid, cell, x, n, values, codes);
}

/* lanes of `rows` cells, `step` apart; those beyond repeat the last. The cells must stay. */
void ht_grid_gather(const ht_grid_cell *cells, size_t step, size_t rows, ht_grid_lanes *lanes);
/* One value of each lane: what ht_grid_round gives, bit for bit. */
void ht_grid_round_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, float *values,
                         uint8_t *codes);

/* codes: one a byte, `unit` of them. */
void ht_grid_store(const ht_grid *grid, const ht_planes *planes, size_t row, size_t unit, const ht_grid_cell *cells,
                   const uint8_t *codes);

/* Is this the row that writes a scale? Of rows that share one only the first does: they may be stored by several
 * threads. */
static inline int ht_grid_owns_scale(const ht_grid *grid, size_t row) {
    size_t span = grid->format.block_rows;
    return !grid->shared || (span ? row % span == 0 : row == 0);
}

/* All tables of the matrix [rows, cols] anew by `refit`; nothing for families without. Fails with CANCELLED. */
ht_status ht_grid_refit(ht_context *ctx, const ht_grid *grid, const ht_planes *planes, const float *weight,
                        const float *importance);

/* sum of weight * (x - rounded x)^2 of one cell's values (n <= HT_GRID_UNIT), f32 in order. */
float ht_grid_error(const ht_grid *grid, const ht_grid_cell *cell, const float *x, const float *weight, size_t n);

/* Parts of ht_grid_choose_lanes: the format's own rule (searched: where a search starts); a row of the strip; errors of
 * every lane, or some not less than most[lane] when all are; what is better becomes the best. */
void ht_grid_choose_plainly(const ht_grid_strip *strip, int searched);
void ht_grid_strip_row(const ht_grid_strip *strip, size_t row, float *out);
void ht_grid_error_lanes(const ht_grid *grid, const ht_grid_lanes *lanes, const float *x, const float *weight, size_t n,
                         const float *most, float *error);
void ht_grid_keep(size_t rows, const float *error, const ht_grid_cell *cells, size_t step, float *least,
                  ht_grid_cell *best, size_t best_step);

/* Rows of the table, in the file of each family. */
extern const ht_grid_family ht_grid_mx, ht_grid_nvfp4, ht_grid_float8, ht_grid_int, ht_grid_codebook, ht_grid_q4_0,
    ht_grid_iq4_nl, ht_grid_iq4_xs, ht_grid_q4_k, ht_grid_q5_k, ht_grid_q6_k, ht_grid_lut;

#endif
