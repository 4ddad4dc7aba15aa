/* Defects that others' GPTQ has (algorithms specification, section 1.2, D1 to D9), one test each. D3, weights that lose
 * bits while they are compensated, is in test_gptq_reference.c, where the independent version is.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/gptq/gptq.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "quant/matrix_case.h"
#include "support/check.h"

static float scale_of(const matrix_case *c, size_t index) {
    return ((const float *)c->result.planes.plane[HT_PLANE_SCALES])[index];
}

/* D1: a scale sees all columns of its row, or group, however short the blocks of columns are. */
static void test_d1_scale_of_the_whole_group(void) {
    enum { COLS = 512 };
    static const int BLOCKS[] = {32, 128, 256};
    for (size_t b = 0; b < 3; b++)
        for (int scales = HT_SCALES_ORIGINAL; scales <= HT_SCALES_AT_GROUP; scales++) {
            matrix_case row, group;
            matrix_case_create(&row, "int8_row", "gptq", 2, COLS, 60, 1, 70);
            matrix_case_create(&group, "int4_g256", "gptq", 2, COLS, 60, 1, 70);
            for (size_t i = 0; i < 2 * COLS; i++) {
                row.weight[i] = i % COLS < 256 ? 1 : i % COLS == 256 ? 10 : 0.5f;
                group.weight[i] = i % COLS == 255 ? -10 : 0.5f;
            }
            row.settings.value[HT_SETTING_BLOCK] = group.settings.value[HT_SETTING_BLOCK] = BLOCKS[b];
            matrix_case_gptq(&row, HT_ORDER_NONE, scales);
            matrix_case_gptq(&group, HT_ORDER_NONE, scales);
            CHECK_NEAR(scale_of(&row, 0), 10 / 127.5, 1e-6);
            CHECK_NEAR(scale_of(&group, 0), 10 / 7.5, 1e-6);
            matrix_case_destroy(&row), matrix_case_destroy(&group);
        }
}

/* D2: blocks that are no multiple of the group are made one: all groups get their scale, and codes are those of other
 * blocks but for the order of f32 sums. */
static void test_d2_blocks_and_groups(void) {
    enum { ROWS = 8, COLS = 512 };
    static const int BLOCKS[] = {1, 33, 48, 200, 4096};
    static const char *const FORMATS[] = {"mxfp4", "int4_g128", "nvfp4"};
    for (size_t f = 0; f < 3; f++) {
        matrix_case usual;
        matrix_case_create(&usual, FORMATS[f], "gptq", ROWS, COLS, 80, 1, 50);
        usual.settings.value[HT_SETTING_SWEEPS] = 0;
        matrix_case_gptq(&usual, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
        for (size_t b = 0; b < 5; b++) {
            matrix_case odd;
            matrix_case_create(&odd, FORMATS[f], "gptq", ROWS, COLS, 80, 1, 50);
            odd.settings.value[HT_SETTING_SWEEPS] = 0;
            odd.settings.value[HT_SETTING_BLOCK] = BLOCKS[b];
            matrix_case_gptq(&odd, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
            CHECK(matrix_case_different(odd.result.decoded, usual.result.decoded, ROWS * COLS, 0) <= ROWS * COLS / 100);
            CHECK_NEAR(odd.result.loss, usual.result.loss, 0.02);
            matrix_case_destroy(&odd);
        }
        matrix_case_destroy(&usual);
    }
}

/* D4: nothing of the problem is changed, so that the same one can be tried again, in whatever way the first try ended:
 * with the same result. */
static void test_d4_inputs_are_kept(void) {
    enum { ROWS = 8, COLS = 256 };
    matrix_case c;
    matrix_case_create(&c, "mxfp4", "gptq", ROWS, COLS, 300, 1, 80);
    float *weight = malloc(ROWS * COLS * sizeof *weight), *second = malloc(COLS * COLS * sizeof *second),
          *first = malloc(ROWS * COLS * sizeof *first);
    memcpy(weight, c.weight, ROWS * COLS * sizeof *weight);
    memcpy(second, c.input.second, COLS * COLS * sizeof *second);
    matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
    memcpy(first, c.result.decoded, ROWS * COLS * sizeof *first);
    c.weight[3] = NAN;
    CHECK_FAILS(ht_gptq_matrix(&c.problem, &c.result), HT_ERR_NUMERIC);
    c.weight[3] = weight[3];
    CHECK_BYTES(c.weight, weight, ROWS * COLS * sizeof *weight);
    CHECK_BYTES(c.input.second, second, COLS * COLS * sizeof *second);
    matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
    CHECK_BYTES(c.result.decoded, first, ROWS * COLS * sizeof *first);
    free(weight), free(second), free(first);
    matrix_case_destroy(&c);
}

/* D5: one rule of scales for the rounding to nearest and for the walk. Inputs without any relation leave nothing to
 * make up for: the planes are those of the rounding, under every rule; and the rules differ. */
static void test_d5_one_scale_rule(void) {
    enum { ROWS = 16, COLS = 128 };
    static const ht_scale_rule RULES[] = {HT_SCALE_FLOOR, HT_SCALE_RCEIL, HT_SCALE_CEIL, HT_SCALE_EVEN, HT_SCALE_MSE};
    static const char *const FORMATS[] = {"mxfp4", "mxfp8", "mxfp6_e2m3"};
    for (size_t f = 0; f < 3; f++) {
        uint8_t seen[5][ROWS * COLS / 32];
        for (size_t i = 0; i < 5; i++) {
            matrix_case c, rounded;
            matrix_case_create(&c, FORMATS[f], "gptq", ROWS, COLS, 100, 1, 81);
            matrix_case_create(&rounded, FORMATS[f], "rtn", ROWS, COLS, 0, 1, 81);
            c.how.scale_rule = rounded.how.scale_rule = RULES[i];
            for (size_t j = 0; j < COLS * COLS; j++)
                c.input.second[j] = j % (COLS + 1) ? 0 : c.input.second[j];
            matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
            CHECK_OK(ht_matrix_round(&rounded.problem, NULL, &rounded.result));
            for (int p = 0; p < HT_PLANE_COUNT; p++)
                CHECK_BYTES(c.result.planes.plane[p], rounded.result.planes.plane[p],
                            ht_format_plane_bytes(&c.format, (ht_plane)p, ROWS, COLS));
            memcpy(seen[i], c.result.planes.plane[HT_PLANE_SCALES], sizeof seen[i]);
            matrix_case_destroy(&c), matrix_case_destroy(&rounded);
        }
        CHECK(memcmp(seen[0], seen[1], sizeof seen[0]) != 0);
        CHECK(memcmp(seen[0], seen[2], sizeof seen[0]) != 0);
        CHECK(memcmp(seen[0], seen[4], sizeof seen[0]) != 0);
    }
}

/* D6: NVFP4's number for the matrix is that of the original weights. One block holds the largest of them, 6; another,
 * up to 5, is moved to 9 by what an input ten times as large leaves to be made up for: its scale ends at 448, which is
 * counted, and what is cut off is no worse than rounding. */
static void test_d6_saturated_blocks_are_counted(void) {
    enum { COLS = 48 };
    for (int related = 0; related < 2; related++) {
        matrix_case c;
        matrix_case_create(&c, "nvfp4_pts", "gptq", 1, COLS, 0, 1, 82);
        float x[COLS * COLS] = {0}; /* a token for each input alone */
        for (size_t j = 0; j < COLS; j++) {
            c.weight[j] = j == 0 ? 6 : j < 16 ? 1 : j == 16 ? 6 : j == 31 ? 2.4f : j == 32 ? 5 : 1;
            x[j * COLS + j] = 1;
        }
        x[31 * COLS + 31] = 10;
        x[31 * COLS + 32] = related ? 1 : 0;
        matrix_case_inputs(&c.input, x, NULL, COLS, COLS);
        if (related)
            c.input.second[32 * COLS + 32] = 1.01f; /* 32 says hardly anything of its own */
        c.problem.input = &c.input;
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, c.weight, HT_F32, COLS));
        *(float *)c.result.planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c.format, &c.how, &range);
        c.settings.value[HT_SETTING_DAMP] = 1e-4;
        c.settings.value[HT_SETTING_SWEEPS] = 0;
        matrix_case_gptq(&c, HT_ORDER_NONE, HT_SCALES_AT_GROUP);
        const uint8_t *scale = c.result.planes.plane[HT_PLANE_SCALES];
        CHECK_INT(c.result.saturated, related ? 3 : 2); /* those of 0 and 16 are at the end from the start */
        CHECK_INT(scale[2], related ? 0x7e : scale[2]);
        CHECK(related || scale[2] < 0x7e);
        CHECK(c.result.loss <= c.result.rtn_loss);
        for (size_t j = 0; j < COLS; j++)
            CHECK(fabsf(c.result.decoded[j]) <= 6.001f);
        matrix_case_destroy(&c);
    }
}

/* D7: a matrix that no token reached is rounded to nearest, and says so. */
static void test_d7_no_tokens(void) {
    enum { ROWS = 8, COLS = 256 };
    static const char *const FORMATS[] = {"mxfp4", "nvfp4", "int4_g128", "q4_k"};
    for (size_t f = 0; f < 4; f++)
        for (int known = 0; known < 2; known++) {
            matrix_case c, rounded;
            matrix_case_create(&c, FORMATS[f], "gptq", ROWS, COLS, 4, 1, 83);
            matrix_case_create(&rounded, FORMATS[f], "rtn", ROWS, COLS, 0, 1, 83);
            c.input.tokens = 0;
            c.problem.input = known ? &c.input : NULL;
            matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_SEARCHED);
            CHECK_OK(ht_matrix_round(&rounded.problem, NULL, &rounded.result));
            CHECK_CONTAINS(c.result.fallback, "no calibration token");
            CHECK_BYTES(c.result.decoded, rounded.result.decoded, ROWS * COLS * sizeof(float));
            CHECK(isnan(c.result.loss) && isnan(c.result.rtn_loss));
            matrix_case_destroy(&c), matrix_case_destroy(&rounded);
        }
}

/* D8: losses of calibration and other text, damping and dead columns are told, and the losses are what they say. */
static void test_d8_everything_is_told(void) {
    enum { ROWS = 8, COLS = 256, TOKENS = 300 };
    matrix_case c;
    matrix_case_create(&c, "int4_g128", "gptq", ROWS, COLS, TOKENS, 1, 84);
    float *other = matrix_case_text(TOKENS, COLS, 85);
    matrix_case_inputs(&c.held_out, other, NULL, TOKENS, COLS);
    c.problem.held_out = &c.held_out;
    for (size_t i = 0; i < COLS; i++)
        c.input.second[i < 9 ? i * COLS + 9 : 9 * COLS + i] = 0;
    c.settings.value[HT_SETTING_DAMP] = 0.02;
    matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
    CHECK(c.result.damping == 0.02);
    CHECK_INT(c.result.dead_columns, 1);
    CHECK_NEAR(c.result.loss, ht_matrix_loss(&c.problem, &c.input, c.result.decoded), 1e-12);
    CHECK_NEAR(c.result.held_out_loss, ht_matrix_loss(&c.problem, &c.held_out, c.result.decoded), 1e-12);
    double held_out = 0; /* (w - q) x over the other text, token by token */
    for (size_t t = 0; t < TOKENS; t++)
        for (size_t r = 0; r < ROWS; r++) {
            double y = 0;
            for (size_t j = 0; j < COLS; j++)
                y += ((double)c.weight[r * COLS + j] - (double)c.result.decoded[r * COLS + j]) *
                     (double)other[t * COLS + j];
            held_out += y * y / TOKENS;
        }
    CHECK_NEAR(c.result.held_out_loss, held_out, 1e-4);
    double loss = c.result.rtn_loss, held_out_loss = c.result.held_out_rtn_loss;
    CHECK_OK(ht_matrix_round(&c.problem, NULL, &c.result));
    CHECK_NEAR(loss, c.result.loss, 1e-12);
    CHECK_NEAR(held_out_loss, c.result.held_out_loss, 1e-12);
    free(other);
    matrix_case_destroy(&c);
}

/* D9: dead columns are rounded to nearest, not zeroed, and are no reason to move the others. */
static void test_d9_dead_columns(void) {
    enum { ROWS = 8, COLS = 256 };
    matrix_case c, rounded;
    matrix_case_create(&c, "mxfp4", "gptq", ROWS, COLS, 300, 1, 80);
    matrix_case_create(&rounded, "mxfp4", "rtn", ROWS, COLS, 0, 1, 80);
    for (size_t i = 0; i < COLS; i++)
        for (size_t k = 64; k < 96; k++)
            c.input.second[i < k ? i * COLS + k : k * COLS + i] = 0;
    matrix_case_gptq(&c, HT_ORDER_GAR, HT_SCALES_AT_GROUP);
    CHECK_OK(ht_matrix_round(&rounded.problem, NULL, &rounded.result));
    CHECK_INT(c.result.dead_columns, 32);
    for (size_t r = 0; r < ROWS; r++)
        CHECK_BYTES(c.result.decoded + r * COLS + 64, rounded.result.decoded + r * COLS + 64, 32 * sizeof(float));
    CHECK(c.result.loss < c.result.rtn_loss);
    matrix_case_destroy(&c), matrix_case_destroy(&rounded);
}

int main(void) {
    RUN(test_d1_scale_of_the_whole_group);
    RUN(test_d2_blocks_and_groups);
    RUN(test_d4_inputs_are_kept);
    RUN(test_d5_one_scale_rule);
    RUN(test_d6_saturated_blocks_are_counted);
    RUN(test_d7_no_tokens);
    RUN(test_d8_everything_is_told);
    RUN(test_d9_dead_columns);
    return check_finish();
}
