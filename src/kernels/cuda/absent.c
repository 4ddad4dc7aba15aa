/* The CUDA kernels of a build without CUDA: every call says so.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cuda.h"

#include "base/status.h"

static ht_status absent(const char *what) {
    return ht_fail(HT_ERR_UNSUPPORTED, "%s: this build has no CUDA; configure with HT_CUDA=ON", what);
}

ht_status ht_cuda_gemm(const ht_cuda_gemm_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda gemm");
}

ht_status ht_cuda_cast_mxfp8(const ht_cuda_mxfp8_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda mxfp8 cast");
}

size_t ht_cuda_gemv_packed_bytes(ht_gemv_weight kind, size_t n, size_t k) {
    (void)kind, (void)n, (void)k;
    return 0;
}

ht_status ht_cuda_gemv_pack(ht_gemv_weight kind, const void *codes, const void *scales, size_t n, size_t k,
                            void *packed, ht_stream *stream) {
    (void)kind, (void)codes, (void)scales, (void)n, (void)k, (void)packed, (void)stream;
    return absent("cuda gemv");
}

ht_status ht_cuda_gemv(ht_gemv_weight kind, const void *packed, size_t n, size_t k, const void *x, size_t m, void *y,
                       ht_stream *stream) {
    (void)kind, (void)packed, (void)n, (void)k, (void)x, (void)m, (void)y, (void)stream;
    return absent("cuda gemv");
}
