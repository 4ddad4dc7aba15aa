/* bench model: tokens per second of a model, reading a prompt and generating.
 *
 * Generation reads every weight once per token, so its yardstick is a copy: bytes of weights per second beside bytes
 * read and written by copying. A prompt is products, so its yardstick is a plain f32 product of 256 rows.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

enum { PROMPT = 256, TOKENS = 32, COPY_BYTES = 32 << 20, SIDE = 512 };

typedef struct subject {
    ht_context *ctx;
    ht_model *model;
    ht_sequence *sequence;
    int32_t prompt[PROMPT];
    float *logits;
    char *from, *to;
    float *w, *x, *y;
    ht_linear *plain;
} subject;

static ht_status prefill(void *user) {
    subject *s = user;
    ht_sequence_reset(s->sequence);
    return ht_model_forward(s->model, s->sequence, s->prompt, PROMPT, s->logits, 1);
}

static ht_status decode(void *user) {
    subject *s = user;
    ht_sequence_reset(s->sequence);
    ht_status status = HT_OK;
    for (int i = 0; i < TOKENS && status == HT_OK; i++)
        status = ht_model_forward(s->model, s->sequence, &s->prompt[i], 1, s->logits, 1);
    return status;
}

static ht_status copy(void *user) {
    subject *s = user;
    memcpy(s->to, s->from, COPY_BYTES);
    return HT_OK;
}

static ht_status matmul(void *user) {
    subject *s = user;
    ht_tensor x = ht_tensor_view_2d(s->x, HT_F32, PROMPT, SIDE), y = ht_tensor_view_2d(s->y, HT_F32, PROMPT, SIDE);
    return ht_linear_forward(s->ctx, s->plain, &x, &y);
}

static void release(subject *s) {
    ht_linear_destroy(s->plain);
    ht_sequence_destroy(s->sequence);
    ht_model_close(s->model);
    free(s->logits);
    free(s->from);
    free(s->to);
    free(s->w);
    free(s->x);
    free(s->y);
}

static ht_status prepare(subject *s, const char *path) {
    ht_status status = ht_model_open(s->ctx, path, &s->model);
    if (status != HT_OK)
        return status;
    size_t vocabulary = ht_model_describe(s->model).vocabulary;
    s->logits = malloc(vocabulary * sizeof *s->logits);
    s->from = malloc(COPY_BYTES);
    s->to = malloc(COPY_BYTES);
    s->w = malloc(sizeof *s->w * SIDE * SIDE);
    s->x = malloc(sizeof *s->x * PROMPT * SIDE);
    s->y = malloc(sizeof *s->y * PROMPT * SIDE);
    if (!s->logits || !s->from || !s->to || !s->w || !s->x || !s->y)
        return HT_ERR_MEMORY;
    memset(s->from, 1, COPY_BYTES);
    bench_fill(s->w, (size_t)SIDE * SIDE, 1);
    bench_fill(s->x, (size_t)PROMPT * SIDE, 2);
    for (size_t i = 0; i < PROMPT; i++)
        s->prompt[i] = (int32_t)(i * 37 % vocabulary);
    ht_weight plain = {.batch = 1, .rows = SIDE, .cols = SIDE, .plane = {s->w}};
    status = ht_format_parse("f32", &plain.format);
    if (status == HT_OK)
        status = ht_linear_from_weight(s->ctx, &plain, NULL, &s->plain);
    if (status == HT_OK)
        status = ht_sequence_create(s->model, PROMPT, &s->sequence);
    return status;
}

static void report(const bench_request *request, const subject *s, int generating, bench_times times) {
    ht_model_info info = ht_model_describe(s->model);
    double tokens = generating ? TOKENS : PROMPT, flops = 2 * (double)info.parameters * tokens;
    bench_row row = {.op = generating ? "generate one token" : "read a prompt",
                     .kernel = "",
                     .m = generating ? 1 : PROMPT,
                     .seconds = times.thing / (generating ? tokens : 1),
                     .gmac_s = 0.5e-9 * flops / times.thing,
                     .gflop_s = 1e-9 * flops / times.thing,
                     .gb_s = generating ? 1e-9 * (double)info.weight_bytes * tokens / times.thing : 0,
                     .probe = generating ? "copy" : "f32 matmul"};
    row.probe_rate = generating ? 2e-9 * COPY_BYTES / times.probe : 2e-9 * PROMPT * SIDE * SIDE / times.probe;
    row.fraction = (generating ? row.gb_s : row.gflop_s) / row.probe_rate;
    request->sink(request->user, &row);
}

ht_status bench_model(const bench_request *request) {
    subject s = {.ctx = request->ctx};
    bench_times times;
    ht_status status = prepare(&s, request->model);
    if (status == HT_OK)
        status = bench_alternate(prefill, matmul, &s, request->rounds, &times);
    if (status == HT_OK)
        report(request, &s, 0, times);
    if (status == HT_OK)
        status = bench_alternate(decode, copy, &s, request->rounds, &times);
    if (status == HT_OK)
        report(request, &s, 1, times);
    release(&s);
    return status;
}
