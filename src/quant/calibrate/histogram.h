/* Histograms of streams: where the values of a tensor, or of each of its columns, lie. Fixed memory, any number of
 * values.
 *
 *     bin k of a line holds [k 2^e, (k + 1) 2^e),  k = -bins / 2 .. bins / 2 - 1
 *
 * Re-binning: e is the least exponent under which the largest magnitude seen so far fits. When a larger value comes, e
 * grows by d and 2^d neighbouring bins become one: bin k goes to floor(k / 2^d), where its values would have gone had e
 * been there from the start. So the counts depend on the set of values alone, not on their order, on how calls or runs
 * split them, or on threads; merging is adding. Source: algorithms specification, sections 2.1 and 2.7. */
#ifndef HT_QUANT_CALIBRATE_HISTOGRAM_H
#define HT_QUANT_CALIBRATE_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

/* Bins of a line: of a whole tensor, and of one column among many. */
enum { HT_HISTOGRAM_BINS = 1 << 15, HT_HISTOGRAM_COLUMN_BINS = 1 << 8 };

typedef struct ht_histogram {
    ht_context *ctx;
    size_t lines, bins;
    uint64_t *count; /* [lines, bins] */
    uint64_t *seen;  /* [lines] sum of counts */
    float *min, *max;
    int *exponent; /* [lines] e; HT_HISTOGRAM_EMPTY: nothing but zeros came */
} ht_histogram;

enum { HT_HISTOGRAM_EMPTY = -32768 };

/* lines: 1, all columns together, or the number of columns. bins: a power of two, at least 4. Fails with MEMORY. */
ht_status ht_histogram_create(ht_context *ctx, size_t lines, size_t bins, ht_histogram **out);
void ht_histogram_destroy(ht_histogram *histogram); /* NULL is allowed */
/* Rows of x [rows, cols], contiguous and finite; cols is the number of lines, or anything where there is one. */
ht_status ht_histogram_add(ht_histogram *histogram, const float *x, size_t rows, size_t cols);
/* into += from. Fails with SHAPE: other lines or bins. */
ht_status ht_histogram_merge(ht_histogram *into, const ht_histogram *from);
size_t ht_histogram_bytes(size_t lines, size_t bins);

/* Width of a line's bins; 0 where nothing but zeros came. */
double ht_histogram_width(const ht_histogram *histogram, size_t line);
/* Of n values sorted upwards the one at ceil(share n), or magnitudes sorted upwards: never less than it, and more by
 * a bin's width at most. Share 1 gives the largest itself. 0 where nothing came. */
double ht_histogram_quantile(const ht_histogram *histogram, size_t line, double share);
double ht_histogram_magnitude(const ht_histogram *histogram, size_t line, double share);

#endif
