/* Safetensors files: any bytes through the whole way of opening, and every look-up on what opened.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>
#include <string.h>

#include <halftone/checkpoint.h>

#include "io/checkpoint_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ht_context *ctx;
    ht_context_options options = ht_context_options_default();
    options.threads = 1;
    options.memory_limit = (size_t)256 << 20;
    if (!ctx && ht_context_create(&options, &ctx) != HT_OK)
        return 0;
    ht_checkpoint *checkpoint;
    if (size >= 4 && memcmp(data, "GGUF", 4) == 0)
        return 0; /* another target */
    if (ht_checkpoint_open_memory(ctx, data, size, NULL, &checkpoint) != HT_OK)
        return 0;
    uint64_t sum = 0;
    for (size_t i = 0; ht_checkpoint_tensor(checkpoint, i); i++) {
        const ht_stored_tensor *tensor = ht_checkpoint_tensor(checkpoint, i);
        if (ht_checkpoint_find(checkpoint, tensor->name) != tensor)
            __builtin_trap();
        if (tensor->bytes)
            sum += ((const uint8_t *)tensor->data)[0] + ((const uint8_t *)tensor->data)[tensor->bytes - 1];
    }
    for (size_t i = 0; ht_checkpoint_metadata_key(checkpoint, i); i++)
        sum += strlen(ht_checkpoint_metadata_key(checkpoint, i)) + strlen(ht_checkpoint_metadata_value(checkpoint, i));
    ht_checkpoint_close(checkpoint);
    volatile uint64_t keep = sum;
    (void)keep;
    return 0;
}
