/* HQQ: the worked vector, never worse than round to nearest by its own measure, packings, slices, bad values.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/hqq.h"

#include <math.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { ROWS = 6, COLS = 96, MOST = ROWS * COLS * 4 };

typedef struct coded {
    uint8_t codes[MOST], scales[MOST], zeros[MOST];
    float decoded[ROWS * COLS];
} coded;

static ht_planes planes_of(coded *c) {
    return (ht_planes){{c->codes, c->scales, c->zeros, NULL, NULL}};
}

static void hqq(const ht_format *format, const void *x, ht_dtype dtype, size_t rows, size_t cols, coded *out) {
    ht_settings settings = ht_settings_default("hqq");
    ht_planes planes = planes_of(out);
    memset(out, 0xaa, sizeof *out);
    CHECK_OK(ht_hqq_rows(format, NULL, &settings, x, dtype, rows, cols, &planes));
    CHECK_OK(ht_format_dequantize(format, &planes, rows, cols, out->decoded));
}

static void rtn(const ht_format *format, const float *x, size_t rows, size_t cols, coded *out) {
    ht_planes planes = planes_of(out);
    CHECK_OK(ht_format_quantize(format, NULL, x, HT_F32, rows, cols, &planes));
    CHECK_OK(ht_format_dequantize(format, &planes, rows, cols, out->decoded));
}

/* Algorithms specification, T-HQQ; zeros change no sum. */
static void test_vector(void) {
    const float x[16] = {0.9f, -0.35f, 0.62f, 0.10f};
    ht_format format;
    coded c;
    REQUIRE_OK(ht_format_parse("int4_g16_bytes", &format));
    hqq(&format, x, HT_F32, 1, 16, &c);
    const int want[4] = {7, -3, 5, 1};
    double sse = 0;
    for (int i = 0; i < 4; i++) {
        CHECK_INT((int8_t)c.codes[i], want[i]);
        sse += ((double)x[i] - (double)c.decoded[i]) * ((double)x[i] - (double)c.decoded[i]);
    }
    float scale;
    memcpy(&scale, c.scales, sizeof scale);
    CHECK_NEAR(scale, 0.125595, 1e-5);
    CHECK_NEAR(sse, 0.001870, 1e-3);
}

/* Sharp peak, long tails, and a mean away from zero in some rows. */
static void fill(float *x) {
    for (size_t i = 0; i < ROWS * COLS; i++) {
        float u = ht_random_uniform(7, 1, i) - 0.5f, v = ht_random_uniform(7, 2, i);
        x[i] = 0.05f * u + (v > 0.95f ? 0.4f * u : 0) + (i / COLS % 3 == 2 ? 0.03f : 0);
    }
}

/* Sum over the group of |e| with zero points, e^2 without. */
static double measure(const float *x, const float *y, size_t n, int squares) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        double e = fabs((double)x[i] - (double)y[i]);
        sum += squares ? e * e : e;
    }
    return sum;
}

static void test_not_worse(void) {
    static const char *const names[] = {
        "int4_g32",       "int3_g16",        "int2_g16_asym",       "int4_g32_asym",
        "uint4_g32_asym", "int4_g96_float0", "uint4_g32_float0",    "int8_row",
        "int4_row_asym",  "int3_g24_words",  "int5_g24_asym_words", "int4_g32_asym_scale_bf16",
        "int1_g16"};
    float x[ROWS * COLS];
    fill(x);
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        ht_format format;
        coded a, b;
        if (!CHECK_OK(ht_format_parse(names[f], &format)))
            continue;
        hqq(&format, x, HT_F32, ROWS, COLS, &a);
        rtn(&format, x, ROWS, COLS, &b);
        size_t group = format.block_cols ? format.block_cols : COLS;
        double sum_a = 0, sum_b = 0;
        for (size_t i = 0; i < ROWS * COLS; i += group) {
            double mine = measure(x + i, a.decoded + i, group, format.zero == HT_DTYPE_NONE);
            double plain = measure(x + i, b.decoded + i, group, format.zero == HT_DTYPE_NONE);
            CHECK(mine <= plain * (1 + 1e-5));
            sum_a += mine;
            sum_b += plain;
        }
        if (strcmp(names[f], "int8_row") != 0)
            CHECK(sum_a < sum_b * 0.999);
    }
}

/* Rows are independent, and bf16 input that f32 holds exactly gives the same bytes. */
static void test_slices(void) {
    static const char *const names[] = {"int4_g32_asym", "int3_g24_words", "int4_row"};
    float x[ROWS * COLS];
    uint16_t half[ROWS * COLS];
    fill(x);
    for (size_t i = 0; i < ROWS * COLS; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0xffff0000u;
        half[i] = (uint16_t)(bits >> 16);
        memcpy(&x[i], &bits, sizeof bits);
    }
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        ht_format format;
        coded whole, part;
        REQUIRE_OK(ht_format_parse(names[f], &format));
        hqq(&format, x, HT_F32, ROWS, COLS, &whole);
        hqq(&format, half, HT_BF16, ROWS, COLS, &part);
        CHECK_BYTES(part.codes, whole.codes, ht_format_plane_bytes(&format, HT_PLANE_CODES, ROWS, COLS));
        for (size_t r = 0; r < ROWS; r++) {
            hqq(&format, x + r * COLS, HT_F32, 1, COLS, &part);
            size_t bytes = ht_format_plane_bytes(&format, HT_PLANE_CODES, 1, COLS);
            CHECK_BYTES(part.codes, whole.codes + r * bytes, bytes);
            CHECK_INT(part.codes[bytes], 0xaa); /* nothing past the end */
            bytes = ht_format_plane_bytes(&format, HT_PLANE_SCALES, 1, COLS);
            CHECK_BYTES(part.scales, whole.scales + r * bytes, bytes);
        }
    }
}

static void test_odd_values(void) {
    static const char *const names[] = {"int4_g16", "int4_g16_asym", "int4_g16_float0"};
    float x[64] = {0};
    x[16] = INFINITY;
    x[33] = NAN;
    for (int i = 0; i < 16; i++)
        x[48 + i] = i & 1 ? 3e38f : 1e-44f;
    for (size_t f = 0; f < sizeof names / sizeof *names; f++) {
        ht_format format;
        coded c;
        REQUIRE_OK(ht_format_parse(names[f], &format));
        hqq(&format, x, HT_F32, 1, 64, &c);
        for (int i = 0; i < 64; i++) {
            int finite = i < 16 || i >= 48;
            CHECK(finite ? isfinite(c.decoded[i]) : isnan(c.decoded[i]));
            if (i < 16)
                CHECK(c.decoded[i] == 0);
        }
    }
}

static void test_accepts(void) {
    static const struct {
        const char *scheme;
        ht_status want;
    } rows[] = {{"int4", HT_OK},
                {"int8", HT_OK},
                {"int4-g32-asym", HT_OK},
                {"mxfp4", HT_ERR_UNSUPPORTED},
                {"q4_k", HT_ERR_UNSUPPORTED},
                {"nf4", HT_ERR_UNSUPPORTED}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        ht_scheme scheme;
        REQUIRE_OK(ht_scheme_parse(rows[i].scheme, &scheme));
        CHECK_INT(ht_hqq_accepts(&scheme), rows[i].want);
    }
}

int main(void) {
    RUN(test_vector);
    RUN(test_not_worse);
    RUN(test_slices);
    RUN(test_odd_values);
    RUN(test_accepts);
    return check_finish();
}
