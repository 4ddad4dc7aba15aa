/* y = x W^T in bf16: inputs and weights rounded to bf16, summed in f32. What --compute fast uses for weights that no
 * integer product takes. Contract of all variants.
 *
 *     X = bf16(x), W = bf16(decoded weight)            nearest even; a NaN stays one
 *     g = 0                                            for every span of HT_FLOATS_DEPTH k, increasing
 *       g = fma(X[k], W[k], g)                         k increasing
 *     f = f + g                                        f = g for the first span
 *     y = f + bias
 *
 * This is the reference's order, and that of every variant made of multiply-adds, which give its bits. A variant made
 * of dot products of pairs (vdpbf16ps) adds two products at a time, by its processor's rules of rounding, and takes
 * subnormal numbers for 0: it is compared with a bound (docs/numerics.md). Either way a row of y depends on its row of
 * x alone, in the same order for any m. */
#ifndef HT_KERNELS_FLOATS_H
#define HT_KERNELS_FLOATS_H

#include "kernels/matmul.h"

enum { HT_FLOATS_DEPTH = 256, HT_FLOATS_STRIP = 64, HT_FLOATS_GROUP = 16 };

/* As ht_matmul_fn, of a product whose `dot` is not read; n0 a multiple of ht_floats_step, scratch of ht_floats_scratch
 * bytes, 64-byte aligned. */
ht_matmul_fn ht_floats_ref, ht_floats_fma, ht_floats_avx512bf16;

/* All stored weights but f32 ones, whose rounding would be more than that of their format. */
int ht_floats_takes(const ht_weight *weight);

size_t ht_floats_step(const ht_weight *weight, size_t m);
size_t ht_floats_scratch(const ht_weight *weight, size_t m);

/* The parts of the scratch. */
typedef struct ht_floats_memory {
    size_t stride;              /* of rows: k padded to 32, and a line more, so that rows do not meet in a cache */
    uint16_t *x;                /* [m, stride] */
    float *wide_x;              /* the same memory: the rounded values as f32 */
    uint16_t *w;                /* [strip, stride] */
    float *decoded;             /* [group, k] */
    uint32_t *panel;            /* [HT_FLOATS_DEPTH / 2, HT_FLOATS_STRIP] pairs of bf16, or f32 of fewer outputs */
    size_t strip, group, bytes; /* outputs that are decoded together, and those of one call of decode */
} ht_floats_memory;
ht_floats_memory ht_floats_memory_at(const ht_weight *weight, size_t m, void *scratch);

#endif
