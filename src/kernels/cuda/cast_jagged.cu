/* Casts that transpose, for weight gradients: fp8 per column inside each group of rows ("jagged"), and the 16-point
 * Hadamard transform along the rows.
 *
 * Jagged: a block of threads takes 64 columns of one group. It reads the group once: up to HELD rows stay in shared
 * memory between the maximum and the codes, further rows are read again. Codes are turned in shared memory, 64 columns
 * x 128 rows at a time, so that they leave as runs of the transposed rows.
 *
 *   values  [row][33 words of 2 columns]: 33 keeps a warp that walks down the rows off its own banks
 *   codes   [column][128 + 4 bytes]
 *
 * Transform: a thread has 16 rows of two columns; the sums run in the order of the CPU's (ht_nvfp4_hadamard), so that
 * they round alike.
 *
 * Refuses: columns that are no multiple of 64 (jagged) or 8, rows that are no multiple of 16 (transform).
 * Source: training and attention specification, sections 1.10 and 1.11; formats specification, section 3.3.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "kernels/cuda/cast_octets.h"

#include "kernels/cuda/cuda.h"
#include "kernels/cuda/runtime.h"

enum {
    THREADS = 256,
    COLUMNS = 64,
    WORDS = COLUMNS / 2,
    PITCH = WORDS + 1,
    HELD = 192,
    CHUNK = 128,
    CODE_PITCH = CHUNK + 4,
    VALUE_BYTES = HELD * PITCH * 4,
    SHARED_BYTES = VALUE_BYTES + COLUMNS * CODE_PITCH
};

typedef struct jagged_job {
    const uint32_t *x; /* pairs of bf16 */
    int rows, cols, groups;
    const int *offsets;
    int power_of_two;
    uint8_t *codes; /* [cols, rows] */
    float *scales;  /* [groups, cols]: what codes are multiplied by */
} jagged_job;

/* 448 / max(amax, 1e-12) in f64, then f32, as ht_float8_train_scale. */
static __device__ float train_scale(uint32_t amax, int power_of_two) {
    if (amax >= 0x7f800000u)
        return __uint_as_float(0x7fc00000u);
    const float scale = (float)(448.0 / fmax((double)__uint_as_float(amax), 1e-12));
    return power_of_two ? __uint_as_float(__float_as_uint(scale) & 0x7f800000u) : scale;
}

static __device__ __forceinline__ uint32_t pair_at(const jagged_job &job, int row, int word) {
    return __ldg(job.x + (size_t)row * (job.cols / 2) + word);
}

/* Every value of the group: the first HELD rows into shared memory. A thread has eight neighbouring columns of every
 * 32nd row; their magnitudes' maxima, pairs of bf16. */
static __device__ __forceinline__ uint4 read_group(const jagged_job &job, uint32_t *values, int start, int rows,
                                                   int first_word) {
    const int word = threadIdx.x % (WORDS / 4) * 4;
    uint4 larger = make_uint4(0, 0, 0, 0);
#pragma unroll 6
    for (int row = threadIdx.x / (WORDS / 4); row < rows; row += THREADS / (WORDS / 4)) {
        const uint4 v =
            ht_load_stream((const uint4 *)(job.x + (size_t)(start + row) * (job.cols / 2) + first_word + word));
        if (row < HELD) {
            uint32_t *const to = values + row * PITCH + word;
            to[0] = v.x, to[1] = v.y, to[2] = v.z, to[3] = v.w;
        }
        larger.x = ht_amax_bf16x2(larger.x, v.x);
        larger.y = ht_amax_bf16x2(larger.y, v.y);
        larger.z = ht_amax_bf16x2(larger.z, v.z);
        larger.w = ht_amax_bf16x2(larger.w, v.w);
    }
    const uint32_t magnitude = 0x7fff7fffu;
    return make_uint4(larger.x & magnitude, larger.y & magnitude, larger.z & magnitude, larger.w & magnitude);
}

/* Codes of rows first .. first + count - 1 into the turned tile. A warp takes one pair of columns at a time. */
static __device__ __forceinline__ void encode_chunk(const jagged_job &job, const uint32_t *values, uint8_t *turned,
                                                    const float *scale, int start, int first, int count,
                                                    int first_word) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    for (int word = warp; word < WORDS; word += THREADS / 32)
#pragma unroll
        for (int row = lane; row < CHUNK; row += 32) {
            if (row >= count)
                continue;
            const uint32_t pair = first + row < HELD ? values[(first + row) * PITCH + word]
                                                     : pair_at(job, start + first + row, first_word + word);
            const uint32_t codes = ht_e4m3x2(__fmul_rn(ht_low_bf16(pair), scale[word * 2]),
                                             __fmul_rn(ht_high_bf16(pair), scale[word * 2 + 1]));
            turned[(word * 2) * CODE_PITCH + row] = (uint8_t)codes;
            turned[(word * 2 + 1) * CODE_PITCH + row] = (uint8_t)(codes >> 8);
        }
}

/* The turned tile to memory: a warp a column, whole words where the group lies on them. */
static __device__ __forceinline__ void write_chunk(const jagged_job &job, const uint8_t *turned, int column, int row,
                                                   int count) {
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int aligned = (row | job.rows) % 4 == 0;
    for (int c = warp; c < COLUMNS; c += THREADS / 32) {
        uint8_t *const out = job.codes + (size_t)(column + c) * job.rows + row;
        const uint8_t *const from = turned + c * CODE_PITCH;
        const int words = aligned ? count / 4 : 0;
        if (lane < words)
            ((uint32_t *)out)[lane] = ((const uint32_t *)from)[lane];
        for (int i = words * 4 + lane; i < count; i += 32)
            out[i] = from[i];
    }
}

static __global__ __launch_bounds__(THREADS) void jagged_kernel(const __grid_constant__ jagged_job job) {
    extern __shared__ __align__(16) unsigned char memory[];
    __shared__ __align__(16) uint32_t largest[THREADS * 4];
    __shared__ float scale[COLUMNS];
    uint32_t *const values = (uint32_t *)memory;
    uint8_t *const turned = memory + VALUE_BYTES;
    const int strips = job.cols / COLUMNS, group = blockIdx.x / strips, column = blockIdx.x % strips * COLUMNS;
    const int start = group ? min(max(__ldg(job.offsets + group - 1), 0), job.rows) : 0;
    const int end = min(max(__ldg(job.offsets + group), start), job.rows);
    ((uint4 *)largest)[threadIdx.x] = read_group(job, values, start, end - start, column / 2);
    __syncthreads();
    if (threadIdx.x < COLUMNS) {
        uint32_t amax = 0;
        for (int i = threadIdx.x / 2; i < THREADS * 4; i += WORDS)
            amax = max(amax, threadIdx.x % 2 ? largest[i] & 0xffff0000u : largest[i] << 16);
        scale[threadIdx.x] = train_scale(amax, job.power_of_two);
        job.scales[(size_t)group * job.cols + column + threadIdx.x] = scale[threadIdx.x];
    }
    __syncthreads();
    for (int first = 0; first < end - start; first += CHUNK) {
        const int count = min(CHUNK, end - start - first);
        encode_chunk(job, values, turned, scale, start, first, count, column / 2);
        __syncthreads();
        write_chunk(job, turned, column, start + first, count);
        __syncthreads();
    }
}

ht_status ht_cuda_cast_fp8_jagged(const void *x, size_t rows, size_t cols, const int32_t *offsets, size_t groups,
                                  int power_of_two, uint8_t *codes, float *scales, ht_stream *stream) {
    if (cols % COLUMNS || rows > 0x7fffffff || cols > 0x7fffffff || groups * (cols / COLUMNS) > 0x7fffffff)
        return ht_fail(HT_ERR_SHAPE, "cuda jagged cast: [%zu, %zu], %zu groups: columns must be a multiple of 64", rows,
                       cols, groups);
    if (((uintptr_t)x | (uintptr_t)codes) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda jagged cast: values and codes must be 16-byte aligned");
    if (rows == 0 || cols == 0 || groups == 0)
        return HT_OK;
    jagged_job job = {(const uint32_t *)x, (int)rows, (int)cols, (int)groups, offsets, power_of_two, codes, scales};
    void *arguments[] = {&job};
    return ht_cuda_launch((const void *)jagged_kernel, "jagged cast", (unsigned)(groups * (cols / COLUMNS)), THREADS,
                          SHARED_BYTES, 1, 0, ht_cuda_stream(stream), arguments);
}

/* --- Hadamard ---------------------------------------------------------------------------------------------------- */

typedef struct hadamard_job {
    const uint32_t *x;
    size_t rows, cols;
    uint32_t signs; /* bit i: sign of row i of a run is negative */
    uint16_t *out;  /* [cols, rows] bf16 */
} hadamard_job;

static __device__ __forceinline__ void transform(const float (&in)[16], uint32_t (&out)[8]) {
#pragma unroll
    for (int j = 0; j < 16; j++) {
        float sum = 0.0f;
#pragma unroll
        for (int i = 0; i < 16; i++)
            sum = __fadd_rn(sum, __popc(i & j) & 1 ? -in[i] : in[i]);
        const uint32_t u = __float_as_uint(sum);
        uint16_t bits;
        asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(sum));
        if ((u & 0x7fffffffu) > 0x7f800000u)
            bits = (uint16_t)(u >> 16 | 0x40);
        out[j / 2] = j % 2 ? out[j / 2] | (uint32_t)bits << 16 : bits;
    }
}

/* A block: 64 columns x 128 rows; a thread two columns of a run of 16 rows. The result is turned in shared memory. */
static __global__ __launch_bounds__(THREADS) void hadamard_kernel(const __grid_constant__ hadamard_job job) {
    enum { LINE = 64 + 4 }; /* words of 128 results, and a vector */
    __shared__ __align__(16) uint32_t turned[COLUMNS * LINE];
    const size_t strips = (job.cols + COLUMNS - 1) / COLUMNS;
    const size_t column0 = blockIdx.x % strips * COLUMNS, row0 = blockIdx.x / strips * 128;
    const int word = threadIdx.x % WORDS, run = threadIdx.x / WORDS;
    const size_t column = column0 + word * 2, row = row0 + run * 16;
    if (column < job.cols && row < job.rows) {
        float low[16], high[16];
        uint32_t packed[8];
#pragma unroll
        for (int i = 0; i < 16; i++) {
            const uint32_t pair = __ldg(job.x + (row + i) * (job.cols / 2) + column / 2);
            const float factor = job.signs >> i & 1 ? -0.25f : 0.25f;
            low[i] = __fmul_rn(ht_low_bf16(pair), factor);
            high[i] = __fmul_rn(ht_high_bf16(pair), factor);
        }
        transform(low, packed);
#pragma unroll
        for (int i = 0; i < 8; i++)
            turned[word * 2 * LINE + run * 8 + i] = packed[i];
        transform(high, packed);
#pragma unroll
        for (int i = 0; i < 8; i++)
            turned[(word * 2 + 1) * LINE + run * 8 + i] = packed[i];
    }
    __syncthreads();
    for (int i = threadIdx.x; i < COLUMNS * 16; i += THREADS) { /* 16 bytes: 8 rows */
        const size_t c = column0 + i / 16, r = row0 + i % 16 * 8;
        if (c < job.cols && r < job.rows)
            *(uint4 *)(job.out + c * job.rows + r) = *(const uint4 *)(turned + i / 16 * LINE + i % 16 * 4);
    }
}

ht_status ht_cuda_nvfp4_hadamard(const void *x, size_t rows, size_t cols, const int8_t *sign, void *out,
                                 ht_stream *stream) {
    static const int8_t recipe[16] = {1, 1, 1, -1, 1, -1, -1, -1, -1, -1, -1, 1, -1, 1, -1, -1};
    size_t blocks = ht_ceil_div(rows, 128) * ht_ceil_div(cols, COLUMNS);
    if (rows % 16 || cols % 8 || blocks > 0x7fffffff)
        return ht_fail(HT_ERR_SHAPE, "cuda transform: [%zu, %zu]: rows must be a multiple of 16, columns of 8", rows,
                       cols);
    if (((uintptr_t)x | (uintptr_t)out) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda transform: values must be 16-byte aligned");
    if (blocks == 0)
        return HT_OK;
    hadamard_job job = {(const uint32_t *)x, rows, cols, 0, (uint16_t *)out};
    for (int i = 0; i < 16; i++)
        job.signs |= (uint32_t)((sign ? sign : recipe)[i] < 0) << i;
    hadamard_kernel<<<(unsigned)blocks, THREADS, 0, ht_cuda_stream(stream)>>>(job);
    return ht_cuda_check(cudaGetLastError(), "transform");
}
