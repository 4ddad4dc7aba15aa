/* Vectors of 16 lanes: one AVX-512 register each. wide_avx2.h has the same names; the cast bodies know only these.
 *
 * wf: 16 f32, wi: 16 i32, wm: 16 conditions, wd: 8 f64. Needs AVX-512 F, BW, VL, DQ. Shifts by constants are written
 * with the compiler's vector operators, which need no immediate operand before inlining. */
#ifndef HT_KERNELS_X86_WIDE_AVX512_H
#define HT_KERNELS_X86_WIDE_AVX512_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define WIDE static inline __attribute__((always_inline))

typedef __m512 wf;
typedef __m512i wi;
typedef __mmask16 wm;
typedef __m512d wd;
typedef uint32_t wide_u32 __attribute__((vector_size(64)));

WIDE wf w_load(const float *p) {
    return _mm512_loadu_ps(p);
}
WIDE wf w_load_bf16(const uint16_t *p) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
}
WIDE wf w_load_f16(const uint16_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
WIDE void w_store(float *p, wf x) {
    _mm512_storeu_ps(p, x);
}
/* Past the caches; p is 64-byte aligned, w_fence before anyone else reads. */
WIDE void w_stream(void *p, wi x) {
    _mm512_stream_si512((__m512i *)p, x);
}
WIDE void w_fence(void) {
    _mm_sfence();
}
/* To bf16, nearest even; a NaN becomes quiet. 32 bytes. */
WIDE void w_store_bf16(uint16_t *p, wf x) {
    __m512i u = _mm512_castps_si512(x), upper = _mm512_srli_epi32(u, 16), one = _mm512_set1_epi32(1);
    __m512i rounded = _mm512_add_epi32(u, _mm512_add_epi32(_mm512_and_si512(upper, one), _mm512_set1_epi32(0x7fff)));
    __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
    __m512i quiet = _mm512_or_si512(upper, _mm512_set1_epi32(0x40));
    upper = _mm512_mask_blend_epi32(nan, _mm512_srli_epi32(rounded, 16), quiet);
    _mm256_storeu_si256((__m256i *)p, _mm512_cvtepi32_epi16(upper));
}
WIDE wi w_load_int(const void *p) {
    return _mm512_loadu_si512(p);
}
WIDE void w_store_int(void *p, wi x) {
    _mm512_storeu_si512(p, x);
}
/* Codes, one a byte: the low bytes of the lanes, and back. */
WIDE __m128i w_bytes(wi x) {
    return _mm512_cvtepi32_epi8(x);
}
WIDE wi w_from_bytes(__m128i x) {
    return _mm512_cvtepu8_epi32(x);
}
WIDE wi w_from_signed_bytes(__m128i x) {
    return _mm512_cvtepi8_epi32(x);
}

WIDE wf w_float(float x) {
    return _mm512_set1_ps(x);
}
WIDE wi w_int(uint32_t x) {
    return _mm512_set1_epi32((int)x);
}
WIDE wi w_bits(wf x) {
    return _mm512_castps_si512(x);
}
WIDE wf w_from_bits(wi x) {
    return _mm512_castsi512_ps(x);
}
WIDE wf w_from_int(wi x) {
    return _mm512_cvtepi32_ps(x);
}

WIDE wf w_add(wf a, wf b) {
    return _mm512_add_ps(a, b);
}
WIDE wf w_sub(wf a, wf b) {
    return _mm512_sub_ps(a, b);
}
WIDE wf w_mul(wf a, wf b) {
    return _mm512_mul_ps(a, b);
}
WIDE wf w_div(wf a, wf b) {
    return _mm512_div_ps(a, b);
}
/* a < b ? a : b and a > b ? a : b: b when either is NaN. */
WIDE wf w_least(wf a, wf b) {
    return _mm512_min_ps(a, b);
}
WIDE wf w_most(wf a, wf b) {
    return _mm512_max_ps(a, b);
}

WIDE wi w_iadd(wi a, wi b) {
    return _mm512_add_epi32(a, b);
}
WIDE wi w_isub(wi a, wi b) {
    return _mm512_sub_epi32(a, b);
}
WIDE wi w_and(wi a, wi b) {
    return _mm512_and_si512(a, b);
}
WIDE wi w_or(wi a, wi b) {
    return _mm512_or_si512(a, b);
}
WIDE wi w_exor(wi a, wi b) {
    return _mm512_xor_si512(a, b);
}
WIDE wi w_left(wi a, unsigned n) {
    return (wi)((wide_u32)a << n);
}
WIDE wi w_right(wi a, unsigned n) {
    return (wi)((wide_u32)a >> n);
}
WIDE wi w_imin(wi a, wi b) { /* signed */
    return _mm512_min_epi32(a, b);
}
WIDE wi w_imax(wi a, wi b) {
    return _mm512_max_epi32(a, b);
}

WIDE wm w_above(wi a, wi b) { /* signed a > b */
    return _mm512_cmpgt_epi32_mask(a, b);
}
WIDE wi w_choose(wm c, wi a, wi b) {
    return _mm512_mask_blend_epi32(c, b, a);
}
WIDE unsigned w_mask(wm c) {
    return c;
}

/* Largest lane, signed. */
WIDE uint32_t w_largest(wi a) {
    return (uint32_t)_mm512_reduce_max_epi32(a);
}
/* Lane j takes lane j + 8, + 4, + 2, + 1. */
WIDE float w_fold(wf a) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
/* Entry of a table of 16. */
WIDE wf w_lookup(wf table, wi index) {
    return _mm512_permutexvar_ps(index, table);
}

/* --- 32 lanes of 16 bits: bf16 as numbers, codes --------------------------------------------------------------- */

typedef __m512i wh;

WIDE wh h_load(const void *p) {
    return _mm512_loadu_si512(p);
}
WIDE void h_store(void *p, wh x) {
    _mm512_storeu_si512(p, x);
}
WIDE wh h_int(int x) {
    return _mm512_set1_epi16((short)x);
}
WIDE wh h_and(wh a, wh b) {
    return _mm512_and_si512(a, b);
}
WIDE wh h_or(wh a, wh b) {
    return _mm512_or_si512(a, b);
}
WIDE wh h_exor(wh a, wh b) {
    return _mm512_xor_si512(a, b);
}
WIDE wh h_add(wh a, wh b) {
    return _mm512_add_epi16(a, b);
}
WIDE wh h_sub(wh a, wh b) {
    return _mm512_sub_epi16(a, b);
}
WIDE wh h_min(wh a, wh b) { /* signed */
    return _mm512_min_epi16(a, b);
}
WIDE wh h_max(wh a, wh b) {
    return _mm512_max_epi16(a, b);
}
WIDE wh h_right(wh a, unsigned n) {
    return _mm512_srl_epi16(a, _mm_cvtsi32_si128((int)n));
}
WIDE wh h_right_signed(wh a, unsigned n) {
    return _mm512_sra_epi16(a, _mm_cvtsi32_si128((int)n));
}
/* a > b ? the larger of x and y : 0; and : x */
WIDE wh h_max_if_above(wh a, wh b, wh x, wh y) {
    return _mm512_maskz_max_epi16(_mm512_cmpgt_epi16_mask(a, b), x, y);
}
WIDE wh h_raise_if_above(wh a, wh b, wh x, wh y) {
    return _mm512_mask_max_epi16(x, _mm512_cmpgt_epi16_mask(a, b), x, y);
}
/* a > b ? x : y */
WIDE wh h_choose_above(wh a, wh b, wh x, wh y) {
    return _mm512_mask_blend_epi16(_mm512_cmpgt_epi16_mask(a, b), y, x);
}
WIDE int h_any_above(wh a, wh b) {
    return _mm512_cmpgt_epi16_mask(a, b) != 0;
}
/* Is a > b anywhere where c is not 0? */
WIDE int h_any_above_where(wh a, wh b, wh c) {
    return (_mm512_cmpgt_epi16_mask(a, b) & _mm512_test_epi16_mask(c, c)) != 0;
}
/* Largest of 32 numbers that are not negative. */
WIDE uint16_t h_largest(wh a) {
    __m256i h = _mm256_max_epu16(_mm512_castsi512_si256(a), _mm512_extracti64x4_epi64(a, 1));
    __m128i q = _mm_max_epu16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_minpos_epu16(_mm_xor_si128(q, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(q);
}
/* Upper halves of 32 f32, the last bit set where anything was lost: a rounding to odd. */
WIDE __m256i wide_odd(wf x) {
    __m512i u = _mm512_castps_si512(x), upper = _mm512_srli_epi32(u, 16);
    upper =
        _mm512_mask_or_epi32(upper, _mm512_test_epi32_mask(u, _mm512_set1_epi32(0xffff)), upper, _mm512_set1_epi32(1));
    return _mm512_cvtepi32_epi16(upper);
}
WIDE wh h_odd(wf low, wf high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(wide_odd(low)), wide_odd(high), 1);
}
/* Sixteen lanes, the lower (0) or upper (1), as i32 (not negative), and both halves back. */
WIDE wi h_widen(wh a, int half) {
    return _mm512_cvtepu16_epi32(half ? _mm512_extracti64x4_epi64(a, 1) : _mm512_castsi512_si256(a));
}
WIDE wh h_narrow(wi low, wi high) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(_mm512_cvtepi32_epi16(low)), _mm512_cvtepi32_epi16(high), 1);
}
/* The same with signs, of numbers within 16 bits. */
WIDE wi h_widen_signed(wh a, int half) {
    return _mm512_cvtepi16_epi32(half ? _mm512_extracti64x4_epi64(a, 1) : _mm512_castsi512_si256(a));
}
WIDE wh h_narrow_signed(wi low, wi high) {
    return h_narrow(low, high);
}
/* The low bytes. */
WIDE __m256i h_bytes(wh a) {
    return _mm512_cvtepi16_epi8(a);
}

/* --- 32 values as two registers of f32, the even and the odd ones ------------------------------------------------- */

typedef struct wpair {
    wf even, odd;
} wpair;

WIDE wpair w_pair_bf16(wh a) {
    return (wpair){_mm512_castsi512_ps(_mm512_slli_epi32(a, 16)),
                   _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32((int)0xffff0000)))};
}
WIDE wpair w_pair(wf low, wf high) {
    const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    return (wpair){_mm512_permutex2var_ps(low, even, high),
                   _mm512_permutex2var_ps(low, _mm512_or_si512(even, _mm512_set1_epi32(1)), high)};
}
/* Lower, upper halves of the bits, in order. */
WIDE wh w_pair_low(wi even, wi odd) {
    return _mm512_ternarylogic_epi32(_mm512_slli_epi32(odd, 16), even, _mm512_set1_epi32(0xffff), 0xf8);
}
WIDE wh w_pair_high(wi even, wi odd) {
    return _mm512_ternarylogic_epi32(_mm512_srli_epi32(even, 16), odd, _mm512_set1_epi32((int)0xffff0000), 0xf8);
}
/* A constant that stays in its register: the compiler would make it again and again. */
WIDE wi w_keep(wi a) {
    __asm__("" : "+v"(a));
    return a;
}
WIDE wi w_round(wf a) { /* to nearest even integers */
    return _mm512_cvtps_epi32(a);
}
WIDE wf w_minus_product(wf a, wf b, wf c) { /* a - b * c, rounded once */
    return _mm512_fnmadd_ps(b, c, a);
}
WIDE wf w_plus_product(wf a, wf b, wf c) {
    return _mm512_fmadd_ps(b, c, a);
}
/* The first 16 of 32 values take one number, the others another: eight lanes each. */
WIDE wf w_two_floats(const float *first, const float *second) {
    return _mm512_mask_broadcastss_ps(_mm512_set1_ps(*first), 0xff00, _mm_load_ss(second));
}
WIDE wh h_or_and(wh a, wh b, wh mask) { /* a | (b & mask) */
    return _mm512_ternarylogic_epi64(a, b, mask, 0xf8);
}
WIDE wh h_min_unsigned(wh a, wh b) {
    return _mm512_min_epu16(a, b);
}
/* Is a <= b, without signs, anywhere where c > d? */
WIDE int h_any_small_where(wh a, wh b, wh c, wh d) {
    return _mm512_mask_cmple_epu16_mask(_mm512_cmpgt_epi16_mask(c, d), a, b) != 0;
}
/* 64 codes to bytes. */
WIDE wi h_bytes_64(wh a, wh b) {
    return _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), _mm512_packus_epi16(a, b));
}
/* 128 codes below 16 to nibbles; `weights` of the two codes of a byte: 0x1001 puts the first one low. */
WIDE wi h_nibbles_128(const wh codes[4], int weights) {
    __m512i w = _mm512_set1_epi16((short)weights);
    __m512i first = _mm512_maddubs_epi16(_mm512_packus_epi16(codes[0], codes[1]), w);
    __m512i second = _mm512_maddubs_epi16(_mm512_packus_epi16(codes[2], codes[3]), w);
    return _mm512_permutexvar_epi32(_mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15),
                                    _mm512_packus_epi16(first, second));
}

/* --- f64: eight lanes, the lower and the upper half of a wf ----------------------------------------------- */

WIDE wd wd_zero(void) {
    return _mm512_setzero_pd();
}
WIDE wd wd_low(wf a) {
    return _mm512_cvtps_pd(_mm512_castps512_ps256(a));
}
WIDE wd wd_high(wf a) {
    return _mm512_cvtps_pd(_mm512_extractf32x8_ps(a, 1));
}
WIDE wd wd_sub(wd a, wd b) {
    return _mm512_sub_pd(a, b);
}
/* sum + a * a, rounded twice */
WIDE wd wd_add_square(wd sum, wd a) {
    return _mm512_add_pd(sum, _mm512_mul_pd(a, a));
}
WIDE void wd_store(double *p, wd a) {
    _mm512_storeu_pd(p, a);
}

#endif
