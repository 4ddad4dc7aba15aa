/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include <halftone/about.h>

#include "device/device.h"
#include "support/check.h"

/* The host comes first, then every GPU that is seen, under the name that opens it. */
static void test_every_device(void) {
    ht_device_entry entry;
    size_t count = 0;
    for (; ht_device_list(count, &entry); count++) {
        ht_device *device = NULL;
        CHECK(strncmp(entry.name, count ? "cuda:" : "cpu", count ? 5 : 4) == 0);
        CHECK(entry.description[0]);
        CHECK(entry.memory_bytes >= entry.free_bytes && entry.memory_bytes > 0);
        CHECK_OK(ht_device_open(entry.name, &device));
        ht_device_close(device);
    }
    CHECK_INT(count, 1 + ht_cuda_count());
    CHECK_INT(ht_device_list((size_t)-1, &entry), 0);
}

int main(void) {
    RUN(test_every_device);
    return check_finish();
}
