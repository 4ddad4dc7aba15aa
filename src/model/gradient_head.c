/* From the model's prediction back to the rows behind its last block.
 *
 *     x -> final norm -> head -> logits -> p,   token drawn from p
 *     gradient of -log p(token):  d logits = p - [token],   d normed = d logits W,   then back through the norm
 *
 * The expectation of the gradient's square over the drawn token is the Fisher information, the second derivative of
 * KL(this model || another) at this model. Vocabulary and rows are taken in slices.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* isfinite */
#include <string.h> /* memset */

#include "base/memory.h"
#include "base/pool.h"
#include "base/random.h"
#include "base/status.h"
#include "model/tape.h"
#include "ops/dense.h"
#include "ops/linear_inside.h"

enum { ROWS = 64, WORDS = 1024, STREAM = 0x46697368 };

typedef struct head {
    ht_model *model;
    float *normed, *logits, *chance; /* [ROWS, ...] */
    float *weight;                   /* [WORDS, hidden] */
    uint64_t seed, first;
    unsigned char broken[ROWS];
} head;

/* chance becomes the gradient of the logits. */
static void draw_rows(void *arg, size_t row, size_t count) {
    head *h = arg;
    size_t vocabulary = h->model->config.vocabulary;
    float cap = (float)h->model->config.final_cap;
    for (size_t i = row; i < row + count; i++) {
        const float *logits = h->logits + i * vocabulary;
        float *p = h->chance + i * vocabulary, max;
        double sum = h->model->kernels.of[HT_OPERATION_SOFTMAX].softmax(logits, vocabulary, -INFINITY, p, &max);
        double left = sum * (double)ht_random_uniform(h->seed, STREAM, h->first + i);
        size_t token = 0;
        while (token + 1 < vocabulary && left >= (double)p[token])
            left -= (double)p[token++];
        for (size_t v = 0; v < vocabulary; v++) {
            float slope = cap > 0 ? 1 - logits[v] / cap * (logits[v] / cap) : 1;
            p[v] = ((float)((double)p[v] / sum) - (v == token ? 1 : 0)) * slope;
        }
        h->broken[i] = !isfinite(max) || !isfinite(sum);
    }
}

static ht_status back_through_head(head *h, size_t rows, float *out) {
    const ht_linear *linear = h->model->head;
    size_t hidden = h->model->config.hidden, vocabulary = h->model->config.vocabulary;
    memset(out, 0, rows * hidden * sizeof *out);
    for (size_t word = 0; word < vocabulary; word += WORDS) {
        size_t words = vocabulary - word < WORDS ? vocabulary - word : WORDS;
        linear->decode(&linear->weight, 0, word, words, h->weight);
        const ht_dense_job job = {.m = rows,
                                  .n = hidden,
                                  .k = words,
                                  .a = {h->chance + word, vocabulary, 1},
                                  .b = {h->weight, 1, hidden},
                                  .c = out,
                                  .c_stride = hidden};
        HT_TRY(ht_dense_run(h->model->ctx, &job));
    }
    return HT_OK;
}

static ht_status slice(head *h, const float *x, size_t rows, float *gradient) {
    const ht_decoder_config *c = &h->model->config;
    float epsilon = (float)c->norm_epsilon;
    for (size_t i = 0; i < rows; i++)
        h->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(x + i * c->hidden, h->model->final_norm, c->hidden, epsilon,
                                                           h->normed + i * c->hidden);
    HT_TRY(ht_decoder_logits(h->model, h->normed, rows, h->logits));
    HT_TRY(ht_for_rows(h->model->ctx, rows, draw_rows, h));
    for (size_t i = 0; i < rows; i++)
        if (h->broken[i])
            return ht_fail(HT_ERR_NUMERIC, "gradients: logits of the model are not finite");
    HT_TRY(back_through_head(h, rows, h->normed));
    for (size_t i = 0; i < rows; i++)
        ht_rmsnorm_back(x + i * c->hidden, h->model->final_norm, c->hidden, epsilon, h->normed + i * c->hidden, 0,
                        gradient + i * c->hidden);
    return HT_OK;
}

ht_status ht_head_gradient(ht_model *model, const float *x, size_t rows, uint64_t seed, uint64_t first,
                           float *gradient) {
    size_t hidden = model->config.hidden, vocabulary = model->config.vocabulary;
    head h = {.model = model, .seed = seed, .first = first};
    HT_TRY(ht_allocate_raw(model->ctx, ROWS * (hidden + 2 * vocabulary) + WORDS * hidden, sizeof *h.normed,
                           "gradients of logits", &h.normed));
    h.logits = h.normed + ROWS * hidden;
    h.chance = h.logits + ROWS * vocabulary;
    h.weight = h.chance + ROWS * vocabulary;
    ht_status status = HT_OK;
    for (size_t row = 0; row < rows && status == HT_OK; row += ROWS, h.first += ROWS)
        status = slice(&h, x + row * hidden, rows - row < ROWS ? rows - row : ROWS, gradient + row * hidden);
    ht_release(model->ctx, h.normed);
    return status;
}
