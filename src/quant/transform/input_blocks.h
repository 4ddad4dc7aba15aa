/* Hadamard blocks on the inputs of quantized linears, done when the model runs. */
#ifndef HT_QUANT_TRANSFORM_INPUT_BLOCKS_H
#define HT_QUANT_TRANSFORM_INPUT_BLOCKS_H

#include <stddef.h>

#include "model/decoder.h"
#include "quant/transform/edits.h"
#include "quant/plan.h"

/* Inputs of the job's linear that are mixed: as its settings say, else as many as share a scale, at most 128, halved
 * until it divides them; 0: an odd number of inputs. Fails with SHAPE when what the settings say does not fit. */
ht_status ht_input_block(const ht_job *job, size_t *block);

/* Edits that mix the inputs of every quantized down whose rule's setting r4 says so. */
ht_status ht_input_r4_edits(ht_model *model, const ht_plan *plan, const ht_method *method, ht_edits *edits);

/* Edits that store the weights of all jobs with this method for inputs mixed so. Inputs that are mixed already stay. */
ht_status ht_input_block_edits(const ht_plan *plan, const ht_method *method, ht_edits *edits);

#endif
