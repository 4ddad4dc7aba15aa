/* The family CODEBOOK: NF4 and FP4, 16 fixed values times a scale per block (64 values) of a row.
 *
 * NF4's values are quantiles of the normal distribution, so that normal weights use all codes equally often; FP4 is a
 * small float with its own code order (not e2m1: 5/960, 1/6, 1/4, 1/3, 1/2, 2/3, 1). First value in the high nibble.
 *
 *     nf4_flat fp4_flat nf4_torchao   f32 scale per block: max |x|
 *     nf4 fp4                         u8 scale per block, in the unsigned 8-bit dynamic map, times an f32 per up to 256
 *                                     blocks of the same row: their largest. Codes are chosen for the scale as stored.
 *
 * Nesting stays inside a row, so rows are quantized and read alone; libraries that nest over the flat matrix around
 * its mean need all of it first. Their layouts: codebook_compat.c. A block with NaN or Inf becomes NaN (nested: so do
 * all blocks that share its f32). Zero blocks decode to zero. Refuses: rows that are not whole blocks.
 * Source: the formats specification, section 4; Dettmers et al. 2023, arXiv:2305.14314; docs/formats-codebook.md.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/codebook.h"

#include <math.h> /* fabsf, isinf, isnan */

#include "base/status.h"
#include "format/codec.h"
#include "format/lanes.h"
#include "format/map.h"

enum { MAX_BLOCK = 4096, MAX_NEST = 256 }; /* values of a block, blocks of a nest */

static const ht_codebook books[HT_CODEBOOK_COUNT] = {
    [HT_CODEBOOK_NF4] = {.name = "nf4",
                         .value = {-1.0f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f,
                                   -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0.0f,
                                   0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f,
                                   0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f,
                                   1.0f},
                         .order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                         .zero = 7},
    [HT_CODEBOOK_FP4] = {.name = "fp4",
                         .value = {0.0f, 0.0052083333f, 0.66666667f, 1.0f, 0.33333333f, 0.5f, 0.16666667f, 0.25f, -0.0f,
                                   -0.0052083333f, -0.66666667f, -1.0f, -0.33333333f, -0.5f, -0.16666667f, -0.25f},
                         .order = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3},
                         .zero = 0},
    [HT_CODEBOOK_NF4_TORCHAO] = {.name = "nf4_torchao",
                                 .value = {-1.0f, -0.6962f, -0.5251f, -0.3949f, -0.2844f, -0.1848f, -0.0911f, 0.0f,
                                           0.0796f, 0.1609f, 0.2461f, 0.3379f, 0.4407f, 0.5626f, 0.7230f, 1.0f},
                                 .order = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
                                 .zero = 7,
                                 .by_distance = 1},
};

const ht_codebook *ht_codebook_at(unsigned variant) {
    return variant < HT_CODEBOOK_COUNT ? &books[variant] : NULL;
}

unsigned ht_codebook_encode(const ht_codebook *book, float x) {
    if (isnan(x))
        return book->zero;
    unsigned best = 0;
    if (book->by_distance) {
        x = x > 1 ? 1 : x < -1 ? -1 : x;
        for (unsigned code = 1; code < 16; code++)
            if (fabsf(x - book->value[code]) < fabsf(x - book->value[best]))
                best = code;
        return best;
    }
    for (unsigned step = 8; step > 0; step /= 2) {
        float below = book->value[book->order[best + step - 1]], above = book->value[book->order[best + step]];
        if (x > (below + above) * 0.5f)
            best += step;
    }
    return book->order[best];
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    const ht_codebook *book = ht_codebook_at(format->variant);
    unsigned block = format->block_cols;
    (void)rows;
    if (!book)
        return ht_fail(HT_ERR_FORMAT, "code book %u is not known; there are %d", (unsigned)format->variant,
                       (int)HT_CODEBOOK_COUNT);
    if (block < 2 || block % 2 != 0 || block > MAX_BLOCK || format->block2 > MAX_NEST)
        return ht_fail(HT_ERR_FORMAT,
                       "%s: blocks of %u values and %u scales; possible are even numbers up to %d, and %d", book->name,
                       block, (unsigned)format->block2, (int)MAX_BLOCK, (int)MAX_NEST);
    if (cols % block != 0)
        return ht_fail(HT_ERR_SHAPE, "%s stores blocks of %u values along a row, %zu columns are no multiple",
                       book->name, block, cols);
    return HT_OK;
}

/* Values are read in pieces, so that the stack holds no whole block. */
enum { PIECE = 128 };

typedef struct input {
    const void *x;
    ht_dtype dtype;
} input;

/* max |x| of a block; NaN when a value is NaN or Inf. */
static float block_amax(const input *in, size_t first, size_t count) {
    float values[PIECE], amax = 0;
    for (size_t at = 0; at < count; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        ht_lanes_load(in->x, in->dtype, first + at, n, values);
        float piece = ht_finite_amax(values, n);
        if (isnan(piece) || piece > amax)
            amax = piece; /* once NaN, nothing is above it */
    }
    return amax;
}

/* Codes of a block for its scale; without a positive scale every code is the one of zero. */
static void block_codes(const ht_codebook *book, const input *in, size_t first, size_t count, float scale,
                        uint8_t *packed) {
    float values[PIECE], inverse = 1.0f / scale;
    for (size_t at = 0; at < count; at += PIECE) {
        size_t n = count - at < PIECE ? count - at : PIECE;
        ht_lanes_load(in->x, in->dtype, first + at, n, values);
        for (size_t i = 0; i < n; i++) {
            float v = isinf(inverse) ? values[i] / scale : values[i] * inverse;
            unsigned code = scale > 0 ? ht_codebook_encode(book, v) : book->zero;
            uint8_t *byte = packed + (first + at + i) / 2;
            *byte = (uint8_t)(i % 2 ? *byte | code : code << 4);
        }
    }
}

static void quantize_flat(const ht_format *format, const input *in, size_t blocks, const ht_planes *out) {
    float *scales = out->plane[HT_PLANE_SCALES];
    size_t block = format->block_cols;
    for (size_t b = 0; b < blocks; b++) {
        scales[b] = block_amax(in, b * block, block);
        block_codes(&books[format->variant], in, b * block, block, scales[b], out->plane[HT_PLANE_CODES]);
    }
}

/* `count` blocks from block `b` on, which share *scale2. */
static void quantize_nest(const ht_format *format, const input *in, size_t b, size_t count, uint8_t *scales,
                          float *scale2, uint8_t *packed) {
    size_t block = format->block_cols;
    float amax[MAX_NEST];
    *scale2 = 0;
    for (size_t i = 0; i < count; i++) {
        amax[i] = block_amax(in, (b + i) * block, block);
        if (isnan(amax[i]) || amax[i] > *scale2)
            *scale2 = amax[i];
    }
    for (size_t i = 0; i < count; i++) {
        float ratio = *scale2 > 0 ? amax[i] / *scale2 : 0;
        scales[b + i] = (uint8_t)ht_map_encode(ht_map_unsigned_8, 256, ratio);
        float scale = ht_map_unsigned_8[scales[b + i]] * *scale2;
        block_codes(&books[format->variant], in, (b + i) * block, block, scale, packed);
    }
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    input in = {x, x_dtype};
    size_t in_row = cols / format->block_cols;
    float *scale2 = out->plane[HT_PLANE_SCALES2];
    (void)options;
    if (!format->block2)
        quantize_flat(format, &in, rows * in_row, out);
    for (size_t r = 0; format->block2 && r < rows; r++) {
        for (size_t b = 0; b < in_row; b += format->block2) {
            size_t count = in_row - b < format->block2 ? in_row - b : format->block2;
            quantize_nest(format, &in, r * in_row + b, count, out->plane[HT_PLANE_SCALES], scale2++,
                          out->plane[HT_PLANE_CODES]);
        }
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const float *value = books[format->variant].value, *flat = in->plane[HT_PLANE_SCALES];
    const float *scale2 = in->plane[HT_PLANE_SCALES2];
    const uint8_t *packed = in->plane[HT_PLANE_CODES], *nested = in->plane[HT_PLANE_SCALES];
    size_t block = format->block_cols, in_row = cols / block;
    size_t nests = format->block2 ? (in_row + format->block2 - 1) / format->block2 : 0; /* in a row */
    for (size_t b = 0; b < rows * in_row; b++) {
        float scale =
            nests ? ht_map_unsigned_8[nested[b]] * scale2[b / in_row * nests + b % in_row / format->block2] : flat[b];
        for (size_t i = b * block; i < (b + 1) * block; i++)
            out[i] = value[packed[i / 2] >> (i % 2 ? 0 : 4) & 15] * scale;
    }
    return HT_OK;
}

const ht_codec ht_codec_codebook = {.check_shape = check_shape, .quantize = quantize, .dequantize = dequantize};
