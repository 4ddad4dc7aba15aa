/* Rows of a stored weight by the cast back of its family. Body of ht_decode_cast_*. */
#ifndef HT_KERNELS_BODY_CAST_DECODE_H
#define HT_KERNELS_BODY_CAST_DECODE_H

#include "kernels/body/cast_float8.h"
#include "kernels/body/cast_int.h"
#include "kernels/body/cast_mx.h"
#include "kernels/body/cast_nvfp4.h"

static inline void decode_cast(const ht_weight *weight, size_t index, size_t row, size_t count, float *out) {
    const ht_planes all = ht_weight_planes(weight, index);
    const ht_planes planes = ht_planes_at_row(&weight->format, &all, weight->cols, row);
    const ht_uncast uncast = {
        .format = &weight->format, .planes = &planes, .rows = count, .cols = weight->cols, .y = out, .y_dtype = HT_F32};
    if (weight->format.family == HT_FAMILY_MX)
        dequantize_mx(&uncast);
    else if (weight->format.family == HT_FAMILY_NVFP4)
        dequantize_nvfp4(&uncast);
    else if (weight->format.family == HT_FAMILY_FLOAT8)
        dequantize_float8(&uncast);
    else
        dequantize_int(&uncast);
}

#endif
