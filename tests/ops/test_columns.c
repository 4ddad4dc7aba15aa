/* Casts down the columns: the bytes of transposing first and casting rows, for any number of threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/cast.h>

#include "base/random.h"
#include "support/check.h"

static void check_format(const char *name, ht_dtype dtype, size_t rows, size_t cols, size_t threads) {
    ht_format format;
    ht_context *ctx;
    ht_context_options options = ht_context_options_default();
    ht_row_options rules = ht_row_options_default();
    options.threads = threads;
    REQUIRE_OK(ht_format_parse(name, &format));
    REQUIRE_OK(ht_context_create(&options, &ctx));
    size_t size = ht_dtype_bits(dtype) / 8, before = ht_context_memory_used(ctx);
    char *x = malloc(rows * cols * size), *turned = malloc(rows * cols * size);
    for (size_t i = 0; i < rows * cols; i++) {
        float value = ht_random_normal(1, 2, i);
        ht_convert(&value, HT_F32, x + i * size, dtype, 1);
        memcpy(turned + (i % cols * rows + i / cols) * size, x + i * size, size);
    }
    ht_planes got = {{NULL}}, want = {{NULL}};
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&format, (ht_plane)p, cols, rows);
        got.plane[p] = bytes ? memset(malloc(bytes), 1, bytes) : NULL;
        want.plane[p] = bytes ? memset(malloc(bytes), 2, bytes) : NULL;
    }
    for (int i = 0; i < 2 && format.global != HT_DTYPE_NONE; i++)
        *(float *)(i ? got : want).plane[HT_PLANE_GLOBAL] = 3;
    CHECK_OK(ht_format_quantize(&format, &rules, turned, dtype, cols, rows, &want));
    CHECK_OK(ht_quantize_columns(ctx, &format, &rules, x, dtype, rows, cols, &got));
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&format, (ht_plane)p, cols, rows);
        if (bytes && !CHECK_BYTES(got.plane[p], want.plane[p], bytes))
            printf("  %s, %zu x %zu, %zu threads\n", name, rows, cols, threads);
        free(got.plane[p]), free(want.plane[p]);
    }
    CHECK_INT(ht_context_memory_used(ctx), before);
    free(x), free(turned);
    ht_context_destroy(ctx);
}

static void test_columns(void) {
    static const char *const names[] = {"mxfp8",      "mxfp4",    "mxfp6_e2m3", "mxint8",   "int8_row",
                                        "fp8_tensor", "int4_g32", "nvfp4",      "fp8_block"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (size_t threads = 1; threads < 4; threads += 2) {
            check_format(names[n], HT_BF16, 64, 100, threads);
            check_format(names[n], HT_F32, 96, 33, threads);
            check_format(names[n], HT_F16, 32, 1, threads);
            check_format(names[n], HT_BF16, 160, 300, threads);
            check_format(names[n], HT_BF16, 2048 + 64, 140, threads); /* more than one piece of rows */
        }
}

static void test_refused(void) {
    ht_format format;
    ht_context *ctx;
    float x[33 * 2] = {0};
    uint8_t codes[66];
    ht_planes planes = {{codes, codes, NULL}};
    REQUIRE_OK(ht_context_create(NULL, &ctx));
    REQUIRE_OK(ht_format_parse("mxfp8", &format));
    CHECK(ht_quantize_columns(ctx, &format, NULL, x, HT_F32, 33, 2, &planes) == HT_ERR_SHAPE); /* 33 rows */
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_columns);
    RUN(test_refused);
    return check_finish();
}
