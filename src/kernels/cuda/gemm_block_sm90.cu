/* fp8 product with block scales on Hopper: a scaled per row and 128 of k, b per 128 x 128 (gemm_sm90.h for the
 * skeleton).
 *
 * The scales change every 128 of k, which is one stage. A consumer multiplies the stage's left and right 128 columns
 * into a fresh 64 x 128 accumulator each, waits, and adds it, scaled, to the tile's sums in ordinary registers
 * ("promotion"): 128 sums + 64 accumulators a thread. Meanwhile the other consumer has the tensor cores. The row scales
 * of a stage (512 bytes) come with its tiles by TMA; the two column scales are one load each. The promotion also keeps
 * chains of the tensor cores' 14-bit sums 128 long, so the error does not grow with k.
 *
 * Refuses: k not a multiple of 128, scale rows not on 16 bytes, other GPUs than Hopper.
 * Source: training and attention specification, section 5.1.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/gemm_sm90.h"

#include <limits.h>

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum { BN = 256, CLUSTER = 2, BLOCK = 128, TURN = 3 /* and 4: barriers of the consumers' turns */ };

typedef struct block_job {
    ht_gemm_job gemm;
    const float *scale_b; /* [n / 128, k blocks] */
    int b_rows;
} block_job;

/* part = the stage's a times 128 columns of b, starting at zero. The warpgroups take turns: each lets the other go when
 * its last product is all that is left, so that one promotes while the other multiplies, and the tensor cores always
 * have a product waiting. */
static __device__ __forceinline__ void multiply_half(float (&part)[64], uint64_t a, uint64_t b, int group) {
    ht_named_barrier(TURN + group, 256);
    ht_wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; step++) {
        ht_wgmma<1, 128>(part, a + step * 2, b + step * 2, step);
        if (step >= 2)
            ht_wgmma_commit();
    }
    ht_wgmma_wait<1>();
    ht_named_barrier_arrive(TURN + 1 - group, 256);
    ht_wgmma_wait<0>();
}

template <int HALF>
static __device__ __forceinline__ void promote(float (&sum)[BN / 2], const float (&part)[64], const float (&row)[2],
                                               float column) {
    const float scale[2] = {row[0] * column, row[1] * column};
#pragma unroll
    for (int i = 0; i < 64; i++)
        sum[HALF * 64 + i] = fmaf(scale[i / 2 % 2], part[i], sum[HALF * 64 + i]);
}

static __device__ __forceinline__ void consume_stage(const block_job &job, const ht_gemm_shared &shared,
                                                     const ht_gemm_cursor &cursor, float (&sum)[BN / 2],
                                                     const float (&column)[2]) {
    typedef ht_gemm_ring<BN> ring;
    const int group = threadIdx.x / 128 - 1, row = group * 64 + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    const uint32_t at = shared.ring + cursor.stage * ring::STAGE_BYTES;
    const uint32_t scales = shared.scales + cursor.stage * HT_SCALE_BYTES + row * 4;
    const uint64_t a = ht_wgmma_descriptor(at + group * 64 * HT_TILE_ROW_BYTES);
    const uint64_t b = ht_wgmma_descriptor(at + ring::A_BYTES);
    const uint64_t half = BLOCK * HT_TILE_ROW_BYTES / 16;
    float part[64];
    ht_mbarrier_wait(shared.full + cursor.stage * 8, cursor.parity);
    const float row_scale[2] = {ht_load_shared(scales), ht_load_shared(scales + 8 * 4)};
    multiply_half(part, a, b, group);
    promote<0>(sum, part, row_scale, column[0]);
    multiply_half(part, a, b + half, group);
    ht_gemm_release<CLUSTER>(shared.empty + cursor.stage * 8);
    promote<1>(sum, part, row_scale, column[1]);
}

template <int STORE>
static __device__ __forceinline__ void consume(const block_job &job, const ht_gemm_shared &shared, const CUtensorMap *d,
                                               uint32_t rank) {
    const int tiles = job.gemm.m_tiles * job.gemm.n_tiles, blocks = job.gemm.k_blocks;
    ht_gemm_cursor cursor = {0, 0};
    if (threadIdx.x >= 256)
        ht_named_barrier_arrive(TURN, 256); /* the first turn is the first group's */
    for (int index = blockIdx.x / CLUSTER; index < tiles; index += gridDim.x / CLUSTER) {
        const ht_gemm_tile tile = ht_gemm_tile_at<BN, CLUSTER>(job.gemm, index, rank);
        const ht_gemm_scales<BN> none = ht_gemm_load_scales<BN>(job.gemm, tile);
        const int left = tile.column / BLOCK;
        const float *scales[2] = {job.scale_b + (size_t)min(left, job.b_rows - 1) * blocks,
                                  job.scale_b + (size_t)min(left + 1, job.b_rows - 1) * blocks};
        float sum[BN / 2] = {};
        for (int block = 0; block < blocks; block++) {
            const float column[2] = {__ldg(scales[0] + block), __ldg(scales[1] + block)};
            consume_stage(job, shared, cursor, sum, column);
            ht_gemm_advance<ht_gemm_ring<BN>::STAGES>(cursor);
        }
        ht_gemm_outgoing<BN> out;
        ht_gemm_epilogue<BN, STORE>(job.gemm, shared, d, tile, none, sum, out);
        if (STORE == HT_STORE_BF16) {
#pragma unroll
            for (int chunk = 0; chunk < BN / HT_CHUNK_COLUMNS; chunk++)
                ht_gemm_send_bf16<BN>(shared, d, out, chunk);
        }
    }
}

template <int STORE>
static __global__ __launch_bounds__(HT_GEMM_THREADS, 1) void block_kernel(const __grid_constant__ CUtensorMap a,
                                                                          const __grid_constant__ CUtensorMap b,
                                                                          const __grid_constant__ CUtensorMap scales,
                                                                          const __grid_constant__ CUtensorMap d,
                                                                          const __grid_constant__ block_job job) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const ht_gemm_shared shared = ht_gemm_shared_at(memory);
    const uint32_t rank = ht_cluster_rank();
    ht_gemm_start<BN, CLUSTER>(shared);
    if (threadIdx.x < 128) {
        ht_registers_lower<HT_PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            ht_gemm_produce<BN, CLUSTER, BLOCK, 1>(job.gemm, shared, &a, &b, &scales, rank);
    } else {
        ht_registers_raise<HT_CONSUMER_REGISTERS>();
        consume<STORE>(job, shared, &d, rank);
    }
    ht_gemm_finish<CLUSTER>();
}

static const void *const kernels[3] = {(const void *)block_kernel<HT_STORE_BF16>,
                                       (const void *)block_kernel<HT_STORE_F32>,
                                       (const void *)block_kernel<HT_STORE_ANY>};

static ht_status check(const ht_cuda_gemm_block_args *args, int capability) {
    if (args->m == 0 || args->n == 0 || args->k == 0 || args->k % BLOCK || args->m > INT_MAX - 256 ||
        args->n > INT_MAX - 256 || args->k > INT_MAX - 256)
        return ht_fail(HT_ERR_SHAPE, "cuda block product: m %zu, n %zu, k %zu: k must be a multiple of 128", args->m,
                       args->n, args->k);
    if (args->lds < args->m || args->lds % 4 || (uintptr_t)args->scale_a % 16)
        return ht_fail(HT_ERR_SHAPE,
                       "cuda block product: rows of scale_a hold %zu numbers; they need %zu or more, on 16 bytes",
                       args->lds, args->m);
    if (args->out != HT_BF16 && args->out != HT_F32)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda block product: output %s; known are bf16 and f32",
                       ht_dtype_name(args->out));
    if (capability != 90)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda block product: needs compute capability 9.0, this device has %d.%d",
                       capability / 10, capability % 10);
    return HT_OK;
}

ht_status ht_cuda_gemm_block(const ht_cuda_gemm_block_args *args, ht_stream *stream) {
    int multiprocessors, capability;
    HT_TRY(ht_cuda_device_shape(&multiprocessors, &capability));
    HT_TRY(check(args, capability));
    size_t blocks_k = args->k / BLOCK, out_bytes = args->out == HT_BF16 ? 2 : 4;
    int store = args->out == HT_BF16 ? HT_STORE_BF16 : HT_STORE_F32;
    CUtensorMap a, b, scales, d;
    HT_TRY(ht_cuda_tensor_map(&a, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, args->a, args->m, args->k, args->k, HT_TILE_M,
                              BLOCK, 1));
    HT_TRY(ht_cuda_tensor_map(&b, CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, args->b, args->n, args->k, args->k, BN / CLUSTER,
                              BLOCK, 1));
    HT_TRY(ht_cuda_tensor_map(&scales, CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, args->scale_a, blocks_k, args->m, args->lds,
                              1, HT_TILE_M, 0));
    if (((uintptr_t)args->d | args->n * out_bytes) % 16)
        store = HT_STORE_ANY;
    d = a; /* not read by HT_STORE_ANY */
    if (store != HT_STORE_ANY)
        HT_TRY(ht_cuda_tensor_map(
            &d, args->out == HT_BF16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT32, out_bytes,
            args->d, args->m, args->n, args->n, 64, 128 / (unsigned)out_bytes, 1));
    block_job job = {};
    job.gemm.m = (int)args->m;
    job.gemm.n = (int)args->n;
    job.gemm.k_blocks = (int)blocks_k;
    job.gemm.m_tiles = (int)ht_ceil_div(args->m, HT_TILE_M * CLUSTER);
    job.gemm.n_tiles = (int)ht_ceil_div(args->n, BN);
    job.gemm.raster = args->raster ? (int)args->raster : 8;
    job.gemm.d = args->d;
    job.gemm.ldd = args->n;
    job.gemm.out_f32 = args->out == HT_F32;
    job.scale_b = args->scale_b;
    job.b_rows = (int)ht_ceil_div(args->n, BLOCK);
    unsigned tiles = (unsigned)job.gemm.m_tiles * (unsigned)job.gemm.n_tiles;
    unsigned slots = (unsigned)multiprocessors / CLUSTER;
    void *arguments[] = {&a, &b, &scales, &d, &job};
    return ht_cuda_launch(kernels[store], "fp8 product with block scales", (tiles < slots ? tiles : slots) * CLUSTER,
                          HT_GEMM_THREADS, HT_GEMM_SHARED_BYTES, CLUSTER, 1, ht_cuda_stream(stream), arguments);
}
