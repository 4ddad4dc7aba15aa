/* AutoRound: the codes of a block are moved together until the block's output is near the float model's.
 *
 *     rows before the block ----> block of rounded latents (latent.h) ----> output      loss: mean squared difference
 *     float rows behind it  ------------------------------------------------'                 |
 *     latents  -= rate * step * gradient's size  <-------- back (model/block_gradient.h) -----'
 *
 * `iterations` steps of `batch` samples each, the rate falling from `rate` to 0 in a line; 0: half over iterations, so
 * that a latent can move by a quarter of a step in all. Gradients run on with `momentum`. Every few steps the loss is
 * taken on samples that the steps do not see (held out; without any, on the first ones) and the planes keep the codes
 * that had the least, those of the method before included. Samples are drawn by the seed, sums have one order: same
 * bytes for any number of threads. A block that cannot be run as f32 matrices keeps its codes and says why.
 * Source: arXiv:2309.05516 (roundings learned by block outputs; steps by size, not by sign alone, because they begin
 * at codes that are good already); algorithms specification, section 2.4.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/autoround.h"

#include <math.h>   /* INFINITY */
#include <string.h> /* memcpy */

#include "base/context.h"
#include "base/random.h"
#include "base/status.h"
#include "model/block_gradient.h"
#include "quant/decode.h"
#include "quant/calibrate/latent.h"
#include "quant/method/prune.h"

enum { LOOKS = 8, MOST_JUDGES = 16 }; /* times that the loss is taken; samples that it is taken of */

/* A matrix that is learned. */
typedef struct learned {
    size_t exchange, entry;
    ht_dense_linear *linear;
    ht_planes planes;
    ht_latent latent;
} learned;

typedef struct rounding {
    ht_calibrator *c;
    ht_dense_block block;
    ht_tape *tape;
    learned *matrix;
    size_t count;
    float *gradient; /* of all */
    float *y;        /* [length, hidden] */
    uint32_t *order; /* samples of this round through them */
    size_t drawn, iterations, batch;
    double rate, keep, best, first;
} rounding;

ht_status ht_autoround_accepts(const ht_scheme *scheme) {
    return ht_grid_supports(&scheme->weight);
}

static int wants(const ht_calibrator *c, size_t exchange) {
    return c->run->plan->job[c->exchange[exchange].job].rule->chain.stage[HT_STAGE_REFINE] != NULL;
}

int ht_autoround_wanted(const ht_calibrator *c) {
    for (size_t i = 0; i < c->exchange_count; i++)
        if (wants(c, i))
            return 1;
    return 0;
}

size_t ht_autoround_bytes(const ht_calibrator *c) {
    size_t bytes = 0;
    if (!ht_autoround_wanted(c))
        return 0;
    for (size_t i = 0; i < c->exchange_count; i++) {
        const ht_layout *layout = c->run->plan->job[c->exchange[i].job].layout;
        size_t one = layout->rows * layout->cols * sizeof(float);
        bytes += layout->batch * (2 * one + ht_latent_bytes(layout->rows, layout->cols));
    }
    return bytes + ht_tape_bytes(c->model, c->samples->length);
}

/* --- Opening ------------------------------------------------------------------------------------------------- */

static void list_matrices(rounding *r) {
    ht_calibrator *c = r->c;
    for (int site = 0; site < HT_SITE_COUNT; site++)
        for (size_t i = 0; i < r->block.experts[site] * r->block.parts[site]; i++) {
            size_t parts = r->block.parts[site];
            ht_block_linear at = ht_block_linear_at(c->model, c->layer, (ht_site)site, i / parts, i % parts);
            for (size_t e = 0; e < c->exchange_count; e++)
                if (c->exchange[e].job == at.parameter && wants(c, e))
                    r->matrix[r->count++] = (learned){.exchange = e,
                                                      .entry = at.entry,
                                                      .linear = &r->block.linear[site][i],
                                                      .planes = ht_weight_planes(&c->exchange[e].weight, at.entry)};
        }
}

static ht_status open_latent(rounding *r, learned *m, float *weight) {
    const ht_job *job = &r->c->run->plan->job[r->c->exchange[m->exchange].job];
    size_t rows = m->linear->rows, cols = m->linear->cols;
    HT_TRY(ht_read_rows(r->c->ctx, job->parameter, m->entry, 0, rows, weight));
    return ht_latent_create(r->c->ctx, &job->layout->format, &job->row, &m->planes, weight, rows, cols,
                            ht_sparsity_of(&job->settings).share > 0, &m->latent);
}

static ht_status open_latents(rounding *r) {
    size_t most = 0, total = 0;
    float *weight;
    for (size_t i = 0; i < r->count; i++) {
        size_t values = r->matrix[i].linear->rows * r->matrix[i].linear->cols;
        most = values > most ? values : most;
        total += values;
    }
    HT_TRY(ht_allocate(r->c->ctx, total, sizeof *r->gradient, "gradients of a block", &r->gradient));
    HT_TRY(ht_allocate_raw(r->c->ctx, most, sizeof *weight, "weights of a matrix", &weight));
    ht_status status = HT_OK;
    float *next = r->gradient;
    for (size_t i = 0; i < r->count && status == HT_OK; i++) {
        r->matrix[i].linear->gradient = next;
        next += r->matrix[i].linear->rows * r->matrix[i].linear->cols;
        status = open_latent(r, &r->matrix[i], weight);
    }
    ht_release(r->c->ctx, weight);
    return status;
}

static ht_status open_rounding(rounding *r) {
    ht_calibrator *c = r->c;
    const ht_samples *samples = c->samples;
    HT_TRY(ht_dense_block_open(c->model, c->layer, &r->block));
    HT_TRY(ht_allocate(c->ctx, c->matrix_count, sizeof *r->matrix, "matrices of a block", &r->matrix));
    list_matrices(r);
    const ht_settings *settings = &c->run->plan->job[c->exchange[r->matrix[0].exchange].job].settings;
    r->iterations = (size_t)settings->value[HT_SETTING_ITERATIONS];
    r->batch = (size_t)settings->value[HT_SETTING_BATCH];
    r->keep = settings->value[HT_SETTING_MOMENTUM];
    r->rate = settings->value[HT_SETTING_RATE] > 0 ? settings->value[HT_SETTING_RATE] : 0.5 / (double)r->iterations;
    HT_TRY(ht_tape_create(c->model, samples->length, &r->tape));
    HT_TRY(ht_allocate_raw(c->ctx, samples->length * c->model->config.hidden, sizeof *r->y, "rows of a block", &r->y));
    HT_TRY(ht_allocate(c->ctx, samples->count, sizeof *r->order, "order of samples", &r->order));
    for (size_t i = 0; i < samples->count; i++)
        r->order[i] = (uint32_t)i;
    return open_latents(r);
}

static void close_rounding(rounding *r) {
    for (size_t i = 0; i < r->count; i++)
        ht_latent_release(&r->matrix[i].latent);
    ht_release(r->c->ctx, r->order);
    ht_release(r->c->ctx, r->y);
    ht_release(r->c->ctx, r->gradient);
    ht_release(r->c->ctx, r->matrix);
    ht_tape_destroy(r->tape);
    ht_dense_block_close(&r->block);
}

/* --- Loss ---------------------------------------------------------------------------------------------------- */

/* y - aim takes the place of y; the sum of its squares, rows in order. */
static double subtract(float *y, const float *aim, size_t count) {
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        y[i] -= aim[i];
        sum += (double)y[i] * (double)y[i];
    }
    return sum;
}

/* A sample through the block; r->y is the difference. */
static ht_status run_sample(rounding *r, size_t sample, double *loss) {
    ht_calibrator *c = r->c;
    float *x, *aim;
    HT_TRY(ht_hidden_load(c->hidden, sample, &x));
    HT_TRY(ht_tape_forward(r->tape, &r->block, x, c->samples->length, r->y));
    HT_TRY(ht_hidden_load(c->hidden_float, sample, &aim));
    *loss += subtract(r->y, aim, c->hidden->values);
    return HT_OK;
}

/* Mean squared difference on what judges. */
static ht_status judge(rounding *r, double *loss) {
    const ht_samples *samples = r->c->samples;
    size_t first = samples->held_out ? samples->count : 0,
           count = samples->held_out ? samples->held_out : samples->count;
    count = count < MOST_JUDGES ? count : MOST_JUDGES;
    *loss = 0;
    for (size_t i = 0; i < count; i++)
        HT_TRY(run_sample(r, first + i, loss));
    *loss /= (double)(count * r->c->hidden->values);
    return HT_OK;
}

/* --- Steps --------------------------------------------------------------------------------------------------- */

/* The next sample; a new order when all were drawn. */
static size_t draw(rounding *r) {
    size_t count = r->c->samples->count, at = r->drawn++ % count;
    uint64_t seed = ht_context_seed(r->c->ctx), stream = 0x6175746f00000000u + r->c->layer;
    uint32_t other = (uint32_t)(at + ht_random_u32(seed, stream, r->drawn) % (count - at)), kept = r->order[at];
    r->order[at] = r->order[other];
    r->order[other] = kept;
    return r->order[at];
}

static ht_status round_all(rounding *r, float rate) {
    for (size_t i = 0; i < r->count; i++) {
        ht_dense_linear *linear = r->matrix[i].linear;
        HT_TRY(ht_latent_step(&r->matrix[i].latent, rate, (float)r->keep, linear->gradient, linear->weight));
    }
    return HT_OK;
}

static ht_status keep_if_best(rounding *r) {
    double loss;
    HT_TRY(judge(r, &loss));
    ht_log(r->c->ctx, HT_LOG_DEBUG, "block %zu: autoround: error of outputs %.5g", r->c->layer, loss);
    if (!(loss < r->best))
        return HT_OK;
    r->best = loss;
    for (size_t i = 0; i < r->count; i++)
        HT_TRY(ht_latent_store(&r->matrix[i].latent, &r->matrix[i].planes));
    return HT_OK;
}

static ht_status learn(rounding *r) {
    HT_TRY(judge(r, &r->best));
    r->first = r->best;
    size_t often = (r->iterations + LOOKS - 1) / LOOKS;
    for (size_t i = 0; i < r->iterations; i++) {
        double ignored = 0;
        HT_TRY(ht_context_check_cancelled(r->c->ctx));
        for (size_t b = 0; b < r->batch; b++) {
            HT_TRY(run_sample(r, draw(r), &ignored));
            HT_TRY(ht_tape_backward(r->tape, &r->block, r->y));
        }
        HT_TRY(round_all(r, (float)(r->rate * (double)(r->iterations - i) / (double)r->iterations)));
        if ((i + 1) % often == 0 || i + 1 == r->iterations)
            HT_TRY(keep_if_best(r));
    }
    return HT_OK;
}

/* --- The block ----------------------------------------------------------------------------------------------- */

static ht_status finish(rounding *r) {
    ht_calibrator *c = r->c;
    int better = r->best < r->first;
    ht_log(c->ctx, HT_LOG_INFO, "block %zu: autoround: error of outputs %.4g, was %.4g%s", c->layer, r->best, r->first,
           better ? "" : "; codes stay");
    if (!better)
        return HT_OK;
    for (size_t i = 0; i < r->count; i++)
        HT_TRY(ht_matrix_rewrite(c, &c->exchange[r->matrix[i].exchange], r->matrix[i].entry));
    for (size_t i = 0; i < c->exchange_count; i++)
        if (wants(c, i))
            HT_TRY(ht_exchange_renew(c, &c->exchange[i]));
    return HT_OK;
}

ht_status ht_autoround_block(ht_calibrator *c) {
    rounding r = {.c = c};
    double start = ht_seconds();
    ht_status status = open_rounding(&r);
    if (status == HT_ERR_UNSUPPORTED) {
        ht_log(c->ctx, HT_LOG_WARN, "autoround: %s; codes stay", ht_error_message());
        close_rounding(&r);
        return HT_OK;
    }
    if (status == HT_OK)
        status = learn(&r);
    if (status == HT_OK)
        status = finish(&r);
    close_rounding(&r);
    HT_TRY(status);
    return ht_run_report_stage(&c->run->plan->report, "autoround", ht_seconds() - start,
                               ht_context_memory_used(c->ctx));
}
