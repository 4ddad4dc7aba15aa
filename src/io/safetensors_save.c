/* One safetensors file from tensors in memory: written under a temporary name, synced, renamed.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>  /* errno */
#include <fcntl.h>  /* open */
#include <stdio.h>  /* rename */
#include <string.h> /* memcpy */
#include <unistd.h> /* fsync, close, unlink */

#include <halftone/checkpoint.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/file_io.h"
#include "io/shard_layout.h"

static ht_status write_contents(int fd, const char *path, const ht_shard_layout *layout, const ht_tensor *tensors,
                                const char *const *metadata) {
    HT_TRY(ht_reserve_file(fd, path, layout->shards[0].bytes));
    ht_text header = {0};
    ht_status status = ht_shard_header(layout, &layout->shards[0], metadata, &header);
    if (status == HT_OK)
        status = ht_pwrite_all(fd, path, header.data, header.length, 0);
    ht_text_free(&header);
    for (size_t i = 0; i < layout->count && status == HT_OK; i++)
        status = ht_pwrite_all(fd, path, tensors[i].data, (size_t)layout->placed[i].bytes, layout->placed[i].offset);
    if (status == HT_OK && fsync(fd) != 0)
        status = ht_output_failed(path, "sync", errno);
    return status;
}

static ht_status save(ht_arena *arena, const char *path, const char *const *names, const ht_tensor *tensors,
                      size_t count, const char *const *metadata) {
    ht_output_tensor *outputs = ht_arena_alloc(arena, count * sizeof *outputs);
    char *temporary = ht_arena_printf(arena, "%s.unfinished", path);
    if (!outputs || !temporary)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        outputs[i] = (ht_output_tensor){.name = names[i], .dtype = tensors[i].dtype, .rank = tensors[i].rank};
        memcpy(outputs[i].shape, tensors[i].shape, sizeof outputs[i].shape);
    }
    ht_shard_layout layout;
    HT_TRY(ht_shard_layout_make(arena, outputs, count, UINT64_MAX, metadata, &layout));
    int fd = open(temporary, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return ht_output_failed(path, "create", errno);
    ht_status status = write_contents(fd, temporary, &layout, tensors, metadata);
    if (close(fd) != 0 && status == HT_OK)
        status = ht_output_failed(path, "close", errno);
    if (status == HT_OK && rename(temporary, path) != 0)
        status = ht_output_failed(path, "move into place", errno);
    if (status != HT_OK)
        unlink(temporary);
    return status;
}

ht_status ht_safetensors_save(ht_context *ctx, const char *path, const char *const *names, const ht_tensor *tensors,
                              size_t count, const char *const *metadata) {
    ht_arena arena;
    ht_arena_init(&arena, ctx);
    ht_status status = save(&arena, path, names, tensors, count, metadata);
    ht_arena_release(&arena);
    return status;
}
