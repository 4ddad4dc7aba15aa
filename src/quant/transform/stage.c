/* Transforms of a run: each makes a float checkpoint of its own, of which the next one, and then rounding, starts.
 *
 *     MODEL --rotate--> OUT.rotate --smooth--> OUT.smooth --gptq--> OUT
 *
 * So every part that reads a checkpoint (plan, driver, calibration, resuming) knows nothing of transforms, and memory
 * stays that of one matrix; the price is room on the disk for the float linears as f32, twice while one is made of
 * another. A stage carries the fingerprint of what it was made of and is removed when the output is complete. Refused:
 * a directory of that name that is no stage.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/stage.h"

#include <dirent.h>
#include <inttypes.h> /* PRIx64 */
#include <stdio.h>    /* snprintf */
#include <string.h>   /* strcmp, strlen */
#include <sys/stat.h> /* stat */
#include <unistd.h>   /* unlink, rmdir */

#include <xxhash.h>

#include "base/context.h"
#include "base/status.h"
#include "quant/driver.h"
#include "quant/transform/transform.h"

static const ht_stage order[] = {HT_STAGE_ROTATE, HT_STAGE_SCALE, HT_STAGE_INPUTS};
enum { STAGES = sizeof order / sizeof *order, MOST = 8, MARK = 64 };

/* Transforms that rules in force name, in the order in which they are done. */
static size_t collect(const ht_plan *plan, const ht_method *found[MOST]) {
    size_t count = 0;
    for (size_t s = 0; s < STAGES; s++)
        for (size_t i = 0; i < plan->count; i++) {
            const ht_job *job = &plan->job[i];
            const ht_method *method = job->layout ? job->rule->chain.stage[order[s]] : NULL;
            size_t known = 0;
            while (known < count && found[known] != method)
                known++;
            if (method && known == count && count < MOST)
                found[count++] = method;
        }
    return count;
}

int ht_stage_needed(const ht_plan *plan) {
    const ht_method *found[MOST];
    return collect(plan, found) > 0;
}

/* --- Directories ----------------------------------------------------------------------------------------------- */

const char *ht_stage_mark(const ht_checkpoint *checkpoint) {
    const char *key;
    for (size_t i = 0; (key = ht_checkpoint_metadata_key(checkpoint, i)); i++)
        if (strcmp(key, "stage") == 0)
            return ht_checkpoint_metadata_value(checkpoint, i);
    return NULL;
}

/* 1 when the directory is a complete stage of this mark; fails when it is something else. */
static ht_status look(ht_context *ctx, const char *path, const char *mark, int *there) {
    struct stat info;
    ht_checkpoint *checkpoint;
    *there = 0;
    if (stat(path, &info) != 0)
        return HT_OK;
    char config[4096];
    snprintf(config, sizeof config, "%s/config.json", path);
    if (stat(config, &info) != 0)
        return HT_OK; /* begun: the writer takes it over, or refuses it */
    HT_TRY(ht_checkpoint_open(ctx, path, &checkpoint));
    const char *found = ht_stage_mark(checkpoint);
    ht_status status =
        found
            ? HT_OK
            : ht_fail(HT_ERR_OUTPUT, "%s: exists, and transforms of this run would be kept there; move it away", path);
    *there = found && strcmp(found, mark) == 0;
    ht_checkpoint_close(checkpoint);
    return status;
}

void ht_stage_remove(const char *path) {
    DIR *directory = path ? opendir(path) : NULL;
    if (!directory)
        return;
    for (struct dirent *entry; (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlinkat(dirfd(directory), entry->d_name, 0);
    closedir(directory);
    rmdir(path);
}

/* --- One transform --------------------------------------------------------------------------------------------- */

static ht_status transform(ht_context *ctx, const char *from, const ht_method *method, const ht_samples *samples,
                           const ht_quantize_options *options, const char *path, const char *mark) {
    ht_model *model;
    ht_plan *plan = NULL;
    ht_edits *edits = NULL;
    const char *slash = strrchr(path, '/');
    char folder[4096];
    if (snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".") >=
        (int)sizeof folder)
        return ht_fail(HT_ERR_OUTPUT, "%s: the path is too long", path);
    HT_TRY(ht_model_open(ctx, from, &model));
    ht_status status = ht_plan_create(ctx, model->checkpoint, options, &plan);
    if (status == HT_OK)
        status = ht_edits_create(ctx, model->checkpoint, &edits);
    if (status == HT_OK) {
        const ht_transform how = {.plan = plan,
                                  .method = method,
                                  .ids = samples->ids,
                                  .samples = samples->count,
                                  .length = samples->length,
                                  .folder = folder};
        status = ht_transform_edits(model, &how, edits);
    }
    if (status == HT_OK)
        status = ht_edits_write(edits, path, mark);
    ht_edits_destroy(edits);
    ht_plan_destroy(plan);
    ht_model_close(model);
    return status;
}

/* Hash of all that the stages depend on. */
static ht_status identify(const ht_plan *plan, const ht_checkpoint *checkpoint, const ht_quantize_options *options,
                          uint64_t *out) {
    ht_text text = {0};
    ht_status status = ht_run_fingerprint(plan, checkpoint, options, &text);
    if (status == HT_OK) {
        ht_text_printf(&text, "seed=%" PRIu64 "\n", ht_context_seed(plan->ctx));
        status = ht_text_check(&text);
    }
    *out = text.data ? XXH64(text.data, text.length, 0) : 0;
    ht_text_free(&text);
    return status;
}

/* A stage to make: its directory, and what says that it was made of this input in this way. */
typedef struct step {
    const ht_method *method;
    ht_text path;
    char mark[MARK];
} step;

static ht_status name_step(step *s, const ht_method *method, const char *output, uint64_t hash) {
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    s->method = method;
    snprintf(s->mark, sizeof s->mark, "%s-%016" PRIx64, method->item.name, hash);
    ht_text_printf(&s->path, "%.*s.%s", (int)length, output, method->item.name);
    return ht_text_check(&s->path);
}

static ht_status read_text(ht_plan *plan, const ht_checkpoint *checkpoint, const ht_method *const *method,
                           size_t count) {
    for (size_t i = 0; i < count; i++)
        if (method[i]->needs_data && !plan->calibration.data)
            return ht_fail(HT_ERR_ARGUMENT, "method %s chooses by calibration text: give one with --data FILE",
                           method[i]->item.name);
    if (!plan->calibration.data)
        return HT_OK;
    return ht_samples_read(ht_checkpoint_path(checkpoint), &plan->calibration, &plan->arena, &plan->samples);
}

/* Make what is not there. The last stage that is there makes the ones before it unnecessary. */
static ht_status make_steps(ht_context *ctx, const char *input, step *steps, size_t count, const ht_samples *samples,
                            const ht_quantize_options *options) {
    size_t first = count;
    for (int there = 0; first > 0 && !there; first -= !there)
        HT_TRY(look(ctx, steps[first - 1].path.data, steps[first - 1].mark, &there));
    for (size_t i = first; i < count; i++) {
        const char *from = i ? steps[i - 1].path.data : input;
        ht_status status = transform(ctx, from, steps[i].method, samples, options, steps[i].path.data, steps[i].mark);
        if (i && (status == HT_OK || ht_run_will_fail_again(status)))
            ht_stage_remove(from);
        HT_TRY(status);
    }
    return HT_OK;
}

ht_status ht_stage_make(ht_context *ctx, const ht_checkpoint *checkpoint, ht_plan *plan,
                        const ht_quantize_options *options, const char *output, ht_text *path) {
    struct stat info;
    char config[4096];
    snprintf(config, sizeof config, "%s/config.json", output);
    if (!options->overwrite && stat(config, &info) == 0 && !ht_run_has_begun(output))
        return ht_fail(HT_ERR_OUTPUT,
                       "%s: exists already (it holds config.json): choose another name, or give --overwrite", output);
    const ht_method *method[MOST];
    step steps[MOST] = {{.method = NULL}};
    size_t count = collect(plan, method);
    uint64_t hash;
    HT_TRY(read_text(plan, checkpoint, method, count));
    HT_TRY(identify(plan, checkpoint, options, &hash));
    ht_status status = HT_OK;
    for (size_t i = 0; i < count && status == HT_OK; i++)
        status = name_step(&steps[i], method[i], output, hash);
    if (status == HT_OK)
        status = make_steps(ctx, ht_checkpoint_path(checkpoint), steps, count, &plan->samples, options);
    if (status == HT_OK) {
        *path = steps[count - 1].path;
        steps[count - 1].path = (ht_text){.data = NULL};
    }
    for (size_t i = 0; i < count; i++)
        ht_text_free(&steps[i].path);
    return status;
}

/* --- The plan of a stage --------------------------------------------------------------------------------------- */

void ht_stage_restate(ht_plan *plan, const ht_plan *of_input) {
    size_t at = 0;
    for (size_t i = 0; i < plan->count; i++) {
        while (at < of_input->count && strcmp(of_input->tensor[at].name, plan->tensor[i].name) < 0)
            at++;
        if (at < of_input->count && strcmp(of_input->tensor[at].name, plan->tensor[i].name) == 0)
            plan->tensor[i].bytes_before = of_input->tensor[at].bytes_before;
        else
            plan->tensor[i].bytes_before = 0; /* a head that was the embedding */
    }
    plan->summary.bytes_before = of_input->summary.bytes_before;
}
