/* Gradients of attention: both kernels against central differences of a forward pass written out here in f64, over
 * every option; the fast one against the definition where tiles end; threads, packed sequences, dtypes, rows that see
 * nothing, NaN, the refusals. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/attention.h>

#include "base/random.h"
#include "support/check.h"

static ht_context *ctx, *many; /* two threads or so; five */
static uint64_t stream;

/* One problem; everything [b, s, h, d]. x: q, k, v, d_out; g: dq, dk, dv; sums of what they point to below. */
enum { Q, K, V, DY, ARRAYS };
struct problem {
    ht_attention_args args;
    ht_attention_gradients to;
    size_t count[ARRAYS];
    float *x[ARRAYS], *g[3], *out, *lse, *sinks, *d_sinks, *additive;
    uint8_t *allowed;
};

static ht_attention_operand operand(float *data, size_t rows, size_t heads, size_t dim) {
    return (ht_attention_operand){.data = data, .batch = rows * heads * dim, .row = heads * dim, .head = dim};
}

static struct problem problem_new(size_t batch, size_t heads, size_t kv_heads, size_t q_rows, size_t kv_rows, size_t d,
                                  size_t dv) {
    struct problem p = {.count = {batch * q_rows * heads * d, batch * kv_rows * kv_heads * d,
                                  batch * kv_rows * kv_heads * dv, batch * q_rows * heads * dv}};
    size_t scores = batch * heads * q_rows * kv_rows;
    for (size_t i = 0; i < ARRAYS; i++, stream++) {
        p.x[i] = malloc((p.count[i] + 1) * sizeof(float));
        for (size_t j = 0; j < p.count[i]; j++)
            p.x[i][j] = ht_random_normal(3, stream, j);
        if (i < 3)
            p.g[i] = malloc((p.count[i] + 1) * sizeof(float));
    }
    p.out = malloc((p.count[DY] + 1) * sizeof(float));
    p.lse = malloc((batch * heads * q_rows + 1) * sizeof(float));
    p.sinks = malloc(heads * sizeof(float));
    p.d_sinks = malloc(heads * sizeof(float));
    p.additive = malloc((scores + 1) * sizeof(float));
    p.allowed = malloc(scores + 1);
    for (size_t i = 0; i < heads; i++)
        p.sinks[i] = ht_random_normal(4, stream, i);
    for (size_t i = 0; i < scores; i++) {
        p.additive[i] = ht_random_normal(5, stream, i);
        p.allowed[i] = ht_random_u32(6, stream, i) % 3 != 0;
    }
    p.args = (ht_attention_args){.batch = batch,
                                 .heads = heads,
                                 .kv_heads = kv_heads,
                                 .q_rows = q_rows,
                                 .kv_rows = kv_rows,
                                 .head_dim = d,
                                 .value_dim = dv,
                                 .dtype = HT_F32,
                                 .q = operand(p.x[Q], q_rows, heads, d),
                                 .k = operand(p.x[K], kv_rows, kv_heads, d),
                                 .v = operand(p.x[V], kv_rows, kv_heads, dv),
                                 .out = operand(p.out, q_rows, heads, dv),
                                 .lse = p.lse};
    p.to = (ht_attention_gradients){.d_out = operand(p.x[DY], q_rows, heads, dv),
                                    .dq = operand(p.g[Q], q_rows, heads, d),
                                    .dk = operand(p.g[K], kv_rows, kv_heads, d),
                                    .dv = operand(p.g[V], kv_rows, kv_heads, dv)};
    return p;
}

static void problem_free(struct problem *p) {
    for (size_t i = 0; i < ARRAYS; i++)
        free(p->x[i]);
    free(p->g[Q]), free(p->g[K]), free(p->g[V]);
    free(p->out), free(p->lse), free(p->sinks), free(p->d_sinks), free(p->additive), free(p->allowed);
}

/* bits: causal, window, soft cap, sinks, and 2 for the mask. */
static void set_options(struct problem *p, unsigned bits, size_t window) {
    size_t rows = p->args.q_rows, keys = p->args.kv_rows;
    p->args.causal = bits & 1;
    p->args.window = bits & 2 ? window : 0;
    p->args.scale = bits & 2 ? 0.7 : 0;
    p->args.softcap = bits & 4 ? 1.5 : 0;
    p->args.sinks = bits & 8 ? p->sinks : NULL;
    p->to.d_sinks = bits & 8 ? p->d_sinks : NULL;
    p->args.mask = (ht_attention_mask){.kind = HT_MASK_NONE};
    if ((bits >> 4 & 3) == 1 || (bits >> 4 & 3) == 2)
        p->args.mask = (ht_attention_mask){bits & 16 ? HT_MASK_BOOL : HT_MASK_ADDITIVE,
                                           bits & 16 ? (const void *)p->allowed : p->additive,
                                           p->args.heads * rows * keys, rows * keys, keys};
}

static void poison(struct problem *p) {
    for (size_t i = 0; i < 3; i++)
        memset(p->g[i], 0x55, p->count[i] * sizeof(float));
    memset(p->d_sinks, 0x55, p->args.heads * sizeof(float));
}

/* Forward with the definition, then the gradients with a kernel. */
static void run(struct problem *p, ht_context *with, const char *kernel) {
    ht_attention_args args = p->args;
    ht_attention_report report;
    args.kernel = "reference_f64";
    CHECK_OK(ht_attention(ctx, &args, NULL));
    poison(p);
    args.kernel = kernel;
    CHECK_OK(ht_attention_backward(with, &args, &p->to, &report));
    CHECK_TEXT(report.kernel, kernel ? kernel : "cpu_f32");
}

/* --- Differences ------------------------------------------------------------------------------------------------- */

static int sees(const ht_attention_args *a, size_t i, size_t j) {
    long position = (long)i + (long)a->kv_rows - (long)a->q_rows, key = (long)j, window = (long)a->window;
    if (a->causal && key > position)
        return 0;
    return !window || (position - key < window && (a->causal || key - position < window));
}

/* sum of out d_out over one row, unnormalised exponentials: scores are small here. One sequence. */
static double row_loss(const struct problem *p, double *const x[3], const double *sinks, size_t h, size_t i) {
    const ht_attention_args *a = &p->args;
    size_t kv = h / (a->heads / a->kv_heads), d = a->head_dim, dv = a->value_dim;
    double sum = a->sinks ? exp(sinks[h]) : 0, total = 0;
    for (size_t j = 0; j < a->kv_rows; j++) {
        size_t at = (h * a->q_rows + i) * a->kv_rows + j;
        double s = 0, y = 0;
        if (!sees(a, i, j) || (a->mask.kind == HT_MASK_BOOL && !p->allowed[at]))
            continue;
        for (size_t c = 0; c < d; c++)
            s += x[Q][(i * a->heads + h) * d + c] * x[K][(j * a->kv_heads + kv) * d + c];
        s *= a->scale != 0 ? a->scale : 1 / sqrt((double)d);
        s = a->softcap > 0 ? a->softcap * tanh(s / a->softcap) : s;
        s += a->mask.kind == HT_MASK_ADDITIVE ? (double)p->additive[at] : 0;
        for (size_t c = 0; c < dv; c++)
            y += (double)p->x[DY][(i * a->heads + h) * dv + c] * x[V][(j * a->kv_heads + kv) * dv + c];
        sum += exp(s);
        total += exp(s) * y;
    }
    return sum > 0 ? total / sum : 0;
}

static double loss(const struct problem *p, double *const x[3], const double *sinks) {
    double total = 0;
    for (size_t h = 0; h < p->args.heads; h++)
        for (size_t i = 0; i < p->args.q_rows; i++)
            total += row_loss(p, x, sinks, h, i);
    return total;
}

static double slope(const struct problem *p, double *const x[3], const double *sinks, double *at) {
    const double h = 1e-4, keep = *at;
    *at = keep + h;
    double up = loss(p, x, sinks);
    *at = keep - h;
    double down = loss(p, x, sinks);
    *at = keep;
    return (up - down) / (2 * h);
}

static void check_slopes(struct problem *p, const char *name) {
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32"};
    static const double BOUND[] = {5e-7, 5e-6};
    double *x[3], sinks[8];
    for (size_t a = 0; a < 3; a++) {
        x[a] = malloc((p->count[a] + 1) * sizeof(double));
        for (size_t i = 0; i < p->count[a]; i++)
            x[a][i] = (double)p->x[a][i];
    }
    for (size_t h = 0; h < p->args.heads; h++)
        sinks[h] = (double)p->sinks[h];
    for (size_t n = 0; n < 2; n++) {
        int before = check_failures_of_test;
        run(p, ctx, KERNELS[n]);
        for (size_t a = 0; a < 3; a++)
            for (size_t i = 0; i < p->count[a]; i++)
                CHECK_WITHIN((double)p->g[a][i], slope(p, x, sinks, &x[a][i]), BOUND[n]);
        for (size_t h = 0; p->args.sinks && h < p->args.heads; h++)
            CHECK_WITHIN((double)p->d_sinks[h], slope(p, x, sinks, &sinks[h]), BOUND[n]);
        if (check_failures_of_test != before)
            fprintf(stderr, "  of %s, kernel %s\n", name, KERNELS[n]);
    }
    free(x[Q]), free(x[K]), free(x[V]);
}

static void test_differences(void) {
    static const size_t SHAPES[][2] = {{1, 1}, {1, 9}, {5, 5}, {6, 3}, {3, 7}};
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++)
        for (unsigned bits = 0; bits < 48; bits++) {
            struct problem p = problem_new(1, 2, s % 2 + 1, SHAPES[s][0], SHAPES[s][1], 5, 4);
            char name[64];
            set_options(&p, bits, 2);
            snprintf(name, sizeof name, "%zu x %zu, options %#x", SHAPES[s][0], SHAPES[s][1], bits);
            check_slopes(&p, name);
            problem_free(&p);
        }
}

/* --- Where tiles end ---------------------------------------------------------------------------------------------- */

static double distance(const float *x, const float *y, size_t count) {
    double noise = 0, signal = 0;
    for (size_t i = 0; i < count; i++) {
        noise += pow((double)x[i] - (double)y[i], 2);
        signal += (double)y[i] * (double)y[i];
    }
    return signal > 0 ? sqrt(noise / signal) : sqrt(noise);
}

/* 130 and 300 queries over 270 and 130 keys; the definition, and the same bits from five threads (tiles are tasks)
 * and from one (heads are). */
static void test_tiles(void) {
    static const unsigned OPTIONS[] = {0, 1, 3, 2, 4 + 8 + 1, 16 + 1, 32 + 8};
    ht_context *single;
    REQUIRE_OK(ht_context_create(&(ht_context_options){.threads = 1}, &single));
    for (size_t n = 0; n < 2 * sizeof OPTIONS / sizeof *OPTIONS; n++) {
        struct problem p = problem_new(1, 2, 1, n % 2 ? 130 : 300, n % 2 ? 270 : 130, 12, 8);
        float *want[3], sinks[2];
        set_options(&p, OPTIONS[n / 2], 70);
        run(&p, ctx, "reference_f64");
        memcpy(sinks, p.d_sinks, sizeof sinks);
        for (size_t i = 0; i < 3; i++) {
            want[i] = p.g[i];
            p.g[i] = malloc((p.count[i] + 1) * sizeof(float));
        }
        p.to.dq.data = p.g[Q], p.to.dk.data = p.g[K], p.to.dv.data = p.g[V];
        run(&p, single, NULL);
        CHECK(p.args.sinks == NULL || distance(p.d_sinks, sinks, 2) < 2e-6);
        for (size_t i = 0; i < 3; i++) {
            if (!CHECK(distance(p.g[i], want[i], p.count[i]) < 2e-6))
                fprintf(stderr, "  options %#x, array %zu: %g\n", OPTIONS[n / 2], i,
                        distance(p.g[i], want[i], p.count[i]));
            memcpy(want[i], p.g[i], p.count[i] * sizeof(float));
        }
        memcpy(sinks, p.d_sinks, sizeof sinks);
        run(&p, many, NULL);
        for (size_t i = 0; i < 3; i++)
            CHECK_BYTES(p.g[i], want[i], p.count[i] * sizeof(float));
        CHECK_BYTES(p.d_sinks, sinks, sizeof sinks);
        free(want[Q]), free(want[K]), free(want[V]);
        problem_free(&p);
    }
    ht_context_destroy(single);
}

/* Each gradient alone is what it is among the others. */
static void test_wanted(void) {
    struct problem p = problem_new(2, 4, 2, 20, 30, 8, 8);
    float *first[3];
    p.args.causal = 1;
    run(&p, ctx, NULL);
    for (size_t i = 0; i < 3; i++) {
        first[i] = malloc(p.count[i] * sizeof(float));
        memcpy(first[i], p.g[i], p.count[i] * sizeof(float));
    }
    for (size_t i = 0; i < 3; i++) {
        p.to.dq.data = i == Q ? p.g[Q] : NULL;
        p.to.dk.data = i == K ? p.g[K] : NULL;
        p.to.dv.data = i == V ? p.g[V] : NULL;
        for (size_t n = 0; n < 2; n++) {
            run(&p, n ? many : ctx, NULL);
            CHECK_BYTES(p.g[i], first[i], p.count[i] * sizeof(float));
        }
        free(first[i]);
    }
    problem_free(&p);
}

/* --- Layouts, dtypes, sequences ------------------------------------------------------------------------------------
 */

/* 16-bit inputs and gradients: what f32 gives on the same numbers, rounded. */
static void test_dtypes(void) {
    static const ht_dtype DTYPES[] = {HT_BF16, HT_F16};
    for (size_t t = 0; t < 2; t++) {
        struct problem p = problem_new(1, 4, 2, 140, 30, 16, 12);
        uint16_t *x[3], *g[3], *want[3];
        ht_attention_args args;
        ht_attention_gradients to = p.to;
        for (size_t i = 0; i < 3; i++) {
            x[i] = malloc(p.count[i] * 2), g[i] = malloc(p.count[i] * 2), want[i] = malloc(p.count[i] * 2);
            CHECK_OK(ht_convert(p.x[i], HT_F32, x[i], DTYPES[t], p.count[i]));
            CHECK_OK(ht_convert(x[i], DTYPES[t], p.x[i], HT_F32, p.count[i]));
        }
        p.args.window = 9;
        run(&p, ctx, NULL);
        for (size_t i = 0; i < 3; i++)
            CHECK_OK(ht_convert(p.g[i], HT_F32, want[i], DTYPES[t], p.count[i]));
        args = p.args;
        args.dtype = DTYPES[t], args.out_dtype = HT_F32;
        args.q.data = x[Q], args.k.data = x[K], args.v.data = x[V];
        to.dq.data = g[Q], to.dk.data = g[K], to.dv.data = g[V];
        CHECK_OK(ht_attention_backward(many, &args, &to, NULL));
        for (size_t i = 0; i < 3; i++)
            CHECK_BYTES(g[i], want[i], p.count[i] * 2);
        for (size_t i = 0; i < 3; i++)
            free(x[i]), free(g[i]), free(want[i]);
        problem_free(&p);
    }
}

/* Packed sequences give what each gives alone; one has no queries, one no keys. */
static void test_packed(void) {
    enum { H = 2, D = 8, B = 4 };
    static const int32_t QS[B + 1] = {0, 3, 3, 20, 24}, KS[B + 1] = {0, 9, 12, 40, 40};
    struct problem p = problem_new(1, H, 1, 24, 40, D, D);
    float *alone[3], part[3][28 * H * D], lse[H * 24];
    ht_attention_args args = p.args;
    args.batch = B, args.q_rows = 17, args.kv_rows = 28, args.causal = 1;
    args.q_offsets = QS, args.kv_offsets = KS;
    args.lse = lse;
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    poison(&p);
    REQUIRE_OK(ht_attention_backward(many, &args, &p.to, NULL));
    for (size_t i = 0; i < 3; i++)
        alone[i] = calloc(p.count[i], sizeof(float));
    for (size_t b = 0; b < B; b++) {
        size_t q = (size_t)QS[b] * H * D, k = (size_t)KS[b] * D;
        ht_attention_args one = p.args;
        ht_attention_gradients to = p.to;
        one.q_rows = (size_t)(QS[b + 1] - QS[b]), one.kv_rows = (size_t)(KS[b + 1] - KS[b]), one.causal = 1;
        one.q.data = p.x[Q] + q, one.k.data = p.x[K] + k, one.v.data = p.x[V] + k, one.out.data = p.out + q;
        to.d_out.data = p.x[DY] + q;
        to.dq.data = part[Q], to.dk.data = part[K], to.dv.data = part[V];
        REQUIRE_OK(ht_attention(ctx, &one, NULL));
        REQUIRE_OK(ht_attention_backward(ctx, &one, &to, NULL));
        memcpy(alone[Q] + q, part[Q], one.q_rows * H * D * sizeof(float));
        memcpy(alone[K] + k, part[K], one.kv_rows * D * sizeof(float));
        memcpy(alone[V] + k, part[V], one.kv_rows * D * sizeof(float));
    }
    for (size_t i = 0; i < 3; i++) {
        CHECK_BYTES(p.g[i], alone[i], p.count[i] * sizeof(float));
        free(alone[i]);
    }
    problem_free(&p);
}

/* --- Edges ---------------------------------------------------------------------------------------------------------
 */

static int all_finite(const float *x, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (!isfinite(x[i]))
            return 0;
    return 1;
}

/* 9 causal queries over 4 keys: five rows see nothing and may hold anything. */
static void test_hidden_rows(void) {
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32"};
    for (size_t n = 0; n < 2; n++) {
        struct problem p = problem_new(1, 1, 1, 9, 4, 8, 8);
        p.args.causal = 1;
        for (size_t i = 0; i < 5 * 8; i++)
            p.x[Q][i] = NAN, p.x[DY][i] = i % 2 ? INFINITY : NAN;
        run(&p, ctx, KERNELS[n]);
        for (size_t i = 0; i < 5 * 8; i++)
            CHECK(p.g[Q][i] == 0);
        CHECK(all_finite(p.g[Q], 9 * 8) && all_finite(p.g[K], 4 * 8) && all_finite(p.g[V], 4 * 8));
        p.x[K][8] = NAN; /* key 1: rows 6, 7 and 8 see it */
        run(&p, ctx, KERNELS[n]);
        CHECK(isfinite(p.g[Q][4 * 8]) && isnan(p.g[Q][6 * 8]) && isnan(p.g[Q][8 * 8]) && isnan(p.g[K][8]) &&
              isnan(p.g[V][8]));
        problem_free(&p);
    }
}

static void test_empty(void) {
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32"};
    for (size_t n = 0; n < 2; n++) {
        struct problem p = problem_new(2, 2, 1, 3, 4, 8, 8);
        ht_attention_args args = p.args;
        args.kernel = KERNELS[n];
        args.q_rows = 0;
        poison(&p);
        CHECK_OK(ht_attention_backward(ctx, &args, &p.to, NULL));
        CHECK(p.g[K][0] == 0 && p.g[V][p.count[V] - 1] == 0); /* nobody asked */
        args.q_rows = 3, args.kv_rows = 0;
        for (size_t i = 0; i < 12; i++)
            p.lse[i] = -INFINITY;
        CHECK_OK(ht_attention_backward(ctx, &args, &p.to, NULL));
        CHECK(p.g[Q][0] == 0 && p.g[Q][p.count[Q] - 1] == 0);
        problem_free(&p);
    }
}

/* A forward pass in fp8 with this way back: gradients point where the exact ones do. */
static void test_after_fp8(void) {
    struct problem p = problem_new(1, 2, 1, 40, 60, 64, 64);
    float *want[3];
    p.args.causal = 1;
    run(&p, ctx, NULL);
    for (size_t i = 0; i < 3; i++) {
        want[i] = malloc(p.count[i] * sizeof(float));
        memcpy(want[i], p.g[i], p.count[i] * sizeof(float));
    }
    ht_attention_args args = p.args;
    args.precision = HT_ATTENTION_FP8;
    args.kernel = "cpu_fp8";
    CHECK_OK(ht_attention(ctx, &args, NULL));
    args.kernel = NULL;
    CHECK_OK(ht_attention_backward(ctx, &args, &p.to, NULL));
    for (size_t i = 0; i < 3; i++) {
        double d = distance(p.g[i], want[i], p.count[i]);
        if (!CHECK(d > 1e-4 && d < 0.1))
            fprintf(stderr, "  array %zu: %g\n", i, d);
        free(want[i]);
    }
    problem_free(&p);
}

static void test_refusals(void) {
    struct problem p = problem_new(1, 1, 1, 2, 2, 8, 8);
    ht_attention_args bad = p.args;
    ht_attention_gradients to = p.to;
    bad.lse = NULL;
    CHECK_FAILS(ht_attention_backward(ctx, &bad, &p.to, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "lse");
    to.d_out.data = NULL;
    CHECK_FAILS(ht_attention_backward(ctx, &p.args, &to, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "d_out");
    to = p.to, to.dtype = HT_I8;
    CHECK_FAILS(ht_attention_backward(ctx, &p.args, &to, NULL), HT_ERR_UNSUPPORTED);
    bad = p.args, bad.kernel = "cpu_fp8", bad.precision = HT_ATTENTION_FP8;
    CHECK_FAILS(ht_attention_backward(ctx, &bad, &p.to, NULL), HT_ERR_UNSUPPORTED);
    bad = p.args, bad.on_gpu = 1, bad.dtype = HT_BF16;
    CHECK_FAILS(ht_attention_backward(ctx, &bad, &p.to, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "bf16_sm90: it has no backward pass");
    bad = p.args, bad.kv_heads = 0;
    CHECK_FAILS(ht_attention_backward(ctx, &bad, &p.to, NULL), HT_ERR_SHAPE);
    problem_free(&p);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK ||
        ht_context_create(&(ht_context_options){.threads = 5}, &many) != HT_OK)
        return 1;
    RUN(test_differences);
    RUN(test_tiles);
    RUN(test_wanted);
    RUN(test_dtypes);
    RUN(test_packed);
    RUN(test_hidden_rows);
    RUN(test_empty);
    RUN(test_after_fp8);
    RUN(test_refusals);
    ht_context_destroy(many);
    ht_context_destroy(ctx);
    return check_finish();
}
