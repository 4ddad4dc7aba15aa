/* GPTQ against others: worked vectors, stored cases of an f64 program, an independent slow version, the factor in f64.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format/bits.h"
#include "quant/matrix_case.h"
#include "support/check.h"
#include "support/golden.h"

/* --- Worked vectors: integers of unit scale --- */

/* int4 rows with scale 1 (options.scale); x [tokens, cols]; the outputs' squared error, summed over tokens. */
static double integers(const float *weight, const float *x, size_t tokens, size_t cols, int order, float *decoded) {
    matrix_case c;
    matrix_case_create(&c, "int4_row_bytes", "gptq", 1, cols, 0, 1, 1);
    memcpy(c.weight, weight, cols * sizeof *weight);
    matrix_case_inputs(&c.input, x, NULL, tokens, cols);
    c.problem.input = &c.input;
    c.how.scale = 1;
    c.settings.value[HT_SETTING_SCALES] = HT_SCALES_ORIGINAL;
    c.settings.value[HT_SETTING_ORDER] = order;
    c.settings.value[HT_SETTING_DAMP] = 0.01;
    c.settings.value[HT_SETTING_SWEEPS] = 0;
    CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
    memcpy(decoded, c.result.decoded, cols * sizeof *decoded);
    double error = c.result.loss * (double)tokens;
    matrix_case_destroy(&c);
    return error;
}

static void test_worked_vectors(void) {
    static const float THREE[] = {0.6f, 0.6f, 0.6f}, ONES[] = {1, 1, 1}, WANT[] = {1, 0, 1};
    static const float FOUR[] = {1.4f, -0.45f, 2.3f, 0.55f}, X[] = {1, 2, 0.5f, 1, 0.5f, 1, 1, 2};
    static const float NATURAL[] = {1, 0, 2, 1}, SORTED[] = {1, 0, 1, 1};
    float q[4];
    CHECK_NEAR(integers(THREE, ONES, 1, 3, HT_ORDER_NONE, q), 0.04, 1e-4);
    CHECK_F32(q, WANT, 3);
    CHECK_NEAR(integers(FOUR, X, 2, 4, HT_ORDER_NONE, q), 1.3625, 1e-4);
    CHECK_F32(q, NATURAL, 4);
    CHECK_NEAR(integers(FOUR, X, 2, 4, HT_ORDER_STATIC, q), 0.1125, 1e-4);
    CHECK_F32(q, SORTED, 4);
}

/* T-G1's factor. The specification's is the upper triangular U with H'^-1 = U^T U of H = 2 X^T X; ours, of half of it,
 * is F D F^T, so that U = D^-1/2 F^-1 / sqrt(2). */
static void test_worked_factor(void) {
    static const float ONES[] = {1, 1, 1};
    static const double WANT[3][3] = {{5.7783, -2.8748, -2.8748}, {0, 5.0124, -4.9628}, {0, 0, 0.7036}};
    matrix_case c;
    ht_gptq_factor factor;
    uint32_t order[3];
    matrix_case_create(&c, "int4_row_bytes", "gptq", 1, 3, 0, 1, 1);
    matrix_case_inputs(&c.input, ONES, NULL, 1, 3);
    CHECK_OK(ht_gptq_order(c.ctx, HT_ORDER_NONE, c.input.second, 3, 3, order));
    REQUIRE_OK(ht_gptq_factorize(c.ctx, c.input.second, 3, order, 0.01, 0, &factor));
    CHECK(!factor.remedy && factor.damping == 0.01);
    double f01 = (double)factor.feed[1], f02 = (double)factor.feed[2], f12 = (double)factor.feed[5];
    const double inverse[3][3] = {{1, -f01, f01 * f12 - f02}, {0, 1, -f12}, {0, 0, 1}};
    for (size_t i = 0; i < 3; i++)
        for (size_t j = i; j < 3; j++)
            CHECK_WITHIN(inverse[i][j] / sqrt(2 * factor.pivot[i]), WANT[i][j], 2e-4);
    ht_gptq_factor_release(c.ctx, &factor);
    matrix_case_destroy(&c);
}

/* H of any size of the tokens' factor: three calls with a third of it are the same problem (T-H1). */
static void test_streamed_hessian(void) {
    static const float X[] = {1, 2, 0, 1, 0, 1, 1, 2, 2, 1, 1, 0};
    float whole[16], third[16];
    for (size_t i = 0; i < 2; i++) {
        matrix_case c;
        matrix_case_create(&c, "int4_row_bytes", "gptq", 4, 4, 0, 1, 60);
        matrix_case_inputs(&c.input, X, NULL, 3, 4);
        CHECK(c.input.second[0] == 5 && c.input.second[1] == 4 && c.input.second[6] == 2 && c.input.second[15] == 5);
        for (size_t j = 0; i && j < 16; j++)
            c.input.second[j] /= 3;
        c.problem.input = &c.input;
        matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_ORIGINAL);
        memcpy(i ? third : whole, c.result.decoded, sizeof whole);
        matrix_case_destroy(&c);
    }
    CHECK_F32(third, whole, 16);
}

/* --- Stored cases --- */

static void test_stored_cases(void) {
    static const struct {
        const char *name, *format;
        ht_scale_rule rule;
    } FORMATS[] = {{"mxfp4-rceil", "mxfp4", HT_SCALE_RCEIL},
                   {"mxfp4-even", "mxfp4", HT_SCALE_EVEN},
                   {"int4-g128-sym", "int4_g128", HT_SCALE_DEFAULT},
                   {"int4-g32-asym", "int4_g32_float0", HT_SCALE_DEFAULT},
                   {"nvfp4", "nvfp4_pts", HT_SCALE_DEFAULT}};
    static const struct {
        const char *name;
        int order, scales;
    } WAYS[] = {{"gptq", HT_ORDER_NONE, HT_SCALES_AT_GROUP},
                {"gptq-act", HT_ORDER_STATIC, HT_SCALES_ORIGINAL},
                {"gptq-static", HT_ORDER_NONE, HT_SCALES_ORIGINAL}};
    golden g = golden_open("quant/gptq-case.safetensors");
    for (size_t f = 0; f < 5; f++)
        for (size_t y = 0; y < 3; y++) {
            matrix_case c;
            matrix_case_create(&c, FORMATS[f].format, "gptq", 8, 256, 0, 1, 1);
            c.how.scale_rule = FORMATS[f].rule;
            matrix_case_stored(&c, &g);
            c.settings.value[HT_SETTING_ORDER] = WAYS[y].order;
            c.settings.value[HT_SETTING_SCALES] = WAYS[y].scales;
            c.settings.value[HT_SETTING_DAMP] = 0.01;
            c.settings.value[HT_SETTING_SWEEPS] = 0;
            const golden_tensor *want = golden_findf(&g, "%s.%s", WAYS[y].name, FORMATS[f].name);
            const golden_tensor *rtn = golden_findf(&g, "rtn.%s", FORMATS[f].name);
            if (want && rtn && CHECK_OK(ht_gptq_matrix(&c.problem, &c.result))) {
                double theirs = ht_matrix_loss(&c.problem, &c.input, want->data);
                size_t different = matrix_case_different(c.result.decoded, want->data, want->elements, 2e-7f);
                CHECK_NEAR(c.result.rtn_loss, ht_matrix_loss(&c.problem, &c.input, rtn->data), 1e-4);
                CHECK_NEAR(c.result.loss, theirs, 1e-5);
                CHECK_INT(different, 0); /* of 2048 values */
            }
            matrix_case_destroy(&c);
        }
    golden_close(&g);
}

/* --- An independent slow version: the textbook's, with the inverse, f64 --- */

/* a = inverse of a positive definite matrix. */
static void invert(double *a, size_t n) {
    for (size_t k = 0; k < n; k++) {
        double pivot = a[k * n + k];
        a[k * n + k] = 1;
        for (size_t j = 0; j < n; j++)
            a[k * n + j] /= pivot;
        for (size_t i = 0; i < n; i++)
            if (i != k) {
                double f = a[i * n + k];
                a[i * n + k] = 0;
                for (size_t j = 0; j < n; j++)
                    a[i * n + j] -= f * a[k * n + j];
            }
    }
}

static double to_bf16(double x) {
    return (double)ht_f32_from_bits((ht_f32_bits((float)x) + 0x7fff + (ht_f32_bits((float)x) >> 16 & 1)) & 0xffff0000u);
}

/* Column by column: the optimal update of all that is left is w -= e inv[k] / inv[k][k], then the column is removed.
 * half: what is left is kept in bf16. */
static void textbook(const matrix_case *c, double damp, int half, float *decoded) {
    size_t n = c->problem.cols, rows = c->problem.rows;
    double *h = calloc(n * n, sizeof *h), *w = malloc(rows * n * sizeof *w), mean = 0;
    for (size_t i = 0; i < n; i++)
        mean += (double)c->input.second[i * n + i] / (double)n;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++)
            h[i * n + j] = (double)c->input.second[i < j ? i * n + j : j * n + i] + (i == j ? damp * mean : 0);
    for (size_t i = 0; i < rows * n; i++)
        w[i] = (double)c->weight[i];
    ht_grid grid;
    float global = c->format.global == HT_DTYPE_NONE ? 1 : *(float *)c->result.planes.plane[HT_PLANE_GLOBAL];
    CHECK_OK(ht_grid_create(&c->format, &c->how, rows, n, global, &grid));
    invert(h, n);
    for (size_t k = 0; k < n; k++) {
        for (size_t r = 0; r < rows; r++) {
            ht_grid_cell cells[HT_GRID_CELLS];
            uint8_t code;
            ht_grid_load(&grid, &c->result.planes, r, k / grid.unit, cells);
            float x = (float)w[r * n + k];
            ht_grid_round(&grid, cells + k % grid.unit / grid.width, &x, 1, &decoded[r * n + k], &code);
            double e = (w[r * n + k] - (double)decoded[r * n + k]) / h[k * n + k];
            for (size_t j = k; j < n; j++)
                w[r * n + j] -= e * h[k * n + j];
            for (size_t j = k; half && j < n; j++)
                w[r * n + j] = to_bf16(w[r * n + j]);
        }
        for (size_t i = k + 1; i < n; i++)
            for (size_t j = k + 1; j < n; j++)
                h[i * n + j] -= h[i * n + k] * h[k * n + j] / h[k * n + k];
    }
    free(h), free(w);
}

static void test_textbook(void) {
    static const char *const FORMATS[] = {"mxfp4", "q4_k", "nf4"};
    enum { ROWS = 6, COLS = 256 };
    for (size_t f = 0; f < 3; f++) {
        matrix_case c;
        float decoded[ROWS * COLS];
        matrix_case_create(&c, FORMATS[f], "gptq", ROWS, COLS, 600, 1, 20);
        c.settings.value[HT_SETTING_ORDER] = HT_ORDER_NONE;
        c.settings.value[HT_SETTING_SCALES] = HT_SCALES_ORIGINAL;
        c.settings.value[HT_SETTING_SWEEPS] = 0;
        CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
        textbook(&c, c.settings.value[HT_SETTING_DAMP], 0, decoded);
        CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
        CHECK(matrix_case_different(c.result.decoded, decoded, ROWS * COLS, 1e-6f) <= ROWS * COLS / 100);
        CHECK_NEAR(c.result.loss, ht_matrix_loss(&c.problem, &c.input, decoded), 0.01);
        matrix_case_destroy(&c);
    }
}

/* D3: what is left of the weights, moved again and again, keeps its bits. Weights that bf16 holds, a fine grid, inputs
 * with strong relations: the loss is that of f64, and a version that rounds to bf16 loses visibly. */
static void test_d3_weights_keep_their_bits(void) {
    enum { ROWS = 6, COLS = 256 };
    matrix_case c;
    float exact[ROWS * COLS], half[ROWS * COLS];
    matrix_case_create(&c, "int8_row", "gptq", ROWS, COLS, 600, 1, 21);
    for (size_t i = 0; i < ROWS * COLS; i++)
        c.weight[i] = (float)to_bf16((double)c.weight[i]);
    c.settings.value[HT_SETTING_ORDER] = HT_ORDER_NONE;
    c.settings.value[HT_SETTING_SCALES] = HT_SCALES_ORIGINAL;
    c.settings.value[HT_SETTING_SWEEPS] = 0;
    CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
    textbook(&c, c.settings.value[HT_SETTING_DAMP], 0, exact);
    textbook(&c, c.settings.value[HT_SETTING_DAMP], 1, half);
    double loss = ht_matrix_loss(&c.problem, &c.input, exact), rounded = ht_matrix_loss(&c.problem, &c.input, half);
    CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
    printf("loss %g, of f64 %g, of weights in bf16 %g\n", c.result.loss, loss, rounded);
    CHECK_NEAR(c.result.loss, loss, 0.01);
    CHECK(rounded > 1.1 * loss);
    matrix_case_destroy(&c);
}

/* f32 in blocks, above 1024 columns, against the same in f64. */
static void test_large_factor(void) {
    enum { COLS = 1100 };
    matrix_case c;
    ht_gptq_factor factor;
    matrix_case_create(&c, "int8_row", "gptq", 1, COLS, 40, 2, 92);
    uint32_t *order = malloc(COLS * sizeof *order);
    CHECK_OK(ht_gptq_order(c.ctx, HT_ORDER_STATIC, c.input.second, COLS, COLS, order));
    REQUIRE_OK(ht_gptq_factorize(c.ctx, c.input.second, COLS, order, 0.01, 0, &factor));
    CHECK(!factor.remedy && factor.damping == 0.01);
    double mean = 0, worst = 0;
    for (size_t i = 0; i < COLS; i++)
        mean += (double)c.input.second[i * COLS + i] / COLS;
    for (size_t i = 0; i < COLS; i += 7) /* F D F^T is the damped matrix */
        for (size_t j = i; j < COLS; j += 5) {
            double sum = (i == j ? 1 : (double)factor.feed[i * COLS + j]) * factor.pivot[j];
            for (size_t k = j + 1; k < COLS; k++)
                sum += (double)factor.feed[i * COLS + k] * factor.pivot[k] * (double)factor.feed[j * COLS + k];
            size_t a = order[i] < order[j] ? order[i] : order[j], b = order[i] < order[j] ? order[j] : order[i];
            double want = (double)c.input.second[a * COLS + b] + (i == j ? 0.01 * mean : 0);
            worst = fabs(sum - want) > worst ? fabs(sum - want) : worst;
        }
    CHECK_WITHIN(worst, 0, 2e-4 * mean);
    ht_gptq_factor_release(c.ctx, &factor);
    free(order);
    matrix_case_destroy(&c);
}

int main(void) {
    RUN(test_worked_vectors);
    RUN(test_worked_factor);
    RUN(test_streamed_hessian);
    RUN(test_stored_cases);
    RUN(test_textbook);
    RUN(test_d3_weights_keep_their_bits);
    RUN(test_large_factor);
    return check_finish();
}
