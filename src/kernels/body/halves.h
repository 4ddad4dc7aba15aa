/* Sums of 16 consecutive input codes, which products with groups of 16 start from. Plain C, included by kernel files.
 */
#ifndef HT_KERNELS_BODY_HALVES_H
#define HT_KERNELS_BODY_HALVES_H

#include "kernels/product.h"

enum { HALF = HT_BLOCK / 2, CHUNK_HALVES = HT_KCHUNK / HALF, HALF_ROWS = 4 /* rows of x at a time */ };

/* out[chunk][HALF_ROWS][16] = factor * sum of every half block of rows [row, row + rows). */
static inline void half_sums(const ht_int8_rows *x, const ht_packed *w, size_t row, size_t rows, int factor,
                             int32_t *out) {
    for (size_t c = 0; c < x->chunks; c++) {
        size_t width = ht_packed_chunk_width(w, c);
        for (size_t r = 0; r < rows; r++) {
            const int8_t *codes = x->codes + HT_KCHUNK * x->m * c + (row + r) * width;
            int32_t *sums = out + (c * HALF_ROWS + r) * CHUNK_HALVES;
            for (size_t h = 0; h < width / HALF; h++) {
                int32_t sum = 0;
                for (size_t k = 0; k < HALF; k++)
                    sum += codes[h * HALF + k];
                sums[h] = factor * sum;
            }
        }
    }
}

#endif
