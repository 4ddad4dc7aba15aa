/* Probes of AVX2: vpmaddubsw added up in 16 bits, and fused multiply-add of f32; 12 independent chains each.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/probe.h"

#include <immintrin.h>

enum { CHAINS = 12 };

double ht_probe_maddubs_avx2(size_t rounds) {
    __m256i acc[CHAINS], u = _mm256_set1_epi8(1), s = _mm256_set1_epi8((char)rounds);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm256_set1_epi16((short)c);
    for (size_t i = 0; i < rounds; i++)
        for (int c = 0; c < CHAINS; c++) {
            __m256i w = u;
            __asm__ volatile("" : "+x"(w)); /* a product of its own every time */
            acc[c] = _mm256_add_epi16(acc[c], _mm256_maddubs_epi16(w, s));
        }
    for (int c = 0; c < CHAINS; c++)
        __asm__ volatile("" : : "x"(acc[c]));
    return (double)rounds * CHAINS * 32;
}

double ht_probe_fma_avx2(size_t rounds) {
    __m256 acc[CHAINS], x = _mm256_set1_ps(0.5f), y = _mm256_set1_ps(1);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm256_set1_ps((float)c);
    for (size_t i = 0; i < rounds; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = _mm256_fmadd_ps(acc[c], x, y);
    for (int c = 0; c < CHAINS; c++)
        __asm__ volatile("" : : "x"(acc[c]));
    return (double)rounds * CHAINS * 8;
}
