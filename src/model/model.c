/* Opening and closing models and sequences.
 *
 * Weights stay in the mapped files. A model's own memory is its norms and biases, and the scratch of one pass (act,
 * workspace), allocated at the first pass and kept. A sequence's is its cache: layers x kv_heads x capacity x head_dim
 * f32 values twice.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/decoder.h"

#include <stdio.h> /* snprintf */
#include <string.h>
#include <unistd.h> /* access */

#include "base/context.h"
#include "base/cpu.h"
#include "base/file_map.h"
#include "base/status.h"
#include "model/cache.h"
#include "model/rope.h"

static ht_status read_config(ht_model *model, const char *path) {
    const char *text = ht_checkpoint_config(model->checkpoint);
    char label[4096];
    if (!text)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: has no config.json; a Hugging Face directory is needed to run a model",
                       path);
    snprintf(label, sizeof label, "%s/config.json", path);
    HT_TRY(ht_decoder_config_parse(label, text, strlen(text), &model->arena, &model->config));
    snprintf(label, sizeof label, "%s/generation_config.json", path);
    if (access(label, R_OK) != 0)
        return HT_OK;
    ht_file_map map;
    HT_TRY(ht_file_map_open(label, &map));
    ht_status status = ht_decoder_config_generation(label, (const char *)map.data, map.bytes, &model->config);
    ht_file_map_close(&map);
    return status;
}

static void count_weights(ht_model *model) {
    for (size_t i = 0; i < ht_checkpoint_parameter_count(model->checkpoint); i++) {
        const ht_weight *weight = &ht_checkpoint_parameter(model->checkpoint, i)->weight;
        model->parameters += (uint64_t)weight->batch * weight->rows * weight->cols;
    }
    for (size_t i = 0; i < ht_checkpoint_tensor_count(model->checkpoint); i++)
        model->weight_bytes += ht_checkpoint_tensor(model->checkpoint, i)->bytes;
}

ht_status ht_model_open(ht_context *ctx, const char *path, ht_model **out) {
    *out = NULL;
    ht_model *model;
    HT_TRY(ht_allocate(ctx, 1, sizeof *model, "model", &model));
    model->ctx = ctx;
    ht_arena_init(&model->arena, ctx);
    ht_workspace_init(&model->workspace, ctx);
    model->kernels = ht_kernels_choose(ht_cpu_flags(ctx));
    ht_status status = ht_checkpoint_open(ctx, path, &model->checkpoint);
    if (status == HT_OK)
        status = read_config(model, path);
    if (status == HT_OK)
        status = ht_model_load(model);
    if (status != HT_OK) {
        ht_model_close(model);
        return status;
    }
    count_weights(model);
    *out = model;
    return HT_OK;
}

static void close_projection(ht_projection *projection) {
    for (size_t i = 0; projection->linear && i < projection->members * projection->parts; i++)
        ht_linear_destroy(projection->linear[i]);
}

static void release_activations(ht_context *ctx, ht_activations *act) {
    void *const all[] = {act->x,          act->normed, act->qkv,    act->attended, act->out,
                         act->gate_up,    act->gated,  act->router, act->share,    act->gathered,
                         act->expert_out, act->chosen, act->slot};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ht_release(ctx, all[i]);
    *act = (ht_activations){0};
}

void ht_model_close(ht_model *model) {
    if (!model)
        return;
    for (size_t l = 0; model->layer && l < model->config.layers; l++) {
        ht_layer *layer = &model->layer[l];
        ht_projection *const all[] = {&layer->qkv, &layer->o, &layer->router, &layer->gate_up, &layer->down};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++)
            close_projection(all[i]);
    }
    ht_linear_destroy(model->head);
    release_activations(model->ctx, &model->act);
    ht_workspace_release(&model->workspace);
    ht_arena_release(&model->arena);
    ht_checkpoint_close(model->checkpoint);
    ht_release(model->ctx, model);
}

ht_model_info ht_model_describe(const ht_model *model) {
    const ht_decoder_config *c = &model->config;
    return (ht_model_info){.architecture = c->architecture->item.name,
                           .vocabulary = c->vocabulary,
                           .hidden = c->hidden,
                           .layers = c->layers,
                           .heads = c->heads,
                           .kv_heads = c->kv_heads,
                           .head_dim = c->head_dim,
                           .experts = c->experts,
                           .context = c->context,
                           .parameters = model->parameters,
                           .weight_bytes = model->weight_bytes};
}

/* --- attention ------------------------------------------------------------------------------------------------- */

ht_status ht_model_set_attention(ht_model *model, const char *name) {
    const ht_attention_rounding *how;
    size_t d = model->config.head_dim;
    HT_TRY(ht_attention_rounding_find(name, &how));
    if (how->dtype == HT_DTYPE_NONE) {
        model->rounder = NULL;
        return HT_OK;
    }
    ht_attention_rounder *rounder;
    rounder = ht_arena_alloc(&model->arena, sizeof *rounder);
    if (!rounder)
        return HT_ERR_MEMORY;
    HT_TRY(ht_attention_rounder_init(how, d, d, rounder));
    model->rounder = rounder;
    return HT_OK;
}

ht_model_attention ht_model_attention_at(const ht_model *model, size_t layer) {
    (void)layer; /* all alike on the host */
    if (!model->rounder)
        return (ht_model_attention){"cpu_f32", "f32", ""};
    int narrow = ht_dtype_bits(model->rounder->how->dtype) <= 8;
    return (ht_model_attention){narrow ? "cpu_fp8" : "cpu_f32", model->rounder->how->name,
                                "the model is on the host, which rounds but multiplies in f32"};
}

/* --- sequences ------------------------------------------------------------------------------------------------- */

ht_status ht_sequence_create(ht_model *model, size_t capacity, ht_sequence **out) {
    return ht_sequence_create_for(model, capacity, model->config.layers, out);
}

ht_status ht_sequence_create_for(ht_model *model, size_t capacity, size_t layers, ht_sequence **out) {
    *out = NULL;
    const ht_decoder_config *c = &model->config;
    ht_context *ctx = model->ctx;
    ht_sequence *sequence;
    if (capacity == 0 || capacity > (size_t)1 << 30)
        return ht_fail(HT_ERR_ARGUMENT, "sequence: a capacity of %zu tokens, 1 to 2^30 is possible", capacity);
    size_t chunk = capacity < HT_CHUNK ? capacity : HT_CHUNK, half = c->rotary / 2;
    size_t rows = layers * c->kv_heads, f32_rows = model->cache_quantized ? c->kv_heads : rows;
    HT_TRY(ht_allocate(ctx, 1, sizeof *sequence, "sequence", &sequence));
    sequence->model = model;
    sequence->capacity = capacity;
    sequence->layers = layers;
    if (model->cache_quantized) {
        sequence->format = model->cache;
        sequence->record = ht_cache_record(&model->cache, c->head_dim);
    }
    size_t row = f32_rows * c->head_dim * sizeof(float);
    ht_status status = ht_allocate_raw(ctx, capacity, row, "key cache", &sequence->k);
    if (status == HT_OK)
        status = ht_allocate_raw(ctx, capacity, row, "value cache", &sequence->v);
    for (int which = 0; which < 2 && sequence->record && status == HT_OK; which++)
        status = ht_allocate_raw(ctx, capacity, rows * sequence->record, "quantized cache", &sequence->records[which]);
    sequence->rounder = model->rounder;
    for (int which = 0; which < 2 && sequence->rounder && status == HT_OK; which++)
        status = ht_allocate_raw(ctx, capacity, c->kv_heads * c->head_dim * sizeof(float), "rounded keys and values",
                                 &sequence->rounded[which]);
    if (status == HT_OK)
        status = ht_allocate(ctx, half, sizeof(float), "rotary frequencies", &sequence->frequency);
    if (status == HT_OK)
        status = ht_allocate(ctx, chunk * half, sizeof(float), "rotary table", &sequence->cosine);
    if (status == HT_OK)
        status = ht_allocate(ctx, chunk * half, sizeof(float), "rotary table", &sequence->sine);
    if (status != HT_OK) {
        ht_sequence_destroy(sequence);
        return status;
    }
    sequence->rope_factor = ht_rope_frequencies(&c->rope, c->rotary, capacity, sequence->frequency);
    *out = sequence;
    return HT_OK;
}

void ht_sequence_destroy(ht_sequence *sequence) {
    if (!sequence)
        return;
    ht_context *ctx = sequence->model->ctx;
    void *const all[] = {sequence->k,          sequence->v,          sequence->records[0],
                         sequence->records[1], sequence->rounded[0], sequence->rounded[1],
                         sequence->frequency,  sequence->cosine,     sequence->sine};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        ht_release(ctx, all[i]);
    ht_release(ctx, sequence);
}

void ht_sequence_reset(ht_sequence *sequence) {
    sequence->length = 0;
}

size_t ht_sequence_length(const ht_sequence *sequence) {
    return sequence->length;
}
