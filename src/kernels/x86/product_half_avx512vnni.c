/* Int8 inputs times a packed weight of 4 bits whose groups are 16 (NVFP4), unpacked in registers.
 *
 * A unit of packed bytes holds steps s and s + 4 of a block in its two nibbles, that is k and k + 16: so the low
 * nibbles of a block are one group and the high ones the next.
 *
 *     for 4 rows of x { sums of 16 codes; for 16 outputs { per block: 4 loads, 8 look-ups, 8 vpdpbusd a row
 *                                                         low sums * scale, high sums * scale } }
 *
 * A scale is e4m3: its bits, moved up by 7, are a half float 256 times too small, subnormals included.
 * Order of rounding: kernels/product.h. Source: cpu-kernels specification, sections 5.1 and 5.2.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* memcpy */

#include "kernels/body/halves.h"
#include "kernels/x86/vnni.h"

enum { AHEAD = 12288 };

struct half {
    const ht_product *product;
    const uint8_t *panel;
    const int32_t *sums; /* of body/halves.h, times -offset */
    size_t row, n, n1;
};

static inline __attribute__((always_inline)) __m512i broadcast(const void *from) {
    int32_t word;
    memcpy(&word, from, sizeof word);
    return _mm512_set1_epi32(word);
}

static inline __m512 e4m3_scales(const uint8_t *from) {
    __m256i code = _mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
    __m256i magnitude = _mm256_and_si256(code, _mm256_set1_epi16(0x7f));
    __m256i sign = _mm256_slli_epi16(_mm256_and_si256(code, _mm256_set1_epi16(0x80)), 8);
    __mmask16 is_nan = _mm256_cmpeq_epi16_mask(magnitude, _mm256_set1_epi16(0x7f));
    __m512 scale = _mm512_cvtph_ps(_mm256_or_si256(_mm256_slli_epi16(magnitude, 7), sign));
    return _mm512_mask_mov_ps(_mm512_mul_ps(scale, _mm512_set1_ps(256)), is_nan, _mm512_set1_ps(__builtin_nanf("")));
}

static inline __attribute__((always_inline)) void block(const uint8_t *w, const int8_t *a, size_t stride, size_t rows,
                                                        __m512i table, __m512i acc[HALF_ROWS][2]) {
    for (size_t u = 0; u < 4; u++) {
        __m512i x = _mm512_loadu_si512(w + u * HT_UNIT);
        __asm__("" : "+v"(x)); /* loaded once, not again for the shift */
        __m512i low = _mm512_permutexvar_epi8(x, table);
        __m512i high = _mm512_permutexvar_epi8(_mm512_srli_epi16(x, 4), table);
        _mm_prefetch((const char *)w + AHEAD + u * HT_UNIT, _MM_HINT_T0);
        for (size_t r = 0; r < rows; r++) {
            const int8_t *codes = a + r * stride + 4 * u;
            acc[r][0] = _mm512_dpbusd_epi32(acc[r][0], low, broadcast(codes));
            acc[r][1] = _mm512_dpbusd_epi32(acc[r][1], high, broadcast(codes + HALF));
        }
    }
}

static inline __attribute__((always_inline)) void run_chunk(const struct half *s, size_t c, size_t rows, __m512i table,
                                                            __m512 f[HALF_ROWS]) {
    const ht_packed *w = s->product->weight;
    const ht_int8_rows *x = s->product->x;
    size_t width = ht_packed_chunk_width(w, c), first = c * x->m + s->row;
    const uint8_t *scales = ht_packed_chunk(w, s->panel, c), *at = scales + w->scale_bytes;
    const int8_t *a = x->codes + HT_KCHUNK * x->m * c + s->row * width;
    const int32_t *sums = s->sums + c * HALF_ROWS * CHUNK_HALVES;
    __m512 g[HALF_ROWS];
    for (size_t r = 0; r < rows; r++)
        g[r] = _mm512_setzero_ps();
    for (size_t line = 0; line < w->scale_bytes; line += HT_UNIT)
        _mm_prefetch((const char *)scales + AHEAD + line, _MM_HINT_T0);
    for (size_t b = 0; b < width / HT_BLOCK; b++, at += w->block_bytes) {
        __m512i acc[HALF_ROWS][2];
        for (size_t r = 0; r < rows; r++)
            for (size_t h = 0; h < 2; h++)
                acc[r][h] = _mm512_set1_epi32(sums[r * CHUNK_HALVES + 2 * b + h]);
        block(at, a + b * HT_BLOCK, width, rows, table, acc);
        for (size_t h = 0; h < 2; h++) {
            __m512 p = e4m3_scales(scales + (2 * b + h) * HT_PANEL);
            for (size_t r = 0; r < rows; r++) {
                __m512 q = p;
                if (x->span == HT_SPAN_32)
                    q = _mm512_mul_ps(p, _mm512_set1_ps(x->scales[(first + r) * HT_KCHUNK_BLOCKS + b]));
                g[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][h]), q, g[r]);
            }
        }
    }
    for (size_t r = 0; r < rows; r++)
        f[r] = x->span == HT_SPAN_256 ? _mm512_fmadd_ps(g[r], _mm512_set1_ps(x->scales[first + r]), f[r])
                                      : _mm512_add_ps(f[r], g[r]);
}

static inline __attribute__((always_inline)) void run(const struct half *s, size_t rows) {
    __m512i table = _mm512_loadu_si512(s->product->weight->table);
    __m512 f[HALF_ROWS];
    for (size_t r = 0; r < rows; r++)
        f[r] = _mm512_setzero_ps();
    for (size_t c = 0; c < s->product->x->chunks; c++)
        run_chunk(s, c, rows, table, f);
    for (size_t r = 0; r < rows; r++)
        vnni_finish(s->product, 0, s->row + r, s->n, s->n1, f[r]);
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

void ht_product_half_avx512vnni(const ht_product *product, size_t n0, size_t n1, void *scratch) {
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
