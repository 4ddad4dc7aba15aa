/* Block-diagonal Hadamard transforms of inputs: W' = W H, x' = x H, H one matrix for every block of a row.
 *
 * A block as large as the group that shares a scale spreads an outlier over its own group and no further, so groups
 * without one stay fine: what helps formats with small blocks, which rotations of whole rows hurt. The weights are
 * changed here, rows of inputs when the model runs (ops/input_transform.h); the product stays. Source: algorithms
 * specification, section 1.7 (MR-GPTQ, arXiv 2509.23202; block rotation, arXiv 2511.04214).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/input_blocks.h"

#include "base/status.h"
#include "model/block.h"
#include "ops/input_transform.h"

enum { LARGEST_BLOCK = 128 };

ht_status ht_input_block(const ht_job *job, size_t *block) {
    const ht_format *format = &job->scheme.weight;
    size_t cols = job->parameter->weight.cols, wanted = (size_t)job->settings.value[HT_SETTING_HADAMARD];
    *block = job->class == HT_CLASS_EMBEDDING ? 0 : wanted; /* looked up, not multiplied */
    if (job->class == HT_CLASS_EMBEDDING)
        return HT_OK;
    if (wanted) {
        const ht_input_transform transform = {.block = wanted};
        ht_status status = ht_input_transform_check(&transform, cols);
        return status == HT_OK ? HT_OK : ht_fail_prefix(status, "tensor %s: block_hadamard", job->parameter->name);
    }
    size_t group = format->block_cols;
    *block = group && !(group & (group - 1)) && group < LARGEST_BLOCK ? group : LARGEST_BLOCK;
    while (cols % *block)
        *block /= 2;
    if (*block == 1)
        *block = 0;
    return HT_OK;
}

static ht_status mix_down(const ht_job *job, const ht_method *method, ht_edit *edit) {
    if (!job->layout || !ht_chain_has(&job->rule->chain, method) || edit->sets_inputs)
        return HT_OK;
    size_t wanted = (size_t)job->settings.value[HT_SETTING_R4], cols = job->parameter->weight.cols;
    if (!wanted)
        return HT_OK;
    edit->inputs = (ht_input_transform){.block = wanted == 1 ? cols : wanted};
    edit->sets_inputs = 1;
    ht_status status = ht_input_transform_check(&edit->inputs, cols);
    return status == HT_OK ? HT_OK : ht_fail_prefix(status, "tensor %s: r4", job->parameter->name);
}

ht_status ht_input_r4_edits(ht_model *model, const ht_plan *plan, const ht_method *method, ht_edits *edits) {
    for (size_t l = 0; l < model->config.layers; l++)
        for (size_t e = 0; e < ht_block_experts(model, l, HT_SITE_DOWN); e++) {
            size_t parameter = ht_block_linear_at(model, l, HT_SITE_DOWN, e, 0).parameter;
            HT_TRY(mix_down(&plan->job[parameter], method, &edits->edit[parameter]));
        }
    return HT_OK;
}

ht_status ht_input_block_edits(const ht_plan *plan, const ht_method *method, ht_edits *edits) {
    for (size_t i = 0; i < plan->count; i++) {
        const ht_job *job = &plan->job[i];
        const ht_input_transform *now = &job->parameter->weight.inputs;
        size_t block;
        if (!job->layout || !ht_chain_has(&job->rule->chain, method) || now->block)
            continue;
        HT_TRY(ht_input_block(job, &block));
        if (!block)
            continue;
        edits->edit[i].sets_inputs = 1;
        edits->edit[i].inputs = (ht_input_transform){.scale = now->scale, .block = block};
    }
    return HT_OK;
}
