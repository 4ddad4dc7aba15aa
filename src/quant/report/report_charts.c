/* Charts over blocks, sizes, divergences and stages, as inline SVG.
 *
 *      y |  o                     560 units wide, margins LEFT and BOTTOM for the numbers; the page scales it
 *        |     o  o   x
 *        +---------------
 *          0   1  2   3   block
 *
 * A series has a colour and a shape, so that it can be told without colours. Marks carry their numbers as titles.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdlib.h> /* qsort */

#include "quant/report/report_page.h"

enum { WIDTH = 560, LEFT = 52, RIGHT = 10, TOP = 12, BOTTOM = 34, HEIGHT = 270, CROWD = 8 };

static void begin(ht_text *out, int height, const char *label) {
    ht_text_printf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, height);
    ht_page_text(out, label);
    ht_text_printf(out, "\">\n");
}

static void line(ht_text *out, double x1, double y1, double x2, double y2, const char *class) {
    ht_text_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", x1, y1, x2, y2, class);
}

/* A step of 1, 2 or 5 times a power of ten that makes at most `most` of the range. */
static double nice_step(double range, int most) {
    double step = pow(10, floor(log10(range / most)));
    static const double times[] = {1, 2, 5, 10};
    for (int i = 0; i < 4; i++)
        if (range / (step * times[i]) <= most)
            return step * times[i];
    return step * 10;
}

/* The vertical axis: what lies at the bottom, and units of the drawing for one of y. */
typedef struct axis {
    double low, top, step, per_unit;
} axis;

/* From 0, unless all values lie close together far from it. */
static axis axis_of(double least, double most) {
    axis a = {.top = most > 0 ? most : 1};
    a.step = nice_step(a.top, 5);
    if (least > 0.6 * a.top) {
        a.step = nice_step(fmax(a.top - least, 0.02 * a.top), 4);
        a.low = floor(least / a.step) * a.step;
    }
    a.top = fmax(a.top + 0.05 * (a.top - a.low), a.low + a.step);
    a.per_unit = (HEIGHT - BOTTOM - TOP) / (a.top - a.low);
    return a;
}

static double place(const axis *a, double y) {
    return HEIGHT - BOTTOM - (y - a->low) * a->per_unit;
}

/* Horizontal lines with their numbers. */
static void draw_axis(ht_text *out, const axis *a) {
    for (int i = 0; a->low + i * a->step <= a->top; i++) {
        double value = a->low + i * a->step, y = place(a, value);
        line(out, LEFT, y, WIDTH - RIGHT, y, "g");
        ht_text_printf(out, "<text x=\"%d\" y=\"%.1f\" class=\"e\">%.4g</text>\n", LEFT - 6, y + 4, value);
    }
}

/* --- marks over blocks --------------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b) {
    const ht_mark *x = a, *y = b;
    if (x->series != y->series)
        return x->series < y->series ? -1 : 1;
    if (x->x != y->x)
        return x->x < y->x ? -1 : 1;
    return (x->y > y->y) - (x->y < y->y);
}

static void shape(ht_text *out, unsigned series, double x, double y, double r) {
    switch (series % 4) {
    case 0:
        ht_text_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"%.1f\" class=\"s%u\">", x, y, r, series);
        return;
    case 1:
        ht_text_printf(out, "<path d=\"M%.1f %.1fh%.1fv%.1fh-%.1fz\" class=\"s%u\">", x - r, y - r, 2 * r, 2 * r, 2 * r,
                       series);
        return;
    case 2:
        ht_text_printf(out, "<path d=\"M%.1f %.1fl%.1f %.1fh-%.1fz\" class=\"s%u\">", x, y - 1.2 * r, 1.2 * r, 2.2 * r,
                       2.4 * r, series);
        return;
    default:
        ht_text_printf(out, "<path d=\"M%.1f %.1fl%.1f %.1fl-%.1f %.1fl-%.1f -%.1fz\" class=\"s%u\">", x, y - 1.3 * r,
                       1.3 * r, 1.3 * r, 1.3 * r, 1.3 * r, 1.3 * r, 1.3 * r, series);
    }
}

static void end_shape(ht_text *out, unsigned series) {
    ht_text_printf(out, series % 4 ? "</path>\n" : "</circle>\n");
}

/* `count` marks of one series and block, by y. */
static void draw_marks(ht_text *out, const ht_mark *marks, size_t count, double x, double r, const axis *a) {
    double sum = 0;
    unsigned series = marks->series;
    for (size_t i = 0; count <= CROWD && i < count; i++) {
        shape(out, series, x, place(a, marks[i].y), r);
        ht_text_printf(out, "<title>");
        ht_page_text(out, marks[i].name);
        ht_text_printf(out, " %.5g</title>", marks[i].y);
        end_shape(out, series);
    }
    if (count <= CROWD)
        return;
    for (size_t i = 0; i < count; i++)
        sum += marks[i].y;
    ht_text_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"l%u\"/>", x,
                   place(a, marks[0].y), x, place(a, marks[count - 1].y), series);
    shape(out, series, x, place(a, sum / (double)count), r);
    ht_text_printf(out, "<title>%zu tensors like ", count);
    ht_page_text(out, marks[0].name);
    ht_text_printf(out, ": %.5g to %.5g, mean %.5g</title>", marks[0].y, marks[count - 1].y, sum / (double)count);
    end_shape(out, series);
}

static void legend(ht_text *out, const char *const *series, unsigned count) {
    ht_text_printf(out, "<p class=\"legend\">");
    for (unsigned i = 0; i < count; i++) {
        ht_text_printf(out, "<span><svg viewBox=\"0 0 14 14\" class=\"k\">");
        shape(out, i, 7, 7, 4.5);
        end_shape(out, i);
        ht_text_printf(out, "</svg>");
        ht_page_text(out, series[i]);
        ht_text_printf(out, "</span> ");
    }
    ht_text_printf(out, "</p>\n");
}

void ht_chart_scatter(ht_text *out, ht_mark *marks, size_t count, const char *const *series, unsigned series_count,
                      const char *label) {
    double most = 0, least = INFINITY;
    size_t last = 0;
    for (size_t i = 0; i < count; i++) {
        most = marks[i].y > most ? marks[i].y : most;
        least = marks[i].y < least ? marks[i].y : least;
        last = marks[i].x > last ? marks[i].x : last;
    }
    axis a = axis_of(least, most);
    double slot = (double)(WIDTH - LEFT - RIGHT) / (double)(last + 1);
    double r = slot > 14 ? 4 : slot > 7 ? 3 : 2;
    qsort(marks, count, sizeof *marks, by_place);
    begin(out, HEIGHT, label);
    draw_axis(out, &a);
    double step = fmax(1, nice_step((double)last + 1, 14));
    for (double block = 0; block <= (double)last; block += step)
        ht_text_printf(out, "<text x=\"%.1f\" y=\"%d\" class=\"m\">%.0f</text>", LEFT + (block + 0.5) * slot,
                       HEIGHT - BOTTOM + 16, block);
    ht_text_printf(out, "<text x=\"%d\" y=\"%d\" class=\"m\">block</text>\n", (WIDTH + LEFT) / 2, HEIGHT - 3);
    for (size_t i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && marks[end].series == marks[i].series && marks[end].x == marks[i].x; end++)
            ;
        /* series side by side within the slot, so that they do not hide each other */
        double shift = series_count > 1 ? ((double)marks[i].series + 0.5) / series_count : 0.5;
        draw_marks(out, marks + i, end - i, LEFT + ((double)marks[i].x + 0.15 + 0.7 * shift) * slot, r, &a);
    }
    ht_text_printf(out, "</svg>\n");
    legend(out, series, series_count);
}

/* --- sizes --------------------------------------------------------------------------------------------------- */

static void stack(ht_text *out, const ht_part *parts, size_t count, int after, double total, int y) {
    double x = LEFT + 8, wide = WIDTH - LEFT - 8 - RIGHT, sum = 0;
    for (size_t i = 0; i < count; i++) {
        double bytes = (double)(after ? parts[i].after : parts[i].before), width = bytes / total * wide;
        size_t colour = i < HT_PAGE_SERIES ? i : HT_PAGE_SERIES - 1;
        ht_text_printf(out, "<rect x=\"%.1f\" y=\"%d\" width=\"%.1f\" height=\"30\" class=\"s%zu b\"><title>", x, y,
                       width, colour);
        ht_page_text(out, parts[i].name);
        ht_text_printf(out, " ");
        ht_page_bytes(out, bytes);
        ht_text_printf(out, "</title></rect>");
        x += width;
        sum += bytes;
    }
    ht_text_printf(out, "\n<text x=\"%d\" y=\"%d\" class=\"e\">%s</text>", LEFT, y + 20, after ? "after" : "before");
    if (x + 70 < WIDTH) {
        ht_text_printf(out, "<text x=\"%.1f\" y=\"%d\">", x + 6, y + 20);
        ht_page_bytes(out, sum);
        ht_text_printf(out, "</text>\n");
    }
}

void ht_chart_parts(ht_text *out, const ht_part *parts, size_t count) {
    double before = 0, after = 0;
    for (size_t i = 0; i < count; i++) {
        before += (double)parts[i].before;
        after += (double)parts[i].after;
    }
    double total = before > after ? before : after;
    begin(out, 84, "sizes before and after, by what tensors became");
    stack(out, parts, count, 0, total > 0 ? total : 1, 6);
    stack(out, parts, count, 1, total > 0 ? total : 1, 46);
    ht_text_printf(out, "</svg>\n");
}

/* --- divergences --------------------------------------------------------------------------------------------- */

/* Place of a divergence on the logarithmic axis, in bins from the first shown. */
static double bin_of(double kl) {
    double bin = kl < 1e-6 ? 0.5 : 1 + 4 * (log10(kl) + 6);
    return bin < HT_KL_BINS ? bin : HT_KL_BINS;
}

static void marker(ht_text *out, double kl, const char *name, double slot, double first, int row) {
    double x = LEFT + (bin_of(kl) - first) * slot;
    line(out, x, TOP + 12 + 14 * row, x, HEIGHT - BOTTOM, "r");
    int left = x > WIDTH - 100;
    ht_text_printf(out, "<text x=\"%.1f\" y=\"%d\" class=\"%s\">%s %.2g</text>\n", x + (left ? -4 : 4),
                   TOP + 20 + 14 * row, left ? "e" : "", name, kl);
}

void ht_chart_divergence(ht_text *out, const ht_evaluation *e) {
    uint64_t most = 0, total = 0;
    size_t first = HT_KL_BINS, last = 0;
    for (size_t i = 0; i < HT_KL_BINS; i++) {
        if (!e->kl_histogram[i])
            continue;
        first = first < i ? first : i;
        last = i;
        total += e->kl_histogram[i];
        most = e->kl_histogram[i] > most ? e->kl_histogram[i] : most;
    }
    if (!total)
        return;
    first = first > 1 ? (first - 1) / 4 * 4 + 1 : 0; /* from a whole decade */
    last = last < first + 8 && first + 8 < HT_KL_BINS ? first + 8 : last;
    double slot = (double)(WIDTH - LEFT - RIGHT) / (double)(last + 1 - first);
    axis a = axis_of(0, 100.0 * (double)most / (double)total * 1.2);
    begin(out, HEIGHT, "positions by KL divergence");
    draw_axis(out, &a);
    for (size_t i = first; i <= last; i++) {
        double share = 100.0 * (double)e->kl_histogram[i] / (double)total;
        double height = share * a.per_unit;
        ht_text_printf(out,
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" class=\"s0\"><title>from %.2g nats: "
                       "%.3g %% of the positions</title></rect>",
                       LEFT + (double)(i - first) * slot + 1, HEIGHT - BOTTOM - height, slot - 2, height,
                       ht_kl_bin_begin(i), share);
        if (i % 4 == 1)
            ht_text_printf(out, "<text x=\"%.1f\" y=\"%d\" class=\"m\">%g</text>\n", LEFT + (double)(i - first) * slot,
                           HEIGHT - BOTTOM + 16, ht_kl_bin_begin(i));
    }
    marker(out, e->kl_median, "median", slot, (double)first, 0);
    marker(out, e->kl_p99, "99 %", slot, (double)first, 1);
    ht_text_printf(out, "<text x=\"%d\" y=\"%d\" class=\"m\">KL divergence of a position, nats</text>\n</svg>\n",
                   (WIDTH + LEFT) / 2, HEIGHT - 3);
}

/* --- stages -------------------------------------------------------------------------------------------------- */

void ht_chart_stages(ht_text *out, const ht_report_stage *stages, size_t count) {
    enum { NAMES = 130, ROW = 26, VALUES = 90 };
    double most = 0;
    for (size_t i = 0; i < count; i++)
        most = stages[i].seconds > most ? stages[i].seconds : most;
    begin(out, (int)count * ROW + 4, "seconds by stage");
    for (size_t i = 0; i < count; i++) {
        double y = (double)i * ROW + 2, width = most > 0 ? stages[i].seconds / most * (WIDTH - NAMES - VALUES) : 0;
        ht_text_printf(out, "<text x=\"%d\" y=\"%.0f\" class=\"e\">", NAMES - 8, y + 16);
        ht_page_text(out, stages[i].name);
        ht_text_printf(out, "</text><rect x=\"%d\" y=\"%.0f\" width=\"%.1f\" height=\"%d\" class=\"s0\"/>", NAMES, y,
                       width > 1 ? width : 1, ROW - 6);
        ht_text_printf(out, "<text x=\"%.1f\" y=\"%.0f\">", NAMES + width + 8, y + 16);
        ht_page_seconds(out, stages[i].seconds);
        ht_text_printf(out, "</text>\n");
    }
    ht_text_printf(out, "</svg>\n");
}
