/* Dynamic maps: the constants, code lookup, block-quantized state against stored vectors, stochastic bf16.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/map.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"
#include "support/golden.h"

static uint32_t crc32(const void *data, size_t bytes) {
    const uint8_t *p = data;
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void test_constants(void) {
    CHECK_INT(crc32(ht_map_signed_8, sizeof ht_map_signed_8), 0xb66387ba);
    CHECK_INT(crc32(ht_map_unsigned_8, sizeof ht_map_unsigned_8), 0x603f8c47);
    CHECK_INT(crc32(ht_map_signed_4, sizeof ht_map_signed_4), 0x67d6dc48);
    for (int k = 0; k < 16; k++)
        CHECK_NEAR(ht_map_unsigned_4[k], (k + 1) / 16.0, 0);
    for (unsigned v = 0; v < HT_MAP_COUNT; v++) {
        const ht_map *map = ht_map_at(v);
        for (unsigned i = 1; i < 1u << map->bits; i++)
            CHECK(map->value[i - 1] < map->value[i]);
        CHECK(v == HT_MAP_UNSIGNED_4 || map->value[map->zero] == 0);
        CHECK_NEAR(map->value[(1u << map->bits) - 1], 1, 0);
    }
    CHECK(ht_map_at(HT_MAP_COUNT) == NULL);
}

/* The definition again, from the specification: decades, cells, midpoints. */
static void test_constants_by_construction(void) {
    for (int is_signed = 0; is_signed < 2; is_signed++) {
        double value[256] = {0, 1};
        int count = 2;
        for (int decade = 0; decade < 7; decade++) {
            int cells = 1 << (is_signed ? decade : decade + 1);
            for (int c = 0; c < cells; c++) {
                double middle = (0.1 + 0.9 * c / cells + 0.1 + 0.9 * (c + 1) / cells) / 2 * pow(10, decade - 6);
                value[count++] = middle;
                if (is_signed)
                    value[count++] = -middle;
            }
        }
        REQUIRE(count == 256);
        const float *map = is_signed ? ht_map_signed_8 : ht_map_unsigned_8;
        for (int i = 0; i < count; i++) {
            unsigned code = ht_map_encode(map, 256, (float)value[i]);
            CHECK_NEAR(map[code], value[i], 1e-6);
        }
    }
}

static void test_lookup_examples(void) {
    const float s8[] = {0, 1, -1, 0.5f, -0.25f, 1e-3f, -1e-8f}, u8[] = {0, 1, 0.5f, 0.25f, 1e-3f, 1e-8f, 1e-6f};
    const float s4[] = {0, 1, -1, 0.5f, -0.5f, 0.01f}, u4[] = {0, 1, 0.5f, 0.03125f, 0.09375f, 0.09f};
    const unsigned want_s8[] = {127, 255, 0, 219, 53, 142, 127}, want_u8[] = {0, 255, 183, 148, 30, 0, 2};
    const unsigned want_s4[] = {7, 15, 0, 12, 2, 8}, want_u4[] = {0, 15, 7, 0, 1, 0};
    for (int i = 0; i < 7; i++) {
        CHECK_INT(ht_map_encode(ht_map_signed_8, 256, s8[i]), want_s8[i]);
        CHECK_INT(ht_map_encode(ht_map_unsigned_8, 256, u8[i]), want_u8[i]);
    }
    for (int i = 0; i < 6; i++) {
        CHECK_INT(ht_map_encode(ht_map_signed_4, 16, s4[i]), want_s4[i]);
        CHECK_INT(ht_map_encode(ht_map_unsigned_4, 16, u4[i]), want_u4[i]);
    }
}

/* Every code comes back, and nothing is nearer than what a search picks; midpoints go up, in the low rule down. */
static void test_lookup_is_nearest(void) {
    for (unsigned v = 0; v < HT_MAP_COUNT; v++) {
        const ht_map *map = ht_map_at(v);
        unsigned size = 1u << map->bits;
        for (unsigned i = 0; i < size; i++) {
            CHECK_INT(ht_map_encode(map->value, size, map->value[i]), i);
            CHECK_INT(ht_map_encode_low(map->value, size, map->value[i]), i);
        }
        for (uint64_t k = 0; k < 5000; k++) {
            float x = 2.4f * ht_random_uniform(4, v, k) - 1.2f;
            x *= k % 3 ? 1 : 1e-4f;
            unsigned up = ht_map_encode(map->value, size, x), low = ht_map_encode_low(map->value, size, x);
            double best = 10;
            for (unsigned i = 0; i < size; i++)
                best = fmin(best, fabs((double)x - (double)map->value[i]));
            CHECK_WITHIN(fabs((double)x - (double)map->value[up]), best, 1e-7);
            CHECK_WITHIN(fabs((double)x - (double)map->value[low]), best, 0);
        }
    }
    CHECK_INT(ht_map_encode(ht_map_unsigned_4, 16, 0.21875f), 3); /* between 3/16 and 4/16 */
    CHECK_INT(ht_map_encode_low(ht_map_unsigned_4, 16, 0.21875f), 2);
    CHECK_INT(ht_map_encode(ht_map_signed_8, 256, NAN), 0);
    CHECK_INT(ht_map_encode(ht_map_signed_8, 256, INFINITY), 255);
    CHECK_INT(ht_map_encode(ht_map_signed_8, 256, -INFINITY), 0);
}

static const struct {
    const char *tail;
    unsigned variant;
} stored[] = {{"s8", HT_MAP_SIGNED_8}, {"u8", HT_MAP_UNSIGNED_8}, {"s4", HT_MAP_SIGNED_4}, {"u4", HT_MAP_UNSIGNED_4}};

/* Stored vectors come with their own maps (other last bits), which the functions accept. */
static void test_stored_state(void) {
    golden g = golden_open("formats/optim_state.safetensors");
    const golden_tensor *v = golden_find(&g, "v"), *x = golden_find(&g, "x");
    REQUIRE(v && x);
    for (size_t k = 0; k < 4; k++) {
        const ht_map *map = ht_map_at(stored[k].variant);
        const golden_tensor *values = golden_findf(&g, "map.%s", stored[k].tail);
        const golden_tensor *code = golden_findf(&g, "code.%s", stored[k].tail);
        const golden_tensor *codes = golden_findf(&g, "state.%s.codes", stored[k].tail);
        const golden_tensor *scale = golden_findf(&g, "state.%s.scale", stored[k].tail);
        const golden_tensor *back = golden_findf(&g, "state.%s.dequant", stored[k].tail);
        REQUIRE(values && code && codes && scale && back);
        CHECK_F32_NEAR(map->value, (const float *)values->data, values->elements, 2.5e-7);
        unsigned size = 1u << map->bits;
        for (size_t i = 0; i < v->elements; i++)
            CHECK_INT(ht_map_encode(values->data, size, ((const float *)v->data)[i]), ((const uint8_t *)code->data)[i]);
        float block[256], got_scale;
        uint8_t got[256];
        for (size_t b = 0; b < x->elements / map->block; b++) {
            for (size_t i = 0; i < map->block; i++) {
                float xi = ((const float *)x->data)[b * map->block + i];
                block[i] = stored[k].tail[0] == 'u' ? xi * xi : xi;
            }
            ht_map_quantize_block(values->data, size, block, map->block, got, &got_scale);
            CHECK_F32(&got_scale, (const float *)scale->data + b, 1);
            for (size_t i = 0; i < map->block; i++) {
                size_t at = b * map->block + i;
                const uint8_t *want = codes->data;
                CHECK_INT(got[i], map->bits == 8 ? want[at] : want[at / 2] >> (at % 2 ? 0 : 4) & 15);
                float y = ((const float *)values->data)[got[i]] * got_scale;
                CHECK_F32(&y, (const float *)back->data + at, 1);
            }
        }
    }
    golden_close(&g);
}

/* The formats: stored state in, the same codes except where our map's last bits move a midpoint. */
static void test_formats_on_stored_state(void) {
    golden g = golden_open("formats/optim_state.safetensors");
    const golden_tensor *x = golden_find(&g, "x");
    REQUIRE(x != NULL);
    size_t rows = golden_rows(x), cols = golden_cols(x);
    for (size_t k = 0; k < 4; k++) {
        const ht_map *map = ht_map_at(stored[k].variant);
        const golden_tensor *codes = golden_findf(&g, "state.%s.codes", stored[k].tail);
        const golden_tensor *back = golden_findf(&g, "state.%s.dequant", stored[k].tail);
        ht_format format;
        REQUIRE(codes && back);
        REQUIRE_OK(ht_format_parse(map->name, &format));
        CHECK_INT(ht_format_plane_bytes(&format, HT_PLANE_CODES, rows, cols), codes->bytes);
        static float in[32 * 256], out[32 * 256];
        static uint8_t got[32 * 256];
        static float scales[64];
        for (size_t i = 0; i < x->elements; i++) {
            float xi = ((const float *)x->data)[i];
            in[i] = stored[k].tail[0] == 'u' ? xi * xi : xi;
        }
        ht_planes planes = {{got, scales}};
        REQUIRE_OK(ht_format_quantize(&format, NULL, in, HT_F32, rows, cols, &planes));
        size_t differ = 0;
        for (size_t i = 0; i < codes->bytes; i++)
            differ += got[i] != ((const uint8_t *)codes->data)[i];
        CHECK(differ <= 2);
        REQUIRE_OK(ht_format_dequantize(&format, &planes, rows, cols, out));
        CHECK_F32_WITHIN(out, (const float *)back->data, back->elements, differ ? 0.1 : 1e-6);
    }
    golden_close(&g);
}

/* FP8 state is a format of another family: e4m3 with an f32 scale per 256, max |x| at least 1e-12. */
static void test_stored_fp8_state(void) {
    golden g = golden_open("formats/optim_state.safetensors");
    const golden_tensor *x = golden_find(&g, "x"), *codes = golden_find(&g, "state.fp8.codes");
    const golden_tensor *scale = golden_find(&g, "state.fp8.scale"), *back = golden_find(&g, "state.fp8.dequant");
    static uint8_t got[32 * 256];
    static float got_scale[32], y[32 * 256];
    ht_row_options options = ht_row_options_default();
    ht_format format;
    REQUIRE(x && codes && scale && back && x->elements == 32 * 256);
    REQUIRE_OK(ht_format_parse("fp8_g256", &format));
    options.amax_lower = 1e-12f;
    ht_planes planes = {{got, got_scale}};
    REQUIRE_OK(ht_format_quantize(&format, &options, x->data, HT_F32, 32, 256, &planes));
    CHECK_BYTES(got, codes->data, codes->bytes);
    CHECK_BYTES(got_scale, scale->data, scale->bytes);
    REQUIRE_OK(ht_format_dequantize(&format, &planes, 32, 256, y));
    CHECK_F32(y, (const float *)back->data, back->elements);
    golden_close(&g);
}

/* The same format on blocks without numbers: zeros keep the least scale, NaN and Inf stay visible. */
static void test_fp8_state_special_blocks(void) {
    ht_row_options options = ht_row_options_default();
    ht_format format;
    float x[512] = {0}, y[512], scale[2];
    uint8_t codes[512];
    ht_planes planes = {{codes, scale}};
    REQUIRE_OK(ht_format_parse("fp8_g256", &format));
    options.amax_lower = 1e-12f;
    x[300] = NAN;
    REQUIRE_OK(ht_format_quantize(&format, &options, x, HT_F32, 2, 256, &planes));
    REQUIRE_OK(ht_format_dequantize(&format, &planes, 2, 256, y));
    CHECK_NEAR(scale[0], 1e-12 / 448, 1e-6);
    for (int i = 0; i < 256; i++)
        CHECK(y[i] == 0);
    CHECK(isnan(y[300]));
    x[300] = -INFINITY;
    REQUIRE_OK(ht_format_quantize(&format, &options, x, HT_F32, 2, 256, &planes));
    REQUIRE_OK(ht_format_dequantize(&format, &planes, 2, 256, y));
    CHECK(!isfinite(y[300]) && y[0] == 0);
}

static void test_stored_bnb_8bit(void) {
    golden g = golden_open("formats/bnb_8bit.safetensors");
    const golden_tensor *w = golden_find(&g, "w"), *map = golden_find(&g, "map"), *q = golden_find(&g, "q");
    const golden_tensor *absmax = golden_find(&g, "absmax"), *back = golden_find(&g, "dequant");
    REQUIRE(w && map && q && absmax && back);
    static uint8_t codes[5000];
    static float scales[20], y[5000];
    REQUIRE(w->elements == 5000 && absmax->elements == 20);
    ht_bnb_quantize_8bit(map->data, w->data, w->elements, 256, codes, scales);
    CHECK_BYTES(codes, q->data, q->bytes);
    CHECK_BYTES(scales, absmax->data, absmax->bytes);
    ht_bnb_dequantize_8bit(map->data, codes, scales, w->elements, 256, y);
    CHECK_F32(y, (const float *)back->data, back->elements);
    golden_close(&g);
}

static void test_special_blocks(void) {
    ht_format format;
    static float x[256], y[256];
    for (unsigned v = 0; v < HT_MAP_COUNT; v++) {
        uint8_t codes[256];
        float scales[2];
        ht_planes planes = {{codes, scales}};
        REQUIRE_OK(ht_format_parse(ht_map_at(v)->name, &format));
        memset(x, 0, sizeof x);
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, 1, 256, &planes));
        CHECK_OK(ht_format_dequantize(&format, &planes, 1, 256, y));
        for (int i = 0; i < 256; i++)
            CHECK(v == HT_MAP_UNSIGNED_4 ? y[i] > 0 && y[i] < 1e-13f : y[i] == 0); /* that map has no zero */
        x[5] = v % 2 ? INFINITY : NAN;
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, 1, 256, &planes));
        CHECK_OK(ht_format_dequantize(&format, &planes, 1, 256, y));
        CHECK(isnan(y[0]) && isnan(y[5]) && isnan(y[100]));
        x[5] = 0x1.fffffep127f;
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, 1, 256, &planes));
        CHECK_OK(ht_format_dequantize(&format, &planes, 1, 256, y));
        CHECK_NEAR(y[5], 0x1.fffffep127f, 0);
        CHECK_FAILS(ht_format_check_shape(&format, 1, 100), HT_ERR_SHAPE);
        CHECK_CONTAINS(ht_error_message(), ht_map_at(v)->name);
    }
    format.variant = HT_MAP_COUNT;
    CHECK_FAILS(ht_format_check_shape(&format, 1, 256), HT_ERR_FORMAT);
}

static void test_bnb_8bit_special_blocks(void) {
    float x[3] = {0, 0, 0}, absmax, y[3];
    uint8_t codes[3];
    ht_bnb_quantize_8bit(ht_map_signed_8, x, 3, 256, codes, &absmax);
    CHECK(absmax == 0 && codes[1] == 127);
    x[1] = 0x1p-140f; /* 1 / absmax overflows */
    ht_bnb_quantize_8bit(ht_map_signed_8, x, 3, 256, codes, &absmax);
    ht_bnb_dequantize_8bit(ht_map_signed_8, codes, &absmax, 3, 256, y);
    CHECK(y[0] == 0 && y[1] == x[1]);
    x[2] = -INFINITY;
    ht_bnb_quantize_8bit(ht_map_signed_8, x, 3, 256, codes, &absmax);
    CHECK(isnan(absmax));
}

static void test_stored_stochastic_rounding(void) {
    golden g = golden_open("formats/optim_bf16_sr.safetensors");
    const golden_tensor *x = golden_find(&g, "x"), *random = golden_find(&g, "rand16"), *y = golden_find(&g, "y");
    REQUIRE(x && random && y);
    for (size_t i = 0; i < x->elements; i++) {
        float xi = ((const float *)x->data)[i];
        if (isnan(xi))
            continue;
        CHECK_INT(ht_bf16_stochastic(xi, (uint16_t)((const int32_t *)random->data)[i]), ((const uint16_t *)y->data)[i]);
    }
    golden_close(&g);
}

static void test_stochastic_rounding(void) {
    float nan_bits;
    const uint32_t all = 0x7fffffff;
    memcpy(&nan_bits, &all, sizeof nan_bits);
    CHECK_INT(ht_bf16_stochastic(nan_bits, 0), 0x7fff);
    CHECK_INT(ht_bf16_stochastic(INFINITY, 0), 0x7f80);
    CHECK_INT(ht_bf16_stochastic(-0.0f, 0), 0x8000);
    CHECK_INT(ht_bf16_stochastic(1.0f, 0), 0x3f80);
    /* A quarter of the way up: up for exactly a quarter of all draws. */
    long up = 0;
    for (uint32_t r = 0; r < 65536; r++)
        up += ht_bf16_stochastic(-(1.0f + 0x1p-9f), (uint16_t)r) == 0xbf81;
    CHECK_INT(up, 16384);
}

int main(void) {
    RUN(test_constants);
    RUN(test_constants_by_construction);
    RUN(test_lookup_examples);
    RUN(test_lookup_is_nearest);
    RUN(test_stored_state);
    RUN(test_formats_on_stored_state);
    RUN(test_stored_fp8_state);
    RUN(test_fp8_state_special_blocks);
    RUN(test_stored_bnb_8bit);
    RUN(test_special_blocks);
    RUN(test_bnb_8bit_special_blocks);
    RUN(test_stored_stochastic_rounding);
    RUN(test_stochastic_rounding);
    return check_finish();
}
