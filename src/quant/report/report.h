/* What a run found out beside the rows of its plan: filled while it works, shown by `--report`.
 *
 *     plan rows      tensor by tensor: sizes, scheme, error              (halftone/quant.h)
 *     matrix rows    what the method said of each matrix or expert       ht_run_report_matrix
 *     coverage       calibration tokens that each expert of a block saw  ht_run_report_coverage
 *     stages         where the time went                                 ht_run_report_stage
 *
 * Every field beyond the indices is optional (NaN, 0 or NULL: not known), and a run that adds nothing has a report all
 * the same: sections without rows are left out of the page. Rows may be added in any order, from one thread. Texts are
 * copied. All memory belongs to the arena given at the start; ht_plan has one report in its own.
 */
#ifndef HT_QUANT_REPORT_REPORT_H
#define HT_QUANT_REPORT_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#include "base/memory.h"

/* One matrix, as ht_matrix_result says it. */
typedef struct ht_report_matrix {
    size_t tensor;                                           /* row of the plan */
    size_t entry;                                            /* of a batched tensor (the expert); 0 of a plain one */
    uint64_t tokens;                                         /* that the statistics of its inputs are made of */
    double loss, rtn_loss, held_out_loss, held_out_rtn_loss; /* output error per token, summed; NaN */
    double damping;                                          /* relative to the mean of diag H; NaN, 0: none */
    size_t dead_columns, saturated;
    double sparsity;      /* share of zeros, where the method prunes; NaN */
    double seconds;       /* NaN */
    const char *fallback; /* what replaced the method and why; NULL: nothing did */
} ht_report_matrix;

/* A row of which nothing is known yet but its place. */
ht_report_matrix ht_report_matrix_of(size_t tensor, size_t entry);

/* Experts of one block. */
typedef struct ht_report_coverage {
    size_t block;
    size_t experts;
    const uint64_t *tokens; /* [experts] calibration tokens routed to each */
} ht_report_coverage;

typedef struct ht_report_stage {
    const char *name; /* "statistics", "gptq", "write" */
    double seconds;
    size_t peak_bytes; /* of the library's buffers while it ran; 0 unknown */
} ht_report_stage;

typedef struct ht_run_report {
    ht_arena *arena;
    ht_report_matrix *matrix; /* sorted by tensor and entry after ht_run_report_sort */
    size_t matrices, matrix_room;
    ht_report_coverage *coverage; /* by block */
    size_t blocks, block_room;
    ht_report_stage *stage; /* in the order they were first added */
    size_t stages, stage_room;
    const char *data;              /* calibration text; NULL: none was used */
    size_t samples, sample_length; /* of calibration */
    uint64_t calibration_tokens;   /* samples x length */
    uint64_t spilled_bytes;        /* hidden states that went to a file */
} ht_run_report;

void ht_run_report_init(ht_run_report *report, ht_arena *arena);

/* Add a row. Fail with MEMORY. */
ht_status ht_run_report_matrix(ht_run_report *report, const ht_report_matrix *row);
ht_status ht_run_report_coverage(ht_run_report *report, const ht_report_coverage *row);
/* Time of a stage of that name is added up; of its memory the most is kept. */
ht_status ht_run_report_stage(ht_run_report *report, const char *name, double seconds, size_t peak_bytes);
/* Calibration text as given, and how it was cut. */
ht_status ht_run_report_data(ht_run_report *report, const char *path, size_t samples, size_t length, uint64_t tokens);

/* Rows in one order, whatever the order they came in: before they are shown. */
void ht_run_report_sort(ht_run_report *report);

#endif
