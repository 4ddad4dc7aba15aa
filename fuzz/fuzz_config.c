/* config.json: any text folded onto a checkpoint that has tensors for every profile. The first byte picks the file:
 * bit 0 one with compressed-tensors names, else one with published and plain names.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/checkpoint.h>

#include "io/checkpoint_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

typedef struct entry {
    const char *name, *dtype, *shape;
    size_t bytes;
} entry;

static const entry compressed[] = {
    {"a.weight_packed", "U8", "4,32", 128},
    {"a.weight_scale", "U8", "4,2", 8},
    {"b.weight", "F8_E4M3", "4,64", 256},
    {"b.weight_scale", "F32", "4,1", 16},
    {"c.weight_packed", "I32", "4,8", 128},
    {"c.weight_scale", "BF16", "4,2", 16},
    {"c.weight_zero_point", "I32", "1,2", 8},
    {"c.weight_shape", "I64", "2", 16},
    {"c.weight_g_idx", "I32", "64", 256},
    {"d.weight", "I8", "4,64", 256},
    {"d.weight_scale", "F32", "4,1", 16},
    {"d.weight_zero_point", "I8", "4,1", 4},
    {"e.weight_packed", "U8", "4,32", 128},
    {"e.weight_scale", "F8_E4M3", "4,4", 16},
    {"e.weight_global_scale", "F32", "1", 4},
    {"e.input_global_scale", "F32", "1", 4},
    {"f_packed", "U8", "2,4,24", 192},
    {"f_scale", "U8", "2,4,1", 8},
    {"odd", "U8", "1", 1},
    {"g.weight", "BF16", "4,4", 32},
    {"g.weight.act_pre_scale", "F32", "4", 16},
};
static const entry published[] = {
    {"a.weight", "F8_E4M3", "4,64", 256},
    {"a.weight_scale_inv", "F32", "1,1", 4},
    {"b_blocks", "U8", "2,4,2,16", 256},
    {"b_scales", "U8", "2,4,2", 16},
    {"c.weight", "U8", "4,32", 128},
    {"c.weight_scale", "F8_E4M3", "4,4", 16},
    {"c.weight_scale_2", "F32", "", 4},
    {"d.codes", "U8", "4,32", 128},
    {"d.scales", "U8", "4,2", 8},
    {"d.shape", "I64", "2", 16},
    {"e.experts.gate_up_proj", "F16", "2,4,4", 64},
    {"e.experts.gate_up_proj.act_pre_scale", "F32", "2,4", 32},
};

/* A safetensors file of these entries, in a fresh buffer. */
static uint8_t *build(const entry *entries, size_t count, size_t *bytes) {
    char header[4096] = "{";
    size_t length = 1, data = 0;
    for (size_t i = 0; i < count; i++) {
        length +=
            (size_t)snprintf(header + length, sizeof header - length,
                             "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}", i ? "," : "",
                             entries[i].name, entries[i].dtype, entries[i].shape, data, data + entries[i].bytes);
        data += entries[i].bytes;
    }
    header[length++] = '}';
    *bytes = 8 + length + data;
    uint8_t *file = calloc(1, *bytes);
    if (!file)
        return NULL;
    file[0] = (uint8_t)length;
    file[1] = (uint8_t)(length >> 8);
    memcpy(file + 8, header, length);
    for (size_t i = 0; i < data; i++)
        file[8 + length + i] = (uint8_t)(i * 7);
    size_t at = 8 + length;
    for (size_t i = 0; i < count; i++) { /* shapes of [4, 64] */
        if (strcmp(entries[i].dtype, "I64") == 0) {
            memset(file + at, 0, 16);
            file[at] = 4;
            file[at + 8] = 64;
        }
        at += entries[i].bytes;
    }
    return file;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ht_context *ctx;
    ht_context_options options = ht_context_options_default();
    options.threads = 1;
    if ((!ctx && ht_context_create(&options, &ctx) != HT_OK) || size == 0)
        return 0;
    size_t bytes;
    uint8_t *file = data[0] & 1 ? build(compressed, sizeof compressed / sizeof compressed[0], &bytes)
                                : build(published, sizeof published / sizeof published[0], &bytes);
    char *config = malloc(size);
    if (file && config) {
        memcpy(config, data + 1, size - 1);
        config[size - 1] = '\0';
        ht_checkpoint *checkpoint;
        if (ht_checkpoint_open_memory(ctx, file, bytes, config, &checkpoint) == HT_OK)
            ht_checkpoint_close(checkpoint);
    }
    free(config);
    free(file);
    return 0;
}
