/* MX blocks, 16 at a time. Body of ht_quantize_mx_*; see format/mx.c for the rules. */
#ifndef HT_KERNELS_BODY_CAST_MX_H
#define HT_KERNELS_BODY_CAST_MX_H

#include "format/element.h"
#include "kernels/body/cast_half.h"

enum { MX_BLOCK = 32, MX_BLOCKS = CAST_CHUNK / MX_BLOCK };

/* How one element type does it; `shape` of MXINT8 is not read. */
typedef struct mx_element {
    cast_shape shape;
    int is_int, is_e2m1;
} mx_element;

WIDE wi mx_encode(wf scaled, const mx_element e) {
    if (!e.is_int)
        return w_encode(scaled, e.shape);
    wf y = w_mul(scaled, w_float(64));
    return w_nearest(w_most(w_least(y, w_float(127)), w_float(-127)));
}

WIDE wf mx_decode(wi code, const mx_element e) {
    if (e.is_int)
        return w_mul(w_from_int(code), w_float(0x1p-6f));
    return e.is_e2m1 ? w_lookup(w_load(cast_e2m1_values), code) : w_decode(code, e.shape);
}

/* Scale bytes of 16 blocks; MSE gives FLOOR's. */
WIDE wi mx_scale_bytes(ht_scale_rule rule, const ht_element *e, wi amax) {
    wi exponent = w_right(amax, 23), fraction = w_and(amax, w_int(0x7fffff)), byte;
    wi zero = w_int(0), top = w_int((uint32_t)e->max_pow2);
    if (rule == HT_SCALE_RCEIL) {
        wi d = w_bits(w_mul(w_from_bits(amax), w_float(1.0f / ht_f32_from_bits(e->max_bits))));
        exponent = w_right(d, 23);
        wi least = w_choose(w_above(exponent, zero), zero, w_int(0x400000));
        byte = w_iadd(exponent, w_choose(w_above(w_and(d, w_int(0x7fffff)), least), w_int(1), zero));
    } else if (rule == HT_SCALE_EVEN || rule == HT_SCALE_EVEN_FP4) {
        unsigned mantissa = rule == HT_SCALE_EVEN ? e->mantissa : 1;
        exponent = w_right(w_iadd(amax, w_int(1u << (22 - mantissa))), 23);
        byte = w_choose(w_above(exponent, w_int(254)), w_int(255), w_imax(w_isub(exponent, top), zero));
    } else {
        wi up = w_choose(w_above(fraction, zero), w_int(rule == HT_SCALE_CEIL), zero);
        byte = w_imax(w_iadd(w_isub(exponent, top), up), zero);
    }
    if (e->max_pow2 == 0)
        byte = w_imin(byte, w_int(254));
    return w_choose(w_above(amax, w_int(0x7f7fffffu)), w_int(255), byte);
}

/* 2^(127 - byte); anything for 255, whose codes are set apart. */
WIDE wf mx_factors(wi byte) {
    wi bits = w_left(w_isub(w_int(254), byte), 23);
    return w_from_bits(w_choose(w_above(byte, w_int(253)), w_int(0x00400000u), bits));
}

/* Sum of squared differences in units of the scale. Signs do not matter, so magnitudes will do. */
WIDE float mx_error(wf low, wf high, float factor, const mx_element e) {
    wf sum = w_float(0);
    for (int half = 0; half < 2; half++) {
        wf scaled = w_mul(half ? high : low, w_float(factor)), d;
        if (e.is_int) {
            d = w_sub(scaled, mx_decode(mx_encode(scaled, e), e));
        } else {
            wi a = w_magnitude(scaled), code = w_encode_magnitude(a, e.shape);
            d = w_sub(w_from_bits(a), mx_decode(code, e));
        }
        sum = half ? w_add(sum, w_mul(d, d)) : w_mul(d, d);
    }
    return w_fold(sum);
}

/* Blocks that FLOOR saturates get one more where that leaves a smaller error. */
WIDE void mx_search(const ht_cast *cast, size_t block, wi amax, uint32_t max_bits, const mx_element e, uint32_t *bytes,
                    float *factors) {
    wi byte = w_load_int(bytes);
    wm loud = w_above(w_bits(w_mul(w_from_bits(amax), w_load(factors))), w_int(max_bits));
    unsigned todo = w_mask(loud) & w_mask(w_above(w_int(254), byte));
    for (; todo; todo &= todo - 1) {
        int b = __builtin_ctz(todo);
        size_t at = (block + (size_t)b) * MX_BLOCK;
        wf low = cast_values(cast, at), high = cast_values(cast, at + CAST_LANES);
        int up = mx_error(low, high, factors[b], e) > 4 * mx_error(low, high, factors[b] * 0.5f, e);
        bytes[b] += (uint32_t)up;
    }
    w_store(factors, mx_factors(w_load_int(bytes)));
}

/* A block of NaN, codes and values. */
static void mx_no_number(const ht_cast *cast, const ht_element *e, uint8_t *run, size_t block, float *decoded) {
    for (size_t i = block * MX_BLOCK; i < (block + 1) * MX_BLOCK; i += CAST_LANES) {
        w_put(cast->format->packing, e->bits, run, i, w_int(e->nan_code));
        if (decoded)
            w_store(decoded + i, w_from_bits(w_int(0x7fc00000u)));
    }
}

/* Up to 16 blocks in a row of blocks. */
WIDE void mx_chunk(const ht_cast *cast, ht_scale_rule rule, const ht_element *row, const mx_element e, size_t block,
                   size_t count, unsigned bits, ht_packing packing) {
    float x[CAST_CHUNK], factors[MX_BLOCKS];
    uint32_t amax[MX_BLOCKS] = {0}, bytes[MX_BLOCKS];
    uint8_t lines[CAST_CHUNK], *place = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + block * MX_BLOCK * bits / 8;
    int streams = cast->streams && cast_is_line(place, count * MX_BLOCK * bits / 8);
    uint8_t *run = streams ? lines : place;
    uint8_t *scales = (uint8_t *)cast->planes->plane[HT_PLANE_SCALES] + block;
    float *decoded = cast->decoded ? cast->decoded + block * MX_BLOCK : NULL;
    cast_load(cast->x, cast->x_dtype, block * MX_BLOCK, count * MX_BLOCK, x);
    for (size_t b = 0; b < count; b++)
        amax[b] = cast_amax(x + b * MX_BLOCK, MX_BLOCK);
    wi largest = w_load_int(amax), byte = mx_scale_bytes(rule, row, largest);
    w_store_int(bytes, byte);
    w_store(factors, mx_factors(byte));
    if (rule == HT_SCALE_MSE)
        mx_search(cast, block, largest, row->max_bits, e, bytes, factors);
    for (size_t b = 0; b < count; b++) {
        wf factor = w_float(factors[b]), scale = w_e8m0(w_int(bytes[b]));
        scales[b] = (uint8_t)bytes[b];
        for (size_t i = b * MX_BLOCK; i < (b + 1) * MX_BLOCK; i += CAST_LANES) {
            wi code = mx_encode(w_mul(w_load(x + i), factor), e);
            w_put(packing, bits, run, i, code);
            if (decoded)
                w_store(decoded + i, w_mul(mx_decode(code, e), scale));
        }
        if (bytes[b] == 255)
            mx_no_number(cast, row, run, b, decoded);
    }
    if (streams)
        cast_stream(place, lines, count * MX_BLOCK * bits / 8);
}

/* Largest magnitudes of count blocks as f32 bits, and their halves: bf16 as they are, f32 rounded to odd into buffer.
 */
WIDE const uint16_t *mx_halves(const ht_cast *cast, size_t at, size_t count, uint16_t *buffer, uint32_t *amax) {
    if (cast->x_dtype == HT_BF16) {
        const uint16_t *x = (const uint16_t *)cast->x + at;
        for (size_t b = 0; b < count; b++)
            amax[b] = (uint32_t)h_largest(h_magnitude(h_load(x + b * MX_BLOCK))) << 16;
        return x;
    }
    const float *x = (const float *)cast->x + at;
    for (size_t b = 0; b < count; b++) {
        wf low = w_load(x + b * MX_BLOCK), high = w_load(x + b * MX_BLOCK + CAST_LANES);
        amax[b] = w_largest(w_imax(w_magnitude(low), w_magnitude(high)));
        h_store(buffer + b * MX_BLOCK, h_odd(low, high));
    }
    return buffer;
}

/* Values of 32 codes. */
WIDE void mx_decode_block(__m256i codes, float scale, const mx_element e, float *decoded) {
    wi low = w_from_bytes(_mm256_castsi256_si128(codes)), high = w_from_bytes(_mm256_extracti128_si256(codes, 1));
    w_store(decoded, w_mul(mx_decode(low, e), w_float(scale)));
    w_store(decoded + CAST_LANES, w_mul(mx_decode(high, e), w_float(scale)));
}

/* One block by f32: NaN, and numbers so small that bf16 ones may be subnormal. */
WIDE void mx_odd_block(const ht_cast *cast, size_t block, unsigned byte, const ht_element *row, const mx_element e,
                       uint8_t *run, size_t b, float *decoded) {
    ht_packing packing = cast->format->packing;
    if (byte == 255) {
        mx_no_number(cast, row, run, b, decoded);
        return;
    }
    wf factor = w_float(ht_f32_from_bits(byte == 254 ? 0x00400000u : (254 - byte) << 23));
    for (size_t i = 0; i < MX_BLOCK; i += CAST_LANES) {
        wi code = mx_encode(w_mul(cast_values(cast, (block + b) * MX_BLOCK + i), factor), e);
        w_put(packing, row->bits, run, b * MX_BLOCK + i, code);
        if (decoded)
            w_store(decoded + b * MX_BLOCK + i, w_mul(mx_decode(code, e), w_e8m0(w_int(byte))));
    }
}

/* Up to 16 blocks of bf16 or f32, in 16-bit lanes. */
WIDE void mx_chunk_half(const ht_cast *cast, ht_scale_rule rule, const ht_element *row, const mx_element e,
                        size_t block, size_t count, unsigned bits, ht_packing packing) {
    float factors[MX_BLOCKS], scales[MX_BLOCKS];
    uint16_t buffer[CAST_CHUNK];
    uint32_t amax[MX_BLOCKS] = {0}, bytes[MX_BLOCKS];
    uint8_t lines[CAST_CHUNK], *place = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + block * MX_BLOCK * bits / 8;
    int streams = cast->streams && cast_is_line(place, count * MX_BLOCK * bits / 8);
    uint8_t *run = streams ? lines : place;
    float *decoded = cast->decoded ? cast->decoded + block * MX_BLOCK : NULL;
    const uint16_t *x = mx_halves(cast, block * MX_BLOCK, count, buffer, amax);
    wi largest = w_load_int(amax), byte = mx_scale_bytes(rule, row, largest);
    w_store_int(bytes, byte);
    if (rule == HT_SCALE_MSE) {
        w_store(factors, mx_factors(byte));
        mx_search(cast, block, largest, row->max_bits, e, bytes, factors);
        byte = w_load_int(bytes);
    }
    w_store(scales, w_e8m0(byte));
    for (size_t b = 0; b < count; b++) {
        wh values = h_load(x + b * MX_BLOCK), magnitude = h_magnitude(values);
        wh t = h_sub(magnitude, h_int(((int)bytes[b] - e.shape.bias) * 128));
        wh code = half_with_sign(half_encode_magnitude(t, magnitude, e.shape), values, e.shape);
        __m256i codes = h_bytes(code);
        half_put(packing, bits, run, b * MX_BLOCK, codes);
        if (decoded)
            mx_decode_block(codes, scales[b], e, decoded + b * MX_BLOCK);
    }
    __m128i all = w_bytes(byte);
    uint8_t scale_bytes[MX_BLOCKS];
    w_put_bytes(scale_bytes, all);
    memcpy((uint8_t *)cast->planes->plane[HT_PLANE_SCALES] + block, scale_bytes, count);
    wi small = w_int((uint32_t)e.shape.bias + 8);
    unsigned odd = w_mask(w_above(small, byte)) | w_mask(w_above(byte, w_int(254)));
    for (odd &= (1u << count) - 1; odd; odd &= odd - 1) {
        size_t b = (size_t)__builtin_ctz(odd);
        mx_odd_block(cast, block, bytes[b], row, e, run, b, decoded);
    }
    if (streams)
        cast_stream(place, lines, count * MX_BLOCK * bits / 8);
}

WIDE ht_status mx_all(const ht_cast *cast, const mx_element e, unsigned bits, ht_packing packing) {
    const ht_element *row = ht_element_find(cast->format->element);
    ht_scale_rule rule = cast->options->scale_rule;
    rule = rule == HT_SCALE_DEFAULT ? HT_SCALE_MSE : rule;
    size_t blocks = cast->rows * (cast->cols / MX_BLOCK);
    int half = !e.is_int && cast->x_dtype != HT_F16;
    for (size_t b = 0, count; b < blocks; b += count) {
        count = blocks - b < MX_BLOCKS ? blocks - b : MX_BLOCKS;
        if (half)
            mx_chunk_half(cast, rule, row, e, b, count, bits, packing);
        else
            mx_chunk(cast, rule, row, e, b, count, bits, packing);
    }
    if (cast->streams)
        w_fence();
    return HT_OK;
}

WIDE ht_status mx_back(const ht_uncast *uncast, const mx_element e, unsigned bits, ht_packing packing) {
    const uint8_t *codes = uncast->planes->plane[HT_PLANE_CODES], *scales = uncast->planes->plane[HT_PLANE_SCALES];
    size_t blocks = uncast->rows * (uncast->cols / MX_BLOCK);
    float buffer[CAST_CHUNK], units[MX_BLOCKS];
    uint8_t bytes[MX_BLOCKS] = {0};
    for (size_t block = 0, count; block < blocks; block += count) {
        count = blocks - block < MX_BLOCKS ? blocks - block : MX_BLOCKS;
        memcpy(bytes, scales + block, count);
        w_store(units, w_e8m0(w_from_bytes(w_get_bytes(bytes))));
        const uint8_t *run = codes + block * MX_BLOCK * bits / 8;
        float *to = cast_begin(uncast, block * MX_BLOCK, count * MX_BLOCK, buffer);
        for (size_t b = 0; b < count; b++)
            for (size_t i = b * MX_BLOCK; i < (b + 1) * MX_BLOCK; i += CAST_LANES) {
                wf value;
                if (e.is_int)
                    value = w_mul(w_from_int(w_from_signed_bytes(w_get_bytes(run + i))), w_float(0x1p-6f));
                else if (e.is_e2m1)
                    value = w_lookup(w_load(cast_e2m1_values), w_get(packing, bits, run, i));
                else
                    value = w_decode_any(w_get(packing, bits, run, i), e.shape);
                w_store(to + i, w_mul(value, w_float(units[b])));
            }
        cast_finish(uncast, block * MX_BLOCK, count * MX_BLOCK, to, buffer);
    }
    if (uncast->streams)
        w_fence();
    return HT_OK;
}

/* One of the two directions. */
WIDE ht_status mx_either(const ht_cast *cast, const ht_uncast *uncast, const mx_element e, unsigned bits,
                         ht_packing packing) {
    return cast ? mx_all(cast, e, bits, packing) : mx_back(uncast, e, bits, packing);
}

WIDE ht_status mx_by_element(const ht_format *format, const ht_cast *cast, const ht_uncast *uncast) {
    switch (format->element) {
    case HT_F8_E4M3:
        return mx_either(cast, uncast, (mx_element){.shape = CAST_E4M3}, 8, HT_PACK_BYTES);
    case HT_F8_E5M2:
        return mx_either(cast, uncast, (mx_element){.shape = CAST_E5M2}, 8, HT_PACK_BYTES);
    case HT_F6_E2M3:
        return mx_either(cast, uncast, (mx_element){.shape = CAST_E2M3}, 6, HT_PACK_BITS);
    case HT_F6_E3M2:
        return mx_either(cast, uncast, (mx_element){.shape = CAST_E3M2}, 6, HT_PACK_BITS);
    case HT_I8:
        return mx_either(cast, uncast, (mx_element){.is_int = 1}, 8, HT_PACK_BYTES);
    default:
        if (format->packing == HT_PACK_HIGH)
            return mx_either(cast, uncast, (mx_element){.shape = CAST_E2M1, .is_e2m1 = 1}, 4, HT_PACK_HIGH);
        return mx_either(cast, uncast, (mx_element){.shape = CAST_E2M1, .is_e2m1 = 1}, 4, HT_PACK_LOW);
    }
}

static inline ht_status quantize_mx(const ht_cast *cast) {
    return mx_by_element(cast->format, cast, NULL);
}

static inline ht_status dequantize_mx(const ht_uncast *uncast) {
    return mx_by_element(uncast->format, NULL, uncast);
}

#endif
