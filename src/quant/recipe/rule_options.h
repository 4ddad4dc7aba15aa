/* Options of a rule: one table of names, values and the formats they speak about. */
#ifndef HT_QUANT_RECIPE_RULE_OPTIONS_H
#define HT_QUANT_RECIPE_RULE_OPTIONS_H

#include <stddef.h>

#include <halftone/format.h>
#include <halftone/recipe.h>

typedef enum ht_option {
    HT_OPTION_SCALE_RULE,
    HT_OPTION_INPUT_RULE,
    HT_OPTION_INPUT_RANGE,
    HT_OPTION_SCALE_DTYPE,
    HT_OPTION_INT_RULE,
    HT_OPTION_NVFP4_RULE,
    HT_OPTION_POWER_OF_TWO,
    HT_OPTION_NAN,
    HT_OPTION_COUNT
} ht_option;

/* Values by option; HT_OPTION_UNSET = not said. */
enum { HT_OPTION_UNSET = -1, HT_NAN_FAIL = 0, HT_NAN_KEEP = 1 };
typedef struct ht_rule_options {
    int value[HT_OPTION_COUNT];
} ht_rule_options;

ht_rule_options ht_rule_options_unset(void);
/* What first says, else what second says. */
ht_rule_options ht_rule_options_merge(const ht_rule_options *first, const ht_rule_options *second);

/* Set one option by names. Fails with ARGUMENT: unknown option or value, with those that exist. */
ht_status ht_rule_options_set(ht_rule_options *options, const char *name, const char *value);
/* Text of an option's value; NULL when unset. */
const char *ht_option_value_name(ht_option option, int value);
const char *ht_option_name(ht_option option);

/* HT_OK when every option that is set means something for the scheme; else ARGUMENT, saying what it takes. */
ht_status ht_rule_options_check(const ht_rule_options *options, const ht_scheme *scheme);

/* The scheme and the encoder's options after the rule's have been applied. */
void ht_rule_options_apply(const ht_rule_options *options, ht_scheme *scheme, ht_row_options *row);

#endif
