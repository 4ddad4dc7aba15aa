/* A report as JSON: everything that the page shows, unrounded, and every row that it leaves out.
 *
 *     {"schema": "halftone.report/1", "version", "command", "input", "output", "threads", "peak_memory_bytes",
 *      "summary": {...}, "tensors": [{... "matrices": [...]}], "calibration": {...}, "coverage": [...], "stages":
 * [...], "evaluation": {... "kl_histogram": [{"from", "positions"}]}, "gates": [...]}
 *
 * Numbers that do not exist are null; bytes that are not UTF-8 become U+FFFD. Parts that the report is not about are
 * left out.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdlib.h> /* free */
#include <string.h>

#include <jansson.h>

#include "base/status.h"
#include "quant/plan.h"
#include "quant/report/report_page.h"
#include "tokenizer/utf8.h"

static json_t *text(const char *value) {
    if (!value)
        return json_null();
    ht_text repaired = {0};
    ht_utf8_append_repaired(&repaired, value, strlen(value));
    json_t *json = json_stringn(repaired.data ? repaired.data : "", repaired.length);
    ht_text_free(&repaired);
    return json;
}

static json_t *real(double value) {
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *count(uint64_t value) {
    return json_integer((json_int_t)value);
}

/* Set and give away; a failure shows when the whole is dumped: the key is missing then, so it is counted. */
static void set(json_t *object, const char *key, json_t *value, int *failed) {
    *failed |= json_object_set_new(object, key, value) != 0;
}

static json_t *matrix_row(const ht_report_matrix *m, int *failed) {
    json_t *row = json_object();
    set(row, "matrix", count(m->entry), failed);
    set(row, "tokens", count(m->tokens), failed);
    set(row, "loss", real(m->loss), failed);
    set(row, "rtn_loss", real(m->rtn_loss), failed);
    set(row, "held_out_loss", real(m->held_out_loss), failed);
    set(row, "held_out_rtn_loss", real(m->held_out_rtn_loss), failed);
    set(row, "damping", real(m->damping), failed);
    set(row, "dead_columns", count(m->dead_columns), failed);
    set(row, "saturated", count(m->saturated), failed);
    set(row, "sparsity", real(m->sparsity), failed);
    set(row, "seconds", real(m->seconds), failed);
    set(row, "fallback", text(m->fallback ? m->fallback : ""), failed);
    return row;
}

/* Matrices are sorted by tensor: *next runs along. */
static json_t *tensor_row(const ht_plan *plan, size_t index, size_t *next, int *failed) {
    const ht_plan_tensor *t = &plan->tensor[index];
    const ht_run_report *report = &plan->report;
    json_t *row = json_object(), *matrices = json_array();
    set(row, "name", text(t->name), failed);
    set(row, "asked", text(t->asked), failed);
    set(row, "got", text(t->got), failed);
    set(row, "reason", text(t->reason), failed);
    set(row, "method", text(t->method), failed);
    set(row, "fallback", text(t->fallback), failed);
    set(row, "bytes_before", count(t->bytes_before), failed);
    set(row, "bytes_after", count(t->bytes_after), failed);
    set(row, "error", real(t->error), failed);
    for (; *next < report->matrices && report->matrix[*next].tensor <= index; ++*next)
        if (report->matrix[*next].tensor == index)
            *failed |= json_array_append_new(matrices, matrix_row(&report->matrix[*next], failed)) != 0;
    if (json_array_size(matrices))
        set(row, "matrices", matrices, failed);
    else
        json_decref(matrices);
    return row;
}

static void add_plan(json_t *out, const ht_plan *plan, int *failed) {
    const ht_plan_summary *s = &plan->summary;
    json_t *summary = json_object(), *tensors = json_array();
    set(summary, "bytes_before", count(s->bytes_before), failed);
    set(summary, "bytes_after", count(s->bytes_after), failed);
    set(summary, "bits_per_weight", real(s->bits_per_weight), failed);
    set(summary, "quantized", count(s->quantized), failed);
    set(summary, "kept", count(s->kept), failed);
    set(summary, "refused", count(s->refused), failed);
    set(summary, "seconds", real(s->seconds), failed);
    set(summary, "bytes_per_second", real(s->bytes_per_second), failed);
    set(out, "summary", summary, failed);
    size_t next = 0;
    for (size_t i = 0; i < plan->count; i++)
        *failed |= json_array_append_new(tensors, tensor_row(plan, i, &next, failed)) != 0;
    set(out, "tensors", tensors, failed);
}

static void add_run(json_t *out, const ht_run_report *report, int *failed) {
    json_t *coverage = json_array(), *stages = json_array();
    if (report->data) {
        json_t *calibration = json_object();
        set(calibration, "data", text(report->data), failed);
        set(calibration, "samples", count(report->samples), failed);
        set(calibration, "length", count(report->sample_length), failed);
        set(calibration, "tokens", count(report->calibration_tokens), failed);
        set(calibration, "spilled_bytes", count(report->spilled_bytes), failed);
        set(out, "calibration", calibration, failed);
    }
    for (size_t i = 0; i < report->blocks; i++) {
        const ht_report_coverage *c = &report->coverage[i];
        json_t *row = json_object(), *tokens = json_array();
        for (size_t e = 0; e < c->experts; e++)
            *failed |= json_array_append_new(tokens, count(c->tokens[e])) != 0;
        set(row, "block", count(c->block), failed);
        set(row, "tokens", tokens, failed);
        *failed |= json_array_append_new(coverage, row) != 0;
    }
    for (size_t i = 0; i < report->stages; i++) {
        json_t *row = json_object();
        set(row, "name", text(report->stage[i].name), failed);
        set(row, "seconds", real(report->stage[i].seconds), failed);
        set(row, "peak_bytes", count(report->stage[i].peak_bytes), failed);
        *failed |= json_array_append_new(stages, row) != 0;
    }
    set(out, "coverage", coverage, failed);
    set(out, "stages", stages, failed);
}

static void add_evaluation(json_t *out, const ht_report_options *options, int *failed) {
    const ht_evaluation *e = options->evaluation;
    json_t *evaluation = json_object(), *histogram = json_array(), *gates = json_array();
    ht_figure figure;
    set(evaluation, "text", text(options->text), failed);
    set(evaluation, "context", count(options->context), failed);
    set(evaluation, "tokens", count(e->tokens), failed);
    set(evaluation, "windows", count(e->windows), failed);
    for (size_t i = 0; ht_evaluation_figure(e, i, &figure); i++)
        set(evaluation, figure.name, real(figure.value), failed);
    for (size_t i = 0; i < HT_KL_BINS && isfinite(e->kl_mean); i++) {
        json_t *bin = json_object();
        set(bin, "from", real(ht_kl_bin_begin(i)), failed);
        set(bin, "positions", count(e->kl_histogram[i]), failed);
        *failed |= json_array_append_new(histogram, bin) != 0;
    }
    set(evaluation, "kl_histogram", histogram, failed);
    set(out, "evaluation", evaluation, failed);
    for (size_t i = 0; options->gates && i < HT_GATE_COUNT; i++) {
        if (isnan(options->gates->limit[i]))
            continue;
        json_t *row = json_object();
        set(row, "name", text(ht_gate_name((ht_gate)i)), failed);
        set(row, "limit", real(options->gates->limit[i]), failed);
        set(row, "figure", real(ht_gate_figure((ht_gate)i, e)), failed);
        set(row, "ok", json_boolean(ht_gate_holds(options->gates, (ht_gate)i, e)), failed);
        *failed |= json_array_append_new(gates, row) != 0;
    }
    set(out, "gates", gates, failed);
}

ht_status ht_report_json(const ht_report_options *options, ht_text *out) {
    int failed = 0;
    json_t *all = json_object();
    set(all, "schema", text("halftone.report/1"), &failed);
    set(all, "version", text(ht_version()), &failed);
    set(all, "command", text(options->command), &failed);
    set(all, "input", text(options->input), &failed);
    set(all, "output", text(options->output), &failed);
    if (options->threads)
        set(all, "threads", count(options->threads), &failed);
    if (options->peak_memory_bytes)
        set(all, "peak_memory_bytes", count(options->peak_memory_bytes), &failed);
    if (options->plan) {
        add_plan(all, options->plan, &failed);
        add_run(all, &options->plan->report, &failed);
    }
    if (options->evaluation)
        add_evaluation(all, options, &failed);
    char *dumped = failed ? NULL : json_dumps(all, JSON_INDENT(1) | JSON_REAL_PRECISION(17));
    json_decref(all);
    if (!dumped)
        return ht_fail(HT_ERR_MEMORY, "report: the system has no memory left for its JSON");
    ht_text_append(out, dumped, strlen(dumped));
    ht_text_append(out, "\n", 1);
    free(dumped);
    return ht_text_check(out);
}
