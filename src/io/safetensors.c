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

#include "base/status.h"
#include "io/json_scan.h"

static ht_dtype dtype_of(const char *name) {
    for (int i = HT_DTYPE_NONE + 1; i < HT_DTYPE_COUNT; i++) {
        const char *known = ht_dtype_safetensors_name((ht_dtype)i);
        if (known && strcmp(known, name) == 0)
            return (ht_dtype)i;
    }
    return HT_DTYPE_NONE;
}

/* The tensor at hand while its entry is walked. */
typedef struct walk {
    ht_safetensors *out;
    ht_safetensors_entry *entry;
    size_t capacity;
    const char *name;
    int64_t offsets[2];
    unsigned seen; /* bits of the keys met */
    int has_metadata;
} walk;

enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };

static ht_status take_dimension(ht_scan *scan, size_t index, void *user) {
    walk *w = user;
    int64_t size;
    if (index >= HT_MAX_RANK)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: more than %d dimensions", scan->label, w->name, HT_MAX_RANK);
    if (ht_scan_integer(scan, &size) != HT_OK || size < 0)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: dimension %zu is not a whole number from 0 to 2^63 - 1",
                       scan->label, w->name, index);
    w->entry->shape[index] = (size_t)size;
    w->entry->rank = (unsigned)index + 1;
    return HT_OK;
}

static ht_status take_offset(ht_scan *scan, size_t index, void *user) {
    walk *w = user;
    if (index >= 2 || ht_scan_integer(scan, &w->offsets[index]) != HT_OK)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: data_offsets is not [begin, end]", scan->label, w->name);
    w->seen |= index ? OFFSETS : 0;
    return HT_OK;
}

static ht_status take_dtype(ht_scan *scan, walk *w) {
    const char *dtype = NULL;
    if (ht_scan_peek(scan) != '"')
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: dtype is not a string", scan->label, w->name);
    HT_TRY(ht_scan_string(scan, &dtype));
    w->entry->dtype = dtype_of(dtype);
    w->seen |= DTYPE;
    return w->entry->dtype != HT_DTYPE_NONE
               ? HT_OK
               : ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: unknown dtype \"%s\"", scan->label, w->name, dtype);
}

/* One key of a tensor's entry; unknown ones are passed over. */
static ht_status take_key(ht_scan *scan, const char *key, void *user) {
    walk *w = user;
    unsigned before = w->seen;
    unsigned which = strcmp(key, "dtype") == 0          ? DTYPE
                     : strcmp(key, "shape") == 0        ? SHAPE
                     : strcmp(key, "data_offsets") == 0 ? OFFSETS
                                                        : 0;
    if (before & which)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %s is given twice", scan->label, w->name, key);
    if (which == DTYPE)
        return take_dtype(scan, w);
    if (which && ht_scan_peek(scan) != '[')
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %s is not an array", scan->label, w->name, key);
    if (which == SHAPE) {
        w->seen |= SHAPE;
        return ht_scan_array(scan, take_dimension, w);
    }
    return which == OFFSETS ? ht_scan_array(scan, take_offset, w) : ht_scan_skip(scan);
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

static ht_status check_tensor(const char *label, const walk *w) {
    const ht_safetensors_entry *entry = w->entry;
    const char *missing = !(w->seen & DTYPE) ? "dtype" : !(w->seen & SHAPE) ? "shape" : "data_offsets [begin, end]";
    if (w->seen != (DTYPE | SHAPE | OFFSETS))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %s is missing", label, w->name, missing);
    if (w->offsets[0] < 0 || w->offsets[1] < w->offsets[0])
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: data_offsets [%" PRId64 ", %" PRId64 "] run backwards", label,
                       w->name, w->offsets[0], w->offsets[1]);
    uint64_t bits, span = (uint64_t)(w->offsets[1] - w->offsets[0]);
    if (!shape_bits(entry, &bits))
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: its shape holds more than 2^64 bits", label, w->name);
    if (bits % 8)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %" PRIu64 " bits of %s are not whole bytes", label, w->name,
                       bits, ht_dtype_name(entry->dtype));
    if (bits / 8 != span)
        return ht_fail(HT_ERR_CORRUPT,
                       "%s: tensor %s: data_offsets span %" PRIu64 " bytes, dtype and shape need %" PRIu64, label,
                       w->name, span, bits / 8);
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

/* Room for one more in an array of the arena that doubles. */
static ht_status grow(ht_arena *arena, void **items, size_t count, size_t *capacity, size_t size) {
    if (count < *capacity)
        return HT_OK;
    size_t more = *capacity * 2 + 64;
    void *grown = ht_arena_alloc(arena, more * size);
    if (!grown)
        return HT_ERR_MEMORY;
    if (count)
        memcpy(grown, *items, count * size);
    *items = grown;
    *capacity = more;
    return HT_OK;
}

typedef struct pairs {
    void *items;
    size_t count, capacity;
} pairs;

static ht_status take_pair(ht_scan *scan, const char *key, void *user) {
    pairs *p = user;
    const char *value = NULL;
    if (ht_scan_peek(scan) != '"')
        return ht_fail(HT_ERR_CORRUPT, "%s: __metadata__ key %s: its value is not a string", scan->label, key);
    HT_TRY(ht_scan_string(scan, &value));
    HT_TRY(grow(scan->arena, &p->items, p->count, &p->capacity, 2 * sizeof(char *)));
    const char **pair = (const char **)p->items + 2 * p->count++;
    pair[0] = key;
    pair[1] = value;
    return HT_OK;
}

static ht_status take_metadata(ht_scan *scan, walk *w) {
    if (w->has_metadata++)
        return ht_fail(HT_ERR_CORRUPT, "%s: __metadata__ is given twice", scan->label);
    if (ht_scan_peek(scan) != '{')
        return ht_fail(HT_ERR_CORRUPT, "%s: __metadata__ is not an object", scan->label);
    pairs found = {0};
    HT_TRY(ht_scan_object(scan, take_pair, &found));
    w->out->metadata = found.items;
    w->out->metadata_count = found.count;
    return HT_OK;
}

static ht_status take_tensor(ht_scan *scan, const char *name, void *user) {
    walk *w = user;
    if (strcmp(name, "__metadata__") == 0)
        return take_metadata(scan, w);
    if (!*name)
        return ht_fail(HT_ERR_CORRUPT, "%s: a tensor has an empty name", scan->label);
    if (ht_scan_peek(scan) != '{')
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: its entry is not an object", scan->label, name);
    void *entries = w->out->entries;
    HT_TRY(grow(scan->arena, &entries, w->out->count, &w->capacity, sizeof *w->out->entries));
    w->out->entries = entries;
    w->entry = &w->out->entries[w->out->count];
    *w->entry = (ht_safetensors_entry){.name = name};
    w->name = name;
    w->seen = 0;
    HT_TRY(ht_scan_object(scan, take_key, w));
    HT_TRY(check_tensor(scan->label, w));
    w->entry->begin = (uint64_t)w->offsets[0];
    w->entry->end = (uint64_t)w->offsets[1];
    w->out->count++;
    return HT_OK;
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
    ht_scan scan = {.label = label, .what = "header", .arena = arena};
    scan.text = scan.at = (const char *)data + 8;
    scan.end = scan.text + length;
    walk w = {.out = out};
    HT_TRY(ht_scan_object(&scan, take_tensor, &w));
    HT_TRY(ht_scan_end(&scan));
    if (out->count)
        qsort(out->entries, out->count, sizeof *out->entries, by_offset);
    return check_tiling(label, out, bytes - 8 - length);
}
