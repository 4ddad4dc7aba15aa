/* Casts with the kernels of a context, on the calling thread: for callers that split work themselves. */
#ifndef HT_OPS_CAST_H
#define HT_OPS_CAST_H

#include <halftone/context.h>

#include "kernels/cast.h"

/* Quantize rows, and decode them if cast->decoded is set: ht_format_quantize (and _dequantize), bit for bit, by the
 * fastest kernel that takes the cast. cast->options may be NULL. Fails as they do. */
ht_status ht_cast_rows(const ht_context *ctx, const ht_cast *cast);

/* The kernel that ht_cast_rows would run, for callers with many small casts of one kind: cast->options become *filled,
 * the options as a kernel wants them. */
ht_quantize_fn *ht_cast_choose(const ht_context *ctx, ht_cast *cast, ht_row_options *filled);

/* ht_format_dequantize likewise. A result in bf16 may need scratch. */
ht_status ht_uncast_rows(ht_context *ctx, const ht_uncast *uncast);

/* The kernel that adds up errors in this context. */
ht_tally_fn *ht_cast_tally(const ht_context *ctx);

/* ht_range_add, by the kernel of this context. */
ht_status ht_range_rows(const ht_context *ctx, ht_range *range, const void *x, ht_dtype dtype, size_t count);

#endif
