/* Number formats: how a matrix of real numbers is stored in few bits, and how to get there and back.
 *
 * A format is a value: element code + scale code + block shape + packing. Nothing here allocates.
 *
 * Smallest use: store 64 values as MXFP4 and read them back.
 *     ht_format f;
 *     ht_format_parse("mxfp4", &f);
 *     uint8_t codes[32], scales[2];
 *     ht_planes p = {{codes, scales}};
 *     ht_format_quantize(&f, NULL, x, HT_F32, 1, 64, &p);
 *     ht_format_dequantize(&f, &p, 1, 64, y);
 *
 * A matrix is [rows, cols], row-major, blocks run along cols. Its parts lie in planes, each a contiguous
 * row-major array of its own (ht_format_plane_shape): codes, scales, zero points, scales of scales, and one
 * number for the whole matrix. GGUF block formats keep everything in the codes plane.
 */
#ifndef HT_FORMAT_H
#define HT_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>
#include <halftone/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Which code reads the blocks: the row of the codec table (src/format/table.c). */
typedef enum ht_family {
    HT_FAMILY_PLAIN,    /* one float per value, no scale: f32 bf16 f16 */
    HT_FAMILY_MX,       /* OCP microscaling: e8m0 scale per block */
    HT_FAMILY_NVFP4,    /* e2m1, e4m3 scale per 16, optional f32 scale per matrix */
    HT_FAMILY_FLOAT8,   /* e4m3/e5m2 with f32 scale per matrix, row or tile */
    HT_FAMILY_INT,      /* affine integers, 1 to 8 bits */
    HT_FAMILY_CODEBOOK, /* 16 fixed values times a scale: nf4, fp4 */
    HT_FAMILY_MAP,      /* optimizer state: dynamic 8-bit and 4-bit maps */
    HT_FAMILY_GGUF,     /* GGUF blocks: everything in one plane */
    HT_FAMILY_LUT,      /* a table of 2^bits values per tile, stored with the matrix */
    HT_FAMILY_COUNT
} ht_family;

/* Order of codes narrower than a byte. */
typedef enum ht_packing {
    HT_PACK_BYTES, /* one code a byte (or the dtype's own size) */
    HT_PACK_LOW,   /* 4 bits, element 2j in the low nibble */
    HT_PACK_HIGH,  /* 4 bits, element 2j in the high nibble */
    HT_PACK_BITS,  /* LSB-first bit stream along the row, rows padded to bytes */
    HT_PACK_WORDS, /* LSB-first bit stream along the row, rows padded to 32-bit words; signed + 2^(bits-1) */
    HT_PACK_BLOCK  /* inside a GGUF block */
} ht_packing;

typedef enum ht_plane {
    HT_PLANE_CODES,
    HT_PLANE_SCALES,
    HT_PLANE_ZEROS,   /* zero points, one per scale */
    HT_PLANE_SCALES2, /* scales of the scales (double quantization) */
    HT_PLANE_GLOBAL,  /* one number for the matrix */
    HT_PLANE_COUNT
} ht_plane;

/* How the number of HT_PLANE_GLOBAL g enters: value = code * (scale * g) or code * (scale / g). */
typedef enum ht_global_rule { HT_GLOBAL_MULTIPLIES, HT_GLOBAL_DIVIDES } ht_global_rule;

typedef struct ht_format {
    ht_family family;
    ht_dtype element;
    ht_dtype scale;  /* HT_DTYPE_NONE: no scales plane */
    ht_dtype zero;   /* HT_DTYPE_NONE: symmetric. Integer: value = (code - zero) * scale; float: code * scale + zero */
    ht_dtype scale2; /* HT_DTYPE_NONE: scales are not quantized themselves */
    ht_dtype global; /* HT_DTYPE_NONE or HT_F32 */
    uint32_t block_rows; /* values that share a scale: block_rows x block_cols; 0 = the whole extent */
    uint32_t block_cols;
    uint32_t block2; /* scales of a row that share one scale2 (fewer at its end); 0 = none */
    ht_packing packing;
    ht_global_rule global_rule;
    uint16_t variant;     /* codebook or GGUF type number (GGUF's own ids); 0 elsewhere */
    uint16_t block_bytes; /* bytes of one GGUF block; 0 elsewhere */
} ht_format;

/* Parse a text name, case ignored, '-' and '_' alike:
 *   f32 bf16 f16 | mxfp8 (e4m3) mxfp8_e5m2 mxfp6_e2m3 mxfp6_e3m2 mxfp4 mxint8 | nvfp4 nvfp4_single
 *   fp8_tensor fp8_row fp8_block fp8_g128 (and fp8_e5m2_...)
 *   int<1..8>_<g<16..256>|row|tensor|token>[_asym|_float0], uint<1..8>_...: groups are multiples of 8
 *   nf4 fp4 nf4_flat fp4_flat (no double quantization) nf4_torchao
 *   lut<1..8>_g<16..256>: 16 rows of a group of columns share a table
 *   map8_signed map8_unsigned map4_signed map4_unsigned | q4_0 q4_1 q5_0 ... iq4_xs (GGUF)
 * and a suffix where a part differs from the usual: _bytes _low _high _bits _words (packing), _scale_bf16 _scale_f16,
 * _pts (nvfp4: the global number multiplies; nvfp4 itself divides by it, as compressed-tensors stores it).
 * Fails with FORMAT, naming the nearest known name. */
HT_API ht_status ht_format_parse(const char *name, ht_format *out);

/* Canonical name into buffer; returns its length, as snprintf. ht_format_parse reads it back. */
HT_API size_t ht_format_name(const ht_format *format, char *buffer, size_t size);

/* Every named format, for lists: NULL past the end. Parameterized ones appear as patterns ("int<bits>_g<group>"). */
typedef struct ht_format_info {
    const char *name;
    const char *summary;   /* one line */
    double bits_per_value; /* at large sizes; 0 when it depends on a parameter */
    int has_encoder;
} ht_format_info;
HT_API const ht_format_info *ht_format_list(size_t index);

HT_API int ht_format_equal(const ht_format *a, const ht_format *b);

/* HT_OK when a [rows, cols] matrix can be stored (block sizes divide, dimensions not zero where that matters);
 * otherwise SHAPE with the reason. */
HT_API ht_status ht_format_check_shape(const ht_format *format, size_t rows, size_t cols);

/* dtype (HT_DTYPE_NONE if the plane is absent) and shape [2] of a plane in storage units: packed codes are
 * HT_U8 (HT_I32 words for HT_PACK_WORDS), GGUF blocks HT_U8. */
HT_API ht_dtype ht_format_plane_shape(const ht_format *format, ht_plane plane, size_t rows, size_t cols,
                                      size_t shape[2]);
HT_API size_t ht_format_plane_bytes(const ht_format *format, ht_plane plane, size_t rows, size_t cols);
HT_API size_t ht_format_bytes(const ht_format *format, size_t rows, size_t cols); /* all planes */
HT_API double ht_format_bits_per_value(const ht_format *format, size_t rows, size_t cols);

/* Rows that a slice must be a multiple of so that it can be quantized alone: 1, or block_rows. SIZE_MAX when one scale
 * belongs to the whole matrix: quantize it whole, or give options.scale. */
HT_API size_t ht_format_row_step(const ht_format *format);

typedef struct ht_planes {
    void *plane[HT_PLANE_COUNT];
} ht_planes;

/* The planes of the rows from `row` on (row a multiple of ht_format_row_step, or any row if that is SIZE_MAX). Planes
 * of one number for the matrix stay. */
HT_API ht_planes ht_planes_at_row(const ht_format *format, const ht_planes *planes, size_t cols, size_t row);

/* --- Choosing scales ------------------------------------------------------------------------------- */

/* MX scale rules (formats.md 2.2). MSE: the FLOOR exponent or one more, whichever leaves the smaller squared
 * error of the block; ties to FLOOR. */
typedef enum ht_scale_rule {
    HT_SCALE_DEFAULT, /* MX: MSE for weights; NVFP4, FLOAT8, INT: per formula */
    HT_SCALE_FLOOR,
    HT_SCALE_RCEIL,
    HT_SCALE_CEIL,
    HT_SCALE_EVEN,
    HT_SCALE_MSE,      /* also NVFP4/INT/FLOAT8: search of clipped scales, smallest squared error */
    HT_SCALE_EVEN_FP4, /* EVEN with the threshold of e2m1 (1.75) for every element: compressed-tensors mxfp8 */
    /* NVFP4 (four over six): the largest value of a block becomes 6 or 4, whichever leaves the smaller sum of squares,
     * of magnitudes, or largest error; ties to 6. The matrix' number leaves room for the larger scale. */
    HT_SCALE_FOUR_SIX,
    HT_SCALE_FOUR_SIX_MAE,
    HT_SCALE_FOUR_SIX_MAX
} ht_scale_rule;

/* Integer scales (formats.md 6.2). */
typedef enum ht_int_rule {
    HT_INT_SYMMETRIC, /* amax / ((qmax - qmin) / 2): int8 /127.5, int4 /7.5 */
    HT_INT_NO_CLIP,   /* max(min / qmin, max / qmax) */
    HT_INT_FULL       /* amax / -qmin: torchao plain int4, amax / 8; epsilon bounds amax (range), not the scale */
} ht_int_rule;

/* How a value becomes an integer code. */
typedef enum ht_code_rule {
    HT_CODE_RECIPROCAL, /* round(x * (1 / scale)) + zero: torchao */
    HT_CODE_DIVIDE      /* round(x / scale + zero): compressed-tensors */
} ht_code_rule;

/* NVFP4 block scales: lower clamp 2^-6 (torchao inference) or none, zero-safe (training recipe). */
typedef enum ht_nvfp4_rule { HT_NVFP4_INFERENCE, HT_NVFP4_TRAINING } ht_nvfp4_rule;

typedef struct ht_row_options {
    ht_scale_rule scale_rule;
    ht_int_rule int_rule;
    ht_nvfp4_rule nvfp4_rule;
    ht_dtype arithmetic;    /* HT_F32, or HT_BF16/HT_F16: round every step of the scale computation as torch does */
    int power_of_two;       /* FLOAT8: scale rounded to a power of two */
    float amax_lower;       /* FLOAT8: clamp of amax; 0 = none */
    float amax_upper;       /* 0 = none */
    float epsilon;          /* smallest scale (INT), or amax where a format says so; 0 = the format's own */
    int qmin, qmax;         /* INT: both 0 = the full range of the element */
    ht_code_rule code_rule; /* INT */
    int raw_range;          /* INT with a zero point: the range of the values as it is, not widened to contain 0 */
    float
        scale; /* INT, FLOAT8: this scale for every block (static activations; slices of a matrix that has one scale, */
    float zero; /* see ht_format_scale), and the zero point that goes with it. scale 0 = both from the data */
} ht_row_options;

HT_API ht_row_options ht_row_options_default(void);

/* What a scan of the matrix says: needed before quantizing when the format has a number per matrix. */
typedef struct ht_range {
    float min, max, amax; /* over the finite and infinite values */
    int has_nan;
    int has_inf;
} ht_range;
HT_API ht_range ht_range_empty(void);
/* Widen *range by count values of a float dtype. Order does not matter. Fails with UNSUPPORTED for other dtypes. */
HT_API ht_status ht_range_add(ht_range *range, const void *x, ht_dtype dtype, size_t count);
/* The number of HT_PLANE_GLOBAL for a matrix of this range; a zero or non-finite range gives a defined number. */
HT_API float ht_format_global(const ht_format *format, const ht_row_options *options, const ht_range *range);
/* Scale and zero point (either may be NULL) that INT or FLOAT8 choose for values of this range, to be passed as
 * options.scale and options.zero: static activations, or a matrix with one scale that is quantized in slices of rows.
 * Fails with FORMAT for other families. */
HT_API ht_status ht_format_scale(const ht_format *format, const ht_row_options *options, const ht_range *range,
                                 float *scale, float *zero);

/* Quantize rows: choose scales, encode, pack.
 *   x      [rows, cols] float dtype (f32 bf16 f16)
 *   out    planes of those rows; out->plane[HT_PLANE_GLOBAL] is READ when the format has one (ht_format_global)
 *   options NULL = defaults
 * Round to nearest even, saturating. A block with NaN or Inf decodes to NaN where the format has NaN (MX: scale 255;
 * NVFP4: scale 7f; FLOAT8 code 7f), else see docs/formats.md. Zero blocks decode to zero.
 * out must not overlap x. No scratch. Deterministic. Fails with SHAPE, FORMAT (no encoder), UNSUPPORTED (x_dtype). */
HT_API ht_status ht_format_quantize(const ht_format *format, const ht_row_options *options, const void *x,
                                    ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out);

/* Decode rows to f32 [rows, cols]. Every code has a defined value. */
HT_API ht_status ht_format_dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols,
                                      float *out);

/* --- Scalars ---------------------------------------------------------------------------------------- */

/* One value to the code of a float element dtype of 16 bits or fewer, nearest even, saturating; NaN: the NaN code
 * where there is one, else the largest magnitude. e8m0: nearest power of two of |x|. */
HT_API uint32_t ht_element_encode(ht_dtype dtype, float x);
HT_API float ht_element_decode(ht_dtype dtype, uint32_t code);

/* --- Layout helpers --------------------------------------------------------------------------------- */

/* Block scales in the 128x4 tiles that tensor cores read (formats.md 2.4). rows and cols of the scale matrix;
 * the swizzled buffer has ht_swizzle_bytes, padding bytes are zero. */
HT_API size_t ht_swizzle_bytes(size_t rows, size_t cols);
HT_API void ht_swizzle_scales(const uint8_t *scales, size_t rows, size_t cols, uint8_t *out);
HT_API void ht_unswizzle_scales(const uint8_t *swizzled, size_t rows, size_t cols, uint8_t *out);

/* --- A weight: a matrix, or a batch of them (experts), in some format -------------------------------- */

/* What happens to the rows that enter a linear before they are quantized and multiplied; the weight is stored for such
 * rows:  x' = H(x * scale), H the orthonormal Hadamard transform of every run of `block` values. */
typedef struct ht_input_transform {
    const float *scale; /* [batch, cols]; NULL: 1 */
    size_t block;       /* divides cols; 0: no H */
} ht_input_transform;

typedef struct ht_weight {
    ht_format format;
    size_t batch;                      /* experts; 1 for a plain matrix */
    size_t rows;                       /* outputs (N) */
    size_t cols;                       /* inputs (K) */
    int transposed;                    /* PLAIN only: stored [cols, rows] per batch entry */
    const void *plane[HT_PLANE_COUNT]; /* of batch entry 0 */
    size_t stride[HT_PLANE_COUNT];     /* bytes from one batch entry's plane to the next */
    ht_input_transform inputs;         /* of a linear */
} ht_weight;

/* Planes of one batch entry. */
HT_API ht_planes ht_weight_planes(const ht_weight *weight, size_t index);

#ifdef __cplusplus
}
#endif
#endif
