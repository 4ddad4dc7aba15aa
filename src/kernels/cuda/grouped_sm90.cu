/* Products of groups on Hopper: bf16, fp8 with scales per row, fp8 with scales along k (gemm_loop_sm90.h and
 * block_loop_sm90.h for the kernels).
 *
 * The blocks walk over the tiles of all groups in one launch; each finds a tile's group from the offsets in memory, so
 * the host never waits for them. A tile of rows may reach into the next group: what it computes there is dropped, and
 * the rows that are stored go by ordinary stores (ht_gemm_copy_rows) instead of TMA. Along k, the last stage of a group
 * may hold elements of the next, and the first, which starts on 16 bytes, of the one before: they are set to zero in
 * shared memory (ht_gemm_keep).
 *
 * Refuses: n not a multiple of 8, rows of operands not on 16 bytes, accumulation other than along k into f32, other
 * GPUs than Hopper.
 * Source: training and attention specification, sections 1.5 and 5.1.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <limits.h>

#include "kernels/cuda/block_loop_sm90.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/gemm_loop_sm90.h"
#include "kernels/cuda/runtime.h"

#define PLAIN(fp8, ring, cluster, groups)                                                                              \
    {                                                                                                                  \
        (const void *)ht_gemm_kernel_sm90<fp8, ring, cluster, HT_STORE_BF16, groups>,                                  \
            (const void *)ht_gemm_kernel_sm90<fp8, ring, cluster, HT_STORE_F32, groups>                                \
    }
#define BLOCK(ring, groups)                                                                                            \
    {                                                                                                                  \
        (const void *)ht_block_kernel_sm90<ring, HT_STORE_BF16, groups>,                                               \
            (const void *)ht_block_kernel_sm90<ring, HT_STORE_F32, groups>                                             \
    }

/* One row per compiled pair of kernels. */
typedef struct variant {
    ht_dtype in;
    int block_scales, along_k;
    ht_gemm_kernel kernel;
    unsigned columns, cluster, shared_bytes;
    const void *entry[2]; /* bf16, f32 */
} variant;

static const variant variants[] = {
    {HT_BF16, 0, 0, HT_GEMM_SM90_128X256, 256, 2, ht_gemm_wide::SHARED_BYTES,
     PLAIN(0, ht_gemm_wide, 2, HT_GROUPS_OF_ROWS)},
    {HT_BF16, 0, 0, HT_GEMM_SM90_SINGLE, 128, 1, ht_gemm_narrow::SHARED_BYTES,
     PLAIN(0, ht_gemm_narrow, 1, HT_GROUPS_OF_ROWS)},
    {HT_BF16, 0, 1, HT_GEMM_SM90_128X256, 256, 2, ht_gemm_wide::SHARED_BYTES,
     PLAIN(0, ht_gemm_wide, 2, HT_GROUPS_OF_K)},
    {HT_F8_E4M3, 0, 0, HT_GEMM_SM90_128X256, 256, 2, ht_gemm_wide::SHARED_BYTES,
     PLAIN(1, ht_gemm_wide, 2, HT_GROUPS_OF_ROWS)},
    {HT_F8_E4M3, 0, 0, HT_GEMM_SM90_SINGLE, 128, 1, ht_gemm_narrow::SHARED_BYTES,
     PLAIN(1, ht_gemm_narrow, 1, HT_GROUPS_OF_ROWS)},
    {HT_F8_E4M3, 0, 1, HT_GEMM_SM90_128X256, 256, 2, ht_gemm_wide::SHARED_BYTES,
     PLAIN(1, ht_gemm_wide, 2, HT_GROUPS_OF_K)},
    {HT_F8_E4M3, 1, 0, HT_GEMM_SM90_128X256, 256, 2, ht_block_wide::SHARED_BYTES,
     BLOCK(ht_block_wide, HT_GROUPS_OF_ROWS)},
    {HT_F8_E4M3, 1, 1, HT_GEMM_SM90_128X256, 256, 2, ht_block_rows::SHARED_BYTES, BLOCK(ht_block_rows, HT_GROUPS_OF_K)},
};

static ht_status check_sizes(const ht_cuda_grouped_args *g) {
    size_t limit = INT_MAX / 2, bytes = g->in == HT_F8_E4M3 ? 1 : 2;
    if (g->groups == 0 || g->m == 0 || g->n == 0 || g->k == 0 || g->n > limit || g->k > limit ||
        g->m > limit / (g->form == HT_GROUPS_CONTIGUOUS ? 1 : g->groups) || g->groups > limit / g->n)
        return ht_fail(HT_ERR_SHAPE, "cuda grouped product: %zu groups, m %zu, n %zu, k %zu: too large, or zero",
                       g->groups, g->m, g->n, g->k);
    if (g->n % 8 || g->k * bytes % 16)
        return ht_fail(HT_ERR_SHAPE, "cuda grouped product: n %zu must be a multiple of 8, k %zu of %zu", g->n, g->k,
                       16 / bytes);
    return HT_OK;
}

static ht_status check_block_scales(const ht_cuda_grouped_args *g) {
    size_t rows = g->form == HT_GROUPS_MASKED ? g->groups * g->m : g->m;
    int by_row = g->form == HT_GROUPS_ALONG_K;
    if (g->k % HT_BLOCK || g->in != HT_F8_E4M3)
        return ht_fail(HT_ERR_SHAPE, "cuda grouped product: block scales need e4m3 and k in multiples of 128, not %zu",
                       g->k);
    if (g->lds < rows || g->lds % 4 || (by_row && (g->lds_b < g->n || g->lds_b % 4)))
        return ht_fail(HT_ERR_SHAPE,
                       "cuda grouped product: rows of scales hold %zu and %zu numbers for %zu rows and n %zu, or are "
                       "not on 16 bytes",
                       g->lds, g->lds_b, rows, g->n);
    return HT_OK;
}

static ht_status check(const ht_cuda_grouped_args *g, int capability) {
    if ((g->in != HT_BF16 && g->in != HT_F8_E4M3) || (g->out != HT_BF16 && g->out != HT_F32))
        return ht_fail(HT_ERR_UNSUPPORTED,
                       "cuda grouped product: %s in, %s out; known are bf16 or f8_e4m3 in, bf16 or f32 out",
                       ht_dtype_name(g->in), ht_dtype_name(g->out));
    HT_TRY(check_sizes(g));
    if (g->block_scales)
        HT_TRY(check_block_scales(g));
    if (g->accumulate && (g->out != HT_F32 || g->form != HT_GROUPS_ALONG_K))
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda grouped product: accumulates along k into f32 only");
    if (capability != 90)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda grouped product: needs compute capability 9.0, this device has %d.%d",
                       capability / 10, capability % 10);
    return HT_OK;
}

/* Single blocks of 128 x 128 waste less where a group's share of the rows is small; clusters are faster otherwise. */
static const variant *choose(const ht_cuda_grouped_args *g) {
    size_t rows = g->form == HT_GROUPS_CONTIGUOUS ? g->m / g->groups : g->m;
    ht_gemm_kernel wanted = g->kernel;
    if (wanted == HT_GEMM_AUTO)
        wanted = rows <= HT_TILE_M && !g->block_scales && g->form != HT_GROUPS_ALONG_K ? HT_GEMM_SM90_SINGLE
                                                                                       : HT_GEMM_SM90_128X256;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        const variant *v = &variants[i];
        if (v->in == g->in && v->block_scales == g->block_scales && v->along_k == (g->form == HT_GROUPS_ALONG_K) &&
            v->kernel == wanted)
            return v;
    }
    return NULL;
}

static ht_block_job job_of(const ht_cuda_grouped_args *g, const variant *v) {
    size_t k_step = HT_TILE_ROW_BYTES / (g->in == HT_F8_E4M3 ? 1 : 2);
    ht_block_job job = {};
    job.gemm.m = (int)g->m;
    job.gemm.n = (int)g->n;
    job.gemm.k_blocks = (int)ht_ceil_div(g->k, k_step);
    job.gemm.m_tiles = (int)ht_ceil_div(g->m, HT_TILE_M * v->cluster);
    job.gemm.n_tiles = (int)ht_ceil_div(g->n, v->columns);
    job.gemm.raster = g->raster ? (int)g->raster : 8;
    job.gemm.d = g->d;
    job.gemm.ldd = g->n;
    job.gemm.out_f32 = g->out == HT_F32;
    job.gemm.accumulate = g->accumulate;
    job.gemm.groups = (int)g->groups;
    job.gemm.slot = g->form == HT_GROUPS_MASKED ? (int)g->m : 0;
    job.gemm.limit = g->form == HT_GROUPS_ALONG_K ? (int)g->k : (int)g->m;
    job.gemm.offsets = g->offsets;
    job.b_rows = (int)ht_ceil_div(g->n, HT_BLOCK);
    if (g->block_scales) {
        job.scale_b = g->scale_b;
    } else {
        job.gemm.scale_a = g->scale_a;
        job.gemm.scale_b = g->scale_b;
    }
    return job;
}

/* a, b, scale_a, scale_b, d. */
static ht_status maps_of(const ht_cuda_grouped_args *g, const variant *v, CUtensorMap maps[5]) {
    int fp8 = g->in == HT_F8_E4M3, along_k = g->form == HT_GROUPS_ALONG_K;
    size_t bytes = fp8 ? 1 : 2, out_bytes = g->out == HT_BF16 ? 2 : 4;
    unsigned k_step = HT_TILE_ROW_BYTES / (unsigned)bytes, out_step = 128 / (unsigned)out_bytes;
    size_t a_rows = g->form == HT_GROUPS_MASKED ? g->groups * g->m : g->m;
    CUtensorMapDataType type = fp8 ? CU_TENSOR_MAP_DATA_TYPE_UINT8 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
    CUtensorMapDataType out = g->out == HT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32;
    HT_TRY(ht_cuda_tensor_map(&maps[0], type, bytes, g->a, a_rows, g->k, g->k, HT_TILE_M, k_step, 1));
    HT_TRY(ht_cuda_tensor_map(&maps[1], type, bytes, g->b, along_k ? g->n : g->groups * g->n, g->k, g->k,
                              v->columns / v->cluster, k_step, 1));
    maps[2] = maps[3] = maps[0]; /* read with block scales alone */
    if (g->block_scales)
        HT_TRY(ht_cuda_tensor_map(&maps[2], CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, g->scale_a, g->k / HT_BLOCK, a_rows,
                                  g->lds, 1, HT_SCALE_ROWS, 0));
    if (g->block_scales && along_k)
        HT_TRY(ht_cuda_tensor_map(&maps[3], CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, g->scale_b, g->k / HT_BLOCK, g->n,
                                  g->lds_b, 1, v->columns, 0));
    if (along_k)
        return ht_cuda_tensor_map_stack(&maps[4], out, out_bytes, g->d, g->groups, g->m, g->n, 64, out_step);
    return ht_cuda_tensor_map(&maps[4], out, out_bytes, g->d, a_rows, g->n, g->n, 64, out_step, 1);
}

ht_status ht_cuda_grouped(const ht_cuda_grouped_args *args, ht_stream *stream) {
    int multiprocessors, capability;
    HT_TRY(ht_cuda_device_shape(&multiprocessors, &capability));
    HT_TRY(check(args, capability));
    const variant *v = choose(args);
    if (!v)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda grouped product: no kernel %s of this kind",
                       ht_gemm_kernel_name(args->kernel));
    CUtensorMap maps[5];
    HT_TRY(maps_of(args, v, maps));
    ht_block_job job = job_of(args, v);
    void *plain[] = {&maps[0], &maps[1], &maps[4], &job.gemm};
    void *block[] = {&maps[0], &maps[1], &maps[2], &maps[3], &maps[4], &job};
    return ht_cuda_launch(v->entry[args->out == HT_F32], "grouped product",
                          (unsigned)multiprocessors / v->cluster * v->cluster, HT_GEMM_THREADS, v->shared_bytes,
                          v->cluster, 1, ht_cuda_stream(stream), args->block_scales ? block : plain);
}
