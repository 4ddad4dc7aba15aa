/* Rotations of a decoder that leave it as it is. */
#ifndef HT_QUANT_TRANSFORM_ROTATE_H
#define HT_QUANT_TRANSFORM_ROTATE_H

#include "model/decoder.h"
#include "quant/transform/edits.h"

/* Edits that rotate the residual stream (and the values of every head, when `heads`) by random Hadamard matrices, whose
 * signs follow from the context's seed. Fails with UNSUPPORTED: norms on what blocks add, a hidden size that has no
 * Hadamard matrix. */
ht_status ht_rotate_edits(ht_model *model, int heads, ht_edits *edits);

#endif
