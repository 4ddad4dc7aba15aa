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
    return h_or_and(code, h_right(x, 16 - shape.bits), h_int(1 << (shape.bits - 1)));
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

/* 32 values from `at` on, even and odd apart. */
WIDE wpair cast_pair(const void *x, ht_dtype dtype, size_t at) {
    const uint16_t *halves = (const uint16_t *)x + at;
    const float *values = (const float *)x + at;
    if (dtype == HT_BF16)
        return w_pair_bf16(h_load(halves));
    if (dtype == HT_F16)
        return w_pair(w_load_f16(halves), w_load_f16(halves + CAST_LANES));
    return w_pair(w_load(values), w_load(values + CAST_LANES));
}

/* Magnitudes of 32 values, even and odd ones apart, and the values (bf16) or the upper halves of them, for their signs.
 */
WIDE wpair cast_magnitudes(const void *x, ht_dtype dtype, size_t at, wh *signs) {
    if (dtype == HT_BF16) {
        *signs = h_load((const uint16_t *)x + at);
        return w_pair_bf16(h_magnitude(*signs));
    }
    wpair pair = cast_pair(x, dtype, at);
    *signs = w_pair_high(w_bits(pair.even), w_bits(pair.odd));
    return (wpair){w_from_bits(w_magnitude(pair.even)), w_from_bits(w_magnitude(pair.odd))};
}

/* --- Codes of f32 magnitudes by one addition ------------------------------------------------------------------------
 *
 * With P the power of two at or below a (at least the smallest normal one) and m mantissa bits, a + P * 2^(23 - m) is a
 * rounded to the m bits: n = a / (P / 2^m) to nearest even lies in the sum's last bits, log2 P in its exponent, and the
 * code is n + (exponent of P - that of the smallest) * 2^m. The constant of that is in the addend's own last bits. */

typedef struct half_rounding {
    wi least, exponent, addend;
} half_rounding;

WIDE half_rounding half_rounding_of(const cast_shape shape) {
    const unsigned drop = 23 - shape.mantissa;
    const uint32_t least = (uint32_t)(128 - shape.bias);
    const uint32_t constant = (0u - ((least + drop) << shape.mantissa)) & 0xffff;
    return (half_rounding){w_keep(w_int(least << 23)), w_keep(w_int(0x7f800000u)),
                           w_keep(w_int((drop << 23) + constant))};
}

/* The code is the lower 16 bits. a is below 2^8 times the largest element; nothing saturates. */
WIDE wi half_sum(wf a, const half_rounding *to, const cast_shape shape) {
    wi power = w_and(w_imax(w_bits(a), to->least), to->exponent);
    wi sum = w_bits(w_add(a, w_from_bits(w_iadd(power, to->addend))));
    return w_iadd(sum, w_right(sum, 23 - shape.mantissa));
}

/* 32 codes with their signs. */
WIDE wh half_codes(wf even, wf odd, wh signs, const half_rounding *to, const cast_shape shape) {
    const int most = (int)(shape.max_bits >> (23 - shape.mantissa)) - ((127 - shape.bias) << shape.mantissa);
    wh code = h_min(w_pair_low(half_sum(even, to, shape), half_sum(odd, to, shape)), h_int(most));
    return half_with_sign(code, signs, shape);
}

/* --- Quotients without dividing -------------------------------------------------------------------------------------
 *
 * q = x * fl(1/d), corrected once by its remainder: q + (x - q * d) * fl(1/d). This is fl(x / d) unless x / d lies
 * within 2^-21 units in the last place of a midpoint of two f32. Only quotients beside a tie of the element format
 * matter, T * 2^e with 5 bits in T; x - d * (tie + half a unit) is 2^j (K - B * 2^-20 or coarser) with integers K and
 * B = d's 24 bits: that close to 0 only if the last 20 bits of B are within 8 of 0, modulo 2^20. Such d are divided by,
 * except powers of two, whose products are exact. Source: Markstein 1990, "Computation of elementary functions on the
 * IBM RISC System/6000", for the correction. */
static inline int half_divides_well(float d) {
    uint32_t bits = ht_f32_bits(d), last = (bits + 16) & 0xfffff;
    return d >= 0x1p-90f && d <= 0x1p90f && (last > 32 || (bits & 0x7fffff) == 0);
}

WIDE wf half_quotient(wf x, wf d, wf inverse) {
    wf q = w_mul(x, inverse);
    return w_plus_product(q, w_minus_product(x, q, d), inverse);
}

/* --- Quotients of bf16 by one product -------------------------------------------------------------------------------
 *
 * x * fl(1/d) is within 2^-22 of x / d. When x has 8 significant bits, that only matters if some x lies that close to d
 * times a tie of the element format. Whether any can is a property of d: does d * T, for the T of 5 bits that ties are
 * (e2m1: of 3), have a number of 8 bits within 2^-20? If so, dividing that number tells on which side of the tie the
 * quotient falls, and moving the reciprocal by 2^-21 towards it puts the product there too; if two ties want it moved
 * both ways, there is no such reciprocal (0). Ties themselves go to the even code: up where T, without its factors of
 * two, is 3 modulo 4. So no product is a tie, its upper 16 bits are enough, and rounding is an addition in 16-bit
 * lanes:
 *
 *     normals          (t + half of the last place) >> (7 - m)           t: see the top of this file
 *     lowest binade    e2m1: 1 above -128, 2 from 64 on; others as sums, and rare
 *
 * `bits` is one more than the mantissa has. */
static inline float half_reciprocal(float d, unsigned bits) {
    const double near = 0x1p-20;
    int up = 0, down = 0;
    if (!(d >= 0x1p-90f && d <= 0x1p90f))
        return 0;
    for (uint32_t tie = 1u << bits; tie < 2u << bits; tie++) {
        double product = (double)d * tie; /* exact */
        uint64_t word;
        memcpy(&word, &product, sizeof word);
        word = (word + ((uint64_t)1 << 44)) >> 45 << 45; /* to 8 bits */
        double x;
        memcpy(&x, &word, sizeof x);
        if (x - product > near * product || product - x > near * product)
            continue;
        float quotient = (float)x / d, at = (float)tie;
        int upper = quotient > at || (quotient >= at && (tie >> __builtin_ctz(tie)) % 4 == 3);
        up |= upper;
        down |= !upper;
    }
    return up && down ? 0 : (float)(1 / (double)d * (1 + (up - down) * 0x1p-21));
}

/* 32 codes of such quotients, with their signs. */
WIDE wh half_codes_of_products(wf even, wf odd, wh signs, const half_rounding *to, const cast_shape shape) {
    const unsigned drop = 7 - shape.mantissa;
    wh t = half_exponent_field(w_pair_high(w_bits(even), w_bits(odd)), shape);
    t = h_min(t, h_int((int)(shape.max_bits >> 16) - ((127 - shape.bias) << 7)));
    wh code = h_right_signed(h_add(t, h_int(1 << (drop - 1))), drop);
    if (shape.mantissa == 1)
        code = h_raise_if_above(t, h_int(63), h_max_if_above(t, h_int(-129), code, h_int(1)), h_int(2));
    else if (h_any_above_where(h_int(128), t, h_magnitude(signs)))
        return half_codes(even, odd, signs, to, shape);
    else
        code = h_max(code, h_int(0));
    return half_with_sign(code, signs, shape);
}

/* 32 f32 rounded to odd, in 16 bits. */
WIDE wh half_odd(wi even, wi odd) {
    return h_or(w_pair_high(even, odd), h_min_unsigned(w_pair_low(even, odd), h_int(1)));
}

/* Bits of the largest magnitudes of 16 blocks of 16 or 32 values, from `at` on; n < 16 of them: zeros behind. */
WIDE void cast_block_amax(const ht_cast *cast, size_t at, size_t width, size_t n, uint32_t *amax) {
    if (n == 16 && cast->x_dtype == HT_BF16) {
        w_block_amax_bf16((const uint16_t *)cast->x + at, width, amax);
    } else if (n == 16 && cast->x_dtype == HT_F32) {
        w_block_amax_f32((const float *)cast->x + at, width, amax);
    } else {
        for (size_t b = 0; b < 16; b++)
            amax[b] = 0;
        for (size_t b = 0; b < n; b++)
            for (size_t i = 0; i < width; i += CAST_LANES) {
                uint32_t here = w_largest(w_magnitude(cast_values(cast, at + b * width + i)));
                amax[b] = here > amax[b] ? here : amax[b];
            }
    }
}

/* A line of codes: where it goes, past the caches or not. */
WIDE void cast_put_line(void *to, wi line, int streams) {
    if (streams)
        w_stream(to, line);
    else
        w_store_int(to, line);
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
