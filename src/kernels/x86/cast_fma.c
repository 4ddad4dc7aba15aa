/* Casts with AVX2: the bodies over two registers for sixteen lanes. Same bits as the reference.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cast.h"

#include "kernels/x86/wide_avx2.h"
#include "kernels/x86/wide_pack.h"

#include "kernels/body/cast.h"
#include "kernels/body/cast_decode.h"
#include "kernels/body/cast_float8.h"
#include "kernels/body/cast_int.h"
#include "kernels/body/cast_mx.h"
#include "kernels/body/cast_nvfp4.h"
#include "kernels/body/cast_range.h"
#include "kernels/body/cast_tally.h"

ht_status ht_quantize_mx_fma(const ht_cast *cast) {
    return quantize_mx(cast);
}

ht_status ht_quantize_nvfp4_fma(const ht_cast *cast) {
    return quantize_nvfp4(cast);
}

ht_status ht_quantize_float8_fma(const ht_cast *cast) {
    return quantize_float8(cast);
}

ht_status ht_quantize_int_fma(const ht_cast *cast) {
    return quantize_int(cast);
}

ht_square_sums ht_tally_fma(const void *x, ht_dtype x_dtype, const float *y, size_t n) {
    return tally(x, x_dtype, y, n);
}

ht_status ht_dequantize_mx_fma(const ht_uncast *uncast) {
    return dequantize_mx(uncast);
}

ht_status ht_dequantize_nvfp4_fma(const ht_uncast *uncast) {
    return dequantize_nvfp4(uncast);
}

ht_status ht_dequantize_float8_fma(const ht_uncast *uncast) {
    return dequantize_float8(uncast);
}

ht_status ht_dequantize_int_fma(const ht_uncast *uncast) {
    return dequantize_int(uncast);
}

ht_status ht_range_fma(ht_range *out, const void *x, ht_dtype dtype, size_t count) {
    return range(out, x, dtype, count);
}

void ht_decode_cast_fma(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    decode_cast(weight, index, row, count, out);
}
