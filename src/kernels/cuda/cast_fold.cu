/* MXFP8 (e4m3, a power of two per 32) to e4m3 with a power of two per 128 of a row, or per 128 x 128: the operands of
 * the block-scaled product. Elements whose own scale is smaller than the block's largest are shifted down and rounded
 * to nearest even: exact while they stay normal, else off by at most 2^-10 of the block's scale.
 *
 *   rows      16 lanes a block, eight codes a lane
 *   squares   a block of threads: 512 scale bytes give the largest exponent, then 16 KiB of codes
 *
 * A scale of NaN makes the block's scale NaN. Scale bytes 0 (2^-127) enter as that.
 * Refuses: columns that are no multiple of 128.
 * Source: training and attention specification, section 5.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cast_octets.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum { THREADS = 256, BLOCK = 128, LANES = BLOCK / 8, LOADS = 4 };

static __device__ __forceinline__ float scale_value(uint32_t byte) {
    return __uint_as_float(byte == 0 ? 0x00400000u : byte == 255 ? 0x7fc00000u : byte << 23);
}

/* Eight codes times 2^(byte - largest). */
static __device__ __forceinline__ uint2 shift(uint2 codes, uint32_t byte, uint32_t largest) {
    const uint32_t down = largest - byte; /* 0 to 254 */
    if (down == 0)
        return codes;
    const float factor = down > 126 ? 0.0f : __uint_as_float((127 - down) << 23);
    uint32_t words[2] = {codes.x, codes.y};
#pragma unroll
    for (int i = 0; i < 2; i++) {
        float v[4];
#pragma unroll
        for (int j = 0; j < 4; j++)
            v[j] = __fmul_rn(ht_e4m3_value(words[i] >> (8 * j) & 0xff), factor);
        words[i] = ht_e4m3x4(v[0], v[1], v[2], v[3]);
    }
    return make_uint2(words[0], words[1]);
}

static __global__ __launch_bounds__(THREADS) void fold_rows(const uint2 *__restrict__ codes,
                                                            const uint8_t *__restrict__ scales, size_t octets,
                                                            unsigned blocks_a_row, uint2 *__restrict__ out,
                                                            float *__restrict__ out_scales, size_t lds) {
    const size_t warp = (size_t)blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const size_t first = warp * 32 * LOADS + threadIdx.x % 32;
    uint2 v[LOADS];
    uint32_t byte[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const size_t at = first + i * 32;
        v[i] = at < octets ? __ldcs(codes + at) : make_uint2(0, 0);
        byte[i] = at < octets ? __ldg(scales + at / 4) : 0;
    }
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const size_t at = first + i * 32, block = at / LANES;
        uint32_t largest = max(byte[i], __shfl_xor_sync(~0u, byte[i], 4));
        largest = max(largest, __shfl_xor_sync(~0u, largest, 8));
        if (at >= octets)
            continue;
        out[at] = shift(v[i], byte[i], largest);
        if (at % LANES == 0)
            out_scales[block % blocks_a_row * lds + block / blocks_a_row] = scale_value(largest);
    }
}

static __global__ __launch_bounds__(THREADS) void fold_squares(const uint2 *__restrict__ codes,
                                                               const uint8_t *__restrict__ scales, size_t rows,
                                                               size_t cols, uint2 *__restrict__ out,
                                                               float *__restrict__ out_scales) {
    __shared__ uint32_t by_warp[THREADS / 32];
    const size_t across = cols / BLOCK, row0 = blockIdx.x / across * BLOCK, column0 = blockIdx.x % across * BLOCK;
    uint32_t largest = 0;
    for (int i = threadIdx.x; i < BLOCK * 4; i += THREADS)
        if (row0 + i / 4 < rows)
            largest = max(largest, (uint32_t)scales[(row0 + i / 4) * (cols / 32) + column0 / 32 + i % 4]);
    largest = __reduce_max_sync(~0u, largest);
    if (threadIdx.x % 32 == 0)
        by_warp[threadIdx.x / 32] = largest;
    __syncthreads();
    for (int i = 0; i < THREADS / 32; i++)
        largest = max(largest, by_warp[i]);
#pragma unroll
    for (int i = threadIdx.x; i < BLOCK * LANES; i += THREADS) {
        const size_t row = row0 + i / LANES, octet = row * (cols / 8) + column0 / 8 + i % LANES;
        if (row < rows)
            out[octet] = shift(codes[octet], scales[octet / 4], largest);
    }
    if (threadIdx.x == 0)
        out_scales[blockIdx.x] = scale_value(largest);
}

ht_status ht_cuda_fold_mxfp8(const uint8_t *codes, const uint8_t *scales, size_t rows, size_t cols, uint8_t *out,
                             float *out_scales, size_t lds, ht_stream *stream) {
    if (cols % BLOCK || (lds && lds < rows) || rows * cols / 8 / (THREADS * LOADS) > 0x7ffffffe)
        return ht_fail(HT_ERR_SHAPE,
                       "cuda mxfp8 fold: [%zu, %zu], rows of scales %zu: columns must be multiples of 128", rows, cols,
                       lds);
    if (((uintptr_t)codes | (uintptr_t)out) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda mxfp8 fold: codes must be 16-byte aligned");
    if (rows == 0 || cols == 0)
        return HT_OK;
    size_t octets = rows * cols / 8;
    if (lds)
        fold_rows<<<(unsigned)ht_ceil_div(octets, THREADS * LOADS), THREADS, 0, ht_cuda_stream(stream)>>>(
            (const uint2 *)codes, scales, octets, (unsigned)(cols / BLOCK), (uint2 *)out, out_scales, lds);
    else
        fold_squares<<<(unsigned)(ht_ceil_div(rows, BLOCK) * (cols / BLOCK)), THREADS, 0, ht_cuda_stream(stream)>>>(
            (const uint2 *)codes, scales, rows, cols, (uint2 *)out, out_scales);
    return ht_cuda_check(cudaGetLastError(), "mxfp8 fold");
}
