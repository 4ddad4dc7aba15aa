/* See calibrated.h. */
#include "calibrated.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "quant/plan.h"
#include "support/check.h"
#include "support/synthetic.h"

const char *const calibrated_families[] = {"llama",   "llama-bias-tied", "mistral-window", "qwen3",  "qwen3-moe",
                                           "mixtral", "olmoe",           "phi3",           "gemma2", "gpt-oss",
                                           NULL};

int calibrated_same(const char *a, const char *b) {
    char command[1400];
    snprintf(command, sizeof command, "diff -r '%s' '%s' >&2", a, b);
    return system(command) == 0;
}

void calibrated_remove(const char *path) {
    char command[700];
    snprintf(command, sizeof command, "rm -rf '%s'", path);
    CHECK_INT(system(command), 0);
}

/* One token for each of the 256 characters that stand for bytes. */
static void write_tokenizer(const char *path) {
    FILE *file = fopen(path, "w");
    CHECK(file != NULL);
    fputs("{\"version\": \"1.0\", \"added_tokens\": [], \"normalizer\": null, \"post_processor\": null, "
          "\"pre_tokenizer\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
          "\"use_regex\": false}, \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": false, "
          "\"trim_offsets\": true, \"use_regex\": false}, \"model\": {\"type\": \"BPE\", \"merges\": [], \"vocab\": {",
          file);
    for (unsigned byte = 0, other = 256; byte < 256; byte++) {
        int shown = (byte >= 33 && byte <= 126) || (byte >= 161 && byte != 173);
        fprintf(file, "%s\"\\u%04x\": %u", byte ? ", " : "", shown ? byte : other++, byte);
    }
    fputs("}}}\n", file);
    fclose(file);
}

const char *calibrated_family(const char *family) {
    const char *out = check_fresh();
    char command[1400], path[600];
    snprintf(path, sizeof path, "tiny/%s", family);
    snprintf(command, sizeof command, "mkdir '%s' && cp '%s'/config.json '%s'/model.safetensors '%s'", out,
             check_data(path), check_data(path), out);
    CHECK_INT(system(command), 0);
    snprintf(path, sizeof path, "%s/tokenizer.json", out);
    write_tokenizer(path);
    return out;
}

const char *calibrated_deep(void) {
    const char *out = check_fresh();
    char path[600];
    ht_context *ctx;
    CHECK_OK(ht_context_create(NULL, &ctx));
    CHECK_OK(synthetic_checkpoint(ctx, out, &(synthetic_options){.bytes = 4000000, .hidden = 256, .experts = 4}));
    ht_context_destroy(ctx);
    snprintf(path, sizeof path, "%s/tokenizer.json", out);
    write_tokenizer(path);
    return out;
}

calibrated calibrated_run(const char *scheme, const char *method, size_t samples, size_t length) {
    calibrated run = {.options = ht_quantize_options_default()};
    run.options.scheme = scheme;
    run.options.method = method;
    run.options.calibration.data = check_data("text/sample-a.txt");
    run.options.calibration.samples = samples;
    run.options.calibration.length = length;
    return run;
}

static void copy_rows(const ht_plan *plan, ht_plan_tensor **rows, size_t *count) {
    *count = ht_plan_count(plan);
    size_t text = 0;
    for (size_t i = 0; i < *count; i++)
        text += strlen(ht_plan_at(plan, i)->name) + strlen(ht_plan_at(plan, i)->fallback) + 2;
    *rows = malloc(*count * sizeof **rows + text);
    char *next = (char *)(*rows + *count);
    for (size_t i = 0; i < *count; i++) {
        (*rows)[i] = *ht_plan_at(plan, i);
        const char **const texts[] = {&(*rows)[i].name, &(*rows)[i].fallback};
        for (size_t t = 0; t < 2; t++) {
            size_t bytes = strlen(*texts[t]) + 1;
            memcpy(next, *texts[t], bytes);
            *texts[t] = next;
            next += bytes;
        }
        (*rows)[i].asked = (*rows)[i].got = (*rows)[i].reason = (*rows)[i].method = NULL;
    }
}

static void copy_coverage(const ht_plan *plan, char *out) {
    size_t used = 0;
    for (size_t b = 0; b < plan->report.blocks; b++) {
        const ht_report_coverage *row = &plan->report.coverage[b];
        used += (size_t)snprintf(out + used, CALIBRATED_COVERAGE - used, "%zu:", row->block);
        for (size_t e = 0; e < row->experts; e++)
            used +=
                (size_t)snprintf(out + used, CALIBRATED_COVERAGE - used, " %llu", (unsigned long long)row->tokens[e]);
        CHECK(used < CALIBRATED_COVERAGE / 2);
    }
}

ht_status calibrated_quantize(const calibrated *run, const char *input, const char *output, ht_plan_tensor **rows,
                              size_t *count) {
    ht_context *ctx;
    ht_context_options how = ht_context_options_default();
    how.threads = run->threads;
    how.memory_limit = run->memory_limit;
    how.cpu = run->cpu;
    how.cancelled = run->cancelled;
    how.callback_user = run->user;
    HT_CHECK(ht_context_create(&how, &ctx));
    ht_plan *plan = NULL;
    ht_status status = ht_quantize_checkpoint(ctx, input, output, &run->options, &plan);
    if (status == HT_OK && rows)
        copy_rows(plan, rows, count);
    if (status == HT_OK && run->spilled)
        *run->spilled = plan->report.spilled_bytes;
    if (status == HT_OK && run->coverage)
        copy_coverage(plan, run->coverage);
    ht_plan_destroy(plan);
    ht_context_destroy(ctx);
    return status;
}
