/* Properties that hold for every named format. */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "support/check.h"

enum { ROWS = 256, COLS = 512, GUARD = 64 };

typedef struct matrix {
    ht_format format;
    char name[96];
    ht_planes planes;
    size_t bytes[HT_PLANE_COUNT];
} matrix;

/* Planes with a guard behind each; patterns get 4 bits and groups of 32. */
static matrix allocate(const ht_format_info *info) {
    matrix m = {0};
    char typed[96] = {0};
    for (const char *p = info->name; *p;) {
        const char *text = strncmp(p, "<bits>", 6) == 0 ? "4" : strncmp(p, "<group>", 7) == 0 ? "32" : NULL;
        if (text) {
            strcat(typed, text);
            p = strchr(p, '>') + 1;
        } else {
            strncat(typed, p++, 1);
        }
    }
    CHECK_OK(ht_format_parse(typed, &m.format));
    ht_format_name(&m.format, m.name, sizeof m.name);
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        m.bytes[plane] = ht_format_plane_bytes(&m.format, (ht_plane)plane, ROWS, COLS);
        uint8_t *memory = malloc(m.bytes[plane] + GUARD);
        memset(memory, 0xc5, m.bytes[plane] + GUARD);
        m.planes.plane[plane] = memory;
    }
    return m;
}

static void release(matrix *m) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        const uint8_t *guard = (const uint8_t *)m->planes.plane[plane] + m->bytes[plane];
        for (size_t i = 0; i < GUARD; i++)
            if (!CHECK_INT(guard[i], 0xc5))
                break;
        free(m->planes.plane[plane]);
    }
}

static ht_status quantize(matrix *m, const float *x) {
    ht_range range = ht_range_empty();
    HT_CHECK(ht_range_add(&range, x, HT_F32, ROWS * COLS));
    if (m->bytes[HT_PLANE_GLOBAL])
        *(float *)m->planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&m->format, NULL, &range);
    return ht_format_quantize(&m->format, NULL, x, HT_F32, ROWS, COLS, &m->planes);
}

static float x[ROWS * COLS], y[ROWS * COLS], again[ROWS * COLS];

/* has_encoder of a list entry is what the call says; errors are sane for the width; nothing is written outside. */
static void test_every_format(void) {
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(1, 0, i) * 0.1f;
    for (size_t k = 0; ht_format_list(k); k++) {
        const ht_format_info *info = ht_format_list(k);
        matrix m = allocate(info);
        ht_status status = quantize(&m, x);
        if (!CHECK_INT(status == HT_OK, info->has_encoder))
            printf("  %s: %s\n", m.name, ht_error_message());
        if (status == HT_OK) {
            REQUIRE_OK(ht_format_dequantize(&m.format, &m.planes, ROWS, COLS, y));
            double error = 0, power = 0;
            for (size_t i = 0; i < ROWS * COLS; i++) {
                error += ((double)y[i] - (double)x[i]) * ((double)y[i] - (double)x[i]);
                power += (double)x[i] * (double)x[i];
            }
            double bits = ht_format_bits_per_value(&m.format, ROWS, COLS);
            unsigned element = ht_dtype_bits(m.format.element);
            if (element && element < bits)
                bits = element;
            /* Two fifths of the bits that an ideal code of this width could save; ternary codes without a search and
             * unsigned maps (half of the values) save less. */
            double bound = strstr(m.name, "map") || bits < 2.5 ? 0.7 : 1.5 * pow(4, -bits * 0.4);
            if (!CHECK(error / power < bound))
                printf("  %s: relative error %g, bound %g\n", m.name, error / power, bound);
        }
        release(&m);
    }
}

/* Zeros decode to zeros. */
static void test_zero_matrix(void) {
    memset(x, 0, sizeof x);
    for (size_t k = 0; ht_format_list(k); k++) {
        const ht_format_info *info = ht_format_list(k);
        matrix m = allocate(info);
        if (info->has_encoder && strcmp(m.name, "map4_unsigned") != 0) { /* that map holds no zero */
            REQUIRE_OK(quantize(&m, x));
            REQUIRE_OK(ht_format_dequantize(&m.format, &m.planes, ROWS, COLS, y));
            size_t wrong = 0;
            for (size_t i = 0; i < ROWS * COLS; i++)
                wrong += y[i] != 0;
            if (!CHECK_INT(wrong, 0))
                printf("  %s\n", m.name);
        }
        release(&m);
    }
}

/* Any bytes decode, twice to the same values. */
static void test_any_bytes_decode(void) {
    for (size_t k = 0; ht_format_list(k); k++) {
        matrix m = allocate(ht_format_list(k));
        for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
            for (size_t i = 0; i < m.bytes[plane]; i++)
                ((uint8_t *)m.planes.plane[plane])[i] = (uint8_t)ht_random_u32(k, (uint64_t)plane, i);
        CHECK_OK(ht_format_dequantize(&m.format, &m.planes, ROWS, COLS, y));
        CHECK_OK(ht_format_dequantize(&m.format, &m.planes, ROWS, COLS, again));
        CHECK_BYTES(again, y, sizeof y);
        release(&m);
    }
}

static void test_unknown_family(void) {
    ht_format f = {.family = (ht_family)99, .element = HT_F32};
    ht_planes p = {{x}};
    CHECK_FAILS(ht_format_quantize(&f, NULL, x, HT_F32, 1, 1, &p), HT_ERR_FORMAT);
    CHECK_FAILS(ht_format_dequantize(&f, &p, 1, 1, y), HT_ERR_FORMAT);
}

int main(void) {
    RUN(test_every_format);
    RUN(test_zero_matrix);
    RUN(test_any_bytes_decode);
    RUN(test_unknown_family);
    return check_finish();
}
