/* Frequencies of rotary positions. */
#ifndef HT_MODEL_ROPE_H
#define HT_MODEL_ROPE_H

#include <stddef.h>

#include "model/config.h"

/* Angular frequencies [rotary / 2] (f32) for sequences of up to `capacity` positions; returns the factor of cosine and
 * sine. Only LONGROPE looks at the capacity. */
float ht_rope_frequencies(const ht_rope_config *rope, size_t rotary, size_t capacity, float *frequency);

/* cosine, sine [count, rotary / 2] of positions first, first + 1, ...; angles are rounded to f32 as the reference
 * implementations round them. */
void ht_rope_table(const float *frequency, size_t half, float factor, size_t first, size_t count, float *cosine,
                   float *sine);

#endif
