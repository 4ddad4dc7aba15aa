/* The layout of shards and their headers.
 *
 *     model-00001-of-00002.safetensors:  |length|{"__metadata__":..,"name":{..},..}   |tensor|tensor|...
 *                                                            padded to 64 bytes ------^
 *
 * A safetensors file has no holes, so alignment comes from order: widest dtype first, then as given. The names of the
 * shards depend on their number, the header on nothing else: two passes.
 * Source: the safetensors format description.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/shard_layout.h"

#include <inttypes.h> /* PRIu64 */
#include <stdlib.h>   /* qsort */
#include <string.h>   /* memcpy, strcmp */

#include <xxhash.h>

#include "base/status.h"
#include "io/json.h"
#include "io/safetensors.h"

enum { HEADER_ALIGN = 64 };

#define DEFAULT_SHARD_BYTES 5000000000u

typedef struct order {
    const char *name;
    size_t index;
    unsigned width;
} order;

static int by_name(const void *a, const void *b) {
    return strcmp(((const order *)a)->name, ((const order *)b)->name);
}

/* Alignment that a dtype wants; fp6 and fp4 are bytes. */
static unsigned width_of(ht_dtype dtype) {
    unsigned bits = ht_dtype_bits(dtype);
    return bits < 8 ? 1 : bits / 8;
}

static int by_width(const void *a, const void *b) {
    const order *x = a, *y = b;
    if (x->width != y->width)
        return x->width > y->width ? -1 : 1;
    return x->index < y->index ? -1 : 1;
}

static ht_status measure(const ht_output_tensor *tensor, uint64_t *bytes) {
    if (!ht_dtype_safetensors_name(tensor->dtype))
        return ht_fail(HT_ERR_ARGUMENT, "tensor %s: dtype %s cannot be stored in safetensors", tensor->name,
                       ht_dtype_name(tensor->dtype));
    if (tensor->rank > HT_MAX_RANK)
        return ht_fail(HT_ERR_SHAPE, "tensor %s: %u dimensions, at most %d", tensor->name, tensor->rank, HT_MAX_RANK);
    uint64_t bits = ht_dtype_bits(tensor->dtype);
    for (unsigned i = 0; i < tensor->rank; i++)
        if (tensor->shape[i] == 0)
            bits = 0;
    for (unsigned i = 0; i < tensor->rank; i++)
        if (__builtin_mul_overflow(bits, (uint64_t)tensor->shape[i], &bits) || bits > (uint64_t)INT64_MAX)
            return ht_fail(HT_ERR_SHAPE, "tensor %s: its shape does not fit in a file", tensor->name);
    if (bits % 8)
        return ht_fail(HT_ERR_SHAPE, "tensor %s: %" PRIu64 " bits are not whole bytes", tensor->name, bits);
    *bytes = bits / 8;
    return HT_OK;
}

/* Copy the tensors and refuse names that come twice. */
static ht_status take_tensors(ht_arena *arena, const ht_output_tensor *tensors, size_t count, ht_shard_layout *out) {
    ht_output_tensor *copy = ht_arena_alloc(arena, count * sizeof *copy);
    order *sorted = ht_arena_alloc(arena, count * sizeof *sorted);
    out->placed = ht_arena_alloc(arena, count * sizeof *out->placed);
    if (!copy || !sorted || !out->placed)
        return HT_ERR_MEMORY;
    out->tensors = copy;
    out->count = count;
    for (size_t i = 0; i < count; i++) {
        if (!tensors[i].name || !*tensors[i].name || strcmp(tensors[i].name, "__metadata__") == 0)
            return ht_fail(HT_ERR_ARGUMENT, "output tensor %zu has no usable name", i);
        json_t *text = json_string(tensors[i].name);
        if (!text)
            return ht_fail(HT_ERR_ARGUMENT, "output tensor %zu: its name is not valid UTF-8", i);
        json_decref(text);
        copy[i] = tensors[i];
        copy[i].name = ht_arena_string(arena, tensors[i].name, strlen(tensors[i].name));
        if (!copy[i].name)
            return HT_ERR_MEMORY;
        HT_TRY(measure(&copy[i], &out->placed[i].bytes));
        out->total += out->placed[i].bytes;
        sorted[i] = (order){.name = copy[i].name, .index = i};
    }
    if (count)
        qsort(sorted, count, sizeof *sorted, by_name);
    for (size_t i = 1; i < count; i++)
        if (strcmp(sorted[i - 1].name, sorted[i].name) == 0)
            return ht_fail(HT_ERR_ARGUMENT, "output tensor %s is given twice", sorted[i].name);
    return HT_OK;
}

/* Cut the list into shards; place tensors relative to the start of the shard's data. */
static ht_status cut(ht_arena *arena, uint64_t limit, ht_shard_layout *out) {
    out->shards = ht_arena_alloc(arena, (out->count + 1) * sizeof *out->shards);
    order *inside = ht_arena_alloc(arena, out->count * sizeof *inside);
    if (!out->shards || !inside)
        return HT_ERR_MEMORY;
    for (size_t first = 0; first < out->count || out->shard_count == 0;) {
        ht_shard *shard = &out->shards[out->shard_count];
        shard->first = first;
        for (; first < out->count; first++) {
            uint64_t bytes = out->placed[first].bytes;
            if (shard->count && (bytes > limit || shard->bytes > limit - bytes))
                break;
            inside[shard->count++] = (order){.index = first, .width = width_of(out->tensors[first].dtype)};
            shard->bytes += bytes;
        }
        if (shard->count)
            qsort(inside, shard->count, sizeof *inside, by_width);
        uint64_t offset = 0;
        for (size_t i = 0; i < shard->count; i++) {
            ht_placed *placed = &out->placed[inside[i].index];
            placed->shard = (uint32_t)out->shard_count;
            placed->offset = offset;
            offset += placed->bytes;
        }
        out->shard_count++;
    }
    return HT_OK;
}

/* JSON of a shard. Offsets count from `base`. */
static void header_json(const ht_shard_layout *layout, const ht_shard *shard, uint64_t base,
                        const char *const *metadata, ht_text *out) {
    ht_text_append(out, "{", 1);
    const char *comma = "";
    if (metadata && metadata[0]) {
        ht_text_printf(out, "\"__metadata__\":{");
        for (size_t i = 0; metadata[i]; i += 2) {
            ht_text_printf(out, "%s", i ? "," : "");
            ht_json_quote(out, metadata[i]);
            ht_text_append(out, ":", 1);
            ht_json_quote(out, metadata[i + 1]);
        }
        ht_text_append(out, "}", 1);
        comma = ",";
    }
    for (size_t i = shard->first; i < shard->first + shard->count; i++) {
        const ht_output_tensor *tensor = &layout->tensors[i];
        uint64_t begin = layout->placed[i].offset - base;
        ht_text_printf(out, "%s", comma);
        ht_json_quote(out, tensor->name);
        ht_text_printf(out, ":{\"dtype\":\"%s\",\"shape\":[", ht_dtype_safetensors_name(tensor->dtype));
        for (unsigned d = 0; d < tensor->rank; d++)
            ht_text_printf(out, "%s%zu", d ? "," : "", tensor->shape[d]);
        ht_text_printf(out, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", begin, begin + layout->placed[i].bytes);
        comma = ",";
    }
    ht_text_append(out, "}", 1);
    while ((out->length + 8) % HEADER_ALIGN && !out->failed)
        ht_text_append(out, " ", 1);
}

ht_status ht_shard_header(const ht_shard_layout *layout, const ht_shard *shard, const char *const *metadata,
                          ht_text *out) {
    ht_text json = {0};
    header_json(layout, shard, shard->header, metadata, &json);
    char length[8];
    for (unsigned i = 0; i < 8; i++)
        length[i] = (char)(unsigned char)((uint64_t)json.length >> (8 * i));
    ht_text_append(out, length, 8);
    ht_text_append(out, json.data ? json.data : "", json.length);
    ht_status status = ht_text_check(&json);
    ht_text_free(&json);
    return status == HT_OK ? ht_text_check(out) : status;
}

/* Name the shards, find the length of each header, shift the tensors behind it. */
static ht_status settle(ht_arena *arena, const char *const *metadata, ht_shard_layout *out) {
    XXH3_state_t *hash = XXH3_createState();
    if (!hash)
        return ht_fail(HT_ERR_MEMORY, "layout: the system has no memory left");
    XXH3_64bits_reset(hash);
    ht_status status = HT_OK;
    for (size_t s = 0; s < out->shard_count && status == HT_OK; s++) {
        ht_shard *shard = &out->shards[s];
        ht_text json = {0};
        header_json(out, shard, 0, metadata, &json);
        status = ht_text_check(&json);
        if (status == HT_OK && json.length > HT_SAFETENSORS_HEADER_LIMIT)
            status = ht_fail(HT_ERR_ARGUMENT, "shard %zu: header of %zu bytes, limit %u: use smaller shards", s + 1,
                             json.length, HT_SAFETENSORS_HEADER_LIMIT);
        if (status == HT_OK)
            XXH3_64bits_update(hash, json.data, json.length);
        shard->header = 8 + json.length;
        shard->bytes += shard->header;
        ht_text_free(&json);
        for (size_t i = shard->first; i < shard->first + shard->count; i++)
            out->placed[i].offset += shard->header;
        shard->file = out->shard_count == 1
                          ? "model.safetensors"
                          : ht_arena_printf(arena, "model-%05zu-of-%05zu.safetensors", s + 1, out->shard_count);
        if (status == HT_OK && !shard->file)
            status = HT_ERR_MEMORY;
    }
    out->hash = XXH3_64bits_digest(hash);
    XXH3_freeState(hash);
    return status;
}

ht_status ht_shard_layout_make(ht_arena *arena, const ht_output_tensor *tensors, size_t count, uint64_t shard_bytes,
                               const char *const *metadata, ht_shard_layout *out) {
    *out = (ht_shard_layout){0};
    HT_TRY(take_tensors(arena, tensors, count, out));
    HT_TRY(cut(arena, shard_bytes ? shard_bytes : DEFAULT_SHARD_BYTES, out));
    return settle(arena, metadata, out);
}

ht_status ht_shard_index(const ht_shard_layout *layout, ht_text *out) {
    order *sorted = malloc((layout->count + 1) * sizeof *sorted);
    if (!sorted)
        return ht_fail(HT_ERR_MEMORY, "index: the system has no memory left for %zu names", layout->count);
    for (size_t i = 0; i < layout->count; i++)
        sorted[i] = (order){.name = layout->tensors[i].name, .index = i};
    if (layout->count)
        qsort(sorted, layout->count, sizeof *sorted, by_name);
    ht_text_printf(out, "{\n  \"metadata\": {\n    \"total_size\": %" PRIu64 "\n  },\n  \"weight_map\": {",
                   layout->total);
    for (size_t i = 0; i < layout->count; i++) {
        ht_text_printf(out, "%s\n    ", i ? "," : "");
        ht_json_quote(out, sorted[i].name);
        ht_text_printf(out, ": \"%s\"", layout->shards[layout->placed[sorted[i].index].shard].file);
    }
    ht_text_printf(out, "\n  }\n}\n");
    free(sorted);
    return ht_text_check(out);
}
