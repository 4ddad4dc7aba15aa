/* ht_attention on the host: the f64 definition against a by-hand sum, the f32 kernel against the definition over every
 * option and their combinations, the edges (rows that see nothing, NaN, infinities, one token), threads, parts, groups.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/attention.h>

#include "attention_problem.h"
#include "support/check.h"

static ht_context *ctx;

/* --- The definition by hand --------------------------------------------------------------------------------------- */

static int sees(const ht_attention_args *a, size_t i, size_t j) {
    long position = (long)i + (long)a->kv_rows - (long)a->q_rows, key = (long)j, window = (long)a->window;
    if (a->causal && key > position)
        return 0;
    return !window || (position - key < window && (a->causal || key - position < window));
}

static double score(const struct problem *p, size_t b, size_t h, size_t i, size_t j) {
    const ht_attention_args *a = &p->args;
    size_t kv = h / (a->heads / a->kv_heads), d = a->head_dim,
           at = ((b * a->heads + h) * a->q_rows + i) * a->kv_rows + j;
    double sum = 0;
    for (size_t c = 0; c < d; c++)
        sum += (double)p->q[((b * a->q_rows + i) * a->heads + h) * d + c] *
               (double)p->k[((b * a->kv_rows + j) * a->kv_heads + kv) * d + c];
    sum *= a->scale != 0 ? a->scale : 1 / sqrt((double)d);
    if (a->softcap > 0)
        sum = a->softcap * tanh(sum / a->softcap);
    if (a->mask.kind == HT_MASK_ADDITIVE)
        sum += (double)p->additive[at];
    return a->mask.kind == HT_MASK_BOOL && !p->allowed[at] ? -(double)INFINITY : sum;
}

/* Unnormalised: scores are small here. y [dv], returns log sum exp. */
static double by_hand(const struct problem *p, size_t b, size_t h, size_t i, double *y) {
    const ht_attention_args *a = &p->args;
    size_t kv = h / (a->heads / a->kv_heads), dv = a->value_dim;
    double sum = a->sinks ? exp((double)a->sinks[h]) : 0;
    memset(y, 0, dv * sizeof *y);
    for (size_t j = 0; j < a->kv_rows; j++)
        if (sees(a, i, j)) {
            double e = exp(score(p, b, h, i, j));
            sum += e;
            for (size_t c = 0; c < dv; c++)
                y[c] += e * (double)p->v[((b * a->kv_rows + j) * a->kv_heads + kv) * dv + c];
        }
    for (size_t c = 0; c < dv && sum > 0; c++)
        y[c] /= sum;
    return log(sum);
}

/* Run both kernels; both must be near the sum by hand. */
static void check_problem(struct problem *p, const char *name) {
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32"};
    static const double BOUND[] = {2e-7, 4e-6};
    const ht_attention_args *a = &p->args;
    double y[64];
    for (size_t n = 0; n < 2; n++) {
        int before = check_failures_of_test;
        ht_attention_args args = p->args;
        ht_attention_report report;
        args.kernel = KERNELS[n];
        for (size_t i = 0; i < p->out_count; i++)
            p->out[i] = NAN;
        REQUIRE_OK(ht_attention(ctx, &args, &report));
        CHECK_TEXT(report.kernel, KERNELS[n]);
        for (size_t row = 0; row < a->batch * a->heads * a->q_rows; row++) {
            size_t i = row % a->q_rows, h = row / a->q_rows % a->heads, b = row / a->q_rows / a->heads;
            double lse = by_hand(p, b, h, i, y);
            const float *out = p->out + ((b * a->q_rows + i) * a->heads + h) * a->value_dim;
            for (size_t c = 0; c < a->value_dim; c++)
                CHECK_WITHIN((double)out[c], y[c], BOUND[n] * 4);
            if (isinf(lse))
                CHECK(p->lse[row] == -INFINITY);
            else
                CHECK_WITHIN((double)p->lse[row], lse, BOUND[n] * 4);
        }
        if (check_failures_of_test != before)
            fprintf(stderr, "  of %s, kernel %s\n", name, KERNELS[n]);
    }
}

static void test_options(void) {
    static const size_t SHAPES[][2] = {{1, 1}, {1, 37}, {5, 5}, {37, 21}, {21, 50}, {18, 18}};
    for (size_t s = 0; s < sizeof SHAPES / sizeof *SHAPES; s++)
        for (unsigned bits = 0; bits < 64; bits++) {
            struct problem p = problem_new(2, 4, 2, SHAPES[s][0], SHAPES[s][1], 24, 20);
            char name[96];
            p.args.causal = bits & 1;
            p.args.window = bits & 2 ? 7 : 0;
            p.args.softcap = bits & 4 ? 1.5 : 0;
            p.args.sinks = bits & 8 ? p.sinks : NULL;
            p.args.scale = bits & 2 ? 0.3 : 0;
            add_mask(&p, (ht_attention_mask_kind)(bits >> 4 & 3) == 3 ? HT_MASK_NONE
                                                                      : (ht_attention_mask_kind)(bits >> 4 & 3));
            snprintf(name, sizeof name, "%zu x %zu, options %#x", SHAPES[s][0], SHAPES[s][1], bits);
            check_problem(&p, name);
            problem_free(&p);
        }
}

static void test_heads(void) {
    static const size_t HEADS[][2] = {{1, 1}, {6, 6}, {6, 1}, {6, 2}};
    for (size_t i = 0; i < 4; i++) {
        struct problem p = problem_new(1, HEADS[i][0], HEADS[i][1], 19, 23, 8, 8);
        p.args.causal = 1;
        check_problem(&p, "heads");
        problem_free(&p);
    }
}

/* --- Layouts and dtypes ------------------------------------------------------------------------------------------- */

/* q, k and v of one fused projection, and out as [b, h, s, d]: the same numbers as in layouts of their own. */
static void test_layouts(void) {
    enum { B = 2, H = 4, KV = 2, S = 20, D = 16, WIDTH = (H + 2 * KV) * D };
    struct problem p = problem_new(B, H, KV, S, S, D, D);
    float *fused = malloc(B * S * WIDTH * sizeof *fused), *turned = malloc(B * S * H * D * sizeof *turned);
    p.args.causal = 1;
    REQUIRE_OK(ht_attention(ctx, &p.args, NULL));
    for (size_t row = 0; row < B * S; row++) {
        memcpy(fused + row * WIDTH, p.q + row * H * D, H * D * sizeof(float));
        memcpy(fused + row * WIDTH + H * D, p.k + row * KV * D, KV * D * sizeof(float));
        memcpy(fused + row * WIDTH + (H + KV) * D, p.v + row * KV * D, KV * D * sizeof(float));
    }
    ht_attention_args args = p.args;
    args.q = (ht_attention_operand){fused, S * WIDTH, WIDTH, D};
    args.k = (ht_attention_operand){fused + H * D, S * WIDTH, WIDTH, D};
    args.v = (ht_attention_operand){fused + (H + KV) * D, S * WIDTH, WIDTH, D};
    args.out = (ht_attention_operand){turned, H * S * D, D, S * D};
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    for (size_t b = 0; b < B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t s = 0; s < S; s++)
                CHECK_BYTES(turned + ((b * H + h) * S + s) * D, p.out + ((b * S + s) * H + h) * D, D * sizeof(float));
    free(fused), free(turned);
    problem_free(&p);
}

/* 16-bit inputs: what f32 gives on the same numbers, rounded. */
static void test_dtypes(void) {
    static const ht_dtype DTYPES[] = {HT_BF16, HT_F16};
    for (size_t t = 0; t < 2; t++) {
        struct problem p = problem_new(2, 4, 2, 17, 30, 16, 12);
        size_t nq = 2 * 17 * 4 * 16, nk = 2 * 30 * 2 * 16, nv = 2 * 30 * 2 * 12;
        uint16_t *q = malloc(nq * 2), *k = malloc(nk * 2), *v = malloc(nv * 2), *out = malloc(p.out_count * 2),
                 *want = malloc(p.out_count * 2);
        CHECK_OK(ht_convert(p.q, HT_F32, q, DTYPES[t], nq));
        CHECK_OK(ht_convert(p.k, HT_F32, k, DTYPES[t], nk));
        CHECK_OK(ht_convert(p.v, HT_F32, v, DTYPES[t], nv));
        CHECK_OK(ht_convert(q, DTYPES[t], p.q, HT_F32, nq));
        CHECK_OK(ht_convert(k, DTYPES[t], p.k, HT_F32, nk));
        CHECK_OK(ht_convert(v, DTYPES[t], p.v, HT_F32, nv));
        p.args.causal = 1;
        REQUIRE_OK(ht_attention(ctx, &p.args, NULL));
        CHECK_OK(ht_convert(p.out, HT_F32, want, DTYPES[t], p.out_count));
        ht_attention_args args = p.args;
        args.dtype = DTYPES[t];
        args.q.data = q, args.k.data = k, args.v.data = v, args.out.data = out;
        REQUIRE_OK(ht_attention(ctx, &args, NULL));
        CHECK_BYTES(out, want, p.out_count * 2);
        float *wide = malloc(p.out_count * sizeof *wide); /* f32 output of 16-bit inputs is not rounded */
        args.out_dtype = HT_F32;
        args.out.data = wide;
        REQUIRE_OK(ht_attention(ctx, &args, NULL));
        CHECK_BYTES(wide, p.out, p.out_count * sizeof *wide);
        free(q), free(k), free(v), free(out), free(want), free(wide);
        problem_free(&p);
    }
}

/* Packed sequences give what each gives alone; an empty one, and queries without keys, are allowed. */
static void test_packed(void) {
    enum { H = 2, D = 16, B = 5 };
    static const int32_t Q[B + 1] = {0, 3, 3, 20, 21, 25}, KV[B + 1] = {0, 9, 12, 40, 41, 41};
    struct problem p = problem_new(1, H, 1, 25, 41, D, D);
    float *alone = malloc(25 * H * D * sizeof *alone), lse[H * 25], part[H * 25];
    ht_attention_args args = p.args;
    args.batch = B, args.q_rows = 17, args.kv_rows = 28;
    args.causal = 1;
    args.q_offsets = Q, args.kv_offsets = KV;
    args.lse = lse;
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    for (size_t b = 0; b < B; b++) {
        ht_attention_args one = p.args;
        one.q_rows = (size_t)(Q[b + 1] - Q[b]), one.kv_rows = (size_t)(KV[b + 1] - KV[b]);
        one.causal = 1;
        one.q.data = p.q + Q[b] * H * D, one.k.data = p.k + KV[b] * D, one.v.data = p.v + KV[b] * D;
        one.out.data = alone + Q[b] * H * D;
        one.lse = part;
        REQUIRE_OK(ht_attention(ctx, &one, NULL));
        for (size_t h = 0; h < H; h++)
            CHECK_BYTES(part + h * one.q_rows, lse + h * 25 + Q[b], one.q_rows * sizeof(float));
    }
    CHECK_BYTES(alone, p.out, 25 * H * D * sizeof(float));
    CHECK(p.out[24 * H * D] == 0 && lse[24] == -INFINITY); /* the last sequence has no keys */
    free(alone);
    problem_free(&p);
}

/* --- Edges -------------------------------------------------------------------------------------------------------- */

static void run_both(struct problem *p, void (*look)(const struct problem *)) {
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32"};
    for (size_t n = 0; n < 2; n++) {
        p->args.kernel = KERNELS[n];
        memset(p->out, 0x55, p->out_count * sizeof *p->out);
        REQUIRE_OK(ht_attention(ctx, &p->args, NULL));
        look(p);
    }
}

static int all(const float *x, size_t count, int (*is)(float)) {
    for (size_t i = 0; i < count; i++)
        if (!is(x[i]))
            return 0;
    return 1;
}

static int is_zero(float x) {
    return x == 0;
}

static int is_nan(float x) {
    return isnan(x);
}

static int is_finite(float x) {
    return isfinite(x);
}

static void look_nan(const struct problem *p) { /* key 3: rows before it do not see it */
    CHECK(all(p->out, 3 * 8, is_finite) && all(p->out + 3 * 8, 5 * 8, is_nan));
    CHECK(all(p->lse, 3, is_finite) && all(p->lse + 3, 5, is_nan));
}

static void look_hidden(const struct problem *p) {
    CHECK(all(p->out, 8, is_finite) && all(p->out + 8, 8, is_zero) && all(p->out + 16, 6 * 8, is_finite));
    CHECK(p->lse[1] == -INFINITY && isfinite(p->lse[0]));
}

static void look_finite(const struct problem *p) {
    CHECK(all(p->out, p->out_count, is_finite) && all(p->lse, p->lse_count, is_finite));
}

static void test_edges(void) {
    struct problem p = problem_new(1, 1, 1, 8, 8, 8, 8);
    p.args.causal = 1;
    float keep = p.k[3 * 8];
    p.k[3 * 8] = NAN;
    run_both(&p, look_nan);
    p.k[3 * 8] = keep;
    keep = p.v[3 * 8];
    p.v[3 * 8] = NAN; /* causality keeps a NaN value away, too */
    CHECK_OK(ht_attention(ctx, &p.args, NULL));
    CHECK(all(p.out, 3 * 8, is_finite) && isnan(p.out[3 * 8]) && isfinite(p.out[3 * 8 + 1]));
    p.v[3 * 8] = keep;
    add_mask(&p, HT_MASK_ADDITIVE); /* a row of -Inf alone */
    for (size_t j = 0; j < 8; j++)
        p.additive[8 + j] = -INFINITY;
    run_both(&p, look_hidden);
    p.args.mask = (ht_attention_mask){.kind = HT_MASK_NONE};
    for (size_t i = 0; i < 64; i++) /* scores of 1e8 and more */
        p.q[i] *= 1e6f, p.k[i] *= 1e3f;
    run_both(&p, look_finite);
    p.q[0] = INFINITY; /* +Inf or -Inf score: NaN, or zero weight for the only key */
    p.k[0] = 1;
    CHECK_OK(ht_attention(ctx, &p.args, NULL));
    CHECK(isnan(p.out[0]));
    p.k[0] = -1;
    CHECK_OK(ht_attention(ctx, &p.args, NULL));
    CHECK(p.out[0] == 0 && p.lse[0] == -INFINITY);
    problem_free(&p);
}

static void test_empty(void) {
    struct problem p = problem_new(2, 2, 1, 3, 4, 8, 8);
    p.args.kv_rows = 0;
    p.args.sinks = p.sinks;
    memset(p.out, 0x55, p.out_count * sizeof *p.out);
    CHECK_OK(ht_attention(ctx, &p.args, NULL));
    CHECK(all(p.out, p.out_count, is_zero));
    CHECK(p.lse[0] == p.sinks[0] && p.lse[3] == p.sinks[1]);
    p.args.q_rows = 0;
    CHECK_OK(ht_attention(ctx, &p.args, NULL));
    problem_free(&p);
}

/* The same bits for one thread and several, and for a row alone. */
static void test_determinism(void) {
    struct problem p = problem_new(1, 2, 1, 50, 70, 16, 16);
    float *first = malloc(p.out_count * sizeof *first);
    ht_context *single;
    REQUIRE_OK(ht_context_create(&(ht_context_options){.threads = 1}, &single));
    p.args.causal = 1, p.args.window = 33;
    CHECK_OK(ht_attention(ctx, &p.args, NULL));
    memcpy(first, p.out, p.out_count * sizeof *first);
    CHECK_OK(ht_attention(single, &p.args, NULL));
    CHECK_BYTES(p.out, first, p.out_count * sizeof *first);
    ht_attention_args last = p.args; /* bottom-right: the last query alone is the last row */
    last.q_rows = 1;
    last.q.data = p.q + 49 * 2 * 16;
    CHECK_OK(ht_attention(ctx, &last, NULL));
    CHECK_BYTES(p.out, first + 49 * 2 * 16, 2 * 16 * sizeof *first);
    ht_context_destroy(single);
    free(first);
    problem_free(&p);
}

/* 5000 keys are three parts: the definition; the same bits when parts are tasks, when tiles are, for the last row
 * alone, and in pages that cross the parts. */
static void test_parts(void) {
    enum { ROWS = 20, KEYS = 5000, D = 8, H = 2, PAGE = 250 };
    ht_context *one, *many;
    REQUIRE_OK(ht_context_create(&(ht_context_options){.threads = 1}, &one));
    REQUIRE_OK(ht_context_create(&(ht_context_options){.threads = 6}, &many));
    int32_t ids[KEYS / PAGE];
    for (int32_t i = 0; i < KEYS / PAGE; i++)
        ids[i] = i;
    for (unsigned n = 0; n < 6; n++) {
        struct problem p = problem_new(1, H, 1, ROWS, KEYS, D, D);
        float first[ROWS * H * D], lse[H * ROWS], last[H * D];
        p.args.causal = n & 1;
        p.args.window = n == 3 ? 2500 : 0;
        p.args.softcap = n == 2 ? 1.5 : 0;
        p.args.sinks = n >= 4 ? p.sinks : NULL;
        p.sinks[0] = 9; /* above every score */
        add_mask(&p, n == 4 ? HT_MASK_BOOL : n == 5 ? HT_MASK_ADDITIVE : HT_MASK_NONE);
        memset(p.allowed, 0, 3000); /* row 0 sees nothing in its first part, and in half of its second */
        check_problem(&p, "parts");
        memcpy(first, p.out, sizeof first);
        memcpy(lse, p.lse, sizeof lse);
        REQUIRE_OK(ht_attention(one, &p.args, NULL));
        CHECK_BYTES(p.out, first, sizeof first);
        REQUIRE_OK(ht_attention(many, &p.args, NULL));
        CHECK_BYTES(p.out, first, sizeof first);
        CHECK_BYTES(p.lse, lse, sizeof lse);
        p.args.pages = (ht_attention_pages){ids, KEYS / PAGE, PAGE, KEYS / PAGE};
        p.args.k.batch = p.args.v.batch = PAGE * D;
        REQUIRE_OK(ht_attention(many, &p.args, NULL));
        CHECK_BYTES(p.out, first, sizeof first);
        p.args.q_rows = 1, p.args.q.data = p.q + (ROWS - 1) * H * D, p.args.out.data = last;
        p.args.mask.kind = HT_MASK_NONE;
        REQUIRE_OK(ht_attention(one, &p.args, NULL));
        CHECK((memcmp(last, first + (ROWS - 1) * H * D, sizeof last) == 0) == (n < 4));
        problem_free(&p);
    }
    ht_context_destroy(one);
    ht_context_destroy(many);
}

/* In three parts: a NaN among the scores, scores that are all NaN, +Inf, and -Inf alone, of the whole row or a part. */
static void test_part_edges(void) {
    enum { KEYS = 5000 };
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32"};
    struct problem p = problem_new(1, 1, 1, 6, KEYS, 4, 4);
    add_mask(&p, HT_MASK_ADDITIVE);
    p.additive[4000] = NAN;
    for (size_t j = 0; j < KEYS; j++) {
        p.additive[KEYS + j] = NAN;
        p.additive[3 * KEYS + j] = -INFINITY;
        p.additive[4 * KEYS + j] = j < 4096 ? -INFINITY : 0;
    }
    p.additive[2 * KEYS + 4999] = INFINITY;
    for (size_t n = 0; n < 4; n++) {
        p.args.kernel = KERNELS[n / 2];
        p.args.sinks = n % 2 ? p.sinks : NULL;
        REQUIRE_OK(ht_attention(ctx, &p.args, NULL));
        CHECK(all(p.out, 3 * 4, is_nan) && all(p.lse, 3, is_nan));
        CHECK(all(p.out + 3 * 4, 4, is_zero) && p.lse[3] == (n % 2 ? p.sinks[0] : -INFINITY));
        CHECK(all(p.out + 4 * 4, 2 * 4, is_finite) && all(p.lse + 4, 2, is_finite) && p.out[4 * 4] != 0);
    }
    problem_free(&p);
}

/* Heads that share keys are taken together when rows are few, fewer of them the more threads there are: the bits of
 * each head alone. */
static void test_groups(void) {
    enum { H = 12, KEYS = 90, D = 8 };
    ht_context *one, *many;
    REQUIRE_OK(ht_context_create(&(ht_context_options){.threads = 1}, &one));
    REQUIRE_OK(ht_context_create(&(ht_context_options){.threads = 5}, &many));
    for (size_t rows = 1; rows < 9; rows += 3)
        for (unsigned n = 0; n < 4; n++) {
            struct problem p = problem_new(1, H, 2, rows, KEYS, D, D);
            float *want = malloc(p.out_count * sizeof *want), lse[H * 8];
            p.args.causal = 1;
            p.args.sinks = n == 1 ? p.sinks : NULL;
            add_mask(&p, n == 2 ? HT_MASK_BOOL : n == 3 ? HT_MASK_ADDITIVE : HT_MASK_NONE);
            for (size_t h = 0; h < H; h++) {
                ht_attention_args head = p.args;
                head.heads = head.kv_heads = 1;
                head.q.data = p.q + h * D, head.k.data = p.k + h / 6 * D, head.v.data = p.v + h / 6 * D;
                head.out.data = want + h * D, head.lse = lse + h * rows;
                head.sinks = n == 1 ? p.sinks + h : NULL;
                if (n >= 2)
                    head.mask.data =
                        n == 2 ? (const void *)(p.allowed + h * rows * KEYS) : p.additive + h * rows * KEYS;
                REQUIRE_OK(ht_attention(one, &head, NULL));
            }
            for (size_t t = 0; t < 2; t++) {
                memset(p.out, 0x55, p.out_count * sizeof *p.out);
                REQUIRE_OK(ht_attention(t ? many : one, &p.args, NULL));
                CHECK_BYTES(p.out, want, p.out_count * sizeof *want);
                CHECK_BYTES(p.lse, lse, H * rows * sizeof *lse);
            }
            free(want);
            problem_free(&p);
        }
    ht_context_destroy(one);
    ht_context_destroy(many);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_options);
    RUN(test_heads);
    RUN(test_layouts);
    RUN(test_dtypes);
    RUN(test_packed);
    RUN(test_edges);
    RUN(test_empty);
    RUN(test_determinism);
    RUN(test_groups);
    RUN(test_parts);
    RUN(test_part_edges);
    ht_context_destroy(ctx);
    return check_finish();
}
