/* A Hugging Face directory: config.json, and the weights in model.safetensors, or in shards that
 * model.safetensors.index.json maps tensor by tensor, or (no index) in the one *.safetensors file there is.
 *
 * The index is checked against the shards both ways: every listed tensor lies in the shard that the index names, and
 * every shard exists. A tensor that a shard holds beyond the index is taken with a warning. Shard names are plain file
 * names: an index cannot point outside its directory.
 *
 * Source: formats specification, section 8; the layout that transformers writes.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>   /* opendir */
#include <errno.h>    /* errno */
#include <stdlib.h>   /* qsort */
#include <string.h>   /* strcmp, strerror */
#include <sys/stat.h> /* stat */

#include "base/context.h"
#include "base/status.h"
#include "io/checkpoint_file.h"
#include "io/json.h"
#include "io/json_scan.h"

enum { CONFIG_LIMIT = 64 << 20, INDEX_LIMIT = 1 << 30 };

typedef struct shard {
    const char *file;
    ht_safetensors parsed;
} shard;

static char *join(ht_checkpoint *checkpoint, const char *file) {
    return ht_arena_printf(&checkpoint->arena, "%s/%s", checkpoint->path, file);
}

/* Whole text of a small file, or *out = NULL when it does not exist. */
static ht_status read_text(ht_checkpoint *checkpoint, const char *file, size_t limit, const char **out, size_t *bytes) {
    *out = NULL;
    *bytes = 0;
    char *path = join(checkpoint, file);
    if (!path)
        return HT_ERR_MEMORY;
    struct stat info;
    if (stat(path, &info) != 0 && errno == ENOENT)
        return HT_OK;
    ht_file_map map;
    HT_TRY(ht_file_map_open(path, &map));
    ht_status status = HT_OK;
    if (map.bytes > limit)
        status = ht_fail(HT_ERR_CORRUPT, "%s: %zu bytes, limit %zu", path, map.bytes, limit);
    else if (!(*out = ht_arena_string(&checkpoint->arena, map.bytes ? (const char *)map.data : "", map.bytes)))
        status = HT_ERR_MEMORY;
    *bytes = map.bytes;
    ht_file_map_close(&map);
    return status;
}

static ht_status read_config(ht_checkpoint *checkpoint) {
    size_t bytes;
    HT_TRY(read_text(checkpoint, "config.json", CONFIG_LIMIT, &checkpoint->config, &bytes));
    if (!checkpoint->config)
        return HT_OK;
    char *path = join(checkpoint, "config.json");
    if (!path)
        return HT_ERR_MEMORY;
    json_t *root;
    HT_TRY(ht_json_parse(path, "config", checkpoint->config, bytes, &root));
    ht_status status = HT_OK;
    if (!json_is_object(root))
        status = ht_fail(HT_ERR_CORRUPT, "%s: not a JSON object", path);
    const char *name = json_string_value(json_array_get(json_object_get(root, "architectures"), 0));
    if (status == HT_OK && name &&
        !(checkpoint->architecture = ht_arena_string(&checkpoint->arena, name, strlen(name))))
        status = HT_ERR_MEMORY;
    json_decref(root);
    return status;
}

static int by_file(const void *a, const void *b) {
    return strcmp(((const shard *)a)->file, ((const shard *)b)->file);
}

/* Map and parse every shard, then collect the tensors. */
static ht_status read_shards(ht_checkpoint *checkpoint, shard *shards, size_t count) {
    checkpoint->maps = ht_arena_alloc(&checkpoint->arena, count * sizeof *checkpoint->maps);
    if (!checkpoint->maps)
        return HT_ERR_MEMORY;
    size_t tensors = 0;
    for (size_t i = 0; i < count; i++) {
        char *path = join(checkpoint, shards[i].file);
        if (!path)
            return HT_ERR_MEMORY;
        HT_TRY(ht_file_map_open(path, &checkpoint->maps[i]));
        checkpoint->map_count = i + 1;
        HT_TRY(ht_safetensors_parse(&checkpoint->arena, path, checkpoint->maps[i].data, checkpoint->maps[i].bytes,
                                    &shards[i].parsed));
        tensors += shards[i].parsed.count;
    }
    checkpoint->tensors = ht_arena_alloc(&checkpoint->arena, tensors * sizeof *checkpoint->tensors);
    if (!checkpoint->tensors)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        HT_TRY(ht_checkpoint_add_file(checkpoint, shards[i].file, &checkpoint->maps[i], &shards[i].parsed));
    return HT_OK;
}

/* The weight map of an index, as it is read. */
typedef struct index_entry {
    const char *tensor, *file;
} index_entry;

typedef struct weight_map {
    index_entry *entries;
    size_t count, capacity;
    int present;
} weight_map;

static ht_status take_entry(ht_scan *scan, const char *tensor, void *user) {
    weight_map *map = user;
    const char *file = NULL;
    if (ht_scan_peek(scan) != '"')
        return ht_fail(HT_ERR_CORRUPT, "%s: weight_map entry %s is not a string", scan->label, tensor);
    HT_TRY(ht_scan_string(scan, &file));
    if (!*file || strchr(file, '/') || strcmp(file, ".") == 0 || strcmp(file, "..") == 0)
        return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s: \"%s\" is not a file name", scan->label, tensor, file);
    if (map->count == map->capacity) {
        size_t more = map->capacity * 2 + 64;
        index_entry *grown = ht_arena_alloc(scan->arena, more * sizeof *grown);
        if (!grown)
            return HT_ERR_MEMORY;
        if (map->count)
            memcpy(grown, map->entries, map->count * sizeof *grown);
        map->entries = grown;
        map->capacity = more;
    }
    map->entries[map->count++] = (index_entry){.tensor = tensor, .file = file};
    return HT_OK;
}

static ht_status take_index_key(ht_scan *scan, const char *key, void *user) {
    weight_map *map = user;
    if (strcmp(key, "weight_map") != 0)
        return ht_scan_skip(scan);
    if (ht_scan_peek(scan) != '{' || map->present++)
        return ht_fail(HT_ERR_CORRUPT, "%s: weight_map is not an object, or given twice", scan->label);
    return ht_scan_object(scan, take_entry, map);
}

/* The distinct shard names of an index. */
static ht_status list_shards(ht_checkpoint *checkpoint, const weight_map *map, shard **out, size_t *count) {
    shard *all = ht_arena_alloc(&checkpoint->arena, map->count * sizeof *all);
    if (!all)
        return HT_ERR_MEMORY;
    size_t n = 0, distinct = 0;
    for (size_t i = 0; i < map->count; i++)
        if (!n || strcmp(all[n - 1].file, map->entries[i].file) != 0) /* neighbours mostly share a shard */
            all[n++].file = map->entries[i].file;
    if (n)
        qsort(all, n, sizeof *all, by_file);
    for (size_t i = 0; i < n; i++)
        if (!distinct || strcmp(all[distinct - 1].file, all[i].file) != 0)
            all[distinct++] = all[i];
    *out = all;
    *count = distinct;
    return HT_OK;
}

static int by_tensor(const void *a, const void *b) {
    return strcmp(((const index_entry *)a)->tensor, ((const index_entry *)b)->tensor);
}

/* Index and shards agree: both lists sorted, walked side by side. */
static ht_status check_index(ht_checkpoint *checkpoint, const char *index, weight_map *map) {
    if (map->count)
        qsort(map->entries, map->count, sizeof *map->entries, by_tensor);
    size_t t = 0;
    for (size_t i = 0; i < map->count; i++) {
        const index_entry *entry = &map->entries[i];
        if (i && strcmp(entry->tensor, map->entries[i - 1].tensor) == 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is listed twice", index, entry->tensor);
        for (; t < checkpoint->tensor_count && strcmp(checkpoint->tensors[t].name, entry->tensor) < 0; t++)
            ht_log(checkpoint->ctx, HT_LOG_WARN, "%s: tensor %s in %s is not listed; taken all the same", index,
                   checkpoint->tensors[t].name, checkpoint->tensors[t].file);
        if (t == checkpoint->tensor_count || strcmp(checkpoint->tensors[t].name, entry->tensor) != 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is not in %s, nor in any other shard", index, entry->tensor,
                           entry->file);
        if (strcmp(checkpoint->tensors[t].file, entry->file) != 0)
            return ht_fail(HT_ERR_CORRUPT, "%s: tensor %s is listed in %s but lies in %s", index, entry->tensor,
                           entry->file, checkpoint->tensors[t].file);
        t++;
    }
    return HT_OK;
}

static ht_status read_indexed(ht_checkpoint *checkpoint, const char *index, const char *text, size_t bytes) {
    weight_map map = {0};
    ht_scan scan = {
        .label = index, .what = "index", .text = text, .at = text, .end = text + bytes, .arena = &checkpoint->arena};
    HT_TRY(ht_scan_object(&scan, take_index_key, &map));
    HT_TRY(ht_scan_end(&scan));
    if (!map.present)
        return ht_fail(HT_ERR_CORRUPT, "%s: weight_map is missing", index);
    shard *shards = NULL;
    size_t count = 0;
    HT_TRY(list_shards(checkpoint, &map, &shards, &count));
    HT_TRY(read_shards(checkpoint, shards, count));
    HT_TRY(ht_checkpoint_sort(checkpoint));
    return check_index(checkpoint, index, &map);
}

/* The one *.safetensors file of a directory without an index. */
static ht_status find_single(ht_checkpoint *checkpoint, const char **out) {
    DIR *directory = opendir(checkpoint->path);
    if (!directory)
        return ht_fail(HT_ERR_IO, "%s: cannot list: %s", checkpoint->path, strerror(errno));
    ht_status status = HT_OK;
    size_t count = 0;
    int unfinished = 0;
    *out = NULL;
    for (struct dirent *entry; status == HT_OK && (entry = readdir(directory));) {
        size_t length = strlen(entry->d_name);
        unfinished |= strcmp(entry->d_name, ".halftone") == 0;
        if (length < 12 || strcmp(entry->d_name + length - 12, ".safetensors") != 0)
            continue;
        if (count++ == 0 && !(*out = ht_arena_string(&checkpoint->arena, entry->d_name, length)))
            status = HT_ERR_MEMORY;
    }
    closedir(directory);
    if (status != HT_OK)
        return status;
    if (count == 0)
        return ht_fail(HT_ERR_IO,
                       unfinished ? "%s: unfinished output (.halftone is there): resume it"
                                  : "%s: no *.safetensors file in this directory",
                       checkpoint->path);
    if (count > 1)
        return ht_fail(HT_ERR_CORRUPT, "%s: %zu *.safetensors files and no model.safetensors.index.json",
                       checkpoint->path, count);
    return HT_OK;
}

ht_status ht_huggingface_open(ht_checkpoint *checkpoint) {
    HT_TRY(read_config(checkpoint));
    char *single = join(checkpoint, "model.safetensors");
    char *index = join(checkpoint, "model.safetensors.index.json");
    if (!single || !index)
        return HT_ERR_MEMORY;
    struct stat info;
    shard one = {.file = "model.safetensors"};
    if (stat(single, &info) == 0)
        return read_shards(checkpoint, &one, 1);
    const char *text;
    size_t bytes;
    HT_TRY(read_text(checkpoint, "model.safetensors.index.json", INDEX_LIMIT, &text, &bytes));
    if (!text) {
        HT_TRY(find_single(checkpoint, &one.file));
        return read_shards(checkpoint, &one, 1);
    }
    return read_indexed(checkpoint, index, text, bytes);
}
