/* Statistics of inputs: worked example, independence of how rows arrive, merging, rows that are not finite. */
#include "quant/calibrate/moments.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { COLS = 75, ROWS = 700, ALL = HT_MOMENT_RANGE | HT_MOMENT_MEAN | HT_MOMENT_SECOND };

static ht_context *context(size_t threads, const char *cpu) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx = NULL;
    options.threads = threads;
    options.cpu = cpu;
    CHECK_OK(ht_context_create(&options, &ctx));
    return ctx;
}

static void fill(float *x, size_t count, uint64_t stream) {
    for (size_t i = 0; i < count; i++)
        x[i] = ht_random_normal(7, stream, i);
}

static void check_same(const ht_moments *a, const ht_moments *b) {
    CHECK_INT(a->tokens, b->tokens);
    CHECK_INT(a->not_finite, b->not_finite);
    CHECK_BYTES(a->second, b->second, a->cols * a->cols * sizeof *a->second);
    CHECK_BYTES(a->abs_max, b->abs_max, a->cols * sizeof *a->abs_max);
    CHECK_BYTES(a->min, b->min, a->cols * sizeof *a->min);
    CHECK_BYTES(a->max, b->max, a->cols * sizeof *a->max);
    CHECK_BYTES(a->abs_sum, b->abs_sum, a->cols * sizeof *a->abs_sum);
    CHECK_BYTES(a->square_sum, b->square_sum, a->cols * sizeof *a->square_sum);
}

/* T-H1: twice the upper triangle is the specification's H for one call with all rows. */
static void test_worked(void) {
    static const float x[] = {1, 2, 0, 1, 0, 1, 1, 2, 2, 1, 1, 0};
    static const float want[] = {5, 4, 2, 1, 0, 6, 2, 4, 0, 0, 2, 2, 0, 0, 0, 5};
    ht_context *ctx = context(1, NULL);
    for (size_t step = 1; step <= 3; step += 2) { /* one row a call, and all at once */
        ht_moments *m;
        REQUIRE_OK(ht_moments_create(ctx, 4, ALL, &m));
        for (size_t row = 0; row < 3; row += step)
            CHECK_OK(ht_moments_add(m, x + row * 4, NULL, step, 4));
        CHECK_OK(ht_moments_finish(m));
        CHECK_F32(m->second, want, 16);
        CHECK_INT(m->tokens, 3);
        CHECK_NEAR(m->abs_sum[1], 4, 0);
        CHECK_NEAR(m->square_sum[3], 5, 0);
        CHECK_NEAR(m->abs_max[0], 2, 0);
        CHECK_NEAR(m->min[3], 0, 0);
        CHECK_NEAR(m->max[3], 2, 0);
        ht_moments_destroy(m);
    }
    ht_context_destroy(ctx);
}

/* Sums against f64. */
static void test_against_doubles(void) {
    ht_context *ctx = context(2, NULL);
    float *x = malloc(ROWS * COLS * sizeof *x);
    fill(x, ROWS * COLS, 1);
    ht_moments *m;
    REQUIRE_OK(ht_moments_create(ctx, COLS, ALL, &m));
    CHECK_OK(ht_moments_add(m, x, NULL, ROWS, COLS));
    CHECK_OK(ht_moments_finish(m));
    for (size_t i = 0; i < COLS; i++)
        for (size_t j = 0; j < COLS; j++) {
            double sum = 0;
            for (size_t r = 0; r < ROWS && j >= i; r++)
                sum += (double)x[r * COLS + i] * (double)x[r * COLS + j];
            CHECK_WITHIN(m->second[i * COLS + j], sum, 1e-3);
        }
    ht_moments_destroy(m);
    free(x);
    ht_context_destroy(ctx);
}

static ht_moments *gather(ht_context *ctx, const float *x, size_t rows, size_t stride, size_t step) {
    ht_moments *m = NULL;
    CHECK_OK(ht_moments_create(ctx, COLS, ALL, &m));
    for (size_t row = 0; row < rows; row += step)
        CHECK_OK(ht_moments_add(m, x + row * stride, NULL, rows - row < step ? rows - row : step, stride));
    CHECK_OK(ht_moments_finish(m));
    return m;
}

/* However the calls split the rows, for any stride, thread count and instruction set: the same bits. */
static void test_same_bits(void) {
    static const size_t STEPS[] = {1, 7, 256, 300, ROWS};
    static const char *const CPUS[] = {NULL, "baseline"};
    float *x = malloc(ROWS * COLS * sizeof *x), *wide = malloc(ROWS * (COLS + 5) * sizeof *x);
    fill(x, ROWS * COLS, 1);
    for (size_t r = 0; r < ROWS; r++)
        memcpy(wide + r * (COLS + 5), x + r * COLS, COLS * sizeof *x);
    ht_context *first = context(1, NULL);
    ht_moments *want = gather(first, x, ROWS, COLS, ROWS);
    for (size_t threads = 1; threads <= 3; threads++)
        for (size_t cpu = 0; cpu < 2; cpu++) {
            ht_context *ctx = context(threads, CPUS[cpu]);
            for (size_t s = 0; s < sizeof STEPS / sizeof *STEPS; s++) {
                ht_moments *m = gather(ctx, x, ROWS, COLS, STEPS[s]), *n = gather(ctx, wide, ROWS, COLS + 5, STEPS[s]);
                check_same(m, want);
                check_same(n, want);
                ht_moments_destroy(m);
                ht_moments_destroy(n);
            }
            ht_context_destroy(ctx);
        }
    ht_moments_destroy(want);
    ht_context_destroy(first);
    free(x);
    free(wide);
}

/* Experts whose rows arrive in turns, in pieces, have what each has alone; one without rows keeps its count of 0. */
static void test_groups(void) {
    enum { EXPERTS = 4 };
    static const size_t END[EXPERTS] = {130, 130, 500, ROWS}; /* of the expert's rows; the second has none */
    ht_context *ctx = context(2, NULL);
    float *x = malloc(ROWS * COLS * sizeof *x);
    fill(x, ROWS * COLS, 3);
    ht_moments *grouped[EXPERTS];
    for (size_t e = 0; e < EXPERTS; e++)
        REQUIRE_OK(ht_moments_create(ctx, COLS, ALL, &grouped[e]));
    for (size_t offset = 0; offset < 400; offset += 90)
        for (size_t e = 0; e < EXPERTS; e++) {
            size_t begin = e ? END[e - 1] : 0, rows = END[e] - begin;
            size_t n = offset >= rows ? 0 : rows - offset < 90 ? rows - offset : 90;
            CHECK_OK(ht_moments_add(grouped[e], x + (begin + offset) * COLS, NULL, n, COLS));
        }
    for (size_t e = 0; e < EXPERTS; e++) {
        size_t begin = e ? END[e - 1] : 0;
        CHECK_OK(ht_moments_finish(grouped[e]));
        ht_moments *alone = gather(ctx, x + begin * COLS, END[e] - begin, COLS, ROWS);
        check_same(grouped[e], alone);
        ht_moments_destroy(alone);
        ht_moments_destroy(grouped[e]);
    }
    free(x);
    ht_context_destroy(ctx);
}

static void test_merge(void) {
    ht_context *ctx = context(2, NULL);
    float *x = malloc(ROWS * COLS * sizeof *x);
    fill(x, ROWS * COLS, 4);
    ht_moments *whole = gather(ctx, x, 512, COLS, 512), *a = gather(ctx, x, 256, COLS, 256),
               *b = gather(ctx, x + 256 * COLS, 256, COLS, 256), *narrow;
    CHECK_OK(ht_moments_merge(a, b));
    CHECK_INT(a->tokens, 512);
    CHECK_BYTES(a->second, whole->second, COLS * COLS * sizeof(float)); /* each half is one block */
    CHECK_BYTES(a->min, whole->min, COLS * sizeof(float));
    for (size_t c = 0; c < COLS; c++)
        CHECK_NEAR(a->square_sum[c], whole->square_sum[c], 1e-14);
    CHECK_OK(ht_moments_create(ctx, COLS - 1, ALL, &narrow));
    CHECK_FAILS(ht_moments_merge(a, narrow), HT_ERR_SHAPE);
    CHECK_OK(ht_moments_add(b, x, NULL, 1, COLS));
    CHECK_FAILS(ht_moments_merge(a, b), HT_ERR_ARGUMENT);
    ht_moments_destroy(narrow);
    ht_moments_destroy(whole);
    ht_moments_destroy(a);
    ht_moments_destroy(b);
    free(x);
    ht_context_destroy(ctx);
}

/* Rows with a NaN or an infinity are counted and change nothing else. */
static void test_not_finite(void) {
    ht_context *ctx = context(1, NULL);
    float *x = malloc(ROWS * COLS * sizeof *x), *bad = malloc((ROWS + 3) * COLS * sizeof *x);
    fill(x, ROWS * COLS, 5);
    memcpy(bad, x, 10 * COLS * sizeof *x);
    for (size_t r = 10; r < 13; r++)
        memcpy(bad + r * COLS, x, COLS * sizeof *x);
    memcpy(bad + 13 * COLS, x + 10 * COLS, (ROWS - 10) * COLS * sizeof *x);
    bad[10 * COLS + 3] = NAN;
    bad[11 * COLS] = INFINITY;
    bad[12 * COLS + COLS - 1] = -INFINITY;
    ht_moments *want = gather(ctx, x, ROWS, COLS, ROWS), *m = gather(ctx, bad, ROWS + 3, COLS, 100);
    CHECK_INT(m->not_finite, 3);
    m->not_finite = 0;
    check_same(m, want);
    ht_moments_destroy(want);
    ht_moments_destroy(m);
    free(x);
    free(bad);
    ht_context_destroy(ctx);
}

static void test_cross(void) {
    ht_context *ctx = context(2, NULL);
    float *x = malloc(ROWS * COLS * sizeof *x), *y = malloc(ROWS * COLS * sizeof *y);
    fill(x, ROWS * COLS, 6);
    fill(y, ROWS * COLS, 8);
    ht_moments *m, *n;
    REQUIRE_OK(ht_moments_create(ctx, COLS, HT_MOMENT_CROSS, &m));
    REQUIRE_OK(ht_moments_create(ctx, COLS, HT_MOMENT_CROSS, &n));
    CHECK_FAILS(ht_moments_add(m, x, NULL, 1, COLS), HT_ERR_ARGUMENT);
    CHECK_OK(ht_moments_add(m, x, y, ROWS, COLS));
    for (size_t r = 0; r < ROWS; r += 50)
        CHECK_OK(ht_moments_add(n, x + r * COLS, y + r * COLS, 50, COLS));
    CHECK_OK(ht_moments_finish(m));
    CHECK_OK(ht_moments_finish(n));
    CHECK_BYTES(m->cross, n->cross, COLS * COLS * sizeof *m->cross);
    for (size_t i = 0; i < COLS; i += 11)
        for (size_t j = 0; j < COLS; j++) {
            double sum = 0;
            for (size_t r = 0; r < ROWS; r++)
                sum += ((double)y[r * COLS + i] - (double)x[r * COLS + i]) * (double)x[r * COLS + j];
            CHECK_WITHIN(m->cross[i * COLS + j], sum, 2e-3);
        }
    ht_moments_destroy(m);
    ht_moments_destroy(n);
    free(x);
    free(y);
    ht_context_destroy(ctx);
}

/* What one takes is what it says. */
static void test_bytes(void) {
    ht_context *ctx = context(1, NULL);
    size_t before = ht_context_memory_used(ctx);
    ht_moments *m;
    REQUIRE_OK(ht_moments_create(ctx, COLS, ALL, &m));
    size_t used = ht_context_memory_used(ctx) - before;
    CHECK(used >= ht_moments_bytes(COLS, ALL) && used <= ht_moments_bytes(COLS, ALL) + 9 * 128);
    ht_moments_destroy(m);
    CHECK_INT(ht_context_memory_used(ctx), before);
    CHECK_FAILS(ht_moments_create(ctx, 0, ALL, &m), HT_ERR_SHAPE);
    CHECK_FAILS(ht_moments_create(ctx, SIZE_MAX / 8, ALL, &m), HT_ERR_SHAPE);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_worked);
    RUN(test_against_doubles);
    RUN(test_same_bits);
    RUN(test_groups);
    RUN(test_merge);
    RUN(test_not_finite);
    RUN(test_cross);
    RUN(test_bytes);
    return check_finish();
}
