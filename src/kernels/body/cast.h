/* What the cast bodies share: loading a chunk as f32, element formats and packings 16 lanes at a time. Included after a
 * header of vectors (x86/wide_*.h), whose names begin with w_.
 *
 * Encode and decode are the two cases of format/lanes.c: normals by rounding the f32 bits, the lowest binade by adding
 * a number whose last place is its unit. */
#ifndef HT_KERNELS_BODY_CAST_H
#define HT_KERNELS_BODY_CAST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "format/bits.h"
#include "kernels/cast.h"

enum { CAST_LANES = 16, CAST_CHUNK = 512 };

/* n <= CAST_CHUNK values from `at` on as f32; zeros up to a multiple of 16. */
static void cast_load(const void *x, ht_dtype dtype, size_t at, size_t n, float *out) {
    size_t whole = n / CAST_LANES * CAST_LANES;
    const uint16_t *halves = (const uint16_t *)x + at;
    if (dtype == HT_F32)
        for (size_t i = 0; i < whole; i += CAST_LANES)
            w_store(out + i, w_load((const float *)x + at + i));
    else if (dtype == HT_BF16)
        for (size_t i = 0; i < whole; i += CAST_LANES)
            w_store(out + i, w_load_bf16(halves + i));
    else
        for (size_t i = 0; i < whole; i += CAST_LANES)
            w_store(out + i, w_load_f16(halves + i));
    if (whole == n)
        return;
    uint16_t some[CAST_LANES] = {0};
    w_store(out + whole, w_float(0));
    if (dtype == HT_F32) {
        memcpy(out + whole, (const float *)x + at + whole, (n - whole) * sizeof *out);
    } else {
        memcpy(some, halves + whole, (n - whole) * sizeof *some);
        w_store(out + whole, dtype == HT_BF16 ? w_load_bf16(some) : w_load_f16(some));
    }
}

WIDE wi w_magnitude(wf x) {
    return w_and(w_bits(x), w_int(0x7fffffffu));
}

/* Largest magnitude of a multiple of 16 values, as f32 bits. */
WIDE uint32_t cast_amax(const float *x, size_t n) {
    wi most = w_magnitude(w_load(x));
    for (size_t i = CAST_LANES; i < n; i += CAST_LANES)
        most = w_imax(most, w_magnitude(w_load(x + i)));
    return w_largest(most);
}

/* --- Element formats -------------------------------------------------------------------------------------- */

typedef struct cast_shape {
    unsigned bits, mantissa;
    int bias;
    uint32_t max_bits, nan_code;
} cast_shape;

#define CAST_E4M3 ((const cast_shape){8, 3, 7, 0x43e00000u, 0x7f})
#define CAST_E5M2 ((const cast_shape){8, 2, 15, 0x47600000u, 0x7f})
#define CAST_E2M3 ((const cast_shape){6, 3, 1, 0x40f00000u, 0x1f})
#define CAST_E3M2 ((const cast_shape){6, 2, 3, 0x41e00000u, 0x1f})
#define CAST_E2M1 ((const cast_shape){4, 1, 1, 0x40c00000u, 0x07})

/* Codes of magnitudes (f32 bits, no NaN), saturating; `shape` is a constant. */
WIDE wi w_encode_magnitude(wi a, const cast_shape shape) {
    unsigned drop = 23 - shape.mantissa;
    uint32_t magic = (uint32_t)(127 + 24 - shape.bias - (int)shape.mantissa) << 23;
    uint32_t half = (1u << (drop - 1)) - 1 - ((uint32_t)(127 - shape.bias) << 23);
    a = w_imin(a, w_int(shape.max_bits));
    wi odd = w_and(w_right(a, drop), w_int(1));
    wi normal = w_right(w_iadd(w_iadd(a, w_int(half)), odd), drop);
    wi tiny = w_isub(w_bits(w_add(w_from_bits(a), w_from_bits(w_int(magic)))), w_int(magic));
    return w_choose(w_above(w_int((uint32_t)(128 - shape.bias) << 23), a), tiny, normal);
}

WIDE wi w_encode(wf x, const cast_shape shape) {
    wi sign = w_and(w_right(w_bits(x), 32 - shape.bits), w_int(1u << (shape.bits - 1)));
    return w_or(w_encode_magnitude(w_magnitude(x), shape), sign);
}

/* The same where a NaN may come. */
WIDE wi w_encode_any(wf x, const cast_shape shape) {
    wm nan = w_above(w_magnitude(x), w_int(0x7f800000u));
    return w_choose(nan, w_int(shape.nan_code), w_encode(x, shape));
}

/* Values of finite codes; table: e2m1 alone, its 16 values. */
WIDE wf w_decode(wi code, const cast_shape shape) {
    uint32_t half = 1u << (shape.bits - 1), one = (uint32_t)(128 - shape.bias) << 23;
    wi magnitude = w_and(code, w_int(half - 1));
    wi shifted = w_left(magnitude, 23 - shape.mantissa);
    wi tiny = w_bits(w_sub(w_from_bits(w_iadd(shifted, w_int(one))), w_from_bits(w_int(one))));
    wi normal = w_iadd(shifted, w_int((uint32_t)(127 - shape.bias) << 23));
    wi value = w_choose(w_above(w_int(1u << shape.mantissa), magnitude), tiny, normal);
    return w_from_bits(w_or(value, w_left(w_and(code, w_int(half)), 32 - shape.bits)));
}

/* The same with codes of NaN and Inf. */
WIDE wf w_decode_any(wi code, const cast_shape shape) {
    wf value = w_decode(code, shape);
    if (shape.bits < 8)
        return value;
    int is_e4m3 = shape.mantissa == 3;
    wm special = w_above(w_and(code, w_int(0x7f)), w_int(is_e4m3 ? 0x7e : 0x7b));
    wi filled = w_or(w_bits(value), w_int(is_e4m3 ? 0x7fc00000u : 0x7f800000u));
    return w_from_bits(w_choose(special, filled, w_bits(value)));
}

static const float cast_e2m1_values[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

/* Nearest integers of |y| < 2^22, ties to even. */
WIDE wi w_nearest(wf y) {
    return w_isub(w_bits(w_add(y, w_float(0x1.8p23f))), w_int(0x4b400000u));
}

/* Scale bytes of MX as numbers: 2^(byte - 127), byte 0 subnormal, byte 255 NaN. */
WIDE wf w_e8m0(wi byte) {
    wi bits = w_choose(w_above(byte, w_int(0)), w_left(byte, 23), w_int(0x00400000u));
    return w_from_bits(w_choose(w_above(byte, w_int(254)), w_int(0x7fc00000u), bits));
}

/* --- Packing ------------------------------------------------------------------------------------------------ */

/* Sixteen codes to where code `index` (a multiple of 16) of a run lies. */
WIDE void w_put(ht_packing packing, unsigned bits, uint8_t *run, size_t index, wi codes) {
    __m128i bytes = w_bytes(codes);
    if (bits == 8 || packing == HT_PACK_BYTES)
        w_put_bytes(run + index, bytes);
    else if (bits == 6)
        w_put_sixes(run + index / 4 * 3, bytes);
    else if (packing == HT_PACK_HIGH)
        w_put_high(run + index / 2, bytes);
    else
        w_put_low(run + index / 2, bytes);
}

WIDE wi w_get(ht_packing packing, unsigned bits, const uint8_t *run, size_t index) {
    if (bits == 8 || packing == HT_PACK_BYTES)
        return w_from_bytes(w_get_bytes(run + index));
    if (bits == 6)
        return w_from_bytes(w_get_sixes(run + index / 4 * 3));
    return w_from_bytes(packing == HT_PACK_HIGH ? w_get_high(run + index / 2) : w_get_low(run + index / 2));
}

/* --- Writing past the caches ---------------------------------------------------------------------------------- */

enum { CAST_LINE = 64 };

static inline int cast_is_line(const void *p, size_t bytes) {
    return ((uintptr_t)p | bytes) % CAST_LINE == 0;
}

/* Whole lines, from a buffer that is in the first cache. */
WIDE void cast_stream(void *to, const void *from, size_t bytes) {
    for (size_t i = 0; i < bytes; i += CAST_LINE)
        w_stream((char *)to + i, w_load_int((const char *)from + i));
}

/* Values of an uncast: where 16-lane results of n values from `at` on may be put: the result itself, or a buffer that
 * cast_finish writes out. */
WIDE float *cast_begin(const ht_uncast *uncast, size_t at, size_t n, float *buffer) {
    int direct = uncast->y_dtype == HT_F32 && !uncast->streams && n % CAST_LANES == 0;
    return direct ? (float *)uncast->y + at : buffer;
}

static void cast_finish(const ht_uncast *uncast, size_t at, size_t n, const float *values, const float *buffer) {
    uint16_t halves[CAST_CHUNK];
    size_t size = ht_dtype_bits(uncast->y_dtype) / 8;
    char *to = (char *)uncast->y + at * size;
    const void *from = values;
    if (values != buffer)
        return;
    if (uncast->y_dtype == HT_BF16) {
        for (size_t i = 0; i < n; i += CAST_LANES)
            w_store_bf16(halves + i, w_load(values + i));
        from = halves;
    }
    if (uncast->streams && cast_is_line(to, n * size))
        cast_stream(to, from, n * size);
    else
        memcpy(to, from, n * size);
}

#endif
