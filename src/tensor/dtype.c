/* Names and sizes of scalar types, and tensor views.
 *
 * Everything comes from HT_DTYPE_LIST: one row per type, indexed by the enumerator. A view is a plain struct; the size
 * functions saturate at SIZE_MAX instead of wrapping, because shapes come out of files.
 * Refuses: nothing; a rank above HT_MAX_RANK is the caller's mistake.
 * Source: formats specification, section 1; tensor names of the safetensors file format.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/tensor.h>

#include <assert.h>
#include <string.h>
#include <strings.h> /* strcasecmp */

typedef struct dtype_row {
    const char *name;
    const char *safetensors;
    unsigned bits;
} dtype_row;

static const dtype_row rows[HT_DTYPE_COUNT] = {[HT_DTYPE_NONE] = {"none", NULL, 0},
#define ROW(tail, text, st, width) [HT_##tail] = {text, st, width},
                                               HT_DTYPE_LIST(ROW)
#undef ROW
};

static const dtype_row *row_of(ht_dtype dtype) {
    return &rows[(unsigned)dtype < HT_DTYPE_COUNT ? dtype : HT_DTYPE_NONE];
}

const char *ht_dtype_name(ht_dtype dtype) {
    return row_of(dtype)->name;
}

const char *ht_dtype_safetensors_name(ht_dtype dtype) {
    return row_of(dtype)->safetensors;
}

unsigned ht_dtype_bits(ht_dtype dtype) {
    return row_of(dtype)->bits;
}

ht_dtype ht_dtype_find(const char *name) {
    for (int i = HT_DTYPE_NONE + 1; name && i < HT_DTYPE_COUNT; i++)
        if (strcasecmp(name, rows[i].name) == 0 || (rows[i].safetensors && strcasecmp(name, rows[i].safetensors) == 0))
            return (ht_dtype)i;
    return HT_DTYPE_NONE;
}

ht_tensor ht_tensor_view(void *data, ht_dtype dtype, unsigned rank, const size_t *shape) {
    assert(rank <= HT_MAX_RANK);
    ht_tensor tensor = {.data = data, .dtype = dtype, .rank = rank};
    for (unsigned i = 0; i < rank; i++)
        tensor.shape[i] = shape[i];
    return tensor;
}

ht_tensor ht_tensor_view_2d(void *data, ht_dtype dtype, size_t rows_count, size_t cols) {
    return ht_tensor_view(data, dtype, 2, (const size_t[]){rows_count, cols});
}

size_t ht_tensor_elements(const ht_tensor *tensor) {
    size_t count = 1;
    int overflow = 0;
    for (unsigned i = 0; i < tensor->rank; i++) {
        if (tensor->shape[i] == 0)
            return 0;
        overflow |= count > SIZE_MAX / tensor->shape[i];
        count *= tensor->shape[i];
    }
    return overflow ? SIZE_MAX : count;
}

size_t ht_tensor_bytes(const ht_tensor *tensor) {
    size_t count = ht_tensor_elements(tensor), bits = ht_dtype_bits(tensor->dtype);
    if (count == SIZE_MAX || (bits >= 8 && count > SIZE_MAX / (bits / 8)))
        return SIZE_MAX;
    if (bits >= 8) /* every type of a byte or more is whole bytes */
        return count * (bits / 8);
    return count / 8 * bits + (count % 8 * bits + 7) / 8;
}
