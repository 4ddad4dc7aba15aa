/* Dynamic quantization of activations, as values: each row of x is quantized to the scheme's input format and decoded
 * again, so that a product in f32 gives what a kernel on the codes would give up to summation order.
 *
 * Every row is quantized as a matrix [1, k] of its own. A format whose scale spans "the whole extent" (fp8_tensor,
 * the NVFP4 tensor scale) thereby has one scale per token: results never depend on what else is in the batch
 * (design specification, section 5). MX scales use RCEIL unless asked otherwise, there too.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/linear.h"

#include <stdint.h> /* uintptr_t */

#include "base/pool.h"
#include "base/status.h"
#include "ops/cast.h"

enum { ROWS_EACH = 8, ALIGN = 64 };

struct inputs {
    const ht_context *ctx;
    const ht_format *format;
    ht_row_options options;
    const float *x;
    size_t m, k, x_stride;
    float *out;
    char *scratch;
    size_t scratch_stride;
};

static size_t planes_bytes(const ht_format *format, size_t k) {
    size_t total = 0;
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        total += (ht_format_plane_bytes(format, (ht_plane)p, 1, k) + ALIGN - 1) / ALIGN * ALIGN;
    return total;
}

static ht_planes lay_planes(const ht_format *format, size_t k, char *memory) {
    ht_planes planes = {{NULL}};
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(format, (ht_plane)p, 1, k);
        planes.plane[p] = bytes ? memory : NULL;
        memory += (bytes + ALIGN - 1) / ALIGN * ALIGN;
    }
    return planes;
}

static ht_status quantize_rows(void *arg, size_t task, size_t worker) {
    const struct inputs *in = arg;
    ht_planes planes = lay_planes(in->format, in->k, in->scratch + worker * in->scratch_stride);
    size_t end = (task + 1) * ROWS_EACH < in->m ? (task + 1) * ROWS_EACH : in->m;
    for (size_t i = task * ROWS_EACH; i < end; i++) {
        const float *x = in->x + i * in->x_stride;
        if (planes.plane[HT_PLANE_GLOBAL]) {
            ht_range range = ht_range_empty();
            HT_TRY(ht_range_rows(in->ctx, &range, x, HT_F32, in->k));
            *(float *)planes.plane[HT_PLANE_GLOBAL] = ht_format_global(in->format, &in->options, &range);
        }
        const ht_cast cast = {.format = in->format,
                              .options = &in->options,
                              .x = x,
                              .x_dtype = HT_F32,
                              .rows = 1,
                              .cols = in->k,
                              .planes = &planes,
                              .decoded = in->out + i * in->k};
        HT_TRY(ht_cast_rows(in->ctx, &cast));
    }
    return HT_OK;
}

ht_status ht_quantize_inputs_by(ht_workspace *workspace, const ht_format *format, ht_scale_rule rule, float scale,
                                const float *x, size_t m, size_t k, size_t x_stride, float *out) {
    ht_format row = *format;
    if (row.block_rows > 1) /* a tile of rows would mix tokens */
        row.block_rows = 1;
    struct inputs in = {.ctx = workspace->ctx,
                        .format = &row,
                        .options = ht_row_options_default(),
                        .x = x,
                        .m = m,
                        .k = k,
                        .x_stride = x_stride,
                        .out = out};
    in.options.scale_rule = rule == HT_SCALE_DEFAULT && row.family == HT_FAMILY_MX ? HT_SCALE_RCEIL : rule;
    in.options.scale = scale;
    HT_TRY(ht_workspace_threads(workspace, planes_bytes(&row, k), &in.scratch, &in.scratch_stride));
    return ht_parallel_for(workspace->ctx, (m + ROWS_EACH - 1) / ROWS_EACH, quantize_rows, &in);
}

ht_status ht_quantize_inputs(ht_workspace *workspace, const ht_format *format, ht_scale_rule rule, const float *x,
                             size_t m, size_t k, size_t x_stride, float *out) {
    return ht_quantize_inputs_by(workspace, format, rule, 0, x, m, k, x_stride, out);
}
