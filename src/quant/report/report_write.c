/* Writing a report: the page and its JSON, each under a temporary name and renamed.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>
#include <stdio.h> /* rename, remove */
#include <string.h>

#include "base/status.h"
#include "io/file_io.h"
#include "quant/report/report_page.h"

ht_report_options ht_report_options_default(void) {
    return (ht_report_options){.context = 512};
}

static ht_status write_whole(ht_arena *arena, const char *path, const ht_text *text) {
    const char *temporary = ht_arena_printf(arena, "%s.halftone-part", path);
    if (!temporary)
        return HT_ERR_MEMORY;
    ht_status status = ht_write_file(temporary, text->data, text->length);
    if (status == HT_OK && rename(temporary, path) != 0)
        status = ht_output_failed(path, "rename the finished report", errno);
    if (status != HT_OK)
        remove(temporary);
    return status;
}

/* "report.html" to "report.json", "report" to "report.json". */
static const char *json_path(ht_arena *arena, const char *path) {
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    if (!dot || (slash && dot < slash) || strcmp(dot, ".json") == 0)
        dot = path + strlen(path);
    return ht_arena_printf(arena, "%.*s.json", (int)(dot - path), path);
}

ht_status ht_report_write(ht_context *ctx, const char *path, const ht_report_options *options) {
    ht_text page = {0}, json = {0};
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    const char *beside = json_path(&arena, path);
    ht_status status = beside ? ht_report_html(ctx, options, &page) : HT_ERR_MEMORY;
    if (status == HT_OK)
        status = ht_report_json(options, &json);
    if (status == HT_OK)
        status = write_whole(&arena, path, &page);
    if (status == HT_OK)
        status = write_whole(&arena, beside, &json);
    ht_text_free(&page);
    ht_text_free(&json);
    ht_arena_release(&arena);
    return status;
}
