/* Methods joined by '+': which go together, in which order, and their names.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/methods.h"
#include "quant/recipe/recipe_rules.h"

#include <string.h>

#include "support/check.h"

static void test_names(void) {
    static const struct {
        const char *text, *name;
    } rows[] = {{"rtn", "rtn"},
                {"HQQ", "hqq"},
                {"rotate", "rotate+rtn"},
                {"Rotate+hqq", "rotate+hqq"},
                {"rotate+smooth+hqq", "rotate+smooth+hqq"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ht_chain chain;
        CHECK_OK(ht_chain_parse(rows[i].text, &chain));
        CHECK_TEXT(chain.name, rows[i].name);
        CHECK(chain.stage[HT_STAGE_ROUND] != NULL);
    }
}

static void test_refused(void) {
    static const struct {
        const char *text, *message;
    } rows[] = {{"", "unknown"},
                {"+", "unknown"},
                {"rotate+", "unknown"},
                {"rotat+rtn", "the nearest is rotate"},
                {"rtn+hqq", "methods rtn and hqq do not go together: each rounds"},
                {"smooth+awq", "methods smooth and awq do not go together: each scales inputs"},
                {"rotate+rotate", "do not go together: each rotates"},
                {"rtn+rotate", "method rotate rotates, which comes before rtn: write rotate+rtn"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ht_chain chain;
        CHECK_FAILS(ht_chain_parse(rows[i].text, &chain), HT_ERR_ARGUMENT);
        CHECK_CONTAINS(ht_error_message(), rows[i].message);
    }
}

static void test_accepts(void) {
    ht_chain chain;
    ht_scheme scheme;
    REQUIRE_OK(ht_chain_parse("rotate+hqq", &chain));
    REQUIRE_OK(ht_scheme_parse("int4", &scheme));
    CHECK_OK(ht_chain_accepts(&chain, &scheme));
    REQUIRE_OK(ht_scheme_parse("mxfp4", &scheme));
    CHECK_FAILS(ht_chain_accepts(&chain, &scheme), HT_ERR_UNSUPPORTED);
    CHECK(!ht_chain_needs_data(&chain));
    REQUIRE_OK(ht_chain_parse("smooth", &chain));
    CHECK(ht_chain_needs_data(&chain));
}

static void test_recipes(void) {
    static const char *const good[] = {"version: 1\npreset: int4\nmethod: rotate+hqq\n",
                                       "version: 1\npreset: int4\nmethod: [rotate, hqq]\n",
                                       "version: 1\nrules: [{match: linear, scheme: int4, method: [rotate, hqq]}]\n"};
    ht_context *ctx;
    ht_recipe *recipe;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        if (CHECK_OK(ht_recipe_parse(ctx, good[i], strlen(good[i]), &recipe))) {
            CHECK_TEXT(recipe->rule[0].chain.name, "rotate+hqq");
            CHECK_TEXT(recipe->rule[0].method->item.name, "hqq");
            ht_recipe_close(recipe);
        }
    const char *bad = "version: 1\npreset: int4\nmethod: [hqq, rotate]\n";
    CHECK_FAILS(ht_recipe_parse(ctx, bad, strlen(bad), &recipe), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "recipe:3:9: method rotate rotates, which comes before hqq");
    bad = "version: 1\npreset: int4\nmethod: []\n";
    CHECK_FAILS(ht_recipe_parse(ctx, bad, strlen(bad), &recipe), HT_ERR_CORRUPT);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_names);
    RUN(test_refused);
    RUN(test_accepts);
    RUN(test_recipes);
    return check_finish();
}
