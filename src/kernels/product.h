/* y = x W^T on a packed weight with int8 inputs: contracts of quantizing the inputs and of the product.
 *
 * Numbers. Integer sums are exact; what is rounded, and in which order, is fixed by one row of x and one output:
 *
 *     g = 0                                             for every chunk of 256 k, increasing
 *       d = sum of code_x * (code_w - zero)             exact, over a unit: the weight's group or the input's block,
 *       g = fma((float)d, p, g)                         whichever is shorter; p = scale_w, or fl(scale_w * scale_x)
 *     f = f + g      one scale per row or per 32          where inputs have a scale per 32
 *     f = fma(g, scale_x, f)      one scale per 256
 *     y = f * r + bias            r = fl(scale_x * unit) with a scale per row, else unit
 *
 * A weight whose panels have a head (a number for the matrix, as NVFP4's) is multiplied by it, or its reciprocal, at
 * the end: y = f * fl(head * r) + bias. A weight with one scale per row is one unit over all of k when inputs have a
 * scale per row too (f = (float)d * scale_w), else its scale is left out of p and y = f * fl(scale_w * r) + bias. unit
 * is ht_packed.unit. All rows of this operation give the same bits. Where p are powers of two and the blocks of a chunk
 * lie within a factor of 8, every g is exact whatever the order, which is what lets a kernel add whole chunks as
 * integers. Source: cpu-kernels specification, sections 5.1, 5.3 and 5.4. */
#ifndef HT_KERNELS_PRODUCT_H
#define HT_KERNELS_PRODUCT_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/packed.h"

/* Inputs that share a scale. */
typedef enum ht_span { HT_SPAN_ROW, HT_SPAN_256, HT_SPAN_32 } ht_span;

/* Quantized inputs [m, k], k padded to blocks with zeros. Chunk-major, so that a chunk of many rows is one stream. */
typedef struct ht_int8_rows {
    ht_span span;
    size_t m, blocks, chunks;
    int8_t
        *codes; /* chunk c at 256 * m * c; its rows one after the other, as wide as the chunk (ht_packed_chunk_width) */
    int32_t *sums; /* [chunks][m][8]: sums of the codes of every block; 0 past the end */
    float *scales; /* ROW: [m]; 256: [chunks][m]; 32: [chunks][m][8] */
} ht_int8_rows;

/* Bytes of the three parts for m rows of `cols` values, each padded to 64; and the struct over such memory. */
size_t ht_int8_rows_bytes(ht_span span, size_t m, size_t cols);
ht_int8_rows ht_int8_rows_at(void *memory, ht_span span, size_t m, size_t cols);

/* Rows [begin, end) of x into *out, by the default rule of int8 formats: scale = max(amax / 127.5, FLT_MIN) per span,
 * code = round to even (x * (1 / scale)), within [-128, 127]; a span with NaN or Inf: scale NaN, codes 0. The same
 * codes and scales as ht_format_quantize with int8_row, int8_g256 and int8_g32. */
typedef void ht_quantize_rows_fn(const float *x, size_t x_stride, size_t cols, size_t begin, size_t end,
                                 const ht_int8_rows *out);
ht_quantize_rows_fn ht_quantize_rows_ref, ht_quantize_rows_avx2, ht_quantize_rows_avx512bw;

typedef struct ht_product {
    const ht_packed *weight;
    const uint8_t *panels; /* of the batch entry */
    const ht_int8_rows *x;
    const float *bias; /* [rows] or NULL */
    float *y;          /* [m, rows] */
    size_t y_stride;
} ht_product;

/* Outputs [n0, n1) of all rows of x, and nothing else; n0 a multiple of 16. scratch: ht_product_scratch bytes, 64-byte
 * aligned. */
typedef void ht_product_fn(const ht_product *product, size_t n0, size_t n1, void *scratch);
ht_product_fn ht_product_ref, ht_product_strip_fma, ht_product_strip_avx512vnni, ht_product_small_avx512vnni,
    ht_product_half_fma, ht_product_half_avx512vnni;

/* Weights that integer products take: all whose values are integers, and of those the ones whose groups are blocks of
 * 32 or more. */
int ht_product_takes_integers(const ht_packed *packed);
int ht_product_takes_blocks(const ht_packed *packed);
int ht_product_takes_halves(const ht_packed *packed);

/* Outputs that one call is best given, and the scratch of a call with so many. */
size_t ht_product_step(const ht_packed *packed, size_t m);
size_t ht_product_scratch(const ht_packed *packed, size_t m);

/* k of one unit of sums of this product: 16 to 256, or 0 for the whole of k. */
static inline size_t ht_product_unit(const ht_packed *packed, ht_span span) {
    size_t group = packed->group ? packed->group : span == HT_SPAN_ROW ? 0 : HT_KCHUNK;
    return span == HT_SPAN_32 && (!group || group > HT_BLOCK) ? HT_BLOCK : group;
}

#endif
