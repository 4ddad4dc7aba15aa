/* The float checkpoint that a run with transforms starts from. */
#ifndef HT_QUANT_TRANSFORM_STAGE_H
#define HT_QUANT_TRANSFORM_STAGE_H

#include <halftone/quant.h>

#include "base/text.h"
#include "quant/plan.h"

/* What the checkpoint was made of and how, if it is a stage; else NULL. */
const char *ht_stage_mark(const ht_checkpoint *checkpoint);

/* Does a rule in force ask for anything before rounding? */
int ht_stage_needed(const ht_plan *plan);

/* Make the transformed checkpoint beside the output, one transform after the other, and give its path (*path is to be
 * freed with ht_text_free). One that an interrupted run left is used if it was made of the same input in the same way.
 * Reads the calibration text into the plan where a transform needs it. Fails with ARGUMENT (no text) and as
 * ht_transform_edits and the writer do. */
ht_status ht_stage_make(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *plan,
                        const ht_quantize_options *options, const char *output, ht_text *path);
/* Remove it. */
void ht_stage_remove(const char *path);

/* Sizes and rates of a plan that was made for the stage are those of the input. */
void ht_stage_restate(ht_plan *plan, const ht_plan *of_input);

#endif
