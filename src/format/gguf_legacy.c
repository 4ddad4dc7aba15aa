/* GGUF blocks of 32 values with one f16 scale: Q4_0 Q4_1 Q5_0 Q5_1 Q8_0, and Q8_1, the activation side of dot products.
 *
 *     q4_0   d | 16 bytes, byte j = code j + 16 * code (j + 16)          y = d (q - 8)
 *     q4_1   d m | the same                                              y = d q + m
 *     q5_0   d | 32 fifth bits | the same                                y = d (q - 16)
 *     q5_1   d m | 32 fifth bits | the same                              y = d q + m
 *     q8_0   d | 32 int8                                                 y = d q
 *     q8_1   d s | 32 int8, s = d * sum of codes                         y = d q
 *
 * The encoders divide by the f32 scale before it is rounded to f16, as every writer of these types does; with the scale
 * rule MSE the 4- and 5-bit types search the scale with the least squared error instead (gguf_fit.h). Blocks whose
 * scale rounds to zero decode to zero (to m); scales above 65504 saturate; NaN or Inf in a block makes it NaN.
 * Source: the formats specification, section 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"
#include "format/gguf_fit.h"

_Static_assert(sizeof(ht_block_q4_0) == 18 && sizeof(ht_block_q4_1) == 20, "q4 blocks");
_Static_assert(sizeof(ht_block_q5_0) == 22 && sizeof(ht_block_q5_1) == 24, "q5 blocks");
_Static_assert(sizeof(ht_block_q8_0) == 34 && sizeof(ht_block_q8_1) == 36, "q8 blocks");

void ht_q4_0_decode(const uint8_t *block, float *y) {
    const ht_block_q4_0 *b = (const ht_block_q4_0 *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)((int)ht_split_nibble(b->qs, i) - 8);
}

void ht_q4_1_decode(const uint8_t *block, float *y) {
    const ht_block_q4_1 *b = (const ht_block_q4_1 *)block;
    float d = ht_half(b->d), m = ht_half(b->m);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)ht_split_nibble(b->qs, i) + m;
}

static int five_bits(const uint8_t *qs, const uint8_t *qh, int i) {
    return (int)(ht_split_nibble(qs, i) | (unsigned)(qh[i / 8] >> (i % 8) & 1) << 4);
}

void ht_q5_0_decode(const uint8_t *block, float *y) {
    const ht_block_q5_0 *b = (const ht_block_q5_0 *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)(five_bits(b->qs, b->qh, i) - 16);
}

void ht_q5_1_decode(const uint8_t *block, float *y) {
    const ht_block_q5_1 *b = (const ht_block_q5_1 *)block;
    float d = ht_half(b->d), m = ht_half(b->m);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)five_bits(b->qs, b->qh, i) + m;
}

static void decode_bytes(float d, const uint8_t *qs, float *y) {
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)(int8_t)qs[i];
}

void ht_q8_0_decode(const uint8_t *block, float *y) {
    const ht_block_q8_0 *b = (const ht_block_q8_0 *)block;
    decode_bytes(ht_half(b->d), b->qs, y);
}

void ht_q8_1_decode(const uint8_t *block, float *y) {
    const ht_block_q8_1 *b = (const ht_block_q8_1 *)block;
    decode_bytes(ht_half(b->d), b->qs, y);
}

/* The value of largest magnitude, the first of equals: its sign decides which end of the codes it takes. */
static float signed_max(const float *x) {
    float best = x[0];
    for (int i = 1; i < 32; i++)
        if (fabsf(x[i]) > fabsf(best))
            best = x[i];
    return best;
}

static void range(const float *x, float *min, float *max) {
    *min = *max = x[0];
    for (int i = 1; i < 32; i++) {
        *min = x[i] < *min ? x[i] : *min;
        *max = x[i] > *max ? x[i] : *max;
    }
}

/* f32 scale before it is stored, within what f16 can hold. */
static float bounded(float d) {
    return d > 65504.0f ? 65504.0f : d < -65504.0f ? -65504.0f : d;
}

static void put_split_nibbles(uint8_t *qs, const int *q) {
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)((q[j] & 15) | (q[j + 16] & 15) << 4);
}

static void put_fifth_bits(uint8_t *qh, const int *q) {
    memset(qh, 0, 4);
    for (int i = 0; i < 32; i++)
        qh[i / 8] |= (uint8_t)((q[i] >> 4) << (i % 8));
}

/* HT_SCALE_MSE: the scale and minimum with the least squared error, and the nearest codes for them as stored. */
static void search_symmetric(const float *x, int half, uint8_t *d_out, int *q) {
    float unit[32], weight[32];
    int exponent = ht_fit_normalize(x, 32, unit);
    for (int i = 0; i < 32; i++)
        weight[i] = 1;
    float d = ht_put_half(d_out, ldexpf(ht_fit_symmetric(unit, weight, 32, half), exponent));
    for (int i = 0; i < 32; i++)
        q[i] = half + (d != 0 ? ht_fit_round(x[i] / d, -half, half - 1) : 0);
}

static void search_affine(const float *x, int top, uint8_t *d_out, uint8_t *m_out, int *q) {
    float unit[32], weight[32], minus, min, max;
    int exponent = ht_fit_normalize(x, 32, unit);
    range(unit, &min, &max);
    for (int i = 0; i < 32; i++) {
        unit[i] -= max; /* the search wants a minimum below zero */
        weight[i] = 1;
    }
    float scale = ht_fit_affine(unit, weight, 32, top, &minus);
    float d = ht_put_half(d_out, ldexpf(scale, exponent));
    float m = ht_put_half(m_out, ldexpf(max - minus, exponent));
    for (int i = 0; i < 32; i++)
        q[i] = d > 0 ? ht_fit_round((x[i] - m) / d, 0, top) : 0;
}

/* Codes of a symmetric block: half = 8 or 16 levels on the negative side. */
static void encode_symmetric(const ht_row_options *options, const float *x, int half, uint8_t *d_out, int *q) {
    if (options->scale_rule == HT_SCALE_MSE) {
        search_symmetric(x, half, d_out, q);
        return;
    }
    float d = bounded(signed_max(x) / (float)-half);
    float inverse = ht_inverse(d, ht_put_half(d_out, d));
    for (int i = 0; i < 32; i++)
        q[i] = ht_clip_level(x[i] * inverse + ((float)half + 0.5f), 0, 2 * half - 1);
}

static void encode_affine(const ht_row_options *options, const float *x, int top, uint8_t *d_out, uint8_t *m_out,
                          int *q) {
    if (options->scale_rule == HT_SCALE_MSE) {
        search_affine(x, top, d_out, m_out, q);
        return;
    }
    float min, max;
    range(x, &min, &max);
    float d = bounded((max - min) / (float)top);
    ht_put_half(m_out, min);
    float inverse = ht_inverse(d, ht_put_half(d_out, d));
    min = bounded(min);
    for (int i = 0; i < 32; i++)
        q[i] = ht_clip_level((x[i] - min) * inverse + 0.5f, 0, top);
}

void ht_q4_0_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q4_0 *b = (ht_block_q4_0 *)block;
    int q[32];
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    encode_symmetric(options, x, 8, b->d, q);
    put_split_nibbles(b->qs, q);
}

void ht_q5_0_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q5_0 *b = (ht_block_q5_0 *)block;
    int q[32];
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    encode_symmetric(options, x, 16, b->d, q);
    put_split_nibbles(b->qs, q);
    put_fifth_bits(b->qh, q);
}

void ht_q4_1_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q4_1 *b = (ht_block_q4_1 *)block;
    int q[32];
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    encode_affine(options, x, 15, b->d, b->m, q);
    put_split_nibbles(b->qs, q);
}

void ht_q5_1_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q5_1 *b = (ht_block_q5_1 *)block;
    int q[32];
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    encode_affine(options, x, 31, b->d, b->m, q);
    put_split_nibbles(b->qs, q);
    put_fifth_bits(b->qh, q);
}

/* Eight-bit codes, halves away from zero. Returns their sum. */
static int encode_bytes(const float *x, uint8_t *d_out, uint8_t *qs, float *d_used) {
    float d = bounded(fabsf(signed_max(x)) / 127.0f);
    float inverse = ht_inverse(d, ht_put_half(d_out, d));
    int sum = 0;
    for (int i = 0; i < 32; i++) {
        int q = ht_clip_level(roundf(x[i] * inverse), -127, 127);
        qs[i] = (uint8_t)q;
        sum += q;
    }
    *d_used = d;
    return sum;
}

void ht_q8_0_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q8_0 *b = (ht_block_q8_0 *)block;
    float d;
    (void)options;
    if (!ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        encode_bytes(x, b->d, b->qs, &d);
}

void ht_q8_1_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q8_1 *b = (ht_block_q8_1 *)block;
    float d;
    (void)options;
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    int sum = encode_bytes(x, b->d, b->qs, &d);
    ht_put_half(b->s, (float)sum * d);
}
