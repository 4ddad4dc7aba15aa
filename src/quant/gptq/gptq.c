/* GPTQ: codes chosen column by column, each one's error made up for by the columns that follow.
 *
 *     round to nearest  ->  order, factor of the damped Hessian  ->  walk over columns  ->  keep the better of the two
 *
 * The grid of the format (grid.h) is exchangeable; weights stay f32 and are never changed. With `gptaq` the target is
 * not the weight but the one that gives the float model's outputs on the inputs of the quantized model,
 *
 *     w' = w + alpha w M H'^-1,   M = sum (x_float - x)^T x,
 *
 * the closed solution of min over q of sum |x_float w - x q|^2 + lambda |w' - q|^2. `shrink` pulls H towards its
 * diagonal, against the chance that few tokens show relations which other text does not have; negative: the pull (of a
 * few) that leaves the least error on held-out statistics; so does a damping of 0. In the end the codes are those of
 * the rounding to nearest when these leave the smaller error, on the held-out statistics where there are any, else on
 * the calibration's.
 * With `gptaq` both losses are those of w', the quantity that is minimized.
 *
 * The loss comes with the walk, sum of pivot_k (t_k - q_k)^2 less what damping added, and sweeps know by how much each
 * code lowers it; so large matrices need no product of errors and H, unless the number is next to nothing or close to
 * the rounding's.
 *
 * Refuses: weights or statistics that are not finite (names row or column), formats without a grid.
 * Source: Frantar et al. 2022, arXiv:2210.17323; Li et al. 2025, arXiv:2504.02692 (the aim of GPTAQ; solved whole here,
 * not column by column); algorithms specification, sections 1.2, 1.5, 1.8.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <math.h> /* isfinite */

#include "base/memory.h"
#include "base/status.h"
#include "ops/dense.h"

/* What is tried where it is to be chosen on held-out statistics; the first one when the others are no better. */
static const double SHRINKS[] = {0, 0.03, 0.1, 0.25, 0.5}, DAMPS[] = {0.01, 0.03, 0.1, 0.3, 1};
enum { TRIALS = 5 };
/* The walk's account of the loss stands between these, of the rounding's loss: below, what it leaves is small beside
 * its own rounding errors; above, the guard wants the same product for both. */
static const double LITTLE = 1e-3, CLOSE = 0.9, LARGE = 1e9; /* of rows * cols^2 */

typedef struct work {
    const ht_matrix_problem *problem;
    ht_matrix_result *result;
    ht_matrix_problem aim; /* the problem with the weight that is to be met */
    ht_grid grid;
    uint32_t *order;
    float *diagonal; /* [cols] */
    float *target;   /* [rows, cols] aim of GPTAQ; NULL without */
    double shrink, damp;
    int together;
    int accounted; /* result->loss is the walk's own account */
    int fresh;     /* planes hold the rounding to nearest */
} work;

unsigned ht_gptq_moments(const ht_settings *settings) {
    return HT_MOMENT_SECOND | (settings->value[HT_SETTING_GPTAQ] > 0 ? (unsigned)HT_MOMENT_CROSS : 0);
}

ht_status ht_gptq_accepts(const ht_scheme *scheme) {
    return ht_grid_supports(&scheme->weight);
}

/* --- What must hold ------------------------------------------------------------------------------------------ */

static ht_status check_finite(const ht_matrix_problem *p) {
    for (size_t r = 0; r < p->rows; r++)
        for (size_t c = 0; c < p->cols; c++)
            if (!isfinite(p->weight[r * p->cols + c]))
                return ht_fail(HT_ERR_NUMERIC, "gptq: weight [%zu, %zu] is not finite", r, c);
    for (size_t i = 0; i < p->cols; i++)
        for (size_t j = i; j < p->cols; j++)
            if (!isfinite(p->input->second[i * p->cols + j]))
                return ht_fail(HT_ERR_NUMERIC, "gptq: the Hessian's element [%zu, %zu] is not finite", i, j);
    return HT_OK;
}

static ht_status prepare(work *w) {
    const ht_matrix_problem *p = w->problem;
    const ht_planes *planes = &w->result->planes;
    int order = (int)p->settings->value[HT_SETTING_ORDER];
    float global = p->format->global == HT_DTYPE_NONE ? 1 : *(const float *)planes->plane[HT_PLANE_GLOBAL];
    HT_TRY(ht_grid_create(p->format, p->how, p->rows, p->cols, global, &w->grid));
    HT_TRY(ht_allocate(p->ctx, p->cols, sizeof *w->order, "order of columns", &w->order));
    HT_TRY(ht_allocate(p->ctx, p->cols, sizeof *w->diagonal, "diagonal of a Hessian", &w->diagonal));
    HT_TRY(ht_gptq_order(p->ctx, order, p->input->second, p->cols, w->grid.unit, w->order));
    w->together = order == HT_ORDER_NONE || order == HT_ORDER_GAR || w->grid.unit == p->cols;
    double sum = 0;
    w->result->dead_columns = 0;
    for (size_t c = 0; c < p->cols; c++) {
        w->diagonal[c] = p->input->second[c * p->cols + c];
        sum += (double)w->diagonal[c];
        w->result->dead_columns += !(w->diagonal[c] > 0);
    }
    for (size_t c = 0; sum > 0 && c < p->cols; c++) /* importance near 1, so that H may have any scale */
        w->diagonal[c] = (float)((double)w->diagonal[c] * (double)p->cols / sum);
    return HT_OK;
}

/* --- GPTAQ --------------------------------------------------------------------------------------------------- */

/* Columns of x [rows, cols] from `order` to their places, or back. */
static void permute(const uint32_t *order, size_t cols, const float *from, float *to, int back) {
    for (size_t i = 0; i < cols; i++)
        to[back ? order[i] : i] = from[back ? i : order[i]];
}

static ht_status aim_at_float(work *w, const ht_gptq_factor *factor, double alpha) {
    const ht_matrix_problem *p = w->problem;
    size_t rows = p->rows, cols = p->cols;
    float *moved;
    if (!w->target)
        HT_TRY(ht_allocate_raw(p->ctx, rows * cols, sizeof *w->target, "corrected weights", &w->target));
    HT_TRY(ht_allocate(p->ctx, (rows + 1) * cols, sizeof *moved, "corrections of weights", &moved));
    float *line = moved + rows * cols;
    const ht_dense_job job = {.m = rows,
                              .n = cols,
                              .k = cols,
                              .a = {p->weight, cols, 1},
                              .b = {p->input->cross, 1, cols},
                              .c = moved,
                              .c_stride = cols};
    ht_status status = ht_dense_run(p->ctx, &job);
    for (size_t r = 0; r < rows; r++) {
        permute(w->order, cols, moved + r * cols, line, 0);
        for (size_t c = 0; c < cols; c++)
            moved[r * cols + c] = line[c];
    }
    if (status == HT_OK)
        status = ht_gptq_solve(p->ctx, factor, cols, moved, rows);
    for (size_t r = 0; status == HT_OK && r < rows; r++) {
        permute(w->order, cols, moved + r * cols, line, 1);
        for (size_t c = 0; c < cols; c++)
            w->target[r * cols + c] = (float)((double)p->weight[r * cols + c] + alpha * (double)line[c]);
    }
    ht_release(p->ctx, moved);
    w->aim.weight = w->target;
    return status;
}

/* With another aim the rounding to nearest, which `decoded` holds, is judged by that aim, too. */
static ht_status aim_and_compare(work *w, const ht_gptq_factor *factor, double alpha) {
    HT_TRY(aim_at_float(w, factor, alpha));
    w->result->rtn_loss = ht_matrix_loss(&w->aim, w->problem->input, w->result->decoded);
    w->result->held_out_rtn_loss = ht_matrix_loss(&w->aim, w->problem->held_out, w->result->decoded);
    return HT_OK;
}

/* Corrections, the sums that they are solved by. */
static size_t aim_bytes(size_t rows, size_t cols) {
    return (rows + 1) * cols * sizeof(float) + ht_dense_bytes(rows, cols, cols);
}

/* --- One walk ------------------------------------------------------------------------------------------------- */

static ht_status walk(work *w) {
    const ht_matrix_problem *p = w->problem;
    const ht_settings *s = p->settings;
    ht_gptq_factor factor;
    HT_TRY(ht_gptq_factorize(p->ctx, p->input->second, p->cols, w->order, w->damp, w->shrink, &factor));
    ht_status status = HT_OK;
    if (s->value[HT_SETTING_GPTAQ] > 0 && p->input->cross)
        status = aim_and_compare(w, &factor, s->value[HT_SETTING_GPTAQ]);
    ht_gptq_walk columns = {.ctx = p->ctx,
                            .grid = &w->grid,
                            .factor = &factor,
                            .weight = w->aim.weight,
                            .order = w->order,
                            .diagonal = w->diagonal,
                            .scales = (int)s->value[HT_SETTING_SCALES],
                            .together = w->together,
                            .block = (size_t)s->value[HT_SETTING_BLOCK],
                            .second = p->input->second,
                            .shrink = w->shrink,
                            .sparsity = ht_sparsity_of(s),
                            .sweeps = (size_t)s->value[HT_SETTING_SWEEPS],
                            .outputs = p->outputs,
                            .fisher = s->value[HT_SETTING_FISHER],
                            .planes = &w->result->planes};
    if (status == HT_OK)
        status = ht_gptq_walk_columns(&columns);
    if (status == HT_OK)
        status = ht_format_dequantize(p->format, &w->result->planes, p->rows, p->cols, w->result->decoded);
    w->result->damping = factor.damping;
    w->accounted = !factor.remedy && w->shrink < 1;
    w->result->loss = (columns.loss - columns.extra) / (1 - w->shrink) / (double)p->input->tokens;
    w->result->saturated = columns.saturated;
    w->result->fallback = factor.remedy;
    ht_gptq_factor_release(p->ctx, &factor);
    return status;
}

/* The planes' scales must be those of the rounding to nearest when a walk begins. */
static ht_status walk_again(work *w) {
    if (!w->fresh)
        HT_TRY(ht_matrix_round(w->problem, NULL, w->result));
    w->fresh = 0;
    HT_TRY(walk(w));
    double share = w->result->loss / w->result->rtn_loss;
    double products = (double)w->problem->rows * (double)w->problem->cols * (double)w->problem->cols;
    if (!w->accounted || products < LARGE || !(share > LITTLE && share < CLOSE))
        w->result->loss = ht_matrix_loss(&w->aim, w->problem->input, w->result->decoded);
    w->result->held_out_loss = ht_matrix_loss(&w->aim, w->problem->held_out, w->result->decoded);
    return HT_OK;
}

/* The loss that decides. */
static double judged(const ht_matrix_result *result) {
    return isfinite(result->held_out_loss) ? result->held_out_loss : result->loss;
}

/* *value, of w, becomes the one of the trials that leaves the least loss; codes are those of the last trial. */
static ht_status choose(work *w, double *value, const double trials[TRIALS]) {
    double best = trials[0], least = INFINITY;
    for (size_t i = 0; i < TRIALS; i++) {
        *value = trials[i];
        HT_TRY(walk_again(w));
        if (!(judged(w->result) < least))
            break; /* it has one minimum */
        least = judged(w->result);
        best = trials[i];
    }
    *value = best;
    return HT_OK;
}

static ht_status run(work *w) {
    const ht_matrix_problem *p = w->problem;
    ht_matrix_result *result = w->result;
    double shrink = p->settings->value[HT_SETTING_SHRINK], damp = p->settings->value[HT_SETTING_DAMP];
    w->shrink = shrink < 0 ? SHRINKS[0] : shrink;
    w->damp = damp > 0 ? damp : DAMPS[0];
    HT_TRY(prepare(w));
    if (shrink < 0 && p->held_out)
        HT_TRY(choose(w, &w->shrink, SHRINKS));
    if (!(damp > 0) && p->held_out)
        HT_TRY(choose(w, &w->damp, DAMPS));
    HT_TRY(walk_again(w));
    int worse = result->loss > result->rtn_loss || result->held_out_loss > result->held_out_rtn_loss;
    if (worse) {
        size_t dead = result->dead_columns;
        HT_TRY(ht_matrix_round(p, "rounded to nearest: gptq left a larger error", result));
        result->dead_columns = dead;
    }
    return HT_OK;
}

ht_status ht_gptq_matrix(const ht_matrix_problem *problem, ht_matrix_result *result) {
    work w = {.problem = problem, .result = result, .aim = *problem, .fresh = 1};
    if (!problem->input || !problem->input->second || problem->input->tokens == 0)
        return ht_matrix_round(problem, "rounded to nearest: no calibration token reached it", result);
    HT_TRY(ht_grid_supports(problem->format));
    HT_TRY(check_finite(problem));
    HT_TRY(ht_matrix_round(problem, NULL, result));
    ht_status status = run(&w);
    ht_release(problem->ctx, w.order);
    ht_release(problem->ctx, w.diagonal);
    ht_release(problem->ctx, w.target);
    return status;
}

size_t ht_gptq_bytes(const ht_format *format, const ht_settings *settings, size_t rows, size_t cols, size_t threads) {
    ht_grid grid;
    int order = (int)settings->value[HT_SETTING_ORDER], aims = settings->value[HT_SETTING_GPTAQ] > 0;
    size_t held = cols * (sizeof(uint32_t) + sizeof(float)) + (aims ? rows * cols * sizeof(float) : 0);
    if (ht_grid_create(format, NULL, rows, cols, 1, &grid) != HT_OK)
        return held;
    ht_gptq_walk walk = {.grid = &grid,
                         .scales = (int)settings->value[HT_SETTING_SCALES],
                         .together = order == HT_ORDER_NONE || order == HT_ORDER_GAR || grid.unit == cols,
                         .block = (size_t)settings->value[HT_SETTING_BLOCK],
                         .sparsity = ht_sparsity_of(settings),
                         .fisher = settings->value[HT_SETTING_FISHER],
                         .sweeps = (size_t)settings->value[HT_SETTING_SWEEPS]};
    size_t factor = ht_gptq_factor_bytes(cols), most = ht_gptq_factorize_bytes(cols);
    const size_t phases[] = {factor + ht_gptq_walk_bytes(&walk, threads), factor + (aims ? aim_bytes(rows, cols) : 0),
                             (aims ? factor : 0) + ht_matrix_loss_bytes(rows, cols)};
    for (size_t i = 0; i < sizeof phases / sizeof *phases; i++)
        most = phases[i] > most ? phases[i] : most;
    return held + most;
}
