/* N16K4: sizes of the parts, code tables, and the file header.
 *
 * Everything about a packed matrix follows from five numbers (element, bits, group, scale, zeros) and its shape, so a
 * file's header holds those and the rest is computed again and compared. Refuses: formats without an integer meaning,
 * groups that do not fall on blocks of 32, sizes that do not fit.
 * Source: cpu-kernels specification, section 2; crc32c: RFC 3720 appendix B.4 (polynomial 0x1EDC6F41, reflected).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/packed.h"

#include <string.h> /* memcmp, memcpy, memset */

#include "base/status.h"

enum { VERSION = 1, LAYOUT = 1, MOST_COLS = 65536 }; /* 255 * 128 * 65536 just fits in 31 bits */

static size_t round_up(size_t value, size_t step) {
    return (value + step - 1) / step * step;
}

/* --- codes ------------------------------------------------------------------------------------------------------- */

static const struct {
    ht_packed_element element;
    ht_dtype dtype; /* HT_DTYPE_NONE: the code is the value plus offset */
    int offset;     /* 0: 2^(bits - 1) */
    float unit;
} meanings[] = {
    {HT_PACKED_INT, HT_DTYPE_NONE, 0, 1},
    {HT_PACKED_E2M1, HT_F4_E2M1, 12, 0.5f},
    {HT_PACKED_E2M3, HT_F6_E2M3, 60, 0.125f},
    {HT_PACKED_MXINT8, HT_DTYPE_NONE, 0, 0.015625f},
};
enum { MEANINGS = sizeof meanings / sizeof *meanings };

static void set_meaning(ht_packed *packed, size_t index) {
    packed->unit = meanings[index].unit;
    packed->offset = meanings[index].offset ? meanings[index].offset : 1 << (packed->bits - 1);
    unsigned mask = (1u << (packed->bits < 6 ? packed->bits : 6)) - 1;
    for (unsigned i = 0; i < sizeof packed->table; i++) {
        float value = meanings[index].dtype == HT_DTYPE_NONE
                          ? 0
                          : ht_element_decode(meanings[index].dtype, i & mask) / packed->unit + (float)packed->offset;
        packed->table[i] = meanings[index].dtype == HT_DTYPE_NONE ? (uint8_t)(i & mask) : (uint8_t)(int)value;
    }
}

/* --- sizes ------------------------------------------------------------------------------------------------------- */

static size_t scale_size(ht_packed_scale scale) {
    return scale == HT_PACKED_SCALE_F32 ? 4 : scale == HT_PACKED_SCALE_BF16 ? 2 : 1;
}

/* From rows, cols, group, element, scale, bits and has_zeros to everything else. */
static void set_sizes(ht_packed *p) {
    size_t groups = p->group ? HT_KCHUNK / p->group : 0;
    for (size_t i = 0; i < MEANINGS; i++)
        if (meanings[i].element == p->element)
            set_meaning(p, i);
    p->scale_bytes = round_up(groups * HT_PANEL * scale_size(p->scale), HT_UNIT);
    p->zero_bytes = p->has_zeros ? round_up(groups * HT_PANEL, HT_UNIT) : 0;
    p->head_bytes = p->group ? 0 : HT_PANEL * sizeof(float);
    p->block_bytes = (size_t)p->bits * HT_UNIT;
    p->chunk_bytes = p->scale_bytes + p->zero_bytes + HT_KCHUNK_BLOCKS * p->block_bytes;
    p->blocks = (p->cols + HT_BLOCK - 1) / HT_BLOCK;
    p->chunks = (p->blocks + HT_KCHUNK_BLOCKS - 1) / HT_KCHUNK_BLOCKS;
    p->panels = (p->rows + HT_PANEL - 1) / HT_PANEL;
    p->panel_bytes = p->head_bytes + p->chunks * (p->scale_bytes + p->zero_bytes) + p->blocks * p->block_bytes;
    p->bytes = p->panels * p->panel_bytes;
}

static int fail(const char **why, const char *reason) {
    if (why)
        *why = reason;
    return 0;
}

static int integer_layout(const ht_format *f, ht_packed *p, const char **why) {
    p->element = HT_PACKED_INT;
    p->bits = ht_dtype_bits(f->element);
    p->scale = f->scale == HT_BF16 ? HT_PACKED_SCALE_BF16 : HT_PACKED_SCALE_F32;
    p->has_zeros = f->zero != HT_DTYPE_NONE;
    if (f->zero != HT_DTYPE_NONE && f->zero != HT_I8 && f->zero != HT_U8)
        return fail(why, "float zero points are not packed");
    if (f->block_rows > 1)
        return fail(why, "a tile of rows shares a scale");
    return 1;
}

static int mx_layout(const ht_format *f, ht_packed *p, const char **why) {
    p->scale = HT_PACKED_SCALE_E8M0;
    p->bits = ht_dtype_bits(f->element);
    p->element = f->element == HT_F4_E2M1   ? HT_PACKED_E2M1
                 : f->element == HT_F6_E2M3 ? HT_PACKED_E2M3
                                            : HT_PACKED_MXINT8;
    if (f->element != HT_F4_E2M1 && f->element != HT_F6_E2M3 && f->element != HT_I8)
        return fail(why, "its elements are no multiples of one unit within 8 bits");
    return 1;
}

int ht_packed_layout(const ht_weight *weight, ht_packed *out, const char **why) {
    const ht_format *f = &weight->format;
    memset(out, 0, sizeof *out);
    out->rows = weight->rows;
    out->cols = weight->cols;
    out->group = f->block_cols >= weight->cols ? 0 : f->block_cols;
    if (weight->transposed || (f->family != HT_FAMILY_INT && f->family != HT_FAMILY_MX))
        return fail(why, "its values are no integers times a scale");
    if (!(f->family == HT_FAMILY_INT ? integer_layout : mx_layout)(f, out, why))
        return 0;
    if (f->family == HT_FAMILY_MX || out->has_zeros) /* kept by group, even where one group is the row */
        out->group = f->block_cols;
    if (out->group && (out->group < HT_BLOCK || out->group > HT_KCHUNK || (out->group & (out->group - 1))))
        return fail(why, "groups that are not 32, 64, 128, 256 or the row are not packed");
    if (out->has_zeros && !out->group)
        return fail(why, "zero points of whole rows are not packed");
    if (weight->cols > MOST_COLS)
        return fail(why, "sums over more than 65536 inputs do not fit in 32 bits");
    if (!out->group)
        out->scale = HT_PACKED_SCALE_F32;
    set_sizes(out);
    return 1;
}

/* --- files ------------------------------------------------------------------------------------------------------- */

uint32_t ht_crc32c(const uint8_t *bytes, size_t count) {
    uint32_t table[256], crc = 0xffffffffu;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int b = 0; b < 8; b++)
            table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78u : 0);
    }
    for (size_t i = 0; i < count; i++)
        crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 255];
    return ~crc;
}

static void put(uint8_t *out, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; i++)
        out[i] = (uint8_t)(value >> (8 * i));
}

static uint64_t get(const uint8_t *in, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i++)
        value |= (uint64_t)in[i] << (8 * i);
    return value;
}

void ht_packed_write_header(const ht_packed *p, size_t batch, const uint8_t *panels, uint8_t out[64]) {
    memset(out, 0, HT_PACKED_HEADER);
    memcpy(out, "HTNK", 4);
    put(out + 4, VERSION, 2);
    put(out + 6, HT_PACKED_HEADER, 2);
    put(out + 8, LAYOUT, 4);
    out[12] = (uint8_t)p->element;
    out[13] = (uint8_t)p->scale;
    out[14] = (uint8_t)p->bits;
    out[15] = (uint8_t)p->has_zeros;
    put(out + 16, p->group, 4);
    put(out + 20, batch, 4);
    put(out + 24, p->rows, 4);
    put(out + 28, p->cols, 4);
    put(out + 32, batch * p->bytes, 8);
    put(out + 40, p->panel_bytes, 8);
    put(out + 48, ht_crc32c(panels, batch * p->bytes), 4);
}

static ht_status corrupt(const char *field, uint64_t value, const char *need) {
    return ht_fail(HT_ERR_CORRUPT, "packed weight: %s is %llu, %s is needed", field, (unsigned long long)value, need);
}

static ht_status check_fields(const ht_packed *p, uint64_t batch) {
    int mx = p->element != HT_PACKED_INT;
    static const uint8_t bits_of[] = {0, 0, 4, 6, 8};
    if (p->element < HT_PACKED_INT || p->element > HT_PACKED_MXINT8)
        return corrupt("the element", p->element, "1 to 4");
    if (p->scale < HT_PACKED_SCALE_F32 || p->scale > HT_PACKED_SCALE_E8M0 || mx != (p->scale == HT_PACKED_SCALE_E8M0))
        return corrupt("the kind of scale", p->scale, mx ? "3" : "1 or 2");
    if (mx ? p->bits != bits_of[p->element] : p->bits < 1 || p->bits > 8)
        return corrupt("the width of a code", p->bits, "the element's");
    if (p->has_zeros > 1 || (p->has_zeros && (mx || !p->group)))
        return corrupt("the kind of zero point", (uint64_t)p->has_zeros, "0");
    if (mx ? p->group != HT_BLOCK
           : p->group && (p->group < HT_BLOCK || p->group > HT_KCHUNK || (p->group & (p->group - 1))))
        return corrupt("the group", p->group, "32, 64, 128, 256 or 0");
    if (!p->group && p->scale != HT_PACKED_SCALE_F32)
        return corrupt("the kind of scale", p->scale, "1");
    if (!batch || !p->rows || !p->cols || p->cols > MOST_COLS)
        return corrupt("the number of inputs", p->cols, "1 to 65536, with rows and a batch");
    return HT_OK;
}

ht_status ht_packed_read_header(const uint8_t *file, size_t bytes, ht_packed *out, size_t *batch) {
    static const uint8_t zeros[12];
    memset(out, 0, sizeof *out);
    if (bytes < HT_PACKED_HEADER || memcmp(file, "HTNK", 4) != 0)
        return ht_fail(HT_ERR_CORRUPT, "packed weight: no header in the %zu bytes", bytes);
    if (get(file + 4, 2) != VERSION || get(file + 6, 2) != HT_PACKED_HEADER || get(file + 8, 4) != LAYOUT)
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "packed weight: version %u, layout %u; this program reads version 1, layout 1",
                       (unsigned)get(file + 4, 2), (unsigned)get(file + 8, 4));
    out->element = (ht_packed_element)file[12];
    out->scale = (ht_packed_scale)file[13];
    out->bits = file[14];
    out->has_zeros = file[15];
    out->group = (size_t)get(file + 16, 4);
    *batch = (size_t)get(file + 20, 4);
    out->rows = (size_t)get(file + 24, 4);
    out->cols = (size_t)get(file + 28, 4);
    HT_TRY(check_fields(out, *batch));
    set_sizes(out);
    uint64_t payload = get(file + 32, 8);
    if (get(file + 40, 8) != out->panel_bytes)
        return corrupt("the size of a panel", get(file + 40, 8), "what its shape asks for");
    if (payload != bytes - HT_PACKED_HEADER || payload % out->bytes != 0 || payload / out->bytes != *batch)
        return corrupt("the payload", payload, "the rest of the file, and what its shape asks for,");
    if (memcmp(file + 52, zeros, sizeof zeros) != 0)
        return ht_fail(HT_ERR_CORRUPT, "packed weight: the header's last 12 bytes are not zero");
    if (get(file + 48, 4) != ht_crc32c(file + HT_PACKED_HEADER, (size_t)payload))
        return ht_fail(HT_ERR_CORRUPT, "packed weight: the checksum does not match the payload");
    return HT_OK;
}
