/* 8-bit floats with one scale per rectangle. Body of ht_quantize_float8_*; the scale is format/float8.c's. */
#ifndef HT_KERNELS_BODY_CAST_FLOAT8_H
#define HT_KERNELS_BODY_CAST_FLOAT8_H

#include "format/tile.h"
#include "kernels/body/cast_half.h"

WIDE size_t cast_part(size_t total, size_t done) {
    return total - done < CAST_CHUNK ? total - done : CAST_CHUNK;
}

/* Largest magnitude of a tile, as f32 bits. */
static uint32_t cast_tile_amax(const ht_cast *cast, const ht_tile *tile) {
    uint32_t most = 0;
    for (size_t r = tile->row; r < tile->row + tile->rows; r++) {
        uint32_t row = cast_run_amax(cast, r * cast->cols + tile->col, tile->cols);
        most = row > most ? row : most;
    }
    return most;
}

static float float8_scale(const ht_cast *cast, const ht_tile *tile) {
    if (cast->options->scale > 0)
        return cast->options->scale;
    ht_range range = {.amax = ht_f32_from_bits(cast_tile_amax(cast, tile))};
    range.has_nan = range.amax != range.amax;
    float scale = 1;
    ht_format_scale(cast->format, cast->options, &range, &scale, NULL);
    return scale;
}

/* n <= CAST_CHUNK values. A scale that was given is stored rounded. decoded may be NULL. */
WIDE void float8_segment(const float *x, size_t n, float scale, float stored, const cast_shape shape, uint8_t *codes,
                         float *decoded) {
    wf unit = w_float(scale), back = w_float(stored);
    for (size_t i = 0; i < n; i += CAST_LANES) {
        wi code = w_encode_any(w_div(w_load(x + i), unit), shape);
        wf value = w_mul(w_decode(code, shape), back); /* NaN codes only under a NaN scale, or from a NaN */
        value =
            w_from_bits(w_choose(w_above(w_and(code, w_int(0x7f)), w_int(0x7e)), w_int(0x7fc00000u), w_bits(value)));
        if (i + CAST_LANES <= n) {
            w_put(HT_PACK_BYTES, 8, codes, i, code);
            if (decoded)
                w_store(decoded + i, value);
        } else {
            uint8_t some[CAST_LANES];
            float values[CAST_LANES];
            w_put(HT_PACK_BYTES, 8, some, 0, code);
            w_store(values, value);
            memcpy(codes + i, some, n - i);
            if (decoded)
                memcpy(decoded + i, values, (n - i) * sizeof *values);
        }
    }
}

/* 32 values from `at` on, two registers divided, then encoded as one. */
WIDE void float8_run(const ht_cast *cast, size_t at, float scale, float stored, const cast_shape shape, uint8_t *codes,
                     float *decoded) {
    wf low = w_div(cast_values(cast, at), w_float(scale));
    wf high = w_div(cast_values(cast, at + CAST_LANES), w_float(scale));
    wh halves = h_odd(low, high), magnitude = h_magnitude(halves);
    if (h_any_above(magnitude, h_int(HALF_INF))) {
        float x[HALF_LANES];
        w_store(x, cast_values(cast, at));
        w_store(x + CAST_LANES, cast_values(cast, at + CAST_LANES));
        float8_segment(x, HALF_LANES, scale, stored, shape, codes, decoded);
        return;
    }
    wh code = half_encode_magnitude(half_exponent_field(magnitude, shape), magnitude, shape);
    __m256i bytes = h_bytes(half_with_sign(code, halves, shape));
    w_put_bytes_32(codes, bytes);
    if (decoded) {
        wf back = w_float(stored);
        w_store(decoded, w_mul(w_decode(w_from_bytes(_mm256_castsi256_si128(bytes)), shape), back));
        wi upper = w_from_bytes(_mm256_extracti128_si256(bytes, 1));
        w_store(decoded + CAST_LANES, w_mul(w_decode(upper, shape), back));
    }
}

/* The values are finite and not much beyond the largest element times the scale. */
static int float8_is_plain(const ht_cast *cast, float scale) {
    return !cast->decoded && cast->x_dtype != HT_F16 && cast->format->scale != HT_F16 && !(cast->options->scale > 0) &&
           !(cast->options->amax_upper > 0) && half_divides_well(scale);
}

/* n values of such a tile by whole lines; how many that were. near: half_reciprocal of the scale, or 0; by_product: it
 * is not, a constant. Values `ahead` are asked for: they are read next, for their scale, when nothing is there to hide
 * the wait behind. */
WIDE size_t float8_lines(const ht_cast *cast, size_t at, size_t n, float scale, const cast_shape shape, ht_dtype dtype,
                         float near, int by_product, size_t ahead) {
    uint8_t *codes = (uint8_t *)cast->planes->plane[HT_PLANE_CODES] + at;
    int streams = cast->streams && cast_is_line(codes, 0);
    wf divisor = w_float(scale), inverse = w_float(by_product ? near : 1 / scale);
    const half_rounding to = half_rounding_of(shape);
    size_t i = 0;
    for (; i + 2 * HALF_LANES <= n; i += 2 * HALF_LANES) {
        wh part[2], signs;
        const size_t size = dtype == HT_F32 ? 4 : 2;
        for (size_t line = 0; line < 2 * HALF_LANES * size; line += CAST_LINE)
            __builtin_prefetch((const char *)cast->x + (at + i + ahead) * size + line);
        for (size_t j = 0; j < 2; j++) {
            wpair x = cast_magnitudes(cast->x, dtype, at + i + j * HALF_LANES, &signs);
            if (by_product)
                part[j] = half_codes_of_products(w_mul(x.even, inverse), w_mul(x.odd, inverse), signs, &to, shape);
            else
                part[j] = half_codes(half_quotient(x.even, divisor, inverse), half_quotient(x.odd, divisor, inverse),
                                     signs, &to, shape);
        }
        cast_put_line(codes + i, h_bytes_64(part[0], part[1]), streams);
    }
    return i;
}

WIDE void float8_tile(const ht_cast *cast, const ht_tile *tile, float scale, float stored, const cast_shape shape) {
    float x[HALF_LANES];
    uint8_t lines[CAST_CHUNK], *codes = cast->planes->plane[HT_PLANE_CODES];
    int plain = float8_is_plain(cast, scale), bf16 = cast->x_dtype == HT_BF16;
    float near = plain && bf16 && tile->rows * tile->cols >= CAST_CHUNK ? half_reciprocal(scale, 4) : 0;
    for (size_t r = tile->row; r < tile->row + tile->rows; r++) {
        size_t first = r * cast->cols + tile->col;
        size_t begin = 0, ahead = r + 1 < cast->rows ? cast->cols : 0;
        if (near > 0)
            begin = float8_lines(cast, first, tile->cols, scale, shape, HT_BF16, near, 1, ahead);
        else if (plain && bf16)
            begin = float8_lines(cast, first, tile->cols, scale, shape, HT_BF16, 0, 0, ahead);
        else if (plain)
            begin = float8_lines(cast, first, tile->cols, scale, shape, HT_F32, 0, 0, ahead);
        for (size_t done = begin, n; done < tile->cols; done += n) {
            n = cast_part(tile->cols, done);
            size_t at = first + done;
            int streams = cast->streams && cast_is_line(codes + at, n);
            uint8_t *run = streams ? lines : codes + at;
            float *decoded = cast->decoded ? cast->decoded + at : NULL;
            size_t whole = n / HALF_LANES * HALF_LANES;
            for (size_t i = 0; i < whole; i += HALF_LANES)
                float8_run(cast, at + i, scale, stored, shape, run + i, decoded ? decoded + i : NULL);
            if (whole < n) {
                cast_load(cast->x, cast->x_dtype, at + whole, n - whole, x);
                float8_segment(x, n - whole, scale, stored, shape, run + whole, decoded ? decoded + whole : NULL);
            }
            if (streams)
                cast_stream(codes + at, lines, n);
        }
    }
}

WIDE ht_status float8_all(const ht_cast *cast, const cast_shape shape) {
    const ht_format *format = cast->format;
    for (size_t b = 0, count = ht_tile_count(format, cast->rows, cast->cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, cast->rows, cast->cols, b);
        float scale = float8_scale(cast, &tile);
        void *scales = cast->planes->plane[HT_PLANE_SCALES];
        ht_scale_store(format->scale, scales, b, scale);
        float8_tile(cast, &tile, scale, ht_scale_load(format->scale, scales, b), shape);
    }
    if (cast->streams)
        w_fence();
    return HT_OK;
}

/* Sixteen codes, or what is left of a row. */
WIDE wi float8_codes(const uint8_t *codes, size_t left) {
    uint8_t some[CAST_LANES] = {0};
    if (left < CAST_LANES)
        codes = memcpy(some, codes, left);
    return w_from_bytes(w_get_bytes(codes));
}

WIDE ht_status float8_back(const ht_uncast *uncast, const cast_shape shape) {
    const ht_format *format = uncast->format;
    const uint8_t *codes = uncast->planes->plane[HT_PLANE_CODES];
    float buffer[CAST_CHUNK];
    for (size_t b = 0, count = ht_tile_count(format, uncast->rows, uncast->cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, uncast->rows, uncast->cols, b);
        wf scale = w_float(ht_scale_load(format->scale, uncast->planes->plane[HT_PLANE_SCALES], b));
        for (size_t r = tile.row; r < tile.row + tile.rows; r++)
            for (size_t done = 0, n; done < tile.cols; done += n) {
                n = cast_part(tile.cols, done);
                size_t at = r * uncast->cols + tile.col + done;
                float *to = cast_begin(uncast, at, n, buffer);
                for (size_t i = 0; i < n; i += CAST_LANES)
                    w_store(to + i, w_mul(w_decode_any(float8_codes(codes + at + i, n - i), shape), scale));
                cast_finish(uncast, at, n, to, buffer);
            }
    }
    if (uncast->streams)
        w_fence();
    return HT_OK;
}

static inline ht_status quantize_float8(const ht_cast *cast) {
    return cast->format->element == HT_F8_E4M3 ? float8_all(cast, CAST_E4M3) : float8_all(cast, CAST_E5M2);
}

static inline ht_status dequantize_float8(const ht_uncast *uncast) {
    return uncast->format->element == HT_F8_E4M3 ? float8_back(uncast, CAST_E4M3) : float8_back(uncast, CAST_E5M2);
}

#endif
