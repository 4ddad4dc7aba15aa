/* What every method of matrix.h shares: the loss of a rounding, and rounding to nearest as the answer of last resort.
 *
 * loss = sum over rows of e H e^T with e = w - q and H from its upper triangle: with G = e U, U the stored upper part,
 *
 *     e H e^T = sum over j of e_j (2 G_j - e_j H_jj)
 *
 * so half of the products are saved. Products are those of ops/dense.h (same bits everywhere), sums of rows f64 in
 * order. Source: algorithms specification, section 1.2 (D8).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/matrix.h"

#include <math.h> /* NAN, isfinite */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/dense.h"
#include "quant/grid/grid.h"
#include "quant/method/prune.h"

enum { CHUNK_ROWS = 1024, CHUNK_COLS = 256, ROUND_ROWS = 16 };

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

/* --- Loss --------------------------------------------------------------------------------------------------- */

/* Rows of e and room for G; diagonal of H; the sum of their losses. */
static ht_status loss_of_rows(ht_context *ctx, const float *second, const float *diagonal, size_t rows, size_t cols,
                              const float *e, float *g, double *sum) {
    for (size_t i = 0; i < rows * cols; i++)
        g[i] = 0;
    for (size_t first = 0; first < cols; first += CHUNK_COLS) {
        size_t end = least(first + CHUNK_COLS, cols); /* what lies below the diagonal is zero */
        const ht_dense_job job = {.m = rows,
                                  .n = end - first,
                                  .k = end,
                                  .a = {e, cols, 1},
                                  .b = {second + first, 1, cols},
                                  .c = g + first,
                                  .c_stride = cols};
        HT_TRY(ht_dense_run(ctx, &job));
    }
    for (size_t r = 0; r < rows; r++) {
        double row = 0;
        for (size_t j = 0; j < cols; j++) {
            double error = (double)e[r * cols + j];
            row += error * (2 * (double)g[r * cols + j] - error * (double)diagonal[j]);
        }
        *sum += row;
    }
    return HT_OK;
}

size_t ht_matrix_loss_bytes(size_t rows, size_t cols) {
    size_t most = least(rows, CHUNK_ROWS);
    return (2 * most + 1) * cols * sizeof(float) + ht_dense_bytes(most, least(CHUNK_COLS, cols), cols);
}

double ht_matrix_loss(const ht_matrix_problem *problem, const ht_moments *moments, const float *decoded) {
    size_t cols = problem->cols, most = least(problem->rows, CHUNK_ROWS);
    float *e;
    double sum = 0;
    if (!moments || !moments->second || moments->cols != cols || moments->tokens == 0)
        return (double)NAN;
    if (ht_allocate_raw(problem->ctx, (2 * most + 1) * cols, sizeof *e, "errors of rows", &e) != HT_OK)
        return (double)NAN;
    ht_status status = HT_OK;
    float *diagonal = e + 2 * most * cols;
    for (size_t i = 0; i < cols; i++)
        diagonal[i] = moments->second[i * cols + i];
    for (size_t first = 0, rows; first < problem->rows && status == HT_OK; first += rows) {
        rows = least(most, problem->rows - first);
        for (size_t i = 0; i < rows * cols; i++)
            e[i] = problem->weight[first * cols + i] - decoded[first * cols + i];
        status = loss_of_rows(problem->ctx, moments->second, diagonal, rows, cols, e, e + most * cols, &sum);
    }
    ht_release(problem->ctx, e);
    return status == HT_OK ? sum / (double)moments->tokens : (double)NAN;
}

/* --- Rounding to nearest ------------------------------------------------------------------------------------- */

typedef struct rounding {
    const ht_matrix_problem *problem;
    const ht_matrix_result *result;
    size_t step; /* rows of a slice */
    ht_sparsity sparsity;
} rounding;

/* The slice with its least weights zero: in `decoded`, which is rounded in place by way of the planes. */
static void prune_slice(const rounding *r, size_t first, size_t rows, uint8_t *pruned, float *measure) {
    const ht_matrix_problem *p = r->problem;
    for (size_t row = first; row < first + rows; row++) {
        const float *from = p->weight + row * p->cols;
        float *to = r->result->decoded + row * p->cols;
        ht_prune_row(&r->sparsity, from, p->input, p->cols, measure, pruned);
        for (size_t j = 0; j < p->cols; j++)
            to[j] = pruned[j] ? 0 : from[j];
    }
}

static ht_status round_slice(void *arg, size_t index, size_t worker) {
    const rounding *r = arg;
    const ht_matrix_problem *p = r->problem;
    (void)worker;
    size_t first = index * r->step, rows = least(r->step, p->rows - first);
    ht_planes planes = ht_planes_at_row(p->format, &r->result->planes, p->cols, first);
    const float *weight = p->weight + first * p->cols;
    float *decoded = r->result->decoded + first * p->cols;
    if (r->sparsity.share > 0) {
        float *measure;
        HT_TRY(ht_allocate_raw(p->ctx, p->cols, sizeof *measure + 1, "measures of a row", &measure));
        prune_slice(r, first, rows, (uint8_t *)(measure + p->cols), measure);
        ht_release(p->ctx, measure);
        weight = decoded;
    }
    HT_TRY(ht_format_quantize(p->format, p->how, weight, HT_F32, rows, p->cols, &planes));
    return ht_format_dequantize(p->format, &planes, rows, p->cols, decoded);
}

static double square_of(const ht_moments *input, size_t j) {
    return input->square_sum ? input->square_sum[j] : (double)input->second[j * input->cols + j];
}

ht_status ht_matrix_importance(ht_context *ctx, const ht_moments *input, float **out) {
    *out = NULL;
    if (!input || !input->tokens || !(input->square_sum || input->second))
        return HT_OK;
    double sum = 0;
    for (size_t j = 0; j < input->cols; j++) {
        if (!isfinite(square_of(input, j)))
            return ht_fail(HT_ERR_NUMERIC, "the mean square of input %zu is not finite", j);
        sum += square_of(input, j);
    }
    HT_TRY(ht_allocate(ctx, input->cols, sizeof **out, "importance of inputs", out));
    for (size_t j = 0; j < input->cols; j++) {
        double share = sum > 0 ? square_of(input, j) * (double)input->cols / sum : 1;
        (*out)[j] = (float)(share > 1e-6 ? share : 1e-6);
    }
    return HT_OK;
}

/* Tables stored with the matrix, for weights whose columns do not count alike. */
static ht_status refit_tables(const ht_matrix_problem *p, const ht_matrix_result *result) {
    ht_grid grid;
    float *importance = NULL;
    if (p->format->family != HT_FAMILY_LUT)
        return HT_OK;
    HT_TRY(ht_grid_create(p->format, p->how, p->rows, p->cols, 1, &grid));
    HT_TRY(ht_matrix_importance(p->ctx, p->input, &importance));
    ht_status status = importance ? ht_grid_refit(p->ctx, &grid, &result->planes, p->weight, importance) : HT_OK;
    if (status == HT_OK && importance)
        status = ht_format_dequantize(p->format, &result->planes, p->rows, p->cols, result->decoded);
    ht_release(p->ctx, importance);
    return status;
}

ht_status ht_matrix_round(const ht_matrix_problem *problem, const char *reason, ht_matrix_result *result) {
    rounding r = {problem, result, problem->rows, ht_sparsity_of(problem->settings)};
    size_t step = ht_format_row_step(problem->format);
    if (step != SIZE_MAX) /* some slices, each a multiple of the step */
        r.step = (ROUND_ROWS + step - 1) / step * step;
    HT_TRY(ht_parallel_for(problem->ctx, (problem->rows + r.step - 1) / r.step, round_slice, &r));
    HT_TRY(refit_tables(problem, result));
    result->loss = result->rtn_loss = ht_matrix_loss(problem, problem->input, result->decoded);
    result->held_out_loss = result->held_out_rtn_loss = ht_matrix_loss(problem, problem->held_out, result->decoded);
    result->damping = 0;
    result->fallback = reason;
    return HT_OK;
}
