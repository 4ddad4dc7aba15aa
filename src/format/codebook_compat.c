/* NF4 and FP4 as bitsandbytes and torchao store them: for reading their checkpoints exactly and writing what they read.
 *
 * Both run blocks over the flattened matrix and may store the scales in 8 bits around their mean over the whole matrix.
 * To read such a weight: unnest the scales to f32 and keep the codes; when cols is a multiple of the block the result
 * is a weight of format nf4_flat, fp4_flat or nf4_torchao, and nothing is lost. To write: the reverse.
 * Defined here and not there: zero blocks get the code of zero, equal scales nest to themselves, NaN or Inf gives a NaN
 * scale.
 * Source: the formats specification, sections 4.1, 4.2, 5.1 and 11.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/codebook.h"

#include <math.h> /* fabsf, isinf, rintf */

#include "format/bits.h"
#include "format/map.h"

enum { NEST = 256, TORCHAO_BLOCK = 64 };

static void put_high_first(uint8_t *packed, size_t i, unsigned code) {
    packed[i / 2] = (uint8_t)(i % 2 ? packed[i / 2] | code : code << 4);
}

static unsigned get_high_first(const uint8_t *packed, size_t i) {
    return packed[i / 2] >> (i % 2 ? 0 : 4) & 15u;
}

void ht_bnb_quantize_4bit(const ht_codebook *book, const float *x, size_t count, size_t block, uint8_t *packed,
                          float *absmax) {
    for (size_t at = 0; at < count; at += block, absmax++) {
        size_t n = count - at < block ? count - at : block;
        *absmax = ht_finite_amax(x + at, n);
        float inverse = 1.0f / *absmax;
        int divide = n < block || isinf(inverse);
        for (size_t i = at; i < at + n; i++) {
            float v = divide ? x[i] / *absmax : x[i] * inverse;
            put_high_first(packed, i, *absmax > 0 ? ht_codebook_encode(book, v) : book->zero);
        }
    }
}

void ht_bnb_dequantize_4bit(const ht_codebook *book, const uint8_t *packed, const float *absmax, size_t count,
                            size_t block, float *y) {
    for (size_t i = 0; i < count; i++)
        y[i] = book->value[get_high_first(packed, i)] * absmax[i / block];
}

void ht_bnb_nest(const float *map, const float *absmax, size_t count, float offset, uint8_t *codes, float *absmax2) {
    float centred[NEST];
    for (size_t at = 0; at < count; at += NEST) {
        size_t n = count - at < NEST ? count - at : NEST;
        for (size_t i = 0; i < n; i++)
            centred[i] = absmax[at + i] - offset;
        ht_bnb_quantize_8bit(map, centred, n, NEST, codes + at, absmax2++);
    }
}

void ht_bnb_unnest(const float *map, const uint8_t *codes, const float *absmax2, size_t count, float offset,
                   float *absmax) {
    for (size_t i = 0; i < count; i++)
        absmax[i] = map[codes[i]] * absmax2[i / NEST] + offset;
}

/* The nearest value when the table and the distances are rounded to `dtype`; the lower code if equal. */
static unsigned torchao_code(float x, ht_dtype dtype) {
    const float *value = ht_codebook_at(HT_CODEBOOK_NF4_TORCHAO)->value;
    unsigned best = 0;
    float best_distance = INFINITY;
    for (unsigned code = 0; code < 16; code++) {
        float distance = fabsf(ht_round_to(dtype, x - ht_round_to(dtype, value[code])));
        if (distance < best_distance) {
            best_distance = distance;
            best = code;
        }
    }
    return best;
}

void ht_torchao_nf4_quantize(const float *x, size_t count, ht_dtype arithmetic, uint8_t *packed, float *absmax) {
    unsigned zero = ht_codebook_at(HT_CODEBOOK_NF4_TORCHAO)->zero;
    for (size_t at = 0; at < count; at += TORCHAO_BLOCK, absmax++) {
        *absmax = ht_finite_amax(x + at, TORCHAO_BLOCK);
        for (size_t i = at; i < at + TORCHAO_BLOCK; i++) {
            float v = ht_round_to(arithmetic, x[i] / *absmax);
            put_high_first(packed, i, *absmax > 0 ? torchao_code(v, arithmetic) : zero);
        }
    }
}

void ht_torchao_nf4_nest(const float *absmax, size_t count, float mean, ht_dtype arithmetic, int8_t *codes,
                         float *factor) {
    for (size_t at = 0; at < count; at += NEST, factor++) {
        size_t n = count - at < NEST ? count - at : NEST;
        float largest = 0;
        for (size_t i = at; i < at + n; i++) {
            float centred = fabsf(ht_round_to(arithmetic, absmax[i] - mean));
            if (isnan(centred) || centred > largest)
                largest = centred;
        }
        *factor = 1.0f; /* equal scales: the codes are zero and the factor is any number */
        if (!(largest == 0))
            *factor = ht_round_to(arithmetic, 256.0f / ht_round_to(arithmetic, 2.0f * largest));
        for (size_t i = at; i < at + n; i++) {
            float scaled = ht_round_to(arithmetic, ht_round_to(arithmetic, absmax[i] - mean) * *factor);
            scaled = rintf(scaled);
            codes[i] = isnan(scaled) ? 0 : (int8_t)(scaled < -128 ? -128 : scaled > 127 ? 127 : scaled);
        }
    }
}

void ht_torchao_nf4_unnest(const int8_t *codes, const float *factor, size_t count, float mean, ht_dtype arithmetic,
                           float *absmax) {
    for (size_t i = 0; i < count; i++) {
        float centred = ht_round_to(arithmetic, (float)codes[i] / factor[i / NEST]);
        absmax[i] = ht_round_to(arithmetic, centred + mean);
    }
}

void ht_torchao_nf4_dequantize(const uint8_t *packed, const float *absmax, size_t count, ht_dtype arithmetic,
                               float *y) {
    const float *value = ht_codebook_at(HT_CODEBOOK_NF4_TORCHAO)->value;
    for (size_t i = 0; i < count; i++)
        y[i] = ht_round_to(arithmetic,
                           ht_round_to(arithmetic, value[get_high_first(packed, i)]) * absmax[i / TORCHAO_BLOCK]);
}

float ht_mean(const float *x, size_t count, ht_dtype dtype) {
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += (double)x[i];
    return count ? ht_round_to(dtype, (float)(sum / (double)count)) : 0;
}
