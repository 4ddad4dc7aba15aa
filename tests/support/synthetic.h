/* Random checkpoints of any size, Llama-shaped, the same bytes on every machine. */
#ifndef HT_TESTS_SYNTHETIC_H
#define HT_TESTS_SYNTHETIC_H

#include <stdint.h>

#include <halftone/context.h>

typedef struct synthetic_options {
    uint64_t bytes;       /* about this many; whole layers */
    uint32_t hidden;      /* 0 = 2048 from 1 GB up, else 512 */
    uint32_t experts;     /* 0 = dense, else a MoE with per-expert matrices */
    uint64_t shard_bytes; /* 0 = 5 GB */
} synthetic_options;

/* Write config.json and bf16 safetensors to directory, which must not hold a checkpoint. Weights are triangular noise
 * whose size differs from row to row, with a few outliers. */
ht_status synthetic_checkpoint(ht_context *ctx, const char *directory, const synthetic_options *options);

#endif
