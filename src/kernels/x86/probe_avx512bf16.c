/* The probe of AVX-512 BF16: vdpbf16ps in 16 independent chains.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/probe.h"

#include <immintrin.h>

enum { CHAINS = 16 };

double ht_probe_bf16_avx512bf16(size_t rounds) {
    __m512 acc[CHAINS];
    __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f803f80), y = (__m512bh)_mm512_set1_epi32(0x3f003f00);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm512_set1_ps((float)c);
    for (size_t i = 0; i < rounds; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = _mm512_dpbf16_ps(acc[c], x, y);
    for (int c = 0; c < CHAINS; c++)
        __asm__ volatile("" : : "v"(acc[c]));
    return (double)rounds * CHAINS * 32;
}
