/* Searched scales (rule mse) of the formats that have them, block by block: never a larger squared error than the
 * formula's scale, and exactly the best of the scales that the rule may try, found again here one by one.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { ROWS = 48, COLS = 256, STEPS = 21 };

static float x[ROWS * COLS];

/* Rows of every kind that a weight matrix may have; `kind` is of the row. */
static void fill(uint64_t seed) {
    for (size_t r = 0; r < ROWS; r++)
        for (size_t c = 0; c < COLS; c++) {
            float normal = ht_random_normal(seed, 1, r * COLS + c);
            float *at = &x[r * COLS + c];
            switch (r % 8) {
            case 0:
            case 1:
                *at = 0.02f * normal;
                break;
            case 2:
                *at = normal * (c % 61 == 7 ? 40.0f : 1.0f);
                break; /* outliers */
            case 3:
                *at = normal + 3;
                break; /* of one sign */
            case 4:
                *at = 0.5f;
                break; /* all alike */
            case 5:
                *at = normal * normal * normal;
                break; /* heavy tails */
            case 6:
                *at = c % 16 ? 0 : normal;
                break; /* mostly zeros */
            default:
                *at = normal * 1e-30f;
                break;
            }
        }
}

typedef struct result {
    uint8_t *codes, *scales, *zeros;
    float global;
    ht_planes planes;
    float *y; /* [ROWS, COLS] */
} result;

static result quantize(const ht_format *f, const ht_row_options *o, const float *from, size_t rows, size_t cols) {
    result q = {.codes = calloc(1, ht_format_plane_bytes(f, HT_PLANE_CODES, rows, cols) + 1),
                .scales = calloc(1, ht_format_plane_bytes(f, HT_PLANE_SCALES, rows, cols) + 1),
                .zeros = calloc(1, ht_format_plane_bytes(f, HT_PLANE_ZEROS, rows, cols) + 1),
                .y = malloc(rows * cols * sizeof *q.y)};
    ht_range range = ht_range_empty();
    CHECK_OK(ht_range_add(&range, x, HT_F32, ROWS * COLS));
    q.global = ht_format_global(f, o, &range);
    q.planes = (ht_planes){{q.codes, q.scales, q.zeros}};
    CHECK_OK(ht_format_quantize(f, o, from, HT_F32, rows, cols,
                                &(ht_planes){{q.codes, q.scales, q.zeros, NULL, &q.global}}));
    CHECK_OK(ht_format_dequantize(f, &(ht_planes){{q.codes, q.scales, q.zeros, NULL, &q.global}}, rows, cols, q.y));
    return q;
}

static void release(result *q) {
    free(q->codes);
    free(q->scales);
    free(q->zeros);
    free(q->y);
}

static double error_of(const float *a, const float *b, size_t row, size_t col, size_t rows, size_t cols) {
    double sum = 0;
    for (size_t r = row; r < row + rows; r++)
        for (size_t c = col; c < col + cols; c++)
            sum += ((double)a[r * COLS + c] - (double)b[r * COLS + c]) *
                   ((double)a[r * COLS + c] - (double)b[r * COLS + c]);
    return sum;
}

/* gains: a step of 1/32 is fine enough to find something better among these rows. */
static const struct {
    const char *name;
    int gains;
} formats[] = {{"int4_g32", 1},
               {"int4_g128", 1},
               {"int2_g16", 1},
               {"int3_g64_asym", 1},
               {"int4_g32_asym", 1},
               {"int4_g64_float0", 1},
               {"int8_row", 0},
               {"int8_row_asym", 0},
               {"int4_tensor", 1},
               {"fp8_row", 1},
               {"fp8_tensor", 0},
               {"fp8_block", 0},
               {"fp8_e5m2_row", 1},
               {"fp8_g128", 1},
               {"nvfp4", 1},
               {"nvfp4_pts", 1},
               {"nvfp4_single", 1},
               {"mxfp4", 1},
               {"mxfp8", 1},
               {"mxfp6_e2m3", 1},
               {"int4_g32_scale_bf16", 1},
               {"fp8_row_scale_bf16", 1}};

/* Sums are compared in f32 inside: an error may be larger by its rounding alone. */
static void test_never_worse(void) {
    for (size_t n = 0; n < sizeof formats / sizeof *formats; n++) {
        ht_format f;
        REQUIRE_OK(ht_format_parse(formats[n].name, &f));
        ht_row_options plain = ht_row_options_default(), mse = plain;
        mse.scale_rule = HT_SCALE_MSE;
        plain.scale_rule = f.family == HT_FAMILY_MX ? HT_SCALE_FLOOR : HT_SCALE_DEFAULT;
        size_t rows = f.block_rows ? f.block_rows : ROWS, cols = f.block_cols ? f.block_cols : COLS;
        rows = rows < ROWS ? rows : ROWS;
        size_t better = 0;
        for (uint64_t seed = 0; seed < 4; seed++) {
            fill(seed);
            result a = quantize(&f, &plain, x, ROWS, COLS), b = quantize(&f, &mse, x, ROWS, COLS);
            for (size_t r = 0; r < ROWS; r += rows)
                for (size_t c = 0; c < COLS; c += cols) {
                    size_t high = ROWS - r < rows ? ROWS - r : rows;
                    double formula = error_of(x, a.y, r, c, high, cols), searched = error_of(x, b.y, r, c, high, cols);
                    better += searched < formula;
                    if (!CHECK(searched <= formula * (1 + 1e-5) + (double)FLT_MIN))
                        printf("  %s, seed %d, block at [%zu, %zu]: %g instead of %g\n", formats[n].name, (int)seed, r,
                               c, searched, formula);
                }
            release(&a);
            release(&b);
        }
        if (!CHECK(better > 0 || !formats[n].gains))
            printf("  %s never found a better scale\n", formats[n].name);
    }
}

/* --- the best of what may be tried ------------------------------------------------------------------------------- */

/* Symmetric integers and float8: the formula's scale and it shrunk by k / 32, k to 20. One row is one block here. */
static void test_best_of_shrunk(void) {
    static const char *const rows[] = {"int8_row", "int4_row", "int3_row", "fp8_row", "fp8_e5m2_row"};
    fill(9);
    for (size_t n = 0; n < sizeof rows / sizeof *rows; n++)
        for (size_t r = 0; r < ROWS; r++) {
            ht_format f;
            REQUIRE_OK(ht_format_parse(rows[n], &f));
            const float *row = x + r * COLS;
            ht_row_options o = ht_row_options_default();
            ht_range range = ht_range_empty();
            float widest;
            REQUIRE_OK(ht_range_add(&range, row, HT_F32, COLS));
            REQUIRE_OK(ht_format_scale(&f, &o, &range, &widest, NULL));
            double least = INFINITY;
            for (int k = 0; k < STEPS; k++) {
                o.scale = widest * (1 - (float)k / 32);
                result q = quantize(&f, &o, row, 1, COLS);
                double error = error_of(row, q.y, 0, 0, 1, COLS);
                least = error < least ? error : least;
                release(&q);
            }
            o.scale = 0;
            o.scale_rule = HT_SCALE_MSE;
            result q = quantize(&f, &o, row, 1, COLS);
            double found = error_of(row, q.y, 0, 0, 1, COLS);
            if (!CHECK(fabs(found - least) <= 1e-5 * least + (double)FLT_MIN))
                printf("  %s, row %zu: %g, the best is %g\n", rows[n], r, found, least);
            release(&q);
        }
}

/* NVFP4: the scale codes from 4 below to 6 above the formula's. */
static void test_best_nvfp4_code(void) {
    ht_format f;
    REQUIRE_OK(ht_format_parse("nvfp4", &f));
    fill(11);
    ht_row_options o = ht_row_options_default(), mse = o;
    mse.scale_rule = HT_SCALE_MSE;
    result a = quantize(&f, &o, x, ROWS, COLS), b = quantize(&f, &mse, x, ROWS, COLS);
    for (size_t block = 0; block < ROWS * COLS / 16; block++) {
        const float *values = x + block * 16;
        double least = INFINITY, found = 0;
        for (int code = a.scales[block] - 4; code <= a.scales[block] + 6; code++) {
            if (code < 0 || code > 0x7e)
                continue;
            float factor = ht_element_decode(HT_F8_E4M3, (uint32_t)code) / a.global;
            double error = 0;
            for (int i = 0; i < 16; i++) {
                float y =
                    factor > 0 ? ht_element_decode(HT_F4_E2M1, ht_element_encode(HT_F4_E2M1, values[i] / factor)) : 0;
                double d = (double)(y * factor) - (double)values[i];
                error += d * d;
            }
            least = error < least ? error : least;
        }
        for (size_t i = 0; i < 16; i++) {
            double d = (double)b.y[block * 16 + i] - (double)values[i];
            found += d * d;
        }
        if (!CHECK(fabs(found - least) <= 1e-5 * least + (double)FLT_MIN))
            printf("  block %zu: %g, the best is %g\n", block, found, least);
    }
    release(&a);
    release(&b);
}

int main(void) {
    RUN(test_never_worse);
    RUN(test_best_of_shrunk);
    RUN(test_best_nvfp4_code);
    return check_finish();
}
