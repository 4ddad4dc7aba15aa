/* Writing a checkpoint: every tensor has its place before the first byte is written, so slices may come from any thread
 * in any order, nothing is buffered, and a killed run goes on where it stood.
 *
 * What is promised: after the death of the process every tensor noted as done is kept. After the death of the machine
 * those noted before the last sync mark are, one mark for each 4 GiB written; the others are redone. After commit
 * everything is on disk. The bytes are the same in all cases. See journal.c and staging.c.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/writer.h"

#include <errno.h>    /* errno */
#include <fcntl.h>    /* sync_file_range */
#include <inttypes.h> /* PRIu64 */
#include <string.h>   /* strcmp */
#include <unistd.h>   /* fdatasync, close */

#include "base/context.h"
#include "base/status.h"
#include "io/file_io.h"

static const uint64_t SYNC_BYTES = (uint64_t)4 << 30; /* data between two sync marks */

char *ht_writer_path(ht_checkpoint_writer *writer, const char *folder, const char *file) {
    return ht_arena_printf(&writer->arena, "%s/%s", folder, file);
}

static ht_status prepare(ht_checkpoint_writer *writer, const char *directory, const ht_output_tensor *tensors,
                         size_t count, const ht_writer_options *options) {
    ht_arena *arena = &writer->arena;
    size_t length = strlen(directory);
    while (length > 1 && directory[length - 1] == '/')
        length--;
    writer->directory = ht_arena_string(arena, directory, length);
    writer->staging = ht_arena_printf(arena, "%.*s/.halftone", (int)length, directory);
    writer->files = ht_arena_printf(arena, "%.*s/.halftone/files", (int)length, directory);
    writer->journal_path = ht_arena_printf(arena, "%.*s/.halftone/journal", (int)length, directory);
    writer->done = ht_arena_alloc(arena, count + 1);
    if (!writer->directory || !writer->staging || !writer->files || !writer->journal_path || !writer->done)
        return HT_ERR_MEMORY;
    HT_TRY(ht_shard_layout_make(arena, tensors, count, options->shard_bytes, options->metadata, &writer->layout));
    writer->shards = ht_arena_alloc(arena, writer->layout.shard_count * sizeof *writer->shards);
    writer->dirty = ht_arena_alloc(arena, writer->layout.shard_count);
    if (!writer->shards || !writer->dirty)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < writer->layout.shard_count; i++)
        writer->shards[i] = -1;
    return HT_OK;
}

ht_status ht_checkpoint_writer_create(ht_context *ctx, const char *directory, const ht_output_tensor *tensors,
                                      size_t count, const ht_writer_options *options, ht_checkpoint_writer **out) {
    static const ht_writer_options defaults = {0};
    *out = NULL;
    if (!directory || !*directory)
        return ht_fail(HT_ERR_ARGUMENT, "checkpoint writer: no output directory given");
    ht_checkpoint_writer *writer;
    HT_TRY(ht_allocate(ctx, 1, sizeof *writer, "checkpoint writer", &writer));
    writer->ctx = ctx;
    writer->lock = -1;
    writer->journal.fd = -1;
    ht_arena_init(&writer->arena, ctx);
    pthread_mutex_init(&writer->mutex, NULL);
    options = options ? options : &defaults;
    writer->options = (ht_writer_options){
        .shard_bytes = options->shard_bytes, .resume = options->resume, .overwrite = options->overwrite};
    ht_status status = prepare(writer, directory, tensors, count, options);
    if (status == HT_OK)
        status = ht_writer_begin(writer, options->metadata, options->fingerprint);
    if (status != HT_OK) {
        ht_checkpoint_writer_destroy(writer);
        return status;
    }
    *out = writer;
    return HT_OK;
}

static ht_status check_index(const ht_checkpoint_writer *writer, size_t index) {
    return index < writer->layout.count ? HT_OK
                                        : ht_fail(HT_ERR_ARGUMENT, "%s: tensor number %zu of %zu", writer->directory,
                                                  index, writer->layout.count);
}

ht_status ht_checkpoint_writer_write(ht_checkpoint_writer *writer, size_t index, uint64_t offset, const void *data,
                                     size_t bytes) {
    HT_TRY(check_index(writer, index));
    const ht_placed *placed = &writer->layout.placed[index];
    if (offset > placed->bytes || bytes > placed->bytes - offset)
        return ht_fail(HT_ERR_ARGUMENT, "%s: tensor %s: bytes %" PRIu64 " to %" PRIu64 " written, it has %" PRIu64,
                       writer->directory, writer->layout.tensors[index].name, offset, offset + bytes, placed->bytes);
    if (writer->committing)
        return HT_OK; /* complete before the run was interrupted */
    const char *file = writer->layout.shards[placed->shard].file;
    return ht_pwrite_all(writer->shards[placed->shard], file, data, bytes, placed->offset + offset);
}

/* Put on disk what was noted so far, and say so. */
static ht_status sync_mark(ht_checkpoint_writer *writer) {
    for (size_t i = 0; i < writer->layout.shard_count; i++) {
        if (writer->dirty[i] && fdatasync(writer->shards[i]) != 0)
            return ht_output_failed(writer->layout.shards[i].file, "sync", errno);
        writer->dirty[i] = 0;
    }
    writer->unsynced = 0;
    return ht_journal_synced(&writer->journal);
}

static ht_status note_done(ht_checkpoint_writer *writer, size_t index) {
    const ht_placed *placed = &writer->layout.placed[index];
    HT_TRY(ht_journal_done(&writer->journal, index));
    writer->done[index] = 1;
    writer->dirty[placed->shard] = 1;
    writer->unsynced += placed->bytes;
    return writer->unsynced >= SYNC_BYTES ? sync_mark(writer) : HT_OK;
}

ht_status ht_checkpoint_writer_done(ht_checkpoint_writer *writer, size_t index) {
    HT_TRY(check_index(writer, index));
    const ht_placed *placed = &writer->layout.placed[index];
    if (ht_checkpoint_writer_is_done(writer, index))
        return HT_OK;
    /* Start the disk on it, so that the next sync mark finds little to do. Advice: failure changes nothing. */
    (void)sync_file_range(writer->shards[placed->shard], (off_t)placed->offset, (off_t)placed->bytes,
                          SYNC_FILE_RANGE_WRITE);
    pthread_mutex_lock(&writer->mutex);
    ht_status status = note_done(writer, index);
    pthread_mutex_unlock(&writer->mutex);
    return status;
}

int ht_checkpoint_writer_is_done(const ht_checkpoint_writer *writer, size_t index) {
    pthread_mutex_t *mutex = (pthread_mutex_t *)(uintptr_t)&writer->mutex;
    pthread_mutex_lock(mutex);
    int done = index < writer->layout.count && writer->done[index];
    pthread_mutex_unlock(mutex);
    return done;
}

int ht_writer_has_file(const ht_checkpoint_writer *writer, const char *name) {
    for (const ht_small_file *file = writer->small; file; file = file->next)
        if (strcmp(file->name, name) == 0)
            return 1;
    return 0;
}

ht_status ht_writer_check_name(const ht_checkpoint_writer *writer, const char *name) {
    if (!name || !*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ||
        strcmp(name, ".halftone") == 0)
        return ht_fail(HT_ERR_ARGUMENT, "%s: \"%s\" is not a usable file name", writer->directory, name ? name : "");
    for (size_t i = 0; i < writer->layout.shard_count; i++)
        if (strcmp(name, writer->layout.shards[i].file) == 0)
            return ht_fail(HT_ERR_ARGUMENT, "%s: \"%s\" is the name of a shard", writer->directory, name);
    return HT_OK;
}

ht_status ht_writer_note_file(ht_checkpoint_writer *writer, const char *name) {
    if (ht_writer_has_file(writer, name))
        return HT_OK;
    ht_small_file *file = ht_arena_alloc(&writer->arena, sizeof *file);
    if (!file || !(file->name = ht_arena_string(&writer->arena, name, strlen(name))))
        return HT_ERR_MEMORY;
    file->next = writer->small;
    writer->small = file;
    return HT_OK;
}

ht_status ht_checkpoint_writer_file(ht_checkpoint_writer *writer, const char *name, const void *data, size_t bytes) {
    HT_TRY(ht_writer_check_name(writer, name));
    char *path = ht_writer_path(writer, writer->files, name);
    if (!path)
        return HT_ERR_MEMORY;
    HT_TRY(ht_write_file(path, data, bytes));
    return ht_writer_note_file(writer, name);
}

void ht_checkpoint_writer_destroy(ht_checkpoint_writer *writer) {
    if (!writer)
        return;
    ht_journal_close(&writer->journal);
    for (size_t i = 0; writer->shards && i < writer->layout.shard_count; i++)
        if (writer->shards[i] >= 0)
            close(writer->shards[i]);
    if (!writer->begun && writer->files)
        ht_writer_clear_staging(writer);
    if (writer->lock >= 0)
        close(writer->lock);
    pthread_mutex_destroy(&writer->mutex);
    ht_arena_release(&writer->arena);
    ht_release(writer->ctx, writer);
}

void ht_checkpoint_writer_discard(ht_checkpoint_writer *writer) {
    if (writer)
        writer->begun = 0;
    ht_checkpoint_writer_destroy(writer);
}
