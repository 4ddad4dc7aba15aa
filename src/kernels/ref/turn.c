/* Transposing, for any machine.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/turn.h"

#include <stdint.h>

static void turn_words(const uint16_t *x, size_t x_stride, size_t rows, size_t cols, uint16_t *out, size_t out_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[c * out_stride + r] = x[r * x_stride + c];
}

static void turn_numbers(const uint32_t *x, size_t x_stride, size_t rows, size_t cols, uint32_t *out,
                         size_t out_stride) {
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            out[c * out_stride + r] = x[r * x_stride + c];
}

void ht_turn_ref(const void *x, size_t x_stride, size_t rows, size_t cols, size_t size, void *out, size_t out_stride) {
    if (size == 2)
        turn_words(x, x_stride, rows, cols, out, out_stride);
    else
        turn_numbers(x, x_stride, rows, cols, out, out_stride);
}
