/* What one exchange does to the output: a unit's linears replaced by what the reference candidate decodes to,
 * everything else float, over windows that were not calibrated on.
 *
 *     rows as they enter layer l --- l with the unit exchanged --- l + 1 ... --- norm, head ---> p
 *                                                                     float rows, head      ---> p_float
 *     KL = mean over positions of sum over tokens of p_float (log p_float - log p)
 *
 * Layers before l are the float model's, so they are not run again. Final rows of the float model are kept, its logits
 * made once a window and layer. Sums run in f64 in the order of positions: same figures for any number of threads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */
#include <string.h>

#include "base/context.h"
#include "base/status.h"
#include "model/sampling.h"
#include "quant/search/search.h"

enum { SLICE_BYTES = 16 << 20, LEAST_SLICE = 8 };

/* Divergences of a slice of positions. */
typedef struct slice {
    const ht_measurement *m;
    size_t rows;
    float *logits, *base, *weight; /* [rows, vocabulary]; weight: exp(base - max) */
    double *kl;                    /* [rows] */
} slice;

/* --- Divergence -------------------------------------------------------------------------------------------------- */

static void diverge_rows(void *arg, size_t first, size_t count) {
    const slice *s = arg;
    size_t vocabulary = s->m->model->config.vocabulary;
    ht_softmax_fn *softmax = s->m->model->kernels.of[HT_OPERATION_SOFTMAX].softmax;
    for (size_t r = first; r < first + count; r++) {
        const float *x = s->logits + r * vocabulary, *y = s->base + r * vocabulary;
        float *weight = s->weight + r * vocabulary;
        ht_log_softmax p = {.logits = x}, q = {.logits = y};
        p.logsum = log(softmax(x, vocabulary, -INFINITY, weight, &p.max));
        q.logsum = log(softmax(y, vocabulary, -INFINITY, weight, &q.max)); /* leaves q's weights */
        s->kl[r] = ht_divergence(&p, &q, weight, vocabulary);
    }
}

static ht_status open_slice(const ht_measurement *m, slice *s) {
    size_t vocabulary = m->model->config.vocabulary, length = m->search->samples.length;
    *s = (slice){.m = m, .rows = SLICE_BYTES / (vocabulary * sizeof(float))};
    s->rows = s->rows < LEAST_SLICE ? LEAST_SLICE : s->rows;
    s->rows = s->rows < length ? s->rows : length;
    HT_TRY(ht_allocate_raw(m->ctx, s->rows * vocabulary, sizeof(float), "logits", &s->logits));
    HT_TRY(ht_allocate_raw(m->ctx, s->rows * vocabulary, sizeof(float), "logits", &s->base));
    HT_TRY(ht_allocate_raw(m->ctx, s->rows * vocabulary, sizeof(float), "exponentials", &s->weight));
    return ht_allocate_raw(m->ctx, s->rows, sizeof *s->kl, "divergences", &s->kl);
}

static void close_slice(slice *s) {
    ht_release(s->m->ctx, s->logits);
    ht_release(s->m->ctx, s->base);
    ht_release(s->m->ctx, s->weight);
    ht_release(s->m->ctx, s->kl);
}

/* --- Exchanging -------------------------------------------------------------------------------------------------- */

static ht_status make_exchanges(ht_measurement *m) {
    ht_format f32;
    HT_TRY(ht_format_parse("f32", &f32));
    for (size_t i = 0; i < m->slots; i++) {
        ht_search_slot *slot = &m->slot[i];
        const ht_weight *stored = &ht_checkpoint_parameter(m->search->checkpoint, slot->parameter)->weight;
        if (!slot->decoded)
            continue;
        size_t reference = m->search->unit[slot->unit].reference;
        const ht_job *job = &m->search->candidate[reference].plan->job[slot->parameter];
        ht_weight weight = {.format = f32, .batch = stored->batch, .rows = stored->rows, .cols = stored->cols};
        weight.plane[HT_PLANE_CODES] = slot->decoded;
        weight.stride[HT_PLANE_CODES] = stored->rows * stored->cols * sizeof(float);
        const ht_linear_options options = {.input = job->scheme.has_input ? &job->scheme.input : NULL,
                                           .input_rule = job->scheme.input_rule,
                                           .bias = ht_linear_bias(*slot->place)};
        slot->before = *slot->place;
        HT_TRY(ht_linear_from_weight(m->ctx, &weight, &options, &slot->after));
    }
    return HT_OK;
}

static size_t exchange(ht_measurement *m, size_t unit, int put) {
    size_t count = 0;
    for (size_t i = 0; i < m->slots; i++)
        if (m->slot[i].after && m->slot[i].unit == unit) {
            *m->slot[i].place = put ? m->slot[i].after : m->slot[i].before;
            count++;
        }
    return count;
}

static void final_norm(const ht_measurement *m, float *x) {
    const ht_decoder_config *c = &m->model->config;
    for (size_t r = 0; r < m->search->samples.length; r++)
        m->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(x + r * c->hidden, m->model->final_norm, c->hidden,
                                                           (float)c->norm_epsilon, x + r * c->hidden);
}

/* Rows of a window from the layer to the end, in place. */
static ht_status run_to_end(ht_measurement *m, size_t layer, float *x) {
    for (size_t l = layer; l < m->model->config.layers; l++)
        HT_TRY(ht_block_run(m->sequence, l, x, m->search->samples.length, NULL));
    final_norm(m, x);
    return HT_OK;
}

/* Divergences of a window: final rows of every unit in `rows`, one after the other. */
static ht_status diverge_window(ht_measurement *m, slice *s, const float *base, const float *rows, const size_t *unit,
                                size_t units) {
    size_t length = m->search->samples.length, hidden = m->model->config.hidden;
    for (size_t from = 0; from < length; from += s->rows) {
        size_t count = length - from < s->rows ? length - from : s->rows;
        HT_TRY(ht_decoder_logits(m->model, base + from * hidden, count, s->base));
        for (size_t u = 0; u < units; u++) {
            HT_TRY(ht_decoder_logits(m->model, rows + (u * length + from) * hidden, count, s->logits));
            HT_TRY(ht_for_rows(m->ctx, count, diverge_rows, s));
            for (size_t i = 0; i < count; i++)
                m->search->unit[unit[u]].kl += s->kl[i];
        }
    }
    return HT_OK;
}

static ht_status exchange_window(ht_measurement *m, slice *s, size_t window, float *rows, const size_t *unit,
                                 size_t units) {
    size_t values = m->search->samples.length * m->model->config.hidden;
    float *x;
    for (size_t u = 0; u < units; u++) {
        HT_TRY(ht_context_check_cancelled(m->ctx));
        HT_TRY(ht_hidden_load(m->entered, window, &x));
        memcpy(rows + u * values, x, values * sizeof *x);
        exchange(m, unit[u], 1);
        ht_status status = run_to_end(m, m->layer, rows + u * values);
        exchange(m, unit[u], 0);
        HT_TRY(status);
    }
    HT_TRY(ht_hidden_load(m->final, window, &x));
    HT_TRY(diverge_window(m, s, x, rows, unit, units));
    /* on to the next layer, float */
    HT_TRY(ht_hidden_load(m->entered, window, &x));
    HT_TRY(ht_block_run(m->sequence, m->layer, x, m->search->samples.length, NULL));
    return ht_hidden_store(m->entered, window);
}

/* Units of the layer that have something to exchange. */
static size_t list_units(const ht_measurement *m, size_t *unit) {
    size_t count = 0;
    for (size_t i = 0; i < m->slots; i++) {
        size_t known = 0;
        while (known < count && unit[known] != m->slot[i].unit)
            known++;
        if (known == count && m->slot[i].decoded)
            unit[count++] = m->slot[i].unit;
    }
    return count;
}

ht_status ht_exchange_layer(ht_measurement *m) {
    const ht_samples *samples = &m->search->samples;
    size_t *unit = ht_arena_alloc(&m->arena, (m->slots + 1) * sizeof *unit), units;
    size_t values = samples->length * m->model->config.hidden;
    char item[64];
    slice s;
    float *rows = NULL;
    if (!unit)
        return HT_ERR_MEMORY;
    units = list_units(m, unit);
    snprintf(item, sizeof item, "layer %zu: exchanges", m->layer);
    ht_search_progress(m, item, 0);
    HT_TRY(make_exchanges(m));
    ht_status status = open_slice(m, &s);
    if (status == HT_OK)
        status = ht_allocate_raw(m->ctx, units * values, sizeof *rows, "rows of exchanges", &rows);
    for (size_t i = 0; i < samples->held_out && status == HT_OK; i++)
        status = exchange_window(m, &s, i, rows, unit, units);
    for (size_t u = 0; u < units; u++)
        m->search->unit[unit[u]].kl /= (double)samples->held_out * (double)samples->length;
    ht_release(m->ctx, rows);
    close_slice(&s);
    ht_search_progress(m, item, units);
    return status;
}

ht_status ht_exchange_prepare(ht_measurement *m, size_t resident) {
    const ht_samples *samples = &m->search->samples;
    size_t values = samples->length * m->model->config.hidden;
    HT_TRY(ht_hidden_create(m->ctx, samples->held_out, values, resident, m->folder ? m->folder : ".", &m->final));
    for (size_t i = 0; i < samples->held_out; i++) {
        float *x, *out;
        HT_TRY(ht_context_check_cancelled(m->ctx));
        HT_TRY(ht_hidden_load(m->final, i, &out));
        HT_TRY(ht_hidden_load(m->entered, i, &x));
        memcpy(out, x, values * sizeof *x);
        HT_TRY(run_to_end(m, 0, out));
        HT_TRY(ht_hidden_store(m->final, i));
    }
    return HT_OK;
}
