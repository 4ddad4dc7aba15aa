/* Where tensors live: the host, or one GPU. Memory, copies, streams and timing behind one table of calls.
 *
 *     ht_device *gpu = NULL;
 *     HT_TRY(ht_device_open("cuda", &gpu));
 *     HT_TRY(ht_device_allocate(gpu, bytes, &x));
 *     HT_TRY(ht_device_copy(gpu, x, host, bytes, HT_COPY_TO_DEVICE, NULL));
 *
 * Work goes to streams in order; a NULL stream is the device's own first stream. Copies and fills on a stream return
 * before they are done unless the host's memory is pageable; ht_device_finish waits. Failures carry the toolkit's own
 * message. A build without CUDA opens "cpu" only and answers UNSUPPORTED to the rest. */
#ifndef HT_DEVICE_DEVICE_H
#define HT_DEVICE_DEVICE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_device ht_device;
typedef struct ht_stream ht_stream;
typedef struct ht_event ht_event;

typedef enum ht_copy_kind { HT_COPY_TO_DEVICE, HT_COPY_TO_HOST, HT_COPY_ON_DEVICE } ht_copy_kind;

/* What `doctor` prints. */
typedef struct ht_device_info {
    char name[96];
    char pci[24]; /* "0000:41:00.0"; "" for the host */
    size_t memory_bytes, free_bytes;
    int capability; /* 90 for compute capability 9.0; 0 for the host */
    int multiprocessors;
    size_t l2_bytes, shared_bytes;       /* shared memory a block may take */
    int driver_version, runtime_version; /* as the toolkit counts: 13000 */
} ht_device_info;

/* Open by name: "cpu", "cuda" (the first), "cuda:<index>" or "cuda:<pci id>". *out is NULL on failure.
 * Fails with ARGUMENT (no such name), UNSUPPORTED (no CUDA in this build, no driver, no GPU), MEMORY, DEVICE. */
ht_status ht_device_open(const char *name, ht_device **out);
void ht_device_close(ht_device *device); /* accepts NULL; its memory, streams and events must be gone */

ht_status ht_device_describe(const ht_device *device, ht_device_info *out);
int ht_device_is_host(const ht_device *device);

/* Number of GPUs this process sees; 0 without CUDA, a driver or a GPU. Never fails. */
int ht_cuda_count(void);

/* 256-byte aligned memory on the device; release accepts NULL. Stream-ordered forms reuse the device's pool without a
 * synchronisation: the memory is valid for work enqueued after the call on the same stream. */
ht_status ht_device_allocate(ht_device *device, size_t bytes, void **out);
void ht_device_release(ht_device *device, void *memory);
ht_status ht_device_allocate_on(ht_device *device, size_t bytes, ht_stream *stream, void **out);
ht_status ht_device_release_on(ht_device *device, void *memory, ht_stream *stream);

/* Page-locked host memory: copies from and to it run beside computation. */
ht_status ht_device_allocate_staging(ht_device *device, size_t bytes, void **out);
void ht_device_release_staging(ht_device *device, void *memory);

ht_status ht_device_copy(ht_device *device, void *to, const void *from, size_t bytes, ht_copy_kind kind,
                         ht_stream *stream);
ht_status ht_device_fill(ht_device *device, void *memory, uint8_t byte, size_t bytes, ht_stream *stream);

ht_status ht_device_stream_create(ht_device *device, ht_stream **out);
void ht_device_stream_destroy(ht_device *device, ht_stream *stream);
/* Wait for everything on the stream (NULL: on the device). Reports failures of work enqueued before. */
ht_status ht_device_finish(ht_device *device, ht_stream *stream);

ht_status ht_device_event_create(ht_device *device, ht_event **out);
void ht_device_event_destroy(ht_device *device, ht_event *event);
ht_status ht_device_event_record(ht_device *device, ht_event *event, ht_stream *stream);
/* Later work on the stream waits for the event. */
ht_status ht_device_event_wait(ht_device *device, ht_event *event, ht_stream *stream);
/* Seconds between two recorded events; waits for the second. */
ht_status ht_device_event_seconds(ht_device *device, ht_event *from, ht_event *to, double *out);

#ifdef __cplusplus
}
#endif
#endif
