/* Packing of sub-byte codes.
 *
 *   HT_PACK_LOW    byte j = code 2j | code 2j+1 << 4
 *   HT_PACK_HIGH   byte j = code 2j << 4 | code 2j+1
 *   HT_PACK_BITS   one little-endian bit stream, code i in bits [i * bits, (i + 1) * bits); codes may straddle bytes
 *   HT_PACK_WORDS  the same stream, read as 32-bit little-endian words
 * Streams move eight codes at a time: they fill exactly `bits` bytes, at most 56 bits of one 64-bit register.
 * Hosts are little-endian (x86-64, AArch64). Refuses: nothing.
 * Source: formats specification, sections 1.3, 6.4, 8.3 and 11 (7); compressed-tensors pack-quantized.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/pack.h"

#include <string.h>

size_t ht_packed_bytes(ht_packing packing, unsigned bits, size_t n) {
    if (packing == HT_PACK_BYTES || bits == 8)
        return n;
    if (packing == HT_PACK_LOW || packing == HT_PACK_HIGH)
        return n / 2 + n % 2;
    return n / 8 * bits + (n % 8 * bits + 7) / 8;
}

static void pack_nibbles(const uint8_t *codes, size_t n, int low_shift, uint8_t *out) {
    int high_shift = 4 - low_shift;
    size_t pairs = n / 2;
    for (size_t j = 0; j < pairs; j++)
        out[j] = (uint8_t)((codes[2 * j] & 15) << low_shift | (codes[2 * j + 1] & 15) << high_shift);
    if (n % 2)
        out[pairs] = (uint8_t)((codes[n - 1] & 15) << low_shift);
}

static void unpack_nibbles(const uint8_t *in, size_t n, int low_shift, uint8_t *codes) {
    int high_shift = 4 - low_shift;
    for (size_t j = 0; j < n / 2; j++) {
        codes[2 * j] = in[j] >> low_shift & 15;
        codes[2 * j + 1] = in[j] >> high_shift & 15;
    }
    if (n % 2)
        codes[n - 1] = in[n / 2] >> low_shift & 15;
}

/* Up to eight codes as one number; and back. */
static inline uint64_t gather(unsigned bits, const uint8_t *codes, size_t count) {
    uint64_t group = 0, mask = (1u << bits) - 1;
    for (size_t j = 0; j < count; j++)
        group |= (codes[j] & mask) << (j * bits);
    return group;
}

static inline void scatter(unsigned bits, uint64_t group, size_t count, uint8_t *codes) {
    uint64_t mask = (1u << bits) - 1;
    for (size_t j = 0; j < count; j++)
        codes[j] = (uint8_t)(group >> (j * bits) & mask);
}

/* Whole groups move as 8 bytes, of which `bits` count: the surplus is overwritten by the next group. Near the end the
 * exact number of bytes moves. */
static void pack_stream(unsigned bits, const uint8_t *codes, size_t n, uint8_t *out) {
    size_t i = 0, total = ht_packed_bytes(HT_PACK_BITS, bits, n);
    for (; i + 8 <= n && i / 8 * bits + 8 <= total; i += 8) {
        uint64_t group = gather(bits, codes + i, 8);
        memcpy(out + i / 8 * bits, &group, 8);
    }
    for (; i < n; i += 8) {
        uint64_t group = gather(bits, codes + i, n - i < 8 ? n - i : 8);
        memcpy(out + i / 8 * bits, &group, n - i < 8 ? ((n - i) * bits + 7) / 8 : bits);
    }
}

static void unpack_stream(unsigned bits, const uint8_t *in, size_t n, uint8_t *codes) {
    size_t i = 0, total = ht_packed_bytes(HT_PACK_BITS, bits, n);
    for (; i + 8 <= n && i / 8 * bits + 8 <= total; i += 8) {
        uint64_t group;
        memcpy(&group, in + i / 8 * bits, 8);
        scatter(bits, group, 8, codes + i);
    }
    for (; i < n; i += 8) {
        uint64_t group = 0;
        memcpy(&group, in + i / 8 * bits, n - i < 8 ? ((n - i) * bits + 7) / 8 : bits);
        scatter(bits, group, n - i < 8 ? n - i : 8, codes + i);
    }
}

void ht_pack_codes(ht_packing packing, unsigned bits, const uint8_t *codes, size_t n, uint8_t *out) {
    if (packing == HT_PACK_BYTES || bits == 8)
        memcpy(out, codes, n);
    else if (packing == HT_PACK_HIGH)
        pack_nibbles(codes, n, 4, out);
    else if (packing == HT_PACK_LOW || bits == 4)
        pack_nibbles(codes, n, 0, out);
    else
        pack_stream(bits, codes, n, out);
}

void ht_unpack_codes(ht_packing packing, unsigned bits, const uint8_t *in, size_t n, uint8_t *codes) {
    if (packing == HT_PACK_BYTES || bits == 8)
        memcpy(codes, in, n);
    else if (packing == HT_PACK_HIGH)
        unpack_nibbles(in, n, 4, codes);
    else if (packing == HT_PACK_LOW || bits == 4)
        unpack_nibbles(in, n, 0, codes);
    else
        unpack_stream(bits, in, n, codes);
}

void ht_pack_columns(unsigned bits, const int8_t *q, size_t rows, size_t cols, uint32_t *words) {
    size_t word_rows = (rows * bits + 31) / 32;
    uint32_t mask = (uint32_t)((1u << bits) - 1), offset = 1u << (bits - 1);
    memset(words, 0, word_rows * cols * sizeof *words);
    for (size_t r = 0; r < rows; r++) {
        size_t bit = r * bits;
        for (size_t c = 0; c < cols; c++) {
            uint64_t code = (uint64_t)(((uint32_t)q[r * cols + c] + offset) & mask) << bit % 32;
            words[bit / 32 * cols + c] |= (uint32_t)code;
            if (code >> 32)
                words[(bit / 32 + 1) * cols + c] |= (uint32_t)(code >> 32);
        }
    }
}

void ht_unpack_columns(unsigned bits, const uint32_t *words, size_t rows, size_t cols, int8_t *q) {
    uint32_t mask = (uint32_t)((1u << bits) - 1);
    int offset = 1 << (bits - 1);
    for (size_t r = 0; r < rows; r++) {
        size_t bit = r * bits;
        int straddles = bit % 32 + bits > 32;
        for (size_t c = 0; c < cols; c++) {
            uint64_t pair = words[bit / 32 * cols + c];
            if (straddles)
                pair |= (uint64_t)words[(bit / 32 + 1) * cols + c] << 32;
            q[r * cols + c] = (int8_t)((int)(pair >> bit % 32 & mask) - offset);
        }
    }
}

unsigned ht_bit_plane_widths(unsigned bits, unsigned widths[3]) {
    unsigned count = 0;
    for (unsigned width = 4; width; width /= 2)
        if (bits & width)
            widths[count++] = width;
    return count;
}

unsigned ht_pack_bit_planes(unsigned bits, const uint8_t *codes, size_t rows, size_t cols, uint8_t *const planes[3]) {
    unsigned widths[3], count = ht_bit_plane_widths(bits, widths), shift = 0;
    for (unsigned p = 0; p < count; shift += widths[p++]) {
        unsigned b = widths[p], mask = (1u << b) - 1;
        size_t slice = cols * b / 8;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < slice; c++) {
                unsigned byte = 0;
                for (unsigned j = 0; j < 8 / b; j++)
                    byte |= (codes[r * cols + j * slice + c] >> shift & mask) << j * b;
                planes[p][r * slice + c] = (uint8_t)byte;
            }
    }
    return count;
}

void ht_unpack_bit_planes(unsigned bits, const uint8_t *const planes[3], size_t rows, size_t cols, uint8_t *codes) {
    unsigned widths[3], count = ht_bit_plane_widths(bits, widths), shift = 0;
    memset(codes, 0, rows * cols);
    for (unsigned p = 0; p < count; shift += widths[p++]) {
        unsigned b = widths[p], mask = (1u << b) - 1;
        size_t slice = cols * b / 8;
        for (size_t r = 0; r < rows; r++)
            for (size_t c = 0; c < slice; c++)
                for (unsigned j = 0; j < 8 / b; j++)
                    codes[r * cols + j * slice + c] |= (uint8_t)((planes[p][r * slice + c] >> j * b & mask) << shift);
    }
}
