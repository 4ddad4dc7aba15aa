/* Inside of an open checkpoint. */
#ifndef HT_IO_CHECKPOINT_FILE_H
#define HT_IO_CHECKPOINT_FILE_H

#include <stddef.h>

#include <halftone/checkpoint.h>

#include <jansson.h>

#include "base/file_map.h"
#include "base/memory.h"
#include "io/safetensors.h"

struct ht_checkpoint {
    ht_context *ctx;
    ht_arena arena; /* everything below, but the maps and the copies */
    const char *path;
    const char *kind;
    const char *config; /* text of config.json, or NULL */
    const char *architecture;
    const char **metadata; /* key, value, ... */
    size_t metadata_count, metadata_capacity;
    ht_file_map *maps;
    size_t map_count;
    int borrowed;              /* the maps belong to somebody else */
    ht_stored_tensor *tensors; /* sorted by name once opened */
    size_t tensor_count;
    ht_parameter *parameters; /* sorted by name */
    size_t parameter_count;
};

/* The format of a tensor that is not quantized. */
ht_format ht_plain_format(ht_dtype dtype);

/* Append a file's tensors (room is there) and metadata; `map` is what `parsed` came from. */
ht_status ht_checkpoint_add_file(ht_checkpoint *checkpoint, const char *file, const ht_file_map *map,
                                 const ht_safetensors *parsed);
ht_status ht_checkpoint_add_metadata(ht_checkpoint *checkpoint, const char *key, const char *value);
/* Sort the tensors; a name in two files is CORRUPT. */
ht_status ht_checkpoint_sort(ht_checkpoint *checkpoint);

/* The kinds. Each fills maps, tensors, metadata, config. */
ht_status ht_huggingface_open(ht_checkpoint *checkpoint);
ht_status ht_gguf_open(ht_checkpoint *checkpoint);

/* A checkpoint over one safetensors or GGUF file in memory that the caller keeps, with the text of a config.json or
 * NULL. */
ht_status ht_checkpoint_open_memory(ht_context *ctx, const void *data, size_t bytes, const char *config,
                                    ht_checkpoint **out);

/* Fold the stored tensors into parameters, as the config's quantization_config says. */
ht_status ht_fold_parameters(ht_checkpoint *checkpoint);

#endif
