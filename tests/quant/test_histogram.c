/* Histograms of streams: against sorted data, independence of order, splits and threads, re-binning, merging, extremes,
 * the public calls.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/histogram.h"

#include <halftone/observe.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { COLS = 70, ROWS = 600, COUNT = COLS * ROWS };

static ht_context *context(size_t threads) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx = NULL;
    options.threads = threads;
    CHECK_OK(ht_context_create(&options, &ctx));
    return ctx;
}

/* Normal values; columns of different sizes; one value in 500 a hundred times as large, the largest ones late. */
static float *make_values(void) {
    float *x = malloc(COUNT * sizeof *x);
    for (size_t i = 0; i < COUNT; i++) {
        x[i] = ht_random_normal(3, 1, i) * (0.01f + (float)(i % COLS));
        if (ht_random_u32(3, 2, i) % 500 == 0)
            x[i] *= (float)(i / COLS) / 6;
        if (i % COLS == 7)
            x[i] = 0;
    }
    return x;
}

static int up(const void *a, const void *b) {
    const double *x = a, *y = b;
    return (*x > *y) - (*x < *y);
}

/* Value of rank ceil(share n) of a column (COLS: of all), by sorting. */
static double by_sorting(const float *x, size_t column, int magnitudes, double share) {
    double *sorted = malloc(COUNT * sizeof *sorted);
    size_t n = 0;
    for (size_t i = 0; i < COUNT; i++)
        if (column == COLS || i % COLS == column)
            sorted[n++] = magnitudes ? fabs((double)x[i]) : (double)x[i];
    qsort(sorted, n, sizeof *sorted, up);
    double rank = ceil(share * (double)n);
    double value = sorted[rank < 1 ? 0 : (size_t)rank - 1];
    free(sorted);
    return value;
}

static ht_observer *observe(ht_context *ctx, const float *x, size_t rows, size_t step) {
    ht_observer *o = NULL;
    CHECK_OK(ht_observer_create(ctx, COLS, HT_OBSERVE_HISTOGRAM | HT_OBSERVE_COLUMNS, &o));
    for (size_t row = 0; row < rows; row += step)
        CHECK_OK(ht_observer_add(o, x + row * COLS, rows - row < step ? rows - row : step, COLS));
    CHECK_OK(ht_observer_finish(o));
    return o;
}

/* Never below the sorted value, never a bin's width above it; bins no wider than 2 / (bins / 2) of the largest. */
static void test_against_sorting(void) {
    static const double SHARES[] = {0, 1e-4, 0.01, 0.25, 0.5, 0.9, 0.99, 0.999, 0.9999, 1};
    static const size_t COLUMNS[] = {0, 6, 7, 69, COLS};
    ht_context *ctx = context(2);
    float *x = make_values();
    ht_observer *o = observe(ctx, x, ROWS, 100);
    for (size_t c = 0; c < 5; c++)
        for (size_t s = 0; s < sizeof SHARES / sizeof *SHARES; s++)
            for (int magnitudes = 0; magnitudes < 2; magnitudes++) {
                double got = NAN, width = NAN, want = by_sorting(x, COLUMNS[c], magnitudes, SHARES[s]);
                long feature = COLUMNS[c] == COLS ? HT_OBSERVE_ALL : (long)COLUMNS[c];
                CHECK_OK(ht_observer_quantile(o, feature, magnitudes, SHARES[s], &got, &width));
                CHECK(got >= want && got <= want + width);
                CHECK(width <= by_sorting(x, COLUMNS[c], 1, 1) * 4 / (feature < 0 ? 32768 : 256));
                if (SHARES[s] == 1)
                    CHECK(got == want);
            }
    ht_observer_destroy(o);
    free(x);
    ht_context_destroy(ctx);
}

static void check_same(const ht_histogram *a, const ht_histogram *b) {
    CHECK_BYTES(a->count, b->count, a->lines * a->bins * sizeof *a->count);
    CHECK_BYTES(a->seen, b->seen, a->lines * sizeof *a->seen);
    CHECK_BYTES(a->exponent, b->exponent, a->lines * sizeof *a->exponent);
    CHECK_BYTES(a->min, b->min, a->lines * sizeof *a->min);
    CHECK_BYTES(a->max, b->max, a->lines * sizeof *a->max);
}

static ht_histogram *count(ht_context *ctx, size_t lines, const float *x, size_t rows, size_t step) {
    ht_histogram *h = NULL;
    CHECK_OK(ht_histogram_create(ctx, lines, 64, &h));
    for (size_t row = 0; row < rows; row += step)
        CHECK_OK(ht_histogram_add(h, x + row * COLS, rows - row < step ? rows - row : step, COLS));
    return h;
}

/* Splits, threads, the order of rows, runs merged: all the same counts, and those of binning with the last width. */
static void test_same_counts(void) {
    static const size_t STEPS[] = {1, 7, 256, ROWS};
    float *x = make_values(), *turned = malloc(COUNT * sizeof *turned);
    ht_context *first = context(1);
    for (size_t r = 0; r < ROWS; r++)
        memcpy(turned + r * COLS, x + (ROWS - 1 - r) * COLS, COLS * sizeof *x);
    for (size_t lines = 1; lines <= COLS; lines += COLS - 1) {
        ht_histogram *want = count(first, lines, x, ROWS, ROWS), *part;
        for (size_t threads = 1; threads <= 3; threads++)
            for (size_t s = 0; s < 4; s++) {
                ht_context *ctx = context(threads);
                ht_histogram *h = count(ctx, lines, x, ROWS, STEPS[s]), *t = count(ctx, lines, turned, ROWS, STEPS[s]);
                check_same(h, want);
                check_same(t, want);
                ht_histogram_destroy(h);
                ht_histogram_destroy(t);
                ht_context_destroy(ctx);
            }
        for (size_t cut = 0; cut <= ROWS; cut += 150) { /* small values first, then the other way round */
            ht_histogram *a = count(first, lines, x, cut, 50), *b = count(first, lines, x + cut * COLS, ROWS - cut, 50);
            part = count(first, lines, x + cut * COLS, ROWS - cut, 50);
            CHECK_OK(ht_histogram_merge(part, a));
            CHECK_OK(ht_histogram_merge(a, b));
            check_same(a, want);
            check_same(part, want);
            ht_histogram_destroy(a);
            ht_histogram_destroy(b);
            ht_histogram_destroy(part);
        }
        uint64_t *plain = calloc(want->bins, sizeof *plain);
        for (size_t i = 0; i < COUNT; i++)
            if (lines == 1 || i % COLS == 9)
                plain[(long)floor((double)x[i] / ht_histogram_width(want, lines == 1 ? 0 : 9)) +
                      (long)want->bins / 2]++;
        CHECK_BYTES(plain, want->count + (lines == 1 ? 0 : 9) * want->bins, want->bins * sizeof *plain);
        free(plain);
        ht_histogram_destroy(want);
    }
    ht_context_destroy(first);
    free(x);
    free(turned);
}

/* Zeros, subnormals and the largest floats; powers of two at the edges. */
static void test_extremes(void) {
    static const float X[] = {0, -0.0f, 1e-45f, -1e-45f, 1, -1, 2, -2, 3.4028235e38f, -3.4028235e38f};
    ht_context *ctx = context(1);
    ht_histogram *h;
    REQUIRE_OK(ht_histogram_create(ctx, 1, 8, &h));
    CHECK(ht_histogram_quantile(h, 0, 0.5) == 0 && ht_histogram_magnitude(h, 0, 1) == 0);
    for (size_t i = 0; i < sizeof X / sizeof *X; i++) {
        CHECK_OK(ht_histogram_add(h, X + i, 1, 1));
        CHECK_INT(h->seen[0], i + 1);
        uint64_t sum = 0;
        for (size_t b = 0; b < 8; b++)
            sum += h->count[b];
        CHECK_INT(sum, i + 1);
        CHECK(ht_histogram_magnitude(h, 0, 1) == fabs((double)X[i]));
        if (i == 1)
            CHECK(ht_histogram_width(h, 0) == 0);
        if (X[i] == 1) /* bins of 1/2: 1 is in the third from the middle */
            CHECK(ht_histogram_width(h, 0) == 0.5 && h->count[6] == 1);
    }
    ht_histogram_destroy(h);
    CHECK_FAILS(ht_histogram_create(ctx, 1, 6, &h), HT_ERR_SHAPE);
    CHECK_FAILS(ht_histogram_create(ctx, 0, 8, &h), HT_ERR_SHAPE);
    ht_context_destroy(ctx);
}

/* The public calls: rows that are not finite, what is not kept, merging, memory. */
static void test_observer(void) {
    ht_context *ctx = context(2);
    float *x = make_values();
    double value = 0;
    ht_observer *whole = observe(ctx, x, ROWS, ROWS), *a = observe(ctx, x, 256, 256),
                *b = observe(ctx, x + 256 * COLS, ROWS - 256, 11), *plain;
    CHECK_OK(ht_observer_merge(a, b));
    for (size_t i = 0; i <= 20; i++) {
        double merged = 0, want = 0;
        CHECK_OK(ht_observer_quantile(a, HT_OBSERVE_ALL, 0, (double)i / 20, &merged, NULL));
        CHECK_OK(ht_observer_quantile(whole, HT_OBSERVE_ALL, 0, (double)i / 20, &want, NULL));
        CHECK(merged == want);
        CHECK_OK(ht_observer_quantile(a, 3, 1, (double)i / 20, &merged, NULL));
        CHECK_OK(ht_observer_quantile(whole, 3, 1, (double)i / 20, &want, NULL));
        CHECK(merged == want);
    }
    x[5] = NAN;
    x[COLS] = INFINITY;
    CHECK_OK(ht_observer_add(b, x, 2, COLS));
    CHECK_OK(ht_observer_finish(b));
    CHECK_INT(ht_observer_read(b).not_finite, 2);
    CHECK_OK(ht_observer_quantile(b, HT_OBSERVE_ALL, 1, 1, &value, NULL));
    CHECK(isfinite(value));
    CHECK_OK(ht_observer_add(b, x + 3 * COLS, 1, COLS));
    CHECK_FAILS(ht_observer_quantile(b, HT_OBSERVE_ALL, 1, 1, &value, NULL), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_observer_quantile(a, COLS, 1, 1, &value, NULL), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_observer_quantile(a, 0, 1, 1.5, &value, NULL), HT_ERR_ARGUMENT);
    CHECK_FAILS(ht_observer_quantile(a, 0, 1, (double)NAN, &value, NULL), HT_ERR_ARGUMENT);
    REQUIRE_OK(ht_observer_create(ctx, COLS, HT_OBSERVE_RANGE, &plain));
    CHECK_FAILS(ht_observer_quantile(plain, HT_OBSERVE_ALL, 1, 1, &value, NULL), HT_ERR_ARGUMENT);
    ht_observer_destroy(plain);
    ht_observer_destroy(whole);
    ht_observer_destroy(a);
    ht_observer_destroy(b);
    free(x);
    ht_context_destroy(ctx);
}

int main(void) {
    RUN(test_against_sorting);
    RUN(test_same_counts);
    RUN(test_extremes);
    RUN(test_observer);
    return check_finish();
}
