/* HQQ: half-quadratic quantization of integer groups, without data.
 *
 * With zero points, codes u = 0..Q, value = (u - z) / s: s stays, z moves.
 *     repeat   u = round(w s + z);  e = w - (u - z) / s;  e' = shrink(e);  z = mean(u - (w - e') s)
 *     shrink(e) = sign(e) max(|e| - |e|^(p-1) / beta, 0), the proximal step of |e|^p: large errors are let be
 * until mean |e| stops falling; beta grows by 1 % a round. A zero point that is an integer can hardly move, so there s
 * is fitted, too: 1 / s = sum v (u - z) / sum (u - z)^2 with v = w - e'. Without zero points the scale alone moves:
 *     repeat   q = round(w / s);  s = sum w q / sum q^2            (least squares for given codes)
 * What is found is kept only where it beats round to nearest by the measure it was found by, mean |e| or sum e^2, both
 * taken with scale and zero point as they are stored. Sums are f64 in order of the columns.
 *
 * Refuses: other families than integers, one scale for several rows. Source: algorithms specification, section 2.3;
 * Badri and Shaji, "Half-quadratic quantization of large machine learning models", 2023.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/method/hqq.h"

#include <float.h>  /* FLT_MAX */
#include <math.h>   /* rintf */
#include <string.h> /* memcpy */

#include "base/status.h"
#include "format/element.h"
#include "format/int.h"
#include "format/lanes.h"
#include "format/pack.h"
#include "format/tile.h"
#include "quant/transform/power.h"

enum { MOST_GROUP = 256 };

/* A run of a row that shares a scale. */
typedef struct group {
    const void *x;
    ht_dtype dtype;
    size_t at, count;
    float steps; /* Q */
    int first;   /* least code: value = (u + first - zero point) * scale */
    double norm; /* p */
    size_t most; /* rounds */
} group;

/* Scale and zero point as stored. */
typedef struct choice {
    float scale, zero;
} choice;

static size_t load(const group *g, size_t done, float *x) {
    size_t n = g->count - done < HT_TILE_CHUNK ? g->count - done : HT_TILE_CHUNK;
    ht_lanes_load(g->x, g->dtype, g->at + done, n, x);
    return n;
}

static float clamp(float value, float low, float high) {
    return value < low ? low : value > high ? high : value;
}

/* --- Symmetric: the scale moves --------------------------------------------------------------------------- */

typedef struct fit {
    double error, cross, square; /* sums of (w - q s)^2, w q, q^2 */
} fit;

static fit measure(const group *g, float scale) {
    float x[HT_TILE_CHUNK], r = 1 / scale;
    fit f = {0};
    for (size_t done = 0, n; done < g->count; done += n) {
        n = load(g, done, x);
        for (size_t i = 0; i < n; i++) {
            float q = clamp(rintf(x[i] * r), (float)g->first, (float)g->first + g->steps);
            double e = (double)x[i] - (double)q * (double)scale;
            f.error += e * e;
            f.cross += (double)x[i] * (double)q;
            f.square += (double)q * (double)q;
        }
    }
    return f;
}

static choice choose_scale(const group *g, const ht_format *format, choice rtn, float amax) {
    float side = (float)(g->first < 0 ? -g->first : (int)g->steps), s = amax / side;
    double least = measure(g, rtn.scale).error;
    choice best = rtn;
    for (size_t i = 0; i < g->most && s >= FLT_MIN; i++) {
        fit f = measure(g, s);
        if (!(f.square > 0))
            break;
        float next = (float)fabs(f.cross / f.square);
        int settled = fabsf(next - s) < 1e-5f * s;
        s = next;
        if (settled)
            break;
    }
    float stored = ht_scale_round(format->scale, s);
    if (stored >= FLT_MIN && stored <= FLT_MAX && measure(g, stored).error < least)
        best.scale = stored;
    return best;
}

/* --- With zero points: the zero moves ---------------------------------------------------------------------- */

/* One round: mean |e| under (s, z), and what the codes u and the target v = w - e' say about better ones. */
typedef struct turn {
    double error, u, v, uu, uv; /* mean of |e|, sums */
} turn;

/* Errors below the threshold shrink to nothing. */
static turn turn_of(const group *g, float s, float z, double beta, double threshold) {
    float x[HT_TILE_CHUNK], inverse = 1 / s;
    turn t = {0};
    for (size_t done = 0, n; done < g->count; done += n) {
        n = load(g, done, x);
        for (size_t i = 0; i < n; i++) {
            double u = (double)clamp(rintf(x[i] * s + z), 0, g->steps);
            double e = (double)x[i] - (u - (double)z) * (double)inverse, size = fabs(e), v = (double)x[i];
            if (size > threshold)
                v -= copysign(size - ht_power(size, g->norm - 1) / beta, e);
            t.error += size;
            t.u += u;
            t.v += v;
            t.uu += u * u;
            t.uv += u * v;
        }
    }
    t.error /= (double)g->count;
    return t;
}

static int has_float_zero(const ht_format *format) {
    return format->zero == HT_F32 || format->zero == HT_BF16 || format->zero == HT_F16;
}

/* z, in codes from 0 on, as it will be read back. */
static float store_zero(const group *g, const ht_format *format, float scale, double z) {
    if (has_float_zero(format)) {
        float half = (g->steps + 1) / 2;
        return ht_scale_round(format->zero, (float)((double)half - z) * scale);
    }
    return rintf(clamp((float)z, 0, g->steps)) + (float)g->first;
}

static float read_zero(const group *g, const ht_format *format, float scale, float zero) {
    if (has_float_zero(format))
        return (g->steps + 1) / 2 - zero / scale;
    return zero - (float)g->first;
}

/* Scale that fits v to (u - zero) best; the old one where there is none. */
static double fit_scale(const group *g, const turn *t, double zero, double scale) {
    double cross = t->uv - zero * t->v, square = t->uu - 2 * zero * t->u + zero * zero * (double)g->count;
    double fitted = square > 0 ? cross / square : 0;
    return fitted >= (double)FLT_MIN && fitted <= (double)FLT_MAX ? fitted : scale;
}

static choice choose_zero(const group *g, const ht_format *format, choice rtn) {
    choice best = rtn, now = rtn;
    if (!(1 / rtn.scale <= FLT_MAX))
        return rtn;
    double beta = 10, before = HUGE_VAL, z = (double)read_zero(g, format, rtn.scale, rtn.zero);
    double scale = (double)rtn.scale, least = HUGE_VAL;
    for (size_t i = 0; i <= g->most; i++, beta *= 1.01) {
        double threshold = ht_power(1 / beta, 1 / (2 - g->norm));
        now.scale = ht_scale_round(format->scale, (float)scale);
        now.zero = store_zero(g, format, now.scale, z);
        if (!(now.scale >= FLT_MIN && now.scale <= FLT_MAX && 1 / now.scale <= FLT_MAX))
            break;
        double stored = turn_of(g, 1 / now.scale, read_zero(g, format, now.scale, now.zero), beta, threshold).error;
        if (stored < least) {
            least = stored;
            best = now;
        }
        turn t = turn_of(g, (float)(1 / scale), (float)z, beta, threshold);
        if (!(t.error < before))
            break;
        before = t.error;
        z = (t.u - t.v / scale) / (double)g->count;
        if (!has_float_zero(format))
            scale = fit_scale(g, &t, rint((double)clamp((float)z, 0, g->steps)), scale);
    }
    return best;
}

/* --- Groups ------------------------------------------------------------------------------------------------ */

/* Encode one group under its scale and zero point. The codes go through a buffer, because packings of words clear what
 * follows them. */
static ht_status encode(const ht_format *format, const ht_row_options *options, const group *g, uint8_t *codes,
                        void *scale, void *zero) {
    uint8_t buffer[MOST_GROUP + 4];
    size_t bytes = ht_packed_bytes(format->packing, ht_dtype_bits(format->element), g->count);
    const uint8_t *x = (const uint8_t *)g->x + g->at * (ht_dtype_bits(g->dtype) / 8);
    int whole = g->count > MOST_GROUP;
    ht_planes planes = {{whole ? codes : buffer, scale, zero}};
    HT_TRY(ht_format_quantize(format, options, x, g->dtype, 1, g->count, &planes));
    if (!whole)
        memcpy(codes, buffer, bytes);
    return HT_OK;
}

static void range_of(const group *g, float *min, float *max, int *finite) {
    float x[HT_TILE_CHUNK];
    ht_range range = ht_range_empty();
    for (size_t done = 0, n; done < g->count; done += n) {
        n = load(g, done, x);
        ht_range_add(&range, x, HT_F32, n);
    }
    *min = range.min;
    *max = range.max;
    *finite = !range.has_nan && !range.has_inf;
}

static ht_row_options choose(const ht_format *format, const ht_row_options *options, const group *g) {
    ht_row_options how = *options;
    ht_affine a = ht_affine_rules(format, options);
    float min, max;
    int finite;
    range_of(g, &min, &max, &finite);
    if (!finite || (min == 0 && max == 0))
        return how;
    ht_affine_choose(format, options, min, max, &a);
    choice rtn = {a.scale, a.zero}, best;
    float amax = max > -min ? max : -min;
    best = format->zero == HT_DTYPE_NONE ? choose_scale(g, format, rtn, amax) : choose_zero(g, format, rtn);
    how.scale = best.scale;
    how.zero = best.zero;
    return how;
}

ht_status ht_hqq_rows(const ht_format *format, const ht_row_options *options, const ht_settings *settings,
                      const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out) {
    ht_row_options plain = options ? *options : ht_row_options_default();
    HT_TRY(ht_format_check_shape(format, rows, cols));
    ht_affine a = ht_affine_rules(format, &plain);
    unsigned bits = ht_dtype_bits(format->element);
    size_t row_bytes = ht_format_plane_bytes(format, HT_PLANE_CODES, 1, cols);
    size_t scale = ht_dtype_bits(format->scale) / 8, zero = format->zero ? ht_dtype_bits(format->zero) / 8 : 0;
    uint8_t *codes = out->plane[HT_PLANE_CODES], *scales = out->plane[HT_PLANE_SCALES],
            *zeros = out->plane[HT_PLANE_ZEROS];
    memset(codes, 0, rows * row_bytes); /* what pads a row to whole words */
    for (size_t b = 0, count = ht_tile_count(format, rows, cols); b < count; b++) {
        ht_tile tile = ht_tile_at(format, rows, cols, b);
        group g = {.x = x,
                   .dtype = x_dtype,
                   .at = tile.row * cols + tile.col,
                   .count = tile.cols,
                   .steps = (float)(a.qmax - a.qmin),
                   .first = a.qmin - (format->zero == HT_DTYPE_NONE ? a.middle : 0),
                   .norm = settings->value[HT_SETTING_NORM],
                   .most = (size_t)settings->value[HT_SETTING_ITERATIONS]};
        ht_row_options how = choose(format, &plain, &g);
        HT_TRY(encode(format, &how, &g, codes + tile.row * row_bytes + ht_packed_bytes(format->packing, bits, tile.col),
                      scales + b * scale, zero ? zeros + b * zero : NULL));
    }
    return HT_OK;
}

ht_status ht_hqq_accepts(const ht_scheme *scheme) {
    const ht_format *format = &scheme->weight;
    if (format->family == HT_FAMILY_INT && format->block_rows == 1 && format->block_cols <= MOST_GROUP)
        return HT_OK;
    return ht_fail(HT_ERR_UNSUPPORTED, "method hqq chooses scales of integer groups and rows; scheme %s has none",
                   scheme->name);
}
