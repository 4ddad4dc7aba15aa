/* Probes and benchmarks of the program. A rate means little alone: every row stands beside a yardstick (a copy, a plain
 * f32 product) that is measured in the same run, alternating with the thing itself. */
#ifndef HT_BENCH_BENCH_H
#define HT_BENCH_BENCH_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <halftone/halftone.h>

/* --- Probes: probe.c ---------------------------------------------------------------------------------------- */

double bench_seconds(void);
/* Of this thread on a processor: for what runs on one thread beside other work. */
double bench_thread_seconds(void);

/* Bytes per second of a copy between two buffers that no cache holds, on so many threads: bytes copied, not twice
 * that. Best of a few rounds, under 0.1 s. 0 when there is no memory for the buffers. */
double bench_memory_copy(size_t threads);

/* Bytes per second of copying the checkpoint's tensors to a file of `directory` that never gets a name: at most 512 MB
 * and about one second. 0 when that cannot be measured there. */
double bench_file_copy(const ht_checkpoint *checkpoint, const char *directory);

/* --- Benchmarks ----------------------------------------------------------------------------------------------- */

typedef struct bench_row {
    const char *op;                   /* "quantize mxfp4" */
    const char *kernel;               /* what ran it, as far as the library says; "" otherwise */
    size_t m, n, k;                   /* 0: has no such size */
    double seconds;                   /* of one run, median */
    double seconds_low, seconds_high; /* a tenth of the runs took less, a tenth more; 0: not kept */
    double gmac_s, gflop_s, gb_s;     /* 0: has no such rate. gb_s counts bytes read and bytes written */
    const char *probe;                /* "copy", "f32 matmul"; "" with a rate of 0: this machine has none */
    double probe_rate; /* in the unit of the rate it is compared with: GB/s for copies, GFLOP/s for products */
    double fraction;   /* of the probe, medians of alternating runs */
} bench_row;
typedef void bench_sink(void *user, const bench_row *row);

typedef struct bench_request {
    ht_context *ctx;
    const char *what;  /* one format or scheme; NULL: the suite's own choice */
    const char *model; /* directory, for the suite "model" */
    size_t m, n, k;    /* 0: the suite's own choice */
    size_t rounds;
    size_t threads;
    bench_sink *sink;
    void *user;
} bench_request;

typedef ht_status bench_run(const bench_request *request);
typedef struct bench_suite {
    const char *name, *summary;
    bench_run *run;
} bench_suite;
/* The suites; NULL past the end. */
const bench_suite *bench_suite_at(size_t index);

bench_run bench_cast, bench_matmul, bench_kernels, bench_model, bench_dense, bench_gptq;

/* Return from the function when a call fails. */
#define HT_BENCH_TRY(call)                                                                                             \
    do {                                                                                                               \
        ht_status bench_status = (call);                                                                               \
        if (bench_status != HT_OK)                                                                                     \
            return bench_status;                                                                                       \
    } while (0)

/* --- Alternating measurement: bench.c ------------------------------------------------------------------------- */

typedef ht_status bench_step(void *user);

typedef struct bench_times {
    double thing, probe;          /* median seconds of one run */
    double thing_low, thing_high; /* 10th and 90th percentile */
} bench_times;
/* probe, thing, probe, thing, ..., probe. A run shorter than a few milliseconds is repeated inside one timing. */
ht_status bench_alternate(bench_step *thing, bench_step *probe, void *user, size_t rounds, bench_times *out);

/* Numbers of a bell-like distribution, the same every time. */
void bench_fill(float *x, size_t count, unsigned seed);

#endif
