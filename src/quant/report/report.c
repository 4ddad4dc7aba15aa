/* Rows of a run's report, collected in an arena.
 *
 * Lists grow by doubling; what they outgrow stays in the arena, at most as much again as the list itself.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/report/report.h"

#include <math.h>   /* NAN */
#include <stdlib.h> /* qsort */
#include <string.h> /* memcpy */

enum { FIRST_ROOM = 32 };

ht_report_matrix ht_report_matrix_of(size_t tensor, size_t entry) {
    double unknown = (double)NAN;
    return (ht_report_matrix){.tensor = tensor,
                              .entry = entry,
                              .loss = unknown,
                              .rtn_loss = unknown,
                              .held_out_loss = unknown,
                              .held_out_rtn_loss = unknown,
                              .damping = unknown,
                              .sparsity = unknown,
                              .seconds = unknown};
}

void ht_run_report_init(ht_run_report *report, ht_arena *arena) {
    *report = (ht_run_report){.arena = arena};
}

/* The list with a free place at `count`; NULL without memory. */
static void *grown(ht_run_report *report, void *list, size_t count, size_t *room, size_t size) {
    if (count < *room)
        return list;
    size_t more = *room ? 2 * *room : FIRST_ROOM;
    void *moved = ht_arena_alloc(report->arena, more * size);
    if (!moved)
        return NULL;
    if (count)
        memcpy(moved, list, count * size);
    *room = more;
    return moved;
}

ht_status ht_run_report_matrix(ht_run_report *report, const ht_report_matrix *row) {
    ht_report_matrix *list =
        grown(report, report->matrix, report->matrices, &report->matrix_room, sizeof *report->matrix);
    if (!list)
        return HT_ERR_MEMORY;
    report->matrix = list;
    list[report->matrices] = *row;
    if (row->fallback) {
        list[report->matrices].fallback = ht_arena_string(report->arena, row->fallback, strlen(row->fallback));
        if (!list[report->matrices].fallback)
            return HT_ERR_MEMORY;
    }
    report->matrices++;
    return HT_OK;
}

ht_status ht_run_report_coverage(ht_run_report *report, const ht_report_coverage *row) {
    ht_report_coverage *list =
        grown(report, report->coverage, report->blocks, &report->block_room, sizeof *report->coverage);
    uint64_t *tokens = list ? ht_arena_alloc(report->arena, row->experts * sizeof *tokens) : NULL;
    if (!tokens)
        return HT_ERR_MEMORY;
    memcpy(tokens, row->tokens, row->experts * sizeof *tokens);
    report->coverage = list;
    list[report->blocks++] = (ht_report_coverage){row->block, row->experts, tokens};
    return HT_OK;
}

ht_status ht_run_report_stage(ht_run_report *report, const char *name, double seconds, size_t peak_bytes) {
    for (size_t i = 0; i < report->stages; i++) {
        ht_report_stage *stage = &report->stage[i];
        if (strcmp(stage->name, name) != 0)
            continue;
        stage->seconds += seconds;
        stage->peak_bytes = peak_bytes > stage->peak_bytes ? peak_bytes : stage->peak_bytes;
        return HT_OK;
    }
    ht_report_stage *list = grown(report, report->stage, report->stages, &report->stage_room, sizeof *report->stage);
    const char *copy = list ? ht_arena_string(report->arena, name, strlen(name)) : NULL;
    if (!copy)
        return HT_ERR_MEMORY;
    report->stage = list;
    list[report->stages++] = (ht_report_stage){copy, seconds, peak_bytes};
    return HT_OK;
}

ht_status ht_run_report_data(ht_run_report *report, const char *path, size_t samples, size_t length, uint64_t tokens) {
    report->data = ht_arena_string(report->arena, path, strlen(path));
    report->samples = samples;
    report->sample_length = length;
    report->calibration_tokens = tokens;
    return report->data ? HT_OK : HT_ERR_MEMORY;
}

static int by_place(const void *a, const void *b) {
    const ht_report_matrix *x = a, *y = b;
    if (x->tensor != y->tensor)
        return x->tensor < y->tensor ? -1 : 1;
    return (x->entry > y->entry) - (x->entry < y->entry);
}

static int by_block(const void *a, const void *b) {
    const ht_report_coverage *x = a, *y = b;
    return (x->block > y->block) - (x->block < y->block);
}

void ht_run_report_sort(ht_run_report *report) {
    if (report->matrices)
        qsort(report->matrix, report->matrices, sizeof *report->matrix, by_place);
    if (report->blocks)
        qsort(report->coverage, report->blocks, sizeof *report->coverage, by_block);
}
