/* The bytes of GGUF blocks, and the few helpers that all block files share. Numbers are little-endian; every member is
 * a byte array, so a block may lie at any address and the structs have no padding.
 * Source: the formats specification, section 8.5; IQ, TQ, Q1_0, Q2_0 and Q8_1 layouts: docs/formats-gguf.md. */
#ifndef HT_FORMAT_GGUF_BLOCK_H
#define HT_FORMAT_GGUF_BLOCK_H

#include <math.h> /* isfinite */
#include <stdint.h>
#include <string.h> /* memset */

#include <halftone/format.h>

#include "format/bits.h"

/* d, m: f16 numbers. qs: the codes, qh: their upper bits. */
typedef struct {
    uint8_t d[2], qs[16];
} ht_block_q4_0;
typedef struct {
    uint8_t d[2], m[2], qs[16];
} ht_block_q4_1;
typedef struct {
    uint8_t d[2], qh[4], qs[16];
} ht_block_q5_0;
typedef struct {
    uint8_t d[2], m[2], qh[4], qs[16];
} ht_block_q5_1;
typedef struct {
    uint8_t d[2], qs[32];
} ht_block_q8_0;
typedef struct {
    uint8_t d[2], s[2], qs[32];
} ht_block_q8_1; /* s = d * sum(qs) */

typedef struct {
    uint8_t scales[16], qs[64], d[2], dmin[2];
} ht_block_q2_k;
typedef struct {
    uint8_t hmask[32], qs[64], scales[12], d[2];
} ht_block_q3_k;
typedef struct {
    uint8_t d[2], dmin[2], scales[12], qs[128];
} ht_block_q4_k;
typedef struct {
    uint8_t d[2], dmin[2], scales[12], qh[32], qs[128];
} ht_block_q5_k;
typedef struct {
    uint8_t ql[128], qh[64], scales[16], d[2];
} ht_block_q6_k;
typedef struct {
    uint8_t d[4], qs[256], bsums[32];
} ht_block_q8_k; /* d: f32; bsums: i16 sums of 16 codes */

typedef struct {
    uint8_t d[2], qs[64];
} ht_block_iq2_xxs;
typedef struct {
    uint8_t d[2], qs[64], scales[8];
} ht_block_iq2_xs;
typedef struct {
    uint8_t d[2], qs[32], signs[32], qh[8], scales[8];
} ht_block_iq2_s;
typedef struct {
    uint8_t d[2], qs[64], scales[32];
} ht_block_iq3_xxs;
typedef struct {
    uint8_t d[2], qs[64], qh[8], signs[32], scales[4];
} ht_block_iq3_s;
typedef struct {
    uint8_t d[2], qs[32], qh[16];
} ht_block_iq1_s;
typedef struct {
    uint8_t qs[32], qh[16], scales[8];
} ht_block_iq1_m; /* f16 d: the top nibbles of the four scales words */
typedef struct {
    uint8_t d[2], qs[16];
} ht_block_iq4_nl;
typedef struct {
    uint8_t d[2], scales_h[2], scales_l[4], qs[128];
} ht_block_iq4_xs;

typedef struct {
    uint8_t qs[48], qh[4], d[2];
} ht_block_tq1_0;
typedef struct {
    uint8_t qs[64], d[2];
} ht_block_tq2_0;
typedef struct {
    uint8_t d[2], qs[16];
} ht_block_q1_0;
typedef struct {
    uint8_t d[2], qs[16];
} ht_block_q2_0;

typedef struct {
    uint8_t e, qs[16];
} ht_block_mxfp4;
typedef struct {
    uint8_t d[4], qs[32];
} ht_block_nvfp4;

static inline unsigned ht_u16(const uint8_t *p) {
    return p[0] | (unsigned)p[1] << 8;
}

static inline uint32_t ht_u32(const uint8_t *p) {
    return ht_u16(p) | (uint32_t)ht_u16(p + 2) << 16;
}

static inline void ht_put_u16(uint8_t *p, unsigned v) {
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline float ht_half(const uint8_t *p) {
    return ht_f32_from_f16((uint16_t)ht_u16(p));
}

/* Store v as f16, at most 65504 in magnitude; returns what was stored. */
static inline float ht_put_half(uint8_t *p, float v) {
    v = v > 65504.0f ? 65504.0f : v < -65504.0f ? -65504.0f : v;
    ht_put_u16(p, ht_f16_from_f32(v));
    return ht_half(p);
}

/* A block with NaN or Inf: d (and nothing else) becomes NaN, so that every value decodes to NaN. 1 when it did. */
static inline int ht_block_not_finite(const float *x, int n, uint8_t *block, size_t bytes, uint8_t *d) {
    for (int i = 0; i < n; i++) {
        if (!isfinite(x[i])) {
            memset(block, 0, bytes);
            ht_put_u16(d, 0x7e00);
            return 1;
        }
    }
    return 0;
}

/* v clipped to [lo, hi], fraction dropped (v must not be NaN). */
static inline int ht_clip_level(float v, int lo, int hi) {
    return v <= (float)lo ? lo : v >= (float)hi ? hi : (int)v;
}

/* 1/d, or 0 when the stored scale is zero: every code then is the one of zero. */
static inline float ht_inverse(float d, float stored) {
    return stored == 0.0f ? 0.0f : 1.0f / d;
}

/* 32 codes of 4 bits: byte j holds code j (low) and j + 16 (high). */
static inline unsigned ht_split_nibble(const uint8_t *qs, int i) {
    return i < 16 ? qs[i] & 15u : qs[i - 16] >> 4;
}

#endif
