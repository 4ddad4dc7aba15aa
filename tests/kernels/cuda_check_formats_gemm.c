/* Products of formats: weights in four bits, MXFP8 exact and folded, against f64 sums of the CPU's decoded values; then
 * the rates beside the vendor's bf16 product.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "kernels/cuda/cuda.h"

/* A matrix [rows, cols] in a format: planes on the host and on the device, and decoded. */
typedef struct matrix {
    ht_format format;
    ht_planes host, device;
    float *values, global;
} matrix;

static matrix make(const char *name, size_t rows, size_t cols, int decoded) {
    matrix x = {.values = malloc(decoded ? rows * cols * 4 : 4)};
    uint16_t *random = cuda_random_bf16(rows * cols);
    ht_row_options options = ht_row_options_default();
    ht_range range = ht_range_empty();
    options.scale_rule = strncmp(name, "mx", 2) == 0 ? HT_SCALE_RCEIL : HT_SCALE_DEFAULT;
    cuda_must(ht_format_parse(name, &x.format), name);
    cuda_must(ht_range_add(&range, random, HT_BF16, rows * cols), name);
    x.global = ht_format_global(&x.format, &options, &range);
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        x.host.plane[p] = calloc(1, ht_format_plane_bytes(&x.format, (ht_plane)p, rows, cols) + 4);
    memcpy(x.host.plane[HT_PLANE_GLOBAL], &x.global, 4);
    size_t step = decoded ? rows : 64; /* a large one repeats its first rows */
    cuda_must(ht_format_quantize(&x.format, &options, random, HT_BF16, step, cols, &x.host), name);
    for (size_t r = step; r < rows; r += step)
        for (int p = 0; p < 2; p++) {
            size_t bytes = ht_format_plane_bytes(&x.format, (ht_plane)p, step, cols);
            memcpy((char *)x.host.plane[p] + r / step * bytes, x.host.plane[p], bytes);
        }
    if (decoded)
        cuda_must(ht_format_dequantize(&x.format, &x.host, rows, cols, x.values), name);
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        x.device.plane[p] = cuda_upload(x.host.plane[p], ht_format_plane_bytes(&x.format, (ht_plane)p, rows, cols) + 4);
    free(random);
    return x;
}

static void drop(matrix *x) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(x->host.plane[p]), cuda_delete(x->device.plane[p]);
    free(x->values);
}

static double error_of(const uint16_t *got, const float *a, const float *b, size_t m, size_t n, size_t k) {
    double squares = 0, reference = 0;
    for (size_t s = 0; s < 3000; s++) {
        size_t i = cuda_random() % (m * n), row = i / n, column = i % n;
        double sum = 0;
        for (size_t j = 0; j < k; j++)
            sum += (double)a[row * k + j] * (double)b[column * k + j];
        double e = (double)cuda_bf16_value(got[i]) - sum;
        squares += isnan(e) ? 1e300 : e * e;
        reference += sum * sum;
    }
    return sqrt(squares / reference);
}

static void check_weight(const char *name, size_t m, size_t n, size_t k) {
    matrix w = make(name, n, k, 1);
    uint16_t *x = cuda_random_bf16(m * k);
    float *values = malloc(m * k * 4);
    for (size_t i = 0; i < m * k; i++)
        values[i] = cuda_bf16_value(x[i]);
    size_t bytes = ht_cuda_gemm_weight_scratch(n, k);
    void *dx = cuda_upload(x, m * k * 2), *scratch = cuda_new(bytes);
    cuda_guarded d = cuda_guarded_new(m * n * 2);
    ht_cuda_gemm_weight_args args = {.m = m,
                                     .n = n,
                                     .k = k,
                                     .x = dx,
                                     .format = &w.format,
                                     .weight = w.device,
                                     .d = d.at,
                                     .out = HT_BF16,
                                     .scratch = scratch,
                                     .scratch_bytes = bytes};
    cuda_must(ht_cuda_gemm_weight(&args, NULL), name);
    uint16_t *got = cuda_guarded_take(&d, name);
    double e = error_of(got, values, w.values, m, n, k);
    /* weights of 5 or more significant bits are rounded once more, to bf16 */
    cuda_verdict(e < 3.5e-3, "weight product %s %zu x %zu x %zu: error %.2e", name, m, n, k, e);
    free(x), free(values), free(got);
    cuda_delete(dx), cuda_delete(scratch);
    drop(&w);
}

static void check_mxfp8(size_t m, size_t n, size_t k, int folded) {
    matrix a = make("mxfp8", m, k, 1), b = make("mxfp8", n, k, 1);
    size_t bytes = ht_cuda_gemm_mxfp8_scratch(m, n, k, folded);
    void *scratch = cuda_new(bytes);
    cuda_guarded d = cuda_guarded_new(m * n * 2);
    ht_cuda_gemm_mxfp8_args args = {.m = m,
                                    .n = n,
                                    .k = k,
                                    .a = a.device.plane[HT_PLANE_CODES],
                                    .a_scales = a.device.plane[HT_PLANE_SCALES],
                                    .b = b.device.plane[HT_PLANE_CODES],
                                    .b_scales = b.device.plane[HT_PLANE_SCALES],
                                    .d = d.at,
                                    .out = HT_BF16,
                                    .folded = folded,
                                    .scratch = scratch,
                                    .scratch_bytes = bytes};
    cuda_must(ht_cuda_gemm_mxfp8(&args, NULL), "mxfp8 product");
    uint16_t *got = cuda_guarded_take(&d, "mxfp8 product");
    double e = error_of(got, a.values, b.values, m, n, k);
    cuda_verdict(e < (folded ? 1e-2 : 2e-3), "mxfp8 product %s %zu x %zu x %zu: error %.2e",
                 folded ? "folded" : "exact", m, n, k, e);
    args.scratch_bytes = 16;
    cuda_verdict(ht_cuda_gemm_mxfp8(&args, NULL) == HT_ERR_ARGUMENT, "mxfp8 product: small scratch refused");
    free(got);
    cuda_delete(scratch);
    drop(&a), drop(&b);
}

static const char *const weights[] = {"int4_g128", "mxfp4", "nvfp4", "nf4_flat", "int8_row", "fp8_row"};

void cuda_check_formats_gemm(void) {
    for (size_t i = 0; i < sizeof weights / sizeof weights[0]; i++) {
        check_weight(weights[i], 70, 264, 384);
        check_weight(weights[i], 33, 512, 1024);
    }
    for (int folded = 0; folded < 2; folded++) {
        check_mxfp8(70, 264, 384, folded);
        check_mxfp8(300, 512, 2048, folded);
    }
}

static ht_status run_weight(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_gemm_weight(arg, NULL);
}

static ht_status run_mxfp8(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_gemm_mxfp8(arg, NULL);
}

static void bench_weights(void) {
    enum { COUNT = sizeof weights / sizeof weights[0] };
    const size_t m = 4096, n = 8192, k = 8192;
    static matrix w[COUNT];
    static ht_cuda_gemm_weight_args args[COUNT];
    cuda_contender contenders[COUNT + 1];
    uint16_t *x = cuda_random_bf16(m * k), *plain = cuda_random_bf16(n * k);
    void *dx = cuda_upload(x, m * k * 2), *dw = cuda_upload(plain, n * k * 2), *d = cuda_new(m * n * 2);
    size_t bytes = ht_cuda_gemm_weight_scratch(n, k);
    void *scratch = cuda_new(bytes);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    int count = 0;
    cuda_vendor_gemm *vendor = cuda_vendor_gemm_new(m, n, k, dx, dw, d, CUDA_VENDOR_BF16, NULL, NULL);
    if (vendor)
        contenders[count++] = (cuda_contender){"cuBLASLt bf16", cuda_vendor_gemm_run, vendor, flops, 0};
    for (int i = 0; i < COUNT; i++) {
        w[i] = make(weights[i], n, k, 0);
        args[i] = (ht_cuda_gemm_weight_args){.m = m,
                                             .n = n,
                                             .k = k,
                                             .x = dx,
                                             .format = &w[i].format,
                                             .weight = w[i].device,
                                             .d = d,
                                             .out = HT_BF16,
                                             .scratch = scratch,
                                             .scratch_bytes = bytes};
        contenders[count++] = (cuda_contender){weights[i], run_weight, &args[i], flops, 0};
    }
    cuda_measure("prefill, weight formats x bf16, 4096 x 8192 x 8192", contenders, count, 11, 4);
    cuda_vendor_gemm_delete(vendor);
    for (int i = 0; i < COUNT; i++)
        drop(&w[i]);
    free(x), free(plain);
    cuda_delete(dx), cuda_delete(dw), cuda_delete(d), cuda_delete(scratch);
}

static void bench_mxfp8(size_t m, size_t n, size_t k) {
    matrix a = make("mxfp8", m, k, 0), b = make("mxfp8", n, k, 0);
    uint16_t *a16 = cuda_random_bf16(m * k), *b16 = cuda_random_bf16(n * k);
    void *da = cuda_upload(a16, m * k * 2), *db = cuda_upload(b16, n * k * 2), *d = cuda_new(m * n * 2);
    size_t bytes = ht_cuda_gemm_mxfp8_scratch(m, n, k, 0) + ht_cuda_gemm_mxfp8_scratch(m, n, k, 1);
    void *scratch = cuda_new(bytes);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    ht_cuda_gemm_mxfp8_args args[2];
    cuda_contender contenders[3];
    int count = 0;
    cuda_vendor_gemm *vendor = cuda_vendor_gemm_new(m, n, k, da, db, d, CUDA_VENDOR_BF16, NULL, NULL);
    if (vendor)
        contenders[count++] = (cuda_contender){"cuBLASLt bf16", cuda_vendor_gemm_run, vendor, flops, 0};
    for (int i = 0; i < 2; i++) {
        args[i] = (ht_cuda_gemm_mxfp8_args){.m = m,
                                            .n = n,
                                            .k = k,
                                            .a = a.device.plane[HT_PLANE_CODES],
                                            .a_scales = a.device.plane[HT_PLANE_SCALES],
                                            .b = b.device.plane[HT_PLANE_CODES],
                                            .b_scales = b.device.plane[HT_PLANE_SCALES],
                                            .d = d,
                                            .out = HT_BF16,
                                            .folded = i,
                                            .scratch = scratch,
                                            .scratch_bytes = bytes};
        contenders[count++] = (cuda_contender){i ? "folded, both sides each time" : "exact, both sides each time",
                                               run_mxfp8, &args[i], flops, 0};
    }
    char title[96];
    snprintf(title, sizeof title, "gemm mxfp8 %zu x %zu x %zu", m, n, k);
    cuda_measure(title, contenders, count, 11, 4);
    cuda_vendor_gemm_delete(vendor);
    free(a16), free(b16);
    cuda_delete(da), cuda_delete(db), cuda_delete(d), cuda_delete(scratch);
    drop(&a), drop(&b);
}

void cuda_bench_formats_gemm(void) {
    bench_weights();
    bench_mxfp8(8192, 8192, 8192);
    bench_mxfp8(4096, 4096, 4096);
    bench_mxfp8(16384, 2048, 7168);
}
