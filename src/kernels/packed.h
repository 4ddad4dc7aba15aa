/* Packed weights, layout N16K4: what every integer product reads, the same bytes on every machine.
 *
 * Outputs go in panels of 16, k in chunks of 256, those in blocks of 32. A unit is 64 bytes: 16 outputs x 4 consecutive
 * k, byte 4 * output + j holds k = 4 * step + j. It is one AVX-512 register, two of AVX2, four of NEON, a row of an AMX
 * tile.
 *
 *   panel   [head: 16 f32: a scale of every row, the matrix's number, or the table of values] [chunk 0] [chunk 1] ...
 *   chunk   [scales: 256 / group x 16] [zero points: 256 / group x 16, i8] [block 0] ... [block 7]
 *           each part padded to 64 bytes; the last chunk has only the blocks that exist
 *   block   its planes, low bits first: 3 bits = 2 + 1, 5 = 4 + 1, 6 = 4 + 2, 7 = 4 + 2 + 1, else one
 *   plane   of w bits: w units; unit u holds in its bits i * w .. the codes of step u + i * w, i < 8 / w
 *
 * A code is unsigned: integers are stored as value + 2^(bits - 1), others as their bits. Where is_integer is set, value
 * = (table[code] - offset) * unit, and a product (value - zero) * scale; small floats (E3M2, E4M3, E5M2) are the values
 * of `dtype`, codes of LUT point into the head. Rows and columns of padding are codes of value 0 with scale 0. Source:
 * cpu-kernels specification, sections 2.1, 2.2 and 5.8; the chunk of 256 instead of 128 keeps every part of every group
 * size on 64 bytes and is the span over which block exponents are folded. */
#ifndef HT_KERNELS_PACKED_H
#define HT_KERNELS_PACKED_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

enum {
    HT_PANEL = 16,   /* outputs */
    HT_UNIT = 64,    /* bytes */
    HT_BLOCK = 32,   /* k */
    HT_KCHUNK = 256, /* k */
    HT_KCHUNK_BLOCKS = HT_KCHUNK / HT_BLOCK,
    HT_STEPS = HT_BLOCK / 4 /* of a block */
};

/* What a code means. The numbers are written into files. */
typedef enum ht_packed_element {
    HT_PACKED_INT = 1,  /* 1 to 8 bits */
    HT_PACKED_E2M1 = 2, /* 4 bits: MXFP4, NVFP4 */
    HT_PACKED_E2M3 = 3, /* 6 bits */
    HT_PACKED_MXINT8 = 4,
    HT_PACKED_E3M2 = 5, /* 6 bits */
    HT_PACKED_E4M3 = 6, /* 8 bits: MXFP8, fp8 */
    HT_PACKED_E5M2 = 7,
    HT_PACKED_LUT = 8 /* 4 bits, 16 f32 values in the head of every panel: NF4, FP4 */
} ht_packed_element;

typedef enum ht_packed_scale {
    HT_PACKED_SCALE_F32 = 1,
    HT_PACKED_SCALE_BF16 = 2,
    HT_PACKED_SCALE_E8M0 = 3, /* never 255 */
    HT_PACKED_SCALE_E4M3 = 4  /* per 16 */
} ht_packed_scale;

/* The 16 f32 before the chunks of a panel. The numbers are written into files. */
typedef enum ht_packed_head {
    HT_PACKED_HEAD_NONE = 0,
    HT_PACKED_HEAD_ROWS = 1,       /* scales of its rows: group 0 */
    HT_PACKED_HEAD_MULTIPLIES = 2, /* the matrix's number, 16 times: a scale is fl(stored * number) */
    HT_PACKED_HEAD_DIVIDES = 3,    /* the same: fl(stored / number) */
    HT_PACKED_HEAD_TABLE = 4       /* value of every code */
} ht_packed_head;

/* A packed matrix, or one of a batch. Filled by ht_packed_layout; plain numbers, no memory of its own. */
typedef struct ht_packed {
    size_t rows, cols; /* n, k */
    size_t group;      /* k that share a scale: 16, 32, 64, 128, 256; 0 = all of them */
    ht_packed_element element;
    ht_packed_scale scale;
    ht_packed_head head;
    unsigned bits;
    int has_zeros;
    ht_dtype dtype; /* of elements that are floats, those of integer meaning too; else HT_DTYPE_NONE */
    int is_integer; /* what follows holds, and integer products take it */
    int offset;     /* of the table: value = (table[code] - offset) * unit */
    float unit;
    uint8_t table[64]; /* value / unit + offset by code, repeated to 64; of 7 and 8 bits it is the code itself */
    /* sizes in bytes */
    size_t scale_bytes, zero_bytes; /* of a chunk, padded */
    size_t block_bytes, chunk_bytes, head_bytes, panel_bytes;
    size_t panels, chunks, blocks; /* blocks: of the whole k, padded to 32 */
    size_t bytes;                  /* of one matrix */
} ht_packed;

/* Fills in what follows from rows, cols, group, element, scale, head, bits and has_zeros. 0 when those do not go
 * together: *field then names one, *value is what it holds. */
int ht_packed_complete(ht_packed *packed, const char **field, uint64_t *value);

/* The layout for this weight (one batch entry). 0 when the format has none; *why (may be NULL) says what is missing:
 * "groups of 48 are no power of two from 32 on". Scales are not looked at. */
int ht_packed_layout(const ht_weight *weight, ht_packed *out, const char **why);

/* Panel `panel` of batch entry `index` into out (panel_bytes). scratch: ht_pack_scratch bytes. 1 when done, 0 when a
 * scale is NaN (e8m0 255), which packed weights do not have. */
int ht_pack_panel(const ht_packed *packed, const ht_weight *weight, size_t index, size_t panel, void *scratch,
                  uint8_t *out);
size_t ht_pack_scratch(const ht_packed *packed);

/* Row `row` of packed panels, as the values it stands for: f32 [cols]. Bits as ht_format_dequantize. */
void ht_packed_row(const ht_packed *packed, const uint8_t *panels, size_t row, float *out);

/* Bytes of chunk c of a panel: where its scales begin. */
static inline const uint8_t *ht_packed_chunk(const ht_packed *packed, const uint8_t *panel, size_t chunk) {
    return panel + packed->head_bytes + chunk * packed->chunk_bytes;
}
/* k of a chunk, padded to blocks. */
static inline size_t ht_packed_chunk_width(const ht_packed *packed, size_t chunk) {
    size_t left = packed->blocks * HT_BLOCK - chunk * HT_KCHUNK;
    return left < HT_KCHUNK ? left : HT_KCHUNK;
}

/* --- Files -------------------------------------------------------------------------------------------------------
 * 64 bytes, little-endian, before the panels of the batch:
 *    0 u32 magic "HTNK"   4 u16 version 1   6 u16 header bytes   8 u32 layout 1 (N16K4)
 *   12 u8 element  13 u8 scale  14 u8 bits  15 u8 has zeros      16 u32 group
 *   20 u32 batch  24 u32 rows  28 u32 cols  32 u64 payload bytes  40 u64 panel bytes  48 u32 crc32c of the payload
 *   52 u8 head (0 where the group is 0)  53 11 zero bytes */
enum { HT_PACKED_HEADER = 64 };
void ht_packed_write_header(const ht_packed *packed, size_t batch, const uint8_t *panels, uint8_t out[64]);
/* Reads and checks everything: sizes against the file's `bytes`, the checksum against the payload behind the header.
 * Fails with CORRUPT, naming the field. */
ht_status ht_packed_read_header(const uint8_t *file, size_t bytes, ht_packed *out, size_t *batch);
uint32_t ht_crc32c(const uint8_t *bytes, size_t count);

#endif
