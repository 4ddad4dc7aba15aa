/* GPTQ with what the outputs do together: rows that are not alone.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <stdlib.h>
#include <string.h>

#include "quant/matrix_case.h"
#include "support/check.h"

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
    for (size_t f = 0; f < MATRIX_CASE_GRIDS; f++) {
        double loss[2], plain[2];
        for (int coupled = 0; coupled < 2; coupled++) {
            matrix_case c;
            matrix_case_create(&c, matrix_case_grids[f], "gptq", ROWS, COLS, 600, 2, 130);
            ht_moments g = {.second = NULL}, *band = &g;
            float *text = matrix_case_text(5000, ROWS, 131);
            matrix_case_inputs(&g, text, NULL, 5000, ROWS);
            const ht_output_curvature outputs = {.rows = ROWS, .bands = 1, .band = &band};
            c.problem.outputs = &outputs;
            c.settings.value[HT_SETTING_FISHER] = coupled;
            c.settings.value[HT_SETTING_SWEEPS] = 20;
            matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_ORIGINAL);
            loss[coupled] = joint_loss(&c, &g);
            plain[coupled] = c.result.loss;
            free(text), free(g.second);
            matrix_case_destroy(&c);
        }
        CHECK(loss[1] < loss[0] && plain[1] > plain[0]);
        if (strcmp(matrix_case_grids[f], "mxfp4") == 0)
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
        matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
        memcpy(decoded[coupled], c.result.decoded, ROWS * COLS * sizeof(float));
        free(g.second);
        matrix_case_destroy(&c);
    }
    CHECK(matrix_case_different(decoded[0], decoded[1], ROWS * COLS, 0) <= ROWS * COLS / 500); /* other f32 sums */
    free(decoded[0]), free(decoded[1]);
}

int main(void) {
    RUN(test_coupled_rows);
    RUN(test_coupled_diagonal);
    return check_finish();
}
