/* SPDX-License-Identifier: BSD-3-Clause */
#include "format/int.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "format/bits.h"
#include "support/check.h"
#include "support/golden.h"

static ht_format parse(const char *name) {
    ht_format f = {0};
    CHECK_OK(ht_format_parse(name, &f));
    return f;
}

/* Buffers for all planes of a matrix. */
typedef struct buffers {
    ht_planes p;
    float *y;
} buffers;

static buffers allocate(const ht_format *f, size_t rows, size_t cols) {
    buffers b = {{{0}}, calloc(rows * cols + 1, sizeof(float))};
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        b.p.plane[plane] = calloc(ht_format_plane_bytes(f, (ht_plane)plane, rows, cols) + 4, 1);
    return b;
}

static void release(buffers *b) {
    for (int plane = 0; plane < HT_PLANE_COUNT; plane++)
        free(b->p.plane[plane]);
    free(b->y);
}

static float half_at(ht_dtype dtype, const void *plane, size_t index) {
    uint16_t half = ((const uint16_t *)plane)[index];
    return dtype == HT_BF16 ? ht_f32_from_bf16(half) : ht_f32_from_f16(half);
}

/* Quantize g's tensor and compare codes, scales, zeros and decoded values with the tensors of that prefix; those that
 * do not exist are not compared. Floats of the planes are compared after conversion to f32. */
static void check_case(const golden *g, const char *prefix, const char *input, const ht_format *f,
                       const ht_row_options *o) {
    const golden_tensor *x = golden_find(g, input);
    if (!x)
        return;
    size_t rows = golden_rows(x), cols = golden_cols(x);
    buffers b = allocate(f, rows, cols);
    int before = check_failures_of_test;
    CHECK_OK(ht_format_quantize(f, o, x->data, x->dtype, rows, cols, &b.p));
    CHECK_OK(ht_format_dequantize(f, &b.p, rows, cols, b.y));
    static const struct {
        const char *tail;
        ht_plane plane;
    } parts[] = {
        {"q", HT_PLANE_CODES}, {"packed", HT_PLANE_CODES}, {"scale", HT_PLANE_SCALES}, {"zero", HT_PLANE_ZEROS}};
    for (size_t i = 0; i < 4; i++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", prefix, parts[i].tail);
        const golden_tensor *want = golden_maybe(g, name);
        size_t shape[2];
        ht_dtype dtype = ht_format_plane_shape(f, parts[i].plane, rows, cols, shape);
        if (!want || dtype == HT_DTYPE_NONE ||
            (i < 2 && (strcmp(parts[i].tail, "packed") == 0) != (f->packing != HT_PACK_BYTES)))
            continue;
        CHECK_INT(want->elements, shape[0] * shape[1]);
        if (dtype == HT_F8_E4M3) /* stored results hold codes */
            dtype = HT_U8;
        golden_tensor got = {.dtype = dtype, .elements = want->elements, .data = b.p.plane[parts[i].plane]};
        float *a = golden_f32(&got), *w = golden_f32(want);
        CHECK_F32(a, w, want->elements);
        free(a);
        free(w);
    }
    char name[96];
    snprintf(name, sizeof name, "%s.dequant", prefix);
    const golden_tensor *dequant = golden_maybe(g, name);
    if (dequant) {
        float *w = golden_f32(dequant);
        if (dequant->dtype != HT_F32) /* tensor libraries round the product, then the sum, to the type of the scales */
            for (size_t i = 0; i < dequant->elements; i++) {
                size_t block = i / f->block_cols;
                float scale = half_at(f->scale, b.p.plane[HT_PLANE_SCALES], block);
                float zero = half_at(f->zero, b.p.plane[HT_PLANE_ZEROS], block);
                int code = ((uint8_t *)b.p.plane[HT_PLANE_CODES])[i];
                b.y[i] = ht_round_to(f->scale, ht_round_to(f->scale, (float)(code - 8) * scale) + zero);
            }
        CHECK_F32(b.y, w, dequant->elements);
        free(w);
    }
    if (check_failures_of_test != before)
        printf("  case %s\n", prefix);
    release(&b);
}

static const struct {
    const char *suffix;
    ht_dtype dtype;
} types[] = {{"f32", HT_F32}, {"bf16", HT_BF16}, {"f16", HT_F16}};

static ht_dtype element_of(int is_signed, int bits) {
    static const ht_dtype s[] = {0, HT_I1, HT_I2, HT_I3, HT_I4, HT_I5, HT_I6, HT_I7, HT_I8};
    static const ht_dtype u[] = {0, HT_U1, HT_U2, HT_U3, HT_U4, HT_U5, HT_U6, HT_U7, HT_U8};
    return is_signed ? s[bits] : u[bits];
}

/* One value a byte, scale in the input's type, zero points as stored. */
static ht_format unpacked(ht_dtype element, uint32_t group, ht_dtype scale, ht_dtype zero) {
    return (ht_format){.family = HT_FAMILY_INT,
                       .element = element,
                       .scale = scale,
                       .zero = zero,
                       .block_rows = 1,
                       .block_cols = group,
                       .packing = HT_PACK_BYTES};
}

static void test_golden_affine(void) {
    static const struct {
        const char *name;
        int is_signed, bits, qmin, qmax;
    } kinds[] = {{"int8", 1, 8, 0, 0},  {"int8n", 1, 8, -127, 127}, {"int4", 1, 4, 0, 0},    {"uint4", 0, 4, 0, 0},
                 {"uint8", 0, 8, 0, 0}, {"int2", 1, 2, 0, 0},       {"int7r", 1, 8, -64, 63}};
    for (size_t t = 0; t < 3; t++) {
        char path[64], name[64];
        snprintf(path, sizeof path, "formats/affine_%s.safetensors", types[t].suffix);
        golden g = golden_open(path);
        for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
            ht_dtype element = element_of(kinds[k].is_signed, kinds[k].bits);
            ht_row_options o = ht_row_options_default();
            o.arithmetic = types[t].dtype;
            o.qmin = kinds[k].qmin;
            o.qmax = kinds[k].qmax;
            ht_format f = unpacked(element, 32, types[t].dtype, HT_DTYPE_NONE);
            snprintf(name, sizeof name, "%s.SYMMETRIC", kinds[k].name);
            check_case(&g, name, "x", &f, &o);
            f.zero = HT_I32;
            snprintf(name, sizeof name, "%s.ASYMMETRIC", kinds[k].name);
            check_case(&g, name, "x", &f, &o);
            f.zero = HT_DTYPE_NONE;
            o.int_rule = HT_INT_NO_CLIP;
            snprintf(name, sizeof name, "%s.SYMMETRIC_NO_CLIPPING_ERR", kinds[k].name);
            if (kinds[k].is_signed)
                check_case(&g, name, "x", &f, &o);
        }
        ht_row_options o = ht_row_options_default();
        o.arithmetic = types[t].dtype;
        ht_format f = unpacked(HT_U4, 32, types[t].dtype, types[t].dtype);
        check_case(&g, "tinygemm", "x", &f, &o);
        o.raw_range = 1;
        f.zero = HT_I32;
        check_case(&g, "nozero_uint4", "x", &f, &o);
        golden_close(&g);
    }
}

static void test_golden_intx(void) {
    static const char *const maps[] = {"SYMMETRIC", "ASYMMETRIC", "SYMMETRIC_NO_CLIPPING_ERR"};
    for (size_t t = 0; t < 2; t++) {
        char path[64], name[64];
        snprintf(path, sizeof path, "formats/intx_%s.safetensors", types[t].suffix);
        golden g = golden_open(path);
        for (int bits = 1; bits <= 8; bits++)
            for (uint32_t group = 32; group <= (bits == 4 ? 128u : 32u); group *= 2)
                for (int map = 0; map < (bits == 1 ? 2 : 3); map++) {
                    ht_row_options o = ht_row_options_default();
                    o.arithmetic = types[t].dtype;
                    o.int_rule = map == 2 ? HT_INT_NO_CLIP : HT_INT_SYMMETRIC;
                    ht_format f =
                        unpacked(element_of(1, bits), group, types[t].dtype, map == 1 ? HT_I8 : HT_DTYPE_NONE);
                    snprintf(name, sizeof name, "int%d.g%u.%s", bits, (unsigned)group, maps[map]);
                    check_case(&g, name, "x", &f, &o);
                }
        golden_close(&g);
    }
}

static void test_golden_int8(void) {
    static const struct {
        const char *name;
        uint32_t block_rows, block_cols;
        int asymmetric, qmin, qmax;
    } cases[] = {{"w_row_sym", 1, 0, 0, 0, 0},       {"w_tensor_sym", 0, 0, 0, 0, 0},
                 {"w_group32_sym", 1, 32, 0, 0, 0},  {"act_row_asym", 1, 0, 1, 0, 0},
                 {"act_tensor_asym", 0, 0, 1, 0, 0}, {"act_row_sym_reduced", 1, 0, 0, -64, 63}};
    for (size_t t = 0; t < 2; t++) {
        char path[64];
        snprintf(path, sizeof path, "formats/int8_%s.safetensors", types[t].suffix);
        golden g = golden_open(path);
        for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
            ht_row_options o = ht_row_options_default();
            o.arithmetic = types[t].dtype;
            o.epsilon = 0x1p-23f;
            o.qmin = cases[c].qmin;
            o.qmax = cases[c].qmax;
            ht_format f = unpacked(HT_I8, cases[c].block_cols, HT_F32, cases[c].asymmetric ? HT_I8 : HT_DTYPE_NONE);
            f.block_rows = cases[c].block_rows;
            check_case(&g, cases[c].name, "x", &f, &o);
        }
        golden_close(&g);
    }
}

/* [K/g, N] against [N, K/g]. */
static void check_transposed(const golden *g, const char *name, const float *scales, size_t rows, size_t groups) {
    const golden_tensor *t = golden_find(g, name);
    if (!t)
        return;
    float *want = golden_f32(t);
    size_t wrong = 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t k = 0; k < groups; k++)
            wrong += ht_round_to(t->dtype, scales[r * groups + k]) != want[k * rows + r];
    if (!CHECK_INT(wrong, 0))
        printf("  %s\n", name);
    free(want);
}

/* The plain int4 tensor: f32 scales while encoding, rounded to the weight's type when stored. */
static void test_golden_int4_plain(void) {
    for (size_t t = 0; t < 2; t++) {
        char path[64], name[64];
        snprintf(path, sizeof path, "formats/int4_plain_%s.safetensors", types[t].suffix);
        golden g = golden_open(path);
        const golden_tensor *w = golden_find(&g, "w");
        REQUIRE(w);
        size_t rows = golden_rows(w), cols = golden_cols(w);
        for (uint32_t group = 32; group <= 128; group *= 2)
            for (int sym = 0; sym < 2; sym++) {
                ht_row_options o = ht_row_options_default();
                o.int_rule = HT_INT_FULL;
                o.code_rule = HT_CODE_DIVIDE;
                ht_format f = unpacked(HT_I4, group, HT_F32, sym ? HT_DTYPE_NONE : HT_F32);
                buffers b = allocate(&f, rows, cols), packed = allocate(&f, rows, cols);
                const golden_tensor *q = golden_findf(&g, "%s.g%u.q", sym ? "sym" : "zp", (unsigned)group);
                const golden_tensor *p = golden_findf(&g, "%s.g%u.packed", sym ? "sym" : "zp", (unsigned)group);
                REQUIRE(q && p);
                REQUIRE_OK(ht_format_quantize(&f, &o, w->data, w->dtype, rows, cols, &b.p));
                CHECK_BYTES(b.p.plane[HT_PLANE_CODES], q->data, q->bytes);
                f.packing = HT_PACK_LOW;
                REQUIRE_OK(ht_format_quantize(&f, &o, w->data, w->dtype, rows, cols, &packed.p));
                CHECK_BYTES(packed.p.plane[HT_PLANE_CODES], p->data, p->bytes);
                snprintf(name, sizeof name, "%s.g%u.scale", sym ? "sym" : "zp", (unsigned)group);
                check_transposed(&g, name, b.p.plane[HT_PLANE_SCALES], rows, cols / group);
                snprintf(name, sizeof name, "zp.g%u.zero", (unsigned)group);
                if (!sym)
                    check_transposed(&g, name, b.p.plane[HT_PLANE_ZEROS], rows, cols / group);
                release(&b);
                release(&packed);
            }
        golden_close(&g);
    }
}

static void test_golden_tinygemm(void) {
    for (size_t t = 0; t < 2; t++) {
        char path[64], name[64];
        snprintf(path, sizeof path, "formats/int4_tinygemm_hqq_%s.safetensors", types[t].suffix);
        golden g = golden_open(path);
        for (uint32_t group = 32; group <= 128; group *= 2) {
            ht_row_options o = ht_row_options_default();
            o.arithmetic = types[t].dtype;
            ht_format f = unpacked(HT_U4, group, types[t].dtype, types[t].dtype);
            snprintf(name, sizeof name, "tinygemm.g%u", (unsigned)group);
            check_case(&g, name, "w", &f, &o);
            f.packing = HT_PACK_HIGH;
            const golden_tensor *w = golden_find(&g, "w");
            const golden_tensor *p = golden_findf(&g, "%s.packed_high_first", name);
            REQUIRE(w && p);
            buffers b = allocate(&f, golden_rows(w), golden_cols(w));
            REQUIRE_OK(ht_format_quantize(&f, &o, w->data, w->dtype, golden_rows(w), golden_cols(w), &b.p));
            CHECK_BYTES(b.p.plane[HT_PLANE_CODES], p->data, p->bytes);
            release(&b);
        }
        golden_close(&g);
    }
}

static void test_golden_compressed_tensors(void) {
    for (size_t t = 0; t < 2; t++) {
        char path[64], name[64];
        snprintf(path, sizeof path, "formats/ct_int_fp8_%s.safetensors", types[t].suffix);
        golden g = golden_open(path);
        for (int bits = 4; bits <= 8; bits += 4)
            for (int asym = 0; asym < 2; asym++) {
                ht_row_options o = ht_row_options_default();
                o.arithmetic = types[t].dtype;
                o.code_rule = HT_CODE_DIVIDE;
                ht_format f = unpacked(element_of(1, bits), 64, types[t].dtype, asym ? HT_I8 : HT_DTYPE_NONE);
                snprintf(name, sizeof name, "w%d.g64.%s", bits, asym ? "asym" : "sym");
                check_case(&g, name, "w", &f, &o);
            }
        ht_row_options o = ht_row_options_default();
        o.arithmetic = types[t].dtype;
        o.code_rule = HT_CODE_DIVIDE;
        ht_format f = unpacked(HT_I8, 0, types[t].dtype, HT_DTYPE_NONE);
        check_case(&g, "w8.channel", "w", &f, &o);
        f = parse("fp8_row");
        f.scale = types[t].dtype;
        check_case(&g, "fp8.channel", "w", &f, &o);
        golden_close(&g);
    }
}

/* The example group of the formats specification, section 6.2. */
static void test_examples(void) {
    const float x[16] = {-1, .4f, 2.55f, 0};
    static const struct {
        const char *format;
        ht_int_rule rule;
        uint32_t scale;
        int zero, q[4];
    } cases[] = {{"int8_g16_bytes", HT_INT_SYMMETRIC, 0x3ca3d70a, 0, {-50, 20, 127, 0}},
                 {"int8_g16_bytes", HT_INT_NO_CLIP, 0x3ca47c2b, 0, {-50, 20, 127, 0}},
                 {"int8_g16_asym_bytes", HT_INT_SYMMETRIC, 0x3c64174a, -56, {-128, -27, 127, -56}},
                 {"int4_g16_bytes", HT_INT_SYMMETRIC, 0x3eae147b, 0, {-3, 1, 7, 0}},
                 {"int4_g16_bytes", HT_INT_NO_CLIP, 0x3eba83a8, 0, {-3, 1, 7, 0}},
                 {"uint4_g16_asym", HT_INT_SYMMETRIC, 0x3e7258bf, 4, {0, 6, 15, 4}}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        ht_format f = parse(cases[c].format);
        ht_row_options o = ht_row_options_default();
        o.int_rule = cases[c].rule;
        int8_t q[16], zero[1] = {0};
        float scale;
        ht_planes p = {{q, &scale, zero}};
        REQUIRE_OK(ht_format_quantize(&f, &o, x, HT_F32, 1, 16, &p));
        CHECK_INT(ht_f32_bits(scale), cases[c].scale);
        CHECK_INT(zero[0], cases[c].zero);
        for (size_t i = 0; i < 4; i++)
            CHECK_INT(q[i], cases[c].q[i]);
    }
}

/* Every width, packing and granularity reads back what a byte per code holds. */
static void test_packings_agree(void) {
    enum { ROWS = 3, COLS = 96 };
    float x[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(1, 0, i) + 0.3f;
    static const ht_packing packings[] = {HT_PACK_WORDS, HT_PACK_BITS, HT_PACK_LOW, HT_PACK_HIGH};
    static const uint32_t groups[] = {16, 32, 0};
    static const ht_dtype zeros[] = {HT_DTYPE_NONE, HT_I8, HT_F32};
    for (int bits = 1; bits <= 8; bits++)
        for (size_t k = 0; k < 4; k++)
            for (size_t v = 0; v < 18; v++) {
                ht_format f = unpacked(element_of(v % 2 == 0, bits), groups[v / 2 % 3], HT_F32, zeros[v / 6]);
                if ((packings[k] == HT_PACK_LOW || packings[k] == HT_PACK_HIGH) && bits != 4)
                    continue;
                if (f.zero == HT_I8 && v % 2)
                    f.zero = HT_U8;
                buffers a = allocate(&f, ROWS, COLS);
                REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, ROWS, COLS, &a.p));
                REQUIRE_OK(ht_format_dequantize(&f, &a.p, ROWS, COLS, a.y));
                f.packing = packings[k];
                buffers b = allocate(&f, ROWS, COLS);
                REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, ROWS, COLS, &b.p));
                REQUIRE_OK(ht_format_dequantize(&f, &b.p, ROWS, COLS, b.y));
                CHECK_F32(b.y, a.y, ROWS * COLS);
                /* The error of every value is at most half a step, unless symmetric clipping took more. */
                if (f.zero != HT_DTYPE_NONE)
                    for (size_t i = 0; i < ROWS * COLS; i++) {
                        size_t block = groups[v / 2 % 3] ? i / groups[v / 2 % 3] : i / COLS;
                        float scale = ((float *)a.p.plane[HT_PLANE_SCALES])[block];
                        if (!CHECK(fabsf(a.y[i] - x[i]) <= scale * (f.zero == HT_F32 ? 0.501f : 1.001f)))
                            break;
                    }
                release(&a);
                release(&b);
            }
}

static void test_defined_results(void) {
    static const char *const names[] = {"int8_row",       "int4_g32",           "int4_g32_asym", "int4_g32_float0",
                                        "uint4_g32_asym", "int1_g32",           "int2_g32_asym", "int8_row_asym",
                                        "uint8_g32",      "int4_g32_scale_bf16"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++)
        for (int rule = 0; rule <= HT_INT_FULL; rule++) {
            ht_format f = parse(names[n]);
            ht_row_options o = ht_row_options_default();
            o.int_rule = (ht_int_rule)rule;
            float x[7 * 32] = {0};
            for (size_t i = 192; i < 224; i++) /* a range that does not fit in f32 */
                x[i] = i % 2 ? 3e38f : -3e38f;
            x[32] = NAN;
            x[64] = -INFINITY;
            for (size_t i = 96; i < 128; i++)
                x[i] = i % 2 ? 1e38f : -1e38f;
            for (size_t i = 128; i < 160; i++)
                x[i] = 0x1p-140f; /* subnormal */
            for (size_t i = 160; i < 192; i++)
                x[i] = 5; /* constant */
            buffers b = allocate(&f, 7, 32);
            REQUIRE_OK(ht_format_quantize(&f, &o, x, HT_F32, 7, 32, &b.p));
            REQUIRE_OK(ht_format_dequantize(&f, &b.p, 7, 32, b.y));
            for (size_t i = 0; i < 32; i++)
                CHECK(b.y[i] == 0);
            for (size_t i = 32; i < 96; i++)
                CHECK(isnan(b.y[i]));
            for (size_t i = 96; i < 224; i++)
                CHECK(isfinite(b.y[i]));
            release(&b);
        }
}

static double squared_error(const ht_format *f, const ht_row_options *o, const float *x, size_t rows, size_t cols) {
    buffers b = allocate(f, rows, cols);
    CHECK_OK(ht_format_quantize(f, o, x, HT_F32, rows, cols, &b.p));
    CHECK_OK(ht_format_dequantize(f, &b.p, rows, cols, b.y));
    double sum = 0;
    for (size_t i = 0; i < rows * cols; i++)
        sum += ((double)b.y[i] - (double)x[i]) * ((double)b.y[i] - (double)x[i]);
    release(&b);
    return sum;
}

static void test_mse_search(void) {
    enum { ROWS = 16, COLS = 128 };
    static float x[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(4, 0, i);
    static const char *const names[] = {"int4_g128", "int3_g128", "int2_g64_asym", "int4_g32_float0", "int4_tensor"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        ht_format f = parse(names[n]);
        ht_row_options o = ht_row_options_default(), mse = o;
        mse.scale_rule = HT_SCALE_MSE;
        double plain = squared_error(&f, &o, x, ROWS, COLS), searched = squared_error(&f, &mse, x, ROWS, COLS);
        CHECK(searched < plain);
    }
}

/* A matrix with one scale, in slices: the scale comes from the range of the whole. */
static void test_given_scale(void) {
    enum { ROWS = 4, COLS = 64 };
    float x[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++)
        x[i] = ht_random_normal(6, 0, i) - 0.2f;
    static const char *const names[] = {"int8_tensor", "int8_tensor_asym", "fp8_tensor", "int4_tensor_asym"};
    for (size_t n = 0; n < 4; n++) {
        ht_format f = parse(names[n]);
        buffers a = allocate(&f, ROWS, COLS), b = allocate(&f, ROWS, COLS);
        REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, ROWS, COLS, &a.p));
        ht_range range = ht_range_empty();
        REQUIRE_OK(ht_range_add(&range, x, HT_F32, ROWS * COLS));
        ht_row_options o = ht_row_options_default();
        REQUIRE_OK(ht_format_scale(&f, NULL, &range, &o.scale, &o.zero));
        for (size_t r = 0; r < ROWS; r++) {
            ht_planes at = ht_planes_at_row(&f, &b.p, COLS, r);
            REQUIRE_OK(ht_format_quantize(&f, &o, x + r * COLS, HT_F32, 1, COLS, &at));
        }
        for (int plane = 0; plane < 3; plane++)
            CHECK_BYTES(b.p.plane[plane], a.p.plane[plane], ht_format_plane_bytes(&f, (ht_plane)plane, ROWS, COLS));
        release(&a);
        release(&b);
    }
}

static void test_slices_and_types(void) {
    enum { ROWS = 5, COLS = 64 };
    uint16_t half[ROWS * COLS];
    float x[ROWS * COLS];
    for (size_t i = 0; i < ROWS * COLS; i++) {
        half[i] = ht_bf16_from_f32(ht_random_normal(8, 0, i));
        x[i] = ht_f32_from_bf16(half[i]);
    }
    static const char *const names[] = {"int4_g32", "int3_g64_asym", "int8_row", "fp8_row", "fp8_g32", "int5_row"};
    for (size_t n = 0; n < sizeof names / sizeof *names; n++) {
        ht_format f = parse(names[n]);
        buffers a = allocate(&f, ROWS, COLS), b = allocate(&f, ROWS, COLS);
        REQUIRE_OK(ht_format_quantize(&f, NULL, x, HT_F32, ROWS, COLS, &a.p));
        for (size_t r = 0; r < ROWS; r++) {
            ht_planes at = ht_planes_at_row(&f, &b.p, COLS, r);
            REQUIRE_OK(ht_format_quantize(&f, NULL, half + r * COLS, HT_BF16, 1, COLS, &at));
        }
        for (int plane = 0; plane < 3; plane++)
            CHECK_BYTES(b.p.plane[plane], a.p.plane[plane], ht_format_plane_bytes(&f, (ht_plane)plane, ROWS, COLS));
        release(&a);
        release(&b);
    }
}

static void test_refusals(void) {
    ht_format f = parse("int4_g32");
    CHECK_FAILS(ht_format_check_shape(&f, 2, 33), HT_ERR_SHAPE);
    CHECK_CONTAINS(ht_error_message(), "33");
    f.block_cols = 20;
    CHECK_FAILS(ht_format_check_shape(&f, 2, 40), HT_ERR_SHAPE);
    f = parse("int3_g32");
    f.packing = HT_PACK_LOW;
    CHECK_FAILS(ht_format_check_shape(&f, 2, 32), HT_ERR_FORMAT);
    f = parse("int4_row");
    CHECK_OK(ht_format_check_shape(&f, 2, 33));
    f.scale = HT_E8M0;
    CHECK_FAILS(ht_format_check_shape(&f, 2, 32), HT_ERR_FORMAT);
    f.element = HT_I16;
    CHECK_FAILS(ht_format_check_shape(&f, 2, 32), HT_ERR_FORMAT);
}

int main(void) {
    RUN(test_golden_affine);
    RUN(test_golden_intx);
    RUN(test_golden_int8);
    RUN(test_golden_int4_plain);
    RUN(test_golden_tinygemm);
    RUN(test_golden_compressed_tensors);
    RUN(test_examples);
    RUN(test_packings_agree);
    RUN(test_defined_results);
    RUN(test_mse_search);
    RUN(test_given_scale);
    RUN(test_slices_and_types);
    RUN(test_refusals);
    return check_finish();
}
