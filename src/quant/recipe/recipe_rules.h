/* A recipe as parsed: ordered rules. Public part: halftone/recipe.h. */
#ifndef HT_QUANT_RECIPE_RECIPE_RULES_H
#define HT_QUANT_RECIPE_RECIPE_RULES_H

#include <stddef.h>

#include <halftone/checkpoint.h>
#include <halftone/quant.h>
#include <halftone/recipe.h>

#include "base/memory.h"
#include "quant/classify.h"
#include "quant/method/methods.h"
#include "quant/recipe/rule_options.h"
#include "quant/recipe/settings.h"

struct pcre2_real_code_8;

typedef struct ht_pattern {
    const char *text;
    unsigned classes;               /* for a class word; else 0 */
    struct pcre2_real_code_8 *code; /* for re:; else NULL */
    size_t number;                  /* among all patterns of the recipe */
} ht_pattern;

typedef struct ht_rule {
    const char *place; /* "recipe.yaml:12:5", for messages */
    ht_pattern *pattern;
    size_t count;
    int keep;
    int preset; /* comes from `preset:`; may find nothing left to decide */
    ht_scheme scheme;
    ht_chain chain;          /* name "": the recipe's default, until that is filled in */
    const ht_method *method; /* of the chain, the one that rounds */
    ht_rule_options options; /* the rule's own */
    ht_settings settings;    /* the rule's own; NaN = not said */
} ht_rule;

struct ht_recipe {
    ht_context *ctx;
    ht_arena arena;
    const char *source; /* file name, or what made it */
    const char *text;   /* the YAML */
    size_t text_bytes;
    const char *profile; /* NULL = not said */
    int allow_mixed_groups;
    ht_rule_options options; /* defaults for every rule */
    ht_settings settings;    /* likewise */
    ht_gates gates;
    ht_calibration_options calibration; /* data is always NULL: a text is the call's */
    ht_rule *rule;
    size_t count;
    size_t patterns;
    const char *presets; /* what presets stood for, a line a rule: "best of mxfp4-w: gptq gptaq=0.5\n"; "" without */
};

/* A recipe of this text; source stands before messages. Fails with CORRUPT, MEMORY. */
ht_status ht_recipe_create(ht_context *ctx, const char *source, const char *yaml, size_t bytes, ht_recipe **out);

/* Set a gate by its name. Fails with ARGUMENT: an unknown name, no number, a limit that cannot be. */
ht_status ht_gates_set(ht_gates *gates, const char *name, const char *value);

/* Compile a pattern of the language of docs/recipes.md. Fails with ARGUMENT: a broken regular expression or glob. */
ht_status ht_pattern_compile(const char *text, ht_pattern *out);
void ht_pattern_release(ht_pattern *pattern);
/* Does the glob fit the whole text? `*` and `?` and [..] stay inside a dotted part, `**` does not. */
int ht_glob_match(const char *glob, const char *text);

/* The rule that decides each parameter of the checkpoint, NULL where none does; out has a place for every parameter, as
 * has classes. Fails with ARGUMENT when a rule, or a name in it, matches nothing or decides nothing. */
ht_status ht_recipe_apply(const ht_recipe *recipe, const ht_checkpoint *checkpoint, const ht_class *classes,
                          const ht_rule **out);

#endif
