/* Vectors of 16 lanes: two AVX registers each. The same names as wide_avx512.h. Needs AVX2 and FMA. */
#ifndef HT_KERNELS_X86_WIDE_AVX2_H
#define HT_KERNELS_X86_WIDE_AVX2_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

#define WIDE static inline __attribute__((always_inline))

typedef struct wf {
    __m256 a, b;
} wf;
typedef struct wi {
    __m256i a, b;
} wi;
typedef wi wm;
typedef struct wd {
    __m256d a, b;
} wd;
typedef uint32_t wide_u32 __attribute__((vector_size(32)));

WIDE wf w_load(const float *p) {
    return (wf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}
WIDE __m256 wide_widen(const uint16_t *p) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), 16));
}
WIDE wf w_load_bf16(const uint16_t *p) {
    return (wf){wide_widen(p), wide_widen(p + 8)};
}
/* As ht_f32_from_f16, so that no more than AVX2 is needed. */
WIDE __m256 wide_widen_f16(const uint16_t *p) {
    __m256i u = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p)), one = _mm256_set1_epi32(113 << 23);
    __m256i shifted = _mm256_slli_epi32(_mm256_and_si256(u, _mm256_set1_epi32(0x7fff)), 13);
    __m256 lowest = _mm256_sub_ps(_mm256_castsi256_ps(_mm256_add_epi32(shifted, one)), _mm256_castsi256_ps(one));
    __m256i normal = _mm256_add_epi32(shifted, _mm256_set1_epi32(112 << 23));
    __m256i special = _mm256_cmpgt_epi32(shifted, _mm256_set1_epi32(0x0f7fffff));
    __m256i is_lowest = _mm256_cmpgt_epi32(_mm256_set1_epi32(1 << 23), shifted);
    normal = _mm256_or_si256(normal, _mm256_and_si256(special, _mm256_set1_epi32(0x7f800000)));
    normal = _mm256_blendv_epi8(normal, _mm256_castps_si256(lowest), is_lowest);
    __m256i sign = _mm256_slli_epi32(_mm256_srli_epi32(u, 15), 31);
    return _mm256_castsi256_ps(_mm256_or_si256(normal, sign));
}
WIDE wf w_load_f16(const uint16_t *p) {
    return (wf){wide_widen_f16(p), wide_widen_f16(p + 8)};
}
WIDE void w_store(float *p, wf x) {
    _mm256_storeu_ps(p, x.a);
    _mm256_storeu_ps(p + 8, x.b);
}
WIDE void w_stream(void *p, wi x) {
    _mm256_stream_si256((__m256i *)p, x.a);
    _mm256_stream_si256((__m256i *)p + 1, x.b);
}
WIDE void w_fence(void) {
    _mm_sfence();
}
WIDE __m256i wide_bf16(__m256 x) {
    __m256i u = _mm256_castps_si256(x), upper = _mm256_srli_epi32(u, 16);
    __m256i odd = _mm256_and_si256(upper, _mm256_set1_epi32(1));
    __m256i rounded = _mm256_add_epi32(u, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    __m256i quiet = _mm256_or_si256(upper, _mm256_set1_epi32(0x40));
    __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(x, x, _CMP_UNORD_Q));
    return _mm256_blendv_epi8(_mm256_srli_epi32(rounded, 16), quiet, nan);
}
WIDE void w_store_bf16(uint16_t *p, wf x) {
    __m256i both = _mm256_packus_epi32(wide_bf16(x.a), wide_bf16(x.b));
    _mm256_storeu_si256((__m256i *)p, _mm256_permute4x64_epi64(both, 0xd8));
}
WIDE wi w_load_int(const void *p) {
    return (wi){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
WIDE void w_store_int(void *p, wi x) {
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)p + 1, x.b);
}
WIDE __m128i w_bytes(wi x) {
    __m256i low = _mm256_set1_epi32(255);
    __m256i pairs = _mm256_packus_epi32(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
    pairs = _mm256_permute4x64_epi64(pairs, 0xd8);
    return _mm_packus_epi16(_mm256_castsi256_si128(pairs), _mm256_extracti128_si256(pairs, 1));
}
WIDE wi w_from_bytes(__m128i x) {
    return (wi){_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}
WIDE wi w_from_signed_bytes(__m128i x) {
    return (wi){_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))};
}

WIDE wf w_float(float x) {
    return (wf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}
WIDE wi w_int(uint32_t x) {
    return (wi){_mm256_set1_epi32((int)x), _mm256_set1_epi32((int)x)};
}
WIDE wi w_bits(wf x) {
    return (wi){_mm256_castps_si256(x.a), _mm256_castps_si256(x.b)};
}
WIDE wf w_from_bits(wi x) {
    return (wf){_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)};
}
WIDE wf w_from_int(wi x) {
    return (wf){_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)};
}

WIDE wf w_add(wf x, wf y) {
    return (wf){_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)};
}
WIDE wf w_sub(wf x, wf y) {
    return (wf){_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)};
}
WIDE wf w_mul(wf x, wf y) {
    return (wf){_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)};
}
WIDE wf w_div(wf x, wf y) {
    return (wf){_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)};
}
WIDE wf w_least(wf x, wf y) {
    return (wf){_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)};
}
WIDE wf w_most(wf x, wf y) {
    return (wf){_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)};
}

WIDE wi w_iadd(wi x, wi y) {
    return (wi){_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)};
}
WIDE wi w_isub(wi x, wi y) {
    return (wi){_mm256_sub_epi32(x.a, y.a), _mm256_sub_epi32(x.b, y.b)};
}
WIDE wi w_and(wi x, wi y) {
    return (wi){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
WIDE wi w_or(wi x, wi y) {
    return (wi){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
WIDE wi w_exor(wi x, wi y) {
    return (wi){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
WIDE wi w_left(wi x, unsigned n) {
    return (wi){(__m256i)((wide_u32)x.a << n), (__m256i)((wide_u32)x.b << n)};
}
WIDE wi w_right(wi x, unsigned n) {
    return (wi){(__m256i)((wide_u32)x.a >> n), (__m256i)((wide_u32)x.b >> n)};
}
WIDE wi w_imin(wi x, wi y) {
    return (wi){_mm256_min_epi32(x.a, y.a), _mm256_min_epi32(x.b, y.b)};
}
WIDE wi w_imax(wi x, wi y) {
    return (wi){_mm256_max_epi32(x.a, y.a), _mm256_max_epi32(x.b, y.b)};
}

WIDE wm w_above(wi x, wi y) {
    return (wm){_mm256_cmpgt_epi32(x.a, y.a), _mm256_cmpgt_epi32(x.b, y.b)};
}
WIDE wi w_choose(wm c, wi x, wi y) {
    return (wi){_mm256_blendv_epi8(y.a, x.a, c.a), _mm256_blendv_epi8(y.b, x.b, c.b)};
}
WIDE unsigned w_mask(wm c) {
    return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(c.a)) |
           (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(c.b)) << 8;
}

WIDE uint32_t w_largest(wi x) {
    __m256i h = _mm256_max_epi32(x.a, x.b);
    __m128i q = _mm_max_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_max_epi32(q, _mm_unpackhi_epi64(q, q));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epi32(q, _mm_shuffle_epi32(q, 1)));
}
WIDE float w_fold(wf x) {
    __m256 h = _mm256_add_ps(x.a, x.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
WIDE __m256 wide_lookup(wf table, __m256i index) {
    __m256i upper = _mm256_slli_epi32(index, 28); /* bit 3 chooses the half */
    return _mm256_blendv_ps(_mm256_permutevar8x32_ps(table.a, index), _mm256_permutevar8x32_ps(table.b, index),
                            _mm256_castsi256_ps(upper));
}
WIDE wf w_lookup(wf table, wi index) {
    return (wf){wide_lookup(table, index.a), wide_lookup(table, index.b)};
}

/* --- 32 lanes of 16 bits ------------------------------------------------------------------------------------------ */

typedef struct wh {
    __m256i a, b;
} wh;

WIDE wh h_load(const void *p) {
    return (wh){_mm256_loadu_si256((const __m256i *)p), _mm256_loadu_si256((const __m256i *)p + 1)};
}
WIDE void h_store(void *p, wh x) {
    _mm256_storeu_si256((__m256i *)p, x.a);
    _mm256_storeu_si256((__m256i *)p + 1, x.b);
}
WIDE wh h_int(int x) {
    return (wh){_mm256_set1_epi16((short)x), _mm256_set1_epi16((short)x)};
}
WIDE wh h_and(wh x, wh y) {
    return (wh){_mm256_and_si256(x.a, y.a), _mm256_and_si256(x.b, y.b)};
}
WIDE wh h_or(wh x, wh y) {
    return (wh){_mm256_or_si256(x.a, y.a), _mm256_or_si256(x.b, y.b)};
}
WIDE wh h_exor(wh x, wh y) {
    return (wh){_mm256_xor_si256(x.a, y.a), _mm256_xor_si256(x.b, y.b)};
}
WIDE wh h_add(wh x, wh y) {
    return (wh){_mm256_add_epi16(x.a, y.a), _mm256_add_epi16(x.b, y.b)};
}
WIDE wh h_sub(wh x, wh y) {
    return (wh){_mm256_sub_epi16(x.a, y.a), _mm256_sub_epi16(x.b, y.b)};
}
WIDE wh h_min(wh x, wh y) {
    return (wh){_mm256_min_epi16(x.a, y.a), _mm256_min_epi16(x.b, y.b)};
}
WIDE wh h_max(wh x, wh y) {
    return (wh){_mm256_max_epi16(x.a, y.a), _mm256_max_epi16(x.b, y.b)};
}
WIDE wh h_right(wh x, unsigned n) {
    return (wh){_mm256_srli_epi16(x.a, (int)n), _mm256_srli_epi16(x.b, (int)n)};
}
WIDE wh h_right_signed(wh x, unsigned n) {
    return (wh){_mm256_srai_epi16(x.a, (int)n), _mm256_srai_epi16(x.b, (int)n)};
}
WIDE wh wide_above(wh x, wh y) {
    return (wh){_mm256_cmpgt_epi16(x.a, y.a), _mm256_cmpgt_epi16(x.b, y.b)};
}
WIDE wh h_max_if_above(wh a, wh b, wh x, wh y) {
    return h_and(wide_above(a, b), h_max(x, y));
}
WIDE wh h_raise_if_above(wh a, wh b, wh x, wh y) { /* x and y are not negative */
    return h_max(x, h_and(wide_above(a, b), y));
}
WIDE wh h_choose_above(wh x, wh y, wh then, wh otherwise) {
    wh c = wide_above(x, y);
    return (wh){_mm256_blendv_epi8(otherwise.a, then.a, c.a), _mm256_blendv_epi8(otherwise.b, then.b, c.b)};
}
WIDE int wide_any(wh x) {
    return _mm256_movemask_epi8(_mm256_or_si256(x.a, x.b)) != 0;
}
WIDE int h_any_above(wh x, wh y) {
    return wide_any(wide_above(x, y));
}
WIDE int h_any_above_where(wh x, wh y, wh where) {
    wh c = wide_above(x, y), zero = h_int(0);
    wh empty = {_mm256_cmpeq_epi16(where.a, zero.a), _mm256_cmpeq_epi16(where.b, zero.b)};
    return wide_any((wh){_mm256_andnot_si256(empty.a, c.a), _mm256_andnot_si256(empty.b, c.b)});
}
WIDE uint16_t h_largest(wh x) {
    __m256i h = _mm256_max_epu16(x.a, x.b);
    __m128i q = _mm_max_epu16(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_minpos_epu16(_mm_xor_si128(q, _mm_set1_epi16(-1)));
    return (uint16_t)~_mm_cvtsi128_si32(q);
}
WIDE __m256i wide_pairs(__m256i low, __m256i high) { /* 16 words of 16 lanes below 2^16 */
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
}
WIDE __m256i wide_odd(__m256 x) {
    __m256i u = _mm256_castps_si256(x), lost = _mm256_and_si256(u, _mm256_set1_epi32(0xffff));
    lost = _mm256_srli_epi32(_mm256_add_epi32(lost, _mm256_set1_epi32(0xffff)), 16);
    return _mm256_or_si256(_mm256_srli_epi32(u, 16), lost);
}
WIDE wh h_odd(wf low, wf high) {
    return (wh){wide_pairs(wide_odd(low.a), wide_odd(low.b)), wide_pairs(wide_odd(high.a), wide_odd(high.b))};
}
WIDE wi h_widen(wh x, int half) {
    __m256i h = half ? x.b : x.a;
    return (wi){_mm256_cvtepu16_epi32(_mm256_castsi256_si128(h)),
                _mm256_cvtepu16_epi32(_mm256_extracti128_si256(h, 1))};
}
WIDE wh h_narrow(wi low, wi high) {
    return (wh){wide_pairs(low.a, low.b), wide_pairs(high.a, high.b)};
}
WIDE wi h_widen_signed(wh x, int half) {
    __m256i h = half ? x.b : x.a;
    return (wi){_mm256_cvtepi16_epi32(_mm256_castsi256_si128(h)),
                _mm256_cvtepi16_epi32(_mm256_extracti128_si256(h, 1))};
}
WIDE wh h_narrow_signed(wi low, wi high) {
    return (wh){_mm256_permute4x64_epi64(_mm256_packs_epi32(low.a, low.b), 0xd8),
                _mm256_permute4x64_epi64(_mm256_packs_epi32(high.a, high.b), 0xd8)};
}
WIDE __m256i h_bytes(wh x) {
    __m256i low = _mm256_set1_epi16(255);
    __m256i both = _mm256_packus_epi16(_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low));
    return _mm256_permute4x64_epi64(both, 0xd8);
}

/* --- 32 values, even and odd ones apart --------------------------------------------------------------------------- */

typedef struct wpair {
    wf even, odd;
} wpair;

WIDE __m256 wide_float(__m256i x) {
    return _mm256_castsi256_ps(x);
}
WIDE wpair w_pair_bf16(wh x) {
    __m256i upper = _mm256_set1_epi32((int)0xffff0000);
    return (wpair){{wide_float(_mm256_slli_epi32(x.a, 16)), wide_float(_mm256_slli_epi32(x.b, 16))},
                   {wide_float(_mm256_and_si256(x.a, upper)), wide_float(_mm256_and_si256(x.b, upper))}};
}
WIDE wpair w_pair(wf low, wf high) {
    __m256 a = _mm256_permute2f128_ps(low.a, low.b, 0x20), b = _mm256_permute2f128_ps(low.a, low.b, 0x31);
    __m256 c = _mm256_permute2f128_ps(high.a, high.b, 0x20), d = _mm256_permute2f128_ps(high.a, high.b, 0x31);
    return (wpair){{_mm256_shuffle_ps(a, b, 0x88), _mm256_shuffle_ps(c, d, 0x88)},
                   {_mm256_shuffle_ps(a, b, 0xdd), _mm256_shuffle_ps(c, d, 0xdd)}};
}
WIDE wh w_pair_low(wi even, wi odd) {
    return (wh){_mm256_blend_epi16(even.a, _mm256_slli_epi32(odd.a, 16), 0xaa),
                _mm256_blend_epi16(even.b, _mm256_slli_epi32(odd.b, 16), 0xaa)};
}
WIDE wh w_pair_high(wi even, wi odd) {
    return (wh){_mm256_blend_epi16(_mm256_srli_epi32(even.a, 16), odd.a, 0xaa),
                _mm256_blend_epi16(_mm256_srli_epi32(even.b, 16), odd.b, 0xaa)};
}
WIDE wi w_keep(wi x) {
    __asm__("" : "+x"(x.a));
    return (wi){x.a, x.a};
}
WIDE wi w_round(wf x) {
    return (wi){_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)};
}
WIDE wf w_minus_product(wf x, wf y, wf z) {
    return (wf){_mm256_fnmadd_ps(y.a, z.a, x.a), _mm256_fnmadd_ps(y.b, z.b, x.b)};
}
WIDE wf w_plus_product(wf x, wf y, wf z) {
    return (wf){_mm256_fmadd_ps(y.a, z.a, x.a), _mm256_fmadd_ps(y.b, z.b, x.b)};
}
WIDE wf w_two_floats(const float *first, const float *second) {
    return (wf){_mm256_set1_ps(*first), _mm256_set1_ps(*second)};
}
WIDE wh h_or_and(wh x, wh y, wh mask) {
    return h_or(x, h_and(y, mask));
}
WIDE wh h_min_unsigned(wh x, wh y) {
    return (wh){_mm256_min_epu16(x.a, y.a), _mm256_min_epu16(x.b, y.b)};
}
WIDE int h_any_small_where(wh x, wh y, wh z, wh least) {
    wh c = wide_above(z, least), small = h_min_unsigned(x, y);
    return wide_any((wh){_mm256_and_si256(_mm256_cmpeq_epi16(small.a, x.a), c.a),
                         _mm256_and_si256(_mm256_cmpeq_epi16(small.b, x.b), c.b)});
}
WIDE wi h_bytes_64(wh x, wh y) {
    return (wi){_mm256_permute4x64_epi64(_mm256_packus_epi16(x.a, x.b), 0xd8),
                _mm256_permute4x64_epi64(_mm256_packus_epi16(y.a, y.b), 0xd8)};
}
WIDE __m256i wide_nibbles(wh x, wh y, __m256i weights) {
    __m256i first = _mm256_maddubs_epi16(_mm256_packus_epi16(x.a, x.b), weights);
    __m256i second = _mm256_maddubs_epi16(_mm256_packus_epi16(y.a, y.b), weights);
    return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(first, second), _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
}
WIDE wi h_nibbles_128(const wh codes[4], int weights) {
    __m256i w = _mm256_set1_epi16((short)weights);
    return (wi){wide_nibbles(codes[0], codes[1], w), wide_nibbles(codes[2], codes[3], w)};
}

WIDE wd wd_zero(void) {
    return (wd){_mm256_setzero_pd(), _mm256_setzero_pd()};
}
WIDE wd wide_doubles(__m256 x) {
    return (wd){_mm256_cvtps_pd(_mm256_castps256_ps128(x)), _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1))};
}
WIDE wd wd_low(wf x) {
    return wide_doubles(x.a);
}
WIDE wd wd_high(wf x) {
    return wide_doubles(x.b);
}
WIDE wd wd_sub(wd x, wd y) {
    return (wd){_mm256_sub_pd(x.a, y.a), _mm256_sub_pd(x.b, y.b)};
}
WIDE wd wd_add_square(wd sum, wd x) {
    return (wd){_mm256_add_pd(sum.a, _mm256_mul_pd(x.a, x.a)), _mm256_add_pd(sum.b, _mm256_mul_pd(x.b, x.b))};
}
WIDE void wd_store(double *p, wd x) {
    _mm256_storeu_pd(p, x.a);
    _mm256_storeu_pd(p + 4, x.b);
}

#endif
