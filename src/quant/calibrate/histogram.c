/* Histograms of streams of floats, one line or one for every column: counting, re-binning, merging, order statistics.
 *
 *     e = 0   | -2 | -1 | 0 | 1 |         values in [-2, 2)
 *     e = 1   |   -2    |  -1   |  0  |  1  |     bins -2, -1 -> -1; 0, 1 -> 0; the outer ones begin empty
 *
 * Counts are integers and the exponent is a maximum, so every order of adding gives the same. Refuses nothing finite;
 * rows that are not finite are the caller's business (moments.h). Source: algorithms specification, section 2.7.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/histogram.h"

#include <math.h>   /* frexp, ldexp, floor, ceil, fabs */
#include <string.h> /* memset */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"

enum { STRIP = 64 };

size_t ht_histogram_bytes(size_t lines, size_t bins) {
    return sizeof(ht_histogram) + lines * ((bins + 1) * sizeof(uint64_t) + 2 * sizeof(float) + sizeof(int));
}

ht_status ht_histogram_create(ht_context *ctx, size_t lines, size_t bins, ht_histogram **out) {
    ht_histogram *h;
    *out = NULL;
    if (!lines || bins < 4 || bins & (bins - 1) || lines > SIZE_MAX / (bins + 4) / sizeof(uint64_t))
        return ht_fail(HT_ERR_SHAPE, "histograms: %zu lines of %zu bins", lines, bins);
    HT_TRY(ht_allocate(ctx, 1, sizeof *h, "histograms", &h));
    *h = (ht_histogram){.ctx = ctx, .lines = lines, .bins = bins};
    ht_status status = ht_allocate(ctx, lines * bins, sizeof *h->count, "histograms", &h->count);
    if (status == HT_OK)
        status = ht_allocate(ctx, lines, sizeof *h->seen, "histograms", &h->seen);
    if (status == HT_OK)
        status = ht_allocate(ctx, lines, sizeof *h->min, "histograms", &h->min);
    if (status == HT_OK)
        status = ht_allocate(ctx, lines, sizeof *h->max, "histograms", &h->max);
    if (status == HT_OK)
        status = ht_allocate(ctx, lines, sizeof *h->exponent, "histograms", &h->exponent);
    if (status != HT_OK) {
        ht_histogram_destroy(h);
        return status;
    }
    for (size_t i = 0; i < lines; i++) {
        h->min[i] = INFINITY;
        h->max[i] = -INFINITY;
        h->exponent[i] = HT_HISTOGRAM_EMPTY;
    }
    *out = h;
    return HT_OK;
}

void ht_histogram_destroy(ht_histogram *h) {
    if (!h)
        return;
    ht_release(h->ctx, h->count);
    ht_release(h->ctx, h->seen);
    ht_release(h->ctx, h->min);
    ht_release(h->ctx, h->max);
    ht_release(h->ctx, h->exponent);
    ht_release(h->ctx, h);
}

/* --- Bins ------------------------------------------------------------------------------------------------------ */

/* The least e under which a magnitude lies inside the bins. */
static int exponent_of(const ht_histogram *h, double magnitude) {
    int above, half;
    if (!(magnitude > 0))
        return HT_HISTOGRAM_EMPTY;
    frexp(magnitude, &above); /* magnitude < 2^above */
    frexp((double)h->bins / 2, &half);
    return above - (half - 1);
}

/* floor(k / 2^d) of bins counted from -bins / 2. */
static size_t coarser(size_t bin, size_t bins, int d) {
    long k = (long)bin - (long)(bins / 2);
    k = d >= 62 ? (k < 0 ? -1 : 0) : (k >= 0 ? k >> d : -((-k + ((long)1 << d) - 1) >> d));
    return (size_t)(k + (long)(bins / 2));
}

/* Bins of the line become as wide as 2^to. In place: towards the middle from both sides. */
static void widen(ht_histogram *h, size_t line, int to) {
    uint64_t *count = h->count + line * h->bins;
    int from = h->exponent[line];
    if (to <= from)
        return;
    h->exponent[line] = to;
    if (from == HT_HISTOGRAM_EMPTY)
        return; /* zeros are in bin 0 under every width */
    for (size_t i = h->bins / 2; i < h->bins; i++) {
        uint64_t n = count[i];
        count[i] = 0;
        count[coarser(i, h->bins, to - from)] += n;
    }
    for (size_t i = h->bins / 2; i-- > 0;) {
        uint64_t n = count[i];
        count[i] = 0;
        count[coarser(i, h->bins, to - from)] += n;
    }
}

/* n values, `stride` apart. */
static void add_line(ht_histogram *h, size_t line, const float *x, size_t n, size_t stride) {
    float low = h->min[line], high = h->max[line];
    for (size_t i = 0; i < n; i++) {
        float value = x[i * stride];
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
    h->min[line] = low;
    h->max[line] = high;
    h->seen[line] += n;
    double magnitude = fabs((double)low) > fabs((double)high) ? fabs((double)low) : fabs((double)high);
    widen(h, line, n ? exponent_of(h, magnitude) : HT_HISTOGRAM_EMPTY);
    uint64_t *middle = h->count + line * h->bins + h->bins / 2;
    if (h->exponent[line] == HT_HISTOGRAM_EMPTY) {
        *middle += n;
        return;
    }
    double per_width = ldexp(1, -h->exponent[line]);
    for (size_t i = 0; i < n; i++)
        middle[(long)floor((double)x[i * stride] * per_width)]++;
}

typedef struct adding {
    ht_histogram *histogram;
    const float *x;
    size_t rows;
} adding;

static ht_status add_strip(void *arg, size_t task, size_t worker) {
    const adding *a = arg;
    ht_histogram *h = a->histogram;
    (void)worker;
    for (size_t c = task * STRIP; c < h->lines && c < (task + 1) * STRIP; c++)
        add_line(h, c, a->x + c, a->rows, h->lines);
    return HT_OK;
}

ht_status ht_histogram_add(ht_histogram *h, const float *x, size_t rows, size_t cols) {
    adding a = {h, x, rows};
    if (h->lines == 1) {
        add_line(h, 0, x, rows * cols, 1);
        return HT_OK;
    }
    if (cols != h->lines)
        return ht_fail(HT_ERR_SHAPE, "histograms of %zu columns, rows of %zu", h->lines, cols);
    return ht_parallel_for(h->ctx, (h->lines + STRIP - 1) / STRIP, add_strip, &a);
}

ht_status ht_histogram_merge(ht_histogram *into, const ht_histogram *from) {
    if (into->lines != from->lines || into->bins != from->bins)
        return ht_fail(HT_ERR_SHAPE, "histograms: %zu lines of %zu bins do not go with %zu of %zu", into->lines,
                       into->bins, from->lines, from->bins);
    for (size_t line = 0; line < into->lines; line++) {
        const uint64_t *count = from->count + line * from->bins;
        uint64_t *sum = into->count + line * into->bins;
        widen(into, line, from->exponent[line]);
        int finer = from->exponent[line] == HT_HISTOGRAM_EMPTY ? 0 : into->exponent[line] - from->exponent[line];
        for (size_t i = 0; i < into->bins; i++)
            sum[coarser(i, into->bins, finer)] += count[i];
        into->seen[line] += from->seen[line];
        into->min[line] = from->min[line] < into->min[line] ? from->min[line] : into->min[line];
        into->max[line] = from->max[line] > into->max[line] ? from->max[line] : into->max[line];
    }
    return HT_OK;
}

/* --- Order statistics ------------------------------------------------------------------------------------------ */

double ht_histogram_width(const ht_histogram *h, size_t line) {
    return h->exponent[line] == HT_HISTOGRAM_EMPTY ? 0 : ldexp(1, h->exponent[line]);
}

/* How many values are not above the one that is asked for: 1 to seen. */
static uint64_t rank_of(const ht_histogram *h, size_t line, double share) {
    double rank = ceil((share > 0 ? share < 1 ? share : 1 : 0) * (double)h->seen[line]);
    return rank < 1 ? 1 : rank < (double)h->seen[line] ? (uint64_t)rank : h->seen[line];
}

double ht_histogram_quantile(const ht_histogram *h, size_t line, double share) {
    const uint64_t *count = h->count + line * h->bins;
    if (!h->seen[line])
        return 0;
    uint64_t rank = rank_of(h, line, share), below = 0;
    size_t bin = 0;
    while ((below += count[bin]) < rank)
        bin++;
    double edge = ((double)bin + 1 - (double)(h->bins / 2)) * ht_histogram_width(h, line);
    return edge < (double)h->max[line] ? edge : (double)h->max[line];
}

double ht_histogram_magnitude(const ht_histogram *h, size_t line, double share) {
    const uint64_t *middle = h->count + line * h->bins + h->bins / 2;
    if (!h->seen[line])
        return 0;
    double low = fabs((double)h->min[line]), high = fabs((double)h->max[line]), most = low > high ? low : high;
    uint64_t rank = rank_of(h, line, share), below = 0;
    size_t bin = 0;
    while ((below += middle[bin] + middle[-1 - (long)bin]) < rank)
        bin++;
    double edge = ((double)bin + 1) * ht_histogram_width(h, line);
    return edge < most ? edge : most;
}
