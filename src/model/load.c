/* From parameters of a checkpoint to a decoder: find every tensor the description asks for, check its shape, make
 * linears on the mapped bytes.
 *
 * A projection is looked for in the ways that files store it, in this order:
 *
 *     parts     q_proj, k_proj, v_proj      experts.3.gate_proj, experts.3.up_proj     one tensor each
 *     fused     qkv_proj                    experts.3.gate_up_proj                     rows one after the other
 *     batched                               experts.gate_up_proj [experts, ...]        all experts in one
 *
 * so a checkpoint whose fused parameter was split when it was quantized loads as well as the original. Only norms,
 * biases and sinks are copied (to f32). Tensors of the decoder's layers that nothing uses are refused: ignoring them
 * would change results silently.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/decoder.h"

#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/cpu.h"
#include "base/status.h"

enum { NAME = 256 };

struct loader {
    ht_model *model;
    unsigned char *used; /* per parameter */
};

static size_t find(const struct loader *loader, const char *name) {
    const ht_checkpoint *checkpoint = loader->model->checkpoint;
    size_t low = 0, high = ht_checkpoint_parameter_count(checkpoint);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = strcmp(ht_checkpoint_parameter(checkpoint, middle)->name, name);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}

static const ht_parameter *take(struct loader *loader, const char *name) {
    size_t index = find(loader, name);
    if (index == SIZE_MAX)
        return NULL;
    loader->used[index] = 1;
    return ht_checkpoint_parameter(loader->model->checkpoint, index);
}

static const char *file_of(const struct loader *loader, const ht_parameter *parameter) {
    const ht_stored_tensor *tensor =
        parameter->stored_count ? ht_checkpoint_tensor(loader->model->checkpoint, parameter->stored[0]) : NULL;
    return tensor && tensor->file ? tensor->file : ht_checkpoint_path(loader->model->checkpoint);
}

static ht_status missing(const struct loader *loader, const char *name) {
    return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is missing, %s needs it",
                   ht_checkpoint_path(loader->model->checkpoint), name, loader->model->config.architecture->item.name);
}

/* --- vectors: norms, biases, sinks ----------------------------------------------------------------------------- */

/* f32 copy of all `count` values of a parameter. */
static ht_status read_vector(struct loader *loader, const char *name, size_t count, const float **out) {
    const ht_parameter *parameter = take(loader, name);
    if (!parameter)
        return missing(loader, name);
    const ht_weight *weight = &parameter->weight;
    if (weight->batch * weight->rows * weight->cols != count)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s has %zu values, %zu are needed", file_of(loader, parameter), name,
                       weight->batch * weight->rows * weight->cols, count);
    float *values = ht_arena_alloc(&loader->model->arena, count * sizeof *values);
    if (!values)
        return HT_ERR_MEMORY;
    size_t each = weight->rows * weight->cols;
    for (size_t i = 0; i < weight->batch; i++) {
        ht_planes planes = ht_weight_planes(weight, i);
        ht_status status =
            ht_format_dequantize(&weight->format, &planes, weight->rows, weight->cols, values + i * each);
        if (status != HT_OK)
            return ht_fail_prefix(status, "%s: tensor %s", file_of(loader, parameter), name);
    }
    *out = values;
    return HT_OK;
}

static void name_of(const struct loader *loader, ht_role role, size_t layer, size_t expert, char *name) {
    ht_architecture_tensor(ht_architecture_pattern(loader->model->config.architecture, role), layer, expert, name,
                           NAME);
}

static ht_status read_norm(struct loader *loader, ht_role role, size_t layer, size_t count, const float **out) {
    char name[NAME];
    name_of(loader, role, layer, 0, name);
    float *values;
    HT_TRY(read_vector(loader, name, count, out));
    if (!loader->model->config.architecture->one_plus)
        return HT_OK;
    values = ht_arena_alloc(&loader->model->arena, count * sizeof *values);
    if (!values)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        values[i] = 1.0f + (*out)[i];
    *out = values;
    return HT_OK;
}

/* "x.weight" has the bias "x.bias"; a bare name "x" has "x_bias". */
static void bias_name(const char *weight, char *name) {
    size_t length = strlen(weight), stem = length;
    const char *tail = "_bias";
    if (length > 7 && strcmp(weight + length - 7, ".weight") == 0) {
        stem = length - 7;
        tail = ".bias";
    }
    if (stem > NAME - 8)
        stem = NAME - 8;
    memcpy(name, weight, stem);
    memcpy(name + stem, tail, strlen(tail) + 1);
}

/* --- linears ----------------------------------------------------------------------------------------------------- */

static ht_status check_shape(const struct loader *loader, const ht_parameter *parameter, size_t batch, size_t outputs,
                             size_t inputs, ht_weight *weight) {
    *weight = parameter->weight;
    if (batch > 1 && weight->batch == batch && !weight->transposed && weight->format.family == HT_FAMILY_PLAIN &&
        weight->rows == inputs && weight->cols == outputs && inputs != outputs) {
        weight->transposed = 1; /* [experts, inputs, outputs], told by its shape */
        weight->rows = outputs;
        weight->cols = inputs;
    }
    if (weight->batch == batch && weight->rows == outputs && weight->cols == inputs)
        return HT_OK;
    return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is %zu x [%zu, %zu] (outputs, inputs), %zu x [%zu, %zu] is needed",
                   file_of(loader, parameter), parameter->name, weight->batch, weight->rows, weight->cols, batch,
                   outputs, inputs);
}

static ht_status read_linear(struct loader *loader, const char *name, size_t batch, size_t outputs, size_t inputs,
                             int has_bias, size_t *index, ht_linear **out) {
    const ht_parameter *parameter = take(loader, name);
    if (!parameter)
        return missing(loader, name);
    *index = find(loader, name);
    ht_weight weight;
    HT_TRY(check_shape(loader, parameter, batch, outputs, inputs, &weight));
    ht_linear_options options = {.input = parameter->has_input ? &parameter->input : NULL,
                                 .input_rule = parameter->input_rule,
                                 .input_scale = parameter->input_scale};
    if (has_bias) {
        char bias[NAME];
        bias_name(name, bias);
        HT_TRY(read_vector(loader, bias, batch * outputs, &options.bias));
    }
    ht_status status = ht_linear_from_weight(loader->model->ctx, &weight, &options, out);
    return status == HT_OK ? HT_OK : ht_fail_prefix(status, "%s: tensor %s", file_of(loader, parameter), name);
}

/* What a projection is to the description. */
struct request {
    ht_role part[HT_MAX_PARTS], fused, batched; /* fused, batched: HT_ROLE_COUNT = no such form */
    size_t size[HT_MAX_PARTS], parts;
    size_t inputs, experts; /* experts 0: not per expert */
    int has_bias, interleaved;
};

static ht_status make_places(struct loader *loader, ht_projection *out) {
    size_t count = out->members * out->parts;
    out->linear = ht_arena_alloc(&loader->model->arena, count * sizeof *out->linear);
    out->parameter = ht_arena_alloc(&loader->model->arena, count * sizeof *out->parameter);
    return out->linear && out->parameter ? HT_OK : HT_ERR_MEMORY;
}

static ht_status read_parts(struct loader *loader, const struct request *request, size_t layer, ht_role fused,
                            ht_projection *out) {
    out->parts = fused == HT_ROLE_COUNT ? request->parts : 1;
    out->members = request->experts ? request->experts : 1;
    out->interleaved = request->interleaved && fused != HT_ROLE_COUNT;
    HT_TRY(make_places(loader, out));
    for (size_t e = 0; e < out->members; e++)
        for (size_t p = 0; p < out->parts; p++) {
            char name[NAME];
            name_of(loader, fused == HT_ROLE_COUNT ? request->part[p] : fused, layer, e, name);
            size_t outputs = fused == HT_ROLE_COUNT ? request->size[p] : out->width;
            HT_TRY(read_linear(loader, name, 1, outputs, request->inputs, request->has_bias,
                               &out->parameter[e * out->parts + p], &out->linear[e * out->parts + p]));
        }
    return HT_OK;
}

static ht_status read_batched(struct loader *loader, const struct request *request, const char *name,
                              ht_projection *out) {
    out->parts = out->members = 1;
    out->batched = 1;
    out->interleaved = request->interleaved;
    HT_TRY(make_places(loader, out));
    return read_linear(loader, name, request->experts, out->width, request->inputs, request->has_bias, out->parameter,
                       out->linear);
}

static ht_status read_projection(struct loader *loader, const struct request *request, size_t layer,
                                 ht_projection *out) {
    char part[NAME], other[NAME];
    out->inputs = request->inputs;
    for (size_t p = 0; p < request->parts; p++) {
        out->offset[p] = out->width;
        out->width += request->size[p];
    }
    name_of(loader, request->part[0], layer, 0, part);
    if (find(loader, part) != SIZE_MAX)
        return read_parts(loader, request, layer, HT_ROLE_COUNT, out);
    if (request->fused != HT_ROLE_COUNT) {
        name_of(loader, request->fused, layer, 0, other);
        if (find(loader, other) != SIZE_MAX)
            return read_parts(loader, request, layer, request->fused, out);
    }
    if (request->batched != HT_ROLE_COUNT) {
        name_of(loader, request->batched, layer, 0, other);
        if (find(loader, other) != SIZE_MAX)
            return read_batched(loader, request, other, out);
    }
    return missing(loader, part);
}

/* --- layers --------------------------------------------------------------------------------------------------------
 */

static int has_bias(ht_bias_rule rule, int config) {
    return rule == HT_BIAS_ALWAYS || (rule == HT_BIAS_CONFIG && config);
}

static ht_status read_attention(struct loader *loader, size_t index, ht_layer *layer) {
    const ht_decoder_config *c = &loader->model->config;
    const ht_architecture *architecture = c->architecture;
    size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    HT_TRY(read_norm(loader, HT_ROLE_ATTENTION_NORM, index, c->hidden, &layer->attention_norm));
    struct request qkv = {.part = {HT_ROLE_Q, HT_ROLE_K, HT_ROLE_V},
                          .fused = HT_ROLE_QKV,
                          .batched = HT_ROLE_COUNT,
                          .size = {q, kv, kv},
                          .parts = 3,
                          .inputs = c->hidden,
                          .has_bias = has_bias(architecture->qkv_bias, c->attention_bias)};
    HT_TRY(read_projection(loader, &qkv, index, &layer->qkv));
    struct request o = {.part = {HT_ROLE_O},
                        .fused = HT_ROLE_COUNT,
                        .batched = HT_ROLE_COUNT,
                        .size = {c->hidden},
                        .parts = 1,
                        .inputs = q,
                        .has_bias = has_bias(architecture->o_bias, c->attention_bias)};
    HT_TRY(read_projection(loader, &o, index, &layer->o));
    if (architecture->qk_norm != HT_QK_NORM_NONE) {
        int whole = architecture->qk_norm == HT_QK_NORM_WHOLE;
        HT_TRY(read_norm(loader, HT_ROLE_Q_NORM, index, whole ? q : c->head_dim, &layer->q_norm));
        HT_TRY(read_norm(loader, HT_ROLE_K_NORM, index, whole ? kv : c->head_dim, &layer->k_norm));
    }
    if (architecture->sinks) {
        char name[NAME];
        name_of(loader, HT_ROLE_SINKS, index, 0, name);
        HT_TRY(read_vector(loader, name, c->heads, &layer->sinks));
    }
    if (architecture->post_norms)
        HT_TRY(read_norm(loader, HT_ROLE_ATTENTION_POST_NORM, index, c->hidden, &layer->attention_post_norm));
    return HT_OK;
}

static ht_status read_mlp(struct loader *loader, size_t index, ht_layer *layer) {
    const ht_decoder_config *c = &loader->model->config;
    const ht_architecture *architecture = c->architecture;
    int sparse = layer->sparse;
    size_t wide = sparse ? c->expert_intermediate : c->intermediate, experts = sparse ? c->experts : 0;
    int bias = sparse ? architecture->expert_bias : has_bias(architecture->mlp_bias, c->mlp_bias);
    HT_TRY(read_norm(loader, HT_ROLE_MLP_NORM, index, c->hidden, &layer->mlp_norm));
    if (architecture->post_norms)
        HT_TRY(read_norm(loader, HT_ROLE_MLP_POST_NORM, index, c->hidden, &layer->mlp_post_norm));
    if (sparse) {
        struct request router = {.part = {HT_ROLE_ROUTER},
                                 .fused = HT_ROLE_COUNT,
                                 .batched = HT_ROLE_COUNT,
                                 .size = {experts},
                                 .parts = 1,
                                 .inputs = c->hidden,
                                 .has_bias = architecture->router_bias};
        HT_TRY(read_projection(loader, &router, index, &layer->router));
    }
    struct request gate_up = {
        .part = {sparse ? HT_ROLE_EXPERT_GATE : HT_ROLE_GATE, sparse ? HT_ROLE_EXPERT_UP : HT_ROLE_UP},
        .fused = sparse ? HT_ROLE_EXPERT_GATE_UP : HT_ROLE_GATE_UP,
        .batched = sparse ? HT_ROLE_EXPERTS_GATE_UP : HT_ROLE_COUNT,
        .size = {wide, wide},
        .parts = 2,
        .inputs = c->hidden,
        .experts = experts,
        .has_bias = bias,
        .interleaved = sparse && architecture->interleaved};
    HT_TRY(read_projection(loader, &gate_up, index, &layer->gate_up));
    struct request down = {.part = {sparse ? HT_ROLE_EXPERT_DOWN : HT_ROLE_DOWN},
                           .fused = HT_ROLE_COUNT,
                           .batched = sparse ? HT_ROLE_EXPERTS_DOWN : HT_ROLE_COUNT,
                           .size = {c->hidden},
                           .parts = 1,
                           .inputs = wide,
                           .experts = experts,
                           .has_bias = bias};
    return read_projection(loader, &down, index, &layer->down);
}

static ht_status read_ends(struct loader *loader) {
    ht_model *model = loader->model;
    const ht_decoder_config *c = &model->config;
    char name[NAME];
    name_of(loader, HT_ROLE_EMBEDDING, 0, 0, name);
    model->embedding = take(loader, name);
    if (!model->embedding)
        return missing(loader, name);
    ht_weight weight;
    HT_TRY(check_shape(loader, model->embedding, 1, c->vocabulary, c->hidden, &weight));
    model->embedding_decode =
        ht_kernel_choose(HT_OPERATION_DECODE, ht_cpu_flags(model->ctx), &model->embedding->weight, 1)->fn.decode;
    HT_TRY(read_norm(loader, HT_ROLE_FINAL_NORM, 0, c->hidden, &model->final_norm));
    if (!c->tied)
        name_of(loader, HT_ROLE_HEAD, 0, 0, name);
    size_t unused;
    return read_linear(loader, name, 1, c->vocabulary, c->hidden, 0, &unused, &model->head);
}

/* --- what is left over ---------------------------------------------------------------------------------------------
 */

static int ends_with(const char *name, const char *tail) {
    size_t length = strlen(name), end = strlen(tail);
    return length >= end && strcmp(name + length - end, tail) == 0;
}

/* Derived values, scales of key-value caches, layers past num_hidden_layers (prediction heads). */
static int is_harmless(const ht_model *model, const char *name) {
    static const char *const TAILS[] = {"rotary_emb.inv_freq", ".k_scale", ".v_scale", ".q_scale"};
    for (size_t i = 0; i < sizeof TAILS / sizeof *TAILS; i++)
        if (ends_with(name, TAILS[i]))
            return 1;
    if (strncmp(name, "model.layers.", 13) == 0)
        return strtoull(name + 13, NULL, 10) >= model->config.layers;
    return model->config.tied && strcmp(name, "lm_head.weight") == 0;
}

static ht_status check_unused(const struct loader *loader) {
    const ht_model *model = loader->model;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(model->checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(model->checkpoint, i);
        if (loader->used[i] || is_harmless(model, parameter->name))
            continue;
        if (strncmp(parameter->name, "model.layers.", 13) == 0)
            return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s has no place in %s as the config describes it",
                           file_of(loader, parameter), parameter->name, model->config.architecture->item.name);
        ht_log(model->ctx, HT_LOG_WARN, "%s: tensor %s is not used", file_of(loader, parameter), parameter->name);
    }
    return HT_OK;
}

ht_status ht_model_load(ht_model *model) {
    const ht_decoder_config *c = &model->config;
    struct loader loader = {.model = model};
    loader.used = ht_arena_alloc(&model->arena, ht_checkpoint_parameter_count(model->checkpoint) + 1);
    model->layer = ht_arena_alloc(&model->arena, c->layers * sizeof *model->layer);
    if (!loader.used || !model->layer)
        return HT_ERR_MEMORY;
    HT_TRY(read_ends(&loader));
    for (size_t l = 0; l < c->layers; l++) {
        model->layer[l].window = c->window[l];
        model->layer[l].sparse = c->sparse[l];
        HT_TRY(read_attention(&loader, l, &model->layer[l]));
        HT_TRY(read_mlp(&loader, l, &model->layer[l]));
    }
    return check_unused(&loader);
}
