/* Attention of some query rows of one head over keys and values: contract. */
#ifndef HT_KERNELS_ATTENTION_H
#define HT_KERNELS_ATTENTION_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/tensor.h>

#include "kernels/dot.h"
#include "kernels/rows.h"

/* What a row's softmax over some of its keys comes to: merged with those over the others (ops/attention_cpu.c). */
typedef struct ht_attention_part {
    float max;  /* largest score, the sink among them */
    double sum; /* of exp(score - max), the sink's included; 0: no score and no sink above -INFINITY */
} ht_attention_part;

/* Query row i stands at position p = first + i / heads and sees the keys j < keys with
 *   causal: j <= p;   window w > 0: p - j < w, and j - p < w when not causal.
 *   y_i = sum over j of softmax(softcap(q_i . k_j) + bias_ij)_j v_j
 * q comes scaled. With a sink the softmax has one more logit, whose probability goes nowhere. A row that sees nothing,
 * or only scores of -INFINITY, is zero and its lse -INFINITY. */
typedef struct ht_attention_rows {
    const float *q; /* rows q_stride apart, head_dim each */
    size_t q_stride;
    const float *k, *v; /* [keys, head_dim], [keys, value_dim] of this key-value head */
    size_t k_stride, v_stride, keys;
    const int32_t *pages; /* NULL: none. Else key j is row j % page_rows of page pages[j / page_rows], pages are */
    size_t page_rows, k_page, v_page; /* k_page and v_page floats apart, k and v the first of the pool */
    size_t head_dim, value_dim;
    ptrdiff_t first;
    size_t heads; /* rows at the same position: heads that share keys; 0: 1 */
    size_t count;
    int causal;
    size_t window;
    float softcap;               /* 0: none */
    size_t part_begin, part_end; /* of all this only the keys in [part_begin, part_end) are looked at; 0, 0: all */
    const float *bias; /* row i at bias + i * bias_stride, from key part_begin on; -INFINITY hides a key; NULL: none */
    size_t bias_stride;
    const float *sink; /* [heads] extra logits, that of row i at i % heads; NULL: none */
    ht_dtype rounded;  /* what exp(score - largest) becomes before it meets the values: bf16, or e4m3 times
                        * HT_ATTENTION_E4M3; HT_DTYPE_NONE: it stays f32 */
    float *y;
    size_t y_stride;
    float *lse;              /* [count], log sum exp of the scores and the sink; NULL: not wanted */
    ht_attention_part *part; /* [count]; NULL: not wanted */
    ht_dot_fn *dot;
    ht_mix_fn *mix;
    ht_softmax_fn *softmax;
    ht_softcap_fn *cap;
} ht_attention_rows;

/* Rows that one call is best given, and the scratch of a call over `keys` keys. */
enum { HT_ATTENTION_ROWS = 16, HT_ATTENTION_E4M3 = 256 };
size_t ht_attention_scratch(size_t keys);

/* Numbers of 0 to 1 as the type of the products holds them: ht_attention_rows' `rounded`. */
void ht_attention_round_probabilities(ht_dtype dtype, float *p, size_t count);

/* First key that row i sees, and one past the last; equal when it sees none. */
size_t ht_attention_begin(const ht_attention_rows *rows, size_t i);
size_t ht_attention_end(const ht_attention_rows *rows, size_t i);

typedef void ht_attention_fn(const ht_attention_rows *rows, void *scratch);
ht_attention_fn ht_attention_f32_ref;

#endif
