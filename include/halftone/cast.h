/* Casts of whole matrices with the kernels and threads of a context. Same bytes as the calls of format.h, for any
 * context: only faster. */
#ifndef HT_CAST_H
#define HT_CAST_H

#include <stddef.h>

#include <halftone/context.h>
#include <halftone/format.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ht_format_quantize. Matrices larger than the caches are written past them; planes that begin on 64-byte boundaries
 * serve best. Fails as ht_format_quantize does. */
HT_API ht_status ht_quantize_matrix(ht_context *ctx, const ht_format *format, const ht_row_options *options,
                                    const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out);

/* The same of the transposed matrix: x is [rows, cols], the planes are those of a [cols, rows] matrix, so that blocks
 * run down the columns of x (MX: 32 x 1). Bytes as transposing and casting rows. Scratch: 1024 rows of 128
 * columns a thread; formats with a scale for more than that, the rows or columns that share one. Fails as that does (MX
 * needs rows in multiples of 32), and with MEMORY. */
HT_API ht_status ht_quantize_columns(ht_context *ctx, const ht_format *format, const ht_row_options *options,
                                     const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out);

/* ht_format_dequantize, to out [rows, cols] of HT_F32 or HT_BF16 (nearest even). Fails as it does, and with UNSUPPORTED
 * for other types, MEMORY. */
HT_API ht_status ht_dequantize_matrix(ht_context *ctx, const ht_format *format, const ht_planes *in, size_t rows,
                                      size_t cols, void *out, ht_dtype out_dtype);

#ifdef __cplusplus
}
#endif
#endif
