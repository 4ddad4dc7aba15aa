/* Grouped forms of the 128x4 tile layout of block scales, for grouped products of experts. The plain form is in
 * format.h. */
#ifndef HT_FORMAT_SWIZZLE_H
#define HT_FORMAT_SWIZZLE_H

#include <stddef.h>
#include <stdint.h>

/* Groups of rows (tokens per expert): ends[g] is the cumulative end row. Each group is padded to a multiple of 128 rows
 * of its own; starts[groups + 1] (may be NULL) are the padded start rows, the last one their sum. The buffer of
 * ht_swizzle_row_groups_bytes is (rows + 128 * groups) x padded columns: a bound known without the ends. */
size_t ht_swizzle_row_groups_bytes(size_t rows, size_t cols, size_t groups);
void ht_swizzle_row_groups(const uint8_t *scales, size_t cols, const int32_t *ends, size_t groups, uint8_t *out,
                           size_t out_bytes, int64_t *starts);

/* Groups of columns (the contraction is grouped): ends in scale columns; each group is padded to a multiple of 4
 * columns and tiled on its own; starts are the padded start columns. Buffer: padded rows x (cols + 4 * groups). */
size_t ht_swizzle_col_groups_bytes(size_t rows, size_t cols, size_t groups);
void ht_swizzle_col_groups(const uint8_t *scales, size_t rows, size_t cols, const int32_t *ends, size_t groups,
                           uint8_t *out, size_t out_bytes, int64_t *starts);

#endif
