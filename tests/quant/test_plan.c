/* Plans: what is asked, what is had, why not; groups; sizes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "support/check.h"

static ht_context *ctx;

static ht_checkpoint *open_tiny(const char *name) {
    ht_checkpoint *checkpoint = NULL;
    char relative[64];
    snprintf(relative, sizeof relative, "tiny/%s", name);
    CHECK_OK(ht_checkpoint_open(ctx, check_data(relative), &checkpoint));
    return checkpoint;
}

static const char *write_recipe(const char *text) {
    static char path[512];
    static unsigned next;
    snprintf(path, sizeof path, "%s/recipe%u.yaml", check_scratch(), next++);
    FILE *file = fopen(path, "w");
    if (CHECK(file != NULL)) {
        fputs(text, file);
        fclose(file);
    }
    return path;
}

static ht_status plan_recipe(const char *model, const char *recipe, int strict, ht_plan **plan) {
    ht_checkpoint *checkpoint = open_tiny(model);
    ht_quantize_options options = ht_quantize_options_default();
    options.recipe_path = write_recipe(recipe);
    options.strict = strict;
    ht_status status = ht_plan_create(ctx, checkpoint, &options, plan);
    ht_checkpoint_close(checkpoint);
    return status;
}

static ht_status plan_scheme(const char *model, const char *scheme, int strict, ht_plan **plan) {
    ht_checkpoint *checkpoint = open_tiny(model);
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = scheme;
    options.strict = strict;
    ht_status status = ht_plan_create(ctx, checkpoint, &options, plan);
    ht_checkpoint_close(checkpoint);
    return status;
}

static const ht_plan_tensor *find(const ht_plan *plan, const char *name) {
    static const ht_plan_tensor none = {.name = "no such tensor", .asked = "", .got = "", .reason = ""};
    for (size_t i = 0; i < ht_plan_count(plan); i++)
        if (strcmp(ht_plan_at(plan, i)->name, name) == 0)
            return ht_plan_at(plan, i);
    return &none;
}

/* 48 columns do not hold blocks of 32: kept with the reason, or refused when strict. */
static void test_refused(void) {
    ht_plan *plan;
    REQUIRE_OK(plan_scheme("qwen3-moe", "mxfp4", 0, &plan));
    const ht_plan_tensor *down = find(plan, "model.layers.0.mlp.experts.0.down_proj.weight");
    CHECK_TEXT(down->asked, "mxfp4");
    CHECK_TEXT(down->got, "bf16");
    CHECK_CONTAINS(down->reason, "48");
    CHECK_INT(down->bytes_before, down->bytes_after);
    const ht_plan_tensor *up = find(plan, "model.layers.0.mlp.experts.0.up_proj.weight");
    CHECK_TEXT(up->got, "mxfp4");
    CHECK_TEXT(up->reason, "");
    CHECK_TEXT(up->method, "rtn");
    CHECK_INT(up->bytes_after, 48 * 64 / 2 + 48 * 64 / 32);
    CHECK(isnan(up->error));
    const ht_plan_tensor *router = find(plan, "model.layers.0.mlp.gate.weight");
    CHECK_TEXT(router->asked, "");
    CHECK_CONTAINS(router->reason, "router");
    CHECK_CONTAINS(find(plan, "lm_head.weight")->reason, "output head");
    CHECK_CONTAINS(find(plan, "model.embed_tokens.weight")->reason, "embedding");
    ht_plan_summary summary = ht_plan_summarize(plan);
    CHECK_INT(summary.refused, 8);
    CHECK_INT(summary.quantized + summary.kept + summary.refused, ht_plan_count(plan));
    CHECK_NEAR(summary.bits_per_weight, 4.25, 1e-12);
    CHECK(summary.peak_memory_bytes > 0 && summary.seconds > 0);
    ht_plan_destroy(plan);
    CHECK_FAILS(plan_scheme("qwen3-moe", "mxfp4", 1, &plan), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), "8 tensors cannot get what was asked (strict)");
    CHECK_CONTAINS(ht_error_message(), "down_proj.weight");
    CHECK(plan == NULL);
    CHECK_FAILS(plan_scheme("llama", "int4-g256", 0, &plan), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "none of the");
    CHECK_FAILS(plan_scheme("llama", "nf4", 0, &plan), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "compressed-tensors cannot hold nf4");
}

#define UNEQUAL "version: 1\n%srules:\n  - {match: \"**.layers.0.**.q_proj\", scheme: mxfp8}\npreset: mxfp4\n"

static void test_groups(void) {
    char recipe[256];
    ht_plan *plan;
    snprintf(recipe, sizeof recipe, UNEQUAL, "");
    CHECK_FAILS(plan_recipe("llama", recipe, 0, &plan), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "the fused group model.layers.0.self_attn.q/k/v gets unequal schemes: mxfp4 for "
                                       "model.layers.0.self_attn.k_proj.weight, mxfp8 for");
    snprintf(recipe, sizeof recipe, UNEQUAL, "allow_mixed_groups: true\n");
    REQUIRE_OK(plan_recipe("llama", recipe, 0, &plan));
    CHECK_TEXT(find(plan, "model.layers.0.self_attn.q_proj.weight")->got, "mxfp8");
    CHECK_TEXT(find(plan, "model.layers.0.self_attn.k_proj.weight")->got, "mxfp4");
    ht_plan_destroy(plan);
    CHECK_FAILS(plan_recipe("mixtral",
                            "version: 1\nrules:\n  - {match: \"**.experts.1.w1\", keep: true}\npreset: mxfp4\n", 0,
                            &plan),
                HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "experts.1.w1/w3 gets unequal schemes: keep for");
}

/* A member that cannot be had keeps the others of its group. */
static void test_kept_together(void) {
    static uint16_t x[64 * 64];
    char path[512];
    snprintf(path, sizeof path, "%s/odd.safetensors", check_scratch());
    const char *names[] = {"m.layers.0.mlp.down_proj.weight", "m.layers.0.mlp.gate_proj.weight",
                           "m.layers.0.mlp.up_proj.weight"};
    ht_tensor tensors[] = {ht_tensor_view_2d(x, HT_BF16, 64, 64), ht_tensor_view_2d(x, HT_I16, 64, 64),
                           ht_tensor_view_2d(x, HT_BF16, 64, 64)};
    REQUIRE_OK(ht_safetensors_save(ctx, path, names, tensors, 3, NULL));
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, path, &checkpoint));
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "mxfp4";
    ht_plan *plan;
    if (CHECK_OK(ht_plan_create(ctx, checkpoint, &options, &plan))) {
        CHECK_TEXT(find(plan, names[0])->got, "mxfp4");
        CHECK_TEXT(find(plan, names[1])->reason, "not bf16, f16 or f32");
        CHECK_TEXT(find(plan, names[2])->got, "bf16");
        CHECK_CONTAINS(find(plan, names[2])->reason, "gate_proj.weight, of the same fused group, is kept: not bf16");
        ht_plan_destroy(plan);
    }
    ht_checkpoint_close(checkpoint);
}

static void test_options(void) {
    ht_checkpoint *checkpoint = open_tiny("llama");
    ht_quantize_options options = ht_quantize_options_default();
    ht_plan *plan;
    options.scheme = "int8";
    options.scale_rule = HT_SCALE_EVEN;
    CHECK_FAILS(ht_plan_create(ctx, checkpoint, &options, &plan), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "scale_rule even means nothing for scheme int8, which takes: mse");
    options.scale_rule = HT_SCALE_MSE;
    options.scale_dtype = HT_F16;
    CHECK_FAILS(ht_plan_create(ctx, checkpoint, &options, &plan), HT_ERR_ARGUMENT);
    options.scale_dtype = HT_BF16;
    REQUIRE_OK(ht_plan_create(ctx, checkpoint, &options, &plan));
    CHECK_INT(find(plan, "model.layers.0.self_attn.q_proj.weight")->bytes_after, 64 * 64 + 64 * 2);
    ht_plan_destroy(plan);
    options.recipe_path = "/nonexistent.yaml";
    CHECK_FAILS(ht_plan_create(ctx, checkpoint, &options, &plan), HT_ERR_ARGUMENT);
    options.scheme = NULL;
    CHECK_FAILS(ht_plan_create(ctx, checkpoint, &options, &plan), HT_ERR_IO);
    ht_checkpoint_close(checkpoint);
}

/* Bytes of the plan are those of the tensors in the file. */
static void test_bytes(void) {
    char out[512];
    snprintf(out, sizeof out, "%s/out", check_scratch());
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "int4-g32-asym";
    ht_plan *plan;
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, check_data("tiny/gpt-oss"), out, &options, &plan));
    REQUIRE_OK(ht_checkpoint_open(ctx, out, &checkpoint));
    uint64_t bytes = 0;
    for (size_t i = 0; i < ht_checkpoint_tensor_count(checkpoint); i++)
        bytes += ht_checkpoint_tensor(checkpoint, i)->bytes;
    CHECK_INT(ht_plan_summarize(plan).bytes_after, bytes);
    CHECK(ht_plan_summarize(plan).bytes_per_second > 0);
    ht_checkpoint_close(checkpoint);
    ht_plan_destroy(plan);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    size_t before = ht_context_memory_used(ctx);
    RUN(test_refused);
    RUN(test_groups);
    RUN(test_kept_together);
    RUN(test_options);
    RUN(test_bytes);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
    return check_finish();
}
