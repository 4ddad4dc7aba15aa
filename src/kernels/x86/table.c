/* Rows for x86-64, best first. The file of a kernel is compiled with the flags it needs (CMakeLists.txt), this one is
 * not.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/kernels.h"

#include "base/cpu.h"

enum {
    AVX512 = HT_CPU_AVX2 | HT_CPU_FMA | HT_CPU_AVX512F | HT_CPU_AVX512BW | HT_CPU_AVX512VL | HT_CPU_AVX512DQ,
    VNNI = AVX512 | HT_CPU_AVX512VBMI | HT_CPU_AVX512VNNI,
    FEW = 8 /* rows of x that are best multiplied while unpacking */
};

static int is_half_or_whole_byte(const ht_packed *packed) {
    return packed->bits == 4 || packed->bits == 8;
}

const ht_kernel_row ht_kernel_rows_arch[] = {
    {.operation = HT_OPERATION_PRODUCT,
     .name = "int8_small_avx512vnni",
     .formats = "packed, 4 and 8 bits, up to 8 rows",
     .takes = is_half_or_whole_byte,
     .needs = VNNI,
     .largest_m = FEW,
     .fn.product = ht_product_small_avx512vnni},
    {.operation = HT_OPERATION_PRODUCT,
     .name = "int8_strip_avx512vnni",
     .formats = "all packed",
     .needs = VNNI,
     .fn.product = ht_product_strip_avx512vnni},
    {.operation = HT_OPERATION_QUANTIZE_ROWS,
     .name = "int8_avx512bw",
     .needs = AVX512,
     .fn.quantize_rows = ht_quantize_rows_avx512bw},
    {.operation = HT_OPERATION_QUANTIZE_ROWS,
     .name = "int8_avx2",
     .needs = HT_CPU_AVX2,
     .fn.quantize_rows = ht_quantize_rows_avx2},
    {.operation = HT_OPERATION_PROBE, .name = "vnni_avx512vnni", .needs = VNNI, .fn.probe = ht_probe_vnni_avx512vnni},
    {.operation = HT_OPERATION_PROBE, .name = "maddubs_avx2", .needs = HT_CPU_AVX2, .fn.probe = ht_probe_maddubs_avx2},
    {.operation = HT_OPERATION_PROBE,
     .name = "fma_avx2",
     .needs = HT_CPU_AVX2 | HT_CPU_FMA,
     .fn.probe = ht_probe_fma_avx2},
    {.operation = HT_OPERATION_DOT, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.dot = ht_dot_f32_avx2},
    {.operation = HT_OPERATION_MIX, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.mix = ht_mix_f32_avx2},
    {.operation = HT_OPERATION_RMSNORM, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.rmsnorm = ht_rmsnorm_f32_avx2},
    {.operation = HT_OPERATION_ROPE, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.rope = ht_rope_f32_avx2},
    {.operation = HT_OPERATION_GATE, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.gate = ht_gate_f32_avx2},
    {.operation = HT_OPERATION_SOFTMAX, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.softmax = ht_softmax_f32_avx2},
    {.operation = HT_OPERATION_SOFTCAP, .name = "f32_avx2", .needs = HT_CPU_AVX2, .fn.softcap = ht_softcap_f32_avx2},
    {.operation = HT_OPERATION_DENSE,
     .name = "f32_avx512",
     .needs = HT_CPU_AVX512F | HT_CPU_FMA,
     .fn.dense = ht_dense_f32_avx512},
    {.operation = HT_OPERATION_DENSE,
     .name = "f32_fma",
     .needs = HT_CPU_AVX2 | HT_CPU_FMA,
     .fn.dense = ht_dense_f32_fma},
    {.name = NULL},
};
