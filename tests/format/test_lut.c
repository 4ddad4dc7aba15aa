/* Tables: the exact solution against all partitions, weights, every width, odd values, shapes, slices of rows.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/lut.h"

#include <halftone/format.h>
#include <math.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

static ht_format parse(const char *name) {
    ht_format f;
    CHECK_OK(ht_format_parse(name, &f));
    return f;
}

static double cost_of_run(const float *x, const float *w, size_t from, size_t to) {
    double sum = 0, weight = 0, cost = 0;
    for (size_t i = from; i < to; i++) {
        sum += (double)w[i] * (double)x[i];
        weight += (double)w[i];
    }
    for (size_t i = from; i < to; i++)
        cost += (double)w[i] * ((double)x[i] - sum / weight) * ((double)x[i] - sum / weight);
    return cost;
}

/* All ways of cutting sorted values into at most k runs. */
static double least_cost(const float *x, const float *w, size_t n, size_t k) {
    double least = HUGE_VAL;
    for (unsigned cuts = 0; cuts < 1u << (n - 1); cuts++) {
        double cost = 0;
        size_t from = 0, runs = 1;
        for (size_t i = 1; i < n; i++)
            if (cuts >> (i - 1) & 1) {
                cost += cost_of_run(x, w, from, i);
                from = i;
                runs++;
            }
        cost += cost_of_run(x, w, from, n);
        least = runs <= k && cost < least ? cost : least;
    }
    return least;
}

static double cost_of_table(const float *x, const float *w, size_t n, const uint16_t *table, unsigned bits) {
    double cost = 0;
    for (size_t i = 0; i < n; i++) {
        double e = (double)x[i] - (double)ht_f32_from_f16(table[ht_lut_encode(table, bits, x[i])]);
        cost += (double)w[i] * e * e;
    }
    return cost;
}

static void test_exact(void) {
    for (uint64_t seed = 0; seed < 60; seed++) {
        size_t n = 2 + seed % 11;
        unsigned bits = 1 + (unsigned)(seed % 3);
        float x[12], w[12], shuffled[12], weights[12];
        uint16_t table[8];
        for (size_t i = 0; i < n; i++) { /* sorted: sums of steps; some equal */
            x[i] = (i ? x[i - 1] : -3) + floorf(6 * ht_random_uniform(seed, 1, i)) * 0.25f;
            w[i] = seed % 2 ? 1 : 0.1f + 4 * ht_random_uniform(seed, 2, i);
        }
        for (size_t i = 0; i < n; i++) {
            shuffled[i] = x[n - 1 - i];
            weights[i] = w[n - 1 - i];
        }
        ht_lut_fit(shuffled, weights, n, bits, table);
        double want = least_cost(x, w, n, (size_t)1 << bits);
        CHECK_WITHIN(cost_of_table(x, w, n, table, bits), want, 1e-4 * (1 + want)); /* centres are f16 */
        for (size_t i = 1; i < (size_t)1 << bits; i++)
            CHECK(ht_f32_from_f16(table[i - 1]) <= ht_f32_from_f16(table[i]));
    }
}

static void test_nearest(void) {
    static const uint16_t TABLE[4] = {0xbc00, 0x0000, 0x3c00, 0x4400}; /* -1 0 1 4 */
    static const float X[] = {-9, -0.5f, -0.4f, 0.5f, 0.6f, 2.5f, 2.6f, 1e30f, NAN};
    static const unsigned WANT[] = {0, 0, 1, 1, 2, 2, 3, 3, 0};
    for (size_t i = 0; i < sizeof WANT / sizeof *WANT; i++)
        CHECK_INT(ht_lut_encode(TABLE, 2, X[i]), WANT[i]);
}

/* More bits, less error; a tile with few values is met exactly; slices of 16 rows are the whole's bytes. */
static void test_matrix(void) {
    enum { ROWS = 40, COLS = 64 };
    static const char *const NAMES[] = {"lut1_g64", "lut2_g32", "lut3_g64", "lut4_g64",
                                        "lut5_g64", "lut6_g64", "lut7_g32", "lut8_g16"};
    float x[ROWS * COLS], y[ROWS * COLS];
    uint8_t codes[ROWS * COLS], part[ROWS * COLS];
    uint16_t tables[4 * 3 * 256], part_tables[4 * 3 * 256];
    double before = HUGE_VAL;
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(5, 5, i);
    for (size_t f = 0; f < 8; f++) {
        ht_format format = parse(NAMES[f]);
        ht_planes planes = {{codes, tables}}, slice = {{part, part_tables}};
        size_t across = COLS / format.block_cols, bits = f + 1;
        CHECK_INT(ht_format_plane_bytes(&format, HT_PLANE_SCALES, ROWS, COLS), 3 * across * ((size_t)2 << bits));
        CHECK_INT(ht_format_plane_bytes(&format, HT_PLANE_CODES, ROWS, COLS), ROWS * COLS * bits / 8);
        CHECK_INT(ht_format_row_step(&format), 16);
        CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &planes));
        CHECK_OK(ht_format_dequantize(&format, &planes, ROWS, COLS, y));
        double error = 0;
        for (size_t i = 0; i < ROWS * COLS; i++)
            error += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        CHECK(error < 0.5 * before);
        before = error;
        CHECK_OK(ht_format_quantize(&format, NULL, x + 16 * COLS, HT_F32, ROWS - 16, COLS, &slice));
        ht_planes at = ht_planes_at_row(&format, &planes, COLS, 16);
        CHECK_BYTES(part, at.plane[HT_PLANE_CODES], (ROWS - 16) * COLS * bits / 8);
        CHECK_BYTES(part_tables, at.plane[HT_PLANE_SCALES], 2 * across * ((size_t)2 << bits));
        char name[32];
        ht_format_name(&format, name, sizeof name);
        CHECK_TEXT(name, NAMES[f]);
    }
}

static void test_odd_values(void) {
    enum { ROWS = 3, COLS = 64 };
    float x[ROWS * COLS] = {0}, y[ROWS * COLS];
    uint8_t codes[ROWS * COLS];
    uint16_t tables[2 * 16];
    ht_format format = parse("lut4_g32");
    ht_planes planes = {{codes, tables}};
    for (size_t i = 0; i < ROWS * COLS; i++) /* 16 values that f16 holds: exact */
        x[i] = i % COLS < 32 ? (float)(i % 16) - 8 : 0;
    CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &planes));
    CHECK_OK(ht_format_dequantize(&format, &planes, ROWS, COLS, y));
    CHECK_F32(y, x, ROWS * COLS);
    x[0] = 1e30f;
    x[COLS + 40] = NAN;
    CHECK_OK(ht_format_quantize(&format, NULL, x, HT_F32, ROWS, COLS, &planes));
    CHECK_OK(ht_format_dequantize(&format, &planes, ROWS, COLS, y));
    CHECK(y[0] == 65504 && isfinite(y[COLS]));
    CHECK(isnan(y[33]) && isnan(y[2 * COLS + 63]));
    CHECK_FAILS(ht_format_check_shape(&format, 3, 48), HT_ERR_SHAPE);
    format = parse("lut8_g128");
    CHECK_FAILS(ht_format_check_shape(&format, 16, 128), HT_ERR_FORMAT);
    CHECK_CONTAINS(ht_error_message(), "at most 256");
}

int main(void) {
    RUN(test_exact);
    RUN(test_nearest);
    RUN(test_matrix);
    RUN(test_odd_values);
    return check_finish();
}
