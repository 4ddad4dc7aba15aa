/* Rows of `floats`: those of multiply-adds give the reference's bits, the others stay within the bound of
 * docs/numerics.md; and the reference itself against sums in f64.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "format/bits.h"
#include "kernels/kernel_check.h"

#include "base/random.h"
#include "support/check.h"

static const ht_kernel_row *const TABLES[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};

/* A stored weight that any format may have. */
typedef struct stored {
    ht_weight weight;
    ht_decode_fn *decode;
    float *values; /* decoded */
} stored;

static int stored_make(const char *format, size_t rows, size_t cols, stored *out) {
    float *x = malloc(rows * cols * sizeof *x);
    out->weight = (ht_weight){.batch = 1, .rows = rows, .cols = cols};
    ht_weight *w = &out->weight;
    if (!CHECK_OK(ht_format_parse(format, &w->format)) || !CHECK_OK(ht_format_check_shape(&w->format, rows, cols)))
        return 0;
    for (size_t i = 0; i < rows * cols; i++)
        x[i] = ht_random_normal(3, 1, i);
    ht_planes planes = {{NULL}};
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&w->format, (ht_plane)p, rows, cols);
        w->plane[p] = planes.plane[p] = bytes ? calloc(bytes, 1) : NULL;
        w->stride[p] = bytes;
    }
    ht_range range = ht_range_empty();
    CHECK_OK(ht_range_add(&range, x, HT_F32, rows * cols));
    if (planes.plane[HT_PLANE_GLOBAL])
        *(float *)planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&w->format, NULL, &range);
    CHECK_OK(ht_format_quantize(&w->format, NULL, x, HT_F32, rows, cols, &planes));
    CHECK_OK(ht_format_dequantize(&w->format, &planes, rows, cols, x));
    out->values = x;
    out->decode = ht_kernel_choose(HT_OPERATION_DECODE, kernel_check_flags, w, 1)->fn.decode;
    return 1;
}

static void stored_free(stored *s) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free((void *)(uintptr_t)s->weight.plane[p]);
    free(s->values);
}

static float rounded(float x) {
    return ht_f32_from_bf16(ht_bf16_from_f32(x));
}

/* |y - sum| <= 2^-22 k * sum of magnitudes, and a bit for subnormals: the bound of docs/numerics.md. */
static int is_close(const stored *s, const float *x, size_t x_stride, const float *bias, size_t m, const float *y,
                    size_t y_stride) {
    size_t rows = s->weight.rows, cols = s->weight.cols;
    for (size_t i = 0; i < m; i++)
        for (size_t n = 0; n < rows; n++) {
            double sum = bias ? (double)bias[n] : 0, size = fabs(sum);
            for (size_t k = 0; k < cols; k++) {
                double p = (double)rounded(x[i * x_stride + k]) * (double)rounded(s->values[n * cols + k]);
                sum += p;
                size += fabs(p);
            }
            double error = fabs((double)y[i * y_stride + n] - sum);
            if (!(error <= 0x1p-22 * (double)(cols + 2) * size + 0x1p-120))
                return 0;
        }
    return 1;
}

/* Rows made of dot products of pairs say so in their names. */
static int is_exact(const ht_kernel_row *row) {
    return strstr(row->name, "dot") == NULL;
}

/* One variant, in two calls, at the end of a page, with a canary behind every row. */
static void check_variant(const ht_kernel_row *row, ht_matmul *product, const stored *s, const float *want) {
    size_t m = product->m, rows = s->weight.rows, stride = rows + 3, step = ht_floats_step(&s->weight, m);
    guarded y = guard_allocate(m * stride * sizeof(float), m % 2);
    void *scratch = aligned_alloc(64, (ht_floats_scratch(&s->weight, m) + 63) / 64 * 64);
    memset(y.data, 0x5a, m * stride * sizeof(float));
    product->y = (float *)(void *)y.data;
    product->y_stride = stride;
    for (size_t n = 0; n < rows; n += step)
        row->fn.matmul(product, n, n + step < rows ? n + step : rows, scratch);
    int good = is_close(s, product->x, product->x_stride, product->bias, m, product->y, stride);
    for (size_t i = 0; i < m; i++) {
        if (is_exact(row))
            good &= memcmp(product->y + i * stride, want + i * rows, rows * sizeof *want) == 0;
        for (size_t j = rows; j < stride; j++)
            good &= ht_f32_bits(product->y[i * stride + j]) == 0x5a5a5a5au;
    }
    if (!CHECK(good))
        fprintf(stderr, "  %s, m %zu n %zu k %zu\n", row->name, m, rows, s->weight.cols);
    float *alone = malloc(rows * sizeof *alone); /* the last row, as if it had come by itself */
    ht_matmul one = *product;
    one.x += (m - 1) * product->x_stride;
    one.m = 1;
    one.y = alone;
    step = ht_floats_step(&s->weight, 1);
    for (size_t n = 0; n < rows; n += step)
        row->fn.matmul(&one, n, n + step < rows ? n + step : rows, scratch);
    CHECK_BYTES(alone, product->y + (m - 1) * stride, rows * sizeof *alone);
    free(alone), free(scratch), guard_free(&y);
}

static void check_case(const char *format, size_t m, size_t rows, size_t cols, int has_bias) {
    stored s;
    if (!stored_make(format, rows, cols, &s))
        return;
    size_t stride = cols + 5;
    guarded x = guard_allocate(((m - 1) * stride + cols) * sizeof(float), (int)(m % 3 == 0));
    float *bias = malloc(rows * sizeof *bias), *want = malloc(m * rows * sizeof *want);
    for (size_t i = 0; i < (m - 1) * stride + cols; i++)
        ((float *)(void *)x.data)[i] = ht_random_normal(3, 2, i);
    for (size_t n = 0; n < rows; n++)
        bias[n] = (float)n - 7.5f;
    void *scratch = aligned_alloc(64, (ht_floats_scratch(&s.weight, m) + 63) / 64 * 64);
    ht_matmul product = {.weight = &s.weight,
                         .bias = has_bias ? bias : NULL,
                         .x = (const float *)(const void *)x.data,
                         .m = m,
                         .x_stride = stride,
                         .y = want,
                         .y_stride = rows,
                         .decode = s.decode};
    ht_floats_ref(&product, 0, rows, scratch);
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = TABLES[t]; row->name; row++)
            if (row->operation == HT_OPERATION_FLOATS && (row->needs & kernel_check_flags) == row->needs)
                check_variant(row, &product, &s, want);
    free(scratch), free(bias), free(want), guard_free(&x), stored_free(&s);
}

static void test_floats(void) {
    static const char *const FORMATS[] = {"bf16", "mxfp4", "nvfp4", "mxfp8", "int4_g32", "nf4", "fp8_block"};
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++) {
        size_t wide = strcmp(FORMATS[f], "nf4") == 0 ? 64 : 32;
        check_case(FORMATS[f], 1, 65, wide, 0);
        check_case(FORMATS[f], 7, 130, wide * 10, 1);
        check_case(FORMATS[f], 16, 33, 576, 0);
    }
    for (size_t m = 1; m < 12; m++)
        check_case("bf16", m, 15 + m, 249 + 3 * m, (int)(m % 2));
    check_case("bf16", 3, 64, 1, 1);
    check_case("bf16", 40, 520, 33, 1);
}

/* NaN and Inf go where they go in arithmetic; a row of x meets no other. */
static void test_floats_special(void) {
    stored s;
    float x[3 * 64] = {0}, y[3 * 20];
    if (!stored_make("bf16", 20, 64, &s))
        return;
    x[5] = NAN;
    x[64 + 9] = INFINITY;
    x[128] = 0x1p-140f; /* subnormal: 0 or itself, within the bound */
    void *scratch = aligned_alloc(64, (ht_floats_scratch(&s.weight, 3) + 63) / 64 * 64);
    ht_matmul product = {
        .weight = &s.weight, .x = x, .m = 3, .x_stride = 64, .y = y, .y_stride = 20, .decode = s.decode};
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = TABLES[t]; row->name; row++)
            if (row->operation == HT_OPERATION_FLOATS && (row->needs & kernel_check_flags) == row->needs) {
                row->fn.matmul(&product, 0, 20, scratch);
                for (size_t n = 0; n < 20; n++) {
                    CHECK(isnan(y[n]) && fabsf(y[40 + n]) < 0x1p-126f);
                    CHECK(s.values[n * 64 + 9] == 0 || isinf(y[20 + n]));
                }
            }
    free(scratch), stored_free(&s);
}

void check_floats(void) {
    RUN(test_floats);
    RUN(test_floats_special);
}

/* --- kernel_check floats [FORMAT [M [N [K]]]]: beside the probe of the row's instruction
 * ------------------------------
 */

static double seconds(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double probe_rate(const char *name) {
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = TABLES[t]; row->name; row++)
            if (row->operation == HT_OPERATION_PROBE && strcmp(row->name, name) == 0) {
                double begin = seconds(), macs = row->fn.probe(400000);
                return 1e-9 * macs / (seconds() - begin);
            }
    return 1;
}

static void time_variant(const ht_kernel_row *row, const char *format, const ht_matmul *product, void *scratch) {
    enum { ROUNDS = 9 };
    double rate[ROUNDS], part[ROUNDS];
    const char *probe = is_exact(row) ? "fma_avx2" : "bf16_avx512bf16";
    size_t rows = product->weight->rows, step = ht_floats_step(product->weight, product->m);
    double macs = (double)product->m * (double)rows * (double)product->weight->cols, before = probe_rate(probe);
    for (int i = 0; i < ROUNDS; i++) {
        double begin = seconds();
        for (size_t n = 0; n < rows; n += step)
            row->fn.matmul(product, n, n + step < rows ? n + step : rows, scratch);
        rate[i] = 1e-9 * macs / (seconds() - begin);
        double after = probe_rate(probe);
        part[i] = 2 * rate[i] / (before + after);
        before = after;
    }
    qsort(rate, ROUNDS, sizeof *rate, ascending);
    qsort(part, ROUNDS, sizeof *part, ascending);
    printf("%-16s %-10s %4zu %5zu %5zu %7.1f GMAC/s  %5.1f %% of %s\n", row->name, format, product->m, rows,
           product->weight->cols, rate[ROUNDS / 2], 100 * part[ROUNDS / 2], probe);
}

void bench_floats(int count, char **words) {
    static const char *const FORMATS[] = {"bf16", "mxfp4", "nvfp4", "mxfp8", "int4_g128", "nf4"};
    size_t m = count > 1 ? (size_t)atoi(words[1]) : 512, rows = count > 2 ? (size_t)atoi(words[2]) : 1024;
    size_t cols = count > 3 ? (size_t)atoi(words[3]) : 4096;
    for (size_t f = 0; f < sizeof FORMATS / sizeof *FORMATS; f++) {
        stored s;
        if ((count > 0 && strcmp(words[0], FORMATS[f]) != 0) || !stored_make(FORMATS[f], rows, cols, &s))
            continue;
        float *x = malloc(m * cols * sizeof *x), *y = malloc(m * rows * sizeof *y);
        void *scratch = aligned_alloc(64, (ht_floats_scratch(&s.weight, m) + 63) / 64 * 64);
        for (size_t i = 0; i < m * cols; i++)
            x[i] = ht_random_normal(3, 2, i);
        ht_matmul product = {
            .weight = &s.weight, .x = x, .m = m, .x_stride = cols, .y = y, .y_stride = rows, .decode = s.decode};
        for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
            if (row->operation == HT_OPERATION_FLOATS && (row->needs & kernel_check_flags) == row->needs)
                time_variant(row, FORMATS[f], &product, scratch);
        free(x), free(y), free(scratch), stored_free(&s);
    }
}
