/* Bodies of the row kernels, plain C that compilers vectorize; ref/rows.c and x86/rows_avx2.c compile it for their
 * instruction set. Sums run in 8 lanes over chunks of CHUNK values; the chunks are added in f64.
 *
 * exp(x) = 2^n * e^r, n the nearest integer of x / ln 2, |r| <= ln 2 / 2: n by adding 1.5 * 2^23, which leaves it in
 * the low bits; ln 2 in two parts so that r is good to the last bit; e^r by its series to r^7 (remainder below 6e-9).
 */
#ifndef HT_KERNELS_BODY_ROWS_H
#define HT_KERNELS_BODY_ROWS_H

#include <math.h> /* sqrtf, INFINITY */
#include <stddef.h>
#include <stdint.h>
#include <string.h> /* memcpy */

#include "kernels/rows.h"

enum { ROW_LANES = 8, CHUNK = 256 };

/* The lanes as two values, for loops that carry them: as an array, compilers take them apart. */
typedef float row_half __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t row_mask __attribute__((vector_size(16)));
enum { HALF_ROW = ROW_LANES / 2 };

static inline float exp_f32(float x) {
    const float magic = 12582912.0f, log2e = 1.44269504f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
    float inside = x < -87.3f ? -87.3f : x; /* a NaN passes both */
    inside = inside > 88.3f ? 88.3f : inside;
    float shifted = inside * log2e + magic;
    float n = shifted - magic;
    float r = (inside - n * ln2_high) - n * ln2_low;
    float series = 1.0f / 5040;
    series = series * r + 1.0f / 720;
    series = series * r + 1.0f / 120;
    series = series * r + 1.0f / 24;
    series = series * r + 1.0f / 6;
    series = series * r + 0.5f;
    series = series * r * r + r + 1.0f;
    uint32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits + 127) << 23;
    float power;
    memcpy(&power, &bits, sizeof power);
    float y = series * power;
    y = x < -87.3f ? 0.0f : y;
    return x > 88.3f ? INFINITY : y;
}

static inline float row_fold(const float *lane) {
    float a = lane[0] + lane[4], b = lane[1] + lane[5], c = lane[2] + lane[6], d = lane[3] + lane[7];
    return (a + c) + (b + d);
}

static inline double sum_of_squares(const float *x, size_t n) {
    double total = 0;
    for (size_t from = 0; from < n; from += CHUNK) {
        size_t count = n - from < CHUNK ? n - from : CHUNK, whole = count / ROW_LANES * ROW_LANES;
        float lane[ROW_LANES] = {0};
        for (size_t i = 0; i < whole; i += ROW_LANES)
            for (size_t l = 0; l < ROW_LANES; l++)
                lane[l] += x[from + i + l] * x[from + i + l];
        for (size_t i = whole; i < count; i++)
            lane[i - whole] += x[from + i] * x[from + i];
        total += (double)row_fold(lane);
    }
    return total;
}

static inline void rmsnorm_body(const float *x, const float *weight, size_t n, float epsilon, float *y) {
    float mean = (float)(sum_of_squares(x, n) / (double)n);
    float scale = 1.0f / sqrtf(mean + epsilon);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * scale * weight[i];
}

static inline void rope_body(float *x, size_t heads, size_t stride, const float *cosine, const float *sine,
                             size_t half) {
    for (size_t h = 0; h < heads; h++) {
        float *low = x + h * stride, *high = low + half;
        for (size_t c = 0; c < half; c++) {
            float a = low[c], b = high[c];
            low[c] = a * cosine[c] - b * sine[c];
            high[c] = b * cosine[c] + a * sine[c];
        }
    }
}

static inline void gate_silu(const float *gate, const float *up, size_t step, size_t n, float *restrict out) {
    for (size_t i = 0; i < n; i++)
        out[i] = gate[i * step] / (1.0f + exp_f32(-gate[i * step])) * up[i * step];
}

/* 0.5 * (1 + tanh(u)) is the logistic function of 2 u, which does not cancel for negative u. */
static inline void gate_gelu(const float *gate, const float *up, size_t step, size_t n, float *restrict out) {
    const float twice_root = 1.5957691216057308f; /* 2 * sqrt(2 / pi) */
    for (size_t i = 0; i < n; i++) {
        float g = gate[i * step];
        out[i] = g / (1.0f + exp_f32(-twice_root * (g + 0.044715f * g * g * g))) * up[i * step];
    }
}

static inline void gate_clamped(const float *gate, const float *up, size_t step, size_t n, float alpha, float limit,
                                float *restrict out) {
    for (size_t i = 0; i < n; i++) {
        float g = gate[i * step], u = up[i * step];
        g = g > limit ? limit : g;
        u = u > limit ? limit : u;
        u = u < -limit ? -limit : u;
        out[i] = g / (1.0f + exp_f32(-alpha * g)) * (u + 1.0f);
    }
}

static inline void gate_body(const ht_gate_function *rule, const float *gate, const float *up, size_t step, size_t n,
                             float *out) {
    if (rule->rule == HT_GATE_CLAMPED)
        gate_clamped(gate, up, step, n, rule->alpha, rule->limit, out);
    else if (rule->rule == HT_GATE_GELU_TANH)
        gate_gelu(gate, up, step, n, out);
    else if (step == 1)
        gate_silu(gate, up, 1, n, out);
    else
        gate_silu(gate, up, step, n, out);
}

static inline float largest(const float *x, size_t n, float floor) {
    float lane[ROW_LANES];
    for (size_t l = 0; l < ROW_LANES; l++)
        lane[l] = floor;
    size_t whole = n / ROW_LANES * ROW_LANES;
    row_half most[2] = {*(const row_half *)lane, *(const row_half *)(lane + HALF_ROW)};
    for (size_t i = 0; i < whole; i += ROW_LANES)
        for (size_t h = 0; h < 2; h++) {
            row_half here = *(const row_half *)(x + i + h * HALF_ROW);
            row_mask above = here > most[h]; /* never of a NaN */
            most[h] = (row_half)(((row_mask)here & above) | ((row_mask)most[h] & ~above));
        }
    for (size_t h = 0; h < 2; h++)
        *(row_half *)(lane + h * HALF_ROW) = most[h];
    for (size_t i = whole; i < n; i++)
        lane[0] = x[i] > lane[0] ? x[i] : lane[0];
    for (size_t l = 1; l < ROW_LANES; l++)
        lane[0] = lane[l] > lane[0] ? lane[l] : lane[0];
    return lane[0];
}

static inline double softmax_body(const float *x, size_t n, float floor, float *e, float *max) {
    float top = largest(x, n, floor);
    double total = 0;
    for (size_t from = 0; from < n; from += CHUNK) {
        size_t count = n - from < CHUNK ? n - from : CHUNK, whole = count / ROW_LANES * ROW_LANES;
        const float *in = x + from;
        float *out = e + from, lane[ROW_LANES];
        row_half sum[2] = {{0}, {0}};
        for (size_t i = 0; i < count; i++)
            out[i] = exp_f32(in[i] - top);
        for (size_t i = 0; i < whole; i += ROW_LANES)
            for (size_t h = 0; h < 2; h++)
                sum[h] += *(const row_half *)(out + i + h * HALF_ROW);
        for (size_t h = 0; h < 2; h++)
            *(row_half *)(lane + h * HALF_ROW) = sum[h];
        for (size_t i = whole; i < count; i++)
            lane[i - whole] += out[i];
        total += (double)row_fold(lane);
    }
    *max = top;
    return total;
}

/* Distances below the lanes stay in registers; from there on whole vectors meet. */
static inline void hadamard_lanes(float *x, size_t n) {
    for (size_t i = 0; i < n; i += ROW_LANES) {
        float a[ROW_LANES], b[ROW_LANES];
        for (size_t l = 0; l < ROW_LANES; l++)
            a[l] = (l & 1 ? -x[i + l] : x[i + l]) + x[i + (l ^ 1)];
        for (size_t l = 0; l < ROW_LANES; l++)
            b[l] = (l & 2 ? -a[l] : a[l]) + a[l ^ 2];
        for (size_t l = 0; l < ROW_LANES; l++)
            x[i + l] = (l & 4 ? -b[l] : b[l]) + b[l ^ 4];
    }
}

static inline void hadamard_pairs(float *low, float *high, size_t half) {
    for (size_t i = 0; i < half; i++) {
        float a = low[i], b = high[i];
        low[i] = a + b;
        high[i] = a - b;
    }
}

static inline void hadamard_run(float *x, size_t n, double scale) {
    size_t half = 1;
    if (n >= ROW_LANES) {
        hadamard_lanes(x, n);
        half = ROW_LANES;
    }
    for (; half < n; half *= 2)
        for (size_t start = 0; start < n; start += 2 * half)
            hadamard_pairs(x + start, x + start + half, half);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)((double)x[i] * scale);
}

static inline void hadamard_body(float *x, size_t n, size_t runs) {
    double scale = 1.0 / sqrt((double)n);
    for (size_t r = 0; r < runs; r++)
        hadamard_run(x + r * n, n, scale);
}

/* tanh(|t|) = (1 - q) / (1 + q), q = exp(-2 |t|): never overflows, absolute error below 1e-7. */
static inline void softcap_body(float *x, size_t n, float cap) {
    for (size_t i = 0; i < n; i++) {
        float t = x[i] / cap, size = t < 0 ? -t : t;
        float q = exp_f32(-2.0f * size), value = cap * ((1.0f - q) / (1.0f + q));
        x[i] = t < 0 ? -value : value;
    }
}

#endif
