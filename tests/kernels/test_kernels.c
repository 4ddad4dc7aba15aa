/* Every kernel row that this machine can run, against a slow definition and, bit for bit, against the reference row. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/kernels.h>

#include "base/context.h"
#include "base/random.h"
#include "kernels/kernels.h"
#include "support/check.h"

static uint32_t all_flags;

static float *random_values(size_t count, uint64_t stream) {
    float *x = malloc((count + 1) * sizeof *x);
    for (size_t i = 0; i < count; i++)
        x[i] = ht_random_normal(7, stream, i);
    return x;
}

static void check_dot(ht_dot_fn *dot, size_t m, size_t n, size_t k) {
    size_t xs = k + 3, ws = k + 1, ys = n + 2;
    float *x = random_values(m * xs, 1), *w = random_values(n * ws, 2);
    float *y = calloc(m * ys, sizeof *y), *alone = calloc(n + 1, sizeof *alone), *reference = calloc(m * ys, sizeof *y);
    dot(x, m, xs, w, n, ws, k, y, ys);
    ht_dot_f32_ref(x, m, xs, w, n, ws, k, reference, ys);
    CHECK_BYTES(y, reference, m * ys * sizeof *y); /* the gaps between rows too: nothing else is written */
    for (size_t i = 0; i < m; i++) {
        dot(x + i * xs, 1, xs, w, n, ws, k, alone, ys);
        CHECK_BYTES(alone, y + i * ys, n * sizeof *y);
        for (size_t j = 0; j < n; j++) {
            double want = 0, size = 0;
            for (size_t q = 0; q < k; q++) {
                want += (double)x[i * xs + q] * (double)w[j * ws + q];
                size += fabs((double)x[i * xs + q] * (double)w[j * ws + q]);
            }
            CHECK_WITHIN((double)y[i * ys + j], want, 1e-6 * size + 1e-30);
        }
    }
    free(x), free(w), free(y), free(alone), free(reference);
}

static void test_dot(void) {
    static const size_t M[] = {1, 3, 4, 5, 9, 18}, N[] = {1, 2, 3, 7, 12, 24}, K[] = {1, 7, 8, 9, 64, 63, 256, 1000};
    ht_dot_fn *best = ht_kernel_choose(HT_OPERATION_DOT, all_flags, NULL, 1)->fn.dot;
    for (size_t a = 0; a < 6; a++)
        for (size_t b = 0; b < 6; b++)
            for (size_t c = 0; c < 8; c++) {
                check_dot(best, M[a], N[b], K[c]);
                check_dot(ht_dot_f32_ref, M[a], N[b], K[c]);
            }
}

static void test_dot_special(void) {
    float x[16] = {1, 2, 3}, w[16] = {1, 1, 1}, y;
    x[11] = INFINITY;
    ht_dot_f32_ref(x, 1, 16, w, 1, 16, 16, &y, 1);
    CHECK(isnan(y)); /* infinity times zero */
    w[11] = 1;
    ht_dot_f32_ref(x, 1, 16, w, 1, 16, 16, &y, 1);
    CHECK(isinf(y));
    x[3] = NAN;
    ht_dot_f32_ref(x, 1, 16, w, 1, 16, 16, &y, 1);
    CHECK(isnan(y));
    ht_dot_f32_ref(x, 1, 16, w, 1, 16, 0, &y, 1);
    CHECK(y == 0);
}

static void check_mix(ht_mix_fn *mix, size_t m, size_t d, size_t begin, size_t end) {
    size_t ps = end + 2, vs = d + 1, ys = d + 3;
    float *p = random_values(m * ps, 3), *v = random_values(end * vs, 4), *y = random_values(m * ys, 5);
    float *want = malloc(m * ys * sizeof *want);
    memcpy(want, y, m * ys * sizeof *y);
    for (size_t i = 0; i < m; i++)
        for (size_t j = begin; j < end; j++)
            for (size_t c = 0; c < d; c++) {
                float product = p[i * ps + j] * v[j * vs + c];
                want[i * ys + c] += product;
            }
    mix(p, m, ps, v, vs, begin, end, d, y, ys);
    CHECK_BYTES(y, want, m * ys * sizeof *y);
    free(p), free(v), free(y), free(want);
}

static void test_mix(void) {
    static const size_t M[] = {1, 3, 4, 7, 18}, D[] = {1, 15, 16, 33, 64, 80};
    ht_mix_fn *best = ht_kernel_choose(HT_OPERATION_MIX, all_flags, NULL, 1)->fn.mix;
    for (size_t a = 0; a < 5; a++)
        for (size_t b = 0; b < 6; b++)
            for (size_t begin = 0; begin < 6; begin += 5) {
                check_mix(best, M[a], D[b], begin, 21);
                check_mix(ht_mix_f32_ref, M[a], D[b], begin, 21);
                check_mix(best, M[a], D[b], begin, begin);
            }
}

static void test_rmsnorm(void) {
    ht_rmsnorm_fn *best = ht_kernel_choose(HT_OPERATION_RMSNORM, all_flags, NULL, 1)->fn.rmsnorm;
    for (size_t n = 1; n < 700; n += 37) {
        float *x = random_values(n, 6), *w = random_values(n, 7), *y = random_values(n, 8), *z = random_values(n, 9);
        best(x, w, n, 1e-5f, y);
        ht_rmsnorm_f32_ref(x, w, n, 1e-5f, z);
        CHECK_BYTES(y, z, n * sizeof *y);
        double square = 0;
        for (size_t i = 0; i < n; i++)
            square += (double)x[i] * (double)x[i];
        for (size_t i = 0; i < n; i++)
            CHECK_NEAR((double)y[i], (double)x[i] / sqrt(square / (double)n + 1e-5) * (double)w[i], 1e-6);
        free(x), free(w), free(y), free(z);
    }
}

static void test_rope(void) {
    float x[20], y[20], cosine[4] = {1, 0, 0.5f, -1}, sine[4] = {0, 1, 0.25f, 0};
    for (size_t i = 0; i < 20; i++)
        x[i] = y[i] = (float)i + 1;
    ht_kernel_choose(HT_OPERATION_ROPE, all_flags, NULL, 1)->fn.rope(x, 2, 10, cosine, sine, 4);
    for (size_t h = 0; h < 2; h++)
        for (size_t c = 0; c < 4; c++) {
            CHECK(x[h * 10 + c] == y[h * 10 + c] * cosine[c] - y[h * 10 + c + 4] * sine[c]);
            CHECK(x[h * 10 + c + 4] == y[h * 10 + c + 4] * cosine[c] + y[h * 10 + c] * sine[c]);
        }
    CHECK(x[8] == y[8] && x[19] == y[19]);
}

static double gate_by_hand(const ht_gate_function *rule, double g, double u) {
    if (rule->rule == HT_GATE_SILU)
        return g / (1 + exp(-g)) * u;
    if (rule->rule == HT_GATE_GELU_TANH)
        return 0.5 * g * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (g + 0.044715 * g * g * g))) * u;
    double limit = (double)rule->limit, alpha = (double)rule->alpha;
    g = fmin(g, limit);
    return g / (1 + exp(-alpha * g)) * (fmax(fmin(u, limit), -limit) + 1);
}

static void test_gate(void) {
    static const ht_gate_function RULES[] = {
        {HT_GATE_SILU, 0, 0}, {HT_GATE_GELU_TANH, 0, 0}, {HT_GATE_CLAMPED, 1.702f, 0.75f}};
    ht_gate_fn *best = ht_kernel_choose(HT_OPERATION_GATE, all_flags, NULL, 1)->fn.gate;
    enum { N = 101 };
    float *x = random_values(2 * N, 10), y[N], z[N];
    for (size_t r = 0; r < 3; r++)
        for (size_t step = 1; step < 3; step++) {
            const float *up = step == 1 ? x + N : x + 1;
            best(&RULES[r], x, up, step, N, y);
            ht_gate_f32_ref(&RULES[r], x, up, step, N, z);
            CHECK_BYTES(y, z, sizeof y);
            for (size_t i = 0; i < N; i++)
                CHECK_WITHIN((double)y[i], gate_by_hand(&RULES[r], (double)x[i * step], (double)up[i * step]), 2e-6);
        }
    float huge[3] = {-1000, 1000, NAN}, one[3] = {1, 1, 1};
    best(&RULES[0], huge, one, 1, 3, y);
    CHECK(y[0] == 0 && y[1] == 1000 && isnan(y[2]));
    free(x);
}

static void test_softmax(void) {
    ht_softmax_fn *best = ht_kernel_choose(HT_OPERATION_SOFTMAX, all_flags, NULL, 1)->fn.softmax;
    for (size_t n = 1; n < 600; n += 29) {
        float *x = random_values(n, 11), *y = malloc(n * sizeof *y), *z = malloc(n * sizeof *z), a, b;
        double sum = best(x, n, -INFINITY, y, &a), same = ht_softmax_f32_ref(x, n, -INFINITY, z, &b), want = 0;
        CHECK(sum == same && a == b);
        CHECK_BYTES(y, z, n * sizeof *y);
        for (size_t i = 0; i < n; i++) {
            CHECK(x[i] <= a);
            CHECK_NEAR((double)y[i], exp((double)x[i] - (double)a), 3e-7);
            want += (double)y[i];
        }
        CHECK_NEAR(sum, want, 1e-6);
        free(x), free(y), free(z);
    }
    float x[4] = {-INFINITY, 0, -200, 1}, max;
    CHECK_NEAR(best(x, 4, 3, x, &max), exp(-3) + exp(-2), 1e-6); /* the floor counts for the maximum alone */
    CHECK(max == 3 && x[0] == 0 && x[2] == 0);
    float bad[2] = {NAN, 0};
    CHECK(isnan(best(bad, 2, -INFINITY, bad, &max)));
    CHECK(best(x, 0, -INFINITY, x, &max) == 0);
}

/* Every exponent that exp meets: within 2 units in the last place of the exact value. */
static void test_exp(void) {
    double worst = 0;
    for (float x = -87.2f; x < 0; x += 0.00137f) {
        float in = x, max;
        ht_softmax_f32_ref(&in, 1, 0, &in, &max);
        worst = fmax(worst, fabs((double)in / exp((double)x) - 1));
    }
    CHECK_WITHIN(worst, 0, 1.2e-7);
}

/* The vector (1, 2, 3, 4) -> (5, -1, -2, 0) and the definition, by every row; a run does not see its neighbours. */
static void test_hadamard(void) {
    ht_hadamard_fn *best = ht_kernel_choose(HT_OPERATION_HADAMARD, all_flags, NULL, 1)->fn.hadamard;
    float four[8] = {8, 0, 0, 0, 1, 2, 3, 4};
    const float want[8] = {4, 4, 4, 4, 5, -1, -2, 0};
    best(four, 4, 2);
    CHECK_BYTES(four, want, sizeof want);
    for (size_t n = 1; n <= 512; n *= 2) {
        enum { RUNS = 3 };
        float *x = random_values(RUNS * n, 16), *y = malloc(RUNS * n * sizeof *y), *z = malloc(RUNS * n * sizeof *z);
        memcpy(y, x, RUNS * n * sizeof *y);
        memcpy(z, x, RUNS * n * sizeof *z);
        best(y, n, RUNS);
        ht_hadamard_f32_ref(z, n, RUNS);
        CHECK_BYTES(y, z, RUNS * n * sizeof *y);
        for (size_t i = 0; i < RUNS * n; i++) {
            double sum = 0;
            for (size_t j = 0; j < n; j++)
                sum += __builtin_parityl(i % n & j) ? -(double)x[i / n * n + j] : (double)x[i / n * n + j];
            CHECK_WITHIN((double)y[i], sum / sqrt((double)n), 1e-5);
        }
        free(x), free(y), free(z);
    }
}

static void test_softcap(void) {
    ht_softcap_fn *best = ht_kernel_choose(HT_OPERATION_SOFTCAP, all_flags, NULL, 1)->fn.softcap;
    float x[9] = {0, 1, -1, 30, -30, 1e-3f, 1e6f, -1e6f, NAN}, y[9];
    memcpy(y, x, sizeof x);
    best(y, 9, 30);
    for (size_t i = 0; i < 8; i++)
        CHECK_WITHIN((double)y[i], 30 * tanh((double)x[i] / 30), 4e-6);
    CHECK(isnan(y[8]) && y[6] == 30 && y[7] == -30);
}

/* --- decoding -------------------------------------------------------------------------------------------------- */

static void check_decode(const char *name, size_t rows, size_t cols) {
    ht_weight weight = {.batch = 1, .rows = rows, .cols = cols};
    if (!CHECK_OK(ht_format_parse(name, &weight.format)) ||
        !CHECK_OK(ht_format_check_shape(&weight.format, rows, cols)))
        return;
    void *memory[HT_PLANE_COUNT];
    for (int p = 0; p < HT_PLANE_COUNT; p++) { /* any bytes: every code and scale, NaN among them */
        size_t bytes = ht_format_plane_bytes(&weight.format, (ht_plane)p, rows, cols);
        unsigned char *plane = malloc(bytes + 1);
        for (size_t i = 0; i < bytes; i++)
            plane[i] = (unsigned char)ht_random_u32(9, (uint64_t)p, i);
        if (p == HT_PLANE_GLOBAL && bytes)
            *(float *)(void *)plane = 0.37f;
        memory[p] = plane;
        weight.plane[p] = bytes ? plane : NULL;
        weight.stride[p] = bytes;
    }
    float *want = malloc(rows * cols * sizeof *want), *got = malloc(rows * cols * sizeof *got);
    ht_planes planes = ht_weight_planes(&weight, 0);
    CHECK_OK(ht_format_dequantize(&weight.format, &planes, rows, cols, want));
    size_t step = ht_decode_step(&weight), part = (rows / 3 + step) / step * step;
    const ht_kernel_row *tables[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = tables[t]; row->name; row++) {
            if (row->operation != HT_OPERATION_DECODE || (row->needs & all_flags) != row->needs ||
                (row->accepts && !row->accepts(&weight)))
                continue;
            memset(got, 0x7e, rows * cols * sizeof *got);
            for (size_t from = 0; from < rows; from += part)
                row->fn.decode(&weight, 0, from, from + part < rows ? part : rows - from, got + from * cols);
            if (!CHECK_F32(got, want, rows * cols))
                fprintf(stderr, "  of %s by %s\n", name, row->name);
        }
    for (int p = 0; p < HT_PLANE_COUNT; p++)
        free(memory[p]);
    free(want), free(got);
}

static void test_decode(void) {
    static const char *const NAMES[] = {"f32",          "bf16",          "f16",           "mxfp4",     "mxfp8",
                                        "mxfp8_e5m2",   "mxfp6_e2m3",    "mxfp6_e3m2",    "mxint8",    "nvfp4",
                                        "nvfp4_single", "fp8_row",       "fp8_tensor",    "fp8_block", "int8_row",
                                        "int4_g32",     "int4_g32_asym", "int8_g64_asym", "int4_row",  "int3_g32",
                                        "int4_g128",    "int2_g64_asym", "nf4",           "q4_k",      "q8_0"};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++)
        check_decode(NAMES[i], 13, 256);
    check_decode("int8_row", 3, 7);
    check_decode("fp8_block", 300, 200);
}

static void test_decode_packings(void) {
    ht_weight weight = {.batch = 1, .rows = 5, .cols = 96};
    static const ht_packing PACKINGS[] = {HT_PACK_LOW, HT_PACK_HIGH, HT_PACK_WORDS, HT_PACK_BITS};
    for (size_t k = 0; k < 4; k++) {
        CHECK_OK(ht_format_parse("int4_g32", &weight.format));
        weight.format.packing = PACKINGS[k];
        uint8_t codes[5 * 48];
        float scales[15], want[5 * 96], got[5 * 96];
        for (size_t i = 0; i < sizeof codes; i++)
            codes[i] = (uint8_t)ht_random_u32(3, k, i);
        for (size_t i = 0; i < 15; i++)
            scales[i] = (float)i + 0.1f;
        weight.plane[HT_PLANE_CODES] = codes;
        weight.plane[HT_PLANE_SCALES] = scales;
        ht_planes planes = ht_weight_planes(&weight, 0);
        CHECK_OK(ht_format_dequantize(&weight.format, &planes, 5, 96, want));
        const ht_kernel_row *row = ht_kernel_choose(HT_OPERATION_DECODE, 0, &weight, 1);
        CHECK_TEXT(row->name, "nibbles_ref");
        row->fn.decode(&weight, 0, 0, 5, got);
        CHECK_F32(got, want, 5 * 96);
    }
}

static void test_decode_transposed(void) {
    enum { E = 2, N = 150, K = 7 };
    static float stored[E][K][N], got[N * K];
    for (size_t i = 0; i < E * K * N; i++)
        (&stored[0][0][0])[i] = (float)i;
    ht_weight weight = {
        .batch = E, .rows = N, .cols = K, .transposed = 1, .plane = {stored}, .stride = {sizeof stored / E}};
    CHECK_OK(ht_format_parse("f32", &weight.format));
    const ht_kernel_row *row = ht_kernel_choose(HT_OPERATION_DECODE, all_flags, &weight, 1);
    row->fn.decode(&weight, 1, 3, N - 3, got);
    for (size_t n = 3; n < N; n++)
        for (size_t k = 0; k < K; k++)
            CHECK(got[(n - 3) * K + k] == stored[1][k][n]);
}

/* --- attention ------------------------------------------------------------------------------------------------- */

static void attention_by_hand(const ht_attention_rows *a, size_t row, double *y) {
    size_t end = (size_t)a->first + row + 1, begin = a->window && end > a->window ? end - a->window : 0,
           d = a->head_dim;
    double sum = a->sink ? exp((double)*a->sink) : 0;
    memset(y, 0, d * sizeof *y);
    for (size_t j = begin; j < end; j++) {
        double score = 0;
        for (size_t c = 0; c < d; c++)
            score += (double)a->q[row * a->q_stride + c] * (double)a->k[j * d + c];
        if (a->softcap > 0)
            score = (double)a->softcap * tanh(score / (double)a->softcap);
        sum += exp(score);
        for (size_t c = 0; c < d; c++)
            y[c] += exp(score) * (double)a->v[j * d + c];
    }
    for (size_t c = 0; c < d; c++)
        y[c] /= sum;
}

static void check_attention(size_t first, size_t count, size_t window, float softcap, const float *sink) {
    enum { D = 20 };
    ht_kernels kernels = ht_kernels_choose(all_flags);
    size_t length = first + count;
    float *q = random_values(count * D, 12), *k = random_values((length + 4) * D, 13);
    float *v = random_values((length + 4) * D, 14), *y = malloc(count * D * sizeof *y), alone[D];
    for (size_t i = 0; i < 4 * D; i++) /* past the end: must not matter */
        k[length * D + i] = v[length * D + i] = NAN;
    void *scratch = malloc(ht_attention_scratch(length));
    ht_attention_rows a = {.q = q,
                           .q_stride = D,
                           .k = k,
                           .v = v,
                           .k_stride = D,
                           .v_stride = D,
                           .keys = length,
                           .head_dim = D,
                           .value_dim = D,
                           .first = (ptrdiff_t)first,
                           .count = count,
                           .causal = 1,
                           .window = window,
                           .softcap = softcap,
                           .sink = sink,
                           .y = y,
                           .y_stride = D,
                           .dot = kernels.of[HT_OPERATION_DOT].dot,
                           .mix = kernels.of[HT_OPERATION_MIX].mix,
                           .softmax = kernels.of[HT_OPERATION_SOFTMAX].softmax,
                           .cap = kernels.of[HT_OPERATION_SOFTCAP].softcap};
    ht_attention_f32_ref(&a, scratch);
    for (size_t i = 0; i < count; i++) {
        double want[D];
        attention_by_hand(&a, i, want);
        for (size_t c = 0; c < D; c++)
            CHECK_WITHIN((double)y[i * D + c], want[c], 2e-6);
        ht_attention_rows one = a;
        one.q += i * D;
        one.first += (ptrdiff_t)i;
        one.count = 1;
        one.y = alone;
        ht_attention_f32_ref(&one, scratch);
        CHECK_BYTES(alone, y + i * D, sizeof alone); /* a row alone: the same bits */
    }
    free(q), free(k), free(v), free(y), free(scratch);
}

static void test_attention(void) {
    float sink = 0.7f;
    static const size_t FIRST[] = {0, 1, 40}, COUNT[] = {1, 5, 16}, WINDOW[] = {0, 1, 4, 30};
    for (size_t a = 0; a < 3; a++)
        for (size_t b = 0; b < 3; b++)
            for (size_t c = 0; c < 4; c++) {
                check_attention(FIRST[a], COUNT[b], WINDOW[c], 0, NULL);
                check_attention(FIRST[a], COUNT[b], WINDOW[c], 5, &sink);
            }
}

/* --- the table ------------------------------------------------------------------------------------------------- */

static void test_table(void) {
    ht_context_options options = ht_context_options_default();
    options.cpu = "baseline";
    ht_context *ctx;
    REQUIRE_OK(ht_context_create(&options, &ctx));
    ht_kernel_info info;
    size_t rows = 0, chosen = 0;
    for (; ht_kernel_list(ctx, rows, &info); rows++) {
        CHECK(info.operation && info.name && info.reason[0]);
        chosen += info.chosen != 0;
        CHECK_INT(info.chosen, strstr(info.name, "_ref") != NULL); /* nothing but references is left at baseline */
        if (!info.chosen)
            CHECK_CONTAINS(info.reason, "needs ");
    }
    CHECK(rows >= HT_OPERATION_COUNT && chosen >= HT_OPERATION_COUNT);
    CHECK_INT(ht_kernel_list(ctx, rows, &info), 0);
    for (int operation = 0; operation < HT_OPERATION_COUNT; operation++) {
        ht_weight any = {0};
        ht_packed integers = {.is_integer = 1}, floats = {.is_integer = 0};
        CHECK(ht_kernel_choose((ht_operation)operation, 0, &any, 1) != NULL ||
              (ht_kernel_choose_packed((ht_operation)operation, 0, &integers, 1) != NULL &&
               ht_kernel_choose_packed((ht_operation)operation, 0, &floats, 1) == NULL));
    }
    ht_context_destroy(ctx);
}

static void test_vectors(void) {
    test_dot();
    test_mix();
    test_rmsnorm();
    test_gate();
    test_softmax();
    test_softcap();
    test_attention();
}

/* The rows of a CPU without AVX-512. */
static void test_narrower(void) {
    uint32_t whole = all_flags;
    all_flags &= ~(uint32_t)HT_CPU_AVX512F;
    test_vectors();
    all_flags = whole;
}

int main(void) {
    ht_context *ctx;
    if (ht_context_create(NULL, &ctx) == HT_OK) {
        all_flags = ht_cpu_flags(ctx);
        ht_context_destroy(ctx);
    }
    RUN(test_vectors);
    RUN(test_dot_special);
    RUN(test_rope);
    RUN(test_exp);
    RUN(test_hadamard);
    RUN(test_decode);
    RUN(test_decode_packings);
    RUN(test_decode_transposed);
    RUN(test_narrower);
    RUN(test_table);
    return check_finish();
}
