/* SPDX-License-Identifier: BSD-3-Clause */
#include <string.h>

#include <halftone/about.h>

#include "support/check.h"

static void test_every_library_says_its_version(void) {
    ht_library_info info;
    size_t count = 0;
    int json = 0;
    for (; ht_library_list(count, &info); count++) {
        CHECK(info.name[0] && info.use[0]);
        CHECK(strpbrk(info.version, "0123456789") != NULL);
        json |= strcmp(info.use, "JSON") == 0;
    }
    CHECK_INT(count, 5);
    CHECK(json);
    CHECK_INT(ht_library_list((size_t)-1, &info), 0);
}

int main(void) {
    RUN(test_every_library_says_its_version);
    return check_finish();
}
