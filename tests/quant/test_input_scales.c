/* Static scales of inputs: the choice from a histogram against the values themselves; runs from end to end, the scales
 * against the rows that the model shows, files read back, the same bytes for threads and memory; what is refused.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/input_scales.h"

#include <halftone/model.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "calibrated.h"
#include "support/check.h"

enum { COUNT = 60000 };

static double error_of(const ht_format *format, const float *x, float scale) {
    ht_row_options options = ht_row_options_default();
    float *decoded = malloc(COUNT * sizeof *decoded), stored;
    char *codes = malloc(COUNT);
    ht_planes planes = {{codes, &stored}};
    double error = 0;
    options.scale = scale;
    CHECK_OK(ht_format_quantize(format, &options, x, HT_F32, 1, COUNT, &planes));
    CHECK_OK(ht_format_dequantize(format, &planes, 1, COUNT, decoded));
    for (size_t i = 0; i < COUNT; i++)
        error += ((double)x[i] - (double)decoded[i]) * ((double)x[i] - (double)decoded[i]);
    free(codes);
    free(decoded);
    return error;
}

/* Normal values with a few outliers: absmax is the formula, a percentile lies where sorting has it, mse is next to the
 * best of all clippings tried on the values. */
static void test_choice(void) {
    static const char *const FORMATS[] = {"int8_tensor", "fp8_tensor", "int4_tensor"};
    ht_context *ctx;
    ht_histogram *h, *none;
    float *x = malloc(COUNT * sizeof *x), most = 0;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    REQUIRE_OK(ht_histogram_create(ctx, 1, HT_HISTOGRAM_BINS, &h));
    REQUIRE_OK(ht_histogram_create(ctx, 1, HT_HISTOGRAM_BINS, &none));
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = ht_random_normal(4, 4, i) * (i % 9973 == 1 ? 12.0f : 1.0f);
        most = fabsf(x[i]) > most ? fabsf(x[i]) : most;
    }
    CHECK_OK(ht_histogram_add(h, x, 1, COUNT));
    for (size_t f = 0; f < 3; f++) {
        ht_format format;
        float scale = 0, share = 0, best = 0, one = 0;
        ht_row_options options = ht_row_options_default();
        REQUIRE_OK(ht_format_parse(FORMATS[f], &format));
        format.packing = HT_PACK_BYTES;
        const ht_range range = {.min = -most, .max = most, .amax = most};
        CHECK_OK(ht_format_scale(&format, &options, &range, &best, NULL));
        CHECK_OK(ht_input_scale(h, &format, HT_INPUT_ABS_MAX, &scale));
        CHECK(scale == best);
        CHECK_OK(ht_input_scale(h, &format, HT_INPUT_P999, &share));
        size_t beyond = 0;
        for (size_t i = 0; i < COUNT; i++)
            beyond += fabsf(x[i]) > most * share / scale;
        CHECK(beyond <= COUNT / 1000 && beyond >= COUNT / 1000 - 5);
        CHECK_OK(ht_input_scale(h, &format, HT_INPUT_MSE, &share));
        double got = error_of(&format, x, share), least = HUGE_VAL;
        for (int step = 0; step < 8 * 16; step++) {
            double error = error_of(&format, x, scale * (float)exp2(-step / 16.0));
            least = error < least ? error : least;
        }
        CHECK(got <= 1.02 * least && got <= error_of(&format, x, scale));
        if (f == 2) /* few codes: clipping pays */
            CHECK(got < 0.8 * error_of(&format, x, scale));
        CHECK_OK(ht_input_scale(none, &format, HT_INPUT_MSE, &one));
        CHECK(one == 1);
    }
    ht_histogram_destroy(h);
    ht_histogram_destroy(none);
    free(x);
    ht_context_destroy(ctx);
}

/* --- Runs ------------------------------------------------------------------------------------------------------ */

enum { SAMPLES = 3, LENGTH = 32, MOST = 4096 };

typedef struct seen {
    ht_model *model;
    float *most; /* by parameter: largest magnitude that it reads */
} seen;

static ht_status see(void *user, const ht_site_rows *rows) {
    const seen *s = user;
    const ht_projection *projection = ht_block_site(s->model, rows->layer, rows->site);
    for (size_t part = 0; part < projection->parts; part++) {
        size_t p = ht_block_linear_at(s->model, rows->layer, rows->site, rows->expert, part).parameter;
        for (size_t i = 0; p < MOST && i < rows->rows * rows->cols; i++)
            s->most[p] = fabsf(rows->x[i]) > s->most[p] ? fabsf(rows->x[i]) : s->most[p];
    }
    return HT_OK;
}

/* What every linear of the float model reads over the first windows of the text (a token a byte). */
static void look(ht_context *ctx, const char *input, float *most, char names[][128]) {
    ht_model *model;
    ht_sequence *sequence;
    unsigned char text[SAMPLES * LENGTH];
    FILE *file = fopen(check_data("text/sample-a.txt"), "rb");
    REQUIRE(file != NULL);
    CHECK_INT(fread(text, 1, sizeof text, file), sizeof text);
    fclose(file);
    REQUIRE_OK(ht_model_open(ctx, input, &model));
    REQUIRE_OK(ht_block_sequence(model, LENGTH, &sequence));
    seen s = {model, most};
    const ht_watch watch = {.see = see, .user = &s, .stop = HT_SITE_COUNT};
    float *x = malloc(LENGTH * model->config.hidden * sizeof *x);
    for (size_t i = 0; i < SAMPLES; i++) {
        int32_t ids[LENGTH];
        for (size_t t = 0; t < LENGTH; t++)
            ids[t] = text[i * LENGTH + t];
        CHECK_OK(ht_block_embed(model, ids, LENGTH, x));
        for (size_t l = 0; l < model->config.layers; l++)
            CHECK_OK(ht_block_run(sequence, l, x, LENGTH, &watch));
    }
    for (size_t p = 0; p < ht_checkpoint_parameter_count(model->checkpoint); p++)
        snprintf(names[p], 128, "%s", ht_checkpoint_parameter(model->checkpoint, p)->name);
    free(x);
    ht_sequence_destroy(sequence);
    ht_model_close(model);
}

static void check_scales(const char *out, const float *most, char names[][128], float per_magnitude) {
    ht_context *ctx;
    ht_checkpoint *checkpoint;
    size_t quantized = 0;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    REQUIRE_OK(ht_checkpoint_open(ctx, out, &checkpoint));
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *p = ht_checkpoint_parameter(checkpoint, i);
        size_t at = 0;
        if (!p->quantized)
            continue;
        quantized++;
        while (at < MOST && strcmp(names[at], p->name) != 0)
            at++;
        REQUIRE(at < MOST);
        CHECK(p->has_input && p->input_scale > 0);
        if (most[at] > 0) /* an expert that no token came to has others' */
            CHECK_NEAR(p->input_scale, most[at] * per_magnitude, 1e-6);
    }
    CHECK(quantized > 4);
    ht_checkpoint_close(checkpoint);
    ht_context_destroy(ctx);
}

static void check_verified(const char *path, const char *original, int good) {
    ht_context *ctx;
    ht_verification *verification;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    if (CHECK_OK(ht_verify(ctx, path, original, NULL, &verification))) {
        CHECK_INT(ht_verification_ok(verification), good);
        for (size_t i = 0; good && ht_verification_check(verification, i); i++)
            if (!ht_verification_check(verification, i)->ok)
                fprintf(stderr, "  %s\n", ht_verification_check(verification, i)->detail);
    }
    ht_verification_destroy(verification);
    ht_context_destroy(ctx);
}

/* Separate and fused experts, transposed ones, attention of every kind; both layouts. */
static void test_families(void) {
    static const char *const FAMILIES[] = {"llama", "qwen3-moe", "gpt-oss", "phi3"};
    static const char *const PROFILES[] = {"compressed-tensors", "plain"};
    static const char *const SCHEMES[] = {"fp8-static", "int8-static"};
    static const float PER_MAGNITUDE[] = {1.0f / 448, 1 / 127.5f};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t f = 0; f < 4; f++) {
        const char *input = calibrated_family(FAMILIES[f]), *set[] = {"input_range=absmax", NULL};
        float *most = calloc(MOST, sizeof *most);
        char(*names)[128] = calloc(MOST, sizeof *names);
        look(ctx, input, most, names);
        for (size_t i = 0; i < 4; i++) {
            const char *out = check_fresh();
            ht_plan_tensor *rows;
            size_t count;
            calibrated run = calibrated_run(SCHEMES[i % 2], "rtn", SAMPLES, LENGTH);
            run.options.profile = PROFILES[i / 2];
            run.options.set = set;
            if (CHECK_OK(calibrated_quantize(&run, input, out, &rows, &count))) {
                size_t scaled = 0;
                for (size_t r = 0; r < count; r++)
                    scaled += rows[r].input_scale > 0;
                CHECK(scaled > 4); /* the plan knows them, too */
                free(rows);
                check_scales(out, most, names, PER_MAGNITUDE[i % 2]);
                check_verified(out, input, 1);
            }
            calibrated_remove(out);
        }
        free(most);
        free(names);
        calibrated_remove(input);
    }
    ht_context_destroy(ctx);
}

static void overwrite(const char *directory, uint64_t offset, float value) {
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", directory);
    FILE *file = fopen(path, "r+b");
    REQUIRE(file != NULL);
    CHECK_INT(fseek(file, (long)offset, SEEK_SET), 0);
    CHECK_INT(fwrite(&value, sizeof value, 1, file), 1);
    fclose(file);
}

/* The run time uses the scale: inputs beyond it saturate, so a tenth of it gives other logits. */
static void test_run_time(void) {
    const char *input = calibrated_family("llama"), *out = check_fresh();
    calibrated run = calibrated_run("int8-static", "rtn", SAMPLES, LENGTH);
    static const int32_t IDS[8] = {1, 50, 100, 3, 200, 7, 9, 30};
    ht_context *ctx;
    ht_model *model;
    ht_sequence *sequence;
    uint64_t offset = 0;
    float *logits[2];
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    REQUIRE_OK(calibrated_quantize(&run, input, out, NULL, NULL));
    for (int changed = 0; changed < 2; changed++) {
        REQUIRE_OK(ht_model_open(ctx, out, &model));
        size_t vocabulary = ht_model_describe(model).vocabulary;
        logits[changed] = malloc(vocabulary * sizeof(float));
        CHECK_OK(ht_sequence_create(model, 8, &sequence));
        CHECK_OK(ht_model_forward(model, sequence, IDS, 8, logits[changed], 1));
        size_t different = 0;
        for (size_t i = 0; i < vocabulary; i++) {
            CHECK(isfinite(logits[changed][i]));
            different += changed && logits[1][i] != logits[0][i];
        }
        CHECK(!changed || different > vocabulary / 2);
        ht_sequence_destroy(sequence);
        const ht_parameter *p =
            ht_checkpoint_find_parameter(model->checkpoint, "model.layers.0.self_attn.q_proj.weight");
        float scale = p->input_scale / 10;
        const ht_stored_tensor *t =
            ht_checkpoint_find(model->checkpoint, "model.layers.0.self_attn.q_proj.input_scale");
        REQUIRE(t != NULL && t->dtype == HT_F32 && t->rank == 1 && t->shape[0] == 1);
        offset = t->offset;
        ht_model_close(model);
        overwrite(out, offset, scale);
    }
    overwrite(out, offset, 0); /* no scale: the config says that there is one */
    check_verified(out, input, 0);
    free(logits[0]);
    free(logits[1]);
    calibrated_remove(out);
    calibrated_remove(input);
    ht_context_destroy(ctx);
}

/* Every method and mode; threads and a memory limit change no byte. */
static void test_methods(void) {
    static const struct {
        const char *scheme, *method, *set[3];
    } CASES[] = {{"fp8-static", "rtn", {"input_range=mse"}},
                 {"int8-static", "gptq", {"hessian=quantized", "input_range=p99.99"}},
                 {"int8-static", "smooth+gptq", {"input_range=percentile"}},
                 {"fp8-static", "gptq+autoround", {"iterations=4"}}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        const char *input = i ? calibrated_family("llama") : calibrated_deep(), *one = check_fresh(),
                   *two = check_fresh();
        calibrated run = calibrated_run(CASES[i].scheme, CASES[i].method, SAMPLES, LENGTH);
        run.options.set = CASES[i].set;
        run.threads = 1;
        CHECK_OK(calibrated_quantize(&run, input, one, NULL, NULL));
        run.threads = 3;
        run.memory_limit = i ? 0 : 40u << 20;
        CHECK_OK(calibrated_quantize(&run, input, two, NULL, NULL));
        CHECK(calibrated_same(one, two));
        check_verified(one, strchr(CASES[i].method, 's') ? NULL : input, 1); /* smoothing moves norms */
        calibrated_remove(one);
        calibrated_remove(two);
        calibrated_remove(input);
    }
}

static void test_refusals(void) {
    const char *input = calibrated_family("llama"), *out = check_fresh();
    const char *const odd[] = {"input_range=absmax", NULL};
    calibrated run = calibrated_run("fp8-static", "rtn", SAMPLES, LENGTH), other = run;
    other.options.calibration.data = NULL;
    CHECK_FAILS(calibrated_quantize(&other, input, out, NULL, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "fp8-static takes the scale of its inputs from text");
    other = run;
    other.options.scheme = "fp8-tensor";
    other.options.set = odd;
    CHECK_FAILS(calibrated_quantize(&other, input, out, NULL, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "input_range");
    other = run;
    other.options.calibration.length = 257;
    CHECK_FAILS(calibrated_quantize(&other, input, out, NULL, NULL), HT_ERR_ARGUMENT);
    other = run;
    other.options.scheme = NULL;
    other.options.method = NULL;
    other.options.recipe_text = "version: 1\nrules:\n  - match: [linear, lm_head]\n    scheme: fp8-static\n";
    CHECK_FAILS(calibrated_quantize(&other, input, out, NULL, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "lm_head.weight");
    calibrated_remove(input);
}

int main(void) {
    RUN(test_choice);
    RUN(test_families);
    RUN(test_run_time);
    RUN(test_methods);
    RUN(test_refusals);
    return check_finish();
}
