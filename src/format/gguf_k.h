/* Packing of the 6-bit scales and minima that Q4_K and Q5_K share. */
#ifndef HT_FORMAT_GGUF_K_H
#define HT_FORMAT_GGUF_K_H

#include <stdint.h>

/* Eight scales and eight minima of 6 bits in 12 bytes. Letters: bits of scale s0..s7, minimum m0..m7.
 *     byte j      (j < 4)   s(j+4) bits 5..4, s(j) bits 5..0
 *     byte 4 + j            m(j+4) bits 5..4, m(j) bits 5..0
 *     byte 8 + j            m(j+4) bits 3..0, s(j+4) bits 3..0 */
void ht_k_scales_unpack(const uint8_t *packed, uint8_t *scale, uint8_t *minus);

#endif
