/* One row of numbers in four bits and back: what a format keeps and what it costs.
 *
 *     cc 01_encode_row.c -o encode_row $(pkg-config --cflags --libs halftone) -lm
 *     ./encode_row [FORMAT]        default mxfp4; `halftone list formats` names the others
 *
 * A format is a value (ht_format). A matrix in it lies in planes: codes, scales and so on, each an array whose size can
 * be asked before anything is allocated. Nothing here needs a context.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <halftone/format.h>

enum { COLS = 64 };

int main(int argc, char **argv) {
    ht_format format;
    ht_status known = ht_format_parse(argc > 1 ? argv[1] : "mxfp4", &format);
    if (known != HT_OK)
        HT_CHECK(ht_format_parse("mxfp4", &format)); /* called with something else: show the default */

    float x[COLS], y[COLS];
    for (int i = 0; i < COLS; i++)
        x[i] = sinf(0.3f * (float)i) * expf(-0.05f * (float)i);

    /* The planes of one row. Some formats also want one number for the whole matrix, which follows from its range. */
    ht_planes planes = {{NULL}};
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&format, (ht_plane)p, 1, COLS);
        planes.plane[p] = bytes ? calloc(1, bytes) : NULL;
    }
    if (planes.plane[HT_PLANE_GLOBAL]) {
        ht_range range = ht_range_empty();
        HT_CHECK(ht_range_add(&range, x, HT_F32, COLS));
        *(float *)planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&format, NULL, &range);
    }
    HT_CHECK(ht_format_quantize(&format, NULL, x, HT_F32, 1, COLS, &planes));
    HT_CHECK(ht_format_dequantize(&format, &planes, 1, COLS, y));

    double signal = 0, noise = 0;
    for (int i = 0; i < COLS; i++) {
        signal += (double)x[i] * (double)x[i];
        noise += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
    }
    char name[64];
    ht_format_name(&format, name, sizeof name);
    printf("%s: %zu values in %zu bytes, %.2f bits each\n", name, (size_t)COLS, ht_format_bytes(&format, 1, COLS),
           ht_format_bits_per_value(&format, 1, COLS));
    for (int i = 0; i < 8; i++)
        printf("  %9.5f -> %9.5f\n", (double)x[i], (double)y[i]);
    printf("signal to noise: %.1f dB\n", 10 * log10(signal / noise));

    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(planes.plane[p]);
    return 0;
}
