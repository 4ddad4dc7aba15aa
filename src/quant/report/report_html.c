/* The page: head, figures at a glance, sections. One file, no script, nothing loaded.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>

#include "base/status.h"
#include "quant/plan.h"
#include "quant/report/report_page.h"

static void tile(ht_text *out, const char *class) {
    ht_text_printf(out, "<div class=\"tile\"><b class=\"%s\">", class);
}

static void plan_tiles(ht_text *out, const ht_plan *plan) {
    const ht_plan_summary *s = &plan->summary;
    tile(out, "");
    ht_page_bytes(out, (double)s->bytes_after);
    ht_text_printf(out, "</b><span>from ");
    ht_page_bytes(out, (double)s->bytes_before);
    ht_text_printf(out, " (");
    ht_page_percent(out, s->bytes_before ? (double)s->bytes_after / (double)s->bytes_before : 0);
    ht_text_printf(out, ")</span></div>\n");
    tile(out, "");
    ht_text_printf(out, "%.3f</b><span>bits per quantized weight</span></div>\n", s->bits_per_weight);
    tile(out, s->refused ? "bad" : "");
    ht_page_count(out, s->quantized);
    ht_text_printf(out, "</b><span>tensors quantized, %zu kept", s->kept);
    if (s->refused)
        ht_text_printf(out, ", %zu not as asked", s->refused);
    ht_text_printf(out, "</span></div>\n");
}

static void evaluation_tiles(ht_text *out, const ht_report_options *options) {
    const ht_evaluation *e = options->evaluation;
    if (!isfinite(e->base_nll)) {
        tile(out, "");
        ht_text_printf(out, "%.3f</b><span>perplexity</span></div>\n", e->perplexity);
    } else {
        tile(out, "");
        ht_text_printf(out, "%+.2f %%</b><span>perplexity, %.3f from %.3f</span></div>\n", 100 * expm1(e->nll_change),
                       e->perplexity, e->base_perplexity);
        tile(out, "");
        ht_text_printf(out, "%.2f %%</b><span>same most likely token; KL %.4f nats</span></div>\n",
                       100 * e->top1_agreement, e->kl_mean);
    }
    if (!options->gates || !ht_gates_any(options->gates))
        return;
    int hold = 1;
    for (size_t i = 0; i < HT_GATE_COUNT; i++)
        hold &= ht_gate_holds(options->gates, (ht_gate)i, e);
    tile(out, hold ? "good" : "bad");
    ht_text_printf(out, "%s</b><span>quality gates</span></div>\n", hold ? "held" : "broken");
}

static void cost_tile(ht_text *out, const ht_report_options *options) {
    if (!options->plan)
        return;
    tile(out, "");
    ht_page_seconds(out, options->plan->summary.seconds);
    ht_text_printf(out, "</b><span>");
    if (options->threads)
        ht_text_printf(out, "on %zu threads", options->threads);
    if (options->peak_memory_bytes) {
        ht_text_printf(out, options->threads ? ", " : "");
        ht_page_bytes(out, (double)options->peak_memory_bytes);
        ht_text_printf(out, " of buffers");
    }
    ht_text_printf(out, "</span></div>\n");
}

static void named(ht_text *out, const char *before, const char *name) {
    if (!name)
        return;
    ht_text_printf(out, "%s<code>", before);
    ht_page_text(out, name);
    ht_text_printf(out, "</code>");
}

static void head(ht_text *out, const ht_report_options *options) {
    const char *title = options->title ? options->title : options->plan ? "Quantization report" : "Evaluation report";
    ht_text_printf(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
                        "content=\"width=device-width, initial-scale=1\">\n<title>");
    ht_page_text(out, title);
    ht_text_printf(out, "</title>\n");
    ht_report_style(out);
    ht_text_printf(out, "</head><body>\n<header><h1>");
    ht_page_text(out, title);
    ht_text_printf(out, "</h1>\n<p>");
    named(out, "", options->input);
    named(out, options->input ? " &#8594; " : "", options->output);
    ht_text_printf(out, "</p>\n");
    if (options->command) {
        ht_text_printf(out, "<p class=\"soft\">");
        named(out, "", options->command);
        ht_text_printf(out, "</p>\n");
    }
    ht_text_printf(out, "</header>\n<div class=\"tiles\">\n");
    if (options->plan)
        plan_tiles(out, options->plan);
    if (options->evaluation)
        evaluation_tiles(out, options);
    cost_tile(out, options);
    ht_text_printf(out, "</div>\n");
}

ht_status ht_report_html(ht_context *ctx, const ht_report_options *options, ht_text *out) {
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    head(out, options);
    if (options->evaluation)
        ht_report_quality(out, options);
    if (options->plan) {
        ht_report_tensors(out, options->plan, &arena);
        ht_report_calibration(out, options->plan, &arena);
        ht_report_all_tensors(out, options->plan);
    }
    ht_text_printf(out, "<footer><p class=\"soft\">halftone %s</p></footer>\n</body></html>\n", ht_version());
    ht_arena_release(&arena);
    return ht_text_check(out);
}
