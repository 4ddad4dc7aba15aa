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

/* Sum of squared differences of 32 magnitudes, in units of the scale, and 1 / unit of the codes' values. */
WIDE float mx_error(wf low, wf high, wi low_code, wi high_code, const mx_element e, float unit) {
    wf d = w_sub(low, w_mul(mx_decode(low_code, e), w_float(unit)));
    wf f = w_sub(high, w_mul(mx_decode(high_code, e), w_float(unit)));
    return w_fold(w_add(w_mul(d, d), w_mul(f, f)));
}

WIDE wf w_absolute(wf x) {
    return w_from_bits(w_magnitude(x));
}

/* 1 when one more leaves a smaller error than FLOOR. Both are taken in units of FLOOR's scale, where the coarser codes
 * stand for twice as much: all steps scale by exact powers of two. */
WIDE unsigned mx_is_better_up(const ht_cast *cast, size_t at, float factor, const mx_element e) {
    wf low = w_mul(cast_values(cast, at), w_float(factor));
    wf high = w_mul(cast_values(cast, at + CAST_LANES), w_float(factor));
    if (e.is_int) {
        wf half = w_float(0.5f), low2 = w_mul(low, half), high2 = w_mul(high, half);
        return mx_error(low, high, mx_encode(low, e), mx_encode(high, e), e, 1) >
               4 * mx_error(low2, high2, mx_encode(low2, e), mx_encode(high2, e), e, 1);
    }
    low = w_absolute(low);
    high = w_absolute(high);
    wh a = h_odd(low, high), t = half_exponent_field(a, e.shape);
    wh fine = half_encode_magnitude(t, a, e.shape);
    wh coarse = half_encode_magnitude(h_sub(t, h_int(128)), a, e.shape);
    return mx_error(low, high, h_widen(fine, 0), h_widen(fine, 1), e, 1) >
           mx_error(low, high, h_widen(coarse, 0), h_widen(coarse, 1), e, 2);
}

/* Blocks that FLOOR saturates get one more where that leaves a smaller error. */
WIDE void mx_search(const ht_cast *cast, size_t block, wi amax, uint32_t max_bits, const mx_element e, uint32_t *bytes,
                    float *factors) {
    wi byte = w_load_int(bytes);
    wm loud = w_above(w_bits(w_mul(w_from_bits(amax), w_load(factors))), w_int(max_bits));
    unsigned todo = w_mask(loud) & w_mask(w_above(w_int(254), byte));
    for (; todo; todo &= todo - 1) {
        int b = __builtin_ctz(todo);
        bytes[b] += mx_is_better_up(cast, (block + (size_t)b) * MX_BLOCK, factors[b], e);
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

/* Up to 16 blocks whose scales are chosen and whose codes are not. */
typedef struct mx_plan {
    size_t block, count;
    const uint16_t *x; /* halves: bf16 as they are, f32 rounded to odd in the buffer */
    uint16_t buffer[CAST_CHUNK];
    uint32_t bytes[MX_BLOCKS];
    float scales[MX_BLOCKS];
} mx_plan;

WIDE void mx_choose_scales(const ht_cast *cast, ht_scale_rule rule, const ht_element *row, const mx_element e,
                           size_t block, size_t count, mx_plan *plan) {
    uint32_t amax[MX_BLOCKS];
    size_t at = block * MX_BLOCK;
    plan->block = block;
    plan->count = count;
    plan->x = cast->x_dtype == HT_BF16 ? (const uint16_t *)cast->x + at : plan->buffer;
    cast_block_amax(cast, at, MX_BLOCK, count, amax);
    for (size_t b = 0; b < count && cast->x_dtype == HT_F32; b++) {
        wpair x = cast_pair(cast->x, HT_F32, at + b * MX_BLOCK);
        h_store(plan->buffer + b * MX_BLOCK, half_odd(w_bits(x.even), w_bits(x.odd)));
    }
    wi largest = w_load_int(amax), byte = mx_scale_bytes(rule, row, largest);
    w_store_int(plan->bytes, byte);
    if (rule == HT_SCALE_MSE) {
        w_store(plan->scales, mx_factors(byte));
        mx_search(cast, block, largest, row->max_bits, e, plan->bytes, plan->scales);
        byte = w_load_int(plan->bytes);
    }
    w_store(plan->scales, w_e8m0(byte));
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

/* Codes of one block, one in each 16-bit lane. */
WIDE wh mx_codes(const mx_plan *plan, size_t b, const mx_element e) {
    wh values = h_load(plan->x + b * MX_BLOCK), magnitude = h_magnitude(values);
    wh t = h_sub(magnitude, h_int(((int)plan->bytes[b] - e.shape.bias) * 128));
    return half_with_sign(half_encode_magnitude(t, magnitude, e.shape), values, e.shape);
}

/* Whole lines of codes; how many blocks that were. */
WIDE size_t mx_emit_lines(const ht_cast *cast, const mx_plan *plan, const mx_element e, unsigned bits,
                          ht_packing packing, uint8_t *place) {
    size_t step = bits == 8 ? 2 : 4, b = 0;
    int streams = cast->streams && cast_is_line(place, 0);
    if (bits == 6 || cast->decoded)
        return 0;
    for (; b + step <= plan->count; b += step) {
        wh codes[4];
        for (size_t i = 0; i < step; i++)
            codes[i] = mx_codes(plan, b + i, e);
        wi line = bits == 8 ? h_bytes_64(codes[0], codes[1])
                            : h_nibbles_128(codes, packing == HT_PACK_HIGH ? 0x0110 : 0x1001);
        cast_put_line(place + b / step * CAST_LINE, line, streams);
    }
    return b;
}

/* The codes, in 16-bit lanes. */
WIDE void mx_emit(const ht_cast *cast, const mx_plan *plan, const ht_element *row, const mx_element e, unsigned bits,
                  ht_packing packing) {
    size_t block = plan->block, count = plan->count, size = count * MX_BLOCK * bits / 8;
    uint8_t lines[CAST_CHUNK], *place = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + block * MX_BLOCK * bits / 8;
    size_t done = mx_emit_lines(cast, plan, e, bits, packing, place);
    int streams = !done && cast->streams && cast_is_line(place, size);
    uint8_t *run = streams ? lines : place, scale_bytes[MX_BLOCKS];
    float *decoded = cast->decoded ? cast->decoded + block * MX_BLOCK : NULL;
    for (size_t b = done; b < count; b++) {
        __m256i codes = h_bytes(mx_codes(plan, b, e));
        half_put(packing, bits, run, b * MX_BLOCK, codes);
        if (decoded)
            mx_decode_block(codes, plan->scales[b], e, decoded + b * MX_BLOCK);
    }
    wi byte = w_load_int(plan->bytes), small = w_int((uint32_t)e.shape.bias + 8);
    w_put_bytes(scale_bytes, w_bytes(byte));
    memcpy((uint8_t *)cast->planes->plane[HT_PLANE_SCALES] + block, scale_bytes, count);
    unsigned odd = w_mask(w_above(small, byte)) | w_mask(w_above(byte, w_int(254)));
    odd &= (1u << count) - 1;
    if (odd && done)
        w_fence();
    for (; odd; odd &= odd - 1) {
        size_t b = (size_t)__builtin_ctz(odd);
        mx_odd_block(cast, block, plan->bytes[b], row, e, run, b, decoded);
    }
    if (streams)
        cast_stream(place, lines, size);
}

/* The scales of the next blocks are chosen before the codes of these are made: their latency passes meanwhile. */
WIDE void mx_all_half(const ht_cast *cast, ht_scale_rule rule, const ht_element *row, const mx_element e, size_t blocks,
                      unsigned bits, ht_packing packing) {
    mx_plan plans[2];
    for (size_t b = 0, turn = 0; b < blocks + MX_BLOCKS; b += MX_BLOCKS, turn ^= 1) {
        if (b < blocks)
            mx_choose_scales(cast, rule, row, e, b, blocks - b < MX_BLOCKS ? blocks - b : MX_BLOCKS, &plans[turn]);
        if (b)
            mx_emit(cast, &plans[turn ^ 1], row, e, bits, packing);
    }
}

WIDE ht_status mx_all(const ht_cast *cast, const mx_element e, unsigned bits, ht_packing packing) {
    const ht_element *row = ht_element_find(cast->format->element);
    ht_scale_rule rule = cast->options->scale_rule;
    rule = rule == HT_SCALE_DEFAULT ? HT_SCALE_MSE : rule;
    size_t blocks = cast->rows * (cast->cols / MX_BLOCK);
    if (!e.is_int && cast->x_dtype != HT_F16)
        mx_all_half(cast, rule, row, e, blocks, bits, packing);
    else
        for (size_t b = 0; b < blocks; b += MX_BLOCKS)
            mx_chunk(cast, rule, row, e, b, blocks - b < MX_BLOCKS ? blocks - b : MX_BLOCKS, bits, packing);
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
