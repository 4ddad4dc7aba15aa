/* Repacking between planar formats and GGUF blocks: same numbers, same bytes back, refusals.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf_repack.h"

#include <stdio.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { ROWS = 3, COLS = 192, COUNT = ROWS * COLS };

static const char *const pairs[][2] = {{"mxfp4", "gguf_mxfp4"},
                                       {"mxfp4_high", "gguf_mxfp4"},
                                       {"nvfp4_single", "gguf_nvfp4"},
                                       {"nvfp4_single_high", "gguf_nvfp4"},
                                       {"nvfp4", "gguf_nvfp4"}};
enum { PAIRS = sizeof pairs / sizeof *pairs };

/* Random code and scale bytes, so that every code meets every place; no NaN scales, and no codes of -0, which a block
 * reads as +0. */
static void test_same_numbers_and_back(void) {
    for (int k = 0; k < PAIRS; k++) {
        ht_format planar, blocks;
        uint8_t codes[COUNT / 2], scales[COUNT / 16], packed[COUNT], codes2[COUNT / 2], scales2[COUNT / 16];
        float y[COUNT], z[COUNT], one = 1;
        REQUIRE_OK(ht_format_parse(pairs[k][0], &planar));
        REQUIRE_OK(ht_format_parse(pairs[k][1], &blocks));
        CHECK(ht_gguf_can_repack(&planar, &blocks) && ht_gguf_can_repack(&blocks, &planar));
        for (uint64_t i = 0; i < sizeof codes; i++) {
            codes[i] = (uint8_t)ht_random_u32(2, (uint64_t)k, i);
            codes[i] ^= (uint8_t)((codes[i] & 15) == 8);
            codes[i] ^= (uint8_t)((codes[i] >> 4 == 8) << 4);
        }
        for (uint64_t i = 0; i < sizeof scales; i++)
            scales[i] = (uint8_t)(40 + i * 7 % 80);
        ht_planes in = {{codes, scales, NULL, NULL, &one}}, out = {{packed}},
                  back = {{codes2, scales2, NULL, NULL, &one}};
        REQUIRE_OK(ht_gguf_repack(&planar, &in, &blocks, &out, ROWS, COLS));
        REQUIRE_OK(ht_format_dequantize(&planar, &in, ROWS, COLS, y));
        REQUIRE_OK(ht_format_dequantize(&blocks, &out, ROWS, COLS, z));
        CHECK_F32(z, y, COUNT);
        REQUIRE_OK(ht_gguf_repack(&blocks, &out, &planar, &back, ROWS, COLS));
        CHECK_BYTES(codes2, codes, sizeof codes);
        CHECK_BYTES(scales2, scales, (size_t)COUNT / planar.block_cols);
    }
}

static void test_refuses(void) {
    static const char *const others[][2] = {
        {"mxfp4", "gguf_nvfp4"}, {"mxfp8", "gguf_mxfp4"},      {"mxfp4", "q4_0"},
        {"mxfp4", "mxfp4"},      {"nvfp4_tile", "gguf_nvfp4"}, {"gguf_mxfp4", "gguf_mxfp4"}};
    uint8_t bytes[256] = {0};
    ht_planes planes = {{bytes, bytes}};
    ht_format a, b;
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        REQUIRE_OK(ht_format_parse(others[k][0], &a));
        REQUIRE_OK(ht_format_parse(others[k][1], &b));
        CHECK(!ht_gguf_can_repack(&a, &b));
        CHECK_FAILS(ht_gguf_repack(&a, &planes, &b, &planes, 1, 64), HT_ERR_FORMAT);
        CHECK_CONTAINS(ht_error_message(), others[k][0]);
    }
    REQUIRE_OK(ht_format_parse("nvfp4_single", &a));
    REQUIRE_OK(ht_format_parse("gguf_nvfp4", &b));
    CHECK_FAILS(ht_gguf_repack(&a, &planes, &b, &planes, 1, 48), HT_ERR_SHAPE); /* 3 groups, a block has 4 */
}

int main(void) {
    RUN(test_same_numbers_and_back);
    RUN(test_refuses);
    return check_finish();
}
