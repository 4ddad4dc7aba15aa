/* GGUF files, versions 2 and 3, little endian, read-only:
 *
 *     "GGUF" | u32 version | u64 tensors | u64 pairs | pairs | tensor infos | padding to general.alignment | data
 *     pair: string key, u32 type, value        info: string name, u32 rank, u64 dims[rank] (fastest first), u32 type,
 *     string: u64 length, bytes                      u64 offset from the start of the data
 *
 * One cursor walks the header; every read is checked against the file's end, every count against the bytes that are
 * left before memory is taken for it. Tensors must lie aligned inside the file and must not overlap. Values become
 * text.
 *
 * Refused: other versions, big endian, types that the format table lacks. Source: formats specification, section 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <inttypes.h> /* PRIu64 */
#include <stdlib.h>   /* qsort */
#include <string.h>   /* memcpy, memchr */

#include <halftone/format.h>

#include "base/status.h"
#include "base/text.h"
#include "io/checkpoint_file.h"

enum { MAX_DEPTH = 4, LISTED = 16, TYPE_STRING = 8, TYPE_ARRAY = 9, MAX_TYPE = 256 };

typedef struct cursor {
    ht_checkpoint *checkpoint;
    const uint8_t *data;
    size_t at, bytes;
    uint64_t alignment;
    const ht_format *formats[MAX_TYPE]; /* by GGUF type id */
} cursor;

static ht_status take(cursor *c, size_t bytes, const char *what, const uint8_t **out) {
    if (bytes > c->bytes - c->at)
        return ht_fail(HT_ERR_CORRUPT, "%s: %s at byte %zu needs %zu bytes, the file ends at %zu", c->checkpoint->path,
                       what, c->at, bytes, c->bytes);
    *out = c->data + c->at;
    c->at += bytes;
    return HT_OK;
}

static ht_status take_integer(cursor *c, unsigned bytes, const char *what, uint64_t *out) {
    const uint8_t *p = NULL;
    HT_TRY(take(c, bytes, what, &p));
    *out = 0;
    for (unsigned i = 0; i < bytes; i++)
        *out |= (uint64_t)p[i] << (8 * i);
    return HT_OK;
}

static ht_status take_string(cursor *c, const char *what, const char **text, size_t *length) {
    uint64_t bytes = 0;
    HT_TRY(take_integer(c, 8, what, &bytes));
    if (bytes > c->bytes - c->at)
        return ht_fail(HT_ERR_CORRUPT, "%s: %s of %" PRIu64 " bytes at byte %zu, the file ends at %zu",
                       c->checkpoint->path, what, bytes, c->at, c->bytes);
    const uint8_t *p = NULL;
    HT_TRY(take(c, (size_t)bytes, what, &p));
    *text = (const char *)p;
    *length = (size_t)bytes;
    return HT_OK;
}

/* A key or tensor name, copied. */
static ht_status take_name(cursor *c, const char *what, const char **out) {
    const char *text = NULL;
    size_t length = 0;
    HT_TRY(take_string(c, what, &text, &length));
    if (length == 0 || memchr(text, 0, length))
        return ht_fail(HT_ERR_CORRUPT, "%s: %s at byte %zu is empty or holds a NUL", c->checkpoint->path, what, c->at);
    *out = ht_arena_string(&c->checkpoint->arena, text, length);
    return *out ? HT_OK : HT_ERR_MEMORY;
}

/* Value types, by id. */
static const struct {
    const char *name;
    unsigned bytes;
    enum { UNSIGNED, SIGNED, FLOAT, BOOL, OTHER } kind;
} types[] = {
    {"u8", 1, UNSIGNED},  {"i8", 1, SIGNED},  {"u16", 2, UNSIGNED}, {"i16", 2, SIGNED},   {"u32", 4, UNSIGNED},
    {"i32", 4, SIGNED},   {"f32", 4, FLOAT},  {"bool", 1, BOOL},    {"string", 0, OTHER}, {"array", 0, OTHER},
    {"u64", 8, UNSIGNED}, {"i64", 8, SIGNED}, {"f64", 8, FLOAT},
};

enum { TYPE_COUNT = sizeof types / sizeof types[0] };

static void print_scalar(ht_text *out, uint64_t type, uint64_t bits) {
    unsigned bytes = types[type].bytes;
    double wide;
    float narrow;
    uint32_t low = (uint32_t)bits;
    switch (types[type].kind) {
    case BOOL:
        ht_text_printf(out, "%s", bits ? "true" : "false");
        break;
    case SIGNED:
        ht_text_printf(out, "%" PRId64, (int64_t)(bits << (64 - 8 * bytes)) >> (64 - 8 * bytes));
        break;
    case FLOAT:
        memcpy(&wide, &bits, sizeof wide);
        memcpy(&narrow, &low, sizeof narrow);
        ht_text_printf(out, "%.*g", bytes == 4 ? 9 : 17, bytes == 4 ? (double)narrow : wide);
        break;
    default:
        ht_text_printf(out, "%" PRIu64, bits);
    }
}

static ht_status take_value(cursor *c, const char *key, uint64_t type, int depth, ht_text *out);

/* Short arrays are listed, long ones counted. */
static ht_status take_array(cursor *c, const char *key, int depth, ht_text *out) {
    uint64_t type = 0, count = 0;
    HT_TRY(take_integer(c, 4, key, &type));
    HT_TRY(take_integer(c, 8, key, &count));
    if (type >= TYPE_COUNT)
        return ht_fail(HT_ERR_CORRUPT, "%s: key %s: array of unknown type %" PRIu64, c->checkpoint->path, key, type);
    if (depth >= MAX_DEPTH)
        return ht_fail(HT_ERR_CORRUPT, "%s: key %s: arrays nested deeper than %d", c->checkpoint->path, key,
                       (int)MAX_DEPTH);
    unsigned least = types[type].bytes ? types[type].bytes : type == TYPE_STRING ? 8 : 12;
    if (count > (c->bytes - c->at) / least)
        return ht_fail(HT_ERR_CORRUPT, "%s: key %s: array of %" PRIu64 " values, the file holds %zu more bytes",
                       c->checkpoint->path, key, count, c->bytes - c->at);
    int listed = count <= LISTED;
    ht_text ignored = {0};
    ht_text_printf(out, listed ? "[" : "[%" PRIu64 " x %s]", count, types[type].name);
    ht_status status = HT_OK;
    for (uint64_t i = 0; i < count && status == HT_OK; i++) {
        if (listed && i)
            ht_text_append(out, ", ", 2);
        ignored.length = 0;
        status = take_value(c, key, type, depth + 1, listed ? out : &ignored);
    }
    if (listed)
        ht_text_append(out, "]", 1);
    ht_text_free(&ignored);
    return status;
}

static ht_status take_value(cursor *c, const char *key, uint64_t type, int depth, ht_text *out) {
    if (type >= TYPE_COUNT)
        return ht_fail(HT_ERR_CORRUPT, "%s: key %s: unknown value type %" PRIu64, c->checkpoint->path, key, type);
    if (type == TYPE_ARRAY)
        return take_array(c, key, depth, out);
    if (type == TYPE_STRING) {
        const char *text = NULL;
        size_t length = 0;
        HT_TRY(take_string(c, key, &text, &length));
        ht_text_append(out, text, length);
        return HT_OK;
    }
    uint64_t bits = 0;
    HT_TRY(take_integer(c, types[type].bytes, key, &bits));
    print_scalar(out, type, bits);
    return HT_OK;
}

static ht_status note_pair(cursor *c, const char *key, uint64_t type, const ht_text *text) {
    const char *from = text->data ? text->data : "";
    size_t length = strlen(from); /* a NUL inside ends it */
    char *value = ht_arena_string(&c->checkpoint->arena, from, length < text->length ? length : text->length);
    if (!value)
        return HT_ERR_MEMORY;
    if (strcmp(key, "general.architecture") == 0 && type == TYPE_STRING)
        c->checkpoint->architecture = value;
    if (strcmp(key, "general.alignment") == 0) {
        c->alignment = strtoull(value, NULL, 10);
        if (types[type].kind != UNSIGNED || c->alignment == 0 || c->alignment > (1u << 30) ||
            (c->alignment & (c->alignment - 1)))
            return ht_fail(HT_ERR_CORRUPT, "%s: general.alignment is %s, a power of two up to 2^30 is needed",
                           c->checkpoint->path, value);
    }
    return ht_checkpoint_add_metadata(c->checkpoint, key, value);
}

static ht_status read_pair(cursor *c) {
    const char *key = NULL;
    uint64_t type = 0;
    HT_TRY(take_name(c, "key", &key));
    HT_TRY(take_integer(c, 4, key, &type));
    ht_text text = {0};
    ht_status status = take_value(c, key, type, 0, &text);
    if (status == HT_OK)
        status = ht_text_check(&text);
    if (status == HT_OK)
        status = note_pair(c, key, type, &text);
    ht_text_free(&text);
    return status;
}

/* The format table's rows by GGUF type id. */
static ht_status map_types(cursor *c) {
    static const struct {
        unsigned id;
        const char *name;
    } floats[] = {{0, "f32"}, {1, "f16"}, {30, "bf16"}};
    static const struct {
        unsigned id;
        ht_dtype dtype;
    } plain[] = {{24, HT_I8}, {25, HT_I16}, {26, HT_I32}, {27, HT_I64}, {28, HT_F64}};
    ht_format *formats = ht_arena_alloc(&c->checkpoint->arena, MAX_TYPE * sizeof *formats);
    if (!formats)
        return HT_ERR_MEMORY;
    for (size_t i = 0; ht_format_list(i); i++) {
        ht_format format;
        if (strpbrk(ht_format_list(i)->name, "<[") || ht_format_parse(ht_format_list(i)->name, &format) != HT_OK)
            continue;
        if (format.family != HT_FAMILY_GGUF || format.variant >= MAX_TYPE)
            continue;
        formats[format.variant] = format;
        c->formats[format.variant] = &formats[format.variant];
    }
    for (size_t i = 0; i < sizeof floats / sizeof floats[0]; i++) {
        HT_TRY(ht_format_parse(floats[i].name, &formats[floats[i].id]));
        c->formats[floats[i].id] = &formats[floats[i].id];
    }
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        formats[plain[i].id] = ht_plain_format(plain[i].dtype);
        c->formats[plain[i].id] = &formats[plain[i].id];
    }
    return HT_OK;
}

/* Bytes of the tensor from its shape and format. */
static ht_status measure(const cursor *c, ht_stored_tensor *tensor) {
    const ht_format *format = &tensor->format;
    uint64_t row = tensor->rank ? tensor->shape[tensor->rank - 1] : 1;
    uint64_t values = 1, block = 1, unit = ht_dtype_bits(tensor->dtype) / 8;
    if (format->family == HT_FAMILY_GGUF) {
        block = format->block_cols;
        unit = format->block_bytes;
    }
    if (row % block)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: rows of %" PRIu64 " values, its type has blocks of %" PRIu64,
                       c->checkpoint->path, tensor->name, row, block);
    int overflow = 0, empty = 0;
    for (unsigned i = 0; i < tensor->rank; i++) {
        empty |= tensor->shape[i] == 0;
        overflow |= __builtin_mul_overflow(values, (uint64_t)tensor->shape[i], &values);
    }
    overflow |= __builtin_mul_overflow(values / block, unit, &values);
    if (overflow && !empty)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: its shape does not fit in 64 bits", c->checkpoint->path,
                       tensor->name);
    tensor->bytes = empty ? 0 : (size_t)values;
    return HT_OK;
}

static ht_status read_info(cursor *c, const char *file) {
    ht_stored_tensor *tensor = &c->checkpoint->tensors[c->checkpoint->tensor_count];
    uint64_t rank = 0, type = 0, size = 0;
    HT_TRY(take_name(c, "tensor name", &tensor->name));
    HT_TRY(take_integer(c, 4, tensor->name, &rank));
    if (rank > HT_MAX_RANK)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: %" PRIu64 " dimensions, at most %d", c->checkpoint->path,
                       tensor->name, rank, HT_MAX_RANK);
    tensor->rank = (unsigned)rank;
    for (unsigned i = 0; i < tensor->rank; i++) {
        HT_TRY(take_integer(c, 8, tensor->name, &size));
        tensor->shape[tensor->rank - 1 - i] = (size_t)size;
    }
    HT_TRY(take_integer(c, 4, tensor->name, &type));
    HT_TRY(take_integer(c, 8, tensor->name, &tensor->offset));
    if (type >= MAX_TYPE || !c->formats[type])
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: tensor %s: GGUF type %" PRIu64 " is not known", c->checkpoint->path,
                       tensor->name, type);
    tensor->format = *c->formats[type];
    tensor->dtype = tensor->format.family == HT_FAMILY_GGUF ? HT_U8 : tensor->format.element;
    tensor->file = file;
    HT_TRY(measure(c, tensor));
    c->checkpoint->tensor_count++;
    return HT_OK;
}

static int by_offset(const void *a, const void *b) {
    const ht_stored_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return x->bytes < y->bytes ? -1 : x->bytes > y->bytes;
}

/* Offsets become absolute; tensors are aligned, inside the file, and apart. */
static ht_status place(cursor *c) {
    ht_checkpoint *checkpoint = c->checkpoint;
    uint64_t start = (c->at + c->alignment - 1) / c->alignment * c->alignment;
    uint64_t size = start < c->bytes ? c->bytes - start : 0, reached = 0;
    qsort(checkpoint->tensors, checkpoint->tensor_count, sizeof *checkpoint->tensors, by_offset);
    for (size_t i = 0; i < checkpoint->tensor_count; i++) {
        ht_stored_tensor *tensor = &checkpoint->tensors[i];
        if (tensor->offset % c->alignment)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: offset %" PRIu64 " is not a multiple of %" PRIu64,
                           checkpoint->path, tensor->name, tensor->offset, c->alignment);
        if (tensor->offset > size || tensor->bytes > size - tensor->offset)
            return ht_fail(HT_ERR_CORRUPT,
                           "%s: tensor %s: %zu bytes at %" PRIu64 ", the data holds %" PRIu64 " (truncated?)",
                           checkpoint->path, tensor->name, tensor->bytes, tensor->offset, size);
        if (tensor->offset < reached)
            return ht_fail(HT_ERR_CORRUPT,
                           "%s: tensor %s at %" PRIu64 " overlaps the one before it, which ends at %" PRIu64,
                           checkpoint->path, tensor->name, tensor->offset, reached);
        reached = tensor->offset + tensor->bytes;
        tensor->offset += start;
        tensor->data = tensor->bytes ? c->data + tensor->offset : c->data;
    }
    return HT_OK;
}

ht_status ht_gguf_open(ht_checkpoint *checkpoint) {
    cursor c = {.checkpoint = checkpoint,
                .data = checkpoint->maps[0].data,
                .bytes = checkpoint->maps[0].bytes,
                .at = 4,
                .alignment = 32};
    uint64_t version = 0, tensors = 0, pairs = 0;
    HT_TRY(take_integer(&c, 4, "version", &version));
    if (version != 2 && version != 3)
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: GGUF version %" PRIu64 "%s, versions 2 and 3 are read",
                       checkpoint->path, version, version >> 16 ? " (big endian?)" : "");
    HT_TRY(take_integer(&c, 8, "tensor count", &tensors));
    HT_TRY(take_integer(&c, 8, "key count", &pairs));
    if (pairs > c.bytes / 13 || tensors > c.bytes / 24)
        return ht_fail(HT_ERR_CORRUPT, "%s: %" PRIu64 " keys and %" PRIu64 " tensors in a file of %zu bytes",
                       checkpoint->path, pairs, tensors, c.bytes);
    checkpoint->tensors = ht_arena_alloc(&checkpoint->arena, (size_t)tensors * sizeof *checkpoint->tensors);
    if (!checkpoint->tensors)
        return HT_ERR_MEMORY;
    HT_TRY(map_types(&c));
    for (uint64_t i = 0; i < pairs; i++)
        HT_TRY(read_pair(&c));
    const char *slash = strrchr(checkpoint->path, '/');
    for (uint64_t i = 0; i < tensors; i++)
        HT_TRY(read_info(&c, slash ? slash + 1 : checkpoint->path));
    return place(&c);
}
