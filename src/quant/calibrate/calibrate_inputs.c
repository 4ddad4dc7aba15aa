/* Statistics of a block's inputs: run the samples, look at the rows on their way, then quantize what reads them.
 *
 *     observed | q|k|v | o | gate|up expert 0 | ... | down expert 0 | ... |
 *              '------- group ------'------ group ------'--- group ---'      each as large as memory allows
 *
 * A group costs one run of the samples up to its last site. Statistics do not depend on the grouping, so neither does
 * the result. What belongs to held-out samples goes into statistics of its own.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h> /* snprintf */

#include "base/context.h"
#include "base/status.h"
#include "quant/calibrate/calibrate.h"

/* --- Looking on --------------------------------------------------------------------------------------------- */

static ht_status reserve(ht_calibrator *c, float **memory, size_t *room, size_t values) {
    if (values <= *room)
        return HT_OK;
    ht_release(c->ctx, *memory);
    *memory = NULL;
    *room = 0;
    HT_TRY(ht_allocate_raw(c->ctx, values, sizeof **memory, "inputs as linears read them", memory));
    *room = values;
    return HT_OK;
}

/* *x becomes what the linear makes of it first. which: 0 the rows at work, 1 the float model's. */
static ht_status transformed_rows(ht_calibrator *c, const ht_observed *o, const ht_site_rows *rows, int which,
                                  const float **x) {
    if (!*x || !ht_transformer_is(&o->inputs))
        return HT_OK;
    HT_TRY(reserve(c, &c->turned[which], &c->turned_values[which], rows->rows * rows->cols));
    HT_TRY(ht_transform_inputs(&o->inputs, o->entry, *x, rows->rows, rows->cols, c->turned[which]));
    *x = c->turned[which];
    return HT_OK;
}

static ht_status quantized_rows(ht_calibrator *c, const ht_observed *o, const ht_site_rows *rows, const float **x) {
    if (!o->quantized)
        return HT_OK;
    HT_TRY(reserve(c, &c->inputs, &c->input_values, rows->rows * rows->cols));
    HT_TRY(ht_quantize_inputs_by(&c->model->workspace, &o->format, o->rule, o->scale, *x, rows->rows, rows->cols,
                                 rows->cols, c->inputs));
    *x = c->inputs;
    return HT_OK;
}

static ht_status see(void *user, const ht_site_rows *rows) {
    ht_calibrator *c = user;
    for (size_t i = c->first_observed; i < c->end_observed; i++) {
        ht_observed *o = &c->observed[i];
        const float *x = rows->x, *x_float = NULL;
        if (o->site != rows->site || o->expert != rows->expert)
            continue;
        o->routed += c->holding_out ? 0 : rows->routed;
        ht_moments *moments = c->holding_out ? o->held_out : o->moments;
        if (!moments)
            continue;
        HT_TRY(transformed_rows(c, o, rows, 0, &x));
        HT_TRY(quantized_rows(c, o, rows, &x));
        if (o->what & HT_MOMENT_CROSS)
            HT_TRY(ht_float_rows(c, i, rows, &x_float));
        HT_TRY(transformed_rows(c, o, rows, 1, &x_float));
        HT_TRY(ht_moments_add(moments, x, x_float, rows->rows, rows->cols));
    }
    return HT_OK;
}

/* --- Running samples ---------------------------------------------------------------------------------------- */

static void report(const ht_calibrator *c, const char *what) {
    char item[64];
    snprintf(item, sizeof item, "block %zu: %s", c->layer, what);
    ht_report(c->ctx, &(ht_progress){.stage = "calibrate",
                                     .item = item,
                                     .unit = "matrices",
                                     .done = c->matrices_done,
                                     .total = c->matrices_total,
                                     .seconds = ht_seconds() - c->started});
}

ht_status ht_block_propagate(ht_calibrator *c, ht_model *model, const ht_watch *watch, int store) {
    const ht_samples *samples = c->samples;
    ht_sequence *own = c->sequence, *sequence = own;
    ht_status status = HT_OK;
    if (model != c->model) /* what was written is read back once a block: its sequence lives as long */
        status = ht_block_sequence(model, samples->length, &sequence);
    report(c, watch ? "statistics" : "forward");
    double start = ht_seconds();
    for (size_t s = 0; s < samples->count + samples->held_out && status == HT_OK; s++) {
        float *x;
        c->holding_out = s >= samples->count;
        if (watch && c->cross)
            status = ht_float_capture(c, s, watch->stop);
        if (status == HT_OK)
            status = ht_hidden_load(c->hidden, s, &x);
        if (status == HT_OK)
            status = ht_block_run(sequence, c->layer, x, samples->length, watch);
        if (status == HT_OK && store)
            status = ht_hidden_store(c->hidden, s);
    }
    if (sequence != own)
        ht_sequence_destroy(sequence);
    HT_TRY(status);
    return ht_run_report_stage(&c->run->plan->report, watch ? "statistics" : "forward", ht_seconds() - start,
                               ht_context_memory_used(c->ctx));
}

/* --- Groups ------------------------------------------------------------------------------------------------- */

static size_t observed_bytes(const ht_calibrator *c, const ht_observed *o) {
    return o->what ? ht_moments_bytes(o->cols, o->what) * (c->samples->held_out ? 2 : 1) : 0;
}

/* Room for statistics: what the limit leaves beside the planes and the work on one matrix. */
static size_t room(const ht_calibrator *c) {
    size_t limit = c->ctx->options.memory_limit, used = ht_context_memory_used(c->ctx), needed = ht_matrix_bytes(c);
    if (!limit)
        return SIZE_MAX;
    for (size_t i = 0; i < c->exchange_count; i++)
        needed += c->exchange[i].memory ? 0 : ht_exchange_bytes(c, &c->exchange[i]);
    return limit > used + needed ? limit - used - needed : 0;
}

static int belongs(const ht_calibrator *c, size_t observed, unsigned sites) {
    return (sites >> c->observed[observed].site & 1) != 0;
}

/* The group that begins at first_observed: its end, and its last site. At least one; sites of a stage are neighbours.
 */
static ht_site choose_group(ht_calibrator *c, unsigned sites) {
    size_t left = room(c), end = c->first_observed;
    while (end < c->observed_count && belongs(c, end, sites)) {
        size_t bytes = observed_bytes(c, &c->observed[end]);
        if (bytes > left && end > c->first_observed)
            break;
        left -= bytes < left ? bytes : left;
        end++;
    }
    c->end_observed = end;
    return c->observed[end - 1].site;
}

static ht_status open_group(ht_calibrator *c) {
    for (size_t i = c->first_observed; i < c->end_observed; i++) {
        ht_observed *o = &c->observed[i];
        if (o->what)
            HT_TRY(ht_moments_create(c->ctx, o->cols, o->what, &o->moments));
        if (o->what && c->samples->held_out)
            HT_TRY(ht_moments_create(c->ctx, o->cols, o->what, &o->held_out));
    }
    return HT_OK;
}

static ht_status finish_group(ht_calibrator *c) {
    for (size_t i = c->first_observed; i < c->end_observed; i++) {
        ht_observed *o = &c->observed[i];
        if (o->moments)
            HT_TRY(ht_moments_finish(o->moments));
        if (o->held_out)
            HT_TRY(ht_moments_finish(o->held_out));
    }
    return HT_OK;
}

static void close_group(ht_calibrator *c) {
    for (size_t i = c->first_observed; i < c->end_observed; i++) {
        ht_moments_destroy(c->observed[i].moments);
        ht_moments_destroy(c->observed[i].held_out);
        c->observed[i].moments = c->observed[i].held_out = NULL;
    }
}

static size_t spread(const ht_calibrator *c) {
    size_t experts = c->model->config.experts, more = c->how->spread;
    if (more == HT_SPREAD_ROUTED || !experts)
        return 0;
    more = more > experts ? experts : c->model->config.experts_per_token + more;
    return more < experts ? more : experts;
}

ht_status ht_block_stage(ht_calibrator *c, unsigned sites, int store) {
    size_t next = 0;
    while (next < c->observed_count && !belongs(c, next, sites))
        next++;
    int last = next == c->observed_count;
    if (last && store)
        return ht_block_propagate(c, c->model, NULL, 1);
    for (; !last; next = c->end_observed) {
        c->first_observed = next;
        ht_site stop = choose_group(c, sites);
        last = c->end_observed == c->observed_count || !belongs(c, c->end_observed, sites);
        HT_TRY(open_group(c));
        int through = last && store;
        ht_watch watch = {.see = see, .user = c, .stop = through ? HT_SITE_COUNT : stop, .spread = spread(c)};
        HT_TRY(ht_block_propagate(c, c->model, &watch, through));
        HT_TRY(finish_group(c));
        HT_TRY(ht_block_quantize(c));
        close_group(c);
    }
    return HT_OK;
}
