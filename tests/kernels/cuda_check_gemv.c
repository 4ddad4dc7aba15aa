/* Four-bit weights times few rows: against f64 sums of the decoded weights; then the rate, reading weights that are not
 * in the cache, beside a device copy.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "kernels/cuda/cuda.h"

static const char *const kind_names[] = {"int4_g128", "mxfp4"};

static size_t scale_count(int kind, size_t n, size_t k) {
    return kind == HT_GEMV_MXFP4 ? n * k / 32 : n * k / 128;
}

/* Row-major scales: bf16 near 0.01 (int4), bytes around 2^-6 with a few extremes (MXFP4). */
static void *random_scales(int kind, size_t count) {
    uint8_t *bytes = malloc(count);
    uint16_t *halves = malloc(count * 2);
    for (size_t i = 0; i < count; i++) {
        uint64_t r = cuda_random();
        bytes[i] = (uint8_t)(r % 1000 == 0 ? 0 : 117 + r % 8);
        halves[i] = cuda_bf16(0.005f + (float)(r % 1000) * 1e-5f);
    }
    if (kind == HT_GEMV_MXFP4) {
        free(halves);
        return bytes;
    }
    free(bytes);
    return halves;
}

static double weight_value(int kind, const uint8_t *codes, const void *scales, size_t k, size_t row, size_t at) {
    static const double e2m1[8] = {0, .5, 1, 1.5, 2, 3, 4, 6};
    unsigned nibble = codes[(row * k + at) / 2] >> (at % 2 * 4) & 15;
    if (kind == HT_GEMV_MXFP4)
        return (nibble & 8 ? -1 : 1) * e2m1[nibble & 7] *
               ldexp(1, ((const uint8_t *)scales)[(row * k + at) / 32] - 127);
    int value = nibble >= 8 ? (int)nibble - 16 : (int)nibble;
    return value * (double)cuda_bf16_value(((const uint16_t *)scales)[(row * k + at) / 128]);
}

static void check_one(int kind, size_t n, size_t k, size_t m) {
    size_t scale_bytes = scale_count(kind, n, k) * (kind == HT_GEMV_MXFP4 ? 1 : 2);
    uint8_t *codes = cuda_random_bytes(n * k / 2);
    void *scales = random_scales(kind, scale_count(kind, n, k));
    uint16_t *x = cuda_random_bf16(m * k);
    void *dcodes = cuda_upload(codes, n * k / 2), *dscales = cuda_upload(scales, scale_bytes);
    void *dx = cuda_upload(x, m * k * 2);
    cuda_guarded packed = cuda_guarded_new(ht_cuda_gemv_packed_bytes((ht_gemv_weight)kind, n, k));
    cuda_guarded y = cuda_guarded_new(m * n * 2);
    cuda_must(ht_cuda_gemv_pack((ht_gemv_weight)kind, dcodes, dscales, n, k, packed.at, NULL), "pack");
    cuda_must(ht_device_finish(cuda_device, NULL), "pack");
    cuda_must(ht_cuda_gemv((ht_gemv_weight)kind, packed.at, n, k, dx, m, y.at, NULL), "gemv");
    cuda_must(ht_device_finish(cuda_device, NULL), "gemv");
    uint16_t *out = cuda_guarded_take(&y, "gemv");
    free(cuda_guarded_take(&packed, "packed weights"));
    double squares = 0, reference = 0, largest = 0;
    size_t samples = m * n < 3000 ? m * n : 3000;
    for (size_t s = 0; s < samples; s++) {
        size_t i = samples == m * n ? s : cuda_random() % (m * n), row = i / n, col = i % n;
        double sum = 0;
        for (size_t at = 0; at < k; at++)
            sum += weight_value(kind, codes, scales, k, col, at) * (double)cuda_bf16_value(x[row * k + at]);
        double d = fabs((double)cuda_bf16_value(out[i]) - sum);
        largest = d > largest || isnan(d) ? d : largest;
        squares += d * d;
        reference += sum * sum;
    }
    double e = sqrt(squares / reference);
    /* one rounding to bf16: 1.7e-3 on average over many, 2^-8 at most */
    cuda_verdict(e < (samples > 1000 ? 2e-3 : 0x1p-8) && largest < 0.05 * sqrt(reference / (double)samples),
                 "gemv %-9s n %5zu k %5zu m %2zu: error %.2e", kind_names[kind], n, k, m, e);
    free(codes), free(scales), free(x), free(out);
    cuda_delete(dcodes), cuda_delete(dscales), cuda_delete(dx);
}

void cuda_check_gemv(void) {
    static const size_t shapes[][3] = {{16, 128, 1},   {48, 256, 2},    {4096, 1152, 3}, {8192, 1024, 8},
                                       {8192, 512, 9}, {112, 2048, 16}, {4112, 4096, 1}, {8208, 768, 16}};
    for (int kind = 0; kind < HT_GEMV_WEIGHT_COUNT; kind++)
        for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
            check_one(kind, shapes[i][0], shapes[i][1], shapes[i][2]);
    cuda_verdict(ht_cuda_gemv(HT_GEMV_MXFP4, NULL, 16, 100, NULL, 1, NULL, NULL) == HT_ERR_SHAPE,
                 "gemv: k = 100 refused");
    cuda_verdict(ht_cuda_gemv(HT_GEMV_MXFP4, NULL, 16, 128, NULL, 17, NULL, NULL) == HT_ERR_SHAPE,
                 "gemv: 17 rows refused");
}

typedef struct rotating {
    int kind;
    size_t n, k, m, copies, bytes;
    uint8_t *weights;
    void *x, *y;
} rotating;

static ht_status run_gemv(void *arg, int repeat) {
    const rotating *r = arg;
    const uint8_t *weights = r->weights + (size_t)repeat % r->copies * r->bytes;
    return ht_cuda_gemv((ht_gemv_weight)r->kind, weights, r->n, r->k, r->x, r->m, r->y, NULL);
}

static void bench_kind(int kind, cuda_copy_job *copy) {
    enum { COPIES = 16 };
    static const size_t ms[] = {1, 2, 4, 8, 16};
    static char names[5][16];
    const size_t n = 8192, k = 8192, bytes = ht_cuda_gemv_packed_bytes((ht_gemv_weight)kind, n, k);
    uint8_t *codes = cuda_random_bytes(n * k / 2), *weights = cuda_new(bytes * COPIES);
    void *scales = random_scales(kind, scale_count(kind, n, k));
    uint16_t *x = cuda_random_bf16(16 * k);
    void *dcodes = cuda_upload(codes, n * k / 2), *dx = cuda_upload(x, 16 * k * 2), *y = cuda_new(16 * n * 2);
    void *dscales = cuda_upload(scales, scale_count(kind, n, k) * (kind == HT_GEMV_MXFP4 ? 1 : 2));
    rotating jobs[5];
    cuda_contender contenders[6] = {{"device copy, 1 GiB", cuda_copy_run, copy, 0, 2147483648.0}};
    for (size_t i = 0; i < COPIES; i++)
        cuda_must(ht_cuda_gemv_pack((ht_gemv_weight)kind, dcodes, dscales, n, k, weights + i * bytes, NULL), "pack");
    cuda_must(ht_device_finish(cuda_device, NULL), "pack");
    for (int i = 0; i < 5; i++) {
        jobs[i] = (rotating){kind, n, k, ms[i], COPIES, bytes, weights, dx, y};
        snprintf(names[i], sizeof names[i], "m = %zu", ms[i]);
        contenders[i + 1] = (cuda_contender){names[i], run_gemv, &jobs[i], 0, (double)(bytes + ms[i] * (n + k) * 2)};
    }
    char title[64];
    snprintf(title, sizeof title, "gemv %s 8192 x 8192, rotating weights", kind_names[kind]);
    cuda_measure(title, contenders, 6, 11, 48);
    free(codes), free(scales), free(x);
    cuda_delete(weights), cuda_delete(dcodes), cuda_delete(dscales), cuda_delete(dx), cuda_delete(y);
}

void cuda_bench_gemv(void) {
    size_t bytes = (size_t)1 << 30;
    cuda_copy_job copy = {cuda_new(bytes), NULL, bytes};
    void *from = cuda_new(bytes);
    cuda_must(ht_device_fill(cuda_device, from, 0x5a, bytes, NULL), "fill");
    copy.from = from;
    for (int kind = 0; kind < HT_GEMV_WEIGHT_COUNT; kind++)
        bench_kind(kind, &copy);
    cuda_delete(from), cuda_delete(copy.to);
}
