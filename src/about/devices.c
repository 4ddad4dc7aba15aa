/* The devices of this machine: the host, then the GPUs that this build and its driver see.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/about.h>

#include <stdio.h>  /* snprintf */
#include <string.h> /* memset */
#include <unistd.h> /* sysconf */

#include "device/device.h"

static void describe_host(ht_device_entry *out) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    snprintf(out->name, sizeof out->name, "cpu");
    snprintf(out->description, sizeof out->description, "host, %ld processors online", sysconf(_SC_NPROCESSORS_ONLN));
    out->memory_bytes = page * (size_t)sysconf(_SC_PHYS_PAGES);
    out->free_bytes = page * (size_t)sysconf(_SC_AVPHYS_PAGES);
}

/* A GPU that cannot be opened is listed with the reason. */
static void describe_gpu(size_t index, ht_device_entry *out) {
    ht_device *device = NULL;
    ht_device_info info;
    snprintf(out->name, sizeof out->name, "cuda:%zu", index);
    ht_status status = ht_device_open(out->name, &device);
    if (status == HT_OK)
        status = ht_device_describe(device, &info);
    if (status == HT_OK) {
        snprintf(out->description, sizeof out->description, "%.80s, compute capability %d.%d", info.name,
                 info.capability / 10, info.capability % 10);
        out->memory_bytes = info.memory_bytes;
        out->free_bytes = info.free_bytes;
    } else {
        snprintf(out->description, sizeof out->description, "%s", ht_error_message());
    }
    ht_device_close(device);
}

int ht_device_list(size_t index, ht_device_entry *out) {
    if (index > 0 && index > (size_t)ht_cuda_count())
        return 0;
    memset(out, 0, sizeof *out);
    if (index == 0)
        describe_host(out);
    else
        describe_gpu(index - 1, out);
    return 1;
}
