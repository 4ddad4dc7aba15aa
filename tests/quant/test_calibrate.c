/* Calibrated runs: rounding gives the bytes of a run without text in every mode and for every family; text and options
 * that cannot be used. */
#include <halftone/quant.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "calibrated.h"
#include "support/check.h"

enum { MODES = HT_CALIBRATE_TRUE_SEQUENTIAL };

/* Outputs as if never calibrated: the record in config.json says the same, because text is no part of a recipe. */
static void test_rounding(void) {
    static const char *const SCHEMES[] = {"nvfp4", "int8-g32-w", NULL};
    for (size_t f = 0; calibrated_families[f]; f++)
        for (size_t s = 0; SCHEMES[s]; s++) {
            const char *input = calibrated_family(calibrated_families[f]), *plain = check_fresh();
            calibrated run = calibrated_run(SCHEMES[s], "rtn", 3, 40);
            calibrated none = run;
            none.options.calibration = (ht_calibration_options){0};
            if (!CHECK_OK(calibrated_quantize(&none, input, plain, NULL, NULL)))
                continue;
            for (int mode = 1; mode <= MODES; mode++) {
                const char *out = check_fresh();
                ht_plan_tensor *rows;
                size_t count, known = 0;
                run.options.calibration.mode = (ht_calibration_mode)mode;
                if (!CHECK_OK(calibrated_quantize(&run, input, out, &rows, &count)))
                    continue;
                CHECK(calibrated_same(plain, out));
                for (size_t i = 0; i < count; i++)
                    known += rows[i].loss > 0;
                CHECK(known > 0);
                free(rows);
                calibrated_remove(out);
            }
            calibrated_remove(plain);
        }
}

static void check_refused(const calibrated *run, const char *input, ht_status status, const char *message) {
    const char *out = check_fresh();
    CHECK_FAILS(calibrated_quantize(run, input, out, NULL, NULL), status);
    CHECK_CONTAINS(ht_error_message(), message);
    char command[700];
    snprintf(command, sizeof command, "test ! -e '%s'", out);
    CHECK_INT(system(command), 0); /* nothing is left behind */
}

static void write_text(const char *path, const char *text) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs(text, file);
    fclose(file);
}

static void test_refusals(void) {
    const char *input = calibrated_family("llama"), *text = check_fresh(), *moe = calibrated_family("mixtral");
    calibrated run = calibrated_run("nvfp4", "rtn", 2, 32), other = run;
    other.options.calibration.data = "/nonexistent/text";
    check_refused(&other, input, HT_ERR_IO, "/nonexistent/text");
    write_text(text, "Thirty-one bytes, no more, here");
    other.options.calibration.data = text;
    check_refused(&other, input, HT_ERR_ARGUMENT, "the text has 31 tokens, a sample needs 32");
    write_text(text, "");
    check_refused(&other, input, HT_ERR_ARGUMENT, "the text has 0 tokens");
    other = run;
    other.options.calibration.length = 1;
    check_refused(&other, input, HT_ERR_ARGUMENT, "samples of 1 tokens");
    other.options.calibration.length = 257;
    check_refused(&other, input, HT_ERR_ARGUMENT, "the model's context is 256");
    other = run;
    other.options.calibration.experts = "top-k+0";
    check_refused(&other, moe, HT_ERR_ARGUMENT, "allowed: routed, all, top-k+N");
}

/* --- Same bytes ------------------------------------------------------------------------------------------- */

/* The smallest limit, in steps, under which the run gets through; what a try leaves is gone on with by the next. */
static void run_in_little_memory(calibrated run, const char *input, const char *out) {
    size_t spilled = 0;
    ht_status status = HT_ERR_MEMORY;
    run.spilled = &spilled;
    for (run.memory_limit = 2u << 20; status == HT_ERR_MEMORY; run.memory_limit += run.memory_limit / 32)
        status = calibrated_quantize(&run, input, out, NULL, NULL);
    CHECK_OK(status);
    CHECK(spilled > 0);
}

/* Threads, and a memory limit that makes groups and a spill file: nothing of that is seen. */
static void test_same_bytes(void) {
    static const char *const quick[] = {"sweeps=0", "scales=at_group", NULL};
    const char *input = calibrated_deep();
    for (int mode = 1; mode <= MODES; mode++) {
        const char *whole = check_fresh(), *out = check_fresh();
        calibrated run = calibrated_run("nvfp4", "gptq", 4, 32);
        run.options.calibration.mode = (ht_calibration_mode)mode;
        run.options.calibration.held_out = 1;
        run.options.set = quick; /* searches and sweeps: below */
        run.threads = 2;
        if (!CHECK_OK(calibrated_quantize(&run, input, whole, NULL, NULL)))
            continue;
        calibrated other = run;
        other.threads = 1;
        CHECK_OK(calibrated_quantize(&other, input, out, NULL, NULL));
        CHECK(calibrated_same(whole, out));
        calibrated_remove(out);
        other = run;
        other.threads = mode; /* 1 to 3 */
        run_in_little_memory(other, input, out);
        CHECK(calibrated_same(whole, out));
        calibrated_remove(out);
        calibrated_remove(whole);
    }
    calibrated_remove(input);
}

/* Nor is the instruction set, of searches and sweeps as well. */
static void test_instruction_sets(void) {
    static const char *const FAMILIES[] = {"llama", "qwen3-moe", "gpt-oss"}, *const CPUS[] = {"baseline", "avx2"};
    for (size_t f = 0; f < 3; f++) {
        const char *input = calibrated_family(FAMILIES[f]), *native = check_fresh();
        calibrated run = calibrated_run("nvfp4", "gptq", 3, 32);
        run.options.calibration.held_out = 1;
        run.options.calibration.mode = (ht_calibration_mode)(1 + f % MODES);
        REQUIRE_OK(calibrated_quantize(&run, input, native, NULL, NULL));
        for (size_t c = 0; c < 2; c++) {
            const char *out = check_fresh();
            run.cpu = CPUS[c];
            CHECK_OK(calibrated_quantize(&run, input, out, NULL, NULL));
            CHECK(calibrated_same(native, out));
            calibrated_remove(out);
        }
        calibrated_remove(native);
        calibrated_remove(input);
    }
}

/* --- Families --------------------------------------------------------------------------------------------- */

static void check_verified(const char *path, const char *original) {
    ht_context *ctx;
    ht_verification *verification;
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    if (CHECK_OK(ht_verify(ctx, path, original, NULL, &verification)))
        for (size_t i = 0; ht_verification_check(verification, i); i++)
            if (!CHECK(ht_verification_check(verification, i)->ok))
                fprintf(stderr, "  %s\n", ht_verification_check(verification, i)->detail);
    ht_verification_destroy(verification);
    ht_context_destroy(ctx);
}

/* GPTQ through every family and mode: never worse than rounding, every matrix in its format, figures for all. */
static void test_families(void) {
    for (size_t f = 0; calibrated_families[f]; f++)
        for (int mode = 1; mode <= MODES; mode++) {
            const char *input = calibrated_family(calibrated_families[f]), *out = check_fresh();
            calibrated run = calibrated_run("nvfp4", "gptq", 4, 48);
            ht_plan_tensor *rows;
            size_t count, quantized = 0;
            run.options.calibration.mode = (ht_calibration_mode)mode;
            if (!CHECK_OK(calibrated_quantize(&run, input, out, &rows, &count)))
                continue;
            for (size_t i = 0; i < count; i++) {
                if (rows[i].error == 0)
                    continue;
                quantized++;
                CHECK(rows[i].tokens > 0 && rows[i].loss > 0);
                CHECK(rows[i].loss <= rows[i].rtn_loss);
            }
            CHECK(quantized >= 8);
            check_verified(out, input);
            free(rows);
            calibrated_remove(out);
            calibrated_remove(input);
        }
}

/* --- Experts ---------------------------------------------------------------------------------------------- */

static const ht_plan_tensor *find(const ht_plan_tensor *rows, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        if (strcmp(rows[i].name, name) == 0)
            return &rows[i];
    CHECK(!"the tensor is there");
    return &rows[0];
}

/* Whoever gets tokens: of all experts, of one more, of those that are routed to. */
static void test_policies(void) {
    static const char *const POLICIES[] = {"routed", "top-k+1", "all"};
    const char *input = calibrated_deep();
    for (size_t p = 0; p < 3; p++) {
        const char *out = check_fresh();
        calibrated run = calibrated_run("nvfp4", "gptq", 2, 64);
        ht_plan_tensor *rows;
        size_t count;
        uint64_t tokens = 0;
        char name[96];
        run.options.calibration.experts = POLICIES[p];
        REQUIRE_OK(calibrated_quantize(&run, input, out, &rows, &count));
        for (size_t e = 0; e < 4; e++) {
            snprintf(name, sizeof name, "model.layers.1.mlp.experts.%zu.down_proj.weight", e);
            tokens += find(rows, count, name)->tokens;
        }
        CHECK_INT(tokens, 128 * (2 + p)); /* two experts a token of four */
        CHECK_INT(find(rows, count, "model.layers.1.self_attn.o_proj.weight")->tokens, 128);
        free(rows);
        calibrated_remove(out);
    }
    calibrated_remove(input);
}

/* The larger model whose layers 4 and 5 have experts without a single token. */
static void test_starved(void) {
    static const char *const STARVED[] = {"model.layers.4.mlp.experts.6.", "model.layers.5.mlp.experts.2."};
    static const char *const PARTS[] = {"gate_proj.weight", "up_proj.weight", "down_proj.weight"};
    const char *input = check_extra_data("../models/novel-moe-12m"),
               *text = check_extra_data("../data/novel-calib.txt");
    if (!input || !text)
        SKIP("the larger reference data is not here");
    const char *out = check_fresh();
    calibrated run = calibrated_run("mxfp4-w", "gptq", 16, 512);
    ht_plan_tensor *rows;
    size_t count;
    run.options.calibration.data = text;
    run.options.calibration.mode = HT_CALIBRATE_NON_SEQUENTIAL;
    REQUIRE_OK(calibrated_quantize(&run, input, out, &rows, &count));
    for (size_t s = 0; s < 2; s++)
        for (size_t p = 0; p < 3; p++) {
            char name[96];
            snprintf(name, sizeof name, "%s%s", STARVED[s], PARTS[p]);
            const ht_plan_tensor *row = find(rows, count, name);
            CHECK_INT(row->tokens, 0);
            CHECK_CONTAINS(row->fallback, "rtn: 0 of 8192 calibration tokens come here");
            CHECK(row->error > 0.05 && row->error < 0.15); /* in its format all the same */
        }
    CHECK_TEXT(find(rows, count, "model.layers.4.mlp.experts.7.up_proj.weight")->fallback, "");
    free(rows);
}

int main(void) {
    RUN(test_rounding);
    RUN(test_same_bytes);
    RUN(test_instruction_sets);
    RUN(test_families);
    RUN(test_policies);
    RUN(test_starved);
    RUN(test_refusals);
    return check_finish();
}
