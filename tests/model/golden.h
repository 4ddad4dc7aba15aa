/* Tensors of a reference file, for the model tests. */
#ifndef HT_TESTS_MODEL_GOLDEN_H
#define HT_TESTS_MODEL_GOLDEN_H

#include <stdint.h>
#include <stdlib.h>

#include <halftone/checkpoint.h>

/* NULL when the file has no such tensor. */
static inline const ht_stored_tensor *golden_tensor(const ht_checkpoint *file, const char *name) {
    return ht_checkpoint_find(file, name);
}

/* Row `row` of an i64 [rows, count] tensor as ids; freed by the caller. */
static inline int32_t *golden_ids(const ht_stored_tensor *tensor, size_t row, size_t *count) {
    *count = tensor->shape[tensor->rank - 1];
    int32_t *ids = malloc(*count * sizeof *ids);
    for (size_t i = 0; ids && i < *count; i++)
        ids[i] = (int32_t)((const int64_t *)tensor->data)[row * *count + i];
    return ids;
}

#endif
