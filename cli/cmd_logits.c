/* halftone logits: the f32 logits of a sequence, written as one safetensors file.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct values {
    const char *ids, *output;
    int overwrite;
} values;

static const cli_option rows[] = {
    {"ids", 0, CLI_TEXT, offsetof(values, ids), "1,2,3", NULL,
     "token ids of the sequence; @FILE reads them from a file"},
    {"output", 'o', CLI_TEXT, offsetof(values, output), "FILE", NULL, "safetensors file to write"},
    {"overwrite", 0, CLI_FLAG, offsetof(values, overwrite), NULL, NULL, "replace an existing file"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_logits_options = {rows, sizeof(values), NULL};

static int32_t *read_ids(const cli_call *call, size_t *count, int *exit_status) {
    const values *v = call->values;
    size_t bytes;
    *exit_status = CLI_USAGE;
    if (v->ids[0] != '@')
        return cli_parse_ids(call, v->ids, count);
    char *text = cli_read_file(call, v->ids + 1, &bytes, exit_status);
    int32_t *ids = text ? cli_parse_ids(call, text, count) : NULL;
    free(text);
    return ids;
}

/* Run the sequence and write [tokens, vocabulary]. */
static int compute(const cli_call *call, ht_model *model, const int32_t *ids, size_t count) {
    const values *v = call->values;
    size_t vocabulary = ht_model_describe(model).vocabulary;
    float *logits = calloc(count, vocabulary * sizeof *logits);
    ht_sequence *sequence = NULL;
    if (!logits)
        return cli_fail(call, CLI_RESOURCES, "no memory for logits of %zu tokens x %zu ids", count, vocabulary);
    ht_status status = ht_sequence_create(model, count, &sequence);
    if (status == HT_OK)
        status = ht_model_forward(model, sequence, ids, count, logits, count);
    if (status == HT_OK) {
        static const char *const names[] = {"logits"};
        ht_tensor tensor = ht_tensor_view_2d(logits, HT_F32, count, vocabulary);
        status = ht_safetensors_save(call->ctx, v->output, names, &tensor, 1, NULL);
    }
    int exit_status = cli_status(call, status);
    ht_sequence_destroy(sequence);
    free(logits);
    if (exit_status != CLI_DONE)
        return exit_status;
    if (call->common.json) {
        json_t *out = cli_json_begin(call);
        json_object_set_new(out, "tokens", cli_json_count(count));
        json_object_set_new(out, "vocabulary", cli_json_count(vocabulary));
        json_object_set_new(out, "output", cli_json_text(v->output));
        return cli_json_end(out, CLI_DONE);
    }
    printf("%s: logits [%zu,%zu] f32\n", v->output, count, vocabulary);
    return CLI_DONE;
}

int cli_logits(cli_call *call) {
    const values *v = call->values;
    if (!v->ids || !v->output)
        return cli_fail(call, CLI_USAGE, "needs --ids and -o FILE (see halftone logits --help)");
    if (!v->overwrite && access(v->output, F_OK) == 0)
        return cli_fail(call, CLI_FAILED, "%s: exists; --overwrite replaces it", v->output);
    int exit_status;
    size_t count;
    int32_t *ids = read_ids(call, &count, &exit_status);
    if (!ids)
        return exit_status;
    ht_model *model = NULL;
    exit_status = cli_status(call, ht_model_open(call->ctx, call->argument[0], &model));
    if (exit_status == CLI_DONE)
        exit_status = compute(call, model, ids, count);
    ht_model_close(model);
    free(ids);
    return exit_status;
}
