/* GPTQ on one matrix: worked vectors, stored cases of an f64 program, an independent slow version, and what must hold
 * for every format. */
#include "quant/gptq/gptq.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "quant/matrix_case.h"
#include "support/check.h"
#include "support/golden.h"

/* --- Worked vectors: integers of unit scale ------------------------------------------------------------------------
 */

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

/* --- Stored cases ----------------------------------------------------------------------------------------------------
 */

static void load_problem(matrix_case *c, const golden *g) {
    const golden_tensor *h = golden_find(g, "H"), *w = golden_find(g, "W");
    if (!h || !w)
        return;
    size_t cols = h->shape[0];
    memcpy(c->weight, w->data, w->bytes);
    const float identity = 0;
    matrix_case_inputs(&c->input, &identity, NULL, 0, cols);
    c->input.tokens = 1;
    for (size_t i = 0; i < cols; i++)
        for (size_t j = i; j < cols; j++)
            c->input.second[i * cols + j] = ((const float *)h->data)[i * cols + j];
    c->problem.input = &c->input;
    if (c->format.global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, c->weight, HT_F32, w->elements));
        *(float *)c->result.planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c->format, &c->how, &range);
    }
}

static size_t count_different(const float *a, const float *b, size_t count, float tolerance) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++)
        different += !(fabsf(a[i] - b[i]) <= tolerance);
    return different;
}

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
            load_problem(&c, &g);
            c.settings.value[HT_SETTING_ORDER] = WAYS[y].order;
            c.settings.value[HT_SETTING_SCALES] = WAYS[y].scales;
            c.settings.value[HT_SETTING_DAMP] = 0.01;
            c.settings.value[HT_SETTING_SWEEPS] = 0;
            const golden_tensor *want = golden_findf(&g, "%s.%s", WAYS[y].name, FORMATS[f].name);
            const golden_tensor *rtn = golden_findf(&g, "rtn.%s", FORMATS[f].name);
            if (want && rtn && CHECK_OK(ht_gptq_matrix(&c.problem, &c.result))) {
                double theirs = ht_matrix_loss(&c.problem, &c.input, want->data);
                size_t different = count_different(c.result.decoded, want->data, want->elements, 2e-7f);
                CHECK_NEAR(c.result.rtn_loss, ht_matrix_loss(&c.problem, &c.input, rtn->data), 1e-4);
                CHECK_NEAR(c.result.loss, theirs, 1e-5);
                CHECK_INT(different, 0); /* of 2048 values */
            }
            matrix_case_destroy(&c);
        }
    golden_close(&g);
}

/* --- An independent slow version: the textbook's, with the inverse, f64 ---------------------------------------------
 */

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

/* Column by column: the optimal update of all that is left is w -= e inv[k] / inv[k][k], then the column is removed. */
static void textbook(const matrix_case *c, double damp, float *decoded) {
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
        textbook(&c, c.settings.value[HT_SETTING_DAMP], decoded);
        CHECK_OK(ht_gptq_matrix(&c.problem, &c.result));
        CHECK(count_different(c.result.decoded, decoded, ROWS * COLS, 1e-6f) <= ROWS * COLS / 100);
        CHECK_NEAR(c.result.loss, ht_matrix_loss(&c.problem, &c.input, decoded), 0.01);
        matrix_case_destroy(&c);
    }
}

/* --- What holds for every format
 * ----------------------------------------------------------------------------------------- */

static const char *const ALL[] = {
    "int1_g32",   "int2_g32_asym", "int3_g64",      "int4_g128", "int4_g32_asym", "int4_g128_words",
    "int5_g32",   "int6_row",      "int7_g64_asym", "int8_row",  "int4_tensor",   "fp8_tensor",
    "fp8_row",    "fp8_block",     "fp8_g128",      "mxfp8",     "mxfp8_e5m2",    "mxfp6_e2m3",
    "mxfp6_e3m2", "mxfp4",         "nvfp4",         "nvfp4_pts", "nf4",           "nf4_flat",
    "fp4",        "q4_0",          "q4_k",          "q5_k",      "q6_k",          "iq4_nl",
    "iq4_xs"};
enum { FORMATS_ALL = sizeof ALL / sizeof *ALL };

static void run_case(matrix_case *c, int order, int scales) {
    c->settings.value[HT_SETTING_ORDER] = order;
    c->settings.value[HT_SETTING_SCALES] = scales;
    CHECK_OK(ht_gptq_matrix(&c->problem, &c->result));
}

static void test_better_than_rounding(void) {
    for (size_t f = 0; f < FORMATS_ALL; f++)
        for (int order = HT_ORDER_NONE; order <= HT_ORDER_DESC_ACT; order++)
            for (int scales = HT_SCALES_ORIGINAL; scales <= HT_SCALES_SEARCHED; scales++) {
                matrix_case c;
                matrix_case_create(&c, ALL[f], "gptq", 12, 256, 60, 1, 30 + f);
                run_case(&c, order, scales);
                if (!CHECK(c.result.loss <= c.result.rtn_loss) || c.result.fallback)
                    CHECK_TEXT(ALL[f], c.result.fallback ? c.result.fallback : "worse than rounding");
                CHECK(c.result.loss < 0.9 * c.result.rtn_loss);
                float again[12 * 256];
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
    for (size_t f = 0; f < FORMATS_ALL; f++) {
        matrix_case one, three, scaled;
        matrix_case_create(&one, ALL[f], "gptq", 37, 256, 40, 1, 40);
        matrix_case_create(&three, ALL[f], "gptq", 37, 256, 40, 3, 40);
        matrix_case_create(&scaled, ALL[f], "gptq", 37, 256, 40, 1, 40);
        for (size_t i = 0; i < 256 * 256; i++)
            scaled.input.second[i] *= 0x1p-9f;
        run_case(&one, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        run_case(&three, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        run_case(&scaled, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
        same_codes(&one, &three, ALL[f]);
        same_codes(&one, &scaled, ALL[f]);
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
    run_case(&whole, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    half.problem.rows = ROWS / 2;
    run_case(&half, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK_BYTES(half.result.decoded, whole.result.decoded, ROWS / 2 * COLS * sizeof(float));
    matrix_case_create(&narrow, "mxfp4", "gptq", ROWS, COLS, 300, 2, 50);
    narrow.settings.value[HT_SETTING_BLOCK] = 33; /* becomes 64 (D2) */
    run_case(&narrow, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK(count_different(narrow.result.decoded, whole.result.decoded, ROWS * COLS, 0) <= ROWS * COLS / 100);
    CHECK_NEAR(narrow.result.loss, whole.result.loss, 0.02);
    matrix_case_destroy(&whole), matrix_case_destroy(&half), matrix_case_destroy(&narrow);
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
        run_case(&c, HT_ORDER_NONE, HT_SCALES_ORIGINAL);
        memcpy(i ? third : whole, c.result.decoded, sizeof whole);
        matrix_case_destroy(&c);
    }
    CHECK_F32(third, whole, 16);
}

/* --- Defects that others have
 * ----------------------------------------------------------------------------------------- */

/* D1: the scale of a row sees all of it. */
static void test_scale_of_the_whole_row(void) {
    enum { COLS = 512 };
    matrix_case c;
    matrix_case_create(&c, "int8_row", "gptq", 2, COLS, 600, 1, 70);
    for (size_t i = 0; i < 2 * COLS; i++)
        c.weight[i] = i % COLS < 256 ? 1 : i % COLS == 256 ? 10 : 0.5f;
    run_case(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK_NEAR(((float *)c.result.planes.plane[HT_PLANE_SCALES])[0], 10 / 127.5, 1e-6);
    matrix_case_destroy(&c);
}

/* D4: nothing of the problem is changed. D9: dead columns are rounded, not zeroed. */
static void test_dead_columns(void) {
    enum { ROWS = 8, COLS = 256 };
    matrix_case c, rounded;
    matrix_case_create(&c, "mxfp4", "gptq", ROWS, COLS, 300, 1, 80);
    matrix_case_create(&rounded, "mxfp4", "rtn", ROWS, COLS, 0, 1, 80);
    for (size_t i = 0; i < COLS; i++)
        for (size_t k = 64; k < 96; k++)
            c.input.second[i < k ? i * COLS + k : k * COLS + i] = 0;
    float *weight = malloc(ROWS * COLS * sizeof *weight), *second = malloc(COLS * COLS * sizeof *second);
    memcpy(weight, c.weight, ROWS * COLS * sizeof *weight);
    memcpy(second, c.input.second, COLS * COLS * sizeof *second);
    run_case(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
    CHECK_OK(ht_matrix_round(&rounded.problem, NULL, &rounded.result));
    CHECK_INT(c.result.dead_columns, 32);
    for (size_t r = 0; r < ROWS; r++)
        CHECK_BYTES(c.result.decoded + r * COLS + 64, rounded.result.decoded + r * COLS + 64, 32 * sizeof(float));
    CHECK_BYTES(c.weight, weight, ROWS * COLS * sizeof *weight);
    CHECK_BYTES(c.input.second, second, COLS * COLS * sizeof *second);
    free(weight), free(second);
    matrix_case_destroy(&c), matrix_case_destroy(&rounded);
}

/* D7, and Hessians that are no good: each is an answer with a reason, never a failure. */
static void test_recovery(void) {
    matrix_case c;
    matrix_case_create(&c, "nvfp4", "gptq", 8, 256, 3, 1, 90); /* rank 3 */
    run_case(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
    CHECK(c.result.loss <= c.result.rtn_loss && !c.result.fallback);
    for (size_t i = 0; i < 256; i++) /* not positive definite at the first damping */
        c.input.second[i * 256 + i] *= 0.99f;
    run_case(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
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
    run_case(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK(c.result.fallback != NULL);
    c.input.tokens = 0;
    run_case(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
    CHECK_CONTAINS(c.result.fallback, "no calibration token");
    c.problem.input = NULL;
    run_case(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
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

/* --- Aims and guards
 * ----------------------------------------------------------------------------------------------------- */

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
        run_case(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
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
        run_case(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
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
        load_problem(&c, &g);
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

/* --- Rows that are not alone ------------------------------------------------------------------------------------ */

/* tr(G e H e^T) / tokens, G of one band. */
static double joint_loss(const matrix_case *c, const ht_moments *g) {
    size_t rows = c->problem.rows, cols = c->problem.cols;
    double loss = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t s = 0; s < rows; s++) {
            double sum = 0;
            for (size_t i = 0; i < cols; i++)
                for (size_t j = 0; j < cols; j++)
                    sum += ((double)c->weight[r * cols + i] - (double)c->result.decoded[r * cols + i]) *
                           (double)c->input.second[i < j ? i * cols + j : j * cols + i] *
                           ((double)c->weight[s * cols + j] - (double)c->result.decoded[s * cols + j]);
            loss += sum * (double)g->second[r < s ? r * rows + s : s * rows + r];
        }
    return loss / (double)c->input.tokens;
}

/* What the outputs do together: less of it with their curvature than without, for every format; a diagonal curvature
 * changes nothing. */
static void test_coupled_rows(void) {
    enum { ROWS = 12, COLS = 256 };
    for (size_t f = 0; f < FORMATS_ALL; f++) {
        double loss[2], plain[2];
        for (int coupled = 0; coupled < 2; coupled++) {
            matrix_case c;
            matrix_case_create(&c, ALL[f], "gptq", ROWS, COLS, 600, 2, 130);
            ht_moments g = {.second = NULL}, *band = &g;
            float *text = matrix_case_text(5000, ROWS, 131);
            matrix_case_inputs(&g, text, NULL, 5000, ROWS);
            const ht_output_curvature outputs = {.rows = ROWS, .bands = 1, .band = &band};
            c.problem.outputs = &outputs;
            c.settings.value[HT_SETTING_FISHER] = coupled;
            c.settings.value[HT_SETTING_SWEEPS] = 20;
            run_case(&c, HT_ORDER_NONE, HT_SCALES_ORIGINAL);
            loss[coupled] = joint_loss(&c, &g);
            plain[coupled] = c.result.loss;
            free(text), free(g.second);
            matrix_case_destroy(&c);
        }
        CHECK(loss[1] < loss[0] && plain[1] > plain[0]);
        if (strcmp(ALL[f], "mxfp4") == 0)
            CHECK(loss[1] < 0.9 * loss[0]);
    }
}

static void test_coupled_diagonal(void) {
    enum { ROWS = 20, COLS = 128 };
    float *decoded[2] = {malloc(ROWS * COLS * sizeof(float)), malloc(ROWS * COLS * sizeof(float))};
    for (int coupled = 0; coupled < 2; coupled++) {
        matrix_case c;
        matrix_case_create(&c, "mxfp4", "gptq", ROWS, COLS, 400, 2, 140);
        ht_moments g = {.cols = ROWS, .tokens = 1000, .second = calloc(ROWS * ROWS, sizeof(float))}, *band = &g;
        for (size_t r = 0; r < ROWS; r++)
            g.second[r * ROWS + r] = (float)(r + 1);
        const ht_output_curvature outputs = {.rows = ROWS, .bands = 1, .band = &band};
        c.problem.outputs = &outputs;
        c.settings.value[HT_SETTING_FISHER] = coupled;
        c.settings.value[HT_SETTING_SWEEPS] = 3;
        run_case(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
        memcpy(decoded[coupled], c.result.decoded, ROWS * COLS * sizeof(float));
        free(g.second);
        matrix_case_destroy(&c);
    }
    CHECK(count_different(decoded[0], decoded[1], ROWS * COLS, 0) <= ROWS * COLS / 500); /* other f32 sums */
    free(decoded[0]), free(decoded[1]);
}

/* Sweeps lower the loss that the walk left, for every format, and stop by themselves. */
static void test_sweeps(void) {
    for (size_t f = 0; f < FORMATS_ALL; f++) {
        double loss[3];
        for (int i = 0; i < 3; i++) {
            matrix_case c;
            matrix_case_create(&c, ALL[f], "gptq", 6, 256, 100, 1, 120);
            c.settings.value[HT_SETTING_SWEEPS] = i == 0 ? 0 : i == 1 ? 2 : 50;
            run_case(&c, HT_ORDER_NONE, HT_SCALES_ORIGINAL);
            loss[i] = c.result.loss;
            matrix_case_destroy(&c);
        }
        CHECK(loss[1] <= loss[0] * 1.001 && loss[2] <= loss[1] * 1.001); /* the damped loss falls strictly */
        if (strcmp(ALL[f], "mxfp4") == 0)
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
                run_case(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
                size_t took = ht_context_memory_peak(c.ctx) - before;
                CHECK(took <= said + 4096 && took >= said - said / 16);
                matrix_case_destroy(&c);
            }
}

int main(void) {
    RUN(test_worked_vectors);
    RUN(test_stored_cases);
    RUN(test_textbook);
    RUN(test_better_than_rounding);
    RUN(test_invariances);
    RUN(test_rows_and_blocks);
    RUN(test_streamed_hessian);
    RUN(test_scale_of_the_whole_row);
    RUN(test_dead_columns);
    RUN(test_recovery);
    RUN(test_refusals);
    RUN(test_large_factor);
    RUN(test_inputs_of_the_float_model);
    RUN(test_overfitting);
    RUN(test_guards);
    RUN(test_coupled_rows);
    RUN(test_coupled_diagonal);
    RUN(test_sweeps);
    RUN(test_memory);
    return check_finish();
}
