/* Sixteen codes, one a byte, to their packed bytes: what both widths share. */
#ifndef HT_KERNELS_X86_WIDE_PACK_H
#define HT_KERNELS_X86_WIDE_PACK_H

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

/* 8 bytes, the even code in the low nibble: c0 + 16 c1 in 16-bit lanes, of which the low bytes count. */
static inline void w_put_low(uint8_t *p, __m128i codes) {
    __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x1001));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(pairs, pairs));
}
static inline void w_put_high(uint8_t *p, __m128i codes) {
    __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x0110));
    _mm_storel_epi64((__m128i *)p, _mm_packus_epi16(pairs, pairs));
}
static inline void w_put_bytes(uint8_t *p, __m128i codes) {
    _mm_storeu_si128((__m128i *)p, codes);
}
/* 12 bytes: 4 codes of 6 bits in 3. */
static inline void w_put_sixes(uint8_t *p, __m128i codes) {
    __m128i pairs = _mm_maddubs_epi16(codes, _mm_set1_epi16(0x4001));
    __m128i fours = _mm_madd_epi16(pairs, _mm_set1_epi32(0x10000001));
    __m128i dense = _mm_shuffle_epi8(fours, _mm_setr_epi8(0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, -1, -1, -1, -1));
    int rest = _mm_extract_epi32(dense, 2);
    _mm_storel_epi64((__m128i *)p, dense);
    memcpy(p + 8, &rest, 4);
}

#endif
