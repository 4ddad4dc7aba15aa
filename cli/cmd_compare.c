/* halftone compare: two checkpoints parameter by parameter, worst first.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef struct values {
    uint64_t top;
    int different;
} values;

static const cli_option rows[] = {
    {"top", 'n', CLI_NUMBER, offsetof(values, top), "N", NULL, "only the N worst tensors; 0: all"},
    {"different", 0, CLI_FLAG, offsetof(values, different), NULL, NULL, "leave out tensors that are equal"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_compare_options = {rows, sizeof(values), NULL};

/* Notes (only in one, other shape) first, then by falling error; names break ties. */
static int worse(const void *a, const void *b) {
    const ht_tensor_difference *x = *(const ht_tensor_difference *const *)a;
    const ht_tensor_difference *y = *(const ht_tensor_difference *const *)b;
    if (!*x->note != !*y->note)
        return *x->note ? -1 : 1;
    double p = isnan(x->sqnr_db) ? -HUGE_VAL : x->sqnr_db, q = isnan(y->sqnr_db) ? -HUGE_VAL : y->sqnr_db;
    if (p != q)
        return p < q ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void print_json(const cli_call *call, const ht_tensor_difference **sorted, size_t count, size_t equal) {
    json_t *out = cli_json_begin(call), *tensors = json_array();
    json_object_set_new(out, "a", cli_json_text(call->argument[0]));
    json_object_set_new(out, "b", cli_json_text(call->argument[1]));
    json_object_set_new(out, "equal", cli_json_count(equal));
    for (size_t i = 0; i < count; i++) {
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(sorted[i]->name));
        json_object_set_new(row, "sqnr_db", cli_json_real(sorted[i]->sqnr_db));
        json_object_set_new(row, "max_abs", cli_json_real(sorted[i]->max_abs));
        json_object_set_new(row, "note", cli_json_text(sorted[i]->note));
        json_array_append_new(tensors, row);
    }
    json_object_set_new(out, "tensors", tensors);
    cli_json_end(out, CLI_DONE);
}

static void print_text(const ht_tensor_difference **sorted, size_t count, size_t total, size_t equal) {
    static const cli_column columns[] = {{"tensor", 0, 1}, {"SQNR dB", 1, 0}, {"max |a-b|", 1, 0}, {"note", 0, 0}};
    cli_table *table = cli_table_create(columns, 4);
    for (size_t i = 0; i < count; i++) {
        cli_cell(table, "%s", sorted[i]->name);
        if (isinf(sorted[i]->sqnr_db) && sorted[i]->sqnr_db > 0)
            cli_cell(table, "equal");
        else
            cli_cell(table, "%.2f", sorted[i]->sqnr_db);
        cli_cell(table, "%.4g", sorted[i]->max_abs);
        cli_cell(table, "%s", sorted[i]->note);
    }
    cli_table_print(table, stdout);
    printf("%zu tensors, %zu equal\n", total, equal);
}

int cli_compare(cli_call *call) {
    const values *v = call->values;
    ht_comparison *result = NULL;
    ht_status status = ht_compare(call->ctx, call->argument[0], call->argument[1], &result);
    if (status != HT_OK)
        return cli_status(call, status);
    size_t total = 0, equal = 0, shown = 0;
    while (ht_comparison_at(result, total))
        total++;
    const ht_tensor_difference **sorted = malloc((total + 1) * sizeof *sorted);
    for (size_t i = 0; sorted && i < total; i++) {
        const ht_tensor_difference *row = ht_comparison_at(result, i);
        int same = !*row->note && row->max_abs == 0;
        equal += (size_t)same;
        if (!same || !v->different)
            sorted[shown++] = row;
    }
    int exit_status = CLI_DONE;
    if (sorted) {
        qsort(sorted, shown, sizeof *sorted, worse);
        if (v->top && v->top < shown)
            shown = v->top;
        if (call->common.json)
            print_json(call, sorted, shown, equal);
        else
            print_text(sorted, shown, total, equal);
    } else {
        exit_status = cli_fail(call, CLI_RESOURCES, "no memory for %zu rows", total);
    }
    free(sorted);
    ht_comparison_destroy(result);
    return exit_status;
}
