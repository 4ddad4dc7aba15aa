/* Warpgroup matrix products (wgmma) on operands in shared memory, one function for all shapes.
 *
 * The instruction names every accumulator register in its text, so the text is put together from runs of 16:
 * HT_TEXT16_.. are the operand numbers, HT_SUMS16 the operands themselves.
 *
 * Source: PTX ISA 9.0, section on wgmma.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_WGMMA_H
#define HT_KERNELS_CUDA_WGMMA_H

#include <stdint.h>

/* Orders the accumulators' ordinary register accesses before the next wgmma. */
static __device__ __forceinline__ void ht_wgmma_fence(void) {
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

static __device__ __forceinline__ void ht_wgmma_commit(void) {
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}

template <int PENDING> static __device__ __forceinline__ void ht_wgmma_wait(void) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory");
}

/* Descriptor of a K-major operand tile with 128-byte rows and the 128-byte swizzle: 8-row groups are 1024 bytes apart.
 * Steps along K add 32 bytes, that is 2 to the descriptor. The tile starts at a multiple of 1024 bytes.
 *
 *   bits  0-13 address / 16 | 16-29 leading offset / 16 (unused here, 1) | 32-45 stride / 16 | 62-63 swizzle, 1 = 128 B
 */
static __device__ __forceinline__ uint64_t ht_wgmma_descriptor(uint32_t shared) {
    return (uint64_t)((shared & 0x3ffff) >> 4) | (uint64_t)1 << 16 | (uint64_t)64 << 32 | (uint64_t)1 << 62;
}

/* clang-format off */
#define HT_TEXT16_0 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15"
#define HT_TEXT16_1 ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define HT_TEXT16_2 ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define HT_TEXT16_3 ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HT_TEXT16_4 ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define HT_TEXT16_5 ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define HT_TEXT16_6 ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111"
#define HT_TEXT16_7 ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define HT_SUMS16(d, i)                                                                                                \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]),        \
    "+f"(d[i + 7]), "+f"(d[i + 8]), "+f"(d[i + 9]), "+f"(d[i + 10]), "+f"(d[i + 11]), "+f"(d[i + 12]),                 \
    "+f"(d[i + 13]), "+f"(d[i + 14]), "+f"(d[i + 15])

#define HT_TEXT_64 HT_TEXT16_0 HT_TEXT16_1
#define HT_TEXT_128 HT_TEXT_64 HT_TEXT16_2 HT_TEXT16_3
#define HT_TEXT_192 HT_TEXT_128 HT_TEXT16_4 HT_TEXT16_5
#define HT_TEXT_256 HT_TEXT_192 HT_TEXT16_6 HT_TEXT16_7
#define HT_SUMS_64(d) HT_SUMS16(d, 0), HT_SUMS16(d, 16)
#define HT_SUMS_128(d) HT_SUMS_64(d), HT_SUMS16(d, 32), HT_SUMS16(d, 48)
#define HT_SUMS_192(d) HT_SUMS_128(d), HT_SUMS16(d, 64), HT_SUMS16(d, 80)
#define HT_SUMS_256(d) HT_SUMS_192(d), HT_SUMS16(d, 96), HT_SUMS16(d, 112)

/* `inputs`: the operand numbers of a, b and the flag; `flags`: scale and, for 16-bit types, transposition. */
#define HT_WGMMA_TEXT(shape, sums, a, b, flag, flags)                                                                  \
    "{\n.reg .pred p;\nsetp.ne.b32 p, " flag ", 0;\n"                                                                  \
    "wgmma.mma_async.sync.aligned." shape " {" sums "}, " a ", " b ", p, " flags ";\n}"

/* d[64, N] (+)= a[64, 32 bytes] b[N, 32 bytes]^T, both from shared memory; FP8: e4m3, else bf16. Accumulator layout,
 * thread t of the warpgroup: row 16 (t / 32) + (t % 32) / 4 + 8 ((i / 2) % 2), column 8 (i / 4) + 2 (t % 4) + i % 2 for
 * d[i]. */
template <int FP8, int N>
static __device__ __forceinline__ void ht_wgmma(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate) {
    static_assert(N == 64 || N == 128 || N == 192 || N == 256, "shapes written out here");
    if constexpr (FP8 && N == 64)
        asm volatile(HT_WGMMA_TEXT("m64n64k32.f32.e4m3.e4m3", HT_TEXT_64, "%32", "%33", "%34", "1, 1")
                     : HT_SUMS_64(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (!FP8 && N == 64)
        asm volatile(HT_WGMMA_TEXT("m64n64k16.f32.bf16.bf16", HT_TEXT_64, "%32", "%33", "%34", "1, 1, 0, 0")
                     : HT_SUMS_64(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (FP8 && N == 128)
        asm volatile(HT_WGMMA_TEXT("m64n128k32.f32.e4m3.e4m3", HT_TEXT_128, "%64", "%65", "%66", "1, 1")
                     : HT_SUMS_128(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (!FP8 && N == 128)
        asm volatile(HT_WGMMA_TEXT("m64n128k16.f32.bf16.bf16", HT_TEXT_128, "%64", "%65", "%66", "1, 1, 0, 0")
                     : HT_SUMS_128(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (FP8 && N == 192)
        asm volatile(HT_WGMMA_TEXT("m64n192k32.f32.e4m3.e4m3", HT_TEXT_192, "%96", "%97", "%98", "1, 1")
                     : HT_SUMS_192(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (!FP8 && N == 192)
        asm volatile(HT_WGMMA_TEXT("m64n192k16.f32.bf16.bf16", HT_TEXT_192, "%96", "%97", "%98", "1, 1, 0, 0")
                     : HT_SUMS_192(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (FP8 && N == 256)
        asm volatile(HT_WGMMA_TEXT("m64n256k32.f32.e4m3.e4m3", HT_TEXT_256, "%128", "%129", "%130", "1, 1")
                     : HT_SUMS_256(d) : "l"(a), "l"(b), "r"(accumulate));
    else if constexpr (!FP8 && N == 256)
        asm volatile(HT_WGMMA_TEXT("m64n256k16.f32.bf16.bf16", HT_TEXT_256, "%128", "%129", "%130", "1, 1, 0, 0")
                     : HT_SUMS_256(d) : "l"(a), "l"(b), "r"(accumulate));
}
/* clang-format on */

#endif
