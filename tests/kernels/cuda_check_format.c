/* Casts to and from the library's formats against the library's own CPU encoders and decoders, byte for byte, on random
 * values of all sizes with zeros, Inf and NaN among them; the casts of weight gradients against their definitions; then
 * the rates beside a device copy.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cuda_check.h"
#include "format/nvfp4.h"
#include "format/training_casts.h"
#include "kernels/cuda/cuda.h"

/* Values of many sizes in f32; runs of 16 with one size, some zero, some with Inf or NaN. */
static float *wild(size_t count, int tame) {
    float *x = malloc(count * 4);
    for (size_t i = 0; i < count; i += 16) {
        uint64_t r = cuda_random();
        float factor = (float)ldexp(1, tame ? (int)(r % 12) - 6 : (int)(r % 240) - 140);
        for (size_t j = i; j < i + 16 && j < count; j++)
            x[j] = r % 13 == 0 ? 0.0f * (r >> 40 & 1 ? 1.0f : -1.0f) : cuda_random_normal() * factor;
        if (!tame && r % 211 == 0)
            x[i] = r >> 50 & 1 ? (float)INFINITY : (float)NAN;
    }
    return x;
}

static uint16_t *to_bf16(const float *x, size_t count) {
    uint16_t *y = malloc(count * 2);
    for (size_t i = 0; i < count; i++)
        y[i] = cuda_bf16(x[i]);
    return y;
}

typedef struct cast_case {
    const char *name;
    ht_scale_rule rule;
    ht_nvfp4_rule nvfp4;
    ht_int_rule integer;
    int tiled, transposed;
} cast_case;

static size_t plane_bytes(const ht_format *f, ht_plane p, size_t rows, size_t cols) {
    return ht_format_plane_bytes(f, p, rows, cols);
}

static size_t different(const uint8_t *a, const uint8_t *b, size_t bytes) {
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += a[i] != b[i];
    return count;
}

/* What the CPU writes, with its scales in the order that the GPU was asked for. */
typedef struct wanted {
    uint8_t *codes, *scales;
    size_t code_bytes, scale_bytes;
    float global;
} wanted;

static wanted on_cpu(const cast_case *c, const ht_format *f, const ht_row_options *o, const void *x, ht_dtype dtype,
                     size_t rows, size_t cols, size_t lds) {
    wanted w = {.code_bytes = plane_bytes(f, HT_PLANE_CODES, rows, cols),
                .scale_bytes = plane_bytes(f, HT_PLANE_SCALES, rows, cols)};
    size_t shape[2];
    ht_range range = ht_range_empty();
    w.codes = malloc(w.code_bytes), w.scales = calloc(1, w.scale_bytes);
    cuda_must(ht_range_add(&range, x, dtype, rows * cols), "range");
    w.global = ht_format_global(f, o, &range);
    ht_planes planes = {{[HT_PLANE_CODES] = w.codes, [HT_PLANE_SCALES] = w.scales, [HT_PLANE_GLOBAL] = &w.global}};
    cuda_must(ht_format_quantize(f, o, x, dtype, rows, cols, &planes), "CPU cast");
    ht_format_plane_shape(f, HT_PLANE_SCALES, rows, cols, shape);
    if (c->tiled) {
        uint8_t *tiles = calloc(1, ht_swizzle_bytes(shape[0], shape[1]));
        ht_swizzle_scales(w.scales, shape[0], shape[1], tiles);
        free(w.scales);
        w.scales = tiles;
        w.scale_bytes = ht_swizzle_bytes(shape[0], shape[1]);
    }
    if (c->transposed) {
        uint32_t *turned = malloc(shape[1] * lds * 4);
        memset(turned, 0xA5, shape[1] * lds * 4);
        for (size_t r = 0; r < shape[0]; r++)
            for (size_t b = 0; b < shape[1]; b++)
                memcpy(&turned[b * lds + r], w.scales + (r * shape[1] + b) * 4, 4);
        free(w.scales);
        w.scales = (uint8_t *)turned;
        w.scale_bytes = shape[1] * lds * 4;
    }
    return w;
}

static void check_decode(const char *name, const ht_format *f, ht_planes planes, const ht_planes *device, size_t rows,
                         size_t cols) {
    size_t wrong = 0, wrong16 = 0, count = rows * cols;
    float *want = malloc(count * 4);
    cuda_must(ht_format_dequantize(f, &planes, rows, cols, want), "CPU decoder");
    cuda_guarded out = cuda_guarded_new(count * 4), out16 = cuda_guarded_new(count * 2);
    cuda_must(ht_cuda_decode(f, device, rows, cols, out.at, HT_F32, NULL), "decode");
    cuda_must(ht_cuda_decode(f, device, rows, cols, out16.at, HT_BF16, NULL), "decode");
    uint32_t *got = cuda_guarded_take(&out, "decoded"), *bits = (uint32_t *)(void *)want;
    uint16_t *got16 = cuda_guarded_take(&out16, "decoded");
    for (size_t i = 0; i < count; i++) {
        wrong += isnan(want[i]) ? (got[i] & 0x7fffffff) <= 0x7f800000 : got[i] != bits[i];
        wrong16 += isnan(want[i]) ? (got16[i] & 0x7fff) <= 0x7f80 : got16[i] != cuda_bf16(want[i]);
    }
    cuda_verdict(!wrong && !wrong16, "decode %s [%zu, %zu]: %zu f32 and %zu bf16 values differ from the CPU's", name,
                 rows, cols, wrong, wrong16);
    free(want), free(got), free(got16);
}

static void check_one(const cast_case *c, ht_dtype dtype, size_t rows, size_t cols) {
    ht_format f;
    ht_row_options o = ht_row_options_default();
    cuda_must(ht_format_parse(c->name, &f), "format");
    o.scale_rule = c->rule;
    o.nvfp4_rule = c->nvfp4;
    o.int_rule = c->integer;
    /* a NaN anywhere spoils a matrix with one scale */
    float *values = wild(rows * cols, f.block_rows != 1 || f.block_cols == 0);
    uint16_t *halves = to_bf16(values, rows * cols);
    const void *x = dtype == HT_F32 ? (void *)values : halves;
    size_t lds = c->transposed ? (rows + 3) / 4 * 4 : 0;
    wanted w = on_cpu(c, &f, &o, x, dtype, rows, cols, lds);
    void *dx = cuda_upload(x, rows * cols * (dtype == HT_F32 ? 4 : 2)), *scratch = cuda_new(256);
    void *global = cuda_upload("\0\0\0", 4);
    cuda_guarded codes = cuda_guarded_new(w.code_bytes), scales = cuda_guarded_new(w.scale_bytes);
    if (f.global != HT_DTYPE_NONE) {
        float got;
        cuda_must(ht_cuda_amax(dx, dtype, rows * cols, 1, scratch, NULL), "amax");
        cuda_must(ht_cuda_nvfp4_global(&f, &o, scratch, global, NULL), "global");
        cuda_download(&got, global, 4);
        if (memcmp(&got, &w.global, 4) != 0)
            cuda_verdict(0, "cast %s: number of the matrix %g, not %g", c->name, (double)got, (double)w.global);
    }
    ht_cuda_cast_args args = {
        .format = &f,
        .options = &o,
        .x = dx,
        .x_dtype = dtype,
        .rows = rows,
        .cols = cols,
        .planes = {{[HT_PLANE_CODES] = codes.at, [HT_PLANE_SCALES] = scales.at, [HT_PLANE_GLOBAL] = global}},
        .tiled_scales = c->tiled,
        .lds = lds,
        .scratch = scratch};
    cuda_must(ht_cuda_cast(&args, NULL), c->name);
    cuda_must(ht_device_finish(cuda_device, NULL), c->name);
    if (!c->tiled && !c->transposed) {
        ht_planes host = {{[HT_PLANE_CODES] = w.codes, [HT_PLANE_SCALES] = w.scales, [HT_PLANE_GLOBAL] = &w.global}};
        check_decode(c->name, &f, host, &args.planes, rows, cols);
    }
    uint8_t *got_codes = cuda_guarded_take(&codes, c->name), *got_scales = cuda_guarded_take(&scales, c->name);
    size_t bad_codes = different(got_codes, w.codes, w.code_bytes);
    size_t bad_scales = different(got_scales, w.scales, w.scale_bytes);
    cuda_verdict(!bad_codes && !bad_scales,
                 "cast %s%s%s rule %d/%d/%d from %s [%zu, %zu]: %zu code and %zu scale bytes differ from the CPU's",
                 c->name, c->tiled ? " tiled" : "", c->transposed ? " transposed" : "", (int)c->rule, (int)c->nvfp4,
                 (int)c->integer, ht_dtype_name(dtype), rows, cols, bad_codes, bad_scales);
    free(values), free(halves), free(w.codes), free(w.scales), free(got_codes), free(got_scales);
    cuda_delete(dx), cuda_delete(scratch), cuda_delete(global);
}

/* Stochastic rounding: the scales do not change, the codes are those of the CPU's draws. */
static void check_stochastic(size_t rows, size_t cols) {
    const uint64_t seed = 0x123456789abcdefu, stream = 77;
    const cast_case c = {.name = "nvfp4", .nvfp4 = HT_NVFP4_TRAINING};
    ht_format f;
    ht_row_options o = ht_row_options_default();
    o.nvfp4_rule = HT_NVFP4_TRAINING;
    cuda_must(ht_format_parse("nvfp4", &f), "format");
    float *x = wild(rows * cols, 1), *scaled = malloc(rows * cols * 4);
    uint8_t *codes = malloc(rows * cols);
    wanted w = on_cpu(&c, &f, &o, x, HT_F32, rows, cols, 0);
    for (size_t i = 0; i < rows * cols; i++) {
        float scale = ht_element_decode(HT_F8_E4M3, w.scales[i / 16]), factor = 1 / (scale * (1 / w.global));
        scaled[i] = x[i] * (factor < 3.40282347e38f ? factor : 3.40282347e38f);
    }
    ht_nvfp4_encode_stochastic(scaled, rows * cols, seed, stream, 0, codes);
    for (size_t i = 0; i < rows * cols / 2; i++)
        w.codes[i] = (uint8_t)(codes[2 * i] | codes[2 * i + 1] << 4);
    void *dx = cuda_upload(x, rows * cols * 4), *global = cuda_upload(&w.global, 4);
    cuda_guarded out = cuda_guarded_new(w.code_bytes), scales = cuda_guarded_new(w.scale_bytes);
    ht_cuda_cast_args args = {
        .format = &f,
        .options = &o,
        .x = dx,
        .x_dtype = HT_F32,
        .rows = rows,
        .cols = cols,
        .planes = {{[HT_PLANE_CODES] = out.at, [HT_PLANE_SCALES] = scales.at, [HT_PLANE_GLOBAL] = global}},
        .stochastic = 1,
        .seed = seed,
        .stream = stream};
    cuda_must(ht_cuda_cast(&args, NULL), "stochastic cast");
    uint8_t *got = cuda_guarded_take(&out, "stochastic"), *got_scales = cuda_guarded_take(&scales, "stochastic");
    size_t bad = different(got, w.codes, w.code_bytes) + different(got_scales, w.scales, w.scale_bytes);
    cuda_verdict(!bad, "cast nvfp4 stochastic [%zu, %zu]: %zu bytes differ from the CPU's", rows, cols, bad);
    free(x), free(scaled), free(codes), free(w.codes), free(w.scales), free(got), free(got_scales);
    cuda_delete(dx), cuda_delete(global);
}

static void check_hadamard(size_t rows, size_t cols) {
    float *values = wild(rows * cols, 1), *want = malloc(rows * cols * 4);
    uint16_t *x = to_bf16(values, rows * cols);
    size_t bad = 0;
    cuda_must(ht_nvfp4_hadamard(x, HT_BF16, rows, cols, NULL, want), "CPU transform");
    void *dx = cuda_upload(x, rows * cols * 2);
    cuda_guarded out = cuda_guarded_new(rows * cols * 2);
    cuda_must(ht_cuda_nvfp4_hadamard(dx, rows, cols, NULL, out.at, NULL), "transform");
    uint16_t *got = cuda_guarded_take(&out, "transform");
    for (size_t i = 0; i < rows * cols; i++)
        bad += got[i] != cuda_bf16(want[i]);
    cuda_verdict(!bad, "transform [%zu, %zu]: %zu values differ from the CPU's", rows, cols, bad);
    free(values), free(want), free(x), free(got);
    cuda_delete(dx);
}

static void check_jagged(size_t rows, size_t cols, int groups, const int32_t *ends, int power_of_two) {
    float *values = wild(rows * cols, 0);
    uint16_t *x = to_bf16(values, rows * cols);
    void *dx = cuda_upload(x, rows * cols * 2), *dends = cuda_upload(ends, (size_t)groups * 4);
    cuda_guarded codes = cuda_guarded_new(rows * cols), scales = cuda_guarded_new((size_t)groups * cols * 4);
    cuda_must(ht_cuda_cast_fp8_jagged(dx, rows, cols, dends, (size_t)groups, power_of_two, codes.at, scales.at, NULL),
              "jagged cast");
    uint8_t *got = cuda_guarded_take(&codes, "jagged codes");
    float *got_scales = cuda_guarded_take(&scales, "jagged scales");
    size_t bad = 0;
    for (size_t c = 0; c < cols; c++) {
        size_t at = 0;
        for (int g = 0; g < groups; g++) {
            float amax = 0;
            for (size_t r = at; r < (size_t)ends[g]; r++) {
                float a = fabsf(cuda_bf16_value(x[r * cols + c]));
                amax = isnan(a) || isnan(amax) ? NAN : a > amax ? a : amax;
            }
            float scale = ht_float8_train_scale(HT_F8_E4M3, amax, power_of_two),
                  have = got_scales[(size_t)g * cols + c];
            bad += isnan(scale) ? !isnan(have) : memcmp(&scale, &have, 4) != 0;
            for (; at < (size_t)ends[g]; at++)
                bad += got[c * rows + at] != cuda_e4m3(cuda_bf16_value(x[at * cols + c]) * scale);
        }
        for (; at < rows; at++)
            bad += got[c * rows + at] != 0xA5;
    }
    cuda_verdict(!bad, "jagged cast [%zu, %zu], %d groups, power of two %d: %zu differences", rows, cols, groups,
                 power_of_two, bad);
    free(values), free(x), free(got), free(got_scales);
    cuda_delete(dx), cuda_delete(dends);
}

static void check_fold(size_t rows, size_t cols, int squares) {
    size_t across = cols / 128, lds = squares ? 0 : (rows + 3) / 4 * 4, down = (rows + 127) / 128, bad = 0;
    uint8_t *codes = cuda_random_bytes(rows * cols), *scales = cuda_random_bytes(rows * cols / 32);
    for (size_t i = 0; i < rows * cols / 32; i++)
        scales[i] = (uint8_t)(scales[i] % 61 == 0 ? scales[i] : 110 + scales[i] % 16);
    void *dcodes = cuda_upload(codes, rows * cols), *dscales = cuda_upload(scales, rows * cols / 32);
    cuda_guarded out = cuda_guarded_new(rows * cols), folded = cuda_guarded_new((squares ? down : lds) * across * 4);
    cuda_must(ht_cuda_fold_mxfp8(dcodes, dscales, rows, cols, out.at, folded.at, lds, NULL), "fold");
    uint8_t *got = cuda_guarded_take(&out, "folded codes");
    float *got_scales = cuda_guarded_take(&folded, "folded scales");
    for (size_t r = 0; r < rows; r++)
        for (size_t b = 0; b < across; b++) {
            unsigned largest = 0;
            for (size_t i = squares ? r / 128 * 128 : r; i < (squares ? r / 128 * 128 + 128 : r + 1) && i < rows; i++)
                for (size_t j = 0; j < 4; j++)
                    largest = scales[(i * across + b) * 4 + j] > largest ? scales[(i * across + b) * 4 + j] : largest;
            float have = got_scales[squares ? r / 128 * across + b : b * lds + r];
            float want = largest == 255 ? NAN : (float)ldexp(1, (int)largest - 127);
            bad += isnan(want) ? !isnan(have) : have != want;
            for (size_t i = 0; i < 128; i++) {
                size_t at = r * cols + b * 128 + i;
                int down_by = (int)largest - scales[at / 32];
                uint8_t code = down_by ? cuda_e4m3(cuda_e4m3_value(codes[at]) * (float)ldexp(1, -down_by)) : codes[at];
                bad += got[at] != code && (got[at] & 0x7f) != 0x7f;
            }
        }
    cuda_verdict(!bad, "fold [%zu, %zu] %s: %zu differences", rows, cols, squares ? "128 x 128" : "1 x 128", bad);
    free(codes), free(scales), free(got), free(got_scales);
    cuda_delete(dcodes), cuda_delete(dscales);
}

void cuda_check_format(void) {
    static const cast_case cases[] = {
        {.name = "mxfp8", .rule = HT_SCALE_RCEIL},
        {.name = "mxfp8", .rule = HT_SCALE_FLOOR, .tiled = 1},
        {.name = "mxfp8_e5m2", .rule = HT_SCALE_FLOOR},
        {.name = "mxfp8_e5m2", .rule = HT_SCALE_RCEIL},
        {.name = "mxfp8_e5m2", .rule = HT_SCALE_EVEN},
        {.name = "mxfp4", .rule = HT_SCALE_FLOOR},
        {.name = "mxfp4", .rule = HT_SCALE_RCEIL, .tiled = 1},
        {.name = "mxfp4", .rule = HT_SCALE_RCEIL},
        {.name = "mxfp4", .rule = HT_SCALE_CEIL},
        {.name = "mxfp4", .rule = HT_SCALE_EVEN},
        {.name = "nvfp4", .nvfp4 = HT_NVFP4_TRAINING},
        {.name = "nvfp4", .nvfp4 = HT_NVFP4_TRAINING, .tiled = 1},
        {.name = "nvfp4", .nvfp4 = HT_NVFP4_INFERENCE},
        {.name = "nvfp4_pts", .nvfp4 = HT_NVFP4_INFERENCE},
        {.name = "nvfp4_pts", .nvfp4 = HT_NVFP4_TRAINING},
        {.name = "nvfp4_single", .nvfp4 = HT_NVFP4_INFERENCE},
        {.name = "nvfp4_tile", .nvfp4 = HT_NVFP4_TRAINING},
        {.name = "fp8_row"},
        {.name = "fp8_tensor"},
        {.name = "fp8_block"},
        {.name = "fp8_g128"},
        {.name = "fp8_g128", .transposed = 1},
        {.name = "fp8_g32"},
        {.name = "fp8_e5m2_row"},
        {.name = "fp8_e5m2_tensor"},
        {.name = "fp8_e5m2_block"},
        {.name = "int8_row"},
        {.name = "int8_tensor"},
        {.name = "int8_g64"},
        {.name = "int8_row", .integer = HT_INT_FULL},
        {.name = "int4_g128"},
        {.name = "int4_g32_low"},
        {.name = "int4_g128", .integer = HT_INT_FULL},
        {.name = "int4_row"},
    };
    static const size_t shapes[][2] = {{1, 128}, {48, 384}, {272, 1280}};
    static const int32_t ends[] = {16, 16, 176, 700, 1200}, odd[] = {0, 3, 130, 131, 640};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        for (size_t s = 0; s < 3; s++) {
            ht_format f;
            cuda_must(ht_format_parse(cases[i].name, &f), cases[i].name);
            if (ht_format_check_shape(&f, shapes[s][0], shapes[s][1]) != HT_OK || (f.block_rows == 16 && s == 0))
                continue;
            check_one(&cases[i], HT_BF16, shapes[s][0], shapes[s][1]);
            check_one(&cases[i], HT_F32, shapes[s][0], shapes[s][1]);
        }
    check_stochastic(48, 384);
    check_stochastic(3, 16);
    check_hadamard(16, 8), check_hadamard(272, 200), check_hadamard(128, 1024);
    for (int pow2 = 0; pow2 < 2; pow2++) {
        check_jagged(1200, 192, 5, ends, pow2);
        check_jagged(700, 64, 5, odd, pow2);
        check_fold(5, 384, pow2), check_fold(300, 1024, pow2);
    }
    ht_format f;
    cuda_must(ht_format_parse("q4_k", &f), "format");
    ht_cuda_cast_args bad = {.format = &f, .x_dtype = HT_F32, .rows = 4, .cols = 256};
    cuda_verdict(ht_cuda_cast(&bad, NULL) == HT_ERR_UNSUPPORTED, "cast to q4_k refused");
}

/* --- Rates ------------------------------------------------------------------------------------------------------- */

typedef struct cast_job {
    ht_cuda_cast_args args;
    ht_format format;
    ht_row_options options;
    void *out;
} cast_job;

static ht_status run_cast(void *arg, int repeat) {
    (void)repeat;
    return ht_cuda_cast(&((cast_job *)arg)->args, NULL);
}

static ht_status run_decode(void *arg, int repeat) {
    const cast_job *j = arg;
    (void)repeat;
    return ht_cuda_decode(&j->format, &j->args.planes, j->args.rows, j->args.cols, j->out, HT_BF16, NULL);
}

static ht_status run_hadamard(void *arg, int repeat) {
    const cast_job *j = arg;
    (void)repeat;
    return ht_cuda_nvfp4_hadamard(j->args.x, j->args.rows, j->args.cols, NULL, j->out, NULL);
}

typedef struct jagged_job {
    void *x, *codes, *scales, *ends;
    size_t rows, cols, groups;
} jagged_job;

static ht_status run_jagged(void *arg, int repeat) {
    const jagged_job *j = arg;
    (void)repeat;
    return ht_cuda_cast_fp8_jagged(j->x, j->rows, j->cols, j->ends, j->groups, 1, j->codes, j->scales, NULL);
}

static void bench_jagged(void *x, void *copy, void *codes, void *scales) {
    static const size_t counts[] = {16, 128};
    jagged_job jobs[2];
    cuda_copy_job job = {copy, x, (size_t)16640 * 5120 * 2};
    double n = 16640.0 * 5120;
    cuda_contender contenders[3] = {{"device copy", cuda_copy_run, &job, 0, n * 4}};
    for (int i = 0; i < 2; i++) {
        int32_t ends[128];
        for (size_t g = 0; g < counts[i]; g++)
            ends[g] = (int32_t)(16640 / counts[i] * (g + 1));
        jobs[i] = (jagged_job){x, codes, scales, cuda_upload(ends, counts[i] * 4), 16640, 5120, counts[i]};
        contenders[i + 1] = (cuda_contender){i ? "128 groups" : "16 groups", run_jagged, &jobs[i], 0, n * 3};
    }
    cuda_measure("cast jagged columns to fp8 16640 x 5120", contenders, 3, 11, 8);
    for (int i = 0; i < 2; i++)
        cuda_delete(jobs[i].ends);
}

void cuda_bench_format(void) {
    static const struct {
        const char *label, *name;
        ht_scale_rule rule;
        double bytes; /* codes and scales of a value */
        int stochastic, decode;
    } rows[] = {
        {"mxfp4", "mxfp4", HT_SCALE_RCEIL, 0.53125, 0, 0},
        {"nvfp4", "nvfp4", HT_SCALE_DEFAULT, 0.5625, 0, 0},
        {"nvfp4 stochastic", "nvfp4", HT_SCALE_DEFAULT, 0.5625, 1, 0},
        {"nvfp4 16x16", "nvfp4_tile", HT_SCALE_DEFAULT, 0.504, 0, 0},
        {"fp8 tensor", "fp8_tensor", HT_SCALE_DEFAULT, 3, 0, 0}, /* reads twice */
        {"fp8 128x128", "fp8_block", HT_SCALE_DEFAULT, 1, 0, 0},
        {"fp8 e5m2 row", "fp8_e5m2_row", HT_SCALE_DEFAULT, 1, 0, 0},
        {"int8 row", "int8_row", HT_SCALE_DEFAULT, 1, 0, 0},
        {"int4 g128", "int4_g128", HT_SCALE_DEFAULT, 0.53125, 0, 0},
        {"mxfp4 to bf16", "mxfp4", HT_SCALE_RCEIL, 0.53125, 0, 1},
        {"nvfp4 to bf16", "nvfp4", HT_SCALE_DEFAULT, 0.5625, 0, 1},
        {"nf4 to bf16", "nf4_flat", HT_SCALE_DEFAULT, 0.5625, 0, 1},
        {"int4 g128 to bf16", "int4_g128", HT_SCALE_DEFAULT, 0.53125, 0, 1},
        {"fp8 row to bf16", "fp8_row", HT_SCALE_DEFAULT, 1, 0, 1},
    };
    enum { COUNT = sizeof rows / sizeof rows[0] };
    static cast_job jobs[COUNT];
    size_t n = 16384, count = n * n;
    uint16_t *x = cuda_random_bf16(count);
    float one = 1.0f;
    void *dx = cuda_upload(x, count * 2), *out = cuda_new(count * 2), *codes = cuda_new(count);
    void *scales = cuda_new(count / 4), *global = cuda_upload(&one, 4);
    cuda_copy_job copy = {out, dx, count * 2};
    cuda_contender contenders[16] = {{"device copy", cuda_copy_run, &copy, 0, (double)count * 4}};
    for (int half = 0; half < 2; half++) {
        int from = half ? 8 : 0, to = half ? COUNT : 8, c = 1;
        for (int i = from; i < to; i++, c++) {
            cast_job *j = &jobs[i];
            cuda_must(ht_format_parse(rows[i].name, &j->format), "format");
            j->options = ht_row_options_default();
            j->options.scale_rule = rows[i].rule;
            j->options.nvfp4_rule = HT_NVFP4_TRAINING;
            j->out = out;
            j->args = (ht_cuda_cast_args){
                .format = &j->format,
                .options = &j->options,
                .x = dx,
                .x_dtype = HT_BF16,
                .rows = n,
                .cols = n,
                .planes = {{[HT_PLANE_CODES] = codes, [HT_PLANE_SCALES] = scales, [HT_PLANE_GLOBAL] = global}},
                .stochastic = rows[i].stochastic,
                .scratch = out};
            contenders[c] = (cuda_contender){rows[i].label, rows[i].decode ? run_decode : run_cast, j, 0,
                                             (double)count * (2 + rows[i].bytes)};
        }
        if (half == 0)
            contenders[c++] = (cuda_contender){"hadamard, transposed", run_hadamard, &jobs[0], 0, (double)count * 4};
        cuda_measure(half ? "cast formats 16384 x 16384, second half" : "cast formats 16384 x 16384", contenders, c, 11,
                     3);
    }
    bench_jagged(dx, out, codes, scales);
    free(x);
    cuda_delete(dx), cuda_delete(out), cuda_delete(codes), cuda_delete(scales), cuda_delete(global);
}
