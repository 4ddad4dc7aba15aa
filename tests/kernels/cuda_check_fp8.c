/* fp8 with scales along k: row and block casts against the library's CPU encoder, byte for byte; the expansion of MXFP8
 * to bf16 against its decoder; block-scaled products against f64 sums. Then their rates.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "kernels/cuda/cuda.h"

enum { BLOCK = 128 };

/* Random numbers of many sizes; some blocks zero, some with Inf or NaN. */
static uint16_t *wild_bf16(size_t count) {
    uint16_t *x = cuda_random_bf16(count);
    for (size_t i = 0; i + 32 <= count; i += 32) {
        uint64_t r = cuda_random();
        float factor = (float)ldexp(1, (int)(r % 200) - 120);
        for (size_t j = 0; j < 32; j++)
            x[i + j] = r % 11 == 0 ? (uint16_t)(r >> 32 >> j << 15) : cuda_bf16(cuda_bf16_value(x[i + j]) * factor);
        if (r % 301 == 0)
            x[i + (r >> 20) % 32] = r >> 60 & 1 ? 0x7f80 : 0xffc1;
    }
    return x;
}

static void check_cast(size_t rows, size_t cols, int blocked) {
    size_t count = rows * cols, groups = blocked ? cols / BLOCK : 1, lds = (rows + 3) / 4 * 4, different = 0;
    uint16_t *x = wild_bf16(count);
    if (blocked && rows > 2)
        memset(x + cols, 0, cols * 2);
    uint8_t *want = malloc(count);
    float *want_scales = malloc(rows * groups * 4);
    ht_format format;
    ht_planes planes = {{[HT_PLANE_CODES] = want, [HT_PLANE_SCALES] = want_scales}};
    cuda_must(ht_format_parse(blocked ? "fp8_g128" : "fp8_row", &format), "format");
    cuda_must(ht_format_quantize(&format, NULL, x, HT_BF16, rows, cols, &planes), "CPU cast");
    void *dx = cuda_upload(x, count * 2);
    cuda_guarded codes = cuda_guarded_new(count), scales = cuda_guarded_new((blocked ? lds * groups : rows) * 4);
    cuda_must(blocked ? ht_cuda_cast_fp8_block(dx, rows, cols, codes.at, scales.at, lds, NULL)
                      : ht_cuda_cast_fp8_row(dx, rows, cols, codes.at, scales.at, NULL),
              "fp8 cast");
    uint8_t *got = cuda_guarded_take(&codes, "fp8 codes");
    uint32_t *got_scales = cuda_guarded_take(&scales, "fp8 scales"), *bits = (uint32_t *)(void *)want_scales;
    for (size_t i = 0; i < count; i++)
        different += got[i] != want[i];
    for (size_t r = 0; r < rows; r++)
        for (size_t g = 0; g < groups; g++)
            different += got_scales[blocked ? g * lds + r : r] != bits[r * groups + g];
    cuda_verdict(!different, "fp8 %s cast [%zu, %zu]: %zu codes and scales differ from the CPU's",
                 blocked ? "block" : "row", rows, cols, different);
    free(x), free(want), free(want_scales), free(got), free(got_scales);
    cuda_delete(dx);
}

static void check_expand(size_t rows, size_t cols) {
    size_t count = rows * cols, different = 0;
    uint8_t *codes = cuda_random_bytes(count), *scales = cuda_random_bytes(count / 32);
    float *want = malloc(count * 4);
    ht_format format;
    ht_planes planes = {{[HT_PLANE_CODES] = codes, [HT_PLANE_SCALES] = scales}};
    cuda_must(ht_format_parse("mxfp8", &format), "format");
    cuda_must(ht_format_dequantize(&format, &planes, rows, cols, want), "CPU decoder");
    void *dcodes = cuda_upload(codes, count), *dscales = cuda_upload(scales, count / 32);
    cuda_guarded out = cuda_guarded_new(count * 2);
    cuda_must(ht_cuda_expand_mxfp8(dcodes, dscales, rows, cols, out.at, NULL), "expand");
    uint16_t *got = cuda_guarded_take(&out, "expanded");
    for (size_t i = 0; i < count; i++)
        different += isnan(want[i]) ? (got[i] & 0x7fff) <= 0x7f80 : got[i] != cuda_bf16(want[i]);
    cuda_verdict(!different, "mxfp8 expansion [%zu, %zu]: %zu values differ from the CPU's", rows, cols, different);
    free(codes), free(scales), free(want), free(got);
    cuda_delete(dcodes), cuda_delete(dscales);
}

static float *random_scales(size_t count) {
    float *x = malloc(count * 4);
    for (size_t i = 0; i < count; i++)
        x[i] = 0.25f + (float)(cuda_random() % 1000) * 2e-3f;
    return x;
}

/* ldb 0: sb [n / 128, k / 128]; else [k / 128, ldb] */
static double exact(const uint8_t *a, const uint8_t *b, const float *sa, const float *sb, size_t k, size_t lds,
                    size_t ldb, size_t row, size_t col) {
    double total = 0;
    for (size_t block = 0; block < k / BLOCK; block++) {
        double sum = 0;
        for (size_t i = block * BLOCK; i < (block + 1) * BLOCK; i++)
            sum += (double)cuda_e4m3_value(a[row * k + i]) * (double)cuda_e4m3_value(b[col * k + i]);
        total += sum * (double)sa[block * lds + row] *
                 (double)sb[ldb ? block * ldb + col : col / BLOCK * (k / BLOCK) + block];
    }
    return total;
}

static void check_product(size_t m, size_t n, size_t k, ht_dtype out, ht_gemm_kernel kernel, int by_row) {
    size_t lds = (m + 3) / 4 * 4, blocks = k / BLOCK, n_blocks = (n + BLOCK - 1) / BLOCK, bytes = out == HT_F32 ? 4 : 2;
    size_t ldb = by_row ? (n + 3) / 4 * 4 : 0, b_scales = by_row ? blocks * ldb : n_blocks * blocks;
    uint8_t *a = cuda_random_e4m3(m * k), *b = cuda_random_e4m3(n * k);
    float *sa = random_scales(blocks * lds), *sb = random_scales(b_scales);
    void *da = cuda_upload(a, m * k), *db = cuda_upload(b, n * k);
    void *dsa = cuda_upload(sa, blocks * lds * 4), *dsb = cuda_upload(sb, b_scales * 4);
    cuda_guarded d = cuda_guarded_new(m * n * bytes);
    ht_cuda_gemm_block_args args = {.m = m,
                                    .n = n,
                                    .k = k,
                                    .a = da,
                                    .b = db,
                                    .d = d.at,
                                    .scale_a = dsa,
                                    .scale_b = dsb,
                                    .lds = lds,
                                    .out = out,
                                    .lds_b = ldb,
                                    .kernel = kernel};
    cuda_must(ht_cuda_gemm_block(&args, NULL), "block product");
    cuda_must(ht_device_finish(cuda_device, NULL), "block product");
    void *got = cuda_guarded_take(&d, "block product");
    double squares = 0, reference = 0, largest = 0;
    size_t samples = m * n < 8000 ? m * n : 2000;
    for (size_t s = 0; s < samples; s++) {
        size_t i = samples == m * n ? s : cuda_random() % (m * n);
        double want = exact(a, b, sa, sb, k, lds, ldb, i / n, i % n);
        double e = fabs((double)(out == HT_F32 ? ((float *)got)[i] : cuda_bf16_value(((uint16_t *)got)[i])) - want);
        squares += e * e;
        reference += want * want;
        largest = e <= largest ? largest : e;
    }
    double error = sqrt(squares / reference), limit = out == HT_F32 ? 5e-4 : samples > 100 ? 2e-3 : 0x1p-8;
    cuda_verdict(error < limit && largest < 12 * limit * sqrt(reference / (double)samples),
                 "block product %s %zu x %zu x %zu %s: error %.2e",
                 by_row ? "1x128 on both sides" : ht_gemm_kernel_name(kernel), m, n, k, ht_dtype_name(out), error);
    free(a), free(b), free(sa), free(sb), free(got);
    cuda_delete(da), cuda_delete(db), cuda_delete(dsa), cuda_delete(dsb);
}

void cuda_check_fp8(void) {
    static const size_t casts[][2] = {{1, 128}, {5, 384}, {300, 1024}, {7, 16512}, {64, 2176}};
    static const size_t products[][3] = {{128, 256, 128},  {1, 8, 256},    {300, 520, 1152},
                                         {257, 1000, 640}, {77, 131, 384}, {1024, 2304, 4096}};
    for (size_t i = 0; i < sizeof casts / sizeof casts[0]; i++) {
        check_cast(casts[i][0], casts[i][1], 0);
        check_cast(casts[i][0], casts[i][1], 1);
        check_expand(casts[i][0], casts[i][1]);
    }
    check_cast(3, 24, 0);
    for (size_t i = 0; i < sizeof products / sizeof products[0]; i++) {
        for (int kernel = HT_GEMM_SM90_128X256; kernel <= HT_GEMM_SM90_128X192; kernel++) {
            check_product(products[i][0], products[i][1], products[i][2], HT_BF16, (ht_gemm_kernel)kernel, 0);
            check_product(products[i][0], products[i][1], products[i][2], HT_F32, (ht_gemm_kernel)kernel, 0);
        }
        check_product(products[i][0], products[i][1], products[i][2], HT_BF16, HT_GEMM_AUTO, 1);
        check_product(products[i][0], products[i][1], products[i][2], HT_F32, HT_GEMM_AUTO, 1);
    }
    ht_cuda_gemm_block_args bad = {.m = 4, .n = 8, .k = 100, .lds = 4, .out = HT_BF16};
    cuda_verdict(ht_cuda_gemm_block(&bad, NULL) == HT_ERR_SHAPE, "block product: k = 100 refused");
    cuda_verdict(ht_cuda_cast_fp8_block(NULL, 4, 100, NULL, NULL, 4, NULL) == HT_ERR_SHAPE,
                 "fp8 block cast: 100 columns refused");
}

static ht_status run_product(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_gemm_block(arg, NULL);
}

static void bench_product(size_t m, size_t n, size_t k) {
    uint8_t *a = cuda_random_e4m3(m * k), *b = cuda_random_e4m3(n * k);
    float *s = random_scales((m > n ? m : n) * (k / BLOCK));
    void *da = cuda_upload(a, m * k), *db = cuda_upload(b, n * k), *d = cuda_new(m * n * 2);
    float *ds = cuda_upload(s, (m > n ? m : n) * (k / BLOCK) * 4);
    ht_cuda_gemm_block_args args = {
        .m = m, .n = n, .k = k, .a = da, .b = db, .d = d, .scale_a = ds, .scale_b = ds, .lds = m, .out = HT_BF16};
    cuda_contender contenders[5];
    int count = 0;
    double flops = 2.0 * (double)m * (double)n * (double)k;
    cuda_vendor_gemm *tensor = cuda_vendor_gemm_new(m, n, k, da, db, d, CUDA_VENDOR_TENSOR, ds, ds);
    cuda_vendor_gemm *block = cuda_vendor_gemm_new(m, n, k, da, db, d, CUDA_VENDOR_BLOCK, ds, ds);
    if (block)
        contenders[count++] = (cuda_contender){"cuBLASLt 1x128 128x128", cuda_vendor_gemm_run, block, flops, 0};
    if (tensor)
        contenders[count++] = (cuda_contender){"cuBLASLt per tensor", cuda_vendor_gemm_run, tensor, flops, 0};
    static const char *const names[] = {"block product 256", "block product 192", "1x128 on both sides"};
    ht_cuda_gemm_block_args all[3];
    for (int i = 0; i < 3; i++) {
        all[i] = args;
        all[i].kernel = i == 1 ? HT_GEMM_SM90_128X192 : HT_GEMM_SM90_128X256;
        all[i].lds_b = i == 2 ? n : 0;
        contenders[count++] = (cuda_contender){names[i], run_product, &all[i], flops, 0};
    }
    char title[96];
    snprintf(title, sizeof title, "gemm fp8 1x128 128x128 %zu x %zu x %zu", m, n, k);
    cuda_measure(title, contenders, count, 15, 4);
    cuda_vendor_gemm_delete(tensor), cuda_vendor_gemm_delete(block);
    free(a), free(b), free(s);
    cuda_delete(da), cuda_delete(db), cuda_delete(d), cuda_delete(ds);
}

typedef struct cast_job {
    void *x, *codes, *out;
    float *scales;
    size_t rows, cols;
} cast_job;

static ht_status run_row(void *arg, int repeat) {
    const cast_job *j = arg;
    (void)repeat;
    return ht_cuda_cast_fp8_row(j->x, j->rows, j->cols, j->codes, j->scales, NULL);
}

static ht_status run_block(void *arg, int repeat) {
    const cast_job *j = arg;
    (void)repeat;
    return ht_cuda_cast_fp8_block(j->x, j->rows, j->cols, j->codes, j->scales, j->rows, NULL);
}

static ht_status run_expand(void *arg, int repeat) {
    const cast_job *j = arg;
    (void)repeat;
    return ht_cuda_expand_mxfp8(j->codes, (const uint8_t *)j->scales, j->rows, j->cols, j->out, NULL);
}

static void bench_casts(void) {
    size_t rows = 16384, cols = 16384, count = rows * cols;
    uint16_t *x = cuda_random_bf16(count);
    cast_job job = {.x = cuda_upload(x, count * 2),
                    .codes = cuda_new(count),
                    .out = cuda_new(count * 2),
                    .scales = cuda_new(count / 32),
                    .rows = rows,
                    .cols = cols};
    cuda_copy_job copy = {job.out, job.x, count * 2};
    double n = (double)count;
    cuda_contender contenders[] = {
        {"device copy", cuda_copy_run, &copy, 0, n * 4},
        {"fp8 row", run_row, &job, 0, n * 3},
        {"fp8 1x128", run_block, &job, 0, n * (3 + 4.0 / BLOCK)},
        {"mxfp8 expansion", run_expand, &job, 0, n * (3 + 1.0 / 32)},
    };
    cuda_measure("cast fp8 16384 x 16384", contenders, 4, 15, 4);
    free(x);
    cuda_delete(job.x), cuda_delete(job.codes), cuda_delete(job.out), cuda_delete(job.scales);
}

void cuda_bench_fp8(void) {
    static const size_t shapes[][3] = {{8192, 8192, 8192}, {4096, 4096, 4096}, {16384, 2048, 7168}};
    bench_casts();
    for (size_t i = 0; i < 3; i++)
        bench_product(shapes[i][0], shapes[i][1], shapes[i][2]);
}
