/* Stored weight rows to f32, for any machine.
 *
 *   bf16, f32     a shift, a copy
 *   transposed    rows turned upright while they are converted
 *   nibbles       4-bit codes with a scale per block: a byte indexes a table of value pairs, then zero point and scale
 *   bytes         8-bit codes likewise, a table of 256 values
 *   any           the format's own decoder (ht_format_dequantize), which also defines the bits of all the others
 *
 * The tables of values are made by the format's own decoder from every code at scale 1 and zero point 0, so nothing
 * about a format is written down twice; values stay exact there, and (value - zero) * scale rounds as the decoder
 * rounds.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/matmul.h"

#include <stdint.h>
#include <string.h> /* memcpy, memset */

#include "format/tile.h"

enum { SEGMENT = 64, MOST_CODES = 256 };

/* A bf16 is the upper half of an f32. Written as words, which vectorizes. */
typedef uint32_t __attribute__((may_alias)) float_bits;

static void widen_bf16(const uint16_t *restrict in, float_bits *restrict out, size_t count) {
    for (size_t i = 0; i < count; i++)
        out[i] = (uint32_t)in[i] << 16;
}

int ht_decode_is_bf16(const ht_weight *weight) {
    return !weight->transposed && weight->format.family == HT_FAMILY_PLAIN && weight->format.element == HT_BF16;
}

void ht_decode_bf16_ref(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    ht_planes planes = ht_weight_planes(weight, index);
    widen_bf16((const uint16_t *)planes.plane[HT_PLANE_CODES] + row * weight->cols, (float_bits *)out,
               count * weight->cols);
}

void ht_decode_f32_ref(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    ht_planes planes = ht_weight_planes(weight, index);
    memcpy(out, (const float *)planes.plane[HT_PLANE_CODES] + row * weight->cols, count * weight->cols * sizeof *out);
}

/* Stored [cols, rows]: of every stored row, the segment of our outputs, turned upright. */
void ht_decode_transposed_ref(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    const char *codes = ht_weight_planes(weight, index).plane[HT_PLANE_CODES];
    ht_dtype dtype = weight->format.element;
    size_t size = ht_dtype_bits(dtype) / 8;
    float segment[SEGMENT];
    for (size_t k = 0; k < weight->cols; k++)
        for (size_t done = 0; done < count; done += SEGMENT) {
            size_t part = count - done < SEGMENT ? count - done : SEGMENT;
            ht_convert(codes + (k * weight->rows + row + done) * size, dtype, segment, HT_F32, part);
            for (size_t j = 0; j < part; j++)
                out[(done + j) * weight->cols + k] = segment[j];
        }
}

void ht_decode_any_ref(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    ht_planes all = ht_weight_planes(weight, index);
    ht_planes rows = ht_planes_at_row(&weight->format, &all, weight->cols, row);
    ht_format_dequantize(&weight->format, &rows, count, weight->cols, out);
}

/* --- codes with a scale per block ------------------------------------------------------------------------------- */

/* e8m0: 2^(code - 127); e4m3 with the number of the matrix; else a float. */
static float block_scale(const ht_format *format, const ht_planes *planes, size_t index) {
    const uint8_t *scales = planes->plane[HT_PLANE_SCALES];
    if (format->scale == HT_E8M0 || format->scale == HT_F8_E4M3) {
        float scale = ht_element_decode(format->scale, scales[index]);
        if (format->global == HT_DTYPE_NONE)
            return scale;
        float global = *(const float *)planes->plane[HT_PLANE_GLOBAL];
        return format->global_rule == HT_GLOBAL_DIVIDES ? scale / global : scale * global;
    }
    return ht_scale_load(format->scale, scales, index);
}

static float block_zero(const ht_format *format, const ht_planes *planes, size_t index) {
    if (format->zero == HT_I8)
        return (float)((const int8_t *)planes->plane[HT_PLANE_ZEROS])[index];
    return format->zero == HT_U8 ? (float)((const uint8_t *)planes->plane[HT_PLANE_ZEROS])[index] : 0;
}

static int has_table(const ht_weight *weight) {
    const ht_format *format = &weight->format;
    if (weight->transposed || format->scale2 != HT_DTYPE_NONE ||
        (format->zero != HT_DTYPE_NONE && format->zero != HT_I8 && format->zero != HT_U8))
        return 0;
    return format->family == HT_FAMILY_MX || format->family == HT_FAMILY_NVFP4 || format->family == HT_FAMILY_FLOAT8 ||
           format->family == HT_FAMILY_INT;
}

/* value[c] of every code c of `bits` bits, in the order of the packing: one row of all codes, decoded at scale 1. */
static void code_values(const ht_format *format, unsigned bits, float *value) {
    ht_format plain = *format;
    uint8_t codes[MOST_CODES], zeros[MOST_CODES] = {0};
    float scales[MOST_CODES], one = 1;
    size_t count = (size_t)1 << bits, width = bits == 4 ? 32 : count;
    memset(codes, 0, sizeof codes);
    for (size_t c = 0; c < count; c++)
        if (bits == 8)
            codes[c] = (uint8_t)c;
        else
            codes[c / 2] |= (uint8_t)((c % 2 != 0) == (format->packing != HT_PACK_HIGH) ? c << 4 : c);
    plain.block_rows = 1;
    if (plain.family == HT_FAMILY_INT || plain.family == HT_FAMILY_FLOAT8) {
        plain.block_cols = 0;
        plain.scale = HT_F32;
        scales[0] = 1;
    } else {
        memset(scales, plain.scale == HT_E8M0 ? 127 : 0x38, sizeof scales); /* 1 in e8m0 and in e4m3 */
    }
    ht_planes planes = {{codes, scales, zeros, NULL, &one}};
    float row[MOST_CODES];
    ht_format_dequantize(&plain, &planes, 1, width, row);
    memcpy(value, row, count * sizeof *value);
}

static void finish_block(float *x, size_t n, int has_zero, float zero, float scale) {
    if (has_zero)
        for (size_t i = 0; i < n; i++)
            x[i] = (x[i] - zero) * scale;
    else
        for (size_t i = 0; i < n; i++)
            x[i] *= scale;
}

/* After the codes of `count` rows have become values: zero points and scales, block by block. */
static void finish_rows(const ht_weight *weight, const ht_planes *planes, size_t row, size_t count, float *out) {
    const ht_format *format = &weight->format;
    size_t cols = weight->cols, width = format->block_cols ? format->block_cols : cols;
    size_t across = (cols + width - 1) / width, height = format->block_rows ? format->block_rows : weight->rows;
    for (size_t r = 0; r < count; r++)
        for (size_t b = 0; b < across; b++) {
            size_t index = (row + r) / height * across + b, from = b * width;
            finish_block(out + r * cols + from, cols - from < width ? cols - from : width,
                         format->zero != HT_DTYPE_NONE, block_zero(format, planes, index),
                         block_scale(format, planes, index));
        }
}

int ht_decode_is_nibbles(const ht_weight *weight) {
    ht_packing packing = weight->format.packing;
    return has_table(weight) && ht_dtype_bits(weight->format.element) == 4 && weight->cols % 2 == 0 &&
           weight->format.block_cols % 2 == 0 &&
           (packing == HT_PACK_LOW || packing == HT_PACK_HIGH || packing == HT_PACK_WORDS || packing == HT_PACK_BITS);
}

typedef uint64_t __attribute__((may_alias, aligned(4))) float_pair;

void ht_decode_nibbles_ref(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    ht_planes planes = ht_weight_planes(weight, index);
    size_t stride = ht_format_plane_bytes(&weight->format, HT_PLANE_CODES, 1, weight->cols), bytes = weight->cols / 2;
    float value[16], pair[MOST_CODES][2];
    int high_first = weight->format.packing == HT_PACK_HIGH;
    code_values(&weight->format, 4, value);
    for (size_t b = 0; b < MOST_CODES; b++) {
        pair[b][0] = value[high_first ? b >> 4 : b & 15];
        pair[b][1] = value[high_first ? b & 15 : b >> 4];
    }
    for (size_t r = 0; r < count; r++) {
        const uint8_t *codes = (const uint8_t *)planes.plane[HT_PLANE_CODES] + (row + r) * stride;
        float_pair *to = (float_pair *)(out + r * weight->cols);
        for (size_t i = 0; i < bytes; i++)
            to[i] = *(const float_pair *)pair[codes[i]];
    }
    finish_rows(weight, &planes, row, count, out);
}

int ht_decode_is_bytes(const ht_weight *weight) {
    return has_table(weight) && ht_dtype_bits(weight->format.element) == 8 && weight->format.packing == HT_PACK_BYTES;
}

void ht_decode_bytes_ref(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    ht_planes planes = ht_weight_planes(weight, index);
    const uint8_t *codes = (const uint8_t *)planes.plane[HT_PLANE_CODES] + row * weight->cols;
    float value[MOST_CODES];
    code_values(&weight->format, 8, value);
    for (size_t i = 0; i < count * weight->cols; i++)
        out[i] = value[codes[i]];
    finish_rows(weight, &planes, row, count, out);
}
