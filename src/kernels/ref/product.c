/* The product of a packed weight with int8 inputs, one output at a time: the definition of its bits.
 *
 * Refuses nothing: ops/ has checked shapes. Source: kernels/product.h.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/product.h"

#include <math.h>   /* fmaf */
#include <string.h> /* memcpy */

#include "kernels/body/halves.h"
#include "kernels/body/units.h"

enum { ALIGN = 64, STRIP = 64, MOST_ROWS = 512, SMALL_M = 8 };

static size_t round_up(size_t value, size_t step) {
    return (value + step - 1) / step * step;
}

/* --- sizes shared by all rows ------------------------------------------------------------------------------------- */

static size_t scale_count(ht_span span, size_t m, size_t chunks) {
    return span == HT_SPAN_ROW ? m : span == HT_SPAN_256 ? m * chunks : m * chunks * HT_KCHUNK_BLOCKS;
}

ht_int8_rows ht_int8_rows_at(void *memory, ht_span span, size_t m, size_t cols) {
    ht_int8_rows x = {.span = span, .m = m, .blocks = (cols + HT_BLOCK - 1) / HT_BLOCK};
    x.chunks = (x.blocks + HT_KCHUNK_BLOCKS - 1) / HT_KCHUNK_BLOCKS;
    char *at = memory;
    x.codes = (int8_t *)at;
    at += round_up(m * x.blocks * HT_BLOCK, ALIGN);
    x.sums = (int32_t *)(void *)at;
    at += round_up(m * x.chunks * HT_KCHUNK_BLOCKS * sizeof(int32_t), ALIGN);
    x.scales = (float *)(void *)at;
    return x;
}

size_t ht_int8_rows_bytes(ht_span span, size_t m, size_t cols) {
    ht_int8_rows x = ht_int8_rows_at(NULL, span, m, cols);
    return round_up(m * x.blocks * HT_BLOCK, ALIGN) +
           round_up(m * x.chunks * HT_KCHUNK_BLOCKS * sizeof(int32_t), ALIGN) +
           round_up(scale_count(span, m, x.chunks) * sizeof(float), ALIGN);
}

int ht_product_takes_integers(const ht_packed *packed) {
    return packed->is_integer;
}

int ht_product_takes_blocks(const ht_packed *packed) {
    return packed->is_integer && (!packed->group || packed->group >= HT_BLOCK);
}

int ht_product_takes_halves(const ht_packed *packed) {
    return packed->is_integer && packed->group == HALF && packed->bits == 4 && !packed->has_zeros;
}

size_t ht_product_step(const ht_packed *packed, size_t m) {
    size_t few = packed->rows / STRIP; /* short matrices: pieces of half a strip share out better */
    return m <= SMALL_M && few < 16 ? STRIP / 2 : STRIP;
}

/* Units and scales of a strip, sums of MOST_ROWS rows and their corrections; see the strip kernels. With groups of 16,
 * the sums of HALF_ROWS rows. */
size_t ht_product_scratch(const ht_packed *packed, size_t m) {
    size_t rows = m < MOST_ROWS ? m : MOST_ROWS;
    if (ht_product_takes_halves(packed))
        return packed->chunks * HALF_ROWS * CHUNK_HALVES * sizeof(int32_t);
    return (size_t)STRIP * HT_KCHUNK + 3 * STRIP * HT_KCHUNK_BLOCKS * sizeof(float) + rows * STRIP * sizeof(float) +
           (rows < SMALL_M ? SMALL_M : rows) * HT_KCHUNK_BLOCKS * sizeof(float) * (m <= SMALL_M ? packed->chunks : 1) +
           16 * ALIGN;
}

/* --- the product ---------------------------------------------------------------------------------------------------
 */

struct output {
    const ht_product *product;
    const uint8_t *panel;
    size_t column, row; /* inside the panel; of x */
};

/* Table value minus offset and zero point of every k of a chunk. */
static void weight_values(const struct output *o, size_t c, int *value) {
    const ht_packed *w = o->product->weight;
    const uint8_t *chunk = ht_packed_chunk(w, o->panel, c);
    const uint8_t *blocks = chunk + w->scale_bytes + w->zero_bytes;
    uint8_t units[HT_STEPS * HT_UNIT];
    for (size_t k = 0; k < ht_packed_chunk_width(w, c); k++) {
        if (k % HT_BLOCK == 0)
            block_values(w, blocks + k / HT_BLOCK * w->block_bytes, units);
        value[k] = units[k % HT_BLOCK / 4 * HT_UNIT + 4 * o->column + k % 4] - w->offset;
        if (w->has_zeros)
            value[k] -= (int8_t)chunk[w->scale_bytes + k / w->group * HT_PANEL + o->column];
    }
}

static float chunk_sum(const struct output *o, size_t c, size_t unit) {
    const ht_packed *w = o->product->weight;
    const ht_int8_rows *x = o->product->x;
    size_t width = ht_packed_chunk_width(w, c);
    const int8_t *codes = x->codes + HT_KCHUNK * x->m * c + o->row * width;
    int value[HT_KCHUNK];
    float g = 0;
    weight_values(o, c, value);
    for (size_t from = 0; from < width; from += unit) {
        int32_t d = 0;
        for (size_t k = from; k < from + unit && k < width; k++)
            d += codes[k] * value[k];
        float p = w->group ? chunk_scale(w, ht_packed_chunk(w, o->panel, c), from / w->group, o->column) : 1;
        if (x->span == HT_SPAN_32)
            p *= x->scales[(c * x->m + o->row) * HT_KCHUNK_BLOCKS + from / HT_BLOCK];
        g = fmaf((float)d, p, g);
    }
    return g;
}

/* One unit over all of k. */
static float whole_sum(const struct output *o) {
    const ht_packed *w = o->product->weight;
    const ht_int8_rows *x = o->product->x;
    int value[HT_KCHUNK];
    int32_t d = 0;
    for (size_t c = 0; c < x->chunks; c++) {
        size_t width = ht_packed_chunk_width(w, c);
        weight_values(o, c, value);
        for (size_t k = 0; k < width; k++)
            d += x->codes[HT_KCHUNK * x->m * c + o->row * width + k] * value[k];
    }
    return (float)d;
}

static float output_value(const struct output *o) {
    const ht_packed *w = o->product->weight;
    const ht_int8_rows *x = o->product->x;
    size_t unit = ht_product_unit(w, x->span);
    float f = 0, r = x->span == HT_SPAN_ROW ? x->scales[o->row] * w->unit : w->unit;
    if (!unit)
        return whole_sum(o) * head_scale(w, o->panel, o->column) * r;
    for (size_t c = 0; c < x->chunks; c++) {
        float g = chunk_sum(o, c, unit);
        f = x->span == HT_SPAN_256 ? fmaf(g, x->scales[c * x->m + o->row], f) : f + g;
    }
    return w->head_bytes ? f * (head_scale(w, o->panel, o->column) * r) : f * r;
}

void ht_product_ref(const ht_product *product, size_t n0, size_t n1, void *scratch) {
    (void)scratch;
    for (size_t n = n0; n < n1; n++)
        for (size_t i = 0; i < product->x->m; i++) {
            struct output o = {product, product->panels + n / HT_PANEL * product->weight->panel_bytes, n % HT_PANEL, i};
            float y = output_value(&o);
            product->y[i * product->y_stride + n] = product->bias ? y + product->bias[n] : y;
        }
}
