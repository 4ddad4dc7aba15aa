/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/pack.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"
#include "support/golden.h"

static void test_round_trip(void) {
    static const ht_packing packings[] = {HT_PACK_BYTES, HT_PACK_LOW, HT_PACK_HIGH, HT_PACK_BITS, HT_PACK_WORDS};
    uint8_t codes[80], packed[80 + 1], back[80];
    for (size_t p = 0; p < 5; p++)
        for (unsigned bits = 1; bits <= 8; bits++)
            for (size_t n = 0; n <= 80; n++) {
                if ((packings[p] == HT_PACK_LOW || packings[p] == HT_PACK_HIGH) && bits != 4)
                    continue;
                for (size_t i = 0; i < n; i++)
                    codes[i] = (uint8_t)(ht_random_u32(bits, n, i) & ((1u << bits) - 1));
                size_t bytes = ht_packed_bytes(packings[p], bits, n);
                memset(packed, 0xa5, sizeof packed);
                ht_pack_codes(packings[p], bits, codes, n, packed);
                CHECK_INT(packed[bytes], 0xa5); /* nothing behind the end */
                ht_unpack_codes(packings[p], bits, packed, n, back);
                CHECK_BYTES(back, codes, n);
            }
}

static void test_layouts(void) {
    const uint8_t codes[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    uint8_t out[8];
    ht_pack_codes(HT_PACK_LOW, 4, codes, 3, out);
    CHECK_BYTES(out, "\x21\x03", 2);
    ht_pack_codes(HT_PACK_HIGH, 4, codes, 3, out);
    CHECK_BYTES(out, "\x12\x30", 2);
    ht_pack_codes(HT_PACK_BITS, 6, codes, 4, out); /* 000001 000010 000011 000100, last first */
    CHECK_BYTES(out, "\x81\x30\x10", 3);
    const uint8_t upper[2] = {0xf1, 0xf2}; /* bits above the width are ignored */
    ht_pack_codes(HT_PACK_LOW, 4, upper, 2, out);
    CHECK_BYTES(out, "\x21", 1);
    ht_pack_codes(HT_PACK_BITS, 3, upper, 2, out);
    CHECK_INT(out[0], 0x11);
}

static void check_words(const golden *g, const char *name, unsigned bits) {
    const golden_tensor *q = golden_findf(g, "%s.q", name), *want = golden_findf(g, "%s.packed", name);
    if (!q || !want)
        return;
    size_t rows = golden_rows(q), cols = golden_cols(q), words = golden_cols(want);
    CHECK_INT(words, (cols * bits + 31) / 32);
    for (size_t r = 0; r < rows; r++) {
        uint8_t codes[128], out[512] = {0}, back[128];
        for (size_t c = 0; c < cols; c++)
            codes[c] = (uint8_t)(((const int8_t *)q->data)[r * cols + c] + (1 << (bits - 1)));
        ht_pack_codes(HT_PACK_WORDS, bits, codes, cols, out);
        CHECK_BYTES(out, (const uint8_t *)want->data + r * words * 4, words * 4);
        ht_unpack_codes(HT_PACK_WORDS, bits, (const uint8_t *)want->data + r * words * 4, cols, back);
        CHECK_BYTES(back, codes, cols);
    }
}

static void test_golden_words(void) {
    golden g = golden_open("formats/ct_pack_quantized.safetensors");
    for (unsigned bits = 1; bits <= 8; bits++) {
        char name[16];
        snprintf(name, sizeof name, "b%u", bits);
        check_words(&g, name, bits);
        const golden_tensor *q = golden_findf(&g, "b%u.q", bits);
        const golden_tensor *want = golden_findf(&g, "b%u.packed_dim0", bits);
        REQUIRE(q && want);
        uint32_t words[256];
        int8_t back[6 * 70];
        size_t rows = golden_rows(q), cols = golden_cols(q);
        CHECK_INT(golden_rows(want), (rows * bits + 31) / 32);
        ht_pack_columns(bits, q->data, rows, cols, words);
        CHECK_BYTES(words, want->data, want->bytes);
        ht_unpack_columns(bits, words, rows, cols, back);
        CHECK_BYTES(back, q->data, q->bytes);
    }
    check_words(&g, "example4", 4);
    check_words(&g, "example3", 3);
    golden_close(&g);
}

static void test_golden_bit_planes(void) {
    golden g = golden_open("formats/uintx_bitplanes.safetensors");
    for (unsigned bits = 1; bits <= 7; bits++) {
        const golden_tensor *q = golden_findf(&g, "u%u.q", bits);
        REQUIRE(q);
        uint8_t plane[3][512], back[512];
        uint8_t *const planes[3] = {plane[0], plane[1], plane[2]};
        const uint8_t *const stored[3] = {plane[0], plane[1], plane[2]};
        unsigned widths[3], count = ht_bit_plane_widths(bits, widths);
        CHECK_INT(ht_pack_bit_planes(bits, q->data, golden_rows(q), golden_cols(q), planes), count);
        for (unsigned p = 0; p < count; p++) {
            const golden_tensor *want = golden_findf(&g, "u%u.plane%u", bits, p);
            REQUIRE(want);
            CHECK_INT(golden_cols(want), golden_cols(q) * widths[p] / 8);
            CHECK_BYTES(planes[p], want->data, want->bytes);
        }
        ht_unpack_bit_planes(bits, stored, golden_rows(q), golden_cols(q), back);
        CHECK_BYTES(back, q->data, q->bytes);
    }
    golden_close(&g);
}

int main(void) {
    RUN(test_round_trip);
    RUN(test_layouts);
    RUN(test_golden_words);
    RUN(test_golden_bit_planes);
    return check_finish();
}
