/* Four-bit weights times 1 to 16 rows of bf16, at the speed of memory.
 *
 * The weights are the left operand of m16n8k16 tensor-core products (16 output features), the rows of x the right one
 * (8 at a time), so 1 and 8 rows cost the same. ht_cuda_gemv_pack reorders a weight once into slices of 16 features x
 * 128 of k: 1024 bytes of codes in the order in which a warp reads them, then the slice's scales. Four tiles of 16
 * features lie side by side, so that a block reads one long run of memory:
 *
 *   [n / 64][k / 128][4 tiles][codes: 2 halves of 64 k x 32 lanes x 16 B | scales: 32 B int4, 64 B MXFP4]
 *
 * Inside a half, k is permuted so that a lane's x values are contiguous too; t = lane % 4, g = lane / 4:
 *
 *   word s (0..3) of a lane: k = 32 (s / 2) + 8 t + 4 (s % 2) + {0, 1 | 2, 3}
 *   it holds four pairs, one code of a pair in each 16 bits: (g, k 0 1) (g + 8, k 0 1) (g, k 2 3) (g + 8, k 2 3)
 *   int4: pair i at bits 4 i .. of both, sign bit flipped. MXFP4 (s e e m), so that few shifts reach bf16's bits:
 *
 *       bit   15  14  13  12   11 10 9   8 7 6   5 4 3   2 1 0
 *             s0  s3  s2  s1   e e m 2   e e m 0 e e m 1 e e m 3
 *
 * Codes become bf16 exactly: int4 by the exponent trick (bits of 128 + v, minus 136), e2m1 by moving its bits under
 * bf16's exponent and multiplying by 2^126. Scales multiply the f32 sums of their own block.
 *
 * A block of 8 warps owns 32 features (16 when n is small); warp w takes slices w, w + 8, ... and has the weights of
 * its next slice on their way while it multiplies the present one. The 8 partial sums meet in shared memory in warp
 * order. The first loads do not wait for the previous kernel (weights are constant), so they run under its end; reading
 * x does. Rings in shared memory (cp.async, bulk copies) were measured slower than registers: docs/gpu.md.
 *
 * Refuses: n not a multiple of 16, k not of 128, m outside 1..16.
 * Source: PTX ISA 9.0, fragments of mma.m16n8k16; formats specification, sections 1.3 and 2.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cuda.h"

#include <cuda_bf16.h>

#include "kernels/cuda/cast.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/runtime.h"

enum {
    WARPS = 8,
    THREADS = WARPS * 32,
    FEATURES = 16, /* of a tile */
    QUAD = 4,      /* tiles side by side in memory */
    SLICE = 128,
    CODE_BYTES = FEATURES * SLICE / 2,
    MAX_M = 16
};

typedef struct gemv_job {
    const uint8_t *packed;
    const uint4 *x; /* rows of k bf16 */
    __nv_bfloat16 *y;
    int n, slices, m; /* slices = k / 128 */
} gemv_job;

/* Scale words of a slice: int4 has 8, word g = rows g and g + 8 as bf16; MXFP4 two times 8, one a half: bytes (g,
 * block 0) (g, block 1) (g + 8, block 0) (g + 8, block 1). */
template <int KIND> struct slice_shape {
    enum { SCALE_WORDS = KIND == HT_GEMV_INT4_G128 ? 1 : 2, BYTES = CODE_BYTES + SCALE_WORDS * 32 };
};

static __host__ __device__ __forceinline__ size_t slice_offset(size_t slice_bytes, size_t slices, size_t tile,
                                                               size_t slice) {
    return ((tile / QUAD * slices + slice) * QUAD + tile % QUAD) * slice_bytes;
}

/* --- Weights to fragments ---------------------------------------------------------------------------------------- */

static __device__ __forceinline__ uint32_t pick(uint32_t word, uint32_t mask, uint32_t bits) {
    uint32_t out; /* (word & mask) | bits */
    asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(out) : "r"(word), "r"(mask), "r"(bits));
    return out;
}

static __device__ __forceinline__ uint32_t multiply_add(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t out;
    asm("fma.rn.bf16x2 %0, %1, %2, %3;" : "=r"(out) : "r"(a), "r"(b), "r"(c));
    return out;
}

/* One word of eight codes to the four registers of an A fragment. */
static __device__ __forceinline__ void decode_int4(uint32_t word, uint32_t (&a)[4]) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        uint32_t biased = pick(word >> (4 * i), 0x000f000fu, 0x43004300u); /* 128 + (v + 8) */
        a[i] = multiply_add(biased, 0x3f803f80u, 0xc308c308u);             /* - 136 */
    }
}

static __device__ __forceinline__ void decode_e2m1(uint32_t word, uint32_t (&a)[4]) {
    const uint32_t both = 0x81c081c0u, sign = 0x80008000u, rest = 0x01c001c0u;
    a[0] = word & both;
    a[1] = word << 3 & both;
    a[2] = pick(word << 2, sign, word >> 3 & rest);
    a[3] = pick(word << 1, sign, word << 6 & rest);
#pragma unroll
    for (int i = 0; i < 4; i++)
        a[i] = multiply_add(a[i], 0x7e807e80u, 0x80008000u); /* 2^126 x - 0 */
}

template <int KIND> static __device__ __forceinline__ void decode(uint32_t word, uint32_t (&a)[4]) {
    if (KIND == HT_GEMV_INT4_G128)
        decode_int4(word, a);
    else
        decode_e2m1(word, a);
}

/* d = a b, or d += a b. */
template <int ADD>
static __device__ __forceinline__ void product(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    if (ADD)
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%0, %1, %2, %3};"
            : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
    else
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
            "{%10, %10, %10, %10};"
            : "=f"(d[0]), "=f"(d[1]), "=f"(d[2]), "=f"(d[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1), "f"(0.0f));
}

/* The two rows' scales of one block of 32; an e8m0 byte is the f32 exponent (0 counts as zero, 255 as infinity). */
template <int KIND>
static __device__ __forceinline__ void scales_of(const uint32_t *words, int block, float (&scale)[2]) {
    if (KIND == HT_GEMV_INT4_G128) {
        scale[0] = __uint_as_float(words[0] << 16);
        scale[1] = __uint_as_float(words[0] & 0xffff0000u);
    } else {
        const uint32_t word = words[block / 2], exponent = 0x7f800000u;
        scale[0] = __uint_as_float((block % 2 ? word << 15 : word << 23) & exponent);
        scale[1] = __uint_as_float((block % 2 ? word >> 1 : word << 7) & exponent);
    }
}

/* --- The kernel -------------------------------------------------------------------------------------------------- */

/* A lane's part of a slice of TILES neighbouring tiles. */
template <int KIND, int TILES> struct slice_data {
    uint4 codes[TILES][2];
    uint32_t scales[TILES][slice_shape<KIND>::SCALE_WORDS];
};

template <int KIND, int TILES>
static __device__ __forceinline__ void load_slice(slice_data<KIND, TILES> &data, const gemv_job &job, int slice) {
    const int lane = threadIdx.x % 32;
    if (slice >= job.slices)
        return;
    const uint8_t *from =
        job.packed + slice_offset(slice_shape<KIND>::BYTES, job.slices, (size_t)blockIdx.x * TILES, slice);
#pragma unroll
    for (int tile = 0; tile < TILES; tile++, from += slice_shape<KIND>::BYTES) {
        data.codes[tile][0] = ht_load_stream((const uint4 *)from + lane);
        data.codes[tile][1] = ht_load_stream((const uint4 *)from + 32 + lane);
#pragma unroll
        for (int i = 0; i < slice_shape<KIND>::SCALE_WORDS; i++)
            data.scales[tile][i] = __ldg((const uint32_t *)(from + CODE_BYTES) + i * 8 + lane / 4);
    }
}

/* One slice of one tile times all rows of x: blocks of 32 of k, two products each; every code is decoded once. */
template <int KIND, int GROUPS>
static __device__ __forceinline__ void multiply_slice(float (&sum)[GROUPS][4], const uint4 (&half)[2],
                                                      const uint32_t *words, const uint4 (&x)[GROUPS][4]) {
    enum { SCALED = KIND == HT_GEMV_MXFP4 ? 1 : 4 }; /* blocks that share a scale */
    float part[GROUPS][4];
#pragma unroll
    for (int block = 0; block < 4; block++) {
        const uint4 codes = half[block / 2];
        uint32_t a[2][4];
        decode<KIND>(block % 2 ? codes.z : codes.x, a[0]);
        decode<KIND>(block % 2 ? codes.w : codes.y, a[1]);
#pragma unroll
        for (int group = 0; group < GROUPS; group++) {
            if (block % SCALED == 0)
                product<0>(part[group], a[0], x[group][block].x, x[group][block].y);
            else
                product<1>(part[group], a[0], x[group][block].x, x[group][block].y);
            product<1>(part[group], a[1], x[group][block].z, x[group][block].w);
        }
        if (block % SCALED == SCALED - 1) {
            float scale[2];
            scales_of<KIND>(words, block, scale);
#pragma unroll
            for (int i = 0; i < GROUPS * 4; i++)
                sum[i / 4][i % 4] = fmaf(scale[i % 4 / 2], part[i / 4][i % 4], sum[i / 4][i % 4]);
        }
    }
}

/* Each lane's part of x for a slice; zeros past the rows and past k. */
template <int GROUPS>
static __device__ __forceinline__ void load_x(uint4 (&x)[GROUPS][4], const gemv_job &job, int slice) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < GROUPS * 4; i++) {
        const int row = i / 4 * 8 + lane / 4;
        const size_t at = ((size_t)row * job.slices + slice) * (SLICE / 8) + i % 4 * 4 + lane % 4;
        x[i / 4][i % 4] = row < job.m && slice < job.slices ? job.x[at] : make_uint4(0, 0, 0, 0);
    }
}

template <int TILES, int GROUPS>
static __device__ __forceinline__ void finish(const gemv_job &job, float *partial,
                                              const float (&sum)[TILES][GROUPS][4]) {
    enum { LINE = 8 * GROUPS + 1, COLUMNS = TILES * FEATURES };
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < TILES * GROUPS * 4; i++) {
        const int tile = i / (4 * GROUPS), group = i / 4 % GROUPS;
        const int feature = tile * FEATURES + lane / 4 + i % 4 / 2 * 8;
        partial[(warp * COLUMNS + feature) * LINE + group * 8 + lane % 4 * 2 + i % 2] = sum[tile][group][i % 4];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < COLUMNS * 8 * GROUPS; i += THREADS) {
        const int feature = i % COLUMNS, row = i / COLUMNS, column = blockIdx.x * COLUMNS + feature;
        if (row >= job.m || column >= job.n)
            continue;
        float total = 0;
        for (int from = 0; from < WARPS; from++)
            total += partial[(from * COLUMNS + feature) * LINE + row];
        job.y[(size_t)row * job.n + column] = __float2bfloat16_rn(total);
    }
}

template <int KIND, int TILES, int GROUPS>
static __global__ __launch_bounds__(THREADS, 2) void gemv_kernel(const __grid_constant__ gemv_job job) {
    extern __shared__ __align__(16) float partial[];
    const int warp = threadIdx.x / 32;
    float sum[TILES][GROUPS][4] = {};
    slice_data<KIND, TILES> now, next;
    load_slice<KIND, TILES>(now, job, warp);
    load_slice<KIND, TILES>(next, job, warp + WARPS);
    ht_launch_dependents();
    ht_wait_previous_kernel(); /* x may be its output */
    for (int slice = warp; slice < job.slices; slice += WARPS) {
        uint4 x[GROUPS][4];
        load_x<GROUPS>(x, job, slice);
#pragma unroll
        for (int tile = 0; tile < TILES; tile++)
            multiply_slice<KIND, GROUPS>(sum[tile], now.codes[tile], now.scales[tile], x);
        now = next;
        load_slice<KIND, TILES>(next, job, slice + 2 * WARPS);
    }
    finish<TILES, GROUPS>(job, partial, sum);
}

/* --- Packing ----------------------------------------------------------------------------------------------------- */

typedef struct pack_job {
    const uint8_t *codes, *scales;
    uint8_t *packed;
    size_t n, slices;
} pack_job;

/* A word of eight codes, gathered from two rows. A block whose e8m0 scale is NaN (255, which the kernel reads as
 * infinity) gets zero codes: infinity times zero is NaN. */
template <int KIND> static __device__ uint32_t pack_word(const pack_job &job, size_t row, size_t k) {
    const int rest_bit[4] = {6, 3, 9, 0}, sign_bit[4] = {15, 12, 13, 14};
    uint32_t word = 0;
    for (int i = 0; i < 4; i++) {
        const size_t r = row + i % 2 * 8, at = r * job.slices * SLICE + k + i / 2 * 2;
        if (r >= job.n || (KIND == HT_GEMV_MXFP4 && job.scales[at / 32] == 255))
            continue;
        const uint32_t byte = job.codes[at / 2], pair = (byte & 15) | (byte >> 4) << 16;
        if (KIND == HT_GEMV_MXFP4)
            word |= (pair & 0x00070007u) << rest_bit[i] | (pair >> 3 & 0x00010001u) << sign_bit[i];
        else
            word |= (pair ^ 0x00080008u) << (4 * i);
    }
    return word;
}

template <int KIND> static __device__ uint32_t pack_scales(const pack_job &job, size_t row, size_t slice, int half) {
    uint32_t word = 0;
    for (int i = 0; i < 2; i++) {
        const size_t r = row + i * 8;
        if (r >= job.n)
            continue;
        if (KIND == HT_GEMV_INT4_G128)
            word |= (uint32_t)((const uint16_t *)job.scales)[r * job.slices + slice] << (16 * i);
        else
            word |= (uint32_t)((const uint16_t *)job.scales)[(r * job.slices + slice) * 2 + half] << (16 * i);
    }
    return word;
}

/* One block a slice of a tile; a thread a word. Features past n become zeros. */
template <int KIND> static __global__ void pack_kernel(const __grid_constant__ pack_job job) {
    typedef slice_shape<KIND> shape;
    const size_t slice = blockIdx.x % job.slices, tile = blockIdx.x / job.slices;
    uint32_t *const out = (uint32_t *)(job.packed + slice_offset(shape::BYTES, job.slices, tile, slice));
    for (int i = threadIdx.x; i < shape::BYTES / 4; i += blockDim.x) {
        if (i < CODE_BYTES / 4) {
            const int s = i % 4, lane = i / 4 % 32, half = i / 128;
            const size_t k = slice * SLICE + half * 64 + 32 * (s / 2) + 8 * (lane % 4) + 4 * (s % 2);
            out[i] = pack_word<KIND>(job, tile * FEATURES + lane / 4, k);
        } else {
            const int j = i - CODE_BYTES / 4;
            out[i] = pack_scales<KIND>(job, tile * FEATURES + j % 8, slice, j / 8);
        }
    }
}

static ht_status check(ht_gemv_weight kind, size_t n, size_t k) {
    if ((unsigned)kind >= HT_GEMV_WEIGHT_COUNT)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemv: weight kind %d is unknown", (int)kind);
    if (n == 0 || k == 0 || n % FEATURES || k % SLICE || n > (1u << 30) || k > (1u << 30))
        return ht_fail(HT_ERR_SHAPE, "cuda gemv: weight [%zu, %zu]: n must be a multiple of 16, k of 128", n, k);
    return HT_OK;
}

static size_t slice_bytes(ht_gemv_weight kind) {
    return kind == HT_GEMV_MXFP4 ? (size_t)slice_shape<HT_GEMV_MXFP4>::BYTES
                                 : (size_t)slice_shape<HT_GEMV_INT4_G128>::BYTES;
}

size_t ht_cuda_gemv_packed_bytes(ht_gemv_weight kind, size_t n, size_t k) {
    return ht_ceil_div(n, FEATURES * QUAD) * QUAD * (k / SLICE) * slice_bytes(kind);
}

ht_status ht_cuda_gemv_pack(ht_gemv_weight kind, const void *codes, const void *scales, size_t n, size_t k,
                            void *packed, ht_stream *stream) {
    HT_TRY(check(kind, n, k));
    pack_job job = {(const uint8_t *)codes, (const uint8_t *)scales, (uint8_t *)packed, n, k / SLICE};
    size_t blocks = ht_ceil_div(n, FEATURES * QUAD) * QUAD * job.slices;
    if (blocks > 0x7fffffff)
        return ht_fail(HT_ERR_SHAPE, "cuda gemv: weight [%zu, %zu] has too many slices to pack", n, k);
    if (kind == HT_GEMV_MXFP4)
        pack_kernel<HT_GEMV_MXFP4><<<(unsigned)blocks, 128, 0, ht_cuda_stream(stream)>>>(job);
    else
        pack_kernel<HT_GEMV_INT4_G128><<<(unsigned)blocks, 128, 0, ht_cuda_stream(stream)>>>(job);
    return ht_cuda_check(cudaGetLastError(), "packing weights for gemv");
}

/* One row per compiled kernel. */
static const struct variant {
    ht_gemv_weight kind;
    unsigned tiles, groups;
    const void *entry;
} variants[] = {
    {HT_GEMV_INT4_G128, 2, 1, (const void *)gemv_kernel<HT_GEMV_INT4_G128, 2, 1>},
    {HT_GEMV_INT4_G128, 1, 1, (const void *)gemv_kernel<HT_GEMV_INT4_G128, 1, 1>},
    {HT_GEMV_INT4_G128, 2, 2, (const void *)gemv_kernel<HT_GEMV_INT4_G128, 2, 2>},
    {HT_GEMV_INT4_G128, 1, 2, (const void *)gemv_kernel<HT_GEMV_INT4_G128, 1, 2>},
    {HT_GEMV_MXFP4, 2, 1, (const void *)gemv_kernel<HT_GEMV_MXFP4, 2, 1>},
    {HT_GEMV_MXFP4, 1, 1, (const void *)gemv_kernel<HT_GEMV_MXFP4, 1, 1>},
    {HT_GEMV_MXFP4, 2, 2, (const void *)gemv_kernel<HT_GEMV_MXFP4, 2, 2>},
    {HT_GEMV_MXFP4, 1, 2, (const void *)gemv_kernel<HT_GEMV_MXFP4, 1, 2>},
};

/* Wide blocks read x less often; narrow ones spread a small n over more multiprocessors. */
static const struct variant *choose(ht_gemv_weight kind, size_t n, size_t m, int multiprocessors) {
    unsigned tiles = n / (2 * FEATURES) >= (size_t)multiprocessors ? 2 : 1, groups = m > 8 ? 2 : 1;
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        if (variants[i].kind == kind && variants[i].tiles == tiles && variants[i].groups == groups)
            return &variants[i];
    return NULL;
}

ht_status ht_cuda_gemv(ht_gemv_weight kind, const void *packed, size_t n, size_t k, const void *x, size_t m, void *y,
                       ht_stream *stream) {
    HT_TRY(check(kind, n, k));
    if (m < 1 || m > MAX_M)
        return ht_fail(HT_ERR_SHAPE, "cuda gemv: %zu rows of x; the limit is %d", m, (int)MAX_M);
    if (((uintptr_t)packed | (uintptr_t)x) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda gemv: packed weights and x must be 16-byte aligned");
    int multiprocessors, capability;
    HT_TRY(ht_cuda_device_shape(&multiprocessors, &capability));
    if (capability < 90)
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda gemv: needs compute capability 9.0, this device has %d.%d",
                       capability / 10, capability % 10);
    const struct variant *v = choose(kind, n, m, multiprocessors);
    size_t columns = (size_t)FEATURES * v->tiles;
    size_t partial = WARPS * columns * (8 * v->groups + 1) * sizeof(float);
    gemv_job job = {(const uint8_t *)packed, (const uint4 *)x, (__nv_bfloat16 *)y, (int)n, (int)(k / SLICE), (int)m};
    void *arguments[] = {&job};
    return ht_cuda_launch(v->entry, "low-bit gemv", (unsigned)ht_ceil_div(n, columns), THREADS, partial, 1, 1,
                          ht_cuda_stream(stream), arguments);
}
