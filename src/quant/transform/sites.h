/* Sites of a decoder: inputs that several linears share, the linears that read them, and what they come from.
 *
 *     attention norm -> q k v      v rows -> o      mlp norm -> gate up (router, all experts)      up rows -> down
 *
 * Scales can move between a producer and its consumers without changing the model: a producer's channel divided by s,
 * the consumers' column multiplied by s. */
#ifndef HT_QUANT_TRANSFORM_SITES_H
#define HT_QUANT_TRANSFORM_SITES_H

#include <stddef.h>

#include "base/memory.h"
#include "model/block.h"

typedef enum ht_producer_kind {
    HT_PRODUCER_NONE, /* nothing that a scale can move into: what lies between is not linear */
    HT_PRODUCER_NORM,
    HT_PRODUCER_ROWS /* rows of a linear */
} ht_producer_kind;

typedef struct ht_site_reader {
    size_t parameter, entry; /* of the checkpoint; entry of a batch */
} ht_site_reader;

typedef struct ht_site_map {
    size_t layer, expert;
    ht_site site;
    size_t cols;
    const ht_site_reader *reader;
    size_t readers;
    ht_producer_kind kind;
    size_t parameter, entry; /* of the producer: norm weight, or linear */
    size_t row, step;        /* ROWS: channel c is row `row + c * step` of the linear */
    size_t bias;             /* parameter of the linear's bias; SIZE_MAX: none */
    size_t channels;
    const size_t *channel; /* [cols]: the producer's channel that input j comes from; NULL: j */
} ht_site_map;

/* Sites of a layer, DOWN of every expert apart. Memory from the arena. Fails with MEMORY, CORRUPT (a norm is not in the
 * checkpoint). */
ht_status ht_layer_sites(ht_model *model, size_t layer, ht_arena *arena, ht_site_map **out, size_t *count);

/* Parameter of a role; SIZE_MAX when the checkpoint has none. */
size_t ht_role_parameter(const ht_model *model, ht_role role, size_t layer);
/* Parameter of the bias of a weight; SIZE_MAX: none. */
size_t ht_bias_parameter(const ht_model *model, size_t weight);

#endif
