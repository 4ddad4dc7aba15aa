/* The CUDA kernels of a build without CUDA: every call says so.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/attention.h"
#include "kernels/cuda/cuda.h"

#include "base/status.h"

static ht_status absent(const char *what) {
    return ht_fail(HT_ERR_UNSUPPORTED, "%s: this build has no CUDA; configure with HT_CUDA=ON", what);
}

ht_status ht_cuda_gemm(const ht_cuda_gemm_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda gemm");
}

ht_status ht_cuda_gemm_block(const ht_cuda_gemm_block_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda block product");
}

ht_status ht_cuda_grouped(const ht_cuda_grouped_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda grouped product");
}

ht_status ht_cuda_cast_mxfp8(const ht_cuda_mxfp8_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda mxfp8 cast");
}

ht_status ht_cuda_cast_fp8_row(const void *x, size_t rows, size_t cols, uint8_t *codes, float *scales,
                               ht_stream *stream) {
    (void)x, (void)rows, (void)cols, (void)codes, (void)scales, (void)stream;
    return absent("cuda fp8 row cast");
}

ht_status ht_cuda_cast_fp8_block(const void *x, size_t rows, size_t cols, uint8_t *codes, float *scales, size_t lds,
                                 ht_stream *stream) {
    (void)x, (void)rows, (void)cols, (void)codes, (void)scales, (void)lds, (void)stream;
    return absent("cuda fp8 block cast");
}

ht_status ht_cuda_expand_mxfp8(const uint8_t *codes, const uint8_t *scales, size_t rows, size_t cols, void *out,
                               ht_stream *stream) {
    (void)codes, (void)scales, (void)rows, (void)cols, (void)out, (void)stream;
    return absent("cuda mxfp8 expansion");
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

ht_status ht_cuda_cast(const ht_cuda_cast_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda cast");
}

ht_status ht_cuda_amax(const void *x, ht_dtype x_dtype, size_t count, int skip_nan, uint32_t *bits, ht_stream *stream) {
    (void)x, (void)x_dtype, (void)count, (void)skip_nan, (void)bits, (void)stream;
    return absent("cuda amax");
}

ht_status ht_cuda_nvfp4_global(const ht_format *format, const ht_row_options *options, const uint32_t *amax_bits,
                               float *global, ht_stream *stream) {
    (void)format, (void)options, (void)amax_bits, (void)global, (void)stream;
    return absent("cuda cast");
}

ht_status ht_cuda_decode(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, void *out,
                         ht_dtype out_dtype, ht_stream *stream) {
    (void)format, (void)in, (void)rows, (void)cols, (void)out, (void)out_dtype, (void)stream;
    return absent("cuda decoding");
}

ht_status ht_cuda_cast_fp8_jagged(const void *x, size_t rows, size_t cols, const int32_t *offsets, size_t groups,
                                  int power_of_two, uint8_t *codes, float *scales, ht_stream *stream) {
    (void)x, (void)rows, (void)cols, (void)offsets, (void)groups, (void)power_of_two, (void)codes, (void)scales;
    (void)stream;
    return absent("cuda jagged cast");
}

ht_status ht_cuda_nvfp4_hadamard(const void *x, size_t rows, size_t cols, const int8_t *sign, void *out,
                                 ht_stream *stream) {
    (void)x, (void)rows, (void)cols, (void)sign, (void)out, (void)stream;
    return absent("cuda transform");
}

ht_status ht_cuda_fold_mxfp8(const uint8_t *codes, const uint8_t *scales, size_t rows, size_t cols, uint8_t *out,
                             float *out_scales, size_t lds, ht_stream *stream) {
    (void)codes, (void)scales, (void)rows, (void)cols, (void)out, (void)out_scales, (void)lds, (void)stream;
    return absent("cuda mxfp8 fold");
}

size_t ht_cuda_gemm_weight_scratch(size_t n, size_t k) {
    (void)n, (void)k;
    return 0;
}

ht_status ht_cuda_gemm_weight(const ht_cuda_gemm_weight_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda weight product");
}

size_t ht_cuda_gemm_mxfp8_scratch(size_t m, size_t n, size_t k, int folded) {
    (void)m, (void)n, (void)k, (void)folded;
    return 0;
}

ht_status ht_cuda_gemm_mxfp8(const ht_cuda_gemm_mxfp8_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda mxfp8 product");
}

const char *ht_cuda_attention_refuses(const ht_cuda_attention_args *args) {
    (void)args;
    return "this build has no CUDA";
}

ht_status ht_cuda_attention(const ht_cuda_attention_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda attention");
}

size_t ht_cuda_attention_quantized_bytes(size_t batch, size_t heads, size_t kv_heads, size_t q_rows, size_t kv_rows,
                                         size_t head_dim) {
    (void)batch, (void)heads, (void)kv_heads, (void)q_rows, (void)kv_rows, (void)head_dim;
    return 0;
}

ht_status ht_cuda_attention_quantize(const ht_cuda_attention_quantize_args *args, ht_stream *stream) {
    (void)args, (void)stream;
    return absent("cuda attention quantization");
}
