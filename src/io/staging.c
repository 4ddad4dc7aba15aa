/* The beginning of an output: may it be written, is there something to go on with, is there room.
 *
 *     out/.halftone/            flock'ed while a run is at work
 *     out/.halftone/journal     appears last: with it, the shards are laid out
 *     out/.halftone/files/      shards under their final names, and small files
 *
 * An interrupted run leaves this folder and nothing else. A folder without a usable journal is worth nothing and is
 * cleared. Refused: an output that exists (unless overwrite), another run at work, a journal of other options.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <dirent.h>   /* opendir */
#include <errno.h>    /* errno */
#include <fcntl.h>    /* open */
#include <string.h>   /* strcmp */
#include <sys/file.h> /* flock */
#include <sys/stat.h> /* mkdir */
#include <unistd.h>   /* close, unlink, rmdir */

#include "base/context.h"
#include "base/status.h"
#include "io/file_io.h"
#include "io/writer.h"

/* Make the output directory; its name needs to be durable too. */
static ht_status make_directory(ht_checkpoint_writer *writer) {
    if (mkdir(writer->directory, 0777) == 0) {
        writer->made_directory = 1;
        return HT_OK;
    }
    struct stat info;
    if (errno == EEXIST && stat(writer->directory, &info) == 0 && S_ISDIR(info.st_mode))
        return HT_OK;
    if (errno == EEXIST)
        return ht_fail(HT_ERR_OUTPUT, "%s: exists and is not a directory", writer->directory);
    return ht_output_failed(writer->directory, "create the directory", errno);
}

static ht_status make_folder(const char *path) {
    if (mkdir(path, 0777) == 0 || errno == EEXIST)
        return HT_OK;
    return ht_output_failed(path, "create the directory", errno);
}

static ht_status take_lock(ht_checkpoint_writer *writer) {
    writer->lock = open(writer->staging, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (writer->lock < 0)
        return ht_output_failed(writer->staging, "open", errno);
    if (flock(writer->lock, LOCK_EX | LOCK_NB) == 0)
        return HT_OK;
    ht_status status = errno == EWOULDBLOCK
                           ? ht_fail(HT_ERR_OUTPUT, "%s: another run is writing here", writer->directory)
                           : ht_output_failed(writer->staging, "lock", errno);
    close(writer->lock);
    writer->lock = -1;
    return status;
}

/* The first entry of the output that is not ours; NULL in *out when there is none. */
static ht_status find_entry(ht_checkpoint_writer *writer, const char **out) {
    *out = NULL;
    DIR *directory = opendir(writer->directory);
    if (!directory)
        return ht_output_failed(writer->directory, "list", errno);
    for (struct dirent *entry; !*out && (entry = readdir(directory));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            strcmp(entry->d_name, ".halftone") != 0)
            *out = ht_arena_string(&writer->arena, entry->d_name, strlen(entry->d_name));
    closedir(directory);
    return HT_OK;
}

/* Every shard is where the journal's state says, with its size. */
static int shards_present(ht_checkpoint_writer *writer, int committing) {
    for (size_t i = 0; i < writer->layout.shard_count; i++) {
        const ht_shard *shard = &writer->layout.shards[i];
        struct stat info;
        char *staged = ht_writer_path(writer, writer->files, shard->file);
        char *moved = ht_writer_path(writer, writer->directory, shard->file);
        if (!staged || !moved)
            return 0;
        int there = stat(staged, &info) == 0 || (committing && stat(moved, &info) == 0);
        if (!there || (uint64_t)info.st_size != shard->bytes)
            return 0;
    }
    return 1;
}

static ht_status open_shards(ht_checkpoint_writer *writer) {
    for (size_t i = 0; i < writer->layout.shard_count; i++) {
        char *path = ht_writer_path(writer, writer->files, writer->layout.shards[i].file);
        if (!path)
            return HT_ERR_MEMORY;
        writer->shards[i] = open(path, O_WRONLY | O_CLOEXEC);
        if (writer->shards[i] < 0 && !(writer->committing && errno == ENOENT))
            return ht_output_failed(path, "open", errno);
    }
    return HT_OK;
}

/* Reserve every shard and write its header; the journal last. */
static ht_status lay_out(ht_checkpoint_writer *writer, const char *const *metadata, const char *fingerprint) {
    uint64_t needed = 0;
    for (size_t i = 0; i < writer->layout.shard_count; i++)
        needed += writer->layout.shards[i].bytes;
    HT_TRY(ht_check_space(writer->staging, needed));
    for (size_t i = 0; i < writer->layout.shard_count; i++) {
        const ht_shard *shard = &writer->layout.shards[i];
        char *path = ht_writer_path(writer, writer->files, shard->file);
        if (!path)
            return HT_ERR_MEMORY;
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
        if (fd < 0)
            return ht_output_failed(path, "create", errno);
        writer->shards[i] = fd;
        HT_TRY(ht_reserve_file(fd, path, shard->bytes));
        ht_text header = {0};
        ht_status status = ht_shard_header(&writer->layout, shard, metadata, &header);
        if (status == HT_OK)
            status = ht_pwrite_all(fd, path, header.data, header.length, 0);
        ht_text_free(&header);
        HT_TRY(status);
        if (fsync(fd) != 0) /* with the header, while little is dirty */
            return ht_output_failed(path, "sync", errno);
    }
    HT_TRY(ht_sync_directory(writer->files));
    HT_TRY(ht_journal_create(&writer->journal, writer->journal_path, writer->layout.hash, fingerprint));
    return ht_sync_directory(writer->staging);
}

/* Decide between going on (*go_on) and starting anew. */
static ht_status judge(ht_checkpoint_writer *writer, const ht_journal_state *state, const char *fingerprint,
                       int *go_on) {
    *go_on = 0;
    if (writer->options.resume == HT_RESUME_NEVER)
        return HT_OK;
    if (state->present) {
        HT_TRY(ht_fingerprint_compare(writer->directory, state->fingerprint.data ? state->fingerprint.data : "",
                                      fingerprint ? fingerprint : ""));
        if (state->layout != writer->layout.hash)
            return ht_fail(HT_ERR_POLICY,
                           "%s: cannot resume: the tensors to write differ from those of the interrupted run: start "
                           "over with --resume never",
                           writer->directory);
        *go_on = shards_present(writer, state->committing);
    }
    if (!*go_on && writer->options.resume == HT_RESUME_REQUIRED)
        return ht_fail(HT_ERR_POLICY, "%s: nothing to resume here", writer->directory);
    return HT_OK;
}

static ht_status begin_with(ht_checkpoint_writer *writer, ht_journal_state *state, const char *const *metadata,
                            const char *fingerprint) {
    int go_on;
    HT_TRY(judge(writer, state, fingerprint, &go_on));
    const char *entry;
    HT_TRY(find_entry(writer, &entry));
    if (entry && !writer->options.overwrite && !(go_on && state->committing))
        return ht_fail(HT_ERR_OUTPUT, "%s: exists already (it holds %s): choose another name, or give --overwrite",
                       writer->directory, entry);
    if (!go_on) {
        writer->begun = 0;
        memset(writer->done, 0, writer->layout.count);
        ht_writer_clear_files(writer);
        HT_TRY(lay_out(writer, metadata, fingerprint));
        writer->begun = 1;
        return HT_OK;
    }
    writer->committing = state->committing;
    if (state->committing)
        memset(writer->done, 1, writer->layout.count);
    HT_TRY(ht_journal_reopen(&writer->journal, writer->journal_path, state->valid));
    return open_shards(writer);
}

ht_status ht_writer_begin(ht_checkpoint_writer *writer, const char *const *metadata, const char *fingerprint) {
    HT_TRY(make_directory(writer));
    struct stat info;
    int fresh = stat(writer->staging, &info) != 0;
    HT_TRY(make_folder(writer->staging));
    writer->begun = !fresh; /* what another run left is not ours to clear before we hold the lock */
    HT_TRY(take_lock(writer));
    HT_TRY(make_folder(writer->files));
    ht_journal_state state = {.done = writer->done};
    ht_status status = ht_journal_read(writer->journal_path, writer->layout.count, &state);
    writer->begun = status != HT_OK || state.present; /* without a journal the folder is worth nothing */
    if (status == HT_OK)
        status = begin_with(writer, &state, metadata, fingerprint);
    ht_journal_state_free(&state);
    return status;
}
