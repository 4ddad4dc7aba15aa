/* Packing of codes narrower than a byte, and the layouts that reorder whole matrices of them. */
#ifndef HT_FORMAT_PACK_H
#define HT_FORMAT_PACK_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

/* Bytes that n codes take, without padding to a word. */
size_t ht_packed_bytes(ht_packing packing, unsigned bits, size_t n);

/* n codes, one a byte (upper bits ignored), to ht_packed_bytes; and back, upper bits zero. The first code starts on a
 * byte boundary, spare bits of the last byte are zero. HT_PACK_WORDS is the same little-endian stream as HT_PACK_BITS:
 * adding the offset and padding the row to words are the caller's. codes and out must not overlap. */
void ht_pack_codes(ht_packing packing, unsigned bits, const uint8_t *codes, size_t n, uint8_t *out);
void ht_unpack_codes(ht_packing packing, unsigned bits, const uint8_t *in, size_t n, uint8_t *codes);

/* Values [rows, cols] (signed) packed along dim 0 into [ceil(rows * bits / 32), cols] words, as compressed-tensors
 * stores zero points; and back. */
void ht_pack_columns(unsigned bits, const int8_t *q, size_t rows, size_t cols, uint32_t *words);
void ht_unpack_columns(unsigned bits, const uint32_t *words, size_t rows, size_t cols, int8_t *q);

/* Bit planes of torchao's uintx: 1 to 7 bits are split into planes of 4, 2 and 1 bits, the widest first with the low
 * bits. In a plane of b bits a row is cut into 8 / b equal slices, slice j in bits j * b and up. cols must divide by 8.
 * planes: up to three pointers, plane p has [rows, cols * b / 8] bytes. Returns the number of planes. */
unsigned ht_bit_plane_widths(unsigned bits, unsigned widths[3]);
unsigned ht_pack_bit_planes(unsigned bits, const uint8_t *codes, size_t rows, size_t cols, uint8_t *const planes[3]);
void ht_unpack_bit_planes(unsigned bits, const uint8_t *const planes[3], size_t rows, size_t cols, uint8_t *codes);

#endif
