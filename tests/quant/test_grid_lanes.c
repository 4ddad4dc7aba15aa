/* Choosing the cells of a strip of rows gives what the row at a time gives, bit for bit: every grid, every rule,
 * weighted or not, whole strips and parts of one, ties, zeros, huge and tiny rows, and rows that are not finite. */
#include "quant/grid/grid.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "format/bits.h"
#include "support/check.h"

enum { UNITS = 6, COLS = 512 };

typedef struct trial {
    const char *format;
    ht_scale_rule rule;
    ht_code_rule code_rule;
    ht_int_rule int_rule;
} trial;

static const trial TRIALS[] = {
    {"mxfp8", HT_SCALE_DEFAULT, 0, 0},
    {"mxfp8_e5m2", HT_SCALE_EVEN, 0, 0},
    {"mxfp6_e2m3", HT_SCALE_RCEIL, 0, 0},
    {"mxfp6_e3m2", HT_SCALE_CEIL, 0, 0},
    {"mxfp4", HT_SCALE_DEFAULT, 0, 0},
    {"mxfp4", HT_SCALE_MSE, 0, 0},
    {"mxint8", HT_SCALE_DEFAULT, 0, 0},
    {"nvfp4", HT_SCALE_DEFAULT, 0, 0},
    {"nvfp4", HT_SCALE_MSE, 0, 0},
    {"nvfp4_pts", HT_SCALE_DEFAULT, 0, 0},
    {"nvfp4_single", HT_SCALE_MSE, 0, 0},
    {"fp8_row", HT_SCALE_DEFAULT, 0, 0},
    {"fp8_g128", HT_SCALE_MSE, 0, 0},
    {"fp8_row_scale_bf16", HT_SCALE_DEFAULT, 0, 0},
    {"int1_g32", HT_SCALE_DEFAULT, 0, 0},
    {"int2_g32_asym", HT_SCALE_MSE, 0, 0},
    {"int3_g64", HT_SCALE_DEFAULT, 0, HT_INT_NO_CLIP},
    {"int4_g128", HT_SCALE_DEFAULT, 0, 0},
    {"int4_g128", HT_SCALE_MSE, HT_CODE_DIVIDE, HT_INT_FULL},
    {"int4_g32_asym", HT_SCALE_DEFAULT, HT_CODE_DIVIDE, 0},
    {"int4_g32_float0", HT_SCALE_DEFAULT, 0, 0},
    {"int4_g32_float0", HT_SCALE_DEFAULT, 0, HT_INT_FULL},
    {"uint4_g64_asym", HT_SCALE_DEFAULT, 0, 0},
    {"int6_g16_asym", HT_SCALE_DEFAULT, 0, 0},
    {"int7_g32_scale_f16", HT_SCALE_DEFAULT, 0, 0},
    {"int8_row", HT_SCALE_DEFAULT, 0, 0},
    {"int8_row_asym", HT_SCALE_DEFAULT, 0, 0},
    {"nf4", HT_SCALE_DEFAULT, 0, 0},
    {"fp4", HT_SCALE_DEFAULT, 0, 0},
    {"nf4_flat", HT_SCALE_DEFAULT, 0, 0},
    {"q4_0", HT_SCALE_MSE, 0, 0},
    {"q4_k", HT_SCALE_DEFAULT, 0, 0},
    {"q5_k", HT_SCALE_DEFAULT, 0, 0},
    {"q6_k", HT_SCALE_DEFAULT, 0, 0},
    {"iq4_nl", HT_SCALE_DEFAULT, 0, 0},
    {"iq4_xs", HT_SCALE_DEFAULT, 0, 0},
};

enum { VALUES, TIES, EXTREMES, NOT_FINITE, KINDS };

/* Unit `u` of all rows. */
static void fill(size_t unit, int kind, size_t u, float *x) {
    for (size_t c = 0; c < unit; c++)
        for (size_t r = 0; r < HT_GRID_LANES; r++) {
            float v = 0.05f * ht_random_normal(3 + (uint64_t)kind, u, c * HT_GRID_LANES + r);
            if (kind == TIES)
                v = rintf(v * 64) / 128; /* a few values, zeros of both signs among them */
            if (kind == EXTREMES)
                v *= r % 8 == 0 ? 0 : r % 8 == 1 ? 0x1p100f : r % 8 == 2 ? 0x1p-130f : c % 5 == 0 ? 40 : 1;
            if (kind == NOT_FINITE && r == 7 && c == unit / 2)
                v = u % 2 ? INFINITY : NAN;
            x[c * HT_GRID_LANES + r] = v;
        }
}

/* Cells as a rounding to nearest would leave them, for scales that stay. */
static void freeze(const ht_grid *grid, const float *x, ht_grid_cell *cells) {
    ht_planes planes = {{NULL}};
    float row[COLS];
    ht_grid alone = *grid;
    alone.rows = 1;
    alone.cols = grid->unit;
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        planes.plane[p] = calloc(ht_format_plane_bytes(&grid->format, (ht_plane)p, 1, grid->unit) + 1, 1);
    if (grid->format.global != HT_DTYPE_NONE)
        *(float *)planes.plane[HT_PLANE_GLOBAL] = grid->global;
    for (size_t r = 0; r < HT_GRID_LANES; r++) {
        for (size_t c = 0; c < grid->unit; c++)
            row[c] = isfinite(x[c * HT_GRID_LANES + r]) ? x[c * HT_GRID_LANES + r] : 1;
        CHECK_OK(ht_format_quantize(&grid->format, &grid->how, row, HT_F32, 1, grid->unit, &planes));
        ht_grid_load(&alone, &planes, 0, 0, cells + r * grid->family->cells);
    }
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(planes.plane[p]);
}

/* All but the padding. */
static void check_cell(const ht_grid_cell *got, const ht_grid_cell *want) {
    CHECK_BYTES(got, want, offsetof(ht_grid_cell, zero) + sizeof want->zero);
    CHECK_BYTES(got->code, want->code, sizeof want->code);
    CHECK_BYTES(got->half, want->half, sizeof want->half);
}

static void check_strip(const ht_grid *grid, const float *x, const float *weight, int searched, size_t rows) {
    static const ht_grid_cell NONE;
    size_t count = grid->family->cells;
    ht_grid_cell frozen[HT_GRID_LANES * HT_GRID_CELLS], got[HT_GRID_LANES * HT_GRID_CELLS], alone[HT_GRID_CELLS];
    float row[COLS];
    freeze(grid, x, frozen);
    for (size_t i = 0; i < HT_GRID_LANES * count; i++)
        got[i] = NONE;
    const ht_grid_strip strip = {.grid = grid, .x = x, .weight = weight, .rows = rows, .cells = got, .step = count};
    ht_grid_choose_lanes(&strip, searched, frozen);
    for (size_t r = 0; r < rows; r++) {
        for (size_t c = 0; c < grid->unit; c++)
            row[c] = x[c * HT_GRID_LANES + r];
        ht_grid_choose(grid, row, weight, searched, frozen + r * count, alone);
        for (size_t c = 0; c < count; c++)
            check_cell(&got[r * count + c], &alone[c]);
    }
    for (size_t i = rows * count; i < HT_GRID_LANES * count; i++)
        check_cell(&got[i], &NONE);
}

static void check_grid(const trial *t) {
    static const size_t ROWS[] = {HT_GRID_LANES, 1, 19};
    ht_row_options how = ht_row_options_default();
    ht_format format;
    ht_grid grid;
    float weight[COLS], *x = malloc(COLS * HT_GRID_LANES * sizeof *x);
    how.scale_rule = t->rule;
    how.code_rule = t->code_rule;
    how.int_rule = t->int_rule;
    CHECK_OK(ht_format_parse(t->format, &format));
    if (CHECK_OK(ht_grid_create(&format, &how, HT_GRID_LANES, COLS, 0.0007f, &grid)) && !grid.shared)
        for (size_t u = 0; u < UNITS; u++)
            for (int kind = 0; kind < KINDS; kind++) {
                fill(grid.unit, kind, u, x);
                for (size_t i = 0; i < grid.unit; i++)
                    weight[i] = u % 3 == 2 && i % 3 ? 0 : expf(ht_random_normal(5, 2, u * grid.unit + i));
                check_strip(&grid, x, NULL, 0, ROWS[u % 3]);
                check_strip(&grid, x, weight, 1, ROWS[u % 3]);
                check_strip(&grid, x, NULL, 1, ROWS[(u + 1) % 3]);
            }
    free(x);
}

static void test_choosing(void) {
    for (size_t t = 0; t < sizeof TRIALS / sizeof *TRIALS; t++) {
        int before = check_failures_of_test;
        check_grid(&TRIALS[t]);
        if (check_failures_of_test != before)
            CHECK_TEXT(TRIALS[t].format, "the format of the failures above");
    }
}

/* An error over lanes is that of each row, or no less than what it was to beat. */
static void test_errors(void) {
    ht_format format;
    ht_grid grid;
    ht_grid_cell cells[HT_GRID_LANES];
    ht_grid_lanes lanes;
    float x[128 * HT_GRID_LANES], weight[128], most[HT_GRID_LANES], got[HT_GRID_LANES], row[128];
    CHECK_OK(ht_format_parse("int4_g128", &format));
    CHECK_OK(ht_grid_create(&format, NULL, HT_GRID_LANES, 128, 1, &grid));
    fill(128, VALUES, 1, x);
    for (size_t i = 0; i < 128; i++)
        weight[i] = (float)(i % 3);
    const ht_grid_strip strip = {
        .grid = &grid, .x = x, .weight = weight, .rows = HT_GRID_LANES, .cells = cells, .step = 1};
    ht_grid_choose_lanes(&strip, 0, cells);
    ht_grid_gather(cells, 1, HT_GRID_LANES, &lanes);
    for (int limit = 0; limit < 3; limit++) {
        for (size_t r = 0; r < HT_GRID_LANES; r++)
            most[r] = limit == 0 ? INFINITY : limit == 1 ? 1e-9f : r == 3 ? 1 : 1e-9f;
        ht_grid_error_lanes(&grid, &lanes, x, weight, 128, most, got);
        for (size_t r = 0; r < HT_GRID_LANES; r++) {
            ht_grid_strip_row(&strip, r, row);
            float error = ht_grid_error(&grid, &cells[r], row, weight, 128);
            CHECK(limit == 1 ? got[r] >= most[r] && got[r] <= error : got[r] == error);
        }
    }
}

int main(void) {
    RUN(test_choosing);
    RUN(test_errors);
    return check_finish();
}
