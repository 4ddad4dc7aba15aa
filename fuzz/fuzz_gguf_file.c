/* GGUF files: any bytes behind the magic through the whole way of opening.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>
#include <stdlib.h>
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
    if (size < 4)
        return 0;
    uint8_t *file = malloc(size);
    if (!file)
        return 0;
    memcpy(file, data, size);
    memcpy(file, "GGUF", 4);
    ht_checkpoint *checkpoint;
    if (ht_checkpoint_open_memory(ctx, file, size, NULL, &checkpoint) == HT_OK) {
        uint64_t sum = 0;
        for (size_t i = 0; ht_checkpoint_parameter(checkpoint, i); i++) {
            const ht_parameter *parameter = ht_checkpoint_parameter(checkpoint, i);
            const ht_stored_tensor *tensor = ht_checkpoint_tensor(checkpoint, parameter->stored[0]);
            if (tensor->bytes)
                sum += ((const uint8_t *)tensor->data)[0] + ((const uint8_t *)tensor->data)[tensor->bytes - 1];
        }
        volatile uint64_t keep = sum;
        (void)keep;
        ht_checkpoint_close(checkpoint);
    }
    free(file);
    return 0;
}
