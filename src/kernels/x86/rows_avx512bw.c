/* The row kernels that are arithmetic rather than memory, with AVX-512: the same body compiled for it. Same operations
 * in the same order, same bits.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/rows.h"

#include "kernels/body/rows.h"

void ht_gate_f32_avx512bw(const ht_gate_function *rule, const float *gate, const float *up, size_t step, size_t n,
                          float *out) {
    gate_body(rule, gate, up, step, n, out);
}

double ht_softmax_f32_avx512bw(const float *x, size_t n, float floor, float *e, float *max) {
    return softmax_body(x, n, floor, e, max);
}

void ht_softcap_f32_avx512bw(float *x, size_t n, float cap) {
    softcap_body(x, n, cap);
}
