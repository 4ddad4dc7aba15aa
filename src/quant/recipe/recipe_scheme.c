/* The recipe that a scheme on the command line stands for.
 *
 *     --scheme mxfp4 --method gptq --set damp=0.05   ->   version: 1
 *                                                         rules:
 *                                                           - match: linear
 *                                                             scheme: mxfp4
 *                                                             method: gptq
 *                                                             options: {damp: 0.05}
 *
 * A preset (--method best) is written out as what it stands for, so that the record says what was done.
 * It is YAML like a user's own, so that the output's record and the fingerprint of a run need to know recipes alone.
 * Refused: what means nothing for the scheme or the method, and anything that is not name=value.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/recipe_rules.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* strchr */

#include "base/status.h"
#include "base/text.h"
#include "quant/recipe/presets.h"

enum { LONGEST_NAME = 32 };

typedef struct chosen {
    const ht_preset *preset; /* NULL: a method was named */
    ht_scheme scheme;
    ht_chain chain;
    ht_rule_options options;
    ht_settings settings;
} chosen;

/* One name=value of the command line: checked, and appended to the YAML of the rule's options. */
static ht_status take(chosen *c, const char *word, ht_text *yaml) {
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+.:";
    char name[LONGEST_NAME];
    const char *equal = strchr(word, '=');
    size_t length = equal ? (size_t)(equal - word) : 0;
    if (!length || length >= sizeof name || !equal[1] || strspn(word, plain) != length ||
        strspn(equal + 1, plain) != strlen(equal + 1))
        return ht_fail(HT_ERR_ARGUMENT, "setting \"%.64s\" is not of the form name=value", word);
    memcpy(name, word, length);
    name[length] = '\0';
    if (ht_settings_knows(name)) {
        HT_TRY(ht_settings_set(&c->settings, c->chain.name, name, equal + 1));
    } else {
        HT_TRY(ht_rule_options_set(&c->options, name, equal + 1));
        HT_TRY(ht_rule_options_check(&c->options, &c->scheme));
    }
    ht_text_printf(yaml, "%s%s: \"%s\"", yaml->length ? ", " : "", name, equal + 1);
    return HT_OK;
}

static ht_status write_options(chosen *c, const char *const *set, ht_text *options) {
    for (size_t i = 0; set && set[i]; i++) {
        size_t name = strcspn(set[i], "=") + 1;
        for (size_t j = 0; j < i; j++)
            if (strncmp(set[i], set[j], name) == 0)
                return ht_fail(HT_ERR_ARGUMENT, "setting \"%.64s\" is given twice", set[i]);
        HT_TRY(take(c, set[i], options));
    }
    return HT_OK;
}

/* The preset's words that the call does not set itself. */
static ht_status write_preset(chosen *c, const char *const *set, ht_text *options) {
    char word[2 * LONGEST_NAME];
    for (const char *at = c->preset->set; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " "), name = strcspn(at, "=") + 1;
        int said = 0;
        for (size_t i = 0; set && set[i]; i++)
            said |= strncmp(set[i], at, name) == 0;
        snprintf(word, sizeof word, "%.*s", (int)length, at);
        if (!said)
            HT_TRY(take(c, word, options));
        at += length;
    }
    return HT_OK;
}

static ht_status choose_method(chosen *c, const char *method) {
    const char *preset = ht_preset_word(method);
    c->preset = preset ? ht_preset_find(preset, &c->scheme) : NULL;
    return ht_chain_parse(c->preset ? c->preset->method : method, &c->chain);
}

/* Lines before the rule: what it was called, and how a preset is calibrated ("mode=sequential held_out=16"). */
static void write_head(const chosen *c, ht_text *yaml) {
    if (c->preset)
        ht_text_printf(yaml, "# method %s\n", c->preset->name);
    ht_text_printf(yaml, "version: 1\n");
    if (!c->preset || !*c->preset->calibration)
        return;
    const char *separator = "calibration: {";
    for (const char *at = c->preset->calibration; *at; at += strspn(at, " ")) {
        size_t name = strcspn(at, "="), length = strcspn(at, " ");
        ht_text_printf(yaml, "%s%.*s: %.*s", separator, (int)name, at, (int)(length - name - 1), at + name + 1);
        separator = ", ";
        at += length;
    }
    ht_text_printf(yaml, "}\n");
}

ht_status ht_recipe_for_settings(ht_context *ctx, const char *scheme, const char *method, const char *const *set,
                                 ht_recipe **out) {
    *out = NULL;
    chosen c = {.options = ht_rule_options_unset(), .settings = ht_settings_unset()};
    HT_TRY(ht_scheme_parse(scheme, &c.scheme));
    HT_TRY(choose_method(&c, method ? method : "rtn"));
    HT_TRY(ht_chain_accepts(&c.chain, &c.scheme));
    ht_text options = {0}, yaml = {0};
    ht_status status = write_options(&c, set, &options);
    if (status == HT_OK && c.preset)
        status = write_preset(&c, set, &options);
    write_head(&c, &yaml);
    if (status == HT_OK && options.length)
        ht_text_printf(&yaml, "rules:\n  - match: linear\n    scheme: %s\n    method: %s\n    options: {%s}\n",
                       c.scheme.name, c.chain.name, options.data);
    else
        ht_text_printf(&yaml, "preset: %s\nmethod: %s\n", c.scheme.name, c.chain.name);
    if (status == HT_OK)
        status = options.failed ? ht_text_check(&options) : ht_text_check(&yaml);
    char source[64];
    snprintf(source, sizeof source, "recipe of scheme %s", c.scheme.name);
    if (status == HT_OK)
        status = ht_recipe_create(ctx, source, yaml.data, yaml.length, out);
    ht_text_free(&options);
    ht_text_free(&yaml);
    return status;
}

ht_status ht_recipe_for_scheme(ht_context *ctx, const char *scheme, const char *method, ht_recipe **out) {
    return ht_recipe_for_settings(ctx, scheme, method, NULL, out);
}
