/* Matrices of a calibrated block: weights in, the method's codes out, and a look at whether they are worth having.
 *
 *     stored rows -> f32 -> method -> planes -> compared, written            (where later blocks read them: kept)
 *                             \---- loss worse than rounding's, or no inputs to go by: rounded, with the reason
 *
 * Methods that see rows alone take the same way as in a run without text (slices.c), so their bytes are the same.
 * Refuses weights that are not finite, unless `nan: keep`, which rounds them.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>  /* isfinite, isnan */
#include <stdio.h> /* snprintf */
#include <string.h>

#include "base/context.h"
#include "base/pool.h"
#include "base/status.h"
#include "ops/dense.h"
#include "quant/calibrate/calibrate.h"
#include "quant/decode.h"
#include "quant/method/prune.h"

/* A matrix at work. */
typedef struct work {
    ht_calibrator *c;
    const ht_block_matrix *matrix;
    ht_exchange *exchange;
    const ht_observed *observed;
    ht_job *job;
    float *weight, *decoded;
    ht_planes planes;
    size_t slice; /* rows */
    ht_report_matrix row;
} work;

/* --- Memory ------------------------------------------------------------------------------------------------- */

/* Weights and what they decode to, for the largest matrix; what the method takes beside them. */
size_t ht_matrix_bytes(const ht_calibrator *c) {
    size_t most = 0, largest = 0, threads = ht_context_threads(c->ctx);
    for (size_t i = 0; i < c->exchange_count; i++) {
        const ht_job *job = &c->run->plan->job[c->exchange[i].job];
        size_t rows = job->layout->rows, cols = job->layout->cols;
        size_t bytes =
            ht_method_matrix_bytes(job->rule->method, &job->layout->format, &job->settings, rows, cols, threads);
        size_t panels = ht_dense_bytes(cols, cols, HT_MOMENTS_BLOCK); /* while statistics are taken */
        most = bytes > most ? bytes : most;
        most = panels > most ? panels : most;
        largest = rows * cols > largest ? rows * cols : largest;
    }
    return most + 2 * largest * sizeof(float);
}

/* --- Slices ------------------------------------------------------------------------------------------------- */

static ht_item slice_item(const work *w, size_t task) {
    size_t row = task * w->slice, left = w->job->layout->rows - row;
    return (ht_item){
        .job = w->exchange->job, .entry = w->matrix->entry, .begin = row, .count = left < w->slice ? left : w->slice};
}

static ht_planes slice_planes(const work *w, const ht_item *item) {
    return ht_planes_at_row(&w->job->layout->format, &w->planes, w->job->layout->cols, (size_t)item->begin);
}

static ht_status read_slice(void *arg, size_t task, size_t worker) {
    const work *w = arg;
    ht_item item = slice_item(w, task);
    (void)worker;
    return ht_read_rows(w->c->run->ctx, w->job->parameter, w->matrix->entry, (size_t)item.begin, (size_t)item.count,
                        w->weight + item.begin * w->job->layout->cols);
}

static ht_status quantize_slice(void *arg, size_t task, size_t worker) {
    const work *w = arg;
    ht_item item = slice_item(w, task);
    ht_planes planes = slice_planes(w, &item);
    HT_TRY(ht_slice_quantize_into(w->c->run, &item, &planes, worker));
    return ht_format_dequantize(&w->job->layout->format, &planes, (size_t)item.count, w->job->layout->cols,
                                w->decoded + item.begin * w->job->layout->cols);
}

static ht_status store_slice(void *arg, size_t task, size_t worker) {
    const work *w = arg;
    ht_item item = slice_item(w, task);
    ht_planes planes = slice_planes(w, &item);
    return ht_slice_store(w->c->run, &item, &planes, worker);
}

static ht_status for_slices(work *w, ht_work_fn *task) {
    return ht_parallel_for(w->c->ctx, (w->job->layout->rows + w->slice - 1) / w->slice, task, w);
}

static int is_finite(const float *x, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return 0;
    return 1;
}

/* --- Choosing codes ----------------------------------------------------------------------------------------- */

/* Why the method cannot have this matrix; NULL: it can. */
static const char *no_method(const work *w) {
    ht_arena *arena = &w->c->run->plan->arena;
    const ht_moments *moments = w->observed->moments;
    size_t values = w->job->layout->rows * w->job->layout->cols;
    double few = ht_setting_of(HT_SETTING_FEW_TOKENS, w->job->rule->method->item.name)
                     ? w->job->settings.value[HT_SETTING_FEW_TOKENS]
                     : 0;
    uint64_t all = (uint64_t)w->c->samples->count * w->c->samples->length;
    if (!is_finite(w->weight, values))
        return "rtn: NaN or Inf among the weights";
    if (!moments)
        return NULL;
    if (!moments->tokens && moments->not_finite)
        return "rtn: no input of the calibration text is finite";
    if (!moments->tokens || (double)moments->tokens < few * (double)all)
        return ht_arena_printf(arena, "rtn: %llu of %llu calibration tokens come here",
                               (unsigned long long)moments->tokens, (unsigned long long)all);
    return NULL;
}

/* Rounded as asked for, but by a model that its inputs could not scale; NULL: they could, or nobody asked. */
static const char *no_scales(const work *w) {
    const ht_method *scale = w->job->rule->chain.stage[HT_STAGE_SCALE];
    const ht_moments *moments = w->observed->moments;
    if (!scale || !scale->moments || !moments || moments->tokens)
        return NULL;
    return ht_arena_printf(&w->c->run->plan->arena, "not scaled by %s: no %s", scale->item.name,
                           moments->not_finite ? "input of the calibration text is finite"
                                               : "calibration token comes here");
}

static ht_status apply_method(work *w, const ht_matrix_problem *problem, ht_matrix_result *result) {
    const char *reason = no_method(w);
    if (reason)
        return ht_matrix_round(problem, reason, result);
    ht_status status = w->job->rule->method->matrix(problem, result);
    if (status != HT_OK)
        return ht_fail_prefix(status, "tensor %s", w->job->parameter->name);
    int same_aim = !(w->observed->what & HT_MOMENT_CROSS); /* cross moments move what is aimed at */
    if (same_aim && result->loss > result->rtn_loss)
        return ht_matrix_round(problem, "rtn: its error on the calibration text is smaller", result);
    return HT_OK;
}

static void note_result(work *w, const ht_matrix_result *result) {
    w->row.loss = result->loss;
    w->row.rtn_loss = result->rtn_loss;
    w->row.held_out_loss = result->held_out_loss;
    w->row.held_out_rtn_loss = result->held_out_rtn_loss;
    w->row.damping = result->damping;
    w->row.dead_columns = result->dead_columns;
    w->row.saturated = result->saturated;
    w->row.fallback = result->fallback;
    if (ht_sparsity_of(&w->job->settings).share > 0)
        w->row.sparsity = ht_prune_share(w->decoded, w->job->layout->rows * w->job->layout->cols);
}

static ht_status choose_codes(work *w) {
    const ht_layout *layout = w->job->layout;
    ht_matrix_problem problem = {.ctx = w->c->ctx,
                                 .format = &layout->format,
                                 .how = &w->job->row,
                                 .settings = &w->job->settings,
                                 .weight = w->weight,
                                 .rows = layout->rows,
                                 .cols = layout->cols,
                                 .input = w->observed->moments,
                                 .held_out = w->observed->held_out,
                                 .outputs = ht_curvature_of(w->c->curvature, w->exchange->job, w->matrix->entry)};
    ht_matrix_result result = {.planes = w->planes,
                               .decoded = w->decoded,
                               .loss = (double)NAN,
                               .rtn_loss = (double)NAN,
                               .held_out_loss = (double)NAN,
                               .held_out_rtn_loss = (double)NAN};
    HT_TRY(for_slices(w, read_slice));
    if (!w->job->rule->method->matrix) {
        HT_TRY(for_slices(w, quantize_slice));
        result.loss = ht_matrix_loss(&problem, problem.input, w->decoded);
        result.held_out_loss = ht_matrix_loss(&problem, problem.held_out, w->decoded);
        result.fallback = no_scales(w);
    } else {
        if (w->job->options.value[HT_OPTION_NAN] != HT_NAN_KEEP && !is_finite(w->weight, layout->rows * layout->cols))
            return for_slices(w, quantize_slice); /* fails, naming the place */
        HT_TRY(apply_method(w, &problem, &result));
        HT_TRY(for_slices(w, store_slice));
    }
    note_result(w, &result);
    return HT_OK;
}

ht_status ht_matrix_rewrite(ht_calibrator *c, ht_exchange *exchange, size_t entry) {
    const ht_block_matrix matrix = {.exchange = (size_t)(exchange - c->exchange), .entry = entry};
    work w = {.c = c, .matrix = &matrix, .exchange = exchange, .job = &c->run->plan->job[exchange->job]};
    w.planes = ht_weight_planes(&exchange->weight, entry);
    w.slice = ht_slice_rows(w.job, c->run->chunk);
    return for_slices(&w, store_slice);
}

/* --- One after the other ------------------------------------------------------------------------------------ */

static void tell(const work *w) {
    const ht_calibrator *c = w->c;
    char entry[32] = "";
    if (w->job->layout->batch > 1)
        snprintf(entry, sizeof entry, "[%zu]", w->matrix->entry);
    ht_log(c->ctx, HT_LOG_INFO, "%s%s: %llu tokens, loss %.4g, rounding %.4g%s%s", w->job->parameter->name, entry,
           (unsigned long long)w->row.tokens, w->row.loss, w->row.rtn_loss, w->row.fallback ? "; " : "",
           w->row.fallback ? w->row.fallback : "");
    ht_report(c->ctx, &(ht_progress){.stage = "calibrate",
                                     .item = w->job->parameter->name,
                                     .unit = "matrices",
                                     .done = c->matrices_done,
                                     .total = c->matrices_total,
                                     .seconds = ht_seconds() - c->started});
}

static ht_status quantize_matrix(ht_calibrator *c, const ht_block_matrix *matrix, float *weight, float *decoded) {
    ht_exchange *exchange = &c->exchange[matrix->exchange];
    work w = {.c = c,
              .matrix = matrix,
              .exchange = exchange,
              .observed = &c->observed[matrix->observed],
              .job = &c->run->plan->job[exchange->job],
              .weight = weight,
              .decoded = decoded};
    double start = ht_seconds();
    HT_TRY(ht_run_find_range(c->run, exchange->job));
    if (!exchange->memory) {
        HT_TRY(ht_exchange_open(c, exchange));
        HT_TRY(ht_run_open_tally(c->run, exchange->job));
    }
    w.planes = ht_weight_planes(&exchange->weight, matrix->entry);
    w.slice = ht_slice_rows(w.job, c->run->chunk);
    w.row = ht_report_matrix_of(exchange->job, matrix->entry);
    ht_slice_global(c->run, w.job, matrix->entry, &w.planes);
    HT_TRY(choose_codes(&w));
    w.row.tokens = w.observed->moments ? w.observed->moments->tokens : w.observed->routed;
    w.row.seconds = ht_seconds() - start;
    HT_TRY(ht_run_note_matrix(c->run, &w.row));
    exchange->remaining--;
    c->matrices_done++;
    tell(&w);
    return ht_run_report_stage(&c->run->plan->report, w.job->rule->method->item.name, w.row.seconds,
                               ht_context_memory_used(c->ctx));
}

ht_status ht_block_quantize(ht_calibrator *c) {
    size_t values = 0;
    float *weight = NULL, *decoded = NULL;
    for (size_t i = 0; i < c->exchange_count; i++) {
        const ht_layout *layout = c->run->plan->job[c->exchange[i].job].layout;
        values = layout->rows * layout->cols > values ? layout->rows * layout->cols : values;
    }
    ht_status status = ht_allocate_raw(c->ctx, values, sizeof *weight, "weights of a matrix", &weight);
    if (status == HT_OK)
        status = ht_allocate_raw(c->ctx, values, sizeof *decoded, "decoded weights of a matrix", &decoded);
    for (size_t i = 0; i < c->matrix_count && status == HT_OK; i++)
        if (c->matrix[i].observed >= c->first_observed && c->matrix[i].observed < c->end_observed)
            status = quantize_matrix(c, &c->matrix[i], weight, decoded);
    ht_release(c->ctx, weight);
    ht_release(c->ctx, decoded);
    return status;
}
