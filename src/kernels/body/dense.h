/* Body of the dense tile, shared by the instruction sets: a .c file defines the type `lanes`, the static inline
 * functions lanes_load, lanes_store, lanes_all (one value in every lane), lanes_zero, lanes_add, lanes_multiply,
 * lanes_fma (a * b + c, rounded once), and
 *
 *     BLOCK_ROWS x BLOCK_LANES   registers that hold sums: AVX-512 12 x 2 of 32, AVX2 6 x 2 of 16
 *     PIECES                     registers of a row in sparse_row
 *
 * and includes this. The packed tile is walked in such blocks; every sum keeps its order (kernels/dense.h). Compiled
 * with -O3, so that the constant loops become registers. */
#ifndef HT_KERNELS_BODY_DENSE_H
#define HT_KERNELS_BODY_DENSE_H

#include <math.h> /* fmaf */

#include "kernels/dense.h"

enum { WIDTH = sizeof(lanes) / sizeof(float), BLOCK_COLS = BLOCK_LANES * WIDTH };

_Static_assert(HT_DENSE_ROWS % BLOCK_ROWS == 0 && HT_DENSE_COLS % BLOCK_COLS == 0, "blocks fill the tile");

static inline __attribute__((always_inline)) void dense_block(const float *a, const float *b, size_t k, float *c,
                                                              size_t c_stride) {
    lanes sum[BLOCK_ROWS][BLOCK_LANES];
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < BLOCK_LANES; j++)
            sum[i][j] = lanes_zero();
    for (size_t q = 0; q < k; q++, a += HT_DENSE_ROWS, b += HT_DENSE_COLS) {
        lanes right[BLOCK_LANES];
        for (int j = 0; j < BLOCK_LANES; j++)
            right[j] = lanes_load(b + j * WIDTH);
        for (int i = 0; i < BLOCK_ROWS; i++) {
            lanes left = lanes_all(a[i]);
            for (int j = 0; j < BLOCK_LANES; j++)
                sum[i][j] = lanes_fma(left, right[j], sum[i][j]);
        }
    }
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int j = 0; j < BLOCK_LANES; j++) {
            float *at = c + (size_t)i * c_stride + j * WIDTH;
            lanes_store(at, lanes_add(lanes_load(at), sum[i][j]));
        }
}

static inline void dense_tile(const float *a, const float *b, size_t k, float *c, size_t c_stride) {
    for (size_t i = 0; i < HT_DENSE_ROWS; i += BLOCK_ROWS)
        for (size_t j = 0; j < HT_DENSE_COLS; j += BLOCK_COLS)
            dense_block(a + i, b + j, k, c + i * c_stride + j, c_stride);
}

/* PIECE registers of c at a time, all values of the list. */
static inline __attribute__((always_inline)) void sparse_piece(const float *value, const uint16_t *index, size_t count,
                                                               const float *b, size_t b_stride, float *c,
                                                               const int pieces) {
    lanes sum[PIECES];
    for (int i = 0; i < pieces; i++)
        sum[i] = lanes_load(c + i * WIDTH);
    for (size_t q = 0; q < count; q++) {
        const float *row = b + index[q] * b_stride;
        lanes left = lanes_all(value[q]);
        for (int i = 0; i < pieces; i++)
            sum[i] = lanes_fma(left, lanes_load(row + i * WIDTH), sum[i]);
    }
    for (int i = 0; i < pieces; i++)
        lanes_store(c + i * WIDTH, sum[i]);
}

static inline void sparse_row(const float *value, const uint16_t *index, size_t count, const float *b, size_t b_stride,
                              float *c, size_t n) {
    size_t j = 0;
    for (; count && j + PIECES * WIDTH <= n; j += PIECES * WIDTH)
        sparse_piece(value, index, count, b + j, b_stride, c + j, PIECES);
    for (; count && j + WIDTH <= n; j += WIDTH)
        sparse_piece(value, index, count, b + j, b_stride, c + j, 1);
    for (; j < n; j++)
        for (size_t q = 0; q < count; q++)
            c[j] = fmaf(value[q], b[index[q] * b_stride + j], c[j]);
}

/* The lanes of e stay in registers. */
static inline void spread_row(const float *e, const float *f, size_t count, float *t) {
    lanes from[HT_DENSE_COLS / WIDTH];
    for (int i = 0; i < HT_DENSE_COLS / WIDTH; i++)
        from[i] = lanes_load(e + i * WIDTH);
    for (size_t j = 0; j < count; j++, t += HT_DENSE_COLS) {
        lanes factor = lanes_all(f[j]);
        for (int i = 0; i < HT_DENSE_COLS / WIDTH; i++)
            lanes_store(t + i * WIDTH, lanes_add(lanes_load(t + i * WIDTH), lanes_multiply(from[i], factor)));
    }
}

#endif
