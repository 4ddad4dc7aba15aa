/* The reference rows: one of every operation that runs anywhere. Order within an operation is preference.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/kernels.h"

static int is_transposed(const ht_weight *weight) {
    return weight->transposed;
}

static int is_plain_f32(const ht_weight *weight) {
    return !weight->transposed && weight->format.family == HT_FAMILY_PLAIN && weight->format.element == HT_F32;
}

const ht_kernel_row ht_kernel_rows_ref[] = {
    {.operation = HT_OPERATION_DECODE,
     .name = "transposed_ref",
     .formats = "plain, stored [in, out]",
     .accepts = is_transposed,
     .fn.decode = ht_decode_transposed_ref},
    {.operation = HT_OPERATION_DECODE,
     .name = "bf16_ref",
     .formats = "bf16",
     .accepts = ht_decode_is_bf16,
     .fn.decode = ht_decode_bf16_ref},
    {.operation = HT_OPERATION_DECODE,
     .name = "f32_ref",
     .formats = "f32",
     .accepts = is_plain_f32,
     .fn.decode = ht_decode_f32_ref},
    {.operation = HT_OPERATION_DECODE,
     .name = "nibbles_ref",
     .formats = "mxfp4 nvfp4 int4",
     .accepts = ht_decode_is_nibbles,
     .fn.decode = ht_decode_nibbles_ref},
    {.operation = HT_OPERATION_DECODE,
     .name = "bytes_ref",
     .formats = "mxfp8 mxint8 fp8 int8",
     .accepts = ht_decode_is_bytes,
     .fn.decode = ht_decode_bytes_ref},
    {.operation = HT_OPERATION_DECODE, .name = "any_ref", .formats = "all", .fn.decode = ht_decode_any_ref},
    {.operation = HT_OPERATION_DOT, .name = "f32_ref", .fn.dot = ht_dot_f32_ref},
    {.operation = HT_OPERATION_MIX, .name = "f32_ref", .fn.mix = ht_mix_f32_ref},
    {.operation = HT_OPERATION_MATMUL, .name = "strip_f32_ref", .formats = "all", .fn.matmul = ht_matmul_f32_ref},
    {.operation = HT_OPERATION_FLOATS,
     .name = "bf16_ref",
     .formats = "all but f32",
     .accepts = ht_floats_takes,
     .fn.matmul = ht_floats_ref},
    {.operation = HT_OPERATION_PRODUCT,
     .name = "int8_ref",
     .formats = "packed integers",
     .takes = ht_product_takes_integers,
     .fn.product = ht_product_ref},
    {.operation = HT_OPERATION_QUANTIZE_ROWS, .name = "int8_ref", .fn.quantize_rows = ht_quantize_rows_ref},
    {.operation = HT_OPERATION_PROBE, .name = "f32_ref", .fn.probe = ht_probe_f32_ref},
    {.operation = HT_OPERATION_ATTENTION, .name = "f32_ref", .fn.attention = ht_attention_f32_ref},
    {.operation = HT_OPERATION_RMSNORM, .name = "f32_ref", .fn.rmsnorm = ht_rmsnorm_f32_ref},
    {.operation = HT_OPERATION_ROPE, .name = "f32_ref", .fn.rope = ht_rope_f32_ref},
    {.operation = HT_OPERATION_GATE, .name = "f32_ref", .fn.gate = ht_gate_f32_ref},
    {.operation = HT_OPERATION_SOFTMAX, .name = "f32_ref", .fn.softmax = ht_softmax_f32_ref},
    {.operation = HT_OPERATION_SOFTCAP, .name = "f32_ref", .fn.softcap = ht_softcap_f32_ref},
    {.operation = HT_OPERATION_HADAMARD, .name = "f32_ref", .fn.hadamard = ht_hadamard_f32_ref},
    {.operation = HT_OPERATION_DENSE, .name = "f32_ref", .fn.dense = ht_dense_f32_ref},
    {.operation = HT_OPERATION_SPARSE, .name = "f32_ref", .fn.sparse = ht_sparse_f32_ref},
    {.operation = HT_OPERATION_SPREAD, .name = "f32_ref", .fn.spread = ht_spread_f32_ref},
    {.operation = HT_OPERATION_CAST, .name = "any_ref", .formats = "all", .fn.cast = ht_quantize_ref},
    {.operation = HT_OPERATION_UNCAST, .name = "any_ref", .formats = "all", .fn.uncast = ht_dequantize_ref},
    {.operation = HT_OPERATION_TURN, .name = "any_ref", .fn.turn = ht_turn_ref},
    {.operation = HT_OPERATION_TALLY, .name = "f64_ref", .fn.tally = ht_tally_ref},
    {.operation = HT_OPERATION_RANGE, .name = "any_ref", .fn.range = ht_range_add},
    {.name = NULL},
};
