/* The part of a config that is the same in every profile: groups of equal requests, and how each was made.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/config_record.h"

#include <stdlib.h> /* free */
#include <string.h> /* strcmp */

#include "base/status.h"
#include "io/json.h"
#include "io/transforms.h"

static const char *const names[] = {
    [HT_SCALE_DEFAULT] = "default",
    [HT_SCALE_FLOOR] = "floor",
    [HT_SCALE_RCEIL] = "rceil",
    [HT_SCALE_CEIL] = "ceil",
    [HT_SCALE_EVEN] = "even",
    [HT_SCALE_MSE] = "mse",
    [HT_SCALE_EVEN_FP4] = "default",
    [HT_SCALE_FOUR_SIX] = "four-six",
    [HT_SCALE_FOUR_SIX_MAE] = "four-six-mae",
    [HT_SCALE_FOUR_SIX_MAX] = "four-six-max",
};

enum { RULE_COUNT = sizeof names / sizeof names[0] };

const char *ht_scale_rule_name(ht_scale_rule rule) {
    return (size_t)rule < RULE_COUNT ? names[rule] : "default";
}

ht_scale_rule ht_scale_rule_find(const char *name, ht_scale_rule fallback) {
    for (size_t i = 0; name && i < RULE_COUNT; i++)
        if (strcmp(names[i], name) == 0)
            return (ht_scale_rule)i;
    return fallback;
}

static int same_text(const char *a, const char *b) {
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static int same_group(const ht_profile_request *a, const ht_profile_request *b) {
    return ht_format_equal(&a->weight, &b->weight) && a->has_input == b->has_input &&
           (!a->has_input || (ht_format_equal(&a->input, &b->input) && a->input_rule == b->input_rule &&
                              !a->static_scale == !b->static_scale)) &&
           a->scale_rule == b->scale_rule && same_text(a->method, b->method) && same_text(a->scheme, b->scheme) &&
           same_text(a->sparsity, b->sparsity);
}

size_t ht_group_requests(const ht_profile_request *requests, size_t count, size_t *group, size_t *first) {
    size_t groups = 0;
    for (size_t i = 0; i < count; i++) {
        size_t g = 0;
        while (g < groups && !same_group(&requests[first[g]], &requests[i]))
            g++;
        if (g == groups)
            first[groups++] = i;
        group[i] = g;
    }
    return groups;
}

json_t *ht_group_record(const ht_profile_request *request) {
    char weight[96], input[96];
    ht_format_name(&request->weight, weight, sizeof weight);
    json_t *record =
        json_pack("{s:s, s:s, s:s}", "weight", weight, "scale_rule", ht_scale_rule_name(request->scale_rule), "method",
                  request->method ? request->method : "rtn");
    if (request->scheme)
        json_object_set_new(record, "scheme", json_string(request->scheme));
    if (*request->sparsity)
        json_object_set_new(record, "sparsity", json_string(request->sparsity));
    if (request->has_input) {
        ht_format_name(&request->input, input, sizeof input);
        json_object_set_new(record, "input", json_string(input));
        if (request->static_scale)
            json_object_set_new(record, "input_static", json_true());
        json_object_set_new(record, "input_rule", json_string(ht_scale_rule_name(request->input_rule)));
    }
    return record;
}

ht_status ht_add_record(json_t *config, const char *record, json_t *groups) {
    json_t *object;
    if (record)
        HT_TRY(ht_json_parse("recipe record", "record", record, strlen(record), &object));
    else
        object = json_object();
    json_object_set_new(object, "version", json_string(ht_version()));
    json_object_set(object, "groups", groups);
    return json_object_set_new(config, "halftone", object) == 0
               ? HT_OK
               : ht_fail(HT_ERR_MEMORY, "config: the system has no memory left, or the record is no object");
}

ht_status ht_add_transforms(json_t *config, const ht_profile_request *requests, size_t count,
                            const char *const *ignored, size_t ignored_count) {
    ht_named_block *all = calloc(count + ignored_count + 1, sizeof *all);
    json_t *transforms = NULL;
    ht_status status = all ? HT_OK : ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    for (size_t i = 0; all && i < count; i++)
        all[i] = (ht_named_block){requests[i].name, requests[i].inputs.block};
    for (size_t i = 0; all && i < ignored_count; i++)
        all[count + i] = (ht_named_block){ignored[i], 0};
    if (status == HT_OK)
        status = ht_transform_config(all, count + ignored_count, &transforms);
    free(all);
    if (transforms && json_object_set_new(config, "transform_config", transforms) != 0)
        status = ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    return status;
}

ht_status ht_dump_config(json_t *config, ht_text *out) {
    char *text = json_dumps(config, JSON_INDENT(2));
    if (!text)
        return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    ht_text_append(out, text, strlen(text));
    free(text);
    return ht_text_check(out);
}
