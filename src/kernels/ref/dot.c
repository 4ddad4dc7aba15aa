/* dot and mix for any machine: the body at 16 bytes a register, which is SSE2 on x86-64 and NEON on AArch64 (the
 * compiler lowers it elsewhere). Defines the bits of these operations.
 * SPDX-License-Identifier: BSD-3-Clause */
#define HT_VECTOR_BYTES 16
#define HT_DOT_ROWS 2
#define HT_MIX_ROWS 2
#include "kernels/dot.h"

#include "kernels/body/dot.h"

void ht_dot_f32_ref(const float *x, size_t m, size_t x_stride, const float *w, size_t n, size_t w_stride, size_t k,
                    float *y, size_t y_stride) {
    dot_body(x, m, x_stride, w, n, w_stride, k, y, y_stride);
}

void ht_mix_f32_ref(const float *p, size_t m, size_t p_stride, const float *v, size_t v_stride, size_t begin,
                    size_t end, size_t d, float *y, size_t y_stride) {
    mix_body(p, m, p_stride, v, v_stride, begin, end, d, y, y_stride);
}
