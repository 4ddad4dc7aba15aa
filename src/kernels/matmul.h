/* y = x W^T on a stored weight: contracts of decode (stored rows to f32) and of matmul (one rectangle of y). */
#ifndef HT_KERNELS_MATMUL_H
#define HT_KERNELS_MATMUL_H

#include <stddef.h>

#include <halftone/format.h>

#include "kernels/dot.h"

/* Rows [row, row + count) of batch entry `index`, decoded to f32 [count, cols]. row and count are multiples of
 * ht_decode_step, or end at the last row. */
typedef void ht_decode_fn(const ht_weight *weight, size_t index, size_t row, size_t count, float *out);
ht_decode_fn ht_decode_bf16_ref, ht_decode_f32_ref, ht_decode_transposed_ref, ht_decode_nibbles_ref,
    ht_decode_bytes_ref, ht_decode_any_ref;
/* Weights that nibbles and bytes take. */
int ht_decode_is_nibbles(const ht_weight *weight);
int ht_decode_is_bytes(const ht_weight *weight);
int ht_decode_is_bf16(const ht_weight *weight);

/* Rows of a stored weight that can be decoded alone: those of a tile of scales; 1 where every row has its own scale and
 * where one scale serves the whole matrix (which can be read in slices, though not made in slices). */
size_t ht_decode_step(const ht_weight *weight);

/* One product. x [m, cols], y [m, rows] f32, rows of them *_stride floats apart. */
typedef struct ht_matmul {
    const ht_weight *weight;
    size_t index;      /* batch entry */
    const float *bias; /* [rows] or NULL */
    const float *x;
    size_t m, x_stride;
    float *y;
    size_t y_stride;
    ht_decode_fn *decode;
    ht_dot_fn *dot;
} ht_matmul;

/* Columns [n0, n1) of y for all m rows, and nothing else; n0 a multiple of ht_matmul_step.
 * scratch: ht_matmul_scratch bytes, 64-byte aligned. */
typedef void ht_matmul_fn(const ht_matmul *product, size_t n0, size_t n1, void *scratch);
ht_matmul_fn ht_matmul_f32_ref, ht_matmul_bf16_avx2;

/* Outputs that one call is best given: enough work to be worth handing out, few enough to share. */
size_t ht_matmul_step(const ht_weight *weight, size_t m);
size_t ht_matmul_scratch(const ht_weight *weight, size_t m);

#endif
