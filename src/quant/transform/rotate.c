/* Rotations of the residual stream and of heads, folded into the weights.
 *
 *     embedding E R1     norms: weight into the linears behind them, then 1     q k v gate up router: W diag(norm) R1
 *     o, down: R1^T W (and the bias)     head: W diag(final norm) R1, untied from the embedding first
 *     v: R2^T per head (and the bias)    o: R2 per head
 *
 * RMSNorm without weights commutes with a rotation, since it divides by the length. R = diag(+-1) H^T / sqrt(n): the
 * outliers of a row spread over all of it, so that block scales waste less. Signs are Philox draws of the seed.
 * Refuses: models that normalize what a block adds (its weights cannot move past the sum), lengths without a Hadamard
 * matrix; heads of models that clip q, k and v. Source: algorithms specification, section 2.5; QuaRot (2024), SpinQuant
 * (2024).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/rotate.h"

#include <stdint.h> /* SIZE_MAX */
#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/random.h"
#include "base/status.h"
#include "quant/decode.h"
#include "quant/transform/sites.h"

enum { STREAM_HIDDEN = 0x7231, STREAM_HEADS = 0x7232 };

typedef struct rotating {
    ht_model *model;
    ht_edits *edits;
    const ht_rotation *hidden, *head; /* head: NULL when heads stay */
} rotating;

static ht_status make(const rotating *r, size_t n, uint64_t stream, const ht_rotation **out) {
    ht_rotation *rotation = ht_arena_alloc(&r->edits->arena, sizeof *rotation);
    float *sign = ht_arena_alloc(&r->edits->arena, n * sizeof *sign);
    if (!rotation || !sign)
        return HT_ERR_MEMORY;
    if (ht_hadamard_init(&rotation->hadamard, n) != HT_OK)
        return ht_fail_prefix(HT_ERR_UNSUPPORTED, "method rotate: rows of %zu values", n);
    for (size_t i = 0; i < n; i++)
        sign[i] = ht_random_u32(ht_context_seed(r->edits->ctx), stream, i) >> 31 ? -1.0f : 1.0f;
    rotation->sign = sign;
    *out = rotation;
    return HT_OK;
}

/* The parameter becomes this value everywhere. */
static ht_status set_all(const rotating *r, size_t parameter, float value) {
    const ht_weight *weight = &ht_checkpoint_parameter(r->edits->checkpoint, parameter)->weight;
    size_t count = weight->batch * weight->rows * weight->cols;
    float *values = ht_arena_alloc(&r->edits->arena, count * sizeof *values);
    if (!values)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        values[i] = value;
    r->edits->edit[parameter] = (ht_edit){.values = values, .keeps_dtype = 1};
    return HT_OK;
}

/* A bias: as a row of its linear's outputs, rotated like them. `skip` first values stay (q and k of a fused bias). */
static ht_status rotate_bias(const rotating *r, size_t weight, const ht_rotation *rotation, size_t skip, size_t count) {
    size_t bias = ht_bias_parameter(r->model, weight);
    if (bias == SIZE_MAX)
        return HT_OK;
    const ht_parameter *parameter = ht_checkpoint_parameter(r->edits->checkpoint, bias);
    size_t each = parameter->weight.rows * parameter->weight.cols; /* of a rank 2 bias, rows are experts */
    size_t total = parameter->weight.batch * each, rows = parameter->rank > 1 ? parameter->weight.rows : 1;
    float *values = ht_arena_alloc(&r->edits->arena, total * sizeof *values);
    if (!values)
        return HT_ERR_MEMORY;
    for (size_t e = 0; e < parameter->weight.batch; e++)
        HT_TRY(ht_decode_rows(parameter, e, 0, parameter->weight.rows, values + e * each));
    for (size_t row = 0; row < rows; row++)
        for (size_t i = 0; i < count; i++)
            values[row * (total / rows) + skip + i] *= rotation->sign[i % rotation->hadamard.n];
    for (size_t row = 0; row < rows; row++)
        ht_hadamard_apply(&rotation->hadamard, values + row * (total / rows) + skip, count / rotation->hadamard.n, 0);
    r->edits->edit[bias] = (ht_edit){.values = values};
    return HT_OK;
}

/* Readers of a norm: its weight into their columns, and the rotation of what they read. */
static ht_status turn_readers(const rotating *r, const ht_site_map *site, const float *norm) {
    for (size_t i = 0; i < site->readers; i++) {
        HT_TRY(ht_edits_scale_columns(r->edits, site->reader[i].parameter, site->reader[i].entry, norm));
        r->edits->edit[site->reader[i].parameter].in = r->hidden;
    }
    return set_all(r, site->parameter, r->model->config.architecture->one_plus ? 0.0f : 1.0f);
}

/* o and down: outputs rotated. */
static ht_status turn_writers(const rotating *r, const ht_site_map *site) {
    for (size_t i = 0; i < site->readers; i++) {
        size_t parameter = site->reader[i].parameter;
        int first = !r->edits->edit[parameter].out; /* one parameter may hold all experts */
        r->edits->edit[parameter].out = r->hidden;
        if (first)
            HT_TRY(rotate_bias(r, parameter, r->hidden, 0, r->model->config.hidden));
    }
    return HT_OK;
}

/* v and o of a layer, head by head. A v fused with q and k stays: their rows may not turn. */
static ht_status turn_heads(const rotating *r, const ht_site_map *o) {
    if (!r->head || o->kind != HT_PRODUCER_ROWS || o->row != 0)
        return HT_OK;
    r->edits->edit[o->parameter].out = r->head;
    HT_TRY(rotate_bias(r, o->parameter, r->head, 0, o->channels));
    for (size_t i = 0; i < o->readers; i++)
        r->edits->edit[o->reader[i].parameter].in = r->head;
    return HT_OK;
}

static ht_status turn_layer(const rotating *r, size_t index) {
    const ht_layer *layer = &r->model->layer[index];
    ht_site_map *site;
    size_t count;
    HT_TRY(ht_layer_sites(r->model, index, &r->edits->arena, &site, &count));
    HT_TRY(turn_readers(r, &site[0], layer->attention_norm));
    HT_TRY(turn_writers(r, &site[1]));
    HT_TRY(turn_heads(r, &site[1]));
    HT_TRY(turn_readers(r, &site[2], layer->mlp_norm));
    for (size_t i = 3; i < count; i++)
        HT_TRY(turn_writers(r, &site[i]));
    return HT_OK;
}

/* Embedding and head. A tied head gets a tensor of its own. */
static ht_status turn_ends(const rotating *r) {
    ht_model *model = r->model;
    const ht_weight *weight = &model->embedding->weight;
    size_t embedding = ht_role_parameter(model, HT_ROLE_EMBEDDING, 0), head = ht_role_parameter(model, HT_ROLE_HEAD, 0);
    size_t norm = ht_role_parameter(model, HT_ROLE_FINAL_NORM, 0);
    r->edits->edit[embedding] = (ht_edit){.in = r->hidden, .keeps_dtype = 1};
    if (model->config.tied) {
        float **columns = ht_arena_alloc(&r->edits->arena, sizeof *columns);
        float *scale = ht_arena_alloc(&r->edits->arena, weight->cols * sizeof *scale);
        if (!columns || !scale)
            return HT_ERR_MEMORY;
        memcpy(scale, model->final_norm, weight->cols * sizeof *scale);
        columns[0] = scale;
        r->edits->head = embedding;
        r->edits->head_name = ht_architecture_pattern(model->config.architecture, HT_ROLE_HEAD);
        r->edits->head_edit = (ht_edit){.columns = columns, .in = r->hidden, .keeps_dtype = 1};
    } else {
        HT_TRY(ht_edits_scale_columns(r->edits, head, 0, model->final_norm));
        r->edits->edit[head].in = r->hidden;
        r->edits->edit[head].keeps_dtype = 1;
    }
    return set_all(r, norm, model->config.architecture->one_plus ? 0.0f : 1.0f);
}

ht_status ht_rotate_edits(ht_model *model, int heads, ht_edits *edits) {
    rotating r = {.model = model, .edits = edits};
    if (model->config.architecture->post_norms)
        return ht_fail(
            HT_ERR_UNSUPPORTED,
            "method rotate: %s normalizes what its blocks add, and those weights cannot be moved past the sum",
            model->config.architecture->item.name);
    HT_TRY(make(&r, model->config.hidden, STREAM_HIDDEN, &r.hidden));
    if (heads && ht_hadamard_exists(model->config.head_dim))
        HT_TRY(make(&r, model->config.head_dim, STREAM_HEADS, &r.head));
    HT_TRY(turn_ends(&r));
    for (size_t l = 0; l < model->config.layers; l++)
        HT_TRY(turn_layer(&r, l));
    return HT_OK;
}
