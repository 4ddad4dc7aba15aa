/* Row kernels for any machine: the body as it is. Defines the bits of these operations.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/rows.h"

#include "kernels/body/rows.h"

void ht_rmsnorm_f32_ref(const float *x, const float *weight, size_t n, float epsilon, float *y) {
    rmsnorm_body(x, weight, n, epsilon, y);
}

void ht_rope_f32_ref(float *x, size_t heads, size_t stride, const float *cosine, const float *sine, size_t half) {
    rope_body(x, heads, stride, cosine, sine, half);
}

void ht_gate_f32_ref(const ht_gate_function *rule, const float *gate, const float *up, size_t step, size_t n,
                     float *out) {
    gate_body(rule, gate, up, step, n, out);
}

double ht_softmax_f32_ref(const float *x, size_t n, float floor, float *e, float *max) {
    return softmax_body(x, n, floor, e, max);
}

void ht_softcap_f32_ref(float *x, size_t n, float cap) {
    softcap_body(x, n, cap);
}

void ht_hadamard_f32_ref(float *x, size_t n, size_t runs) {
    hadamard_body(x, n, runs);
}
