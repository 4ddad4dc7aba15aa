/* The affine map of one block: how scale and zero point follow from a range. For observers and algorithms that choose
 * codes themselves. */
#ifndef HT_FORMAT_INT_H
#define HT_FORMAT_INT_H

#include <halftone/format.h>

typedef struct ht_affine {
    int qmin, qmax;           /* range of codes */
    int middle;               /* code of zero when there is no zero point: 0, or 2^(bits-1) for unsigned codes */
    ht_dtype arithmetic;      /* type that steps of scale and zero are rounded to */
    ht_dtype code_arithmetic; /* the same for codes */
    int divides;              /* HT_CODE_DIVIDE */
    int float_zero;
    float scale, zero;
    float start; /* float zero: value of the first code */
} ht_affine;

/* The constant part, from a format of HT_FAMILY_INT and options. */
ht_affine ht_affine_rules(const ht_format *format, const ht_row_options *options);

/* Fill scale, zero and start for values in [min, max] (finite). */
void ht_affine_choose(const ht_format *format, const ht_row_options *options, float min, float max, ht_affine *a);

/* n <= 256 finite values to codes, one a byte (two's complement), and back, for the scale, zero and start in *a. */
void ht_affine_encode(const ht_affine *a, const float *x, size_t n, uint8_t *codes);
void ht_affine_decode(const ht_affine *a, const uint8_t *codes, size_t n, float *values);

/* Do scales of this format follow from smallest and largest value, not from the largest magnitude alone? */
int ht_affine_needs_range(const ht_format *format, const ht_row_options *options);

/* The same for one block, without a search: amax_bits its largest magnitude as f32 bits, min and max its range, read
 * only where ht_affine_needs_range says so. options.scale counts. Returns 1, or 0 for a block with NaN or Inf: scale
 * NaN, and codes those of zero. */
int ht_affine_for_block(const ht_format *format, const ht_row_options *options, uint32_t amax_bits, float min,
                        float max, ht_affine *a);

/* Scale and zero point to their planes, and back. */
void ht_affine_store(const ht_format *format, const ht_planes *planes, size_t index, const ht_affine *a);
void ht_affine_load(const ht_format *format, const ht_planes *planes, size_t index, ht_affine *a);

#endif
