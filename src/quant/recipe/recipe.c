/* Recipes from YAML. Two tables say which keys a recipe and a rule have and what reads each; everything else is
 * walking.
 *
 * Every complaint names file, line, column, the key or value, and what is allowed. Refused: unknown and repeated keys,
 * several documents, a rule that both keeps and quantizes or does neither, an option that means nothing for its scheme,
 * a file of more than 1 MiB. The language is docs/recipes.md.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/recipe_rules.h"

#include <errno.h>  /* errno */
#include <math.h>   /* isnan */
#include <stdarg.h> /* va_list */
#include <stdio.h>  /* fopen, vsnprintf */
#include <string.h> /* strcmp, strlen */

#include <yaml.h>

#include "base/nearest.h"
#include "base/status.h"
#include "io/profile.h"
#include "quant/recipe/presets.h"
#include "quant/calibrate/samples.h"

enum { LONGEST_RECIPE = 1 << 20, MESSAGE = 512 };

typedef struct reader {
    ht_recipe *recipe;
    yaml_document_t document;
    ht_chain chain; /* default of the rules */
    const char *preset;
    yaml_node_t *preset_node;
} reader;

/* target: the ht_rule being filled, or NULL for keys of the recipe itself. */
typedef ht_status read_fn(reader *r, yaml_node_t *value, ht_rule *target);
typedef struct key_row {
    const char *name;
    read_fn *read;
} key_row;

static ht_status bad(const reader *r, const yaml_node_t *node, const char *format, ...) HT_PRINTF(3, 4);
static ht_status bad(const reader *r, const yaml_node_t *node, const char *format, ...) {
    char message[MESSAGE];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    return ht_fail(HT_ERR_CORRUPT, "%s:%zu:%zu: %s", r->recipe->source, node->start_mark.line + 1,
                   node->start_mark.column + 1, message);
}

/* Put the place before the message of a failed call. */
static ht_status placed(const reader *r, const yaml_node_t *node, ht_status status) {
    if (status == HT_OK || status == HT_ERR_MEMORY)
        return status;
    return ht_fail_prefix(HT_ERR_CORRUPT, "%s:%zu:%zu", r->recipe->source, node->start_mark.line + 1,
                          node->start_mark.column + 1);
}

/* --- Walking ---------------------------------------------------------------------------------------------- */

static yaml_node_t *node_at(reader *r, int id) {
    return yaml_document_get_node(&r->document, id);
}

/* Text of a scalar, which lives as long as the document. */
static ht_status scalar(const reader *r, const yaml_node_t *node, const char *what, const char **out) {
    if (node->type != YAML_SCALAR_NODE)
        return bad(r, node, "%s must be a word, not a %s", what, node->type == YAML_MAPPING_NODE ? "mapping" : "list");
    *out = (const char *)node->data.scalar.value;
    if (strlen(*out) != node->data.scalar.length)
        return bad(r, node, "%s contains a NUL byte", what);
    return HT_OK;
}

static ht_status boolean(const reader *r, const yaml_node_t *node, const char *what, int *out) {
    const char *text = NULL;
    HT_TRY(scalar(r, node, what, &text));
    *out = strcmp(text, "true") == 0;
    if (!*out && strcmp(text, "false") != 0)
        return bad(r, node, "%s is \"%.64s\"; allowed: true, false", what, text);
    return HT_OK;
}

static ht_status unknown_key(const reader *r, const yaml_node_t *node, const char *name, const key_row *keys,
                             size_t count) {
    char all[256] = "";
    size_t used = 0;
    ht_nearest nearest = {.word = name};
    for (size_t i = 0; i < count && used < sizeof all; i++) {
        ht_nearest_offer(&nearest, keys[i].name);
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s", used ? ", " : "", keys[i].name);
    }
    return bad(r, node, "key \"%.64s\" is unknown; the nearest is %s; allowed: %s", name, nearest.found, all);
}

static ht_status check_repeated(reader *r, const yaml_node_pair_t *first, const yaml_node_pair_t *pair,
                                const char *name) {
    for (const yaml_node_pair_t *before = first; before < pair; before++) {
        yaml_node_t *node = node_at(r, before->key);
        if (node->type == YAML_SCALAR_NODE && strcmp((const char *)node->data.scalar.value, name) == 0)
            return bad(r, node_at(r, pair->key), "key \"%.64s\" stands here a second time; the first is on line %zu",
                       name, node->start_mark.line + 1);
    }
    return HT_OK;
}

/* Read a mapping by a table of keys. */
static ht_status mapping(reader *r, yaml_node_t *node, const char *what, const key_row *keys, size_t count,
                         ht_rule *target) {
    if (node->type != YAML_MAPPING_NODE)
        return bad(r, node, "%s must be a mapping (key: value)", what);
    const yaml_node_pair_t *first = node->data.mapping.pairs.start;
    for (const yaml_node_pair_t *pair = first; pair < node->data.mapping.pairs.top; pair++) {
        yaml_node_t *key = node_at(r, pair->key);
        const char *name = NULL;
        HT_TRY(scalar(r, key, "a key", &name));
        HT_TRY(check_repeated(r, first, pair, name));
        size_t i = 0;
        while (i < count && strcmp(keys[i].name, name) != 0)
            i++;
        if (i == count)
            return unknown_key(r, key, name, keys, count);
        HT_TRY(keys[i].read(r, node_at(r, pair->value), target));
    }
    return HT_OK;
}

/* --- Keys of a rule --------------------------------------------------------------------------------------- */

static ht_status add_pattern(reader *r, const yaml_node_t *node, ht_rule *rule) {
    const char *text = NULL;
    HT_TRY(scalar(r, node, "match", &text));
    text = ht_arena_string(&r->recipe->arena, text, strlen(text));
    if (!text)
        return HT_ERR_MEMORY;
    ht_pattern *pattern = &rule->pattern[rule->count];
    HT_TRY(placed(r, node, ht_pattern_compile(text, pattern)));
    pattern->number = r->recipe->patterns++;
    rule->count++;
    return HT_OK;
}

static ht_status read_match(reader *r, yaml_node_t *value, ht_rule *rule) {
    int list = value->type == YAML_SEQUENCE_NODE;
    size_t count = list ? (size_t)(value->data.sequence.items.top - value->data.sequence.items.start) : 1;
    if (count == 0)
        return bad(r, value, "match is an empty list: name tensors, patterns or classes");
    rule->pattern = ht_arena_alloc(&r->recipe->arena, count * sizeof *rule->pattern);
    if (!rule->pattern)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        HT_TRY(add_pattern(r, list ? node_at(r, value->data.sequence.items.start[i]) : value, rule));
    return HT_OK;
}

static ht_status read_keep(reader *r, yaml_node_t *value, ht_rule *rule) {
    HT_TRY(boolean(r, value, "keep", &rule->keep));
    return rule->keep ? HT_OK : bad(r, value, "keep: false says nothing; leave it out or give a scheme");
}

static ht_status read_scheme(reader *r, yaml_node_t *value, ht_rule *rule) {
    const char *text = NULL;
    HT_TRY(scalar(r, value, "scheme", &text));
    return placed(r, value, ht_scheme_parse(text, &rule->scheme));
}

/* A chain of methods, or a word that stands for one once the scheme is known. */
static ht_status parse_method(const char *text, ht_chain *out) {
    *out = (ht_chain){.preset = ht_preset_word(text)};
    if (!out->preset)
        return ht_chain_parse(text, out);
    snprintf(out->name, sizeof out->name, "%s", out->preset);
    return HT_OK;
}

/* "smooth+gptq", or the list [smooth, gptq]. */
static ht_status read_method(reader *r, yaml_node_t *value, ht_rule *rule) {
    const char *text = NULL;
    char joined[MESSAGE] = "";
    if (value->type != YAML_SEQUENCE_NODE) {
        HT_TRY(scalar(r, value, "method", &text));
        return placed(r, value, parse_method(text, rule ? &rule->chain : &r->chain));
    }
    for (yaml_node_item_t *item = value->data.sequence.items.start; item < value->data.sequence.items.top; item++) {
        size_t used = strlen(joined);
        HT_TRY(scalar(r, node_at(r, *item), "method", &text));
        snprintf(joined + used, sizeof joined - used, "%s%s", used ? "+" : "", text);
    }
    return placed(r, value, parse_method(joined, rule ? &rule->chain : &r->chain));
}

/* An option of the encoder, or a setting of a method. */
static ht_status set_option(const reader *r, ht_rule *rule, const char *name, const char *text) {
    if (ht_settings_knows(name))
        return ht_settings_set(rule ? &rule->settings : &r->recipe->settings, NULL, name, text);
    return ht_rule_options_set(rule ? &rule->options : &r->recipe->options, name, text);
}

static ht_status read_options(reader *r, yaml_node_t *value, ht_rule *rule) {
    if (value->type != YAML_MAPPING_NODE)
        return bad(r, value, "options must be a mapping (option: value)");
    const yaml_node_pair_t *first = value->data.mapping.pairs.start;
    for (const yaml_node_pair_t *pair = first; pair < value->data.mapping.pairs.top; pair++) {
        const char *name = NULL, *text = NULL;
        HT_TRY(scalar(r, node_at(r, pair->key), "an option", &name));
        HT_TRY(check_repeated(r, first, pair, name));
        HT_TRY(scalar(r, node_at(r, pair->value), name, &text));
        HT_TRY(placed(r, node_at(r, pair->key), set_option(r, rule, name, text)));
    }
    return HT_OK;
}

static const key_row rule_keys[] = {
    {"match", read_match},   {"keep", read_keep},       {"scheme", read_scheme},
    {"method", read_method}, {"options", read_options},
};

static ht_status check_rule(const reader *r, const yaml_node_t *node, const ht_rule *rule) {
    int quantizes = rule->scheme.name[0] != '\0';
    if (!rule->count)
        return bad(r, node, "the rule has no match: name tensors, patterns or classes (match: linear)");
    if (rule->keep == quantizes)
        return bad(r, node, "the rule must say either scheme or keep: true%s", rule->keep ? ", not both" : "");
    if (!rule->keep)
        return placed(r, node, ht_rule_options_check(&rule->options, &rule->scheme));
    for (size_t i = 0; i < HT_OPTION_COUNT; i++)
        if (rule->options.value[i] != HT_OPTION_UNSET)
            return bad(r, node, "a rule that keeps has no options; %s is one", ht_option_name((ht_option)i));
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        if (!isnan(rule->settings.value[i]))
            return bad(r, node, "a rule that keeps has no options; %s is one", ht_setting_name((ht_setting)i));
    return rule->chain.name[0] ? bad(r, node, "a rule that keeps has no method") : HT_OK;
}

static const char *place_of(const reader *r, const yaml_node_t *node) {
    return ht_arena_printf(&r->recipe->arena, "%s:%zu:%zu", r->recipe->source, node->start_mark.line + 1,
                           node->start_mark.column + 1);
}

static ht_status read_rules(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    ht_recipe *recipe = r->recipe;
    if (value->type != YAML_SEQUENCE_NODE)
        return bad(r, value, "rules must be a list (- match: ...)");
    size_t count = (size_t)(value->data.sequence.items.top - value->data.sequence.items.start);
    recipe->rule = ht_arena_alloc(&recipe->arena, (count + 1) * sizeof *recipe->rule); /* + 1: the preset's */
    if (!recipe->rule)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        yaml_node_t *node = node_at(r, value->data.sequence.items.start[i]);
        ht_rule *rule = &recipe->rule[i];
        rule->options = ht_rule_options_unset();
        rule->settings = ht_settings_unset();
        recipe->count = i + 1; /* its patterns are released even when reading it fails */
        rule->place = place_of(r, node);
        if (!rule->place)
            return HT_ERR_MEMORY;
        HT_TRY(mapping(r, node, "a rule", rule_keys, sizeof rule_keys / sizeof *rule_keys, rule));
        HT_TRY(check_rule(r, node, rule));
    }
    return HT_OK;
}

/* --- Keys of a recipe ------------------------------------------------------------------------------------- */

static ht_status read_version(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    const char *text = NULL;
    HT_TRY(scalar(r, value, "version", &text));
    return strcmp(text, "1") == 0 ? HT_OK : bad(r, value, "version is \"%.64s\"; this program reads version 1", text);
}

static ht_status read_profile(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    const char *text = NULL;
    HT_TRY(scalar(r, value, "profile", &text));
    const ht_profile *profile = NULL;
    HT_TRY(placed(r, value, ht_profile_find(text, &profile)));
    r->recipe->profile = profile->name;
    return HT_OK;
}

static ht_status read_preset(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    r->preset_node = value;
    return scalar(r, value, "preset", &r->preset);
}

static ht_status read_mixed(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    return boolean(r, value, "allow_mixed_groups", &r->recipe->allow_mixed_groups);
}

static ht_status set_gate(reader *r, const char *name, const char *text) {
    return ht_gates_set(&r->recipe->gates, name, text);
}

static ht_status set_calibration(reader *r, const char *name, const char *text) {
    text = ht_arena_string(&r->recipe->arena, text, strlen(text));
    return text ? ht_calibration_set(&r->recipe->calibration, name, text) : HT_ERR_MEMORY;
}

/* A mapping of names to values, each given to `set`. */
static ht_status read_pairs(reader *r, yaml_node_t *value, const char *key,
                            ht_status (*set)(reader *r, const char *name, const char *text)) {
    const yaml_node_pair_t *first = value->data.mapping.pairs.start;
    for (const yaml_node_pair_t *pair = first; pair < value->data.mapping.pairs.top; pair++) {
        const char *name = NULL, *text = NULL;
        HT_TRY(scalar(r, node_at(r, pair->key), key, &name));
        HT_TRY(check_repeated(r, first, pair, name));
        HT_TRY(scalar(r, node_at(r, pair->value), name, &text));
        HT_TRY(placed(r, node_at(r, pair->key), set(r, name, text)));
    }
    return HT_OK;
}

static ht_status read_gates(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    if (value->type != YAML_MAPPING_NODE)
        return bad(r, value, "gates must be a mapping (gate: limit)");
    return read_pairs(r, value, "a gate", set_gate);
}

static ht_status read_calibration(reader *r, yaml_node_t *value, ht_rule *unused) {
    (void)unused;
    if (value->type != YAML_MAPPING_NODE)
        return bad(r, value, "calibration must be a mapping (mode: sequential, samples: 128, ...)");
    return read_pairs(r, value, "a key of calibration", set_calibration);
}

static const key_row recipe_keys[] = {
    {"version", read_version}, {"profile", read_profile}, {"preset", read_preset},
    {"method", read_method},   {"options", read_options}, {"allow_mixed_groups", read_mixed},
    {"gates", read_gates},     {"rules", read_rules},     {"calibration", read_calibration},
};

/* The rule that a preset adds after the recipe's own: every linear of the decoder blocks, experts included. */
static ht_status add_preset(reader *r) {
    ht_recipe *recipe = r->recipe;
    if (!recipe->rule)
        recipe->rule = ht_arena_alloc(&recipe->arena, sizeof *recipe->rule);
    ht_pattern *pattern = ht_arena_alloc(&recipe->arena, sizeof *pattern);
    const char *place = place_of(r, r->preset_node);
    if (!recipe->rule || !pattern || !place)
        return HT_ERR_MEMORY;
    ht_rule rule = {.place = place,
                    .pattern = pattern,
                    .count = 1,
                    .preset = 1,
                    .options = ht_rule_options_unset(),
                    .settings = ht_settings_unset()};
    HT_TRY(ht_pattern_compile("linear", pattern));
    pattern->number = recipe->patterns++;
    HT_TRY(placed(r, r->preset_node, ht_scheme_parse(r->preset, &rule.scheme)));
    recipe->rule[recipe->count++] = rule;
    return HT_OK;
}

/* Does a method of any rule know the setting? */
static int known_to_a_rule(const ht_recipe *recipe, ht_setting setting) {
    for (size_t i = 0; i < recipe->count; i++)
        if (!recipe->rule[i].keep && ht_setting_of(setting, recipe->rule[i].chain.name))
            return 1;
    return 0;
}

/* Settings of a rule are known to its method, defaults to the method of at least one rule. */
static ht_status check_settings(const reader *r, const yaml_node_t *root) {
    const ht_recipe *recipe = r->recipe;
    for (size_t i = 0; i < recipe->count; i++) {
        const ht_rule *rule = &recipe->rule[i];
        if (!rule->keep && ht_settings_check(&rule->settings, rule->chain.name) != HT_OK)
            return ht_fail_prefix(HT_ERR_CORRUPT, "%s", rule->place);
    }
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        if (!isnan(recipe->settings.value[i]) && !known_to_a_rule(recipe, (ht_setting)i))
            return bad(r, root, "the option %s means nothing for the method of any rule",
                       ht_setting_name((ht_setting)i));
    return HT_OK;
}

/* What the preset says takes the place of what neither the rule nor the recipe says. */
static ht_status apply_preset(reader *r, ht_rule *rule) {
    ht_recipe *recipe = r->recipe;
    const ht_preset *preset = ht_preset_find(rule->chain.preset, &rule->scheme);
    ht_settings settings = ht_settings_merge(&rule->settings, &recipe->settings);
    ht_rule_options options = ht_rule_options_merge(&rule->options, &recipe->options);
    HT_TRY(ht_preset_apply(preset, &rule->chain, &settings, &options));
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        if (isnan(recipe->settings.value[i]))
            rule->settings.value[i] = settings.value[i];
    for (size_t i = 0; i < HT_OPTION_COUNT; i++)
        if (recipe->options.value[i] == HT_OPTION_UNSET)
            rule->options.value[i] = options.value[i];
    HT_TRY(ht_preset_calibrate(preset, &recipe->calibration));
    recipe->presets = ht_arena_printf(&recipe->arena, "%s%s of %s: %s%s%s%s%s\n", recipe->presets, preset->name,
                                      rule->scheme.name, preset->method, *preset->set ? " " : "", preset->set,
                                      *preset->calibration ? " " : "", preset->calibration);
    return recipe->presets ? HT_OK : HT_ERR_MEMORY;
}

/* Fill in the default method and check that every method takes its scheme. */
static ht_status finish_methods(reader *r) {
    if (!r->chain.name[0])
        HT_TRY(ht_chain_parse("rtn", &r->chain));
    for (size_t i = 0; i < r->recipe->count; i++) {
        ht_rule *rule = &r->recipe->rule[i];
        if (rule->keep)
            continue;
        if (!rule->chain.name[0])
            rule->chain = r->chain;
        if (rule->chain.preset)
            HT_TRY(apply_preset(r, rule));
        rule->method = rule->chain.stage[HT_STAGE_ROUND];
        if (ht_chain_accepts(&rule->chain, &rule->scheme) != HT_OK)
            return ht_fail_prefix(HT_ERR_CORRUPT, "%s", rule->place);
    }
    return HT_OK;
}

static ht_status read_document(reader *r, yaml_node_t *root) {
    HT_TRY(mapping(r, root, "a recipe", recipe_keys, sizeof recipe_keys / sizeof *recipe_keys, NULL));
    int version = 0;
    for (const yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++)
        version |= strcmp((const char *)node_at(r, pair->key)->data.scalar.value, "version") == 0;
    if (!version)
        return bad(r, root, "the key version is missing; write `version: 1`");
    if (r->preset)
        HT_TRY(add_preset(r));
    if (!r->recipe->count)
        return bad(r, root, "the recipe has neither rules nor a preset");
    HT_TRY(finish_methods(r));
    return check_settings(r, root);
}

/* --- Parsing ---------------------------------------------------------------------------------------------- */

static ht_status syntax(const ht_recipe *recipe, const yaml_parser_t *parser) {
    if (parser->error == YAML_MEMORY_ERROR)
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left", recipe->source);
    return ht_fail(HT_ERR_CORRUPT, "%s:%zu:%zu: not YAML: %s", recipe->source, parser->problem_mark.line + 1,
                   parser->problem_mark.column + 1, parser->problem ? parser->problem : "unreadable");
}

static ht_status only_one(const ht_recipe *recipe, yaml_parser_t *parser) {
    yaml_document_t more;
    if (!yaml_parser_load(parser, &more))
        return syntax(recipe, parser);
    yaml_node_t *root = yaml_document_get_root_node(&more);
    ht_status status = HT_OK;
    if (root)
        status = ht_fail(HT_ERR_CORRUPT, "%s:%zu:%zu: a second document begins here; a recipe is one", recipe->source,
                         root->start_mark.line + 1, root->start_mark.column + 1);
    yaml_document_delete(&more);
    return status;
}

static ht_status parse(ht_recipe *recipe) {
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser))
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left", recipe->source);
    yaml_parser_set_encoding(&parser, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&parser, (const unsigned char *)recipe->text, recipe->text_bytes);
    reader r = {.recipe = recipe};
    ht_status status;
    if (!yaml_parser_load(&parser, &r.document)) {
        status = syntax(recipe, &parser);
    } else {
        yaml_node_t *root = yaml_document_get_root_node(&r.document);
        status = root ? read_document(&r, root)
                      : ht_fail(HT_ERR_CORRUPT, "%s: empty; a recipe begins with `version: 1`", recipe->source);
        if (status == HT_OK)
            status = only_one(recipe, &parser);
        yaml_document_delete(&r.document);
    }
    yaml_parser_delete(&parser);
    return status;
}

ht_status ht_recipe_create(ht_context *ctx, const char *source, const char *yaml, size_t bytes, ht_recipe **out) {
    *out = NULL;
    if (bytes > LONGEST_RECIPE)
        return ht_fail(HT_ERR_CORRUPT, "%s: %zu bytes; a recipe has at most %d", source, bytes, LONGEST_RECIPE);
    ht_recipe *recipe;
    HT_TRY(ht_allocate(ctx, 1, sizeof *recipe, "recipe", &recipe));
    recipe->ctx = ctx;
    recipe->options = ht_rule_options_unset();
    recipe->settings = ht_settings_unset();
    recipe->gates = ht_gates_none();
    recipe->presets = "";
    ht_arena_init(&recipe->arena, ctx);
    recipe->source = ht_arena_string(&recipe->arena, source, strlen(source));
    recipe->text = ht_arena_string(&recipe->arena, yaml, bytes);
    recipe->text_bytes = bytes;
    ht_status status = recipe->source && recipe->text ? parse(recipe) : HT_ERR_MEMORY;
    if (status != HT_OK) {
        ht_recipe_close(recipe);
        return status;
    }
    *out = recipe;
    return HT_OK;
}

ht_status ht_recipe_parse(ht_context *ctx, const char *yaml, size_t bytes, ht_recipe **out) {
    return ht_recipe_create(ctx, "recipe", yaml, bytes, out);
}

ht_status ht_recipe_open(ht_context *ctx, const char *path, ht_recipe **out) {
    *out = NULL;
    FILE *file = fopen(path, "rb");
    if (!file)
        return ht_fail(HT_ERR_IO, "%s: cannot open the recipe: %s", path, strerror(errno));
    char *text = NULL;
    ht_status status = ht_allocate_raw(ctx, LONGEST_RECIPE + 1, 1, "recipe text", &text);
    if (status == HT_OK) {
        size_t bytes = fread(text, 1, LONGEST_RECIPE + 1, file);
        if (ferror(file))
            status = ht_fail(HT_ERR_IO, "%s: cannot read the recipe: %s", path, strerror(errno));
        else
            status = ht_recipe_create(ctx, path, text, bytes, out);
    }
    ht_release(ctx, text);
    fclose(file);
    return status;
}

void ht_recipe_close(ht_recipe *recipe) {
    if (!recipe)
        return;
    ht_context *ctx = recipe->ctx;
    for (size_t i = 0; i < recipe->count; i++)
        for (size_t j = 0; j < recipe->rule[i].count; j++)
            ht_pattern_release(&recipe->rule[i].pattern[j]);
    ht_arena_release(&recipe->arena);
    ht_release(ctx, recipe);
}
