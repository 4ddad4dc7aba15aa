/* Products of f32 rows: the two inner loops under every matmul and every attention. Contract of all variants. */
#ifndef HT_KERNELS_DOT_H
#define HT_KERNELS_DOT_H

#include <stddef.h>

/* y[i][j] = sum over k of x[i][k] * w[j][k], i < m, j < n. Rows start every *_stride floats; no alignment needed.
 * y must not overlap. The order of each sum is that of kernels.h, for any m and n: one row alone gives the same bits.
 */
typedef void ht_dot_fn(const float *x, size_t m, size_t x_stride, const float *w, size_t n, size_t w_stride, size_t k,
                       float *y, size_t y_stride);
ht_dot_fn ht_dot_f32_ref, ht_dot_f32_avx2, ht_dot_f32_avx512bw;

/* y[i][c] += sum over j in [begin, end) of p[i][j] * v[j][c], i < m, c < d; j increasing, one product added at a time.
 */
typedef void ht_mix_fn(const float *p, size_t m, size_t p_stride, const float *v, size_t v_stride, size_t begin,
                       size_t end, size_t d, float *y, size_t y_stride);
ht_mix_fn ht_mix_f32_ref, ht_mix_f32_avx2, ht_mix_f32_avx512bw;

#endif
