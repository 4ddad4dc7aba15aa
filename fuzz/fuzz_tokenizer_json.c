/* Arbitrary bytes as a tokenizer.json; when they are one, a text with everything in it through it and back.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer/pipeline.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char sample[] =
    "Hello  world's <s> caf\xc3\xa9 e\xcc\x81 12345\n\n \xe4\xb8\x96\xe7\x95\x8c\xf0\x9f\x98\x80 aab\xff ab";

static void round_trip(const ht_tokenizer *tokenizer) {
    ht_encoding got;
    if (ht_tokenizer_encode(tokenizer, sample, sizeof sample - 1, 1, &got) != HT_OK)
        return;
    for (int skip = 0; skip < 2; skip++) {
        char *text;
        size_t bytes;
        ht_status status = ht_tokenizer_decode(tokenizer, got.ids, got.count, skip, &text, &bytes);
        if (status == HT_OK && strlen(text) > bytes)
            abort();
        ht_text_release(text);
    }
    ht_encoding_release(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    ht_context_options options = ht_context_options_default();
    ht_context *ctx;
    ht_tokenizer *tokenizer;
    options.threads = 1;
    options.memory_limit = (size_t)1 << 28;
    if (ht_context_create(&options, &ctx) != HT_OK)
        return 0;
    size_t before = ht_context_memory_used(ctx);
    if (ht_tokenizer_parse(ctx, (const char *)data, size, &tokenizer) == HT_OK) {
        round_trip(tokenizer);
        ht_tokenizer_close(tokenizer);
    } else if (!ht_error_message()[0]) {
        abort();
    }
    if (ht_context_memory_used(ctx) != before)
        abort();
    ht_context_destroy(ctx);
    return 0;
}
