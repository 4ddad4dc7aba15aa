/* Packing of the 6-bit scales and minima that Q4_K and Q5_K share. */
#ifndef HT_FORMAT_GGUF_K_H
#define HT_FORMAT_GGUF_K_H

#include <stdint.h>

#include "format/gguf_fit.h"

/* Eight scales and eight minima of 6 bits in 12 bytes. Letters: bits of scale s0..s7, minimum m0..m7.
 *     byte j      (j < 4)   s(j+4) bits 5..4, s(j) bits 5..0
 *     byte 4 + j            m(j+4) bits 5..4, m(j) bits 5..0
 *     byte 8 + j            m(j+4) bits 3..0, s(j+4) bits 3..0 */
void ht_k_scales_unpack(const uint8_t *packed, uint8_t *scale, uint8_t *minus);

/* A super-block before it is packed. Types with minima (q4_k, q5_k): value = d scale q - dmin minus. */
typedef struct ht_k_affine {
    uint8_t d[2], dmin[2]; /* f16 */
    uint8_t scale[HT_FIT_SUBS], minus[HT_FIT_SUBS];
    uint8_t q[HT_FIT_VALUES];
} ht_k_affine;

/* q6_k: value = d scale q, q in -32..31. */
typedef struct ht_k_symmetric {
    uint8_t d[2];
    int8_t scale[HT_FIT_SUBS];
    int8_t q[HT_FIT_VALUES];
} ht_k_symmetric;

/* Scales and codes of 256 finite values. importance: weight of each value's squared error; NULL: the type's own. */
void ht_k_affine_fit(int five_bits, const float *x, const float *importance, ht_k_affine *out);
void ht_k_symmetric_fit(const float *x, const float *importance, ht_k_symmetric *out);

void ht_q4_k_pack(const ht_k_affine *a, uint8_t *block);
void ht_q5_k_pack(const ht_k_affine *a, uint8_t *block);
void ht_q6_k_pack(const ht_k_symmetric *a, uint8_t *block);

#endif
