/* Scales of every site of a decoder, found layer by layer while text runs through the float model.
 *
 *     hidden rows (hidden.h) -> block l, watched: statistics of each site's inputs, in groups that fit the memory
 *                                -> scales (smooth.c, awq.c) -> producer / s, readers * s   (edits.h)
 *                                                            or inputs / s, when the model runs (placement apply)
 *
 * The edited model computes what the float model does, so the next layer's inputs are the float model's: one pass.
 * Norms are stored in their own dtype; the scale that counts is the one that the rounded norm stands for, so that
 * rounding it changes nothing. A site whose producer cannot take a scale is left alone; an applied scale needs none,
 * and belongs to those readers that are quantized. Inputs that are transformed already stay as they are.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/transform.h"

#include <math.h>   /* fabsf */
#include <stdint.h> /* SIZE_MAX */
#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/status.h"
#include "format/lanes.h"
#include "ops/dense.h"
#include "quant/decode.h"
#include "quant/calibrate/hidden.h"
#include "quant/transform/input_blocks.h"
#include "quant/transform/parent.h"
#include "quant/transform/rotate.h"
#include "quant/transform/sites.h"

typedef struct scaling {
    ht_model *model;
    const ht_transform *how;
    ht_edits *edits;
    ht_arena arena; /* of the layer */
    ht_site_map *site;
    size_t sites;
    size_t samples;        /* 0: the method looks at weights alone */
    unsigned char *wanted; /* by site: it gets scales */
    ht_moments **moments;  /* by site; NULL: not wanted, or another group's */
    size_t first, end;     /* sites whose statistics are being taken: what fits the memory */
    ht_hidden *hidden;
    ht_parent *parent; /* of the layer, where a site is judged by it; else NULL */
} scaling;

/* --- Statistics ------------------------------------------------------------------------------------------------ */

static const ht_job *job_of(const scaling *s, size_t parameter) {
    return &s->how->plan->job[parameter];
}

/* Does a rule of one of the readers ask for this method? */
static const ht_job *asks(const scaling *s, const ht_site_map *site) {
    for (size_t i = 0; i < site->readers; i++) {
        const ht_job *job = job_of(s, site->reader[i].parameter);
        if (job->layout && ht_chain_has(&job->rule->chain, s->how->method))
            return job;
    }
    return NULL;
}

static ht_status see(void *user, const ht_site_rows *rows) {
    const scaling *s = user;
    for (size_t i = 0; i < s->sites; i++)
        if (s->moments[i] && s->site[i].site == rows->site && s->site[i].expert == rows->expert)
            return ht_moments_add(s->moments[i], rows->x, NULL, rows->rows, rows->cols);
    return HT_OK;
}

static int applies(const ht_job *job) {
    return job->settings.value[HT_SETTING_PLACEMENT] == HT_PLACEMENT_APPLY;
}

/* The site as seen by scales that are applied: every input a channel, its readers those that asked. */
static ht_status make_own(scaling *s, ht_site_map *site) {
    ht_site_reader *own = ht_arena_alloc(&s->arena, site->readers * sizeof *own);
    size_t count = 0;
    if (!own)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < site->readers; i++) {
        const ht_job *job = job_of(s, site->reader[i].parameter);
        if (job->layout && ht_chain_has(&job->rule->chain, s->how->method))
            own[count++] = site->reader[i];
    }
    site->reader = own;
    site->readers = count;
    site->channel = NULL;
    site->channels = site->cols;
    return HT_OK;
}

/* Does the site get scales? */
static ht_status look_at_site(scaling *s, ht_site_map *site, unsigned char *wanted) {
    const ht_job *job = asks(s, site);
    if (!job || (site->kind == HT_PRODUCER_NONE && !applies(job)))
        return HT_OK;
    for (size_t i = 0; i < site->readers; i++)
        if (job_of(s, site->reader[i].parameter)->parameter->weight.inputs.block)
            return HT_OK;
    *wanted = 1;
    return applies(job) ? make_own(s, site) : HT_OK;
}

static unsigned statistics_of(const scaling *s, const ht_site_map *site) {
    return s->how->method->moments ? s->how->method->moments(&asks(s, site)->settings) : 0;
}

static int judges_by_block(const ht_job *job) {
    return job->settings.value[HT_SETTING_LOSS] > 0;
}

/* The block as it is, over rows as they are before it: they are gone when sites get their scales. */
static ht_status open_parent(scaling *s, size_t layer) {
    for (size_t i = 0; i < s->sites && s->hidden; i++)
        if (s->wanted[i] && judges_by_block(asks(s, &s->site[i])))
            return ht_parent_open(s->model, layer, s->hidden, s->samples, s->how->length, &s->parent);
    return HT_OK;
}

static ht_status open_layer(scaling *s, size_t layer) {
    HT_TRY(ht_layer_sites(s->model, layer, &s->arena, &s->site, &s->sites));
    s->moments = ht_arena_alloc(&s->arena, s->sites * sizeof *s->moments);
    s->wanted = ht_arena_alloc(&s->arena, s->sites);
    if (!s->moments || !s->wanted) {
        s->sites = 0;
        return HT_ERR_MEMORY;
    }
    for (size_t i = 0; i < s->sites; i++)
        s->moments[i] = NULL;
    for (size_t i = 0; i < s->sites; i++)
        HT_TRY(look_at_site(s, &s->site[i], &s->wanted[i]));
    return HT_OK;
}

/* Statistics of a site, its readers, and what a method holds beside them: a matrix scaled and decoded, its codes. */
static size_t site_bytes(const scaling *s, size_t index) {
    const ht_site_map *site = &s->site[index];
    size_t rows = 0, most = 0, panels = ht_dense_bytes(site->cols, site->cols, HT_MOMENTS_BLOCK);
    for (size_t i = 0; i < site->readers; i++) {
        size_t r = ht_checkpoint_parameter(s->edits->checkpoint, site->reader[i].parameter)->weight.rows;
        rows += r;
        most = r > most ? r : most;
    }
    size_t matrices = (rows + 3 * most) * site->cols * sizeof(float) + ht_matrix_loss_bytes(most, site->cols);
    return s->wanted[index]
               ? ht_moments_bytes(site->cols, statistics_of(s, site)) + (matrices > panels ? matrices : panels)
               : 0;
}

/* Sites from `first` on whose statistics fit beside what the largest of them takes; at least one. */
static ht_status open_group(scaling *s) {
    size_t limit = s->edits->ctx->options.memory_limit, left = SIZE_MAX, work = 0;
    for (size_t i = s->first; i < s->sites; i++)
        work = site_bytes(s, i) > work ? site_bytes(s, i) : work;
    if (limit) {
        size_t used = ht_context_memory_used(s->edits->ctx) + work;
        left = limit > used ? limit - used : 0;
    }
    for (s->end = s->first; s->end < s->sites; s->end++) {
        const ht_site_map *site = &s->site[s->end];
        if (!s->wanted[s->end])
            continue;
        unsigned what = statistics_of(s, site);
        size_t bytes = ht_moments_bytes(site->cols, what);
        if (bytes > left && s->end > s->first)
            break;
        left -= bytes < left ? bytes : left;
        HT_TRY(ht_moments_create(s->edits->ctx, site->cols, what, &s->moments[s->end]));
    }
    return HT_OK;
}

static void close_layer(scaling *s) {
    for (size_t i = 0; i < s->sites; i++)
        ht_moments_destroy(s->moments[i]);
    ht_parent_close(s->parent);
    s->parent = NULL;
    s->sites = 0;
    ht_arena_release(&s->arena);
    ht_arena_init(&s->arena, s->edits->ctx);
}

/* --- Moving scales --------------------------------------------------------------------------------------------- */

/* norm / s, and s becomes what the norm, as it is stored, says it is. */
static ht_status divide_norm(const scaling *s, const ht_site_map *site, float *scale) {
    const ht_parameter *parameter = ht_checkpoint_parameter(s->edits->checkpoint, site->parameter);
    float plus = s->model->config.architecture->one_plus ? 1.0f : 0.0f;
    float *values = ht_arena_alloc(&s->edits->arena, site->channels * sizeof *values);
    if (!values)
        return HT_ERR_MEMORY;
    HT_TRY(ht_decode_rows(parameter, 0, 0, 1, values));
    for (size_t c = 0; c < site->channels; c++) {
        float norm = values[c] + plus, stored = norm / scale[c] - plus;
        uint32_t room;
        ht_lanes_store(&stored, 1, parameter->weight.format.element, &room, 0);
        ht_lanes_load(&room, parameter->weight.format.element, 0, 1, &stored);
        float exact = norm / (stored + plus);
        int good = exact > 0 && isfinite(exact);
        scale[c] = good ? exact : 1.0f;
        values[c] = good ? stored : values[c];
    }
    s->edits->edit[site->parameter] = (ht_edit){.values = values, .keeps_dtype = 1};
    return HT_OK;
}

static ht_status divide_bias(const scaling *s, const ht_site_map *site, const float *scale) {
    if (site->bias == SIZE_MAX)
        return HT_OK;
    const ht_parameter *parameter = ht_checkpoint_parameter(s->edits->checkpoint, site->bias);
    const ht_weight *weight = &parameter->weight;
    ht_edit *edit = &s->edits->edit[site->bias];
    size_t each = parameter->rank > 1 ? weight->cols : weight->rows * weight->cols; /* [experts, outputs], or one */
    if (!edit->values) {
        float *values = ht_arena_alloc(&s->edits->arena, weight->rows * weight->cols * sizeof *values);
        if (!values)
            return HT_ERR_MEMORY;
        HT_TRY(ht_decode_rows(parameter, 0, 0, weight->rows, values));
        *edit = (ht_edit){.values = values};
    }
    float *bias = edit->values + (parameter->rank > 1 ? site->entry * each : 0);
    for (size_t c = 0; c < site->channels; c++)
        bias[site->row + c * site->step] /= scale[c];
    return HT_OK;
}

static ht_status move(const scaling *s, const ht_site_map *site, float *scale) {
    if (site->kind == HT_PRODUCER_NORM) {
        HT_TRY(divide_norm(s, site, scale));
    } else {
        HT_TRY(
            ht_edits_divide_rows(s->edits, site->parameter, site->entry, site->row, site->step, site->channels, scale));
        HT_TRY(divide_bias(s, site, scale));
    }
    float *columns;
    HT_TRY(ht_allocate_raw(s->edits->ctx, site->cols, sizeof *columns, "scales of columns", &columns));
    for (size_t j = 0; j < site->cols; j++)
        columns[j] = scale[site->channel ? site->channel[j] : j];
    ht_status status = HT_OK;
    for (size_t i = 0; i < site->readers && status == HT_OK; i++)
        status = ht_edits_scale_columns(s->edits, site->reader[i].parameter, site->reader[i].entry, columns);
    ht_release(s->edits->ctx, columns);
    return status;
}

/* Inputs / s, when the model runs. */
static ht_status apply(const scaling *s, const ht_site_map *site, const float *scale) {
    for (size_t i = 0; i < site->readers; i++) {
        float *inputs = ht_edits_input_scale(s->edits, site->reader[i].parameter, site->reader[i].entry);
        if (!inputs)
            return HT_ERR_MEMORY;
        for (size_t j = 0; j < site->cols; j++)
            inputs[j] = 1 / scale[j];
    }
    return HT_OK;
}

/* --- One site -------------------------------------------------------------------------------------------------- */

/* The readers' weights, as they are in the checkpoint, one after the other in *memory. */
static ht_status load_readers(const scaling *s, const ht_site_map *site, ht_scaling_reader *reader, float **memory) {
    size_t rows = 0;
    for (size_t i = 0; i < site->readers; i++)
        rows += ht_checkpoint_parameter(s->edits->checkpoint, site->reader[i].parameter)->weight.rows;
    HT_TRY(ht_allocate_raw(s->edits->ctx, rows * site->cols, sizeof **memory, "weights of a site", memory));
    float *at = *memory;
    for (size_t i = 0; i < site->readers; i++) {
        const ht_site_reader *from = &site->reader[i];
        const ht_parameter *parameter = ht_checkpoint_parameter(s->edits->checkpoint, from->parameter);
        const ht_job *job = job_of(s, from->parameter);
        if (parameter->weight.cols != site->cols)
            return ht_fail(HT_ERR_UNSUPPORTED, "tensor %s has %zu columns where %zu inputs were expected",
                           parameter->name, parameter->weight.cols, site->cols);
        HT_TRY(ht_decode_rows(parameter, from->entry, 0, parameter->weight.rows, at));
        reader[i] = (ht_scaling_reader){.weight = at,
                                        .rows = parameter->weight.rows,
                                        .format = job->layout ? &job->layout->format : NULL,
                                        .how = &job->row};
        at += parameter->weight.rows * site->cols;
    }
    return HT_OK;
}

static ht_status scale_site(scaling *s, size_t index) {
    const ht_site_map *site = &s->site[index];
    ht_moments *moments = s->moments[index];
    if (!moments)
        return HT_OK;
    HT_TRY(ht_moments_finish(moments));
    if (!moments->tokens && s->how->method->moments)
        return HT_OK; /* an expert that no token went to */
    ht_scaling_reader *reader = ht_arena_alloc(&s->arena, site->readers * sizeof *reader);
    float *scale = ht_arena_alloc(&s->arena, site->channels * sizeof *scale), *memory = NULL;
    if (!reader || !scale)
        return HT_ERR_MEMORY;
    ht_status status = load_readers(s, site, reader, &memory);
    const ht_scaling_problem problem = {.ctx = s->edits->ctx,
                                        .settings = &asks(s, site)->settings,
                                        .reader = reader,
                                        .readers = site->readers,
                                        .cols = site->cols,
                                        .input = moments,
                                        .channel = site->channel,
                                        .channels = site->channels,
                                        .parent = judges_by_block(asks(s, site)) ? s->parent : NULL,
                                        .linear = site->reader};
    if (status == HT_OK)
        status = s->how->method->scales(&problem, scale);
    ht_release(s->edits->ctx, memory);
    if (status != HT_OK)
        return ht_fail_prefix(status, "inputs of tensor %s",
                              ht_checkpoint_parameter(s->edits->checkpoint, site->reader[0].parameter)->name);
    return applies(asks(s, site)) ? apply(s, site, scale) : move(s, site, scale);
}

/* --- All layers ------------------------------------------------------------------------------------------------ */

/* All samples through the layer, watched as far as the sites of the group go; rows go on where it is the last. */
static ht_status run_samples(scaling *s, ht_sequence *sequence, size_t layer, int last) {
    ht_watch watch = {.see = see, .user = s, .stop = last ? HT_SITE_COUNT : s->site[s->first].site};
    for (size_t i = s->first; i < s->end && !last; i++)
        watch.stop = s->site[i].site > watch.stop ? s->site[i].site : watch.stop;
    for (size_t i = 0; i < s->samples; i++) {
        float *x;
        HT_TRY(ht_context_check_cancelled(s->edits->ctx));
        HT_TRY(ht_hidden_load(s->hidden, i, &x));
        HT_TRY(ht_block_run(sequence, layer, x, s->how->length, &watch));
        if (last)
            HT_TRY(ht_hidden_store(s->hidden, i));
    }
    return HT_OK;
}

static ht_status run_layer(scaling *s, ht_sequence *sequence, size_t layer) {
    ht_status status = open_layer(s, layer);
    if (status == HT_OK)
        status = open_parent(s, layer);
    for (s->first = 0; status == HT_OK && (s->first < s->sites || s->first == 0); s->first = s->end) {
        status = open_group(s);
        if (status == HT_OK)
            status = run_samples(s, sequence, layer, s->end == s->sites);
        for (size_t i = s->first; i < s->end && status == HT_OK; i++)
            status = scale_site(s, i);
        for (size_t i = s->first; i < s->end; i++) {
            ht_moments_destroy(s->moments[i]);
            s->moments[i] = NULL;
        }
        if (!s->sites)
            break;
    }
    close_layer(s);
    return status;
}

/* Most bytes that one site takes with its statistics, over all layers. */
static ht_status most_of_a_site(scaling *s, size_t *most) {
    int by_block = 0;
    *most = 0;
    for (size_t l = 0; l < s->model->config.layers; l++) {
        HT_TRY(open_layer(s, l));
        for (size_t i = 0; i < s->sites; i++) {
            size_t bytes = site_bytes(s, i);
            *most = bytes > *most ? bytes : *most;
            by_block |= s->wanted[i] && judges_by_block(asks(s, &s->site[i]));
        }
        close_layer(s);
    }
    *most += by_block ? ht_parent_bytes(s->model, s->samples, s->how->length) : 0;
    return HT_OK;
}

/* As many samples in memory as the limit leaves half of its rest for; the other half is for statistics. */
static ht_status open_hidden(scaling *s, ht_sequence *sequence) {
    ht_context *ctx = s->edits->ctx;
    size_t values = s->how->length * s->model->config.hidden, needed, resident = SIZE_MAX;
    size_t limit = ctx->options.memory_limit, bytes = values * sizeof(float);
    float *x;
    HT_TRY(most_of_a_site(s, &needed));
    /* Scratch of a pass is made now, so that what is used afterwards is what a pass takes. */
    HT_TRY(ht_allocate_raw(ctx, values, sizeof *x, "hidden states of a sample", &x));
    ht_status status = ht_block_embed(s->model, s->how->ids, s->how->length, x);
    for (size_t l = 0; l < s->model->config.layers && l < 2 && status == HT_OK; l++)
        status = ht_block_run(sequence, l, x, s->how->length, NULL);
    ht_release(ctx, x);
    HT_TRY(status);
    if (limit) {
        size_t used = ht_context_memory_used(ctx) + needed + limit / 16 + bytes;
        resident = (limit > used ? limit - used : 0) / 2 / bytes;
    }
    HT_TRY(ht_hidden_create(ctx, s->samples, values, resident, s->how->folder, &s->hidden));
    for (size_t i = 0; i < s->samples; i++) {
        HT_TRY(ht_hidden_load(s->hidden, i, &x));
        HT_TRY(ht_block_embed(s->model, s->how->ids + i * s->how->length, s->how->length, x));
        HT_TRY(ht_hidden_store(s->hidden, i));
    }
    return HT_OK;
}

static ht_status scale_all(ht_model *model, const ht_transform *how, ht_edits *edits) {
    scaling s = {.model = model, .how = how, .edits = edits, .samples = how->method->moments ? how->samples : 0};
    ht_sequence *sequence = NULL;
    ht_status status = HT_OK;
    ht_arena_init(&s.arena, edits->ctx);
    if (s.samples)
        status = ht_block_sequence(model, how->length, &sequence);
    if (status == HT_OK && s.samples)
        status = open_hidden(&s, sequence);
    for (size_t l = 0; l < model->config.layers && status == HT_OK; l++)
        status = run_layer(&s, sequence, l);
    close_layer(&s);
    ht_sequence_destroy(sequence);
    ht_hidden_destroy(s.hidden);
    ht_arena_release(&s.arena);
    return status;
}

/* Linears that stay float stay in the dtype that they are stored in. */
static void keep_dtypes(const ht_transform *how, ht_edits *edits) {
    for (size_t i = 0; i < ht_checkpoint_parameter_count(edits->checkpoint); i++)
        if (!how->plan->job[i].layout && ht_checkpoint_parameter(edits->checkpoint, i)->rank > 1)
            edits->edit[i].keeps_dtype = 1;
}

ht_status ht_transform_edits(ht_model *model, const ht_transform *how, ht_edits *edits) {
    if (how->method->rotates) {
        HT_TRY(ht_rotate_edits(model, 1, edits));
        HT_TRY(ht_input_r4_edits(model, how->plan, how->method, edits));
    } else if (how->method->mixes) {
        HT_TRY(ht_input_block_edits(how->plan, how->method, edits));
    } else {
        HT_TRY(scale_all(model, how, edits));
    }
    keep_dtypes(how, edits);
    return HT_OK;
}
