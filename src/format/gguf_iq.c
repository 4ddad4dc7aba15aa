/* Decoders of the GGUF IQ1, IQ2 and IQ3 types: codes name points of a lattice, signs and scales stand apart.
 *
 * 256 values are eight groups of 32. A group is made of points of 8 (IQ1, IQ2) or 4 (IQ3) values:
 *
 *     iq2_xxs  8 bytes a group: four 8-bit points | 4 x 7 sign bits, 4-bit scale     y = d (0.5 + S) / 4 * point * sign
 *     iq2_xs   u16 a point: 9-bit point, 7 sign bits; 4-bit scale per 16             as above
 *     iq2_s    10-bit point (8 in qs, 2 in qh), 8 sign bits; 4-bit scale per 16      as above
 *     iq3_xxs  8-bit points; then u32 a group as in iq2_xxs                          y = d (0.5 + S) / 2 * point * sign
 *     iq3_s    9-bit point (8 in qs, 1 in qh), 8 sign bits; 4-bit scale per 32       y = d (1 + 2 S) * point * sign
 *     iq1_s    11-bit point (8 in qs, 3 in qh), 3-bit scale and shift sign per 32    y = d (1 + 2 S) * (point +- 1/8)
 *     iq1_m    11-bit point and shift sign per 8, 3-bit scale per 16; d is spread over the top nibbles of the scales
 *
 * Seven sign bits stand for eight: the eighth makes the number of minus signs even. There is no encoder: a good one
 * needs the statistics of the activations, which a block does not have.
 * Source: docs/formats-gguf.md; the bits were compared with the vectors of the format tests, type by type.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"
#include "format/gguf_iq_table.h"

_Static_assert(sizeof(ht_block_iq2_xxs) == 66 && sizeof(ht_block_iq2_xs) == 74 && sizeof(ht_block_iq2_s) == 82, "iq2");
_Static_assert(sizeof(ht_block_iq3_xxs) == 98 && sizeof(ht_block_iq3_s) == 110, "iq3 blocks");
_Static_assert(sizeof(ht_block_iq1_s) == 50 && sizeof(ht_block_iq1_m) == 56, "iq1 blocks");

static const uint8_t iq2_values[4] = {8, 25, 43, 0}; /* index 3 does not occur */
static const uint8_t iq3_xxs_values[8] = {4, 12, 20, 28, 36, 44, 52, 62};
static const uint8_t iq3_s_values[8] = {1, 3, 5, 7, 9, 11, 13, 15};

/* Eight sign bits from the seven that are stored. */
static unsigned even_signs(unsigned seven) {
    unsigned parity = seven ^ seven >> 4;
    parity ^= parity >> 2;
    parity ^= parity >> 1;
    return seven | (parity & 1) << 7;
}

static void put_point8(unsigned point, unsigned signs, float scale, float *y) {
    for (int j = 0; j < 8; j++) {
        float v = scale * (float)iq2_values[point >> (2 * j) & 3];
        y[j] = signs >> j & 1 ? -v : v;
    }
}

static void put_point4(unsigned point, const uint8_t *values, unsigned signs, float scale, float *y) {
    for (int j = 0; j < 4; j++) {
        float v = scale * (float)values[point >> (3 * j) & 7];
        y[j] = signs >> j & 1 ? -v : v;
    }
}

void ht_iq2_xxs_decode(const uint8_t *block, float *y) {
    const ht_block_iq2_xxs *b = (const ht_block_iq2_xxs *)block;
    float d = ht_half(b->d);
    for (int g = 0; g < 8; g++) {
        uint32_t word = ht_u32(b->qs + 8 * g + 4);
        float scale = d * (0.5f + (float)(word >> 28)) * 0.25f;
        for (int p = 0; p < 4; p++)
            put_point8(ht_iq2_xxs_grid[b->qs[8 * g + p]], even_signs(word >> (7 * p) & 127), scale, y + 32 * g + 8 * p);
    }
}

/* Scale of the 16 values that hold point p (of 8 values): two 4-bit scales a byte. */
static float scale_of_point(float d, const uint8_t *scales, int p) {
    return d * (0.5f + (float)(scales[p / 4] >> (p / 2 % 2 * 4) & 15)) * 0.25f;
}

void ht_iq2_xs_decode(const uint8_t *block, float *y) {
    const ht_block_iq2_xs *b = (const ht_block_iq2_xs *)block;
    float d = ht_half(b->d);
    for (int p = 0; p < 32; p++) {
        unsigned code = ht_u16(b->qs + 2 * p);
        put_point8(ht_iq2_xs_grid[code & 511], even_signs(code >> 9), scale_of_point(d, b->scales, p), y + 8 * p);
    }
}

void ht_iq2_s_decode(const uint8_t *block, float *y) {
    const ht_block_iq2_s *b = (const ht_block_iq2_s *)block;
    float d = ht_half(b->d);
    for (int p = 0; p < 32; p++) {
        unsigned code = b->qs[p] | (b->qh[p / 4] >> (p % 4 * 2) & 3u) << 8;
        put_point8(ht_iq2_s_grid[code], b->signs[p], scale_of_point(d, b->scales, p), y + 8 * p);
    }
}

void ht_iq3_xxs_decode(const uint8_t *block, float *y) {
    const ht_block_iq3_xxs *b = (const ht_block_iq3_xxs *)block;
    float d = ht_half(b->d);
    for (int p = 0; p < 64; p++) {
        uint32_t word = ht_u32(b->scales + p / 8 * 4);
        float scale = d * (0.5f + (float)(word >> 28)) * 0.5f;
        unsigned signs = even_signs(word >> (p % 8 / 2 * 7) & 127) >> (p % 2 * 4);
        put_point4(ht_iq3_xxs_grid[b->qs[p]], iq3_xxs_values, signs, scale, y + 4 * p);
    }
}

void ht_iq3_s_decode(const uint8_t *block, float *y) {
    const ht_block_iq3_s *b = (const ht_block_iq3_s *)block;
    float d = ht_half(b->d);
    for (int p = 0; p < 64; p++) {
        unsigned code = b->qs[p] | (b->qh[p / 8] >> (p % 8) & 1u) << 8;
        float scale = d * (float)(1 + 2 * (b->scales[p / 16] >> (p / 8 % 2 * 4) & 15));
        put_point4(ht_iq3_s_grid[code], iq3_s_values, b->signs[p / 2] >> (p % 2 * 4), scale, y + 4 * p);
    }
}

static void put_ternary8(unsigned point, float shift, float scale, float *y) {
    for (int j = 0; j < 8; j++)
        y[j] = scale * ((float)((int)(point >> (2 * j) & 3) - 1) + shift);
}

void ht_iq1_s_decode(const uint8_t *block, float *y) {
    const ht_block_iq1_s *b = (const ht_block_iq1_s *)block;
    float d = ht_half(b->d);
    for (int p = 0; p < 32; p++) {
        unsigned high = ht_u16(b->qh + p / 4 * 2); /* shift sign, 3 scale bits, four times 3 code bits */
        float scale = d * (float)(2 * (high >> 12 & 7) + 1);
        unsigned code = b->qs[p] | (high >> (p % 4 * 3) & 7) << 8;
        put_ternary8(ht_iq1_grid[code], high & 0x8000 ? -0.125f : 0.125f, scale, y + 8 * p);
    }
}

void ht_iq1_m_decode(const uint8_t *block, float *y) {
    const ht_block_iq1_m *b = (const ht_block_iq1_m *)block;
    unsigned bits = 0; /* of the f16 scale: a nibble from each word, the lowest first */
    for (int w = 0; w < 4; w++)
        bits |= ht_u16(b->scales + 2 * w) >> 12 << (4 * w);
    float d = ht_f32_from_f16((uint16_t)bits);
    for (int p = 0; p < 32; p++) {
        unsigned high = b->qh[p / 2] >> (p % 2 * 4); /* shift sign and 3 code bits */
        float scale = d * (float)(2 * (ht_u16(b->scales + p / 8 * 2) >> (p / 2 % 4 * 3) & 7) + 1);
        put_ternary8(ht_iq1_grid[b->qs[p] | (high & 7) << 8], high & 8 ? -0.125f : 0.125f, scale, y + 8 * p);
    }
}
