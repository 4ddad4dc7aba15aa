/* The loss against the sum over tokens that it stands for, and rounding to nearest against the format's own. */
#include "quant/method/matrix.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/matrix_case.h"
#include "support/check.h"

static void test_loss_is_the_output_error(void) {
    enum { ROWS = 5, COLS = 96, TOKENS = 70 };
    matrix_case c;
    matrix_case_create(&c, "mxfp4", "rtn", ROWS, COLS, TOKENS, 2, 1);
    float *x = matrix_case_text(TOKENS, COLS, 1);
    CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
    double want = 0;
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            double error = 0;
            for (size_t k = 0; k < COLS; k++)
                error +=
                    (double)x[t * COLS + k] * ((double)c.weight[r * COLS + k] - (double)c.result.decoded[r * COLS + k]);
            want += error * error / TOKENS;
        }
    CHECK_NEAR(c.result.loss, want, 1e-5);
    CHECK(c.result.loss == c.result.rtn_loss && isnan(c.result.held_out_loss) && !c.result.fallback);
    CHECK(ht_matrix_loss(&c.problem, &c.input, c.weight) == 0);
    CHECK(isnan(ht_matrix_loss(&c.problem, NULL, c.result.decoded)));
    free(x);
    matrix_case_destroy(&c);
}

/* More rows and columns than a chunk holds; the same number for any threads. */
static void test_loss_of_a_large_matrix(void) {
    enum { ROWS = 600, COLS = 640, TOKENS = 20 };
    double loss[2];
    for (size_t i = 0; i < 2; i++) {
        matrix_case c;
        matrix_case_create(&c, "int4_g32", "rtn", ROWS, COLS, TOKENS, 1 + 2 * i, 2);
        CHECK_OK(ht_matrix_round(&c.problem, "why not", &c.result));
        CHECK_TEXT(c.result.fallback, "why not");
        loss[i] = c.result.loss;
        double want = 0;
        for (size_t r = 0; i == 0 && r < ROWS; r++)
            for (size_t a = 0; a < COLS; a++)
                for (size_t b = a; b < COLS; b++) {
                    double ea = (double)(c.weight[r * COLS + a] - c.result.decoded[r * COLS + a]);
                    double eb = (double)(c.weight[r * COLS + b] - c.result.decoded[r * COLS + b]);
                    want += (a == b ? 1 : 2) * ea * eb * (double)c.input.second[a * COLS + b] / TOKENS;
                }
        if (i == 0)
            CHECK_NEAR(loss[0], want, 1e-5);
        matrix_case_destroy(&c);
    }
    CHECK(loss[0] == loss[1]);
}

static void test_rounding_is_the_formats_own(void) {
    static const char *const FORMATS[] = {"mxfp4", "nvfp4", "int4_g32_asym", "fp8_block", "fp8_tensor", "nf4", "q4_k"};
    enum { ROWS = 150, COLS = 256 };
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++) {
        matrix_case c;
        matrix_case_create(&c, FORMATS[f], "rtn", ROWS, COLS, 0, 3, 3);
        CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
        float *decoded = malloc(ROWS * COLS * sizeof *decoded);
        memcpy(decoded, c.result.decoded, ROWS * COLS * sizeof *decoded);
        for (int p = 0; p < HT_PLANE_GLOBAL; p++)
            if (c.result.planes.plane[p])
                memset(c.result.planes.plane[p], 0, ht_format_plane_bytes(&c.format, (ht_plane)p, ROWS, COLS));
        CHECK_OK(ht_format_quantize(&c.format, &c.how, c.weight, HT_F32, ROWS, COLS, &c.result.planes));
        CHECK_OK(ht_format_dequantize(&c.format, &c.result.planes, ROWS, COLS, c.result.decoded));
        CHECK_BYTES(decoded, c.result.decoded, ROWS * COLS * sizeof *decoded);
        free(decoded);
        matrix_case_destroy(&c);
    }
}

int main(void) {
    RUN(test_loss_is_the_output_error);
    RUN(test_loss_of_a_large_matrix);
    RUN(test_rounding_is_the_formats_own);
    return check_finish();
}
