/* Settings of methods: names, limits, who knows what, precedence, and the way from the command line into a recipe.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/settings.h"

#include <math.h>
#include <string.h>

#include "quant/recipe/recipe_rules.h"
#include "support/check.h"

static void test_set(void) {
    ht_settings settings = ht_settings_unset();
    CHECK_OK(ht_settings_set(&settings, "gptq", "damp", "0.05"));
    CHECK(settings.value[HT_SETTING_DAMP] == 0.05);
    CHECK_OK(ht_settings_set(&settings, "gptq", "order", "Desc-Act"));
    CHECK_INT(settings.value[HT_SETTING_ORDER], HT_ORDER_DESC_ACT);
    CHECK_OK(ht_settings_set(&settings, NULL, "iterations", "7"));
    CHECK_INT(settings.value[HT_SETTING_ITERATIONS], 7);
    CHECK(isnan(settings.value[HT_SETTING_NORM]));
}

static void test_refused(void) {
    static const struct {
        const char *method, *name, *value, *message;
    } rows[] = {
        {"gptq", "dampp", "0.1", "the nearest is damp"},
        {"gptq", "damp", "-1", "allowed: a number from 0 to 1"},
        {"gptq", "damp", "nan", "allowed: a number"},
        {"gptq", "damp", "0x1p-3", "allowed: a number"},
        {"gptq", "damp", "", "allowed: a number"},
        {"gptq", "damp", "0.1 ", "allowed: a number"},
        {"gptq", "damp", "1e999", "allowed: a number"},
        {"gptq", "block", "1.5", "allowed: a whole number from 1 to 4096"},
        {"gptq", "order", "sideways", "allowed: none, static, gar, desc_act"},
        {"gptq", "alpha", "0.5", "alpha means nothing for method gptq, which takes: damp, block"},
        {"rtn", "damp", "0.5", "damp means nothing for method rtn, which has no settings"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ht_settings settings = ht_settings_unset();
        CHECK_FAILS(ht_settings_set(&settings, rows[i].method, rows[i].name, rows[i].value), HT_ERR_ARGUMENT);
        CHECK_CONTAINS(ht_error_message(), rows[i].message);
        for (size_t s = 0; s < HT_SETTING_COUNT; s++)
            CHECK(isnan(settings.value[s]));
    }
}

static void test_precedence(void) {
    ht_settings rule = ht_settings_unset(), recipe = ht_settings_unset();
    REQUIRE_OK(ht_settings_set(&rule, NULL, "damp", "0.2"));
    REQUIRE_OK(ht_settings_set(&recipe, NULL, "damp", "0.3"));
    REQUIRE_OK(ht_settings_set(&recipe, NULL, "norm", "0.5"));
    ht_settings said = ht_settings_merge(&rule, &recipe);
    ht_settings gptq = ht_settings_resolve(&said, "gptq"), usual = ht_settings_default("gptq");
    CHECK(gptq.value[HT_SETTING_DAMP] == 0.2);
    CHECK(gptq.value[HT_SETTING_NORM] == 0); /* not gptq's */
    CHECK(gptq.value[HT_SETTING_BLOCK] == usual.value[HT_SETTING_BLOCK]);
    CHECK(ht_settings_default("hqq").value[HT_SETTING_ITERATIONS] == 20);
    CHECK(ht_settings_default("autoround").value[HT_SETTING_ITERATIONS] == 100);
}

/* Joined methods know what any of them knows. */
static void test_joined(void) {
    ht_settings settings = ht_settings_unset();
    CHECK_OK(ht_settings_set(&settings, "smooth+gptq", "alpha", "0.25"));
    CHECK_OK(ht_settings_set(&settings, "smooth+gptq", "damp", "0.25"));
    CHECK_OK(ht_settings_check(&settings, "smooth+gptq"));
    CHECK_FAILS(ht_settings_check(&settings, "smooth+hqq"), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_settings_check(&settings, "gptq"), HT_ERR_ARGUMENT);
    CHECK(ht_settings_default("smooth+gptq").value[HT_SETTING_ALPHA] == 0.5);
    CHECK(ht_settings_default("smooth+gptq").value[HT_SETTING_DAMP] > 0);
}

/* Every row has a name, a summary, and a default that it would itself accept. */
static void test_table(void) {
    static const char *const methods[] = {"gptq", "smooth", "awq", "hqq", "sinq", "autoround"};
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
        ht_setting_info info;
        size_t count = 0;
        for (; ht_setting_list(methods[m], count, &info); count++) {
            ht_settings settings = ht_settings_unset();
            CHECK(strlen(info.summary) > 0);
            CHECK(ht_settings_knows(info.name));
            CHECK_OK(ht_settings_set(&settings, methods[m], info.name, info.standard));
        }
        CHECK(count > 0);
    }
    for (size_t i = 0; i < HT_SETTING_COUNT; i++)
        CHECK_TEXT(ht_setting_at(i), ht_setting_name((ht_setting)i));
    CHECK(ht_setting_at(HT_SETTING_COUNT) == NULL);
}

static void parse(const char *yaml, const char *message) {
    ht_context *ctx = NULL;
    ht_recipe *recipe = NULL;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    ht_status status = ht_recipe_parse(ctx, yaml, strlen(yaml), &recipe);
    CHECK_INT(status, HT_ERR_CORRUPT);
    if (status != HT_OK)
        CHECK_CONTAINS(ht_error_message(), message);
    ht_recipe_close(recipe);
    ht_context_destroy(ctx);
}

static void test_recipes(void) {
    parse("version: 1\nrules:\n- match: linear\n  scheme: int4\n  options: {damp: 0.1}\n",
          "recipe:3:3: damp means nothing for method rtn");
    parse("version: 1\npreset: int4\noptions: {damp: 0.1}\n", "damp means nothing for the method of any rule");
    parse("version: 1\npreset: int4\noptions: {damp: 2}\n", "recipe:3:11: damp is \"2\"; allowed: a number");
    parse("version: 1\npreset: int4\noptions: {dmp: 2}\n", "the nearest is damp");
    parse("version: 1\nrules:\n- {match: lm_head, keep: true, options: {damp: 0.1}}\npreset: int4\n",
          "a rule that keeps has no options; damp is one");
}

/* name=value of the command line becomes a recipe that says the same. */
static void test_command_line(void) {
    ht_context *ctx = NULL;
    ht_recipe *recipe = NULL;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    const char *good[] = {"int_rule=full", "scale_dtype=bf16", NULL};
    if (CHECK_OK(ht_recipe_for_settings(ctx, "int4", NULL, good, &recipe))) {
        CHECK_INT(recipe->rule[0].options.value[HT_OPTION_INT_RULE], HT_INT_FULL);
        CHECK_CONTAINS(recipe->text, "int_rule: \"full\"");
        ht_recipe_close(recipe);
    }
    static const struct {
        const char *set[3], *message;
    } rows[] = {
        {{"damp=0.1"}, "damp means nothing for method rtn"},
        {{"nvfp4_rule=training"}, "means nothing for scheme int4"},
        {{"int_rule"}, "not of the form name=value"},
        {{"=full"}, "not of the form name=value"},
        {{"int_rule="}, "not of the form name=value"},
        {{"int_rule=full}\nrules: []"}, "not of the form name=value"},
        {{"int_rule=full", "int_rule=no-clip"}, "given twice"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        CHECK_FAILS(ht_recipe_for_settings(ctx, "int4", "rtn", rows[i].set, &recipe), HT_ERR_ARGUMENT);
        CHECK_CONTAINS(ht_error_message(), rows[i].message);
        CHECK(recipe == NULL);
    }
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_set);
    RUN(test_refused);
    RUN(test_precedence);
    RUN(test_joined);
    RUN(test_table);
    RUN(test_recipes);
    RUN(test_command_line);
    return check_finish();
}
