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

/* Lowest binade: the fraction goes behind a leading one, which is then taken away; Inf and NaN get their exponent back.
 */
static inline float ht_f32_from_f16(uint16_t h) {
    uint32_t shifted = (uint32_t)(h & 0x7fff) << 13, one = 113u << 23;
    uint32_t tiny = ht_f32_bits(ht_f32_from_bits(shifted + one) - ht_f32_from_bits(one));
    uint32_t u = ht_select((h & 0x7c00) == 0, tiny, shifted + (112u << 23));
    u = ht_select((h & 0x7c00) == 0x7c00, shifted | 0x7f800000u, u);
    return ht_f32_from_bits(u | (uint32_t)(h & 0x8000) << 16);
}

/* Nearest even, overflow to Inf, NaN quiet: the general rounding of lanes.c with 10 mantissa bits. */
static inline uint16_t ht_f16_from_f32(float x) {
    uint32_t u = ht_f32_bits(x);
    int32_t a = (int32_t)(u & 0x7fffffffu); /* signed: baseline vector units compare signed integers only */
    uint32_t is_nan = a > 0x7f800000, fraction = (uint32_t)a >> 13 & 0x3ff;
    a = a > 0x477ff000 ? 0x477ff000 : a; /* 65520: rounds to the code of Inf */
    uint32_t normal = (((uint32_t)a + 0xfffu + ((uint32_t)a >> 13 & 1)) >> 13) - (112u << 10);
    uint32_t tiny = ht_f32_bits(ht_f32_from_bits((uint32_t)a) + 0.5f) - 0x3f000000u;
    uint32_t code = ht_select(a < 0x38800000, tiny, normal);
    return (uint16_t)(ht_select(is_nan, 0x7e00 | fraction, code) | (u >> 16 & 0x8000));
}

/* Scales of NVFP4, one at a time. Nearest even of 0 <= x <= 448; decode of codes without a sign. */
static inline uint8_t ht_e4m3_from_f32(float x) {
    uint32_t u = ht_f32_bits(x);
    uint32_t normal = ((u + 0x7ffffu + (u >> 20 & 1)) >> 20) - (120u << 3);
    return (uint8_t)(x < 0x1p-6f ? ht_f32_bits(x + 0x1p14f) - 0x46800000u : normal);
}

static inline float ht_f32_from_e4m3(uint8_t code) {
    uint32_t magnitude = code & 0x7f, one = 121u << 23;
    float normal = ht_f32_from_bits((magnitude << 20) + (120u << 23));
    float tiny = ht_f32_from_bits((magnitude << 20) + one) - ht_f32_from_bits(one);
    float value = magnitude < 8 ? tiny : normal;
    value = (code & 0x7f) == 0x7f ? ht_f32_from_bits(0x7fc00000u) : value;
    return code & 0x80 ? -value : value;
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
