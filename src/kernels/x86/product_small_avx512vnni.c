/* A few rows of int8 inputs times a packed weight of 4 or 8 bits: weights are unpacked in registers and used at once.
 *
 * Per panel of 16 outputs and 64 packed bytes: one load, two table look-ups, two vpdpbusd per row with the four inputs
 * broadcast from memory. Every unit of sums starts at -offset * sum(codes of x) and ends in one fused multiply-add.
 * Reads each weight once, in order, and prefetches. One row of x takes one panel at a time, because one stream from
 * memory is faster than two (K 576 from DRAM: 98 against 51 % of the read probe); more rows take two, which share
 * broadcasts. For 8 bits there is nothing to unpack. Source: cpu-kernels specification, section 5.1.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <string.h> /* memcpy */

#include "kernels/x86/vnni.h"

enum { MOST = 8, AHEAD = 12288, AHEAD_OF_PAIR = 4096 };

/* One call for a pair of panels (or one). */
struct small {
    const ht_product *product;
    const uint8_t *panel[2];
    const int32_t *sums; /* [chunks][m][8]: of units; already times -offset without zero points */
    size_t n, n1, unit;
    unsigned scale_shift; /* units that share a scale, as a power of two */
};

static inline __attribute__((always_inline)) __m512i broadcast(const void *from) {
    int32_t word;
    memcpy(&word, from, sizeof word);
    return _mm512_set1_epi32(word);
}

/* Lines [at, at + bytes) of a panel, some later in the order in which they are read: what follows, or in pairs, after
 * the end of the panel the one behind the next, which is read beside it. */
static inline __attribute__((always_inline)) void prefetch(const struct small *s, size_t v, size_t panels,
                                                           const uint8_t *at, size_t bytes) {
    size_t size = s->product->weight->panel_bytes, ahead = AHEAD;
    if (panels > 1) {
        ahead = size < AHEAD_OF_PAIR ? size : AHEAD_OF_PAIR;
        ahead += (size_t)(at - s->panel[v]) + ahead >= size ? size : 0;
    }
    for (size_t line = 0; line < bytes; line += HT_UNIT)
        _mm_prefetch((const char *)at + ahead + line, _MM_HINT_T0);
}

/* One block of 32 k into the accumulators. */
static inline __attribute__((always_inline)) void block(const uint8_t *const *w, const int8_t *a, size_t stride,
                                                        size_t m, size_t panels, int bits, __m512i table,
                                                        __m512i acc[MOST][2]) {
    for (size_t u = 0; u < 4; u++) {
        __m512i first[2], second[2];
        for (size_t v = 0; v < panels; v++)
            if (bits == 4) {
                __m512i x = _mm512_loadu_si512(w[v] + u * HT_UNIT);
                __asm__("" : "+v"(x)); /* loaded once, not again for the shift */
                first[v] = _mm512_permutexvar_epi8(x, table);
                second[v] = _mm512_permutexvar_epi8(_mm512_srli_epi16(x, 4), table);
            } else {
                first[v] = _mm512_loadu_si512(w[v] + u * HT_UNIT);
                second[v] = _mm512_loadu_si512(w[v] + (u + 4) * HT_UNIT);
            }
        for (size_t r = 0; r < m; r++) {
            __m512i low = broadcast(a + r * stride + 4 * u), high = broadcast(a + r * stride + 4 * u + 16);
            for (size_t v = 0; v < panels; v++)
                acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], first[v], low);
            for (size_t v = 0; v < panels; v++)
                acc[r][v] = _mm512_dpbusd_epi32(acc[r][v], second[v], high);
        }
    }
}

/* Everything of one chunk into f, or into total where one unit is all of k. */
static inline __attribute__((always_inline)) void run_chunk(const struct small *s, size_t c, size_t m, size_t panels,
                                                            int bits, __m512i table, __m512 f[MOST][2],
                                                            __m512i total[MOST][2]) {
    const ht_packed *w = s->product->weight;
    const ht_int8_rows *x = s->product->x;
    size_t width = ht_packed_chunk_width(w, c);
    const int8_t *a = x->codes + HT_KCHUNK * m * c;
    const float *sx = x->span == HT_SPAN_32 ? x->scales + c * m * HT_KCHUNK_BLOCKS : NULL;
    const int32_t *sums = s->sums + c * m * HT_KCHUNK_BLOCKS;
    const uint8_t *at[2], *chunk[2];
    __m512 g[MOST][2];
    for (size_t v = 0; v < panels; v++) {
        chunk[v] = ht_packed_chunk(w, s->panel[v], c);
        at[v] = chunk[v] + w->scale_bytes + w->zero_bytes;
        prefetch(s, v, panels, chunk[v], w->scale_bytes + w->zero_bytes);
        for (size_t r = 0; r < m; r++)
            g[r][v] = _mm512_setzero_ps();
    }
    for (size_t u = 0, k = 0; k < width; u++) {
        __m512i acc[MOST][2];
        for (size_t r = 0; r < m; r++) {
            __m512i sum = _mm512_set1_epi32(sums[r * HT_KCHUNK_BLOCKS + u]);
            for (size_t v = 0; v < panels; v++)
                acc[r][v] = w->has_zeros ? _mm512_mullo_epi32(sum, vnni_zeros(w, chunk[v], u >> s->scale_shift)) : sum;
        }
        size_t end = k + s->unit < width ? k + s->unit : width;
        for (; k < end; k += HT_BLOCK) {
            block(at, a + k, width, m, panels, bits, table, acc);
            for (size_t v = 0; v < panels; v++) {
                prefetch(s, v, panels, at[v], (size_t)bits * HT_UNIT);
                at[v] += (size_t)bits * HT_UNIT;
            }
        }
        for (size_t v = 0; v < panels; v++) {
            __m512 p = w->group ? vnni_scales(w, chunk[v], u >> s->scale_shift) : _mm512_set1_ps(1);
            for (size_t r = 0; r < m; r++) {
                if (total) {
                    total[r][v] = _mm512_add_epi32(total[r][v], acc[r][v]);
                    continue;
                }
                __m512 q = sx ? _mm512_mul_ps(p, _mm512_set1_ps(sx[r * HT_KCHUNK_BLOCKS + u])) : p;
                g[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(acc[r][v]), q, g[r][v]);
            }
        }
    }
    for (size_t r = 0; !total && r < m; r++)
        for (size_t v = 0; v < panels; v++)
            f[r][v] = x->span == HT_SPAN_256 ? _mm512_fmadd_ps(g[r][v], _mm512_set1_ps(x->scales[c * m + r]), f[r][v])
                                             : _mm512_add_ps(f[r][v], g[r][v]);
}

static inline __attribute__((always_inline)) void run(const struct small *s, size_t m, size_t panels, int bits) {
    const ht_int8_rows *x = s->product->x;
    __m512i table = _mm512_loadu_si512(s->product->weight->table);
    if (ht_product_unit(s->product->weight, x->span)) {
        __m512 f[MOST][2];
        for (size_t r = 0; r < m; r++)
            for (size_t v = 0; v < panels; v++)
                f[r][v] = _mm512_setzero_ps();
        for (size_t c = 0; c < x->chunks; c++)
            run_chunk(s, c, m, panels, bits, table, f, NULL);
        for (size_t r = 0; r < m; r++)
            for (size_t v = 0; v < panels; v++)
                vnni_finish(s->product, 0, r, s->n + v * HT_PANEL, s->n1, f[r][v]);
        return;
    }
    __m512i total[MOST][2];
    for (size_t r = 0; r < m; r++)
        for (size_t v = 0; v < panels; v++)
            total[r][v] = _mm512_setzero_si512();
    for (size_t c = 0; c < x->chunks; c++)
        run_chunk(s, c, m, panels, bits, table, NULL, total);
    for (size_t r = 0; r < m; r++)
        for (size_t v = 0; v < panels; v++)
            vnni_finish(s->product, 1, r, s->n + v * HT_PANEL, s->n1, _mm512_castsi512_ps(total[r][v]));
}

static inline __attribute__((always_inline)) void run_m(const struct small *s, size_t panels, int bits) {
    switch (s->product->x->m) {
    case 1:
        run(s, 1, panels, bits);
        break;
    case 2:
        run(s, 2, panels, bits);
        break;
    case 3:
        run(s, 3, panels, bits);
        break;
    case 4:
        run(s, 4, panels, bits);
        break;
    case 5:
        run(s, 5, panels, bits);
        break;
    case 6:
        run(s, 6, panels, bits);
        break;
    case 7:
        run(s, 7, panels, bits);
        break;
    default:
        run(s, 8, panels, bits);
    }
}

static void two_nibbles(const struct small *s) {
    run_m(s, 2, 4);
}
static void one_nibbles(const struct small *s) {
    run_m(s, 1, 4);
}
static void two_bytes(const struct small *s) {
    run_m(s, 2, 8);
}
static void one_bytes(const struct small *s) {
    run_m(s, 1, 8);
}

void ht_product_small_avx512vnni(const ht_product *product, size_t n0, size_t n1, void *scratch) {
    const ht_packed *w = product->weight;
    const ht_int8_rows *x = product->x;
    struct small s = {.product = product, .sums = scratch, .n1 = n1, .unit = ht_product_unit(w, x->span)};
    s.unit = s.unit ? s.unit : HT_KCHUNK;
    for (size_t units = w->group / s.unit; units > 1; units /= 2)
        s.scale_shift++;
    for (size_t i = 0; i < x->chunks * x->m; i++)
        vnni_unit_sums(x->sums + i * HT_KCHUNK_BLOCKS, s.unit, w->has_zeros ? 1 : -w->offset,
                       (int32_t *)scratch + i * HT_KCHUNK_BLOCKS);
    for (size_t n = n0; n < n1;) {
        size_t two = x->m > 1 && n1 - n > HT_PANEL;
        s.n = n;
        s.panel[0] = product->panels + n / HT_PANEL * w->panel_bytes;
        s.panel[1] = s.panel[0] + (two ? w->panel_bytes : 0);
        if (w->bits == 4)
            (two ? two_nibbles : one_nibbles)(&s);
        else
            (two ? two_bytes : one_bytes)(&s);
        n += two ? 2 * HT_PANEL : HT_PANEL;
    }
}
