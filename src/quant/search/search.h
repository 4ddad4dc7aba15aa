/* A search from the inside.
 *
 *     search_offers.c    candidates, a plan for each; units of choice and what each takes
 *     search_measure.c   one pass of the float model: statistics, errors of every matrix under every candidate
 *     search_exchange.c  KL: what one exchange does to the output
 *     search.c           choosing, sizes, the public rows
 *     search_recipe.c    the choice as a recipe
 */
#ifndef HT_QUANT_SEARCH_SEARCH_H
#define HT_QUANT_SEARCH_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/search.h>

#include "base/text.h"
#include "model/block.h"
#include "quant/search/budget.h"
#include "quant/calibrate/hidden.h"
#include "quant/method/methods.h"
#include "quant/calibrate/moments.h"
#include "quant/plan.h"

typedef struct ht_candidate {
    ht_search_candidate row;
    ht_plan *plan;          /* every linear under it; NULL: keep */
    const char *const *set; /* options that mean something for it */
} ht_candidate;

typedef struct ht_unit {
    ht_search_unit row;
    ht_search_measure *measure; /* by candidate */
    size_t *parameter;          /* [row.tensors] of the checkpoint */
    double *error;              /* by candidate: relative errors of its matrices, weighted */
    size_t reference;           /* candidate that is exchanged; SIZE_MAX: none */
    double share;               /* of its layer: what it adds, relative to what comes out */
    double kl;                  /* of its exchange */
} ht_unit;

struct ht_search {
    ht_context *ctx;
    ht_arena arena;
    ht_checkpoint *checkpoint;
    ht_search_options options; /* defaults filled in */
    const char *profile;
    ht_calibration calibration; /* held_out: windows that exchanges are measured on */
    ht_samples samples;
    ht_candidate *candidate;
    size_t candidates;
    ht_unit *unit;
    size_t units;
    size_t *unit_of; /* by parameter; SIZE_MAX: none */
    size_t *chosen;  /* by unit */
    ht_offer *offer; /* [units, candidates] */
    ht_search_point *point;
    size_t points;
    size_t reference; /* candidate that is exchanged where it can be had; SIZE_MAX: none */
    ht_search_summary summary;
    ht_text recipe;
};

/* --- search_offers.c --------------------------------------------------------------------------------------------- */

/* Candidates and units of the open checkpoint. */
ht_status ht_search_offers(ht_search *search);

/* --- search_measure.c -------------------------------------------------------------------------------------------- */

/* Errors of every unit, and with KL what exchanges do. Units that the model does not run are dropped. */
ht_status ht_search_measure_all(ht_search *search);

/* A matrix of the layer at work. */
typedef struct ht_search_matrix {
    size_t parameter, entry, slot, observed;
} ht_search_matrix;

/* A linear of it, and the one that takes its place in an exchange: f32, as the reference candidate decodes. */
typedef struct ht_search_slot {
    size_t parameter, unit;
    ht_linear **place, *before, *after;
    float *decoded; /* [batch, rows, cols]; NULL: none is wanted */
} ht_search_slot;

typedef struct ht_search_site {
    ht_site site;
    size_t expert, cols;
    uint64_t tokens; /* that the model sends here */
    ht_moments *moments;
} ht_search_site;

typedef struct ht_measurement {
    ht_search *search;
    ht_context *ctx;
    ht_model *model;
    ht_sequence *sequence;
    ht_hidden *hidden;   /* of the calibration's samples */
    ht_hidden *entered;  /* KL: of the others, as they enter the layer at work */
    ht_hidden *final;    /* KL: of the others, behind the last norm */
    char *folder;        /* of their files; NULL: none */
    float *before;       /* rows of a sample as they entered the layer */
    double added, whole; /* of the layer: squares of what it adds to the rows, and of what comes out */
    ht_arena arena;      /* of the layer */
    size_t layer;
    ht_search_site *site;
    ht_search_slot *slot;
    ht_search_matrix *matrix;
    size_t sites, slots, matrices;
    size_t first_site, end_site; /* whose statistics are being gathered */
    uint64_t done, total;        /* matrices times candidates, and exchanges */
    double started;
} ht_measurement;

void ht_search_progress(ht_measurement *m, const char *item, uint64_t done);

/* --- search_matrix.c --------------------------------------------------------------------------------------------- */

/* Every candidate on the matrices of the sites at work. */
ht_status ht_search_matrices(ht_measurement *m);
/* Most bytes that takes, of any matrix of the layer under any candidate, with the sums of its inputs' statistics. */
size_t ht_search_matrix_bytes(const ht_measurement *m);

/* --- search_exchange.c ------------------------------------------------------------------------------------------- */

/* Room for the final rows and the rows themselves. */
ht_status ht_exchange_prepare(ht_measurement *m, size_t resident);
/* The layer's units, one exchange at a time; then the rows go through the float layer. */
ht_status ht_exchange_layer(ht_measurement *m);

/* --- search_recipe.c --------------------------------------------------------------------------------------------- */

ht_status ht_search_compose(const ht_search *search, ht_text *out);

#endif
