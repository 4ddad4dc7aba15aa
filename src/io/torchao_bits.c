/* The order of bits in torchao's packed buffers, as a table.
 *
 * A span of values is cut into slots of `lanes` values each; lane i of every slot go together. A row of `lanes` bytes
 * holds, in each of its 8 bits, one bit of one slot: the table says which, "sb" for bit b of slot s, bit 0 first.
 *
 *     4 bits, 16 lanes    values v0 ... v31: slot 0 = v0..v15, slot 1 = v16..v31
 *                         byte i = v[i] | v[16 + i] << 4          "00 01 02 03 10 11 12 13"
 *
 * Spans of 64 and 32 values (the ends of embedding rows) are the same order with fewer lanes, but for 1 and 5 bits.
 * Source: cpu-kernels specification, section 1.3; the byte layouts of torchao's scalar packers of 1 to 7 bits.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/torchao_bits.h"

#include <string.h> /* memset, strlen */

enum { MOST_ROWS = 7, CELL = 3 /* characters, with the space behind it */ };

/* The same orders with 16, 8 and 1 lanes. */
static const char one[] = "70 60 50 40 30 20 10 00", one_64[] = "60 40 20 00 70 50 30 10";
static const char two[] = "30 31 20 21 10 11 00 01";
static const char three[] = "10 11 12 00 01 02 60 61 "
                            "30 31 32 20 21 22 70 71 "
                            "50 51 52 40 41 42 72 62";
static const char four[] = "00 01 02 03 10 11 12 13";
static const char five[] = "00 01 02 03 04 10 11 12 "
                           "20 21 22 23 24 30 31 32 "
                           "40 41 42 43 44 50 51 52 "
                           "60 61 62 63 64 70 71 72 "
                           "13 14 33 34 53 54 73 74";
static const char five_64[] = "00 01 02 03 04 20 21 22 "
                              "10 11 12 13 14 30 31 32 "
                              "40 41 42 43 44 60 61 62 "
                              "50 51 52 53 54 70 71 72 "
                              "23 24 33 34 63 64 73 74";
static const char six[] = "00 01 02 03 04 05 30 31 "
                          "10 11 12 13 14 15 32 33 "
                          "20 21 22 23 24 25 34 35";
static const char seven[] = "00 01 02 03 04 05 06 70 "
                            "10 11 12 13 14 15 16 71 "
                            "20 21 22 23 24 25 26 72 "
                            "30 31 32 33 34 35 36 73 "
                            "40 41 42 43 44 45 46 74 "
                            "50 51 52 53 54 55 56 75 "
                            "60 61 62 63 64 65 66 76";
static const char eight[] = "00 01 02 03 04 05 06 07";

typedef struct order {
    const char *cells;
    size_t lanes;
} order;

/* By bits, and spans of 128, 64 and 32 values. */
static const order orders[9][3] = {
    [1] = {{one, 16}, {one_64, 8}, {one, 1}},    [2] = {{two, 16}, {two, 16}, {two, 8}},
    [3] = {{three, 16}, {three, 8}, {three, 1}}, [4] = {{four, 16}, {four, 16}, {four, 16}},
    [5] = {{five, 16}, {five_64, 8}, {five, 1}}, [6] = {{six, 16}, {six, 16}, {six, 8}},
    [7] = {{seven, 16}, {seven, 8}, {seven, 1}}, [8] = {{eight, 16}, {eight, 16}, {eight, 16}},
};

/* One order, read: slots, and for every bit of every row the slot and bit that it holds. */
typedef struct plan {
    size_t lanes, slots, rows;
    unsigned char slot[MOST_ROWS * 8], bit[MOST_ROWS * 8];
} plan;

static plan plan_of(unsigned bits, size_t span) {
    const order *o = &orders[bits][span == 128 ? 0 : span == 64 ? 1 : 2];
    plan p = {.lanes = o->lanes, .rows = (strlen(o->cells) + 1) / (8 * CELL)};
    p.slots = p.rows * 8 / bits;
    for (size_t i = 0; i < p.rows * 8; i++) {
        p.slot[i] = (unsigned char)(o->cells[i * CELL] - '0');
        p.bit[i] = (unsigned char)(o->cells[i * CELL + 1] - '0');
    }
    return p;
}

void ht_torchao_pack(unsigned bits, const uint8_t *codes, size_t span, uint8_t *out) {
    plan p = plan_of(bits, span);
    for (size_t at = 0; at < span; at += p.slots * p.lanes)
        for (size_t row = 0; row < p.rows; row++, out += p.lanes)
            for (size_t lane = 0; lane < p.lanes; lane++) {
                unsigned byte = 0;
                for (size_t b = 0; b < 8; b++)
                    byte |= (codes[at + p.slot[row * 8 + b] * p.lanes + lane] >> p.bit[row * 8 + b] & 1u) << b;
                out[lane] = (uint8_t)byte;
            }
}

void ht_torchao_unpack(unsigned bits, const uint8_t *in, size_t span, uint8_t *codes) {
    plan p = plan_of(bits, span);
    memset(codes, 0, span);
    for (size_t at = 0; at < span; at += p.slots * p.lanes)
        for (size_t row = 0; row < p.rows; row++, in += p.lanes)
            for (size_t lane = 0; lane < p.lanes; lane++)
                for (size_t b = 0; b < 8; b++) {
                    uint8_t *code = &codes[at + p.slot[row * 8 + b] * p.lanes + lane];
                    *code = (uint8_t)(*code | (in[lane] >> b & 1u) << p.bit[row * 8 + b]);
                }
}
