/* The arithmetic of fp8 attention on the host: its distance from the definition, what the transforms are worth when a
 * channel stands out, and its edges. */
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
    fill();
    raise_channels(v, KV, 4096);
    plain = sqnr(HT_ATTENTION_FP8);
    double noise_before = 0, noise_after = 0; /* of the two channels */
    for (size_t i = 0; i < Q; i += DIM / 2)
        noise_before += pow((double)out[i] - (double)want[i], 2);
    spread = sqnr(HT_ATTENTION_FP8_HADAMARD_V);
    for (size_t i = 0; i < Q; i += DIM / 2)
        noise_after += pow((double)out[i] - (double)want[i], 2);
    if (!CHECK(noise_after < noise_before))
        printf("  v: %.1f dB without, %.1f with the transform\n", plain, spread);
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
    RUN(test_layouts);
    RUN(test_edges);
    ht_context_destroy(ctx);
    return check_finish();
}
