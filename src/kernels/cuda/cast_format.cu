/* Casts to the library's formats on the GPU: the same call as the CPU's ht_format_quantize, the same bits.
 *
 *   blocks   16 to 256 values of a row: flat, a thread eight values, the lanes of a block next to each other
 *   tiles    16 x 16 (NVFP4): a warp a tile
 *   rows     a block of threads a row; 16384 bf16 or 8192 f32 stay in registers, the rest is read twice
 *   squares  128 x 128: a block of threads, values stay in registers
 *   matrix   one scale: largest magnitude first (integer atomic maximum: its result has no order), then flat
 *
 * Byte scales go row by row or straight into the 128 x 4 tiles that later tensor cores read; padding of those is
 * written as zero by the launcher.
 *
 * Refuses: formats, rules and packings not in the table below; blocks that are not a power of two of values; matrices
 * of 2^31 blocks or more.
 * Source: formats specification, sections 2, 3 and 6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cast_octets.h"

#include <float.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum { THREADS = 256, LOADS = 4, SQUARE = 128, SQUARE_OCTETS = SQUARE * SQUARE / 8 / THREADS };

typedef enum shape { BLOCKS, TILES, ROWS, SQUARES, MATRIX } shape;

typedef struct cast_job {
    const void *x;
    uint8_t *codes;
    void *scales;
    const float *global;
    size_t rows, octets; /* octets of a row */
    int shift;           /* a block has 2^shift octets */
    uint32_t across;     /* blocks of a row */
    int tiled;           /* byte scales in 128 x 4 tiles */
    size_t lds;          /* f32 scales transposed, [blocks of a row, lds]; 0: row by row */
    ht_cast_rules rules;
} cast_job;

/* index: of the block, row by row. */
template <int SCALED>
static __device__ __forceinline__ void store_scale(const cast_job &job, uint32_t index, uint32_t stored) {
    if (SCALED == HT_SCALED_F32 || SCALED == HT_SCALED_INT) {
        const size_t at = job.lds ? index % job.across * job.lds + index / job.across : index;
        ((uint32_t *)job.scales)[at] = stored;
    } else if (job.tiled) {
        const uint32_t row = index / job.across, block = index % job.across;
        const size_t tile = (size_t)(row / 128) * ((job.across + 3) / 4) + block / 4;
        ((uint8_t *)job.scales)[tile * 512 + row % 32 * 16 + row % 128 / 32 * 4 + block % 4] = (uint8_t)stored;
    } else {
        ((uint8_t *)job.scales)[index] = (uint8_t)stored;
    }
}

template <int SCALED, int CODE, int F32>
static __global__ __launch_bounds__(THREADS) void block_kernel(const __grid_constant__ cast_job job) {
    const uint32_t warp = blockIdx.x * (THREADS / 32) + threadIdx.x / 32, total = job.rows * job.octets;
    const uint32_t first = warp * 32 * LOADS + threadIdx.x % 32;
    ht_octet<F32> v[LOADS] = {};
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        if (first + i * 32 < total)
            v[i] = ht_octet_load<F32>(job.x, first + i * 32);
    const ht_matrix_number number = ht_matrix_number_of<SCALED>(job.global);
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const uint32_t at = first + i * 32;
        uint32_t amax = ht_octet_amax<F32>(v[i]);
        for (int step = 1; step >> job.shift == 0; step *= 2)
            amax = max(amax, __shfl_xor_sync(~0u, amax, step));
        if (at >= total)
            continue;
        const ht_block_scale s = ht_scale_of<SCALED>(amax, job.rules, number);
        ht_octet_cast<CODE, F32>(v[i], s, job.rules, job.codes, at);
        if ((at & ((1u << job.shift) - 1)) == 0)
            store_scale<SCALED>(job, at >> job.shift, s.stored);
    }
}

/* 16 x 16: two lanes a row. */
template <int SCALED, int CODE, int F32>
static __global__ __launch_bounds__(THREADS) void tile_kernel(const __grid_constant__ cast_job job) {
    const size_t tile = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const size_t across = job.octets / 2, row = tile / across * 16 + threadIdx.x % 32 / 2;
    const size_t at = row * job.octets + tile % across * 2 + threadIdx.x % 2;
    const int inside = row < job.rows;
    ht_octet<F32> v = {};
    if (inside)
        v = ht_octet_load<F32>(job.x, at);
    const uint32_t amax = __reduce_max_sync(~0u, ht_octet_amax<F32>(v));
    const ht_block_scale s = ht_scale_of<SCALED>(amax, job.rules, ht_matrix_number_of<SCALED>(job.global));
    if (inside)
        ht_octet_cast<CODE, F32>(v, s, job.rules, job.codes, at);
    if (threadIdx.x % 32 == 0 && tile / across * 16 < job.rows)
        store_scale<SCALED>(job, (uint32_t)tile, s.stored);
}

static __device__ __forceinline__ uint32_t largest_of_block(uint32_t amax) {
    __shared__ uint32_t by_warp[THREADS / 32];
    amax = __reduce_max_sync(~0u, amax);
    if (threadIdx.x % 32 == 0)
        by_warp[threadIdx.x / 32] = amax;
    __syncthreads();
    for (int i = 0; i < THREADS / 32; i++)
        amax = max(amax, by_warp[i]);
    return amax;
}

template <int SCALED, int CODE, int F32>
static __global__ __launch_bounds__(THREADS) void row_kernel(const __grid_constant__ cast_job job) {
    enum { HELD = F32 ? 4 : 8 };
    const size_t first = blockIdx.x * job.octets;
    ht_octet<F32> held[HELD] = {};
    uint32_t amax = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (threadIdx.x + i * THREADS < job.octets)
            held[i] = ht_octet_load<F32>(job.x, first + threadIdx.x + i * THREADS);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        amax = max(amax, ht_octet_amax<F32>(held[i]));
    for (size_t i = threadIdx.x + HELD * THREADS; i < job.octets; i += THREADS)
        amax = max(amax, ht_octet_amax<F32>(ht_octet_load<F32>(job.x, first + i)));
    const ht_matrix_number none = ht_matrix_number_of<SCALED>(NULL);
    const ht_block_scale s = ht_scale_of<SCALED>(largest_of_block(amax), job.rules, none);
#pragma unroll
    for (int i = 0; i < HELD; i++)
        if (threadIdx.x + i * THREADS < job.octets)
            ht_octet_cast<CODE, F32>(held[i], s, job.rules, job.codes, first + threadIdx.x + i * THREADS);
    for (size_t i = threadIdx.x + HELD * THREADS; i < job.octets; i += THREADS)
        ht_octet_cast<CODE, F32>(ht_octet_load<F32>(job.x, first + i), s, job.rules, job.codes, first + i);
    if (threadIdx.x == 0)
        store_scale<SCALED>(job, blockIdx.x, s.stored);
}

/* 128 x 128, smaller at the edges. */
template <int SCALED, int CODE, int F32>
static __global__ __launch_bounds__(THREADS) void square_kernel(const __grid_constant__ cast_job job) {
    const size_t row0 = blockIdx.x / job.across * SQUARE, octet0 = blockIdx.x % job.across * (SQUARE / 8);
    ht_octet<F32> v[SQUARE_OCTETS] = {};
    uint32_t amax = 0;
#pragma unroll
    for (int i = 0; i < SQUARE_OCTETS; i++) {
        const int index = i * THREADS + threadIdx.x;
        const size_t row = row0 + index / (SQUARE / 8), octet = octet0 + index % (SQUARE / 8);
        if (row < job.rows && octet < job.octets)
            v[i] = ht_octet_load<F32>(job.x, row * job.octets + octet);
        amax = max(amax, ht_octet_amax<F32>(v[i]));
    }
    const ht_matrix_number none = ht_matrix_number_of<SCALED>(NULL);
    const ht_block_scale s = ht_scale_of<SCALED>(largest_of_block(amax), job.rules, none);
#pragma unroll
    for (int i = 0; i < SQUARE_OCTETS; i++) {
        const int index = i * THREADS + threadIdx.x;
        const size_t row = row0 + index / (SQUARE / 8), octet = octet0 + index % (SQUARE / 8);
        if (row < job.rows && octet < job.octets)
            ht_octet_cast<CODE, F32>(v[i], s, job.rules, job.codes, row * job.octets + octet);
    }
    if (threadIdx.x == 0)
        store_scale<SCALED>(job, blockIdx.x, s.stored);
}

/* The matrix's largest magnitude, in the scale's place, becomes the scale; then all values follow it. */
template <int SCALED, int CODE, int F32>
static __global__ __launch_bounds__(THREADS) void matrix_kernel(const __grid_constant__ cast_job job) {
    const uint32_t amax = __ldg((const uint32_t *)job.global);
    const ht_block_scale s = ht_scale_of<SCALED>(amax, job.rules, ht_matrix_number_of<SCALED>(NULL));
    const size_t total = job.rows * job.octets;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < total; at += (size_t)gridDim.x * THREADS)
        ht_octet_cast<CODE, F32>(ht_octet_load<F32>(job.x, at), s, job.rules, job.codes, at);
    if (blockIdx.x == 0 && threadIdx.x == 0)
        store_scale<SCALED>(job, 0, s.stored);
}

#define SHAPES(scaled, code, f32)                                                                                      \
    {                                                                                                                  \
        block_kernel<scaled, code, f32>, NULL, row_kernel<scaled, code, f32>, square_kernel<scaled, code, f32>,        \
            matrix_kernel<scaled, code, f32>                                                                           \
    }
#define ONLY_BLOCKS(scaled, code, f32)                                                                                 \
    { block_kernel<scaled, code, f32>, NULL, NULL, NULL, NULL }

typedef void cast_kernel(cast_job);

/* One row per element of a family; kernels by input (bf16, f32) and shape. */
static const struct target {
    ht_family family;
    ht_dtype element;
    int scaled, code;
    int largest_exponent, mantissa;
    float largest;
    cast_kernel *kernel[2][5];
} targets[] = {
    {HT_FAMILY_MX,
     HT_F8_E4M3,
     HT_SCALED_MX,
     HT_CODE_E4M3,
     8,
     3,
     448.0f,
     {ONLY_BLOCKS(HT_SCALED_MX, HT_CODE_E4M3, 0), ONLY_BLOCKS(HT_SCALED_MX, HT_CODE_E4M3, 1)}},
    {HT_FAMILY_MX,
     HT_F8_E5M2,
     HT_SCALED_MX,
     HT_CODE_E5M2,
     15,
     2,
     57344.0f,
     {ONLY_BLOCKS(HT_SCALED_MX, HT_CODE_E5M2, 0), ONLY_BLOCKS(HT_SCALED_MX, HT_CODE_E5M2, 1)}},
    {HT_FAMILY_MX,
     HT_F4_E2M1,
     HT_SCALED_MX,
     HT_CODE_E2M1,
     2,
     1,
     6.0f,
     {ONLY_BLOCKS(HT_SCALED_MX, HT_CODE_E2M1, 0), ONLY_BLOCKS(HT_SCALED_MX, HT_CODE_E2M1, 1)}},
    {HT_FAMILY_NVFP4,
     HT_F4_E2M1,
     HT_SCALED_NVFP4,
     HT_CODE_E2M1,
     2,
     1,
     6.0f,
     {{block_kernel<HT_SCALED_NVFP4, HT_CODE_E2M1, 0>, tile_kernel<HT_SCALED_NVFP4, HT_CODE_E2M1, 0>, NULL, NULL, NULL},
      {block_kernel<HT_SCALED_NVFP4, HT_CODE_E2M1, 1>, tile_kernel<HT_SCALED_NVFP4, HT_CODE_E2M1, 1>, NULL, NULL,
       NULL}}},
    {HT_FAMILY_FLOAT8,
     HT_F8_E4M3,
     HT_SCALED_F32,
     HT_CODE_E4M3,
     8,
     3,
     448.0f,
     {SHAPES(HT_SCALED_F32, HT_CODE_E4M3, 0), SHAPES(HT_SCALED_F32, HT_CODE_E4M3, 1)}},
    {HT_FAMILY_FLOAT8,
     HT_F8_E5M2,
     HT_SCALED_F32,
     HT_CODE_E5M2,
     15,
     2,
     57344.0f,
     {SHAPES(HT_SCALED_F32, HT_CODE_E5M2, 0), SHAPES(HT_SCALED_F32, HT_CODE_E5M2, 1)}},
    {HT_FAMILY_INT,
     HT_I8,
     HT_SCALED_INT,
     HT_CODE_I8,
     0,
     0,
     127.5f,
     {SHAPES(HT_SCALED_INT, HT_CODE_I8, 0), SHAPES(HT_SCALED_INT, HT_CODE_I8, 1)}},
    {HT_FAMILY_INT,
     HT_I4,
     HT_SCALED_INT,
     HT_CODE_I4,
     0,
     0,
     7.5f,
     {SHAPES(HT_SCALED_INT, HT_CODE_I4, 0), SHAPES(HT_SCALED_INT, HT_CODE_I4, 1)}},
};

static const struct target *find(const ht_format *format) {
    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++)
        if (targets[i].family == format->family && targets[i].element == format->element)
            return &targets[i];
    return NULL;
}

static shape shape_of(const ht_format *f) {
    if (f->block_rows == 1)
        return f->block_cols ? BLOCKS : ROWS;
    if (f->block_rows == 16)
        return TILES;
    return f->block_rows ? SQUARES : MATRIX;
}

static ht_status refuse(const ht_format *format, const char *what) {
    char name[96];
    ht_format_name(format, name, sizeof name);
    return ht_fail(HT_ERR_UNSUPPORTED, "cuda cast to %s: %s", name, what);
}

/* Whether options ask for nothing but what the kernels do. */
static ht_status check_options(const ht_format *format, const ht_row_options *o) {
    if (o->arithmetic != HT_F32 || o->power_of_two || o->amax_lower > 0 || o->amax_upper > 0 || o->epsilon > 0 ||
        o->scale > 0 || o->qmin != o->qmax || o->code_rule != HT_CODE_RECIPROCAL || o->int_rule == HT_INT_NO_CLIP)
        return refuse(format, "only the plain f32 rules of scales and codes run on the GPU");
    if (o->scale_rule >= HT_SCALE_MSE ||
        (o->scale_rule == HT_SCALE_DEFAULT && format->family == HT_FAMILY_MX))
        return refuse(format, "scale rules that run on the GPU are floor, rceil, ceil, even");
    return HT_OK;
}

static ht_status check(const ht_cuda_cast_args *a, const ht_row_options *options, const struct target *t) {
    const ht_format *f = a->format;
    int integer = f->family == HT_FAMILY_INT;
    size_t block = f->block_cols;
    if (!t || f->zero != HT_DTYPE_NONE || (f->scale != HT_F32 && (integer || f->family == HT_FAMILY_FLOAT8)))
        return refuse(f, "no kernel for this format");
    if (a->x_dtype != HT_BF16 && a->x_dtype != HT_F32)
        return refuse(f, "values must be bf16 or f32");
    if (f->packing == HT_PACK_HIGH || !t->kernel[0][shape_of(f)])
        return refuse(f, "no kernel for this packing or extent of scales");
    if (shape_of(f) == BLOCKS && (block < 16 || block > 256 || (block & (block - 1))))
        return refuse(f, "groups must be 16, 32, 64, 128 or 256 values");
    if (shape_of(f) == SQUARES && (f->block_rows != SQUARE || f->block_cols != SQUARE))
        return refuse(f, "tiles must be 128 x 128");
    HT_TRY(ht_format_check_shape(f, a->rows, a->cols));
    if (a->cols % 8 || a->rows * (a->cols / 8) / 2 > 0x7fffffff)
        return ht_fail(HT_ERR_SHAPE, "cuda cast: [%zu, %zu]: columns must be a multiple of 8, blocks fewer than 2^31",
                       a->rows, a->cols);
    if (((uintptr_t)a->x | (uintptr_t)a->planes.plane[HT_PLANE_CODES]) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda cast: values and codes must be 16-byte aligned");
    if (a->lds && (a->lds < a->rows || f->scale != HT_F32 || shape_of(f) != BLOCKS))
        return ht_fail(HT_ERR_SHAPE, "cuda cast: transposed scales are f32, rows of %zu or more", a->rows);
    return check_options(f, options);
}

static cast_job job_of(const ht_cuda_cast_args *a, const ht_row_options *o, const struct target *t) {
    const ht_format *f = a->format;
    cast_job job = {};
    int full = o->int_rule == HT_INT_FULL;
    job.x = a->x;
    job.codes = (uint8_t *)a->planes.plane[HT_PLANE_CODES];
    job.scales = a->planes.plane[HT_PLANE_SCALES];
    job.global = f->global != HT_DTYPE_NONE ? (const float *)a->planes.plane[HT_PLANE_GLOBAL] : NULL;
    job.rows = a->rows;
    job.octets = a->cols / 8;
    while (16u << job.shift <= f->block_cols)
        job.shift++;
    job.across = f->block_cols ? (uint32_t)ht_ceil_div(a->cols, f->block_cols) : 1;
    job.tiled = a->tiled_scales;
    job.lds = a->lds;
    job.rules.rule = o->scale_rule;
    job.rules.largest_exponent = t->largest_exponent;
    job.rules.mantissa = t->mantissa;
    job.rules.largest = t->largest;
    job.rules.reciprocal = 1.0f / t->largest;
    job.rules.divides = job.global && f->global_rule == HT_GLOBAL_DIVIDES;
    job.rules.training = o->nvfp4_rule == HT_NVFP4_TRAINING;
    job.rules.span = full ? t->largest + 0.5f : t->largest;
    job.rules.least_amax = full ? 1e-6f : 0.0f;
    job.rules.least = full ? 0.0f : FLT_MIN;
    if (f->packing == HT_PACK_WORDS)
        job.rules.flip = f->element == HT_I4 ? 0x88888888u : 0x80808080u;
    job.rules.stochastic = a->stochastic;
    job.rules.seed = a->seed;
    job.rules.stream = a->stream;
    return job;
}

/* Blocks of threads of a shape. */
static size_t grid_of(const cast_job &job, shape s) {
    size_t octets = job.rows * job.octets;
    if (s == ROWS)
        return job.rows;
    if (s == TILES)
        return ht_ceil_div(ht_ceil_div(job.rows, 16) * (job.octets / 2), THREADS / 32);
    if (s == SQUARES)
        return ht_ceil_div(job.rows, SQUARE) * job.across;
    if (s == MATRIX)
        return octets / THREADS < 2048 ? ht_ceil_div(octets, THREADS) : 2048;
    return ht_ceil_div(octets, THREADS * LOADS);
}

ht_status ht_cuda_cast(const ht_cuda_cast_args *args, ht_stream *stream) {
    const ht_row_options defaults = ht_row_options_default();
    const ht_row_options *options = args->options ? args->options : &defaults;
    const struct target *t = find(args->format);
    HT_TRY(check(args, options, t));
    if (args->rows == 0 || args->cols == 0)
        return HT_OK;
    cast_job job = job_of(args, options, t);
    const shape s = shape_of(args->format);
    cudaStream_t queue = ht_cuda_stream(stream);
    if (args->tiled_scales)
        HT_TRY(ht_cuda_check(
            cudaMemsetAsync(job.scales, 0,
                            ht_swizzle_bytes(ht_ceil_div(args->rows, args->format->block_rows), job.across), queue),
            "zero padding of scales"));
    if (s == MATRIX) {
        HT_TRY(ht_cuda_amax(args->x, args->x_dtype, args->rows * args->cols, 0, (uint32_t *)args->scratch, stream));
        job.global = (const float *)args->scratch;
    }
    t->kernel[args->x_dtype == HT_F32][s]<<<(unsigned)grid_of(job, s), THREADS, 0, queue>>>(job);
    return ht_cuda_check(cudaGetLastError(), "cast");
}

/* --- Numbers of a matrix ----------------------------------------------------------------------------------------- */

template <int F32>
static __global__ __launch_bounds__(THREADS) void amax_kernel(const void *x, size_t octets, int skip_nan,
                                                              uint32_t *out) {
    uint32_t amax = 0;
    for (size_t at = (size_t)blockIdx.x * THREADS + threadIdx.x; at < octets; at += (size_t)gridDim.x * THREADS) {
        const ht_octet<F32> v = ht_octet_load<F32>(x, at);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const uint32_t bits = __float_as_uint(ht_octet_value<F32>(v, i)) & 0x7fffffffu;
            amax = max(amax, skip_nan && bits > 0x7f800000u ? 0 : bits);
        }
    }
    amax = largest_of_block(amax);
    if (threadIdx.x == 0)
        atomicMax(out, amax);
}

ht_status ht_cuda_amax(const void *x, ht_dtype x_dtype, size_t count, int skip_nan, uint32_t *bits, ht_stream *stream) {
    if ((x_dtype != HT_BF16 && x_dtype != HT_F32) || count % 8 || (uintptr_t)x % 16 || !bits)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda amax: %zu values of %s: bf16 or f32, eights on 16 bytes, are needed",
                       count, ht_dtype_name(x_dtype));
    HT_TRY(ht_cuda_check(cudaMemsetAsync(bits, 0, 4, ht_cuda_stream(stream)), "largest magnitude"));
    size_t blocks = ht_ceil_div(count / 8, THREADS);
    if (blocks == 0)
        return HT_OK;
    void (*kernel)(const void *, size_t, int, uint32_t *) = x_dtype == HT_F32 ? amax_kernel<1> : amax_kernel<0>;
    kernel<<<(unsigned)(blocks < 2048 ? blocks : 2048), THREADS, 0, ht_cuda_stream(stream)>>>(x, count / 8, skip_nan,
                                                                                              bits);
    return ht_cuda_check(cudaGetLastError(), "largest magnitude");
}

/* As ht_format_global: the rules are those of src/format/nvfp4.c. */
static __global__ void global_kernel(const uint32_t *bits, int divides, int training, float *global) {
    const float amax = fminf(__uint_as_float(*bits), 0x1.fp127f), most = FLT_MAX;
    float g = __fdiv_rn(amax, 2688.0f);
    if (divides && training)
        g = fminf(__fdiv_rn(2688.0f, amax), most);
    else if (divides)
        g = fminf(__fmul_rn(2688.0f, __fdiv_rn(1.0f, amax)), most);
    *global = amax > 0.0f && g > 0.0f ? g : 1.0f;
}

ht_status ht_cuda_nvfp4_global(const ht_format *format, const ht_row_options *options, const uint32_t *amax_bits,
                               float *global, ht_stream *stream) {
    if (format->family != HT_FAMILY_NVFP4 || format->global == HT_DTYPE_NONE)
        return refuse(format, "it has no number for the matrix");
    if (options && options->scale_rule > HT_SCALE_EVEN_FP4)
        return refuse(format, "its number under a searched rule is the CPU's to find");
    global_kernel<<<1, 1, 0, ht_cuda_stream(stream)>>>(amax_bits, format->global_rule == HT_GLOBAL_DIVIDES,
                                                       options && options->nvfp4_rule == HT_NVFP4_TRAINING, global);
    return ht_cuda_check(cudaGetLastError(), "number of the matrix");
}
