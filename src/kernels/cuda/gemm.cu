/* Matrix products: argument checks, the choice of kernel, and the portable kernel.
 *
 * The portable kernel runs on any NVIDIA GPU and takes any alignment: 64 x 64 tiles, both operands decoded to f32 into
 * shared memory 16 of k at a time, 4 x 4 sums a thread in f32 FMA. It is the yardstick of correctness on the device
 * and the answer to rows that the copy engine cannot address; it is not fast.
 *
 * Refuses: dtypes other than bf16 and e4m3 in, bf16 and f32 out; accumulate into bf16; sizes that do not fit int.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cuda.h"

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <limits.h>

#include "kernels/cuda/gemm_launch.h"
#include "kernels/cuda/runtime.h"

enum { TILE = 64, STEP = 16, THREADS = 256 };

template <int FP8> static __device__ __forceinline__ float load(const void *base, size_t at) {
    if constexpr (FP8)
        return __half2float(__nv_cvt_fp8_to_halfraw(((const __nv_fp8_storage_t *)base)[at], __NV_E4M3));
    else
        return __bfloat162float(((const __nv_bfloat16 *)base)[at]);
}

/* Rows first .. first + 63 of a [rows, k] operand, columns column .. column + 15; zeros outside. Each row of the
 * transposed copy is padded by 4 floats, so that the stores do not meet in one bank. */
template <int FP8>
static __device__ __forceinline__ void fill(float (&tile)[STEP][TILE + 4], const void *base, size_t ld, size_t rows,
                                            size_t k, size_t first, size_t column) {
    for (int i = threadIdx.x; i < TILE * STEP; i += THREADS) {
        int row = i / STEP, col = i % STEP;
        int inside = first + row < rows && column + col < k;
        tile[col][row] = inside ? load<FP8>(base, (first + row) * ld + column + col) : 0.0f;
    }
}

static __device__ float finish(const ht_cuda_gemm_args &g, size_t row, size_t column, float sum) {
    if (g.alpha_a)
        sum *= *g.alpha_a;
    if (g.alpha_b)
        sum *= *g.alpha_b;
    if (g.scale_a)
        sum *= g.scale_a[row];
    if (g.scale_b)
        sum *= g.scale_b[column];
    return g.bias ? sum + g.bias[column] : sum;
}

template <int FP8>
static __global__ __launch_bounds__(THREADS) void portable_kernel(const __grid_constant__ ht_cuda_gemm_args g) {
    __shared__ float a[STEP][TILE + 4], b[STEP][TILE + 4];
    const size_t tiles_n = (g.n + TILE - 1) / TILE;
    const size_t row = blockIdx.x / tiles_n * TILE, column = blockIdx.x % tiles_n * TILE;
    const int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
    float sum[4][4] = {};
    for (size_t at = 0; at < g.k; at += STEP) {
        fill<FP8>(a, g.a, g.lda, g.m, g.k, row, at);
        fill<FP8>(b, g.b, g.ldb, g.n, g.k, column, at);
        __syncthreads();
        for (int s = 0; s < STEP; s++)
            for (int i = 0; i < 4; i++)
                for (int j = 0; j < 4; j++)
                    sum[i][j] = fmaf(a[s][ty + i], b[s][tx + j], sum[i][j]);
        __syncthreads();
    }
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 4; j++) {
            size_t r = row + ty + i, c = column + tx + j;
            if (r >= g.m || c >= g.n)
                continue;
            float value = finish(g, r, c, sum[i][j]);
            if (g.out == HT_F32)
                ((float *)g.d)[r * g.ldd + c] = g.accumulate ? ((float *)g.d)[r * g.ldd + c] + value : value;
            else
                ((__nv_bfloat16 *)g.d)[r * g.ldd + c] = __float2bfloat16_rn(value);
        }
}

static ht_status portable(const ht_cuda_gemm_args *args, ht_stream *stream) {
    size_t blocks = ht_ceil_div(args->m, TILE) * ht_ceil_div(args->n, TILE);
    if (blocks > INT_MAX)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemm: [%zu, %zu] is too large for the portable kernel", args->m,
                       args->n);
    if (args->in == HT_F8_E4M3)
        portable_kernel<1><<<(unsigned)blocks, THREADS, 0, ht_cuda_stream(stream)>>>(*args);
    else
        portable_kernel<0><<<(unsigned)blocks, THREADS, 0, ht_cuda_stream(stream)>>>(*args);
    return ht_cuda_check(cudaGetLastError(), "portable product");
}

static ht_status check(const ht_cuda_gemm_args *args) {
    if (args->m == 0 || args->n == 0 || args->k == 0 || args->m > INT_MAX - 256 || args->n > INT_MAX - 256 ||
        args->k > INT_MAX - 256)
        return ht_fail(HT_ERR_SHAPE, "cuda gemm: m %zu, n %zu, k %zu: each must be 1 to %d", args->m, args->n, args->k,
                       INT_MAX - 256);
    if (args->lda < args->k || args->ldb < args->k || args->ldd < args->n)
        return ht_fail(HT_ERR_SHAPE, "cuda gemm: row lengths %zu, %zu, %zu are shorter than k %zu, k, n %zu", args->lda,
                       args->ldb, args->ldd, args->k, args->n);
    if ((args->in != HT_BF16 && args->in != HT_F8_E4M3) || (args->out != HT_BF16 && args->out != HT_F32))
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemm: %s in, %s out; known are bf16 or f8_e4m3 in, bf16 or f32 out",
                       ht_dtype_name(args->in), ht_dtype_name(args->out));
    if (args->accumulate && args->out != HT_F32)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemm: accumulates into f32 only, not %s", ht_dtype_name(args->out));
    return HT_OK;
}

ht_status ht_cuda_gemm(const ht_cuda_gemm_args *args, ht_stream *stream) {
    HT_TRY(check(args));
    if (args->kernel == HT_GEMM_PORTABLE)
        return portable(args, stream);
    int multiprocessors, capability;
    HT_TRY(ht_cuda_device_shape(&multiprocessors, &capability));
    size_t bytes = args->in == HT_F8_E4M3 ? 1 : 2;
    int aligned = ((uintptr_t)args->a | (uintptr_t)args->b | args->lda * bytes | args->ldb * bytes) % 16 == 0;
    if (args->kernel == HT_GEMM_AUTO && (capability != 90 || !aligned))
        return portable(args, stream);
    if (capability != 90)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemm: kernel %s needs compute capability 9.0, this device has %d.%d",
                       ht_gemm_kernel_name(args->kernel), capability / 10, capability % 10);
    return ht_cuda_gemm_sm90(args, multiprocessors, stream);
}
