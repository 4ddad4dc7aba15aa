/* SINQ's scales: they even out what was made uneven, do not depend on the size of weights, share channels, and stay
 * finite for columns that say nothing.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "quant/transform/scaling.h"
#include "support/check.h"

enum { COLS = 64, ROWS = 40 };

static ht_context *ctx;
static ht_settings settings;

static ht_scaling_problem problem_of(ht_scaling_reader *reader, size_t readers, size_t cols) {
    settings = ht_settings_default("sinq");
    return (ht_scaling_problem){
        .ctx = ctx, .settings = &settings, .reader = reader, .readers = readers, .cols = cols, .channels = cols};
}

static float unevenness(size_t j) {
    return expf(1.5f * ht_random_normal(4, 1, j));
}

/* [ROWS, COLS]: normal numbers times a factor of the row and one of the column. */
static void fill(float *w, float size) {
    for (size_t r = 0; r < ROWS; r++)
        for (size_t j = 0; j < COLS; j++)
            w[r * COLS + j] =
                size * expf(ht_random_normal(4, 2, r)) * unevenness(j) * ht_random_normal(4, 3, r * COLS + j);
}

static void test_evens_out(void) {
    float w[ROWS * COLS], scale[COLS], again[COLS];
    fill(w, 1);
    ht_scaling_reader readers[2] = {{.weight = w, .rows = 16}, {.weight = w + 16 * COLS, .rows = ROWS - 16}};
    ht_scaling_problem problem = problem_of(readers, 2, COLS);
    CHECK_OK(ht_sinq_scales(&problem, scale));
    double low = INFINITY, high = 0; /* scale times what made the column uneven: alike for all, up to chance */
    for (size_t j = 0; j < COLS; j++) {
        double even = (double)(scale[j] * unevenness(j));
        low = even < low ? even : low;
        high = even > high ? even : high;
    }
    CHECK(high / low < 2.2); /* 40 values a column; without scales it is above 100 */
    fill(w, 0x1p-20f);
    CHECK_OK(ht_sinq_scales(&problem, again));
    for (size_t j = 0; j < COLS; j++)
        CHECK_NEAR(again[j], scale[j], 1e-3);
    ht_scaling_reader whole = {.weight = w, .rows = ROWS}; /* who reads a row does not matter */
    problem = problem_of(&whole, 1, COLS);
    CHECK_OK(ht_sinq_scales(&problem, scale));
    CHECK_BYTES(again, scale, sizeof scale);
}

/* Two rows, two columns, worked by hand: columns (2, -2) and (1, -1) deviate by 2 and 1; with s = (1/2, 1), around 1,
 * rows (1, 1) and (-1, -1) are flat, so that is all. */
static void test_by_hand(void) {
    static const float W[] = {2, 1, -2, -1};
    float scale[2];
    ht_scaling_reader reader = {.weight = W, .rows = 2};
    ht_scaling_problem problem = problem_of(&reader, 1, 2);
    CHECK_OK(ht_sinq_scales(&problem, scale));
    CHECK_NEAR(scale[0], sqrt(0.5), 1e-6);
    CHECK_NEAR(scale[1], sqrt(2), 1e-6);
}

static void test_channels(void) {
    float w[ROWS * COLS], scale[COLS / 2];
    size_t channel[COLS];
    fill(w, 1);
    for (size_t j = 0; j < COLS; j++) {
        channel[j] = j % (COLS / 2);
        for (size_t r = 0; r < ROWS; r++)
            w[r * COLS + j] *= unevenness(channel[j]) / unevenness(j);
    }
    ht_scaling_reader reader = {.weight = w, .rows = ROWS};
    ht_scaling_problem problem = problem_of(&reader, 1, COLS);
    problem.channel = channel;
    problem.channels = COLS / 2;
    CHECK_OK(ht_sinq_scales(&problem, scale));
    for (size_t c = 1; c < COLS / 2; c++) {
        double even = (double)(scale[c] * unevenness(c) / (scale[0] * unevenness(0)));
        CHECK(even > 0.45 && even < 2.2);
    }
}

static void test_odd_weights(void) {
    float w[ROWS * COLS], scale[COLS];
    fill(w, 1);
    for (size_t r = 0; r < ROWS; r++) {
        w[r * COLS + 3] = 0;
        w[r * COLS + 4] = 0x1p-140f; /* all the same */
        w[r * COLS + 5] *= 1e30f;
    }
    memset(w, 0, COLS * sizeof *w);
    ht_scaling_reader reader = {.weight = w, .rows = ROWS};
    ht_scaling_problem problem = problem_of(&reader, 1, COLS);
    CHECK_OK(ht_sinq_scales(&problem, scale));
    for (size_t j = 0; j < COLS; j++)
        CHECK(isfinite(scale[j]) && scale[j] > 0);
    memset(w, 0, sizeof w);
    CHECK_OK(ht_sinq_scales(&problem, scale));
    for (size_t j = 0; j < COLS; j++)
        CHECK(scale[j] == 1);
    w[2 * COLS + 7] = NAN;
    CHECK_FAILS(ht_sinq_scales(&problem, scale), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "weight [2, 7] of reader 0 is not finite");
}

int main(void) {
    CHECK_OK(ht_context_create(NULL, &ctx));
    RUN(test_evens_out);
    RUN(test_by_hand);
    RUN(test_channels);
    RUN(test_odd_weights);
    ht_context_destroy(ctx);
    return check_finish();
}
