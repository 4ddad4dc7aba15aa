/* Dense f32 matrix products inside the library: calibration's Hessians, factorizations and weight updates.
 *
 * Every element of the result is the same whatever the number of threads, the instruction set and the place of the
 * element in the matrix: k is cut into blocks of HT_DENSE_DEPTH, counted from 0; within a block products are added with
 * fused multiply-adds in increasing k, starting at 0; block sums are added to c in increasing order. So adding 512 rows
 * to a Hessian at once equals adding 256 and then 256, bit for bit, and 300 does not equal 200 and then 100. */
#ifndef HT_OPS_DENSE_H
#define HT_OPS_DENSE_H

#include <stddef.h>

#include <halftone/context.h>

#include "kernels/dense.h"

/* Element (i, q) is at[i * step + q * step_k]: a row-major matrix has step_k = 1, a transposed one step = 1. */
typedef struct ht_dense_operand {
    const float *at;
    size_t step, step_k;
} ht_dense_operand;

typedef enum ht_dense_part {
    HT_DENSE_ALL,
    HT_DENSE_UPPER /* elements of c with j >= i; the others are not written */
} ht_dense_part;

/* c[i][j] += sum over q < k of a(i, q) * b(j, q), i < m, j < n; with `minus` the sum is subtracted. c is row-major,
 * rows c_stride apart, and overlaps neither a nor b. Any of m, n, k may be 0. */
typedef struct ht_dense_job {
    size_t m, n, k;
    ht_dense_operand a, b;
    float *c;
    size_t c_stride;
    int minus;
    ht_dense_part part;
} ht_dense_job;

/* Memory: (m + n) * HT_DENSE_DEPTH floats for the time of the call. Inside a parallel loop it runs on the thread that
 * calls. Fails with MEMORY; with CANCELLED never. */
ht_status ht_dense_run(ht_context *ctx, const ht_dense_job *job);
/* Bytes of that memory. */
size_t ht_dense_bytes(size_t m, size_t n, size_t k);

/* h += x^T x on the upper triangle: x [rows, cols], rows `stride` floats apart; h [cols, cols]. */
ht_status ht_dense_add_squares(ht_context *ctx, const float *x, size_t rows, size_t cols, size_t stride, float *h);

#endif
