/* Affine integers with a scale per row or group. Body of ht_quantize_int_*; scale and zero point are format/int.c's. */
#ifndef HT_KERNELS_BODY_CAST_INT_H
#define HT_KERNELS_BODY_CAST_INT_H

#include "format/int.h"
#include "format/pack.h"
#include "format/tile.h"
#include "kernels/body/cast.h"

/* What the rows of a cast have in common. */
typedef struct int_cast {
    unsigned bits;
    ht_packing packing;
    int direct;    /* sixteen codes are whole bytes that w_put knows */
    uint32_t add;  /* to a code before it is stored */
    uint32_t mask; /* bits of it that are */
} int_cast;

static int_cast int_cast_of(const ht_format *format) {
    unsigned bits = ht_dtype_bits(format->element);
    int is_signed = format->element == HT_I8 || (format->element >= HT_I1 && format->element <= HT_I7);
    ht_packing packing = format->packing;
    return (int_cast){.bits = bits,
                      .packing = packing,
                      .direct = packing == HT_PACK_BYTES || bits == 8 || bits == 6 || bits == 4,
                      .add = packing == HT_PACK_WORDS && is_signed ? 1u << (bits - 1) : 0,
                      .mask = packing == HT_PACK_BYTES ? 255 : (1u << bits) - 1};
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
        int_segment(how, &here, stored, x, n, row + ht_packed_bytes(how->packing, how->bits, tile->col + done),
                    decoded);
        for (size_t i = 0; decoded && !finite && i < n; i++)
            decoded[i] = stored;
    }
}

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
    return HT_OK;
}

static inline ht_status quantize_int(const ht_cast *cast) {
    return cast->options->code_rule == HT_CODE_DIVIDE ? int_all(cast, 1) : int_all(cast, 0);
}

#endif
