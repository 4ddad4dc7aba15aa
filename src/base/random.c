/* Philox4x32-10 (Salmon et al., SC 2011): ten rounds of two 32x32->64 multiplications over a 128-bit counter
 * with a 64-bit key. The key is the seed; the counter block is (counter, stream).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/random.h"

#include <math.h> /* sqrtf, logf, cosf */

void ht_philox(uint64_t seed, uint64_t stream, uint64_t counter, uint32_t out[4]) {
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32);
    uint32_t c2 = (uint32_t)stream, c3 = (uint32_t)(stream >> 32);
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0;
        uint64_t p1 = (uint64_t)0xCD9E8D57u * c2;
        c0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0;
        c1 = (uint32_t)p1;
        c2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c3 = (uint32_t)p0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

uint32_t ht_random_u32(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t word[4];
    ht_philox(seed, stream, index / 4, word);
    return word[index % 4];
}

float ht_random_uniform(uint64_t seed, uint64_t stream, uint64_t index) {
    return (float)(ht_random_u32(seed, stream, index) >> 8) * 0x1p-24f;
}

float ht_random_normal(uint64_t seed, uint64_t stream, uint64_t index) {
    uint32_t word[4];
    ht_philox(seed, stream, index / 2, word);
    float u = (float)((word[0] >> 8) + 1) * 0x1p-24f; /* (0, 1]: the logarithm is finite */
    float angle = 6.2831853071795864f * ((float)(word[1] >> 8) * 0x1p-24f);
    float radius = sqrtf(-2.0f * logf(u));
    return radius * (index % 2 ? sinf(angle) : cosf(angle));
}
