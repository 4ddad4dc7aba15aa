/* --attention: what the attention of a model may round, and what ran in each layer.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cli/cli.h"
#include "cli/commands.h"

#include <jansson.h>
#include <string.h>

static int same(ht_model_attention a, ht_model_attention b) {
    return strcmp(a.kernel, b.kernel) == 0 && strcmp(a.precision, b.precision) == 0 && strcmp(a.reason, b.reason) == 0;
}

/* One line for each run of layers that are alike. */
static void note_layers(const cli_call *call, const ht_model *model) {
    size_t layers = ht_model_describe(model).layers;
    for (size_t first = 0, end; first < layers; first = end) {
        ht_model_attention at = ht_model_attention_at(model, first);
        for (end = first + 1; end < layers && same(at, ht_model_attention_at(model, end));)
            end++;
        cli_note(call, "attention of layers %zu to %zu: %s, %s%s%s", first, end - 1, at.kernel, at.precision,
                 *at.reason ? "; " : "", at.reason);
    }
}

ht_status cli_attention_choose(const cli_call *call, ht_model *model, const char *name) {
    if (!name)
        return HT_OK;
    ht_status status = ht_model_set_attention(model, name);
    if (status == HT_OK)
        note_layers(call, model);
    return status;
}

json_t *cli_attention_json(const ht_model *model) {
    json_t *out = json_array();
    for (size_t layer = 0; layer < ht_model_describe(model).layers; layer++) {
        ht_model_attention at = ht_model_attention_at(model, layer);
        json_t *row = json_object();
        json_object_set_new(row, "layer", cli_json_count(layer));
        json_object_set_new(row, "kernel", cli_json_text(at.kernel));
        json_object_set_new(row, "precision", cli_json_text(at.precision));
        json_object_set_new(row, "reason", cli_json_text(at.reason));
        json_array_append_new(out, row);
    }
    return out;
}
