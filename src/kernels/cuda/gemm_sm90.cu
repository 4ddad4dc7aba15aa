/* bf16 and fp8 matrix products on Hopper: d = scaled a b^T, tiles of 128 x 256 or 128 x 128 (gemm_sm90.h for the
 * skeleton, gemm_loop_sm90.h for the inner loop).
 *
 * Refuses: rows or bases not on 16 bytes (no tensor map), other GPUs than Hopper.
 * Source: training and attention specification, sections 0, 5.2 and 9.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/gemm_loop_sm90.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gemm_launch.h"
#include "kernels/cuda/runtime.h"

/* One row per tile and input; one compiled kernel per way of storing. */
#define ENTRIES(fp8, ring, cluster)                                                                                    \
    {                                                                                                                  \
        (const void *)ht_gemm_kernel_sm90<fp8, ring, cluster, HT_STORE_BF16, HT_GROUPS_NONE>,                          \
            (const void *)ht_gemm_kernel_sm90<fp8, ring, cluster, HT_STORE_F32, HT_GROUPS_NONE>,                       \
            (const void *)ht_gemm_kernel_sm90<fp8, ring, cluster, HT_STORE_ANY, HT_GROUPS_NONE>                        \
    }

static const struct variant {
    ht_gemm_kernel kernel;
    ht_dtype in;
    unsigned columns, cluster, shared_bytes;
    const void *entry[3]; /* by HT_STORE_... */
} variants[] = {
    {HT_GEMM_SM90_128X256, HT_BF16, 256, 2, ht_gemm_wide::SHARED_BYTES, ENTRIES(0, ht_gemm_wide, 2)},
    {HT_GEMM_SM90_128X128, HT_BF16, 128, 2, ht_gemm_narrow::SHARED_BYTES, ENTRIES(0, ht_gemm_narrow, 2)},
    {HT_GEMM_SM90_SINGLE, HT_BF16, 128, 1, ht_gemm_narrow::SHARED_BYTES, ENTRIES(0, ht_gemm_narrow, 1)},
    {HT_GEMM_SM90_128X256, HT_F8_E4M3, 256, 2, ht_gemm_wide::SHARED_BYTES, ENTRIES(1, ht_gemm_wide, 2)},
    {HT_GEMM_SM90_128X128, HT_F8_E4M3, 128, 2, ht_gemm_narrow::SHARED_BYTES, ENTRIES(1, ht_gemm_narrow, 2)},
    {HT_GEMM_SM90_SINGLE, HT_F8_E4M3, 128, 1, ht_gemm_narrow::SHARED_BYTES, ENTRIES(1, ht_gemm_narrow, 1)},
};
#undef ENTRIES

/* Cost of a shape in units of one 128 x 128 tile step: waves over the multiprocessors times the work of a tile, where
 * a narrow tile pays for reading A twice as often, and single blocks for reading B twice. */
static double cost(const struct variant *v, size_t m, size_t n, size_t k, int multiprocessors) {
    size_t tiles = ht_ceil_div(m, HT_TILE_M * v->cluster) * ht_ceil_div(n, v->columns);
    size_t slots = (size_t)multiprocessors / v->cluster;
    double step = v->columns == 256 ? 2.0 : v->cluster == 2 ? 1.15 : 1.25;
    double fixed = 600.0 * v->columns / 128; /* epilogue and filling the ring, in elements of k */
    return (double)ht_ceil_div(tiles, slots) * step * ((double)k + fixed);
}

static const struct variant *choose(const ht_cuda_gemm_args *args, int multiprocessors) {
    const struct variant *best = NULL;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const struct variant *v = &variants[i];
        if (v->in != args->in || (args->kernel != HT_GEMM_AUTO && args->kernel != v->kernel))
            continue;
        if (!best || cost(v, args->m, args->n, args->k, multiprocessors) <
                         cost(best, args->m, args->n, args->k, multiprocessors))
            best = v;
    }
    return best;
}

static ht_gemm_job job_of(const ht_cuda_gemm_args *args, const struct variant *v) {
    size_t k_step = args->in == HT_F8_E4M3 ? 128 : 64;
    ht_gemm_job job = {};
    job.m = (int)args->m;
    job.n = (int)args->n;
    job.k_blocks = (int)ht_ceil_div(args->k, k_step);
    job.m_tiles = (int)ht_ceil_div(args->m, HT_TILE_M * v->cluster);
    job.n_tiles = (int)ht_ceil_div(args->n, v->columns);
    job.raster = args->raster ? (int)args->raster : 8;
    job.d = args->d;
    job.ldd = args->ldd;
    job.alpha_a = args->alpha_a;
    job.alpha_b = args->alpha_b;
    job.scale_a = args->scale_a;
    job.scale_b = args->scale_b;
    job.bias = args->bias;
    job.out_f32 = args->out == HT_F32;
    job.accumulate = args->accumulate;
    job.limit = job.m;
    return job;
}

ht_status ht_cuda_gemm_sm90(const ht_cuda_gemm_args *args, int multiprocessors, ht_stream *stream) {
    const struct variant *v = choose(args, multiprocessors);
    if (!v)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemm: no Hopper kernel for %s inputs", ht_dtype_name(args->in));
    int fp8 = args->in == HT_F8_E4M3;
    CUtensorMapDataType type = fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    size_t bytes = fp8 ? 1 : 2;
    unsigned k_step = fp8 ? 128 : 64;
    CUtensorMap a, b, d;
    HT_TRY(ht_cuda_tensor_map(&a, type, bytes, args->a, args->m, args->k, args->lda, HT_TILE_M, k_step, 1));
    HT_TRY(
        ht_cuda_tensor_map(&b, type, bytes, args->b, args->n, args->k, args->ldb, v->columns / v->cluster, k_step, 1));
    ht_gemm_job job = job_of(args, v);
    int store = args->out == HT_BF16 ? HT_STORE_BF16 : HT_STORE_F32;
    size_t out_bytes = args->out == HT_BF16 ? 2 : 4;
    if (((uintptr_t)args->d | args->ldd * out_bytes) % 16)
        store = HT_STORE_ANY;
    d = a; /* not read by HT_STORE_ANY */
    if (store != HT_STORE_ANY)
        HT_TRY(ht_cuda_tensor_map(
            &d, args->out == HT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out_bytes,
            args->d, args->m, args->n, args->ldd, 64, 128 / (unsigned)out_bytes, 1));
    unsigned tiles = (unsigned)job.m_tiles * (unsigned)job.n_tiles;
    unsigned slots = (unsigned)multiprocessors / v->cluster;
    unsigned blocks = (tiles < slots ? tiles : slots) * v->cluster;
    void *arguments[] = {&a, &b, &d, &job};
    return ht_cuda_launch(v->entry[store], ht_gemm_kernel_name(v->kernel), blocks, HT_GEMM_THREADS, v->shared_bytes,
                          v->cluster, 1, ht_cuda_stream(stream), arguments);
}
