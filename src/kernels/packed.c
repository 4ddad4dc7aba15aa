/* N16K4: what a packed matrix may hold, sizes of its parts, code tables, and the layout for a stored weight.
 *
 * Everything follows from a few numbers (element, bits, group, scale, head, zeros) and the shape: a table says which of
 * them go together, the rest is computed. A stored weight gets its numbers from its family's row of another table.
 * Refuses: families without a row (dense floats, GGUF blocks, optimizer maps), groups that do not fall on blocks of 32
 * (NVFP4: 16), float zero points, sizes that do not fit.
 * Source: cpu-kernels specification, section 2.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/packed.h"

#include <string.h> /* memset */

enum { MOST_COLS = 65536 }; /* 255 * 128 * 65536 just fits in 31 bits */

static size_t round_up(size_t value, size_t step) {
    return (value + step - 1) / step * step;
}

/* --- what goes together ------------------------------------------------------------------------------------------ */

enum {
    F32 = 1 << HT_PACKED_SCALE_F32,
    BF16 = 1 << HT_PACKED_SCALE_BF16,
    E8M0 = 1 << HT_PACKED_SCALE_E8M0,
    E4M3 = 1 << HT_PACKED_SCALE_E4M3,
    ANY_BITS = 0
};

static const struct kind {
    ht_packed_element element;
    ht_dtype dtype; /* HT_DTYPE_NONE: the code is no float's */
    unsigned bits, scales;
    int is_integer;
    int offset; /* 0: 2^(bits - 1) */
    float unit;
} kinds[] = {
    {HT_PACKED_INT, HT_DTYPE_NONE, ANY_BITS, F32 | BF16, 1, 0, 1},
    {HT_PACKED_E2M1, HT_F4_E2M1, 4, E8M0 | E4M3, 1, 12, 0.5f},
    {HT_PACKED_E2M3, HT_F6_E2M3, 6, E8M0, 1, 60, 0.125f},
    {HT_PACKED_MXINT8, HT_DTYPE_NONE, 8, E8M0, 1, 0, 0.015625f},
    {HT_PACKED_E3M2, HT_F6_E3M2, 6, E8M0, 0, 0, 1},
    {HT_PACKED_E4M3, HT_F8_E4M3, 8, E8M0 | F32 | BF16, 0, 0, 1},
    {HT_PACKED_E5M2, HT_F8_E5M2, 8, E8M0 | F32 | BF16, 0, 0, 1},
    {HT_PACKED_LUT, HT_DTYPE_NONE, 4, F32, 0, 0, 1},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

static const struct kind *kind_of(unsigned element) {
    for (size_t i = 0; i < KINDS; i++)
        if ((unsigned)kinds[i].element == element)
            return &kinds[i];
    return NULL;
}

static int is_group_possible(const ht_packed *p) {
    if (p->scale == HT_PACKED_SCALE_E8M0)
        return p->group == HT_BLOCK;
    if (p->scale == HT_PACKED_SCALE_E4M3)
        return p->group == HT_BLOCK / 2;
    if (!p->group)
        return p->scale == HT_PACKED_SCALE_F32 && p->element != HT_PACKED_LUT;
    return p->group >= HT_BLOCK && p->group <= HT_KCHUNK && (p->group & (p->group - 1)) == 0;
}

static int is_head_possible(const ht_packed *p) {
    if (!p->group)
        return p->head == HT_PACKED_HEAD_ROWS;
    if (p->element == HT_PACKED_LUT)
        return p->head == HT_PACKED_HEAD_TABLE;
    return p->head == HT_PACKED_HEAD_NONE ||
           (p->scale == HT_PACKED_SCALE_E4M3 &&
            (p->head == HT_PACKED_HEAD_MULTIPLIES || p->head == HT_PACKED_HEAD_DIVIDES));
}

static const char *first_bad_field(const ht_packed *p, uint64_t *value) {
    const struct kind *kind = kind_of((unsigned)p->element);
    *value = (uint64_t)p->element;
    if (!kind)
        return "the element";
    *value = (uint64_t)p->scale;
    if (p->scale < HT_PACKED_SCALE_F32 || p->scale > HT_PACKED_SCALE_E4M3 || !(kind->scales >> p->scale & 1))
        return "the kind of scale";
    *value = p->bits;
    if (p->bits < 1 || p->bits > 8 || (kind->bits && p->bits != kind->bits))
        return "the width of a code";
    *value = p->group;
    if (!is_group_possible(p))
        return "the group";
    *value = (uint64_t)p->has_zeros;
    if (p->has_zeros < 0 || p->has_zeros > 1 || (p->has_zeros && (p->element != HT_PACKED_INT || !p->group)))
        return "the kind of zero point";
    *value = (uint64_t)p->head;
    if (!is_head_possible(p))
        return "the head";
    *value = p->rows;
    if (!p->rows)
        return "the number of rows";
    *value = p->cols;
    return p->cols && p->cols <= MOST_COLS ? NULL : "the number of inputs";
}

/* --- codes and sizes --------------------------------------------------------------------------------------------- */

static void set_meaning(ht_packed *packed, const struct kind *kind) {
    packed->dtype = kind->dtype;
    packed->is_integer = kind->is_integer;
    packed->unit = kind->unit;
    packed->offset = kind->offset || !kind->is_integer ? kind->offset : 1 << (packed->bits - 1);
    unsigned mask = (1u << (packed->bits < 6 ? packed->bits : 6)) - 1;
    for (unsigned i = 0; i < sizeof packed->table; i++) {
        packed->table[i] = (uint8_t)(i & mask);
        if (kind->is_integer && kind->dtype != HT_DTYPE_NONE)
            packed->table[i] =
                (uint8_t)(int)(ht_element_decode(kind->dtype, i & mask) / kind->unit + (float)packed->offset);
    }
}

static size_t scale_size(ht_packed_scale scale) {
    return scale == HT_PACKED_SCALE_F32 ? 4 : scale == HT_PACKED_SCALE_BF16 ? 2 : 1;
}

int ht_packed_complete(ht_packed *p, const char **field, uint64_t *value) {
    *field = first_bad_field(p, value);
    if (*field)
        return 0;
    size_t groups = p->group ? HT_KCHUNK / p->group : 0;
    set_meaning(p, kind_of((unsigned)p->element));
    p->scale_bytes = round_up(groups * HT_PANEL * scale_size(p->scale), HT_UNIT);
    p->zero_bytes = p->has_zeros ? round_up(groups * HT_PANEL, HT_UNIT) : 0;
    p->head_bytes = p->head == HT_PACKED_HEAD_NONE ? 0 : HT_PANEL * sizeof(float);
    p->block_bytes = (size_t)p->bits * HT_UNIT;
    p->chunk_bytes = p->scale_bytes + p->zero_bytes + HT_KCHUNK_BLOCKS * p->block_bytes;
    p->blocks = (p->cols + HT_BLOCK - 1) / HT_BLOCK;
    p->chunks = (p->blocks + HT_KCHUNK_BLOCKS - 1) / HT_KCHUNK_BLOCKS;
    p->panels = (p->rows + HT_PANEL - 1) / HT_PANEL;
    p->panel_bytes = p->head_bytes + p->chunks * (p->scale_bytes + p->zero_bytes) + p->blocks * p->block_bytes;
    p->bytes = p->panels * p->panel_bytes;
    return 1;
}

/* --- from stored weights ----------------------------------------------------------------------------------------- */

static int fail(const char **why, const char *reason) {
    if (why)
        *why = reason;
    return 0;
}

static int integer_layout(const ht_format *f, ht_packed *p, const char **why) {
    p->element = HT_PACKED_INT;
    p->has_zeros = f->zero != HT_DTYPE_NONE;
    if (f->zero != HT_DTYPE_NONE && f->zero != HT_I8 && f->zero != HT_U8)
        return fail(why, "float zero points are not packed");
    if (p->has_zeros) /* kept by group, even where one group is the row */
        p->group = f->block_cols;
    return p->has_zeros && !p->group ? fail(why, "zero points of whole rows are not packed") : 1;
}

static int float_layout(const ht_format *f, ht_packed *p, const char **why) {
    p->element = 0;
    for (size_t i = 0; i < KINDS && !p->element; i++)
        if (kinds[i].dtype == f->element)
            p->element = kinds[i].element;
    return p->element ? 1 : fail(why, "its elements have no packed code");
}

static int mx_layout(const ht_format *f, ht_packed *p, const char **why) {
    p->group = f->block_cols;
    p->scale = HT_PACKED_SCALE_E8M0;
    if (f->element != HT_I8)
        return float_layout(f, p, why);
    p->element = HT_PACKED_MXINT8;
    return 1;
}

static int nvfp4_layout(const ht_format *f, ht_packed *p, const char **why) {
    (void)why;
    p->element = HT_PACKED_E2M1;
    p->group = f->block_cols;
    p->scale = HT_PACKED_SCALE_E4M3;
    if (f->global != HT_DTYPE_NONE)
        p->head = f->global_rule == HT_GLOBAL_DIVIDES ? HT_PACKED_HEAD_DIVIDES : HT_PACKED_HEAD_MULTIPLIES;
    return 1;
}

static int codebook_layout(const ht_format *f, ht_packed *p, const char **why) {
    (void)why;
    p->element = HT_PACKED_LUT;
    p->group = f->block_cols;
    p->scale = HT_PACKED_SCALE_F32;
    p->head = HT_PACKED_HEAD_TABLE;
    return 1;
}

static int (*const LAYOUTS[HT_FAMILY_COUNT])(const ht_format *f, ht_packed *p, const char **why) = {
    [HT_FAMILY_INT] = integer_layout,       [HT_FAMILY_MX] = mx_layout,
    [HT_FAMILY_NVFP4] = nvfp4_layout,       [HT_FAMILY_FLOAT8] = float_layout,
    [HT_FAMILY_CODEBOOK] = codebook_layout,
};

int ht_packed_layout(const ht_weight *weight, ht_packed *out, const char **why) {
    const ht_format *f = &weight->format;
    const char *field;
    uint64_t value;
    memset(out, 0, sizeof *out);
    out->rows = weight->rows;
    out->cols = weight->cols;
    out->group = f->block_cols >= weight->cols ? 0 : f->block_cols;
    out->bits = ht_dtype_bits(f->element);
    out->scale = f->scale == HT_BF16 ? HT_PACKED_SCALE_BF16 : HT_PACKED_SCALE_F32;
    if (weight->transposed || !LAYOUTS[f->family])
        return fail(why, "its family has no packed layout");
    if (!LAYOUTS[f->family](f, out, why))
        return 0;
    if (!out->group)
        out->scale = HT_PACKED_SCALE_F32;
    if (!out->group)
        out->head = HT_PACKED_HEAD_ROWS;
    if (weight->cols > MOST_COLS)
        return fail(why, "sums over more than 65536 inputs do not fit in 32 bits");
    if (!is_group_possible(out))
        return fail(why, "groups that are not 32, 64, 128, 256 or the row are not packed");
    return ht_packed_complete(out, &field, &value) ? 1 : fail(why, field);
}
