/* Casts of the low-precision training recipes whose scales are multiplicative or whose codes are ternary. */
#ifndef HT_FORMAT_TRAINING_CASTS_H
#define HT_FORMAT_TRAINING_CASTS_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

/* Scale by which values of this largest magnitude are multiplied before the cast: largest / max(amax, 1e-12), in f64,
 * then f32; power_of_two rounds it down. amax not finite: NaN. */
float ht_float8_train_scale(ht_dtype element, float amax, int power_of_two);

/* x [rows, cols] in blocks of `format` (HT_FAMILY_FLOAT8) with multiplicative scales: codes [rows, cols], scales one
 * f32 per block, stored as they are or as 1 / scale (reciprocal: blockwise recipe). Fails with UNSUPPORTED (x_dtype).
 */
ht_status ht_float8_train_quantize(const ht_format *format, int power_of_two, int reciprocal, const void *x,
                                   ht_dtype x_dtype, size_t rows, size_t cols, uint8_t *codes, float *scales);

/* int8 rows for training: scale = amax / 127 (0 for a row of zeros), codes = nearest even of x * (1 / max(scale,
 * 1e-12)). x f32 [rows, cols]. */
void ht_int8_train_rows(const float *x, size_t rows, size_t cols, int8_t *codes, float *scales);

/* BitNet: scale = mean |w| (f64 sum in order, then f32), codes = clip(nearest(w / max(scale, 1e-5)), -1, 1). */
float ht_bitnet_scale(const float *w, size_t count);
void ht_bitnet_encode(const float *w, size_t count, float scale, int8_t *codes);
/* Four ternary codes a byte, two bits each (two's complement), the first in the highest bits. count a multiple of 4. */
void ht_bitnet_pack(const int8_t *codes, size_t count, uint8_t *packed);

#endif
