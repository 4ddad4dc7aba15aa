/* The attention quantizer against codes computed here. RoPE in f32 may round differently in the last place, so a code
 * may be off by one where a value lies between two codes; scales are compared closely and codes by value.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/tensor.h>

#include "cuda_check.h"
#include "cuda_check_attention.h"
#include "kernels/cuda/attention.h"

uint16_t attention_f16(float x) {
    uint16_t bits = 0;
    cuda_must(ht_convert(&x, HT_F32, &bits, HT_F16, 1), "convert");
    return bits;
}

float attention_f16_value(uint16_t bits) {
    float x = 0;
    cuda_must(ht_convert(&bits, HT_F16, &x, HT_F32, 1), "convert");
    return x;
}

static size_t align256(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

/* One side: values after RoPE, [batch, heads, rows, dim]. */
static float *rotated(const attention_quantizer_case *c, const uint16_t *x, size_t rows, size_t heads, int rope,
                      const float *cosine, const float *sine) {
    size_t d = c->dim;
    float *out = malloc(c->batch * heads * rows * d * sizeof *out);
    for (size_t b = 0; b < c->batch; b++)
        for (size_t h = 0; h < heads; h++)
            for (size_t r = 0; r < rows; r++) {
                const uint16_t *from = x + ((b * rows + r) * heads + h) * d;
                float *to = out + ((b * heads + h) * rows + r) * d;
                const float *cs = cosine + (r + c->kv_rows - rows) * (d / 2),
                            *sn = sine + (r + c->kv_rows - rows) * (d / 2);
                for (size_t i = 0; i < d; i++)
                    to[i] = cuda_bf16_value(from[i]);
                for (size_t i = 0; rope && i < d / 2; i++) {
                    size_t a = c->interleaved ? 2 * i : i, e = c->interleaved ? 2 * i + 1 : i + d / 2;
                    float p = to[a], q = to[e];
                    to[a] = p * cs[i] - q * sn[i];
                    to[e] = q * cs[i] + p * sn[i];
                }
            }
    return out;
}

static size_t permuted(size_t key) {
    return key / 16 * 16 + key % 8 / 2 * 4 + key % 16 / 8 * 2 + key % 2;
}

/* Number of wrong codes and scales of one side; group: heads that share a scale. */
static int compare_side(const attention_quantizer_case *c, const float *want, size_t rows, size_t heads, size_t group,
                        const float *amax, const uint8_t *codes, int transposed) {
    size_t d = c->dim, keys = (rows + 15) / 16 * 16;
    int wrong = 0;
    for (size_t b = 0; b < c->batch; b++)
        for (size_t kv = 0; kv < heads / group; kv++) {
            const float *part = want + (b * heads + kv * group) * rows * d;
            float most = 0, got = amax[b * (heads / group) + kv];
            for (size_t i = 0; i < group * rows * d; i++)
                most = fabsf(part[i]) > most ? fabsf(part[i]) : most;
            wrong += !(fabsf(got - most) <= 1e-6f * most);
            for (size_t i = 0; i < group * rows * d; i++) {
                size_t h = kv * group + i / d / rows, r = i / d % rows, col = i % d;
                size_t at = transposed ? ((b * heads + h) * d + col) * keys + permuted(r)
                                       : ((b * heads + h) * rows + r) * d + col;
                float x = part[i] * (448 / most), y = cuda_e4m3_value(codes[at]);
                wrong += !(fabsf(x - y) <= fabsf(x) * 0.0626f + 0.00098f);
            }
        }
    for (size_t i = 0; transposed && i < c->batch * heads * d * keys; i++) /* the padding is zero */
        if (i % keys / 16 == keys / 16 - 1)
            for (size_t r = rows; r < keys; r++)
                wrong += permuted(r) == i % keys && codes[i] != 0;
    return wrong;
}

void attention_quantizer_check(const attention_quantizer_case *c) {
    size_t d = c->dim, nq = c->batch * c->q_rows * c->heads * d, nk = c->batch * c->kv_rows * c->kv_heads * d;
    size_t bytes = ht_cuda_attention_quantized_bytes(c->batch, c->heads, c->kv_heads, c->q_rows, c->kv_rows, d);
    float *cosine = malloc(c->kv_rows * d / 2 * 4), *sine = malloc(c->kv_rows * d / 2 * 4);
    for (size_t i = 0; i < c->kv_rows * d / 2; i++) {
        double angle = (double)(i / (d / 2)) * pow(10000, -2.0 * (double)(i % (d / 2)) / (double)d);
        cosine[i] = (float)cos(angle);
        sine[i] = (float)sin(angle);
    }
    void *q = cuda_upload(c->q, nq * 2), *k = cuda_upload(c->k, nk * 2), *v = cuda_upload(c->v, nk * 2);
    void *cs = cuda_upload(cosine, c->kv_rows * d / 2 * 4), *sn = cuda_upload(sine, c->kv_rows * d / 2 * 4);
    cuda_guarded out = cuda_guarded_new(bytes);
    size_t hq = c->heads, hk = c->kv_heads;
    ht_cuda_attention_quantize_args args = {.batch = c->batch,
                                            .heads = hq,
                                            .kv_heads = hk,
                                            .q_rows = c->q_rows,
                                            .kv_rows = c->kv_rows,
                                            .head_dim = d,
                                            .dtype = HT_BF16,
                                            .q = {q, c->q_rows * hq * d, hq * d, d},
                                            .k = {k, c->kv_rows * hk * d, hk * d, d},
                                            .v = {v, c->kv_rows * hk * d, hk * d, d},
                                            .cosine = cs,
                                            .sine = sn,
                                            .interleaved = c->interleaved,
                                            .quantized = out.at};
    cuda_must(ht_cuda_attention_quantize(&args, NULL), "quantize");
    uint8_t *got = cuda_guarded_take(&out, "attention quantizer");
    const float *amax = (const float *)(const void *)got;
    const uint8_t *codes = got + align256(3 * c->batch * hk * 4);
    float *want_q = rotated(c, c->q, c->q_rows, hq, 1, cosine, sine),
          *want_k = rotated(c, c->k, c->kv_rows, hk, 1, cosine, sine);
    float *want_v = rotated(c, c->v, c->kv_rows, hk, 0, cosine, sine);
    int wrong_q = compare_side(c, want_q, c->q_rows, hq, hq / hk, amax, codes, 0);
    codes += align256(nq);
    int wrong_k = compare_side(c, want_k, c->kv_rows, hk, 1, amax + c->batch * hk, codes, 0);
    codes += align256(nk);
    int wrong_v = compare_side(c, want_v, c->kv_rows, hk, 1, amax + 2 * c->batch * hk, codes, 1);
    cuda_verdict(!wrong_q && !wrong_k && !wrong_v, "attention quantizer d%zu%s: %d, %d, %d wrong in q, k, v", d,
                 c->interleaved ? " interleaved" : "", wrong_q, wrong_k, wrong_v);
    free(got), free(cosine), free(sine), free(want_q), free(want_k), free(want_v);
    cuda_delete(q), cuda_delete(k), cuda_delete(v), cuda_delete(cs), cuda_delete(sn);
}
