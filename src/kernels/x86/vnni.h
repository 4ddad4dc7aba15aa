/* Parts that the AVX-512 VNNI products share: scales and offsets of a panel, corrections of unsigned weights, the last
 * step from sums to y. Included by files compiled with those instructions only. */
#ifndef HT_KERNELS_X86_VNNI_H
#define HT_KERNELS_X86_VNNI_H

#include <immintrin.h>

#include "kernels/product.h"

enum { VNNI_STRIP = 64, VNNI_VECTORS = VNNI_STRIP / HT_PANEL };

/* Scales of 16 outputs for one group of a chunk. */
static inline __m512 vnni_scales(const ht_packed *w, const uint8_t *chunk, size_t group) {
    if (w->scale == HT_PACKED_SCALE_F32)
        return _mm512_loadu_ps((const float *)(const void *)(chunk + 64 * group));
    if (w->scale == HT_PACKED_SCALE_BF16)
        return _mm512_castsi512_ps(_mm512_slli_epi32(
            _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)(const void *)(chunk + 32 * group))), 16));
    __m512i e = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(chunk + 16 * group)));
    return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_slli_epi32(e, 23), _mm512_set1_epi32(0x00400000)));
}

/* -(offset + zero point) of 16 outputs. */
static inline __m512i vnni_zeros(const ht_packed *w, const uint8_t *chunk, size_t group) {
    const uint8_t *zeros = chunk + w->scale_bytes + 16 * group;
    return _mm512_sub_epi32(_mm512_set1_epi32(-w->offset),
                            _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(const void *)zeros)));
}

/* Sums of the codes of every unit of one row of a chunk, from those of its 8 blocks, times `factor`. */
static inline void vnni_unit_sums(const int32_t *sums, size_t unit, int factor, int32_t *out) {
    __m256i s = _mm256_loadu_si256((const __m256i *)(const void *)sums);
    if (unit >= 64)
        s = _mm256_permutevar8x32_epi32(_mm256_hadd_epi32(s, s), _mm256_setr_epi32(0, 1, 4, 5, 0, 1, 4, 5));
    if (unit >= 128)
        s = _mm256_hadd_epi32(s, s);
    if (unit >= 256)
        s = _mm256_hadd_epi32(s, s);
    s = _mm256_mullo_epi32(s, _mm256_set1_epi32(factor));
    _mm256_storeu_si256((__m256i *)(void *)out, s);
}

static inline __mmask16 vnni_columns(const ht_product *product, size_t n, size_t n1) {
    size_t end = n1 < product->weight->rows ? n1 : product->weight->rows;
    return end - n >= 16 ? 0xffff : (__mmask16)((1u << (end - n)) - 1);
}

/* y of row i and outputs n .. n + 15 from their sums: floats, or integers where one unit is all of k. */
static inline void vnni_finish(const ht_product *product, int whole, size_t i, size_t n, size_t n1, __m512 f) {
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    __mmask16 mask = vnni_columns(product, n, n1);
    float r = x->span == HT_SPAN_ROW ? x->scales[i] * w->unit : w->unit;
    if (w->head_bytes) {
        __m512 s = _mm512_loadu_ps((const float *)(const void *)(product->panels + n / HT_PANEL * w->panel_bytes));
        if (w->head == HT_PACKED_HEAD_DIVIDES)
            s = _mm512_div_ps(_mm512_set1_ps(1), s);
        f = whole ? _mm512_mul_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_castps_si512(f)), s), _mm512_set1_ps(r))
                  : _mm512_mul_ps(f, _mm512_mul_ps(s, _mm512_set1_ps(r)));
    } else {
        f = _mm512_mul_ps(f, _mm512_set1_ps(r));
    }
    if (product->bias)
        f = _mm512_add_ps(f, _mm512_maskz_loadu_ps(mask, product->bias + n));
    _mm512_mask_storeu_ps(product->y + i * product->y_stride + n, mask, f);
}

#endif
