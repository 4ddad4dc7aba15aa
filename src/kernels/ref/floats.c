/* Products in bf16 for any machine, and how all variants divide their scratch. Refuses nothing: ops/ has checked
 * shapes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/floats.h"

#include <math.h> /* fmaf */

#include "format/bits.h"

enum { LINE = 64, PADDING = 32, MANY = 16 };

int ht_floats_takes(const ht_weight *weight) {
    return !(weight->format.family == HT_FAMILY_PLAIN && weight->format.element == HT_F32);
}

static size_t round_up(size_t value, size_t step) {
    return (value + step - 1) / step * step;
}

/* Inputs are rounded at every call, so that a call takes many outputs where the matrix has them. */
size_t ht_floats_step(const ht_weight *weight, size_t m) {
    size_t strips = m < MANY || weight->rows < 8 * HT_FLOATS_STRIP ? 1
                    : weight->rows < 1024                          ? 2
                    : weight->rows < 2048                          ? 4
                                                                   : 8;
    return round_up(strips * HT_FLOATS_STRIP, round_up(HT_FLOATS_STRIP, ht_decode_step(weight)));
}

ht_floats_memory ht_floats_memory_at(const ht_weight *weight, size_t m, void *scratch) {
    size_t step = ht_decode_step(weight), at = 0;
    char *memory = scratch;
    ht_floats_memory parts = {.stride = round_up(weight->cols, PADDING) + PADDING};
    parts.strip = round_up(HT_FLOATS_STRIP, step);
    parts.group = round_up(HT_FLOATS_GROUP, step);
    parts.x = (uint16_t *)(void *)memory;
    parts.wide_x = (float *)(void *)memory;
    at += round_up(m * parts.stride * sizeof *parts.wide_x, LINE);
    parts.w = (uint16_t *)(void *)(memory + at);
    at += round_up(parts.strip * parts.stride * sizeof *parts.w, LINE);
    parts.decoded = (float *)(void *)(memory + at);
    at += round_up(parts.group * weight->cols * sizeof *parts.decoded, LINE);
    parts.panel = (uint32_t *)(void *)(memory + at);
    parts.bytes = at + HT_FLOATS_DEPTH / 2 * HT_FLOATS_STRIP * sizeof *parts.panel;
    return parts;
}

size_t ht_floats_scratch(const ht_weight *weight, size_t m) {
    char none[1];
    return ht_floats_memory_at(weight, m, none).bytes;
}

static void round_rows(const float *from, size_t stride, size_t rows, size_t cols, const ht_floats_memory *to,
                       uint16_t *out) {
    for (size_t i = 0; i < rows; i++)
        for (size_t k = 0; k < cols; k++)
            out[i * to->stride + k] = ht_bf16_from_f32(from[i * stride + k]);
}

static float product_of(const uint16_t *x, const uint16_t *w, size_t cols) {
    float f = 0;
    for (size_t begin = 0; begin < cols; begin += HT_FLOATS_DEPTH) {
        size_t end = cols - begin < HT_FLOATS_DEPTH ? cols : begin + HT_FLOATS_DEPTH;
        float g = 0;
        for (size_t k = begin; k < end; k++)
            g = fmaf(ht_f32_from_bf16(x[k]), ht_f32_from_bf16(w[k]), g);
        f = begin ? f + g : g;
    }
    return f;
}

void ht_floats_ref(const ht_matmul *product, size_t n0, size_t n1, void *scratch) {
    const ht_weight *weight = product->weight;
    const ht_floats_memory at = ht_floats_memory_at(weight, product->m, scratch);
    round_rows(product->x, product->x_stride, product->m, weight->cols, &at, at.x);
    for (size_t n = n0, count; n < n1; n += count) {
        count = n1 - n < at.group ? n1 - n : at.group;
        product->decode(weight, product->index, n, count, at.decoded);
        round_rows(at.decoded, weight->cols, count, weight->cols, &at, at.w);
        for (size_t i = 0; i < product->m; i++)
            for (size_t j = 0; j < count; j++) {
                float f = product_of(at.x + i * at.stride, at.w + j * at.stride, weight->cols);
                product->y[i * product->y_stride + n + j] = product->bias ? f + product->bias[n + j] : f;
            }
    }
}
