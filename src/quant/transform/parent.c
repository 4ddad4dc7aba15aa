/* The output of a block under changed weights.
 *
 *     rows before the block --> block as it is        --> output
 *                          '--> block, linears changed --> now        error: mean over rows of |now - output|^2
 *
 * For gate, up and down that is the error of the MLP's output, since what is added to it is the same; for q, k, v and o
 * it is that of the attention's output as the rest of the block passes it on. Sums are f64, rows in order: the same for
 * any number of threads. Source: algorithms specification, section 2.2 (loss on the parent module's output).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/parent.h"

#include <string.h> /* memcpy */

#include "base/memory.h"
#include "base/status.h"

static size_t weights_of(ht_model *model, size_t layer) {
    size_t values = 0;
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        const ht_projection *projection = ht_block_site(model, layer, (ht_site)site);
        size_t experts = projection ? ht_block_experts(model, layer, (ht_site)site) : 0;
        for (size_t part = 0; projection && part < projection->parts; part++) {
            const ht_weight *w = ht_linear_weight(*ht_block_linear_at(model, layer, (ht_site)site, 0, part).place);
            values += experts * w->rows * w->cols;
        }
    }
    return values;
}

size_t ht_parent_bytes(ht_model *model, size_t samples, size_t length) {
    size_t most = 0, rows = (2 * (samples < HT_PARENT_SAMPLES ? samples : HT_PARENT_SAMPLES) + 1) * length;
    for (size_t l = 0; l < model->config.layers; l++) {
        size_t values = weights_of(model, l);
        most = values > most ? values : most;
    }
    return (most + rows * model->config.hidden) * sizeof(float) + ht_tape_bytes(model, length);
}

static ht_status run(ht_parent *p, size_t sample, float *output) {
    size_t values = p->length * p->model->config.hidden;
    return ht_tape_forward(p->tape, &p->block, p->input + sample * values, p->length, output);
}

static ht_status fill(ht_parent *p, ht_hidden *hidden) {
    size_t values = p->length * p->model->config.hidden;
    HT_TRY(ht_dense_block_open(p->model, p->layer, &p->block));
    HT_TRY(ht_tape_create(p->model, p->length, &p->tape));
    HT_TRY(ht_allocate_raw(p->ctx, (2 * p->samples + 1) * values, sizeof *p->input, "rows of a block", &p->input));
    p->output = p->input + p->samples * values;
    p->now = p->output + p->samples * values;
    for (size_t s = 0; s < p->samples; s++) {
        float *x;
        HT_TRY(ht_hidden_load(hidden, s, &x));
        memcpy(p->input + s * values, x, values * sizeof *x);
        HT_TRY(run(p, s, p->output + s * values));
    }
    return HT_OK;
}

ht_status ht_parent_open(ht_model *model, size_t layer, ht_hidden *hidden, size_t samples, size_t length,
                         ht_parent **out) {
    ht_parent *p;
    *out = NULL;
    HT_TRY(ht_allocate(model->ctx, 1, sizeof *p, "a block to judge by", &p));
    *p = (ht_parent){.ctx = model->ctx,
                     .model = model,
                     .samples = samples < HT_PARENT_SAMPLES ? samples : HT_PARENT_SAMPLES,
                     .length = length,
                     .layer = layer};
    ht_status status = fill(p, hidden);
    if (status != HT_OK) {
        ht_parent_close(p);
        return status;
    }
    *out = p;
    return HT_OK;
}

void ht_parent_close(ht_parent *p) {
    if (!p)
        return;
    ht_tape_destroy(p->tape);
    ht_dense_block_close(&p->block);
    ht_release(p->ctx, p->input);
    ht_release(p->ctx, p);
}

void ht_parent_set(ht_parent *p, const ht_site_reader *linear, const float *weight) {
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t i = 0; i < p->block.experts[site] * p->block.parts[site]; i++) {
            size_t expert = i / p->block.parts[site], part = i % p->block.parts[site];
            ht_block_linear at = ht_block_linear_at(p->model, p->layer, (ht_site)site, expert, part);
            ht_dense_linear *dense = ht_dense_linear_at(&p->block, (ht_site)site, expert, part);
            if (at.parameter == linear->parameter && at.entry == linear->entry)
                memcpy(dense->weight, weight, dense->rows * dense->cols * sizeof *weight);
        }
}

ht_status ht_parent_error(ht_parent *p, double *error) {
    size_t values = p->length * p->model->config.hidden;
    double sum = 0;
    for (size_t s = 0; s < p->samples; s++) {
        HT_TRY(run(p, s, p->now));
        for (size_t i = 0; i < values; i++) {
            double e = (double)p->now[i] - (double)p->output[s * values + i];
            sum += e * e;
        }
    }
    *error = sum / (double)(p->samples * p->length);
    return HT_OK;
}
