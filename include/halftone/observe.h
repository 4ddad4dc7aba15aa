/* Calibration in a program of one's own: statistics of a linear's inputs, and the codes of one matrix chosen by them.
 *
 *     ht_observer *inputs;
 *     ht_observer_create(ctx, features, HT_OBSERVE_SECOND, &inputs);
 *     ht_observer_add(inputs, x, rows, features);                        (as often as there are inputs)
 *     ht_observer_finish(inputs);
 *     ht_quantize_observed(ctx, &format, NULL, "gptq", NULL, weight, rows, features, inputs, &planes, decoded, NULL);
 */
#ifndef HT_OBSERVE_H
#define HT_OBSERVE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/format.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is kept of the inputs: O(features), or O(features^2) for SECOND, or 256 KiB for HISTOGRAM; never O(rows). */
enum {
    HT_OBSERVE_RANGE = 1 << 0,     /* largest magnitude, minimum, maximum */
    HT_OBSERVE_MEAN = 1 << 1,      /* sum |x|, sum x^2 */
    HT_OBSERVE_SECOND = 1 << 2,    /* sum x x^T */
    HT_OBSERVE_HISTOGRAM = 1 << 4, /* 32768 bins for all values together */
    HT_OBSERVE_COLUMNS = 1 << 5    /* 256 bins for each feature */
};

typedef struct ht_moments ht_observer;

/* Fails with SHAPE (no features), MEMORY (second moments of n features take 4 n^2 bytes). */
HT_API ht_status ht_observer_create(ht_context *ctx, size_t features, unsigned what, ht_observer **out);
HT_API void ht_observer_destroy(ht_observer *observer); /* NULL is allowed */

/* Rows of x [rows, features] f32, `stride` floats apart. Rows with a NaN or infinity are left out and counted. The
 * statistics depend on the sequence of rows alone, bit for bit: not on how calls split it, threads or instruction set.
 */
HT_API ht_status ht_observer_add(ht_observer *observer, const float *x, size_t rows, size_t stride);
/* Add what waits for a block to fill; needed before statistics are read or merged. Rows may follow. */
HT_API ht_status ht_observer_finish(ht_observer *observer);
/* into += from: both finished, of the same features and kinds (SHAPE). */
HT_API ht_status ht_observer_merge(ht_observer *into, const ht_observer *from);

/* The statistics, good until the next call on the observer; NULL where they are not kept. */
typedef struct ht_observation {
    size_t features;
    uint64_t rows, not_finite;          /* counted; left out */
    const float *abs_max, *min, *max;   /* [features] */
    const double *abs_sum, *square_sum; /* [features] */
    const float *second;                /* [features, features], upper triangle */
} ht_observation;
HT_API ht_observation ht_observer_read(const ht_observer *observer);

/* Where values lie in order. Of n sorted upwards the value at ceil(share n), as the histogram has it: that value or up
 * to a bin's width (*width; may be NULL) above it; share 1: exactly the largest. feature: HT_OBSERVE_ALL, or a
 * feature's number. magnitudes: 1, |x| is sorted. Bins are 2^e wide, e the least by which all values fit into them;
 * when a larger value comes, neighbouring bins become one, so that counts depend on the set of rows alone. Fails with
 * ARGUMENT: no such histogram is kept, rows wait (finish), share not within 0 .. 1. Without rows: 0. */
enum { HT_OBSERVE_ALL = -1 };
HT_API ht_status ht_observer_quantile(const ht_observer *observer, long feature, int magnitudes, double share,
                                      double *value, double *width);

/* What became of a matrix. */
typedef struct ht_observed_result {
    double loss, rtn_loss; /* squared output error per row, summed over outputs; NaN where it is not known */
    double damping;        /* of the Hessian, relative to the mean of its diagonal */
    size_t dead_columns;   /* inputs that were never anything but zero */
    const char *fallback;  /* what replaced the method, and why; NULL: nothing did */
} ht_observed_result;

/* Codes of weight [rows, cols] f32 by a method that looks at inputs ("gptq", "imatrix"; halftone list methods), with
 * settings `set` ("name=value" each, NULL last; NULL: none). planes: room as ht_format_plane_bytes says; the number of
 * the whole matrix, where the format has one, is set here. decoded [rows, cols]: what the planes decode to. result may
 * be NULL. Deterministic, same bits for any number of threads. Scratch: for gptq 13 bytes a weight and 12 cols^2 bytes.
 * Fails with ARGUMENT (no such method or setting, or one that sees no inputs), UNSUPPORTED (format), SHAPE, NUMERIC
 * (weights not finite), MEMORY, CANCELLED. */
HT_API ht_status ht_quantize_observed(ht_context *ctx, const ht_format *format, const ht_row_options *options,
                                      const char *method, const char *const *set, const float *weight, size_t rows,
                                      size_t cols, const ht_observer *inputs, const ht_planes *planes, float *decoded,
                                      ht_observed_result *result);

#ifdef __cplusplus
}
#endif

#endif
