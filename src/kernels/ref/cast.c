/* Casts, for any machine: the format layer, which defines the bits; the sums of squares; and which casts the vector
 * variants take.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cast.h"

#include "base/status.h"
#include "format/lanes.h"

enum { LANES = 8, SPAN = 1024 };

ht_status ht_quantize_ref(const ht_cast *cast) {
    HT_TRY(
        ht_format_quantize(cast->format, cast->options, cast->x, cast->x_dtype, cast->rows, cast->cols, cast->planes));
    return cast->decoded ? ht_format_dequantize(cast->format, cast->planes, cast->rows, cast->cols, cast->decoded)
                         : HT_OK;
}

ht_status ht_dequantize_ref(const ht_uncast *uncast) {
    if (uncast->y_dtype != HT_F32)
        return ht_fail(HT_ERR_UNSUPPORTED, "dequantize: the reference writes f32, not %s",
                       ht_dtype_name(uncast->y_dtype));
    return ht_format_dequantize(uncast->format, uncast->planes, uncast->rows, uncast->cols, uncast->y);
}

static void add_squares(const float *x, const float *y, size_t n, double error[LANES], double reference[LANES]) {
    for (size_t i = 0; i < n; i += LANES)
        for (size_t lane = 0; lane < LANES && i + lane < n; lane++) {
            double a = (double)x[i + lane], d = a - (double)y[i + lane];
            error[lane] += d * d;
            reference[lane] += a * a;
        }
}

static double fold(const double lane[LANES]) {
    return ((lane[0] + lane[4]) + (lane[2] + lane[6])) + ((lane[1] + lane[5]) + (lane[3] + lane[7]));
}

ht_square_sums ht_tally_ref(const void *x, ht_dtype x_dtype, const float *y, size_t n) {
    ht_square_sums sums = {0, 0};
    for (size_t at = 0; at < n; at += SPAN) {
        double error[LANES] = {0}, reference[LANES] = {0};
        float wide[SPAN];
        size_t count = n - at < SPAN ? n - at : SPAN;
        ht_lanes_load(x, x_dtype, at, count, wide);
        add_squares(wide, y + at, count, error, reference);
        sums.error += fold(error);
        sums.reference += fold(reference);
    }
    return sums;
}

/* --- What the variants take ------------------------------------------------------------------------------- */

/* Shape and planes are in order. */
static int is_complete(const ht_format *format, ht_family family, const ht_planes *planes, size_t rows, size_t cols) {
    if (format->family != family || !rows || !cols)
        return 0;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        if (!planes->plane[plane] && ht_format_plane_bytes(format, (ht_plane)plane, rows, cols))
            return 0;
    return ht_format_check_shape(format, rows, cols) == HT_OK;
}

/* Besides, steps are f32, and values are of a type that can be read. */
static int is_plain(const ht_cast *cast, ht_family family) {
    ht_dtype type = cast->x_dtype;
    return cast->options->arithmetic == HT_F32 && (type == HT_F32 || type == HT_BF16 || type == HT_F16) &&
           is_complete(cast->format, family, cast->planes, cast->rows, cast->cols);
}

static int is_readable(const ht_uncast *uncast, ht_family family) {
    return (uncast->y_dtype == HT_F32 || uncast->y_dtype == HT_BF16) &&
           is_complete(uncast->format, family, uncast->planes, uncast->rows, uncast->cols);
}

static int is_mx_element(const ht_format *format) {
    unsigned bits = ht_dtype_bits(format->element);
    return format->element != HT_F8_E4M3FNUZ && format->element != HT_F8_E5M2FNUZ &&
           (bits == 8 || (bits == 6 && format->packing == HT_PACK_BITS) ||
            (bits == 4 && format->packing != HT_PACK_BYTES));
}

static int is_ieee(const ht_format *format) {
    return format->element == HT_F8_E4M3 || format->element == HT_F8_E5M2;
}

int ht_cast_is_mx(const ht_cast *cast) {
    return is_plain(cast, HT_FAMILY_MX) && is_mx_element(cast->format);
}

int ht_cast_is_nvfp4(const ht_cast *cast) {
    return is_plain(cast, HT_FAMILY_NVFP4) && cast->format->block_rows == 1 &&
           cast->options->scale_rule < HT_SCALE_MSE; /* no search */
}

int ht_cast_is_float8(const ht_cast *cast) {
    return is_plain(cast, HT_FAMILY_FLOAT8) && cast->options->scale_rule != HT_SCALE_MSE && is_ieee(cast->format);
}

int ht_cast_is_int(const ht_cast *cast) {
    const ht_format *format = cast->format;
    int float_zero = format->zero == HT_F32 || format->zero == HT_BF16 || format->zero == HT_F16;
    return is_plain(cast, HT_FAMILY_INT) && cast->options->scale_rule != HT_SCALE_MSE && format->block_rows == 1 &&
           !float_zero && !(cast->options->scale > 0 && format->zero != HT_DTYPE_NONE);
}

int ht_uncast_is_mx(const ht_uncast *uncast) {
    return is_readable(uncast, HT_FAMILY_MX) && is_mx_element(uncast->format);
}

int ht_uncast_is_nvfp4(const ht_uncast *uncast) {
    return is_readable(uncast, HT_FAMILY_NVFP4);
}

int ht_uncast_is_float8(const ht_uncast *uncast) {
    return is_readable(uncast, HT_FAMILY_FLOAT8) && is_ieee(uncast->format);
}

int ht_uncast_is_int(const ht_uncast *uncast) {
    return is_readable(uncast, HT_FAMILY_INT);
}

int ht_decode_is_cast(const ht_weight *weight) {
    ht_planes planes = ht_weight_planes(weight, 0);
    const ht_uncast uncast = {
        .format = &weight->format, .planes = &planes, .rows = weight->rows, .cols = weight->cols, .y_dtype = HT_F32};
    return !weight->transposed && (ht_uncast_is_mx(&uncast) || ht_uncast_is_nvfp4(&uncast) ||
                                   ht_uncast_is_float8(&uncast) || ht_uncast_is_int(&uncast));
}
