/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/tensor.h>

#include <math.h>
#include <string.h>

#include <halftone/format.h>

#include "base/random.h"
#include "support/check.h"

enum { COUNT = 1000 };

static const ht_dtype floats[] = {HT_F64,     HT_F32,     HT_F16,         HT_BF16,
                                  HT_F8_E4M3, HT_F8_E5M2, HT_F8_E4M3FNUZ, HT_F8_E5M2FNUZ};

/* Anything to f64 and back is exact, for every pair where the target can hold the source. */
static void test_round_trips(void) {
    for (size_t t = 1; t < sizeof floats / sizeof *floats; t++) {
        unsigned bytes = ht_dtype_bits(floats[t]) / 8;
        uint8_t in[COUNT * 4], back[COUNT * 4];
        double wide[COUNT];
        for (size_t i = 0; i < COUNT; i++) {
            uint32_t code = ht_random_u32(1, t, i);
            memcpy(in + i * bytes, &code, bytes);
        }
        REQUIRE_OK(ht_convert(in, floats[t], wide, HT_F64, COUNT));
        REQUIRE_OK(ht_convert(wide, HT_F64, back, floats[t], COUNT));
        for (size_t i = 0; i < COUNT; i++) {
            int saturates = isinf(wide[i]) && bytes == 1; /* e5m2 */
            if (!isnan(wide[i]) && !saturates && !CHECK_BYTES(back + i * bytes, in + i * bytes, bytes))
                break;
        }
    }
}

static void test_against_the_element_definition(void) {
    float x[COUNT];
    for (size_t i = 0; i < COUNT; i++)
        x[i] = ht_random_normal(2, 0, i) * ldexpf(1, (int)(i % 40) - 20);
    x[0] = NAN;
    x[1] = INFINITY;
    x[2] = -0.0f;
    for (size_t t = 2; t < sizeof floats / sizeof *floats; t++) {
        uint16_t half[COUNT];
        uint8_t *byte = (uint8_t *)half;
        REQUIRE_OK(ht_convert(x, HT_F32, half, floats[t], COUNT));
        for (size_t i = 1; i < COUNT; i++)
            CHECK_INT(ht_dtype_bits(floats[t]) == 8 ? byte[i] : half[i], ht_element_encode(floats[t], x[i]));
        uint32_t nan = ht_dtype_bits(floats[t]) == 8 ? byte[0] : half[0];
        CHECK(isnan(ht_element_decode(floats[t], nan)));
    }
}

/* A double just above a tie of the narrow type, whose f32 rounding is the tie: two roundings would go down. */
static void test_one_rounding(void) {
    double x[] = {1 + 0x1p-8 + 0x1p-40,
                  -(1 + 0x1p-8 + 0x1p-40),
                  1 + 3 * 0x1p-8 - 0x1p-40,
                  1 + 0x1p-8,
                  0x1p-150 * 1.5,
                  1e300,
                  -1e300,
                  1e-300,
                  NAN,
                  1 + 0x1p-24 + 0x1p-50};
    uint16_t bf16[10];
    float f32[10];
    uint8_t e4m3[10];
    REQUIRE_OK(ht_convert(x, HT_F64, bf16, HT_BF16, 10));
    CHECK_INT(bf16[0], 0x3f81);
    CHECK_INT(bf16[1], 0xbf81);
    CHECK_INT(bf16[2], 0x3f81);
    CHECK_INT(bf16[3], 0x3f80);
    CHECK_INT(bf16[4], 0);
    CHECK_INT(bf16[5], 0x7f80);
    CHECK_INT(bf16[6], 0xff80);
    CHECK_INT(bf16[7], 0);
    CHECK(isnan(ht_element_decode(HT_BF16, bf16[8])));
    REQUIRE_OK(ht_convert(x, HT_F64, f32, HT_F32, 10));
    for (int i = 0; i < 10; i++)
        CHECK(isnan(x[i]) ? isnan(f32[i]) : f32[i] == (float)x[i]);
    x[0] = 1.0625 + 0x1p-40; /* tie of e4m3 between 1 and 1.125 */
    x[1] = 1.0625;
    REQUIRE_OK(ht_convert(x, HT_F64, e4m3, HT_F8_E4M3, 10));
    CHECK_INT(e4m3[0], 0x39);
    CHECK_INT(e4m3[1], 0x38);
    CHECK_INT(e4m3[5], 0x7e);
}

static void test_refusals(void) {
    float x[4] = {0};
    uint8_t y[16];
    CHECK_FAILS(ht_convert(x, HT_F32, y, HT_I8, 4), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_convert(x, HT_F4_E2M1, y, HT_F32, 4), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_convert(x, HT_F32, y, HT_E8M0, 4), HT_ERR_UNSUPPORTED);
    CHECK_OK(ht_convert(NULL, HT_F32, NULL, HT_F32, 0));
    CHECK_OK(ht_convert(NULL, HT_F32, NULL, HT_BF16, 0));
}

int main(void) {
    RUN(test_round_trips);
    RUN(test_against_the_element_definition);
    RUN(test_one_rounding);
    RUN(test_refusals);
    return check_finish();
}
