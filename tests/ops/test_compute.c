/* The ways to compute a product with a quantized weight: auto, exact and fast. What each may change, and what never
 * changes: threads, rows of a batch, experts. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/linear.h>

#include "base/random.h"
#include "ops/linear.h"
#include "support/check.h"

enum { N = 150, K = 544, M = 21, E = 2 };

static float *random_values(size_t count, uint64_t stream) {
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = ht_random_normal(4, stream, i);
    return x;
}

/* y of expert 1 under one way to compute, and on so many threads. */
static void product(ht_compute compute, size_t threads, const char *scheme, const float *w, const float *x, size_t m,
                    float *y) {
    ht_context_options options = ht_context_options_default();
    options.compute = compute;
    options.threads = threads;
    ht_context *ctx;
    ht_linear *linear;
    REQUIRE_OK(ht_context_create(&options, &ctx));
    size_t before = ht_context_memory_used(ctx);
    ht_tensor weight = {.data = (void *)(uintptr_t)w, .dtype = HT_F32, .rank = 3, .shape = {E, N, K}};
    if (CHECK_OK(ht_linear_create(ctx, &weight, scheme, NULL, &linear))) {
        ht_tensor in = ht_tensor_view_2d((void *)(uintptr_t)x, HT_F32, m, K), out = ht_tensor_view_2d(y, HT_F32, m, N);
        CHECK_OK(ht_linear_forward_expert(ctx, linear, 1, &in, &out));
        ht_linear_destroy(linear);
    }
    CHECK_INT(ht_context_memory_used(ctx), before);
    ht_context_destroy(ctx);
}

static double difference(const float *a, const float *b) {
    double error = 0, size = 0;
    for (size_t i = 0; i < M * N; i++) {
        error += pow((double)a[i] - (double)b[i], 2);
        size += pow((double)b[i], 2);
    }
    return sqrt(error / size);
}

static void check_scheme(const char *scheme, double auto_least, double auto_most, double fast_least, double fast_most) {
    float *w = random_values(E * N * K, 1), *x = random_values(M * K, 2);
    static float exact[M * N], y[M * N], alone[N];
    product(HT_COMPUTE_EXACT, 1, scheme, w, x, M, exact);
    product(HT_COMPUTE_AUTO, 1, scheme, w, x, M, y);
    double by_auto = difference(y, exact);
    product(HT_COMPUTE_FAST, 1, scheme, w, x, M, y);
    double by_fast = difference(y, exact);
    if (!CHECK(by_auto >= auto_least && by_auto <= auto_most && by_fast >= fast_least && by_fast <= fast_most))
        fprintf(stderr, "  %s: auto %g, fast %g from exact\n", scheme, by_auto, by_fast);
    for (size_t threads = 2; threads < 5; threads++) {
        static float again[M * N];
        product(HT_COMPUTE_FAST, threads, scheme, w, x, M, again);
        CHECK_BYTES(again, y, sizeof again);
    }
    for (size_t i = 0; i < M; i += 5) { /* rows alone, and few of them */
        product(HT_COMPUTE_FAST, 2, scheme, w, x + i * K, 1, alone);
        CHECK_BYTES(alone, y + i * N, sizeof alone);
    }
    static float few[7 * N];
    product(HT_COMPUTE_FAST, 2, scheme, w, x + 3 * K, 7, few);
    CHECK_BYTES(few, y + 3 * N, sizeof few);
    free(w), free(x);
}

static void test_schemes(void) {
    check_scheme("int8", 1e-9, 1e-6, 1e-9, 1e-6); /* int8 inputs either way: only the rounding of sums differs */
    check_scheme("int4-g32-a8", 1e-9, 1e-6, 1e-9, 1e-6);
    check_scheme("int4-g32", 0, 0, 1e-3, 1e-2); /* float inputs: int8 of them costs half a percent */
    check_scheme("int3-g32-asym", 0, 0, 1e-3, 1e-2);
    check_scheme("mxfp4-w", 0, 0, 1e-3, 1e-2);
    check_scheme("int8-w", 0, 0, 1e-3, 1e-2);
    check_scheme("nvfp4-w", 0, 0, 1e-3, 1e-2);
    check_scheme("fp8-w", 0, 0, 0, 1e-2); /* no integers: bf16 where the CPU has a row for that */
    check_scheme("mxfp4", 0, 0, 0, 1e-2); /* inputs are MXFP4 */
}

/* A NaN among the inputs reaches every output of its row and no other. */
static void test_nan(void) {
    float *w = random_values(E * N * K, 1), *x = random_values(M * K, 2);
    static float y[M * N], clean[M * N];
    product(HT_COMPUTE_FAST, 2, "int4-g32", w, x, M, clean);
    x[4 * K + 77] = NAN;
    product(HT_COMPUTE_FAST, 2, "int4-g32", w, x, M, y);
    for (size_t n = 0; n < N; n++)
        CHECK(isnan(y[4 * N + n]));
    memcpy(y + 4 * N, clean + 4 * N, N * sizeof *y);
    CHECK_BYTES(y, clean, sizeof y);
    free(w), free(x);
}

/* Rows of a packed weight are those of the stored one: a tied embedding may read either. */
static void check_rows(const char *scheme, int packed) {
    ht_context_options options = ht_context_options_default();
    options.compute = HT_COMPUTE_FAST;
    ht_context *ctx;
    ht_linear *linear;
    float *w = random_values(E * N * K, 1), *want = malloc(sizeof *want * N * K), row[K];
    ht_tensor weight = {.data = w, .dtype = HT_F32, .rank = 3, .shape = {E, N, K}};
    REQUIRE_OK(ht_context_create(&options, &ctx));
    REQUIRE_OK(ht_linear_create(ctx, &weight, scheme, NULL, &linear));
    ht_planes planes = ht_weight_planes(ht_linear_weight(linear), 1);
    REQUIRE_OK(ht_format_dequantize(&ht_linear_weight(linear)->format, &planes, N, K, want));
    for (size_t n = 0; n < N; n++) {
        CHECK_INT(ht_linear_packed_row(linear, 1, n, row), packed);
        size_t k = 0;
        while (packed && k < K && row[k] == want[n * K + k])
            k++;
        CHECK(!packed || k == K);
    }
    ht_linear_destroy(linear);
    ht_context_destroy(ctx);
    free(w), free(want);
}

static void test_rows(void) {
    check_rows("mxfp4-w", 1);
    check_rows("nvfp4-w", 1);
    check_rows("int4-g32", 1);
    check_rows("int3-g32-asym", 1);
    check_rows("int8-w", 1);
    check_rows("fp8-w", 0);
}

int main(void) {
    RUN(test_rows);
    RUN(test_schemes);
    RUN(test_nan);
    return check_finish();
}
