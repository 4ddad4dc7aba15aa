/* Statistics of the inputs of a linear, gathered while text runs through the model: O(features) or O(features^2), never
 * O(tokens).
 *
 * Rows are taken in order into blocks of HT_MOMENTS_BLOCK tokens, counted from the first token; a full block is added
 * in one product. So the result depends on the sequence of tokens alone: not on how calls split it, on threads or on
 * the instruction set. 2-D inputs, batches and groups of rows (experts) all come down to ht_moments_add. Source:
 * algorithms specification, sections 1.1, 2.1, 2.7. */
#ifndef HT_QUANT_CALIBRATE_MOMENTS_H
#define HT_QUANT_CALIBRATE_MOMENTS_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

#include "quant/calibrate/histogram.h"

enum { HT_MOMENTS_BLOCK = 256 };

typedef enum ht_moment {
    HT_MOMENT_RANGE = 1 << 0,     /* abs_max, min, max */
    HT_MOMENT_MEAN = 1 << 1,      /* abs_sum, square_sum */
    HT_MOMENT_SECOND = 1 << 2,    /* second */
    HT_MOMENT_CROSS = 1 << 3,     /* cross: needs the float model's inputs beside the quantized model's */
    HT_MOMENT_HISTOGRAM = 1 << 4, /* histogram: of all values together */
    HT_MOMENT_COLUMNS = 1 << 5    /* columns: a histogram of each column */
} ht_moment;

typedef struct ht_moments {
    ht_context *ctx;
    unsigned what; /* of ht_moment */
    size_t cols;
    uint64_t tokens;
    uint64_t not_finite;          /* rows left out because of a NaN or Inf */
    float *abs_max, *min, *max;   /* [cols] */
    double *abs_sum, *square_sum; /* [cols] sum |x|, sum x^2 */
    float *second;                /* [cols, cols] sum x x^T, row-major; only j >= i is meant, the rest is zero */
    float *cross;                 /* [cols, cols] sum (x_float - x)^T x, row-major, whole (GPTAQ, section 1.5) */
    ht_histogram *histogram;      /* one line */
    ht_histogram *columns;        /* [cols] lines */
    float *block, *block_float;   /* [HT_MOMENTS_BLOCK, cols] rows not yet added */
    size_t waiting;
} ht_moments;

ht_status ht_moments_create(ht_context *ctx, size_t cols, unsigned what, ht_moments **out);
void ht_moments_destroy(ht_moments *moments); /* NULL is allowed */
/* Rows of x [rows, cols], stride floats apart; x_float the same rows in the float model (CROSS only; else NULL). */
ht_status ht_moments_add(ht_moments *moments, const float *x, const float *x_float, size_t rows, size_t stride);
/* Add what waits. Needed before anything is read; rows may be added afterwards (a new block begins). */
ht_status ht_moments_finish(ht_moments *moments);
/* into += from (both finished, same cols and what): statistics of separate runs. */
ht_status ht_moments_merge(ht_moments *into, const ht_moments *from);
/* Bytes that one takes. */
size_t ht_moments_bytes(size_t cols, unsigned what);

#endif
