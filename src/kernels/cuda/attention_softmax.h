/* Attention on Hopper: the two products of a tile and what lies between them (attention_sm90.h has the overview).
 *
 *     S [64, BN] = q k^T  --  p = 2^(scale s - scale m), row sums, rounding  --  O [64, D] += P v
 *
 * A thread has the columns 8 i + 2 (lane % 4) + {0, 1} of two rows, 16 (warp) + lane / 4 and 8 below; the rounded P
 * lies in the A fragments of the second product.
 *
 * Source: as attention_sm90.h.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_ATTENTION_SOFTMAX_H
#define HT_KERNELS_CUDA_ATTENTION_SOFTMAX_H

#include "kernels/cuda/attention_sm90.h"

/* --- The products ------------------------------------------------------------------------------------------------ */

/* A consumer warp is done with a stage. */
static __device__ __forceinline__ void ht_attention_release(uint32_t empty) {
    if (threadIdx.x % 32 == 0)
        ht_mbarrier_arrive(empty);
}

/* q, k, v: descriptors of the warpgroup's rows and of the stage. */
template <class S>
static __device__ __forceinline__ void ht_attention_scores(float (&s)[S::BN / 2], uint64_t q, uint64_t k) {
#pragma unroll
    for (int i = 0; i < S::ROW / 32; i++) {
        const int chunk = i * 32 / S::CHUNK, inside = i * 32 % S::CHUNK;
        ht_product<S::BN>::template ss<S::TYPE>(s, q + ((chunk * 64 * S::CHUNK + inside) >> 4),
                                                k + ((chunk * S::BN * S::CHUNK + inside) >> 4), i);
    }
}

template <class S>
static __device__ __forceinline__ void ht_attention_mix(float (&o)[S::D / 2], const uint32_t *p, uint64_t v) {
#pragma unroll
    for (int i = 0; i < S::BN / S::STEP; i++) {
        const int chunk = i * 32 / S::V_CHUNK, inside = i * 32 % S::V_CHUNK;
        ht_product<S::D>::template rs<S::TYPE>(
            o, p + 4 * i, v + ((S::FP8 ? chunk * S::D * S::V_CHUNK + inside : i * S::STEP * S::CHUNK) >> 4),
            S::PROMOTE ? i : 1);
    }
}

/* Descriptors of a stage of k, of v. */
template <class S>
static __device__ __forceinline__ uint64_t ht_attention_k_tile(const ht_attention_shared &s, int stage) {
    return ht_wgmma_tile<S::CHUNK>(s.k, 0) + stage * (S::K_BYTES >> 4);
}

template <class S>
static __device__ __forceinline__ uint64_t ht_attention_v_tile(const ht_attention_shared &s, int stage) {
    return ht_wgmma_tile<S::V_CHUNK>(s.v, S::BN * S::CHUNK) + stage * (S::K_BYTES >> 4);
}

/* --- Softmax ------------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ float ht_exp2(float x) {
    float y;
    asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x)); /* volatile: stays before the wait for P v */
    return y;
}

/* sum += x, in this place of the program. */
static __device__ __forceinline__ void ht_add_here(float &sum, float x) {
    asm volatile("add.f32 %0, %0, %1;" : "+f"(sum) : "f"(x));
}

/* The larger one, NaN if one is NaN. */
static __device__ __forceinline__ float ht_max_nan(float a, float b) {
    float y;
    asm("max.NaN.f32 %0, %1, %2;" : "=f"(y) : "f"(a), "f"(b));
    return y;
}

/* The two rows of a thread: row 16 (warp of its group) + lane / 4, and 8 below. */
typedef struct ht_attention_state {
    float max[2], sum[2]; /* of raw scores; sums over this thread's columns only */
    int low[2], high[2];  /* keys [low, high) are visible; from the thread's first column of tile 0 */
} ht_attention_state;

template <class S>
static __device__ __forceinline__ ht_attention_state ht_attention_begin_rows(const ht_attention_job &job,
                                                                             const ht_attention_tile &t) {
    ht_attention_state state;
    const int row = t.row + ((int)threadIdx.x - 128) / 32 * 16 + threadIdx.x % 32 / 4;
    const int column = 2 * (threadIdx.x % 4);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        const int position = row + 8 * h + t.kv_rows - t.q_rows;
        const int right = job.causal ? 1 : job.window ? job.window : t.kv_rows + t.q_rows;
        state.max[h] = -INFINITY;
        state.sum[h] = 0;
        state.high[h] = min(t.kv_rows, position + right) - column;
        state.low[h] = job.window ? position - job.window + 1 - column : -(1 << 30);
    }
    return state;
}

template <class S>
static __device__ __forceinline__ void ht_attention_hide(float (&s)[S::BN / 2], const ht_attention_state &state,
                                                         int tile) {
#pragma unroll
    for (int i = 0; i < S::BN / 2; i++) {
        const int h = i / 2 % 2, key = tile * S::BN + i / 4 * 8 + i % 2;
        if (key >= state.high[h] || key < state.low[h])
            s[i] = -INFINITY;
    }
}

static __device__ __forceinline__ uint32_t ht_pack_e4m3(float a, float b, float c, float d) {
    uint32_t packed;
    asm volatile("{\n.reg .b16 low, high;\n"
                 "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
                 "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
                 "mov.b32 %0, {low, high};\n}"
                 : "=r"(packed)
                 : "f"(a), "f"(b), "f"(c), "f"(d));
    return packed;
}

template <int TYPE> static __device__ __forceinline__ uint32_t ht_pack_half(float low, float high) {
    uint32_t packed;
    if (TYPE == HT_WGMMA_F16)
        asm volatile("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    else
        asm volatile("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/* The largest of the row's scores so far and in s, for both rows, in all four lanes. */
template <class S>
static __device__ __forceinline__ void ht_attention_top(float (&top)[4], const ht_attention_state &state) {
#pragma unroll
    for (int h = 0; h < 2; h++) {
        float max = ht_max_nan(top[h], top[h + 2]);
        max = ht_max_nan(max, __shfl_xor_sync(0xffffffff, max, 1));
        top[h] = ht_max_nan(ht_max_nan(max, __shfl_xor_sync(0xffffffff, max, 2)), state.max[h]);
    }
}

template <class S> static __device__ __forceinline__ float ht_attention_base(float max, float scale) {
    return (float)S::OFFSET - (max == -INFINITY ? 0.0f : max * scale);
}

/* 2^(scale s + base) of fragment i's elements, added to sum. A fragment is one register of P. */
template <class S>
static __device__ __forceinline__ uint32_t ht_attention_fragment(const float (&s)[S::BN / 2], int i, float scale,
                                                                 const float (&base)[2], float (&sum)[4]) {
    enum { COUNT = S::FP8 ? 4 : 2 };
    const int at = S::FP8 ? i / 4 * 16 + i / 2 % 2 * 8 + i % 2 * 2 : 2 * i, h = i % 2;
    float e[COUNT];
#pragma unroll
    for (int j = 0; j < COUNT; j++) {
        const float x = fmaf(s[at + j % 2 + j / 2 * 4], scale, base[h]);
        e[j] = ht_exp2(x);
        ht_add_here(sum[h + 2 * (j % 2)], e[j]);
    }
    if constexpr (S::FP8)
        return ht_pack_e4m3(e[0], e[1], e[2], e[3]);
    else
        return ht_pack_half<S::TYPE>(e[0], e[1]);
}

/* Has an element of these fragments grown beyond what P should hold? e4m3: 448, which the conversion saturates to, or
 * NaN. f16: 2^15, bf16: 2^64. No carry leaves an element, so a few integer instructions look at all of them. */
template <int TYPE, int N> static __device__ __forceinline__ int ht_attention_overgrown(const uint32_t (&p)[N]) {
    const uint32_t add = TYPE == HT_WGMMA_E4M3 ? 0x02020202 : TYPE == HT_WGMMA_F16 ? 0x08000800 : 0x20802080;
    uint32_t bits[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < N; i += 2)
        bits[i / 2 % 4] |= (p[i] + add) | (p[i + 1] + add);
    return ((bits[0] | bits[1] | bits[2] | bits[3]) & (TYPE == HT_WGMMA_E4M3 ? 0x80808080 : 0x80008000)) != 0;
}

/* P of s by the maximum so far: no exponential waits for the maximum of s. Returns 1, the same for the whole warp, when
 * a row outgrew that maximum; then p and sum mean nothing. A row that has seen nothing yet has the base NaN, and always
 * outgrows. */
template <class S>
static __device__ __forceinline__ int ht_attention_guess(const float (&s)[S::BN / 2], const ht_attention_state &state,
                                                         float scale, uint32_t (&p)[S::FRAGMENTS], float (&sum)[4]) {
    float base[2];
#pragma unroll
    for (int h = 0; h < 2; h++)
        base[h] = state.max[h] == -INFINITY ? __int_as_float(0x7fffffff) : (float)S::OFFSET - state.max[h] * scale;
#pragma unroll
    for (int h = 0; h < 4; h++)
        sum[h] = h < 2 ? state.sum[h] : 0.0f;
#pragma unroll
    for (int i = 0; i < S::FRAGMENTS; i++)
        p[i] = ht_attention_fragment<S>(s, i, scale, base, sum);
    return __any_sync(0xffffffff, ht_attention_overgrown<S::TYPE>(p));
}

/* P of s by the new maximum; O has to be multiplied by `factor`. */
template <class S>
static __device__ __forceinline__ void ht_attention_softmax(const float (&s)[S::BN / 2], ht_attention_state &state,
                                                            float scale, uint32_t (&p)[S::FRAGMENTS],
                                                            float (&factor)[2]) {
    float top[4] = {s[0], s[2], s[1], s[3]}, base[2];
#pragma unroll
    for (int i = 4; i < S::BN / 2; i++)
        top[i / 2 % 2 + i % 2 * 2] = ht_max_nan(top[i / 2 % 2 + i % 2 * 2], s[i]);
    ht_attention_top<S>(top, state);
#pragma unroll
    for (int h = 0; h < 2; h++) {
        factor[h] = ht_exp2((state.max[h] - (top[h] == -INFINITY ? 0.0f : top[h])) * scale);
        state.max[h] = top[h];
        state.sum[h] *= factor[h];
        base[h] = ht_attention_base<S>(top[h], scale);
    }
    float sum[4] = {state.sum[0], state.sum[1], 0, 0};
#pragma unroll
    for (int i = 0; i < S::FRAGMENTS; i++)
        p[i] = ht_attention_fragment<S>(s, i, scale, base, sum);
    state.sum[0] = sum[0] + sum[2];
    state.sum[1] = sum[1] + sum[3];
}

#endif
