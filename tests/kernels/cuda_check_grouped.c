/* Products of groups: every form, input and kind of scale on ragged and empty groups against f64 sums; rows past the
 * groups untouched, whatever lies there; then the rates.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "kernels/cuda/cuda.h"

enum { BLOCK = 128, MAX_GROUPS = 16 };

typedef struct problem {
    ht_group_form form;
    size_t m, n, k, groups;
    int fp8, scaled, block, f32_out, accumulate;
    ht_gemm_kernel kernel;
    int sizes[MAX_GROUPS];
} problem;

/* The problem's operands and results on the host, and the ranges of its groups. */
typedef struct data {
    void *a, *b, *d;
    float *sa, *sb;
    size_t a_rows, b_rows, d_rows, lds, ldb;
    size_t start[MAX_GROUPS], end[MAX_GROUPS];
} data;

static float *random_scales(size_t count) {
    float *x = malloc(count * 4);
    for (size_t i = 0; i < count; i++)
        x[i] = 0.25f + (float)(cuda_random() % 1000) * 2e-3f;
    return x;
}

static double value(const problem *p, const void *x, size_t at) {
    return (double)(p->fp8 ? cuda_e4m3_value(((const uint8_t *)x)[at]) : cuda_bf16_value(((const uint16_t *)x)[at]));
}

/* a and b scales of one term. row: of a; d_row: of d. */
static double scale_of(const problem *p, const data *x, size_t g, size_t row, size_t column, size_t k) {
    size_t blocks = p->k / BLOCK;
    if (p->block) {
        double b = p->form == HT_GROUPS_ALONG_K
                       ? (double)x->sb[k / BLOCK * x->ldb + column]
                       : (double)x->sb[(g * ((p->n + BLOCK - 1) / BLOCK) + column / BLOCK) * blocks + k / BLOCK];
        return (double)x->sa[k / BLOCK * x->lds + row] * b;
    }
    if (!p->scaled)
        return 1;
    return (double)x->sa[p->form == HT_GROUPS_ALONG_K ? g * p->m + row : row] * (double)x->sb[g * p->n + column];
}

static double exact(const problem *p, const data *x, size_t g, size_t row, size_t column) {
    int along_k = p->form == HT_GROUPS_ALONG_K;
    size_t from = along_k ? x->start[g] : 0, to = along_k ? x->end[g] : p->k;
    size_t b_row = along_k ? column : g * p->n + column;
    double sum = 0;
    for (size_t k = from; k < to; k++)
        sum += value(p, x->a, row * p->k + k) * value(p, x->b, b_row * p->k + k) * scale_of(p, x, g, row, column, k);
    return sum;
}

/* Bytes that no product may read become NaN: columns of k or rows past the last group. */
static void poison(const problem *p, const data *x) {
    size_t bytes = p->fp8 ? 1 : 2;
    for (size_t row = 0; row < x->a_rows; row++) {
        size_t from = 0;
        if (p->form == HT_GROUPS_ALONG_K)
            from = x->end[p->groups - 1];
        else
            for (size_t g = 0; g < p->groups; g++)
                if (row >= x->start[g] && row < x->end[g])
                    from = p->k;
        memset((char *)x->a + (row * p->k + from) * bytes, 0xff, (p->k - from) * bytes);
    }
    for (size_t row = 0; p->form == HT_GROUPS_ALONG_K && row < x->b_rows; row++)
        memset((char *)x->b + (row * p->k + x->end[p->groups - 1]) * bytes, 0xff,
               (p->k - x->end[p->groups - 1]) * bytes);
}

static data make(const problem *p, int32_t *offsets) {
    int along_k = p->form == HT_GROUPS_ALONG_K, masked = p->form == HT_GROUPS_MASKED;
    data x = {.a_rows = masked ? p->groups * p->m : p->m,
              .b_rows = along_k ? p->n : p->groups * p->n,
              .d_rows = p->form == HT_GROUPS_CONTIGUOUS ? p->m : p->groups * p->m,
              .ldb = (p->n + 3) / 4 * 4};
    size_t at = 0, columns = (p->n + BLOCK - 1) / BLOCK, blocks = p->k / BLOCK + 1;
    x.lds = (x.a_rows + 3) / 4 * 4;
    for (size_t g = 0; g < p->groups; g++) {
        size_t size = (size_t)p->sizes[g];
        x.start[g] = masked ? g * p->m : at;
        at += size;
        x.end[g] = masked ? g * p->m + size : at;
        offsets[g] = (int32_t)(masked ? size : at);
    }
    x.a = p->fp8 ? (void *)cuda_random_e4m3(x.a_rows * p->k) : cuda_random_bf16(x.a_rows * p->k);
    x.b = p->fp8 ? (void *)cuda_random_e4m3(x.b_rows * p->k) : cuda_random_bf16(x.b_rows * p->k);
    x.sa = random_scales(p->block ? blocks * x.lds : p->groups * p->m + x.a_rows);
    x.sb = random_scales(p->block ? blocks * x.ldb + p->groups * columns * blocks : p->groups * p->n);
    poison(p, &x);
    return x;
}

static void run(const problem *p, data *x, const int32_t *offsets) {
    size_t bytes = p->fp8 ? 1 : 2, out_bytes = p->f32_out ? 4 : 2, blocks = p->k / BLOCK + 1;
    size_t columns = (p->n + BLOCK - 1) / BLOCK;
    void *da = cuda_upload(x->a, x->a_rows * p->k * bytes), *db = cuda_upload(x->b, x->b_rows * p->k * bytes);
    void *dsa = cuda_upload(x->sa, (p->block ? blocks * x->lds : p->groups * p->m + x->a_rows) * 4);
    void *dsb = cuda_upload(x->sb, (p->block ? blocks * x->ldb + p->groups * columns * blocks : p->groups * p->n) * 4);
    void *doffsets = cuda_upload(offsets, p->groups * 4);
    cuda_guarded d = cuda_guarded_new(x->d_rows * p->n * out_bytes);
    if (p->accumulate)
        cuda_must(ht_device_fill(cuda_device, d.at, 0, d.bytes, NULL), "fill");
    ht_cuda_grouped_args args = {.form = p->form,
                                 .groups = p->groups,
                                 .m = p->m,
                                 .n = p->n,
                                 .k = p->k,
                                 .offsets = doffsets,
                                 .a = da,
                                 .b = db,
                                 .d = d.at,
                                 .scale_a = p->scaled || p->block ? dsa : NULL,
                                 .scale_b = p->scaled || p->block ? dsb : NULL,
                                 .block_scales = p->block,
                                 .lds = x->lds,
                                 .lds_b = x->ldb,
                                 .in = p->fp8 ? HT_F8_E4M3 : HT_BF16,
                                 .out = p->f32_out ? HT_F32 : HT_BF16,
                                 .accumulate = p->accumulate,
                                 .kernel = p->kernel};
    for (int i = 0; i < 1 + p->accumulate; i++)
        cuda_must(ht_cuda_grouped(&args, NULL), "grouped product");
    cuda_must(ht_device_finish(cuda_device, NULL), "grouped product");
    x->d = cuda_guarded_take(&d, "grouped product");
    cuda_delete(da), cuda_delete(db), cuda_delete(dsa), cuda_delete(dsb), cuda_delete(doffsets);
}

/* Every row of a small d, some of a large one. Rows of no group must hold the fill. */
static void compare(const problem *p, const data *x) {
    size_t out_bytes = p->f32_out ? 4 : 2, touched = 0, count = 0;
    double squares = 0, reference = 0, largest = 0;
    for (size_t row = 0; row < x->d_rows; row++) {
        size_t g = 0, a_row = row;
        if (p->form == HT_GROUPS_ALONG_K) {
            g = row / p->m;
            a_row = row % p->m;
        } else {
            while (g < p->groups && !(row >= x->start[g] && row < x->end[g]))
                g++;
        }
        for (size_t s = 0; s < 24; s++) {
            size_t column = s < 4 ? s : s < 8 ? p->n - 1 - (s - 4) : cuda_random() % p->n, at = row * p->n + column;
            if (g == p->groups) {
                for (size_t i = 0; i < out_bytes; i++)
                    touched += ((uint8_t *)x->d)[at * out_bytes + i] != 0xA5;
                continue;
            }
            double want = exact(p, x, g, a_row, column) * (1 + p->accumulate);
            double got = (double)(p->f32_out ? ((float *)x->d)[at] : cuda_bf16_value(((uint16_t *)x->d)[at]));
            double e = isnan(got) ? 1e300 : fabs(got - want);
            squares += e * e;
            reference += want * want;
            largest = e > largest ? e : largest;
            count++;
        }
    }
    static const char *const forms[] = {"contiguous", "masked", "along k"};
    double error = sqrt(squares / reference),
           limit = (p->f32_out ? 1e-6 : 2e-3) + (p->fp8 ? p->block ? 5e-4 : 2e-3 : 0);
    cuda_verdict(error < limit && largest < 12 * limit * sqrt(reference / (double)count) && !touched,
                 "grouped %-10s %s%s %s->%s %zu x (%zu x %zu x %zu) acc %d: error %.2e, %zu bytes outside touched",
                 forms[p->form],
                 p->block    ? "blocks"
                 : p->scaled ? "rows"
                             : "plain",
                 p->kernel == HT_GEMM_SM90_SINGLE ? " single" : "", p->fp8 ? "fp8" : "bf16",
                 p->f32_out ? "f32" : "bf16", p->groups, p->m, p->n, p->k, p->accumulate, error, touched);
}

static void check_one(const problem *p) {
    int32_t offsets[MAX_GROUPS];
    data x = make(p, offsets);
    run(p, &x, offsets);
    compare(p, &x);
    free(x.a), free(x.b), free(x.sa), free(x.sb), free(x.d);
}

void cuda_check_grouped(void) {
    static const problem shapes[] = {
        {HT_GROUPS_CONTIGUOUS, 700, 264, 384, 6, .sizes = {0, 131, 7, 0, 400, 100}},
        {HT_GROUPS_CONTIGUOUS, 1024, 520, 256, 3, .sizes = {512, 256, 256}},
        {HT_GROUPS_CONTIGUOUS, 300, 136, 1024, 4, .sizes = {1, 0, 0, 64}},
        {HT_GROUPS_MASKED, 200, 264, 384, 5, .sizes = {0, 200, 1, 129, 64}},
        {HT_GROUPS_ALONG_K, 200, 328, 1536, 5, .sizes = {256, 0, 128, 640, 384}},
    };
    static const problem ragged = {HT_GROUPS_ALONG_K, 200, 328, 1536, 8, .sizes = {1, 0, 17, 200, 129, 0, 500, 333}};
    for (int kind = 0; kind < 4; kind++) /* bf16, fp8, fp8 rows, fp8 blocks */
        for (int f32 = 0; f32 < 2; f32++) {
            for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
                problem p = shapes[i];
                p.fp8 = kind > 0;
                p.scaled = kind == 2;
                p.block = kind == 3;
                p.f32_out = f32;
                p.kernel = HT_GEMM_SM90_128X256;
                check_one(&p);
                p.accumulate = f32 && p.form == HT_GROUPS_ALONG_K;
                p.kernel = HT_GEMM_SM90_SINGLE;
                if (p.accumulate)
                    p.kernel = HT_GEMM_AUTO;
                if (p.accumulate || (!p.block && p.form != HT_GROUPS_ALONG_K))
                    check_one(&p);
            }
            problem p = ragged;
            p.fp8 = kind > 0;
            p.scaled = kind == 2;
            p.f32_out = f32;
            if (kind < 3)
                check_one(&p);
        }
    ht_cuda_grouped_args bad = {.groups = 2, .m = 64, .n = 12, .k = 64, .in = HT_BF16, .out = HT_BF16};
    cuda_verdict(ht_cuda_grouped(&bad, NULL) == HT_ERR_SHAPE, "grouped product: n = 12 refused");
    bad.n = 16;
    bad.accumulate = 1;
    cuda_verdict(ht_cuda_grouped(&bad, NULL) == HT_ERR_UNSUPPORTED, "grouped product: accumulation by rows refused");
}

/* --- Rates ------------------------------------------------------------------------------------------------------- */

static ht_status run_grouped(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_grouped(arg, NULL);
}

/* Uneven groups (shares 5 to 11 of 64) whose sizes are multiples of 128, beside one vendor product of the whole. */
static void bench_shape(ht_group_form form, size_t m, size_t n, size_t k) {
    enum { GROUPS = 8 };
    static const int share[GROUPS] = {8, 5, 11, 7, 9, 6, 10, 8};
    int along_k = form == HT_GROUPS_ALONG_K;
    size_t b_rows = along_k ? n : GROUPS * n, d_rows = along_k ? GROUPS * m : m, extent = along_k ? k : m, at = 0;
    int32_t offsets[GROUPS];
    for (int g = 0; g < GROUPS; g++)
        offsets[g] = (int32_t)(at += extent / 64 * (size_t)share[g]);
    uint16_t *a = cuda_random_bf16(m * k), *b = cuda_random_bf16(b_rows * k);
    uint8_t *a8 = cuda_random_e4m3(m * k), *b8 = cuda_random_e4m3(b_rows * k);
    size_t scales = m * (k / BLOCK) + GROUPS * (m + n) + n * (k / BLOCK);
    float *s = random_scales(scales);
    void *da = cuda_upload(a, m * k * 2), *db = cuda_upload(b, b_rows * k * 2), *d = cuda_new(d_rows * n * 4);
    void *da8 = cuda_upload(a8, m * k), *db8 = cuda_upload(b8, b_rows * k), *ds = cuda_upload(s, scales * 4);
    void *doffsets = cuda_upload(offsets, sizeof offsets);
    double flops = 2.0 * (double)m * (double)n * (double)k;
    ht_cuda_grouped_args args[3];
    cuda_contender contenders[6];
    int count = 0;
    cuda_vendor_gemm *v16 = cuda_vendor_gemm_new(m, n, k, da, db, d, CUDA_VENDOR_BF16, NULL, NULL);
    cuda_vendor_gemm *v8 = cuda_vendor_gemm_new(m, n, k, da8, db8, d, CUDA_VENDOR_TENSOR, ds, ds);
    if (v8)
        contenders[count++] = (cuda_contender){"cuBLASLt, one fp8 product", cuda_vendor_gemm_run, v8, flops, 0};
    if (v16)
        contenders[count++] = (cuda_contender){"cuBLASLt, one bf16 product", cuda_vendor_gemm_run, v16, flops, 0};
    static const char *const names[] = {"bf16", "fp8 per row", "fp8 block scales"};
    for (int i = 0; i < 3; i++) {
        args[i] = (ht_cuda_grouped_args){.form = form,
                                         .groups = GROUPS,
                                         .m = m,
                                         .n = n,
                                         .k = k,
                                         .offsets = doffsets,
                                         .a = i ? da8 : da,
                                         .b = i ? db8 : db,
                                         .d = d,
                                         .scale_a = i ? ds : NULL,
                                         .scale_b = i ? ds : NULL,
                                         .block_scales = i == 2,
                                         .lds = m,
                                         .lds_b = n,
                                         .in = i ? HT_F8_E4M3 : HT_BF16,
                                         .out = along_k ? HT_F32 : HT_BF16};
        contenders[count++] = (cuda_contender){names[i], run_grouped, &args[i], flops, 0};
    }
    char title[96];
    snprintf(title, sizeof title, "grouped %s by 8, %zu x %zu x %zu", along_k ? "along k, f32 out" : "contiguous", m, n,
             k);
    cuda_measure(title, contenders, count, 11, 4);
    cuda_vendor_gemm_delete(v8), cuda_vendor_gemm_delete(v16);
    free(a), free(b), free(a8), free(b8), free(s);
    cuda_delete(da), cuda_delete(db), cuda_delete(da8), cuda_delete(db8), cuda_delete(d), cuda_delete(ds);
    cuda_delete(doffsets);
}

void cuda_bench_grouped(void) {
    bench_shape(HT_GROUPS_CONTIGUOUS, 16384, 4096, 7168);
    bench_shape(HT_GROUPS_CONTIGUOUS, 16384, 7168, 2048);
    bench_shape(HT_GROUPS_ALONG_K, 4096, 7168, 32768);
    bench_shape(HT_GROUPS_ALONG_K, 7168, 2048, 32768);
}
