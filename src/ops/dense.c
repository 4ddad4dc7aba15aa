/* Dense products: pack, then tiles.
 *
 *     for each block of 256 steps of k
 *         a -> panels of 12 rows, b -> panels of 32 columns, step of k after step of k, zeros where the matrix ends
 *         c in tasks of a few panels by a few panels; in a task a panel of a stays in the first cache
 *
 * A tile that leaves the matrix or crosses the diagonal is computed in a copy of c and its meaningful part copied back,
 * so there is one kernel and every element has the same history (dense.h). How much a task takes depends on the number
 * of threads and does not enter the result. Source: the loop order of Goto and van de Geijn 2008, two levels of it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "ops/dense.h"

#include <string.h> /* memcpy */

#include "base/cpu.h"
#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "kernels/kernels.h"

enum { ROWS = HT_DENSE_ROWS, COLS = HT_DENSE_COLS, DEPTH = HT_DENSE_DEPTH };
enum { PACK_PANELS = 4, TASK_ROWS = 8, TASK_COLS = 8 }; /* panels handled by one index of a loop */

typedef struct run {
    const ht_dense_job *job;
    ht_dense_fn *tile;
    float *a, *b;              /* packed panels of this block of k */
    size_t a_panels, b_panels; /* of the whole matrix */
    size_t first, depth;       /* steps of k in this block */
    size_t task_rows, across;  /* panels of a in a task; tasks side by side */
} run;

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

static size_t parts(size_t count, size_t each) {
    return (count + each - 1) / each;
}

typedef float quad __attribute__((vector_size(16), aligned(4), may_alias));

/* to[q][i] = at[i][q] for a square of four. */
static inline void turn(const float *at, size_t step, float *to, size_t width) {
    quad a = *(const quad *)at, b = *(const quad *)(at + step);
    quad c = *(const quad *)(at + 2 * step), d = *(const quad *)(at + 3 * step);
    quad ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    quad ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(quad *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(quad *)(to + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(quad *)(to + 2 * width) = __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5);
    *(quad *)(to + 3 * width) = __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7);
}

/* One panel: `width` neighbours of every step, `count` of them real. width is a constant at both calls, so that copies
 * of whole steps are a few moves. */
static inline __attribute__((always_inline)) void pack(const ht_dense_operand *from, size_t first, size_t count,
                                                       size_t k_first, size_t depth, size_t width, float *to) {
    const float *at = from->at + first * from->step + k_first * from->step_k;
    if (count < width)
        memset(to, 0, width * depth * sizeof *to);
    if (from->step == 1 && count == width)
        for (size_t q = 0; q < depth; q++)
            memcpy(to + q * width, at + q * from->step_k, width * sizeof *to);
    size_t rows = 0;
    if (from->step == 1 && count == width)
        return;
    if (from->step_k == 1)
        for (; rows + 4 <= count; rows += 4)
            for (size_t q = 0; q + 4 <= depth; q += 4)
                turn(at + rows * from->step + q, from->step, to + q * width + rows, width);
    for (size_t i = 0; i < count; i++)
        for (size_t q = i < rows ? depth / 4 * 4 : 0; q < depth; q++)
            to[q * width + i] = at[i * from->step + q * from->step_k];
}

static ht_status pack_panels(void *arg, size_t index, size_t worker) {
    const run *r = arg;
    const ht_dense_job *job = r->job;
    (void)worker;
    size_t of_a = parts(r->a_panels, PACK_PANELS), is_a = index < of_a;
    size_t begin = (is_a ? index : index - of_a) * PACK_PANELS;
    size_t end = least(begin + PACK_PANELS, is_a ? r->a_panels : r->b_panels);
    for (size_t p = begin; p < end; p++)
        if (is_a) {
            float *to = r->a + p * ROWS * r->depth;
            pack(&job->a, p * ROWS, least(ROWS, job->m - p * ROWS), r->first, r->depth, ROWS, to);
            for (size_t i = 0; job->minus && i < ROWS * r->depth; i++)
                to[i] = -to[i];
        } else {
            pack(&job->b, p * COLS, least(COLS, job->n - p * COLS), r->first, r->depth, COLS,
                 r->b + p * COLS * r->depth);
        }
    return HT_OK;
}

/* A tile that is not whole: through a copy. */
static void partial_tile(const run *r, const float *a, const float *b, size_t row, size_t col) {
    const ht_dense_job *job = r->job;
    _Alignas(64) float copy[ROWS * COLS] = {0};
    size_t rows = least(ROWS, job->m - row), cols = least(COLS, job->n - col);
    for (size_t i = 0; i < rows; i++)
        memcpy(copy + i * COLS, job->c + (row + i) * job->c_stride + col, cols * sizeof *copy);
    r->tile(a, b, r->depth, copy, COLS);
    for (size_t i = 0; i < rows; i++) {
        size_t skip = job->part == HT_DENSE_UPPER && row + i > col ? least(row + i - col, cols) : 0;
        memcpy(job->c + (row + i) * job->c_stride + col + skip, copy + i * COLS + skip, (cols - skip) * sizeof *copy);
    }
}

static ht_status run_task(void *arg, size_t index, size_t worker) {
    const run *r = arg;
    const ht_dense_job *job = r->job;
    (void)worker;
    size_t a_begin = index / r->across * r->task_rows, a_end = least(a_begin + r->task_rows, r->a_panels);
    size_t b_begin = index % r->across * TASK_COLS, b_end = least(b_begin + TASK_COLS, r->b_panels);
    for (size_t i = a_begin; i < a_end; i++)
        for (size_t j = b_begin; j < b_end; j++) {
            size_t row = i * ROWS, col = j * COLS;
            const float *a = r->a + row * r->depth, *b = r->b + col * r->depth;
            if (job->part == HT_DENSE_UPPER && col + COLS <= row)
                continue;
            if (row + ROWS > job->m || col + COLS > job->n || (job->part == HT_DENSE_UPPER && col < row + ROWS - 1))
                partial_tile(r, a, b, row, col);
            else
                r->tile(a, b, r->depth, job->c + row * job->c_stride + col, job->c_stride);
        }
    return HT_OK;
}

size_t ht_dense_bytes(size_t m, size_t n, size_t k) {
    size_t depth = least(DEPTH, k), a_size = parts(m, ROWS) * ROWS * depth;
    return (parts(a_size, 16) * 16 + parts(n, COLS) * COLS * depth) * sizeof(float);
}

ht_status ht_dense_run(ht_context *ctx, const ht_dense_job *job) {
    if (!job->m || !job->n || !job->k)
        return HT_OK;
    run r = {.job = job, .a_panels = parts(job->m, ROWS), .b_panels = parts(job->n, COLS)};
    r.tile = ht_kernel_choose(HT_OPERATION_DENSE, ht_cpu_flags(ctx), NULL, 1)->fn.dense;
    r.across = parts(r.b_panels, TASK_COLS);
    /* Enough tasks that the threads end together. */
    size_t wanted = 6 * ht_context_threads(ctx);
    for (r.task_rows = TASK_ROWS; r.task_rows > 1 && parts(r.a_panels, r.task_rows) * r.across < wanted;)
        r.task_rows /= 2;
    size_t a_size = r.a_panels * ROWS * least(DEPTH, job->k), b_size = r.b_panels * COLS * least(DEPTH, job->k);
    a_size = parts(a_size, 16) * 16; /* b stays on a 64-byte boundary */
    HT_TRY(ht_allocate_raw(ctx, a_size + b_size, sizeof *r.a, "packed panels of a product", &r.a));
    r.b = r.a + a_size;
    ht_status status = HT_OK;
    for (r.first = 0; r.first < job->k && status == HT_OK; r.first += r.depth) {
        r.depth = least(DEPTH, job->k - r.first);
        status = ht_parallel_for(ctx, parts(r.a_panels, PACK_PANELS) + parts(r.b_panels, PACK_PANELS), pack_panels, &r);
        if (status == HT_OK)
            status = ht_parallel_for(ctx, parts(r.a_panels, r.task_rows) * r.across, run_task, &r);
    }
    ht_release(ctx, r.a);
    return status;
}

ht_status ht_dense_add_squares(ht_context *ctx, const float *x, size_t rows, size_t cols, size_t stride, float *h) {
    const ht_dense_operand columns = {x, 1, stride};
    const ht_dense_job job = {
        .m = cols, .n = cols, .k = rows, .a = columns, .b = columns, .c = h, .c_stride = cols, .part = HT_DENSE_UPPER};
    return ht_dense_run(ctx, &job);
}
