/* Format names: text to ht_format and back, driven by the rows of format_table.c.
 *
 * Parsing tries every row and alias as a prefix of the name; what is left must be suffixes of the row's family. Naming
 * goes the other way: the row that needs the fewest suffixes to become the format. Nothing is decided here by family.
 * Refuses: unknown names, bits outside 1..8, groups outside 16..256 or no multiple of 8.
 * Source: format.h.
 */
/* SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/format.h>

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/nearest.h"
#include "base/status.h"
#include "format/table.h"

enum { NAME_MAX_BYTES = 96, GROUP_MIN = 16, GROUP_MAX = 256, GROUP_STEP = 8 };

static const ht_dtype signed_types[9] = {HT_DTYPE_NONE, HT_I1, HT_I2, HT_I3, HT_I4, HT_I5, HT_I6, HT_I7, HT_I8};
static const ht_dtype unsigned_types[9] = {HT_DTYPE_NONE, HT_U1, HT_U2, HT_U3, HT_U4, HT_U5, HT_U6, HT_U7, HT_U8};

typedef struct captured {
    unsigned bits, group; /* 0: not in the pattern */
} captured;

static char folded(char c) {
    return c == '-' ? '_' : (char)tolower((unsigned char)c);
}

/* Digits at *text as a number up to 9999; 0 when there are none. */
static unsigned read_number(const char **text) {
    unsigned value = 0, digits = 0;
    for (; isdigit((unsigned char)**text) && digits < 4; digits++)
        value = value * 10 + (unsigned)(*(*text)++ - '0');
    return value;
}

/* Match pattern at the start of text. Returns what follows, or NULL. */
static const char *match(const char *pattern, const char *text, captured *got) {
    while (*pattern) {
        if (*pattern == '<') {
            unsigned value = read_number(&text);
            int is_bits = strncmp(pattern, "<bits>", 6) == 0;
            if (is_bits ? value < 1 || value > 8 : value < GROUP_MIN || value > GROUP_MAX || value % GROUP_STEP)
                return NULL;
            *(is_bits ? &got->bits : &got->group) = value;
            pattern = strchr(pattern, '>') + 1;
        } else if (*pattern++ != folded(*text++)) {
            return NULL;
        }
    }
    return text;
}

static const ht_format_row *find_row(const char *name) {
    for (size_t i = 0; i < ht_format_row_count; i++)
        if (strcmp(ht_format_rows[i].info.name, name) == 0)
            return &ht_format_rows[i];
    return NULL;
}

/* The row's format with the captured numbers in it. */
static ht_format fill(const ht_format_row *row, captured got) {
    ht_format format = row->format;
    if (got.group)
        format.block_cols = got.group;
    if (got.bits)
        format.element = format.element == HT_U4 ? unsigned_types[got.bits] : signed_types[got.bits];
    return format;
}

static int part_get(const ht_format *format, ht_format_part part) {
    const int values[] = {(int)format->zero, (int)format->scale, (int)format->packing, (int)format->global_rule};
    return values[part];
}

static void part_set(ht_format *format, ht_format_part part, int value) {
    if (part == HT_PART_ZERO)
        format->zero = (ht_dtype)value;
    else if (part == HT_PART_SCALE)
        format->scale = (ht_dtype)value;
    else if (part == HT_PART_PACKING)
        format->packing = (ht_packing)value;
    else
        format->global_rule = (ht_global_rule)value;
}

/* Apply the suffixes in text, longest match first. 1 when all of it was suffixes of this family. */
static int apply_suffixes(const char *text, ht_format *format) {
    while (*text) {
        const ht_format_suffix *best = NULL;
        size_t best_length = 0;
        for (size_t i = 0; i < ht_format_suffix_count; i++) {
            const ht_format_suffix *s = &ht_format_suffixes[i];
            captured none = {0};
            const char *rest = s->families >> format->family & 1 ? match(s->text, text, &none) : NULL;
            if (rest && (*rest == 0 || folded(*rest) == '_') && (size_t)(rest - text) > best_length) {
                best = s;
                best_length = (size_t)(rest - text);
            }
        }
        if (!best)
            return 0;
        part_set(format, best->part, best->value);
        text += best_length;
    }
    return 1;
}

static int parse_as(const char *pattern, const ht_format_row *row, const char *name, ht_format *out) {
    captured got = {0};
    const char *rest = match(pattern, name, &got);
    if (!rest || (*rest && folded(*rest) != '_'))
        return 0;
    ht_format format = fill(row, got);
    if (!apply_suffixes(rest, &format))
        return 0;
    *out = format;
    return 1;
}

static int parse_any(const char *name, ht_format *out) {
    for (size_t i = 0; i < ht_format_row_count; i++)
        if (parse_as(ht_format_rows[i].info.name, &ht_format_rows[i], name, out))
            return 1;
    for (size_t i = 0; i < ht_format_alias_count; i++)
        if (parse_as(ht_format_aliases[i].alias, find_row(ht_format_aliases[i].name), name, out))
            return 1;
    return 0;
}

ht_status ht_format_parse(const char *name, ht_format *out) {
    if (name && parse_any(name, out))
        return HT_OK;
    ht_nearest nearest = {.word = name ? name : ""};
    for (size_t i = 0; i < ht_format_row_count; i++)
        ht_nearest_offer(&nearest, ht_format_rows[i].info.name);
    return ht_fail(HT_ERR_FORMAT, "format '%.64s' is not known; the nearest is %s (halftone list formats)",
                   name ? name : "", nearest.found ? nearest.found : "none");
}

/* --- Naming --------------------------------------------------------------------------------------------- */

static unsigned width_of(ht_dtype dtype, const ht_dtype types[9]) {
    for (unsigned bits = 1; bits <= 8; bits++)
        if (types[bits] == dtype)
            return bits;
    return 0;
}

/* Write the row's name with the format's numbers; 0 when the numbers do not suit the pattern. */
static int spell(const ht_format_row *row, const ht_format *format, captured *got, char *out) {
    const ht_dtype *types = row->format.element == HT_U4 ? unsigned_types : signed_types;
    const char *p = row->info.name;
    size_t length = 0;
    while (*p) {
        if (*p != '<') {
            out[length++] = *p++;
            continue;
        }
        int is_bits = strncmp(p, "<bits>", 6) == 0;
        unsigned value = is_bits ? width_of(format->element, types) : format->block_cols;
        if (is_bits ? value == 0 : value < GROUP_MIN || value > GROUP_MAX || value % GROUP_STEP)
            return 0;
        *(is_bits ? &got->bits : &got->group) = value;
        length += (size_t)snprintf(out + length, 8, "%u", value);
        p = strchr(p, '>') + 1;
    }
    out[length] = 0;
    return 1;
}

/* Name of format as this row plus suffixes; the number of suffixes, or -1. */
static int name_as(const ht_format_row *row, const ht_format *format, char *out) {
    captured got = {0};
    int used = 0;
    if (row->format.family != format->family || !spell(row, format, &got, out))
        return -1;
    ht_format now = fill(row, got);
    for (size_t i = 0; i < ht_format_suffix_count; i++) {
        const ht_format_suffix *s = &ht_format_suffixes[i];
        if (!(s->families >> format->family & 1) || part_get(&now, s->part) == s->value ||
            part_get(format, s->part) != s->value)
            continue;
        part_set(&now, s->part, s->value);
        strcat(out, s->text);
        used++;
    }
    return ht_format_equal(&now, format) ? used : -1;
}

size_t ht_format_name(const ht_format *format, char *buffer, size_t size) {
    char best[NAME_MAX_BYTES] = "unnamed", candidate[NAME_MAX_BYTES];
    int fewest = -1;
    for (size_t i = 0; i < ht_format_row_count; i++) {
        int used = name_as(&ht_format_rows[i], format, candidate);
        ht_format back;
        /* A pattern may spell what an earlier row means otherwise: int8_row. */
        if (used >= 0 && (fewest < 0 || used < fewest) && parse_any(candidate, &back) &&
            ht_format_equal(&back, format)) {
            fewest = used;
            strcpy(best, candidate);
        }
    }
    return (size_t)snprintf(buffer, size, "%s", best);
}

const ht_format_info *ht_format_list(size_t index) {
    return index < ht_format_row_count ? &ht_format_rows[index].info : NULL;
}

int ht_format_equal(const ht_format *a, const ht_format *b) {
    return a->family == b->family && a->element == b->element && a->scale == b->scale && a->zero == b->zero &&
           a->scale2 == b->scale2 && a->global == b->global && a->block_rows == b->block_rows &&
           a->block_cols == b->block_cols && a->block2 == b->block2 && a->packing == b->packing &&
           a->global_rule == b->global_rule && a->variant == b->variant && a->block_bytes == b->block_bytes;
}
