/* bench cast: how fast one thread turns a bf16 matrix into a format and back into f32, beside a copy of the same input.
 * Bytes read plus bytes written count, for the cast and for the copy.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 1024, COLS = 4096 };

typedef struct cast {
    ht_format format;
    size_t rows, cols;
    uint16_t *x, *copy; /* bf16 */
    float *y;
    ht_planes planes;
} cast;

static ht_status quantize(void *user) {
    cast *c = user;
    return ht_format_quantize(&c->format, NULL, c->x, HT_BF16, c->rows, c->cols, &c->planes);
}

static ht_status dequantize(void *user) {
    cast *c = user;
    return ht_format_dequantize(&c->format, &c->planes, c->rows, c->cols, c->y);
}

static ht_status copy(void *user) {
    cast *c = user;
    memcpy(c->copy, c->x, c->rows * c->cols * sizeof *c->x);
    return HT_OK;
}

static void release(cast *c) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(c->planes.plane[p]);
    free(c->x);
    free(c->copy);
    free(c->y);
}

static int prepare(cast *c) {
    size_t count = c->rows * c->cols;
    c->x = malloc(count * sizeof *c->x);
    c->copy = malloc(count * sizeof *c->copy);
    c->y = malloc(count * sizeof *c->y);
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&c->format, (ht_plane)p, c->rows, c->cols);
        c->planes.plane[p] = bytes ? calloc(1, bytes) : NULL;
        if (bytes && !c->planes.plane[p])
            return 0;
    }
    if (!c->x || !c->copy || !c->y)
        return 0;
    bench_fill(c->y, count, 1);
    if (ht_convert(c->y, HT_F32, c->x, HT_BF16, count) != HT_OK)
        return 0;
    if (c->planes.plane[HT_PLANE_GLOBAL]) {
        ht_range range = ht_range_empty();
        ht_range_add(&range, c->x, HT_BF16, count);
        *(float *)c->planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c->format, NULL, &range);
    }
    return 1;
}

static ht_status measure(const bench_request *request, cast *c, const char *name, int back) {
    bench_times times;
    ht_status status = bench_alternate(back ? dequantize : quantize, copy, c, request->rounds, &times);
    if (status != HT_OK)
        return status;
    char op[96];
    double values = (double)c->rows * (double)c->cols;
    double stored = (double)ht_format_bytes(&c->format, c->rows, c->cols);
    double bytes = stored + values * (back ? 4 : 2);
    snprintf(op, sizeof op, "%s %s", back ? "dequantize" : "quantize", name);
    bench_row row = {.op = op,
                     .kernel = "",
                     .m = c->rows,
                     .k = c->cols,
                     .seconds = times.thing,
                     .gb_s = 1e-9 * bytes / times.thing,
                     .probe = "copy",
                     .probe_rate = 1e-9 * 4 * values / times.probe};
    row.fraction = row.gb_s / row.probe_rate;
    request->sink(request->user, &row);
    return HT_OK;
}

static ht_status one(const bench_request *request, const char *name) {
    cast c = {.rows = request->m ? request->m : ROWS, .cols = request->k ? request->k : COLS};
    ht_status status = ht_format_parse(name, &c.format);
    if (status == HT_OK)
        status = ht_format_check_shape(&c.format, c.rows, c.cols);
    if (status != HT_OK)
        return status;
    status = prepare(&c) ? ht_context_check_cancelled(request->ctx) : HT_ERR_MEMORY;
    if (status == HT_OK)
        status = measure(request, &c, name, 0);
    if (status == HT_OK)
        status = measure(request, &c, name, 1);
    release(&c);
    return status;
}

ht_status bench_cast(const bench_request *request) {
    static const char *const usual[] = {"mxfp8",    "mxfp6_e2m3", "mxfp4", "nvfp4", "fp8_row", "fp8_block",
                                        "int8_row", "int4_g32",   "nf4",   "q4_k",  "q8_0"};
    if (request->what)
        return one(request, request->what);
    ht_status status = HT_OK;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && status == HT_OK; i++) {
        status = one(request, usual[i]);
        if (status == HT_ERR_FORMAT) /* this build has no encoder for it */
            status = HT_OK;
    }
    return status;
}
