/* The quantization_config of compressed-tensors.
 *
 * Requests with the same formats, rule and method make one config group. One group targets "Linear" and the rest is
 * named in "ignore"; several groups name their modules, as patterns where possible (targets.c), because a class name
 * would win over the fused names that vLLM looks up. What compressed-tensors has no field for (scheme, scale rule,
 * method, recipe) goes under the key "halftone", which its reader skips.
 *
 * Source: formats specification, section 8.3; the argument models of compressed-tensors 0.20.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* calloc */
#include <string.h> /* strcmp */

#include <jansson.h>

#include "base/status.h"
#include "io/compressed_tensors.h"
#include "io/config_record.h"
#include "io/json.h"
#include "io/profiles.h"
#include "io/targets.h"

/* Arguments of a weight or input format. */
static json_t *arguments(const ht_format *format, int is_input, int is_static) {
    int integer = format->family == HT_FAMILY_INT;
    json_t *args = json_pack("{s:i, s:s, s:b}", "num_bits", (int)ht_dtype_bits(format->element), "type",
                             integer ? "int" : "float", "symmetric", format->zero == HT_DTYPE_NONE);
    const char *strategy = is_input ? "token" : "channel";
    if (format->family == HT_FAMILY_NVFP4)
        strategy = "tensor_group";
    else if (format->block_rows > 1)
        strategy = "block";
    else if (format->block_rows == 0)
        strategy = "tensor";
    else if (format->block_cols > 0)
        strategy = "group";
    json_object_set_new(args, "strategy", json_string(strategy));
    if (format->block_rows == 1 && format->block_cols > 0)
        json_object_set_new(args, "group_size", json_integer(format->block_cols));
    if (format->block_rows > 1)
        json_object_set_new(args, "block_structure",
                            json_pack("[i, i]", (int)format->block_rows, (int)format->block_cols));
    if (is_input && format->family == HT_FAMILY_NVFP4)
        json_object_set_new(args, "dynamic", json_string("local"));
    else
        json_object_set_new(args, "dynamic", json_boolean(is_input && !is_static));
    const char *scale = format->family == HT_FAMILY_MX      ? "torch.uint8"
                        : format->family == HT_FAMILY_NVFP4 ? "torch.float8_e4m3fn"
                                                            : NULL;
    if (scale) {
        json_object_set_new(args, "scale_dtype", json_string(scale));
        json_object_set_new(args, "zp_dtype", json_string(scale));
    }
    return args;
}

/* Targets of a group. Alone, it is "Linear", and what is not a module of that class by name. */
static json_t *targets_of(ht_target_builder *builder, const ht_profile_request *requests, size_t count, size_t groups,
                          size_t group) {
    if (groups > 1)
        return ht_target_builder_list(builder, group);
    json_t *list = json_pack("[s]", "Linear");
    ht_target_builder *fused = NULL;
    int failed = !list || ht_target_builder_create(&fused) != HT_OK;
    for (size_t i = 0; i < count && !failed; i++)
        if (requests[i].rank == 3)
            failed = ht_target_builder_add(fused, requests[i].name, 0) != HT_OK;
    json_t *more = failed ? NULL : ht_target_builder_list(fused, 0);
    failed |= !more || json_array_extend(list, more) != 0;
    json_decref(more);
    ht_target_builder_destroy(fused);
    if (!failed)
        return list;
    json_decref(list);
    return NULL;
}

typedef struct draft {
    json_t *root, *groups, *records;
    ht_target_builder *builder;
    size_t *group, *first; /* of each request; first request of each group */
} draft;

static ht_status add_groups(draft *d, const ht_profile_request *requests, size_t count, size_t groups) {
    const char *model_format = NULL;
    for (size_t g = 0; g < groups; g++) {
        const ht_profile_request *request = &requests[d->first[g]];
        if (!ht_compressed_row_for(&request->weight, request->has_input))
            return ht_fail(HT_ERR_FORMAT, "tensor %s: its format has no row in compressed-tensors", request->name);
        const char *format = ht_compressed_row_for(&request->weight, request->has_input)->name;
        char name[32];
        snprintf(name, sizeof name, "group_%zu", g);
        json_t *targets = targets_of(d->builder, requests, count, groups, g);
        json_t *group =
            json_pack("{s:o*, s:o, s:o*, s:n, s:s}", "targets", targets, "weights", arguments(&request->weight, 0, 0),
                      "input_activations",
                      request->has_input ? arguments(&request->input, 1, request->static_scale != NULL) : json_null(),
                      "output_activations", "format", format);
        json_object_set_new(d->groups, name, group);
        json_object_set_new(d->records, name, ht_group_record(request));
        if (!targets || !group)
            return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
        model_format = !model_format || strcmp(model_format, format) == 0 ? format : "mixed-precision";
    }
    json_object_set_new(d->root, "format", json_string(model_format ? model_format : "dense"));
    return HT_OK;
}

static int is_head(const char *name) {
    size_t length = ht_module_length(name);
    return length >= 7 && memcmp(name + length - 7, "lm_head", 7) == 0;
}

static int names_head(const ht_profile_request *requests, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is_head(requests[i].name))
            return 1;
    return 0;
}

static int names_ignored_head(const char *const *ignored, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (is_head(ignored[i]))
            return 1;
    return 0;
}

static ht_status build(draft *d, const ht_profile_request *requests, size_t count, const char *const *ignored,
                       size_t ignored_count, const char *record, ht_text *out) {
    size_t groups = ht_group_requests(requests, count, d->group, d->first);
    for (size_t i = 0; i < count; i++)
        HT_TRY(ht_target_builder_add(d->builder, requests[i].name, d->group[i]));
    for (size_t i = 0; i < ignored_count; i++)
        HT_TRY(ht_target_builder_add(d->builder, ignored[i], groups));
    if (!names_head(requests, count) && !names_ignored_head(ignored, ignored_count))
        HT_TRY(ht_target_builder_add(d->builder, "lm_head", groups)); /* tied: a Linear in the model, not in the file */
    json_object_set_new(d->root, "quant_method", json_string("compressed-tensors"));
    json_object_set_new(d->root, "format", json_null()); /* its place */
    json_object_set_new(d->root, "quantization_status", json_string("compressed"));
    json_object_set_new(d->root, "global_compression_ratio", json_null());
    json_object_set_new(d->root, "kv_cache_scheme", json_null());
    json_object_set(d->root, "config_groups", d->groups);
    HT_TRY(add_groups(d, requests, count, groups));
    json_t *ignore = ht_target_builder_list(d->builder, groups);
    if (!ignore || json_object_set_new(d->root, "ignore", ignore) != 0)
        return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    HT_TRY(ht_add_transforms(d->root, requests, count, ignored, ignored_count));
    HT_TRY(ht_add_record(d->root, record, d->records));
    return ht_dump_config(d->root, out);
}

ht_status ht_compressed_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                               size_t ignored_count, const char *record, ht_text *out) {
    draft d = {.root = json_object(),
               .groups = json_object(),
               .records = json_object(),
               .group = calloc(count + 1, sizeof *d.group),
               .first = calloc(count + 1, sizeof *d.first)};
    ht_status status = ht_target_builder_create(&d.builder);
    if (status == HT_OK && (!d.root || !d.groups || !d.records || !d.group || !d.first))
        status = ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    if (status == HT_OK)
        status = build(&d, requests, count, ignored, ignored_count, record, out);
    ht_target_builder_destroy(d.builder);
    json_decref(d.root);
    json_decref(d.groups);
    json_decref(d.records);
    free(d.group);
    free(d.first);
    return status;
}
