/* NVFP4: e2m1 elements, an e4m3 scale per 16 values (or 16x16 tile), optionally one f32 number g for the matrix.
 *
 * value = code * (scale * g) or code * (scale / g) (global_rule). How scales come about is settled by two choices:
 *   inference, multiplies  (torchao)             g = amax / 2688; s = e4m3(clamp(b / 6 / g, 2^-6, 448)); r = 1/g / s
 *   inference, divides     (compressed-tensors)  g = 2688 * (1 / amax); s = e4m3(min(b / 6 * g, 448)), 0 becomes 0.125;
 *                                                codes from x / (s / g)
 *   training, divides      (TransformerEngine)   g = min(2688 / amax, max); s = e4m3(min(b * (g * f32(1/6)), 448));
 *                                                r = min(1 / (s * (1/g)), max)
 *   training, multiplies                         g = amax / 2688; s = e4m3(min(b / 6 / g, 448)), r as in the first
 * b = largest magnitude of the block, codes = e2m1(x * r). Without g: g = 1. The number of a matrix of zeros is 1.
 * A zero block decodes to zero; a block with NaN or Inf gets scale 7f, NaN. MSE tries the scale codes from 4 below to 6
 * above the formula's (a step is 6 to 12 %), the formula's first, smallest squared error. FOUR_SIX tries the formula's
 * and the one for a scale 1.5 times as large, under which b becomes 4 instead of 6; then 1536 = 6 * 256 takes the place
 * of 2688 = 6 * 448 above, so that no scale is beyond 448:
 *     (10 20 30 40): s = 6.5 gives (9.75 19.5 26 39), squares 17.3; s = 10 gives the values themselves
 * Refuses: columns that are no multiple of 16, other element or scale types.
 * Source: formats specification, sections 3.1 to 3.4, 8.3 and 11 (3, 8); Cook et al. 2025, arXiv:2512.02010 (four over
 * six), algorithms specification, section 1.7.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/nvfp4.h"

#include <float.h>
#include <math.h> /* fabsf */

#include "base/status.h"
#include "format/codec.h"
#include "format/element.h"
#include "format/lanes.h"
#include "format/pack.h"
#include "format/tile.h"

enum { BLOCK = 16, MSE_BELOW = 4, MSE_ABOVE = 6, SCALE_NAN = 0x7f, SCALE_MAX = 0x7e };

static float smaller(float a, float b) {
    return a < b ? a : b;
}

/* A constant reciprocal, rounded once: 1/6. */
static const float sixth = 1.0f / 6.0f;

static int is_four_six(ht_scale_rule rule) {
    return rule == HT_SCALE_FOUR_SIX || rule == HT_SCALE_FOUR_SIX_MAE || rule == HT_SCALE_FOUR_SIX_MAX;
}

static float global_of(const ht_format *format, const ht_row_options *options, const ht_range *range) {
    /* Inf does not fit anywhere; blocks that hold it are NaN, the others are scaled for large numbers. The bound stays
     * below FLT_MAX so that rounded scales do not carry the largest code to Inf. */
    float amax = smaller(range->amax, 0x1.fp127f), g;
    float span = is_four_six(options->scale_rule) ? 6 * 256 : 6 * 448;
    ht_dtype t = options->arithmetic;
    if (!(amax > 0))
        return 1;
    if (format->global_rule == HT_GLOBAL_MULTIPLIES)
        g = ht_round_to(t, amax / span);
    else if (options->nvfp4_rule == HT_NVFP4_TRAINING)
        g = smaller(span / amax, FLT_MAX);
    else /* a number over a tensor is two roundings in tensor libraries */
        g = smaller(ht_round_to(t, span * ht_round_to(t, 1 / amax)), FLT_MAX);
    return g > 0 ? g : 1;
}

/* Scale code of a block, before any search; stretch: 1, or 1.5 for a block whose largest value becomes 4. */
static uint8_t scale_code(const ht_nvfp4_rules *rules, float amax, float stretch) {
    float wanted;
    if (rules->divides && rules->training)
        wanted = amax * rules->global_sixth;
    else if (rules->divides)
        wanted = ht_round_to(rules->arithmetic, amax / 6) * rules->global;
    else
        wanted = rules->global == 1 ? amax / 6 : amax / 6 / rules->global;
    wanted = smaller(wanted * stretch, 448);
    if (!rules->training && !rules->divides && wanted < 0x1p-6f)
        wanted = 0x1p-6f;
    uint8_t code = ht_e4m3_from_f32(wanted);
    return code == 0 && !rules->training && rules->divides ? ht_e4m3_from_f32(0.125f) : code;
}

float ht_nvfp4_encode_factor(const ht_nvfp4_rules *rules, float scale) {
    if (rules->divides && rules->training)
        return smaller(1 / (scale * rules->inverse), FLT_MAX);
    if (rules->divides)
        return scale / rules->global;
    return smaller(smaller(rules->inverse, FLT_MAX) / scale, FLT_MAX);
}

static float decode_factor(int divides, float scale, float global) {
    return divides ? scale / global : scale * global;
}

static void encode_values(const ht_nvfp4_rules *rules, uint8_t code, const float *x, size_t n, uint8_t *codes) {
    float y[BLOCK * BLOCK], factor = ht_nvfp4_encode_factor(rules, ht_f32_from_e4m3(code));
    if (rules->divides && !rules->training)
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] / factor;
    else
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] * factor;
    ht_lanes_encode(HT_F4_E2M1, y, n, codes);
}

/* By the rule's measure. */
static float measure(ht_scale_rule rule, const float *x, const float *y, size_t n) {
    float sum = 0, most = 0;
    if (rule != HT_SCALE_FOUR_SIX_MAE && rule != HT_SCALE_FOUR_SIX_MAX)
        return ht_lanes_error(x, y, n);
    for (size_t i = 0; i < n; i++) {
        float error = fabsf(x[i] - y[i]);
        sum += error;
        most = error > most ? error : most;
    }
    return rule == HT_SCALE_FOUR_SIX_MAE ? sum : most;
}

static float block_error(const ht_nvfp4_rules *rules, uint8_t code, const float *x, size_t n) {
    float y[BLOCK * BLOCK], factor = decode_factor(rules->divides, ht_f32_from_e4m3(code), rules->global);
    uint8_t codes[BLOCK * BLOCK];
    encode_values(rules, code, x, n, codes);
    ht_lanes_decode(HT_F4_E2M1, codes, n, y);
    for (size_t i = 0; i < n; i++)
        y[i] *= factor;
    return measure(rules->rule, x, y, n);
}

static uint8_t search(const ht_nvfp4_rules *rules, uint8_t start, const float *x, size_t n) {
    uint8_t best = start;
    float least = block_error(rules, start, x, n);
    for (int code = start - MSE_BELOW; code <= start + MSE_ABOVE; code++) {
        if (code < 1 || code > SCALE_MAX || code == start)
            continue;
        float error = block_error(rules, (uint8_t)code, x, n);
        if (error < least) {
            least = error;
            best = (uint8_t)code;
        }
    }
    return best;
}

uint8_t ht_nvfp4_encode_block(const ht_nvfp4_rules *rules, const float *x, size_t n, uint8_t *codes) {
    uint32_t amax = ht_lanes_amax(x, n);
    if (amax >= 0x7f800000u) {
        for (size_t i = 0; i < n; i++)
            codes[i] = 7;
        return SCALE_NAN;
    }
    uint8_t code = scale_code(rules, ht_f32_from_bits(amax), 1), four;
    if (rules->rule == HT_SCALE_MSE && amax) {
        code = search(rules, code, x, n);
    } else if (is_four_six(rules->rule) && amax) {
        four = scale_code(rules, ht_f32_from_bits(amax), 1.5f);
        code = block_error(rules, four, x, n) < block_error(rules, code, x, n) ? four : code;
    }
    encode_values(rules, code, x, n, codes);
    return code;
}

ht_nvfp4_rules ht_nvfp4_rules_of(const ht_format *format, const ht_row_options *options, float global) {
    return (ht_nvfp4_rules){
        .divides = format->global != HT_DTYPE_NONE && format->global_rule == HT_GLOBAL_DIVIDES,
        .training = options->nvfp4_rule == HT_NVFP4_TRAINING,
        .rule = options->scale_rule,
        .arithmetic = options->arithmetic,
        .global = global,
        .inverse = 1 / global,
        .global_sixth = global * sixth,
    };
}

static float read_global(const ht_format *format, const ht_planes *planes) {
    return format->global == HT_DTYPE_NONE ? 1.0f : *(const float *)planes->plane[HT_PLANE_GLOBAL];
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_nvfp4_rules rules = ht_nvfp4_rules_of(format, options, read_global(format, out));
    uint8_t *packed = out->plane[HT_PLANE_CODES], *scales = out->plane[HT_PLANE_SCALES];
    size_t stride = ht_packed_bytes(format->packing, 4, cols), step = ht_packed_bytes(format->packing, 4, BLOCK);
    float values[BLOCK * BLOCK];
    uint8_t codes[BLOCK * BLOCK];
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        for (size_t r = 0; r < tile.rows; r++)
            ht_lanes_load(x, x_dtype, (tile.row + r) * cols + tile.col, BLOCK, values + r * BLOCK);
        scales[b] = ht_nvfp4_encode_block(&rules, values, tile.rows * BLOCK, codes);
        for (size_t r = 0; r < tile.rows; r++)
            ht_pack_codes(format->packing, 4, codes + r * BLOCK, BLOCK,
                          packed + (tile.row + r) * stride + tile.col / BLOCK * step);
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const uint8_t *packed = in->plane[HT_PLANE_CODES], *scales = in->plane[HT_PLANE_SCALES];
    const float global = read_global(format, in);
    size_t step = ht_packed_bytes(format->packing, 4, BLOCK), across = cols / BLOCK;
    uint32_t height = format->block_rows ? format->block_rows : 1;
    uint8_t codes[BLOCK];
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0; b < across; b++) {
            float *values = out + r * cols + b * BLOCK, scale = ht_f32_from_e4m3(scales[r / height * across + b]);
            ht_unpack_codes(format->packing, 4, packed + (r * across + b) * step, BLOCK, codes);
            ht_lanes_decode(HT_F4_E2M1, codes, BLOCK, values);
            float factor = decode_factor(format->global_rule == HT_GLOBAL_DIVIDES, scale, global);
            for (size_t i = 0; i < BLOCK; i++)
                values[i] *= factor;
        }
    return HT_OK;
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    (void)rows;
    if (format->element != HT_F4_E2M1 || format->scale != HT_F8_E4M3 || format->block_cols != BLOCK ||
        format->block_rows > BLOCK || !format->block_rows)
        return ht_fail(HT_ERR_FORMAT, "NVFP4 has f4_e2m1 elements and f8_e4m3 scales per 16 values or 16x16 tile");
    if (cols % BLOCK)
        return ht_fail(HT_ERR_SHAPE, "NVFP4 needs columns in multiples of %d; %zu leaves %zu over", BLOCK, cols,
                       cols % BLOCK);
    return HT_OK;
}

const ht_codec ht_codec_nvfp4 = {
    .check_shape = check_shape, .global = global_of, .quantize = quantize, .dequantize = dequantize};
