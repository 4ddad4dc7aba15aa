/* The calibrated part of a run: the model block by block over the samples (docs/calibration.md).
 *
 *     calibrate.c          the blocks in their order; modes; what goes from one to the next
 *     calibrate_block.c    linears of one block: which rows they read, what takes their place
 *     calibrate_inputs.c   running samples, statistics on the way, in groups that fit the memory
 *     calibrate_float.c    the float model beside the quantized one, for cross moments
 *     calibrate_matrix.c   one matrix: its method, the guard, where the result goes
 */
#ifndef HT_QUANT_CALIBRATE_CALIBRATE_H
#define HT_QUANT_CALIBRATE_CALIBRATE_H

#include <stddef.h>
#include <stdint.h>

#include "model/block.h"
#include "ops/input_transform.h"
#include "quant/driver.h"
#include "quant/calibrate/hidden.h"
#include "quant/calibrate/moments.h"

/* Rows that some linears read: a site, of one expert, transformed as the checkpoint says, quantized or not. */
typedef struct ht_observed {
    ht_site site;
    size_t expert, cols;
    ht_transformer inputs;
    size_t entry; /* of the transform */
    int quantized;
    ht_format format; /* of quantized rows */
    ht_scale_rule rule;
    float scale;                    /* of all of them; 0: of every row */
    unsigned what;                  /* of ht_moment; what any of the linears wants */
    ht_moments *moments, *held_out; /* while its group is at work */
    uint64_t routed;                /* rows that the model itself sends here, samples only */
} ht_observed;

/* Rows that the float model has at a site, of the sample at work. */
typedef struct ht_capture {
    size_t cols, rows, room;
    float *x;          /* [rows, cols] */
    int32_t *position; /* [rows] increasing */
} ht_capture;

/* A parameter of the block that is quantized: its planes, and the linears before and after. */
typedef struct ht_exchange {
    size_t job, remaining; /* matrices still to be done */
    ht_linear **place, *before, *after;
    ht_weight weight; /* planes in `memory` */
    void *memory;     /* NULL: not there yet, or not needed any more */
} ht_exchange;

/* A matrix of it: one batch entry. */
typedef struct ht_block_matrix {
    size_t exchange, entry, observed;
} ht_block_matrix;

typedef struct ht_calibrator {
    ht_run *run;
    ht_context *ctx;
    const ht_calibration *how;
    const ht_samples *samples;
    ht_model *model;   /* the float model */
    ht_model *written; /* what an earlier run finished; NULL */
    ht_sequence *sequence;
    unsigned char *apart; /* by job */
    ht_hidden *hidden;
    int cross;               /* a method wants cross moments */
    ht_hidden *hidden_float; /* of the float model, where a method wants cross moments and the two differ; or NULL */
    /* The block at work. */
    ht_arena arena;
    size_t layer;
    ht_observed *observed; /* by site and expert */
    ht_exchange *exchange;
    ht_block_matrix *matrix;
    size_t observed_count, exchange_count, matrix_count;
    size_t first_observed, end_observed; /* the group whose rows are being looked at */
    int holding_out;                     /* the sample at work is held out */
    float *inputs;                       /* quantized rows */
    size_t input_values;
    float *turned[2]; /* transformed rows; and the float model's */
    size_t turned_values[2];
    ht_capture *capture; /* by observed; of ROUTER and GATE_UP of experts: `normed`, since all experts read its rows */
    ht_capture normed;
    float *paired; /* the float model's rows for those at work */
    size_t paired_values;
    ht_curvature *curvature;              /* where a method wants it; or NULL */
    size_t matrices_done, matrices_total; /* of the run */
    double started;
} ht_calibrator;

/* Open the model, find out which jobs are linears of its blocks (run->apart). Fails with UNSUPPORTED: the checkpoint is
 * no model that can be run. */
ht_status ht_calibrate_open(ht_run *run, const char *model, ht_calibrator **out);
/* Quantize them. Every other job is complete. */
ht_status ht_calibrate_run(ht_calibrator *calibrator);
void ht_calibrate_close(ht_calibrator *calibrator); /* NULL is allowed */

/* --- calibrate_block.c ----------------------------------------------------------------------------------------- */

/* The block's linears that are quantized; nothing is allocated but their list. */
ht_status ht_block_open(ht_calibrator *c, size_t layer);
void ht_block_close(ht_calibrator *c);
/* Everything of the block was complete before this run. */
int ht_block_is_done(const ht_calibrator *c);
/* Planes for a parameter; its linear, once they are filled. */
ht_status ht_exchange_open(ht_calibrator *c, ht_exchange *exchange);
ht_status ht_exchange_put(ht_calibrator *c, ht_exchange *exchange);
/* All float linears in their places, or all quantized ones that there are. */
void ht_exchange_show(ht_calibrator *c, int quantized);
/* The quantized linear made anew, after its planes were changed. */
ht_status ht_exchange_renew(ht_calibrator *c, ht_exchange *exchange);
/* The float linear again, and the planes go. */
void ht_exchange_undo(ht_calibrator *c, ht_exchange *exchange);
/* Bytes of its planes. */
size_t ht_exchange_bytes(const ht_calibrator *c, const ht_exchange *exchange);

/* --- calibrate_inputs.c ---------------------------------------------------------------------------------------- */

/* Run all samples through the block. store: their rows become those behind it. With `model`: that model's block. */
ht_status ht_block_propagate(ht_calibrator *c, ht_model *model, const ht_watch *watch, int store);
/* Statistics of the sites in `sites` (a bit each) and then ht_matrix_quantize for every matrix that reads them, in
 * groups. store: the last time that samples are run, they go through the whole block and their rows are kept. */
ht_status ht_block_stage(ht_calibrator *c, unsigned sites, int store);

/* --- calibrate_float.c ----------------------------------------------------------------------------------------- */

/* Does a method of the plan want the float model's rows: cross moments where the models differ, or to learn by them?
 */
int ht_float_needed(ht_calibrator *c);
/* Keep the rows that the float block has at the sites of the group, up to `stop`, for this sample. */
ht_status ht_float_capture(ht_calibrator *c, size_t sample, ht_site stop);
/* The float model's rows beside these of observed[index]: rows->x itself where it has none. */
ht_status ht_float_rows(ht_calibrator *c, size_t index, const ht_site_rows *rows, const float **out);
/* All samples of the float model through the float block. */
ht_status ht_float_propagate(ht_calibrator *c);
void ht_float_release(ht_calibrator *c);

/* --- calibrate_matrix.c ---------------------------------------------------------------------------------------- */

/* Choose codes for every matrix of the group at work, write them, report. */
ht_status ht_block_quantize(ht_calibrator *c);
/* Write the planes of a matrix again, after they were changed. */
ht_status ht_matrix_rewrite(ht_calibrator *c, ht_exchange *exchange, size_t entry);
/* Most bytes that this takes beside statistics and planes. */
size_t ht_matrix_bytes(const ht_calibrator *c);

#endif
