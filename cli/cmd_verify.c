/* halftone verify: re-read a quantized checkpoint as a stranger would, and say what was looked at.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <stddef.h>

typedef struct values {
    const char *against, *reader;
} values;

static const cli_option rows[] = {{"against", 0, CLI_TEXT, offsetof(values, against), "MODEL", NULL,
                                   "the float original: names, shapes and decoded values are compared with it"},
                                  {"for", 0, CLI_TEXT, offsetof(values, reader), "READER", NULL,
                                   "also check the rules of that reader: vllm, transformers or llama.cpp"},
                                  {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_verify_options = {rows, sizeof(values), NULL};

static void print_json(const cli_call *call, const ht_verification *result) {
    json_t *out = cli_json_begin(call), *checks = json_array();
    json_object_set_new(out, "path", cli_json_text(call->argument[0]));
    json_object_set_new(out, "ok", json_boolean(ht_verification_ok(result)));
    for (size_t i = 0; ht_verification_check(result, i); i++) {
        const ht_check *check = ht_verification_check(result, i);
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(check->name));
        json_object_set_new(row, "ok", json_boolean(check->ok));
        json_object_set_new(row, "detail", cli_json_text(check->detail));
        json_array_append_new(checks, row);
    }
    json_object_set_new(out, "checks", checks);
    cli_json_end(out, CLI_DONE);
}

int cli_verify(cli_call *call) {
    const values *v = call->values;
    ht_verification *result = NULL;
    ht_status status = ht_verify(call->ctx, call->argument[0], v->against, v->reader, &result);
    if (status != HT_OK)
        return cli_status(call, status);
    const ht_check *failed = NULL;
    size_t count = 0, failures = 0;
    for (; ht_verification_check(result, count); count++) {
        const ht_check *check = ht_verification_check(result, count);
        failures += !check->ok;
        failed = failed || check->ok ? failed : check;
        if (!call->common.json)
            printf("%s  %-18s %s\n", check->ok ? "ok  " : "FAIL", check->name, check->detail);
    }
    if (call->common.json)
        print_json(call, result);
    else
        printf("%zu checks, %zu failed\n", count, failures);
    int exit_status = CLI_DONE;
    if (!ht_verification_ok(result))
        exit_status = cli_fail(call, CLI_MISMATCH, "%s: %zu of %zu checks failed, first %s: %s", call->argument[0],
                               failures, count, failed ? failed->name : "-", failed ? failed->detail : "-");
    ht_verification_destroy(result);
    return exit_status;
}
