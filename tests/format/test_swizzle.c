/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/swizzle.h"

#include <stdlib.h>
#include <string.h>

#include <halftone/format.h>

#include "support/check.h"
#include "support/golden.h"

static void test_golden(void) {
    golden g = golden_open("formats/scale_swizzle.safetensors");
    for (int i = 0; i < 5; i++) {
        const golden_tensor *scale = golden_findf(&g, "scale%d", i), *want = golden_findf(&g, "blocked%d", i);
        REQUIRE(scale && want);
        size_t rows = golden_rows(scale), cols = golden_cols(scale);
        CHECK_INT(ht_swizzle_bytes(rows, cols), want->bytes);
        uint8_t *out = malloc(want->bytes), *back = malloc(scale->bytes);
        memset(out, 0xee, want->bytes);
        ht_swizzle_scales(scale->data, rows, cols, out);
        CHECK_BYTES(out, want->data, want->bytes);
        ht_unswizzle_scales(out, rows, cols, back);
        CHECK_BYTES(back, scale->data, scale->bytes);
        free(out);
        free(back);
    }
    golden_close(&g);
}

/* Offsets of the formats specification, section 2.4. */
static void test_offsets(void) {
    static const size_t cases[][4] = {{0, 0, 8, 0},     {1, 0, 8, 16},     {32, 0, 8, 4},    {33, 5, 8, 533},
                                      {127, 3, 4, 511}, {128, 0, 8, 1024}, {200, 7, 8, 1675}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        static uint8_t scales[256 * 8], out[256 * 8];
        memset(scales, 0, sizeof scales);
        scales[cases[i][0] * cases[i][2] + cases[i][1]] = 1;
        ht_swizzle_scales(scales, 256, cases[i][2], out);
        CHECK_INT(out[cases[i][3]], 1);
    }
}

static void check_starts(const golden *g, const char *name, const int64_t *starts) {
    const golden_tensor *want = golden_find(g, name);
    if (want)
        CHECK_BYTES(starts, want->data, want->bytes);
}

static void test_groups(void) {
    golden g = golden_open("formats/mx_grouped_swizzle.safetensors");
    static uint8_t out[16384];
    int64_t starts[8];
    const golden_tensor *scale = golden_find(&g, "m.scale"), *ends = golden_find(&g, "m.offs");
    const golden_tensor *want = golden_find(&g, "m.blocked");
    REQUIRE(scale && ends && want);
    size_t rows = golden_rows(scale), cols = golden_cols(scale);
    CHECK_INT(ht_swizzle_row_groups_bytes(rows, cols, ends->elements), want->bytes);
    ht_swizzle_row_groups(scale->data, cols, ends->data, ends->elements, out, want->bytes, starts);
    CHECK_BYTES(out, want->data, want->bytes);
    check_starts(&g, "m.start_row", starts);

    scale = golden_find(&g, "k.scale");
    ends = golden_find(&g, "k.offs");
    want = golden_find(&g, "k.blocked");
    REQUIRE(scale && ends && want);
    rows = golden_rows(scale);
    cols = golden_cols(scale);
    CHECK_INT(ht_swizzle_col_groups_bytes(rows, cols, ends->elements), want->bytes);
    ht_swizzle_col_groups(scale->data, rows, cols, ends->data, ends->elements, out, want->bytes, starts);
    CHECK_BYTES(out, want->data, want->bytes);
    check_starts(&g, "k.start_col", starts);

    scale = golden_find(&g, "e.scale"); /* experts of equal size */
    want = golden_find(&g, "e.blocked");
    REQUIRE(scale && want && scale->rank == 3);
    size_t part = scale->shape[1] * scale->shape[2], tiled = ht_swizzle_bytes(scale->shape[1], scale->shape[2]);
    CHECK_INT(tiled * scale->shape[0], want->bytes);
    for (size_t e = 0; e < scale->shape[0]; e++)
        ht_swizzle_scales((const uint8_t *)scale->data + e * part, scale->shape[1], scale->shape[2], out + e * tiled);
    CHECK_BYTES(out, want->data, want->bytes);
    golden_close(&g);
}

/* NVFP4: sizes of the groups in elements, 16 to a scale; exactly tiled groups leave no slack. */
static void test_nvfp4_groups(void) {
    golden g = golden_open("formats/nvfp4_grouped_swizzle.safetensors");
    const golden_tensor *scale = golden_find(&g, "scale"), *sizes = golden_find(&g, "sizes");
    const golden_tensor *want = golden_find(&g, "blocked");
    REQUIRE(scale && sizes && want);
    int32_t ends[8], end = 0;
    for (size_t i = 0; i < sizes->elements; i++)
        ends[i] = end += ((const int32_t *)sizes->data)[i] / 16;
    static uint8_t out[16384];
    ht_swizzle_col_groups(scale->data, golden_rows(scale), golden_cols(scale), ends, sizes->elements, out, want->bytes,
                          NULL);
    CHECK_BYTES(out, want->data, want->bytes);
    golden_close(&g);
}

/* Experts in MX columns: per-expert tiles of the transposed scales. */
static void test_expert_columns(void) {
    golden g = golden_open("formats/mx_experts_3d_bf16.safetensors");
    const golden_tensor *scale = golden_find(&g, "32x1.floor.scale"),
                        *want = golden_find(&g, "32x1.floor.scale_blocked");
    REQUIRE(scale && want && scale->rank == 3);
    size_t blocks = scale->shape[1], cols = scale->shape[2];
    for (size_t e = 0; e < scale->shape[0]; e++) {
        uint8_t transposed[256], out[1024];
        for (size_t b = 0; b < blocks; b++)
            for (size_t c = 0; c < cols; c++)
                transposed[c * blocks + b] = ((const uint8_t *)scale->data)[(e * blocks + b) * cols + c];
        ht_swizzle_scales(transposed, cols, blocks, out);
        CHECK_BYTES(out, (const uint8_t *)want->data + e * 512, 512);
    }
    golden_close(&g);
}

int main(void) {
    RUN(test_golden);
    RUN(test_offsets);
    RUN(test_groups);
    RUN(test_nvfp4_groups);
    RUN(test_expert_columns);
    return check_finish();
}
