/* GGUF blocks: every decoder and encoder against stored vectors, and the table. SPDX-License-Identifier: BSD-3-Clause
 */
#include "format/gguf.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/check.h"
#include "support/golden.h"

static const ht_gguf_type *by_name(const char *name) {
    for (size_t i = 0; ht_gguf_type_at(i); i++)
        if (strcmp(ht_gguf_type_at(i)->name, name) == 0)
            return ht_gguf_type_at(i);
    return NULL;
}

/* The upper-case name that the stored files use: q4_k -> Q4_K, gguf_mxfp4 -> MXFP4. */
static const char *stored_name(const ht_gguf_type *type) {
    static char name[16];
    const char *from = strncmp(type->name, "gguf_", 5) == 0 ? type->name + 5 : type->name;
    size_t i = 0;
    for (; from[i] && i + 1 < sizeof name; i++)
        name[i] = (char)toupper((unsigned char)from[i]);
    name[i] = 0;
    return name;
}

/* Decode all stored blocks of a file; returns how many types it had. */
static int compare_decoders(const char *file) {
    golden g = golden_open(file);
    int compared = 0;
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        char name[32];
        snprintf(name, sizeof name, "%s.bytes", stored_name(type));
        const golden_tensor *bytes = golden_maybe(&g, name);
        if (!bytes)
            continue;
        const golden_tensor *value = golden_findf(&g, "%s.value", stored_name(type));
        if (!value || !CHECK_INT(value->elements / type->values, bytes->elements / type->bytes))
            continue;
        compared++;
        float y[HT_GGUF_MAX_VALUES];
        for (size_t b = 0; b < value->elements / type->values; b++) {
            type->decode((const uint8_t *)bytes->data + b * type->bytes, y);
            if (!CHECK_BYTES(y, (const float *)value->data + b * type->values, type->values * sizeof(float)))
                printf("  type %s block %zu\n", type->name, b);
        }
    }
    golden_close(&g);
    return compared;
}

static void test_decoders_stored(void) {
    CHECK_INT(compare_decoders("formats/gguf_decode.safetensors"), 23);
}

static void test_decoders_spec_blocks(void) {
    CHECK_INT(compare_decoders("formats/gguf_spec_blocks.safetensors"), 11);
}

/* Types that the stored vectors lack: blocks written by hand from the layouts. */
static void test_decoders_by_hand(void) {
    uint8_t block[292] = {0x00, 0x3c, 0x00, 0x00}; /* f16 1.0 */
    float y[HT_GGUF_MAX_VALUES];
    for (int i = 0; i < 32; i++)
        block[4 + i] = (uint8_t)(i - 16);
    by_name("q8_1")->decode(block, y);
    for (int i = 0; i < 32; i++)
        CHECK_NEAR(y[i], i - 16, 0);

    uint8_t bits[18] = {0x00, 0x38, 0x01, 0x80}; /* 0.5; value 0 and value 15 positive */
    by_name("q1_0")->decode(bits, y);
    for (int i = 0; i < 128; i++)
        CHECK_NEAR(y[i], i == 0 || i == 15 ? 0.5 : -0.5, 0);

    uint8_t pairs[18] = {0x00, 0x38, 0xe4}; /* 0.5; codes 0 1 2 3, then zeros */
    by_name("q2_0")->decode(pairs, y);
    const float want[5] = {-0.5f, 0, 0.5f, 1, -0.5f};
    CHECK_F32(y, want, 5);

    memset(block, 0, sizeof block);
    block[3] = 0x40; /* f32 2.0 */
    block[4 + 255] = 0x80;
    by_name("q8_k")->decode(block, y);
    CHECK_NEAR(y[254], 0, 0);
    CHECK_NEAR(y[255], -256, 0);
}

static void test_every_scale_byte_of_float_blocks(void) {
    float y[HT_GGUF_MAX_VALUES];
    for (int e = 0; e < 256; e++) {
        uint8_t block[17] = {(uint8_t)e, 0x82}; /* codes 2 (1.0) and 8 */
        by_name("gguf_mxfp4")->decode(block, y);
        CHECK(e == 255 ? isnan(y[0]) : y[0] == ldexpf(1.0f, e - 127));
        CHECK(e == 255 ? isnan(y[16]) : y[16] == 0.0f && !signbit(y[16]));
        uint8_t nv[36] = {(uint8_t)e, 0, 0, 0, 0x02};
        by_name("gguf_nvfp4")->decode(nv, y);
        float want = ht_element_decode(HT_F8_E4M3, (uint32_t)e & 127);
        CHECK((e & 127) == 127 ? isnan(y[0]) : y[0] == want);
    }
}

static void test_encoders_stored(void) {
    golden g = golden_open("formats/gguf_encode.safetensors");
    ht_row_options options = ht_row_options_default();
    options.scale_rule = HT_SCALE_FLOOR; /* the rule of the stored MXFP4 blocks; others do not look at it */
    int compared = 0;
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        char name[32];
        snprintf(name, sizeof name, "%s.x", stored_name(type));
        const golden_tensor *x = golden_maybe(&g, name);
        const golden_tensor *want = x ? golden_findf(&g, "%s.bytes", stored_name(type)) : NULL;
        const golden_tensor *value = x ? golden_findf(&g, "%s.dequant", stored_name(type)) : NULL;
        if (!want || !value)
            continue;
        compared++;
        ht_format format = ht_gguf_type_format(type);
        uint8_t got[4096];
        float y[8 * 256];
        REQUIRE(want->bytes <= sizeof got && x->elements <= 8 * 256);
        ht_planes planes = {{got}};
        size_t rows = golden_rows(x), cols = golden_cols(x);
        REQUIRE_OK(ht_format_quantize(&format, &options, x->data, HT_F32, rows, cols, &planes));
        if (!CHECK_BYTES(got, want->data, want->bytes))
            printf("  type %s\n", type->name);
        REQUIRE_OK(ht_format_dequantize(&format, &planes, rows, cols, y));
        CHECK_BYTES(y, value->data, value->bytes);
    }
    CHECK_INT(compared, 8);
    golden_close(&g);
}

/* --- The table and the codec ------------------------------------------------------------------------------ */

static void test_table(void) {
    unsigned seen[64] = {0};
    for (size_t t = 0; ht_gguf_type_at(t); t++) {
        const ht_gguf_type *type = ht_gguf_type_at(t);
        ht_format format, parsed;
        CHECK(type->decode && type->id < 64 && !seen[type->id]++);
        CHECK(ht_gguf_type_find(type->id) == type);
        CHECK_OK(ht_gguf_format(type->id, &format));
        CHECK_OK(ht_format_parse(type->name, &parsed));
        CHECK(ht_format_equal(&format, &parsed));
        CHECK_INT(ht_gguf_id(&format), type->id);
        char name[32];
        ht_format_name(&format, name, sizeof name);
        CHECK_TEXT(name, type->name);
        CHECK_INT(ht_format_bytes(&format, 3, 512), 3 * 512 / type->values * type->bytes);
        int listed = 0;
        for (size_t i = 0; ht_format_list(i); i++) {
            if (strcmp(ht_format_list(i)->name, type->name) != 0)
                continue;
            listed++;
            CHECK_INT(ht_format_list(i)->has_encoder, type->encode != NULL);
            CHECK_NEAR(ht_format_list(i)->bits_per_value, 8.0 * type->bytes / type->values, 0);
        }
        CHECK_INT(listed, 1);
    }
    ht_format format;
    CHECK_OK(ht_gguf_format(30, &format));
    CHECK(format.family == HT_FAMILY_PLAIN && format.element == HT_BF16);
    CHECK_INT(ht_gguf_id(&format), 30);
    CHECK_FAILS(ht_gguf_format(4, &format), HT_ERR_FORMAT);
    CHECK_CONTAINS(ht_error_message(), "type 4 ");
    CHECK_OK(ht_format_parse("mxfp4", &format));
    CHECK_INT(ht_gguf_id(&format), -1);
}

static void test_codec_refuses(void) {
    ht_format format;
    float x[512] = {0};
    uint8_t bytes[512];
    ht_planes planes = {{bytes}};
    REQUIRE_OK(ht_format_parse("q4_k", &format));
    CHECK_FAILS(ht_format_check_shape(&format, 2, 255), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "q4_k");
    CHECK_CONTAINS(ht_error_message(), "255");
    CHECK_FAILS(ht_format_quantize(&format, NULL, x, HT_F32, 1, 128, &planes), HT_ERR_SHAPE);
    format.block_bytes = 143;
    CHECK_FAILS(ht_format_check_shape(&format, 1, 256), HT_ERR_FORMAT);
    REQUIRE_OK(ht_format_parse("iq2_xxs", &format));
    CHECK_FAILS(ht_format_quantize(&format, NULL, x, HT_F32, 1, 256, &planes), HT_ERR_FORMAT);
    CHECK_CONTAINS(ht_error_message(), "iq2_xxs");
}

int main(void) {
    RUN(test_decoders_stored);
    RUN(test_decoders_spec_blocks);
    RUN(test_decoders_by_hand);
    RUN(test_every_scale_byte_of_float_blocks);
    RUN(test_encoders_stored);
    RUN(test_table);
    RUN(test_codec_refuses);
    return check_finish();
}
