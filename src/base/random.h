/* Counter-based random numbers: Philox4x32-10. A draw is a pure function of (seed, stream, counter), so results do not
 * depend on threads or order. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. */
#ifndef HT_BASE_RANDOM_H
#define HT_BASE_RANDOM_H

#include <stdint.h>

/* Four 32-bit words for a counter block. */
void ht_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]);

/* Draw number `index` of a stream: uniform 32 bits; uniform in [0, 1) with 24 bits; standard normal (Box-Muller). */
uint32_t ht_random_u32(uint64_t seed, uint64_t stream, uint64_t index);
float ht_random_uniform(uint64_t seed, uint64_t stream, uint64_t index);
float ht_random_normal(uint64_t seed, uint64_t stream, uint64_t index);

#endif
