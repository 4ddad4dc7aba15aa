/* kernel_check bench [FORMAT [SPAN [M [N [K]]]]]: products of packed weights timed on one thread, alternating with the
 * probe of the strongest integer instruction. Medians of the ratios; the weights are as large as the shape makes them.
 */
#include "kernels/kernel_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/random.h"

enum { ROUNDS = 15 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t); /* what others run on this core does not count */
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static const ht_kernel_row *probe_row(const ht_kernel_row *for_row) {
    static const ht_kernel_row *const TABLES[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = TABLES[t]; row->name; row++)
            if (row->operation == HT_OPERATION_PROBE && (row->needs & for_row->needs) == row->needs)
                return row;
    return NULL;
}

static double probe_rate(const ht_kernel_row *row) {
    double begin = now(), macs = row->fn.probe(60000), end = now();
    return macs / (end - begin) * 1e-9;
}

/* All weights are read once, summed: bytes per second from wherever they lie. */
static double read_rate(const uint8_t *bytes, size_t count) {
    volatile uint64_t sink;
    typedef uint64_t __attribute__((vector_size(64), aligned(1), may_alias)) line;
    line sum[4] = {{0}};
    double begin = now();
    for (size_t i = 0; i + 256 <= count; i += 256)
        for (size_t j = 0; j < 4; j++)
            sum[j] += *(const line *)(const void *)(bytes + i + 64 * j);
    double seconds = now() - begin;
    sink = sum[0][0] + sum[1][1] + sum[2][2] + sum[3][3];
    (void)sink;
    return 1e-9 * (double)count / seconds;
}

static int ascending(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *values) {
    qsort(values, ROUNDS, sizeof *values, ascending);
    return values[ROUNDS / 2];
}

static void run_once(const ht_kernel_row *row, const ht_product *product, void *scratch) {
    size_t rows = product->weight->rows, step = ht_product_step(product->weight, product->x->m);
    for (size_t n = 0; n < rows; n += step)
        row->fn.product(product, n, n + step < rows ? n + step : rows, scratch);
}

static void time_row(const ht_kernel_row *row, const char *format, const ht_product *product, void *scratch) {
    double rate[ROUNDS], fraction[ROUNDS], read[ROUNDS], of_read[ROUNDS];
    const ht_packed *w = product->weight;
    const ht_kernel_row *probe = probe_row(row);
    size_t m = product->x->m;
    double macs = (double)m * (double)w->rows * (double)w->cols;
    run_once(row, product, scratch);
    double begin = now();
    run_once(row, product, scratch);
    double one = now() - begin;
    size_t repeats = w->bytes > 16u << 20 ? 1 : (size_t)(4e-3 / one) + 1;
    double before = probe_rate(probe);
    for (int i = 0; i < ROUNDS; i++) {
        begin = now();
        for (size_t r = 0; r < repeats; r++)
            run_once(row, product, scratch);
        double seconds = (now() - begin) / (double)repeats, after = probe_rate(probe);
        read[i] = m <= 8 ? read_rate(product->panels, w->bytes) : 1;
        rate[i] = macs / seconds * 1e-9;
        fraction[i] = rate[i] / (0.5 * (before + after));
        of_read[i] = (double)w->bytes / seconds * 1e-9 / read[i];
        before = after;
    }
    static const char *const SPAN[] = {"row", "256", "32"};
    double of = median(fraction), p10 = fraction[ROUNDS / 10], p90 = fraction[ROUNDS * 9 / 10];
    printf("%-22s %-12s %-4s %4zu %5zu %5zu %8.1f GMAC/s  %5.1f %% [%.1f, %.1f] of %s", row->name, format,
           SPAN[product->x->span], m, w->rows, w->cols, median(rate), 100 * of, 100 * p10, 100 * p90, probe->name);
    if (m <= 8)
        printf("  %.1f GB/s, %.0f %% of read %.1f", median(rate) / macs * (double)w->bytes, 100 * median(of_read),
               median(read));
    printf("\n");
    fflush(stdout);
}

static void bench_case(const char *format, ht_span span, size_t m, size_t rows, size_t cols) {
    subject s;
    if (!subject_make(format, rows, cols, 1, 0, &s))
        return;
    float *x = malloc(m * cols * sizeof *x), *y = malloc(m * rows * sizeof *y);
    for (size_t i = 0; i < m * cols; i++)
        x[i] = ht_random_normal(1, 2, i);
    void *memory = aligned_alloc(64, ht_int8_rows_bytes(span, m, cols)), *scratch = NULL;
    ht_int8_rows q = ht_int8_rows_at(memory, span, m, cols);
    ht_quantize_rows_ref(x, cols, cols, 0, m, &q);
    scratch = aligned_alloc(64, (ht_product_scratch(&s.packed, m) + 63) / 64 * 64);
    ht_product product = {.weight = &s.packed, .panels = s.panels, .x = &q, .y = y, .y_stride = rows};
    for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
        if (row->operation == HT_OPERATION_PRODUCT && (row->needs & kernel_check_flags) == row->needs &&
            (!row->takes || row->takes(&s.packed)) && (!row->largest_m || m <= row->largest_m) &&
            (m >= 8 || row->largest_m ||
             row == ht_kernel_choose_packed(HT_OPERATION_PRODUCT, kernel_check_flags, &s.packed, m)))
            time_row(row, format, &product, scratch);
    free(x), free(y), free(memory), free(scratch), subject_free(&s);
}

void bench_products(int count, char **words) {
    if (count > 0) {
        bench_case(words[0], (ht_span)(count > 1 ? atoi(words[1]) : 0), count > 2 ? (size_t)atoi(words[2]) : 512,
                   count > 3 ? (size_t)atoi(words[3]) : 1024, count > 4 ? (size_t)atoi(words[4]) : 4096);
        return;
    }
    static const struct {
        const char *format;
        ht_span span;
        size_t m, rows, cols;
    } CASES[] = {
        {"mxfp4", HT_SPAN_ROW, 512, 1024, 4096},     {"mxfp4", HT_SPAN_256, 512, 1024, 4096},
        {"mxfp4", HT_SPAN_32, 512, 1024, 4096},      {"int4_g32", HT_SPAN_ROW, 512, 1024, 4096},
        {"int4_g128", HT_SPAN_ROW, 512, 1024, 4096}, {"int4_g128", HT_SPAN_32, 512, 1024, 4096},
        {"int8_row", HT_SPAN_ROW, 512, 1024, 4096},  {"mxfp4", HT_SPAN_ROW, 16, 4096, 4096},
        {"mxfp4", HT_SPAN_ROW, 8, 4096, 4096},       {"mxfp4", HT_SPAN_ROW, 4, 4096, 4096},
        {"int4_g128", HT_SPAN_ROW, 4, 4096, 4096},   {"mxfp4", HT_SPAN_ROW, 1, 4096, 4096},
        {"mxfp4", HT_SPAN_32, 1, 4096, 4096},        {"int4_g128", HT_SPAN_ROW, 1, 4096, 4096},
        {"mxfp4", HT_SPAN_ROW, 1, 32768, 4096},      {"int4_g128", HT_SPAN_ROW, 1, 32768, 4096},
        {"int8_row", HT_SPAN_ROW, 1, 16384, 4096},
    };
    for (size_t i = 0; i < sizeof CASES / sizeof *CASES; i++)
        bench_case(CASES[i].format, CASES[i].span, CASES[i].m, CASES[i].rows, CASES[i].cols);
}
