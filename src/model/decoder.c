/* A pass of the decoder over a chunk of tokens: the description executed.
 *
 *     embed, norm
 *     per layer:   its block (block.c)
 *     last norm is the final one: act.normed is what the head reads
 *
 * Products are lists of jobs (ops/linear.h); everything else is row loops. Each token's values depend on its own row
 * and on the cache alone, in an order fixed by its position, so a prompt gives the same bits in one pass, in chunks or
 * token by token, for any thread count. A key or value is written before any token of its chunk attends.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/decoder.h"

#include "base/pool.h"
#include "base/status.h"
#include "model/block.h"
#include "model/rope.h"

enum { ROWS_EACH = 8 };

/* --- row loops --------------------------------------------------------------------------------------------- */

struct rows {
    ht_some_rows_fn *work;
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

ht_status ht_for_rows(ht_context *ctx, size_t rows, ht_some_rows_fn *work, void *arg) {
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

/* --- embedding -------------------------------------------------------------------------------------------- */

ht_status ht_block_embed(ht_model *model, const int32_t *ids, size_t count, float *out) {
    const ht_weight *weight = &model->embedding->weight;
    size_t hidden = model->config.hidden, step = ht_decode_step(weight), stride;
    char *scratch;
    float scale = (float)model->config.embedding_scale;
    HT_TRY(ht_workspace_threads(&model->workspace, step * hidden * sizeof(float), &scratch, &stride));
    for (size_t i = 0; i < count; i++) {
        size_t id = (size_t)ids[i], row = id / step * step;
        float *block = (float *)(void *)scratch, *x = out + i * hidden;
        if (model->config.tied && ht_linear_packed_row(model->head, 0, id, x)) { /* one copy serves both ends */
            for (size_t c = 0; c < hidden; c++)
                x[c] *= scale;
            continue;
        }
        model->embedding_decode(weight, 0, row, weight->rows - row < step ? weight->rows - row : step, block);
        for (size_t c = 0; c < hidden; c++)
            x[c] = block[(id - row) * hidden + c] * scale;
    }
    return HT_OK;
}

/* --- the pass ---------------------------------------------------------------------------------------------- */

ht_status ht_decoder_reserve(ht_model *model, size_t tokens, size_t spread) {
    const ht_decoder_config *c = &model->config;
    ht_activations *act = &model->act;
    int sparse = c->experts > 0;
    spread = spread > c->experts_per_token ? spread : c->experts_per_token;
    if (tokens <= act->tokens && (!sparse || spread <= act->spread))
        return HT_OK;
    size_t slots = sparse ? spread : 1;
    tokens = tokens > act->tokens ? tokens : act->tokens;
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
    act->spread = spread;
    return HT_OK;
}

void ht_decoder_rotate(ht_sequence *sequence, size_t first, size_t count) {
    if (sequence->rope_first == first && sequence->rope_count >= count)
        return;
    ht_rope_table(sequence->frequency, sequence->model->config.rotary / 2, sequence->rope_factor, first, count,
                  sequence->cosine, sequence->sine);
    sequence->rope_first = first;
    sequence->rope_count = count;
}

ht_status ht_decoder_pass(ht_sequence *sequence, const int32_t *ids, size_t count) {
    ht_model *model = sequence->model;
    ht_pass pass = {.sequence = sequence, .model = model, .m = count, .first = sequence->length};
    HT_TRY(ht_decoder_reserve(model, count, 0));
    ht_decoder_rotate(sequence, pass.first, count);
    HT_TRY(ht_block_embed(model, ids, count, model->act.x));
    HT_TRY(ht_block_norm(&pass, model->layer[0].attention_norm));
    for (size_t l = 0; l < model->config.layers; l++) {
        HT_TRY(ht_context_check_cancelled(model->ctx));
        int last = l + 1 == model->config.layers;
        pass.index = pass.slot = l;
        HT_TRY(ht_block_step(&pass, last ? model->final_norm : model->layer[l + 1].attention_norm));
    }
    if (model->tap)
        model->tap(model->tap_user, "final_norm", model->config.layers - 1, model->act.normed, count,
                   model->config.hidden);
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
