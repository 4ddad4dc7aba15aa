/* Products of a site's linears on a tape.
 *
 *     y  = x W^T + b        [rows, part]   += bias rows, then one dense product per part
 *     dx = dy W             [rows, cols]   sums over the parts
 *     dW = dy^T x           [part, cols]   added up over passes
 *
 * Where the site quantizes its inputs, x is the quantized copy that the pass kept; dx goes to x as if it were itself.
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
    return tape->block->has_input[site] ? tape->input[site] + row0 * cols : x;
}

ht_status ht_tape_project(ht_tape *tape, ht_site site, size_t expert, const float *x, size_t row0, size_t rows,
                          float *y, size_t width) {
    const ht_dense_block *block = tape->block;
    size_t cols = ht_dense_linear_at(block, site, expert, 0)->cols;
    if (block->has_input[site])
        HT_TRY(ht_quantize_inputs(&tape->model->workspace, &block->input[site], block->input_rule[site], x, rows, cols,
                                  cols, tape->input[site] + row0 * cols));
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
    return HT_OK;
}
