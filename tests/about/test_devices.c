/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/about.h>
#include <halftone/context.h>

#include "support/check.h"

/* Every listed device is one that a context can be made for; the host comes first. */
static void test_a_context_on_every_device(void) {
    ht_device_entry entry;
    size_t count = 0;
    for (; ht_device_list(count, &entry); count++) {
        ht_context_options options = ht_context_options_default();
        ht_context *ctx = NULL;
        options.device = entry.name;
        options.threads = 1;
        if (count == 0)
            CHECK_TEXT(entry.name, "cpu");
        CHECK(entry.memory_bytes >= entry.free_bytes && entry.memory_bytes > 0);
        CHECK_OK(ht_context_create(&options, &ctx));
        ht_context_destroy(ctx);
    }
    CHECK(count >= 1);
}

int main(void) {
    RUN(test_a_context_on_every_device);
    return check_finish();
}
