/* Worked vectors of the algorithms specification (T-MX1, T-NV1, T-Q1 to T-Q3, T-I8, T-F8, T-RH) on every instruction
 * set: scales and codes are exact.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/cast.h"

#include <stdlib.h>
#include <string.h>

#include "format/hadamard.h"
#include "support/check.h"

enum { COLS = 32 };
static const char *const CPUS[] = {NULL, "baseline", "avx2"};
enum { LEVELS = sizeof CPUS / sizeof *CPUS };

typedef struct coded {
    uint8_t codes[COLS], zeros[4 * COLS];
    union {
        uint8_t byte[COLS];
        float number[COLS];
    } scale;
    float global, decoded[COLS];
} coded;

/* One row through the kernels of this level. */
static void cast(size_t level, const char *name, const ht_row_options *options, const float *x, size_t cols,
                 coded *out) {
    ht_context_options how = ht_context_options_default();
    ht_context *ctx;
    ht_format format;
    how.cpu = CPUS[level];
    ht_planes planes = {{out->codes, out->scale.byte, out->zeros, NULL, &out->global}};
    REQUIRE_OK(ht_context_create(&how, &ctx));
    REQUIRE_OK(ht_format_parse(name, &format));
    const ht_cast job = {.format = &format,
                         .options = options,
                         .x = x,
                         .x_dtype = HT_F32,
                         .rows = 1,
                         .cols = cols,
                         .planes = &planes,
                         .decoded = out->decoded};
    CHECK_OK(ht_cast_rows(ctx, &job));
    ht_context_destroy(ctx);
}

/* T-MX1: the scale of e2m1 blocks whose largest magnitude is 7, or 5, by every rule; 7 saturates under FLOOR. */
static void test_mx_rules(void) {
    static const struct {
        ht_scale_rule rule;
        uint8_t of_seven, of_five; /* 127: 2^0 */
        float seven, five;
    } CASES[] = {{HT_SCALE_FLOOR, 127, 127, 6, 4},
                 {HT_SCALE_CEIL, 128, 128, 8, 4},
                 {HT_SCALE_EVEN, 128, 127, 8, 4},
                 {HT_SCALE_RCEIL, 128, 127, 8, 4}};
    for (size_t level = 0; level < LEVELS; level++)
        for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
            ht_row_options options = ht_row_options_default();
            float x[COLS] = {0.5f, -1, 7};
            coded c;
            options.scale_rule = CASES[i].rule;
            cast(level, "mxfp4", &options, x, COLS, &c);
            CHECK_INT(c.scale.byte[0], CASES[i].of_seven);
            CHECK(c.decoded[2] == CASES[i].seven);
            x[2] = 5;
            cast(level, "mxfp4", &options, x, COLS, &c);
            CHECK_INT(c.scale.byte[0], CASES[i].of_five);
            CHECK(c.decoded[2] == CASES[i].five || (c.scale.byte[0] == 128 && c.decoded[2] == 4));
        }
}

/* T-NV1: the least scale of a block is the smallest normal e4m3, 2^-6, not a subnormal one. */
static void test_nvfp4_least_scale(void) {
    for (size_t level = 0; level < LEVELS; level++) {
        ht_row_options options = ht_row_options_default();
        ht_format format;
        float x[COLS] = {0.05f, -0.05f};
        coded c;
        options.nvfp4_rule = HT_NVFP4_INFERENCE;
        x[16] = 2688;
        REQUIRE_OK(ht_format_parse("nvfp4_pts", &format));
        c.global = ht_format_global(&format, &options, &(ht_range){.amax = 2688});
        CHECK(c.global == 1);
        cast(level, "nvfp4_pts", &options, x, COLS, &c);
        CHECK_INT(c.scale.byte[0], 0x08);
        CHECK(c.decoded[0] == 0.046875f && c.decoded[1] == -0.046875f);
        CHECK_INT(c.scale.byte[1], 0x7e);
        CHECK(c.decoded[16] == 2688);
    }
}

static void check_codes(const coded *c, const int8_t *want, size_t count) {
    for (size_t i = 0; i < count; i++)
        CHECK_INT((int8_t)c->codes[i], want[i]);
}

/* T-Q1: symmetric groups of int4; T-Q2: with the value that code 8 stands for; T-Q3: rows of int8 with a zero point;
 * T-I8: rows of int8 without clipping. */
static void test_integers(void) {
    static const float Q1[16] = {0.9f, -0.35f, 0.62f, -1.5f}, Q2[16] = {-1, 0, 0.5f, 2},
                       Q3[4] = {-0.3f, 0, 1.7f, 2.25f}, I8[4] = {0.1f, -0.7f, 1.27f, 0.33f};
    static const int8_t CODES_Q1[] = {4, -2, 3, -8}, CODES_Q3[] = {-128, -98, 72, 127}, CODES_I8[] = {10, -70, 127, 33};
    static const float DECODED_Q2[] = {-1, 0, 0.6f, 2};
    for (size_t level = 0; level < LEVELS; level++) {
        ht_row_options options = ht_row_options_default();
        coded c;
        cast(level, "int4_g16_bytes", &options, Q1, 16, &c);
        CHECK_NEAR(c.scale.number[0], 0.2, 1e-6);
        check_codes(&c, CODES_Q1, 4);
        cast(level, "int4_g16_float0", &options, Q2, 16, &c);
        CHECK_NEAR(c.scale.number[0], 0.2, 1e-6);
        CHECK_F32_WITHIN(c.decoded, DECODED_Q2, 4, 1e-6);
        cast(level, "int8_row_asym", &options, Q3, 4, &c);
        CHECK_NEAR(c.scale.number[0], 0.01, 1e-6);
        check_codes(&c, CODES_Q3, 4);
        options.int_rule = HT_INT_NO_CLIP;
        cast(level, "int8_row", &options, I8, 4, &c);
        CHECK_NEAR(c.scale.number[0], 0.01, 1e-6);
        check_codes(&c, CODES_I8, 4);
    }
}

/* T-F8: one over 149.3333, or one over 128. */
static void test_float8(void) {
    static const float X[4] = {3, -1, 0.5f, 0};
    for (size_t level = 0; level < LEVELS; level++) {
        ht_row_options options = ht_row_options_default();
        coded c;
        cast(level, "fp8_row", &options, X, 4, &c);
        CHECK_NEAR(1 / c.scale.number[0], 149.3333, 1e-6);
        CHECK_NEAR(c.decoded[0], 3, 1e-6);
        options.power_of_two = 1;
        cast(level, "fp8_row", &options, X, 4, &c);
        CHECK(c.scale.number[0] == 1.0f / 128);
        CHECK_F32(c.decoded, X, 4);
    }
}

/* T-RH: the orthonormal matrix of order 4. */
static void test_hadamard(void) {
    static const float WANT[] = {4, 4, 4, 4, 5, -1, -2, 0};
    float x[] = {8, 0, 0, 0, 1, 2, 3, 4};
    ht_hadamard *h = malloc(sizeof *h);
    CHECK_OK(ht_hadamard_init(h, 4));
    ht_hadamard_apply(h, x, 2, 0);
    CHECK_F32(x, WANT, 8);
    free(h);
}

int main(void) {
    RUN(test_mx_rules);
    RUN(test_nvfp4_least_scale);
    RUN(test_integers);
    RUN(test_float8);
    RUN(test_hadamard);
    return check_finish();
}
