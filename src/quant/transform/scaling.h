/* Scales of the inputs of a site: the columns of its readers are multiplied by s, what they come from is divided by it.
 *
 * The model stays as it is; what changes is where its numbers lose bits. A method chooses s from what is known about
 * the inputs and the weights. */
#ifndef HT_QUANT_TRANSFORM_SCALING_H
#define HT_QUANT_TRANSFORM_SCALING_H

#include <stddef.h>

#include "quant/method/matrix.h"
#include "quant/transform/parent.h"

typedef struct ht_scaling_reader {
    const float *weight; /* [rows, cols] */
    size_t rows;
    const ht_format *format; /* NULL: stays float */
    const ht_row_options *how;
} ht_scaling_reader;

typedef struct ht_scaling_problem {
    ht_context *ctx;
    const ht_settings *settings;
    const ht_scaling_reader *reader;
    size_t readers, cols;
    const ht_moments *input; /* finished; without tokens for methods without text */
    const size_t *channel;   /* [cols]: channel that input j comes from; NULL: j */
    size_t channels;
    ht_parent *parent;            /* to judge by; NULL: each reader's own output counts */
    const ht_site_reader *linear; /* with a parent: the readers' places in it */
} ht_scaling_problem;

/* scale [channels], provided by the caller; each finite and above zero. Deterministic, same bits for any thread count.
 * Fails with MEMORY, NUMERIC. */
typedef ht_status ht_scaling_fn(const ht_scaling_problem *problem, float *scale);

/* s = max|x|^alpha / max|w|^(1 - alpha) (algorithms specification, section 2.1). Needs HT_MOMENT_RANGE. */
ht_scaling_fn ht_smooth_scales;
/* The grid point whose rounding leaves the least output error (section 2.2). Needs HT_MOMENT_MEAN and SECOND. */
ht_scaling_fn ht_awq_scales;

/* Sinkhorn: columns and groups of rows as wide as each other (section 2.3). Reads no inputs. */
ht_scaling_fn ht_sinq_scales;

/* Candidates of awq: point i of the grid, before any is tried. mean, weight [channels] (weight NULL: without). */
void ht_awq_candidate(const double *mean, const double *weight, size_t channels, size_t point, size_t grid,
                      float *scale);

static inline size_t ht_scaling_channel(const ht_scaling_problem *problem, size_t input) {
    return problem->channel ? problem->channel[input] : input;
}

#endif
