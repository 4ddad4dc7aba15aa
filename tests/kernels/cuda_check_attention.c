/* Checks of the attention kernels (kernels/cuda/attention.h): 16-bit kernels and the fp8 kernel behind its quantizer,
 * against f64 sums over the same inputs, over shapes, masks, layouts, packed sequences and edges. Long shapes are
 * compared on some rows only.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/attention.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/attention.h>

#include "cuda_check.h"
#include "cuda_check_attention.h"

/* --- One problem ---------------------------------------------------------------------------------------------- */

typedef struct check_case {
    const char *name;
    size_t batch, heads, kv_heads, q_rows, kv_rows, dim;
    int causal;
    size_t window;
    int sinks, f16, by_head; /* by_head: [b, h, s, d] */
    int hadamard, promote;   /* fp8; hadamard 1: q, k, v; 2: v */
    float outlier;           /* channels 0 and dim / 2 are multiplied by it */
} check_case;

typedef struct host_problem {
    uint16_t *q, *k, *v;
    float sinks[64];
    size_t nq, nk;
} host_problem;

static float value(const check_case *c, uint16_t bits) {
    return c->f16 ? attention_f16_value(bits) : cuda_bf16_value(bits);
}

static size_t at(const check_case *c, size_t rows, size_t heads, size_t b, size_t row, size_t head) {
    return (c->by_head ? (b * heads + head) * rows + row : (b * rows + row) * heads + head) * c->dim;
}

static void draw(const check_case *c, size_t count, uint16_t *x) {
    for (size_t i = 0; i < count; i++) {
        float y = cuda_random_normal();
        if (c->outlier > 0 && i % (c->dim / 2) == 0)
            y *= c->outlier;
        x[i] = c->f16 ? attention_f16(y) : cuda_bf16(y);
    }
}

static host_problem host_new(const check_case *c) {
    host_problem h = {.nq = c->batch * c->q_rows * c->heads * c->dim,
                      .nk = c->batch * c->kv_rows * c->kv_heads * c->dim};
    h.q = malloc(h.nq * 2 + 2);
    h.k = malloc(h.nk * 2 + 2);
    h.v = malloc(h.nk * 2 + 2);
    draw(c, h.nq, h.q);
    draw(c, h.nk, h.k);
    draw(c, h.nk, h.v);
    for (size_t i = 0; i < 64; i++)
        h.sinks[i] = cuda_random_normal();
    return h;
}

static void host_free(host_problem *h) {
    free(h->q), free(h->k), free(h->v);
}

/* Row by the definition in f64; returns log sum exp. p: [kv_rows]. */
static double by_definition(const check_case *c, const host_problem *h, size_t b, size_t head, size_t row, double *p,
                            double *y) {
    const size_t kv = head / (c->heads / c->kv_heads), d = c->dim;
    const long position = (long)row + (long)c->kv_rows - (long)c->q_rows;
    const uint16_t *q = h->q + at(c, c->q_rows, c->heads, b, row, head);
    double max = c->sinks ? (double)h->sinks[head] : -(double)INFINITY, sum = 0;
    for (size_t j = 0; j < c->kv_rows; j++) {
        const uint16_t *k = h->k + at(c, c->kv_rows, c->kv_heads, b, j, kv);
        int seen = !(c->causal && (long)j > position);
        if (c->window)
            seen &= position - (long)j < (long)c->window && (c->causal || (long)j - position < (long)c->window);
        p[j] = seen ? 0 : -(double)INFINITY;
        for (size_t i = 0; seen && i < d; i++)
            p[j] += (double)value(c, q[i]) * (double)value(c, k[i]);
        p[j] /= sqrt((double)d);
        max = p[j] > max ? p[j] : max;
    }
    memset(y, 0, d * sizeof *y);
    if (max == -(double)INFINITY)
        return max;
    for (size_t j = 0; j < c->kv_rows; j++) {
        const uint16_t *v = h->v + at(c, c->kv_rows, c->kv_heads, b, j, kv);
        double e = exp(p[j] - max);
        sum += e;
        for (size_t i = 0; e > 0 && i < d; i++)
            y[i] += e * (double)value(c, v[i]);
    }
    sum += c->sinks ? exp((double)h->sinks[head] - max) : 0;
    for (size_t i = 0; i < d; i++)
        y[i] /= sum;
    return max + log(sum);
}

/* --- Running --------------------------------------------------------------------------------------------------- */

static ht_cuda_attention_operand operand(const check_case *c, const void *data, size_t rows, size_t heads) {
    size_t d = c->dim;
    if (c->by_head)
        return (ht_cuda_attention_operand){data, heads * rows * d, d, rows * d};
    return (ht_cuda_attention_operand){data, rows * heads * d, heads * d, d};
}

static ht_cuda_attention_args args_of(const check_case *c, const void *q, const void *k, const void *v, void *out,
                                      float *lse, const float *sinks) {
    ht_cuda_attention_operand o = operand(c, out, c->q_rows, c->heads);
    return (ht_cuda_attention_args){.batch = c->batch,
                                    .heads = c->heads,
                                    .kv_heads = c->kv_heads,
                                    .q_rows = c->q_rows,
                                    .kv_rows = c->kv_rows,
                                    .head_dim = c->dim,
                                    .dtype = c->f16 ? HT_F16 : HT_BF16,
                                    .out_dtype = c->f16 ? HT_F16 : HT_BF16,
                                    .q = operand(c, q, c->q_rows, c->heads),
                                    .k = operand(c, k, c->kv_rows, c->kv_heads),
                                    .v = operand(c, v, c->kv_rows, c->kv_heads),
                                    .out = out,
                                    .out_batch = o.batch,
                                    .out_row = o.row,
                                    .out_head = o.head,
                                    .scale = (float)(1 / sqrt((double)c->dim)),
                                    .causal = c->causal,
                                    .window = c->window,
                                    .sinks = c->sinks ? sinks : NULL,
                                    .lse = lse,
                                    .promote = c->promote};
}

/* Quantize q, k and v and make `args` run on that; returns the buffer. */
static void *quantize(const check_case *c, ht_cuda_attention_args *args) {
    void *quantized =
        cuda_new(ht_cuda_attention_quantized_bytes(c->batch, c->heads, c->kv_heads, c->q_rows, c->kv_rows, c->dim));
    ht_cuda_attention_quantize_args q = {.batch = c->batch,
                                         .heads = c->heads,
                                         .kv_heads = c->kv_heads,
                                         .q_rows = c->q_rows,
                                         .kv_rows = c->kv_rows,
                                         .head_dim = c->dim,
                                         .dtype = args->dtype,
                                         .q = args->q,
                                         .k = args->k,
                                         .v = args->v,
                                         .hadamard_qk = c->hadamard == 1,
                                         .hadamard_v = c->hadamard != 0,
                                         .quantized = quantized};
    cuda_must(ht_cuda_attention_quantize(&q, NULL), "quantize");
    args->dtype = HT_F8_E4M3;
    args->quantized = quantized;
    args->hadamard_v = c->hadamard != 0;
    return quantized;
}

typedef struct outcome {
    double error, lse_error; /* relative in the 2-norm over the compared rows; largest absolute */
    int nan;
} outcome;

static outcome compare(const check_case *c, const host_problem *h, const uint16_t *out, const float *lse) {
    double *p = malloc((c->kv_rows + 1) * sizeof *p), y[256], error = 0, size = 0;
    outcome result = {0, 0, 0};
    size_t rows = c->batch * c->heads * c->q_rows;
    size_t wanted = 8000000 / (c->kv_rows * c->dim + 1) + 8, step = rows > wanted ? rows / wanted | 1 : 1;
    for (size_t r = 0; r < rows; r += step) {
        size_t row = r % c->q_rows, head = r / c->q_rows % c->heads, b = r / c->q_rows / c->heads;
        double want = by_definition(c, h, b, head, row, p, y);
        double off = isinf(want) ? (lse[r] == (float)want ? 0 : 1e9) : fabs((double)lse[r] - want);
        const uint16_t *got = out + at(c, c->q_rows, c->heads, b, row, head);
        result.lse_error = off > result.lse_error || isnan(off) ? off : result.lse_error;
        for (size_t i = 0; i < c->dim; i++) {
            double x = (double)value(c, got[i]);
            result.nan |= isnan(x);
            error += (x - y[i]) * (x - y[i]);
            size += y[i] * y[i];
        }
    }
    free(p);
    result.error = sqrt(error / (size + 1e-300));
    return result;
}

static outcome run_case(const check_case *c, const host_problem *h, int fp8) {
    void *q = cuda_upload(h->q, h->nq * 2 + 2), *k = cuda_upload(h->k, h->nk * 2 + 2),
         *v = cuda_upload(h->v, h->nk * 2 + 2), *sinks = cuda_upload(h->sinks, sizeof h->sinks), *quantized = NULL;
    size_t rows = c->batch * c->heads * c->q_rows;
    cuda_guarded out = cuda_guarded_new(h->nq * 2), lse = cuda_guarded_new(rows * 4);
    ht_cuda_attention_args args = args_of(c, q, k, v, out.at, lse.at, sinks);
    if (fp8)
        quantized = quantize(c, &args);
    cuda_must(ht_cuda_attention(&args, NULL), c->name);
    cuda_must(ht_device_finish(cuda_device, NULL), c->name);
    uint16_t *got = cuda_guarded_take(&out, c->name);
    float *got_lse = cuda_guarded_take(&lse, c->name);
    outcome result = compare(c, h, got, got_lse);
    free(got), free(got_lse);
    cuda_delete(q), cuda_delete(k), cuda_delete(v), cuda_delete(sinks), cuda_delete(quantized);
    return result;
}

static outcome check_one(const check_case *c, int fp8) {
    host_problem h = host_new(c);
    outcome o = run_case(c, &h, fp8);
    double bound = fp8 ? 0.06 : c->f16 ? 1e-3 : 6e-3; /* 24.4 dB; a few roundings of the 16-bit type */
    cuda_verdict(o.error < bound && o.lse_error < (fp8 ? 0.2 : 5e-3) && !o.nan,
                 "attention %s %s b%zu h%zu/%zu %zux%zu d%zu%s%s w%zu: error %.2e, lse %.1e", fp8 ? "fp8" : "16-bit",
                 c->name, c->batch, c->heads, c->kv_heads, c->q_rows, c->kv_rows, c->dim, c->causal ? " causal" : "",
                 c->by_head ? " bhsd" : "", c->window, o.error, o.lse_error);
    host_free(&h);
    return o;
}

/* --- Cases ----------------------------------------------------------------------------------------------------- */

static const check_case CASES[] = {
    {.name = "one tile", .batch = 1, .heads = 1, .kv_heads = 1, .q_rows = 128, .kv_rows = 128},
    {.name = "one token", .batch = 2, .heads = 2, .kv_heads = 1, .q_rows = 1, .kv_rows = 1},
    {.name = "square", .batch = 2, .heads = 4, .kv_heads = 2, .q_rows = 512, .kv_rows = 512},
    {.name = "odd", .batch = 2, .heads = 3, .kv_heads = 1, .q_rows = 301, .kv_rows = 517, .by_head = 1},
    {.name = "few queries", .batch = 1, .heads = 8, .kv_heads = 2, .q_rows = 5, .kv_rows = 1000},
    {.name = "causal", .batch = 1, .heads = 2, .kv_heads = 2, .q_rows = 1024, .kv_rows = 1024, .causal = 1},
    {.name = "causal", .batch = 2, .heads = 4, .kv_heads = 1, .q_rows = 333, .kv_rows = 777, .causal = 1, .by_head = 1},
    {.name = "more queries", .batch = 1, .heads = 2, .kv_heads = 1, .q_rows = 700, .kv_rows = 300, .causal = 1},
    {.name = "window",
     .batch = 1,
     .heads = 2,
     .kv_heads = 1,
     .q_rows = 900,
     .kv_rows = 900,
     .causal = 1,
     .window = 200},
    {.name = "window", .batch = 1, .heads = 2, .kv_heads = 1, .q_rows = 600, .kv_rows = 800, .window = 77},
    {.name = "window 1",
     .batch = 1,
     .heads = 1,
     .kv_heads = 1,
     .q_rows = 300,
     .kv_rows = 300,
     .causal = 1,
     .window = 1},
    {.name = "sinks", .batch = 1, .heads = 4, .kv_heads = 2, .q_rows = 260, .kv_rows = 200, .causal = 1, .sinks = 1},
};

static void check_cases(size_t dim, int fp8, int promote, int f16) {
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++) {
        check_case c = CASES[i];
        c.dim = dim;
        c.promote = promote;
        c.f16 = f16;
        check_one(&c, fp8);
    }
}

/* Outlier channels: the transforms must help, each where it acts. */
static void check_hadamard(size_t dim) {
    check_case c = {.name = "outliers",
                    .batch = 1,
                    .heads = 2,
                    .kv_heads = 1,
                    .q_rows = 256,
                    .kv_rows = 640,
                    .dim = dim,
                    .outlier = 20};
    host_problem h = host_new(&c);
    double error[3];
    for (c.hadamard = 0; c.hadamard < 3; c.hadamard++)
        error[c.hadamard] = run_case(&c, &h, 1).error;
    cuda_verdict(error[1] < error[0], "attention fp8 d%zu outliers x 20: error %.4f, hadamard %.4f, of v only %.4f",
                 dim, error[0], error[1], error[2]);
    host_free(&h);
    c.outlier = 0;
    c.name = "hadamard";
    for (c.hadamard = 1; c.hadamard < 3; c.hadamard++)
        check_one(&c, 1);
}

/* A NaN key: the rows that see it are NaN, the others are not. 16 bits only: in fp8 a NaN takes the head's scale. */
static void check_nan(size_t dim) {
    check_case c = {
        .name = "nan", .batch = 1, .heads = 1, .kv_heads = 1, .q_rows = 200, .kv_rows = 200, .dim = dim, .causal = 1};
    host_problem h = host_new(&c);
    h.k[150 * dim] = 0x7fff;
    void *q = cuda_upload(h.q, h.nq * 2), *k = cuda_upload(h.k, h.nk * 2), *v = cuda_upload(h.v, h.nk * 2);
    cuda_guarded out = cuda_guarded_new(h.nq * 2), lse = cuda_guarded_new(200 * 4);
    ht_cuda_attention_args args = args_of(&c, q, k, v, out.at, lse.at, NULL);
    cuda_must(ht_cuda_attention(&args, NULL), c.name);
    uint16_t *got = cuda_guarded_take(&out, c.name);
    float *got_lse = cuda_guarded_take(&lse, c.name);
    int wrong = 0;
    for (size_t i = 0; i < 200; i++) {
        wrong += isnan(got_lse[i]) != (i >= 150);
        for (size_t j = 0; j < dim; j++)
            wrong += isnan(cuda_bf16_value(got[i * dim + j])) != (i >= 150);
    }
    cuda_verdict(wrong == 0, "attention d%zu: a NaN key reaches the rows that see it (%d wrong)", dim, wrong);
    free(got), free(got_lse);
    cuda_delete(q), cuda_delete(k), cuda_delete(v);
    host_free(&h);
}

/* Packed sequences: the same bits as each alone. */
static void check_packed(size_t dim) {
    enum { B = 4, H = 2 };
    static const int32_t Q[B + 1] = {0, 130, 131, 131, 500}, KV[B + 1] = {0, 300, 333, 400, 800};
    check_case c = {.name = "packed",
                    .batch = 1,
                    .heads = H,
                    .kv_heads = 1,
                    .q_rows = 500,
                    .kv_rows = 800,
                    .dim = dim,
                    .causal = 1};
    host_problem h = host_new(&c);
    void *q = cuda_upload(h.q, h.nq * 2), *k = cuda_upload(h.k, h.nk * 2), *v = cuda_upload(h.v, h.nk * 2);
    void *q_offsets = cuda_upload(Q, sizeof Q), *kv_offsets = cuda_upload(KV, sizeof KV);
    cuda_guarded out = cuda_guarded_new(h.nq * 2), lse = cuda_guarded_new(H * 500 * 4),
                 alone = cuda_guarded_new(h.nq * 2);
    ht_cuda_attention_args args = args_of(&c, q, k, v, out.at, lse.at, NULL);
    args.batch = B;
    args.q_rows = 369, args.kv_rows = 400;
    args.q_offsets = q_offsets, args.kv_offsets = kv_offsets;
    args.q_total = 500, args.kv_total = 800;
    cuda_must(ht_cuda_attention(&args, NULL), c.name);
    for (size_t b = 0; b < B; b++) {
        check_case one = c;
        one.q_rows = (size_t)(Q[b + 1] - Q[b]), one.kv_rows = (size_t)(KV[b + 1] - KV[b]);
        ht_cuda_attention_args single =
            args_of(&one, (uint16_t *)q + Q[b] * H * dim, (uint16_t *)k + KV[b] * dim, (uint16_t *)v + KV[b] * dim,
                    (uint16_t *)alone.at + Q[b] * H * dim, NULL, NULL);
        cuda_must(ht_cuda_attention(&single, NULL), c.name);
    }
    uint16_t *got = cuda_guarded_take(&out, c.name), *want = cuda_guarded_take(&alone, c.name);
    float *got_lse = cuda_guarded_take(&lse, c.name);
    cuda_verdict(memcmp(got, want, h.nq * 2) == 0, "attention d%zu: packed sequences are each what they are alone",
                 dim);
    free(got), free(want), free(got_lse);
    cuda_delete(q), cuda_delete(k), cuda_delete(v), cuda_delete(q_offsets), cuda_delete(kv_offsets);
    host_free(&h);
}

/* The quantizer: codes and scales as computed here, v's order, RoPE in both forms. */
static void check_quantizer(size_t dim, int interleaved) {
    check_case c = {
        .name = "quantizer", .batch = 2, .heads = 4, .kv_heads = 2, .q_rows = 70, .kv_rows = 150, .dim = dim};
    host_problem h = host_new(&c);
    attention_quantizer_check(&(attention_quantizer_case){.batch = c.batch,
                                                          .heads = c.heads,
                                                          .kv_heads = c.kv_heads,
                                                          .q_rows = c.q_rows,
                                                          .kv_rows = c.kv_rows,
                                                          .dim = dim,
                                                          .interleaved = interleaved,
                                                          .q = h.q,
                                                          .k = h.k,
                                                          .v = h.v});
    host_free(&h);
}

/* The public call on the GPU: the same bits as the kernel's own, and it says what ran. */
static void check_public(size_t dim, ht_attention_precision precision) {
    check_case c = {.name = "public",
                    .batch = 1,
                    .heads = 4,
                    .kv_heads = 2,
                    .q_rows = 200,
                    .kv_rows = 300,
                    .dim = dim,
                    .causal = 1,
                    .hadamard = precision == HT_ATTENTION_FP8_HADAMARD};
    host_problem h = host_new(&c);
    ht_context *ctx = NULL;
    ht_attention_report report;
    size_t bytes = 0, step = 4 * dim, kv_step = 2 * dim;
    cuda_must(ht_context_create(NULL, &ctx), "context");
    void *q = cuda_upload(h.q, h.nq * 2), *k = cuda_upload(h.k, h.nk * 2), *v = cuda_upload(h.v, h.nk * 2);
    cuda_guarded out = cuda_guarded_new(h.nq * 2), direct = cuda_guarded_new(h.nq * 2);
    ht_attention_args args = {.batch = 1,
                              .heads = 4,
                              .kv_heads = 2,
                              .q_rows = 200,
                              .kv_rows = 300,
                              .head_dim = dim,
                              .dtype = HT_BF16,
                              .q = {q, 0, step, dim},
                              .k = {k, 0, kv_step, dim},
                              .v = {v, 0, kv_step, dim},
                              .out = {out.at, 0, step, dim},
                              .causal = 1,
                              .precision = precision,
                              .on_gpu = 1};
    cuda_must(ht_attention_workspace(&args, &bytes), "workspace");
    args.workspace = bytes ? cuda_new(bytes) : NULL;
    args.workspace_bytes = bytes;
    cuda_must(ht_attention(ctx, &args, &report), "public");
    ht_cuda_attention_args own = args_of(&c, q, k, v, direct.at, NULL, NULL);
    void *quantized = precision == HT_ATTENTION_INPUT ? NULL : quantize(&c, &own);
    cuda_must(ht_cuda_attention(&own, NULL), "direct");
    uint16_t *got = cuda_guarded_take(&out, c.name), *want = cuda_guarded_take(&direct, c.name);
    const char *kernel = precision == HT_ATTENTION_INPUT ? "bf16_sm90" : "fp8_sm90";
    cuda_verdict(memcmp(got, want, h.nq * 2) == 0 && strcmp(report.kernel, kernel) == 0 && !report.reason[0],
                 "attention d%zu, %s: ht_attention() runs %s", dim, ht_attention_precision_name(precision),
                 report.kernel);
    args.softcap = 30;
    ht_status status = ht_attention(ctx, &args, &report);
    cuda_verdict(status == HT_ERR_UNSUPPORTED && strstr(ht_error_message(), "soft cap"),
                 "attention d%zu, %s: a soft cap is refused with its reason", dim,
                 ht_attention_precision_name(precision));
    free(got), free(want);
    cuda_delete(q), cuda_delete(k), cuda_delete(v), cuda_delete(args.workspace), cuda_delete(quantized);
    ht_context_destroy(ctx);
    host_free(&h);
}

void cuda_check_attention(void) {
    static const size_t DIMS[] = {128, 64};
    for (size_t i = 0; i < 2; i++) {
        check_cases(DIMS[i], 0, 0, 0);
        check_cases(DIMS[i], 0, 0, 1);
        check_quantizer(DIMS[i], 0);
        check_quantizer(DIMS[i], 1);
        check_cases(DIMS[i], 1, 0, 0);
        check_cases(DIMS[i], 1, 1, 0);
        check_nan(DIMS[i]);
        check_packed(DIMS[i]);
        check_hadamard(DIMS[i]);
        for (int p = 0; p < HT_ATTENTION_FP8_HADAMARD_V; p++)
            check_public(DIMS[i], (ht_attention_precision)p);
    }
    if (getenv("CUDA_CHECK_QUICK")) /* under a sanitizer */
        return;
    check_case large = {.name = "long",
                        .batch = 1,
                        .heads = 2,
                        .kv_heads = 1,
                        .q_rows = 4096,
                        .kv_rows = 16384,
                        .dim = 128,
                        .causal = 1};
    check_one(&large, 0);
    check_one(&large, 1);
    large.q_rows = 512, large.kv_rows = 131072, large.name = "131072 keys";
    check_one(&large, 0);
    check_one(&large, 1);
    large.promote = 1;
    check_one(&large, 1);
}
