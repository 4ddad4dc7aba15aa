/* Tensors of a safetensors file under tests/data, for comparing against stored results.
 *
 *     golden g = golden_open("formats/mxfp4_e2m1_f32.safetensors");
 *     const golden_tensor *x = golden_find(&g, "x");      NULL (and a failed check) when it is not there
 *     ... golden_close(&g);
 *
 * A file that cannot be read fails the running test and gives an empty set. */
#ifndef HT_TESTS_GOLDEN_H
#define HT_TESTS_GOLDEN_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/tensor.h>

#include "base/file_map.h"

typedef struct golden_tensor {
    char name[96];
    ht_dtype dtype;
    unsigned rank;
    size_t shape[HT_MAX_RANK];
    size_t elements, bytes;
    const void *data;
} golden_tensor;

typedef struct golden {
    ht_file_map map;
    golden_tensor *tensors;
    size_t count;
} golden;

golden golden_open(const char *relative);
/* Any path, for files outside tests/data. */
golden golden_open_path(const char *path);
const golden_tensor *golden_find(const golden *g, const char *name);
/* As golden_find with a formatted name. */
const golden_tensor *golden_findf(const golden *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same without a failed check when it is missing. */
const golden_tensor *golden_maybe(const golden *g, const char *name);
/* A copy of the values as f32 (f64 f32 f16 bf16 i8 u8 i32 i64), to be freed by the caller. */
float *golden_f32(const golden_tensor *t);
/* rows = product of all dimensions but the last. */
size_t golden_rows(const golden_tensor *t);
size_t golden_cols(const golden_tensor *t);
void golden_close(golden *g);

#endif
