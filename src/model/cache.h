/* Quantized keys and values: what a sequence keeps of them between passes. */
#ifndef HT_MODEL_CACHE_H
#define HT_MODEL_CACHE_H

#include "model/decoder.h"

/* Bytes that the record of one row (a position's key or value of one head) takes. */
size_t ht_cache_record(const ht_format *format, size_t head_dim);

/* Where the f32 keys (which 0) or values (1) of a head begin: all layers' when they are not quantized, else one
 * layer's. */
float *ht_cache_rows(const ht_sequence *sequence, int which, size_t slot, size_t head);

/* Put rows [first, first + count) of a layer, already in ht_cache_rows, into their records, and read all rows before
 * first + count back from theirs. Nothing to do where the cache is f32. */
ht_status ht_cache_turn(ht_sequence *sequence, size_t slot, size_t first, size_t count);

/* The keys (0) or values (1) that attention reads: those rows, or what they are rounded to. */
float *ht_cache_shown(const ht_sequence *sequence, int which, size_t slot, size_t head);

/* Round what attention reads of a layer: its first `keys` rows, and the queries of a pass, q [rows, heads, head_dim] at
 * `stride`. Nothing to do where nothing is rounded. */
ht_status ht_cache_round(ht_sequence *sequence, size_t slot, size_t keys, float *q, size_t rows, size_t stride);

#endif
