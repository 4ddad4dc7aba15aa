/* Transposing: the step before casts whose blocks run down the columns. Contract of all variants. */
#ifndef HT_KERNELS_TURN_H
#define HT_KERNELS_TURN_H

#include <stddef.h>

/* out[c][r] = x[r][c], r < rows, c < cols: elements of `size` bytes, 2 or 4, moved as they are. Rows start every
 * *stride elements; no alignment beyond that of an element; not overlapping. */
typedef void ht_turn_fn(const void *x, size_t x_stride, size_t rows, size_t cols, size_t size, void *out,
                        size_t out_stride);
ht_turn_fn ht_turn_ref, ht_turn_avx2;

#endif
