/* Bit packing of torchao's CPU buffers (torchao_bits.c draws it). */
#ifndef HT_IO_TORCHAO_BITS_H
#define HT_IO_TORCHAO_BITS_H

#include <stddef.h>
#include <stdint.h>

/* span codes (128, 64 or 32) of `bits` (1 to 8), one a byte, upper bits ignored, to span * bits / 8 bytes; and back. */
void ht_torchao_pack(unsigned bits, const uint8_t *codes, size_t span, uint8_t *out);
void ht_torchao_unpack(unsigned bits, const uint8_t *in, size_t span, uint8_t *codes);

#endif
