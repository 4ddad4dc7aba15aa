/* GPTQ on inputs that are not what it would like: factors that fail, bad numbers, few tokens, other text.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quant/matrix_case.h"
#include "support/check.h"
#include "support/golden.h"

/* D7, and Hessians that are no good: each is an answer with a reason, never a failure. */
static void test_recovery(void) {
    matrix_case c;
    matrix_case_create(&c, "nvfp4", "gptq", 8, 256, 3, 1, 90); /* rank 3 */
    matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
    CHECK(c.result.loss <= c.result.rtn_loss && !c.result.fallback);
    for (size_t i = 0; i < 256; i++) /* not positive definite at the first damping */
        c.input.second[i * 256 + i] *= 0.99f;
    matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK(c.result.loss <= c.result.rtn_loss);
    CHECK(c.result.fallback != NULL);
    uint32_t order[256];
    ht_gptq_factor factor;
    CHECK_OK(ht_gptq_order(c.ctx, HT_ORDER_NONE, c.input.second, 256, 16, order));
    CHECK_OK(ht_gptq_factorize(c.ctx, c.input.second, 256, order, 0.01, 0, &factor));
    CHECK_CONTAINS(factor.remedy, "more damping");
    CHECK(factor.damping > 0.01 && factor.damping <= 1);
    ht_gptq_factor_release(c.ctx, &factor);
    for (size_t i = 0; i < 256; i++) /* nor at any */
        for (size_t j = i + 1; j < 256; j++)
            c.input.second[i * 256 + j] = 40;
    CHECK_OK(ht_gptq_factorize(c.ctx, c.input.second, 256, order, 0.01, 0, &factor));
    CHECK_CONTAINS(factor.remedy, "pivots replaced");
    ht_gptq_factor_release(c.ctx, &factor);
    matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK(c.result.fallback != NULL);
    c.input.tokens = 0;
    matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK_CONTAINS(c.result.fallback, "no calibration token");
    c.problem.input = NULL;
    matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK_CONTAINS(c.result.fallback, "no calibration token");
    matrix_case_destroy(&c);
}

static void test_refusals(void) {
    matrix_case c;
    matrix_case_create(&c, "mxfp4", "gptq", 4, 64, 100, 1, 91);
    c.weight[2 * 64 + 5] = NAN;
    CHECK_FAILS(ht_gptq_matrix(&c.problem, &c.result), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "[2, 5]");
    c.weight[2 * 64 + 5] = 0;
    c.input.second[3 * 64 + 9] = INFINITY;
    CHECK_FAILS(ht_gptq_matrix(&c.problem, &c.result), HT_ERR_NUMERIC);
    CHECK_CONTAINS(ht_error_message(), "[3, 9]");
    matrix_case_destroy(&c);
}

/* Outputs of the float model on its own inputs, against the codes on the inputs that there are. */
static double output_error(const matrix_case *c, const float *x_float, const float *x, const float *decoded) {
    size_t cols = c->problem.cols;
    double sum = 0;
    for (size_t t = 0; t < c->input.tokens; t++)
        for (size_t r = 0; r < c->problem.rows; r++) {
            double error = 0;
            for (size_t k = 0; k < cols; k++)
                error += (double)x_float[t * cols + k] * (double)c->weight[r * cols + k] -
                         (double)x[t * cols + k] * (double)decoded[r * cols + k];
            sum += error * error / (double)c->input.tokens;
        }
    return sum;
}

static void test_inputs_of_the_float_model(void) {
    enum { ROWS = 8, COLS = 128, TOKENS = 500 };
    matrix_case c;
    double error[2];
    float *x_float = matrix_case_text(TOKENS, COLS, 100), *x = malloc(TOKENS * COLS * sizeof *x);
    for (size_t i = 0; i < TOKENS * COLS; i++) /* smaller and noisy, as after quantized layers */
        x[i] = 0.9f * x_float[i] + 0.1f * ht_random_normal(101, 1, i);
    matrix_case_create(&c, "mxfp4", "gptq", ROWS, COLS, 0, 2, 100);
    matrix_case_inputs(&c.input, x, x_float, TOKENS, COLS);
    c.problem.input = &c.input;
    for (int alpha = 0; alpha < 2; alpha++) {
        c.settings.value[HT_SETTING_GPTAQ] = alpha;
        CHECK(ht_gptq_moments(&c.settings) == (alpha ? HT_MOMENT_SECOND | HT_MOMENT_CROSS : HT_MOMENT_SECOND));
        matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        error[alpha] = output_error(&c, x_float, x, c.result.decoded);
    }
    CHECK(error[1] < 0.7 * error[0]);
    free(x_float), free(x);
    matrix_case_destroy(&c);
}

/* Few tokens, and other text that does not share their chance relations: plain GPTQ lowers the calibration loss a lot
 * and is worse than rounding on the other text; the guard finds a pull of H that is not, or rounds. */
static void test_overfitting(void) {
    enum { ROWS = 32, COLS = 256, TOKENS = 100, OTHER = 1000 };
    double held_out[2];
    for (int guarded = 0; guarded < 2; guarded++) {
        matrix_case c;
        matrix_case_create(&c, "int4_g128", "gptq", ROWS, COLS, TOKENS, 1, 110);
        c.settings.value[HT_SETTING_SHRINK] = guarded ? -1 : 0;
        float *text = malloc(OTHER * COLS * sizeof *text); /* features without any relation */
        for (size_t i = 0; i < OTHER * COLS; i++)
            text[i] = ht_random_normal(110, 8, i);
        matrix_case_inputs(&c.input, text, NULL, TOKENS, COLS);
        matrix_case_inputs(&c.held_out, text + TOKENS * COLS, NULL, OTHER - TOKENS, COLS);
        if (guarded)
            c.problem.held_out = &c.held_out;
        matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        CHECK(c.result.loss <= c.result.rtn_loss);
        held_out[guarded] = ht_matrix_loss(&c.problem, &c.held_out, c.result.decoded);
        if (guarded) {
            CHECK(c.result.held_out_loss <= c.result.held_out_rtn_loss && held_out[1] == c.result.held_out_loss);
            CHECK(held_out[0] > c.result.held_out_rtn_loss); /* what it guards against */
        } else {
            CHECK(c.result.loss < 0.5 * c.result.rtn_loss);
        }
        free(text);
        matrix_case_destroy(&c);
    }
    CHECK(held_out[1] < 0.9 * held_out[0]);
}

/* x [tokens, n] with the covariance of a stored Hessian (upper triangle). */
static float *draw_tokens(const float *h, size_t n, size_t tokens, uint64_t stream) {
    double *low = calloc(n * n, sizeof *low), mean = 0;
    float *x = calloc(tokens * n, sizeof *x);
    for (size_t i = 0; i < n; i++)
        mean += (double)h[i * n + i] / (double)n;
    for (size_t j = 0; j < n; j++) /* Cholesky */
        for (size_t i = j; i < n; i++) {
            double sum = (double)h[j * n + i] + (i == j ? 1e-6 * mean : 0);
            for (size_t k = 0; k < j; k++)
                sum -= low[i * n + k] * low[j * n + k];
            low[i * n + j] = i == j ? sqrt(sum) : sum / low[j * n + j];
        }
    for (size_t t = 0; t < tokens; t++)
        for (size_t k = 0; k < n; k++) {
            double z = (double)ht_random_normal(7, stream, t * n + k);
            for (size_t i = k; i < n; i++)
                x[t * n + i] += (float)(low[i * n + k] * z);
        }
    free(low);
    return x;
}

/* A real matrix whose inputs are known well, calibrated on 48 tokens drawn like them. Plain GPTQ (hardly damped) halves
 * the loss on those and is worse than rounding on the real inputs; each guard alone is better than rounding, or is it.
 */
static void test_guards(void) {
    enum { COLS = 256, FEW = 48, MANY = 4096 };
    static const struct {
        const char *what;
        size_t tokens;
        double shrink, damp;
        int held_out;
        double most; /* of the rounding's loss on the real inputs */
    } GUARDS[] = {{"plain", FEW, 0, 1e-4, 0, 0},
                  {"held-out check", FEW, 0, 1e-4, 1, 1},
                  {"shrinkage", FEW, -1, 1e-4, 1, 0.97},
                  {"damping", FEW, 0, 0, 1, 0.99},
                  {"more tokens", MANY, 0, 1e-4, 0, 0.75}};
    golden g = golden_open("quant/gptq-case.safetensors");
    for (size_t i = 0; i < sizeof GUARDS / sizeof *GUARDS; i++) {
        matrix_case c;
        matrix_case_create(&c, "int4_g128", "gptq", 8, COLS, 0, 1, 1);
        matrix_case_stored(&c, &g);
        ht_moments real = c.input;
        float *x = draw_tokens(real.second, COLS, GUARDS[i].tokens, 1), *y = draw_tokens(real.second, COLS, FEW, 2);
        c.input = (ht_moments){.second = NULL};
        matrix_case_inputs(&c.input, x, NULL, GUARDS[i].tokens, COLS);
        matrix_case_inputs(&c.held_out, y, NULL, FEW, COLS);
        c.problem.held_out = GUARDS[i].held_out ? &c.held_out : NULL;
        c.settings.value[HT_SETTING_SHRINK] = GUARDS[i].shrink;
        c.settings.value[HT_SETTING_DAMP] = GUARDS[i].damp;
        REQUIRE_OK(ht_gptq_matrix(&c.problem, &c.result));
        double calibrated = c.result.loss / c.result.rtn_loss,
               loss = ht_matrix_loss(&c.problem, &real, c.result.decoded);
        REQUIRE_OK(ht_matrix_round(&c.problem, NULL, &c.result));
        double ratio = loss / ht_matrix_loss(&c.problem, &real, c.result.decoded);
        printf("%s: %.3f of the rounding's loss on the calibration tokens, %.3f on the real inputs\n", GUARDS[i].what,
               calibrated, ratio);
        if (i == 0)
            CHECK(calibrated < 0.5 && ratio > 1.05);
        else
            CHECK(calibrated <= 1 && ratio <= GUARDS[i].most);
        free(x), free(y), free(real.second);
        matrix_case_destroy(&c);
    }
    golden_close(&g);
}

int main(void) {
    RUN(test_recovery);
    RUN(test_refusals);
    RUN(test_inputs_of_the_float_model);
    RUN(test_overfitting);
    RUN(test_guards);
    return check_finish();
}
