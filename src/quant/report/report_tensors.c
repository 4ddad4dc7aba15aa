/* Sections about tensors: sizes by what they became, error over the blocks, the worst, what was kept and why, all.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdlib.h> /* qsort */
#include <string.h>

#include "quant/plan.h"
#include "quant/report/report_page.h"

enum { WORST = 15, MOST_ROWS = 4000, MOST_REASONS = 100 };

/* --- sizes --------------------------------------------------------------------------------------------------- */

static int larger_part(const void *a, const void *b) {
    const ht_part *x = a, *y = b;
    if (x->after != y->after)
        return x->after > y->after ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* Tensors by what they became; returns the number of parts. */
static size_t part_by_got(const ht_plan *plan, ht_part *parts) {
    size_t count = 0;
    for (size_t i = 0; i < plan->count; i++) {
        const ht_plan_tensor *t = &plan->tensor[i];
        size_t p = 0;
        while (p < count && strcmp(parts[p].name, t->got) != 0)
            p++;
        if (p == count)
            parts[count++] = (ht_part){.name = t->got};
        parts[p].tensors++;
        parts[p].before += t->bytes_before;
        parts[p].after += t->bytes_after;
    }
    qsort(parts, count, sizeof *parts, larger_part);
    return count;
}

static void sizes(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    ht_part *parts = ht_arena_alloc(arena, (plan->count + 1) * sizeof *parts);
    size_t count = parts ? part_by_got(plan, parts) : 0;
    out->failed |= !parts;
    ht_text_printf(out, "<section><h2>Size</h2>\n");
    if (count)
        ht_chart_parts(out, parts, count);
    ht_text_printf(out,
                   "<div class=\"scroll\"><table><thead><tr><th>became<th class=\"n\">tensors<th class=\"n\">before"
                   "<th class=\"n\">after<th class=\"n\">share</tr></thead><tbody>\n");
    for (size_t i = 0; i < count; i++) {
        ht_text_printf(out, "<tr><td class=\"s\"><span class=\"sw sw%zu\"></span><code>",
                       i < HT_PAGE_SERIES ? i : HT_PAGE_SERIES - 1);
        ht_page_text(out, parts[i].name);
        ht_text_printf(out, "</code><td class=\"n\">");
        ht_page_count(out, parts[i].tensors);
        ht_text_printf(out, "<td class=\"n\">");
        ht_page_bytes(out, (double)parts[i].before);
        ht_text_printf(out, "<td class=\"n\">");
        ht_page_bytes(out, (double)parts[i].after);
        ht_text_printf(out, "<td class=\"n\">");
        ht_page_percent(out, (double)parts[i].after / (double)(plan->summary.bytes_after + !plan->summary.bytes_after));
        ht_text_printf(out, "</tr>\n");
    }
    ht_text_printf(out, "</tbody></table></div></section>\n");
}

/* --- error --------------------------------------------------------------------------------------------------- */

static int is_quantized(const ht_plan_tensor *t) {
    return *t->method && isfinite(t->error);
}

static void errors(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    ht_mark *marks = ht_arena_alloc(arena, (plan->count + 1) * sizeof *marks);
    const char *series[HT_PAGE_SERIES];
    unsigned series_count = 0;
    size_t count = 0;
    for (size_t i = 0; marks && i < plan->count; i++) {
        const ht_plan_tensor *t = &plan->tensor[i];
        size_t block = ht_report_block(t->name);
        if (!is_quantized(t) || block == SIZE_MAX)
            continue;
        unsigned role = ht_report_series(arena, t->name, series, &series_count);
        marks[count++] = (ht_mark){.x = block, .series = role, .y = t->error, .name = t->name};
    }
    out->failed |= !marks;
    if (!count)
        return;
    ht_text_printf(out, "<section><h2>Error over the blocks</h2>\n<p class=\"soft\">Relative error of every quantized "
                        "tensor, |w &#8722; w&#8242;| / |w|.</p>\n");
    ht_chart_scatter(out, marks, count, series, series_count, "relative error of tensors by block");
    ht_text_printf(out, "</section>\n");
}

static int larger_error(const void *a, const void *b) {
    const ht_plan_tensor *x = *(const ht_plan_tensor *const *)a, *y = *(const ht_plan_tensor *const *)b;
    if (x->error != y->error)
        return x->error > y->error ? -1 : 1;
    return strcmp(x->name, y->name);
}

static void method_cell(ht_text *out, const ht_plan_tensor *t) {
    ht_text_printf(out, "<td class=\"%s\">", *t->fallback ? "w" : "s");
    ht_page_text(out, t->method);
    if (*t->fallback) {
        ht_text_printf(out, " &#8594; ");
        ht_page_text(out, t->fallback);
    }
    ht_text_printf(out, "</td>");
}

static void worst(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    const ht_plan_tensor **sorted = ht_arena_alloc(arena, (plan->count + 1) * sizeof *sorted);
    size_t count = 0;
    for (size_t i = 0; sorted && i < plan->count; i++)
        if (is_quantized(&plan->tensor[i]))
            sorted[count++] = &plan->tensor[i];
    out->failed |= !sorted;
    if (!count)
        return;
    qsort(sorted, count, sizeof *sorted, larger_error);
    ht_text_printf(out, "<section><h2>Worst tensors</h2>\n<div class=\"scroll\"><table><thead><tr><th>tensor<th>scheme"
                        "<th>method<th class=\"n\">error<th></tr></thead><tbody>\n");
    for (size_t i = 0; i < count && i < WORST; i++) {
        const ht_plan_tensor *t = sorted[i];
        ht_text_printf(out, "<tr><td class=\"w\"><code>");
        ht_page_text(out, t->name);
        ht_text_printf(out, "</code></td><td class=\"s\">");
        ht_page_text(out, t->got);
        ht_text_printf(out, "</td>");
        method_cell(out, t);
        ht_text_printf(out,
                       "<td class=\"n\">%.5f</td><td class=\"barcell\"><span class=\"bar\" style=\"width:%.1f%%\">"
                       "</span></td></tr>\n",
                       t->error, sorted[0]->error > 0 ? 100 * t->error / sorted[0]->error : 0);
    }
    ht_text_printf(out, "</tbody></table></div></section>\n");
}

/* --- kept ---------------------------------------------------------------------------------------------------- */

typedef struct kept {
    const char *reason, *example;
    size_t count;
    uint64_t bytes;
    int refused; /* something else was asked */
} kept;

static int by_refusal_and_bytes(const void *a, const void *b) {
    const kept *x = a, *y = b;
    if (x->refused != y->refused)
        return y->refused - x->refused;
    if (x->bytes != y->bytes)
        return x->bytes > y->bytes ? -1 : 1;
    return strcmp(x->reason, y->reason);
}

static void kept_tensors(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    kept *rows = ht_arena_alloc(arena, (plan->count + 1) * sizeof *rows);
    size_t count = 0;
    out->failed |= !rows;
    for (size_t i = 0; rows && i < plan->count; i++) {
        const ht_plan_tensor *t = &plan->tensor[i];
        if (*t->method)
            continue;
        int refused = *t->asked && strcmp(t->asked, "keep") != 0;
        const char *reason = *t->reason ? t->reason : "the recipe keeps it";
        size_t r = 0;
        while (r < count && (rows[r].refused != refused || strcmp(rows[r].reason, reason) != 0))
            r++;
        if (r == count && count == MOST_REASONS) {
            r = count - 1;
            rows[r].reason = "other reasons (the JSON file holds all)";
        } else if (r == count)
            rows[count++] = (kept){.reason = reason, .example = t->name, .refused = refused};
        rows[r].count++;
        rows[r].bytes += t->bytes_after;
    }
    if (!count)
        return;
    qsort(rows, count, sizeof *rows, by_refusal_and_bytes);
    ht_text_printf(out, "<section><h2>Kept as it was</h2>\n<div class=\"scroll\"><table><thead><tr><th>why<th "
                        "class=\"n\">tensors<th class=\"n\">bytes<th>for example</tr></thead><tbody>\n");
    for (size_t i = 0; i < count; i++) {
        ht_text_printf(out, "<tr><td class=\"w\">%s",
                       rows[i].refused ? "<b class=\"bad\">not what was asked:</b> " : "");
        ht_page_text(out, rows[i].reason);
        ht_text_printf(out, "</td><td class=\"n\">");
        ht_page_count(out, rows[i].count);
        ht_text_printf(out, "</td><td class=\"n\">");
        ht_page_bytes(out, (double)rows[i].bytes);
        ht_text_printf(out, "</td><td class=\"w\"><code>");
        ht_page_text(out, rows[i].example);
        ht_text_printf(out, "</code></td></tr>\n");
    }
    ht_text_printf(out, "</tbody></table></div></section>\n");
}

/* --- all ----------------------------------------------------------------------------------------------------- */

void ht_report_all_tensors(ht_text *out, const ht_plan *plan) {
    ht_text_printf(out, "<section><h2>All tensors</h2>\n<details><summary>");
    ht_page_count(out, plan->count);
    ht_text_printf(out,
                   " tensors%s</summary><div class=\"scroll\"><table><thead><tr><th>tensor<th>became<th>method<th>"
                   "<th class=\"n\">before<th class=\"n\">after<th class=\"n\">error</tr></thead><tbody>\n",
                   plan->count > MOST_ROWS ? ", the first 4,000 of them; the JSON file holds all" : "");
    for (size_t i = 0; i < plan->count && i < MOST_ROWS; i++) {
        const ht_plan_tensor *t = &plan->tensor[i];
        ht_text_printf(out, "<tr><td class=\"w\"><code>");
        ht_page_text(out, t->name);
        ht_text_printf(out, "</code></td><td class=\"s\">");
        ht_page_text(out, t->got);
        ht_text_printf(out, "</td>");
        method_cell(out, t);
        ht_text_printf(out, "<td class=\"n\">");
        ht_page_bytes(out, (double)t->bytes_before);
        ht_text_printf(out, "</td><td class=\"n\">");
        ht_page_bytes(out, (double)t->bytes_after);
        if (is_quantized(t))
            ht_text_printf(out, "</td><td class=\"n\">%.5f</td></tr>\n", t->error);
        else
            ht_text_printf(out, "</td><td></td></tr>\n");
    }
    ht_text_printf(out, "</tbody></table></div></details></section>\n");
}

void ht_report_tensors(ht_text *out, const ht_plan *plan, ht_arena *arena) {
    sizes(out, plan, arena);
    errors(out, plan, arena);
    worst(out, plan, arena);
    kept_tensors(out, plan, arena);
}
