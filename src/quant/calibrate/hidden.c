/* Rows between blocks, in bounded memory.
 *
 *     memory | 0 | 1 | ... | resident - 1 |      file | resident | ... | samples - 1 |      buffer | one of the file's
 * |
 *
 * The file has no name, or loses it as soon as it is open, so that nothing is left behind however the run ends.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/calibrate/hidden.h"

#include <errno.h>  /* errno */
#include <fcntl.h>  /* open */
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* mkostemp */
#include <string.h> /* strerror */
#include <unistd.h> /* pread, unlink */

#include "base/memory.h"
#include "base/status.h"
#include "io/file_io.h"

enum { PATH = 4096 };

static uint64_t sample_bytes(const ht_hidden *hidden) {
    return (uint64_t)hidden->values * sizeof(float);
}

uint64_t ht_hidden_spilled(const ht_hidden *hidden) {
    return (hidden->samples - hidden->resident) * sample_bytes(hidden);
}

static ht_status open_file(ht_hidden *hidden) {
    char path[PATH];
    if (snprintf(path, sizeof path, "%s/hidden-XXXXXX", hidden->folder) >= (int)sizeof path)
        return ht_fail(HT_ERR_OUTPUT, "%s: the path is too long", hidden->folder);
    hidden->file = open(hidden->folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (hidden->file < 0) { /* the file system knows no files without a name */
        hidden->file = mkostemp(path, O_CLOEXEC);
        if (hidden->file < 0)
            return ht_output_failed(path, "create", errno);
        unlink(path);
    }
    return ht_reserve_file(hidden->file, path, ht_hidden_spilled(hidden));
}

ht_status ht_hidden_create(ht_context *ctx, size_t samples, size_t values, size_t resident, const char *folder,
                           ht_hidden **out) {
    *out = NULL;
    ht_hidden *hidden;
    HT_TRY(ht_allocate(ctx, 1, sizeof *hidden, "hidden states", &hidden));
    *hidden = (ht_hidden){.ctx = ctx,
                          .samples = samples,
                          .values = values,
                          .resident = folder && resident < samples ? resident : samples,
                          .file = -1,
                          .folder = folder};
    ht_status status = ht_allocate_raw(ctx, hidden->resident, values * sizeof(float), "hidden states", &hidden->memory);
    if (status == HT_OK && hidden->resident < samples) {
        status = ht_allocate_raw(ctx, values, sizeof(float), "hidden states of a sample", &hidden->buffer);
        if (status == HT_OK)
            status = open_file(hidden);
    }
    if (status != HT_OK) {
        ht_hidden_destroy(hidden);
        return status;
    }
    *out = hidden;
    return HT_OK;
}

void ht_hidden_destroy(ht_hidden *hidden) {
    if (!hidden)
        return;
    if (hidden->file >= 0)
        close(hidden->file);
    ht_release(hidden->ctx, hidden->memory);
    ht_release(hidden->ctx, hidden->buffer);
    ht_release(hidden->ctx, hidden);
}

ht_status ht_hidden_load(ht_hidden *hidden, size_t sample, float **rows) {
    if (sample < hidden->resident) {
        *rows = hidden->memory + sample * hidden->values;
        return HT_OK;
    }
    uint64_t bytes = sample_bytes(hidden), start = (sample - hidden->resident) * bytes;
    for (uint64_t done = 0; done < bytes;) {
        ssize_t got = pread(hidden->file, (char *)hidden->buffer + done, (size_t)(bytes - done), (off_t)(start + done));
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return ht_fail(HT_ERR_IO, "%s: cannot read the hidden states back: %s", hidden->folder,
                           got < 0 ? strerror(errno) : "the file is cut off");
        done += (uint64_t)got;
    }
    *rows = hidden->buffer;
    return HT_OK;
}

ht_status ht_hidden_store(ht_hidden *hidden, size_t sample) {
    if (sample < hidden->resident)
        return HT_OK;
    uint64_t bytes = sample_bytes(hidden);
    return ht_pwrite_all(hidden->file, hidden->folder, hidden->buffer, (size_t)bytes,
                         (sample - hidden->resident) * bytes);
}
