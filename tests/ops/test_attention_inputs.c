/* What attention does to its inputs first: keys in pages and of different lengths, rotary positions. Each against the
 * same done by hand and attention without it, bit for bit; and the refusals. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/attention.h>

#include "attention_problem.h"
#include "support/check.h"

static ht_context *ctx;

/* --- Lengths and pages ---------------------------------------------------------------------------------------------
 */

enum { P_BATCH = 3, P_KV = 2, P_KEYS = 40, P_DIM = 16, P_ROWS = 7, P_COUNT = 24, P_EACH = 6 };

/* Keys in pages of 7, pages of the pool in a shuffled order, rows that belong to nobody NaN. */
static void fill_pool(const struct problem *p, const int32_t *lengths, int32_t *ids, float *k, float *v) {
    for (size_t i = 0; i < P_COUNT * P_ROWS * P_KV * P_DIM; i++)
        k[i] = v[i] = NAN;
    for (size_t b = 0; b < P_BATCH; b++)
        for (size_t i = 0; i < P_EACH; i++) {
            size_t page = (b * P_EACH + i) * 7 % 23; /* 18 different ones */
            ids[b * P_EACH + i] = (int32_t)page;
            for (size_t r = 0; r < P_ROWS && i * P_ROWS + r < (size_t)lengths[b]; r++) {
                size_t from = (b * P_KEYS + i * P_ROWS + r) * P_KV * P_DIM, to = (page * P_ROWS + r) * P_KV * P_DIM;
                memcpy(k + to, p->k + from, P_KV * P_DIM * sizeof *k);
                memcpy(v + to, p->v + from, P_KV * P_DIM * sizeof *v);
            }
        }
}

/* One result for keys of each sequence in one array, by kv_lengths, and in pages, bit for bit: prefill and decode,
 * every host kernel. */
static void test_pages(void) {
    static const char *const KERNELS[] = {"reference_f64", "cpu_f32", "cpu_fp8"};
    static const int32_t LENGTHS[P_BATCH] = {40, 0, 23};
    static float k[P_COUNT * P_ROWS * P_KV * P_DIM], v[P_COUNT * P_ROWS * P_KV * P_DIM];
    for (size_t n = 0; n < 6; n++) {
        struct problem p = problem_new(P_BATCH, 4, P_KV, n < 3 ? 18 : 1, P_KEYS, P_DIM, P_DIM);
        int32_t ids[P_BATCH * P_EACH];
        float *want = malloc(p.out_count * sizeof *want), *lse = malloc(p.lse_count * sizeof *lse);
        ht_attention_args args = p.args;
        fill_pool(&p, LENGTHS, ids, k, v);
        args.kernel = KERNELS[n % 3], args.precision = n % 3 == 2 ? HT_ATTENTION_FP8 : HT_ATTENTION_INPUT;
        args.causal = 1, args.window = 30;
        for (size_t b = 0; b < P_BATCH; b++) { /* each alone */
            ht_attention_args one = args;
            one.batch = 1, one.kv_rows = (size_t)LENGTHS[b];
            one.q.data = p.q + b * args.q.batch, one.out.data = want + b * args.out.batch;
            one.k.data = p.k + b * args.k.batch, one.v.data = p.v + b * args.v.batch;
            one.lse = lse + b * 4 * args.q_rows;
            REQUIRE_OK(ht_attention(ctx, &one, NULL));
        }
        args.kv_lengths = LENGTHS;
        REQUIRE_OK(ht_attention(ctx, &args, NULL));
        CHECK_BYTES(p.out, want, p.out_count * sizeof *want);
        CHECK_BYTES(p.lse, lse, p.lse_count * sizeof *lse);
        memset(p.out, 0x55, p.out_count * sizeof *p.out);
        args.pages = (ht_attention_pages){.ids = ids, .per_sequence = P_EACH, .rows = P_ROWS, .count = P_COUNT};
        args.k = (ht_attention_operand){k, P_ROWS * P_KV * P_DIM, P_KV * P_DIM, P_DIM};
        args.v = (ht_attention_operand){v, P_ROWS * P_KV * P_DIM, P_KV * P_DIM, P_DIM};
        REQUIRE_OK(ht_attention(ctx, &args, NULL));
        CHECK_BYTES(p.out, want, p.out_count * sizeof *want);
        CHECK_BYTES(p.lse, lse, p.lse_count * sizeof *lse);
        free(want), free(lse);
        problem_free(&p);
    }
}

/* bf16 pages with queries of different lengths behind each other. */
static void test_packed_pages(void) {
    enum { H = 2, D = 8, ROWS = 4, PAGES = 5 };
    static const int32_t OFFSETS[3] = {0, 5, 6}, LENGTHS[2] = {9, 6}, IDS[2 * 3] = {4, 0, 2, 1, 3, -7};
    struct problem p = problem_new(1, H, 1, 6, PAGES * ROWS, D, D);
    uint16_t k[PAGES * ROWS * D], v[PAGES * ROWS * D], q[6 * H * D];
    float k_row[9 * D], v_row[9 * D], *want = malloc(p.out_count * sizeof *want);
    CHECK_OK(ht_convert(p.k, HT_F32, k, HT_BF16, PAGES * ROWS * D));
    CHECK_OK(ht_convert(p.v, HT_F32, v, HT_BF16, PAGES * ROWS * D));
    CHECK_OK(ht_convert(p.q, HT_F32, q, HT_BF16, 6 * H * D));
    CHECK_OK(ht_convert(q, HT_BF16, p.q, HT_F32, 6 * H * D));
    for (size_t b = 0; b < 2; b++) {
        ht_attention_args one = p.args;
        for (size_t j = 0; j < (size_t)LENGTHS[b]; j++) {
            size_t at = ((size_t)IDS[b * 3 + j / ROWS] * ROWS + j % ROWS) * D;
            CHECK_OK(ht_convert(k + at, HT_BF16, k_row + j * D, HT_F32, D));
            CHECK_OK(ht_convert(v + at, HT_BF16, v_row + j * D, HT_F32, D));
        }
        one.q_rows = (size_t)(OFFSETS[b + 1] - OFFSETS[b]), one.kv_rows = (size_t)LENGTHS[b], one.causal = 1;
        one.q.data = p.q + OFFSETS[b] * H * D, one.out.data = want + OFFSETS[b] * H * D;
        one.k.data = k_row, one.v.data = v_row;
        REQUIRE_OK(ht_attention(ctx, &one, NULL));
    }
    ht_attention_args args = p.args;
    args.batch = 2, args.q_rows = 5, args.kv_rows = 9, args.causal = 1;
    args.q_offsets = OFFSETS, args.kv_lengths = LENGTHS;
    args.pages = (ht_attention_pages){.ids = IDS, .per_sequence = 3, .rows = ROWS, .count = PAGES};
    args.dtype = HT_BF16, args.out_dtype = HT_F32;
    args.q.data = q;
    args.k = (ht_attention_operand){k, ROWS * D, D, D}, args.v = (ht_attention_operand){v, ROWS * D, D, D};
    REQUIRE_OK(ht_attention(ctx, &args, NULL)); /* the id -7 stands for no key */
    CHECK_BYTES(p.out, want, p.out_count * sizeof *want);
    free(want);
    problem_free(&p);
}

static void test_page_refusals(void) {
    struct problem p = problem_new(1, 1, 1, 2, 10, 8, 8);
    static const int32_t LOW[] = {0, -1, 1}, HIGH[] = {0, 1, 3}, FINE[] = {2, 0, 1}, OFFSETS[] = {0, 2}, LONG[] = {11};
    const ht_attention_pages pages = {.ids = FINE, .per_sequence = 3, .rows = 4, .count = 3};
    ht_attention_args bad = p.args;
    bad.pages = pages, bad.pages.ids = LOW;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "page 1 of sequence 0 is -1");
    bad.pages.ids = HIGH;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "is 3; the pool has 3");
    bad.pages = pages, bad.pages.rows = 0;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad.pages = pages, bad.pages.per_sequence = 2;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad.pages = pages, bad.q_offsets = bad.kv_offsets = OFFSETS;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.q_offsets = OFFSETS;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad = p.args, bad.kv_lengths = LONG;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "sequence 0 has 11 keys");
    bad.kv_lengths = LOW + 1;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad = p.args, bad.pages = pages, bad.on_gpu = 1, bad.dtype = HT_BF16;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "bf16_sm90: it has no pages");
    bad.on_gpu = 0, bad.dtype = HT_F32;
    const ht_attention_gradients to = {.d_out = bad.out};
    CHECK_FAILS(ht_attention_backward(ctx, &bad, &to, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "pages have no gradient");
    problem_free(&p);
}

/* --- Rotation ----------------------------------------------------------------------------------------------------- */

enum { R_BATCH = 2, R_H = 4, R_KV = 2, R_Q = 9, R_KEYS = 21, R_DIM = 16, R_DIMS = 12, R_TABLE = 64 };
static float r_cosine[R_TABLE * R_DIMS / 2], r_sine[R_TABLE * R_DIMS / 2];

/* One row of heads, as the contract has it, rounded to dtype. */
static void rotate_by_hand(const ht_attention_rope *rope, ht_dtype dtype, int position, size_t heads, float *x) {
    uint16_t narrow[R_DIM];
    for (size_t h = 0; h < heads; h++, x += R_DIM) {
        for (size_t c = 0; c < R_DIMS / 2; c++) {
            float angle = (float)position * (float)pow(rope->theta, -2.0 * (double)c / R_DIMS);
            float cosine = rope->cosine ? r_cosine[position * (R_DIMS / 2) + (int)c] : (float)cos((double)angle);
            float sine = rope->cosine ? r_sine[position * (R_DIMS / 2) + (int)c] : (float)sin((double)angle);
            size_t i = rope->pairs == HT_PAIRS_HALVES ? c : 2 * c;
            size_t j = rope->pairs == HT_PAIRS_HALVES ? c + R_DIMS / 2 : 2 * c + 1;
            float a = x[i], b = x[j];
            x[i] = a * cosine - b * sine;
            x[j] = b * cosine + a * sine;
        }
        if (dtype != HT_F32) {
            CHECK_OK(ht_convert(x, HT_F32, narrow, dtype, R_DIM));
            CHECK_OK(ht_convert(narrow, dtype, x, HT_F32, R_DIM));
        }
    }
}

/* Rotated by hand and then attention: the same bits as in one call. bits: interleaved, theta, positions given, q only;
 * the kernel: f32, the definition, fp8 with the transform. */
static void check_rotation(unsigned bits, const char *kernel, ht_dtype dtype) {
    struct problem p = problem_new(R_BATCH, R_H, R_KV, R_Q, R_KEYS, R_DIM, R_DIM), hand = p;
    int32_t q_at[R_BATCH * R_Q], k_at[R_BATCH * R_KEYS];
    size_t nq = R_BATCH * R_Q * R_H * R_DIM, nk = R_BATCH * R_KEYS * R_KV * R_DIM;
    uint16_t *q = malloc(nq * 2), *k = malloc(nk * 2), *v = malloc(nk * 2);
    ht_attention_rope rope = {.dims = R_DIMS,
                              .pairs = bits & 1 ? HT_PAIRS_INTERLEAVED : HT_PAIRS_HALVES,
                              .theta = 500,
                              .cosine = bits & 2 ? NULL : r_cosine,
                              .sine = bits & 2 ? NULL : r_sine,
                              .positions = R_TABLE,
                              .q_positions = bits & 4 ? q_at : NULL,
                              .k_positions = bits & 4 ? k_at : NULL,
                              .q_only = (bits & 8) != 0};
    for (size_t i = 0; i < R_BATCH * R_Q; i++)
        q_at[i] = (int32_t)(i * 7 % R_TABLE);
    for (size_t i = 0; i < R_BATCH * R_KEYS; i++)
        k_at[i] = (int32_t)(i * 5 % R_TABLE);
    CHECK_OK(ht_convert(p.q, HT_F32, q, dtype == HT_F16 ? HT_F16 : HT_BF16, nq));
    CHECK_OK(ht_convert(p.k, HT_F32, k, dtype == HT_F16 ? HT_F16 : HT_BF16, nk));
    CHECK_OK(ht_convert(p.v, HT_F32, v, dtype == HT_F16 ? HT_F16 : HT_BF16, nk));
    if (dtype != HT_F32) {
        CHECK_OK(ht_convert(q, dtype, p.q, HT_F32, nq));
        CHECK_OK(ht_convert(k, dtype, p.k, HT_F32, nk));
        CHECK_OK(ht_convert(v, dtype, p.v, HT_F32, nk));
    }
    float *want = malloc(p.out_count * sizeof *want);
    ht_attention_args args = p.args;
    args.kernel = kernel, args.causal = 1, args.rope = rope, args.out_dtype = HT_F32;
    args.precision = kernel && strcmp(kernel, "cpu_fp8") == 0 ? HT_ATTENTION_FP8_HADAMARD : HT_ATTENTION_INPUT;
    if (dtype != HT_F32) {
        args.dtype = dtype;
        args.q.data = q, args.k.data = k, args.v.data = v;
    }
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    memcpy(want, p.out, p.out_count * sizeof *want);
    for (size_t i = 0; i < R_BATCH * R_Q; i++)
        rotate_by_hand(&rope, dtype, bits & 4 ? q_at[i] : (int)(i % R_Q) + R_KEYS - R_Q, R_H, p.q + i * R_H * R_DIM);
    for (size_t i = 0; i < R_BATCH * R_KEYS && !rope.q_only; i++)
        rotate_by_hand(&rope, dtype, bits & 4 ? k_at[i] : (int)(i % R_KEYS), R_KV, p.k + i * R_KV * R_DIM);
    hand.args.kernel = kernel, hand.args.causal = 1, hand.args.precision = args.precision;
    REQUIRE_OK(ht_attention(ctx, &hand.args, NULL));
    if (!CHECK_BYTES(want, p.out, p.out_count * sizeof *want))
        fprintf(stderr, "  of options %#x, kernel %s, %s\n", bits, kernel ? kernel : "chosen", ht_dtype_name(dtype));
    free(q), free(k), free(v), free(want);
    problem_free(&p);
}

static void test_rotation(void) {
    for (size_t i = 0; i < sizeof r_cosine / sizeof *r_cosine; i++) {
        r_cosine[i] = (float)cos((double)i * 0.37);
        r_sine[i] = (float)sin((double)i * 0.37);
    }
    for (unsigned bits = 0; bits < 16; bits++) {
        check_rotation(bits, NULL, HT_F32);
        check_rotation(bits, "reference_f64", bits & 4 ? HT_BF16 : HT_F16);
        check_rotation(bits, "cpu_fp8", HT_F32);
        check_rotation(bits, "cpu_f32", bits & 4 ? HT_F16 : HT_BF16);
    }
}

/* Gradients through the rotation: those of a call with rotated inputs, turned back by hand and rounded. */
static void check_rotated_gradients(unsigned bits, ht_dtype dtype) {
    struct problem p = problem_new(R_BATCH, R_H, R_KV, R_Q, R_KEYS, R_DIM, R_DIM);
    size_t nq = R_BATCH * R_Q * R_H * R_DIM, nk = R_BATCH * R_KEYS * R_KV * R_DIM;
    const ht_attention_rope rope = {.dims = R_DIMS,
                                    .pairs = bits & 1 ? HT_PAIRS_INTERLEAVED : HT_PAIRS_HALVES,
                                    .theta = 500,
                                    .q_only = (bits & 2) != 0};
    ht_attention_rope back = rope; /* by tables whose sines are negative */
    float *d_out = random_values(nq), *got = malloc((nq + 2 * nk) * 4), *want = malloc((nq + 2 * nk) * 4);
    ht_attention_args args = p.args;
    ht_attention_gradients to = {.d_out = args.out, .dq = args.q, .dk = args.k, .dv = args.v, .dtype = dtype};
    args.causal = 1, args.rope = rope;
    size_t bytes = ht_dtype_bits(dtype) / 8;
    to.d_out.data = d_out;
    to.dq.data = got, to.dk.data = (char *)got + nq * bytes, to.dv.data = (char *)got + (nq + nk) * bytes;
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    REQUIRE_OK(ht_attention_backward(ctx, &args, &to, NULL));
    for (size_t i = 0; i < R_BATCH * R_Q; i++)
        rotate_by_hand(&rope, HT_F32, (int)(i % R_Q) + R_KEYS - R_Q, R_H, p.q + i * R_H * R_DIM);
    for (size_t i = 0; i < R_BATCH * R_KEYS && !rope.q_only; i++)
        rotate_by_hand(&rope, HT_F32, (int)(i % R_KEYS), R_KV, p.k + i * R_KV * R_DIM);
    args.rope.dims = 0;
    to.dtype = HT_F32;
    to.dq.data = want, to.dk.data = want + nq, to.dv.data = want + nq + nk;
    REQUIRE_OK(ht_attention_backward(ctx, &args, &to, NULL));
    for (int t = 0; t < R_TABLE; t++)
        for (int c = 0; c < R_DIMS / 2; c++) {
            float angle = (float)t * (float)pow(rope.theta, -2.0 * c / R_DIMS);
            r_cosine[t * (R_DIMS / 2) + c] = (float)cos((double)angle);
            r_sine[t * (R_DIMS / 2) + c] = -(float)sin((double)angle);
        }
    back.cosine = r_cosine, back.sine = r_sine;
    for (size_t i = 0; i < R_BATCH * R_Q; i++)
        rotate_by_hand(&back, HT_F32, (int)(i % R_Q) + R_KEYS - R_Q, R_H, want + i * R_H * R_DIM);
    for (size_t i = 0; i < R_BATCH * R_KEYS && !rope.q_only; i++)
        rotate_by_hand(&back, HT_F32, (int)(i % R_KEYS), R_KV, want + nq + i * R_KV * R_DIM);
    void *narrow = malloc((nq + 2 * nk) * bytes);
    CHECK_OK(ht_convert(want, HT_F32, narrow, dtype, nq + 2 * nk));
    CHECK_BYTES(got, narrow, (nq + 2 * nk) * bytes);
    free(d_out), free(got), free(want), free(narrow);
    problem_free(&p);
}

static void test_rotated_gradients(void) {
    for (unsigned bits = 0; bits < 4; bits++) {
        check_rotated_gradients(bits, HT_F32);
        check_rotated_gradients(bits, HT_BF16);
    }
}

/* A fused projection as it is, and sequences behind each other: positions start anew in each. */
static void test_rotated_packed(void) {
    enum { H = 2, D = 8, WIDTH = 3 * H * D, S = 12 };
    static const int32_t OFFSETS[3] = {0, 5, 12};
    float *fused = random_values(S * WIDTH), out[S * H * D], want[S * H * D];
    ht_attention_args args = {.batch = 2,
                              .heads = H,
                              .kv_heads = H,
                              .q_rows = 7,
                              .kv_rows = 7,
                              .head_dim = D,
                              .dtype = HT_F32,
                              .causal = 1,
                              .q = {fused, 0, WIDTH, D},
                              .k = {fused + H * D, 0, WIDTH, D},
                              .v = {fused + 2 * H * D, 0, WIDTH, D},
                              .out = {out, 0, H * D, D},
                              .q_offsets = OFFSETS,
                              .kv_offsets = OFFSETS,
                              .rope = {.dims = D, .theta = 10000}};
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    for (size_t b = 0; b < 2; b++) {
        ht_attention_args one = args;
        size_t at = (size_t)OFFSETS[b];
        one.batch = 1, one.q_offsets = one.kv_offsets = NULL;
        one.q_rows = one.kv_rows = (size_t)OFFSETS[b + 1] - at;
        one.q.data = fused + at * WIDTH, one.k.data = fused + at * WIDTH + H * D;
        one.v.data = fused + at * WIDTH + 2 * H * D, one.out.data = want + at * H * D;
        REQUIRE_OK(ht_attention(ctx, &one, NULL));
    }
    CHECK_BYTES(out, want, sizeof out);
    args.rope.dims = 0;
    REQUIRE_OK(ht_attention(ctx, &args, NULL));
    CHECK(memcmp(out, want, sizeof out) != 0);
    free(fused);
}

static void test_rotation_refusals(void) {
    struct problem p = problem_new(1, 1, 1, 2, 3, 8, 8);
    static const int32_t FAR[] = {0, 1, 64}, IDS[] = {0};
    const ht_attention_rope rope = {.dims = 4, .cosine = r_cosine, .sine = r_sine, .positions = R_TABLE};
    ht_attention_args bad = p.args;
    bad.rope = rope, bad.rope.dims = 3;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad.rope.dims = 10;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_SHAPE);
    bad.rope = rope, bad.rope.sine = NULL;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    bad.rope.cosine = NULL;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "theta 0");
    bad.rope = rope, bad.rope.k_positions = FAR;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "key 2 of sequence 0 is at position 64; the table ends before 64");
    bad.rope = rope, bad.kv_rows = 1; /* the first of two queries stands before the only key */
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "query 0 of sequence 0 is at position -1");
    bad = p.args, bad.rope = rope;
    bad.pages = (ht_attention_pages){.ids = IDS, .per_sequence = 1, .rows = 3, .count = 1};
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_ARGUMENT);
    CHECK_CONTAINS(ht_error_message(), "q_only");
    bad.rope.q_only = 1;
    CHECK_OK(ht_attention(ctx, &bad, NULL));
    bad = p.args, bad.rope = rope, bad.on_gpu = 1, bad.dtype = HT_BF16;
    CHECK_FAILS(ht_attention(ctx, &bad, NULL), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "bf16_sm90: it does not rotate");
    problem_free(&p);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    RUN(test_pages);
    RUN(test_packed_pages);
    RUN(test_page_refusals);
    RUN(test_rotation);
    RUN(test_rotated_packed);
    RUN(test_rotated_gradients);
    RUN(test_rotation_refusals);
    ht_context_destroy(ctx);
    return check_finish();
}
