/* Quantizing a checkpoint from end to end: open, plan, run, describe, put into place.
 *
 * The writer owns atomicity and resuming (halftone/checkpoint.h); here the steps are put in their order and config.json
 * is made: what is quantized and how, which linears are not, and under quantization_config.halftone the recipe itself,
 * so that the result says how it came about.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <limits.h>   /* PATH_MAX */
#include <stdint.h>   /* SIZE_MAX */
#include <stdio.h>    /* snprintf */
#include <stdlib.h>   /* free */
#include <string.h>   /* strlen, strrchr */
#include <sys/stat.h> /* stat */

#include <jansson.h>

#include "base/context.h"
#include "base/status.h"
#include "io/writer.h"
#include "quant/calibrate/input_scales.h"
#include "quant/driver.h"
#include "quant/transform/stage.h"

/* Of every shard. */
static const char *const output_metadata[] = {"format", "pt", NULL};

/* JSON text of how the result came about; to be freed. NULL when out of memory. */
static char *make_record(const ht_plan *plan, const ht_quantize_options *options) {
    json_t *record = json_pack("{s:s, s:s}", "version", ht_version(), "recipe", plan->recipe->text);
    if (record && options->scale_rule != HT_SCALE_DEFAULT)
        json_object_set_new(record, "scale_rule",
                            json_string(ht_option_value_name(HT_OPTION_SCALE_RULE, (int)options->scale_rule)));
    if (record && options->scale_dtype == HT_BF16)
        json_object_set_new(record, "scale_dtype", json_string("bf16"));
    if (record && *plan->recipe->presets)
        json_object_set_new(record, "presets", json_string(plan->recipe->presets));
    char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
    json_decref(record);
    return text;
}

/* A matrix that a reader would take for a linear it may expect to be quantized. */
static int is_kept_linear(const ht_job *job) {
    if (job->layout || job->parameter->rank < 2 || job->parameter->rank > 3)
        return 0;
    return job->class != HT_CLASS_EMBEDDING && job->class != HT_CLASS_NORM && job->class != HT_CLASS_BIAS &&
           job->class != HT_CLASS_CONVOLUTION;
}

ht_status ht_plan_config(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                         ht_text *out) {
    ht_arena arena;
    ht_arena_init(&arena, plan->ctx);
    ht_profile_request *requests = ht_arena_alloc(&arena, plan->count * sizeof *requests + 1);
    const char **ignored = ht_arena_alloc(&arena, plan->count * sizeof *ignored + 1);
    char *record = make_record(plan, options);
    size_t quantized = 0, kept = 0;
    ht_status status = HT_OK;
    if (!requests || !ignored)
        status = HT_ERR_MEMORY;
    else if (!record)
        status = ht_fail(HT_ERR_MEMORY, "config: the system has no memory left, or the recipe is not UTF-8");
    for (size_t i = 0; i < plan->count && status == HT_OK; i++) {
        const ht_job *job = &plan->job[i];
        if (job->layout)
            requests[quantized++] = ht_job_request(job);
        else if (is_kept_linear(job))
            ignored[kept++] = job->parameter->name;
    }
    if (status == HT_OK)
        status = ht_profile_config(plan->profile, ht_checkpoint_config(checkpoint), requests, quantized, ignored, kept,
                                   record, out);
    free(record);
    ht_arena_release(&arena);
    return status;
}

/* What the directory of the output takes. */
ht_status ht_plan_output_bytes(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                               uint64_t *out) {
    ht_arena arena;
    ht_text config = {0}, index = {0};
    ht_shard_layout layout;
    ht_arena_init(&arena, plan->ctx);
    ht_status status = ht_sidecars_bytes(checkpoint, out);
    if (status == HT_OK)
        status = ht_plan_config(plan, checkpoint, options, &config);
    if (status == HT_OK)
        status = ht_shard_layout_make(&arena, plan->output, plan->output_count, options->shard_bytes, output_metadata,
                                      &layout);
    if (status == HT_OK && layout.shard_count > 1)
        status = ht_shard_index(&layout, &index);
    for (size_t i = 0; status == HT_OK && i < layout.shard_count; i++)
        *out += layout.shards[i].bytes;
    *out += config.length + index.length;
    ht_text_free(&config);
    ht_text_free(&index);
    ht_arena_release(&arena);
    return status;
}

/* Scales of inputs that are the same for all of them, before anything else. */
static ht_status find_input_scales(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *plan,
                                   const ht_checkpoint_writer *writer) {
    ht_model *model;
    if (ht_input_scales_wanted(plan) == SIZE_MAX)
        return HT_OK;
    HT_TRY(ht_model_open(ctx, ht_checkpoint_path(checkpoint), &model));
    ht_status status = ht_samples_check(&plan->samples, model->config.context, model->config.vocabulary,
                                        ht_checkpoint_path(checkpoint), plan->calibration.data);
    if (status == HT_OK)
        status = ht_input_scales_measure(model, plan, writer->staging);
    ht_model_close(model);
    return status;
}

static ht_status write_all(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *plan,
                           const ht_quantize_options *options, ht_checkpoint_writer *writer) {
    ht_text config = {0}; /* first: a run that goes on reads finished blocks back from the staged files */
    ht_status status = ht_plan_config(plan, checkpoint, options, &config);
    if (status == HT_OK)
        status = ht_checkpoint_writer_file(writer, "config.json", config.data, config.length);
    ht_text_free(&config);
    HT_TRY(status);
    HT_TRY(ht_writer_index(writer));
    HT_TRY(find_input_scales(ctx, checkpoint, plan, writer));
    HT_TRY(ht_run_plan(ctx, checkpoint, plan, options, writer));
    HT_TRY(ht_checkpoint_writer_sidecars(writer, checkpoint));
    HT_TRY(ht_context_check_cancelled(ctx));
    return ht_checkpoint_writer_commit(writer);
}

int ht_run_will_fail_again(ht_status status) {
    return status == HT_ERR_NUMERIC || status == HT_ERR_UNSUPPORTED || status == HT_ERR_CORRUPT ||
           status == HT_ERR_SHAPE || status == HT_ERR_FORMAT || status == HT_ERR_ARGUMENT;
}

/* What is there is no reason to keep it: the run can only fail again, or had not the memory to finish a tensor. */
static int is_worthless(ht_status status, const ht_plan *plan, const ht_checkpoint_writer *writer) {
    if (status != HT_ERR_MEMORY || !writer)
        return ht_run_will_fail_again(status);
    size_t i = 0;
    while (i < plan->output_count && !ht_checkpoint_writer_is_done(writer, i))
        i++;
    return i == plan->output_count;
}

/* Calibration text, where a method needs one or one is given. */
static ht_status read_samples(ht_plan *plan, const ht_checkpoint *checkpoint) {
    const ht_calibration *how = &plan->calibration;
    size_t wanted = ht_input_scales_wanted(plan);
    if (wanted != SIZE_MAX && !how->data)
        return ht_fail(HT_ERR_ARGUMENT, "scheme %s takes the scale of its inputs from text: give one with --data FILE",
                       plan->job[wanted].scheme.name);
    for (size_t i = 0; i < plan->count && !how->data; i++) {
        const ht_job *job = &plan->job[i];
        for (int stage = HT_STAGE_REFINE; job->layout && stage <= (int)HT_STAGE_ROUND; stage++) {
            const ht_method *method = job->rule->chain.stage[stage];
            if (method && method->needs_data)
                return ht_fail(HT_ERR_ARGUMENT, "method %s chooses by calibration text: give one with --data FILE",
                               method->item.name);
        }
    }
    return how->data ? ht_samples_read(ht_checkpoint_path(checkpoint), how, &plan->arena, &plan->samples) : HT_OK;
}

static ht_status quantize(ht_context *ctx, const ht_checkpoint *checkpoint, const char *output,
                          const ht_quantize_options *options, ht_plan **out_plan) {
    ht_plan *plan;
    HT_TRY(ht_plan_create(ctx, checkpoint, options, &plan));
    ht_text fingerprint = {0};
    ht_checkpoint_writer *writer = NULL;
    ht_status status = read_samples(plan, checkpoint);
    if (status == HT_OK)
        status = ht_run_fingerprint(plan, checkpoint, options, &fingerprint);
    if (status == HT_OK) {
        ht_writer_options how = {.shard_bytes = options->shard_bytes,
                                 .resume = options->resume,
                                 .fingerprint = fingerprint.data,
                                 .metadata = output_metadata,
                                 .overwrite = options->overwrite};
        status = ht_checkpoint_writer_create(ctx, output, plan->output, plan->output_count, &how, &writer);
    }
    if (status == HT_OK)
        status = write_all(ctx, checkpoint, plan, options, writer);
    ht_run_report_sort(&plan->report);
    if (is_worthless(status, plan, writer))
        ht_checkpoint_writer_discard(writer);
    else
        ht_checkpoint_writer_destroy(writer);
    ht_text_free(&fingerprint);
    if (status == HT_OK && out_plan)
        *out_plan = plan;
    else
        ht_plan_destroy(plan);
    return status;
}

/* Replacing the input by its own smaller copy would throw the float weights away: never, not even with overwrite. */
static ht_status check_apart(const ht_checkpoint *checkpoint, const char *output) {
    struct stat in, out;
    const char *path = ht_checkpoint_path(checkpoint), *slash = strrchr(path, '/');
    char folder[PATH_MAX] = ".";
    if (stat(path, &in) == 0 && !S_ISDIR(in.st_mode)) {
        if (slash && (size_t)(slash - path) < sizeof folder)
            snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
        path = folder;
    }
    if (stat(path, &in) != 0 || stat(output, &out) != 0 || in.st_dev != out.st_dev || in.st_ino != out.st_ino)
        return HT_OK;
    return ht_fail(HT_ERR_OUTPUT,
                   "%s: holds the input itself, which stays as it is: choose another name for the output", output);
}

int ht_run_has_begun(const char *output) {
    struct stat info;
    char journal[PATH_MAX];
    return snprintf(journal, sizeof journal, "%s/.halftone/journal", output) < PATH_MAX && stat(journal, &info) == 0;
}

/* Transform first, then quantize what has come of it. */
static ht_status quantize_stage(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *of_input, const char *output,
                                const ht_quantize_options *options, ht_plan **out_plan) {
    ht_text path = {0};
    ht_checkpoint *stage;
    HT_TRY(ht_stage_make(ctx, checkpoint, of_input, options, output, &path));
    ht_status status = ht_checkpoint_open(ctx, path.data, &stage);
    if (status == HT_OK) {
        status = quantize(ctx, stage, output, options, out_plan);
        ht_checkpoint_close(stage);
    }
    if (status == HT_OK || ht_run_will_fail_again(status) || (status == HT_ERR_MEMORY && !ht_run_has_begun(output)))
        ht_stage_remove(path.data);
    if (status == HT_OK && out_plan)
        ht_stage_restate(*out_plan, of_input);
    ht_text_free(&path);
    return ht_run_will_fail_again(status) ? ht_fail_prefix(status, "%s, transformed", ht_checkpoint_path(checkpoint))
                                          : status;
}

ht_status ht_quantize_checkpoint(ht_context *ctx, const char *input, const char *output,
                                 const ht_quantize_options *options, ht_plan **out_plan) {
    if (out_plan)
        *out_plan = NULL;
    ht_checkpoint *checkpoint;
    HT_TRY(ht_checkpoint_open(ctx, input, &checkpoint));
    ht_plan *plan = NULL;
    ht_status status = check_apart(checkpoint, output);
    if (status == HT_OK)
        status = ht_plan_create(ctx, checkpoint, options, &plan);
    if (status == HT_OK && ht_stage_needed(plan))
        status = quantize_stage(ctx, checkpoint, plan, output, options, out_plan);
    else if (status == HT_OK)
        status = quantize(ctx, checkpoint, output, options, out_plan);
    ht_plan_destroy(plan);
    ht_checkpoint_close(checkpoint);
    return status;
}
