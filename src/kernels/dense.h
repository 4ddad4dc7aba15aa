/* Dense f32 products on packed panels: the inner tile under every matrix product of calibration (ops/dense.h). Contract
 * of all variants.
 *
 *     a   [k, HT_DENSE_ROWS]   one step of k after the other: HT_DENSE_ROWS values of the left matrix
 *     b   [k, HT_DENSE_COLS]   likewise, of the right matrix
 *     c   [HT_DENSE_ROWS, c_stride]
 *
 *     c[i][j] += sum over q < k of a[q][i] * b[q][j]
 *
 * Unlike the other kernels (kernels.h) this one multiplies and adds fused, because that doubles its rate. The order is
 * fixed all the same, so every variant gives the same bits: the sum starts at +0, takes q = 0, 1, ..., k - 1 in order
 * with one fused multiply-add each, and is then added to c with one rounding. Which instruction set computes it, and
 * where the tile lies in the matrix, do not enter. NaN payloads are not specified. */
#ifndef HT_KERNELS_DENSE_H
#define HT_KERNELS_DENSE_H

#include <stddef.h>
#include <stdint.h>

enum {
    HT_DENSE_ROWS = 12,
    HT_DENSE_COLS = 32,
    HT_DENSE_DEPTH = 256 /* ops/dense.h hands over at most so many steps at a time: the unit of summation */
};

typedef void ht_dense_fn(const float *a, const float *b, size_t k, float *c, size_t c_stride);
ht_dense_fn ht_dense_f32_ref, ht_dense_f32_fma, ht_dense_f32_avx512;

/* A row of a product whose left matrix is mostly zero: `count` values and the rows of b [.., n] they belong to.
 *
 *     c[j] += value[q] * b[index[q]][j],  q = 0, 1, ..., count - 1, one fused multiply-add each, from c on
 */
typedef void ht_sparse_fn(const float *value, const uint16_t *index, size_t count, const float *b, size_t b_stride,
                          float *c, size_t n);
ht_sparse_fn ht_sparse_f32_ref, ht_sparse_f32_fma, ht_sparse_f32_avx512;

/* What a row of a tile tells the rows after it, t [count, HT_DENSE_COLS]:
 *
 *     t[j][l] += e[l] * f[j],  j < count, l < HT_DENSE_COLS, the product rounded, then the sum: not fused
 */
typedef void ht_spread_fn(const float *e, const float *f, size_t count, float *t);
ht_spread_fn ht_spread_f32_ref, ht_spread_f32_fma, ht_spread_f32_avx512;

#endif
