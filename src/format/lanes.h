/* Many values at a time: load, store, encode, decode, maximum. Straight-line integer arithmetic on f32 bits in loops of
 * fixed length, which compilers turn into vector code at any instruction level; results equal element.c bit for bit. */
#ifndef HT_FORMAT_LANES_H
#define HT_FORMAT_LANES_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/tensor.h>

#include "format/bits.h"

/* Values [at, at + n) of an f32, bf16 or f16 array as f32; the reverse rounds to nearest even. */
void ht_lanes_load(const void *x, ht_dtype dtype, size_t at, size_t n, float *out);
void ht_lanes_store(const float *x, size_t n, ht_dtype dtype, void *out, size_t at);

/* One code a byte, for the element types of 8 bits or fewer, HT_E8M0, and HT_I8 as MXINT8. */
void ht_lanes_encode(ht_dtype dtype, const float *x, size_t n, uint8_t *codes);
void ht_lanes_decode(ht_dtype dtype, const uint8_t *codes, size_t n, float *out);

/* max |x| as f32 bits: above 0x7f800000 when there is a NaN, equal to it for Inf. */
uint32_t ht_lanes_amax(const float *x, size_t n);
/* Smallest and largest of n > 0 values without NaN. */
void ht_lanes_min_max(const float *x, size_t n, float *min, float *max);

/* codes[i] = clamp(nearest even of y[i] + zero, qmin, qmax), as 32-bit integers in a byte (two's complement). y must
 * not be NaN; |zero|, |qmin|, |qmax| <= 512. */
void ht_lanes_round(const float *y, size_t n, int zero, int qmin, int qmax, uint8_t *codes);

/* Sum of squared differences in a fixed order: 16 partial sums, value i in sum i mod 16, f32; then
 * sum j += sum j + 8, + 4, + 2, + 1. */
float ht_lanes_error(const float *a, const float *b, size_t n);

#endif
