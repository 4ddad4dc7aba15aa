/* Affine integers with a scale per row or group. Body of ht_quantize_int_*; scale and zero point are format/int.c's. */
#ifndef HT_KERNELS_BODY_CAST_INT_H
#define HT_KERNELS_BODY_CAST_INT_H

#include <float.h>

#include "format/int.h"
#include "format/pack.h"
#include "format/tile.h"
#include "kernels/body/cast_half.h"

/* What the rows of a cast have in common. */
typedef struct int_cast {
    unsigned bits;
    ht_packing packing;
    int direct;                /* sixteen codes are whole bytes that w_put knows */
    uint32_t add;              /* to a code before it is stored */
    uint32_t mask;             /* bits of it that are */
    uint32_t kept, flip, base; /* back from a stored code c: ((c & kept) ^ flip) - base */
} int_cast;

static int_cast int_cast_of(const ht_format *format) {
    unsigned bits = ht_dtype_bits(format->element);
    int is_signed = format->element == HT_I8 || (format->element >= HT_I1 && format->element <= HT_I7);
    ht_packing packing = format->packing;
    uint32_t half = 1u << (bits - 1);
    int moved = packing == HT_PACK_WORDS && is_signed;
    return (int_cast){.bits = bits,
                      .packing = packing,
                      .direct = packing == HT_PACK_BYTES || bits == 8 || bits == 6 || bits == 4,
                      .add = moved ? half : 0,
                      .mask = packing == HT_PACK_BYTES ? 255 : (1u << bits) - 1,
                      .kept = packing == HT_PACK_BYTES && !is_signed ? 255 : (1u << bits) - 1,
                      .flip = is_signed && !moved ? half : 0,
                      .base = is_signed ? half : 0};
}

/* Codes of 16 values, as signed integers. */
WIDE wi int_codes(const ht_affine *a, wf x, wf unit, wf shift) {
    wf y = a->divides ? w_add(w_div(x, unit), shift) : w_mul(x, unit);
    y = w_most(w_least(y, w_float(2048)), w_float(-2048));
    wi q = w_iadd(w_nearest(y), w_int(a->divides ? 0 : (uint32_t)(int)a->zero));
    return w_imax(w_imin(q, w_int((uint32_t)a->qmax)), w_int((uint32_t)a->qmin));
}

/* n <= CAST_CHUNK values, padded to 16; packed begins on the segment's first byte. A scale that was given is stored
 * rounded. */
WIDE void int_segment(const int_cast *how, const ht_affine *a, float stored, const float *x, size_t n, uint8_t *packed,
                      float *decoded) {
    uint8_t codes[CAST_CHUNK];
    float values[CAST_LANES];
    wf unit = w_float(a->divides ? a->scale : 1 / a->scale), back = w_float(stored), zero = w_float(a->zero);
    size_t direct = how->direct ? n / CAST_LANES * CAST_LANES : 0;
    for (size_t i = 0; i < n; i += CAST_LANES) {
        wi q = int_codes(a, w_load(x + i), unit, zero);
        wi code = w_and(w_iadd(q, w_int(how->add)), w_int(how->mask));
        if (i < direct)
            w_put(how->packing, how->bits, packed, i, code);
        else
            w_put(HT_PACK_BYTES, 8, codes, i, code);
        wf value = w_mul(w_sub(w_from_int(q), zero), back);
        if (decoded && i + CAST_LANES <= n) {
            w_store(decoded + i, value);
        } else if (decoded) {
            w_store(values, value);
            memcpy(decoded + i, values, (n - i) * sizeof *values);
        }
    }
    if (direct < n)
        ht_pack_codes(how->packing, how->bits, codes + direct, n - direct,
                      packed + ht_packed_bytes(how->packing, how->bits, direct));
}

static void int_min_max(const ht_cast *cast, const ht_tile *tile, float *min, float *max) {
    const ht_values values = {cast->x, cast->x_dtype, cast->cols};
    ht_tile_min_max(&values, tile, min, max);
}

/* One row of a block. Where it is not finite: codes of zero, values NaN. */
WIDE void int_tile(const ht_cast *cast, const int_cast *how, const ht_affine *a, int finite, float stored,
                   const ht_tile *tile) {
    size_t stride = ht_format_plane_bytes(cast->format, HT_PLANE_CODES, 1, cast->cols);
    uint8_t *row = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + tile->row * stride;
    uint8_t lines[CAST_CHUNK];
    float x[CAST_CHUNK];
    ht_affine here = *a;
    if (!finite) {
        memset(x, 0, sizeof x);
        here.scale = 1;
    }
    for (size_t done = 0, n; done < tile->cols; done += n) {
        n = cast_part(tile->cols, done);
        size_t at = tile->row * cast->cols + tile->col + done;
        float *decoded = cast->decoded ? cast->decoded + at : NULL;
        if (finite)
            cast_load(cast->x, cast->x_dtype, at, n, x);
        uint8_t *place = row + ht_packed_bytes(how->packing, how->bits, tile->col + done);
        size_t bytes = ht_packed_bytes(how->packing, how->bits, n);
        int streams = cast->streams && cast_is_line(place, bytes);
        int_segment(how, &here, stored, x, n, streams ? lines : place, decoded);
        if (streams)
            cast_stream(place, lines, bytes);
        for (size_t i = 0; decoded && !finite && i < n; i++)
            decoded[i] = stored;
    }
}

/* --- Symmetric codes of 4 or 8 bits, 16 blocks at a time -------------------------------------------------------- */

enum { INT_BLOCKS = 16, INT_CACHED = 4096 /* values */ };

/* Blocks follow each other without gaps, in the values and in whole bytes of codes, 32 values at a time. */
static int int_is_regular(const ht_cast *cast, const int_cast *how) {
    const ht_format *format = cast->format;
    const ht_row_options *o = cast->options;
    size_t width = format->block_cols ? format->block_cols : cast->cols;
    return (how->bits == 8 || (how->bits == 4 && how->packing != HT_PACK_BYTES)) && format->zero == HT_DTYPE_NONE &&
           format->scale == HT_F32 && o->int_rule == HT_INT_SYMMETRIC && o->code_rule == HT_CODE_RECIPROCAL &&
           !(o->scale > 0) && width % HALF_LANES == 0 && cast->cols % width == 0;
}

WIDE void int_decode_pair(wh q, const ht_affine *a, float scale, float *decoded) {
    for (int half = 0; half < 2; half++) {
        wf value = w_sub(w_from_int(h_widen_signed(q, half)), w_float((float)a->middle));
        w_store(decoded + half * CAST_LANES, w_mul(value, w_float(scale)));
    }
}

/* Blocks that are treated together, their values within the first cache between the two passes over them. */
typedef struct int_chunk {
    size_t block, count, width;
    float scales[INT_BLOCKS], units[INT_BLOCKS]; /* unit 0 where a block is not finite: its products are 0 or NaN */
} int_chunk;

WIDE void int_chunk_scales(const ht_cast *cast, const ht_affine *a, int_chunk *chunk) {
    uint32_t amax[INT_BLOCKS] = {0};
    size_t at = chunk->block * chunk->width;
    float epsilon = cast->options->epsilon > 0 ? cast->options->epsilon : FLT_MIN;
    if (chunk->width == HALF_LANES)
        cast_block_amax(cast, at, HALF_LANES, chunk->count, amax);
    for (size_t b = 0; b < chunk->count && chunk->width > HALF_LANES; b++)
        amax[b] = cast_run_amax(cast, at + b * chunk->width, chunk->width);
    wi largest = w_load_int(amax);
    wm odd = w_above(largest, w_int(0x7f7fffffu));
    wf scale = w_div(w_from_bits(largest), w_float((float)(a->qmax - a->qmin) / 2));
    scale = w_least(w_most(scale, w_float(epsilon)), w_float(FLT_MAX));
    w_store(chunk->units, w_from_bits(w_choose(odd, w_int(0), w_bits(w_div(w_float(1), scale)))));
    w_store(chunk->scales, w_from_bits(w_choose(odd, w_int(0x7fc00000u), w_bits(scale))));
    memcpy((float *)cast->planes->plane[HT_PLANE_SCALES] + chunk->block, chunk->scales,
           chunk->count * sizeof *chunk->scales);
}

/* 32 codes as they are stored, before packing: within [low, high] once `add` is added. */
WIDE wh int_stored(const void *values, ht_dtype dtype, size_t at, float unit, wh add, wh low, wh high) {
    wpair x = cast_pair(values, dtype, at);
    wf factor = w_float(unit);
    wh q = w_pair_low(w_round(w_mul(x.even, factor)), w_round(w_mul(x.odd, factor))); /* NaN: 0 */
    return h_max(h_min(h_add(q, add), high), low);
}

/* All codes of a chunk, line by line; the number of values must fill lines. */
WIDE void int_chunk_lines(const ht_cast *cast, const int_cast *how, const ht_affine *a, const int_chunk *chunk,
                          unsigned bits, ht_packing packing, ht_dtype dtype) {
    size_t step = bits == 8 ? 2 : 4, first = chunk->block * chunk->width, b = 0, i = 0;
    uint8_t *codes = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + first * bits / 8;
    wh add = h_int((int)how->add + a->middle), mask = h_int((int)how->mask);
    wh low = h_int(a->qmin + (int)how->add), high = h_int(a->qmax + (int)how->add);
    int streams = cast->streams && cast_is_line(codes, 0);
    for (size_t at = 0; at < chunk->count * chunk->width; codes += CAST_LINE) {
        wh part[4];
        for (size_t j = 0; j < step; j++, at += HALF_LANES) {
            part[j] = h_and(int_stored(cast->x, dtype, first + at, chunk->units[b], add, low, high), mask);
            i += HALF_LANES;
            b += i == chunk->width;
            i = i == chunk->width ? 0 : i;
        }
        cast_put_line(codes,
                      bits == 8 ? h_bytes_64(part[0], part[1])
                                : h_nibbles_128(part, packing == HT_PACK_HIGH ? 0x0110 : 0x1001),
                      streams);
    }
}

/* The same with values, 32 at a time. */
WIDE void int_chunk_values(const ht_cast *cast, const int_cast *how, const ht_affine *a, const int_chunk *chunk,
                           unsigned bits, ht_packing packing) {
    wh add = h_int(a->middle), low = h_int(a->qmin), high = h_int(a->qmax);
    for (size_t b = 0; b < chunk->count; b++) {
        size_t first = (chunk->block + b) * chunk->width;
        uint8_t *codes = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + first * bits / 8;
        for (size_t i = 0; i < chunk->width; i += HALF_LANES) {
            wh q = int_stored(cast->x, cast->x_dtype, first + i, chunk->units[b], add, low, high);
            wh stored = h_and(h_add(q, h_int((int)how->add)), h_int((int)how->mask));
            half_put(packing, bits, codes + i * bits / 8, 0, h_bytes(stored));
            if (cast->decoded)
                int_decode_pair(q, a, chunk->scales[b], cast->decoded + first + i);
        }
    }
}

WIDE ht_status int_regular(const ht_cast *cast, const int_cast *how, unsigned bits, ht_packing packing) {
    const ht_affine a = ht_affine_rules(cast->format, cast->options);
    size_t width = cast->format->block_cols ? cast->format->block_cols : cast->cols;
    size_t blocks = cast->rows * (cast->cols / width), line = (size_t)CAST_LINE * 8 / bits;
    size_t most = INT_CACHED / width < 1 ? 1 : INT_CACHED / width < INT_BLOCKS ? INT_CACHED / width : INT_BLOCKS;
    for (size_t b = 0; b < blocks; b += most) {
        int_chunk chunk = {.block = b, .count = blocks - b < most ? blocks - b : most, .width = width};
        int_chunk_scales(cast, &a, &chunk);
        int whole = !cast->decoded && chunk.count * width % line == 0;
        if (whole && cast->x_dtype == HT_BF16)
            int_chunk_lines(cast, how, &a, &chunk, bits, packing, HT_BF16);
        else if (whole && cast->x_dtype == HT_F32)
            int_chunk_lines(cast, how, &a, &chunk, bits, packing, HT_F32);
        else
            int_chunk_values(cast, how, &a, &chunk, bits, packing);
    }
    if (cast->streams)
        w_fence();
    return HT_OK;
}

/* --- All others, block by block ------------------------------------------------------------------------------------
 */

WIDE ht_status int_all(const ht_cast *cast, const int divides) {
    const ht_format *format = cast->format;
    const int_cast how = int_cast_of(format);
    size_t stride = ht_format_plane_bytes(format, HT_PLANE_CODES, 1, cast->cols);
    uint8_t *packed = cast->planes->plane[HT_PLANE_CODES];
    for (size_t r = 0; how.packing == HT_PACK_WORDS && r < cast->rows; r++)
        memset(packed + (r + 1) * stride - 4, 0, 4); /* spare bits of a row's last word */
    ht_affine a = ht_affine_rules(format, cast->options);
    a.divides = divides;
    for (size_t b = 0, count = ht_tile_count(format, cast->rows, cast->cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, cast->rows, cast->cols, b);
        float min = 0, max = 0;
        uint32_t amax = cast_tile_amax(cast, &tile);
        if (amax < 0x7f800000u && ht_affine_needs_range(format, cast->options))
            int_min_max(cast, &tile, &min, &max);
        int finite = ht_affine_for_block(format, cast->options, amax, min, max, &a);
        ht_affine_store(format, cast->planes, b, &a);
        int_tile(cast, &how, &a, finite, ht_scale_load(format->scale, cast->planes->plane[HT_PLANE_SCALES], b), &tile);
    }
    if (cast->streams)
        w_fence();
    return HT_OK;
}

/* n <= CAST_CHUNK codes, one a byte, as they are stored. */
static void int_unpack(const int_cast *how, const uint8_t *run, size_t n, uint8_t *codes) {
    size_t direct = how->direct ? n / CAST_LANES * CAST_LANES : 0;
    for (size_t i = 0; i < direct; i += CAST_LANES)
        w_put_bytes(codes + i, how->bits == 8 || how->packing == HT_PACK_BYTES ? w_get_bytes(run + i)
                               : how->bits == 6                                ? w_get_sixes(run + i / 4 * 3)
                               : how->packing == HT_PACK_HIGH                  ? w_get_high(run + i / 2)
                                                                               : w_get_low(run + i / 2));
    if (direct < n)
        ht_unpack_codes(how->packing, how->bits, run + ht_packed_bytes(how->packing, how->bits, direct), n - direct,
                        codes + direct);
}

/* Codes as stored to values: (q - shift) * scale + offset, q the signed code. */
WIDE void int_values(const int_cast *how, const uint8_t *codes, size_t n, float shift, float scale, float offset,
                     int has_offset, float *to) {
    wi kept = w_int(how->kept), flip = w_int(how->flip), base = w_int(how->base);
    for (size_t i = 0; i < n; i += CAST_LANES) {
        wi code = w_and(w_from_bytes(w_get_bytes(codes + i)), kept);
        wf q = w_from_int(w_isub(w_exor(code, flip), base));
        wf value = w_mul(w_sub(q, w_float(shift)), w_float(scale));
        w_store(to + i, has_offset ? w_add(value, w_float(offset)) : value);
    }
}

static inline ht_status dequantize_int(const ht_uncast *uncast) {
    const ht_format *format = uncast->format;
    const int_cast how = int_cast_of(format);
    ht_row_options options = ht_row_options_default();
    ht_affine a = ht_affine_rules(format, &options);
    size_t stride = ht_format_plane_bytes(format, HT_PLANE_CODES, 1, uncast->cols);
    uint8_t codes[CAST_CHUNK];
    float buffer[CAST_CHUNK];
    for (size_t b = 0, count = ht_tile_count(format, uncast->rows, uncast->cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, uncast->rows, uncast->cols, b);
        ht_affine_load(format, uncast->planes, b, &a);
        float shift = a.float_zero ? (float)a.middle : a.zero;
        for (size_t r = tile.row; r < tile.row + tile.rows; r++)
            for (size_t done = 0, n; done < tile.cols; done += n) {
                n = cast_part(tile.cols, done);
                size_t at = r * uncast->cols + tile.col + done;
                const uint8_t *row = (const uint8_t *)uncast->planes->plane[HT_PLANE_CODES] + r * stride;
                float *to = cast_begin(uncast, at, n, buffer);
                int_unpack(&how, row + ht_packed_bytes(how.packing, how.bits, tile.col + done), n, codes);
                int_values(&how, codes, n, shift, a.scale, a.zero, a.float_zero, to);
                cast_finish(uncast, at, n, to, buffer);
            }
    }
    if (uncast->streams)
        w_fence();
    return HT_OK;
}

static inline ht_status quantize_int(const ht_cast *cast) {
    const int_cast how = int_cast_of(cast->format);
    if (int_is_regular(cast, &how)) {
        if (how.bits == 8)
            return int_regular(cast, &how, 8, HT_PACK_BYTES);
        return how.packing == HT_PACK_HIGH ? int_regular(cast, &how, 4, HT_PACK_HIGH)
                                           : int_regular(cast, &how, 4, HT_PACK_LOW);
    }
    return cast->options->code_rule == HT_CODE_DIVIDE ? int_all(cast, 1) : int_all(cast, 0);
}

#endif
