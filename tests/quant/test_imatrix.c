/* Searched scales under the importance of inputs: never worse than rounding to nearest by the weighted error, row by
 * row and for every format with a grid; the same codes for any threads; bad values.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/imatrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/matrix_case.h"
#include "support/check.h"

enum { ROWS = 20, COLS = 256, TOKENS = 64 };

static const char *const FORMATS[] = {"int4_g32", "int4_g32_asym", "int3_g64", "int8_row", "fp8_row", "mxfp4",
                                      "mxfp8",    "mxfp6_e2m3",    "nvfp4",    "nf4_flat", "q4_0",    "q4_k",
                                      "q5_k",     "q6_k",          "iq4_nl",   "iq4_xs"};

/* sum of importance * e^2 of one row; importance of input j is H_jj, or 1 without statistics. */
static double weighted(const matrix_case *c, const float *decoded, size_t row) {
    double sum = 0;
    for (size_t j = 0; j < COLS; j++) {
        double e = (double)c->weight[row * COLS + j] - (double)decoded[row * COLS + j];
        sum += e * e * (c->problem.input ? (double)c->input.second[j * COLS + j] : 1);
    }
    return sum;
}

static void compare(const char *format, size_t tokens) {
    matrix_case c, plain;
    double before = 0, after = 0;
    matrix_case_create(&c, format, "imatrix", ROWS, COLS, tokens, 2, 3);
    matrix_case_create(&plain, format, "rtn", ROWS, COLS, tokens, 1, 3);
    if (CHECK_OK(ht_imatrix_matrix(&c.problem, &c.result)) &&
        CHECK_OK(ht_matrix_round(&plain.problem, NULL, &plain.result))) {
        CHECK(c.result.fallback == NULL);
        for (size_t r = 0; r < ROWS; r++) {
            double mine = weighted(&c, c.result.decoded, r), rtn = weighted(&c, plain.result.decoded, r);
            CHECK(mine <= rtn * (1 + 1e-5));
            before += rtn;
            after += mine;
        }
        /* MX has two scales worth trying, and rounding to nearest tried both. */
        if (!CHECK(after < before || strncmp(format, "mx", 2) == 0))
            check_text(format, "", __FILE__, __LINE__, "format");
        float *again = malloc(ROWS * COLS * sizeof *again);
        CHECK_OK(ht_format_dequantize(&c.format, &c.result.planes, ROWS, COLS, again));
        CHECK_BYTES(again, c.result.decoded, ROWS * COLS * sizeof *again);
        free(again);
    }
    matrix_case_destroy(&plain);
    matrix_case_destroy(&c);
}

static void test_better(void) {
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++)
        compare(FORMATS[f], TOKENS);
}

static void test_without_statistics(void) {
    compare("int4_g32", 0);
    compare("mxfp4", 0);
}

static void test_threads(void) {
    static const char *const formats[] = {"nvfp4", "q4_k"};
    for (size_t f = 0; f < 2; f++) {
        matrix_case a, b;
        matrix_case_create(&a, formats[f], "imatrix", ROWS, COLS, TOKENS, 1, 3);
        matrix_case_create(&b, formats[f], "imatrix", ROWS, COLS, TOKENS, 3, 3);
        CHECK_OK(ht_imatrix_matrix(&a.problem, &a.result));
        CHECK_OK(ht_imatrix_matrix(&b.problem, &b.result));
        CHECK_BYTES(a.result.planes.plane[HT_PLANE_CODES], b.result.planes.plane[HT_PLANE_CODES],
                    ht_format_plane_bytes(&a.format, HT_PLANE_CODES, ROWS, COLS));
        matrix_case_destroy(&a);
        matrix_case_destroy(&b);
    }
}

static void test_odd_values(void) {
    matrix_case c;
    matrix_case_create(&c, "int4_g32", "imatrix", ROWS, COLS, TOKENS, 1, 3);
    for (size_t j = 0; j < COLS; j++) /* inputs that never fire, and rows of zeros */
        c.input.second[j * COLS + j] = j % 2 ? c.input.second[j * COLS + j] : 0;
    memset(c.weight, 0, COLS * sizeof *c.weight);
    CHECK_OK(ht_imatrix_matrix(&c.problem, &c.result));
    for (size_t i = 0; i < ROWS * COLS; i++)
        CHECK(isfinite(c.result.decoded[i]));
    c.weight[COLS + 7] = NAN;
    CHECK_FAILS(ht_imatrix_matrix(&c.problem, &c.result), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "weight [1, 7] is not finite");
    c.weight[COLS + 7] = 0;
    c.input.second[5 * COLS + 5] = INFINITY;
    CHECK_FAILS(ht_imatrix_matrix(&c.problem, &c.result), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "input 5 is not finite");
    matrix_case_destroy(&c);
    matrix_case_create(&c, "fp8_block", "imatrix", 128, COLS, TOKENS, 1, 3); /* a scale for 128 rows */
    CHECK_OK(ht_imatrix_matrix(&c.problem, &c.result));
    CHECK_CONTAINS(c.result.fallback, "rounded to nearest");
    matrix_case_destroy(&c);
}

int main(void) {
    RUN(test_better);
    RUN(test_without_statistics);
    RUN(test_threads);
    RUN(test_odd_values);
    return check_finish();
}
