/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/mx.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "format/bits.h"
#include "format/element.h"
#include "support/check.h"
#include "support/golden.h"

static const struct {
    const char *name, *golden;
} formats[] = {{"mxfp8", "mxfp8_e4m3"},
               {"mxfp8_e5m2", "mxfp8_e5m2"},
               {"mxfp6_e2m3_bytes", "mxfp6_e2m3"},
               {"mxfp6_e3m2_bytes", "mxfp6_e3m2"},
               {"mxfp4", "mxfp4_e2m1"}};
static const struct {
    const char *name;
    ht_scale_rule rule;
} rules[] = {{"FLOOR", HT_SCALE_FLOOR}, {"RCEIL", HT_SCALE_RCEIL}, {"CEIL", HT_SCALE_CEIL}, {"EVEN", HT_SCALE_EVEN}};

static ht_format parse(const char *name) {
    ht_format f = {0};
    CHECK_OK(ht_format_parse(name, &f));
    return f;
}

static ht_row_options with_rule(ht_scale_rule rule) {
    ht_row_options o = ht_row_options_default();
    o.scale_rule = rule;
    return o;
}

static void test_scale_bytes(void) {
    golden g = golden_open("formats/mx_scale_bytes.safetensors");
    const golden_tensor *amax = golden_find(&g, "amax");
    REQUIRE(amax);
    for (size_t f = 0; f < 5; f++)
        for (size_t r = 0; r < 4; r++) {
            const golden_tensor *want = golden_findf(&g, "byte.%s.%s", formats[f].golden, rules[r].name);
            REQUIRE(want);
            ht_dtype element = parse(formats[f].name).element;
            size_t wrong = 0;
            for (size_t i = 0; i < amax->elements; i++) {
                uint32_t bits = ht_f32_bits(((const float *)amax->data)[i]) & 0x7fffffff;
                wrong += ht_mx_scale_byte(rules[r].rule, element, bits) != ((const uint8_t *)want->data)[i];
            }
            if (!CHECK_INT(wrong, 0))
                printf("  %s %s\n", formats[f].golden, rules[r].name);
        }
    golden_close(&g);
}

/* Codes must be equal except in NaN blocks, where the reference leaves them open. */
static size_t differing_codes(const ht_format *f, const uint8_t *got, const uint8_t *want, const uint8_t *scales,
                              size_t values) {
    size_t per_block = f->packing == HT_PACK_LOW ? 16 : 32, wrong = 0;
    for (size_t b = 0; b < values / 32; b++)
        if (scales[b] != 255)
            wrong += memcmp(got + b * per_block, want + b * per_block, per_block) != 0;
    return wrong;
}

static void check_golden_format(const char *name, const char *file, const char *type) {
    char path[80];
    snprintf(path, sizeof path, "formats/%s_%s.safetensors", file, type);
    golden g = golden_open(path);
    const golden_tensor *x = golden_find(&g, "x");
    if (!x)
        return;
    ht_format f = parse(name);
    size_t rows = golden_rows(x), cols = golden_cols(x);
    uint8_t *codes = calloc(rows * cols, 1), *scales = calloc(rows * cols / 32, 1);
    float *y = calloc(rows * cols, sizeof *y);
    for (size_t r = 0; r < 4; r++) {
        const golden_tensor *scale = golden_findf(&g, "scale.%s", rules[r].name);
        const golden_tensor *data = golden_findf(&g, "data.%s", rules[r].name);
        ht_planes p = {{codes, scales}};
        ht_row_options o = with_rule(rules[r].rule);
        CHECK_OK(ht_format_quantize(&f, &o, x->data, x->dtype, rows, cols, &p));
        CHECK_BYTES(scales, scale->data, scale->bytes);
        CHECK_INT(differing_codes(&f, codes, data->data, scales, rows * cols), 0);
        CHECK_OK(ht_format_dequantize(&f, &p, rows, cols, y));
        char dequant[32];
        snprintf(dequant, sizeof dequant, "dequant.%s", rules[r].name);
        const golden_tensor *want = golden_maybe(&g, dequant);
        if (want)
            CHECK_F32(y, (const float *)want->data, want->elements);
        for (size_t i = 0; i < rows * cols; i++)
            if (scales[i / 32] == 255 && !CHECK(isnan(y[i])))
                break;
    }
    free(codes);
    free(scales);
    free(y);
    golden_close(&g);
}

static void test_golden_blocks(void) {
    for (size_t f = 0; f < 5; f++) {
        check_golden_format(formats[f].name, formats[f].golden, "f32");
        check_golden_format(formats[f].name, formats[f].golden, "bf16");
    }
}

static void test_dense_fp6_equals_bytes(void) {
    float x[4 * 64], y[4 * 64], z[4 * 64];
    for (size_t i = 0; i < 256; i++)
        x[i] = ht_random_normal(5, 0, i);
    uint8_t dense[4 * 48], bytes[4 * 64], scales[8], scales2[8];
    ht_planes a = {{dense, scales}}, b = {{bytes, scales2}};
    ht_format fa = parse("mxfp6_e3m2"), fb = parse("mxfp6_e3m2_bytes");
    REQUIRE_OK(ht_format_quantize(&fa, NULL, x, HT_F32, 4, 64, &a));
    REQUIRE_OK(ht_format_quantize(&fb, NULL, x, HT_F32, 4, 64, &b));
    for (size_t i = 0; i < 256; i++) {
        unsigned pair = dense[i * 6 / 8] | (i % 4 == 3 ? 0 : dense[i * 6 / 8 + 1] << 8);
        CHECK_INT(pair >> i * 6 % 8 & 63, bytes[i]);
    }
    REQUIRE_OK(ht_format_dequantize(&fa, &a, 4, 64, y));
    REQUIRE_OK(ht_format_dequantize(&fb, &b, 4, 64, z));
    CHECK_F32(y, z, 256);
}

/* Squared error of a block decoded under a rule. */
static double block_error(const ht_format *f, ht_scale_rule rule, const float *x, uint8_t *byte) {
    uint8_t codes[32];
    float y[32];
    ht_planes p = {{codes, byte}};
    ht_row_options o = with_rule(rule);
    CHECK_OK(ht_format_quantize(f, &o, x, HT_F32, 1, 32, &p));
    CHECK_OK(ht_format_dequantize(f, &p, 1, 32, y));
    double sum = 0;
    for (size_t i = 0; i < 32; i++)
        sum += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    return sum;
}

/* MSE is the better of FLOOR and FLOOR + 1, found here by making the block's amax a CEIL case. */
static void test_mse_rule(void) {
    static const char *const names[] = {"mxfp4", "mxfp6_e2m3", "mxfp8", "mxint8"};
    size_t raised = 0, kept = 0;
    for (size_t n = 0; n < 4; n++) {
        ht_format f = parse(names[n]);
        for (uint64_t seed = 0; seed < 500; seed++) {
            float x[32];
            for (size_t i = 0; i < 32; i++)
                x[i] = ht_random_normal(seed, 1, i) * (seed % 3 ? 1 : (float)(i % 5));
            uint8_t floor_byte, ceil_byte, mse_byte;
            double floor_error = block_error(&f, HT_SCALE_FLOOR, x, &floor_byte);
            double ceil_error = block_error(&f, HT_SCALE_CEIL, x, &ceil_byte);
            double mse_error = block_error(&f, HT_SCALE_DEFAULT, x, &mse_byte);
            CHECK_INT(ceil_byte, floor_byte + 1);
            double best = floor_error <= ceil_error ? floor_error : ceil_error;
            CHECK(mse_error <= best * (1 + 1e-6));
            CHECK(mse_byte == floor_byte || mse_byte == ceil_byte);
            raised += mse_byte == ceil_byte;
            kept += mse_byte == floor_byte;
        }
    }
    CHECK(raised > 100 && kept > 100);
}

static void test_defined_results(void) {
    static const char *const names[] = {"mxfp8", "mxfp8_e5m2", "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4", "mxint8"};
    static const ht_scale_rule all[] = {HT_SCALE_MSE,  HT_SCALE_FLOOR, HT_SCALE_RCEIL,
                                        HT_SCALE_CEIL, HT_SCALE_EVEN,  HT_SCALE_EVEN_FP4};
    for (size_t n = 0; n < 6; n++)
        for (size_t r = 0; r < 6; r++) {
            ht_format f = parse(names[n]);
            ht_row_options o = with_rule(all[r]);
            float x[5 * 32] = {0}, y[5 * 32];
            x[3] = -0.0f; /* block 0: zeros */
            x[32] = NAN;  /* block 1: a NaN */
            x[33] = 1;
            x[64] = INFINITY;                 /* block 2: an infinity */
            for (size_t i = 96; i < 128; i++) /* block 3: the largest numbers */
                x[i] = i % 2 ? 3.4028235e38f : -3.4028235e38f;
            for (size_t i = 128; i < 160; i++) /* block 4: the smallest */
                x[i] = 0x1p-149f;
            uint8_t codes[160], scales[5];
            ht_planes p = {{codes, scales}};
            REQUIRE_OK(ht_format_quantize(&f, &o, x, HT_F32, 1, 160, &p));
            REQUIRE_OK(ht_format_dequantize(&f, &p, 1, 160, y));
            CHECK_INT(scales[0], 0);
            for (size_t i = 0; i < 32; i++)
                CHECK(y[i] == 0);
            if (f.element != HT_I8)
                CHECK(signbit(y[3]));
            CHECK_INT(scales[1], 255);
            CHECK_INT(scales[2], 255);
            for (size_t i = 32; i < 96; i++)
                CHECK(isnan(y[i]));
            /* Just below 2^128 EVEN rounds to Inf, as the reference does: NaN. The others stay numbers, in f32 perhaps
             * Inf after rounding up. */
            int even = f.element != HT_I8 && (all[r] == HT_SCALE_EVEN || all[r] == HT_SCALE_EVEN_FP4);
            CHECK_INT(scales[3] == 255, even);
            for (size_t i = 96; i < 128; i++)
                CHECK(even ? isnan(y[i]) : fabsf(y[i]) > 1e38f);
            CHECK(scales[4] <= 1);
            for (size_t i = 128; i < 160; i++)
                CHECK(y[i] >= 0 && y[i] <= 0x1p-126f);
        }
}

static void test_columns(void) {
    golden g = golden_open("formats/mx_dim1_bf16.safetensors");
    const golden_tensor *x = golden_find(&g, "x");
    REQUIRE(x);
    size_t rows = golden_rows(x), cols = golden_cols(x);
    uint8_t *codes = calloc(rows * cols, 1), *scales = calloc(rows * cols / 32, 1);
    static const char *const names[] = {"mxfp8", "mxfp4"}, *const stored[] = {"mxfp8_e4m3", "mxfp4_e2m1"};
    for (size_t n = 0; n < 2; n++)
        for (size_t r = 0; r < 2; r++) {
            ht_format f = parse(names[n]);
            ht_planes p = {{codes, scales}};
            ht_row_options o = with_rule(rules[r].rule);
            const golden_tensor *s1 = golden_findf(&g, "%s.dim1_scale.%s", stored[n], rules[r].name);
            const golden_tensor *d1 = golden_findf(&g, "%s.dim1_data.%s", stored[n], rules[r].name);
            const golden_tensor *s0 = golden_findf(&g, "%s.dim0_scale.%s", stored[n], rules[r].name);
            const golden_tensor *d0 = golden_findf(&g, "%s.dim0_data.%s", stored[n], rules[r].name);
            REQUIRE(s1 && d1 && s0 && d0);
            REQUIRE_OK(ht_mx_quantize_columns(&f, rules[r].rule, x->data, x->dtype, rows, cols, codes, scales));
            CHECK_BYTES(scales, s1->data, s1->bytes);
            CHECK_BYTES(codes, d1->data, d1->bytes);
            REQUIRE_OK(ht_format_quantize(&f, &o, x->data, x->dtype, rows, cols, &p));
            CHECK_BYTES(scales, s0->data, s0->bytes);
            CHECK_BYTES(codes, d0->data, d0->bytes);
        }
    ht_format f = parse("mxfp8");
    CHECK_FAILS(ht_mx_quantize_columns(&f, HT_SCALE_MSE, x->data, x->dtype, 33, 4, codes, scales), HT_ERR_SHAPE);
    free(codes);
    free(scales);
    golden_close(&g);
}

/* [E, N, K]: 32x1 blocks along N (stored row-major there), and 32x32 tiles. */
static void test_experts(void) {
    golden g = golden_open("formats/mx_experts_3d_bf16.safetensors");
    const golden_tensor *x = golden_find(&g, "x");
    REQUIRE(x && x->rank == 3);
    enum { N = 64, K = 64 };
    static const ht_scale_rule which[] = {HT_SCALE_FLOOR, HT_SCALE_RCEIL};
    static const char *const names[] = {"floor", "rceil"};
    ht_format f = parse("mxfp8");
    for (size_t e = 0; e < x->shape[0]; e++)
        for (size_t r = 0; r < 2; r++) {
            static uint8_t codes[N * K], scales[N * K / 32];
            const uint16_t *values = (const uint16_t *)x->data + e * N * K;
            const golden_tensor *d = golden_findf(&g, "32x1.%s.data", names[r]);
            const golden_tensor *s = golden_findf(&g, "32x1.%s.scale", names[r]);
            const golden_tensor *td = golden_findf(&g, "32x32.%s.data", names[r]);
            const golden_tensor *ts = golden_findf(&g, "32x32.%s.scale", names[r]);
            REQUIRE(d && s && td && ts);
            REQUIRE_OK(ht_mx_quantize_columns(&f, which[r], values, HT_BF16, N, K, codes, scales));
            size_t wrong = 0;
            for (size_t n = 0; n < N; n++)
                for (size_t k = 0; k < K; k++)
                    wrong += codes[k * N + n] != ((const uint8_t *)d->data)[(e * N + n) * K + k] ||
                             scales[k * (N / 32) + n / 32] != ((const uint8_t *)s->data)[(e * N / 32 + n / 32) * K + k];
            CHECK_INT(wrong, 0);
            REQUIRE_OK(ht_mx_quantize_tiles(&f, which[r], values, HT_BF16, N, K, codes, scales));
            CHECK_BYTES(codes, (const uint8_t *)td->data + e * N * K, N * K);
            CHECK_BYTES(scales, (const uint8_t *)ts->data + e * 4, 4);
        }
    golden_close(&g);
}

/* Under MSE tiles take the better of two bytes, too; a zero and a NaN tile are defined. */
static void test_tiles(void) {
    static float x[64 * 64];
    static uint8_t codes[64 * 64], scales[4], floors[4];
    for (size_t i = 0; i < 64 * 64; i++)
        x[i] = i < 32 * 64 ? ht_random_normal(9, 0, i) : 0;
    x[40 * 64 + 40] = NAN;
    ht_format f = parse("mxfp4_bytes");
    REQUIRE_OK(ht_mx_quantize_tiles(&f, HT_SCALE_MSE, x, HT_F32, 64, 64, codes, scales));
    REQUIRE_OK(ht_mx_quantize_tiles(&f, HT_SCALE_FLOOR, x, HT_F32, 64, 64, codes, floors));
    CHECK(scales[0] == floors[0] || scales[0] == floors[0] + 1);
    CHECK_INT(scales[2], 0);
    CHECK_INT(scales[3], 255);
    CHECK_INT(codes[63 * 64 + 63], 7);
    CHECK_INT(codes[63 * 64 + 3], 0);
    CHECK_FAILS(ht_mx_quantize_tiles(&f, HT_SCALE_MSE, x, HT_F32, 48, 64, codes, scales), HT_ERR_SHAPE);
    CHECK_FAILS(ht_mx_quantize_tiles(&f, HT_SCALE_MSE, x, HT_I8, 64, 64, codes, scales), HT_ERR_UNSUPPORTED);
}

/* A slice of rows gives the rows of the whole, and bf16 input the same as its values in f32. */
static void test_slices_and_types(void) {
    enum { ROWS = 5, COLS = 96 };
    uint16_t half[ROWS * COLS];
    float x[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++) {
        half[i] = ht_bf16_from_f32(ht_random_normal(11, 0, i));
        x[i] = ht_f32_from_bf16(half[i]);
    }
    for (size_t f = 0; f < 5; f++) {
        ht_format format = parse(formats[f].name);
        uint8_t whole[ROWS * COLS], part[ROWS * COLS], s[ROWS * 3], t[ROWS * 3];
        ht_planes a = {{whole, s}}, b = {{part, t}};
        memset(whole, 0, sizeof whole);
        memset(part, 0, sizeof part);
        REQUIRE_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &a));
        for (size_t r = 0; r < ROWS; r++) {
            ht_planes at = ht_planes_at_row(&format, &b, COLS, r);
            REQUIRE_OK(ht_format_quantize(&format, NULL, half + r * COLS, HT_BF16, 1, COLS, &at));
        }
        CHECK_BYTES(part, whole, sizeof whole);
        CHECK_BYTES(t, s, sizeof s);
    }
}

static void test_refusals(void) {
    ht_format f = parse("mxfp4");
    float x[64] = {0};
    uint8_t codes[64], scales[4];
    ht_planes p = {{codes, scales}}, missing = {{codes}};
    CHECK_FAILS(ht_format_quantize(&f, NULL, x, HT_F32, 1, 33, &p), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "33");
    CHECK_FAILS(ht_format_quantize(&f, NULL, x, HT_I32, 1, 32, &p), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_format_quantize(&f, NULL, x, HT_F32, 1, 32, &missing), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_format_dequantize(&f, &missing, 1, 32, x), HT_ERR_ARGUMENT);
    CHECK_OK(ht_format_quantize(&f, NULL, x, HT_F32, 0, 64, &p));
    f.element = HT_I3;
    CHECK_FAILS(ht_format_quantize(&f, NULL, x, HT_F32, 1, 32, &p), HT_ERR_FORMAT);
    CHECK_FAILS(ht_format_scale(&f, NULL, &(ht_range){0}, x, NULL), HT_ERR_FORMAT);
}

int main(void) {
    RUN(test_scale_bytes);
    RUN(test_golden_blocks);
    RUN(test_dense_fp6_equals_bytes);
    RUN(test_mse_rule);
    RUN(test_defined_results);
    RUN(test_columns);
    RUN(test_experts);
    RUN(test_tiles);
    RUN(test_slices_and_types);
    RUN(test_refusals);
    return check_finish();
}
