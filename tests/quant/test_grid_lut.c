/* Tables as a grid: weighted tables are better by their weights, the walk of gptq moves codes under them.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/gptq/gptq.h"
#include "quant/grid/grid.h"
#include "quant/matrix_case.h"
#include "quant/method/imatrix.h"
#include "support/check.h"

enum { ROWS = 24, COLS = 256, TOKENS = 600 };

static double weighted(const matrix_case *c) {
    double sum = 0;
    for (size_t i = 0; i < ROWS * COLS; i++) {
        double e = (double)c->weight[i] - (double)c->result.decoded[i];
        sum += e * e * (double)c->input.second[i % COLS * (COLS + 1)];
    }
    return sum;
}

static void check_planes(const matrix_case *c) {
    float *again = malloc(ROWS * COLS * sizeof *again);
    CHECK_OK(ht_format_dequantize(&c->format, &c->result.planes, ROWS, COLS, again));
    CHECK_BYTES(again, c->result.decoded, ROWS * COLS * sizeof *again);
    free(again);
}

static void test_methods(void) {
    static const char *const FORMATS[] = {"lut4_g128", "lut3_g64", "lut2_g64", "lut1_g16"};
    for (size_t f = 0; f < 4; f++) {
        matrix_case plain, weights, gptq, threads;
        matrix_case_create(&plain, FORMATS[f], "rtn", ROWS, COLS, TOKENS, 1, 7);
        matrix_case_create(&weights, FORMATS[f], "imatrix", ROWS, COLS, TOKENS, 1, 7);
        matrix_case_create(&gptq, FORMATS[f], "gptq", ROWS, COLS, TOKENS, 1, 7);
        matrix_case_create(&threads, FORMATS[f], "gptq", ROWS, COLS, TOKENS, 3, 7);
        plain.problem.input = NULL; /* all columns alike */
        CHECK_OK(ht_matrix_round(&plain.problem, NULL, &plain.result));
        CHECK_OK(ht_imatrix_matrix(&weights.problem, &weights.result));
        CHECK_OK(ht_gptq_matrix(&gptq.problem, &gptq.result));
        CHECK_OK(ht_gptq_matrix(&threads.problem, &threads.result));
        CHECK(weights.result.fallback == NULL && gptq.result.fallback == NULL);
        CHECK(weighted(&weights) < weighted(&plain));
        CHECK(gptq.result.loss < 0.7 * gptq.result.rtn_loss);
        CHECK_BYTES(gptq.result.decoded, threads.result.decoded, ROWS * COLS * sizeof(float));
        check_planes(&weights);
        check_planes(&gptq);
        CHECK_FAILS(ht_grid_has_zero(&gptq.format), HT_ERR_UNSUPPORTED);
        matrix_case_destroy(&plain), matrix_case_destroy(&weights);
        matrix_case_destroy(&gptq), matrix_case_destroy(&threads);
    }
}

/* A table fitted to a tile and its inputs against the fixed one of nf4 with a scale for every 64 weights. */
static void test_against_nf4(void) {
    matrix_case fixed, table;
    matrix_case_create(&fixed, "nf4_flat", "rtn", ROWS, COLS, TOKENS, 1, 7);
    matrix_case_create(&table, "lut4_g64", "imatrix", ROWS, COLS, TOKENS, 1, 7);
    CHECK_OK(ht_matrix_round(&fixed.problem, NULL, &fixed.result));
    CHECK_OK(ht_imatrix_matrix(&table.problem, &table.result));
    printf("    weighted error: nf4_flat %g, lut4_g64 %g\n", weighted(&fixed), weighted(&table));
    CHECK(ht_format_bits_per_value(&table.format, 4096, 4096) < ht_format_bits_per_value(&fixed.format, 4096, 4096));
    CHECK(weighted(&table) < weighted(&fixed));
    matrix_case_destroy(&fixed), matrix_case_destroy(&table);
}

int main(void) {
    RUN(test_methods);
    RUN(test_against_nf4);
    return check_finish();
}
