/* halftone run: continue a prompt.
 *
 * Tokens are shown as they come. A character may take several tokens, so text is held back while it ends in U+FFFD:
 * decode a short tail of already shown ids with and without the new ones, print the difference once it is whole. With
 * --json nothing is streamed and the same pieces are gathered.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

enum { TAIL = 6 }; /* ids before the new ones that the decoder sees */

typedef struct values {
    const char *prompt, *file, *cache, *attention;
    uint64_t count, top_k;
    double temperature, top_p;
    int ignore_eos, no_special, show_special;
} values;

static const cli_option rows[] = {
    {"prompt", 'p', CLI_TEXT, offsetof(values, prompt), "TEXT", NULL, "text to continue"},
    {"file", 'f', CLI_TEXT, offsetof(values, file), "FILE", NULL, "read the prompt from a file; - is standard input"},
    {"tokens", 'n', CLI_NUMBER, offsetof(values, count), "N", "64", "most tokens to generate"},
    {"temperature", 't', CLI_REAL, offsetof(values, temperature), "T", "0", "0 takes the most likely token every time"},
    {"top-p", 0, CLI_REAL, offsetof(values, top_p), "P", "1",
     "sample among the likeliest tokens that make up this much"},
    {"top-k", 0, CLI_NUMBER, offsetof(values, top_k), "K", "0", "sample among the K likeliest tokens; 0: all"},
    {"kv-cache", 0, CLI_TEXT, offsetof(values, cache), "FORMAT", "f32",
     "keys and values kept as f32, fp8, int8 or int4"},
    {"attention", 0, CLI_TEXT, offsetof(values, attention), "WORD", NULL,
     "what attention rounds: auto, f32, bf16, fp8, fp8-hadamard or fp8-hadamard-v (default auto: nothing)"},
    {"ignore-eos", 0, CLI_FLAG, offsetof(values, ignore_eos), NULL, NULL, "go on after an end-of-text token"},
    {"no-special", 0, CLI_FLAG, offsetof(values, no_special), NULL, NULL,
     "do not add the special tokens of the tokenizer's post-processor to the prompt"},
    {"show-special", 0, CLI_FLAG, offsetof(values, show_special), NULL, NULL, "show special tokens in the text"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_run_options = {rows, sizeof(values), NULL};

/* Ids seen so far, and how much of them is shown. */
typedef struct stream {
    const ht_tokenizer *tokenizer;
    int32_t *ids;              /* prompt, then generated */
    size_t count, from, shown; /* decode from `from`; ids before `shown` are printed */
    int skip_special, print;
    char *text; /* everything shown */
    size_t bytes;
    int failed;
} stream;

static void emit(stream *s, const char *text, size_t bytes) {
    char *grown = realloc(s->text, s->bytes + bytes + 1);
    if (!grown) {
        s->failed = 1;
        return;
    }
    s->text = grown;
    memcpy(s->text + s->bytes, text, bytes);
    s->bytes += bytes;
    s->text[s->bytes] = '\0';
    if (s->print) {
        fwrite(text, 1, bytes, stdout);
        fflush(stdout);
    }
}

/* Show what became readable; at the end, whatever is left. */
static void show(stream *s, int end) {
    char *before = NULL, *now = NULL;
    size_t known = 0, bytes = 0;
    ht_status status =
        ht_tokenizer_decode(s->tokenizer, s->ids + s->from, s->shown - s->from, s->skip_special, &before, &known);
    if (status == HT_OK)
        status = ht_tokenizer_decode(s->tokenizer, s->ids + s->from, s->count - s->from, s->skip_special, &now, &bytes);
    int whole = status == HT_OK && !(bytes >= 3 && memcmp(now + bytes - 3, "\xEF\xBF\xBD", 3) == 0);
    if (status != HT_OK) {
        s->failed = 1;
    } else if ((whole || end) && bytes > known) {
        emit(s, now + known, bytes - known);
        s->from = s->shown;
        s->shown = s->count;
    }
    ht_text_release(before);
    ht_text_release(now);
}

static int on_token(void *user, int32_t id) {
    stream *s = user;
    s->ids[s->count++] = id;
    show(s, 0);
    return s->failed;
}

static int report(const cli_call *call, const ht_model *model, const stream *s, const int32_t *ids,
                  const ht_generate_result *r) {
    double prefill = r->prefill_seconds > 0 ? (double)r->prefill_tokens / r->prefill_seconds : 0;
    double decode = r->decode_seconds > 0 && r->count > 1 ? (double)(r->count - 1) / r->decode_seconds : 0;
    size_t peak = ht_context_memory_peak(call->ctx);
    if (!call->common.json) {
        putchar('\n');
        fflush(stdout);
        cli_note(call, "%zu prompt tokens at %.0f/s, %zu new tokens at %.0f/s, %s of buffers", r->prefill_tokens,
                 prefill, r->count, decode, cli_size((double)peak));
        return CLI_DONE;
    }
    json_t *out = cli_json_begin(call), *list = json_array();
    for (size_t i = 0; i < r->count; i++)
        json_array_append_new(list, json_integer(ids[i]));
    json_object_set_new(out, "text", cli_json_bytes(s->text ? s->text : "", s->bytes));
    json_object_set_new(out, "ids", list);
    json_object_set_new(out, "prompt_tokens", cli_json_count(r->prefill_tokens));
    json_object_set_new(out, "prefill_seconds", cli_json_real(r->prefill_seconds));
    json_object_set_new(out, "decode_seconds", cli_json_real(r->decode_seconds));
    json_object_set_new(out, "prefill_tokens_per_second", cli_json_real(prefill));
    json_object_set_new(out, "decode_tokens_per_second", cli_json_real(decode));
    json_object_set_new(out, "peak_memory_bytes", cli_json_count(peak));
    json_object_set_new(out, "attention", cli_attention_json(model));
    return cli_json_end(out, CLI_DONE);
}

static int generate(const cli_call *call, ht_model *model, const ht_tokenizer *tokenizer, const ht_encoding *prompt) {
    const values *v = call->values;
    stream s = {.tokenizer = tokenizer, .skip_special = !v->show_special, .print = !call->common.json};
    s.ids = malloc((prompt->count + v->count + 1) * sizeof *s.ids);
    int32_t *ids = malloc((v->count + 1) * sizeof *ids);
    int exit_status;
    if (s.ids && ids) {
        memcpy(s.ids, prompt->ids, prompt->count * sizeof *s.ids);
        s.count = s.shown = prompt->count;
        s.from = prompt->count > TAIL ? prompt->count - TAIL : 0;
        ht_generate_options options = {.max_tokens = v->count,
                                       .sampling = {.temperature = (float)v->temperature,
                                                    .top_p = (float)v->top_p,
                                                    .top_k = (uint32_t)v->top_k,
                                                    .seed = call->common.seed},
                                       .ignore_eos = v->ignore_eos,
                                       .on_token = on_token,
                                       .user = &s};
        ht_generate_result result = {0};
        exit_status = cli_status(call, ht_model_generate(model, prompt->ids, prompt->count, &options, ids, &result));
        if (exit_status == CLI_DONE) {
            show(&s, 1);
            exit_status = s.failed
                              ? cli_fail(call, CLI_FAILED, "cannot decode the generated ids: %s", ht_error_message())
                              : report(call, model, &s, ids, &result);
        }
    } else {
        exit_status = cli_fail(call, CLI_RESOURCES, "no memory for %llu ids", (unsigned long long)v->count);
    }
    free(s.text);
    free(s.ids);
    free(ids);
    return exit_status;
}

/* The prompt as ids. */
static int encode(const cli_call *call, const ht_tokenizer *tokenizer, ht_encoding *out) {
    const values *v = call->values;
    size_t bytes = v->prompt ? strlen(v->prompt) : 0;
    int exit_status = CLI_DONE;
    char *file = v->file ? cli_read_file(call, v->file, &bytes, &exit_status) : NULL;
    if (v->file && !file)
        return exit_status;
    exit_status = cli_status(call, ht_tokenizer_encode(tokenizer, file ? file : v->prompt, bytes, !v->no_special, out));
    free(file);
    if (exit_status == CLI_DONE && !out->count)
        return cli_fail(call, CLI_USAGE, "the prompt is empty");
    return exit_status;
}

int cli_run(cli_call *call) {
    const values *v = call->values;
    if (!v->prompt == !v->file)
        return cli_fail(call, CLI_USAGE, "give one of -p TEXT and --file FILE (see halftone run --help)");
    if (v->temperature < 0 || v->top_p <= 0 || v->top_p > 1)
        return cli_fail(call, CLI_USAGE,
                        "--temperature %g --top-p %g: the first is at least 0, the second above 0 and at most 1",
                        v->temperature, v->top_p);
    if (v->count > 1u << 24)
        return cli_fail(call, CLI_USAGE, "-n %llu: at most %u tokens", (unsigned long long)v->count, 1u << 24);
    ht_tokenizer *tokenizer = NULL;
    ht_model *model = NULL;
    ht_encoding prompt = {0};
    int exit_status = cli_status(call, ht_tokenizer_open(call->ctx, call->argument[0], &tokenizer));
    if (exit_status == CLI_DONE)
        exit_status = encode(call, tokenizer, &prompt);
    if (exit_status == CLI_DONE)
        exit_status = cli_status(call, ht_model_open(call->ctx, call->argument[0], &model));
    if (exit_status == CLI_DONE)
        exit_status = cli_status(call, ht_model_set_cache(model, v->cache));
    if (exit_status == CLI_DONE)
        exit_status = cli_status(call, cli_attention_choose(call, model, v->attention));
    if (exit_status == CLI_DONE)
        exit_status = generate(call, model, tokenizer, &prompt);
    ht_model_close(model);
    ht_encoding_release(&prompt);
    ht_tokenizer_close(tokenizer);
    return exit_status;
}
