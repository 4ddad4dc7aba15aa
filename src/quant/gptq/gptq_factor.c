/* The factor that GPTQ feeds errors back with: H' = F D F^T, F unit upper triangular, from the last column to the
 * first.
 *
 * For column k, going down from the last:    D_k = H_kk,   F_jk = H_jk / D_k,   H_ij -= F_ik H_jk   (i <= j < k)
 *
 * That is Cholesky's decomposition of the reversed matrix without its square roots. It gives the updates of GPTQ
 * without an inverse, which is what costs digits elsewhere. Small matrices are factorized in f64; large ones in f32 in
 * blocks of 128 (the diagonal block in f64, the rest as products of ops/dense.h), in f64 when a pivot is not positive.
 *
 * Recovery: the relative damping doubles until 1; after that pivots that are not positive are replaced (their column
 * then receives no feedback), which always ends. Columns of zeros (inputs that never fired) get the mean of the
 * diagonal and so neither give nor take. Everything scales with H. Source: Frantar et al. 2022, arXiv:2210.17323; Chee
 * et al. 2023, arXiv:2307.13304 (the LDL form); algorithms specification, sections 1.2, 1.5, 1.8.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <string.h> /* memset */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/dense.h"

enum { BLOCK = 128, EXACT = 1024, STRIP = 32 }; /* columns of a block; up to which f64 is used; rows of a task */
static const double TINY = 1e-10;               /* a pivot relative to the mean of the diagonal that is not positive */

/* --- The damped matrix in order --------------------------------------------------------------------------------- */

typedef struct gather {
    const float *second;
    size_t cols;
    const uint32_t *order;
    double keep, shrink, add; /* off the diagonal: keep * h; on it: h + add */
    double mean;              /* of the diagonal, without dead columns */
    double *wide;             /* one of the two */
    float *narrow;
} gather;

static double diagonal(const gather *g, size_t column) {
    return (double)g->second[column * g->cols + column];
}

static ht_status gather_row(void *arg, size_t index, size_t worker) {
    const gather *g = arg;
    size_t cols = g->cols, from = g->order[index];
    (void)worker;
    for (size_t j = index; j < cols; j++) {
        size_t to = g->order[j], low = from < to ? from : to, high = from < to ? to : from;
        double h = (double)g->second[low * cols + high] * (low == high ? 1 : g->keep);
        if (low == high)
            h = (h > 0 ? h : g->mean) + g->add;
        if (g->wide)
            g->wide[index * cols + j] = h;
        else
            g->narrow[index * cols + j] = (float)h;
    }
    return HT_OK;
}

/* --- f64 -------------------------------------------------------------------------------------------------------- */

typedef struct step {
    double *a;
    size_t cols, k;
    const double *column, *feed; /* H_jk and F_jk, j < k */
} step;

static ht_status step_rows(void *arg, size_t index, size_t worker) {
    const step *s = arg;
    size_t end = (index + 1) * STRIP < s->k ? (index + 1) * STRIP : s->k;
    (void)worker;
    for (size_t i = index * STRIP; i < end; i++) {
        double *row = s->a + i * s->cols, f = s->feed[i];
        if (f != 0)
            for (size_t j = i; j < s->k; j++)
                row[j] -= f * s->column[j];
    }
    return HT_OK;
}

/* In place: the upper triangle becomes F, its diagonal D. 0 when a pivot was not positive and must be. */
static ht_status factor_wide(ht_context *ctx, double *a, size_t cols, double least, int force, double *scratch,
                             int *positive) {
    step s = {.a = a, .cols = cols, .column = scratch, .feed = scratch + cols};
    *positive = 1;
    for (s.k = cols; s.k-- > 0;) {
        double pivot = a[s.k * cols + s.k];
        int good = pivot > least;
        if (!good && !force) {
            *positive = 0;
            return HT_OK;
        }
        if (!good)
            a[s.k * cols + s.k] = pivot = least;
        for (size_t j = 0; j < s.k; j++) {
            scratch[j] = a[j * cols + s.k];
            scratch[cols + j] = good ? scratch[j] / pivot : 0;
            a[j * cols + s.k] = scratch[cols + j];
        }
        size_t tasks = (s.k + STRIP - 1) / STRIP;
        if (tasks < 4)
            for (size_t t = 0; t < tasks; t++)
                step_rows(&s, t, 0);
        else
            HT_TRY(ht_parallel_for(ctx, tasks, step_rows, &s));
    }
    return HT_OK;
}

/* --- f32 in blocks ---------------------------------------------------------------------------------------------- */

/* T = inverse of a unit upper triangle of `size`, f64. */
static void invert(const double *f, size_t size, double *t) {
    memset(t, 0, size * size * sizeof *t);
    for (size_t j = 0; j < size; j++) {
        t[j * size + j] = 1;
        for (size_t i = j; i-- > 0;) {
            double sum = 0;
            for (size_t l = i + 1; l <= j; l++)
                sum += f[i * size + l] * t[l * size + j];
            t[i * size + j] = -sum;
        }
    }
}

typedef struct narrow {
    ht_context *ctx;
    float *a; /* [cols, cols] */
    size_t cols;
    double least;
    double *diagonal, *inverse; /* [BLOCK, BLOCK] */
    double *scratch;            /* [2 BLOCK] */
    float *inverse32;           /* [BLOCK, BLOCK] */
    float *g, *f;               /* [cols, BLOCK] */
    double *pivot;
} narrow;

/* Columns [first, end): their diagonal block, then what stands above it, then the rest of the matrix. */
static ht_status factor_block(narrow *n, size_t first, size_t end, int *positive) {
    size_t size = end - first, cols = n->cols;
    for (size_t i = 0; i < size; i++)
        for (size_t j = i; j < size; j++)
            n->diagonal[i * size + j] = (double)n->a[(first + i) * cols + first + j];
    HT_TRY(factor_wide(n->ctx, n->diagonal, size, n->least, 0, n->scratch, positive));
    if (!*positive)
        return HT_OK;
    invert(n->diagonal, size, n->inverse);
    for (size_t i = 0; i < size * size; i++)
        n->inverse32[i] = (float)n->inverse[i];
    for (size_t i = 0; i < size; i++) {
        n->pivot[first + i] = n->diagonal[i * size + i];
        for (size_t j = i + 1; j < size; j++)
            n->a[(first + i) * cols + first + j] = (float)n->diagonal[i * size + j];
    }
    /* G = F D = A T^T above the block */
    memset(n->g, 0, first * size * sizeof *n->g);
    const ht_dense_job above = {.m = first,
                                .n = size,
                                .k = size,
                                .a = {n->a + first, cols, 1},
                                .b = {n->inverse32, size, 1},
                                .c = n->g,
                                .c_stride = size};
    HT_TRY(ht_dense_run(n->ctx, &above));
    for (size_t i = 0; i < first; i++)
        for (size_t j = 0; j < size; j++) {
            n->f[i * size + j] = (float)((double)n->g[i * size + j] / n->pivot[first + j]);
            n->a[i * cols + first + j] = n->f[i * size + j];
        }
    const ht_dense_job rest = {.m = first,
                               .n = first,
                               .k = size,
                               .a = {n->g, size, 1},
                               .b = {n->f, size, 1},
                               .c = n->a,
                               .c_stride = cols,
                               .minus = 1,
                               .part = HT_DENSE_UPPER};
    return ht_dense_run(n->ctx, &rest);
}

static size_t narrow_bytes(size_t cols) {
    size_t square = (size_t)BLOCK * BLOCK;
    return (2 * square + 2 * BLOCK) * sizeof(double) + (square + 2 * cols * BLOCK) * sizeof(float);
}

static ht_status factor_narrow(ht_context *ctx, float *a, size_t cols, double least, double *pivot, int *positive) {
    narrow n = {.ctx = ctx, .a = a, .cols = cols, .least = least, .pivot = pivot};
    char *memory;
    size_t square = (size_t)BLOCK * BLOCK;
    HT_TRY(ht_allocate_raw(ctx, 1, narrow_bytes(cols), "scratch of a factorization", &memory));
    n.diagonal = (double *)(void *)memory;
    n.inverse = n.diagonal + square;
    n.scratch = n.inverse + square;
    n.inverse32 = (float *)(void *)(n.scratch + 2 * BLOCK);
    n.g = n.inverse32 + square;
    n.f = n.g + cols * BLOCK;
    *positive = 1;
    ht_status status = HT_OK;
    for (size_t end = cols; end > 0 && *positive && status == HT_OK;) {
        size_t first = (end - 1) / BLOCK * BLOCK;
        status = factor_block(&n, first, end, positive);
        end = first;
    }
    ht_release(ctx, memory);
    return status;
}

/* --- The ladder ------------------------------------------------------------------------------------------------- */

static ht_status attempt_wide(ht_context *ctx, gather *g, int force, ht_gptq_factor *out, int *positive) {
    double *scratch;
    size_t cols = g->cols;
    HT_TRY(ht_allocate_raw(ctx, cols * (cols + 2), sizeof *scratch, "Hessian in f64", &scratch));
    g->wide = scratch + 2 * cols;
    ht_status status = ht_parallel_for(ctx, cols, gather_row, g);
    if (status == HT_OK)
        status = factor_wide(ctx, g->wide, cols, TINY * g->mean, force, scratch, positive);
    for (size_t i = 0; status == HT_OK && *positive && i < cols; i++) {
        out->pivot[i] = g->wide[i * cols + i];
        for (size_t j = i + 1; j < cols; j++)
            out->feed[i * cols + j] = (float)g->wide[i * cols + j];
    }
    g->wide = NULL;
    ht_release(ctx, scratch);
    return status;
}

static ht_status attempt(ht_context *ctx, gather *g, int force, ht_gptq_factor *out, int *positive) {
    *positive = 0;
    if (g->cols > EXACT && !force) {
        g->narrow = out->feed;
        HT_TRY(ht_parallel_for(ctx, g->cols, gather_row, g));
        /* f32 leaves some 1e-7 of the diagonal; a pivot that small is not one. */
        HT_TRY(factor_narrow(ctx, out->feed, g->cols, 1e-6 * g->mean, out->pivot, positive));
        g->narrow = NULL;
    }
    return *positive ? HT_OK : attempt_wide(ctx, g, force, out, positive);
}

static void mean_of_diagonal(gather *g) {
    size_t alive = 0;
    double sum = 0;
    for (size_t c = 0; c < g->cols; c++) {
        double h = diagonal(g, c);
        alive += h > 0;
        sum += h > 0 ? h : 0;
    }
    g->mean = alive ? sum / (double)alive : 1;
}

size_t ht_gptq_factor_bytes(size_t cols) {
    return cols * cols * sizeof(float) + cols * sizeof(double);
}

size_t ht_gptq_factorize_bytes(size_t cols) {
    size_t wide = cols * (cols + 2) * sizeof(double), blocks = 0;
    if (cols > EXACT)
        blocks = narrow_bytes(cols) + ht_dense_bytes(cols, cols, BLOCK);
    return ht_gptq_factor_bytes(cols) + (wide > blocks ? wide : blocks);
}

ht_status ht_gptq_factorize(ht_context *ctx, const float *second, size_t cols, const uint32_t *order, double damp,
                            double shrink, ht_gptq_factor *out) {
    gather g = {.second = second, .cols = cols, .order = order, .keep = 1 - shrink};
    int positive = 0;
    memset(out, 0, sizeof *out);
    mean_of_diagonal(&g);
    out->mean = g.mean;
    ht_status status = ht_allocate_raw(ctx, cols * cols, sizeof *out->feed, "factor of a Hessian", &out->feed);
    if (status == HT_OK)
        status = ht_allocate(ctx, cols, sizeof *out->pivot, "pivots of a Hessian", &out->pivot);
    for (double d = damp; status == HT_OK && !positive && d < 2; d *= 2) {
        out->damping = d < 1 ? d : 1;
        g.add = out->damping * g.mean;
        status = attempt(ctx, &g, 0, out, &positive);
        out->remedy = d > damp ? "more damping: the Hessian was not positive definite" : NULL;
    }
    if (status == HT_OK && !positive) {
        status = attempt(ctx, &g, 1, out, &positive);
        out->remedy = "pivots replaced: the Hessian was not positive definite";
    }
    if (status != HT_OK)
        ht_gptq_factor_release(ctx, out);
    return status;
}

void ht_gptq_factor_release(ht_context *ctx, ht_gptq_factor *factor) {
    ht_release(ctx, factor->feed);
    ht_release(ctx, factor->pivot);
    factor->feed = NULL;
    factor->pivot = NULL;
}

/* --- x H'^-1 ---------------------------------------------------------------------------------------------------- */

typedef struct solve {
    const ht_gptq_factor *factor;
    size_t cols, first, end, rows;
    float *x;
    int forward;
} solve;

static ht_status solve_rows(void *arg, size_t index, size_t worker) {
    const solve *s = arg;
    size_t last = (index + 1) * STRIP < s->rows ? (index + 1) * STRIP : s->rows;
    const float *feed = s->factor->feed;
    (void)worker;
    for (size_t r = index * STRIP; r < last; r++) {
        float *x = s->x + r * s->cols;
        if (s->forward) { /* y F = u */
            for (size_t j = s->first; j < s->end; j++)
                for (size_t k = j + 1; k < s->end; k++)
                    x[k] -= x[j] * feed[j * s->cols + k];
            continue;
        }
        for (size_t k = s->end; k-- > s->first;) { /* u F^T = v, then by D */
            double sum = (double)x[k];
            for (size_t j = k + 1; j < s->end; j++)
                sum -= (double)x[j] * (double)feed[k * s->cols + j];
            x[k] = (float)sum;
        }
    }
    return HT_OK;
}

ht_status ht_gptq_solve(ht_context *ctx, const ht_gptq_factor *factor, size_t cols, float *x, size_t rows) {
    solve s = {.factor = factor, .cols = cols, .rows = rows, .x = x};
    size_t tasks = (rows + STRIP - 1) / STRIP;
    for (s.end = cols; s.end > 0; s.end = s.first) {
        s.first = (s.end - 1) / BLOCK * BLOCK;
        const ht_dense_job later = {.m = rows,
                                    .n = s.end - s.first,
                                    .k = cols - s.end,
                                    .a = {x + s.end, cols, 1},
                                    .b = {factor->feed + s.first * cols + s.end, cols, 1},
                                    .c = x + s.first,
                                    .c_stride = cols,
                                    .minus = 1};
        HT_TRY(ht_dense_run(ctx, &later));
        HT_TRY(ht_parallel_for(ctx, tasks, solve_rows, &s));
    }
    for (size_t i = 0; i < rows * cols; i++)
        x[i] = (float)((double)x[i] / factor->pivot[i % cols]);
    s.forward = 1;
    for (s.first = 0; s.first < cols; s.first = s.end) {
        s.end = s.first + BLOCK < cols ? s.first + BLOCK : cols;
        const ht_dense_job earlier = {.m = rows,
                                      .n = s.end - s.first,
                                      .k = s.first,
                                      .a = {x, cols, 1},
                                      .b = {factor->feed + s.first, 1, cols},
                                      .c = x + s.first,
                                      .c_stride = cols,
                                      .minus = 1};
        HT_TRY(ht_dense_run(ctx, &earlier));
        HT_TRY(ht_parallel_for(ctx, tasks, solve_rows, &s));
    }
    return HT_OK;
}
