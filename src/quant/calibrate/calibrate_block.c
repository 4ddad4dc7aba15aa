/* One block of a calibrated run: its linears as matrices to quantize, the rows each of them reads, and the linears that
 * take their place when later rows shall feel the quantization.
 *
 *     site, expert ----> observed (one set of statistics)  <---- matrix ----> exchange (one parameter)
 *     q, k, v            rows of q|k|v                           q            q_proj
 *     gate of expert 3   rows of gate|up of expert 3             entry 3      experts.gate_up_proj [E, ...]
 *
 * Linears that read the same rows share their statistics; those whose scheme quantizes inputs and whose setting says so
 * have statistics of the quantized rows instead.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h> /* SIZE_MAX */
#include <string.h>

#include "base/status.h"
#include "quant/calibrate/calibrate.h"

enum { ALIGN = 64 };

/* --- Lists -------------------------------------------------------------------------------------------------- */

static unsigned wanted(const ht_job *job) {
    const ht_method *method = job->rule->method;
    if (!method->matrix)
        return HT_MOMENT_SECOND; /* to say how large the error of the outputs is */
    return method->moments ? method->moments(&job->settings) : 0;
}

static ht_status find_observed(ht_calibrator *c, ht_site site, size_t expert, const ht_job *job, size_t entry,
                               size_t *out) {
    const ht_scheme *scheme = &job->scheme;
    int quantized = scheme->has_input && (int)job->settings.value[HT_SETTING_HESSIAN] == HT_HESSIAN_QUANTIZED &&
                    ht_setting_of(HT_SETTING_HESSIAN, job->rule->method->item.name);
    ht_transformer inputs;
    HT_TRY(ht_transformer_init(&inputs, c->ctx, &job->parameter->weight.inputs, job->layout->cols));
    for (size_t i = 0; i < c->observed_count; i++) {
        ht_observed *o = &c->observed[i];
        if (o->site != site || o->expert != expert || o->quantized != quantized ||
            !ht_transformer_equal(&o->inputs, o->entry, &inputs, entry))
            continue;
        if (quantized && (!ht_format_equal(&o->format, &scheme->input) || o->rule != scheme->input_rule ||
                          o->scale < job->input_scale || o->scale > job->input_scale))
            continue;
        o->what |= wanted(job);
        *out = i;
        ht_transformer_release(&inputs);
        return HT_OK;
    }
    c->observed[c->observed_count] = (ht_observed){.site = site,
                                                   .expert = expert,
                                                   .cols = job->layout->cols,
                                                   .inputs = inputs,
                                                   .entry = entry,
                                                   .quantized = quantized,
                                                   .format = scheme->input,
                                                   .rule = scheme->input_rule,
                                                   .scale = job->input_scale,
                                                   .what = wanted(job)};
    *out = c->observed_count++;
    return HT_OK;
}

static ht_status find_exchange(ht_calibrator *c, const ht_block_linear *linear, size_t *out) {
    const ht_job *job = &c->run->plan->job[linear->parameter];
    const ht_weight *weight = ht_linear_weight(*linear->place);
    for (size_t i = 0; i < c->exchange_count; i++)
        if (c->exchange[i].job == linear->parameter) {
            *out = i;
            return HT_OK;
        }
    if (weight->rows != job->layout->rows || weight->cols != job->layout->cols || weight->batch != job->layout->batch)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "%s: tensor %s is read as %zu x [%zu, %zu] by the model and as %zu x [%zu, %zu] by the plan",
                       ht_checkpoint_path(c->run->checkpoint), job->parameter->name, weight->batch, weight->rows,
                       weight->cols, job->layout->batch, job->layout->rows, job->layout->cols);
    c->exchange[c->exchange_count] =
        (ht_exchange){.job = linear->parameter, .remaining = weight->batch, .place = linear->place};
    *out = c->exchange_count++;
    return HT_OK;
}

static ht_status add_linears(ht_calibrator *c, ht_site site, size_t expert) {
    const ht_projection *projection = ht_block_site(c->model, c->layer, site);
    for (size_t part = 0; part < projection->parts; part++) {
        ht_block_linear linear = ht_block_linear_at(c->model, c->layer, site, expert, part);
        const ht_job *job = &c->run->plan->job[linear.parameter];
        size_t exchange = 0, observed = 0;
        if (!job->layout)
            continue;
        HT_TRY(find_exchange(c, &linear, &exchange));
        HT_TRY(find_observed(c, site, expert, job, linear.entry, &observed));
        c->matrix[c->matrix_count++] =
            (ht_block_matrix){.exchange = exchange, .entry = linear.entry, .observed = observed};
    }
    return HT_OK;
}

/* Linears of the block at most. */
static size_t count_linears(ht_calibrator *c) {
    size_t count = 0;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        const ht_projection *projection = ht_block_site(c->model, c->layer, (ht_site)site);
        if (projection)
            count += ht_block_experts(c->model, c->layer, (ht_site)site) * projection->parts;
    }
    return count;
}

ht_status ht_block_open(ht_calibrator *c, size_t layer) {
    c->layer = layer;
    c->observed_count = c->exchange_count = c->matrix_count = 0;
    ht_arena_init(&c->arena, c->ctx);
    size_t count = count_linears(c);
    c->observed = ht_arena_alloc(&c->arena, count * sizeof *c->observed);
    c->exchange = ht_arena_alloc(&c->arena, count * sizeof *c->exchange);
    c->matrix = ht_arena_alloc(&c->arena, count * sizeof *c->matrix);
    c->capture = ht_arena_alloc(&c->arena, count * sizeof *c->capture);
    if (!c->observed || !c->exchange || !c->matrix || !c->capture)
        return HT_ERR_MEMORY;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        size_t experts =
            ht_block_site(c->model, layer, (ht_site)site) ? ht_block_experts(c->model, layer, (ht_site)site) : 0;
        for (size_t e = 0; e < experts; e++)
            HT_TRY(add_linears(c, (ht_site)site, e));
    }
    return HT_OK;
}

void ht_block_close(ht_calibrator *c) {
    for (size_t i = 0; i < c->exchange_count; i++)
        ht_exchange_undo(c, &c->exchange[i]);
    for (size_t i = 0; i < c->observed_count; i++) {
        ht_moments_destroy(c->observed[i].moments);
        ht_moments_destroy(c->observed[i].held_out);
        ht_transformer_release(&c->observed[i].inputs);
    }
    ht_float_release(c);
    c->observed_count = c->exchange_count = c->matrix_count = 0;
    ht_arena_release(&c->arena);
}

int ht_block_is_done(const ht_calibrator *c) {
    for (size_t i = 0; i < c->exchange_count; i++)
        if (!ht_run_is_done(c->run, c->exchange[i].job))
            return 0;
    return 1;
}

/* --- Exchanging --------------------------------------------------------------------------------------------- */

static size_t plane_bytes(const ht_layout *layout, int plane) {
    return ht_format_plane_bytes(&layout->format, (ht_plane)plane, layout->rows, layout->cols);
}

size_t ht_exchange_bytes(const ht_calibrator *c, const ht_exchange *exchange) {
    const ht_layout *layout = c->run->plan->job[exchange->job].layout;
    size_t total = 0;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        total += (plane_bytes(layout, plane) * layout->batch + ALIGN - 1) / ALIGN * ALIGN;
    return total;
}

/* Every plane holds its batch entries one after the other. */
ht_status ht_exchange_open(ht_calibrator *c, ht_exchange *exchange) {
    const ht_layout *layout = c->run->plan->job[exchange->job].layout;
    HT_TRY(ht_allocate(c->ctx, ht_exchange_bytes(c, exchange), 1, "quantized weights", &exchange->memory));
    exchange->weight =
        (ht_weight){.format = layout->format, .batch = layout->batch, .rows = layout->rows, .cols = layout->cols};
    exchange->weight.inputs = c->run->plan->job[exchange->job].inputs;
    char *next = exchange->memory;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = plane_bytes(layout, plane);
        exchange->weight.stride[plane] = bytes;
        exchange->weight.plane[plane] = bytes ? next : NULL;
        next += (bytes * layout->batch + ALIGN - 1) / ALIGN * ALIGN;
    }
    return HT_OK;
}

ht_status ht_exchange_put(ht_calibrator *c, ht_exchange *exchange) {
    const ht_job *job = &c->run->plan->job[exchange->job];
    if (exchange->after || !exchange->memory)
        return HT_OK;
    ht_linear_options options = {.input = job->scheme.has_input ? &job->scheme.input : NULL,
                                 .input_rule = job->scheme.input_rule,
                                 .input_scale = job->input_scale,
                                 .bias = ht_linear_bias(*exchange->place)};
    HT_TRY(ht_linear_from_weight(c->ctx, &exchange->weight, &options, &exchange->after));
    exchange->before = *exchange->place;
    *exchange->place = exchange->after;
    return HT_OK;
}

void ht_exchange_show(ht_calibrator *c, int quantized) {
    for (size_t i = 0; i < c->exchange_count; i++)
        if (c->exchange[i].after)
            *c->exchange[i].place = quantized ? c->exchange[i].after : c->exchange[i].before;
}

ht_status ht_exchange_renew(ht_calibrator *c, ht_exchange *exchange) {
    if (exchange->after) {
        *exchange->place = exchange->before;
        ht_linear_destroy(exchange->after);
        exchange->after = NULL;
    }
    return ht_exchange_put(c, exchange);
}

void ht_exchange_undo(ht_calibrator *c, ht_exchange *exchange) {
    if (exchange->after)
        *exchange->place = exchange->before;
    ht_linear_destroy(exchange->after);
    ht_release(c->ctx, exchange->memory);
    exchange->after = NULL;
    exchange->memory = NULL;
}
