/* Packed buffers of torchao's low-bit CPU kernels, read and written: what pack_8bit_act_Nbit_weight and
 * pack_embedding_Nbit return, and what programs built on them store.
 *
 *     linear      int<bits>_g<group>[_asym], f32 scales, bits 1 to 8, with or without zero points and bias
 *     embedding   codes alone; scales and zero points are tensors of their own there, as they are planes here
 *
 *     buffer --open--> what it holds --read--> planes (ht_torchao_format) --> ht_linear_from_weight,
 * ht_format_dequantize planes --write--> buffer
 *
 * A buffer knows neither its shape nor its group, so the caller says them and the size must agree. Planes are those of
 * the format, one code a byte. Everything is little-endian, as the buffers are; nothing is aligned. Single-threaded and
 * without scratch; the same bytes on every machine. Source: cpu-kernels specification, sections 1.3, 1.5 and 1.6. */
#ifndef HT_TORCHAO_H
#define HT_TORCHAO_H

#include <stddef.h>

#include <halftone/format.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ht_torchao_linear {
    size_t rows, cols; /* outputs n, inputs k */
    size_t group;      /* inputs that share a scale: a multiple of 16 that divides cols */
    unsigned bits;     /* 1 to 8 */
    int has_zeros, has_bias;
} ht_torchao_linear;

/* What a buffer of `bytes` bytes holds, given its shape [rows, cols] and group. Fails with CORRUPT: no such buffer, or
 * another size than it must have; UNSUPPORTED: a layout other than the universal one (nr 8, kr 16, sr 2); SHAPE: groups
 * that do not fit. */
HT_API ht_status ht_torchao_linear_open(const void *buffer, size_t bytes, size_t rows, size_t cols, size_t group,
                                        ht_torchao_linear *out);
/* Bytes of the buffer, header and bias included; 0 when the shape, the group or the bits cannot be. */
HT_API size_t ht_torchao_linear_bytes(const ht_torchao_linear *linear);
/* Format of the planes: scales f32 [rows, cols / group], zeros i8 of the same shape, codes i8 [rows, cols]. */
HT_API ht_format ht_torchao_linear_format(const ht_torchao_linear *linear);
/* Fill the planes of that format, and bias [rows] (NULL: not wanted). Fails with CORRUPT when a zero point is no int8
 * or the sums of codes stored in the buffer are not those of its codes (they serve as its checksum). */
HT_API ht_status ht_torchao_linear_read(const ht_torchao_linear *linear, const void *buffer, const ht_planes *planes,
                                        float *bias);
/* Write the buffer, ht_torchao_linear_bytes long, from such planes and bias (NULL unless has_bias). Fails with ARGUMENT
 * when a code does not fit the bits; SHAPE. */
HT_API ht_status ht_torchao_linear_write(const ht_torchao_linear *linear, const ht_planes *planes, const float *bias,
                                         void *buffer);

typedef struct ht_torchao_embedding {
    size_t rows, cols; /* embeddings and their length, a multiple of 32 */
    unsigned bits;     /* 1 to 8 */
} ht_torchao_embedding;

/* As above; codes i8 [rows, cols]. */
HT_API ht_status ht_torchao_embedding_open(const void *buffer, size_t bytes, size_t rows, size_t cols,
                                           ht_torchao_embedding *out);
HT_API size_t ht_torchao_embedding_bytes(const ht_torchao_embedding *embedding);
HT_API void ht_torchao_embedding_read(const ht_torchao_embedding *embedding, const void *buffer, signed char *codes);
HT_API ht_status ht_torchao_embedding_write(const ht_torchao_embedding *embedding, const signed char *codes,
                                            void *buffer);

#ifdef __cplusplus
}
#endif
#endif
