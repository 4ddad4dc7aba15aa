/* One matrix under every candidate: rounded as the recipe's method would, and how far its outputs are off.
 *
 *     error = tr(E H E^T) / tr(W H W^T),  E = W - Q,  H = sum x x^T          (diagonal: H without the rest)
 *
 * relative, so that matrices of different layers compare; of an expert, times the share of the tokens that go to it. A
 * unit's error is the sum over its matrices. An expert that no token goes to adds nothing: it is never a unit alone.
 * Methods that see whole matrices are asked as in a calibrated run, with its fallbacks: rounding where few tokens come,
 * where the method does worse, and where `rounding` is asked for. Refuses weights that are not finite.
 * Source: algorithms specification, section 1.8 (the loss by which GPTQ and rounding are compared).
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* isfinite */
#include <stdint.h> /* SIZE_MAX */
#include <string.h>

#include "base/context.h"
#include "base/status.h"
#include "ops/cast.h"
#include "ops/dense.h"
#include "quant/decode.h"
#include "quant/method/matrix.h"
#include "quant/search/search.h"

enum { ALIGN = 64 };

/* A matrix at work. */
typedef struct work {
    ht_measurement *m;
    const ht_search_matrix *matrix;
    const ht_parameter *parameter;
    const ht_moments *moments;
    ht_unit *unit;
    size_t rows, cols;
    float *weight, *decoded;
    double energy, share; /* tr(W H W^T) per token; of the tokens */
} work;

/* --- Loss -------------------------------------------------------------------------------------------------------- */

static double diagonal_loss(const work *w, const float *decoded) {
    double sum = 0;
    for (size_t r = 0; r < w->rows; r++) {
        double row = 0;
        for (size_t c = 0; c < w->cols; c++) {
            double e = (double)w->weight[r * w->cols + c] - (double)decoded[r * w->cols + c];
            row += e * e * w->moments->square_sum[c];
        }
        sum += row;
    }
    return sum / (double)w->moments->tokens;
}

static double loss_of(const work *w, const ht_matrix_problem *problem, const float *decoded) {
    if (!w->moments->tokens)
        return 0;
    return w->moments->second ? ht_matrix_loss(problem, w->moments, decoded) : diagonal_loss(w, decoded);
}

/* --- Rounding ---------------------------------------------------------------------------------------------------- */

/* The number for the matrix, over everything that shares it. */
static ht_status set_global(const work *w, const ht_plan *plan, const ht_job *job, const ht_planes *planes) {
    ht_range range = ht_range_empty();
    if (!planes->plane[HT_PLANE_GLOBAL])
        return HT_OK;
    for (size_t i = 0; i < w->unit->row.tensors; i++) {
        size_t other = w->unit->parameter[i];
        const ht_weight *weight = &ht_checkpoint_parameter(w->m->search->checkpoint, other)->weight;
        if (plan->job[other].shared != job->shared || w->matrix->entry >= weight->batch)
            continue;
        const char *data =
            (const char *)weight->plane[HT_PLANE_CODES] + w->matrix->entry * weight->stride[HT_PLANE_CODES];
        HT_TRY(ht_range_rows(w->m->ctx, &range, data, weight->format.element, weight->rows * weight->cols));
    }
    float global = ht_format_global(&job->layout->format, &job->row, &range);
    memcpy(planes->plane[HT_PLANE_GLOBAL], &global, sizeof global);
    return HT_OK;
}

static size_t plane_bytes(const ht_layout *layout, int plane) {
    size_t bytes = ht_format_plane_bytes(&layout->format, (ht_plane)plane, layout->rows, layout->cols);
    return (bytes + ALIGN - 1) / ALIGN * ALIGN;
}

static size_t planes_bytes(const ht_layout *layout) {
    size_t total = 0;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        total += plane_bytes(layout, plane);
    return total;
}

static ht_status open_planes(ht_context *ctx, const ht_layout *layout, char **memory, ht_planes *planes) {
    HT_TRY(ht_allocate(ctx, planes_bytes(layout), 1, "quantized weights", memory));
    char *next = *memory;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        planes->plane[plane] = plane_bytes(layout, plane) ? next : NULL;
        next += plane_bytes(layout, plane);
    }
    return HT_OK;
}

/* Does the method get this matrix, or is it rounded? */
static int has_method(const work *w, const ht_job *job) {
    const ht_search *s = w->m->search;
    const ht_method *method = job->rule->method;
    double few =
        ht_setting_of(HT_SETTING_FEW_TOKENS, method->item.name) ? job->settings.value[HT_SETTING_FEW_TOKENS] : 0;
    double all = (double)s->samples.count * (double)s->samples.length;
    return method->matrix && !s->options.rounding && w->moments->second && w->moments->tokens &&
           (double)w->moments->tokens >= few * all;
}

static ht_status round_matrix(const work *w, const ht_job *job, const ht_matrix_problem *problem,
                              ht_matrix_result *result) {
    const ht_method *method = job->rule->method;
    if (has_method(w, job)) {
        ht_status status = method->matrix(problem, result);
        if (status != HT_OK)
            return ht_fail_prefix(status, "tensor %s", w->parameter->name);
        return result->loss > result->rtn_loss ? ht_matrix_round(problem, NULL, result) : HT_OK;
    }
    if (!method->quantize_rows || w->m->search->options.rounding)
        return ht_matrix_round(problem, NULL, result);
    HT_TRY(method->quantize_rows(problem->format, problem->how, problem->settings, w->weight, HT_F32, w->rows, w->cols,
                                 &result->planes));
    return ht_format_dequantize(problem->format, &result->planes, w->rows, w->cols, result->decoded);
}

/* Decoded values of the reference candidate, for the exchange. */
static ht_status keep_decoded(const work *w) {
    ht_search_slot *slot = &w->m->slot[w->matrix->slot];
    const ht_weight *weight = &w->parameter->weight;
    size_t values = w->rows * w->cols;
    if (!slot->decoded)
        HT_TRY(ht_allocate(w->m->ctx, weight->batch * values, sizeof(float), "weights to exchange", &slot->decoded));
    memcpy(slot->decoded + w->matrix->entry * values, w->decoded, values * sizeof(float));
    return HT_OK;
}

static ht_status try_candidate(work *w, size_t candidate) {
    ht_search *s = w->m->search;
    const ht_plan *plan = s->candidate[candidate].plan;
    const ht_job *job = plan ? &plan->job[w->matrix->parameter] : NULL;
    char *memory = NULL;
    if (!job || !job->layout)
        return HT_OK; /* kept: no error; or cannot be had */
    ht_matrix_problem problem = {.ctx = w->m->ctx,
                                 .format = &job->layout->format,
                                 .how = &job->row,
                                 .settings = &job->settings,
                                 .weight = w->weight,
                                 .rows = w->rows,
                                 .cols = w->cols,
                                 .input = w->moments};
    ht_matrix_result result = {.decoded = w->decoded};
    HT_TRY(ht_context_check_cancelled(w->m->ctx));
    HT_TRY(open_planes(w->m->ctx, job->layout, &memory, &result.planes));
    ht_status status = set_global(w, plan, job, &result.planes);
    if (status == HT_OK)
        status = round_matrix(w, job, &problem, &result);
    ht_release(w->m->ctx, memory);
    HT_TRY(status);
    double loss = loss_of(w, &problem, w->decoded);
    if (!isfinite(loss))
        return ht_fail(HT_ERR_NUMERIC, "tensor %s: its error under %s is not finite", w->parameter->name,
                       s->candidate[candidate].row.scheme);
    w->unit->error[candidate] += w->energy > 0 ? w->share * loss / w->energy : 0;
    return candidate == w->unit->reference ? keep_decoded(w) : HT_OK;
}

/* --- One after the other ----------------------------------------------------------------------------------------- */

static ht_status check_finite(const work *w) {
    for (size_t i = 0; i < w->rows * w->cols; i++)
        if (!isfinite(w->weight[i]))
            return ht_fail(HT_ERR_NUMERIC, "%s: tensor %s holds a value that is not finite at [%zu, %zu, %zu]",
                           ht_checkpoint_path(w->m->search->checkpoint), w->parameter->name, w->matrix->entry,
                           i / w->cols, i % w->cols);
    return HT_OK;
}

static ht_status measure_matrix(ht_measurement *m, const ht_search_matrix *matrix, float *weight, float *decoded) {
    ht_search *s = m->search;
    const ht_search_site *site = &m->site[matrix->observed];
    const ht_parameter *parameter = ht_checkpoint_parameter(s->checkpoint, matrix->parameter);
    work w = {.m = m,
              .matrix = matrix,
              .parameter = parameter,
              .moments = site->moments,
              .unit = &s->unit[s->unit_of[matrix->parameter]],
              .rows = parameter->weight.rows,
              .cols = parameter->weight.cols,
              .weight = weight,
              .decoded = decoded,
              .share = (double)site->tokens / ((double)s->samples.count * (double)s->samples.length)};
    if (w.cols != site->cols)
        return ht_fail(HT_ERR_UNSUPPORTED, "tensor %s has %zu columns where %zu inputs were expected", parameter->name,
                       w.cols, site->cols);
    HT_TRY(ht_read_rows(m->ctx, parameter, matrix->entry, 0, w.rows, weight));
    HT_TRY(check_finite(&w));
    memset(decoded, 0, w.rows * w.cols * sizeof *decoded);
    const ht_matrix_problem all = {.ctx = m->ctx, .weight = weight, .rows = w.rows, .cols = w.cols};
    w.energy = loss_of(&w, &all, decoded);
    for (size_t c = 0; c < s->candidates; c++) {
        HT_TRY(try_candidate(&w, c));
        ht_search_progress(m, parameter->name, 1);
    }
    return HT_OK;
}

static size_t largest_matrix(const ht_measurement *m) {
    size_t values = 0;
    for (size_t i = 0; i < m->matrices; i++) {
        const ht_weight *w = &ht_checkpoint_parameter(m->search->checkpoint, m->matrix[i].parameter)->weight;
        values = w->rows * w->cols > values ? w->rows * w->cols : values;
    }
    return values;
}

size_t ht_search_matrix_bytes(const ht_measurement *m) {
    size_t most = 0, threads = ht_context_threads(m->ctx);
    for (size_t i = 0; i < m->matrices; i++) {
        size_t cols = ht_checkpoint_parameter(m->search->checkpoint, m->matrix[i].parameter)->weight.cols;
        size_t panels = ht_dense_bytes(cols, cols, HT_MOMENTS_BLOCK); /* while statistics are taken */
        most = panels > most ? panels : most;
        for (size_t c = 0; c < m->search->candidates; c++) {
            const ht_plan *plan = m->search->candidate[c].plan;
            const ht_job *job = plan ? &plan->job[m->matrix[i].parameter] : NULL;
            if (!job || !job->layout)
                continue;
            size_t bytes = planes_bytes(job->layout) + ht_method_matrix_bytes(job->rule->method, &job->layout->format,
                                                                              &job->settings, job->layout->rows,
                                                                              job->layout->cols, threads);
            most = bytes > most ? bytes : most;
        }
    }
    return most + 2 * largest_matrix(m) * sizeof(float);
}

ht_status ht_search_matrices(ht_measurement *m) {
    size_t values = largest_matrix(m);
    float *weight = NULL, *decoded = NULL;
    ht_status status = ht_allocate_raw(m->ctx, values, sizeof *weight, "weights of a matrix", &weight);
    if (status == HT_OK)
        status = ht_allocate_raw(m->ctx, values, sizeof *decoded, "decoded weights of a matrix", &decoded);
    for (size_t i = 0; i < m->matrices && status == HT_OK; i++)
        if (m->matrix[i].observed >= m->first_site && m->matrix[i].observed < m->end_site)
            status = measure_matrix(m, &m->matrix[i], weight, decoded);
    ht_release(m->ctx, weight);
    ht_release(m->ctx, decoded);
    return status;
}
