/* The end of an output: sync, note it in the journal, move.
 *
 * Order of moves: shards, index, small files, config.json. Programs look for config.json first, so until the last move
 * there is no checkpoint, and after it there is a complete one. A run killed in between is taken up by the next: the
 * journal says "commit", and each file is either still staged or already in place.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>   /* opendir */
#include <errno.h>    /* errno */
#include <stdio.h>    /* rename */
#include <stdlib.h>   /* free */
#include <string.h>   /* strcmp */
#include <sys/stat.h> /* stat */
#include <unistd.h>   /* fsync, unlink, rmdir */

#include "base/context.h"
#include "base/status.h"
#include "io/file_io.h"
#include "io/writer.h"

static const char INDEX[] = "model.safetensors.index.json";

static int has_tail(const char *name, const char *tail) {
    size_t a = strlen(name), b = strlen(tail);
    return a >= b && strcmp(name + a - b, tail) == 0;
}

void ht_writer_clear_files(ht_checkpoint_writer *writer) {
    unlink(writer->journal_path);
    DIR *directory = opendir(writer->files);
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        char *path = ht_writer_path(writer, writer->files, entry->d_name);
        if (path && strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            unlink(path);
    }
    if (directory)
        closedir(directory);
}

void ht_writer_clear_staging(ht_checkpoint_writer *writer) {
    ht_writer_clear_files(writer);
    char *fresh = ht_arena_printf(&writer->arena, "%s.new", writer->journal_path);
    if (fresh)
        unlink(fresh);
    rmdir(writer->files);
    rmdir(writer->staging);
    if (writer->made_directory)
        rmdir(writer->directory); /* only when empty */
}

static ht_status check_complete(const ht_checkpoint_writer *writer) {
    for (size_t i = 0; i < writer->layout.count; i++)
        if (!writer->done[i])
            return ht_fail(HT_ERR_ARGUMENT, "%s: cannot commit: tensor %s is not complete", writer->directory,
                           writer->layout.tensors[i].name);
    return HT_OK;
}

static ht_status sync_shards(ht_checkpoint_writer *writer) {
    for (size_t i = 0; i < writer->layout.shard_count; i++)
        if (writer->shards[i] >= 0 && fsync(writer->shards[i]) != 0)
            return ht_output_failed(writer->layout.shards[i].file, "sync", errno);
    return HT_OK;
}

ht_status ht_writer_index(ht_checkpoint_writer *writer) {
    if (writer->layout.shard_count == 1)
        return HT_OK;
    ht_text text = {0};
    ht_status status = ht_shard_index(&writer->layout, &text);
    if (status == HT_OK)
        status = ht_checkpoint_writer_file(writer, INDEX, text.data, text.length);
    ht_text_free(&text);
    return status;
}

static int is_ours(const ht_checkpoint_writer *writer, const char *name) {
    for (size_t i = 0; i < writer->layout.shard_count; i++)
        if (strcmp(name, writer->layout.shards[i].file) == 0)
            return 1;
    return ht_writer_has_file(writer, name);
}

/* What an earlier checkpoint in this place would mix with ours: config.json first, then weights and index. */
static ht_status remove_old(ht_checkpoint_writer *writer) {
    char *config = ht_writer_path(writer, writer->directory, "config.json");
    if (!config)
        return HT_ERR_MEMORY;
    if (unlink(config) != 0 && errno != ENOENT)
        return ht_output_failed(config, "replace", errno);
    HT_TRY(ht_sync_directory(writer->directory));
    DIR *directory = opendir(writer->directory);
    if (!directory)
        return ht_output_failed(writer->directory, "list", errno);
    ht_status status = HT_OK;
    for (struct dirent *entry; status == HT_OK && (entry = readdir(directory));) {
        int weights = has_tail(entry->d_name, ".safetensors") || strcmp(entry->d_name, INDEX) == 0;
        if (!weights || is_ours(writer, entry->d_name))
            continue;
        char *path = ht_writer_path(writer, writer->directory, entry->d_name);
        if (!path)
            status = HT_ERR_MEMORY;
        else if (unlink(path) != 0)
            status = ht_output_failed(path, "replace", errno);
    }
    closedir(directory);
    return status;
}

static ht_status move(ht_checkpoint_writer *writer, const char *name) {
    char *from = ht_writer_path(writer, writer->files, name);
    char *to = ht_writer_path(writer, writer->directory, name);
    if (!from || !to)
        return HT_ERR_MEMORY;
    struct stat info;
    if (rename(from, to) == 0 || (errno == ENOENT && writer->committing && stat(to, &info) == 0))
        return HT_OK;
    return ht_output_failed(to, "move into place", errno);
}

static ht_status move_all(ht_checkpoint_writer *writer) {
    for (size_t i = 0; i < writer->layout.shard_count; i++)
        HT_TRY(move(writer, writer->layout.shards[i].file));
    for (const ht_small_file *file = writer->small; file; file = file->next)
        if (strcmp(file->name, "config.json") != 0)
            HT_TRY(move(writer, file->name));
    HT_TRY(ht_sync_directory(writer->directory));
    if (ht_writer_has_file(writer, "config.json"))
        HT_TRY(move(writer, "config.json"));
    return ht_sync_directory(writer->directory);
}

ht_status ht_checkpoint_writer_commit(ht_checkpoint_writer *writer) {
    HT_TRY(check_complete(writer));
    HT_TRY(sync_shards(writer));
    HT_TRY(ht_writer_index(writer));
    HT_TRY(ht_sync_directory(writer->files));
    HT_TRY(ht_journal_committing(&writer->journal));
    if (writer->options.overwrite || writer->committing)
        HT_TRY(remove_old(writer));
    HT_TRY(move_all(writer));
    writer->made_directory = 0;
    ht_writer_clear_staging(writer);
    return HT_OK;
}
