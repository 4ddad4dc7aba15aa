/* AutoRound in whole runs: outputs of blocks come nearer to the float model's on samples that were not learned from,
 * for every family; the same bytes for any threads, and for a run that was stopped; settings and refusals. */
#include <halftone/model.h>
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calibrated.h"
#include "support/check.h"

enum { TOKENS = 64 };

/* Mean squared difference of the logits of two models on a text of their own. */
static double difference(const char *a, const char *b) {
    const char *const paths[2] = {a, b};
    float *logits[2] = {NULL, NULL};
    size_t values = 0;
    double sum = 0;
    for (int i = 0; i < 2; i++) {
        ht_context *ctx = NULL;
        ht_model *model = NULL;
        ht_sequence *sequence = NULL;
        int32_t ids[TOKENS];
        if (CHECK_OK(ht_context_create(NULL, &ctx)) && CHECK_OK(ht_model_open(ctx, paths[i], &model))) {
            size_t vocabulary = ht_model_describe(model).vocabulary;
            for (size_t t = 0; t < TOKENS; t++)
                ids[t] = (int32_t)((t * 2654435761u >> 9) % 200);
            values = TOKENS * vocabulary;
            logits[i] = calloc(values, sizeof(float));
            CHECK_OK(ht_sequence_create(model, TOKENS, &sequence));
            CHECK_OK(ht_model_forward(model, sequence, ids, TOKENS, logits[i], TOKENS));
        }
        ht_sequence_destroy(sequence);
        ht_model_close(model);
        ht_context_destroy(ctx);
    }
    for (size_t i = 0; logits[0] && logits[1] && i < values; i++)
        sum += ((double)logits[0][i] - (double)logits[1][i]) * ((double)logits[0][i] - (double)logits[1][i]);
    free(logits[0]);
    free(logits[1]);
    return sum / (double)values;
}

static calibrated learning(const char *scheme, const char *method) {
    calibrated run = calibrated_run(scheme, method, 4, 32);
    run.options.calibration.held_out = 2;
    run.threads = 1;
    return run;
}

static const char *const SET[] = {"iterations=24", "batch=2", NULL};

/* Random models have no text of their own: what is learned on some samples helps on the others as far as the blocks'
 * inputs are alike, which the guard sees to. */
static void test_families(void) {
    static const char *const SCHEMES[] = {"mxfp4-w", "nvfp4-w", "int4-g32-asym", "int3-g32"};
    for (size_t f = 0; calibrated_families[f]; f++) {
        const char *input = calibrated_family(calibrated_families[f]), *scheme = SCHEMES[f % 4];
        const char *plain = check_fresh(), *out = check_fresh();
        calibrated run = learning(scheme, "gptq");
        if (!CHECK_OK(calibrated_quantize(&run, input, plain, NULL, NULL)))
            continue;
        run = learning(scheme, "gptq+autoround");
        run.options.set = SET;
        if (!CHECK_OK(calibrated_quantize(&run, input, out, NULL, NULL)))
            continue;
        double before = difference(input, plain), after = difference(input, out);
        if (!CHECK(after < 1.05 * before))
            fprintf(stderr, "  %s: %g, was %g\n", calibrated_families[f], after, before);
        calibrated_remove(plain);
        calibrated_remove(out);
    }
}

static void test_same_bytes(void) {
    static const ht_calibration_mode MODES[] = {HT_CALIBRATE_NON_SEQUENTIAL, HT_CALIBRATE_SEQUENTIAL,
                                                HT_CALIBRATE_TRUE_SEQUENTIAL};
    static const char *const few[] = {"iterations=5", "batch=3", NULL};
    const char *input = calibrated_family("qwen3-moe");
    for (size_t m = 0; m < 3; m++) {
        const char *one = check_fresh(), *two = check_fresh();
        calibrated run = learning("nvfp4-w", m ? "gptq+autoround" : "autoround");
        run.options.calibration.mode = MODES[m];
        run.options.set = few;
        CHECK_OK(calibrated_quantize(&run, input, one, NULL, NULL));
        run.threads = 2;
        run.cpu = m == 1 ? "baseline" : NULL;
        CHECK_OK(calibrated_quantize(&run, input, two, NULL, NULL));
        CHECK(calibrated_same(one, two));
        calibrated_remove(one);
        calibrated_remove(two);
    }
}

/* A scheme that quantizes inputs, and one whose scales many rows share. */
static void test_schemes(void) {
    static const char *const SCHEMES[] = {"mxfp4", "fp8-block", "int8"};
    const char *input = calibrated_family("llama");
    for (size_t s = 0; s < 3; s++) {
        const char *out = check_fresh();
        calibrated run = learning(SCHEMES[s], "gptq+autoround");
        run.options.set = SET;
        CHECK_OK(calibrated_quantize(&run, input, out, NULL, NULL));
        calibrated_remove(out);
    }
}

static void check_refused(const char *method, const char *set, const char *message) {
    const char *const list[] = {set, NULL}, *input = calibrated_family("llama"), *out = check_fresh();
    calibrated run = learning("mxfp4-w", method);
    run.options.set = set ? list : NULL;
    CHECK_FAILS(calibrated_quantize(&run, input, out, NULL, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), message);
}

static void test_refusals(void) {
    check_refused("autoround+gptq", NULL, "write gptq+autoround");
    check_refused("gptq", "batch=2", "batch means nothing for method gptq");
    check_refused("gptq+autoround", "batch=0", "batch is \"0\"");
    calibrated run = learning("mxfp4-w", "autoround");
    run.options.calibration.data = NULL;
    CHECK_FAILS(calibrated_quantize(&run, calibrated_family("llama"), check_fresh(), NULL, NULL), HT_ERR_ARGUMENT);
}

int main(void) {
    RUN(test_families);
    RUN(test_same_bytes);
    RUN(test_schemes);
    RUN(test_refusals);
    return check_finish();
}
