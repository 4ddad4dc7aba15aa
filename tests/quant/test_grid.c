/* Grids against the formats: with the scales of a rounding to nearest, codes and planes are those of the rounding, bit
 * for bit; chosen alone, a unit gets the same scales; a search never leaves a larger error than the format's rule. */
#include "quant/grid/grid.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "format/bits.h"
#include "support/check.h"

enum { ROWS = 40, COLS = 512 };

typedef struct trial {
    const char *format;
    ht_scale_rule rule;
    ht_code_rule code_rule;
} trial;

static const trial TRIALS[] = {
    {"mxfp8", HT_SCALE_DEFAULT, 0},
    {"mxfp8_e5m2", HT_SCALE_EVEN, 0},
    {"mxfp6_e2m3", HT_SCALE_RCEIL, 0},
    {"mxfp6_e3m2", HT_SCALE_CEIL, 0},
    {"mxfp4", HT_SCALE_DEFAULT, 0},
    {"mxfp4", HT_SCALE_RCEIL, 0},
    {"mxfp4", HT_SCALE_FLOOR, 0},
    {"mxfp4", HT_SCALE_EVEN, 0},
    {"mxint8", HT_SCALE_DEFAULT, 0},
    {"nvfp4", HT_SCALE_DEFAULT, 0},
    {"nvfp4", HT_SCALE_MSE, 0},
    {"nvfp4_pts", HT_SCALE_DEFAULT, 0},
    {"nvfp4_single", HT_SCALE_MSE, 0},
    {"fp8_tensor", HT_SCALE_DEFAULT, 0},
    {"fp8_row", HT_SCALE_DEFAULT, 0},
    {"fp8_block", HT_SCALE_DEFAULT, 0},
    {"fp8_g128", HT_SCALE_MSE, 0},
    {"fp8_row_scale_bf16", HT_SCALE_DEFAULT, 0},
    {"int1_g32", HT_SCALE_DEFAULT, 0},
    {"int2_g32_asym", HT_SCALE_MSE, 0},
    {"int3_g64", HT_SCALE_DEFAULT, 0},
    {"int4_g128", HT_SCALE_DEFAULT, 0},
    {"int4_g128", HT_SCALE_MSE, HT_CODE_DIVIDE},
    {"int4_g32_asym", HT_SCALE_DEFAULT, HT_CODE_DIVIDE},
    {"int4_g128_words", HT_SCALE_DEFAULT, 0},
    {"int4_g32_float0", HT_SCALE_DEFAULT, 0},
    {"int5_row", HT_SCALE_DEFAULT, 0},
    {"uint4_g64_asym", HT_SCALE_DEFAULT, 0},
    {"int6_g16_asym", HT_SCALE_DEFAULT, 0},
    {"int7_g32_scale_f16", HT_SCALE_DEFAULT, 0},
    {"int8_row", HT_SCALE_DEFAULT, 0},
    {"int8_tensor", HT_SCALE_DEFAULT, 0},
    {"int8_row_asym", HT_SCALE_DEFAULT, 0},
    {"nf4", HT_SCALE_DEFAULT, 0},
    {"fp4", HT_SCALE_DEFAULT, 0},
    {"nf4_flat", HT_SCALE_DEFAULT, 0},
    {"nf4_torchao", HT_SCALE_DEFAULT, 0},
    {"q4_0", HT_SCALE_MSE, 0},
    {"q4_k", HT_SCALE_DEFAULT, 0},
    {"q5_k", HT_SCALE_DEFAULT, 0},
    {"q6_k", HT_SCALE_DEFAULT, 0},
    {"iq4_nl", HT_SCALE_DEFAULT, 0},
    {"iq4_xs", HT_SCALE_DEFAULT, 0},
};

typedef struct matrix {
    ht_format format;
    ht_row_options how;
    ht_grid grid;
    float *x, *decoded;
    ht_planes rounded, stored; /* to nearest; by the grid */
    size_t bytes[HT_PLANE_COUNT];
} matrix;

/* Values on the 8-bit grid of bf16 weights, so that ties happen; a zero block, a huge and a tiny one. */
static void fill(float *x) {
    for (size_t i = 0; i < ROWS * COLS; i++) {
        uint32_t bits = ht_f32_bits(0.05f * ht_random_normal(3, 1, i)) & 0xffff0000u;
        x[i] = ht_f32_from_bits(bits);
    }
    memset(x + COLS, 0, 256 * sizeof *x);
    for (size_t i = 0; i < 256; i++) {
        x[2 * COLS + i] *= 0x1p9f;
        x[3 * COLS + i] *= 0x1p-12f;
    }
}

static int create(matrix *m, const trial *t) {
    memset(m, 0, sizeof *m);
    if (!CHECK_OK(ht_format_parse(t->format, &m->format)))
        return 0;
    m->how = ht_row_options_default();
    m->how.scale_rule = t->rule;
    m->how.code_rule = t->code_rule;
    m->x = malloc(ROWS * COLS * sizeof(float));
    m->decoded = malloc(ROWS * COLS * sizeof(float));
    fill(m->x);
    float global = 1;
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        m->bytes[p] = ht_format_plane_bytes(&m->format, (ht_plane)p, ROWS, COLS);
        m->rounded.plane[p] = calloc(m->bytes[p] + 1, 1);
        m->stored.plane[p] = calloc(m->bytes[p] + 1, 1);
    }
    if (m->format.global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        CHECK_OK(ht_range_add(&range, m->x, HT_F32, ROWS * COLS));
        global = ht_format_global(&m->format, &m->how, &range);
        *(float *)m->rounded.plane[HT_PLANE_GLOBAL] = *(float *)m->stored.plane[HT_PLANE_GLOBAL] = global;
    }
    if (m->bytes[HT_PLANE_SCALES2]) /* stays as rounding left it */
        CHECK_OK(ht_format_quantize(&m->format, &m->how, m->x, HT_F32, ROWS, COLS, &m->stored));
    return CHECK_OK(ht_format_quantize(&m->format, &m->how, m->x, HT_F32, ROWS, COLS, &m->rounded)) &&
           CHECK_OK(ht_grid_create(&m->format, &m->how, ROWS, COLS, global, &m->grid));
}

static void destroy(matrix *m) {
    free(m->x), free(m->decoded);
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(m->rounded.plane[p]), free(m->stored.plane[p]);
}

/* One value at a time must be the same as many. */
static void round_cells(const matrix *m, const ht_grid_cell *cells, const float *x, float *values, uint8_t *codes) {
    for (size_t i = 0; i < m->grid.unit; i++) {
        const ht_grid_cell *cell = &cells[i / m->grid.width];
        if (i % 2)
            ht_grid_round(&m->grid, cell, x + i, 1, values + i, codes + i);
    }
    float many[COLS];
    uint8_t more[COLS];
    for (size_t c = 0; c * m->grid.width < m->grid.unit; c++) {
        size_t at = c * m->grid.width;
        ht_grid_round(&m->grid, &cells[c], x + at, m->grid.width, many + at, more + at);
    }
    for (size_t i = 1; i < m->grid.unit; i += 2)
        CHECK(many[i] == values[i] && more[i] == codes[i]);
    memcpy(values, many, m->grid.unit * sizeof *values);
    memcpy(codes, more, m->grid.unit);
}

/* A column of many rows is what each row gives alone. */
static void check_lanes(const matrix *m, size_t column) {
    ht_grid_cell cells[HT_GRID_LANES];
    ht_grid_lanes lanes;
    float x[HT_GRID_LANES], values[HT_GRID_LANES], alone;
    uint8_t codes[HT_GRID_LANES], code;
    for (size_t i = 0; i < HT_GRID_LANES; i++) {
        size_t row = i % ROWS;
        ht_grid_cell all[HT_GRID_CELLS];
        ht_grid_load(&m->grid, &m->rounded, row, column / m->grid.unit, all);
        cells[i] = all[column % m->grid.unit / m->grid.width];
        x[i] = m->x[row * COLS + column] * (1 + (float)(i / ROWS));
    }
    ht_grid_gather(cells, 1, HT_GRID_LANES, &lanes);
    ht_grid_round_lanes(&m->grid, &lanes, x, values, codes);
    for (size_t i = 0; i < HT_GRID_LANES; i++) {
        ht_grid_round(&m->grid, &cells[i], x + i, 1, &alone, &code);
        CHECK_INT(codes[i], code);
        CHECK_BYTES(&values[i], &alone, sizeof alone);
    }
}

static void test_lanes(void) {
    for (size_t t = 0; t < sizeof TRIALS / sizeof *TRIALS; t++) {
        matrix m;
        int before = check_failures_of_test;
        if (create(&m, &TRIALS[t]))
            for (size_t c = 0; c < COLS; c += 5)
                check_lanes(&m, c);
        if (check_failures_of_test != before)
            CHECK_TEXT(TRIALS[t].format, "the format of the failures above");
        destroy(&m);
    }
}

static void test_rounding(void) {
    for (size_t t = 0; t < sizeof TRIALS / sizeof *TRIALS; t++) {
        matrix m;
        int before = check_failures_of_test;
        if (create(&m, &TRIALS[t])) {
            float *decoded = malloc(ROWS * COLS * sizeof *decoded), values[COLS];
            uint8_t codes[COLS];
            for (size_t r = 0; r < ROWS; r++)
                for (size_t u = 0; u < COLS / m.grid.unit; u++) {
                    ht_grid_cell cells[HT_GRID_CELLS];
                    ht_grid_load(&m.grid, &m.rounded, r, u, cells);
                    round_cells(&m, cells, m.x + r * COLS + u * m.grid.unit, values, codes);
                    ht_grid_store(&m.grid, &m.stored, r, u, cells, codes);
                    memcpy(decoded + r * COLS + u * m.grid.unit, values, m.grid.unit * sizeof *values);
                }
            for (int p = 0; p < HT_PLANE_COUNT; p++)
                CHECK_BYTES(m.stored.plane[p], m.rounded.plane[p], m.bytes[p]);
            CHECK_OK(ht_format_dequantize(&m.format, &m.stored, ROWS, COLS, m.decoded));
            CHECK_F32(decoded, m.decoded, ROWS * COLS);
            free(decoded);
        }
        if (check_failures_of_test != before)
            CHECK_TEXT(TRIALS[t].format, "the format of the failures above");
        destroy(&m);
    }
}

static void test_choosing(void) {
    for (size_t t = 0; t < sizeof TRIALS / sizeof *TRIALS; t++) {
        matrix m;
        int before = check_failures_of_test;
        if (create(&m, &TRIALS[t]) && !m.grid.shared)
            for (size_t r = 0; r < ROWS; r++)
                for (size_t u = 0; u < COLS / m.grid.unit; u++) {
                    const float *x = m.x + r * COLS + u * m.grid.unit;
                    ht_grid_cell own[HT_GRID_CELLS] = {0}, chosen[HT_GRID_CELLS] = {0}, found[HT_GRID_CELLS] = {0};
                    float weight[COLS], least = 0, error = 0;
                    ht_grid_load(&m.grid, &m.rounded, r, u, own);
                    ht_grid_choose(&m.grid, x, NULL, 0, own, chosen);
                    for (size_t c = 0; c < m.grid.family->cells; c++) /* without the padding at the end */
                        CHECK_BYTES(&chosen[c], &own[c], offsetof(ht_grid_cell, half) + sizeof own->half);
                    for (size_t i = 0; i < m.grid.unit; i++)
                        weight[i] = expf(ht_random_normal(5, 2, u * m.grid.unit + i));
                    ht_grid_choose(&m.grid, x, weight, 1, own, found);
                    for (size_t c = 0; c < m.grid.family->cells; c++) {
                        size_t at = c * m.grid.width;
                        least += ht_grid_error(&m.grid, &found[c], x + at, weight + at, m.grid.width);
                        error += ht_grid_error(&m.grid, &own[c], x + at, weight + at, m.grid.width);
                    }
                    /* Not strictly where the other side searched too, over other scales, or where the parts of a
                     * two-level scale are fitted and then rounded. */
                    int strict = m.grid.family->cells == 1 && TRIALS[t].rule != HT_SCALE_MSE;
                    CHECK(least <= error * (strict ? 1.000001f : 1.3f));
                }
        if (check_failures_of_test != before)
            CHECK_TEXT(TRIALS[t].format, "the format of the failures above");
        destroy(&m);
    }
}

static void test_refusals(void) {
    static const char *const WITHOUT[] = {"bf16", "q2_k", "iq2_xs", "map8_signed"};
    for (size_t i = 0; i < 4; i++) {
        ht_format format;
        CHECK_OK(ht_format_parse(WITHOUT[i], &format));
        CHECK_FAILS(ht_grid_supports(&format), HT_ERR_UNSUPPORTED);
        CHECK_CONTAINS(ht_error_message(), WITHOUT[i]);
    }
    ht_format mxfp4;
    ht_grid grid;
    CHECK_OK(ht_format_parse("mxfp4", &mxfp4));
    CHECK_FAILS(ht_grid_create(&mxfp4, NULL, 3, 33, 1, &grid), HT_ERR_SHAPE);
}

int main(void) {
    RUN(test_rounding);
    RUN(test_lanes);
    RUN(test_choosing);
    RUN(test_refusals);
    return check_finish();
}
