/* Sites of a layer, from the decoder's projections.
 *
 * q heads share the v of their group, so several inputs of o come from one channel. The up half of a fused gate_up is
 * its lower rows, or every second one. A producer is refused where scaling it would not be undone exactly: v of models
 * that clip q, k and v; up of gates that clamp it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/sites.h"

#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strlen */

#include "base/status.h"
#include "model/architectures.h"

enum { NAME = 256 };

static size_t index_of(const ht_model *model, const char *name) {
    const ht_parameter *found = ht_checkpoint_find_parameter(model->checkpoint, name);
    return found ? (size_t)(found - ht_checkpoint_parameter(model->checkpoint, 0)) : SIZE_MAX;
}

size_t ht_role_parameter(const ht_model *model, ht_role role, size_t layer) {
    char name[NAME];
    ht_architecture_tensor(ht_architecture_pattern(model->config.architecture, role), layer, 0, name, sizeof name);
    return index_of(model, name);
}

size_t ht_bias_parameter(const ht_model *model, size_t weight) {
    const char *name = ht_checkpoint_parameter(model->checkpoint, weight)->name;
    char bias[NAME];
    size_t length = strlen(name), stem = length > 7 ? length - 7 : 0;
    if (stem && strcmp(name + stem, ".weight") == 0)
        snprintf(bias, sizeof bias, "%.*s.bias", (int)stem, name);
    else
        snprintf(bias, sizeof bias, "%s_bias", name);
    return index_of(model, bias);
}

/* Readers of a projection at `at`; all experts when there are several. */
static ht_site_reader *add_readers(ht_model *model, size_t layer, ht_site site, size_t first, size_t count,
                                   ht_site_reader *at) {
    const ht_projection *projection = ht_block_site(model, layer, site);
    for (size_t e = first; e < first + count; e++)
        for (size_t p = 0; p < projection->parts; p++) {
            ht_block_linear linear = ht_block_linear_at(model, layer, site, e, p);
            *at++ = (ht_site_reader){linear.parameter, linear.entry};
        }
    return at;
}

static ht_status set_readers(ht_model *model, const ht_site *sites, size_t count, size_t expert, ht_arena *arena,
                             ht_site_map *map) {
    size_t most = 0;
    for (size_t i = 0; i < count; i++)
        most += ht_block_experts(model, map->layer, sites[i]) * HT_MAX_PARTS;
    ht_site_reader *readers = ht_arena_alloc(arena, most * sizeof *readers), *end = readers;
    if (!readers)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        size_t experts = ht_block_experts(model, map->layer, sites[i]);
        end = add_readers(model, map->layer, sites[i], map->site == HT_SITE_DOWN ? expert : 0,
                          map->site == HT_SITE_DOWN ? 1 : experts, end);
    }
    map->reader = readers;
    map->readers = (size_t)(end - readers);
    map->cols = ht_block_site(model, map->layer, sites[0])->inputs;
    return HT_OK;
}

static ht_status set_norm(const ht_model *model, ht_role role, ht_site_map *map) {
    map->parameter = ht_role_parameter(model, role, map->layer);
    if (map->parameter == SIZE_MAX)
        return ht_fail(HT_ERR_CORRUPT, "%s: a norm of layer %zu is missing", ht_checkpoint_path(model->checkpoint),
                       map->layer);
    map->kind = HT_PRODUCER_NORM;
    map->channels = map->cols;
    return HT_OK;
}

static ht_status set_values(ht_model *model, ht_arena *arena, ht_site_map *map) {
    const ht_decoder_config *c = &model->config;
    const ht_projection *qkv = ht_block_site(model, map->layer, HT_SITE_QKV);
    size_t *channel = ht_arena_alloc(arena, map->cols * sizeof *channel), shared = c->heads / c->kv_heads;
    if (!channel)
        return HT_ERR_MEMORY;
    if (c->clip_qkv > 0)
        return HT_OK;
    for (size_t j = 0; j < map->cols; j++)
        channel[j] = j / c->head_dim / shared * c->head_dim + j % c->head_dim;
    ht_block_linear v = ht_block_linear_at(model, map->layer, HT_SITE_QKV, 0, qkv->parts - 1);
    map->kind = HT_PRODUCER_ROWS;
    map->parameter = v.parameter;
    map->row = qkv->parts == 1 ? qkv->offset[2] : 0;
    map->step = 1;
    map->bias = ht_bias_parameter(model, v.parameter);
    map->channels = c->kv_heads * c->head_dim;
    map->channel = channel;
    return HT_OK;
}

static void set_up(ht_model *model, ht_site_map *map) {
    const ht_projection *both = ht_block_site(model, map->layer, HT_SITE_GATE_UP);
    if (model->config.architecture->clamped_gate)
        return;
    ht_block_linear up = ht_block_linear_at(model, map->layer, HT_SITE_GATE_UP, map->expert, both->parts - 1);
    map->kind = HT_PRODUCER_ROWS;
    map->parameter = up.parameter;
    map->entry = up.entry;
    map->row = both->parts > 1 ? 0 : both->interleaved ? 1 : both->width / 2;
    map->step = both->parts == 1 && both->interleaved ? 2 : 1;
    map->bias = ht_bias_parameter(model, up.parameter);
    map->channels = map->cols;
}

ht_status ht_layer_sites(ht_model *model, size_t layer, ht_arena *arena, ht_site_map **out, size_t *count) {
    static const ht_site qkv[] = {HT_SITE_QKV}, o[] = {HT_SITE_O}, down[] = {HT_SITE_DOWN},
                         mlp[] = {HT_SITE_GATE_UP, HT_SITE_ROUTER};
    int sparse = model->layer[layer].sparse;
    size_t experts = ht_block_experts(model, layer, HT_SITE_DOWN);
    ht_site_map *map = ht_arena_alloc(arena, (3 + experts) * sizeof *map);
    if (!map)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < 3 + experts; i++)
        map[i] = (ht_site_map){.layer = layer, .bias = SIZE_MAX, .step = 1};
    map[0].site = HT_SITE_QKV;
    HT_TRY(set_readers(model, qkv, 1, 0, arena, &map[0]));
    HT_TRY(set_norm(model, HT_ROLE_ATTENTION_NORM, &map[0]));
    map[1].site = HT_SITE_O;
    HT_TRY(set_readers(model, o, 1, 0, arena, &map[1]));
    HT_TRY(set_values(model, arena, &map[1]));
    map[2].site = sparse ? HT_SITE_ROUTER : HT_SITE_GATE_UP; /* where all rows are seen */
    HT_TRY(set_readers(model, mlp, sparse ? 2 : 1, 0, arena, &map[2]));
    HT_TRY(set_norm(model, HT_ROLE_MLP_NORM, &map[2]));
    for (size_t e = 0; e < experts; e++) {
        ht_site_map *at = &map[3 + e];
        at->site = HT_SITE_DOWN;
        at->expert = e;
        HT_TRY(set_readers(model, down, 1, e, arena, at));
        set_up(model, at);
    }
    *out = map;
    *count = 3 + experts;
    return HT_OK;
}
