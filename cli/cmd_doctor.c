/* halftone doctor: what this machine and this build offer, and what that means for the choice of kernels.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>

typedef struct values {
    int kernels;
} values;

static const cli_option rows[] = {{"kernels", 0, CLI_FLAG, offsetof(values, kernels), NULL, NULL,
                                   "every kernel of every operation, whether it is chosen here, and why"},
                                  {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_doctor_options = {rows, sizeof(values), NULL};

static json_t *kernels_json(const cli_call *call) {
    json_t *all = json_array();
    ht_kernel_info info;
    for (size_t i = 0; ht_kernel_list(call->ctx, i, &info); i++) {
        json_t *row = json_object();
        json_object_set_new(row, "operation", cli_json_text(info.operation));
        json_object_set_new(row, "name", cli_json_text(info.name));
        json_object_set_new(row, "formats", cli_json_text(info.formats));
        json_object_set_new(row, "needs", cli_json_text(info.needs));
        json_object_set_new(row, "chosen", json_boolean(info.chosen));
        json_object_set_new(row, "reason", cli_json_text(info.reason));
        json_array_append_new(all, row);
    }
    return all;
}

/* Without `every` only the winners. */
static void print_kernels(const cli_call *call, int every) {
    static const cli_column columns[] = {
        {"operation", 0, 0}, {"kernel", 0, 0}, {"formats", 0, 0}, {"chosen", 0, 0}, {"why", 0, 0}};
    cli_table *table = cli_table_create(columns, 5);
    ht_kernel_info info;
    for (size_t i = 0; ht_kernel_list(call->ctx, i, &info); i++) {
        if (!every && !info.chosen)
            continue;
        cli_cell(table, "%s", info.operation);
        cli_cell(table, "%s", info.name);
        cli_cell(table, "%s", info.formats);
        cli_cell(table, "%s", info.chosen ? "yes" : "no");
        cli_cell(table, "%s", info.reason);
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

static json_t *devices_json(void) {
    json_t *all = json_array();
    ht_device_entry entry;
    for (size_t i = 0; ht_device_list(i, &entry); i++) {
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(entry.name));
        json_object_set_new(row, "description", cli_json_text(entry.description));
        json_object_set_new(row, "memory_bytes", cli_json_count(entry.memory_bytes));
        json_object_set_new(row, "free_bytes", cli_json_count(entry.free_bytes));
        json_array_append_new(all, row);
    }
    return all;
}

static void print_devices(void) {
    static const cli_column columns[] = {{"device", 0, 0}, {"what it is", 0, 0}, {"memory", 1, 0}, {"free", 1, 0}};
    cli_table *table = cli_table_create(columns, 4);
    ht_device_entry entry;
    for (size_t i = 0; ht_device_list(i, &entry); i++) {
        cli_cell(table, "%s", entry.name);
        cli_cell(table, "%s", entry.description);
        cli_cell(table, "%s", cli_size((double)entry.memory_bytes));
        cli_cell(table, "%s", cli_size((double)entry.free_bytes));
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

static json_t *libraries_json(void) {
    json_t *all = json_array();
    ht_library_info info;
    for (size_t i = 0; ht_library_list(i, &info); i++) {
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(info.name));
        json_object_set_new(row, "use", cli_json_text(info.use));
        json_object_set_new(row, "version", cli_json_text(info.version));
        json_array_append_new(all, row);
    }
    return all;
}

static void print_libraries(void) {
    static const cli_column columns[] = {{"library", 0, 0}, {"used for", 0, 0}, {"version", 0, 0}};
    cli_table *table = cli_table_create(columns, 3);
    ht_library_info info;
    for (size_t i = 0; ht_library_list(i, &info); i++) {
        cli_cell(table, "%s", info.name);
        cli_cell(table, "%s", info.use);
        cli_cell(table, "%s", *info.version ? info.version : "not in this build");
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

static void print_json(const cli_call *call) {
    json_t *out = cli_json_begin(call), *cpu = json_object(), *features = json_array();
    json_object_set_new(out, "version", json_string(ht_version()));
    json_object_set_new(cpu, "name", cli_json_text(ht_context_cpu_name(call->ctx)));
    json_object_set_new(cpu, "threads", cli_json_count(ht_context_threads(call->ctx)));
    for (size_t i = 0; ht_context_cpu_feature(call->ctx, i); i++) {
        const ht_cpu_feature *feature = ht_context_cpu_feature(call->ctx, i);
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(feature->name));
        json_object_set_new(row, "present", json_boolean(feature->present));
        json_object_set_new(row, "enabled", json_boolean(feature->enabled));
        json_object_set_new(row, "source", cli_json_text(feature->source));
        json_array_append_new(features, row);
    }
    json_object_set_new(cpu, "features", features);
    json_object_set_new(out, "cpu", cpu);
    json_object_set_new(out, "devices", devices_json());
    json_object_set_new(out, "libraries", libraries_json());
    json_object_set_new(out, "kernels", kernels_json(call));
    cli_json_end(out, CLI_DONE);
}

static void print_cpu(const cli_call *call) {
    static const cli_column columns[] = {{"feature", 0, 0}, {"CPU", 0, 0}, {"used", 0, 0}, {"answer from", 0, 0}};
    printf("halftone %s\n\ncpu: %s, %zu threads\n", ht_version(), ht_context_cpu_name(call->ctx),
           ht_context_threads(call->ctx));
    cli_table *table = cli_table_create(columns, 4);
    for (size_t i = 0; ht_context_cpu_feature(call->ctx, i); i++) {
        const ht_cpu_feature *feature = ht_context_cpu_feature(call->ctx, i);
        cli_cell(table, "%s", feature->name);
        cli_cell(table, "%s", feature->present ? "yes" : "no");
        cli_cell(table, "%s", feature->enabled ? "yes" : feature->present ? "masked" : "no");
        cli_cell(table, "%s", feature->source);
    }
    cli_table_print(table, stdout);
}

int cli_doctor(cli_call *call) {
    const values *v = call->values;
    if (call->common.json) {
        print_json(call);
    } else {
        print_cpu(call);
        print_devices();
        print_libraries();
        print_kernels(call, v->kernels);
    }
    return CLI_DONE;
}
