/* Attention on Hopper: a consumer warpgroup's walk over its tiles, the way out, and the kernel (attention_sm90.h has
 * the overview).
 *
 * Two places hold the compiler in check. It would wait for P v as early as it can, before the exponentials that are to
 * run under it: the branch on their results, which comes first, prevents that. And it would keep the rounded P of the
 * next tile in the registers that P v still reads, and then serialize the products: moves that it cannot see through
 * prevent that. Whether both hold shows in the SASS: no product is followed by a wait, and the exponentials stand
 * between the waits.
 *
 * Source: as attention_sm90.h.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_ATTENTION_KERNEL_H
#define HT_KERNELS_CUDA_ATTENTION_KERNEL_H

#include "kernels/cuda/attention_softmax.h"

/* --- A consumer warpgroup ----------------------------------------------------------------------------------------- */

template <class S> struct ht_attention_registers {
    float s[S::BN / 2], o[S::D / 2], part[S::PROMOTE ? S::D / 2 : 1];
    uint32_t p[S::FRAGMENTS];
};

enum { HT_ATTENTION_TURN = 2 /* .. 4: named barriers of the turns; 5 .. 7: of one warpgroup */ };

template <class S> static __device__ __forceinline__ void ht_attention_turn_wait(int group) {
    if (S::TURNS)
        ht_named_barrier(HT_ATTENTION_TURN + group, 256);
}

template <class S> static __device__ __forceinline__ void ht_attention_turn_pass(int group) {
    if (S::TURNS)
        ht_named_barrier_arrive(HT_ATTENTION_TURN + (group + 1) % S::GROUPS, 256);
}

template <class S>
static __device__ __forceinline__ void ht_attention_rescale(ht_attention_registers<S> &r, int grown,
                                                            const float (&factor)[2]) {
    if (S::PROMOTE) {
#pragma unroll
        for (int i = 0; i < S::D / 2; i++)
            r.o[i] = (r.o[i] + r.part[i]) * factor[i / 2 % 2];
    } else if (grown) {
#pragma unroll
        for (int i = 0; i < S::D / 2; i++)
            r.o[i] *= factor[i / 2 % 2];
    }
}

/* The scores of `tile` while the tile after it is mixed. */
template <class S, int HIDE>
static __device__ __forceinline__ void ht_attention_step(const ht_attention_shared &shared, uint64_t q, float scale,
                                                         int group, int tile, ht_attention_registers<S> &r,
                                                         ht_attention_state &state, ht_attention_cursor &at_k,
                                                         ht_attention_cursor &at_v) {
    float factor[2] = {1.0f, 1.0f}, sum[4];
    uint32_t next[S::FRAGMENTS];
    ht_mbarrier_wait(shared.k_full + at_k.stage * 8, at_k.parity);
    ht_mbarrier_wait(shared.v_full + at_v.stage * 8, at_v.parity);
    ht_attention_turn_wait<S>(group);
    ht_wgmma_fence();
    ht_attention_scores<S>(r.s, q, ht_attention_k_tile<S>(shared, at_k.stage));
    ht_wgmma_commit();
    ht_wgmma_fence();
    if constexpr (S::PROMOTE)
        ht_attention_mix<S>(r.part, r.p, ht_attention_v_tile<S>(shared, at_v.stage));
    else
        ht_attention_mix<S>(r.o, r.p, ht_attention_v_tile<S>(shared, at_v.stage));
    ht_wgmma_commit();
    ht_attention_turn_pass<S>(group);
    ht_wgmma_wait<1>();
    ht_attention_release(shared.k_empty + at_k.stage * 8);
    ht_attention_advance<S>(at_k);
    if (HIDE)
        ht_attention_hide<S>(r.s, state, tile);
    /* this branch also keeps the compiler from waiting for P v before the exponentials are under way */
    const int grown = ht_attention_guess<S>(r.s, state, scale, next, sum);
    if (grown) {
        ht_attention_softmax<S>(r.s, state, scale, next, factor);
    } else {
        state.sum[0] = sum[0] + sum[2];
        state.sum[1] = sum[1] + sum[3];
    }
    ht_wgmma_wait<0>();
    ht_attention_release(shared.v_empty + at_v.stage * 8);
    ht_attention_advance<S>(at_v);
    ht_attention_rescale<S>(r, grown, factor);
#pragma unroll
    for (int i = 0; i < S::FRAGMENTS; i++) /* opaque: `next` must not become p's registers, which P v was reading */
        asm volatile("mov.b32 %0, %1;" : "=r"(r.p[i]) : "r"(next[i]));
}

/* Scores of the last tile of keys: the first one. */
template <class S>
static __device__ __forceinline__ void ht_attention_first(const ht_attention_shared &shared, uint64_t q, float scale,
                                                          int tile, ht_attention_registers<S> &r,
                                                          ht_attention_state &state, ht_attention_cursor &at_k) {
    float factor[2];
    ht_mbarrier_wait(shared.k_full + at_k.stage * 8, at_k.parity);
    ht_wgmma_fence();
    ht_attention_scores<S>(r.s, q, ht_attention_k_tile<S>(shared, at_k.stage));
    ht_wgmma_commit();
    ht_wgmma_wait<0>();
    ht_attention_release(shared.k_empty + at_k.stage * 8);
    ht_attention_hide<S>(r.s, state, tile);
    ht_attention_softmax<S>(r.s, state, scale, r.p, factor);
    ht_attention_advance<S>(at_k);
}

template <class S>
static __device__ __forceinline__ void ht_attention_last(const ht_attention_shared &shared,
                                                         ht_attention_registers<S> &r, ht_attention_cursor &at_v) {
    ht_mbarrier_wait(shared.v_full + at_v.stage * 8, at_v.parity);
    ht_wgmma_fence();
    if constexpr (S::PROMOTE)
        ht_attention_mix<S>(r.part, r.p, ht_attention_v_tile<S>(shared, at_v.stage));
    else
        ht_attention_mix<S>(r.o, r.p, ht_attention_v_tile<S>(shared, at_v.stage));
    ht_wgmma_commit();
    ht_wgmma_wait<0>();
    ht_attention_release(shared.v_empty + at_v.stage * 8);
    ht_attention_advance<S>(at_v);
    if constexpr (S::PROMOTE) {
#pragma unroll
        for (int i = 0; i < S::D / 2; i++)
            r.o[i] += r.part[i];
    }
}

/* --- Epilogue ----------------------------------------------------------------------------------------------------- */

/* Hadamard transform of the two rows over the columns: bits of the column are those of i, but for two in the lane. */
template <int D> static __device__ __forceinline__ void ht_attention_hadamard(float (&o)[D / 2]) {
#pragma unroll
    for (int stage = 0; stage < (D == 64 ? 4 : D == 128 ? 5 : 6); stage++) {
        const int bit = stage ? 2 << stage : 1;
#pragma unroll
        for (int i = 0; i < D / 2; i++)
            if (!(i & bit)) {
                const float a = o[i], b = o[i | bit];
                o[i] = a + b;
                o[i | bit] = a - b;
            }
    }
#pragma unroll
    for (int lanes = 1; lanes < 4; lanes *= 2)
#pragma unroll
        for (int i = 0; i < D / 2; i++) {
            const float other = __shfl_xor_sync(0xffffffff, o[i], lanes);
            o[i] = threadIdx.x & lanes ? other - o[i] : o[i] + other;
        }
}

/* What the sums of each row are multiplied with, and its LSE. */
template <class S>
static __device__ __forceinline__ void ht_attention_close(const ht_attention_job &job, const ht_attention_tile &t,
                                                          int row, const ht_attention_state &state, float scale,
                                                          float v_scale, float (&factor)[2]) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float sum = state.sum[h], top = state.max[h] == -INFINITY ? -INFINITY : state.max[h] * scale, grown = 1.0f;
        sum += __shfl_xor_sync(0xffffffff, sum, 1);
        sum += __shfl_xor_sync(0xffffffff, sum, 2);
        if (job.sinks) {
            const float sink = __ldg(job.sinks + t.head) * 1.4426950408889634f, both = fmaxf(top, sink);
            grown = top == -INFINITY ? 0.0f : ht_exp2(top - both);
            sum = sum * grown + (sink == -INFINITY ? 0.0f : ht_exp2(sink - both + (float)S::OFFSET));
            top = both;
        }
        factor[h] = sum == 0.0f ? 0.0f : grown * v_scale / sum;
        float lse = sum == 0.0f ? -INFINITY : (top + log2f(sum) - (float)S::OFFSET) * 0.6931471805599453f;
        if (!(state.max[h] < INFINITY)) /* NaN or +Inf was seen */
            factor[h] = lse = __int_as_float(0x7fffffff);
        if (job.lse && threadIdx.x % 4 == 0 && row + 8 * h < t.q_rows) {
            const size_t at = job.q_offsets ? (size_t)t.head * job.q_total + t.q_begin
                                            : ((size_t)t.batch * job.heads + t.head) * job.q_rows;
            job.lse[at + row + 8 * h] = lse;
        }
    }
}

/* Rows leave through shared memory, each warp its own 16: 16-byte unit u of row r lies at u ^ (r % 8). */
template <class S>
static __device__ __forceinline__ void ht_attention_store(const ht_attention_job &job, const ht_attention_tile &t,
                                                          uint32_t staging, const float (&o)[S::D / 2],
                                                          const float (&factor)[2]) {
    enum { UNITS = S::D / 8, ROW = S::D * 2 };
    const int lane = threadIdx.x % 32, warp = (threadIdx.x - 128) / 32;
    const int mine = lane % 8 + 8 * (lane / 8 % 2);
    staging += warp * 16 * ROW;
    __syncwarp(); /* the last tile has been read */
#pragma unroll
    for (int pair = 0; pair < S::D / 16; pair++) {
        uint32_t packed[4];
#pragma unroll
        for (int i = 0; i < 4; i++) {
            const float a = o[pair * 8 + 2 * i] * factor[i % 2], b = o[pair * 8 + 2 * i + 1] * factor[i % 2];
            packed[i] = job.out_f16 ? ht_pack_half<HT_WGMMA_F16>(a, b) : ht_pack_half<HT_WGMMA_BF16>(a, b);
        }
        ht_stmatrix_x4(staging + mine * ROW + ((pair * 2 + lane / 16) ^ mine % 8) * 16, packed[0], packed[1], packed[2],
                       packed[3]);
    }
    __syncwarp();
#pragma unroll
    for (int i = 0; i < 16 * UNITS / 32; i++) {
        const int unit = (i * 32 + lane) % UNITS, r = (i * 32 + lane) / UNITS, row = t.row + warp * 16 + r;
        uint32_t x[4];
        asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
                     : "=r"(x[0]), "=r"(x[1]), "=r"(x[2]), "=r"(x[3])
                     : "r"(staging + r * ROW + (unit ^ r % 8) * 16));
        if (row < t.q_rows) {
            const size_t at = (size_t)t.batch * job.out_batch + (size_t)(t.q_begin + row) * job.out_row +
                              (size_t)t.head * job.out_head + unit * 8;
            *(uint4 *)((uint16_t *)job.out + at) = make_uint4(x[0], x[1], x[2], x[3]);
        }
    }
}

/* One tile of query rows. */
template <class S>
static __device__ __forceinline__ void
ht_attention_consume_tile(const ht_attention_job &job, const ht_attention_tile &t, const ht_attention_shared &shared,
                          int group, ht_attention_cursor &at_k, ht_attention_cursor &at_v, uint32_t &q_parity) {
    const int row = t.row + group * 64 + threadIdx.x / 32 % 4 * 16 + threadIdx.x % 32 / 4;
    const uint64_t q = ht_wgmma_tile<S::CHUNK>(shared.q, 0) + group * (64 * S::ROW >> 4);
    ht_attention_registers<S> r;
    ht_attention_state state = ht_attention_begin_rows<S>(job, t);
    float scale = job.scale, v_scale = 1.0f, factor[2];
    if (S::FP8 && t.count) {
        const int all = job.batch * job.kv_heads, at = t.batch * job.kv_heads + t.head / job.group;
        const float aq = __ldg(job.amax + at), ak = __ldg(job.amax + all + at), av = __ldg(job.amax + 2 * all + at);
        scale *= (aq == 0 ? 1.0f : aq / 448.0f) * (ak == 0 ? 1.0f : ak / 448.0f);
        v_scale = av == 0 ? 1.0f : av / 448.0f;
    }
    if (S::FP8 && job.hadamard_v)
        v_scale *= rsqrtf((float)S::D);
#pragma unroll
    for (int i = 0; i < S::D / 2; i++)
        r.o[i] = 0;
    if constexpr (S::PROMOTE)
        for (int i = 0; i < S::D / 2; i++)
            r.part[i] = 0;
    if (t.count) {
        ht_mbarrier_wait(shared.q_full, q_parity);
        q_parity ^= 1;
        ht_attention_first<S>(shared, q, scale, t.first + t.count - 1, r, state, at_k);
        for (int tile = t.first + t.count - 2; tile >= t.first; tile--)
            if (tile >= t.plain_end || tile < t.plain_begin)
                ht_attention_step<S, 1>(shared, q, scale, group, tile, r, state, at_k, at_v);
            else
                ht_attention_step<S, 0>(shared, q, scale, group, tile, r, state, at_k, at_v);
        ht_attention_release(shared.q_empty);
        ht_attention_last<S>(shared, r, at_v);
    }
    ht_attention_close<S>(job, t, row, state, scale, v_scale, factor);
    if (S::FP8 && job.hadamard_v)
        ht_attention_hadamard<S::D>(r.o);
    ht_attention_store<S>(job, t, shared.out, r.o, factor);
}

template <class S>
static __device__ __forceinline__ void ht_attention_consume(const ht_attention_job &job,
                                                            const ht_attention_shared &shared) {
    const int group = __shfl_sync(0xffffffff, (int)threadIdx.x / 128, 0) - 1; /* so the compiler knows it uniform */
    ht_attention_cursor at_k = {0, 0}, at_v = {0, 0};
    uint32_t q_parity = 0;
    if (S::TURNS && group == S::GROUPS - 1)
        ht_attention_turn_pass<S>(group); /* the first turn is group 0's */
    for (int round = 0; round * (int)gridDim.x < job.tiles; round++) {
        const int index = ht_attention_index(round);
        if (index >= job.tiles)
            continue;
        const ht_attention_tile t = ht_attention_tile_of<S>(job, index);
        if (t.row < t.q_rows)
            ht_attention_consume_tile<S>(job, t, shared, group, at_k, at_v, q_parity);
    }
}

template <class S>
__global__ __launch_bounds__(S::THREADS, 1) void ht_attention_kernel(const __grid_constant__ CUtensorMap q,
                                                                     const __grid_constant__ CUtensorMap k,
                                                                     const __grid_constant__ CUtensorMap v,
                                                                     const __grid_constant__ ht_attention_job job) {
    extern __shared__ __align__(1024) unsigned char memory[];
    const ht_attention_shared shared = ht_attention_shared_at<S>(memory);
    if (threadIdx.x == 0) {
        if (shared.q & 1023)
            __trap();
        ht_mbarrier_init(shared.q_full, 1);
        ht_mbarrier_init(shared.q_empty, 4 * S::GROUPS);
        for (int i = 0; i < S::STAGES; i++) {
            ht_mbarrier_init(shared.k_full + i * 8, 1);
            ht_mbarrier_init(shared.v_full + i * 8, 1);
            ht_mbarrier_init(shared.k_empty + i * 8, 4 * S::GROUPS);
            ht_mbarrier_init(shared.v_empty + i * 8, 4 * S::GROUPS);
        }
        ht_fence_mbarrier_init();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        ht_registers_lower<S::PRODUCER_REGISTERS>();
        if (threadIdx.x == 0)
            ht_attention_produce<S>(job, shared, &q, &k, &v);
    } else {
        ht_registers_raise<S::CONSUMER_REGISTERS>();
        ht_attention_consume<S>(job, shared);
    }
}

#endif
