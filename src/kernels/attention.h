/* Attention of one query head over a key-value cache: contract. */
#ifndef HT_KERNELS_ATTENTION_H
#define HT_KERNELS_ATTENTION_H

#include <stddef.h>

#include "kernels/dot.h"
#include "kernels/rows.h"

/* Query row i stands at position first + i and sees the keys (position - window, position], window 0: all up to itself.
 *   y_i = sum over j of softmax(softcap(q_i . k_j))_j v_j
 * q comes scaled. With a sink the softmax has one more logit, whose probability goes nowhere. */
typedef struct ht_attention {
    const float *q; /* rows q_stride apart, head_dim each */
    size_t q_stride;
    const float *k, *v; /* [positions, head_dim] of this key-value head */
    size_t head_dim, first, count, window;
    float softcap;     /* 0: none */
    const float *sink; /* this head's extra logit, or NULL */
    float *y;
    size_t y_stride;
    ht_dot_fn *dot;
    ht_mix_fn *mix;
    ht_softmax_fn *softmax;
    ht_softcap_fn *cap;
} ht_attention;

/* Rows that one call is best given, and the scratch of a call when the last position is below `length`. */
enum { HT_ATTENTION_ROWS = 16 };
size_t ht_attention_scratch(size_t length);

typedef void ht_attention_fn(const ht_attention *problem, void *scratch);
ht_attention_fn ht_attention_f32_ref;

#endif
