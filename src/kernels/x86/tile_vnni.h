/* The inner loop of 4 rows x 64 outputs in assembly: compilers move and spill the 16 accumulators, which costs a third
 * of the time.
 *
 *     zmm0..15   accumulator of row r and vector v is zmm(4 r + v)
 *     zmm16..19  weights of the step (afterwards scales)      zmm20..23  inputs of the step, one row each
 */
#ifndef HT_KERNELS_X86_TILE_VNNI_H
#define HT_KERNELS_X86_TILE_VNNI_H

#include <stddef.h>
#include <stdint.h>

/* All operands of one tile over one unit of k. */
typedef struct vnni_tile {
    const uint8_t *w[4];  /* 64 bytes a step each */
    const int8_t *a;      /* four rows, `stride` bytes apart */
    size_t stride, steps; /* steps: of 4 k, at least 1 */
    const int32_t *sums;  /* start of the accumulators: one number a row, 32 bytes apart ... */
    const int32_t *init;  /* ... or, with sums NULL, [4][4][16] */
    const float *p;       /* [4][16]: scales */
    const float *sx;      /* scales of the rows, 32 bytes apart; NULL: none */
    float *g;             /* [4][4][16] */
} vnni_tile;

#define TILE_ROW(x, a0, a1, a2, a3)                                                                                    \
    "vpdpbusd %%zmm" x ", %%zmm16, %%zmm" a0 "\n\t"                                                                    \
    "vpdpbusd %%zmm" x ", %%zmm17, %%zmm" a1 "\n\t"                                                                    \
    "vpdpbusd %%zmm" x ", %%zmm18, %%zmm" a2 "\n\t"                                                                    \
    "vpdpbusd %%zmm" x ", %%zmm19, %%zmm" a3 "\n\t"

#define TILE_STEP                                                                                                      \
    "vmovdqu64 (%[w0],%[i]), %%zmm16\n\t"                                                                              \
    "vpbroadcastd (%[a]), %%zmm20\n\t"                                                                                 \
    "vmovdqu64 (%[w1],%[i]), %%zmm17\n\t"                                                                              \
    "vmovdqu64 (%[w2],%[i]), %%zmm18\n\t"                                                                              \
    "vmovdqu64 (%[w3],%[i]), %%zmm19\n\t"                                                                              \
    "vpbroadcastd (%[a],%[stride]), %%zmm21\n\t"                                                                       \
    "vpbroadcastd (%[a],%[stride],2), %%zmm22\n\t"                                                                     \
    "vpbroadcastd (%[a3]), %%zmm23\n\t"                                                                                \
    "add $64, %[i]\n\t"                                                                                                \
    "add $4, %[a]\n\t"                                                                                                 \
    "add $4, %[a3]\n\t" TILE_ROW("20", "0", "1", "2", "3") TILE_ROW("21", "4", "5", "6", "7")                          \
        TILE_ROW("22", "8", "9", "10", "11") TILE_ROW("23", "12", "13", "14", "15")

/* One number in the four accumulators of a row. */
#define TILE_START(r, a0, a1, a2, a3)                                                                                  \
    "vpbroadcastd 32*" r "(%[i]), %%zmm" a0 "\n\t"                                                                     \
    "vmovdqa64 %%zmm" a0 ", %%zmm" a1 "\n\t"                                                                           \
    "vmovdqa64 %%zmm" a0 ", %%zmm" a2 "\n\t"                                                                           \
    "vmovdqa64 %%zmm" a0 ", %%zmm" a3 "\n\t"

#define TILE_LOAD(r, a0, a1, a2, a3)                                                                                   \
    "vmovdqu64 256*" r "(%[i]), %%zmm" a0 "\n\t"                                                                       \
    "vmovdqu64 256*" r "+64(%[i]), %%zmm" a1 "\n\t"                                                                    \
    "vmovdqu64 256*" r "+128(%[i]), %%zmm" a2 "\n\t"                                                                   \
    "vmovdqu64 256*" r "+192(%[i]), %%zmm" a3 "\n\t"

#define TILE_STORE(r, a0, a1, a2, a3)                                                                                  \
    "vmovdqu64 %%zmm" a0 ", 256*" r "(%[w0])\n\t"                                                                      \
    "vmovdqu64 %%zmm" a1 ", 256*" r "+64(%[w0])\n\t"                                                                   \
    "vmovdqu64 %%zmm" a2 ", 256*" r "+128(%[w0])\n\t"                                                                  \
    "vmovdqu64 %%zmm" a3 ", 256*" r "+192(%[w0])\n\t"

#define TILE_ROWS(piece)                                                                                               \
    piece("0", "0", "1", "2", "3") piece("1", "4", "5", "6", "7") piece("2", "8", "9", "10", "11")                     \
        piece("3", "12", "13", "14", "15")

/* g = fma((float)acc, p, g) with the scales in four given registers. */
#define TILE_SCALE(r, a, p, at)                                                                                        \
    "vcvtdq2ps %%zmm" a ", %%zmm" a "\n\t"                                                                             \
    "vfmadd213ps 256*" r "+" at "(%[w0]), %%zmm" p ", %%zmm" a "\n\t"                                                  \
    "vmovups %%zmm" a ", 256*" r "+" at "(%[w0])\n\t"

#define TILE_SCALE_ROW(r, a0, a1, a2, a3)                                                                              \
    TILE_SCALE(r, a0, "16", "0")                                                                                       \
    TILE_SCALE(r, a1, "17", "64") TILE_SCALE(r, a2, "18", "128") TILE_SCALE(r, a3, "19", "192")

#define TILE_SCALE_BLOCK(r, a0, a1, a2, a3)                                                                            \
    "vmulps 32*" r "(%[w1])%{1to16%}, %%zmm16, %%zmm20\n\t"                                                            \
    "vmulps 32*" r "(%[w1])%{1to16%}, %%zmm17, %%zmm21\n\t"                                                            \
    "vmulps 32*" r "(%[w1])%{1to16%}, %%zmm18, %%zmm22\n\t"                                                            \
    "vmulps 32*" r "(%[w1])%{1to16%}, %%zmm19, %%zmm23\n\t" TILE_SCALE(r, a0, "20", "0") TILE_SCALE(r, a1, "21", "64") \
        TILE_SCALE(r, a2, "22", "128") TILE_SCALE(r, a3, "23", "192")

#define TILE_SUMS                                                                                                      \
    "mov %c[sums](%[t]), %[i]\n\t"                                                                                     \
    "test %[i], %[i]\n\t"                                                                                              \
    "jz 1f\n\t" TILE_ROWS(TILE_START) "jmp 2f\n\t"                                                                     \
                                      "1:\n\t"                                                                         \
                                      "mov %c[init](%[t]), %[i]\n\t" TILE_ROWS(TILE_LOAD) "2:\n\t"                     \
                                                                                          "xor %k[i], %k[i]\n\t"       \
                                                                                          ".p2align 5\n\t"             \
                                                                                          "3:\n\t" TILE_STEP           \
                                                                                          "dec %[steps]\n\t"           \
                                                                                          "jnz 3b\n\t"                 \
                                                                                          "mov %c[g](%[t]), %[w0]\n\t"

#define TILE_SCALES                                                                                                    \
    "mov %c[p](%[t]), %[i]\n\t"                                                                                        \
    "mov %c[sx](%[t]), %[w1]\n\t"                                                                                      \
    "vmovups (%[i]), %%zmm16\n\t"                                                                                      \
    "vmovups 64(%[i]), %%zmm17\n\t"                                                                                    \
    "vmovups 128(%[i]), %%zmm18\n\t"                                                                                   \
    "vmovups 192(%[i]), %%zmm19\n\t"

#define TILE_CLOBBERS                                                                                                  \
    "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",         \
        "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "cc",       \
        "memory"

#define TILE_FIELDS                                                                                                    \
    [sums] "i"(offsetof(vnni_tile, sums)), [init] "i"(offsetof(vnni_tile, init)), [p] "i"(offsetof(vnni_tile, p)),     \
        [sx] "i"(offsetof(vnni_tile, sx)), [g] "i"(offsetof(vnni_tile, g))

/* g = the sums, as integers. */
static inline void vnni_tile_sums(const vnni_tile *t) {
    const uint8_t *w0 = t->w[0], *w1 = t->w[1], *w2 = t->w[2], *w3 = t->w[3];
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    size_t steps = t->steps, i = 0;
    __asm__ volatile(TILE_SUMS TILE_ROWS(TILE_STORE)
                     : [a] "+r"(a), [a3] "+r"(a3), [steps] "+r"(steps), [i] "+&r"(i), [w0] "+r"(w0), [w1] "+r"(w1),
                       [w2] "+r"(w2), [w3] "+r"(w3)
                     : [stride] "r"(t->stride), [t] "r"(t), TILE_FIELDS
                     : TILE_CLOBBERS);
}

/* g = fma((float)sums, p, g). */
static inline void vnni_tile_scaled(const vnni_tile *t) {
    const uint8_t *w0 = t->w[0], *w1 = t->w[1], *w2 = t->w[2], *w3 = t->w[3];
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    size_t steps = t->steps, i = 0;
    __asm__ volatile(TILE_SUMS TILE_SCALES TILE_ROWS(TILE_SCALE_ROW)
                     : [a] "+r"(a), [a3] "+r"(a3), [steps] "+r"(steps), [i] "+&r"(i), [w0] "+r"(w0), [w1] "+r"(w1),
                       [w2] "+r"(w2), [w3] "+r"(w3)
                     : [stride] "r"(t->stride), [t] "r"(t), TILE_FIELDS
                     : TILE_CLOBBERS);
}

/* g = fma((float)sums, p * sx, g). */
static inline void vnni_tile_block(const vnni_tile *t) {
    const uint8_t *w0 = t->w[0], *w1 = t->w[1], *w2 = t->w[2], *w3 = t->w[3];
    const int8_t *a = t->a, *a3 = t->a + 3 * t->stride;
    size_t steps = t->steps, i = 0;
    __asm__ volatile(TILE_SUMS TILE_SCALES TILE_ROWS(TILE_SCALE_BLOCK)
                     : [a] "+r"(a), [a3] "+r"(a3), [steps] "+r"(steps), [i] "+&r"(i), [w0] "+r"(w0), [w1] "+r"(w1),
                       [w2] "+r"(w2), [w3] "+r"(w3)
                     : [stride] "r"(t->stride), [t] "r"(t), TILE_FIELDS
                     : TILE_CLOBBERS);
}

#endif
