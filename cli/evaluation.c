/* What eval and quantize --eval share: the text's ids, one pass over both models, and the lines and keys that say what
 * came of it, quality gates included.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int cli_evaluation_read(const cli_call *call, cli_evaluation *e, const char *tokenizer_path) {
    if (e->context < 2)
        return cli_fail(call, CLI_USAGE, "a context of %llu tokens: a window needs at least 2",
                        (unsigned long long)e->context);
    size_t bytes;
    int exit_status = CLI_DONE;
    char *text = cli_read_file(call, e->text, &bytes, &exit_status);
    if (!text)
        return exit_status;
    ht_tokenizer *tokenizer = NULL;
    ht_status status = ht_tokenizer_open(call->ctx, tokenizer_path, &tokenizer);
    if (status == HT_OK)
        status = ht_tokenizer_encode(tokenizer, text, bytes, 1, &e->ids);
    exit_status = cli_status(call, status);
    ht_tokenizer_close(tokenizer);
    free(text);
    return exit_status;
}

int cli_evaluation_run(const cli_call *call, cli_evaluation *e, const char *model_path, const char *base_path) {
    ht_model *model = NULL, *base = NULL;
    e->model = model_path;
    e->base = base_path;
    ht_status status = ht_model_open(call->ctx, model_path, &model);
    if (status == HT_OK && e->cache)
        status = ht_model_set_cache(model, e->cache);
    if (status == HT_OK)
        status = cli_attention_choose(call, model, e->attention);
    if (status == HT_OK && call->common.json)
        e->layers = cli_attention_json(model);
    if (status == HT_OK && base_path)
        status = ht_model_open(call->ctx, base_path, &base);
    ht_evaluate_options options = {.context = e->context, .max_tokens = e->tokens, .against = base};
    if (status == HT_OK)
        status = ht_model_evaluate(model, e->ids.ids, e->ids.count, &options, &e->result);
    ht_model_close(base);
    ht_model_close(model);
    cli_progress_clear(call->progress);
    return cli_status(call, status);
}

int cli_evaluation_gates(const cli_call *call, const cli_evaluation *e) {
    return cli_status(call, ht_gates_check(&e->gates, &e->result));
}

void cli_evaluation_release(cli_evaluation *e) {
    ht_encoding_release(&e->ids);
    json_decref(e->layers);
}

/* --- Reports ---------------------------------------------------------------------------------------------- */

int cli_report_check(const cli_call *call, const char *path) {
    if (!path)
        return CLI_DONE;
    const char *slash = strrchr(path, '/');
    char folder[4096] = ".";
    if (slash)
        snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
    if (!*path || (slash && !slash[1]))
        return cli_fail(call, CLI_USAGE, "--report \"%s\": a file name is needed", path);
    if (access(folder, W_OK) != 0)
        return cli_fail(call, CLI_FAILED, "--report %s: %s", path, strerror(errno));
    return CLI_DONE;
}

int cli_report(const cli_call *call, const char *path, const ht_plan *plan, const char *output, size_t peak,
               const cli_evaluation *e) {
    if (!path)
        return CLI_DONE;
    ht_report_options what = ht_report_options_default();
    what.command = call->line;
    what.output = output;
    what.input = plan ? call->argument[0] : e->base;
    what.plan = plan;
    what.threads = ht_context_threads(call->ctx);
    what.peak_memory_bytes = peak;
    if (e->text) {
        what.evaluation = &e->result;
        what.text = e->text;
        what.context = (size_t)e->context;
        what.gates = &e->gates;
    }
    int exit_status = cli_status(call, ht_report_write(call->ctx, path, &what));
    if (exit_status == CLI_DONE && !call->common.json)
        printf("report  %s\n", path);
    return exit_status;
}

/* --- Printing --------------------------------------------------------------------------------------------- */

static void print_base(const cli_evaluation *e) {
    const ht_evaluation *r = &e->result;
    double margin = 1.96 * r->nll_change_stderr;
    printf("  base perplexity  %.4f  (%s)\n", r->base_perplexity, e->base);
    printf("  change           %+.2f %%", 100 * expm1(r->nll_change));
    if (isfinite(margin))
        printf("  (95 %%: %+.2f to %+.2f %%, the windows paired)", 100 * expm1(r->nll_change - margin),
               100 * expm1(r->nll_change + margin));
    printf("\n  KL divergence    %.6f nats", r->kl_mean);
    if (isfinite(r->kl_stderr))
        printf(" +- %.6f", r->kl_stderr);
    printf("\n    of positions   median %.3g  90 %% %.3g  95 %% %.3g  99 %% %.3g  99.9 %% %.3g  largest %.3g\n",
           r->kl_median, r->kl_p90, r->kl_p95, r->kl_p99, r->kl_p999, r->kl_max);
    printf("  top-1 agreement  %.2f %%", 100 * r->top1_agreement);
    printf(isfinite(r->top1_stderr) ? " +- %.2f\n" : "\n", 100 * r->top1_stderr);
}

void cli_evaluation_print(const cli_call *call, const cli_evaluation *e) {
    const ht_evaluation *r = &e->result;
    printf("%s on %s: %zu windows of %llu tokens, no overlap, positions 1..%llu\n", e->model, e->text, r->windows,
           (unsigned long long)e->context, (unsigned long long)e->context - 1);
    printf("  perplexity       %.4f", r->perplexity);
    if (isfinite(r->nll_stderr))
        printf("  (95 %%: %.4f to %.4f)", exp(r->nll - 1.96 * r->nll_stderr), exp(r->nll + 1.96 * r->nll_stderr));
    printf("\n  nll              %.6f", r->nll);
    printf(isfinite(r->nll_stderr) ? " +- %.6f nats\n" : " nats\n", r->nll_stderr);
    if (e->base)
        print_base(e);
    for (size_t i = 0; i < HT_GATE_COUNT; i++)
        if (!isnan(e->gates.limit[i]))
            printf("  gate             %s %g: %.6g, %s\n", ht_gate_name((ht_gate)i), e->gates.limit[i],
                   ht_gate_figure((ht_gate)i, r), ht_gate_holds(&e->gates, (ht_gate)i, r) ? "holds" : "BROKEN");
    printf("  tokens           %s in %.2f s, %.0f tokens/s on %zu threads\n", cli_grouped(r->tokens), r->seconds,
           r->tokens_per_second, ht_context_threads(call->ctx));
}

/* Figures that are null without a base model follow from NaN. */
void cli_evaluation_json(json_t *out, const cli_evaluation *e) {
    const ht_evaluation *r = &e->result;
    json_object_set_new(out, "model", cli_json_text(e->model));
    json_object_set_new(out, "base", cli_json_text(e->base));
    json_object_set_new(out, "text", cli_json_text(e->text));
    json_object_set_new(out, "context", cli_json_count(e->context));
    json_object_set_new(out, "tokens", cli_json_count(r->tokens));
    json_object_set_new(out, "windows", cli_json_count(r->windows));
    ht_figure figure;
    for (size_t i = 0; ht_evaluation_figure(r, i, &figure); i++)
        json_object_set_new(out, figure.name, cli_json_real(figure.value));
    json_t *gates = json_array();
    for (size_t i = 0; i < HT_GATE_COUNT; i++) {
        if (isnan(e->gates.limit[i]))
            continue;
        json_t *gate = json_object();
        json_object_set_new(gate, "name", cli_json_text(ht_gate_name((ht_gate)i)));
        json_object_set_new(gate, "limit", cli_json_real(e->gates.limit[i]));
        json_object_set_new(gate, "figure", cli_json_real(ht_gate_figure((ht_gate)i, r)));
        json_object_set_new(gate, "ok", json_boolean(ht_gate_holds(&e->gates, (ht_gate)i, r)));
        json_array_append_new(gates, gate);
    }
    json_object_set_new(out, "gates", gates);
    json_object_set(out, "attention", e->layers);
}
