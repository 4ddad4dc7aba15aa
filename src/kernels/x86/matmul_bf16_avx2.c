/* y = x W^T on a bf16 weight for a few rows of x: weights are widened in registers, so that reading them is all that
 * goes through memory (the strip of the reference is written and read once more).
 *
 * Each output keeps the 8 lanes of kernels.h in one register, products rounded before they are added: the bits of the
 * reference. One row of x goes over 8 outputs at a time, two to four rows over 3.
 * Source: kernels/kernels.h (order of sums).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <immintrin.h>
#include <stdint.h>
#include <string.h> /* memcpy */

#include "kernels/matmul.h"

enum { LANES = 8, LINE = 32 /* bf16 in a cache line */, MOST_ROWS = 4, MOST_COLUMNS = 8 };

static inline __attribute__((always_inline)) __m256 widen(const uint16_t *from) {
    __m128i narrow = _mm_loadu_si128((const __m128i *)(const void *)from);
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}

static inline float fold(__m256 sum) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps(sum, 1)); /* 0+4 1+5 2+6 3+7 */
    __m128 pair = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(pair, _mm_shuffle_ps(pair, pair, 1)));
}

/* rows x columns outputs; both are constants at every call. */
static inline __attribute__((always_inline)) void tile(const ht_matmul *product, const uint16_t *w, size_t row,
                                                       size_t rows, size_t n, size_t columns) {
    size_t k = product->weight->cols, whole = k / LANES * LANES;
    const float *x = product->x + row * product->x_stride;
    __m256 sum[MOST_ROWS][MOST_COLUMNS];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            sum[i][j] = _mm256_setzero_ps();
    for (size_t q = 0; q < whole; q += LANES)
        for (size_t j = 0; j < columns; j++) {
            if (q % LINE == 0) /* the same place of the next tile */
                _mm_prefetch((const char *)(w + (j + columns) * k + q), _MM_HINT_T0);
            __m256 b = widen(w + j * k + q);
            for (size_t i = 0; i < rows; i++)
                sum[i][j] = _mm256_add_ps(sum[i][j], _mm256_mul_ps(_mm256_loadu_ps(x + i * product->x_stride + q), b));
        }
    for (size_t j = 0; whole < k && j < columns; j++) {
        uint16_t last[LANES] = {0};
        memcpy(last, w + j * k + whole, (k - whole) * sizeof *last);
        for (size_t i = 0; i < rows; i++) {
            float values[LANES] = {0};
            memcpy(values, x + i * product->x_stride + whole, (k - whole) * sizeof *values);
            sum[i][j] = _mm256_add_ps(sum[i][j], _mm256_mul_ps(_mm256_loadu_ps(values), widen(last)));
        }
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            product->y[(row + i) * product->y_stride + n + j] = fold(sum[i][j]);
}

static void one_row(const ht_matmul *product, const uint16_t *w, size_t row, size_t n0, size_t n1) {
    size_t k = product->weight->cols, n = n0;
    for (; n + 8 <= n1; n += 8)
        tile(product, w + n * k, row, 1, n, 8);
    for (; n < n1; n++)
        tile(product, w + n * k, row, 1, n, 1);
}

static void two_rows(const ht_matmul *product, const uint16_t *w, size_t row, size_t n0, size_t n1) {
    size_t k = product->weight->cols, n = n0;
    for (; n + 4 <= n1; n += 4)
        tile(product, w + n * k, row, 2, n, 4);
    for (; n < n1; n++)
        tile(product, w + n * k, row, 2, n, 1);
}

static void four_rows(const ht_matmul *product, const uint16_t *w, size_t row, size_t n0, size_t n1) {
    size_t k = product->weight->cols, n = n0;
    for (; n + 3 <= n1; n += 3)
        tile(product, w + n * k, row, 4, n, 3);
    for (; n < n1; n++)
        tile(product, w + n * k, row, 4, n, 1);
}

void ht_matmul_bf16_avx2(const ht_matmul *product, size_t n0, size_t n1, void *scratch) {
    (void)scratch;
    const uint16_t *w = ht_weight_planes(product->weight, product->index).plane[HT_PLANE_CODES];
    size_t row = 0;
    for (; row + 4 <= product->m; row += 4)
        four_rows(product, w, row, n0, n1);
    for (; row + 2 <= product->m; row += 2)
        two_rows(product, w, row, n0, n1);
    if (row < product->m)
        one_row(product, w, row, n0, n1);
    for (size_t i = 0; product->bias && i < product->m; i++)
        for (size_t n = n0; n < n1; n++)
            product->y[i * product->y_stride + n] += product->bias[n];
}
