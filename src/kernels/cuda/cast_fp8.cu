/* bf16 to e4m3 with an f32 scale per row or per 128 of a row, and MXFP8 back to bf16.
 *
 * scale = amax / 448, code = e4m3(x / scale), both true divisions as on the CPU: bit for bit the format's own encoder
 * (fp8_row, fp8_g128). Zeros have scale 1; NaN or Inf make the scale NaN and every code 7f.
 *
 *   row     a block of threads a row; up to 16384 columns stay in registers between the two passes, the rest is read
 *           again (from L2)
 *   block   flat: a thread 8 elements, 16 lanes a block, four loads in flight
 *   expand  a thread 8 codes: e4m3 is exact in f16, times a power of two exact in bf16
 *
 * Refuses: columns not a multiple of 8 (row), 128 (block), 32 (expand).
 * Source: formats specification, sections 2.2 and 6.6.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cast.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum { THREADS = 256, LOADS = 4, HELD = 8, BLOCK = 128, LANES = BLOCK / 8 };

static __device__ __forceinline__ float scale_of(uint32_t amax) {
    if (amax >= 0x7f800000u)
        return __uint_as_float(0x7fc00000u);
    return amax ? __fdiv_rn(__uint_as_float(amax), 448.0f) : 1.0f;
}

static __device__ __forceinline__ uint32_t divide_pair(uint32_t x, float scale) {
    return ht_e4m3x2(__fdiv_rn(ht_low_bf16(x), scale), __fdiv_rn(ht_high_bf16(x), scale));
}

static __device__ __forceinline__ uint2 divide(uint4 x, float scale) {
    return make_uint2(divide_pair(x.x, scale) | divide_pair(x.y, scale) << 16,
                      divide_pair(x.z, scale) | divide_pair(x.w, scale) << 16);
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

static __global__ __launch_bounds__(THREADS) void row_kernel(const uint4 *__restrict__ x, size_t vectors,
                                                             uint2 *__restrict__ codes, float *__restrict__ scales) {
    const uint4 *const row = x + blockIdx.x * vectors;
    uint2 *const out = codes + blockIdx.x * vectors;
    uint4 held[HELD];
    uint32_t amax = 0;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const size_t at = threadIdx.x + (size_t)i * THREADS;
        held[i] = at < vectors ? ht_load_stream(row + at) : make_uint4(0, 0, 0, 0);
    }
#pragma unroll
    for (int i = 0; i < HELD; i++)
        amax = max(amax, ht_amax_of_pair(ht_amax_bf16x8(held[i])));
    for (size_t at = threadIdx.x + (size_t)HELD * THREADS; at < vectors; at += THREADS)
        amax = max(amax, ht_amax_of_pair(ht_amax_bf16x8(row[at])));
    const float scale = scale_of(largest_of_block(amax));
    if (threadIdx.x == 0)
        scales[blockIdx.x] = scale;
#pragma unroll
    for (int i = 0; i < HELD; i++) {
        const size_t at = threadIdx.x + (size_t)i * THREADS;
        if (at < vectors)
            out[at] = divide(held[i], scale);
    }
    for (size_t at = threadIdx.x + (size_t)HELD * THREADS; at < vectors; at += THREADS)
        out[at] = divide(row[at], scale);
}

static __global__ __launch_bounds__(THREADS) void block_kernel(const uint4 *__restrict__ x, size_t vectors,
                                                               unsigned blocks_a_row, uint2 *__restrict__ codes,
                                                               float *__restrict__ scales, size_t lds) {
    const size_t warp = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const size_t first = warp * 32 * LOADS + threadIdx.x % 32;
    uint4 v[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++)
        v[i] = first + i * 32 < vectors ? ht_load_stream(x + first + i * 32) : make_uint4(0, 0, 0, 0);
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const size_t at = first + i * 32, block = at / LANES;
        uint32_t amax = ht_amax_of_pair(ht_amax_bf16x8(v[i]));
#pragma unroll
        for (int step = 1; step < LANES; step *= 2)
            amax = max(amax, __shfl_xor_sync(~0u, amax, step));
        const float scale = scale_of(amax);
        if (at >= vectors)
            continue;
        codes[at] = divide(v[i], scale);
        if (at % LANES == 0)
            scales[block % blocks_a_row * lds + block / blocks_a_row] = scale;
    }
}

/* Two codes times 2^e, as a bf16 pair. */
static __device__ __forceinline__ uint32_t expand_pair(uint32_t codes, float scale) {
    uint32_t halves, pair;
    float low, high;
    asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((uint16_t)codes));
    asm("{.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;}"
        : "=f"(low), "=f"(high)
        : "r"(halves));
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high * scale), "f"(low * scale));
    return pair;
}

static __global__ __launch_bounds__(THREADS) void expand_kernel(const uint2 *__restrict__ codes,
                                                                const uint8_t *__restrict__ scales, size_t vectors,
                                                                uint4 *__restrict__ out) {
    const size_t warp = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const size_t first = warp * 32 * LOADS + threadIdx.x % 32;
    uint2 v[LOADS];
    uint32_t byte[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const size_t at = first + i * 32;
        v[i] = at < vectors ? __ldcs(codes + at) : make_uint2(0, 0);
        byte[i] = at < vectors ? __ldg(scales + at / 4) : 0;
    }
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const size_t at = first + i * 32;
        const uint32_t bits = byte[i] == 0 ? 0x00400000u : byte[i] == 255 ? 0x7fc00000u : byte[i] << 23;
        const float scale = __uint_as_float(bits);
        if (at < vectors)
            out[at] = make_uint4(expand_pair(v[i].x, scale), expand_pair(v[i].x >> 16, scale),
                                 expand_pair(v[i].y, scale), expand_pair(v[i].y >> 16, scale));
    }
}

static ht_status check(const char *what, size_t rows, size_t cols, size_t step, const void *x, const void *codes) {
    if (cols % step)
        return ht_fail(HT_ERR_SHAPE, "%s: %zu columns are not a multiple of %zu", what, cols, step);
    if (rows > 0x7fffffff)
        return ht_fail(HT_ERR_SHAPE, "%s: %zu rows are more than 2147483647", what, rows);
    if (((uintptr_t)x | (uintptr_t)codes) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "%s: input and output must be 16-byte aligned", what);
    return HT_OK;
}

ht_status ht_cuda_cast_fp8_row(const void *x, size_t rows, size_t cols, uint8_t *codes, float *scales,
                               ht_stream *stream) {
    HT_TRY(check("cuda fp8 row cast", rows, cols, 8, x, codes));
    if (rows == 0 || cols == 0)
        return HT_OK;
    row_kernel<<<(unsigned)rows, THREADS, 0, ht_cuda_stream(stream)>>>((const uint4 *)x, cols / 8, (uint2 *)codes,
                                                                       scales);
    return ht_cuda_check(cudaGetLastError(), "fp8 row cast");
}

static unsigned flat_blocks(size_t vectors) {
    return (unsigned)ht_ceil_div(vectors, THREADS * LOADS);
}

ht_status ht_cuda_cast_fp8_block(const void *x, size_t rows, size_t cols, uint8_t *codes, float *scales, size_t lds,
                                 ht_stream *stream) {
    HT_TRY(check("cuda fp8 block cast", rows, cols, BLOCK, x, codes));
    if (lds < rows)
        return ht_fail(HT_ERR_SHAPE, "cuda fp8 block cast: rows of scales hold %zu numbers, %zu are needed", lds, rows);
    if (rows == 0 || cols == 0)
        return HT_OK;
    size_t vectors = rows * cols / 8;
    block_kernel<<<flat_blocks(vectors), THREADS, 0, ht_cuda_stream(stream)>>>(
        (const uint4 *)x, vectors, (unsigned)(cols / BLOCK), (uint2 *)codes, scales, lds);
    return ht_cuda_check(cudaGetLastError(), "fp8 block cast");
}

ht_status ht_cuda_expand_mxfp8(const uint8_t *codes, const uint8_t *scales, size_t rows, size_t cols, void *out,
                               ht_stream *stream) {
    HT_TRY(check("cuda mxfp8 expansion", rows, cols, 32, codes, out));
    if (rows == 0 || cols == 0)
        return HT_OK;
    size_t vectors = rows * cols / 8;
    expand_kernel<<<flat_blocks(vectors), THREADS, 0, ht_cuda_stream(stream)>>>((const uint2 *)codes, scales, vectors,
                                                                                (uint4 *)out);
    return ht_cuda_check(cudaGetLastError(), "mxfp8 expansion");
}
