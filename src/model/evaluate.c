/* Perplexity, and distance to a base model, over a tokenized text.
 *
 * Protocol (docs/evaluation.md): windows of `context` ids side by side, the last partial one dropped; each from an
 * empty cache; loss of positions 1 .. context - 1 given the ones before; mean over all of them; exp.
 *
 *   loss     log of the sum of exp(logit - max), less (logit of the token - max)
 *   KL       sum over tokens of p_base * (log p_base - log p); top-1 agreement: same argmax
 *   stderr   of the mean over windows: windows are far less dependent than neighbouring tokens; of a change, of the
 *            windows' own changes (paired), as both models stumble over the same windows
 *
 * Logits exist for a slice of positions at a time; divergences are kept, 4 bytes a position. Sums run in f64 in the
 * order of positions, so the figures are the same for any thread count. Logits that are not finite end it with NUMERIC,
 * naming window and position.
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

/* Of one window: loss of both sides, divergence, how often both choose alike. */
struct sums {
    double of[4];
};
enum { LOSS, BASE_LOSS, DIVERGENCE, AGREED };

struct evaluation {
    ht_context *ctx;
    struct side side[2]; /* the model, the base */
    size_t sides, window, windows, slice;
    const int32_t *ids; /* of the window */
    size_t from;        /* first position of the slice */
    float *exponential; /* [slice, vocabulary] exp(logit - max) of the side scored last */
    float *kl;          /* [windows * (window - 1)] */
    size_t kl_from;     /* the slice's first position in kl */
    struct sums *sums;  /* [windows] */
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

static ht_log_softmax prediction(const struct side *side, size_t row) {
    return (ht_log_softmax){side->logits + row * side->model->config.vocabulary, side->max[row], side->logsum[row]};
}

/* KL of one position, with `exponential` as the base model left it. */
static double divergence(const struct evaluation *e, size_t row) {
    ht_log_softmax model = prediction(&e->side[0], row), base = prediction(&e->side[1], row);
    size_t vocabulary = e->side[0].model->config.vocabulary;
    return ht_divergence(&model, &base, e->exponential + row * vocabulary, vocabulary);
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
    double *sums = e->sums[window].of;
    for (size_t i = 0; i < rows && e->sides == 2; i++) {
        sums[AGREED] += e->side[0].best[i] == e->side[1].best[i];
        sums[DIVERGENCE] += (double)e->kl[e->kl_from + i];
    }
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
    for (size_t s = 0; s < e->sides; s++)
        for (size_t i = 0; i < scored; i++)
            e->sums[window].of[LOSS + s] += e->side[s].loss[i];
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

struct mean {
    double value, error; /* and its standard error; NaN for one window */
};

/* Mean over positions of sum `a`, less that of `b` (-1: nothing), and its error over windows. */
static struct mean mean_of(const struct evaluation *e, int a, int b) {
    double positions = (double)(e->window - 1), windows = (double)e->windows, total = 0, square = 0;
    for (size_t w = 0; w < e->windows; w++)
        total += e->sums[w].of[a] - (b < 0 ? 0 : e->sums[w].of[b]);
    struct mean mean = {total / (windows * positions), (double)NAN};
    for (size_t w = 0; w < e->windows; w++) {
        double one = (e->sums[w].of[a] - (b < 0 ? 0 : e->sums[w].of[b])) / positions;
        square += (one - mean.value) * (one - mean.value);
    }
    if (e->windows > 1)
        mean.error = sqrt(square / (windows - 1) / windows);
    return mean;
}

static int by_value(const void *a, const void *b) {
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Nearest rank of sorted values. */
static double percentile(const float *sorted, size_t count, double share) {
    size_t rank = (size_t)ceil(share * (double)count);
    return (double)sorted[rank ? rank - 1 : 0];
}

double ht_kl_bin_begin(size_t bin) {
    return bin ? pow(10, -6 + ((double)bin - 1) / 4) : 0;
}

static void fill_histogram(const float *sorted, size_t count, uint64_t *histogram) {
    size_t bin = 0;
    for (size_t i = 0; i < count; i++) {
        while (bin + 1 < HT_KL_BINS && (double)sorted[i] >= ht_kl_bin_begin(bin + 1))
            bin++;
        histogram[bin]++;
    }
}

static void summarize_pair(struct evaluation *e, ht_evaluation *out) {
    struct mean base = mean_of(e, BASE_LOSS, -1), change = mean_of(e, LOSS, BASE_LOSS);
    struct mean kl = mean_of(e, DIVERGENCE, -1), agreed = mean_of(e, AGREED, -1);
    out->base_nll = base.value;
    out->base_nll_stderr = base.error;
    out->base_perplexity = exp(base.value);
    out->nll_change = change.value;
    out->nll_change_stderr = change.error;
    out->kl_mean = kl.value;
    out->kl_stderr = kl.error;
    out->top1_agreement = agreed.value;
    out->top1_stderr = agreed.error;
    qsort(e->kl, out->tokens, sizeof *e->kl, by_value);
    out->kl_median = percentile(e->kl, out->tokens, 0.5);
    out->kl_p90 = percentile(e->kl, out->tokens, 0.9);
    out->kl_p95 = percentile(e->kl, out->tokens, 0.95);
    out->kl_p99 = percentile(e->kl, out->tokens, 0.99);
    out->kl_p999 = percentile(e->kl, out->tokens, 0.999);
    out->kl_max = percentile(e->kl, out->tokens, 1);
    fill_histogram(e->kl, out->tokens, out->kl_histogram);
}

static void summarize(struct evaluation *e, double seconds, ht_evaluation *out) {
    double unknown = (double)NAN;
    struct mean loss = mean_of(e, LOSS, -1);
    *out = (ht_evaluation){.perplexity = exp(loss.value),
                           .nll = loss.value,
                           .nll_stderr = loss.error,
                           .tokens = e->windows * (e->window - 1),
                           .windows = e->windows,
                           .seconds = seconds,
                           .tokens_per_second = seconds > 0 ? (double)(e->windows * e->window) / seconds : 0,
                           .base_perplexity = unknown,
                           .base_nll = unknown,
                           .base_nll_stderr = unknown,
                           .nll_change = unknown,
                           .nll_change_stderr = unknown,
                           .kl_mean = unknown,
                           .kl_stderr = unknown,
                           .kl_median = unknown,
                           .kl_p90 = unknown,
                           .kl_p95 = unknown,
                           .kl_p99 = unknown,
                           .kl_p999 = unknown,
                           .kl_max = unknown,
                           .top1_agreement = unknown,
                           .top1_stderr = unknown};
    if (e->sides == 2)
        summarize_pair(e, out);
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
    HT_TRY(ht_allocate(e->ctx, e->windows, sizeof *e->sums, "losses of the windows", &e->sums));
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
    ht_release(e.ctx, e.sums);
    ht_release(e.ctx, e.kl);
    ht_release(e.ctx, e.exponential);
    return status;
}
