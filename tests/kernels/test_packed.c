/* Packed weights: what goes in comes out, the bytes are those of the committed files, and bad headers are refused. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "kernels/packed.h"
#include "support/check.h"

/* A weight whose planes are random bytes: every code; scales are moderate numbers. */
static int make_weight(const char *name, size_t batch, size_t rows, size_t cols, ht_weight *weight) {
    *weight = (ht_weight){.batch = batch, .rows = rows, .cols = cols};
    if (!CHECK_OK(ht_format_parse(name, &weight->format)) ||
        !CHECK_OK(ht_format_check_shape(&weight->format, rows, cols)))
        return 0;
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&weight->format, (ht_plane)p, rows, cols), shape[2];
        ht_dtype dtype = ht_format_plane_shape(&weight->format, (ht_plane)p, rows, cols, shape);
        uint8_t *plane = malloc(bytes ? bytes * batch : 1); /* not a byte more */
        for (size_t i = 0; i < bytes * batch; i++)
            plane[i] = (uint8_t)ht_random_u32(9, (uint64_t)p, i);
        for (size_t i = 0; (p == HT_PLANE_SCALES2 || p == HT_PLANE_GLOBAL) && i < bytes * batch / 4; i++)
            ((float *)(void *)plane)[i] = 0.013f * (float)(1 + ht_random_u32(9, 6, i) % 4000);
        for (size_t i = 0; p == HT_PLANE_SCALES && dtype == HT_F32 && i < bytes * batch / 4; i++)
            ((float *)(void *)plane)[i] = 0.001f * (float)(1 + ht_random_u32(9, 7, i) % 4000);
        for (size_t i = 0; p == HT_PLANE_SCALES && dtype == HT_BF16 && i < bytes * batch / 2; i++)
            ((uint16_t *)(void *)plane)[i] = (uint16_t)(0x3c00 + ht_random_u32(9, 8, i) % 512);
        for (size_t i = 0; p == HT_PLANE_SCALES && dtype == HT_E8M0 && i < bytes * batch; i++)
            plane[i] = plane[i] == 255 ? 0 : plane[i];
        int bits = (int)ht_dtype_bits(weight->format.element), low = dtype == HT_I8 ? -(1 << (bits - 1)) : 0;
        for (size_t i = 0; p == HT_PLANE_ZEROS && i < bytes * batch; i++) /* one of the codes, as encoders have it */
            plane[i] = (uint8_t)(low + plane[i] % (1 << bits));
        for (size_t i = 0; p == HT_PLANE_CODES && weight->format.packing == HT_PACK_BYTES && i < bytes * batch; i++)
            plane[i] &= (uint8_t)((1u << bits) - 1);
        weight->plane[p] = bytes ? plane : NULL;
        weight->stride[p] = bytes;
        if (!bytes)
            free(plane);
    }
    return 1;
}

static void free_weight(ht_weight *weight) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free((void *)(uintptr_t)weight->plane[p]);
}

static uint8_t *pack(const ht_weight *weight, ht_packed *packed, size_t extra) {
    const char *why = "";
    if (!CHECK(ht_packed_layout(weight, packed, &why))) {
        fprintf(stderr, "  %s\n", why);
        return NULL;
    }
    uint8_t *out = malloc(extra + weight->batch * packed->bytes);
    void *scratch = malloc(ht_pack_scratch(packed));
    for (size_t e = 0; e < weight->batch; e++)
        for (size_t p = 0; p < packed->panels; p++)
            CHECK(ht_pack_panel(packed, weight, e, p, scratch,
                                out + extra + e * packed->bytes + p * packed->panel_bytes));
    free(scratch);
    return out;
}

static const char *const NAMES[] = {"mxfp4",
                                    "mxfp6_e2m3",
                                    "mxint8",
                                    "int8_row",
                                    "int8_tensor",
                                    "int1_g32",
                                    "int2_g32",
                                    "int3_g32",
                                    "int4_g32",
                                    "int5_g32",
                                    "int6_g32",
                                    "int7_g32",
                                    "int8_g32",
                                    "int4_g64",
                                    "int4_g128",
                                    "int4_g256",
                                    "int4_row",
                                    "int3_row",
                                    "int4_g32_asym",
                                    "int2_g64_asym",
                                    "int8_g32_asym",
                                    "uint4_g32",
                                    "uint4_g128_asym",
                                    "int4_g128_scale_bf16",
                                    "int4_g32_low",
                                    "int4_g32_high",
                                    "int4_g32_bits",
                                    "mxfp8",
                                    "mxfp8_e5m2",
                                    "mxfp6_e3m2",
                                    "nvfp4",
                                    "nvfp4_pts",
                                    "nvfp4_single",
                                    "nf4",
                                    "fp4",
                                    "nf4_flat",
                                    "fp4_flat",
                                    "nf4_torchao",
                                    "fp8_row",
                                    "fp8_e5m2_row",
                                    "fp8_tensor",
                                    "fp8_block",
                                    "fp8_g128"};
enum { NAME_COUNT = sizeof NAMES / sizeof *NAMES };

static void check_values(const char *name, size_t rows, size_t cols) {
    ht_weight weight;
    ht_packed packed;
    if (!make_weight(name, 2, rows, cols, &weight))
        return;
    uint8_t *bytes = pack(&weight, &packed, 0);
    float *want = malloc(rows * cols * sizeof *want), *got = malloc(cols * sizeof *got);
    for (size_t e = 0; bytes && e < 2; e++) {
        ht_planes planes = ht_weight_planes(&weight, e);
        CHECK_OK(ht_format_dequantize(&weight.format, &planes, rows, cols, want));
        for (size_t r = 0; r < rows; r++) {
            ht_packed_row(&packed, bytes + e * packed.bytes, r, got);
            size_t k = 0;
            while (k < cols && (got[k] == want[r * cols + k] || /* a zero has no sign */
                                (got[k] != got[k] && want[r * cols + k] != want[r * cols + k])))
                k++;
            if (!CHECK_INT(k, cols)) {
                fprintf(stderr, "  %s, row %zu: %g, not %g\n", name, r, (double)got[k], (double)want[r * cols + k]);
                break;
            }
        }
    }
    free(want), free(got), free(bytes), free_weight(&weight);
}

static void test_values(void) {
    for (size_t i = 0; i < NAME_COUNT; i++) {
        check_values(NAMES[i], 37, 256);
        check_values(NAMES[i], 16, 768);
    }
    check_values("mxfp4", 3, 32);
    check_values("int4_g32", 17, 288);
    check_values("int4_g64", 5, 320);
    check_values("int8_row", 19, 77);
    check_values("int3_row", 19, 1032);
}

static void test_refused(void) {
    static const struct {
        const char *name, *why;
    } CASES[] = {{"bf16", "family"},     {"q4_0", "family"},     {"map8_signed", "family"},
                 {"int4_g48", "groups"}, {"int4_g16", "groups"}, {"int4_g32_float0", "float zero"}};
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        ht_weight weight = {.batch = 1, .rows = 16, .cols = 192};
        ht_packed packed;
        const char *why = "";
        CHECK_OK(ht_format_parse(CASES[i].name, &weight.format));
        CHECK_INT(ht_packed_layout(&weight, &packed, &why), 0);
        CHECK_CONTAINS(why, CASES[i].why);
    }
    ht_weight weight;
    ht_packed packed;
    REQUIRE(make_weight("mxfp4", 1, 16, 64, &weight));
    ((uint8_t *)(uintptr_t)weight.plane[HT_PLANE_SCALES])[5] = 255; /* NaN */
    REQUIRE(ht_packed_layout(&weight, &packed, NULL));
    void *scratch = malloc(ht_pack_scratch(&packed));
    uint8_t *bytes = malloc(packed.bytes);
    CHECK_INT(ht_pack_panel(&packed, &weight, 0, 0, scratch, bytes), 0);
    free(scratch), free(bytes), free_weight(&weight);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static size_t file_bytes(const char *name, size_t batch, size_t rows, size_t cols, uint8_t **out) {
    ht_weight weight;
    ht_packed packed;
    *out = NULL;
    if (!make_weight(name, batch, rows, cols, &weight) || !(*out = pack(&weight, &packed, HT_PACKED_HEADER)))
        return 0;
    ht_packed_write_header(&packed, batch, *out + HT_PACKED_HEADER, *out);
    free_weight(&weight);
    return HT_PACKED_HEADER + batch * packed.bytes;
}

/* HALFTONE_WRITE_PACKED=1 writes the files anew. */
static void check_file(const char *name, size_t batch, size_t rows, size_t cols) {
    char path[64];
    uint8_t *want;
    size_t count = file_bytes(name, batch, rows, cols, &want);
    snprintf(path, sizeof path, "packed/%s.htnk", name);
    FILE *file = fopen(check_data(path), getenv("HALFTONE_WRITE_PACKED") ? "w+b" : "rb");
    REQUIRE(file != NULL && count > 0);
    if (getenv("HALFTONE_WRITE_PACKED")) {
        CHECK_INT(fwrite(want, 1, count, file), count);
        rewind(file);
    }
    uint8_t *got = calloc(1, count + 1);
    CHECK_INT(fread(got, 1, count + 1, file), count);
    fclose(file);
    CHECK_BYTES(got, want, count);
    ht_packed packed;
    size_t read = 0;
    CHECK_OK(ht_packed_read_header(got, count, &packed, &read));
    CHECK(read == batch && packed.rows == rows && packed.cols == cols);
    free(got), free(want);
}

static void test_files(void) {
    check_file("mxfp4", 1, 20, 96);
    check_file("int3_g32_asym", 2, 5, 64);
    check_file("int8_row", 1, 17, 40);
    check_file("mxfp6_e2m3", 1, 3, 32);
    check_file("nvfp4", 1, 18, 80);
    check_file("nf4", 1, 4, 128);
    check_file("mxfp8", 1, 3, 64);
    check_file("fp8_row", 1, 3, 40);
    CHECK_INT(ht_crc32c((const uint8_t *)"123456789", 9), 0xe3069283u);
}

/* Every header byte, and one of the payload, changed in every bit: refused, or (a reading that stays consistent is
 * impossible) never accepted. */
static void test_bad_headers(void) {
    uint8_t *bytes;
    ht_packed packed;
    size_t batch, count = file_bytes("int4_g64_asym", 2, 33, 128, &bytes);
    REQUIRE(count > 0);
    REQUIRE_OK(ht_packed_read_header(bytes, count, &packed, &batch));
    for (size_t i = 0; i < HT_PACKED_HEADER + 100; i++)
        for (int bit = 0; bit < 8; bit++) {
            bytes[i] ^= (uint8_t)(1u << bit);
            ht_status status = ht_packed_read_header(bytes, count, &packed, &batch);
            if (i < 24 || i >= 32) /* rows may grow inside the last panel, columns are bound by the size of a panel */
                CHECK(status == HT_ERR_CORRUPT || status == HT_ERR_UNSUPPORTED);
            else if (status == HT_OK)
                CHECK(packed.bytes * batch + HT_PACKED_HEADER == count);
            bytes[i] ^= (uint8_t)(1u << bit);
        }
    for (size_t cut = 0; cut < count; cut += 97)
        CHECK(ht_packed_read_header(bytes, cut, &packed, &batch) != HT_OK);
    free(bytes);
}

int main(void) {
    RUN(test_values);
    RUN(test_refused);
    RUN(test_files);
    RUN(test_bad_headers);
    return check_finish();
}
