/* The host as a device: everything happens at once, in the calling thread.
 *
 * A stream is a token, an event a time. Memory is 256-byte aligned as on a GPU, so that code tested here does not
 * meet another alignment there.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "device/backend.h"

#include <stdio.h>  /* snprintf */
#include <stdlib.h> /* aligned_alloc, free */
#include <string.h> /* memmove, memset */
#include <time.h>   /* clock_gettime */
#include <unistd.h> /* sysconf */

#include "base/status.h"

enum { ALIGNMENT = 256 };

struct ht_stream {
    int token;
};

struct ht_event {
    struct timespec time;
};

static void host_close(ht_device *device) {
    free(device);
}

static ht_status host_describe(const ht_device *device, ht_device_info *out) {
    (void)device;
    snprintf(out->name, sizeof out->name, "host");
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    out->memory_bytes = (size_t)sysconf(_SC_PHYS_PAGES) * page;
    out->free_bytes = (size_t)sysconf(_SC_AVPHYS_PAGES) * page;
    return HT_OK;
}

static ht_status host_allocate(ht_device *device, size_t bytes, void **out) {
    (void)device;
    size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (rounded < bytes)
        return ht_fail(HT_ERR_MEMORY, "host memory: %zu bytes do not fit the address space", bytes);
    *out = aligned_alloc(ALIGNMENT, rounded ? rounded : ALIGNMENT);
    return *out ? HT_OK : ht_fail(HT_ERR_MEMORY, "host memory: %zu bytes are not available", bytes);
}

static void host_release(ht_device *device, void *memory) {
    (void)device;
    free(memory);
}

static ht_status host_allocate_on(ht_device *device, size_t bytes, ht_stream *stream, void **out) {
    (void)stream;
    return host_allocate(device, bytes, out);
}

static ht_status host_release_on(ht_device *device, void *memory, ht_stream *stream) {
    (void)stream;
    host_release(device, memory);
    return HT_OK;
}

static ht_status host_copy(ht_device *device, void *to, const void *from, size_t bytes, ht_copy_kind kind,
                           ht_stream *stream) {
    (void)device, (void)kind, (void)stream;
    memmove(to, from, bytes);
    return HT_OK;
}

static ht_status host_fill(ht_device *device, void *memory, uint8_t byte, size_t bytes, ht_stream *stream) {
    (void)device, (void)stream;
    memset(memory, byte, bytes);
    return HT_OK;
}

static ht_status host_stream_create(ht_device *device, ht_stream **out) {
    (void)device;
    *out = calloc(1, sizeof **out);
    return *out ? HT_OK : ht_fail(HT_ERR_MEMORY, "host stream: out of memory");
}

static void host_stream_destroy(ht_device *device, ht_stream *stream) {
    (void)device;
    free(stream);
}

static ht_status host_finish(ht_device *device, ht_stream *stream) {
    (void)device, (void)stream;
    return HT_OK;
}

static ht_status host_event_create(ht_device *device, ht_event **out) {
    (void)device;
    *out = calloc(1, sizeof **out);
    return *out ? HT_OK : ht_fail(HT_ERR_MEMORY, "host event: out of memory");
}

static void host_event_destroy(ht_device *device, ht_event *event) {
    (void)device;
    free(event);
}

static ht_status host_event_record(ht_device *device, ht_event *event, ht_stream *stream) {
    (void)device, (void)stream;
    clock_gettime(CLOCK_MONOTONIC, &event->time);
    return HT_OK;
}

static ht_status host_event_wait(ht_device *device, ht_event *event, ht_stream *stream) {
    (void)device, (void)event, (void)stream;
    return HT_OK;
}

static ht_status host_event_seconds(ht_device *device, ht_event *from, ht_event *to, double *out) {
    (void)device;
    *out = (double)(to->time.tv_sec - from->time.tv_sec) + 1e-9 * (double)(to->time.tv_nsec - from->time.tv_nsec);
    return HT_OK;
}

static const ht_device_backend backend = {
    .close = host_close,
    .describe = host_describe,
    .allocate = host_allocate,
    .release = host_release,
    .allocate_on = host_allocate_on,
    .release_on = host_release_on,
    .allocate_staging = host_allocate,
    .release_staging = host_release,
    .copy = host_copy,
    .fill = host_fill,
    .stream_create = host_stream_create,
    .stream_destroy = host_stream_destroy,
    .finish = host_finish,
    .event_create = host_event_create,
    .event_destroy = host_event_destroy,
    .event_record = host_event_record,
    .event_wait = host_event_wait,
    .event_seconds = host_event_seconds,
};

ht_status ht_device_open_host(ht_device **out) {
    ht_device *device = calloc(1, sizeof *device);
    if (!device)
        return ht_fail(HT_ERR_MEMORY, "host device: out of memory");
    device->backend = &backend;
    *out = device;
    return HT_OK;
}
