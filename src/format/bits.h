/* The bits of floats: casts, and single conversions of the 16-bit types. Small enough to inline everywhere. */
#ifndef HT_FORMAT_BITS_H
#define HT_FORMAT_BITS_H

#include <stdint.h>
#include <string.h>

#include <halftone/tensor.h>

static inline uint32_t ht_f32_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, sizeof u);
    return u;
}

static inline float ht_f32_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, sizeof x);
    return x;
}

/* c ? a : b, without a branch; c is 0 or 1. */
static inline uint32_t ht_select(uint32_t c, uint32_t a, uint32_t b) {
    uint32_t mask = 0u - c;
    return (a & mask) | (b & ~mask);
}

static inline float ht_f32_from_bf16(uint16_t h) {
    return ht_f32_from_bits((uint32_t)h << 16);
}

/* Nearest even; a NaN keeps its upper payload bits and becomes quiet. */
static inline uint16_t ht_bf16_from_f32(float x) {
    uint32_t u = ht_f32_bits(x);
    uint32_t rounded = (u + 0x7fffu + ((u >> 16) & 1)) >> 16;
    return (uint16_t)ht_select((u & 0x7fffffffu) > 0x7f800000u, (u >> 16) | 0x40, rounded);
}

/* The exponent is moved by a multiplication, which also normalizes subnormals; Inf and NaN get their exponent back. */
static inline float ht_f32_from_f16(uint16_t h) {
    uint32_t shifted = (uint32_t)(h & 0x7fff) << 13;
    uint32_t u = ht_f32_bits(ht_f32_from_bits(shifted) * 0x1p112f);
    u = ht_select((h & 0x7c00) == 0x7c00, shifted | 0x7f800000u, u);
    return ht_f32_from_bits(u | (uint32_t)(h & 0x8000) << 16);
}

/* Nearest even, overflow to Inf, NaN quiet: the general rounding of lanes.c with 10 mantissa bits. */
static inline uint16_t ht_f16_from_f32(float x) {
    uint32_t u = ht_f32_bits(x), a = u & 0x7fffffffu;
    uint32_t normal = ((a + 0xfffu + ((a >> 13) & 1)) >> 13) - (112u << 10);
    uint32_t tiny = ht_f32_bits(ht_f32_from_bits(a < 0x38800000u ? a : 0) + 0.5f) - 0x3f000000u;
    uint32_t code = ht_select(a < 0x38800000u, tiny, normal);
    code = ht_select(a >= 0x477ff000u, 0x7c00, code); /* 65520 and above */
    code = ht_select(a > 0x7f800000u, 0x7e00 | (a >> 13 & 0x3ff), code);
    return (uint16_t)(code | (u >> 16 & 0x8000));
}

/* One rounding to a 16-bit type and back; f32 and everything else: unchanged. */
static inline float ht_round_to(ht_dtype dtype, float x) {
    if (dtype == HT_BF16)
        return ht_f32_from_bf16(ht_bf16_from_f32(x));
    if (dtype == HT_F16)
        return ht_f32_from_f16(ht_f16_from_f32(x));
    return x;
}

#endif
