/* Choosing the scales of GGUF super-blocks: the searches that the encoders of the K and IQ4 types share. */
#ifndef HT_FORMAT_GGUF_FIT_H
#define HT_FORMAT_GGUF_FIT_H

#include <stdint.h>

#define HT_FIT_VALUES 256 /* of a super-block */
#define HT_FIT_SUBS 16    /* at most */

/* Nearest integer, halves to even, of a value clipped to [lo, hi], which lie within 2^22. */
int ht_fit_round(float v, int lo, int hi);

/* Exponent e with 2^e <= max |x| < 2^(e+1), and y = x / 2^e: the searches work on numbers near 1, whatever the block
 * holds. A block of zeros gives e = 0. All x must be finite. */
int ht_fit_normalize(const float *x, int n, float *y);

/* In the fits below n is 8, 16, 24 or 32.
 *
 * x ~ scale * q, q in [-half, half - 1]: least weighted squared error over 19 ranges around max |x|. Returns the scale,
 * which may be negative: the value of largest magnitude takes the end of the codes that has one more. 0 for zeros. */
float ht_fit_symmetric(const float *x, const float *weight, int n, int half);

/* x ~ scale * q - minus, q in [0, top], minus >= 0: least weighted squared error over the plain range and 21 others,
 * each with its best scale and minimum. Returns the scale. */
float ht_fit_affine(const float *x, const float *weight, int n, int top, float *minus);

/* x ~ scale * table[q] for an increasing table of 16 values of either sign. Returns the scale. */
float ht_fit_table(const float *x, const float *weight, int n, const int8_t *table);

/* Code of the nearest of 16 increasing values, the lower one when in the middle. */
int ht_fit_nearest(const int8_t *table, float v);

#endif
