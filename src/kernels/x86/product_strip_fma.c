/* Int8 inputs times a packed weight with AVX2: unpack 16 outputs x 256 k to bytes, use them for all rows.
 *
 *     for 16 outputs { for 512 rows of x { for 256 k {
 *         low[64 steps][64 bytes], and high[...] for values above 24: 4 KB each
 *         4 rows x 16 outputs at a time
 *     } y } }
 *
 * vpmaddubsw adds pairs of products in 16 bits; they are added up there as long as they fit, then widened by vpmaddwd:
 * values up to 15 for 8 steps (8 * 2 * 15 * 128 = 30720), MXFP4 (up to 24) for 4. Larger values are split into nibbles,
 * low and high, whose sums are exact too; the high one is widened with 16 in place of 1. Weights are unsigned, value +
 * offset; accumulators start at -offset * sum(codes of x). Order of rounding: kernels/product.h.
 * Source: cpu-kernels specification, sections 5.6 and 11.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <immintrin.h>
#include <string.h> /* memcpy, memset */

#include "kernels/body/units.h"
#include "kernels/product.h"

enum {
    MOST_ROWS = 512,
    MR = 3,
    HALVES = 2,
    LANES = 8,
    PANEL_BYTES = HT_KCHUNK * HT_PANEL,
    SMALL_VALUE = 15,
    MIDDLE_VALUE = 24
};

typedef enum reach { EIGHT_STEPS, FOUR_STEPS, SPLIT } reach;

struct strip {
    uint8_t low[PANEL_BYTES], high[PANEL_BYTES];
    float p[HT_KCHUNK_BLOCKS][HT_PANEL];
    int32_t zeros[HT_KCHUNK_BLOCKS][HT_PANEL];
    /* then: f [rows][16] */
};

struct chunk {
    const ht_packed *w;
    const struct strip *strip;
    size_t width, unit;
    int whole;
    const int8_t *codes;              /* of the first row */
    const int32_t *sums;              /* [rows][8]: of blocks */
    const float *by_block, *by_chunk; /* scales of x: [rows][8], [rows]; NULL: none of this kind */
    float *f;                         /* [rows][16] */
};

/* --- unpacking --------------------------------------------------------------------------------------------------- */

static reach reach_of(const ht_packed *w) {
    int most = w->bits < 7 ? 0 : 255;
    for (size_t i = 0; i < sizeof w->table && w->bits < 7; i++)
        most = w->table[i] > most ? w->table[i] : most;
    return most <= SMALL_VALUE ? EIGHT_STEPS : most <= MIDDLE_VALUE ? FOUR_STEPS : SPLIT;
}

static void unpack_nibbles(const ht_packed *w, const uint8_t *blocks, size_t count, uint8_t *out) {
    __m256i table = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(const void *)w->table));
    __m256i mask = _mm256_set1_epi8(15);
    for (size_t u = 0; u < count * 4 * HALVES; u++) {
        __m256i x = _mm256_loadu_si256((const __m256i *)(const void *)(blocks + u * 32));
        uint8_t *to = out + u / 8 * HT_STEPS * HT_UNIT + u % 8 * 32;
        __m256i low = _mm256_and_si256(x, mask), high = _mm256_and_si256(_mm256_srli_epi16(x, 4), mask);
        _mm256_storeu_si256((__m256i *)(void *)to, _mm256_shuffle_epi8(table, low));
        _mm256_storeu_si256((__m256i *)(void *)(to + 4 * HT_UNIT), _mm256_shuffle_epi8(table, high));
    }
}

static void unpack(const ht_packed *w, const uint8_t *chunk, const struct chunk *c, reach how, struct strip *strip) {
    const uint8_t *from = chunk + w->scale_bytes + w->zero_bytes;
    size_t blocks = c->width / HT_BLOCK;
    if (w->bits == 4)
        unpack_nibbles(w, from, blocks, strip->low);
    else
        for (size_t b = 0; b < blocks; b++)
            block_values(w, from + b * w->block_bytes, strip->low + b * HT_STEPS * HT_UNIT);
    for (size_t i = 0; how == SPLIT && i < c->width * HT_PANEL; i++) {
        strip->high[i] = strip->low[i] >> 4;
        strip->low[i] &= 15;
    }
    for (size_t u = 0, at = 0; at < c->width; u++, at += c->unit)
        for (size_t column = 0; column < HT_PANEL; column++) {
            size_t group = w->group ? at / w->group : 0;
            strip->p[u][column] = w->group ? chunk_scale(w, chunk, group, column) : 1;
            strip->zeros[u][column] = -w->offset;
            if (w->has_zeros)
                strip->zeros[u][column] -= (int8_t)chunk[w->scale_bytes + group * HT_PANEL + column];
        }
}

/* --- tiles ------------------------------------------------------------------------------------------------------- */

/* Sums of `steps` steps in 16 bits, widened with `weight` (1 or 16). */
static inline __attribute__((always_inline)) void run_steps(const uint8_t *w, const int8_t *a, size_t stride,
                                                            size_t steps, size_t rows, short weight,
                                                            __m256i acc[MR][HALVES]) {
    __m256i narrow[MR][HALVES], factor = _mm256_set1_epi16(weight);
    for (size_t s = 0; s < steps; s++) {
        __m256i left = _mm256_loadu_si256((const __m256i *)(const void *)(w + s * HT_UNIT));
        __m256i right = _mm256_loadu_si256((const __m256i *)(const void *)(w + s * HT_UNIT + 32));
        for (size_t r = 0; r < rows; r++) {
            int32_t word;
            memcpy(&word, a + r * stride + 4 * s, sizeof word);
            __m256i x = _mm256_set1_epi32(word), y = _mm256_maddubs_epi16(left, x), z = _mm256_maddubs_epi16(right, x);
            narrow[r][0] = s ? _mm256_add_epi16(narrow[r][0], y) : y;
            narrow[r][1] = s ? _mm256_add_epi16(narrow[r][1], z) : z;
            __asm__("" : "+x"(narrow[r][0]), "+x"(narrow[r][1])); /* added now: else all products are kept first */
        }
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < HALVES; h++)
            acc[r][h] = _mm256_add_epi32(acc[r][h], _mm256_madd_epi16(narrow[r][h], factor));
}

static inline __attribute__((always_inline)) void run_block(const struct chunk *c, size_t k, const int8_t *a,
                                                            size_t rows, reach how, __m256i acc[MR][HALVES]) {
    const uint8_t *low = c->strip->low + k * HT_PANEL, *high = c->strip->high + k * HT_PANEL;
    if (how == FOUR_STEPS) {
        run_steps(low, a, c->width, 4, rows, 1, acc);
        run_steps(low + 4 * HT_UNIT, a + 16, c->width, 4, rows, 1, acc);
        return;
    }
    run_steps(low, a, c->width, HT_STEPS, rows, 1, acc);
    if (how == SPLIT)
        run_steps(high, a, c->width, HT_STEPS, rows, 16, acc);
}

static inline __attribute__((always_inline)) void finish_unit(const struct chunk *c, size_t row, size_t u, size_t rows,
                                                              __m256i acc[MR][HALVES], float g[MR][HT_PANEL]) {
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < HALVES; h++) {
            float *at = g[r] + h * LANES;
            __m256 p = _mm256_loadu_ps(c->strip->p[u] + h * LANES), t = _mm256_cvtepi32_ps(acc[r][h]);
            if (c->by_block)
                p = _mm256_mul_ps(p, _mm256_set1_ps(c->by_block[(row + r) * HT_KCHUNK_BLOCKS + u]));
            _mm256_storeu_ps(at, _mm256_fmadd_ps(t, p, _mm256_loadu_ps(at)));
        }
}

static inline __attribute__((always_inline)) void finish_chunk(const struct chunk *c, size_t row, size_t rows,
                                                               __m256i acc[MR][HALVES], float g[MR][HT_PANEL]) {
    for (size_t r = 0; r < rows; r++)
        for (size_t h = 0; h < HALVES; h++) {
            float *f = c->f + (row + r) * HT_PANEL + h * LANES;
            __m256 old = _mm256_loadu_ps(f), new = _mm256_loadu_ps(g[r] + h * LANES);
            if (c->whole)
                old = _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(old), acc[r][h]));
            else if (c->by_chunk)
                old = _mm256_fmadd_ps(new, _mm256_set1_ps(c->by_chunk[row + r]), old);
            else
                old = _mm256_add_ps(old, new);
            _mm256_storeu_ps(f, old);
        }
}

static inline __attribute__((always_inline)) void tile(const struct chunk *c, size_t row, size_t rows, reach how) {
    const int8_t *a = c->codes + row * c->width;
    float g[MR][HT_PANEL] = {{0}};
    __m256i acc[MR][HALVES] = {{_mm256_setzero_si256()}};
    for (size_t u = 0, k = 0; k < c->width; u++) {
        size_t end = k + c->unit < c->width ? k + c->unit : c->width;
        for (size_t r = 0; r < rows; r++) {
            int32_t sum = 0;
            for (size_t b = k / HT_BLOCK; b < end / HT_BLOCK; b++)
                sum += c->sums[(row + r) * HT_KCHUNK_BLOCKS + b];
            for (size_t h = 0; h < HALVES; h++)
                acc[r][h] = _mm256_mullo_epi32(
                    _mm256_set1_epi32(sum),
                    _mm256_loadu_si256((const __m256i *)(const void *)(c->strip->zeros[u] + h * LANES)));
        }
        for (; k < end; k += HT_BLOCK)
            run_block(c, k, a + k, rows, how, acc);
        if (!c->whole)
            finish_unit(c, row, u, rows, acc, g);
    }
    finish_chunk(c, row, rows, acc, g);
}

static inline __attribute__((always_inline)) void tiles(const struct chunk *c, size_t rows, reach how) {
    size_t r = 0;
    for (; r + MR <= rows; r += MR)
        tile(c, r, MR, how);
    for (; r + 2 <= rows; r += 2)
        tile(c, r, 2, how);
    if (r < rows)
        tile(c, r, 1, how);
}

static void tiles_eight(const struct chunk *c, size_t rows) {
    tiles(c, rows, EIGHT_STEPS);
}
static void tiles_four(const struct chunk *c, size_t rows) {
    tiles(c, rows, FOUR_STEPS);
}
static void tiles_split(const struct chunk *c, size_t rows) {
    tiles(c, rows, SPLIT);
}

/* --- the loops -----------------------------------------------------------------------------------------------------
 */

static void run_chunk(const ht_product *product, const uint8_t *panel, size_t row0, size_t rows, size_t index,
                      reach how, struct strip *strip, float *f) {
    static void (*const TILES[])(const struct chunk *c, size_t rows) = {tiles_eight, tiles_four, tiles_split};
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    size_t unit = ht_product_unit(w, x->span), first = index * x->m + row0, width = ht_packed_chunk_width(w, index);
    struct chunk c = {.w = w,
                      .strip = strip,
                      .width = width,
                      .unit = unit ? unit : HT_KCHUNK,
                      .whole = !unit,
                      .codes = x->codes + HT_KCHUNK * x->m * index + row0 * width,
                      .sums = x->sums + first * HT_KCHUNK_BLOCKS,
                      .by_block = x->span == HT_SPAN_32 ? x->scales + first * HT_KCHUNK_BLOCKS : NULL,
                      .by_chunk = x->span == HT_SPAN_256 ? x->scales + first : NULL,
                      .f = f};
    unpack(w, ht_packed_chunk(w, panel, index), &c, how, strip);
    TILES[how](&c, rows);
}

/* y of one row and up to 16 outputs from their sums: floats, or integers where one unit is all of k. */
static void finish(const ht_product *product, const uint8_t *panel, size_t i, size_t n, size_t n1, const float *f) {
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    int whole = !ht_product_unit(w, x->span);
    float r = x->span == HT_SPAN_ROW ? x->scales[i] * w->unit : w->unit, scale[HT_PANEL];
    for (size_t j = 0; w->head_bytes && j < HT_PANEL; j++)
        scale[j] = head_scale(w, panel, j);
    for (size_t j = 0; j < HT_PANEL && n + j < n1; j++) {
        int32_t sum;
        memcpy(&sum, f + j, sizeof sum);
        float y = whole ? (float)sum * scale[j] * r : f[j] * (w->head_bytes ? scale[j] * r : r);
        product->y[i * product->y_stride + n + j] = product->bias ? y + product->bias[n + j] : y;
    }
}

void ht_product_strip_fma(const ht_product *product, size_t n0, size_t n1, void *scratch) {
    const ht_int8_rows *x = product->x;
    const ht_packed *w = product->weight;
    struct strip *strip = scratch;
    float *f = (float *)(void *)(strip + 1);
    reach how = reach_of(w);
    for (size_t n = n0; n < n1; n += HT_PANEL)
        for (size_t row0 = 0; row0 < x->m; row0 += MOST_ROWS) {
            const uint8_t *panel = product->panels + n / HT_PANEL * w->panel_bytes;
            size_t rows = x->m - row0 < MOST_ROWS ? x->m - row0 : MOST_ROWS;
            memset(f, 0, rows * HT_PANEL * sizeof *f);
            for (size_t c = 0; c < x->chunks; c++)
                run_chunk(product, panel, row0, rows, c, how, strip, f);
            for (size_t i = 0; i < rows; i++)
                finish(product, panel, row0 + i, n, n1, f + i * HT_PANEL);
        }
}
