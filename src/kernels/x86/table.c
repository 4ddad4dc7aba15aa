/* Rows for x86-64, best first. The file of a kernel is compiled with the flags it needs (CMakeLists.txt), this one is
 * not.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/kernels.h"

#include "base/cpu.h"

const ht_kernel_row ht_kernel_rows_arch[] = {
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
