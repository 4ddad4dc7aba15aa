/* Curvature of the predictions: what it says a changed weight does to the KL divergence is what it does; the same bits
 * for any number of threads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/curvature.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "model/block_gradient.h"
#include "support/check.h"

enum { LENGTH = 64, SAMPLES = 24 };

typedef struct bench {
    ht_context *ctx;
    ht_model *model;
    ht_samples samples;
    ht_curvature *curvature;
    size_t parameter; /* down of the last block */
} bench;

static int open_bench(bench *b, const char *name, size_t threads) {
    char path[64];
    ht_context_options options = {.threads = threads};
    memset(b, 0, sizeof *b);
    snprintf(path, sizeof path, "tiny/%s", name);
    if (!CHECK_OK(ht_context_create(&options, &b->ctx)) ||
        !CHECK_OK(ht_model_open(b->ctx, check_data(path), &b->model)))
        return 0;
    b->samples = (ht_samples){.count = SAMPLES, .length = LENGTH};
    b->samples.ids = malloc(SAMPLES * LENGTH * sizeof *b->samples.ids);
    for (size_t i = 0; i < SAMPLES * LENGTH; i++)
        b->samples.ids[i] = (int32_t)(ht_random_u32(3, 1, i) % b->model->config.vocabulary);
    unsigned char *wanted = malloc(ht_checkpoint_parameter_count(b->model->checkpoint));
    memset(wanted, 1, ht_checkpoint_parameter_count(b->model->checkpoint));
    int good = CHECK_OK(ht_curvature_measure(b->model, wanted, &b->samples, SAMPLES, &b->curvature));
    free(wanted);
    b->parameter = ht_block_linear_at(b->model, b->model->config.layers - 1, HT_SITE_DOWN, 0, 0).parameter;
    return good;
}

static void close_bench(bench *b) {
    ht_curvature_destroy(b->curvature);
    ht_model_close(b->model);
    ht_context_destroy(b->ctx);
    free(b->samples.ids);
}

/* Logits [LENGTH, vocabulary] of a sample; the last block is the caller's. */
static void predict(const bench *b, ht_tape *tape, const ht_dense_block *last, size_t sample, float *x, float *logits) {
    const ht_decoder_config *c = &b->model->config;
    CHECK_OK(ht_block_embed(b->model, b->samples.ids + sample * LENGTH, LENGTH, x));
    for (size_t l = 0; l + 1 < c->layers; l++) {
        ht_dense_block block;
        CHECK_OK(ht_dense_block_open(b->model, l, &block));
        CHECK_OK(ht_tape_forward(tape, &block, x, LENGTH, x));
        ht_dense_block_close(&block);
    }
    CHECK_OK(ht_tape_forward(tape, last, x, LENGTH, x));
    for (size_t i = 0; i < LENGTH; i++)
        b->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(x + i * c->hidden, b->model->final_norm, c->hidden,
                                                           (float)c->norm_epsilon, x + i * c->hidden);
    CHECK_OK(ht_decoder_logits(b->model, x, LENGTH, logits));
}

static double divergence(const float *p, const float *q, size_t n) {
    double sum_p = 0, sum_q = 0, kl = 0;
    for (size_t i = 0; i < n; i++) {
        sum_p += exp((double)p[i]);
        sum_q += exp((double)q[i]);
    }
    for (size_t i = 0; i < n; i++)
        kl += exp((double)p[i]) / sum_p * ((double)p[i] - (double)q[i] - log(sum_p / sum_q));
    return kl;
}

/* A small random error in the last down_proj: the KL that it causes against tr(G d H d^T) / 2. */
static void test_divergence(void) {
    bench b;
    if (!open_bench(&b, "llama", 2)) {
        close_bench(&b);
        return;
    }
    const ht_output_curvature *g = ht_curvature_of(b.curvature, b.parameter, 0);
    size_t vocabulary = b.model->config.vocabulary, hidden = b.model->config.hidden;
    float *x = malloc(LENGTH * hidden * sizeof *x), *logits = malloc(2 * LENGTH * vocabulary * sizeof *logits);
    ht_dense_block exact, moved;
    ht_tape *tape;
    size_t last = b.model->config.layers - 1;
    REQUIRE_OK(ht_tape_create(b.model, LENGTH, &tape));
    REQUIRE_OK(ht_dense_block_open(b.model, last, &exact));
    REQUIRE_OK(ht_dense_block_open(b.model, last, &moved));
    REQUIRE(g != NULL);
    ht_dense_linear *down = ht_dense_linear_at(&moved, HT_SITE_DOWN, 0, 0);
    size_t rows = down->rows, cols = down->cols;
    double *outputs = calloc(rows * rows, sizeof *outputs), found = 0, said = 0;
    for (size_t i = 0; i < rows * cols; i++)
        down->weight[i] += 2e-3f * ht_random_normal(5, 1, i);
    /* d H d^T is the second moment of what the error gives: y of one block less y of the other. */
    for (size_t s = 0; s < SAMPLES; s++) {
        float *y[2] = {malloc(LENGTH * hidden * sizeof **y), malloc(LENGTH * hidden * sizeof **y)};
        for (int which = 0; which < 2; which++) {
            predict(&b, tape, which ? &moved : &exact, s, x, logits + (size_t)which * LENGTH * vocabulary);
            CHECK_OK(ht_block_embed(b.model, b.samples.ids + s * LENGTH, LENGTH, y[which]));
            for (size_t l = 0; l < last; l++) {
                ht_dense_block block;
                CHECK_OK(ht_dense_block_open(b.model, l, &block));
                CHECK_OK(ht_tape_forward(tape, &block, y[which], LENGTH, y[which]));
                ht_dense_block_close(&block);
            }
            CHECK_OK(ht_tape_forward(tape, which ? &moved : &exact, y[which], LENGTH, y[which]));
        }
        for (size_t t = 0; t < LENGTH; t++) {
            found += divergence(logits + t * vocabulary, logits + (LENGTH + t) * vocabulary, vocabulary);
            for (size_t i = 0; i < rows; i++)
                for (size_t j = 0; j < rows; j++)
                    outputs[i * rows + j] += (double)(y[1][t * rows + i] - y[0][t * rows + i]) *
                                             (double)(y[1][t * rows + j] - y[0][t * rows + j]);
        }
        free(y[0]), free(y[1]);
    }
    CHECK_INT(g->band[0]->tokens, SAMPLES * LENGTH);
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < rows; j++)
            said += outputs[i * rows + j] * (double)g->band[0]->second[i < j ? i * rows + j : j * rows + i] /
                    (double)g->band[0]->tokens;
    printf("KL %.3g, from the curvature %.3g\n", found, said / 2);
    CHECK(found > 0 && said / 2 > 0.7 * found && said / 2 < 1.4 * found);
    free(outputs), free(x), free(logits);
    ht_tape_destroy(tape);
    ht_dense_block_close(&exact);
    ht_dense_block_close(&moved);
    close_bench(&b);
}

static void test_threads(void) {
    static const char *const names[] = {"llama", "qwen3-moe"};
    for (size_t i = 0; i < 2; i++) {
        bench one, three;
        if (open_bench(&one, names[i], 1) && open_bench(&three, names[i], 3)) {
            const ht_output_curvature *a = ht_curvature_of(one.curvature, one.parameter, 0);
            const ht_output_curvature *b = ht_curvature_of(three.curvature, three.parameter, 0);
            CHECK(a && b);
            for (size_t band = 0; a && b && band < a->bands; band++)
                CHECK_BYTES(a->band[band]->second, b->band[band]->second,
                            a->band[band]->cols * a->band[band]->cols * sizeof(float));
            CHECK(ht_curvature_of(one.curvature, (size_t)-1, 0) == NULL);
            close_bench(&three);
        }
        close_bench(&one);
    }
}

int main(void) {
    RUN(test_divergence);
    RUN(test_threads);
    return check_finish();
}
