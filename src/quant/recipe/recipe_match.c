/* Patterns of a recipe against names: class words, exact names, globs and regular expressions.
 *
 * A name pattern fits a parameter by its full name or, for parameters called *.weight, by the name of the module.
 * Globs are matched in time linear in practice: a `*` can be undone inside its dotted part, a `**` anywhere, and only
 * the last of each ever needs undoing, because an earlier one could only reach the later one further right.
 * Refused: patterns that fit nothing (a typo is likelier than a wish), rules that earlier rules leave nothing to.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/recipe_rules.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <stdio.h>  /* snprintf */
#include <string.h> /* strlen */

#include "base/status.h"
#include "io/targets.h"

enum { LONGEST_NAME = 4096, MATCH_LIMIT = 100000 };

/* --- Globs ------------------------------------------------------------------------------------------------ */

/* End of the class that starts at glob[0] == '[', past its ']'; NULL when it is not closed. */
static const char *class_end(const char *glob) {
    const char *at = glob + 1;
    if (*at == '!' || *at == '^')
        at++;
    if (*at == ']')
        at++;
    while (*at && *at != ']')
        at++;
    return *at ? at + 1 : NULL;
}

static int in_class(const char *glob, const char *end, unsigned char c) {
    const char *at = glob + 1;
    int negated = *at == '!' || *at == '^', found = 0;
    at += negated;
    for (const char *first = at; at < end - 1 && (*at != ']' || at == first); at++) {
        unsigned char low = (unsigned char)*at, high = low;
        if (at[1] == '-' && at + 2 < end - 1) {
            high = (unsigned char)at[2];
            at += 2;
        }
        found |= low <= c && c <= high;
    }
    return found != negated;
}

/* Does one glob element that is no star take one byte of text? *next is the glob after it. */
static int takes(const char *glob, char c, const char **next) {
    if (*glob == '[') {
        *next = class_end(glob);
        return c != '\0' && c != '.' && in_class(glob, *next, (unsigned char)c);
    }
    *next = glob + 1;
    return *glob == '?' ? c != '\0' && c != '.' : *glob != '\0' && *glob == c;
}

int ht_glob_match(const char *glob, const char *text) {
    const char *star = NULL, *star_text = NULL;     /* glob after the last `*`, and the text it leaves */
    const char *across = NULL, *across_text = NULL; /* the same for the last `**` */
    for (;;) {
        const char *next;
        if (glob[0] == '*' && glob[1] == '*') {
            glob += 2;
            across = glob;
            across_text = text;
            star = NULL;
        } else if (glob[0] == '*') {
            star = ++glob;
            star_text = text;
        } else if (*glob == '\0' && *text == '\0') {
            return 1;
        } else if (takes(glob, *text, &next)) {
            glob = next;
            text++;
        } else if (star && *star_text && *star_text != '.') {
            glob = star;
            text = ++star_text;
        } else if (across && *across_text) {
            glob = across;
            text = ++across_text;
            star = NULL;
        } else {
            return 0;
        }
    }
}

static ht_status check_glob(const char *glob) {
    for (const char *at = glob; *at; at++)
        if (*at == '[') {
            const char *end = class_end(at);
            if (!end)
                return ht_fail(HT_ERR_ARGUMENT, "glob \"%.80s\" opens a [ that it does not close", glob);
            at = end - 1;
        }
    return HT_OK;
}

/* --- Patterns --------------------------------------------------------------------------------------------- */

static ht_status compile_regex(const char *text, ht_pattern *out) {
    int error;
    PCRE2_SIZE where;
    out->code =
        pcre2_compile((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                      PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C, &error, &where, NULL);
    if (out->code)
        return HT_OK;
    PCRE2_UCHAR message[160] = "";
    pcre2_get_error_message(error, message, sizeof message);
    return ht_fail(HT_ERR_ARGUMENT, "regular expression \"%.80s\", at offset %zu: %s", text, (size_t)where,
                   (const char *)message);
}

ht_status ht_pattern_compile(const char *text, ht_pattern *out) {
    *out = (ht_pattern){.text = text, .classes = ht_class_word(text)};
    if (*text == '\0')
        return ht_fail(HT_ERR_ARGUMENT, "an empty name matches nothing");
    if (strlen(text) >= LONGEST_NAME)
        return ht_fail(HT_ERR_ARGUMENT, "a pattern has %zu bytes, at most %d are allowed", strlen(text),
                       LONGEST_NAME - 1);
    if (strncmp(text, "re:", 3) == 0)
        return compile_regex(text + 3, out);
    return check_glob(text);
}

void ht_pattern_release(ht_pattern *pattern) {
    pcre2_code_free(pattern->code);
    pattern->code = NULL;
}

/* What matching needs beside the recipe: PCRE2's working memory and what has been hit. */
typedef struct matcher {
    const ht_recipe *recipe;
    pcre2_match_data *data;
    pcre2_match_context *limits;
    size_t *hits;                /* by pattern number: parameters that fit */
    size_t *decided;             /* by rule */
    const ht_rule **first_taker; /* by rule: who took a parameter that the rule fits */
} matcher;

static ht_status regex_fits(const matcher *m, const ht_pattern *pattern, const char *name, size_t length, int *fits) {
    int got = pcre2_match(pattern->code, (PCRE2_SPTR)name, length, 0, 0, m->data, m->limits);
    *fits = got >= 0;
    if (got >= 0 || got == PCRE2_ERROR_NOMATCH)
        return HT_OK;
    PCRE2_UCHAR message[160] = "";
    pcre2_get_error_message(got, message, sizeof message);
    return ht_fail(HT_ERR_ARGUMENT, "pattern \"%.80s\" on tensor \"%.200s\": %s", pattern->text, name,
                   (const char *)message);
}

static ht_status fits_name(const matcher *m, const ht_pattern *pattern, const char *name, int *fits) {
    if (pattern->code)
        return regex_fits(m, pattern, name, strlen(name), fits);
    *fits = ht_glob_match(pattern->text, name);
    return HT_OK;
}

static ht_status fits_parameter(const matcher *m, const ht_pattern *pattern, const char *name, ht_class class,
                                int *fits) {
    if (pattern->classes) {
        *fits = (pattern->classes >> class & 1) != 0;
        return HT_OK;
    }
    HT_TRY(fits_name(m, pattern, name, fits));
    size_t module = ht_module_length(name);
    char shorter[LONGEST_NAME];
    if (*fits || name[module] == '\0' || module >= sizeof shorter)
        return HT_OK;
    memcpy(shorter, name, module);
    shorter[module] = '\0';
    return fits_name(m, pattern, shorter, fits);
}

/* The first rule that fits decides; every pattern is tried, so that those which fit nothing are known. */
static ht_status decide(const matcher *m, const char *name, ht_class class, const ht_rule **out) {
    *out = NULL;
    for (size_t r = 0; r < m->recipe->count; r++) {
        const ht_rule *rule = &m->recipe->rule[r];
        int any = 0;
        for (size_t p = 0; p < rule->count; p++) {
            int fits;
            HT_TRY(fits_parameter(m, &rule->pattern[p], name, class, &fits));
            m->hits[rule->pattern[p].number] += (size_t)fits;
            any |= fits;
        }
        if (any && !*out) {
            *out = rule;
            m->decided[r]++;
        } else if (any && !m->first_taker[r]) {
            m->first_taker[r] = *out;
        }
    }
    return HT_OK;
}

/* --- Rules that do nothing -------------------------------------------------------------------------------- */

static ht_status check_rule(const matcher *m, const ht_rule *rule, size_t decided, const ht_rule *taker,
                            const ht_checkpoint *checkpoint) {
    size_t hits = 0;
    for (size_t p = 0; p < rule->count; p++) {
        const ht_pattern *pattern = &rule->pattern[p];
        hits += m->hits[pattern->number];
        if (!m->hits[pattern->number] && (!pattern->classes || rule->count == 1))
            return ht_fail(HT_ERR_ARGUMENT,
                           "%s: %s \"%.200s\" matches none of the %zu tensors of %s; `halftone inspect` shows their "
                           "names",
                           rule->place, pattern->classes ? "class" : "pattern", pattern->text,
                           ht_checkpoint_parameter_count(checkpoint), ht_checkpoint_path(checkpoint));
    }
    if (!hits)
        return ht_fail(HT_ERR_ARGUMENT, "%s: the rule matches none of the %zu tensors of %s", rule->place,
                       ht_checkpoint_parameter_count(checkpoint), ht_checkpoint_path(checkpoint));
    if (!decided && !rule->preset)
        return ht_fail(HT_ERR_ARGUMENT,
                       "%s: the rule decides nothing: every tensor it matches is taken by an earlier rule, the first "
                       "by the rule at %s; move it up or remove it",
                       rule->place, taker ? taker->place : "?");
    return HT_OK;
}

static ht_status apply(matcher *m, const ht_checkpoint *checkpoint, const ht_class *classes, const ht_rule **out) {
    size_t count = ht_checkpoint_parameter_count(checkpoint);
    for (size_t i = 0; i < count; i++)
        HT_TRY(decide(m, ht_checkpoint_parameter(checkpoint, i)->name, classes[i], &out[i]));
    for (size_t r = 0; r < m->recipe->count; r++)
        HT_TRY(check_rule(m, &m->recipe->rule[r], m->decided[r], m->first_taker[r], checkpoint));
    return HT_OK;
}

ht_status ht_recipe_apply(const ht_recipe *recipe, const ht_checkpoint *checkpoint, const ht_class *classes,
                          const ht_rule **out) {
    ht_arena arena;
    ht_arena_init(&arena, recipe->ctx);
    matcher m = {
        .recipe = recipe,
        .data = pcre2_match_data_create(1, NULL),
        .limits = pcre2_match_context_create(NULL),
        .hits = ht_arena_alloc(&arena, recipe->patterns * sizeof *m.hits + 1),
        .decided = ht_arena_alloc(&arena, recipe->count * sizeof *m.decided + 1),
        .first_taker = ht_arena_alloc(&arena, recipe->count * sizeof *m.first_taker + 1),
    };
    ht_status status;
    if (!m.data || !m.limits || !m.hits || !m.decided || !m.first_taker) {
        status = ht_fail(HT_ERR_MEMORY, "recipe: the system has no memory left");
    } else {
        pcre2_set_match_limit(m.limits, MATCH_LIMIT);
        status = apply(&m, checkpoint, classes, out);
    }
    pcre2_match_data_free(m.data);
    pcre2_match_context_free(m.limits);
    ht_arena_release(&arena);
    return status;
}
