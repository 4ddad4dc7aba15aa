/* What this CPU and operating system offer. The only place that asks the CPU (cpu.c). */
#ifndef HT_BASE_CPU_H
#define HT_BASE_CPU_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

/* X(enumerator tail, text name, architecture). Order: from weak to strong within an architecture. */
#define HT_CPU_FEATURE_LIST(X)                                                                                         \
    X(SSE41, "sse4.1")                                                                                                 \
    X(AVX, "avx")                                                                                                      \
    X(F16C, "f16c")                                                                                                    \
    X(FMA, "fma")                                                                                                      \
    X(AVX2, "avx2")                                                                                                    \
    X(AVXVNNI, "avxvnni")                                                                                              \
    X(AVX512F, "avx512f")                                                                                              \
    X(AVX512BW, "avx512bw")                                                                                            \
    X(AVX512VL, "avx512vl")                                                                                            \
    X(AVX512DQ, "avx512dq")                                                                                            \
    X(AVX512VBMI, "avx512vbmi")                                                                                        \
    X(AVX512VNNI, "avx512vnni")                                                                                        \
    X(AVX512BF16, "avx512bf16")                                                                                        \
    X(AMXTILE, "amx-tile")                                                                                             \
    X(AMXINT8, "amx-int8")                                                                                             \
    X(AMXBF16, "amx-bf16")                                                                                             \
    X(NEON, "neon")                                                                                                    \
    X(DOTPROD, "dotprod")                                                                                              \
    X(I8MM, "i8mm")                                                                                                    \
    X(BF16, "bf16")                                                                                                    \
    X(SVE, "sve")                                                                                                      \
    X(SVE2, "sve2")

enum {
#define HT_CPU_INDEX(name, text) HT_CPU_INDEX_##name,
    HT_CPU_FEATURE_LIST(HT_CPU_INDEX)
#undef HT_CPU_INDEX
        HT_CPU_FEATURE_COUNT
};

enum {
#define HT_CPU_FLAG(name, text) HT_CPU_##name = 1 << HT_CPU_INDEX_##name,
    HT_CPU_FEATURE_LIST(HT_CPU_FLAG)
#undef HT_CPU_FLAG
        HT_CPU_FLAG_NONE = 0
};

typedef struct ht_cpu {
    char name[64];
    uint32_t present; /* HT_CPU_* flags */
    uint32_t enabled; /* after the mask */
    ht_cpu_feature feature[HT_CPU_FEATURE_COUNT];
    char source[HT_CPU_FEATURE_COUNT][48];
} ht_cpu;

/* Fill *cpu. cap: NULL or "" = everything; "baseline"; a level name ("avx2", "avx512", "avx512vnni", "amx", "neon",
 * "dotprod", "i8mm", "sve"): features above the level are masked. Never adds. Fails with ARGUMENT for another name. */
ht_status ht_cpu_detect(const char *cap, ht_cpu *cpu);

/* Flags of the features that this context may use. */
uint32_t ht_cpu_flags(const ht_context *ctx);

#endif
