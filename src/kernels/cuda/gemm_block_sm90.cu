/* fp8 product with scales along k on Hopper: a scaled per row and 128 of k, b per 128 x 128, or per row as well (weight
 * gradients). block_loop_sm90.h has the kernel; this file checks, chooses the tile and launches.
 *
 * Refuses: k not a multiple of 128, scale rows not on 16 bytes, other GPUs than Hopper.
 * Source: training and attention specification, section 5.1.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/block_loop_sm90.h"

#include <limits.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

#define ENTRIES(ring)                                                                                                  \
    {                                                                                                                  \
        (const void *)ht_block_kernel_sm90<ring, HT_STORE_BF16, HT_GROUPS_NONE>,                                       \
            (const void *)ht_block_kernel_sm90<ring, HT_STORE_F32, HT_GROUPS_NONE>,                                    \
            (const void *)ht_block_kernel_sm90<ring, HT_STORE_ANY, HT_GROUPS_NONE>                                     \
    }
typedef struct variant {
    ht_gemm_kernel kernel;
    int by_row; /* b is scaled per row */
    unsigned columns, shared_bytes;
    const void *entry[3]; /* by HT_STORE_... */
} variant;

static const variant variants[] = {
    {HT_GEMM_SM90_128X256, 0, 256, ht_block_wide::SHARED_BYTES, ENTRIES(ht_block_wide)},
    {HT_GEMM_SM90_128X192, 0, 192, ht_block_middle::SHARED_BYTES, ENTRIES(ht_block_middle)},
    {HT_GEMM_SM90_128X256, 1, 256, ht_block_rows::SHARED_BYTES, ENTRIES(ht_block_rows)},
};

static ht_status check(const ht_cuda_gemm_block_args *args, int capability) {
    if (args->m == 0 || args->n == 0 || args->k == 0 || args->k % HT_BLOCK || args->m > INT_MAX - 256 ||
        args->n > INT_MAX - 256 || args->k > INT_MAX - 256)
        return ht_fail(HT_ERR_SHAPE, "cuda block product: m %zu, n %zu, k %zu: k must be a multiple of 128", args->m,
                       args->n, args->k);
    if (args->lds < args->m || args->lds % 4 || (uintptr_t)args->scale_a % 16)
        return ht_fail(HT_ERR_SHAPE,
                       "cuda block product: rows of scale_a hold %zu numbers; they need %zu or more, on 16 bytes",
                       args->lds, args->m);
    if (args->lds_b && (args->lds_b < args->n || args->lds_b % 4 || (uintptr_t)args->scale_b % 16))
        return ht_fail(HT_ERR_SHAPE,
                       "cuda block product: rows of scale_b hold %zu numbers; they need %zu or more, on 16 bytes",
                       args->lds_b, args->n);
    if (args->out != HT_BF16 && args->out != HT_F32)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda block product: output %s; known are bf16 and f32",
                       ht_dtype_name(args->out));
    if (args->accumulate && args->out != HT_F32)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda block product: accumulates into f32 only, not %s",
                       ht_dtype_name(args->out));
    if (capability != 90)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda block product: needs compute capability 9.0, this device has %d.%d",
                       capability / 10, capability % 10);
    return HT_OK;
}

/* Waves over the multiprocessors times the work of a tile; narrow tiles run 5 % slower (measured). */
static double cost(const variant *v, const ht_cuda_gemm_block_args *args, int multiprocessors) {
    size_t tiles = ht_ceil_div(args->m, HT_TILE_M * HT_BLOCK_CLUSTER) * ht_ceil_div(args->n, v->columns);
    double waves = (double)ht_ceil_div(tiles, (size_t)multiprocessors / HT_BLOCK_CLUSTER);
    return waves * (v->columns == 256 ? 1.0 : 0.75 * 1.05);
}

static const variant *choose(const ht_cuda_gemm_block_args *args, int multiprocessors) {
    const variant *best = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const variant *v = &variants[i];
        if (v->by_row != (args->lds_b != 0) || (args->kernel != HT_GEMM_AUTO && args->kernel != v->kernel))
            continue;
        if (!best || cost(v, args, multiprocessors) < cost(best, args, multiprocessors))
            best = v;
    }
    return best;
}

static ht_block_job job_of(const ht_cuda_gemm_block_args *args, const variant *v) {
    ht_block_job job = {};
    job.gemm.m = job.gemm.limit = (int)args->m;
    job.gemm.n = (int)args->n;
    job.gemm.k_blocks = (int)(args->k / HT_BLOCK);
    job.gemm.m_tiles = (int)ht_ceil_div(args->m, HT_TILE_M * HT_BLOCK_CLUSTER);
    job.gemm.n_tiles = (int)ht_ceil_div(args->n, v->columns);
    job.gemm.raster = args->raster ? (int)args->raster : 8;
    job.gemm.d = args->d;
    job.gemm.ldd = args->n;
    job.gemm.out_f32 = args->out == HT_F32;
    job.gemm.accumulate = args->accumulate;
    job.scale_b = args->scale_b;
    job.b_rows = (int)ht_ceil_div(args->n, HT_BLOCK);
    return job;
}

ht_status ht_cuda_gemm_block(const ht_cuda_gemm_block_args *args, ht_stream *stream) {
    int multiprocessors, capability;
    HT_TRY(ht_cuda_device_shape(&multiprocessors, &capability));
    HT_TRY(check(args, capability));
    const variant *v = choose(args, multiprocessors);
    if (!v)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda block product: no kernel %s%s", ht_gemm_kernel_name(args->kernel),
                       args->lds_b ? " with scales by row" : "");
    size_t blocks_k = args->k / HT_BLOCK, out_bytes = args->out == HT_BF16 ? 2 : 4;
    int store = args->out == HT_BF16 ? HT_STORE_BF16 : HT_STORE_F32;
    CUtensorMap a, b, scale_a, scale_b, d;
    HT_TRY(ht_cuda_tensor_map(&a, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, args->a, args->m, args->k, args->k, HT_TILE_M,
                              HT_BLOCK, 1));
    HT_TRY(ht_cuda_tensor_map(&b, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, args->b, args->n, args->k, args->k,
                              v->columns / HT_BLOCK_CLUSTER, HT_BLOCK, 1));
    HT_TRY(ht_cuda_tensor_map(&scale_a, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, args->scale_a, blocks_k, args->m, args->lds,
                              1, HT_SCALE_ROWS, 0));
    scale_b = scale_a; /* read with scales by row alone */
    if (v->by_row)
        HT_TRY(ht_cuda_tensor_map(&scale_b, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, args->scale_b, blocks_k, args->n,
                                  args->lds_b, 1, v->columns, 0));
    if (((uintptr_t)args->d | args->n * out_bytes) % 16)
        store = HT_STORE_ANY;
    d = a; /* not read by HT_STORE_ANY */
    if (store != HT_STORE_ANY)
        HT_TRY(ht_cuda_tensor_map(
            &d, args->out == HT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out_bytes,
            args->d, args->m, args->n, args->n, 64, 128 / (unsigned)out_bytes, 1));
    ht_block_job job = job_of(args, v);
    unsigned tiles = (unsigned)job.gemm.m_tiles * (unsigned)job.gemm.n_tiles;
    unsigned slots = (unsigned)multiprocessors / HT_BLOCK_CLUSTER;
    void *arguments[] = {&a, &b, &scale_a, &scale_b, &d, &job};
    return ht_cuda_launch(v->entry[store], "fp8 product with block scales",
                          (tiles < slots ? tiles : slots) * HT_BLOCK_CLUSTER, HT_GEMM_THREADS, v->shared_bytes,
                          HT_BLOCK_CLUSTER, 1, ht_cuda_stream(stream), arguments);
}
