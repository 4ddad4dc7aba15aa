/* The family LUT: a table of 2^bits values for every tile of a matrix, stored with it, codes into the table. */
#ifndef HT_FORMAT_LUT_H
#define HT_FORMAT_LUT_H

#include <stddef.h>
#include <stdint.h>

#include "format/bits.h"

enum {
    HT_LUT_VALUES = 2048,
    HT_LUT_ENTRIES = 256,
    HT_LUT_SPLITS = 1 << 16
}; /* values of a tile, entries of a table, at most */

/* table[2^bits], f16 by increasing value: the centres that leave the least sum of weight (x - centre)^2 (before they
 * are rounded to f16). weight [n] above zero, NULL: all the same. 1 <= n <= HT_LUT_VALUES finite values, n 2^bits <=
 * HT_LUT_SPLITS. Exact and deterministic; O(2^bits n log n); some 240 KiB of stack. */
void ht_lut_fit(const float *x, const float *weight, size_t n, unsigned bits, uint16_t *table);

/* The code of the entry nearest to x, of equally near ones the lower; 0 for NaN. */
static inline unsigned ht_lut_encode(const uint16_t *table, unsigned bits, float x) {
    unsigned code = 0;
    for (unsigned step = 1u << bits >> 1; step > 0; step /= 2)
        if (x > (ht_f32_from_f16(table[code + step - 1]) + ht_f32_from_f16(table[code + step])) * 0.5f)
            code += step;
    return code;
}

#endif
