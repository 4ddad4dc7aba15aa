/* Casts of training recipes: fp8 with multiplicative scales, int8 rows, BitNet ternary weights.
 *
 * Training keeps the multiplier, not the divisor: code = e4m3(saturate(x * scale)), and products are divided by the
 * scales afterwards. amax is bounded below by 1e-12, so a block of zeros has a large finite scale and codes of 0.
 * Refuses: values other than f32, bf16, f16. Source: formats specification, section 6.6.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/training_casts.h"

#include <math.h>

#include "base/status.h"
#include "format/element.h"
#include "format/lanes.h"
#include "format/tile.h"

float ht_float8_train_scale(ht_dtype element, float amax, int power_of_two) {
    double largest = (double)ht_f32_from_bits(ht_element_find(element)->max_bits), bounded = (double)amax;
    if (!isfinite(amax))
        return NAN;
    if (bounded < 1e-12)
        bounded = 1e-12;
    float scale = (float)(largest / bounded);
    return power_of_two ? ht_f32_from_bits(ht_f32_bits(scale) & 0x7f800000u) : scale;
}

static void encode_tile(ht_dtype element, float scale, const ht_values *values, const ht_tile *tile, uint8_t *codes) {
    float x[HT_TILE_CHUNK];
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = tile->cols - done < HT_TILE_CHUNK ? tile->cols - done : HT_TILE_CHUNK;
            size_t at = r * values->stride + tile->col + done;
            ht_lanes_load(values->x, values->dtype, at, n, x);
            for (size_t i = 0; i < n; i++)
                x[i] *= scale;
            ht_lanes_encode(element, x, n, codes + at);
        }
}

ht_status ht_float8_train_quantize(const ht_format *format, int power_of_two, int reciprocal, const void *x,
                                   ht_dtype x_dtype, size_t rows, size_t cols, uint8_t *codes, float *scales) {
    if (x_dtype != HT_F32 && x_dtype != HT_BF16 && x_dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "fp8 training cast: values are %s; f32, bf16 or f16 is needed",
                       ht_dtype_name(x_dtype));
    const ht_values values = {x, x_dtype, cols};
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        float amax = ht_f32_from_bits(ht_tile_amax(&values, &tile));
        float scale = ht_float8_train_scale(format->element, amax, power_of_two);
        scales[b] = reciprocal ? 1 / scale : scale;
        encode_tile(format->element, scale, &values, &tile, codes);
    }
    return HT_OK;
}

void ht_int8_train_rows(const float *x, size_t rows, size_t cols, int8_t *codes, float *scales) {
    for (size_t r = 0; r < rows; r++) {
        scales[r] = ht_f32_from_bits(ht_lanes_amax(x + r * cols, cols)) / 127;
        float reciprocal = 1 / (scales[r] > 1e-12f ? scales[r] : 1e-12f), y[HT_TILE_CHUNK];
        for (size_t done = 0, n; done < cols; done += n) {
            n = cols - done < HT_TILE_CHUNK ? cols - done : HT_TILE_CHUNK;
            for (size_t i = 0; i < n; i++)
                y[i] = x[r * cols + done + i] * reciprocal;
            ht_lanes_round(y, n, 0, -128, 127, (uint8_t *)codes + r * cols + done);
        }
    }
}

float ht_bitnet_scale(const float *w, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += fabs((double)w[i]);
    return count ? (float)(sum / (double)count) : 0;
}

void ht_bitnet_encode(const float *w, size_t count, float scale, int8_t *codes) {
    float divisor = scale > 1e-5f ? scale : 1e-5f, y[HT_TILE_CHUNK];
    for (size_t done = 0, n; done < count; done += n) {
        n = count - done < HT_TILE_CHUNK ? count - done : HT_TILE_CHUNK;
        for (size_t i = 0; i < n; i++)
            y[i] = w[done + i] / divisor;
        ht_lanes_round(y, n, 0, -1, 1, (uint8_t *)codes + done);
    }
}

void ht_bitnet_pack(const int8_t *codes, size_t count, uint8_t *packed) {
    for (size_t i = 0; i < count / 4; i++)
        packed[i] = (uint8_t)((codes[4 * i] & 3) << 6 | (codes[4 * i + 1] & 3) << 4 | (codes[4 * i + 2] & 3) << 2 |
                              (codes[4 * i + 3] & 3));
}
