/* The table of settings: name, kind, limits, which methods know it and what each takes when nothing is said.
 *
 *     options: {damp: 0.05, order: gar}   ->   value[HT_SETTING_DAMP] = 0.05, value[HT_SETTING_ORDER] = HT_ORDER_GAR
 *
 * A recipe is read into values that are NaN where nothing is said; the method of a rule may be named after its options,
 * so reading checks names and limits, and ht_settings_check, later, whether the method knows them. Numbers are plain
 * decimals, the same in every locale. Refused: unknown names, values outside the limits, settings of other methods.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/settings.h"

#include <math.h>   /* isnan, NAN */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* strtod */
#include <string.h> /* strlen */

#include <halftone/recipe.h>

#include "base/nearest.h"
#include "base/status.h"

enum { MOST_METHODS = 4, MOST_WORDS = 5, TEXT = 96, LIST = 320 };

typedef struct setting_use {
    const char *method;
    double standard;
} setting_use;

typedef struct setting_row {
    const char *name;
    const char *summary;
    double low, high; /* of a number, both allowed */
    int whole;        /* no fractions */
    const char *words[MOST_WORDS];
    setting_use use[MOST_METHODS];
} setting_row;

static const setting_row table[HT_SETTING_COUNT] = {
    [HT_SETTING_DAMP] = {.name = "damp",
                         .summary = "added to the diagonal of H, relative to its mean; 0: chosen on held-out text",
                         .low = 0,
                         .high = 1,
                         .use = {{"gptq", 0.01}}},
    [HT_SETTING_BLOCK] = {.name = "block",
                          .summary = "columns that are finished before the rest is updated",
                          .low = 1,
                          .high = 4096,
                          .whole = 1,
                          .use = {{"gptq", 128}}},
    [HT_SETTING_ORDER] = {.name = "order",
                          .summary = "order of the columns",
                          .words = {"none", "static", "gar", "desc_act"},
                          .use = {{"gptq", HT_ORDER_GAR}}},
    [HT_SETTING_SCALES] = {.name = "scales",
                           .summary = "when and how scales are chosen",
                           .words = {"original", "at_group", "searched"},
                           .use = {{"gptq", HT_SCALES_SEARCHED}}},
    [HT_SETTING_HESSIAN] = {.name = "hessian",
                            .summary = "inputs that H is taken of",
                            .words = {"float", "quantized"},
                            .use = {{"gptq", HT_HESSIAN_FLOAT}}},
    [HT_SETTING_GPTAQ] = {.name = "gptaq",
                          .summary = "strength of the correction towards the float model's inputs; 0: off",
                          .low = 0,
                          .high = 1,
                          .use = {{"gptq", 0}}},
    [HT_SETTING_SHRINK] = {.name = "shrink",
                           .summary = "pull of H towards its diagonal; negative: chosen on held-out text",
                           .low = -1,
                           .high = 1,
                           .use = {{"gptq", 0}}},
    [HT_SETTING_SWEEPS] = {.name = "sweeps",
                           .summary = "rounds over all codes afterwards, each changed where that lowers the loss",
                           .low = 0,
                           .high = 100,
                           .whole = 1,
                           .use = {{"gptq", 2}}},
    [HT_SETTING_SPARSITY] = {.name = "sparsity",
                             .summary = "share of the weights that become zero",
                             .low = 0,
                             .high = 0.99,
                             .use = {{"wanda", 0.5}, {"gptq", 0}}},
    [HT_SETTING_PATTERN] = {.name = "pattern",
                            .summary = "how many of how many neighbours become zero; none: as sparsity says",
                            .words = {"none", "2:4", "4:8"},
                            .use = {{"wanda", HT_PATTERN_NONE}, {"gptq", HT_PATTERN_NONE}}},
    [HT_SETTING_FISHER] = {.name = "fisher",
                           .summary =
                               "share of the outputs' joint effect on predictions in what sweeps minimize; 0: off",
                           .low = 0,
                           .high = 1,
                           .use = {{"gptq", 0}}},
    [HT_SETTING_ALPHA] = {.name = "alpha",
                          .summary = "share of the inputs' range that moves into the weights",
                          .low = 0,
                          .high = 1,
                          .use = {{"smooth", 0.5}}},
    [HT_SETTING_GRID] =
        {.name = "grid", .summary = "points of the search", .low = 1, .high = 1000, .whole = 1, .use = {{"awq", 20}}},
    [HT_SETTING_DUO] = {.name = "duo",
                        .summary = "weigh the inputs' means by those of the weights",
                        .words = {"false", "true"},
                        .use = {{"awq", 1}}},
    [HT_SETTING_LOSS] = {.name = "loss",
                         .summary = "what a point of the search is judged by: the error of each linear's output, or of "
                                    "the block's",
                         .words = {"layer", "block"},
                         .use = {{"awq", HT_LOSS_LAYER}}},
    [HT_SETTING_PLACEMENT] = {.name = "placement",
                              .summary = "where the scales of inputs go: into what the inputs come from, or applied "
                                         "to the inputs when the model runs",
                              .words = {"fuse", "apply"},
                              .use = {{"smooth", HT_PLACEMENT_FUSE},
                                      {"awq", HT_PLACEMENT_FUSE},
                                      {"sinq", HT_PLACEMENT_FUSE}}},
    [HT_SETTING_ITERATIONS] = {.name = "iterations",
                               .summary = "most rounds of the iteration",
                               .low = 1,
                               .high = 10000,
                               .whole = 1,
                               .use = {{"hqq", 20}, {"sinq", 20}, {"autoround", 100}}},
    [HT_SETTING_BATCH] = {.name = "batch",
                          .summary = "samples of a step",
                          .low = 1,
                          .high = 4096,
                          .whole = 1,
                          .use = {{"autoround", 4}}},
    [HT_SETTING_RATE] = {.name = "rate",
                         .summary = "first step of a code, in units of the grid; 0: half over iterations",
                         .low = 0,
                         .high = 1,
                         .use = {{"autoround", 0}}},
    [HT_SETTING_MOMENTUM] = {.name = "momentum",
                             .summary = "what stays of the gradients from step to step",
                             .low = 0,
                             .high = 0.999,
                             .use = {{"autoround", 0.9}}},
    [HT_SETTING_NORM] = {.name = "norm",
                         .summary = "p of the norm of the error that is made small",
                         .low = 0.1,
                         .high = 1,
                         .use = {{"hqq", 0.7}}},
    [HT_SETTING_FEW_TOKENS] = {.name = "few_tokens",
                               .summary = "share of the calibration tokens below which an expert counts as starved",
                               .low = 0,
                               .high = 1,
                               .use = {{"gptq", 0.005}}},
    [HT_SETTING_HADAMARD] = {.name = "block_hadamard",
                             .summary = "inputs that a Hadamard matrix mixes; 0: as many as share a scale, at most 128",
                             .low = 0,
                             .high = 1048576,
                             .whole = 1,
                             .use = {{"hadamard", 0}}},
    [HT_SETTING_R4] = {.name = "r4",
                       .summary = "inputs of down that a Hadamard matrix mixes when the model runs; 0: off, 1: all",
                       .low = 0,
                       .high = 1048576,
                       .whole = 1,
                       .use = {{"rotate", 0}}},
};

/* --- Who knows what --------------------------------------------------------------------------------------- */

/* The part of `method` between '+' signs that starts at *at; moves *at behind it. 0 at the end. */
static int next_part(const char **at, char part[TEXT]) {
    *at += strspn(*at, "+");
    size_t length = strcspn(*at, "+");
    if (!length)
        return 0;
    snprintf(part, TEXT, "%.*s", (int)length, *at);
    *at += length;
    return 1;
}

static const setting_use *use_of(const setting_row *row, const char *method) {
    const setting_use *found = NULL;
    char part[TEXT];
    while (next_part(&method, part))
        for (const setting_use *use = row->use; use < row->use + MOST_METHODS && use->method; use++)
            if (ht_word_equal(use->method, part))
                found = use;
    return found;
}

int ht_setting_of(ht_setting setting, const char *method) {
    return use_of(&table[setting], method) != NULL;
}

const char *ht_setting_name(ht_setting setting) {
    return table[setting].name;
}

const char *ht_setting_at(size_t index) {
    return index < HT_SETTING_COUNT ? table[index].name : NULL;
}

static const setting_row *find(const char *name) {
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        if (strcmp(table[i].name, name) == 0)
            return &table[i];
    return NULL;
}

int ht_settings_knows(const char *name) {
    return find(name) != NULL;
}

/* --- Values ----------------------------------------------------------------------------------------------- */

ht_settings ht_settings_unset(void) {
    ht_settings settings;
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        settings.value[i] = NAN;
    return settings;
}

ht_settings ht_settings_merge(const ht_settings *first, const ht_settings *second) {
    ht_settings merged = *first;
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        if (isnan(merged.value[i]))
            merged.value[i] = second->value[i];
    return merged;
}

ht_settings ht_settings_resolve(const ht_settings *said, const char *method) {
    ht_settings settings;
    for (size_t i = 0; i < HT_SETTING_COUNT; i++) {
        const setting_use *use = use_of(&table[i], method);
        settings.value[i] = !use ? 0 : isnan(said->value[i]) ? use->standard : said->value[i];
    }
    return settings;
}

ht_settings ht_settings_default(const char *method) {
    ht_settings unset = ht_settings_unset();
    return ht_settings_resolve(&unset, method);
}

/* "none, static, gar" or "a number from 0 to 1". */
static const char *allowed(const setting_row *row, char text[TEXT]) {
    if (!row->words[0])
        snprintf(text, TEXT, "a %snumber from %g to %g", row->whole ? "whole " : "", row->low, row->high);
    else
        text[0] = '\0';
    for (size_t i = 0, used = 0; i < MOST_WORDS && row->words[i] && used < TEXT; i++)
        used += (size_t)snprintf(text + used, TEXT - used, "%s%s", i ? ", " : "", row->words[i]);
    return text;
}

static int read_word(const setting_row *row, const char *text, double *out) {
    for (size_t i = 0; i < MOST_WORDS && row->words[i]; i++)
        if (ht_word_equal(row->words[i], text)) {
            *out = (double)i;
            return 1;
        }
    return 0;
}

static int read_number(const setting_row *row, const char *text, double *out) {
    char *end;
    if (strspn(text, "0123456789+-.eE") != strlen(text))
        return 0; /* no hexadecimals, no inf and nan */
    *out = strtod(text, &end);
    return end != text && !*end && *out >= row->low && *out <= row->high && (!row->whole || *out == (double)(long)*out);
}

static ht_status unknown(const char *name) {
    ht_nearest nearest = {.word = name};
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        ht_nearest_offer(&nearest, table[i].name);
    return ht_fail(HT_ERR_ARGUMENT,
                   "setting \"%.64s\" is unknown; the nearest is %s (`halftone list methods` shows all)", name,
                   nearest.found);
}

static ht_status not_known_to(const setting_row *row, const char *method) {
    char known[LIST] = "";
    for (size_t i = 0, used = 0; i < HT_SETTING_COUNT && used < LIST; i++)
        if (use_of(&table[i], method))
            used += (size_t)snprintf(known + used, LIST - used, "%s%s", used ? ", " : "", table[i].name);
    return ht_fail(HT_ERR_ARGUMENT, "%s means nothing for method %.64s%s%s", row->name, method,
                   *known ? ", which takes: " : ", which has no settings", known);
}

ht_status ht_settings_set(ht_settings *settings, const char *method, const char *name, const char *value) {
    const setting_row *row = find(name);
    if (!row)
        return unknown(name);
    if (method && !use_of(row, method))
        return not_known_to(row, method);
    double got = 0;
    char text[TEXT];
    if (!(row->words[0] ? read_word(row, value, &got) : read_number(row, value, &got)))
        return ht_fail(HT_ERR_ARGUMENT, "%s is \"%.64s\"; allowed: %s", name, value, allowed(row, text));
    settings->value[row - table] = got;
    return HT_OK;
}

ht_status ht_settings_check(const ht_settings *settings, const char *method) {
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        if (!isnan(settings->value[i]) && !use_of(&table[i], method))
            return not_known_to(&table[i], method);
    return HT_OK;
}

/* --- What `halftone list methods` shows ------------------------------------------------------------------- */

int ht_setting_list(const char *method, size_t index, ht_setting_info *out) {
    size_t i = 0;
    for (; i < HT_SETTING_COUNT; i++)
        if (use_of(&table[i], method) && index-- == 0)
            break;
    if (i == HT_SETTING_COUNT)
        return 0;
    const setting_row *row = &table[i];
    double standard = use_of(row, method)->standard;
    *out = (ht_setting_info){.name = row->name, .summary = row->summary};
    char text[TEXT];
    snprintf(out->allowed, sizeof out->allowed, "%s", allowed(row, text));
    if (row->words[0])
        snprintf(out->standard, sizeof out->standard, "%s", row->words[(size_t)standard]);
    else
        snprintf(out->standard, sizeof out->standard, "%g", standard);
    return 1;
}
