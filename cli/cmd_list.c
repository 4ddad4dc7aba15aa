/* halftone list: the library's own tables of names. A row here says where a table is, never what is in it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <string.h>

/* Entry `index` of a table, or name NULL past its end. bits: 0 when that has no meaning. */
typedef struct entry {
    const char *name, *summary, *aliases;
    double bits;
    char text[192]; /* for a summary that is put together */
} entry;
typedef int entry_fn(const ht_context *ctx, size_t index, entry *out); /* 0 past the end */

static int of_item(const ht_list_item *item, entry *out) {
    if (item)
        *out = (entry){.name = item->name, .summary = item->summary, .aliases = item->aliases};
    return item != NULL;
}
static int scheme(const ht_context *ctx, size_t index, entry *out) {
    (void)ctx;
    return of_item(ht_scheme_list(index), out);
}
static int method(const ht_context *ctx, size_t index, entry *out) {
    (void)ctx;
    return of_item(ht_method_list(index), out);
}
static int profile(const ht_context *ctx, size_t index, entry *out) {
    (void)ctx;
    return of_item(ht_profile_list(index), out);
}
static int architecture(const ht_context *ctx, size_t index, entry *out) {
    (void)ctx;
    return of_item(ht_architecture_list(index), out);
}
static int format(const ht_context *ctx, size_t index, entry *out) {
    (void)ctx;
    const ht_format_info *info = ht_format_list(index);
    if (info)
        *out = (entry){.name = info->name,
                       .summary = info->summary,
                       .aliases = info->has_encoder ? "" : "decode only",
                       .bits = info->bits_per_value};
    return info != NULL;
}
static int kernel(const ht_context *ctx, size_t index, entry *out) {
    ht_kernel_info info;
    if (!ht_kernel_list(ctx, index, &info))
        return 0;
    *out = (entry){.name = info.name, .aliases = info.chosen ? "runs here" : ""};
    snprintf(out->text, sizeof out->text, "%s%s%s%s%s", info.operation, *info.formats ? " on " : "", info.formats,
             *info.needs ? ", needs " : "", info.needs);
    return 1;
}

static const struct {
    const char *name;
    entry_fn *at;
    const char *third; /* title of the third column */
} tables[] = {{"schemes", scheme, "aliases"},
              {"formats", format, "note"},
              {"methods", method, "aliases"},
              {"profiles", profile, "readers"},
              {"architectures", architecture, "aliases"},
              {"kernels", kernel, "note"}};
enum { TABLES = sizeof tables / sizeof *tables };

static const char *summary_of(const entry *e) {
    return e->summary ? e->summary : e->text;
}

static json_t *settings_json(const char *name) {
    json_t *settings = json_array();
    ht_setting_info info;
    for (size_t i = 0; ht_setting_list(name, i, &info); i++)
        json_array_append_new(settings, json_pack("{s:s, s:s, s:s, s:s}", "name", info.name, "default", info.standard,
                                                  "allowed", info.allowed, "summary", info.summary));
    return settings;
}

static void print_settings(void) {
    static const cli_column columns[] = {
        {"setting", 0, 0}, {"default", 0, 0}, {"allowed", 0, 0}, {"what it is", 0, 0}, {"method", 0, 0}};
    const ht_list_item *item;
    ht_setting_info info;
    cli_table *table = cli_table_create(columns, 5);
    for (size_t m = 0; (item = ht_method_list(m)); m++)
        for (size_t i = 0; ht_setting_list(item->name, i, &info); i++) {
            cli_cell(table, "%s", info.name);
            cli_cell(table, "%s", info.standard);
            cli_cell(table, "%s", info.allowed);
            cli_cell(table, "%s", info.summary);
            cli_cell(table, "%s", item->name);
        }
    putchar('\n');
    cli_table_print(table, stdout);
}

static void print_presets(void) {
    static const cli_column columns[] = {{"preset", 0, 0},
                                         {"schemes (the first row that fits)", 0, 0},
                                         {"methods", 0, 0},
                                         {"settings", 0, 0},
                                         {"calibration", 0, 0}};
    ht_preset_info preset;
    cli_table *table = cli_table_create(columns, 5);
    for (size_t i = 0; ht_preset_list(i, &preset); i++) {
        cli_cell(table, "%s", preset.name);
        cli_cell(table, "%s", preset.schemes);
        cli_cell(table, "%s", preset.method);
        cli_cell(table, "%s", preset.set);
        cli_cell(table, "%s", preset.calibration);
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

static json_t *presets_json(void) {
    json_t *presets = json_array();
    ht_preset_info preset;
    for (size_t i = 0; ht_preset_list(i, &preset); i++)
        json_array_append_new(presets,
                              json_pack("{s:s, s:s, s:s, s:s, s:s}", "name", preset.name, "schemes", preset.schemes,
                                        "method", preset.method, "set", preset.set, "calibration", preset.calibration));
    return presets;
}

static int print_json(const cli_call *call, size_t which) {
    json_t *out = cli_json_begin(call), *items = json_array();
    json_object_set_new(out, "what", json_string(tables[which].name));
    entry e;
    for (size_t i = 0; tables[which].at(call->ctx, i, &e); i++) {
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(e.name));
        json_object_set_new(row, "summary", cli_json_text(summary_of(&e)));
        json_object_set_new(row, tables[which].third, cli_json_text(e.aliases));
        if (tables[which].at == format)
            json_object_set_new(row, "bits_per_value", e.bits > 0 ? cli_json_real(e.bits) : json_null());
        if (tables[which].at == method)
            json_object_set_new(row, "settings", settings_json(e.name));
        json_array_append_new(items, row);
    }
    json_object_set_new(out, "items", items);
    if (tables[which].at == method)
        json_object_set_new(out, "presets", presets_json());
    return cli_json_end(out, CLI_DONE);
}

static int print_text(const cli_call *call, size_t which) {
    int formats = tables[which].at == format;
    const cli_column columns[] = {
        {"name", 0, 0}, {formats ? "bits" : "", formats, 0}, {"what it is", 0, 0}, {tables[which].third, 0, 0}};
    cli_table *table = cli_table_create(columns, 4);
    entry e;
    for (size_t i = 0; tables[which].at(call->ctx, i, &e); i++) {
        cli_cell(table, "%s", e.name);
        if (e.bits > 0)
            cli_cell(table, "%.4g", e.bits);
        else
            cli_cell(table, "%s", "");
        cli_cell(table, "%s", summary_of(&e));
        cli_cell(table, "%s", e.aliases ? e.aliases : "");
    }
    cli_table_print(table, stdout);
    if (tables[which].at == method) {
        print_settings();
        print_presets();
    }
    return CLI_DONE;
}

int cli_list(cli_call *call) {
    const char *names[TABLES + 1] = {NULL};
    for (size_t i = 0; i < TABLES; i++) {
        names[i] = tables[i].name;
        if (strcmp(call->argument[0], names[i]) == 0)
            return call->common.json ? print_json(call, i) : print_text(call, i);
    }
    const char *near = cli_nearest(call->argument[0], names);
    return cli_fail(call, CLI_USAGE, "no table \"%.60s\"%s%s%s (see halftone list --help)", call->argument[0],
                    near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
}
