/* Attention on Hopper: the kernel's skeleton, for 16-bit and fp8 operands (attention_sm90.cu, attention_fp8_sm90.cu).
 *
 * A tile is 64 x GROUPS query rows of one head; a block walks over its tiles, and for each over the keys from the last
 * visible ones to the first, so that only the first need masks.
 *
 *   warpgroup 0          one thread copies q, then the tiles of k and v in turn, with TMA
 *   warpgroup 1 .. G     64 query rows each; per tile of keys:
 *
 *        tensor cores     S' = q k'^T ........ O += P v ............
 *        registers                      wait S' | P' = 2^(S' - m), sums, P' rounded | wait O, P = P'
 *
 *   The product of the next scores (S') and P v of this tile are queued together; the exponentials run under P v and
 *   under the products of the other warpgroups.
 *
 *   shared memory   | q: GROUPS x 64 rows | k: STAGES x BN rows | v: STAGES x BN keys | out staging | barriers |
 *                   rows cut into columns of 128 bytes (64 or 32 where that does not fit), each column a swizzled tile
 *
 * P never leaves registers: for 16 bits the accumulators of S are the fragment of the next product as they lie; for fp8
 * the keys of v come permuted to match them (attention_quantize.cu).
 *
 * No exponential waits for the maximum of its tile. P is computed with the maximum m known so far, and a few integer
 * instructions on the rounded P find out whether a row has outgrown it; then, rarely, the warp takes the new maximum,
 * computes P again and rescales O. Any m gives the same quotient, as long as P neither overflows nor vanishes.
 *
 * Source: Dao et al. (FlashAttention 2, 3 and 4), for the online softmax, the overlap and the polynomial; training and
 * attention specification, section 4; PTX ISA 9.0.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_ATTENTION_SM90_H
#define HT_KERNELS_CUDA_ATTENTION_SM90_H

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include "kernels/cuda/attention_wgmma.h"

/* One compiled kernel. */
template <int TYPE_, int D_, int BN_, int GROUPS_, int STAGES_, int PROMOTE_, int TURNS_> struct ht_attention_shape {
    enum {
        TYPE = TYPE_,
        D = D_,
        BN = BN_,
        GROUPS = GROUPS_,
        STAGES = STAGES_,
        PROMOTE = PROMOTE_, /* P v of each tile is added to sums in f32 registers */
        TURNS = TURNS_,     /* warpgroups take turns to queue products */
        FP8 = TYPE_ == (int)HT_WGMMA_E4M3,
        BM = 64 * GROUPS,
        THREADS = 128 * (GROUPS + 1),
        ELEMENT = FP8 ? 1 : 2,
        STEP = 32 / ELEMENT, /* elements of k in one product */
        ROW = D * ELEMENT,
        CHUNK = ROW % 128 == 0  ? 128
                : ROW % 64 == 0 ? 64
                                : 32, /* of q and k; 16-bit v */
        CHUNKS = ROW / CHUNK,
        V_CHUNK = !FP8            ? CHUNK
                  : BN % 128 == 0 ? 128
                  : BN % 64 == 0  ? 64
                                  : 32,
        Q_BYTES = BM * ROW,
        K_BYTES = BN * ROW,
        OUT_BYTES = BM * D * 2,
        OUT_AT = Q_BYTES + 2 * STAGES * K_BYTES,
        BARRIERS_AT = OUT_AT + OUT_BYTES,
        SHARED = BARRIERS_AT + (2 + 4 * STAGES) * 8,
        PRODUCER_REGISTERS = GROUPS == 2 ? 24 : 32,
        CONSUMER_REGISTERS = GROUPS == 2 ? 240 : 160,
        OFFSET = FP8 ? 6 : 0, /* P is scaled by 2^OFFSET into e4m3's range */
        FRAGMENTS = BN * ELEMENT / 8
    };
    static_assert(SHARED <= 232448, "shared memory of a block");
};

/* What a kernel needs besides the tensor maps. */
typedef struct ht_attention_job {
    int heads, group, kv_heads, batch;   /* group: query heads per kv head */
    int q_rows, kv_rows, m_tiles, tiles; /* of query rows; of all heads and sequences */
    int section;                         /* heads whose blocks run together */
    int causal, window;
    float scale; /* of the scores, times log2 e */
    const float *sinks;
    const int32_t *q_offsets, *kv_offsets;
    size_t q_total;
    void *out;
    size_t out_batch, out_row, out_head;
    float *lse;
    const float *amax; /* fp8: [3, batch, kv_heads] */
    int out_f16, hadamard_v;
} ht_attention_job;

/* --- The block's share ------------------------------------------------------------------------------------------- */

typedef struct ht_attention_tile {
    int batch, head, row; /* first query row */
    int q_begin, kv_begin, q_rows, kv_rows;
    int first, count;           /* tiles of keys */
    int plain_begin, plain_end; /* of these, the tiles that every row sees whole */
} ht_attention_tile;

template <class S>
static __device__ __forceinline__ ht_attention_tile ht_attention_tile_of(const ht_attention_job &job, int index) {
    ht_attention_tile t;
    const int all = job.batch * job.heads, per_section = job.section * job.m_tiles;
    const int section = index / per_section, inside = index - section * per_section;
    const int here = min(job.section, all - section * job.section);
    const int m = inside / here, which = section * job.section + inside - m * here;
    t.batch = which / job.heads;
    t.head = which - t.batch * job.heads;
    t.row = (job.causal ? job.m_tiles - 1 - m : m) * S::BM;
    t.q_begin = t.kv_begin = 0;
    t.q_rows = job.q_rows;
    t.kv_rows = job.kv_rows;
    if (job.q_offsets) {
        t.q_begin = __ldg(job.q_offsets + t.batch);
        t.q_rows = __ldg(job.q_offsets + t.batch + 1) - t.q_begin;
        t.kv_begin = __ldg(job.kv_offsets + t.batch);
        t.kv_rows = __ldg(job.kv_offsets + t.batch + 1) - t.kv_begin;
        t.batch = 0;
    }
    const int shift = t.kv_rows - t.q_rows;
    const int low = t.row + shift, high = min(t.row + S::BM, t.q_rows) - 1 + shift; /* positions of the rows */
    const int right = job.window ? job.window - 1 : t.kv_rows + t.q_rows;           /* keys past the position */
    const int end = min(t.kv_rows, max(0, high + 1 + (job.causal ? 0 : right)));
    const int whole_end = min(t.kv_rows, max(0, low + 1 + (job.causal ? 0 : right)));
    const int begin = job.window ? max(0, low - job.window + 1) : 0;
    const int whole_begin = job.window ? max(0, high - job.window + 1) : 0;
    t.first = begin / S::BN;
    t.count = end > begin ? (end + S::BN - 1) / S::BN - t.first : 0;
    t.plain_end = whole_end / S::BN;
    t.plain_begin = (whole_begin + S::BN - 1) / S::BN;
    return t;
}

/* The block's tile of a round; every other round counts backwards, so that long and short ones even out. */
static __device__ __forceinline__ int ht_attention_index(int round) {
    return round * (int)gridDim.x + (round & 1 ? (int)(gridDim.x - 1 - blockIdx.x) : (int)blockIdx.x);
}

typedef struct ht_attention_shared {
    uint32_t q, k, v, out, q_full, q_empty, k_full, k_empty, v_full, v_empty;
} ht_attention_shared;

template <class S> static __device__ __forceinline__ ht_attention_shared ht_attention_shared_at(const void *base) {
    ht_attention_shared s;
    s.q = ht_shared_address(base);
    s.k = s.q + S::Q_BYTES;
    s.v = s.k + S::STAGES * S::K_BYTES;
    s.out = s.q + S::OUT_AT;
    s.q_full = s.q + S::BARRIERS_AT;
    s.q_empty = s.q_full + 8;
    s.k_full = s.q_empty + 8;
    s.k_empty = s.k_full + 8 * S::STAGES;
    s.v_full = s.k_empty + 8 * S::STAGES;
    s.v_empty = s.v_full + 8 * S::STAGES;
    return s;
}

typedef struct ht_attention_cursor {
    int stage;
    uint32_t parity;
} ht_attention_cursor;

template <class S> static __device__ __forceinline__ void ht_attention_advance(ht_attention_cursor &cursor) {
    if (++cursor.stage == S::STAGES) {
        cursor.stage = 0;
        cursor.parity ^= 1;
    }
}

/* --- The copy thread --------------------------------------------------------------------------------------------- */

template <class S>
static __device__ __forceinline__ void ht_attention_copy_k(const ht_attention_job &job, const ht_attention_tile &t,
                                                           const ht_attention_shared &s, const CUtensorMap *k, int tile,
                                                           ht_attention_cursor &cursor) {
    const uint32_t at = s.k + cursor.stage * S::K_BYTES, full = s.k_full + cursor.stage * 8;
    ht_mbarrier_wait(s.k_empty + cursor.stage * 8, cursor.parity);
    ht_mbarrier_expect(full, S::K_BYTES);
#pragma unroll
    for (int c = 0; c < S::CHUNKS; c++)
        ht_tma_load_4d(at + c * S::BN * S::CHUNK, k, full, c * (S::CHUNK / S::ELEMENT), t.kv_begin + tile * S::BN,
                       t.head / job.group, t.batch);
    ht_attention_advance<S>(cursor);
}

template <class S>
static __device__ __forceinline__ void ht_attention_copy_v(const ht_attention_job &job, const ht_attention_tile &t,
                                                           const ht_attention_shared &s, const CUtensorMap *v, int tile,
                                                           ht_attention_cursor &cursor) {
    const uint32_t at = s.v + cursor.stage * S::K_BYTES, full = s.v_full + cursor.stage * 8;
    ht_mbarrier_wait(s.v_empty + cursor.stage * 8, cursor.parity);
    ht_mbarrier_expect(full, S::K_BYTES);
    if (S::FP8) { /* [d, keys] */
#pragma unroll
        for (int c = 0; c < S::BN / S::V_CHUNK; c++)
            ht_tma_load_4d(at + c * S::D * S::V_CHUNK, v, full, tile * S::BN + c * S::V_CHUNK, 0, t.head / job.group,
                           t.batch);
    } else {
#pragma unroll
        for (int c = 0; c < S::CHUNKS; c++)
            ht_tma_load_4d(at + c * S::BN * S::CHUNK, v, full, c * (S::CHUNK / S::ELEMENT), t.kv_begin + tile * S::BN,
                           t.head / job.group, t.batch);
    }
    ht_attention_advance<S>(cursor);
}

template <class S>
static __device__ __forceinline__ void ht_attention_produce(const ht_attention_job &job, const ht_attention_shared &s,
                                                            const CUtensorMap *q, const CUtensorMap *k,
                                                            const CUtensorMap *v) {
    ht_attention_cursor at_k = {0, 1}, at_v = {0, 1};
    uint32_t q_parity = 1;
    for (int round = 0; round * (int)gridDim.x < job.tiles; round++) {
        const int index = ht_attention_index(round);
        if (index >= job.tiles)
            continue;
        const ht_attention_tile t = ht_attention_tile_of<S>(job, index);
        if (t.row >= t.q_rows || t.count == 0)
            continue;
        ht_mbarrier_wait(s.q_empty, q_parity);
        q_parity ^= 1;
        ht_mbarrier_expect(s.q_full, S::Q_BYTES);
#pragma unroll
        for (int c = 0; c < S::CHUNKS * S::GROUPS; c++) /* each warpgroup's rows together */
            ht_tma_load_4d(s.q + c * 64 * S::CHUNK, q, s.q_full, c % S::CHUNKS * (S::CHUNK / S::ELEMENT),
                           t.q_begin + t.row + c / S::CHUNKS * 64, t.head, t.batch);
        ht_attention_copy_k<S>(job, t, s, k, t.first + t.count - 1, at_k);
        for (int tile = t.first + t.count - 1; tile > t.first; tile--) {
            ht_attention_copy_k<S>(job, t, s, k, tile - 1, at_k);
            ht_attention_copy_v<S>(job, t, s, v, tile, at_v);
        }
        ht_attention_copy_v<S>(job, t, s, v, t.first, at_v);
    }
}

#endif
