/* The CUDA kernels as plain C calls. All pointers are device pointers unless a comment says otherwise; every call only
 * enqueues work on `stream` (NULL: the default stream), allocates nothing and synchronises nothing. A build without
 * CUDA has the same calls, and each answers UNSUPPORTED.
 *
 * Matrices are row-major. Results do not depend on timing: no floating-point atomics.
 * Design, shared-memory layouts and measurements: docs/gpu.md. */
#ifndef HT_KERNELS_CUDA_CUDA_H
#define HT_KERNELS_CUDA_CUDA_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>
#include <halftone/status.h>
#include <halftone/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_stream ht_stream; /* device/device.h */

/* --- Matrix products --------------------------------------------------------------------------------------------- */

/* Which code runs a product. AUTO chooses by shape alone (never by measuring). */
typedef enum ht_gemm_kernel {
    HT_GEMM_AUTO,
    HT_GEMM_PORTABLE,     /* any NVIDIA GPU, any alignment; slow */
    HT_GEMM_SM90_128X256, /* Hopper, clusters of two blocks, 256 x 256 a cluster */
    HT_GEMM_SM90_128X192, /* 256 x 192 a cluster; products with scales along k only */
    HT_GEMM_SM90_128X128, /* Hopper, clusters of two blocks, 256 x 128 a cluster */
    HT_GEMM_SM90_SINGLE,  /* Hopper, single blocks of 128 x 128: few rows */
    HT_GEMM_KERNEL_COUNT
} ht_gemm_kernel;

/* d [m, n] = alpha_a alpha_b scale_a[row] scale_b[column] (a [m, k] b [n, k]^T) + bias[column] (+ d) */
typedef struct ht_cuda_gemm_args {
    size_t m, n, k;
    const void *a, *b;
    void *d;
    size_t lda, ldb, ldd;           /* elements from one row to the next */
    ht_dtype in;                    /* HT_BF16 or HT_F8_E4M3, both operands */
    ht_dtype out;                   /* HT_BF16 or HT_F32 */
    const float *alpha_a, *alpha_b; /* [1] or NULL */
    const float *scale_a;           /* [m] or NULL */
    const float *scale_b;           /* [n] or NULL */
    const float *bias;              /* [n] or NULL */
    int accumulate;                 /* add to what d holds; HT_F32 output only */
    ht_gemm_kernel kernel;
    unsigned raster; /* rows of tiles walked together, for L2; 0 = the default */
} ht_cuda_gemm_args;

/* Products accumulate in f32 (the fp8 tensor cores keep about 14 bits in a chain; HT_GEMM_PORTABLE keeps f32). Any m,
 * n, k >= 1; AUTO takes the portable kernel where the copy engine's alignment (16 bytes: base pointers and row lengths)
 * is not met, a named Hopper kernel then answers UNSUPPORTED. */
ht_status ht_cuda_gemm(const ht_cuda_gemm_args *args, ht_stream *stream);

/* fp8 product with scales along k: d = sum over 128-blocks kb of scale_a[kb][row] scale_b[column / 128][kb] (a b^T)kb.
 * Each block's sum is promoted to f32 registers, so the accumulation error does not grow with k.
 *   a [m, k] e4m3   scale_a [k / 128, lds] f32, lds >= m and a multiple of 4
 *   b [n, k] e4m3   scale_b [ceil(n / 128), k / 128] f32; or, with lds_b, [k / 128, lds_b] as scale_a: a scale per row
 *                   and 128 of k on both sides (weight gradients)
 *   d [m, n] bf16 or f32. k a multiple of 128. Hopper only. */
typedef struct ht_cuda_gemm_block_args {
    size_t m, n, k;
    const void *a, *b;
    void *d;
    const float *scale_a, *scale_b;
    size_t lds, lds_b; /* lds_b 0: scale_b per 128 x 128 */
    ht_dtype out;
    int accumulate;        /* add to what d holds; HT_F32 output only */
    ht_gemm_kernel kernel; /* AUTO, SM90_128X256, SM90_128X192 */
    unsigned raster;
} ht_cuda_gemm_block_args;
ht_status ht_cuda_gemm_block(const ht_cuda_gemm_block_args *args, ht_stream *stream);

/* One product per group (expert). Groups are ranges, given on the device so that no host waits for them: offsets
 * [groups] i32 is the cumulative end of each (the first starts at 0; an empty group repeats the end before it), or,
 * MASKED, its number of rows in use. What lies past the last end is neither read nor written; groups may be empty and
 * of any size.
 *
 *   CONTIGUOUS  a [m, k]: rows of group g           b [groups, n, k]   d [m, n]
 *   MASKED      a [groups, m, k]: the first rows    b [groups, n, k]   d [groups, m, n]; other rows of d stay
 *   ALONG_K     a [m, k], b [n, k]: columns k of g                     d [groups, m, n]; an empty group's d is zero
 *
 * Operands are bf16, or e4m3 with their scales (already quantized):
 *   scale_a, scale_b          per row and column of d: [rows of a], [groups, n]; ALONG_K [groups, m], [groups, n]; or
 * NULL block_scales: scale_a     [k / 128, lds] over all rows of a scale_b     [groups, ceil(n / 128), k / 128];
 * ALONG_K [k / 128, lds_b]; groups end at multiples of 128 n a multiple of 8, rows of a and b multiples of 16 bytes;
 * Hopper only. */
typedef enum ht_group_form { HT_GROUPS_CONTIGUOUS, HT_GROUPS_MASKED, HT_GROUPS_ALONG_K } ht_group_form;

typedef struct ht_cuda_grouped_args {
    ht_group_form form;
    size_t groups, m, n, k;
    const int32_t *offsets;
    const void *a, *b;
    void *d;
    const float *scale_a, *scale_b;
    int block_scales;
    size_t lds, lds_b;
    ht_dtype in, out;      /* HT_BF16 or HT_F8_E4M3; HT_BF16 or HT_F32 */
    int accumulate;        /* ALONG_K, HT_F32 output: add to what d holds */
    ht_gemm_kernel kernel; /* AUTO, SM90_128X256, SM90_SINGLE */
    unsigned raster;
} ht_cuda_grouped_args;
ht_status ht_cuda_grouped(const ht_cuda_grouped_args *args, ht_stream *stream);

/* --- Casts ------------------------------------------------------------------------------------------------------- */

/* x [rows, cols] bf16 to MXFP8 (e4m3, blocks of 32), bit for bit as the CPU's; rule FLOOR, RCEIL, CEIL or EVEN.
 *   row-wise     codes [rows, cols], scales [rows, cols / 32]: blocks along the columns; cols a multiple of 32
 *   column-wise  codes_t [cols, rows], scales_t [cols, rows / 32]: blocks along the rows, written transposed;
 *                rows a multiple of 32, cols of 8
 * Give the pointers of one direction or of both; both read x once. */
typedef struct ht_cuda_mxfp8_args {
    const void *x;
    size_t rows, cols;
    ht_scale_rule rule;
    uint8_t *codes, *scales;
    uint8_t *codes_t, *scales_t;
} ht_cuda_mxfp8_args;
ht_status ht_cuda_cast_mxfp8(const ht_cuda_mxfp8_args *args, ht_stream *stream);

/* x [rows, cols] bf16 to e4m3 with an f32 scale (amax / 448) per row (cols a multiple of 8), or per 1 x 128 block of a
 * row (cols a multiple of 128): bit for bit the CPU's fp8_row and fp8_g128. Block scales are stored [cols / 128, lds],
 * the order ht_cuda_gemm_block reads. */
ht_status ht_cuda_cast_fp8_row(const void *x, size_t rows, size_t cols, uint8_t *codes, float *scales,
                               ht_stream *stream);
ht_status ht_cuda_cast_fp8_block(const void *x, size_t rows, size_t cols, uint8_t *codes, float *scales, size_t lds,
                                 ht_stream *stream);

/* MXFP8 [rows, cols] (e4m3, cols a multiple of 32) to bf16: exact apart from results outside bf16's range, which makes
 * ht_cuda_gemm on two expanded operands the exact MXFP8 product. */
ht_status ht_cuda_expand_mxfp8(const uint8_t *codes, const uint8_t *scales, size_t rows, size_t cols, void *out,
                               ht_stream *stream);

/* Rows or values to a format of the library: ht_format_quantize on the GPU, the same bits. planes point to device
 * memory; HT_PLANE_GLOBAL is read (ht_cuda_nvfp4_global). x bf16 or f32, 16-byte aligned, cols a multiple of 8. MX
 * e4m3, e5m2, e2m1 (rules floor, rceil, ceil, even) · NVFP4 per 16 or 16 x 16, either global rule, both recipes FLOAT8
 * e4m3, e5m2 and INT int8, int4 symmetric: per 16 to 256 of a row, row, 128 x 128, matrix; f32 scales tiled_scales:
 * byte scales in 128 x 4 tiles (ht_swizzle_bytes of them). lds: f32 scales of a row's blocks transposed, [blocks of a
 * row, lds]. stochastic: e2m1 rounds by Philox stream (seed, stream), word i for value i of the matrix. scratch: 4
 * bytes, for one scale per matrix. options NULL: defaults (MX needs a rule). */
typedef struct ht_cuda_cast_args {
    const ht_format *format;
    const ht_row_options *options;
    const void *x;
    ht_dtype x_dtype;
    size_t rows, cols;
    ht_planes planes;
    int tiled_scales;
    size_t lds;
    int stochastic;
    uint64_t seed, stream;
    void *scratch;
} ht_cuda_cast_args;
ht_status ht_cuda_cast(const ht_cuda_cast_args *args, ht_stream *stream);

/* f32 bits of the largest magnitude of x; count a multiple of 8. NaN counts as larger than Inf, or not at all. */
ht_status ht_cuda_amax(const void *x, ht_dtype x_dtype, size_t count, int skip_nan, uint32_t *bits, ht_stream *stream);
/* ht_format_global of a matrix with that largest magnitude (skip_nan), into a device number. */
ht_status ht_cuda_nvfp4_global(const ht_format *format, const ht_row_options *options, const uint32_t *amax_bits,
                               float *global, ht_stream *stream);

/* ht_format_dequantize on the GPU, to f32 (the same bits) or bf16: MX, NVFP4, FLOAT8, symmetric int8 and int4, code
 * books with f32 scales (nf4_flat, fp4_flat). planes on the device; cols a multiple of 8. */
ht_status ht_cuda_decode(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, void *out,
                         ht_dtype out_dtype, ht_stream *stream);

/* x [rows, cols] bf16 to e4m3 with a scale per column and group of rows, transposed: codes [cols, rows], scales
 * [groups, cols] = 448 / largest magnitude, rounded down to a power of two on request; values are multiplied by them.
 * offsets [groups] i32 on the device: cumulative ends. Rows past the last group are not written. cols a multiple of 64.
 */
ht_status ht_cuda_cast_fp8_jagged(const void *x, size_t rows, size_t cols, const int32_t *offsets, size_t groups,
                                  int power_of_two, uint8_t *codes, float *scales, ht_stream *stream);

/* ht_nvfp4_hadamard on the GPU: x [rows, cols] bf16, out [cols, rows] bf16, sign [16] on the host or NULL. */
ht_status ht_cuda_nvfp4_hadamard(const void *x, size_t rows, size_t cols, const int8_t *sign, void *out,
                                 ht_stream *stream);

/* MXFP8 [rows, cols] to e4m3 with one power of two per 128 of a row, out_scales [cols / 128, lds], or with lds 0 per
 * 128 x 128, out_scales [ceil(rows / 128), cols / 128]: operands of ht_cuda_gemm_block. */
ht_status ht_cuda_fold_mxfp8(const uint8_t *codes, const uint8_t *scales, size_t rows, size_t cols, uint8_t *out,
                             float *out_scales, size_t lds, ht_stream *stream);

/* Products of formats, through scratch memory on the device (16-byte aligned, as many bytes as the _scratch call says).
 * Weight: d [m, n] = x [m, k] bf16 w^T + bias, w [n, k] in a format of ht_cuda_decode (int4, MXFP4, NVFP4, NF4, fp8
 * ...). MXFP8 e4m3 on both sides, codes [m, k] and [n, k], scales per 32 of k: exact up to the f32 sums (both are
 * expanded to bf16), or folded to one scale per 128 of k (k a multiple of 128), which rounds elements below their
 * block's largest. */
typedef struct ht_cuda_gemm_weight_args {
    size_t m, n, k;
    const void *x;
    const ht_format *format;
    ht_planes weight;
    const float *bias; /* [n] or NULL */
    void *d;
    ht_dtype out; /* HT_BF16 or HT_F32 */
    void *scratch;
    size_t scratch_bytes;
} ht_cuda_gemm_weight_args;
size_t ht_cuda_gemm_weight_scratch(size_t n, size_t k);
ht_status ht_cuda_gemm_weight(const ht_cuda_gemm_weight_args *args, ht_stream *stream);

typedef struct ht_cuda_gemm_mxfp8_args {
    size_t m, n, k;
    const uint8_t *a, *a_scales, *b, *b_scales;
    void *d;
    ht_dtype out;
    int folded;
    void *scratch;
    size_t scratch_bytes;
} ht_cuda_gemm_mxfp8_args;
size_t ht_cuda_gemm_mxfp8_scratch(size_t m, size_t n, size_t k, int folded);
ht_status ht_cuda_gemm_mxfp8(const ht_cuda_gemm_mxfp8_args *args, ht_stream *stream);

/* --- Low-bit weights times few rows ------------------------------------------------------------------------------ */

typedef enum ht_gemv_weight {
    HT_GEMV_INT4_G128, /* signed 4-bit, low nibble first, bf16 scale per 128 */
    HT_GEMV_MXFP4,     /* e2m1, low nibble first, e8m0 scale per 32 */
    HT_GEMV_WEIGHT_COUNT
} ht_gemv_weight;

/* Reorder a weight [n, k] for ht_cuda_gemv: `codes` [n, k / 2] and `scales` as above, plain row-major; n a multiple of
 * 16, k of 128. packed has ht_cuda_gemv_packed_bytes bytes, 16-byte aligned: codes and scales together, n rounded up to
 * 64. MXFP4 scale bytes 0 (2^-127) count as zero, 255 as NaN. */
size_t ht_cuda_gemv_packed_bytes(ht_gemv_weight kind, size_t n, size_t k);
ht_status ht_cuda_gemv_pack(ht_gemv_weight kind, const void *codes, const void *scales, size_t n, size_t k,
                            void *packed, ht_stream *stream);

/* y [m, n] bf16 = x [m, k] bf16 w^T, 1 <= m <= 16. Sums in f32, in an order that depends on (n, k) alone. The weights
 * must have been complete before the previous kernel of the stream began: they are read without waiting for it. */
ht_status ht_cuda_gemv(ht_gemv_weight kind, const void *packed, size_t n, size_t k, const void *x, size_t m, void *y,
                       ht_stream *stream);

/* Kernel names for reports; NULL past the end. Host call, needs no GPU. */
const char *ht_gemm_kernel_name(ht_gemm_kernel kernel);

#ifdef __cplusplus
}
#endif
#endif
