/* Moving numbers between the planar 4-bit float formats and the GGUF blocks of the same numbers, exactly. */
#ifndef HT_FORMAT_GGUF_REPACK_H
#define HT_FORMAT_GGUF_REPACK_H

#include <stddef.h>

#include <halftone/format.h>

/* Whether one of the two is a GGUF block type and the other its planar form: gguf_mxfp4 and mxfp4, gguf_nvfp4 and nvfp4
 * (any 1x16 form; its number for the matrix has no place in a block and stays the caller's). Codes may be packed low or
 * high first. */
int ht_gguf_can_repack(const ht_format *from, const ht_format *to);

/* rows x cols values from the planes of one into the planes of the other; the global plane is neither read nor written.
 * Codes and scale bytes are copied as they are: only their places change. Fails with FORMAT when the pair is not one of
 * those above, SHAPE when either cannot hold the matrix. in and out must not overlap. */
ht_status ht_gguf_repack(const ht_format *from, const ht_planes *in, const ht_format *to, const ht_planes *out,
                         size_t rows, size_t cols);

#endif
