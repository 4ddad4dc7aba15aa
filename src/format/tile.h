/* Walking a matrix block by block: which rows and columns share scale number `index`. */
#ifndef HT_FORMAT_TILE_H
#define HT_FORMAT_TILE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

enum { HT_TILE_CHUNK = 256 }; /* values handled at a time: a multiple of 32, so that packed chunks are whole words */

typedef struct ht_tile {
    size_t row, rows, col, cols;
} ht_tile;

/* Scales are numbered row by row; a block size of 0 is the whole extent, blocks at the edges may be smaller. */
static inline ht_tile ht_tile_at(const ht_format *format, size_t rows, size_t cols, size_t index) {
    size_t height = format->block_rows ? format->block_rows : rows,
           width = format->block_cols ? format->block_cols : cols;
    size_t across = (cols + width - 1) / width;
    ht_tile t = {.row = index / across * height, .col = index % across * width};
    t.rows = rows - t.row < height ? rows - t.row : height;
    t.cols = cols - t.col < width ? cols - t.col : width;
    return t;
}

static inline size_t ht_tile_count(const ht_format *format, size_t rows, size_t cols) {
    size_t shape[2];
    ht_format_plane_shape(format, HT_PLANE_SCALES, rows, cols, shape);
    return shape[0] * shape[1];
}

/* Values of a matrix [?, stride]. */
typedef struct ht_values {
    const void *x;
    ht_dtype dtype;
    size_t stride;
} ht_values;

/* Largest magnitude of a tile as f32 bits: 0x7f800000 or more when a NaN or Inf is in it. */
uint32_t ht_tile_amax(const ht_values *values, const ht_tile *tile);
/* Smallest and largest value of a tile without NaN. */
void ht_tile_min_max(const ht_values *values, const ht_tile *tile, float *min, float *max);

/* Scales in their plane's type (f32, bf16, f16): store after rounding, read back. */
void ht_scale_store(ht_dtype dtype, void *plane, size_t index, float scale);
float ht_scale_load(ht_dtype dtype, const void *plane, size_t index);
/* A positive scale as its plane's type will hold it: rounded, within the type's positive finite numbers; NaN stays. */
float ht_scale_round(ht_dtype dtype, float scale);

#endif
