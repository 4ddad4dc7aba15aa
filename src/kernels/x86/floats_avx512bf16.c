/* Products in bf16 with AVX-512 BF16: vdpbf16ps takes two k of 16 outputs at a time. Not the bits of the reference: see
 * kernels/floats.h.
 *
 *   strip   64 outputs as rows of bf16: the stored ones, or decoded and rounded
 *   panel   256 k of them, pairs of k by 64 outputs, 32 KB: sixteen by sixteen dwords turned at a time
 *   tile    5 rows of x by 64 outputs: 20 sums, 4 registers of the panel, one pair of x
 *
 * Source: cpu-kernels specification, sections 5.1 (loop order) and 5.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/floats.h"

#include <immintrin.h>

enum { LANES = 16, VECTORS = HT_FLOATS_STRIP / LANES, TILE = 5, PAIRS = HT_FLOATS_DEPTH / 2, WORDS = 32, LINE = 64 };
#define INLINE static inline __attribute__((always_inline))

/* --- Rounding ------------------------------------------------------------------------------------------------ */

INLINE __m256i rounded(__m512 x) {
    return (__m256i)_mm512_cvtneps_pbh(x);
}

/* Zeros up to the padded width. */
static void round_row(const float *from, size_t cols, size_t padded, uint16_t *out) {
    size_t k = 0;
    for (; k + LANES <= cols; k += LANES)
        _mm256_store_si256((__m256i *)(void *)(out + k), rounded(_mm512_loadu_ps(from + k)));
    for (; k < padded; k += LANES) {
        __mmask16 mask = k < cols ? (__mmask16)((1u << (cols - k)) - 1) : 0;
        _mm256_store_si256((__m256i *)(void *)(out + k), rounded(_mm512_maskz_loadu_ps(mask, from + k)));
    }
}

/* --- A panel ------------------------------------------------------------------------------------------------- */

/* Rows of up to 32 bf16 (16 pairs) of 16 outputs to 16 registers of one pair each, HT_FLOATS_STRIP dwords apart. */
INLINE void turn(const uint16_t *const from[LANES], size_t k, __mmask32 words, uint32_t *out) {
    __m512i a[LANES], b[LANES];
    for (int i = 0; i < LANES; i++)
        a[i] = from[i] ? _mm512_maskz_loadu_epi16(words, from[i] + k) : _mm512_setzero_si512();
    for (int i = 0; i < LANES; i += 2) {
        b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
        b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) { /* pair 2 j and 2 j + 1 of every lane of 4, of outputs i .. i + 3 */
            a[i + 2 * j] = _mm512_unpacklo_epi64(b[i + j], b[i + 2 + j]);
            a[i + 2 * j + 1] = _mm512_unpackhi_epi64(b[i + j], b[i + 2 + j]);
        }
    for (int j = 0; j < 4; j++) { /* lane l of a[4 g + j]: pair 4 l + j of outputs 4 g .. */
        __m512i low = _mm512_shuffle_i32x4(a[j], a[4 + j], 0x88),
                high = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0x88);
        __m512i odd = _mm512_shuffle_i32x4(a[j], a[4 + j], 0xdd),
                rest = _mm512_shuffle_i32x4(a[8 + j], a[12 + j], 0xdd);
        _mm512_store_si512(out + (size_t)j * HT_FLOATS_STRIP, _mm512_shuffle_i32x4(low, high, 0x88));
        _mm512_store_si512(out + (size_t)(8 + j) * HT_FLOATS_STRIP, _mm512_shuffle_i32x4(low, high, 0xdd));
        _mm512_store_si512(out + (size_t)(4 + j) * HT_FLOATS_STRIP, _mm512_shuffle_i32x4(odd, rest, 0x88));
        _mm512_store_si512(out + (size_t)(12 + j) * HT_FLOATS_STRIP, _mm512_shuffle_i32x4(odd, rest, 0xdd));
    }
}

/* k of [begin, end) of `rows` <= 64 outputs, the others zeros. */
static void fill_panel(const uint16_t *w, size_t stride, size_t rows, size_t begin, size_t end, uint32_t *panel) {
    for (size_t first = 0; first < HT_FLOATS_STRIP; first += LANES) {
        const uint16_t *from[LANES];
        for (size_t i = 0; i < LANES; i++)
            from[i] = first + i < rows ? w + (first + i) * stride : NULL;
        for (size_t k = begin; k < end; k += WORDS) {
            __mmask32 words = end - k >= WORDS ? 0xffffffffu : (1u << (end - k)) - 1;
            turn(from, k, words, panel + (k - begin) / 2 * HT_FLOATS_STRIP + first);
        }
    }
}

/* --- Tiles --------------------------------------------------------------------------------------------------- */

typedef struct span {
    const uint32_t *panel;
    size_t pairs;
    const uint32_t *x; /* pairs, from the span's first on */
    size_t x_stride;   /* in pairs */
    float *y;
    size_t y_stride, columns;
    int first;
    const float *bias; /* of the last span */
} span;

/* `rows` is a constant at every call. */
INLINE void tile(const span *s, size_t row, int rows) {
    __m512 sum[TILE][VECTORS];
    const uint32_t *x = s->x + row * s->x_stride;
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < VECTORS; v++)
            sum[i][v] = _mm512_setzero_ps();
    for (int i = 0; i < rows; i++) /* what the end of this tile adds to, and what the next one reads */
        for (size_t line = 0; line < HT_FLOATS_DEPTH * 2 / LINE; line++) {
            if (line < VECTORS)
                _mm_prefetch((const char *)(s->y + (row + (size_t)i) * s->y_stride + line * LANES), _MM_HINT_T0);
            _mm_prefetch((const char *)(x + (size_t)(i + rows) * s->x_stride) + line * LINE, _MM_HINT_T0);
        }
    for (size_t p = 0; p < s->pairs; p++) {
        __m512bh w[VECTORS];
        for (int v = 0; v < VECTORS; v++)
            w[v] = (__m512bh)_mm512_load_si512(s->panel + p * HT_FLOATS_STRIP + v * LANES);
        for (int i = 0; i < rows; i++) {
            __m512bh a = (__m512bh)_mm512_set1_epi32((int)x[(size_t)i * s->x_stride + p]);
            for (int v = 0; v < VECTORS; v++)
                sum[i][v] = _mm512_dpbf16_ps(sum[i][v], a, w[v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < VECTORS; v++) {
            size_t column = (size_t)v * LANES, left = s->columns > column ? s->columns - column : 0;
            __mmask16 mask = left >= LANES ? 0xffff : (__mmask16)((1u << left) - 1);
            float *y = s->y + (row + (size_t)i) * s->y_stride + column;
            __m512 f = s->first ? sum[i][v] : _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), sum[i][v]);
            if (s->bias)
                f = _mm512_add_ps(f, _mm512_maskz_loadu_ps(mask, s->bias + column));
            _mm512_mask_storeu_ps(y, mask, f);
        }
}

static void all_rows(const span *s, size_t m) {
    size_t row = 0;
    for (; row + TILE <= m; row += TILE)
        tile(s, row, TILE);
    switch (m - row) {
    case 4:
        tile(s, row, 4);
        break;
    case 3:
        tile(s, row, 3);
        break;
    case 2:
        tile(s, row, 2);
        break;
    case 1:
        tile(s, row, 1);
        break;
    default:
        break;
    }
}

/* `rows` outputs from n on, at most 64, given as rows of bf16. */
static void strip(const ht_matmul *product, const ht_floats_memory *at, const uint16_t *w, size_t w_stride, size_t n,
                  size_t rows) {
    size_t cols = product->weight->cols;
    for (size_t k = 0; k < cols; k += HT_FLOATS_DEPTH) {
        size_t end = cols - k < HT_FLOATS_DEPTH ? cols : k + HT_FLOATS_DEPTH;
        fill_panel(w, w_stride, rows, k, end, at->panel);
        const span s = {.panel = at->panel,
                        .pairs = (end - k + 1) / 2,
                        .x = (const uint32_t *)(const void *)(at->x + k),
                        .x_stride = at->stride / 2,
                        .y = product->y + n,
                        .y_stride = product->y_stride,
                        .columns = rows,
                        .first = k == 0,
                        .bias = product->bias && end == cols ? product->bias + n : NULL};
        all_rows(&s, product->m);
    }
}

void ht_floats_avx512bf16(const ht_matmul *product, size_t n0, size_t n1, void *scratch) {
    const ht_weight *weight = product->weight;
    const ht_floats_memory at = ht_floats_memory_at(weight, product->m, scratch);
    size_t cols = weight->cols;
    for (size_t i = 0; i < product->m; i++)
        round_row(product->x + i * product->x_stride, cols, at.stride, at.x + i * at.stride);
    int stored = ht_decode_is_bf16(weight);
    const uint16_t *codes = ht_weight_planes(weight, product->index).plane[HT_PLANE_CODES];
    for (size_t n = n0, count; n < n1; n += count) {
        count = n1 - n < at.strip ? n1 - n : at.strip;
        for (size_t j = 0; j < count && !stored; j += at.group) {
            size_t rows = count - j < at.group ? count - j : at.group;
            product->decode(weight, product->index, n + j, rows, at.decoded);
            for (size_t i = 0; i < rows; i++)
                round_row(at.decoded + i * cols, cols, at.stride, at.w + (j + i) * at.stride);
        }
        for (size_t j = 0; j < count; j += HT_FLOATS_STRIP) {
            const uint16_t *w = stored ? codes + (n + j) * cols : at.w + j * at.stride;
            strip(product, &at, w, stored ? cols : at.stride, n + j,
                  count - j < HT_FLOATS_STRIP ? count - j : HT_FLOATS_STRIP);
        }
    }
}
