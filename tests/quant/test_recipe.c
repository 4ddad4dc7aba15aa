/* Recipes from YAML: what is read, and what is refused with file, line, column and what is allowed.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/recipe.h>

#include <stdio.h>
#include <string.h>

#include "quant/recipe/recipe_rules.h"
#include "support/check.h"

static ht_context *ctx;

static ht_status parse(const char *yaml, ht_recipe **out) {
    return ht_recipe_parse(ctx, yaml, strlen(yaml), out);
}

static void test_everything(void) {
    ht_recipe *recipe;
    REQUIRE_OK(parse("version: 1\n"
                     "profile: compressed-tensors\n"
                     "allow_mixed_groups: true\n"
                     "options: {scale_rule: floor, nan: keep}\n"
                     "rules:\n"
                     "  - match: \"re:.*lm_head.*\"\n"
                     "    keep: true\n"
                     "  - match: [\"**.q_proj.weight\", linear]\n"
                     "    scheme: W4A16\n"
                     "    method: RTN\n"
                     "    options: {scale_rule: mse, scale_dtype: bf16}\n"
                     "preset: mxfp4\n",
                     &recipe));
    CHECK_TEXT(recipe->profile, "compressed-tensors");
    CHECK_INT(recipe->allow_mixed_groups, 1);
    CHECK_INT(recipe->options.value[HT_OPTION_SCALE_RULE], HT_SCALE_FLOOR);
    CHECK_INT(recipe->options.value[HT_OPTION_NAN], HT_NAN_KEEP);
    CHECK_INT(recipe->options.value[HT_OPTION_INT_RULE], HT_OPTION_UNSET);
    CHECK_INT(recipe->count, 3);
    CHECK_INT(recipe->patterns, 4);
    const ht_rule *rule = recipe->rule;
    CHECK(rule[0].keep && !rule[1].keep && !rule[0].preset && rule[2].preset);
    CHECK_TEXT(rule[0].place, "recipe:6:5");
    CHECK(rule[0].pattern[0].code != NULL);
    CHECK_INT(rule[1].count, 2);
    CHECK_TEXT(rule[1].scheme.name, "int4");
    CHECK_INT(rule[1].options.value[HT_OPTION_SCALE_RULE], HT_SCALE_MSE);
    CHECK_INT(rule[1].options.value[HT_OPTION_SCALE_DTYPE], HT_BF16);
    CHECK_TEXT(rule[2].scheme.name, "mxfp4");
    CHECK_TEXT(rule[2].method->item.name, "rtn");
    ht_recipe_close(recipe);
}

static void test_scheme(void) {
    ht_recipe *recipe;
    REQUIRE_OK(ht_recipe_for_scheme(ctx, "MXFP4A16", NULL, &recipe));
    CHECK_INT(recipe->count, 1);
    CHECK_TEXT(recipe->rule[0].scheme.name, "mxfp4-w");
    CHECK_TEXT(recipe->rule[0].pattern[0].text, "linear");
    ht_recipe_close(recipe);
    CHECK_FAILS(ht_recipe_for_scheme(ctx, "mxfp5", NULL, &recipe), HT_ERR_ARGUMENT);
    CHECK(recipe == NULL);
    CHECK_FAILS(ht_recipe_for_scheme(ctx, "mxfp4", "rnt", &recipe), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "the nearest is rtn");
}

#define RULE(body) "version: 1\nrules:\n  - " body "\n"

static const struct {
    const char *yaml, *place, *message;
} refused[] = {
    {"", "recipe: ", "empty"},
    {"# nothing\n", "recipe: ", "empty"},
    {"version: 1\n", "recipe:1:1: ", "neither rules nor a preset"},
    {"preset: mxfp4\n", "recipe:1:1: ", "version is missing"},
    {"version: 2\npreset: mxfp4\n", "recipe:1:10: ", "reads version 1"},
    {"version: [1]\npreset: mxfp4\n", "recipe:1:10: ", "must be a word, not a list"},
    {"version: 1\nversion: 1\n", "recipe:2:1: ", "a second time; the first is on line 1"},
    {"version: 1\nrule: []\n", "recipe:2:1: ", "key \"rule\" is unknown; the nearest is rules; allowed: version,"},
    {"version: 1\nprofile: compresed-tensors\npreset: mxfp4\n", "recipe:2:10: ", "compressed-tensors"},
    {"version: 1\npreset: mxfp44\n", "recipe:2:9: ", "the nearest is mxfp4 "},
    {"version: 1\nallow_mixed_groups: yes\n", "recipe:2:21: ", "allowed: true, false"},
    {"version: 1\nmethod: gtpq\npreset: mxfp4\n", "recipe:2:9: ", "method \"gtpq\" is unknown"},
    {"version: 1\nrules: {}\n", "recipe:2:8: ", "rules must be a list"},
    {"version: 1\nrules: []\n", "recipe:1:1: ", "neither rules nor a preset"},
    {"version: 1\nrules: [mxfp4]\n", "recipe:2:9: ", "a rule must be a mapping"},
    {"- version: 1\n", "recipe:1:1: ", "a recipe must be a mapping"},
    {"version: 1\n? [a]\n: 1\n", "recipe:2:3: ", "a key must be a word"},
    {"version: 1\npreset: mxfp4\n---\nversion: 1\n", "recipe:4:1: ", "a second document"},
    {"version: 1\n\trules: []\n", "recipe:2:1: ", "not YAML"},
    {"version: 1\nrules: [*nobody]\n", "recipe:2:9: ", "not YAML"},
    {"version: \"1\\0\"\n", "recipe:1:10: ", "NUL"},
    {RULE("scheme: mxfp4"), "recipe:3:5: ", "no match"},
    {RULE("match: linear"), "recipe:3:5: ", "either scheme or keep: true"},
    {RULE("{match: linear, scheme: mxfp4, keep: true}"), "recipe:3:5: ", "not both"},
    {RULE("{match: linear, keep: false}"), "recipe:3:27: ", "keep: false says nothing"},
    {RULE("{match: linear, keep: true, options: {nan: keep}}"), "recipe:3:5: ", "has no options; nan is one"},
    {RULE("{match: linear, keep: true, method: rtn}"), "recipe:3:5: ", "has no method"},
    {RULE("{match: [], scheme: mxfp4}"), "recipe:3:13: ", "empty list"},
    {RULE("{match: \"\", scheme: mxfp4}"), "recipe:3:13: ", "empty name"},
    {RULE("{match: \"re:(\", scheme: mxfp4}"), "recipe:3:13: ", "missing closing parenthesis"},
    {RULE("{match: \"a[b\", scheme: mxfp4}"), "recipe:3:13: ", "opens a ["},
    {RULE("{match: linear, schme: mxfp4}"), "recipe:3:21: ", "the nearest is scheme; allowed: match, keep, scheme"},
    {RULE("{match: linear, scheme: {}}"), "recipe:3:29: ", "scheme must be a word, not a mapping"},
    {RULE("{match: linear, scheme: mxfp4, options: {scale_rul: mse}}"), "recipe:3:46: ", "the nearest is scale_rule"},
    {RULE("{match: linear, scheme: mxfp4, options: {scale_rule: best}}"),
     "recipe:3:46: ", "allowed: floor, rceil, ceil, even, mse"},
    {RULE("{match: linear, scheme: mxfp4, options: {nan: keep, nan: keep}}"), "recipe:3:57: ", "a second time"},
    {RULE("{match: linear, scheme: mxfp4, options: [nan]}"), "recipe:3:45: ", "options must be a mapping"},
    {RULE("{match: linear, scheme: int4, options: {scale_rule: even}}"),
     "recipe:3:5: ", "scale_rule even means nothing for scheme int4, which takes: mse"},
    {RULE("{match: linear, scheme: mxfp4, options: {scale_dtype: bf16}}"), "recipe:3:5: ", "has no such option"},
    {RULE("{match: linear, scheme: mxfp4-w, options: {input_rule: even}}"), "recipe:3:5: ", "has no such option"},
    {"version: 1\npreset: \xff\xfe\n", "recipe:", "not YAML"},
};

static void test_refused(void) {
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ht_recipe *recipe;
        ht_status status = parse(refused[i].yaml, &recipe);
        CHECK(recipe == NULL);
        if (!CHECK_INT(status, HT_ERR_CORRUPT))
            CHECK_TEXT(refused[i].yaml, "(refused)");
        CHECK_CONTAINS(ht_error_message(), refused[i].place);
        CHECK_CONTAINS(ht_error_message(), refused[i].message);
        CHECK(strncmp(ht_error_message(), refused[i].place, strlen(refused[i].place)) == 0);
    }
}

static void write_text(const char *path, const char *text, size_t bytes) {
    FILE *file = fopen(path, "wb");
    REQUIRE(file != NULL);
    fwrite(text, 1, bytes, file);
    fclose(file);
}

static void test_files(void) {
    char path[512];
    ht_recipe *recipe;
    snprintf(path, sizeof path, "%s/r.yaml", check_scratch());
    CHECK_FAILS(ht_recipe_open(ctx, path, &recipe), HT_ERR_IO);
    CHECK_CONTAINS(ht_error_message(), path);
    static const char good[] = "version: 1\npreset: mxfp8\n", bad[] = "version: 1\npreset: mxfp7\n";
    write_text(path, good, strlen(good));
    REQUIRE_OK(ht_recipe_open(ctx, path, &recipe));
    CHECK_TEXT(recipe->rule[0].scheme.name, "mxfp8");
    ht_recipe_close(recipe);
    write_text(path, bad, strlen(bad));
    CHECK_FAILS(ht_recipe_open(ctx, path, &recipe), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "r.yaml:2:9: ");
    static char huge[(1 << 20) + 2];
    memset(huge, '#', sizeof huge);
    write_text(path, huge, sizeof huge);
    CHECK_FAILS(ht_recipe_open(ctx, path, &recipe), HT_ERR_CORRUPT);
    CHECK_FAILS(ht_recipe_open(ctx, check_scratch(), &recipe), HT_ERR_IO);
    ht_recipe_close(NULL);
}

/* Aliases are one node each: a small file cannot grow. */
static void test_aliases(void) {
    ht_recipe *recipe;
    CHECK_OK(parse("version: 1\noptions: &o {nan: keep}\nrules:\n  - {match: linear, scheme: mxfp4, options: *o}\n",
                   &recipe));
    ht_recipe_close(recipe);
    CHECK_FAILS(parse("version: 1\nrules: &r\n  - *r\n", &recipe), HT_ERR_CORRUPT);
    CHECK_FAILS(parse("version: 1\na: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nrules: [*c]\n", &recipe), HT_ERR_CORRUPT);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    size_t before = ht_context_memory_used(ctx);
    RUN(test_everything);
    RUN(test_scheme);
    RUN(test_refused);
    RUN(test_files);
    RUN(test_aliases);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
    return check_finish();
}
