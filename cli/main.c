/* SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>

#include <halftone/halftone.h>

int main(void) {
    printf("halftone %s\n", ht_version());
    return 0;
}
