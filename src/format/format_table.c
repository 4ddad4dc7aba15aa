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
