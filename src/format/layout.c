/* Where the parts of a matrix lie: plane shapes and sizes from the fields of the format alone.
 *
 *   codes    [rows, packed cols]                          scales2  [scale rows, ceil(scale cols / block2)]
 *   scales   [ceil(rows / block_rows), ceil(cols / block_cols)]   zeros: as scales      global [1, 1]
 * A block size of 0 is the whole extent. Sizes that do not fit in size_t are SIZE_MAX, never wrapped.
 * Refuses: nothing (ht_format_check_shape does). Source: format.h.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <stdint.h>

static size_t multiply(size_t a, size_t b) {
    return b && a > SIZE_MAX / b ? SIZE_MAX : a * b;
}

static size_t divide_up(size_t n, size_t step) {
    return step == 0 ? n != 0 : n / step + (n % step != 0);
}

/* Type of the codes plane and its columns. */
static ht_dtype codes_shape(const ht_format *format, size_t cols, size_t *packed) {
    unsigned bits = ht_dtype_bits(format->element);
    switch (format->packing) {
    case HT_PACK_BYTES:
        *packed = cols;
        if (bits >= 8)
            return format->element;
        return format->element >= HT_I1 && format->element <= HT_I7 ? HT_I8 : HT_U8;
    case HT_PACK_LOW:
    case HT_PACK_HIGH:
        *packed = divide_up(cols, 2);
        return HT_U8;
    case HT_PACK_BITS:
        *packed = cols / 8 * bits + (cols % 8 * bits + 7) / 8;
        return HT_U8;
    case HT_PACK_WORDS:
        *packed = cols / 32 * bits + (cols % 32 * bits + 31) / 32;
        return HT_I32;
    default:
        *packed = multiply(divide_up(cols, format->block_cols), format->block_bytes);
        return HT_U8;
    }
}

ht_dtype ht_format_plane_shape(const ht_format *format, ht_plane plane, size_t rows, size_t cols, size_t shape[2]) {
    size_t scale_rows = divide_up(rows, format->block_rows), scale_cols = divide_up(cols, format->block_cols);
    if (format->family == HT_FAMILY_LUT) /* tables instead of numbers */
        scale_cols = multiply(scale_cols, (size_t)1 << ht_dtype_bits(format->element));
    const struct {
        ht_dtype dtype;
        size_t rows, cols;
    } planes[HT_PLANE_COUNT] = {
        [HT_PLANE_SCALES] = {format->scale, scale_rows, scale_cols},
        [HT_PLANE_ZEROS] = {format->zero, scale_rows, scale_cols},
        [HT_PLANE_SCALES2] = {format->scale2, scale_rows, divide_up(scale_cols, format->block2)},
        [HT_PLANE_GLOBAL] = {format->global, 1, 1},
    };
    shape[0] = rows;
    if (plane == HT_PLANE_CODES)
        return codes_shape(format, cols, &shape[1]);
    int present = (unsigned)plane < HT_PLANE_COUNT && planes[plane].dtype != HT_DTYPE_NONE;
    shape[0] = present ? planes[plane].rows : 0;
    shape[1] = present ? planes[plane].cols : 0;
    return present ? planes[plane].dtype : HT_DTYPE_NONE;
}

size_t ht_format_plane_bytes(const ht_format *format, ht_plane plane, size_t rows, size_t cols) {
    size_t shape[2];
    ht_dtype dtype = ht_format_plane_shape(format, plane, rows, cols, shape);
    return multiply(multiply(shape[0], shape[1]), ht_dtype_bits(dtype) / 8);
}

size_t ht_format_bytes(const ht_format *format, size_t rows, size_t cols) {
    size_t total = 0;
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++) {
        size_t bytes = ht_format_plane_bytes(format, (ht_plane)plane, rows, cols);
        if (bytes > SIZE_MAX - total)
            return SIZE_MAX;
        total += bytes;
    }
    return total;
}

double ht_format_bits_per_value(const ht_format *format, size_t rows, size_t cols) {
    size_t values = multiply(rows, cols);
    return values ? 8.0 * (double)ht_format_bytes(format, rows, cols) / (double)values : 0;
}

size_t ht_format_row_step(const ht_format *format) {
    if (format->scale != HT_DTYPE_NONE && format->block_rows == 0)
        return SIZE_MAX;
    return format->block_rows ? format->block_rows : 1;
}

ht_planes ht_planes_at_row(const ht_format *format, const ht_planes *planes, size_t cols, size_t row) {
    ht_planes at = *planes;
    for (int plane = 0; plane < HT_PLANE_GLOBAL; plane++) {
        int whole = plane != HT_PLANE_CODES && format->block_rows == 0;
        if (at.plane[plane] && !whole && row)
            at.plane[plane] = (uint8_t *)at.plane[plane] + ht_format_plane_bytes(format, (ht_plane)plane, row, cols);
    }
    return at;
}

ht_planes ht_weight_planes(const ht_weight *weight, size_t index) {
    ht_planes planes = {{0}};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        if (weight->plane[plane]) {
            /* Planes of a weight are read only; ht_planes serves both directions. */
            const void *base = weight->plane[plane];
            planes.plane[plane] = (void *)((uintptr_t)base + index * weight->stride[plane]);
        }
    return planes;
}
