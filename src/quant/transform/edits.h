/* Changes to the parameters of a float model that leave the model as it is: scales of rows and columns, rotations.
 *
 *     W' = rows * (rotate_out^T (W * columns) rotate_in)   and, where inputs are transformed when the model runs,
 *     stored for such inputs (ops/input_transform.h)
 *
 * Transforms (smooth, awq, rotate) say what changes; ht_edits_write makes the changed checkpoint. */
#ifndef HT_QUANT_TRANSFORM_EDITS_H
#define HT_QUANT_TRANSFORM_EDITS_H

#include <stddef.h>

#include <halftone/checkpoint.h>

#include "base/memory.h"
#include "format/hadamard.h"

/* x -> x R on every run of hadamard.n values: R = diag(sign) H^T / sqrt(n). */
typedef struct ht_rotation {
    ht_hadamard hadamard;
    float *sign; /* [hadamard.n] */
} ht_rotation;

typedef struct ht_edit {
    float **columns; /* by batch entry, [cols]; NULL: 1 */
    float **rows;    /* by batch entry, [rows]; NULL: 1 */
    const ht_rotation *in, *out;
    float *values;   /* what it becomes, [batch, rows, cols]: norms; nothing else is set then */
    int sets_inputs; /* inputs are transformed so from now on; else as they were */
    ht_input_transform inputs;
    float *own_scale; /* inputs.scale, when ht_edits_input_scale made it */
    int keeps_dtype;  /* is written as it was stored; else as f32, so that nothing is rounded before it is quantized */
} ht_edit;

typedef struct ht_edits {
    ht_context *ctx;
    ht_arena arena;
    const ht_checkpoint *checkpoint;
    ht_edit *edit; /* by parameter */
    size_t head;   /* parameter that is also written under head_name, with head_edit: untied; SIZE_MAX: none */
    const char *head_name;
    ht_edit head_edit;
} ht_edits;

ht_status ht_edits_create(ht_context *ctx, const ht_checkpoint *checkpoint, ht_edits **out);
void ht_edits_destroy(ht_edits *edits);

/* Multiply columns / rows row0 + c * step of a matrix by scale[c] or 1 / scale[c]. Fails with MEMORY. */
ht_status ht_edits_scale_columns(ht_edits *edits, size_t parameter, size_t entry, const float *scale);
ht_status ht_edits_divide_rows(ht_edits *edits, size_t parameter, size_t entry, size_t row, size_t step, size_t count,
                               const float *scale);

/* The scale of an entry's inputs, [cols], for the caller to fill; other entries are ones at first. Sets sets_inputs.
 * NULL: out of memory. */
float *ht_edits_input_scale(ht_edits *edits, size_t parameter, size_t entry);

/* Rows [row, row + rows) of an entry after the edit, [rows, cols] f32. An edit with a rotation of the outputs gives
 * whole matrices only (row 0, all rows). */
ht_status ht_edits_read(const ht_edits *edits, size_t parameter, const ht_edit *edit, size_t entry, size_t row,
                        size_t rows, float *out);

/* Write the changed checkpoint to a directory, complete or not at all; metadata stage=`stage` tells it from others.
 * Fails as the writer does. */
ht_status ht_edits_write(const ht_edits *edits, const char *directory, const char *stage);

#endif
