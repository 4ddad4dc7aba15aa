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

_Static_assert(sizeof(ht_block_iq4_nl) == 18 && sizeof(ht_block_iq4_xs) == 136, "iq4 blocks");

static const int8_t table[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
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

/* Codes of 32 values for a scale as it is stored. */
static void put_codes(const float *x, float scale, uint8_t *qs) {
    int q[32];
    for (int i = 0; i < 32; i++)
        q[i] = scale != 0 ? ht_fit_nearest(table, x[i] / scale) : CODE_OF_LEAST;
    for (int j = 0; j < 16; j++)
        qs[j] = (uint8_t)(q[j] | q[j + 16] << 4);
}

static float fit(const float *x) {
    float weight[32];
    for (int i = 0; i < 32; i++)
        weight[i] = x[i] * x[i];
    return ht_fit_table(x, weight, 32, table);
}

void ht_iq4_nl_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_iq4_nl *b = (ht_block_iq4_nl *)block;
    float unit[32];
    (void)options;
    if (ht_block_not_finite(x, 32, block, sizeof *b, b->d))
        return;
    int exponent = ht_fit_normalize(x, 32, unit);
    put_codes(x, ht_put_half(b->d, ldexpf(fit(unit), exponent)), b->qs);
}

void ht_iq4_xs_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_iq4_xs *b = (ht_block_iq4_xs *)block;
    float unit[256], scale[8], largest = 0;
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    int exponent = ht_fit_normalize(x, 256, unit);
    for (int s = 0; s < 8; s++) {
        scale[s] = fit(unit + 32 * s);
        largest = fabsf(scale[s]) > fabsf(largest) ? scale[s] : largest;
    }
    float d = ht_put_half(b->d, ldexpf(largest / -32.0f, exponent));
    unsigned high = 0;
    memset(b->scales_l, 0, sizeof b->scales_l);
    for (int s = 0; s < 8; s++) {
        int q = largest != 0 ? ht_fit_round(scale[s] * (-32.0f / largest), -32, 31) : 0;
        b->scales_l[s / 2] |= (uint8_t)(((q + 32) & 15) << (s % 2 * 4));
        high |= (unsigned)(q + 32) >> 4 << (2 * s);
        put_codes(x + 32 * s, d * (float)q, b->qs + 16 * s);
    }
    ht_put_u16(b->scales_h, high);
}
