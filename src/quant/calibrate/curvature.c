/* Second moments of the gradients at the outputs of all linears of a model.
 *
 *     four samples:  embed -> block 0 -> ... -> block n    rows kept before every block
 *                    gradient of the head -> back through block n, ..., 0; on the way dy of every linear is added up
 *
 * Each block is decoded to f32, passed again with everything kept (block_gradient.h) and gone back through: memory
 * holds the matrices and the pass of one block, and the rows of GROUP samples before every block.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/curvature.h"

#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/memory.h"
#include "base/status.h"
#include "model/block_gradient.h"

enum { GROUP = 4 };

struct ht_curvature {
    ht_context *ctx;
    ht_arena arena;
    ht_output_curvature *matrix;
    size_t count;
};

typedef struct measuring {
    ht_curvature *result;
    ht_model *model;
    const ht_samples *samples;
    ht_tape *tape;
    float *hidden; /* [layers + 1, GROUP, length, hidden]; the last becomes the gradient */
    size_t layer;
} measuring;

/* --- Which matrices -------------------------------------------------------------------------------------------- */

static ht_status add_matrix(ht_curvature *c, ht_model *model, size_t layer, ht_site site, size_t expert, size_t part) {
    ht_block_linear at = ht_block_linear_at(model, layer, site, expert, part);
    ht_output_curvature *m = &c->matrix[c->count++];
    *m = (ht_output_curvature){.parameter = at.parameter, .entry = at.entry, .rows = ht_linear_weight(*at.place)->rows};
    m->bands = (m->rows + HT_CURVATURE_BAND - 1) / HT_CURVATURE_BAND;
    m->band = ht_arena_alloc(&c->arena, m->bands * sizeof *m->band);
    if (!m->band)
        return HT_ERR_MEMORY;
    memset(m->band, 0, m->bands * sizeof *m->band);
    for (size_t b = 0; b < m->bands; b++) {
        size_t left = m->rows - b * HT_CURVATURE_BAND;
        HT_TRY(ht_moments_create(c->ctx, left < HT_CURVATURE_BAND ? left : HT_CURVATURE_BAND, HT_MOMENT_SECOND,
                                 &m->band[b]));
    }
    return HT_OK;
}

/* Calls add for every wanted matrix of a layer, or only counts them. */
static ht_status list_layer(ht_curvature *c, ht_model *model, size_t layer, const unsigned char *wanted,
                            size_t *count) {
    for (int site = 0; site < HT_SITE_COUNT; site++) {
        const ht_projection *projection = ht_block_site(model, layer, (ht_site)site);
        size_t experts = projection ? ht_block_experts(model, layer, (ht_site)site) : 0;
        for (size_t i = 0; projection && i < experts * projection->parts; i++) {
            size_t expert = i / projection->parts, part = i % projection->parts;
            if (!wanted[ht_block_linear_at(model, layer, (ht_site)site, expert, part).parameter])
                continue;
            ++*count;
            if (c->matrix)
                HT_TRY(add_matrix(c, model, layer, (ht_site)site, expert, part));
        }
    }
    return HT_OK;
}

static ht_status list_all(ht_curvature *c, ht_model *model, const unsigned char *wanted) {
    size_t count = 0;
    for (int add = 0; add < 2; add++) {
        for (size_t l = 0; l < model->config.layers; l++)
            HT_TRY(list_layer(c, model, l, wanted, &count));
        if (!add)
            c->matrix = ht_arena_alloc(&c->arena, (count + 1) * sizeof *c->matrix);
        if (!c->matrix)
            return HT_ERR_MEMORY;
    }
    return HT_OK;
}

const ht_output_curvature *ht_curvature_of(const ht_curvature *c, size_t parameter, size_t entry) {
    for (size_t i = 0; c && i < c->count; i++)
        if (c->matrix[i].parameter == parameter && c->matrix[i].entry == entry)
            return c->matrix[i].band[0]->tokens ? &c->matrix[i] : NULL;
    return NULL;
}

/* --- Passes ---------------------------------------------------------------------------------------------------- */

static ht_status see(void *user, const ht_output_gradient *gradient) {
    const measuring *m = user;
    ht_block_linear at = ht_block_linear_at(m->model, m->layer, gradient->site, gradient->expert, gradient->part);
    for (size_t i = 0; i < m->result->count; i++) {
        const ht_output_curvature *matrix = &m->result->matrix[i];
        if (matrix->parameter != at.parameter || matrix->entry != at.entry)
            continue;
        for (size_t b = 0; b < matrix->bands; b++)
            HT_TRY(ht_moments_add(matrix->band[b], gradient->dy + b * HT_CURVATURE_BAND, NULL, gradient->rows,
                                  gradient->stride));
    }
    return HT_OK;
}

/* Rows of a sample before a block; after the last: its gradient. */
static float *rows_at(const measuring *m, size_t layer, size_t sample) {
    return m->hidden + (layer * GROUP + sample) * m->samples->length * m->model->config.hidden;
}

static ht_status forth(measuring *m, size_t first, size_t count) {
    size_t length = m->samples->length;
    for (size_t s = 0; s < count; s++)
        HT_TRY(ht_block_embed(m->model, m->samples->ids + (first + s) * length, length, rows_at(m, 0, s)));
    for (size_t l = 0; l < m->model->config.layers; l++) {
        ht_dense_block block;
        HT_TRY(ht_dense_block_open(m->model, l, &block));
        ht_status status = ht_context_check_cancelled(m->model->ctx);
        for (size_t s = 0; s < count && status == HT_OK; s++)
            status = ht_tape_forward(m->tape, &block, rows_at(m, l, s), length, rows_at(m, l + 1, s));
        ht_dense_block_close(&block);
        HT_TRY(status);
    }
    return HT_OK;
}

static ht_status back(measuring *m, size_t first, size_t count) {
    size_t length = m->samples->length, layers = m->model->config.layers;
    uint64_t seed = ht_context_seed(m->model->ctx);
    float *behind; /* what a block gives, once more: not needed */
    HT_TRY(ht_allocate_raw(m->model->ctx, length * m->model->config.hidden, sizeof *behind, "rows", &behind));
    ht_status status = HT_OK;
    for (size_t s = 0; s < count && status == HT_OK; s++)
        status = ht_head_gradient(m->model, rows_at(m, layers, s), length, seed, (first + s) * length,
                                  rows_at(m, layers, s));
    for (m->layer = layers; m->layer-- > 0 && status == HT_OK;) {
        ht_dense_block block;
        status = ht_dense_block_open(m->model, m->layer, &block);
        for (size_t s = 0; s < count && status == HT_OK; s++) {
            status = ht_tape_forward(m->tape, &block, rows_at(m, m->layer, s), length, behind);
            if (status == HT_OK)
                status = ht_tape_backward(m->tape, &block, rows_at(m, layers, s));
        }
        ht_dense_block_close(&block);
    }
    ht_release(m->model->ctx, behind);
    return status;
}

static ht_status measure(measuring *m, size_t most) {
    const ht_samples *samples = m->samples;
    size_t count = samples->count < most ? samples->count : most, row = m->model->config.hidden;
    double start = ht_seconds();
    HT_TRY(ht_tape_create(m->model, samples->length, &m->tape));
    ht_tape_watch(m->tape, see, m);
    HT_TRY(ht_allocate_raw(m->model->ctx, (m->model->config.layers + 1) * GROUP * samples->length, row * sizeof(float),
                           "rows of samples at every block", &m->hidden));
    for (size_t first = 0; first < count; first += GROUP) {
        size_t some = count - first < GROUP ? count - first : GROUP;
        ht_report(m->model->ctx, &(ht_progress){.stage = "gradients",
                                                .item = "of all blocks",
                                                .unit = "samples",
                                                .done = first,
                                                .total = count,
                                                .seconds = ht_seconds() - start});
        HT_TRY(forth(m, first, some));
        HT_TRY(back(m, first, some));
    }
    for (size_t i = 0; i < m->result->count; i++)
        for (size_t b = 0; b < m->result->matrix[i].bands; b++)
            HT_TRY(ht_moments_finish(m->result->matrix[i].band[b]));
    return HT_OK;
}

ht_status ht_curvature_measure(ht_model *model, const unsigned char *wanted, const ht_samples *samples, size_t most,
                               ht_curvature **out) {
    ht_curvature *c;
    *out = NULL;
    HT_TRY(ht_allocate(model->ctx, 1, sizeof *c, "curvature", &c));
    c->ctx = model->ctx;
    ht_arena_init(&c->arena, model->ctx);
    measuring m = {.result = c, .model = model, .samples = samples};
    ht_status status = list_all(c, model, wanted);
    if (status == HT_OK)
        status = measure(&m, most);
    ht_tape_destroy(m.tape);
    ht_release(model->ctx, m.hidden);
    if (status != HT_OK) {
        ht_curvature_destroy(c);
        return status;
    }
    *out = c;
    return HT_OK;
}

void ht_curvature_destroy(ht_curvature *c) {
    if (!c)
        return;
    for (size_t i = 0; i < c->count; i++)
        for (size_t b = 0; b < c->matrix[i].bands && c->matrix[i].band; b++)
            ht_moments_destroy(c->matrix[i].band[b]);
    ht_arena_release(&c->arena);
    ht_release(c->ctx, c);
}
