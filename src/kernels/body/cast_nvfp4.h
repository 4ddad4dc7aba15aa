/* NVFP4 blocks of 16 values in a row, 16 blocks at a time. Body of ht_quantize_nvfp4_*; rules in format/nvfp4.c. */
#ifndef HT_KERNELS_BODY_CAST_NVFP4_H
#define HT_KERNELS_BODY_CAST_NVFP4_H

#include <float.h>

#include "format/nvfp4.h"
#include "kernels/body/cast_half.h"

enum { NVFP4_BLOCK = 16, NVFP4_BLOCKS = 16, NVFP4_NAN = 0x7f };

/* Scale codes of 16 finite blocks. */
WIDE wi nvfp4_scale_codes(const ht_nvfp4_rules *rules, wf amax) {
    wf wanted;
    if (rules->divides && rules->training)
        wanted = w_mul(amax, w_float(rules->global_sixth));
    else if (rules->divides)
        wanted = w_mul(w_div(amax, w_float(6)), w_float(rules->global));
    else
        wanted = w_div(w_div(amax, w_float(6)), w_float(rules->global)); /* exact when the number is 1 */
    wanted = w_least(wanted, w_float(448));
    if (!rules->training && !rules->divides) /* never NaN: the number is positive and finite */
        wanted = w_most(wanted, w_float(0x1p-6f));
    wi code = w_encode_magnitude(w_bits(wanted), CAST_E4M3);
    if (!rules->training && rules->divides)
        code = w_choose(w_above(code, w_int(0)), code, w_int(ht_e4m3_from_f32(0.125f)));
    return code;
}

WIDE wf nvfp4_encode_factors(const ht_nvfp4_rules *rules, wf scale) {
    wf most = w_float(FLT_MAX);
    if (rules->divides && rules->training)
        return w_least(w_div(w_float(1), w_mul(scale, w_float(rules->inverse))), most);
    if (rules->divides)
        return w_div(scale, w_float(rules->global));
    float inverse = rules->inverse < FLT_MAX ? rules->inverse : FLT_MAX;
    return w_least(w_div(w_float(inverse), scale), most);
}

/* One block, scaled by its factor. */
WIDE wf nvfp4_scaled(const ht_cast *cast, size_t at, float factor, int by_division) {
    wf values = cast_values(cast, at);
    return by_division ? w_div(values, w_float(factor)) : w_mul(values, w_float(factor));
}

/* Codes of a pair of blocks, one a byte, in 16-bit lanes; NaN among them goes the slow way. */
WIDE wh nvfp4_pair(wf low, wf high) {
    wh halves = h_odd(low, high), magnitude = h_magnitude(halves);
    if (h_any_above(magnitude, h_int(HALF_INF)))
        return h_narrow(w_encode_any(low, CAST_E2M1), w_encode_any(high, CAST_E2M1));
    wh code = half_encode_magnitude(half_exponent_field(magnitude, CAST_E2M1), magnitude, CAST_E2M1);
    return half_with_sign(code, halves, CAST_E2M1);
}

/* A block that is not finite. */
static void nvfp4_no_number(ht_packing packing, uint8_t *run, size_t b, float *decoded) {
    w_put(packing, 4, run, b * NVFP4_BLOCK, w_int(7));
    if (decoded)
        w_store(decoded, w_from_bits(w_int(0x7fc00000u)));
}

/* count <= 16 blocks from `block` on; pairs of them fill a register of codes. */
WIDE void nvfp4_chunk(const ht_cast *cast, const ht_nvfp4_rules *rules, size_t block, size_t count,
                      ht_packing packing) {
    float factors[NVFP4_BLOCKS], back[NVFP4_BLOCKS];
    uint32_t amax[NVFP4_BLOCKS];
    size_t at = block * NVFP4_BLOCK, bytes = count * NVFP4_BLOCK / (packing == HT_PACK_BYTES ? 1 : 2);
    uint8_t lines[NVFP4_BLOCK * NVFP4_BLOCKS], codes[NVFP4_BLOCKS];
    uint8_t *place = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + (packing == HT_PACK_BYTES ? at : at / 2);
    int streams = cast->streams && cast_is_line(place, bytes), by_division = rules->divides && !rules->training;
    uint8_t *run = streams ? lines : place;
    cast_block_amax(cast, at, NVFP4_BLOCK, count, amax);
    wi largest = w_load_int(amax), code = nvfp4_scale_codes(rules, w_from_bits(largest));
    wf scale = w_decode(code, CAST_E4M3), global = w_float(rules->global);
    wm odd = w_above(largest, w_int(0x7f7fffffu));
    w_store(factors, nvfp4_encode_factors(rules, scale));
    if (cast->decoded)
        w_store(back, rules->divides ? w_div(scale, global) : w_mul(scale, global));
    w_put_bytes(codes, w_bytes(w_choose(odd, w_int(NVFP4_NAN), code)));
    memcpy((uint8_t *)cast->planes->plane[HT_PLANE_SCALES] + block, codes, count);
    for (size_t b = 0; b < count; b += 2) {
        size_t next = b + 1 < count ? b + 1 : b, here = at + b * NVFP4_BLOCK;
        wf low = nvfp4_scaled(cast, here, factors[b], by_division);
        wf high = nvfp4_scaled(cast, at + next * NVFP4_BLOCK, factors[next], by_division);
        __m256i pair = h_bytes(nvfp4_pair(low, high));
        wi first = w_from_bytes(_mm256_castsi256_si128(pair));
        if (next != b)
            half_put(packing, 4, run, b * NVFP4_BLOCK, pair);
        else
            w_put(packing, 4, run, b * NVFP4_BLOCK, first);
        if (cast->decoded) {
            wf table = w_load(cast_e2m1_values);
            wi second = w_from_bytes(_mm256_extracti128_si256(pair, 1));
            w_store(cast->decoded + here, w_mul(w_lookup(table, first), w_float(back[b])));
            if (next != b)
                w_store(cast->decoded + here + NVFP4_BLOCK, w_mul(w_lookup(table, second), w_float(back[next])));
        }
    }
    for (unsigned rest = w_mask(odd) & ((1u << count) - 1); rest; rest &= rest - 1) {
        size_t b = (size_t)__builtin_ctz(rest);
        nvfp4_no_number(packing, run, b, cast->decoded ? cast->decoded + at + b * NVFP4_BLOCK : NULL);
    }
    if (streams)
        cast_stream(place, lines, bytes);
}

/* Not inlined: the loops around it keep their registers. */
static __attribute__((noinline)) void nvfp4_chunk_apart(const ht_cast *cast, const ht_nvfp4_rules *rules, size_t block,
                                                        size_t count, ht_packing packing) {
    nvfp4_chunk(cast, rules, block, count, packing);
}

/* --- Sixteen blocks whose scales are ordinary, two lines of codes ---------------------------------------------------
 */

/* By scale code: what values are divided by, or multiplied by; and the first's reciprocal. */
typedef struct nvfp4_table {
    int plain; /* every divisor may be replaced by its reciprocal */
    int near;  /* every divisor has one for bf16 (half_reciprocal) */
    float factor[128], inverse[128], reciprocal[128];
} nvfp4_table;

WIDE void nvfp4_fill_table(const ht_nvfp4_rules *rules, nvfp4_table *table) {
    uint32_t codes[CAST_LANES];
    int divides = rules->divides && !rules->training;
    table->plain = table->near = 1;
    for (uint32_t first = 0; first < 128; first += CAST_LANES) {
        for (uint32_t i = 0; i < CAST_LANES; i++)
            codes[i] = first + i;
        wf factor = nvfp4_encode_factors(rules, w_decode(w_load_int(codes), CAST_E4M3));
        w_store(table->factor + first, factor);
        w_store(table->inverse + first, w_div(w_float(1), factor));
    }
    for (size_t c = 1; c < 0x7e && divides; c++) { /* from 16 on a divisor is twice the one 8 codes before */
        table->reciprocal[c] = c < 16 ? half_reciprocal(table->factor[c], 2) : table->reciprocal[c - 8] / 2;
        table->near &= table->reciprocal[c] > 0 && table->factor[c] <= 0x1p90f;
    }
    for (size_t c = 1; c < 0x7e; c++)
        table->plain &=
            divides ? half_divides_well(table->factor[c]) : table->factor[c] >= 0x1p-90f && table->factor[c] <= 0x1p90f;
}

/* How codes come from values and factors: a constant. */
typedef enum nvfp4_way { NVFP4_MULTIPLIED, NVFP4_DIVIDED, NVFP4_BY_PRODUCT } nvfp4_way;

/* Codes of two blocks, beginning with b. */
WIDE wh nvfp4_two(const void *values, ht_dtype dtype, const nvfp4_table *table, const uint8_t *codes, size_t at,
                  nvfp4_way way, const half_rounding *to) {
    wh signs;
    wpair x = cast_magnitudes(values, dtype, at, &signs);
    const float *numbers = way == NVFP4_BY_PRODUCT ? table->reciprocal : table->factor;
    wf factor = w_two_floats(&numbers[codes[0]], &numbers[codes[1]]), even, odd;
    if (way == NVFP4_BY_PRODUCT)
        return half_codes_of_products(w_mul(x.even, factor), w_mul(x.odd, factor), signs, to, CAST_E2M1);
    if (way == NVFP4_DIVIDED) {
        wf inverse = w_two_floats(&table->inverse[codes[0]], &table->inverse[codes[1]]);
        even = half_quotient(x.even, factor, inverse);
        odd = half_quotient(x.odd, factor, inverse);
    } else {
        even = w_mul(x.even, factor);
        odd = w_mul(x.odd, factor);
    }
    return half_codes(even, odd, signs, to, CAST_E2M1);
}

/* 1 when done; 0 when a scale is out of the ordinary. */
WIDE int nvfp4_lines(const ht_cast *cast, const ht_nvfp4_rules *rules, const nvfp4_table *table, size_t block,
                     ht_packing packing, nvfp4_way way, ht_dtype dtype, const half_rounding *to) {
    uint32_t amax[NVFP4_BLOCKS];
    uint8_t codes[NVFP4_BLOCKS];
    size_t at = block * NVFP4_BLOCK;
    uint8_t *place = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + at / 2;
    int streams = cast->streams && cast_is_line(place, 0);
    cast_block_amax(cast, at, NVFP4_BLOCK, NVFP4_BLOCKS, amax);
    wi largest = w_load_int(amax), code = nvfp4_scale_codes(rules, w_from_bits(largest));
    if (w_mask(w_above(largest, w_int(0x7f7fffffu))) | w_mask(w_above(code, w_int(0x7d))) |
        w_mask(w_above(w_int(1), code)))
        return 0;
    w_put_bytes(codes, w_bytes(code));
    w_put_bytes((uint8_t *)cast->planes->plane[HT_PLANE_SCALES] + block, w_bytes(code));
    for (size_t half = 0; half < 2; half++) {
        wh part[4];
        for (size_t i = 0; i < 4; i++) {
            size_t b = half * 8 + i * 2;
            part[i] = nvfp4_two(cast->x, dtype, table, codes + b, at + b * NVFP4_BLOCK, way, to);
        }
        cast_put_line(place + half * CAST_LINE, h_nibbles_128(part, packing == HT_PACK_HIGH ? 0x0110 : 0x1001),
                      streams);
    }
    return 1;
}

/* Packing, type of the values and way are constants. */
WIDE void nvfp4_whole_chunks(const ht_cast *cast, const ht_nvfp4_rules *rules, const nvfp4_table *table, size_t chunks,
                             ht_packing packing, nvfp4_way way, ht_dtype dtype) {
    const half_rounding to = half_rounding_of(CAST_E2M1);
    for (size_t c = 0; c < chunks; c++)
        if (!table->plain || !nvfp4_lines(cast, rules, table, c * NVFP4_BLOCKS, packing, way, dtype, &to))
            nvfp4_chunk_apart(cast, rules, c * NVFP4_BLOCKS, NVFP4_BLOCKS, packing);
}

WIDE void nvfp4_most(const ht_cast *cast, const ht_nvfp4_rules *rules, size_t chunks, ht_packing packing,
                     ht_dtype dtype) {
    nvfp4_table table;
    int divides = rules->divides && !rules->training;
    nvfp4_fill_table(rules, &table);
    if (divides && table.near && dtype == HT_BF16)
        nvfp4_whole_chunks(cast, rules, &table, chunks, packing, NVFP4_BY_PRODUCT, dtype);
    else if (divides)
        nvfp4_whole_chunks(cast, rules, &table, chunks, packing, NVFP4_DIVIDED, dtype);
    else
        nvfp4_whole_chunks(cast, rules, &table, chunks, packing, NVFP4_MULTIPLIED, dtype);
}

WIDE ht_status nvfp4_all(const ht_cast *cast, ht_packing packing) {
    const float *global = cast->planes->plane[HT_PLANE_GLOBAL];
    const ht_nvfp4_rules rules =
        ht_nvfp4_rules_of(cast->format, cast->options, cast->format->global == HT_DTYPE_NONE ? 1.0f : *global);
    size_t blocks = cast->rows * (cast->cols / NVFP4_BLOCK), first = 0;
    if (!cast->decoded && packing != HT_PACK_BYTES && cast->x_dtype != HT_F16) {
        first = blocks / NVFP4_BLOCKS * NVFP4_BLOCKS;
        if (cast->x_dtype == HT_BF16)
            nvfp4_most(cast, &rules, first / NVFP4_BLOCKS, packing, HT_BF16);
        else
            nvfp4_most(cast, &rules, first / NVFP4_BLOCKS, packing, HT_F32);
    }
    for (size_t b = first; b < blocks; b += NVFP4_BLOCKS)
        nvfp4_chunk_apart(cast, &rules, b, blocks - b < NVFP4_BLOCKS ? blocks - b : NVFP4_BLOCKS, packing);
    if (cast->streams)
        w_fence();
    return HT_OK;
}

/* Codes `at` on of one row, whose scales are given. */
WIDE void nvfp4_back_chunk(const ht_uncast *uncast, const uint8_t *scales, size_t at, size_t count, float global,
                           ht_packing packing) {
    float buffer[NVFP4_BLOCK * NVFP4_BLOCKS], units[NVFP4_BLOCKS];
    uint8_t bytes[NVFP4_BLOCKS] = {0};
    const uint8_t *run =
        (const uint8_t *)uncast->planes->plane[HT_PLANE_CODES] + at / (packing == HT_PACK_BYTES ? 1 : 2);
    memcpy(bytes, scales, count);
    wf scale = w_decode_any(w_from_bytes(w_get_bytes(bytes)), CAST_E4M3), number = w_float(global);
    w_store(units, uncast->format->global_rule == HT_GLOBAL_DIVIDES ? w_div(scale, number) : w_mul(scale, number));
    float *to = cast_begin(uncast, at, count * NVFP4_BLOCK, buffer);
    for (size_t b = 0; b < count; b++) {
        wi code = w_and(w_get(packing, 4, run, b * NVFP4_BLOCK), w_int(15));
        w_store(to + b * NVFP4_BLOCK, w_mul(w_lookup(w_load(cast_e2m1_values), code), w_float(units[b])));
    }
    cast_finish(uncast, at, count * NVFP4_BLOCK, to, buffer);
}

WIDE ht_status nvfp4_back(const ht_uncast *uncast, ht_packing packing) {
    const ht_format *format = uncast->format;
    const float *number = uncast->planes->plane[HT_PLANE_GLOBAL];
    float global = format->global == HT_DTYPE_NONE ? 1.0f : *number;
    size_t across = uncast->cols / NVFP4_BLOCK;
    for (size_t r = 0; r < uncast->rows; r++) {
        const uint8_t *scales =
            (const uint8_t *)uncast->planes->plane[HT_PLANE_SCALES] + r / format->block_rows * across;
        for (size_t b = 0; b < across; b += NVFP4_BLOCKS)
            nvfp4_back_chunk(uncast, scales + b, r * uncast->cols + b * NVFP4_BLOCK,
                             across - b < NVFP4_BLOCKS ? across - b : NVFP4_BLOCKS, global, packing);
    }
    if (uncast->streams)
        w_fence();
    return HT_OK;
}

static inline ht_status quantize_nvfp4(const ht_cast *cast) {
    if (cast->format->packing == HT_PACK_LOW)
        return nvfp4_all(cast, HT_PACK_LOW);
    return nvfp4_all(cast, cast->format->packing == HT_PACK_HIGH ? HT_PACK_HIGH : HT_PACK_BYTES);
}

static inline ht_status dequantize_nvfp4(const ht_uncast *uncast) {
    if (uncast->format->packing == HT_PACK_LOW)
        return nvfp4_back(uncast, HT_PACK_LOW);
    return nvfp4_back(uncast, uncast->format->packing == HT_PACK_HIGH ? HT_PACK_HIGH : HT_PACK_BYTES);
}

#endif
