/* What every launcher needs: toolkit errors as statuses, grid arithmetic, tensor maps for the copy engine.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_RUNTIME_H
#define HT_KERNELS_CUDA_RUNTIME_H

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct ht_stream ht_stream;

static inline size_t ht_ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static inline cudaStream_t ht_cuda_stream(ht_stream *stream) {
    return (cudaStream_t)(void *)stream;
}

/* HT_OK, or a failure that names what was attempted. */
ht_status ht_cuda_check(cudaError_t error, const char *what);

/* Multiprocessors and compute capability (major * 10 + minor) of the current device. */
ht_status ht_cuda_device_shape(int *multiprocessors, int *capability);

/* Map of a row-major [rows, cols] matrix for boxes of box_rows x box_cols. swizzle: 128-byte rows in the 128-byte
 * swizzle (box_cols * bytes per element must be 128); otherwise rows as they are. Fails with UNSUPPORTED when the base
 * or the row length is not a multiple of 16 bytes. */
ht_status ht_cuda_tensor_map(CUtensorMap *map, CUtensorMapDataType type, size_t element_bytes, const void *base,
                             size_t rows, size_t cols, size_t row_stride, unsigned box_rows, unsigned box_cols,
                             int swizzle);

/* Map of a stack [count, rows, cols] of contiguous matrices, for boxes of box_rows x box_cols of one of them, swizzled.
 */
ht_status ht_cuda_tensor_map_stack(CUtensorMap *map, CUtensorMapDataType type, size_t element_bytes, const void *base,
                                   size_t count, size_t rows, size_t cols, unsigned box_rows, unsigned box_cols);

/* Map of a tensor of four dimensions, fastest first: sizes in elements, the steps of dimensions 1 to 3 in elements,
 * boxes of box[0] x box[1]. row_bytes: 128, 64 or 32, the bytes of box[0] and the width of the swizzle. */
ht_status ht_cuda_tensor_map_4d(CUtensorMap *map, CUtensorMapDataType type, size_t element_bytes, const void *base,
                                const size_t sizes[4], const size_t steps[3], const unsigned box[2],
                                unsigned row_bytes);

/* Launch `kernel` with a cluster of `cluster` blocks along x. */
ht_status ht_cuda_launch(const void *kernel, const char *name, unsigned blocks, unsigned threads, size_t shared_bytes,
                         unsigned cluster, int overlap_previous, cudaStream_t stream, void **arguments);

#endif
