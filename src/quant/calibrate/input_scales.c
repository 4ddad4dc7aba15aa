/* Static scales of inputs, in a pass of the float model over the samples, block by block.
 *
 *     hidden rows -> block l, watched: rows as the linear reads them (transformed) -> histogram -> scale
 *
 * Linears of a site that read the same rows share a histogram, and so does a batch of experts that are one parameter,
 * since it is stored with one scale. The range that the scale covers is
 *
 *     absmax      the largest magnitude
 *     p99.9 ...   the magnitude that this share of the values does not exceed
 *     mse         max 2^(-i/16): the one whose rounding leaves the least sum over bins of count (x - Q(x))^2, x the
 *                 bin's middle; in steps of 1/4 octave first, then around the best
 *
 * This is the first of two passes: what scales depend on (the transforms before, in files of their own) is done, and
 * what depends on them (statistics of quantized inputs, codes) comes after. An expert that no token came to takes the
 * histogram of the layer's others. Refuses linears outside of decoder blocks.
 * Source: algorithms specification, sections 2.1 and 2.7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/input_scales.h"

#include <math.h>   /* exp2, isfinite */
#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */

#include "base/context.h"
#include "base/memory.h"
#include "base/status.h"
#include "ops/input_transform.h"
#include "quant/calibrate/hidden.h"

/* --- The scale of a histogram ----------------------------------------------------------------------------------- */

enum { OCTAVES = 8, STEPS = 16, COARSE = 4 }; /* of the search: how far down, steps of an octave, first every 4th */

typedef struct search {
    const ht_format *format;
    const float *x;      /* [n] middles of bins */
    const double *count; /* [n] */
    size_t n;
    float *decoded;
    ht_planes planes;
} search;

static ht_status scale_of(const ht_format *format, double magnitude, float *scale) {
    const ht_row_options options = ht_row_options_default();
    const ht_range range = {.min = -(float)magnitude, .max = (float)magnitude, .amax = (float)magnitude};
    return ht_format_scale(format, &options, &range, scale, NULL);
}

static ht_status error_of(const search *s, double magnitude, double *error) {
    ht_row_options options = ht_row_options_default();
    *error = 0;
    HT_TRY(scale_of(s->format, magnitude, &options.scale));
    HT_TRY(ht_format_quantize(s->format, &options, s->x, HT_F32, 1, s->n, &s->planes));
    HT_TRY(ht_format_dequantize(s->format, &s->planes, 1, s->n, s->decoded));
    for (size_t i = 0; i < s->n; i++) {
        double e = (double)s->x[i] - (double)s->decoded[i];
        *error += s->count[i] * e * e;
    }
    return HT_OK;
}

static ht_status try_step(const search *s, double most, int step, int *best, double *least) {
    double error, magnitude = most * exp2(-(double)step / STEPS);
    if (step < 0 || !(magnitude >= 0x1p-100))
        return HT_OK;
    HT_TRY(error_of(s, magnitude, &error));
    if (error < *least) {
        *least = error;
        *best = step;
    }
    return HT_OK;
}

static ht_status best_magnitude(const search *s, double most, double *magnitude) {
    int best = 0, coarse;
    double least = HUGE_VAL;
    for (int step = 0; step <= OCTAVES * STEPS; step += COARSE)
        HT_TRY(try_step(s, most, step, &best, &least));
    coarse = best;
    for (int step = coarse - COARSE + 1; step < coarse + COARSE; step++)
        if (step != coarse)
            HT_TRY(try_step(s, most, step, &best, &least));
    *magnitude = most * exp2(-(double)best / STEPS);
    return HT_OK;
}

static ht_status search_magnitude(const ht_histogram *h, const ht_format *format, double *magnitude) {
    char *memory;
    size_t codes = ht_format_plane_bytes(format, HT_PLANE_CODES, 1, h->bins), n = 0;
    size_t scales = ht_format_plane_bytes(format, HT_PLANE_SCALES, 1, h->bins);
    HT_TRY(ht_allocate_raw(h->ctx, h->bins * (sizeof(double) + 2 * sizeof(float)) + codes + scales + 128, 1,
                           "middles of bins", &memory));
    double *count = (double *)(void *)memory;
    float *x = (float *)(void *)(count + h->bins), *decoded = x + h->bins;
    char *planes = (char *)(decoded + h->bins);
    for (size_t i = 0; i < h->bins; i++)
        if (h->count[i]) {
            count[n] = (double)h->count[i];
            x[n++] = (float)(((double)i + 0.5 - (double)(h->bins / 2)) * ht_histogram_width(h, 0));
        }
    const search s = {.format = format,
                      .x = x,
                      .count = count,
                      .n = n,
                      .decoded = decoded,
                      .planes = {{planes, planes + (codes + 63) / 64 * 64}}};
    ht_status status = best_magnitude(&s, *magnitude, magnitude);
    ht_release(h->ctx, memory);
    return status;
}

ht_status ht_input_scale(const ht_histogram *histogram, const ht_format *format, ht_input_range range, float *scale) {
    static const double shares[] = {[HT_INPUT_P999] = 0.999, [HT_INPUT_P9999] = 0.9999, [HT_INPUT_P99999] = 0.99999};
    int is_share = range == HT_INPUT_P999 || range == HT_INPUT_P9999 || range == HT_INPUT_P99999;
    double most = ht_histogram_magnitude(histogram, 0, 1);
    double magnitude = is_share ? ht_histogram_magnitude(histogram, 0, shares[range]) : most;
    *scale = 1;
    if (!(most > 0))
        return HT_OK;
    if (range == HT_INPUT_MSE)
        HT_TRY(search_magnitude(histogram, format, &magnitude));
    HT_TRY(scale_of(format, magnitude > 0 ? magnitude : most, scale));
    return *scale > 0 && isfinite(*scale) ? HT_OK
                                          : ht_fail(HT_ERR_NUMERIC,
                                                    "inputs up to %g have no scale that is finite and "
                                                    "above zero",
                                                    most);
}

/* --- What is watched in a block ---------------------------------------------------------------------------------- */

/* Rows that some linears read. */
typedef struct source {
    ht_site site;
    size_t expert, part; /* expert SIZE_MAX: those of all, in a parameter with several */
    ht_transformer inputs;
    ht_histogram *histogram;
} source;

typedef struct reader {
    size_t job, source;
} reader;

typedef struct measuring {
    ht_model *model;
    ht_plan *plan;
    ht_sequence *sequence;
    ht_hidden *hidden;
    ht_arena arena; /* of the layer */
    size_t layer, sources, readers;
    source *source;
    reader *reader;
    float *turned;
    size_t turned_values;
} measuring;

static int wants(const ht_plan *plan, size_t job) {
    return plan->job[job].layout && plan->job[job].scheme.has_input &&
           plan->job[job].scheme.input_range != HT_INPUT_DYNAMIC;
}

size_t ht_input_scales_wanted(const ht_plan *plan) {
    size_t job = 0;
    while (job < plan->count && !wants(plan, job))
        job++;
    return job < plan->count ? job : SIZE_MAX;
}

static ht_status add_reader(measuring *m, ht_site site, size_t expert, size_t part) {
    ht_block_linear linear = ht_block_linear_at(m->model, m->layer, site, expert, part);
    const ht_weight *weight = &m->plan->job[linear.parameter].parameter->weight;
    size_t entry = linear.entry, index = 0;
    ht_transformer inputs;
    if (!wants(m->plan, linear.parameter) || (weight->batch > 1 && expert > 0))
        return HT_OK;
    HT_TRY(ht_transformer_init(&inputs, m->plan->ctx, &weight->inputs, m->plan->job[linear.parameter].layout->cols));
    size_t whose = weight->batch > 1 ? SIZE_MAX : expert;
    for (; index < m->sources; index++) {
        const source *s = &m->source[index];
        size_t other = ht_block_linear_at(m->model, m->layer, site, expert, s->part).entry;
        if (s->site == site && s->expert == whose && whose != SIZE_MAX &&
            ht_transformer_equal(&s->inputs, other, &inputs, entry))
            break;
    }
    if (index == m->sources)
        m->source[m->sources++] = (source){.site = site, .expert = whose, .part = part, .inputs = inputs};
    else
        ht_transformer_release(&inputs);
    m->reader[m->readers++] = (reader){linear.parameter, index};
    return index + 1 == m->sources && !m->source[index].histogram
               ? ht_histogram_create(m->plan->ctx, 1, HT_HISTOGRAM_BINS, &m->source[index].histogram)
               : HT_OK;
}

static ht_status open_layer(measuring *m, size_t layer) {
    size_t most = 0;
    ht_arena_init(&m->arena, m->plan->ctx);
    m->layer = layer;
    m->sources = m->readers = 0;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        const ht_projection *projection = ht_block_site(m->model, layer, (ht_site)site);
        most += projection ? ht_block_experts(m->model, layer, (ht_site)site) * projection->parts : 0;
    }
    m->source = ht_arena_alloc(&m->arena, most * sizeof *m->source + 1);
    m->reader = ht_arena_alloc(&m->arena, most * sizeof *m->reader + 1);
    if (!m->source || !m->reader)
        return HT_ERR_MEMORY;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        const ht_projection *projection = ht_block_site(m->model, layer, (ht_site)site);
        size_t experts = projection ? ht_block_experts(m->model, layer, (ht_site)site) : 0;
        for (size_t i = 0; projection && i < experts * projection->parts; i++)
            HT_TRY(add_reader(m, (ht_site)site, i / projection->parts, i % projection->parts));
    }
    return HT_OK;
}

static void close_layer(measuring *m) {
    for (size_t i = 0; i < m->sources; i++) {
        ht_histogram_destroy(m->source[i].histogram);
        ht_transformer_release(&m->source[i].inputs);
    }
    m->sources = m->readers = 0;
    ht_arena_release(&m->arena);
}

static int is_finite_row(const float *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return 0;
    return 1;
}

/* Rows as the linears read them. */
static ht_status transformed(measuring *m, const source *s, const ht_site_rows *rows, const float **x) {
    size_t values = rows->rows * rows->cols;
    size_t entry = ht_block_linear_at(m->model, m->layer, s->site, rows->expert, s->part).entry;
    *x = rows->x;
    if (!ht_transformer_is(&s->inputs))
        return HT_OK;
    if (values > m->turned_values) {
        ht_release(m->plan->ctx, m->turned);
        m->turned = NULL;
        m->turned_values = 0;
        HT_TRY(ht_allocate_raw(m->plan->ctx, values, sizeof *m->turned, "transformed rows", &m->turned));
        m->turned_values = values;
    }
    *x = m->turned;
    return ht_transform_inputs(&s->inputs, entry, rows->x, rows->rows, rows->cols, m->turned);
}

static ht_status see(void *user, const ht_site_rows *rows) {
    measuring *m = user;
    for (size_t i = 0; i < m->sources; i++) {
        const source *s = &m->source[i];
        const float *x;
        if (s->site != rows->site || (s->expert != SIZE_MAX && s->expert != rows->expert))
            continue;
        HT_TRY(transformed(m, s, rows, &x));
        for (size_t r = 0; r < rows->rows; r++)
            if (is_finite_row(x + r * rows->cols, rows->cols))
                HT_TRY(ht_histogram_add(s->histogram, x + r * rows->cols, 1, rows->cols));
    }
    return HT_OK;
}

/* --- The pass ------------------------------------------------------------------------------------------------------
 */

/* The histogram of a source; where nothing came, of all others of its site. */
static ht_status take_scale(measuring *m, const reader *r) {
    ht_job *job = &m->plan->job[r->job];
    const source *own = &m->source[r->source];
    const ht_scheme *scheme = &job->scheme;
    ht_histogram *merged = NULL;
    ht_status status = HT_OK;
    if (!own->histogram->seen[0]) {
        status = ht_histogram_create(m->plan->ctx, 1, HT_HISTOGRAM_BINS, &merged);
        for (size_t i = 0; i < m->sources && status == HT_OK; i++)
            if (m->source[i].site == own->site)
                status = ht_histogram_merge(merged, m->source[i].histogram);
        if (status == HT_OK && !merged->seen[0])
            status = ht_fail(HT_ERR_NUMERIC, "tensor %s: none of the inputs that the text gives is finite",
                             job->parameter->name);
        m->plan->tensor[r->job].fallback = "input scale of the layer's other experts: no token came here";
    }
    if (status == HT_OK)
        status =
            ht_input_scale(merged ? merged : own->histogram, &scheme->input, scheme->input_range, &job->input_scale);
    m->plan->tensor[r->job].input_scale = (double)job->input_scale;
    ht_histogram_destroy(merged);
    return status;
}

static ht_status run_layer(measuring *m, size_t layer) {
    const ht_samples *samples = &m->plan->samples;
    const ht_watch watch = {.see = see, .user = m, .stop = HT_SITE_COUNT};
    ht_status status = open_layer(m, layer);
    for (size_t i = 0; i < samples->count && status == HT_OK; i++) {
        float *x;
        status = ht_context_check_cancelled(m->plan->ctx);
        if (status == HT_OK)
            status = ht_hidden_load(m->hidden, i, &x);
        if (status == HT_OK)
            status = ht_block_run(m->sequence, layer, x, samples->length, &watch);
        if (status == HT_OK)
            status = ht_hidden_store(m->hidden, i);
    }
    for (size_t i = 0; i < m->readers && status == HT_OK; i++)
        status = take_scale(m, &m->reader[i]);
    close_layer(m);
    return status;
}

/* As many samples in memory as half of the limit's rest holds. */
static ht_status open_hidden(measuring *m, const char *folder) {
    const ht_samples *samples = &m->plan->samples;
    ht_context *ctx = m->plan->ctx;
    size_t values = samples->length * m->model->config.hidden, bytes = values * sizeof(float), resident = SIZE_MAX;
    size_t limit = ctx->options.memory_limit;
    if (limit) {
        size_t used = ht_context_memory_used(ctx) + limit / 8 + bytes;
        resident = (limit > used ? limit - used : 0) / 2 / bytes;
    }
    HT_TRY(ht_hidden_create(ctx, samples->count, values, resident, folder, &m->hidden));
    for (size_t i = 0; i < samples->count; i++) {
        float *x;
        HT_TRY(ht_hidden_load(m->hidden, i, &x));
        HT_TRY(ht_block_embed(m->model, samples->ids + i * samples->length, samples->length, x));
        HT_TRY(ht_hidden_store(m->hidden, i));
    }
    return HT_OK;
}

static ht_status check_all_seen(const ht_plan *plan) {
    for (size_t i = 0; i < plan->count; i++)
        if (wants(plan, i) && !(plan->job[i].input_scale > 0))
            return ht_fail(HT_ERR_UNSUPPORTED,
                           "tensor %s: scheme %s needs its inputs, and it is no linear of a decoder block: give it a "
                           "scheme with dynamic inputs",
                           plan->job[i].parameter->name, plan->job[i].scheme.name);
    return HT_OK;
}

ht_status ht_input_scales_measure(ht_model *model, ht_plan *plan, const char *folder) {
    measuring m = {.model = model, .plan = plan};
    double start = ht_seconds();
    ht_status status = ht_block_sequence(model, plan->samples.length, &m.sequence);
    if (status == HT_OK)
        status = open_hidden(&m, folder);
    for (size_t l = 0; l < model->config.layers && status == HT_OK; l++) {
        char item[64];
        snprintf(item, sizeof item, "block %zu", l);
        ht_report(plan->ctx, &(ht_progress){.stage = "input scales",
                                            .item = item,
                                            .unit = "blocks",
                                            .done = l,
                                            .total = model->config.layers,
                                            .seconds = ht_seconds() - start});
        status = run_layer(&m, l);
    }
    ht_release(plan->ctx, m.turned);
    ht_hidden_destroy(m.hidden);
    ht_sequence_destroy(m.sequence);
    HT_TRY(status);
    HT_TRY(check_all_seen(plan));
    return ht_run_report_stage(&plan->report, "input scales", ht_seconds() - start, ht_context_memory_used(plan->ctx));
}
