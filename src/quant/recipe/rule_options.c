/* The table of rule options: name, values, and which formats an option can mean something for.
 *
 * An option that does nothing for its scheme is refused, not ignored. Options among a recipe's defaults are taken by
 * the rules whose scheme knows them.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/rule_options.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* strlen */

#include "base/nearest.h"
#include "base/status.h"
#include "quant/recipe/settings.h"

enum { MOST_VALUES = 10, TEXT = 128 };
enum {
    MX = 1 << HT_FAMILY_MX,
    NVFP4 = 1 << HT_FAMILY_NVFP4,
    FLOAT8 = 1 << HT_FAMILY_FLOAT8,
    INT = 1 << HT_FAMILY_INT,
    ALL = 0xffff
};

typedef struct option_value {
    const char *name;
    int value;
    unsigned families; /* of the weight format; of the input format for input_rule and input_range */
} option_value;

static const struct {
    const char *name;
    option_value value[MOST_VALUES];
} table[HT_OPTION_COUNT] = {
    [HT_OPTION_SCALE_RULE] = {"scale_rule",
                              {{"floor", HT_SCALE_FLOOR, MX},
                               {"rceil", HT_SCALE_RCEIL, MX},
                               {"ceil", HT_SCALE_CEIL, MX},
                               {"even", HT_SCALE_EVEN, MX},
                               {"mse", HT_SCALE_MSE, MX | NVFP4 | FLOAT8 | INT},
                               {"four-six", HT_SCALE_FOUR_SIX, NVFP4},
                               {"four-six-mae", HT_SCALE_FOUR_SIX_MAE, NVFP4},
                               {"four-six-max", HT_SCALE_FOUR_SIX_MAX, NVFP4}}},
    [HT_OPTION_INPUT_RULE] = {"input_rule",
                              {{"floor", HT_SCALE_FLOOR, MX},
                               {"rceil", HT_SCALE_RCEIL, MX},
                               {"ceil", HT_SCALE_CEIL, MX},
                               {"even", HT_SCALE_EVEN, MX}}},
    [HT_OPTION_INPUT_RANGE] = {"input_range",
                               {{"absmax", HT_INPUT_ABS_MAX, FLOAT8 | INT},
                                {"p99.9", HT_INPUT_P999, FLOAT8 | INT},
                                {"p99.99", HT_INPUT_P9999, FLOAT8 | INT},
                                {"p99.999", HT_INPUT_P99999, FLOAT8 | INT},
                                {"percentile", HT_INPUT_P9999, FLOAT8 | INT},
                                {"mse", HT_INPUT_MSE, FLOAT8 | INT}}},
    [HT_OPTION_SCALE_DTYPE] = {"scale_dtype", {{"f32", HT_F32, FLOAT8 | INT}, {"bf16", HT_BF16, FLOAT8 | INT}}},
    [HT_OPTION_INT_RULE] = {"int_rule",
                            {{"symmetric", HT_INT_SYMMETRIC, INT},
                             {"no-clip", HT_INT_NO_CLIP, INT},
                             {"full", HT_INT_FULL, INT}}},
    [HT_OPTION_NVFP4_RULE] = {"nvfp4_rule",
                              {{"inference", HT_NVFP4_INFERENCE, NVFP4}, {"training", HT_NVFP4_TRAINING, NVFP4}}},
    [HT_OPTION_POWER_OF_TWO] = {"power_of_two", {{"false", 0, FLOAT8}, {"true", 1, FLOAT8}}},
    [HT_OPTION_NAN] = {"nan", {{"fail", HT_NAN_FAIL, ALL}, {"keep", HT_NAN_KEEP, ALL}}},
};

ht_rule_options ht_rule_options_unset(void) {
    ht_rule_options options;
    for (size_t i = 0; i < HT_OPTION_COUNT; i++)
        options.value[i] = HT_OPTION_UNSET;
    return options;
}

ht_rule_options ht_rule_options_merge(const ht_rule_options *first, const ht_rule_options *second) {
    ht_rule_options merged = *first;
    for (size_t i = 0; i < HT_OPTION_COUNT; i++)
        if (merged.value[i] == HT_OPTION_UNSET)
            merged.value[i] = second->value[i];
    return merged;
}

/* "floor, rceil, mse": the option's values that speak about one of the families. */
static const char *list_values(ht_option option, unsigned families, char text[TEXT]) {
    size_t used = 0;
    text[0] = '\0';
    for (const option_value *value = table[option].value; value->name && used < TEXT; value++)
        if (value->families & families)
            used += (size_t)snprintf(text + used, TEXT - used, "%s%s", used ? ", " : "", value->name);
    return text;
}

static ht_status unknown_option(const char *name) {
    char all[TEXT * 2] = "";
    size_t used = 0;
    ht_nearest nearest = {.word = name};
    for (size_t i = 0; i < HT_OPTION_COUNT && used < sizeof all; i++) {
        ht_nearest_offer(&nearest, table[i].name);
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", used ? ", " : "", table[i].name);
    }
    for (size_t i = 0; ht_setting_at(i); i++)
        ht_nearest_offer(&nearest, ht_setting_at(i));
    return ht_fail(
        HT_ERR_ARGUMENT,
        "option \"%.64s\" is unknown; the nearest is %s; allowed: %s and the method's settings (`halftone list "
        "methods`)",
        name, nearest.found, all);
}

ht_status ht_rule_options_set(ht_rule_options *options, const char *name, const char *value) {
    for (size_t i = 0; i < HT_OPTION_COUNT; i++) {
        if (strcmp(table[i].name, name) != 0)
            continue;
        for (const option_value *known = table[i].value; known->name; known++)
            if (ht_word_equal(known->name, value)) {
                options->value[i] = known->value;
                return HT_OK;
            }
        char text[TEXT];
        return ht_fail(HT_ERR_ARGUMENT, "%s \"%.64s\" is unknown; allowed: %s", name, value,
                       list_values((ht_option)i, ALL, text));
    }
    return unknown_option(name);
}

const char *ht_option_name(ht_option option) {
    return table[option].name;
}

const char *ht_option_value_name(ht_option option, int value) {
    for (const option_value *known = table[option].value; known->name; known++)
        if (known->value == value)
            return known->name;
    return NULL;
}

/* Families that an option is asked about for this scheme; 0 when the scheme has no such part. */
static unsigned families_of(ht_option option, const ht_scheme *scheme) {
    if (option == HT_OPTION_INPUT_RULE)
        return scheme->has_input ? 1u << scheme->input.family : 0;
    if (option == HT_OPTION_INPUT_RANGE)
        return scheme->input_range != HT_INPUT_DYNAMIC ? 1u << scheme->input.family : 0;
    return 1u << scheme->weight.family;
}

static int means_something(ht_option option, int value, const ht_scheme *scheme) {
    for (const option_value *known = table[option].value; known->name; known++)
        if (known->value == value)
            return (known->families & families_of(option, scheme)) != 0;
    return 0;
}

ht_status ht_rule_options_check(const ht_rule_options *options, const ht_scheme *scheme) {
    for (size_t i = 0; i < HT_OPTION_COUNT; i++) {
        ht_option option = (ht_option)i;
        if (options->value[i] == HT_OPTION_UNSET || means_something(option, options->value[i], scheme))
            continue;
        char text[TEXT];
        const char *known = list_values(option, families_of(option, scheme), text);
        return ht_fail(HT_ERR_ARGUMENT, "%s %s means nothing for scheme %s%s%s", table[i].name,
                       ht_option_value_name(option, options->value[i]), scheme->name,
                       *known ? ", which takes: " : ", which has no such option", known);
    }
    return HT_OK;
}

/* The value said, when it means something for the scheme; else the fallback. */
static int said(const ht_rule_options *options, ht_option option, const ht_scheme *scheme, int fallback) {
    int value = options->value[option];
    return value != HT_OPTION_UNSET && means_something(option, value, scheme) ? value : fallback;
}

void ht_rule_options_apply(const ht_rule_options *options, ht_scheme *scheme, ht_row_options *row) {
    *row = ht_row_options_default();
    row->scale_rule = (ht_scale_rule)said(options, HT_OPTION_SCALE_RULE, scheme, (int)row->scale_rule);
    row->int_rule = (ht_int_rule)said(options, HT_OPTION_INT_RULE, scheme, (int)row->int_rule);
    row->nvfp4_rule = (ht_nvfp4_rule)said(options, HT_OPTION_NVFP4_RULE, scheme, (int)row->nvfp4_rule);
    row->power_of_two = said(options, HT_OPTION_POWER_OF_TWO, scheme, row->power_of_two);
    scheme->input_rule = (ht_scale_rule)said(options, HT_OPTION_INPUT_RULE, scheme, (int)scheme->input_rule);
    scheme->input_range = (ht_input_range)said(options, HT_OPTION_INPUT_RANGE, scheme, (int)scheme->input_range);
    scheme->weight.scale = (ht_dtype)said(options, HT_OPTION_SCALE_DTYPE, scheme, (int)scheme->weight.scale);
}
