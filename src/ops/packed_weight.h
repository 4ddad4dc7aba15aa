/* Packing weights at load, and whether a linear layer runs on packed weights. */
#ifndef HT_OPS_PACKED_WEIGHT_H
#define HT_OPS_PACKED_WEIGHT_H

#include <halftone/linear.h>

#include "kernels/packed.h"
#include "kernels/product.h"

/* May y = x W^T run as int8 inputs times packed weight, and with which scales of the inputs? input: the scheme's, NULL
 * = none. The layout goes to *packed. On 0, *why says what stands against it. */
int ht_packed_wanted(const ht_context *ctx, const ht_weight *weight, const ht_format *input, ht_packed *packed,
                     ht_span *span, const char **why);

/* All panels of all batch entries, in memory of their own (ht_release); work shared by the context's threads. A scale
 * that packed weights cannot have (a NaN, a zero point outside int8) gives HT_OK and *out = NULL. Fails with MEMORY. */
ht_status ht_pack_weight(ht_context *ctx, const ht_packed *packed, const ht_weight *weight, uint8_t **out);

#endif
