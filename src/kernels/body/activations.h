/* Rows of f32 to int8 codes with a scale per span: the body that every instruction set compiles. Loops are over whole
 * blocks of 32 values, each operation rounds the same way everywhere, so all of them give the same bits. */
#ifndef HT_KERNELS_BODY_ACTIVATIONS_H
#define HT_KERNELS_BODY_ACTIVATIONS_H

#include <float.h>
#include <stdint.h>
#include <string.h> /* memcpy, memset */

#include "kernels/product.h"

/* Largest magnitude as bits: NaN and Inf come out on top. */
static inline uint32_t largest_bits(const float *x, size_t n) {
    uint32_t most = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        bits &= 0x7fffffffu;
        most = bits > most ? bits : most;
    }
    return most;
}

static inline float span_scale(uint32_t bits) {
    uint32_t nan = 0x7fc00000u;
    float amax, scale;
    memcpy(&amax, bits < 0x7f800000u ? &bits : &nan, sizeof amax);
    scale = amax / 127.5f;
    return scale < FLT_MIN ? FLT_MIN : scale; /* a NaN stays */
}

/* A block of 32. The number 1.5 * 2^23 makes the addition round to even; its low bits then are the code. */
static inline int32_t block_codes_of(const float *restrict x, float reciprocal, int8_t *restrict codes) {
    const float magic = 12582912.0f;
    int32_t sum = 0, code[HT_BLOCK];
    for (int i = 0; i < HT_BLOCK; i++) {
        float y = x[i] * reciprocal;
        y = y > 127 ? 127 : y;
        y = y < -128 ? -128 : y;
        y += magic;
        int32_t bits;
        memcpy(&bits, &y, sizeof bits);
        code[i] = bits - 0x4b400000;
    }
    for (int i = 0; i < HT_BLOCK; i++) {
        codes[i] = (int8_t)code[i];
        sum += code[i];
    }
    return sum;
}

/* `count` values (at most `blocks` of them), one scale. */
static inline void quantize_blocks(const float *x, size_t count, size_t blocks, float scale, int8_t *codes,
                                   int32_t *sums) {
    float reciprocal = 1 / scale;
    int finite = scale == scale;
    for (size_t b = 0; b < blocks; b++) {
        size_t from = b * HT_BLOCK, n = count > from ? count - from : 0;
        float part[HT_BLOCK] = {0};
        const float *in = x + from;
        if (n < HT_BLOCK || !finite) {
            for (size_t i = 0; finite && i < n; i++)
                part[i] = x[from + i];
            in = part;
        }
        sums[b] = block_codes_of(in, finite ? reciprocal : 0, codes + from);
    }
}

static inline void quantize_row_body(const float *x, size_t cols, size_t row, const ht_int8_rows *out) {
    float whole = out->span == HT_SPAN_ROW ? span_scale(largest_bits(x, cols)) : 0;
    if (out->span == HT_SPAN_ROW)
        out->scales[row] = whole;
    for (size_t c = 0; c < out->chunks; c++) {
        size_t from = c * HT_KCHUNK, blocks = out->blocks - c * HT_KCHUNK_BLOCKS;
        blocks = blocks < HT_KCHUNK_BLOCKS ? blocks : HT_KCHUNK_BLOCKS;
        size_t count = cols - from < HT_KCHUNK ? cols - from : HT_KCHUNK;
        int8_t *codes = out->codes + HT_KCHUNK * out->m * c + row * blocks * HT_BLOCK;
        int32_t *sums = out->sums + (c * out->m + row) * HT_KCHUNK_BLOCKS;
        memset(sums, 0, HT_KCHUNK_BLOCKS * sizeof *sums);
        if (out->span != HT_SPAN_32) {
            float scale = out->span == HT_SPAN_ROW ? whole : span_scale(largest_bits(x + from, count));
            if (out->span == HT_SPAN_256)
                out->scales[c * out->m + row] = scale;
            quantize_blocks(x + from, count, blocks, scale, codes, sums);
            continue;
        }
        float *scales = out->scales + (c * out->m + row) * HT_KCHUNK_BLOCKS;
        memset(scales, 0, HT_KCHUNK_BLOCKS * sizeof *scales);
        for (size_t b = 0; b < blocks; b++) {
            size_t at = b * HT_BLOCK, n = count - at < HT_BLOCK ? count - at : HT_BLOCK;
            scales[b] = span_scale(largest_bits(x + from + at, n));
            quantize_blocks(x + from + at, n, 1, scales[b], codes + at, sums + b);
        }
    }
}

static inline void quantize_rows_body(const float *x, size_t x_stride, size_t cols, size_t begin, size_t end,
                                      const ht_int8_rows *out) {
    for (size_t i = begin; i < end; i++)
        quantize_row_body(x + i * x_stride, cols, i, out);
}

#endif
