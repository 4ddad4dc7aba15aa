/* Layouts that models are published in, small enough to share a file.
 *
 *     fp8       m.weight e4m3 [N, K], m.weight_scale_inv f32 [ceil N/128, ceil K/128]; value = code * scale_inv (the
 * name says inverse, the use is multiply); inputs per token in groups of 128. Also m.weight_scale, one a matrix.
 *     gpt-oss   x_blocks u8 [E, N, K/32, 16], x_scales u8 [E, N, K/32] for fused experts x; nibbles low first, so the
 *               blocks of a row are the MXFP4 codes of that row
 *     modelopt  m.weight u8 [N, K/2], m.weight_scale e4m3 [N, K/16], m.weight_scale_2 f32 (multiplies)
 *
 * Source: formats specification, sections 8.2 to 8.4.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* strcmp */

#include <jansson.h>

#include "base/status.h"
#include "io/checkpoint_file.h"
#include "io/config_record.h"
#include "io/json.h"
#include "io/profiles.h"
#include "io/targets.h"

static int ends_with(const char *name, size_t length, const char *tail) {
    size_t n = strlen(tail);
    return length > n && memcmp(name + length - n, tail, n) == 0;
}

/* Start a quantized parameter in the named format. */
static ht_status begin(ht_fold *fold, const char *name, size_t length, const char *format, unsigned rank,
                       const size_t *shape, ht_parameter **out) {
    ht_parameter *parameter = *out = ht_fold_add(fold, name, length, rank, shape);
    if (!parameter)
        return HT_ERR_MEMORY;
    parameter->quantized = 1;
    parameter->input_rule = HT_SCALE_RCEIL;
    return ht_format_parse(format, &parameter->weight.format);
}

/* Check the shape against the format, then take codes and scales. */
static ht_status complete(ht_fold *fold, ht_parameter *parameter, size_t codes, size_t scales) {
    ht_weight *weight = &parameter->weight;
    if (ht_format_check_shape(&weight->format, weight->rows, weight->cols) != HT_OK)
        return ht_fail_prefix(HT_ERR_CORRUPT, "%s: parameter %s", fold->checkpoint->path, parameter->name);
    HT_TRY(ht_fold_plane(fold, parameter, HT_PLANE_CODES, codes));
    return ht_fold_plane(fold, parameter, HT_PLANE_SCALES, scales);
}

/* A static input scale, if there: belongs to the parameter, inputs are quantized dynamically all the same. */
static ht_status take_input_scale(ht_fold *fold, ht_parameter *parameter, const char *name, size_t length) {
    if (!ends_with(name, length, ".weight"))
        return HT_OK;
    size_t index = ht_fold_find(fold, name, length - 7, ".input_scale");
    return index == SIZE_MAX || fold->folded[index] ? HT_OK : ht_fold_take(fold, parameter, index);
}

/* quantization_config with these members, the record and the groups behind them. Takes the reference. */
static ht_status finish_config(json_t *root, const ht_profile_request *requests, size_t count, const char *record,
                               ht_text *out) {
    json_t *groups = json_object();
    if (count)
        json_object_set_new(groups, "group_0", ht_group_record(&requests[0]));
    ht_status status =
        root ? ht_add_record(root, record, groups) : ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    if (status == HT_OK)
        status = ht_dump_config(root, out);
    json_decref(groups);
    json_decref(root);
    return status;
}

/* --- fp8 --------------------------------------------------------------------------------------------------- */

ht_status ht_fp8_adapt(const ht_profile_request *request, ht_format *stored) {
    const ht_format *format = &request->weight;
    *stored = *format;
    if (format->family != HT_FAMILY_FLOAT8 || format->element != HT_F8_E4M3 || format->block_rows != 128 ||
        format->block_cols != 128 || format->scale != HT_F32 || request->rank != 2)
        return ht_fail(HT_ERR_UNSUPPORTED, "profile fp8 holds matrices in fp8_block with f32 scales only");
    if (!request->has_input || request->input.family != HT_FAMILY_FLOAT8 || request->input.block_cols != 128)
        return ht_fail(HT_ERR_UNSUPPORTED, "profile fp8 implies inputs in fp8 groups of 128: use scheme fp8-block");
    return HT_OK;
}

ht_status ht_fp8_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    HT_TRY(ht_layout_add_plane(layout, arena, request, "", HT_PLANE_CODES, HT_F8_E4M3));
    return ht_layout_add_plane(layout, arena, request, "_scale_inv", HT_PLANE_SCALES, HT_F32);
}

ht_status ht_fp8_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                        size_t ignored_count, const char *record, ht_text *out) {
    json_t *list = json_array(); /* this reader takes names, not patterns */
    for (size_t i = 0; i < ignored_count; i++)
        json_array_append_new(list, json_stringn(ignored[i], ht_module_length(ignored[i])));
    json_t *root =
        json_pack("{s:s, s:s, s:s, s:[i, i], s:o}", "quant_method", "fp8", "fmt", "e4m3", "activation_scheme",
                  "dynamic", "weight_block_size", 128, 128, "modules_to_not_convert", list);
    return finish_config(root, requests, count, record, out);
}

static ht_status read_fp8(ht_fold *fold, size_t scales, const char *name, size_t length) {
    const json_t *tile = json_object_get(fold->config, "weight_block_size");
    size_t codes = ht_fold_find(fold, name, length, "");
    if (codes == SIZE_MAX)
        return HT_OK;
    const ht_stored_tensor *tensor = &fold->checkpoint->tensors[codes], *scale = &fold->checkpoint->tensors[scales];
    if (tensor->dtype != HT_F8_E4M3 || tensor->rank < 2 || tensor->rank > 3)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s has scales but is no F8_E4M3 matrix", fold->checkpoint->path,
                       tensor->name);
    int tiled = json_array_size(tile) == 2;
    ht_parameter *parameter;
    HT_TRY(begin(fold, name, length, tiled ? "fp8_block" : "fp8_tensor", tensor->rank, tensor->shape, &parameter));
    ht_format *format = &parameter->weight.format;
    format->scale = scale->dtype;
    if (tiled) {
        json_int_t rows = json_integer_value(json_array_get(tile, 0)),
                   cols = json_integer_value(json_array_get(tile, 1));
        if (rows < 1 || cols < 1 || rows > 65536 || cols > 65536)
            return ht_fail(HT_ERR_CORRUPT, "%s: weight_block_size is not two sizes from 1 to 65536", fold->label);
        format->block_rows = (uint32_t)rows;
        format->block_cols = (uint32_t)cols;
    }
    if (scale->dtype != HT_F32 && scale->dtype != HT_BF16 && scale->dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s: scales of dtype %s", fold->checkpoint->path, scale->name,
                       ht_dtype_name(scale->dtype));
    parameter->has_input = 1;
    HT_TRY(ht_format_parse(tiled ? "fp8_g128" : "fp8_tensor", &parameter->input));
    if (tiled)
        parameter->input.block_cols = format->block_cols;
    HT_TRY(complete(fold, parameter, codes, scales));
    return take_input_scale(fold, parameter, name, length);
}

ht_status ht_fp8_read(ht_fold *fold) {
    for (size_t i = 0; i < fold->checkpoint->tensor_count; i++) {
        const char *name = fold->checkpoint->tensors[i].name;
        size_t length = strlen(name);
        if (ends_with(name, length, ".weight_scale_inv"))
            HT_TRY(read_fp8(fold, i, name, length - 10));
        else if (ends_with(name, length, ".weight_scale"))
            HT_TRY(read_fp8(fold, i, name, length - 6));
    }
    return HT_OK;
}

/* --- gpt-oss ------------------------------------------------------------------------------------------------- */

ht_status ht_gpt_oss_adapt(const ht_profile_request *request, ht_format *stored) {
    *stored = request->weight;
    if (request->rank != 3 || request->weight.family != HT_FAMILY_MX || request->weight.element != HT_F4_E2M1 ||
        request->has_input)
        return ht_fail(HT_ERR_UNSUPPORTED, "profile gpt-oss holds fused experts [E, N, K] in mxfp4, weights only");
    stored->packing = HT_PACK_LOW;
    return HT_OK;
}

ht_status ht_gpt_oss_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    HT_TRY(ht_layout_add_plane(layout, arena, request, "_blocks", HT_PLANE_CODES, HT_U8));
    size_t blocks[3] = {request->rows, request->cols / 32, 16};
    ht_component_shape(&layout->component[0], request->batch, 1, 3, blocks);
    return ht_layout_add_plane(layout, arena, request, "_scales", HT_PLANE_SCALES, HT_U8);
}

ht_status ht_gpt_oss_config(const ht_profile_request *requests, size_t count, const char *const *ignored,
                            size_t ignored_count, const char *record, ht_text *out) {
    (void)ignored; /* the reader's own list of patterns covers them */
    (void)ignored_count;
    json_t *root = json_pack("{s:s, s:[s, s, s, s]}", "quant_method", "mxfp4", "modules_to_not_convert",
                             "model.layers.*.self_attn", "model.layers.*.mlp.router", "model.embed_tokens", "lm_head");
    return finish_config(root, requests, count, record, out);
}

ht_status ht_gpt_oss_read(ht_fold *fold) {
    for (size_t i = 0; i < fold->checkpoint->tensor_count; i++) {
        const ht_stored_tensor *tensor = &fold->checkpoint->tensors[i];
        size_t length = strlen(tensor->name);
        if (!ends_with(tensor->name, length, "_blocks"))
            continue;
        size_t scales = ht_fold_find(fold, tensor->name, length - 7, "_scales");
        unsigned r = tensor->rank;
        if (scales == SIZE_MAX || tensor->dtype != HT_U8 || r < 3 || r > 4 || tensor->shape[r - 1] != 16)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: MXFP4 blocks are U8 [.., K/32, 16] beside _scales",
                           fold->checkpoint->path, tensor->name);
        size_t shape[4];
        memcpy(shape, tensor->shape, sizeof shape);
        if (__builtin_mul_overflow(shape[r - 2], 32, &shape[r - 2]))
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is too large", fold->checkpoint->path, tensor->name);
        ht_parameter *parameter;
        HT_TRY(begin(fold, tensor->name, length - 7, "mxfp4", r - 1, shape, &parameter));
        HT_TRY(complete(fold, parameter, i, scales));
    }
    return HT_OK;
}

/* --- modelopt ------------------------------------------------------------------------------------------------ */

ht_status ht_modelopt_read(ht_fold *fold) {
    const char *algorithm = ht_json_string(fold->config, "quant_algo");
    if (!algorithm || strcmp(algorithm, "NVFP4") != 0)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: modelopt: quant_algo \"%s\" is not read, NVFP4 is", fold->label,
                       algorithm ? algorithm : "");
    for (size_t i = 0; i < fold->checkpoint->tensor_count; i++) {
        const ht_stored_tensor *number = &fold->checkpoint->tensors[i];
        size_t length = strlen(number->name);
        if (!ends_with(number->name, length, ".weight_scale_2"))
            continue;
        length -= 8; /* ..weight */
        size_t codes = ht_fold_find(fold, number->name, length, "");
        size_t scales = ht_fold_find(fold, number->name, length, "_scale");
        const ht_stored_tensor *tensor = codes == SIZE_MAX ? NULL : &fold->checkpoint->tensors[codes];
        if (!tensor || scales == SIZE_MAX || tensor->dtype != HT_U8 || tensor->rank != 2 || number->dtype != HT_F32 ||
            tensor->shape[1] > SIZE_MAX / 2)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: beside it belong a U8 matrix and its scales",
                           fold->checkpoint->path, number->name);
        size_t shape[2] = {tensor->shape[0], tensor->shape[1] * 2};
        ht_parameter *parameter;
        HT_TRY(begin(fold, number->name, length, "nvfp4", 2, shape, &parameter));
        parameter->weight.format.global_rule = HT_GLOBAL_MULTIPLIES;
        parameter->has_input = 1;
        HT_TRY(ht_format_parse("nvfp4", &parameter->input));
        HT_TRY(complete(fold, parameter, codes, scales));
        HT_TRY(ht_fold_plane(fold, parameter, HT_PLANE_GLOBAL, i));
        HT_TRY(take_input_scale(fold, parameter, number->name, length));
    }
    return HT_OK;
}
