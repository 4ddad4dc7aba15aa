/* The dense tile with AVX-512: the whole tile at once, 24 sums, two values of b and one of a.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/dense.h"

#include <immintrin.h>

enum { BLOCK_ROWS = 12, BLOCK_LANES = 2, PIECES = 8 };
typedef __m512 lanes;

static inline lanes lanes_load(const float *from) {
    return _mm512_loadu_ps(from);
}
static inline void lanes_store(float *to, lanes x) {
    _mm512_storeu_ps(to, x);
}
static inline lanes lanes_all(float x) {
    return _mm512_set1_ps(x);
}
static inline lanes lanes_zero(void) {
    return _mm512_setzero_ps();
}
static inline lanes lanes_add(lanes a, lanes b) {
    return _mm512_add_ps(a, b);
}
static inline lanes lanes_multiply(lanes a, lanes b) {
    return _mm512_mul_ps(a, b);
}
static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
    return _mm512_fmadd_ps(a, b, c);
}

#include "kernels/body/dense.h"

void ht_dense_f32_avx512(const float *a, const float *b, size_t k, float *c, size_t c_stride) {
    dense_tile(a, b, k, c, c_stride);
}

void ht_sparse_f32_avx512(const float *value, const uint16_t *index, size_t count, const float *b, size_t b_stride,
                          float *c, size_t n) {
    sparse_row(value, index, count, b, b_stride, c, n);
}

void ht_spread_f32_avx512(const float *e, const float *f, size_t count, float *t) {
    spread_row(e, f, count, t);
}
