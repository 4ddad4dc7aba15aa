/* Transforms of a linear's input and of its weight.
 *
 *     inputs   x * scale -> H of every run          weights   w / scale -> H of every run     back   H^T, then * scale
 *
 * Runs of a power of two go to a kernel; other lengths (2^k times 12, 20, ...) to the general transform, which needs
 * its table of signs. Refuses lengths without a Hadamard matrix, and blocks that do not divide the row. Source:
 * algorithms specification, sections 1.7 (MR-GPTQ), 2.1 (scales that are applied), 2.5 (R4).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/input_transform.h"

#include <string.h> /* memcmp */

#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"

enum { ROWS_EACH = 4 };

ht_status ht_input_transform_check(const ht_input_transform *transform, size_t cols) {
    size_t block = transform->block;
    if (!block)
        return HT_OK;
    if (!ht_hadamard_exists(block))
        return ht_fail(HT_ERR_SHAPE, "there is no Hadamard matrix of %zu rows for blocks of inputs", block);
    if (cols % block)
        return ht_fail(HT_ERR_SHAPE, "Hadamard blocks of %zu do not divide %zu inputs", block, cols);
    return HT_OK;
}

ht_status ht_transformer_init(ht_transformer *transformer, ht_context *ctx, const ht_input_transform *transform,
                              size_t cols) {
    size_t block = transform->block;
    *transformer = (ht_transformer){.ctx = ctx};
    HT_TRY(ht_input_transform_check(transform, cols));
    ht_hadamard *table = NULL;
    if (block & (block - 1)) {
        HT_TRY(ht_allocate_raw(ctx, 1, sizeof *table, "a Hadamard matrix", &table));
        ht_status status = ht_hadamard_init(table, block);
        if (status != HT_OK) {
            ht_release(ctx, table);
            return status;
        }
    }
    *transformer =
        (ht_transformer){.ctx = ctx,
                         .how = *transform,
                         .cols = cols,
                         .table = table,
                         .kernel = ht_kernel_choose(HT_OPERATION_HADAMARD, ht_cpu_flags(ctx), NULL, 1)->fn.hadamard};
    return HT_OK;
}

void ht_transformer_release(ht_transformer *transformer) {
    if (transformer->table)
        ht_release(transformer->ctx, transformer->table);
    *transformer = (ht_transformer){.ctx = transformer->ctx};
}

static const float *scale_of(const ht_transformer *t, size_t entry) {
    return t->how.scale ? t->how.scale + entry * t->cols : NULL;
}

int ht_transformer_equal(const ht_transformer *a, size_t i, const ht_transformer *b, size_t j) {
    const float *x = scale_of(a, i), *y = scale_of(b, j);
    if (a->how.block != b->how.block || !x != !y)
        return 0;
    return x == y || (a->cols == b->cols && memcmp(x, y, a->cols * sizeof *x) == 0);
}

static void turn(const ht_transformer *t, float *x, int back) {
    if (t->table)
        ht_hadamard_apply(t->table, x, t->cols / t->how.block, back);
    else if (t->how.block > 1)
        t->kernel(x, t->how.block, t->cols / t->how.block);
}

struct inputs {
    const ht_transformer *t;
    const float *scale, *x;
    float *out;
    size_t rows, x_stride;
};

static ht_status transform_some(void *arg, size_t task, size_t worker) {
    const struct inputs *in = arg;
    size_t cols = in->t->cols, end = (task + 1) * ROWS_EACH < in->rows ? (task + 1) * ROWS_EACH : in->rows;
    (void)worker;
    for (size_t row = task * ROWS_EACH; row < end; row++) {
        const float *x = in->x + row * in->x_stride;
        float *out = in->out + row * cols;
        if (in->scale)
            for (size_t j = 0; j < cols; j++)
                out[j] = x[j] * in->scale[j];
        else
            memmove(out, x, cols * sizeof *out);
        turn(in->t, out, 0);
    }
    return HT_OK;
}

ht_status ht_transform_inputs(const ht_transformer *t, size_t entry, const float *x, size_t rows, size_t x_stride,
                              float *out) {
    struct inputs in = {t, scale_of(t, entry), x, out, rows, x_stride};
    size_t tasks = (rows + ROWS_EACH - 1) / ROWS_EACH;
    return tasks == 1 ? transform_some(&in, 0, 0) : ht_parallel_for(t->ctx, tasks, transform_some, &in);
}

void ht_transform_weights(const ht_transformer *t, size_t entry, float *w, size_t rows) {
    const float *scale = scale_of(t, entry);
    for (size_t row = 0; row < rows; row++, w += t->cols) {
        for (size_t j = 0; scale && j < t->cols; j++)
            w[j] /= scale[j];
        turn(t, w, 0);
    }
}

void ht_restore_weights(const ht_transformer *t, size_t entry, float *w, size_t rows) {
    const float *scale = scale_of(t, entry);
    for (size_t row = 0; row < rows; row++, w += t->cols) {
        turn(t, w, 1);
        for (size_t j = 0; scale && j < t->cols; j++)
            w[j] *= scale[j];
    }
}
