/* bench cast: how fast one thread turns a matrix of bf16 or f32 into a format and back, beside a copy of the bf16
 * matrix. Bytes read plus bytes written count, for the cast and for the copy. The usual matrix (64 MiB in bf16) fits no
 * cache, so that both go to memory, and the C library's copy writes past the caches as the casts do.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 8192, COLS = 4096, LINE = 64 };

typedef struct cast {
    ht_context *ctx; /* one thread */
    ht_format format;
    size_t rows, cols;
    uint16_t *half, *copy; /* bf16 */
    float *full;
    ht_planes planes;
    ht_row_options options;
    ht_dtype dtype; /* of this measurement */
} cast;

static ht_status quantize(void *user) {
    cast *c = user;
    const void *x = c->dtype == HT_F32 ? (const void *)c->full : c->half;
    return ht_quantize_matrix(c->ctx, &c->format, &c->options, x, c->dtype, c->rows, c->cols, &c->planes);
}

static ht_status quantize_columns(void *user) {
    cast *c = user;
    return ht_quantize_columns(c->ctx, &c->format, &c->options, c->half, HT_BF16, c->cols, c->rows, &c->planes);
}

static ht_status dequantize(void *user) {
    cast *c = user;
    void *y = c->dtype == HT_F32 ? (void *)c->full : c->half;
    return ht_dequantize_matrix(c->ctx, &c->format, &c->planes, c->rows, c->cols, y, c->dtype);
}

static ht_status copy(void *user) {
    cast *c = user;
    memcpy(c->copy, c->half, c->rows * c->cols * sizeof *c->half);
    return HT_OK;
}

static void release(cast *c) {
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(c->planes.plane[p]);
    free(c->half);
    free(c->copy);
    free(c->full);
    ht_context_destroy(c->ctx);
}

static void *lines(size_t bytes) {
    void *memory = aligned_alloc(LINE, (bytes + LINE - 1) / LINE * LINE);
    if (memory)
        memset(memory, 0, bytes);
    return memory;
}

static ht_status prepare(cast *c) {
    size_t count = c->rows * c->cols;
    ht_context_options options = ht_context_options_default();
    options.threads = 1;
    ht_status status = ht_context_create(&options, &c->ctx);
    if (status != HT_OK)
        return status;
    c->half = lines(count * sizeof *c->half);
    c->copy = lines(count * sizeof *c->copy);
    c->full = lines(count * sizeof *c->full);
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&c->format, (ht_plane)p, c->rows, c->cols);
        c->planes.plane[p] = bytes ? lines(bytes) : NULL;
        if (bytes && !c->planes.plane[p])
            return HT_ERR_MEMORY;
    }
    if (!c->half || !c->copy || !c->full)
        return HT_ERR_MEMORY;
    bench_fill(c->full, count, 1);
    status = ht_convert(c->full, HT_F32, c->half, HT_BF16, count);
    if (status == HT_OK && c->planes.plane[HT_PLANE_GLOBAL]) {
        ht_range range = ht_range_empty();
        status = ht_range_add(&range, c->half, HT_BF16, count);
        *(float *)c->planes.plane[HT_PLANE_GLOBAL] = ht_format_global(&c->format, NULL, &range);
    }
    return status;
}

/* What is measured of a format. MX has two rows of quantizing: the rule of activations, and the search of weights. */
static const struct {
    int back, searches, columns;
    ht_dtype dtype;
} kinds[] = {{0, 0, 0, HT_BF16}, {0, 0, 0, HT_F32},  {0, 1, 0, HT_BF16},
             {0, 0, 1, HT_BF16}, {1, 0, 0, HT_BF16}, {1, 0, 0, HT_F32}};

static ht_status measure(const bench_request *request, cast *c, const char *name, size_t kind) {
    bench_times times;
    int back = kinds[kind].back, is_mx = c->format.family == HT_FAMILY_MX;
    ht_dtype dtype = c->dtype = kinds[kind].dtype;
    if ((kinds[kind].searches || kinds[kind].columns) && !is_mx)
        return HT_OK;
    c->options = ht_row_options_default();
    if (is_mx)
        c->options.scale_rule = kinds[kind].searches ? HT_SCALE_MSE : HT_SCALE_RCEIL;
    ht_status status = ht_context_check_cancelled(request->ctx);
    if (status == HT_OK)
        status = bench_alternate(back                  ? dequantize
                                 : kinds[kind].columns ? quantize_columns
                                                       : quantize,
                                 copy, c, request->rounds, &times);
    if (status != HT_OK)
        return status;
    char op[96];
    double values = (double)c->rows * (double)c->cols;
    double stored = (double)ht_format_bytes(&c->format, c->rows, c->cols);
    double bytes = stored + values * (dtype == HT_F32 ? 4 : 2);
    snprintf(op, sizeof op, "%s %s%s", back ? "dequantize" : "quantize", name,
             kinds[kind].searches  ? " mse"
             : kinds[kind].columns ? " columns"
                                   : "");
    bench_row row = {.op = op,
                     .kernel = ht_dtype_name(dtype),
                     .m = c->rows,
                     .k = c->cols,
                     .seconds = times.thing,
                     .seconds_low = times.thing_low,
                     .seconds_high = times.thing_high,
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
    status = prepare(&c);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && status == HT_OK; i++)
        status = measure(request, &c, name, i);
    release(&c);
    return status;
}

ht_status bench_cast(const bench_request *request) {
    static const char *const usual[] = {"mxfp8",      "mxfp8_e5m2", "mxfp6_e2m3", "mxfp4",    "nvfp4",    "fp8_row",
                                        "fp8_tensor", "fp8_block",  "int8_row",   "int4_g32", "int4_g128"};
    if (request->what)
        return one(request, request->what);
    ht_status status = HT_OK;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && status == HT_OK; i++)
        status = one(request, usual[i]);
    return status;
}
