/* Does the config say what the tensors are?
 *
 * The quantization_config of compressed-tensors is read anew, by what its documentation says and not by our reader:
 * every quantized weight must be meant by a group whose arguments are those of its tensors; every other linear must be
 * meant by none, or be in the ignore list; every group and every ignored name must mean something that is there.
 * Targets are a class name (Linear), exact module names, or re: with a pattern that must match from the start; exact
 * names win, then patterns, then the class. Source: formats specification, section 8.3.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdint.h> /* SIZE_MAX */
#include <string.h> /* strcmp, strncmp */

#include "base/status.h"
#include "io/json.h"
#include "io/targets.h"
#include "quant/verify/verify.h"

enum { EXACT = 1, PATTERN, CLASS, STRENGTHS }; /* how a target means a module: smaller wins */

static ht_status pattern_fits(const char *pattern, const char *name, size_t length, int *fits) {
    int error;
    PCRE2_SIZE where;
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_UTF, &error, &where, NULL);
    pcre2_match_data *data = code ? pcre2_match_data_create(1, NULL) : NULL;
    int got = data ? pcre2_match(code, (PCRE2_SPTR)name, length, 0, 0, data, NULL) : 0;
    pcre2_match_data_free(data);
    pcre2_code_free(code);
    *fits = got >= 0;
    return data ? HT_OK : ht_fail(HT_ERR_CORRUPT, "the target \"re:%.200s\" is no pattern", pattern);
}

/* The strongest way in which a list of targets means the module; 0 = not at all. */
static ht_status meant_by(const json_t *list, const char *module, size_t length, int is_linear, int *out) {
    *out = STRENGTHS;
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry) {
        const char *target = json_string_value(entry);
        int strength = STRENGTHS, fits = 0;
        if (!target)
            return ht_fail(HT_ERR_CORRUPT, "a target is not a string");
        if (strncmp(target, "re:", 3) == 0) {
            HT_TRY(pattern_fits(target + 3, module, length, &fits));
            strength = fits ? PATTERN : STRENGTHS;
        } else if (strlen(target) == length && memcmp(target, module, length) == 0) {
            strength = EXACT;
        } else if (is_linear && strcmp(target, "Linear") == 0) {
            strength = CLASS;
        }
        *out = strength < *out ? strength : *out;
    }
    *out = *out == STRENGTHS ? 0 : *out;
    return HT_OK;
}

ht_status ht_verify_group(const ht_verify_run *v, const char *name, int is_linear, const char **group, json_t **value,
                          int *ignored) {
    *group = NULL;
    *value = NULL;
    size_t length = ht_module_length(name);
    int strength = 0, best = STRENGTHS;
    HT_TRY(meant_by(json_object_get(v->quant, "ignore"), name, length, is_linear, &strength));
    *ignored = strength != 0;
    const char *key;
    json_t *each, *groups = json_object_get(v->quant, "config_groups");
    if (!groups)
        groups = json_object_get(v->quant, "groups"); /* of the profile plain */
    json_object_foreach(groups, key, each) {
        HT_TRY(meant_by(json_object_get(each, "targets"), name, length, is_linear, &strength));
        if (!strength || strength >= best)
            continue;
        best = strength;
        *group = key;
        *value = each;
    }
    return HT_OK;
}

/* --- Arguments -------------------------------------------------------------------------------------------- */

static const char *strategy_of(const ht_format *format) {
    if (format->family == HT_FAMILY_NVFP4)
        return "tensor_group";
    if (format->block_rows == 0)
        return "tensor";
    if (format->block_rows > 1)
        return "block";
    return format->block_cols ? "group" : "channel";
}

static void check_arguments(ht_finding *finding, const char *name, const char *group, const json_t *arguments,
                            const ht_format *format) {
    int bits = (int)ht_json_integer(arguments, "num_bits", -1), want = (int)ht_dtype_bits(format->element);
    const char *type = ht_json_string(arguments, "type"), *strategy = ht_json_string(arguments, "strategy");
    const char *want_type = format->family == HT_FAMILY_INT ? "int" : "float";
    int size = (int)ht_json_integer(arguments, "group_size", 0);
    const json_t *symmetric = json_object_get(arguments, "symmetric");
    if (bits != want)
        ht_find(finding, "%s has %d bits, its group %s says num_bits %d", name, want, group, bits);
    else if (!type || strcmp(type, want_type) != 0)
        ht_find(finding, "%s holds %s codes, its group %s says type %s", name, want_type, group, type ? type : "none");
    else if (!strategy || strcmp(strategy, strategy_of(format)) != 0)
        ht_find(finding, "%s has scales by %s, its group %s says strategy %s", name, strategy_of(format), group,
                strategy ? strategy : "none");
    else if (format->block_rows == 1 && format->block_cols && size != (int)format->block_cols)
        ht_find(finding, "%s has groups of %u, its group %s says group_size %d", name, format->block_cols, group, size);
    else if (symmetric && json_is_true(symmetric) != (format->zero == HT_DTYPE_NONE))
        ht_find(finding, "%s and its group %s disagree on zero points", name, group);
}

static void check_parameter(ht_finding *finding, const ht_parameter *parameter, const char *group, const json_t *value,
                            int ignored) {
    const char *name = parameter->name;
    if (parameter->quantized && !group)
        ht_find(finding, "%s is quantized, but no config group means it", name);
    else if (parameter->quantized && ignored)
        ht_find(finding, "%s is quantized, but in the ignore list", name);
    else if (!parameter->quantized && group && !ignored)
        ht_find(finding, "%s is not quantized, but config group %s means it and it is not ignored", name, group);
    else if (parameter->quantized)
        check_arguments(finding, name, group, json_object_get(value, "weights"), &parameter->weight.format);
    const json_t *input = json_object_get(value, "input_activations");
    int is_static = json_is_false(json_object_get(input, "dynamic"));
    if (parameter->quantized && parameter->has_input && is_static != (parameter->input_scale > 0))
        ht_find(finding, "%s has %s scale for all its inputs, its config group %s says that they are %s", name,
                is_static ? "no" : "a", group, is_static ? "static" : "dynamic");
    if (parameter->quantized && group && json_is_object(input) != (parameter->has_input != 0))
        ht_find(finding, "%s and its config group %s disagree on quantized inputs", name, group);
}

/* --- Names that mean nothing ------------------------------------------------------------------------------ */

/* Does the target mean any module of the checkpoint? Class names are taken as used. */
static ht_status check_target(const ht_verify_run *v, ht_finding *finding, const char *where, const json_t *entry) {
    const char *target = json_string_value(entry);
    if (!target || (strncmp(target, "re:", 3) != 0 && !strchr(target, '.'))) /* a class, or a module at the top */
        return HT_OK;
    json_t *alone = json_pack("[O]", entry);
    int strength = 0;
    ht_status status = alone ? HT_OK : ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint) && !strength && status == HT_OK; i++) {
        const char *name = ht_checkpoint_parameter(v->checkpoint, i)->name;
        status = meant_by(alone, name, ht_module_length(name), 0, &strength);
    }
    json_decref(alone);
    HT_TRY(status);
    if (!strength)
        ht_find(finding, "%s names \"%s\", which is nothing in this checkpoint", where, target);
    return HT_OK;
}

static ht_status check_targets(const ht_verify_run *v, ht_finding *finding) {
    size_t i;
    const json_t *entry;
    json_array_foreach(json_object_get(v->quant, "ignore"), i, entry) HT_TRY(check_target(v, finding, "ignore", entry));
    const char *key;
    json_t *group, *groups = json_object_get(v->quant, "config_groups");
    json_object_foreach(groups, key, group) {
        json_array_foreach(json_object_get(group, "targets"), i, entry) HT_TRY(check_target(v, finding, key, entry));
    }
    return HT_OK;
}

static ht_status check_compressed(ht_verify_run *v, ht_finding *finding) {
    const char *status_text = ht_json_string(v->quant, "quantization_status");
    if (!status_text || strcmp(status_text, "compressed") != 0)
        ht_find(finding, "quantization_status is \"%s\", not compressed", status_text ? status_text : "");
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        int is_linear = ht_verify_is_linear(v, i);
        if (!parameter->quantized && !is_linear)
            continue;
        const char *group;
        json_t *value;
        int ignored;
        HT_TRY(ht_verify_group(v, parameter->name, is_linear, &group, &value, &ignored));
        check_parameter(finding, parameter, group, value, ignored);
        finding->looked++;
    }
    return check_targets(v, finding);
}

ht_status ht_verify_config(ht_verify_run *v) {
    ht_finding finding = {0};
    if (!v->quant)
        return ht_verify_add(v, "config", &finding, "linears are quantized, and the config says so");
    const char *method = ht_json_string(v->quant, "quant_method");
    if (method && strcmp(method, "compressed-tensors") == 0) {
        ht_status status = check_compressed(v, &finding);
        if (status == HT_ERR_CORRUPT)
            ht_find(&finding, "%s", ht_error_message());
        else
            HT_TRY(status);
        return ht_verify_add(v, "config", &finding, "linears are what config groups and ignore list say");
    }
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++)
        finding.looked += ht_checkpoint_parameter(v->checkpoint, i)->quantized != 0;
    char what[96];
    snprintf(what, sizeof what, "quantized tensors under quant_method %.40s", method ? method : "(none)");
    return ht_verify_add(v, "config", &finding, what);
}
