/* GGUF types of one to two bits a value: TQ1_0 and TQ2_0 (three levels), Q1_0 (two levels), Q2_0 (four levels).
 *
 *     tq1_0  256 values in 52 bytes of five (four, in the last 4 bytes) base-3 digits | d          y = d (digit - 1)
 *            a byte is ceil(v 256 / 243) for the number v = digits in base 3, first digit highest: then
 *            (byte * 3^t mod 256) * 3 / 256 is digit t, no division needed
 *            bytes 0..31: value 32 t + j · bytes 32..47: value 160 + 16 t + j · bytes 48..51: value 240 + 4 t + j
 *     tq2_0  256 two-bit codes, four a byte, 32 apart | d                                          y = d (q - 1)
 *     q1_0   d | 128 bits, bit j % 8 of byte j / 8                                                  y = bit ? d : -d
 *     q2_0   d | 64 two-bit codes, four neighbours a byte, low bits first                           y = d (q - 1)
 *
 * The encoders of TQ1_0 and TQ2_0 take max |x| as scale: they store ternary weights, they do not make weights ternary.
 * Q1_0 and Q2_0 are read only. Files made by an early fork give number 42 to a Q2_0 with 128 values a block; such a
 * tensor has another size than this layout asks for, and the reader of the file refuses it.
 * Source: docs/formats-gguf.md.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"

_Static_assert(sizeof(ht_block_tq1_0) == 54 && sizeof(ht_block_tq2_0) == 66, "ternary blocks");
_Static_assert(sizeof(ht_block_q1_0) == 18 && sizeof(ht_block_q2_0) == 18, "q1_0 and q2_0 blocks");

static const uint8_t power_of_3[5] = {1, 3, 9, 27, 81};

/* Where value i of a TQ1_0 block lies: byte and digit. qh follows qs, so bytes 48..51 are qh. */
static void tq1_place(int i, int *byte, int *digit) {
    if (i < 160) {
        *byte = i % 32;
        *digit = i / 32;
    } else if (i < 240) {
        *byte = 32 + (i - 160) % 16;
        *digit = (i - 160) / 16;
    } else {
        *byte = 48 + (i - 240) % 4;
        *digit = (i - 240) / 4;
    }
}

void ht_tq1_0_decode(const uint8_t *block, float *y) {
    const ht_block_tq1_0 *b = (const ht_block_tq1_0 *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 256; i++) {
        int byte, digit;
        tq1_place(i, &byte, &digit);
        unsigned shifted = (unsigned)block[byte] * power_of_3[digit] & 255u;
        y[i] = d * (float)((int)(shifted * 3 >> 8) - 1);
    }
}

void ht_tq2_0_decode(const uint8_t *block, float *y) {
    const ht_block_tq2_0 *b = (const ht_block_tq2_0 *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 256; i++)
        y[i] = d * (float)((b->qs[i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3) - 1);
}

void ht_q1_0_decode(const uint8_t *block, float *y) {
    const ht_block_q1_0 *b = (const ht_block_q1_0 *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 128; i++)
        y[i] = b->qs[i / 8] >> (i % 8) & 1 ? d : -d;
}

void ht_q2_0_decode(const uint8_t *block, float *y) {
    const ht_block_q2_0 *b = (const ht_block_q2_0 *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 64; i++)
        y[i] = d * (float)((b->qs[i / 4] >> (i % 4 * 2) & 3) - 1);
}

/* Codes 0, 1, 2 for -1, 0, 1: x / max |x| to the nearest integer, halves away from zero. */
static void ternary_codes(const float *x, uint8_t *d_out, uint8_t *q) {
    float d = 0;
    for (int i = 0; i < 256; i++)
        d = fabsf(x[i]) > d ? fabsf(x[i]) : d;
    d = d > 65504.0f ? 65504.0f : d;
    float inverse = ht_inverse(d, ht_put_half(d_out, d));
    for (int i = 0; i < 256; i++)
        q[i] = (uint8_t)(ht_clip_level(roundf(x[i] * inverse), -1, 1) + 1);
}

void ht_tq1_0_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_tq1_0 *b = (ht_block_tq1_0 *)block;
    uint8_t q[256], number[52] = {0};
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    ternary_codes(x, b->d, q);
    for (int i = 0; i < 256; i++) {
        int byte, digit;
        tq1_place(i, &byte, &digit);
        number[byte] = (uint8_t)(number[byte] + q[i] * power_of_3[4 - digit]);
    }
    for (int j = 0; j < 52; j++)
        block[j] = (uint8_t)((number[j] * 256 + 242) / 243);
}

void ht_tq2_0_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_tq2_0 *b = (ht_block_tq2_0 *)block;
    uint8_t q[256];
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    ternary_codes(x, b->d, q);
    memset(b->qs, 0, sizeof b->qs);
    for (int i = 0; i < 256; i++)
        b->qs[i / 128 * 32 + i % 32] |= (uint8_t)(q[i] << (i % 128 / 32 * 2));
}
