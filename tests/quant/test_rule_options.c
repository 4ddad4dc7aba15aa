/* Rule options: names, values, what means something for which scheme, precedence.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/rule_options.h"

#include "support/check.h"

static void test_set(void) {
    ht_rule_options options = ht_rule_options_unset();
    CHECK_OK(ht_rule_options_set(&options, "scale_rule", "EVEN"));
    CHECK_INT(options.value[HT_OPTION_SCALE_RULE], HT_SCALE_EVEN);
    CHECK_OK(ht_rule_options_set(&options, "int_rule", "no_clip"));
    CHECK_INT(options.value[HT_OPTION_INT_RULE], HT_INT_NO_CLIP);
    CHECK_FAILS(ht_rule_options_set(&options, "scale-rule", "even"), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "the nearest is scale_rule");
    CHECK_FAILS(ht_rule_options_set(&options, "scale_dtype", "f16"), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "allowed: f32, bf16");
    for (int i = 0; i < HT_OPTION_COUNT; i++)
        CHECK(ht_option_name((ht_option)i) != NULL);
    CHECK_TEXT(ht_option_value_name(HT_OPTION_SCALE_RULE, HT_SCALE_MSE), "mse");
    CHECK(ht_option_value_name(HT_OPTION_SCALE_RULE, 77) == NULL);
}

static void test_merge(void) {
    ht_rule_options first = ht_rule_options_unset(), second = ht_rule_options_unset();
    ht_rule_options_set(&first, "scale_rule", "floor");
    ht_rule_options_set(&second, "scale_rule", "mse");
    ht_rule_options_set(&second, "nan", "keep");
    ht_rule_options merged = ht_rule_options_merge(&first, &second);
    CHECK_INT(merged.value[HT_OPTION_SCALE_RULE], HT_SCALE_FLOOR);
    CHECK_INT(merged.value[HT_OPTION_NAN], HT_NAN_KEEP);
    CHECK_INT(merged.value[HT_OPTION_INT_RULE], HT_OPTION_UNSET);
}

/* A default that means nothing for a scheme leaves it as it is; one that does, changes it. */
static void test_apply(void) {
    ht_scheme scheme;
    ht_row_options row, usual = ht_row_options_default();
    ht_rule_options options = ht_rule_options_unset();
    ht_rule_options_set(&options, "scale_rule", "floor");
    ht_rule_options_set(&options, "scale_dtype", "bf16");
    ht_rule_options_set(&options, "input_rule", "even");
    REQUIRE_OK(ht_scheme_parse("int4", &scheme));
    ht_rule_options_apply(&options, &scheme, &row);
    CHECK_INT(row.scale_rule, usual.scale_rule);
    CHECK_INT(scheme.weight.scale, HT_BF16);
    REQUIRE_OK(ht_scheme_parse("mxfp4", &scheme));
    ht_rule_options_apply(&options, &scheme, &row);
    CHECK_INT(row.scale_rule, HT_SCALE_FLOOR);
    CHECK_INT(scheme.weight.scale, HT_E8M0);
    CHECK_INT(scheme.input_rule, HT_SCALE_EVEN);
}

static void test_check(void) {
    ht_scheme scheme;
    ht_rule_options options = ht_rule_options_unset();
    REQUIRE_OK(ht_scheme_parse("nvfp4-w", &scheme));
    CHECK_OK(ht_rule_options_check(&options, &scheme));
    ht_rule_options_set(&options, "nvfp4_rule", "training");
    ht_rule_options_set(&options, "scale_rule", "mse");
    CHECK_OK(ht_rule_options_check(&options, &scheme));
    ht_rule_options_set(&options, "scale_rule", "even");
    CHECK_FAILS(ht_rule_options_check(&options, &scheme), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "scale_rule even means nothing for scheme nvfp4-w, which takes: mse");
}

int main(void) {
    RUN(test_set);
    RUN(test_merge);
    RUN(test_apply);
    RUN(test_check);
    return check_finish();
}
