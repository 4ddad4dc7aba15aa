/* Writing the compressed-tensors layout: which tensors a quantized parameter becomes. For "m.weight":
 *
 *     format                  codes                          scales and others
 *     mxfp4-pack-quantized    m.weight_packed  u8 [N, K/2]   m.weight_scale u8 [N, K/32]
 *     mxfp6-pack-quantized    m.weight_packed  u8 [N, 3K/4]  m.weight_scale u8 [N, K/32]
 *     mxfp8-quantized         m.weight  e4m3 [N, K]          m.weight_scale u8 [N, K/32]
 *     nvfp4-pack-quantized    m.weight_packed  u8 [N, K/2]   m.weight_scale e4m3 [N, K/16], m.weight_global_scale f32
 * [1] float-, naive-quantized m.weight  e4m3 [N, K]          m.weight_scale [1] | [N, 1] | [ceil N/128, ceil K/128]
 *     int-quantized           m.weight  i8 [N, K]            m.weight_scale, m.weight_zero_point i8
 *     pack-quantized          m.weight_packed  i32 [N, ceil(K b / 32)]   m.weight_scale, m.weight_shape i64 [2],
 *                                                            m.weight_zero_point i32 [ceil(N b / 32), groups]
 *
 * Inputs quantized by one scale from calibration: m.input_scale f32 [1].
 * Fused experts [E, N, K] get the same tensors with E in front; that is Halftone's own extension.
 * NVFP4 with quantized inputs also needs m.input_global_scale, which readers take as given; without calibration it is
 * 1, which represents every block whose largest activation is below 2688.
 *
 * Source: formats specification, section 8.3; the names and shapes that compressed-tensors 0.20 reads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/compressed_tensors.h"

#include <string.h> /* memcpy */

#include "base/status.h"
#include "io/profiles.h"

static const ht_compressed_row rows[] = {
    {.name = "mxfp4-pack-quantized",
     .family = HT_FAMILY_MX,
     .elements = {HT_F4_E2M1},
     .packing = HT_PACK_LOW,
     .codes = HT_U8,
     .tail = "_packed",
     .scales = HT_U8},
    {.name = "mxfp6-pack-quantized",
     .family = HT_FAMILY_MX,
     .elements = {HT_F6_E2M3},
     .packing = HT_PACK_BITS,
     .codes = HT_U8,
     .tail = "_packed",
     .scales = HT_U8},
    {.name = "mxfp8-quantized",
     .family = HT_FAMILY_MX,
     .elements = {HT_F8_E4M3},
     .packing = HT_PACK_BYTES,
     .codes = HT_F8_E4M3,
     .tail = "",
     .scales = HT_U8},
    {.name = "nvfp4-pack-quantized",
     .family = HT_FAMILY_NVFP4,
     .elements = {HT_F4_E2M1},
     .packing = HT_PACK_LOW,
     .codes = HT_U8,
     .tail = "_packed"},
    {.name = "float-quantized",
     .family = HT_FAMILY_FLOAT8,
     .elements = {HT_F8_E4M3},
     .packing = HT_PACK_BYTES,
     .codes = HT_F8_E4M3,
     .tail = "",
     .input = HT_WITH_INPUT},
    {.name = "naive-quantized",
     .family = HT_FAMILY_FLOAT8,
     .elements = {HT_F8_E4M3},
     .packing = HT_PACK_BYTES,
     .codes = HT_F8_E4M3,
     .tail = "",
     .input = HT_WITHOUT_INPUT},
    {.name = "int-quantized",
     .family = HT_FAMILY_INT,
     .elements = {HT_I8},
     .packing = HT_PACK_BYTES,
     .codes = HT_I8,
     .tail = "",
     .input = HT_WITH_INPUT},
    {.name = "pack-quantized",
     .family = HT_FAMILY_INT,
     .elements = {HT_I2, HT_I3, HT_I4, HT_I5, HT_I6, HT_I7, HT_I8},
     .packing = HT_PACK_WORDS,
     .codes = HT_I32,
     .tail = "_packed",
     .has_shape = 1},
};

static int has_element(const ht_compressed_row *row, ht_dtype element) {
    for (size_t i = 0; i < 8 && row->elements[i] != HT_DTYPE_NONE; i++)
        if (row->elements[i] == element)
            return 1;
    return 0;
}

const ht_compressed_row *ht_compressed_row_for(const ht_format *format, int has_input) {
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const ht_compressed_row *row = &rows[i];
        int input = row->input == HT_ANY_INPUT || (row->input == HT_WITH_INPUT) == (has_input != 0);
        if (row->family == format->family && has_element(row, format->element) && input)
            return row;
    }
    return NULL;
}

static ht_status refuse(const ht_format *format, const char *why) {
    char name[96];
    ht_format_name(format, name, sizeof name);
    return ht_fail(HT_ERR_UNSUPPORTED, "compressed-tensors cannot hold %s%s%s: use profile plain", name,
                   *why ? ": " : "", why);
}

ht_status ht_compressed_adapt(const ht_profile_request *request, ht_format *stored) {
    const ht_format *format = &request->weight;
    const ht_compressed_row *row = ht_compressed_row_for(format, request->has_input);
    if (!row)
        return refuse(format, "");
    *stored = *format;
    stored->packing = row->packing;
    if (format->family == HT_FAMILY_NVFP4 && (format->global == HT_DTYPE_NONE || format->block_rows != 1))
        return refuse(format, "it needs one global scale and blocks of a row");
    if (format->family == HT_FAMILY_NVFP4)
        stored->global_rule = HT_GLOBAL_DIVIDES;
    if (format->family == HT_FAMILY_MX && format->block_cols != 32)
        return refuse(format, "blocks of 32 only");
    if (format->zero != HT_DTYPE_NONE && format->zero != HT_I8)
        return refuse(format, "zero points are integers there");
    if (format->zero != HT_DTYPE_NONE && format->block_rows == 0)
        return refuse(format, "zero points need groups or rows there");
    if (format->family == HT_FAMILY_INT && format->block_rows > 1)
        return refuse(format, "no integer tiles there");
    return HT_OK;
}

static ht_status add_constant(const ht_profile_request *request, ht_arena *arena, ht_layout *layout, const char *head,
                              size_t length, const char *tail, ht_dtype dtype, size_t count, const void *data) {
    ht_component *component = ht_layout_add(layout, arena, head, length, tail);
    if (!component)
        return HT_ERR_MEMORY;
    component->kind = HT_COMPONENT_CONSTANT;
    component->tensor.dtype = dtype;
    component->constant_bytes = count * ht_dtype_bits(dtype) / 8;
    memcpy(component->constant, data, component->constant_bytes);
    ht_component_shape(component, request->batch, 0, 1, &count);
    return HT_OK;
}

static ht_status add_zeros(const ht_profile_request *request, ht_arena *arena, ht_layout *layout, int down) {
    if (!down)
        return ht_layout_add_plane(layout, arena, request, "_zero_point", HT_PLANE_ZEROS, HT_DTYPE_NONE);
    size_t shape[2];
    if (ht_format_plane_shape(&layout->format, HT_PLANE_ZEROS, layout->rows, layout->cols, shape) == HT_DTYPE_NONE)
        return HT_OK;
    ht_component *component = ht_layout_add(layout, arena, request->name, strlen(request->name), "_zero_point");
    if (!component)
        return HT_ERR_MEMORY;
    component->kind = HT_COMPONENT_ZEROS_DOWN;
    component->plane = HT_PLANE_ZEROS;
    component->tensor.dtype = HT_I32;
    shape[0] = (shape[0] * ht_dtype_bits(layout->format.element) + 31) / 32;
    ht_component_shape(component, request->batch, request->rank == 3, 2, shape);
    layout->row_step = 32;
    return HT_OK;
}

/* "<module>.<name>"; "<parameter>_<name>" for a parameter that is not called weight. */
static ht_status add_input_number(const ht_profile_request *request, ht_arena *arena, ht_layout *layout,
                                  const char *name, const float *value) {
    size_t length = strlen(request->name);
    int plain = length > 7 && strcmp(request->name + length - 7, ".weight") == 0;
    return add_constant(request, arena, layout, request->name, plain ? length - 6 : length, plain ? name + 1 : name,
                        HT_F32, 1, value);
}

/* The scale is found after the layout is made. */
static ht_status add_static_scale(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    HT_TRY(add_input_number(request, arena, layout, "_input_scale", request->static_scale));
    ht_component *component = &layout->component[layout->count - 1];
    component->kind = HT_COMPONENT_DATA;
    component->data = request->static_scale;
    component->data_bytes = sizeof *request->static_scale;
    return HT_OK;
}

ht_status ht_compressed_layout(const ht_profile_request *request, ht_arena *arena, ht_layout *layout) {
    static const float one = 1;
    const ht_compressed_row *row = ht_compressed_row_for(&layout->format, request->has_input);
    HT_TRY(ht_layout_add_plane(layout, arena, request, row->tail, HT_PLANE_CODES, row->codes));
    HT_TRY(ht_layout_add_plane(layout, arena, request, "_scale", HT_PLANE_SCALES, row->scales));
    HT_TRY(add_zeros(request, arena, layout, row->has_shape));
    HT_TRY(ht_layout_add_plane(layout, arena, request, "_global_scale", HT_PLANE_GLOBAL, HT_DTYPE_NONE));
    if (row->has_shape) {
        int64_t shape[3] = {(int64_t)request->batch, (int64_t)request->rows, (int64_t)request->cols};
        size_t count = request->rank == 3 ? 3 : 2;
        HT_TRY(add_constant(request, arena, layout, request->name, strlen(request->name), "_shape", HT_I64, count,
                            &shape[3 - count]));
    }
    if (layout->format.family == HT_FAMILY_NVFP4 && request->has_input && request->input.family == HT_FAMILY_NVFP4)
        HT_TRY(add_input_number(request, arena, layout, "_input_global_scale", &one));
    return request->static_scale ? add_static_scale(request, arena, layout) : HT_OK;
}
