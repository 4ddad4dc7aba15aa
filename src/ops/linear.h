/* Linear layers inside the library: many products in one parallel loop, with scratch that is kept between calls. */
#ifndef HT_OPS_LINEAR_H
#define HT_OPS_LINEAR_H

#include <stddef.h>

#include <halftone/linear.h>

/* Scratch that grows and is kept: for a decoder, allocated at the first call and reused by all later ones. */
typedef struct ht_workspace {
    ht_context *ctx;
    void *memory; /* scratch of the threads */
    size_t bytes;
    void *inputs; /* transformed, quantized-and-decoded inputs */
    size_t input_bytes;
} ht_workspace;

void ht_workspace_init(ht_workspace *workspace, ht_context *ctx);
void ht_workspace_release(ht_workspace *workspace);
/* At least `bytes` for each thread, 64-byte aligned; contents undefined. *stride: from one thread's to the next. */
ht_status ht_workspace_threads(ht_workspace *workspace, size_t bytes, char **out, size_t *stride);

/* One product: y [m, n] = x [m, k] W^T + bias on batch entry `index`. Rows are *_stride floats apart. */
typedef struct ht_linear_job {
    const ht_linear *linear;
    size_t index;
    const float *x;
    size_t m, x_stride;
    float *y;
    size_t y_stride;
} ht_linear_job;

/* Run all jobs; their outputs must not overlap one another or any input. m = 0 is allowed. Jobs with the same x, m and
 * input format share one quantized copy of x when they follow each other. Same bits for any thread count, and a row of
 * y depends on its row of x alone. Fails with MEMORY. */
ht_status ht_linear_run(const ht_linear_job *jobs, size_t count, ht_workspace *workspace);

/* Memory (ht_allocate) that the linear releases when it is destroyed. */
void ht_linear_own(ht_linear *linear, void *memory);

/* Row `row` of batch entry `index` as f32 [cols], read from the packed weight: a tied embedding needs no second copy. 0
 * when the linear is not packed; *out is then untouched. Bits as ht_format_dequantize (a zero has no sign). */
int ht_linear_packed_row(const ht_linear *linear, size_t index, size_t row, float *out);

/* The weight as it is stored; the bias, or NULL. */
const ht_weight *ht_linear_weight(const ht_linear *linear);
const float *ht_linear_bias(const ht_linear *linear);

/* Quantize-and-decode rows of x, by one scale when it is not 0: what a kernel with quantized input would have
 * multiplied. Each row is a matrix of its own (one scale or NVFP4 tensor scale per token, whatever the format's
 * extent), so that rows do not meet. x [m, k], rows x_stride apart; out [m, k] contiguous; not overlapping. */
ht_status ht_quantize_inputs_by(ht_workspace *workspace, const ht_format *format, ht_scale_rule rule, float scale,
                                const float *x, size_t m, size_t k, size_t x_stride, float *out);
/* The same with a scale for every row. */
ht_status ht_quantize_inputs(ht_workspace *workspace, const ht_format *format, ht_scale_rule rule, const float *x,
                             size_t m, size_t k, size_t x_stride, float *out);

#endif
