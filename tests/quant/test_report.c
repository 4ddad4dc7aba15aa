/* Rows of a run's report: kept, copied, in one order.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/report.h"

#include <math.h>
#include <string.h>

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

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_rows);
    RUN(test_coverage_and_stages);
    ht_context_destroy(ctx);
    return check_finish();
}
