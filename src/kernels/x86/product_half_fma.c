/* Int8 inputs times a packed weight of 4 bits whose groups are 16 (NVFP4), with AVX2.
 *
 * Low nibbles of a block are one group of 16, high ones the next (see product_half_avx512vnni.c). Values are at most
 * 24, so the four vpmaddubsw of a group add up in 16 bits (4 * 2 * 24 * 128 = 24576) and one vpmaddwd widens them.
 * Eight outputs at a time. Order of rounding: kernels/product.h. Source: cpu-kernels specification, section 5.6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <immintrin.h>
#include <string.h> /* memcpy */

#include "kernels/body/halves.h"
#include "kernels/body/units.h"

enum { LANES = 8, HALF_UNIT = HT_UNIT / 2 };

struct half {
    const ht_product *product;
    const uint8_t *panel;
    const int32_t *sums; /* of body/halves.h, times -offset */
    size_t row, n, n1;
};

/* Sums of the two groups of a block, without their start, for 8 outputs. */
static inline __attribute__((always_inline)) void block(const uint8_t *w, const int8_t *a, size_t stride, size_t rows,
                                                        __m256i table, __m256i sum[HALF_ROWS][2]) {
    __m256i mask = _mm256_set1_epi8(15);
    for (size_t u = 0; u < 4; u++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(w + u * HT_UNIT)), value[2];
        value[0] = _mm256_shuffle_epi8(table, _mm256_and_si256(x, mask));
        value[1] = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), mask));
        for (size_t r = 0; r < rows; r++)
            for (size_t h = 0; h < 2; h++) {
                int32_t word;
                memcpy(&word, a + r * stride + 4 * u + h * HALF, sizeof word);
                __m256i pairs = _mm256_maddubs_epi16(value[h], _mm256_set1_epi32(word));
                sum[r][h] = u ? _mm256_add_epi16(sum[r][h], pairs) : pairs;
            }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < 2; h++)
            sum[r][h] = _mm256_madd_epi16(sum[r][h], _mm256_set1_epi16(1));
}

/* Eight outputs of one chunk into f; side: 0 or 1, the half of the panel. */
static inline __attribute__((always_inline)) void run_chunk(const struct half *s, size_t c, size_t rows, size_t side,
                                                            __m256i table, __m256 f[HALF_ROWS]) {
    const ht_packed *w = s->product->weight;
    const ht_int8_rows *x = s->product->x;
    size_t width = ht_packed_chunk_width(w, c), first = c * x->m + s->row;
    const uint8_t *chunk = ht_packed_chunk(w, s->panel, c), *at = chunk + w->scale_bytes + side * HALF_UNIT;
    const int8_t *a = x->codes + HT_KCHUNK * x->m * c + s->row * width;
    const int32_t *sums = s->sums + c * HALF_ROWS * CHUNK_HALVES;
    __m256 g[HALF_ROWS];
    for (size_t r = 0; r < rows; r++)
        g[r] = _mm256_setzero_ps();
    for (size_t b = 0; b < width / HT_BLOCK; b++, at += w->block_bytes) {
        __m256i sum[HALF_ROWS][2];
        block(at, a + b * HT_BLOCK, width, rows, table, sum);
        for (size_t h = 0; h < 2; h++) {
            float scale[LANES];
            for (size_t j = 0; j < LANES; j++)
                scale[j] = chunk_scale(w, chunk, 2 * b + h, side * LANES + j);
            __m256 p = _mm256_loadu_ps(scale);
            for (size_t r = 0; r < rows; r++) {
                __m256i d = _mm256_add_epi32(sum[r][h], _mm256_set1_epi32(sums[r * CHUNK_HALVES + 2 * b + h]));
                __m256 q = p;
                if (x->span == HT_SPAN_32)
                    q = _mm256_mul_ps(p, _mm256_set1_ps(x->scales[(first + r) * HT_KCHUNK_BLOCKS + b]));
                g[r] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(d), q, g[r]);
            }
        }
    }
    for (size_t r = 0; r < rows; r++)
        f[r] = x->span == HT_SPAN_256 ? _mm256_fmadd_ps(g[r], _mm256_set1_ps(x->scales[first + r]), f[r])
                                      : _mm256_add_ps(f[r], g[r]);
}

static void finish(const struct half *s, size_t row, size_t side, __m256 f) {
    const ht_product *product = s->product;
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    size_t n = s->n + side * LANES, end = s->n1 < w->rows ? s->n1 : w->rows;
    float sums[LANES], r = x->span == HT_SPAN_ROW ? x->scales[row] * w->unit : w->unit;
    _mm256_storeu_ps(sums, f);
    for (size_t j = 0; j < LANES && n + j < end; j++) {
        float y = sums[j] * (w->head_bytes ? head_scale(w, s->panel, side * LANES + j) * r : r);
        product->y[row * product->y_stride + n + j] = product->bias ? y + product->bias[n + j] : y;
    }
}

static inline __attribute__((always_inline)) void run(const struct half *s, size_t rows) {
    const ht_packed *w = s->product->weight;
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)w->table));
    for (size_t side = 0; side < 2; side++) {
        __m256 f[HALF_ROWS];
        for (size_t r = 0; r < rows; r++)
            f[r] = _mm256_setzero_ps();
        for (size_t c = 0; c < s->product->x->chunks; c++)
            run_chunk(s, c, rows, side, table, f);
        for (size_t r = 0; r < rows; r++)
            finish(s, s->row + r, side, f[r]);
    }
}

static void one_row(const struct half *s) {
    run(s, 1);
}
static void two_rows(const struct half *s) {
    run(s, 2);
}
static void three_rows(const struct half *s) {
    run(s, 3);
}
static void four_rows(const struct half *s) {
    run(s, HALF_ROWS);
}

void ht_product_half_fma(const ht_product *product, size_t n0, size_t n1, void *scratch) {
    static void (*const RUN[])(const struct half *s) = {one_row, two_rows, three_rows, four_rows};
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    struct half s = {.product = product, .sums = scratch, .n1 = n1};
    for (size_t rows; s.row < x->m; s.row += rows) {
        rows = x->m - s.row < HALF_ROWS ? x->m - s.row : HALF_ROWS;
        half_sums(x, w, s.row, rows, -w->offset, scratch);
        for (s.n = n0; s.n < n1; s.n += HT_PANEL) {
            s.panel = product->panels + s.n / HT_PANEL * w->panel_bytes;
            RUN[rows - 1](&s);
        }
    }
}
