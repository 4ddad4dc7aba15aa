/* A report of a run: one self-contained page for people, one JSON file for programs.
 *
 *     ht_report_options what = ht_report_options_default();
 *     what.plan = plan;                                  of ht_quantize_checkpoint
 *     ht_report_write(ctx, "report.html", &what);        writes report.html and report.json
 */
#ifndef HT_REPORT_H
#define HT_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/model.h>
#include <halftone/quant.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the report is about; every part may be left out (NULL), its sections then are, too. All borrowed. */
typedef struct ht_report_options {
    const char *title;   /* NULL: "Quantization report", or "Evaluation report" without a plan */
    const char *command; /* how to make it again */
    const char *input, *output;
    const ht_plan *plan;             /* after a run: sizes, errors, what methods and calibration found */
    const ht_evaluation *evaluation; /* of `output` on `text`, against `input` where it has a base */
    const char *text;
    size_t context;                    /* of the evaluation; tokens of a window */
    const ht_gates *gates;             /* that the evaluation is held to */
    size_t threads, peak_memory_bytes; /* 0: not said */
} ht_report_options;
HT_API ht_report_options ht_report_options_default(void);

/* Write the page to `path`, and the same as JSON beside it: "report.html" and "report.json". The page needs nothing
 * else (no script, no font, no network), follows the reader's light or dark setting, and prints. Existing files are
 * replaced; each appears complete or not at all. Deterministic but for the seconds measured. Fails with OUTPUT, SPACE,
 * MEMORY. */
HT_API ht_status ht_report_write(ht_context *ctx, const char *path, const ht_report_options *options);

#ifdef __cplusplus
}
#endif
#endif
