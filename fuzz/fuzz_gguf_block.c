/* Random bytes through every GGUF decoder, arbitrary floats (NaN, Inf, subnormals, huge) through every encoder.
 *
 * Byte 0 picks the type, byte 1 the scale rule; the rest is read once as a block and once as the bits of floats, as
 * often repeated as needed. Traps when an encoder turns numbers into something else, or hides a NaN or Inf.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "format/gguf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok) {
    if (!ok)
        abort();
}

/* bytes[0..count) from data, repeated. */
static void repeat(const uint8_t *data, size_t size, uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        bytes[i] = size ? data[i % size] : 0;
}

static int all_finite(const float *x, int count) {
    for (int i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return 0;
    return 1;
}

/* Encode and decode; exact buffers on the heap, so that a sanitizer sees writes past the end. */
static void round_trip(const ht_gguf_type *type, const ht_row_options *options, const float *x) {
    uint8_t *block = malloc(type->bytes);
    float *in = malloc(type->values * sizeof(float)), *out = malloc(type->values * sizeof(float));
    if (block && in && out) {
        memcpy(in, x, type->values * sizeof(float));
        type->encode(options, in, block);
        type->decode(block, out);
        require(all_finite(in, type->values) == all_finite(out, type->values));
        for (int i = 0; i < type->values; i++)
            require(isfinite(in[i]) || isnan(out[i]));
    }
    free(block);
    free(in);
    free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    size_t types = 0;
    while (ht_gguf_type_at(types))
        types++;
    if (size < 2)
        return 0;
    const ht_gguf_type *type = ht_gguf_type_at(data[0] % types);
    ht_row_options options = ht_row_options_default();
    options.scale_rule = (ht_scale_rule)(data[1] % (HT_SCALE_MSE + 1));

    uint8_t *block = malloc(type->bytes);
    float *y = malloc(type->values * sizeof(float));
    if (block && y) {
        repeat(data + 2, size - 2, block, type->bytes);
        type->decode(block, y);
        if (type->encode)
            round_trip(type, &options, y);
        repeat(data + 2, size - 2, (uint8_t *)y, type->values * sizeof(float));
        if (type->encode)
            round_trip(type, &options, y);
    }
    free(block);
    free(y);
    return 0;
}
