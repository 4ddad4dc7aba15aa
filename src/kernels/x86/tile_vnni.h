/* The inner loops of 4 rows of input in assembly: compilers move and spill the accumulators, which costs a third of the
 * time.
 *
 * Units shorter than a chunk, 4 rows x 2 vectors: while one unit is summed, the sums of the unit before become floats
 * and go to g; the conversions fill pipes that sums leave free, and nothing is stored before the end of the chunk
 * (a 64-byte store costs as much as two vpdpbusd on Zen 4).
 *
 *     zmm0..7   sums of one unit: 2 row + vector     zmm8..15   of the next      zmm16..23   g
 *     zmm24 25  weights of the step     zmm26 27  inputs     zmm28  scale times scale     zmm30 31  scales
 *
 * One unit a chunk, 4 rows x 4 vectors: zmm0..15 sums, 16..19 weights, 20..23 inputs. */
#ifndef HT_KERNELS_X86_TILE_VNNI_H
#define HT_KERNELS_X86_TILE_VNNI_H

#include <stddef.h>
#include <stdint.h>

/* All operands of one tile. f is [4][64 floats]; its rows are 256 bytes apart, as are those of p. */
typedef struct vnni_tile {
    const uint8_t *w[4]; /* 64 bytes for every 4 k */
    const int8_t *a;     /* four rows, `stride` bytes apart */
    size_t stride;
    size_t units, blocks; /* blocks of 32 k in a unit; at least 1 each */
    const int32_t *sums;  /* start of the accumulators: one number a row, 32 bytes apart, next unit 4 bytes on ... */
    const int32_t *init;  /* ... or, with sums NULL, [4][4][16], next unit 1024 bytes on */
    const float *p;       /* [4][16]: scales, next unit 256 bytes on */
    const float *sx;      /* scales of the rows, 32 bytes apart, next unit 4 bytes on; or of the chunk, 4 bytes apart */
    float *f;
} vnni_tile;

/* One step of 4 k; PAIR_A and PAIR_B differ in the accumulators. */
#define PAIR_A(s)                                                                                                      \
    "vmovdqu64 64*" s "(%[w0],%[i]), %%zmm24\n\t"                                                                      \
    "vpbroadcastd 4*" s "(%[a]), %%zmm26\n\t"                                                                          \
    "vmovdqu64 64*" s "(%[w1],%[i]), %%zmm25\n\t"                                                                      \
    "vpdpbusd %%zmm26, %%zmm24, %%zmm0\n\t"                                                                            \
    "vpdpbusd %%zmm26, %%zmm25, %%zmm1\n\t"                                                                            \
    "vpbroadcastd 4*" s "(%[a],%[stride]), %%zmm27\n\t"                                                                \
    "vpdpbusd %%zmm27, %%zmm24, %%zmm2\n\t"                                                                            \
    "vpdpbusd %%zmm27, %%zmm25, %%zmm3\n\t"                                                                            \
    "vpbroadcastd 4*" s "(%[a],%[stride],2), %%zmm26\n\t"                                                              \
    "vpdpbusd %%zmm26, %%zmm24, %%zmm4\n\t"                                                                            \
    "vpdpbusd %%zmm26, %%zmm25, %%zmm5\n\t"                                                                            \
    "vpbroadcastd 4*" s "(%[a3]), %%zmm27\n\t"                                                                         \
    "vpdpbusd %%zmm27, %%zmm24, %%zmm6\n\t"                                                                            \
    "vpdpbusd %%zmm27, %%zmm25, %%zmm7\n\t"

#define PAIR_B(s)                                                                                                      \
    "vmovdqu64 64*" s "(%[w0],%[i]), %%zmm24\n\t"                                                                      \
    "vpbroadcastd 4*" s "(%[a]), %%zmm26\n\t"                                                                          \
    "vmovdqu64 64*" s "(%[w1],%[i]), %%zmm25\n\t"                                                                      \
    "vpdpbusd %%zmm26, %%zmm24, %%zmm8\n\t"                                                                            \
    "vpdpbusd %%zmm26, %%zmm25, %%zmm9\n\t"                                                                            \
    "vpbroadcastd 4*" s "(%[a],%[stride]), %%zmm27\n\t"                                                                \
    "vpdpbusd %%zmm27, %%zmm24, %%zmm10\n\t"                                                                           \
    "vpdpbusd %%zmm27, %%zmm25, %%zmm11\n\t"                                                                           \
    "vpbroadcastd 4*" s "(%[a],%[stride],2), %%zmm26\n\t"                                                              \
    "vpdpbusd %%zmm26, %%zmm24, %%zmm12\n\t"                                                                           \
    "vpdpbusd %%zmm26, %%zmm25, %%zmm13\n\t"                                                                           \
    "vpbroadcastd 4*" s "(%[a3]), %%zmm27\n\t"                                                                         \
    "vpdpbusd %%zmm27, %%zmm24, %%zmm14\n\t"                                                                           \
    "vpdpbusd %%zmm27, %%zmm25, %%zmm15\n\t"

/* A finished sum (zmm a, row r, scales in zmm p) into zmm g. */
#define PAIR_SCALED(a, r, p, g)                                                                                        \
    "vcvtdq2ps %%zmm" a ", %%zmm" a "\n\t"                                                                             \
    "vfmadd231ps %%zmm" p ", %%zmm" a ", %%zmm" g "\n\t"

#define PAIR_BY_BLOCK(a, r, p, g)                                                                                      \
    "vcvtdq2ps %%zmm" a ", %%zmm" a "\n\t"                                                                             \
    "vmulps 32*" r "(%[sx])%{1to16%}, %%zmm" p ", %%zmm28\n\t"                                                         \
    "vfmadd231ps %%zmm28, %%zmm" a ", %%zmm" g "\n\t"

/* The same where p is a power of two: its exponent is added to that of the row's scale, beside the sums instead of in
 * their pipe. */
#define PAIR_BY_POWERS(a, r, p, g)                                                                                     \
    "vcvtdq2ps %%zmm" a ", %%zmm" a "\n\t"                                                                             \
    "vpaddd 32*" r "(%[sx])%{1to16%}, %%zmm" p ", %%zmm28\n\t"                                                         \
    "vfmadd231ps %%zmm28, %%zmm" a ", %%zmm" g "\n\t"

#define PAIR_SCALES                                                                                                    \
    "vmovups (%[p]), %%zmm30\n\t"                                                                                      \
    "vmovups 64(%[p]), %%zmm31\n\t"

/* Exponents, where a float has them: p's bits less those of 1, which are in zmm29. */
#define PAIR_EXPONENTS                                                                                                 \
    PAIR_SCALES                                                                                                        \
    "vpsubd %%zmm29, %%zmm30, %%zmm30\n\t"                                                                             \
    "vpsubd %%zmm29, %%zmm31, %%zmm31\n\t"

/* A block of 32 k; one sum of the unit before is finished every step. */
#define PAIR_BLOCK_A(finish)                                                                                           \
    PAIR_A("0")                                                                                                        \
    finish("8", "0", "30", "16") PAIR_A("1") finish("9", "0", "31", "17") PAIR_A("2") finish("10", "1", "30", "18")    \
        PAIR_A("3") finish("11", "1", "31", "19") PAIR_A("4") finish("12", "2", "30", "20") PAIR_A("5")                \
            finish("13", "2", "31", "21") PAIR_A("6") finish("14", "3", "30", "22") PAIR_A("7")                        \
                finish("15", "3", "31", "23")

#define PAIR_BLOCK_B(finish)                                                                                           \
    PAIR_B("0")                                                                                                        \
    finish("0", "0", "30", "16") PAIR_B("1") finish("1", "0", "31", "17") PAIR_B("2") finish("2", "1", "30", "18")     \
        PAIR_B("3") finish("3", "1", "31", "19") PAIR_B("4") finish("4", "2", "30", "20") PAIR_B("5")                  \
            finish("5", "2", "31", "21") PAIR_B("6") finish("6", "3", "30", "22") PAIR_B("7")                          \
                finish("7", "3", "31", "23")

#define PAIR_NOTHING(a, r, p, g) ""

/* Starting values of a unit. */
#define PAIR_START_A                                                                                                   \
    "mov %c[sums](%[t]), %[tmp]\n\t"                                                                                   \
    "test %[tmp], %[tmp]\n\t"                                                                                          \
    "jz 1f\n\t"                                                                                                        \
    "vpbroadcastd 0(%[tmp]), %%zmm0\n\t"                                                                               \
    "vmovdqa64 %%zmm0, %%zmm1\n\t"                                                                                     \
    "vpbroadcastd 32(%[tmp]), %%zmm2\n\t"                                                                              \
    "vmovdqa64 %%zmm2, %%zmm3\n\t"                                                                                     \
    "vpbroadcastd 64(%[tmp]), %%zmm4\n\t"                                                                              \
    "vmovdqa64 %%zmm4, %%zmm5\n\t"                                                                                     \
    "vpbroadcastd 96(%[tmp]), %%zmm6\n\t"                                                                              \
    "vmovdqa64 %%zmm6, %%zmm7\n\t"                                                                                     \
    "addq $4, %c[sums](%[t])\n\t"                                                                                      \
    "jmp 2f\n\t"                                                                                                       \
    "1:\n\t"                                                                                                           \
    "mov %c[init](%[t]), %[tmp]\n\t"                                                                                   \
    "vmovdqu64 0(%[tmp]), %%zmm0\n\t"                                                                                  \
    "vmovdqu64 64(%[tmp]), %%zmm1\n\t"                                                                                 \
    "vmovdqu64 256(%[tmp]), %%zmm2\n\t"                                                                                \
    "vmovdqu64 320(%[tmp]), %%zmm3\n\t"                                                                                \
    "vmovdqu64 512(%[tmp]), %%zmm4\n\t"                                                                                \
    "vmovdqu64 576(%[tmp]), %%zmm5\n\t"                                                                                \
    "vmovdqu64 768(%[tmp]), %%zmm6\n\t"                                                                                \
    "vmovdqu64 832(%[tmp]), %%zmm7\n\t"                                                                                \
    "addq $1024, %c[init](%[t])\n\t"                                                                                   \
    "2:\n\t"

#define PAIR_START_B                                                                                                   \
    "mov %c[sums](%[t]), %[tmp]\n\t"                                                                                   \
    "test %[tmp], %[tmp]\n\t"                                                                                          \
    "jz 1f\n\t"                                                                                                        \
    "vpbroadcastd 0(%[tmp]), %%zmm8\n\t"                                                                               \
    "vmovdqa64 %%zmm8, %%zmm9\n\t"                                                                                     \
    "vpbroadcastd 32(%[tmp]), %%zmm10\n\t"                                                                             \
    "vmovdqa64 %%zmm10, %%zmm11\n\t"                                                                                   \
    "vpbroadcastd 64(%[tmp]), %%zmm12\n\t"                                                                             \
    "vmovdqa64 %%zmm12, %%zmm13\n\t"                                                                                   \
    "vpbroadcastd 96(%[tmp]), %%zmm14\n\t"                                                                             \
    "vmovdqa64 %%zmm14, %%zmm15\n\t"                                                                                   \
    "addq $4, %c[sums](%[t])\n\t"                                                                                      \
    "jmp 2f\n\t"                                                                                                       \
    "1:\n\t"                                                                                                           \
    "mov %c[init](%[t]), %[tmp]\n\t"                                                                                   \
    "vmovdqu64 0(%[tmp]), %%zmm8\n\t"                                                                                  \
    "vmovdqu64 64(%[tmp]), %%zmm9\n\t"                                                                                 \
    "vmovdqu64 256(%[tmp]), %%zmm10\n\t"                                                                               \
    "vmovdqu64 320(%[tmp]), %%zmm11\n\t"                                                                               \
    "vmovdqu64 512(%[tmp]), %%zmm12\n\t"                                                                               \
    "vmovdqu64 576(%[tmp]), %%zmm13\n\t"                                                                               \
    "vmovdqu64 768(%[tmp]), %%zmm14\n\t"                                                                               \
    "vmovdqu64 832(%[tmp]), %%zmm15\n\t"                                                                               \
    "addq $1024, %c[init](%[t])\n\t"                                                                                   \
    "2:\n\t"

/* After the first block of a unit: its scales are the next to be used; then its other blocks. */
#define PAIR_REST(block)                                                                                               \
    "mov %c[p_at](%[t]), %[p]\n\t"                                                                                     \
    "mov %c[sx_at](%[t]), %[sx]\n\t"                                                                                   \
    "addq $256, %c[p_at](%[t])\n\t"                                                                                    \
    "addq $4, %c[sx_at](%[t])\n\t"                                                                                     \
    "mov %c[blocks](%[t]), %[n]\n\t"                                                                                   \
    "jmp 4f\n\t"                                                                                                       \
    "3:\n\t" block(PAIR_NOTHING) "4:\n\t"                                                                              \
                                 "add $512, %[i]\n\t"                                                                  \
                                 "add $32, %[a]\n\t"                                                                   \
                                 "add $32, %[a3]\n\t"                                                                  \
                                 "dec %[n]\n\t"                                                                        \
                                 "jnz 3b\n\t"

/* The sums of the last unit. */
#define PAIR_LAST_A(finish, scales)                                                                                    \
    scales finish("0", "0", "30", "16") finish("1", "0", "31", "17") finish("2", "1", "30", "18")                      \
        finish("3", "1", "31", "19") finish("4", "2", "30", "20") finish("5", "2", "31", "21")                         \
            finish("6", "3", "30", "22") finish("7", "3", "31", "23")

#define PAIR_LAST_B(finish, scales)                                                                                    \
    scales finish("8", "0", "30", "16") finish("9", "0", "31", "17") finish("10", "1", "30", "18")                     \
        finish("11", "1", "31", "19") finish("12", "2", "30", "20") finish("13", "2", "31", "21")                      \
            finish("14", "3", "30", "22") finish("15", "3", "31", "23")

/* f = f + g. */
#define PAIR_ADD                                                                                                       \
    "mov %c[f](%[t]), %[tmp]\n\t"                                                                                      \
    "vaddps 0(%[tmp]), %%zmm16, %%zmm16\n\t"                                                                           \
    "vmovups %%zmm16, 0(%[tmp])\n\t"                                                                                   \
    "vaddps 64(%[tmp]), %%zmm17, %%zmm17\n\t"                                                                          \
    "vmovups %%zmm17, 64(%[tmp])\n\t"                                                                                  \
    "vaddps 256(%[tmp]), %%zmm18, %%zmm18\n\t"                                                                         \
    "vmovups %%zmm18, 256(%[tmp])\n\t"                                                                                 \
    "vaddps 320(%[tmp]), %%zmm19, %%zmm19\n\t"                                                                         \
    "vmovups %%zmm19, 320(%[tmp])\n\t"                                                                                 \
    "vaddps 512(%[tmp]), %%zmm20, %%zmm20\n\t"                                                                         \
    "vmovups %%zmm20, 512(%[tmp])\n\t"                                                                                 \
    "vaddps 576(%[tmp]), %%zmm21, %%zmm21\n\t"                                                                         \
    "vmovups %%zmm21, 576(%[tmp])\n\t"                                                                                 \
    "vaddps 768(%[tmp]), %%zmm22, %%zmm22\n\t"                                                                         \
    "vmovups %%zmm22, 768(%[tmp])\n\t"                                                                                 \
    "vaddps 832(%[tmp]), %%zmm23, %%zmm23\n\t"                                                                         \
    "vmovups %%zmm23, 832(%[tmp])\n\t"

#define PAIR_UNITS(finish, scales)                                                                                     \
    "xor %k[i], %k[i]\n\t"                                                                                             \
    "vpxord %%zmm8, %%zmm8, %%zmm8\n\t"                                                                                \
    "vpxord %%zmm9, %%zmm9, %%zmm9\n\t"                                                                                \
    "vpxord %%zmm10, %%zmm10, %%zmm10\n\t"                                                                             \
    "vpxord %%zmm11, %%zmm11, %%zmm11\n\t"                                                                             \
    "vpxord %%zmm12, %%zmm12, %%zmm12\n\t"                                                                             \
    "vpxord %%zmm13, %%zmm13, %%zmm13\n\t"                                                                             \
    "vpxord %%zmm14, %%zmm14, %%zmm14\n\t"                                                                             \
    "vpxord %%zmm15, %%zmm15, %%zmm15\n\t"                                                                             \
    "vpxord %%zmm16, %%zmm16, %%zmm16\n\t"                                                                             \
    "vpxord %%zmm17, %%zmm17, %%zmm17\n\t"                                                                             \
    "vpxord %%zmm18, %%zmm18, %%zmm18\n\t"                                                                             \
    "vpxord %%zmm19, %%zmm19, %%zmm19\n\t"                                                                             \
    "vpxord %%zmm20, %%zmm20, %%zmm20\n\t"                                                                             \
    "vpxord %%zmm21, %%zmm21, %%zmm21\n\t"                                                                             \
    "vpxord %%zmm22, %%zmm22, %%zmm22\n\t"                                                                             \
    "vpxord %%zmm23, %%zmm23, %%zmm23\n\t"                                                                             \
    "5:\n\t" PAIR_START_A scales                                                                                       \
    PAIR_BLOCK_A(finish)                                                                                               \
        PAIR_REST(PAIR_BLOCK_A) "decq %c[units](%[t])\n\t"                                                             \
                                "jz 6f\n\t" PAIR_START_B scales                                                        \
                                PAIR_BLOCK_B(finish) PAIR_REST(                                                        \
                                    PAIR_BLOCK_B) "decq %c[units](%[t])\n\t"                                           \
                                                  "jnz 5b\n\t" PAIR_LAST_B(                                            \
                                                      finish, scales) "jmp 7f\n\t"                                     \
                                                                      "6:\n\t" PAIR_LAST_A(finish, scales) "7:\n\t"

/* f = fma(g, scale of the row, f). */
#define PAIR_FMA                                                                                                       \
    "mov %c[f](%[t]), %[tmp]\n\t"                                                                                      \
    "mov %[s256], %[sx]\n\t"                                                                                           \
    "vbroadcastss 0(%[sx]), %%zmm28\n\t"                                                                               \
    "vfmadd213ps 0(%[tmp]), %%zmm28, %%zmm16\n\t"                                                                      \
    "vmovups %%zmm16, 0(%[tmp])\n\t"                                                                                   \
    "vfmadd213ps 64(%[tmp]), %%zmm28, %%zmm17\n\t"                                                                     \
    "vmovups %%zmm17, 64(%[tmp])\n\t"                                                                                  \
    "vbroadcastss 4(%[sx]), %%zmm28\n\t"                                                                               \
    "vfmadd213ps 256(%[tmp]), %%zmm28, %%zmm18\n\t"                                                                    \
    "vmovups %%zmm18, 256(%[tmp])\n\t"                                                                                 \
    "vfmadd213ps 320(%[tmp]), %%zmm28, %%zmm19\n\t"                                                                    \
    "vmovups %%zmm19, 320(%[tmp])\n\t"                                                                                 \
    "vbroadcastss 8(%[sx]), %%zmm28\n\t"                                                                               \
    "vfmadd213ps 512(%[tmp]), %%zmm28, %%zmm20\n\t"                                                                    \
    "vmovups %%zmm20, 512(%[tmp])\n\t"                                                                                 \
    "vfmadd213ps 576(%[tmp]), %%zmm28, %%zmm21\n\t"                                                                    \
    "vmovups %%zmm21, 576(%[tmp])\n\t"                                                                                 \
    "vbroadcastss 12(%[sx]), %%zmm28\n\t"                                                                              \
    "vfmadd213ps 768(%[tmp]), %%zmm28, %%zmm22\n\t"                                                                    \
    "vmovups %%zmm22, 768(%[tmp])\n\t"                                                                                 \
    "vfmadd213ps 832(%[tmp]), %%zmm28, %%zmm23\n\t"                                                                    \
    "vmovups %%zmm23, 832(%[tmp])\n\t"

#define TILE_FIELD(name) [name] "i"(offsetof(vnni_tile, name))

#define PAIR_OPERANDS                                                                                                  \
    [a] "+&r"(a), [a3] "+&r"(a3), [i] "+&r"(i), [n] "+&r"(n), [tmp] "+&r"(tmp), [p] "+&r"(p),                          \
        [sx] "+&r"(sx)                                                                                                 \
        : [w0] "r"(t->w[0]), [w1] "r"(t->w[1]), [stride] "r"(t->stride), [t] "r"(t), [s256] "m"(s256),                 \
          TILE_FIELD(units), TILE_FIELD(blocks), TILE_FIELD(sums), TILE_FIELD(init),                                   \
          TILE_FIELD(f), [p_at] "i"(offsetof(vnni_tile, p)), [sx_at] "i"(offsetof(vnni_tile, sx))                      \
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",   \
          "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24",  \
          "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31", "cc", "memory"

/* Two vectors, all units; *t is used up. f += g, g = fma((float)sums, p, g) over the units. */
static inline void vnni_pair_scaled(vnni_tile *t) {
    static const float none[64] = {0}; /* scales of the sums before the first, which are 0 */
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    const float *p = none, *sx = none, *s256 = none;
    size_t i = 0, n = 0, tmp = 0;
    __asm__ volatile(PAIR_UNITS(PAIR_SCALED, PAIR_SCALES) PAIR_ADD : PAIR_OPERANDS);
}

/* f = fma(g, s256 of the row, f). */
static inline void vnni_pair_256(vnni_tile *t, const float *s256) {
    static const float none[64] = {0}; /* scales of the sums before the first, which are 0 */
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    const float *p = none, *sx = none;
    size_t i = 0, n = 0, tmp = 0;
    __asm__ volatile(PAIR_UNITS(PAIR_SCALED, PAIR_SCALES) PAIR_FMA : PAIR_OPERANDS);
}

/* f += g, g = fma((float)sums, p * sx, g). */
static inline void vnni_pair_by_block(vnni_tile *t) {
    static const float none[64] = {0}; /* scales of the sums before the first, which are 0 */
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    const float *p = none, *sx = none, *s256 = none;
    size_t i = 0, n = 0, tmp = 0;
    __asm__ volatile(PAIR_UNITS(PAIR_BY_BLOCK, PAIR_SCALES) PAIR_ADD : PAIR_OPERANDS);
}

/* The same, to the bit, where every p is a power of two and p and sx are between 2^-60 and 2^60. */
static inline void vnni_pair_by_powers(vnni_tile *t) {
    static const float none[64] = {0}; /* scales of the sums before the first, which are 0 */
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    const float *p = none, *sx = none, *s256 = none;
    size_t i = 0, n = 0, tmp = 0x3f800000;
    __asm__ volatile("vpbroadcastd %k[tmp], %%zmm29\n\t" PAIR_UNITS(PAIR_BY_POWERS, PAIR_EXPONENTS) PAIR_ADD
                     : PAIR_OPERANDS);
}

/* --- one unit a chunk -------------------------------------------------------------------------------------------- */

#define QUAD_STEP(s)                                                                                                   \
    "vmovdqu64 64*" s "(%[w0],%[i]), %%zmm16\n\t"                                                                      \
    "vpbroadcastd 4*" s "(%[a]), %%zmm20\n\t"                                                                          \
    "vmovdqu64 64*" s "(%[w1],%[i]), %%zmm17\n\t"                                                                      \
    "vpbroadcastd 4*" s "(%[a],%[stride]), %%zmm21\n\t"                                                                \
    "vmovdqu64 64*" s "(%[w2],%[i]), %%zmm18\n\t"                                                                      \
    "vpbroadcastd 4*" s "(%[a],%[stride],2), %%zmm22\n\t"                                                              \
    "vmovdqu64 64*" s "(%[w3],%[i]), %%zmm19\n\t"                                                                      \
    "vpbroadcastd 4*" s "(%[a3]), %%zmm23\n\t"                                                                         \
    "vpdpbusd %%zmm20, %%zmm16, %%zmm0\n\t"                                                                            \
    "vpdpbusd %%zmm20, %%zmm17, %%zmm1\n\t"                                                                            \
    "vpdpbusd %%zmm20, %%zmm18, %%zmm2\n\t"                                                                            \
    "vpdpbusd %%zmm20, %%zmm19, %%zmm3\n\t"                                                                            \
    "vpdpbusd %%zmm21, %%zmm16, %%zmm4\n\t"                                                                            \
    "vpdpbusd %%zmm21, %%zmm17, %%zmm5\n\t"                                                                            \
    "vpdpbusd %%zmm21, %%zmm18, %%zmm6\n\t"                                                                            \
    "vpdpbusd %%zmm21, %%zmm19, %%zmm7\n\t"                                                                            \
    "vpdpbusd %%zmm22, %%zmm16, %%zmm8\n\t"                                                                            \
    "vpdpbusd %%zmm22, %%zmm17, %%zmm9\n\t"                                                                            \
    "vpdpbusd %%zmm22, %%zmm18, %%zmm10\n\t"                                                                           \
    "vpdpbusd %%zmm22, %%zmm19, %%zmm11\n\t"                                                                           \
    "vpdpbusd %%zmm23, %%zmm16, %%zmm12\n\t"                                                                           \
    "vpdpbusd %%zmm23, %%zmm17, %%zmm13\n\t"                                                                           \
    "vpdpbusd %%zmm23, %%zmm18, %%zmm14\n\t"                                                                           \
    "vpdpbusd %%zmm23, %%zmm19, %%zmm15\n\t"

#define QUAD_BLOCKS                                                                                                    \
    "3:\n\t" QUAD_STEP("0") QUAD_STEP("1") QUAD_STEP("2") QUAD_STEP("3") QUAD_STEP("4") QUAD_STEP("5") QUAD_STEP("6")  \
        QUAD_STEP("7") "add $512, %[i]\n\t"                                                                            \
                       "add $32, %[a]\n\t"                                                                             \
                       "add $32, %[a3]\n\t"                                                                            \
                       "dec %[n]\n\t"                                                                                  \
                       "jnz 3b\n\t"

#define QUAD_START                                                                                                     \
    "mov %c[sums](%[t]), %[tmp]\n\t"                                                                                   \
    "test %[tmp], %[tmp]\n\t"                                                                                          \
    "jz 1f\n\t"                                                                                                        \
    "vpbroadcastd 0(%[tmp]), %%zmm0\n\t"                                                                               \
    "vmovdqa64 %%zmm0, %%zmm1\n\t"                                                                                     \
    "vmovdqa64 %%zmm0, %%zmm2\n\t"                                                                                     \
    "vmovdqa64 %%zmm0, %%zmm3\n\t"                                                                                     \
    "vpbroadcastd 32(%[tmp]), %%zmm4\n\t"                                                                              \
    "vmovdqa64 %%zmm4, %%zmm5\n\t"                                                                                     \
    "vmovdqa64 %%zmm4, %%zmm6\n\t"                                                                                     \
    "vmovdqa64 %%zmm4, %%zmm7\n\t"                                                                                     \
    "vpbroadcastd 64(%[tmp]), %%zmm8\n\t"                                                                              \
    "vmovdqa64 %%zmm8, %%zmm9\n\t"                                                                                     \
    "vmovdqa64 %%zmm8, %%zmm10\n\t"                                                                                    \
    "vmovdqa64 %%zmm8, %%zmm11\n\t"                                                                                    \
    "vpbroadcastd 96(%[tmp]), %%zmm12\n\t"                                                                             \
    "vmovdqa64 %%zmm12, %%zmm13\n\t"                                                                                   \
    "vmovdqa64 %%zmm12, %%zmm14\n\t"                                                                                   \
    "vmovdqa64 %%zmm12, %%zmm15\n\t"                                                                                   \
    "jmp 2f\n\t"                                                                                                       \
    "1:\n\t"                                                                                                           \
    "mov %c[init](%[t]), %[tmp]\n\t"                                                                                   \
    "vmovdqu64 0(%[tmp]), %%zmm0\n\t"                                                                                  \
    "vmovdqu64 64(%[tmp]), %%zmm1\n\t"                                                                                 \
    "vmovdqu64 128(%[tmp]), %%zmm2\n\t"                                                                                \
    "vmovdqu64 192(%[tmp]), %%zmm3\n\t"                                                                                \
    "vmovdqu64 256(%[tmp]), %%zmm4\n\t"                                                                                \
    "vmovdqu64 320(%[tmp]), %%zmm5\n\t"                                                                                \
    "vmovdqu64 384(%[tmp]), %%zmm6\n\t"                                                                                \
    "vmovdqu64 448(%[tmp]), %%zmm7\n\t"                                                                                \
    "vmovdqu64 512(%[tmp]), %%zmm8\n\t"                                                                                \
    "vmovdqu64 576(%[tmp]), %%zmm9\n\t"                                                                                \
    "vmovdqu64 640(%[tmp]), %%zmm10\n\t"                                                                               \
    "vmovdqu64 704(%[tmp]), %%zmm11\n\t"                                                                               \
    "vmovdqu64 768(%[tmp]), %%zmm12\n\t"                                                                               \
    "vmovdqu64 832(%[tmp]), %%zmm13\n\t"                                                                               \
    "vmovdqu64 896(%[tmp]), %%zmm14\n\t"                                                                               \
    "vmovdqu64 960(%[tmp]), %%zmm15\n\t"                                                                               \
    "2:\n\t"

/* Sums that go on from chunk to chunk: f holds integers. */
#define QUAD_START_WHOLE                                                                                               \
    "mov %c[sums](%[t]), %[tmp]\n\t"                                                                                   \
    "vpbroadcastd 0(%[tmp]), %%zmm20\n\t"                                                                              \
    "vpbroadcastd 32(%[tmp]), %%zmm21\n\t"                                                                             \
    "vpbroadcastd 64(%[tmp]), %%zmm22\n\t"                                                                             \
    "vpbroadcastd 96(%[tmp]), %%zmm23\n\t"                                                                             \
    "mov %c[f](%[t]), %[tmp]\n\t"                                                                                      \
    "vpaddd 0(%[tmp]), %%zmm20, %%zmm0\n\t"                                                                            \
    "vpaddd 64(%[tmp]), %%zmm20, %%zmm1\n\t"                                                                           \
    "vpaddd 128(%[tmp]), %%zmm20, %%zmm2\n\t"                                                                          \
    "vpaddd 192(%[tmp]), %%zmm20, %%zmm3\n\t"                                                                          \
    "vpaddd 256(%[tmp]), %%zmm21, %%zmm4\n\t"                                                                          \
    "vpaddd 320(%[tmp]), %%zmm21, %%zmm5\n\t"                                                                          \
    "vpaddd 384(%[tmp]), %%zmm21, %%zmm6\n\t"                                                                          \
    "vpaddd 448(%[tmp]), %%zmm21, %%zmm7\n\t"                                                                          \
    "vpaddd 512(%[tmp]), %%zmm22, %%zmm8\n\t"                                                                          \
    "vpaddd 576(%[tmp]), %%zmm22, %%zmm9\n\t"                                                                          \
    "vpaddd 640(%[tmp]), %%zmm22, %%zmm10\n\t"                                                                         \
    "vpaddd 704(%[tmp]), %%zmm22, %%zmm11\n\t"                                                                         \
    "vpaddd 768(%[tmp]), %%zmm23, %%zmm12\n\t"                                                                         \
    "vpaddd 832(%[tmp]), %%zmm23, %%zmm13\n\t"                                                                         \
    "vpaddd 896(%[tmp]), %%zmm23, %%zmm14\n\t"                                                                         \
    "vpaddd 960(%[tmp]), %%zmm23, %%zmm15\n\t"

#define QUAD_STORE_WHOLE                                                                                               \
    "vmovdqu64 %%zmm0, 0(%[tmp])\n\t"                                                                                  \
    "vmovdqu64 %%zmm1, 64(%[tmp])\n\t"                                                                                 \
    "vmovdqu64 %%zmm2, 128(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm3, 192(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm4, 256(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm5, 320(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm6, 384(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm7, 448(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm8, 512(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm9, 576(%[tmp])\n\t"                                                                                \
    "vmovdqu64 %%zmm10, 640(%[tmp])\n\t"                                                                               \
    "vmovdqu64 %%zmm11, 704(%[tmp])\n\t"                                                                               \
    "vmovdqu64 %%zmm12, 768(%[tmp])\n\t"                                                                               \
    "vmovdqu64 %%zmm13, 832(%[tmp])\n\t"                                                                               \
    "vmovdqu64 %%zmm14, 896(%[tmp])\n\t"                                                                               \
    "vmovdqu64 %%zmm15, 960(%[tmp])\n\t"

#define QUAD_SCALES                                                                                                    \
    "mov %c[p_at](%[t]), %[i]\n\t"                                                                                     \
    "vmovups 0(%[i]), %%zmm16\n\t"                                                                                     \
    "vmovups 64(%[i]), %%zmm17\n\t"                                                                                    \
    "vmovups 128(%[i]), %%zmm18\n\t"                                                                                   \
    "vmovups 192(%[i]), %%zmm19\n\t"                                                                                   \
    "mov %c[f](%[t]), %[tmp]\n\t"                                                                                      \
    "mov %c[sx_at](%[t]), %[i]\n\t"

/* f = f + sums * p, and f = fma(sums * p, scale of the row, f). */
#define QUAD_ADD                                                                                                       \
    "vcvtdq2ps %%zmm0, %%zmm0\n\t"                                                                                     \
    "vmulps %%zmm16, %%zmm0, %%zmm0\n\t"                                                                               \
    "vaddps 0(%[tmp]), %%zmm0, %%zmm0\n\t"                                                                             \
    "vmovups %%zmm0, 0(%[tmp])\n\t"                                                                                    \
    "vcvtdq2ps %%zmm1, %%zmm1\n\t"                                                                                     \
    "vmulps %%zmm17, %%zmm1, %%zmm1\n\t"                                                                               \
    "vaddps 64(%[tmp]), %%zmm1, %%zmm1\n\t"                                                                            \
    "vmovups %%zmm1, 64(%[tmp])\n\t"                                                                                   \
    "vcvtdq2ps %%zmm2, %%zmm2\n\t"                                                                                     \
    "vmulps %%zmm18, %%zmm2, %%zmm2\n\t"                                                                               \
    "vaddps 128(%[tmp]), %%zmm2, %%zmm2\n\t"                                                                           \
    "vmovups %%zmm2, 128(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm3, %%zmm3\n\t"                                                                                     \
    "vmulps %%zmm19, %%zmm3, %%zmm3\n\t"                                                                               \
    "vaddps 192(%[tmp]), %%zmm3, %%zmm3\n\t"                                                                           \
    "vmovups %%zmm3, 192(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm4, %%zmm4\n\t"                                                                                     \
    "vmulps %%zmm16, %%zmm4, %%zmm4\n\t"                                                                               \
    "vaddps 256(%[tmp]), %%zmm4, %%zmm4\n\t"                                                                           \
    "vmovups %%zmm4, 256(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm5, %%zmm5\n\t"                                                                                     \
    "vmulps %%zmm17, %%zmm5, %%zmm5\n\t"                                                                               \
    "vaddps 320(%[tmp]), %%zmm5, %%zmm5\n\t"                                                                           \
    "vmovups %%zmm5, 320(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm6, %%zmm6\n\t"                                                                                     \
    "vmulps %%zmm18, %%zmm6, %%zmm6\n\t"                                                                               \
    "vaddps 384(%[tmp]), %%zmm6, %%zmm6\n\t"                                                                           \
    "vmovups %%zmm6, 384(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm7, %%zmm7\n\t"                                                                                     \
    "vmulps %%zmm19, %%zmm7, %%zmm7\n\t"                                                                               \
    "vaddps 448(%[tmp]), %%zmm7, %%zmm7\n\t"                                                                           \
    "vmovups %%zmm7, 448(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm8, %%zmm8\n\t"                                                                                     \
    "vmulps %%zmm16, %%zmm8, %%zmm8\n\t"                                                                               \
    "vaddps 512(%[tmp]), %%zmm8, %%zmm8\n\t"                                                                           \
    "vmovups %%zmm8, 512(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm9, %%zmm9\n\t"                                                                                     \
    "vmulps %%zmm17, %%zmm9, %%zmm9\n\t"                                                                               \
    "vaddps 576(%[tmp]), %%zmm9, %%zmm9\n\t"                                                                           \
    "vmovups %%zmm9, 576(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm10, %%zmm10\n\t"                                                                                   \
    "vmulps %%zmm18, %%zmm10, %%zmm10\n\t"                                                                             \
    "vaddps 640(%[tmp]), %%zmm10, %%zmm10\n\t"                                                                         \
    "vmovups %%zmm10, 640(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm11, %%zmm11\n\t"                                                                                   \
    "vmulps %%zmm19, %%zmm11, %%zmm11\n\t"                                                                             \
    "vaddps 704(%[tmp]), %%zmm11, %%zmm11\n\t"                                                                         \
    "vmovups %%zmm11, 704(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm12, %%zmm12\n\t"                                                                                   \
    "vmulps %%zmm16, %%zmm12, %%zmm12\n\t"                                                                             \
    "vaddps 768(%[tmp]), %%zmm12, %%zmm12\n\t"                                                                         \
    "vmovups %%zmm12, 768(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm13, %%zmm13\n\t"                                                                                   \
    "vmulps %%zmm17, %%zmm13, %%zmm13\n\t"                                                                             \
    "vaddps 832(%[tmp]), %%zmm13, %%zmm13\n\t"                                                                         \
    "vmovups %%zmm13, 832(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm14, %%zmm14\n\t"                                                                                   \
    "vmulps %%zmm18, %%zmm14, %%zmm14\n\t"                                                                             \
    "vaddps 896(%[tmp]), %%zmm14, %%zmm14\n\t"                                                                         \
    "vmovups %%zmm14, 896(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm15, %%zmm15\n\t"                                                                                   \
    "vmulps %%zmm19, %%zmm15, %%zmm15\n\t"                                                                             \
    "vaddps 960(%[tmp]), %%zmm15, %%zmm15\n\t"                                                                         \
    "vmovups %%zmm15, 960(%[tmp])\n\t"

#define QUAD_FMA                                                                                                       \
    "vbroadcastss 0(%[i]), %%zmm20\n\t"                                                                                \
    "vcvtdq2ps %%zmm0, %%zmm0\n\t"                                                                                     \
    "vmulps %%zmm16, %%zmm0, %%zmm0\n\t"                                                                               \
    "vfmadd213ps 0(%[tmp]), %%zmm20, %%zmm0\n\t"                                                                       \
    "vmovups %%zmm0, 0(%[tmp])\n\t"                                                                                    \
    "vcvtdq2ps %%zmm1, %%zmm1\n\t"                                                                                     \
    "vmulps %%zmm17, %%zmm1, %%zmm1\n\t"                                                                               \
    "vfmadd213ps 64(%[tmp]), %%zmm20, %%zmm1\n\t"                                                                      \
    "vmovups %%zmm1, 64(%[tmp])\n\t"                                                                                   \
    "vcvtdq2ps %%zmm2, %%zmm2\n\t"                                                                                     \
    "vmulps %%zmm18, %%zmm2, %%zmm2\n\t"                                                                               \
    "vfmadd213ps 128(%[tmp]), %%zmm20, %%zmm2\n\t"                                                                     \
    "vmovups %%zmm2, 128(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm3, %%zmm3\n\t"                                                                                     \
    "vmulps %%zmm19, %%zmm3, %%zmm3\n\t"                                                                               \
    "vfmadd213ps 192(%[tmp]), %%zmm20, %%zmm3\n\t"                                                                     \
    "vmovups %%zmm3, 192(%[tmp])\n\t"                                                                                  \
    "vbroadcastss 4(%[i]), %%zmm20\n\t"                                                                                \
    "vcvtdq2ps %%zmm4, %%zmm4\n\t"                                                                                     \
    "vmulps %%zmm16, %%zmm4, %%zmm4\n\t"                                                                               \
    "vfmadd213ps 256(%[tmp]), %%zmm20, %%zmm4\n\t"                                                                     \
    "vmovups %%zmm4, 256(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm5, %%zmm5\n\t"                                                                                     \
    "vmulps %%zmm17, %%zmm5, %%zmm5\n\t"                                                                               \
    "vfmadd213ps 320(%[tmp]), %%zmm20, %%zmm5\n\t"                                                                     \
    "vmovups %%zmm5, 320(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm6, %%zmm6\n\t"                                                                                     \
    "vmulps %%zmm18, %%zmm6, %%zmm6\n\t"                                                                               \
    "vfmadd213ps 384(%[tmp]), %%zmm20, %%zmm6\n\t"                                                                     \
    "vmovups %%zmm6, 384(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm7, %%zmm7\n\t"                                                                                     \
    "vmulps %%zmm19, %%zmm7, %%zmm7\n\t"                                                                               \
    "vfmadd213ps 448(%[tmp]), %%zmm20, %%zmm7\n\t"                                                                     \
    "vmovups %%zmm7, 448(%[tmp])\n\t"                                                                                  \
    "vbroadcastss 8(%[i]), %%zmm20\n\t"                                                                                \
    "vcvtdq2ps %%zmm8, %%zmm8\n\t"                                                                                     \
    "vmulps %%zmm16, %%zmm8, %%zmm8\n\t"                                                                               \
    "vfmadd213ps 512(%[tmp]), %%zmm20, %%zmm8\n\t"                                                                     \
    "vmovups %%zmm8, 512(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm9, %%zmm9\n\t"                                                                                     \
    "vmulps %%zmm17, %%zmm9, %%zmm9\n\t"                                                                               \
    "vfmadd213ps 576(%[tmp]), %%zmm20, %%zmm9\n\t"                                                                     \
    "vmovups %%zmm9, 576(%[tmp])\n\t"                                                                                  \
    "vcvtdq2ps %%zmm10, %%zmm10\n\t"                                                                                   \
    "vmulps %%zmm18, %%zmm10, %%zmm10\n\t"                                                                             \
    "vfmadd213ps 640(%[tmp]), %%zmm20, %%zmm10\n\t"                                                                    \
    "vmovups %%zmm10, 640(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm11, %%zmm11\n\t"                                                                                   \
    "vmulps %%zmm19, %%zmm11, %%zmm11\n\t"                                                                             \
    "vfmadd213ps 704(%[tmp]), %%zmm20, %%zmm11\n\t"                                                                    \
    "vmovups %%zmm11, 704(%[tmp])\n\t"                                                                                 \
    "vbroadcastss 12(%[i]), %%zmm20\n\t"                                                                               \
    "vcvtdq2ps %%zmm12, %%zmm12\n\t"                                                                                   \
    "vmulps %%zmm16, %%zmm12, %%zmm12\n\t"                                                                             \
    "vfmadd213ps 768(%[tmp]), %%zmm20, %%zmm12\n\t"                                                                    \
    "vmovups %%zmm12, 768(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm13, %%zmm13\n\t"                                                                                   \
    "vmulps %%zmm17, %%zmm13, %%zmm13\n\t"                                                                             \
    "vfmadd213ps 832(%[tmp]), %%zmm20, %%zmm13\n\t"                                                                    \
    "vmovups %%zmm13, 832(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm14, %%zmm14\n\t"                                                                                   \
    "vmulps %%zmm18, %%zmm14, %%zmm14\n\t"                                                                             \
    "vfmadd213ps 896(%[tmp]), %%zmm20, %%zmm14\n\t"                                                                    \
    "vmovups %%zmm14, 896(%[tmp])\n\t"                                                                                 \
    "vcvtdq2ps %%zmm15, %%zmm15\n\t"                                                                                   \
    "vmulps %%zmm19, %%zmm15, %%zmm15\n\t"                                                                             \
    "vfmadd213ps 960(%[tmp]), %%zmm20, %%zmm15\n\t"                                                                    \
    "vmovups %%zmm15, 960(%[tmp])\n\t"

#define QUAD_OPERANDS                                                                                                  \
    [a] "+&r"(a), [a3] "+&r"(a3), [i] "+&r"(i), [n] "+&r"(n),                                                          \
        [tmp] "+&r"(tmp)                                                                                               \
        : [w0] "r"(t->w[0]), [w1] "r"(t->w[1]), [w2] "r"(t->w[2]), [w3] "r"(t->w[3]), [stride] "r"(t->stride),         \
          [t] "r"(t), TILE_FIELD(sums), TILE_FIELD(init),                                                              \
          TILE_FIELD(f), [p_at] "i"(offsetof(vnni_tile, p)), [sx_at] "i"(offsetof(vnni_tile, sx))                      \
        : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",   \
          "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "cc",     \
          "memory"

/* f += sums * p over the one unit of a chunk. */
static inline void vnni_quad_scaled(const vnni_tile *t) {
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    size_t i = 0, n = t->blocks, tmp = 0;
    __asm__ volatile(QUAD_START QUAD_BLOCKS QUAD_SCALES QUAD_ADD : QUAD_OPERANDS);
}

/* f = fma(sums * p, sx of the row, f). */
static inline void vnni_quad_256(const vnni_tile *t) {
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    size_t i = 0, n = t->blocks, tmp = 0;
    __asm__ volatile(QUAD_START QUAD_BLOCKS QUAD_SCALES QUAD_FMA : QUAD_OPERANDS);
}

/* f += sums, in integers. */
static inline void vnni_quad_whole(const vnni_tile *t) {
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    size_t i = 0, n = t->blocks, tmp = 0;
    __asm__ volatile(QUAD_START_WHOLE QUAD_BLOCKS "mov %c[f](%[t]), %[tmp]\n\t" QUAD_STORE_WHOLE : QUAD_OPERANDS);
}

#endif
