/* Vector-friendly forms of the element formats.
 *
 * Encode: clamp |x| to the largest value as an integer, then two candidates: normals by adding half a unit (less one,
 * plus the last kept bit) to the f32 bits and shifting; subnormals by adding 2^(24 - bias - mantissa), whose last place
 * is the subnormal unit, so that the addition itself rounds. A mask picks one. Decode: the same two cases backwards.
 * The chunk length is a constant, tails are handled one by one.
 * Refuses: nothing. Source: formats specification, section 1.2, equivalents (a) and (b).
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/lanes.h"

#include <string.h>

#include "format/element.h"

enum { CHUNK = 16 };

/* --- Load and store ---------------------------------------------------------------------------------- */

static void load_chunk_f16(const uint16_t *in, float *out) {
    for (int i = 0; i < CHUNK; i++)
        out[i] = ht_f32_from_f16(in[i]);
}

static void load_bf16(const uint16_t *in, size_t n, float *out) {
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK)
        for (size_t j = 0; j < CHUNK; j++)
            out[i + j] = ht_f32_from_bf16(in[i + j]);
    for (; i < n; i++)
        out[i] = ht_f32_from_bf16(in[i]);
}

static void load_f16(const uint16_t *in, size_t n, float *out) {
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK)
        load_chunk_f16(in + i, out + i);
    for (; i < n; i++)
        out[i] = ht_f32_from_f16(in[i]);
}

void ht_lanes_load(const void *x, ht_dtype dtype, size_t at, size_t n, float *out) {
    if (dtype == HT_F32)
        memcpy(out, (const float *)x + at, n * sizeof *out);
    else if (dtype == HT_BF16)
        load_bf16((const uint16_t *)x + at, n, out);
    else
        load_f16((const uint16_t *)x + at, n, out);
}

static void store_bf16(const float *x, size_t n, uint16_t *out) {
    for (size_t i = 0; i < n; i++)
        out[i] = ht_bf16_from_f32(x[i]);
}

static void store_f16(const float *x, size_t n, uint16_t *out) {
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        uint32_t codes[CHUNK];
        for (size_t j = 0; j < CHUNK; j++)
            codes[j] = ht_f16_from_f32(x[i + j]);
        for (size_t j = 0; j < CHUNK; j++)
            out[i + j] = (uint16_t)codes[j];
    }
    for (; i < n; i++)
        out[i] = ht_f16_from_f32(x[i]);
}

void ht_lanes_store(const float *x, size_t n, ht_dtype dtype, void *out, size_t at) {
    if (dtype == HT_F32) {
        memcpy((float *)out + at, x, n * sizeof *x);
        return;
    }
    if (dtype == HT_BF16)
        store_bf16(x, n, (uint16_t *)out + at);
    else
        store_f16(x, n, (uint16_t *)out + at);
}

/* --- Encode -------------------------------------------------------------------------------------------- */

/* What the loops need of an element type; all constants once inlined. */
typedef struct shape {
    unsigned bits, mantissa;
    int bias;
    uint32_t max_bits, nan_code;
    int no_negative_zero;
    uint32_t inf_code; /* decode: first magnitude that is not finite; 1 << bits when there is none */
} shape;

static const shape e4m3 = {8, 3, 7, 0x43e00000, 0x7f, 0, 0x7f};
static const shape e5m2 = {8, 2, 15, 0x47600000, 0x7f, 0, 0x7c};
static const shape e4m3fnuz = {8, 3, 8, 0x43700000, 0x80, 1, 0x100};
static const shape e5m2fnuz = {8, 2, 16, 0x47600000, 0x80, 1, 0x100};
static const shape e2m3 = {6, 3, 1, 0x40f00000, 0x1f, 0, 0x100};
static const shape e3m2 = {6, 2, 3, 0x41e00000, 0x1f, 0, 0x100};
static const shape e2m1 = {4, 1, 1, 0x40c00000, 0x07, 0, 0x100};

/* Comparisons are made on signed integers (all magnitudes are below 2^31): baseline vector units have no unsigned ones.
 */
static inline __attribute__((always_inline)) uint32_t encode_one(float x, const shape s) {
    uint32_t u = ht_f32_bits(x), a = u & 0x7fffffffu, sign = (u >> 31) << (s.bits - 1);
    uint32_t is_nan = (int32_t)a > 0x7f800000;
    a = (int32_t)a > (int32_t)s.max_bits ? s.max_bits : a;
    unsigned drop = 23 - s.mantissa;
    uint32_t normal =
        ((a + (1u << (drop - 1)) - 1 + (a >> drop & 1)) >> drop) - ((uint32_t)(127 - s.bias) << s.mantissa);
    uint32_t magic = (uint32_t)(127 + 24 - s.bias - (int)s.mantissa) << 23;
    uint32_t tiny = ht_f32_bits(ht_f32_from_bits(a) + ht_f32_from_bits(magic)) - magic;
    uint32_t smallest_normal = (uint32_t)(128 - s.bias) << 23;
    uint32_t code = ht_select((int32_t)a < (int32_t)smallest_normal, tiny, normal);
    if (s.no_negative_zero)
        sign = ht_select(code == 0, 0, sign);
    return ht_select(is_nan, s.nan_code, code | sign);
}

static inline __attribute__((always_inline)) void encode_all(const float *x, size_t n, uint8_t *codes, const shape s) {
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        uint32_t c[CHUNK];
        for (int j = 0; j < CHUNK; j++)
            c[j] = encode_one(x[i + (size_t)j], s);
        for (int j = 0; j < CHUNK; j++)
            codes[i + (size_t)j] = (uint8_t)c[j];
    }
    for (; i < n; i++)
        codes[i] = (uint8_t)encode_one(x[i], s);
}

static void encode_e4m3(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e4m3);
}
static void encode_e5m2(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e5m2);
}
static void encode_e4m3fnuz(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e4m3fnuz);
}
static void encode_e5m2fnuz(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e5m2fnuz);
}
static void encode_e2m3(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e2m3);
}
static void encode_e3m2(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e3m2);
}
static void encode_e2m1(const float *x, size_t n, uint8_t *codes) {
    encode_all(x, n, codes, e2m1);
}

static void encode_e8m0(const float *x, size_t n, uint8_t *codes) {
    for (size_t i = 0; i < n; i++) {
        uint32_t a = ht_f32_bits(x[i]) & 0x7fffffffu;
        uint32_t code = a < 0x00800000u ? a > 0x00400000u : (a >> 23) + (a >> 22 & 1);
        codes[i] = (uint8_t)(a >= 0x7f800000u ? 255 : code);
    }
}

/* Nearest even by adding 1.5 * 2^23: the sum's last place is 1. |y| stays far below 2^22. */
static inline int32_t nearest(float y) {
    return (int32_t)(ht_f32_bits(y + 0x1.8p23f) - 0x4b400000u);
}

static void encode_mxint8(const float *x, size_t n, uint8_t *codes) {
    for (size_t i = 0; i < n; i++) {
        float y = x[i] * 64;
        y = y < 127 ? y : 127; /* NaN: 127 */
        y = y > -127 ? y : -127;
        codes[i] = (uint8_t)nearest(y);
    }
}

void ht_lanes_round(const float *y, size_t n, int zero, int qmin, int qmax, uint8_t *codes) {
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        int32_t c[CHUNK];
        for (int j = 0; j < CHUNK; j++) {
            float v = y[i + (size_t)j];
            v = v < 2048 ? v : 2048;
            v = v > -2048 ? v : -2048;
            int32_t q = nearest(v) + zero;
            q = q < qmax ? q : qmax;
            c[j] = q > qmin ? q : qmin;
        }
        for (int j = 0; j < CHUNK; j++)
            codes[i + (size_t)j] = (uint8_t)c[j];
    }
    for (; i < n; i++) {
        float v = y[i] < 2048 ? y[i] : 2048;
        v = v > -2048 ? v : -2048;
        int32_t q = nearest(v) + zero;
        q = q < qmax ? q : qmax;
        codes[i] = (uint8_t)(q > qmin ? q : qmin);
    }
}

/* --- Decode -------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) float decode_one(uint32_t code, const shape s) {
    uint32_t half = 1u << (s.bits - 1), magnitude = code & (half - 1);
    uint32_t shifted = magnitude << (23 - s.mantissa);
    /* Lowest binade: put the fraction behind a leading one, take the one away. (Multiplying the shifted code would meet
     * subnormal operands, which some CPUs handle in microcode.) */
    uint32_t one = (uint32_t)(128 - s.bias) << 23;
    uint32_t tiny = ht_f32_bits(ht_f32_from_bits(shifted + one) - ht_f32_from_bits(one));
    uint32_t u = ht_select((int32_t)magnitude < (1 << s.mantissa), tiny, shifted + ((uint32_t)(127 - s.bias) << 23));
    if (s.inf_code < half) { /* all ones in the exponent: Inf and NaN keep their fraction */
        uint32_t special = s.inf_code == half - 1 ? 0x7fc00000u : (shifted | 0x7f800000u);
        u = ht_select((int32_t)magnitude >= (int32_t)s.inf_code, special, u);
    }
    u |= (code & half) << (32 - s.bits);
    if (s.no_negative_zero)
        u = ht_select(code == half, 0x7fc00000u, u);
    return ht_f32_from_bits(u);
}

static inline __attribute__((always_inline)) void decode_all(const uint8_t *codes, size_t n, float *out,
                                                             const shape s) {
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK) {
        uint32_t c[CHUNK];
        for (int j = 0; j < CHUNK; j++)
            c[j] = codes[i + (size_t)j];
        for (int j = 0; j < CHUNK; j++)
            out[i + (size_t)j] = decode_one(c[j], s);
    }
    for (; i < n; i++)
        out[i] = decode_one(codes[i], s);
}

static void decode_e4m3(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e4m3);
}
static void decode_e5m2(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e5m2);
}
static void decode_e4m3fnuz(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e4m3fnuz);
}
static void decode_e5m2fnuz(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e5m2fnuz);
}
static void decode_e2m3(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e2m3);
}
static void decode_e3m2(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e3m2);
}
static void decode_e2m1(const uint8_t *codes, size_t n, float *out) {
    decode_all(codes, n, out, e2m1);
}

static void decode_e8m0(const uint8_t *codes, size_t n, float *out) {
    for (size_t i = 0; i < n; i++) {
        uint32_t c = codes[i];
        out[i] = ht_f32_from_bits(c == 0 ? 0x00400000u : c == 255 ? 0x7fc00000u : c << 23);
    }
}

static void decode_mxint8(const uint8_t *codes, size_t n, float *out) {
    for (size_t i = 0; i < n; i++)
        out[i] = (float)(int8_t)codes[i] * 0x1p-6f;
}

/* --- One row per type ------------------------------------------------------------------------------------ */

typedef struct lane_row {
    ht_dtype dtype;
    void (*encode)(const float *x, size_t n, uint8_t *codes);
    void (*decode)(const uint8_t *codes, size_t n, float *out);
} lane_row;

static const lane_row rows[] = {
    {HT_F4_E2M1, encode_e2m1, decode_e2m1},
    {HT_F8_E4M3, encode_e4m3, decode_e4m3},
    {HT_F8_E5M2, encode_e5m2, decode_e5m2},
    {HT_F6_E2M3, encode_e2m3, decode_e2m3},
    {HT_F6_E3M2, encode_e3m2, decode_e3m2},
    {HT_I8, encode_mxint8, decode_mxint8},
    {HT_E8M0, encode_e8m0, decode_e8m0},
    {HT_F8_E4M3FNUZ, encode_e4m3fnuz, decode_e4m3fnuz},
    {HT_F8_E5M2FNUZ, encode_e5m2fnuz, decode_e5m2fnuz},
};

static const lane_row *find(ht_dtype dtype) {
    size_t i = 0;
    while (i + 1 < sizeof rows / sizeof *rows && rows[i].dtype != dtype)
        i++;
    return &rows[i];
}

void ht_lanes_encode(ht_dtype dtype, const float *x, size_t n, uint8_t *codes) {
    find(dtype)->encode(x, n, codes);
}

void ht_lanes_decode(ht_dtype dtype, const uint8_t *codes, size_t n, float *out) {
    find(dtype)->decode(codes, n, out);
}

/* --- Reductions -------------------------------------------------------------------------------------------- */

uint32_t ht_lanes_amax(const float *x, size_t n) {
    int32_t best[CHUNK] = {0};
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK)
        for (size_t j = 0; j < CHUNK; j++) {
            int32_t a = (int32_t)(ht_f32_bits(x[i + j]) & 0x7fffffffu);
            best[j] = a > best[j] ? a : best[j];
        }
    for (; i < n; i++) {
        int32_t a = (int32_t)(ht_f32_bits(x[i]) & 0x7fffffffu);
        best[0] = a > best[0] ? a : best[0];
    }
    for (int step = CHUNK / 2; step; step /= 2)
        for (int j = 0; j < step; j++)
            best[j] = best[j + step] > best[j] ? best[j + step] : best[j];
    return (uint32_t)best[0];
}

void ht_lanes_min_max(const float *x, size_t n, float *min, float *max) {
    float low[CHUNK], high[CHUNK];
    for (size_t j = 0; j < CHUNK; j++)
        low[j] = high[j] = x[0];
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK)
        for (size_t j = 0; j < CHUNK; j++) {
            low[j] = x[i + j] < low[j] ? x[i + j] : low[j];
            high[j] = x[i + j] > high[j] ? x[i + j] : high[j];
        }
    for (; i < n; i++) {
        low[0] = x[i] < low[0] ? x[i] : low[0];
        high[0] = x[i] > high[0] ? x[i] : high[0];
    }
    for (int step = CHUNK / 2; step; step /= 2)
        for (int j = 0; j < step; j++) {
            low[j] = low[j + step] < low[j] ? low[j + step] : low[j];
            high[j] = high[j + step] > high[j] ? high[j + step] : high[j];
        }
    *min = low[0];
    *max = high[0];
}

float ht_lanes_error(const float *a, const float *b, size_t n) {
    float sum[CHUNK] = {0};
    size_t i = 0;
    for (; i + CHUNK <= n; i += CHUNK)
        for (size_t j = 0; j < CHUNK; j++) {
            float d = a[i + j] - b[i + j];
            sum[j] += d * d;
        }
    for (; i < n; i++) {
        float d = a[i] - b[i];
        sum[i % CHUNK] += d * d;
    }
    for (int step = CHUNK / 2; step; step /= 2)
        for (int j = 0; j < step; j++)
            sum[j] += sum[j + step];
    return sum[0];
}
