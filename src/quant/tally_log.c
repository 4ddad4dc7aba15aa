/* What is known of finished tensors, kept beside the staged shards so that a run which goes on can report all of it.
 *
 *     <tensor> <error>                                                 as hexadecimal float
 *     matrix <tensor> <entry> <tokens> <losses ...> ... <fallback>     of calibrated tensors
 *     experts <block> <count> <tokens ...>
 *
 * Lines are appended before the tensor is noted as done. The file lives among the staged files and goes with them; a
 * torn last line is skipped, and what got lost (the machine died) is reported as unknown, never guessed.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <errno.h>  /* errno */
#include <fcntl.h>  /* open */
#include <stdio.h>  /* fopen, getline, sscanf */
#include <stdlib.h> /* strtoull, strtod */
#include <string.h> /* strchr */
#include <unistd.h> /* write, close */

#include "base/status.h"
#include "base/text.h"
#include "io/file_io.h"
#include "io/writer.h"
#include "quant/driver.h"

enum { MOST_EXPERTS = 1 << 16 };

ht_status ht_run_note_matrix(ht_run *run, const ht_report_matrix *row) {
    ht_run_report *report = &run->plan->report;
    for (size_t i = report->matrices; i-- > 0;)
        if (report->matrix[i].tensor == row->tensor && report->matrix[i].entry == row->entry) {
            report->matrix[i] = *row;
            return HT_OK;
        }
    return ht_run_report_matrix(report, row);
}

ht_status ht_run_note_experts(ht_run *run, const ht_report_coverage *row) {
    ht_run_report *report = &run->plan->report;
    for (size_t i = 0; i < report->blocks; i++)
        if (report->coverage[i].block == row->block)
            return HT_OK; /* it would say the same */
    return ht_run_report_coverage(report, row);
}

static ht_status read_matrix(ht_run *run, const char *line) {
    size_t tensor, entry, dead, saturated;
    unsigned long long tokens;
    double v[7];
    int end = 0;
    if (sscanf(line, "matrix %zu %zu %llu %la %la %la %la %la %zu %zu %la %la%n", &tensor, &entry, &tokens, &v[0],
               &v[1], &v[2], &v[3], &v[4], &dead, &saturated, &v[5], &v[6], &end) != 12 ||
        tensor >= run->plan->count || !ht_run_is_done(run, tensor) || line[end] != ' ')
        return HT_OK;
    char *text = ht_arena_string(&run->plan->arena, line + end + 1, strcspn(line + end + 1, "\n"));
    if (!text)
        return HT_ERR_MEMORY;
    return ht_run_note_matrix(run, &(ht_report_matrix){.tensor = tensor,
                                                       .entry = entry,
                                                       .tokens = tokens,
                                                       .loss = v[0],
                                                       .rtn_loss = v[1],
                                                       .held_out_loss = v[2],
                                                       .held_out_rtn_loss = v[3],
                                                       .damping = v[4],
                                                       .dead_columns = dead,
                                                       .saturated = saturated,
                                                       .sparsity = v[5],
                                                       .seconds = v[6],
                                                       .fallback = *text ? text : NULL});
}

static ht_status read_experts(ht_run *run, const char *line) {
    size_t block, experts;
    int at = 0, more;
    if (sscanf(line, "experts %zu %zu%n", &block, &experts, &at) != 2 || experts > MOST_EXPERTS)
        return HT_OK;
    uint64_t *tokens = ht_arena_alloc(&run->plan->arena, experts * sizeof *tokens + 1);
    if (!tokens)
        return HT_ERR_MEMORY;
    for (size_t e = 0; e < experts; e++, at += more) {
        unsigned long long count;
        if (sscanf(line + at, " %llu%n", &count, &more) != 1)
            return HT_OK;
        tokens[e] = count;
    }
    return ht_run_note_experts(run, &(ht_report_coverage){block, experts, tokens});
}

static ht_status read_line(ht_run *run, const char *line) {
    char *end;
    if (!strchr(line, '\n'))
        return HT_OK;
    if (*line == 'm')
        return read_matrix(run, line);
    if (*line == 'e')
        return read_experts(run, line);
    unsigned long long job = strtoull(line, &end, 10);
    if (end != line && *end == ' ' && job < run->plan->count && run->plan->job[job].layout)
        run->plan->tensor[job].error = strtod(end, NULL);
    return HT_OK;
}

static ht_status read_lines(ht_run *run, const char *path) {
    FILE *old = fopen(path, "r");
    char *line = NULL;
    size_t room = 0;
    ht_status status = HT_OK;
    while (old && status == HT_OK && getline(&line, &room, old) >= 0)
        status = read_line(run, line);
    free(line);
    if (old)
        fclose(old);
    return status;
}

ht_status ht_tally_log_open(ht_run *run) {
    const char *path = ht_writer_path(run->writer, run->writer->files, ".errors");
    if (!path)
        return HT_ERR_MEMORY;
    HT_TRY(read_lines(run, path));
    run->errors = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (run->errors < 0 || write(run->errors, "\n", 1) != 1) /* ends a torn line */
        return ht_output_failed(path, "create", errno);
    return HT_OK;
}

/* One write: lines of a dying process are whole or torn, never mixed. */
static ht_status append(ht_run *run, ht_text *text) {
    ht_status status = ht_text_check(text);
    ssize_t written = status == HT_OK ? write(run->errors, text->data, text->length) : 0;
    if (status == HT_OK && (written < 0 || (size_t)written != text->length))
        status = ht_output_failed(run->writer->files, "write the errors", written < 0 ? errno : ENOSPC);
    ht_text_free(text);
    return status;
}

ht_status ht_tally_log_add(ht_run *run, size_t job) {
    ht_text text = {0};
    const ht_run_report *report = &run->plan->report;
    for (size_t i = 0; i < report->matrices; i++) {
        const ht_report_matrix *row = &report->matrix[i];
        if (row->tensor == job)
            ht_text_printf(&text, "matrix %zu %zu %llu %a %a %a %a %a %zu %zu %a %a %s\n", row->tensor, row->entry,
                           (unsigned long long)row->tokens, row->loss, row->rtn_loss, row->held_out_loss,
                           row->held_out_rtn_loss, row->damping, row->dead_columns, row->saturated, row->sparsity,
                           row->seconds, row->fallback ? row->fallback : "");
    }
    ht_text_printf(&text, "%zu %a\n", job, run->plan->tensor[job].error);
    return append(run, &text);
}

ht_status ht_tally_log_experts(ht_run *run, const ht_report_coverage *row) {
    ht_text text = {0};
    ht_text_printf(&text, "experts %zu %zu", row->block, row->experts);
    for (size_t e = 0; e < row->experts; e++)
        ht_text_printf(&text, " %llu", (unsigned long long)row->tokens[e]);
    ht_text_printf(&text, "\n");
    return append(run, &text);
}

void ht_tally_log_close(ht_run *run) {
    if (run->errors >= 0)
        close(run->errors);
    run->errors = -1;
}
