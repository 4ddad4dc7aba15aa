/* Running a plan: slices, rounds, and what is counted on the way. */
#ifndef HT_QUANT_DRIVER_H
#define HT_QUANT_DRIVER_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/quant.h>

#include "quant/plan.h"

/* Error of one tensor, by row, so that its sum has one order whatever the slices. */
typedef struct ht_tally {
    double *error;     /* sum of squared differences of a row; finite inputs only */
    double *reference; /* sum of squares of a row */
    size_t rows;       /* of all batch entries */
    size_t remaining;  /* items still out */
    _Atomic size_t not_finite;
} ht_tally;

/* A piece of one job: rows of a batch entry to quantize, or bytes to copy. */
typedef struct ht_item {
    size_t job;
    size_t entry;
    uint64_t begin, count; /* rows, or bytes */
} ht_item;

/* Buffers of one worker. */
typedef struct ht_run_scratch {
    uint8_t *planes; /* of the largest slice, each plane 64-byte aligned */
    uint8_t *input;  /* a transposed slice turned round */
    float *decoded;  /* one strip of rows */
} ht_run_scratch;

typedef struct ht_run {
    ht_context *ctx;
    const ht_checkpoint *checkpoint;
    ht_plan *plan;
    ht_checkpoint_writer *writer;
    size_t chunk;                                    /* input bytes of a slice */
    size_t planes_bytes, input_bytes, decoded_bytes; /* of one worker */
    ht_run_scratch *scratch;                         /* by worker */
    ht_tally *tally;                                 /* by job */
    ht_range **range; /* by job that others share with: one per batch entry; NULL until known */
    ht_item *item;    /* the round being filled */
    size_t items;
    uint64_t round_bytes;
    ht_range *found; /* by item, in a range pass */
    ht_arena arena;
    const unsigned char *apart; /* by job: taken block by block (calibrate.h), not here; NULL: none */
    uint64_t done, total;       /* input bytes */
    uint64_t skipped;           /* of done: complete before the run began */
    double started;
    int errors; /* fd of the error log; -1 when there is none */
} ht_run;

/* Peak memory and time of the plan, into its summary. */
void ht_run_estimate(ht_plan *plan, const ht_quantize_options *options);

/* Quantize and copy everything that the writer does not hold yet. Errors go into the plan. */
ht_status ht_run_plan(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *plan,
                      const ht_quantize_options *options, ht_checkpoint_writer *writer);

/* A failure of the input or the request: going on would meet it again, so nothing is kept to go on with. */
int ht_run_will_fail_again(ht_status status);

/* Is there a run at the output to go on with? Up to its last step, also when its files are in place already. */
int ht_run_has_begun(const char *output);

/* --- driver.c, for calibrate.c -------------------------------------------------------------------------------- */

/* Everything of this job is there already. */
int ht_run_is_done(const ht_run *run, size_t job);
/* Range per batch entry of everything that shares it with the job, where its format needs one. Between rounds. */
ht_status ht_run_find_range(ht_run *run, size_t job);
/* Room for the errors of a job's rows; all rows are done: sum up in order, write the constants, note it. */
ht_status ht_run_open_tally(ht_run *run, size_t job);
ht_status ht_run_complete(ht_run *run, size_t job);

/* --- slices.c: what a worker does with one item ------------------------------------------------------------ */

/* Loosen the layout's row step where slices can be quantized apart after all. Once, when the job gets its layout. */
void ht_slice_prepare(ht_job *job);
/* Must the whole matrix be looked at before its first slice is quantized? */
int ht_slice_needs_range(const ht_job *job);
/* Rows of a slice of this job when a slice takes about `chunk` bytes of input. */
size_t ht_slice_rows(const ht_job *job, size_t chunk);
/* Bytes of each of a worker's buffers that the job needs. */
void ht_slice_buffers(const ht_job *job, size_t chunk, size_t *planes, size_t *input, size_t *decoded);
/* Quantize the item's rows, write them, add their error to the tally. Fails with NUMERIC at a NaN or Inf. */
ht_status ht_slice_quantize(ht_run *run, const ht_item *item, size_t worker);
/* The same into planes of these rows that the caller keeps (their number for the matrix is set). */
ht_status ht_slice_quantize_into(ht_run *run, const ht_item *item, const ht_planes *planes, size_t worker);
/* Write planes that were found in another way, and add their error to the tally. */
ht_status ht_slice_store(ht_run *run, const ht_item *item, const ht_planes *planes, size_t worker);
/* Set the number for the matrix, if the format has one, from the range (ht_run_find_range). */
void ht_slice_global(const ht_run *run, const ht_job *job, size_t entry, const ht_planes *planes);
/* Copy the item's bytes. */
ht_status ht_slice_copy(ht_run *run, const ht_item *item);
/* Range of the item's values. */
ht_status ht_slice_range(ht_run *run, const ht_item *item, ht_range *out);

/* --- tally_log.c: what is known of finished tensors, for a run that goes on later ---------------------------- */

/* Into the report, in the place of what an earlier run found: a block that was stopped in its middle is done again. */
ht_status ht_run_note_matrix(ht_run *run, const ht_report_matrix *row);
ht_status ht_run_note_experts(ht_run *run, const ht_report_coverage *row);
/* Read what an interrupted run left into the plan, and open the log for more. */
ht_status ht_tally_log_open(ht_run *run);
ht_status ht_tally_log_add(ht_run *run, size_t job);
ht_status ht_tally_log_experts(ht_run *run, const ht_report_coverage *row);
void ht_tally_log_close(ht_run *run);

/* --- identity.c ------------------------------------------------------------------------------------------- */

/* What a resumed run must have in common with the one it goes on: program, input, recipe, options. */
ht_status ht_run_fingerprint(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                             ht_text *out);

#endif
