/* GGUF blocks of 4-bit floats: MXFP4 (32 values, e8m0 scale) and NVFP4 (64 values, four e4m3 scales, no matrix scale).
 *
 *     gguf_mxfp4  e | 16 bytes, byte j = code j + 16 * code (j + 16)                     y = e2m1(q) 2^(e - 127)
 *     gguf_nvfp4  d[4] | per 16 values 8 bytes, byte j = code j + 16 * code (j + 8)      y = e2m1(q) e4m3(d)
 *
 * Codes are the nearest values; a tie goes to the smaller magnitude, and zero is always code 0, as other writers of
 * these blocks have it. (The planar formats mxfp4 and nvfp4 break ties to even.) Two defects of the common encoder are
 * not repeated: a tiny block gets exponent byte 0 instead of wrapping around to 255, and NVFP4 scales are e4m3 rounded
 * to nearest even with all values up to 448 in use.
 * NaN or Inf: exponent byte 255, or scale byte 7f for the 16 values concerned; both decode to NaN, with every code.
 * The sign bit of a NVFP4 scale is ignored.
 * Scale rules: HT_SCALE_FLOOR for MXFP4 gives the bytes of other writers; the default takes the exponent above when
 * that leaves the smaller squared error. NVFP4: amax / 6; HT_SCALE_MSE also tries the neighbouring scales. Source: the
 * formats specification, sections 2.2 and 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf.h"

#include "format/gguf_block.h"
#include "format/mx.h"

_Static_assert(sizeof(ht_block_mxfp4) == 17 && sizeof(ht_block_nvfp4) == 36, "4-bit float blocks");

/* Code 8 is +0 here, as other readers of these blocks have it. */
static const float value[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, 0, -0.5f, -1, -1.5f, -2, -3, -4, -6};

void ht_gguf_mxfp4_decode(const uint8_t *block, float *y) {
    const ht_block_mxfp4 *b = (const ht_block_mxfp4 *)block;
    float scale = ht_element_decode(HT_E8M0, b->e);
    for (int j = 0; j < 16; j++) {
        y[j] = value[b->qs[j] & 15] * scale;
        y[j + 16] = value[b->qs[j] >> 4] * scale;
    }
}

void ht_gguf_nvfp4_decode(const uint8_t *block, float *y) {
    const ht_block_nvfp4 *b = (const ht_block_nvfp4 *)block;
    for (int s = 0; s < 4; s++) {
        float scale = ht_element_decode(HT_F8_E4M3, b->d[s] & 127u);
        for (int j = 0; j < 8; j++) {
            y[16 * s + j] = value[b->qs[8 * s + j] & 15] * scale;
            y[16 * s + j + 8] = value[b->qs[8 * s + j] >> 4] * scale;
        }
    }
}

/* Code of the value nearest to v, with a magnitude of at most code top. */
static unsigned nearest(float v, unsigned top) {
    float a = fabsf(v);
    unsigned code = 0;
    while (code < top && a > 0.5f * (value[code] + value[code + 1]))
        code++;
    return code && v < 0 ? code | 8 : code;
}

static float largest(const float *x, int n) {
    float amax = 0;
    for (int i = 0; i < n; i++)
        amax = fabsf(x[i]) > amax ? fabsf(x[i]) : amax;
    return amax;
}

/* Codes of n values times the inverse of a scale, which is given as two factors so that both stay within f32; returns
 * the squared error in units of the scale. */
static float codes(const float *x, int n, float factor, float factor2, unsigned top, unsigned *q) {
    float error = 0;
    for (int i = 0; i < n; i++) {
        float v = x[i] * factor * factor2;
        q[i] = nearest(v, top);
        error += (v - value[q[i]]) * (v - value[q[i]]);
    }
    return error;
}

/* Squared error and codes for exponent byte e. */
static float mxfp4_codes(const float *x, int e, unsigned *q) {
    int power = 127 - e;
    unsigned top = e < 253 ? 7 : e == 253 ? 5 : 3; /* 4 * 2^126 and 2 * 2^127 are beyond f32 */
    return codes(x, 32, ldexpf(1.0f, power / 2), ldexpf(1.0f, power - power / 2), top, q);
}

void ht_gguf_mxfp4_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_mxfp4 *b = (ht_block_mxfp4 *)block;
    ht_scale_rule rule = options->scale_rule == HT_SCALE_DEFAULT ? HT_SCALE_MSE : options->scale_rule;
    unsigned q[2][32];
    for (int i = 0; i < 32; i++) {
        if (!isfinite(x[i])) {
            memset(b, 0, sizeof *b);
            b->e = 255;
            return;
        }
    }
    int e = ht_mx_scale_byte(rule, HT_F4_E2M1, ht_f32_bits(largest(x, 32))), pick = 0;
    e = e > 253 ? 253 : e; /* EVEN may carry the largest numbers to Inf: the exponent above FLOOR's is enough */
    float error = mxfp4_codes(x, e, q[0]);
    if (rule == HT_SCALE_MSE && e < 254 && 4.0f * mxfp4_codes(x, e + 1, q[1]) < error) /* a step is twice as long */
        pick = 1;
    b->e = (uint8_t)(e + pick);
    for (int j = 0; j < 16; j++)
        b->qs[j] = (uint8_t)(q[pick][j] | q[pick][j + 16] << 4);
}

/* Scale byte and codes of 16 values. */
static int nvfp4_scale(const ht_row_options *options, const float *x, unsigned *q) {
    float amax = largest(x, 16), best_error = INFINITY;
    int nearest_scale = (int)ht_element_encode(HT_F8_E4M3, amax / 6.0f), best = nearest_scale;
    int reach = options->scale_rule == HT_SCALE_MSE && nearest_scale > 0 ? 2 : 0;
    unsigned trial[16];
    for (int step = 0; step <= 2 * reach; step++) {
        int byte = nearest_scale + (step & 1 ? (step + 1) / 2 : -step / 2); /* 0, +1, -1, +2, -2 */
        if (byte < (step ? 1 : 0) || byte > 0x7e)
            continue;
        float scale = ht_element_decode(HT_F8_E4M3, (uint32_t)byte);
        float error = codes(x, 16, byte ? 1.0f / scale : 0.0f, 1.0f, 7, trial) * scale * scale;
        if (error < best_error || step == 0) {
            best_error = error;
            best = byte;
            memcpy(q, trial, sizeof trial);
        }
    }
    return best;
}

void ht_gguf_nvfp4_encode(const ht_row_options *options, const float *x, uint8_t *block) {
    ht_block_nvfp4 *b = (ht_block_nvfp4 *)block;
    memset(b, 0, sizeof *b);
    for (int s = 0; s < 4; s++) {
        const float *part = x + 16 * s;
        unsigned q[16] = {0};
        int finite = 1;
        for (int i = 0; i < 16; i++)
            finite = finite && isfinite(part[i]);
        if (!finite) {
            b->d[s] = 0x7f;
            continue;
        }
        b->d[s] = (uint8_t)nvfp4_scale(options, part, q);
        for (int j = 0; j < 8; j++)
            b->qs[8 * s + j] = (uint8_t)(q[j] | q[j + 8] << 4);
    }
}
