/* halftone bench: rates of this machine, each beside a yardstick measured in the same run.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <string.h>

#include "bench/bench.h"

typedef struct values {
    const char *what, *model;
    uint64_t m, n, k, rounds;
} values;

static const cli_option rows[] = {
    {"what", 'w', CLI_TEXT, offsetof(values, what), "NAME", NULL,
     "only this format (cast, gptq) or scheme (matmul, kernels)"},
    {"model", 0, CLI_TEXT, offsetof(values, model), "MODEL", NULL, "directory of the model (model)"},
    {"m", 'm', CLI_NUMBER, offsetof(values, m), "N", NULL,
     "rows of activations (matmul, dense), or of the matrix to cast"},
    {"n", 'n', CLI_NUMBER, offsetof(values, n), "N", NULL, "outputs of the weight (matmul, gptq)"},
    {"k", 'k', CLI_NUMBER, offsetof(values, k), "N", NULL, "inputs of the weight, or columns of the matrix to cast"},
    {"rounds", 0, CLI_NUMBER, offsetof(values, rounds), "N", "5", "alternating rounds that the medians are taken over"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_bench_options = {rows, sizeof(values), NULL};

typedef struct sink {
    const cli_call *call;
    json_t *rows;
    cli_table *table;
} sink;

static json_t *rate(double value) {
    return value > 0 ? cli_json_real(value) : json_null();
}

static json_t *size(size_t value) {
    return value ? cli_json_count(value) : json_null();
}

static void add_json(json_t *all, const bench_row *row) {
    json_t *out = json_object();
    json_object_set_new(out, "op", cli_json_text(row->op));
    json_object_set_new(out, "kernel", *row->kernel ? cli_json_text(row->kernel) : json_null());
    json_object_set_new(out, "device", json_string("cpu"));
    json_object_set_new(out, "m", size(row->m));
    json_object_set_new(out, "n", size(row->n));
    json_object_set_new(out, "k", size(row->k));
    json_object_set_new(out, "seconds", cli_json_real(row->seconds));
    json_object_set_new(out, "seconds_p10", rate(row->seconds_low));
    json_object_set_new(out, "seconds_p90", rate(row->seconds_high));
    json_object_set_new(out, "gmac_s", rate(row->gmac_s));
    json_object_set_new(out, "gflop_s", rate(row->gflop_s));
    json_object_set_new(out, "gb_s", rate(row->gb_s));
    json_object_set_new(out, "probe", *row->probe ? cli_json_text(row->probe) : json_null());
    json_object_set_new(out, "probe_rate", rate(row->probe_rate));
    json_object_set_new(out, "fraction", rate(row->fraction));
    json_array_append_new(all, out);
}

static void cell(cli_table *table, double value, const char *format_word) {
    if (value <= 0)
        cli_cell(table, "%s", "-");
    else if (*format_word == '0')
        cli_cell(table, "%.0f", value);
    else
        cli_cell(table, "%.3g", value);
}

static void add(void *user, const bench_row *row) {
    sink *s = user;
    if (s->rows) {
        add_json(s->rows, row);
        return;
    }
    cli_cell(s->table, "%s", row->op);
    cli_cell(s->table, "%s", *row->kernel ? row->kernel : "-");
    cell(s->table, (double)row->m, "0");
    cell(s->table, (double)row->n, "0");
    cell(s->table, (double)row->k, "0");
    cell(s->table, 1e3 * row->seconds, "");
    cell(s->table, row->gmac_s, "");
    cell(s->table, row->gb_s, "");
    if (!*row->probe) {
        cli_cell(s->table, "%s", "-");
        cli_cell(s->table, "%s", "-");
        return;
    }
    cli_cell(s->table, "%s at %.3g %s", row->probe, row->probe_rate,
             strcmp(row->probe, "copy") == 0 ? "GB/s" : "GFLOP/s");
    cli_cell(s->table, "%s", cli_percent(row->fraction));
}

static int run(const cli_call *call, const bench_suite *suite) {
    static const cli_column columns[] = {{"op", 0, 0},     {"kernel", 0, 0}, {"m", 1, 0},      {"n", 1, 0},
                                         {"k", 1, 0},      {"ms", 1, 0},     {"GMAC/s", 1, 0}, {"GB/s", 1, 0},
                                         {"beside", 0, 0}, {"of it", 1, 0}};
    const values *v = call->values;
    sink s = {.call = call};
    if (call->common.json)
        s.rows = json_array();
    else
        s.table = cli_table_create(columns, 10);
    bench_request request = {.ctx = call->ctx,
                             .what = v->what,
                             .model = v->model,
                             .m = (size_t)v->m,
                             .n = (size_t)v->n,
                             .k = (size_t)v->k,
                             .rounds = (size_t)v->rounds,
                             .threads = ht_context_threads(call->ctx),
                             .sink = add,
                             .user = &s};
    int exit_status = cli_status(call, suite->run(&request));
    if (call->common.json && exit_status == CLI_DONE) {
        json_t *out = cli_json_begin(call);
        json_object_set_new(out, "what", json_string(suite->name));
        json_object_set_new(out, "cpu", cli_json_text(ht_context_cpu_name(call->ctx)));
        json_object_set_new(out, "threads", cli_json_count(request.threads));
        json_object_set_new(out, "rows", s.rows);
        return cli_json_end(out, exit_status);
    }
    json_decref(s.rows);
    if (!call->common.json && exit_status == CLI_DONE)
        printf("%s, %zu threads, medians of %zu alternating rounds\n", ht_context_cpu_name(call->ctx), request.threads,
               request.rounds);
    cli_table_print(s.table, stdout);
    return exit_status;
}

int cli_bench(cli_call *call) {
    const values *v = call->values;
    const char *names[16] = {NULL};
    for (size_t i = 0; bench_suite_at(i) && i < 15; i++) {
        names[i] = bench_suite_at(i)->name;
        if (strcmp(call->argument[0], names[i]) != 0)
            continue;
        if (strcmp(names[i], "model") == 0 && !v->model)
            return cli_fail(call, CLI_USAGE, "model needs --model MODEL (see halftone bench --help)");
        return run(call, bench_suite_at(i));
    }
    const char *near = cli_nearest(call->argument[0], names);
    return cli_fail(call, CLI_USAGE, "nothing called \"%.60s\" to measure%s%s%s (see halftone bench --help)",
                    call->argument[0], near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
}
