/* Matching modules to config groups, and naming them briefly.
 *
 * Reading follows compressed-tensors: an exact name wins over a pattern, a pattern over a class name; a pattern matches
 * from the start of the name (not necessarily to its end). The class of a module is not stored in a checkpoint: what
 * has quantized tensors counts as "Linear".
 *
 * Writing: "model.layers.3.mlp.up_proj" has the key "model.layers.#.mlp.up_proj". When all modules with one key are in
 * one group, the key becomes one anchored pattern, else the modules are listed. So 126 layers need 7 entries, not 882.
 * Source: formats specification, section 8.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/targets.h"

#include <stdint.h> /* SIZE_MAX */
#include <stdlib.h> /* qsort, bsearch */
#include <string.h> /* strcmp */

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "base/status.h"
#include "base/text.h"

enum { MAX_PATTERN = 4096 };

size_t ht_module_length(const char *parameter) {
    size_t length = strlen(parameter);
    return length > 7 && strcmp(parameter + length - 7, ".weight") == 0 ? length - 7 : length;
}

/* --- Writing ------------------------------------------------------------------------------------------- */

typedef struct module {
    char *key;  /* numbers as # */
    char *name; /* module */
    size_t group;
} module;

struct ht_target_builder {
    module *modules;
    size_t count, capacity;
    int sorted;
};

ht_status ht_target_builder_create(ht_target_builder **out) {
    *out = calloc(1, sizeof **out);
    return *out ? HT_OK : ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
}

void ht_target_builder_destroy(ht_target_builder *builder) {
    if (!builder)
        return;
    for (size_t i = 0; i < builder->count; i++) {
        free(builder->modules[i].key);
        free(builder->modules[i].name);
    }
    free(builder->modules);
    free(builder);
}

/* Parts of the name that are all digits become '#'. */
static char *make_key(const char *name) {
    char *key = malloc(strlen(name) + 1);
    char *to = key;
    while (key && *name) {
        size_t part = strcspn(name, "."), digits = strspn(name, "0123456789");
        if (part && part == digits) {
            *to++ = '#';
        } else {
            memcpy(to, name, part);
            to += part;
        }
        name += part;
        if (*name)
            *to++ = *name++;
    }
    if (key)
        *to = '\0';
    return key;
}

ht_status ht_target_builder_add(ht_target_builder *builder, const char *parameter, size_t group) {
    if (builder->count == builder->capacity) {
        size_t capacity = builder->capacity * 2 + 64;
        module *grown = realloc(builder->modules, capacity * sizeof *grown);
        if (!grown)
            return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
        builder->modules = grown;
        builder->capacity = capacity;
    }
    char *name = strndup(parameter, ht_module_length(parameter));
    char *key = name ? make_key(name) : NULL;
    if (!key) {
        free(name);
        return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    }
    builder->modules[builder->count++] = (module){.key = key, .name = name, .group = group};
    builder->sorted = 0;
    return HT_OK;
}

static int by_key(const void *a, const void *b) {
    const module *x = a, *y = b;
    int order = strcmp(x->key, y->key);
    return order ? order : strcmp(x->name, y->name);
}

/* The key as an anchored pattern: escaped, # as a number. */
static json_t *pattern_of(const char *key) {
    ht_text text = {0};
    ht_text_printf(&text, "re:^");
    for (; *key; key++) {
        if (*key == '#')
            ht_text_printf(&text, "\\d+");
        else
            ht_text_printf(&text, strchr(".^$*+?()[]{}|\\", *key) ? "\\%c" : "%c", *key);
    }
    ht_text_append(&text, "$", 1);
    json_t *string = text.failed ? NULL : json_string(text.data);
    ht_text_free(&text);
    return string;
}

json_t *ht_target_builder_list(ht_target_builder *builder, size_t group) {
    if (!builder->sorted && builder->count)
        qsort(builder->modules, builder->count, sizeof *builder->modules, by_key);
    builder->sorted = 1;
    json_t *list = json_array();
    int failed = !list;
    for (size_t i = 0, end; i < builder->count && !failed; i = end) {
        int pure = 1;
        for (end = i; end < builder->count && strcmp(builder->modules[end].key, builder->modules[i].key) == 0; end++)
            pure &= builder->modules[end].group == builder->modules[i].group;
        if (pure && end - i > 1 && builder->modules[i].group == group)
            failed |= json_array_append_new(list, pattern_of(builder->modules[i].key)) != 0;
        else
            for (size_t k = i; k < end; k++)
                if (builder->modules[k].group == group)
                    failed |= json_array_append_new(list, json_string(builder->modules[k].name)) != 0;
    }
    if (failed) {
        json_decref(list);
        return NULL;
    }
    return list;
}

/* --- Reading ------------------------------------------------------------------------------------------- */

typedef struct target {
    const char *name; /* exact; borrowed from the JSON */
    pcre2_code *code; /* pattern */
    size_t group;
} target;

struct ht_targets {
    target *exact, *patterns;
    size_t exact_count, pattern_count;
    size_t linear; /* group of class Linear, SIZE_MAX = none */
    pcre2_match_data *match;
    pcre2_match_context *context;
};

static int by_target(const void *a, const void *b) {
    const target *x = a, *y = b;
    int order = strcmp(x->name, y->name);
    return order ? order : (x->group > y->group) - (x->group < y->group);
}

static ht_status add_pattern(ht_targets *targets, const char *label, const char *text, size_t group) {
    int error;
    size_t at;
    if (strlen(text) > MAX_PATTERN)
        return ht_fail(HT_ERR_CORRUPT, "%s: target pattern of %zu bytes, limit %d", label, strlen(text),
                       (int)MAX_PATTERN);
    pcre2_code *code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, PCRE2_ANCHORED | PCRE2_UTF, &error, &at, NULL);
    if (!code) {
        char reason[128] = "";
        pcre2_get_error_message(error, (PCRE2_UCHAR *)reason, sizeof reason);
        return ht_fail(HT_ERR_CORRUPT, "%s: target \"re:%s\": %s at %zu", label, text, reason, at);
    }
    targets->patterns[targets->pattern_count++] = (target){.code = code, .group = group};
    return HT_OK;
}

static ht_status add_group(ht_targets *targets, const char *label, const json_t *list, size_t group) {
    if (!json_is_array(list))
        return ht_fail(HT_ERR_CORRUPT, "%s: config group %zu: targets is not a list", label, group);
    for (size_t i = 0; i < json_array_size(list); i++) {
        const char *text = json_string_value(json_array_get(list, i));
        if (!text)
            return ht_fail(HT_ERR_CORRUPT, "%s: config group %zu: target %zu is not a string", label, group, i);
        if (strcmp(text, "Linear") == 0) {
            if (targets->linear == SIZE_MAX)
                targets->linear = group;
        } else if (strncmp(text, "re:", 3) == 0) {
            HT_TRY(add_pattern(targets, label, text + 3, group));
        } else {
            targets->exact[targets->exact_count++] = (target){.name = text, .group = group};
        }
    }
    return HT_OK;
}

ht_status ht_targets_create(const char *label, json_t *const *groups, size_t count, ht_targets **out) {
    size_t total = 1;
    for (size_t i = 0; i < count; i++)
        total += json_array_size(groups[i]);
    ht_targets *targets = *out = calloc(1, sizeof *targets);
    if (targets) {
        targets->linear = SIZE_MAX;
        targets->exact = calloc(total, sizeof *targets->exact);
        targets->patterns = calloc(total, sizeof *targets->patterns);
        targets->match = pcre2_match_data_create(1, NULL);
        targets->context = pcre2_match_context_create(NULL);
    }
    ht_status status = HT_OK;
    if (!targets || !targets->exact || !targets->patterns || !targets->match || !targets->context)
        status = ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left for its targets", label);
    for (size_t i = 0; i < count && status == HT_OK; i++)
        status = add_group(targets, label, groups[i], i);
    if (status != HT_OK) {
        ht_targets_destroy(targets);
        *out = NULL;
        return status;
    }
    pcre2_set_match_limit(targets->context, 100000); /* a hostile pattern gives up instead of running on */
    if (targets->exact_count)
        qsort(targets->exact, targets->exact_count, sizeof *targets->exact, by_target);
    return HT_OK;
}

void ht_targets_destroy(ht_targets *targets) {
    if (!targets)
        return;
    for (size_t i = 0; i < targets->pattern_count; i++)
        pcre2_code_free(targets->patterns[i].code);
    pcre2_match_data_free(targets->match);
    pcre2_match_context_free(targets->context);
    free(targets->exact);
    free(targets->patterns);
    free(targets);
}

/* Exact name among the sorted ones; the lowest group when listed twice. */
static size_t find_exact(const ht_targets *targets, const char *name, size_t length) {
    size_t low = 0, high = targets->exact_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const char *other = targets->exact[middle].name;
        int order = strncmp(other, name, length);
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < targets->exact_count && strncmp(targets->exact[low].name, name, length) == 0 &&
        targets->exact[low].name[length] == '\0')
        return targets->exact[low].group;
    return SIZE_MAX;
}

size_t ht_targets_find(const ht_targets *targets, const char *parameter, size_t length) {
    if (length > 7 && memcmp(parameter + length - 7, ".weight", 7) == 0)
        length -= 7;
    size_t group = find_exact(targets, parameter, length);
    for (size_t i = 0; i < targets->pattern_count && group == SIZE_MAX; i++)
        if (pcre2_match(targets->patterns[i].code, (PCRE2_SPTR)parameter, length, 0, PCRE2_NO_UTF_CHECK, targets->match,
                        targets->context) >= 0)
            group = targets->patterns[i].group;
    return group != SIZE_MAX ? group : targets->linear;
}
