/* What the codecs with one scale per rectangle share: range of a tile, and scales in 16 or 32 bits.
 *
 * Refuses: nothing. Source: format.h.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/tile.h"

#include <float.h>

#include "format/lanes.h"

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

uint32_t ht_tile_amax(const ht_values *values, const ht_tile *tile) {
    float buffer[HT_TILE_CHUNK];
    uint32_t amax = 0;
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = smaller(tile->cols - done, HT_TILE_CHUNK);
            ht_lanes_load(values->x, values->dtype, r * values->stride + tile->col + done, n, buffer);
            uint32_t a = ht_lanes_amax(buffer, n);
            amax = a > amax ? a : amax;
        }
    return amax;
}

void ht_tile_min_max(const ht_values *values, const ht_tile *tile, float *min, float *max) {
    float buffer[HT_TILE_CHUNK];
    ht_lanes_load(values->x, values->dtype, tile->row * values->stride + tile->col, 1, buffer);
    *min = *max = buffer[0];
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            float low, high;
            n = smaller(tile->cols - done, HT_TILE_CHUNK);
            ht_lanes_load(values->x, values->dtype, r * values->stride + tile->col + done, n, buffer);
            ht_lanes_min_max(buffer, n, &low, &high);
            *min = low < *min ? low : *min;
            *max = high > *max ? high : *max;
        }
}

void ht_scale_store(ht_dtype dtype, void *plane, size_t index, float scale) {
    if (dtype == HT_F32)
        ((float *)plane)[index] = scale;
    else
        ((uint16_t *)plane)[index] = dtype == HT_BF16 ? ht_bf16_from_f32(scale) : ht_f16_from_f32(scale);
}

float ht_scale_load(ht_dtype dtype, const void *plane, size_t index) {
    if (dtype == HT_F32)
        return ((const float *)plane)[index];
    uint16_t half = ((const uint16_t *)plane)[index];
    return dtype == HT_BF16 ? ht_f32_from_bf16(half) : ht_f32_from_f16(half);
}

float ht_scale_round(ht_dtype dtype, float scale) {
    float least = dtype == HT_F32 ? 0x1p-149f : dtype == HT_BF16 ? 0x1p-133f : 0x1p-24f;
    float most = dtype == HT_F32 ? FLT_MAX : dtype == HT_BF16 ? 0x1.fep127f : 65504;
    float rounded = ht_round_to(dtype, scale);
    rounded = rounded > most ? most : rounded;
    return rounded == 0 ? least : rounded;
}
