/* Dynamic maps, and values stored as a code into a map times a scale per block: optimizer state, scales of scales. */
#ifndef HT_FORMAT_MAP_H
#define HT_FORMAT_MAP_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

/* Increasing values by code (map_table.c). */
extern const float ht_map_signed_8[256], ht_map_unsigned_8[256], ht_map_signed_4[16], ht_map_unsigned_4[16];

enum { HT_MAP_SIGNED_8, HT_MAP_UNSIGNED_8, HT_MAP_SIGNED_4, HT_MAP_UNSIGNED_4, HT_MAP_COUNT };

typedef struct ht_map {
    const char *name; /* of the format: map8_signed ... */
    const float *value;
    uint16_t bits;  /* of a code */
    uint16_t block; /* values that share a scale */
    uint8_t zero;   /* the code of 0, or of the smallest value when there is no zero */
} ht_map;

/* The row of a variant number; NULL past the end. */
const ht_map *ht_map_at(unsigned variant);

/* Code of the nearest of `size` (a power of two) increasing values; halfway goes up. NaN gives code 0. */
unsigned ht_map_encode(const float *map, unsigned size, float x);

/* The same, halfway goes down: the rule of bitsandbytes. */
unsigned ht_map_encode_low(const float *map, unsigned size, float x);

/* max |x|, or NaN when a value is NaN or Inf. */
float ht_finite_amax(const float *x, size_t count);

/* One block in torchao's rule: scale = max(max |x|, 1e-12), code = nearest to x / scale. A block with NaN or Inf gets
 * the scale NaN and decodes to NaN. codes: one byte a value. */
void ht_map_quantize_block(const float *map, unsigned size, const float *x, size_t count, uint8_t *codes, float *scale);

/* bitsandbytes' 8-bit blocks over a flat array: absmax per block (the last may be shorter), code = nearest to
 * x * (1 / absmax). A zero block gets the code of 0 and absmax 0, one with NaN or Inf the absmax NaN. */
void ht_bnb_quantize_8bit(const float *map, const float *x, size_t count, size_t block, uint8_t *codes, float *absmax);
void ht_bnb_dequantize_8bit(const float *map, const uint8_t *codes, const float *absmax, size_t count, size_t block,
                            float *y);

/* Stochastic rounding to bf16: up with probability proportional to the distance, from 16 random bits. Inf stays, NaN
 * becomes the quiet NaN of its sign; the largest finite values may round to Inf. Unbiased for uniform bits.
 * Source: the formats specification, section 1.2. */
uint16_t ht_bf16_stochastic(float x, uint16_t random);

#endif
