/* Planar codes and scales to GGUF blocks and back: a shuffle of nibbles, scales are the same bytes.
 *
 *     planar   value 2j, 2j + 1 in byte j                 block   values j, j + half in byte j of a group of 2 half
 * values
 *
 * where half is 16 (mxfp4) or 8 (nvfp4). A block is its scale bytes, then its groups. One row of the table below says
 * it all for a type; both directions walk the same places. Refuses: other pairs of formats, shapes that either side
 * cannot hold. Source: the formats specification, sections 1.3 and 8.5.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "format/gguf_repack.h"

#include <stdint.h>

#include "base/status.h"
#include "format/gguf.h"

typedef struct pairing {
    uint16_t id; /* GGUF type */
    ht_family family;
    ht_dtype scale;
    uint32_t group; /* values that share a scale byte */
} pairing;

static const pairing pairings[] = {
    {.id = 39, .family = HT_FAMILY_MX, .scale = HT_E8M0, .group = 32},
    {.id = 40, .family = HT_FAMILY_NVFP4, .scale = HT_F8_E4M3, .group = 16},
};

static const pairing *find(const ht_format *planar, const ht_format *blocks) {
    int nibbles = planar->packing == HT_PACK_LOW || planar->packing == HT_PACK_HIGH;
    for (size_t i = 0; i < sizeof pairings / sizeof *pairings; i++) {
        const pairing *p = &pairings[i];
        if (blocks->family == HT_FAMILY_GGUF && blocks->variant == p->id && planar->family == p->family &&
            planar->element == HT_F4_E2M1 && planar->scale == p->scale && planar->block_rows == 1 &&
            planar->block_cols == p->group && nibbles)
            return p;
    }
    return NULL;
}

int ht_gguf_can_repack(const ht_format *from, const ht_format *to) {
    return find(from, to) || find(to, from);
}

/* The planar side: code of value i. */
static unsigned get_code(const uint8_t *codes, size_t i, int low_first) {
    return codes[i / 2] >> ((i % 2 == 0) == low_first ? 0 : 4) & 15u;
}

/* Group g of a matrix (groups run along the rows without gaps on both sides): where its scale and codes lie in blocks.
 */
typedef struct place {
    size_t scale, codes;
} place;

static place place_of(const pairing *p, const ht_gguf_type *type, size_t g) {
    size_t groups = type->values / p->group, start = g / groups * type->bytes;
    return (place){start + g % groups, start + groups + g % groups * (p->group / 2)};
}

static void to_blocks(const pairing *p, const ht_gguf_type *type, int low_first, const ht_planes *in, uint8_t *blocks,
                      size_t groups) {
    const uint8_t *codes = in->plane[HT_PLANE_CODES], *scales = in->plane[HT_PLANE_SCALES];
    size_t half = p->group / 2;
    for (size_t g = 0; g < groups; g++) {
        place at = place_of(p, type, g);
        blocks[at.scale] = scales[g];
        for (size_t j = 0; j < half; j++)
            blocks[at.codes + j] = (uint8_t)(get_code(codes, g * p->group + j, low_first) |
                                             get_code(codes, g * p->group + j + half, low_first) << 4);
    }
}

static void from_blocks(const pairing *p, const ht_gguf_type *type, int low_first, const uint8_t *blocks,
                        const ht_planes *out, size_t groups) {
    uint8_t *codes = out->plane[HT_PLANE_CODES], *scales = out->plane[HT_PLANE_SCALES];
    size_t half = p->group / 2;
    for (size_t g = 0; g < groups; g++) {
        place at = place_of(p, type, g);
        scales[g] = blocks[at.scale];
        for (size_t j = 0; j < p->group; j += 2) {
            unsigned shift = j < half ? 0 : 4;
            unsigned first = blocks[at.codes + j % half] >> shift & 15u;
            unsigned second = blocks[at.codes + j % half + 1] >> shift & 15u;
            codes[(g * p->group + j) / 2] = (uint8_t)(low_first ? first | second << 4 : first << 4 | second);
        }
    }
}

ht_status ht_gguf_repack(const ht_format *from, const ht_planes *in, const ht_format *to, const ht_planes *out,
                         size_t rows, size_t cols) {
    const pairing *p = find(from, to);
    int packing = p != NULL;
    const ht_format *planar = packing ? from : to, *blocks = packing ? to : from;
    if (!p && !(p = find(to, from))) {
        char a[64], b[64];
        ht_format_name(from, a, sizeof a);
        ht_format_name(to, b, sizeof b);
        return ht_fail(HT_ERR_FORMAT, "%s cannot be repacked as %s: decode and quantize it", a, b);
    }
    HT_TRY(ht_format_check_shape(planar, rows, cols));
    HT_TRY(ht_format_check_shape(blocks, rows, cols));
    const ht_gguf_type *type = ht_gguf_type_find(p->id);
    size_t groups = rows * (cols / p->group);
    if (packing)
        to_blocks(p, type, planar->packing == HT_PACK_LOW, in, out->plane[HT_PLANE_CODES], groups);
    else
        from_blocks(p, type, planar->packing == HT_PACK_LOW, in->plane[HT_PLANE_CODES], out, groups);
    return HT_OK;
}
