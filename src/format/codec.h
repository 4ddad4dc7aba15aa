/* A codec: the functions of one format family. table.c holds the table, indexed by ht_family; nothing outside it
 * asks which family a format belongs to. */
#ifndef HT_FORMAT_CODEC_H
#define HT_FORMAT_CODEC_H

#include <halftone/format.h>

typedef struct ht_codec {
    /* HT_OK, or SHAPE with the reason. NULL: every shape is fine. */
    ht_status (*check_shape)(const ht_format *format, size_t rows, size_t cols);
    /* Number of HT_PLANE_GLOBAL for a matrix of this range. NULL: the family has none. */
    float (*global)(const ht_format *format, const ht_row_options *options, const ht_range *range);
    /* Choose scales, encode, pack. Shapes are checked, options filled in. NULL: no encoder. */
    ht_status (*quantize)(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out);
    ht_status (*dequantize)(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out);
    /* Scale and zero point for values of a range (ht_format_scale). NULL: the family has no such scale. */
    void (*scale)(const ht_format *format, const ht_row_options *options, const ht_range *range, float *scale,
                  float *zero);
} ht_codec;

/* One per family, in the file named after it: plain.c mx.c nvfp4.c float8.c int.c codebook.c map.c gguf.c lut.c */
extern const ht_codec ht_codec_plain, ht_codec_mx, ht_codec_nvfp4, ht_codec_float8, ht_codec_int, ht_codec_codebook,
    ht_codec_map, ht_codec_gguf, ht_codec_lut;

#endif
