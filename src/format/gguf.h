/* GGUF tensor types: one row per type, found by GGUF's own number or by name. Layouts: gguf_block.h,
 * docs/formats-gguf.md. */
#ifndef HT_FORMAT_GGUF_H
#define HT_FORMAT_GGUF_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

/* Decode one block to `values` floats; encode `values` floats into one block. Neither needs aligned bytes. */
typedef void ht_gguf_decode_fn(const uint8_t *block, float *y);
typedef void ht_gguf_encode_fn(const ht_row_options *options, const float *x, uint8_t *block);

typedef struct ht_gguf_type {
    uint16_t id;     /* the number in the file */
    uint16_t values; /* of one block */
    uint16_t bytes;
    const char *name; /* text name of the format */
    ht_gguf_decode_fn *decode;
    ht_gguf_encode_fn *encode; /* NULL: reading only */
} ht_gguf_type;

#define HT_GGUF_MAX_VALUES 256

const ht_gguf_type *ht_gguf_type_at(size_t index);  /* NULL past the end */
const ht_gguf_type *ht_gguf_type_find(uint32_t id); /* NULL: not a block type that we know */

ht_format ht_gguf_type_format(const ht_gguf_type *type);

/* The format of a GGUF tensor type number: a block type, or plain f32, f16, bf16. Fails with FORMAT. */
ht_status ht_gguf_format(uint32_t id, ht_format *out);

/* The number that a GGUF file gives to a format; -1 when GGUF has none. */
int ht_gguf_id(const ht_format *format);

ht_gguf_decode_fn ht_q4_0_decode, ht_q4_1_decode, ht_q5_0_decode, ht_q5_1_decode, ht_q8_0_decode, ht_q8_1_decode;
ht_gguf_encode_fn ht_q4_0_encode, ht_q4_1_encode, ht_q5_0_encode, ht_q5_1_encode, ht_q8_0_encode, ht_q8_1_encode;
ht_gguf_decode_fn ht_q2_k_decode, ht_q3_k_decode, ht_q4_k_decode, ht_q5_k_decode, ht_q6_k_decode, ht_q8_k_decode;
ht_gguf_encode_fn ht_q2_k_encode, ht_q3_k_encode, ht_q4_k_encode, ht_q5_k_encode, ht_q6_k_encode, ht_q8_k_encode;
ht_gguf_decode_fn ht_iq1_s_decode, ht_iq1_m_decode, ht_iq2_xxs_decode, ht_iq2_xs_decode, ht_iq2_s_decode,
    ht_iq3_xxs_decode, ht_iq3_s_decode, ht_iq4_nl_decode, ht_iq4_xs_decode;
ht_gguf_encode_fn ht_iq4_nl_encode, ht_iq4_xs_encode;
ht_gguf_decode_fn ht_tq1_0_decode, ht_tq2_0_decode, ht_q1_0_decode, ht_q2_0_decode;
ht_gguf_encode_fn ht_tq1_0_encode, ht_tq2_0_encode;
ht_gguf_decode_fn ht_gguf_mxfp4_decode, ht_gguf_nvfp4_decode;
ht_gguf_encode_fn ht_gguf_mxfp4_encode, ht_gguf_nvfp4_encode;

#endif
