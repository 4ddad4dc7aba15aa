/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/random.h"
#include "format/bits.h"
#include "support/check.h"
#include "support/golden.h"

static ht_format blocks(ht_dtype element, uint32_t rows, uint32_t cols) {
    return (ht_format){.family = HT_FAMILY_FLOAT8,
                       .element = element,
                       .scale = HT_F32,
                       .block_rows = rows,
                       .block_cols = cols,
                       .packing = HT_PACK_BYTES};
}

static void test_golden(void) {
    static const struct {
        const char *name;
        ht_dtype element;
        uint32_t rows, cols;
        float lower, upper;
        int power_of_two;
    } cases[] = {{"tensor", HT_F8_E4M3, 0, 0, 0, 0, 0},
                 {"row", HT_F8_E4M3, 1, 0, 0, 0, 0},
                 {"col", HT_F8_E4M3, 0, 1, 0, 0, 0},
                 {"act1x128", HT_F8_E4M3, 1, 128, 0, 0, 0},
                 {"w128x128", HT_F8_E4M3, 128, 128, 0, 0, 0},
                 {"row_e5m2", HT_F8_E5M2, 1, 0, 0, 0, 0},
                 {"row_lb1e-3_ub100", HT_F8_E4M3, 1, 0, 1e-3f, 100, 0},
                 {"row_pow2", HT_F8_E4M3, 1, 0, 0, 0, 1}};
    for (int bf16 = 0; bf16 < 2; bf16++) {
        golden g = golden_open(bf16 ? "formats/float8_infer_bf16.safetensors" : "formats/float8_infer_f32.safetensors");
        const golden_tensor *x = golden_find(&g, "x");
        REQUIRE(x);
        size_t rows = golden_rows(x), cols = golden_cols(x);
        uint8_t *codes = calloc(rows * cols, 1);
        float *scales = calloc(rows * cols, sizeof *scales), *y = calloc(rows * cols, sizeof *y);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            ht_format f = blocks(cases[c].element, cases[c].rows, cases[c].cols);
            ht_row_options o = ht_row_options_default();
            o.arithmetic = x->dtype;
            o.amax_lower = cases[c].lower;
            o.amax_upper = cases[c].upper;
            o.power_of_two = cases[c].power_of_two;
            ht_planes p = {{codes, scales}};
            REQUIRE_OK(ht_format_quantize(&f, &o, x->data, x->dtype, rows, cols, &p));
            const golden_tensor *data = golden_findf(&g, "%s.data", cases[c].name);
            const golden_tensor *scale = golden_findf(&g, "%s.scale", cases[c].name);
            REQUIRE(data && scale);
            CHECK_INT(ht_format_plane_bytes(&f, HT_PLANE_SCALES, rows, cols), scale->bytes);
            size_t wrong = 0, zero_blocks = 0, height = f.block_rows ? f.block_rows : rows,
                   width = f.block_cols ? f.block_cols : cols;
            for (size_t i = 0; i < rows * cols; i++) {
                size_t block = i / cols / height * (cols / width) + i % cols / width;
                float want = ((const float *)scale->data)[block];
                zero_blocks += want == 0;
                if (want == 0) /* a block of zeros: NaN there, zeros with scale 1 here */
                    wrong += scales[block] != 1 || (codes[i] & 0x7f) != 0;
                else
                    wrong += scales[block] != want || codes[i] != ((const uint8_t *)data->data)[i];
            }
            CHECK(zero_blocks <= 128);
            if (!CHECK_INT(wrong, 0))
                printf("  %s, %s\n", cases[c].name, bf16 ? "bf16" : "f32");
            REQUIRE_OK(ht_format_dequantize(&f, &p, rows, cols, y));
            char name[64];
            snprintf(name, sizeof name, "%s.dequant", cases[c].name);
            const golden_tensor *want = golden_maybe(&g, name);
            if (want)
                CHECK_F32(y, (const float *)want->data, want->elements);
        }
        free(codes);
        free(scales);
        free(y);
        golden_close(&g);
    }
}

/* What references leave as NaN, and the ends of the range. */
static void test_defined_results(void) {
    static const ht_dtype elements[] = {HT_F8_E4M3, HT_F8_E5M2, HT_F8_E4M3FNUZ, HT_F8_E5M2FNUZ};
    static const ht_dtype scale_types[] = {HT_F32, HT_BF16};
    for (size_t e = 0; e < 4; e++)
        for (size_t s = 0; s < 2; s++) {
            ht_format f = blocks(elements[e], 1, 0);
            f.scale = scale_types[s];
            float x[6][16] = {{0}}, y[6][16], scales[6] = {0};
            x[1][3] = NAN;
            x[2][3] = -INFINITY;
            for (int i = 0; i < 16; i++) {
                x[3][i] = i % 2 ? 3.4e38f : -3.4e38f;
                x[4][i] = i % 2 ? 0x1p-149f : -0x1p-149f;
            }
            x[5][0] = 1;
            uint8_t codes[6][16];
            ht_planes p = {{codes, scales}};
            REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, 6, 16, &p));
            REQUIRE_OK(ht_format_dequantize(&f, &p, 6, 16, y[0]));
            for (int i = 0; i < 16; i++) {
                CHECK(y[0][i] == 0);
                CHECK(isnan(y[1][i]) && isnan(y[2][i]));
                CHECK(fabsf(y[3][i] / x[3][i] - 1) < 0.01f);
                CHECK(isfinite(y[4][i]) && fabsf(y[4][i]) < 1e-30f);
                CHECK(fabsf(y[5][i] - x[5][i]) < 0.01f);
            }
            if (s == 0) {
                CHECK(scales[0] == 1); /* a block of zeros */
                CHECK(isnan(scales[1]) && isnan(scales[2]));
            }
        }
}

/* Tiles at the right and lower edge are smaller. */
static void test_ragged_tiles(void) {
    enum { ROWS = 130, COLS = 200 };
    static float x[ROWS * COLS], y[ROWS * COLS];
    static uint8_t codes[ROWS * COLS];
    float scales[4];
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(3, 0, i) * (i / COLS >= 128 ? 100 : 1);
    ht_format f = blocks(HT_F8_E4M3, 128, 128);
    ht_planes p = {{codes, scales}};
    REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, ROWS, COLS, &p));
    REQUIRE_OK(ht_format_dequantize(&f, &p, ROWS, COLS, y));
    for (size_t t = 0; t < 4; t++) {
        float amax = 0;
        for (size_t r = t / 2 * 128; r < (t / 2 ? ROWS : 128); r++)
            for (size_t c = t % 2 * 128; c < (t % 2 ? COLS : 128); c++)
                amax = fmaxf(amax, fabsf(x[r * COLS + c]));
        CHECK(scales[t] == amax / 448);
    }
    for (size_t i = 0; i < ROWS * COLS; i++) {
        float scale = scales[i / COLS / 128 * 2 + i % COLS / 128];
        if (!CHECK(fabsf(y[i] - x[i]) <= fmaxf(fabsf(x[i]) / 16, scale * 0x1p-10f)))
            break;
    }
    /* The last rows alone give the last tiles. */
    static uint8_t tail[2 * COLS];
    float tail_scales[2];
    ht_planes q = {{tail, tail_scales}};
    REQUIRE_OK(ht_format_quantize(&f, NULL, x + 128 * COLS, HT_F32, 2, COLS, &q));
    CHECK_BYTES(tail, codes + 128 * COLS, sizeof tail);
    CHECK_BYTES(tail_scales, scales + 2, sizeof tail_scales);
}

static void test_mse(void) {
    enum { COLS = 256 };
    float x[COLS], y[COLS], scale[2];
    uint8_t codes[COLS];
    ht_format f = blocks(HT_F8_E4M3, 1, 0);
    ht_row_options o = ht_row_options_default();
    double error[2];
    for (int mse = 0; mse < 2; mse++) {
        o.scale_rule = mse ? HT_SCALE_MSE : HT_SCALE_DEFAULT;
        error[mse] = 0;
        for (uint64_t seed = 0; seed < 20; seed++) {
            for (size_t i = 0; i < COLS; i++)
                x[i] = ht_random_normal(seed, 5, i);
            ht_planes p = {{codes, scale}};
            REQUIRE_OK(ht_format_quantize(&f, &o, x, HT_F32, 1, COLS, &p));
            REQUIRE_OK(ht_format_dequantize(&f, &p, 1, COLS, y));
            for (size_t i = 0; i < COLS; i++)
                error[mse] += (double)(y[i] - x[i]) * (double)(y[i] - x[i]);
        }
    }
    CHECK(error[1] < error[0]);
    CHECK_FAILS(ht_format_check_shape(&(ht_format){.family = HT_FAMILY_FLOAT8, .element = HT_F4_E2M1}, 1, 1),
                HT_ERR_FORMAT);
}

int main(void) {
    RUN(test_golden);
    RUN(test_defined_results);
    RUN(test_ragged_tiles);
    RUN(test_mse);
    return check_finish();
}
