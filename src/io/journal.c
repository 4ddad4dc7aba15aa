/* The journal, a text file of short lines:
 *
 *     halftone-journal 1 <boot id>
 *     layout <hash of every shard header>
 *     print <one line of the fingerprint>        (any number)
 *     done <tensor>                              (any number, any order)
 *     synced                                     everything above is on disk
 *     boot <boot id>                             a run goes on from here
 *     commit                                     all tensors complete, files are being moved
 *
 * Two kinds of death. When the process dies, what it wrote lives on in the page cache: every "done" line counts. When
 * the machine dies, a line may have reached the disk before the tensor did: only lines before a "synced" count. The
 * boot id in the file tells the two apart, so no tensor needs a sync of its own.
 *
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/journal.h"

#include <errno.h>    /* errno */
#include <fcntl.h>    /* open */
#include <inttypes.h> /* PRIx64 */
#include <stdio.h>    /* rename, sscanf */
#include <stdlib.h>   /* strtoull */
#include <string.h>   /* memchr, strcmp */
#include <unistd.h>   /* write, fdatasync */

#include "base/file_map.h"
#include "base/status.h"
#include "io/file_io.h"

enum { BOOT_ID_BYTES = 64 };

/* An id that changes with every start of the machine; "unknown" makes every resume trust only synced tensors. */
static void boot_id(char out[BOOT_ID_BYTES]) {
    int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, out, BOOT_ID_BYTES - 1);
    if (fd >= 0)
        close(fd);
    if (n <= 0)
        n = snprintf(out, BOOT_ID_BYTES, "unknown");
    out[n] = '\0';
    out[strcspn(out, " \n")] = '\0';
}

typedef struct reader {
    ht_journal_state *state;
    size_t count;
    size_t *pending; /* done since the last "synced" */
    size_t pending_count;
    char boot[BOOT_ID_BYTES]; /* of the lines being read */
} reader;

static void settle(reader *r, int keep) {
    for (size_t i = 0; i < r->pending_count; i++)
        r->state->done[r->pending[i]] |= (unsigned char)keep;
    r->pending_count = 0;
}

/* One line of `length` bytes. 0 = malformed. */
static int read_line(reader *r, const char *line, size_t length, size_t number) {
    char text[128] = "";
    if (length < sizeof text) {
        memcpy(text, line, length);
        text[length] = '\0';
    }
    char *end;
    if (number == 0)
        return sscanf(text, "halftone-journal 1 %63s", r->boot) == 1;
    if (number == 1) {
        if (strncmp(text, "layout ", 7) != 0)
            return 0;
        r->state->layout = strtoull(text + 7, &end, 16);
        return *end == '\0' && end > text + 7;
    }
    if (length >= 6 && memcmp(line, "print ", 6) == 0) {
        ht_text_append(&r->state->fingerprint, line + 6, length - 6);
        ht_text_append(&r->state->fingerprint, "\n", 1);
        return 1;
    }
    if (strncmp(text, "done ", 5) == 0) {
        unsigned long long index = strtoull(text + 5, &end, 10);
        if (*end || end == text + 5 || index >= r->count || r->pending_count >= r->count)
            return 0;
        r->pending[r->pending_count++] = (size_t)index;
        return 1;
    }
    if (strcmp(text, "synced") == 0 || strcmp(text, "commit") == 0) {
        settle(r, 1);
        r->state->committing |= text[0] == 'c';
        return 1;
    }
    if (strncmp(text, "boot ", 5) == 0 && strlen(text + 5) < BOOT_ID_BYTES) {
        settle(r, strcmp(text + 5, r->boot) == 0 && strcmp(r->boot, "unknown") != 0);
        memcpy(r->boot, text + 5, strlen(text + 5) + 1);
        return 1;
    }
    return 0;
}

ht_status ht_journal_read(const char *path, size_t count, ht_journal_state *out) {
    if (access(path, F_OK) != 0)
        return HT_OK;
    ht_file_map map;
    HT_TRY(ht_file_map_open(path, &map));
    reader r = {.state = out, .count = count, .pending = malloc((count + 1) * sizeof *r.pending)};
    if (!r.pending) {
        ht_file_map_close(&map);
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left for %zu entries", path, count);
    }
    size_t at = 0, number = 0;
    for (const uint8_t *end; at < map.bytes && (end = memchr(map.data + at, '\n', map.bytes - at)); number++) {
        size_t length = (size_t)(end - (map.data + at));
        if (!read_line(&r, (const char *)map.data + at, length, number))
            break;
        at += length + 1;
    }
    char now[BOOT_ID_BYTES];
    boot_id(now);
    settle(&r, strcmp(now, r.boot) == 0 && strcmp(now, "unknown") != 0);
    out->present = number >= 2;
    out->valid = at;
    free(r.pending);
    ht_file_map_close(&map);
    return ht_text_check(&out->fingerprint);
}

void ht_journal_state_free(ht_journal_state *state) {
    ht_text_free(&state->fingerprint);
}

static ht_status append(ht_journal *journal, const char *line, size_t bytes) {
    while (bytes) {
        ssize_t n = write(journal->fd, line, bytes);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return ht_output_failed(journal->path, "write", n ? errno : ENOSPC);
        line += n;
        bytes -= (size_t)n;
    }
    return HT_OK;
}

ht_status ht_journal_create(ht_journal *journal, const char *path, uint64_t layout, const char *fingerprint) {
    char boot[BOOT_ID_BYTES];
    boot_id(boot);
    ht_text text = {0};
    ht_text_printf(&text, "halftone-journal 1 %s\nlayout %" PRIx64 "\n", boot, layout);
    for (const char *line = fingerprint; line && *line;) {
        size_t length = strcspn(line, "\n");
        ht_text_printf(&text, "print %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
    ht_text fresh = {0};
    ht_text_printf(&fresh, "%s.new", path);
    ht_status status = text.failed || fresh.failed ? ht_fail(HT_ERR_MEMORY, "%s: no memory left", path)
                                                   : ht_write_file(fresh.data, text.data, text.length);
    if (status == HT_OK && rename(fresh.data, path) != 0)
        status = ht_output_failed(path, "create", errno);
    if (status == HT_OK)
        status = ht_journal_reopen(journal, path, text.length);
    ht_text_free(&text);
    ht_text_free(&fresh);
    return status;
}

ht_status ht_journal_reopen(ht_journal *journal, const char *path, uint64_t valid) {
    *journal = (ht_journal){.path = strdup(path), .fd = -1};
    if (!journal->path)
        return ht_fail(HT_ERR_MEMORY, "%s: the system has no memory left", path);
    journal->fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (journal->fd < 0)
        return ht_output_failed(path, "open", errno);
    if (ftruncate(journal->fd, (off_t)valid) != 0)
        return ht_output_failed(path, "cut", errno);
    char boot[BOOT_ID_BYTES], line[BOOT_ID_BYTES + 8];
    boot_id(boot);
    int length = snprintf(line, sizeof line, "boot %s\n", boot);
    return append(journal, line, (size_t)length);
}

ht_status ht_journal_done(ht_journal *journal, size_t index) {
    char line[40];
    int length = snprintf(line, sizeof line, "done %zu\n", index);
    return append(journal, line, (size_t)length);
}

static ht_status mark(ht_journal *journal, const char *line) {
    HT_TRY(append(journal, line, strlen(line)));
    return fdatasync(journal->fd) == 0 ? HT_OK : ht_output_failed(journal->path, "sync", errno);
}

ht_status ht_journal_synced(ht_journal *journal) {
    return mark(journal, "synced\n");
}

ht_status ht_journal_committing(ht_journal *journal) {
    return mark(journal, "commit\n");
}

void ht_journal_close(ht_journal *journal) {
    if (journal->fd >= 0)
        close(journal->fd);
    free(journal->path);
    *journal = (ht_journal){.fd = -1};
}

ht_status ht_fingerprint_compare(const char *where, const char *old, const char *new) {
    while (*old || *new) {
        size_t a = strcspn(old, "\n"), b = strcspn(new, "\n");
        if (a != b || memcmp(old, new, a) != 0) {
            const char *line = *new ? new : old;
            size_t key = strcspn(line, "=\n");
            return ht_fail(
                HT_ERR_POLICY,
                "%s: cannot resume: %.*s differs (begun with \"%.*s\", now \"%.*s\"): use the same options, or "
                "start over with --resume never",
                where, (int)key, line, (int)a, old, (int)b, new);
        }
        old += a + (old[a] == '\n');
        new += b + (new[b] == '\n');
    }
    return HT_OK;
}
