/* Transforms of linears' inputs: the transform_config of compressed-tensors, and scales of inputs.
 *
 *     transform_config: {config_groups: {hadamard_32: {type: hadamard, head_dim: 32, apply: [
 *         {targets: [..], location: input},                   done to the rows when the model runs
 *         {targets: [..], location: weight_input, inverse}    done to the weights before they were stored
 *     ]}}}
 *     <parameter>.act_pre_scale   f32 [cols] or [batch, cols]    our own
 *
 * head_dim is the block, without it the whole row. The groups lie in quantization_config; in a file of float weights,
 * in its metadata. Blocks that are no power of two are our own (format/hadamard.h): profile.c keeps them out of files
 * for others. What is done to weights alone needs nothing here. Refused: other types, transforms of outputs and caches,
 * random permutations, two transforms of one input. Source: compressed-tensors 0.20, section "transform".
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/transforms.h"

#include <stdint.h> /* SIZE_MAX */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strcmp */

#include "base/memory.h"
#include "base/status.h"
#include "format/hadamard.h"
#include "io/checkpoint_file.h"
#include "io/json.h"
#include "io/targets.h"

/* --- Writing ------------------------------------------------------------------------------------------------- */

static ht_status no_memory(void) {
    return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
}

static json_t *scheme_of(size_t block, json_t *targets) {
    return json_pack("{s:s, s:[{s:O, s:s, s:b, s:[]}, {s:o, s:s, s:b, s:[]}], s:b, s:b, s:I, s:s}", "type", "hadamard",
                     "apply", "targets", targets, "location", "input", "inverse", 0, "ignore", "targets", targets,
                     "location", "weight_input", "inverse", 1, "ignore", "randomize", 0, "requires_grad", 0, "head_dim",
                     (json_int_t)block, "precision", "torch.float32");
}

static ht_status add_schemes(const ht_named_block *of, size_t count, ht_target_builder *builder, json_t *groups) {
    for (size_t i = 0; i < count; i++)
        HT_TRY(ht_target_builder_add(builder, of[i].name, of[i].block));
    for (size_t i = 0; i < count; i++) {
        char name[32];
        snprintf(name, sizeof name, "hadamard_%zu", of[i].block);
        if (!of[i].block || json_object_get(groups, name))
            continue;
        json_t *targets = ht_target_builder_list(builder, of[i].block);
        json_t *scheme = targets ? scheme_of(of[i].block, targets) : NULL;
        if (json_object_set_new(groups, name, scheme) != 0)
            return no_memory();
    }
    return HT_OK;
}

ht_status ht_transform_config(const ht_named_block *of, size_t count, json_t **out) {
    ht_target_builder *builder;
    json_t *groups = json_object();
    *out = NULL;
    ht_status status = groups ? ht_target_builder_create(&builder) : no_memory();
    if (status == HT_OK) {
        status = add_schemes(of, count, builder, groups);
        ht_target_builder_destroy(builder);
    }
    if (status == HT_OK && json_object_size(groups)) {
        *out = json_pack("{s:O}", "config_groups", groups);
        status = *out ? HT_OK : no_memory();
    }
    json_decref(groups);
    return status;
}

/* --- Scales of inputs ---------------------------------------------------------------------------------------- */

/* Length of the parameter's name when the tensor is its input scale; 0: it is none. */
static size_t owner_length(const ht_stored_tensor *tensor) {
    size_t length = strlen(tensor->name), tail = sizeof HT_INPUT_SCALE_TAIL - 1;
    return length > tail && strcmp(tensor->name + length - tail, HT_INPUT_SCALE_TAIL) == 0 ? length - tail : 0;
}

void ht_fold_claim_scales(ht_fold *fold) {
    for (size_t i = 0; i < fold->checkpoint->tensor_count; i++)
        if (owner_length(&fold->checkpoint->tensors[i]))
            fold->folded[i] = 1;
}

static ht_status take_scale(ht_fold *fold, size_t index, size_t length) {
    const ht_stored_tensor *tensor = &fold->checkpoint->tensors[index];
    const char *owner = ht_arena_string(&fold->checkpoint->arena, tensor->name, length);
    if (!owner)
        return HT_ERR_MEMORY;
    const ht_parameter *found = ht_checkpoint_find_parameter(fold->checkpoint, owner);
    if (!found)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s scales the inputs of a parameter that is not there",
                       fold->checkpoint->path, tensor->name);
    ht_parameter *parameter = &fold->checkpoint->parameters[found - fold->checkpoint->parameters];
    const ht_weight *weight = &parameter->weight;
    size_t count = weight->batch * weight->cols;
    if (parameter->rank < 2 || tensor->dtype != HT_F32 || tensor->bytes != count * sizeof(float))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: F32 [%zu, %zu] is needed", fold->checkpoint->path, tensor->name,
                       weight->batch, weight->cols);
    if ((uintptr_t)tensor->data % sizeof(float)) {
        float *copy = ht_arena_alloc(&fold->checkpoint->arena, tensor->bytes);
        if (!copy)
            return HT_ERR_MEMORY;
        memcpy(copy, tensor->data, tensor->bytes);
        parameter->weight.inputs.scale = copy;
    } else {
        parameter->weight.inputs.scale = tensor->data;
    }
    fold->folded[index] = 0;
    return ht_fold_take(fold, parameter, index);
}

/* --- Hadamard blocks ----------------------------------------------------------------------------------------- */

/* One entry of `apply` at the location input. */
typedef struct applied {
    const ht_fold *fold;
    const char *scheme;
    size_t block; /* 0: whole rows */
    ht_targets *targets, *ignore;
} applied;

/* The module as a class: what is no embedding. */
static int may_be_linear(const ht_parameter *parameter) {
    size_t length = strlen(parameter->name);
    return parameter->rank == 2 && length > 7 && strcmp(parameter->name + length - 7, ".weight") == 0 &&
           !strstr(parameter->name, "embed");
}

static ht_status set_block(const applied *a, ht_parameter *parameter) {
    size_t length = strlen(parameter->name);
    ht_weight *weight = &parameter->weight;
    if (parameter->rank != 2 && parameter->rank != 3)
        return HT_OK;
    size_t found = ht_targets_find(a->targets, parameter->name, length);
    if (found == SIZE_MAX || (found == 1 && !may_be_linear(parameter)))
        return HT_OK;
    if (ht_targets_find(a->ignore, parameter->name, length) != SIZE_MAX)
        return HT_OK;
    size_t block = a->block ? a->block : weight->cols;
    if (weight->inputs.block)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: transform %s: the inputs of %s are transformed twice", a->fold->label,
                       a->scheme, parameter->name);
    if (!ht_hadamard_exists(block) || weight->cols % block)
        return ht_fail(HT_ERR_CORRUPT, "%s: transform %s: blocks of %zu do not fit the %zu inputs of %s",
                       a->fold->label, a->scheme, block, weight->cols, parameter->name);
    weight->inputs.block = block;
    return HT_OK;
}

/* Targets in two lists: names and patterns, and the class, which is told apart from embeddings by name. */
static ht_status read_targets(const ht_fold *fold, json_t *list, int with_class, ht_targets **out) {
    json_t *names = json_array(), *class = json_array();
    ht_status status = names && class ? HT_OK : no_memory();
    for (size_t i = 0; i < json_array_size(list) && status == HT_OK; i++) {
        json_t *entry = json_array_get(list, i);
        const char *text = json_string_value(entry);
        int is_class = with_class && text && strcmp(text, "Linear") == 0;
        if (json_array_append(is_class ? class : names, entry) != 0)
            status = no_memory();
    }
    json_t *const groups[] = {names, class};
    if (status == HT_OK)
        status = ht_targets_create(fold->label, groups, 2, out); /* what it borrows is the config's, too */
    json_decref(names);
    json_decref(class);
    return status;
}

static ht_status apply_input(const ht_fold *fold, const char *scheme, const json_t *value, const json_t *entry) {
    const char *type = ht_json_string(value, "type");
    applied a = {.fold = fold, .scheme = scheme, .block = (size_t)ht_json_integer(value, "head_dim", 0)};
    if (!type || strcmp(type, "hadamard") != 0 || json_is_true(json_object_get(value, "randomize")))
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: transform %s: only type hadamard, not randomized, is read, this is %s",
                       fold->label, scheme, type ? type : "of no type");
    if (ht_json_integer(value, "head_dim", 0) < 0)
        return ht_fail(HT_ERR_CORRUPT, "%s: transform %s: head_dim is negative", fold->label, scheme);
    HT_TRY(read_targets(fold, json_object_get(entry, "targets"), 1, &a.targets));
    ht_status status = read_targets(fold, json_object_get(entry, "ignore"), 0, &a.ignore);
    for (size_t i = 0; i < fold->checkpoint->parameter_count && status == HT_OK; i++)
        status = set_block(&a, &fold->checkpoint->parameters[i]);
    ht_targets_destroy(a.ignore);
    ht_targets_destroy(a.targets);
    return status;
}

static ht_status apply_scheme(const ht_fold *fold, const char *scheme, const json_t *value) {
    size_t i;
    json_t *entry;
    json_array_foreach(json_object_get(value, "apply"), i, entry) {
        const char *location = ht_json_string(entry, "location");
        if (location && strncmp(location, "weight_", 7) == 0)
            continue;
        if (!location || strcmp(location, "input") != 0)
            return ht_fail(HT_ERR_UNSUPPORTED, "%s: transform %s: location \"%s\" is not read; input is", fold->label,
                           scheme, location ? location : "");
        HT_TRY(apply_input(fold, scheme, value, entry));
    }
    return HT_OK;
}

static ht_status apply_config(const ht_fold *fold, const json_t *config) {
    const char *scheme;
    json_t *value;
    if (config && !json_is_null(config) && !json_is_object(config))
        return ht_fail(HT_ERR_CORRUPT, "%s: transform_config is not an object", fold->label);
    json_object_foreach(json_object_get(config, "config_groups"), scheme, value)
        HT_TRY(apply_scheme(fold, scheme, value));
    return HT_OK;
}

static ht_status apply_metadata(ht_fold *fold) {
    const char *key, *text = NULL;
    for (size_t i = 0; (key = ht_checkpoint_metadata_key(fold->checkpoint, i)) && !text; i++)
        if (strcmp(key, HT_TRANSFORM_METADATA) == 0)
            text = ht_checkpoint_metadata_value(fold->checkpoint, i);
    if (!text)
        return HT_OK;
    json_t *config;
    HT_TRY(ht_json_parse(fold->checkpoint->path, "metadata " HT_TRANSFORM_METADATA, text, strlen(text), &config));
    ht_status status = apply_config(fold, config);
    json_decref(config);
    return status;
}

ht_status ht_fold_transforms(ht_fold *fold) {
    for (size_t i = 0; i < fold->checkpoint->tensor_count; i++) {
        size_t length = owner_length(&fold->checkpoint->tensors[i]);
        if (length)
            HT_TRY(take_scale(fold, i, length));
    }
    HT_TRY(apply_config(fold, json_object_get(fold->config, "transform_config")));
    return apply_metadata(fold);
}
