/* Names of the CUDA kernels, for reports; in every build.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cuda.h"

const char *ht_gemm_kernel_name(ht_gemm_kernel kernel) {
    static const char *const names[HT_GEMM_KERNEL_COUNT] = {
        [HT_GEMM_AUTO] = "auto",
        [HT_GEMM_PORTABLE] = "portable",
        [HT_GEMM_SM90_128X256] = "sm90_128x256",
        [HT_GEMM_SM90_128X192] = "sm90_128x192",
        [HT_GEMM_SM90_128X128] = "sm90_128x128",
        [HT_GEMM_SM90_SINGLE] = "sm90_single",
    };
    return (size_t)kernel < HT_GEMM_KERNEL_COUNT ? names[kernel] : NULL;
}
