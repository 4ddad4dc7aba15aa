/* Smallest and largest of many values. Body of ht_range_*: bits in the order of the numbers (sign-magnitude to two's
 * complement), 32 bf16 or 16 f32 at a time. A piece that holds a NaN, and f16, go to the definition. */
#ifndef HT_KERNELS_BODY_CAST_RANGE_H
#define HT_KERNELS_BODY_CAST_RANGE_H

#include "kernels/body/cast_half.h"

enum { RANGE_PIECE = 4096 };

/* The 32 smallest and largest of n bf16, n a multiple of 32 and not 0; 1, or 0 at a NaN. */
WIDE int range_halves(const uint16_t *x, size_t n, float low[HALF_LANES], float high[HALF_LANES]) {
    uint16_t smallest[HALF_LANES], largest[HALF_LANES];
    wh least = h_int(0x7fff), most = h_int(-0x8000), magnitude = h_int(0);
    for (size_t i = 0; i < n; i += HALF_LANES) {
        wh value = h_load(x + i), key = h_exor(value, h_right(h_right_signed(value, 15), 1));
        least = h_min(least, key);
        most = h_max(most, key);
        magnitude = h_max(magnitude, h_magnitude(value));
    }
    h_store(smallest, h_exor(least, h_right(h_right_signed(least, 15), 1)));
    h_store(largest, h_exor(most, h_right(h_right_signed(most, 15), 1)));
    cast_load(smallest, HT_BF16, 0, HALF_LANES, low);
    cast_load(largest, HT_BF16, 0, HALF_LANES, high);
    return !h_any_above(magnitude, h_int(HALF_INF));
}

/* The same for f32. */
WIDE int range_floats(const float *x, size_t n, float low[HALF_LANES], float high[HALF_LANES]) {
    wf least = w_load(x), most = least;
    wi magnitude = w_int(0);
    for (size_t i = 0; i < n; i += CAST_LANES) {
        wf value = w_load(x + i);
        least = w_least(value, least);
        most = w_most(value, most);
        magnitude = w_imax(magnitude, w_magnitude(value));
    }
    w_store(low, least);
    w_store(low + CAST_LANES, least);
    w_store(high, most);
    w_store(high + CAST_LANES, most);
    return w_largest(magnitude) <= 0x7f800000u;
}

static inline ht_status range(ht_range *range, const void *x, ht_dtype dtype, size_t count) {
    float low[HALF_LANES], high[HALF_LANES];
    size_t size = ht_dtype_bits(dtype) / 8;
    for (size_t at = 0, n; at < count; at += n) {
        n = count - at < RANGE_PIECE ? count - at : RANGE_PIECE;
        const char *piece = (const char *)x + at * size;
        size_t whole = n / HALF_LANES * HALF_LANES;
        int plain = whole && (dtype == HT_BF16  ? range_halves((const uint16_t *)(const void *)piece, whole, low, high)
                              : dtype == HT_F32 ? range_floats((const float *)(const void *)piece, whole, low, high)
                                                : 0);
        if (!plain)
            whole = 0;
        if (plain && ht_range_add(range, low, HT_F32, HALF_LANES) == HT_OK)
            ht_range_add(range, high, HT_F32, HALF_LANES);
        if (whole < n) {
            ht_status status = ht_range_add(range, piece + whole * size, dtype, n - whole);
            if (status != HT_OK)
                return status;
        }
    }
    return HT_OK;
}

#endif
