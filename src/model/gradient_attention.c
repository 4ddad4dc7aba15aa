/* Heads on a tape: norms of q and k, clipping, rotation, attention; and back.
 *
 *     heads_in  q|k|v of the linears -> norm, clip, rotate, scale q -> heads -> attention -> attended
 *
 * Attention keeps no probabilities but log sum exp of each row; the way back is ht_attention_backward. On the way forth
 * a key-value head is one task, in tiles of query rows, with dense products: faster here than the kernels of the run
 * time, which give a token the same bits alone.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* INFINITY, log */
#include <string.h> /* memcpy */

#include <halftone/attention.h>

#include "base/pool.h"
#include "base/status.h"
#include "model/tape.h"
#include "ops/dense.h"

enum { TILE = 128 }; /* query rows */

/* --- norms, clipping, rotation ----------------------------------------------------------------------------------- */

static size_t norm_width(const ht_tape *tape, size_t heads) {
    const ht_decoder_config *c = &tape->model->config;
    return c->architecture->qk_norm == HT_QK_NORM_WHOLE ? heads * c->head_dim : c->head_dim;
}

static void norm_heads_back(const ht_tape *tape, const float *x, size_t heads, const float *weight, float *dx) {
    size_t each = norm_width(tape, heads), all = heads * tape->model->config.head_dim;
    for (size_t at = 0; at < all; at += each)
        ht_rmsnorm_back(x + at, weight, each, (float)tape->model->config.norm_epsilon, dx + at, 0, dx + at);
}

static float clipped(float x, float limit) {
    x = x > limit ? limit : x;
    return x < -limit ? -limit : x;
}

static void place_rows(void *arg, size_t row, size_t count) {
    const ht_tape *tape = arg;
    const ht_decoder_config *c = &tape->model->config;
    size_t d = c->head_dim, q_width = c->heads * d, half = c->rotary / 2, width = tape->layer->qkv.width;
    ht_rope_fn *rope = tape->model->kernels.of[HT_OPERATION_ROPE].rope;
    for (size_t i = row; i < row + count; i++) {
        float *q = tape->heads + i * width, *k = q + q_width;
        memcpy(q, tape->heads_in + i * width, width * sizeof *q);
        if (tape->layer->q_norm) {
            ht_norm_heads(tape->model, q, c->heads, tape->layer->q_norm);
            ht_norm_heads(tape->model, k, c->kv_heads, tape->layer->k_norm);
        }
        if (c->clip_qkv > 0)
            memcpy(tape->unclipped + i * width, q, width * sizeof *q);
        for (size_t j = 0; c->clip_qkv > 0 && j < width; j++)
            q[j] = clipped(q[j], (float)c->clip_qkv);
        rope(q, c->heads, d, tape->cosine + i * half, tape->sine + i * half, half);
        rope(k, c->kv_heads, d, tape->cosine + i * half, tape->sine + i * half, half);
        for (size_t j = 0; j < q_width; j++)
            q[j] *= (float)c->attention_scale;
    }
}

/* Where clipping holds a value it does not move. */
static void clip_back(const float *before, size_t n, float limit, float *dx) {
    for (size_t j = 0; j < n; j++)
        dx[j] = before[j] > limit || before[j] < -limit ? 0 : dx[j];
}

static void place_back(void *arg, size_t row, size_t count) {
    const ht_tape *tape = arg;
    const ht_decoder_config *c = &tape->model->config;
    size_t d = c->head_dim, q_width = c->heads * d, half = c->rotary / 2, width = tape->layer->qkv.width;
    ht_rope_fn *rope = tape->model->kernels.of[HT_OPERATION_ROPE].rope;
    for (size_t i = row; i < row + count; i++) {
        const float *in = tape->heads_in + i * width;
        float *q = tape->d_heads + i * width, *k = q + q_width;
        for (size_t j = 0; j < q_width; j++)
            q[j] *= (float)c->attention_scale;
        rope(q, c->heads, d, tape->cosine + i * half, tape->back_sine + i * half, half);
        rope(k, c->kv_heads, d, tape->cosine + i * half, tape->back_sine + i * half, half);
        if (c->clip_qkv > 0)
            clip_back(tape->unclipped + i * width, width, (float)c->clip_qkv, q);
        if (tape->layer->q_norm) {
            norm_heads_back(tape, in, c->heads, tape->layer->q_norm, q);
            norm_heads_back(tape, in + q_width, c->kv_heads, tape->layer->k_norm, k);
        }
    }
}

/* --- attention --------------------------------------------------------------------------------------------------- */

/* A tile of query rows of one head: keys [begin, end), its scores [rows, end - begin]. */
typedef struct tile {
    size_t head, row, rows, begin, keys;
    float *p; /* probabilities */
} tile;

typedef struct heads {
    ht_tape *tape;
    float *scratch; /* by worker */
    size_t each;
} heads;

static const float *key_rows(const ht_tape *tape, const tile *t, int which) {
    const ht_decoder_config *c = &tape->model->config;
    size_t kv = t->head / (c->heads / c->kv_heads);
    return tape->heads + t->begin * tape->layer->qkv.width + (c->heads + (which ? c->kv_heads : 0) + kv) * c->head_dim;
}

static void probabilities(ht_tape *tape, const tile *t, size_t i) {
    const ht_kernels *kernels = &tape->model->kernels;
    size_t position = t->row + i, window = tape->layer->window;
    size_t from = window && position + 1 > window ? position + 1 - window : 0, count = position + 1 - from;
    float *p = t->p + i * t->keys, *score = p + (from - t->begin), max;
    const float *sink = tape->layer->sinks ? tape->layer->sinks + t->head : NULL;
    float cap = (float)tape->model->config.attention_cap;
    if (cap > 0)
        kernels->of[HT_OPERATION_SOFTCAP].softcap(score, count, cap);
    double sum = kernels->of[HT_OPERATION_SOFTMAX].softmax(score, count, sink ? *sink : -INFINITY, score, &max);
    if (sink) {
        float extra = *sink, ignored;
        sum += kernels->of[HT_OPERATION_SOFTMAX].softmax(&extra, 1, max, &extra, &ignored);
    }
    float scale = (float)(1 / sum);
    tape->lse[t->head * tape->rows + position] = (float)((double)max + log(sum));
    for (size_t j = 0; j < count; j++)
        score[j] *= scale;
    memset(p, 0, (from - t->begin) * sizeof *p);
    memset(score + count, 0, (t->keys - (from - t->begin) - count) * sizeof *p);
}

static ht_status score_tile(ht_tape *tape, const tile *t) {
    size_t width = tape->layer->qkv.width, d = tape->model->config.head_dim;
    memset(t->p, 0, t->rows * t->keys * sizeof *t->p);
    const ht_dense_job job = {.m = t->rows,
                              .n = t->keys,
                              .k = d,
                              .a = {tape->heads + t->row * width + t->head * d, width, 1},
                              .b = {key_rows(tape, t, 0), width, 1},
                              .c = t->p,
                              .c_stride = t->keys};
    HT_TRY(ht_dense_run(tape->ctx, &job));
    for (size_t i = 0; i < t->rows; i++)
        probabilities(tape, t, i);
    return HT_OK;
}

static ht_status mix_tile(ht_tape *tape, const tile *t) {
    size_t width = tape->layer->qkv.width, d = tape->model->config.head_dim, out = tape->model->config.heads * d;
    float *y = tape->attended + t->row * out + t->head * d;
    HT_TRY(score_tile(tape, t));
    for (size_t i = 0; i < t->rows; i++)
        memset(y + i * out, 0, d * sizeof *y);
    const ht_dense_job job = {.m = t->rows,
                              .n = d,
                              .k = t->keys,
                              .a = {t->p, t->keys, 1},
                              .b = {key_rows(tape, t, 1), 1, width},
                              .c = y,
                              .c_stride = out};
    return ht_dense_run(tape->ctx, &job);
}

static ht_status attend_group(void *arg, size_t kv, size_t worker) {
    const heads *h = arg;
    ht_tape *tape = h->tape;
    const ht_decoder_config *c = &tape->model->config;
    size_t group = c->heads / c->kv_heads, window = tape->layer->window;
    for (size_t head = kv * group; head < (kv + 1) * group; head++)
        for (size_t row = 0; row < tape->rows; row += TILE) {
            tile t = {.head = head, .row = row, .rows = tape->rows - row < TILE ? tape->rows - row : TILE};
            t.begin = window && row + 1 > window ? row + 1 - window : 0;
            t.keys = row + t.rows - t.begin;
            t.p = h->scratch + worker * h->each;
            HT_TRY(mix_tile(tape, &t));
        }
    return HT_OK;
}

ht_status ht_tape_attend(ht_tape *tape) {
    size_t rows = tape->rows < TILE ? tape->rows : TILE, stride;
    heads h = {.tape = tape};
    char *scratch;
    HT_TRY(ht_for_rows(tape->ctx, tape->rows, place_rows, tape));
    HT_TRY(ht_workspace_threads(&tape->model->workspace, rows * tape->rows * sizeof(float), &scratch, &stride));
    h.scratch = (float *)(void *)scratch;
    h.each = stride / sizeof(float);
    return ht_parallel_for(tape->ctx, tape->model->config.kv_heads, attend_group, &h);
}

ht_status ht_tape_attend_back(ht_tape *tape) {
    const ht_decoder_config *c = &tape->model->config;
    size_t d = c->head_dim, width = tape->layer->qkv.width, k = c->heads * d, v = k + c->kv_heads * d;
    const ht_attention_args args = {.batch = 1,
                                    .heads = c->heads,
                                    .kv_heads = c->kv_heads,
                                    .q_rows = tape->rows,
                                    .kv_rows = tape->rows,
                                    .head_dim = d,
                                    .dtype = HT_F32,
                                    .q = {tape->heads, 0, width, d},
                                    .k = {tape->heads + k, 0, width, d},
                                    .v = {tape->heads + v, 0, width, d},
                                    .out = {tape->attended, 0, c->heads * d, d},
                                    .scale = 1, /* q is scaled */
                                    .causal = 1,
                                    .window = tape->layer->window,
                                    .softcap = c->attention_cap > 0 ? c->attention_cap : 0,
                                    .sinks = tape->layer->sinks,
                                    .lse = tape->lse};
    const ht_attention_gradients to = {.d_out = {tape->d_attended, 0, c->heads * d, d},
                                       .dq = {tape->d_heads, 0, width, d},
                                       .dk = {tape->d_heads + k, 0, width, d},
                                       .dv = {tape->d_heads + v, 0, width, d}};
    HT_TRY(ht_attention_backward(tape->ctx, &args, &to, NULL));
    return ht_for_rows(tape->ctx, tape->rows, place_back, tape);
}
