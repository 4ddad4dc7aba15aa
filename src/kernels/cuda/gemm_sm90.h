/* The skeleton of the Hopper matrix products: which warps do what, the ring of shared-memory stages, the walk over
 * tiles, the copy loop and the epilogue. A product adds its own inner loop (gemm_sm90.cu, gemm_block_sm90.cu).
 *
 *   warpgroup 0   one thread copies A and B tiles into the ring with TMA
 *   warpgroup 1   rows  0..63  of the block's 128 x BN tile    } wgmma from shared memory, accumulators in registers
 *   warpgroup 2   rows 64..127                                 }
 *
 *   shared memory   | stage 0: A 128 x 128 B, B BN x 128 B | stage 1 | ... |  192 KiB in all, 128-byte swizzle
 *                   | staging: 2 warpgroups x 2 x (64 x 128 B), for TMA stores | scales | barriers |
 *
 * A stage holds 128 bytes of K (64 bf16 or 128 fp8). Two blocks of a cluster own neighbouring row tiles of the same
 * columns; each copies its half of B and multicasts it to both, so B crosses from L2 once per cluster.
 * full[s] ends when both copies of stage s have landed; empty[s] when all 8 consumer warps of every block of the
 * cluster are done with it. The grid is one block per multiprocessor and walks the tiles in bands of `raster` rows.
 *
 * Source: PTX ISA 9.0 (wgmma, mbarrier); training and attention specification, sections 5 and 9.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_GEMM_SM90_H
#define HT_KERNELS_CUDA_GEMM_SM90_H

#include <cuda_bf16.h>

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/wgmma.h"

enum {
    HT_TILE_M = 128,
    HT_TILE_ROW_BYTES = 128,
    HT_RING_BYTES = 192 * 1024,
    HT_CHUNK_COLUMNS = 64, /* columns that one TMA store writes */
    HT_CHUNK_BYTES = 64 * HT_CHUNK_COLUMNS * 2,
    HT_STAGING_BYTES = 2 * 2 * HT_CHUNK_BYTES,
    HT_SCALE_BYTES = HT_TILE_M * 4, /* of one stage, block-scaled products only */
    HT_COLUMN_BYTES = 1024,         /* column scales of a warpgroup, in the same place */
    HT_MAX_STAGES = 6,
    HT_BARRIER_BYTES = 2 * HT_MAX_STAGES * 8,
    HT_GEMM_THREADS = 384,
    HT_PRODUCER_REGISTERS = 40,
    HT_CONSUMER_REGISTERS = 232
};

/* What a kernel needs besides the tensor maps. Tiles count clusters along m. */
typedef struct ht_gemm_job {
    int m, n, k_blocks;
    int m_tiles, n_tiles, raster;
    void *d;
    size_t ldd;
    const float *alpha_a, *alpha_b, *scale_a, *scale_b, *bias;
    int out_f32, accumulate;
} ht_gemm_job;

template <int BN> struct ht_gemm_ring {
    enum {
        A_BYTES = HT_TILE_M * HT_TILE_ROW_BYTES,
        B_BYTES = BN * HT_TILE_ROW_BYTES,
        STAGE_BYTES = A_BYTES + B_BYTES,
        STAGES = HT_RING_BYTES / STAGE_BYTES
    };
};

/* Shared-memory addresses of one block. */
typedef struct ht_gemm_shared {
    uint32_t ring, staging, scales, full, empty;
} ht_gemm_shared;

static __device__ __forceinline__ ht_gemm_shared ht_gemm_shared_at(const void *base) {
    ht_gemm_shared shared;
    shared.ring = ht_shared_address(base);
    shared.staging = shared.ring + HT_RING_BYTES;
    shared.scales = shared.staging + HT_STAGING_BYTES;
    shared.full = shared.scales + 4 * HT_SCALE_BYTES;
    shared.empty = shared.full + HT_MAX_STAGES * 8;
    return shared;
}

enum { HT_GEMM_SHARED_BYTES = HT_RING_BYTES + HT_STAGING_BYTES + 4 * HT_SCALE_BYTES + HT_BARRIER_BYTES };

/* Called by every thread of every block; ends with the whole cluster in step. */
template <int BN, int CLUSTER> static __device__ __forceinline__ void ht_gemm_start(const ht_gemm_shared &shared) {
    if (threadIdx.x == 0) {
        if (shared.ring & 1023) /* the swizzle pattern counts from 1024-byte lines */
            __trap();
        for (int stage = 0; stage < ht_gemm_ring<BN>::STAGES; stage++) {
            ht_mbarrier_init(shared.full + stage * 8, 1);
            ht_mbarrier_init(shared.empty + stage * 8, 8 * CLUSTER);
        }
        ht_fence_mbarrier_init();
    }
    if (CLUSTER > 1)
        ht_cluster_sync();
    else
        __syncthreads();
    ht_launch_dependents();
    ht_wait_previous_kernel(); /* everything up to here ran under the previous kernel's end */
}

typedef struct ht_gemm_tile {
    int row, column; /* first element of this block's tile */
} ht_gemm_tile;

template <int BN, int CLUSTER>
static __device__ __forceinline__ ht_gemm_tile ht_gemm_tile_at(const ht_gemm_job &job, int index, uint32_t rank) {
    int per_band = job.raster * job.n_tiles;
    int band = index / per_band, inside = index - band * per_band;
    int first = band * job.raster;
    int rows = min(job.raster, job.m_tiles - first);
    ht_gemm_tile tile;
    tile.row = ((first + inside % rows) * CLUSTER + (int)rank) * HT_TILE_M;
    tile.column = inside / rows * BN;
    return tile;
}

/* Position in the ring: stage, and the parity of its current phase. */
typedef struct ht_gemm_cursor {
    int stage;
    uint32_t parity;
} ht_gemm_cursor;

template <int STAGES> static __device__ __forceinline__ void ht_gemm_advance(ht_gemm_cursor &cursor) {
    if (++cursor.stage == STAGES) {
        cursor.stage = 0;
        cursor.parity ^= 1;
    }
}

/* The copy thread: fills the ring for all tiles of this block. scales: map of [k blocks, m] f32, or NULL. */
template <int BN, int CLUSTER, int K_ELEMENTS, int SCALES>
static __device__ __forceinline__ void ht_gemm_produce(const ht_gemm_job &job, const ht_gemm_shared &shared,
                                                       const CUtensorMap *a, const CUtensorMap *b,
                                                       const CUtensorMap *scales, uint32_t rank) {
    typedef ht_gemm_ring<BN> ring;
    const int tiles = job.m_tiles * job.n_tiles;
    ht_gemm_cursor cursor = {0, 1};
    for (int index = blockIdx.x / CLUSTER; index < tiles; index += gridDim.x / CLUSTER) {
        ht_gemm_tile tile = ht_gemm_tile_at<BN, CLUSTER>(job, index, rank);
        for (int block = 0; block < job.k_blocks; block++) {
            uint32_t at = shared.ring + cursor.stage * ring::STAGE_BYTES, full = shared.full + cursor.stage * 8;
            ht_mbarrier_wait(shared.empty + cursor.stage * 8, cursor.parity);
            ht_mbarrier_expect(full, ring::STAGE_BYTES + (SCALES ? HT_SCALE_BYTES : 0));
            ht_tma_load_2d(at, a, full, block * K_ELEMENTS, tile.row);
            if (SCALES)
                ht_tma_load_2d(shared.scales + cursor.stage * HT_SCALE_BYTES, scales, full, tile.row, block);
            if (CLUSTER > 1)
                ht_tma_load_2d_multicast(at + ring::A_BYTES + rank * (ring::B_BYTES / CLUSTER), b, full,
                                         block * K_ELEMENTS, tile.column + (int)rank * (BN / CLUSTER),
                                         (1 << CLUSTER) - 1);
            else
                ht_tma_load_2d(at + ring::A_BYTES, b, full, block * K_ELEMENTS, tile.column);
            ht_gemm_advance<ring::STAGES>(cursor);
        }
    }
}

/* A consumer warp is done with a stage: tell every block that copies into it. */
template <int CLUSTER> static __device__ __forceinline__ void ht_gemm_release(uint32_t empty) {
    uint32_t lane = threadIdx.x % 32;
    if (CLUSTER == 1 && lane == 0)
        ht_mbarrier_arrive(empty);
    if (CLUSTER > 1 && lane < CLUSTER)
        ht_mbarrier_arrive_cluster(empty, lane);
}

/* --- Epilogue ---------------------------------------------------------------------------------------------------- */

/* How the tile leaves. Each is compiled apart: the code of all three together outgrows the instruction cache. */
enum {
    HT_STORE_BF16, /* staging and TMA stores, 64 columns at a time */
    HT_STORE_F32,  /* the same, 32 columns at a time; adds to d on request */
    HT_STORE_ANY   /* element by element: rows that are not on 16 bytes */
};

static __device__ __forceinline__ float ht_gemm_row_scale(const ht_gemm_job &job, int row) {
    float scale = job.scale_a && row < job.m ? __ldg(job.scale_a + row) : 1.0f;
    if (job.alpha_a)
        scale *= __ldg(job.alpha_a);
    if (job.alpha_b)
        scale *= __ldg(job.alpha_b);
    return scale;
}

static __device__ __forceinline__ uint32_t ht_pack_bf16(float low, float high) {
    uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* Scales on their way to the epilogue: read from memory before the inner loop, whose length hides their latency. Column
 * scales go on to shared memory (1 KiB a warpgroup) after it. */
template <int BN> struct ht_gemm_scales { float column[BN / 128], row[2]; };

template <int BN>
static __device__ __forceinline__ ht_gemm_scales<BN> ht_gemm_load_scales(const ht_gemm_job &job, ht_gemm_tile tile) {
    const int thread = threadIdx.x - 128, row = tile.row + thread / 32 * 16 + thread % 32 / 4;
    ht_gemm_scales<BN> scales;
#pragma unroll
    for (int i = 0; i < BN / 128; i++) {
        const int column = tile.column + i * 128 + thread % 128;
        scales.column[i] = job.scale_b && column < job.n ? __ldg(job.scale_b + column) : 1.0f;
    }
    scales.row[0] = ht_gemm_row_scale(job, row);
    scales.row[1] = ht_gemm_row_scale(job, row + 8);
    return scales;
}

/* The four sums of columns c, c + 1 and the thread's two rows, scaled: v[0], v[1] upper row, v[2], v[3] lower. FACTORS:
 * the product has column scales (at `scales` in shared memory, for column c) or a bias. Columns past n are not stored.
 */
template <int FACTORS>
static __device__ __forceinline__ void ht_gemm_finish_quad(const ht_gemm_job &job, const float (&row_scale)[2],
                                                           int column, uint32_t scales, const float *sum,
                                                           float (&v)[4]) {
    float scale[2] = {1.0f, 1.0f}, bias[2] = {0.0f, 0.0f};
    if (FACTORS) {
        ht_load_shared_pair(scales, scale[0], scale[1]);
        if (FACTORS == 2 && job.bias) {
            bias[0] = __ldg(job.bias + (column < job.n ? column : 0));
            bias[1] = __ldg(job.bias + (column + 1 < job.n ? column + 1 : 0));
        }
    }
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[i] = sum[i] * row_scale[i / 2];
        if (FACTORS)
            v[i] = v[i] * scale[i % 2] + bias[i % 2];
    }
}

/* A finished bf16 tile on its way to memory: half the registers of its sums, so that it can wait in them while the next
 * tile's products run. */
template <int BN> struct ht_gemm_outgoing {
    uint32_t packed[BN / 4];
    ht_gemm_tile tile;
    int pending;
};

template <int BN, int FACTORS>
static __device__ __forceinline__ void ht_gemm_pack(const ht_gemm_job &job, uint32_t scales, ht_gemm_tile tile,
                                                    const float (&row_scale)[2], const float (&sum)[BN / 2],
                                                    ht_gemm_outgoing<BN> &out) {
#pragma unroll
    for (int octet = 0; octet < BN / 8; octet++) {
        float v[4];
        const int inside = octet * 8 + 2 * (int)(threadIdx.x % 4);
        ht_gemm_finish_quad<FACTORS>(job, row_scale, tile.column + inside, scales + inside * 4, sum + octet * 4, v);
        out.packed[octet * 2] = ht_pack_bf16(v[0], v[1]);
        out.packed[octet * 2 + 1] = ht_pack_bf16(v[2], v[3]);
    }
    out.tile = tile;
    out.pending = 1;
}

/* Hand a staged chunk to TMA. Two buffers a warpgroup: while TMA reads one, the other is filled. */
static __device__ __forceinline__ void ht_gemm_chunk_begin(int group) {
    if (threadIdx.x % 128 == 0)
        ht_tma_store_wait_read<1>(); /* the store before last has read this buffer */
    ht_named_barrier(1 + group, 128);
}

static __device__ __forceinline__ void ht_gemm_chunk_end(int group, const CUtensorMap *d, uint32_t staging, int column,
                                                         int row, int add) {
    ht_fence_proxy_async();
    ht_named_barrier(1 + group, 128);
    if (threadIdx.x % 128 == 0) {
        if (add)
            ht_tma_add_2d(d, staging, column, row);
        else
            ht_tma_store_2d(d, staging, column, row);
        ht_tma_store_commit();
    }
}

/* 64 columns of the outgoing tile: stmatrix of 16 rows x 16 columns a warp, then TMA. 16-byte unit u of row r lies at
 * unit u ^ (r % 8) of its 128-byte line. */
template <int BN>
static __device__ __forceinline__ void ht_gemm_send_bf16(const ht_gemm_shared &shared, const CUtensorMap *d,
                                                         const ht_gemm_outgoing<BN> &out, int chunk) {
    const int group = threadIdx.x / 128 - 1, warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const int row = warp * 16 + lane % 8 + 8 * ((lane / 8) & 1);
    const uint32_t staging = shared.staging + (group * 2 + (chunk & 1)) * HT_CHUNK_BYTES;
    ht_gemm_chunk_begin(group);
#pragma unroll
    for (int pair = 0; pair < 4; pair++) { /* 16 columns */
        const uint32_t *p = out.packed + chunk * 16 + pair * 4;
        const uint32_t unit = (uint32_t)(pair * 2 + lane / 16) ^ (uint32_t)(row % 8);
        ht_stmatrix_x4(staging + row * 128 + unit * 16, p[0], p[1], p[2], p[3]);
    }
    ht_gemm_chunk_end(group, d, staging, out.tile.column + chunk * HT_CHUNK_COLUMNS, out.tile.row + group * 64, 0);
}

/* All sums as f32, 32 columns at a time; two neighbouring columns a thread. */
template <int BN, int FACTORS>
static __device__ __forceinline__ void ht_gemm_store_f32(const ht_gemm_job &job, const ht_gemm_shared &shared,
                                                         const CUtensorMap *d, ht_gemm_tile tile,
                                                         const float (&row_scale)[2], const float (&sum)[BN / 2]) {
    const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32;
    const int row = threadIdx.x / 32 % 4 * 16 + lane / 4;
    enum { COLUMNS = HT_CHUNK_COLUMNS / 2 };
#pragma unroll
    for (int chunk = 0; chunk < BN / COLUMNS; chunk++) {
        const uint32_t staging = shared.staging + (group * 2 + (chunk & 1)) * HT_CHUNK_BYTES;
        ht_gemm_chunk_begin(group);
#pragma unroll
        for (int octet = 0; octet < 4; octet++) {
            float v[4];
            const int inside = chunk * COLUMNS + octet * 8 + 2 * (lane % 4);
            ht_gemm_finish_quad<FACTORS>(job, row_scale, tile.column + inside,
                                         shared.scales + group * HT_COLUMN_BYTES + inside * 4,
                                         sum + chunk * (COLUMNS / 2) + octet * 4, v);
            const uint32_t unit = (uint32_t)(octet * 2 + lane % 4 / 2) ^ (uint32_t)(row % 8);
            const uint32_t at = staging + row * 128 + unit * 16 + lane % 2 * 8;
            ht_store_shared_pair(at, v[0], v[1]);
            ht_store_shared_pair(at + 8 * 128, v[2], v[3]);
        }
        ht_gemm_chunk_end(group, d, staging, tile.column + chunk * COLUMNS, tile.row + group * 64, job.accumulate);
    }
}

static __device__ __forceinline__ void ht_gemm_store_element(const ht_gemm_job &job, int row, int column, float value) {
    if (row >= job.m || column >= job.n)
        return;
    const size_t at = (size_t)row * job.ldd + column;
    if (job.out_f32)
        ((float *)job.d)[at] = job.accumulate ? ((float *)job.d)[at] + value : value;
    else
        ((__nv_bfloat16 *)job.d)[at] = __float2bfloat16_rn(value);
}

template <int BN, int FACTORS>
static __device__ __forceinline__ void ht_gemm_store_elements(const ht_gemm_job &job, uint32_t scales, int row,
                                                              int first_column, const float (&row_scale)[2],
                                                              const float (&sum)[BN / 2]) {
#pragma unroll
    for (int octet = 0; octet < BN / 8; octet++) {
        float v[4];
        const int inside = octet * 8 + 2 * (int)(threadIdx.x % 4), column = first_column + inside;
        ht_gemm_finish_quad<FACTORS>(job, row_scale, column, scales + inside * 4, sum + octet * 4, v);
#pragma unroll
        for (int i = 0; i < 4; i++)
            ht_gemm_store_element(job, row + i / 2 * 8, column + i % 2, v[i]);
    }
}

/* The sums of a tile are complete: scale them, and store them or, for bf16, make them outgoing. */
template <int BN, int STORE>
static __device__ __forceinline__ void
ht_gemm_epilogue(const ht_gemm_job &job, const ht_gemm_shared &shared, const CUtensorMap *d, ht_gemm_tile tile,
                 const ht_gemm_scales<BN> &loaded, const float (&sum)[BN / 2], ht_gemm_outgoing<BN> &out) {
    const int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
    const int row = tile.row + group * 64 + thread / 32 * 16 + thread % 32 / 4;
    const uint32_t scales = shared.scales + group * HT_COLUMN_BYTES;
    const float row_scale[2] = {loaded.row[0], loaded.row[1]};
    const int factors = job.scale_b || job.bias; /* else that memory is not ours: it may hold a stage's row scales */
    if (factors) {
        ht_named_barrier(1 + group, 128); /* all have read the last tile's scales */
#pragma unroll
        for (int i = 0; i < BN / 128; i++)
            ht_store_shared(scales + (i * 128 + thread) * 4, loaded.column[i]);
        ht_named_barrier(1 + group, 128);
    }
    if (STORE == HT_STORE_ANY && factors)
        ht_gemm_store_elements<BN, 2>(job, scales, row, tile.column, row_scale, sum);
    else if (STORE == HT_STORE_ANY)
        ht_gemm_store_elements<BN, 0>(job, scales, row, tile.column, row_scale, sum);
    else if (STORE == HT_STORE_F32 && factors)
        ht_gemm_store_f32<BN, 2>(job, shared, d, tile, row_scale, sum);
    else if (STORE == HT_STORE_F32)
        ht_gemm_store_f32<BN, 0>(job, shared, d, tile, row_scale, sum);
    else if (job.bias)
        ht_gemm_pack<BN, 2>(job, scales, tile, row_scale, sum, out);
    else if (factors)
        ht_gemm_pack<BN, 1>(job, scales, tile, row_scale, sum, out);
    else
        ht_gemm_pack<BN, 0>(job, scales, tile, row_scale, sum, out);
}

/* Called by every thread before it leaves: no block goes while a partner may still signal it, and no staging buffer
 * goes while a store reads it. */
template <int CLUSTER> static __device__ __forceinline__ void ht_gemm_finish(void) {
    ht_tma_store_wait<0>();
    __syncwarp();
    if (CLUSTER > 1)
        ht_cluster_sync();
}

#endif
