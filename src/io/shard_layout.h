/* Where every tensor of an output checkpoint lies: decided before the first byte is written. */
#ifndef HT_IO_SHARD_LAYOUT_H
#define HT_IO_SHARD_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/checkpoint.h>

#include "base/memory.h"
#include "base/text.h"

typedef struct ht_shard {
    const char *file;    /* final name */
    size_t first, count; /* tensors in the given order */
    uint64_t header;     /* bytes before the data, length field included */
    uint64_t bytes;      /* of the file */
} ht_shard;

typedef struct ht_placed {
    uint64_t bytes;  /* of the tensor */
    uint64_t offset; /* in its shard file */
    uint32_t shard;
} ht_placed;

typedef struct ht_shard_layout {
    const ht_output_tensor *tensors; /* copied */
    size_t count;
    ht_placed *placed; /* per tensor */
    ht_shard *shards;
    size_t shard_count;
    uint64_t total; /* bytes of all tensors */
    uint64_t hash;  /* of every header: equal layouts have equal hashes */
} ht_shard_layout;

/* Split the tensors, in the given order, into shards of at most shard_bytes of data (a larger tensor stands alone), and
 * place them: inside a shard by descending dtype width, so that each is aligned for its dtype in a mapped file.
 * metadata: key, value, ..., NULL; may be NULL. Everything lives in the arena. Fails with ARGUMENT (a name twice, a
 * dtype that safetensors lacks), SHAPE. */
ht_status ht_shard_layout_make(ht_arena *arena, const ht_output_tensor *tensors, size_t count, uint64_t shard_bytes,
                               const char *const *metadata, ht_shard_layout *out);

/* First bytes of a shard file: length field and padded JSON. */
ht_status ht_shard_header(const ht_shard_layout *layout, const ht_shard *shard, const char *const *metadata,
                          ht_text *out);

/* Text of model.safetensors.index.json. */
ht_status ht_shard_index(const ht_shard_layout *layout, ht_text *out);

#endif
