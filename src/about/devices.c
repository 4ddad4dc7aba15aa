/* The devices a context can be made for: the host.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/about.h>

#include <stdio.h>  /* snprintf */
#include <string.h> /* memset */
#include <unistd.h> /* sysconf */

int ht_device_list(size_t index, ht_device_entry *out) {
    if (index > 0)
        return 0;
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "cpu");
    snprintf(out->description, sizeof out->description, "host, %ld processors online", sysconf(_SC_NPROCESSORS_ONLN));
    out->memory_bytes = page * (size_t)sysconf(_SC_PHYS_PAGES);
    out->free_bytes = page * (size_t)sysconf(_SC_AVPHYS_PAGES);
    return 1;
}
