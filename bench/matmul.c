/* bench matmul and bench kernels: y = x W^T with W stored by a scheme, beside the same product with W in f32.
 *
 * matmul goes through the schemes; kernels goes through the levels of CPU features with one scheme, each level in a
 * context of its own. gb_s counts the bytes of the stored weight, which is what one token's product has to read.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 2048, COLS = 2048 };

typedef struct product {
    ht_context *ctx;
    size_t m, n, k;
    float *w, *x, *y;
    ht_linear *linear, *plain;
} product;

static ht_status run(product *p, ht_linear *linear) {
    ht_tensor x = ht_tensor_view_2d(p->x, HT_F32, p->m, p->k), y = ht_tensor_view_2d(p->y, HT_F32, p->m, p->n);
    return ht_linear_forward(p->ctx, linear, &x, &y);
}

static ht_status thing(void *user) {
    product *p = user;
    return run(p, p->linear);
}

static ht_status probe(void *user) {
    product *p = user;
    return run(p, p->plain);
}

static void release(product *p) {
    ht_linear_destroy(p->linear);
    ht_linear_destroy(p->plain);
    free(p->w);
    free(p->x);
    free(p->y);
}

static ht_status prepare(product *p, const char *scheme) {
    p->w = malloc(p->n * p->k * sizeof *p->w);
    p->x = malloc(p->m * p->k * sizeof *p->x);
    p->y = malloc(p->m * p->n * sizeof *p->y);
    if (!p->w || !p->x || !p->y)
        return HT_ERR_MEMORY;
    bench_fill(p->w, p->n * p->k, 1);
    bench_fill(p->x, p->m * p->k, 2);
    ht_tensor w = ht_tensor_view_2d(p->w, HT_F32, p->n, p->k);
    ht_weight plain = {.batch = 1, .rows = p->n, .cols = p->k, .plane = {p->w}};
    ht_status status = ht_format_parse("f32", &plain.format);
    if (status == HT_OK)
        status = ht_linear_from_weight(p->ctx, &plain, NULL, &p->plain);
    if (status == HT_OK && strcmp(scheme, "f32") == 0)
        status = ht_linear_from_weight(p->ctx, &plain, NULL, &p->linear);
    else if (status == HT_OK)
        status = ht_linear_create(p->ctx, &w, scheme, NULL, &p->linear);
    return status;
}

static ht_status one(const bench_request *request, ht_context *ctx, const char *scheme, const char *kernel, size_t m) {
    product p = {.ctx = ctx, .m = m, .n = request->n ? request->n : ROWS, .k = request->k ? request->k : COLS};
    bench_times times;
    ht_status status = ht_context_check_cancelled(request->ctx);
    if (status == HT_OK)
        status = prepare(&p, scheme);
    if (status == HT_OK)
        status = bench_alternate(thing, probe, &p, request->rounds, &times);
    if (status == HT_OK) {
        char op[96];
        double macs = (double)m * (double)p.n * (double)p.k;
        snprintf(op, sizeof op, "linear %s", scheme);
        bench_row row = {.op = op,
                         .kernel = kernel,
                         .m = m,
                         .n = p.n,
                         .k = p.k,
                         .seconds = times.thing,
                         .gmac_s = 1e-9 * macs / times.thing,
                         .gflop_s = 2e-9 * macs / times.thing,
                         .gb_s = 1e-9 * (double)ht_linear_bytes(p.linear) / times.thing,
                         .probe = "f32 matmul",
                         .probe_rate = 2e-9 * macs / times.probe,
                         .fraction = times.probe / times.thing};
        request->sink(request->user, &row);
    }
    release(&p);
    return status;
}

static ht_status sizes(const bench_request *request, ht_context *ctx, const char *scheme, const char *kernel) {
    static const size_t usual[] = {1, 64};
    if (request->m)
        return one(request, ctx, scheme, kernel, request->m);
    ht_status status = HT_OK;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && status == HT_OK; i++)
        status = one(request, ctx, scheme, kernel, usual[i]);
    return status;
}

ht_status bench_matmul(const bench_request *request) {
    static const char *const usual[] = {"int4", "int8-w", "int8", "mxfp4-w", "mxfp4", "mxfp8-w", "nvfp4-w", "fp8-w"};
    if (request->what)
        return sizes(request, request->ctx, request->what, "");
    ht_status status = HT_OK;
    for (size_t i = 0; i < sizeof usual / sizeof *usual && status == HT_OK; i++)
        status = sizes(request, request->ctx, usual[i], "");
    return status;
}

ht_status bench_kernels(const bench_request *request) {
    static const char *const levels[] = {"baseline", "avx2", "avx512"};
    ht_status status = HT_OK;
    for (size_t i = 0; i < sizeof levels / sizeof *levels && status == HT_OK; i++) {
        ht_context_options options = ht_context_options_default();
        ht_context *ctx = NULL;
        options.threads = request->threads;
        options.cpu = levels[i];
        if (ht_context_create(&options, &ctx) != HT_OK)
            continue; /* this machine or build does not know the level */
        status = sizes(request, ctx, request->what ? request->what : "int4", levels[i]);
        ht_context_destroy(ctx);
    }
    return status;
}
