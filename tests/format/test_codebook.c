/* NF4 and FP4: stored vectors of two other libraries, the formats of our own, special blocks, shapes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/codebook.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "format/map.h"
#include "support/check.h"
#include "support/golden.h"

enum { MOST = 256 * 128 };

static float x[MOST], y[MOST], scales[MOST / 64];
static uint8_t packed[MOST / 2];

static const struct {
    const char *name;
    unsigned variant;
} bnb_kinds[] = {{"nf4", HT_CODEBOOK_NF4}, {"fp4", HT_CODEBOOK_FP4}};

static void check_bnb_flat(const golden *g, const golden_tensor *w, size_t k, size_t block) {
    const ht_codebook *book = ht_codebook_at(bnb_kinds[k].variant);
    const golden_tensor *data = golden_findf(g, "%s.b%zu.data", bnb_kinds[k].name, block);
    const golden_tensor *absmax = golden_findf(g, "%s.b%zu.absmax", bnb_kinds[k].name, block);
    const golden_tensor *table = golden_findf(g, "%s.table", bnb_kinds[k].name);
    REQUIRE(data && absmax && table);
    for (int code = 0; code < 16; code++) /* as numbers: the stored table says +0 for code 8, the stored values -0 */
        CHECK(book->value[code] == ((const float *)table->data)[code]);
    ht_bnb_quantize_4bit(book, x, w->elements, block, packed, scales);
    CHECK_BYTES(packed, data->data, data->bytes);
    CHECK_BYTES(scales, absmax->data, absmax->bytes);
    if (block != 64)
        return;
    const golden_tensor *back = golden_findf(g, "%s.b64.dequant", bnb_kinds[k].name);
    REQUIRE(back != NULL);
    float *want = golden_f32(back);
    ht_bnb_dequantize_4bit(book, packed, scales, w->elements, block, y);
    for (size_t i = 0; w->dtype == HT_BF16 && i < w->elements; i++) { /* the library rounds to the weight's type */
        uint16_t half;
        ht_convert(&y[i], HT_F32, &half, HT_BF16, 1);
        ht_convert(&half, HT_BF16, &y[i], HT_F32, 1);
    }
    CHECK_F32(y, want, back->elements);
    free(want);
}

static void check_bnb_nested(const golden *g, size_t k) {
    const golden_tensor *absmax = golden_findf(g, "%s.b64.absmax", bnb_kinds[k].name);
    const golden_tensor *codes = golden_findf(g, "%s.nested.absmax_q8", bnb_kinds[k].name);
    const golden_tensor *absmax2 = golden_findf(g, "%s.nested.absmax2", bnb_kinds[k].name);
    const golden_tensor *offset = golden_findf(g, "%s.nested.offset", bnb_kinds[k].name);
    const golden_tensor *map = golden_findf(g, "%s.nested.map", bnb_kinds[k].name);
    const golden_tensor *back = golden_findf(g, "%s.nested.absmax_dequant", bnb_kinds[k].name);
    REQUIRE(absmax && codes && absmax2 && offset && map && back);
    float mean = ht_mean(absmax->data, absmax->elements, HT_F32), got2[2], unnested[300];
    uint8_t got[300];
    REQUIRE(absmax->elements == 300);
    CHECK_NEAR(mean, (double)*(const float *)offset->data, 1.2e-7);
    ht_bnb_nest(map->data, absmax->data, 300, *(const float *)offset->data, got, got2);
    CHECK_BYTES(got, codes->data, codes->bytes);
    CHECK_BYTES(got2, absmax2->data, absmax2->bytes);
    ht_bnb_unnest(map->data, got, got2, 300, *(const float *)offset->data, unnested);
    CHECK_F32(unnested, (const float *)back->data, 300);
}

static void check_bnb_file(const char *file) {
    golden g = golden_open(file);
    const golden_tensor *w = golden_find(&g, "w");
    REQUIRE(w && w->elements <= MOST);
    float *values = golden_f32(w);
    memcpy(x, values, w->elements * sizeof *x);
    free(values);
    for (size_t k = 0; k < 2; k++) {
        check_bnb_flat(&g, w, k, 64);
        check_bnb_flat(&g, w, k, 128);
        check_bnb_nested(&g, k);
    }
    golden_close(&g);
}

static void test_stored_bnb_f32(void) {
    check_bnb_file("formats/bnb_4bit_f32.safetensors");
}

static void test_stored_bnb_bf16(void) {
    check_bnb_file("formats/bnb_4bit_bf16.safetensors");
}

static void check_torchao_file(const char *file, ht_dtype arithmetic) {
    golden g = golden_open(file);
    const golden_tensor *w = golden_find(&g, "w"), *data = golden_find(&g, "data");
    const golden_tensor *q8 = golden_find(&g, "scalers_q8"), *factor = golden_find(&g, "factor");
    const golden_tensor *mean = golden_find(&g, "mean"), *back = golden_find(&g, "dequant");
    REQUIRE(w && data && q8 && factor && mean && back && w->elements == MOST);
    float *values = golden_f32(w), *factors = golden_f32(factor), *m = golden_f32(mean), *want = golden_f32(back);
    float got_factor[2];
    int8_t codes[512];
    ht_torchao_nf4_quantize(values, MOST, arithmetic, packed, scales);
    CHECK_BYTES(packed, data->data, data->bytes);
    CHECK_NEAR(ht_mean(scales, 512, arithmetic), (double)m[0], 1.2e-7);
    ht_torchao_nf4_nest(scales, 512, m[0], arithmetic, codes, got_factor);
    CHECK_BYTES(codes, q8->data, q8->bytes);
    CHECK_F32(got_factor, factors, 2);
    ht_torchao_nf4_unnest(codes, got_factor, 512, m[0], arithmetic, scales);
    ht_torchao_nf4_dequantize(packed, scales, MOST, arithmetic, y);
    CHECK_F32(y, want, MOST);
    free(values);
    free(factors);
    free(m);
    free(want);
    golden_close(&g);
}

static void test_stored_torchao_f32(void) {
    check_torchao_file("formats/nf4_torchao_f32.safetensors", HT_F32);
}

static void test_stored_torchao_bf16(void) {
    check_torchao_file("formats/nf4_torchao_bf16.safetensors", HT_BF16);
}

static void test_torchao_examples(void) {
    const float s[4] = {0.5f, 1, 1.5f, 2}, want[4] = {0.5f, 0.998046875f, 1.501953125f, 1.994140625f};
    const float block[64] = {1, -0.5f, 0.25f, 0, -0.03f, 0.8f};
    int8_t codes[4];
    float factor, got[4];
    CHECK_NEAR(ht_mean(s, 4, HT_F32), 1.25, 0);
    ht_torchao_nf4_nest(s, 4, 1.25f, HT_F32, codes, &factor);
    CHECK_NEAR(factor, 170.66667, 1e-7);
    CHECK(codes[0] == -128 && codes[1] == -43 && codes[2] == 43 && codes[3] == 127);
    ht_torchao_nf4_unnest(codes, &factor, 4, 1.25f, HT_F32, got);
    CHECK_F32_NEAR(got, want, 4, 1e-7);
    ht_torchao_nf4_quantize(block, 64, HT_F32, packed, scales);
    CHECK(packed[0] == 0xf2 && packed[1] == 0xa7 && packed[2] == 0x7e);
}

/* When rows are whole blocks, the flat formats hold what bitsandbytes has. */
static void test_flat_formats_are_the_same_bytes(void) {
    enum { ROWS = 6, COLS = 256 };
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(5, 1, i);
    for (size_t k = 0; k < 2; k++) {
        char name[16];
        ht_format format;
        static uint8_t want[ROWS * COLS / 2];
        static float want_scales[ROWS * COLS / 64];
        snprintf(name, sizeof name, "%s_flat", bnb_kinds[k].name);
        REQUIRE_OK(ht_format_parse(name, &format));
        ht_planes planes = {{packed, scales}};
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &planes));
        ht_bnb_quantize_4bit(ht_codebook_at(bnb_kinds[k].variant), x, ROWS * COLS, 64, want, want_scales);
        CHECK_BYTES(packed, want, sizeof want);
        CHECK_BYTES(scales, want_scales, sizeof want_scales);
        static float want_y[ROWS * COLS];
        CHECK_OK(ht_format_dequantize(&format, &planes, ROWS, COLS, y));
        ht_bnb_dequantize_4bit(ht_codebook_at(bnb_kinds[k].variant), want, want_scales, ROWS * COLS, 64, want_y);
        CHECK_F32(y, want_y, ROWS * COLS);
    }
}

static double relative_error(const ht_format *format, size_t rows, size_t cols) {
    static float scale2[16];
    ht_planes planes = {{packed, scales, NULL, scale2}};
    double error = 0, power = 0;
    CHECK_OK(ht_format_quantize(format, NULL, x, HT_F32, rows, cols, &planes));
    CHECK_OK(ht_format_dequantize(format, &planes, rows, cols, y));
    for (size_t i = 0; i < rows * cols; i++) {
        error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
        power += (double)x[i] * (double)x[i];
    }
    return error / power;
}

/* Nested scales cost next to nothing, also between blocks of very different size. */
static void test_nested_error(void) {
    static const char *const names[2][2] = {{"nf4", "nf4_flat"}, {"fp4", "fp4_flat"}};
    for (int uneven = 0; uneven < 2; uneven++) {
        for (uint64_t i = 0; i < MOST; i++)
            x[i] = ht_random_normal(6, 1, i) * (uneven ? expf(3 * ht_random_normal(6, 2, i / 64)) : 1);
        for (size_t k = 0; k < 2; k++) {
            ht_format nested, flat;
            REQUIRE_OK(ht_format_parse(names[k][0], &nested));
            REQUIRE_OK(ht_format_parse(names[k][1], &flat));
            double with = relative_error(&nested, 4, MOST / 4), without = relative_error(&flat, 4, MOST / 4);
            CHECK(without < (k ? 0.02 : 0.01));
            CHECK(with < 1.01 * without);
        }
    }
}

static void test_sizes(void) {
    ht_format format;
    size_t shape[2];
    REQUIRE_OK(ht_format_parse("nf4", &format));
    CHECK_INT(ht_format_plane_shape(&format, HT_PLANE_SCALES, 4096, 4096, shape), HT_U8);
    CHECK(shape[0] == 4096 && shape[1] == 64);
    CHECK_INT(ht_format_plane_shape(&format, HT_PLANE_SCALES2, 3, 64 * 257, shape), HT_F32);
    CHECK(shape[0] == 3 && shape[1] == 2);
    CHECK_NEAR(ht_format_bits_per_value(&format, 4096, 4096), 4.0 + 8.0 / 64 + 32.0 / 4096, 1e-12);
    CHECK_INT(ht_format_row_step(&format), 1);
    REQUIRE_OK(ht_format_parse("nf4_flat", &format));
    CHECK_NEAR(ht_format_bits_per_value(&format, 4096, 4096), 4.5, 1e-12);
}

/* Rows alone and from bf16 give the bytes of the whole; nests end at the row's end. */
static void test_slices(void) {
    enum { ROWS = 3, COLS = 64 * 9 };
    static uint16_t half[ROWS * COLS];
    static uint8_t piece[ROWS * COLS / 2], piece_scales[ROWS * 9];
    float scale2[ROWS * 3], piece_scale2[ROWS * 3];
    ht_format format;
    REQUIRE_OK(ht_format_parse("nf4", &format));
    format.block2 = 4; /* three nests a row, the last of one block */
    for (uint64_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(7, 1, i);
    REQUIRE_OK(ht_convert(x, HT_F32, half, HT_BF16, ROWS * COLS));
    REQUIRE_OK(ht_convert(half, HT_BF16, x, HT_F32, ROWS * COLS));
    ht_planes whole = {{packed, scales, NULL, scale2}}, pieces = {{piece, piece_scales, NULL, piece_scale2}};
    CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &whole));
    for (size_t r = 0; r < ROWS; r++) {
        ht_planes at = ht_planes_at_row(&format, &pieces, COLS, r);
        CHECK_OK(ht_format_quantize(&format, NULL, half + r * COLS, HT_BF16, 1, COLS, &at));
    }
    CHECK_BYTES(piece, packed, sizeof piece);
    CHECK_BYTES(piece_scales, scales, sizeof piece_scales);
    CHECK_BYTES(piece_scale2, scale2, sizeof scale2);
}

static const char *const formats[] = {"nf4", "fp4", "nf4_flat", "fp4_flat", "nf4_torchao"};
enum { FORMATS = sizeof formats / sizeof *formats };

static void test_every_code_decodes(void) {
    for (size_t f = 0; f < FORMATS; f++) {
        ht_format format;
        float flat[1] = {2}, scale2[1] = {2};
        uint8_t codes[32], nested[1] = {255};
        for (int i = 0; i < 32; i++)
            codes[i] = (uint8_t)((2 * i % 16) << 4 | (2 * i + 1) % 16);
        REQUIRE_OK(ht_format_parse(formats[f], &format));
        ht_planes planes = {{codes, format.block2 ? (void *)nested : (void *)flat, NULL, scale2}};
        CHECK_OK(ht_format_dequantize(&format, &planes, 1, 64, y));
        for (int i = 0; i < 64; i++)
            CHECK_NEAR(y[i], 2 * (double)ht_codebook_at(format.variant)->value[i % 16], 0);
    }
}

static void test_codes_are_nearest(void) {
    for (unsigned v = 0; v < HT_CODEBOOK_COUNT; v++) {
        const ht_codebook *book = ht_codebook_at(v);
        CHECK(book->value[book->zero] == 0);
        for (unsigned code = 0; code < 16; code++)
            CHECK(book->value[ht_codebook_encode(book, book->value[code])] == book->value[code]);
        for (int k = 0; k < 2000; k++) {
            float v1 = (float)k / 1000 - 1, best = 9;
            for (unsigned code = 0; code < 16; code++)
                best = fminf(best, fabsf(v1 - book->value[code]));
            CHECK_WITHIN(fabsf(v1 - book->value[ht_codebook_encode(book, v1)]), (double)best, 1e-7);
        }
        CHECK_INT(ht_codebook_encode(book, NAN), book->zero);
        CHECK_NEAR(book->value[ht_codebook_encode(book, INFINITY)], 1, 0);
        CHECK_NEAR(book->value[ht_codebook_encode(book, -INFINITY)], -1, 0);
    }
    CHECK(ht_codebook_at(HT_CODEBOOK_COUNT) == NULL);
}

static void test_special_blocks(void) {
    for (size_t f = 0; f < FORMATS; f++) {
        ht_format format;
        float scale2[2];
        ht_planes planes = {{packed, scales, NULL, scale2}};
        REQUIRE_OK(ht_format_parse(formats[f], &format));
        memset(x, 0, 256 * sizeof *x);
        for (int i = 128; i < 192; i++) /* blocks: zero, zero, numbers, tiny; two rows */
            x[i] = (float)(i - 160);
        for (int i = 192; i < 256; i++)
            x[i] = i % 2 ? 0x1p-140f : -0x1p-140f;
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, 2, 128, &planes));
        CHECK_OK(ht_format_dequantize(&format, &planes, 2, 128, y));
        for (int i = 0; i < 128; i++)
            CHECK(y[i] == 0);
        CHECK_NEAR(y[128], -32, 1e-6);
        for (int i = 192; i < 256; i++)
            CHECK(format.block2 ? y[i] == 0 : y[i] == x[i]);
        for (int bad = 0; bad < 3; bad++) {
            x[200] = bad == 0 ? NAN : bad == 1 ? INFINITY : -INFINITY;
            CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, 2, 128, &planes));
            CHECK_OK(ht_format_dequantize(&format, &planes, 2, 128, y));
            CHECK(y[0] == 0 && isnan(y[192]) && isnan(y[255]));
            CHECK(format.block2 ? isnan(y[128]) : y[128] == -32);
        }
        x[200] = -0x1.fffffep127f;
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, 2, 128, &planes));
        CHECK_OK(ht_format_dequantize(&format, &planes, 2, 128, y));
        CHECK_NEAR(y[200], -0x1.fffffep127, 0);
        CHECK_FAILS(ht_format_check_shape(&format, 2, 100), HT_ERR_SHAPE);
        CHECK_CONTAINS(ht_error_message(), "100 columns");
    }
}

static void test_special_blocks_of_other_layouts(void) {
    float zero[64] = {0}, mean = 2;
    int8_t codes[3];
    float factor, same[3] = {2, 2, 2}, back[3];
    ht_bnb_quantize_4bit(ht_codebook_at(HT_CODEBOOK_NF4), zero, 63, 64, packed, scales);
    CHECK(scales[0] == 0 && packed[0] == 0x77 && packed[31] == 0x70);
    ht_torchao_nf4_quantize(zero, 64, HT_F32, packed, scales);
    CHECK(scales[0] == 0 && packed[0] == 0x77);
    zero[5] = NAN;
    ht_torchao_nf4_quantize(zero, 64, HT_F32, packed, scales);
    CHECK(isnan(scales[0]));
    ht_torchao_nf4_nest(same, 3, mean, HT_F32, codes, &factor);
    ht_torchao_nf4_unnest(codes, &factor, 3, mean, HT_F32, back);
    CHECK_F32(back, same, 3);
    uint8_t nested[3];
    ht_bnb_nest(ht_map_signed_8, same, 3, mean, nested, &factor);
    ht_bnb_unnest(ht_map_signed_8, nested, &factor, 3, mean, back);
    CHECK_F32(back, same, 3);
}

static void test_refuses(void) {
    ht_format format;
    REQUIRE_OK(ht_format_parse("nf4", &format));
    format.variant = HT_CODEBOOK_COUNT;
    CHECK_FAILS(ht_format_check_shape(&format, 1, 64), HT_ERR_FORMAT);
    format.variant = 0;
    format.block2 = 257;
    CHECK_FAILS(ht_format_check_shape(&format, 1, 64), HT_ERR_FORMAT);
    format.block2 = 256;
    format.block_cols = 63;
    CHECK_FAILS(ht_format_check_shape(&format, 1, 63), HT_ERR_FORMAT);
    format.block_cols = 128;
    CHECK_OK(ht_format_check_shape(&format, 1, 256));
}

int main(void) {
    RUN(test_stored_bnb_f32);
    RUN(test_stored_bnb_bf16);
    RUN(test_stored_torchao_f32);
    RUN(test_stored_torchao_bf16);
    RUN(test_torchao_examples);
    RUN(test_flat_formats_are_the_same_bytes);
    RUN(test_nested_error);
    RUN(test_sizes);
    RUN(test_slices);
    RUN(test_every_code_decodes);
    RUN(test_codes_are_nearest);
    RUN(test_special_blocks);
    RUN(test_special_blocks_of_other_layouts);
    RUN(test_refuses);
    return check_finish();
}
