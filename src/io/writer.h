/* Inside of a checkpoint writer. */
#ifndef HT_IO_WRITER_H
#define HT_IO_WRITER_H

#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

#include <halftone/checkpoint.h>

#include "base/memory.h"
#include "io/journal.h"
#include "io/shard_layout.h"

typedef struct ht_small_file {
    const char *name;
    struct ht_small_file *next;
} ht_small_file;

struct ht_checkpoint_writer {
    ht_context *ctx;
    ht_arena arena;
    const char *directory; /* the output */
    const char *staging;   /* directory/.halftone: journal and lock */
    const char *files;     /* directory/.halftone/files: what will be moved */
    const char *journal_path;
    ht_shard_layout layout;
    ht_writer_options options; /* its pointers are not kept */
    int lock;                  /* fd of staging, flock'ed; -1 */
    int *shards;               /* fds; -1 when a shard was moved already */
    unsigned char *done;       /* per tensor */
    ht_journal journal;
    int begun;             /* the journal exists: the folder is worth keeping */
    int made_directory;    /* by this writer */
    int committing;        /* resumed in the middle of a commit */
    ht_small_file *small;  /* files written beside the shards */
    pthread_mutex_t mutex; /* journal, done, unsynced, dirty */
    uint64_t unsynced;     /* bytes of tensors noted since the last sync mark */
    unsigned char *dirty;  /* per shard: written since then */
};

/* A staged or final path, in the arena. */
char *ht_writer_path(ht_checkpoint_writer *writer, const char *folder, const char *file);
/* HT_OK when `name` is usable for a file beside the shards. */
ht_status ht_writer_check_name(const ht_checkpoint_writer *writer, const char *name);
int ht_writer_has_file(const ht_checkpoint_writer *writer, const char *name);
ht_status ht_writer_note_file(ht_checkpoint_writer *writer, const char *name);
/* Remove journal and staged files / these and the staging folder. */
void ht_writer_clear_files(ht_checkpoint_writer *writer);
void ht_writer_clear_staging(ht_checkpoint_writer *writer);

/* Write the index of several shards among the staged files: with it and config.json, what is complete already can be
 * read there as a checkpoint. */
ht_status ht_writer_index(ht_checkpoint_writer *writer);

/* Bytes of the files that ht_checkpoint_writer_sidecars would copy when config.json is written already. */
ht_status ht_sidecars_bytes(const ht_checkpoint *source, uint64_t *out);

/* As ht_checkpoint_writer_destroy, but nothing is left to go on with: for a run that can only fail again. */
void ht_checkpoint_writer_discard(ht_checkpoint_writer *writer);

/* Find out what is there, take the lock, lay out or take up the shards (staging.c). */
ht_status ht_writer_begin(ht_checkpoint_writer *writer, const char *const *metadata, const char *fingerprint);

#endif
