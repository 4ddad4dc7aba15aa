/* Warpgroup matrix products of any width, with A in shared memory or in registers: what attention needs beyond ptx.h.
 *
 *   ht_product<N>::ss<TYPE>   d[64, N] (+)= a[64, 32 bytes] b[N, 32 bytes]^T, both K-major in shared memory
 *   ht_product<N>::rs<TYPE>   the same with a in registers; 16-bit b is [k, N] in memory (transposed by the unit), fp8
 * b is K-major (the unit has no other way)
 *
 * The register lists are put together from pieces of eight. Accumulator layout: ptx.h. A fragment of thread t, with
 * r = 16 (t / 32) + (t % 32) / 4 and c = t % 4: a[0] row r, a[1] row r + 8, a[2] and a[3] the same rows and the second
 * 16 bytes of k; each the 4 bytes from 4 c on.
 *
 * Source: PTX ISA 9.0, section on wgmma.
 * SPDX-License-Identifier: BSD-3-Clause */
#ifndef HT_KERNELS_CUDA_ATTENTION_WGMMA_H
#define HT_KERNELS_CUDA_ATTENTION_WGMMA_H

#include "kernels/cuda/ptx.h"
#include "kernels/cuda/wgmma.h"

enum { HT_WGMMA_BF16, HT_WGMMA_F16, HT_WGMMA_E4M3 };

/* Operand tile descriptor: rows of `row_bytes` (128, 64 or 32) in the swizzle of that width. `lead`: bytes from one
 * row_bytes-wide column of tiles to the next, for operands that are transposed by the unit (else ignored). */
template <int ROW_BYTES> static __device__ __forceinline__ uint64_t ht_wgmma_tile(uint32_t shared, uint32_t lead) {
    const uint64_t swizzle = ROW_BYTES == 128 ? 1 : ROW_BYTES == 64 ? 2 : 3;
    return (uint64_t)((shared & 0x3ffff) >> 4) | (uint64_t)((lead & 0x3ffff) >> 4) << 16 |
           (uint64_t)(8 * ROW_BYTES >> 4) << 32 | swizzle << 62;
}

/* clang-format off */
#define HT_I0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define HT_I1 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define HT_I2 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define HT_I3 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define HT_I4 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define HT_I5 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define HT_I6 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define HT_I7 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define HT_I8 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define HT_I9 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define HT_IA ", %80, %81, %82, %83, %84, %85, %86, %87"
#define HT_IB ", %88, %89, %90, %91, %92, %93, %94, %95"
#define HT_IC ", %96, %97, %98, %99, %100, %101, %102, %103"
#define HT_ID ", %104, %105, %106, %107, %108, %109, %110, %111"
#define HT_IE ", %112, %113, %114, %115, %116, %117, %118, %119"
#define HT_IF ", %120, %121, %122, %123, %124, %125, %126, %127"
#define HT_I_32 HT_I0 HT_I1 HT_I2 HT_I3
#define HT_I_40 HT_I_32 HT_I4
#define HT_I_48 HT_I_40 HT_I5
#define HT_I_64 HT_I_48 HT_I6 HT_I7
#define HT_I_80 HT_I_64 HT_I8 HT_I9
#define HT_I_88 HT_I_80 HT_IA
#define HT_I_96 HT_I_88 HT_IB
#define HT_I_112 HT_I_96 HT_IC HT_ID
#define HT_I_128 HT_I_112 HT_IE HT_IF
#define HT_R(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define HT_R_32 HT_R(0), HT_R(8), HT_R(16), HT_R(24)
#define HT_R_40 HT_R_32, HT_R(32)
#define HT_R_48 HT_R_40, HT_R(40)
#define HT_R_64 HT_R_48, HT_R(48), HT_R(56)
#define HT_R_80 HT_R_64, HT_R(64), HT_R(72)
#define HT_R_88 HT_R_80, HT_R(80)
#define HT_R_96 HT_R_88, HT_R(88)
#define HT_R_112 HT_R_96, HT_R(96), HT_R(104)
#define HT_R_128 HT_R_112, HT_R(112), HT_R(120)

#define HT_PRODUCT_TEXT(shape, indices, a, b, p, tail) \
    "{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\nwgmma.mma_async.sync.aligned." shape " {" indices "}, " a ", " b ", p, 1, 1" tail ";\n}"
#define HT_PRODUCT_INPUTS "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(accumulate)

template <int N> struct ht_product;

/* One width: n as text, its register lists, and the operand numbers that follow them. */
#define HT_PRODUCT_WIDTH(N, n, indices, registers, x0, x1, x2, x3, x4, x5) \
    template <> struct ht_product<N> { \
        template <int TYPE> static __device__ __forceinline__ void ss(float (&d)[N / 2], uint64_t a, uint64_t b, int accumulate) { \
            if constexpr (TYPE == HT_WGMMA_BF16) \
                asm volatile(HT_PRODUCT_TEXT("m64n" n "k16.f32.bf16.bf16", indices, x0, x1, x2, ", 0, 0") : registers : "l"(a), "l"(b), "r"(accumulate)); \
            else if constexpr (TYPE == HT_WGMMA_F16) \
                asm volatile(HT_PRODUCT_TEXT("m64n" n "k16.f32.f16.f16", indices, x0, x1, x2, ", 0, 0") : registers : "l"(a), "l"(b), "r"(accumulate)); \
            else \
                asm volatile(HT_PRODUCT_TEXT("m64n" n "k32.f32.e4m3.e4m3", indices, x0, x1, x2, "") : registers : "l"(a), "l"(b), "r"(accumulate)); \
        } \
        template <int TYPE> static __device__ __forceinline__ void rs(float (&d)[N / 2], const uint32_t *a, uint64_t b, int accumulate) { \
            if constexpr (TYPE == HT_WGMMA_BF16) \
                asm volatile(HT_PRODUCT_TEXT("m64n" n "k16.f32.bf16.bf16", indices, "{" x0 ", " x1 ", " x2 ", " x3 "}", x4, x5, ", 1") : registers : HT_PRODUCT_INPUTS); \
            else if constexpr (TYPE == HT_WGMMA_F16) \
                asm volatile(HT_PRODUCT_TEXT("m64n" n "k16.f32.f16.f16", indices, "{" x0 ", " x1 ", " x2 ", " x3 "}", x4, x5, ", 1") : registers : HT_PRODUCT_INPUTS); \
            else \
                asm volatile(HT_PRODUCT_TEXT("m64n" n "k32.f32.e4m3.e4m3", indices, "{" x0 ", " x1 ", " x2 ", " x3 "}", x4, x5, "") : registers : HT_PRODUCT_INPUTS); \
        } \
    };

HT_PRODUCT_WIDTH(64, "64", HT_I_32, HT_R_32, "%32", "%33", "%34", "%35", "%36", "%37")
HT_PRODUCT_WIDTH(80, "80", HT_I_40, HT_R_40, "%40", "%41", "%42", "%43", "%44", "%45")
HT_PRODUCT_WIDTH(96, "96", HT_I_48, HT_R_48, "%48", "%49", "%50", "%51", "%52", "%53")
HT_PRODUCT_WIDTH(128, "128", HT_I_64, HT_R_64, "%64", "%65", "%66", "%67", "%68", "%69")
HT_PRODUCT_WIDTH(160, "160", HT_I_80, HT_R_80, "%80", "%81", "%82", "%83", "%84", "%85")
HT_PRODUCT_WIDTH(176, "176", HT_I_88, HT_R_88, "%88", "%89", "%90", "%91", "%92", "%93")
HT_PRODUCT_WIDTH(192, "192", HT_I_96, HT_R_96, "%96", "%97", "%98", "%99", "%100", "%101")
HT_PRODUCT_WIDTH(224, "224", HT_I_112, HT_R_112, "%112", "%113", "%114", "%115", "%116", "%117")
HT_PRODUCT_WIDTH(256, "256", HT_I_128, HT_R_128, "%128", "%129", "%130", "%131", "%132", "%133")
/* clang-format on */

#endif
