/* Plans: a recipe applied to the headers of a checkpoint. No tensor data is read.
 *
 * For every parameter: classify, find the deciding rule, resolve its options, ask the profile for a layout. What cannot
 * be had is kept with the reason, or, with `strict`, refused as a whole. Output tensors are listed in the order in
 * which they will be written: parameters by name, each with its components.
 *
 * Refused: checkpoints that are quantized already (the error of two roundings adds up: start from the float model),
 * recipes under which nothing gets quantized.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/plan.h"

#include <math.h>   /* NAN */
#include <string.h> /* strlen */

#include "base/status.h"
#include "quant/driver.h"
#include "quant/transform/input_blocks.h"
#include "quant/method/prune.h"
#include "quant/transform/stage.h"

ht_quantize_options ht_quantize_options_default(void) {
    return (ht_quantize_options){.scale_dtype = HT_F32};
}

ht_profile_request ht_job_request(const ht_job *job) {
    const ht_parameter *parameter = job->parameter;
    ht_profile_request request = {.name = parameter->name,
                                  .rank = parameter->rank,
                                  .batch = parameter->weight.batch,
                                  .rows = parameter->weight.rows,
                                  .cols = parameter->weight.cols,
                                  .weight = job->layout ? job->layout->format : job->scheme.weight,
                                  .has_input = job->scheme.has_input,
                                  .input = job->scheme.input,
                                  .input_rule = job->scheme.input_rule,
                                  .static_scale =
                                      job->scheme.input_range != HT_INPUT_DYNAMIC ? &job->input_scale : NULL,
                                  .inputs = job->inputs,
                                  .has_input_scale = job->has_input_scale,
                                  .scheme = job->scheme.name,
                                  .method = job->rule->chain.name,
                                  .scale_rule = job->row.scale_rule};
    if (job->class == HT_CLASS_LINEAR || job->class == HT_CLASS_EXPERT) /* others have no inputs to go by */
        ht_sparsity_name(&job->settings, request.sparsity);
    return request;
}

/* --- One parameter ---------------------------------------------------------------------------------------- */

static int is_float(ht_dtype dtype) {
    return dtype == HT_BF16 || dtype == HT_F16 || dtype == HT_F32;
}

static uint64_t stored_bytes(const ht_checkpoint *checkpoint, const ht_parameter *parameter) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < parameter->stored_count; i++)
        bytes += ht_checkpoint_tensor(checkpoint, parameter->stored[i])->bytes;
    return bytes;
}

ht_status ht_plan_refuse(ht_plan *plan, size_t index, const char *reason) {
    const char *copy = ht_arena_string(&plan->arena, reason, strlen(reason));
    if (!copy)
        return HT_ERR_MEMORY;
    plan->job[index].layout = NULL;
    plan->tensor[index].reason = copy;
    return HT_OK;
}

/* Options in force: what the call says, then the rule, then the recipe's defaults. MX weights search unless told. */
static ht_status resolve_options(ht_plan *plan, ht_job *job, const ht_rule_options *call) {
    job->options = ht_rule_options_merge(call, &job->rule->options);
    job->options = ht_rule_options_merge(&job->options, &plan->recipe->options);
    job->scheme = job->rule->scheme;
    ht_rule_options_apply(&job->options, &job->scheme, &job->row);
    job->settings = ht_settings_merge(&job->rule->settings, &plan->recipe->settings);
    job->settings = ht_settings_resolve(&job->settings, job->rule->chain.name);
    if (job->scheme.weight.family == HT_FAMILY_MX && job->row.scale_rule == HT_SCALE_DEFAULT)
        job->row.scale_rule = HT_SCALE_MSE;
    if (ht_chain_fits(&job->rule->chain, &job->scheme, &job->settings) != HT_OK)
        return ht_fail_prefix(HT_ERR_ARGUMENT, "%s", job->rule->place);
    return HT_OK;
}

/* What is done to the inputs: as the checkpoint says, and as the transforms will have it that are still to come. */
static ht_status expect_inputs(ht_plan *plan, ht_job *job) {
    const ht_chain *chain = &job->rule->chain;
    job->inputs = job->parameter->weight.inputs;
    job->has_input_scale = job->inputs.scale != NULL;
    if (job->parameter->rank != 2 && job->parameter->rank != 3)
        return HT_OK;
    if (!plan->staged)
        job->has_input_scale |=
            chain->stage[HT_STAGE_SCALE] && job->settings.value[HT_SETTING_PLACEMENT] == HT_PLACEMENT_APPLY;
    if (!plan->staged && chain->stage[HT_STAGE_INPUTS] && !job->inputs.block)
        HT_TRY(ht_input_block(job, &job->inputs.block));
    const ht_profile_request request = ht_job_request(job);
    return ht_profile_check_inputs(plan->profile, &request);
}

static ht_status lay_out(ht_plan *plan, size_t index) {
    ht_job *job = &plan->job[index];
    const ht_parameter *parameter = job->parameter;
    if (parameter->rank != 2 && parameter->rank != 3)
        return ht_plan_refuse(plan, index, "not a matrix, nor a batch of matrices");
    if (!is_float(parameter->weight.format.element))
        return ht_plan_refuse(plan, index, "not bf16, f16 or f32");
    if (!parameter->weight.batch || !parameter->weight.rows || !parameter->weight.cols)
        return ht_plan_refuse(plan, index, "empty");
    ht_layout *layout = ht_arena_alloc(&plan->arena, sizeof *layout);
    if (!layout)
        return HT_ERR_MEMORY;
    ht_profile_request request = ht_job_request(job);
    ht_status status = ht_profile_layout(plan->profile, &request, &plan->arena, layout);
    if (status == HT_OK) {
        job->layout = layout;
        ht_slice_prepare(job);
    } else if (status == HT_ERR_UNSUPPORTED || status == HT_ERR_SHAPE || status == HT_ERR_FORMAT)
        status = ht_plan_refuse(plan, index, ht_error_message());
    return status;
}

static ht_status decide(ht_plan *plan, size_t index, const ht_rule_options *call) {
    ht_job *job = &plan->job[index];
    ht_plan_tensor *tensor = &plan->tensor[index];
    *tensor =
        (ht_plan_tensor){.name = ht_arena_string(&plan->arena, job->parameter->name, strlen(job->parameter->name)),
                         .asked = !job->rule        ? ""
                                  : job->rule->keep ? "keep"
                                                    : job->rule->scheme.name,
                         .reason = "",
                         .method = "",
                         .fallback = "",
                         .loss = (double)NAN,
                         .rtn_loss = (double)NAN};
    if (!tensor->name)
        return HT_ERR_MEMORY;
    job->shared = index;
    if (!job->rule)
        tensor->reason = job->class == HT_CLASS_LINEAR || job->class == HT_CLASS_EXPERT
                             ? "no rule of the recipe names it"
                             : ht_class_reason(job->class);
    if (!job->rule || job->rule->keep)
        return HT_OK;
    HT_TRY(resolve_options(plan, job, call));
    HT_TRY(expect_inputs(plan, job));
    return lay_out(plan, index);
}

/* --- The whole -------------------------------------------------------------------------------------------- */

static ht_status check_float_input(const ht_checkpoint *checkpoint) {
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(checkpoint, i);
        char name[64];
        if (!parameter->quantized)
            continue;
        ht_format_name(&parameter->weight.format, name, sizeof name);
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s is quantized already (%s); start from the float checkpoint",
                       ht_checkpoint_path(checkpoint), parameter->name, name);
    }
    return HT_OK;
}

/* Options that the call itself sets; they must mean something to at least one rule. */
static ht_status call_options(const ht_plan *plan, const ht_quantize_options *options, ht_rule_options *out) {
    *out = ht_rule_options_unset();
    if (options->scale_rule != HT_SCALE_DEFAULT)
        out->value[HT_OPTION_SCALE_RULE] = (int)options->scale_rule;
    if (options->scale_dtype == HT_BF16)
        out->value[HT_OPTION_SCALE_DTYPE] = HT_BF16;
    else if (options->scale_dtype != HT_F32 && options->scale_dtype != HT_DTYPE_NONE)
        return ht_fail(HT_ERR_ARGUMENT, "scales cannot be stored as %s; allowed: f32, bf16",
                       ht_dtype_name(options->scale_dtype));
    ht_status status = HT_OK;
    for (size_t i = 0; i < plan->recipe->count; i++) {
        const ht_rule *rule = &plan->recipe->rule[i];
        if (rule->keep)
            continue;
        status = ht_rule_options_check(out, &rule->scheme);
        if (status == HT_OK)
            break;
    }
    return status;
}

static ht_status open_recipe(ht_plan *plan, const ht_quantize_options *options) {
    const char *text = options->recipe_text;
    int given = (options->scheme != NULL) + (options->recipe_path != NULL) + (text != NULL);
    if (given != 1)
        return ht_fail(HT_ERR_ARGUMENT, "give %s a scheme or a recipe",
                       given ? "either, not both:" : "one of the two:");
    if (options->scheme)
        return ht_recipe_for_settings(plan->ctx, options->scheme, options->method, options->set, &plan->recipe);
    return text ? ht_recipe_parse(plan->ctx, text, strlen(text), &plan->recipe)
                : ht_recipe_open(plan->ctx, options->recipe_path, &plan->recipe);
}

static ht_status choose(ht_plan *plan, const ht_quantize_options *options) {
    HT_TRY(open_recipe(plan, options));
    const char *place = plan->recipe->source;
    if (!options->scheme && options->method)
        return ht_fail(HT_ERR_ARGUMENT, "the method is the recipe's business: write `method: %s` in %s",
                       options->method, place);
    if (!options->scheme && options->set && options->set[0])
        return ht_fail(HT_ERR_ARGUMENT, "settings are the recipe's business: write them under `options:` in %s", place);
    const char *profile = options->profile ? options->profile : plan->recipe->profile;
    HT_TRY(ht_profile_find(profile ? profile : "compressed-tensors", &plan->profile));
    if (!plan->profile->layout)
        return ht_fail(HT_ERR_UNSUPPORTED, "profile %s can be read, not written", plan->profile->name);
    return HT_OK;
}

static ht_status decide_all(ht_plan *plan, const ht_checkpoint *checkpoint, const ht_rule_options *call) {
    ht_arena scratch;
    ht_arena_init(&scratch, plan->ctx);
    ht_class *classes = ht_arena_alloc(&scratch, plan->count * sizeof *classes + 1);
    const ht_rule **rules = ht_arena_alloc(&scratch, plan->count * sizeof *rules + 1);
    ht_status status = classes && rules ? HT_OK : HT_ERR_MEMORY;
    for (size_t i = 0; i < plan->count && status == HT_OK; i++)
        classes[i] = ht_classify(checkpoint, ht_checkpoint_parameter(checkpoint, i));
    if (status == HT_OK)
        status = ht_recipe_apply(plan->recipe, checkpoint, classes, rules);
    for (size_t i = 0; i < plan->count && status == HT_OK; i++) {
        plan->job[i] =
            (ht_job){.parameter = ht_checkpoint_parameter(checkpoint, i), .class = classes[i], .rule = rules[i]};
        status = decide(plan, i, call);
    }
    ht_arena_release(&scratch);
    return status;
}

/* Output tensors of every job, and the public rows' sizes. */
static ht_status list_outputs(ht_plan *plan, const ht_checkpoint *checkpoint) {
    size_t count = 0;
    for (size_t i = 0; i < plan->count; i++)
        count += plan->job[i].layout ? plan->job[i].layout->count : plan->job[i].parameter->stored_count;
    plan->output = ht_arena_alloc(&plan->arena, count * sizeof *plan->output + 1);
    if (!plan->output)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < plan->count; i++) {
        ht_job *job = &plan->job[i];
        ht_plan_tensor *tensor = &plan->tensor[i];
        job->first = plan->output_count;
        tensor->bytes_before = stored_bytes(checkpoint, job->parameter);
        for (size_t c = 0; job->layout && c < job->layout->count; c++) {
            ht_output_tensor *output = &plan->output[plan->output_count++];
            *output = job->layout->component[c].tensor;
            ht_tensor view = ht_tensor_view(NULL, output->dtype, output->rank, output->shape);
            tensor->bytes_after += ht_tensor_bytes(&view);
        }
        for (size_t s = 0; !job->layout && s < job->parameter->stored_count; s++) {
            const ht_stored_tensor *stored = ht_checkpoint_tensor(checkpoint, job->parameter->stored[s]);
            ht_output_tensor *output = &plan->output[plan->output_count++];
            *output = (ht_output_tensor){.name = ht_arena_string(&plan->arena, stored->name, strlen(stored->name)),
                                         .dtype = stored->dtype,
                                         .rank = stored->rank};
            if (!output->name)
                return HT_ERR_MEMORY;
            memcpy(output->shape, stored->shape, sizeof output->shape);
            tensor->bytes_after += stored->bytes;
        }
        job->count = plan->output_count - job->first;
    }
    return HT_OK;
}

/* Who else does to the inputs what the result asks for: nobody to those of experts, or by scales. */
static void note_inputs(ht_plan *plan) {
    ht_plan_summary *summary = &plan->summary;
    int own = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const ht_job *job = &plan->job[i];
        if (!job->layout || !(job->inputs.block || job->has_input_scale))
            continue;
        summary->transformed++;
        own |= job->has_input_scale || job->class == HT_CLASS_EXPERT;
    }
    if (summary->transformed)
        summary->readers = own ? "" : plan->profile->transform_readers;
}

static void summarize(ht_plan *plan) {
    ht_plan_summary *summary = &plan->summary;
    double bits = 0, values = 0;
    for (size_t i = 0; i < plan->count; i++) {
        ht_job *job = &plan->job[i];
        ht_plan_tensor *tensor = &plan->tensor[i];
        const ht_weight *weight = &job->parameter->weight;
        int asked = job->rule && !job->rule->keep;
        tensor->got = job->layout ? job->scheme.name : ht_dtype_name(weight->format.element);
        tensor->method = job->layout ? job->rule->chain.name : "";
        tensor->error = job->layout ? (double)NAN : 0;
        summary->bytes_before += tensor->bytes_before;
        summary->bytes_after += tensor->bytes_after;
        summary->quantized += job->layout != NULL;
        summary->kept += !job->layout && !asked;
        summary->refused += !job->layout && asked;
        if (job->layout) {
            bits += 8.0 * (double)tensor->bytes_after;
            values += (double)weight->batch * (double)weight->rows * (double)weight->cols;
        }
    }
    summary->bits_per_weight = values > 0 ? bits / values : 0;
    note_inputs(plan);
}

/* Nothing quantized, or, when strict, anything refused: say what and why. */
static ht_status check_refused(const ht_plan *plan, const ht_checkpoint *checkpoint, int strict) {
    if (!plan->summary.refused)
        return HT_OK;
    size_t first = 0;
    while (plan->job[first].layout || !plan->job[first].rule || plan->job[first].rule->keep)
        first++;
    const ht_plan_tensor *tensor = &plan->tensor[first];
    if (!plan->summary.quantized)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: none of the %zu tensors asked for can be quantized; %s: %s",
                       ht_checkpoint_path(checkpoint), plan->summary.refused, tensor->name, tensor->reason);
    if (strict)
        return ht_fail(HT_ERR_POLICY, "%s: %zu tensors cannot get what was asked (strict); the first: %s, asked %s: %s",
                       ht_checkpoint_path(checkpoint), plan->summary.refused, tensor->name, tensor->asked,
                       tensor->reason);
    return HT_OK;
}

static ht_status fill(ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options) {
    HT_TRY(check_float_input(checkpoint));
    HT_TRY(choose(plan, options));
    HT_TRY(ht_calibration_resolve(&options->calibration, &plan->recipe->calibration, &plan->calibration));
    ht_rule_options call;
    HT_TRY(call_options(plan, options, &call));
    plan->count = ht_checkpoint_parameter_count(checkpoint);
    plan->staged = ht_stage_mark(checkpoint) != NULL;
    plan->job = ht_arena_alloc(&plan->arena, plan->count * sizeof *plan->job + 1);
    plan->tensor = ht_arena_alloc(&plan->arena, plan->count * sizeof *plan->tensor + 1);
    if (!plan->job || !plan->tensor)
        return HT_ERR_MEMORY;
    HT_TRY(decide_all(plan, checkpoint, &call));
    HT_TRY(ht_plan_join_groups(plan));
    HT_TRY(list_outputs(plan, checkpoint));
    summarize(plan);
    HT_TRY(check_refused(plan, checkpoint, options->strict));
    ht_run_estimate(plan, options);
    return HT_OK;
}

ht_status ht_plan_create(ht_context *ctx, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                         ht_plan **out) {
    *out = NULL;
    ht_plan *plan;
    HT_TRY(ht_allocate(ctx, 1, sizeof *plan, "plan", &plan));
    plan->ctx = ctx;
    ht_arena_init(&plan->arena, ctx);
    ht_run_report_init(&plan->report, &plan->arena);
    ht_status status = fill(plan, checkpoint, options);
    if (status != HT_OK) {
        ht_plan_destroy(plan);
        return status;
    }
    *out = plan;
    return HT_OK;
}

void ht_plan_destroy(ht_plan *plan) {
    if (!plan)
        return;
    ht_context *ctx = plan->ctx;
    ht_recipe_close(plan->recipe);
    ht_arena_release(&plan->arena);
    ht_release(ctx, plan);
}

size_t ht_plan_count(const ht_plan *plan) {
    return plan->count;
}

const ht_plan_tensor *ht_plan_at(const ht_plan *plan, size_t index) {
    return index < plan->count ? &plan->tensor[index] : NULL;
}

ht_plan_summary ht_plan_summarize(const ht_plan *plan) {
    return plan->summary;
}
