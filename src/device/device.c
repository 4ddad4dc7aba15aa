/* Devices by name, and the forwarding of every call to the device's backend (backend.h).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "device/device.h"

#include <string.h> /* strcmp, strncmp */

#include "base/status.h"
#include "device/backend.h"

ht_status ht_device_open(const char *name, ht_device **out) {
    *out = NULL;
    if (!name || strcmp(name, "cpu") == 0)
        return ht_device_open_host(out);
    if (strcmp(name, "cuda") == 0)
        return ht_device_open_cuda("", out);
    if (strncmp(name, "cuda:", 5) == 0 && name[5])
        return ht_device_open_cuda(name + 5, out);
    return ht_fail(HT_ERR_ARGUMENT, "device '%s' is unknown; write cpu, cuda, cuda:<index> or cuda:<pci id>", name);
}

void ht_device_close(ht_device *device) {
    if (device)
        device->backend->close(device);
}

ht_status ht_device_describe(const ht_device *device, ht_device_info *out) {
    memset(out, 0, sizeof *out);
    return device->backend->describe(device, out);
}

int ht_device_is_host(const ht_device *device) {
    ht_device_info info;
    return ht_device_describe(device, &info) == HT_OK && info.capability == 0;
}

ht_status ht_device_allocate(ht_device *device, size_t bytes, void **out) {
    *out = NULL;
    return device->backend->allocate(device, bytes, out);
}

void ht_device_release(ht_device *device, void *memory) {
    if (memory)
        device->backend->release(device, memory);
}

ht_status ht_device_allocate_on(ht_device *device, size_t bytes, ht_stream *stream, void **out) {
    *out = NULL;
    return device->backend->allocate_on(device, bytes, stream, out);
}

ht_status ht_device_release_on(ht_device *device, void *memory, ht_stream *stream) {
    return memory ? device->backend->release_on(device, memory, stream) : HT_OK;
}

ht_status ht_device_allocate_staging(ht_device *device, size_t bytes, void **out) {
    *out = NULL;
    return device->backend->allocate_staging(device, bytes, out);
}

void ht_device_release_staging(ht_device *device, void *memory) {
    if (memory)
        device->backend->release_staging(device, memory);
}

ht_status ht_device_copy(ht_device *device, void *to, const void *from, size_t bytes, ht_copy_kind kind,
                         ht_stream *stream) {
    return bytes ? device->backend->copy(device, to, from, bytes, kind, stream) : HT_OK;
}

ht_status ht_device_fill(ht_device *device, void *memory, uint8_t byte, size_t bytes, ht_stream *stream) {
    return bytes ? device->backend->fill(device, memory, byte, bytes, stream) : HT_OK;
}

ht_status ht_device_stream_create(ht_device *device, ht_stream **out) {
    *out = NULL;
    return device->backend->stream_create(device, out);
}

void ht_device_stream_destroy(ht_device *device, ht_stream *stream) {
    if (stream)
        device->backend->stream_destroy(device, stream);
}

ht_status ht_device_finish(ht_device *device, ht_stream *stream) {
    return device->backend->finish(device, stream);
}

ht_status ht_device_event_create(ht_device *device, ht_event **out) {
    *out = NULL;
    return device->backend->event_create(device, out);
}

void ht_device_event_destroy(ht_device *device, ht_event *event) {
    if (event)
        device->backend->event_destroy(device, event);
}

ht_status ht_device_event_record(ht_device *device, ht_event *event, ht_stream *stream) {
    return device->backend->event_record(device, event, stream);
}

ht_status ht_device_event_wait(ht_device *device, ht_event *event, ht_stream *stream) {
    return device->backend->event_wait(device, event, stream);
}

ht_status ht_device_event_seconds(ht_device *device, ht_event *from, ht_event *to, double *out) {
    *out = 0;
    return device->backend->event_seconds(device, from, to, out);
}
