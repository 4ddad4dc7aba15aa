/* Profile plain: every format, one tensor for each plane, nothing clever.
 *
 *     <name>.codes  <name>.scales  <name>.zeros  <name>.scales2  <name>.global  <name>.shape (i64: logical shape)
 *     <name>.input_scale (f32 [1]): of static inputs, "input_static": true in the group
 *     <name>.act_pre_scale and transform_config: what is done to the inputs (transforms.h)
 *
 * dtypes and shapes are those of ht_format_plane_shape, behind the batch dimension if there is one; e8m0 scales are u8.
 * quantization_config: {"quant_method": "halftone", "groups": {"group_0": {"targets": [..], "weight": "nf4",
 * "input": "int8_row", ..}}} with format names that ht_format_parse reads. Only Halftone reads it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <float.h>  /* FLT_MAX */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* calloc */
#include <string.h> /* strcmp */

#include "base/status.h"
#include "io/checkpoint_file.h"
#include "io/config_record.h"
#include "io/json.h"
#include "io/profiles.h"
#include "io/targets.h"
#include "io/transforms.h"

static const char *const tails[HT_PLANE_COUNT] = {".codes", ".scales", ".zeros", ".scales2", ".global"};
#define STATIC_TAIL ".input_scale"

ht_status ht_plain_adapt(const ht_profile_request *request, ht_format *stored) {
    char name[96];
    size_t length = ht_format_name(&request->weight, name, sizeof name);
    if (length >= sizeof name || ht_format_parse(name, stored) != HT_OK || !ht_format_equal(stored, &request->weight))
        return ht_fail(HT_ERR_UNSUPPORTED, "format %s has no name that says everything about it", name);
    return HT_OK;
}

static ht_status add_input_scale(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    ht_component *component = ht_layout_add(layout, arena, request->name, strlen(request->name), HT_INPUT_SCALE_TAIL);
    if (!component)
        return HT_ERR_MEMORY;
    component->kind = HT_COMPONENT_DATA;
    component->tensor.dtype = HT_F32;
    component->data = request->inputs.scale;
    component->data_bytes = request->batch * request->cols * sizeof(float);
    ht_component_shape(component, request->batch, request->rank == 3, 1, &request->cols);
    return HT_OK;
}

static ht_status add_static_scale(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    static const size_t one = 1;
    ht_component *component = ht_layout_add(layout, arena, request->name, strlen(request->name), STATIC_TAIL);
    if (!component)
        return HT_ERR_MEMORY;
    component->kind = HT_COMPONENT_DATA;
    component->tensor.dtype = HT_F32;
    component->data = request->static_scale;
    component->data_bytes = sizeof *request->static_scale;
    ht_component_shape(component, 1, 0, 1, &one);
    return HT_OK;
}

ht_status ht_plain_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t shape[2];
        ht_dtype dtype = ht_format_plane_shape(&layout->format, (ht_plane)plane, layout->rows, layout->cols, shape);
        HT_TRY(ht_layout_add_plane(layout, arena, request, tails[plane], (ht_plane)plane,
                                   dtype == HT_E8M0 ? HT_U8 : dtype));
    }
    ht_component *component = ht_layout_add(layout, arena, request->name, strlen(request->name), ".shape");
    if (!component)
        return HT_ERR_MEMORY;
    int64_t shape[3] = {(int64_t)request->batch, (int64_t)request->rows, (int64_t)request->cols};
    size_t rank = request->rank == 3 ? 3 : 2;
    component->kind = HT_COMPONENT_CONSTANT;
    component->tensor.dtype = HT_I64;
    component->constant_bytes = rank * sizeof shape[0];
    memcpy(component->constant, &shape[3 - rank], component->constant_bytes);
    ht_component_shape(component, 1, 0, 1, &rank);
    HT_TRY(request->static_scale ? add_static_scale(request, arena, layout) : HT_OK);
    return request->has_input_scale ? add_input_scale(request, arena, layout) : HT_OK;
}

static ht_status build(json_t *root, ht_target_builder *builder, const ht_profile_request *requests, size_t count,
                       size_t *group, size_t *first, const char *const *ignored, size_t ignored_count,
                       const char *record, ht_text *out) {
    size_t groups = ht_group_requests(requests, count, group, first);
    for (size_t i = 0; i < count; i++)
        HT_TRY(ht_target_builder_add(builder, requests[i].name, group[i]));
    json_t *table = json_object();
    json_object_set_new(root, "quant_method", json_string("halftone"));
    json_object_set_new(root, "groups", table);
    for (size_t g = 0; g < groups; g++) {
        char name[32];
        snprintf(name, sizeof name, "group_%zu", g);
        json_t *entry = ht_group_record(&requests[first[g]]);
        json_t *targets = ht_target_builder_list(builder, g);
        if (!targets || json_object_set_new(entry, "targets", targets) != 0 ||
            json_object_set_new(table, name, entry) != 0)
            return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    }
    HT_TRY(ht_add_transforms(root, requests, count, ignored, ignored_count));
    json_t *none = json_object();
    ht_status status = ht_add_record(root, record, none);
    json_decref(none);
    return status == HT_OK ? ht_dump_config(root, out) : status;
}

ht_status ht_plain_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                          size_t ignored_count, const char *record, ht_text *out) {
    json_t *root = json_object();
    size_t *group = calloc(2 * (count + 1), sizeof *group);
    ht_target_builder *builder = NULL;
    ht_status status = ht_target_builder_create(&builder);
    if (status == HT_OK && (!root || !group))
        status = ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    if (status == HT_OK)
        status = build(root, builder, requests, count, group, group + count + 1, ignored, ignored_count, record, out);
    ht_target_builder_destroy(builder);
    json_decref(root);
    free(group);
    return status;
}

/* --- Reading --------------------------------------------------------------------------------------------- */

typedef struct reader {
    ht_fold *fold;
    json_t **groups;
    size_t count;
    ht_targets *targets;
} reader;

static ht_status read_shape(ht_fold *fold, const char *name, size_t length, size_t *index, unsigned *rank,
                            size_t shape[3]) {
    *index = ht_fold_find(fold, name, length, ".shape");
    const ht_stored_tensor *tensor = *index == SIZE_MAX ? NULL : &fold->checkpoint->tensors[*index];
    if (!tensor || tensor->dtype != HT_I64 || (tensor->bytes != 16 && tensor->bytes != 24))
        return ht_fail(HT_ERR_CORRUPT, "%s: parameter %.*s needs a .shape tensor of 2 or 3 I64", fold->checkpoint->path,
                       (int)length, name);
    *rank = (unsigned)(tensor->bytes / 8);
    for (unsigned i = 0; i < *rank; i++) {
        int64_t size;
        memcpy(&size, (const char *)tensor->data + 8 * i, 8);
        if (size < 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: dimension %u is %lld", fold->checkpoint->path, tensor->name,
                           i, (long long)size);
        shape[i] = (size_t)size;
    }
    return HT_OK;
}

static ht_status take_static_scale(ht_fold *fold, ht_parameter *parameter) {
    size_t index = ht_fold_find(fold, parameter->name, strlen(parameter->name), STATIC_TAIL);
    const ht_stored_tensor *tensor = index == SIZE_MAX ? NULL : &fold->checkpoint->tensors[index];
    float scale = 0;
    if (tensor && tensor->dtype == HT_F32 && tensor->bytes == sizeof scale)
        memcpy(&scale, tensor->data, sizeof scale); /* it may lie unaligned */
    if (!(scale > 0 && scale <= FLT_MAX))
        return ht_fail(HT_ERR_CORRUPT, "%s: parameter %s needs a " STATIC_TAIL " tensor of one F32 above zero",
                       fold->checkpoint->path, parameter->name);
    parameter->input_scale = scale;
    return ht_fold_take(fold, parameter, index);
}

static ht_status read_parameter(reader *r, const char *name, size_t length) {
    ht_fold *fold = r->fold;
    size_t group = ht_targets_find(r->targets, name, length), shape[3], shape_index;
    if (group == SIZE_MAX)
        return ht_fail(HT_ERR_CORRUPT, "%s: no group targets %.*s, which has codes", fold->label, (int)length, name);
    unsigned rank = 0;
    HT_TRY(read_shape(fold, name, length, &shape_index, &rank, shape));
    const char *weight = ht_json_string(r->groups[group], "weight"), *input = ht_json_string(r->groups[group], "input");
    ht_parameter *parameter = ht_fold_add(fold, name, length, rank, shape);
    if (!parameter)
        return HT_ERR_MEMORY;
    if (!weight || ht_format_parse(weight, &parameter->weight.format) != HT_OK ||
        (input && ht_format_parse(input, &parameter->input) != HT_OK))
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: group of %s: format \"%s\" or input \"%s\" is not known", fold->label,
                       parameter->name, weight ? weight : "", input ? input : "");
    parameter->quantized = 1;
    parameter->has_input = input != NULL;
    parameter->input_rule = ht_scale_rule_find(ht_json_string(r->groups[group], "input_rule"), HT_SCALE_RCEIL);
    if (ht_format_check_shape(&parameter->weight.format, parameter->weight.rows, parameter->weight.cols) != HT_OK)
        return ht_fail_prefix(HT_ERR_CORRUPT, "%s: parameter %s", fold->checkpoint->path, parameter->name);
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t planes[2], index = ht_fold_find(fold, name, length, tails[plane]);
        ht_dtype dtype = ht_format_plane_shape(&parameter->weight.format, (ht_plane)plane, parameter->weight.rows,
                                               parameter->weight.cols, planes);
        if (dtype == HT_DTYPE_NONE)
            continue;
        if (index == SIZE_MAX)
            return ht_fail(HT_ERR_CORRUPT, "%s: parameter %s has no %s tensor, its format %s needs one",
                           fold->checkpoint->path, parameter->name, tails[plane], weight);
        HT_TRY(ht_fold_plane(fold, parameter, (ht_plane)plane, index));
    }
    HT_TRY(ht_fold_take(fold, parameter, shape_index));
    return json_is_true(json_object_get(r->groups[group], "input_static")) ? take_static_scale(fold, parameter) : HT_OK;
}

static ht_status read_all(reader *r) {
    ht_checkpoint *checkpoint = r->fold->checkpoint;
    for (size_t i = 0; i < checkpoint->tensor_count; i++) {
        const char *name = checkpoint->tensors[i].name;
        size_t length = strlen(name), tail = strlen(tails[HT_PLANE_CODES]);
        if (length > tail && strcmp(name + length - tail, tails[HT_PLANE_CODES]) == 0)
            HT_TRY(read_parameter(r, name, length - tail));
    }
    return HT_OK;
}

ht_status ht_plain_read(ht_fold *fold) {
    json_t *groups = json_object_get(fold->config, "groups");
    if (!json_is_object(groups))
        return ht_fail(HT_ERR_CORRUPT, "%s: quantization_config: groups is missing or not an object", fold->label);
    reader r = {.fold = fold, .groups = calloc(2 * (json_object_size(groups) + 1), sizeof *r.groups)};
    if (!r.groups)
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left", fold->label);
    json_t **targets = r.groups + json_object_size(groups) + 1;
    const char *name;
    json_t *value;
    json_object_foreach(groups, name, value) {
        r.groups[r.count] = value;
        targets[r.count++] = json_object_get(value, "targets");
    }
    ht_status status = ht_targets_create(fold->label, targets, r.count, &r.targets);
    if (status == HT_OK)
        status = read_all(&r);
    ht_targets_destroy(r.targets);
    free(r.groups);
    return status;
}
