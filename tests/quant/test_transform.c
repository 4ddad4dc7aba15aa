/* Transforms leave a model as it is: logits of a rotated or smoothed float model against those of the original, for
 * every family; what cannot be transformed is refused; a run with transforms from end to end.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/transform.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <halftone/model.h>
#include <halftone/quant.h>

#include "base/random.h"
#include "calibrated.h"
#include "quant/transform/rotate.h"
#include "quant/transform/stage.h"
#include "support/check.h"

static const char *const NAMES[] = {"llama", "llama-rope3", "llama-bias-tied", "mistral-window",
                                    "qwen2", "qwen3",       "qwen3-moe",       "mixtral",
                                    "olmoe", "phi3",        "gemma2",          "gpt-oss"};
enum { FAMILIES = sizeof NAMES / sizeof *NAMES, SAMPLES = 3, LENGTH = 24 };

static unsigned everything(const ht_settings *settings) {
    (void)settings;
    return HT_MOMENT_RANGE | HT_MOMENT_MEAN | HT_MOMENT_SECOND;
}

/* Logits of a fixed text; to be freed. */
static float *logits_of(ht_model *model, size_t *count) {
    int32_t ids[LENGTH];
    ht_model_info info = ht_model_describe(model);
    for (int i = 0; i < LENGTH; i++)
        ids[i] = (int32_t)(ht_random_u32(1, 2, (uint64_t)i) % info.vocabulary);
    *count = LENGTH * info.vocabulary;
    float *logits = malloc(*count * sizeof *logits);
    ht_sequence *sequence;
    CHECK_OK(ht_sequence_create(model, LENGTH, &sequence));
    CHECK_OK(ht_model_forward(model, sequence, ids, LENGTH, logits, LENGTH));
    ht_sequence_destroy(sequence);
    return logits;
}

static int placement = HT_PLACEMENT_FUSE; /* of the scales of a test */

/* A plan in which every linear asks for `method` before it is rounded. */
static ht_plan *plan_for(ht_model *model, const ht_method *method, const char *settings) {
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "int4-g16";
    options.profile = "plain";
    ht_plan *plan = NULL;
    if (!CHECK_OK(ht_plan_create(model->ctx, model->checkpoint, &options, &plan)))
        return NULL;
    for (size_t i = 0; i < plan->recipe->count; i++)
        plan->recipe->rule[i].chain.stage[method->stage] = method;
    for (size_t i = 0; i < plan->count; i++) {
        plan->job[i].settings = ht_settings_default(settings);
        plan->job[i].settings.value[HT_SETTING_R4] = method->rotates; /* all inputs of down, too */
        plan->job[i].settings.value[HT_SETTING_PLACEMENT] = placement;
    }
    return plan;
}

/* Transform into `path` with nothing rounded but norms. Returns the number of parameters that changed. */
static size_t apply(ht_model *model, const ht_method *method, const char *settings, const char *path) {
    int32_t ids[SAMPLES * LENGTH];
    for (size_t i = 0; i < SAMPLES * LENGTH; i++)
        ids[i] = (int32_t)(ht_random_u32(9, 2, i) % model->config.vocabulary);
    ht_plan *plan = plan_for(model, method, settings);
    ht_edits *edits = NULL;
    size_t changed = 0;
    const ht_transform how = {.plan = plan, .method = method, .ids = ids, .samples = SAMPLES, .length = LENGTH};
    if (plan && CHECK_OK(ht_edits_create(model->ctx, model->checkpoint, &edits)) &&
        CHECK_OK(ht_transform_edits(model, &how, edits))) {
        for (size_t i = 0; i < plan->count; i++) {
            if (plan->job[i].parameter->rank > 1)
                edits->edit[i].keeps_dtype = 0;
            changed += edits->edit[i].in || edits->edit[i].out || edits->edit[i].columns || edits->edit[i].values ||
                       edits->edit[i].sets_inputs;
        }
        edits->head_edit.keeps_dtype = 0;
        CHECK_OK(ht_edits_write(edits, path, "test"));
    }
    ht_edits_destroy(edits);
    ht_plan_destroy(plan);
    return changed;
}

static void same_model(ht_context *ctx, const char *name, const ht_method *method, const char *settings) {
    char path[256];
    ht_model *before, *after;
    size_t count, again;
    snprintf(path, sizeof path, "tiny/%s", name);
    REQUIRE_OK(ht_model_open(ctx, check_data(path), &before));
    snprintf(path, sizeof path, "%s/%s-%s", check_scratch(), name, settings);
    CHECK(apply(before, method, settings, path) >= 6);
    REQUIRE_OK(ht_model_open(ctx, path, &after));
    float *a = logits_of(before, &count), *b = logits_of(after, &again);
    CHECK_INT(again, count);
    if (!CHECK_F32_WITHIN(b, a, count, 2e-4))
        fprintf(stderr, "  of %s, %s\n", name, settings);
    CHECK(memcmp(a, b, count * sizeof *a) != 0); /* something was changed */
    free(a);
    free(b);
    ht_model_close(before);
    ht_model_close(after);
    ht_stage_remove(path);
    CHECK(access(path, F_OK) != 0);
}

static void test_rotate(void) {
    const ht_method method = {.item = {"rotate", "", ""}, .stage = HT_STAGE_ROTATE, .rotates = 1};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < FAMILIES; i++)
        if (strcmp(NAMES[i], "gemma2") != 0)
            same_model(ctx, NAMES[i], &method, "rotate");
    ht_context_destroy(ctx);
}

static void test_smooth(void) {
    const ht_method method = {
        .item = {"smooth", "", ""}, .stage = HT_STAGE_SCALE, .moments = everything, .scales = ht_smooth_scales};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (placement = HT_PLACEMENT_FUSE; placement <= HT_PLACEMENT_APPLY; placement++)
        for (size_t i = 0; i < FAMILIES; i++)
            same_model(ctx, NAMES[i], &method, "smooth");
    placement = HT_PLACEMENT_FUSE;
    ht_context_destroy(ctx);
}

static void test_awq(void) {
    const ht_method method = {
        .item = {"awq", "", ""}, .stage = HT_STAGE_SCALE, .moments = everything, .scales = ht_awq_scales};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    same_model(ctx, "llama", &method, "awq");
    same_model(ctx, "qwen3-moe", &method, "awq");
    same_model(ctx, "gpt-oss", &method, "awq");
    ht_context_destroy(ctx);
}

static void test_hadamard(void) {
    const ht_method method = {.item = {"hadamard", "", ""}, .stage = HT_STAGE_INPUTS, .mixes = 1};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < FAMILIES; i++)
        same_model(ctx, NAMES[i], &method, "hadamard");
    ht_context_destroy(ctx);
}

/* No text is looked at. */
static void test_sinq(void) {
    const ht_method method = {.item = {"sinq", "", ""}, .stage = HT_STAGE_SCALE, .scales = ht_sinq_scales};
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < FAMILIES; i++)
        same_model(ctx, NAMES[i], &method, "sinq");
    ht_context_destroy(ctx);
}

static void test_refused(void) {
    ht_context *ctx;
    ht_model *model;
    ht_edits *edits;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    REQUIRE_OK(ht_model_open(ctx, check_data("tiny/gemma2"), &model));
    REQUIRE_OK(ht_edits_create(ctx, model->checkpoint, &edits));
    CHECK_FAILS(ht_rotate_edits(model, 1, edits), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "normalizes what its blocks add");
    ht_edits_destroy(edits);
    ht_model_close(model);
    ht_context_destroy(ctx);
}

/* quantize --method rotate: the stage is gone afterwards, the result loads, and threads change nothing. */
static void test_run(void) {
    char path[2][256], stage[300];
    float *logits[2];
    size_t count = 0;
    for (size_t threads = 1; threads <= 2; threads++) {
        ht_context_options context = ht_context_options_default();
        context.threads = threads;
        ht_context *ctx;
        ht_model *model;
        ht_plan *plan;
        REQUIRE_OK(ht_context_create(&context, &ctx));
        ht_quantize_options options = ht_quantize_options_default();
        options.scheme = "int8-w";
        options.method = "rotate";
        options.profile = "plain";
        snprintf(path[threads - 1], sizeof path[0], "%s/run%zu", check_scratch(), threads);
        REQUIRE_OK(ht_quantize_checkpoint(ctx, check_data("tiny/llama-bias-tied"), path[threads - 1], &options, &plan));
        CHECK(ht_plan_summarize(plan).quantized > 0);
        CHECK(ht_plan_summarize(plan).bytes_before < 1 << 20);
        ht_plan_destroy(plan);
        snprintf(stage, sizeof stage, "%s.rotate", path[threads - 1]);
        CHECK(access(stage, F_OK) != 0);
        REQUIRE_OK(ht_model_open(ctx, path[threads - 1], &model));
        logits[threads - 1] = logits_of(model, &count);
        ht_model_close(model);
        CHECK_FAILS(ht_quantize_checkpoint(ctx, check_data("tiny/llama"), path[threads - 1], &options, NULL),
                    HT_ERR_OUTPUT);
        ht_context_destroy(ctx);
    }
    CHECK_BYTES(logits[1], logits[0], count * sizeof *logits[0]);
    free(logits[0]);
    free(logits[1]);
}

static double distance(ht_context *ctx, const char *a, const char *b) {
    ht_comparison *comparison;
    const ht_tensor_difference *row;
    double worst = INFINITY;
    if (!CHECK_OK(ht_compare(ctx, a, b, &comparison)))
        return 0;
    for (size_t i = 0; (row = ht_comparison_at(comparison, i)); i++) {
        CHECK_TEXT(row->note, "");
        worst = fmin(worst, row->sqnr_db);
    }
    ht_comparison_destroy(comparison);
    return worst;
}

/* Stored by a profile and read back, transforms are undone on the way to the original's weights, and the logits are
 * those of rounding alone. */
static void check_stored(const char *family, const char *profile, const char *method, const char *const *set) {
    char out[256], path[256];
    ht_context *ctx;
    ht_model *before, *after;
    ht_verification *verification;
    size_t count;
    snprintf(path, sizeof path, "%s", calibrated_family(family));
    snprintf(out, sizeof out, "%s/stored-%s-%s", check_scratch(), family, profile);
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "int8-g16";
    options.profile = profile;
    options.method = method;
    options.set = set;
    options.overwrite = 1;
    options.calibration.data = check_data("text/sample-a.txt");
    options.calibration.samples = 2;
    options.calibration.length = 16;
    if (!strstr(method, "smooth"))
        options.calibration.data = NULL;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, path, out, &options, NULL));
    CHECK(distance(ctx, path, out) > 38); /* dB: int8 in groups leaves so much, a transform that stays nothing */
    REQUIRE_OK(ht_verify(ctx, out, path, NULL, &verification));
    CHECK(ht_verification_ok(verification));
    ht_verification_destroy(verification);
    REQUIRE_OK(ht_model_open(ctx, path, &before));
    REQUIRE_OK(ht_model_open(ctx, out, &after));
    float *a = logits_of(before, &count), *b = logits_of(after, &count);
    double error = 0, size = 0;
    for (size_t i = 0; i < count; i++) {
        error += (double)(a[i] - b[i]) * (double)(a[i] - b[i]);
        size += (double)a[i] * (double)a[i];
    }
    if (!CHECK(error < 0.003 * size))
        fprintf(stderr, "  %s, %s: logits are off by %g of their norm\n", family, profile, sqrt(error / size));
    free(a);
    free(b);
    ht_model_close(before);
    ht_model_close(after);
    ht_context_destroy(ctx);
    calibrated_remove(path);
}

static void test_stored(void) {
    static const char *const APPLY[] = {"placement=apply", NULL};
    check_stored("llama", "compressed-tensors", "hadamard", NULL);
    check_stored("mixtral", "compressed-tensors", "hadamard", NULL); /* experts apart */
    check_stored("qwen3-moe", "compressed-tensors", "hadamard", NULL);
    check_stored("gpt-oss", "plain", "hadamard", NULL); /* experts in one, stored turned */
    check_stored("phi3", "plain", "hadamard", NULL);    /* q, k and v in one */
    check_stored("llama", "plain", "smooth", APPLY);
    check_stored("qwen3-moe", "plain", "smooth+hadamard", APPLY);
}

/* What a profile cannot say is refused before anything is written, with the way out. */
static void test_profiles(void) {
    static const char *const ODD[] = {"block_hadamard=12", NULL}, *const WIDE[] = {"block_hadamard=128", NULL},
                             *const APPLY[] = {"placement=apply", NULL};
    static const struct {
        const char *scheme, *profile, *method;
        const char *const *set;
        ht_status status;
        const char *text;
    } cases[] = {
        {"fp8-block", "fp8", "hadamard", NULL, HT_ERR_UNSUPPORTED, "use profile compressed-tensors or plain"},
        {"int8-w", "compressed-tensors", "smooth", APPLY, HT_ERR_UNSUPPORTED, "use profile plain, or placement=fuse"},
        {"int8-w", "compressed-tensors", "hadamard", ODD, HT_ERR_UNSUPPORTED, "powers of two, not of 12"},
        {"int8-w", "plain", "hadamard", WIDE, HT_ERR_SHAPE, "do not divide"},
        {"int8-w", "plain", "hadamard+smooth", NULL, HT_ERR_ARGUMENT, "write smooth+hadamard"},
    };
    ht_context *ctx;
    char out[256];
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ht_quantize_options options = ht_quantize_options_default();
        options.scheme = cases[i].scheme;
        options.profile = cases[i].profile;
        options.method = cases[i].method;
        options.set = cases[i].set;
        options.calibration.data = check_data("text/sample-a.txt");
        snprintf(out, sizeof out, "%s/refused", check_scratch());
        CHECK_FAILS(ht_quantize_checkpoint(ctx, check_data("tiny/llama"), out, &options, NULL), cases[i].status);
        CHECK_CONTAINS(ht_error_message(), cases[i].text);
        CHECK(access(out, F_OK) != 0);
    }
    ht_context_destroy(ctx);
}

/* What lies at the stage's place and is none is left alone; what an interrupted run left there is used. */
static void test_stage(void) {
    char output[256], stage[300];
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "int8-w";
    options.profile = "plain";
    snprintf(stage, sizeof stage, "%s/taken.rotate", check_scratch());
    REQUIRE_OK(ht_quantize_checkpoint(ctx, check_data("tiny/llama"), stage, &options, NULL));
    options.method = "rotate";
    snprintf(output, sizeof output, "%s/taken", check_scratch());
    CHECK_FAILS(ht_quantize_checkpoint(ctx, check_data("tiny/llama"), output, &options, NULL), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), "transforms of this run would be kept there");
    options.method = "smooth";
    CHECK_FAILS(ht_quantize_checkpoint(ctx, check_data("tiny/llama"), output, &options, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "method smooth chooses by calibration text: give one with --data FILE");
    options.method = "rotate";

    ht_checkpoint *checkpoint;
    ht_plan *plan;
    ht_text path = {0}, again = {0};
    snprintf(output, sizeof output, "%s/twice", check_scratch());
    REQUIRE_OK(ht_checkpoint_open(ctx, check_data("tiny/llama"), &checkpoint));
    REQUIRE_OK(ht_plan_create(ctx, checkpoint, &options, &plan));
    CHECK(ht_stage_needed(plan));
    CHECK_OK(ht_stage_make(ctx, checkpoint, plan, &options, output, &path));
    char marker[400];
    snprintf(marker, sizeof marker, "%s/untouched", path.data);
    FILE *file = fopen(marker, "w");
    REQUIRE(file != NULL);
    fclose(file);
    CHECK_OK(ht_stage_make(ctx, checkpoint, plan, &options, output, &again));
    CHECK_TEXT(again.data, path.data);
    CHECK(access(marker, F_OK) == 0); /* not made again */
    ht_stage_remove(path.data);
    ht_text_free(&path);
    ht_text_free(&again);
    ht_plan_destroy(plan);
    ht_checkpoint_close(checkpoint);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_stored);
    RUN(test_profiles);
    RUN(test_rotate);
    RUN(test_smooth);
    RUN(test_awq);
    RUN(test_hadamard);
    RUN(test_sinq);
    RUN(test_refused);
    RUN(test_run);
    RUN(test_stage);
    return check_finish();
}
