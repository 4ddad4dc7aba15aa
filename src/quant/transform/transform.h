/* Transforms: what happens to a float model before it is rounded. Methods of the stage `transform`. */
#ifndef HT_QUANT_TRANSFORM_TRANSFORM_H
#define HT_QUANT_TRANSFORM_TRANSFORM_H

#include <stddef.h>
#include <stdint.h>

#include "model/decoder.h"
#include "quant/transform/edits.h"
#include "quant/method/methods.h"
#include "quant/plan.h"
#include "quant/transform/scaling.h"

typedef struct ht_transform {
    const ht_plan *plan; /* of this checkpoint: what each linear will become; jobs without layout stay float */
    const ht_method *method;
    const int32_t *ids; /* [samples, length]; only for methods that need data */
    size_t samples, length;
    const char *folder; /* takes hidden rows beyond the memory limit, in a file without a name; NULL: none */
} ht_transform;

/* Edits of one transform, for the checkpoint of the model. Layer by layer; hidden rows and statistics keep to the
 * context's memory limit and change nothing in the result.
 * Fails with MEMORY, UNSUPPORTED, NUMERIC, CANCELLED. */
ht_status ht_transform_edits(ht_model *model, const ht_transform *how, ht_edits *edits);

#endif
