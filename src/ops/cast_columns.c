/* Casts whose blocks run down the columns (MX: 32 x 1): pieces of columns are turned into rows of scratch, which are
 * then cast as any rows are. The planes are those of the transposed matrix.
 *
 *        x  [rows, cols]                  scratch of a thread, in the second cache
 *        +------+------+-
 *        |piece |      |   PIECE rows     +------------------+  a row of the transposed matrix, from the piece's
 *        +------+------+-        ->       +------------------+  first row on: cast alone, to where it belongs
 *        |      |      |                  +------------------+
 *         WIDE columns
 *
 * Pieces keep reads in runs of several lines a row. A format with one scale for a whole row takes all rows of fewer
 * columns instead; one whose blocks span rows of the result, or the whole matrix, is cast a strip at once. Rows of
 * scratch are PAD apart beyond their length, lest a power of two put them all into the same few sets of the cache.
 *
 * Refuses what casting the transposed matrix refuses. Source: formats specification, section 2 (MX blocks along either
 * dimension).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/cast.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"
#include "ops/cast.h"

enum { PIECE = 1024, WIDE = 128, NARROW = 32, PAD_BYTES = 64 };

struct columns {
    const ht_context *ctx;
    ht_cast cast; /* of the transposed matrix, without x and scratch */
    const char *x;
    size_t size, rows, cols;
    size_t strip, piece; /* columns of x, rows of x that are turned at once */
    size_t stride;       /* of scratch, in values; the piece's length: cast all its rows at once */
    char *scratch;
    size_t apart; /* bytes from one worker's scratch to the next one's */
    ht_turn_fn *turn;
};

/* Blocks lie within a row of the result, and pieces of a row begin at bytes of their own. */
static int has_pieces(const ht_format *format) {
    return format->block_rows == 1 && format->block_cols && PIECE % format->block_cols == 0 &&
           format->scale2 == HT_DTYPE_NONE && format->family != HT_FAMILY_GGUF;
}

/* Column `col` of x, from `row` on: planes of that part of a row of the result. */
static ht_planes planes_at(const struct columns *c, size_t col, size_t row) {
    ht_planes at = ht_planes_at_row(c->cast.format, c->cast.planes, c->rows, col);
    for (int plane = 0; plane < HT_PLANE_GLOBAL && row; plane++)
        if (at.plane[plane])
            at.plane[plane] =
                (uint8_t *)at.plane[plane] + ht_format_plane_bytes(c->cast.format, (ht_plane)plane, 1, row);
    return at;
}

static ht_status cast_piece(const struct columns *c, const char *turned, size_t first, size_t count, size_t row,
                            size_t n) {
    ht_row_options options;
    ht_planes here = planes_at(c, first, row);
    int at_once = c->stride == c->piece;
    ht_cast part = c->cast;
    part.x = turned;
    part.rows = at_once ? count : 1;
    part.cols = n;
    part.planes = &here;
    ht_quantize_fn *fn = ht_cast_choose(c->ctx, &part, &options);
    HT_TRY(fn(&part));
    for (size_t col = 1; col < count && !at_once; col++) {
        part.x = turned + col * c->stride * c->size;
        here = planes_at(c, first + col, row);
        HT_TRY(fn(&part));
    }
    return HT_OK;
}

static ht_status cast_strip(void *arg, size_t task, size_t worker) {
    const struct columns *c = arg;
    size_t first = task * c->strip, count = c->cols - first < c->strip ? c->cols - first : c->strip;
    char *turned = c->scratch + worker * c->apart;
    for (size_t row = 0; row < c->rows; row += c->piece) {
        size_t n = c->rows - row < c->piece ? c->rows - row : c->piece;
        c->turn(c->x + (row * c->cols + first) * c->size, c->cols, n, count, c->size, turned, c->stride);
        HT_TRY(cast_piece(c, turned, first, count, row, n));
    }
    return HT_OK;
}

/* Sizes of strips and pieces. */
static void choose_pieces(struct columns *c) {
    size_t step = ht_format_row_step(c->cast.format), pad = PAD_BYTES / c->size;
    int pieces = has_pieces(c->cast.format);
    c->piece = pieces && c->rows > PIECE ? PIECE : c->rows;
    c->strip = pieces ? WIDE : NARROW;
    if (step > 1)
        c->strip = step >= c->cols ? c->cols : (c->strip + step - 1) / step * step;
    c->stride = step > 1 ? c->piece : c->piece + pad;
}

ht_status ht_quantize_columns(ht_context *ctx, const ht_format *format, const ht_row_options *options, const void *x,
                              ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out) {
    size_t size = ht_dtype_bits(x_dtype) / 8;
    if (!rows || !cols || (size != 2 && size != 4))
        return ht_format_quantize(format, options, x, x_dtype, cols, rows, out);
    HT_TRY(ht_format_check_shape(format, cols, rows));
    struct columns c = {
        .ctx = ctx,
        .cast = {.format = format, .options = options, .x_dtype = x_dtype, .planes = out},
        .x = x,
        .size = size,
        .rows = rows,
        .cols = cols,
        .turn = ht_kernel_choose(HT_OPERATION_TURN, ht_cpu_flags(ctx), NULL, 1)->fn.turn,
    };
    choose_pieces(&c);
    size_t strips = (cols + c.strip - 1) / c.strip, workers = strips == 1 ? 1 : ht_context_threads(ctx);
    c.apart = strips == 1 ? 0 : c.strip * c.stride * size;
    HT_TRY(ht_allocate_raw(ctx, workers * c.strip * c.stride, size, "columns as rows", &c.scratch));
    ht_status status = ht_parallel_for(ctx, strips, cast_strip, &c);
    ht_release(ctx, c.scratch);
    return status;
}
