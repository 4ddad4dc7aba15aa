/* Conversion between float types: everything goes through f32 (f64 sources through one rounding of their own).
 *
 * f64 to a narrow type must round once: rounding to f32 first could create a tie that was none. The f32 step therefore
 * rounds to odd (keep the last bit set when anything was lost), which leaves the second rounding correct for every
 * target of at most 22 significant bits. f64 to f32 itself is the plain cast.
 * Refuses: integer, 6-bit and 4-bit types, e8m0. fp8 saturates, NaN stays NaN.
 * Source: formats specification, section 1.2; round to odd: Boldo and Melquiond, "Emulation of FMA and correctly
 * rounded sums: proved algorithms using rounding to odd", 2008.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/tensor.h>

#include <math.h>
#include <string.h>

#include "base/status.h"
#include "format/lanes.h"

enum { CHUNK = 256 };

static int convertible(ht_dtype dtype) {
    return dtype == HT_F64 || dtype == HT_F32 || dtype == HT_F16 || dtype == HT_BF16 ||
           (dtype >= HT_F8_E4M3 && dtype <= HT_F8_E5M2FNUZ);
}

/* f64 to f32, rounding to odd when a further rounding follows. */
static float from_double(double x, int to_odd) {
    float y = (float)x;
    if (!to_odd || isnan(x) || (double)y == x)
        return y;
    /* Bits as a sign-magnitude integer: step back to the neighbour toward zero, then set the last bit. */
    uint32_t u = ht_f32_bits(y);
    if (fabs((double)y) > fabs(x))
        u--;
    return ht_f32_from_bits(u | 1);
}

static void load(const void *in, ht_dtype dtype, size_t at, size_t n, int to_odd, float *out) {
    if (dtype == HT_F64) {
        const double *x = (const double *)in + at;
        for (size_t i = 0; i < n; i++)
            out[i] = from_double(x[i], to_odd);
    } else if (ht_dtype_bits(dtype) == 8) {
        ht_lanes_decode(dtype, (const uint8_t *)in + at, n, out);
    } else {
        ht_lanes_load(in, dtype, at, n, out);
    }
}

static void store(const float *in, size_t n, ht_dtype dtype, void *out, size_t at) {
    if (dtype == HT_F64) {
        double *y = (double *)out + at;
        for (size_t i = 0; i < n; i++)
            y[i] = (double)in[i];
    } else if (ht_dtype_bits(dtype) == 8) {
        ht_lanes_encode(dtype, in, n, (uint8_t *)out + at);
    } else {
        ht_lanes_store(in, n, dtype, out, at);
    }
}

ht_status ht_convert(const void *in, ht_dtype in_dtype, void *out, ht_dtype out_dtype, size_t count) {
    if (!convertible(in_dtype) || !convertible(out_dtype))
        return ht_fail(HT_ERR_UNSUPPORTED, "convert: %s to %s is not a conversion between float types",
                       ht_dtype_name(in_dtype), ht_dtype_name(out_dtype));
    if (in_dtype == out_dtype) {
        if (count)
            memcpy(out, in, count * (ht_dtype_bits(in_dtype) / 8));
        return HT_OK;
    }
    int to_odd = out_dtype != HT_F32;
    float buffer[CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = count - at < CHUNK ? count - at : CHUNK;
        load(in, in_dtype, at, n, to_odd, buffer);
        store(buffer, n, out_dtype, out, at);
    }
    return HT_OK;
}
