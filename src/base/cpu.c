/* CPU detection: x86 cpuid plus xgetbv for what the operating system saves, Arm getauxval. No library is asked,
 * because two copies of one in a process have disagreed before (cpu-kernels specification, section 1.7).
 * SPDX-License-Identifier: BSD-3-Clause */
#include "base/cpu.h"

#include <stdio.h>   /* snprintf */
#include <string.h>  /* memcpy, strcmp */
#include <strings.h> /* strcasecmp */

#include "base/status.h"

static const char *const feature_names[HT_CPU_FEATURE_COUNT] = {
#define FEATURE_NAME(name, text) text,
    HT_CPU_FEATURE_LIST(FEATURE_NAME)
#undef FEATURE_NAME
};

/* What the hardware said, before any cap. */
static void found(ht_cpu *cpu, int index, int present, const char *source) {
    if (present)
        cpu->present |= 1u << index;
    snprintf(cpu->source[index], sizeof cpu->source[index], "%s", source);
}

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

static uint64_t xcr0(void) {
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

/* Linux gives AMX tile state only to processes that ask: arch_prctl(ARCH_REQ_XCOMP_PERM, XTILEDATA). */
static int amx_permitted(void) {
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}

/* Where each feature's bit is, and which XCR0 bits its registers need. */
static const struct {
    int index;
    uint32_t leaf, subleaf;
    char reg;
    int bit;
    uint64_t state;
} x86_bits[] = {
    {HT_CPU_INDEX_SSE41, 1, 0, 'c', 19, 0},         {HT_CPU_INDEX_AVX, 1, 0, 'c', 28, 0x6},
    {HT_CPU_INDEX_F16C, 1, 0, 'c', 29, 0x6},        {HT_CPU_INDEX_FMA, 1, 0, 'c', 12, 0x6},
    {HT_CPU_INDEX_AVX2, 7, 0, 'b', 5, 0x6},         {HT_CPU_INDEX_AVXVNNI, 7, 1, 'a', 4, 0x6},
    {HT_CPU_INDEX_AVX512F, 7, 0, 'b', 16, 0xe6},    {HT_CPU_INDEX_AVX512BW, 7, 0, 'b', 30, 0xe6},
    {HT_CPU_INDEX_AVX512VL, 7, 0, 'b', 31, 0xe6},   {HT_CPU_INDEX_AVX512DQ, 7, 0, 'b', 17, 0xe6},
    {HT_CPU_INDEX_AVX512VBMI, 7, 0, 'c', 1, 0xe6},  {HT_CPU_INDEX_AVX512VNNI, 7, 0, 'c', 11, 0xe6},
    {HT_CPU_INDEX_AVX512BF16, 7, 1, 'a', 5, 0xe6},  {HT_CPU_INDEX_AMXTILE, 7, 0, 'd', 24, 0x600e6},
    {HT_CPU_INDEX_AMXINT8, 7, 0, 'd', 25, 0x600e6}, {HT_CPU_INDEX_AMXBF16, 7, 0, 'd', 22, 0x600e6},
};

static void detect(ht_cpu *cpu) {
    uint32_t a, b, c, d;
    uint64_t state = 0;
    if (__get_cpuid(1, &a, &b, &c, &d) && (c >> 27 & 1)) /* OSXSAVE: xgetbv exists */
        state = xcr0();
    for (size_t i = 0; i < sizeof x86_bits / sizeof x86_bits[0]; i++) {
        uint32_t leaf = x86_bits[i].leaf, sub = x86_bits[i].subleaf;
        a = b = c = d = 0;
        __get_cpuid_count(leaf, sub, &a, &b, &c, &d);
        uint32_t value = x86_bits[i].reg == 'a' ? a : x86_bits[i].reg == 'b' ? b : x86_bits[i].reg == 'c' ? c : d;
        int present = (value >> x86_bits[i].bit & 1) && (state & x86_bits[i].state) == x86_bits[i].state;
        if (present && x86_bits[i].index >= HT_CPU_INDEX_AMXTILE)
            present = amx_permitted();
        char source[48];
        snprintf(source, sizeof source, "cpuid %u.%u e%cx bit %d, xcr0 0x%llx", leaf, sub, x86_bits[i].reg,
                 x86_bits[i].bit, (unsigned long long)state);
        found(cpu, x86_bits[i].index, present, source);
    }
    uint32_t brand[12] = {0};
    for (uint32_t i = 0; i < 3; i++)
        __get_cpuid(0x80000002u + i, &brand[4 * i], &brand[4 * i + 1], &brand[4 * i + 2], &brand[4 * i + 3]);
    memcpy(cpu->name, brand, sizeof brand);
    cpu->name[sizeof brand] = '\0';
}

#elif defined(__aarch64__)
#include <sys/auxv.h>

static const struct {
    int index;
    unsigned long type; /* AT_HWCAP 16, AT_HWCAP2 26 */
    int bit;
} arm_bits[] = {
    {HT_CPU_INDEX_NEON, 16, 1}, {HT_CPU_INDEX_DOTPROD, 16, 20}, {HT_CPU_INDEX_SVE, 16, 22},
    {HT_CPU_INDEX_SVE2, 26, 1}, {HT_CPU_INDEX_I8MM, 26, 13},    {HT_CPU_INDEX_BF16, 26, 14},
};

static void detect(ht_cpu *cpu) {
    for (size_t i = 0; i < sizeof arm_bits / sizeof arm_bits[0]; i++) {
        char source[48];
        snprintf(source, sizeof source, "getauxval %lu bit %d", arm_bits[i].type, arm_bits[i].bit);
        found(cpu, arm_bits[i].index, getauxval(arm_bits[i].type) >> arm_bits[i].bit & 1, source);
    }
    snprintf(cpu->name, sizeof cpu->name, "AArch64");
}

#else
static void detect(ht_cpu *cpu) {
    snprintf(cpu->name, sizeof cpu->name, "unknown");
}
#endif

/* Caps: the strongest feature that stays. Both architectures' lists are ordered from weak to strong. */
static const struct {
    const char *name;
    int last; /* -1: none */
} caps[] = {
    {"baseline", -1},
    {"avx2", HT_CPU_INDEX_AVX2},
    {"avxvnni", HT_CPU_INDEX_AVXVNNI},
    {"avx512", HT_CPU_INDEX_AVX512VBMI},
    {"avx512vnni", HT_CPU_INDEX_AVX512VNNI},
    {"avx512bf16", HT_CPU_INDEX_AVX512BF16},
    {"amx", HT_CPU_INDEX_AMXBF16},
    {"neon", HT_CPU_INDEX_NEON},
    {"dotprod", HT_CPU_INDEX_DOTPROD},
    {"i8mm", HT_CPU_INDEX_I8MM},
    {"sve", HT_CPU_INDEX_SVE2},
};

static ht_status apply_cap(const char *cap, ht_cpu *cpu) {
    cpu->enabled = cpu->present;
    if (!cap || !*cap)
        return HT_OK;
    for (size_t i = 0; i < sizeof caps / sizeof caps[0]; i++) {
        if (strcasecmp(cap, caps[i].name) != 0)
            continue;
        uint32_t keep = caps[i].last < 0 ? 0 : (uint32_t)((1ull << (caps[i].last + 1)) - 1);
        cpu->enabled = cpu->present & keep;
        return HT_OK;
    }
    return ht_fail(HT_ERR_ARGUMENT,
                   "HALFTONE_CPU \"%s\" is unknown: use baseline, avx2, avxvnni, avx512, avx512vnni, avx512bf16, amx, "
                   "neon, dotprod, i8mm or sve",
                   cap);
}

ht_status ht_cpu_detect(const char *cap, ht_cpu *cpu) {
    *cpu = (ht_cpu){0};
    detect(cpu);
    HT_TRY(apply_cap(cap, cpu));
    for (int i = 0; i < HT_CPU_FEATURE_COUNT; i++)
        cpu->feature[i] = (ht_cpu_feature){.name = feature_names[i],
                                           .present = cpu->present >> i & 1,
                                           .enabled = cpu->enabled >> i & 1,
                                           .source = cpu->source[i]};
    return HT_OK;
}
