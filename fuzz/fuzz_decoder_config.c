/* Any bytes as the config.json of a decoder.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdint.h>

#include <halftone/context.h>

#include "base/memory.h"
#include "model/config.h"
#include "model/rope.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx;
    options.threads = 1;
    if (ht_context_create(&options, &ctx) != HT_OK)
        return 0;
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    ht_decoder_config config;
    float frequency[1 << 13];
    if (ht_decoder_config_parse("fuzz", (const char *)data, size, &arena, &config) == HT_OK) {
        ht_rope_frequencies(&config.rope, config.rotary, 1000, frequency); /* head_dim is at most 2^14 */
        ht_decoder_config_generation("fuzz", (const char *)data, size, &config);
    }
    ht_arena_release(&arena);
    ht_context_destroy(ctx);
    return 0;
}
