/* Device arithmetic shared by the casts: block maxima of packed bf16, scale rules, fp8 conversion.
 *
 * Everything here is bit for bit the formats specification, sections 2.2 and 6.6: maxima propagate NaN, scales are
 * exact powers of two applied by one f32 multiplication, codes round to nearest even and saturate.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_CAST_H
#define HT_KERNELS_CUDA_CAST_H

#include <stdint.h>

#include <halftone/format.h>

/* Lane-wise larger magnitude of two bf16 pairs; NaN wins. The sign bits of the result mean nothing. */
static __device__ __forceinline__ uint32_t ht_amax_bf16x2(uint32_t a, uint32_t b) {
    uint32_t larger;
    asm("max.NaN.xorsign.abs.bf16x2 %0, %1, %2;" : "=r"(larger) : "r"(a), "r"(b));
    return larger;
}

/* Magnitude bits of the larger half of a pair, as f32 bits. bf16 magnitudes compare as integers, NaN above Inf. */
static __device__ __forceinline__ uint32_t ht_amax_of_pair(uint32_t pair) {
    uint32_t low = pair << 16 & 0x7fff0000u, high = pair & 0x7fff0000u;
    return max(low, high);
}

static __device__ __forceinline__ float ht_low_bf16(uint32_t pair) {
    return __uint_as_float(pair << 16);
}

static __device__ __forceinline__ float ht_high_bf16(uint32_t pair) {
    return __uint_as_float(pair & 0xffff0000u);
}

/* Scale byte of an e4m3 block whose largest magnitude has these f32 bits. */
static __device__ __forceinline__ uint32_t ht_mxfp8_scale(uint32_t amax, int rule) {
    if (amax >= 0x7f800000u)
        return 255;
    if (rule == HT_SCALE_RCEIL) {
        uint32_t d = __float_as_uint(__uint_as_float(amax) * (1.0f / 448.0f));
        uint32_t exponent = d >> 23, mantissa = d & 0x7fffffu;
        return exponent + (exponent ? mantissa != 0 : mantissa > 0x400000u);
    }
    if (rule == HT_SCALE_EVEN)
        amax += 1u << (22 - 3);
    int exponent = (int)(amax >> 23);
    if (rule == HT_SCALE_EVEN && exponent == 255)
        return 255; /* rounded up into Inf */
    if (rule == HT_SCALE_CEIL)
        exponent += (amax & 0x7fffffu) != 0;
    return (uint32_t)max(exponent - 8, 0);
}

/* 2^(127 - byte), exactly; NaN for byte 255. */
static __device__ __forceinline__ float ht_e8m0_inverse(uint32_t byte) {
    uint32_t bits = (254u - byte) << 23;
    bits = byte == 254 ? 0x00400000u : bits;
    return __uint_as_float(byte == 255 ? 0x7fc00000u : bits);
}

/* Two e4m3 codes, `low` in bits 0-7: nearest even, saturating, NaN to 7f. */
static __device__ __forceinline__ uint32_t ht_e4m3x2(float low, float high) {
    uint16_t codes;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    return codes;
}

static __device__ __forceinline__ uint32_t ht_e4m3x4(float a, float b, float c, float d) {
    return ht_e4m3x2(a, b) | ht_e4m3x2(c, d) << 16;
}

/* Eight bf16 times `inverse` to eight codes. */
static __device__ __forceinline__ uint2 ht_e4m3x8(uint4 x, float inverse) {
    return make_uint2(ht_e4m3x4(ht_low_bf16(x.x) * inverse, ht_high_bf16(x.x) * inverse, ht_low_bf16(x.y) * inverse,
                                ht_high_bf16(x.y) * inverse),
                      ht_e4m3x4(ht_low_bf16(x.z) * inverse, ht_high_bf16(x.z) * inverse, ht_low_bf16(x.w) * inverse,
                                ht_high_bf16(x.w) * inverse));
}

static __device__ __forceinline__ uint32_t ht_amax_bf16x8(uint4 x) {
    return ht_amax_bf16x2(ht_amax_bf16x2(x.x, x.y), ht_amax_bf16x2(x.z, x.w));
}

/* Read once: keep it out of the way of what stays in L2. */
static __device__ __forceinline__ uint4 ht_load_stream(const uint4 *at) {
    uint4 x;
    asm volatile("ld.global.nc.L1::no_allocate.L2::256B.v4.u32 {%0, %1, %2, %3}, [%4];"
                 : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
                 : "l"(at));
    return x;
}

#endif
