/* The second half of a block on a tape: gate|up, gate, down; of experts by rows gathered as experts.c does it.
 *
 *     out = sum over a token's experts of share * y        dy = share * dout,  dshare = y . dout
 *     shares are a softmax over the chosen experts, or over all of them (not renormalized):
 *         dlogit_e = share_e (dshare_e - sum of share dshare),  share 0 where not chosen; over all: p_e for share_e
 *
 * Which experts are chosen is taken as given.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy, memset */

#include "base/status.h"
#include "model/tape.h"

/* --- the gate -------------------------------------------------------------------------------------------------- */

static void gate_some_back(void *arg, size_t row, size_t count) {
    const ht_tape *tape = arg;
    const ht_projection *both = &tape->layer->gate_up;
    size_t wide = both->width / 2, up = both->interleaved ? 1 : wide, step = both->interleaved ? 2 : 1;
    for (size_t i = row; i < row + count; i++) {
        const float *x = tape->gate_up + i * both->width;
        float *dx = tape->d_gate_up + i * both->width;
        ht_gate_back(&tape->model->config.gate, tape->model->kernels.of[HT_OPERATION_SOFTMAX].softmax, x, x + up, step,
                     wide, tape->d_gated + i * wide, dx, dx + up);
    }
}

/* --- routing ----------------------------------------------------------------------------------------------------- */

static void route_some(void *arg, size_t row, size_t count) {
    const ht_tape *tape = arg;
    size_t experts = tape->model->config.experts;
    for (size_t i = row; i < row + count; i++) {
        float *score = tape->d_logits + i * experts; /* scratch */
        memcpy(score, tape->logits + i * experts, experts * sizeof *score);
        ht_experts_route(tape->model, score, tape->slots, tape->chosen + i * tape->slots,
                         tape->share + i * tape->slots);
    }
}

/* Rows of `gathered` by expert, tokens in order within each. */
static void gather(ht_tape *tape) {
    size_t experts = tape->model->config.experts, k = tape->slots, hidden = tape->model->config.hidden;
    size_t *begin = tape->begin;
    memset(begin, 0, (experts + 1) * sizeof *begin);
    for (size_t i = 0; i < tape->rows * k; i++)
        begin[tape->chosen[i] + 1]++;
    for (size_t e = 0; e < experts; e++)
        begin[e + 1] += begin[e];
    for (size_t i = 0; i < tape->rows * k; i++) {
        size_t slot = begin[tape->chosen[i]]++;
        tape->slot[i] = (int32_t)slot;
        memcpy(tape->gathered + slot * hidden, tape->mlp_normed + i / k * hidden, hidden * sizeof(float));
    }
    for (size_t e = experts; e > 0; e--)
        begin[e] = begin[e - 1];
    begin[0] = 0;
}

static void combine_some(void *arg, size_t row, size_t count) {
    const ht_tape *tape = arg;
    size_t hidden = tape->model->config.hidden;
    for (size_t i = row; i < row + count; i++) {
        float *out = tape->mlp + i * hidden;
        memset(out, 0, hidden * sizeof *out);
        for (size_t n = i * tape->slots; n < (i + 1) * tape->slots; n++) {
            const float *from = tape->expert_out + (size_t)tape->slot[n] * hidden;
            for (size_t j = 0; j < hidden; j++)
                out[j] += tape->share[n] * from[j];
        }
    }
}

/* Gradients of the experts' outputs take the outputs' place; gradients of shares and logits. */
typedef struct combining {
    ht_tape *tape;
    const float *d_mlp;
} combining;

static void logits_back(const ht_tape *tape, const float *logits, const int32_t *chosen, const float *share,
                        const float *d_share, float *d_logits) {
    const ht_decoder_config *c = &tape->model->config;
    int whole = c->architecture->router == HT_ROUTER_SOFTMAX_FIRST && !c->normalize_experts;
    float mean = 0, max;
    for (size_t n = 0; n < tape->slots; n++)
        mean += share[n] * d_share[n];
    memset(d_logits, 0, c->experts * sizeof *d_logits);
    if (whole) {
        double sum =
            tape->model->kernels.of[HT_OPERATION_SOFTMAX].softmax(logits, c->experts, -INFINITY, d_logits, &max);
        for (size_t e = 0; e < c->experts; e++)
            d_logits[e] *= -mean / (float)sum;
    }
    for (size_t n = 0; n < tape->slots; n++)
        d_logits[chosen[n]] += share[n] * (whole ? d_share[n] : d_share[n] - mean);
}

static void combine_some_back(void *arg, size_t row, size_t count) {
    const combining *b = arg;
    const ht_tape *tape = b->tape;
    size_t hidden = tape->model->config.hidden, k = tape->slots, experts = tape->model->config.experts;
    for (size_t i = row; i < row + count; i++) {
        const float *d = b->d_mlp + i * hidden;
        for (size_t n = i * k; n < (i + 1) * k; n++) {
            float *y = tape->expert_out + (size_t)tape->slot[n] * hidden;
            double product = 0;
            for (size_t j = 0; j < hidden; j++) {
                product += (double)(y[j] * d[j]);
                y[j] = tape->share[n] * d[j];
            }
            tape->d_share[n] = (float)product;
        }
        logits_back(tape, tape->logits + i * experts, tape->chosen + i * k, tape->share + i * k, tape->d_share + i * k,
                    tape->d_logits + i * experts);
    }
}

/* d_normed += the gathered rows' gradients, each token's in the order of its experts. */
typedef struct scattering {
    const ht_tape *tape;
    float *d_normed;
} scattering;

static void scatter_some(void *arg, size_t row, size_t count) {
    const scattering *s = arg;
    size_t hidden = s->tape->model->config.hidden, k = s->tape->slots;
    for (size_t i = row * k; i < (row + count) * k; i++) {
        const float *from = s->tape->d_gathered + (size_t)s->tape->slot[i] * hidden;
        float *to = s->d_normed + i / k * hidden;
        for (size_t j = 0; j < hidden; j++)
            to[j] += from[j];
    }
}

/* --- experts ------------------------------------------------------------------------------------------------------ */

static ht_status run_experts(ht_tape *tape) {
    const ht_layer *layer = tape->layer;
    size_t hidden = tape->model->config.hidden, experts = tape->model->config.experts, wide = layer->gate_up.width / 2;
    HT_TRY(ht_tape_project(tape, HT_SITE_ROUTER, 0, tape->mlp_normed, 0, tape->rows, tape->logits, experts));
    HT_TRY(ht_for_rows(tape->ctx, tape->rows, route_some, tape));
    gather(tape);
    for (size_t e = 0; e < experts; e++) {
        size_t row = tape->begin[e], rows = tape->begin[e + 1] - row;
        if (rows)
            HT_TRY(ht_tape_project(tape, HT_SITE_GATE_UP, e, tape->gathered + row * hidden, row, rows,
                                   tape->gate_up + row * layer->gate_up.width, layer->gate_up.width));
    }
    HT_TRY(ht_gate_rows(tape->model, tape->layer, tape->gate_up, tape->rows * tape->slots, tape->gated));
    for (size_t e = 0; e < experts; e++) {
        size_t row = tape->begin[e], rows = tape->begin[e + 1] - row;
        if (rows)
            HT_TRY(ht_tape_project(tape, HT_SITE_DOWN, e, tape->gated + row * wide, row, rows,
                                   tape->expert_out + row * hidden, hidden));
    }
    return ht_for_rows(tape->ctx, tape->rows, combine_some, tape);
}

static ht_status run_experts_back(ht_tape *tape, const float *d_mlp, float *d_normed) {
    const ht_layer *layer = tape->layer;
    size_t hidden = tape->model->config.hidden, experts = tape->model->config.experts, wide = layer->gate_up.width / 2;
    size_t all = tape->rows * tape->slots;
    combining combine = {tape, d_mlp};
    scattering scatter = {tape, d_normed};
    HT_TRY(ht_for_rows(tape->ctx, tape->rows, combine_some_back, &combine));
    memset(tape->d_gated, 0, all * wide * sizeof *tape->d_gated);
    memset(tape->d_gathered, 0, all * hidden * sizeof *tape->d_gathered);
    for (size_t e = 0; e < experts; e++) {
        size_t row = tape->begin[e], rows = tape->begin[e + 1] - row;
        if (rows)
            HT_TRY(ht_tape_project_back(tape, HT_SITE_DOWN, e, tape->gated + row * wide, row, rows,
                                        tape->expert_out + row * hidden, hidden, tape->d_gated + row * wide));
    }
    HT_TRY(ht_for_rows(tape->ctx, all, gate_some_back, tape));
    for (size_t e = 0; e < experts; e++) {
        size_t row = tape->begin[e], rows = tape->begin[e + 1] - row;
        if (rows)
            HT_TRY(ht_tape_project_back(tape, HT_SITE_GATE_UP, e, tape->gathered + row * hidden, row, rows,
                                        tape->d_gate_up + row * layer->gate_up.width, layer->gate_up.width,
                                        tape->d_gathered + row * hidden));
    }
    HT_TRY(ht_for_rows(tape->ctx, tape->rows, scatter_some, &scatter));
    return ht_tape_project_back(tape, HT_SITE_ROUTER, 0, tape->mlp_normed, 0, tape->rows, tape->d_logits, experts,
                                d_normed);
}

/* --- both --------------------------------------------------------------------------------------------------------- */

ht_status ht_tape_mlp(ht_tape *tape) {
    size_t hidden = tape->model->config.hidden, width = tape->layer->gate_up.width;
    if (tape->layer->sparse)
        return run_experts(tape);
    HT_TRY(ht_tape_project(tape, HT_SITE_GATE_UP, 0, tape->mlp_normed, 0, tape->rows, tape->gate_up, width));
    HT_TRY(ht_gate_rows(tape->model, tape->layer, tape->gate_up, tape->rows, tape->gated));
    return ht_tape_project(tape, HT_SITE_DOWN, 0, tape->gated, 0, tape->rows, tape->mlp, hidden);
}

ht_status ht_tape_mlp_back(ht_tape *tape, const float *d_mlp, float *d_normed) {
    size_t hidden = tape->model->config.hidden, width = tape->layer->gate_up.width;
    if (tape->layer->sparse)
        return run_experts_back(tape, d_mlp, d_normed);
    memset(tape->d_gated, 0, tape->rows * (width / 2) * sizeof *tape->d_gated);
    HT_TRY(ht_tape_project_back(tape, HT_SITE_DOWN, 0, tape->gated, 0, tape->rows, d_mlp, hidden, tape->d_gated));
    HT_TRY(ht_for_rows(tape->ctx, tape->rows, gate_some_back, tape));
    return ht_tape_project_back(tape, HT_SITE_GATE_UP, 0, tape->mlp_normed, 0, tape->rows, tape->d_gate_up, width,
                                d_normed);
}
