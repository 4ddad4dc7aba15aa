/* One block of the decoder over the rows of a pass.
 *
 *     q|k|v -> norms of q and k, rotation, cache -> attention -> o -> add, norm
 *     gate|up -> gate -> down      (or the experts, experts.c)    -> add, norm
 *
 * The norm that ends a block is the first of the next one, so that rows are taken up once. A watch (block.h) sees the
 * rows before every site; the pass of the decoder and a block run alone go through the same steps.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/block.h"

#include <string.h> /* memcpy */

#include "base/pool.h"
#include "base/status.h"
#include "model/cache.h"

/* --- sites ------------------------------------------------------------------------------------------------- */

ht_status ht_block_see(ht_pass *pass, ht_site_rows rows) {
    if (!pass->watch)
        return HT_OK;
    if (pass->watch->stop == rows.site)
        pass->stopped = 1;
    rows.layer = pass->index;
    rows.first = pass->first;
    return pass->watch->see(pass->watch->user, &rows);
}

static ht_status project(ht_pass *pass, ht_site site, const ht_projection *projection, const float *x, float *y) {
    ht_linear_job jobs[HT_MAX_PARTS];
    HT_TRY(ht_block_see(
        pass, (ht_site_rows){.site = site, .x = x, .rows = pass->m, .cols = projection->inputs, .routed = pass->m}));
    if (pass->stopped)
        return HT_OK;
    size_t count = ht_projection_jobs(projection, 0, x, pass->m, y, jobs);
    return ht_linear_run(jobs, count, &pass->model->workspace);
}

/* --- steps ------------------------------------------------------------------------------------------------- */

static void norm_rows(void *arg, size_t row, size_t count) {
    const ht_pass *pass = arg;
    const ht_decoder_config *c = &pass->model->config;
    ht_activations *act = &pass->model->act;
    for (size_t i = row; i < row + count; i++)
        pass->model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(act->x + i * c->hidden, pass->next_norm, c->hidden,
                                                              (float)c->norm_epsilon, act->normed + i * c->hidden);
}

/* x += post_norm(out); normed = next_norm(x). */
static void finish_rows(void *arg, size_t row, size_t count) {
    const ht_pass *pass = arg;
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

void ht_norm_heads(const ht_model *model, float *x, size_t heads, const float *weight) {
    const ht_decoder_config *c = &model->config;
    int whole = c->architecture->qk_norm == HT_QK_NORM_WHOLE;
    size_t each = whole ? heads * c->head_dim : c->head_dim;
    for (size_t h = 0; h < (whole ? 1 : heads); h++)
        model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(x + h * each, weight, each, (float)c->norm_epsilon,
                                                        x + h * each);
}

/* Norms, rotation and scale of q and k; k and v go to the cache. */
static void place_rows(void *arg, size_t row, size_t count) {
    const ht_pass *pass = arg;
    const ht_decoder_config *c = &pass->model->config;
    const ht_sequence *s = pass->sequence;
    size_t d = c->head_dim, q_width = c->heads * d, half = c->rotary / 2, width = pass->layer->qkv.width;
    ht_rope_fn *rope = pass->model->kernels.of[HT_OPERATION_ROPE].rope;
    float scale = (float)c->attention_scale;
    for (size_t i = row; i < row + count; i++) {
        float *q = pass->model->act.qkv + i * width, *k = q + q_width, *v = k + c->kv_heads * d;
        if (pass->layer->q_norm) {
            ht_norm_heads(pass->model, q, c->heads, pass->layer->q_norm);
            ht_norm_heads(pass->model, k, c->kv_heads, pass->layer->k_norm);
        }
        if (c->clip_qkv > 0)
            clip(q, width, (float)c->clip_qkv);
        rope(q, c->heads, d, s->cosine + i * half, s->sine + i * half, half);
        rope(k, c->kv_heads, d, s->cosine + i * half, s->sine + i * half, half);
        for (size_t j = 0; j < q_width; j++)
            q[j] *= scale;
        for (size_t h = 0; h < c->kv_heads; h++) {
            memcpy(ht_cache_rows(s, 0, pass->slot, h) + (pass->first + i) * d, k + h * d, d * sizeof *k);
            memcpy(ht_cache_rows(s, 1, pass->slot, h) + (pass->first + i) * d, v + h * d, d * sizeof *v);
        }
    }
}

struct attention {
    const ht_pass *pass;
    size_t blocks;
    char *scratch;
    size_t stride;
};

static ht_status attend_block(void *arg, size_t task, size_t worker) {
    const struct attention *a = arg;
    const ht_pass *pass = a->pass;
    const ht_decoder_config *c = &pass->model->config;
    const ht_kernels *kernels = &pass->model->kernels;
    const ht_attention_rounder *rounder = pass->sequence->rounder;
    size_t head = task % c->heads, row = task / c->heads * HT_ATTENTION_ROWS, d = c->head_dim;
    size_t kv = head / (c->heads / c->kv_heads), width = pass->layer->qkv.width;
    ht_attention_rows problem = {.q = pass->model->act.qkv + row * width + head * d,
                                 .q_stride = width,
                                 .k = ht_cache_shown(pass->sequence, 0, pass->slot, kv),
                                 .v = ht_cache_shown(pass->sequence, 1, pass->slot, kv),
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
                                 .rounded = rounder ? rounder->how->dtype : HT_DTYPE_NONE,
                                 .y = pass->model->act.attended + (row * c->heads + head) * d,
                                 .y_stride = c->heads * d,
                                 .dot = kernels->of[HT_OPERATION_DOT].dot,
                                 .mix = kernels->of[HT_OPERATION_MIX].mix,
                                 .softmax = kernels->of[HT_OPERATION_SOFTMAX].softmax,
                                 .cap = kernels->of[HT_OPERATION_SOFTCAP].softcap};
    kernels->of[HT_OPERATION_ATTENTION].attention(&problem, a->scratch + worker * a->stride);
    for (size_t i = 0; rounder && i < problem.count; i++)
        ht_attention_restore(rounder, &(ht_attention_head){problem.y + i * problem.y_stride, 1, d, 1, d});
    return HT_OK;
}

static ht_status attend(ht_pass *pass) {
    ht_model *model = pass->model;
    struct attention attention = {.pass = pass, .blocks = (pass->m + HT_ATTENTION_ROWS - 1) / HT_ATTENTION_ROWS};
    HT_TRY(project(pass, HT_SITE_QKV, &pass->layer->qkv, model->act.normed, model->act.qkv));
    if (pass->stopped)
        return HT_OK;
    HT_TRY(ht_for_rows(model->ctx, pass->m, place_rows, pass));
    HT_TRY(ht_cache_turn(pass->sequence, pass->slot, pass->first, pass->m));
    HT_TRY(ht_cache_round(pass->sequence, pass->slot, pass->first + pass->m, model->act.qkv, pass->m,
                          pass->layer->qkv.width));
    HT_TRY(ht_workspace_threads(&model->workspace, ht_attention_scratch(pass->first + pass->m), &attention.scratch,
                                &attention.stride));
    HT_TRY(ht_parallel_for(model->ctx, attention.blocks * model->config.heads, attend_block, &attention));
    return project(pass, HT_SITE_O, &pass->layer->o, model->act.attended, model->act.out);
}

struct gate {
    const ht_model *model;
    const ht_layer *layer;
    const float *gate_up;
    float *gated;
};

static void gate_some(void *arg, size_t row, size_t count) {
    const struct gate *gate = arg;
    const ht_projection *both = &gate->layer->gate_up;
    size_t wide = both->width / 2, up = both->interleaved ? 1 : wide, step = both->interleaved ? 2 : 1;
    for (size_t i = row; i < row + count; i++) {
        const float *x = gate->gate_up + i * both->width;
        gate->model->kernels.of[HT_OPERATION_GATE].gate(&gate->model->config.gate, x, x + up, step, wide,
                                                        gate->gated + i * wide);
    }
}

ht_status ht_gate_rows(const ht_model *model, const ht_layer *layer, const float *gate_up, size_t rows, float *gated) {
    struct gate gate = {.model = model, .layer = layer, .gate_up = gate_up, .gated = gated};
    return ht_for_rows(model->ctx, rows, gate_some, &gate);
}

static ht_status mlp(ht_pass *pass) {
    ht_model *model = pass->model;
    if (pass->layer->sparse)
        return ht_experts_pass(pass);
    HT_TRY(project(pass, HT_SITE_GATE_UP, &pass->layer->gate_up, model->act.normed, model->act.gate_up));
    if (pass->stopped)
        return HT_OK;
    HT_TRY(ht_gate_rows(model, pass->layer, model->act.gate_up, pass->m, model->act.gated));
    return project(pass, HT_SITE_DOWN, &pass->layer->down, model->act.gated, model->act.out);
}

static void tap(const ht_pass *pass, const char *what, const float *rows) {
    const ht_model *model = pass->model;
    if (model->tap)
        model->tap(model->tap_user, what, pass->index, rows, pass->m, model->config.hidden);
}

ht_status ht_block_norm(ht_pass *pass, const float *weight) {
    pass->next_norm = weight;
    return ht_for_rows(pass->model->ctx, pass->m, norm_rows, pass);
}

ht_status ht_block_step(ht_pass *pass, const float *next_norm) {
    ht_model *model = pass->model;
    const ht_layer *layer = pass->layer = &model->layer[pass->index];
    tap(pass, "attention_input", model->act.normed);
    HT_TRY(attend(pass));
    if (pass->stopped)
        return HT_OK;
    tap(pass, "attention", model->act.out);
    pass->post_norm = layer->attention_post_norm;
    pass->next_norm = layer->mlp_norm;
    HT_TRY(ht_for_rows(model->ctx, pass->m, finish_rows, pass));
    tap(pass, "mlp_input", model->act.normed);
    HT_TRY(mlp(pass));
    if (pass->stopped)
        return HT_OK;
    tap(pass, "mlp", model->act.out);
    pass->post_norm = layer->mlp_post_norm;
    pass->next_norm = next_norm;
    HT_TRY(ht_for_rows(model->ctx, pass->m, finish_rows, pass));
    tap(pass, "hidden", model->act.x);
    return HT_OK;
}

/* --- a block alone ------------------------------------------------------------------------------------------- */

ht_status ht_block_sequence(ht_model *model, size_t capacity, ht_sequence **out) {
    return ht_sequence_create_for(model, capacity, 1, out);
}

ht_status ht_block_run(ht_sequence *sequence, size_t layer, float *x, size_t rows, const ht_watch *watch) {
    ht_model *model = sequence->model;
    size_t hidden = model->config.hidden;
    if (rows > sequence->capacity)
        return ht_fail(HT_ERR_SHAPE, "block %zu: %zu positions, the sequence has room for %zu", layer, rows,
                       sequence->capacity);
    HT_TRY(ht_decoder_reserve(model, rows < HT_CHUNK ? rows : HT_CHUNK, watch ? watch->spread : 0));
    for (size_t first = 0; first < rows; first += HT_CHUNK) {
        size_t m = rows - first < HT_CHUNK ? rows - first : HT_CHUNK;
        ht_pass pass = {.sequence = sequence, .model = model, .index = layer, .m = m, .first = first, .watch = watch};
        ht_decoder_rotate(sequence, first, m);
        memcpy(model->act.x, x + first * hidden, m * hidden * sizeof *x);
        HT_TRY(ht_block_norm(&pass, model->layer[layer].attention_norm));
        HT_TRY(ht_block_step(&pass, model->layer[layer].attention_norm)); /* the norm at its end is not used */
        if (!pass.stopped)
            memcpy(x + first * hidden, model->act.x, m * hidden * sizeof *x);
    }
    return HT_OK;
}

/* --- its linears --------------------------------------------------------------------------------------------- */

ht_projection *ht_block_site(ht_model *model, size_t layer, ht_site site) {
    ht_layer *l = &model->layer[layer];
    ht_projection *const all[HT_SITE_COUNT] = {[HT_SITE_QKV] = &l->qkv,
                                               [HT_SITE_O] = &l->o,
                                               [HT_SITE_ROUTER] = l->sparse ? &l->router : NULL,
                                               [HT_SITE_GATE_UP] = &l->gate_up,
                                               [HT_SITE_DOWN] = &l->down};
    return all[site];
}

size_t ht_block_experts(const ht_model *model, size_t layer, ht_site site) {
    int own = model->layer[layer].sparse && (site == HT_SITE_GATE_UP || site == HT_SITE_DOWN);
    return own ? model->config.experts : 1;
}

ht_block_linear ht_block_linear_at(ht_model *model, size_t layer, ht_site site, size_t expert, size_t part) {
    const ht_projection *projection = ht_block_site(model, layer, site);
    size_t at = (projection->members > 1 ? expert : 0) * projection->parts + part;
    return (ht_block_linear){.place = &projection->linear[at],
                             .parameter = projection->parameter[at],
                             .entry = projection->batched ? expert : 0};
}
