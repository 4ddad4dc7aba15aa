/* The dense tile for any machine: fmaf, which the language defines to round once. Where the processor has a fused
 * multiply-add (AArch64) the loops over columns become vector code; elsewhere it is slow and exact.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/dense.h"

#include <math.h> /* fmaf */

void ht_sparse_f32_ref(const float *value, const uint16_t *index, size_t count, const float *b, size_t b_stride,
                       float *c, size_t n) {
    for (size_t q = 0; q < count; q++)
        for (size_t j = 0; j < n; j++)
            c[j] = fmaf(value[q], b[index[q] * b_stride + j], c[j]);
}

void ht_spread_f32_ref(const float *restrict e, const float *f, size_t count, float *restrict t) {
    for (size_t j = 0; j < count; j++, t += HT_DENSE_COLS)
        for (size_t l = 0; l < HT_DENSE_COLS; l++)
            t[l] += e[l] * f[j];
}

void ht_dense_f32_ref(const float *a, const float *b, size_t k, float *c, size_t c_stride) {
    float sum[HT_DENSE_ROWS][HT_DENSE_COLS] = {{0}};
    for (size_t q = 0; q < k; q++)
        for (size_t i = 0; i < HT_DENSE_ROWS; i++)
            for (size_t j = 0; j < HT_DENSE_COLS; j++)
                sum[i][j] = fmaf(a[q * HT_DENSE_ROWS + i], b[q * HT_DENSE_COLS + j], sum[i][j]);
    for (size_t i = 0; i < HT_DENSE_ROWS; i++)
        for (size_t j = 0; j < HT_DENSE_COLS; j++)
            c[i * c_stride + j] += sum[i][j];
}
