/* Open checkpoints: the object, its lists and look-ups. What a directory or a GGUF file holds is the business of
 * huggingface.c and gguf_file.c; here lies what they share. Tensors and parameters are sorted arrays, looked up by
 * binary search, so a list of 100,000 names needs no second index.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/checkpoint.h>

#include <errno.h>    /* errno */
#include <stdlib.h>   /* qsort, bsearch */
#include <string.h>   /* strcmp */
#include <sys/stat.h> /* stat */

#include "base/context.h"
#include "base/status.h"
#include "io/checkpoint_file.h"
#include "io/json.h"

ht_status ht_checkpoint_add_metadata(ht_checkpoint *checkpoint, const char *key, const char *value) {
    if (checkpoint->metadata_count == checkpoint->metadata_capacity) {
        size_t capacity = checkpoint->metadata_capacity * 2 + 8;
        const char **grown = ht_arena_alloc(&checkpoint->arena, 2 * capacity * sizeof *grown);
        if (!grown)
            return HT_ERR_MEMORY;
        if (checkpoint->metadata_count)
            memcpy(grown, checkpoint->metadata, 2 * checkpoint->metadata_count * sizeof *grown);
        checkpoint->metadata = grown;
        checkpoint->metadata_capacity = capacity;
    }
    checkpoint->metadata[2 * checkpoint->metadata_count] = key;
    checkpoint->metadata[2 * checkpoint->metadata_count + 1] = value;
    checkpoint->metadata_count++;
    return HT_OK;
}

ht_format ht_plain_format(ht_dtype dtype) {
    return (ht_format){.family = HT_FAMILY_PLAIN, .element = dtype};
}

static int by_pair(const void *a, const void *b) {
    const char *const *x = a, *const *y = b;
    int order = strcmp(x[0], y[0]);
    return order ? order : strcmp(x[1], y[1]);
}

/* Sorted, and what every shard repeats kept once. */
static void settle_metadata(ht_checkpoint *checkpoint) {
    const char **pairs = checkpoint->metadata;
    size_t kept = 0;
    if (checkpoint->metadata_count)
        qsort(pairs, checkpoint->metadata_count, 2 * sizeof *pairs, by_pair);
    for (size_t i = 0; i < checkpoint->metadata_count; i++)
        if (!kept || by_pair(&pairs[2 * (kept - 1)], &pairs[2 * i]) != 0) {
            pairs[2 * kept] = pairs[2 * i];
            pairs[2 * kept + 1] = pairs[2 * i + 1];
            kept++;
        }
    checkpoint->metadata_count = kept;
}

ht_status ht_checkpoint_add_file(ht_checkpoint *checkpoint, const char *file, const ht_file_map *map,
                                 const ht_safetensors *parsed) {
    for (size_t i = 0; i < parsed->metadata_count; i++)
        HT_TRY(ht_checkpoint_add_metadata(checkpoint, parsed->metadata[2 * i], parsed->metadata[2 * i + 1]));
    for (size_t i = 0; i < parsed->count; i++) {
        const ht_safetensors_entry *entry = &parsed->entries[i];
        ht_stored_tensor *tensor = &checkpoint->tensors[checkpoint->tensor_count++];
        *tensor = (ht_stored_tensor){.name = entry->name,
                                     .dtype = entry->dtype,
                                     .rank = entry->rank,
                                     .bytes = (size_t)(entry->end - entry->begin),
                                     .file = file,
                                     .offset = parsed->data_offset + entry->begin,
                                     .data = map->data + parsed->data_offset + entry->begin};
        tensor->format = ht_plain_format(entry->dtype);
        memcpy(tensor->shape, entry->shape, sizeof tensor->shape);
    }
    return HT_OK;
}

static int by_name(const void *a, const void *b) {
    const ht_stored_tensor *x = a, *y = b;
    return strcmp(x->name, y->name);
}

ht_status ht_checkpoint_sort(ht_checkpoint *checkpoint) {
    settle_metadata(checkpoint);
    if (checkpoint->tensor_count)
        qsort(checkpoint->tensors, checkpoint->tensor_count, sizeof *checkpoint->tensors, by_name);
    for (size_t i = 1; i < checkpoint->tensor_count; i++) {
        const ht_stored_tensor *a = &checkpoint->tensors[i - 1], *b = &checkpoint->tensors[i];
        if (strcmp(a->name, b->name) == 0 && a->file == b->file)
            return ht_fail(HT_ERR_CORRUPT, "%s: %s: tensor %s is stored twice", checkpoint->path, a->file, a->name);
        if (strcmp(a->name, b->name) == 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is stored twice: in %s and in %s", checkpoint->path, a->name,
                           a->file, b->file);
    }
    return HT_OK;
}

static ht_status parse_one(ht_checkpoint *checkpoint, const char *file) {
    ht_safetensors parsed;
    HT_TRY(ht_safetensors_parse(&checkpoint->arena, checkpoint->path, checkpoint->maps[0].data,
                                checkpoint->maps[0].bytes, &parsed));
    checkpoint->tensors = ht_arena_alloc(&checkpoint->arena, parsed.count * sizeof *checkpoint->tensors);
    if (!checkpoint->tensors)
        return HT_ERR_MEMORY;
    return ht_checkpoint_add_file(checkpoint, file, &checkpoint->maps[0], &parsed);
}

static ht_status open_file(ht_checkpoint *checkpoint) {
    checkpoint->maps = ht_arena_alloc(&checkpoint->arena, sizeof *checkpoint->maps);
    if (!checkpoint->maps)
        return HT_ERR_MEMORY;
    HT_TRY(ht_file_map_open(checkpoint->path, &checkpoint->maps[0]));
    checkpoint->map_count = 1;
    if (checkpoint->maps[0].bytes >= 4 && memcmp(checkpoint->maps[0].data, "GGUF", 4) == 0) {
        checkpoint->kind = "gguf";
        return ht_gguf_open(checkpoint);
    }
    checkpoint->kind = "safetensors";
    const char *slash = strrchr(checkpoint->path, '/');
    return parse_one(checkpoint, slash ? slash + 1 : checkpoint->path);
}

static ht_status create(ht_context *ctx, const char *path, ht_checkpoint **out) {
    *out = NULL;
    ht_checkpoint *checkpoint;
    HT_TRY(ht_allocate(ctx, 1, sizeof *checkpoint, "checkpoint", &checkpoint));
    checkpoint->ctx = ctx;
    ht_arena_init(&checkpoint->arena, ctx);
    checkpoint->path = ht_arena_string(&checkpoint->arena, path, strlen(path));
    if (!checkpoint->path) {
        ht_checkpoint_close(checkpoint);
        return HT_ERR_MEMORY;
    }
    *out = checkpoint;
    return HT_OK;
}

/* Sort, fold; hand out or take down. */
static ht_status finish(ht_checkpoint *checkpoint, ht_status status, ht_checkpoint **out) {
    if (status == HT_OK)
        status = ht_checkpoint_sort(checkpoint);
    if (status == HT_OK)
        status = ht_fold_parameters(checkpoint);
    if (status != HT_OK) {
        ht_checkpoint_close(checkpoint);
        *out = NULL;
    }
    return status;
}

ht_status ht_checkpoint_open(ht_context *ctx, const char *path, ht_checkpoint **out) {
    *out = NULL;
    struct stat info;
    if (!path || !*path)
        return ht_fail(HT_ERR_ARGUMENT, "checkpoint: no path given");
    if (stat(path, &info) != 0)
        return ht_fail(HT_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    HT_TRY(create(ctx, path, out));
    ht_checkpoint *checkpoint = *out;
    if (!S_ISDIR(info.st_mode))
        return finish(checkpoint, open_file(checkpoint), out);
    checkpoint->kind = "huggingface";
    return finish(checkpoint, ht_huggingface_open(checkpoint), out);
}

ht_status ht_checkpoint_open_memory(ht_context *ctx, const void *data, size_t bytes, const char *config,
                                    ht_checkpoint **out) {
    HT_TRY(create(ctx, "memory", out));
    ht_checkpoint *checkpoint = *out;
    ht_file_map map = {.data = data, .bytes = bytes};
    checkpoint->kind = "safetensors";
    checkpoint->maps = &map;
    checkpoint->map_count = 1;
    checkpoint->borrowed = 1;
    int gguf = bytes >= 4 && memcmp(data, "GGUF", 4) == 0;
    if (config)
        checkpoint->config = ht_arena_string(&checkpoint->arena, config, strlen(config));
    ht_status status = HT_ERR_MEMORY;
    if (!config || checkpoint->config)
        status = gguf ? ht_gguf_open(checkpoint) : parse_one(checkpoint, "memory");
    checkpoint->maps = NULL;
    checkpoint->map_count = 0;
    return finish(checkpoint, status, out);
}

void ht_checkpoint_close(ht_checkpoint *checkpoint) {
    if (!checkpoint)
        return;
    for (size_t i = 0; i < checkpoint->map_count && !checkpoint->borrowed; i++)
        ht_file_map_close(&checkpoint->maps[i]);
    ht_arena_release(&checkpoint->arena);
    ht_release(checkpoint->ctx, checkpoint);
}

const char *ht_checkpoint_path(const ht_checkpoint *checkpoint) {
    return checkpoint->path;
}

const char *ht_checkpoint_kind(const ht_checkpoint *checkpoint) {
    return checkpoint->kind;
}

const char *ht_checkpoint_config(const ht_checkpoint *checkpoint) {
    return checkpoint->config;
}

const char *ht_checkpoint_architecture(const ht_checkpoint *checkpoint) {
    return checkpoint->architecture;
}

const char *ht_checkpoint_metadata_key(const ht_checkpoint *checkpoint, size_t index) {
    return index < checkpoint->metadata_count ? checkpoint->metadata[2 * index] : NULL;
}

const char *ht_checkpoint_metadata_value(const ht_checkpoint *checkpoint, size_t index) {
    return index < checkpoint->metadata_count ? checkpoint->metadata[2 * index + 1] : NULL;
}

size_t ht_checkpoint_tensor_count(const ht_checkpoint *checkpoint) {
    return checkpoint->tensor_count;
}

const ht_stored_tensor *ht_checkpoint_tensor(const ht_checkpoint *checkpoint, size_t index) {
    return index < checkpoint->tensor_count ? &checkpoint->tensors[index] : NULL;
}

static int tensor_name(const void *name, const void *tensor) {
    return strcmp(name, ((const ht_stored_tensor *)tensor)->name);
}

const ht_stored_tensor *ht_checkpoint_find(const ht_checkpoint *checkpoint, const char *name) {
    return checkpoint->tensor_count
               ? bsearch(name, checkpoint->tensors, checkpoint->tensor_count, sizeof *checkpoint->tensors, tensor_name)
               : NULL;
}

size_t ht_checkpoint_parameter_count(const ht_checkpoint *checkpoint) {
    return checkpoint->parameter_count;
}

const ht_parameter *ht_checkpoint_parameter(const ht_checkpoint *checkpoint, size_t index) {
    return index < checkpoint->parameter_count ? &checkpoint->parameters[index] : NULL;
}

static int parameter_name(const void *name, const void *parameter) {
    return strcmp(name, ((const ht_parameter *)parameter)->name);
}

const ht_parameter *ht_checkpoint_find_parameter(const ht_checkpoint *checkpoint, const char *name) {
    return checkpoint->parameter_count ? bsearch(name, checkpoint->parameters, checkpoint->parameter_count,
                                                 sizeof *checkpoint->parameters, parameter_name)
                                       : NULL;
}
