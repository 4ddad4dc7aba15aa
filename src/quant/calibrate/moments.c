/* Streaming statistics of a linear's inputs.
 *
 *     rows -> block [HT_MOMENTS_BLOCK, cols] -> when full: second += block^T block, per column: sums and ranges
 *
 * A block is copied row by row, so that a row which holds a NaN or an infinity can be left out (and counted) and calls
 * may end anywhere. The depth of a block is a whole number of those of ops/dense.h, in which the order of sums is
 * fixed; sums of columns are f64, rows in order. Source: algorithms specification, sections 1.1, 1.5, 2.1, 2.7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/moments.h"

#include <math.h>   /* INFINITY, fabsf */
#include <string.h> /* memcpy */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/dense.h"

enum { STRIP = 64 }; /* columns of one task */

_Static_assert(HT_MOMENTS_BLOCK % HT_DENSE_DEPTH == 0, "blocks of tokens end where blocks of sums end");

/* --- Memory ------------------------------------------------------------------------------------------------- */

/* The arrays of a struct: where, how many values, of what size, for which statistics. */
typedef struct array_row {
    void *pointer; /* to a member */
    size_t values, size;
    unsigned what; /* any of these */
} array_row;

enum { ARRAYS = 9 };

static void list_arrays(ht_moments *m, size_t cols, array_row list[ARRAYS]) {
    const array_row all[ARRAYS] = {
        {&m->abs_max, cols, sizeof(float), HT_MOMENT_RANGE},
        {&m->min, cols, sizeof(float), HT_MOMENT_RANGE},
        {&m->max, cols, sizeof(float), HT_MOMENT_RANGE},
        {&m->abs_sum, cols, sizeof(double), HT_MOMENT_MEAN},
        {&m->square_sum, cols, sizeof(double), HT_MOMENT_MEAN},
        {&m->second, cols * cols, sizeof(float), HT_MOMENT_SECOND},
        {&m->cross, cols * cols, sizeof(float), HT_MOMENT_CROSS},
        {&m->block, cols * HT_MOMENTS_BLOCK, sizeof(float), ~0u},
        {&m->block_float, cols * HT_MOMENTS_BLOCK, sizeof(float), HT_MOMENT_CROSS},
    };
    memcpy(list, all, sizeof all);
}

size_t ht_moments_bytes(size_t cols, unsigned what) {
    ht_moments none;
    array_row list[ARRAYS];
    size_t bytes = sizeof none;
    list_arrays(&none, cols, list);
    for (size_t i = 0; i < ARRAYS; i++)
        bytes += list[i].what & what || list[i].what == ~0u ? list[i].values * list[i].size : 0;
    bytes += what & HT_MOMENT_HISTOGRAM ? ht_histogram_bytes(1, HT_HISTOGRAM_BINS) : 0;
    bytes += what & HT_MOMENT_COLUMNS ? ht_histogram_bytes(cols, HT_HISTOGRAM_COLUMN_BINS) : 0;
    return bytes;
}

static ht_status allocate(ht_moments *m) {
    array_row list[ARRAYS];
    list_arrays(m, m->cols, list);
    for (size_t i = 0; i < ARRAYS; i++)
        if (list[i].what & m->what || list[i].what == ~0u)
            HT_TRY(ht_allocate(m->ctx, list[i].values, list[i].size, "statistics of inputs", list[i].pointer));
    if (m->what & HT_MOMENT_HISTOGRAM)
        HT_TRY(ht_histogram_create(m->ctx, 1, HT_HISTOGRAM_BINS, &m->histogram));
    if (m->what & HT_MOMENT_COLUMNS)
        HT_TRY(ht_histogram_create(m->ctx, m->cols, HT_HISTOGRAM_COLUMN_BINS, &m->columns));
    return HT_OK;
}

ht_status ht_moments_create(ht_context *ctx, size_t cols, unsigned what, ht_moments **out) {
    *out = NULL;
    ht_moments *m;
    if (cols == 0 || cols > SIZE_MAX / sizeof(float) / HT_MOMENTS_BLOCK / cols)
        return ht_fail(HT_ERR_SHAPE, "statistics of inputs: %zu columns", cols);
    HT_TRY(ht_allocate(ctx, 1, sizeof *m, "statistics of inputs", &m));
    m->ctx = ctx;
    m->what = what;
    m->cols = cols;
    ht_status status = allocate(m);
    if (status != HT_OK) {
        ht_moments_destroy(m);
        return status;
    }
    for (size_t c = 0; m->min && c < cols; c++) {
        m->min[c] = INFINITY;
        m->max[c] = -INFINITY;
    }
    *out = m;
    return HT_OK;
}

void ht_moments_destroy(ht_moments *moments) {
    if (!moments)
        return;
    array_row list[ARRAYS];
    ht_context *ctx = moments->ctx;
    list_arrays(moments, moments->cols, list);
    for (size_t i = 0; i < ARRAYS; i++)
        ht_release(ctx, *(void **)list[i].pointer);
    ht_histogram_destroy(moments->histogram);
    ht_histogram_destroy(moments->columns);
    ht_release(ctx, moments);
}

/* --- A block ------------------------------------------------------------------------------------------------ */

static void add_range(ht_moments *m, const float *row, size_t begin, size_t end) {
    for (size_t c = begin; c < end; c++) {
        float x = row[c], size = fabsf(x);
        m->abs_max[c] = size > m->abs_max[c] ? size : m->abs_max[c];
        m->min[c] = x < m->min[c] ? x : m->min[c];
        m->max[c] = x > m->max[c] ? x : m->max[c];
    }
}

static void add_mean(ht_moments *m, const float *row, size_t begin, size_t end) {
    for (size_t c = begin; c < end; c++) {
        double x = (double)row[c];
        m->abs_sum[c] += fabs(x);
        m->square_sum[c] += x * x;
    }
}

static ht_status add_strip(void *arg, size_t task, size_t worker) {
    ht_moments *m = arg;
    size_t begin = task * STRIP, end = begin + STRIP < m->cols ? begin + STRIP : m->cols;
    (void)worker;
    for (size_t r = 0; r < m->waiting; r++) {
        if (m->what & HT_MOMENT_RANGE)
            add_range(m, m->block + r * m->cols, begin, end);
        if (m->what & HT_MOMENT_MEAN)
            add_mean(m, m->block + r * m->cols, begin, end);
    }
    return HT_OK;
}

/* cross += (x_float - x)^T x */
static ht_status add_cross(ht_moments *m) {
    for (size_t i = 0; i < m->waiting * m->cols; i++)
        m->block_float[i] -= m->block[i];
    const ht_dense_job job = {.m = m->cols,
                              .n = m->cols,
                              .k = m->waiting,
                              .a = {m->block_float, 1, m->cols},
                              .b = {m->block, 1, m->cols},
                              .c = m->cross,
                              .c_stride = m->cols};
    return ht_dense_run(m->ctx, &job);
}

static ht_status add_block(ht_moments *m) {
    if (!m->waiting)
        return HT_OK;
    if (m->what & (HT_MOMENT_RANGE | HT_MOMENT_MEAN))
        HT_TRY(ht_parallel_for(m->ctx, (m->cols + STRIP - 1) / STRIP, add_strip, m));
    if (m->what & HT_MOMENT_SECOND)
        HT_TRY(ht_dense_add_squares(m->ctx, m->block, m->waiting, m->cols, m->cols, m->second));
    if (m->what & HT_MOMENT_HISTOGRAM)
        HT_TRY(ht_histogram_add(m->histogram, m->block, m->waiting, m->cols));
    if (m->what & HT_MOMENT_COLUMNS)
        HT_TRY(ht_histogram_add(m->columns, m->block, m->waiting, m->cols));
    if (m->what & HT_MOMENT_CROSS)
        HT_TRY(add_cross(m));
    m->waiting = 0;
    return HT_OK;
}

/* --- The calls ---------------------------------------------------------------------------------------------- */

static int is_finite_row(const float *x, size_t n) {
    uint32_t bad = 0, bits;
    for (size_t i = 0; i < n; i++) {
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7fffffffu) >= 0x7f800000u;
    }
    return !bad;
}

ht_status ht_moments_add(ht_moments *moments, const float *x, const float *x_float, size_t rows, size_t stride) {
    ht_moments *m = moments;
    int cross = (m->what & HT_MOMENT_CROSS) != 0;
    if (cross != (x_float != NULL))
        return ht_fail(HT_ERR_ARGUMENT, "statistics of inputs: the float model's rows are %s",
                       cross ? "needed" : "not");
    for (size_t r = 0; r < rows; r++) {
        const float *row = x + r * stride, *row_float = cross ? x_float + r * stride : NULL;
        if (!is_finite_row(row, m->cols) || (cross && !is_finite_row(row_float, m->cols))) {
            m->not_finite++;
            continue;
        }
        memcpy(m->block + m->waiting * m->cols, row, m->cols * sizeof *row);
        if (cross)
            memcpy(m->block_float + m->waiting * m->cols, row_float, m->cols * sizeof *row);
        m->tokens++;
        if (++m->waiting == HT_MOMENTS_BLOCK)
            HT_TRY(add_block(m));
    }
    return HT_OK;
}

ht_status ht_moments_finish(ht_moments *moments) {
    return add_block(moments);
}

static void merge_ranges(ht_moments *into, const ht_moments *from) {
    for (size_t c = 0; c < into->cols; c++) {
        into->abs_max[c] = from->abs_max[c] > into->abs_max[c] ? from->abs_max[c] : into->abs_max[c];
        into->min[c] = from->min[c] < into->min[c] ? from->min[c] : into->min[c];
        into->max[c] = from->max[c] > into->max[c] ? from->max[c] : into->max[c];
    }
}

ht_status ht_moments_merge(ht_moments *into, const ht_moments *from) {
    size_t cols = into->cols, what = into->what;
    if (cols != from->cols || what != from->what)
        return ht_fail(HT_ERR_SHAPE, "statistics of inputs: %zu columns (kinds %#x) do not go with %zu (%#x)", cols,
                       into->what, from->cols, from->what);
    if (into->waiting || from->waiting)
        return ht_fail(HT_ERR_ARGUMENT, "statistics of inputs: rows wait to be added; finish both first");
    into->tokens += from->tokens;
    into->not_finite += from->not_finite;
    if (what & HT_MOMENT_RANGE)
        merge_ranges(into, from);
    for (size_t c = 0; what & HT_MOMENT_MEAN && c < cols; c++) {
        into->abs_sum[c] += from->abs_sum[c];
        into->square_sum[c] += from->square_sum[c];
    }
    for (size_t i = 0; what & HT_MOMENT_SECOND && i < cols * cols; i++)
        into->second[i] += from->second[i];
    for (size_t i = 0; what & HT_MOMENT_CROSS && i < cols * cols; i++)
        into->cross[i] += from->cross[i];
    if (what & HT_MOMENT_HISTOGRAM)
        HT_TRY(ht_histogram_merge(into->histogram, from->histogram));
    if (what & HT_MOMENT_COLUMNS)
        HT_TRY(ht_histogram_merge(into->columns, from->columns));
    return HT_OK;
}
