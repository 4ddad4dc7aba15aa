/* Element formats, one value at a time: the definition that fast code is tested against.
 *
 * With E exponent bits, M mantissa bits and bias b: a = |x|, q = max(floor(log2 a), 1 - b), k = a / 2^(q - M) rounded
 * to nearest even; the code is k in the lowest binade (subnormals continue into normals), else (q + b) * 2^M + k - 2^M,
 * so that a carry reaches the next binade by itself. Then saturate and attach the sign. Doubles hold every step
 * exactly. NaN: the canonical NaN code (positive), or the largest magnitude where the format has no NaN. Sign of zero
 * is kept, except in the fnuz types, whose code of -0 is NaN. e8m0 encodes |x|. Refuses: nothing; a type that is no
 * float element encodes to 0 and decodes to NaN. Source: formats specification, sections 1.1 and 1.2; OCP MX v1.0,
 * section 5.3; OCP FP8 v1.0.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/element.h"

#include <math.h>
#include <stddef.h>

#include <halftone/format.h>

#include "format/bits.h"

static const ht_element elements[] = {
    {HT_F8_E4M3, 8, 3, 7, 0x7e, 0x7f, 0x7f, 0x43e00000, 8, 0},       /* 448 */
    {HT_F8_E5M2, 8, 2, 15, 0x7b, 0x7f, 0x7c, 0x47600000, 15, 0},     /* 57344 */
    {HT_F8_E4M3FNUZ, 8, 3, 8, 0x7f, 0x80, 0x80, 0x43700000, 7, 1},   /* 240 */
    {HT_F8_E5M2FNUZ, 8, 2, 16, 0x7f, 0x80, 0x80, 0x47600000, 15, 1}, /* 57344 */
    {HT_F6_E2M3, 6, 3, 1, 0x1f, 0x1f, 0x20, 0x40f00000, 2, 0},       /* 7.5 */
    {HT_F6_E3M2, 6, 2, 3, 0x1f, 0x1f, 0x20, 0x41e00000, 4, 0},       /* 28 */
    {HT_F4_E2M1, 4, 1, 1, 0x07, 0x07, 0x08, 0x40c00000, 2, 0},       /* 6 */
    {HT_I8, 8, 6, 0, 127, 127, 128, 0x3ffe0000, 0, 0},               /* 127/64; only MXINT8 reads this row */
    {HT_F16, 16, 10, 15, 0x7c00, 0x7e00, 0x7c00, 0x477fe000, 15, 0},
    {HT_BF16, 16, 7, 127, 0x7f80, 0x7fc0, 0x7f80, 0x7f7f0000, 127, 0},
};

const ht_element *ht_element_find(ht_dtype dtype) {
    for (size_t i = 0; i < sizeof elements / sizeof *elements; i++)
        if (elements[i].dtype == dtype)
            return &elements[i];
    return NULL;
}

/* Nearest power of two, the midpoint 1.5 going up; overflow and Inf give 255. Below 2^-126 everything above 2^-127 goes
 * to byte 1, as the common casts have it, although byte 0 would be nearer up to 1.5 * 2^-127. */
static uint32_t encode_e8m0(float x) {
    uint32_t a = ht_f32_bits(x) & 0x7fffffffu;
    if (a >= 0x7f800000u)
        return 0xff;
    if (a < 0x00800000u)
        return a > 0x00400000u;
    return (a >> 23) + (a >> 22 & 1);
}

uint32_t ht_element_encode(ht_dtype dtype, float x) {
    if (dtype == HT_E8M0)
        return encode_e8m0(x);
    const ht_element *e = ht_element_find(dtype);
    if (!e || dtype == HT_I8)
        return 0;
    if (isnan(x))
        return e->nan_code;
    uint32_t sign = signbit(x) ? 1u << (e->bits - 1) : 0;
    uint32_t code = e->max_code;
    double a = fabs((double)x);
    if (!isinf(x)) {
        int lowest = 1 - e->bias, q = a > 0 ? ilogb(a) : lowest, m = (int)e->mantissa;
        if (q < lowest)
            q = lowest;
        double k = rint(ldexp(a, m - q));
        double exact = q == lowest ? k : ldexp((double)(q + e->bias), m) + k - ldexp(1, m);
        if (exact < (double)e->max_code)
            code = (uint32_t)exact;
    }
    return e->no_negative_zero && code == 0 ? 0 : code | sign;
}

float ht_element_decode(ht_dtype dtype, uint32_t code) {
    if (dtype == HT_E8M0)
        return (code & 0xff) == 0xff ? NAN : ldexpf(1, (int)(code & 0xff) - 127);
    const ht_element *e = ht_element_find(dtype);
    if (!e || dtype == HT_I8)
        return NAN;
    uint32_t half = 1u << (e->bits - 1), magnitude = code & (half - 1);
    float sign = code & half ? -1.0f : 1.0f;
    if (e->no_negative_zero && (code & (2 * half - 1)) == half)
        return NAN;
    if (magnitude >= e->inf_code) {
        int has_inf = dtype != HT_F8_E4M3 && magnitude == e->inf_code;
        return has_inf ? sign * INFINITY : NAN;
    }
    uint32_t exponent = magnitude >> e->mantissa, fraction = magnitude & ((1u << e->mantissa) - 1);
    if (exponent == 0)
        return sign * ldexpf((float)fraction, 1 - e->bias - (int)e->mantissa);
    return sign * ldexpf((float)(fraction + (1u << e->mantissa)), (int)exponent - e->bias - (int)e->mantissa);
}
