/* Inner loop and kernel of the products whose scales are applied once, after the sums (gemm_sm90.cu, grouped_sm90.cu).
 *
 * A consumer warpgroup issues four wgmma on the stage that just landed before it waits for those of the stage before,
 * so the tensor cores always have the next product queued. fp8 runs the same loop as bf16: a stage is 128 bytes of k
 * either way.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_GEMM_LOOP_SM90_H
#define HT_KERNELS_CUDA_GEMM_LOOP_SM90_H

#include "kernels/cuda/gemm_store_sm90.h"

/* One stage: wait for its tiles, issue four products, and give back the stage before once its products are done. */
template <int FP8, class RING, int CLUSTER, int GROUPS>
static __device__ __forceinline__ void ht_gemm_consume_stage(uint32_t base, const ht_gemm_tile &tile,
                                                             ht_gemm_cursor &cursor, float (&sum)[RING::BN / 2],
                                                             uint32_t &previous, int block) {
    const uint32_t at = base + cursor.stage * RING::STAGE_BYTES;
    const uint64_t a = ht_wgmma_descriptor(at + (threadIdx.x / 128 - 1) * 64 * HT_TILE_ROW_BYTES);
    const uint64_t b = ht_wgmma_descriptor(at + RING::A_BYTES);
    ht_mbarrier_wait(base + RING::FULL_AT + cursor.stage * 8, cursor.parity);
    if (GROUPS == HT_GROUPS_OF_K) {
        const int from = block == 0 ? tile.head : 0, to = block + 1 == tile.blocks ? tile.tail : HT_TILE_ROW_BYTES;
        if (from > 0 || to < HT_TILE_ROW_BYTES)
            ht_gemm_keep<RING>(at, from, to);
    }
    ht_wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; step++)
        ht_wgmma<FP8, RING::BN>(sum, a + step * 2, b + step * 2, block | step);
    ht_wgmma_commit();
    if (block > 0) {
        ht_wgmma_wait<1>();
        ht_gemm_release<CLUSTER>(previous);
    }
    previous = base + RING::EMPTY_AT + cursor.stage * 8;
    ht_gemm_advance<RING::STAGES>(cursor);
}

template <int FP8, class RING, int CLUSTER, int STORE, int GROUPS>
static __device__ __forceinline__ void ht_gemm_consume(const ht_gemm_job &job, uint32_t base, const CUtensorMap *d,
                                                       uint32_t rank) {
    enum { BN = RING::BN, CHUNKS = STORE == HT_STORE_BF16 ? BN / HT_CHUNK_COLUMNS : 0 };
    ht_gemm_cursor cursor = {0, 0};
    ht_gemm_walk walk = ht_gemm_walk_new<CLUSTER>();
    ht_gemm_tile tile;
    ht_gemm_outgoing<BN> out;
    out.pending = 0;
    while (ht_gemm_next < RING, GROUPS, CLUSTER, FP8 ? 1 : 2 > (job, walk, rank, tile)) {
        float sum[BN / 2];
        uint32_t previous = 0;
        int block = 0;
        const ht_gemm_scales<BN> scales = ht_gemm_load_scales<BN>(job, tile);
        /* the last tile leaves a chunk at a time, each under the products of one stage */
#pragma unroll
        for (int chunk = 0; chunk < CHUNKS; chunk++) {
            if (block < tile.blocks)
                ht_gemm_consume_stage<FP8, RING, CLUSTER, GROUPS>(base, tile, cursor, sum, previous, block++);
            if (out.pending)
                ht_gemm_send_bf16<RING, GROUPS>(job, base, d, out, chunk);
        }
        while (block < tile.blocks)
            ht_gemm_consume_stage<FP8, RING, CLUSTER, GROUPS>(base, tile, cursor, sum, previous, block++);
        ht_wgmma_wait<0>();
        ht_gemm_release<CLUSTER>(previous);
        ht_gemm_epilogue<RING, STORE, GROUPS>(job, base, d, tile, scales, sum, out);
    }
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        if (out.pending)
            ht_gemm_send_bf16<RING, GROUPS>(job, base, d, out, chunk);
}

template <int FP8, class RING, int CLUSTER, int STORE, int GROUPS>
static __global__ __launch_bounds__(HT_GEMM_THREADS,
                                    1) void ht_gemm_kernel_sm90(const __grid_constant__ CUtensorMap a,
                                                                const __grid_constant__ CUtensorMap b,
                                                                const __grid_constant__ CUtensorMap d,
                                                                const __grid_constant__ ht_gemm_job job) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const uint32_t base = ht_shared_address(memory), rank = CLUSTER > 1 ? ht_cluster_rank() : 0;
    const ht_gemm_maps maps = {&a, &b, NULL, NULL};
    ht_gemm_start<RING, CLUSTER>(base);
    if (threadIdx.x < 128) {
        ht_registers_lower<HT_PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            ht_gemm_produce<RING, CLUSTER, GROUPS, FP8 ? 1 : 2>(job, base, maps, rank);
    } else {
        ht_registers_raise<HT_CONSUMER_REGISTERS>();
        ht_gemm_consume<FP8, RING, CLUSTER, STORE, GROUPS>(job, base, &d, rank);
    }
    ht_gemm_finish<CLUSTER>();
}

/* The two shapes of ring. */
typedef ht_gemm_ring<256, 4> ht_gemm_wide;
typedef ht_gemm_ring<128, 6> ht_gemm_narrow;

#endif
