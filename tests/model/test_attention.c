/* What a model's attention rounds: logits of a real model stay near, and the tiny families take every kind. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>

#include "support/check.h"

enum { TOKENS = 96 };

static ht_context *ctx;

static float *logits_of(ht_model *model, const char *attention, size_t vocabulary) {
    static int32_t ids[TOKENS];
    ht_sequence *sequence = NULL;
    float *logits = malloc(TOKENS * vocabulary * sizeof *logits);
    for (int i = 0; i < TOKENS; i++)
        ids[i] = (i * 37 + 11) % (int)(vocabulary < 4096 ? vocabulary : 4096);
    CHECK_OK(ht_model_set_attention(model, attention));
    CHECK_OK(ht_sequence_create(model, TOKENS, &sequence));
    CHECK_OK(ht_model_forward(model, sequence, ids, TOKENS, logits, TOKENS));
    ht_sequence_destroy(sequence);
    return logits;
}

static double sqnr(const float *want, const float *got, size_t count) {
    double signal = 0, noise = 0;
    for (size_t i = 0; i < count; i++) {
        signal += (double)want[i] * (double)want[i];
        noise += pow((double)got[i] - (double)want[i], 2);
    }
    return 10 * log10(signal / noise);
}

static void check_model(const char *path, double fp8, double bf16) {
    static const char *const names[] = {"bf16", "fp8", "fp8-hadamard", "fp8-hadamard-v"};
    ht_model *model;
    REQUIRE_OK(ht_model_open(ctx, path, &model));
    size_t vocabulary = ht_model_describe(model).vocabulary;
    float *exact = logits_of(model, "auto", vocabulary);
    CHECK_TEXT(ht_model_attention_at(model, 0).kernel, "cpu_f32");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        float *rounded = logits_of(model, names[i], vocabulary);
        double db = sqnr(exact, rounded, TOKENS * vocabulary);
        if (!CHECK(db > (i ? fp8 : bf16) && db < 120))
            printf("  %s: %s %.1f dB\n", path, names[i], db);
        CHECK_TEXT(ht_model_attention_at(model, 0).precision, names[i]);
        free(rounded);
    }
    float *again = logits_of(model, "f32", vocabulary);
    CHECK_BYTES(again, exact, TOKENS * vocabulary * sizeof *again);
    free(again);
    free(exact);
    ht_model_close(model);
}

static void test_real_model(void) {
    check_model(check_data("../../models/novel-7m"), 20, 50);
}

/* Random weights and small heads: no bound worth the name on their logits, but every option of attention. */
static void test_families(void) {
    static const char *const families[] = {"tiny/gemma2", "tiny/mistral-window", "tiny/qwen3"};
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        check_model(check_data(families[i]), 15, 40);
    check_model(check_data("tiny/gpt-oss"), 10, 25); /* a token may go to another expert */
}

static void test_refusals(void) {
    ht_model *model;
    REQUIRE_OK(ht_model_open(ctx, check_data("tiny/llama"), &model));
    CHECK_FAILS(ht_model_set_attention(model, "fp9"), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "allowed: auto, f32, bf16, fp8, fp8-hadamard, fp8-hadamard-v");
    ht_model_close(model);
}

int main(void) {
    CHECK_OK(ht_context_create(NULL, &ctx));
    RUN(test_real_model);
    RUN(test_families);
    RUN(test_refusals);
    ht_context_destroy(ctx);
    return check_finish();
}
