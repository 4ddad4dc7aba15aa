/* The bundled model against its reference: logits, hidden states, greedy text, perplexity; the same bits for any thread
 * count, instruction set and way of feeding the tokens. The mixture-of-experts model likewise when the larger set of
 * reference data is there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>
#include <halftone/tokenizer.h>

#include <jansson.h>

#include "golden.h"
#include "model/decoder.h"
#include "support/check.h"

static ht_context *context(size_t threads, const char *cpu) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx = NULL;
    options.threads = threads;
    options.cpu = cpu;
    CHECK_OK(ht_context_create(&options, &ctx));
    return ctx;
}

/* --- hidden states -------------------------------------------------------------------------------------------------
 */

struct probe {
    const ht_checkpoint *file;
    size_t compared;
};

static void compare_rows(struct probe *probe, const char *name, const float *rows, size_t width) {
    const ht_stored_tensor *want = golden_tensor(probe->file, name);
    if (!want || want->shape[1] != width)
        return;
    const float *expected = want->data;
    double worst = 0, size = 0;
    for (size_t i = 0; i < want->shape[0] * width; i++) {
        worst = fmax(worst, fabs((double)rows[i] - (double)expected[i]));
        size = fmax(size, fabs((double)expected[i]));
    }
    if (!CHECK(worst <= 1e-4 * size))
        fprintf(stderr, "  %s differs by %g of %g\n", name, worst, size);
    probe->compared++;
}

static void probe_rows(void *user, const char *what, size_t layer, const float *rows, size_t tokens, size_t width) {
    static const char *const INSIDE[][2] = {{"attention_input", "layer0.input_layernorm"},
                                            {"attention", "layer0.self_attn"},
                                            {"mlp_input", "layer0.post_attention_layernorm"},
                                            {"mlp", "layer0.mlp"}};
    char name[64];
    (void)tokens;
    for (size_t i = 0; i < 4 && layer == 0; i++)
        if (strcmp(what, INSIDE[i][0]) == 0)
            compare_rows(user, INSIDE[i][1], rows, width);
    if (strcmp(what, "final_norm") == 0)
        compare_rows(user, "hidden.final_norm", rows, width);
    if (strcmp(what, "hidden") == 0) {
        snprintf(name, sizeof name, "hidden.layer%zu", layer);
        compare_rows(user, name, rows, width);
    }
    if (strcmp(what, "router") == 0) {
        snprintf(name, sizeof name, "router.layer%zu.logits", layer);
        compare_rows(user, name, rows, width);
    }
}

static void compare_logits(ht_model *model, const char *path, size_t least) {
    ht_checkpoint *file;
    REQUIRE_OK(ht_checkpoint_open(model->ctx, path, &file));
    const ht_stored_tensor *ids = golden_tensor(file, "input_ids"), *want = golden_tensor(file, "logits");
    size_t count = ids->shape[1], vocabulary = want->shape[2];
    float *logits = malloc(count * vocabulary * sizeof *logits);
    ht_sequence *sequence;
    REQUIRE_OK(ht_sequence_create(model, count, &sequence));
    struct probe probe = {.file = file};
    for (size_t r = 0; r < ids->shape[0]; r++) {
        model->tap = r == 0 ? probe_rows : NULL; /* hidden states are those of row 0 */
        model->tap_user = &probe;
        ht_sequence_reset(sequence);
        CHECK_OK(ht_model_forward(model, sequence, (const int32_t *)ids->data + r * count, count, logits, count));
        CHECK_F32_WITHIN(logits, (const float *)want->data + r * count * vocabulary, count * vocabulary, 1e-4);
    }
    CHECK(probe.compared >= least);
    model->tap = NULL;
    ht_sequence_destroy(sequence);
    free(logits);
    ht_checkpoint_close(file);
}

/* --- generation ----------------------------------------------------------------------------------------------------
 */

static void compare_generation(ht_model *model, const char *path, const char *name) {
    json_t *tree = json_load_file(path, 0, NULL), *entry;
    json_t *prompts = json_object_get(json_object_get(tree, "models"), name);
    size_t i, compared = 0;
    json_array_foreach(prompts, i, entry) {
        json_t *prompt = json_object_get(entry, "prompt_ids"), *want = json_object_get(entry, "new_ids");
        int32_t ids[256], got[64];
        size_t count = json_array_size(prompt);
        for (size_t k = 0; k < count && k < 256; k++)
            ids[k] = (int32_t)json_integer_value(json_array_get(prompt, k));
        ht_generate_options options = {.max_tokens = 64, .ignore_eos = 1};
        ht_generate_result result;
        if (!CHECK_OK(ht_model_generate(model, ids, count, &options, got, &result)))
            continue;
        CHECK_INT(result.count, 64);
        for (size_t k = 0; k < 64; k++)
            compared += CHECK_INT(got[k], json_integer_value(json_array_get(want, k))) != 0;
    }
    CHECK_INT(compared, 64 * 5);
    json_decref(tree);
}

/* --- perplexity ----------------------------------------------------------------------------------------------------
 */

static void compare_perplexity(ht_model *model, const char *directory, const char *text, const char *name,
                               const char *file, size_t window) {
    json_t *tree = json_load_file(check_data("models/perplexity.json"), 0, NULL);
    char key[16];
    snprintf(key, sizeof key, "%zu", window);
    json_t *want = json_object_get(
        json_object_get(json_object_get(json_object_get(json_object_get(tree, "models"), name), file), key), "ppl");
    REQUIRE(want != NULL);
    FILE *in = fopen(text, "rb");
    REQUIRE(in != NULL);
    static char bytes[2 << 20];
    size_t size = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    ht_tokenizer *tokenizer;
    ht_encoding ids;
    REQUIRE_OK(ht_tokenizer_open(model->ctx, directory, &tokenizer));
    REQUIRE_OK(ht_tokenizer_encode(tokenizer, bytes, size, 1, &ids));
    ht_evaluate_options options = {.context = window};
    ht_evaluation result;
    if (CHECK_OK(ht_model_evaluate(model, ids.ids, ids.count, &options, &result))) {
        CHECK_NEAR(result.perplexity, json_number_value(want), 1e-5);
        fprintf(stderr, "  %s, %s, context %zu: %.6f, reference %.6f\n", name, file, window, result.perplexity,
                json_number_value(want));
    }
    ht_encoding_release(&ids);
    ht_tokenizer_close(tokenizer);
    json_decref(tree);
}

static const char *house(void) {
    return check_data("../../models/novel-7m");
}

static void test_novel_7m(void) {
    ht_context *ctx = context(0, NULL);
    ht_model *model;
    REQUIRE_OK(ht_model_open(ctx, house(), &model));
    ht_model_info info = ht_model_describe(model);
    CHECK_TEXT(info.architecture, "LlamaForCausalLM");
    CHECK_INT(info.vocabulary, 4096);
    CHECK_INT(info.layers, 8);
    CHECK_INT(info.context, 2048);
    CHECK_INT(info.weight_bytes, 2 * info.parameters);
    compare_logits(model, check_data("models/logits-novel-7m.safetensors"), 13); /* the first 16 positions */
    const char *whole = check_extra_data("golden/models/logits-novel-7m.safetensors");
    if (whole)
        compare_logits(model, whole, 13);
    compare_generation(model, check_data("models/generate.json"), "novel-7m");
    compare_perplexity(model, house(), check_data("text/sample-a.txt"), "novel-7m", "sample-a.txt", 512);
    const char *text = check_extra_data("data/novel-test.txt");
    for (size_t window = 256; text && window <= 512; window += 256)
        compare_perplexity(model, house(), text, "novel-7m", "novel-test.txt", window);
    CHECK(ht_context_memory_peak(ctx) < 64 << 20);
    ht_model_close(model);
    CHECK(ht_context_memory_used(ctx) < 1 << 16);
    ht_context_destroy(ctx);
}

static void test_novel_moe(void) {
    const char *path = check_extra_data("models/novel-moe-12m");
    const char *logits = check_extra_data("golden/models/logits-novel-moe-12m.safetensors");
    if (!path || !logits)
        SKIP("novel-moe-12m is not in the repository");
    ht_context *ctx = context(0, NULL);
    ht_model *model;
    REQUIRE_OK(ht_model_open(ctx, path, &model));
    compare_logits(model, logits, 17);
    compare_generation(model, check_data("models/generate.json"), "novel-moe-12m");
    compare_perplexity(model, path, check_data("text/sample-a.txt"), "novel-moe-12m", "sample-a.txt", 512);
    ht_model_close(model);
    ht_context_destroy(ctx);
}

/* --- the same bits -------------------------------------------------------------------------------------------------
 */

enum { TOKENS = 70, VOCABULARY = 4096 };

/* logits of all tokens, fed in pieces of `piece`. */
static float *run(size_t threads, const char *cpu, size_t piece) {
    float *logits = calloc(TOKENS * VOCABULARY, sizeof *logits);
    ht_context *ctx = context(threads, cpu);
    ht_model *model;
    ht_sequence *sequence;
    int32_t ids[TOKENS];
    for (size_t i = 0; i < TOKENS; i++)
        ids[i] = (int32_t)(i * 977 % VOCABULARY);
    if (CHECK_OK(ht_model_open(ctx, house(), &model)) && CHECK_OK(ht_sequence_create(model, TOKENS, &sequence))) {
        for (size_t at = 0; at < TOKENS; at += piece) {
            size_t count = TOKENS - at < piece ? TOKENS - at : piece;
            CHECK_OK(ht_model_forward(model, sequence, ids + at, count, logits + at * VOCABULARY, count));
        }
        CHECK_INT(ht_sequence_length(sequence), TOKENS);
        ht_sequence_destroy(sequence);
        ht_model_close(model);
    }
    ht_context_destroy(ctx);
    return logits;
}

static void test_same_bits(void) {
    static const struct {
        size_t threads;
        const char *cpu;
        size_t piece;
    } WAYS[] = {{2, NULL, TOKENS}, {3, NULL, TOKENS}, {8, NULL, TOKENS},       {1, NULL, 1},
                {2, NULL, 1},      {2, NULL, 7},      {1, "baseline", TOKENS}, {2, "baseline", 9}};
    float *want = run(1, NULL, TOKENS);
    for (size_t i = 0; i < sizeof WAYS / sizeof *WAYS; i++) {
        float *got = run(WAYS[i].threads, WAYS[i].cpu, WAYS[i].piece);
        CHECK_BYTES(got, want, TOKENS * VOCABULARY * sizeof *got);
        free(got);
    }
    free(want);
}

int main(void) {
    RUN(test_novel_7m);
    RUN(test_novel_moe);
    RUN(test_same_bits);
    return check_finish();
}
