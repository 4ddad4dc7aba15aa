/* torchao's packed linear and embedding buffers.
 *
 *     header      64 bytes: magic 6712, type, 14 parameters, each 32 bits
 *     linear      type 1: bits, has zeros, has bias, nr 8, kr 16, sr 2
 *         panel of 8 rows    group, group, ..., [8 f32 bias]
 *         group              tile, tile, ..., 8 f32 scales, 8 i32 sums of codes, [8 i32 zeros]
 *         tile of 16 k       128 codes: 8 rows x the first 8 k, then 8 rows x the last 8 k, packed (torchao_bits.c)
 *     embedding   type 2: version 1, bits, 32, 128
 *         row                its codes in spans of 128, then one of 64 and one of 32, packed
 *
 * Codes are stored as code + 2^(bits-1), 8 bits as they are. Rows past the last of the matrix are zeros, scales too.
 * The original checks none of this but the magic; here every size and parameter is, and the sums. Refused: other
 * layouts (KleidiAI, tables).
 * Source: cpu-kernels specification, sections 1.3, 1.5 and 1.6; PR 3938 of torchao for the order shared by all
 * machines.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/torchao.h>

#include <limits.h> /* INT32_MAX */
#include <stdint.h>
#include <string.h> /* memcpy */

#include "base/status.h"
#include "io/torchao_bits.h"

enum { HEADER = 64, MAGIC = 6712, PARAMETERS = 14, PANEL = 8, TILE = 16, HALF = 8, SPAN = 128, SHORTEST = 32 };
enum { TYPE_LINEAR = 1, TYPE_EMBEDDING = 2, VERSION = 1 };

/* --- numbers ------------------------------------------------------------------------------------------------------ */

static int32_t get_int(const uint8_t *in) {
    uint32_t value = in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16 | (uint32_t)in[3] << 24;
    return (int32_t)value;
}

static void put_int(uint8_t *out, int32_t value) {
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t)((uint32_t)value >> 8 * i);
}

static float get_float(const uint8_t *in) {
    int32_t bits = get_int(in);
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void put_float(uint8_t *out, float value) {
    int32_t bits;
    memcpy(&bits, &value, sizeof bits);
    put_int(out, bits);
}

/* --- headers ------------------------------------------------------------------------------------------------------ */

static void put_header(uint8_t *out, int32_t type, const int32_t parameters[6]) {
    memset(out, 0, HEADER);
    put_int(out, MAGIC);
    put_int(out + 4, type);
    for (int i = 0; i < 6; i++)
        put_int(out + 8 + 4 * i, parameters[i]);
}

static ht_status get_header(const uint8_t *in, size_t bytes, int32_t type, int32_t parameters[PARAMETERS]) {
    if (bytes < HEADER)
        return ht_fail(HT_ERR_CORRUPT, "torchao buffer: %zu bytes, its header has %d", bytes, HEADER);
    if (get_int(in) != MAGIC)
        return ht_fail(HT_ERR_CORRUPT, "torchao buffer: magic number %d, not %d", get_int(in), MAGIC);
    if (get_int(in + 4) != type)
        return ht_fail(HT_ERR_UNSUPPORTED, "torchao buffer: type %d, not %d (%s)", get_int(in + 4), type,
                       type == TYPE_LINEAR ? "universal linear" : "universal embedding");
    for (int i = 0; i < PARAMETERS; i++)
        parameters[i] = get_int(in + 8 + 4 * i);
    return HT_OK;
}

static ht_status check_bits(int32_t bits) {
    return bits >= 1 && bits <= 8 ? HT_OK : ht_fail(HT_ERR_CORRUPT, "torchao buffer: %d bits, not 1 to 8", bits);
}

static ht_status check_size(size_t bytes, size_t needed, size_t rows, size_t cols) {
    if (!needed)
        return ht_fail(HT_ERR_SHAPE, "torchao buffer: a matrix of %zu rows and %zu columns in such groups cannot be",
                       rows, cols);
    return bytes == needed ? HT_OK
                           : ht_fail(HT_ERR_CORRUPT,
                                     "torchao buffer: %zu bytes, a matrix of %zu rows and %zu columns "
                                     "takes %zu",
                                     bytes, rows, cols, needed);
}

/* --- codes -------------------------------------------------------------------------------------------------------- */

/* What is added to a code. */
static int shift_of(unsigned bits) {
    return bits < 8 ? 1 << (bits - 1) : 0;
}

static int fits(unsigned bits, int8_t code) {
    int half = 1 << (bits - 1);
    return code >= -half && code < half;
}

static ht_status too_wide(unsigned bits, int8_t code, size_t row, size_t column) {
    return ht_fail(HT_ERR_ARGUMENT, "torchao buffer: code %d at row %zu, column %zu does not fit %u bits", code, row,
                   column, bits);
}

/* --- linear: shape ------------------------------------------------------------------------------------------------ */

static size_t group_bytes(const ht_torchao_linear *l) {
    return l->group * l->bits * PANEL / 8 + PANEL * (2 + (l->has_zeros != 0)) * sizeof(float);
}

static size_t panel_bytes(const ht_torchao_linear *l) {
    return l->cols / l->group * group_bytes(l) + (l->has_bias ? PANEL * sizeof(float) : 0);
}

size_t ht_torchao_linear_bytes(const ht_torchao_linear *l) {
    if (l->rows < 1 || l->rows > INT32_MAX || l->cols < 1 || l->cols > INT32_MAX || l->bits < 1 || l->bits > 8)
        return 0;
    if (l->group < TILE || l->group % TILE || l->cols % l->group)
        return 0;
    size_t panels = (l->rows + PANEL - 1) / PANEL, each = panel_bytes(l);
    return each > (SIZE_MAX - HEADER) / panels ? 0 : HEADER + panels * each;
}

ht_status ht_torchao_linear_open(const void *buffer, size_t bytes, size_t rows, size_t cols, size_t group,
                                 ht_torchao_linear *out) {
    int32_t p[PARAMETERS];
    HT_TRY(get_header(buffer, bytes, TYPE_LINEAR, p));
    HT_TRY(check_bits(p[0]));
    if (p[3] != PANEL || p[4] != TILE || p[5] != 2)
        return ht_fail(HT_ERR_UNSUPPORTED, "torchao buffer: nr %d, kr %d, sr %d; 8, 16 and 2 are read", p[3], p[4],
                       p[5]);
    if ((p[1] | p[2]) & ~1)
        return ht_fail(HT_ERR_CORRUPT, "torchao buffer: flags %d and %d are not 0 or 1", p[1], p[2]);
    *out = (ht_torchao_linear){
        .rows = rows, .cols = cols, .group = group, .bits = (unsigned)p[0], .has_zeros = p[1], .has_bias = p[2]};
    return check_size(bytes, ht_torchao_linear_bytes(out), rows, cols);
}

ht_format ht_torchao_linear_format(const ht_torchao_linear *l) {
    return (ht_format){.family = HT_FAMILY_INT,
                       .element = l->bits == 8 ? HT_I8 : (ht_dtype)(HT_I1 + (int)l->bits - 1),
                       .scale = HT_F32,
                       .zero = l->has_zeros ? HT_I8 : HT_DTYPE_NONE,
                       .block_rows = 1,
                       .block_cols = l->group == l->cols ? 0 : (uint32_t)l->group,
                       .packing = HT_PACK_BYTES};
}

/* --- linear: panels ----------------------------------------------------------------------------------------------- */

/* A group of a panel: 8 rows (count of them real) of the planes, from column `at` on. */
typedef struct group {
    const ht_torchao_linear *l;
    size_t row, count, index, at;
    int8_t *codes, *zeros; /* planes, whole; zeros NULL: none */
    float *scales;
} group;

static size_t parameter_at(const group *g, size_t row) {
    return (g->row + row) * (g->l->cols / g->l->group) + g->index;
}

/* Codes of a tile in the order in which they are packed: row r, k in halves. */
static size_t slot_of(size_t row, size_t k) {
    return k / HALF * PANEL * HALF + row * HALF + k % HALF;
}

static ht_status read_group(const group *g, const uint8_t *in) {
    const ht_torchao_linear *l = g->l;
    int32_t sum[PANEL] = {0};
    uint8_t tile[SPAN];
    for (size_t k = 0; k < l->group; k += TILE, in += SPAN * l->bits / 8) {
        ht_torchao_unpack(l->bits, in, SPAN, tile);
        for (size_t r = 0; r < g->count; r++)
            for (size_t j = 0; j < TILE; j++) {
                int8_t code = (int8_t)(tile[slot_of(r, j)] - shift_of(l->bits));
                g->codes[(g->row + r) * l->cols + g->at + k + j] = code;
                sum[r] += code;
            }
    }
    for (size_t r = 0; r < g->count; r++) {
        int32_t stored = get_int(in + (PANEL + r) * 4), zero = l->has_zeros ? get_int(in + (2 * PANEL + r) * 4) : 0;
        if (stored != sum[r])
            return ht_fail(HT_ERR_CORRUPT,
                           "torchao buffer: codes of row %zu, group %zu sum up to %d, not to %d as stored", g->row + r,
                           g->index, sum[r], stored);
        if (zero < INT8_MIN || zero > INT8_MAX)
            return ht_fail(HT_ERR_CORRUPT, "torchao buffer: zero point %d of row %zu, group %zu is no int8", zero,
                           g->row + r, g->index);
        g->scales[parameter_at(g, r)] = get_float(in + r * 4);
        if (g->zeros)
            g->zeros[parameter_at(g, r)] = (int8_t)zero;
    }
    return HT_OK;
}

static ht_status write_group(const group *g, uint8_t *out) {
    const ht_torchao_linear *l = g->l;
    int32_t sum[PANEL] = {0};
    for (size_t k = 0; k < l->group; k += TILE, out += SPAN * l->bits / 8) {
        uint8_t tile[SPAN];
        memset(tile, shift_of(l->bits), sizeof tile);
        for (size_t r = 0; r < g->count; r++)
            for (size_t j = 0; j < TILE; j++) {
                int8_t code = g->codes[(g->row + r) * l->cols + g->at + k + j];
                if (!fits(l->bits, code))
                    return too_wide(l->bits, code, g->row + r, g->at + k + j);
                tile[slot_of(r, j)] = (uint8_t)(code + shift_of(l->bits));
                sum[r] += code;
            }
        ht_torchao_pack(l->bits, tile, SPAN, out);
    }
    for (size_t r = 0; r < PANEL; r++) {
        int real = r < g->count;
        put_float(out + r * 4, real ? g->scales[parameter_at(g, r)] : 0);
        put_int(out + (PANEL + r) * 4, sum[r]);
        if (l->has_zeros)
            put_int(out + (2 * PANEL + r) * 4, real ? g->zeros[parameter_at(g, r)] : 0);
    }
    return HT_OK;
}

static group group_at(const ht_torchao_linear *l, const ht_planes *planes, size_t row, size_t index) {
    return (group){.l = l,
                   .row = row,
                   .count = l->rows - row < PANEL ? l->rows - row : PANEL,
                   .index = index,
                   .at = index * l->group,
                   .codes = planes->plane[HT_PLANE_CODES],
                   .zeros = l->has_zeros ? planes->plane[HT_PLANE_ZEROS] : NULL,
                   .scales = planes->plane[HT_PLANE_SCALES]};
}

ht_status ht_torchao_linear_read(const ht_torchao_linear *l, const void *buffer, const ht_planes *planes, float *bias) {
    const uint8_t *in = (const uint8_t *)buffer + HEADER;
    for (size_t row = 0; row < l->rows; row += PANEL) {
        for (size_t i = 0; i < l->cols / l->group; i++, in += group_bytes(l)) {
            group g = group_at(l, planes, row, i);
            HT_TRY(read_group(&g, in));
        }
        for (size_t r = 0; l->has_bias && bias && r < PANEL && row + r < l->rows; r++)
            bias[row + r] = get_float(in + r * 4);
        in += l->has_bias ? PANEL * sizeof(float) : 0;
    }
    return HT_OK;
}

ht_status ht_torchao_linear_write(const ht_torchao_linear *l, const ht_planes *planes, const float *bias,
                                  void *buffer) {
    const int32_t parameters[6] = {(int32_t)l->bits, l->has_zeros != 0, l->has_bias != 0, PANEL, TILE, 2};
    uint8_t *out = (uint8_t *)buffer + HEADER;
    if (!ht_torchao_linear_bytes(l))
        return check_size(0, 0, l->rows, l->cols);
    if (l->has_bias && !bias)
        return ht_fail(HT_ERR_ARGUMENT, "torchao buffer: a bias is to be written and none is given");
    put_header(buffer, TYPE_LINEAR, parameters);
    for (size_t row = 0; row < l->rows; row += PANEL) {
        for (size_t i = 0; i < l->cols / l->group; i++, out += group_bytes(l)) {
            group g = group_at(l, planes, row, i);
            HT_TRY(write_group(&g, out));
        }
        for (size_t r = 0; l->has_bias && r < PANEL; r++, out += sizeof(float))
            put_float(out, row + r < l->rows ? bias[row + r] : 0);
    }
    return HT_OK;
}

/* --- embedding ---------------------------------------------------------------------------------------------------- */

size_t ht_torchao_embedding_bytes(const ht_torchao_embedding *e) {
    if (e->rows < 1 || e->rows > INT32_MAX || e->cols < 1 || e->cols > INT32_MAX || e->cols % SHORTEST || e->bits < 1 ||
        e->bits > 8)
        return 0;
    size_t each = e->cols / 8 * e->bits;
    return each > (SIZE_MAX - HEADER) / e->rows ? 0 : HEADER + e->rows * each;
}

ht_status ht_torchao_embedding_open(const void *buffer, size_t bytes, size_t rows, size_t cols,
                                    ht_torchao_embedding *out) {
    int32_t p[PARAMETERS];
    HT_TRY(get_header(buffer, bytes, TYPE_EMBEDDING, p));
    HT_TRY(check_bits(p[1]));
    if (p[0] != VERSION || p[2] != SHORTEST || p[3] != SPAN)
        return ht_fail(HT_ERR_UNSUPPORTED, "torchao buffer: version %d, spans of %d to %d; 1, 32 and 128 are read",
                       p[0], p[2], p[3]);
    *out = (ht_torchao_embedding){.rows = rows, .cols = cols, .bits = (unsigned)p[1]};
    return check_size(bytes, ht_torchao_embedding_bytes(out), rows, cols);
}

/* Length of the span at a column: 128 as long as there are that many, then 64, then 32. */
static size_t span_at(size_t cols, size_t column) {
    size_t left = cols - column;
    return left >= SPAN ? SPAN : left >= SPAN / 2 ? SPAN / 2 : SHORTEST;
}

void ht_torchao_embedding_read(const ht_torchao_embedding *e, const void *buffer, signed char *codes) {
    const uint8_t *in = (const uint8_t *)buffer + HEADER;
    uint8_t values[SPAN];
    for (size_t row = 0; row < e->rows; row++)
        for (size_t at = 0, span; at < e->cols; at += span, in += span * e->bits / 8) {
            span = span_at(e->cols, at);
            ht_torchao_unpack(e->bits, in, span, values);
            for (size_t i = 0; i < span; i++)
                codes[row * e->cols + at + i] = (int8_t)(values[i] - shift_of(e->bits));
        }
}

ht_status ht_torchao_embedding_write(const ht_torchao_embedding *e, const signed char *codes, void *buffer) {
    const int32_t parameters[6] = {VERSION, (int32_t)e->bits, SHORTEST, SPAN, 0, 0};
    uint8_t *out = (uint8_t *)buffer + HEADER, values[SPAN];
    if (!ht_torchao_embedding_bytes(e))
        return check_size(0, 0, e->rows, e->cols);
    put_header(buffer, TYPE_EMBEDDING, parameters);
    for (size_t row = 0; row < e->rows; row++)
        for (size_t at = 0, span; at < e->cols; at += span, out += span * e->bits / 8) {
            span = span_at(e->cols, at);
            for (size_t i = 0; i < span; i++) {
                int8_t code = codes[row * e->cols + at + i];
                if (!fits(e->bits, code))
                    return too_wide(e->bits, code, row, at + i);
                values[i] = (uint8_t)(code + shift_of(e->bits));
            }
            ht_torchao_pack(e->bits, values, span, out);
        }
    return HT_OK;
}
