/* kernel_check rows: the inner loops of attention and the row kernels, timed on one thread in the first caches.
 * Products beside the FMA probe of the same run, which a multiplication and an addition at a time can just reach; the
 * others in nanoseconds a value. The best of many short runs: what others do on the machine lengthens some of them. */
#include "kernels/kernel_check.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/random.h"

enum { QUERIES = 16, KEYS = 256, DIM = 64, GATED = 1536, RUNS = 2000 };

static float q[QUERIES * DIM], k[KEYS * DIM], v[KEYS * DIM], p[QUERIES * KEYS], y[QUERIES * DIM], wide[3 * GATED];

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double probe_best(void) {
    const ht_kernel_row *best = NULL, *const tables[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};
    double rate = 0;
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = tables[t]; row->name && !best; row++)
            if (row->operation == HT_OPERATION_PROBE && (row->needs & kernel_check_flags) == row->needs &&
                (strcmp(row->name, "fma_avx2") == 0 || strcmp(row->name, "f32_ref") == 0))
                best = row;
    for (int i = 0; i < RUNS / 10; i++) {
        double begin = now(), macs = best->fn.probe(2000), here = macs / (now() - begin);
        rate = here > rate ? here : rate;
    }
    return rate;
}

static void run_row(const ht_kernel_row *row) {
    static const ht_gate_function silu = {HT_GATE_SILU, 0, 0};
    float max;
    switch (row->operation) {
    case HT_OPERATION_DOT:
        row->fn.dot(q, QUERIES, DIM, k, KEYS, DIM, DIM, p, KEYS);
        break;
    case HT_OPERATION_MIX:
        row->fn.mix(p, QUERIES, KEYS, v, DIM, 0, KEYS, DIM, y, DIM);
        break;
    case HT_OPERATION_SOFTMAX:
        row->fn.softmax(k, KEYS, -INFINITY, p, &max);
        break;
    default:
        row->fn.gate(&silu, wide, wide + GATED, 1, GATED, wide + 2 * GATED);
    }
}

static void time_row(const char *operation, const ht_kernel_row *row, double probe) {
    double best = INFINITY, macs = (double)QUERIES * KEYS * DIM;
    for (int i = 0; i < RUNS; i++) {
        double begin = now();
        run_row(row);
        double seconds = now() - begin;
        best = seconds < best ? seconds : best;
    }
    printf("%-8s %-14s ", operation, row->name);
    if (row->operation == HT_OPERATION_DOT || row->operation == HT_OPERATION_MIX)
        printf("%7.1f GMAC/s  %5.1f %% of fma\n", macs / best * 1e-9, 100 * macs / best / probe);
    else
        printf("%7.3f ns a value\n", best * 1e9 / (row->operation == HT_OPERATION_SOFTMAX ? KEYS : GATED));
}

void bench_rows(void) {
    static const struct {
        ht_operation operation;
        const char *name;
    } timed[] = {{HT_OPERATION_DOT, "dot"},
                 {HT_OPERATION_MIX, "mix"},
                 {HT_OPERATION_SOFTMAX, "softmax"},
                 {HT_OPERATION_GATE, "gate"}};
    const ht_kernel_row *const tables[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};
    for (size_t i = 0; i < sizeof k / sizeof *k; i++) {
        k[i] = ht_random_normal(1, 1, i);
        v[i] = ht_random_normal(1, 2, i);
        q[i % (QUERIES * DIM)] = ht_random_normal(1, 3, i);
    }
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        wide[i] = ht_random_normal(1, 4, i);
    double probe = probe_best();
    for (size_t o = 0; o < sizeof timed / sizeof *timed; o++)
        for (size_t t = 0; t < 2; t++)
            for (const ht_kernel_row *row = tables[t]; row->name; row++)
                if (row->operation == timed[o].operation && (row->needs & kernel_check_flags) == row->needs)
                    time_row(timed[o].name, row, probe);
}
