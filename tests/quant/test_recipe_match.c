/* Patterns against names; rules against the tensors of a checkpoint.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/recipe/recipe_rules.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

static ht_context *ctx;

static const struct {
    const char *glob, *text;
    int fits;
} globs[] = {
    {"a.b", "a.b", 1},
    {"a.b", "a.bc", 0},
    {"a.b", "xa.b", 0},
    {"*", "abc", 1},
    {"*", "a.b", 0},
    {"**", "a.b", 1},
    {"**", "", 1},
    {"*", "", 1},
    {"**.q_proj.weight", "model.layers.0.self_attn.q_proj.weight", 1},
    {"**.q_proj.weight", "q_proj.weight", 0},
    {"**q_proj.weight", "q_proj.weight", 1},
    {"model.layers.*.mlp.*.weight", "model.layers.11.mlp.up_proj.weight", 1},
    {"model.layers.*.mlp.*.weight", "model.layers.11.mlp.experts.0.up_proj.weight", 0},
    {"model.layers.[0-3].**", "model.layers.2.mlp.up_proj.weight", 1},
    {"model.layers.[0-3].**", "model.layers.4.mlp.up_proj.weight", 0},
    {"model.layers.[!0-3].**", "model.layers.4.mlp.up_proj.weight", 1},
    {"model.layers.1?.**", "model.layers.12.mlp.up_proj.weight", 1},
    {"a?b", "a.b", 0},
    {"a[!x]b", "a.b", 0},
    {"a[.]b", "a.b", 0},
    {"[]a]", "]", 1},
    {"[!]]", "]", 0},
    {"[a-]", "-", 1},
    {"a*b*c", "aXbXbYc", 1},
    {"a**b*c", "a.x.bxc.b.bxc", 1},
    {"**.experts.*.w[13].weight", "model.layers.0.block_sparse_moe.experts.7.w3.weight", 1},
    {"**.experts.*.w[13].weight", "model.layers.0.block_sparse_moe.experts.7.w2.weight", 0},
};

static void test_globs(void) {
    for (size_t i = 0; i < sizeof globs / sizeof *globs; i++)
        if (!CHECK_INT(ht_glob_match(globs[i].glob, globs[i].text), globs[i].fits))
            CHECK_TEXT(globs[i].glob, globs[i].text);
}

/* The obvious definition, exponential in stars. */
static int slow_match(const char *glob, const char *text) {
    if (!*glob)
        return !*text;
    if (glob[0] == '*' && glob[1] == '*')
        return slow_match(glob + 2, text) || (*text && slow_match(glob, text + 1));
    if (*glob == '*')
        return slow_match(glob + 1, text) || (*text && *text != '.' && slow_match(glob, text + 1));
    if (*glob == '?')
        return *text && *text != '.' && slow_match(glob + 1, text + 1);
    return *glob == *text && slow_match(glob + 1, text + 1);
}

static void random_text(uint64_t stream, const char *letters, size_t most, char *out) {
    size_t length = ht_random_u32(7, stream, 0) % (most + 1), count = strlen(letters);
    for (size_t i = 0; i < length; i++)
        out[i] = letters[ht_random_u32(7, stream, i + 1) % count];
    out[length] = '\0';
}

static void test_globs_random(void) {
    size_t fits = 0, total = 200000;
    for (size_t i = 0; i < total; i++) {
        char glob[16], text[16];
        random_text(2 * i, "ab.**?", 7, glob);
        random_text(2 * i + 1, "ab.", 9, text);
        int want = slow_match(glob, text);
        fits += (size_t)want;
        if (!CHECK_INT(ht_glob_match(glob, text), want)) {
            CHECK_TEXT(glob, text);
            return;
        }
    }
    CHECK(fits > total / 100);
}

/* A name of a thousand parts against many stars must not take exponential time. */
static void test_globs_hostile(void) {
    char text[3000], glob[200] = "";
    for (size_t i = 0; i + 1 < sizeof text; i++)
        text[i] = i % 3 == 2 ? '.' : 'a';
    text[sizeof text - 1] = '\0';
    for (size_t i = 0; i < 30; i++)
        strcat(glob, "**a*");
    strcat(glob, "b");
    CHECK_INT(ht_glob_match(glob, text), 0);
}

static ht_checkpoint *open_tiny(const char *name) {
    ht_checkpoint *checkpoint = NULL;
    char relative[64];
    snprintf(relative, sizeof relative, "tiny/%s", name);
    CHECK_OK(ht_checkpoint_open(ctx, check_data(relative), &checkpoint));
    return checkpoint;
}

/* Apply a recipe; the place of the deciding rule of every parameter is compared with `rule_of`. */
static ht_status apply(const ht_checkpoint *checkpoint, const char *yaml, const ht_rule **rules, ht_recipe **recipe) {
    ht_class classes[1024];
    size_t count = ht_checkpoint_parameter_count(checkpoint);
    *recipe = NULL;
    if (!CHECK(count <= 1024) || !CHECK_OK(ht_recipe_parse(ctx, yaml, strlen(yaml), recipe)))
        return HT_ERR_ARGUMENT;
    for (size_t i = 0; i < count; i++)
        classes[i] = ht_classify(checkpoint, ht_checkpoint_parameter(checkpoint, i));
    return ht_recipe_apply(*recipe, checkpoint, classes, rules);
}

static const char *rule_of(const ht_checkpoint *checkpoint, const ht_rule **rules, const char *name) {
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++)
        if (strcmp(ht_checkpoint_parameter(checkpoint, i)->name, name) == 0)
            return !rules[i] ? "none" : rules[i]->keep ? "keep" : rules[i]->scheme.name;
    return "no such tensor";
}

static void test_order(void) {
    ht_checkpoint *checkpoint = open_tiny("qwen3-moe");
    REQUIRE(checkpoint != NULL);
    const ht_rule *rules[1024];
    ht_recipe *recipe;
    CHECK_OK(apply(checkpoint,
                   "version: 1\n"
                   "rules:\n"
                   "  - {match: \"model.layers.0.self_attn.o_proj\", keep: true}\n" /* by module */
                   "  - {match: \"re:.*layers\\\\.1\\\\..*_proj\\\\.weight\", scheme: mxfp8-w}\n"
                   "  - {match: router, scheme: int8-w}\n"
                   "  - {match: [expert, lm_head], scheme: int4-g32}\n"
                   "preset: mxfp4-w\n",
                   rules, &recipe));
    CHECK_TEXT(rule_of(checkpoint, rules, "model.layers.0.self_attn.o_proj.weight"), "keep");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.layers.1.self_attn.o_proj.weight"), "mxfp8-w");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.layers.1.mlp.experts.0.up_proj.weight"), "mxfp8-w");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.layers.0.mlp.experts.0.up_proj.weight"), "int4-g32");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.layers.0.mlp.gate.weight"), "int8-w");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.layers.0.self_attn.q_proj.weight"), "mxfp4-w");
    CHECK_TEXT(rule_of(checkpoint, rules, "lm_head.weight"), "int4-g32");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.embed_tokens.weight"), "none");
    CHECK_TEXT(rule_of(checkpoint, rules, "model.norm.weight"), "none");
    ht_recipe_close(recipe);
    ht_checkpoint_close(checkpoint);
}

static const struct {
    const char *yaml, *message;
} nothing[] = {
    {"version: 1\nrules:\n  - {match: \"model.layers.0.self_attn.q_prj.weight\", scheme: mxfp4}\n",
     "recipe:3:5: pattern \"model.layers.0.self_attn.q_prj.weight\" matches none of the"},
    {"version: 1\nrules:\n  - {match: [linear, \"*.q_proj\"], scheme: mxfp4}\n", "pattern \"*.q_proj\" matches none"},
    {"version: 1\nrules:\n  - {match: expert, scheme: mxfp4}\n", "class \"expert\" matches none"},
    {"version: 1\nrules:\n  - {match: linear, scheme: mxfp4}\n  - {match: \"**.q_proj\", scheme: mxfp8}\n",
     "recipe:4:5: the rule decides nothing: every tensor it matches is taken by an earlier rule, the first by the rule "
     "at recipe:3:5"},
    {"version: 1\nrules:\n  - {match: [router, expert], keep: true}\npreset: mxfp4\n", "matches none"},
    {"version: 1\nrules:\n  - {match: \"re:((.)+)+((.)+)+[!?]\", scheme: mxfp4}\n", "match limit exceeded"},
};

static void test_nothing(void) {
    ht_checkpoint *checkpoint = open_tiny("llama");
    REQUIRE(checkpoint != NULL);
    for (size_t i = 0; i < sizeof nothing / sizeof *nothing; i++) {
        const ht_rule *rules[1024];
        ht_recipe *recipe;
        CHECK_FAILS(apply(checkpoint, nothing[i].yaml, rules, &recipe), HT_ERR_ARGUMENT);
        CHECK_CONTAINS(ht_error_message(), nothing[i].message);
        ht_recipe_close(recipe);
    }
    ht_checkpoint_close(checkpoint);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    size_t before = ht_context_memory_used(ctx);
    RUN(test_globs);
    RUN(test_globs_random);
    RUN(test_globs_hostile);
    RUN(test_order);
    RUN(test_nothing);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
    return check_finish();
}
