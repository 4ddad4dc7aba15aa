/* GPTQ in parts: factor of the Hessian, order of the columns, the walk over columns. gptq.c puts them together. */
#ifndef HT_QUANT_GPTQ_GPTQ_H
#define HT_QUANT_GPTQ_GPTQ_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/recipe.h>

#include "quant/grid/grid.h"
#include "quant/method/matrix.h"
#include "quant/method/prune.h"

/* The method (matrix.h). */
ht_matrix_fn ht_gptq_matrix;
/* Schemes whose weights have a grid; else UNSUPPORTED. */
ht_status ht_gptq_accepts(const ht_scheme *scheme);
/* Most bytes that it allocates for a matrix. */
size_t ht_gptq_bytes(const ht_format *format, const ht_settings *settings, size_t rows, size_t cols, size_t threads);
/* What it wants to know of the inputs. */
unsigned ht_gptq_moments(const ht_settings *settings);

/* --- Factor: gptq_factor.c ------------------------------------------------------------------------------------ */

/* H' = (1 - shrink) H + shrink diag(H) + lambda I = F diag(pivot) F^T with F unit upper triangular, columns in `order`.
 *
 * Then (w - q) H' (w - q)^T = sum over k of pivot_k (t_k - q_k)^2 with t_k = w_k + sum over j < k of (w_j - q_j) F_jk:
 * rounding column after column needs F alone, no inverse. */
typedef struct ht_gptq_factor {
    float *feed;        /* [cols, cols] F, upper triangle; the rest undefined */
    double *pivot;      /* [cols] */
    double damping;     /* lambda relative to the mean of diag H that made it positive definite */
    double mean;        /* of diag H, without columns of zeros, which get it for a diagonal */
    const char *remedy; /* static text when plain damping did not do: what did; else NULL */
} ht_gptq_factor;

/* second: upper triangle [cols, cols], finite; a column whose diagonal is 0 is left alone by all others. damp > 0.
 * Same bits for any threads and instruction set. Fails with MEMORY. */
ht_status ht_gptq_factorize(ht_context *ctx, const float *second, size_t cols, const uint32_t *order, double damp,
                            double shrink, ht_gptq_factor *out);
/* Bytes while it runs, the factor included, and of the factor alone. */
size_t ht_gptq_factorize_bytes(size_t cols);
size_t ht_gptq_factor_bytes(size_t cols);
void ht_gptq_factor_release(ht_context *ctx, ht_gptq_factor *factor);

/* x [rows, cols] (columns in `order`) becomes x H'^-1. Fails with MEMORY. */
ht_status ht_gptq_solve(ht_context *ctx, const ht_gptq_factor *factor, size_t cols, float *x, size_t rows);

/* --- Order: gptq_order.c ------------------------------------------------------------------------------------- */

/* order[position] = column. NONE: as they are. STATIC, DESC_ACT: by decreasing diagonal (stable). GAR: units by their
 * largest diagonal, columns inside a unit likewise, so that units stay together. */
ht_status ht_gptq_order(ht_context *ctx, int order, const float *second, size_t cols, size_t unit, uint32_t *out);

/* --- Columns: gptq_columns.c --------------------------------------------------------------------------------- */

typedef struct ht_gptq_walk {
    ht_context *ctx;
    const ht_grid *grid;
    const ht_gptq_factor *factor; /* sweeps use its feed up */
    const float *weight;          /* [rows, cols], what is to be met */
    const uint32_t *order;        /* position -> column */
    const float *diagonal;        /* [cols] importance of columns, for searched scales */
    int scales;                   /* HT_SCALES_... */
    int together;                 /* units are contiguous in `order`: scales can be chosen when a unit is reached */
    size_t block;                 /* columns of a lazy block */
    const ht_planes *planes;      /* hold a rounding to nearest; get the result */
    ht_sparsity sparsity;         /* share of zeros, chosen on the way (SparseGPT) */
    const float *second;          /* for sweeps: H, upper triangle */
    double shrink;                /* of the factor */
    size_t sweeps;                /* of coordinate descent after the walk */
    const ht_output_curvature *outputs; /* NULL: sweeps take each row alone */
    double fisher;                      /* its share */
    size_t saturated;                   /* out: block scales at the end of their range */
    double loss;                        /* out: sum over rows of (w - q) H' (w - q)^T */
    double extra;                       /* out: that of H' - (1 - shrink) H alone, which is diagonal */
} ht_gptq_walk;

/* Bytes that it takes: grid, scales, together, block, sparsity and sweeps of the walk count. */
size_t ht_gptq_walk_bytes(ht_gptq_walk *walk, size_t threads);
/* Codes into walk->planes. Fails with MEMORY. */
ht_status ht_gptq_walk_columns(ht_gptq_walk *walk);

#endif
