/* Heat map of experts: a row a block, a column an expert, the darker the more tokens; an expert without any is crossed
 * out, so that it is seen in a print without colours, too.
 *
 * Shades are the share of the even share (tokens of the block over its experts), full at twice that.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/report/report_page.h"

enum { WIDTH = 560, LEFT = 52, TOP = 20, TALLEST = 24, NUMBERS = 30 };

static void cell(ht_text *out, const ht_report_coverage *row, size_t expert, double even, double x, double y,
                 double width, double height) {
    uint64_t tokens = row->tokens[expert];
    double shade = even > 0 ? (double)tokens / even / 2 : 0;
    shade = shade < 1 ? shade : 1;
    ht_text_printf(out, "<g><title>block %zu, expert %zu: ", row->block, expert);
    ht_page_count(out, tokens);
    ht_text_printf(out,
                   " tokens</title><rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" class=\"%s\" "
                   "fill-opacity=\"%.3f\"/>",
                   x, y, width, height, tokens ? "h" : "h0", tokens ? 0.06 + 0.94 * shade : 0.0);
    if (!tokens)
        ht_text_printf(out, "<path d=\"M%.2f %.1fl%.2f %.1fm0 -%.1fl-%.2f %.1f\" class=\"x\"/>", x, y, width, height,
                       height, width, height);
    else if (width >= NUMBERS)
        ht_text_printf(out,
                       tokens < 10000 ? "<text x=\"%.1f\" y=\"%.1f\" class=\"m n%d\">%.0f</text>"
                                      : "<text x=\"%.1f\" y=\"%.1f\" class=\"m n%d\">%.0fk</text>",
                       x + width / 2, y + height / 2 + 4, shade > 0.8, (double)tokens / (tokens < 10000 ? 1 : 1000));
    ht_text_printf(out, "</g>\n");
}

void ht_chart_coverage(ht_text *out, const ht_report_coverage *rows, size_t count) {
    size_t most = 1;
    for (size_t i = 0; i < count; i++)
        most = rows[i].experts > most ? rows[i].experts : most;
    double width = (double)(WIDTH - LEFT) / (double)most, height = count <= 16 ? TALLEST : count <= 40 ? 14 : 8;
    ht_text_printf(out, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"tokens of every expert\">\n", WIDTH,
                   TOP + (double)count * height + 4);
    size_t every = most <= 16 ? 1 : (most + 15) / 16, skip = height >= 14 ? 1 : 2;
    for (size_t e = 0; e < most; e += every)
        ht_text_printf(out, "<text x=\"%.1f\" y=\"14\" class=\"m\">%zu</text>", LEFT + ((double)e + 0.5) * width, e);
    for (size_t i = 0; i < count; i++) {
        double y = TOP + (double)i * height, even = 0;
        for (size_t e = 0; e < rows[i].experts; e++)
            even += (double)rows[i].tokens[e] / (double)rows[i].experts;
        if (i % skip == 0)
            ht_text_printf(out, "<text x=\"%d\" y=\"%.1f\" class=\"e\">%zu</text>\n", LEFT - 8, y + height / 2 + 4,
                           rows[i].block);
        for (size_t e = 0; e < rows[i].experts; e++)
            cell(out, &rows[i], e, even, LEFT + (double)e * width, y, width - (width > 6 ? 1.5 : 0), height - 1.5);
    }
    ht_text_printf(out, "</svg>\n");
}
