/* Tables chosen for the values of a tile: 16 rows of a group of columns share 2^bits numbers of f16.
 *
 *     codes  [rows, packed columns]      scales  [ceil(rows / 16), groups * 2^bits]      value = table[code]
 *
 * The table is the exact solution of k-means in one dimension. Clusters of sorted values are runs, so with D_j(i) the
 * least cost of the first i values in j runs
 *
 *     D_j(i) = min over m of D_{j-1}(m) + cost(m, i),    cost(m, i) = sum w x^2 - (sum w x)^2 / sum w  of values m ..
 * i-1
 *
 * and the best m grows with i: the middle i is solved first and bounds the m of both halves. Sums are f64 of values
 * around their mean, in order, so results do not depend on anything but the values. Entries beyond the number of
 * distinct values repeat. A tile with NaN or Inf has a table of NaN.
 * Refuses: groups that do not divide the columns, tables times tiles that are too large for exact search.
 * Source: algorithms specification, section 2.6; Wang and Song 2011 (k-means by dynamic programming).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/lut.h"

#include <math.h>   /* isfinite, HUGE_VAL */
#include <stdlib.h> /* qsort */

#include "base/status.h"
#include "format/codec.h"
#include "format/lanes.h"
#include "format/pack.h"
#include "format/tile.h"

enum { NAN_F16 = 0x7e00 };

/* --- k-means -------------------------------------------------------------------------------------------------- */

typedef struct point {
    float x, weight;
} point;

typedef struct search {
    double weight[HT_LUT_VALUES + 1], sum[HT_LUT_VALUES + 1], square[HT_LUT_VALUES + 1]; /* of the first i */
    double before[HT_LUT_VALUES + 1], now[HT_LUT_VALUES + 1];                            /* D_{j-1}, D_j */
    uint16_t split[HT_LUT_SPLITS + HT_LUT_ENTRIES];                                      /* best m, by j and i */
} search;

static int by_value(const void *left, const void *right) {
    const point *a = left, *b = right;
    if (a->x != b->x)
        return a->x < b->x ? -1 : 1;
    return a->weight < b->weight ? -1 : a->weight > b->weight;
}

static double cost(const search *s, size_t from, size_t to) {
    double w = s->weight[to] - s->weight[from], sum = s->sum[to] - s->sum[from];
    double left = s->square[to] - s->square[from] - (w > 0 ? sum * sum / w : 0);
    return left > 0 ? left : 0;
}

/* D_j of low .. high, whose best m lie in from .. to. */
static void solve(search *s, uint16_t *split, size_t low, size_t high, size_t from, size_t to) {
    while (low <= high) {
        size_t middle = low + (high - low) / 2, best = from;
        double least = HUGE_VAL;
        for (size_t m = from; m <= to && m <= middle; m++) {
            double all = s->before[m] + cost(s, m, middle);
            if (all < least) {
                least = all;
                best = m;
            }
        }
        s->now[middle] = least;
        split[middle] = (uint16_t)best;
        if (middle > low)
            solve(s, split, low, middle - 1, from, best);
        low = middle + 1;
        from = best;
    }
}

static void add_up(search *s, const point *points, size_t n, double mean) {
    s->weight[0] = s->sum[0] = s->square[0] = 0;
    for (size_t i = 0; i < n; i++) {
        double w = (double)points[i].weight, x = (double)points[i].x - mean;
        s->weight[i + 1] = s->weight[i] + w;
        s->sum[i + 1] = s->sum[i] + w * x;
        s->square[i + 1] = s->square[i] + w * x * x;
    }
}

static uint16_t to_f16(double value) {
    return ht_f16_from_f32((float)(value > 65504 ? 65504 : value < -65504 ? -65504 : value));
}

/* Centres of the runs, last one first. */
static void read_centres(const search *s, size_t n, size_t entries, double mean, uint16_t *table) {
    size_t to = n;
    for (size_t j = entries; j-- > 0;) {
        size_t from = j ? s->split[j * (n + 1) + to] : 0;
        double w = s->weight[to] - s->weight[from];
        if (to > from && w > 0)
            table[j] = to_f16(mean + (s->sum[to] - s->sum[from]) / w);
        else /* an empty run: as the one above it */
            table[j] = j + 1 < entries ? table[j + 1] : to_f16(mean);
        to = from;
    }
}

void ht_lut_fit(const float *x, const float *weight, size_t n, unsigned bits, uint16_t *table) {
    point points[HT_LUT_VALUES];
    search s;
    size_t entries = (size_t)1 << bits;
    double mean = 0;
    for (size_t i = 0; i < n; i++) {
        points[i] = (point){x[i], weight ? weight[i] : 1};
        mean += (double)x[i] / (double)n;
    }
    qsort(points, n, sizeof *points, by_value);
    add_up(&s, points, n, mean);
    for (size_t i = 0; i <= n; i++)
        s.before[i] = cost(&s, 0, i);
    for (size_t j = 1; j < entries; j++) {
        solve(&s, s.split + j * (n + 1), 0, n, 0, n);
        for (size_t i = 0; i <= n; i++)
            s.before[i] = s.now[i];
    }
    read_centres(&s, n, entries, mean, table);
}

/* --- The codec ------------------------------------------------------------------------------------------------- */

static ht_status check_shape(const ht_format *format, size_t rows, size_t cols) {
    unsigned bits = ht_dtype_bits(format->element);
    size_t values = (size_t)format->block_rows * format->block_cols;
    (void)rows;
    if (format->scale != HT_F16 || bits < 1 || bits > 8 || format->block_cols % 8 || values == 0)
        return ht_fail(HT_ERR_FORMAT, "tables are f16, of 1 to 8 bits, for tiles of rows and multiples of 8 columns");
    if (values > HT_LUT_VALUES || values << bits > HT_LUT_SPLITS)
        return ht_fail(HT_ERR_FORMAT, "lut%u_g%u: tiles of %zu values are too many for tables of %u; at most %d", bits,
                       (unsigned)format->block_cols, values, 1u << bits,
                       HT_LUT_SPLITS >> bits < HT_LUT_VALUES ? HT_LUT_SPLITS >> bits : HT_LUT_VALUES);
    if (cols % format->block_cols)
        return ht_fail(HT_ERR_SHAPE, "lut%u_g%u: %zu columns are no multiple of %u", bits, (unsigned)format->block_cols,
                       cols, (unsigned)format->block_cols);
    return HT_OK;
}

/* A tile at (row, column), `rows` high. */
static void quantize_tile(const ht_format *format, const ht_values *in, size_t row, size_t col, size_t rows,
                          uint16_t *table, uint8_t *packed) {
    float values[HT_LUT_VALUES];
    uint8_t codes[HT_LUT_VALUES];
    unsigned bits = ht_dtype_bits(format->element);
    size_t width = format->block_cols, n = rows * width, stride = ht_packed_bytes(HT_PACK_BITS, bits, in->stride);
    for (size_t r = 0; r < rows; r++)
        ht_lanes_load(in->x, in->dtype, (row + r) * in->stride + col, width, values + r * width);
    if (ht_lanes_amax(values, n) < 0x7f800000u)
        ht_lut_fit(values, NULL, n, bits, table);
    else
        for (size_t i = 0; i < (size_t)1 << bits; i++)
            table[i] = NAN_F16;
    for (size_t i = 0; i < n; i++)
        codes[i] = (uint8_t)ht_lut_encode(table, bits, values[i]);
    for (size_t r = 0; r < rows; r++)
        ht_pack_codes(HT_PACK_BITS, bits, codes + r * width, width,
                      packed + (row + r) * stride + ht_packed_bytes(HT_PACK_BITS, bits, col));
}

static ht_status quantize(const ht_format *format, const ht_row_options *options, const void *x, ht_dtype x_dtype,
                          size_t rows, size_t cols, const ht_planes *out) {
    const ht_values in = {x, x_dtype, cols};
    size_t height = format->block_rows, entries = (size_t)1 << ht_dtype_bits(format->element);
    uint16_t *table = out->plane[HT_PLANE_SCALES];
    (void)options;
    for (size_t row = 0; row < rows; row += height)
        for (size_t col = 0; col < cols; col += format->block_cols, table += entries)
            quantize_tile(format, &in, row, col, rows - row < height ? rows - row : height, table,
                          out->plane[HT_PLANE_CODES]);
    return HT_OK;
}

static ht_status dequantize(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, float *out) {
    unsigned bits = ht_dtype_bits(format->element);
    size_t width = format->block_cols, across = cols / width, stride = ht_packed_bytes(HT_PACK_BITS, bits, cols);
    const uint8_t *packed = in->plane[HT_PLANE_CODES];
    const uint16_t *tables = in->plane[HT_PLANE_SCALES];
    uint8_t codes[HT_LUT_VALUES];
    for (size_t r = 0; r < rows; r++)
        for (size_t g = 0; g < across; g++) {
            const uint16_t *table = tables + ((r / format->block_rows * across + g) << bits);
            ht_unpack_codes(HT_PACK_BITS, bits, packed + r * stride + ht_packed_bytes(HT_PACK_BITS, bits, g * width),
                            width, codes);
            for (size_t i = 0; i < width; i++)
                out[r * cols + g * width + i] = ht_f32_from_f16(table[codes[i]]);
        }
    return HT_OK;
}

const ht_codec ht_codec_lut = {.check_shape = check_shape, .quantize = quantize, .dequantize = dequantize};
