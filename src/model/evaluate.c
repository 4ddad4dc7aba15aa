/* Perplexity, and distance to a base model, over a tokenized text.
 *
 * Protocol (docs/evaluation.md): windows of `context` ids side by side, the last partial one dropped; each from an
 * empty cache; loss of positions 1 .. context - 1 given the ones before; mean over all of them; exp.
 *
 *   loss     log of the sum of exp(logit - max), less (logit of the token - max)
 *   KL       sum over tokens of p_base * (log p_base - log p); top-1 agreement: same argmax
 *   stderr   of the mean over windows: windows are far less dependent than neighbouring tokens
 *
 * Logits exist for a slice of positions at a time. Sums run in f64 in the order of positions, so the figures are the
 * same for any thread count. Logits that are not finite end it with NUMERIC, naming window and position.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/decoder.h"

#include <math.h>   /* log, exp, sqrt, isfinite */
#include <stdlib.h> /* qsort */

#include "base/context.h"
#include "base/status.h"
#include "model/sampling.h"

enum { SLICE_BYTES = 16 << 20 };

/* One model of the comparison. */
struct side {
    ht_model *model;
    ht_sequence *sequence;
    float *logits;  /* [slice, vocabulary] */
    double *loss;   /* [context] of the window's positions */
    float *max;     /* [slice] */
    double *logsum; /* [slice] log of the sum of exp(logit - max) */
    int32_t *best;  /* [slice] argmax; -1: not finite */
};

struct evaluation {
    ht_context *ctx;
    struct side side[2]; /* the model, the base */
    size_t sides, window, windows, slice;
    const int32_t *ids; /* of the window */
    size_t from;        /* first position of the slice */
    float *exponential; /* [slice, vocabulary] exp(logit - max) of the side scored last */
    float *kl;          /* [windows * (window - 1)] */
    size_t kl_from;     /* the slice's first position in kl */
    double *window_nll; /* [windows] */
    double total[2], agreed;
};

/* --- one slice of positions -------------------------------------------------------------------------------------- */

static void score_row(struct evaluation *e, struct side *side, size_t row) {
    size_t vocabulary = side->model->config.vocabulary;
    const float *logits = side->logits + row * vocabulary;
    double picked = (double)logits[e->ids[e->from + row + 1]];
    side->best[row] = ht_argmax(logits, vocabulary);
    double sum = side->model->kernels.of[HT_OPERATION_SOFTMAX].softmax(
        logits, vocabulary, -INFINITY, e->exponential + row * vocabulary, &side->max[row]);
    side->logsum[row] = log(sum);
    side->loss[e->from + row] = side->logsum[row] - (picked - (double)side->max[row]);
    if (!isfinite(side->loss[e->from + row]))
        side->best[row] = -1;
}

/* KL of one position, with `exponential` as the base model left it. Tokens whose share of it is below f32 add nothing.
 */
static double divergence(const struct evaluation *e, size_t row) {
    const struct side *model = &e->side[0], *base = &e->side[1];
    size_t vocabulary = model->model->config.vocabulary;
    const float *x = model->logits + row * vocabulary, *y = base->logits + row * vocabulary;
    const float *weight = e->exponential + row * vocabulary;
    float x_max = model->max[row], y_max = base->max[row];
    double sum = 0;
    for (size_t i = 0; i < vocabulary; i++)
        if (weight[i] > 0)
            sum += (double)(weight[i] * ((y[i] - y_max) - (x[i] - x_max)));
    return sum * exp(-base->logsum[row]) + model->logsum[row] - base->logsum[row];
}

static void score_rows(void *arg, size_t row, size_t count) {
    struct evaluation *e = arg;
    for (size_t i = row; i < row + count; i++) {
        for (size_t s = 0; s < e->sides; s++)
            score_row(e, &e->side[s], i);
        if (e->sides == 2)
            e->kl[e->kl_from + i] = (float)divergence(e, i);
    }
}

static ht_status run_slice(struct evaluation *e, size_t window, size_t rows) {
    e->kl_from = window * (e->window - 1) + e->from;
    HT_TRY(ht_for_rows(e->ctx, rows, score_rows, e));
    for (size_t i = 0; i < rows; i++)
        for (size_t s = 0; s < e->sides; s++)
            if (e->side[s].best[i] < 0)
                return ht_fail(HT_ERR_NUMERIC, "evaluate: logits%s of window %zu, position %zu are not finite",
                               s ? " of the base model" : "", window, e->from + i);
    for (size_t i = 0; i < rows && e->sides == 2; i++)
        e->agreed += e->side[0].best[i] == e->side[1].best[i];
    return HT_OK;
}

/* --- windows ----------------------------------------------------------------------------------------------------- */

/* Final hidden rows of the whole window stay in act.normed only when it fits one pass; so slices follow the passes. */
static ht_status run_window(struct evaluation *e, size_t window) {
    for (size_t s = 0; s < e->sides; s++)
        ht_sequence_reset(e->side[s].sequence);
    size_t scored = e->window - 1;
    for (size_t done = 0; done < e->window;) {
        size_t m = e->window - done < HT_CHUNK ? e->window - done : HT_CHUNK;
        for (size_t s = 0; s < e->sides; s++)
            HT_TRY(ht_decoder_pass(e->side[s].sequence, e->ids + done, m));
        size_t end = done + m < scored ? done + m : scored;
        for (size_t from = done; from < end; from += e->slice) {
            size_t rows = end - from < e->slice ? end - from : e->slice;
            for (size_t s = 0; s < e->sides; s++) {
                ht_model *model = e->side[s].model;
                HT_TRY(ht_decoder_logits(model, model->act.normed + (from - done) * model->config.hidden, rows,
                                         e->side[s].logits));
            }
            e->from = from;
            HT_TRY(run_slice(e, window, rows));
        }
        done += m;
    }
    for (size_t s = 0; s < e->sides; s++) {
        double sum = 0;
        for (size_t i = 0; i < scored; i++)
            sum += e->side[s].loss[i];
        e->total[s] += sum;
        if (s == 0)
            e->window_nll[window] = sum / (double)scored;
    }
    return HT_OK;
}

static ht_status run_windows(struct evaluation *e, const int32_t *ids) {
    double start = ht_seconds();
    ht_progress progress = {.stage = "eval", .unit = "tokens", .total = e->windows * e->window};
    for (size_t w = 0; w < e->windows; w++) {
        e->ids = ids + w * e->window;
        ht_status status = run_window(e, w);
        if (status != HT_OK)
            return status;
        progress.done = (w + 1) * e->window;
        progress.seconds = ht_seconds() - start;
        ht_report(e->ctx, &progress);
    }
    return HT_OK;
}

/* --- figures ----------------------------------------------------------------------------------------------------- */

static double standard_error(const double *x, size_t count) {
    double mean = 0, square = 0;
    for (size_t i = 0; i < count; i++)
        mean += x[i] / (double)count;
    for (size_t i = 0; i < count; i++)
        square += (x[i] - mean) * (x[i] - mean);
    return count > 1 ? sqrt(square / (double)(count - 1) / (double)count) : (double)NAN;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void summarize(struct evaluation *e, double seconds, ht_evaluation *out) {
    double tokens = (double)(e->windows * (e->window - 1));
    out->windows = e->windows;
    out->tokens = e->windows * (e->window - 1);
    out->nll = e->total[0] / tokens;
    out->perplexity = exp(out->nll);
    out->nll_stderr = standard_error(e->window_nll, e->windows);
    out->seconds = seconds;
    out->tokens_per_second = seconds > 0 ? (double)(e->windows * e->window) / seconds : 0;
    out->base_perplexity = out->kl_mean = out->kl_p99 = out->top1_agreement = (double)NAN;
    if (e->sides < 2)
        return;
    double sum = 0;
    for (size_t i = 0; i < out->tokens; i++)
        sum += (double)e->kl[i];
    qsort(e->kl, out->tokens, sizeof *e->kl, by_value);
    out->base_perplexity = exp(e->total[1] / tokens);
    out->kl_mean = sum / tokens;
    out->kl_p99 = (double)e->kl[(size_t)ceil(0.99 * tokens) - 1]; /* nearest rank */
    out->top1_agreement = e->agreed / tokens;
}

/* --- setting up -------------------------------------------------------------------------------------------------- */

static ht_status open_side(const struct evaluation *e, struct side *side) {
    ht_context *ctx = e->ctx;
    HT_TRY(ht_sequence_create(side->model, e->window, &side->sequence));
    HT_TRY(ht_allocate_raw(ctx, e->slice * side->model->config.vocabulary, sizeof(float), "logits", &side->logits));
    HT_TRY(ht_allocate_raw(ctx, e->window, sizeof *side->loss, "losses", &side->loss));
    HT_TRY(ht_allocate_raw(ctx, e->slice, sizeof *side->max, "losses", &side->max));
    HT_TRY(ht_allocate_raw(ctx, e->slice, sizeof *side->logsum, "losses", &side->logsum));
    return ht_allocate_raw(ctx, e->slice, sizeof *side->best, "losses", &side->best);
}

static void close_side(ht_context *ctx, struct side *side) {
    ht_sequence_destroy(side->sequence);
    ht_release(ctx, side->logits);
    ht_release(ctx, side->loss);
    ht_release(ctx, side->max);
    ht_release(ctx, side->logsum);
    ht_release(ctx, side->best);
}

static ht_status check_ids(const struct evaluation *e, const int32_t *ids) {
    size_t vocabulary = e->side[0].model->config.vocabulary;
    if (e->sides == 2 && e->side[1].model->config.vocabulary != vocabulary)
        return ht_fail(HT_ERR_ARGUMENT, "evaluate: the model has %zu tokens in its vocabulary, the base model %zu",
                       vocabulary, e->side[1].model->config.vocabulary);
    for (size_t i = 0; i < e->windows * e->window; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= vocabulary)
            return ht_fail(HT_ERR_ARGUMENT, "evaluate: token %zu has id %ld, the vocabulary has %zu", i, (long)ids[i],
                           vocabulary);
    return HT_OK;
}

static ht_status evaluate(struct evaluation *e, const int32_t *ids, ht_evaluation *out) {
    HT_TRY(check_ids(e, ids));
    HT_TRY(ht_allocate_raw(e->ctx, e->windows, sizeof *e->window_nll, "losses of the windows", &e->window_nll));
    if (e->sides == 2)
        HT_TRY(ht_allocate_raw(e->ctx, e->windows * (e->window - 1), sizeof *e->kl, "divergences", &e->kl));
    HT_TRY(ht_allocate_raw(e->ctx, e->slice * e->side[0].model->config.vocabulary, sizeof(float), "exponentials",
                           &e->exponential));
    for (size_t s = 0; s < e->sides; s++)
        HT_TRY(open_side(e, &e->side[s]));
    double start = ht_seconds();
    HT_TRY(run_windows(e, ids));
    summarize(e, ht_seconds() - start, out);
    return HT_OK;
}

ht_status ht_model_evaluate(ht_model *model, const int32_t *ids, size_t count, const ht_evaluate_options *options,
                            ht_evaluation *out) {
    struct evaluation e = {.ctx = model->ctx, .side = {{.model = model}}, .sides = 1};
    e.window = options && options->context ? options->context : 512;
    if (options && options->max_tokens && options->max_tokens < count)
        count = options->max_tokens;
    e.windows = count / e.window;
    if (e.window < 2)
        return ht_fail(HT_ERR_ARGUMENT, "evaluate: a context of %zu tokens predicts nothing, 2 is the least", e.window);
    if (e.windows == 0)
        return ht_fail(HT_ERR_ARGUMENT, "evaluate: the text has %zu tokens, one window needs %zu", count, e.window);
    if (options && options->against) {
        e.side[1].model = options->against;
        e.sides = 2;
    }
    size_t row = model->config.vocabulary * sizeof(float);
    e.slice = SLICE_BYTES / row < 8 ? 8 : SLICE_BYTES / row;
    if (e.slice > HT_CHUNK)
        e.slice = HT_CHUNK;
    ht_status status = evaluate(&e, ids, out);
    for (size_t s = 0; s < e.sides; s++)
        close_side(e.ctx, &e.side[s]);
    ht_release(e.ctx, e.window_nll);
    ht_release(e.ctx, e.kl);
    ht_release(e.ctx, e.exponential);
    return status;
}
