/* Casts: fill in options, choose the kernel, run it; whole matrices in slices of rows, one parallel loop. What a kernel
 * does not take goes to the reference, which is the format layer and refuses what cannot be done.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/cast.h"

#include <halftone/cast.h>

#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"

enum { SLICE = 128 * 1024, PAST_CACHES = 32 * 1024 * 1024 };

ht_quantize_fn *ht_cast_choose(const ht_context *ctx, ht_cast *cast, ht_row_options *filled) {
    *filled = cast->options ? *cast->options : ht_row_options_default();
    if (filled->arithmetic == HT_DTYPE_NONE)
        filled->arithmetic = HT_F32;
    cast->options = filled;
    return ht_kernel_choose_cast(ht_cpu_flags(ctx), cast)->fn.cast;
}

ht_status ht_cast_rows(const ht_context *ctx, const ht_cast *cast) {
    ht_row_options options;
    ht_cast filled = *cast;
    return ht_cast_choose(ctx, &filled, &options)(&filled);
}

ht_tally_fn *ht_cast_tally(const ht_context *ctx) {
    return ht_kernel_choose(HT_OPERATION_TALLY, ht_cpu_flags(ctx), NULL, 1)->fn.tally;
}

ht_status ht_range_rows(const ht_context *ctx, ht_range *range, const void *x, ht_dtype dtype, size_t count) {
    return ht_kernel_choose(HT_OPERATION_RANGE, ht_cpu_flags(ctx), NULL, 1)->fn.range(range, x, dtype, count);
}

/* Rows that can be decoded alone. */
static size_t decode_step(const ht_format *format) {
    size_t step = ht_format_row_step(format);
    return step == SIZE_MAX ? 1 : step;
}

/* By the reference, a few rows at a time in f32, then rounded. */
static ht_status uncast_to_half(ht_context *ctx, const ht_uncast *uncast) {
    size_t step = decode_step(uncast->format), rows = uncast->rows < step ? uncast->rows : step;
    float *values;
    HT_TRY(ht_allocate(ctx, rows * uncast->cols, sizeof *values, "decoded rows", &values));
    ht_status status = HT_OK;
    for (size_t row = 0; row < uncast->rows && status == HT_OK; row += step) {
        size_t n = uncast->rows - row < step ? uncast->rows - row : step;
        ht_planes here = ht_planes_at_row(uncast->format, uncast->planes, uncast->cols, row);
        status = ht_format_dequantize(uncast->format, &here, n, uncast->cols, values);
        if (status == HT_OK)
            status = ht_convert(values, HT_F32, (uint16_t *)uncast->y + row * uncast->cols, HT_BF16, n * uncast->cols);
    }
    ht_release(ctx, values);
    return status;
}

ht_status ht_uncast_rows(ht_context *ctx, const ht_uncast *uncast) {
    if (uncast->y_dtype != HT_F32 && uncast->y_dtype != HT_BF16)
        return ht_fail(HT_ERR_UNSUPPORTED, "dequantize: %s is asked for; f32 or bf16 can be had",
                       ht_dtype_name(uncast->y_dtype));
    const ht_kernel_row *row = ht_kernel_choose_uncast(ht_cpu_flags(ctx), uncast);
    if (!row->uncasts && uncast->y_dtype == HT_BF16)
        return uncast_to_half(ctx, uncast);
    return row->fn.uncast(uncast);
}

/* --- Matrices ------------------------------------------------------------------------------------------------- */

/* Rows of a slice of about SLICE values. */
static size_t slice_rows(size_t step, size_t rows, size_t cols) {
    if (step >= rows)
        return rows;
    size_t count = SLICE / cols / step * step;
    return count < step ? step : count < rows ? count : rows;
}

typedef struct matrix {
    ht_context *ctx;
    ht_cast cast;
    ht_uncast uncast;
    size_t slice;
} matrix;

static ht_status cast_work(void *arg, size_t index, size_t worker) {
    (void)worker;
    const matrix *m = arg;
    ht_cast part = m->cast;
    size_t row = index * m->slice, rows = part.rows - row < m->slice ? part.rows - row : m->slice;
    ht_planes here = ht_planes_at_row(part.format, part.planes, part.cols, row);
    part.x = (const char *)part.x + row * part.cols * (ht_dtype_bits(part.x_dtype) / 8);
    part.planes = &here;
    part.rows = rows;
    return ht_cast_rows(m->ctx, &part);
}

ht_status ht_quantize_matrix(ht_context *ctx, const ht_format *format, const ht_row_options *options, const void *x,
                             ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out) {
    if (!rows || !cols)
        return ht_format_quantize(format, options, x, x_dtype, rows, cols, out);
    HT_TRY(ht_format_check_shape(format, rows, cols));
    size_t bytes = rows * cols * (ht_dtype_bits(x_dtype) / 8) + ht_format_bytes(format, rows, cols);
    matrix m = {.ctx = ctx,
                .cast = {.format = format,
                         .options = options,
                         .x = x,
                         .x_dtype = x_dtype,
                         .rows = rows,
                         .cols = cols,
                         .planes = out,
                         .streams = bytes > PAST_CACHES},
                .slice = slice_rows(ht_format_row_step(format), rows, cols)};
    return ht_parallel_for(ctx, (rows + m.slice - 1) / m.slice, cast_work, &m);
}

static ht_status uncast_work(void *arg, size_t index, size_t worker) {
    (void)worker;
    const matrix *m = arg;
    ht_uncast part = m->uncast;
    size_t row = index * m->slice, rows = part.rows - row < m->slice ? part.rows - row : m->slice;
    ht_planes here = ht_planes_at_row(part.format, part.planes, part.cols, row);
    part.y = (char *)part.y + row * part.cols * (ht_dtype_bits(part.y_dtype) / 8);
    part.planes = &here;
    part.rows = rows;
    return ht_uncast_rows(m->ctx, &part);
}

ht_status ht_dequantize_matrix(ht_context *ctx, const ht_format *format, const ht_planes *in, size_t rows, size_t cols,
                               void *out, ht_dtype out_dtype) {
    if (!rows || !cols)
        return ht_format_dequantize(format, in, rows, cols, out);
    HT_TRY(ht_format_check_shape(format, rows, cols));
    size_t bytes = rows * cols * (ht_dtype_bits(out_dtype) / 8) + ht_format_bytes(format, rows, cols);
    matrix m = {.ctx = ctx,
                .uncast = {.format = format,
                           .planes = in,
                           .rows = rows,
                           .cols = cols,
                           .y = out,
                           .y_dtype = out_dtype,
                           .streams = bytes > PAST_CACHES},
                .slice = slice_rows(decode_step(format), rows, cols)};
    return ht_parallel_for(ctx, (rows + m.slice - 1) / m.slice, uncast_work, &m);
}
