/* halftone plan: what quantize would do to every tensor, from headers alone.
 *
 * Text output gathers the tensors that differ only in their numbers (layers, experts) into one line with a count;
 * --tensors prints every one.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <ctype.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* What quantize has beside the rows that it shares with plan. */
#define AT(field) offsetof(cli_quantize_values, field)
static const cli_option quantize_rows[] = {
    {"output", 'o', CLI_TEXT, AT(output), "OUT", NULL, "directory to write; it appears complete or not at all"},
    {"overwrite", 0, CLI_FLAG, AT(overwrite), NULL, NULL, "replace an existing output"},
    {"resume", 0, CLI_CHOICE, AT(resume), "auto|required|never", "auto",
     "what to do with a run that was stopped: go on if there is one, insist on it, or start afresh"},
    {"dry-run", 0, CLI_FLAG, AT(dry_run), NULL, NULL, "print the plan and stop, as halftone plan does"},
    {"shard-size", 0, CLI_BYTES, AT(shard_size), "BYTES", "5GB", "largest output file; one tensor is never split"},
    {"chunk-size", 0, CLI_BYTES, AT(chunk_size), "BYTES", NULL,
     "input per work item; 0: chosen. Never changes the result"},
    {"eval", 0, CLI_TEXT, AT(eval), "FILE", NULL,
     "text to evaluate the result on against the input, as halftone eval does; a recipe's gates need it"},
    {"eval-context", 0, CLI_NUMBER, AT(eval_context), "N", "512", "tokens of a window of that text"},
    {"eval-tokens", 0, CLI_NUMBER, AT(eval_tokens), "N", NULL, "use only its first N tokens; 0: all"},
    {"data", 'd', CLI_TEXT, AT(data), "FILE", NULL,
     "UTF-8 text for methods that choose by what a text does in the model"},
    {"samples", 0, CLI_NUMBER, AT(samples), "N", NULL, "windows of the text to use (default 128)"},
    {"length", 0, CLI_NUMBER, AT(length), "TOKENS", NULL, "tokens of a window (default 512)"},
    {"held-out", 0, CLI_NUMBER, AT(held_out), "N", NULL, "further windows, to judge by alone (default 0)"},
    {"mode", 0, CLI_CHOICE, AT(mode), "default|non-sequential|sequential|true-sequential", "default",
     "inputs that statistics are taken of: the float model's, those behind quantized blocks (default), or those behind "
     "everything quantized before"},
    {"experts", 0, CLI_TEXT, AT(experts), "POLICY", NULL,
     "statistics of experts from the tokens routed to them (routed, default), N more a token (top-k+N), or all"},
    {"report", 0, CLI_TEXT, AT(report), "F.html", NULL, "write a report: this page, and F.json beside it"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
static const cli_option shared_rows[] = {
    {"scheme", 's', CLI_TEXT, AT(scheme), "SCHEME", NULL, "one scheme for all linears: halftone list schemes"},
    {"recipe", 'r', CLI_TEXT, AT(recipe), "FILE", NULL, "YAML file of rules: which tensors get which scheme"},
    {"method", 'm', CLI_TEXT, AT(method), "METHOD", NULL, "how codes are chosen (default rtn): halftone list methods"},
    {"set", 0, CLI_WORDS, AT(set), "NAME=VALUE", NULL,
     "a setting of the method or an option of the scheme; may be given again: halftone list methods"},
    {"hessian-act", 0, CLI_ALIAS, AT(set), "hessian=quantized", NULL,
     "gptq: statistics of the inputs as the scheme quantizes them, the same as --set hessian=quantized"},
    {"profile", 0, CLI_TEXT, AT(profile), "PROFILE", NULL,
     "how the result is stored (default compressed-tensors): halftone list profiles"},
    {"scale-rule", 0, CLI_CHOICE, AT(scale_rule),
     "default|floor|rceil|ceil|even|mse|four-six|four-six-mae|four-six-max", "default",
     "how block scales are chosen; default: mse for MX weights, the formula for others"},
    {"scale-dtype", 0, CLI_CHOICE, AT(scale_dtype), "f32|bf16", "f32", "integer and fp8 scales as stored"},
    {"strict", 0, CLI_FLAG, AT(strict), NULL, NULL, "fail (exit 4) when a tensor cannot get what was asked"},
    {"tensors", 0, CLI_FLAG, AT(tensors), NULL, NULL, "one line for every tensor"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
#undef AT
const cli_options cli_plan_options = {shared_rows, sizeof(cli_quantize_values), NULL};
const cli_options cli_quantize_options = {shared_rows, sizeof(cli_quantize_values), quantize_rows};

int cli_quantize_choose(const cli_call *call, ht_quantize_options *out) {
    static const ht_scale_rule rules[] = {HT_SCALE_DEFAULT,  HT_SCALE_FLOOR,        HT_SCALE_RCEIL,
                                          HT_SCALE_CEIL,     HT_SCALE_EVEN,         HT_SCALE_MSE,
                                          HT_SCALE_FOUR_SIX, HT_SCALE_FOUR_SIX_MAE, HT_SCALE_FOUR_SIX_MAX};
    static const ht_resume resumes[] = {HT_RESUME_AUTO, HT_RESUME_REQUIRED, HT_RESUME_NEVER};
    const cli_quantize_values *v = call->values;
    if (!v->scheme == !v->recipe)
        return cli_fail(call, CLI_USAGE, "give one of --scheme and --recipe (see halftone %s --help)",
                        call->command->name);
    *out = ht_quantize_options_default();
    out->scheme = v->scheme;
    out->recipe_path = v->recipe;
    out->method = v->method;
    out->set = v->set.word;
    out->profile = v->profile;
    out->scale_rule = rules[v->scale_rule];
    out->scale_dtype = v->scale_dtype ? HT_BF16 : HT_F32;
    out->resume = resumes[v->resume];
    out->calibration = (ht_calibration_options){.data = v->data,
                                                .samples = (size_t)v->samples,
                                                .length = (size_t)v->length,
                                                .held_out = (size_t)v->held_out,
                                                .mode = (ht_calibration_mode)v->mode,
                                                .experts = v->experts};
    out->strict = v->strict;
    out->overwrite = v->overwrite;
    out->shard_bytes = v->shard_size;
    out->chunk_bytes = (size_t)v->chunk_size;
    return CLI_DONE;
}

static void calibration_json(json_t *row, const ht_plan_tensor *t) {
    if (!t->tokens && isnan(t->loss))
        return;
    json_object_set_new(row, "tokens", cli_json_count(t->tokens));
    json_object_set_new(row, "loss", cli_json_real(t->loss));
    json_object_set_new(row, "rtn_loss", cli_json_real(t->rtn_loss));
    json_object_set_new(row, "damping", cli_json_real(t->damping));
    json_object_set_new(row, "dead_columns", cli_json_count(t->dead_columns));
    json_object_set_new(row, "saturated", cli_json_count(t->saturated));
    json_object_set_new(row, "fallbacks", cli_json_count(t->fallbacks));
    json_object_set_new(row, "sparsity", cli_json_real(t->sparsity));
}

void cli_plan_json(json_t *out, const ht_plan *plan, int measured) {
    ht_plan_summary sum = ht_plan_summarize(plan);
    json_t *tensors = json_array();
    for (size_t i = 0; i < ht_plan_count(plan); i++) {
        const ht_plan_tensor *t = ht_plan_at(plan, i);
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(t->name));
        json_object_set_new(row, "asked", cli_json_text(t->asked));
        json_object_set_new(row, "got", cli_json_text(t->got));
        json_object_set_new(row, "reason", cli_json_text(t->reason));
        json_object_set_new(row, "bytes_before", cli_json_count(t->bytes_before));
        json_object_set_new(row, "bytes_after", cli_json_count(t->bytes_after));
        json_object_set_new(row, "method", cli_json_text(t->method));
        if (measured) {
            json_object_set_new(row, "error", cli_json_real(t->error));
            json_object_set_new(row, "fallback", cli_json_text(t->fallback));
            if (t->input_scale > 0)
                json_object_set_new(row, "input_scale", cli_json_real(t->input_scale));
            calibration_json(row, t);
        }
        json_array_append_new(tensors, row);
    }
    json_object_set_new(out, "bytes_before", cli_json_count(sum.bytes_before));
    json_object_set_new(out, "bytes_after", cli_json_count(sum.bytes_after));
    json_object_set_new(out, "bits_per_weight", cli_json_real(sum.bits_per_weight));
    json_object_set_new(out, "peak_memory_bytes", cli_json_count(sum.peak_memory_bytes));
    json_object_set_new(out, "seconds", cli_json_real(sum.seconds));
    json_object_set_new(out, "quantized", cli_json_count(sum.quantized));
    json_object_set_new(out, "kept", cli_json_count(sum.kept));
    json_object_set_new(out, "refused", cli_json_count(sum.refused));
    json_object_set_new(out, "transformed", cli_json_count(sum.transformed));
    json_object_set_new(out, "tensors", tensors);
}

/* --- The text form ---------------------------------------------------------------------------------------------- */

typedef struct group {
    char *pattern; /* name with every number replaced by * */
    const ht_plan_tensor *first;
    size_t count, order;
    uint64_t before, after;
} group;

static char *pattern_of(const char *name) {
    char *pattern = malloc(strlen(name) + 1), *to = pattern;
    while (pattern && *name) {
        if (isdigit((unsigned char)*name) && (to == pattern || to[-1] == '.')) {
            size_t digits = strspn(name, "0123456789");
            if (name[digits] == '.' || !name[digits]) {
                *to++ = '*';
                name += digits;
                continue;
            }
        }
        *to++ = *name++;
    }
    if (pattern)
        *to = '\0';
    return pattern;
}

static int same_line(const void *a, const void *b) {
    const group *x = a, *y = b;
    int order = strcmp(x->pattern, y->pattern);
    order = order ? order : strcmp(x->first->asked, y->first->asked);
    order = order ? order : strcmp(x->first->got, y->first->got);
    order = order ? order : strcmp(x->first->reason, y->first->reason);
    return order;
}

static int by_order(const void *a, const void *b) {
    const group *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

static int by_line(const void *a, const void *b) {
    int order = same_line(a, b);
    return order ? order : by_order(a, b);
}

/* One group per tensor, or merged; returns the number of groups, 0 without memory. */
static size_t gather(const ht_plan *plan, int merge, group **out) {
    size_t count = ht_plan_count(plan), groups = 0;
    group *all = calloc(count + 1, sizeof *all);
    *out = all;
    for (size_t i = 0; all && i < count; i++) {
        const ht_plan_tensor *t = ht_plan_at(plan, i);
        char *pattern = merge ? pattern_of(t->name) : strdup(t->name);
        if (!pattern)
            break;
        all[groups++] = (group){pattern, t, 1, i, t->bytes_before, t->bytes_after};
    }
    if (!merge || !groups)
        return groups;
    qsort(all, groups, sizeof *all, by_line);
    size_t kept = 0;
    for (size_t i = 1; i < groups; i++) {
        if (same_line(&all[kept], &all[i]) == 0) {
            all[kept].count++;
            all[kept].before += all[i].before;
            all[kept].after += all[i].after;
            free(all[i].pattern);
        } else {
            all[++kept] = all[i];
        }
    }
    qsort(all, kept + 1, sizeof *all, by_order);
    return kept + 1;
}

static void print_groups(const ht_plan *plan, int merge) {
    static const cli_column columns[] = {{"tensors", 0, 1}, {"count", 1, 0}, {"asked", 0, 0}, {"gets", 0, 0},
                                         {"before", 1, 0},  {"after", 1, 0}, {"why", 0, 0}};
    group *groups;
    size_t count = gather(plan, merge, &groups);
    cli_table *table = cli_table_create(columns, 7);
    for (size_t i = 0; i < count; i++) {
        const ht_plan_tensor *t = groups[i].first;
        cli_cell(table, "%s", groups[i].pattern);
        cli_cell(table, "%zu", groups[i].count);
        cli_cell(table, "%s", *t->asked ? t->asked : "-");
        cli_cell(table, "%s", t->got);
        cli_cell(table, "%s", cli_size((double)groups[i].before));
        cli_cell(table, "%s", cli_size((double)groups[i].after));
        cli_cell(table, "%s", t->reason);
        free(groups[i].pattern);
    }
    free(groups);
    cli_table_print(table, stdout);
}

int cli_plan_print(const cli_call *call, const ht_plan *plan) {
    const cli_quantize_values *v = call->values;
    ht_plan_summary sum = ht_plan_summarize(plan);
    if (call->common.json) {
        json_t *out = cli_json_begin(call);
        json_object_set_new(out, "schema", json_string("halftone.plan/1"));
        cli_plan_json(out, plan, 0);
        return cli_json_end(out, CLI_DONE);
    }
    print_groups(plan, !v->tensors);
    printf("\n%zu tensors quantized, %zu kept, %zu cannot get what was asked\n", sum.quantized, sum.kept, sum.refused);
    printf("size    %s -> %s (%s)\n", cli_size((double)sum.bytes_before), cli_size((double)sum.bytes_after),
           cli_percent(sum.bytes_before ? (double)sum.bytes_after / (double)sum.bytes_before : 0));
    printf("bits    %.3f per quantized weight\n", sum.bits_per_weight);
    printf("memory  about %s of buffers\n", cli_size((double)sum.peak_memory_bytes));
    printf("time    about %.1f s\n", sum.seconds);
    if (sum.transformed)
        printf("inputs  of %zu linears are transformed when the model runs; of other programs %s does so\n",
               sum.transformed, *sum.readers ? sum.readers : "none");
    return CLI_DONE;
}

int cli_plan(cli_call *call) {
    ht_quantize_options options;
    int exit_status = cli_quantize_choose(call, &options);
    if (exit_status != CLI_DONE)
        return exit_status;
    ht_checkpoint *checkpoint = NULL;
    ht_plan *plan = NULL;
    ht_status status = ht_checkpoint_open(call->ctx, call->argument[0], &checkpoint);
    if (status == HT_OK)
        status = ht_plan_create(call->ctx, checkpoint, &options, &plan);
    exit_status = cli_status(call, status);
    if (exit_status == CLI_DONE)
        exit_status = cli_plan_print(call, plan);
    ht_plan_destroy(plan);
    ht_checkpoint_close(checkpoint);
    return exit_status;
}
