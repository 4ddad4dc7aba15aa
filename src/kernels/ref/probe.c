/* The probe of any machine: f32 multiply and add, as the reference products do it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/probe.h"

enum { LANES = 32 };

double ht_probe_f32_ref(size_t rounds) {
    volatile float sink;
    float acc[LANES] = {0}, x = 1.0000001f, total = 0;
    for (size_t i = 0; i < rounds; i++) {
        for (int l = 0; l < LANES; l++)
            acc[l] = acc[l] * 0.5f + x;
    }
    for (int l = 0; l < LANES; l++)
        total += acc[l];
    sink = total;
    (void)sink;
    return (double)rounds * LANES;
}
