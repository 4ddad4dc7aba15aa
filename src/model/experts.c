/* Mixture of experts: route every token, run each expert on its tokens, add up.
 *
 *   router    logits [tokens, experts] -> chosen [tokens, k] and their shares
 *   gather    rows of `normed` in expert order, so that every expert reads a matrix:
 *                 gathered  | expert 0: its tokens | expert 1: ... |
 *   products  gate|up of all experts as one list of jobs, the gate, then down of all experts as another
 *   combine   out[token] = sum over its experts, best first, of share * row
 *
 * Ties go to the lower expert. Experts without tokens cost nothing. Sources: Shazeer et al. 2017 (top-k gating); the
 * two orders of softmax and selection are those of Qwen3-MoE, Mixtral, OLMoE (softmax first) and gpt-oss (selection
 * first).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/block.h"

#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy */

#include "base/memory.h"
#include "base/status.h"

struct experts {
    ht_pass *pass;
    ht_model *model;
    const ht_layer *layer;
    size_t m;
    size_t slots;   /* experts that a token's row goes to; those past experts_per_token are watched only */
    size_t *begin;  /* [experts + 1] first gathered row of each */
    size_t *routed; /* [experts] rows that count; the others are watched only */
    int32_t *token; /* [m * slots] of each gathered row; NULL when nobody watches */
};

/* --- routing --------------------------------------------------------------------------------------------------- */

static void choose_best(const float *score, size_t experts, size_t k, int32_t *chosen) {
    for (size_t n = 0; n < k; n++) {
        int32_t best = -1;
        for (size_t e = 0; e < experts; e++) {
            int taken = 0;
            for (size_t i = 0; i < n; i++)
                taken |= chosen[i] == (int32_t)e;
            if (!taken && (best < 0 || score[e] > score[best]))
                best = (int32_t)e;
        }
        chosen[n] = best;
    }
}

void ht_experts_route(const ht_model *model, float *score, size_t slots, int32_t *chosen, float *share) {
    const ht_decoder_config *c = &model->config;
    ht_softmax_fn *softmax = model->kernels.of[HT_OPERATION_SOFTMAX].softmax;
    size_t k = c->experts_per_token;
    int first = c->architecture->router == HT_ROUTER_SOFTMAX_FIRST;
    float max;
    double sum = first ? softmax(score, c->experts, -INFINITY, score, &max) : 0;
    choose_best(score, c->experts, slots, chosen);
    for (size_t n = 0; n < k; n++)
        share[n] = score[chosen[n]];
    if (!first)
        sum = softmax(share, k, -INFINITY, share, &max);
    else if (c->normalize_experts)
        for (size_t n = sum = 0; n < k; n++)
            sum += (double)share[n];
    for (size_t n = 0; n < k; n++)
        share[n] = (float)((double)share[n] / sum);
}

static void route_rows(void *arg, size_t row, size_t count) {
    const struct experts *x = arg;
    const ht_activations *act = &x->model->act;
    for (size_t i = row; i < row + count; i++)
        ht_experts_route(x->model, act->router + i * x->model->config.experts, x->slots, act->chosen + i * x->slots,
                         act->share + i * x->slots);
}

/* Rows of `gathered` by expert, tokens in order within each. */
static void assign_slots(struct experts *x) {
    const ht_decoder_config *c = &x->model->config;
    size_t k = x->slots;
    const int32_t *chosen = x->model->act.chosen;
    memset(x->begin, 0, (c->experts + 1) * sizeof *x->begin);
    for (size_t i = 0; i < x->m * k; i++)
        x->begin[chosen[i] + 1]++;
    for (size_t e = 0; e < c->experts; e++)
        x->begin[e + 1] += x->begin[e];
    for (size_t i = 0; i < x->m * k; i++) {
        x->model->act.slot[i] = (int32_t)x->begin[chosen[i]]++;
        if (!x->token)
            continue;
        x->token[x->model->act.slot[i]] = (int32_t)(i / k);
        x->routed[chosen[i]] += i % k < c->experts_per_token;
    }
    for (size_t e = c->experts; e > 0; e--)
        x->begin[e] = x->begin[e - 1];
    x->begin[0] = 0;
}

/* --- running --------------------------------------------------------------------------------------------------- */

static void gather_rows(void *arg, size_t row, size_t count) {
    const struct experts *x = arg;
    const ht_activations *act = &x->model->act;
    size_t hidden = x->model->config.hidden, k = x->slots;
    for (size_t i = row * k; i < (row + count) * k; i++)
        memcpy(act->gathered + (size_t)act->slot[i] * hidden, act->normed + i / k * hidden, hidden * sizeof(float));
}

static void combine_rows(void *arg, size_t row, size_t count) {
    const struct experts *x = arg;
    const ht_activations *act = &x->model->act;
    size_t hidden = x->model->config.hidden, k = x->model->config.experts_per_token;
    for (size_t i = row; i < row + count; i++) {
        float *out = act->out + i * hidden;
        memset(out, 0, hidden * sizeof *out);
        for (size_t n = i * x->slots; n < i * x->slots + k; n++) {
            const float *from = act->expert_out + (size_t)act->slot[n] * hidden;
            for (size_t j = 0; j < hidden; j++)
                out[j] += act->share[n] * from[j];
        }
    }
}

static ht_status see_experts(const struct experts *x, ht_site site, const float *in, size_t cols) {
    for (size_t e = 0; x->pass->watch && e < x->model->config.experts; e++) {
        size_t row = x->begin[e], rows = x->begin[e + 1] - row;
        if (rows)
            HT_TRY(ht_block_see(x->pass, (ht_site_rows){.site = site,
                                                        .expert = e,
                                                        .x = in + row * cols,
                                                        .rows = rows,
                                                        .cols = cols,
                                                        .routed = x->routed[e],
                                                        .token = x->token + row}));
    }
    return HT_OK;
}

static ht_status run_experts(const struct experts *x, ht_site site, const ht_projection *projection, const float *in,
                             float *out, ht_linear_job *jobs) {
    HT_TRY(see_experts(x, site, in, projection->inputs));
    size_t count = 0;
    for (size_t e = 0; e < x->model->config.experts && !x->pass->stopped; e++) {
        size_t row = x->begin[e], rows = x->begin[e + 1] - row;
        if (rows)
            count += ht_projection_jobs(projection, e, in + row * projection->inputs, rows,
                                        out + row * projection->width, jobs + count);
    }
    return ht_linear_run(jobs, count, &x->model->workspace);
}

static ht_status route(struct experts *x, ht_linear_job *jobs) {
    ht_model *model = x->model;
    const ht_activations *act = &model->act;
    HT_TRY(ht_block_see(
        x->pass,
        (ht_site_rows){
            .site = HT_SITE_ROUTER, .x = act->normed, .rows = x->m, .cols = model->config.hidden, .routed = x->m}));
    if (x->pass->stopped)
        return HT_OK;
    size_t count = ht_projection_jobs(&x->layer->router, 0, act->normed, x->m, act->router, jobs);
    HT_TRY(ht_linear_run(jobs, count, &model->workspace));
    if (model->tap)
        model->tap(model->tap_user, "router", x->pass->index, act->router, x->m, model->config.experts);
    HT_TRY(ht_for_rows(model->ctx, x->m, route_rows, x));
    assign_slots(x);
    return HT_OK;
}

static ht_status run_layer(struct experts *x, ht_linear_job *jobs) {
    ht_model *model = x->model;
    const ht_activations *act = &model->act;
    HT_TRY(route(x, jobs));
    if (x->pass->stopped)
        return HT_OK;
    HT_TRY(ht_for_rows(model->ctx, x->m, gather_rows, x));
    HT_TRY(run_experts(x, HT_SITE_GATE_UP, &x->layer->gate_up, act->gathered, act->gate_up, jobs));
    if (x->pass->stopped)
        return HT_OK;
    HT_TRY(ht_gate_rows(model, x->layer, act->gate_up, x->m * x->slots, act->gated));
    HT_TRY(run_experts(x, HT_SITE_DOWN, &x->layer->down, act->gated, act->expert_out, jobs));
    return x->pass->stopped ? HT_OK : ht_for_rows(model->ctx, x->m, combine_rows, x);
}

ht_status ht_experts_pass(ht_pass *pass) {
    ht_model *model = pass->model;
    size_t experts = model->config.experts, k = model->config.experts_per_token;
    size_t spread = pass->watch ? pass->watch->spread : 0;
    struct experts x = {.pass = pass,
                        .model = model,
                        .layer = pass->layer,
                        .m = pass->m,
                        .slots = spread < k         ? k
                                 : spread < experts ? spread
                                                    : experts};
    ht_linear_job *jobs = NULL;
    ht_status status = ht_allocate_raw(model->ctx, experts + 1, sizeof *x.begin, "expert rows", &x.begin);
    if (status == HT_OK)
        status = ht_allocate(model->ctx, experts, sizeof *x.routed, "expert rows", &x.routed);
    if (status == HT_OK && pass->watch)
        status = ht_allocate_raw(model->ctx, x.m * x.slots, sizeof *x.token, "tokens of expert rows", &x.token);
    if (status == HT_OK)
        status = ht_allocate_raw(model->ctx, experts * HT_MAX_PARTS, sizeof *jobs, "expert products", &jobs);
    if (status == HT_OK)
        status = run_layer(&x, jobs);
    ht_release(model->ctx, jobs);
    ht_release(model->ctx, x.token);
    ht_release(model->ctx, x.routed);
    ht_release(model->ctx, x.begin);
    return status;
}
