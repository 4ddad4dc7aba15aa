/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/lanes.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <halftone/format.h>

#include "base/random.h"
#include "format/element.h"
#include "support/check.h"

static const ht_dtype types[] = {HT_F8_E4M3, HT_F8_E5M2, HT_F8_E4M3FNUZ, HT_F8_E5M2FNUZ,
                                 HT_F6_E2M3, HT_F6_E3M2, HT_F4_E2M1,     HT_E8M0};
enum { TYPES = sizeof types / sizeof *types, COUNT = 4096 };

/* Random bits, bits near the type's own values, and the special ones. */
static float value_at(uint64_t seed, size_t i, ht_dtype dtype) {
    static const float special[] = {0,         -0.0f,    INFINITY, -INFINITY, NAN,     -NAN,    0x1p-149f, -0x1p-149f,
                                    0x1p-126f, 3.4e38f,  -3.4e38f, 0x1p-127f, 448,     464,     465,       57344,
                                    61440,     0x1p127f, 6,        5,         0x1p-9f, 0x1p-10f};
    if (i < sizeof special / sizeof *special)
        return special[i];
    uint32_t random = ht_random_u32(seed, 1, i);
    if (i % 2)
        return ht_f32_from_bits(random);
    float a = ht_element_decode(dtype, random & 0xff), b = ht_element_decode(dtype, (random & 0xff) + 1);
    float middle = (a + b) / 2;
    return ht_f32_from_bits(ht_f32_bits(middle) + (random >> 8) % 3 - 1);
}

static void test_encode_equals_the_definition(void) {
    static float x[COUNT];
    static uint8_t codes[COUNT];
    for (size_t t = 0; t < TYPES; t++)
        for (uint64_t seed = 0; seed < 20; seed++) {
            for (size_t i = 0; i < COUNT; i++)
                x[i] = value_at(seed, i, types[t]);
            size_t n = COUNT - seed % 17; /* tails too */
            ht_lanes_encode(types[t], x, n, codes);
            size_t wrong = 0;
            for (size_t i = 0; i < n; i++)
                wrong += codes[i] != ht_element_encode(types[t], x[i]);
            if (!CHECK_INT(wrong, 0))
                printf("  %s, seed %d\n", ht_dtype_name(types[t]), (int)seed);
        }
}

static void test_decode_equals_the_definition(void) {
    uint8_t codes[256];
    float got[256], want[256];
    for (size_t t = 0; t < TYPES; t++) {
        unsigned mask = (1u << ht_dtype_bits(types[t])) - 1;
        for (unsigned i = 0; i < 256; i++) {
            codes[i] = (uint8_t)(i & mask);
            want[i] = ht_element_decode(types[t], i & mask);
        }
        ht_lanes_decode(types[t], codes, 256, got);
        CHECK_F32(got, want, 256);
        ht_lanes_decode(types[t], codes, 255, got);
        CHECK_F32(got, want, 255);
    }
}

static void test_mxint8(void) {
    const float x[] = {0, 1, -1, 1.984375f, 2, -2, 1e9f, -1e9f, 0.0078125f, 0.0234375f, NAN, INFINITY};
    const int8_t want[] = {0, 64, -64, 127, 127, -127, 127, -127, 0, 2, 127, 127};
    uint8_t codes[12];
    float back[12];
    ht_lanes_encode(HT_I8, x, 12, codes);
    CHECK_BYTES(codes, want, 12);
    ht_lanes_decode(HT_I8, codes, 12, back);
    CHECK_NEAR((double)back[3], 127.0 / 64, 0);
    CHECK_NEAR((double)back[2], -1, 0);
}

/* The 16-bit conversions equal the scalar definition for all codes and many values. */
static void test_halves(void) {
    static uint16_t halves[65536], back[65536];
    static float values[65536];
    static const ht_dtype dtypes[] = {HT_F16, HT_BF16};
    for (size_t t = 0; t < 2; t++) {
        size_t wrong = 0;
        for (uint32_t i = 0; i < 65536; i++)
            halves[i] = (uint16_t)i;
        ht_lanes_load(halves, dtypes[t], 0, 65536, values);
        for (uint32_t i = 0; i < 65536; i++) {
            float want = ht_element_decode(dtypes[t], i);
            wrong += isnan(want) ? !isnan(values[i]) : ht_f32_bits(want) != ht_f32_bits(values[i]);
        }
        CHECK_INT(wrong, 0);
        for (uint64_t seed = 0; seed < 8; seed++) {
            for (size_t i = 0; i < 65536; i++)
                values[i] = i % 2 ? ht_f32_from_bits(ht_random_u32(seed, 2, i)) : value_at(seed, i, HT_F8_E4M3);
            ht_lanes_store(values, 65536, dtypes[t], back, 0);
            for (size_t i = 0; i < 65536; i++) {
                uint32_t want = ht_element_encode(dtypes[t], values[i]);
                wrong += isnan(values[i]) ? !isnan(ht_element_decode(dtypes[t], back[i])) : back[i] != want;
            }
        }
        CHECK_INT(wrong, 0);
    }
    CHECK(ht_round_to(HT_BF16, 1.00390625f) == 1.0f);
    CHECK(ht_round_to(HT_F16, 65520.0f) == INFINITY);
    CHECK(ht_round_to(HT_F32, 1.1f) == 1.1f);
}

static void test_reductions(void) {
    float x[100];
    for (size_t n = 1; n <= 100; n++) {
        float min = INFINITY, max = -INFINITY, amax = 0;
        for (size_t i = 0; i < n; i++) {
            x[i] = ht_random_normal(n, 3, i);
            min = fminf(min, x[i]);
            max = fmaxf(max, x[i]);
            amax = fmaxf(amax, fabsf(x[i]));
        }
        float got_min, got_max;
        ht_lanes_min_max(x, n, &got_min, &got_max);
        CHECK(got_min == min && got_max == max);
        CHECK_INT(ht_lanes_amax(x, n), ht_f32_bits(amax));
        x[n / 2] = NAN;
        CHECK(ht_lanes_amax(x, n) > 0x7f800000);
    }
    const float a[18] = {1, 2, 3, [17] = 4}, b[18] = {0};
    CHECK(ht_lanes_error(a, b, 18) == 30.0f);
}

static void test_round(void) {
    float y[40];
    uint8_t codes[40];
    for (int i = 0; i < 40; i++)
        y[i] = (float)(i - 20) / 2;
    y[0] = INFINITY;
    y[1] = -3e38f;
    ht_lanes_round(y, 40, 3, -8, 7, codes);
    for (int i = 2; i < 40; i++) {
        int want = (int)rintf(y[i]) + 3;
        CHECK_INT((int8_t)codes[i], want < -8 ? -8 : want > 7 ? 7 : want);
    }
    CHECK_INT((int8_t)codes[0], 7);
    CHECK_INT((int8_t)codes[1], -8);
}

int main(void) {
    RUN(test_encode_equals_the_definition);
    RUN(test_decode_equals_the_definition);
    RUN(test_mxint8);
    RUN(test_halves);
    RUN(test_reductions);
    RUN(test_round);
    return check_finish();
}
