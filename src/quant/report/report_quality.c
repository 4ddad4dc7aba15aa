/* The section about quality: perplexity and its change, divergence, agreement, gates.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>

#include "quant/report/report_page.h"

static void row(ht_text *out, const char *name) {
    ht_text_printf(out, "<tr><td class=\"s\">%s</td><td class=\"n\">", name);
}

static void against_base(ht_text *out, const ht_evaluation *e) {
    double margin = 1.96 * e->nll_change_stderr;
    row(out, "perplexity of the base");
    ht_text_printf(out, "%.4f</td><td></td></tr>\n", e->base_perplexity);
    row(out, "change");
    ht_text_printf(out, "%+.2f %%</td><td class=\"soft\">", 100 * expm1(e->nll_change));
    if (isfinite(margin))
        ht_text_printf(out, "95 %%: %+.2f to %+.2f %%, the windows paired", 100 * expm1(e->nll_change - margin),
                       100 * expm1(e->nll_change + margin));
    ht_text_printf(out, "</td></tr>\n");
    row(out, "KL divergence, mean");
    ht_text_printf(out, "%.5f</td><td class=\"soft\">nats", e->kl_mean);
    if (isfinite(e->kl_stderr))
        ht_text_printf(out, ", ±&#8239;%.5f", e->kl_stderr);
    ht_text_printf(out, "</td></tr>\n");
    row(out, "of positions");
    ht_text_printf(out,
                   "</td><td class=\"soft\">median %.3g, 90 %% %.3g, 95 %% %.3g, 99 %% %.3g, 99.9 %% %.3g, largest "
                   "%.3g</td></tr>\n",
                   e->kl_median, e->kl_p90, e->kl_p95, e->kl_p99, e->kl_p999, e->kl_max);
    row(out, "top-1 agreement");
    ht_text_printf(out, "%.2f %%</td><td class=\"soft\">", 100 * e->top1_agreement);
    if (isfinite(e->top1_stderr))
        ht_text_printf(out, "±&#8239;%.2f", 100 * e->top1_stderr);
    ht_text_printf(out, "</td></tr>\n");
}

static void gates(ht_text *out, const ht_gates *gates, const ht_evaluation *e) {
    if (!gates || !ht_gates_any(gates))
        return;
    ht_text_printf(
        out, "<h3>Gates</h3>\n<table><thead><tr><th>gate<th class=\"n\">limit<th class=\"n\">found<th></tr></thead>"
             "<tbody>\n");
    for (size_t i = 0; i < HT_GATE_COUNT; i++) {
        if (isnan(gates->limit[i]))
            continue;
        int holds = ht_gate_holds(gates, (ht_gate)i, e);
        ht_text_printf(out, "<tr><td class=\"s\"><code>%s</code></td><td class=\"n\">%g</td><td class=\"n\">",
                       ht_gate_name((ht_gate)i), gates->limit[i]);
        ht_page_number(out, ht_gate_figure((ht_gate)i, e));
        ht_text_printf(out, "</td><td><b class=\"%s\">%s</b></td></tr>\n", holds ? "good" : "bad",
                       holds ? "holds" : "broken");
    }
    ht_text_printf(out, "</tbody></table>\n");
}

void ht_report_quality(ht_text *out, const ht_report_options *options) {
    const ht_evaluation *e = options->evaluation;
    ht_text_printf(out, "<section><h2>Quality</h2>\n<p class=\"soft\">%zu windows of %zu tokens", e->windows,
                   options->context);
    if (options->text) {
        ht_text_printf(out, " of <code>");
        ht_page_text(out, options->text);
        ht_text_printf(out, "</code>");
    }
    ht_text_printf(out, ", no overlap, each from an empty cache.</p>\n<div class=\"scroll\"><table><tbody>\n");
    row(out, "perplexity");
    ht_text_printf(out, "%.4f</td><td class=\"soft\">", e->perplexity);
    if (isfinite(e->nll_stderr))
        ht_text_printf(out, "95 %%: %.3f to %.3f", exp(e->nll - 1.96 * e->nll_stderr),
                       exp(e->nll + 1.96 * e->nll_stderr));
    ht_text_printf(out, "</td></tr>\n");
    if (isfinite(e->base_nll))
        against_base(out, e);
    ht_text_printf(out, "</tbody></table></div>\n");
    if (isfinite(e->base_nll) && e->kl_max > 0) {
        ht_text_printf(out, "<h3>Positions by KL divergence, %% of all</h3>\n");
        ht_chart_divergence(out, e);
    }
    gates(out, options->gates, e);
    ht_text_printf(out, "</section>\n");
}
