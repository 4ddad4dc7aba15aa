/* Casts: rows of f32, bf16 or f16 into a format's planes and back, and the error they leave. Contract of all variants.
 *
 * The format layer defines every bit: a variant gives the planes that ht_format_quantize gives, for any input, NaN,
 * Inf, zero, subnormal and huge values included, and the values that ht_format_dequantize gives (any NaN for a NaN).
 * What makes a variant fast is how it goes through a matrix, 512 values at a time, so that all of it stays in the first
 * cache:
 *
 *     values, any dtype -> f32 x[512]
 *     largest magnitudes of 16 blocks -> 16 scales at once, by any rule; `mse` looks twice only at blocks that saturate
 *     x * factor -> codes, 16 lanes at a time -> packed, and, when asked for, decoded in the same registers
 *
 * The variants are one text (body/cast_*.h) over vectors of 16 lanes (x86/wide_avx512.h, x86/wide_avx2.h). A variant
 * may decline a cast by its row's `casts`: options that only compatibility tests use (steps rounded to bf16, searched
 * scales of families other than MX) stay with the reference. Source: formats specification, sections 1.2, 2.2, 3, 6.2,
 * 6.6. */
#ifndef HT_KERNELS_CAST_H
#define HT_KERNELS_CAST_H

#include <stddef.h>

#include <halftone/format.h>

/* Arguments of ht_format_quantize, options filled in (arithmetic is a type). */
typedef struct ht_cast {
    const ht_format *format;
    const ht_row_options *options;
    const void *x; /* [rows, cols] */
    ht_dtype x_dtype;
    size_t rows, cols;
    const ht_planes *planes;
    float *decoded; /* [rows, cols]: what the codes stand for, as dequantizing gives it; NULL: not wanted */
    int streams;    /* codes will not be read soon: whole cache lines may be written past the caches */
} ht_cast;

/* Fails where ht_format_quantize fails; a variant that takes the cast does not fail. */
typedef ht_status ht_quantize_fn(const ht_cast *cast);
ht_quantize_fn ht_quantize_ref;
ht_quantize_fn ht_quantize_mx_fma, ht_quantize_nvfp4_fma, ht_quantize_float8_fma, ht_quantize_int_fma;
ht_quantize_fn ht_quantize_mx_avx512bw, ht_quantize_nvfp4_avx512bw, ht_quantize_float8_avx512bw,
    ht_quantize_int_avx512bw;

/* Casts that the variants of a family take. */
int ht_cast_is_mx(const ht_cast *cast);
int ht_cast_is_nvfp4(const ht_cast *cast);
int ht_cast_is_float8(const ht_cast *cast);
int ht_cast_is_int(const ht_cast *cast);

/* Arguments of ht_format_dequantize, and a choice of result. */
typedef struct ht_uncast {
    const ht_format *format;
    const ht_planes *planes;
    size_t rows, cols;
    void *y; /* [rows, cols] */
    ht_dtype y_dtype;
    int streams;
} ht_uncast;

/* f32 as ht_format_dequantize gives them; bf16: these rounded to nearest even. The reference writes f32 only. */
typedef ht_status ht_dequantize_fn(const ht_uncast *uncast);
ht_dequantize_fn ht_dequantize_ref;
ht_dequantize_fn ht_dequantize_mx_fma, ht_dequantize_nvfp4_fma, ht_dequantize_float8_fma, ht_dequantize_int_fma;
ht_dequantize_fn ht_dequantize_mx_avx512bw, ht_dequantize_nvfp4_avx512bw, ht_dequantize_float8_avx512bw,
    ht_dequantize_int_avx512bw;

/* Rows of a stored weight that one of these takes, to f32: rows of `decode`. */
void ht_decode_cast_fma(const ht_weight *weight, size_t index, size_t row, size_t count, float *out);
void ht_decode_cast_avx512bw(const ht_weight *weight, size_t index, size_t row, size_t count, float *out);
int ht_decode_is_cast(const ht_weight *weight);

int ht_uncast_is_mx(const ht_uncast *uncast);
int ht_uncast_is_nvfp4(const ht_uncast *uncast);
int ht_uncast_is_float8(const ht_uncast *uncast);
int ht_uncast_is_int(const ht_uncast *uncast);

typedef struct ht_square_sums {
    double error, reference; /* sum of (x - y)^2, sum of x^2 */
} ht_square_sums;

/* Sums over one row of n values, in f64: spans of 1024 values, in each eight lanes (lane = column mod 8) that take one
 * square after another and are folded as ((0+4)+(2+6)) + ((1+5)+(3+7)); the spans in order. The reference sum is finite
 * exactly when all x are. */
typedef ht_square_sums ht_tally_fn(const void *x, ht_dtype x_dtype, const float *y, size_t n);
ht_tally_fn ht_tally_ref, ht_tally_fma, ht_tally_avx512bw;

/* ht_range_add. */
typedef ht_status ht_range_fn(ht_range *range, const void *x, ht_dtype dtype, size_t count);
ht_range_fn ht_range_fma, ht_range_avx512bw;

#endif
