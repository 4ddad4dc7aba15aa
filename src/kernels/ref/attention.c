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

#include <math.h>   /* INFINITY, log */
#include <string.h> /* memset */

#include "format/bits.h"
#include "format/lanes.h"

size_t ht_attention_scratch(size_t keys) {
    return HT_ATTENTION_ROWS * keys * sizeof(float);
}

static size_t heads_of(const ht_attention_rows *a) {
    return a->heads ? a->heads : 1;
}

/* One past row i's position, at least 0. */
static size_t row_reach(const ht_attention_rows *a, size_t i) {
    ptrdiff_t reach = a->first + (ptrdiff_t)(i / heads_of(a)) + 1;
    return reach > 0 ? (size_t)reach : 0;
}

/* Key j, or the end of the part that it lies beyond. */
static size_t in_part(const ht_attention_rows *a, size_t j) {
    if (!a->part_end)
        return j;
    j = j < a->part_begin ? a->part_begin : j;
    return j > a->part_end ? a->part_end : j;
}

size_t ht_attention_end(const ht_attention_rows *a, size_t i) {
    size_t end = row_reach(a, i);
    if (!a->causal) {
        ptrdiff_t right = a->first + (ptrdiff_t)(i / heads_of(a)) + (ptrdiff_t)a->window;
        end = !a->window ? a->keys : right > 0 ? (size_t)right : 0;
    }
    return in_part(a, end < a->keys ? end : a->keys);
}

size_t ht_attention_begin(const ht_attention_rows *a, size_t i) {
    size_t reach = row_reach(a, i), begin = a->window && reach > a->window ? reach - a->window : 0;
    size_t end = ht_attention_end(a, i);
    begin = in_part(a, begin);
    return begin < end ? begin : end;
}

/* Every score was -INFINITY (then zero is right), or one was NaN (then the row stays NaN). */
static int all_hidden(const float *score, size_t count) {
    for (size_t j = 0; j < count; j++)
        if (score[j] != -INFINITY)
            return 0;
    return 1;
}

void ht_attention_round_probabilities(ht_dtype dtype, float *p, size_t count) {
    uint8_t codes[64];
    for (size_t at = 0, n; at < count && ht_dtype_bits(dtype) <= 8; at += n) {
        n = count - at < sizeof codes ? count - at : sizeof codes;
        for (size_t j = at; j < at + n; j++)
            p[j] *= HT_ATTENTION_E4M3;
        ht_lanes_encode(dtype, p + at, n, codes);
        ht_lanes_decode(dtype, codes, n, p + at);
        for (size_t j = at; j < at + n; j++)
            p[j] *= 1.0f / HT_ATTENTION_E4M3;
    }
    for (size_t j = 0; j < count && ht_dtype_bits(dtype) > 8; j++)
        p[j] = ht_round_to(dtype, p[j]);
}

/* score[0 .. count) of row i, which begin at key `begin`, become probabilities. */
static void row_softmax(const ht_attention_rows *a, size_t i, float *score, size_t begin, size_t count) {
    const float *sink = a->sink ? a->sink + i % heads_of(a) : NULL;
    float max = sink ? *sink : -INFINITY;
    double sum = 0;
    if (a->softcap > 0)
        a->cap(score, count, a->softcap);
    for (size_t j = 0; a->bias && j < count; j++)
        score[j] += a->bias[i * a->bias_stride + (begin - a->part_begin) + j];
    if (all_hidden(score, count)) {
        memset(score, 0, count * sizeof *score);
        if (a->lse)
            a->lse[i] = max;
        if (a->part)
            a->part[i] = (ht_attention_part){max, max > -INFINITY ? 1 : 0};
        return;
    }
    sum = a->softmax(score, count, max, score, &max);
    if (sink) {
        float extra = *sink, ignored;
        sum += a->softmax(&extra, 1, max, &extra, &ignored);
    }
    if (a->rounded != HT_DTYPE_NONE)
        ht_attention_round_probabilities(a->rounded, score, count);
    float scale = (float)(1.0 / sum);
    for (size_t j = 0; j < count; j++)
        score[j] *= scale;
    if (a->lse)
        a->lse[i] = (float)((double)max + log(sum));
    if (a->part)
        a->part[i] = (ht_attention_part){max, sum};
}

/* Keys from j on that lie behind each other, at most up to end; *data becomes the row of the first. */
static size_t run_at(const ht_attention_rows *a, const float **data, size_t stride, size_t page, size_t j, size_t end) {
    size_t row = a->pages ? j % a->page_rows : j;
    *data += a->pages ? (size_t)a->pages[j / a->page_rows] * page + row * stride : j * stride;
    return a->pages && a->page_rows - row < end - j ? a->page_rows - row : end - j;
}

static void scores(const ht_attention_rows *a, size_t base, size_t end, float *score) {
    for (size_t j = base, n; j < end; j += n) {
        const float *k = a->k;
        n = run_at(a, &k, a->k_stride, a->k_page, j, end);
        a->dot(a->q, a->count, a->q_stride, k, n, a->k_stride, a->head_dim, score + (j - base), end - base);
    }
}

/* The values of keys [from, to) into `rows` rows of y; p: the first row's probabilities, from key `base` on. */
static void mix_rows(const ht_attention_rows *a, const float *p, size_t stride, size_t base, size_t rows, size_t from,
                     size_t to, float *y) {
    for (size_t j = from, n; j < to; j += n) {
        const float *v = a->v;
        n = run_at(a, &v, a->v_stride, a->v_page, j, to);
        a->mix(p + (j - base), rows, stride, v, a->v_stride, 0, n, a->value_dim, y, a->y_stride);
    }
}

static void mix_row(const ht_attention_rows *a, const float *score, size_t base, size_t i, size_t from, size_t to) {
    mix_rows(a, score, 0, base, 1, from, to, a->y + i * a->y_stride);
}

void ht_attention_f32_ref(const ht_attention_rows *a, void *scratch) {
    float *score = scratch;
    size_t base = ht_attention_begin(a, 0), end = ht_attention_end(a, a->count - 1), width = end - base;
    size_t block_begin = ht_attention_begin(a, a->count - 1), block_end = ht_attention_end(a, 0);
    if (block_begin > block_end)
        block_begin = block_end;
    scores(a, base, end, score);
    for (size_t i = 0; i < a->count; i++) {
        size_t from = ht_attention_begin(a, i), to = ht_attention_end(a, i);
        row_softmax(a, i, score + i * width + (from - base), from, to - from);
        memset(a->y + i * a->y_stride, 0, a->value_dim * sizeof(float));
        mix_row(a, score + i * width, base, i, from, to < block_begin ? to : block_begin);
    }
    mix_rows(a, score, width, base, a->count, block_begin, block_end, a->y);
    for (size_t i = 0; i < a->count; i++) {
        size_t from = ht_attention_begin(a, i);
        mix_row(a, score + i * width, base, i, from < block_end ? block_end : from, ht_attention_end(a, i));
    }
}
