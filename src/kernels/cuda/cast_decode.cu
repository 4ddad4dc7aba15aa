/* The library's formats back to bf16 or f32 on the GPU: ht_format_dequantize, bit for bit (bf16: rounded once more).
 *
 * A thread decodes eight values, four such groups in flight; scales are read through the cache. e4m3 and e5m2 are exact
 * in f16, e2m1 is its bits moved under f32's exponent, times 2^126; code books are 16 numbers in the kernel's
 * arguments.
 *
 * Refuses: formats not in the table, zero points, nested scales, columns that are no multiple of 8.
 * Source: formats specification, sections 1 to 6.
 * SPDX-License-Identifier: BSD-3-Clause */
extern "C" {
#include "format/codebook.h"
}
#include "kernels/cuda/cast_octets.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/ptx.h"
#include "kernels/cuda/runtime.h"

enum { THREADS = 256, LOADS = 4 };

typedef struct decode_job {
    const uint8_t *codes;
    const void *scales;
    const float *global;
    uint32_t total, octets; /* groups of eight: of the matrix, of a row */
    uint32_t rows_a_scale, octets_a_scale, across;
    int divides;
    uint32_t flip;
    int high; /* first of two codes in the high nibble */
    void *out;
    float book[16];
} decode_job;

static __device__ __forceinline__ uint2 load_codes(const decode_job &job, int nibbles, uint32_t at) {
    if (!nibbles)
        return __ldcs((const uint2 *)job.codes + at);
    return make_uint2(__ldcs((const uint32_t *)job.codes + at), 0);
}

template <int SCALED> static __device__ __forceinline__ float load_scale(const decode_job &job, uint32_t at) {
    uint32_t index = at / job.octets_a_scale;
    if (job.rows_a_scale != 1 || job.across * job.octets_a_scale != job.octets)
        index = at / job.octets / job.rows_a_scale * job.across + at % job.octets / job.octets_a_scale;
    if (SCALED == HT_SCALED_F32 || SCALED == HT_SCALED_INT)
        return __ldg((const float *)job.scales + index);
    const uint32_t byte = __ldg((const uint8_t *)job.scales + index);
    if (SCALED == HT_SCALED_MX)
        return __uint_as_float(byte == 0 ? 0x00400000u : byte == 255 ? 0x7fc00000u : byte << 23);
    const float global = job.global ? __ldg(job.global) : 1.0f, scale = ht_e4m3_value(byte);
    return job.divides ? __fdiv_rn(scale, global) : __fmul_rn(scale, global);
}

static __device__ __forceinline__ float e2m1_value(uint32_t code) {
    return __fmul_rn(__uint_as_float((code & 7) << 22 | (code & 8) << 28), 0x1p126f);
}

/* book: 16 numbers, each once a lane, so that no two lanes meet in a bank. */
template <int CODE>
static __device__ __forceinline__ void decode_octet(const decode_job &job, const float *book, uint2 word,
                                                    float (&v)[8]) {
    word.x ^= job.flip;
    word.y ^= job.flip;
#pragma unroll
    for (int i = 0; i < 8; i++) {
        const uint32_t nibble = word.x >> (i * 4) & 15, byte = (i < 4 ? word.x : word.y) >> (i % 4 * 8);
        if (CODE == HT_CODE_E2M1)
            v[i] = e2m1_value(nibble);
        if (CODE == HT_CODE_BOOK)
            v[i] = book[nibble * 32 + threadIdx.x % 32];
        if (CODE == HT_CODE_I4)
            v[i] = (float)((int32_t)(nibble << 28) >> 28);
        if (CODE == HT_CODE_I8)
            v[i] = (float)(int8_t)byte;
        if ((CODE == HT_CODE_E4M3 || CODE == HT_CODE_E5M2) && i % 2 == 0) {
            uint32_t halves;
            if (CODE == HT_CODE_E4M3)
                asm("cvt.rn.f16x2.e4m3x2 %0, %1;" : "=r"(halves) : "h"((uint16_t)byte));
            else
                asm("cvt.rn.f16x2.e5m2x2 %0, %1;" : "=r"(halves) : "h"((uint16_t)byte));
            asm("{.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;}"
                : "=f"(v[i]), "=f"(v[i + 1])
                : "r"(halves));
        }
    }
}

template <int F32>
static __device__ __forceinline__ void store_octet(void *out, uint32_t at, const float (&v)[8], float scale) {
    if constexpr (F32) {
        float4 *const to = (float4 *)out + (size_t)at * 2;
        to[0] =
            make_float4(__fmul_rn(v[0], scale), __fmul_rn(v[1], scale), __fmul_rn(v[2], scale), __fmul_rn(v[3], scale));
        to[1] =
            make_float4(__fmul_rn(v[4], scale), __fmul_rn(v[5], scale), __fmul_rn(v[6], scale), __fmul_rn(v[7], scale));
    } else {
        uint32_t w[4];
#pragma unroll
        for (int i = 0; i < 4; i++)
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;"
                : "=r"(w[i])
                : "f"(__fmul_rn(v[2 * i + 1], scale)), "f"(__fmul_rn(v[2 * i], scale)));
        ((uint4 *)out)[at] = make_uint4(w[0], w[1], w[2], w[3]);
    }
}

template <int SCALED, int CODE, int F32>
static __global__ __launch_bounds__(THREADS) void decode_kernel(const __grid_constant__ decode_job job) {
    enum { NIBBLES = CODE == HT_CODE_E2M1 || CODE == HT_CODE_I4 || CODE == HT_CODE_BOOK };
    const uint32_t warp = blockIdx.x * (THREADS / 32) + threadIdx.x / 32;
    const uint32_t first = warp * 32 * LOADS + threadIdx.x % 32;
    __shared__ float book[CODE == HT_CODE_BOOK ? 16 * 32 : 1];
    uint2 word[LOADS];
    float scale[LOADS];
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        const uint32_t at = first + i * 32;
        word[i] = at < job.total ? load_codes(job, NIBBLES, at) : make_uint2(0, 0);
        scale[i] = at < job.total ? load_scale<SCALED>(job, at) : 0.0f;
    }
    if (CODE == HT_CODE_BOOK) {
        for (int i = threadIdx.x; i < 16 * 32; i += THREADS)
            book[i] = job.book[i / 32];
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
        float v[8];
        if (NIBBLES && job.high)
            word[i].x = (word[i].x & 0x0f0f0f0fu) << 4 | (word[i].x >> 4 & 0x0f0f0f0fu);
        decode_octet<CODE>(job, book, word[i], v);
        if (first + i * 32 < job.total)
            store_octet<F32>(job.out, first + i * 32, v, scale[i]);
    }
}

typedef void decode_fn(decode_job);

static const struct source {
    ht_family family;
    ht_dtype element;
    decode_fn *kernel[2]; /* to bf16, f32 */
} sources[] = {
#define BOTH(scaled, code)                                                                                             \
    { decode_kernel<scaled, code, 0>, decode_kernel<scaled, code, 1> }
    {HT_FAMILY_MX, HT_F8_E4M3, BOTH(HT_SCALED_MX, HT_CODE_E4M3)},
    {HT_FAMILY_MX, HT_F8_E5M2, BOTH(HT_SCALED_MX, HT_CODE_E5M2)},
    {HT_FAMILY_MX, HT_F4_E2M1, BOTH(HT_SCALED_MX, HT_CODE_E2M1)},
    {HT_FAMILY_NVFP4, HT_F4_E2M1, BOTH(HT_SCALED_NVFP4, HT_CODE_E2M1)},
    {HT_FAMILY_FLOAT8, HT_F8_E4M3, BOTH(HT_SCALED_F32, HT_CODE_E4M3)},
    {HT_FAMILY_FLOAT8, HT_F8_E5M2, BOTH(HT_SCALED_F32, HT_CODE_E5M2)},
    {HT_FAMILY_INT, HT_I8, BOTH(HT_SCALED_INT, HT_CODE_I8)},
    {HT_FAMILY_INT, HT_I4, BOTH(HT_SCALED_INT, HT_CODE_I4)},
    {HT_FAMILY_CODEBOOK, HT_DTYPE_NONE, BOTH(HT_SCALED_F32, HT_CODE_BOOK)},
#undef BOTH
};

static const struct source *find(const ht_format *f) {
    for (size_t i = 0; i < sizeof sources / sizeof sources[0]; i++)
        if (sources[i].family == f->family && (sources[i].element == f->element || f->family == HT_FAMILY_CODEBOOK))
            return &sources[i];
    return NULL;
}

static ht_status check(const ht_format *f, const ht_planes *in, size_t rows, size_t cols, const void *out,
                       ht_dtype out_dtype) {
    char name[96];
    int f32_scale = f->family == HT_FAMILY_FLOAT8 || f->family == HT_FAMILY_INT || f->family == HT_FAMILY_CODEBOOK;
    ht_format_name(f, name, sizeof name);
    if (!find(f) || f->zero != HT_DTYPE_NONE || f->scale2 != HT_DTYPE_NONE || (f32_scale && f->scale != HT_F32) ||
        (out_dtype != HT_BF16 && out_dtype != HT_F32))
        return ht_fail(HT_ERR_UNSUPPORTED, "cuda decoding of %s to %s: no kernel", name, ht_dtype_name(out_dtype));
    HT_TRY(ht_format_check_shape(f, rows, cols));
    if (cols % 8 || (f->block_cols % 8) || rows * (cols / 8) > 0x7fffffff)
        return ht_fail(HT_ERR_SHAPE, "cuda decoding of %s: [%zu, %zu] in groups of %u: eights, fewer than 2^31, only",
                       name, rows, cols, (unsigned)f->block_cols);
    if (((uintptr_t)in->plane[HT_PLANE_CODES] | (uintptr_t)out) % 16)
        return ht_fail(HT_ERR_ARGUMENT, "cuda decoding of %s: codes and values must be 16-byte aligned", name);
    return HT_OK;
}

ht_status ht_cuda_decode(const ht_format *format, const ht_planes *in, size_t rows, size_t cols, void *out,
                         ht_dtype out_dtype, ht_stream *stream) {
    HT_TRY(check(format, in, rows, cols, out, out_dtype));
    if (rows == 0 || cols == 0)
        return HT_OK;
    decode_job job = {};
    job.codes = (const uint8_t *)in->plane[HT_PLANE_CODES];
    job.scales = in->plane[HT_PLANE_SCALES];
    job.global = format->global != HT_DTYPE_NONE ? (const float *)in->plane[HT_PLANE_GLOBAL] : NULL;
    job.octets = (uint32_t)(cols / 8);
    job.total = (uint32_t)(rows * (cols / 8));
    job.rows_a_scale = format->block_rows ? format->block_rows : (uint32_t)rows;
    job.octets_a_scale = format->block_cols ? format->block_cols / 8 : job.octets;
    job.across = (uint32_t)ht_ceil_div(job.octets, job.octets_a_scale);
    job.divides = format->global_rule == HT_GLOBAL_DIVIDES;
    if (format->family == HT_FAMILY_INT && format->packing == HT_PACK_WORDS)
        job.flip = format->element == HT_I4 ? 0x88888888u : 0x80808080u;
    job.high = format->packing == HT_PACK_HIGH;
    job.out = out;
    const ht_codebook *book = format->family == HT_FAMILY_CODEBOOK ? ht_codebook_at(format->variant) : NULL;
    for (int i = 0; book && i < 16; i++)
        job.book[i] = book->value[i];
    find(format)
        ->kernel[out_dtype ==
                 HT_F32]<<<(unsigned)ht_ceil_div(job.total, THREADS * LOADS), THREADS, 0, ht_cuda_stream(stream)>>>(
            job);
    return ht_cuda_check(cudaGetLastError(), "decoding");
}
