/* IQ4_NL and IQ4_XS in pieces, for algorithms that choose codes themselves (gguf_iq4.c). */
#ifndef HT_FORMAT_GGUF_IQ4_H
#define HT_FORMAT_GGUF_IQ4_H

#include <stdint.h>

/* Values of the codes, in units of the scale. */
extern const int8_t ht_iq4_values[16];

/* Code of the nearest value under a scale; of the least one when the scale is 0. */
int ht_iq4_code(float x, float scale);

/* Scales of 32 or 256 finite values: the f16 number and, for XS, eight integers in -32..31 that multiply it. Returns
 * the number as stored. importance: weight of each value's squared error; NULL: x^2. */
float ht_iq4_nl_fit(const float *x, const float *importance, uint8_t d[2]);
float ht_iq4_xs_fit(const float *x, const float *importance, uint8_t d[2], int8_t scales[8]);

void ht_iq4_nl_pack(const uint8_t d[2], const uint8_t *q, uint8_t *block);
void ht_iq4_xs_pack(const uint8_t d[2], const int8_t *scales, const uint8_t *q, uint8_t *block);
void ht_iq4_xs_scales(const uint8_t *block, int8_t scales[8]);

#endif
