/* Quantizing a checkpoint from end to end: the bytes, their independence of threads and slices, stopping and going on,
 * bad input.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/quant.h>

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/random.h"
#include "support/check.h"
#include "support/synthetic.h"

static ht_context *ctx;
static const char *model(void) {
    return check_data("../../models/novel-7m");
}

static const ht_plan_tensor *find(const ht_plan *plan, const char *name) {
    for (size_t i = 0; i < ht_plan_count(plan); i++)
        if (strcmp(ht_plan_at(plan, i)->name, name) == 0)
            return ht_plan_at(plan, i);
    return NULL;
}

static void test_mxfp4(void) {
    const char *out = check_fresh();
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "mxfp4-w";
    ht_plan *plan;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, model(), out, &options, &plan));
    ht_plan_summary summary = ht_plan_summarize(plan);
    CHECK_INT(summary.quantized, 56);
    CHECK_INT(summary.refused, 0);
    CHECK_NEAR(summary.bits_per_weight, 4.25, 1e-12);
    const ht_plan_tensor *q = find(plan, "model.layers.0.self_attn.q_proj.weight");
    REQUIRE(q != NULL);
    CHECK_TEXT(q->got, "mxfp4-w");
    CHECK(q->error > 0.08 && q->error < 0.15);
    const ht_plan_tensor *norm = find(plan, "model.norm.weight");
    CHECK_TEXT(norm->got, "bf16");
    CHECK(norm->error == 0 && *norm->reason);
    ht_checkpoint *checkpoint;
    if (CHECK_OK(ht_checkpoint_open(ctx, out, &checkpoint))) {
        const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, "model.layers.0.self_attn.q_proj.weight");
        CHECK(p && p->quantized && !p->has_input);
        ht_checkpoint_close(checkpoint);
    }
    ht_plan_destroy(plan);
}

/* --- Same bytes ------------------------------------------------------------------------------------------- */

/* Are the files of two directories equal, by names and bytes? */
static int same_directories(const char *a, const char *b) {
    char command[1400];
    snprintf(command, sizeof command, "diff -r '%s' '%s' >&2", a, b);
    return system(command) == 0;
}

static void remove_directory(const char *path) {
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    CHECK_INT(system(command), 0);
}

static ht_status quantize_with(size_t threads, size_t chunk, const char *input, const char *output, const char *scheme,
                               ht_plan **plan) {
    ht_context *other;
    ht_context_options how = ht_context_options_default();
    how.threads = threads;
    HT_CHECK(ht_context_create(&how, &other));
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = scheme;
    options.chunk_bytes = chunk;
    options.shard_bytes = 100000;
    ht_status status = ht_quantize_checkpoint(other, input, output, &options, plan);
    if (status == HT_OK && plan) { /* rows outlive neither plan nor context */
        ht_plan_destroy(*plan);
        *plan = NULL;
    }
    ht_context_destroy(other);
    return status;
}

static const char *const stored_schemes[] = {
    "mxfp4", "mxfp8", "mxfp4-a8", "nvfp4",    "nvfp4-w",       "fp8",           "fp8-tensor", "fp8-block",
    "fp8-w", "int8",  "int8-w",   "int4-g32", "int4-g32-asym", "int3-g16-asym", "int4-a8",    "int4-row"};

static void test_threads_and_chunks(void) {
    static const char *const models[] = {"llama", "qwen3-moe", "gpt-oss"};
    for (size_t m = 0; m < 3; m++)
        for (size_t s = 0; s < sizeof stored_schemes / sizeof *stored_schemes; s++) {
            char relative[64], one[512], other[512];
            snprintf(relative, sizeof relative, "tiny/%s", models[m]);
            snprintf(one, sizeof one, "%s", check_fresh());
            snprintf(other, sizeof other, "%s", check_fresh());
            ht_status status = quantize_with(1, 0, check_data(relative), one, stored_schemes[s], NULL);
            if (status == HT_ERR_UNSUPPORTED) { /* no column count of a tiny model fits groups of 128 */
                CHECK_CONTAINS(ht_error_message(), "none of the");
                continue;
            }
            CHECK_INT(status, HT_OK);
            CHECK_OK(quantize_with(3, 700, check_data(relative), other, stored_schemes[s], NULL));
            if (!CHECK(same_directories(one, other)))
                CHECK_TEXT(stored_schemes[s], models[m]);
            ht_verification *verification;
            if (CHECK_OK(ht_verify(ctx, one, check_data(relative), NULL, &verification))) {
                const ht_check *check;
                for (size_t i = 0; (check = ht_verification_check(verification, i)); i++)
                    if (!CHECK_INT(check->ok, 1))
                        CHECK_TEXT(check->detail, stored_schemes[s]);
                ht_verification_destroy(verification);
            }
            remove_directory(one);
            remove_directory(other);
        }
}

/* What the scheme says about inputs comes back when the result is opened. */
static void test_inputs_recorded(void) {
    for (size_t s = 0; s < sizeof stored_schemes / sizeof *stored_schemes; s++) {
        const char *out = check_fresh();
        ht_scheme scheme;
        ht_checkpoint *checkpoint;
        REQUIRE_OK(ht_scheme_parse(stored_schemes[s], &scheme));
        REQUIRE_OK(quantize_with(2, 0, model(), out, stored_schemes[s], NULL));
        REQUIRE_OK(ht_checkpoint_open(ctx, out, &checkpoint));
        const ht_parameter *p = ht_checkpoint_find_parameter(checkpoint, "model.layers.0.self_attn.q_proj.weight");
        if (CHECK(p && p->quantized)) {
            CHECK_INT(p->weight.format.family, scheme.weight.family);
            CHECK_INT(p->weight.format.element, scheme.weight.element);
            CHECK_INT(p->weight.format.block_rows, scheme.weight.block_rows);
            CHECK_INT(p->weight.format.block_cols, scheme.weight.block_cols);
            if (!CHECK_INT(p->has_input, scheme.has_input) ||
                (p->has_input && !CHECK(ht_format_equal(&p->input, &scheme.input))))
                CHECK_TEXT(stored_schemes[s], "(the input's format)");
        }
        ht_checkpoint_close(checkpoint);
        remove_directory(out);
    }
}

/* Searched scales through the whole run: no tensor is further off than with the formula's, and the result proves. */
static void test_searched_scales(void) {
    static const char *const schemes[] = {"int4-g32", "int4-g32-asym", "int3-g64", "int8-w", "fp8-w", "nvfp4-w"};
    for (size_t s = 0; s < sizeof schemes / sizeof *schemes; s++) {
        char plain[512], searched[512];
        snprintf(plain, sizeof plain, "%s", check_fresh());
        snprintf(searched, sizeof searched, "%s", check_fresh());
        ht_quantize_options options = ht_quantize_options_default();
        options.scheme = schemes[s];
        ht_plan *a, *b;
        ht_verification *proof;
        REQUIRE_OK(ht_quantize_checkpoint(ctx, model(), plain, &options, &a));
        options.scale_rule = HT_SCALE_MSE;
        REQUIRE_OK(ht_quantize_checkpoint(ctx, model(), searched, &options, &b));
        double sum_plain = 0, sum_searched = 0;
        for (size_t i = 0; i < ht_plan_count(a); i++) {
            double formula = ht_plan_at(a, i)->error, search = ht_plan_at(b, i)->error;
            CHECK(search <= formula * (1 + 1e-6));
            sum_plain += formula;
            sum_searched += search;
        }
        printf("%-14s relative error %.5f, searched %.5f\n", schemes[s], sum_plain / 56, sum_searched / 56);
        CHECK(sum_searched <= sum_plain);
        CHECK(strncmp(schemes[s], "int8", 4) == 0 || sum_searched < sum_plain);
        REQUIRE_OK(ht_verify(ctx, searched, model(), NULL, &proof));
        CHECK_INT(ht_verification_ok(proof), 1);
        ht_verification_destroy(proof);
        ht_plan_destroy(a);
        ht_plan_destroy(b);
        remove_directory(plain);
        remove_directory(searched);
    }
}

/* --- Stopping and going on -------------------------------------------------------------------------------- */

/* Quantize in a child process that is killed after so many microseconds (0: never). 1 when it got done. */
static int run_and_kill(const char *input, const char *output, size_t threads, size_t chunk, unsigned microseconds) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        ht_status result = quantize_with(threads, chunk, input, output, "nvfp4", NULL);
        /* a kill between the commit and the exit: the next run finds its work done */
        _exit(result == HT_OK || (result == HT_ERR_OUTPUT && strstr(ht_error_message(), "exists already")) ? 0 : 1);
    }
    if (microseconds) {
        usleep(microseconds);
        kill(child, SIGKILL);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

static void test_killed(void) {
    char input[512], whole[512];
    snprintf(input, sizeof input, "%s", check_fresh());
    snprintf(whole, sizeof whole, "%s", check_fresh());
    REQUIRE_OK(synthetic_checkpoint(ctx, input, &(synthetic_options){.bytes = 24000000, .hidden = 512}));
    REQUIRE_OK(quantize_with(2, 0, input, whole, "nvfp4", NULL));
    size_t kills = 0, resumed = 0;
    for (size_t round = 0; kills < 12 && round < 200; round++) {
        const char *out = check_fresh();
        size_t before = kills;
        int done = 0;
        while (!done) { /* at most six kills, so that a busy machine gets to the end, too */
            unsigned patience = kills < before + 6 ? 2000 + ht_random_u32(3, round, kills) % 60000 : 0;
            done = run_and_kill(input, out, 1 + kills % 3, (size_t)4096 << kills % 5, patience);
            kills += !done;
        }
        resumed += kills > before;
        CHECK(same_directories(whole, out));
        remove_directory(out);
    }
    CHECK(kills >= 10);
    CHECK(resumed > 0);
}

static int stop_after(void *user) {
    return --*(int *)user < 0;
}

static void test_cancelled(void) {
    char input[512], whole[512], out[512];
    snprintf(input, sizeof input, "%s", check_fresh());
    snprintf(whole, sizeof whole, "%s", check_fresh());
    snprintf(out, sizeof out, "%s", check_fresh());
    REQUIRE_OK(synthetic_checkpoint(ctx, input, &(synthetic_options){.bytes = 150000000, .hidden = 1024}));
    REQUIRE_OK(quantize_with(2, 0, input, whole, "int4", NULL));
    int left = 2;
    ht_context *other;
    ht_context_options how = ht_context_options_default();
    how.cancelled = stop_after;
    how.callback_user = &left;
    REQUIRE_OK(ht_context_create(&how, &other));
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "int4";
    options.shard_bytes = 100000;
    ht_plan *plan;
    CHECK_FAILS(ht_quantize_checkpoint(other, input, out, &options, &plan), HT_ERR_CANCELLED);
    CHECK(plan == NULL);
    ht_context_destroy(other);
    /* other options are refused, naming what differs */
    options.scale_rule = HT_SCALE_MSE;
    CHECK_FAILS(ht_quantize_checkpoint(ctx, input, out, &options, NULL), HT_ERR_POLICY);
    CHECK_CONTAINS(ht_error_message(), "scale_rule differs");
    options.scale_rule = HT_SCALE_DEFAULT;
    options.resume = HT_RESUME_REQUIRED;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, input, out, &options, &plan));
    for (size_t i = 0; i < ht_plan_count(plan); i++) /* errors of the first run are known, too */
        CHECK(isfinite(ht_plan_at(plan, i)->error));
    ht_plan_destroy(plan);
    CHECK(same_directories(whole, out));
    CHECK_FAILS(ht_quantize_checkpoint(ctx, input, check_fresh(), &options, NULL), HT_ERR_POLICY);
}

/* --- Memory ----------------------------------------------------------------------------------------------- */

extern void __asan_init(void) __attribute__((weak));
extern void __tsan_init(void) __attribute__((weak));

/* A checkpoint of 300 MB under a limit of 16 MB for our buffers, 48 MB for all private memory of the process (stacks
 * and libraries included), and 160 MB for what is resident, mapped input included. */
static void test_memory(void) {
    if (__asan_init || __tsan_init)
        SKIP("sanitizers need memory of their own");
    char input[512], out[512];
    snprintf(input, sizeof input, "%s", check_fresh());
    snprintf(out, sizeof out, "%s", check_fresh());
    REQUIRE_OK(synthetic_checkpoint(ctx, input, &(synthetic_options){.bytes = 300000000, .hidden = 2048}));
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        struct rlimit limit = {48u << 20, 48u << 20};
        setrlimit(RLIMIT_DATA, &limit);
        ht_context *small;
        ht_context_options how = ht_context_options_default();
        how.threads = 2;
        how.memory_limit = 16u << 20;
        HT_CHECK(ht_context_create(&how, &small));
        ht_quantize_options options = ht_quantize_options_default();
        options.scheme = "mxfp4";
        HT_CHECK(ht_quantize_checkpoint(small, input, out, &options, NULL));
        _exit(ht_context_memory_peak(small) <= 16u << 20 ? 0 : 99);
    }
    int status;
    struct rusage usage;
    wait4(child, &status, 0, &usage);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(usage.ru_maxrss < 160 * 1024);
}

/* The estimate of the plan covers what the run takes; the smallest limit that works is small. */
static void test_estimate(void) {
    ht_context *small;
    ht_context_options how = ht_context_options_default();
    how.threads = 2;
    how.memory_limit = 2u << 20;
    REQUIRE_OK(ht_context_create(&how, &small));
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "mxfp8";
    ht_plan *plan;
    REQUIRE_OK(ht_quantize_checkpoint(small, model(), check_fresh(), &options, &plan));
    size_t peak = ht_context_memory_peak(small), estimate = ht_plan_summarize(plan).peak_memory_bytes;
    CHECK(peak <= 2u << 20);
    CHECK(estimate >= peak / 2 && estimate <= 3 * peak);
    ht_plan_destroy(plan);
    ht_context_destroy(small);
    how.memory_limit = 100000;
    REQUIRE_OK(ht_context_create(&how, &small));
    CHECK_FAILS(ht_quantize_checkpoint(small, model(), check_fresh(), &options, NULL), HT_ERR_MEMORY);
    CHECK_CONTAINS(ht_error_message(), "memory limit is 100000");
    ht_context_destroy(small);
}

/* --- Bad input -------------------------------------------------------------------------------------------- */

static const char *save_one(const char *name, float *x, size_t rows, size_t cols) {
    static char path[512];
    snprintf(path, sizeof path, "%s/one%u.safetensors", check_scratch(), (unsigned)(rand() % 1000000));
    ht_tensor tensor = ht_tensor_view_2d(x, HT_F32, rows, cols);
    CHECK_OK(ht_safetensors_save(ctx, path, &name, &tensor, 1, NULL));
    return path;
}

static void test_not_finite(void) {
    static float x[64 * 64];
    for (size_t i = 0; i < 64 * 64; i++)
        x[i] = ht_random_normal(1, 2, i);
    x[37 * 64 + 5] = NAN;
    x[40 * 64] = -INFINITY;
    const char *name = "model.layers.0.mlp.up_proj.weight", *input = save_one(name, x, 64, 64), *out = check_fresh();
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "mxfp4-w";
    CHECK_FAILS(ht_quantize_checkpoint(ctx, input, out, &options, NULL), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "tensor model.layers.0.mlp.up_proj.weight holds NaN at [37, 5]");
    CHECK(access(out, F_OK) != 0); /* nothing is left */
    char recipe[512];
    snprintf(recipe, sizeof recipe, "%s/keep.yaml", check_scratch());
    FILE *file = fopen(recipe, "w");
    REQUIRE(file != NULL);
    fputs("version: 1\npreset: mxfp4-w\noptions: {nan: keep}\n", file);
    fclose(file);
    options.scheme = NULL;
    options.recipe_path = recipe;
    ht_plan *plan;
    REQUIRE_OK(ht_quantize_checkpoint(ctx, input, out, &options, &plan));
    CHECK_CONTAINS(ht_plan_at(plan, 0)->reason, "2 values are NaN or Inf");
    CHECK(ht_plan_at(plan, 0)->error > 0.05 && ht_plan_at(plan, 0)->error < 0.2);
    ht_plan_destroy(plan);
}

static void test_refusals(void) {
    char out[512];
    snprintf(out, sizeof out, "%s", check_fresh());
    ht_quantize_options options = ht_quantize_options_default();
    CHECK_FAILS(ht_quantize_checkpoint(ctx, model(), out, &options, NULL), HT_ERR_ARGUMENT);
    options.scheme = "mxfp4-w";
    CHECK_FAILS(ht_quantize_checkpoint(ctx, "/nonexistent", out, &options, NULL), HT_ERR_IO);
    CHECK_OK(ht_quantize_checkpoint(ctx, model(), out, &options, NULL));
    CHECK_FAILS(ht_quantize_checkpoint(ctx, model(), out, &options, NULL), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), out);
    options.overwrite = 1;
    CHECK_OK(ht_quantize_checkpoint(ctx, model(), out, &options, NULL));
    CHECK_FAILS(ht_quantize_checkpoint(ctx, out, check_fresh(), &options, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "is quantized already (mxfp4)");
    options.profile = "torcho";
    CHECK_FAILS(ht_quantize_checkpoint(ctx, model(), check_fresh(), &options, NULL), HT_ERR_ARGUMENT);
    options.profile = "modelopt";
    CHECK_FAILS(ht_quantize_checkpoint(ctx, model(), check_fresh(), &options, NULL), HT_ERR_UNSUPPORTED);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_mxfp4);
    RUN(test_threads_and_chunks);
    RUN(test_inputs_recorded);
    RUN(test_searched_scales);
    RUN(test_killed);
    RUN(test_cancelled);
    RUN(test_memory);
    RUN(test_estimate);
    RUN(test_not_finite);
    RUN(test_refusals);
    ht_context_destroy(ctx);
    return check_finish();
}
