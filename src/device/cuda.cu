/* One NVIDIA GPU as a device, through the CUDA runtime (linked statically: a machine without a driver still starts the
 * program and is told so here).
 *
 * Every call makes its device current first, so that two devices may be used from one thread. Stream-ordered memory
 * comes from the device's default pool, which is told to keep what is given back.
 * Source: CUDA Runtime API 13.0.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "device/backend.h"

#include <cuda_runtime_api.h>
#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* calloc, strtol */
#include <string.h> /* strchr */

#include "base/status.h"

static ht_status check(cudaError_t error, const char *what) {
    if (error == cudaSuccess)
        return HT_OK;
    ht_status status = error == cudaErrorMemoryAllocation ? HT_ERR_MEMORY : HT_ERR_DEVICE;
    if (error == cudaErrorNoDevice || error == cudaErrorInsufficientDriver)
        status = HT_ERR_UNSUPPORTED;
    return ht_fail(status, "cuda: %s: %s (%s)", what, cudaGetErrorString(error), cudaGetErrorName(error));
}

static ht_status use(const ht_device *device) {
    return check(cudaSetDevice(device->index), "choosing the device");
}

static void cuda_close(ht_device *device) {
    free(device);
}

static ht_status cuda_describe(const ht_device *device, ht_device_info *out) {
    HT_TRY(use(device));
    cudaDeviceProp properties;
    HT_TRY(check(cudaGetDeviceProperties(&properties, device->index), "reading device properties"));
    snprintf(out->name, sizeof out->name, "%s", properties.name);
    HT_TRY(check(cudaDeviceGetPCIBusId(out->pci, sizeof out->pci, device->index), "reading the PCI id"));
    HT_TRY(check(cudaMemGetInfo(&out->free_bytes, &out->memory_bytes), "reading memory sizes"));
    out->capability = properties.major * 10 + properties.minor;
    out->multiprocessors = properties.multiProcessorCount;
    out->l2_bytes = (size_t)properties.l2CacheSize;
    out->shared_bytes = properties.sharedMemPerBlockOptin;
    HT_TRY(check(cudaDriverGetVersion(&out->driver_version), "reading the driver's version"));
    return check(cudaRuntimeGetVersion(&out->runtime_version), "reading the runtime's version");
}

static ht_status cuda_allocate(ht_device *device, size_t bytes, void **out) {
    HT_TRY(use(device));
    cudaError_t error = cudaMalloc(out, bytes ? bytes : 1);
    if (error == cudaErrorMemoryAllocation)
        return ht_fail(HT_ERR_MEMORY, "cuda:%d: %zu bytes of device memory are not available", device->index, bytes);
    return check(error, "allocating device memory");
}

static void cuda_release(ht_device *device, void *memory) {
    if (use(device) == HT_OK)
        cudaFree(memory);
}

static ht_status cuda_allocate_on(ht_device *device, size_t bytes, ht_stream *stream, void **out) {
    HT_TRY(use(device));
    return check(cudaMallocAsync(out, bytes ? bytes : 1, (cudaStream_t)(void *)stream), "allocating on a stream");
}

static ht_status cuda_release_on(ht_device *device, void *memory, ht_stream *stream) {
    HT_TRY(use(device));
    return check(cudaFreeAsync(memory, (cudaStream_t)(void *)stream), "releasing on a stream");
}

static ht_status cuda_allocate_staging(ht_device *device, size_t bytes, void **out) {
    HT_TRY(use(device));
    return check(cudaMallocHost(out, bytes ? bytes : 1), "allocating page-locked memory");
}

static void cuda_release_staging(ht_device *device, void *memory) {
    if (use(device) == HT_OK)
        cudaFreeHost(memory);
}

static ht_status cuda_copy(ht_device *device, void *to, const void *from, size_t bytes, ht_copy_kind kind,
                           ht_stream *stream) {
    static const cudaMemcpyKind kinds[] = {cudaMemcpyHostToDevice, cudaMemcpyDeviceToHost, cudaMemcpyDeviceToDevice};
    HT_TRY(use(device));
    return check(cudaMemcpyAsync(to, from, bytes, kinds[kind], (cudaStream_t)(void *)stream), "copying");
}

static ht_status cuda_fill(ht_device *device, void *memory, uint8_t byte, size_t bytes, ht_stream *stream) {
    HT_TRY(use(device));
    return check(cudaMemsetAsync(memory, byte, bytes, (cudaStream_t)(void *)stream), "filling");
}

static ht_status cuda_stream_create(ht_device *device, ht_stream **out) {
    HT_TRY(use(device));
    return check(cudaStreamCreateWithFlags((cudaStream_t *)(void *)out, cudaStreamNonBlocking), "creating a stream");
}

static void cuda_stream_destroy(ht_device *device, ht_stream *stream) {
    if (use(device) == HT_OK)
        cudaStreamDestroy((cudaStream_t)(void *)stream);
}

static ht_status cuda_finish(ht_device *device, ht_stream *stream) {
    HT_TRY(use(device));
    if (stream)
        return check(cudaStreamSynchronize((cudaStream_t)(void *)stream), "waiting for a stream");
    return check(cudaDeviceSynchronize(), "waiting for the device");
}

static ht_status cuda_event_create(ht_device *device, ht_event **out) {
    HT_TRY(use(device));
    return check(cudaEventCreate((cudaEvent_t *)(void *)out), "creating an event");
}

static void cuda_event_destroy(ht_device *device, ht_event *event) {
    if (use(device) == HT_OK)
        cudaEventDestroy((cudaEvent_t)(void *)event);
}

static ht_status cuda_event_record(ht_device *device, ht_event *event, ht_stream *stream) {
    HT_TRY(use(device));
    return check(cudaEventRecord((cudaEvent_t)(void *)event, (cudaStream_t)(void *)stream), "recording an event");
}

static ht_status cuda_event_wait(ht_device *device, ht_event *event, ht_stream *stream) {
    HT_TRY(use(device));
    return check(cudaStreamWaitEvent((cudaStream_t)(void *)stream, (cudaEvent_t)(void *)event, 0),
                 "waiting for an event");
}

static ht_status cuda_event_seconds(ht_device *device, ht_event *from, ht_event *to, double *out) {
    float milliseconds = 0;
    HT_TRY(use(device));
    HT_TRY(check(cudaEventSynchronize((cudaEvent_t)(void *)to), "waiting for an event"));
    HT_TRY(check(cudaEventElapsedTime(&milliseconds, (cudaEvent_t)(void *)from, (cudaEvent_t)(void *)to),
                 "reading the time between events"));
    *out = milliseconds * 1e-3;
    return HT_OK;
}

/* In the order of ht_device_backend. */
static const ht_device_backend backend = {
    cuda_close,         cuda_describe,         cuda_allocate,        cuda_release,      cuda_allocate_on,
    cuda_release_on,    cuda_allocate_staging, cuda_release_staging, cuda_copy,         cuda_fill,
    cuda_stream_create, cuda_stream_destroy,   cuda_finish,          cuda_event_create, cuda_event_destroy,
    cuda_event_record,  cuda_event_wait,       cuda_event_seconds,
};

int ht_cuda_count(void) {
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError(); /* the next call must not report this one's failure */
        return 0;
    }
    return count;
}

static ht_status find(const char *selector, int count, int *index) {
    char *end = NULL;
    *index = 0;
    if (!*selector)
        return HT_OK;
    if (strchr(selector, ':'))
        return check(cudaDeviceGetByPCIBusId(index, selector), "looking for a device by PCI id");
    long number = strtol(selector, &end, 10);
    if (*end || number < 0 || number >= count)
        return ht_fail(HT_ERR_ARGUMENT, "device cuda:%s: this process sees %d GPUs, numbered from 0", selector, count);
    *index = (int)number;
    return HT_OK;
}

ht_status ht_device_open_cuda(const char *selector, ht_device **out) {
    int count = 0, index = 0;
    *out = NULL;
    HT_TRY(check(cudaGetDeviceCount(&count), "looking for GPUs"));
    HT_TRY(find(selector, count, &index));
    ht_device *device = (ht_device *)calloc(1, sizeof *device);
    if (!device)
        return ht_fail(HT_ERR_MEMORY, "cuda: out of host memory");
    device->backend = &backend;
    device->index = index;
    cudaMemPool_t pool;
    uint64_t keep = UINT64_MAX;
    ht_status status = use(device);
    if (status == HT_OK)
        status = check(cudaDeviceGetDefaultMemPool(&pool, index), "finding the memory pool");
    if (status == HT_OK)
        status = check(cudaMemPoolSetAttribute(pool, cudaMemPoolAttrReleaseThreshold, &keep), "setting up the pool");
    if (status != HT_OK) {
        free(device);
        return status;
    }
    *out = device;
    return HT_OK;
}
