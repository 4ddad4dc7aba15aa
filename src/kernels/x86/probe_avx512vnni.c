/* The probe of AVX-512 VNNI: vpdpbusd in 16 independent chains.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/probe.h"

#include <immintrin.h>

enum { CHAINS = 16 };

double ht_probe_vnni_avx512vnni(size_t rounds) {
    __m512i acc[CHAINS], u = _mm512_set1_epi8(1), s = _mm512_set1_epi8((char)rounds);
    for (int c = 0; c < CHAINS; c++)
        acc[c] = _mm512_set1_epi32(c);
    for (size_t i = 0; i < rounds; i++)
        for (int c = 0; c < CHAINS; c++)
            acc[c] = _mm512_dpbusd_epi32(acc[c], u, s);
    for (int c = 0; c < CHAINS; c++)
        __asm__ volatile("" : : "v"(acc[c]));
    return (double)rounds * CHAINS * 64;
}
