/* The table of presets: which methods and settings gave the smallest loss (`best`), or a good one by gptq alone
 * (`fast`), for each scheme. Chosen on text held out of the calibration's; measured, with the runs they were chosen by,
 * in docs/accuracy.md. Rows are tried in their order; the last one of a name takes the schemes that were not measured.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/presets.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* strcspn */

#include "base/nearest.h"
#include "base/status.h"
#include "quant/recipe/recipe_rules.h"
#include "quant/recipe/settings.h"

enum { WORD = 64 };

static const ht_preset presets[] = {
    {"best", "nvfp4-w", "smooth+gptq+autoround", "gptaq=0.5", "held_out=16"},
    {"best", "mxfp4", "hadamard+gptq+autoround", "hessian=quantized gptaq=0.5", "held_out=16"},
    {"best", "nvfp4", "smooth+gptq+autoround", "hessian=quantized gptaq=0.5", "held_out=16"},
    {"best", "mxfp8 fp8", "smooth+gptq", "hessian=quantized gptaq=0.5", ""},
    {"best", "mxfp8-w mxfp6-*-w fp8-w", "gptq", "gptaq=0.5", ""},
    {"best", "mxfp4-a8 fp8-tensor fp8-block int8 int?-a8", "gptq", "hessian=quantized", ""},
    {"best", "nf4 q8_0 bf16", "rtn", "", ""},
    {"best", "*", "gptq+autoround", "gptaq=0.5", "held_out=16"},
    {"fast", "mxfp4 nvfp4 mxfp8 fp8 mxfp4-a8 fp8-tensor fp8-block int8 int?-a8", "gptq", "hessian=quantized", ""},
    {"fast", "nf4 q8_0 bf16", "rtn", "", ""},
    {"fast", "*", "gptq", "", ""},
};

enum { PRESETS = sizeof presets / sizeof *presets };

/* The word at *at, which moves behind it; 0 at the end. */
static int next_word(const char **at, char word[WORD]) {
    *at += strspn(*at, " ");
    size_t length = strcspn(*at, " ");
    if (!length)
        return 0;
    snprintf(word, WORD, "%.*s", (int)length, *at);
    *at += length;
    return 1;
}

const char *ht_preset_word(const char *text) {
    for (size_t i = 0; i < PRESETS; i++)
        if (ht_word_equal(presets[i].name, text))
            return presets[i].name;
    return NULL;
}

const ht_preset *ht_preset_find(const char *name, const ht_scheme *scheme) {
    char glob[WORD];
    for (size_t i = 0; i < PRESETS; i++) {
        if (!ht_word_equal(presets[i].name, name))
            continue;
        for (const char *at = presets[i].scheme; next_word(&at, glob);)
            if (ht_glob_match(glob, scheme->name))
                return &presets[i];
    }
    return NULL;
}

ht_status ht_preset_apply(const ht_preset *preset, ht_chain *chain, ht_settings *settings, ht_rule_options *options) {
    ht_settings own = ht_settings_unset();
    ht_rule_options own_options = ht_rule_options_unset();
    char word[WORD];
    HT_TRY(ht_chain_parse(preset->method, chain));
    for (const char *at = preset->set; next_word(&at, word);) {
        char *value = strchr(word, '=');
        *value++ = '\0'; /* the table is ours */
        if (ht_settings_knows(word))
            HT_TRY(ht_settings_set(&own, chain->name, word, value));
        else
            HT_TRY(ht_rule_options_set(&own_options, word, value));
    }
    *settings = ht_settings_merge(settings, &own);
    *options = ht_rule_options_merge(options, &own_options);
    return HT_OK;
}

ht_status ht_preset_calibrate(const ht_preset *preset, ht_calibration_options *calibration) {
    ht_calibration_options own = {0};
    char word[WORD];
    for (const char *at = preset->calibration; next_word(&at, word);) {
        char *value = strchr(word, '=');
        *value++ = '\0'; /* the table is ours */
        HT_TRY(ht_calibration_set(&own, word, value));
    }
    if (!calibration->mode)
        calibration->mode = own.mode;
    if (!calibration->held_out)
        calibration->held_out = own.held_out;
    return HT_OK;
}

int ht_preset_list(size_t index, ht_preset_info *out) {
    if (index >= PRESETS)
        return 0;
    const ht_preset *preset = &presets[index];
    *out = (ht_preset_info){.name = preset->name,
                            .schemes = preset->scheme,
                            .method = preset->method,
                            .set = preset->set,
                            .calibration = preset->calibration};
    return 1;
}
