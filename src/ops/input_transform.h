/* Transforms of a linear's input: x' = H(x * scale), and of the weight that goes with them: W' = H(W / scale), row by
 * row, so that x' W'^T = x W^T.
 *
 * H is the orthonormal Hadamard transform of every run of `block` values (format/hadamard.h). Every row is computed
 * alone, in one order: the same bits for any batch, thread count and instruction set. NaN and Inf spread over their
 * run. */
#ifndef HT_OPS_INPUT_TRANSFORM_H
#define HT_OPS_INPUT_TRANSFORM_H

#include <stddef.h>

#include <halftone/context.h>
#include <halftone/format.h>

#include "format/hadamard.h"
#include "kernels/kernels.h"

/* A transform made ready. Zero: none. */
typedef struct ht_transformer {
    ht_context *ctx;
    ht_input_transform how; /* scale is borrowed */
    size_t cols;
    ht_hadamard *table; /* blocks that are no power of two; else NULL */
    ht_hadamard_fn *kernel;
} ht_transformer;

/* HT_OK when rows of `cols` values can be transformed so; else SHAPE with the reason. */
ht_status ht_input_transform_check(const ht_input_transform *transform, size_t cols);

static inline int ht_input_transform_is(const ht_input_transform *transform) {
    return transform->scale || transform->block;
}

/* Fails with SHAPE, MEMORY; then there is nothing to release. */
ht_status ht_transformer_init(ht_transformer *transformer, ht_context *ctx, const ht_input_transform *transform,
                              size_t cols);
void ht_transformer_release(ht_transformer *transformer);
static inline int ht_transformer_is(const ht_transformer *transformer) {
    return ht_input_transform_is(&transformer->how);
}
/* Do entry i of one and entry j of the other make the same of a row? */
int ht_transformer_equal(const ht_transformer *a, size_t i, const ht_transformer *b, size_t j);

/* out [rows, cols] contiguous = transformed x [rows, cols], rows x_stride apart; out may be x. Parallel. */
ht_status ht_transform_inputs(const ht_transformer *transformer, size_t entry, const float *x, size_t rows,
                              size_t x_stride, float *out);

/* In place, rows of a weight: into what is multiplied by transformed inputs, and back. On the calling thread. */
void ht_transform_weights(const ht_transformer *transformer, size_t entry, float *w, size_t rows);
void ht_restore_weights(const ht_transformer *transformer, size_t entry, float *w, size_t rows);

#endif
