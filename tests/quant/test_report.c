/* Rows of a run's report: kept, copied, in one order. The page and the JSON made of them: complete, escaped,
 * self-contained.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/report/report.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <halftone/report.h>

#include "quant/plan.h"
#include "quant/report/report_page.h"

#include "support/check.h"

static ht_context *ctx;

static void test_rows(void) {
    ht_arena arena;
    ht_run_report report;
    ht_arena_init(&arena, ctx);
    ht_run_report_init(&report, &arena);
    char reason[32] = "no token";
    for (size_t i = 0; i < 200; i++) { /* in a scrambled order: 37 and 200 share no divisor */
        ht_report_matrix row = ht_report_matrix_of(i * 37 % 200 / 8, i * 37 % 200 % 8);
        CHECK(isnan(row.loss) && isnan(row.damping) && row.tokens == 0 && !row.fallback);
        row.tokens = i * 37 % 200;
        row.fallback = i % 2 ? reason : NULL;
        REQUIRE_OK(ht_run_report_matrix(&report, &row));
    }
    memset(reason, 'x', sizeof reason - 1); /* texts were copied */
    ht_run_report_sort(&report);
    CHECK_INT(report.matrices, 200);
    for (size_t i = 0; i < 200; i++) {
        CHECK(report.matrix[i].tensor == i / 8 && report.matrix[i].entry == i % 8 && report.matrix[i].tokens == i);
        if (report.matrix[i].fallback)
            CHECK_TEXT(report.matrix[i].fallback, "no token");
    }
    ht_arena_release(&arena);
}

static void test_coverage_and_stages(void) {
    ht_arena arena;
    ht_run_report report;
    ht_arena_init(&arena, ctx);
    ht_run_report_init(&report, &arena);
    for (size_t block = 50; block-- > 0;) {
        uint64_t tokens[4] = {block, 0, 2 * block, 7};
        REQUIRE_OK(ht_run_report_coverage(&report, &(ht_report_coverage){block, 4, tokens}));
    }
    ht_run_report_sort(&report);
    CHECK_INT(report.blocks, 50);
    CHECK_INT(report.coverage[49].tokens[2], 98);
    for (int i = 0; i < 3; i++) {
        REQUIRE_OK(ht_run_report_stage(&report, "statistics", 0.5, (size_t)(i == 1 ? 900 : 100)));
        REQUIRE_OK(ht_run_report_stage(&report, "gptq", 0.25, 0));
    }
    CHECK_INT(report.stages, 2);
    CHECK_TEXT(report.stage[0].name, "statistics");
    CHECK(report.stage[0].seconds == 1.5 && report.stage[0].peak_bytes == 900);
    REQUIRE_OK(ht_run_report_data(&report, "text.txt", 128, 512, 65536));
    CHECK_TEXT(report.data, "text.txt");
    CHECK_INT(report.calibration_tokens, 65536);
    ht_arena_release(&arena);
}

/* --- the page ------------------------------------------------------------------------------------------------------
 */

static const char hostile[] = "a<script>alert(\"1\")</script>&'\x01\xff";

/* Every text of the page that a stranger chose is escaped; nothing is loaded; tags close; no chart has a bad number. */
static void check_page(const char *page) {
    static const char *const pairs[][2] = {
        {"<svg", "</svg>"},  {"<section", "</section>"}, {"<table", "</table>"},     {"<code", "</code>"},
        {"<g>", "</g>"},     {"<title", "</title>"},     {"<details", "</details>"}, {"<div", "</div>"},
        {"<text", "</text>"}};
    static const char *const never[] = {"<script", "alert(\"", "src=",   "href=",   "http", "@import", "url(",
                                        "=\"nan",  "=\"-nan",  "=\"inf", "=\"-inf", " nan", "\x01",    "\xff"};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        size_t open = 0, closed = 0;
        for (const char *at = page; (at = strstr(at, pairs[i][0])); at++)
            open += at[strlen(pairs[i][0])] == ' ' || at[strlen(pairs[i][0])] == '>' || pairs[i][0][2] == '>';
        for (const char *at = page; (at = strstr(at, pairs[i][1])); at++)
            closed++;
        if (!CHECK_INT(open, closed))
            printf("  %s\n", pairs[i][0]);
    }
    for (size_t i = 0; i < sizeof never / sizeof *never; i++)
        if (!CHECK(strstr(page, never[i]) == NULL))
            printf("  found %s\n", never[i]);
    CHECK_CONTAINS(page, "<meta name=\"viewport\"");
    CHECK_CONTAINS(page, "prefers-color-scheme:dark");
    CHECK_CONTAINS(page, "@media print");
}

static char *read_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (!CHECK(file != NULL))
        return calloc(1, 1);
    char *text = calloc(1, 1 << 21);
    CHECK(fread(text, 1, (1 << 21) - 1, file) > 0);
    fclose(file);
    return text;
}

static ht_evaluation example_evaluation(void) {
    ht_evaluation e = {.perplexity = 21, .nll = log(21.0), .nll_stderr = 0.02, .tokens = 1000, .windows = 10};
    e.base_perplexity = 20;
    e.base_nll = log(20.0);
    e.nll_change = e.nll - e.base_nll;
    e.nll_change_stderr = 0.004;
    e.kl_mean = 0.05;
    e.kl_stderr = (double)NAN;
    e.kl_median = 0.02;
    e.kl_p99 = 0.6;
    e.kl_max = 3;
    e.top1_agreement = 0.9;
    for (size_t i = 10; i < 25; i++)
        e.kl_histogram[i] = i;
    return e;
}

/* A run on the experts' tiny model, as a calibrated method would fill it. */
static ht_plan *example_plan(void) {
    ht_quantize_options options = ht_quantize_options_default();
    options.scheme = "mxfp4-w";
    options.overwrite = 1;
    char out[512];
    snprintf(out, sizeof out, "%s/quantized", check_scratch());
    ht_plan *plan = NULL;
    CHECK_OK(ht_quantize_checkpoint(ctx, check_data("tiny/qwen3-moe"), out, &options, &plan));
    for (size_t i = 0; plan && i < plan->count; i++) {
        if (!*plan->tensor[i].method)
            continue;
        ht_report_matrix row = ht_report_matrix_of(i, 0);
        row.loss = 0.5;
        row.rtn_loss = 1;
        row.damping = i % 2 ? 0.01 : 0;
        row.fallback = i % 7 ? NULL : hostile;
        CHECK_OK(ht_run_report_matrix(&plan->report, &row));
    }
    return plan;
}

static void add_run(ht_run_report *report) {
    for (size_t block = 0; block < 2; block++) {
        uint64_t tokens[4] = {100, 0, 20000, 7};
        CHECK_OK(ht_run_report_coverage(report, &(ht_report_coverage){block, 4, tokens}));
    }
    CHECK_OK(ht_run_report_stage(report, hostile, 1.5, 1000));
    CHECK_OK(ht_run_report_data(report, hostile, 8, 64, 512));
}

static void check_json(const char *path, size_t tensors) {
    json_error_t error;
    json_t *all = json_load_file(path, 0, &error);
    if (!CHECK(all != NULL))
        return;
    CHECK_TEXT(json_string_value(json_object_get(all, "schema")), "halftone.report/1");
    json_t *rows = json_object_get(all, "tensors"), *coverage = json_object_get(all, "coverage");
    CHECK_INT(json_array_size(rows), tensors);
    size_t matrices = 0, index;
    json_t *row;
    json_array_foreach(rows, index, row) {
        const json_t *first = json_array_get(json_object_get(row, "matrices"), 0);
        matrices += json_array_size(json_object_get(row, "matrices"));
        CHECK(!first || (json_is_null(json_object_get(first, "held_out_loss")) &&
                         json_number_value(json_object_get(first, "loss")) == 0.5));
    }
    CHECK(matrices > 20);
    CHECK_INT(json_integer_value(json_array_get(json_object_get(json_array_get(coverage, 1), "tokens"), 2)), 20000);
    const json_t *evaluation = json_object_get(all, "evaluation");
    CHECK_NEAR(json_number_value(json_object_get(evaluation, "kl_p99")), 0.6, 1e-15);
    CHECK(json_is_null(json_object_get(evaluation, "kl_stderr")));
    CHECK_INT(json_array_size(json_object_get(evaluation, "kl_histogram")), HT_KL_BINS);
    CHECK(json_is_false(json_object_get(json_array_get(json_object_get(all, "gates"), 0), "ok")));
    json_decref(all);
}

static void test_page(void) {
    ht_plan *plan = example_plan();
    REQUIRE(plan != NULL);
    char path[512], beside[512];
    snprintf(path, sizeof path, "%s/r.html", check_scratch());
    snprintf(beside, sizeof beside, "%s/r.json", check_scratch());
    ht_report_options what = ht_report_options_default();
    what.plan = plan;
    what.title = what.command = what.input = what.output = hostile;
    REQUIRE_OK(ht_report_write(ctx, path, &what));
    char *page = read_file(path);
    check_page(page);
    CHECK_CONTAINS(page, "a&#60;script&#62;");
    CHECK(!strstr(page, "Tokens per expert") && !strstr(page, "Quality") && strstr(page, "Worst tensors"));
    free(page);
    ht_evaluation evaluation = example_evaluation();
    ht_gates gates = ht_gates_none();
    gates.limit[HT_GATE_KL] = 0.04;
    what.evaluation = &evaluation;
    what.gates = &gates;
    what.text = hostile;
    add_run(&plan->report);
    REQUIRE_OK(ht_report_write(ctx, path, &what));
    page = read_file(path);
    check_page(page);
    static const char *const sections[] = {"Quality",
                                           "Size",
                                           "Error over the blocks",
                                           "Worst tensors",
                                           "Kept as it was",
                                           "Calibration",
                                           "Fallbacks",
                                           "Tokens per expert",
                                           "2 experts saw none",
                                           "Time",
                                           "All tensors",
                                           "broken",
                                           "+5.00 %"};
    for (size_t i = 0; i < sizeof sections / sizeof *sections; i++)
        CHECK_CONTAINS(page, sections[i]);
    free(page);
    check_json(beside, plan->count);
    what.plan = NULL; /* of an evaluation alone */
    what.title = NULL;
    REQUIRE_OK(ht_report_write(ctx, path, &what));
    page = read_file(path);
    check_page(page);
    CHECK_CONTAINS(page, "Evaluation report");
    free(page);
    snprintf(path, sizeof path, "%s/nowhere/r.html", check_scratch());
    CHECK_FAILS(ht_report_write(ctx, path, &what), HT_ERR_OUTPUT);
    CHECK_CONTAINS(ht_error_message(), "nowhere/r.html");
    ht_plan_destroy(plan);
}

/* Nothing, one, many, all alike, all zero. */
static void test_charts(void) {
    static ht_mark marks[4000];
    static const char *const series[] = {"a", "b", "c", "d", "e", "f", "g", hostile};
    static const size_t counts[] = {1, 8, 4000};
    for (size_t c = 0; c < 3; c++)
        for (int kind = 0; kind < 4; kind++) {
            ht_text out = {0};
            for (size_t i = 0; i < counts[c]; i++)
                marks[i] = (ht_mark){.x = kind == 3 ? 5 : i % 300,
                                     .series = (unsigned)(i % 8),
                                     .y = kind == 0   ? 0
                                          : kind == 1 ? 0.1
                                                      : 1e-9 * (double)i,
                                     .name = hostile};
            ht_chart_scatter(&out, marks, counts[c], series, 8, hostile);
            CHECK_OK(ht_text_check(&out));
            CHECK(strstr(out.data, "nan") == NULL && strstr(out.data, "inf") == NULL);
            CHECK(strstr(out.data, "<script") == NULL);
            ht_text_free(&out);
        }
    ht_text out = {0};
    static uint64_t tokens[256];
    ht_report_coverage rows[60];
    for (size_t i = 0; i < 60; i++)
        rows[i] = (ht_report_coverage){i, i ? 256 : 0, tokens}; /* no expert at all, and none with a token */
    ht_chart_coverage(&out, rows, 60);
    ht_chart_stages(&out, &(ht_report_stage){"nothing", 0, 0}, 1);
    ht_chart_parts(&out, &(ht_part){"none", 1, 0, 0}, 1);
    ht_evaluation evaluation = {.kl_max = 1e6};
    ht_chart_divergence(&out, &evaluation);
    evaluation.kl_histogram[0] = evaluation.kl_histogram[HT_KL_BINS - 1] = 1;
    ht_chart_divergence(&out, &evaluation);
    CHECK_OK(ht_text_check(&out));
    CHECK(strstr(out.data, "nan") == NULL && strstr(out.data, "inf") == NULL);
    ht_text_free(&out);
}

static void test_names(void) {
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    CHECK_INT(ht_report_block("model.layers.12.mlp.experts.3.down_proj.weight"), 12);
    CHECK(ht_report_block("lm_head.weight") == SIZE_MAX);
    CHECK_TEXT(ht_report_role(&arena, "model.layers.12.mlp.experts.3.down_proj.weight"), "mlp.experts.*.down_proj");
    CHECK_TEXT(ht_report_role(&arena, "blk.7.attn2_q"), "attn2_q");
    CHECK_TEXT(ht_report_role(&arena, "lm_head.weight"), "lm_head");
    const char *series[HT_PAGE_SERIES];
    unsigned count = 0;
    for (unsigned i = 0; i < 12; i++) {
        char name[32];
        snprintf(name, sizeof name, "layers.0.part%c", (char)('a' + i));
        CHECK_INT(ht_report_series(&arena, name, series, &count), i < 8 ? i : 7);
    }
    CHECK_TEXT(series[7], "others");
    ht_text out = {0};
    ht_page_bytes(&out, 999);
    ht_page_bytes(&out, 14700000);
    ht_page_count(&out, 7345920);
    ht_page_seconds(&out, 200);
    ht_page_percent(&out, (double)NAN);
    CHECK_TEXT(out.data, "999 B14.7 MB7,345,9203 min 20 s–");
    ht_text_free(&out);
    ht_arena_release(&arena);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_rows);
    RUN(test_coverage_and_stages);
    RUN(test_names);
    RUN(test_charts);
    RUN(test_page);
    ht_context_destroy(ctx);
    return check_finish();
}
