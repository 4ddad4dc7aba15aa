/* Perplexity after rounding to nearest, against what independent software found (golden/models/accuracy.json), through
 * the whole chain: quantize, write, read, run. Prints the table.
 *
 * Rows "rtn:F" hold within 0.1 % (NVFP4: 0.3 %, our tensor scale is shared within fused groups), "+a:F" within 0.5 %.
 * NVFP4 activations hold within 1 %: the reference takes one tensor scale for a whole batch of windows, we one a token.
 * The bundled variant has no such reference: it holds a few schemes to a bound over the float model on sample-a.txt.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/halftone.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/check.h"

static ht_context *ctx;

typedef struct row {
    const char *name; /* in accuracy.json */
    const char *scheme;
    ht_scale_rule rule;
    const char *profile; /* NULL = compressed-tensors */
    const char *option;  /* of a recipe; NULL = none */
    double percent;      /* allowed */
    int always;          /* 0: only when HALFTONE_TEST_LONG is set; a row takes some 13 s of CPU time */
} row;

static const row rows[] = {
    {"rtn:fp8-row", "fp8-w", HT_SCALE_DEFAULT, NULL, NULL, 0.1, 0},
    {"rtn:int4-g128-sym", "int4", HT_SCALE_DEFAULT, NULL, NULL, 0.1, 1},
    {"rtn:int4-g32-asym", "int4-g32-float0", HT_SCALE_DEFAULT, "plain", NULL, 0.1, 0},
    {"rtn:int8-row", "int8-w", HT_SCALE_DEFAULT, NULL, NULL, 0.1, 0},
    {"rtn:mxfp4-even", "mxfp4-w", HT_SCALE_EVEN, NULL, NULL, 0.1, 0},
    {"rtn:mxfp4-floor", "mxfp4-w", HT_SCALE_FLOOR, NULL, NULL, 0.1, 0},
    {"rtn:mxfp4-mse", "mxfp4-w", HT_SCALE_DEFAULT, NULL, NULL, 0.1, 1},
    {"rtn:mxfp4-rceil", "mxfp4-w", HT_SCALE_RCEIL, NULL, NULL, 0.1, 0},
    {"rtn:mxfp6-rceil", "mxfp6-e2m3-w", HT_SCALE_RCEIL, NULL, NULL, 0.1, 0},
    {"rtn:mxfp8-rceil", "mxfp8-w", HT_SCALE_RCEIL, NULL, NULL, 0.1, 0},
    {"rtn:nf4-g64", "nf4-flat", HT_SCALE_DEFAULT, "plain", NULL, 0.1, 0},
    {"rtn:nvfp4", "nvfp4-w", HT_SCALE_DEFAULT, NULL, "nvfp4_rule: inference", 0.3, 1},
    {"rtn:nvfp4-te", "nvfp4-w", HT_SCALE_DEFAULT, NULL, NULL, 0.3, 0},
    {"rtn:nvfp4+a:nvfp4", "nvfp4", HT_SCALE_DEFAULT, NULL, NULL, 1, 0},
    {"rtn:fp8-row+a:fp8-row", "fp8", HT_SCALE_DEFAULT, NULL, NULL, 0.5, 0},
    {"rtn:int8-row+a:int8-row", "int8", HT_SCALE_DEFAULT, NULL, NULL, 0.5, 0},
    {"rtn:mxfp4-rceil+a:mxfp4-rceil", "mxfp4", HT_SCALE_RCEIL, NULL, NULL, 0.5, 0},
    {"rtn:mxfp8-rceil+a:mxfp8-rceil", "mxfp8", HT_SCALE_RCEIL, NULL, NULL, 0.5, 1},
};

static char *read_text(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    fseek(file, 0, SEEK_END);
    *bytes = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(*bytes + 1);
    *bytes = fread(text, 1, *bytes, file);
    fclose(file);
    return text;
}

/* Ids of a text by the model's own tokenizer. */
static ht_status tokenize(const char *model, const char *path, ht_encoding *out) {
    ht_tokenizer *tokenizer;
    size_t bytes = 0;
    char *text = read_text(path, &bytes);
    if (!text || ht_tokenizer_open(ctx, model, &tokenizer) != HT_OK) {
        free(text);
        return HT_ERR_IO;
    }
    ht_status status = ht_tokenizer_encode(tokenizer, text, bytes, 1, out);
    ht_tokenizer_close(tokenizer);
    free(text);
    return status;
}

static double perplexity(const char *path, const int32_t *ids, size_t count) {
    ht_model *model;
    ht_evaluation found = {.perplexity = (double)NAN};
    if (!CHECK_OK(ht_model_open(ctx, path, &model)))
        return (double)NAN;
    ht_evaluate_options options = {.context = 512};
    CHECK_OK(ht_model_evaluate(model, ids, count, &options, &found));
    ht_model_close(model);
    return found.perplexity;
}

/* A recipe of the scheme with one option; its path. */
static const char *write_recipe(const row *r) {
    static char path[512];
    snprintf(path, sizeof path, "%s/recipe.yaml", check_scratch());
    FILE *file = fopen(path, "w");
    if (!CHECK(file != NULL))
        return path;
    fprintf(file, "version: 1\npreset: %s\noptions: {%s}\n", r->scheme, r->option);
    fclose(file);
    return path;
}

static double quantized_perplexity(const char *model, const row *r, const int32_t *ids, size_t count) {
    char out[512];
    snprintf(out, sizeof out, "%s/quantized", check_scratch());
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = r->option ? NULL : r->scheme;
    options.recipe_path = r->option ? write_recipe(r) : NULL;
    options.scale_rule = r->rule;
    options.profile = r->profile;
    options.overwrite = 1;
    if (!CHECK_OK(ht_quantize_checkpoint(ctx, model, out, &options, NULL)))
        return (double)NAN;
    return perplexity(out, ids, count);
}

static void check_model(const json_t *all, const char *name) {
    char relative[128];
    snprintf(relative, sizeof relative, "models/%s", name);
    const char *model = check_extra_data(relative), *text = check_extra_data("data/novel-test.txt");
    if (!model || !text)
        SKIP("no HALFTONE_TEST_DATA with models/%s and data/novel-test.txt", name);
    const json_t *wanted = json_object_get(json_object_get(json_object_get(all, "models"), name), "rows");
    ht_encoding encoding;
    REQUIRE_OK(tokenize(model, text, &encoding));
    REQUIRE(encoding.count >= 32768);
    double want = json_number_value(json_object_get(json_object_get(wanted, "float"), "ppl"));
    double base = perplexity(model, encoding.ids, 32768);
    printf("%-32s %9s %9s %8s\n%-32s %9.4f %9.4f %7.3f%%\n", name, "reference", "ours", "off", "float", want, base,
           100 * (base / want - 1));
    CHECK_NEAR(base, want, 1e-3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const json_t *entry = json_object_get(wanted, rows[i].name);
        if (!entry || (!rows[i].always && !getenv("HALFTONE_TEST_LONG")))
            continue;
        want = json_number_value(json_object_get(entry, "ppl"));
        double got = quantized_perplexity(model, &rows[i], encoding.ids, 32768);
        printf("%-32s %9.4f %9.4f %7.3f%% (%+.2f %% over float, scheme %s)\n", rows[i].name, want, got,
               100 * (got / want - 1), 100 * (got / base - 1), rows[i].scheme);
        fflush(stdout);
        if (!CHECK_NEAR(got, want, rows[i].percent / 100))
            CHECK_TEXT(rows[i].name, "(within its bound)");
    }
    ht_encoding_release(&encoding);
}

static void test_reference(void) {
    const char *path = check_extra_data("golden/models/accuracy.json");
    if (!path)
        SKIP("no HALFTONE_TEST_DATA with golden/models/accuracy.json");
    json_error_t error;
    json_t *all = json_load_file(path, 0, &error);
    REQUIRE(all != NULL);
    check_model(all, "novel-7m");
    check_model(all, "novel-moe-12m");
    json_decref(all);
}

/* Largest loss over the float model, percent, measured and rounded up; the model wrote neither text nor test. */
static void test_bundled(void) {
    static const row bundled[] = {{"int8", "int8", HT_SCALE_DEFAULT, NULL, NULL, 0.6, 1},
                                  {"mxfp8", "mxfp8", HT_SCALE_DEFAULT, NULL, NULL, 1, 1},
                                  {"mxfp4-w", "mxfp4-w", HT_SCALE_DEFAULT, NULL, NULL, 4, 1}};
    const char *model = check_data("../../models/novel-7m"), *text = check_data("text/sample-a.txt");
    ht_encoding encoding;
    if (access(text, R_OK) != 0)
        SKIP("%s is not there", text);
    REQUIRE_OK(tokenize(model, text, &encoding));
    REQUIRE(encoding.count >= 8192);
    double base = perplexity(model, encoding.ids, 8192);
    for (size_t i = 0; i < sizeof bundled / sizeof *bundled; i++) {
        double got = quantized_perplexity(model, &bundled[i], encoding.ids, 8192);
        printf("%-32s %9.4f %9.4f %+.2f %%\n", bundled[i].name, base, got, 100 * (got / base - 1));
        CHECK(got < base * (1 + bundled[i].percent / 100) && got > base * 0.99);
    }
    ht_encoding_release(&encoding);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_bundled);
    RUN(test_reference);
    ht_context_destroy(ctx);
    return check_finish();
}
