/* NF4 and FP4: 4-bit codes into 16 fixed values times a scale per block. The codec is ht_codec_codebook (codec.h); here
 * are its tables, and the layouts of two other libraries, for reading and writing their files. */
#ifndef HT_FORMAT_CODEBOOK_H
#define HT_FORMAT_CODEBOOK_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

enum { HT_CODEBOOK_NF4, HT_CODEBOOK_FP4, HT_CODEBOOK_NF4_TORCHAO, HT_CODEBOOK_COUNT };

typedef struct ht_codebook {
    const char *name;
    float value[16];   /* by code */
    uint8_t order[16]; /* codes by increasing value */
    uint8_t zero;      /* the code of a zero block */
    int by_distance;   /* code by the smallest |x - value| as computed in f32, the lower one if equal; else by midpoints
                        */
} ht_codebook;

/* The row of a variant number; NULL past the end. */
const ht_codebook *ht_codebook_at(unsigned variant);

/* Code of x, which lies in [-1, 1]; NaN gives the code of zero. A value on the midpoint of two gets the lower one. */
unsigned ht_codebook_encode(const ht_codebook *book, float x);

/* --- bitsandbytes: blocks over the flat array, the last one may be short; first value in the high nibble --------- */

/* packed: (count + 1) / 2 bytes; absmax: one per block. Codes are those of x * (1 / absmax), of x / absmax in a short
 * last block. A zero block gets the code of zero; one with NaN or Inf the absmax NaN. */
void ht_bnb_quantize_4bit(const ht_codebook *book, const float *x, size_t count, size_t block, uint8_t *packed,
                          float *absmax);
void ht_bnb_dequantize_4bit(const ht_codebook *book, const uint8_t *packed, const float *absmax, size_t count,
                            size_t block, float *y);

/* Nested scales: absmax - offset in the signed 8-bit dynamic map, blocks of 256. offset: the mean of absmax. map: the
 * one in the file (its last bits vary), ht_map_signed_8 when writing. */
void ht_bnb_nest(const float *map, const float *absmax, size_t count, float offset, uint8_t *codes, float *absmax2);
void ht_bnb_unnest(const float *map, const uint8_t *codes, const float *absmax2, size_t count, float offset,
                   float *absmax);

/* --- torchao NF4: blocks of 64 over the flat array, every step rounded to `arithmetic` (HT_F32 or HT_BF16) ------- */

/* count is a multiple of 64. A zero block gets the code of zero (torchao: code 0). */
void ht_torchao_nf4_quantize(const float *x, size_t count, ht_dtype arithmetic, uint8_t *packed, float *absmax);

/* Nested scales, blocks of 256: int8 of (absmax - mean) * factor, factor = 128 / max |absmax - mean|. */
void ht_torchao_nf4_nest(const float *absmax, size_t count, float mean, ht_dtype arithmetic, int8_t *codes,
                         float *factor);
void ht_torchao_nf4_unnest(const int8_t *codes, const float *factor, size_t count, float mean, ht_dtype arithmetic,
                           float *absmax);
void ht_torchao_nf4_dequantize(const uint8_t *packed, const float *absmax, size_t count, ht_dtype arithmetic, float *y);

/* Mean in double, rounded once to `dtype`. 0 for no values. */
float ht_mean(const float *x, size_t count, ht_dtype dtype);

#endif
