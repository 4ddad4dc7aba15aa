/* halftone inspect: what a checkpoint holds. Reads headers only.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

typedef struct values {
    int tensors, metadata;
} values;

static const cli_option rows[] = {
    {"tensors", 't', CLI_FLAG, offsetof(values, tensors), NULL, NULL, "one line for every stored tensor"},
    {"metadata", 0, CLI_FLAG, offsetof(values, metadata), NULL, NULL, "the files' key-value metadata too"},
    {NULL, 0, CLI_FLAG, 0, NULL, NULL, NULL}};
const cli_options cli_inspect_options = {rows, sizeof(values), NULL};

typedef struct totals {
    uint64_t parameters, bytes, dtype_tensors[HT_DTYPE_COUNT], dtype_bytes[HT_DTYPE_COUNT];
    size_t quantized;
} totals;

static uint64_t elements(const size_t *shape, unsigned rank) {
    uint64_t product = 1;
    for (unsigned i = 0; i < rank; i++)
        product *= shape[i];
    return product;
}

static totals count(const ht_checkpoint *checkpoint) {
    totals sum = {0};
    for (size_t i = 0; i < ht_checkpoint_tensor_count(checkpoint); i++) {
        const ht_stored_tensor *t = ht_checkpoint_tensor(checkpoint, i);
        sum.bytes += t->bytes;
        sum.dtype_tensors[t->dtype]++;
        sum.dtype_bytes[t->dtype] += t->bytes;
    }
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *p = ht_checkpoint_parameter(checkpoint, i);
        sum.parameters += elements(p->shape, p->rank);
        sum.quantized += p->quantized != 0;
    }
    return sum;
}

static const char *format_of(const ht_stored_tensor *t, char *buffer, size_t size) {
    if (t->format.family == HT_FAMILY_PLAIN)
        return ht_dtype_name(t->dtype);
    ht_format_name(&t->format, buffer, size);
    return buffer;
}

static json_t *tensor_json(const void *checkpoint, size_t index) {
    const ht_stored_tensor *t = ht_checkpoint_tensor(checkpoint, index);
    char name[64];
    if (!t)
        return NULL;
    json_t *row = json_object(), *shape = json_array();
    for (unsigned d = 0; d < t->rank; d++)
        json_array_append_new(shape, cli_json_count(t->shape[d]));
    json_object_set_new(row, "name", cli_json_text(t->name));
    json_object_set_new(row, "dtype", cli_json_text(ht_dtype_name(t->dtype)));
    json_object_set_new(row, "format", cli_json_text(format_of(t, name, sizeof name)));
    json_object_set_new(row, "shape", shape);
    json_object_set_new(row, "bytes", cli_json_count(t->bytes));
    json_object_set_new(row, "file", cli_json_text(t->file));
    json_object_set_new(row, "offset", cli_json_count(t->offset));
    return row;
}

/* Quantized parameters: the tensors as the float model names them. */
static json_t *parameters_json(const ht_checkpoint *checkpoint) {
    json_t *all = json_array();
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *p = ht_checkpoint_parameter(checkpoint, i);
        if (!p->quantized)
            continue;
        char weight[64], input[64] = "";
        ht_format_name(&p->weight.format, weight, sizeof weight);
        if (p->has_input)
            ht_format_name(&p->input, input, sizeof input);
        json_t *row = json_object();
        json_object_set_new(row, "name", cli_json_text(p->name));
        json_object_set_new(row, "format", cli_json_text(weight));
        json_object_set_new(row, "input", p->has_input ? cli_json_text(input) : json_null());
        json_object_set_new(row, "hadamard_block", cli_json_count(p->weight.inputs.block));
        json_object_set_new(row, "input_scale", json_boolean(p->weight.inputs.scale != NULL));
        json_object_set_new(row, "static_input_scale",
                            p->input_scale > 0 ? cli_json_real((double)p->input_scale) : json_null());
        json_array_append_new(all, row);
    }
    return all;
}

static int print_json(const cli_call *call, const ht_checkpoint *checkpoint, const totals *sum) {
    json_t *out = cli_json_begin(call), *metadata = json_object();
    json_object_set_new(out, "path", cli_json_text(ht_checkpoint_path(checkpoint)));
    json_object_set_new(out, "kind", cli_json_text(ht_checkpoint_kind(checkpoint)));
    json_object_set_new(out, "architecture", cli_json_text(ht_checkpoint_architecture(checkpoint)));
    json_object_set_new(out, "parameters", cli_json_count(sum->parameters));
    json_object_set_new(out, "bytes", cli_json_count(sum->bytes));
    json_object_set_new(out, "bits_per_weight",
                        sum->parameters ? cli_json_real(8.0 * (double)sum->bytes / (double)sum->parameters)
                                        : json_null());
    for (size_t i = 0; ht_checkpoint_metadata_key(checkpoint, i); i++) {
        json_t *value = cli_json_text(ht_checkpoint_metadata_value(checkpoint, i));
        json_object_set_new(metadata, ht_checkpoint_metadata_key(checkpoint, i), value);
    }
    json_object_set_new(out, "metadata", metadata);
    json_object_set_new(out, "quantized", parameters_json(checkpoint));
    return cli_json_end_rows(out, "tensors", tensor_json, checkpoint, CLI_DONE);
}

static void print_tensors(const ht_checkpoint *checkpoint) {
    static const cli_column columns[] = {{"tensor", 0, 1}, {"dtype", 0, 0}, {"format", 0, 0},
                                         {"shape", 0, 0},  {"bytes", 1, 0}, {"file", 0, 0}};
    cli_table *table = cli_table_create(columns, 6);
    for (size_t i = 0; i < ht_checkpoint_tensor_count(checkpoint); i++) {
        const ht_stored_tensor *t = ht_checkpoint_tensor(checkpoint, i);
        char name[64];
        cli_cell(table, "%s", t->name);
        cli_cell(table, "%s", ht_dtype_name(t->dtype));
        cli_cell(table, "%s", format_of(t, name, sizeof name));
        cli_cell(table, "%s", cli_shape(t->shape, t->rank));
        cli_cell(table, "%s", cli_grouped(t->bytes));
        cli_cell(table, "%s", t->file);
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

static void print_dtypes(const totals *sum) {
    static const cli_column columns[] = {{"stored as", 0, 0}, {"tensors", 1, 0}, {"bytes", 1, 0}, {"share", 1, 0}};
    cli_table *table = cli_table_create(columns, 4);
    for (int d = 0; d < HT_DTYPE_COUNT; d++) {
        if (!sum->dtype_tensors[d])
            continue;
        cli_cell(table, "%s", ht_dtype_name((ht_dtype)d));
        cli_cell(table, "%s", cli_grouped(sum->dtype_tensors[d]));
        cli_cell(table, "%s", cli_grouped(sum->dtype_bytes[d]));
        cli_cell(table, "%s", cli_percent(sum->bytes ? (double)sum->dtype_bytes[d] / (double)sum->bytes : 0));
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

/* Quantized parameters counted by the pair of weight and input format, in order of first appearance. */
static void print_quantized(const ht_checkpoint *checkpoint) {
    enum { MOST = 64 };
    static const cli_column columns[] = {{"quantized as", 0, 0}, {"input", 0, 0}, {"parameters", 1, 0}};
    char seen[MOST][2][64];
    size_t times[MOST] = {0}, kinds = 0;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *p = ht_checkpoint_parameter(checkpoint, i);
        char pair[2][64] = {"", "-"};
        if (!p->quantized)
            continue;
        ht_format_name(&p->weight.format, pair[0], sizeof pair[0]);
        if (p->has_input)
            ht_format_name(&p->input, pair[1], sizeof pair[1]);
        if (p->input_scale > 0)
            strncat(pair[1], " static", sizeof pair[1] - strlen(pair[1]) - 1);
        size_t k = 0;
        while (k < kinds && (strcmp(seen[k][0], pair[0]) != 0 || strcmp(seen[k][1], pair[1]) != 0))
            k++;
        if (k == MOST)
            continue;
        if (k == kinds)
            memcpy(seen[kinds++], pair, sizeof pair);
        times[k]++;
    }
    if (!kinds)
        return;
    cli_table *table = cli_table_create(columns, 3);
    for (size_t k = 0; k < kinds; k++) {
        cli_cell(table, "%s", seen[k][0]);
        cli_cell(table, "%s", seen[k][1]);
        cli_cell(table, "%s", cli_grouped(times[k]));
    }
    putchar('\n');
    cli_table_print(table, stdout);
}

/* What is done to inputs when the model runs. */
static void print_inputs(const ht_checkpoint *checkpoint) {
    size_t mixed = 0, scaled = 0, least = SIZE_MAX, most = 0;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_input_transform *inputs = &ht_checkpoint_parameter(checkpoint, i)->weight.inputs;
        scaled += inputs->scale != NULL;
        if (!inputs->block)
            continue;
        mixed++;
        least = inputs->block < least ? inputs->block : least;
        most = inputs->block > most ? inputs->block : most;
    }
    if (mixed)
        printf("  inputs mixed     of %zu parameters, Hadamard blocks of %zu to %zu\n", mixed, least, most);
    if (scaled)
        printf("  inputs scaled    of %zu parameters\n", scaled);
}

static int print_text(const cli_call *call, const ht_checkpoint *checkpoint, const totals *sum) {
    const values *v = call->values;
    const char *architecture = ht_checkpoint_architecture(checkpoint);
    printf("%s\n", ht_checkpoint_path(checkpoint));
    printf("  kind             %s\n", ht_checkpoint_kind(checkpoint));
    printf("  architecture     %s\n", architecture ? architecture : "unknown");
    printf("  parameters       %s\n", cli_grouped(sum->parameters));
    printf("  tensors          %s\n", cli_grouped(ht_checkpoint_tensor_count(checkpoint)));
    printf("  bytes            %s (%s)\n", cli_grouped(sum->bytes), cli_size((double)sum->bytes));
    if (sum->parameters)
        printf("  bits per weight  %.2f\n", 8.0 * (double)sum->bytes / (double)sum->parameters);
    print_inputs(checkpoint);
    print_dtypes(sum);
    print_quantized(checkpoint);
    for (size_t i = 0; v->metadata && ht_checkpoint_metadata_key(checkpoint, i); i++)
        printf("%s%s = %s\n", i ? "" : "\n", ht_checkpoint_metadata_key(checkpoint, i),
               ht_checkpoint_metadata_value(checkpoint, i));
    if (v->tensors)
        print_tensors(checkpoint);
    return CLI_DONE;
}

int cli_inspect(cli_call *call) {
    ht_checkpoint *checkpoint = NULL;
    ht_status status = ht_checkpoint_open(call->ctx, call->argument[0], &checkpoint);
    if (status != HT_OK)
        return cli_status(call, status);
    totals sum = count(checkpoint);
    int done = call->common.json ? print_json(call, checkpoint, &sum) : print_text(call, checkpoint, &sum);
    ht_checkpoint_close(checkpoint);
    return done;
}
