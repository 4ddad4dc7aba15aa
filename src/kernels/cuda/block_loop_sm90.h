/* Inner loop and kernel of the fp8 products with scales along k (gemm_block_sm90.cu, grouped_block_sm90.cu): a scaled
 * per row and 128 of k, b per 128 x 128 or per row and 128 of k.
 *
 * The scales change every 128 of k, which is one stage. A consumer multiplies a stage into a fresh accumulator (256
 * columns in two parts, 192 at once), waits, and adds it, scaled, to the tile's sums in ordinary registers
 * ("promotion"). Meanwhile the other consumer has the tensor cores. Scales that differ by row come with a stage by TMA;
 * those of 128 x 128 blocks are one load each. The promotion also keeps chains of the tensor cores' 14-bit sums 128
 * long, so the error does not grow with k.
 *
 * Source: training and attention specification, section 5.1.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_BLOCK_LOOP_SM90_H
#define HT_KERNELS_CUDA_BLOCK_LOOP_SM90_H

#include "kernels/cuda/gemm_store_sm90.h"

enum { HT_BLOCK = 128, HT_BLOCK_CLUSTER = 2 };

typedef struct ht_block_job {
    ht_gemm_job gemm;
    const float *scale_b; /* [groups, b_rows, k blocks], or NULL: they come with the stages */
    int b_rows;
} ht_block_job;

/* part = the stage's a times N columns of b, starting at zero. */
template <int N>
static __device__ __forceinline__ void ht_block_multiply(float (&part)[N / 2], uint64_t a, uint64_t b) {
    ht_wgmma_fence();
#pragma unroll
    for (int step = 0; step < 4; step++)
        ht_wgmma<1, N>(part, a + step * 2, b + step * 2, step);
    ht_wgmma_commit();
    ht_wgmma_wait<0>();
}

/* sum += part, scaled by block: columns below 64, below 128 and above it have column scales 0, 1, 2. */
template <int N>
static __device__ __forceinline__ void ht_block_promote(float *sum, const float (&part)[N / 2], const float (&row)[2],
                                                        const float (&column)[3]) {
    float scale[3][2];
#pragma unroll
    for (int i = 0; i < 6; i++)
        scale[i / 2][i % 2] = row[i % 2] * column[i / 2];
#pragma unroll
    for (int i = 0; i < N / 2; i++)
        sum[i] = fmaf(scale[i / 32 < 2 ? i / 32 : 2][i / 2 % 2], part[i], sum[i]);
}

/* The same with a scale a column, in shared memory. */
template <int N>
static __device__ __forceinline__ void ht_block_promote_columns(float *sum, const float (&part)[N / 2],
                                                                const float (&row)[2], uint32_t columns) {
#pragma unroll
    for (int octet = 0; octet < N / 8; octet++) {
        float column[2];
        ht_load_shared_pair(columns + (octet * 8 + 2 * (threadIdx.x % 4)) * 4, column[0], column[1]);
#pragma unroll
        for (int i = octet * 4; i < octet * 4 + 4; i++)
            sum[i] = fmaf(row[i / 2 % 2] * column[i % 2], part[i], sum[i]);
    }
}

/* column: scales of the tile's columns 0-63, 64-127, 128-191, 192-255. */
template <class RING>
static __device__ __forceinline__ void ht_block_stage(uint32_t base, const ht_gemm_tile &tile,
                                                      const ht_gemm_cursor &cursor, float (&sum)[RING::BN / 2],
                                                      const float (&column)[4]) {
    enum { N = RING::BN == 256 ? 128 : RING::BN, BY_ROW = RING::SCALE_BYTES > HT_SCALE_SLOT };
    const int group = threadIdx.x / 128 - 1, row = group * 64 + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    const uint32_t at = base + cursor.stage * RING::STAGE_BYTES;
    const uint32_t scales = base + RING::SCALES_AT + cursor.stage * RING::SCALE_BYTES;
    const uint32_t of_rows = scales + (row + (tile.row & 3)) * 4;
    const uint64_t a = ht_wgmma_descriptor(at + group * 64 * HT_TILE_ROW_BYTES);
    const uint64_t b = ht_wgmma_descriptor(at + RING::A_BYTES);
    ht_mbarrier_wait(base + RING::FULL_AT + cursor.stage * 8, cursor.parity);
    const float row_scale[2] = {ht_load_shared(of_rows), ht_load_shared(of_rows + 8 * 4)};
#pragma unroll
    for (int first = 0; first < RING::BN; first += N) {
        float part[N / 2];
        ht_block_multiply<N>(part, a, b + first * HT_TILE_ROW_BYTES / 16);
        const int last = first + N == RING::BN;
        if (last && !BY_ROW)
            ht_gemm_release<HT_BLOCK_CLUSTER>(base + RING::EMPTY_AT + cursor.stage * 8);
        const float three[3] = {column[first / 64], column[first / 64 + 1], column[N == 192 ? 2 : first / 64 + 1]};
        if (BY_ROW)
            ht_block_promote_columns<N>(sum + first / 2, part, row_scale, scales + HT_SCALE_SLOT + first * 4);
        else
            ht_block_promote<N>(sum + first / 2, part, row_scale, three);
        if (last && BY_ROW)
            ht_gemm_release<HT_BLOCK_CLUSTER>(base + RING::EMPTY_AT + cursor.stage * 8);
    }
}

template <class RING, int STORE, int GROUPS>
static __device__ __forceinline__ void ht_block_consume(const ht_block_job &job, uint32_t base, const CUtensorMap *d,
                                                        uint32_t rank) {
    ht_gemm_cursor cursor = {0, 0};
    ht_gemm_walk walk = ht_gemm_walk_new<HT_BLOCK_CLUSTER>();
    ht_gemm_tile tile;
    while (ht_gemm_next<RING, GROUPS, HT_BLOCK_CLUSTER, 1>(job.gemm, walk, rank, tile)) {
        const ht_gemm_scales<RING::BN> none = ht_gemm_load_scales<RING::BN>(job.gemm, tile);
        const int left = tile.column / HT_BLOCK, middle = (tile.column + 64) / HT_BLOCK;
        const float *of_left = job.scale_b + ((size_t)tile.group * job.b_rows + left) * job.gemm.k_blocks;
        const float *of_right =
            job.scale_b + ((size_t)tile.group * job.b_rows + min(left + 1, job.b_rows - 1)) * job.gemm.k_blocks;
        float sum[RING::BN / 2] = {};
        for (int block = 0; block < tile.blocks; block++) {
            float column[4] = {1, 1, 1, 1};
            if (RING::SCALE_BYTES == HT_SCALE_SLOT) {
                column[0] = __ldg(of_left + block);
                column[3] = column[2] = __ldg(of_right + block);
                column[1] = RING::BN == 192 && middle != left ? column[2] : column[0];
            }
            ht_block_stage<RING>(base, tile, cursor, sum, column);
            ht_gemm_advance<RING::STAGES>(cursor);
        }
        ht_gemm_outgoing<RING::BN> out;
        ht_gemm_epilogue<RING, STORE, GROUPS>(job.gemm, base, d, tile, none, sum, out);
        if (STORE == HT_STORE_BF16)
            ht_gemm_send_whole<RING, GROUPS>(job.gemm, base, d, out);
    }
}

template <class RING, int STORE, int GROUPS>
static __global__ __launch_bounds__(HT_GEMM_THREADS, 1) void ht_block_kernel_sm90(
    const __grid_constant__ CUtensorMap a, const __grid_constant__ CUtensorMap b,
    const __grid_constant__ CUtensorMap scale_a, const __grid_constant__ CUtensorMap scale_b,
    const __grid_constant__ CUtensorMap d, const __grid_constant__ ht_block_job job) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const uint32_t base = ht_shared_address(memory), rank = ht_cluster_rank();
    const ht_gemm_maps maps = {&a, &b, &scale_a, &scale_b};
    ht_gemm_start<RING, HT_BLOCK_CLUSTER>(base);
    if (threadIdx.x < 128) {
        ht_registers_lower<HT_PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            ht_gemm_produce<RING, HT_BLOCK_CLUSTER, GROUPS, 1>(job.gemm, base, maps, rank);
    } else {
        ht_registers_raise<HT_CONSUMER_REGISTERS>();
        ht_block_consume<RING, STORE, GROUPS>(job, base, &d, rank);
    }
    ht_gemm_finish<HT_BLOCK_CLUSTER>();
}

/* Rings: 128 x 128 scales, wide and narrow; and scales by row. All stage a whole bf16 tile. */
typedef ht_gemm_ring<256, 3, 4, 1> ht_block_wide;
typedef ht_gemm_ring<192, 4, 3, 1> ht_block_middle;
typedef ht_gemm_ring<256, 3, 4, 2> ht_block_rows;

#endif
