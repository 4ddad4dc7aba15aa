/* A block of the decoder forth with everything kept, and back.
 *
 *     x -> norm -> q|k|v -> heads -> attention -> o -> (norm) -> + -> mid -> norm -> MLP -> (norm) -> + -> y
 *     '------------------------------------------------------'  '-----------------------------------'
 *
 * Back, a half gives  dx = dy + norm'(the half's gradient), so one buffer holds the residual stream's gradient. Weights
 * are whole f32 matrices, decoded once and changed by the caller. A tape is as long as its text: rows x (about 6 hidden
 * + 3 heads + 5 intermediate) floats, of experts as many times the last as a token has.
 * Refuses texts beyond the capacity, and parts of a site that transform or quantize inputs differently.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/block_gradient.h"

#include <string.h> /* memcpy, memset */

#include "base/memory.h"
#include "base/pool.h"
#include "base/status.h"
#include "model/rope.h"
#include "model/tape.h"
#include "ops/linear_inside.h"

enum { DECODE_ROWS = 64 };

/* --- the block as matrices --------------------------------------------------------------------------------------- */

static ht_status add_site(ht_dense_block *block, ht_site site, size_t *values) {
    const ht_projection *projection = ht_block_site(block->model, block->layer, site);
    if (!projection)
        return HT_OK;
    size_t experts = ht_block_experts(block->model, block->layer, site), parts = projection->parts;
    block->experts[site] = experts;
    block->parts[site] = parts;
    block->linear[site] = ht_arena_alloc(&block->arena, experts * parts * sizeof *block->linear[site]);
    if (!block->linear[site])
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < experts * parts; i++) {
        ht_block_linear at = ht_block_linear_at(block->model, block->layer, site, i / parts, i % parts);
        const ht_linear *linear = *at.place;
        const float *bias = linear->bias ? linear->bias + at.entry * linear->weight.rows : NULL;
        block->linear[site][i] = (ht_dense_linear){
            .bias = bias, .rows = linear->weight.rows, .cols = linear->weight.cols, .entry = at.entry};
        *values += linear->weight.rows * linear->weight.cols;
    }
    return HT_OK;
}

typedef struct decoding {
    const ht_linear *linear;
    size_t entry, step;
    float *out;
} decoding;

static ht_status decode_rows(void *arg, size_t index, size_t worker) {
    const decoding *d = arg;
    const ht_weight *weight = &d->linear->weight;
    size_t row = index * d->step, left = weight->rows - row;
    (void)worker;
    d->linear->decode(weight, d->entry, row, left < d->step ? left : d->step, d->out + row * weight->cols);
    return HT_OK;
}

/* What a site does to its inputs now. */
static ht_status read_input(ht_dense_block *block, ht_site site, size_t i, const ht_linear *linear) {
    ht_dense_linear *here = &block->linear[site][i], *first = here - i % block->parts[site];
    here->inputs = &linear->transformer;
    if (!ht_transformer_equal(here->inputs, here->entry, first->inputs, first->entry))
        return ht_fail(HT_ERR_UNSUPPORTED, "block %zu: linears that share their inputs transform them differently",
                       block->layer);
    if (i == 0) {
        block->has_input[site] = linear->has_input;
        block->input[site] = linear->input;
        block->input_rule[site] = linear->input_rule;
        block->input_scale[site] = linear->input_scale;
    } else if (linear->has_input != block->has_input[site] ||
               (linear->has_input &&
                (!ht_format_equal(&linear->input, &block->input[site]) ||
                 linear->input_rule != block->input_rule[site] || linear->input_scale < block->input_scale[site] ||
                 linear->input_scale > block->input_scale[site]))) {
        return ht_fail(HT_ERR_UNSUPPORTED, "block %zu: linears that share their inputs quantize them differently",
                       block->layer);
    }
    return HT_OK;
}

ht_status ht_dense_block_read(ht_dense_block *block) {
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t i = 0; i < block->experts[site] * block->parts[site]; i++) {
            ht_block_linear at = ht_block_linear_at(block->model, block->layer, (ht_site)site, i / block->parts[site],
                                                    i % block->parts[site]);
            decoding d = {.linear = *at.place, .entry = at.entry, .out = block->linear[site][i].weight};
            size_t step = ht_decode_step(&d.linear->weight), rows = d.linear->weight.rows;
            d.step = (DECODE_ROWS + step - 1) / step * step;
            HT_TRY(read_input(block, (ht_site)site, i, d.linear));
            HT_TRY(ht_parallel_for(block->ctx, (rows + d.step - 1) / d.step, decode_rows, &d));
        }
    return HT_OK;
}

ht_status ht_dense_block_open(ht_model *model, size_t layer, ht_dense_block *out) {
    size_t values = 0;
    *out = (ht_dense_block){.ctx = model->ctx, .model = model, .layer = layer};
    ht_arena_init(&out->arena, model->ctx);
    ht_status status = HT_OK;
    for (int site = 0; site < HT_SITE_COUNT && status == HT_OK; site++)
        status = add_site(out, (ht_site)site, &values);
    if (status == HT_OK)
        status = ht_allocate_raw(model->ctx, values, sizeof *out->memory, "weights of a block", &out->memory);
    float *next = out->memory;
    for (int site = 0; site < HT_SITE_COUNT && status == HT_OK; site++)
        for (size_t i = 0; i < out->experts[site] * out->parts[site]; i++) {
            out->linear[site][i].weight = next;
            next += out->linear[site][i].rows * out->linear[site][i].cols;
        }
    if (status == HT_OK)
        status = ht_dense_block_read(out);
    if (status != HT_OK)
        ht_dense_block_close(out);
    return status;
}

void ht_dense_block_close(ht_dense_block *block) {
    if (!block->ctx)
        return;
    ht_release(block->ctx, block->memory);
    ht_arena_release(&block->arena);
    *block = (ht_dense_block){0};
}

/* --- the tape ---------------------------------------------------------------------------------------------------- */

typedef struct piece {
    void *pointer; /* to a member */
    size_t values; /* of a row */
} piece;

enum { MOST_PIECES = 36 };

/* What a row takes, of dense and sparse layers alike. */
static size_t list_pieces(const ht_model *model, ht_tape *tape, piece *list) {
    const ht_decoder_config *c = &model->config;
    size_t heads = (c->heads + 2 * c->kv_heads) * c->head_dim, q = c->heads * c->head_dim, h = c->hidden;
    size_t k = c->experts ? c->experts_per_token : 0, wide = k * c->expert_intermediate;
    size_t most = k ? k : 1, dense = c->intermediate;
    wide = wide > dense ? wide : dense;
    const piece all[] = {{&tape->x, h},
                         {&tape->normed, h},
                         {&tape->heads_in, heads},
                         {&tape->unclipped, c->clip_qkv > 0 ? heads : 0},
                         {&tape->heads, heads},
                         {&tape->attended, q},
                         {&tape->lse, c->heads},
                         {&tape->attention, h},
                         {&tape->mid, h},
                         {&tape->mlp_normed, h},
                         {&tape->gate_up, 2 * wide},
                         {&tape->gated, wide},
                         {&tape->mlp, h},
                         {&tape->input[HT_SITE_QKV], h},
                         {&tape->input[HT_SITE_O], q},
                         {&tape->input[HT_SITE_ROUTER], k ? h : 0},
                         {&tape->input[HT_SITE_GATE_UP], most * h},
                         {&tape->input[HT_SITE_DOWN], wide},
                         {&tape->logits, k ? c->experts : 0},
                         {&tape->share, k},
                         {&tape->gathered, k * h},
                         {&tape->expert_out, k * h},
                         {&tape->chosen, k},
                         {&tape->slot, k},
                         {&tape->d_hidden, h},
                         {&tape->d_heads, heads},
                         {&tape->d_attended, q},
                         {&tape->d_gate_up, 2 * wide},
                         {&tape->d_gated, wide},
                         {&tape->d_gathered, k * h},
                         {&tape->d_turned, h > q ? (h > wide ? h : wide) : (q > wide ? q : wide)},
                         {&tape->d_share, k},
                         {&tape->d_logits, k ? c->experts : 0},
                         {&tape->cosine, c->rotary / 2},
                         {&tape->sine, c->rotary / 2},
                         {&tape->back_sine, c->rotary / 2}};
    memcpy(list, all, sizeof all);
    return sizeof all / sizeof *all;
}

size_t ht_tape_bytes(const ht_model *model, size_t capacity) {
    ht_tape none;
    piece list[MOST_PIECES];
    size_t total = 0;
    for (size_t i = 0, count = list_pieces(model, &none, list); i < count; i++)
        total += list[i].values * capacity;
    return total * sizeof(float);
}

static ht_status make_rotation(ht_tape *tape) {
    const ht_decoder_config *c = &tape->model->config;
    size_t half = c->rotary / 2;
    float *frequency;
    HT_TRY(ht_allocate(tape->ctx, half, sizeof *frequency, "rotary frequencies", &frequency));
    float factor = ht_rope_frequencies(&c->rope, c->rotary, tape->capacity, frequency);
    ht_rope_table(frequency, half, factor, 0, tape->capacity, tape->cosine, tape->sine);
    for (size_t i = 0; i < tape->capacity * half; i++)
        tape->back_sine[i] = -tape->sine[i];
    ht_release(tape->ctx, frequency);
    return HT_OK;
}

ht_status ht_tape_create(ht_model *model, size_t capacity, ht_tape **out) {
    ht_tape *tape;
    piece list[MOST_PIECES];
    *out = NULL;
    HT_TRY(ht_allocate(model->ctx, 1, sizeof *tape, "tape", &tape));
    *tape = (ht_tape){.ctx = model->ctx, .model = model, .capacity = capacity};
    size_t count = list_pieces(model, tape, list), total = ht_tape_bytes(model, capacity) / sizeof(float);
    ht_status status = ht_allocate_raw(model->ctx, total, sizeof(float), "tape of a block", &tape->memory);
    float *next = tape->memory;
    for (size_t i = 0; i < count && status == HT_OK; i++) {
        *(void **)list[i].pointer = next;
        next += list[i].values * capacity;
    }
    if (status == HT_OK)
        status = ht_allocate(model->ctx, model->config.experts + 1, sizeof *tape->begin, "expert rows", &tape->begin);
    if (status == HT_OK)
        status = make_rotation(tape);
    if (status != HT_OK) {
        ht_tape_destroy(tape);
        return status;
    }
    *out = tape;
    return HT_OK;
}

void ht_tape_destroy(ht_tape *tape) {
    if (!tape)
        return;
    ht_release(tape->ctx, tape->memory);
    ht_release(tape->ctx, tape->begin);
    ht_release(tape->ctx, tape);
}

void ht_tape_watch(ht_tape *tape, ht_gradient_fn *see, void *user) {
    tape->see = see;
    tape->see_user = user;
}

/* --- forth ------------------------------------------------------------------------------------------------------- */

typedef struct norming {
    const ht_tape *tape;
    const float *weight, *from;
    float *to;
    const float *add; /* to = add + norm(from); weight NULL: add + from */
} norming;

static void norm_some(void *arg, size_t row, size_t count) {
    const norming *n = arg;
    const ht_model *model = n->tape->model;
    size_t hidden = model->config.hidden;
    for (size_t i = row; i < row + count; i++) {
        const float *from = n->from + i * hidden;
        float *to = n->to + i * hidden, *normed = n->add ? n->tape->d_hidden + i * hidden : to;
        if (n->weight) {
            model->kernels.of[HT_OPERATION_RMSNORM].rmsnorm(from, n->weight, hidden, (float)model->config.norm_epsilon,
                                                            normed);
            from = normed;
        }
        for (size_t k = 0; n->add && k < hidden; k++)
            to[k] = n->add[i * hidden + k] + from[k];
    }
}

static ht_status norm(const ht_tape *tape, const float *weight, const float *from, const float *add, float *to) {
    norming n = {tape, weight, from, to, add};
    return ht_for_rows(tape->ctx, tape->rows, norm_some, &n);
}

ht_status ht_tape_forward(ht_tape *tape, const ht_dense_block *block, const float *x, size_t rows, float *y) {
    const ht_decoder_config *c = &tape->model->config;
    if (rows > tape->capacity)
        return ht_fail(HT_ERR_SHAPE, "block %zu: %zu positions, the tape has room for %zu", block->layer, rows,
                       tape->capacity);
    const ht_layer *layer = tape->layer = &tape->model->layer[block->layer];
    tape->block = block;
    tape->rows = rows;
    tape->slots = layer->sparse ? c->experts_per_token : 1;
    memcpy(tape->x, x, rows * c->hidden * sizeof *x);
    HT_TRY(norm(tape, layer->attention_norm, tape->x, NULL, tape->normed));
    HT_TRY(ht_tape_project(tape, HT_SITE_QKV, 0, tape->normed, 0, rows, tape->heads_in, layer->qkv.width));
    HT_TRY(ht_tape_attend(tape));
    HT_TRY(ht_tape_project(tape, HT_SITE_O, 0, tape->attended, 0, rows, tape->attention, c->hidden));
    HT_TRY(norm(tape, layer->attention_post_norm, tape->attention, tape->x, tape->mid));
    HT_TRY(norm(tape, layer->mlp_norm, tape->mid, NULL, tape->mlp_normed));
    HT_TRY(ht_tape_mlp(tape));
    return norm(tape, layer->mlp_post_norm, tape->mlp, tape->mid, y);
}

/* --- back -------------------------------------------------------------------------------------------------------- */

typedef struct norming_back {
    const ht_tape *tape;
    const float *weight, *x, *dy;
    float *dx;
    int add;
} norming_back;

static void norm_some_back(void *arg, size_t row, size_t count) {
    const norming_back *n = arg;
    size_t hidden = n->tape->model->config.hidden;
    for (size_t i = row; i < row + count; i++) {
        const float *x = n->x + i * hidden, *dy = n->dy + i * hidden;
        if (n->weight)
            ht_rmsnorm_back(x, n->weight, hidden, (float)n->tape->model->config.norm_epsilon, dy, n->add,
                            n->dx + i * hidden);
        else
            memcpy(n->dx + i * hidden, dy, hidden * sizeof *dy);
    }
}

static ht_status norm_back(const ht_tape *tape, const float *weight, const float *x, const float *dy, int add,
                           float *dx) {
    norming_back n = {tape, weight, x, dy, dx, add};
    return ht_for_rows(tape->ctx, tape->rows, norm_some_back, &n);
}

ht_status ht_tape_backward(ht_tape *tape, const ht_dense_block *block, float *gradient) {
    const ht_layer *layer = tape->layer;
    size_t hidden = tape->model->config.hidden, rows = tape->rows;
    size_t wide = tape->model->config.heads * tape->model->config.head_dim;
    if (tape->block != block)
        return ht_fail(HT_ERR_ARGUMENT, "block %zu: the tape holds a pass of another block", block->layer);
    float *d = tape->d_hidden;
    /* The MLP's half; mlp and attention are not read after their norms and take gradients. */
    HT_TRY(norm_back(tape, layer->mlp_post_norm, tape->mlp, gradient, 0, d));
    float *d_mlp_normed = tape->mlp;
    memset(d_mlp_normed, 0, rows * hidden * sizeof *d);
    HT_TRY(ht_tape_mlp_back(tape, d, d_mlp_normed));
    HT_TRY(norm_back(tape, layer->mlp_norm, tape->mid, d_mlp_normed, 1, gradient));
    /* Attention's half. */
    HT_TRY(norm_back(tape, layer->attention_post_norm, tape->attention, gradient, 0, d));
    memset(tape->d_attended, 0, rows * wide * sizeof *d);
    HT_TRY(ht_tape_project_back(tape, HT_SITE_O, 0, tape->attended, 0, rows, d, hidden, tape->d_attended));
    HT_TRY(ht_tape_attend_back(tape));
    memset(tape->attention, 0, rows * hidden * sizeof *d);
    HT_TRY(ht_tape_project_back(tape, HT_SITE_QKV, 0, tape->normed, 0, rows, tape->d_heads, layer->qkv.width,
                                tape->attention));
    return norm_back(tape, layer->attention_norm, tape->x, tape->attention, 1, gradient);
}
