/* Sums of squares of a row. Body of ht_tally_*. */
#ifndef HT_KERNELS_BODY_CAST_TALLY_H
#define HT_KERNELS_BODY_CAST_TALLY_H

#include "kernels/body/cast.h"

enum { TALLY_SPAN = 1024 };

static inline double tally_fold(wd sum) {
    double lane[8];
    wd_store(lane, sum);
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

typedef struct tally_lanes {
    wd error, reference;
} tally_lanes;

WIDE tally_lanes tally_add(tally_lanes sum, wf x, wf y) {
    wd low = wd_low(x), high = wd_high(x);
    sum.error = wd_add_square(sum.error, wd_sub(low, wd_low(y)));
    sum.reference = wd_add_square(sum.reference, low);
    sum.error = wd_add_square(sum.error, wd_sub(high, wd_high(y)));
    sum.reference = wd_add_square(sum.reference, high);
    return sum;
}

static inline ht_square_sums tally(const void *x, ht_dtype dtype, const float *y, size_t n) {
    ht_square_sums total = {0, 0};
    float wide[CAST_CHUNK];
    for (size_t span = 0; span < n; span += TALLY_SPAN) {
        size_t end = n - span < TALLY_SPAN ? n : span + TALLY_SPAN;
        tally_lanes sum = {wd_zero(), wd_zero()};
        for (size_t at = span; at < end; at += CAST_CHUNK) {
            size_t count = end - at < CAST_CHUNK ? end - at : CAST_CHUNK, whole = count / CAST_LANES * CAST_LANES;
            cast_load(x, dtype, at, count, wide);
            for (size_t i = 0; i < whole; i += CAST_LANES)
                sum = tally_add(sum, w_load(wide + i), w_load(y + at + i));
            if (whole < count) { /* zeros at the end add +0 to sums that are not negative */
                float rest[CAST_LANES] = {0};
                memcpy(rest, y + at + whole, (count - whole) * sizeof *rest);
                sum = tally_add(sum, w_load(wide + whole), w_load(rest));
            }
        }
        total.error += tally_fold(sum.error);
        total.reference += tally_fold(sum.reference);
    }
    return total;
}

#endif
