/* The pages of this module say what the tables say: recipes in docs/recipes.md are read, options and schemes are all
 * there.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/recipe.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/classify.h"
#include "quant/recipe/rule_options.h"
#include "support/check.h"

static char *read_page(const char *name) {
    char relative[64];
    snprintf(relative, sizeof relative, "../../docs/%s", name);
    FILE *file = fopen(check_data(relative), "rb");
    char *text = calloc(1, 1 << 16);
    if (CHECK(file != NULL)) {
        CHECK(fread(text, 1, (1 << 16) - 1, file) > 0);
        fclose(file);
    }
    return text;
}

static void test_recipes(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    char *page = read_page("recipes.md");
    size_t count = 0;
    for (char *at = page; (at = strstr(at, "```yaml\n")); count++) {
        at += strlen("```yaml\n");
        char *end = strstr(at, "```");
        ht_recipe *recipe;
        if (!CHECK(end != NULL))
            break;
        CHECK_OK(ht_recipe_parse(ctx, at, (size_t)(end - at), &recipe));
        ht_recipe_close(recipe);
        at = end;
    }
    CHECK(count >= 4);
    for (int i = 0; i < HT_OPTION_COUNT; i++) {
        char word[64];
        snprintf(word, sizeof word, "| `%s` |", ht_option_name((ht_option)i));
        CHECK_CONTAINS(page, word);
    }
    for (size_t i = 0; ht_class_word_at(i); i++) {
        char word[64];
        snprintf(word, sizeof word, "`%s`", ht_class_word_at(i));
        CHECK_CONTAINS(page, word);
    }
    free(page);
    ht_context_destroy(ctx);
}

static void test_schemes(void) {
    char *page = read_page("schemes.md");
    const ht_list_item *item;
    size_t rows = 0;
    for (size_t i = 0; (item = ht_scheme_list(i)); i++) {
        char row[512];
        if (strchr(item->name, '<'))
            continue;
        snprintf(row, sizeof row, "| `%s` | %s | %s |\n", item->name, item->summary, item->aliases);
        CHECK_CONTAINS(page, row);
        rows++;
    }
    for (const char *at = page; (at = strstr(at, "\n| `")); at++)
        rows--;
    CHECK_INT(rows, -1); /* the pattern's row is the only other one */
    free(page);
}

/* Every method has a section with its settings. */
static void test_methods(void) {
    char *page = read_page("methods.md");
    const ht_list_item *item;
    for (size_t m = 0; (item = ht_method_list(m)); m++) {
        char title[64];
        snprintf(title, sizeof title, "\n## %s\n", item->name);
        const char *section = strstr(page, title);
        if (!CHECK_CONTAINS(page, title))
            continue;
        ht_setting_info info;
        for (size_t i = 0; ht_setting_list(item->name, i, &info); i++) {
            char row[96];
            snprintf(row, sizeof row, "| `%s` | `%s` |", info.name, info.standard);
            CHECK_CONTAINS(section, row);
        }
    }
    free(page);
}

int main(void) {
    RUN(test_recipes);
    RUN(test_methods);
    RUN(test_schemes);
    return check_finish();
}
