/* Inside of a linear layer, for the files that make one and run one. */
#ifndef HT_OPS_LINEAR_INSIDE_H
#define HT_OPS_LINEAR_INSIDE_H

#include "kernels/kernels.h"
#include "ops/input_transform.h"
#include "ops/linear.h"

struct ht_linear {
    ht_context *ctx;
    ht_weight weight;
    int has_input;
    ht_format input;
    ht_scale_rule input_rule;
    float input_scale;          /* 0: of every row */
    const float *bias;          /* [batch, rows] */
    ht_transformer transformer; /* of the inputs; none, or weight.inputs made ready */
    ht_decode_fn *decode;
    ht_dot_fn *dot;
    void *owned;     /* planes of ht_linear_create; may be NULL */
    uint8_t *panels; /* packed weight of the whole batch; NULL: products are decode and dot */
    int in_bf16;     /* no panels: the product is that of kernels/floats.h */
    ht_packed packed;
    ht_span span; /* of the int8 inputs of packed products */
};

#endif
