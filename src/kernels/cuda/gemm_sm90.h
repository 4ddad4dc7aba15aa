/* The skeleton of the Hopper matrix products: which warps do what, the ring of shared-memory stages, the walk over
 * tiles, the copy loop. A product adds its own inner loop (gemm_loop_sm90.h, block_loop_sm90.h) over the way tiles
 * leave (gemm_store_sm90.h).
 *
 *   warpgroup 0   one thread copies A and B tiles into the ring with TMA
 *   warpgroup 1   rows  0..63  of the block's 128 x BN tile    } wgmma from shared memory, accumulators in registers
 *   warpgroup 2   rows 64..127                                 }
 *
 * Stages are A 128 x 128 B | B BN x 128 B in the 128-byte swizzle; ht_gemm_ring lays out shared memory.
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
    HT_CHUNK_COLUMNS = 64, /* bf16 columns that one TMA store writes */
    HT_CHUNK_BYTES = 64 * HT_CHUNK_COLUMNS * 2,
    HT_COLUMN_BYTES = 1024, /* column scales of a warpgroup */
    HT_COPY_BYTES = 16,     /* TMA starts rows of its boxes at multiples of this */
    HT_SCALE_ROWS = HT_TILE_M + HT_COPY_BYTES / 4,
    HT_SCALE_SLOT = 640, /* bytes of HT_SCALE_ROWS f32, in 128-byte lines */
    HT_GEMM_THREADS = 384,
    HT_PRODUCER_REGISTERS = 40, /* with 2 x 232: no more than the 3 x 168 the block starts with, or setmaxnreg waits */
    HT_CONSUMER_REGISTERS = 232
};

/* Named barriers; 1 and 2 are the consumer warpgroups' own. */
enum { HT_BARRIER_GROUP = 1, HT_BARRIER_CONSUMERS = 3 };

/* How a product is divided: one matrix product, or one per group (grouped_sm90.cu). */
enum {
    HT_GROUPS_NONE,
    HT_GROUPS_OF_ROWS, /* group g owns rows of a and d, and the g-th b */
    HT_GROUPS_OF_K     /* group g owns a range of k, and the g-th d */
};

/* What a kernel needs besides the tensor maps. Tiles count clusters along m. */
typedef struct ht_gemm_job {
    int m, n, k_blocks;
    int m_tiles, n_tiles, raster;
    void *d;
    size_t ldd;
    const float *alpha_a, *alpha_b, *scale_a, *scale_b, *bias;
    int out_f32, accumulate;
    int groups, slot;   /* slot: rows of a masked group; 0: groups follow each other */
    int limit;          /* rows of a, or elements of k */
    const int *offsets; /* of groups: first row or element of k past each; slot: its rows in use */
} ht_gemm_job;

/* A block's shared memory, from a 1024-byte line on:
 *     stages | staging: 2 warpgroups x BUFFERS x 8 KiB | scales | barriers
 * scales: those that come with a stage (SCALES 1: of the rows of a; 2: and of the rows of b), or the column scales of
 * the epilogue. */
template <int COLUMNS, int DEPTH, int STORES = 2, int SCALES = 0> struct ht_gemm_ring {
    enum {
        BN = COLUMNS,
        STAGES = DEPTH,
        BUFFERS = STORES,
        SCALE_BYTES = SCALES == 0 ? 0 : HT_SCALE_SLOT + (SCALES - 1) * BN * 4,
        SCALES_COPIED = SCALES == 0 ? 0 : HT_SCALE_ROWS * 4 + (SCALES - 1) * BN * 4,
        A_BYTES = HT_TILE_M * HT_TILE_ROW_BYTES,
        B_BYTES = BN * HT_TILE_ROW_BYTES,
        STAGE_BYTES = A_BYTES + B_BYTES,
        STAGING_AT = STAGES * STAGE_BYTES,
        SCALES_AT = STAGING_AT + 2 * BUFFERS * HT_CHUNK_BYTES,
        FULL_AT = SCALES_AT + (STAGES * SCALE_BYTES > 2 * HT_COLUMN_BYTES ? STAGES * SCALE_BYTES : 2 * HT_COLUMN_BYTES),
        EMPTY_AT = FULL_AT + STAGES * 8,
        SHARED_BYTES = EMPTY_AT + STAGES * 8
    };
    static_assert(SHARED_BYTES <= 227 * 1024, "more shared memory than a block has");
};

/* Called by every thread of every block; ends with the whole cluster in step. `base`: of shared memory. */
template <class RING, int CLUSTER> static __device__ __forceinline__ void ht_gemm_start(uint32_t base) {
    if (threadIdx.x == 0) {
        if (base & 1023) /* the swizzle pattern counts from 1024-byte lines */
            __trap();
        for (int stage = 0; stage < RING::STAGES; stage++) {
            ht_mbarrier_init(base + RING::FULL_AT + stage * 8, 1);
            ht_mbarrier_init(base + RING::EMPTY_AT + stage * 8, 8 * CLUSTER);
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

/* --- The walk over tiles ----------------------------------------------------------------------------------------- */

/* A tile: where its operands and its sums lie. */
typedef struct ht_gemm_tile {
    int row, column; /* first element in its d */
    int limit;       /* first row of its d that is not its group's */
    int base;        /* rows of d, and of row scales, before its d */
    int group;       /* and so its b, or its column scales */
    int k, blocks;   /* first element of k that is copied, stages */
    int head, tail;  /* bytes of the first stage's rows before the range of k; of the last one's that count */
} ht_gemm_tile;

typedef struct ht_gemm_walk {
    int index;               /* of the next tile, over all groups */
    int group, first, tiles; /* the present group: its first tile, their number */
    int start, end;          /* its rows, or its range of k */
} ht_gemm_walk;

template <int CLUSTER> static __device__ __forceinline__ ht_gemm_walk ht_gemm_walk_new(void) {
    ht_gemm_walk walk = {(int)blockIdx.x / CLUSTER, -1, 0, 0, 0, 0};
    return walk;
}

/* Ranges that the offsets spoil are cut to what exists, so that nothing outside is touched. */
static __device__ __forceinline__ void ht_gemm_bounds(const ht_gemm_job &job, ht_gemm_walk &walk) {
    const int given = __ldg(job.offsets + walk.group);
    if (job.slot) {
        walk.start = walk.group * job.slot;
        walk.end = walk.start + min(max(given, 0), job.slot);
    } else {
        walk.start = walk.group ? min(max(__ldg(job.offsets + walk.group - 1), 0), job.limit) : 0;
        walk.end = min(max(given, walk.start), job.limit);
    }
}

/* The block's next tile; 0: none is left. BYTES: of an element. An empty range of k has one stage, of which nothing
 * counts; with block scales, none. */
template <class RING, int GROUPS, int CLUSTER, int BYTES>
static __device__ __forceinline__ int ht_gemm_next(const ht_gemm_job &job, ht_gemm_walk &walk, uint32_t rank,
                                                   ht_gemm_tile &tile) {
    int m_tiles = job.m_tiles;
    if (GROUPS == HT_GROUPS_NONE && walk.index >= m_tiles * job.n_tiles)
        return 0;
    while (GROUPS != HT_GROUPS_NONE && walk.index >= walk.first + walk.tiles) {
        walk.first += walk.tiles;
        if (++walk.group >= job.groups)
            return 0;
        ht_gemm_bounds(job, walk);
        if (GROUPS == HT_GROUPS_OF_ROWS)
            m_tiles = (walk.end - walk.start + HT_TILE_M * CLUSTER - 1) / (HT_TILE_M * CLUSTER);
        walk.tiles = m_tiles * job.n_tiles;
    }
    if (GROUPS == HT_GROUPS_OF_ROWS)
        m_tiles = walk.tiles / job.n_tiles;
    const int inside_group = walk.index - walk.first, per_band = job.raster * job.n_tiles;
    const int band = inside_group / per_band, inside = inside_group - band * per_band;
    const int first = band * job.raster, rows = min(job.raster, m_tiles - first);
    tile.row = ((first + inside % rows) * CLUSTER + (int)rank) * HT_TILE_M;
    tile.column = inside / rows * RING::BN;
    tile.group = GROUPS != HT_GROUPS_NONE ? walk.group : 0;
    tile.base = GROUPS == HT_GROUPS_OF_K ? walk.group * job.m : 0;
    tile.limit = job.m;
    tile.k = tile.head = 0;
    tile.tail = HT_TILE_ROW_BYTES;
    tile.blocks = job.k_blocks;
    if (GROUPS == HT_GROUPS_OF_ROWS) {
        tile.row += walk.start;
        tile.limit = walk.end;
    }
    if (GROUPS == HT_GROUPS_OF_K) {
        tile.head = walk.start * BYTES % HT_COPY_BYTES;
        tile.k = walk.start - tile.head / BYTES;
        const int bytes = (walk.end - tile.k) * BYTES;
        tile.blocks = (bytes + HT_TILE_ROW_BYTES - 1) / HT_TILE_ROW_BYTES;
        if (!RING::SCALE_BYTES)
            tile.blocks = max(tile.blocks, 1);
        tile.tail = bytes - (tile.blocks - 1) * HT_TILE_ROW_BYTES;
    }
    walk.index += gridDim.x / CLUSTER;
    return 1;
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

/* --- Copies ------------------------------------------------------------------------------------------------------ */

/* The operands' maps. scale_a, scale_b: [k blocks, rows] f32, HT_SCALE_ROWS and BN of which come with a stage, or NULL.
 */
typedef struct ht_gemm_maps {
    const CUtensorMap *a, *b, *scale_a, *scale_b;
} ht_gemm_maps;

/* The copy thread: fills the ring for all tiles of this block. */
template <class RING, int CLUSTER, int GROUPS, int BYTES>
static __device__ __forceinline__ void ht_gemm_produce(const ht_gemm_job &job, uint32_t base, const ht_gemm_maps &maps,
                                                       uint32_t rank) {
    enum { K_ELEMENTS = HT_TILE_ROW_BYTES / BYTES };
    ht_gemm_cursor cursor = {0, 1};
    ht_gemm_walk walk = ht_gemm_walk_new<CLUSTER>();
    ht_gemm_tile tile;
    while (ht_gemm_next<RING, GROUPS, CLUSTER, BYTES>(job, walk, rank, tile)) {
        const int b_row = tile.column + (GROUPS == HT_GROUPS_OF_ROWS ? tile.group * job.n : 0);
        for (int block = 0; block < tile.blocks; block++) {
            const uint32_t at = base + cursor.stage * RING::STAGE_BYTES, full = base + RING::FULL_AT + cursor.stage * 8;
            const uint32_t scales = base + RING::SCALES_AT + cursor.stage * RING::SCALE_BYTES;
            const int k = tile.k + block * K_ELEMENTS;
            ht_mbarrier_wait(base + RING::EMPTY_AT + cursor.stage * 8, cursor.parity);
            ht_mbarrier_expect(full, RING::STAGE_BYTES + RING::SCALES_COPIED);
            ht_tma_load_2d(at, maps.a, full, k, tile.row);
            if (RING::SCALE_BYTES)
                ht_tma_load_2d(scales, maps.scale_a, full, tile.row & ~3, k / K_ELEMENTS);
            if (RING::SCALE_BYTES > HT_SCALE_SLOT)
                ht_tma_load_2d(scales + HT_SCALE_SLOT, maps.scale_b, full, tile.column, k / K_ELEMENTS);
            if (CLUSTER > 1)
                ht_tma_load_2d_multicast(at + RING::A_BYTES + rank * (RING::B_BYTES / CLUSTER), maps.b, full, k,
                                         b_row + (int)rank * (RING::BN / CLUSTER), (1 << CLUSTER) - 1);
            else
                ht_tma_load_2d(at + RING::A_BYTES, maps.b, full, k, b_row);
            ht_gemm_advance<RING::STAGES>(cursor);
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

/* Of the stage's rows, bytes `from` to `to` count: the others belong to other groups and become zero, in both operands.
 * All consumer threads call this; the stage has landed. */
template <class RING> static __device__ __forceinline__ void ht_gemm_keep(uint32_t at, int from, int to) {
    for (int row = threadIdx.x - 128; row < HT_TILE_M + RING::BN; row += 256)
        for (int unit = 0; unit < 8; unit++) {
            const uint32_t out = at + row * HT_TILE_ROW_BYTES + ((unit ^ row % 8) * 16);
            const int first = from - unit * 16, last = to - unit * 16; /* within the unit */
            if (first >= 16 || last <= 0 || first >= last)
                ht_store_shared_zeros(out);
            else if (first > 0 || last < 16)
                for (int i = 0; i < 16; i++)
                    if (i < first || i >= last)
                        ht_store_shared_byte(out + i, 0);
        }
    ht_fence_proxy_async();
    ht_named_barrier(HT_BARRIER_CONSUMERS, 256);
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
