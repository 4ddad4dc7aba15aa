/* Inputs to int8, for any machine: the body as it is. Same operations in the same order, same bits.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/product.h"

#include "kernels/body/activations.h"

void ht_quantize_rows_ref(const float *x, size_t x_stride, size_t cols, size_t begin, size_t end,
                          const ht_int8_rows *out) {
    quantize_rows_body(x, x_stride, cols, begin, end, out);
}
