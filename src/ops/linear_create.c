/* A linear layer made from a float weight: quantized by round-to-nearest under a scheme, in memory of its own.
 *
 * Row slices are quantized in parallel; a format with one scale for all rows takes a batch entry at a time. Refuses
 * what the format refuses (shape, no encoder) and weights that are not f32, bf16 or f16.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/linear.h"

#include <halftone/recipe.h>

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/cast.h"

enum { ALIGN = 64, SLICE_ROWS = 64 };

/* Planes of the whole batch in one piece of memory: every plane holds its batch entries one after the other. */
static ht_status allocate_planes(ht_context *ctx, ht_weight *weight, void **memory) {
    size_t offset[HT_PLANE_COUNT], total = 0;
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        weight->stride[p] = ht_format_plane_bytes(&weight->format, (ht_plane)p, weight->rows, weight->cols);
        offset[p] = total;
        total += (weight->stride[p] * weight->batch + ALIGN - 1) / ALIGN * ALIGN;
    }
    HT_TRY(ht_allocate(ctx, total, 1, "quantized weight", memory));
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        weight->plane[p] = weight->stride[p] ? (char *)*memory + offset[p] : NULL;
    return HT_OK;
}

struct quantize {
    const ht_context *ctx;
    const ht_weight *weight;
    const char *x;
    ht_dtype dtype;
    size_t step, strips;
};

static ht_status quantize_strip(void *arg, size_t task, size_t worker) {
    const struct quantize *q = arg;
    const ht_weight *weight = q->weight;
    (void)worker;
    size_t index = task / q->strips, row = task % q->strips * q->step;
    size_t rows = row + q->step < weight->rows ? q->step : weight->rows - row;
    ht_planes all = ht_weight_planes(weight, index),
              planes = ht_planes_at_row(&weight->format, &all, weight->cols, row);
    size_t at = (index * weight->rows + row) * weight->cols * (ht_dtype_bits(q->dtype) / 8);
    const ht_cast cast = {.format = &weight->format,
                          .x = q->x + at,
                          .x_dtype = q->dtype,
                          .rows = rows,
                          .cols = weight->cols,
                          .planes = &planes};
    return ht_cast_rows(q->ctx, &cast);
}

static ht_status quantize_weight(ht_context *ctx, const ht_weight *weight, const ht_tensor *from) {
    const char *x = from->data;
    size_t values = weight->rows * weight->cols, bytes = values * (ht_dtype_bits(from->dtype) / 8);
    for (size_t i = 0; weight->plane[HT_PLANE_GLOBAL] && i < weight->batch; i++) {
        ht_range range = ht_range_empty();
        ht_row_options options = ht_row_options_default();
        HT_TRY(ht_range_rows(ctx, &range, x + i * bytes, from->dtype, values));
        *(float *)ht_weight_planes(weight, i).plane[HT_PLANE_GLOBAL] =
            ht_format_global(&weight->format, &options, &range);
    }
    size_t step = ht_format_row_step(&weight->format);
    if (step > weight->rows)
        step = weight->rows; /* one scale over all rows, or one block of them */
    else if (step < SLICE_ROWS)
        step = SLICE_ROWS / step * step;
    struct quantize q = {.ctx = ctx, .weight = weight, .x = x, .dtype = from->dtype, .step = step};
    q.strips = (weight->rows + step - 1) / step;
    return ht_parallel_for(ctx, weight->batch * q.strips, quantize_strip, &q);
}

ht_status ht_linear_create(ht_context *ctx, const ht_tensor *weight, const char *scheme,
                           const ht_linear_options *options, ht_linear **out) {
    *out = NULL;
    if (weight->rank != 2 && weight->rank != 3)
        return ht_fail(HT_ERR_SHAPE, "linear: weight has rank %u, 2 ([n, k]) or 3 ([e, n, k]) is needed", weight->rank);
    if (weight->dtype != HT_F32 && weight->dtype != HT_BF16 && weight->dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "linear: weight is %s, f32, bf16 or f16 is needed",
                       ht_dtype_name(weight->dtype));
    ht_scheme wanted;
    HT_TRY(ht_scheme_parse(scheme, &wanted));
    const size_t *shape = weight->shape + (weight->rank == 3);
    ht_weight stored = {
        .format = wanted.weight, .batch = weight->rank == 3 ? weight->shape[0] : 1, .rows = shape[0], .cols = shape[1]};
    ht_linear_options chosen = options ? *options : (ht_linear_options){0};
    if (!chosen.input && wanted.has_input) {
        chosen.input = &wanted.input;
        chosen.input_rule = chosen.input_rule ? chosen.input_rule : wanted.input_rule;
    }
    HT_TRY(ht_format_check_shape(&stored.format, stored.rows, stored.cols));
    void *memory;
    HT_TRY(allocate_planes(ctx, &stored, &memory));
    ht_status status = quantize_weight(ctx, &stored, weight);
    if (status == HT_OK)
        status = ht_linear_from_weight(ctx, &stored, &chosen, out);
    if (status == HT_OK)
        ht_linear_own(*out, memory);
    else
        ht_release(ctx, memory);
    return status;
}
