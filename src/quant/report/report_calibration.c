/* Sections that a calibrated run fills: what methods gained, damping, fallbacks, tokens of the experts, time and
 * memory.
 *
 * Each is left out when the run has no rows for it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdlib.h> /* qsort */
#include <string.h>

#include "quant/plan.h"
#include "quant/report/report_page.h"

enum { MOST_FALLBACKS = 200 };

/* What is known of all matrices together. */
typedef struct overview {
    size_t matrices, better, dead_columns, dead_matrices, saturated, fallbacks, damped, pruned;
    double least_damping, most_damping, zeros;
    double loss, rtn_loss, held_out, held_out_rtn;
} overview;

static overview look_over(const ht_run_report *report) {
    overview o = {.matrices = report->matrices, .least_damping = INFINITY};
    for (size_t i = 0; i < report->matrices; i++) {
        const ht_report_matrix *m = &report->matrix[i];
        o.better += m->loss < m->rtn_loss;
        o.dead_columns += m->dead_columns;
        o.dead_matrices += m->dead_columns > 0;
        o.saturated += m->saturated;
        o.fallbacks += m->fallback != NULL;
        if (m->sparsity > 0) {
            o.pruned++;
            o.zeros += m->sparsity;
        }
        if (isfinite(m->loss) && isfinite(m->rtn_loss)) {
            o.loss += m->loss;
            o.rtn_loss += m->rtn_loss;
        }
        if (isfinite(m->held_out_loss) && isfinite(m->held_out_rtn_loss)) {
            o.held_out += m->held_out_loss;
            o.held_out_rtn += m->held_out_rtn_loss;
        }
        if (m->damping > 0) {
            o.damped++;
            o.least_damping = m->damping < o.least_damping ? m->damping : o.least_damping;
            o.most_damping = m->damping > o.most_damping ? m->damping : o.most_damping;
        }
    }
    return o;
}

static void row(ht_text *out, const char *name) {
    ht_text_printf(out, "<tr><td class=\"s\">%s</td><td>", name);
}

static void overview_table(ht_text *out, const ht_run_report *report, const overview *o) {
    ht_text_printf(out, "<table><tbody>\n");
    if (report->data) {
        row(out, "calibration text");
        ht_text_printf(out, "<code>");
        ht_page_text(out, report->data);
        ht_text_printf(out, "</code>, %zu samples of %zu tokens</td></tr>\n", report->samples, report->sample_length);
    }
    row(out, "matrices");
    ht_page_count(out, o->matrices);
    ht_text_printf(out, ", of which %zu beat rounding to nearest on the calibration text</td></tr>\n", o->better);
    if (o->rtn_loss > 0) {
        row(out, "output error, of rounding&#8217;s");
        ht_page_percent(out, o->loss / o->rtn_loss);
        ht_text_printf(out, " on the calibration text");
        if (o->held_out_rtn > 0) {
            ht_text_printf(out, ", ");
            ht_page_percent(out, o->held_out / o->held_out_rtn);
            ht_text_printf(out, " on text held out");
        }
        ht_text_printf(out, "</td></tr>\n");
    }
    if (o->damped) {
        row(out, "damping");
        if (o->least_damping < o->most_damping)
            ht_text_printf(out, "%.3g to ", o->least_damping);
        ht_text_printf(out, "%.3g of the mean of diag H, in %zu matrices</td></tr>\n", o->most_damping, o->damped);
    }
    row(out, "inputs that are always zero");
    ht_text_printf(out, "%zu, in %zu matrices</td></tr>\n", o->dead_columns, o->dead_matrices);
    row(out, "scales at the end of their range");
    ht_text_printf(out, "%zu</td></tr>\n", o->saturated);
    if (o->pruned) {
        row(out, "zeros among the weights");
        ht_page_percent(out, o->zeros / (double)o->pruned);
        ht_text_printf(out, " on average, in %zu pruned matrices</td></tr>\n", o->pruned);
    }
    row(out, "fallbacks");
    ht_text_printf(out, "%zu</td></tr>\n", o->fallbacks);
    if (report->spilled_bytes) {
        row(out, "hidden states spilled");
        ht_page_bytes(out, (double)report->spilled_bytes);
        ht_text_printf(out, "</td></tr>\n");
    }
    ht_text_printf(out, "</tbody></table>\n");
}

/* Loss over rounding's, by block. */
static void gains(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    const ht_run_report *report = &plan->report;
    ht_mark *marks = ht_arena_alloc(arena, (report->matrices + 1) * sizeof *marks);
    const char *series[HT_PAGE_SERIES];
    unsigned series_count = 0;
    size_t count = 0;
    out->failed |= !marks;
    for (size_t i = 0; marks && i < report->matrices; i++) {
        const ht_report_matrix *m = &report->matrix[i];
        const char *name = m->tensor < plan->count ? plan->tensor[m->tensor].name : "";
        size_t block = ht_report_block(name);
        if (block == SIZE_MAX || !isfinite(m->loss) || !(m->rtn_loss > 0))
            continue;
        unsigned role = ht_report_series(arena, name, series, &series_count);
        marks[count++] = (ht_mark){.x = block, .series = role, .y = m->loss / m->rtn_loss, .name = name};
    }
    if (!count)
        return;
    ht_text_printf(out, "<h3>Output error over the blocks, as a part of rounding&#8217;s</h3>\n");
    ht_chart_scatter(out, marks, count, series, series_count, "output error over that of rounding, by block");
}

static void fallbacks(ht_text *out, const ht_plan *plan, size_t count) {
    const ht_run_report *report = &plan->report;
    size_t shown = 0;
    if (!count)
        return;
    ht_text_printf(out, "<h3>Fallbacks</h3>\n<div class=\"scroll\"><table><thead><tr><th>tensor<th class=\"n\">matrix"
                        "<th class=\"n\">tokens<th>instead, and why</tr></thead><tbody>\n");
    for (size_t i = 0; i < report->matrices && shown < MOST_FALLBACKS; i++) {
        const ht_report_matrix *m = &report->matrix[i];
        if (!m->fallback)
            continue;
        shown++;
        ht_text_printf(out, "<tr><td class=\"w\"><code>");
        ht_page_text(out, m->tensor < plan->count ? plan->tensor[m->tensor].name : "");
        ht_text_printf(out, "</code></td><td class=\"n\">%zu</td><td class=\"n\">", m->entry);
        ht_page_count(out, m->tokens);
        ht_text_printf(out, "</td><td class=\"w\">");
        ht_page_text(out, m->fallback);
        ht_text_printf(out, "</td></tr>\n");
    }
    ht_text_printf(out, "</tbody></table></div>\n");
    if (shown < count)
        ht_text_printf(out, "<p class=\"soft\">and %zu more; the JSON file holds all.</p>\n", count - shown);
}

static void coverage(ht_text *out, const ht_run_report *report) {
    size_t starved = 0;
    if (!report->blocks)
        return;
    for (size_t b = 0; b < report->blocks; b++)
        for (size_t e = 0; e < report->coverage[b].experts; e++)
            starved += report->coverage[b].tokens[e] == 0;
    ht_text_printf(out,
                   "<section><h2>Tokens per expert</h2>\n<p class=\"soft\">Calibration tokens that the router sent "
                   "to each expert (column) of each block (row); full colour from twice the even share on. ");
    if (starved)
        ht_text_printf(out, "<b class=\"bad\">%zu experts saw none</b> and are crossed out.</p>\n", starved);
    else
        ht_text_printf(out, "Every expert saw some.</p>\n");
    ht_chart_coverage(out, report->coverage, report->blocks);
    ht_text_printf(out, "</section>\n");
}

static void stages(ht_text *out, const ht_run_report *report) {
    size_t peak = 0;
    if (!report->stages)
        return;
    for (size_t i = 0; i < report->stages; i++)
        peak = report->stage[i].peak_bytes > peak ? report->stage[i].peak_bytes : peak;
    ht_text_printf(out, "<section><h2>Time%s</h2>\n", peak ? " and memory" : "");
    ht_chart_stages(out, report->stage, report->stages);
    if (peak) {
        ht_text_printf(out, "<p class=\"soft\">Buffers of the library at most: ");
        ht_page_bytes(out, (double)peak);
        ht_text_printf(out, ".</p>\n");
    }
    ht_text_printf(out, "</section>\n");
}

void ht_report_calibration(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    const ht_run_report *report = &plan->report;
    if (report->matrices) {
        overview o = look_over(report);
        ht_text_printf(out, "<section><h2>Calibration</h2>\n");
        overview_table(out, report, &o);
        gains(out, plan, arena);
        fallbacks(out, plan, o.fallbacks);
        ht_text_printf(out, "</section>\n");
    }
    coverage(out, report);
    stages(out, report);
}
