/* Stored weights to N16K4 panels, and rows of panels back to f32.
 *
 * The codes of 16 rows become bytes first, unsigned (value + 2^(bits - 1) for integers); then every plane of every
 * block is written as 32-bit words, one per output:
 *
 *     row j: k0 k1 k2 k3 | k4 ...          word of output j in unit u = OR over i of
 *            '---------'                     (bits of step u + i * w) << (i * w),   w = width of the plane
 *              step 0
 *
 * Defines the bytes of a packed weight; integers in files are little-endian on every machine.
 * Source: cpu-kernels specification, section 2.1.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/packed.h"

#include <string.h> /* memcpy, memset */

#include "format/codebook.h"
#include "format/map.h"
#include "format/pack.h"
#include "format/tile.h"
#include "kernels/body/units.h"

size_t ht_pack_scratch(const ht_packed *packed) {
    return HT_PANEL * packed->blocks * HT_BLOCK;
}

static int is_signed(ht_dtype element) {
    return element == HT_I8 || (element >= HT_I1 && element <= HT_I7);
}

/* Codes of one row, unsigned, one a byte; the rest up to whole blocks is value 0. */
static void row_codes(const ht_packed *packed, const ht_weight *weight, const ht_planes *planes, size_t row,
                      uint8_t *out) {
    const ht_format *f = &weight->format;
    size_t stride = ht_format_plane_bytes(f, HT_PLANE_CODES, 1, weight->cols), padded = packed->blocks * HT_BLOCK;
    int integer = packed->element == HT_PACKED_INT || packed->element == HT_PACKED_MXINT8;
    uint8_t middle = (uint8_t)(1u << (packed->bits - 1)), mask = (uint8_t)((1u << packed->bits) - 1);
    int is_offset = !is_signed(f->element) || f->packing == HT_PACK_WORDS;
    memset(out, integer ? middle : 0, padded);
    if (row >= weight->rows)
        return;
    ht_unpack_codes(f->packing, packed->bits, (const uint8_t *)planes->plane[HT_PLANE_CODES] + row * stride,
                    weight->cols, out);
    if (integer && !is_offset)
        for (size_t k = 0; k < weight->cols; k++)
            out[k] = (uint8_t)((out[k] + middle) & mask);
}

static uint32_t load_word(const uint8_t *bytes) {
    return bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
}

static void store_word(uint8_t *out, uint32_t word) {
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)(word >> (8 * i));
}

/* One block of 16 rows, `stride` bytes apart. */
static void pack_block(unsigned bits, const uint8_t *codes, size_t stride, uint8_t *out) {
    unsigned width[3], planes = plane_widths(bits, width), low = 0;
    for (unsigned p = 0; p < planes; p++) {
        unsigned w = width[p];
        uint32_t mask = ((1u << w) - 1) * 0x01010101u;
        for (unsigned u = 0; u < w; u++)
            for (size_t column = 0; column < HT_PANEL; column++) {
                uint32_t word = 0;
                for (unsigned i = 0; i < 8 / w; i++)
                    word |= (load_word(codes + column * stride + 4 * (u + i * w)) >> low & mask) << (i * w);
                store_word(out + u * HT_UNIT + 4 * column, word);
            }
        out += w * HT_UNIT;
        low += w;
    }
}

static size_t scale_index(const ht_packed *packed, const ht_weight *weight, size_t row, size_t group) {
    size_t across = packed->group ? (weight->cols + packed->group - 1) / packed->group : 1;
    return (weight->format.block_rows ? row / weight->format.block_rows : 0) * across + group;
}

/* A scale as f32, of formats that store one or nest it. */
static float stored_scale(const ht_packed *packed, const ht_weight *weight, const ht_planes *planes, size_t index) {
    const ht_format *f = &weight->format;
    if (!f->block2)
        return ht_scale_load(f->scale, planes->plane[HT_PLANE_SCALES], index);
    size_t across = weight->cols / packed->group, nests = (across + f->block2 - 1) / f->block2;
    const float *scale2 = planes->plane[HT_PLANE_SCALES2];
    return ht_map_unsigned_8[((const uint8_t *)planes->plane[HT_PLANE_SCALES])[index]] *
           scale2[index / across * nests + index % across / f->block2];
}

static uint32_t float_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

/* One scale (and zero point) into its place in the chunk. 0 when it cannot be. */
static int pack_scale(const ht_packed *packed, const ht_weight *weight, const ht_planes *planes, size_t from, size_t to,
                      uint8_t *chunk) {
    const ht_format *f = &weight->format;
    const uint8_t *scales = planes->plane[HT_PLANE_SCALES], *zeros = planes->plane[HT_PLANE_ZEROS];
    if (packed->scale == HT_PACKED_SCALE_E8M0 || packed->scale == HT_PACKED_SCALE_E4M3) {
        chunk[to] = scales[from];
        return packed->scale == HT_PACKED_SCALE_E4M3 || scales[from] != 255;
    }
    uint32_t bits = float_bits(stored_scale(packed, weight, planes, from));
    if (packed->scale == HT_PACKED_SCALE_BF16) {
        chunk[2 * to] = (uint8_t)(bits >> 16);
        chunk[2 * to + 1] = (uint8_t)(bits >> 24);
    } else {
        store_word(chunk + 4 * to, bits);
    }
    if (!packed->has_zeros)
        return 1;
    int zero = f->zero == HT_I8 ? (int8_t)zeros[from] : zeros[from];
    zero -= is_signed(f->element) ? 0 : 1 << (packed->bits - 1);
    chunk[packed->scale_bytes + to] = (uint8_t)zero;
    return zero >= -128 && zero <= 127;
}

static int pack_chunk_scales(const ht_packed *packed, const ht_weight *weight, const ht_planes *planes, size_t panel,
                             size_t c, uint8_t *chunk) {
    size_t first = c * (HT_KCHUNK / packed->group), groups = (weight->cols + packed->group - 1) / packed->group - first;
    if (groups > HT_KCHUNK / packed->group)
        groups = HT_KCHUNK / packed->group; /* a group of a padded block has the scale 0 */
    memset(chunk, 0, packed->scale_bytes + packed->zero_bytes);
    for (size_t g = 0; g < groups; g++)
        for (size_t column = 0; column < HT_PANEL; column++) {
            size_t row = panel * HT_PANEL + column;
            if (row < weight->rows && !pack_scale(packed, weight, planes, scale_index(packed, weight, row, first + g),
                                                  g * HT_PANEL + column, chunk))
                return 0;
        }
    return 1;
}

/* What is before the chunks; see ht_packed_head. */
static void pack_head(const ht_packed *packed, const ht_weight *weight, const ht_planes *planes, size_t panel,
                      uint8_t *out) {
    const ht_codebook *book = ht_codebook_at(weight->format.variant);
    for (size_t column = 0; column < HT_PANEL; column++) {
        size_t row = panel * HT_PANEL + column;
        float value = 0;
        if (packed->head == HT_PACKED_HEAD_TABLE)
            value = book->value[column];
        else if (packed->head != HT_PACKED_HEAD_ROWS)
            value = *(const float *)planes->plane[HT_PLANE_GLOBAL];
        else if (row < weight->rows)
            value = ht_scale_load(weight->format.scale, planes->plane[HT_PLANE_SCALES],
                                  scale_index(packed, weight, row, 0));
        store_word(out + 4 * column, float_bits(value));
    }
}

int ht_pack_panel(const ht_packed *packed, const ht_weight *weight, size_t index, size_t panel, void *scratch,
                  uint8_t *out) {
    ht_planes planes = ht_weight_planes(weight, index);
    size_t stride = packed->blocks * HT_BLOCK;
    uint8_t *codes = scratch;
    for (size_t column = 0; column < HT_PANEL; column++)
        row_codes(packed, weight, &planes, panel * HT_PANEL + column, codes + column * stride);
    if (packed->head_bytes)
        pack_head(packed, weight, &planes, panel, out);
    for (size_t c = 0; c < packed->chunks; c++) {
        uint8_t *chunk = out + packed->head_bytes + c * packed->chunk_bytes;
        if (packed->group && !pack_chunk_scales(packed, weight, &planes, panel, c, chunk))
            return 0;
        chunk += packed->scale_bytes + packed->zero_bytes;
        for (size_t b = 0; b * HT_BLOCK < ht_packed_chunk_width(packed, c); b++)
            pack_block(packed->bits, codes + c * HT_KCHUNK + b * HT_BLOCK, stride, chunk + b * packed->block_bytes);
    }
    return 1;
}

/* --- back -------------------------------------------------------------------------------------------------------- */

/* The 32 codes of one column of a block. */
static void column_codes(const ht_packed *packed, const uint8_t *block, size_t column, uint8_t codes[HT_BLOCK]) {
    unsigned width[3], planes = plane_widths(packed->bits, width), low = 0;
    memset(codes, 0, HT_BLOCK);
    for (unsigned p = 0; p < planes; p++) {
        unsigned w = width[p];
        uint32_t mask = ((1u << w) - 1) * 0x01010101u;
        for (unsigned u = 0; u < w; u++) {
            uint32_t word = load_word(block + u * HT_UNIT + 4 * column);
            for (unsigned i = 0; i < 8 / w; i++)
                store_word(codes + 4 * (u + i * w), load_word(codes + 4 * (u + i * w)) | (word >> (i * w) & mask)
                                                                                             << low);
        }
        block += w * HT_UNIT;
        low += w;
    }
}

/* What every code stands for at scale 1; integers are left whole, so that zero points can be taken from them. */
static void code_values(const ht_packed *packed, const uint8_t *panel, float *value) {
    for (unsigned code = 0; code < 1u << packed->bits; code++)
        if (packed->element == HT_PACKED_LUT)
            value[code] = head_value(panel, code);
        else if (packed->is_integer)
            value[code] = (float)((packed->bits < 7 ? packed->table[code] : (int)code) - packed->offset);
        else
            value[code] = ht_element_decode(packed->dtype, code);
}

static float scale_at(const ht_packed *packed, const uint8_t *panel, const uint8_t *chunk, size_t k, size_t column) {
    if (!packed->group)
        return head_value(panel, column);
    float scale = chunk_scale(packed, chunk, k % HT_KCHUNK / packed->group, column);
    if (packed->head == HT_PACKED_HEAD_MULTIPLIES)
        return scale * head_value(panel, column);
    return packed->head == HT_PACKED_HEAD_DIVIDES ? scale / head_value(panel, column) : scale;
}

void ht_packed_row(const ht_packed *packed, const uint8_t *panels, size_t row, float *out) {
    const uint8_t *panel = panels + row / HT_PANEL * packed->panel_bytes;
    size_t column = row % HT_PANEL, before = packed->scale_bytes + packed->zero_bytes;
    size_t share = packed->group && packed->group < HT_BLOCK ? packed->group : HT_BLOCK; /* k of one scale in a block */
    float value[256], unit = packed->is_integer ? packed->unit : 1;
    uint8_t codes[HT_BLOCK];
    code_values(packed, panel, value);
    for (size_t k = 0; k < packed->cols;) {
        const uint8_t *chunk = ht_packed_chunk(packed, panel, k / HT_KCHUNK);
        size_t inside = k % HT_KCHUNK, end = k + share < packed->cols ? k + share : packed->cols;
        if (k % HT_BLOCK == 0)
            column_codes(packed, chunk + before + inside / HT_BLOCK * packed->block_bytes, column, codes);
        float scale = scale_at(packed, panel, chunk, k, column), zero = 0;
        if (packed->has_zeros)
            zero = (float)(int8_t)chunk[packed->scale_bytes + inside / packed->group * HT_PANEL + column];
        for (; k < end; k++)
            out[k] = (value[codes[k % HT_BLOCK]] - zero) * unit * scale;
    }
}
