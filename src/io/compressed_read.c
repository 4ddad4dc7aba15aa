/* Reading the compressed-tensors layout (compressed_tensors.c draws it).
 *
 * A tensor X_scale beside X_packed or X says that parameter X is quantized; the config group of its module says how.
 * The group must agree with what is stored: every size is checked against the format. One static scale for all inputs
 * is used, of symmetric integers and 8-bit floats; other static scales, and symmetric zero points, are accepted and not
 * used: such inputs are quantized dynamically.
 *
 * Transforms are read apart (transforms.c). Refused: act-order (weight_g_idx other than in order), sparsity, formats
 * without a row.
 * Source: formats specification, section 8.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <float.h>  /* FLT_MAX */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* calloc */
#include <string.h> /* strcmp */

#include "base/context.h"
#include "base/status.h"
#include "io/checkpoint_file.h"
#include "io/config_record.h"
#include "io/fold.h"
#include "io/json.h"
#include "io/profiles.h"
#include "io/targets.h"

typedef struct config_group {
    const char *name;
    json_t *weights, *inputs; /* borrowed; NULL when absent */
    ht_scale_rule input_rule;
} config_group;

typedef struct reader {
    ht_fold *fold;
    config_group *groups;
    size_t count;
    ht_targets *targets;
    int warned; /* static input scales */
} reader;

/* One quantized parameter while its tensors are collected; indices are SIZE_MAX when absent. */
typedef struct found {
    const char *name; /* with this length: not terminated */
    size_t length;
    size_t codes, scales;
    int packed;
} found;

static int is(const json_t *object, const char *key, const char *value) {
    const char *text = ht_json_string(object, key);
    return text && strcmp(text, value) == 0;
}

/* --- From arguments to formats -------------------------------------------------------------------------- */

/* Name of the format that these arguments mean, without the dtypes of scales and packing. */
static int name_format(const json_t *args, ht_dtype scales, char *name, size_t size) {
    int bits = (int)ht_json_integer(args, "num_bits", 8), group = (int)ht_json_integer(args, "group_size", -1);
    int integer = !is(args, "type", "float"), symmetric = !json_is_false(json_object_get(args, "symmetric"));
    const json_t *tile = json_object_get(args, "block_structure");
    const char *strategy = ht_json_string(args, "strategy");
    if (!strategy)
        strategy = group > 0 ? "group" : group == -1 && json_object_get(args, "group_size") ? "channel" : "tensor";
    if (bits < 1 || bits > 8 || group > 100000)
        return 0;
    char extent[32] = "";
    if (strcmp(strategy, "group") == 0 || strcmp(strategy, "tensor_group") == 0)
        snprintf(extent, sizeof extent, "g%d", group);
    else if (strcmp(strategy, "channel") == 0 || strcmp(strategy, "token") == 0)
        snprintf(extent, sizeof extent, "row");
    else if (strcmp(strategy, "tensor") == 0)
        snprintf(extent, sizeof extent, "tensor");
    else if (strcmp(strategy, "block") == 0 && json_array_size(tile) == 2)
        snprintf(extent, sizeof extent, "block");
    if (!*extent)
        return 0;
    int exponents = scales == HT_U8 || scales == HT_E8M0;
    *name = '\0';
    if (integer)
        snprintf(name, size, "int%d_%s%s", bits, extent, symmetric ? "" : "_asym");
    else if (bits == 4)
        snprintf(name, size, "%s", group == 16 ? "nvfp4" : group == 32 ? "mxfp4" : "");
    else if (bits == 6)
        snprintf(name, size, "%s", group == 32 ? "mxfp6_e2m3" : "");
    else if (bits == 8 && group == 32 && exponents)
        snprintf(name, size, "mxfp8");
    else if (bits == 8)
        snprintf(name, size, "fp8_%s", extent);
    return *name != 0;
}

static int set_tile(const json_t *args, ht_format *format) {
    const json_t *tile = json_object_get(args, "block_structure");
    if (format->block_rows <= 1 || json_array_size(tile) != 2)
        return 1;
    json_int_t rows = json_integer_value(json_array_get(tile, 0)), cols = json_integer_value(json_array_get(tile, 1));
    format->block_rows = (uint32_t)rows;
    format->block_cols = (uint32_t)cols;
    return rows > 0 && cols > 0 && rows <= 65536 && cols <= 65536;
}

static ht_status weight_format(const reader *r, const config_group *group, const char *what, ht_dtype scales,
                               int packed, ht_format *out) {
    char name[64];
    if (!name_format(group->weights, scales, name, sizeof name) || ht_format_parse(name, out) != HT_OK ||
        !set_tile(group->weights, out))
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: %s: weights of %s are of no known format", r->fold->label, what,
                       group->name);
    if (out->family == HT_FAMILY_NVFP4)
        out->global_rule = HT_GLOBAL_DIVIDES;
    if (out->family == HT_FAMILY_INT)
        out->packing = packed ? HT_PACK_WORDS : HT_PACK_BYTES;
    if (out->family == HT_FAMILY_INT || out->family == HT_FAMILY_FLOAT8) {
        if (scales != HT_F32 && scales != HT_BF16 && scales != HT_F16)
            return ht_fail(HT_ERR_UNSUPPORTED, "%s: %s: scales of dtype %s", r->fold->label, what,
                           ht_dtype_name(scales));
        out->scale = scales;
    }
    return HT_OK;
}

static ht_status set_input(reader *r, const config_group *group, ht_parameter *parameter) {
    if (!group->inputs)
        return HT_OK;
    char name[64];
    int exponents = parameter->weight.format.family == HT_FAMILY_MX || is(group->inputs, "scale_dtype", "torch.uint8");
    if (!name_format(group->inputs, exponents ? HT_U8 : HT_F32, name, sizeof name) ||
        ht_format_parse(name, &parameter->input) != HT_OK)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: input_activations of %s are of no known format", r->fold->label,
                       group->name);
    parameter->has_input = 1;
    parameter->input_rule = group->input_rule;
    return HT_OK;
}

/* --- From tensors to parameters ------------------------------------------------------------------------- */

static const ht_stored_tensor *tensor_at(const reader *r, size_t index) {
    return &r->fold->checkpoint->tensors[index];
}

static size_t find(const reader *r, const found *f, const char *tail) {
    return ht_fold_find(r->fold, f->name, f->length, tail);
}

/* Columns of a packed row that no group size tells: from the _shape tensor. */
static ht_status columns_from_shape(const reader *r, const found *f, size_t words, unsigned bits, size_t *cols) {
    size_t most = words * 32 / bits, index = find(r, f, "_shape");
    *cols = most;
    if (index == SIZE_MAX)
        return HT_OK;
    const ht_stored_tensor *tensor = tensor_at(r, index);
    size_t width = ht_dtype_bits(tensor->dtype) / 8;
    if ((tensor->dtype != HT_I64 && tensor->dtype != HT_I32) || tensor->bytes < 2 * width)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is not a list of integers", r->fold->checkpoint->path,
                       tensor->name);
    int64_t value = 0;
    memcpy(&value, (const char *)tensor->data + tensor->bytes - width, width); /* little endian: the last dimension */
    if (value < 0 || (uint64_t)value > most || most - (size_t)value > 32 / bits)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s says %lld columns, the packed rows hold %zu",
                       r->fold->checkpoint->path, tensor->name, (long long)value, most);
    *cols = (size_t)value;
    return HT_OK;
}

/* Logical shape from the stored codes. */
static ht_status logical_shape(const reader *r, const found *f, const ht_format *format, size_t shape[3]) {
    const ht_stored_tensor *codes = tensor_at(r, f->codes), *scales = tensor_at(r, f->scales);
    for (unsigned i = 0; i < codes->rank; i++)
        shape[i] = codes->shape[i];
    size_t *cols = &shape[codes->rank - 1], stored = *cols;
    unsigned bits = ht_dtype_bits(format->element);
    size_t unit = 8 * ht_dtype_bits(codes->dtype) / 8; /* bits of one stored number */
    if (format->packing == HT_PACK_BYTES)
        return HT_OK;
    if (stored > SIZE_MAX / 32)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %zu columns", r->fold->checkpoint->path, codes->name, stored);
    if (format->packing != HT_PACK_WORDS) {
        *cols = stored * unit / bits;
        return HT_OK;
    }
    if (format->block_cols == 0 || scales->rank == 0)
        return columns_from_shape(r, f, stored, bits, cols);
    *cols = scales->shape[scales->rank - 1] * format->block_cols;
    return HT_OK;
}

/* Zero points packed down the rows, unpacked to one byte each. */
static ht_status unpack_zeros(reader *r, ht_parameter *parameter, size_t index) {
    const ht_stored_tensor *tensor = tensor_at(r, index);
    ht_weight *weight = &parameter->weight;
    unsigned bits = ht_dtype_bits(weight->format.element);
    size_t shape[2];
    ht_format_plane_shape(&weight->format, HT_PLANE_ZEROS, weight->rows, weight->cols, shape);
    size_t words = (shape[0] * bits + 31) / 32, all;
    if (shape[0] > SIZE_MAX / 64 || __builtin_mul_overflow(words * 4, shape[1], &all) ||
        __builtin_mul_overflow(all, weight->batch, &all) || all != tensor->bytes)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s holds %zu bytes, %zu x [%zu, %zu] words are needed",
                       r->fold->checkpoint->path, tensor->name, tensor->bytes, weight->batch, words, shape[1]);
    size_t matrix = shape[0] * shape[1];
    int8_t *out = ht_arena_alloc(&r->fold->checkpoint->arena, matrix * weight->batch);
    if (!out)
        return HT_ERR_MEMORY;
    for (size_t b = 0; b < weight->batch; b++)
        for (size_t row = 0; row < shape[0]; row++)
            for (size_t c = 0; c < shape[1]; c++) {
                const char *at = (const char *)tensor->data + ((b * words + row * bits / 32) * shape[1] + c) * 4;
                uint32_t low, high = 0;
                memcpy(&low, at, 4);
                if (row * bits % 32 + bits > 32)
                    memcpy(&high, at + shape[1] * 4, 4);
                uint64_t both = (uint64_t)high << 32 | low;
                out[b * matrix + row * shape[1] + c] =
                    (int8_t)((int)(both >> (row * bits % 32) & ((1u << bits) - 1)) - (1 << (bits - 1)));
            }
    weight->plane[HT_PLANE_ZEROS] = out;
    weight->stride[HT_PLANE_ZEROS] = matrix;
    return ht_fold_take(r->fold, parameter, index);
}

/* weight_g_idx: group of every column. Only the plain order is read. */
static ht_status check_order(reader *r, ht_parameter *parameter, size_t index) {
    const ht_stored_tensor *tensor = tensor_at(r, index);
    size_t group = parameter->weight.format.block_cols ? parameter->weight.format.block_cols : parameter->weight.cols;
    for (size_t i = 0; tensor->dtype == HT_I32 && i < tensor->bytes / 4; i++) {
        int32_t value;
        memcpy(&value, (const char *)tensor->data + 4 * i, 4);
        if (value != -1 && (size_t)value != i / group)
            return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s: columns are reordered (activation order)",
                           r->fold->checkpoint->path, tensor->name);
    }
    return ht_fold_take(r->fold, parameter, index);
}

static ht_status take_if(reader *r, ht_parameter *parameter, size_t index) {
    return index == SIZE_MAX || r->fold->folded[index] ? HT_OK : ht_fold_take(r->fold, parameter, index);
}

/* The one number of a tensor; 0: it is none, or not a scale. */
static float one_scale(const ht_stored_tensor *tensor) {
    float value = 0, number[1];
    int one = tensor->dtype == HT_F32 || tensor->dtype == HT_BF16 || tensor->dtype == HT_F16;
    if (!one || tensor->bytes != ht_dtype_bits(tensor->dtype) / 8)
        return 0;
    memcpy(number, tensor->data, tensor->bytes); /* it may lie unaligned */
    if (ht_convert(number, tensor->dtype, &value, HT_F32, 1) != HT_OK)
        return 0;
    return value > 0 && value <= FLT_MAX ? value : 0;
}

/* Inputs that the config says are quantized by a scale known beforehand. */
static void set_input_scale(reader *r, const config_group *group, const found *module, int plain,
                            ht_parameter *parameter) {
    if (!group->inputs || !json_is_false(json_object_get(group->inputs, "dynamic")))
        return;
    const ht_format *input = &parameter->input;
    size_t index = find(r, module, plain ? ".input_scale" : "_input_scale");
    int fits = (input->family == HT_FAMILY_INT || input->family == HT_FAMILY_FLOAT8) && input->block_rows == 0 &&
               input->zero == HT_DTYPE_NONE;
    parameter->input_scale = fits && index != SIZE_MAX ? one_scale(tensor_at(r, index)) : 0;
    if (parameter->input_scale > 0 || r->warned)
        return;
    r->warned = 1;
    ht_log(r->fold->checkpoint->ctx, HT_LOG_WARN,
           "%s: %s has static input scales that are not one number; inputs are quantized dynamically", r->fold->label,
           group->name);
}

/* Zero points, global scale, order, input scales. */
static ht_status take_others(reader *r, const config_group *group, const found *f, ht_parameter *parameter) {
    ht_format *format = &parameter->weight.format;
    size_t zeros = find(r, f, "_zero_point"), global = find(r, f, "_global_scale"), order = find(r, f, "_g_idx");
    if (format->zero == HT_DTYPE_NONE)
        HT_TRY(take_if(r, parameter, zeros));
    else if (zeros == SIZE_MAX)
        return ht_fail(HT_ERR_CORRUPT, "%s: parameter %s is asymmetric and has no _zero_point tensor",
                       r->fold->checkpoint->path, parameter->name);
    else if (f->packed && tensor_at(r, zeros)->dtype == HT_I32)
        HT_TRY(unpack_zeros(r, parameter, zeros));
    else if (tensor_at(r, zeros)->dtype == HT_I8)
        HT_TRY(ht_fold_plane(r->fold, parameter, HT_PLANE_ZEROS, zeros));
    else
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s: zero points of dtype %s", r->fold->checkpoint->path,
                       tensor_at(r, zeros)->name, ht_dtype_name(tensor_at(r, zeros)->dtype));
    if (format->global != HT_DTYPE_NONE) {
        if (global == SIZE_MAX || tensor_at(r, global)->dtype != HT_F32)
            return ht_fail(HT_ERR_CORRUPT, "%s: parameter %s needs a _global_scale tensor of dtype F32",
                           r->fold->checkpoint->path, parameter->name);
        HT_TRY(ht_fold_plane(r->fold, parameter, HT_PLANE_GLOBAL, global));
    }
    if (order != SIZE_MAX)
        HT_TRY(check_order(r, parameter, order));
    HT_TRY(take_if(r, parameter, find(r, f, "_shape")));
    found module = *f;
    int plain = f->length > 7 && memcmp(f->name + f->length - 7, ".weight", 7) == 0;
    module.length = plain ? f->length - 7 : f->length;
    set_input_scale(r, group, &module, plain, parameter);
    static const char *const inputs[2][3] = {{"_input_global_scale", "_input_scale", "_input_zero_point"},
                                             {".input_global_scale", ".input_scale", ".input_zero_point"}};
    for (size_t i = 0; i < 3; i++)
        HT_TRY(take_if(r, parameter, find(r, &module, inputs[plain][i])));
    return HT_OK;
}

static int codes_dtype_fits(ht_dtype stored, const ht_format *format) {
    size_t shape[2];
    return stored == ht_format_plane_shape(format, HT_PLANE_CODES, 1, 32, shape);
}

static ht_status read_parameter(reader *r, const found *f) {
    const ht_stored_tensor *codes = tensor_at(r, f->codes);
    size_t index = ht_targets_find(r->targets, f->name, f->length);
    if (index == SIZE_MAX)
        return ht_fail(HT_ERR_CORRUPT, "%s: no config group targets %.*s, which has scales", r->fold->label,
                       (int)f->length, f->name);
    const config_group *group = &r->groups[index];
    if (!group->weights || codes->rank < 2 || codes->rank > 3)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s has scales, but %s", r->fold->label, codes->name,
                       group->weights ? "is neither a matrix nor a batch of them" : "its config group has no weights");
    ht_format format;
    size_t shape[3];
    HT_TRY(weight_format(r, group, codes->name, tensor_at(r, f->scales)->dtype, f->packed, &format));
    if (!codes_dtype_fits(codes->dtype, &format))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: dtype %s does not fit %s", r->fold->label, codes->name,
                       ht_dtype_name(codes->dtype), group->name);
    HT_TRY(logical_shape(r, f, &format, shape));
    ht_parameter *parameter = ht_fold_add(r->fold, f->name, f->length, codes->rank, shape);
    if (!parameter)
        return HT_ERR_MEMORY;
    parameter->quantized = 1;
    parameter->weight.format = format;
    ht_status fits = ht_format_check_shape(&format, parameter->weight.rows, parameter->weight.cols);
    if (fits != HT_OK)
        return ht_fail_prefix(HT_ERR_CORRUPT, "%s: tensor %s", r->fold->checkpoint->path, codes->name);
    HT_TRY(ht_fold_plane(r->fold, parameter, HT_PLANE_CODES, f->codes));
    HT_TRY(ht_fold_plane(r->fold, parameter, HT_PLANE_SCALES, f->scales));
    HT_TRY(set_input(r, group, parameter));
    return take_others(r, group, f, parameter);
}

static ht_status read_all(reader *r) {
    static const char tail[] = "_scale";
    ht_checkpoint *checkpoint = r->fold->checkpoint;
    for (size_t i = 0; i < checkpoint->tensor_count; i++) {
        const char *name = checkpoint->tensors[i].name;
        size_t length = strlen(name);
        if (length <= sizeof tail - 1 || strcmp(name + length - (sizeof tail - 1), tail) != 0)
            continue;
        found f = {.name = name, .length = length - (sizeof tail - 1), .scales = i};
        f.codes = find(r, &f, "_packed");
        f.packed = f.codes != SIZE_MAX;
        if (!f.packed)
            f.codes = find(r, &f, "");
        if (f.codes != SIZE_MAX)
            HT_TRY(read_parameter(r, &f));
    }
    for (size_t i = 0; i < checkpoint->tensor_count; i++) {
        const char *name = checkpoint->tensors[i].name;
        size_t length = strlen(name);
        if (!r->fold->folded[i] && length > 14 && strcmp(name + length - 14, ".weight_packed") == 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s has no weight_scale beside it", checkpoint->path, name);
    }
    return HT_OK;
}

/* --- The config ------------------------------------------------------------------------------------------ */

static json_t *object_or_null(const json_t *object, const char *key) {
    json_t *value = json_object_get(object, key);
    return json_is_object(value) ? value : NULL;
}

static ht_status read_groups(reader *r) {
    const json_t *config = r->fold->config;
    json_t *groups = json_object_get(config, "config_groups");
    if (!json_is_object(groups))
        return ht_fail(HT_ERR_CORRUPT, "%s: quantization_config: config_groups is missing or not an object",
                       r->fold->label);
    const char *sparsity = ht_json_string(json_object_get(config, "sparsity_config"), "format");
    if (sparsity && strcmp(sparsity, "dense") != 0)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: quantization_config: sparsity format \"%s\" is not read",
                       r->fold->label, sparsity);
    size_t count = json_object_size(groups);
    r->groups = calloc(count + 1, sizeof *r->groups);
    json_t **targets = calloc(count + 1, sizeof *targets);
    ht_status status = r->groups && targets ? HT_OK : ht_fail(HT_ERR_MEMORY, "%s: no memory left", r->fold->label);
    const json_t *records = json_object_get(json_object_get(config, "halftone"), "groups");
    const char *name;
    json_t *value;
    if (status == HT_OK)
        json_object_foreach(groups, name, value) {
            const char *rule = ht_json_string(json_object_get(records, name), "input_rule");
            targets[r->count] = json_object_get(value, "targets");
            r->groups[r->count++] = (config_group){.name = name,
                                                   .weights = object_or_null(value, "weights"),
                                                   .inputs = object_or_null(value, "input_activations"),
                                                   .input_rule = ht_scale_rule_find(rule, HT_SCALE_RCEIL)};
        }
    if (status == HT_OK)
        status = ht_targets_create(r->fold->label, targets, r->count, &r->targets);
    free(targets);
    return status;
}

ht_status ht_compressed_read(ht_fold *fold) {
    reader r = {.fold = fold};
    ht_status status = read_groups(&r);
    if (status == HT_OK)
        status = read_all(&r);
    ht_targets_destroy(r.targets);
    free(r.groups);
    return status;
}
