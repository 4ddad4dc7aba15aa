/* Decoders of the GGUF K types: super-blocks of 256 values, sub-blocks with a small integer scale (and minimum).
 *
 *     q2_k  16 sub-blocks of 16, 4-bit scale and minimum in a byte, 2-bit codes     y = d S q - dmin M
 *     q3_k  16 of 16, 6-bit signed scale, 2 bits in qs and the third in hmask       y = d (S - 32) (q - 4)
 *     q4_k  8 of 32, 6-bit scale and minimum, 4-bit codes                           y = d S q - dmin M
 *     q5_k  as q4_k, the fifth bit in qh                                            y = d S q - dmin M
 *     q6_k  16 of 16, int8 scale, 4 bits in ql and 2 in qh                          y = d S (q - 32)
 *     q8_k  one f32 scale, int8 codes, i16 sums of 16 codes (activation side)       y = d q
 *
 * The products are formed in the order (d S) q, then the minimum is subtracted: one rounding each, no fused operation.
 * Every byte pattern decodes; an f16 scale that is NaN or Inf gives NaN or Inf.
 * Source: the formats specification, section 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"
#include "format/gguf_k.h"

_Static_assert(sizeof(ht_block_q2_k) == 84 && sizeof(ht_block_q3_k) == 110, "q2_k and q3_k blocks");
_Static_assert(sizeof(ht_block_q4_k) == 144 && sizeof(ht_block_q5_k) == 176, "q4_k and q5_k blocks");
_Static_assert(sizeof(ht_block_q6_k) == 210 && sizeof(ht_block_q8_k) == 292, "q6_k and q8_k blocks");

/* Code i of 256 two-bit codes: each half of 128 values has 32 bytes, four values a byte, 32 apart. */
static unsigned two_bits(const uint8_t *qs, int i) {
    return qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3u;
}

void ht_q2_k_decode(const uint8_t *block, float *y) {
    const ht_block_q2_k *b = (const ht_block_q2_k *)block;
    float d = ht_half(b->d), dmin = ht_half(b->dmin);
    for (int s = 0; s < 16; s++) {
        float scale = d * (float)(b->scales[s] & 15), minus = dmin * (float)(b->scales[s] >> 4);
        for (int i = 16 * s; i < 16 * s + 16; i++)
            y[i] = scale * (float)two_bits(b->qs, i) - minus;
    }
}

void ht_q3_k_decode(const uint8_t *block, float *y) {
    const ht_block_q3_k *b = (const ht_block_q3_k *)block;
    float d = ht_half(b->d);
    for (int s = 0; s < 16; s++) {
        int low = s < 8 ? b->scales[s] & 15 : b->scales[s - 8] >> 4;
        int high = b->scales[8 + s % 4] >> (s / 4 * 2) & 3;
        float scale = d * (float)((low | high << 4) - 32);
        for (int i = 16 * s; i < 16 * s + 16; i++) {
            int third = b->hmask[i % 32] >> (i / 32) & 1;
            y[i] = scale * (float)((int)two_bits(b->qs, i) - (third ? 0 : 4));
        }
    }
}

void ht_k_scales_unpack(const uint8_t *packed, uint8_t *scale, uint8_t *minus) {
    for (int j = 0; j < 4; j++) {
        scale[j] = packed[j] & 63;
        minus[j] = packed[j + 4] & 63;
        scale[j + 4] = (uint8_t)((packed[j + 8] & 15) | packed[j] >> 6 << 4);
        minus[j + 4] = (uint8_t)(packed[j + 8] >> 4 | packed[j + 4] >> 6 << 4);
    }
}

void ht_q4_k_decode(const uint8_t *block, float *y) {
    const ht_block_q4_k *b = (const ht_block_q4_k *)block;
    float d = ht_half(b->d), dmin = ht_half(b->dmin);
    uint8_t scale[8], minus[8];
    ht_k_scales_unpack(b->scales, scale, minus);
    for (int s = 0; s < 8; s++) {
        float ds = d * (float)scale[s], dm = dmin * (float)minus[s];
        const uint8_t *qs = b->qs + s / 2 * 32;
        for (int i = 0; i < 32; i++)
            y[32 * s + i] = ds * (float)(qs[i] >> (s % 2 * 4) & 15) - dm;
    }
}

void ht_q5_k_decode(const uint8_t *block, float *y) {
    const ht_block_q5_k *b = (const ht_block_q5_k *)block;
    float d = ht_half(b->d), dmin = ht_half(b->dmin);
    uint8_t scale[8], minus[8];
    ht_k_scales_unpack(b->scales, scale, minus);
    for (int s = 0; s < 8; s++) {
        float ds = d * (float)scale[s], dm = dmin * (float)minus[s];
        const uint8_t *qs = b->qs + s / 2 * 32;
        for (int i = 0; i < 32; i++)
            y[32 * s + i] = ds * (float)((qs[i] >> (s % 2 * 4) & 15) | (b->qh[i] >> s & 1) << 4) - dm;
    }
}

void ht_q6_k_decode(const uint8_t *block, float *y) {
    const ht_block_q6_k *b = (const ht_block_q6_k *)block;
    float d = ht_half(b->d);
    for (int part = 0; part < 8; part++) { /* 32 values each, four in a half */
        const uint8_t *ql = b->ql + part / 4 * 64 + part % 2 * 32, *qh = b->qh + part / 4 * 32;
        int low_shift = part % 4 < 2 ? 0 : 4, high_shift = part % 4 * 2;
        for (int i = 0; i < 32; i++) {
            int q = (ql[i] >> low_shift & 15) | (qh[i] >> high_shift & 3) << 4;
            y[32 * part + i] = d * (float)(int8_t)b->scales[2 * part + i / 16] * (float)(q - 32);
        }
    }
}

void ht_q8_k_decode(const uint8_t *block, float *y) {
    const ht_block_q8_k *b = (const ht_block_q8_k *)block;
    uint32_t bits = ht_u32(b->d);
    float d;
    memcpy(&d, &bits, sizeof d);
    for (int i = 0; i < 256; i++)
        y[i] = d * (float)(int8_t)b->qs[i];
}
