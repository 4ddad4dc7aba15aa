/* GGUF IQ4_NL and IQ4_XS: 4-bit codes into a fixed table of 16 unevenly spaced values.
 *
 *     iq4_nl  d | 16 bytes, byte j = code j + 16 * code (j + 16)                         y = d table[q]
 *     iq4_xs  256 values, d | eight 6-bit signed scales (2 high bits together in scales_h, 4 low bits in scales_l) |
 *             eight times the 16 bytes above                                             y = d (S - 32) table[q]
 *
 * The encoders search the scale of every 32 values by weighted least squares (gguf_fit.h, weights x^2); IQ4_XS then
 * rounds eight scales to 6 bits relative to the largest and chooses the codes anew.
 * Source: the formats specification, section 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"
#include "format/gguf_fit.h"
#include "format/gguf_iq4.h"

_Static_assert(sizeof(ht_block_iq4_nl) == 18 && sizeof(ht_block_iq4_xs) == 136, "iq4 blocks");

const int8_t ht_iq4_values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const int8_t *const table = ht_iq4_values;
enum { CODE_OF_LEAST = 8 }; /* no code is zero: 1 is the nearest */

void ht_iq4_nl_decode(const uint8_t *block, float *y) {
    const ht_block_iq4_nl *b = (const ht_block_iq4_nl *)block;
    float d = ht_half(b->d);
    for (int i = 0; i < 32; i++)
        y[i] = d * (float)table[ht_split_nibble(b->qs, i)];
}

void ht_iq4_xs_decode(const uint8_t *block, float *y) {
    const ht_block_iq4_xs *b = (const ht_block_iq4_xs *)block;
    float d = ht_half(b->d);
    for (int s = 0; s < 8; s++) {
        unsigned low = b->scales_l[s / 2] >> (s % 2 * 4) & 15u, high = ht_u16(b->scales_h) >> (2 * s) & 3;
        float scale = d * (float)((int)(low | high << 4) - 32);
        for (int i = 0; i < 32; i++)
            y[32 * s + i] = scale * (float)table[ht_split_nibble(b->qs + 16 * s, i)];
    }
}

int ht_iq4_code(float x, float scale) {
    return scale != 0 ? ht_fit_nearest(table, x / scale) : CODE_OF_LEAST;
}

static float fit(const float *x, const float *importance) {
    float weight[32];
    for (int i = 0; i < 32; i++)
        weight[i] = importance ? importance[i] : x[i] * x[i];
    return ht_fit_table(x, weight, 32, table);
}

static void put_codes(const uint8_t *q, uint8_t *qs) {
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

float ht_iq4_nl_fit(const float *x, const float *importance, uint8_t d[2]) {
    float unit[32];
    int exponent = ht_fit_normalize(x, 32, unit);
    return ht_put_half(d, ldexpf(fit(unit, importance), exponent));
}

float ht_iq4_xs_fit(const float *x, const float *importance, uint8_t d[2], int8_t scales[8]) {
    float unit[256], scale[8], largest = 0;
    int exponent = ht_fit_normalize(x, 256, unit);
    for (int s = 0; s < 8; s++) {
        scale[s] = fit(unit + 32 * s, importance ? importance + 32 * s : NULL);
        largest = fabsf(scale[s]) > fabsf(largest) ? scale[s] : largest;
    }
    for (int s = 0; s < 8; s++)
        scales[s] = (int8_t)(largest != 0 ? ht_fit_round(scale[s] * (-32.0f / largest), -32, 31) : 0);
    return ht_put_half(d, ldexpf(largest / -32.0f, exponent));
}

void ht_iq4_nl_pack(const uint8_t d[2], const uint8_t *q, uint8_t *block) {
    ht_block_iq4_nl *b = (ht_block_iq4_nl *)block;
    memcpy(b->d, d, 2);
    put_codes(q, b->qs);
}

void ht_iq4_xs_pack(const uint8_t d[2], const int8_t *scales, const uint8_t *q, uint8_t *block) {
    ht_block_iq4_xs *b = (ht_block_iq4_xs *)block;
    unsigned high = 0;
    memcpy(b->d, d, 2);
    memset(b->scales_l, 0, sizeof b->scales_l);
    for (int s = 0; s < 8; s++) {
        b->scales_l[s / 2] |= (uint8_t)(((scales[s] + 32) & 15) << (s % 2 * 4));
        high |= (unsigned)(scales[s] + 32) >> 4 << (2 * s);
        put_codes(q + 32 * s, b->qs + 16 * s);
    }
    ht_put_u16(b->scales_h, high);
}

void ht_iq4_xs_scales(const uint8_t *block, int8_t scales[8]) {
    const ht_block_iq4_xs *b = (const ht_block_iq4_xs *)block;
    for (int s = 0; s < 8; s++) {
        unsigned low = b->scales_l[s / 2] >> (s % 2 * 4) & 15u, high = ht_u16(b->scales_h) >> (2 * s) & 3;
        scales[s] = (int8_t)((int)(low | high << 4) - 32);
    }
}

void ht_iq4_nl_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_iq4_nl *b = (ht_block_iq4_nl *)block;
    uint8_t d[2], q[32];
    (void)options;
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    float scale = ht_iq4_nl_fit(x, NULL, d);
    for (int i = 0; i < 32; i++)
        q[i] = (uint8_t)ht_iq4_code(x[i], scale);
    ht_iq4_nl_pack(d, q, block);
}

void ht_iq4_xs_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_iq4_xs *b = (ht_block_iq4_xs *)block;
    uint8_t d[2], q[256];
    int8_t scales[8];
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    float unit = ht_iq4_xs_fit(x, NULL, d, scales);
    for (int i = 0; i < 256; i++)
        q[i] = (uint8_t)ht_iq4_code(x[i], unit * (float)scales[i / 32]);
    ht_iq4_xs_pack(d, scales, q, block);
}
