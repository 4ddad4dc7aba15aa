/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <stdint.h>

#include "support/check.h"

static ht_format parse(const char *name) {
    ht_format f = {0};
    CHECK_OK(ht_format_parse(name, &f));
    return f;
}

static void check_plane(const char *name, ht_plane plane, size_t rows, size_t cols, ht_dtype dtype, size_t want_rows,
                        size_t want_cols) {
    ht_format f = parse(name);
    size_t shape[2];
    CHECK_TEXT(ht_dtype_name(ht_format_plane_shape(&f, plane, rows, cols, shape)), ht_dtype_name(dtype));
    CHECK_INT(shape[0], want_rows);
    CHECK_INT(shape[1], want_cols);
    CHECK_INT(ht_format_plane_bytes(&f, plane, rows, cols), want_rows * want_cols * (ht_dtype_bits(dtype) / 8));
}

static void test_planes(void) {
    check_plane("bf16", HT_PLANE_CODES, 3, 5, HT_BF16, 3, 5);
    check_plane("bf16", HT_PLANE_SCALES, 3, 5, HT_DTYPE_NONE, 0, 0);
    check_plane("mxfp4", HT_PLANE_CODES, 3, 64, HT_U8, 3, 32);
    check_plane("mxfp4", HT_PLANE_SCALES, 3, 64, HT_E8M0, 3, 2);
    check_plane("mxfp8", HT_PLANE_CODES, 3, 64, HT_F8_E4M3, 3, 64);
    check_plane("mxfp6_e2m3", HT_PLANE_CODES, 3, 64, HT_U8, 3, 48);
    check_plane("mxfp6_e2m3_bytes", HT_PLANE_CODES, 3, 64, HT_U8, 3, 64);
    check_plane("nvfp4", HT_PLANE_SCALES, 3, 64, HT_F8_E4M3, 3, 4);
    check_plane("nvfp4", HT_PLANE_GLOBAL, 3, 64, HT_F32, 1, 1);
    check_plane("fp8_block", HT_PLANE_SCALES, 130, 300, HT_F32, 2, 3);
    check_plane("fp8_row", HT_PLANE_SCALES, 130, 300, HT_F32, 130, 1);
    check_plane("fp8_tensor", HT_PLANE_SCALES, 130, 300, HT_F32, 1, 1);
    check_plane("int4_g128", HT_PLANE_CODES, 2, 256, HT_I32, 2, 32);
    check_plane("int3_row", HT_PLANE_CODES, 2, 70, HT_I32, 2, 7);
    check_plane("int4_g128_asym", HT_PLANE_ZEROS, 2, 256, HT_I8, 2, 2);
    check_plane("int4_g32_bytes", HT_PLANE_CODES, 2, 64, HT_I8, 2, 64);
    check_plane("uint4_g32", HT_PLANE_CODES, 2, 64, HT_U8, 2, 64);
}

static void test_totals(void) {
    ht_format f = parse("mxfp4");
    CHECK_INT(ht_format_bytes(&f, 4, 64), 4 * 32 + 4 * 2);
    CHECK_NEAR(ht_format_bits_per_value(&f, 4, 64), 4.25, 0);
    CHECK_INT(ht_format_bytes(&f, SIZE_MAX / 2, SIZE_MAX / 2 - 31), SIZE_MAX);
    CHECK_FAILS(ht_format_check_shape(&f, SIZE_MAX / 2, SIZE_MAX / 2 - 31), HT_ERR_SHAPE);
    CHECK_NEAR(ht_format_bits_per_value(&f, 0, 64), 0, 0);
    f = parse("f32");
    CHECK_FAILS(ht_format_check_shape(&f, SIZE_MAX / 3, 2), HT_ERR_SHAPE);
}

static void test_slices(void) {
    uint8_t codes[128 * 300], scales[64], number[4];
    ht_format f = parse("mxfp4");
    ht_planes p = {{codes, scales, NULL, NULL, number}}, at = ht_planes_at_row(&f, &p, 64, 3);
    CHECK(at.plane[HT_PLANE_CODES] == codes + 3 * 32);
    CHECK(at.plane[HT_PLANE_SCALES] == scales + 3 * 2);
    CHECK(at.plane[HT_PLANE_GLOBAL] == number);
    CHECK(at.plane[HT_PLANE_ZEROS] == NULL);
    CHECK_INT(ht_format_row_step(&f), 1);
    f = parse("fp8_block");
    CHECK_INT(ht_format_row_step(&f), 128);
    at = ht_planes_at_row(&f, &p, 300, 128);
    CHECK((uint8_t *)at.plane[HT_PLANE_SCALES] == scales + 3 * sizeof(float));
    f = parse("fp8_tensor");
    CHECK(ht_format_row_step(&f) == SIZE_MAX);
    at = ht_planes_at_row(&f, &p, 64, 1);
    CHECK(at.plane[HT_PLANE_SCALES] == scales && at.plane[HT_PLANE_CODES] == codes + 64);
}

static void test_weight(void) {
    uint8_t codes[2 * 64], scales[2 * 4];
    ht_weight w = {.format = parse("mxfp4"), .batch = 2, .rows = 2, .cols = 64};
    w.plane[HT_PLANE_CODES] = codes;
    w.plane[HT_PLANE_SCALES] = scales;
    w.stride[HT_PLANE_CODES] = 64;
    w.stride[HT_PLANE_SCALES] = 4;
    ht_planes second = ht_weight_planes(&w, 1);
    CHECK(second.plane[HT_PLANE_CODES] == codes + 64 && second.plane[HT_PLANE_SCALES] == scales + 4);
    CHECK(second.plane[HT_PLANE_GLOBAL] == NULL);
}

int main(void) {
    RUN(test_planes);
    RUN(test_totals);
    RUN(test_slices);
    RUN(test_weight);
    return check_finish();
}
