/* The style sheet of report pages: light and dark by the reader's setting, one column on a phone, ink on white in
 * print.
 *
 * Colours have names (--s0 to --s7 for series) that charts use; nothing is loaded from anywhere.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* strlen */

#include "quant/report/report_page.h"

static const char *const sheet[] = {
    ":root{color-scheme:light dark;--bg:#fbfaf7;--card:#fff;--ink:#1d2328;--soft:#58626b;--line:#dcdfe2;--bad:#b3261e;"
    "--good:#1e7b45;--s0:#2f6fd0;--s1:#c96f12;--s2:#1f8a58;--s3:#bf3357;--s4:#7652c0;--s5:#0b8096;--s6:#8a6524;"
    "--s7:#6a737c}\n",
    "@media (prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1b1f24;--ink:#e6e9ec;--soft:#9da7b0;--line:#343b42;"
    "--bad:#ff8a80;--good:#74d39f;--s0:#74a3ef;--s1:#efa657;--s2:#5ec795;--s3:#ef7f9a;--s4:#b59af0;--s5:#57c1d3;"
    "--s6:#cfa867;--s7:#98a2ab}}\n",
    "@media print{:root{--bg:#fff;--card:#fff;--ink:#000;--soft:#444;--line:#bbb;--bad:#a00;--good:#063;--s0:#2f6fd0;"
    "--s1:#c96f12;--s2:#1f8a58;--s3:#bf3357;--s4:#7652c0;--s5:#0b8096;--s6:#8a6524;--s7:#6a737c}body{max-width:none;"
    "padding:0;font-size:10.5pt}section,.tile,tr,svg{break-inside:avoid}h2{break-after:avoid}*{print-color-adjust:"
    "exact;-webkit-print-color-adjust:exact}}\n",
    "*{box-sizing:border-box}body{margin:0 auto;max-width:56rem;padding:1.5rem 1.1rem 3rem;background:var(--bg);"
    "color:var(--ink);font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"DejaVu Sans\",sans-serif}\n",
    "h1{font-size:1.6rem;line-height:1.2;margin:0 0 .4rem}h2{font-size:1.15rem;margin:2.2rem 0 .5rem;padding-top:.9rem;"
    "border-top:1px solid var(--line)}h3{font-size:1rem;margin:1.4rem 0 .4rem}p{margin:.4rem 0 .7rem;max-width:44rem}"
    "a{color:inherit}code{font:.86em/1.4 ui-monospace,\"DejaVu Sans Mono\",monospace;overflow-wrap:anywhere}"
    ".soft{color:var(--soft)}\n",
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9.6rem,1fr));gap:.7rem;margin:1.2rem 0}.tile{"
    "background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.7rem .85rem}.tile "
    "b{display:block;"
    "font-size:1.3rem;line-height:1.25;font-variant-numeric:tabular-nums}.tile span{display:block;color:var(--soft);"
    "font-size:.84rem;line-height:1.35}.bad{color:var(--bad)}.good{color:var(--good)}\n",
    ".scroll{overflow-x:auto}table{border-collapse:collapse;font-size:.86rem;width:100%;font-variant-numeric:"
    "tabular-nums}th,td{padding:.28rem .9rem .28rem 0;text-align:left;vertical-align:top;border-bottom:1px solid "
    "var(--line)}th{font-weight:600;color:var(--soft);white-space:nowrap}th.n,td.n{text-align:right;white-space:"
    "nowrap}td.w{overflow-wrap:anywhere;min-width:11rem}td.s{white-space:nowrap}td:last-child,th:last-child{"
    "padding-right:0}\n",
    ".bar{display:inline-block;height:.62em;background:var(--s0);border-radius:2px;vertical-align:baseline}.barcell{"
    "width:18%;min-width:4rem}.sw{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin-right:.5em}\n",
    "svg{display:block;width:100%;max-width:46rem;height:auto;margin:.3rem 0}svg text{font-size:13px;fill:var(--ink)}"
    "svg .e{text-anchor:end}svg .m{text-anchor:middle}svg .g{stroke:var(--line);stroke-width:1}svg "
    ".r{stroke:var(--ink);"
    "stroke-width:1.2;stroke-dasharray:4 3}svg .b{stroke:var(--bg);stroke-width:1}svg .h{fill:var(--s0)}svg .h0{stroke:"
    "var(--bad);stroke-width:1.2;fill:none}svg .x{stroke:var(--bad);stroke-width:1.2;fill:none}svg text.n1{fill:"
    "var(--bg)}\n",
    "svg .s0{fill:var(--s0)}svg .s1{fill:var(--s1)}svg .s2{fill:var(--s2)}svg .s3{fill:var(--s3)}svg "
    ".s4{fill:var(--s4)}"
    "svg .s5{fill:var(--s5)}svg .s6{fill:var(--s6)}svg .s7{fill:var(--s7)}svg .l0{stroke:var(--s0)}svg .l1{stroke:"
    "var(--s1)}svg .l2{stroke:var(--s2)}svg .l3{stroke:var(--s3)}svg .l4{stroke:var(--s4)}svg .l5{stroke:var(--s5)}svg "
    ".l6{stroke:var(--s6)}svg .l7{stroke:var(--s7)}svg line[class^=l]{stroke-width:2.5;stroke-opacity:.55}\n",
    ".legend{font-size:.84rem;color:var(--soft);max-width:46rem}.legend span{display:inline-block;margin-right:1.1em;"
    "white-space:nowrap}svg.k{display:inline-block;width:.95em;height:.95em;margin:0 .35em 0 0;vertical-align:-.1em}"
    "details summary{cursor:pointer;margin:.5rem 0}.sw0{background:var(--s0)}.sw1{background:var(--s1)}.sw2{background:"
    "var(--s2)}.sw3{background:var(--s3)}.sw4{background:var(--s4)}.sw5{background:var(--s5)}.sw6{background:var(--s6)}"
    ".sw7{background:var(--s7)}\n",
    "@media (max-width:34rem){body{padding:1rem .8rem 2rem}h1{font-size:1.35rem}svg text{font-size:16px}svg .n0,svg "
    ".n1{font-size:13px}table{font-size:.82rem}th,td{padding-right:.6rem}}\n",
};

void ht_report_style(ht_text *out) {
    ht_text_printf(out, "<style>\n");
    for (size_t i = 0; i < sizeof sheet / sizeof *sheet; i++)
        ht_text_append(out, sheet[i], strlen(sheet[i]));
    ht_text_printf(out, "</style>\n");
}
