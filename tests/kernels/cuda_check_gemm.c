/* Matrix products: every kernel on odd shapes, alignments and epilogues against f64 sums, then the large shapes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "kernels/cuda/cuda.h"

typedef struct problem {
    size_t m, n, k, pad; /* pad: extra elements a row */
    int fp8, f32_out, epilogue, accumulate;
    ht_gemm_kernel kernel;
} problem;

enum { SCALES = 1, BIAS = 2 };

static float operand(const void *x, int fp8, size_t at) {
    return fp8 ? cuda_e4m3_value(((const uint8_t *)x)[at]) : cuda_bf16_value(((const uint16_t *)x)[at]);
}

static float *random_floats(size_t count) {
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = 0.5f + (float)(cuda_random() % 1000) * 1e-3f;
    return x;
}

/* Largest and root mean square error over checked elements, relative to the reference's root mean square. */
typedef struct error {
    double squares, reference, largest;
    size_t count;
} error;

static void add_error(error *e, double got, double want) {
    double d = isnan(got) ? 1e300 : fabs(got - want);
    e->squares += d * d;
    e->reference += want * want;
    e->largest = d > e->largest ? d : e->largest;
    e->count++;
}

static double relative(const error *e) {
    return sqrt(e->squares / e->reference);
}

static double largest(const error *e) {
    return e->largest / sqrt(e->reference / (double)e->count);
}

static void check_one(const problem *p) {
    size_t ld = p->k + p->pad, ldd = p->n + p->pad, bytes = p->fp8 ? 1 : 2, out_bytes = p->f32_out ? 4 : 2;
    void *a = p->fp8 ? (void *)cuda_random_e4m3(p->m * ld) : cuda_random_bf16(p->m * ld);
    void *b = p->fp8 ? (void *)cuda_random_e4m3(p->n * ld) : cuda_random_bf16(p->n * ld);
    float *sa = random_floats(p->m), *sb = random_floats(p->n), *bias = random_floats(p->n);
    void *da = cuda_upload(a, p->m * ld * bytes), *db = cuda_upload(b, p->n * ld * bytes);
    void *dsa = cuda_upload(sa, p->m * 4), *dsb = cuda_upload(sb, p->n * 4), *dbias = cuda_upload(bias, p->n * 4);
    cuda_guarded d = cuda_guarded_new((p->m - 1) * ldd * out_bytes + p->n * out_bytes);
    if (p->accumulate)
        cuda_must(ht_device_fill(cuda_device, d.at, 0, d.bytes, NULL), "fill");
    ht_cuda_gemm_args args = {.m = p->m,
                              .n = p->n,
                              .k = p->k,
                              .a = da,
                              .b = db,
                              .d = d.at,
                              .lda = ld,
                              .ldb = ld,
                              .ldd = ldd,
                              .in = p->fp8 ? HT_F8_E4M3 : HT_BF16,
                              .out = p->f32_out ? HT_F32 : HT_BF16,
                              .scale_a = p->epilogue & SCALES ? dsa : NULL,
                              .scale_b = p->epilogue & SCALES ? dsb : NULL,
                              .bias = p->epilogue & BIAS ? dbias : NULL,
                              .accumulate = p->accumulate,
                              .kernel = p->kernel};
    ht_status status = HT_OK;
    for (int i = 0; i < 1 + p->accumulate && status == HT_OK; i++)
        status = ht_cuda_gemm(&args, NULL);
    if (status == HT_OK)
        status = ht_device_finish(cuda_device, NULL);
    if (status != HT_OK) {
        cuda_verdict(0, "gemm %zu x %zu x %zu: %s", p->m, p->n, p->k, ht_error_message());
        exit(1);
    }
    void *out = cuda_guarded_take(&d, "gemm");
    error e = {0};
    size_t samples = p->m * p->n < 20000 ? p->m * p->n : 2000, gap_touched = 0;
    for (size_t s = 0; s < samples; s++) {
        size_t i = samples == p->m * p->n ? s : cuda_random() % (p->m * p->n), row = i / p->n, col = i % p->n;
        double sum = 0;
        for (size_t k = 0; k < p->k; k++)
            sum += (double)operand(a, p->fp8, row * ld + k) * (double)operand(b, p->fp8, col * ld + k);
        if (p->epilogue & SCALES)
            sum *= (double)sa[row] * (double)sb[col];
        if (p->epilogue & BIAS)
            sum += (double)bias[col];
        size_t at = row * ldd + col;
        float got = p->f32_out ? ((float *)out)[at] : cuda_bf16_value(((uint16_t *)out)[at]);
        add_error(&e, (double)got, sum * (1 + p->accumulate));
    }
    for (size_t row = 0; p->pad && row + 1 < p->m; row++)
        for (size_t i = 0; i < p->pad * out_bytes && !p->accumulate; i++)
            gap_touched += ((uint8_t *)out)[(row * ldd + p->n) * out_bytes + i] != 0xA5;
    /* rounding to bf16 leaves 1.7e-3 of noise at most; fp8 chains keep about 14 bits; bf16 chains truncate to f32
     * once per 16 terms */
    double chain = p->fp8 && p->kernel != HT_GEMM_PORTABLE ? 2e-3 : 0x1p-24 * ((double)p->k / 16 + 16);
    double limit = (p->f32_out ? 0 : 2e-3) + chain;
    int ok = relative(&e) < limit && largest(&e) < 12 * limit && !gap_touched;
    cuda_verdict(ok, "gemm %-13s %s->%s %5zu x %5zu x %5zu pad %zu epilogue %d acc %d: error %.2e, largest %.2e%s",
                 ht_gemm_kernel_name(p->kernel), p->fp8 ? "fp8 " : "bf16", p->f32_out ? "f32 " : "bf16", p->m, p->n,
                 p->k, p->pad, p->epilogue, p->accumulate, relative(&e), largest(&e),
                 gap_touched ? ", wrote between rows" : "");
    free(a), free(b), free(sa), free(sb), free(bias), free(out);
    cuda_delete(da), cuda_delete(db), cuda_delete(dsa), cuda_delete(dsb), cuda_delete(dbias);
}

void cuda_check_gemm(void) {
    static const size_t shapes[][4] = {{128, 256, 64, 0},   {256, 256, 512, 0},   {1, 8, 16, 0},
                                       {129, 264, 208, 0},  {300, 520, 1040, 16}, {1000, 776, 2000, 0},
                                       {64, 2048, 4096, 0}, {515, 1032, 336, 8},  {3000, 4104, 784, 0}};
    for (int fp8 = 0; fp8 < 2; fp8++)
        for (int kernel = HT_GEMM_SM90_128X256; kernel <= HT_GEMM_SM90_SINGLE; kernel++)
            for (size_t i = 0; kernel != HT_GEMM_SM90_128X192 && i < sizeof shapes / sizeof shapes[0]; i++) {
                problem p = {shapes[i][0],      shapes[i][1], shapes[i][2],      shapes[i][3],          fp8,
                             (int)(i % 3 == 2), (int)(i % 4), (int)(i % 6 == 2), (ht_gemm_kernel)kernel};
                if (fp8 && (p.k + p.pad) % 16)
                    p.pad += 8;
                check_one(&p);
            }
    static const problem odd[] = {
        {37, 61, 53, 0, 0, 0, SCALES | BIAS, 0, HT_GEMM_AUTO}, {37, 61, 53, 0, 1, 1, SCALES, 1, HT_GEMM_AUTO},
        {200, 131, 256, 0, 0, 0, 0, 0, HT_GEMM_AUTO},          {200, 131, 256, 0, 1, 0, SCALES, 0, HT_GEMM_AUTO},
        {65, 70, 1, 0, 0, 1, 0, 0, HT_GEMM_PORTABLE},          {4096, 4096, 4096, 0, 0, 0, 0, 0, HT_GEMM_AUTO},
        {4096, 4096, 4096, 0, 1, 0, SCALES, 0, HT_GEMM_AUTO},
    };
    for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++)
        check_one(&odd[i]);
    ht_cuda_gemm_args bad = {.m = 4,
                             .n = 8,
                             .k = 7,
                             .lda = 7,
                             .ldb = 7,
                             .ldd = 8,
                             .in = HT_BF16,
                             .out = HT_BF16,
                             .kernel = HT_GEMM_SM90_128X256};
    cuda_verdict(ht_cuda_gemm(&bad, NULL) == HT_ERR_UNSUPPORTED, "gemm: unaligned rows refused by a Hopper kernel");
    bad.k = 0;
    cuda_verdict(ht_cuda_gemm(&bad, NULL) == HT_ERR_SHAPE, "gemm: k = 0 refused");
}

static ht_status run_gemm(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_gemm(arg, NULL);
}

static void bench_shape(size_t m, size_t n, size_t k, int fp8, int per_row) {
    static const unsigned rasters[] = {4, 8, 16};
    size_t bytes = fp8 ? 1 : 2;
    void *a = fp8 ? (void *)cuda_random_e4m3(m * k) : cuda_random_bf16(m * k);
    void *b = fp8 ? (void *)cuda_random_e4m3(n * k) : cuda_random_bf16(n * k);
    float *scale = random_floats(m > n ? m : n);
    void *da = cuda_upload(a, m * k * bytes), *db = cuda_upload(b, n * k * bytes), *d = cuda_new(m * n * 2);
    float *ds = cuda_upload(scale, (m > n ? m : n) * 4);
    ht_cuda_gemm_args args[5];
    cuda_contender contenders[6];
    static char names[5][32];
    int count = 0;
    double flops = 2.0 * (double)m * (double)n * (double)k;
    cuda_vendor_gemm *vendor = cuda_vendor_gemm_new(
        m, n, k, da, db, d, fp8 ? per_row ? CUDA_VENDOR_ROW : CUDA_VENDOR_TENSOR : CUDA_VENDOR_BF16, ds, ds);
    if (vendor)
        contenders[count++] = (cuda_contender){"cuBLASLt", cuda_vendor_gemm_run, vendor, flops, 0};
    for (int i = 0; i < 4; i++) {
        args[i] = (ht_cuda_gemm_args){.m = m,
                                      .n = n,
                                      .k = k,
                                      .a = da,
                                      .b = db,
                                      .d = d,
                                      .lda = k,
                                      .ldb = k,
                                      .ldd = n,
                                      .in = fp8 ? HT_F8_E4M3 : HT_BF16,
                                      .out = HT_BF16,
                                      .kernel = i < 3 ? HT_GEMM_SM90_128X256 : HT_GEMM_SM90_128X128};
        args[i].raster = i < 3 ? rasters[i] : 8;
        if (fp8 && per_row)
            args[i].scale_a = args[i].scale_b = ds;
        else if (fp8)
            args[i].alpha_a = args[i].alpha_b = ds;
        snprintf(names[i], sizeof names[i], "%s raster %u", ht_gemm_kernel_name(args[i].kernel), args[i].raster);
        contenders[count++] = (cuda_contender){names[i], run_gemm, &args[i], flops, 0};
    }
    char title[96];
    snprintf(title, sizeof title, "gemm %s %zu x %zu x %zu", fp8 ? per_row ? "fp8 per row" : "fp8 per tensor" : "bf16",
             m, n, k);
    cuda_measure(title, contenders, count, 15, 4);
    cuda_vendor_gemm_delete(vendor);
    free(a), free(b), free(scale);
    cuda_delete(da), cuda_delete(db), cuda_delete(d), cuda_delete(ds);
}

void cuda_bench_gemm(void) {
    static const size_t shapes[][3] = {{8192, 8192, 8192}, {4096, 4096, 4096}, {16384, 2048, 7168}};
    for (size_t i = 0; i < 3; i++) {
        bench_shape(shapes[i][0], shapes[i][1], shapes[i][2], 0, 0);
        bench_shape(shapes[i][0], shapes[i][1], shapes[i][2], 1, 0);
        bench_shape(shapes[i][0], shapes[i][1], shapes[i][2], 1, 1);
    }
}
