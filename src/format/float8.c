/* 8-bit floats with one stored scale per matrix, row, group or 128x128 tile: value = code * scale.
 *
 *   scale = amax / largest element (448 or 57344), amax first clamped to [amax_lower, amax_upper] if these are set,
 *           rounded to `arithmetic`, then optionally to the nearest power of two (in the logarithm)
 *   code  = nearest even of x / scale, saturating; a true division
 * A block of zeros has scale 1. A block with NaN or Inf has scale NaN and NaN codes: all of it decodes to NaN. A scale
 * that would underflow to 0 is the smallest positive number. MSE: 21 scales shrunk by 1 - k/32, smallest squared error,
 * the wider on ties. Tiles at the edges may be smaller.
 * Refuses: elements other than the four 8-bit floats, scales other than f32, bf16, f16.
 * Source: formats specification, sections 6.6 and 8.4.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/codec.h"

#include <math.h>

#include "base/status.h"
#include "format/element.h"
#include "format/lanes.h"
#include "format/tile.h"

enum { MSE_STEPS = 21, MSE_CELLS = 32 };

/* 2^nearest(log2 x) of a positive number; the logarithm is rounded to `type` first, as tensor libraries have it. */
static float nearest_power_of_two(float x, ht_dtype type) {
    float logarithm = ht_round_to(type, (float)log2((double)x));
    return ldexpf(1, (int)rintf(logarithm));
}

static float scale_for(const ht_format *format, const ht_row_options *options, uint32_t amax_bits) {
    float amax = ht_f32_from_bits(amax_bits), largest = ht_f32_from_bits(ht_element_find(format->element)->max_bits);
    if (amax_bits >= 0x7f800000u)
        return ht_f32_from_bits(0x7fc00000u);
    if (options->amax_lower > 0 && amax < options->amax_lower)
        amax = options->amax_lower;
    if (options->amax_upper > 0 && amax > options->amax_upper)
        amax = options->amax_upper;
    if (amax == 0)
        return 1;
    float scale = ht_round_to(options->arithmetic, amax / largest);
    if (isinf(scale)) /* more than f16 steps can hold */
        scale = amax / largest;
    if (options->power_of_two && scale > 0)
        scale = nearest_power_of_two(scale, options->arithmetic);
    return ht_scale_round(format->scale, scale);
}

/* x / scale, rounded to a 16-bit type when scale and arithmetic have that type, as tensor libraries compute it. */
static void divide(float *x, size_t n, float scale, ht_dtype type) {
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] / scale;
    if (type != HT_F32)
        for (size_t i = 0; i < n; i++)
            x[i] = ht_round_to(type, x[i]);
}

static size_t chunk_of(const ht_tile *tile, size_t done) {
    return tile->cols - done < HT_TILE_CHUNK ? tile->cols - done : HT_TILE_CHUNK;
}

static float tile_error(ht_dtype element, float scale, const ht_values *values, const ht_tile *tile) {
    float x[HT_TILE_CHUNK], y[HT_TILE_CHUNK], sum = 0;
    uint8_t codes[HT_TILE_CHUNK];
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = chunk_of(tile, done);
            ht_lanes_load(values->x, values->dtype, r * values->stride + tile->col + done, n, x);
            for (size_t i = 0; i < n; i++)
                y[i] = x[i] / scale;
            ht_lanes_encode(element, y, n, codes);
            ht_lanes_decode(element, codes, n, y);
            for (size_t i = 0; i < n; i++)
                y[i] *= scale;
            sum += ht_lanes_error(x, y, n);
        }
    return sum;
}

static float search(const ht_format *format, float widest, const ht_values *values, const ht_tile *tile) {
    float best = widest, least = tile_error(format->element, widest, values, tile);
    for (int k = 1; k < MSE_STEPS; k++) {
        float scale = ht_scale_round(format->scale, widest * (1 - (float)k / MSE_CELLS));
        float error = tile_error(format->element, scale, values, tile);
        if (error < least) {
            least = error;
            best = scale;
        }
    }
    return best;
}

static void encode_tile(ht_dtype element, float scale, ht_dtype type, const ht_values *values, const ht_tile *tile,
                        uint8_t *codes) {
    float x[HT_TILE_CHUNK];
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = chunk_of(tile, done);
            size_t at = r * values->stride + tile->col + done;
            ht_lanes_load(values->x, values->dtype, at, n, x);
            divide(x, n, scale, type);
            ht_lanes_encode(element, x, n, codes + at);
        }
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_values values = {x, x_dtype, cols};
    ht_dtype type = format->scale == options->arithmetic ? format->scale : HT_F32;
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        float scale = options->scale;
        if (!(scale > 0)) {
            uint32_t amax = ht_tile_amax(&values, &tile);
            scale = scale_for(format, options, amax);
            if (options->scale_rule == HT_SCALE_MSE && amax && amax < 0x7f800000u)
                scale = search(format, scale, &values, &tile);
        }
        ht_scale_store(format->scale, out->plane[HT_PLANE_SCALES], b, scale);
        encode_tile(format->element, scale, type, &values, &tile, out->plane[HT_PLANE_CODES]);
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const uint8_t *codes = in->plane[HT_PLANE_CODES];
    ht_lanes_decode(format->element, codes, rows * cols, out);
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        float scale = ht_scale_load(format->scale, in->plane[HT_PLANE_SCALES], b);
        for (size_t r = tile.row; r < tile.row + tile.rows; r++)
            for (size_t c = tile.col; c < tile.col + tile.cols; c++)
                out[r * cols + c] *= scale;
    }
    return HT_OK;
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    (void)rows;
    (void)cols;
    if (format->element < HT_F8_E4M3 || format->element > HT_F8_E5M2FNUZ)
        return ht_fail(HT_ERR_FORMAT, "fp8 formats have 8-bit float elements, not %s", ht_dtype_name(format->element));
    if (format->scale != HT_F32 && format->scale != HT_BF16 && format->scale != HT_F16)
        return ht_fail(HT_ERR_FORMAT, "fp8 formats have f32, bf16 or f16 scales, not %s", ht_dtype_name(format->scale));
    return HT_OK;
}

static void scale_of_range(const ht_format *format, const ht_row_options *options, const ht_range *range, float *scale,
                           float *zero) {
    *zero = 0;
    *scale = scale_for(format, options, range->has_nan ? 0x7fc00000u : ht_f32_bits(range->amax));
}

const ht_codec ht_codec_float8 = {
    .check_shape = check_shape, .quantize = quantize, .dequantize = dequantize, .scale = scale_of_range};
