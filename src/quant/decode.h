/* Rows of any parameter as f32: stored floats or quantized, turned round when stored [inputs, outputs]. */
#ifndef HT_QUANT_DECODE_H
#define HT_QUANT_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/checkpoint.h>
#include <halftone/context.h>

/* Can ht_decode_rows read it? 0 for integers and the like. */
int ht_decodable(const ht_parameter *parameter);

/* Same shape as numbers: equal shapes, or one stored [inputs, outputs] and the other [outputs, inputs]. */
int ht_same_matrix(const ht_parameter *a, const ht_parameter *b);

/* Rows that a piece starts at multiples of, so that it can be decoded alone. */
size_t ht_format_decode_step(const ht_format *format);

/* Rows [row, row + rows) of batch entry `entry`, [rows, cols] f32. row is a multiple of ht_format_decode_step. Fails
 * with UNSUPPORTED when not decodable. */
ht_status ht_decode_rows(const ht_parameter *parameter, size_t entry, size_t row, size_t rows, float *out);
/* The same by the kernels of a context. */
ht_status ht_read_rows(ht_context *ctx, const ht_parameter *parameter, size_t entry, size_t row, size_t rows,
                       float *out);

/* The same as the float model has them: what was done to a weight for the sake of transformed inputs is undone. */
ht_status ht_read_restored_rows(ht_context *ctx, const ht_parameter *parameter, size_t entry, size_t row, size_t rows,
                                float *out);

/* Let the mapped pages of these bytes of a stored tensor go: they have been looked at. */
void ht_pages_done_with(const ht_checkpoint *checkpoint, const ht_stored_tensor *stored, uint64_t begin,
                        uint64_t bytes);
/* The same for everything that makes up a parameter. */
void ht_parameter_done_with(const ht_checkpoint *checkpoint, const ht_parameter *parameter);
/* Ask for them: they will be looked at soon. */
void ht_pages_will_need(const ht_checkpoint *checkpoint, const ht_stored_tensor *stored, uint64_t begin,
                        uint64_t bytes);

/* Rows of a piece of about 64 Ki values, a multiple of both steps; the same for any thread count. */
size_t ht_decode_piece(const ht_parameter *a, const ht_parameter *b);

#endif
