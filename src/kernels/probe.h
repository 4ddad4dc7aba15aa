/* Probes: what one instruction of this machine can do, in registers. Yardsticks of the benchmarks. */
#ifndef HT_KERNELS_PROBE_H
#define HT_KERNELS_PROBE_H

#include <stddef.h>

/* Runs `rounds` rounds of independent multiply-adds; returns how many multiply-adds that were. */
typedef double ht_probe_fn(size_t rounds);
ht_probe_fn ht_probe_f32_ref, ht_probe_maddubs_avx2, ht_probe_fma_avx2, ht_probe_vnni_avx512vnni,
    ht_probe_bf16_avx512bf16;

#endif
