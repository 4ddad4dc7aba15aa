/* Any bytes as shapes, offsets, lengths, page ids and options of attention: refused, or the fast kernel and the
 * definition agree on the result and its gradients. Every array is as long as the contract says and no longer.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/attention.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { Q, K, V, OUT, D_OUT, DQ, DK, DV, LSE, MASK, SINKS, ARRAYS, BATCH = 3 };
enum { CAUSAL = 1, WINDOW = 2, CAP = 4, SINK = 8, OFFSETS = 16, LENGTHS = 32, PAGES = 64, ROPE = 128 };

struct input {
    const uint8_t *at, *end;
    float *array[ARRAYS];
    size_t count[ARRAYS];
    int32_t q_offsets[BATCH + 1], kv_offsets[BATCH + 1], lengths[BATCH];
    int32_t *ids;
};

static uint8_t byte(struct input *in) {
    return in->at < in->end ? *in->at++ : 0;
}

static size_t up_to(struct input *in, size_t most) {
    return byte(in) % (most + 1);
}

static void numbers(struct input *in, int32_t *out, size_t count) {
    for (size_t i = 0; i < count; i++)
        out[i] = (int8_t)byte(in);
}

static float *make(struct input *in, int which, size_t count) {
    uint32_t state = (uint32_t)which * 977 + 5;
    float *x = malloc(count * sizeof *x + 1);
    for (size_t i = 0; i < count; i++) {
        state = state * 1664525 + 1013904223;
        x[i] = (float)(state >> 8) / (1 << 22) - 2;
    }
    in->array[which] = x;
    in->count[which] = count;
    return x;
}

static ht_attention_operand operand(float *data, size_t rows, size_t heads, size_t dim) {
    return (ht_attention_operand){data, rows * heads * dim, heads * dim, dim};
}

static void options(struct input *in, ht_attention_args *a, size_t flags) {
    a->causal = (flags & CAUSAL) != 0;
    a->window = flags & WINDOW ? up_to(in, 45) : 0;
    a->softcap = flags & CAP ? 1.5 : 0;
    a->sinks = flags & SINK ? make(in, SINKS, a->heads) : NULL;
    a->mask.kind = (ht_attention_mask_kind)up_to(in, 2);
    if (a->mask.kind != HT_MASK_NONE) {
        size_t keys = a->kv_rows, rows = a->q_rows;
        float *mask = make(in, MASK, a->batch * a->heads * rows * keys);
        for (size_t i = 0; i < in->count[MASK]; i++)
            mask[i] = mask[i] > 1.2f ? -INFINITY : mask[i];
        a->mask.data = mask;
        a->mask.batch = a->heads * rows * keys, a->mask.head = rows * keys, a->mask.row = keys;
    }
    numbers(in, in->q_offsets, BATCH + 1);
    numbers(in, in->kv_offsets, BATCH + 1);
    numbers(in, in->lengths, BATCH);
    in->q_offsets[0] = in->kv_offsets[0] = 0;
    a->q_offsets = flags & OFFSETS ? in->q_offsets : NULL;
    a->kv_offsets = flags & OFFSETS && !(flags & (LENGTHS | PAGES)) ? in->kv_offsets : NULL;
    a->kv_lengths = flags & LENGTHS ? in->lengths : NULL;
    if (flags & ROPE)
        a->rope = (ht_attention_rope){
            .dims = up_to(in, 9), .pairs = (ht_attention_pairs)up_to(in, 1), .theta = 100, .q_only = (int)up_to(in, 1)};
}

static void operands(struct input *in, ht_attention_args *a, size_t flags) {
    size_t rows = a->kv_rows, batch = a->batch;
    if (flags & PAGES) {
        a->pages = (ht_attention_pages){.per_sequence = up_to(in, 8), .rows = up_to(in, 9), .count = up_to(in, 6)};
        in->ids = malloc(batch * a->pages.per_sequence * sizeof *in->ids + 1);
        numbers(in, in->ids, batch * a->pages.per_sequence);
        a->pages.ids = in->ids;
        rows = a->pages.rows, batch = a->pages.count;
    }
    a->q = operand(make(in, Q, a->batch * a->q_rows * a->heads * a->head_dim), a->q_rows, a->heads, a->head_dim);
    a->k = operand(make(in, K, batch * rows * a->kv_heads * a->head_dim), rows, a->kv_heads, a->head_dim);
    a->v = operand(make(in, V, batch * rows * a->kv_heads * a->value_dim), rows, a->kv_heads, a->value_dim);
    a->out = operand(make(in, OUT, a->batch * a->q_rows * a->heads * a->value_dim), a->q_rows, a->heads, a->value_dim);
    a->lse = make(in, LSE, a->batch * a->heads * a->q_rows);
}

/* The same call twice: both refused, or both results near each other. */
static void compare(struct input *in, ht_status a, ht_status b, const int *arrays, float *const *other) {
    if (a != b)
        abort();
    for (size_t n = 0; a == HT_OK && n < 3 && arrays[n] >= 0; n++)
        for (size_t i = 0; i < in->count[arrays[n]]; i++) {
            float x = in->array[arrays[n]][i], y = other[n][i];
            if (!(x == y || fabsf(x - y) <= 1e-4f * (1 + fabsf(y))))
                abort();
        }
}

static float *copy(const struct input *in, int which) {
    float *x = malloc(in->count[which] * sizeof *x + 1);
    memcpy(x, in->array[which], in->count[which] * sizeof *x);
    return x;
}

static void gradients(ht_context *ctx, struct input *in, const ht_attention_args *args) {
    static const int ARRAY[] = {DQ, DK, DV};
    ht_attention_args a = *args;
    ht_attention_gradients to = {.d_out = a.out, .dq = a.q, .dk = a.k, .dv = a.v};
    float *other[3];
    to.d_out.data = make(in, D_OUT, in->count[OUT]);
    to.dq.data = make(in, DQ, in->count[Q]);
    to.dk.data = make(in, DK, in->count[K]);
    to.dv.data = make(in, DV, in->count[V]);
    for (size_t n = 0; n < 3; n++) /* rows of nobody are not written */
        other[n] = copy(in, ARRAY[n]);
    a.kernel = "cpu_f32";
    ht_status fast = ht_attention_backward(ctx, &a, &to, NULL);
    to.dq.data = other[0], to.dk.data = other[1], to.dv.data = other[2];
    a.kernel = "reference_f64";
    compare(in, fast, ht_attention_backward(ctx, &a, &to, NULL), ARRAY, other);
    free(other[0]), free(other[1]), free(other[2]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const int ARRAY[] = {OUT, LSE, -1};
    static ht_context *ctx;
    struct input in = {.at = data, .end = data + size};
    ht_context_options one = {.threads = 1};
    if (!ctx && ht_context_create(&one, &ctx) != HT_OK)
        return 0;
    size_t flags = byte(&in);
    ht_attention_args a = {.batch = up_to(&in, BATCH),
                           .kv_heads = up_to(&in, 3),
                           .q_rows = up_to(&in, 20),
                           .kv_rows = up_to(&in, 40),
                           .head_dim = up_to(&in, 9),
                           .value_dim = 1 + up_to(&in, 8),
                           .dtype = HT_F32};
    a.heads = a.kv_heads * up_to(&in, 3);
    a.kv_rows += byte(&in) == 255 && a.q_rows < 3 ? 2030 : 0; /* two parts */
    options(&in, &a, flags);
    operands(&in, &a, flags);
    a.kernel = "reference_f64";
    ht_status exact = ht_attention(ctx, &a, NULL);
    float *other[] = {copy(&in, OUT), copy(&in, LSE)};
    a.kernel = "cpu_f32";
    compare(&in, ht_attention(ctx, &a, NULL), exact, ARRAY, other);
    if (exact == HT_OK)
        gradients(ctx, &in, &a);
    a.kernel = "cpu_fp8", a.precision = HT_ATTENTION_FP8_HADAMARD;
    a.fp8 = (ht_attention_fp8){.block = up_to(&in, 20), .promote = 32 * up_to(&in, 2), .sum_bits = (int)up_to(&in, 24)};
    (void)ht_attention(ctx, &a, NULL);
    free(other[0]), free(other[1]), free(in.ids);
    for (size_t i = 0; i < ARRAYS; i++)
        free(in.array[i]);
    return 0;
}
