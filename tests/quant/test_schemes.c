/* Scheme names: canonical, aliases, patterns, mistakes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/recipe.h>

#include <stdio.h>
#include <string.h>

#include "support/check.h"

static const struct {
    const char *asked, *name, *weight, *input;
} cases[] = {
    {"mxfp4", "mxfp4", "mxfp4", "mxfp4"},
    {"MXFP4", "mxfp4", "mxfp4", "mxfp4"},
    {"MXFP4A16", "mxfp4-w", "mxfp4", ""},
    {"mxfp4_w", "mxfp4-w", "mxfp4", ""},
    {"mxfp8", "mxfp8", "mxfp8", "mxfp8"},
    {"mxfp6-e2m3-w", "mxfp6-e2m3-w", "mxfp6_e2m3", ""},
    {"mxfp4-a8", "mxfp4-a8", "mxfp4", "mxfp8"},
    {"NVFP4A16", "nvfp4-w", "nvfp4", ""},
    {"nvfp4", "nvfp4", "nvfp4", "nvfp4"},
    {"FP8_DYNAMIC", "fp8", "fp8_row", "fp8_row"},
    {"FP8", "fp8", "fp8_row", "fp8_row"},
    {"fp8-tensor", "fp8-tensor", "fp8_tensor", "fp8_tensor"},
    {"fp8-w", "fp8-w", "fp8_row", ""},
    {"W8A8", "int8", "int8_row", "int8_token"},
    {"int8", "int8", "int8_row", "int8_token"},
    {"W8A16", "int8-w", "int8_row", ""},
    {"int8-row", "int8-w", "int8_row", ""},
    {"int8-g32", "int8-g32", "int8_g32", ""},
    {"int8-g32-a8", "int8-g32-a8", "int8_g32", "int8_token"},
    {"int8-asym", "int8-asym", "int8_row_asym", ""},
    {"W4A16", "int4", "int4_g128", ""},
    {"int4", "int4", "int4_g128", ""},
    {"INT4_G128", "int4", "int4_g128", ""},
    {"int4-w", "int4", "int4_g128", ""},
    {"W4A16_ASYM", "int4-asym", "int4_g128_asym", ""},
    {"int4-g32", "int4-g32", "int4_g32", ""},
    {"int4-row", "int4-row", "int4_row", ""},
    {"int4-g32-asym", "int4-g32-asym", "int4_g32_asym", ""},
    {"W4A8", "int4-a8", "int4_g128", "int8_token"},
    {"int4-g32-float0", "int4-g32-float0", "int4_g32_float0", ""},
    {"nf4-flat", "nf4-flat", "nf4_flat", ""},
    {"int3-g64-asym-a8", "int3-g64-asym-a8", "int3_g64_asym", "int8_token"},
    {"int1-g256", "int1-g256", "int1_g256", ""},
    {"nf4", "nf4", "nf4", ""},
    {"Q4_K", "q4_k", "q4_k", ""},
};

static void check_format(const ht_format *got, const char *want) {
    ht_format format;
    char name[64];
    if (!CHECK_OK(ht_format_parse(want, &format)) || ht_format_equal(got, &format))
        return;
    ht_format_name(got, name, sizeof name);
    CHECK_TEXT(name, want);
}

static void test_names(void) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ht_scheme scheme;
        if (!CHECK_OK(ht_scheme_parse(cases[i].asked, &scheme)))
            continue;
        CHECK_TEXT(scheme.name, cases[i].name);
        check_format(&scheme.weight, cases[i].weight);
        CHECK_INT(scheme.has_input, *cases[i].input != '\0');
        if (scheme.has_input)
            check_format(&scheme.input, cases[i].input);
    }
}

/* A canonical name means itself: parsing it again changes nothing. */
static void test_canonical(void) {
    static const char *const groups[] = {"", "-row", "-g16", "-g32", "-g128", "-g256"};
    static const char *const tails[] = {"", "-w", "-asym", "-a8", "-asym-a8", "-float0"};
    for (int bits = 1; bits <= 8; bits++)
        for (size_t g = 0; g < sizeof groups / sizeof *groups; g++)
            for (size_t t = 0; t < sizeof tails / sizeof *tails; t++) {
                char name[64];
                ht_scheme first, again;
                snprintf(name, sizeof name, "int%d%s%s", bits, groups[g], tails[t]);
                if (!CHECK_OK(ht_scheme_parse(name, &first)) || !CHECK_OK(ht_scheme_parse(first.name, &again)))
                    continue;
                CHECK_TEXT(again.name, first.name);
                CHECK(ht_format_equal(&again.weight, &first.weight));
                CHECK_INT(again.has_input, first.has_input);
            }
}

/* Everything the list shows can be parsed, under every alias, except the pattern. */
static void test_list(void) {
    const ht_list_item *item;
    size_t count = 0;
    for (size_t i = 0; (item = ht_scheme_list(i)); i++) {
        CHECK(*item->summary);
        if (strchr(item->name, '<'))
            continue;
        ht_scheme scheme, alias;
        if (!CHECK_OK(ht_scheme_parse(item->name, &scheme)))
            continue;
        CHECK_TEXT(scheme.name, item->name);
        count++;
        char words[128];
        snprintf(words, sizeof words, "%s", item->aliases);
        for (char *word = strtok(words, " "); word; word = strtok(NULL, " "))
            if (CHECK_OK(ht_scheme_parse(word, &alias)))
                CHECK_TEXT(alias.name, scheme.name);
    }
    CHECK(count > 20);
}

static void test_inputs(void) {
    ht_scheme scheme;
    REQUIRE_OK(ht_scheme_parse("fp8-block", &scheme));
    CHECK_INT(scheme.weight.block_rows, 128);
    CHECK_INT(scheme.weight.block_cols, 128);
    CHECK_INT(scheme.input.block_rows, 1);
    CHECK_INT(scheme.input.block_cols, 128);
    REQUIRE_OK(ht_scheme_parse("mxfp4", &scheme));
    CHECK_INT(scheme.input_rule, HT_SCALE_RCEIL);
}

static void test_mistakes(void) {
    static const char *const wrong[] = {
        "",          "int",       "int0",          "int9",         "int4-g",   "int4-g8",
        "int4-g257", "int4-g012", "int4-g32-",     "int4-g32-sym", "int4-a16", "fp9",
        "int04",     "int4 ",     "int4-asym-w-w", "int4-a8-asym", "mxfp4-",   "-"};
    ht_scheme scheme;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        if (!CHECK_FAILS(ht_scheme_parse(wrong[i], &scheme), HT_ERR_ARGUMENT))
            CHECK_TEXT(wrong[i], "(refused)");
        CHECK_CONTAINS(ht_error_message(), "nearest");
    }
    CHECK_FAILS(ht_scheme_parse("mxpf4", &scheme), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "the nearest is mxfp4 ");
    char longer[4000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = '\0';
    CHECK_FAILS(ht_scheme_parse(longer, &scheme), HT_ERR_ARGUMENT);
    CHECK(strlen(ht_error_message()) < 400);
}

int main(void) {
    RUN(test_names);
    RUN(test_canonical);
    RUN(test_list);
    RUN(test_inputs);
    RUN(test_mistakes);
    return check_finish();
}
