/* A calibrated run: the decoder block by block over the samples.
 *
 *     embed -> hidden [samples, length, hidden]
 *     block:   statistics of its inputs -> codes -> planes written, noted in the journal -> hidden of the next block
 *
 * The mode says which model the rows come through (docs/calibration.md). A block that an earlier run finished is read
 * back from the output and only passed through, so a run that goes on needs no state but what it wrote; its bytes are
 * those of a run without a stop, because forward, statistics and methods are each a function of their inputs alone.
 * Cancelling is asked for between blocks. Refuses models that cannot be run, and samples beyond the model's context.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/calibrate.h"

#include <math.h> /* isnan */
#include <string.h>

#include "base/context.h"
#include "base/status.h"
#include "io/writer.h"
#include "quant/calibrate/autoround.h"
#include "quant/decode.h"

enum { ALL_SITES = (1 << HT_SITE_COUNT) - 1 };
enum { GRADIENT_SAMPLES = 32 }; /* that curvature is taken of: G has few numbers beside their tokens */

/* Stages of a block in true-sequential mode. */
static const unsigned stages[] = {1 << HT_SITE_QKV, 1 << HT_SITE_O, 1 << HT_SITE_ROUTER | 1 << HT_SITE_GATE_UP,
                                  1 << HT_SITE_DOWN};
enum { STAGES = sizeof stages / sizeof *stages };

/* --- Opening ------------------------------------------------------------------------------------------------ */

static ht_status check_samples(const ht_calibrator *c) {
    const ht_decoder_config *config = &c->model->config;
    return ht_samples_check(c->samples, config->context, config->vocabulary, ht_checkpoint_path(c->run->checkpoint),
                            c->how->data);
}

/* Bytes that the open block takes at least, its statistics one by one. */
static size_t block_bytes(ht_calibrator *c) {
    size_t bytes = ht_matrix_bytes(c), statistics = 0, learning = ht_autoround_bytes(c);
    for (size_t i = 0; i < c->exchange_count; i++)
        bytes += ht_exchange_bytes(c, &c->exchange[i]);
    for (size_t i = 0; i < c->observed_count; i++) {
        size_t one = ht_moments_bytes(c->observed[i].cols, c->observed[i].what);
        statistics = one > statistics ? one : statistics;
    }
    bytes += statistics * (c->samples->held_out ? 2 : 1);
    return learning > bytes ? learning : bytes;
}

/* A limit that a block cannot keep is found before anything is written. */
static ht_status check_memory(ht_calibrator *c) {
    size_t limit = c->ctx->options.memory_limit, used = ht_context_memory_used(c->ctx), needed = block_bytes(c);
    if (!limit || ht_block_is_done(c) || (used < limit && needed <= limit - used))
        return HT_OK;
    return ht_fail(HT_ERR_MEMORY,
                   "%s: calibration of block %zu needs %zu bytes with %zu in use, memory limit is %zu: raise the limit "
                   "or use fewer threads",
                   ht_checkpoint_path(c->run->checkpoint), c->layer, needed, used, limit);
}

/* Which jobs are linears of blocks. Others whose method wants inputs are rounded, and say so. */
static ht_status mark_jobs(ht_calibrator *c) {
    ht_plan *plan = c->run->plan;
    c->apart = ht_arena_alloc(&c->run->arena, plan->count + 1);
    if (!c->apart)
        return HT_ERR_MEMORY;
    for (size_t l = 0; l < c->model->config.layers; l++) {
        ht_status status = ht_block_open(c, l);
        if (status == HT_OK)
            status = check_memory(c);
        for (size_t i = 0; i < c->exchange_count; i++)
            c->apart[c->exchange[i].job] = 1;
        c->matrices_total += status == HT_OK && !ht_block_is_done(c) ? c->matrix_count : 0;
        ht_block_close(c);
        HT_TRY(status);
    }
    for (size_t i = 0; i < plan->count; i++)
        if (plan->job[i].layout && !c->apart[i] && plan->job[i].rule->method->matrix)
            plan->tensor[i].fallback = "rtn: no linear of a decoder block, its inputs are not seen";
    c->run->apart = c->apart;
    return HT_OK;
}

static ht_status open_model(ht_calibrator *c, const char *path) {
    ht_status status = ht_model_open(c->ctx, path, &c->model);
    if (status != HT_OK)
        return ht_fail_prefix(status, "calibration runs the model");
    if (ht_checkpoint_parameter_count(c->model->checkpoint) != c->run->plan->count)
        return ht_fail(HT_ERR_IO, "%s: changed while it was read", path);
    HT_TRY(check_samples(c));
    return mark_jobs(c);
}

ht_status ht_calibrate_open(ht_run *run, const char *model, ht_calibrator **out) {
    ht_calibrator *c;
    *out = NULL;
    HT_TRY(ht_allocate(run->ctx, 1, sizeof *c, "calibration", &c));
    c->run = run;
    c->ctx = run->ctx;
    c->how = &run->plan->calibration;
    c->samples = &run->plan->samples;
    c->started = ht_seconds();
    ht_arena_init(&c->arena, c->ctx);
    ht_status status = open_model(c, model);
    if (status != HT_OK) {
        ht_calibrate_close(c);
        return status;
    }
    *out = c;
    return HT_OK;
}

void ht_calibrate_close(ht_calibrator *c) {
    if (!c)
        return;
    ht_block_close(c);
    ht_curvature_destroy(c->curvature);
    ht_hidden_destroy(c->hidden);
    ht_hidden_destroy(c->hidden_float);
    ht_sequence_destroy(c->sequence);
    ht_model_close(c->written);
    ht_model_close(c->model);
    ht_release(c->ctx, c->inputs);
    ht_release(c->ctx, c->turned[0]);
    ht_release(c->ctx, c->turned[1]);
    ht_release(c->ctx, c->paired);
    ht_release(c->ctx, c);
}

/* --- The rows before the first block ------------------------------------------------------------------------ */

/* Blocks up to the last that has something left to do: *end; to the last of them that was finished before: *finished.
 */
static ht_status find_work(ht_calibrator *c, size_t *end, size_t *finished, size_t *needed) {
    *end = *finished = *needed = 0;
    size_t done_before = 0;
    for (size_t l = 0; l < c->model->config.layers; l++) {
        HT_TRY(ht_block_open(c, l));
        size_t bytes = block_bytes(c);
        *needed = bytes > *needed ? bytes : *needed;
        if (!ht_block_is_done(c)) {
            *end = l + 1;
            *finished = done_before;
        }
        if (c->exchange_count && ht_block_is_done(c))
            done_before = l + 1;
        ht_block_close(c);
    }
    return HT_OK;
}

/* Scratch of a pass is made now, so that what is used afterwards is what a pass takes. */
static ht_status warm_up(ht_calibrator *c, size_t end) {
    size_t length = c->samples->length;
    float *x;
    HT_TRY(ht_block_sequence(c->model, length, &c->sequence));
    HT_TRY(ht_allocate_raw(c->ctx, length, c->model->config.hidden * sizeof *x, "hidden states of a sample", &x));
    int seen[2] = {0, 0}; /* dense, sparse */
    ht_status status = HT_OK;
    for (size_t l = 0; l < end && status == HT_OK; l++) {
        int sparse = c->model->layer[l].sparse != 0;
        if (seen[sparse]++)
            continue;
        status = ht_block_embed(c->model, c->samples->ids, length, x);
        if (status == HT_OK)
            status = ht_block_run(c->sequence, l, x, length, NULL);
    }
    ht_release(c->ctx, x);
    return status;
}

static ht_status embed_samples(ht_calibrator *c, size_t resident, ht_hidden **out) {
    const ht_samples *samples = c->samples;
    size_t count = samples->count + samples->held_out, values = samples->length * c->model->config.hidden;
    HT_TRY(ht_hidden_create(c->ctx, count, values, resident, c->run->writer->staging, out));
    c->run->plan->report.spilled_bytes += ht_hidden_spilled(*out);
    for (size_t s = 0; s < count; s++) {
        float *x;
        HT_TRY(ht_hidden_load(*out, s, &x));
        HT_TRY(ht_block_embed(c->model, samples->ids + s * samples->length, samples->length, x));
        HT_TRY(ht_hidden_store(*out, s));
    }
    return HT_OK;
}

/* Half of what the limit leaves is for hidden states, half for statistics beyond the least. */
static ht_status open_hidden(ht_calibrator *c, size_t needed) {
    size_t bytes = c->samples->length * c->model->config.hidden * sizeof(float), resident = SIZE_MAX;
    size_t limit = c->ctx->options.memory_limit, used = ht_context_memory_used(c->ctx), both = ht_float_needed(c);
    needed += limit / 16 + (1 + both) * bytes;
    if (limit)
        resident = (limit > used + needed ? limit - used - needed : 0) / 2 / (1 + both) / bytes;
    HT_TRY(embed_samples(c, resident, &c->hidden));
    return both ? embed_samples(c, resident, &c->hidden_float) : HT_OK;
}

/* --- Blocks ------------------------------------------------------------------------------------------------- */

static ht_status note_coverage(ht_calibrator *c) {
    size_t experts = c->model->config.experts, seen = 0;
    if (!c->model->layer[c->layer].sparse)
        return HT_OK;
    uint64_t *tokens = ht_arena_alloc(&c->arena, experts * sizeof *tokens);
    ht_text line = {0};
    if (!tokens)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < c->observed_count; i++)
        if (c->observed[i].site == HT_SITE_GATE_UP) {
            tokens[c->observed[i].expert] = c->observed[i].routed;
            seen++;
        }
    if (!seen)
        return HT_OK;
    for (size_t e = 0; e < experts; e++)
        ht_text_printf(&line, " %llu", (unsigned long long)tokens[e]);
    ht_log(c->ctx, HT_LOG_INFO, "block %zu: tokens by expert:%s", c->layer, line.data ? line.data : "");
    ht_text_free(&line);
    const ht_report_coverage row = {.block = c->layer, .experts = experts, .tokens = tokens};
    HT_TRY(ht_run_note_experts(c->run, &row));
    return ht_tally_log_experts(c->run, &row);
}

static ht_status put_finished(ht_calibrator *c) {
    for (size_t i = 0; i < c->exchange_count; i++)
        if (!c->exchange[i].remaining)
            HT_TRY(ht_exchange_put(c, &c->exchange[i]));
    return HT_OK;
}

static ht_status complete_block(ht_calibrator *c) {
    HT_TRY(note_coverage(c));
    for (size_t i = 0; i < c->exchange_count; i++) {
        ht_run *run = c->run;
        size_t job = c->exchange[i].job;
        HT_TRY(ht_run_complete(run, job));
        run->done += run->plan->tensor[job].bytes_before;
        ht_parameter_done_with(run->checkpoint, run->plan->job[job].parameter);
        ht_parameter_done_with(c->model->checkpoint, ht_checkpoint_parameter(c->model->checkpoint, job));
    }
    return HT_OK;
}

/* The float rows behind the block are what its codes are learned by. */
static ht_status refine_block(ht_calibrator *c) {
    HT_TRY(put_finished(c));
    HT_TRY(ht_float_propagate(c));
    return ht_autoround_block(c);
}

/* more: another block follows that has something to do. */
static ht_status work_on_block(ht_calibrator *c, int more) {
    int learn = ht_autoround_wanted(c);
    switch (c->how->mode) {
    case HT_CALIBRATE_NON_SEQUENTIAL:
        HT_TRY(ht_block_stage(c, ALL_SITES, more && !learn));
        HT_TRY(learn ? refine_block(c) : HT_OK);
        HT_TRY(complete_block(c));
        ht_exchange_show(c, 0);
        return more && learn ? ht_block_propagate(c, c->model, NULL, 1) : HT_OK;
    case HT_CALIBRATE_TRUE_SEQUENTIAL:
        for (size_t s = 0; s < STAGES; s++) {
            HT_TRY(ht_block_stage(c, stages[s], 0));
            HT_TRY(put_finished(c));
        }
        break;
    default:
        HT_TRY(ht_block_stage(c, ALL_SITES, 0));
        HT_TRY(put_finished(c));
    }
    HT_TRY(learn ? refine_block(c) : HT_OK);
    HT_TRY(complete_block(c));
    if (more && c->hidden_float && !learn)
        HT_TRY(ht_float_propagate(c));
    return more ? ht_block_propagate(c, c->model, NULL, 1) : HT_OK;
}

/* A block that is finished, or has nothing to quantize. */
static ht_status pass_block(ht_calibrator *c, int more) {
    int as_written = c->exchange_count && c->how->mode != HT_CALIBRATE_NON_SEQUENTIAL;
    if (more && c->hidden_float)
        HT_TRY(ht_float_propagate(c));
    return more ? ht_block_propagate(c, as_written ? c->written : c->model, NULL, 1) : HT_OK;
}

/* What an earlier run wrote is let go, with its scratch, behind the last block that it finished. */
static ht_status run_blocks(ht_calibrator *c, size_t end, size_t finished) {
    for (size_t l = 0; l < end; l++) {
        HT_TRY(ht_context_check_cancelled(c->ctx));
        if (l == finished) {
            ht_model_close(c->written);
            c->written = NULL;
        }
        HT_TRY(ht_block_open(c, l));
        int more = l + 1 < end;
        ht_status status = ht_block_is_done(c) ? pass_block(c, more) : work_on_block(c, more);
        ht_block_close(c);
        HT_TRY(status);
    }
    return HT_OK;
}

/* --- The whole ---------------------------------------------------------------------------------------------- */

/* What the matrices of a tensor have in sum. */
static ht_status sum_up(ht_plan *plan) {
    const ht_run_report *report = &plan->report;
    for (size_t i = 0; i < report->matrices; i++) {
        const ht_report_matrix *row = &report->matrix[i];
        ht_plan_tensor *tensor = &plan->tensor[row->tensor];
        tensor->loss = isnan(tensor->loss) ? row->loss : tensor->loss + row->loss;
        tensor->rtn_loss = isnan(tensor->rtn_loss) ? row->rtn_loss : tensor->rtn_loss + row->rtn_loss;
        tensor->damping = row->damping > tensor->damping ? row->damping : tensor->damping;
        tensor->tokens += row->tokens;
        tensor->dead_columns += row->dead_columns;
        tensor->saturated += row->saturated;
        if (!isnan(row->sparsity)) /* of matrices of one shape */
            tensor->sparsity += row->sparsity / (double)plan->job[row->tensor].layout->batch;
        if (!row->fallback || tensor->fallbacks++)
            continue;
        tensor->fallback = *tensor->fallback /* of its input scale */
                               ? ht_arena_printf(&plan->arena, "%s; %s", row->fallback, tensor->fallback)
                               : row->fallback;
        if (!tensor->fallback)
            return HT_ERR_MEMORY;
    }
    return HT_OK;
}

/* Gradients of the float model, for the matrices that are left and whose method asks. */
static ht_status measure_curvature(ht_calibrator *c) {
    const ht_plan *plan = c->run->plan;
    unsigned char *wanted;
    size_t count = 0;
    HT_TRY(ht_allocate(c->ctx, plan->count + 1, 1, "tensors", &wanted));
    for (size_t i = 0; i < plan->count; i++) {
        const ht_job *job = &plan->job[i];
        wanted[i] = job->layout && c->apart[i] && job->settings.value[HT_SETTING_FISHER] > 0;
        count += wanted[i];
    }
    ht_status status =
        count ? ht_curvature_measure(c->model, wanted, c->samples, GRADIENT_SAMPLES, &c->curvature) : HT_OK;
    ht_release(c->ctx, wanted);
    return status;
}

ht_status ht_calibrate_run(ht_calibrator *c) {
    const ht_samples *samples = c->samples;
    size_t end, finished, needed;
    HT_TRY(find_work(c, &end, &finished, &needed));
    if (end) {
        if (finished && c->how->mode != HT_CALIBRATE_NON_SEQUENTIAL)
            HT_TRY(ht_model_open(c->ctx, c->run->writer->files, &c->written));
        HT_TRY(warm_up(c, end));
        HT_TRY(measure_curvature(c));
        HT_TRY(open_hidden(c, needed));
        HT_TRY(run_blocks(c, end, finished));
    }
    HT_TRY(sum_up(c->run->plan));
    return ht_run_report_data(&c->run->plan->report, c->how->data, samples->count, samples->length,
                              (uint64_t)samples->count * samples->length);
}
