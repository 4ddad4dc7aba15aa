/* RoPE, Hadamard and quantization of q, k and v to e4m3, in the layouts that the fp8 attention reads (attention.h).
 *
 * Two passes over the inputs, the second out of L2 when they fit: amax of each head, then the codes. A row lies on
 * dim / 8 lanes, each with 4 elements of the first half and the 4 that belong to them in the second, so that both kinds
 * of RoPE pairs are in one lane:
 *
 *     lane l:  x[0..3] = row[4 l ..],  y[0..3] = row[dim / 2 + 4 l ..]
 *
 * The Hadamard butterflies over x, y and the 4 elements stay in the lane, the others are shuffles. v is quantized 16
 * keys of one sequence of lanes at a time: each lane then holds 8 columns of 16 keys, which is what the transposed,
 * permuted layout wants as 16-byte pieces; 128 keys are collected in shared memory and leave as whole lines.
 *
 * Refuses: dims other than 64, 128 and 256; operands not on 8 bytes.
 * Source: training and attention specification, sections 3.2 to 3.4 and 4.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <cuda_runtime.h>
#include <limits.h>

#include "kernels/cuda/attention_launch.h"

enum { THREADS = 256, KEYS = 128 /* of v, a block */, PAD = 16 };

typedef struct side { /* q, k or v */
    const uint16_t *data;
    size_t batch, row, head;
    int rows, heads, group; /* heads that share a scale */
    int first;              /* table row of row 0 */
    int rope, hadamard;
    uint8_t *codes;
    size_t code_rows; /* v: bytes from one column to the next */
} side;

typedef struct quantize_job {
    side sides[3];
    int batch, kv_heads, is_f16, interleaved;
    const float *cosine, *sine;
    float *amax; /* [3, batch, kv_heads], as unsigned for the maximum */
} quantize_job;

/* --- One row ------------------------------------------------------------------------------------------------------ */

static __device__ __forceinline__ float wide(uint16_t x, int is_f16) {
    return is_f16 ? __half2float(__ushort_as_half(x)) : __uint_as_float((uint32_t)x << 16);
}

static __device__ __forceinline__ void load4(const uint16_t *at, int is_f16, float *x) {
    const ushort4 raw = __ldg((const ushort4 *)at);
    x[0] = wide(raw.x, is_f16);
    x[1] = wide(raw.y, is_f16);
    x[2] = wide(raw.z, is_f16);
    x[3] = wide(raw.w, is_f16);
}

static __device__ __forceinline__ void turn(float &a, float &b, float c, float s) {
    const float before = a;
    a = a * c - b * s;
    b = b * c + before * s;
}

/* v[0..3] and v[4..7] are the lane's two quarters. */
template <int D>
static __device__ __forceinline__ void rope(const quantize_job &job, int position, int lane, float (&v)[8]) {
    const size_t at = (size_t)max(position, 0) * (D / 2);
    if (job.interleaved) {
#pragma unroll
        for (int half = 0; half < 2; half++)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                const size_t pair = at + half * (D / 4) + 2 * lane + i;
                turn(v[half * 4 + 2 * i], v[half * 4 + 2 * i + 1], __ldg(job.cosine + pair), __ldg(job.sine + pair));
            }
    } else {
        const float4 c = __ldg((const float4 *)(job.cosine + at + 4 * lane));
        const float4 s = __ldg((const float4 *)(job.sine + at + 4 * lane));
        turn(v[0], v[4], c.x, s.x);
        turn(v[1], v[5], c.y, s.y);
        turn(v[2], v[6], c.z, s.z);
        turn(v[3], v[7], c.w, s.w);
    }
}

template <int D> static __device__ __forceinline__ void hadamard(float (&v)[8], int lane) {
#pragma unroll
    for (int bit = 1; bit < 8; bit *= 2)
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (!(i & bit)) {
                const float a = v[i], b = v[i | bit];
                v[i] = a + b;
                v[i | bit] = a - b;
            }
#pragma unroll
    for (int bit = 1; bit < D / 8; bit *= 2)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const float other = __shfl_xor_sync(0xffffffff, v[i], bit);
            v[i] = lane & bit ? other - v[i] : v[i] + other;
        }
    const float scale = D == 64 ? 0.125f : D == 128 ? 0.08838834764831845f : 0.0625f;
#pragma unroll
    for (int i = 0; i < 8; i++)
        v[i] *= scale;
}

/* The row as it is quantized; zeros past the end. Whole warps call it together. */
template <int D>
static __device__ __forceinline__ void load_row(const quantize_job &job, const side &from, int batch, int head, int row,
                                                int lane, float (&v)[8]) {
    if (row < from.rows) {
        const uint16_t *at = from.data + batch * from.batch + row * from.row + head * from.head + 4 * lane;
        load4(at, job.is_f16, v);
        load4(at + D / 2, job.is_f16, v + 4);
        if (from.rope)
            rope<D>(job, from.first + row, lane, v);
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = 0;
    }
    if (from.hadamard)
        hadamard<D>(v, lane);
}

/* --- First pass: amax --------------------------------------------------------------------------------------------- */

enum { AMAX_ROWS = 128 };

/* The blocks of one launch: those of q, then k, then v. */
static __device__ __forceinline__ int side_of(const quantize_job &job, const int (&blocks)[3], int &index) {
    index = blockIdx.x;
    for (int s = 0; s < 2; s++) {
        if (index < blocks[s])
            return s;
        index -= blocks[s];
    }
    return 2;
}

typedef struct block_counts {
    int of[3], per_head[3];
} block_counts;

template <int D>
static __global__ __launch_bounds__(THREADS) void amax_kernel(const __grid_constant__ quantize_job job,
                                                              const __grid_constant__ block_counts counts) {
    enum { LANES = D / 8 };
    int index;
    const int s = side_of(job, counts.of, index), per_head = counts.per_head[s];
    const side &from = job.sides[s];
    const int head = index / per_head % from.heads, batch = index / per_head / from.heads;
    const int lane = threadIdx.x % LANES;
    uint32_t most = 0; /* as bits: a NaN is larger than every number */
#pragma unroll 4
    for (int i = threadIdx.x / LANES; i < AMAX_ROWS; i += THREADS / LANES) {
        float v[8];
        load_row<D>(job, from, batch, head, index % per_head * AMAX_ROWS + i, lane, v);
#pragma unroll
        for (int c = 0; c < 8; c++)
            most = max(most, __float_as_uint(v[c]) & 0x7fffffff);
    }
    most = __reduce_max_sync(0xffffffff, most);
    __shared__ uint32_t of_warp[THREADS / 32];
    if (threadIdx.x % 32 == 0)
        of_warp[threadIdx.x / 32] = most;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int w = 1; w < THREADS / 32; w++)
            most = max(most, of_warp[w]);
        const int at = (s * job.batch + batch) * job.kv_heads + head / from.group;
        if (most)
            atomicMax((unsigned *)job.amax + at, most);
    }
}

/* --- Second pass: codes ------------------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t codes4(const float *v, float inverse) {
    return ht_pack_e4m3(v[0] * inverse, v[1] * inverse, v[2] * inverse, v[3] * inverse);
}

template <int D>
static __device__ __forceinline__ void quantize_rows(const quantize_job &job, const side &from, int batch, int head,
                                                     int first, float inverse) {
    enum { LANES = D / 8 };
    const int lane = threadIdx.x % LANES;
    uint8_t *to = from.codes + ((size_t)batch * from.heads + head) * from.rows * D + 4 * lane;
#pragma unroll 4
    for (int i = threadIdx.x / LANES; i < AMAX_ROWS; i += THREADS / LANES) {
        float v[8];
        load_row<D>(job, from, batch, head, first + i, lane, v);
        if (first + i < from.rows) {
            *(uint32_t *)(to + (size_t)(first + i) * D) = codes4(v, inverse);
            *(uint32_t *)(to + (size_t)(first + i) * D + D / 2) = codes4(v + 4, inverse);
        }
    }
}

template <int D>
static __device__ __forceinline__ void quantize_v(const quantize_job &job, const side &from, int batch, int head,
                                                  int first, float inverse, uint8_t *tile) {
    enum { LANES = D / 8, ROW = KEYS + PAD };
    const int lane = threadIdx.x % LANES;
    for (int g = threadIdx.x / LANES; g < KEYS / 16; g += THREADS / LANES) {
        uint32_t out[8][4];
#pragma unroll
        for (int p = 0; p < 16; p += 4) { /* four positions: two keys, and those 8 after them */
            float v[4][8];
#pragma unroll
            for (int b = 0; b < 4; b++)
                load_row<D>(job, from, batch, head, first + g * 16 + p / 4 * 2 + b / 2 * 8 + b % 2, lane, v[b]);
#pragma unroll
            for (int c = 0; c < 8; c++)
                out[c][p / 4] =
                    ht_pack_e4m3(v[0][c] * inverse, v[1][c] * inverse, v[2][c] * inverse, v[3][c] * inverse);
        }
#pragma unroll
        for (int c = 0; c < 8; c++) {
            const int column = c / 4 * (D / 2) + 4 * lane + c % 4;
            *(uint4 *)(tile + column * ROW + g * 16) = make_uint4(out[c][0], out[c][1], out[c][2], out[c][3]);
        }
    }
    __syncthreads();
    uint8_t *to = from.codes + ((size_t)batch * from.heads + head) * D * from.code_rows + first;
    for (int i = threadIdx.x; i < D * KEYS / 16; i += THREADS) {
        const int column = i / (KEYS / 16), unit = i % (KEYS / 16);
        if (first + unit * 16 < (int)from.code_rows)
            *(uint4 *)(to + (size_t)column * from.code_rows + unit * 16) =
                *(const uint4 *)(tile + column * ROW + unit * 16);
    }
}

template <int D>
static __global__ __launch_bounds__(THREADS) void codes_kernel(const __grid_constant__ quantize_job job,
                                                               const __grid_constant__ block_counts counts) {
    __shared__ __align__(16) uint8_t tile[D * (KEYS + PAD)];
    int index;
    const int s = side_of(job, counts.of, index), per_head = counts.per_head[s];
    const side &from = job.sides[s];
    const int head = index / per_head % from.heads, batch = index / per_head / from.heads;
    const float amax = job.amax[(s * job.batch + batch) * job.kv_heads + head / from.group];
    const float inverse = amax == 0 ? 1.0f : 448.0f / amax;
    if (s < 2)
        quantize_rows<D>(job, from, batch, head, index % per_head * AMAX_ROWS, inverse);
    else
        quantize_v<D>(job, from, batch, head, index % per_head * AMAX_ROWS, inverse, tile);
}

/* --- Launch ------------------------------------------------------------------------------------------------------- */

static size_t align256(size_t bytes) {
    return (bytes + 255) / 256 * 256;
}

ht_attention_quantized ht_attention_quantized_at(void *memory, size_t batch, size_t heads, size_t kv_heads,
                                                 size_t q_rows, size_t kv_rows, size_t head_dim) {
    ht_attention_quantized at = {};
    at.v_keys = (kv_rows + 15) / 16 * 16;
    size_t amax = align256(3 * batch * kv_heads * 4), q = align256(batch * heads * q_rows * head_dim);
    size_t k = align256(batch * kv_heads * kv_rows * head_dim), v = align256(batch * kv_heads * head_dim * at.v_keys);
    at.amax = (float *)memory;
    at.q = (uint8_t *)memory + amax;
    at.k = at.q + q;
    at.v = at.k + k;
    at.bytes = amax + q + k + v;
    return at;
}

size_t ht_cuda_attention_quantized_bytes(size_t batch, size_t heads, size_t kv_heads, size_t q_rows, size_t kv_rows,
                                         size_t head_dim) {
    return ht_attention_quantized_at(NULL, batch, heads, kv_heads, q_rows, kv_rows, head_dim).bytes;
}

static ht_status check(const ht_cuda_attention_quantize_args *a) {
    const ht_cuda_attention_operand *operands[3] = {&a->q, &a->k, &a->v};
    if (a->head_dim != 64 && a->head_dim != 128 && a->head_dim != 256)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda attention quantization: head dim %zu; it does 64, 128 and 256",
                       a->head_dim);
    if (a->dtype != HT_BF16 && a->dtype != HT_F16)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda attention quantization: input %s; known are bf16 and f16",
                       ht_dtype_name(a->dtype));
    if (a->kv_heads == 0 || a->heads % a->kv_heads || a->q_rows == 0 || a->kv_rows == 0 || a->batch == 0 ||
        a->q_rows > INT_MAX / 4 || a->kv_rows > INT_MAX / 4 || (uintptr_t)a->quantized % 256)
        return ht_fail(HT_ERR_SHAPE,
                       "cuda attention quantization: batch %zu, heads %zu over %zu, %zu queries, %zu keys", a->batch,
                       a->heads, a->kv_heads, a->q_rows, a->kv_rows);
    for (int i = 0; i < 3; i++)
        if ((uintptr_t)operands[i]->data % 8 || operands[i]->row % 4 || operands[i]->head % 4 || operands[i]->batch % 4)
            return ht_fail(HT_ERR_UNSUPPORTED, "cuda attention quantization: an operand is not on 8 bytes");
    return HT_OK;
}

static void fill_side(const ht_cuda_attention_quantize_args *a, const ht_cuda_attention_operand *x, int s, side *out) {
    out->data = (const uint16_t *)x->data;
    out->batch = x->batch;
    out->row = x->row;
    out->head = x->head;
    out->rows = (int)(s == 0 ? a->q_rows : a->kv_rows);
    out->heads = (int)(s == 0 ? a->heads : a->kv_heads);
    out->group = s == 0 ? (int)(a->heads / a->kv_heads) : 1;
    out->first = s == 0 ? (int)a->kv_rows - (int)a->q_rows : 0;
    out->rope = s < 2 && a->cosine;
    out->hadamard = s < 2 ? a->hadamard_qk : a->hadamard_v;
}

typedef void quantize_kernel(const quantize_job, const block_counts);

ht_status ht_cuda_attention_quantize(const ht_cuda_attention_quantize_args *a, ht_stream *stream) {
    HT_TRY(check(a));
    ht_attention_quantized at =
        ht_attention_quantized_at(a->quantized, a->batch, a->heads, a->kv_heads, a->q_rows, a->kv_rows, a->head_dim);
    const ht_cuda_attention_operand *operands[3] = {&a->q, &a->k, &a->v};
    uint8_t *codes[3] = {at.q, at.k, at.v};
    quantize_job job = {};
    block_counts counts = {};
    int blocks = 0;
    for (int s = 0; s < 3; s++) {
        fill_side(a, operands[s], s, &job.sides[s]);
        job.sides[s].codes = codes[s];
        job.sides[s].code_rows = at.v_keys;
        counts.per_head[s] = (int)ht_ceil_div((size_t)job.sides[s].rows, AMAX_ROWS);
        counts.of[s] = counts.per_head[s] * job.sides[s].heads * (int)a->batch;
        blocks += counts.of[s];
    }
    job.batch = (int)a->batch;
    job.kv_heads = (int)a->kv_heads;
    job.is_f16 = a->dtype == HT_F16;
    job.interleaved = a->interleaved;
    job.cosine = a->cosine;
    job.sine = a->sine;
    job.amax = at.amax;
    static quantize_kernel *const amax_kernels[3] = {amax_kernel<64>, amax_kernel<128>, amax_kernel<256>};
    static quantize_kernel *const codes_kernels[3] = {codes_kernel<64>, codes_kernel<128>, codes_kernel<256>};
    const int which = a->head_dim == 64 ? 0 : a->head_dim == 128 ? 1 : 2;
    void *arguments[] = {&job, &counts};
    HT_TRY(ht_cuda_check(cudaMemsetAsync(at.amax, 0, 3 * a->batch * a->kv_heads * 4, ht_cuda_stream(stream)),
                         "attention amax"));
    HT_TRY(ht_cuda_launch((const void *)amax_kernels[which], "attention amax", (unsigned)blocks, THREADS, 0, 1, 0,
                          ht_cuda_stream(stream), arguments));
    return ht_cuda_launch((const void *)codes_kernels[which], "attention quantization", (unsigned)blocks, THREADS, 0, 1,
                          0, ht_cuda_stream(stream), arguments);
}
