/* Reading parameters back as numbers, in pieces of rows, for comparing and verifying. Pieces are cut by shape alone, so
 * that sums over them have one order.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/decode.h"

#include "base/file_map.h"
#include "base/status.h"
#include "io/checkpoint_file.h"
#include "ops/cast.h"
#include "ops/input_transform.h"

enum { PIECE = 64 * 1024 };

int ht_decodable(const ht_parameter *parameter) {
    const ht_format *format = &parameter->weight.format;
    if (parameter->quantized || format->family != HT_FAMILY_PLAIN)
        return 1;
    switch (format->element) { /* what ht_convert reads */
    case HT_F64:
    case HT_F32:
    case HT_F16:
    case HT_BF16:
    case HT_F8_E4M3:
    case HT_F8_E5M2:
    case HT_F8_E4M3FNUZ:
    case HT_F8_E5M2FNUZ:
        return 1;
    default:
        return 0;
    }
}

int ht_same_matrix(const ht_parameter *a, const ht_parameter *b) {
    const ht_weight *x = &a->weight, *y = &b->weight;
    if (a->rank != b->rank)
        return 0;
    for (unsigned i = 0; i < a->rank && x->transposed == y->transposed; i++)
        if (a->shape[i] != b->shape[i])
            return 0;
    return x->batch == y->batch && x->rows == y->rows && x->cols == y->cols;
}

size_t ht_format_decode_step(const ht_format *format) {
    return format->family == HT_FAMILY_PLAIN || format->block_rows == 0 ? 1 : ht_format_row_step(format);
}

/* One output's values lie `rows` elements apart. */
static ht_status decode_transposed(const ht_weight *weight, const uint8_t *data, size_t row, size_t rows, float *out) {
    size_t size = ht_dtype_bits(weight->format.element) / 8;
    for (size_t c = 0; c < weight->cols; c++)
        for (size_t r = 0; r < rows; r++)
            HT_TRY(ht_convert(data + (c * weight->rows + row + r) * size, weight->format.element,
                              &out[r * weight->cols + c], HT_F32, 1));
    return HT_OK;
}

static ht_status read_plain(const ht_parameter *parameter, size_t entry, size_t row, size_t rows, float *out) {
    const ht_weight *weight = &parameter->weight;
    const uint8_t *data = (const uint8_t *)weight->plane[HT_PLANE_CODES] + entry * weight->stride[HT_PLANE_CODES];
    if (weight->transposed)
        return decode_transposed(weight, data, row, rows, out);
    size_t size = ht_dtype_bits(weight->format.element) / 8;
    return ht_convert(data + row * weight->cols * size, weight->format.element, out, HT_F32, rows * weight->cols);
}

static ht_planes planes_of(const ht_weight *weight, size_t entry, size_t row) {
    ht_planes planes = ht_weight_planes(weight, entry);
    return ht_planes_at_row(&weight->format, &planes, weight->cols, row);
}

ht_status ht_decode_rows(const ht_parameter *parameter, size_t entry, size_t row, size_t rows, float *out) {
    const ht_weight *weight = &parameter->weight;
    if (weight->format.family == HT_FAMILY_PLAIN)
        return read_plain(parameter, entry, row, rows, out);
    ht_planes planes = planes_of(weight, entry, row);
    return ht_format_dequantize(&weight->format, &planes, rows, weight->cols, out);
}

ht_status ht_read_rows(ht_context *ctx, const ht_parameter *parameter, size_t entry, size_t row, size_t rows,
                       float *out) {
    const ht_weight *weight = &parameter->weight;
    if (weight->format.family == HT_FAMILY_PLAIN)
        return read_plain(parameter, entry, row, rows, out);
    ht_planes planes = planes_of(weight, entry, row);
    const ht_uncast uncast = {
        .format = &weight->format, .planes = &planes, .rows = rows, .cols = weight->cols, .y = out, .y_dtype = HT_F32};
    return ht_uncast_rows(ctx, &uncast);
}

ht_status ht_read_restored_rows(ht_context *ctx, const ht_parameter *parameter, size_t entry, size_t row, size_t rows,
                                float *out) {
    ht_transformer transformer;
    HT_TRY(ht_read_rows(ctx, parameter, entry, row, rows, out));
    HT_TRY(ht_transformer_init(&transformer, ctx, &parameter->weight.inputs, parameter->weight.cols));
    ht_restore_weights(&transformer, entry, out, rows);
    ht_transformer_release(&transformer);
    return HT_OK;
}

typedef void advise_fn(const ht_file_map *map, size_t offset, size_t bytes);

static void advise(const ht_checkpoint *checkpoint, const ht_stored_tensor *stored, uint64_t begin, uint64_t bytes,
                   advise_fn *advice) {
    const uint8_t *data = (const uint8_t *)stored->data + begin;
    for (size_t i = 0; i < checkpoint->map_count; i++) {
        const ht_file_map *map = &checkpoint->maps[i];
        if (map->data && data >= map->data && data < map->data + map->bytes)
            advice(map, (size_t)(data - map->data), (size_t)bytes);
    }
}

void ht_pages_done_with(const ht_checkpoint *checkpoint, const ht_stored_tensor *stored, uint64_t begin,
                        uint64_t bytes) {
    advise(checkpoint, stored, begin, bytes, ht_file_map_done_with);
}

void ht_pages_will_need(const ht_checkpoint *checkpoint, const ht_stored_tensor *stored, uint64_t begin,
                        uint64_t bytes) {
    advise(checkpoint, stored, begin, bytes, ht_file_map_will_need);
}

void ht_parameter_done_with(const ht_checkpoint *checkpoint, const ht_parameter *parameter) {
    for (size_t i = 0; i < parameter->stored_count; i++) {
        const ht_stored_tensor *stored = ht_checkpoint_tensor(checkpoint, parameter->stored[i]);
        ht_pages_done_with(checkpoint, stored, 0, stored->bytes);
    }
}

static size_t least_common_multiple(size_t a, size_t b) {
    size_t x = a, y = b;
    while (y) {
        size_t rest = x % y;
        x = y;
        y = rest;
    }
    return a / x * b;
}

size_t ht_decode_piece(const ht_parameter *a, const ht_parameter *b) {
    size_t step = least_common_multiple(ht_format_decode_step(&a->weight.format),
                                        b ? ht_format_decode_step(&b->weight.format) : 1);
    size_t rows = PIECE / (a->weight.cols + !a->weight.cols) / step * step;
    if (rows < step)
        rows = step;
    return rows < a->weight.rows || !a->weight.rows ? rows : a->weight.rows;
}
