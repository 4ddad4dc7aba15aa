/* Dense products against a sum written out (fmaf in the order that dense.h states), bit for bit: every kernel row,
 * shapes around the tile, parts, threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/context.h"
#include "base/cpu.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include "ops/dense.h"
#include "support/check.h"

static float *random_values(size_t count, uint64_t stream) {
    float *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = ht_random_normal(11, stream, i);
    return x;
}

static ht_context *context(size_t threads, const char *cpu) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx = NULL;
    options.threads = threads;
    options.cpu = cpu;
    CHECK_OK(ht_context_create(&options, &ctx));
    return ctx;
}

/* The definition. */
static void by_hand(const ht_dense_job *job) {
    for (size_t i = 0; i < job->m; i++)
        for (size_t j = job->part == HT_DENSE_UPPER ? i : 0; j < job->n; j++)
            for (size_t first = 0; first < job->k; first += HT_DENSE_DEPTH) {
                float sum = 0;
                for (size_t q = first; q < job->k && q < first + HT_DENSE_DEPTH; q++) {
                    float a = job->a.at[i * job->a.step + q * job->a.step_k];
                    sum = fmaf(job->minus ? -a : a, job->b.at[j * job->b.step + q * job->b.step_k], sum);
                }
                job->c[i * job->c_stride + j] += sum;
            }
}

static void check_job(ht_context *ctx, ht_dense_job job) {
    size_t count = job.m * job.c_stride;
    float *c = random_values(count, 3), *want = malloc((count + 1) * sizeof *want);
    memcpy(want, c, count * sizeof *c);
    job.c = want;
    by_hand(&job);
    job.c = c;
    CHECK_OK(ht_dense_run(ctx, &job));
    CHECK_BYTES(c, want, count * sizeof *c); /* what lies beside the matrix and below the diagonal too */
    free(c), free(want);
}

static void check_shapes(ht_context *ctx) {
    static const size_t M[] = {1, 12, 13, 40}, N[] = {1, 31, 32, 70}, K[] = {1, 5, 256, 300, 515};
    for (size_t s = 0; s < 4 * 4 * 5; s++) {
        size_t m = M[s % 4], n = N[s / 4 % 4], k = K[s / 16];
        float *a = random_values(m * (k + 2) + k * (m + 3), 1), *b = random_values(n * (k + 1) + k * (n + 2), 2);
        ht_dense_job job = {.m = m, .n = n, .k = k, .a = {a, k + 2, 1}, .b = {b, k + 1, 1}, .c_stride = n + 3};
        check_job(ctx, job);
        job.minus = 1;
        job.a = (ht_dense_operand){a, 1, m + 3};
        check_job(ctx, job);
        job.b = (ht_dense_operand){b, 1, n + 2};
        job.part = HT_DENSE_UPPER;
        check_job(ctx, job);
        free(a), free(b);
    }
}

static void test_levels(void) {
    static const char *const LEVELS[] = {"baseline", "avx2", "avx512", NULL};
    for (size_t i = 0; i < 4; i++) {
        ht_context_options options = ht_context_options_default();
        ht_context *ctx = NULL;
        options.cpu = LEVELS[i];
        if (ht_context_create(&options, &ctx) != HT_OK)
            continue; /* another processor family */
        check_shapes(ctx);
        ht_context_destroy(ctx);
    }
}

static void test_threads(void) {
    enum { ROWS = 256, COLS = 150 };
    float *x = random_values(2 * ROWS * COLS, 5);
    float *one = calloc(COLS * COLS, sizeof *one), *three = calloc(COLS * COLS, sizeof *three);
    float *twice = calloc(COLS * COLS, sizeof *twice);
    ht_context *alone = context(1, NULL), *several = context(3, NULL);
    CHECK_OK(ht_dense_add_squares(alone, x, 2 * ROWS, COLS, COLS, one));
    CHECK_OK(ht_dense_add_squares(several, x, 2 * ROWS, COLS, COLS, three));
    CHECK_OK(ht_dense_add_squares(several, x, ROWS, COLS, COLS, twice));
    CHECK_OK(ht_dense_add_squares(several, x + ROWS * COLS, ROWS, COLS, COLS, twice));
    CHECK_BYTES(three, one, COLS * COLS * sizeof *one);
    CHECK_BYTES(twice, one, COLS * COLS * sizeof *one);
    for (size_t i = 0; i < COLS; i++)
        for (size_t j = 0; j < COLS; j++) {
            double sum = 0;
            for (size_t q = 0; q < 2 * ROWS; q++)
                sum += (double)x[q * COLS + i] * (double)x[q * COLS + j];
            CHECK_WITHIN(one[i * COLS + j], j < i ? 0 : sum, 1e-3);
        }
    ht_context_destroy(alone), ht_context_destroy(several);
    free(x), free(one), free(three), free(twice);
}

/* Rows of b times a list of values: fused, in the order of the list, at every level. */
static void test_sparse(void) {
    enum { ROWS = 40, STRIDE = 310 };
    static const char *const LEVELS[] = {NULL, "avx2", "baseline"};
    static const size_t WIDTHS[] = {1, 15, 16, 64, 129, 300};
    float *b = random_values(ROWS * STRIDE, 5), *value = random_values(ROWS, 6), *c = random_values(STRIDE, 7);
    uint16_t index[ROWS];
    for (size_t q = 0; q < ROWS; q++)
        index[q] = (uint16_t)((q * 7 + 3) % ROWS);
    for (size_t l = 0; l < 3; l++) {
        ht_context_options options = ht_context_options_default();
        ht_context *ctx = NULL;
        options.cpu = LEVELS[l];
        if (ht_context_create(&options, &ctx) != HT_OK)
            continue; /* another processor family */
        ht_sparse_fn *add = ht_kernel_choose(HT_OPERATION_SPARSE, ht_cpu_flags(ctx), NULL, 1)->fn.sparse;
        for (size_t s = 0; s < 12; s++) {
            float got[STRIDE], want[STRIDE];
            size_t n = WIDTHS[s % 6], count = s < 6 ? ROWS - 3 : 0;
            memcpy(got, c, sizeof got);
            memcpy(want, c, sizeof want);
            for (size_t j = 0; j < n; j++)
                for (size_t q = 0; q < count; q++)
                    want[j] = fmaf(value[q], b[index[q] * STRIDE + j], want[j]);
            add(value, index, count, b, STRIDE, got, n);
            CHECK_BYTES(got, want, sizeof got);
        }
        ht_context_destroy(ctx);
    }
    free(b), free(value), free(c);
}

static void test_special(void) {
    ht_context *ctx = context(1, NULL);
    float a[3] = {0x1p-100f, INFINITY, 0}, b[3] = {-0x1p-100f, 1, 5}, c[9] = {0};
    ht_dense_job job = {.m = 3, .n = 3, .k = 1, .a = {a, 1, 3}, .b = {b, 1, 3}, .c = c, .c_stride = 3};
    CHECK_OK(ht_dense_run(ctx, &job));
    CHECK(c[0] == 0); /* underflow */
    CHECK(c[3] == -INFINITY && c[4] == INFINITY);
    CHECK(c[8] == 0);
    job.k = 0;
    job.a.at = NULL;
    CHECK_OK(ht_dense_run(ctx, &job)); /* nothing to add */
    CHECK(c[4] == INFINITY);
    ht_context_destroy(ctx);
}

/* A row told to those after it: rounded twice, at every level. */
static void test_spread(void) {
    enum { ROWS = 13 };
    static const char *const LEVELS[] = {NULL, "avx2", "baseline"};
    float *e = random_values(HT_DENSE_COLS, 8), *f = random_values(ROWS, 9);
    float *t = random_values(ROWS * HT_DENSE_COLS, 10), differs = 0;
    for (size_t l = 0; l < 3; l++) {
        ht_context_options options = ht_context_options_default();
        ht_context *ctx = NULL;
        options.cpu = LEVELS[l];
        if (ht_context_create(&options, &ctx) != HT_OK)
            continue; /* another processor family */
        ht_spread_fn *spread = ht_kernel_choose(HT_OPERATION_SPREAD, ht_cpu_flags(ctx), NULL, 1)->fn.spread;
        for (size_t count = 0; count < ROWS; count++) {
            float got[ROWS * HT_DENSE_COLS], want[ROWS * HT_DENSE_COLS];
            memcpy(got, t, sizeof got);
            memcpy(want, t, sizeof want);
            for (size_t i = 0; i < count * HT_DENSE_COLS; i++) {
                volatile float product = e[i % HT_DENSE_COLS] * f[i / HT_DENSE_COLS];
                want[i] += product;
                differs += want[i] != fmaf(e[i % HT_DENSE_COLS], f[i / HT_DENSE_COLS], t[i]);
            }
            spread(e, f, count, got);
            CHECK_BYTES(got, want, sizeof got);
        }
        ht_context_destroy(ctx);
    }
    CHECK(differs > 0); /* fused sums would be seen */
    free(e), free(f), free(t);
}

int main(void) {
    RUN(test_levels);
    RUN(test_threads);
    RUN(test_sparse);
    RUN(test_spread);
    RUN(test_special);
    return check_finish();
}
