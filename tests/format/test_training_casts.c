/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/training_casts.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/check.h"
#include "support/golden.h"

static void check_cast(const golden *g, const char *name, const ht_format *f, int power_of_two, int reciprocal) {
    const golden_tensor *x = golden_find(g, "x"), *data = golden_findf(g, "%s.data", name);
    const golden_tensor *scale = golden_findf(g, reciprocal ? "%s.rscale" : "%s.scale", name);
    if (!x || !data || !scale)
        return;
    size_t rows = golden_rows(x), cols = golden_cols(x);
    uint8_t *codes = calloc(rows * cols, 1);
    float *scales = calloc(rows * cols, sizeof *scales);
    CHECK_OK(ht_float8_train_quantize(f, power_of_two, reciprocal, x->data, x->dtype, rows, cols, codes, scales));
    int ok = CHECK_F32(scales, (const float *)scale->data, scale->elements);
    if (!(CHECK_BYTES(codes, data->data, data->bytes) && ok))
        printf("  %s\n", name);
    free(codes);
    free(scales);
}

static ht_format blocks(ht_dtype element, uint32_t rows, uint32_t cols) {
    return (ht_format){.family = HT_FAMILY_FLOAT8,
                       .element = element,
                       .scale = HT_F32,
                       .block_rows = rows,
                       .block_cols = cols,
                       .packing = HT_PACK_BYTES};
}

static void test_golden_float8(void) {
    static const char *const files[] = {"formats/float8_train_f32.safetensors",
                                        "formats/float8_train_bf16.safetensors"};
    static const struct {
        const char *name;
        uint32_t rows, cols;
    } shapes[] = {{"tensor", 0, 0}, {"row", 1, 0}, {"col", 0, 1}};
    for (size_t i = 0; i < 2; i++) {
        golden g = golden_open(files[i]);
        for (int c = 0; c < 12; c++) {
            int e5m2 = c / 6, shape = c / 2 % 3, power_of_two = c % 2;
            char name[64];
            snprintf(name, sizeof name, "%s.%s%s", e5m2 ? "e5m2" : "e4m3", shapes[shape].name,
                     power_of_two ? ".pow2" : "");
            ht_format f = blocks(e5m2 ? HT_F8_E5M2 : HT_F8_E4M3, shapes[shape].rows, shapes[shape].cols);
            check_cast(&g, name, &f, power_of_two, 0);
        }
        golden_close(&g);
    }
    golden g = golden_open("formats/float8_blockwise_train_bf16.safetensors");
    ht_format f = blocks(HT_F8_E4M3, 1, 128);
    check_cast(&g, "act1x128", &f, 0, 1);
    f = blocks(HT_F8_E4M3, 128, 1);
    check_cast(&g, "act128x1", &f, 0, 1);
    f = blocks(HT_F8_E4M3, 128, 128);
    check_cast(&g, "w128x128", &f, 0, 1);
    golden_close(&g);
}

static void test_edges(void) {
    const float x[4] = {0, -0.0f, 0, 0}, bad[4] = {1, NAN, 2, 3};
    uint8_t codes[4];
    float scale;
    ht_format f = blocks(HT_F8_E4M3, 1, 0);
    REQUIRE_OK(ht_float8_train_quantize(&f, 0, 0, x, HT_F32, 1, 4, codes, &scale));
    CHECK_BYTES(codes, "\0\x80\0\0", 4);
    CHECK(isfinite(scale) && scale > 0);
    REQUIRE_OK(ht_float8_train_quantize(&f, 0, 0, bad, HT_F32, 1, 4, codes, &scale));
    CHECK_BYTES(codes, "\x7f\x7f\x7f\x7f", 4);
    CHECK(isnan(scale));
    CHECK_FAILS(ht_float8_train_quantize(&f, 0, 0, bad, HT_I8, 1, 4, codes, &scale), HT_ERR_UNSUPPORTED);
}

static void test_golden_int8_and_bitnet(void) {
    golden g = golden_open("formats/int8_train_bitnet.safetensors");
    const golden_tensor *w = golden_find(&g, "w"), *q = golden_find(&g, "int8.q"), *s = golden_find(&g, "int8.scale");
    const golden_tensor *ternary = golden_find(&g, "bitnet.q"), *mean = golden_find(&g, "bitnet.scale");
    const golden_tensor *packed = golden_find(&g, "bitnet.packed");
    REQUIRE(w && q && s && ternary && mean && packed);
    size_t rows = golden_rows(w), cols = golden_cols(w);
    int8_t *codes = calloc(rows * cols, 1);
    float *scales = calloc(rows, sizeof *scales);
    ht_int8_train_rows(w->data, rows, cols, codes, scales);
    CHECK_BYTES(codes, q->data, q->bytes);
    CHECK_F32(scales, (const float *)s->data, rows);
    float stored = ((const float *)mean->data)[0];
    CHECK_NEAR((double)ht_bitnet_scale(w->data, rows * cols), (double)stored, 1e-6);
    ht_bitnet_encode(w->data, rows * cols, stored, codes);
    CHECK_BYTES(codes, ternary->data, ternary->bytes);
    uint8_t *bytes = calloc(packed->bytes, 1);
    ht_bitnet_pack(codes, rows * cols, bytes);
    CHECK_BYTES(bytes, packed->data, packed->bytes);
    CHECK(ht_bitnet_scale(NULL, 0) == 0);
    free(bytes);
    free(codes);
    free(scales);
    golden_close(&g);
}

int main(void) {
    RUN(test_golden_float8);
    RUN(test_edges);
    RUN(test_golden_int8_and_bitnet);
    return check_finish();
}
