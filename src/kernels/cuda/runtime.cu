/* Launch support shared by the CUDA kernels (runtime.h).
 *
 * The one driver call we need, cuTensorMapEncodeTiled, is looked up through the runtime, so that the program does not
 * link the driver and starts on a machine without one.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/runtime.h"

#include <cuda_runtime.h>

ht_status ht_cuda_check(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return HT_OK;
    ht_status status = error == cudaErrorMemoryAllocation ? HT_ERR_MEMORY : HT_ERR_DEVICE;
    if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver)
        status = HT_ERR_UNSUPPORTED;
    return ht_fail(status, "cuda: %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

ht_status ht_cuda_device_shape(int *multiprocessors, int *capability) {
    int device = 0, major = 0, minor = 0;
    HT_TRY(ht_cuda_check(cudaGetDevice(&device), "current device"));
    HT_TRY(ht_cuda_check(cudaDeviceGetAttribute(multiprocessors, cudaDevAttrMultiProcessorCount, device),
                         "multiprocessor count"));
    HT_TRY(ht_cuda_check(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device), "capability"));
    HT_TRY(ht_cuda_check(cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, device), "capability"));
    *capability = major * 10 + minor;
    return HT_OK;
}

typedef CUresult ht_encode_tiled_fn(CUtensorMap *, CUtensorMapDataType, cuuint32_t, void *, const cuuint64_t *,
                                    const cuuint64_t *, const cuuint32_t *, const cuuint32_t *, CUtensorMapInterleave,
                                    CUtensorMapSwizzle, CUtensorMapL2promotion, CUtensorMapFloatOOBfill);

/* sizes, strides and box of a map: the fastest dimension first. */
typedef struct map_shape {
    cuuint32_t rank, box[4];
    cuuint64_t sizes[4], strides[3];
} map_shape;

/* By the bytes of a box's row. */
static CUtensorMapSwizzle swizzle_of(unsigned row_bytes) {
    return row_bytes == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
           : row_bytes == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
           : row_bytes == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                             : CU_TENSOR_MAP_SWIZZLE_NONE;
}

static ht_status encode(CUtensorMap *map, CUtensorMapDataType type, const void *base, const map_shape *shape,
                        CUtensorMapSwizzle swizzle) {
    for (cuuint32_t i = 0; i + 1 < shape->rank; i++)
        if (((uintptr_t)base | shape->strides[i]) % 16)
            return ht_fail(
                HT_ERR_UNSUPPORTED,
                "cuda: a tensor map needs 16-byte alignment, the base is at %zu and rows are %zu bytes apart",
                (size_t)((uintptr_t)base % 16), (size_t)shape->strides[i]);
    void *entry = NULL;
    cudaDriverEntryPointQueryResult found;
    HT_TRY(ht_cuda_check(
        cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &entry, 12000, cudaEnableDefault, &found),
        "looking up cuTensorMapEncodeTiled"));
    if (found != cudaDriverEntryPointSuccess || !entry)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda: the driver has no cuTensorMapEncodeTiled; it needs version 12.0");
    cuuint32_t step[4] = {1, 1, 1, 1};
    CUresult result = ((ht_encode_tiled_fn *)entry)(
        map, type, shape->rank, (void *)base, shape->sizes, shape->strides, shape->box, step,
        CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle, CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    if (result != CUDA_SUCCESS)
        return ht_fail(HT_ERR_DEVICE, "cuda: no tensor map for [%zu, %zu] in boxes of [%u, %u]: driver error %d",
                       (size_t)shape->sizes[1], (size_t)shape->sizes[0], shape->box[1], shape->box[0], (int)result);
    return HT_OK;
}

ht_status ht_cuda_tensor_map(CUtensorMap *map, CUtensorMapDataType type, size_t element_bytes, const void *base,
                             size_t rows, size_t cols, size_t row_stride, unsigned box_rows, unsigned box_cols,
                             int swizzle) {
    const map_shape shape = {2, {box_cols, box_rows}, {cols, rows}, {row_stride * element_bytes}};
    return encode(map, type, base, &shape, swizzle_of(swizzle ? 128 : 0));
}

ht_status ht_cuda_tensor_map_stack(CUtensorMap *map, CUtensorMapDataType type, size_t element_bytes, const void *base,
                                   size_t count, size_t rows, size_t cols, unsigned box_rows, unsigned box_cols) {
    const map_shape shape = {
        3, {box_cols, box_rows, 1}, {cols, rows, count}, {cols * element_bytes, rows * cols * element_bytes}};
    return encode(map, type, base, &shape, swizzle_of(128));
}

ht_status ht_cuda_tensor_map_4d(CUtensorMap *map, CUtensorMapDataType type, size_t element_bytes, const void *base,
                                const size_t sizes[4], const size_t steps[3], const unsigned box[2],
                                unsigned row_bytes) {
    map_shape shape = {4, {box[0], box[1], 1, 1}, {sizes[0], sizes[1], sizes[2], sizes[3]}, {}};
    for (int i = 0; i < 3; i++) /* one entry: the step is never taken */
        shape.strides[i] = sizes[i + 1] > 1 ? steps[i] * element_bytes : 16;
    return encode(map, type, base, &shape, swizzle_of(row_bytes));
}

ht_status ht_cuda_launch(const void *kernel, const char *name, unsigned blocks, unsigned threads, size_t shared_bytes,
                         unsigned cluster, int overlap_previous, cudaStream_t stream, void **arguments) {
    if (shared_bytes > 48 * 1024)
        HT_TRY(ht_cuda_check(
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)shared_bytes), name));
    cudaLaunchAttribute attributes[2] = {};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(blocks);
    config.blockDim = dim3(threads);
    config.dynamicSmemBytes = shared_bytes;
    config.stream = stream;
    config.attrs = attributes;
    if (cluster > 1) {
        attributes[config.numAttrs].id = cudaLaunchAttributeClusterDimension;
        attributes[config.numAttrs].val.clusterDim.x = cluster;
        attributes[config.numAttrs].val.clusterDim.y = 1;
        attributes[config.numAttrs].val.clusterDim.z = 1;
        config.numAttrs++;
    }
    if (overlap_previous) {
        attributes[config.numAttrs].id = cudaLaunchAttributeProgrammaticStreamSerialization;
        attributes[config.numAttrs].val.programmaticStreamSerializationAllowed = 1;
        config.numAttrs++;
    }
    return ht_cuda_check(cudaLaunchKernelExC(&config, kernel, arguments), name);
}
