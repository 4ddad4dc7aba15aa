/* Transposing with AVX2: eight by eight elements at a time; the edges by the reference. A caller's strip is a few lines
 * of every row, too short for the hardware to see the next one coming: the rows AHEAD are asked for.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/turn.h"

#include <immintrin.h>
#include <stdint.h>

enum { SIDE = 8, AHEAD = 2 * SIDE, LINE = 64 };

static inline void turn_words(const uint16_t *x, size_t x_stride, uint16_t *out, size_t out_stride) {
    __m128i a[SIDE], b[SIDE];
    for (size_t i = 0; i < SIDE; i++)
        a[i] = _mm_loadu_si128((const __m128i *)(const void *)(x + i * x_stride));
    for (int i = 0; i < SIDE; i += 2) {
        b[i] = _mm_unpacklo_epi16(a[i], a[i + 1]);
        b[i + 1] = _mm_unpackhi_epi16(a[i], a[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4)
        for (int j = 0; j < 2; j++) { /* columns 4 j and on of rows i .. i + 3 */
            a[i + 2 * j] = _mm_unpacklo_epi32(b[i + j], b[i + 2 + j]);
            a[i + 2 * j + 1] = _mm_unpackhi_epi32(b[i + j], b[i + 2 + j]);
        }
    for (size_t j = 0; j < SIDE / 2; j++) {
        __m128i *first = (__m128i *)(void *)(out + 2 * j * out_stride);
        __m128i *second = (__m128i *)(void *)(out + (2 * j + 1) * out_stride);
        _mm_storeu_si128(first, _mm_unpacklo_epi64(a[j], a[4 + j]));
        _mm_storeu_si128(second, _mm_unpackhi_epi64(a[j], a[4 + j]));
    }
}

static inline void turn_numbers(const float *x, size_t x_stride, float *out, size_t out_stride) {
    __m256 a[SIDE], b[SIDE];
    for (size_t i = 0; i < SIDE; i++)
        a[i] = _mm256_loadu_ps(x + i * x_stride);
    for (int i = 0; i < SIDE; i += 2) {
        b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
        b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
    }
    for (int i = 0; i < SIDE; i += 4)
        for (int j = 0; j < 2; j++) {
            a[i + 2 * j] = _mm256_shuffle_ps(b[i + j], b[i + 2 + j], 0x44);
            a[i + 2 * j + 1] = _mm256_shuffle_ps(b[i + j], b[i + 2 + j], 0xee);
        }
    for (size_t j = 0; j < SIDE / 2; j++) {
        _mm256_storeu_ps(out + j * out_stride, _mm256_permute2f128_ps(a[j], a[4 + j], 0x20));
        _mm256_storeu_ps(out + (j + 4) * out_stride, _mm256_permute2f128_ps(a[j], a[4 + j], 0x31));
    }
}

void ht_turn_avx2(const void *x, size_t x_stride, size_t rows, size_t cols, size_t size, void *out, size_t out_stride) {
    size_t whole_rows = rows / SIDE * SIDE, whole_cols = cols / SIDE * SIDE;
    const char *from = x;
    char *to = out;
    for (size_t r = 0; r < whole_rows; r += SIDE) {
        for (size_t i = 0; i < SIDE && r + AHEAD + i < rows; i++)
            for (size_t line = 0; line < cols * size; line += LINE)
                _mm_prefetch(from + (r + AHEAD + i) * x_stride * size + line, _MM_HINT_T0);
        for (size_t c = 0; c < whole_cols; c += SIDE) {
            const char *tile = from + (r * x_stride + c) * size;
            char *place = to + (c * out_stride + r) * size;
            if (size == 2)
                turn_words((const uint16_t *)(const void *)tile, x_stride, (uint16_t *)(void *)place, out_stride);
            else
                turn_numbers((const float *)(const void *)tile, x_stride, (float *)(void *)place, out_stride);
        }
    }
    if (whole_cols < cols)
        ht_turn_ref(from + whole_cols * size, x_stride, rows, cols - whole_cols, size,
                    to + whole_cols * out_stride * size, out_stride);
    if (whole_rows < rows)
        ht_turn_ref(from + whole_rows * x_stride * size, x_stride, rows - whole_rows, whole_cols, size,
                    to + whole_rows * size, out_stride);
}
