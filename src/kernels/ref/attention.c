/* Attention in two passes over a tile of query rows: all scores of the tile, softmax of each row, then the mix of the
 * values. Each row has its own range of keys, so a row's bits do not depend on the rows beside it:
 *
 *              keys ->
 *   row 0   . . [b0 x x x x x e0)              window and causality shift by one from row to row;
 *   row 1   . . .   [b1 x x x x x e1)          the range that all rows of the tile share is mixed as a block,
 *   row 2   . . .     [b2 x x x x x e2)        the ragged ends row by row, in the same increasing order
 *
 * count is at most HT_ATTENTION_ROWS. Source: Vaswani et al. 2017; sinks: gpt-oss model card; soft cap: Gemma 2 report.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/attention.h"

#include <math.h>   /* INFINITY */
#include <string.h> /* memset */

size_t ht_attention_scratch(size_t length) {
    return HT_ATTENTION_ROWS * length * sizeof(float);
}

static size_t row_begin(const ht_attention *a, size_t row) {
    size_t end = a->first + row + 1;
    return a->window && end > a->window ? end - a->window : 0;
}

static void row_softmax(const ht_attention *a, float *score, size_t begin, size_t end, size_t tile_begin) {
    float *first = score + (begin - tile_begin), max;
    size_t count = end - begin;
    if (a->softcap > 0)
        a->cap(first, count, a->softcap);
    double sum = a->softmax(first, count, a->sink ? *a->sink : -INFINITY, first, &max);
    if (a->sink) {
        float extra = *a->sink, ignored;
        sum += a->softmax(&extra, 1, max, &extra, &ignored);
    }
    float scale = (float)(1.0 / sum);
    for (size_t j = 0; j < count; j++)
        first[j] *= scale;
}

void ht_attention_f32_ref(const ht_attention *a, void *scratch) {
    float *score = scratch;
    size_t begin = row_begin(a, 0), end = a->first + a->count, width = end - begin, d = a->head_dim;
    const float *v = a->v + begin * d;
    a->dot(a->q, a->count, a->q_stride, a->k + begin * d, width, d, d, score, width);
    for (size_t i = 0; i < a->count; i++) {
        row_softmax(a, score + i * width, row_begin(a, i), a->first + i + 1, begin);
        memset(a->y + i * a->y_stride, 0, d * sizeof(float));
    }
    /* from here on positions count from `begin` */
    size_t shared_begin = row_begin(a, a->count - 1) - begin, shared_end = a->first + 1 - begin;
    if (shared_begin > shared_end)
        shared_begin = shared_end;
    for (size_t i = 0; i < a->count; i++) {
        size_t from = row_begin(a, i) - begin;
        if (from < shared_begin)
            a->mix(score + i * width, 1, width, v, d, from, shared_begin, d, a->y + i * a->y_stride, a->y_stride);
    }
    a->mix(score, a->count, width, v, d, shared_begin, shared_end, d, a->y, a->y_stride);
    for (size_t i = 0; i < a->count; i++) {
        size_t from = row_begin(a, i) - begin;
        if (from < shared_end)
            from = shared_end;
        a->mix(score + i * width, 1, width, v, d, from, a->first + i + 1 - begin, d, a->y + i * a->y_stride,
               a->y_stride);
    }
}
