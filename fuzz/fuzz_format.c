/* A format name from the input, then options, then the bits of floats: parse, name, quantize, decode; and the same
 * bytes once more as planes to decode.
 *
 * Layout: the name up to the first NUL, eight bytes of options, the rest is values (and plane bytes), repeated as
 * needed. Traps when a name does not read back, when a slice of rows differs from the whole, or when a NaN becomes a
 * number.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/format.h>

enum { ROWS = 2, MOST_COLS = 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(int ok) {
    if (!ok)
        abort();
}

static void repeat(const uint8_t *data, size_t size, uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++)
        bytes[i] = size ? data[i % size] : 0;
}

/* Planes on the heap with their exact sizes, so that a sanitizer sees accesses outside. */
static ht_planes allocate(const ht_format *f, size_t cols, const uint8_t *data, size_t size) {
    ht_planes p = {{0}};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = ht_format_plane_bytes(f, (ht_plane)plane, ROWS, cols);
        p.plane[plane] = bytes ? malloc(bytes) : NULL;
        if (p.plane[plane])
            repeat(data, size, p.plane[plane], bytes);
    }
    return p;
}

static void release(ht_planes *p) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        free(p->plane[plane]);
}

static int planes_equal(const ht_format *f, size_t cols, const ht_planes *a, const ht_planes *b) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = ht_format_plane_bytes(f, (ht_plane)plane, ROWS, cols);
        if (bytes && memcmp(a->plane[plane], b->plane[plane], bytes) != 0)
            return 0;
    }
    return 1;
}

static void round_trip(const ht_format *f, const ht_row_options *o, const float *x, size_t cols) {
    static const uint8_t zero;
    ht_planes whole = allocate(f, cols, &zero, 1), rows = allocate(f, cols, &zero, 1);
    float *y = malloc(ROWS * cols * sizeof *y + 1);
    ht_range range = ht_range_empty();
    require(ht_range_add(&range, x, HT_F32, ROWS * cols) == HT_OK);
    if (whole.plane[HT_PLANE_GLOBAL])
        *(float *)whole.plane[HT_PLANE_GLOBAL] = *(float *)rows.plane[HT_PLANE_GLOBAL] = ht_format_global(f, o, &range);
    if (y && ht_format_quantize(f, o, x, HT_F32, ROWS, cols, &whole) == HT_OK) {
        require(ht_format_dequantize(f, &whole, ROWS, cols, y) == HT_OK);
        for (size_t i = 0; f->family <= HT_FAMILY_INT && i < ROWS * cols; i++)
            require(!isnan(x[i]) || isnan(y[i]));
        if (ht_format_row_step(f) == 1) {
            for (size_t r = 0; r < ROWS; r++) {
                ht_planes at = ht_planes_at_row(f, &rows, cols, r);
                require(ht_format_quantize(f, o, x + r * cols, HT_F32, 1, cols, &at) == HT_OK);
            }
            require(planes_equal(f, cols, &whole, &rows));
        }
    }
    free(y);
    release(&whole);
    release(&rows);
}

static ht_row_options read_options(const uint8_t *bytes) {
    static const ht_dtype types[] = {HT_F32, HT_BF16, HT_F16};
    ht_row_options o = ht_row_options_default();
    o.scale_rule = (ht_scale_rule)(bytes[0] % (HT_SCALE_EVEN_FP4 + 1));
    o.int_rule = (ht_int_rule)(bytes[1] % (HT_INT_FULL + 1));
    o.nvfp4_rule = (ht_nvfp4_rule)(bytes[2] % 2);
    o.arithmetic = types[bytes[3] % 3];
    o.power_of_two = bytes[4] & 1;
    o.code_rule = (ht_code_rule)(bytes[4] >> 1 & 1);
    o.raw_range = bytes[4] >> 2 & 1;
    o.amax_lower = bytes[4] & 8 ? 1e-3f : 0;
    o.scale = bytes[4] & 16 ? 0.25f : 0;
    return o;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char name[64] = {0}, canonical[128];
    size_t length = size ? strnlen((const char *)data, size) : 0;
    ht_format f, back;
    if (length >= sizeof name)
        return 0;
    memcpy(name, data, length);
    if (ht_format_parse(name, &f) != HT_OK)
        return 0;
    require(ht_format_name(&f, canonical, sizeof canonical) < sizeof canonical);
    require(ht_format_parse(canonical, &back) == HT_OK && ht_format_equal(&f, &back));
    if (size < length + 9)
        return 0;
    const uint8_t *bytes = data + length + 1, *rest = bytes + 8;
    size_t left = size - length - 9, cols = (size_t)(bytes[5] | bytes[6] << 8) % (MOST_COLS + 1);
    if (bytes[7] & 1)
        cols = cols / 32 * 32;
    if (ht_format_check_shape(&f, ROWS, cols) != HT_OK || cols == 0)
        return 0;
    ht_row_options o = read_options(bytes);
    float *x = malloc(ROWS * cols * sizeof *x);
    ht_planes any = allocate(&f, cols, rest, left);
    if (x) {
        require(ht_format_dequantize(&f, &any, ROWS, cols, x) == HT_OK);
        repeat(rest, left, (uint8_t *)x, ROWS * cols * sizeof *x);
        round_trip(&f, &o, x, cols);
    }
    free(x);
    release(&any);
    return 0;
}
