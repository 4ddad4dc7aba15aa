/* Casts: every row of the kernel tables that this machine can run gives the bytes of the format layer, over formats,
 * scale rules, value types, shapes and kinds of values; inputs and planes end where a page that nobody may touch
 * begins.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <halftone/kernels.h>

#include "base/context.h"
#include "base/random.h"
#include "format/bits.h"
#include "kernels/kernels.h"
#include "support/check.h"

static uint32_t all_flags;

/* --- Memory that ends at a guard page ------------------------------------------------------------------------ */

enum { REGION = 1 << 18, REGIONS = 16 };

/* A piece of memory whose end is a guard page; pieces are taken in turn and given back all at once. */
static uint8_t *regions[REGIONS];
static size_t regions_used;

static uint8_t *guarded_alloc(size_t bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t **region = &regions[regions_used++];
    if (!*region) {
        *region = mmap(NULL, REGION + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        mprotect(*region + REGION, page, PROT_NONE);
    }
    return *region + REGION - bytes;
}

/* --- Values ----------------------------------------------------------------------------------------------------- */

enum { NORMAL, WIDE_RANGE, BITS, GRID, ZEROS, HUGE_VALUES, SUBNORMAL, SPECIAL, KINDS };

static float value_of(int kind, uint64_t i) {
    float x = ht_random_normal(3, (uint64_t)kind, i);
    uint32_t word = ht_random_u32(4, (uint64_t)kind, i);
    float any;
    switch (kind) {
    case WIDE_RANGE:
        return ldexpf(x, (int)(word % 40) - 20);
    case BITS: /* every finite number is as likely as every other */
        memcpy(&any, &word, sizeof any);
        return isfinite(any) ? any : 0;
    case GRID: /* ties of the element formats */
        return ldexpf((float)((int)(word % 65) - 32) / 8, (int)(i / 64 % 8) - 4);
    case ZEROS:
        return word % 2 ? 0.0f : -0.0f;
    case HUGE_VALUES:
        return word % 3 ? copysignf(0x1.fffffep127f, x) : x * 0x1p125f;
    case SUBNORMAL:
        return ldexpf(x, -(int)(word % 24) - 122);
    case SPECIAL:
        return word % 97 == 0 ? NAN : word % 89 == 0 ? -INFINITY : x;
    default:
        return x * 0.02f;
    }
}

static void fill(uint8_t *x, ht_dtype dtype, size_t count, int kind) {
    for (size_t i = 0; i < count; i++) {
        float value = value_of(kind, i);
        ht_convert(&value, HT_F32, x + i * (ht_dtype_bits(dtype) / 8), dtype, 1);
    }
}

/* --- One cast against the definition ------------------------------------------------------------------------------ */

static ht_planes planes_alloc(const ht_format *format, size_t rows, size_t cols, int fill_byte) {
    ht_planes planes = {{NULL}};
    for (int i = 0; i < HT_PLANE_COUNT; i++) {
        size_t bytes = ht_format_plane_bytes(format, (ht_plane)i, rows, cols);
        if (bytes)
            planes.plane[i] = memset(guarded_alloc(bytes), fill_byte, bytes);
    }
    return planes;
}

static size_t taken; /* casts that a variant took */

/* 1 when equal. */
static int compare_planes(const ht_format *format, const ht_planes *got, const ht_planes *want, size_t rows,
                          size_t cols) {
    int same = 1;
    for (int p = 0; p < HT_PLANE_COUNT; p++) {
        size_t bytes = ht_format_plane_bytes(format, (ht_plane)p, rows, cols);
        if (bytes && p == HT_PLANE_SCALES && format->scale == HT_F32) /* any NaN for a NaN */
            same &= CHECK_F32((float *)got->plane[p], (float *)want->plane[p], bytes / 4);
        else if (bytes)
            same &= CHECK_BYTES(got->plane[p], want->plane[p], bytes);
    }
    return same;
}

static void check_row(const ht_kernel_row *row, const ht_format *format, const ht_row_options *options, ht_dtype dtype,
                      size_t rows, size_t cols, int kind) {
    static float values[REGION / 4];
    regions_used = 0;
    uint8_t *x = guarded_alloc(rows * cols * (ht_dtype_bits(dtype) / 8));
    float *decoded = (float *)(void *)guarded_alloc(rows * cols * sizeof *decoded);
    ht_planes got = planes_alloc(format, rows, cols, 0xa5), want = planes_alloc(format, rows, cols, 0x5a);
    ht_cast cast = {
        .format = format, .options = options, .x = x, .x_dtype = dtype, .rows = rows, .cols = cols, .planes = &got};
    if (row->casts && !row->casts(&cast))
        return;
    taken++;
    fill(x, dtype, rows * cols, kind);
    if (format->global != HT_DTYPE_NONE) {
        ht_range range = ht_range_empty();
        ht_range_add(&range, x, dtype, rows * cols);
        float global = ht_format_global(format, options, &range);
        memcpy(got.plane[HT_PLANE_GLOBAL], &global, sizeof global);
        memcpy(want.plane[HT_PLANE_GLOBAL], &global, sizeof global);
    }
    CHECK_OK(ht_format_quantize(format, options, x, dtype, rows, cols, &want));
    CHECK_OK(ht_format_dequantize(format, &want, rows, cols, values));
    CHECK_OK(row->fn.cast(&cast));
    int same = compare_planes(format, &got, &want, rows, cols);
    cast.decoded = decoded;
    cast.streams = 1; /* where planes happen to begin on a line, and to end on one */
    for (int p = 0; p < HT_PLANE_GLOBAL; p++)
        if (got.plane[p])
            memset(got.plane[p], 0x33, ht_format_plane_bytes(format, (ht_plane)p, rows, cols));
    CHECK_OK(row->fn.cast(&cast));
    same &= compare_planes(format, &got, &want, rows, cols) & CHECK_F32(decoded, values, rows * cols);
    char name[96];
    ht_format_name(format, name, sizeof name);
    if (!same)
        printf("  %s: %s, rule %d, %s, %zu x %zu, values %d\n", row->name, name, (int)options->scale_rule,
               ht_dtype_name(dtype), rows, cols, kind);
}

/* Any bytes are codes, scales and zero points. */
static void check_back(const ht_kernel_row *row, const ht_format *format, size_t rows, size_t cols, int kind) {
    static float values[REGION / 4];
    static uint16_t halves[REGION / 4];
    for (int how = 0; how < 4; how++) {
        regions_used = 0;
        ht_dtype dtype = how % 2 ? HT_BF16 : HT_F32;
        ht_planes planes = planes_alloc(format, rows, cols, 0);
        for (int p = 0; p < HT_PLANE_COUNT; p++)
            for (size_t i = 0; i < ht_format_plane_bytes(format, (ht_plane)p, rows, cols); i++)
                ((uint8_t *)planes.plane[p])[i] =
                    (uint8_t)(kind ? ht_random_u32(5, (uint64_t)(kind * 8 + p), i) : i * 37 + i / 256);
        if (format->global != HT_DTYPE_NONE)
            memcpy(planes.plane[HT_PLANE_GLOBAL], &(float){kind ? 1.0f : 333.25f}, 4);
        uint8_t *y = guarded_alloc(rows * cols * (ht_dtype_bits(dtype) / 8));
        ht_uncast uncast = {.format = format,
                            .planes = &planes,
                            .rows = rows,
                            .cols = cols,
                            .y = y,
                            .y_dtype = dtype,
                            .streams = how >= 2};
        if (row->uncasts && !row->uncasts(&uncast))
            return;
        taken++;
        CHECK_OK(ht_format_dequantize(format, &planes, rows, cols, values));
        CHECK_OK(row->fn.uncast(&uncast));
        int same = 1;
        if (dtype == HT_F32)
            same = CHECK_F32((float *)(void *)y, values, rows * cols);
        for (size_t i = 0; i < rows * cols && dtype == HT_BF16; i++)
            halves[i] = isnan(values[i]) ? 0 : ht_bf16_from_f32(values[i]);
        for (size_t i = 0; i < rows * cols && dtype == HT_BF16; i++)
            if (isnan(values[i]) && isnan(ht_f32_from_bf16(((uint16_t *)(void *)y)[i])))
                memset(y + 2 * i, 0, 2);
        if (dtype == HT_BF16)
            same = CHECK_BYTES(y, halves, rows * cols * 2);
        char name[96];
        ht_format_name(format, name, sizeof name);
        if (!same)
            printf("  %s: back from %s, %s, %zu x %zu, codes %d\n", row->name, name, ht_dtype_name(dtype), rows, cols,
                   kind);
    }
}

static void check_format(const char *name, const ht_row_options *options, size_t rows, size_t cols) {
    static const ht_dtype dtypes[] = {HT_F32, HT_BF16, HT_F16};
    ht_format format;
    REQUIRE_OK(ht_format_parse(name, &format));
    for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
        if (row->operation == HT_OPERATION_CAST && (row->needs & all_flags) == row->needs)
            for (int d = 0; d < 3; d++)
                for (int kind = 0; kind < KINDS; kind++)
                    check_row(row, &format, options, dtypes[d], rows, cols, kind);
    for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
        if (row->operation == HT_OPERATION_UNCAST && (row->needs & all_flags) == row->needs)
            for (int kind = 0; kind < 3; kind++)
                check_back(row, &format, rows, cols, kind);
}

static void check_shapes(const char *name, const ht_row_options *options, size_t step) {
    static const size_t shapes[][2] = {{1, 1}, {3, 3}, {2, 17}, {1, 33}, {5, 7}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        check_format(name, options, shapes[i][0], shapes[i][1] * step);
}

static void test_mx(void) {
    static const char *const names[] = {"mxfp4",      "mxfp4_high", "mxfp8",       "mxfp8_e5m2",
                                        "mxfp6_e2m3", "mxfp6_e3m2", "mxfp4_bytes", "mxint8"};
    taken = 0;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int rule = HT_SCALE_DEFAULT; rule <= HT_SCALE_EVEN_FP4; rule++) {
            ht_row_options options = ht_row_options_default();
            options.scale_rule = (ht_scale_rule)rule;
            check_shapes(names[n], &options, 32);
        }
    CHECK(taken > 0 || !(all_flags & HT_CPU_AVX2));
}

static void test_nvfp4(void) {
    static const char *const names[] = {"nvfp4",      "nvfp4_single", "nvfp4_pts",
                                        "nvfp4_high", "nvfp4_bytes",  "nvfp4_tile"};
    taken = 0;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int rule = HT_NVFP4_INFERENCE; rule <= HT_NVFP4_TRAINING; rule++) {
            ht_row_options options = ht_row_options_default();
            options.nvfp4_rule = (ht_nvfp4_rule)rule;
            check_shapes(names[n], &options, 16);
            options.scale_rule = HT_SCALE_FOUR_SIX;
            check_shapes(names[n], &options, 16);
        }
    CHECK(taken > 0 || !(all_flags & HT_CPU_AVX2));
}

static void test_float8(void) {
    static const char *const names[] = {"fp8_row",        "fp8_tensor",         "fp8_block",           "fp8_e5m2_row",
                                        "fp8_e5m2_block", "fp8_row_scale_bf16", "fp8_tensor_scale_f16"};
    taken = 0;
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int how = 0; how < 4; how++) {
            ht_row_options options = ht_row_options_default();
            options.power_of_two = how == 1;
            options.scale = how == 2 ? 0.01f : 0;
            options.amax_upper = how == 3 ? 1.5f : 0;
            check_shapes(names[n], &options, 1);
            check_format(names[n], &options, 130, 131);
            check_format(names[n], &options, 2, 1030);
        }
    ht_row_options options = ht_row_options_default();
    check_shapes("fp8_g128", &options, 128);
    CHECK(taken > 0 || !(all_flags & HT_CPU_AVX2));
}

/* Every bf16 up to every largest magnitude that has another significand: every quotient there is, up to powers of two.
 */
static void test_float8_quotients(void) {
    static const char *const names[] = {"fp8_row", "fp8_e5m2_row"};
    enum { TOP = 0x4300, COLS = TOP + 128 };
    for (size_t n = 0; n < 2; n++)
        for (uint16_t top = TOP; top < COLS; top++)
            for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++) {
                static uint16_t x[COLS];
                static uint8_t got[COLS], want[COLS];
                float scales[2];
                ht_format format;
                ht_row_options options = ht_row_options_default();
                ht_planes planes = {{got, &scales[0], NULL}}, wanted = {{want, &scales[1], NULL}};
                REQUIRE_OK(ht_format_parse(names[n], &format));
                ht_cast cast = {&format, &options, x, HT_BF16, 1, COLS, &planes, NULL, 0};
                if (row->operation != HT_OPERATION_CAST || (row->needs & all_flags) != row->needs || !row->casts(&cast))
                    continue;
                for (uint16_t i = 0; i < COLS; i++)
                    x[i] = (uint16_t)((i < top ? i : top) | (i % 3 ? 0 : 0x8000));
                CHECK_OK(ht_format_quantize(&format, &options, x, HT_BF16, 1, COLS, &wanted));
                CHECK_OK(row->fn.cast(&cast));
                CHECK(scales[0] >= scales[1] && scales[0] <= scales[1]);
                if (!CHECK_BYTES(got, want, COLS))
                    printf("  %s: %s, largest %04x\n", row->name, names[n], top);
            }
}

/* The same of NVFP4, whose divisors are products of a scale and the matrix's number: every significand of the matrix's
 * largest magnitude, blocks of every magnitude below. */
static void test_nvfp4_quotients(void) {
    enum { COLS = 1 << 13 };
    static uint16_t x[COLS];
    static uint8_t got[COLS / 2], want[COLS / 2], scales[2][COLS / 16];
    ht_format format;
    ht_row_options options = ht_row_options_default();
    REQUIRE_OK(ht_format_parse("nvfp4", &format));
    for (uint16_t top = 0x4300; top < 0x4380; top++)
        for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++) {
            ht_range range = ht_range_empty();
            for (size_t i = 0; i < COLS; i++) {
                uint32_t r = ht_random_u32(12, top, i), below = ht_random_u32(13, top, i / 16) % 0x500 + r % 0x380;
                x[i] = (uint16_t)((r & 0x8000) | (i ? top - below : top));
            }
            CHECK_OK(ht_range_add(&range, x, HT_BF16, COLS));
            float global = ht_format_global(&format, &options, &range);
            ht_planes planes = {.plane = {[HT_PLANE_CODES] = got, [HT_PLANE_SCALES] = scales[0]}}, wanted = planes;
            planes.plane[HT_PLANE_GLOBAL] = wanted.plane[HT_PLANE_GLOBAL] = &global;
            wanted.plane[HT_PLANE_CODES] = want;
            wanted.plane[HT_PLANE_SCALES] = scales[1];
            ht_cast cast = {&format, &options, x, HT_BF16, 1, COLS, &planes, NULL, 0};
            if (row->operation != HT_OPERATION_CAST || (row->needs & all_flags) != row->needs || !row->casts(&cast))
                continue;
            CHECK_OK(ht_format_quantize(&format, &options, x, HT_BF16, 1, COLS, &wanted));
            CHECK_OK(row->fn.cast(&cast));
            if (!(CHECK_BYTES(scales[0], scales[1], COLS / 16) & CHECK_BYTES(got, want, COLS / 2)))
                printf("  %s: nvfp4, largest %04x\n", row->name, top);
        }
}

static void test_int(void) {
    static const char *const rows[] = {"int8_row",    "int4_row",       "int5_row",        "int1_row",
                                       "uint4_row",   "int8_row_asym",  "int4_row_bytes",  "int6_row",
                                       "int3_row",    "uint8_row",      "int4_row_low",    "int4_row_high",
                                       "int8_tensor", "int5_row_bytes", "uint3_row_bytes", "int7_row_bits"};
    static const char *const groups[] = {"int4_g32", "int4_g128_asym",      "uint4_g64",     "int2_g32_asym",
                                         "int8_g32", "int4_g32_scale_bf16", "int4_g32_high", "int4_g32_float0"};
    taken = 0;
    for (int how = 0; how < 6; how++) {
        ht_row_options options = ht_row_options_default();
        options.int_rule = (ht_int_rule)(how % 3);
        options.code_rule = how % 2 ? HT_CODE_DIVIDE : HT_CODE_RECIPROCAL;
        options.scale = how == 5 ? 0.003f : 0;
        for (size_t n = 0; n < sizeof rows / sizeof *rows; n++) {
            check_shapes(rows[n], &options, 1);
            check_format(rows[n], &options, 2, 1031);
        }
        for (size_t n = 0; n < sizeof groups / sizeof *groups; n++)
            check_shapes(groups[n], &options, 128);
    }
    CHECK(taken > 0 || !(all_flags & HT_CPU_AVX2));
}

/* --- Sums of squares ------------------------------------------------------------------------------------------- */

static void check_tally(ht_tally_fn *tally, ht_dtype dtype, size_t n) {
    regions_used = 0;
    uint8_t *x = guarded_alloc(n * (ht_dtype_bits(dtype) / 8)), *bytes = guarded_alloc(n * 4);
    const float *y = (const float *)(const void *)bytes;
    for (int kind = 0; kind < KINDS; kind++) {
        fill(x, dtype, n, kind);
        fill(bytes, HT_F32, n, kind == SPECIAL ? NORMAL : kind);
        ht_square_sums got = tally(x, dtype, y, n), want = ht_tally_ref(x, dtype, y, n);
        if (kind == SPECIAL)
            CHECK_INT(isfinite(got.reference), isfinite(want.reference));
        else
            CHECK_BYTES(&got, &want, sizeof got);
    }
}

static void test_tally(void) {
    static const size_t sizes[] = {1, 7, 8, 9, 16, 31, 512, 1000, 1024, 1025, 3000};
    static const ht_dtype dtypes[] = {HT_F32, HT_BF16, HT_F16};
    for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
        if (row->operation == HT_OPERATION_TALLY && (row->needs & all_flags) == row->needs)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                for (int d = 0; d < 3; d++)
                    check_tally(row->fn.tally, dtypes[d], sizes[i]);
    float x[3] = {1, 2, 3}, y[3] = {1, 1, 1};
    ht_square_sums sums = ht_tally_ref(x, HT_F32, y, 3);
    CHECK(sums.error == 5 && sums.reference == 14);
}

static void check_range(ht_range_fn *add, ht_dtype dtype, size_t n, int kind) {
    static uint8_t x[REGION];
    fill(x, dtype, n, kind);
    regions_used = 0;
    uint8_t *bytes = memcpy(guarded_alloc(n * (ht_dtype_bits(dtype) / 8)), x, n * (ht_dtype_bits(dtype) / 8));
    ht_range got = ht_range_empty(), want = ht_range_empty();
    CHECK_OK(add(&got, bytes, dtype, n));
    CHECK_OK(ht_range_add(&want, bytes, dtype, n));
    CHECK_F32((&(float[3]){got.min, got.max, got.amax})[0], (&(float[3]){want.min, want.max, want.amax})[0], 3);
    CHECK(got.has_nan == want.has_nan && got.has_inf == want.has_inf);
}

static void test_range(void) {
    static const size_t sizes[] = {1, 31, 32, 100, 4096, 4097, 9000};
    static const ht_dtype dtypes[] = {HT_F32, HT_BF16, HT_F16};
    for (const ht_kernel_row *row = ht_kernel_rows_arch; row->name; row++)
        if (row->operation == HT_OPERATION_RANGE && (row->needs & all_flags) == row->needs)
            for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
                for (int d = 0; d < 3; d++)
                    for (int kind = 0; kind < KINDS; kind++)
                        check_range(row->fn.range, dtypes[d], sizes[i], kind);
}

int main(void) {
    ht_context *ctx;
    if (ht_context_create(NULL, &ctx) == HT_OK) {
        all_flags = ht_cpu_flags(ctx);
        ht_context_destroy(ctx);
    }
    RUN(test_mx);
    RUN(test_nvfp4);
    RUN(test_float8);
    RUN(test_float8_quotients);
    RUN(test_nvfp4_quotients);
    RUN(test_int);
    RUN(test_tally);
    RUN(test_range);
    return check_finish();
}
