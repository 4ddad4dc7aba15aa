/* Affine integers of 1 to 8 bits: value = (code - zero) * scale, or code * scale + zero with a float zero.
 *
 * One scale (and zero point) per block: a group of a row, a row, or the matrix. Symmetric codes are signed; unsigned
 * elements without a zero plane have the implied zero 2^(bits-1). Rules of the scale (int_rule), of the codes
 * (code_rule) and the type in which every step is rounded (arithmetic) are options, because the libraries that read and
 * write these numbers differ; the defaults are f32 steps, amax / ((qmax - qmin) / 2), codes by reciprocal. When the
 * plane of scales has the type of `arithmetic`, codes are computed in that type too, as tensor libraries do. Zero
 * block: the smallest scale (epsilon), codes of 0. A block with NaN or Inf: scale NaN, codes of 0, so that it decodes
 * to NaN. MSE: 21 ranges shrunk by 1 - k/32; the smallest squared error wins, the wider one on ties. Refuses: groups
 * that do not divide the columns, groups that do not start on whole bytes, unknown types. Source: formats
 * specification, sections 6.2 to 6.4 and 8.3.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/int.h"

#include <float.h>
#include <math.h>

#include "base/status.h"
#include "format/codec.h"
#include "format/lanes.h"
#include "format/pack.h"
#include "format/tile.h"

enum { MSE_STEPS = 21, MSE_CELLS = 32 };

static int is_signed(ht_dtype element) {
    return element == HT_I8 || (element >= HT_I1 && element <= HT_I7);
}

static int is_integer_element(ht_dtype element) {
    return is_signed(element) || element == HT_U8 || (element >= HT_U1 && element <= HT_U7);
}

/* --- Choosing scale and zero ---------------------------------------------------------------------------- */

/* Smallest normal number of the type the steps are rounded to. */
static float default_epsilon(ht_dtype arithmetic) {
    return arithmetic == HT_F16 ? 0x1p-14f : FLT_MIN;
}

static float larger(float a, float b) {
    return a > b ? a : b;
}

ht_affine ht_affine_rules(const ht_format *format, const ht_row_options *options) {
    unsigned bits = ht_dtype_bits(format->element);
    int sign = is_signed(format->element);
    ht_affine a = {.qmin = sign ? -(1 << (bits - 1)) : 0, .qmax = (1 << (bits - sign)) - 1};
    if (options->qmin != options->qmax) {
        a.qmin = options->qmin;
        a.qmax = options->qmax;
    }
    a.middle = sign ? 0 : 1 << (bits - 1);
    a.arithmetic = options->arithmetic;
    a.code_arithmetic = format->scale == options->arithmetic ? options->arithmetic : HT_F32;
    a.divides = options->code_rule == HT_CODE_DIVIDE;
    a.float_zero = format->zero == HT_F32 || format->zero == HT_BF16 || format->zero == HT_F16;
    return a;
}

/* (max - min) / steps; the difference of huge numbers may not fit where the quotient does. */
static float step_of(ht_dtype type, float min, float max, float steps) {
    float range = ht_round_to(type, max - min);
    return range <= FLT_MAX ? ht_round_to(type, range / steps) : max / steps - min / steps;
}

static void choose_symmetric(ht_affine *a, const ht_row_options *o, float min, float max, float epsilon) {
    float low = larger(-min, 0), high = larger(max, 0), amax = larger(low, high);
    if (o->int_rule == HT_INT_FULL) {
        float bound = a->qmin < 0 ? (float)-a->qmin : (float)a->qmax;
        a->scale = ht_round_to(a->arithmetic, larger(amax, o->epsilon > 0 ? o->epsilon : 1e-6f) / bound);
        return;
    }
    if (o->int_rule == HT_INT_NO_CLIP) { /* a side without codes (int1 has no positive one) does not count */
        float for_low = a->qmin < 0 ? ht_round_to(a->arithmetic, low / (float)-a->qmin) : 0;
        float for_high = a->qmax > 0 ? ht_round_to(a->arithmetic, high / (float)a->qmax) : 0;
        a->scale = larger(larger(for_low, for_high), epsilon);
        return;
    }
    a->scale = larger(ht_round_to(a->arithmetic, amax / ((float)(a->qmax - a->qmin) / 2)), epsilon);
}

static void choose_asymmetric(ht_affine *a, const ht_row_options *o, float min, float max, float epsilon) {
    ht_dtype t = a->arithmetic;
    if (!o->raw_range) {
        min = min < 0 ? min : 0;
        max = max > 0 ? max : 0;
    }
    a->scale = larger(step_of(t, min, max, (float)(a->qmax - a->qmin)), epsilon);
    float quotient = ht_round_to(t, min / a->scale), qmin = (float)a->qmin, qmax = (float)a->qmax;
    float zero = a->divides ? ht_round_to(t, qmin - quotient) : ht_round_to(t, qmin - rintf(quotient));
    zero = zero < qmax ? zero : qmax;
    a->zero = rintf(zero > qmin ? zero : qmin);
}

/* Middle code = zero; FULL takes the true minimum as the start of the grid (MSLK), the others recompute it from scale
 * and zero as they are stored (tinygemm). */
static void choose_float_zero(ht_affine *a, const ht_row_options *o, float min, float max, float epsilon) {
    ht_dtype t = a->arithmetic;
    int full = o->int_rule == HT_INT_FULL;
    float steps = (float)(a->qmax - a->qmin);
    float half = (float)((a->qmax - a->qmin + 1) / 2);
    if (full)
        a->scale = larger(step_of(t, min, max, steps), ht_round_to(t, (o->epsilon > 0 ? o->epsilon : 1e-6f) / steps));
    else
        a->scale = larger(step_of(t, min, max, steps), epsilon);
    a->zero = ht_round_to(t, min + ht_round_to(t, a->scale * half));
    a->start = full ? min : ht_round_to(t, a->zero - ht_round_to(t, a->scale * half));
}

void ht_affine_choose(const ht_format *format, const ht_row_options *options, float min, float max, ht_affine *a) {
    float epsilon = options->epsilon > 0 ? options->epsilon : default_epsilon(options->arithmetic);
    epsilon = ht_round_to(options->arithmetic, epsilon);
    a->zero = (float)a->middle;
    if (a->float_zero)
        choose_float_zero(a, options, min, max, epsilon);
    else if (format->zero != HT_DTYPE_NONE)
        choose_asymmetric(a, options, min, max, epsilon);
    else
        choose_symmetric(a, options, min, max, epsilon);
    /* A finite block has a finite scale: int1 doubles its largest value, 16-bit steps may overflow. */
    a->scale = a->scale <= FLT_MAX ? a->scale : FLT_MAX;
    /* Codes are chosen for the scale that will be read back. */
    if (format->scale != HT_F32)
        a->scale = ht_scale_round(format->scale, a->scale);
}

/* --- Codes ------------------------------------------------------------------------------------------------- */

/* n <= HT_TILE_CHUNK values to codes (two's complement in a byte). */
static void encode_values(const ht_affine *a, const float *x, size_t n, uint8_t *codes) {
    float y[HT_TILE_CHUNK];
    ht_dtype t = a->code_arithmetic;
    if (a->float_zero) {
        for (size_t i = 0; i < n; i++)
            y[i] = ht_round_to(t, ht_round_to(t, x[i] - a->start) / a->scale);
        ht_lanes_round(y, n, a->qmin, a->qmin, a->qmax, codes);
        return;
    }
    int zero = (int)a->zero;
    if (a->divides) {
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] / a->scale;
        if (t != HT_F32)
            for (size_t i = 0; i < n; i++)
                y[i] = ht_round_to(t, y[i]);
        if (zero) { /* the zero point is added before rounding */
            for (size_t i = 0; i < n; i++)
                y[i] = ht_round_to(t, y[i] + (float)zero);
            zero = 0;
        }
    } else {
        float reciprocal = ht_round_to(t, 1 / a->scale);
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] * reciprocal;
        if (t != HT_F32)
            for (size_t i = 0; i < n; i++)
                y[i] = ht_round_to(t, y[i]);
    }
    ht_lanes_round(y, n, zero, a->qmin, a->qmax, codes);
}

static void decode_values(const ht_affine *a, const uint8_t *codes, size_t n, float *y) {
    float shift = a->float_zero ? (float)a->middle : a->zero, offset = a->float_zero ? a->zero : 0;
    if (a->qmin < 0)
        for (size_t i = 0; i < n; i++)
            y[i] = ((float)(int8_t)codes[i] - shift) * a->scale;
    else
        for (size_t i = 0; i < n; i++)
            y[i] = ((float)codes[i] - shift) * a->scale;
    if (a->float_zero)
        for (size_t i = 0; i < n; i++)
            y[i] += offset;
}

void ht_affine_encode(const ht_affine *a, const float *x, size_t n, uint8_t *codes) {
    encode_values(a, x, n, codes);
}

void ht_affine_decode(const ht_affine *a, const uint8_t *codes, size_t n, float *values) {
    decode_values(a, codes, n, values);
}

/* --- Blocks -------------------------------------------------------------------------------------------------- */

static size_t chunk_of(const ht_tile *tile, size_t done) {
    return tile->cols - done < HT_TILE_CHUNK ? tile->cols - done : HT_TILE_CHUNK;
}

static float tile_error(const ht_affine *a, const ht_values *values, const ht_tile *tile) {
    float x[HT_TILE_CHUNK], y[HT_TILE_CHUNK], sum = 0;
    uint8_t codes[HT_TILE_CHUNK];
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = chunk_of(tile, done);
            ht_lanes_load(values->x, values->dtype, r * values->stride + tile->col + done, n, x);
            encode_values(a, x, n, codes);
            decode_values(a, codes, n, y);
            sum += ht_lanes_error(x, y, n);
        }
    return sum;
}

static void search(const ht_format *format, const ht_row_options *options, const ht_values *values, const ht_tile *tile,
                   float min, float max, ht_affine *a) {
    ht_affine candidate = *a;
    float least = tile_error(a, values, tile);
    for (int k = 1; k < MSE_STEPS; k++) {
        float factor = 1 - (float)k / MSE_CELLS;
        ht_affine_choose(format, options, min * factor, max * factor, &candidate);
        float error = tile_error(&candidate, values, tile);
        if (error < least) {
            least = error;
            *a = candidate;
        }
    }
}

int ht_affine_needs_range(const ht_format *format, const ht_row_options *options) {
    return !(options->scale > 0) && (format->zero != HT_DTYPE_NONE || options->int_rule == HT_INT_NO_CLIP);
}

int ht_affine_for_block(const ht_format *format, const ht_row_options *options, uint32_t amax_bits, float min,
                        float max, ht_affine *a) {
    if (amax_bits >= 0x7f800000u) {
        a->scale = ht_f32_from_bits(0x7fc00000u);
        a->zero = a->float_zero ? 0 : (float)a->middle;
        return 0;
    }
    if (options->scale > 0) {
        a->scale = options->scale;
        a->zero = format->zero == HT_DTYPE_NONE ? (float)a->middle : options->zero;
        a->start = a->zero - a->scale * (float)((a->qmax - a->qmin + 1) / 2);
        return 1;
    }
    if (!ht_affine_needs_range(format, options)) {
        max = ht_f32_from_bits(amax_bits);
        min = -max;
    }
    ht_affine_choose(format, options, min, max, a);
    return 1;
}

/* 1, or 0 for a block that is not finite. */
static int choose_for_tile(const ht_format *format, const ht_row_options *options, const ht_values *values,
                           const ht_tile *tile, ht_affine *a) {
    uint32_t bits = ht_tile_amax(values, tile);
    float max = ht_f32_from_bits(bits), min = -max;
    if (bits < 0x7f800000u && ht_affine_needs_range(format, options))
        ht_tile_min_max(values, tile, &min, &max);
    int finite = ht_affine_for_block(format, options, bits, min, max, a);
    if (finite && !(options->scale > 0) && options->scale_rule == HT_SCALE_MSE)
        search(format, options, values, tile, min, max, a);
    return finite;
}

static void store_zero(ht_dtype dtype, void *plane, size_t index, float zero) {
    if (dtype == HT_I8 || dtype == HT_U8)
        ((uint8_t *)plane)[index] = (uint8_t)(int)zero;
    else if (dtype == HT_I32)
        ((int32_t *)plane)[index] = (int32_t)zero;
    else if (dtype != HT_DTYPE_NONE)
        ht_scale_store(dtype, plane, index, zero);
}

void ht_affine_store(const ht_format *format, const ht_planes *planes, size_t index, const ht_affine *a) {
    ht_scale_store(format->scale, planes->plane[HT_PLANE_SCALES], index, a->scale);
    store_zero(format->zero, planes->plane[HT_PLANE_ZEROS], index, a->zero);
}

static float load_zero(ht_dtype dtype, const void *plane, size_t index, float implied) {
    if (dtype == HT_I8)
        return ((const int8_t *)plane)[index];
    if (dtype == HT_U8)
        return ((const uint8_t *)plane)[index];
    if (dtype == HT_I32)
        return (float)((const int32_t *)plane)[index];
    return dtype == HT_DTYPE_NONE ? implied : ht_scale_load(dtype, plane, index);
}

void ht_affine_load(const ht_format *format, const ht_planes *planes, size_t index, ht_affine *a) {
    a->scale = ht_scale_load(format->scale, planes->plane[HT_PLANE_SCALES], index);
    a->zero = load_zero(format->zero, planes->plane[HT_PLANE_ZEROS], index, (float)a->middle);
}

static size_t row_bytes(const ht_format *format, size_t cols) {
    return ht_format_plane_bytes(format, HT_PLANE_CODES, 1, cols);
}

/* Stored codes are unsigned in words. */
static int word_offset(const ht_format *format) {
    return format->packing == HT_PACK_WORDS && is_signed(format->element) ? 1 << (ht_dtype_bits(format->element) - 1)
                                                                          : 0;
}

static void encode_tile(const ht_format *format, const ht_affine *a, int finite, const ht_values *values,
                        const ht_tile *tile, uint8_t *packed) {
    float x[HT_TILE_CHUNK] = {0};
    uint8_t codes[HT_TILE_CHUNK];
    unsigned bits = ht_dtype_bits(format->element);
    size_t stride = row_bytes(format, values->stride);
    int offset = word_offset(format);
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = chunk_of(tile, done);
            if (finite) {
                ht_lanes_load(values->x, values->dtype, r * values->stride + tile->col + done, n, x);
                encode_values(a, x, n, codes);
            } else {
                ht_lanes_round(x, n, a->middle, a->qmin, a->qmax, codes);
            }
            for (size_t i = 0; offset && i < n; i++)
                codes[i] = (uint8_t)(codes[i] + offset);
            ht_pack_codes(format->packing, bits, codes, n,
                          packed + r * stride + ht_packed_bytes(format->packing, bits, tile->col + done));
        }
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_values values = {x, x_dtype, cols};
    uint8_t *packed = out->plane[HT_PLANE_CODES];
    size_t stride = row_bytes(format, cols);
    if (format->packing == HT_PACK_WORDS) /* spare bits of a row's last word */
        for (size_t r = 0; r < rows; r++)
            for (size_t b = stride - 4; b < stride; b++)
                packed[r * stride + b] = 0;
    ht_affine a = ht_affine_rules(format, options);
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        int finite = choose_for_tile(format, options, &values, &tile, &a);
        ht_affine_store(format, out, b, &a);
        encode_tile(format, &a, finite, &values, &tile, packed);
    }
    return HT_OK;
}

/* Codes of a row segment, sign-extended to a byte. */
static void unpack_segment(const ht_format *format, const uint8_t *packed, size_t n, uint8_t *codes) {
    unsigned bits = ht_dtype_bits(format->element);
    int offset = word_offset(format);
    ht_unpack_codes(format->packing, bits, packed, n, codes);
    if (offset)
        for (size_t i = 0; i < n; i++)
            codes[i] = (uint8_t)(codes[i] - offset);
    else if (is_signed(format->element) && bits < 8)
        for (size_t i = 0; i < n; i++)
            codes[i] = (uint8_t)((int8_t)(codes[i] << (8 - bits)) >> (8 - bits));
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    ht_row_options options = ht_row_options_default();
    ht_affine a = ht_affine_rules(format, &options);
    unsigned bits = ht_dtype_bits(format->element);
    size_t stride = row_bytes(format, cols);
    uint8_t codes[HT_TILE_CHUNK];
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        ht_affine_load(format, in, b, &a);
        for (size_t r = tile.row; r < tile.row + tile.rows; r++)
            for (size_t done = 0, n; done < tile.cols; done += n) {
                n = chunk_of(&tile, done);
                size_t at = r * stride + ht_packed_bytes(format->packing, bits, tile.col + done);
                unpack_segment(format, (const uint8_t *)in->plane[HT_PLANE_CODES] + at, n, codes);
                decode_values(&a, codes, n, out + r * cols + tile.col + done);
            }
    }
    return HT_OK;
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    (void)rows;
    unsigned bits = ht_dtype_bits(format->element);
    if (!is_integer_element(format->element))
        return ht_fail(HT_ERR_FORMAT, "integer formats have elements i1..i8 or u1..u8, not %s",
                       ht_dtype_name(format->element));
    if (format->packing == HT_PACK_BLOCK ||
        ((format->packing == HT_PACK_LOW || format->packing == HT_PACK_HIGH) && bits != 4))
        return ht_fail(HT_ERR_FORMAT, "integer formats: this packing does not hold %u-bit codes", bits);
    if (format->scale != HT_F32 && format->scale != HT_BF16 && format->scale != HT_F16)
        return ht_fail(HT_ERR_FORMAT, "integer formats have f32, bf16 or f16 scales, not %s",
                       ht_dtype_name(format->scale));
    if (format->block_cols && cols % format->block_cols)
        return ht_fail(HT_ERR_SHAPE, "groups of %u do not divide %zu columns (%zu left over)",
                       (unsigned)format->block_cols, cols, cols % format->block_cols);
    if (format->packing != HT_PACK_BYTES && format->block_cols % 8)
        return ht_fail(HT_ERR_SHAPE, "groups of %u do not start on whole bytes; use a multiple of 8",
                       (unsigned)format->block_cols);
    return HT_OK;
}

static void scale_of_range(const ht_format *format, const ht_row_options *options, const ht_range *range, float *scale,
                           float *zero) {
    ht_affine a = ht_affine_rules(format, options);
    if (range->has_nan || range->has_inf) {
        *scale = ht_f32_from_bits(0x7fc00000u);
        return;
    }
    int empty = range->min > range->max;
    ht_affine_choose(format, options, empty ? 0 : range->min, empty ? 0 : range->max, &a);
    *scale = a.scale;
    *zero = a.zero;
}

const ht_codec ht_codec_int = {
    .check_shape = check_shape, .quantize = quantize, .dequantize = dequantize, .scale = scale_of_range};
