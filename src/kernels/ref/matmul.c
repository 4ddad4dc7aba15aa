/* y = x W^T for every storage format: decode a strip of weight rows to f32, then dot them with all rows of x.
 *
 *            k              A strip is decoded once for all m rows. It stays in the cache of its
 *   n0 +-----------+         core (48 rows of 4096 columns: 768 KB), so for m = 1 the detour costs
 *      | codes     | -> f32  a store and a load, and for a prefill decoding vanishes beside the
 *   n1 +-----------+         products. Sums: kernels.h, so a row of x gives the same bits alone or
 *                            among a thousand.
 *
 * Refuses nothing: ops/ has checked shapes. Source: cpu-kernels specification, section 5.9 (kernel protocol).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/matmul.h"

enum { STRIP_ROWS = 48, STRIP_VALUES = 48 * 4096, SMALL_M = 8, SMALL_VALUES = 16384, TILE = 12 };

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
