/* What a change of some linears does to the output of their block: scales judged by that instead of by each linear's
 * own output. The block runs as f32 matrices (model/block_gradient.h) over a few samples. */
#ifndef HT_QUANT_TRANSFORM_PARENT_H
#define HT_QUANT_TRANSFORM_PARENT_H

#include <stddef.h>

#include "model/block_gradient.h"
#include "quant/calibrate/hidden.h"
#include "quant/transform/sites.h"

enum { HT_PARENT_SAMPLES = 8 }; /* that it judges by, at most */

typedef struct ht_parent {
    ht_context *ctx;
    ht_model *model;
    ht_dense_block block;
    ht_tape *tape;
    size_t samples, length, layer;
    float *input, *output; /* [samples, length, hidden]: before the block, and behind it as it is */
    float *now;            /* [length, hidden] */
} ht_parent;

/* The block of the model as it is, over the first of these samples, whose rows are those before the layer. Fails with
 * MEMORY, UNSUPPORTED (a block that cannot run so), IO. */
ht_status ht_parent_open(ht_model *model, size_t layer, ht_hidden *hidden, size_t samples, size_t length,
                         ht_parent **out);
void ht_parent_close(ht_parent *parent); /* NULL is allowed */
/* Another weight for a linear [rows, cols], until the next one. */
void ht_parent_set(ht_parent *parent, const ht_site_reader *linear, const float *weight);
/* Sum of squared differences between the block's output now and as it was, per row. */
ht_status ht_parent_error(ht_parent *parent, double *error);
/* Bytes that it takes, of the model's largest block. */
size_t ht_parent_bytes(ht_model *model, size_t samples, size_t length);

#endif
