/* The table of profiles, and what they share: look-up, layout, writing of slices, the config text.
 *
 * A slice of rows is a byte range of each plane, so it goes straight from the caller's buffer to its place in the file.
 * The exception are zero points of pack-quantized, which run down the rows: 32 rows make `bits` words per column, hence
 * a row step of 32.
 *
 * The config is edited as text: quantization_config is cut out or put in before the closing brace, and every other byte
 * of the source stays as it was.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "io/profiles.h"

#include <stdlib.h> /* free */
#include <string.h> /* strcmp, memset */

#include <halftone/recipe.h>

#include "base/status.h"
#include "io/json.h"

static const ht_profile table[] = {
    {.name = "compressed-tensors",
     .summary = "weight_packed, weight_scale ... as vLLM and llm-compressor store them",
     .readers = "vllm transformers",
     .quant_method = "compressed-tensors",
     .transforms = HT_TRANSFORMS_WALSH,
     .transform_readers = "vllm",
     .adapt = ht_compressed_adapt,
     .layout = ht_compressed_layout,
     .config = ht_compressed_config,
     .read = ht_compressed_read},
    {.name = "fp8",
     .summary = "128x128 float8 blocks with weight_scale_inv, as DeepSeek-V3 is published",
     .readers = "vllm transformers",
     .quant_method = "fp8",
     .adapt = ht_fp8_adapt,
     .layout = ht_fp8_layout,
     .config = ht_fp8_config,
     .read = ht_fp8_read},
    {.name = "gpt-oss",
     .summary = "fused experts in MXFP4 as _blocks and _scales, as gpt-oss is published",
     .readers = "vllm transformers",
     .quant_method = "mxfp4",
     .adapt = ht_gpt_oss_adapt,
     .layout = ht_gpt_oss_layout,
     .config = ht_gpt_oss_config,
     .read = ht_gpt_oss_read},
    {.name = "modelopt",
     .summary = "NVFP4 with weight_scale_2, as NVIDIA ModelOpt stores it (read only)",
     .readers = "vllm",
     .quant_method = "modelopt",
     .read = ht_modelopt_read},
    {.name = "plain",
     .summary = "every format of `list formats`, one tensor for each plane",
     .readers = "",
     .quant_method = "halftone",
     .transforms = HT_TRANSFORMS_ALL,
     .transform_readers = "",
     .adapt = ht_plain_adapt,
     .layout = ht_plain_layout,
     .config = ht_plain_config,
     .read = ht_plain_read},
};

enum { PROFILE_COUNT = sizeof table / sizeof table[0] };

const ht_profile *ht_profile_at(size_t index) {
    return index < PROFILE_COUNT ? &table[index] : NULL;
}

const ht_list_item *ht_profile_list(size_t index) {
    static _Thread_local ht_list_item item; /* until this thread's next call */
    if (index >= PROFILE_COUNT)
        return NULL;
    item = (ht_list_item){table[index].name, table[index].summary, table[index].readers};
    return &item;
}

ht_status ht_profile_find(const char *name, const ht_profile **out) {
    ht_text known = {0};
    for (size_t i = 0; i < PROFILE_COUNT; i++) {
        if (strcmp(table[i].name, name) == 0) {
            ht_text_free(&known);
            *out = &table[i];
            return HT_OK;
        }
        ht_text_printf(&known, "%s%s", i ? ", " : "", table[i].name);
    }
    ht_status status = ht_fail(HT_ERR_ARGUMENT, "profile \"%s\" is not known: %s", name, known.data ? known.data : "");
    ht_text_free(&known);
    return status;
}

ht_status ht_profile_read(struct ht_fold *fold) {
    const char *method = ht_json_string(fold->config, "quant_method");
    if (!json_is_object(fold->config))
        return ht_fail(HT_ERR_CORRUPT, "%s: quantization_config is not an object", fold->label);
    for (size_t i = 0; i < PROFILE_COUNT; i++)
        if (method && table[i].read && strcmp(table[i].quant_method, method) == 0)
            return table[i].read(fold);
    return ht_fail(HT_ERR_UNSUPPORTED, "%s: quantization_config: quant_method \"%s\" has no reader", fold->label,
                   method ? method : "");
}

/* --- Layout ------------------------------------------------------------------------------------------- */

ht_component *ht_layout_add(ht_layout *layout, ht_arena *arena, const char *head, size_t length, const char *tail) {
    ht_component *component = &layout->component[layout->count];
    component->tensor.name = ht_arena_printf(arena, "%.*s%s", (int)length, head, tail);
    if (!component->tensor.name)
        return NULL;
    layout->count++;
    return component;
}

void ht_component_shape(ht_component *component, size_t batch, int batched, unsigned rank, const size_t *shape) {
    ht_output_tensor *tensor = &component->tensor;
    tensor->rank = rank + (unsigned)batched;
    if (batched)
        tensor->shape[0] = batch;
    for (unsigned i = 0; i < rank; i++)
        tensor->shape[i + (unsigned)batched] = shape[i];
}

ht_status ht_layout_add_plane(ht_layout *layout, ht_arena *arena, const ht_profile_request *request, const char *tail,
                              ht_plane plane, ht_dtype dtype) {
    size_t shape[2];
    ht_dtype stored = ht_format_plane_shape(&layout->format, plane, layout->rows, layout->cols, shape);
    if (stored == HT_DTYPE_NONE)
        return HT_OK;
    ht_component *component = ht_layout_add(layout, arena, request->name, strlen(request->name), tail);
    if (!component)
        return HT_ERR_MEMORY;
    component->kind = HT_COMPONENT_PLANE;
    component->plane = plane;
    component->tensor.dtype = dtype != HT_DTYPE_NONE ? dtype : stored;
    unsigned rank = 2;
    if (shape[0] == 1 && shape[1] == 1 && plane != HT_PLANE_CODES && ht_plane_is_whole(&layout->format, plane))
        rank = 1; /* one number for the matrix: [1] */
    ht_component_shape(component, request->batch, request->rank == 3, rank, shape);
    return HT_OK;
}

int ht_plane_is_whole(const ht_format *format, ht_plane plane) {
    return plane == HT_PLANE_GLOBAL || (plane != HT_PLANE_CODES && format->block_rows == 0);
}

ht_status ht_profile_check_inputs(const ht_profile *profile, const ht_profile_request *request) {
    size_t block = request->inputs.block;
    if (request->has_input_scale && profile->transforms != HT_TRANSFORMS_ALL)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "tensor %s: profile %s cannot hold scales of inputs: use profile plain, or placement=fuse",
                       request->name, profile->name);
    if (block && profile->transforms == HT_TRANSFORMS_NONE)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "tensor %s: profile %s cannot say that inputs are transformed: use profile compressed-tensors "
                       "or plain",
                       request->name, profile->name);
    if (block & (block - 1) && profile->transforms == HT_TRANSFORMS_WALSH)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "tensor %s: profile %s holds Hadamard blocks of powers of two, not of %zu: use profile plain or "
                       "another block",
                       request->name, profile->name, block);
    return HT_OK;
}

ht_status ht_profile_layout(const ht_profile *profile, const ht_profile_request *request, ht_arena *arena,
                            ht_layout *layout) {
    if (!profile->adapt)
        return ht_fail(HT_ERR_UNSUPPORTED, "profile %s can be read, not written", profile->name);
    *layout = (ht_layout){.batch = request->batch, .rows = request->rows, .cols = request->cols};
    HT_TRY(ht_profile_check_inputs(profile, request));
    HT_TRY(profile->adapt(request, &layout->format));
    HT_TRY(ht_format_check_shape(&layout->format, request->rows, request->cols));
    layout->row_step = ht_format_row_step(&layout->format);
    return profile->layout(request, arena, layout);
}

/* --- Writing slices ----------------------------------------------------------------------------------- */

enum { ZERO_ROWS = 32, ZERO_COLUMNS = 256 };

/* Zero points [rows, columns] of one byte, row `row` on: 32 rows become `bits` words down each column, `columns` words
 * apart. A code is zero + 2^(bits-1). */
static ht_status write_zeros_down(const ht_component *component, const ht_format *format, ht_checkpoint_writer *writer,
                                  size_t tensor, uint64_t base, size_t row, size_t rows, size_t columns,
                                  const int8_t *zeros) {
    unsigned bits = ht_dtype_bits(format->element);
    uint32_t words[8][ZERO_COLUMNS];
    (void)component;
    for (size_t top = 0; top < rows; top += ZERO_ROWS) {
        size_t height = rows - top < ZERO_ROWS ? rows - top : ZERO_ROWS;
        size_t word_rows = (height * bits + 31) / 32;
        for (size_t left = 0; left < columns; left += ZERO_COLUMNS) {
            size_t width = columns - left < ZERO_COLUMNS ? columns - left : ZERO_COLUMNS;
            memset(words, 0, sizeof words);
            for (size_t r = 0; r < height; r++) {
                size_t word = r * bits / 32, shift = r * bits % 32;
                for (size_t c = 0; c < width; c++) {
                    uint64_t code = (uint64_t)(uint32_t)(zeros[(top + r) * columns + left + c] + (1 << (bits - 1)));
                    code = (code & ((1u << bits) - 1)) << shift;
                    words[word][c] |= (uint32_t)code;
                    if (code >> 32)
                        words[word + 1][c] |= (uint32_t)(code >> 32);
                }
            }
            for (size_t w = 0; w < word_rows; w++) {
                uint64_t at = base + (((row + top) / 32 * bits + w) * columns + left) * 4;
                HT_TRY(ht_checkpoint_writer_write(writer, tensor, at, words[w], width * 4));
            }
        }
    }
    return HT_OK;
}

static ht_status write_component(const ht_layout *layout, const ht_component *component, ht_checkpoint_writer *writer,
                                 size_t tensor, size_t index, size_t row, size_t rows, const ht_planes *planes) {
    const ht_format *format = &layout->format;
    if (component->kind == HT_COMPONENT_ZEROS_DOWN) {
        size_t shape[2];
        ht_format_plane_shape(format, HT_PLANE_ZEROS, layout->rows, layout->cols, shape);
        size_t words = (layout->rows * ht_dtype_bits(format->element) + 31) / 32;
        return write_zeros_down(component, format, writer, tensor, (uint64_t)index * words * shape[1] * 4, row, rows,
                                shape[1], planes->plane[HT_PLANE_ZEROS]);
    }
    size_t matrix = ht_format_plane_bytes(format, component->plane, layout->rows, layout->cols);
    size_t before = 0, bytes = matrix;
    if (ht_plane_is_whole(format, component->plane)) {
        if (row != 0)
            return HT_OK;
    } else {
        before = row ? ht_format_plane_bytes(format, component->plane, row, layout->cols) : 0;
        bytes = ht_format_plane_bytes(format, component->plane, rows, layout->cols);
    }
    return ht_checkpoint_writer_write(writer, tensor, (uint64_t)index * matrix + before,
                                      planes->plane[component->plane], bytes);
}

ht_status ht_layout_write(const ht_layout *layout, ht_checkpoint_writer *writer, size_t first, size_t index, size_t row,
                          size_t rows, const ht_planes *planes) {
    if (index >= layout->batch || row > layout->rows || rows > layout->rows - row || row % layout->row_step)
        return ht_fail(HT_ERR_SHAPE, "tensor %s: rows %zu to %zu of entry %zu do not fit [%zu, %zu] in steps of %zu",
                       layout->component[0].tensor.name, row, row + rows, index, layout->batch, layout->rows,
                       layout->row_step);
    for (size_t i = 0; i < layout->count; i++)
        if (layout->component[i].kind != HT_COMPONENT_CONSTANT && layout->component[i].kind != HT_COMPONENT_DATA)
            HT_TRY(write_component(layout, &layout->component[i], writer, first + i, index, row, rows, planes));
    return HT_OK;
}

ht_status ht_layout_finish(const ht_layout *layout, ht_checkpoint_writer *writer, size_t first) {
    for (size_t i = 0; i < layout->count; i++) {
        const ht_component *component = &layout->component[i];
        if (component->kind == HT_COMPONENT_CONSTANT)
            HT_TRY(ht_checkpoint_writer_write(writer, first + i, 0, component->constant, component->constant_bytes));
        if (component->kind == HT_COMPONENT_DATA)
            HT_TRY(ht_checkpoint_writer_write(writer, first + i, 0, component->data, component->data_bytes));
    }
    return HT_OK;
}

/* --- The config ---------------------------------------------------------------------------------------- */

/* Append `entry`, a JSON object text, as the last member of `source`, an object without that member. */
static void splice(const char *source, const char *entry, ht_text *out) {
    const char *brace = strrchr(source, '}'), *end = brace;
    while (end > source && strchr(" \t\r\n", end[-1]))
        end--;
    ht_text_append(out, source, (size_t)(end - source));
    ht_text_printf(out, "%s\n  \"quantization_config\": ", end[-1] == '{' ? "" : ",");
    for (const char *line = entry; *line;) { /* two columns deeper */
        size_t length = strcspn(line, "\n");
        ht_text_append(out, line, length);
        line += length;
        if (*line == '\n') {
            ht_text_append(out, "\n  ", 3);
            line++;
        }
    }
    ht_text_printf(out, "\n%s", brace);
}

/* `source` with its old quantization_config taken out. Only then is the text laid out anew. */
static ht_status without_old(const char *source, char **out) {
    json_t *root;
    *out = NULL;
    HT_TRY(ht_json_parse("config.json", "config", source, strlen(source), &root));
    ht_status status = HT_OK;
    if (!json_is_object(root))
        status = ht_fail(HT_ERR_CORRUPT, "config.json: not a JSON object");
    else if (json_object_del(root, "quantization_config") == 0 && !(*out = json_dumps(root, JSON_INDENT(2))))
        status = ht_fail(HT_ERR_MEMORY, "config.json: the system has no memory left");
    json_decref(root);
    return status;
}

ht_status ht_profile_config(const ht_profile *profile, const char *source, const ht_profile_request *requests,
                            size_t count, const char *const *ignored, size_t ignored_count, const char *record,
                            ht_text *out) {
    if (!profile->config)
        return ht_fail(HT_ERR_UNSUPPORTED, "profile %s can be read, not written", profile->name);
    ht_text entry = {0};
    char *cut = NULL;
    ht_status status = profile->config(requests, count, ignored, ignored_count, record, &entry);
    if (status == HT_OK && source)
        status = without_old(source, &cut);
    if (status == HT_OK)
        splice(cut ? cut : source ? source : "{\n}\n", entry.data, out);
    free(cut);
    ht_text_free(&entry);
    return status == HT_OK ? ht_text_check(out) : status;
}
