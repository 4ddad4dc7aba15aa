/* Planes of codes to units of bytes: the part of unpacking that is the same for every width. Plain C over 64-byte
 * units, which compilers turn into whole registers. Included by kernel files, compiled with their flags. */
#ifndef HT_KERNELS_BODY_UNITS_H
#define HT_KERNELS_BODY_UNITS_H

#include <stdint.h>
#include <string.h> /* memcpy */

#include "kernels/packed.h"

enum { UNIT_WORDS = HT_UNIT / 4 };

/* Widths of the planes of a code, low bits first. Returns their number. */
static inline unsigned plane_widths(unsigned bits, unsigned width[3]) {
    unsigned count = 0;
    if (bits == 8) {
        width[0] = 8;
        return 1;
    }
    for (unsigned w = 4; w; w /= 2)
        if (bits & w)
            width[count++] = w;
    return count;
}

/* One block of codes (8 units of 64, a byte each) from its planes. */
static inline void block_codes(const ht_packed *packed, const uint8_t *restrict block, uint8_t *restrict out) {
    unsigned width[3], planes = plane_widths(packed->bits, width), low = 0;
    if (packed->bits == 8) {
        memcpy(out, block, HT_STEPS * HT_UNIT);
        return;
    }
    memset(out, 0, HT_STEPS * HT_UNIT);
    for (unsigned p = 0; p < planes; p++) {
        unsigned w = width[p];
        uint8_t mask = (uint8_t)((1u << w) - 1);
        for (unsigned i = 0; i < 8 / w; i++)
            for (unsigned b = 0; b < w * HT_UNIT; b++)
                out[i * w * HT_UNIT + b] |= (uint8_t)((block[b] >> (i * w) & mask) << low);
        block += w * HT_UNIT;
        low += w;
    }
}

/* The same as table values (value / unit + offset). */
static inline void block_values(const ht_packed *packed, const uint8_t *restrict block, uint8_t *restrict out) {
    block_codes(packed, block, out);
    if (packed->dtype != HT_DTYPE_NONE)
        for (unsigned b = 0; b < HT_STEPS * HT_UNIT; b++)
            out[b] = packed->table[out[b]];
}

/* Bits of the f32 of an e4m3 code. */
static inline uint32_t e4m3_bits(uint32_t code) {
    uint32_t sign = (code & 0x80) << 24, magnitude = code & 0x7f, bits;
    if (magnitude == 0x7f)
        return sign | 0x7fc00000u;
    if (magnitude >= 8)
        return sign | ((magnitude << 20) + (120u << 23));
    float small = (float)magnitude * 0.001953125f; /* subnormal: steps of 2^-9 */
    memcpy(&bits, &small, sizeof bits);
    return sign | bits;
}

/* Scale of one output for group g of a chunk, without the head. */
static inline float chunk_scale(const ht_packed *packed, const uint8_t *chunk, size_t group, size_t column) {
    size_t index = group * HT_PANEL + column;
    uint32_t bits;
    float scale;
    if (packed->scale == HT_PACKED_SCALE_E8M0)
        bits = chunk[index] ? (uint32_t)chunk[index] << 23 : 0x00400000u;
    else if (packed->scale == HT_PACKED_SCALE_E4M3)
        bits = e4m3_bits(chunk[index]);
    else if (packed->scale == HT_PACKED_SCALE_BF16)
        bits = (uint32_t)chunk[2 * index] << 16 | (uint32_t)chunk[2 * index + 1] << 24;
    else
        memcpy(&bits, chunk + 4 * index, sizeof bits);
    memcpy(&scale, &bits, sizeof scale);
    return scale;
}

/* The 16 floats before the chunks of a panel. */
static inline float head_value(const uint8_t *panel, size_t index) {
    uint32_t bits = 0;
    float value;
    for (size_t i = 0; i < 4; i++)
        bits |= (uint32_t)panel[4 * index + i] << (8 * i);
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Factor of one output of integer products: a row's scale, or the matrix's number. Only of layouts with a head. */
static inline float head_scale(const ht_packed *packed, const uint8_t *panel, size_t column) {
    float value = head_value(panel, column);
    return packed->head == HT_PACKED_HEAD_DIVIDES ? 1 / value : value;
}

#endif
