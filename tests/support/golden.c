/* SPDX-License-Identifier: BSD-3-Clause */
#include "support/golden.h"

#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/check.h"

/* Fill one tensor from its header entry; 0 when the entry makes no sense. */
static int read_entry(golden_tensor *t, const char *name, json_t *entry, const uint8_t *data, size_t bytes) {
    json_t *shape = json_object_get(entry, "shape"), *offsets = json_object_get(entry, "data_offsets");
    const char *dtype = json_string_value(json_object_get(entry, "dtype"));
    if (!dtype || json_array_size(shape) > HT_MAX_RANK || json_array_size(offsets) != 2)
        return 0;
    snprintf(t->name, sizeof t->name, "%s", name);
    t->dtype = ht_dtype_find(dtype);
    t->rank = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < t->rank; i++)
        t->shape[i] = (size_t)json_integer_value(json_array_get(shape, i));
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
    size_t end = (size_t)json_integer_value(json_array_get(offsets, 1));
    ht_tensor view = ht_tensor_view(NULL, t->dtype, t->rank, t->shape);
    t->elements = ht_tensor_elements(&view);
    t->bytes = ht_tensor_bytes(&view);
    t->data = data + begin;
    return t->dtype != HT_DTYPE_NONE && begin <= end && end <= bytes && t->bytes == end - begin;
}

golden golden_open_path(const char *path) {
    golden g = {0};
    if (!CHECK_OK(ht_file_map_open(path, &g.map)))
        return g;
    uint64_t header = 0;
    if (g.map.bytes >= 8)
        memcpy(&header, g.map.data, 8);
    json_t *root =
        header && header <= g.map.bytes - 8 ? json_loadb((const char *)g.map.data + 8, (size_t)header, 0, NULL) : NULL;
    if (!CHECK(root != NULL))
        return g;
    g.tensors = calloc(json_object_size(root) + 1, sizeof *g.tensors);
    const char *name;
    json_t *entry;
    json_object_foreach(root, name, entry) {
        if (strcmp(name, "__metadata__") == 0)
            continue;
        if (CHECK(read_entry(&g.tensors[g.count], name, entry, g.map.data + 8 + header, g.map.bytes - 8 - header)))
            g.count++;
        else
            printf("  entry %s of %s\n", name, path);
    }
    json_decref(root);
    return g;
}

golden golden_open(const char *relative) {
    return golden_open_path(check_data(relative));
}

const golden_tensor *golden_maybe(const golden *g, const char *name) {
    for (size_t i = 0; i < g->count; i++)
        if (strcmp(g->tensors[i].name, name) == 0)
            return &g->tensors[i];
    return NULL;
}

const golden_tensor *golden_find(const golden *g, const char *name) {
    const golden_tensor *t = golden_maybe(g, name);
    if (!CHECK(t != NULL))
        printf("  no tensor %s\n", name);
    return t;
}

const golden_tensor *golden_findf(const golden *g, const char *format, ...) {
    char name[128];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return golden_find(g, name);
}

static float integer_at(const golden_tensor *t, size_t i) {
    const uint8_t *at = (const uint8_t *)t->data + i * (ht_dtype_bits(t->dtype) / 8);
    int32_t i32;
    int64_t i64;
    switch (t->dtype) {
    case HT_U8:
        return *at;
    case HT_I8:
        return (int8_t)*at;
    case HT_I32:
        memcpy(&i32, at, sizeof i32);
        return (float)i32;
    case HT_I64:
        memcpy(&i64, at, sizeof i64);
        return (float)i64;
    default:
        CHECK(!"a tensor type that golden_f32 reads");
        return 0;
    }
}

float *golden_f32(const golden_tensor *t) {
    float *out = calloc(t->elements + 1, sizeof *out);
    if (t->dtype <= HT_BF16)
        CHECK_OK(ht_convert(t->data, t->dtype, out, HT_F32, t->elements));
    else
        for (size_t i = 0; i < t->elements; i++)
            out[i] = integer_at(t, i);
    return out;
}

size_t golden_cols(const golden_tensor *t) {
    return t->rank ? t->shape[t->rank - 1] : 1;
}

size_t golden_rows(const golden_tensor *t) {
    return golden_cols(t) ? t->elements / golden_cols(t) : 0;
}

void golden_close(golden *g) {
    free(g->tensors);
    ht_file_map_close(&g->map);
    *g = (golden){0};
}
