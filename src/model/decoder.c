/* One pass of the decoder over a chunk of tokens: the description executed.
 *
 *     embed, norm
 *     per layer:   q|k|v -> norms of q and k, rotation, cache -> attention -> o -> add, norm
 *                  gate|up -> gate -> down      (or the experts, experts.c)    -> add, norm
 *     last norm is the final one: act.normed is what the head reads
 *
 * Products are lists of jobs (ops/linear.h); everything else is row loops. Each token's values depend on its own row
 * and on the cache alone, in an order fixed by its position, so a prompt gives the same bits in one pass, in chunks or
 * token by token, for any thread count. A key or value is written before any token of its chunk attends.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/decoder.h"

#include <math.h>   /* fabsf */
#include <string.h> /* memcpy */

#include "base/pool.h"
#include "base/status.h"
#include "model/rope.h"

enum { ROWS_EACH = 8 };

struct pass {
    ht_sequence *sequence;
    ht_model *model;
    const int32_t *ids;
    const ht_layer *layer;
    size_t index, m, first;
    const float *next_norm; /* of the norm that ends a block */
    const float *post_norm;
};

/* --- row loops --------------------------------------------------------------------------------------------- */

struct rows {
    ht_rows_fn *work;
    void *arg;
    size_t rows;
};

static ht_status run_rows(void *arg, size_t task, size_t worker) {
    const struct rows *loop = arg;
    size_t row = task * ROWS_EACH, left = loop->rows - row;
    (void)worker;
    loop->work(loop->arg, row, left < ROWS_EACH ? left : ROWS_EACH);
    return HT_OK;
}

ht_status ht_for_rows(ht_context *ctx, size_t rows, ht_rows_fn *work, void *arg) {
    struct rows loop = {.work = work, .arg = arg, .rows = rows};
    return ht_parallel_for(ctx, (rows + ROWS_EACH - 1) / ROWS_EACH, run_rows, &loop);
}

size_t ht_projection_jobs(const ht_projection *projection, size_t expert, const float *x, size_t m, float *y,
                          ht_linear_job *jobs) {
    size_t member = projection->members > 1 ? expert : 0;
    for (size_t p = 0; p < projection->parts; p++)
        jobs[p] = (ht_linear_job){.linear = projection->linear[member * projection->parts + p],
                                  .index = projection->batched ? expert : 0,
                                  .x = x,
                                  .m = m,
                                  .x_stride = projection->inputs,
                                  .y = y + projection->offset[p],
                                  .y_stride = projection->width};
    return projection->parts;
}

static ht_status project(ht_model *model, const ht_projection *projection, const float *x, size_t m, float *y) {
    ht_linear_job jobs[HT_MAX_PARTS];
    size_t count = ht_projection_jobs(projection, 0, x, m, y, jobs);
    return ht_linear_run(jobs, count, &model->workspace);
}

/* --- steps ------------------------------------------------------------------------------------------------- */

static ht_status embed(struct pass *pass) {
    ht_model *model = pass->model;
    const ht_weight *weight = &model->embedding->weight;
    size_t hidden = model->config.hidden, step = ht_decode_step(weight), stride;
    char *scratch;
    float scale = (float)model->config.embedding_scale;
    HT_TRY(ht_workspace_threads(&model->workspace, step * hidden * sizeof(float), &scratch, &stride));
    for (size_t i = 0; i < pass->m; i++) {
        size_t id = (size_t)pass->ids[i], row = id / step * step;
        size_t count = weight->rows - row < step ? weight->rows - row : step;
        float *block = (float *)(void *)scratch, *x = model->act.x + i * hidden;
        model->embedding_decode(weight, 0, row, count, block);
        for (size_t c = 0; c < hidden; c++)
            x[c] = block[(id - row) * hidden + c] * scale;
    }
    return HT_OK;
}

static void norm_rows(void *arg, size_t row, size_t count) {
    const struct pass *pass = arg;
    const ht_decoder_config *c = &pass->model->config;
    ht_activations *act = &pass->model->act;
    for (size_t i = row; i < row + count; i++)
        pass->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(act->x + i * c->hidden, pass->next_norm, c->hidden,
                                                              (float)c->norm_epsilon, act->normed + i * c->hidden);
}

/* x += post_norm(out); normed = next_norm(x). */
static void finish_rows(void *arg, size_t row, size_t count) {
    const struct pass *pass = arg;
    const ht_decoder_config *c = &pass->model->config;
    ht_activations *act = &pass->model->act;
    for (size_t i = row; i < row + count; i++) {
        float *x = act->x + i * c->hidden, *out = act->out + i * c->hidden;
        if (pass->post_norm)
            pass->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(out, pass->post_norm, c->hidden,
                                                                  (float)c->norm_epsilon, out);
        for (size_t k = 0; k < c->hidden; k++)
            x[k] += out[k];
    }
    norm_rows(arg, row, count);
}

static void clip(float *x, size_t n, float limit) {
    for (size_t i = 0; i < n; i++) {
        x[i] = x[i] > limit ? limit : x[i];
        x[i] = x[i] < -limit ? -limit : x[i];
    }
}

static void norm_heads(const struct pass *pass, float *x, size_t heads, const float *weight) {
    const ht_decoder_config *c = &pass->model->config;
    int whole = c->architecture->qk_norm == HT_QK_NORM_WHOLE;
    size_t each = whole ? heads * c->head_dim : c->head_dim;
    for (size_t h = 0; h < (whole ? 1 : heads); h++)
        pass->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(x + h * each, weight, each, (float)c->norm_epsilon,
                                                              x + h * each);
}

static float *cache_at(const struct pass *pass, float *cache, size_t head) {
    const ht_decoder_config *c = &pass->model->config;
    return cache + (pass->index * c->kv_heads + head) * pass->sequence->capacity * c->head_dim;
}

/* Norms, rotation and scale of q and k; k and v go to the cache. */
static void place_rows(void *arg, size_t row, size_t count) {
    const struct pass *pass = arg;
    const ht_decoder_config *c = &pass->model->config;
    const ht_sequence *s = pass->sequence;
    size_t d = c->head_dim, q_width = c->heads * d, half = c->rotary / 2, width = pass->layer->qkv.width;
    ht_rope_fn *rope = pass->model->kernels.of[HT_OPERATION_ROPE].rope;
    float scale = (float)c->attention_scale;
    for (size_t i = row; i < row + count; i++) {
        float *q = pass->model->act.qkv + i * width, *k = q + q_width, *v = k + c->kv_heads * d;
        if (pass->layer->q_norm) {
            norm_heads(pass, q, c->heads, pass->layer->q_norm);
            norm_heads(pass, k, c->kv_heads, pass->layer->k_norm);
        }
        if (c->clip_qkv > 0)
            clip(q, width, (float)c->clip_qkv);
        rope(q, c->heads, d, s->cosine + i * half, s->sine + i * half, half);
        rope(k, c->kv_heads, d, s->cosine + i * half, s->sine + i * half, half);
        for (size_t j = 0; j < q_width; j++)
            q[j] *= scale;
        for (size_t h = 0; h < c->kv_heads; h++) {
            memcpy(cache_at(pass, s->k, h) + (pass->first + i) * d, k + h * d, d * sizeof *k);
            memcpy(cache_at(pass, s->v, h) + (pass->first + i) * d, v + h * d, d * sizeof *v);
        }
    }
}

struct attention {
    const struct pass *pass;
    size_t blocks;
    char *scratch;
    size_t stride;
};

static ht_status attend_block(void *arg, size_t task, size_t worker) {
    const struct attention *a = arg;
    const struct pass *pass = a->pass;
    const ht_decoder_config *c = &pass->model->config;
    const ht_kernels *kernels = &pass->model->kernels;
    size_t head = task % c->heads, row = task / c->heads * HT_ATTENTION_ROWS, d = c->head_dim;
    size_t kv = head / (c->heads / c->kv_heads), width = pass->layer->qkv.width;
    ht_attention_rows problem = {.q = pass->model->act.qkv + row * width + head * d,
                                 .q_stride = width,
                                 .k = cache_at(pass, pass->sequence->k, kv),
                                 .v = cache_at(pass, pass->sequence->v, kv),
                                 .k_stride = d,
                                 .v_stride = d,
                                 .keys = pass->first + pass->m,
                                 .head_dim = d,
                                 .value_dim = d,
                                 .first = (ptrdiff_t)(pass->first + row),
                                 .count = pass->m - row < HT_ATTENTION_ROWS ? pass->m - row : HT_ATTENTION_ROWS,
                                 .causal = 1,
                                 .window = pass->layer->window,
                                 .softcap = (float)c->attention_cap,
                                 .sink = pass->layer->sinks ? pass->layer->sinks + head : NULL,
                                 .y = pass->model->act.attended + (row * c->heads + head) * d,
                                 .y_stride = c->heads * d,
                                 .dot = kernels->of[HT_OPERATION_DOT].dot,
                                 .mix = kernels->of[HT_OPERATION_MIX].mix,
                                 .softmax = kernels->of[HT_OPERATION_SOFTMAX].softmax,
                                 .cap = kernels->of[HT_OPERATION_SOFTCAP].softcap};
    kernels->of[HT_OPERATION_ATTENTION].attention(&problem, a->scratch + worker * a->stride);
    return HT_OK;
}

static ht_status attend(struct pass *pass) {
    ht_model *model = pass->model;
    struct attention attention = {.pass = pass, .blocks = (pass->m + HT_ATTENTION_ROWS - 1) / HT_ATTENTION_ROWS};
    HT_TRY(project(model, &pass->layer->qkv, model->act.normed, pass->m, model->act.qkv));
    HT_TRY(ht_for_rows(model->ctx, pass->m, place_rows, pass));
    HT_TRY(ht_workspace_threads(&model->workspace, ht_attention_scratch(pass->first + pass->m), &attention.scratch,
                                &attention.stride));
    HT_TRY(ht_parallel_for(model->ctx, attention.blocks * model->config.heads, attend_block, &attention));
    return project(model, &pass->layer->o, model->act.attended, pass->m, model->act.out);
}

struct gate {
    const ht_model *model;
    const ht_layer *layer;
};

static void gate_some(void *arg, size_t row, size_t count) {
    const struct gate *gate = arg;
    const ht_projection *both = &gate->layer->gate_up;
    size_t wide = both->width / 2, up = both->interleaved ? 1 : wide, step = both->interleaved ? 2 : 1;
    for (size_t i = row; i < row + count; i++) {
        const float *x = gate->model->act.gate_up + i * both->width;
        gate->model->kernels.of[HT_OPERATION_GATE].gate(&gate->model->config.gate, x, x + up, step, wide,
                                                        gate->model->act.gated + i * wide);
    }
}

ht_status ht_gate_rows(ht_model *model, const ht_layer *layer, size_t rows) {
    struct gate gate = {.model = model, .layer = layer};
    return ht_for_rows(model->ctx, rows, gate_some, &gate);
}

static ht_status mlp(struct pass *pass) {
    ht_model *model = pass->model;
    if (pass->layer->sparse)
        return ht_experts_pass(model, pass->layer, pass->index, pass->m);
    HT_TRY(project(model, &pass->layer->gate_up, model->act.normed, pass->m, model->act.gate_up));
    HT_TRY(ht_gate_rows(model, pass->layer, pass->m));
    return project(model, &pass->layer->down, model->act.gated, pass->m, model->act.out);
}

static void tap(const struct pass *pass, const char *what, const float *rows) {
    const ht_model *model = pass->model;
    if (model->tap)
        model->tap(model->tap_user, what, pass->index, rows, pass->m, model->config.hidden);
}

static ht_status run_layer(struct pass *pass) {
    ht_model *model = pass->model;
    const ht_layer *layer = pass->layer;
    tap(pass, "attention_input", model->act.normed);
    HT_TRY(attend(pass));
    tap(pass, "attention", model->act.out);
    pass->post_norm = layer->attention_post_norm;
    pass->next_norm = layer->mlp_norm;
    HT_TRY(ht_for_rows(model->ctx, pass->m, finish_rows, pass));
    tap(pass, "mlp_input", model->act.normed);
    HT_TRY(mlp(pass));
    tap(pass, "mlp", model->act.out);
    pass->post_norm = layer->mlp_post_norm;
    int last = pass->index + 1 == model->config.layers;
    pass->next_norm = last ? model->final_norm : layer[1].attention_norm;
    HT_TRY(ht_for_rows(model->ctx, pass->m, finish_rows, pass));
    tap(pass, "hidden", model->act.x);
    return HT_OK;
}

/* --- the pass ---------------------------------------------------------------------------------------------- */

static ht_status reserve(ht_model *model, size_t tokens) {
    const ht_decoder_config *c = &model->config;
    ht_activations *act = &model->act;
    if (tokens <= act->tokens)
        return HT_OK;
    int sparse = c->experts > 0;
    size_t slots = sparse ? c->experts_per_token : 1;
    size_t wide = c->intermediate > slots * c->expert_intermediate ? c->intermediate : slots * c->expert_intermediate;
    const struct {
        void *pointer; /* to a member of act */
        size_t values;
    } all[] = {
        {&act->x, c->hidden},
        {&act->normed, c->hidden},
        {&act->qkv, (c->heads + 2 * c->kv_heads) * c->head_dim},
        {&act->attended, c->heads * c->head_dim},
        {&act->out, c->hidden},
        {&act->gate_up, 2 * wide},
        {&act->gated, wide},
        {&act->router, sparse ? c->experts : 0},
        {&act->share, sparse ? slots : 0},
        {&act->gathered, sparse ? slots * c->hidden : 0},
        {&act->expert_out, sparse ? slots * c->hidden : 0},
        {&act->chosen, sparse ? slots : 0},
        {&act->slot, sparse ? slots : 0},
    };
    act->tokens = 0;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
        void **member = all[i].pointer;
        ht_release(model->ctx, *member);
        *member = NULL;
        HT_TRY(ht_allocate_raw(model->ctx, tokens, all[i].values * sizeof(float), "activations", member));
    }
    act->tokens = tokens;
    return HT_OK;
}

ht_status ht_decoder_pass(ht_sequence *sequence, const int32_t *ids, size_t count) {
    ht_model *model = sequence->model;
    struct pass pass = {
        .sequence = sequence, .model = model, .ids = ids, .m = count, .first = sequence->length, .layer = model->layer};
    HT_TRY(reserve(model, count));
    if (sequence->rope_first != pass.first || sequence->rope_count < count) {
        ht_rope_table(sequence->frequency, model->config.rotary / 2, sequence->rope_factor, pass.first, count,
                      sequence->cosine, sequence->sine);
        sequence->rope_first = pass.first;
        sequence->rope_count = count;
    }
    HT_TRY(embed(&pass));
    pass.next_norm = model->layer[0].attention_norm;
    HT_TRY(ht_for_rows(model->ctx, count, norm_rows, &pass));
    for (size_t l = 0; l < model->config.layers; l++) {
        HT_TRY(ht_context_check_cancelled(model->ctx));
        pass.index = l;
        pass.layer = &model->layer[l];
        HT_TRY(run_layer(&pass));
    }
    tap(&pass, "final_norm", model->act.normed);
    sequence->length += count;
    return HT_OK;
}

struct cap {
    const ht_model *model;
    float *logits;
};

static void cap_rows(void *arg, size_t row, size_t count) {
    const struct cap *cap = arg;
    size_t vocabulary = cap->model->config.vocabulary;
    cap->model->kernels.of[HT_OPERATION_SOFTCAP].softcap(cap->logits + row * vocabulary, count * vocabulary,
                                                         (float)cap->model->config.final_cap);
}

ht_status ht_decoder_logits(ht_model *model, const float *hidden, size_t rows, float *logits) {
    size_t vocabulary = model->config.vocabulary;
    ht_linear_job job = {.linear = model->head,
                         .x = hidden,
                         .m = rows,
                         .x_stride = model->config.hidden,
                         .y = logits,
                         .y_stride = vocabulary};
    HT_TRY(ht_linear_run(&job, 1, &model->workspace));
    struct cap cap = {.model = model, .logits = logits};
    return model->config.final_cap > 0 ? ht_for_rows(model->ctx, rows, cap_rows, &cap) : HT_OK;
}

ht_status ht_decoder_check(const ht_sequence *sequence, const int32_t *ids, size_t count) {
    size_t vocabulary = sequence->model->config.vocabulary;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= vocabulary)
            return ht_fail(HT_ERR_ARGUMENT, "token %zu has id %ld, the vocabulary has %zu", i, (long)ids[i],
                           vocabulary);
    if (count > sequence->capacity - sequence->length)
        return ht_fail(HT_ERR_SHAPE, "%zu tokens after %zu exceed the sequence's capacity of %zu", count,
                       sequence->length, sequence->capacity);
    return HT_OK;
}

ht_status ht_model_forward(ht_model *model, ht_sequence *sequence, const int32_t *ids, size_t count, float *logits,
                           size_t logit_rows) {
    size_t start = sequence->length, vocabulary = model->config.vocabulary;
    if (sequence->model != model)
        return ht_fail(HT_ERR_ARGUMENT, "forward: the sequence belongs to another model");
    if (logit_rows > count)
        return ht_fail(HT_ERR_ARGUMENT, "forward: logits of %zu tokens asked, %zu are given", logit_rows, count);
    HT_TRY(ht_decoder_check(sequence, ids, count));
    size_t wanted = logits ? count - logit_rows : count; /* first token whose logits are wanted */
    for (size_t done = 0; done < count;) {
        size_t m = count - done < HT_CHUNK ? count - done : HT_CHUNK;
        ht_status status = ht_decoder_pass(sequence, ids + done, m);
        if (status == HT_OK && done + m > wanted) {
            size_t skip = wanted > done ? wanted - done : 0;
            status = ht_decoder_logits(model, model->act.normed + skip * model->config.hidden, m - skip,
                                       logits + (done + skip - wanted) * vocabulary);
        }
        if (status != HT_OK) {
            sequence->length = start;
            return status;
        }
        done += m;
    }
    return HT_OK;
}
