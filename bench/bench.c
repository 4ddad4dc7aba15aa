/* The table of benchmarks, and how two things are timed against each other.
 *
 * On a shared machine the clock of one minute is not that of the next, so the thing and its yardstick alternate and the
 * ratio of their medians is what counts.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "bench/bench.h"

#include <stdlib.h> /* qsort */

enum { MOST_ROUNDS = 64 };
static const double least_seconds = 4e-3; /* of one timing */

static const bench_suite suites[] = {
    {"cast", "number formats: quantize and dequantize a matrix, one thread", bench_cast},
    {"matmul", "a quantized weight times activations, beside the same product in f32", bench_matmul},
    {"kernels", "the same product at every level of CPU features that this machine has", bench_kernels},
    {"dense", "second moments of inputs beside OpenBLAS, one thread", bench_dense},
    {"gptq", "a matrix by GPTQ beside one product of its size by OpenBLAS, one thread", bench_gptq},
    {"model", "prompt processing and generation with a model (--model)", bench_model},
};

const bench_suite *bench_suite_at(size_t index) {
    return index < sizeof suites / sizeof *suites ? &suites[index] : NULL;
}

static ht_status time_of(bench_step *step, void *user, size_t repeats, double *out) {
    double begin = bench_seconds();
    for (size_t i = 0; i < repeats; i++) {
        ht_status status = step(user);
        if (status != HT_OK)
            return status;
    }
    *out = (bench_seconds() - begin) / (double)repeats;
    return HT_OK;
}

/* One run to warm up, and how many of them make a timing. */
static ht_status calibrate(bench_step *step, void *user, size_t *repeats) {
    double one = 0;
    ht_status status = time_of(step, user, 1, &one);
    if (status == HT_OK)
        status = time_of(step, user, 1, &one);
    *repeats = one >= least_seconds ? 1 : one > 0 ? (size_t)(least_seconds / one) + 1 : 1000;
    return status;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values, size_t count) {
    qsort(values, count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

ht_status bench_alternate(bench_step *thing, bench_step *probe, void *user, size_t rounds, bench_times *out) {
    double things[MOST_ROUNDS], probes[MOST_ROUNDS + 1];
    size_t thing_repeats, probe_repeats;
    rounds = rounds < 1 ? 1 : rounds > MOST_ROUNDS ? MOST_ROUNDS : rounds;
    ht_status status = calibrate(thing, user, &thing_repeats);
    if (status == HT_OK)
        status = calibrate(probe, user, &probe_repeats);
    if (status == HT_OK)
        status = time_of(probe, user, probe_repeats, &probes[0]);
    for (size_t i = 0; status == HT_OK && i < rounds; i++) {
        status = time_of(thing, user, thing_repeats, &things[i]);
        if (status == HT_OK)
            status = time_of(probe, user, probe_repeats, &probes[i + 1]);
    }
    if (status == HT_OK)
        *out = (bench_times){.thing = median(things, rounds),
                             .probe = median(probes, rounds + 1),
                             .thing_low = things[rounds / 10],
                             .thing_high = things[rounds - 1 - rounds / 10]};
    return status;
}

void bench_fill(float *x, size_t count, unsigned seed) {
    uint64_t state = seed + 0x9E3779B97F4A7C15u;
    for (size_t i = 0; i < count; i++) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        uint64_t bits = state ^ state >> 29;
        int sum = (int)(bits & 0xFFFF) + (int)(bits >> 16 & 0xFFFF) + (int)(bits >> 32 & 0xFFFF) - 3 * 0x8000;
        x[i] = (float)sum * (0.02f / 32768.0f);
    }
}
