/* Edits: keeping them, and reading parameters through them.
 *
 * A matrix is read as f32, columns are scaled, rows rotated, columns rotated (through a turned copy of each), rows
 * scaled. A parameter that is stored for transformed inputs is taken back first, when the edit concerns its columns,
 * and made ready for them again last. Every value is computed alone or within its row or column, so the result does not
 * depend on threads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/edits.h"

#include <stdint.h> /* SIZE_MAX */
#include <string.h> /* memcpy */

#include "base/pool.h"
#include "base/status.h"
#include "ops/input_transform.h"
#include "quant/decode.h"

ht_status ht_edits_create(ht_context *ctx, const ht_checkpoint *checkpoint, ht_edits **out) {
    size_t count = ht_checkpoint_parameter_count(checkpoint);
    *out = NULL;
    ht_edits *edits;
    HT_TRY(ht_allocate(ctx, 1, sizeof *edits, "edits", &edits));
    *edits = (ht_edits){.ctx = ctx, .checkpoint = checkpoint, .head = SIZE_MAX};
    ht_arena_init(&edits->arena, ctx);
    edits->edit = ht_arena_alloc(&edits->arena, count * sizeof *edits->edit + 1);
    if (!edits->edit) {
        ht_edits_destroy(edits);
        return HT_ERR_MEMORY;
    }
    for (size_t i = 0; i < count; i++)
        edits->edit[i] = (ht_edit){.keeps_dtype = 0};
    *out = edits;
    return HT_OK;
}

void ht_edits_destroy(ht_edits *edits) {
    if (!edits)
        return;
    ht_context *ctx = edits->ctx;
    ht_arena_release(&edits->arena);
    ht_release(ctx, edits);
}

/* The factors of one entry, ones at first. */
static float *factors(ht_edits *edits, float ***all, size_t batch, size_t entry, size_t count) {
    if (!*all) {
        *all = ht_arena_alloc(&edits->arena, batch * sizeof **all);
        for (size_t e = 0; *all && e < batch; e++)
            (*all)[e] = NULL;
    }
    if (!*all)
        return NULL;
    if (!(*all)[entry]) {
        float *one = ht_arena_alloc(&edits->arena, count * sizeof *one);
        for (size_t i = 0; one && i < count; i++)
            one[i] = 1;
        (*all)[entry] = one;
    }
    return (*all)[entry];
}

ht_status ht_edits_scale_columns(ht_edits *edits, size_t parameter, size_t entry, const float *scale) {
    const ht_weight *weight = &ht_checkpoint_parameter(edits->checkpoint, parameter)->weight;
    float *columns = factors(edits, &edits->edit[parameter].columns, weight->batch, entry, weight->cols);
    if (!columns)
        return HT_ERR_MEMORY;
    for (size_t j = 0; j < weight->cols; j++)
        columns[j] *= scale[j];
    return HT_OK;
}

ht_status ht_edits_divide_rows(ht_edits *edits, size_t parameter, size_t entry, size_t row, size_t step, size_t count,
                               const float *scale) {
    const ht_weight *weight = &ht_checkpoint_parameter(edits->checkpoint, parameter)->weight;
    float *rows = factors(edits, &edits->edit[parameter].rows, weight->batch, entry, weight->rows);
    if (!rows)
        return HT_ERR_MEMORY;
    for (size_t c = 0; c < count; c++)
        rows[row + c * step] /= scale[c];
    return HT_OK;
}

float *ht_edits_input_scale(ht_edits *edits, size_t parameter, size_t entry) {
    const ht_weight *weight = &ht_checkpoint_parameter(edits->checkpoint, parameter)->weight;
    ht_edit *edit = &edits->edit[parameter];
    if (!edit->sets_inputs) {
        float *scale = ht_arena_alloc(&edits->arena, weight->batch * weight->cols * sizeof *scale);
        if (!scale)
            return NULL;
        for (size_t i = 0; i < weight->batch * weight->cols; i++)
            scale[i] = 1;
        edit->sets_inputs = 1;
        edit->own_scale = scale;
        edit->inputs = (ht_input_transform){.scale = scale};
    }
    return edit->own_scale + entry * weight->cols;
}

/* --- Reading through an edit -------------------------------------------------------------------------------- */

typedef struct reading {
    const ht_edit *edit;
    const float *columns, *rows; /* of these rows */
    float *w;
    size_t count, cols, entry;
    ht_transformer before, after; /* of inputs: undone first, done last */
    float *scratch;               /* [threads, count] */
} reading;

static void rotate(const ht_rotation *rotation, float *x, size_t n) {
    size_t block = rotation->hadamard.n;
    for (size_t i = 0; i < n; i++)
        x[i] *= rotation->sign[i % block];
    ht_hadamard_apply(&rotation->hadamard, x, n / block, 0);
}

static ht_status change_row(void *arg, size_t row, size_t worker) {
    (void)worker;
    const reading *r = arg;
    float *w = r->w + row * r->cols;
    ht_restore_weights(&r->before, r->entry, w, 1);
    for (size_t j = 0; r->columns && j < r->cols; j++)
        w[j] *= r->columns[j];
    if (r->edit->in)
        rotate(r->edit->in, w, r->cols);
    for (size_t j = 0; r->rows && !r->edit->out && j < r->cols; j++)
        w[j] *= r->rows[row];
    ht_transform_weights(&r->after, r->entry, w, 1);
    return HT_OK;
}

static ht_status change_column(void *arg, size_t column, size_t worker) {
    const reading *r = arg;
    float *x = r->scratch + worker * r->count;
    for (size_t i = 0; i < r->count; i++)
        x[i] = r->w[i * r->cols + column];
    rotate(r->edit->out, x, r->count);
    for (size_t i = 0; i < r->count; i++)
        r->w[i * r->cols + column] = r->rows ? x[i] * r->rows[i] : x[i];
    return HT_OK;
}

static ht_status change_columns(const ht_edits *edits, reading *r) {
    HT_TRY(ht_allocate_raw(edits->ctx, ht_context_threads(edits->ctx) * r->count, sizeof *r->scratch, "a column",
                           &r->scratch));
    ht_status status = ht_parallel_for(edits->ctx, r->cols, change_column, r);
    ht_release(edits->ctx, r->scratch);
    return status;
}

/* Transforms of inputs around the change of columns, if it comes to that. */
static ht_status open_transforms(const ht_edits *edits, const ht_weight *weight, reading *r) {
    const ht_edit *edit = r->edit;
    const ht_input_transform none = {.block = 0};
    int opens = edit->sets_inputs || edit->columns || edit->in;
    HT_TRY(ht_transformer_init(&r->before, edits->ctx, opens ? &weight->inputs : &none, weight->cols));
    const ht_input_transform *after = edit->sets_inputs ? &edit->inputs : &weight->inputs;
    return ht_transformer_init(&r->after, edits->ctx, opens ? after : &none, weight->cols);
}

ht_status ht_edits_read(const ht_edits *edits, size_t parameter, const ht_edit *edit, size_t entry, size_t row,
                        size_t rows, float *out) {
    const ht_parameter *source = ht_checkpoint_parameter(edits->checkpoint, parameter);
    const ht_weight *weight = &source->weight;
    if (edit->values) {
        memcpy(out, edit->values + (entry * weight->rows + row) * weight->cols, rows * weight->cols * sizeof *out);
        return HT_OK;
    }
    HT_TRY(ht_decode_rows(source, entry, row, rows, out));
    reading r = {.edit = edit,
                 .columns = edit->columns ? edit->columns[entry] : NULL,
                 .rows = edit->rows && edit->rows[entry] ? edit->rows[entry] + row : NULL,
                 .w = out,
                 .count = rows,
                 .cols = weight->cols,
                 .entry = entry};
    ht_status status = open_transforms(edits, weight, &r);
    if (status == HT_OK)
        status = ht_parallel_for(edits->ctx, rows, change_row, &r);
    if (status == HT_OK && edit->out)
        status = change_columns(edits, &r);
    ht_transformer_release(&r.before);
    ht_transformer_release(&r.after);
    return status;
}
