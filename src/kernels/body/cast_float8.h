/* 8-bit floats with one scale per rectangle. Body of ht_quantize_float8_*; the scale is format/float8.c's. */
#ifndef HT_KERNELS_BODY_CAST_FLOAT8_H
#define HT_KERNELS_BODY_CAST_FLOAT8_H

#include "format/tile.h"
#include "kernels/body/cast.h"

WIDE size_t cast_part(size_t total, size_t done) {
    return total - done < CAST_CHUNK ? total - done : CAST_CHUNK;
}

/* Largest magnitude of a tile, as f32 bits. */
static uint32_t cast_tile_amax(const ht_cast *cast, const ht_tile *tile) {
    float x[CAST_CHUNK];
    wi most = w_int(0);
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = cast_part(tile->cols, done);
            cast_load(cast->x, cast->x_dtype, r * cast->cols + tile->col + done, n, x);
            for (size_t i = 0; i < n; i += CAST_LANES)
                most = w_imax(most, w_magnitude(w_load(x + i)));
        }
    return w_largest(most);
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

WIDE void float8_tile(const ht_cast *cast, const ht_tile *tile, float scale, float stored, const cast_shape shape) {
    float x[CAST_CHUNK];
    uint8_t *codes = cast->planes->plane[HT_PLANE_CODES];
    for (size_t r = tile->row; r < tile->row + tile->rows; r++)
        for (size_t done = 0, n; done < tile->cols; done += n) {
            n = cast_part(tile->cols, done);
            size_t at = r * cast->cols + tile->col + done;
            cast_load(cast->x, cast->x_dtype, at, n, x);
            float8_segment(x, n, scale, stored, shape, codes + at, cast->decoded ? cast->decoded + at : NULL);
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
    return HT_OK;
}

static inline ht_status quantize_float8(const ht_cast *cast) {
    return cast->format->element == HT_F8_E4M3 ? float8_all(cast, CAST_E4M3) : float8_all(cast, CAST_E5M2);
}

#endif
