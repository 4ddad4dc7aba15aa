/* halftone search: what each linear loses under each scheme, and the recipe that spends a budget best.
 *
 * The recipe goes to -o, or to standard output; the table of what was found then goes nowhere but --json.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_CANDIDATES = 64, LONGEST = 2048, SHOWN = 12 };

typedef struct values {
    double target_bpw;
    uint64_t target_size;
    const char *data, *output, *candidates, *method, *profile, *experts;
    cli_words set;
    int sensitivity, rounding, mixed_groups, mode;
    uint64_t samples, length, held_out, exchanges;
} values;

static const cli_option rows[] = {
    {"target-bpw", 0, CLI_REAL, offsetof(values, target_bpw), "BITS", NULL,
     "bits per weight of the quantized linears, scales and all that belongs to them included"},
    {"target-size", 0, CLI_BYTES, offsetof(values, target_size), "BYTES", NULL,
     "instead: size of the whole output, every file of it; suffixes K M G (1000) and KiB MiB GiB (1024)"},
    {"data", 0, CLI_TEXT, offsetof(values, data), "FILE", NULL, "UTF-8 text to measure on"},
    {"output", 'o', CLI_TEXT, offsetof(values, output), "RECIPE", NULL,
     "the recipe, for quantize --recipe; without it, it is printed"},
    {"candidates", 0, CLI_TEXT, offsetof(values, candidates), "S,S,...", NULL,
     "schemes to choose from; keep: as stored. Without it: those of 3 to 8 bits that the profile can have"},
    {"sensitivity", 0, CLI_CHOICE, offsetof(values, sensitivity), "hessian|diagonal|kl", "hessian",
     "what counts as loss: relative output error of each linear, times what its layer adds to the rows; the same "
     "from the diagonal alone; or the error scaled by what one exchange does to the model's output"},
    {"exchanges", 0, CLI_NUMBER, offsetof(values, exchanges), "N", "16",
     "kl: further windows of the text that exchanges are measured on"},
    {"rounding", 0, CLI_FLAG, offsetof(values, rounding), NULL, NULL,
     "measure rounding to nearest instead of the method: faster"},
    {"mixed-groups", 0, CLI_FLAG, offsetof(values, mixed_groups), NULL, NULL,
     "q, k, v, gate and up may differ; most readers run them as one matrix and cannot load that"},
    {"method", 0, CLI_TEXT, offsetof(values, method), "NAME", "gptq", "method of the recipe"},
    {"set", 0, CLI_WORDS, offsetof(values, set), "NAME=VALUE", NULL,
     "setting of the method or option of the schemes that know it; may be given several times (default "
     "scale_dtype=bf16)"},
    {"hessian-act", 0, CLI_ALIAS, offsetof(values, set), "hessian=quantized", NULL,
     "gptq: statistics of the inputs as the scheme quantizes them, the same as --set hessian=quantized"},
    {"profile", 0, CLI_TEXT, offsetof(values, profile), "NAME", "compressed-tensors", "how the result will be stored"},
    {"samples", 0, CLI_NUMBER, offsetof(values, samples), "N", NULL, "windows of the text (default 128)"},
    {"length", 0, CLI_NUMBER, offsetof(values, length), "N", NULL, "tokens of a window (default 512)"},
    {"held-out", 0, CLI_NUMBER, offsetof(values, held_out), "N", NULL,
     "for the recipe: held-out windows of the method"},
    {"mode", 0, CLI_CHOICE, offsetof(values, mode), "default|non-sequential|sequential|true-sequential", "default",
     "for the recipe: which model calibration inputs come from"},
    {"experts", 0, CLI_TEXT, offsetof(values, experts), "WORD", NULL, "for the recipe: routed, all or top-k+N"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_search_options = {rows, sizeof(values), NULL};

/* --- Text --------------------------------------------------------------------------------------------------------- */

static void print_candidates(const ht_search *search) {
    static const cli_column columns[] = {
        {"scheme", 0, 1}, {"bits", 1, 0}, {"loss if all", 1, 0}, {"weights", 1, 0}, {"share", 1, 0}};
    ht_search_summary sum = ht_search_summarize(search);
    cli_table *table = cli_table_create(columns, 5);
    const ht_search_candidate *c;
    for (size_t i = 0; (c = ht_search_candidate_at(search, i)); i++) {
        cli_cell(table, "%s", c->scheme);
        cli_cell(table, isnan(c->bits) ? "-" : "%.3f", c->bits);
        cli_cell(table, isnan(c->loss) ? "-" : "%.5f", c->loss);
        cli_cell(table, "%s", cli_grouped(c->weights));
        cli_cell(table, "%s", cli_percent((double)c->weights / (double)sum.weights));
    }
    cli_table_print(table, stdout);
}

/* Where the bits go: units that got the most and the fewest, all of them with -v. */
static void print_units(const cli_call *call, const ht_search *search) {
    static const cli_column columns[] = {
        {"linears", 0, 1}, {"gets", 0, 0}, {"bits", 1, 0}, {"error", 1, 0}, {"loss", 1, 0}};
    const ht_search_unit *unit;
    cli_table *table = cli_table_create(columns, 5);
    size_t count = 0;
    for (size_t i = 0; (unit = ht_search_unit_at(search, i)); i++) {
        const ht_search_measure *m = &unit->measure[unit->chosen];
        count++;
        if (i >= SHOWN && !call->common.verbose)
            continue;
        cli_cell(table, "%s", unit->name);
        cli_cell(table, "%s", ht_search_candidate_at(search, unit->chosen)->scheme);
        cli_cell(table, "%.3f", 8 * (double)m->bytes / (double)unit->weights);
        cli_cell(table, "%.5f", m->error);
        cli_cell(table, "%.6f", m->loss);
    }
    putchar('\n');
    cli_table_print(table, stdout);
    if (count > SHOWN && !call->common.verbose)
        printf("and %zu more (-v or --json shows all)\n", count - SHOWN);
}

static void print_frontier(const ht_search *search) {
    static const cli_column columns[] = {{"bits", 1, 0}, {"linears", 1, 0}, {"loss", 1, 0}};
    const ht_search_point *point;
    cli_table *table = cli_table_create(columns, 3);
    for (size_t i = 0; (point = ht_search_point_at(search, i)); i++) {
        cli_cell(table, "%.3f", point->bits);
        cli_cell(table, "%s", cli_size((double)point->bytes));
        cli_cell(table, "%.5f", point->loss);
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

static void print_text(const cli_call *call, const ht_search *search) {
    const values *v = call->values;
    ht_search_summary sum = ht_search_summarize(search);
    if (!v->output) {
        fputs(ht_search_recipe(search), stdout);
        return;
    }
    print_candidates(search);
    print_units(call, search);
    print_frontier(search);
    printf("\n%s: %zu linears, %.4f bits per weight, %s; the output %s (%s bytes)\n", v->output, sum.tensors, sum.bits,
           cli_size((double)sum.linear_bytes), cli_size((double)sum.output_bytes), cli_grouped(sum.output_bytes));
    printf("loss    %.5f predicted%s, %s\n", sum.loss, v->sensitivity == HT_SENSITIVITY_KL ? " (nats a token)" : "",
           sum.bound < sum.loss ? "near the least of any choice" : "the least of any choice");
    if (sum.uniform != SIZE_MAX) {
        const ht_search_candidate *c = ht_search_candidate_at(search, sum.uniform);
        printf("against %.5f with %s for all (%.3f bits)\n", c->loss, c->scheme, c->bits);
    }
    printf("time    %.1f s on %zu threads, %s of buffers at most\n", sum.seconds, ht_context_threads(call->ctx),
           cli_size((double)ht_context_memory_peak(call->ctx)));
}

/* --- JSON --------------------------------------------------------------------------------------------------------- */

static json_t *candidate_row(const ht_search_candidate *c) {
    json_t *row = json_object();
    json_object_set_new(row, "scheme", cli_json_text(c->scheme));
    json_object_set_new(row, "bits", cli_json_real(c->bits));
    json_object_set_new(row, "loss", cli_json_real(c->loss));
    json_object_set_new(row, "weights", cli_json_count(c->weights));
    return row;
}

static json_t *unit_row(const void *user, size_t index) {
    const ht_search *search = user;
    const ht_search_unit *unit = ht_search_unit_at(search, index);
    if (!unit)
        return NULL;
    json_t *row = json_object(), *names = json_array(), *offers = json_array();
    json_object_set_new(row, "name", cli_json_text(unit->name));
    json_object_set_new(row, "scheme", cli_json_text(ht_search_candidate_at(search, unit->chosen)->scheme));
    json_object_set_new(row, "weights", cli_json_count(unit->weights));
    json_object_set_new(row, "slope", cli_json_real(unit->slope));
    for (size_t i = 0; i < unit->tensors; i++)
        json_array_append_new(names, cli_json_text(ht_search_unit_tensor(search, index, i)));
    json_object_set_new(row, "tensors", names);
    for (size_t i = 0; ht_search_candidate_at(search, i); i++) {
        json_t *offer = json_object();
        json_object_set_new(offer, "bytes", cli_json_count(unit->measure[i].bytes));
        json_object_set_new(offer, "error", cli_json_real(unit->measure[i].error));
        json_object_set_new(offer, "loss", cli_json_real(unit->measure[i].loss));
        json_array_append_new(offers, offer);
    }
    json_object_set_new(row, "offers", offers);
    return row;
}

static int print_json(const cli_call *call, const ht_search *search) {
    const values *v = call->values;
    ht_search_summary sum = ht_search_summarize(search);
    json_t *out = cli_json_begin(call), *candidates = json_array(), *frontier = json_array();
    const ht_search_candidate *c;
    const ht_search_point *p;
    json_object_set_new(out, "output", cli_json_text(v->output));
    json_object_set_new(out, "recipe", cli_json_text(ht_search_recipe(search)));
    json_object_set_new(out, "bits_per_weight", cli_json_real(sum.bits));
    json_object_set_new(out, "linear_bytes", cli_json_count(sum.linear_bytes));
    json_object_set_new(out, "weights", cli_json_count(sum.weights));
    json_object_set_new(out, "bytes_after", cli_json_count(sum.bytes));
    json_object_set_new(out, "output_bytes", cli_json_count(sum.output_bytes));
    json_object_set_new(out, "loss", cli_json_real(sum.loss));
    json_object_set_new(out, "bound", cli_json_real(sum.bound));
    c = sum.uniform == SIZE_MAX ? NULL : ht_search_candidate_at(search, sum.uniform);
    json_object_set_new(out, "uniform", c ? candidate_row(c) : json_null());
    c = sum.reference == SIZE_MAX ? NULL : ht_search_candidate_at(search, sum.reference);
    json_object_set_new(out, "exchanged", cli_json_text(c ? c->scheme : NULL));
    json_object_set_new(out, "samples", cli_json_count(sum.samples));
    json_object_set_new(out, "length", cli_json_count(sum.length));
    json_object_set_new(out, "exchanges", cli_json_count(sum.exchanges));
    json_object_set_new(out, "seconds", cli_json_real(sum.seconds));
    json_object_set_new(out, "peak_memory_bytes", cli_json_count(ht_context_memory_peak(call->ctx)));
    for (size_t i = 0; (c = ht_search_candidate_at(search, i)); i++)
        json_array_append_new(candidates, candidate_row(c));
    json_object_set_new(out, "candidates", candidates);
    for (size_t i = 0; (p = ht_search_point_at(search, i)); i++) {
        json_t *row = json_object();
        json_object_set_new(row, "bits_per_weight", cli_json_real(p->bits));
        json_object_set_new(row, "bytes", cli_json_count(p->bytes));
        json_object_set_new(row, "loss", cli_json_real(p->loss));
        json_array_append_new(frontier, row);
    }
    json_object_set_new(out, "frontier", frontier);
    return cli_json_end_rows(out, "units", unit_row, search, CLI_DONE);
}

/* --- Running ------------------------------------------------------------------------------------------------------ */

/* "a,b,c" into words; 0 when there are too many. */
static int split(char *text, const char *word[MOST_CANDIDATES + 1]) {
    size_t count = 0;
    for (char *at = strtok(text, ", "); at; at = strtok(NULL, ", ")) {
        if (count == MOST_CANDIDATES)
            return 0;
        word[count++] = at;
    }
    word[count] = NULL;
    return count > 0;
}

/* The directory that the recipe goes to, for rows that do not fit the memory limit. */
static void folder_of(const char *path, char folder[LONGEST]) {
    const char *slash = path ? strrchr(path, '/') : NULL;
    snprintf(folder, LONGEST, "%.*s", slash ? (int)(slash - path + (slash == path)) : 1, slash ? path : ".");
}

int cli_search(cli_call *call) {
    const values *v = call->values;
    char list[LONGEST] = "", folder[LONGEST];
    const char *word[MOST_CANDIDATES + 1];
    if (!v->data)
        return cli_fail(call, CLI_USAGE, "needs --data FILE (see halftone search --help)");
    if (v->candidates && (snprintf(list, sizeof list, "%s", v->candidates) >= (int)sizeof list || !split(list, word)))
        return cli_fail(call, CLI_USAGE, "option --candidates: from 1 to %d schemes, separated by commas",
                        MOST_CANDIDATES);
    folder_of(v->output, folder);
    ht_search_options options = ht_search_options_default();
    options.target_bits = v->target_bpw;
    options.target_bytes = v->target_size;
    options.candidates = v->candidates ? word : NULL;
    options.method = v->method;
    options.set = v->set.word[0] ? v->set.word : NULL;
    options.profile = v->profile;
    options.sensitivity = (ht_sensitivity)v->sensitivity;
    options.rounding = v->rounding;
    options.exchanges = (size_t)v->exchanges;
    options.mixed_groups = v->mixed_groups;
    options.scratch = folder;
    options.calibration = (ht_calibration_options){.data = v->data,
                                                   .samples = (size_t)v->samples,
                                                   .length = (size_t)v->length,
                                                   .held_out = (size_t)v->held_out,
                                                   .mode = (ht_calibration_mode)v->mode,
                                                   .experts = v->experts};
    ht_search *search = NULL;
    ht_status status = ht_search_run(call->ctx, call->argument[0], &options, &search);
    cli_progress_clear(call->progress);
    if (status == HT_OK && v->output)
        status = ht_search_write(search, v->output);
    int exit_status = cli_status(call, status);
    if (exit_status == CLI_DONE && call->common.json)
        exit_status = print_json(call, search);
    else if (exit_status == CLI_DONE)
        print_text(call, search);
    ht_search_close(search);
    return exit_status;
}
