/* halftone eval: perplexity of a text, and distance from another model measured in the same pass.
 *
 * The protocol is ht_model_evaluate's (docs/evaluation.md); the first line of the result says it, so that a number
 * always travels with the way it was made. SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct values {
    const char *text, *against;
    uint64_t context, tokens;
} values;

static const cli_option rows[] = {
    {"text", 0, CLI_TEXT, offsetof(values, text), "FILE", NULL, "UTF-8 text to predict; - is standard input"},
    {"context", 'c', CLI_NUMBER, offsetof(values, context), "N", "512", "tokens of a window"},
    {"tokens", 'n', CLI_NUMBER, offsetof(values, tokens), "N", NULL, "use only the first N tokens of the text; 0: all"},
    {"against", 0, CLI_TEXT, offsetof(values, against), "MODEL", NULL,
     "the float model: also its perplexity, KL divergence from it and how often both predict the same token"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_eval_options = {rows, sizeof(values)};

static void print_json(const cli_call *call, const ht_evaluation *e) {
    const values *v = call->values;
    json_t *out = cli_json_begin(call);
    json_object_set_new(out, "model", cli_json_text(call->argument[0]));
    json_object_set_new(out, "text", cli_json_text(v->text));
    json_object_set_new(out, "context", cli_json_count(v->context));
    json_object_set_new(out, "perplexity", cli_json_real(e->perplexity));
    json_object_set_new(out, "nll", cli_json_real(e->nll));
    json_object_set_new(out, "nll_stderr", cli_json_real(e->nll_stderr));
    json_object_set_new(out, "tokens", cli_json_count(e->tokens));
    json_object_set_new(out, "windows", cli_json_count(e->windows));
    json_object_set_new(out, "seconds", cli_json_real(e->seconds));
    json_object_set_new(out, "tokens_per_second", cli_json_real(e->tokens_per_second));
    json_object_set_new(out, "base_perplexity", v->against ? cli_json_real(e->base_perplexity) : json_null());
    json_object_set_new(out, "kl_mean", v->against ? cli_json_real(e->kl_mean) : json_null());
    json_object_set_new(out, "kl_p99", v->against ? cli_json_real(e->kl_p99) : json_null());
    json_object_set_new(out, "top1_agreement", v->against ? cli_json_real(e->top1_agreement) : json_null());
    cli_json_end(out, CLI_DONE);
}

static void print_text(const cli_call *call, const ht_evaluation *e) {
    const values *v = call->values;
    printf("%s on %s: %zu windows of %llu tokens, no overlap, positions 1..%llu\n", call->argument[0], v->text,
           e->windows, (unsigned long long)v->context, (unsigned long long)v->context - 1);
    printf("  perplexity       %.4f  (95 %%: %.4f to %.4f)\n", e->perplexity, exp(e->nll - 1.96 * e->nll_stderr),
           exp(e->nll + 1.96 * e->nll_stderr));
    printf("  nll              %.6f +- %.6f nats\n", e->nll, e->nll_stderr);
    if (v->against) {
        printf("  base perplexity  %.4f  (%s)\n", e->base_perplexity, v->against);
        printf("  change           %+.2f %%\n", 100 * (e->perplexity / e->base_perplexity - 1));
        printf("  KL divergence    %.6f mean, %.6f at the 99th percentile, nats\n", e->kl_mean, e->kl_p99);
        printf("  top-1 agreement  %.2f %%\n", 100 * e->top1_agreement);
    }
    printf("  tokens           %s in %.2f s, %.0f tokens/s on %zu threads\n", cli_grouped(e->tokens), e->seconds,
           e->tokens_per_second, ht_context_threads(call->ctx));
}

/* The ids of the whole text, special tokens only where the tokenizer's post-processor adds them. */
static int encode(const cli_call *call, ht_encoding *out) {
    const values *v = call->values;
    size_t bytes;
    int exit_status = CLI_DONE;
    char *text = cli_read_file(call, v->text, &bytes, &exit_status);
    if (!text)
        return exit_status;
    ht_tokenizer *tokenizer = NULL;
    ht_status status = ht_tokenizer_open(call->ctx, call->argument[0], &tokenizer);
    if (status == HT_OK)
        status = ht_tokenizer_encode(tokenizer, text, bytes, 1, out);
    exit_status = cli_status(call, status);
    ht_tokenizer_close(tokenizer);
    free(text);
    return exit_status;
}

int cli_eval(cli_call *call) {
    const values *v = call->values;
    if (!v->text)
        return cli_fail(call, CLI_USAGE, "needs --text FILE (see halftone eval --help)");
    if (v->context < 2)
        return cli_fail(call, CLI_USAGE, "--context %llu: a window needs at least 2 tokens",
                        (unsigned long long)v->context);
    ht_encoding ids = {0};
    ht_model *model = NULL, *base = NULL;
    ht_evaluation result = {0};
    int exit_status = encode(call, &ids);
    if (exit_status == CLI_DONE)
        exit_status = cli_status(call, ht_model_open(call->ctx, call->argument[0], &model));
    if (exit_status == CLI_DONE && v->against)
        exit_status = cli_status(call, ht_model_open(call->ctx, v->against, &base));
    if (exit_status == CLI_DONE) {
        ht_evaluate_options options = {.context = v->context, .max_tokens = v->tokens, .against = base};
        exit_status = cli_status(call, ht_model_evaluate(model, ids.ids, ids.count, &options, &result));
    }
    cli_progress_clear(call->progress);
    if (exit_status == CLI_DONE && call->common.json)
        print_json(call, &result);
    else if (exit_status == CLI_DONE)
        print_text(call, &result);
    ht_model_close(base);
    ht_model_close(model);
    ht_encoding_release(&ids);
    return exit_status;
}
