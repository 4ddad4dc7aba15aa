/* bench dense and bench gptq: the products of calibration on one thread, beside OpenBLAS on one thread.
 *
 * dense adds the second moments of -m tokens of -k features (x^T x, upper triangle: half of the products count), copies
 * and checks included; the yardstick is ssyrk on the same rows. gptq rounds a whole matrix [-n, -k]: what it takes is
 * given as n k^2 multiply-adds, so that the share is the time of one dense product of that size over its own. GPTQ runs
 * --rounds times, but no longer than some ten seconds; both are counted in time of the thread.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <stdlib.h>
#include <string.h>

#include "bench/openblas.h"

typedef struct dense {
    ht_context *ctx; /* one thread */
    bench_openblas *blas;
    size_t m, n, k;
    float *x, *w, *c;
    ht_observer *observer;
} dense;

static void release(dense *d) {
    ht_observer_destroy(d->observer);
    bench_openblas_close(d->blas);
    free(d->x);
    free(d->w);
    free(d->c);
    ht_context_destroy(d->ctx);
}

static ht_status open_alone(dense *d) {
    ht_context_options options = ht_context_options_default();
    options.threads = 1;
    d->blas = bench_openblas_open(); /* NULL: rows come without a yardstick */
    return ht_context_create(&options, &d->ctx);
}

/* The yardstick of a row: its name, rate and share. */
static void beside(const dense *d, bench_row *row, const char *name, double products, double seconds) {
    row->probe = d->blas ? name : "";
    row->probe_rate = d->blas ? 2e-9 * products / seconds : 0;
    row->fraction = d->blas ? seconds / row->seconds : 0;
}

/* --- Second moments ------------------------------------------------------------------------------------------- */

static ht_status observe(void *user) {
    dense *d = user;
    return ht_observer_add(d->observer, d->x, d->m, d->k);
}

static ht_status syrk(void *user) {
    dense *d = user;
    if (d->blas)
        bench_openblas_syrk(d->blas, d->k, d->m, d->x, d->c);
    return HT_OK;
}

static ht_status moments_of(const bench_request *request, size_t tokens, size_t features) {
    dense d = {.m = tokens, .k = features};
    bench_times times;
    ht_status status = open_alone(&d);
    if (status == HT_OK)
        status = ht_observer_create(d.ctx, features, HT_OBSERVE_SECOND, &d.observer);
    if (status == HT_OK) {
        d.x = malloc(tokens * features * sizeof *d.x);
        d.c = calloc(features * features, sizeof *d.c);
        if (!d.x || !d.c)
            status = HT_ERR_MEMORY;
    }
    if (status == HT_OK) {
        bench_fill(d.x, tokens * features, 1);
        status = bench_alternate(observe, syrk, &d, request->rounds, &times);
    }
    if (status == HT_OK) {
        double products = 0.5 * (double)tokens * (double)features * (double)(features + 1);
        bench_row row = {.op = "second moments",
                         .kernel = "",
                         .m = tokens,
                         .k = features,
                         .seconds = times.thing,
                         .seconds_low = times.thing_low,
                         .seconds_high = times.thing_high,
                         .gmac_s = 1e-9 * products / times.thing,
                         .gflop_s = 2e-9 * products / times.thing};
        beside(&d, &row, "OpenBLAS ssyrk", products, times.probe);
        request->sink(request->user, &row);
    }
    release(&d);
    return status;
}

ht_status bench_dense(const bench_request *request) {
    static const size_t usual[] = {256, 768, 2048, 4096};
    ht_status status = HT_OK;
    size_t tokens = request->m ? request->m : 256;
    if (request->k)
        return moments_of(request, tokens, request->k);
    for (size_t i = 0; i < sizeof usual / sizeof *usual && status == HT_OK; i++)
        status = moments_of(request, tokens, usual[i]);
    return status;
}

/* --- GPTQ --------------------------------------------------------------------------------------------------------- */

enum { SIDE = 4096, TOKENS = 1024, COMMON = 8, MOST_RUNS = 8 };
static const double most_seconds = 10;

/* Inputs with a few directions that all features share, and features of uneven size. */
static ht_status watch_inputs(dense *d) {
    float common[COMMON];
    HT_BENCH_TRY(ht_observer_create(d->ctx, d->k, HT_OBSERVE_SECOND | HT_OBSERVE_MEAN, &d->observer));
    float *loading = malloc(COMMON * d->k * sizeof *loading), *row = malloc(d->k * sizeof *row);
    ht_status status = loading && row ? HT_OK : HT_ERR_MEMORY;
    if (status == HT_OK)
        bench_fill(loading, COMMON * d->k, 7);
    for (unsigned t = 0; t < TOKENS && status == HT_OK; t++) {
        bench_fill(row, d->k, 100 + t);
        bench_fill(common, COMMON, 100000 + t);
        for (size_t c = 0; c < d->k; c++)
            for (size_t j = 0; j < COMMON; j++)
                row[c] += 30 * common[j] * loading[j * d->k + c] * (1 + (float)(c % 7));
        status = ht_observer_add(d->observer, row, 1, d->k);
    }
    if (status == HT_OK)
        status = ht_observer_finish(d->observer);
    free(loading);
    free(row);
    return status;
}

static double product_seconds(const dense *d) {
    double begin = bench_thread_seconds();
    if (d->blas)
        bench_openblas_gemm(d->blas, d->n, d->k, d->k, d->w, d->x, d->c);
    return bench_thread_seconds() - begin;
}

static ht_status round_matrix(dense *d, const ht_format *format, const char *const *set, const ht_planes *planes) {
    return ht_quantize_observed(d->ctx, format, NULL, "gptq", set, d->w, d->n, d->k, d->observer, planes, d->c, NULL);
}

/* Product, matrix, product, matrix, ..., product. */
static ht_status measure(const bench_request *request, dense *d, const char *name, const char *title,
                         const char *const *set) {
    ht_format format;
    ht_planes planes = {{NULL}};
    double best = 0, product = product_seconds(d), spent = 0;
    char op[96];
    HT_BENCH_TRY(ht_format_parse(name, &format));
    ht_status status = ht_format_check_shape(&format, d->n, d->k);
    for (int p = 0; status == HT_OK && p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(&format, (ht_plane)p, d->n, d->k);
        planes.plane[p] = bytes ? malloc(bytes) : NULL;
        status = bytes && !planes.plane[p] ? HT_ERR_MEMORY : HT_OK;
    }
    for (size_t run = 0; status == HT_OK && run < request->rounds && run < MOST_RUNS && spent < most_seconds; run++) {
        double begin = bench_thread_seconds(), taken;
        status = round_matrix(d, &format, set, &planes);
        taken = bench_thread_seconds() - begin;
        spent += taken;
        best = run == 0 || taken < best ? taken : best;
        taken = product_seconds(d);
        product = taken < product ? taken : product;
    }
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(planes.plane[p]);
    if (status != HT_OK)
        return status;
    double products = (double)d->n * (double)d->k * (double)d->k;
    snprintf(op, sizeof op, "gptq %s%s", name, title);
    bench_row row = {.op = op,
                     .kernel = "",
                     .n = d->n,
                     .k = d->k,
                     .seconds = best,
                     .gmac_s = 1e-9 * products / best,
                     .gflop_s = 2e-9 * products / best};
    beside(d, &row, "OpenBLAS sgemm", products, product);
    request->sink(request->user, &row);
    return ht_context_check_cancelled(request->ctx);
}

static ht_status prepare(const bench_request *request, dense *d) {
    HT_BENCH_TRY(open_alone(d));
    d->n = request->n ? request->n : SIDE;
    d->k = request->k ? request->k : SIDE;
    d->w = malloc(d->n * d->k * sizeof *d->w);
    d->c = malloc(d->n * d->k * sizeof *d->c);
    d->x = malloc(d->k * d->k * sizeof *d->x);
    if (!d->w || !d->c || !d->x)
        return HT_ERR_MEMORY;
    bench_fill(d->w, d->n * d->k, 1);
    bench_fill(d->x, d->k * d->k, 2);
    return watch_inputs(d);
}

ht_status bench_gptq(const bench_request *request) {
    static const char *const usual[] = {"int4_g128", "mxfp4", "nvfp4"};
    static const char *const plain[] = {"scales=original", "sweeps=0", NULL};
    dense d = {0};
    ht_status status = prepare(request, &d);
    for (size_t i = 0; status == HT_OK && i < (request->what ? 1 : sizeof usual / sizeof *usual); i++) {
        const char *name = request->what ? request->what : usual[i];
        status = measure(request, &d, name, ", scales=original sweeps=0", plain);
        if (status == HT_OK)
            status = measure(request, &d, name, "", NULL);
    }
    release(&d);
    return status;
}
