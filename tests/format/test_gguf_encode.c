/* GGUF encoders: error against plain rounding and bounds, zero, huge, tiny and non-finite blocks, slices.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { SEED = 17 };

static const ht_gguf_type *by_name(const char *name) {
    for (size_t i = 0; ht_gguf_type_at(i); i++)
        if (strcmp(ht_gguf_type_at(i)->name, name) == 0)
            return ht_gguf_type_at(i);
    return NULL;
}

enum { BLOCKS = 16, COUNT = BLOCKS * 256 };

typedef enum shape { NORMAL, HEAVY, POSITIVE, UNIFORM, UNEVEN, SHAPES } shape;
static const char *const shape_names[SHAPES] = {"normal", "heavy tails", "positive", "uniform", "uneven scales"};

static float draw(shape s, uint64_t i) {
    float n = ht_random_normal(SEED, s, i);
    switch (s) {
    case HEAVY:
        return n * n * n;
    case POSITIVE:
        return fabsf(n);
    case UNIFORM:
        return 2 * ht_random_uniform(SEED, s, i) - 1;
    case UNEVEN:
        return n * expf(2 * ht_random_normal(SEED, SHAPES, i / 64));
    default:
        return n;
    }
}

/* Squared error of rounding groups to `top` + 1 even steps between their minimum (at most 0) and maximum, scales exact.
 */
static double plain_affine(const float *x, int group, int top) {
    double error = 0;
    for (int g = 0; g < COUNT; g += group) {
        float min = 0, max = x[g];
        for (int i = g; i < g + group; i++) {
            min = fminf(min, x[i]);
            max = fmaxf(max, x[i]);
        }
        float d = (max - min) / (float)top;
        for (int i = g; i < g + group; i++) {
            float y = d > 0 ? rintf((x[i] - min) / d) * d + min : min;
            error += (double)(y - x[i]) * (double)(y - x[i]);
        }
    }
    return error;
}

/* The same with steps from -half to half - 1 and the largest magnitude at half - 1. */
static double plain_symmetric(const float *x, int group, int half) {
    double error = 0;
    for (int g = 0; g < COUNT; g += group) {
        float amax = 0;
        for (int i = g; i < g + group; i++)
            amax = fmaxf(amax, fabsf(x[i]));
        float d = amax / (float)(half - 1);
        for (int i = g; i < g + group; i++) {
            float y = d > 0 ? rintf(x[i] / d) * d : 0;
            error += (double)(y - x[i]) * (double)(y - x[i]);
        }
    }
    return error;
}

static double round_trip_error(const ht_gguf_type *type, const float *x, const ht_row_options *options) {
    ht_format format = ht_gguf_type_format(type);
    static uint8_t bytes[COUNT * 2];
    static float y[COUNT];
    ht_planes planes = {{bytes}};
    double error = 0;
    CHECK_OK(ht_format_quantize(&format, options, x, HT_F32, 1, COUNT, &planes));
    CHECK_OK(ht_format_dequantize(&format, &planes, 1, COUNT, y));
    for (int i = 0; i < COUNT; i++)
        error += (double)(y[i] - x[i]) * (double)(y[i] - x[i]);
    return error;
}

/* K and IQ4 encoders must beat plain rounding with unquantized scales, on every kind of input. `most` bounds the ratio:
 * scales of 6 bits or a fixed table cost a little on inputs that suit plain rounding. */
static void test_encoders_beat_plain_rounding(void) {
    static const struct {
        const char *name;
        int affine, group, levels;
        double most;
    } cases[] = {{"q2_k", 1, 16, 3, 0.90},   {"q3_k", 0, 16, 4, 0.95},  {"q4_k", 1, 32, 15, 0.95},
                 {"q5_k", 1, 32, 31, 1.00},  {"q6_k", 0, 16, 32, 1.10}, {"iq4_nl", 0, 32, 8, 1.00},
                 {"iq4_xs", 0, 32, 8, 1.10}, {"q4_0", 0, 32, 8, 1.00},  {"q5_0", 0, 32, 16, 1.00}};
    static float x[COUNT];
    for (int s = 0; s < SHAPES; s++) {
        for (uint64_t i = 0; i < COUNT; i++)
            x[i] = draw((shape)s, i);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            double plain = cases[c].affine ? plain_affine(x, cases[c].group, cases[c].levels)
                                           : plain_symmetric(x, cases[c].group, cases[c].levels);
            double error = round_trip_error(by_name(cases[c].name), x, NULL);
            if (!CHECK(error <= cases[c].most * plain))
                printf("  %s on %s: %g, plain %g\n", cases[c].name, shape_names[s], error, plain);
        }
    }
}

static void test_searches_lower_the_error(void) {
    static float x[COUNT];
    ht_row_options floor_rule = ht_row_options_default(), search = floor_rule;
    floor_rule.scale_rule = HT_SCALE_FLOOR;
    search.scale_rule = HT_SCALE_MSE;
    for (int s = 0; s < SHAPES; s++) {
        for (uint64_t i = 0; i < COUNT; i++)
            x[i] = draw((shape)s, i);
        const ht_gguf_type *mx = by_name("gguf_mxfp4"), *nv = by_name("gguf_nvfp4");
        double chosen = round_trip_error(mx, x, NULL);
        CHECK(chosen <= round_trip_error(mx, x, &floor_rule));
        CHECK_NEAR(chosen, round_trip_error(mx, x, &search), 0);
        CHECK(round_trip_error(nv, x, &search) <= round_trip_error(nv, x, NULL));
        static const char *const others[] = {"q4_0", "q4_1", "q5_0", "q5_1"};
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            double with = round_trip_error(by_name(others[k]), x, &search);
            double without = round_trip_error(by_name(others[k]), x, NULL);
            if (!CHECK(with < 0.97 * without))
                printf("  %s on %s: %g, formula %g\n", others[k], shape_names[s], with, without);
        }
    }
}

/* --- Bounds and special inputs, for every type that has an encoder ---------------------------------------- */

/* Relative error (of the block's largest magnitude) that no value may exceed, for inputs within reach of f16 scales. */
static double bound_of(const char *name) {
    static const struct {
        const char *name;
        double bound;
    } bounds[] = {{"q4_0", 1.0 / 8 + 0.001},
                  {"q4_1", 1.0 / 15 + 0.001},
                  {"q5_0", 1.0 / 16 + 0.001},
                  {"q5_1", 1.0 / 31 + 0.001},
                  {"q8_0", 0.5 / 127 + 0.001},
                  {"q8_1", 0.5 / 127 + 0.001},
                  {"q2_k", 0.45},
                  {"q3_k", 0.32},
                  {"q4_k", 0.12},
                  {"q5_k", 0.06},
                  {"q6_k", 0.05},
                  {"q8_k", 0.5 / 127 + 0.001},
                  {"iq4_nl", 0.17},
                  {"iq4_xs", 0.20},
                  {"tq1_0", 0.501},
                  {"tq2_0", 0.501},
                  {"gguf_mxfp4", 0.26},
                  {"gguf_nvfp4", 0.2}};
    for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++)
        if (strcmp(bounds[i].name, name) == 0)
            return bounds[i].bound;
    return 0;
}

static void test_error_bounds(void) {
    ht_row_options options = ht_row_options_default();
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        if (!type->encode)
            continue;
        double bound = bound_of(type->name), worst = 0;
        CHECK(bound > 0);
        for (int trial = 0; trial < 300; trial++) {
            float x[HT_GGUF_MAX_VALUES], y[HT_GGUF_MAX_VALUES], amax = 0;
            uint8_t block[300];
            for (int i = 0; i < type->values; i++) {
                x[i] = draw((shape)(trial % SHAPES), (uint64_t)(trial * 256 + i)) * ldexpf(1.0f, trial % 13 - 6);
                amax = fmaxf(amax, fabsf(x[i]));
            }
            int exponent = 0;
            if (strcmp(type->name, "gguf_nvfp4") == 0) /* scales of 2^-9 to 448, and no more */
                frexpf(amax, &exponent);
            for (int i = 0; i < type->values; i++)
                x[i] = ldexpf(x[i], -exponent);
            amax = ldexpf(amax, -exponent);
            type->encode(&options, x, block);
            type->decode(block, y);
            for (int i = 0; i < type->values; i++)
                worst = fmax(worst, fabs((double)y[i] - (double)x[i]) / (double)amax);
        }
        if (!CHECK(worst <= bound) || !CHECK(worst >= bound / 8)) /* the bound should say something */
            printf("  %s: worst relative error %g, bound %g\n", type->name, worst, bound);
    }
}

static void fill(float *x, float v) {
    for (int i = 0; i < HT_GGUF_MAX_VALUES; i++)
        x[i] = v;
}

static void check_zero_blocks(ht_scale_rule rule) {
    ht_row_options options = ht_row_options_default();
    options.scale_rule = rule;
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        float x[HT_GGUF_MAX_VALUES] = {0}, y[HT_GGUF_MAX_VALUES];
        uint8_t block[300];
        for (int sign = 0; type->encode && sign < 2; sign++) {
            type->encode(&options, x, block);
            fill(y, 1);
            type->decode(block, y);
            for (int i = 0; i < type->values; i++)
                if (!CHECK(y[i] == 0))
                    printf("  %s value %d is %g\n", type->name, i, (double)y[i]);
            fill(x, -0.0f);
        }
    }
}

static void test_zero_blocks(void) {
    check_zero_blocks(HT_SCALE_DEFAULT);
    check_zero_blocks(HT_SCALE_MSE);
}

/* NaN or Inf anywhere: the block (NVFP4: the 16 values) decodes to NaN. */
static void check_not_finite_blocks(ht_scale_rule rule) {
    const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    ht_row_options options = ht_row_options_default();
    options.scale_rule = rule;
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        for (int trial = 0; type->encode && trial < 16; trial++) {
            float x[HT_GGUF_MAX_VALUES], y[HT_GGUF_MAX_VALUES];
            uint8_t block[300];
            int at = (int)(ht_random_u32(SEED, 5, (uint64_t)trial) % type->values);
            for (int i = 0; i < type->values; i++)
                x[i] = draw(NORMAL, (uint64_t)i);
            x[at] = bad[trial % 4];
            type->encode(&options, x, block);
            type->decode(block, y);
            int span = strcmp(type->name, "gguf_nvfp4") == 0 ? 16 : type->values;
            for (int i = 0; i < type->values; i++)
                if (!CHECK(isnan(y[i]) == (i / span == at / span)))
                    printf("  %s value %d is %g\n", type->name, i, (double)y[i]);
        }
    }
}

static void test_not_finite_blocks(void) {
    check_not_finite_blocks(HT_SCALE_DEFAULT);
    check_not_finite_blocks(HT_SCALE_MSE);
}

/* Huge values saturate, tiny ones become zero or stay close; nothing becomes NaN or Inf or changes its sign. */
static void check_extreme_blocks(ht_scale_rule rule) {
    ht_row_options options = ht_row_options_default();
    options.scale_rule = rule;
    const float scales[] = {0x1.fffffep127f, 0x1p127f,  0x1p100f,  0x1p20f,  0x1p-20f,
                            0x1p-30f,        0x1p-100f, 0x1p-126f, 0x1p-140f};
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        for (size_t s = 0; type->encode && s < sizeof scales / sizeof *scales; s++) {
            float x[HT_GGUF_MAX_VALUES], y[HT_GGUF_MAX_VALUES];
            uint8_t block[300];
            for (int i = 0; i < type->values; i++)
                x[i] = (2 * ht_random_uniform(SEED, 9, (uint64_t)i) - 1) * scales[s];
            x[3] = scales[s];
            x[7] = -scales[s];
            type->encode(&options, x, block);
            type->decode(block, y);
            for (int i = 0; i < type->values; i++)
                if (!CHECK(isfinite(y[i]) && fabsf(y[i]) <= 1.5f * scales[s]))
                    printf("  %s at %g: %g became %g\n", type->name, (double)scales[s], (double)x[i], (double)y[i]);
            CHECK(y[3] >= 0 && y[7] <= 0);
            if (s == 3) /* within reach of every f16 scale but that of NVFP4, which ends at 2688 */
                CHECK(strcmp(type->name, "gguf_nvfp4") == 0 ? y[3] == 2688 : y[3] > 0.5f * x[3] || y[3] >= 65504 - 64);
        }
    }
}

static void test_extreme_blocks(void) {
    check_extreme_blocks(HT_SCALE_DEFAULT);
    check_extreme_blocks(HT_SCALE_MSE);
}

/* At the end of f32 no rule may round a value to Inf. */
static void test_mxfp4_near_the_end_of_f32(void) {
    const ht_scale_rule rules[] = {HT_SCALE_DEFAULT, HT_SCALE_FLOOR, HT_SCALE_RCEIL, HT_SCALE_CEIL, HT_SCALE_EVEN};
    ht_row_options options = ht_row_options_default();
    float x[HT_GGUF_MAX_VALUES], y[HT_GGUF_MAX_VALUES];
    uint8_t block[17];
    for (size_t r = 0; r < sizeof rules / sizeof *rules; r++) {
        options.scale_rule = rules[r];
        for (int i = 0; i < 32; i++)
            x[i] = ldexpf(i % 2 ? 0x1.fffffep0f : -0x1.7p0f, 127 - i / 8);
        by_name("gguf_mxfp4")->encode(&options, x, block);
        by_name("gguf_mxfp4")->decode(block, y);
        for (int i = 0; i < 32; i++)
            CHECK_NEAR(y[i], (double)x[i], 0.51);
    }
}

/* The two defects that the encoder of other writers has. */
static void test_float_blocks_without_known_defects(void) {
    ht_row_options options = ht_row_options_default();
    float x[HT_GGUF_MAX_VALUES] = {0}, y[HT_GGUF_MAX_VALUES];
    uint8_t block[36];
    options.scale_rule = HT_SCALE_FLOOR;
    fill(x, 0x1p-126f);
    by_name("gguf_mxfp4")->encode(&options, x, block);
    CHECK_INT(block[0], 0); /* exponent -128 clamped, not wrapped to 255 */
    by_name("gguf_mxfp4")->decode(block, y);
    CHECK_NEAR(y[0], 0x1p-126, 0);
    fill(x, 300 * 6);
    by_name("gguf_nvfp4")->encode(&options, x, block);
    CHECK_INT(block[0], ht_element_encode(HT_F8_E4M3, 300));
    by_name("gguf_nvfp4")->decode(block, y);
    CHECK_NEAR(y[0], 288 * 6, 0);
    /* The worked example of the specification. */
    for (int i = 0; i < 64; i++)
        x[i] = (float)(i % 32 - 16) / 8;
    by_name("gguf_nvfp4")->encode(&options, x, block);
    const uint8_t want[20] = {0x2b, 0x2a, 0x2b, 0x2a, 0xdf, 0xdf, 0xcf, 0xce, 0xbe, 0xae,
                              0x9e, 0x9d, 0x50, 0x61, 0x62, 0x62, 0x63, 0x74, 0x74, 0x75};
    CHECK_BYTES(block, want, sizeof want);
    CHECK_BYTES(block + 20, want + 4, 16);
}

/* Encoding what was decoded gives the same values: the scale of a block that is on the grid is found again. Types whose
 * scale follows from the largest value alone. */
static void test_decode_encode_is_stable(void) {
    static const char *const names[] = {"q8_0", "tq1_0", "tq2_0", "gguf_mxfp4"};
    ht_row_options options = ht_row_options_default();
    options.scale_rule = HT_SCALE_FLOOR;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        const ht_gguf_type *type = by_name(names[n]);
        float x[HT_GGUF_MAX_VALUES], y[HT_GGUF_MAX_VALUES], z[HT_GGUF_MAX_VALUES];
        uint8_t block[300];
        for (int trial = 0; trial < 50; trial++) {
            for (int i = 0; i < type->values; i++)
                x[i] = draw(NORMAL, (uint64_t)(trial * 256 + i));
            type->encode(&options, x, block);
            type->decode(block, y);
            type->encode(&options, y, block);
            type->decode(block, z);
            CHECK_F32_NEAR(z, y, type->values, 1e-3);
        }
    }
}

/* Rows one at a time, and bf16 input, give the bytes of the whole. */
static void test_slices_and_input_types(void) {
    enum { ROWS = 3, COLS = 512 };
    static float x[ROWS * COLS];
    static uint16_t half[ROWS * COLS];
    static uint8_t whole[ROWS * COLS * 2], piece[ROWS * COLS * 2];
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        x[i] = draw(NORMAL, i);
    REQUIRE_OK(ht_convert(x, HT_F32, half, HT_BF16, ROWS * COLS));
    REQUIRE_OK(ht_convert(half, HT_BF16, x, HT_F32, ROWS * COLS));
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        if (!ht_gguf_type_at(t)->encode)
            continue;
        ht_format format = ht_gguf_type_format(ht_gguf_type_at(t));
        ht_planes planes = {{whole}}, pieces = {{piece}};
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &planes));
        CHECK_INT(ht_format_row_step(&format), 1);
        for (size_t r = 0; r < ROWS; r++) {
            ht_planes at = ht_planes_at_row(&format, &pieces, COLS, r);
            CHECK_OK(ht_format_quantize(&format, NULL, half + r * COLS, HT_BF16, 1, COLS, &at));
        }
        CHECK_BYTES(piece, whole, ht_format_bytes(&format, ROWS, COLS));
    }
}

int main(void) {
    RUN(test_encoders_beat_plain_rounding);
    RUN(test_searches_lower_the_error);
    RUN(test_error_bounds);
    RUN(test_zero_blocks);
    RUN(test_not_finite_blocks);
    RUN(test_extreme_blocks);
    RUN(test_mxfp4_near_the_end_of_f32);
    RUN(test_float_blocks_without_known_defects);
    RUN(test_decode_encode_is_stable);
    RUN(test_slices_and_input_types);
    return check_finish();
}
