/* The calls of format.h that go through a codec: checks that hold for every family, then the family's function.
 *
 * The codec table is the only place where a family becomes code.
 * Refuses: shapes the family cannot hold, families without an encoder, values that are not f32, bf16 or f16, and
 * missing planes. Source: format.h.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include "base/status.h"
#include "format/codec.h"

/* clang-format off */
static const ht_codec *const codecs[HT_FAMILY_COUNT] = {
    [HT_FAMILY_PLAIN] = &ht_codec_plain,
    [HT_FAMILY_MX] = &ht_codec_mx,
    [HT_FAMILY_NVFP4] = &ht_codec_nvfp4,
    [HT_FAMILY_FLOAT8] = &ht_codec_float8,
    [HT_FAMILY_INT] = &ht_codec_int,
    [HT_FAMILY_CODEBOOK] = &ht_codec_codebook,
    [HT_FAMILY_MAP] = &ht_codec_map,
    [HT_FAMILY_GGUF] = &ht_codec_gguf,
    [HT_FAMILY_LUT] = &ht_codec_lut,
};
/* clang-format on */

enum { NAME_BYTES = 96 };

static const ht_codec *codec_of(const ht_format *format) {
    static const ht_codec none = {0};
    const ht_codec *codec = (unsigned)format->family < HT_FAMILY_COUNT ? codecs[format->family] : NULL;
    return codec ? codec : &none;
}

ht_row_options ht_row_options_default(void) {
    return (ht_row_options){.arithmetic = HT_F32, .nvfp4_rule = HT_NVFP4_TRAINING};
}

static ht_row_options filled(const ht_row_options *options) {
    ht_row_options result = options ? *options : ht_row_options_default();
    if (result.arithmetic == HT_DTYPE_NONE)
        result.arithmetic = HT_F32;
    return result;
}

ht_status ht_format_check_shape(const ht_format *format, size_t rows, size_t cols) {
    if (ht_format_bytes(format, rows, cols) == SIZE_MAX)
        return ht_fail(HT_ERR_SHAPE, "format: %zu x %zu values are too many for this machine", rows, cols);
    const ht_codec *codec = codec_of(format);
    return codec->check_shape ? codec->check_shape(format, rows, cols) : HT_OK;
}

/* Every plane that the format has and the matrix needs must be given. */
static ht_status check_planes(const ht_format *format, const ht_planes *planes, size_t rows, size_t cols) {
    static const char *const names[HT_PLANE_COUNT] = {"codes", "scales", "zeros", "scales2", "global"};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        if (!planes->plane[plane] && ht_format_plane_bytes(format, (ht_plane)plane, rows, cols)) {
            char name[NAME_BYTES];
            ht_format_name(format, name, sizeof name);
            return ht_fail(HT_ERR_ARGUMENT, "%s: the %s plane is missing", name, names[plane]);
        }
    return HT_OK;
}

ht_status ht_format_quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                             size_t rows, size_t cols, const ht_planes *out) {
    const ht_codec *codec = codec_of(format);
    char name[NAME_BYTES];
    if (!codec->quantize) {
        ht_format_name(format, name, sizeof name);
        return ht_fail(HT_ERR_FORMAT, "%s has no encoder", name);
    }
    if (x_dtype != HT_F32 && x_dtype != HT_BF16 && x_dtype != HT_F16) {
        ht_format_name(format, name, sizeof name);
        return ht_fail(HT_ERR_UNSUPPORTED, "%s: values are %s; f32, bf16 or f16 is needed", name,
                       ht_dtype_name(x_dtype));
    }
    HT_TRY(ht_format_check_shape(format, rows, cols));
    HT_TRY(check_planes(format, out, rows, cols));
    if (rows == 0 || cols == 0)
        return HT_OK;
    ht_row_options all = filled(options);
    return codec->quantize(format, &all, x, x_dtype, rows, cols, out);
}

ht_status ht_format_dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    const ht_codec *codec = codec_of(format);
    if (!codec->dequantize)
        return ht_fail(HT_ERR_FORMAT, "format family %d has no decoder", (int)format->family);
    HT_TRY(ht_format_check_shape(format, rows, cols));
    HT_TRY(check_planes(format, in, rows, cols));
    if (rows == 0 || cols == 0)
        return HT_OK;
    return codec->dequantize(format, in, rows, cols, out);
}

float ht_format_global(const ht_format *format, const ht_row_options *options, const ht_range *range) {
    const ht_codec *codec = codec_of(format);
    ht_row_options all = filled(options);
    return codec->global && format->global != HT_DTYPE_NONE ? codec->global(format, &all, range) : 1.0f;
}

ht_status ht_format_scale(const ht_format *format, const ht_row_options *options, const ht_range *range, float *scale,
                          float *zero) {
    const ht_codec *codec = codec_of(format);
    float both[2] = {1, 0};
    if (!codec->scale) {
        char name[NAME_BYTES];
        ht_format_name(format, name, sizeof name);
        return ht_fail(HT_ERR_FORMAT, "%s: a range does not determine a scale", name);
    }
    ht_row_options all = filled(options);
    codec->scale(format, &all, range, &both[0], &both[1]);
    if (scale)
        *scale = both[0];
    if (zero)
        *zero = both[1];
    return HT_OK;
}
