/* What a worker does with one piece of a tensor.
 *
 * A slice is some rows of one matrix. Its input lies in the mapped file; the planes are made in the worker's buffer and
 * written to their place in the output:
 *
 *     mapped input rows  --method, strip by strip-->  planes of these rows  --pwrite-->  output
 *              \____________ compare _______________/ decoded while they are made
 *
 * The error is summed in f64 by row (the order is kernels/cast.h's), rows in order later: one order, whatever the
 * slices or threads.
 * Matrices stored [inputs, outputs] are turned round in tiles first.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* isfinite */
#include <stdio.h>  /* snprintf */
#include <string.h> /* memcpy */

#include "base/status.h"
#include "format/lanes.h"
#include "ops/cast.h"
#include "quant/decode.h"
#include "quant/driver.h"

enum { ALIGN = 64, STRIP = 8192, SPAN = 1024, TILE = 32 };

static size_t align_up(size_t bytes) {
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t element_bytes(const ht_job *job) {
    return ht_dtype_bits(job->parameter->weight.format.element) / 8;
}

/* A float8 matrix with one scale: given the range of the whole, its rows can be quantized apart. */
static int has_fixed_scale(const ht_job *job) {
    const ht_format *format = &job->layout->format;
    return format->family == HT_FAMILY_FLOAT8 && format->block_rows == 0 && job->row.scale_rule != HT_SCALE_MSE;
}

int ht_slice_needs_range(const ht_job *job) {
    return job->layout->format.global != HT_DTYPE_NONE || has_fixed_scale(job);
}

void ht_slice_prepare(ht_job *job) {
    if (has_fixed_scale(job))
        job->layout->row_step = 1;
}

size_t ht_slice_rows(const ht_job *job, size_t chunk) {
    const ht_layout *layout = job->layout;
    size_t row_bytes = layout->cols * element_bytes(job), step = layout->row_step;
    size_t rows = chunk / row_bytes / step * step;
    if (rows < step)
        rows = step;
    return rows < layout->rows ? rows : layout->rows;
}

/* Rows decoded at a time to be compared. */
static size_t strip_rows(const ht_layout *layout) {
    size_t step = ht_format_decode_step(&layout->format), rows = STRIP / layout->cols / step * step;
    if (rows < step)
        rows = step;
    return rows < layout->rows ? rows : layout->rows;
}

void ht_slice_buffers(const ht_job *job, size_t chunk, size_t *planes, size_t *input, size_t *decoded) {
    const ht_layout *layout = job->layout;
    size_t rows = ht_slice_rows(job, chunk);
    *planes = 0;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        *planes += align_up(ht_format_plane_bytes(&layout->format, (ht_plane)plane, rows, layout->cols));
    *input = job->parameter->weight.transposed ? rows * layout->cols * element_bytes(job) : 0;
    *decoded = strip_rows(layout) * layout->cols * sizeof(float);
}

static ht_planes place_planes(const ht_format *format, size_t rows, size_t cols, uint8_t *memory) {
    ht_planes planes = {{NULL}};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = ht_format_plane_bytes(format, (ht_plane)plane, rows, cols);
        planes.plane[plane] = bytes ? memory : NULL;
        memory += align_up(bytes);
    }
    return planes;
}

/* Rows [row, row + rows) of a matrix stored [cols, all_rows], as [rows, cols]. Tiles keep both sides in the cache. */
static void turn_round(const uint8_t *stored, size_t all_rows, size_t cols, size_t row, size_t rows, size_t size,
                       uint8_t *out) {
    for (size_t r0 = 0; r0 < rows; r0 += TILE)
        for (size_t c0 = 0; c0 < cols; c0 += TILE)
            for (size_t c = c0; c < c0 + TILE && c < cols; c++)
                for (size_t r = r0; r < r0 + TILE && r < rows; r++)
                    memcpy(out + (r * cols + c) * size, stored + (c * all_rows + row + r) * size, size);
}

/* --- Error ------------------------------------------------------------------------------------------------ */

typedef struct row_error {
    double error, reference;
    size_t not_finite, first; /* column of the first value that is not finite */
} row_error;

/* Zero what is not finite, and finite neighbours in a block that decodes to NaN. Returns how many values are not. */
static size_t drop_not_finite(float *x, float *y, size_t n, size_t *first) {
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(x[i]) && !count++)
            *first = i;
        if (!isfinite(x[i]) || !isfinite(y[i]))
            x[i] = y[i] = 0;
    }
    return count;
}

/* A sum of squares of finite f32 values is finite in f64, so the sum itself tells whether all were. Where it is not,
 * spans of the row are summed again without what is not finite. */
static row_error compare_row(ht_tally_fn *tally, const void *x, ht_dtype dtype, size_t at, size_t cols,
                             const float *decoded) {
    const uint8_t *row = (const uint8_t *)x + at * (ht_dtype_bits(dtype) / 8);
    ht_square_sums sums = tally(row, dtype, decoded, cols);
    row_error result = {.error = sums.error, .reference = sums.reference};
    if (isfinite(sums.reference))
        return result;
    result.error = result.reference = 0;
    for (size_t c = 0; c < cols; c += SPAN) {
        float wide[SPAN], mine[SPAN];
        size_t first = 0, n = cols - c < SPAN ? cols - c : SPAN;
        ht_lanes_load(x, dtype, at + c, n, wide);
        memcpy(mine, decoded + c, n * sizeof *mine);
        size_t count = drop_not_finite(wide, mine, n, &first);
        if (count && !result.not_finite)
            result.first = c + first;
        result.not_finite += count;
        sums = tally(wide, HT_F32, mine, n);
        result.error += sums.error;
        result.reference += sums.reference;
    }
    return result;
}

static ht_status not_finite(const ht_run *run, const ht_job *job, size_t entry, size_t row, size_t col, const void *x,
                            ht_dtype dtype, size_t at) {
    float value;
    ht_lanes_load(x, dtype, at, 1, &value);
    char index[96];
    if (job->parameter->rank == 3)
        snprintf(index, sizeof index, "[%zu, %zu, %zu]", entry, row, col);
    else
        snprintf(index, sizeof index, "[%zu, %zu]", row, col);
    return ht_fail(HT_ERR_NUMERIC,
                   "%s: tensor %s holds %s at %s (output, input); repair the checkpoint, keep the tensor, or set the "
                   "option `nan: keep` for its rule",
                   ht_checkpoint_path(run->checkpoint), job->parameter->name,
                   isnan(value) ? "NaN"
                   : value > 0  ? "Inf"
                                : "-Inf",
                   index);
}

/* Tally the error of n rows from row on. x holds the slice's rows alone, decoded these n. */
static ht_status compare_rows(ht_run *run, const ht_item *item, const void *x, size_t row, size_t n,
                              const float *decoded) {
    const ht_job *job = &run->plan->job[item->job];
    const ht_layout *layout = job->layout;
    ht_tally *tally = &run->tally[item->job];
    ht_tally_fn *squares = ht_cast_tally(run->ctx);
    ht_dtype dtype = job->parameter->weight.format.element;
    int keep = job->options.value[HT_OPTION_NAN] == HT_NAN_KEEP;
    for (size_t r = 0; r < n; r++) {
        size_t at = (row + r) * layout->cols, number = (size_t)item->begin + row + r;
        row_error found = compare_row(squares, x, dtype, at, layout->cols, decoded + r * layout->cols);
        if (found.not_finite && !keep)
            return not_finite(run, job, item->entry, number, found.first, x, dtype, at + found.first);
        tally->not_finite += found.not_finite;
        tally->error[item->entry * layout->rows + number] = found.error;
        tally->reference[item->entry * layout->rows + number] = found.reference;
    }
    return HT_OK;
}

/* The rows of a cast, by the job's method. */
static ht_status run_method(ht_run *run, const ht_job *job, const ht_cast *cast) {
    const ht_method *method = job->rule->method;
    if (method->cast_rows)
        return method->cast_rows(run->ctx, cast);
    if (!method->quantize_rows) /* it sees whole matrices with their inputs; here are none: round */
        return ht_cast_rows(run->ctx, cast);
    HT_TRY(method->quantize_rows(cast->format, cast->options, &job->settings, cast->x, cast->x_dtype, cast->rows,
                                 cast->cols, cast->planes));
    return cast->decoded ? ht_format_dequantize(cast->format, cast->planes, cast->rows, cast->cols, cast->decoded)
                         : HT_OK;
}

/* Quantize the rows of `cast` and tally their error, a strip at a time where rows can be quantized apart; otherwise the
 * whole is quantized first and strips are decoded from it. */
static ht_status cast_slice(ht_run *run, const ht_item *item, const ht_cast *cast, float *decoded) {
    const ht_job *job = &run->plan->job[item->job];
    const ht_format *format = cast->format;
    size_t strip = strip_rows(job->layout), rows = cast->rows, bytes = element_bytes(job);
    int apart = strip == job->layout->rows || strip % job->layout->row_step == 0;
    if (!apart)
        HT_TRY(run_method(run, job, cast));
    for (size_t row = 0; row < rows; row += strip) {
        ht_planes here = ht_planes_at_row(format, cast->planes, cast->cols, row);
        ht_cast part = *cast;
        part.x = (const uint8_t *)cast->x + row * cast->cols * bytes;
        part.rows = rows - row < strip ? rows - row : strip;
        part.planes = &here;
        part.decoded = decoded;
        HT_TRY(apart ? run_method(run, job, &part)
                     : ht_format_dequantize(format, &here, part.rows, cast->cols, decoded));
        HT_TRY(compare_rows(run, item, cast->x, row, part.rows, decoded));
    }
    return HT_OK;
}

/* --- Items ------------------------------------------------------------------------------------------------ */

/* First byte of a batch entry in the mapped file. */
static const uint8_t *entry_data(const ht_job *job, size_t entry) {
    const ht_weight *weight = &job->parameter->weight;
    return (const uint8_t *)weight->plane[HT_PLANE_CODES] + entry * weight->stride[HT_PLANE_CODES];
}

/* The item's input rows: where they lie, or turned round in the worker's buffer. */
static const uint8_t *item_input(const ht_run *run, const ht_item *item, size_t worker) {
    const ht_job *job = &run->plan->job[item->job];
    const ht_layout *layout = job->layout;
    const uint8_t *x = entry_data(job, item->entry);
    size_t rows = (size_t)item->count, row = (size_t)item->begin, size = element_bytes(job);
    if (!job->parameter->weight.transposed)
        return x + row * layout->cols * size;
    turn_round(x, layout->rows, layout->cols, row, rows, size, run->scratch[worker].input);
    return run->scratch[worker].input;
}

void ht_slice_global(const ht_run *run, const ht_job *job, size_t entry, const ht_planes *planes) {
    if (!planes->plane[HT_PLANE_GLOBAL])
        return;
    float global = ht_format_global(&job->layout->format, &job->row, &run->range[job->shared][entry]);
    memcpy(planes->plane[HT_PLANE_GLOBAL], &global, sizeof global);
}

ht_status ht_slice_store(ht_run *run, const ht_item *item, const ht_planes *planes, size_t worker) {
    const ht_job *job = &run->plan->job[item->job];
    const ht_layout *layout = job->layout;
    size_t strip = strip_rows(layout), rows = (size_t)item->count;
    const uint8_t *x = item_input(run, item, worker);
    float *decoded = run->scratch[worker].decoded;
    for (size_t row = 0, n; row < rows; row += n) {
        n = rows - row < strip ? rows - row : strip;
        ht_planes here = ht_planes_at_row(&layout->format, planes, layout->cols, row);
        HT_TRY(ht_format_dequantize(&layout->format, &here, n, layout->cols, decoded));
        HT_TRY(compare_rows(run, item, x, row, n, decoded));
    }
    return ht_layout_write(layout, run->writer, job->first, item->entry, (size_t)item->begin, rows, planes);
}

ht_status ht_slice_quantize_into(ht_run *run, const ht_item *item, const ht_planes *planes, size_t worker) {
    const ht_job *job = &run->plan->job[item->job];
    const ht_layout *layout = job->layout;
    ht_row_options how = job->row;
    if (has_fixed_scale(job))
        how.amax_lower = how.amax_upper = run->range[job->shared][item->entry].amax;
    const ht_cast cast = {.format = &layout->format,
                          .options = &how,
                          .x = item_input(run, item, worker),
                          .x_dtype = job->parameter->weight.format.element,
                          .rows = (size_t)item->count,
                          .cols = layout->cols,
                          .planes = planes};
    HT_TRY(cast_slice(run, item, &cast, run->scratch[worker].decoded));
    return ht_layout_write(layout, run->writer, job->first, item->entry, (size_t)item->begin, (size_t)item->count,
                           planes);
}

ht_status ht_slice_quantize(ht_run *run, const ht_item *item, size_t worker) {
    const ht_job *job = &run->plan->job[item->job];
    ht_planes planes =
        place_planes(&job->layout->format, (size_t)item->count, job->layout->cols, run->scratch[worker].planes);
    ht_slice_global(run, job, item->entry, &planes);
    return ht_slice_quantize_into(run, item, &planes, worker);
}

ht_status ht_slice_copy(ht_run *run, const ht_item *item) {
    const ht_job *job = &run->plan->job[item->job];
    const ht_stored_tensor *stored = ht_checkpoint_tensor(run->checkpoint, job->parameter->stored[item->entry]);
    return ht_checkpoint_writer_write(run->writer, job->first + item->entry, item->begin,
                                      (const uint8_t *)stored->data + item->begin, (size_t)item->count);
}

ht_status ht_slice_range(ht_run *run, const ht_item *item, ht_range *out) {
    const ht_job *job = &run->plan->job[item->job];
    size_t size = element_bytes(job), cols = job->layout->cols;
    const uint8_t *x = entry_data(job, item->entry) + (size_t)item->begin * cols * size; /* order does not matter */
    *out = ht_range_empty();
    return ht_range_rows(run->ctx, out, x, job->parameter->weight.format.element, (size_t)item->count * cols);
}
