/* The header of a safetensors file, validated completely. */
#ifndef HT_IO_SAFETENSORS_H
#define HT_IO_SAFETENSORS_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>
#include <halftone/tensor.h>

#include "base/memory.h"

#define HT_SAFETENSORS_HEADER_LIMIT 100000000u /* bytes of JSON, as in the reference implementation */

typedef struct ht_safetensors_entry {
    const char *name;
    ht_dtype dtype;
    unsigned rank;
    size_t shape[HT_MAX_RANK];
    uint64_t begin, end; /* bytes, counted from the start of the data */
} ht_safetensors_entry;

typedef struct ht_safetensors {
    ht_safetensors_entry *entries; /* in file order */
    size_t count;
    const char **metadata; /* key, value, key, value, ... */
    size_t metadata_count; /* pairs */
    uint64_t data_offset;  /* of the first data byte in the file */
} ht_safetensors;

/* Parse the file whose bytes are data[0, bytes). `label` names it in messages. Everything in *out lives in the arena.
 * Fails with CORRUPT, naming file, tensor, value and limit. */
ht_status ht_safetensors_parse(ht_arena *arena, const char *label, const uint8_t *data, size_t bytes,
                               ht_safetensors *out);

#endif
