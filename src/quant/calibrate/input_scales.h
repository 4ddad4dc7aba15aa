/* Static scales of quantized inputs: one number for each linear whose scheme wants it, from the float model's inputs
 * over the calibration text, before anything is rounded. */
#ifndef HT_QUANT_CALIBRATE_INPUT_SCALES_H
#define HT_QUANT_CALIBRATE_INPUT_SCALES_H

#include "model/block.h"
#include "quant/calibrate/histogram.h"
#include "quant/plan.h"

/* The first job of the plan whose inputs have a static scale; SIZE_MAX: none. */
size_t ht_input_scales_wanted(const ht_plan *plan);

/* Sets input_scale of the jobs, and of their tensors in the plan. `folder` takes rows beyond the memory limit, in a
 * file without a name (NULL: none). The plan's samples must be read. Same bits for any number of threads and memory
 * limit. Fails with UNSUPPORTED (a linear outside of the decoder blocks: its inputs are not seen), NUMERIC (no finite
 * input), MEMORY, CANCELLED. */
ht_status ht_input_scales_measure(ht_model *model, ht_plan *plan, const char *folder);

/* The scale for values of this histogram: of the range's kind, INT or FLOAT8 without zero points. 1 where nothing but
 * zeros came. Fails with MEMORY, FORMAT. */
ht_status ht_input_scale(const ht_histogram *histogram, const ht_format *format, ht_input_range range, float *scale);

#endif
