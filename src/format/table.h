/* The rows behind format names (format_table.c), read by names.c. */
#ifndef HT_FORMAT_TABLE_H
#define HT_FORMAT_TABLE_H

#include <stddef.h>

#include <halftone/format.h>

/* A named format. In a name, <bits> stands for 1 to 8 (the element's width), <group> for the values of a group. */
typedef struct ht_format_row {
    ht_format_info info;
    ht_format format;
} ht_format_row;
extern const ht_format_row ht_format_rows[];
extern const size_t ht_format_row_count;

/* Other accepted spellings of row names. */
typedef struct ht_format_alias {
    const char *alias, *name;
} ht_format_alias;
extern const ht_format_alias ht_format_aliases[];
extern const size_t ht_format_alias_count;

/* A suffix that changes one part of the row's format. */
typedef enum ht_format_part { HT_PART_ZERO, HT_PART_SCALE, HT_PART_PACKING, HT_PART_GLOBAL_RULE } ht_format_part;
typedef struct ht_format_suffix {
    const char *text;
    unsigned families; /* 1 << ht_family, or-ed */
    ht_format_part part;
    int value;
} ht_format_suffix;
extern const ht_format_suffix ht_format_suffixes[];
extern const size_t ht_format_suffix_count;

#endif
