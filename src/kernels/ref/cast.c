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

/* Shape and planes are in order, steps are f32, values are of a type that can be read. */
static int is_plain(const ht_cast *cast, ht_family family) {
    const ht_format *format = cast->format;
    if (format->family != family || cast->options->arithmetic != HT_F32 ||
        (cast->x_dtype != HT_F32 && cast->x_dtype != HT_BF16 && cast->x_dtype != HT_F16) || !cast->rows || !cast->cols)
        return 0;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        if (!cast->planes->plane[plane] && ht_format_plane_bytes(format, (ht_plane)plane, cast->rows, cast->cols))
            return 0;
    return ht_format_check_shape(format, cast->rows, cast->cols) == HT_OK;
}

int ht_cast_is_mx(const ht_cast *cast) {
    const ht_format *format = cast->format;
    unsigned bits = ht_dtype_bits(format->element);
    if (format->element == HT_F8_E4M3FNUZ || format->element == HT_F8_E5M2FNUZ)
        return 0;
    return is_plain(cast, HT_FAMILY_MX) && (bits == 8 || (bits == 6 && format->packing == HT_PACK_BITS) ||
                                            (bits == 4 && format->packing != HT_PACK_BYTES));
}

int ht_cast_is_nvfp4(const ht_cast *cast) {
    return is_plain(cast, HT_FAMILY_NVFP4) && cast->format->block_rows == 1 &&
           cast->options->scale_rule != HT_SCALE_MSE;
}

int ht_cast_is_float8(const ht_cast *cast) {
    const ht_format *format = cast->format;
    return is_plain(cast, HT_FAMILY_FLOAT8) && cast->options->scale_rule != HT_SCALE_MSE &&
           (format->element == HT_F8_E4M3 || format->element == HT_F8_E5M2);
}

int ht_cast_is_int(const ht_cast *cast) {
    const ht_format *format = cast->format;
    int float_zero = format->zero == HT_F32 || format->zero == HT_BF16 || format->zero == HT_F16;
    return is_plain(cast, HT_FAMILY_INT) && cast->options->scale_rule != HT_SCALE_MSE && format->block_rows == 1 &&
           !float_zero && !(cast->options->scale > 0 && format->zero != HT_DTYPE_NONE);
}
