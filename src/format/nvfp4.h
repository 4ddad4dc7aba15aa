/* NVFP4 pieces below the matrix: one block under any of the recipes, and what the training recipe adds. */
#ifndef HT_FORMAT_NVFP4_H
#define HT_FORMAT_NVFP4_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

typedef struct ht_nvfp4_rules {
    int divides;         /* the global number divides */
    int training;        /* no lower clamp of scales */
    ht_scale_rule rule;  /* HT_SCALE_MSE and FOUR_SIX... search; others do not matter */
    ht_dtype arithmetic; /* compressed-tensors: type that b / 6 is rounded to */
    float global;        /* 1 when there is none */
    float inverse;       /* 1 / global */
    float global_sixth;  /* global * f32(1/6) */
} ht_nvfp4_rules;

ht_nvfp4_rules ht_nvfp4_rules_of(const ht_format *format, const ht_row_options *options, float global);

/* What values are multiplied by under a block scale; with `divides` and not `training`: divided by. */
float ht_nvfp4_encode_factor(const ht_nvfp4_rules *rules, float scale);

/* n <= 256 values that share a scale: codes one a byte; returns the e4m3 scale code. */
uint8_t ht_nvfp4_encode_block(const ht_nvfp4_rules *rules, const float *x, size_t n, uint8_t *codes);

/* Random Hadamard transform of the training recipe, along the rows (tokens) of x [rows, cols], rows a multiple of 16:
 * out [cols, rows] = transposed x with each run of 16 tokens multiplied by diag(sign) H16 / 4, f32 sums in order, one
 * rounding to bf16 (out holds bf16 values as f32). sign: 16 numbers +1 or -1; NULL = the recipe's own. Fails with
 * SHAPE. */
ht_status ht_nvfp4_hadamard(const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const int8_t *sign, float *out);

/* e2m1 with stochastic rounding: the neighbour above is taken with probability equal to the position between the two.
 * The draw of value i is word i of Philox stream (seed, stream); values beyond 6 saturate, NaN gives 7. */
void ht_nvfp4_encode_stochastic(const float *x, size_t n, uint64_t seed, uint64_t stream, uint64_t first,
                                uint8_t *codes);

#endif
