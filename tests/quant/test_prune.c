/* Pruning: the worked vector, the choice against a plain sort, patterns, zeros that stay zeros in every format that has
 * them, the walk that makes up for them, and what is refused.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/prune.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quant/gptq/gptq.h"
#include "quant/grid/grid.h"
#include "quant/matrix_case.h"
#include "quant/method/methods.h"
#include "support/check.h"

enum { ROWS = 12, COLS = 256, TOKENS = 60 };

/* --- Which ones ------------------------------------------------------------------------------------------------ */

static void test_worked_vector(void) {
    static const float W[] = {0.9f, -0.5f, 0.4f, 0.3f}, X[] = {0.1f, 1, 2, 0.5f};
    static const uint8_t WANT[] = {1, 0, 0, 1}, BY_MAGNITUDE[] = {0, 0, 1, 1};
    ht_moments input = {0};
    float measure[4];
    uint8_t pruned[4];
    matrix_case_inputs(&input, X, NULL, 1, 4);
    for (size_t group = 0; group <= 4; group += 4) {
        ht_sparsity how = {.share = 0.5, .group = group};
        ht_prune_row(&how, W, &input, 4, measure, pruned);
        CHECK_NEAR(measure[0], 0.09, 1e-6);
        CHECK_NEAR(measure[1], 0.5, 1e-6);
        CHECK_NEAR(measure[2], 0.8, 1e-6);
        CHECK_NEAR(measure[3], 0.15, 1e-6);
        CHECK_BYTES(pruned, WANT, 4);
        ht_prune_row(&how, W, NULL, 4, measure, pruned);
        CHECK_BYTES(pruned, BY_MAGNITUDE, 4);
    }
    free(input.second);
}

static void test_ties_and_odd_measures(void) {
    static const float SAME[] = {1, 1, 1, 1, 1}, ODD[] = {NAN, 0, INFINITY, 1e-45f, -NAN};
    static const uint8_t LATER[] = {0, 0, 0, 1, 1}, LEAST[] = {0, 1, 0, 1, 0};
    ht_sparsity how = {.share = 0.4};
    uint8_t pruned[5];
    ht_prune_choose(&how, SAME, 5, pruned);
    CHECK_BYTES(pruned, LATER, 5);
    ht_prune_choose(&how, ODD, 5, pruned);
    CHECK_BYTES(pruned, LEAST, 5);
    how.share = 0;
    ht_prune_choose(&how, SAME, 5, pruned);
    CHECK_INT(pruned[4], 0);
}

/* The k least by counting: how many are smaller, or equal and later. */
static void test_against_counting(void) {
    for (uint64_t seed = 0; seed < 40; seed++) {
        size_t n = 1 + (size_t)(ht_random_uniform(seed, 1, 0) * 100);
        ht_sparsity how = {.share = (double)ht_random_uniform(seed, 2, 0)};
        float measure[101];
        uint8_t pruned[101];
        for (size_t i = 0; i < n; i++) /* few values, many ties */
            measure[i] = floorf(8 * ht_random_uniform(seed, 3, i)) * 0.25f;
        ht_prune_choose(&how, measure, n, pruned);
        size_t drop = (size_t)(how.share * (double)n + 1e-9);
        for (size_t i = 0; i < n; i++) {
            size_t before = 0;
            for (size_t j = 0; j < n; j++)
                before += measure[j] < measure[i] || (measure[j] == measure[i] && j > i);
            CHECK_INT(pruned[i], before < drop);
        }
    }
}

/* --- Zeros in codes -------------------------------------------------------------------------------------------- */

static const char *const FORMATS[] = {"int1_g32", "int2_g32_asym", "int4_g128", "int4_g32_asym", "int8_row",
                                      "fp8_row",  "fp8_block",     "mxfp8",     "mxfp6_e2m3",    "mxfp4",
                                      "nvfp4",    "nvfp4_pts",     "nf4",       "nf4_flat",      "fp4",
                                      "q4_0",     "q6_k",          "bf16"};

/* Zeros of a row within whole groups of the pattern. */
static void check_zeros(const matrix_case *c, double share, size_t group, const char *format) {
    for (size_t r = 0; r < c->problem.rows; r++) {
        const float *row = c->result.decoded + r * COLS;
        size_t step = group ? group : COLS, least = (size_t)(share * (double)step);
        for (size_t first = 0; first < COLS; first += step) {
            size_t zeros = 0;
            for (size_t j = first; j < first + step; j++)
                zeros += row[j] == 0;
            if (!CHECK(zeros >= least)) {
                CHECK_TEXT(format, "too few zeros");
                return;
            }
        }
    }
}

static void check_planes(const matrix_case *c) {
    float *again = malloc(ROWS * COLS * sizeof *again);
    CHECK_OK(ht_format_dequantize(&c->format, &c->result.planes, ROWS, COLS, again));
    CHECK_BYTES(again, c->result.decoded, ROWS * COLS * sizeof *again);
    free(again);
}

static void test_wanda(void) {
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++)
        for (int pattern = HT_PATTERN_NONE; pattern <= HT_PATTERN_4_8; pattern++) {
            matrix_case c;
            matrix_case_create(&c, FORMATS[f], "wanda", ROWS, COLS, TOKENS, 2, 5 + f);
            c.settings.value[HT_SETTING_PATTERN] = pattern;
            c.settings.value[HT_SETTING_SPARSITY] = pattern ? 0 : 0.75;
            CHECK_OK(ht_grid_has_zero(&c.format));
            CHECK_OK(ht_wanda_matrix(&c.problem, &c.result));
            check_zeros(&c, pattern ? 0.5 : 0.75, pattern ? (size_t)4 << (pattern - 1) : 0, FORMATS[f]);
            check_planes(&c);
            CHECK(c.result.fallback == NULL);
            matrix_case_destroy(&c);
        }
}

/* Against the definition, value by value. */
static void test_wanda_float(void) {
    matrix_case c;
    matrix_case_create(&c, "f32", "wanda", ROWS, COLS, TOKENS, 1, 5);
    CHECK_OK(ht_wanda_matrix(&c.problem, &c.result));
    for (size_t r = 0; r < ROWS; r++)
        for (size_t j = 0; j < COLS; j++) {
            size_t before = 0;
            for (size_t i = 0; i < COLS; i++)
                before += (double)fabsf(c.weight[r * COLS + i]) * sqrt((double)c.input.second[i * COLS + i]) <
                          (double)fabsf(c.weight[r * COLS + j]) * sqrt((double)c.input.second[j * COLS + j]);
            CHECK(c.result.decoded[r * COLS + j] == (before < COLS / 2 ? 0 : c.weight[r * COLS + j]));
        }
    matrix_case_destroy(&c);
}

static void test_sparsegpt(void) {
    for (size_t f = 0; f + 1 < sizeof FORMATS / sizeof *FORMATS; f++)
        for (int order = HT_ORDER_NONE; order <= HT_ORDER_DESC_ACT; order++)
            for (int pattern = HT_PATTERN_NONE; pattern <= HT_PATTERN_4_8; pattern++) {
                matrix_case c;
                matrix_case_create(&c, FORMATS[f], "gptq", ROWS, COLS, TOKENS, 2, 50 + f);
                c.settings.value[HT_SETTING_ORDER] = order;
                c.settings.value[HT_SETTING_SCALES] = (int)((f + (size_t)order) % 3);
                c.settings.value[HT_SETTING_PATTERN] = pattern;
                c.settings.value[HT_SETTING_SPARSITY] = pattern ? 0 : 0.5;
                CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
                check_zeros(&c, 0.5, pattern ? (size_t)4 << (pattern - 1) : 0, FORMATS[f]);
                check_planes(&c);
                CHECK(c.result.loss < c.result.rtn_loss); /* of pruning by wanda and rounding */
                matrix_case_destroy(&c);
            }
}

/* Zeros are made up for: a much smaller error than wanda's at the same share, the same bytes for any threads, and a
 * sparsity of 0 is plain GPTQ. */
static void test_walk(void) {
    for (int pattern = HT_PATTERN_NONE; pattern <= HT_PATTERN_2_4; pattern++) {
        matrix_case one, three;
        matrix_case_create(&one, "int8_row", "gptq", ROWS, COLS, 600, 1, 9);
        matrix_case_create(&three, "int8_row", "gptq", ROWS, COLS, 600, 3, 9);
        one.settings.value[HT_SETTING_PATTERN] = three.settings.value[HT_SETTING_PATTERN] = pattern;
        one.settings.value[HT_SETTING_SPARSITY] = three.settings.value[HT_SETTING_SPARSITY] = pattern ? 0 : 0.5;
        CHECK_OK(ht_gptq_matrix(&one.problem, &one.result));
        CHECK_OK(ht_gptq_matrix(&three.problem, &three.result));
        CHECK(one.result.loss < 0.7 * one.result.rtn_loss);
        CHECK_BYTES(one.result.decoded, three.result.decoded, ROWS * COLS * sizeof(float));
        matrix_case_destroy(&one);
        matrix_case_destroy(&three);
    }
    matrix_case plain, none;
    matrix_case_create(&plain, "mxfp4", "gptq", ROWS, COLS, TOKENS, 1, 9);
    matrix_case_create(&none, "mxfp4", "gptq", ROWS, COLS, TOKENS, 1, 9);
    none.settings.value[HT_SETTING_SPARSITY] = 0.001; /* less than one of 128 */
    CHECK_OK(ht_gptq_matrix(&plain.problem, &plain.result));
    CHECK_OK(ht_gptq_matrix(&none.problem, &none.result));
    CHECK_BYTES(plain.result.decoded, none.result.decoded, ROWS * COLS * sizeof(float));
    matrix_case_destroy(&plain);
    matrix_case_destroy(&none);
}

/* --- Bad input ------------------------------------------------------------------------------------------------- */

static void test_refusals(void) {
    static const char *const WITHOUT[] = {"q4_k", "iq4_nl", "int4-g32-float0"};
    ht_settings settings = ht_settings_default("gptq");
    ht_scheme scheme;
    for (size_t i = 0; i < 3; i++) {
        CHECK_OK(ht_scheme_parse(WITHOUT[i], &scheme));
        settings.value[HT_SETTING_SPARSITY] = 0;
        CHECK_OK(ht_sparsity_accepts(&scheme, &settings));
        settings.value[HT_SETTING_SPARSITY] = 0.5;
        CHECK_FAILS(ht_sparsity_accepts(&scheme, &settings), HT_ERR_UNSUPPORTED);
        CHECK_CONTAINS(ht_error_message(), "has no code that is 0");
    }
    CHECK_OK(ht_scheme_parse("int4", &scheme));
    CHECK_OK(ht_sparsity_accepts(&scheme, &settings));
    settings.value[HT_SETTING_PATTERN] = HT_PATTERN_2_4;
    CHECK_OK(ht_sparsity_accepts(&scheme, &settings));
    settings.value[HT_SETTING_SPARSITY] = 0.6;
    CHECK_FAILS(ht_sparsity_accepts(&scheme, &settings), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "leave one of them out");
    CHECK_FAILS(ht_settings_set(&settings, "wanda", "pattern", "3:4"), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_settings_set(&settings, "wanda", "sparsity", "1"), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_settings_set(&settings, "hqq", "sparsity", "0.5"), HT_ERR_ARGUMENT);
}

static void test_bad_numbers(void) {
    matrix_case c;
    matrix_case_create(&c, "int4_g32", "wanda", ROWS, COLS, 0, 1, 3);
    CHECK_OK(ht_wanda_matrix(&c.problem, &c.result)); /* nothing known of the inputs */
    CHECK_CONTAINS(c.result.fallback, "magnitude alone");
    check_zeros(&c, 0.5, 0, "int4_g32");
    memset(c.weight, 0, COLS * sizeof *c.weight);
    CHECK_OK(ht_wanda_matrix(&c.problem, &c.result));
    c.weight[COLS + 7] = NAN;
    CHECK_FAILS(ht_wanda_matrix(&c.problem, &c.result), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "weight [1, 7] is not finite");
    matrix_case_destroy(&c);
}

int main(void) {
    RUN(test_worked_vector);
    RUN(test_ties_and_odd_measures);
    RUN(test_against_counting);
    RUN(test_wanda);
    RUN(test_wanda_float);
    RUN(test_sparsegpt);
    RUN(test_walk);
    RUN(test_refusals);
    RUN(test_bad_numbers);
    return check_finish();
}
