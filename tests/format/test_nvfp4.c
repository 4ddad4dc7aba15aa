/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/nvfp4.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "format/bits.h"
#include "support/check.h"
#include "support/golden.h"

enum { MOST = 128 * 256 };

static ht_format parse(const char *name) {
    ht_format f = {0};
    CHECK_OK(ht_format_parse(name, &f));
    return f;
}

static ht_row_options with_rule(ht_nvfp4_rule rule) {
    ht_row_options o = ht_row_options_default();
    o.nvfp4_rule = rule;
    return o;
}

static void check_inference(const golden *g, const golden_tensor *x, const char *name) {
    static uint8_t codes[MOST], scales[MOST / 16];
    static float y[MOST];
    size_t rows = golden_rows(x), cols = golden_cols(x);
    ht_format f = parse(strcmp(name, "single") == 0 ? "nvfp4_single" : "nvfp4_pts");
    ht_row_options o = with_rule(HT_NVFP4_INFERENCE);
    float global = 1;
    if (f.global != HT_DTYPE_NONE) {
        const golden_tensor *pts = golden_findf(g, "%s.pts", name);
        if (!pts)
            return;
        global = ((const float *)pts->data)[0];
        if (strcmp(name, "two_own") == 0) {
            ht_range range = ht_range_empty();
            CHECK_OK(ht_range_add(&range, x->data, x->dtype, rows * cols));
            CHECK_INT(ht_f32_bits(ht_format_global(&f, &o, &range)), ht_f32_bits(global));
        }
    }
    ht_planes p = {{codes, scales, NULL, NULL, &global}};
    CHECK_OK(ht_format_quantize(&f, &o, x->data, x->dtype, rows, cols, &p));
    CHECK_OK(ht_format_dequantize(&f, &p, rows, cols, y));
    const golden_tensor *scale = golden_findf(g, "%s.scale", name), *data = golden_findf(g, "%s.data", name);
    const golden_tensor *dequant = golden_findf(g, "%s.dequant", name);
    if (!scale || !data || !dequant)
        return;
    CHECK_BYTES(scales, scale->data, scale->bytes);
    CHECK_BYTES(codes, data->data, data->bytes);
    CHECK_F32(y, (const float *)dequant->data, dequant->elements);
    char blocked[64];
    snprintf(blocked, sizeof blocked, "%s.scale_blocked", name);
    const golden_tensor *tiled = golden_maybe(g, blocked);
    if (tiled) {
        static uint8_t out[4096];
        CHECK_INT(ht_swizzle_bytes(rows, cols / 16), tiled->bytes);
        ht_swizzle_scales(scales, rows, cols / 16, out);
        CHECK_BYTES(out, tiled->data, tiled->bytes);
    }
}

static void test_golden_inference(void) {
    static const char *const files[] = {"formats/nvfp4_infer_f32.safetensors", "formats/nvfp4_infer_bf16.safetensors"};
    static const char *const cases[] = {"single", "two_own", "two_ten", "two_small"};
    for (size_t i = 0; i < 2; i++) {
        golden g = golden_open(files[i]);
        const golden_tensor *x = golden_find(&g, "x");
        for (size_t c = 0; x && c < 4; c++)
            check_inference(&g, x, cases[c]);
        golden_close(&g);
    }
}

/* Experts: one number per matrix of a batch. */
static void test_golden_experts(void) {
    golden g = golden_open("formats/nvfp4_infer_3d.safetensors");
    const golden_tensor *x = golden_find(&g, "x"), *pts = golden_find(&g, "pts"), *scale = golden_find(&g, "scale");
    const golden_tensor *data = golden_find(&g, "data"), *dequant = golden_find(&g, "dequant");
    REQUIRE(x && pts && scale && data && dequant);
    enum { ROWS = 32, COLS = 64 };
    ht_format f = parse("nvfp4_pts");
    ht_row_options o = with_rule(HT_NVFP4_INFERENCE);
    for (size_t e = 0; e < x->shape[0]; e++) {
        uint8_t codes[ROWS * COLS / 2], scales[ROWS * COLS / 16];
        float y[ROWS * COLS];
        const uint16_t *values = (const uint16_t *)x->data + e * ROWS * COLS;
        ht_range range = ht_range_empty();
        REQUIRE_OK(ht_range_add(&range, values, HT_BF16, ROWS * COLS));
        float global = ht_format_global(&f, &o, &range);
        CHECK_INT(ht_f32_bits(global), ht_f32_bits(((const float *)pts->data)[e]));
        ht_planes p = {{codes, scales, NULL, NULL, &global}};
        REQUIRE_OK(ht_format_quantize(&f, &o, values, HT_BF16, ROWS, COLS, &p));
        REQUIRE_OK(ht_format_dequantize(&f, &p, ROWS, COLS, y));
        CHECK_BYTES(codes, (const uint8_t *)data->data + e * sizeof codes, sizeof codes);
        CHECK_BYTES(scales, (const uint8_t *)scale->data + e * sizeof scales, sizeof scales);
        CHECK_F32(y, (const float *)dequant->data + e * ROWS * COLS, ROWS * COLS);
    }
    golden_close(&g);
}

static void check_training(const golden *g, const golden_tensor *x, const char *name, int tiles) {
    static uint8_t codes[MOST], scales[MOST / 16], spread[MOST / 16], tiled[MOST / 16];
    size_t rows = golden_rows(x), cols = golden_cols(x), across = cols / 16;
    const char *shape = tiles ? "16x16" : "1x16";
    const golden_tensor *data = golden_findf(g, "%s.%s.data", name, shape);
    const golden_tensor *scale = golden_findf(g, "%s.%s.scale", name, shape);
    const golden_tensor *blocked = golden_findf(g, "%s.%s.scale_blocked", name, shape);
    const golden_tensor *amax = golden_findf(g, "%s.amax", name), *number = golden_findf(g, "%s.S", name);
    if (!data || !scale || !blocked || !amax || !number)
        return;
    ht_format f = parse(tiles ? "nvfp4_tile" : "nvfp4");
    ht_row_options o = with_rule(HT_NVFP4_TRAINING);
    ht_range range = {.amax = ((const float *)amax->data)[0]};
    float global = ht_format_global(&f, &o, &range);
    CHECK_INT(ht_f32_bits(global), ht_f32_bits(((const float *)number->data)[0]));
    ht_planes p = {{codes, scales, NULL, NULL, &global}};
    CHECK_OK(ht_format_quantize(&f, &o, x->data, x->dtype, rows, cols, &p));
    for (size_t r = 0; r < rows; r++)
        memcpy(spread + r * across, scales + r / (tiles ? 16 : 1) * across, across);
    CHECK_BYTES(spread, scale->data, scale->bytes);
    CHECK_BYTES(codes, data->data, data->bytes);
    ht_swizzle_scales(spread, rows, across, tiled);
    CHECK_BYTES(tiled, blocked->data, blocked->bytes);
}

static void test_golden_training(void) {
    static const char *const files[] = {"formats/nvfp4_te_f32.safetensors", "formats/nvfp4_te_bf16.safetensors"};
    static const char *const cases[] = {"own", "ten", "zero"};
    for (size_t i = 0; i < 2; i++) {
        golden g = golden_open(files[i]);
        const golden_tensor *x = golden_find(&g, "x");
        for (size_t c = 0; x && c < 6; c++)
            check_training(&g, x, cases[c / 2], c % 2);
        golden_close(&g);
    }
}

/* Global number, scales and codes of compressed-tensors; also its MX formats. */
static void test_golden_compressed_tensors(void) {
    static const char *const files[] = {"formats/ct_fp4_mx_f32.safetensors", "formats/ct_fp4_mx_bf16.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        golden g = golden_open(files[i]);
        const golden_tensor *w = golden_find(&g, "w"), *number = golden_find(&g, "nvfp4.global_scale");
        const golden_tensor *scale = golden_find(&g, "nvfp4.scale"), *packed = golden_find(&g, "nvfp4.packed");
        const golden_tensor *dequant = golden_find(&g, "nvfp4.dequant");
        REQUIRE(w && number && scale && packed && dequant);
        static uint8_t codes[MOST], scales[MOST / 16];
        static float y[MOST];
        size_t rows = golden_rows(w), cols = golden_cols(w);
        ht_format f = parse("nvfp4");
        ht_row_options o = with_rule(HT_NVFP4_INFERENCE);
        o.arithmetic = w->dtype;
        ht_range range = ht_range_empty();
        REQUIRE_OK(ht_range_add(&range, w->data, w->dtype, rows * cols));
        float global = ht_format_global(&f, &o, &range);
        CHECK_INT(ht_f32_bits(global), ht_f32_bits(((const float *)number->data)[0]));
        ht_planes p = {{codes, scales, NULL, NULL, &global}};
        REQUIRE_OK(ht_format_quantize(&f, &o, w->data, w->dtype, rows, cols, &p));
        CHECK_BYTES(scales, scale->data, scale->bytes);
        CHECK_BYTES(codes, packed->data, packed->bytes);
        REQUIRE_OK(ht_format_dequantize(&f, &p, rows, cols, y));
        CHECK_F32(y, (const float *)dequant->data, dequant->elements);

        const golden_tensor *scale4 = golden_find(&g, "mxfp4.scale"), *packed4 = golden_find(&g, "mxfp4.packed");
        const golden_tensor *scale8 = golden_find(&g, "mxfp8.scale"), *q8 = golden_find(&g, "mxfp8.q");
        REQUIRE(scale4 && packed4 && scale8 && q8);
        f = parse("mxfp4");
        o.scale_rule = HT_SCALE_EVEN;
        REQUIRE_OK(ht_format_quantize(&f, &o, w->data, w->dtype, rows, cols, &p));
        CHECK_BYTES(scales, scale4->data, scale4->bytes);
        CHECK_BYTES(codes, packed4->data, packed4->bytes);
        f = parse("mxfp8");
        o.scale_rule = HT_SCALE_EVEN_FP4;
        REQUIRE_OK(ht_format_quantize(&f, &o, w->data, w->dtype, rows, cols, &p));
        CHECK_BYTES(scales, scale8->data, scale8->bytes);
        CHECK_BYTES(codes, q8->data, q8->bytes);
        golden_close(&g);
    }
}

/* Worked example of the formats specification, section 3.4. */
static void test_examples(void) {
    float x[16], small[16];
    for (int i = 0; i < 16; i++) {
        x[i] = 0.1f * (float)i * (i % 2 ? -1 : 1);
        small[i] = x[i] * 1e-4f;
    }
    static const struct {
        const char *format;
        ht_nvfp4_rule rule;
        float amax;
        int small;
        uint8_t scale;
        const char *codes;
    } cases[] = {
        {"nvfp4_single", HT_NVFP4_INFERENCE, 0, 0, 0x28, "\x90\xa2\xc3\xd4\xe5\xe6\xf6\xf7"},
        {"nvfp4_pts", HT_NVFP4_INFERENCE, 1.5f, 0, 0x7e, "\x90\xa2\xc3\xd4\xe5\xe6\xf6\xf7"},
        {"nvfp4_pts", HT_NVFP4_INFERENCE, 10, 0, 0x68, "\x90\xb2\xc3\xd5\xe5\xe6\xf7\xf7"},
        {"nvfp4", HT_NVFP4_TRAINING, 1.5f, 0, 0x7e, "\x90\xa2\xc3\xd4\xe5\xe6\xf6\xf7"},
        {"nvfp4", HT_NVFP4_TRAINING, 10, 0, 0x68, "\x90\xb2\xc3\xd5\xe5\xe6\xf7\xf7"},
        {"nvfp4_pts", HT_NVFP4_INFERENCE, 10, 1, 0x08, "\x80\x91\xa1\xa2\xb3\xc3\xc4\xd4"},
        {"nvfp4", HT_NVFP4_TRAINING, 10, 1, 0x03, "\x90\xb2\xc4\xd5\xe6\xf6\xf7\xf7"},
    };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        ht_format f = parse(cases[c].format);
        ht_row_options o = with_rule(cases[c].rule);
        float global = ht_format_global(&f, &o, &(ht_range){.amax = cases[c].amax});
        uint8_t codes[8], scale;
        ht_planes p = {{codes, &scale, NULL, NULL, &global}};
        REQUIRE_OK(ht_format_quantize(&f, &o, cases[c].small ? small : x, HT_F32, 1, 16, &p));
        CHECK_INT(scale, cases[c].scale);
        CHECK_BYTES(codes, cases[c].codes, 8);
    }
}

/* Zero matrices and blocks, NaN, Inf, tiny and huge values under every recipe. */
static void test_defined_results(void) {
    static const char *const names[] = {"nvfp4", "nvfp4_pts", "nvfp4_single", "nvfp4_tile"};
    for (size_t n = 0; n < 4; n++)
        for (int rule = 0; rule < 2; rule++)
            for (int zero_matrix = 0; zero_matrix < 2; zero_matrix++) {
                ht_format f = parse(names[n]);
                ht_row_options o = with_rule(rule ? HT_NVFP4_TRAINING : HT_NVFP4_INFERENCE);
                static float x[16 * 96], y[16 * 96];
                memset(x, 0, sizeof x);
                if (!zero_matrix) {
                    x[17] = NAN;       /* block 1 */
                    x[33] = INFINITY;  /* block 2 */
                    x[50] = 0x1p-149f; /* block 3 */
                    x[66] = -1;        /* block 4 */
                    x[82] = 3.4e38f;   /* block 5 */
                }
                ht_range range = ht_range_empty();
                REQUIRE_OK(ht_range_add(&range, x, HT_F32, 16 * 96));
                float global = ht_format_global(&f, &o, &range);
                CHECK(isfinite(global) && global > 0);
                uint8_t codes[16 * 48], scales[16 * 6];
                ht_planes p = {{codes, scales, NULL, NULL, &global}};
                REQUIRE_OK(ht_format_quantize(&f, &o, x, HT_F32, 16, 96, &p));
                REQUIRE_OK(ht_format_dequantize(&f, &p, 16, 96, y));
                for (size_t i = 0; i < 96; i++) {
                    int undefined = !zero_matrix && (i / 16 == 1 || i / 16 == 2);
                    if (!CHECK(undefined ? isnan(y[i]) : isfinite(y[i])))
                        printf("  %s rule %d value %zu: %g\n", names[n], rule, i, (double)y[i]);
                    if (i < 16 || zero_matrix)
                        CHECK(y[i] == 0);
                }
                if (!zero_matrix)
                    CHECK_INT(scales[1], 0x7f);
            }
}

static void test_mse(void) {
    static float x[MOST], y[MOST];
    static uint8_t codes[MOST], scales[MOST / 16];
    for (size_t i = 0; i < MOST; i++)
        x[i] = ht_random_normal(1, 0, i);
    ht_format f = parse("nvfp4");
    ht_range range = ht_range_empty();
    REQUIRE_OK(ht_range_add(&range, x, HT_F32, MOST));
    double error[2] = {0};
    for (int mse = 0; mse < 2; mse++) {
        ht_row_options o = ht_row_options_default();
        o.scale_rule = mse ? HT_SCALE_MSE : HT_SCALE_DEFAULT;
        float global = ht_format_global(&f, &o, &range);
        ht_planes p = {{codes, scales, NULL, NULL, &global}};
        REQUIRE_OK(ht_format_quantize(&f, &o, x, HT_F32, 128, 256, &p));
        REQUIRE_OK(ht_format_dequantize(&f, &p, 128, 256, y));
        for (size_t i = 0; i < MOST; i++)
            error[mse] += (double)(x[i] - y[i]) * (double)(x[i] - y[i]);
    }
    CHECK(error[1] < 0.9 * error[0]);
}

static void test_slices(void) {
    enum { ROWS = 32, COLS = 64 };
    static float x[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(2, 0, i);
    static const char *const names[] = {"nvfp4", "nvfp4_single", "nvfp4_tile"};
    for (size_t n = 0; n < 3; n++) {
        ht_format f = parse(names[n]);
        size_t step = ht_format_row_step(&f);
        uint8_t a[ROWS * COLS / 2], b[ROWS * COLS / 2], s[ROWS * 4] = {0}, t[ROWS * 4] = {0};
        float global = 600;
        ht_planes p = {{a, s, NULL, NULL, &global}}, q = {{b, t, NULL, NULL, &global}};
        REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, ROWS, COLS, &p));
        for (size_t r = 0; r < ROWS; r += step) {
            ht_planes at = ht_planes_at_row(&f, &q, COLS, r);
            REQUIRE_OK(ht_format_quantize(&f, NULL, x + r * COLS, HT_F32, step, COLS, &at));
        }
        CHECK_BYTES(b, a, sizeof a);
        CHECK_BYTES(t, s, sizeof s);
    }
    ht_format f = parse("nvfp4");
    CHECK_FAILS(ht_format_check_shape(&f, 2, 24), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "24");
    f.block_cols = 32;
    CHECK_FAILS(ht_format_check_shape(&f, 2, 32), HT_ERR_FORMAT);
}

/* Algorithms specification, T-46, and blocks for which 6 is the better one. */
static void test_four_six_vector(void) {
    static const float TENS[16] = {10, 20, 30, 40}, SIXES[16] = {0.5f, 1, 2, 3, 6, -6, 1.5f, 2};
    static const float PLAIN[4] = {9.75f, 19.5f, 26, 39};
    float y[16], sum = 0;
    uint8_t codes[8], scale;
    ht_format f = parse("nvfp4_single");
    ht_row_options o = ht_row_options_default();
    ht_planes p = {{codes, &scale, NULL, NULL, NULL}};
    REQUIRE_OK(ht_format_quantize(&f, &o, TENS, HT_F32, 1, 16, &p));
    REQUIRE_OK(ht_format_dequantize(&f, &p, 1, 16, y));
    CHECK_F32(y, PLAIN, 4);
    for (int i = 0; i < 16; i++)
        sum += (y[i] - TENS[i]) * (y[i] - TENS[i]);
    CHECK(sum == 17.3125f);
    for (int rule = HT_SCALE_FOUR_SIX; rule <= HT_SCALE_FOUR_SIX_MAX; rule++) {
        o.scale_rule = (ht_scale_rule)rule;
        REQUIRE_OK(ht_format_quantize(&f, &o, TENS, HT_F32, 1, 16, &p));
        REQUIRE_OK(ht_format_dequantize(&f, &p, 1, 16, y));
        CHECK_INT(scale, 0x52); /* 10 */
        CHECK_F32(y, TENS, 16);
        REQUIRE_OK(ht_format_quantize(&f, &o, SIXES, HT_F32, 1, 16, &p));
        REQUIRE_OK(ht_format_dequantize(&f, &p, 1, 16, y));
        CHECK_INT(scale, 0x38); /* 1 */
        CHECK_F32(y, SIXES, 16);
    }
}

/* Sum of squares, of magnitudes, or the largest error of a block. */
static double four_six_error(ht_scale_rule rule, const float *x, const float *y) {
    double sum = 0;
    for (int i = 0; i < 16; i++) {
        double e = fabs((double)x[i] - (double)y[i]);
        sum = rule == HT_SCALE_FOUR_SIX ? sum + e * e : rule == HT_SCALE_FOUR_SIX_MAE ? sum + e : e > sum ? e : sum;
    }
    return sum;
}

/* Both scales by hand, from the elements' definition; the number of the matrix leaves room for the larger one. */
static void test_four_six_blocks(void) {
    enum { ROWS = 8, COLS = 64 };
    static const char *const FORMATS[] = {"nvfp4", "nvfp4_pts"};
    float x[ROWS * COLS], y[ROWS * COLS];
    uint8_t codes[ROWS * COLS / 2], scales[ROWS * COLS / 16];
    size_t fours = 0;
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(46, 0, i) * (i % 5 ? 1 : 3);
    for (size_t f = 0; f < 2; f++)
        for (int rule = HT_SCALE_FOUR_SIX; rule <= HT_SCALE_FOUR_SIX_MAX; rule++) {
            ht_format format = parse(FORMATS[f]);
            ht_row_options o = with_rule(HT_NVFP4_TRAINING);
            o.scale_rule = (ht_scale_rule)rule;
            ht_range range = ht_range_empty();
            REQUIRE_OK(ht_range_add(&range, x, HT_F32, ROWS * COLS));
            float global = ht_format_global(&format, &o, &range);
            CHECK_NEAR(f ? range.amax / global : range.amax * global, 1536, 1e-6);
            ht_planes p = {{codes, scales, NULL, NULL, &global}};
            REQUIRE_OK(ht_format_quantize(&format, &o, x, HT_F32, ROWS, COLS, &p));
            REQUIRE_OK(ht_format_dequantize(&format, &p, ROWS, COLS, y));
            for (size_t b = 0; b < ROWS * COLS / 16; b++) {
                double error[2], amax = 0;
                for (size_t i = 0; i < 16; i++)
                    amax = fabs((double)x[b * 16 + i]) > amax ? fabs((double)x[b * 16 + i]) : amax;
                for (int four = 0; four < 2; four++) {
                    double number = f ? 1 / (double)global : (double)global;
                    float s = ht_element_decode(
                        HT_F8_E4M3, ht_element_encode(HT_F8_E4M3, (float)(amax / 6 * number * (four ? 1.5 : 1))));
                    float values[16], unit = (float)((double)s / number);
                    for (size_t i = 0; i < 16; i++)
                        values[i] =
                            unit * ht_element_decode(HT_F4_E2M1, ht_element_encode(HT_F4_E2M1, x[b * 16 + i] / unit));
                    error[four] = four_six_error((ht_scale_rule)rule, x + b * 16, values);
                }
                fours += error[1] < error[0];
                CHECK_WITHIN(four_six_error((ht_scale_rule)rule, x + b * 16, y + b * 16),
                             error[1] < error[0] ? error[1] : error[0], 1e-4 * error[0]);
            }
        }
    CHECK(fours > 20 && fours < 6 * ROWS * COLS / 16 - 20);
}

int main(void) {
    RUN(test_golden_inference);
    RUN(test_golden_experts);
    RUN(test_golden_training);
    RUN(test_golden_compressed_tensors);
    RUN(test_examples);
    RUN(test_defined_results);
    RUN(test_mse);
    RUN(test_four_six_vector);
    RUN(test_four_six_blocks);
    RUN(test_slices);
    return check_finish();
}
