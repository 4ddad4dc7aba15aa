/* The family MAP: codes into a dynamic map, times one f32 scale per block of a row.
 *
 * The scale is max |x| of the block, at least 1e-12, so every quotient lies in [-1, 1] and the map, dense near zero,
 * keeps a few per cent of relative precision over seven decades: what optimizer state needs. 4-bit codes: first value
 * in the high nibble. The signed maps have no -1: the most negative value of a block comes back 0.7 % (4 bits: 11 %)
 * smaller. Refuses: rows that are not whole blocks. Source: the formats specification, section 5; Dettmers et al. 2022,
 * arXiv:2110.02861.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/map.h"

#include <math.h> /* fabsf, isfinite */

#include "base/status.h"
#include "format/bits.h"
#include "format/codec.h"
#include "format/lanes.h"

enum { MAX_BLOCK = 256 };

static const ht_map maps[HT_MAP_COUNT] = {
    [HT_MAP_SIGNED_8] = {.name = "map8_signed", .bits = 8, .block = 256, .value = ht_map_signed_8, .zero = 127},
    [HT_MAP_UNSIGNED_8] = {.name = "map8_unsigned", .bits = 8, .block = 256, .value = ht_map_unsigned_8, .zero = 0},
    [HT_MAP_SIGNED_4] = {.name = "map4_signed", .bits = 4, .block = 128, .value = ht_map_signed_4, .zero = 7},
    [HT_MAP_UNSIGNED_4] = {.name = "map4_unsigned", .bits = 4, .block = 128, .value = ht_map_unsigned_4, .zero = 0},
};

const ht_map *ht_map_at(unsigned variant) {
    return variant < HT_MAP_COUNT ? &maps[variant] : NULL;
}

/* The last code whose value is not above x; 0 when all are. */
static unsigned floor_code(const float *map, unsigned size, float x) {
    unsigned code = 0;
    for (unsigned step = size / 2; step > 0; step /= 2)
        if (x >= map[code + step])
            code += step;
    return code;
}

unsigned ht_map_encode(const float *map, unsigned size, float x) {
    unsigned code = floor_code(map, size, x);
    if (code + 1 < size && x - map[code] >= (map[code + 1] - map[code]) * 0.5f)
        code++;
    return code;
}

unsigned ht_map_encode_low(const float *map, unsigned size, float x) {
    unsigned code = floor_code(map, size, x);
    if (code + 1 < size && (double)map[code + 1] - (double)x < (double)x - (double)map[code])
        code++;
    return code;
}

float ht_finite_amax(const float *x, size_t count) {
    float amax = 0;
    for (size_t i = 0; i < count; i++) {
        if (!isfinite(x[i]))
            return NAN;
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    }
    return amax;
}

void ht_map_quantize_block(const float *map, unsigned size, const float *x, size_t count, uint8_t *codes,
                           float *scale) {
    float amax = ht_finite_amax(x, count);
    *scale = amax < 1e-12f ? 1e-12f : amax;
    for (size_t i = 0; i < count; i++)
        codes[i] = isnan(amax) ? 0 : (uint8_t)ht_map_encode(map, size, x[i] / *scale);
}

void ht_bnb_quantize_8bit(const float *map, const float *x, size_t count, size_t block, uint8_t *codes, float *absmax) {
    for (size_t at = 0; at < count; at += block, absmax++) {
        size_t n = count - at < block ? count - at : block;
        *absmax = ht_finite_amax(x + at, n);
        float inverse = 1.0f / *absmax;
        for (size_t i = at; i < at + n; i++) {
            float v = *absmax > 0 ? isinf(inverse) ? x[i] / *absmax : x[i] * inverse : 0;
            codes[i] = (uint8_t)ht_map_encode_low(map, 256, v);
        }
    }
}

void ht_bnb_dequantize_8bit(const float *map, const uint8_t *codes, const float *absmax, size_t count, size_t block,
                            float *y) {
    for (size_t i = 0; i < count; i++)
        y[i] = map[codes[i]] * absmax[i / block];
}

uint16_t ht_bf16_stochastic(float x, uint16_t random) {
    uint32_t bits = ht_f32_bits(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits >> 16) + (random < (bits & 0xffffu)));
}

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    const ht_map *map = ht_map_at(format->variant);
    (void)rows;
    if (!map)
        return ht_fail(HT_ERR_FORMAT, "dynamic map %u is not known; there are %d", (unsigned)format->variant,
                       (int)HT_MAP_COUNT);
    if (format->block_cols == 0 || format->block_cols % 2 != 0 || format->block_cols > MAX_BLOCK)
        return ht_fail(HT_ERR_FORMAT, "%s: blocks of %u values, possible are even numbers up to %d", map->name,
                       (unsigned)format->block_cols, (int)MAX_BLOCK);
    if (cols % format->block_cols != 0)
        return ht_fail(HT_ERR_SHAPE, "%s stores blocks of %u values along a row, %zu columns are no multiple",
                       map->name, (unsigned)format->block_cols, cols);
    return HT_OK;
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_map *map = &maps[format->variant];
    size_t block = format->block_cols, blocks = rows * (cols / block);
    float *scales = out->plane[HT_PLANE_SCALES], values[MAX_BLOCK];
    uint8_t *packed = out->plane[HT_PLANE_CODES], codes[MAX_BLOCK];
    (void)options;
    for (size_t b = 0; b < blocks; b++) {
        ht_lanes_load(x, x_dtype, b * block, block, values);
        ht_map_quantize_block(map->value, 1u << map->bits, values, block, codes, &scales[b]);
        for (size_t i = 0; map->bits == 8 && i < block; i++)
            packed[b * block + i] = codes[i];
        for (size_t i = 0; map->bits == 4 && i < block; i += 2)
            packed[(b * block + i) / 2] = (uint8_t)(codes[i] << 4 | codes[i + 1]);
    }
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const ht_map *map = &maps[format->variant];
    const float *scales = in->plane[HT_PLANE_SCALES];
    const uint8_t *codes = in->plane[HT_PLANE_CODES];
    for (size_t i = 0; i < rows * cols; i++) {
        unsigned code = map->bits == 8 ? codes[i] : codes[i / 2] >> (i % 2 ? 0 : 4) & 15;
        out[i] = map->value[code] * scales[i / format->block_cols];
    }
    return HT_OK;
}

const ht_codec ht_codec_map = {.check_shape = check_shape, .quantize = quantize, .dequantize = dequantize};
