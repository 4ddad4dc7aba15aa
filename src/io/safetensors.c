/* Safetensors headers. The file is
 *
 *     |<- 8 bytes: n, little endian ->|<- n bytes of JSON, space padded ->|<- tensor data ->|
 *
 * and the JSON maps each name to {"dtype", "shape", "data_offsets": [begin, end)}, "__metadata__" to strings. The
 * tensors must tile the data exactly: after sorting by offset each begins where the one before it ended, and the last
 * ends with the file. So no byte belongs to two tensors, none to no tensor, and a truncated or lying file is found
 * without reading data.
 *
 * Refused: anything else, with the tensor, the value and the limit. Source: the safetensors format description;
 * formats specification, section 8.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/safetensors.h"

#include <inttypes.h> /* PRIu64 */
#include <stdlib.h>   /* qsort */
#include <string.h>   /* strcmp */

#include <jansson.h>

#include "base/status.h"
#include "io/json.h"

static ht_dtype dtype_of(const char *name) {
    for (int i = HT_DTYPE_NONE + 1; i < HT_DTYPE_COUNT; i++) {
        const char *known = ht_dtype_safetensors_name((ht_dtype)i);
        if (known && strcmp(known, name) == 0)
            return (ht_dtype)i;
    }
    return HT_DTYPE_NONE;
}

static ht_status parse_shape(const char *label, const char *name, json_t *shape, ht_safetensors_entry *entry) {
    if (!json_is_array(shape))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: shape is not an array", label, name);
    if (json_array_size(shape) > HT_MAX_RANK)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %zu dimensions, at most %d are supported", label, name,
                       json_array_size(shape), HT_MAX_RANK);
    entry->rank = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < entry->rank; i++) {
        json_t *size = json_array_get(shape, i);
        if (!json_is_integer(size) || json_integer_value(size) < 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: dimension %u is not a whole number >= 0", label, name, i);
        entry->shape[i] = (size_t)json_integer_value(size);
    }
    return HT_OK;
}

static ht_status parse_offsets(const char *label, const char *name, json_t *offsets, ht_safetensors_entry *entry) {
    json_t *begin = json_array_get(offsets, 0), *end = json_array_get(offsets, 1);
    if (!json_is_array(offsets) || json_array_size(offsets) != 2 || !json_is_integer(begin) || !json_is_integer(end))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: data_offsets is not [begin, end]", label, name);
    if (json_integer_value(begin) < 0 || json_integer_value(end) < json_integer_value(begin))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: data_offsets [%" PRId64 ", %" PRId64 "] run backwards", label,
                       name, (int64_t)json_integer_value(begin), (int64_t)json_integer_value(end));
    entry->begin = (uint64_t)json_integer_value(begin);
    entry->end = (uint64_t)json_integer_value(end);
    return HT_OK;
}

/* Bits of the shape; 0 when it does not fit in 64 bits minus one. */
static int shape_bits(const ht_safetensors_entry *entry, uint64_t *bits) {
    *bits = ht_dtype_bits(entry->dtype);
    for (unsigned i = 0; i < entry->rank; i++)
        if (entry->shape[i] == 0) {
            *bits = 0;
            return 1;
        }
    for (unsigned i = 0; i < entry->rank; i++)
        if (__builtin_mul_overflow(*bits, (uint64_t)entry->shape[i], bits))
            return 0;
    return 1;
}

static ht_status parse_tensor(const char *label, const char *name, json_t *value, ht_safetensors_entry *entry) {
    if (!json_is_object(value))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: its entry is not an object", label, name);
    if (!*name)
        return ht_fail(HT_ERR_CORRUPT, "%s: a tensor has an empty name", label);
    const char *dtype = json_string_value(json_object_get(value, "dtype"));
    if (!dtype)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: dtype is missing or not a string", label, name);
    entry->dtype = dtype_of(dtype);
    if (entry->dtype == HT_DTYPE_NONE)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: unknown dtype \"%s\"", label, name, dtype);
    HT_TRY(parse_shape(label, name, json_object_get(value, "shape"), entry));
    HT_TRY(parse_offsets(label, name, json_object_get(value, "data_offsets"), entry));
    uint64_t bits;
    if (!shape_bits(entry, &bits))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: its shape holds more than 2^64 bits", label, name);
    if (bits % 8)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %" PRIu64 " bits of %s are not whole bytes", label, name, bits,
                       dtype);
    if (bits / 8 != entry->end - entry->begin)
        return ht_fail(HT_ERR_CORRUPT,
                       "%s: tensor %s: data_offsets span %" PRIu64 " bytes, dtype and shape need %" PRIu64, label, name,
                       entry->end - entry->begin, bits / 8);
    return HT_OK;
}

static int by_offset(const void *a, const void *b) {
    const ht_safetensors_entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* The tensors, sorted by offset, tile [0, size). */
static ht_status check_tiling(const char *label, ht_safetensors *out, uint64_t size) {
    uint64_t reached = 0;
    const char *before = "the header";
    for (size_t i = 0; i < out->count; i++) {
        const ht_safetensors_entry *entry = &out->entries[i];
        if (entry->end > size)
            return ht_fail(HT_ERR_CORRUPT,
                           "%s: tensor %s ends at data byte %" PRIu64 ", the file holds %" PRIu64 " (truncated?)",
                           label, entry->name, entry->end, size);
        if (entry->begin < reached)
            return ht_fail(HT_ERR_CORRUPT,
                           "%s: tensor %s begins at data byte %" PRIu64 ", inside %s that ends at %" PRIu64, label,
                           entry->name, entry->begin, before, reached);
        if (entry->begin > reached)
            return ht_fail(HT_ERR_CORRUPT,
                           "%s: hole of %" PRIu64 " bytes between %s and tensor %s (data byte %" PRIu64 ")", label,
                           entry->begin - reached, before, entry->name, entry->begin);
        reached = entry->end;
        before = entry->name;
    }
    if (reached != size)
        return ht_fail(HT_ERR_CORRUPT, "%s: %" PRIu64 " bytes after the last tensor (%s, end %" PRIu64 ")", label,
                       size - reached, before, reached);
    return HT_OK;
}

static ht_status parse_metadata(ht_arena *arena, const char *label, json_t *object, ht_safetensors *out) {
    if (!json_is_object(object))
        return ht_fail(HT_ERR_CORRUPT, "%s: __metadata__ is not an object", label);
    out->metadata = ht_arena_alloc(arena, 2 * json_object_size(object) * sizeof *out->metadata);
    if (!out->metadata)
        return HT_ERR_MEMORY;
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (!json_is_string(value))
            return ht_fail(HT_ERR_CORRUPT, "%s: __metadata__ key %s: its value is not a string", label, key);
        const char *text = json_string_value(value);
        out->metadata[2 * out->metadata_count] = ht_arena_string(arena, key, strlen(key));
        out->metadata[2 * out->metadata_count + 1] = ht_arena_string(arena, text, strlen(text));
        if (!out->metadata[2 * out->metadata_count] || !out->metadata[2 * out->metadata_count + 1])
            return HT_ERR_MEMORY;
        out->metadata_count++;
    }
    return HT_OK;
}

static ht_status parse_root(ht_arena *arena, const char *label, json_t *root, uint64_t size, ht_safetensors *out) {
    if (!json_is_object(root))
        return ht_fail(HT_ERR_CORRUPT, "%s: the header is not a JSON object", label);
    out->entries = ht_arena_alloc(arena, json_object_size(root) * sizeof *out->entries);
    if (!out->entries)
        return HT_ERR_MEMORY;
    const char *name;
    json_t *value;
    json_object_foreach(root, name, value) {
        if (strcmp(name, "__metadata__") == 0) {
            HT_TRY(parse_metadata(arena, label, value, out));
            continue;
        }
        ht_safetensors_entry *entry = &out->entries[out->count];
        HT_TRY(parse_tensor(label, name, value, entry));
        entry->name = ht_arena_string(arena, name, strlen(name));
        if (!entry->name)
            return HT_ERR_MEMORY;
        out->count++;
    }
    qsort(out->entries, out->count, sizeof *out->entries, by_offset);
    return check_tiling(label, out, size);
}

ht_status ht_safetensors_parse(ht_arena *arena, const char *label, const uint8_t *data, size_t bytes,
                               ht_safetensors *out) {
    *out = (ht_safetensors){0};
    if (bytes < 8)
        return ht_fail(HT_ERR_CORRUPT, "%s: %zu bytes, a safetensors file has at least 8", label, bytes);
    uint64_t length = 0;
    for (unsigned i = 0; i < 8; i++)
        length |= (uint64_t)data[i] << (8 * i);
    if (length > HT_SAFETENSORS_HEADER_LIMIT)
        return ht_fail(HT_ERR_CORRUPT, "%s: header of %" PRIu64 " bytes, limit %u (not a safetensors file?)", label,
                       length, HT_SAFETENSORS_HEADER_LIMIT);
    if (length > bytes - 8)
        return ht_fail(HT_ERR_CORRUPT, "%s: header of %" PRIu64 " bytes, the file holds %zu after its length field",
                       label, length, bytes - 8);
    if (length == 0 || data[8] != '{')
        return ht_fail(HT_ERR_CORRUPT, "%s: the header does not begin with {", label);
    out->data_offset = 8 + length;
    json_t *root;
    HT_TRY(ht_json_parse(label, "header", (const char *)data + 8, (size_t)length, &root));
    ht_status status = parse_root(arena, label, root, bytes - 8 - length, out);
    json_decref(root);
    return status;
}
