/* halftone eval: perplexity of a text, and distance from another model measured in the same pass.
 *
 * The protocol is ht_model_evaluate's (docs/evaluation.md); the first line of the result says it, so that a number
 * always travels with the way it was made.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>

typedef struct values {
    const char *text, *against, *gates, *report, *cache, *attention;
    uint64_t context, tokens;
} values;

static const cli_option rows[] = {
    {"text", 0, CLI_TEXT, offsetof(values, text), "FILE", NULL, "UTF-8 text to predict; - is standard input"},
    {"context", 'c', CLI_NUMBER, offsetof(values, context), "N", "512", "tokens of a window"},
    {"tokens", 'n', CLI_NUMBER, offsetof(values, tokens), "N", NULL, "use only the first N tokens of the text; 0: all"},
    {"against", 0, CLI_TEXT, offsetof(values, against), "MODEL", NULL,
     "the float model: also its perplexity, KL divergence from it and how often both predict the same token"},
    {"kv-cache", 0, CLI_TEXT, offsetof(values, cache), "FORMAT", "f32",
     "keys and values of MODEL kept as f32, fp8, int8 or int4; those of --against stay f32"},
    {"attention", 0, CLI_TEXT, offsetof(values, attention), "WORD", NULL,
     "what attention rounds in MODEL: auto, f32, bf16, fp8, fp8-hadamard or fp8-hadamard-v (default auto: nothing)"},
    {"gates", 0, CLI_TEXT, offsetof(values, gates), "RECIPE", NULL,
     "hold the result to the gates of this recipe: exit 4 when one is broken"},
    {"report", 0, CLI_TEXT, offsetof(values, report), "F.html", NULL,
     "write a report: this page, and F.json beside it"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_eval_options = {rows, sizeof(values), NULL};

static int read_gates(const cli_call *call, const char *path, ht_gates *out) {
    *out = ht_gates_none();
    if (!path)
        return CLI_DONE;
    ht_recipe *recipe = NULL;
    int exit_status = cli_status(call, ht_recipe_open(call->ctx, path, &recipe));
    if (exit_status == CLI_DONE)
        *out = ht_recipe_gates(recipe);
    ht_recipe_close(recipe);
    if (exit_status == CLI_DONE && !ht_gates_any(out))
        return cli_fail(call, CLI_USAGE, "%s: the recipe has no gates", path);
    if (exit_status == CLI_DONE && ht_gates_need_base(out) && !((const values *)call->values)->against)
        return cli_fail(call, CLI_USAGE, "%s: its gates compare with the float model: give --against MODEL", path);
    return exit_status;
}

int cli_eval(cli_call *call) {
    const values *v = call->values;
    if (!v->text)
        return cli_fail(call, CLI_USAGE, "needs --text FILE (see halftone eval --help)");
    cli_evaluation e = {
        .text = v->text, .context = v->context, .tokens = v->tokens, .cache = v->cache, .attention = v->attention};
    int exit_status = cli_report_check(call, v->report);
    if (exit_status == CLI_DONE)
        exit_status = read_gates(call, v->gates, &e.gates);
    if (exit_status == CLI_DONE)
        exit_status = cli_evaluation_read(call, &e, call->argument[0]);
    if (exit_status == CLI_DONE)
        exit_status = cli_evaluation_run(call, &e, call->argument[0], v->against);
    if (exit_status == CLI_DONE && call->common.json) {
        json_t *out = cli_json_begin(call);
        cli_evaluation_json(out, &e);
        cli_json_end(out, CLI_DONE);
    } else if (exit_status == CLI_DONE) {
        cli_evaluation_print(call, &e);
    }
    if (exit_status == CLI_DONE)
        exit_status = cli_report(call, v->report, NULL, call->argument[0], ht_context_memory_peak(call->ctx), &e);
    if (exit_status == CLI_DONE)
        exit_status = cli_evaluation_gates(call, &e);
    cli_evaluation_release(&e);
    return exit_status;
}
