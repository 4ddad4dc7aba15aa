/* Products in bf16 with AVX2 and FMA: the reference's order in every lane, so its bits.
 *
 *   strip   outputs as rows of bf16: the stored ones, or decoded and rounded
 *   panel   256 k of 16 of them as f32, k by output, 16 KB: eight by eight turned at a time
 *   tile    6 rows of x by 16 outputs: 12 sums, 2 registers of the panel, one value of x
 *
 * Source: cpu-kernels specification, section 5.1 (loop order).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/floats.h"

#include <string.h> /* memcpy */

#include "kernels/x86/wide_avx2.h"

enum { LANES = 8, COLUMNS = 16, TILE = 6 };

/* --- Rounding ------------------------------------------------------------------------------------------------ */

/* Sixteen values, zeros behind `left` of them. */
WIDE wf some(const float *from, size_t left) {
    float buffer[COLUMNS] = {0};
    if (left >= COLUMNS)
        return w_load(from);
    memcpy(buffer, from, left * sizeof *from);
    return w_load(buffer);
}

static void round_row(const float *from, size_t cols, size_t padded, uint16_t *out) {
    for (size_t k = 0; k < padded; k += COLUMNS)
        w_store_bf16(out + k, k < cols ? some(from + k, cols - k) : w_float(0));
}

static void round_inputs(const float *from, size_t cols, size_t padded, float *out) {
    uint16_t halves[COLUMNS];
    for (size_t k = 0; k < padded; k += COLUMNS) {
        w_store_bf16(halves, k < cols ? some(from + k, cols - k) : w_float(0));
        w_store(out + k, w_load_bf16(halves));
    }
}

/* --- A panel ------------------------------------------------------------------------------------------------- */

WIDE __m256 eight(const uint16_t *from, size_t left) {
    uint16_t buffer[LANES] = {0};
    if (!from)
        return _mm256_setzero_ps();
    if (left >= LANES)
        return wide_widen(from);
    memcpy(buffer, from, left * sizeof *from);
    return wide_widen(buffer);
}

/* 8 k of 8 outputs; `left` k from `at` on exist. */
WIDE void turn(const uint16_t *const from[LANES], size_t at, size_t left, float *out) {
    __m256 r[LANES], s[LANES];
    for (int i = 0; i < LANES; i++)
        r[i] = eight(from[i] ? from[i] + at : NULL, left);
    for (int i = 0; i < LANES; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_shuffle_ps(s[i + j], s[i + 2 + j], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(s[i + j], s[i + 2 + j], 0xee);
        }
    for (size_t j = 0; j < 4; j++) {
        _mm256_storeu_ps(out + j * COLUMNS, _mm256_permute2f128_ps(r[j], r[4 + j], 0x20));
        _mm256_storeu_ps(out + (j + 4) * COLUMNS, _mm256_permute2f128_ps(r[j], r[4 + j], 0x31));
    }
}

static void fill_panel(const uint16_t *w, size_t stride, size_t rows, size_t begin, size_t end, float *panel) {
    for (size_t first = 0; first < COLUMNS; first += LANES) {
        const uint16_t *from[LANES];
        for (size_t i = 0; i < LANES; i++)
            from[i] = first + i < rows ? w + (first + i) * stride : NULL;
        for (size_t k = begin; k < end; k += LANES)
            turn(from, k, end - k, panel + (k - begin) * COLUMNS + first);
    }
}

/* --- Tiles --------------------------------------------------------------------------------------------------- */

typedef struct span {
    const float *panel, *x; /* from the span's first k on */
    size_t depth, x_stride;
    float *y;
    size_t y_stride, columns;
    int first;
    const float *bias; /* of the last span */
} span;

static void finish_some(const span *s, float *y, const float *sum) {
    for (size_t j = 0; j < s->columns; j++) {
        float f = s->first ? sum[j] : y[j] + sum[j];
        y[j] = s->bias ? f + s->bias[j] : f;
    }
}

WIDE void finish(const span *s, float *y, const float *sums) {
    if (s->columns < COLUMNS) {
        finish_some(s, y, sums);
        return;
    }
    wf f = s->first ? w_load(sums) : w_add(w_load(y), w_load(sums));
    w_store(y, s->bias ? w_add(f, w_load(s->bias)) : f);
}

/* `rows` is a constant at every call. */
WIDE void tile(const span *s, size_t row, int rows) {
    __m256 sum[TILE][2];
    const float *x = s->x + row * s->x_stride;
    for (int i = 0; i < rows; i++)
        sum[i][0] = sum[i][1] = _mm256_setzero_ps();
    for (size_t k = 0; k < s->depth; k++) {
        const __m256 a = _mm256_loadu_ps(s->panel + k * COLUMNS), b = _mm256_loadu_ps(s->panel + k * COLUMNS + LANES);
        for (int i = 0; i < rows; i++) {
            __m256 value = _mm256_broadcast_ss(x + (size_t)i * s->x_stride + k);
            sum[i][0] = _mm256_fmadd_ps(value, a, sum[i][0]);
            sum[i][1] = _mm256_fmadd_ps(value, b, sum[i][1]);
        }
    }
    float sums[TILE][COLUMNS];
    for (int i = 0; i < rows; i++) {
        _mm256_storeu_ps(sums[i], sum[i][0]);
        _mm256_storeu_ps(sums[i] + LANES, sum[i][1]);
    }
    for (int i = 0; i < rows; i++)
        finish(s, s->y + (row + (size_t)i) * s->y_stride, sums[i]);
}

static void all_rows(const span *s, size_t m) {
    size_t row = 0;
    for (; row + TILE <= m; row += TILE)
        tile(s, row, TILE);
    for (; row + 2 <= m; row += 2)
        tile(s, row, 2);
    if (row < m)
        tile(s, row, 1);
}

static void columns(const ht_matmul *product, const ht_floats_memory *at, const uint16_t *w, size_t w_stride, size_t n,
                    size_t rows) {
    size_t cols = product->weight->cols;
    float *panel = (float *)(void *)at->panel;
    for (size_t k = 0; k < cols; k += HT_FLOATS_DEPTH) {
        size_t end = cols - k < HT_FLOATS_DEPTH ? cols : k + HT_FLOATS_DEPTH;
        fill_panel(w, w_stride, rows, k, end, panel);
        const span s = {.panel = panel,
                        .x = at->wide_x + k,
                        .depth = end - k,
                        .x_stride = at->stride,
                        .y = product->y + n,
                        .y_stride = product->y_stride,
                        .columns = rows,
                        .first = k == 0,
                        .bias = product->bias && end == cols ? product->bias + n : NULL};
        all_rows(&s, product->m);
    }
}

void ht_floats_fma(const ht_matmul *product, size_t n0, size_t n1, void *scratch) {
    const ht_weight *weight = product->weight;
    const ht_floats_memory at = ht_floats_memory_at(weight, product->m, scratch);
    size_t cols = weight->cols;
    for (size_t i = 0; i < product->m; i++)
        round_inputs(product->x + i * product->x_stride, cols, at.stride, at.wide_x + i * at.stride);
    int stored = ht_decode_is_bf16(weight);
    const uint16_t *codes = ht_weight_planes(weight, product->index).plane[HT_PLANE_CODES];
    for (size_t n = n0, count; n < n1; n += count) {
        count = n1 - n < at.group ? n1 - n : at.group;
        if (!stored)
            product->decode(weight, product->index, n, count, at.decoded);
        for (size_t i = 0; i < count && !stored; i++)
            round_row(at.decoded + i * cols, cols, at.stride, at.w + i * at.stride);
        for (size_t j = 0; j < count; j += COLUMNS)
            columns(product, &at, stored ? codes + (n + j) * cols : at.w + j * at.stride, stored ? cols : at.stride,
                    n + j, count - j < COLUMNS ? count - j : COLUMNS);
    }
}
