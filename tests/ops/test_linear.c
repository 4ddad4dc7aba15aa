/* Linear layers: made from floats under every scheme, borrowed, batched, transposed, with bias and quantized inputs. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/linear.h>
#include <halftone/recipe.h>

#include "base/random.h"
#include "ops/input_transform.h"
#include "ops/linear.h"
#include "support/check.h"

enum { N = 70, K = 128, M = 9, E = 3 };

static ht_context *ctx;

static float *random_values(size_t count, uint64_t stream) {
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = ht_random_normal(3, stream, i);
    return x;
}

/* y = x W^T + bias in f64. */
static void by_hand(const float *x, const float *w, const float *bias, double *y) {
    for (size_t i = 0; i < M; i++)
        for (size_t j = 0; j < N; j++) {
            y[i * N + j] = bias ? (double)bias[j] : 0;
            for (size_t q = 0; q < K; q++)
                y[i * N + j] += (double)x[i * K + q] * (double)w[j * K + q];
        }
}

static void compare(const float *got, const double *want) {
    for (size_t i = 0; i < M * N; i++)
        if (!CHECK_WITHIN((double)got[i], want[i], 2e-4))
            return;
}

/* What the scheme stores and what it makes of x, by the format module alone; then the product by hand. */
static void check_scheme(const char *name) {
    float *w = random_values(N * K, 1), *x = random_values(M * K, 2), *bias = random_values(N, 3);
    float y[M * N], alone[N];
    double want[M * N];
    ht_scheme scheme;
    ht_linear *linear;
    ht_tensor weight = ht_tensor_view_2d(w, HT_F32, N, K), in = ht_tensor_view_2d(x, HT_F32, M, K),
              out = ht_tensor_view_2d(y, HT_F32, M, N);
    REQUIRE_OK(ht_scheme_parse(name, &scheme));
    REQUIRE_OK(ht_linear_create(ctx, &weight, name, &(ht_linear_options){.bias = bias}, &linear));
    CHECK_INT(ht_linear_bytes(linear), ht_format_bytes(&scheme.weight, N, K));
    REQUIRE_OK(ht_linear_forward(ctx, linear, &in, &out));
    ht_planes planes = ht_weight_planes(ht_linear_weight(linear), 0);
    CHECK_OK(ht_format_dequantize(&scheme.weight, &planes, N, K, w));
    if (scheme.has_input) {
        ht_workspace workspace;
        ht_workspace_init(&workspace, ctx);
        float *cast = malloc(M * K * sizeof *cast);
        CHECK_OK(ht_quantize_inputs(&workspace, &scheme.input, scheme.input_rule, x, M, K, K, cast));
        CHECK(memcmp(cast, x, M * K * sizeof *x) != 0);
        by_hand(cast, w, bias, want);
        free(cast);
        ht_workspace_release(&workspace);
    } else {
        by_hand(x, w, bias, want);
    }
    compare(y, want);
    for (size_t i = 0; i < M; i++) { /* a row alone: the same bits */
        ht_tensor row = ht_tensor_view_2d(x + i * K, HT_F32, 1, K), to = ht_tensor_view_2d(alone, HT_F32, 1, N);
        CHECK_OK(ht_linear_forward(ctx, linear, &row, &to));
        if (!CHECK_BYTES(alone, y + i * N, sizeof alone))
            fprintf(stderr, "  of %s\n", name);
    }
    ht_linear_destroy(linear);
    free(w), free(x), free(bias);
}

static void test_schemes(void) {
    static const char *const NAMES[] = {"mxfp4", "mxfp4-w", "mxfp8",  "mxfp4-a8", "nvfp4",         "nvfp4-w", "fp8",
                                        "fp8-w", "int8",    "int8-w", "int4",     "int4-g32-asym", "int4-a8", "nf4"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        check_scheme(NAMES[i]);
}

static void test_experts(void) {
    float *w = random_values(E * N * K, 4), *x = random_values(M * K, 5), *bias = random_values(E * N, 6), y[M * N];
    double want[M * N];
    ht_weight weight = {.batch = E, .rows = N, .cols = K, .plane = {w}, .stride = {N * K * sizeof *w}};
    CHECK_OK(ht_format_parse("f32", &weight.format));
    ht_linear *linear;
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, &(ht_linear_options){.bias = bias}, &linear));
    ht_tensor in = ht_tensor_view_2d(x, HT_F32, M, K), out = ht_tensor_view_2d(y, HT_F32, M, N);
    for (size_t e = 0; e < E; e++) {
        CHECK_OK(ht_linear_forward_expert(ctx, linear, e, &in, &out));
        by_hand(x, w + e * N * K, bias + e * N, want);
        compare(y, want);
    }
    CHECK_FAILS(ht_linear_forward_expert(ctx, linear, E, &in, &out), HT_ERR_ARGUMENT);
    ht_linear_destroy(linear);
    float *turned = malloc(N * K * sizeof *turned); /* the first expert as [inputs, outputs] */
    for (size_t k = 0; k < K; k++)
        for (size_t n = 0; n < N; n++)
            turned[k * N + n] = w[n * K + k];
    weight.batch = weight.transposed = 1;
    weight.plane[0] = turned;
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, NULL, &linear));
    CHECK_OK(ht_linear_forward(ctx, linear, &in, &out));
    by_hand(x, w, NULL, want);
    compare(y, want);
    ht_linear_destroy(linear);
    free(w), free(x), free(bias), free(turned);
}

/* Inputs are quantized row by row, whatever the extent of the format's scale. */
static void test_inputs(void) {
    static const char *const NAMES[] = {"nvfp4", "fp8_tensor", "int8_token", "mxfp8", "fp8_row"};
    float *x = random_values(M * K, 7), all[M * K], one[K];
    for (size_t k = 0; k < K; k++)
        x[k] *= 1e4f; /* a loud first row must not touch the others */
    ht_workspace workspace;
    ht_workspace_init(&workspace, ctx);
    for (size_t f = 0; f < sizeof NAMES / sizeof *NAMES; f++) {
        ht_format format;
        REQUIRE_OK(ht_format_parse(NAMES[f], &format));
        CHECK_OK(ht_quantize_inputs(&workspace, &format, HT_SCALE_DEFAULT, x, M, K, K, all));
        for (size_t i = 0; i < M; i++) {
            CHECK_OK(ht_quantize_inputs(&workspace, &format, HT_SCALE_DEFAULT, x + i * K, 1, K, K, one));
            CHECK_BYTES(one, all + i * K, sizeof one);
            double error = 0, size = 0;
            for (size_t k = 0; k < K; k++) {
                error += pow((double)(one[k] - x[i * K + k]), 2);
                size += pow((double)x[i * K + k], 2);
            }
            CHECK(error > 0 && error < 0.02 * size);
        }
    }
    ht_workspace_release(&workspace);
    free(x);
}

/* Experts stored for inputs that are scaled and mixed: the product is that of the weights before. */
static void check_transformed(size_t block, int scaled) {
    float *w = random_values(E * N * K, 11), *x = random_values(M * K, 12), *scale = random_values(E * K, 13), y[M * N];
    float *stored = malloc(E * N * K * sizeof *w);
    double want[M * N];
    for (size_t i = 0; i < E * K; i++)
        scale[i] = 0.25f + fabsf(scale[i]);
    memcpy(stored, w, E * N * K * sizeof *w);
    ht_weight weight = {.batch = E, .rows = N, .cols = K, .plane = {stored}, .stride = {N * K * sizeof *w}};
    weight.inputs = (ht_input_transform){.scale = scaled ? scale : NULL, .block = block};
    CHECK_OK(ht_format_parse("f32", &weight.format));
    ht_transformer transformer;
    ht_linear *linear;
    REQUIRE_OK(ht_transformer_init(&transformer, ctx, &weight.inputs, K));
    for (size_t e = 0; e < E; e++)
        ht_transform_weights(&transformer, e, stored + e * N * K, N);
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, NULL, &linear));
    ht_tensor in = ht_tensor_view_2d(x, HT_F32, M, K), out = ht_tensor_view_2d(y, HT_F32, M, N);
    for (size_t e = 0; e < E; e++) {
        CHECK_OK(ht_linear_forward_expert(ctx, linear, e, &in, &out));
        by_hand(x, w + e * N * K, NULL, want);
        compare(y, want);
        ht_restore_weights(&transformer, e, stored + e * N * K, N);
    }
    CHECK_F32_WITHIN(stored, w, E * N * K, 1e-5);
    ht_transformer_release(&transformer);
    ht_linear_destroy(linear);
    free(w), free(x), free(scale), free(stored);
}

/* Jobs on the same rows, transformed in two ways, quantized or not: each has the bits that it has alone, and those of
 * a linear without transform on rows that were transformed before. */
static void check_transformed_jobs(const char *input, size_t block) {
    enum { JOBS = 5 };
    float *w = random_values(N * K, 14), *x = random_values(M * K, 15), *turned = malloc(M * K * sizeof *x);
    float y[JOBS][M * N], alone[M * N];
    ht_weight weight = {.batch = 1, .rows = N, .cols = K, .plane = {w}, .stride = {N * K * sizeof *w}};
    ht_format format;
    ht_linear *mixed, *plain;
    ht_workspace workspace;
    ht_transformer transformer;
    CHECK_OK(ht_format_parse("f32", &weight.format));
    CHECK_OK(ht_format_parse(input ? input : "f32", &format));
    const ht_linear_options options = {.input = input ? &format : NULL};
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, &options, &plain));
    weight.inputs.block = block;
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, &options, &mixed));
    REQUIRE_OK(ht_transformer_init(&transformer, ctx, &weight.inputs, K));
    CHECK_OK(ht_transform_inputs(&transformer, 0, x, M, K, turned));
    ht_workspace_init(&workspace, ctx);
    ht_linear_job jobs[JOBS];
    for (size_t i = 0; i < JOBS; i++)
        jobs[i] =
            (ht_linear_job){.linear = i == 2 ? plain : mixed, .x = x, .m = M, .x_stride = K, .y = y[i], .y_stride = N};
    CHECK_OK(ht_linear_run(jobs, JOBS, &workspace));
    ht_linear_job one = {.linear = plain, .x = turned, .m = M, .x_stride = K, .y = alone, .y_stride = N};
    CHECK_OK(ht_linear_run(&one, 1, &workspace));
    for (size_t i = 0; i < JOBS; i++)
        CHECK((memcmp(y[i], alone, sizeof alone) == 0) == (i != 2));
    one.x = x;
    CHECK_OK(ht_linear_run(&one, 1, &workspace));
    CHECK_BYTES(y[2], alone, sizeof alone);
    ht_workspace_release(&workspace);
    ht_transformer_release(&transformer);
    ht_linear_destroy(mixed);
    ht_linear_destroy(plain);
    free(w), free(x), free(turned);
}

static void test_transformed(void) {
    static const size_t BLOCKS[] = {0, 2, 16, 32, 128};
    for (size_t i = 0; i < sizeof BLOCKS / sizeof *BLOCKS; i++) {
        check_transformed(BLOCKS[i], 1);
        check_transformed(BLOCKS[i], 0);
    }
    check_transformed_jobs(NULL, 32);
    check_transformed_jobs("int8_row", 64);
    check_transformed_jobs("mxfp4", 32);
    ht_weight weight = {.batch = 1, .rows = 4, .cols = 96, .inputs.block = 64};
    ht_linear *linear;
    CHECK_OK(ht_format_parse("f32", &weight.format));
    CHECK_FAILS(ht_linear_from_weight(ctx, &weight, NULL, &linear), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "blocks of 64 do not divide 96 inputs");
    weight.inputs.block = 7;
    CHECK_FAILS(ht_linear_from_weight(ctx, &weight, NULL, &linear), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "no Hadamard matrix of 7");
}

/* One scale for all inputs: codes by hand. */
static void test_static_input(void) {
    float *w = random_values(N * K, 16), *x = random_values(M * K, 17), *cast = malloc(M * K * sizeof *x), y[M * N];
    const float scale = 0.125f;
    double want[M * N];
    ht_weight weight = {.batch = 1, .rows = N, .cols = K, .plane = {w}, .stride = {N * K * sizeof *w}};
    ht_format input;
    ht_linear *linear;
    x[3] = 100; /* beyond the range: 127 * scale */
    for (size_t i = 0; i < M * K; i++) {
        float code = nearbyintf(x[i] / scale);
        code = code > 127 ? 127 : code < -128 ? -128 : code;
        cast[i] = code * scale;
    }
    CHECK_OK(ht_format_parse("f32", &weight.format));
    CHECK_OK(ht_format_parse("int8_tensor", &input));
    ht_linear_options options = {.input = &input, .input_scale = scale};
    REQUIRE_OK(ht_linear_from_weight(ctx, &weight, &options, &linear));
    ht_tensor in = ht_tensor_view_2d(x, HT_F32, M, K), out = ht_tensor_view_2d(y, HT_F32, M, N);
    CHECK_OK(ht_linear_forward(ctx, linear, &in, &out));
    by_hand(cast, w, NULL, want);
    compare(y, want);
    ht_linear_destroy(linear);
    options.input_scale = -1;
    CHECK_FAILS(ht_linear_from_weight(ctx, &weight, &options, &linear), HT_ERR_FORMAT);
    options.input_scale = 1;
    CHECK_OK(ht_format_parse("mxfp4", &input));
    CHECK_FAILS(ht_linear_from_weight(ctx, &weight, &options, &linear), HT_ERR_FORMAT);
    free(w), free(x), free(cast);
}

static void test_bf16(void) {
    float *w = random_values(N * K, 8), *x = random_values(M * K, 9), y[M * N], wide[M * N];
    uint16_t x16[M * K], y16[M * N], want[M * N];
    CHECK_OK(ht_convert(x, HT_F32, x16, HT_BF16, M * K));
    CHECK_OK(ht_convert(x16, HT_BF16, x, HT_F32, M * K));
    ht_tensor weight = ht_tensor_view_2d(w, HT_F32, N, K);
    ht_linear *linear;
    REQUIRE_OK(ht_linear_create(ctx, &weight, "int8-w", NULL, &linear));
    ht_tensor in = ht_tensor_view_2d(x, HT_F32, M, K), out = ht_tensor_view_2d(y, HT_F32, M, N);
    ht_tensor in16 = ht_tensor_view_2d(x16, HT_BF16, M, K), out16 = ht_tensor_view_2d(y16, HT_BF16, M, N);
    CHECK_OK(ht_linear_forward(ctx, linear, &in, &out));
    CHECK_OK(ht_linear_forward(ctx, linear, &in16, &out16));
    CHECK_OK(ht_convert(y, HT_F32, want, HT_BF16, M * N));
    CHECK_BYTES(y16, want, sizeof want);
    CHECK_OK(ht_convert(y16, HT_BF16, wide, HT_F32, M * N));
    CHECK(wide[0] != 0);
    ht_linear_destroy(linear);
    free(w), free(x);
}

static void test_refusals(void) {
    float w[4 * 32] = {0}, x[32] = {0}, y[8];
    ht_linear *linear;
    ht_tensor weight = ht_tensor_view_2d(w, HT_F32, 4, 32);
    CHECK_FAILS(ht_linear_create(ctx, &weight, "mxfp5", NULL, &linear), HT_ERR_ARGUMENT);
    weight.shape[1] = 31;
    CHECK_FAILS(ht_linear_create(ctx, &weight, "mxfp4", NULL, &linear), HT_ERR_SHAPE);
    CHECK(linear == NULL);
    weight.shape[1] = 32;
    weight.dtype = HT_I8;
    CHECK_FAILS(ht_linear_create(ctx, &weight, "mxfp4", NULL, &linear), HT_ERR_UNSUPPORTED);
    weight.dtype = HT_F32;
    REQUIRE_OK(ht_linear_create(ctx, &weight, "mxfp4-w", NULL, &linear));
    ht_tensor in = ht_tensor_view_2d(x, HT_F32, 1, 16), out = ht_tensor_view_2d(y, HT_F32, 1, 4);
    CHECK_FAILS(ht_linear_forward(ctx, linear, &in, &out), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "x is [1, 16]");
    in.shape[1] = 32;
    in.dtype = HT_F16;
    CHECK_FAILS(ht_linear_forward(ctx, linear, &in, &out), HT_ERR_UNSUPPORTED);
    ht_linear_destroy(linear);
    ht_linear_destroy(NULL);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_schemes);
    RUN(test_experts);
    RUN(test_inputs);
    RUN(test_transformed);
    RUN(test_static_input);
    RUN(test_bf16);
    RUN(test_refusals);
    ht_context_destroy(ctx);
    return check_finish();
}
