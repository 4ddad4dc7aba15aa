/* Block scales in the order that tensor cores read: 512-byte tiles of 128 rows x 4 columns.
 *
 *   byte of (r, c) in a matrix of `cols` columns:
 *   ((r / 128) * ceil(cols / 4) + c / 4) * 512 + (r mod 32) * 16 + (r mod 128) / 32 * 4 + c mod 4
 * Rows are padded to 128 and columns to 4 with zero bytes. Grouped forms tile every group by itself; experts of equal
 * size
 * ([E, rows, cols]) are the plain form once per expert, one after the other.
 * Refuses: nothing; the caller sizes the buffer. Source: formats specification, sections 2.4 and 2.5.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/swizzle.h"

#include <string.h>

#include <halftone/format.h>

enum { TILE_ROWS = 128, TILE_COLS = 4, TILE_BYTES = TILE_ROWS * TILE_COLS };

static size_t round_up(size_t n, size_t step) {
    return (n + step - 1) / step * step;
}

static size_t offset_of(size_t r, size_t c, size_t tiles_across) {
    return (r / TILE_ROWS * tiles_across + c / TILE_COLS) * TILE_BYTES + r % 32 * 16 + r % TILE_ROWS / 32 * 4 +
           c % TILE_COLS;
}

size_t ht_swizzle_bytes(size_t rows, size_t cols) {
    return round_up(rows, TILE_ROWS) * round_up(cols, TILE_COLS);
}

/* A part of a matrix: rows of stride `stride`. Padding is the caller's. */
static void swizzle_part(const uint8_t *scales, size_t stride, size_t rows, size_t cols, uint8_t *out) {
    size_t across = round_up(cols, TILE_COLS) / TILE_COLS;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[offset_of(r, c, across)] = scales[r * stride + c];
}

void ht_swizzle_scales(const uint8_t *scales, size_t rows, size_t cols, uint8_t *out) {
    memset(out, 0, ht_swizzle_bytes(rows, cols));
    swizzle_part(scales, cols, rows, cols, out);
}

void ht_unswizzle_scales(const uint8_t *swizzled, size_t rows, size_t cols, uint8_t *out) {
    size_t across = round_up(cols, TILE_COLS) / TILE_COLS;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[r * cols + c] = swizzled[offset_of(r, c, across)];
}

size_t ht_swizzle_row_groups_bytes(size_t rows, size_t cols, size_t groups) {
    return (rows + TILE_ROWS * groups) * round_up(cols, TILE_COLS);
}

void ht_swizzle_row_groups(const uint8_t *scales, size_t cols, const int32_t *ends, size_t groups, uint8_t *out,
                           size_t out_bytes, int64_t *starts) {
    size_t begin = 0, padded = 0, width = round_up(cols, TILE_COLS);
    memset(out, 0, out_bytes);
    for (size_t g = 0; g < groups; g++) {
        size_t end = (size_t)ends[g];
        if (starts)
            starts[g] = (int64_t)padded;
        swizzle_part(scales + begin * cols, cols, end - begin, cols, out + padded * width);
        padded += round_up(end - begin, TILE_ROWS);
        begin = end;
    }
    if (starts)
        starts[groups] = (int64_t)padded;
}

size_t ht_swizzle_col_groups_bytes(size_t rows, size_t cols, size_t groups) {
    return round_up(rows, TILE_ROWS) * (cols + TILE_COLS * groups);
}

void ht_swizzle_col_groups(const uint8_t *scales, size_t rows, size_t cols, const int32_t *ends, size_t groups,
                           uint8_t *out, size_t out_bytes, int64_t *starts) {
    size_t begin = 0, padded = 0, height = round_up(rows, TILE_ROWS);
    memset(out, 0, out_bytes);
    for (size_t g = 0; g < groups; g++) {
        size_t end = (size_t)ends[g];
        if (starts)
            starts[g] = (int64_t)padded;
        swizzle_part(scales + begin, cols, rows, end - begin, out + padded * height);
        padded += round_up(end - begin, TILE_COLS);
        begin = end;
    }
    if (starts)
        starts[groups] = (int64_t)padded;
}
