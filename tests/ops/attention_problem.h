/* One attention problem with all its memory, for the tests of ht_attention. */
#ifndef HT_TESTS_ATTENTION_PROBLEM_H
#define HT_TESTS_ATTENTION_PROBLEM_H

#include <stdlib.h>

#include <halftone/attention.h>

#include "base/random.h"

/* The stream of the next random array. */
static uint64_t stream;

static inline float *random_values(size_t count) {
    float *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = ht_random_normal(5, stream, i);
    stream++;
    return x;
}

/* One problem with all its memory. Inputs are [b, s, h, d]. */
struct problem {
    ht_attention_args args;
    float *q, *k, *v, *out, *lse, *sinks, *additive;
    uint8_t *allowed;
    size_t out_count, lse_count;
};

static inline ht_attention_operand bshd(float *data, size_t rows, size_t heads, size_t dim) {
    return (ht_attention_operand){.data = data, .batch = rows * heads * dim, .row = heads * dim, .head = dim};
}

static inline struct problem problem_new(size_t batch, size_t heads, size_t kv_heads, size_t q_rows, size_t kv_rows,
                                         size_t d, size_t dv) {
    struct problem p = {.q = random_values(batch * q_rows * heads * d),
                        .k = random_values(batch * kv_rows * kv_heads * d),
                        .v = random_values(batch * kv_rows * kv_heads * dv),
                        .sinks = random_values(heads),
                        .additive = random_values(batch * heads * q_rows * kv_rows),
                        .allowed = malloc(batch * heads * q_rows * kv_rows + 1),
                        .out_count = batch * q_rows * heads * dv,
                        .lse_count = batch * heads * q_rows};
    for (size_t i = 0; i < batch * heads * q_rows * kv_rows; i++)
        p.allowed[i] = ht_random_u32(7, stream, i) % 3 != 0;
    p.out = malloc((p.out_count + 1) * sizeof *p.out);
    p.lse = malloc((p.lse_count + 1) * sizeof *p.lse);
    p.args = (ht_attention_args){.batch = batch,
                                 .heads = heads,
                                 .kv_heads = kv_heads,
                                 .q_rows = q_rows,
                                 .kv_rows = kv_rows,
                                 .head_dim = d,
                                 .value_dim = dv,
                                 .dtype = HT_F32,
                                 .q = bshd(p.q, q_rows, heads, d),
                                 .k = bshd(p.k, kv_rows, kv_heads, d),
                                 .v = bshd(p.v, kv_rows, kv_heads, dv),
                                 .out = bshd(p.out, q_rows, heads, dv),
                                 .lse = p.lse};
    return p;
}

static inline void problem_free(struct problem *p) {
    free(p->q), free(p->k), free(p->v), free(p->out), free(p->lse), free(p->sinks), free(p->additive);
    free(p->allowed);
}

static inline void add_mask(struct problem *p, ht_attention_mask_kind kind) {
    size_t rows = p->args.q_rows, keys = p->args.kv_rows;
    p->args.mask = (ht_attention_mask){kind, kind == HT_MASK_BOOL ? (const void *)p->allowed : p->additive,
                                       p->args.heads * rows * keys, rows * keys, keys};
}

#endif
