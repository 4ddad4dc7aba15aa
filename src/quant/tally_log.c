/* The errors of finished tensors, kept beside the staged shards so that a run which goes on can report all of them.
 *
 * One line a tensor, "<number> <error as hexadecimal float>", appended before the tensor is noted as done. The file
 * lives among the staged files and goes with them; a torn last line is skipped, and an error that got lost (the machine
 * died) is reported as unknown (NaN), never guessed.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>  /* errno */
#include <fcntl.h>  /* open */
#include <stdio.h>  /* fopen, fgets, snprintf */
#include <stdlib.h> /* strtoull, strtod */
#include <string.h> /* strchr */
#include <unistd.h> /* write, close */

#include "base/status.h"
#include "io/file_io.h"
#include "io/writer.h"
#include "quant/driver.h"

static void read_line(ht_run *run, const char *line) {
    char *end;
    unsigned long long job = strtoull(line, &end, 10);
    if (end == line || *end != ' ' || !strchr(end, '\n') || job >= run->plan->count || !run->plan->job[job].layout)
        return;
    run->plan->tensor[job].error = strtod(end, NULL);
}

ht_status ht_tally_log_open(ht_run *run) {
    const char *path = ht_writer_path(run->writer, run->writer->files, ".errors");
    if (!path)
        return HT_ERR_MEMORY;
    FILE *old = fopen(path, "r");
    char line[128];
    while (old && fgets(line, sizeof line, old))
        read_line(run, line);
    if (old)
        fclose(old);
    run->errors = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (run->errors < 0 || write(run->errors, "\n", 1) != 1) /* ends a torn line */
        return ht_output_failed(path, "create", errno);
    return HT_OK;
}

ht_status ht_tally_log_add(ht_run *run, size_t job) {
    char line[128];
    int length = snprintf(line, sizeof line, "%zu %a\n", job, run->plan->tensor[job].error);
    ssize_t written = write(run->errors, line, (size_t)length);
    return written == length ? HT_OK
                             : ht_output_failed(run->writer->files, "write the errors", written < 0 ? errno : ENOSPC);
}

void ht_tally_log_close(ht_run *run) {
    if (run->errors >= 0)
        close(run->errors);
    run->errors = -1;
}
