/* OpenBLAS as a yardstick of dense products, on one thread. */
#ifndef HT_BENCH_OPENBLAS_H
#define HT_BENCH_OPENBLAS_H

#include <stddef.h>

typedef struct bench_openblas bench_openblas;

/* NULL: this machine has none. */
bench_openblas *bench_openblas_open(void);
void bench_openblas_close(bench_openblas *blas); /* NULL is allowed */

/* c [m, n] = a [m, k] b [k, n]; h [n, n] += x^T x on the upper triangle, x [k, n]. All row-major. */
void bench_openblas_gemm(const bench_openblas *blas, size_t m, size_t n, size_t k, const float *a, const float *b,
                         float *c);
void bench_openblas_syrk(const bench_openblas *blas, size_t n, size_t k, const float *x, float *h);

#endif
