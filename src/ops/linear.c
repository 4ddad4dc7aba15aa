/* Linear layers on stored weights: making them, and the public call. Running lists of them is linear_run.c.
 *
 * Refuses: shapes that do not fit, dtypes other than f32 and bf16.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h> /* isfinite */

#include "base/context.h"
#include "base/cpu.h"
#include "base/memory.h"
#include "base/status.h"
#include "ops/linear_inside.h"
#include "ops/packed_weight.h"

/* --- creating --------------------------------------------------------------------------------------------- */

static ht_status check_weight(const ht_weight *weight, const ht_linear_options *options) {
    if (!weight->batch || !weight->rows || !weight->cols)
        return ht_fail(HT_ERR_SHAPE, "linear: weight is %zu x [%zu, %zu], no dimension may be 0", weight->batch,
                       weight->rows, weight->cols);
    if (weight->transposed && weight->format.family != HT_FAMILY_PLAIN)
        return ht_fail(HT_ERR_FORMAT, "linear: only plain weights may be stored [inputs, outputs]");
    HT_TRY(ht_format_check_shape(&weight->format, weight->rows, weight->cols));
    HT_TRY(ht_input_transform_check(&weight->inputs, weight->cols));
    if (options && options->input)
        HT_TRY(ht_format_check_shape(options->input, 1, weight->cols));
    if (options && options->input && options->input_scale != 0 &&
        ((options->input->family != HT_FAMILY_INT && options->input->family != HT_FAMILY_FLOAT8) ||
         !(options->input_scale > 0 && isfinite(options->input_scale))))
        return ht_fail(HT_ERR_FORMAT,
                       "linear: one scale of %g for all inputs: above zero and finite, and for integers and 8-bit "
                       "floats alone",
                       (double)options->input_scale);
    return HT_OK;
}

static ht_status pack_if_wanted(ht_context *ctx, ht_linear *linear) {
    const char *why = NULL;
    if (linear->input_scale > 0)
        return HT_OK; /* packed products choose a scale for every row */
    if (!ht_packed_wanted(ctx, &linear->weight, linear->has_input ? &linear->input : NULL, &linear->packed,
                          &linear->span, &why))
        return HT_OK;
    return ht_pack_weight(ctx, &linear->packed, &linear->weight, &linear->panels);
}

/* With fast, where the CPU has a row for it: the reference would be slower than f32. */
static int is_in_bf16(const ht_context *ctx, const ht_weight *weight) {
    const ht_kernel_row *row = ht_kernel_choose(HT_OPERATION_FLOATS, ht_cpu_flags(ctx), weight, 1);
    return ctx->options.compute == HT_COMPUTE_FAST && row && row->needs && !weight->transposed;
}

ht_status ht_linear_from_weight(ht_context *ctx, const ht_weight *weight, const ht_linear_options *options,
                                ht_linear **out) {
    *out = NULL;
    HT_TRY(check_weight(weight, options));
    ht_linear *linear;
    HT_TRY(ht_allocate(ctx, 1, sizeof *linear, "linear layer", &linear));
    linear->ctx = ctx;
    linear->weight = *weight;
    if (options) {
        linear->has_input = options->input != NULL;
        if (options->input)
            linear->input = *options->input;
        linear->input_rule = options->input_rule;
        linear->input_scale = options->input ? options->input_scale : 0;
        linear->bias = options->bias;
    }
    uint32_t flags = ht_cpu_flags(ctx);
    linear->decode = ht_kernel_choose(HT_OPERATION_DECODE, flags, weight, 1)->fn.decode;
    linear->dot = ht_kernel_choose(HT_OPERATION_DOT, flags, NULL, 1)->fn.dot;
    ht_status status = ht_transformer_init(&linear->transformer, ctx, &weight->inputs, weight->cols);
    if (status == HT_OK)
        status = pack_if_wanted(ctx, linear);
    if (status == HT_OK && !linear->panels)
        linear->in_bf16 = is_in_bf16(ctx, weight);
    if (status != HT_OK) {
        ht_transformer_release(&linear->transformer);
        ht_release(ctx, linear);
        return status;
    }
    *out = linear;
    return HT_OK;
}

void ht_linear_destroy(ht_linear *linear) {
    if (!linear)
        return;
    ht_transformer_release(&linear->transformer);
    ht_release(linear->ctx, linear->owned);
    ht_release(linear->ctx, linear->panels);
    ht_release(linear->ctx, linear);
}

void ht_linear_own(ht_linear *linear, void *memory) {
    linear->owned = memory;
}

int ht_linear_packed_row(const ht_linear *linear, size_t index, size_t row, float *out) {
    if (!linear->panels)
        return 0;
    ht_packed_row(&linear->packed, linear->panels + index * linear->packed.bytes, row, out);
    return 1;
}

const ht_weight *ht_linear_weight(const ht_linear *linear) {
    return &linear->weight;
}

const float *ht_linear_bias(const ht_linear *linear) {
    return linear->bias;
}

size_t ht_linear_bytes(const ht_linear *linear) {
    return linear->weight.batch * ht_format_bytes(&linear->weight.format, linear->weight.rows, linear->weight.cols);
}

/* --- the public call -------------------------------------------------------------------------------------- */

static ht_status check_operand(const char *what, const ht_tensor *tensor, size_t rows, size_t cols) {
    if (tensor->rank != 2 || tensor->shape[0] != rows || tensor->shape[1] != cols)
        return ht_fail(HT_ERR_SHAPE, "linear: %s is [%zu, %zu] (rank %u), [%zu, %zu] is needed", what, tensor->shape[0],
                       tensor->rank > 1 ? tensor->shape[1] : 0, tensor->rank, rows, cols);
    if (tensor->dtype != HT_F32 && tensor->dtype != HT_BF16)
        return ht_fail(HT_ERR_UNSUPPORTED, "linear: %s is %s, f32 or bf16 is needed", what,
                       ht_dtype_name(tensor->dtype));
    return HT_OK;
}

ht_status ht_linear_forward_expert(ht_context *ctx, const ht_linear *linear, size_t index, const ht_tensor *x,
                                   ht_tensor *y) {
    const ht_weight *weight = &linear->weight;
    size_t m = x->rank ? x->shape[0] : 0;
    if (index >= weight->batch)
        return ht_fail(HT_ERR_ARGUMENT, "linear: expert %zu asked, there are %zu", index, weight->batch);
    HT_TRY(check_operand("x", x, m, weight->cols));
    HT_TRY(check_operand("y", y, m, weight->rows));
    float *wide_x = NULL, *wide_y = NULL;
    ht_workspace workspace;
    ht_workspace_init(&workspace, ctx);
    ht_status status = HT_OK;
    if (x->dtype == HT_BF16)
        status = ht_allocate_raw(ctx, m * weight->cols, sizeof(float), "linear input", &wide_x);
    if (status == HT_OK && wide_x)
        status = ht_convert(x->data, HT_BF16, wide_x, HT_F32, m * weight->cols);
    if (status == HT_OK && y->dtype == HT_BF16)
        status = ht_allocate_raw(ctx, m * weight->rows, sizeof(float), "linear output", &wide_y);
    ht_linear_job job = {.linear = linear,
                         .index = index,
                         .x = wide_x ? wide_x : x->data,
                         .m = m,
                         .x_stride = weight->cols,
                         .y = wide_y ? wide_y : y->data,
                         .y_stride = weight->rows};
    if (status == HT_OK)
        status = ht_linear_run(&job, 1, &workspace);
    if (status == HT_OK && wide_y)
        status = ht_convert(wide_y, HT_F32, y->data, HT_BF16, m * weight->rows);
    ht_workspace_release(&workspace);
    ht_release(ctx, wide_x);
    ht_release(ctx, wide_y);
    return status;
}

ht_status ht_linear_forward(ht_context *ctx, const ht_linear *linear, const ht_tensor *x, ht_tensor *y) {
    return ht_linear_forward_expert(ctx, linear, 0, x, y);
}
