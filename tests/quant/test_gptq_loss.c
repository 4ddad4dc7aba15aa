/* GPTQ's own account of its loss is that of the codes it leaves, for orders, scales, sweeps, curvature, zeros, dead
 * columns and parts of a strip; and with another aim both roundings are judged by that aim. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "matrix_case.h"
#include "quant/gptq/gptq.h"
#include "support/check.h"

enum { ROWS = 43, COLS = 384, TOKENS = 900 };

typedef struct setup {
    const char *format;
    int order, scales;
    double damp, shrink, share;
    size_t sweeps, group;
    int coupled;
} setup;

static const setup SETUPS[] = {
    {"mxfp4", HT_ORDER_NONE, HT_SCALES_ORIGINAL, 0.01, 0, 0, 0, 0, 0},
    {"mxfp4", HT_ORDER_GAR, HT_SCALES_SEARCHED, 0.01, 0, 0, 2, 0, 0},
    {"mxfp4", HT_ORDER_STATIC, HT_SCALES_SEARCHED, 0.1, 0.25, 0, 3, 0, 0},
    {"nvfp4", HT_ORDER_GAR, HT_SCALES_AT_GROUP, 1, 0.5, 0, 1, 0, 0},
    {"int4_g128", HT_ORDER_GAR, HT_SCALES_SEARCHED, 0.01, 0, 0, 2, 0, 0},
    {"int4_g32_asym", HT_ORDER_DESC_ACT, HT_SCALES_SEARCHED, 0.01, 0.03, 0, 0, 0, 0},
    {"int4_g128", HT_ORDER_NONE, HT_SCALES_SEARCHED, 0.01, 0, 0.5, 2, 4, 0},
    {"int4_g128", HT_ORDER_GAR, HT_SCALES_ORIGINAL, 0.01, 0, 0.3, 0, 0, 0},
    {"int1_g32", HT_ORDER_GAR, HT_SCALES_SEARCHED, 0.01, 0, 0, 2, 0, 0},
    {"nf4", HT_ORDER_GAR, HT_SCALES_SEARCHED, 0.01, 0, 0, 2, 0, 0},
    {"iq4_nl", HT_ORDER_GAR, HT_SCALES_SEARCHED, 0.01, 0, 0, 2, 0, 0},
    {"mxfp4", HT_ORDER_GAR, HT_SCALES_SEARCHED, 0.01, 0, 0, 3, 0, 1},
};

/* Some columns have no input. */
static void kill_columns(ht_moments *m, size_t first, size_t count) {
    for (size_t i = 0; i < COLS; i++)
        for (size_t j = 0; j < COLS; j++)
            if ((i >= first && i < first + count) || (j >= first && j < first + count))
                m->second[i * COLS + j] = 0;
}

static void check_setup(const setup *t) {
    matrix_case c;
    ht_grid grid;
    ht_gptq_factor factor;
    uint32_t order[COLS];
    float diagonal[COLS];
    matrix_case_create(&c, t->format, "gptq", ROWS, COLS, TOKENS, 2, 7);
    kill_columns(&c.input, 40, 9);
    CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
    CHECK_OK(ht_grid_create(&c.format, &c.how, ROWS, COLS,
                            c.format.global == HT_DTYPE_NONE ? 1 : *(float *)c.result.planes.plane[HT_PLANE_GLOBAL],
                            &grid));
    CHECK_OK(ht_gptq_order(c.ctx, t->order, c.input.second, COLS, grid.unit, order));
    CHECK_OK(ht_gptq_factorize(c.ctx, c.input.second, COLS, order, t->damp, t->shrink, &factor));
    for (size_t i = 0; i < COLS; i++)
        diagonal[i] = c.input.second[i * COLS + i];
    ht_moments g = {.cols = ROWS, .tokens = 1000, .second = calloc(ROWS * ROWS, sizeof(float))}, *band = &g;
    for (size_t r = 0; r < ROWS; r++)
        for (size_t s = r; s < ROWS; s++)
            g.second[r * ROWS + s] = r == s ? 1 : 0.3f;
    const ht_output_curvature outputs = {.rows = ROWS, .bands = 1, .band = &band};
    ht_gptq_walk walk = {.ctx = c.ctx,
                         .grid = &grid,
                         .factor = &factor,
                         .weight = c.weight,
                         .order = order,
                         .diagonal = diagonal,
                         .scales = t->scales,
                         .together = t->order == HT_ORDER_NONE || t->order == HT_ORDER_GAR,
                         .block = 128,
                         .planes = &c.result.planes,
                         .sparsity = {.share = t->share, .group = t->group},
                         .second = c.input.second,
                         .shrink = t->shrink,
                         .sweeps = t->sweeps,
                         .outputs = t->coupled ? &outputs : NULL,
                         .fisher = t->coupled ? 0.9 : 0};
    CHECK_OK(ht_gptq_walk_columns(&walk));
    CHECK_OK(ht_format_dequantize(&c.format, &c.result.planes, ROWS, COLS, c.result.decoded));
    double whole = ht_matrix_loss(&c.problem, &c.input, c.result.decoded) * (double)c.input.tokens;
    CHECK_NEAR((walk.loss - walk.extra) / (1 - t->shrink), whole, 1e-4);
    CHECK(walk.extra > 0 && !factor.remedy);
    ht_gptq_factor_release(c.ctx, &factor);
    free(g.second);
    matrix_case_destroy(&c);
}

static void test_account(void) {
    for (size_t i = 0; i < sizeof SETUPS / sizeof *SETUPS; i++) {
        int before = check_failures_of_test;
        check_setup(&SETUPS[i]);
        if (check_failures_of_test != before)
            CHECK_INT(i, SIZE_MAX); /* the setup of the failures above */
    }
}

/* What a method reports is the loss of its codes. */
static void test_reported(void) {
    for (int sweeps = 0; sweeps < 3; sweeps += 2) {
        matrix_case c;
        matrix_case_create(&c, "int4_g128", "gptq", ROWS, COLS, TOKENS, 2, 9);
        c.settings.value[HT_SETTING_SWEEPS] = sweeps;
        CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
        CHECK(!c.result.fallback && c.result.loss < 0.9 * c.result.rtn_loss);
        CHECK_NEAR(c.result.loss, ht_matrix_loss(&c.problem, &c.input, c.result.decoded), 1e-4);
        matrix_case_destroy(&c);
    }
}

/* Few tokens, other text held out: rounding is better there and stays, with the aim of GPTAQ as without. */
static void test_guard_of_another_aim(void) {
    for (int aims = 0; aims < 2; aims++) {
        matrix_case c;
        float *x = matrix_case_text(24, COLS, 11), *other = malloc(600 * COLS * sizeof *other);
        for (size_t i = 0; i < 600 * COLS; i++)
            other[i] = (float)((i * 7919) % 31) - 15;
        matrix_case_create(&c, "int4_g128", "gptq", 16, COLS, 0, 2, 11);
        matrix_case_inputs(&c.input, x, x, 24, COLS); /* the float model's rows are the same: w' = w */
        matrix_case_inputs(&c.held_out, other, NULL, 600, COLS);
        c.problem.input = &c.input;
        c.problem.held_out = &c.held_out;
        c.settings.value[HT_SETTING_GPTAQ] = aims;
        c.settings.value[HT_SETTING_DAMP] = 1e-4;
        CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
        CHECK_CONTAINS(c.result.fallback ? c.result.fallback : "", "gptq left a larger error");
        free(x), free(other);
        matrix_case_destroy(&c);
    }
}

/* Where the aim differs, the losses are those of the aim: rounding's is not that of the weights. */
static void test_losses_of_another_aim(void) {
    matrix_case c;
    float *x_float = matrix_case_text(TOKENS, COLS, 12), *x = malloc(TOKENS * COLS * sizeof *x);
    for (size_t i = 0; i < TOKENS * COLS; i++)
        x[i] = 0.9f * x_float[i] + 0.01f * (float)(i * 31 % 17);
    matrix_case_create(&c, "mxfp4", "gptq", ROWS, COLS, 0, 2, 12);
    matrix_case_inputs(&c.input, x, x_float, TOKENS, COLS);
    c.problem.input = &c.input;
    c.settings.value[HT_SETTING_GPTAQ] = 1;
    CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
    double plain = c.result.rtn_loss;
    CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
    CHECK(!c.result.fallback && c.result.loss < c.result.rtn_loss);
    CHECK(fabs(c.result.rtn_loss / plain - 1) > 0.05);
    free(x_float), free(x);
    matrix_case_destroy(&c);
}

int main(void) {
    RUN(test_account);
    RUN(test_reported);
    RUN(test_guard_of_another_aim);
    RUN(test_losses_of_another_aim);
    return check_finish();
}
