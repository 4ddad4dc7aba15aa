/* Proof of written checkpoints: whole ones pass, every kind of damage is found by the check that is for it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

static ht_context *ctx;

static ht_status quantize(const char *input, const char *scheme, const char *output) {
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = scheme;
    return ht_quantize_checkpoint(ctx, input, output, &options, NULL);
}

static const ht_check *find(const ht_verification *verification, const char *name) {
    const ht_check *check;
    for (size_t i = 0; (check = ht_verification_check(verification, i)); i++)
        if (strcmp(check->name, name) == 0)
            return check;
    return NULL;
}

static void print_failures(const ht_verification *verification) {
    const ht_check *check;
    for (size_t i = 0; (check = ht_verification_check(verification, i)); i++)
        if (!check->ok)
            check_text(check->detail, "(good)", __FILE__, __LINE__, check->name);
}

static void expect_good(const char *path, const char *against, const char *reader) {
    ht_verification *verification;
    REQUIRE_OK(ht_verify(ctx, path, against, reader, &verification));
    if (!CHECK(ht_verification_ok(verification)))
        print_failures(verification);
    CHECK(find(verification, "opens") && find(verification, "config") && find(verification, "fused-groups"));
    if (against)
        CHECK(find(verification, "names") && find(verification, "kept") && find(verification, "error"));
    ht_verification_destroy(verification);
}

static void expect_bad(const char *path, const char *against, const char *reader, const char *name,
                       const char *message) {
    ht_verification *verification;
    REQUIRE_OK(ht_verify(ctx, path, against, reader, &verification));
    CHECK(!ht_verification_ok(verification));
    const ht_check *check = find(verification, name);
    if (CHECK(check != NULL)) {
        CHECK_INT(check->ok, 0);
        CHECK_CONTAINS(check->detail, message);
    }
    ht_verification_destroy(verification);
}

static void test_schemes(void) {
    static const char *const schemes[] = {"mxfp4-w", "mxfp4", "mxfp8", "mxfp4-a8"};
    static const char *const models[] = {"llama", "qwen3-moe", "gpt-oss", "phi3", "gemma2", "mixtral"};
    for (size_t s = 0; s < sizeof schemes / sizeof *schemes; s++)
        for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
            char relative[64];
            snprintf(relative, sizeof relative, "tiny/%s", models[m]);
            const char *input = check_data(relative), *out = check_fresh();
            if (CHECK_OK(quantize(input, schemes[s], out)))
                expect_good(out, input, NULL);
        }
}

static void test_float(void) {
    expect_good(check_data("tiny/llama"), check_data("tiny/llama"), NULL);
    expect_bad(check_data("tiny/llama"), check_data("tiny/qwen3"), NULL, "names", "missing");
}

static void test_readers(void) {
    const char *out = check_fresh();
    REQUIRE_OK(quantize(check_data("tiny/llama"), "mxfp4-w", out));
    expect_good(out, NULL, "vllm");
    expect_good(out, NULL, "transformers");
    expect_bad(out, NULL, "llama.cpp", "reader", "reads GGUF files");
    ht_verification *verification;
    CHECK_FAILS(ht_verify(ctx, out, NULL, "vlm", &verification), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "nearest is vllm");
    CHECK(verification == NULL);
    CHECK_FAILS(ht_verify(ctx, "/nonexistent/model", NULL, NULL, &verification), HT_ERR_IO);
    out = check_fresh();
    REQUIRE_OK(quantize(check_data("tiny/gpt-oss"), "mxfp4-w", out));
    expect_bad(out, NULL, "vllm", "reader", "stacked experts");
}

/* --- Damage ----------------------------------------------------------------------------------------------- */

static void read_file(const char *directory, const char *name, char **data, size_t *bytes) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "rb");
    *data = malloc(1 << 20);
    *bytes = file ? fread(*data, 1, 1 << 20, file) : 0;
    if (file)
        fclose(file);
    CHECK(*bytes > 0 && *bytes < 1 << 20);
}

static void write_file(const char *directory, const char *name, const char *data, size_t bytes) {
    char path[700];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    if (CHECK(file != NULL)) {
        fwrite(data, 1, bytes, file);
        fclose(file);
    }
}

/* Overwrite `count` bytes of a stored tensor. */
static void damage_tensor(const char *directory, const char *tensor, size_t at, const char *with, size_t count) {
    ht_checkpoint *checkpoint;
    REQUIRE_OK(ht_checkpoint_open(ctx, directory, &checkpoint));
    const ht_stored_tensor *stored = ht_checkpoint_find(checkpoint, tensor);
    size_t offset = stored ? (size_t)stored->offset + at : 0;
    ht_checkpoint_close(checkpoint);
    REQUIRE(offset > 0);
    char *data;
    size_t bytes;
    read_file(directory, "model.safetensors", &data, &bytes);
    if (CHECK(offset + count <= bytes)) {
        memcpy(data + offset, with, count);
        write_file(directory, "model.safetensors", data, bytes);
    }
    free(data);
}

/* Replace one text in config.json by another of any length. */
static void damage_config(const char *directory, const char *old, const char *new) {
    char *data;
    size_t bytes;
    read_file(directory, "config.json", &data, &bytes);
    data[bytes] = '\0';
    char *at = strstr(data, old);
    if (CHECK(at != NULL)) {
        char *out = malloc(bytes + strlen(new) + 1);
        size_t head = (size_t)(at - data);
        memcpy(out, data, head);
        size_t length = head + (size_t)sprintf(out + head, "%s%s", new, at + strlen(old));
        write_file(directory, "config.json", out, length);
        free(out);
    }
    free(data);
}

static const char *quantized(const char *scheme) {
    const char *out = check_fresh();
    CHECK_OK(quantize(check_data("tiny/llama"), scheme, out));
    return out;
}

static void test_damaged_tensors(void) {
    const char *original = check_data("tiny/llama");
    const char *out = quantized("mxfp4-w");
    damage_tensor(out, "model.layers.0.self_attn.q_proj.weight_scale", 3, "\xff", 1);
    expect_bad(out, NULL, NULL, "scales", "q_proj.weight: scale 3 of matrix 0 is negative, NaN or infinite");
    expect_bad(out, NULL, NULL, "values", "decodes to NaN or Inf at [1, 32]");
    out = quantized("mxfp4-w");
    damage_tensor(out, "model.layers.0.self_attn.q_proj.weight_scale", 3, "\x80", 1);
    expect_good(out, NULL, NULL);
    expect_bad(out, original, NULL, "error", "model.layers.0.self_attn.q_proj.weight at [1, 3");
    out = quantized("mxfp4-w");
    damage_tensor(out, "model.layers.1.mlp.down_proj.weight_packed", 5, "\x77\x77", 2);
    expect_bad(out, original, NULL, "error", "model.layers.1.mlp.down_proj.weight at [0, 1");
    out = quantized("mxfp4-w");
    damage_tensor(out, "model.norm.weight", 0, "\x01\x02", 2);
    expect_bad(out, original, NULL, "kept", "model.norm.weight is not quantized, but differs");
    out = quantized("mxfp4-w");
    char *data;
    size_t bytes;
    read_file(out, "model.safetensors", &data, &bytes);
    write_file(out, "model.safetensors", data, bytes - 1);
    free(data);
    expect_bad(out, NULL, NULL, "opens", "model.safetensors");
}

/* The bound is each group's own: a searched scale of one group excuses nothing in another. */
static void test_bound_by_group(void) {
    char recipe[600];
    snprintf(recipe, sizeof recipe, "%s/mixed.yaml", check_scratch());
    FILE *file = fopen(recipe, "wb");
    REQUIRE(file);
    fputs("version: 1\nrules:\n  - match: '**.down_proj.weight'\n    scheme: int8-w\n"
          "  - match: linear\n    scheme: mxfp4-w\n    options: {scale_rule: mse}\n",
          file);
    fclose(file);
    const char *original = check_data("tiny/llama"), *out = check_fresh();
    ht_quantize_options options = ht_quantize_options_default();
    options.recipe_path = recipe;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, original, out, &options, NULL));
    expect_good(out, original, NULL);
    /* Half of the range, up and down: less than the largest weight, far more than half a step. */
    damage_tensor(out, "model.layers.1.mlp.down_proj.weight_packed", 5, "\x40\xc0", 2);
    expect_bad(out, original, NULL, "error", "model.layers.1.mlp.down_proj.weight at [0, ");
}

static void test_damaged_config(void) {
    const char *out = quantized("mxfp4-w");
    damage_config(out, "\"lm_head\"", "\"lm_haed\"");
    expect_bad(out, NULL, NULL, "config", "lm_head.weight is not quantized, but config group group_0 means it");
    out = quantized("mxfp4-w");
    damage_config(out, "\"quantization_status\": \"compressed\"", "\"quantization_status\": \"frozen\"");
    expect_bad(out, NULL, NULL, "config", "quantization_status");
    out = quantized("mxfp4-w");
    damage_config(out, "\"lm_head\"", "\"lm_head\", \"model.layers.9.gone\"");
    expect_bad(out, NULL, NULL, "config", "names \"model.layers.9.gone\", which is nothing");
}

static void test_damaged_files(void) {
    char path[700];
    const char *out = quantized("mxfp8-w"), *original = check_data("tiny/llama");
    write_file(out, "generation_config.json", "{}", 2);
    expect_bad(out, original, NULL, "sidecars", "generation_config.json differs");
    snprintf(path, sizeof path, "%s/generation_config.json", out);
    remove(path);
    expect_bad(out, original, NULL, "sidecars", "generation_config.json of the original is missing");
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    size_t before = ht_context_memory_used(ctx);
    RUN(test_schemes);
    RUN(test_float);
    RUN(test_readers);
    RUN(test_damaged_tensors);
    RUN(test_bound_by_group);
    RUN(test_damaged_config);
    RUN(test_damaged_files);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
    return check_finish();
}
