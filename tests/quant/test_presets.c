/* Presets: every scheme has one of each name, it is what the table says, and what a user sets wins.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/presets.h"

#include <stdio.h>
#include <string.h>

#include "quant/recipe/recipe_rules.h"
#include "support/check.h"

static ht_context *ctx;

static void check_scheme(const char *scheme, const char *name) {
    ht_recipe *recipe;
    ht_scheme parsed;
    if (!CHECK_OK(ht_recipe_for_scheme(ctx, scheme, name, &recipe)) || !CHECK_OK(ht_scheme_parse(scheme, &parsed)))
        return;
    const ht_preset *preset = ht_preset_find(name, &parsed);
    CHECK(preset != NULL);
    CHECK_TEXT(recipe->rule[0].chain.name, preset->method);
    CHECK_CONTAINS(recipe->text, preset->method); /* the record says what was done, not what it was called */
    CHECK(strncmp(recipe->text, "# method ", 9) == 0);
    ht_recipe_close(recipe);
    char yaml[128];
    snprintf(yaml, sizeof yaml, "version: 1\nmethod: %s\npreset: %s\n", name, scheme);
    if (!CHECK_OK(ht_recipe_parse(ctx, yaml, strlen(yaml), &recipe)))
        return;
    CHECK_TEXT(recipe->rule[0].chain.name, preset->method);
    CHECK_CONTAINS(recipe->presets, preset->method);
    ht_recipe_close(recipe);
}

static void test_every_scheme(void) {
    const ht_list_item *item;
    for (size_t i = 0; (item = ht_scheme_list(i)); i++) {
        if (strchr(item->name, '<'))
            continue;
        check_scheme(item->name, "best");
        check_scheme(item->name, "fast");
    }
    check_scheme("int4-g32-asym", "best");
    check_scheme("int3-row", "fast");
    check_scheme("int2-g64-a8", "Best");
}

/* Both ways of naming a preset end in the same settings. */
static void test_same_settings(void) {
    ht_preset_info row;
    for (size_t i = 0; ht_preset_list(i, &row); i++) {
        CHECK(ht_preset_word(row.name) != NULL);
    }
    ht_recipe *line, *file;
    static const char yaml[] = "version: 1\nmethod: best\npreset: mxfp4-w\n";
    REQUIRE_OK(ht_recipe_for_scheme(ctx, "mxfp4-w", "best", &line));
    CHECK(line->calibration.held_out > 0);
    REQUIRE_OK(ht_recipe_parse(ctx, yaml, strlen(yaml), &file));
    for (size_t i = 0; i < HT_SETTING_COUNT; i++) {
        double a = line->rule[0].settings.value[i], b = file->rule[0].settings.value[i];
        CHECK(a == b || (a != a && b != b));
    }
    CHECK(memcmp(&line->rule[0].options, &file->rule[0].options, sizeof line->rule[0].options) == 0);
    CHECK_INT(line->calibration.mode, file->calibration.mode);
    CHECK_INT(line->calibration.held_out, file->calibration.held_out);
    ht_recipe_close(line);
    ht_recipe_close(file);
}

static void test_user_wins(void) {
    static const char *const set[] = {"hessian=float", "damp=0.25", NULL};
    static const char yaml[] = "version: 1\n"
                               "options: {damp: 0.25}\n"
                               "calibration: {mode: non-sequential, held_out: 3}\n"
                               "rules:\n"
                               "  - match: linear\n"
                               "    scheme: mxfp4\n"
                               "    method: best\n"
                               "    options: {hessian: float}\n";
    ht_recipe *recipe;
    REQUIRE_OK(ht_recipe_for_settings(ctx, "mxfp4", "best", set, &recipe));
    CHECK_NEAR(recipe->rule[0].settings.value[HT_SETTING_HESSIAN], HT_HESSIAN_FLOAT, 0);
    CHECK_NEAR(recipe->rule[0].settings.value[HT_SETTING_DAMP], 0.25, 0);
    ht_recipe_close(recipe);
    REQUIRE_OK(ht_recipe_parse(ctx, yaml, strlen(yaml), &recipe));
    ht_settings settings = ht_settings_merge(&recipe->rule[0].settings, &recipe->settings);
    CHECK_NEAR(settings.value[HT_SETTING_HESSIAN], HT_HESSIAN_FLOAT, 0);
    CHECK_NEAR(settings.value[HT_SETTING_DAMP], 0.25, 0);
    CHECK_INT(recipe->calibration.mode, HT_CALIBRATE_NON_SEQUENTIAL);
    CHECK_INT(recipe->calibration.held_out, 3);
    ht_recipe_close(recipe);
}

static void test_refused(void) {
    static const char *const set[] = {"norm=0.5", NULL};
    ht_recipe *recipe;
    CHECK_FAILS(ht_recipe_for_scheme(ctx, "mxfp4", "bset", &recipe), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "the nearest is best");
    CHECK_FAILS(ht_recipe_for_scheme(ctx, "mxfp4", "smooth+best", &recipe), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_recipe_for_settings(ctx, "mxfp4", "best", set, &recipe), HT_ERR_ARGUMENT);
    CHECK(ht_preset_word("gptq") == NULL);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_every_scheme);
    RUN(test_same_settings);
    RUN(test_user_wins);
    RUN(test_refused);
    ht_context_destroy(ctx);
    return check_finish();
}
