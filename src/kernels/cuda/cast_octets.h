/* What the format casts share: eight values at a time, their largest magnitude, scale rules, codes.
 *
 * Everything is bit for bit the CPU's encoder (src/format): every product and sum is rounded on its own (no contraction
 * into FMA), divisions are IEEE.
 *
 * e2m1 has no conversion instruction here: adding 2^(22 + e) to |y| of exponent e (at least that of 1) leaves |y| in
 * units of its step in the low bits, rounded to nearest even, and steps double with every exponent above.
 *
 * Source: formats specification, sections 1.2, 2.2, 3 and 6.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_CAST_OCTETS_H
#define HT_KERNELS_CUDA_CAST_OCTETS_H

#include "kernels/cuda/cast.h"

enum { HT_CODE_E4M3, HT_CODE_E5M2, HT_CODE_E2M1, HT_CODE_I8, HT_CODE_I4, HT_CODE_BOOK };
enum { HT_SCALED_MX, HT_SCALED_NVFP4, HT_SCALED_F32, HT_SCALED_INT };

/* What a cast needs to know of its format, in numbers. */
typedef struct ht_cast_rules {
    int rule;                       /* MX */
    int largest_exponent, mantissa; /* of the element */
    float largest, reciprocal;      /* of the element: value, 1 / value */
    int divides, training;          /* NVFP4 */
    float span, least_amax, least;  /* INT: amax / span, at least `least` */
    uint32_t flip;                  /* INT: XOR of eight codes' words: offset codes */
    int stochastic;                 /* NVFP4 */
    uint64_t seed, stream;
} ht_cast_rules;

/* --- Values ------------------------------------------------------------------------------------------------------ */

/* Eight values as they lie in memory: zeros until loaded. */
template <int F32> struct ht_octet { uint32_t word[F32 ? 8 : 4]; };

template <int F32> static __device__ __forceinline__ ht_octet<F32> ht_octet_load(const void *x, size_t octet) {
    ht_octet<F32> v;
#pragma unroll
    for (int i = 0; i < (F32 ? 2 : 1); i++) {
        const uint4 a = ht_load_stream((const uint4 *)x + octet * (F32 ? 2 : 1) + i);
        v.word[i * 4] = a.x, v.word[i * 4 + 1] = a.y, v.word[i * 4 + 2] = a.z, v.word[i * 4 + 3] = a.w;
    }
    return v;
}

template <int F32> static __device__ __forceinline__ float ht_octet_value(const ht_octet<F32> &v, int i) {
    if constexpr (F32)
        return __uint_as_float(v.word[i]);
    else
        return i % 2 ? ht_high_bf16(v.word[i / 2]) : ht_low_bf16(v.word[i / 2]);
}

/* Magnitude bits of the largest; NaN above Inf. */
template <int F32> static __device__ __forceinline__ uint32_t ht_octet_amax(const ht_octet<F32> &v) {
    if constexpr (!F32) {
        return ht_amax_of_pair(ht_amax_bf16x8(make_uint4(v.word[0], v.word[1], v.word[2], v.word[3])));
    } else {
        uint32_t amax = 0;
#pragma unroll
        for (int i = 0; i < 8; i++)
            amax = max(amax, v.word[i] & 0x7fffffffu);
        return amax;
    }
}

/* --- Scales ------------------------------------------------------------------------------------------------------ */

/* A block's scale as it is stored, and what its values are multiplied or divided by. dead: its codes are `none`. */
typedef struct ht_block_scale {
    uint32_t stored;
    float factor;
    int divides, dead;
} ht_block_scale;

static __device__ __forceinline__ uint32_t ht_mx_scale(uint32_t amax, const ht_cast_rules &r) {
    if (amax >= 0x7f800000u)
        return 255;
    if (r.rule == HT_SCALE_RCEIL) {
        const uint32_t d = __float_as_uint(__fmul_rn(__uint_as_float(amax), r.reciprocal));
        const uint32_t exponent = d >> 23, mantissa = d & 0x7fffffu;
        return exponent + (exponent ? mantissa != 0 : mantissa > 0x400000u);
    }
    if (r.rule == HT_SCALE_EVEN)
        amax += 1u << (22 - r.mantissa);
    int exponent = (int)(amax >> 23);
    if (r.rule == HT_SCALE_EVEN && exponent == 255)
        return 255; /* rounded up into Inf */
    if (r.rule == HT_SCALE_CEIL)
        exponent += (amax & 0x7fffffu) != 0;
    return (uint32_t)max(exponent - r.largest_exponent, 0);
}

static __device__ __forceinline__ float ht_e4m3_value(uint32_t code) {
    uint32_t halves;
    float value;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((uint16_t)code));
    asm("{.reg .b16 l, h;\nmov.b32 {l, h}, %1;\ncvt.f32.f16 %0, l;}" : "=f"(value) : "r"(halves));
    return value;
}

/* The number of an NVFP4 matrix, and what follows from it; taken once by a thread. */
typedef struct ht_matrix_number {
    float global, inverse, sixth;
} ht_matrix_number;

template <int SCALED> static __device__ __forceinline__ ht_matrix_number ht_matrix_number_of(const float *global) {
    ht_matrix_number n = {1.0f, 1.0f, 1.0f / 6.0f};
    if (SCALED == HT_SCALED_NVFP4 && global) {
        n.global = __ldg(global);
        n.inverse = __fdiv_rn(1.0f, n.global);
        n.sixth = __fmul_rn(n.global, 1.0f / 6.0f);
    }
    return n;
}

static __device__ __forceinline__ ht_block_scale ht_nvfp4_scale(uint32_t amax, const ht_cast_rules &r,
                                                                const ht_matrix_number &n) {
    const float most = 3.40282347e38f, b = __uint_as_float(amax);
    ht_block_scale s = {0x7f, 0.0f, 0, 1};
    float wanted;
    if (amax >= 0x7f800000u)
        return s;
    if (r.divides && r.training)
        wanted = __fmul_rn(b, n.sixth);
    else if (r.divides)
        wanted = __fmul_rn(__fdiv_rn(b, 6.0f), n.global);
    else
        wanted = n.global == 1.0f ? __fdiv_rn(b, 6.0f) : __fdiv_rn(__fdiv_rn(b, 6.0f), n.global);
    wanted = wanted < 448.0f ? wanted : 448.0f;
    if (!r.training && !r.divides && wanted < 0.015625f)
        wanted = 0.015625f;
    s.stored = ht_e4m3x2(wanted, 0.0f) & 0xff;
    if (s.stored == 0 && !r.training && r.divides)
        s.stored = 0x20; /* 0.125 */
    const float scale = ht_e4m3_value(s.stored);
    if (r.divides && r.training)
        s.factor = fminf(__frcp_rn(__fmul_rn(scale, n.inverse)), most);
    else if (r.divides)
        s.factor = __fdiv_rn(scale, n.global);
    else
        s.factor = fminf(__fdiv_rn(fminf(n.inverse, most), scale), most);
    s.divides = r.divides && !r.training;
    s.dead = 0;
    return s;
}

static __device__ __forceinline__ float ht_f32_scale(uint32_t amax, float largest) {
    if (amax >= 0x7f800000u)
        return __uint_as_float(0x7fc00000u);
    if (amax == 0)
        return 1.0f;
    const float scale = __fdiv_rn(__uint_as_float(amax), largest);
    return scale == 0.0f ? __uint_as_float(1) : scale;
}

template <int SCALED>
static __device__ __forceinline__ ht_block_scale ht_scale_of(uint32_t amax, const ht_cast_rules &r,
                                                             const ht_matrix_number &number) {
    ht_block_scale s = {0, 0.0f, 0, 0};
    if (SCALED == HT_SCALED_NVFP4)
        return ht_nvfp4_scale(amax, r, number);
    if (SCALED == HT_SCALED_MX) {
        s.stored = ht_mx_scale(amax, r);
        s.factor = ht_e8m0_inverse(s.stored);
        s.dead = s.stored == 255;
    } else if (SCALED == HT_SCALED_F32) {
        s.factor = ht_f32_scale(amax, r.largest);
        s.stored = __float_as_uint(s.factor);
        s.divides = 1;
    } else {
        float scale = __fdiv_rn(fmaxf(__uint_as_float(amax), r.least_amax), r.span);
        scale = fminf(fmaxf(scale, r.least), 3.40282347e38f);
        s.dead = amax >= 0x7f800000u;
        s.stored = s.dead ? 0x7fc00000u : __float_as_uint(scale);
        s.factor = __fdiv_rn(1.0f, scale);
    }
    return s;
}

/* --- Codes ------------------------------------------------------------------------------------------------------- */

/* y is no NaN. */
static __device__ __forceinline__ uint32_t ht_e2m1(float y) {
    const uint32_t u = __float_as_uint(y), a = min(u & 0x7fffffffu, 0x40c00000u), e = max(a >> 23, 127u);
    const uint32_t magic = (e + 22) << 23;
    const uint32_t steps = __float_as_uint(__fadd_rn(__uint_as_float(a), __uint_as_float(magic)));
    return (steps - magic + 2 * e - 254) | (u >> 28 & 8);
}

/* The upper neighbour where draw, uniform in [0, 1), is below the position between the two. */
static __device__ __forceinline__ uint32_t ht_e2m1_stochastic(float y, float draw) {
    const uint32_t u = __float_as_uint(y), a = u & 0x7fffffffu, sign = u >> 31 << 3;
    if (a >= 0x40c00000u)
        return a > 0x7f800000u ? 7 : 7 | sign;
    const uint32_t e = max(a >> 23, 127u);
    const float steps = __fmul_rn(__uint_as_float(a), __uint_as_float((255 - e) << 23)); /* 2^(128 - e): exact */
    const float below = floorf(steps);
    return ((uint32_t)below + 2 * (e - 127) + (draw < __fsub_rn(steps, below))) | sign;
}

static __device__ __forceinline__ uint32_t ht_e5m2x2(float low, float high) {
    uint16_t codes;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    return codes;
}

static __device__ __forceinline__ uint32_t ht_nearest_int(float y, int low, int high) {
    y = y < 2048.0f ? y : 2048.0f; /* NaN: 2048 */
    y = y > -2048.0f ? y : -2048.0f;
    return (uint32_t)min(max(__float2int_rn(y), low), high);
}

/* Philox4x32-10: words 4 counter .. 4 counter + 3 of the stream, as src/base/random.c. */
static __device__ __forceinline__ uint4 ht_philox(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = (uint32_t)stream,
             c3 = (uint32_t)(stream >> 32), k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
#pragma unroll
    for (int round = 0; round < 10; round++) {
        const uint32_t high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
        const uint32_t high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return make_uint4(c0, c1, c2, c3);
}

/* Eight codes of scaled values: four-bit ones in .x, the first lowest. first: their place in the matrix. */
template <int CODE>
static __device__ __forceinline__ uint2 ht_octet_encode(const float (&y)[8], const ht_cast_rules &r, uint64_t first) {
    uint32_t word[2] = {0, 0};
    if (CODE == HT_CODE_E2M1 && r.stochastic) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const uint4 w = ht_philox(r.seed, r.stream, first / 4 + half);
            const uint32_t draws[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
            for (int i = 0; i < 4; i++)
                word[0] |= ht_e2m1_stochastic(y[half * 4 + i], __fmul_rn((float)(draws[i] >> 8), 0x1p-24f))
                           << (half * 16 + i * 4);
        }
        return make_uint2(word[0], 0);
    }
#pragma unroll
    for (int i = 0; i < 8; i++) {
        if (CODE == HT_CODE_E2M1)
            word[0] |= ht_e2m1(y[i]) << (i * 4);
        if (CODE == HT_CODE_I4)
            word[0] |= (ht_nearest_int(y[i], -8, 7) & 15) << (i * 4);
        if (CODE == HT_CODE_I8)
            word[i / 4] |= (ht_nearest_int(y[i], -128, 127) & 255) << (i % 4 * 8);
        if (CODE == HT_CODE_E4M3 && i % 2 == 0)
            word[i / 4] |= ht_e4m3x2(y[i], y[i + 1]) << (i % 4 * 8);
        if (CODE == HT_CODE_E5M2 && i % 2 == 0)
            word[i / 4] |= ht_e5m2x2(y[i], y[i + 1]) << (i % 4 * 8);
    }
    return make_uint2(word[0], word[1]);
}

template <int CODE> static __device__ __forceinline__ void ht_octet_store(uint8_t *codes, size_t octet, uint2 word) {
    if (CODE == HT_CODE_E2M1 || CODE == HT_CODE_I4)
        ((uint32_t *)codes)[octet] = word.x;
    else
        ((uint2 *)codes)[octet] = word;
}

/* Scale and encode eight values of a block. */
template <int CODE, int F32>
static __device__ __forceinline__ void ht_octet_cast(const ht_octet<F32> &v, const ht_block_scale &s,
                                                     const ht_cast_rules &r, uint8_t *codes, size_t octet) {
    float y[8];
    if (s.divides) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            y[i] = __fdiv_rn(ht_octet_value<F32>(v, i), s.factor);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            y[i] = __fmul_rn(ht_octet_value<F32>(v, i), s.factor);
    }
    uint2 word = ht_octet_encode<CODE>(y, r, (uint64_t)octet * 8);
    if (s.dead && CODE == HT_CODE_E2M1) /* it has no NaN */
        word.x = 0x77777777u;
    if (s.dead && (CODE == HT_CODE_I8 || CODE == HT_CODE_I4))
        word = make_uint2(0, 0);
    ht_octet_store<CODE>(codes, octet, make_uint2(word.x ^ r.flip, word.y ^ r.flip));
}

#endif
