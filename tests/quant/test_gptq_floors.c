/* Signal to noise that GPTQ must reach on the outputs of a small network, above rounding to nearest (algorithms
 * specification, section 9): three linears without anything between them, 512 -> 1024 -> 2048 -> 512, ten batches of
 * four inputs, one linear after the other on the outputs of the quantized ones before it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quant/matrix_case.h"
#include "support/check.h"

enum { BATCHES = 10, BATCH = 4, TOKENS = BATCHES * BATCH, LAYERS = 3 };
static const size_t WIDTH[LAYERS + 1] = {512, 1024, 2048, 512};

/* y [TOKENS, rows] = x [TOKENS, cols] w^T */
static float *product(const float *x, const float *w, size_t rows, size_t cols) {
    float *y = malloc(TOKENS * rows * sizeof *y);
    for (size_t r = 0; r < rows; r++)
        for (size_t t = 0; t < TOKENS; t++) {
            double sum = 0;
            for (size_t k = 0; k < cols; k++)
                sum += (double)(x[t * cols + k] * w[r * cols + k]);
            y[t * rows + r] = (float)sum;
        }
    return y;
}

static double decibels(const float *y, const float *of, size_t count) {
    double noise = 0, signal = 0;
    for (size_t i = 0; i < count; i++) {
        noise += ((double)y[i] - (double)of[i]) * ((double)y[i] - (double)of[i]);
        signal += (double)of[i] * (double)of[i];
    }
    return 10 * log10(signal / noise);
}

static void fill(matrix_case *c, size_t layer, size_t rows, size_t cols) {
    for (size_t i = 0; i < rows * cols; i++) /* as linears are initialized: even, up to 1 / sqrt(inputs) */
        c->weight[i] = (2 * ht_random_uniform(61, layer, i) - 1) / sqrtf((float)cols);
    if (c->format.global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, c->weight, HT_F32, rows * cols));
        *(float *)c->result.planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c->format, &c->how, &range);
    }
}

/* Statistics batch by batch, codes, and what the linear gives with them for *x and *rtn (rounded), *exact (float). */
static void quantize_layer(const char *format, size_t layer, float **x, float **rtn, float **exact) {
    size_t rows = WIDTH[layer + 1], cols = WIDTH[layer];
    matrix_case c;
    ht_moments *moments;
    matrix_case_create(&c, format, "gptq", rows, cols, 0, 2, 60);
    fill(&c, layer, rows, cols);
    REQUIRE_OK(ht_moments_create(c.ctx, cols, HT_MOMENT_SECOND, &moments));
    for (size_t b = 0; b < BATCHES; b++)
        CHECK_OK(ht_moments_add(moments, *x + b * BATCH * cols, NULL, BATCH, cols));
    CHECK_OK(ht_moments_finish(moments));
    c.problem.input = moments;
    CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
    CHECK(!c.result.fallback && c.result.loss < c.result.rtn_loss);
    float *next = product(*x, c.result.decoded, rows, cols), *next_exact = product(*exact, c.weight, rows, cols);
    CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
    float *next_rtn = product(*rtn, c.result.decoded, rows, cols);
    free(*x), free(*rtn), free(*exact);
    *x = next, *rtn = next_rtn, *exact = next_exact;
    ht_moments_destroy(moments);
    matrix_case_destroy(&c);
}

static void check_format(const char *format, double least) {
    float *x[3]; /* of GPTQ, of rounding, exact */
    for (size_t i = 0; i < 3; i++) {
        x[i] = malloc(TOKENS * WIDTH[0] * sizeof *x[i]);
        for (size_t k = 0; k < TOKENS * WIDTH[0]; k++)
            x[i][k] = ht_random_normal(62, 1, k);
    }
    for (size_t l = 0; l < LAYERS; l++)
        quantize_layer(format, l, &x[0], &x[1], &x[2]);
    double gptq = decibels(x[0], x[2], TOKENS * WIDTH[LAYERS]), rtn = decibels(x[1], x[2], TOKENS * WIDTH[LAYERS]);
    printf("%s: %.1f dB, rounded to nearest %.1f dB\n", format, gptq, rtn);
    CHECK(gptq > least);
    CHECK(gptq > rtn);
    free(x[0]), free(x[1]), free(x[2]);
}

static void test_int4(void) {
    check_format("int4_g128_float0", 25);
}

static void test_int8(void) {
    check_format("int8_row", 30);
}

static void test_nvfp4(void) {
    check_format("nvfp4", 15);
}

int main(void) {
    RUN(test_int4);
    RUN(test_int8);
    RUN(test_nvfp4);
    return check_finish();
}
