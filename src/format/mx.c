/* OCP microscaling: 32 values share a power of two, kept as an e8m0 byte (value 2^(byte - 127), 255 = NaN).
 *
 * The byte comes from the largest magnitude by one of the rules FLOOR, CEIL, EVEN, RCEIL. MSE starts from FLOOR and
 * takes one more when that leaves a smaller squared error; this can only happen when FLOOR saturates the largest value,
 * because otherwise the finer grid holds every value that the coarser one offers, so unsaturated blocks are not
 * searched. Elements: x * 2^(127 - byte), nearest even, saturating. A NaN or Inf makes the whole block NaN (byte 255,
 * codes those of NaN). A zero block has byte 0 and codes +-0. A finite value
 * reaches byte 255 only under EVEN, when its rounding carries to 2^128, as in the reference.
 *
 *   codes   e4m3, e5m2, MXINT8: a byte each; e2m1: two a byte, even element low; e2m3, e3m2: 4 in 3 bytes, LSB first
 *   scales  [rows, cols / 32]
 * Refuses: columns that are no multiple of 32.
 * Source: OCP MX v1.0, sections 5 and 6.3; formats specification, sections 2.2 and 8.3.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/mx.h"

#include "base/status.h"
#include "format/codec.h"
#include "format/element.h"
#include "format/lanes.h"
#include "format/pack.h"

enum { BLOCK = 32 };

/* --- Scale byte ----------------------------------------------------------------------------------------- */

static int at_least_zero(int exponent) {
    return exponent > 0 ? exponent : 0;
}

static int even_byte(uint32_t amax, unsigned mantissa, int max_pow2) {
    uint32_t exponent = (amax + (1u << (22 - mantissa))) >> 23;
    return exponent >= 255 ? 255 : at_least_zero((int)exponent - max_pow2);
}

/* Round amax / max up to a power of two. The division is a multiplication by the rounded reciprocal, as hardware and
 * torchao have it. */
static int rceil_byte(uint32_t amax, const ht_element *e) {
    float reciprocal = 1.0f / ht_f32_from_bits(e->max_bits);
    uint32_t d = ht_f32_bits(ht_f32_from_bits(amax) * reciprocal);
    uint32_t exponent = d >> 23, fraction = d & 0x7fffff;
    return (int)(exponent + (exponent == 0 ? fraction > 0x400000 : fraction != 0));
}

static uint8_t scale_byte(ht_scale_rule rule, const ht_element *e, uint32_t amax) {
    int byte;
    if (amax >= 0x7f800000u)
        return 255;
    switch (rule) {
    case HT_SCALE_RCEIL:
        byte = rceil_byte(amax, e);
        break;
    case HT_SCALE_CEIL:
        byte = at_least_zero((int)(amax >> 23) - e->max_pow2 + ((amax & 0x7fffff) != 0));
        break;
    case HT_SCALE_EVEN:
        byte = even_byte(amax, e->mantissa, e->max_pow2);
        break;
    case HT_SCALE_EVEN_FP4:
        byte = even_byte(amax, 1, e->max_pow2);
        break;
    default:
        byte = at_least_zero((int)(amax >> 23) - e->max_pow2);
    }
    /* MXINT8 has no headroom: its bytes stop at 254 for finite values. */
    return (uint8_t)(e->max_pow2 == 0 && byte > 254 ? 254 : byte);
}

uint8_t ht_mx_scale_byte(ht_scale_rule rule, ht_dtype element, uint32_t amax_bits) {
    return scale_byte(rule, ht_element_find(element), amax_bits);
}

/* --- One block ------------------------------------------------------------------------------------------ */

/* 2^(127 - byte), the reciprocal of the scale; 254 needs a subnormal. */
static float reciprocal_of(unsigned byte) {
    return byte == 255 ? ht_f32_from_bits(0x7fc00000u)
                       : ht_f32_from_bits(byte == 254 ? 0x00400000u : (254 - byte) << 23);
}

static void encode_with(const float *x, size_t n, unsigned byte, ht_dtype element, float *scaled, uint8_t *codes) {
    float factor = reciprocal_of(byte);
    for (size_t i = 0; i < n; i++)
        scaled[i] = x[i] * factor;
    ht_lanes_encode(element, scaled, n, codes);
}

/* Squared error of a block in units of its own scale. */
static float error_with(const float *x, unsigned byte, ht_dtype element, uint8_t *codes) {
    float scaled[BLOCK], decoded[BLOCK];
    encode_with(x, BLOCK, byte, element, scaled, codes);
    ht_lanes_decode(element, codes, BLOCK, decoded);
    return ht_lanes_error(scaled, decoded, BLOCK);
}

/* FLOOR saturates: in units of the scale, amax is above the largest element. */
static int saturates(uint32_t amax, unsigned byte, const ht_element *e) {
    return byte < 254 && ht_f32_bits(ht_f32_from_bits(amax) * reciprocal_of(byte)) > e->max_bits;
}

static uint8_t encode_block(const float *x, ht_scale_rule rule, const ht_element *e, uint8_t *codes) {
    uint32_t amax = ht_lanes_amax(x, BLOCK);
    unsigned byte = scale_byte(rule, e, amax);
    float scaled[BLOCK];
    if (rule == HT_SCALE_MSE && saturates(amax, byte, e)) {
        uint8_t coarse[BLOCK];
        float fine_error = error_with(x, byte, e->dtype, codes);
        float coarse_error = error_with(x, byte + 1, e->dtype, coarse);
        if (fine_error <= 4 * coarse_error) /* units differ by 2, squares by 4; ties keep FLOOR */
            return (uint8_t)byte;
        for (size_t i = 0; i < BLOCK; i++)
            codes[i] = coarse[i];
        return (uint8_t)(byte + 1);
    }
    encode_with(x, BLOCK, byte, e->dtype, scaled, codes);
    if (byte == 255) /* finite neighbours of a NaN: the product's NaN is not a defined pattern, the code is */
        for (size_t i = 0; i < BLOCK; i++)
            codes[i] = (uint8_t)e->nan_code;
    return (uint8_t)byte;
}

/* --- Rows ------------------------------------------------------------------------------------------------ */

static ht_scale_rule rule_of(ht_scale_rule rule) {
    return rule == HT_SCALE_DEFAULT ? HT_SCALE_MSE : rule;
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    (void)rows;
    if (!ht_element_find(format->element) || ht_dtype_bits(format->element) > 8 || format->block_cols != BLOCK)
        return ht_fail(HT_ERR_FORMAT, "MX: blocks of %u x %s are not an MX format", (unsigned)format->block_cols,
                       ht_dtype_name(format->element));
    if (cols % BLOCK)
        return ht_fail(HT_ERR_SHAPE, "MX formats need columns in multiples of %d; %zu leaves %zu over", BLOCK, cols,
                       cols % BLOCK);
    return HT_OK;
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_element *e = ht_element_find(format->element);
    ht_scale_rule rule = rule_of(options->scale_rule);
    uint8_t *packed = out->plane[HT_PLANE_CODES], *scales = out->plane[HT_PLANE_SCALES];
    size_t step = ht_packed_bytes(format->packing, e->bits, BLOCK), blocks = rows * (cols / BLOCK);
    float values[BLOCK];
    uint8_t codes[BLOCK];
    for (size_t b = 0; b < blocks; b++) { /* rows hold whole blocks, and blocks whole bytes */
        ht_lanes_load(x, x_dtype, b * BLOCK, BLOCK, values);
        scales[b] = encode_block(values, rule, e, codes);
        ht_pack_codes(format->packing, e->bits, codes, BLOCK, packed + b * step);
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const ht_element *e = ht_element_find(format->element);
    const uint8_t *packed = in->plane[HT_PLANE_CODES], *scales = in->plane[HT_PLANE_SCALES];
    size_t step = ht_packed_bytes(format->packing, e->bits, BLOCK), blocks = rows * (cols / BLOCK);
    uint8_t codes[BLOCK];
    for (size_t b = 0; b < blocks; b++) {
        float scale, *values = out + b * BLOCK;
        ht_unpack_codes(format->packing, e->bits, packed + b * step, BLOCK, codes);
        ht_lanes_decode(e->dtype, codes, BLOCK, values);
        ht_lanes_decode(HT_E8M0, scales + b, 1, &scale);
        for (size_t i = 0; i < BLOCK; i++)
            values[i] *= scale;
    }
    return HT_OK;
}

const ht_codec ht_codec_mx = {.check_shape = check_shape, .quantize = quantize, .dequantize = dequantize};

/* --- Columns and tiles -------------------------------------------------------------------------------------- */

static ht_status check_values(const char *what, ht_dtype x_dtype) {
    if (x_dtype != HT_F32 && x_dtype != HT_BF16 && x_dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: values are %s; f32, bf16 or f16 is needed", what,
                       ht_dtype_name(x_dtype));
    return HT_OK;
}

ht_status ht_mx_quantize_columns(const ht_format *format, ht_scale_rule rule, const void *x, ht_dtype x_dtype,
                                 size_t rows, size_t cols, void *codes, uint8_t *scales) {
    HT_TRY(check_values("MX columns", x_dtype));
    HT_TRY(check_shape(format, cols, rows));
    const ht_element *e = ht_element_find(format->element);
    size_t step = ht_packed_bytes(format->packing, e->bits, BLOCK), blocks = rows / BLOCK;
    for (size_t b = 0; b < blocks; b++)
        for (size_t c = 0; c < cols; c += BLOCK) {
            float tile[BLOCK][BLOCK]; /* tile[column][row] */
            size_t width = cols - c < BLOCK ? cols - c : BLOCK;
            for (size_t r = 0; r < BLOCK; r++) {
                float row[BLOCK];
                ht_lanes_load(x, x_dtype, (b * BLOCK + r) * cols + c, width, row);
                for (size_t j = 0; j < width; j++)
                    tile[j][r] = row[j];
            }
            for (size_t j = 0; j < width; j++) {
                uint8_t block[BLOCK];
                size_t at = (c + j) * blocks + b;
                scales[at] = encode_block(tile[j], rule_of(rule), e, block);
                ht_pack_codes(format->packing, e->bits, block, BLOCK, (uint8_t *)codes + at * step);
            }
        }
    return HT_OK;
}

/* Byte of a 32x32 tile; MSE compares the error sums of its 32 rows, added in order. */
static unsigned tile_byte(float tile[BLOCK][BLOCK], ht_scale_rule rule, const ht_element *e) {
    uint32_t amax = 0;
    for (size_t r = 0; r < BLOCK; r++) {
        uint32_t row = ht_lanes_amax(tile[r], BLOCK);
        amax = row > amax ? row : amax;
    }
    unsigned byte = scale_byte(rule, e, amax);
    if (rule != HT_SCALE_MSE || !saturates(amax, byte, e))
        return byte;
    uint8_t codes[BLOCK];
    float fine = 0, coarse = 0;
    for (size_t r = 0; r < BLOCK; r++) {
        fine += error_with(tile[r], byte, e->dtype, codes);
        coarse += error_with(tile[r], byte + 1, e->dtype, codes);
    }
    return fine <= 4 * coarse ? byte : byte + 1;
}

ht_status ht_mx_quantize_tiles(const ht_format *format, ht_scale_rule rule, const void *x, ht_dtype x_dtype,
                               size_t rows, size_t cols, void *codes, uint8_t *scales) {
    HT_TRY(check_values("MX tiles", x_dtype));
    HT_TRY(check_shape(format, rows, cols));
    HT_TRY(check_shape(format, cols, rows));
    const ht_element *e = ht_element_find(format->element);
    size_t step = ht_packed_bytes(format->packing, e->bits, BLOCK), across = cols / BLOCK;
    for (size_t t = 0; t < rows / BLOCK * across; t++) {
        float tile[BLOCK][BLOCK], scaled[BLOCK];
        size_t first_row = t / across * BLOCK, column = t % across;
        for (size_t r = 0; r < BLOCK; r++)
            ht_lanes_load(x, x_dtype, (first_row + r) * cols + column * BLOCK, BLOCK, tile[r]);
        unsigned byte = tile_byte(tile, rule_of(rule), e);
        scales[t] = (uint8_t)byte;
        for (size_t r = 0; r < BLOCK; r++) {
            uint8_t block[BLOCK];
            encode_with(tile[r], BLOCK, byte, e->dtype, scaled, block);
            for (size_t i = 0; byte == 255 && i < BLOCK; i++)
                block[i] = (uint8_t)e->nan_code;
            ht_pack_codes(format->packing, e->bits, block, BLOCK,
                          (uint8_t *)codes + ((first_row + r) * across + column) * step);
        }
    }
    return HT_OK;
}
