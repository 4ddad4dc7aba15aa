/* Methods by what is wanted of them: `best` and `fast` stand, scheme by scheme, for a chain of methods, their settings
 * and how they are calibrated. */
#ifndef HT_QUANT_RECIPE_PRESETS_H
#define HT_QUANT_RECIPE_PRESETS_H

#include <stddef.h>

#include <halftone/recipe.h>

#include "quant/method/methods.h"
#include "quant/recipe/rule_options.h"
#include "quant/calibrate/samples.h"

typedef struct ht_preset {
    const char *name;        /* "best" or "fast" */
    const char *scheme;      /* globs of scheme names, separated by spaces */
    const char *method;      /* "smooth+gptq" */
    const char *set;         /* settings of the method and options of the scheme: "gptaq=0.5 input_rule=even" */
    const char *calibration; /* keys of a recipe's `calibration:`: "held_out=16"; "": the defaults */
} ht_preset;

/* Does this word name presets ("best")? The table's own spelling, else NULL. */
const char *ht_preset_word(const char *text);
/* The row of that name for the scheme: the first that fits; the last row of a name fits all. */
const ht_preset *ht_preset_find(const char *name, const ht_scheme *scheme);

/* Reads its method, and sets in settings and options what they do not say. */
ht_status ht_preset_apply(const ht_preset *preset, ht_chain *chain, ht_settings *settings, ht_rule_options *options);

/* Sets in `calibration` what it does not say. */
ht_status ht_preset_calibrate(const ht_preset *preset, ht_calibration_options *calibration);

#endif
