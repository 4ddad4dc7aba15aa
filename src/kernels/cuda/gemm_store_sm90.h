/* How finished tiles of the Hopper products leave: scales, bias, rounding, staging in shared memory, TMA stores.
 *
 * bf16 tiles of the plain products wait in half their registers and leave under the next tile's products; the others
 * leave at once. Tiles of grouped rows that end inside are stored row by row.
 *
 * Source: PTX ISA 9.0 (stmatrix, cp.async.bulk.tensor, cp.reduce).
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_GEMM_STORE_SM90_H
#define HT_KERNELS_CUDA_GEMM_STORE_SM90_H

#include "kernels/cuda/gemm_sm90.h"

/* How the tile leaves. Each is compiled apart: the code of all three together outgrows the instruction cache. */
enum {
    HT_STORE_BF16, /* staging and TMA stores, 64 columns at a time */
    HT_STORE_F32,  /* the same, 32 columns at a time; adds to d on request */
    HT_STORE_ANY   /* element by element: rows that are not on 16 bytes */
};

static __device__ __forceinline__ float ht_gemm_row_scale(const ht_gemm_job &job, const ht_gemm_tile &tile, int row) {
    float scale = job.scale_a && row < tile.limit ? __ldg(job.scale_a + tile.base + row) : 1.0f;
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
static __device__ __forceinline__ ht_gemm_scales<BN> ht_gemm_load_scales(const ht_gemm_job &job,
                                                                         const ht_gemm_tile &tile) {
    const int thread = threadIdx.x - 128, row = tile.row + thread / 32 * 16 + thread % 32 / 4;
    ht_gemm_scales<BN> scales;
#pragma unroll
    for (int i = 0; i < BN / 128; i++) {
        const int column = tile.column + i * 128 + thread % 128;
        scales.column[i] =
            job.scale_b && column < job.n ? __ldg(job.scale_b + (size_t)tile.group * job.n + column) : 1.0f;
    }
    scales.row[0] = ht_gemm_row_scale(job, tile, row);
    scales.row[1] = ht_gemm_row_scale(job, tile, row + 8);
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
    int row, column, rows, group; /* rows: of this warpgroup's 64 that are stored */
    int pending;
};

template <int BN, int FACTORS>
static __device__ __forceinline__ void ht_gemm_pack(const ht_gemm_job &job, uint32_t scales, const ht_gemm_tile &tile,
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
    out.row = tile.row + (threadIdx.x / 128 - 1) * 64;
    out.rows = tile.limit - out.row;
    out.column = tile.column;
    out.group = tile.group;
    out.pending = 1;
}

/* Rows 0 .. rows - 1 of a staged chunk, by ordinary stores: the rest belongs to the next group. */
static __device__ __forceinline__ void ht_gemm_copy_rows(const ht_gemm_job &job, uint32_t staging, int column, int row,
                                                         int rows) {
    const size_t bytes = job.out_f32 ? 4 : 2;
    for (int i = threadIdx.x % 128; i < rows * 8; i += 128) {
        const int r = i / 8, unit = i % 8;
        if (column * bytes + unit * 16 < job.n * bytes)
            *(uint4 *)((char *)job.d + (row + r) * job.ldd * bytes + column * bytes + unit * 16) =
                ht_load_shared_vector(staging + r * HT_TILE_ROW_BYTES + (unit ^ r % 8) * 16);
    }
}

/* Hand a staged chunk (64 rows of 128 bytes) to memory; the warpgroup has passed a barrier since it was written. */
template <int GROUPS>
static __device__ __forceinline__ void ht_gemm_send_chunk(const ht_gemm_job &job, const CUtensorMap *d,
                                                          uint32_t staging, int column, int row, int rows, int group) {
    const int clipped = GROUPS == HT_GROUPS_OF_ROWS && rows < 64;
    if (clipped)
        ht_gemm_copy_rows(job, staging, column, row, rows);
    if (clipped || threadIdx.x % 128 != 0)
        return;
    if (GROUPS == HT_GROUPS_OF_K && job.accumulate)
        ht_tma_add_3d(d, staging, column, row, group);
    else if (GROUPS == HT_GROUPS_OF_K)
        ht_tma_store_3d(d, staging, column, row, group);
    else if (job.accumulate)
        ht_tma_add_2d(d, staging, column, row);
    else
        ht_tma_store_2d(d, staging, column, row);
    ht_tma_store_commit();
}

/* Before staging buffers are filled again: at most PENDING later stores still read theirs. */
template <int PENDING> static __device__ __forceinline__ void ht_gemm_chunk_begin(int group) {
    if (threadIdx.x % 128 == 0)
        ht_tma_store_wait_read<PENDING>();
    ht_named_barrier(HT_BARRIER_GROUP + group, 128);
}

static __device__ __forceinline__ void ht_gemm_chunk_end(int group) {
    ht_fence_proxy_async();
    ht_named_barrier(HT_BARRIER_GROUP + group, 128);
}

/* 64 columns of the outgoing tile: stmatrix of 16 rows x 16 columns a warp. 16-byte unit u of row r lies at unit
 * u ^ (r % 8) of its 128-byte line. */
static __device__ __forceinline__ void ht_gemm_stage_bf16(uint32_t staging, const uint32_t *packed) {
    const int warp = threadIdx.x / 32 % 4, lane = threadIdx.x % 32;
    const int row = warp * 16 + lane % 8 + 8 * ((lane / 8) & 1);
#pragma unroll
    for (int pair = 0; pair < 4; pair++) { /* 16 columns */
        const uint32_t *p = packed + pair * 4;
        const uint32_t unit = (uint32_t)(pair * 2 + lane / 16) ^ (uint32_t)(row % 8);
        ht_stmatrix_x4(staging + row * 128 + unit * 16, p[0], p[1], p[2], p[3]);
    }
}

/* One chunk, through one of two buffers: while TMA reads one, the other is filled. */
template <class RING, int GROUPS>
static __device__ __forceinline__ void ht_gemm_send_bf16(const ht_gemm_job &job, uint32_t base, const CUtensorMap *d,
                                                         const ht_gemm_outgoing<RING::BN> &out, int chunk) {
    const int group = threadIdx.x / 128 - 1;
    const uint32_t staging = base + RING::STAGING_AT + (group * RING::BUFFERS + (chunk & 1)) * HT_CHUNK_BYTES;
    ht_gemm_chunk_begin<1>(group);
    ht_gemm_stage_bf16(staging, out.packed + chunk * 16);
    ht_gemm_chunk_end(group);
    ht_gemm_send_chunk<GROUPS>(job, d, staging, out.column + chunk * HT_CHUNK_COLUMNS, out.row, out.rows, out.group);
}

/* The whole tile at once, where staging has a buffer for each chunk. */
template <class RING, int GROUPS>
static __device__ __forceinline__ void ht_gemm_send_whole(const ht_gemm_job &job, uint32_t base, const CUtensorMap *d,
                                                          const ht_gemm_outgoing<RING::BN> &out) {
    const int group = threadIdx.x / 128 - 1;
    const uint32_t staging = base + RING::STAGING_AT + group * RING::BUFFERS * HT_CHUNK_BYTES;
    static_assert(RING::BUFFERS * HT_CHUNK_COLUMNS >= RING::BN, "a buffer a chunk");
    ht_gemm_chunk_begin<0>(group);
#pragma unroll
    for (int chunk = 0; chunk < RING::BN / HT_CHUNK_COLUMNS; chunk++)
        ht_gemm_stage_bf16(staging + chunk * HT_CHUNK_BYTES, out.packed + chunk * 16);
    ht_gemm_chunk_end(group);
    for (int chunk = 0; chunk < RING::BN / HT_CHUNK_COLUMNS; chunk++)
        ht_gemm_send_chunk<GROUPS>(job, d, staging + chunk * HT_CHUNK_BYTES, out.column + chunk * HT_CHUNK_COLUMNS,
                                   out.row, out.rows, out.group);
}

/* All sums as f32, 32 columns at a time; two neighbouring columns a thread. */
template <class RING, int FACTORS, int GROUPS>
static __device__ __forceinline__ void ht_gemm_store_f32(const ht_gemm_job &job, uint32_t base, const CUtensorMap *d,
                                                         const ht_gemm_tile &tile, const float (&row_scale)[2],
                                                         const float (&sum)[RING::BN / 2]) {
    const int group = threadIdx.x / 128 - 1, lane = threadIdx.x % 32;
    const int row = threadIdx.x / 32 % 4 * 16 + lane / 4;
    enum { COLUMNS = HT_CHUNK_COLUMNS / 2 };
#pragma unroll
    for (int chunk = 0; chunk < RING::BN / COLUMNS; chunk++) {
        const uint32_t staging =
            base + RING::STAGING_AT + (group * RING::BUFFERS + chunk % RING::BUFFERS) * HT_CHUNK_BYTES;
        ht_gemm_chunk_begin<RING::BUFFERS - 1>(group);
#pragma unroll
        for (int octet = 0; octet < 4; octet++) {
            float v[4];
            const int inside = chunk * COLUMNS + octet * 8 + 2 * (lane % 4);
            ht_gemm_finish_quad<FACTORS>(job, row_scale, tile.column + inside,
                                         base + RING::SCALES_AT + group * HT_COLUMN_BYTES + inside * 4,
                                         sum + chunk * (COLUMNS / 2) + octet * 4, v);
            const uint32_t unit = (uint32_t)(octet * 2 + lane % 4 / 2) ^ (uint32_t)(row % 8);
            const uint32_t at = staging + row * 128 + unit * 16 + lane % 2 * 8;
            ht_store_shared_pair(at, v[0], v[1]);
            ht_store_shared_pair(at + 8 * 128, v[2], v[3]);
        }
        ht_gemm_chunk_end(group);
        ht_gemm_send_chunk<GROUPS>(job, d, staging, tile.column + chunk * COLUMNS, tile.row + group * 64,
                                   tile.limit - tile.row - group * 64, tile.group);
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

/* Column scales to the warpgroup's part of shared memory. */
template <int BN>
static __device__ __forceinline__ void ht_gemm_share_scales(uint32_t scales, const ht_gemm_scales<BN> &loaded) {
    const int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
    ht_named_barrier(HT_BARRIER_GROUP + group, 128); /* all have read the last tile's scales */
#pragma unroll
    for (int i = 0; i < BN / 128; i++)
        ht_store_shared(scales + (i * 128 + thread) * 4, loaded.column[i]);
    ht_named_barrier(HT_BARRIER_GROUP + group, 128);
}

/* The sums of a tile are complete: scale them, and store them or, for bf16, make them outgoing. */
template <class RING, int STORE, int GROUPS>
static __device__ __forceinline__ void
ht_gemm_epilogue(const ht_gemm_job &job, uint32_t base, const CUtensorMap *d, const ht_gemm_tile &tile,
                 const ht_gemm_scales<RING::BN> &loaded, const float (&sum)[RING::BN / 2],
                 ht_gemm_outgoing<RING::BN> &out) {
    enum { BN = RING::BN };
    const int group = threadIdx.x / 128 - 1, thread = threadIdx.x % 128;
    const int row = tile.row + group * 64 + thread / 32 * 16 + thread % 32 / 4;
    const uint32_t scales = base + RING::SCALES_AT + group * HT_COLUMN_BYTES;
    const float row_scale[2] = {loaded.row[0], loaded.row[1]};
    /* where a stage brings its own scales, that memory is theirs and the epilogue has no factors */
    const int factors = RING::SCALE_BYTES == 0 && (job.scale_b || job.bias);
    if (factors)
        ht_gemm_share_scales<BN>(scales, loaded);
    if (STORE == HT_STORE_ANY && factors)
        ht_gemm_store_elements<BN, 2>(job, scales, row, tile.column, row_scale, sum);
    else if (STORE == HT_STORE_ANY)
        ht_gemm_store_elements<BN, 0>(job, scales, row, tile.column, row_scale, sum);
    else if (STORE == HT_STORE_F32 && factors)
        ht_gemm_store_f32<RING, 2, GROUPS>(job, base, d, tile, row_scale, sum);
    else if (STORE == HT_STORE_F32)
        ht_gemm_store_f32<RING, 0, GROUPS>(job, base, d, tile, row_scale, sum);
    else if (factors && job.bias)
        ht_gemm_pack<BN, 2>(job, scales, tile, row_scale, sum, out);
    else if (factors)
        ht_gemm_pack<BN, 1>(job, scales, tile, row_scale, sum, out);
    else
        ht_gemm_pack<BN, 0>(job, scales, tile, row_scale, sum, out);
}

#endif
