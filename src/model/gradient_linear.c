/* Products of a site's linears on a tape.
 *
 *     y  = x W^T + b        [rows, part]   bias rows, then one dense product per part
 *     dx = dy W             [rows, cols]   sums over the parts
 *     dW = dy^T x           [part, cols]   added up over passes
 *
 * Where the site transforms or quantizes its inputs, x is the copy that the pass kept; dx goes back through the
 * transform (restoring a weight is its transpose), and to x as if it had not been quantized.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* memcpy */

#include "base/status.h"
#include "model/tape.h"
#include "ops/dense.h"

typedef struct bias_rows {
    const float *bias;
    float *y;
    size_t count, width;
} bias_rows;

static void put_bias(void *arg, size_t row, size_t count) {
    const bias_rows *b = arg;
    for (size_t i = row; i < row + count; i++)
        if (b->bias)
            memcpy(b->y + i * b->width, b->bias, b->count * sizeof *b->y);
        else
            memset(b->y + i * b->width, 0, b->count * sizeof *b->y);
}

static size_t offset_of(const ht_tape *tape, ht_site site, size_t part) {
    return ht_block_site(tape->model, tape->block->layer, site)->offset[part];
}

/* The rows that the products of this site read. */
static const float *read_rows(const ht_tape *tape, ht_site site, const float *x, size_t row0, size_t cols) {
    int changed = tape->block->has_input[site] || ht_transformer_is(tape->block->linear[site]->inputs);
    return changed ? tape->input[site] + row0 * cols : x;
}

/* Transform, then quantize. */
static ht_status change_inputs(ht_tape *tape, ht_site site, const ht_dense_linear *linear, const float *x, size_t rows,
                               float *to) {
    const ht_dense_block *block = tape->block;
    size_t cols = linear->cols;
    if (ht_transformer_is(linear->inputs)) {
        HT_TRY(ht_transform_inputs(linear->inputs, linear->entry, x, rows, cols, to));
        x = to;
    }
    if (!block->has_input[site])
        return HT_OK;
    if (x == to) { /* quantizing takes another place */
        memcpy(tape->d_turned, x, rows * cols * sizeof *x);
        x = tape->d_turned;
    }
    return ht_quantize_inputs_by(&tape->model->workspace, &block->input[site], block->input_rule[site],
                                 block->input_scale[site], x, rows, cols, cols, to);
}

/* Gradients of transformed rows, added to those of the rows. */
typedef struct turning {
    const ht_dense_linear *linear;
    float *from, *to;
} turning;

static void turn_back(void *arg, size_t row, size_t count) {
    const turning *t = arg;
    size_t cols = t->linear->cols;
    ht_restore_weights(t->linear->inputs, t->linear->entry, t->from + row * cols, count);
    for (size_t i = row * cols; i < (row + count) * cols; i++)
        t->to[i] += t->from[i];
}

ht_status ht_tape_project(ht_tape *tape, ht_site site, size_t expert, const float *x, size_t row0, size_t rows,
                          float *y, size_t width) {
    const ht_dense_block *block = tape->block;
    size_t cols = ht_dense_linear_at(block, site, expert, 0)->cols;
    HT_TRY(change_inputs(tape, site, ht_dense_linear_at(block, site, expert, 0), x, rows,
                         tape->input[site] + row0 * cols));
    const float *in = read_rows(tape, site, x, row0, cols);
    for (size_t part = 0; part < block->parts[site]; part++) {
        const ht_dense_linear *linear = ht_dense_linear_at(block, site, expert, part);
        float *to = y + offset_of(tape, site, part);
        bias_rows bias = {linear->bias, to, linear->rows, width};
        const ht_dense_job job = {.m = rows,
                                  .n = linear->rows,
                                  .k = cols,
                                  .a = {in, cols, 1},
                                  .b = {linear->weight, cols, 1},
                                  .c = to,
                                  .c_stride = width};
        HT_TRY(ht_for_rows(tape->ctx, rows, put_bias, &bias));
        HT_TRY(ht_dense_run(tape->ctx, &job));
    }
    return HT_OK;
}

ht_status ht_tape_project_back(ht_tape *tape, ht_site site, size_t expert, const float *x, size_t row0, size_t rows,
                               const float *dy, size_t width, float *dx) {
    const ht_dense_block *block = tape->block;
    size_t cols = ht_dense_linear_at(block, site, expert, 0)->cols;
    const float *in = read_rows(tape, site, x, row0, cols);
    turning turn = {ht_dense_linear_at(block, site, expert, 0), tape->d_turned, dx};
    int turned = dx && ht_transformer_is(turn.linear->inputs);
    if (turned) {
        dx = tape->d_turned;
        memset(dx, 0, rows * cols * sizeof *dx);
    }
    for (size_t part = 0; part < block->parts[site]; part++) {
        const ht_dense_linear *linear = ht_dense_linear_at(block, site, expert, part);
        const float *from = dy + offset_of(tape, site, part);
        const ht_dense_job inputs = {.m = rows,
                                     .n = cols,
                                     .k = linear->rows,
                                     .a = {from, width, 1},
                                     .b = {linear->weight, 1, cols},
                                     .c = dx,
                                     .c_stride = cols};
        const ht_dense_job weights = {.m = linear->rows,
                                      .n = cols,
                                      .k = rows,
                                      .a = {from, 1, width},
                                      .b = {in, 1, cols},
                                      .c = linear->gradient,
                                      .c_stride = cols};
        const ht_output_gradient seen = {site, expert, part, from, rows, linear->rows, width};
        if (tape->see && rows)
            HT_TRY(tape->see(tape->see_user, &seen));
        if (dx)
            HT_TRY(ht_dense_run(tape->ctx, &inputs));
        if (linear->gradient)
            HT_TRY(ht_dense_run(tape->ctx, &weights));
    }
    return turned ? ht_for_rows(tape->ctx, rows, turn_back, &turn) : HT_OK;
}
