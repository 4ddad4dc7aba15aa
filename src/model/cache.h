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

#endif
