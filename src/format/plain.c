/* Plain matrices: f32, bf16, f16, one value after the other.
 *
 * One rounding to nearest even on the way in, exact on the way out. Overflow goes to Inf, NaN stays NaN.
 * Refuses: nothing beyond format.h. Source: formats specification, section 1.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/codec.h"

#include "format/lanes.h"

enum { CHUNK = 256 };

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    (void)options;
    float buffer[CHUNK];
    size_t count = rows * cols;
    for (size_t at = 0; at < count; at += CHUNK) {
        size_t n = count - at < CHUNK ? count - at : CHUNK;
        ht_lanes_load(x, x_dtype, at, n, buffer);
        ht_lanes_store(buffer, n, format->element, out->plane[HT_PLANE_CODES], at);
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    ht_lanes_load(in->plane[HT_PLANE_CODES], format->element, 0, rows * cols, out);
    return HT_OK;
}

const ht_codec ht_codec_plain = {.quantize = quantize, .dequantize = dequantize};
