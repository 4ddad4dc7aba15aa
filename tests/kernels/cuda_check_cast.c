/* MXFP8 casts: every rule and direction against the definition (formats specification, section 2.2), bit for bit, on
 * random, extreme and odd-shaped input; then the rate beside a device copy.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "kernels/cuda/cuda.h"

enum { BLOCK = 32 };

static const ht_scale_rule rules[] = {HT_SCALE_FLOOR, HT_SCALE_RCEIL, HT_SCALE_CEIL, HT_SCALE_EVEN};
static const char *const rule_names[] = {"floor", "rceil", "ceil", "even"};

/* The scale byte, written from the specification's table and not from the kernel. */
static unsigned scale_byte(float amax, ht_scale_rule rule) {
    uint32_t u;
    if (isnan(amax) || isinf(amax))
        return 255;
    if (rule == HT_SCALE_RCEIL) {
        float d = amax * (1.0f / 448.0f);
        memcpy(&u, &d, 4);
        unsigned e = u >> 23, m = u & 0x7fffff;
        return e == 0 ? m > 0x400000 : e + (m != 0);
    }
    memcpy(&u, &amax, 4);
    if (rule == HT_SCALE_EVEN)
        u = (u + (1u << 19)) & 0x7f800000u;
    int e = (int)(u >> 23) - 127 - 8;
    if (u >> 23 == 255)
        return 255;
    if (rule == HT_SCALE_CEIL && (u & 0x7fffff))
        e++;
    return (unsigned)((e < -127 ? -127 : e) + 127);
}

/* One block of 32 values `stride` apart to 32 consecutive codes. */
static uint8_t cast_block(const uint16_t *x, size_t stride, ht_scale_rule rule, uint8_t *codes) {
    float amax = 0;
    for (int i = 0; i < BLOCK; i++) {
        float v = fabsf(cuda_bf16_value(x[(size_t)i * stride]));
        amax = isnan(v) || isnan(amax) ? NAN : v > amax ? v : amax;
    }
    unsigned scale = scale_byte(amax, rule);
    for (int i = 0; i < BLOCK; i++) {
        float inverse = scale == 255 ? NAN : (float)ldexp(1, 127 - (int)scale);
        codes[i] = cuda_e4m3(cuda_bf16_value(x[(size_t)i * stride]) * inverse);
    }
    return (uint8_t)scale;
}

/* Values that matter: zeros, subnormals, powers of two and their neighbours, huge, Inf, NaN. */
static void sprinkle(uint16_t *x, size_t count) {
    static const uint16_t special[] = {0x0000, 0x8000, 0x0001, 0x807f, 0x0080, 0x7f7f, 0xff7f, 0x3f80,
                                       0x43e0, 0x43f0, 0x43ff, 0x4400, 0x0700, 0x0aff, 0xc3e1, 0x3f7f};
    for (size_t i = 0; i + BLOCK <= count; i += BLOCK) {
        uint64_t r = cuda_random();
        float scale = (float)ldexp(1, (int)(r % 250) - 130);
        for (size_t j = 0; r % 3 == 0 && j < BLOCK; j++) /* whole range of exponents */
            x[i + j] = cuda_bf16(cuda_bf16_value(x[i + j]) * scale);
        if (r % 5 == 0)
            x[i + (r >> 8) % BLOCK] = special[(r >> 16) % 16];
        if (r % 7 == 0)
            for (size_t j = 0; j < BLOCK; j++)
                x[i + j] = (uint16_t)(special[(r >> 16) % 16] & ((r >> 32 >> j & 1) ? 0xffff : 0));
        if (r % 97 == 0)
            x[i + (r >> 8) % BLOCK] = r >> 60 & 1 ? 0x7f80 : r >> 61 & 1 ? 0xff81 : 0x7fc0;
    }
}

static size_t differences(const uint8_t *got, const uint8_t *want, size_t count, size_t *first) {
    size_t different = 0;
    for (size_t i = 0; i < count; i++)
        if (got[i] != want[i] && different++ == 0)
            *first = i;
    return different;
}

static void check_output(cuda_guarded *g, const uint8_t *want, const char *what, size_t rows, size_t cols,
                         const char *rule) {
    size_t first = 0, bytes = g->bytes;
    uint8_t *got = cuda_guarded_take(g, what);
    size_t different = differences(got, want, bytes, &first);
    if (different)
        cuda_verdict(0, "mxfp8 %s %s [%zu, %zu]: %zu of %zu differ, first %zu: %02x, not %02x", what, rule, rows, cols,
                     different, bytes, first, got[first], want[first]);
    else
        cuda_verdict(1, "mxfp8 %s %s [%zu, %zu]: bit-equal", what, rule, rows, cols);
    free(got);
}

/* The library's own CPU encoder says the same as the definition above. */
static void check_library(const uint16_t *x, size_t rows, size_t cols, int rule, const uint8_t *codes,
                          const uint8_t *scales) {
    size_t first = 0, count = rows * cols;
    ht_format format;
    ht_row_options options = ht_row_options_default();
    uint8_t *got = malloc(count), *got_scales = malloc(count / BLOCK);
    ht_planes planes = {{[HT_PLANE_CODES] = got, [HT_PLANE_SCALES] = got_scales}};
    options.scale_rule = rules[rule];
    cuda_must(ht_format_parse("mxfp8", &format), "format");
    cuda_must(ht_format_quantize(&format, &options, x, HT_BF16, rows, cols, &planes), "CPU cast");
    size_t different = differences(got, codes, count, &first) + differences(got_scales, scales, count / BLOCK, &first);
    cuda_verdict(!different, "mxfp8 CPU encoder %s [%zu, %zu]: %zu bytes differ from the definition, first %zu",
                 rule_names[rule], rows, cols, different, first);
    free(got), free(got_scales);
}

static void check_one(size_t rows, size_t cols, int rule, int by_row, int by_col) {
    size_t count = rows * cols;
    uint16_t *x = cuda_random_bf16(count);
    sprinkle(x, count);
    uint8_t *codes = malloc(count), *scales = malloc(count / BLOCK + 1);
    uint8_t *codes_t = malloc(count), *scales_t = malloc(count / BLOCK + 1);
    for (size_t i = 0; by_row && i < count; i += BLOCK)
        scales[i / BLOCK] = cast_block(x + i, 1, rules[rule], codes + i);
    for (size_t c = 0; by_col && c < cols; c++)
        for (size_t r = 0; r < rows; r += BLOCK)
            scales_t[(c * rows + r) / BLOCK] = cast_block(x + r * cols + c, cols, rules[rule], codes_t + c * rows + r);
    if (by_row)
        check_library(x, rows, cols, rule, codes, scales);
    void *dx = cuda_upload(x, count * 2);
    cuda_guarded g[4];
    for (int i = 0; i < 4; i++)
        g[i] = cuda_guarded_new(i % 2 ? count / BLOCK : count);
    ht_cuda_mxfp8_args args = {.x = dx,
                               .rows = rows,
                               .cols = cols,
                               .rule = rules[rule],
                               .codes = by_row ? g[0].at : NULL,
                               .scales = by_row ? g[1].at : NULL,
                               .codes_t = by_col ? g[2].at : NULL,
                               .scales_t = by_col ? g[3].at : NULL};
    cuda_must(ht_cuda_cast_mxfp8(&args, NULL), "mxfp8 cast");
    cuda_must(ht_device_finish(cuda_device, NULL), "mxfp8 cast");
    const uint8_t *want[4] = {codes, scales, codes_t, scales_t};
    static const char *const names[4] = {"row codes", "row scales", "column codes", "column scales"};
    for (int i = 0; i < 4; i++) {
        if (i < 2 ? by_row : by_col)
            check_output(&g[i], want[i], names[i], rows, cols, rule_names[rule]);
        else
            free(cuda_guarded_take(&g[i], names[i]));
    }
    free(x), free(codes), free(scales), free(codes_t), free(scales_t);
    cuda_delete(dx);
}

void cuda_check_cast(void) {
    static const size_t shapes[][2] = {{32, 32}, {64, 96}, {160, 288}, {512, 1024}, {96, 2080}, {1056, 544}};
    for (int rule = 0; rule < 4; rule++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            for (int direction = 1; direction < 4; direction++)
                check_one(shapes[i][0], shapes[i][1], rule, direction & 1, direction & 2);
    check_one(7, 96, 1, 1, 0); /* rows of a row-wise cast may be anything */
    check_one(64, 40, 1, 0, 1);
    ht_cuda_mxfp8_args bad = {
        .x = NULL, .rows = 32, .cols = 33, .rule = HT_SCALE_FLOOR, .codes = (uint8_t *)256, .scales = (uint8_t *)256};
    cuda_verdict(ht_cuda_cast_mxfp8(&bad, NULL) == HT_ERR_SHAPE, "mxfp8 cast: 33 columns refused");
    bad.cols = 64;
    bad.rule = HT_SCALE_MSE;
    cuda_verdict(ht_cuda_cast_mxfp8(&bad, NULL) == HT_ERR_UNSUPPORTED, "mxfp8 cast: rule mse refused");
}

static ht_status run_mxfp8(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_cast_mxfp8(arg, NULL);
}

void cuda_bench_cast(void) {
    size_t rows = 16384, cols = 16384, count = rows * cols;
    uint16_t *x = cuda_random_bf16(count);
    void *dx = cuda_upload(x, count * 2), *copy = cuda_new(count * 2);
    uint8_t *codes = cuda_new(count), *codes_t = cuda_new(count);
    uint8_t *scales = cuda_new(count / BLOCK), *scales_t = cuda_new(count / BLOCK);
    cuda_copy_job job = {copy, dx, count * 2};
    ht_cuda_mxfp8_args row = {
        .x = dx, .rows = rows, .cols = cols, .rule = HT_SCALE_RCEIL, .codes = codes, .scales = scales};
    ht_cuda_mxfp8_args col = {
        .x = dx, .rows = rows, .cols = cols, .rule = HT_SCALE_RCEIL, .codes_t = codes_t, .scales_t = scales_t};
    ht_cuda_mxfp8_args both = row;
    both.codes_t = codes_t;
    both.scales_t = scales_t;
    double n = (double)count, one = n * (2 + 1 + 1.0 / BLOCK), two = n * (2 + 2 * (1 + 1.0 / BLOCK));
    cuda_contender contenders[] = {
        {"device copy", cuda_copy_run, &job, 0, n * 4},
        {"mxfp8 row-wise", run_mxfp8, &row, 0, one},
        {"mxfp8 column-wise", run_mxfp8, &col, 0, one},
        {"mxfp8 both", run_mxfp8, &both, 0, two},
    };
    cuda_measure("cast bf16 16384 x 16384", contenders, 4, 15, 4);
    free(x);
    cuda_delete(dx), cuda_delete(copy), cuda_delete(codes), cuda_delete(codes_t);
    cuda_delete(scales), cuda_delete(scales_t);
}
