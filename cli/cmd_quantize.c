/* halftone quantize: make the smaller checkpoint, then say how large, how far off and how fast.
 *
 * The input rate stands beside two yardsticks measured in the same run: the rate at which the same input is copied to a
 * file of the same directory, and the rate of a copy in memory on as many threads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/bench.h"

enum { WORST = 5, MOST_FALLBACKS = 10 };

typedef struct rates {
    double input, file_copy, memory_copy; /* bytes per second; 0 unknown */
    size_t peak;                          /* bytes of buffers, before any evaluation */
} rates;

static int larger_error(const void *a, const void *b) {
    const ht_plan_tensor *x = *(const ht_plan_tensor *const *)a, *y = *(const ht_plan_tensor *const *)b;
    if (x->error != y->error)
        return x->error > y->error ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void print_worst(const ht_plan *plan) {
    static const cli_column columns[] = {
        {"largest error", 0, 1}, {"scheme", 0, 0}, {"method", 0, 0}, {"|w-w'|/|w|", 1, 0}};
    size_t count = 0;
    const ht_plan_tensor **sorted = malloc((ht_plan_count(plan) + 1) * sizeof *sorted);
    for (size_t i = 0; sorted && i < ht_plan_count(plan); i++) {
        const ht_plan_tensor *t = ht_plan_at(plan, i);
        if (*t->method && !isnan(t->error))
            sorted[count++] = t;
    }
    if (!count) {
        free(sorted);
        return;
    }
    qsort(sorted, count, sizeof *sorted, larger_error);
    cli_table *table = cli_table_create(columns, 4);
    for (size_t i = 0; i < count && i < WORST; i++) {
        cli_cell(table, "%s", sorted[i]->name);
        cli_cell(table, "%s", sorted[i]->got);
        cli_cell(table, "%s%s%s", sorted[i]->method, *sorted[i]->fallback ? " -> " : "", sorted[i]->fallback);
        cli_cell(table, "%.5f", sorted[i]->error);
    }
    cli_table_print(table, stdout);
    putchar('\n');
    free(sorted);
}

/* Tensors that did not get what was asked: nothing is silent. */
static void print_refused(const ht_plan *plan) {
    for (size_t i = 0; i < ht_plan_count(plan); i++) {
        const ht_plan_tensor *t = ht_plan_at(plan, i);
        if (*t->reason && *t->asked && strcmp(t->asked, "keep") != 0)
            printf("kept %s as %s: %s\n", t->name, t->got, t->reason);
    }
}

/* Tensors of which a matrix did not get its method, in their format all the same. */
static void print_fallbacks(const ht_plan *plan) {
    size_t count = 0;
    for (size_t i = 0; i < ht_plan_count(plan); i++) {
        const ht_plan_tensor *t = ht_plan_at(plan, i);
        if (*t->fallback && count++ < MOST_FALLBACKS)
            printf("%s not by %s: %s\n", t->name, t->method, t->fallback);
    }
    if (count > MOST_FALLBACKS)
        printf("and %zu more (--json lists all)\n", count - MOST_FALLBACKS);
}

static void print_text(const cli_call *call, const ht_plan *plan, const rates *r) {
    const cli_quantize_values *v = call->values;
    ht_plan_summary sum = ht_plan_summarize(plan);
    print_worst(plan);
    print_refused(plan);
    print_fallbacks(plan);
    printf("%s: %zu tensors quantized, %zu kept\n", v->output, sum.quantized, sum.kept);
    printf("size    %s -> %s (%s), %.3f bits per quantized weight\n", cli_size((double)sum.bytes_before),
           cli_size((double)sum.bytes_after),
           cli_percent(sum.bytes_before ? (double)sum.bytes_after / (double)sum.bytes_before : 0), sum.bits_per_weight);
    printf("time    %.2f s on %zu threads, %s of buffers at most\n", sum.seconds, ht_context_threads(call->ctx),
           cli_size((double)r->peak));
    printf("rate    %s/s of input; file copy %s%s, memory copy %s/s\n", cli_size(r->input),
           r->file_copy > 0 ? cli_size(r->file_copy) : "not measured", r->file_copy > 0 ? "/s" : "",
           cli_size(r->memory_copy));
}

static void print_json(const cli_call *call, const ht_plan *plan, const rates *r, const cli_evaluation *e) {
    const cli_quantize_values *v = call->values;
    json_t *out = cli_json_begin(call);
    json_object_set_new(out, "output", cli_json_text(v->output));
    cli_plan_json(out, plan, 1);
    json_object_set_new(out, "peak_memory_bytes", cli_json_count(r->peak));
    json_object_set_new(out, "threads", cli_json_count(ht_context_threads(call->ctx)));
    json_object_set_new(out, "input_bytes_per_second", cli_json_real(r->input));
    json_object_set_new(out, "file_copy_bytes_per_second",
                        r->file_copy > 0 ? cli_json_real(r->file_copy) : json_null());
    json_object_set_new(out, "copy_bytes_per_second", r->memory_copy > 0 ? cli_json_real(r->memory_copy) : json_null());
    if (e->text) {
        json_t *evaluation = json_object();
        cli_evaluation_json(evaluation, e);
        json_object_set_new(out, "evaluation", evaluation);
    }
    cli_json_end(out, CLI_DONE);
}

static rates measure(const cli_call *call, const ht_plan *plan) {
    const cli_quantize_values *v = call->values;
    rates r = {.input = ht_plan_summarize(plan).bytes_per_second,
               .memory_copy = bench_memory_copy(ht_context_threads(call->ctx)),
               .peak = ht_context_memory_peak(call->ctx)};
    ht_checkpoint *input = NULL;
    if (ht_checkpoint_open(call->ctx, call->argument[0], &input) == HT_OK)
        r.file_copy = bench_file_copy(input, v->output);
    ht_checkpoint_close(input);
    return r;
}

/* The recipe's gates, and the text they are judged on: asked for before anything is computed. */
static int prepare_evaluation(const cli_call *call, cli_evaluation *e) {
    const cli_quantize_values *v = call->values;
    *e = (cli_evaluation){
        .text = v->eval, .context = v->eval_context, .tokens = v->eval_tokens, .gates = ht_gates_none()};
    if (v->recipe) {
        ht_recipe *recipe = NULL;
        int exit_status = cli_status(call, ht_recipe_open(call->ctx, v->recipe, &recipe));
        if (exit_status != CLI_DONE)
            return exit_status;
        e->gates = ht_recipe_gates(recipe);
        ht_recipe_close(recipe);
    }
    if (!e->text && ht_gates_any(&e->gates))
        return cli_fail(call, CLI_USAGE, "%s: the recipe has gates: give --eval FILE to judge the result by",
                        v->recipe);
    return e->text ? cli_evaluation_read(call, e, call->argument[0]) : CLI_DONE;
}

static int quantize(cli_call *call, const ht_quantize_options *options, cli_evaluation *e) {
    const cli_quantize_values *v = call->values;
    ht_plan *plan = NULL;
    ht_status status = ht_quantize_checkpoint(call->ctx, call->argument[0], v->output, options, &plan);
    cli_progress_clear(call->progress);
    int exit_status = cli_status(call, status);
    if (status == HT_ERR_CANCELLED)
        cli_note(call, "halftone: quantize: give the same command again to go on");
    rates r = {0};
    if (exit_status == CLI_DONE)
        r = measure(call, plan);
    if (exit_status == CLI_DONE && e->text)
        exit_status = cli_evaluation_run(call, e, v->output, call->argument[0]);
    if (exit_status == CLI_DONE && call->common.json)
        print_json(call, plan, &r, e);
    else if (exit_status == CLI_DONE)
        print_text(call, plan, &r);
    if (exit_status == CLI_DONE && e->text && !call->common.json)
        cli_evaluation_print(call, e);
    if (exit_status == CLI_DONE)
        exit_status = cli_report(call, v->report, plan, v->output, r.peak, e);
    if (exit_status == CLI_DONE && e->text)
        exit_status = cli_evaluation_gates(call, e);
    ht_plan_destroy(plan);
    return exit_status;
}

int cli_quantize(cli_call *call) {
    const cli_quantize_values *v = call->values;
    ht_quantize_options options;
    int exit_status = cli_quantize_choose(call, &options);
    if (exit_status != CLI_DONE)
        return exit_status;
    if (v->dry_run)
        return cli_plan(call);
    if (!v->output)
        return cli_fail(call, CLI_USAGE, "needs -o OUT (see halftone quantize --help)");
    cli_evaluation e = {0};
    exit_status = cli_report_check(call, v->report);
    if (exit_status == CLI_DONE)
        exit_status = prepare_evaluation(call, &e);
    if (exit_status == CLI_DONE)
        exit_status = quantize(call, &options, &e);
    cli_evaluation_release(&e);
    return exit_status;
}
