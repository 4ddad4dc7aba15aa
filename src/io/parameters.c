/* From stored tensors to parameters. A tensor that no quantization scheme claims is a parameter of its own; the others
 * are folded by the profile whose quant_method the config names (profiles.c).
 *
 * Planes point into the mapped file. A file may place a tensor at any byte, kernels want natural alignment: a plane
 * that lies unaligned is copied once, here. That, and zero points packed down the rows (pack-quantized), are the only
 * data that opening reads.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h> /* uintptr_t, SIZE_MAX */
#include <stdlib.h> /* qsort */
#include <string.h> /* strcmp, strlen */

#include "base/context.h"
#include "base/status.h"
#include "io/checkpoint_file.h"
#include "io/fold.h"
#include "io/json.h"
#include "io/profiles.h"
#include "io/transforms.h"

/* Fused experts that a model family stores as [experts, inputs, outputs]. Everything else is [.., outputs, inputs]. */
static const struct {
    const char *model_type, *tail;
} transposed[] = {
    {"gpt_oss", ".experts.gate_up_proj"},     {"gpt_oss", ".experts.down_proj"},
    {"llama4", ".experts.gate_up_proj"},      {"llama4", ".experts.down_proj"},
    {"llama4_text", ".experts.gate_up_proj"}, {"llama4_text", ".experts.down_proj"},
};

static int is_transposed(const ht_fold *fold, const ht_stored_tensor *tensor) {
    const char *type = ht_json_string(fold->model, "model_type");
    size_t length = strlen(tensor->name);
    for (size_t i = 0; type && tensor->rank == 3 && i < sizeof transposed / sizeof transposed[0]; i++) {
        size_t tail = strlen(transposed[i].tail);
        if (strcmp(type, transposed[i].model_type) == 0 && length > tail &&
            strcmp(tensor->name + length - tail, transposed[i].tail) == 0)
            return 1;
    }
    return 0;
}

ht_parameter *ht_fold_add(ht_fold *fold, const char *name, size_t length, unsigned rank, const size_t *shape) {
    ht_checkpoint *checkpoint = fold->checkpoint;
    ht_parameter *parameter = &checkpoint->parameters[checkpoint->parameter_count];
    *parameter = (ht_parameter){.name = ht_arena_string(&checkpoint->arena, name, length), .rank = rank};
    if (!parameter->name)
        return NULL;
    for (unsigned i = 0; i < rank; i++)
        parameter->shape[i] = shape[i];
    ht_weight *weight = &parameter->weight;
    weight->batch = rank == 3 ? shape[0] : 1;
    weight->rows = rank < 2 ? 1 : shape[rank == 3];
    weight->cols = rank == 0 ? 1 : shape[rank == 3 ? 2 : rank > 1];
    for (unsigned i = 2; i < rank && rank > 3; i++)
        weight->cols *= shape[i]; /* their product fits: the bytes were counted */
    checkpoint->parameter_count++;
    return parameter;
}

ht_status ht_fold_take(ht_fold *fold, ht_parameter *parameter, size_t index) {
    const ht_stored_tensor *tensor = &fold->checkpoint->tensors[index];
    if (fold->folded[index])
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s belongs to two parameters, %s is one", fold->checkpoint->path,
                       tensor->name, parameter->name);
    fold->folded[index] = 1;
    if (parameter->stored_count == sizeof parameter->stored / sizeof parameter->stored[0])
        return ht_fail(HT_ERR_CORRUPT, "%s: parameter %s has more than %zu stored tensors, %s is one too many",
                       fold->checkpoint->path, parameter->name, parameter->stored_count, tensor->name);
    parameter->stored[parameter->stored_count++] = index;
    return HT_OK;
}

/* The bytes of a stored tensor, aligned for its dtype. */
static ht_status aligned_data(ht_fold *fold, const ht_stored_tensor *tensor, const void **out) {
    size_t align = ht_dtype_bits(tensor->dtype) / 8;
    *out = tensor->data;
    if (align < 2 || (uintptr_t)tensor->data % align == 0 || tensor->bytes == 0)
        return HT_OK;
    void *copy = ht_arena_alloc(&fold->checkpoint->arena, tensor->bytes);
    if (!copy)
        return ht_fail_prefix(HT_ERR_MEMORY, "%s: tensor %s lies unaligned at byte %llu and must be copied",
                              tensor->file, tensor->name, (unsigned long long)tensor->offset);
    memcpy(copy, tensor->data, tensor->bytes);
    *out = copy;
    return HT_OK;
}

ht_status ht_fold_plane(ht_fold *fold, ht_parameter *parameter, ht_plane plane, size_t index) {
    const ht_stored_tensor *tensor = &fold->checkpoint->tensors[index];
    ht_weight *weight = &parameter->weight;
    size_t bytes = ht_format_plane_bytes(&weight->format, plane, weight->rows, weight->cols), all;
    if (__builtin_mul_overflow(bytes, weight->batch, &all) || all != tensor->bytes)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s holds %zu bytes, %zu x [%zu, %zu] of its format needs %zu x %zu",
                       fold->checkpoint->path, tensor->name, tensor->bytes, weight->batch, weight->rows, weight->cols,
                       weight->batch, bytes);
    weight->stride[plane] = bytes;
    HT_TRY(aligned_data(fold, tensor, &weight->plane[plane]));
    return ht_fold_take(fold, parameter, index);
}

size_t ht_fold_find(const ht_fold *fold, const char *head, size_t length, const char *tail) {
    size_t low = 0, high = fold->checkpoint->tensor_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *name = fold->checkpoint->tensors[middle].name;
        int order = strncmp(name, head, length);
        if (order == 0)
            order = strcmp(name + length, tail);
        if (order == 0)
            return middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return SIZE_MAX;
}

/* A tensor that stands for itself. */
static ht_status add_unquantized(ht_fold *fold, size_t index) {
    const ht_stored_tensor *tensor = &fold->checkpoint->tensors[index];
    ht_parameter *parameter = ht_fold_add(fold, tensor->name, strlen(tensor->name), tensor->rank, tensor->shape);
    if (!parameter)
        return HT_ERR_MEMORY;
    ht_weight *weight = &parameter->weight;
    weight->format = tensor->format;
    parameter->quantized = tensor->format.family != HT_FAMILY_PLAIN;
    if (is_transposed(fold, tensor)) {
        weight->transposed = 1;
        weight->rows = tensor->shape[2];
        weight->cols = tensor->shape[1];
    }
    weight->stride[HT_PLANE_CODES] = weight->batch ? tensor->bytes / weight->batch : 0;
    HT_TRY(aligned_data(fold, tensor, &weight->plane[HT_PLANE_CODES]));
    return ht_fold_take(fold, parameter, index);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const ht_parameter *)a)->name, ((const ht_parameter *)b)->name);
}

static ht_status fold_all(ht_fold *fold) {
    ht_checkpoint *checkpoint = fold->checkpoint;
    ht_fold_claim_scales(fold);
    if (fold->config)
        HT_TRY(ht_profile_read(fold));
    for (size_t i = 0; i < checkpoint->tensor_count; i++)
        if (!fold->folded[i])
            HT_TRY(add_unquantized(fold, i));
    if (checkpoint->parameter_count)
        qsort(checkpoint->parameters, checkpoint->parameter_count, sizeof *checkpoint->parameters, by_name);
    for (size_t i = 1; i < checkpoint->parameter_count; i++)
        if (strcmp(checkpoint->parameters[i - 1].name, checkpoint->parameters[i].name) == 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: parameter %s is stored both quantized and as it is", checkpoint->path,
                           checkpoint->parameters[i].name);
    return ht_fold_transforms(fold);
}

ht_status ht_fold_parameters(ht_checkpoint *checkpoint) {
    ht_fold fold = {.checkpoint = checkpoint};
    size_t count = checkpoint->tensor_count;
    checkpoint->parameters = ht_arena_alloc(&checkpoint->arena, count * sizeof *checkpoint->parameters);
    fold.folded = ht_arena_alloc(&checkpoint->arena, count + 1);
    fold.label = ht_arena_printf(&checkpoint->arena, "%s/config.json", checkpoint->path);
    if (!checkpoint->parameters || !fold.folded || !fold.label)
        return HT_ERR_MEMORY;
    json_t *model = NULL;
    if (checkpoint->config)
        HT_TRY(ht_json_parse(fold.label, "config", checkpoint->config, strlen(checkpoint->config), &model));
    fold.model = model;
    fold.config = json_object_get(model, "quantization_config");
    if (json_is_null(fold.config))
        fold.config = NULL;
    ht_status status = fold_all(&fold);
    json_decref(model);
    return status;
}
