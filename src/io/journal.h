/* The journal of an unfinished output: which tensors are complete, for a run that goes on after a kill. */
#ifndef HT_IO_JOURNAL_H
#define HT_IO_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#include "base/text.h"

typedef struct ht_journal {
    char *path;
    int fd; /* -1 when closed */
} ht_journal;

/* What a journal on disk says. */
typedef struct ht_journal_state {
    int present;
    int committing; /* every tensor was complete and files were being moved */
    uint64_t layout;
    ht_text fingerprint;
    unsigned char *done; /* per tensor, `count` of them */
    uint64_t valid;      /* bytes up to which the file is well formed */
} ht_journal_state;

/* Read `path`, if it exists. done holds count entries, all zero on entry. A torn tail is ignored; a file that is no
 * journal at all counts as absent. */
ht_status ht_journal_read(const char *path, size_t count, ht_journal_state *out);
void ht_journal_state_free(ht_journal_state *state); /* not done */

/* Create the journal anew, durable; or open an existing one for appending behind its valid part. */
ht_status ht_journal_create(ht_journal *journal, const char *path, uint64_t layout, const char *fingerprint);
ht_status ht_journal_reopen(ht_journal *journal, const char *path, uint64_t valid);

/* Append: tensor `index` is complete (survives the death of the process; of the machine after the next sync) /
 * the data of all tensors noted so far is on disk (call after syncing it) / files are being moved. */
ht_status ht_journal_done(ht_journal *journal, size_t index);
ht_status ht_journal_synced(ht_journal *journal);
ht_status ht_journal_committing(ht_journal *journal);
void ht_journal_close(ht_journal *journal);

/* HT_OK when the texts ("key=value\n...") are equal, else POLICY naming the first key that differs and both values. */
ht_status ht_fingerprint_compare(const char *where, const char *old, const char *new);

#endif
