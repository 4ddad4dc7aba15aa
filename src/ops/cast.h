/* Casts with the kernels of a context. */
#ifndef HT_OPS_CAST_H
#define HT_OPS_CAST_H

#include <halftone/context.h>

#include "kernels/cast.h"

/* Quantize rows on the calling thread, and decode them if cast->decoded is set: ht_format_quantize (and _dequantize),
 * bit for bit, by the fastest kernel that takes the cast. cast->options may be NULL. Fails as they do. */
ht_status ht_cast_rows(const ht_context *ctx, const ht_cast *cast);

/* The kernel that adds up errors in this context. */
ht_tally_fn *ht_cast_tally(const ht_context *ctx);

#endif
