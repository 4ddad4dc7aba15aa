/* Quantize then dequantize, against stored results of quantization-aware training. */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/bits.h"
#include "support/check.h"
#include "support/golden.h"

static ht_format parse(const char *name) {
    ht_format f = {0};
    CHECK_OK(ht_format_parse(name, &f));
    return f;
}

/* y [rows, cols] for x; the number of the matrix, if any, comes from its own range. */
static float *round_trip(const ht_format *f, const ht_row_options *o, const golden_tensor *x, ht_planes *p) {
    size_t rows = golden_rows(x), cols = golden_cols(x);
    float *y = calloc(rows * cols, sizeof *y);
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        p->plane[plane] = calloc(ht_format_plane_bytes(f, (ht_plane)plane, rows, cols) + 4, 1);
    ht_range range = ht_range_empty();
    CHECK_OK(ht_range_add(&range, x->data, x->dtype, rows * cols));
    *(float *)p->plane[HT_PLANE_GLOBAL] = ht_format_global(f, o, &range);
    CHECK_OK(ht_format_quantize(f, o, x->data, x->dtype, rows, cols, p));
    CHECK_OK(ht_format_dequantize(f, p, rows, cols, y));
    return y;
}

static void release(ht_planes *p, float *y) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        free(p->plane[plane]);
    free(y);
}

static void test_block_formats(void) {
    static const struct {
        const char *file, *format;
        ht_scale_rule rule;
    } cases[] = {{"formats/qat_mxfp4.safetensors", "mxfp4", HT_SCALE_RCEIL},
                 {"formats/qat_mxfp8.safetensors", "mxfp8", HT_SCALE_RCEIL},
                 {"formats/qat_nvfp4.safetensors", "nvfp4_pts", HT_SCALE_DEFAULT}};
    for (size_t c = 0; c < 3; c++) {
        golden g = golden_open(cases[c].file);
        for (int side = 0; side < 2; side++) {
            const golden_tensor *in = golden_find(&g, side ? "w" : "x"),
                                *want = golden_find(&g, side ? "w_dq" : "x_dq");
            REQUIRE(in && want);
            ht_format f = parse(cases[c].format);
            ht_row_options o = ht_row_options_default();
            o.scale_rule = cases[c].rule;
            o.nvfp4_rule = HT_NVFP4_INFERENCE;
            ht_planes p;
            float *y = round_trip(&f, &o, in, &p);
            CHECK_F32(y, (const float *)want->data, want->elements);
            release(&p, y);
        }
        golden_close(&g);
    }
}

static void check_integer(const golden *g, const char *type, const char *name, const char *format) {
    const golden_tensor *x = golden_findf(g, "%s.x", type), *want = golden_findf(g, "%s.%s.y", type, name);
    if (!x || !want)
        return;
    ht_format f = parse(format);
    ht_row_options o = ht_row_options_default();
    o.arithmetic = x->dtype;
    ht_planes p;
    float *y = round_trip(&f, &o, x, &p), *w = golden_f32(want);
    if (want->dtype == HT_BF16)
        for (size_t i = 0; i < want->elements; i++)
            y[i] = ht_round_to(HT_BF16, y[i]);
    int ok = CHECK_F32(y, w, want->elements);
    char part[64];
    snprintf(part, sizeof part, "%s.%s.scale", type, name);
    const golden_tensor *scale = golden_maybe(g, part);
    if (scale)
        ok &= CHECK_F32((const float *)p.plane[HT_PLANE_SCALES], (const float *)scale->data, scale->elements);
    snprintf(part, sizeof part, "%s.%s.zero", type, name);
    const golden_tensor *zero = golden_maybe(g, part);
    for (size_t i = 0; zero && f.zero == HT_I8 && i < zero->elements; i++)
        ok &= CHECK_INT(((const int8_t *)p.plane[HT_PLANE_ZEROS])[i], ((const int32_t *)zero->data)[i]);
    if (!ok)
        printf("  %s.%s\n", type, name);
    release(&p, y);
    free(w);
}

static void test_integers(void) {
    static const struct {
        const char *name, *format;
    } cases[] = {{"int8_token_asym", "int8_row_asym"},
                 {"int4_g32_sym", "int4_g32"},
                 {"int8_channel_sym", "int8_row"},
                 {"int2_g64_sym", "int2_g64"}};
    golden g = golden_open("formats/qat_fake_quant.safetensors");
    for (size_t c = 0; c < 4; c++) {
        check_integer(&g, "f32", cases[c].name, cases[c].format);
        check_integer(&g, "bf16", cases[c].name, cases[c].format);
    }
    check_integer(&g, "f32", "float8_row", "fp8_row");
    check_integer(&g, "f32", "float8_tensor", "fp8_tensor");
    golden_close(&g);
}

/* The reference's groupwise asymmetric case takes the float zero point of a grid that need not hold 0 and truncates it
 * to an integer. Scale by our rule, zero point given: the same values. */
static void check_truncated_zero(const golden *g, const char *type) {
    const golden_tensor *x = golden_findf(g, "%s.x", type), *want = golden_findf(g, "%s.int4_g32_asym.y", type);
    const golden_tensor *scale = golden_findf(g, "%s.int4_g32_asym.scale", type);
    const golden_tensor *zero = golden_findf(g, "%s.int4_g32_asym.zero", type);
    if (!x || !want || !scale || !zero)
        return;
    ht_format f = parse("int4_g32_asym"), grid = parse("int4_g32_float0");
    float *w = golden_f32(want);
    size_t bytes = ht_dtype_bits(x->dtype) / 8, wrong = 0;
    for (size_t b = 0; b < scale->elements; b++) {
        const uint8_t *values = (const uint8_t *)x->data + b * 32 * bytes;
        ht_row_options o = ht_row_options_default();
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, values, x->dtype, 32));
        o.arithmetic = x->dtype;
        o.epsilon = 1e-6f;
        CHECK_OK(ht_format_scale(&grid, &o, &range, &o.scale, &o.zero));
        o.zero = truncf(o.zero);
        wrong += o.scale != ((const float *)scale->data)[b] || o.zero != (float)((const int32_t *)zero->data)[b];
        o.arithmetic = HT_F32;
        int32_t codes[4];
        int8_t stored_zero;
        float stored_scale, y[32];
        ht_planes p = {{codes, &stored_scale, &stored_zero}};
        CHECK_OK(ht_format_quantize(&f, &o, values, x->dtype, 1, 32, &p));
        CHECK_OK(ht_format_dequantize(&f, &p, 1, 32, y));
        for (size_t i = 0; i < 32; i++)
            wrong += ht_round_to(want->dtype, y[i]) != w[b * 32 + i];
    }
    CHECK_INT(wrong, 0);
    free(w);
}

static void test_truncated_zero(void) {
    golden g = golden_open("formats/qat_fake_quant.safetensors");
    check_truncated_zero(&g, "f32");
    check_truncated_zero(&g, "bf16");
    golden_close(&g);
}

int main(void) {
    RUN(test_truncated_zero);
    RUN(test_block_formats);
    RUN(test_integers);
    return check_finish();
}
