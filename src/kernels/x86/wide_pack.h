/* Sixteen codes, one a byte, to their packed bytes: what both widths share. */
#ifndef HT_KERNELS_X86_WIDE_PACK_H
#define HT_KERNELS_X86_WIDE_PACK_H

#include <immintrin.h>
#include <stddef.h>
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

/* Largest magnitude of 16 bf16, as bits. */
static inline uint16_t w_largest_half(const uint16_t *p) {
    __m128i sign = _mm_set1_epi16((short)0x8000), low = _mm_loadu_si128((const __m128i *)p);
    __m128i high = _mm_loadu_si128((const __m128i *)(p + 8));
    __m128i most = _mm_max_epu16(_mm_andnot_si128(sign, low), _mm_andnot_si128(sign, high));
    return (uint16_t)~_mm_cvtsi128_si32(_mm_minpos_epu16(_mm_xor_si128(most, _mm_set1_epi16(-1))));
}

/* 32 codes, one a byte, to 16 bytes, 24 bytes. */
static inline void w_put_low_32(uint8_t *p, __m256i codes) {
    __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x1001));
    __m128i both = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128((__m128i *)p, both);
}
static inline void w_put_high_32(uint8_t *p, __m256i codes) {
    __m256i pairs = _mm256_maddubs_epi16(codes, _mm256_set1_epi16(0x0110));
    __m128i both = _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
    _mm_storeu_si128((__m128i *)p, both);
}
static inline void w_put_bytes_32(uint8_t *p, __m256i codes) {
    _mm256_storeu_si256((__m256i *)p, codes);
}
static inline void w_put_sixes_32(uint8_t *p, __m256i codes) {
    w_put_sixes(p, _mm256_castsi256_si128(codes));
    w_put_sixes(p + 12, _mm256_extracti128_si256(codes, 1));
}

/* Largest of the 16 words of each of 16 registers, in order: unpacking two registers and taking the larger of the
 * halves leaves the words of both, half as many. */
static inline __m256i w_largest_words(const __m256i v[16]) {
    __m256i pair[8], four[4], eight[2];
    for (int i = 0; i < 8; i++)
        pair[i] = _mm256_max_epu16(_mm256_unpacklo_epi16(v[2 * i], v[2 * i + 1]),
                                   _mm256_unpackhi_epi16(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 4; i++)
        four[i] = _mm256_max_epu16(_mm256_unpacklo_epi32(pair[2 * i], pair[2 * i + 1]),
                                   _mm256_unpackhi_epi32(pair[2 * i], pair[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        eight[i] = _mm256_max_epu16(_mm256_unpacklo_epi64(four[2 * i], four[2 * i + 1]),
                                    _mm256_unpackhi_epi64(four[2 * i], four[2 * i + 1]));
    return _mm256_max_epu16(_mm256_permute2x128_si256(eight[0], eight[1], 0x20),
                            _mm256_permute2x128_si256(eight[0], eight[1], 0x31));
}
/* The same of the 8 signed numbers of each of 8 registers. */
static inline __m256i w_largest_numbers(const __m256i v[8]) {
    __m256i pair[4], four[2];
    for (int i = 0; i < 4; i++)
        pair[i] = _mm256_max_epi32(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                                   _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    for (int i = 0; i < 2; i++)
        four[i] = _mm256_max_epi32(_mm256_unpacklo_epi64(pair[2 * i], pair[2 * i + 1]),
                                   _mm256_unpackhi_epi64(pair[2 * i], pair[2 * i + 1]));
    return _mm256_max_epi32(_mm256_permute2x128_si256(four[0], four[1], 0x20),
                            _mm256_permute2x128_si256(four[0], four[1], 0x31));
}

/* Bits of the largest magnitudes of 16 blocks of `width` (16 or 32) bf16, f32, as they follow each other. */
static inline void w_block_amax_bf16(const uint16_t *x, size_t width, uint32_t *amax) {
    __m256i v[16], magnitude = _mm256_set1_epi16(0x7fff);
    for (size_t b = 0; b < 16; b++) {
        const __m256i *from = (const __m256i *)(const void *)(x + b * width);
        v[b] = _mm256_and_si256(_mm256_loadu_si256(from), magnitude);
        if (width == 32)
            v[b] = _mm256_max_epu16(v[b], _mm256_and_si256(_mm256_loadu_si256(from + 1), magnitude));
    }
    __m256i most = w_largest_words(v), zero = _mm256_setzero_si256();
    __m256i low = _mm256_unpacklo_epi16(zero, most), high = _mm256_unpackhi_epi16(zero, most);
    _mm256_storeu_si256((__m256i *)(void *)amax, _mm256_permute2x128_si256(low, high, 0x20));
    _mm256_storeu_si256((__m256i *)(void *)(amax + 8), _mm256_permute2x128_si256(low, high, 0x31));
}
static inline void w_block_amax_f32(const float *x, size_t width, uint32_t *amax) {
    __m256i v[8], magnitude = _mm256_set1_epi32(0x7fffffff);
    for (size_t half = 0; half < 2; half++) {
        for (size_t b = 0; b < 8; b++) {
            const __m256i *from = (const __m256i *)(const void *)(x + (half * 8 + b) * width);
            v[b] = _mm256_and_si256(_mm256_loadu_si256(from), magnitude);
            for (size_t i = 1; i < width / 8; i++)
                v[b] = _mm256_max_epi32(v[b], _mm256_and_si256(_mm256_loadu_si256(from + i), magnitude));
        }
        _mm256_storeu_si256((__m256i *)(void *)(amax + half * 8), w_largest_numbers(v));
    }
}

/* And back: sixteen codes, one a byte. */
static inline __m128i w_get_low(const uint8_t *p) {
    __m128i b = _mm_loadl_epi64((const __m128i *)p), nibble = _mm_set1_epi8(15);
    return _mm_unpacklo_epi8(_mm_and_si128(b, nibble), _mm_and_si128(_mm_srli_epi16(b, 4), nibble));
}
static inline __m128i w_get_high(const uint8_t *p) {
    __m128i b = _mm_loadl_epi64((const __m128i *)p), nibble = _mm_set1_epi8(15);
    return _mm_unpacklo_epi8(_mm_and_si128(_mm_srli_epi16(b, 4), nibble), _mm_and_si128(b, nibble));
}
static inline __m128i w_get_bytes(const uint8_t *p) {
    return _mm_loadu_si128((const __m128i *)p);
}
static inline __m128i w_get_sixes(const uint8_t *p) {
    int rest;
    memcpy(&rest, p + 8, 4);
    __m128i dense = _mm_insert_epi32(_mm_loadl_epi64((const __m128i *)p), rest, 2);
    __m128i fours = _mm_shuffle_epi8(dense, _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1));
    __m128i first = _mm_and_si128(fours, _mm_set1_epi32(0x3f));
    __m128i second = _mm_and_si128(_mm_slli_epi32(fours, 2), _mm_set1_epi32(0x3f00));
    __m128i third = _mm_and_si128(_mm_slli_epi32(fours, 4), _mm_set1_epi32(0x3f0000));
    __m128i fourth = _mm_and_si128(_mm_slli_epi32(fours, 6), _mm_set1_epi32(0x3f000000));
    return _mm_or_si128(_mm_or_si128(first, second), _mm_or_si128(third, fourth));
}

#endif
