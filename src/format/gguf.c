/* The GGUF family: the table of block types, and the codec that walks blocks along the rows of a matrix.
 *
 * A row of the matrix is cols / values blocks, one after the other, everything in the codes plane. Types whose numbers
 * mean one plain float per value (f32, f16, bf16) belong to the family PLAIN; ht_gguf_format maps those as well.
 * Refuses: rows that are not whole blocks, types that are read only (as output).
 * Source: the formats specification, section 8.5; docs/formats-gguf.md.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "base/status.h"
#include "format/codec.h"
#include "format/lanes.h"

/* clang-format off */
static const ht_gguf_type types[] = {
    {.id = 2, .name = "q4_0", .values = 32, .bytes = 18, .decode = ht_q4_0_decode, .encode = ht_q4_0_encode},
    {.id = 3, .name = "q4_1", .values = 32, .bytes = 20, .decode = ht_q4_1_decode, .encode = ht_q4_1_encode},
    {.id = 6, .name = "q5_0", .values = 32, .bytes = 22, .decode = ht_q5_0_decode, .encode = ht_q5_0_encode},
    {.id = 7, .name = "q5_1", .values = 32, .bytes = 24, .decode = ht_q5_1_decode, .encode = ht_q5_1_encode},
    {.id = 8, .name = "q8_0", .values = 32, .bytes = 34, .decode = ht_q8_0_decode, .encode = ht_q8_0_encode},
    {.id = 9, .name = "q8_1", .values = 32, .bytes = 36, .decode = ht_q8_1_decode, .encode = ht_q8_1_encode},
    {.id = 10, .name = "q2_k", .values = 256, .bytes = 84, .decode = ht_q2_k_decode, .encode = ht_q2_k_encode},
    {.id = 11, .name = "q3_k", .values = 256, .bytes = 110, .decode = ht_q3_k_decode, .encode = ht_q3_k_encode},
    {.id = 12, .name = "q4_k", .values = 256, .bytes = 144, .decode = ht_q4_k_decode, .encode = ht_q4_k_encode},
    {.id = 13, .name = "q5_k", .values = 256, .bytes = 176, .decode = ht_q5_k_decode, .encode = ht_q5_k_encode},
    {.id = 14, .name = "q6_k", .values = 256, .bytes = 210, .decode = ht_q6_k_decode, .encode = ht_q6_k_encode},
    {.id = 15, .name = "q8_k", .values = 256, .bytes = 292, .decode = ht_q8_k_decode, .encode = ht_q8_k_encode},
    {.id = 16, .name = "iq2_xxs", .values = 256, .bytes = 66, .decode = ht_iq2_xxs_decode},
    {.id = 17, .name = "iq2_xs", .values = 256, .bytes = 74, .decode = ht_iq2_xs_decode},
    {.id = 18, .name = "iq3_xxs", .values = 256, .bytes = 98, .decode = ht_iq3_xxs_decode},
    {.id = 19, .name = "iq1_s", .values = 256, .bytes = 50, .decode = ht_iq1_s_decode},
    {.id = 20, .name = "iq4_nl", .values = 32, .bytes = 18, .decode = ht_iq4_nl_decode, .encode = ht_iq4_nl_encode},
    {.id = 21, .name = "iq3_s", .values = 256, .bytes = 110, .decode = ht_iq3_s_decode},
    {.id = 22, .name = "iq2_s", .values = 256, .bytes = 82, .decode = ht_iq2_s_decode},
    {.id = 23, .name = "iq4_xs", .values = 256, .bytes = 136, .decode = ht_iq4_xs_decode, .encode = ht_iq4_xs_encode},
    {.id = 29, .name = "iq1_m", .values = 256, .bytes = 56, .decode = ht_iq1_m_decode},
    {.id = 34, .name = "tq1_0", .values = 256, .bytes = 54, .decode = ht_tq1_0_decode, .encode = ht_tq1_0_encode},
    {.id = 35, .name = "tq2_0", .values = 256, .bytes = 66, .decode = ht_tq2_0_decode, .encode = ht_tq2_0_encode},
    {.id = 39, .name = "gguf_mxfp4", .values = 32, .bytes = 17, .decode = ht_gguf_mxfp4_decode, .encode = ht_gguf_mxfp4_encode},
    {.id = 40, .name = "gguf_nvfp4", .values = 64, .bytes = 36, .decode = ht_gguf_nvfp4_decode, .encode = ht_gguf_nvfp4_encode},
    {.id = 41, .name = "q1_0", .values = 128, .bytes = 18, .decode = ht_q1_0_decode},
    {.id = 42, .name = "q2_0", .values = 64, .bytes = 18, .decode = ht_q2_0_decode},
};
/* clang-format on */

static const struct {
    uint16_t id;
    ht_dtype dtype;
} plain_types[] = {{0, HT_F32}, {1, HT_F16}, {30, HT_BF16}};

const ht_gguf_type *ht_gguf_type_at(size_t index) {
    return index < sizeof types / sizeof *types ? &types[index] : NULL;
}

const ht_gguf_type *ht_gguf_type_find(uint32_t id) {
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].id == id)
            return &types[i];
    return NULL;
}

ht_format ht_gguf_type_format(const ht_gguf_type *type) {
    return (ht_format){.family = HT_FAMILY_GGUF,
                       .block_rows = 1,
                       .block_cols = type->values,
                       .packing = HT_PACK_BLOCK,
                       .variant = type->id,
                       .block_bytes = type->bytes};
}

ht_status ht_gguf_format(uint32_t id, ht_format *out) {
    const ht_gguf_type *type = ht_gguf_type_find(id);
    if (type) {
        *out = ht_gguf_type_format(type);
        return HT_OK;
    }
    for (size_t i = 0; i < sizeof plain_types / sizeof *plain_types; i++)
        if (plain_types[i].id == id)
            return ht_format_parse(ht_dtype_name(plain_types[i].dtype), out);
    return ht_fail(HT_ERR_FORMAT, "GGUF tensor type %u is not known; known are 0 to 42, see docs/formats-gguf.md",
                   (unsigned)id);
}

int ht_gguf_id(const ht_format *format) {
    if (format->family == HT_FAMILY_GGUF)
        return format->variant;
    for (size_t i = 0; i < sizeof plain_types / sizeof *plain_types; i++)
        if (format->family == HT_FAMILY_PLAIN && format->element == plain_types[i].dtype)
            return plain_types[i].id;
    return -1;
}

/* The row of a format, or NULL with the message set when the format was not made from the table. */
static const ht_gguf_type *type_of(const ht_format *format) {
    const ht_gguf_type *type = ht_gguf_type_find(format->variant);
    if (!type || type->values != format->block_cols || type->bytes != format->block_bytes) {
        ht_fail(HT_ERR_FORMAT, "GGUF type %u with %u values in %u bytes is not known", (unsigned)format->variant,
                (unsigned)format->block_cols, (unsigned)format->block_bytes);
        return NULL;
    }
    return type;
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    const ht_gguf_type *type = type_of(format);
    (void)rows;
    if (!type)
        return HT_ERR_FORMAT;
    if (cols % type->values != 0)
        return ht_fail(HT_ERR_SHAPE, "%s stores blocks of %u values along a row, %zu columns are no multiple",
                       type->name, (unsigned)type->values, cols);
    return HT_OK;
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_gguf_type *type = type_of(format);
    if (!type)
        return HT_ERR_FORMAT;
    if (!type->encode)
        return ht_fail(HT_ERR_FORMAT, "%s can be read, not written: choose another type", type->name);
    size_t blocks = rows * (cols / type->values);
    uint8_t *block = out->plane[HT_PLANE_CODES];
    float values[HT_GGUF_MAX_VALUES];
    for (size_t i = 0; i < blocks; i++) {
        ht_lanes_load(x, x_dtype, i * type->values, type->values, values);
        type->encode(options, values, block + i * type->bytes);
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const ht_gguf_type *type = type_of(format);
    if (!type)
        return HT_ERR_FORMAT;
    size_t blocks = rows * (cols / type->values);
    const uint8_t *block = in->plane[HT_PLANE_CODES];
    for (size_t i = 0; i < blocks; i++)
        type->decode(block + i * type->bytes, out + i * type->values);
    return HT_OK;
}

const ht_codec ht_codec_gguf = {.check_shape = check_shape, .quantize = quantize, .dequantize = dequantize};
