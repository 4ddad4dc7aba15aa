/* The device layer of a build without CUDA: no GPU is seen, and asking for one says why.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "device/backend.h"

#include "base/status.h"

int ht_cuda_count(void) {
    return 0;
}

ht_status ht_device_open_cuda(const char *selector, ht_device **out) {
    *out = NULL;
    return ht_fail(HT_ERR_UNSUPPORTED, "device cuda%s%s: this build has no CUDA; configure with HT_CUDA=ON",
                   *selector ? ":" : "", selector);
}
