/* Bodies of dot and mix, shared by the variants: a .c file sets HT_VECTOR_BYTES (register width), HT_DOT_ROWS and
 * HT_MIX_ROWS (rows of x in registers) to suit its instruction set and includes this.
 *
 *   dot   tile of HT_DOT_ROWS rows of x by 3 rows of w; each product keeps its 8 lanes in PARTS registers:
 *         AVX 4 x 3 x 1 = 12 accumulators, SSE 2 x 3 x 2 = 12, of 16 registers
 *   mix   tile of HT_MIX_ROWS rows by 16 columns; one v row is loaded for all of them
 *
 * The order of every sum is fixed by kernels.h; the tile only decides which sums run side by side. Compiled with -O3 so
 * that the small constant loops become registers, and without contraction so that products round before they add. */
#ifndef HT_KERNELS_BODY_DOT_H
#define HT_KERNELS_BODY_DOT_H

#include <stddef.h>

#define HT_INLINE static inline __attribute__((always_inline))

typedef float ht_vector __attribute__((vector_size(HT_VECTOR_BYTES), aligned(4), may_alias));
typedef float ht_quad __attribute__((vector_size(16)));
enum { LANES = 8, WIDTH = HT_VECTOR_BYTES / 4, PARTS = LANES / WIDTH, DOT_COLUMNS = 3, MIX_COLUMNS = 16 };

/* Dereferenced, not copied with memcpy: compilers keep the result in a register at every optimization level. */
HT_INLINE ht_vector load(const float *from) {
    return *(const ht_vector *)from;
}

/* Lanes (0+4, 1+5, 2+6, 3+7). With four lanes a register the second shuffle names the same register again. */
HT_INLINE ht_quad half_fold(const ht_vector *sum) {
    ht_quad low = __builtin_shufflevector(sum[0], sum[0], 0, 1, 2, 3);
    ht_vector last = sum[PARTS - 1];
    return low + __builtin_shufflevector(last, last, 4, 5, 6, 7);
}

/* Of two quads: (a0+c0, a1+c1, b0+d0, b1+d1). */
HT_INLINE ht_quad pair_fold(ht_quad x, ht_quad y) {
    return __builtin_shufflevector(x, y, 0, 4, 1, 5) + __builtin_shufflevector(x, y, 2, 6, 3, 7);
}

/* Fold the sums of `rows` (1, 2 or 4) rows of one column: (a+c) + (b+d) each. */
HT_INLINE void fold_rows(size_t rows, const ht_quad *quad, float *y, size_t y_stride) {
    ht_quad first = pair_fold(quad[0], quad[rows > 1]);
    y[0] = first[0] + first[2];
    if (rows > 1)
        y[y_stride] = first[1] + first[3];
    if (rows > 2) {
        ht_quad second = pair_fold(quad[2], quad[3]);
        y[2 * y_stride] = second[0] + second[2];
        y[3 * y_stride] = second[1] + second[3];
    }
}

/* Eight lanes of every operand, `at` floats into each row. */
HT_INLINE void dot_step(size_t rows, size_t columns, const float *x, size_t x_stride, const float *w, size_t w_stride,
                        ht_vector sum[HT_DOT_ROWS][DOT_COLUMNS][PARTS]) {
    for (size_t p = 0; p < PARTS; p++) {
        ht_vector b[DOT_COLUMNS];
        for (size_t j = 0; j < columns; j++)
            b[j] = load(w + j * w_stride + p * WIDTH);
        for (size_t i = 0; i < rows; i++) {
            ht_vector a = load(x + i * x_stride + p * WIDTH);
            for (size_t j = 0; j < columns; j++)
                sum[i][j][p] += a * b[j];
        }
    }
}

/* The last k mod 8 values, the lanes past them filled with zeros. */
HT_INLINE void dot_tail(size_t rows, size_t columns, const float *x, size_t x_stride, const float *w, size_t w_stride,
                        size_t left, ht_vector sum[HT_DOT_ROWS][DOT_COLUMNS][PARTS]) {
    float xs[HT_DOT_ROWS][LANES] = {{0}}, ws[DOT_COLUMNS][LANES] = {{0}};
    for (size_t q = 0; q < left; q++) {
        for (size_t i = 0; i < rows; i++)
            xs[i][q] = x[i * x_stride + q];
        for (size_t j = 0; j < columns; j++)
            ws[j][q] = w[j * w_stride + q];
    }
    dot_step(rows, columns, xs[0], LANES, ws[0], LANES, sum);
}

/* rows and columns are constants at every call, so that `sum` lives in registers. */
HT_INLINE void dot_tile(size_t rows, size_t columns, const float *x, size_t x_stride, const float *w, size_t w_stride,
                        size_t k, float *y, size_t y_stride) {
    ht_vector sum[HT_DOT_ROWS][DOT_COLUMNS][PARTS];
    for (size_t i = 0; i < rows; i++)
        for (size_t j = 0; j < columns; j++)
            for (size_t p = 0; p < PARTS; p++)
                sum[i][j][p] = (ht_vector){0};
    size_t whole = k / LANES * LANES;
    for (size_t q = 0; q < whole; q += LANES)
        dot_step(rows, columns, x + q, x_stride, w + q, w_stride, sum);
    if (whole < k)
        dot_tail(rows, columns, x + whole, x_stride, w + whole, w_stride, k - whole, sum);
    for (size_t j = 0; j < columns; j++) {
        ht_quad quad[HT_DOT_ROWS];
        for (size_t i = 0; i < rows; i++)
            quad[i] = half_fold(sum[i][j]);
        fold_rows(rows, quad, y + j, y_stride);
    }
}

HT_INLINE void dot_rows(size_t rows, const float *x, size_t x_stride, const float *w, size_t n, size_t w_stride,
                        size_t k, float *y, size_t y_stride) {
    size_t j = 0;
    for (; j + DOT_COLUMNS <= n; j += DOT_COLUMNS)
        dot_tile(rows, DOT_COLUMNS, x, x_stride, w + j * w_stride, w_stride, k, y + j, y_stride);
    for (; j < n; j++)
        dot_tile(rows, 1, x, x_stride, w + j * w_stride, w_stride, k, y + j, y_stride);
}

static inline void dot_body(const float *x, size_t m, size_t x_stride, const float *w, size_t n, size_t w_stride,
                            size_t k, float *y, size_t y_stride) {
    size_t i = 0;
    for (; i + HT_DOT_ROWS <= m; i += HT_DOT_ROWS)
        dot_rows(HT_DOT_ROWS, x + i * x_stride, x_stride, w, n, w_stride, k, y + i * y_stride, y_stride);
    for (; i < m; i++)
        dot_rows(1, x + i * x_stride, x_stride, w, n, w_stride, k, y + i * y_stride, y_stride);
}

HT_INLINE void mix_tile(size_t rows, const float *p, size_t p_stride, const float *v, size_t v_stride, size_t begin,
                        size_t end, float *y, size_t y_stride) {
    enum { VECTORS = MIX_COLUMNS / WIDTH };
    ht_vector sum[HT_MIX_ROWS][VECTORS];
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < VECTORS; c++)
            sum[i][c] = load(y + i * y_stride + c * WIDTH);
    for (size_t j = begin; j < end; j++) {
        ht_vector b[VECTORS];
        for (size_t c = 0; c < VECTORS; c++)
            b[c] = load(v + j * v_stride + c * WIDTH);
        for (size_t i = 0; i < rows; i++)
            for (size_t c = 0; c < VECTORS; c++)
                sum[i][c] += p[i * p_stride + j] * b[c];
    }
    for (size_t i = 0; i < rows; i++)
        for (size_t c = 0; c < VECTORS; c++)
            *(ht_vector *)(y + i * y_stride + c * WIDTH) = sum[i][c];
}

/* Columns past the last whole tile, one at a time. */
static inline void mix_tail(const float *p, const float *v, size_t v_stride, size_t begin, size_t end, size_t from,
                            size_t d, float *y) {
    for (size_t j = begin; j < end; j++)
        for (size_t c = from; c < d; c++)
            y[c] += p[j] * v[j * v_stride + c];
}

static inline void mix_body(const float *p, size_t m, size_t p_stride, const float *v, size_t v_stride, size_t begin,
                            size_t end, size_t d, float *y, size_t y_stride) {
    size_t whole = d / MIX_COLUMNS * MIX_COLUMNS;
    for (size_t c = 0; c < whole; c += MIX_COLUMNS) {
        size_t i = 0;
        for (; i + HT_MIX_ROWS <= m; i += HT_MIX_ROWS)
            mix_tile(HT_MIX_ROWS, p + i * p_stride, p_stride, v + c, v_stride, begin, end, y + i * y_stride + c,
                     y_stride);
        for (; i < m; i++)
            mix_tile(1, p + i * p_stride, p_stride, v + c, v_stride, begin, end, y + i * y_stride + c, y_stride);
    }
    for (size_t i = 0; i < m && whole < d; i++)
        mix_tail(p + i * p_stride, v, v_stride, begin, end, whole, d, y + i * y_stride);
}

#endif
