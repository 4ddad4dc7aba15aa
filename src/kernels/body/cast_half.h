/* Encoding 32 values at a time in 16-bit lanes.
 *
 * A bf16 holds more mantissa bits than any 8-bit element needs for rounding; an f32 whose lower half is replaced by
 * "something was lost" in the last bit (rounding to odd) rounds to the same code as the f32 itself. So codes come from
 * 16-bit numbers, two to four times as many in a register as f32. With t = magnitude - (bias of the exponent << 7), so
 * that the element's exponent field is t >> 7, and m mantissa bits of 7 kept:
 *
 *     normals          (t + half of the last place, less one, plus the last kept bit) >> (7 - m)
 *     lowest binade    e2m1: 1 above -128, 2 from 64 on; others in f32, as in cast.h, and rare
 *
 * Source: rounding to odd: Boldo and Melquiond 2008; formats specification, section 1.2. */
#ifndef HT_KERNELS_BODY_CAST_HALF_H
#define HT_KERNELS_BODY_CAST_HALF_H

#include "kernels/body/cast.h"

enum { HALF_LANES = 32, HALF_INF = 0x7f80 };

WIDE wh h_magnitude(wh x) {
    return h_and(x, h_int(0x7fff));
}

/* t of a magnitude that is not scaled further. */
WIDE wh half_exponent_field(wh magnitude, const cast_shape shape) {
    return h_sub(magnitude, h_int((127 - shape.bias) << 7));
}

/* Codes of the lowest binade, by f32. t below 128. */
WIDE wh half_lowest(wh t, const cast_shape shape) {
    uint32_t magic = (uint32_t)(127 + 24 - shape.bias - (int)shape.mantissa) << 23;
    wf large = w_from_bits(w_int(magic));
    t = h_max(t, h_int(-1024)); /* rounds to 0 */
    wh a = h_add(t, h_int((127 - shape.bias) << 7));
    wf low = w_from_bits(w_left(h_widen(a, 0), 16)), high = w_from_bits(w_left(h_widen(a, 1), 16));
    return h_narrow(w_isub(w_bits(w_add(low, large)), w_int(magic)), w_isub(w_bits(w_add(high, large)), w_int(magic)));
}

/* Codes of magnitudes without NaN, saturating; `nonzero` is 0 where the value is. */
WIDE wh half_encode_magnitude(wh t, wh nonzero, const cast_shape shape) {
    unsigned drop = 7 - shape.mantissa;
    t = h_min(t, h_int((int)(shape.max_bits >> 16) - ((127 - shape.bias) << 7)));
    wh odd = h_and(h_right(t, drop), h_int(1));
    wh normal = h_right_signed(h_add(h_add(t, h_int((1 << (drop - 1)) - 1)), odd), drop);
    if (shape.mantissa == 1)
        return h_raise_if_above(t, h_int(63), h_max_if_above(t, h_int(-128), normal, h_int(1)), h_int(2));
    if (shape.bits == 8 && !h_any_above_where(h_int(128), t, nonzero))
        return h_max(normal, h_int(0));
    return h_choose_above(h_int(128), t, half_lowest(t, shape), normal);
}

WIDE wh half_with_sign(wh code, wh x, const cast_shape shape) {
    return h_or(code, h_and(h_right(x, 16 - shape.bits), h_int(1 << (shape.bits - 1))));
}

/* Sixteen values from `at` on. */
WIDE wf cast_values(const ht_cast *cast, size_t at) {
    if (cast->x_dtype == HT_F32)
        return w_load((const float *)cast->x + at);
    const uint16_t *halves = (const uint16_t *)cast->x + at;
    return cast->x_dtype == HT_BF16 ? w_load_bf16(halves) : w_load_f16(halves);
}

/* Largest magnitude of n values from `at` on, as f32 bits. */
WIDE uint32_t cast_run_amax(const ht_cast *cast, size_t at, size_t n) {
    wh halves = h_int(0);
    wi whole = w_int(0);
    size_t i = 0;
    if (cast->x_dtype == HT_BF16)
        for (const uint16_t *x = (const uint16_t *)cast->x + at; i + HALF_LANES <= n; i += HALF_LANES)
            halves = h_max(halves, h_magnitude(h_load(x + i)));
    for (; i + CAST_LANES <= n; i += CAST_LANES)
        whole = w_imax(whole, w_magnitude(cast_values(cast, at + i)));
    if (i < n) {
        float rest[CAST_LANES];
        cast_load(cast->x, cast->x_dtype, at + i, n - i, rest);
        whole = w_imax(whole, w_magnitude(w_load(rest)));
    }
    uint32_t a = (uint32_t)h_largest(halves) << 16, b = w_largest(whole);
    return a > b ? a : b;
}

/* 32 codes to where code `index` (a multiple of 32) of a run lies. */
WIDE void half_put(ht_packing packing, unsigned bits, uint8_t *run, size_t index, __m256i codes) {
    if (bits == 8 || packing == HT_PACK_BYTES)
        w_put_bytes_32(run + index, codes);
    else if (bits == 6)
        w_put_sixes_32(run + index / 4 * 3, codes);
    else if (packing == HT_PACK_HIGH)
        w_put_high_32(run + index / 2, codes);
    else
        w_put_low_32(run + index / 2, codes);
}

#endif
