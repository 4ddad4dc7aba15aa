/* What a kind of device provides; device.c forwards to it. */
#ifndef HT_DEVICE_BACKEND_H
#define HT_DEVICE_BACKEND_H

#include "device/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_device_backend {
    void (*close)(ht_device *device);
    ht_status (*describe)(const ht_device *device, ht_device_info *out);
    ht_status (*allocate)(ht_device *device, size_t bytes, void **out);
    void (*release)(ht_device *device, void *memory);
    ht_status (*allocate_on)(ht_device *device, size_t bytes, ht_stream *stream, void **out);
    ht_status (*release_on)(ht_device *device, void *memory, ht_stream *stream);
    ht_status (*allocate_staging)(ht_device *device, size_t bytes, void **out);
    void (*release_staging)(ht_device *device, void *memory);
    ht_status (*copy)(ht_device *device, void *to, const void *from, size_t bytes, ht_copy_kind kind,
                      ht_stream *stream);
    ht_status (*fill)(ht_device *device, void *memory, uint8_t byte, size_t bytes, ht_stream *stream);
    ht_status (*stream_create)(ht_device *device, ht_stream **out);
    void (*stream_destroy)(ht_device *device, ht_stream *stream);
    ht_status (*finish)(ht_device *device, ht_stream *stream);
    ht_status (*event_create)(ht_device *device, ht_event **out);
    void (*event_destroy)(ht_device *device, ht_event *event);
    ht_status (*event_record)(ht_device *device, ht_event *event, ht_stream *stream);
    ht_status (*event_wait)(ht_device *device, ht_event *event, ht_stream *stream);
    ht_status (*event_seconds)(ht_device *device, ht_event *from, ht_event *to, double *out);
} ht_device_backend;

struct ht_device {
    const ht_device_backend *backend;
    int index; /* CUDA ordinal; 0 for the host */
};

/* selector: what follows "cuda:", or "" for the first. cuda.cu, or absent.c in a build without CUDA. */
ht_status ht_device_open_cuda(const char *selector, ht_device **out);
ht_status ht_device_open_host(ht_device **out); /* host.c */

#ifdef __cplusplus
}
#endif
#endif
