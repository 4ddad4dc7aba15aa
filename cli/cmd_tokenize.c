/* halftone tokenize: text to token ids and back.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct values {
    const char *text, *prompt, *ids;
    int no_special, skip_special, tokens;
} values;

static const cli_option rows[] = {
    {"text", 0, CLI_TEXT, offsetof(values, text), "FILE", NULL, "text to encode; - is standard input"},
    {"prompt", 'p', CLI_TEXT, offsetof(values, prompt), "STR", NULL, "string to encode"},
    {"ids", 0, CLI_TEXT, offsetof(values, ids), "1,2,3", NULL, "ids to decode instead"},
    {"tokens", 0, CLI_FLAG, offsetof(values, tokens), NULL, NULL, "one line for every token: id and text"},
    {"no-special", 0, CLI_FLAG, offsetof(values, no_special), NULL, NULL,
     "do not add the special tokens of the tokenizer's post-processor"},
    {"skip-special", 0, CLI_FLAG, offsetof(values, skip_special), NULL, NULL,
     "leave special tokens out of decoded text"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_tokenize_options = {rows, sizeof(values), NULL};

static json_t *ids_json(const int32_t *ids, size_t count) {
    json_t *all = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(all, json_integer(ids[i]));
    return all;
}

static void print_tokens(const ht_tokenizer *tokenizer, const int32_t *ids, size_t count) {
    static const cli_column columns[] = {{"id", 1, 0}, {"token", 0, 0}};
    cli_table *table = cli_table_create(columns, 2);
    for (size_t i = 0; i < count; i++) {
        const char *token = ht_tokenizer_token(tokenizer, ids[i]);
        cli_cell(table, "%d", ids[i]);
        cli_cell(table, "%s", token ? token : "");
    }
    cli_table_print(table, stdout);
}

static int print(const cli_call *call, const ht_tokenizer *tokenizer, const int32_t *ids, size_t count,
                 const char *text, size_t bytes) {
    const values *v = call->values;
    if (call->common.json) {
        json_t *out = cli_json_begin(call);
        json_object_set_new(out, "count", cli_json_count(count));
        json_object_set_new(out, "ids", ids_json(ids, count));
        if (text)
            json_object_set_new(out, "text", cli_json_bytes(text, bytes));
        return cli_json_end(out, CLI_DONE);
    }
    if (v->tokens) {
        print_tokens(tokenizer, ids, count);
    } else if (text) {
        fwrite(text, 1, bytes, stdout);
        putchar('\n');
    } else {
        for (size_t i = 0; i < count; i++)
            printf("%s%d", i ? " " : "", ids[i]);
        putchar('\n');
    }
    return CLI_DONE;
}

static int encode(const cli_call *call, const ht_tokenizer *tokenizer) {
    const values *v = call->values;
    char *file = NULL;
    size_t bytes = v->prompt ? strlen(v->prompt) : 0;
    int exit_status = CLI_DONE;
    if (v->text && !(file = cli_read_file(call, v->text, &bytes, &exit_status)))
        return exit_status;
    ht_encoding encoding = {0};
    ht_status status = ht_tokenizer_encode(tokenizer, file ? file : v->prompt, bytes, !v->no_special, &encoding);
    free(file);
    if (status != HT_OK)
        return cli_status(call, status);
    exit_status = print(call, tokenizer, encoding.ids, encoding.count, NULL, 0);
    ht_encoding_release(&encoding);
    return exit_status;
}

static int decode(const cli_call *call, const ht_tokenizer *tokenizer) {
    const values *v = call->values;
    size_t count, bytes;
    int32_t *ids = cli_parse_ids(call, v->ids, &count);
    if (!ids)
        return CLI_USAGE;
    char *text = NULL;
    int exit_status = cli_status(call, ht_tokenizer_decode(tokenizer, ids, count, v->skip_special, &text, &bytes));
    if (exit_status == CLI_DONE)
        exit_status = print(call, tokenizer, ids, count, text, bytes);
    ht_text_release(text);
    free(ids);
    return exit_status;
}

int cli_tokenize(cli_call *call) {
    const values *v = call->values;
    if (!!v->text + !!v->prompt + !!v->ids != 1)
        return cli_fail(call, CLI_USAGE, "give one of --text FILE, -p STR and --ids (see halftone tokenize --help)");
    ht_tokenizer *tokenizer = NULL;
    ht_status status = ht_tokenizer_open(call->ctx, call->argument[0], &tokenizer);
    if (status != HT_OK)
        return cli_status(call, status);
    int exit_status = v->ids ? decode(call, tokenizer) : encode(call, tokenizer);
    ht_tokenizer_close(tokenizer);
    return exit_status;
}
