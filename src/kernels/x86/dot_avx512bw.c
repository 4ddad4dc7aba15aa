/* dot and mix with AVX-512. Same lanes, same bits as the reference.
 *
 * dot keeps the eight lanes of two products in one register, those of w rows j and j + 4, for 4 rows of x by 8 of w:
 *
 *     sum[i][j]     [ lanes 0..7 of x_i . w_j | lanes 0..7 of x_i . w_(j+4) ]      i, j < 4: 16 registers
 *
 * so that folding a pair of rows i needs no more than three additions a level for 16 products, and leaves them in
 * order:
 *
 *     quarters      + swapped:  [ 0+4 1+5 2+6 3+7 ] of (i, j), (i, j + 4), (i + 1, j), (i + 1, j + 4)
 *     pairs of j    + swapped:  [ (0+4)+(2+6)  (1+5)+(3+7) ] of j and j + 1
 *     pairs of that + swapped:  [ x_i . w_0 ... x_i . w_7 | x_(i+1) . w_0 ... x_(i+1) . w_7 ]
 *
 * On Zen 4 a broadcast to a register or an insertion takes the time of one or two multiplications, a plain load and a
 * broadcast inside a multiplication take none. So both operands are copied to where plain loads find them: x with every
 * eight values twice, once for 16 rows; w with rows j and j + 4 side by side, once for those 16 rows:
 *
 *     twice[i]     [ x_i 0..7 | x_i 0..7 | x_i 8..15 | x_i 8..15 ...       paired[q][j]     [ w_j q.. | w_(j+4) q.. ]
 *
 * mix has 8 rows by 32 columns in registers. What is left over at the edges, fewer than 4 rows of x, longer k and k
 * that is no multiple of 8 take the body that AVX2 has.
 * SPDX-License-Identifier: BSD-3-Clause */
#define HT_VECTOR_BYTES 32
#define HT_DOT_ROWS 4
#define HT_MIX_ROWS 4
#include "kernels/dot.h"

#include <immintrin.h>

#include "kernels/body/dot.h"

enum {
    TILE_ROWS = 4,
    TILE_PAIRS = 4,
    TILE_COLUMNS = 2 * TILE_PAIRS,
    WIDE = 16,
    GROUP = 16,   /* rows of x that share a copy of w */
    MOST_K = 256, /* of copies: 32 KB of x, 8 KB of w */
    MIX_WIDE = 32,
    MIX_DEEP = 8
};

/* The sums of two rows of x, folded: 8 products of the first in the lower half, 8 of the second above. */
HT_INLINE __m512 fold_two(const __m512 first[TILE_PAIRS], const __m512 second[TILE_PAIRS]) {
    __m512 quarter[TILE_PAIRS], pair[2];
    for (int j = 0; j < TILE_PAIRS; j++)
        quarter[j] = _mm512_add_ps(_mm512_shuffle_f32x4(first[j], second[j], 0x88),
                                   _mm512_shuffle_f32x4(first[j], second[j], 0xdd));
    for (int j = 0; j < 2; j++)
        pair[j] = _mm512_add_ps(_mm512_shuffle_ps(quarter[2 * j], quarter[2 * j + 1], 0x44),
                                _mm512_shuffle_ps(quarter[2 * j], quarter[2 * j + 1], 0xee));
    return _mm512_add_ps(_mm512_shuffle_ps(pair[0], pair[1], 0x88), _mm512_shuffle_ps(pair[0], pair[1], 0xdd));
}

/* `rows` (1 or TILE_ROWS, a constant) rows of x by TILE_COLUMNS of w, from the copies. */
HT_INLINE void wide_tile(size_t rows, const float *twice, const float *paired, size_t k, float *y, size_t y_stride) {
    __m512 sum[TILE_ROWS][TILE_PAIRS];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < TILE_PAIRS; j++)
            sum[i][j] = _mm512_setzero_ps();
    for (size_t q = 0; q < k; q += LANES) {
        __m512 b[TILE_PAIRS];
        for (size_t j = 0; j < TILE_PAIRS; j++)
            b[j] = _mm512_load_ps(paired + q * TILE_COLUMNS + j * WIDE);
        for (size_t i = 0; i < rows; i++) {
            __m512 a = _mm512_load_ps(twice + 2 * (i * k + q));
            for (size_t j = 0; j < TILE_PAIRS; j++)
                sum[i][j] = _mm512_add_ps(sum[i][j], _mm512_mul_ps(a, b[j]));
        }
    }
    for (size_t i = 0; i < rows; i += 2) {
        __m512 two = fold_two(sum[i], sum[rows > 1 ? i + 1 : i]);
        _mm256_storeu_ps(y + i * y_stride, _mm512_castps512_ps256(two));
        if (rows > 1)
            _mm256_storeu_ps(y + (i + 1) * y_stride, _mm512_extractf32x8_ps(two, 1));
    }
}

static void copy_twice(const float *x, size_t k, float *twice) {
    for (size_t q = 0; q < k; q += LANES) {
        __m256 eight = _mm256_loadu_ps(x + q);
        _mm256_store_ps(twice + 2 * q, eight);
        _mm256_store_ps(twice + 2 * q + LANES, eight);
    }
}

static void copy_pairs(const float *w, size_t w_stride, size_t k, float *paired) {
    for (size_t j = 0; j < TILE_COLUMNS; j++) {
        float *to = paired + j % TILE_PAIRS * WIDE + j / TILE_PAIRS * LANES;
        for (size_t q = 0; q < k; q += LANES)
            _mm256_store_ps(to + q * TILE_COLUMNS, _mm256_loadu_ps(w + j * w_stride + q));
    }
}

/* At most GROUP rows of x. A tile of w is copied while the one before it is used: what was just written in halves
 * cannot be read whole. */
static void dot_group(const float *x, size_t m, size_t x_stride, const float *w, size_t n, size_t w_stride, size_t k,
                      float *y, size_t y_stride) {
    _Alignas(64) float twice[GROUP * 2 * MOST_K], paired[2][TILE_COLUMNS * MOST_K];
    size_t whole = n / TILE_COLUMNS * TILE_COLUMNS;
    for (size_t i = 0; i < m; i++)
        copy_twice(x + i * x_stride, k, twice + i * 2 * k);
    if (whole)
        copy_pairs(w, w_stride, k, paired[0]);
    for (size_t j = 0; j < whole; j += TILE_COLUMNS) {
        const float *here = paired[j / TILE_COLUMNS % 2];
        size_t i = 0;
        if (j + TILE_COLUMNS < whole)
            copy_pairs(w + (j + TILE_COLUMNS) * w_stride, w_stride, k, paired[(j / TILE_COLUMNS + 1) % 2]);
        for (; i + TILE_ROWS <= m; i += TILE_ROWS)
            wide_tile(TILE_ROWS, twice + i * 2 * k, here, k, y + i * y_stride + j, y_stride);
        for (; i < m; i++)
            wide_tile(1, twice + i * 2 * k, here, k, y + i * y_stride + j, y_stride);
    }
    if (whole < n)
        dot_body(x, m, x_stride, w + whole * w_stride, n - whole, w_stride, k, y + whole, y_stride);
}

void ht_dot_f32_avx512bw(const float *x, size_t m, size_t x_stride, const float *w, size_t n, size_t w_stride, size_t k,
                         float *y, size_t y_stride) {
    if (m < TILE_ROWS || k % LANES || k > MOST_K) {
        dot_body(x, m, x_stride, w, n, w_stride, k, y, y_stride);
        return;
    }
    for (size_t i = 0; i < m; i += GROUP)
        dot_group(x + i * x_stride, m - i < GROUP ? m - i : GROUP, x_stride, w, n, w_stride, k, y + i * y_stride,
                  y_stride);
}

/* a number in memory times x, the broadcast inside the multiplication; compilers take it out when there are two. */
HT_INLINE __m512 times(const float *number, __m512 x) {
    __m512 y;
    __asm__("vmulps %2%{1to16%}, %1, %0" : "=v"(y) : "v"(x), "m"(*number));
    return y;
}

/* `rows` rows by MIX_WIDE columns of y. */
HT_INLINE void wide_mix(size_t rows, const float *p, size_t p_stride, const float *v, size_t v_stride, size_t begin,
                        size_t end, float *y, size_t y_stride) {
    __m512 sum[MIX_DEEP][2];
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < 2; c++)
            sum[i][c] = _mm512_loadu_ps(y + i * y_stride + c * WIDE);
    for (size_t j = begin; j < end; j++) {
        __m512 low = _mm512_loadu_ps(v + j * v_stride), high = _mm512_loadu_ps(v + j * v_stride + WIDE);
        for (size_t i = 0; i < rows; i++) {
            sum[i][0] = _mm512_add_ps(sum[i][0], times(p + i * p_stride + j, low));
            sum[i][1] = _mm512_add_ps(sum[i][1], times(p + i * p_stride + j, high));
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < 2; c++)
            _mm512_storeu_ps(y + i * y_stride + c * WIDE, sum[i][c]);
}

void ht_mix_f32_avx512bw(const float *p, size_t m, size_t p_stride, const float *v, size_t v_stride, size_t begin,
                         size_t end, size_t d, float *y, size_t y_stride) {
    size_t c = 0;
    for (; c + MIX_WIDE <= d; c += MIX_WIDE) {
        size_t i = 0;
        for (; i + MIX_DEEP <= m; i += MIX_DEEP)
            wide_mix(MIX_DEEP, p + i * p_stride, p_stride, v + c, v_stride, begin, end, y + i * y_stride + c, y_stride);
        for (; i < m; i++)
            wide_mix(1, p + i * p_stride, p_stride, v + c, v_stride, begin, end, y + i * y_stride + c, y_stride);
    }
    if (c < d)
        mix_body(p, m, p_stride, v + c, v_stride, begin, end, d - c, y + c, y_stride);
}
