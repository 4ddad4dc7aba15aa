/* The dense tile with AVX2 and FMA: blocks of 6 rows by two registers, 12 sums, two values of b and one of a.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/dense.h"

#include <immintrin.h>

enum { BLOCK_ROWS = 6, BLOCK_LANES = 2, PIECES = 8 };
typedef __m256 lanes;

static inline lanes lanes_load(const float *from) {
    return _mm256_loadu_ps(from);
}
static inline void lanes_store(float *to, lanes x) {
    _mm256_storeu_ps(to, x);
}
static inline lanes lanes_all(float x) {
    return _mm256_set1_ps(x);
}
static inline lanes lanes_zero(void) {
    return _mm256_setzero_ps();
}
static inline lanes lanes_add(lanes a, lanes b) {
    return _mm256_add_ps(a, b);
}
static inline lanes lanes_multiply(lanes a, lanes b) {
    return _mm256_mul_ps(a, b);
}
static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    return _mm256_fmadd_ps(a, b, c);
}

#include "kernels/body/dense.h"

void ht_dense_f32_fma(const float *a, const float *b, size_t k, float *c, size_t c_stride) {
    dense_tile(a, b, k, c, c_stride);
}

void ht_sparse_f32_fma(const float *value, const uint16_t *index, size_t count, const float *b, size_t b_stride,
                       float *c, size_t n) {
    sparse_row(value, index, count, b, b_stride, c, n);
}

void ht_spread_f32_fma(const float *e, const float *f, size_t count, float *t) {
    spread_row(e, f, count, t);
}
