/* Many rows of int8 inputs times a packed weight: unpack a strip of 64 outputs x 256 k, use it for all rows.
 *
 *     for 64 outputs { for 512 rows of x { for 256 k {
 *         units[4][64 steps][64 bytes]  unsigned bytes, 16 KB: stays in the first cache
 *         4 rows x 64 outputs at a time: 16 accumulators, per step 4 loads, 4 broadcasts, 16 vpdpbusd
 *     } y } }
 *
 * Weights are the unsigned operand (value + offset); accumulators start at -offset * sum(codes of x), which costs
 * nothing. 8-bit weights are read where they lie. MXFP4 with an input scale per row or per 256: when the exponents of a
 * column lie within 3 of one another over the chunk, they are folded into the bytes (2 v 2^d + 96, d < 4) and the chunk
 * is one unit; else it is eight. Both give the bits of kernels/product.h, because such a chunk's sum is exact.
 * Source: cpu-kernels specification, sections 5.1 and 5.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/x86/tile_vnni.h"
#include "kernels/x86/vnni.h"

#include <string.h> /* memset */

#include "kernels/body/units.h"

enum {
    MOST_ROWS = 512,
    MR = 4,
    FOLD_OFFSET = 96,
    FOLD_SPREAD = 3,
    FOLD_TOP = 200,
    UNIT_BYTES = HT_KCHUNK / 4 * HT_UNIT
};

struct strip {
    uint8_t units[VNNI_VECTORS][UNIT_BYTES];
    float p[HT_KCHUNK_BLOCKS][VNNI_VECTORS][HT_PANEL];
    int32_t zeros[HT_KCHUNK_BLOCKS][VNNI_VECTORS][HT_PANEL];
    /* then: sums of units [rows][8], f [rows][64] */
};

/* What a tile needs to know of the chunk at hand. */
struct chunk {
    const uint8_t *w[VNNI_VECTORS];
    size_t width, unit; /* k */
    int offset, has_zeros, whole, by_block;
    int powers; /* by_block, and all p are powers of two in the middle of the range */
    const struct strip *strip;
    const int8_t *codes; /* of the first row */
    const int32_t *sums; /* [rows][8]: of units; already times -offset without zero points */
    const float *scales; /* span 32: [rows][8]; span 256: [rows]; else NULL */
    float *f;            /* [rows][64] */
};

/* --- unpacking --------------------------------------------------------------------------------------------------- */

static inline __m512i load(const void *from) {
    return _mm512_loadu_si512(from);
}

static void unpack_nibbles(const ht_packed *w, const uint8_t *blocks, size_t count, uint8_t *out) {
    __m512i table = load(w->table);
    for (size_t u = 0; u < count * 4; u++) {
        __m512i x = load(blocks + u * HT_UNIT);
        uint8_t *to = out + (u / 4 * HT_STEPS + u % 4) * HT_UNIT;
        _mm512_storeu_si512(to, _mm512_permutexvar_epi8(x, table));
        _mm512_storeu_si512(to + 4 * HT_UNIT, _mm512_permutexvar_epi8(_mm512_srli_epi16(x, 4), table));
    }
}

/* Smallest exponents of 16 columns over the blocks of a chunk; 0 when they cannot be folded. */
static int fold_base(const uint8_t *scales, size_t blocks, __m128i *base) {
    __m128i low = _mm_loadu_si128((const __m128i *)(const void *)scales), high = low;
    for (size_t b = 1; b < blocks; b++) {
        __m128i e = _mm_loadu_si128((const __m128i *)(const void *)(scales + 16 * b));
        low = _mm_min_epu8(low, e);
        high = _mm_max_epu8(high, e);
    }
    *base = low;
    __mmask16 far = _mm_cmpgt_epu8_mask(_mm_sub_epi8(high, low), _mm_set1_epi8(FOLD_SPREAD));
    return (far | _mm_cmpgt_epu8_mask(high, _mm_set1_epi8((char)FOLD_TOP))) == 0;
}

static void unpack_folded(const uint8_t *scales, __m128i base, const uint8_t *blocks, size_t count, __m512i table,
                          uint8_t *out) {
    __m512i spread = _mm512_set_epi32(0x0f0f0f0f, 0x0e0e0e0e, 0x0d0d0d0d, 0x0c0c0c0c, 0x0b0b0b0b, 0x0a0a0a0a,
                                      0x09090909, 0x08080808, 0x07070707, 0x06060606, 0x05050505, 0x04040404,
                                      0x03030303, 0x02020202, 0x01010101, 0x00000000);
    __m512i low = _mm512_set1_epi8(15);
    for (size_t b = 0; b < count; b++) {
        __m128i d = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)(scales + 16 * b)), base);
        d = _mm_slli_epi16(d, 4);
        __m512i high = _mm512_permutexvar_epi8(spread, _mm512_castsi128_si512(d));
        for (size_t u = 0; u < 4; u++) {
            __m512i x = load(blocks + (4 * b + u) * HT_UNIT);
            __m512i first = _mm512_ternarylogic_epi32(x, low, high, 0xea), /* (x & low) | high */
                second = _mm512_ternarylogic_epi32(_mm512_srli_epi16(x, 4), low, high, 0xea);
            uint8_t *to = out + (b * HT_STEPS + u) * HT_UNIT;
            _mm512_storeu_si512(to, _mm512_permutexvar_epi8(first, table));
            _mm512_storeu_si512(to + 4 * HT_UNIT, _mm512_permutexvar_epi8(second, table));
        }
    }
}

/* Bytes of 2 v 2^d + 96 by code + 16 d. */
static __m512i fold_table(const ht_packed *w) {
    uint8_t table[64];
    for (int i = 0; i < 64; i++)
        table[i] = (uint8_t)((w->table[i & 15] - w->offset) * (1 << (i >> 4)) + FOLD_OFFSET);
    return load(table);
}

static int try_fold(const ht_packed *w, const uint8_t *const *chunks, size_t panels, size_t blocks, struct chunk *c,
                    struct strip *strip) {
    __m128i base[VNNI_VECTORS];
    for (size_t v = 0; v < panels; v++)
        if (!fold_base(chunks[v], blocks, &base[v]))
            return 0;
    __m512i table = fold_table(w);
    for (size_t v = 0; v < panels; v++) {
        unpack_folded(chunks[v], base[v], chunks[v] + w->scale_bytes, blocks, table, strip->units[v]);
        __m512i bits =
            _mm512_max_epu32(_mm512_slli_epi32(_mm512_cvtepu8_epi32(base[v]), 23), _mm512_set1_epi32(0x00400000));
        _mm512_storeu_ps(strip->p[0][v], _mm512_castsi512_ps(bits));
        c->w[v] = strip->units[v];
    }
    c->unit = HT_KCHUNK;
    c->offset = FOLD_OFFSET;
    return 1;
}

/* Numbers whose products with one another stay far from both ends of the range of f32. */
static inline __mmask16 in_middle(__m512 x) {
    const uint32_t least = (127 - 60) << 23, most = (127 + 60) << 23;
    __m512i above = _mm512_sub_epi32(_mm512_castps_si512(x), _mm512_set1_epi32((int)least));
    return _mm512_cmple_epu32_mask(above, _mm512_set1_epi32((int)(most - least)));
}

static inline int are_powers(__m512 p) {
    __mmask16 fractions = _mm512_test_epi32_mask(_mm512_castps_si512(p), _mm512_set1_epi32(0x7fffff));
    return fractions == 0 && in_middle(p) == 0xffff;
}

/* Units and scales of `panels` panels for chunk number `index`. */
static void unpack(const ht_product *product, size_t n, size_t panels, size_t index, struct chunk *c,
                   struct strip *strip) {
    const ht_packed *w = product->weight;
    const uint8_t *chunks[VNNI_VECTORS];
    size_t blocks = c->width / HT_BLOCK;
    for (size_t v = 0; v < panels; v++)
        chunks[v] = ht_packed_chunk(w, product->panels + (n / HT_PANEL + v) * w->panel_bytes, index);
    if (w->element == HT_PACKED_E2M1 && !c->by_block && try_fold(w, chunks, panels, blocks, c, strip))
        return;
    for (size_t v = 0; v < panels; v++) {
        const uint8_t *from = chunks[v] + w->scale_bytes + w->zero_bytes;
        c->w[v] = w->bits == 8 ? from : strip->units[v];
        if (w->bits == 4)
            unpack_nibbles(w, from, blocks, strip->units[v]);
        else if (w->bits != 8)
            for (size_t b = 0; b < blocks; b++)
                block_values(w, from + b * w->block_bytes, strip->units[v] + b * HT_STEPS * HT_UNIT);
        for (size_t u = 0, at = 0; at < c->width; u++, at += c->unit) {
            size_t group = w->group ? at / w->group : 0;
            __m512 p = w->group ? vnni_scales(w, chunks[v], group) : _mm512_set1_ps(1);
            _mm512_storeu_ps(strip->p[u][v], p);
            c->powers &= are_powers(p);
            if (w->has_zeros)
                _mm512_storeu_si512(strip->zeros[u][v], vnni_zeros(w, chunks[v], group));
        }
    }
}

/* --- tiles ------------------------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) __m512i broadcast(const void *from) {
    int32_t word;
    memcpy(&word, from, sizeof word);
    return _mm512_set1_epi32(word);
}

/* rows x vectors accumulators over `steps` steps. */
static inline __attribute__((always_inline)) void dots(const uint8_t *const *w, const int8_t *a, size_t stride,
                                                       size_t steps, size_t rows, size_t vectors,
                                                       __m512i acc[MR][VNNI_VECTORS]) {
    const uint8_t *w0 = w[0], *w1 = w[vectors > 1], *w2 = w[vectors > 2 ? 2 : 0], *w3 = w[vectors > 3 ? 3 : 0];
    for (size_t s = 0; s < steps; s++) {
        __m512i b[VNNI_VECTORS];
        b[0] = load(w0 + s * HT_UNIT);
        if (vectors == VNNI_VECTORS) {
            b[1] = load(w1 + s * HT_UNIT);
            b[2] = load(w2 + s * HT_UNIT);
            b[3] = load(w3 + s * HT_UNIT);
        }
        for (size_t r = 0; r < rows; r++) {
            __m512i x = broadcast(a + r * stride + 4 * s);
            for (size_t v = 0; v < vectors; v++)
                acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], b[v], x);
        }
    }
}

static inline __attribute__((always_inline)) void start(const struct chunk *c, size_t row, size_t unit, size_t rows,
                                                        size_t vectors, __m512i acc[MR][VNNI_VECTORS]) {
    for (size_t r = 0; r < rows; r++) {
        __m512i sum = _mm512_set1_epi32(c->sums[(row + r) * HT_KCHUNK_BLOCKS + unit]);
        for (size_t v = 0; v < vectors; v++)
            acc[r][v] = c->has_zeros ? _mm512_mullo_epi32(sum, load(c->strip->zeros[unit][v])) : sum;
    }
}

/* One unit over all of k: integers, kept in f. */
static inline __attribute__((always_inline)) void whole_tile(const struct chunk *c, size_t row, size_t rows,
                                                             size_t vectors) {
    __m512i acc[MR][VNNI_VECTORS];
    float *f = c->f + row * VNNI_STRIP;
    start(c, row, 0, rows, vectors, acc);
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++)
            acc[r][v] = _mm512_add_epi32(acc[r][v], load(f + r * VNNI_STRIP + v * HT_PANEL));
    dots(c->w, c->codes + row * c->width, c->width, c->width / 4, rows, vectors, acc);
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++)
            _mm512_storeu_si512(f + r * VNNI_STRIP + v * HT_PANEL, acc[r][v]);
}

static inline void add_chunk(const struct chunk *c, size_t row, size_t vector, __m512 g) {
    float *f = c->f + row * VNNI_STRIP + vector * HT_PANEL;
    __m512 old = _mm512_loadu_ps(f);
    _mm512_storeu_ps(f, c->scales && !c->by_block ? _mm512_fmadd_ps(g, _mm512_set1_ps(c->scales[row]), old)
                                                  : _mm512_add_ps(old, g));
}

static inline __attribute__((always_inline)) void tile(const struct chunk *c, size_t row, size_t rows, size_t vectors) {
    if (c->whole) {
        whole_tile(c, row, rows, vectors);
        return;
    }
    __m512i acc[MR][VNNI_VECTORS];
    __m512 g[MR][VNNI_VECTORS] = {{_mm512_setzero_ps()}};
    const uint8_t *w[VNNI_VECTORS] = {c->w[0], c->w[vectors > 1 ? 1 : 0], c->w[vectors > 1 ? 2 : 0],
                                      c->w[vectors > 1 ? 3 : 0]};
    for (size_t u = 0, at = 0; at < c->width; u++, at += c->unit) {
        size_t span = c->width - at < c->unit ? c->width - at : c->unit;
        start(c, row, u, rows, vectors, acc);
        dots(w, c->codes + row * c->width + at, c->width, span / 4, rows, vectors, acc);
        for (size_t r = 0; r < rows; r++) {
            __m512 sx = c->by_block ? _mm512_set1_ps(c->scales[(row + r) * HT_KCHUNK_BLOCKS + u]) : _mm512_set1_ps(1);
            for (size_t v = 0; v < vectors; v++) {
                __m512 p = _mm512_loadu_ps(c->strip->p[u][v]);
                p = c->by_block ? _mm512_mul_ps(p, sx) : p;
                g[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][v]), p, g[r][v]);
            }
        }
        for (size_t v = 0; v < vectors; v++)
            w[v] += span * HT_PANEL;
    }
    for (size_t r = 0; r < rows; r++)
        for (size_t v = 0; v < vectors; v++)
            add_chunk(c, row + r, v, g[r][v]);
}

/* Starting values of all units where zero points make them differ by output. */
static void start_4x4(const struct chunk *c, size_t row, int32_t *init) {
    for (size_t u = 0; u * c->unit < c->width; u++)
        for (size_t r = 0; r < MR; r++) {
            __m512i sum = _mm512_set1_epi32(c->sums[(row + r) * HT_KCHUNK_BLOCKS + u]);
            for (size_t v = 0; v < VNNI_VECTORS; v++)
                _mm512_store_si512(init + ((u * MR + r) * VNNI_VECTORS + v) * HT_PANEL,
                                   _mm512_mullo_epi32(sum, load(c->strip->zeros[u][v])));
        }
}

/* Four rows and all four panels, one unit. */
static void quad(const struct chunk *c, vnni_tile *t) {
    t->blocks = c->width / HT_BLOCK;
    if (c->whole)
        vnni_quad_whole(t);
    else if (t->sx)
        vnni_quad_256(t);
    else
        vnni_quad_scaled(t);
}

/* Two panels from panel v on, all units. */
static void pair(const struct chunk *c, const vnni_tile *quad_tile, size_t v, int powers) {
    vnni_tile t = *quad_tile;
    t.w[0] = c->w[v];
    t.w[1] = c->w[v + 1];
    t.init += v * HT_PANEL;
    t.p += v * HT_PANEL;
    t.f += v * HT_PANEL;
    t.units = c->width / c->unit;
    t.blocks = c->unit / HT_BLOCK;
    if (c->by_block && powers)
        vnni_pair_by_powers(&t);
    else if (c->by_block)
        vnni_pair_by_block(&t);
    else if (c->scales)
        vnni_pair_256(&t, t.sx);
    else
        vnni_pair_scaled(&t);
}

/* Are the scales of all units of four rows, eight a row, neither tiny nor huge nor NaN? */
static int scales_in_middle(const struct chunk *c, size_t row) {
    const float *scales = c->scales + row * HT_KCHUNK_BLOCKS;
    __mmask16 units = (__mmask16)((1u << c->width / c->unit) - 1), both = (__mmask16)(units | units << 8);
    __mmask16 good = in_middle(_mm512_loadu_ps(scales)) & in_middle(_mm512_loadu_ps(scales + 2 * HT_KCHUNK_BLOCKS));
    return (good & both) == both;
}

/* Four rows and all four panels. */
static void tile_4x4(const struct chunk *c, size_t row) {
    _Alignas(64) int32_t init[HT_KCHUNK_BLOCKS * MR * VNNI_STRIP];
    vnni_tile t = {.w = {c->w[0], c->w[1], c->w[2], c->w[3]},
                   .a = c->codes + row * c->width,
                   .stride = c->width,
                   .sums = c->has_zeros ? NULL : c->sums + row * HT_KCHUNK_BLOCKS,
                   .init = init,
                   .p = &c->strip->p[0][0][0],
                   .sx = c->by_block ? c->scales + row * HT_KCHUNK_BLOCKS
                         : c->scales ? c->scales + row
                                     : NULL,
                   .f = c->f + row * VNNI_STRIP};
    if (c->has_zeros)
        start_4x4(c, row, init);
    if (c->unit >= c->width && !c->by_block) {
        quad(c, &t);
        return;
    }
    int powers = c->powers && scales_in_middle(c, row);
    pair(c, &t, 0, powers);
    pair(c, &t, 2, powers);
}

/* The rows that are left over, and strips of fewer than four panels, one panel at a time. */
static void tile_rest(const struct chunk *c, size_t row, size_t rows, size_t panels) {
    if (panels == VNNI_VECTORS) {
        if (rows == 3)
            tile(c, row, 3, VNNI_VECTORS);
        else if (rows == 2)
            tile(c, row, 2, VNNI_VECTORS);
        else
            tile(c, row, 1, VNNI_VECTORS);
        return;
    }
    struct strip const *strip = c->strip;
    for (size_t v = 0; v < panels; v++) {
        struct chunk one = *c;
        one.w[0] = c->w[v];
        one.f = c->f + v * HT_PANEL;
        one.strip = (const struct strip *)(const void *)((const char *)strip + v * HT_PANEL * sizeof(float));
        for (size_t r = 0; r < rows; r++)
            tile(&one, row + r, 1, 1);
    }
}

/* --- the loops -----------------------------------------------------------------------------------------------------
 */

static void run_chunk(const ht_product *product, size_t n, size_t panels, size_t row0, size_t rows, size_t index,
                      struct strip *strip, float *f) {
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    int32_t *sums = (int32_t *)(void *)(strip + 1);
    size_t unit = ht_product_unit(w, x->span), first = index * x->m + row0;
    struct chunk c = {.width = ht_packed_chunk_width(w, index),
                      .unit = unit ? unit : HT_KCHUNK,
                      .offset = w->offset,
                      .has_zeros = w->has_zeros,
                      .whole = !unit,
                      .by_block = x->span == HT_SPAN_32,
                      .powers = x->span == HT_SPAN_32,
                      .strip = strip,
                      .sums = sums,
                      .f = f};
    c.codes = x->codes + HT_KCHUNK * x->m * index + row0 * c.width;
    c.scales = x->span == HT_SPAN_32    ? x->scales + first * HT_KCHUNK_BLOCKS
               : x->span == HT_SPAN_256 ? x->scales + first
                                        : NULL;
    unpack(product, n, panels, index, &c, strip);
    for (size_t r = 0; r < rows; r++)
        vnni_unit_sums(x->sums + (first + r) * HT_KCHUNK_BLOCKS, c.unit, c.has_zeros ? 1 : -c.offset,
                       sums + r * HT_KCHUNK_BLOCKS);
    size_t r = 0;
    if (panels == VNNI_VECTORS && (c.unit >= c.width || c.width % c.unit == 0))
        for (; r + MR <= rows; r += MR)
            tile_4x4(&c, r);
    if (r < rows)
        tile_rest(&c, r, rows - r, panels);
}

void ht_product_strip_avx512vnni(const ht_product *product, size_t n0, size_t n1, void *scratch) {
    const ht_int8_rows *x = product->x;
    struct strip *strip = scratch;
    int whole = !ht_product_unit(product->weight, x->span);
    for (size_t n = n0; n < n1; n += VNNI_STRIP) {
        size_t panels = (n1 - n + HT_PANEL - 1) / HT_PANEL;
        panels = panels < VNNI_VECTORS ? panels : VNNI_VECTORS;
        for (size_t row0 = 0; row0 < x->m; row0 += MOST_ROWS) {
            size_t rows = x->m - row0 < MOST_ROWS ? x->m - row0 : MOST_ROWS;
            float *f = (float *)(void *)((char *)(strip + 1) + rows * HT_KCHUNK_BLOCKS * sizeof(int32_t) + HT_UNIT);
            memset(f, 0, rows * VNNI_STRIP * sizeof *f);
            for (size_t c = 0; c < x->chunks; c++)
                run_chunk(product, n, panels, row0, rows, c, strip, f);
            for (size_t i = 0; i < rows; i++)
                for (size_t v = 0; v < panels; v++)
                    vnni_finish(product, whole, row0 + i, n + v * HT_PANEL, n1,
                                _mm512_loadu_ps(f + i * VNNI_STRIP + v * HT_PANEL));
        }
    }
}
