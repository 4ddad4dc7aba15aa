/* Element-wise work on rows of f32: norms, positions, activations, softmax. Contracts of all variants.
 *
 * exp is our own (body/rows.h): within 2 units in the last place on [-87.3, 88.3], 0 below, infinity above, NaN stays
 * NaN; made of additions and multiplications alone, so it has the same bits everywhere. */
#ifndef HT_KERNELS_ROWS_H
#define HT_KERNELS_ROWS_H

#include <stddef.h>

/* y = x / sqrt(mean(x^2) + epsilon) * weight, n values. y may be x. Source: Zhang and Sennrich 2019, equation 4. */
typedef void ht_rmsnorm_fn(const float *x, const float *weight, size_t n, float epsilon, float *y);
ht_rmsnorm_fn ht_rmsnorm_f32_ref, ht_rmsnorm_f32_avx2;

/* Rotate `heads` vectors (stride floats apart) in place: the pair (x[c], x[c + half]) by the angle whose cosine and
 * sine are cosine[c], sine[c], c < half. Values from 2 * half on stay. Source: Su et al. 2021, in the half-split
 * layout. */
typedef void ht_rope_fn(float *x, size_t heads, size_t stride, const float *cosine, const float *sine, size_t half);
ht_rope_fn ht_rope_f32_ref, ht_rope_f32_avx2;

typedef enum ht_gate_rule {
    HT_GATE_SILU,      /* g / (1 + exp(-g)) * u */
    HT_GATE_GELU_TANH, /* gelu(g) in the tanh form, times u */
    HT_GATE_CLAMPED    /* g = min(g, limit), u in [-limit, limit]: g / (1 + exp(-alpha g)) * (u + 1) */
} ht_gate_rule;

typedef struct ht_gate_function {
    ht_gate_rule rule;
    float alpha, limit; /* CLAMPED only */
} ht_gate_function;

/* out[i] = rule(gate[i * step], up[i * step]), i < n. out may not overlap. */
typedef void ht_gate_fn(const ht_gate_function *rule, const float *gate, const float *up, size_t step, size_t n,
                        float *out);
ht_gate_fn ht_gate_f32_ref, ht_gate_f32_avx2, ht_gate_f32_avx512bw;

/* e[i] = exp(x[i] - *max), *max the largest x (at least `floor`: an extra logit, or -INFINITY); returns the sum of e.
 * e may be x. A NaN in x gives a NaN sum. n may be 0. */
typedef double ht_softmax_fn(const float *x, size_t n, float floor, float *e, float *max);
ht_softmax_fn ht_softmax_f32_ref, ht_softmax_f32_avx2, ht_softmax_f32_avx512bw;

/* The orthonormal Walsh-Hadamard transform (natural order) of each of `runs` runs of n values, n a power of two, in
 * place: butterflies by doubling distance in f32, then one product with 1 / sqrt(n) in f64. */
typedef void ht_hadamard_fn(float *x, size_t n, size_t runs);
ht_hadamard_fn ht_hadamard_f32_ref, ht_hadamard_f32_avx2;

/* x = cap * tanh(x / cap), in place. */
typedef void ht_softcap_fn(float *x, size_t n, float cap);
ht_softcap_fn ht_softcap_f32_ref, ht_softcap_f32_avx2, ht_softcap_f32_avx512bw;

#endif
