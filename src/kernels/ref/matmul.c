/* y = x W^T for every storage format: decode a strip of weight rows to f32, then dot them with all rows of x.
 *
 *        k                    A strip is decoded once for all m rows. It stays in the cache of its core (48 rows of
 * 4096 n0 +-----------+          columns: 768 KB), so for m = 1 the detour costs a store and a load, and for a prefill
 * the | codes     | -> f32   decoding vanishes beside the products. Sums: kernels.h, so a row of x gives the same bits
 *   n1 +-----------+          alone or among a thousand, whatever the format's own decoder does.
 *
 * Refuses nothing: ops/ has checked shapes. Source: cpu-kernels specification, section 5.9 (kernel protocol).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/matmul.h"

#include <stdint.h>
#include <string.h> /* memcpy */

enum { STRIP_ROWS = 48, STRIP_VALUES = 48 * 4096, SMALL_M = 8, SMALL_VALUES = 16384, TILE = 12, SEGMENT = 64 };

static size_t round_up(size_t value, size_t step) {
    return (value + step - 1) / step * step;
}

size_t ht_decode_step(const ht_weight *weight) {
    return weight->format.block_rows ? weight->format.block_rows : 1;
}

size_t ht_matmul_step(const ht_weight *weight, size_t m) {
    size_t values = m < SMALL_M ? SMALL_VALUES : STRIP_VALUES;
    size_t rows = values / (weight->cols ? weight->cols : 1) / TILE * TILE;
    if (rows > STRIP_ROWS)
        rows = STRIP_ROWS;
    if (rows < TILE)
        rows = TILE;
    return round_up(rows, ht_decode_step(weight));
}

size_t ht_matmul_scratch(const ht_weight *weight, size_t m) {
    return ht_matmul_step(weight, m) * weight->cols * sizeof(float);
}

void ht_matmul_f32_ref(const ht_matmul *product, size_t n0, size_t n1, void *scratch) {
    const ht_weight *weight = product->weight;
    float *strip = scratch;
    product->decode(weight, product->index, n0, n1 - n0, strip);
    product->dot(product->x, product->m, product->x_stride, strip, n1 - n0, weight->cols, weight->cols, product->y + n0,
                 product->y_stride);
    for (size_t i = 0; product->bias && i < product->m; i++)
        for (size_t n = n0; n < n1; n++)
            product->y[i * product->y_stride + n] += product->bias[n];
}

/* A bf16 is the upper half of an f32. Written as words, which vectorizes. */
typedef uint32_t __attribute__((may_alias)) float_bits;

static void widen_bf16(const uint16_t *restrict in, float_bits *restrict out, size_t count) {
    for (size_t i = 0; i < count; i++)
        out[i] = (uint32_t)in[i] << 16;
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
