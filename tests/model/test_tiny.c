/* Twelve tiny checkpoints, one per family: logits and greedy continuation against the reference (tests/data/tiny). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>

#include "golden.h"
#include "support/check.h"

static const char *const NAMES[] = {"llama", "llama-rope3", "llama-bias-tied", "mistral-window",
                                    "qwen2", "qwen3",       "qwen3-moe",       "mixtral",
                                    "olmoe", "phi3",        "gemma2",          "gpt-oss"};

static void compare_logits(ht_model *model, const ht_checkpoint *file, const char *name) {
    const ht_stored_tensor *ids = golden_tensor(file, "input_ids"), *want = golden_tensor(file, "logits");
    size_t rows = ids->shape[0], vocabulary = want->shape[2], count;
    for (size_t r = 0; r < rows; r++) {
        int32_t *row = golden_ids(ids, r, &count);
        float *logits = malloc(count * vocabulary * sizeof *logits);
        ht_sequence *sequence;
        REQUIRE_OK(ht_sequence_create(model, count, &sequence));
        REQUIRE_OK(ht_model_forward(model, sequence, row, count, logits, count));
        if (!CHECK_F32_WITHIN(logits, (const float *)want->data + r * count * vocabulary, count * vocabulary, 1e-4))
            fprintf(stderr, "  of %s, row %zu\n", name, r);
        ht_sequence_destroy(sequence);
        free(logits);
        free(row);
    }
}

static void compare_greedy(ht_model *model, const ht_checkpoint *file, const char *name) {
    size_t count;
    int32_t *want = golden_ids(golden_tensor(file, "greedy"), 0, &count), got[16];
    ht_generate_options options = {.max_tokens = 16, .ignore_eos = 1};
    ht_generate_result result;
    if (CHECK_OK(ht_model_generate(model, want, count - 16, &options, got, &result))) {
        CHECK_INT(result.count, 16);
        if (!CHECK_BYTES(got, want + count - 16, sizeof got))
            fprintf(stderr, "  of %s\n", name);
    }
    free(want);
}

static void test_families(void) {
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char path[128];
        ht_model *model;
        ht_checkpoint *file;
        snprintf(path, sizeof path, "tiny/%s", NAMES[i]);
        if (!CHECK_OK(ht_model_open(ctx, check_data(path), &model)))
            continue;
        snprintf(path, sizeof path, "tiny/%s/logits.safetensors", NAMES[i]);
        REQUIRE_OK(ht_checkpoint_open(ctx, check_data(path), &file));
        compare_logits(model, file, NAMES[i]);
        compare_greedy(model, file, NAMES[i]);
        ht_checkpoint_close(file);
        ht_model_close(model);
    }
    CHECK_INT(ht_context_memory_used(ctx) > 0, 1);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_families);
    return check_finish();
}
