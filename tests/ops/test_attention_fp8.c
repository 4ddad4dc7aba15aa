/* The arithmetic of fp8 attention on the host: its distance from the definition, what the transforms are worth when a
 * channel stands out, scales per block, sums as narrow as the device's and what promotion buys over 32768 keys, 131072
 * keys, and its edges. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/attention.h>

#include "base/random.h"
#include "support/check.h"

enum { BATCH = 2, HEADS = 4, KV_HEADS = 2, QUERIES = 48, KEYS = 80, DIM = 64 };
enum { Q = BATCH * QUERIES * HEADS * DIM, KV = BATCH * KEYS * KV_HEADS * DIM };

static ht_context *ctx;
static float q[Q], k[KV], v[KV], out[Q], want[Q];

static void fill(void) {
    for (size_t i = 0; i < Q; i++)
        q[i] = ht_random_normal(11, 0, i);
    for (size_t i = 0; i < KV; i++) {
        k[i] = ht_random_normal(11, 1, i);
        v[i] = ht_random_normal(11, 2, i);
    }
}

static void raise_channels(float *x, size_t count, float by) {
    for (size_t i = 0; i < count; i++)
        if (i % DIM == 0 || i % DIM == DIM / 2)
            x[i] *= by;
}

static ht_attention_args problem(const char *kernel, ht_attention_precision precision, float *result) {
    return (ht_attention_args){.batch = BATCH,
                               .heads = HEADS,
                               .kv_heads = KV_HEADS,
                               .q_rows = QUERIES,
                               .kv_rows = KEYS,
                               .head_dim = DIM,
                               .dtype = HT_F32,
                               .causal = 1,
                               .q = {q, QUERIES * HEADS * DIM, HEADS * DIM, DIM},
                               .k = {k, KEYS * KV_HEADS * DIM, KV_HEADS * DIM, DIM},
                               .v = {v, KEYS * KV_HEADS * DIM, KV_HEADS * DIM, DIM},
                               .out = {result, QUERIES * HEADS * DIM, HEADS * DIM, DIM},
                               .precision = precision,
                               .kernel = kernel};
}

static double sqnr(ht_attention_precision precision) {
    ht_attention_args exact = problem("reference_f64", HT_ATTENTION_INPUT, want);
    ht_attention_args rounded = problem("cpu_fp8", precision, out);
    ht_attention_report report;
    double signal = 0, noise = 0;
    CHECK_OK(ht_attention(ctx, &exact, NULL));
    CHECK_OK(ht_attention(ctx, &rounded, &report));
    CHECK_TEXT(report.kernel, "cpu_fp8");
    for (size_t i = 0; i < Q; i++) {
        signal += (double)want[i] * (double)want[i];
        noise += pow((double)out[i] - (double)want[i], 2);
    }
    return 10 * log10(signal / noise);
}

static void test_error(void) {
    fill();
    for (int precision = HT_ATTENTION_FP8; precision < HT_ATTENTION_PRECISION_COUNT; precision++) {
        double db = sqnr((ht_attention_precision)precision);
        if (!CHECK(db >= 25 && db < 60))
            printf("  %s: %.1f dB\n", ht_attention_precision_name((ht_attention_precision)precision), db);
    }
}

/* Channels 0 and d/2 twenty times the others: of q and k, then of v. */
static void test_outliers(void) {
    fill();
    raise_channels(q, Q, 20);
    raise_channels(k, KV, 20);
    double plain = sqnr(HT_ATTENTION_FP8), spread = sqnr(HT_ATTENTION_FP8_HADAMARD);
    if (!CHECK(spread > plain + 1))
        printf("  q and k: %.1f dB without, %.1f with the transform\n", plain, spread);
    raise_channels(v, KV, 20); /* of all three */
    plain = sqnr(HT_ATTENTION_FP8), spread = sqnr(HT_ATTENTION_FP8_HADAMARD);
    if (!CHECK(spread > plain + 1))
        printf("  q, k and v: %.1f dB without, %.1f with the transform\n", plain, spread);
    fill();
    raise_channels(v, KV, 20);
    plain = sqnr(HT_ATTENTION_FP8);
    double noise_before = 0, noise_after = 0; /* of the two channels */
    for (size_t i = 0; i < Q; i += DIM / 2)
        noise_before += pow((double)out[i] - (double)want[i], 2);
    spread = sqnr(HT_ATTENTION_FP8_HADAMARD_V);
    for (size_t i = 0; i < Q; i += DIM / 2)
        noise_after += pow((double)out[i] - (double)want[i], 2);
    if (!CHECK(noise_after < 0.8 * noise_before))
        printf("  v: %.1f dB without, %.1f with the transform\n", plain, spread);
}

static double relative(const float *x, const float *y, size_t count) {
    double noise = 0, signal = 0;
    for (size_t i = 0; i < count; i++) {
        noise += pow((double)x[i] - (double)y[i], 2);
        signal += (double)y[i] * (double)y[i];
    }
    return sqrt(noise / signal);
}

/* --- Scales per block --------------------------------------------------------------------------------------------- */

/* Rows [from, from + rows) of some heads as e4m3 with one scale, by hand. */
static void round_by_hand(float *x, size_t from, size_t rows, size_t stride, size_t width) {
    float amax = 0;
    for (size_t i = from; i < from + rows; i++)
        for (size_t c = 0; c < width; c++)
            amax = fabsf(x[i * stride + c]) > amax ? fabsf(x[i * stride + c]) : amax;
    for (size_t i = from; i < from + rows; i++)
        for (size_t c = 0; c < width; c++) {
            float scaled = x[i * stride + c] / (amax / 448);
            uint8_t code;
            CHECK_OK(ht_convert(&scaled, HT_F32, &code, HT_F8_E4M3, 1));
            CHECK_OK(ht_convert(&code, HT_F8_E4M3, &scaled, HT_F32, 1));
            x[i * stride + c] = scaled * (amax / 448) + 0.0F; /* a sum that starts at +0 has no -0 */
        }
}

/* A window of one key: the probability is 1, so out is v as it was rounded, and lse the score of rounded q and k. */
static void test_blocks(void) {
    enum { BLOCK = 10, ROWS = QUERIES };
    static float lse[HEADS * ROWS];
    fill();
    ht_attention_args args = problem("cpu_fp8", HT_ATTENTION_FP8, out);
    args.batch = 1, args.kv_rows = ROWS, args.window = 1, args.lse = lse, args.fp8.block = BLOCK;
    for (size_t i = 0; i < ROWS * KV_HEADS * DIM; i++) /* rows of very different size */
        v[i] *= ldexpf(1, (int)(i / (KV_HEADS * DIM) * 5 % 31));
    CHECK_OK(ht_attention(ctx, &args, NULL));
    size_t group = HEADS / KV_HEADS;
    for (size_t kv = 0; kv < KV_HEADS; kv++)
        for (size_t i = 0; i < ROWS; i += BLOCK) {
            size_t n = ROWS - i < BLOCK ? ROWS - i : BLOCK;
            round_by_hand(q + kv * group * DIM, i, n, HEADS * DIM, group * DIM);
            round_by_hand(k + kv * DIM, i, n, KV_HEADS * DIM, DIM);
            round_by_hand(v + kv * DIM, i, n, KV_HEADS * DIM, DIM);
        }
    for (size_t i = 0; i < ROWS; i++)
        for (size_t h = 0; h < HEADS; h++) {
            const float *row = q + (i * HEADS + h) * DIM, *key = k + (i * KV_HEADS + h / group) * DIM;
            double score = 0;
            for (size_t c = 0; c < DIM; c++)
                score += (double)row[c] * (double)key[c] / 8;
            CHECK_WITHIN((double)lse[h * ROWS + i], score, 2e-6);
            CHECK_BYTES(out + (i * HEADS + h) * DIM, v + (i * KV_HEADS + h / group) * DIM, DIM * sizeof(float));
        }
}

/* A block of all rows is no block; blocks help rows that grow. */
static void test_block_error(void) {
    static float whole[Q];
    fill();
    ht_attention_args args = problem("cpu_fp8", HT_ATTENTION_FP8, whole), exact = problem("reference_f64", 0, want);
    for (size_t i = 0; i < KV; i++)
        v[i] *= ldexpf(1, -(int)(i / (KV_HEADS * DIM) % KEYS) / 3); /* 2^-26 at the end */
    args.window = exact.window = 8;
    CHECK_OK(ht_attention(ctx, &exact, NULL));
    CHECK_OK(ht_attention(ctx, &args, NULL));
    args.out.data = out, args.fp8.block = KEYS;
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK_BYTES(out, whole, sizeof out);
    args.fp8.block = 8;
    CHECK_OK(ht_attention(ctx, &args, NULL));
    size_t last = (QUERIES - 1) * HEADS * DIM; /* keys whose values one scale rounds to zero */
    CHECK(whole[last] == 0 && relative(out + last, want + last, HEADS * DIM) < 0.1);
}

/* --- Narrow sums -------------------------------------------------------------------------------------------------- */

/* 64 equal probabilities over the values 1 and then 63 times 13 / 32 / 448, which is 7.43 times 2^-13: beside 1 they
 * are cut to 7, in a chain of their own they are kept. */
static void test_narrow_by_hand(void) {
    enum { N = 64 };
    static float zero[N * 16], values[N * 16];
    const float small = 0.40625F / 448; /* the scale is 1 / 448, and e4m3 has 13 / 32 */
    float got[16];
    for (size_t i = 0; i < N * 16; i++)
        values[i] = i < 16 ? 1 : small;
    ht_attention_args args = {.batch = 1,
                              .heads = 1,
                              .kv_heads = 1,
                              .q_rows = 1,
                              .kv_rows = N,
                              .head_dim = 16,
                              .dtype = HT_F32,
                              .q = {zero, 0, 16, 16},
                              .k = {zero, 0, 16, 16},
                              .v = {values, 0, 16, 16},
                              .out = {got, 0, 16, 16},
                              .precision = HT_ATTENTION_FP8,
                              .kernel = "cpu_fp8"};
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK_WITHIN((double)got[0], (1 + 63 * (double)small) / 64, 1e-7);
    args.fp8.sum_bits = 13;
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK_WITHIN((double)got[0], (1 + 63 * 7 * 0x1p-13) / 64, 1e-7);
    args.fp8.promote = 32; /* the second half alone, then added in f32 */
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK_WITHIN((double)got[0], (1 + 31 * 7 * 0x1p-13 + 32 * (double)small) / 64, 1e-7);
    args.fp8.sum_bits = 23;
    args.fp8.promote = 0;
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK_WITHIN((double)got[0], (1 + 63 * (double)small) / 64, 2e-7);
    args.fp8.sum_bits = 24;
    CHECK_FAILS(ht_attention(ctx, &args, NULL), HT_ERR_ARGUMENT);
    args.fp8.sum_bits = 13, args.fp8.promote = 16;
    CHECK_FAILS(ht_attention(ctx, &args, NULL), HT_ERR_ARGUMENT);
}

/* Options of the narrow sums that nothing is cut by: what f32 sums give. */
static void test_narrow_options(void) {
    static const int32_t q_offsets[] = {0, 20, 48}, kv_offsets[] = {0, 40, 80};
    static float sinks[HEADS] = {1, -1, 0.5F, 3}, bias[QUERIES * KEYS], lse[HEADS * QUERIES], narrow[HEADS * QUERIES];
    fill();
    for (size_t i = 0; i < QUERIES * KEYS; i++)
        bias[i] = i % 5 == 0 || i / KEYS == 7 ? -INFINITY : ht_random_normal(12, 0, i);
    for (unsigned n = 0; n < 4; n++) {
        ht_attention_args args = problem("cpu_fp8", HT_ATTENTION_FP8_HADAMARD, want);
        args.batch = 1;
        args.window = n == 1 ? 9 : 0;
        args.softcap = n == 1 ? 2 : 0;
        args.sinks = n == 2 ? sinks : NULL;
        args.mask = n >= 2 ? (ht_attention_mask){HT_MASK_ADDITIVE, bias, 0, 0, KEYS} : args.mask;
        if (n == 0)
            args.batch = 2, args.q_rows = 28, args.kv_rows = 40, args.q_offsets = q_offsets,
            args.kv_offsets = kv_offsets;
        args.lse = lse;
        CHECK_OK(ht_attention(ctx, &args, NULL));
        args.out.data = out, args.lse = narrow, args.fp8.sum_bits = 23;
        CHECK_OK(ht_attention(ctx, &args, NULL));
        CHECK_F32_WITHIN(out, want, QUERIES * HEADS * DIM, 3e-6);
        CHECK_BYTES(narrow, lse, sizeof lse);
    }
}

/* --- Long texts ----------------------------------------------------------------------------------------------------
 */

enum { LONG = 131072, SHORT_DIM = 16 };

static ht_attention_args long_problem(float *qs, float *ks, float *vs, float *result, size_t keys, size_t queries) {
    return (ht_attention_args){.batch = 1,
                               .heads = 1,
                               .kv_heads = 1,
                               .q_rows = queries,
                               .kv_rows = keys,
                               .head_dim = SHORT_DIM,
                               .dtype = HT_F32,
                               .causal = 1,
                               .q = {qs, 0, SHORT_DIM, SHORT_DIM},
                               .k = {ks, 0, SHORT_DIM, SHORT_DIM},
                               .v = {vs, 0, SHORT_DIM, SHORT_DIM},
                               .out = {result, 0, SHORT_DIM, SHORT_DIM},
                               .precision = HT_ATTENTION_FP8};
}

static void test_long(void) {
    enum { ROWS = 3 };
    float qs[ROWS * SHORT_DIM], got[ROWS * SHORT_DIM], exact[ROWS * SHORT_DIM];
    float *ks = malloc(2 * LONG * SHORT_DIM * sizeof *ks), *vs = ks + LONG * SHORT_DIM;
    for (size_t i = 0; i < ROWS * SHORT_DIM; i++)
        qs[i] = ht_random_normal(21, 0, i);
    for (size_t i = 0; i < 2 * LONG * SHORT_DIM; i++)
        ks[i] = ht_random_normal(21, 1, i) + (i < LONG * SHORT_DIM ? 0 : 0.5F);
    ht_attention_args args = long_problem(qs, ks, vs, exact, LONG, ROWS);
    args.kernel = "reference_f64";
    CHECK_OK(ht_attention(ctx, &args, NULL));
    args.out.data = got, args.kernel = "cpu_f32";
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK(relative(got, exact, ROWS * SHORT_DIM) < 1e-6);
    args.kernel = "cpu_fp8";
    CHECK_OK(ht_attention(ctx, &args, NULL));
    double error = relative(got, exact, ROWS * SHORT_DIM);
    if (!CHECK(error > 1e-4 && error < 0.0562)) /* 25 dB */
        printf("  131072 keys: %g\n", error);
    free(ks);
}

/* A needle among 32768 keys: one key that the query is looking for gets about half of the probability, the rest is
 * spread thin over the hay. Sums of 13 bits lose what the hay adds, those promoted every 128 keys do not. */
static void test_needle(void) {
    enum { KEYS_HERE = 32768, NEEDLE = 1000 };
    float qs[SHORT_DIM], got[SHORT_DIM], wide[SHORT_DIM];
    float *ks = malloc(2 * KEYS_HERE * SHORT_DIM * sizeof *ks), *vs = ks + KEYS_HERE * SHORT_DIM;
    for (size_t i = 0; i < KEYS_HERE * SHORT_DIM; i++) {
        ks[i] = 0.3F * ht_random_normal(22, 0, i);
        vs[i] = 1 + 0.3F * ht_random_normal(22, 1, i);
    }
    for (size_t c = 0; c < SHORT_DIM; c++) {
        qs[c] = c % 2 ? -1.6F : 1.6F;
        ks[NEEDLE * SHORT_DIM + c] = qs[c];
        vs[NEEDLE * SHORT_DIM + c] = -1;
    }
    ht_attention_args args = long_problem(qs, ks, vs, wide, KEYS_HERE, 1);
    args.kernel = "cpu_fp8";
    args.fp8.sum_bits = 23, args.fp8.promote = 32; /* exact sums of what fp8 holds */
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK(fabsf(wide[0]) < 0.6F); /* -1 from the needle, 1 from the hay */
    args.out.data = got, args.fp8.sum_bits = 13, args.fp8.promote = 0;
    CHECK_OK(ht_attention(ctx, &args, NULL));
    double narrow = relative(got, wide, SHORT_DIM);
    args.fp8.promote = 128;
    CHECK_OK(ht_attention(ctx, &args, NULL));
    double promoted = relative(got, wide, SHORT_DIM);
    printf("  needle: error of 13-bit sums %.2g, promoted every 128 keys %.2g\n", narrow, promoted);
    CHECK(narrow > 0.01 && promoted < narrow / 8);
    free(ks);
}

static void test_layouts(void) {
    static const int32_t q_offsets[] = {0, 48, 48, 85}, kv_offsets[] = {0, 80, 80, 131};
    static float alone[Q];
    fill();
    ht_attention_args packed = problem("cpu_fp8", HT_ATTENTION_FP8_HADAMARD, out);
    packed.batch = 3;
    packed.q_offsets = q_offsets;
    packed.kv_offsets = kv_offsets;
    CHECK_OK(ht_attention(ctx, &packed, NULL));
    ht_attention_args one = problem("cpu_fp8", HT_ATTENTION_FP8_HADAMARD, alone);
    one.batch = 1;
    CHECK_OK(ht_attention(ctx, &one, NULL));
    CHECK_BYTES(out, alone, 48 * HEADS * DIM * sizeof *out); /* the first sequence alone */
    one.q.data = q + 48 * HEADS * DIM;
    one.k.data = k + 80 * KV_HEADS * DIM;
    one.v.data = v + 80 * KV_HEADS * DIM;
    one.q_rows = 37;
    one.kv_rows = 51;
    CHECK_OK(ht_attention(ctx, &one, NULL));
    CHECK_BYTES(out + 48 * HEADS * DIM, alone, 37 * HEADS * DIM * sizeof *out);
}

static void test_edges(void) {
    fill();
    k[3] = NAN; /* sequence 0, kv head 0: heads 0 and 1 */
    ht_attention_args args = problem("cpu_fp8", HT_ATTENTION_FP8, out);
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK(isnan(out[0]) && isnan(out[DIM]) && isfinite(out[2 * DIM]) && isfinite(out[QUERIES * HEADS * DIM]));
    memset(k, 0, sizeof k);
    memset(v, 0, sizeof v);
    CHECK_OK(ht_attention(ctx, &args, NULL));
    CHECK(out[0] == 0 && out[Q - 1] == 0);
    args.precision = HT_ATTENTION_INPUT;
    CHECK_FAILS(ht_attention(ctx, &args, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "rounds to fp8");
    args.precision = HT_ATTENTION_FP8_HADAMARD;
    args.head_dim = args.value_dim = 50;
    CHECK_FAILS(ht_attention(ctx, &args, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "no Hadamard transform of dim 50");
}

int main(void) {
    CHECK_OK(ht_context_create(NULL, &ctx));
    RUN(test_error);
    RUN(test_outliers);
    RUN(test_blocks);
    RUN(test_block_error);
    RUN(test_narrow_by_hand);
    RUN(test_narrow_options);
    RUN(test_long);
    RUN(test_needle);
    RUN(test_layouts);
    RUN(test_edges);
    ht_context_destroy(ctx);
    return check_finish();
}
