/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/element.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <halftone/format.h>

#include "base/random.h"
#include "format/bits.h"
#include "support/check.h"
#include "support/golden.h"

static const struct {
    ht_dtype dtype;
    const char *golden;
} types[] = {
    {HT_F8_E4M3, "e4m3fn"}, {HT_F8_E5M2, "e5m2"}, {HT_F8_E4M3FNUZ, "e4m3fnuz"}, {HT_F8_E5M2FNUZ, "e5m2fnuz"},
    {HT_F6_E2M3, "e2m3"},   {HT_F6_E3M2, "e3m2"}, {HT_F4_E2M1, "e2m1"},
};
enum { TYPES = sizeof types / sizeof *types };

static void check_golden_casts(const char *path) {
    golden g = golden_open_path(path);
    const golden_tensor *x = golden_find(&g, "x");
    REQUIRE(x);
    const float *values = x->data;
    for (size_t t = 0; t < TYPES; t++) {
        const golden_tensor *want = golden_findf(&g, "code.%s", types[t].golden);
        REQUIRE(want);
        size_t wrong = 0;
        for (size_t i = 0; i < x->elements; i++)
            wrong +=
                !isnan(values[i]) && ht_element_encode(types[t].dtype, values[i]) != ((const uint8_t *)want->data)[i];
        CHECK_INT(wrong, 0);
    }
    const golden_tensor *e8m0 = golden_find(&g, "code.e8m0_rne");
    const golden_tensor *bf16 = golden_find(&g, "bf16"), *f16 = golden_find(&g, "fp16");
    REQUIRE(e8m0 && bf16 && f16);
    for (size_t i = 0; i < x->elements; i++) {
        int same = ht_element_encode(HT_E8M0, values[i]) == ((const uint8_t *)e8m0->data)[i];
        if (!isnan(values[i]))
            same &= ht_element_encode(HT_BF16, values[i]) == ((const uint16_t *)bf16->data)[i] &&
                    ht_element_encode(HT_F16, values[i]) == ((const uint16_t *)f16->data)[i];
        if (!CHECK(same)) {
            printf("  x = %a\n", (double)values[i]);
            break;
        }
    }
    golden_close(&g);
}

/* Half of the reference's values are in the repository. */
static void test_golden_casts(void) {
    check_golden_casts(check_data("formats/elem_cast.safetensors"));
}

static void test_all_golden_casts(void) {
    const char *path = check_extra_data("golden/formats/elem_cast.safetensors");
    if (!path)
        SKIP("the whole file is not in the repository");
    check_golden_casts(path);
}

static void test_golden_values(void) {
    golden g = golden_open("formats/elem_decode.safetensors");
    for (size_t t = 0; t <= TYPES; t++) {
        const golden_tensor *want = golden_findf(&g, "value.%s", t < TYPES ? types[t].golden : "e8m0");
        REQUIRE(want);
        float got[256];
        for (uint32_t code = 0; code < want->elements; code++)
            got[code] = ht_element_decode(t < TYPES ? types[t].dtype : HT_E8M0, code);
        CHECK_F32(got, (const float *)want->data, want->elements);
    }
    golden_close(&g);
}

/* Nearest by brute force over all finite codes; a tie goes to the even code of the two magnitudes. */
static uint32_t nearest_by_search(ht_dtype dtype, float x) {
    const ht_element *e = ht_element_find(dtype);
    uint32_t best = 0, half = 1u << (e->bits - 1);
    double best_distance = INFINITY, a = fabs((double)x);
    for (uint32_t code = 0; code < half; code++) {
        float value = ht_element_decode(dtype, code);
        if (!isfinite(value))
            continue;
        double distance = fabs(a - (double)value);
        if (distance < best_distance || (distance == best_distance && code % 2 == 0)) {
            best = code;
            best_distance = distance;
        }
    }
    return e->no_negative_zero && best == 0 ? 0 : best | (signbit(x) ? half : 0);
}

/* Every value halfway between two neighbours, its two f32 neighbours, and the values themselves. */
static void test_nearest_everywhere(void) {
    for (size_t t = 0; t < TYPES; t++) {
        const ht_element *e = ht_element_find(types[t].dtype);
        for (uint32_t code = 0; code < e->max_code; code++) {
            float a = ht_element_decode(e->dtype, code), b = ht_element_decode(e->dtype, code + 1);
            float middle = (a + b) / 2;
            const float points[] = {a, b, middle, nextafterf(middle, a), nextafterf(middle, b), -a, -middle};
            for (size_t i = 0; i < sizeof points / sizeof *points; i++)
                CHECK_INT(ht_element_encode(e->dtype, points[i]), nearest_by_search(e->dtype, points[i]));
        }
        float largest = ht_element_decode(e->dtype, e->max_code);
        CHECK_INT(ht_f32_bits(largest), e->max_bits);
        CHECK_INT(ht_element_encode(e->dtype, nextafterf(largest, INFINITY)), e->max_code);
        CHECK_INT(ht_element_encode(e->dtype, 3.4e38f), e->max_code);
        CHECK_INT(ht_element_encode(e->dtype, INFINITY), e->max_code);
        CHECK_INT(ht_element_encode(e->dtype, -INFINITY), e->max_code | 1u << (e->bits - 1));
        CHECK_INT(ht_element_encode(e->dtype, NAN), e->nan_code);
        CHECK_INT(ht_element_encode(e->dtype, -NAN), e->nan_code);
        CHECK(ldexpf(1, e->max_pow2) <= largest && ldexpf(1, e->max_pow2 + 1) > largest);
    }
}

/* 16-bit types: all 65536 codes come back, and random values have no closer neighbour. */
static void test_halves(void) {
    static const ht_dtype halves[] = {HT_F16, HT_BF16};
    for (size_t t = 0; t < 2; t++) {
        size_t wrong = 0;
        for (uint32_t code = 0; code < 65536; code++) {
            float value = ht_element_decode(halves[t], code);
            uint32_t back = ht_element_encode(halves[t], value);
            wrong += isnan(value) ? !isnan(ht_element_decode(halves[t], back)) : back != code;
        }
        CHECK_INT(wrong, 0);
        for (uint64_t i = 0; i < 200000; i++) {
            float x = ht_f32_from_bits(ht_random_u32(3, 0, i));
            uint32_t code = ht_element_encode(halves[t], x) & 0x7fff;
            if (isnan(x) || isinf(ht_element_decode(halves[t], code)))
                continue;
            double a = fabs((double)x), here = fabs(a - (double)ht_element_decode(halves[t], code));
            double up = fabs(a - (double)ht_element_decode(halves[t], code + 1));
            double down = code ? fabs(a - (double)ht_element_decode(halves[t], code - 1)) : HUGE_VAL;
            wrong += here > up || here > down || ((here == up || here == down) && code % 2);
        }
        CHECK_INT(wrong, 0);
    }
    CHECK_INT(ht_element_encode(HT_F16, 65519.99f), 0x7bff);
    CHECK_INT(ht_element_encode(HT_F16, 65520), 0x7c00);
    CHECK_INT(ht_element_encode(HT_BF16, INFINITY), 0x7f80);
}

/* Worked examples of the formats specification, section 1.2. */
static void test_examples(void) {
    const struct {
        ht_dtype dtype;
        float x;
        uint32_t code;
    } examples[] = {
        {HT_F8_E4M3, 1, 0x38},
        {HT_F8_E4M3, 0.3f, 0x2a},
        {HT_F8_E4M3, -2.71828f, 0xc3},
        {HT_F8_E4M3, 17, 0x58},
        {HT_F8_E4M3, 19, 0x5a},
        {HT_F8_E4M3, 464, 0x7e},
        {HT_F8_E4M3, 465, 0x7e},
        {HT_F8_E4M3, 0x1p-9f, 0x01},
        {HT_F8_E4M3, 0x1p-10f, 0x00},
        {HT_F8_E4M3, 0x1.8p-10f, 0x01},
        {HT_F8_E4M3, 7.5f / 512, 0x08},
        {HT_F8_E5M2, 0.3f, 0x35},
        {HT_F8_E5M2, -2.71828f, 0xc1},
        {HT_F8_E5M2, 61440, 0x7b},
        {HT_F8_E5M2, 65536, 0x7b},
        {HT_F8_E5M2, 0x1p-17f, 0x00},
        {HT_F4_E2M1, .25f, 0},
        {HT_F4_E2M1, .26f, 1},
        {HT_F4_E2M1, .75f, 2},
        {HT_F4_E2M1, 1.25f, 2},
        {HT_F4_E2M1, 1.75f, 4},
        {HT_F4_E2M1, 2.5f, 4},
        {HT_F4_E2M1, 3.5f, 6},
        {HT_F4_E2M1, 5, 6},
        {HT_F4_E2M1, 5.01f, 7},
        {HT_F4_E2M1, -0.2f, 8},
        {HT_F6_E2M3, .0625f, 0x00},
        {HT_F6_E2M3, .07f, 0x01},
        {HT_F6_E2M3, .1875f, 0x02},
        {HT_F6_E2M3, 3.9f, 0x18},
        {HT_F6_E2M3, 7.25f, 0x1e},
        {HT_F6_E2M3, 7.3f, 0x1f},
        {HT_F6_E3M2, .03125f, 0x00},
        {HT_F6_E3M2, .04f, 0x01},
        {HT_F6_E3M2, 1.1f, 0x0c},
        {HT_F6_E3M2, 26, 0x1e},
        {HT_F6_E3M2, 26.1f, 0x1f},
        {HT_F8_E4M3FNUZ, 0.3f, 0x32},
        {HT_F8_E4M3FNUZ, 300, 0x7f},
        {HT_F8_E4M3FNUZ, -0.0f, 0x00},
        {HT_F8_E4M3FNUZ, -1e-9f, 0x00},
        {HT_F8_E4M3FNUZ, 0x1p-10f, 0x01},
        {HT_F8_E5M2FNUZ, 0.3f, 0x39},
        {HT_F8_E4M3, -0.0f, 0x80},
        {HT_BF16, .3f, 0x3e9a},
        {HT_BF16, 3.14159265f, 0x4049},
        {HT_BF16, 1.00390625f, 0x3f80},
        {HT_BF16, 1.01171875f, 0x3f82},
        {HT_BF16, -65504, 0xc780},
        {HT_F16, .3f, 0x34cd},
        {HT_F16, 3.14159265f, 0x4248},
        {HT_E8M0, 1, 127},
        {HT_E8M0, 0, 0},
        {HT_E8M0, NAN, 255},
        {HT_E8M0, 1.5f, 128},
        {HT_E8M0, 1.49f, 127},
    };
    for (size_t i = 0; i < sizeof examples / sizeof *examples; i++)
        if (!CHECK_INT(ht_element_encode(examples[i].dtype, examples[i].x), examples[i].code))
            printf("  example %zu: %s of %g\n", i, ht_dtype_name(examples[i].dtype), (double)examples[i].x);
    CHECK_NEAR((double)ht_element_decode(HT_E8M0, 0), 0x1p-127, 0); /* not 0: a subnormal of f32 */
    CHECK(isnan(ht_element_decode(HT_E8M0, 255)));
    CHECK(isnan(ht_element_decode(HT_I32, 1)));
}

int main(void) {
    RUN(test_golden_casts);
    RUN(test_all_golden_casts);
    RUN(test_golden_values);
    RUN(test_nearest_everywhere);
    RUN(test_halves);
    RUN(test_examples);
    return check_finish();
}
