/* GPTQ on one matrix: what holds for every format.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <stdlib.h>
#include <string.h>

#include "quant/matrix_case.h"
#include "support/check.h"

static void test_better_than_rounding(void) {
    for (size_t f = 0; f < MATRIX_CASE_GRIDS; f++)
        for (int order = HT_ORDER_NONE; order <= HT_ORDER_DESC_ACT; order++)
            for (int scales = HT_SCALES_ORIGINAL; scales <= HT_SCALES_SEARCHED; scales++) {
                matrix_case c;
                matrix_case_create(&c, matrix_case_grids[f], "gptq", 12, 256, 60, 1, 30 + f);
                matrix_case_gptq(&c, order, scales);
                if (!CHECK(c.result.loss <= c.result.rtn_loss) || c.result.fallback)
                    CHECK_TEXT(matrix_case_grids[f], c.result.fallback ? c.result.fallback : "worse than rounding");
                CHECK(c.result.loss < 0.9 * c.result.rtn_loss);
                float again[12 * 256];
                CHECK_OK(ht_format_dequantize(&c.format, &c.result.planes, 12, 256, again));
                CHECK_BYTES(c.result.decoded, again, sizeof again);
                matrix_case_destroy(&c);
            }
}

/* Less common grids, and every rule for scales: never worse either. */
static void test_other_grids(void) {
    static const struct {
        const char *format;
        ht_scale_rule rule;
    } GRIDS[] = {{"mxint8", HT_SCALE_DEFAULT},      {"nvfp4_single", HT_SCALE_DEFAULT},
                 {"int4_g32_float0", HT_SCALE_MSE}, {"uint4_g64_asym", HT_SCALE_DEFAULT},
                 {"int8_tensor", HT_SCALE_DEFAULT}, {"int8_row_asym", HT_SCALE_DEFAULT},
                 {"nf4_torchao", HT_SCALE_DEFAULT}, {"int7_g32_scale_f16", HT_SCALE_DEFAULT},
                 {"mxfp4", HT_SCALE_FLOOR},         {"mxfp4", HT_SCALE_CEIL},
                 {"mxfp4", HT_SCALE_EVEN},          {"mxfp4", HT_SCALE_RCEIL},
                 {"mxfp4", HT_SCALE_MSE},           {"nvfp4", HT_SCALE_MSE},
                 {"nvfp4", HT_SCALE_FOUR_SIX},      {"fp8_row_scale_bf16", HT_SCALE_DEFAULT},
                 {"fp8_g128", HT_SCALE_MSE},        {"int3_g64", HT_SCALE_MSE}};
    for (size_t g = 0; g < sizeof GRIDS / sizeof *GRIDS; g++)
        for (int scales = HT_SCALES_ORIGINAL; scales <= HT_SCALES_SEARCHED; scales++) {
            matrix_case c;
            float again[12 * 256];
            matrix_case_create(&c, GRIDS[g].format, "gptq", 12, 256, 60, 1, 34);
            c.how.scale_rule = GRIDS[g].rule;
            matrix_case_gptq(&c, HT_ORDER_GAR, scales);
            if (!CHECK(c.result.loss < 0.9 * c.result.rtn_loss) || c.result.fallback)
                CHECK_TEXT(GRIDS[g].format, c.result.fallback ? c.result.fallback : "no better than rounding");
            CHECK_OK(ht_format_dequantize(&c.format, &c.result.planes, 12, 256, again));
            CHECK_BYTES(c.result.decoded, again, sizeof again);
            matrix_case_destroy(&c);
        }
}

/* Codes for two ways of putting the same problem. */
static void same_codes(const matrix_case *a, const matrix_case *b, const char *what) {
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&a->format, (ht_plane)p, a->problem.rows, a->problem.cols);
        if (bytes && memcmp(a->result.planes.plane[p], b->result.planes.plane[p], bytes) != 0)
            CHECK_TEXT("codes differ", what);
    }
}

static void test_invariances(void) {
    for (size_t f = 0; f < MATRIX_CASE_GRIDS; f++) {
        matrix_case one, three, scaled;
        matrix_case_create(&one, matrix_case_grids[f], "gptq", 37, 256, 40, 1, 40);
        matrix_case_create(&three, matrix_case_grids[f], "gptq", 37, 256, 40, 3, 40);
        matrix_case_create(&scaled, matrix_case_grids[f], "gptq", 37, 256, 40, 1, 40);
        for (size_t i = 0; i < 256 * 256; i++)
            scaled.input.second[i] *= 0x1p-9f;
        matrix_case_gptq(&one, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        matrix_case_gptq(&three, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        matrix_case_gptq(&scaled, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        same_codes(&one, &three, matrix_case_grids[f]);
        same_codes(&one, &scaled, matrix_case_grids[f]);
        CHECK(one.result.loss == three.result.loss);
        matrix_case_destroy(&one), matrix_case_destroy(&three), matrix_case_destroy(&scaled);
    }
}

/* Rows are independent: a matrix and its halves (experts of a batch, slices) give the same codes. The length of the
 * lazy block and the instruction set do not enter either. */
static void test_rows_and_blocks(void) {
    enum { ROWS = 24, COLS = 512 };
    matrix_case whole, half, narrow;
    matrix_case_create(&whole, "mxfp4", "gptq", ROWS, COLS, 300, 2, 50);
    matrix_case_create(&half, "mxfp4", "gptq", ROWS, COLS, 300, 1, 50);
    matrix_case_gptq(&whole, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    half.problem.rows = ROWS / 2;
    matrix_case_gptq(&half, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK_BYTES(half.result.decoded, whole.result.decoded, ROWS / 2 * COLS * sizeof(float));
    matrix_case_create(&narrow, "mxfp4", "gptq", ROWS, COLS, 300, 2, 50);
    narrow.settings.value[HT_SETTING_BLOCK] = 33; /* becomes 64 (D2) */
    matrix_case_gptq(&narrow, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK(matrix_case_different(narrow.result.decoded, whole.result.decoded, ROWS * COLS, 0) <= ROWS * COLS / 100);
    CHECK_NEAR(narrow.result.loss, whole.result.loss, 0.02);
    matrix_case_destroy(&whole), matrix_case_destroy(&half), matrix_case_destroy(&narrow);
}

/* Sweeps lower the loss that the walk left, for every format, and stop by themselves. */
static void test_sweeps(void) {
    for (size_t f = 0; f < MATRIX_CASE_GRIDS; f++) {
        double loss[3];
        for (int i = 0; i < 3; i++) {
            matrix_case c;
            matrix_case_create(&c, matrix_case_grids[f], "gptq", 6, 256, 100, 1, 120);
            c.settings.value[HT_SETTING_SWEEPS] = i == 0 ? 0 : i == 1 ? 2 : 50;
            matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_ORIGINAL);
            loss[i] = c.result.loss;
            matrix_case_destroy(&c);
        }
        CHECK(loss[1] <= loss[0] * 1.001 && loss[2] <= loss[1] * 1.001); /* the damped loss falls strictly */
        if (strcmp(matrix_case_grids[f], "mxfp4") == 0)
            CHECK(loss[1] < 0.98 * loss[0]);
    }
}

/* What is said to be needed is what is allocated. */
static void test_memory(void) {
    static const char *const FORMATS[] = {"mxfp4", "int4_g128", "q4_k", "int8_row"};
    for (size_t f = 0; f < 4; f++)
        for (int sweeps = 0; sweeps <= 2; sweeps += 2)
            for (size_t threads = 1; threads <= 3; threads += 2) {
                matrix_case c;
                matrix_case_create(&c, FORMATS[f], "gptq", 700, 512, 40, threads, 93);
                c.settings.value[HT_SETTING_SWEEPS] = sweeps;
                size_t said = ht_gptq_bytes(&c.format, &c.settings, 700, 512, threads);
                size_t before = ht_context_memory_used(c.ctx);
                matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
                size_t took = ht_context_memory_peak(c.ctx) - before;
                CHECK(took <= said + 4096 && took >= said - said / 16);
                matrix_case_destroy(&c);
            }
}

int main(void) {
    RUN(test_better_than_rounding);
    RUN(test_other_grids);
    RUN(test_invariances);
    RUN(test_rows_and_blocks);
    RUN(test_sweeps);
    RUN(test_memory);
    return check_finish();
}
