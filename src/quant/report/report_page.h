/* Parts of a report page: escaped text, numbers as people read them, and charts as inline SVG.
 *
 * A page is one text that grows; nothing is escaped but by ht_page_text, so every string that comes from a file or a
 * command line goes through it. Charts are drawn 560 units wide in colours that the page's style sheet names (--s0 to
 * --s7, --ink, --line), so they follow light and dark. */
#ifndef HT_QUANT_REPORT_REPORT_PAGE_H
#define HT_QUANT_REPORT_REPORT_PAGE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/report.h>

#include "base/memory.h"
#include "base/text.h"
#include "quant/report/report.h"

enum { HT_PAGE_SERIES = 8 }; /* colours of a chart; more series share the last */

/* --- text and numbers: report_page.c ------------------------------------------------------------------------- */

/* Text of an element or of an attribute in double quotes: & < > " ' and control characters are escaped, bytes that are
 * not UTF-8 replaced. NULL is nothing. */
void ht_page_text(ht_text *out, const char *text);
void ht_page_bytes(ht_text *out, double bytes);      /* 14.7 MB */
void ht_page_count(ht_text *out, uint64_t count);    /* 7,345,920 */
void ht_page_number(ht_text *out, double number);    /* 4 significant digits; "–" when not finite */
void ht_page_percent(ht_text *out, double fraction); /* 37.1 % */
void ht_page_seconds(ht_text *out, double seconds);  /* 0.42 s, 3 min 20 s */

/* --- charts: report_charts.c, report_heat.c -------------------------------------------------------------------- */

/* A mark of a scatter chart. */
typedef struct ht_mark {
    size_t x; /* block */
    unsigned series;
    double y; /* finite, >= 0 */
    const char *name;
} ht_mark;

/* Marks over blocks, a shape and a colour a series; many of one series in one block become a bar from the least to the
 * most with its mean. Sorts the marks. */
void ht_chart_scatter(ht_text *out, ht_mark *marks, size_t count, const char *const *series, unsigned series_count,
                      const char *label);

/* Parts of a whole, twice: before and after. */
typedef struct ht_part {
    const char *name;
    uint64_t tensors, before, after;
} ht_part;
void ht_chart_parts(ht_text *out, const ht_part *parts, size_t count);

/* Positions by divergence. */
void ht_chart_divergence(ht_text *out, const ht_evaluation *e);
/* Tokens of every expert of every block. */
void ht_chart_coverage(ht_text *out, const ht_report_coverage *rows, size_t count);
/* Seconds of every stage. */
void ht_chart_stages(ht_text *out, const ht_report_stage *stages, size_t count);

/* --- sections ---------------------------------------------------------------------------------------------------- */

void ht_report_style(ht_text *out);                                         /* report_style.c */
void ht_report_tensors(ht_text *out, const ht_plan *plan, ht_arena *arena); /* report_tensors.c */
void ht_report_all_tensors(ht_text *out, const ht_plan *plan);
void ht_report_calibration(ht_text *out, const ht_plan *plan, ht_arena *arena); /* report_calibration.c */
void ht_report_quality(ht_text *out, const ht_report_options *options);         /* report_quality.c */

/* The whole page, and the same as JSON. Fail with MEMORY. */
ht_status ht_report_html(ht_context *ctx, const ht_report_options *options, ht_text *out); /* report_html.c */
ht_status ht_report_json(const ht_report_options *options, ht_text *out);                  /* report_json.c */

/* Block that a name belongs to ("model.layers.12.mlp..." is 12); SIZE_MAX when there is none. */
size_t ht_report_block(const char *name);
/* Series of a name: what follows the block, numbers as *, without .weight; in the arena, NULL without memory. */
const char *ht_report_role(ht_arena *arena, const char *name);

/* Number of a name's series among those seen so far, which it joins; the last takes all for which there is no room. */
unsigned ht_report_series(ht_arena *arena, const char *name, const char **series, unsigned *count);

#endif
