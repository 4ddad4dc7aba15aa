/* The checkpoint that edits make: every parameter read through its edit and written as f32, or as it was stored where
 * the edit says so; everything else copied byte for byte. Matrices are cut into pieces of rows unless their outputs are
 * rotated or they are stored turned round.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/transform/edits.h"

#include <stdint.h> /* SIZE_MAX */
#include <stdlib.h> /* free */
#include <string.h> /* strcmp */

#include <jansson.h>

#include "base/context.h"
#include "base/status.h"
#include "base/text.h"
#include "format/lanes.h"
#include "io/json.h"
#include "io/transforms.h"
#include "io/writer.h"
#include "quant/decode.h"

enum { PIECE = 1 << 20 };

/* One output tensor: a parameter under an edit, or a stored tensor as it is. */
typedef struct target {
    const char *name;
    size_t parameter;
    const ht_edit *edit;
    const ht_stored_tensor *stored; /* the edit is NULL */
    const float *scale;             /* of inputs, of the parameter; the others are NULL */
    ht_dtype dtype;
} target;

static int is_edited(const ht_edit *edit) {
    return edit->columns || edit->rows || edit->in || edit->out || edit->values || edit->sets_inputs;
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const target *)a)->name, ((const target *)b)->name);
}

/* What is done to the inputs of a parameter afterwards. */
static ht_input_transform inputs_after(const ht_edits *edits, size_t parameter) {
    const ht_edit *edit = &edits->edit[parameter];
    return edit->sets_inputs ? edit->inputs : ht_checkpoint_parameter(edits->checkpoint, parameter)->weight.inputs;
}

static ht_status add_edited(const ht_edits *edits, ht_arena *arena, size_t parameter, target *targets, size_t *count) {
    const ht_parameter *from = ht_checkpoint_parameter(edits->checkpoint, parameter);
    const ht_edit *edit = &edits->edit[parameter];
    targets[(*count)++] = (target){.name = from->name,
                                   .parameter = parameter,
                                   .edit = edit,
                                   .dtype = edit->keeps_dtype ? from->weight.format.element : HT_F32};
    const float *scale = inputs_after(edits, parameter).scale;
    if (!scale)
        return HT_OK;
    const char *name = ht_arena_printf(arena, "%s" HT_INPUT_SCALE_TAIL, from->name);
    targets[(*count)++] = (target){.name = name, .parameter = parameter, .scale = scale, .dtype = HT_F32};
    return name ? HT_OK : HT_ERR_MEMORY;
}

static ht_status list(const ht_edits *edits, ht_arena *arena, target **out, size_t *count) {
    const ht_checkpoint *checkpoint = edits->checkpoint;
    target *targets = ht_arena_alloc(arena, 2 * (ht_checkpoint_tensor_count(checkpoint) + 1) * sizeof *targets);
    if (!targets)
        return HT_ERR_MEMORY;
    *count = 0;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(checkpoint, i);
        if (edits->head != SIZE_MAX && strcmp(parameter->name, edits->head_name) == 0)
            continue; /* a copy of the embedding that a tied model does not read */
        if (is_edited(&edits->edit[i]))
            HT_TRY(add_edited(edits, arena, i, targets, count));
        else
            for (size_t s = 0; s < parameter->stored_count; s++) {
                const ht_stored_tensor *stored = ht_checkpoint_tensor(checkpoint, parameter->stored[s]);
                targets[(*count)++] = (target){.name = stored->name, .stored = stored, .dtype = stored->dtype};
            }
    }
    if (edits->head != SIZE_MAX) {
        ht_dtype dtype = ht_checkpoint_parameter(checkpoint, edits->head)->weight.format.element;
        targets[(*count)++] = (target){.name = edits->head_name,
                                       .parameter = edits->head,
                                       .edit = &edits->head_edit,
                                       .dtype = edits->head_edit.keeps_dtype ? dtype : HT_F32};
    }
    qsort(targets, *count, sizeof *targets, by_name);
    *out = targets;
    return HT_OK;
}

static ht_output_tensor output_of(const ht_edits *edits, const target *t) {
    ht_output_tensor output = {.name = t->name, .dtype = t->dtype};
    if (t->stored) {
        output.rank = t->stored->rank;
        memcpy(output.shape, t->stored->shape, sizeof output.shape);
    } else if (t->scale) {
        const ht_parameter *parameter = ht_checkpoint_parameter(edits->checkpoint, t->parameter);
        output.rank = parameter->rank - 1;
        output.shape[0] = parameter->weight.batch;
        output.shape[output.rank - 1] = parameter->weight.cols;
    } else {
        const ht_parameter *parameter = ht_checkpoint_parameter(edits->checkpoint, t->parameter);
        output.rank = parameter->rank;
        memcpy(output.shape, parameter->shape, sizeof output.shape);
    }
    return output;
}

/* --- One tensor ------------------------------------------------------------------------------------------------ */

/* x [rows, cols] of an entry, from row on, to its place; turned round when it is stored so. */
static ht_status put(ht_checkpoint_writer *writer, size_t index, const target *t, const ht_weight *weight, size_t entry,
                     size_t row, size_t rows, const float *x, uint8_t *buffer) {
    size_t size = ht_dtype_bits(t->dtype) / 8, at = entry * weight->rows * weight->cols;
    if (!weight->transposed) {
        ht_lanes_store(x, rows * weight->cols, t->dtype, buffer, 0);
        return ht_checkpoint_writer_write(writer, index, (at + row * weight->cols) * size, buffer,
                                          rows * weight->cols * size);
    }
    for (size_t c = 0; c < weight->cols; c++)
        for (size_t r = 0; r < rows; r++)
            ht_lanes_store(x + r * weight->cols + c, 1, t->dtype, buffer, c * rows + r);
    return ht_checkpoint_writer_write(writer, index, at * size, buffer, rows * weight->cols * size);
}

static ht_status write_edited(const ht_edits *edits, const target *t, ht_checkpoint_writer *writer, size_t index) {
    const ht_parameter *parameter = ht_checkpoint_parameter(edits->checkpoint, t->parameter);
    const ht_weight *weight = &parameter->weight;
    int whole = t->edit->out || weight->transposed;
    size_t some = weight->cols ? PIECE / weight->cols + 1 : 1,
           step = whole || some > weight->rows ? weight->rows : some;
    float *x;
    uint8_t *buffer;
    HT_TRY(ht_allocate_raw(edits->ctx, 2 * step * weight->cols, sizeof *x, parameter->name, &x));
    buffer = (uint8_t *)(x + step * weight->cols);
    ht_status status = HT_OK;
    for (size_t e = 0; e < weight->batch && status == HT_OK; e++)
        for (size_t row = 0; row < weight->rows && status == HT_OK; row += step) {
            size_t rows = weight->rows - row < step ? weight->rows - row : step;
            status = ht_edits_read(edits, t->parameter, t->edit, e, row, rows, x);
            if (status == HT_OK)
                status = put(writer, index, t, weight, e, row, rows, x, buffer);
        }
    ht_release(edits->ctx, x);
    return status;
}

static ht_status write_scale(const ht_edits *edits, const target *t, ht_checkpoint_writer *writer, size_t index) {
    const ht_weight *weight = &ht_checkpoint_parameter(edits->checkpoint, t->parameter)->weight;
    return ht_checkpoint_writer_write(writer, index, 0, t->scale, weight->batch * weight->cols * sizeof *t->scale);
}

static ht_status write_all(const ht_edits *edits, const target *targets, size_t count, ht_checkpoint_writer *writer) {
    for (size_t i = 0; i < count; i++) {
        const target *t = &targets[i];
        HT_TRY(ht_context_check_cancelled(edits->ctx));
        if (ht_checkpoint_writer_is_done(writer, i))
            continue;
        if (t->edit)
            HT_TRY(write_edited(edits, t, writer, i));
        else if (t->scale)
            HT_TRY(write_scale(edits, t, writer, i));
        else
            HT_TRY(ht_checkpoint_writer_write(writer, i, 0, t->stored->data, t->stored->bytes));
        HT_TRY(ht_checkpoint_writer_done(writer, i));
    }
    return HT_OK;
}

/* --- The whole ------------------------------------------------------------------------------------------------- */

static ht_status write_config(const ht_edits *edits, ht_checkpoint_writer *writer) {
    const char *text = ht_checkpoint_config(edits->checkpoint);
    if (edits->head == SIZE_MAX || !text)
        return text ? ht_checkpoint_writer_file(writer, "config.json", text, strlen(text)) : HT_OK;
    json_t *config;
    HT_TRY(ht_json_parse(ht_checkpoint_path(edits->checkpoint), "config.json", text, strlen(text), &config));
    json_object_set_new(config, "tie_word_embeddings", json_false());
    char *changed = json_dumps(config, JSON_INDENT(2));
    json_decref(config);
    ht_status status = changed ? ht_checkpoint_writer_file(writer, "config.json", changed, strlen(changed))
                               : ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    free(changed);
    return status;
}

/* transform_config of the file, JSON text to be freed; *out NULL: nothing is transformed. */
static ht_status write_transforms(const ht_edits *edits, ht_arena *arena, char **out) {
    size_t count = ht_checkpoint_parameter_count(edits->checkpoint), listed = 0;
    ht_named_block *all = ht_arena_alloc(arena, count * sizeof *all + 1);
    json_t *config;
    *out = NULL;
    if (!all)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(edits->checkpoint, i);
        if (parameter->rank == 2 || parameter->rank == 3)
            all[listed++] = (ht_named_block){parameter->name, inputs_after(edits, i).block};
    }
    HT_TRY(ht_transform_config(all, listed, &config));
    if (config && !(*out = json_dumps(config, JSON_COMPACT)))
        return ht_fail(HT_ERR_MEMORY, "config: the system has no memory left");
    json_decref(config);
    return HT_OK;
}

ht_status ht_edits_write(const ht_edits *edits, const char *directory, const char *stage) {
    ht_arena arena;
    ht_arena_init(&arena, edits->ctx);
    target *targets = NULL;
    size_t count = 0;
    ht_checkpoint_writer *writer = NULL;
    ht_status status = list(edits, &arena, &targets, &count);
    ht_output_tensor *outputs = ht_arena_alloc(&arena, count * sizeof *outputs + 1);
    if (status == HT_OK && !outputs)
        status = HT_ERR_MEMORY;
    for (size_t i = 0; i < count && status == HT_OK; i++)
        outputs[i] = output_of(edits, &targets[i]);
    char *transforms = NULL;
    if (status == HT_OK)
        status = write_transforms(edits, &arena, &transforms);
    if (status == HT_OK) {
        const char *const metadata[] = {"format",   "pt", "stage", stage, transforms ? HT_TRANSFORM_METADATA : NULL,
                                        transforms, NULL};
        ht_writer_options how = {.resume = HT_RESUME_NEVER, .fingerprint = stage, .metadata = metadata, .overwrite = 1};
        status = ht_checkpoint_writer_create(edits->ctx, directory, outputs, count, &how, &writer);
    }
    if (status == HT_OK)
        status = write_all(edits, targets, count, writer);
    if (status == HT_OK)
        status = write_config(edits, writer);
    if (status == HT_OK)
        status = ht_checkpoint_writer_sidecars(writer, edits->checkpoint);
    if (status == HT_OK)
        status = ht_checkpoint_writer_commit(writer);
    if (status == HT_OK)
        ht_checkpoint_writer_destroy(writer);
    else
        ht_checkpoint_writer_discard(writer);
    free(transforms);
    ht_arena_release(&arena);
    return status;
}
