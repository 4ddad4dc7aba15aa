/* Every named format, one row each; the order is that of lists. A new format of a known family is one row here.
 *
 * Bits per value are those of a large matrix. Rows whose name holds <bits> or <group> are patterns: names.c fills in
 * the element width and the group. Source: formats specification, sections 1 to 8; block sizes of GGUF types,
 * section 8.5.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/table.h"

#define PLAIN(dtype)                                                                                                   \
    { .family = HT_FAMILY_PLAIN, .element = dtype, .packing = HT_PACK_BYTES }
#define MX(dtype, pack)                                                                                                \
    { .family = HT_FAMILY_MX, .element = dtype, .scale = HT_E8M0, .block_rows = 1, .block_cols = 32, .packing = pack }
#define FP8(dtype, rows, cols)                                                                                         \
    {                                                                                                                  \
        .family = HT_FAMILY_FLOAT8, .element = dtype, .scale = HT_F32, .block_rows = rows, .block_cols = cols,         \
        .packing = HT_PACK_BYTES                                                                                       \
    }
#define INT(dtype, rows, cols, pack)                                                                                   \
    {                                                                                                                  \
        .family = HT_FAMILY_INT, .element = dtype, .scale = HT_F32, .block_rows = rows, .block_cols = cols,            \
        .packing = pack                                                                                                \
    }
#define CODEBOOK(id, scales, scales2, nest)                                                                            \
    {                                                                                                                  \
        .family = HT_FAMILY_CODEBOOK, .element = HT_U4, .scale = scales, .scale2 = scales2, .block_rows = 1,           \
        .block_cols = 64, .block2 = nest, .packing = HT_PACK_HIGH, .variant = id                                       \
    }
#define MAP(id, dtype, block, pack)                                                                                    \
    {                                                                                                                  \
        .family = HT_FAMILY_MAP, .element = dtype, .scale = HT_F32, .block_rows = 1, .block_cols = block,              \
        .packing = pack, .variant = id                                                                                 \
    }
#define GGUF(id, values, bytes)                                                                                        \
    {                                                                                                                  \
        .family = HT_FAMILY_GGUF, .block_rows = 1, .block_cols = values, .packing = HT_PACK_BLOCK, .variant = id,      \
        .block_bytes = bytes                                                                                           \
    }

const ht_format_row ht_format_rows[] = {
    {{"f32", "IEEE binary32", 32, 1}, PLAIN(HT_F32)},
    {{"bf16", "bfloat16", 16, 1}, PLAIN(HT_BF16)},
    {{"f16", "IEEE binary16", 16, 1}, PLAIN(HT_F16)},

    {{"mxfp8", "OCP MXFP8 e4m3, e8m0 scale per 32", 8.25, 1}, MX(HT_F8_E4M3, HT_PACK_BYTES)},
    {{"mxfp8_e5m2", "OCP MXFP8 e5m2, e8m0 scale per 32", 8.25, 1}, MX(HT_F8_E5M2, HT_PACK_BYTES)},
    {{"mxfp6_e2m3", "OCP MXFP6 e2m3, dense, e8m0 scale per 32", 6.25, 1}, MX(HT_F6_E2M3, HT_PACK_BITS)},
    {{"mxfp6_e3m2", "OCP MXFP6 e3m2, dense, e8m0 scale per 32", 6.25, 1}, MX(HT_F6_E3M2, HT_PACK_BITS)},
    {{"mxfp4", "OCP MXFP4 e2m1, e8m0 scale per 32", 4.25, 1}, MX(HT_F4_E2M1, HT_PACK_LOW)},
    {{"mxint8", "OCP MXINT8 (k/64), e8m0 scale per 32", 8.25, 1}, MX(HT_I8, HT_PACK_BYTES)},

    {{"nvfp4", "NVFP4 e2m1, e4m3 scale per 16, f32 divisor per matrix", 4.5, 1},
     {.family = HT_FAMILY_NVFP4,
      .element = HT_F4_E2M1,
      .scale = HT_F8_E4M3,
      .global = HT_F32,
      .block_rows = 1,
      .block_cols = 16,
      .packing = HT_PACK_LOW,
      .global_rule = HT_GLOBAL_DIVIDES}},
    {{"nvfp4_single", "NVFP4 e2m1, e4m3 scale per 16, no number per matrix", 4.5, 1},
     {.family = HT_FAMILY_NVFP4,
      .element = HT_F4_E2M1,
      .scale = HT_F8_E4M3,
      .block_rows = 1,
      .block_cols = 16,
      .packing = HT_PACK_LOW}},
    {{"nvfp4_tile", "NVFP4 e2m1, e4m3 scale per 16x16 tile, f32 divisor per matrix", 4.03125, 1},
     {.family = HT_FAMILY_NVFP4,
      .element = HT_F4_E2M1,
      .scale = HT_F8_E4M3,
      .global = HT_F32,
      .block_rows = 16,
      .block_cols = 16,
      .packing = HT_PACK_LOW,
      .global_rule = HT_GLOBAL_DIVIDES}},

    {{"fp8_row", "e4m3, f32 scale per row (weights: channel, activations: token)", 8, 1}, FP8(HT_F8_E4M3, 1, 0)},
    {{"fp8_tensor", "e4m3, one f32 scale", 8, 1}, FP8(HT_F8_E4M3, 0, 0)},
    {{"fp8_block", "e4m3, f32 scale per 128x128 tile (weights)", 8.001953125, 1}, FP8(HT_F8_E4M3, 128, 128)},
    {{"fp8_g<group>", "e4m3, f32 scale per group of a row (fp8_g128: activations)", 0, 1}, FP8(HT_F8_E4M3, 1, 128)},
    {{"fp8_e5m2_row", "e5m2, f32 scale per row", 8, 1}, FP8(HT_F8_E5M2, 1, 0)},
    {{"fp8_e5m2_tensor", "e5m2, one f32 scale", 8, 1}, FP8(HT_F8_E5M2, 0, 0)},
    {{"fp8_e5m2_block", "e5m2, f32 scale per 128x128 tile", 8.001953125, 1}, FP8(HT_F8_E5M2, 128, 128)},
    {{"fp8_e5m2_g<group>", "e5m2, f32 scale per group of a row", 0, 1}, FP8(HT_F8_E5M2, 1, 128)},

    {{"int8_row", "int8, f32 scale per row (weights: channel, activations: token)", 8, 1},
     INT(HT_I8, 1, 0, HT_PACK_BYTES)},
    {{"int8_tensor", "int8, one f32 scale", 8, 1}, INT(HT_I8, 0, 0, HT_PACK_BYTES)},
    {{"int<bits>_g<group>", "signed integers, f32 scale per group of a row, 32-bit words", 0, 1},
     INT(HT_I4, 1, 128, HT_PACK_WORDS)},
    {{"int<bits>_row", "signed integers, f32 scale per row, 32-bit words", 0, 1}, INT(HT_I4, 1, 0, HT_PACK_WORDS)},
    {{"int<bits>_tensor", "signed integers, one f32 scale, 32-bit words", 0, 1}, INT(HT_I4, 0, 0, HT_PACK_WORDS)},
    {{"uint<bits>_g<group>", "unsigned integers, f32 scale per group of a row, one a byte", 0, 1},
     INT(HT_U4, 1, 128, HT_PACK_BYTES)},
    {{"uint<bits>_row", "unsigned integers, f32 scale per row, one a byte", 0, 1}, INT(HT_U4, 1, 0, HT_PACK_BYTES)},
    {{"uint<bits>_tensor", "unsigned integers, one f32 scale, one a byte", 0, 1}, INT(HT_U4, 0, 0, HT_PACK_BYTES)},

    {{"nf4", "normal quantiles, 8-bit scale per 64, f32 per 256 scales", 4.126953125, 1},
     CODEBOOK(0, HT_U8, HT_F32, 256)},
    {{"fp4", "4-bit float of bitsandbytes, 8-bit scale per 64, f32 per 256 scales", 4.126953125, 1},
     CODEBOOK(1, HT_U8, HT_F32, 256)},
    {{"nf4_flat", "normal quantiles, f32 scale per 64", 4.5, 1}, CODEBOOK(0, HT_F32, HT_DTYPE_NONE, 0)},
    {{"fp4_flat", "4-bit float of bitsandbytes, f32 scale per 64", 4.5, 1}, CODEBOOK(1, HT_F32, HT_DTYPE_NONE, 0)},
    {{"nf4_torchao", "normal quantiles to 4 digits, f32 scale per 64", 4.5, 1}, CODEBOOK(2, HT_F32, HT_DTYPE_NONE, 0)},

    {{"lut<bits>_g<group>", "16 rows of a group of columns share a table of f16, exact k-means", 0, 1},
     {.family = HT_FAMILY_LUT,
      .element = HT_U4,
      .scale = HT_F16,
      .block_rows = 16,
      .block_cols = 128,
      .packing = HT_PACK_BITS}},

    {{"map8_signed", "8-bit dynamic map, f32 scale per 256 (first moments)", 8.125, 1},
     MAP(0, HT_U8, 256, HT_PACK_BYTES)},
    {{"map8_unsigned", "8-bit dynamic map, f32 scale per 256 (second moments)", 8.125, 1},
     MAP(1, HT_U8, 256, HT_PACK_BYTES)},
    {{"map4_signed", "4-bit dynamic map, f32 scale per 128 (first moments)", 4.25, 1},
     MAP(2, HT_U4, 128, HT_PACK_HIGH)},
    {{"map4_unsigned", "4-bit linear map without zero, f32 scale per 128 (second moments)", 4.25, 1},
     MAP(3, HT_U4, 128, HT_PACK_HIGH)},

    {{"q4_0", "GGUF: 4-bit, f16 scale per 32", 4.5, 1}, GGUF(2, 32, 18)},
    {{"q4_1", "GGUF: 4-bit, f16 scale and minimum per 32", 5, 1}, GGUF(3, 32, 20)},
    {{"q5_0", "GGUF: 5-bit, f16 scale per 32", 5.5, 1}, GGUF(6, 32, 22)},
    {{"q5_1", "GGUF: 5-bit, f16 scale and minimum per 32", 6, 1}, GGUF(7, 32, 24)},
    {{"q8_0", "GGUF: 8-bit, f16 scale per 32", 8.5, 1}, GGUF(8, 32, 34)},
    {{"q8_1", "GGUF: 8-bit, f16 scale and sum per 32 (activations)", 9, 1}, GGUF(9, 32, 36)},
    {{"q2_k", "GGUF: 2-bit, 4-bit scales and minima per 16", 2.625, 1}, GGUF(10, 256, 84)},
    {{"q3_k", "GGUF: 3-bit, 6-bit scales per 16", 3.4375, 1}, GGUF(11, 256, 110)},
    {{"q4_k", "GGUF: 4-bit, 6-bit scales and minima per 32", 4.5, 1}, GGUF(12, 256, 144)},
    {{"q5_k", "GGUF: 5-bit, 6-bit scales and minima per 32", 5.5, 1}, GGUF(13, 256, 176)},
    {{"q6_k", "GGUF: 6-bit, 8-bit scales per 16", 6.5625, 1}, GGUF(14, 256, 210)},
    {{"q8_k", "GGUF: 8-bit, f32 scale per 256 (activations)", 9.125, 1}, GGUF(15, 256, 292)},
    {{"iq1_s", "GGUF: 2048 ternary points of 8 values, scale per 32", 1.5625, 0}, GGUF(19, 256, 50)},
    {{"iq1_m", "GGUF: 2048 ternary points of 8 values, scale per 16", 1.75, 0}, GGUF(29, 256, 56)},
    {{"iq2_xxs", "GGUF: 256 lattice points of 8 values", 2.0625, 0}, GGUF(16, 256, 66)},
    {{"iq2_xs", "GGUF: 512 lattice points of 8 values", 2.3125, 0}, GGUF(17, 256, 74)},
    {{"iq2_s", "GGUF: 1024 lattice points of 8 values", 2.5625, 0}, GGUF(22, 256, 82)},
    {{"iq3_xxs", "GGUF: 256 lattice points of 4 values", 3.0625, 0}, GGUF(18, 256, 98)},
    {{"iq3_s", "GGUF: 512 lattice points of 4 values", 3.4375, 0}, GGUF(21, 256, 110)},
    {{"iq4_nl", "GGUF: 4-bit uneven levels, f16 scale per 32", 4.5, 1}, GGUF(20, 32, 18)},
    {{"iq4_xs", "GGUF: 4-bit uneven levels, 6-bit scales per 32", 4.25, 1}, GGUF(23, 256, 136)},
    {{"tq1_0", "GGUF: ternary, five values a byte, scale per 256", 1.6875, 1}, GGUF(34, 256, 54)},
    {{"tq2_0", "GGUF: ternary, four values a byte, scale per 256", 2.0625, 1}, GGUF(35, 256, 66)},
    {{"q1_0", "GGUF: signs, f16 scale per 128", 1.125, 0}, GGUF(41, 128, 18)},
    {{"q2_0", "GGUF: 2-bit, f16 scale per 64", 2.25, 0}, GGUF(42, 64, 18)},
    {{"gguf_mxfp4", "GGUF: e2m1, e8m0 scale per 32, in blocks", 4.25, 1}, GGUF(39, 32, 17)},
    {{"gguf_nvfp4", "GGUF: e2m1, e4m3 scale per 16, in blocks", 4.5, 1}, GGUF(40, 64, 36)},
};
const size_t ht_format_row_count = sizeof ht_format_rows / sizeof *ht_format_rows;

const ht_format_alias ht_format_aliases[] = {
    {"fp32", "f32"},
    {"float32", "f32"},
    {"bfloat16", "bf16"},
    {"fp16", "f16"},
    {"float16", "f16"},
    {"mxfp8_e4m3", "mxfp8"},
    {"mxfp6", "mxfp6_e2m3"},
    {"mxfp4_e2m1", "mxfp4"},
    {"fp8_e4m3_row", "fp8_row"},
    {"fp8_e4m3_tensor", "fp8_tensor"},
    {"fp8_e4m3_block", "fp8_block"},
    {"fp8_token", "fp8_row"},
    {"fp8_e5m2_token", "fp8_e5m2_row"},
    {"int8_token", "int8_row"},
    {"int<bits>_token", "int<bits>_row"},
    {"uint<bits>_token", "uint<bits>_row"},
};
const size_t ht_format_alias_count = sizeof ht_format_aliases / sizeof *ht_format_aliases;

enum {
    OF_INT = 1 << HT_FAMILY_INT,
    OF_FP8 = 1 << HT_FAMILY_FLOAT8,
    OF_MX = 1 << HT_FAMILY_MX,
    OF_NVFP4 = 1 << HT_FAMILY_NVFP4
};

const ht_format_suffix ht_format_suffixes[] = {
    {"_asym", OF_INT, HT_PART_ZERO, HT_I8},
    {"_float0", OF_INT, HT_PART_ZERO, HT_F32},
    {"_float0_bf16", OF_INT, HT_PART_ZERO, HT_BF16},
    {"_scale_bf16", OF_INT | OF_FP8, HT_PART_SCALE, HT_BF16},
    {"_scale_f16", OF_INT | OF_FP8, HT_PART_SCALE, HT_F16},
    {"_pts", OF_NVFP4, HT_PART_GLOBAL_RULE, HT_GLOBAL_MULTIPLIES},
    {"_bytes", OF_INT | OF_MX | OF_NVFP4, HT_PART_PACKING, HT_PACK_BYTES},
    {"_low", OF_INT, HT_PART_PACKING, HT_PACK_LOW},
    {"_high", OF_INT | OF_MX | OF_NVFP4, HT_PART_PACKING, HT_PACK_HIGH},
    {"_bits", OF_INT, HT_PART_PACKING, HT_PACK_BITS},
    {"_words", OF_INT, HT_PART_PACKING, HT_PACK_WORDS},
};
const size_t ht_format_suffix_count = sizeof ht_format_suffixes / sizeof *ht_format_suffixes;
