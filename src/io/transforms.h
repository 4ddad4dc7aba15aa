/* Transforms of linears' inputs in a checkpoint: what they are written as, and reading them back. */
#ifndef HT_IO_TRANSFORMS_H
#define HT_IO_TRANSFORMS_H

#include <stddef.h>

#include <halftone/status.h>

#include <jansson.h>

#include "io/fold.h"

/* Tail of the tensor that holds a parameter's input scale, f32 [cols] or [batch, cols]. */
#define HT_INPUT_SCALE_TAIL ".act_pre_scale"
/* Key of a transform_config outside of quantization_config: metadata of files whose weights are floats. */
#define HT_TRANSFORM_METADATA "transform_config"

/* A parameter and the Hadamard block of its inputs; 0: none. */
typedef struct ht_named_block {
    const char *name;
    size_t block;
} ht_named_block;

/* *out: a transform_config that says so, a new reference; NULL when nothing is transformed. Parameters without a block
 * must be in the list as well, so that no pattern takes them in. Fails with MEMORY. */
ht_status ht_transform_config(const ht_named_block *of, size_t count, json_t **out);

/* Claim the tensors of input scales, so that they are no parameters. Before the others are added. */
void ht_fold_claim_scales(ht_fold *fold);
/* Set weight.inputs of every parameter, which are sorted. Fails with CORRUPT and UNSUPPORTED (transforms other than
 * Hadamard blocks of inputs; those that are in the weights already need nothing). */
ht_status ht_fold_transforms(ht_fold *fold);

#endif
