/* Encoders of the GGUF K types.
 *
 * Two levels. Every sub-block gets the scale (and minimum) with the least weighted error (gguf_fit.h). The largest of
 * them fixes d (and dmin), an f16 number; the others become small integers relative to it. Then the codes are chosen
 * anew for the scales as they are stored. Types with minima go on: neighbouring integers are tried for every sub-block,
 * and d and dmin are solved for the chosen integers while the block gets better, since rounding the sub-block scales
 * leaves a common error that two numbers can take up.
 *
 * Weights: x^2 for symmetric types, rms + |x| of the sub-block for types with minima (formats specification 8.5).
 * Zeros decode to zero, NaN or Inf makes the block NaN, d saturates at 65504 and values with it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"
#include "format/gguf_fit.h"
#include "format/gguf_k.h"

typedef struct shape { /* of a super-block */
    int subs, size;    /* sub-blocks and values in each: subs * size = 256 */
    int scale_top;     /* scales 0..scale_top, or -scale_top-1..scale_top */
    int top;           /* codes 0..top, or -top-1..top */
} shape;

typedef ht_k_affine affine;

static void affine_weights(const float *x, int n, float *weight) {
    float sum = 0;
    for (int i = 0; i < n; i++)
        sum += x[i] * x[i];
    float rms = sqrtf(sum / (float)n);
    for (int i = 0; i < n; i++)
        weight[i] = rms + fabsf(x[i]);
}

/* Codes for the stored scales; returns the weighted squared error. x and the result are in units of `unit`. */
static float affine_codes(const shape *s, const float *x, const float *weight, float unit, affine *out) {
    float d = ht_half(out->d) / unit, dmin = ht_half(out->dmin) / unit, error = 0;
    for (int i = 0; i < HT_FIT_VALUES; i++) {
        float scale = d * (float)out->scale[i / s->size], minus = dmin * (float)out->minus[i / s->size];
        int q = scale > 0 ? ht_fit_round((x[i] + minus) / scale, 0, s->top) : 0;
        float difference = x[i] - (scale * (float)q - minus);
        out->q[i] = (uint8_t)q;
        error += weight[i] * difference * difference;
    }
    return error;
}

/* Weighted squared error of a sub-block for a scale and a minimum. */
static float sub_error(const shape *s, const float *x, const float *weight, float scale, float minus) {
    float inverse = scale > 0 ? 1.0f / scale : 0, top = (float)s->top, part[8] = {0}, sum = 0;
    for (int i = 0; i < s->size; i += 8) {
        for (int lane = 0; lane < 8; lane++) {
            float q = (x[i + lane] + minus) * inverse;
            q = q > 0 ? q : 0;
            q = q < top ? q : top;
            q = (q + 0x1.8p23f) - 0x1.8p23f;
            float difference = x[i + lane] - (scale * q - minus);
            part[lane] += weight[i + lane] * difference * difference;
        }
    }
    for (int lane = 0; lane < 8; lane++)
        sum += part[lane];
    return sum;
}

/* The integers of each sub-block, or neighbours of them that fit better now that d and dmin are rounded. */
static void affine_neighbours(const shape *s, const float *x, const float *weight, float unit, affine *out) {
    float d = ht_half(out->d) / unit, dmin = ht_half(out->dmin) / unit;
    for (int j = 0; j < s->subs; j++) {
        float best = INFINITY;
        int scale = out->scale[j], minus = out->minus[j];
        for (int trial = 0; trial < 9; trial++) {
            int a = scale + trial / 3 - 1, b = minus + trial % 3 - 1;
            if (a < 0 || a > s->scale_top || b < 0 || b > s->scale_top)
                continue;
            float error = sub_error(s, x + j * s->size, weight + j * s->size, d * (float)a, dmin * (float)b);
            if (error < best) {
                best = error;
                out->scale[j] = (uint8_t)a;
                out->minus[j] = (uint8_t)b;
            }
        }
    }
}

/* d and dmin with the least weighted error for the integers in *out. 0 when they are not determined. */
static int affine_solve(const shape *s, const float *x, const float *weight, const affine *out, float *d, float *dmin) {
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    for (int i = 0; i < HT_FIT_VALUES; i++) {
        double a = (double)out->scale[i / s->size] * out->q[i], b = -(double)out->minus[i / s->size];
        double w = (double)weight[i];
        aa += w * a * a;
        ab += w * a * b;
        bb += w * b * b;
        ax += w * a * (double)x[i];
        bx += w * b * (double)x[i];
    }
    double determinant = aa * bb - ab * ab;
    if (!(determinant > 1e-9 * aa * bb))
        return 0;
    *d = (float)((bb * ax - ab * bx) / determinant);
    *dmin = (float)((aa * bx - ab * ax) / determinant);
    return *d > 0 && *dmin > 0;
}

/* importance: of every value, NULL: the type's own weights. */
static void affine_encode(const shape *s, const float *input, const float *importance, affine *out) {
    float x[HT_FIT_VALUES], weight[HT_FIT_VALUES], scale[HT_FIT_SUBS], minus[HT_FIT_SUBS];
    int exponent = ht_fit_normalize(input, HT_FIT_VALUES, x);
    /* Units in which the stored numbers stay within f32; blocks beyond f16 saturate there anyway. */
    float unit = ldexpf(1.0f, exponent < -100 ? -100 : exponent);
    float largest_scale = 0, largest_minus = 0;
    for (int j = 0; j < s->subs; j++) {
        if (importance)
            memcpy(weight + j * s->size, importance + j * s->size, (size_t)s->size * sizeof *weight);
        else
            affine_weights(x + j * s->size, s->size, weight + j * s->size);
        scale[j] = ht_fit_affine(x + j * s->size, weight + j * s->size, s->size, s->top, &minus[j]);
        largest_scale = scale[j] > largest_scale ? scale[j] : largest_scale;
        largest_minus = minus[j] > largest_minus ? minus[j] : largest_minus;
    }
    float inverse_scale = largest_scale > 0 ? (float)s->scale_top / largest_scale : 0;
    float inverse_minus = largest_minus > 0 ? (float)s->scale_top / largest_minus : 0;
    for (int j = 0; j < s->subs; j++) {
        out->scale[j] = (uint8_t)ht_fit_round(scale[j] * inverse_scale, 0, s->scale_top);
        out->minus[j] = (uint8_t)ht_fit_round(minus[j] * inverse_minus, 0, s->scale_top);
    }
    ht_put_half(out->d, largest_scale / (float)s->scale_top * unit);
    ht_put_half(out->dmin, largest_minus / (float)s->scale_top * unit);
    affine_neighbours(s, x, weight, unit, out);
    float error = affine_codes(s, x, weight, unit, out);
    float d, dmin;
    for (int round = 0; round < 4 && affine_solve(s, x, weight, out, &d, &dmin); round++) {
        affine better = *out;
        ht_put_half(better.d, d * unit);
        ht_put_half(better.dmin, dmin * unit);
        float next = affine_codes(s, x, weight, unit, &better);
        if (!(next < error))
            break;
        error = next;
        *out = better;
    }
}

typedef ht_k_symmetric symmetric;

static void symmetric_encode(const shape *s, const float *input, const float *importance, symmetric *out) {
    float x[HT_FIT_VALUES], weight[HT_FIT_VALUES], scale[HT_FIT_SUBS], largest = 0;
    int exponent = ht_fit_normalize(input, HT_FIT_VALUES, x);
    float unit = ldexpf(1.0f, exponent < -100 ? -100 : exponent);
    for (int i = 0; i < HT_FIT_VALUES; i++)
        weight[i] = importance ? importance[i] : x[i] * x[i];
    for (int j = 0; j < s->subs; j++) {
        scale[j] = ht_fit_symmetric(x + j * s->size, weight + j * s->size, s->size, s->top + 1);
        largest = fabsf(scale[j]) > fabsf(largest) ? scale[j] : largest;
    }
    /* The largest scale takes the negative end, which has one more step. */
    float d = ht_put_half(out->d, largest / (float)(-s->scale_top - 1) * unit) / unit;
    float inverse = largest != 0 ? (float)(-s->scale_top - 1) / largest : 0;
    for (int j = 0; j < s->subs; j++)
        out->scale[j] = (int8_t)ht_fit_round(scale[j] * inverse, -s->scale_top - 1, s->scale_top);
    for (int i = 0; i < HT_FIT_VALUES; i++) {
        float step = d * (float)out->scale[i / s->size];
        out->q[i] = (int8_t)(step != 0 ? ht_fit_round(x[i] / step, -s->top - 1, s->top) : 0);
    }
}

/* 256 two-bit codes, the reverse of gguf_k.c. */
static void put_two_bits(uint8_t *qs, int i, int q) {
    qs[i / 128 * 32 + i % 32] |= (uint8_t)((q & 3) << (i % 128 / 32 * 2));
}

static const shape q2_k = {16, 16, 15, 3}, q3_k = {16, 16, 31, 3}, q4_k = {8, 32, 63, 15}, q5_k = {8, 32, 63, 31},
                   q6_k = {16, 16, 127, 31};

void ht_q2_k_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q2_k *b = (ht_block_q2_k *)block;
    affine a;
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    affine_encode(&q2_k, x, NULL, &a);
    memset(b, 0, sizeof *b);
    memcpy(b->d, a.d, 2);
    memcpy(b->dmin, a.dmin, 2);
    for (int j = 0; j < 16; j++)
        b->scales[j] = (uint8_t)(a.scale[j] | a.minus[j] << 4);
    for (int i = 0; i < 256; i++)
        put_two_bits(b->qs, i, a.q[i]);
}

void ht_q3_k_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q3_k *b = (ht_block_q3_k *)block;
    symmetric a;
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    symmetric_encode(&q3_k, x, NULL, &a);
    memset(b, 0, sizeof *b);
    memcpy(b->d, a.d, 2);
    for (int j = 0; j < 16; j++) {
        int scale = a.scale[j] + 32;
        b->scales[j % 8] |= (uint8_t)((scale & 15) << (j / 8 * 4));
        b->scales[8 + j % 4] |= (uint8_t)(scale >> 4 << (j / 4 * 2));
    }
    for (int i = 0; i < 256; i++) {
        int q = a.q[i] + 4;
        put_two_bits(b->qs, i, q);
        b->hmask[i % 32] |= (uint8_t)(q >> 2 << (i / 32));
    }
}

static void pack_scales(const affine *a, uint8_t *packed) {
    for (int j = 0; j < 4; j++) {
        packed[j] = (uint8_t)(a->scale[j] | a->scale[j + 4] >> 4 << 6);
        packed[j + 4] = (uint8_t)(a->minus[j] | a->minus[j + 4] >> 4 << 6);
        packed[j + 8] = (uint8_t)((a->scale[j + 4] & 15) | (a->minus[j + 4] & 15) << 4);
    }
}

void ht_k_affine_fit(int five_bits, const float *x, const float *importance, ht_k_affine *out) {
    affine_encode(five_bits ? &q5_k : &q4_k, x, importance, out);
}

void ht_k_symmetric_fit(const float *x, const float *importance, ht_k_symmetric *out) {
    symmetric_encode(&q6_k, x, importance, out);
}

void ht_q4_k_pack(const ht_k_affine *a, uint8_t *block) {
    ht_block_q4_k *b = (ht_block_q4_k *)block;
    memcpy(b->d, a->d, 2);
    memcpy(b->dmin, a->dmin, 2);
    pack_scales(a, b->scales);
    for (int i = 0; i < 128; i++) {
        const uint8_t *q = a->q + i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)(q[0] | q[32] << 4);
    }
}

void ht_q5_k_pack(const ht_k_affine *a, uint8_t *block) {
    ht_block_q5_k *b = (ht_block_q5_k *)block;
    memset(b, 0, sizeof *b);
    memcpy(b->d, a->d, 2);
    memcpy(b->dmin, a->dmin, 2);
    pack_scales(a, b->scales);
    for (int i = 0; i < 128; i++) {
        const uint8_t *q = a->q + i / 32 * 64 + i % 32;
        b->qs[i] = (uint8_t)((q[0] & 15) | (q[32] & 15) << 4);
    }
    for (int i = 0; i < 256; i++)
        b->qh[i % 32] |= (uint8_t)(a->q[i] >> 4 << (i / 32));
}

void ht_q6_k_pack(const ht_k_symmetric *a, uint8_t *block) {
    ht_block_q6_k *b = (ht_block_q6_k *)block;
    memset(b, 0, sizeof *b);
    memcpy(b->d, a->d, 2);
    for (int j = 0; j < 16; j++)
        b->scales[j] = (uint8_t)a->scale[j];
    for (int i = 0; i < 256; i++) {
        int half = i / 128, part = i % 128 / 32, at = i % 32, q = a->q[i] + 32;
        b->ql[64 * half + at + 32 * (part & 1)] |= (uint8_t)((q & 15) << (part < 2 ? 0 : 4));
        b->qh[32 * half + at] |= (uint8_t)(q >> 4 << (2 * part));
    }
}

void ht_q4_k_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q4_k *b = (ht_block_q4_k *)block;
    affine a;
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    affine_encode(&q4_k, x, NULL, &a);
    ht_q4_k_pack(&a, block);
}

void ht_q5_k_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q5_k *b = (ht_block_q5_k *)block;
    affine a;
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    affine_encode(&q5_k, x, NULL, &a);
    ht_q5_k_pack(&a, block);
}

void ht_q6_k_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q6_k *b = (ht_block_q6_k *)block;
    symmetric a;
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d))
        return;
    symmetric_encode(&q6_k, x, NULL, &a);
    ht_q6_k_pack(&a, block);
}

/* One f32 scale for 256 codes; the value of largest magnitude becomes -127. No f16, so no saturation. */
void ht_q8_k_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_q8_k *b = (ht_block_q8_k *)block;
    float max = 0, unit[256];
    (void)options;
    if (ht_block_not_finite(x, 256, block, sizeof *b, b->d)) {
        ht_put_u16(b->d + 2, 0x7fc0); /* d is f32 here */
        return;
    }
    memset(b, 0, sizeof *b);
    int exponent = ht_fit_normalize(x, 256, unit);
    for (int i = 0; i < 256; i++)
        max = fabsf(unit[i]) > fabsf(max) ? unit[i] : max;
    float d = max == 0 ? 0 : ldexpf(max / -127.0f, exponent);
    if (!isfinite(d * 127.0f)) /* rounded up at the very end of f32 */
        d = nextafterf(d, 0);
    uint32_t bits;
    memcpy(&bits, &d, sizeof bits);
    ht_put_u16(b->d, bits);
    ht_put_u16(b->d + 2, bits >> 16);
    for (int i = 0; i < 256; i++) {
        int q = max == 0 ? 0 : ht_fit_round(unit[i] * (-127.0f / max), -128, 127);
        b->qs[i] = (uint8_t)q;
        int sum = (int)(int16_t)ht_u16(b->bsums + i / 16 * 2) + q;
        ht_put_u16(b->bsums + i / 16 * 2, (unsigned)sum);
    }
}
