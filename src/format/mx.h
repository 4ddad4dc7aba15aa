/* MX blocks in other orientations than rows, for training casts and experts; and the scale byte alone. */
#ifndef HT_FORMAT_MX_H
#define HT_FORMAT_MX_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

/* e8m0 byte for a block of this largest magnitude (f32 bits, NaN allowed) under a rule. MSE gives FLOOR's byte. */
uint8_t ht_mx_scale_byte(ht_scale_rule rule, ht_dtype element, uint32_t amax_bits);

/* 32x1 blocks down the columns of x [rows, cols], written transposed: codes are a [cols, rows] matrix in `format`
 * (HT_FAMILY_MX), scales [cols, rows / 32]. The same bytes as transposing x and quantizing rows. Fails with SHAPE when
 * rows is no multiple of 32, UNSUPPORTED for other x types than f32, bf16, f16. */
ht_status ht_mx_quantize_columns(const ht_format *format, ht_scale_rule rule, const void *x, ht_dtype x_dtype,
                                 size_t rows, size_t cols, void *codes, uint8_t *scales);

/* 32x32 tiles with one scale: codes [rows, cols] in `format`, scales [rows / 32, cols / 32]. rows and cols multiples of
 * 32. Rows and columns of the result have the same scales, so that it can be read in both directions. */
ht_status ht_mx_quantize_tiles(const ht_format *format, ht_scale_rule rule, const void *x, ht_dtype x_dtype,
                               size_t rows, size_t cols, void *codes, uint8_t *scales);

#endif
