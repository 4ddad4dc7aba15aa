/* Main program and harness (cuda_check.h).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "cuda_check.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 512, FILL = 0xA5, PERIOD = 1000003, MAX_ROUNDS = 64, MAX_CONTENDERS = 16 };

ht_device *cuda_device;
static int passed, failed;

/* --- Data -------------------------------------------------------------------------------------------------------- */

uint64_t cuda_random(void) { /* splitmix64 */
    static uint64_t state = 20240229;
    uint64_t z = state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

float cuda_random_normal(void) {
    double u = ((double)(cuda_random() >> 11) + 1) * 0x1p-53, v = (double)(cuda_random() >> 11) * 0x1p-53;
    return (float)(sqrt(-2 * log(u)) * cos(6.283185307179586 * v));
}

uint16_t cuda_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(bits >> 16 | 0x40);
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

float cuda_bf16_value(uint16_t bits) {
    uint32_t wide = (uint32_t)bits << 16;
    float x;
    memcpy(&x, &wide, 4);
    return x;
}

uint8_t cuda_e4m3(float x) {
    if (isnan(x))
        return 0x7f;
    unsigned sign = signbit(x) ? 0x80 : 0;
    double a = fabs((double)x);
    int exponent;
    if (a == 0)
        return (uint8_t)sign;
    if (a >= 464)
        return (uint8_t)(sign | 0x7e);
    frexp(a, &exponent);
    int q = exponent - 1 < -6 ? -6 : exponent - 1; /* a < 2^(q + 1) */
    unsigned k = (unsigned)rint(ldexp(a, 3 - q));  /* nearest even is the default rounding */
    unsigned code = q == -6 ? k : ((unsigned)(q + 7) << 3) + (k - 8);
    return (uint8_t)(sign | (code > 0x7e ? 0x7e : code));
}

static float decode_e4m3(unsigned code) {
    int exponent = code >> 3 & 15, mantissa = code & 7;
    double a = exponent ? ldexp(8 + mantissa, exponent - 10) : ldexp(mantissa, -9);
    if ((code & 0x7f) == 0x7f)
        a = NAN;
    return (float)(code & 0x80 ? -a : a);
}

float cuda_e4m3_value(uint8_t code) {
    static float values[256];
    if (values[0x7e] == 0)
        for (unsigned i = 0; i < 256; i++)
            values[i] = decode_e4m3(i);
    return values[code];
}

uint16_t *cuda_random_bf16(size_t count) {
    uint16_t *x = malloc(count * 2);
    for (size_t i = 0; i < count && i < PERIOD; i++)
        x[i] = cuda_bf16(cuda_random_normal());
    for (size_t i = PERIOD; i < count; i += PERIOD)
        memcpy(x + i, x, (count - i < PERIOD ? count - i : PERIOD) * 2);
    return x;
}

uint8_t *cuda_random_e4m3(size_t count) {
    uint8_t *x = malloc(count);
    for (size_t i = 0; i < count && i < PERIOD; i++)
        x[i] = cuda_e4m3(cuda_random_normal() * 16);
    for (size_t i = PERIOD; i < count; i += PERIOD)
        memcpy(x + i, x, count - i < PERIOD ? count - i : PERIOD);
    return x;
}

uint8_t *cuda_random_bytes(size_t count) {
    uint8_t *x = malloc(count);
    for (size_t i = 0; i < count && i < PERIOD; i++)
        x[i] = (uint8_t)(cuda_random() >> 32);
    for (size_t i = PERIOD; i < count; i += PERIOD)
        memcpy(x + i, x, count - i < PERIOD ? count - i : PERIOD);
    return x;
}

/* --- Device memory ----------------------------------------------------------------------------------------------- */

void cuda_must(ht_status status, const char *what) {
    if (status == HT_OK)
        return;
    printf("FAILED %s: %s\n", what, ht_error_message());
    exit(1);
}

void *cuda_new(size_t bytes) {
    void *memory = NULL;
    cuda_must(ht_device_allocate(cuda_device, bytes, &memory), "allocate");
    return memory;
}

void *cuda_upload(const void *host, size_t bytes) {
    void *memory = cuda_new(bytes);
    cuda_must(ht_device_copy(cuda_device, memory, host, bytes, HT_COPY_TO_DEVICE, NULL), "upload");
    return memory;
}

void cuda_delete(void *memory) {
    ht_device_release(cuda_device, memory);
}

void cuda_download(void *host, const void *memory, size_t bytes) {
    cuda_must(ht_device_copy(cuda_device, host, memory, bytes, HT_COPY_TO_HOST, NULL), "download");
    cuda_must(ht_device_finish(cuda_device, NULL), "download");
}

cuda_guarded cuda_guarded_new(size_t bytes) {
    size_t whole = bytes + 2 * GUARD;
    uint8_t *memory = cuda_new(whole);
    cuda_must(ht_device_fill(cuda_device, memory, FILL, whole, NULL), "fill");
    return (cuda_guarded){memory + GUARD, bytes};
}

void *cuda_guarded_take(cuda_guarded *guarded, const char *what) {
    size_t whole = guarded->bytes + 2 * GUARD;
    uint8_t *start = (uint8_t *)guarded->at - GUARD, *host = malloc(whole), *inner = malloc(guarded->bytes + 1);
    cuda_download(host, start, whole);
    int touched = 0;
    for (size_t i = 0; i < GUARD; i++)
        touched += (host[i] != FILL) + (host[GUARD + guarded->bytes + i] != FILL);
    if (touched)
        cuda_verdict(0, "%s: %d guard bytes were overwritten", what, touched);
    memcpy(inner, host + GUARD, guarded->bytes);
    free(host);
    cuda_delete(start);
    return inner;
}

void cuda_verdict(int ok, const char *format, ...) {
    va_list args;
    va_start(args, format);
    printf("%s ", ok ? "ok    " : "FAILED");
    vprintf(format, args);
    printf("\n");
    va_end(args);
    passed += ok != 0;
    failed += ok == 0;
}

/* --- Measurement ------------------------------------------------------------------------------------------------- */

static int compare_doubles(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *values, int count) {
    qsort(values, (size_t)count, sizeof *values, compare_doubles);
    return values[count / 2];
}

/* The ratio is the median of the rounds' own ratios: clocks move between rounds more than within one. */
static void print_row(const cuda_contender *c, const cuda_contender *first, double *seconds, const double *yardstick,
                      int rounds) {
    double ratios[MAX_ROUNDS], work = c->flops > 0 ? c->flops : c->bytes;
    double scale = work / (first->flops > 0 ? first->flops : first->bytes);
    for (int r = 0; r < rounds; r++)
        ratios[r] = scale * yardstick[r] / seconds[r];
    double ratio = median(ratios, rounds), middle = median(seconds, rounds);
    printf("  %-34s %10.2f us", c->name, middle * 1e6);
    if (c->flops > 0)
        printf(" %8.1f TFLOP/s", c->flops / middle * 1e-12);
    if (c->bytes > 0)
        printf(" %8.1f GB/s", c->bytes / middle * 1e-9);
    printf("  %6.3f x   (min %.2f max %.2f)\n", ratio, seconds[0] * 1e6, seconds[rounds - 1] * 1e6);
}

void cuda_measure(const char *title, const cuda_contender *contenders, int count, int rounds, int repeats) {
    static double seconds[MAX_CONTENDERS][MAX_ROUNDS];
    ht_event *from, *to;
    double yardstick[MAX_ROUNDS];
    rounds = rounds < MAX_ROUNDS ? rounds : MAX_ROUNDS;
    if (getenv("CUDA_CHECK_ONCE")) { /* for a profiler: each contender once */
        for (int i = 0; i < count; i++)
            cuda_must(contenders[i].run(contenders[i].arg, 0), contenders[i].name);
        return;
    }
    cuda_must(ht_device_event_create(cuda_device, &from), "event");
    cuda_must(ht_device_event_create(cuda_device, &to), "event");
    for (int round = -1; round < rounds; round++) /* round -1 warms up */
        for (int i = 0; i < count; i++) {
            double elapsed;
            cuda_must(contenders[i].run(contenders[i].arg, 0), contenders[i].name); /* not timed */
            cuda_must(ht_device_event_record(cuda_device, from, NULL), "event");
            for (int r = 0; r < repeats; r++)
                cuda_must(contenders[i].run(contenders[i].arg, r + 1), contenders[i].name);
            cuda_must(ht_device_event_record(cuda_device, to, NULL), "event");
            cuda_must(ht_device_event_seconds(cuda_device, from, to, &elapsed), contenders[i].name);
            if (round >= 0)
                seconds[i][round] = elapsed / repeats;
        }
    printf("%s\n", title);
    memcpy(yardstick, seconds[0], sizeof yardstick);
    for (int i = 0; i < count; i++)
        print_row(&contenders[i], &contenders[0], seconds[i], yardstick, rounds);
    fflush(stdout);
    ht_device_event_destroy(cuda_device, from);
    ht_device_event_destroy(cuda_device, to);
}

ht_status cuda_copy_run(void *job, int repeat) {
    const cuda_copy_job *copy = job;
    (void)repeat;
    return ht_device_copy(cuda_device, copy->to, copy->from, copy->bytes, HT_COPY_ON_DEVICE, NULL);
}

/* --- Main -------------------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    void (*check)(void);
    void (*bench)(void);
} cases[] = {
    {"gemm", cuda_check_gemm, cuda_bench_gemm},          {"fp8", cuda_check_fp8, cuda_bench_fp8},
    {"grouped", cuda_check_grouped, cuda_bench_grouped}, {"cast", cuda_check_cast, cuda_bench_cast},
    {"format", cuda_check_format, cuda_bench_format},    {"prefill", cuda_check_formats_gemm, cuda_bench_formats_gemm},
    {"gemv", cuda_check_gemv, cuda_bench_gemv},          {"attention", cuda_check_attention, cuda_bench_attention},
};

static int wanted(const char *filter, const char *name) {
    return !filter || strstr(name, filter) != NULL;
}

int main(int argc, char **argv) {
    ht_device_info info;
    int bench = argc > 1 && (strcmp(argv[1], "bench") == 0 || strcmp(argv[1], "only") == 0);
    const char *filter = argc > 2 ? argv[2] : argc > 1 && !bench ? argv[1] : NULL;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (ht_device_open("cuda", &cuda_device) != HT_OK) {
        printf("skipped: %s\n", ht_error_message());
        return 77;
    }
    cuda_must(ht_device_describe(cuda_device, &info), "describe");
    printf("%s, capability %d, %d multiprocessors, driver %d, runtime %d\n", info.name, info.capability,
           info.multiprocessors, info.driver_version, info.runtime_version);
    if (strcmp(argc > 1 ? argv[1] : "", "only") != 0) /* "only": measure what was checked before */
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
            if (wanted(filter, cases[i].name))
                cases[i].check();
    for (size_t i = 0; bench && i < sizeof cases / sizeof cases[0]; i++)
        if (wanted(filter, cases[i].name))
            cases[i].bench();
    ht_device_close(cuda_device);
    printf("%d passed, %d failed, 0 skipped\n", passed, failed);
    return failed != 0;
}
