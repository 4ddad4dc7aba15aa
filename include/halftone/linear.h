/* A linear layer on a quantized weight: y = x W^T, with the input quantized on the fly if the scheme says so. */
#ifndef HT_LINEAR_H
#define HT_LINEAR_H

#include <stddef.h>

#include <halftone/context.h>
#include <halftone/format.h>
#include <halftone/status.h>
#include <halftone/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_linear ht_linear;

typedef struct ht_linear_options {
    const ht_format *input;   /* dynamic quantization of x; NULL = the scheme's */
    ht_scale_rule input_rule; /* MX inputs; default RCEIL */
    float input_scale;        /* one scale for all inputs, of INT and FLOAT8; 0 = chosen for every row */
    const float *bias;        /* [rows], of a batched weight [batch, rows]; NULL = none; borrowed */
} ht_linear_options;

/* Quantize a float weight [n, k] (or [e, n, k]) by round-to-nearest under a scheme ("int4", "mxfp4-a8", ...). The
 * result owns its memory. options may be NULL. */
HT_API ht_status ht_linear_create(ht_context *ctx, const ht_tensor *weight, const char *scheme,
                                  const ht_linear_options *options, ht_linear **out);
/* Use a stored weight where it lies (mapped file): planes are borrowed and must outlive the linear. */
HT_API ht_status ht_linear_from_weight(ht_context *ctx, const ht_weight *weight, const ht_linear_options *options,
                                       ht_linear **out);
HT_API void ht_linear_destroy(ht_linear *linear);

/* y [m, n] = x [m, k] W^T (+ bias). x, y: f32 or bf16. Same bits for any thread count, and row i of y depends on
 * row i of x alone: the same bits whatever m is. Scratch from the context. Fails with SHAPE, UNSUPPORTED (dtype),
 * MEMORY. */
HT_API ht_status ht_linear_forward(ht_context *ctx, const ht_linear *linear, const ht_tensor *x, ht_tensor *y);
/* The same on expert `index` of a batched weight. */
HT_API ht_status ht_linear_forward_expert(ht_context *ctx, const ht_linear *linear, size_t index, const ht_tensor *x,
                                          ht_tensor *y);
HT_API size_t ht_linear_bytes(const ht_linear *linear); /* stored size of the weight */

#ifdef __cplusplus
}
#endif
#endif
