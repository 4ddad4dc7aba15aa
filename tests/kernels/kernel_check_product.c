/* Products of packed weights with int8 inputs: bits of every row, the reference against plain arithmetic, and what the
 * kernels may touch. */
#include "kernels/kernel_check.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cpu.h"
#include "base/random.h"
#include "support/check.h"

enum { CANARY = 16 };
static const float canary = -7.25f;
static const ht_kernel_row *const TABLES[] = {ht_kernel_rows_arch, ht_kernel_rows_ref};

/* --- inputs --------------------------------------------------------------------------------------------------------
 */

/* Rows of many kinds: bell-shaped, loud, zero, constant, tiny, with NaN. */
static float *make_inputs(size_t m, size_t cols, uint64_t seed, int wild) {
    float *x = malloc(m * cols * sizeof *x);
    for (size_t i = 0; i < m; i++)
        for (size_t k = 0; k < cols; k++) {
            float v = ht_random_normal(seed, 31 + i, k);
            uint32_t kind = wild ? ht_random_u32(seed, 30, i) % 8 : 0;
            x[i * cols + k] = kind == 1                    ? 0
                              : kind == 2                  ? -3.5f
                              : kind == 3                  ? v * 1e-39f
                              : kind == 4                  ? v * 1e30f
                              : kind == 5                  ? (k % 2 ? 127.49f : -127.5f)
                              : kind == 6 && k == cols / 2 ? (float)NAN
                              : kind == 7 && k % 37 == 0   ? v * 1e4f
                                                           : v;
        }
    return x;
}

struct quantized {
    ht_int8_rows rows;
    void *memory;
};

static struct quantized quantize(ht_quantize_rows_fn *fn, ht_span span, const float *x, size_t m, size_t cols) {
    struct quantized q;
    q.memory = aligned_alloc(64, ht_int8_rows_bytes(span, m, cols) + 64);
    q.rows = ht_int8_rows_at(q.memory, span, m, cols);
    fn(x, cols, cols, 0, m / 2, &q.rows); /* in two parts */
    fn(x, cols, cols, m / 2, m, &q.rows);
    return q;
}

static const char *const SPAN_FORMAT[] = {"int8_row", "int8_g256", "int8_g32"};

/* Codes and scales of row i against the format's own encoder. cols divides by the span's group. */
static void check_against_format(const ht_int8_rows *q, const float *x, size_t cols, size_t i) {
    ht_format format;
    uint8_t *codes = malloc(cols);
    float *scales = malloc((cols / 32 + 1) * sizeof *scales);
    CHECK_OK(ht_format_parse(SPAN_FORMAT[q->span], &format));
    format.packing = HT_PACK_BYTES;
    ht_planes planes = {{codes, scales}};
    CHECK_OK(ht_format_quantize(&format, NULL, x + i * cols, HT_F32, 1, cols, &planes));
    size_t wrong = 0;
    for (size_t c = 0; c < q->chunks; c++) {
        size_t width = cols - c * 256 < 256 ? cols - c * 256 : 256;
        wrong += memcmp(q->codes + 256 * q->m * c + i * width, codes + 256 * c, width) != 0;
        for (size_t b = 0; b < width / 32; b++) {
            float got = q->span == HT_SPAN_ROW   ? q->scales[i]
                        : q->span == HT_SPAN_256 ? q->scales[c * q->m + i]
                                                 : q->scales[(c * q->m + i) * 8 + b];
            float want = scales[q->span == HT_SPAN_ROW ? 0 : q->span == HT_SPAN_256 ? c : c * 8 + b];
            int32_t sum = 0;
            for (size_t k = 0; k < 32; k++)
                sum += (int8_t)codes[c * 256 + b * 32 + k];
            wrong += !(got == want || (isnan(got) && isnan(want)));
            wrong += sum != q->sums[(c * q->m + i) * 8 + b];
        }
    }
    CHECK_INT(wrong, 0);
    free(codes), free(scales);
}

static void test_quantize_rows(void) {
    static const size_t COLS[] = {256, 1024, 32, 96, 288, 7, 300};
    for (size_t c = 0; c < sizeof COLS / sizeof *COLS; c++)
        for (int span = HT_SPAN_ROW; span <= HT_SPAN_32; span++) {
            size_t m = 17, cols = COLS[c];
            float *x = make_inputs(m, cols, 5 + c, 1);
            struct quantized want = quantize(ht_quantize_rows_ref, (ht_span)span, x, m, cols);
            size_t bytes = ht_int8_rows_bytes((ht_span)span, m, cols);
            size_t whole = span == HT_SPAN_256 ? 256 : 32;
            for (size_t i = 0; cols % whole == 0 && i < m; i++)
                check_against_format(&want.rows, x, cols, i);
            for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++) {
                if (row->operation != HT_OPERATION_QUANTIZE_ROWS || (row->needs & kernel_check_flags) != row->needs)
                    continue;
                struct quantized got = quantize(row->fn.quantize_rows, (ht_span)span, x, m, cols);
                size_t ends = (size_t)((char *)got.rows.sums - (char *)got.memory);
                CHECK_BYTES(got.rows.codes, want.rows.codes, m * got.rows.blocks * 32);
                CHECK_BYTES(got.rows.sums, want.rows.sums, m * got.rows.chunks * 32);
                CHECK(ends <= bytes);
                size_t count = span == HT_SPAN_ROW ? m : m * got.rows.chunks * (span == HT_SPAN_32 ? 8 : 1);
                CHECK_F32(got.rows.scales, want.rows.scales, count);
                free(got.memory);
            }
            free(want.memory), free(x);
        }
}

/* --- the product ----------------------------------------------------------------------------------------------------
 */

/* y [m, stride] between canaries. */
struct output {
    guarded memory;
    float *y;
    size_t count;
};

static struct output output_make(size_t m, size_t stride, int at_begin) {
    struct output o = {.count = m * stride};
    o.memory = guard_allocate((o.count + 2 * CANARY) * sizeof(float), at_begin);
    o.y = (float *)(void *)o.memory.data + CANARY;
    for (size_t i = 0; i < o.count + 2 * CANARY; i++)
        o.y[i - CANARY] = canary;
    return o;
}

/* Outputs [n0, n1) into a fresh y; every other place keeps its canary. */
static void check_part(ht_product_fn *fn, const ht_product *like, size_t n0, size_t n1, const float *want,
                       size_t want_stride) {
    size_t m = like->x->m, stride = like->weight->rows + 3;
    struct output o = output_make(m, stride, 0);
    guarded scratch = guard_allocate(ht_product_scratch(like->weight, m) + 64, 0);
    ht_product p = *like;
    p.y = o.y;
    p.y_stride = stride;
    void *aligned = (void *)(((uintptr_t)scratch.data + 63) / 64 * 64);
    memset(scratch.data, 0x7e, ht_product_scratch(like->weight, m) + 64);
    fn(&p, n0, n1, aligned);
    size_t wrong = 0;
    for (size_t i = 0; i < m; i++)
        for (size_t n = 0; n < stride; n++) {
            float got = o.y[i * stride + n], right = n >= n0 && n < n1 ? want[i * want_stride + n] : canary;
            wrong += memcmp(&got, &right, sizeof got) != 0 && !(isnan(got) && isnan(right));
        }
    for (size_t i = 0; i < CANARY; i++)
        wrong += o.y[-1 - (ptrdiff_t)i] != canary || o.y[o.count + i] != canary;
    CHECK_INT(wrong, 0);
    guard_free(&o.memory), guard_free(&scratch);
}

/* The reference against sums in f64: within the rounding of one addition a chunk and one multiplication. */
static void check_reference(const subject *s, const ht_int8_rows *x, const float *bias, const float *y) {
    const ht_packed *w = &s->packed;
    float *row = malloc(w->cols * sizeof *row);
    for (size_t n = 0; n < w->rows; n += 7) {
        ht_packed_row(w, s->panels, n, row);
        for (size_t i = 0; i < x->m; i++) {
            double sum = bias ? (double)bias[n] : 0, size = fabs(sum);
            for (size_t k = 0; k < w->cols; k++) {
                size_t c = k / 256, width = ht_packed_chunk_width(w, c), b = k % 256 / 32;
                double scale = (double)(x->span == HT_SPAN_ROW   ? x->scales[i]
                                        : x->span == HT_SPAN_256 ? x->scales[c * x->m + i]
                                                                 : x->scales[(c * x->m + i) * 8 + b]);
                double term = scale * x->codes[256 * x->m * c + i * width + k % 256] * (double)row[k];
                sum += term;
                size += fabs(term);
            }
            if (!CHECK_WITHIN((double)y[i * w->rows + n], sum, size * 1e-6 + 1e-30))
                break;
        }
    }
    free(row);
}

static void check_shape(const char *format, ht_span span, size_t m, size_t rows, size_t cols, int wild) {
    subject s;
    uint64_t seed = m * 1000 + rows * 10 + cols;
    if (!subject_make(format, rows, cols, seed, wild, &s))
        return;
    float *x = make_inputs(m, cols, seed, wild), *bias = make_inputs(1, rows, seed + 1, 0);
    struct quantized q = quantize(ht_quantize_rows_ref, span, x, m, cols);
    float *want = malloc(m * rows * sizeof *want);
    ht_product product = {.weight = &s.packed,
                          .panels = s.panels,
                          .x = &q.rows,
                          .bias = rows % 2 ? bias : NULL,
                          .y = want,
                          .y_stride = rows};
    ht_product_ref(&product, 0, rows, NULL);
    if (!wild)
        check_reference(&s, &q.rows, product.bias, want);
    for (size_t t = 0; t < 2; t++)
        for (const ht_kernel_row *row = TABLES[t]; row->name; row++) {
            if (row->operation != HT_OPERATION_PRODUCT || (row->needs & kernel_check_flags) != row->needs ||
                (row->takes && !row->takes(&s.packed)) || (row->largest_m && m > row->largest_m))
                continue;
            int before = check_failures_of_test;
            check_part(row->fn.product, &product, 0, rows, want, rows);
            if (rows > 16)
                check_part(row->fn.product, &product, 16, rows - 1, want, rows);
            if (check_failures_of_test != before)
                fprintf(stderr, "  %s: %s span %d, m %zu n %zu k %zu%s\n", row->name, format, (int)span, m, rows, cols,
                        wild ? ", wild" : "");
        }
    free(x), free(bias), free(want), free(q.memory), subject_free(&s);
}

static const char *const FORMATS[] = {"mxfp4",           "nvfp4",
                                      "nvfp4_pts",       "nvfp4_single",
                                      "mxfp6_e2m3",      "mxint8",
                                      "int8_row",        "int8_g32",
                                      "int4_g32",        "int4_g64",
                                      "int4_g128",       "int4_row",
                                      "int3_g32",        "int5_g128",
                                      "int7_g32",        "int1_g64",
                                      "int2_g64_asym",   "int4_g32_asym",
                                      "uint4_g128_asym", "int8_g32_asym",
                                      "int4_g256",       "int4_g128_scale_bf16"};
enum { FORMAT_COUNT = sizeof FORMATS / sizeof *FORMATS };

static void test_products(void) {
    for (size_t f = 0; f < FORMAT_COUNT; f++)
        for (int span = HT_SPAN_ROW; span <= HT_SPAN_32; span++) {
            for (size_t m = 1; m <= 9; m++)
                check_shape(FORMATS[f], (ht_span)span, m, 33, 256, 0);
            check_shape(FORMATS[f], (ht_span)span, 6, 130, 768, 0);
            check_shape(FORMATS[f], (ht_span)span, 5, 64, 512, 1);
            check_shape(FORMATS[f], (ht_span)span, 1, 17, 512, 1);
        }
}

static void test_product_shapes(void) {
    static const size_t ROWS[] = {1, 15, 16, 17, 31, 63, 64, 65, 130}, COLS[] = {32, 64, 96, 128, 160, 288, 1056};
    for (size_t r = 0; r < sizeof ROWS / sizeof *ROWS; r++)
        for (size_t c = 0; c < sizeof COLS / sizeof *COLS; c++)
            for (size_t m = 1; m < 14; m += 4) {
                check_shape((r + m) % 2 ? "nvfp4" : "mxfp4", (ht_span)((r + c) % 3), m, ROWS[r], COLS[c], (int)(c % 2));
                check_shape("int4_g32", (ht_span)((r + c + 1) % 3), m, ROWS[r], COLS[c], 0);
                check_shape("int8_row", HT_SPAN_ROW, m, ROWS[r], COLS[c] + 5, 0);
            }
    check_shape("mxfp4", HT_SPAN_ROW, 600, 70, 288, 0); /* more rows than a pass takes */
    check_shape("int4_g128", HT_SPAN_32, 515, 65, 384, 0);
}

/* Largest sums there can be: every code at its end, and the folding of exponents at its limits. */
static void test_product_extremes(void) {
    static const char *const NAMES[] = {"mxfp4", "int8_row", "int4_g128", "mxint8"};
    for (size_t f = 0; f < 4; f++)
        for (int high = 0; high < 2; high++) {
            subject s;
            size_t m = 5, rows = 64, cols = 512;
            REQUIRE(subject_make(NAMES[f], rows, cols, 3, 0, &s));
            size_t bytes = ht_format_plane_bytes(&s.weight.format, HT_PLANE_CODES, rows, cols);
            memset((void *)(uintptr_t)s.weight.plane[HT_PLANE_CODES],
                   s.packed.bits == 8 ? (high ? 0x7f : 0x80) : (high ? 0x77 : 0xff), bytes);
            uint8_t *scales = (uint8_t *)(uintptr_t)s.weight.plane[HT_PLANE_SCALES];
            for (size_t i = 0; s.packed.scale == HT_PACKED_SCALE_E8M0 && i < rows * cols / 32; i++)
                scales[i] = (uint8_t)(i % 16 == 3 ? 124 : i % 16 == 9 && high ? 120 : 121);
            void *scratch = malloc(ht_pack_scratch(&s.packed));
            for (size_t p = 0; p < s.packed.panels; p++)
                CHECK(ht_pack_panel(&s.packed, &s.weight, 0, p, scratch, s.panels + p * s.packed.panel_bytes));
            float *x = malloc(m * cols * sizeof *x), *want = malloc(m * rows * sizeof *want);
            for (size_t i = 0; i < m * cols; i++)
                x[i] = i / cols % 2 ? -1.0f : 1.0f;
            for (int span = HT_SPAN_ROW; span <= HT_SPAN_32; span++) {
                struct quantized q = quantize(ht_quantize_rows_ref, (ht_span)span, x, m, cols);
                ht_product product = {
                    .weight = &s.packed, .panels = s.panels, .x = &q.rows, .y = want, .y_stride = rows};
                ht_product_ref(&product, 0, rows, NULL);
                check_reference(&s, &q.rows, NULL, want);
                for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
                    if (row->operation == HT_OPERATION_PRODUCT && (row->needs & kernel_check_flags) == row->needs &&
                        (!row->takes || row->takes(&s.packed)))
                        check_part(row->fn.product, &product, 0, rows, want, rows);
                free(q.memory);
            }
            free(scratch), free(x), free(want), subject_free(&s);
        }
}

/* --- products of float weights
 * ---------------------------------------------------------------------------------------- */

static void check_matmul(size_t m, size_t rows, size_t cols, const float *bias) {
    float *x = make_inputs(m, cols, 40, 0), *wide = make_inputs(rows, cols, 41, 1);
    uint16_t *w = malloc(rows * cols * sizeof *w);
    CHECK_OK(ht_convert(wide, HT_F32, w, HT_BF16, rows * cols));
    ht_weight weight = {.batch = 1, .rows = rows, .cols = cols, .plane = {w}};
    CHECK_OK(ht_format_parse("bf16", &weight.format));
    float *want = malloc(m * rows * sizeof *want);
    void *scratch = malloc(rows * cols * sizeof(float));
    ht_matmul product = {.weight = &weight,
                         .bias = bias,
                         .x = x,
                         .m = m,
                         .x_stride = cols,
                         .y = want,
                         .y_stride = rows,
                         .decode = ht_decode_bf16_ref,
                         .dot = ht_dot_f32_ref};
    ht_matmul_f32_ref(&product, 0, rows, scratch);
    for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++) {
        if (row->operation != HT_OPERATION_MATMUL || (row->needs & kernel_check_flags) != row->needs ||
            (row->accepts && !row->accepts(&weight)))
            continue;
        struct output o = output_make(m, rows, (int)(m % 2));
        product.y = o.y;
        size_t half = rows / 2;
        row->fn.matmul(&product, 0, half, scratch);
        row->fn.matmul(&product, half, rows, scratch);
        if (!CHECK_F32(o.y, want, m * rows))
            fprintf(stderr, "  %s, m %zu n %zu k %zu\n", row->name, m, rows, cols);
        CHECK(o.y[-1] == canary && o.y[o.count] == canary);
        guard_free(&o.memory);
    }
    free(x), free(wide), free(w), free(want), free(scratch);
}

static void test_matmul(void) {
    static const size_t COLS[] = {1, 7, 8, 64, 100, 576};
    float bias[40];
    for (size_t i = 0; i < 40; i++)
        bias[i] = (float)i - 20;
    for (size_t m = 1; m < 10; m++)
        for (size_t c = 0; c < sizeof COLS / sizeof *COLS; c++) {
            check_matmul(m, 37, COLS[c], m % 2 ? bias : NULL);
            check_matmul(m, 2, COLS[c], NULL);
        }
}

void check_products(void) {
    RUN(test_matmul);
    RUN(test_quantize_rows);
    RUN(test_products);
    RUN(test_product_shapes);
    RUN(test_product_extremes);
}
