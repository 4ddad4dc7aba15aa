/* The element formats: their constants in one table, and the scalar definition of encode and decode (format.h). */
#ifndef HT_FORMAT_ELEMENT_H
#define HT_FORMAT_ELEMENT_H

#include <stdint.h>

#include <halftone/tensor.h>

typedef struct ht_element {
    ht_dtype dtype;
    unsigned bits;     /* of a code */
    unsigned mantissa; /* stored mantissa bits */
    int bias;          /* of the exponent */
    uint32_t max_code; /* largest magnitude; for f16 and bf16 the code of Inf: these overflow to it */
    uint32_t nan_code; /* what NaN encodes to: the canonical NaN, or max_code where the format has none */
    uint32_t inf_code; /* first code that is not a finite number (Inf, or NaN in e4m3), 2^(bits-1) if there is none */
    uint32_t max_bits; /* f32 bits of the largest finite value */
    int max_pow2;      /* exponent of the largest power of two that is representable */
    int no_negative_zero; /* fnuz: the code of -0 is NaN */
} ht_element;

/* The row of a float element type of 16 bits or fewer (not e8m0), or of HT_I8 as MXINT8 (k / 64); NULL for others. */
const ht_element *ht_element_find(ht_dtype dtype);

#endif
