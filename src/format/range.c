/* The range of a matrix: smallest, largest, largest magnitude, whether NaN or Inf occur.
 *
 * NaN is left out, Inf counts. Comparisons run on the bits mapped to an ordered integer (sign-magnitude to two's
 * complement), sixteen at a time, so that -0 < +0 and the result does not depend on order.
 * Refuses: types other than f32, bf16, f16. Source: format.h.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <math.h>

#include "base/status.h"
#include "format/lanes.h"

enum { LANES = 16, CHUNK = 512 };

ht_range ht_range_empty(void) {
    return (ht_range){.min = INFINITY, .max = -INFINITY, .amax = 0, .has_nan = 0, .has_inf = 0};
}

/* Bits to integers in the order of the numbers; its own inverse. */
static inline int32_t ordered(int32_t u) {
    return u ^ (int32_t)((uint32_t)(u >> 31) & 0x7fffffffu);
}

static void add_chunk(ht_range *range, const float *x, size_t n) {
    int32_t low[LANES], high[LANES], nan[LANES] = {0};
    for (int j = 0; j < LANES; j++) {
        low[j] = INT32_MAX;
        high[j] = INT32_MIN;
    }
    for (size_t i = 0; i < n; i += LANES)
        for (size_t j = 0; j < LANES; j++) {
            int32_t u = (int32_t)ht_f32_bits(x[i + j]), is_nan = -(int32_t)((u & 0x7fffffff) > 0x7f800000);
            int32_t key = ordered(u);
            int32_t for_low = (key & ~is_nan) | (INT32_MAX & is_nan), for_high = (key & ~is_nan) | (INT32_MIN & is_nan);
            low[j] = for_low < low[j] ? for_low : low[j];
            high[j] = for_high > high[j] ? for_high : high[j];
            nan[j] |= is_nan;
        }
    for (int j = 0; j < LANES; j++) {
        range->has_nan |= nan[j] != 0;
        if (low[j] > high[j]) /* all NaN */
            continue;
        float min = ht_f32_from_bits((uint32_t)ordered(low[j])), max = ht_f32_from_bits((uint32_t)ordered(high[j]));
        range->min = min < range->min ? min : range->min;
        range->max = max > range->max ? max : range->max;
    }
}

ht_status ht_range_add(ht_range *range, const void *x, ht_dtype dtype, size_t count) {
    if (dtype != HT_F32 && dtype != HT_BF16 && dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "range: values are %s; f32, bf16 or f16 is needed", ht_dtype_name(dtype));
    float buffer[CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = count - at < CHUNK ? count - at : CHUNK;
        ht_lanes_load(x, dtype, at, n, buffer);
        for (; n % LANES; n++) /* repeat the last value: no effect on a range */
            buffer[n] = buffer[n - 1];
        add_chunk(range, buffer, n);
    }
    if (range->min <= range->max) {
        float below = fabsf(range->min), above = fabsf(range->max);
        range->amax = below > above ? below : above;
        range->has_inf = isinf(range->amax);
        range->min += 0.0f; /* -0 becomes +0: which of the two came first must not matter */
        range->max += 0.0f;
    }
    return HT_OK;
}
