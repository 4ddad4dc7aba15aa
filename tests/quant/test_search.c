/* Search: sizes of the recipe are those of the real output, budgets hold, the same for any number of threads and any
 * memory limit, groups stay together, and what cannot be had is refused with its limits. */
#include <halftone/search.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "calibrated.h"
#include "support/check.h"

static const char *const FEW[] = {"int3-g32", "mxfp4-w", "int5-g32", "int8-g32", NULL};

static ht_search_options few_options(double bits) {
    ht_search_options options = ht_search_options_default();
    options.target_bits = bits;
    options.candidates = FEW;
    options.profile = "plain";
    options.method = "rtn";
    options.calibration = (ht_calibration_options){.data = check_data("text/sample-a.txt"), .samples = 4, .length = 32};
    options.scratch = check_scratch();
    return options;
}

static ht_context *context(size_t threads, size_t memory_limit) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx = NULL;
    options.threads = threads;
    options.memory_limit = memory_limit;
    CHECK_OK(ht_context_create(&options, &ctx));
    return ctx;
}

static unsigned long long directory_bytes(const char *path) {
    char command[1400];
    unsigned long long bytes = 0;
    snprintf(command, sizeof command, "cat '%s'/* | wc -c", path);
    FILE *pipe = popen(command, "r");
    CHECK(pipe && fscanf(pipe, "%llu", &bytes) == 1);
    if (pipe)
        pclose(pipe);
    return bytes;
}

/* Quantize by the recipe in its file; compare every tensor's scheme and the size on disk. */
static void check_round_trip(const ht_search *search, const char *input, const char *data) {
    const char *path = check_fresh(), *out = check_fresh();
    ht_search_summary sum = ht_search_summarize(search);
    ht_quantize_options options = ht_quantize_options_default();
    ht_context *ctx = context(2, 0);
    ht_plan *plan = NULL;
    options.recipe_path = path;
    options.calibration.data = data;
    CHECK_OK(ht_search_write(search, path));
    if (CHECK_OK(ht_quantize_checkpoint(ctx, input, out, &options, &plan))) {
        CHECK_INT(ht_plan_summarize(plan).bytes_after, sum.bytes);
        CHECK(ht_plan_summarize(plan).bits_per_weight >= sum.bits); /* it counts shapes, too */
        CHECK_NEAR(ht_plan_summarize(plan).bits_per_weight,
                   sum.bits + 128.0 * (double)sum.tensors / (double)sum.weights, 0.02);
        CHECK_INT(directory_bytes(out), sum.output_bytes);
        const ht_search_unit *unit;
        for (size_t u = 0; (unit = ht_search_unit_at(search, u)); u++)
            for (size_t t = 0; t < unit->tensors; t++)
                for (size_t i = 0; i < ht_plan_count(plan); i++)
                    if (strcmp(ht_plan_at(plan, i)->name, ht_search_unit_tensor(search, u, t)) == 0)
                        CHECK_TEXT(ht_plan_at(plan, i)->got, ht_search_candidate_at(search, unit->chosen)->scheme);
    }
    ht_plan_destroy(plan);
    ht_context_destroy(ctx);
    calibrated_remove(out);
}

static void test_families(void) {
    for (size_t f = 0; calibrated_families[f]; f++) {
        const char *input = calibrated_family(calibrated_families[f]);
        ht_context *ctx = context(2, 0);
        size_t before = ht_context_memory_used(ctx);
        for (int kind = 0; kind <= (f < 2 ? HT_SENSITIVITY_KL : HT_SENSITIVITY_HESSIAN); kind++) {
            ht_search_options options = few_options(4.9);
            ht_search *search;
            options.sensitivity = (ht_sensitivity)kind;
            options.exchanges = 2;
            options.mixed_groups = f % 2 == 1;
            options.method = f % 4 == 0 ? "gptq" : "rtn";
            if (!CHECK_OK(ht_search_run(ctx, input, &options, &search)))
                continue;
            ht_search_summary sum = ht_search_summarize(search);
            CHECK(sum.bits <= 4.9 && sum.bits > 4);
            CHECK_NEAR(sum.bits, 8.0 * (double)sum.linear_bytes / (double)sum.weights, 1e-15);
            CHECK(sum.loss >= sum.bound && sum.loss > 0);
            CHECK(kind == HT_SENSITIVITY_KL ? sum.exchanges == 2 : sum.exchanges == 0);
            if (sum.uniform != SIZE_MAX)
                CHECK(sum.loss <= ht_search_candidate_at(search, sum.uniform)->loss * (1 + 1e-12));
            if (kind != HT_SENSITIVITY_DIAGONAL)
                check_round_trip(search, input, options.calibration.data);
            ht_search_close(search);
        }
        CHECK_INT(ht_context_memory_used(ctx), before);
        ht_context_destroy(ctx);
    }
}

/* More bits never cost, more precise schemes never err more, and sums are those of the units. */
static void test_figures(void) {
    const char *input = calibrated_family("llama");
    ht_context *ctx = context(2, 0);
    ht_search_options options = few_options(5.2);
    ht_search *search;
    options.sensitivity = HT_SENSITIVITY_KL;
    REQUIRE_OK(ht_search_run(ctx, input, &options, &search));
    const ht_search_point *point, *before = NULL;
    for (size_t i = 0; (point = ht_search_point_at(search, i)); before = point, i++)
        CHECK(!before || (point->bits > before->bits && point->loss <= before->loss));
    CHECK(before != NULL);
    const ht_search_unit *unit;
    double loss = 0;
    uint64_t bytes = 0, weights = 0;
    for (size_t u = 0; (unit = ht_search_unit_at(search, u)); u++) {
        CHECK(unit->slope > 0);
        CHECK(unit->measure[0].error > unit->measure[2].error && unit->measure[2].error > unit->measure[3].error);
        CHECK(unit->measure[3].error > 0);
        loss += unit->measure[unit->chosen].loss;
        bytes += unit->measure[unit->chosen].bytes;
        weights += unit->weights;
    }
    CHECK_NEAR(loss, ht_search_summarize(search).loss, 1e-12);
    CHECK_INT(bytes, ht_search_summarize(search).linear_bytes);
    CHECK_INT(weights, ht_search_summarize(search).weights);
    CHECK(ht_search_candidate_at(search, 4) == NULL && ht_search_unit_tensor(search, 0, 99) == NULL);
    ht_search_close(search);
    ht_context_destroy(ctx);
}

static char *recipe_of(const char *input, const ht_search_options *options, size_t threads, size_t limit,
                       size_t *peak) {
    ht_context *ctx = context(threads, limit);
    ht_search *search;
    char *text = NULL;
    if (CHECK_OK(ht_search_run(ctx, input, options, &search))) {
        text = strdup(ht_search_recipe(search));
        *peak = ht_context_memory_peak(ctx);
        ht_search_close(search);
    }
    ht_context_destroy(ctx);
    return text;
}

static void test_same(void) {
    static const char *const FAMILIES[] = {"llama", "qwen3-moe"};
    for (size_t f = 0; f < 2; f++) {
        const char *input = calibrated_family(FAMILIES[f]);
        ht_search_options options = few_options(4.7);
        options.sensitivity = HT_SENSITIVITY_KL;
        options.calibration.samples = 160;
        options.calibration.length = 64;
        options.exchanges = 30;
        size_t peak, less;
        char *first = recipe_of(input, &options, 2, 0, &peak), *more = recipe_of(input, &options, 4, 0, &less);
        char *limited = recipe_of(input, &options, 2, peak - 300000, &less);
        CHECK(less <= peak - 300000);
        CHECK_TEXT(more, first);
        CHECK_TEXT(limited, first);
        free(first);
        free(more);
        free(limited);
    }
}

/* The whole output, measured on the disk, within its target; and the targets that cannot be had. */
static void test_target_bytes(void) {
    const char *input = calibrated_deep();
    ht_context *ctx = context(2, 0);
    ht_search_options options = few_options(0);
    ht_search *search;
    options.target_bytes = 1;
    CHECK_FAILS(ht_search_run(ctx, input, &options, &search), HT_ERR_ARGUMENT);
    unsigned long long target, least, most;
    const char *at = strstr(ht_error_message(), "give ");
    REQUIRE(at && sscanf(at, "give %llu at least and %llu at most", &least, &most) == 2);
    REQUIRE(least < most);
    for (int part = 1; part <= 2; part++) {
        options.target_bytes = target = least + (most - least) * (unsigned long long)part / 3;
        REQUIRE_OK(ht_search_run(ctx, input, &options, &search));
        CHECK(ht_search_summarize(search).output_bytes <= target);
        CHECK((double)ht_search_summarize(search).output_bytes > 0.9 * (double)target);
        check_round_trip(search, input, options.calibration.data);
        ht_search_close(search);
    }
    options.target_bytes = most + 1000000;
    CHECK_FAILS(ht_search_run(ctx, input, &options, &search), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "at most");
    ht_context_destroy(ctx);
}

/* All experts of a layer under one scheme, by one pattern; apart by name when groups may be mixed. */
static void test_experts(void) {
    const char *input = calibrated_deep();
    ht_context *ctx = context(2, 0);
    ht_search_options options = few_options(4.6);
    for (int mixed = 0; mixed < 2; mixed++) {
        ht_search *search;
        options.mixed_groups = mixed;
        REQUIRE_OK(ht_search_run(ctx, input, &options, &search));
        CHECK_CONTAINS(ht_search_recipe(search), mixed ? "experts.*.down_proj.weight\"" : "experts.**\"");
        const ht_search_unit *unit;
        size_t experts = 0, alone = 0;
        for (size_t u = 0; (unit = ht_search_unit_at(search, u)); u++) {
            experts += strstr(unit->name, "experts") != NULL;
            alone += unit->tensors == 1;
            if (strstr(unit->name, "experts"))
                CHECK_INT(unit->tensors, mixed ? 4 : 12);
        }
        CHECK(experts > 0 && alone > 0);
        check_round_trip(search, input, options.calibration.data);
        ht_search_close(search);
    }
    ht_context_destroy(ctx);
}

static void test_keep(void) {
    static const char *const CANDIDATES[] = {"int4-g32", "keep", NULL};
    const char *input = calibrated_family("llama");
    ht_context *ctx = context(2, 0);
    ht_search_options options = few_options(9);
    ht_search *search;
    options.candidates = CANDIDATES;
    REQUIRE_OK(ht_search_run(ctx, input, &options, &search));
    CHECK(ht_search_summarize(search).bits <= 9);
    CHECK_CONTAINS(ht_search_recipe(search), "keep: true");
    CHECK(ht_search_candidate_at(search, 1)->weights > 0 && ht_search_candidate_at(search, 1)->loss == 0);
    ht_search_close(search);
    ht_context_destroy(ctx);
}

static void check_refused(const ht_search_options *options, ht_status status, const char *message) {
    ht_context *ctx = context(1, 0);
    ht_search *search;
    size_t before = ht_context_memory_used(ctx);
    CHECK_FAILS(ht_search_run(ctx, calibrated_family("llama"), options, &search), status);
    CHECK_CONTAINS(ht_error_message(), message);
    CHECK(search == NULL);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
}

static int cancelled(void *user) {
    return ++*(int *)user > 20;
}

static void test_refused(void) {
    static const char *const UNKNOWN[] = {"int4-g32", "mxpf4", NULL}, *const TWICE[] = {"int4-g32", "INT4-G32", NULL},
                             *const KEEP[] = {"keep", NULL}, *const Q4K[] = {"q4_k", NULL},
                             *const SET[] = {"damp=2", NULL}, *const NOTHING[] = {"nvfp4_rule=training", NULL};
    ht_search_options good = few_options(5), bad = good;
    bad.target_bits = 3;
    check_refused(&bad, HT_ERR_ARGUMENT, "target of 3 bits per weight cannot be had");
    bad.target_bits = 12;
    check_refused(&bad, HT_ERR_ARGUMENT, "at most");
    bad.target_bits = (double)NAN;
    check_refused(&bad, HT_ERR_ARGUMENT, "above 0");
    bad.target_bits = 0;
    check_refused(&bad, HT_ERR_ARGUMENT, "one of the two");
    bad.target_bits = 5;
    bad.target_bytes = 5;
    check_refused(&bad, HT_ERR_ARGUMENT, "not both");
    bad = good;
    bad.calibration.data = NULL;
    check_refused(&bad, HT_ERR_ARGUMENT, "--data");
    bad = good;
    bad.calibration.length = 100000000;
    check_refused(&bad, HT_ERR_ARGUMENT, "samples of");
    bad = good;
    bad.calibration.length = 4096;
    check_refused(&bad, HT_ERR_ARGUMENT, "context");
    bad = good;
    bad.candidates = UNKNOWN;
    check_refused(&bad, HT_ERR_ARGUMENT, "mxfp4");
    bad.candidates = TWICE;
    check_refused(&bad, HT_ERR_ARGUMENT, "twice");
    bad.candidates = KEEP;
    check_refused(&bad, HT_ERR_ARGUMENT, "only candidate");
    bad.candidates = Q4K;
    check_refused(&bad, HT_ERR_UNSUPPORTED, "q4_k");
    bad = good;
    bad.method = "gtpq";
    check_refused(&bad, HT_ERR_ARGUMENT, "gptq");
    bad = good;
    bad.profile = "plan";
    check_refused(&bad, HT_ERR_ARGUMENT, "plain");
    bad = good;
    bad.set = SET;
    check_refused(&bad, HT_ERR_ARGUMENT, "damp");
    bad.set = NOTHING;
    check_refused(&bad, HT_ERR_ARGUMENT, "means nothing");

    int calls = 0;
    ht_context_options how = ht_context_options_default();
    how.cancelled = cancelled;
    how.callback_user = &calls;
    ht_context *ctx;
    ht_search *search;
    REQUIRE_OK(ht_context_create(&how, &ctx));
    size_t before = ht_context_memory_used(ctx);
    CHECK_FAILS(ht_search_run(ctx, calibrated_family("llama"), &good, &search), HT_ERR_CANCELLED);
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_families);
    RUN(test_figures);
    RUN(test_same);
    RUN(test_target_bytes);
    RUN(test_experts);
    RUN(test_keep);
    RUN(test_refused);
    return check_finish();
}
