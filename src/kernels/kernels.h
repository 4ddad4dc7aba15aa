/* The kernels: single-threaded inner loops on pointers and strides, and the table that says which of them runs.
 *
 * A kernel never allocates, fails or starts threads; ops/ has refused before what a kernel cannot do. All of them keep
 * one rule, and by it results depend on neither threads, batch nor instruction set:
 *
 *   every output value is computed from its own inputs in an order that is fixed by the shape of ONE row:
 *   sums over k run in 8 lanes (lane = k mod 8, increasing k, multiply then add, no fused multiply-add), folded as
 *   ((0+4)+(2+6)) + ((1+5)+(3+7)); sums over positions run one by one.
 *
 * Vector variants keep that order (8 lanes are two SSE or NEON registers, one AVX register), so all rows of one
 * operation give the same bits. A row that does not says so in its name's comment and is compared with a bound. Source:
 * cpu-kernels specification, sections 1.7 (table as data, reference always there), 5.4 (determinism). */
#ifndef HT_KERNELS_KERNELS_H
#define HT_KERNELS_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/format.h>

#include "kernels/attention.h"
#include "kernels/cast.h"
#include "kernels/dense.h"
#include "kernels/dot.h"
#include "kernels/floats.h"
#include "kernels/matmul.h"
#include "kernels/probe.h"
#include "kernels/product.h"
#include "kernels/rows.h"
#include "kernels/turn.h"

/* X(enumerator tail, text name). */
#define HT_OPERATION_LIST(X)                                                                                           \
    X(DECODE, "decode")                                                                                                \
    X(DOT, "dot")                                                                                                      \
    X(MIX, "mix")                                                                                                      \
    X(MATMUL, "matmul")                                                                                                \
    X(FLOATS, "floats")                                                                                                \
    X(PRODUCT, "product")                                                                                              \
    X(QUANTIZE_ROWS, "quantize_rows")                                                                                  \
    X(PROBE, "probe")                                                                                                  \
    X(ATTENTION, "attention")                                                                                          \
    X(RMSNORM, "rmsnorm")                                                                                              \
    X(ROPE, "rope")                                                                                                    \
    X(GATE, "gate")                                                                                                    \
    X(SOFTMAX, "softmax")                                                                                              \
    X(SOFTCAP, "softcap")                                                                                              \
    X(HADAMARD, "hadamard")                                                                                            \
    X(DENSE, "dense")                                                                                                  \
    X(SPARSE, "sparse")                                                                                                \
    X(SPREAD, "spread")                                                                                                \
    X(CAST, "cast")                                                                                                    \
    X(UNCAST, "uncast")                                                                                                \
    X(TURN, "turn")                                                                                                    \
    X(TALLY, "tally")                                                                                                  \
    X(RANGE, "range")

typedef enum ht_operation {
#define HT_OPERATION_ENUMERATOR(name, text) HT_OPERATION_##name,
    HT_OPERATION_LIST(HT_OPERATION_ENUMERATOR)
#undef HT_OPERATION_ENUMERATOR
        HT_OPERATION_COUNT
} ht_operation;

typedef union ht_kernel_fn {
    ht_decode_fn *decode;
    ht_dot_fn *dot;
    ht_mix_fn *mix;
    ht_matmul_fn *matmul;
    ht_product_fn *product;
    ht_quantize_rows_fn *quantize_rows;
    ht_probe_fn *probe;
    ht_attention_fn *attention;
    ht_rmsnorm_fn *rmsnorm;
    ht_rope_fn *rope;
    ht_gate_fn *gate;
    ht_softmax_fn *softmax;
    ht_softcap_fn *softcap;
    ht_hadamard_fn *hadamard;
    ht_dense_fn *dense;
    ht_sparse_fn *sparse;
    ht_spread_fn *spread;
    ht_quantize_fn *cast;
    ht_dequantize_fn *uncast;
    ht_turn_fn *turn;
    ht_tally_fn *tally;
    ht_range_fn *range;
} ht_kernel_fn;

typedef struct ht_kernel_row {
    ht_operation operation;
    const char *name;    /* unique within the operation; NULL ends a table */
    const char *formats; /* for people; `accepts` decides. NULL: the operation does not depend on a format */
    int (*accepts)(const ht_weight *weight); /* NULL: every weight */
    int (*takes)(const ht_packed *packed);   /* the same for packed weights */
    int (*casts)(const ht_cast *cast);       /* the same for casts */
    int (*uncasts)(const ht_uncast *uncast); /* and for casts back */
    uint32_t needs;                          /* HT_CPU_* flags */
    size_t smallest_m, largest_m;            /* rows of x that this row is meant for; 0: no bound */
    ht_kernel_fn fn;
} ht_kernel_row;

/* Rows of this processor family, best first (x86/table.c, or ref/no_arch.c elsewhere), then the references. */
extern const ht_kernel_row ht_kernel_rows_arch[], ht_kernel_rows_ref[];

/* First row that may run: right operation, features present, weight accepted (NULL: rows that accept every weight),
 * m at least the smallest. The reference row makes sure that there is one. */
const ht_kernel_row *ht_kernel_choose(ht_operation operation, uint32_t cpu_flags, const ht_weight *weight, size_t m);

/* The same for an operation on packed weights. */
const ht_kernel_row *ht_kernel_choose_packed(ht_operation operation, uint32_t cpu_flags, const ht_packed *packed,
                                             size_t m);

/* The same for a cast, and for a cast back. */
const ht_kernel_row *ht_kernel_choose_cast(uint32_t cpu_flags, const ht_cast *cast);
const ht_kernel_row *ht_kernel_choose_uncast(uint32_t cpu_flags, const ht_uncast *uncast);

/* The choices that do not depend on a weight or cast. decode, matmul, floats, product, cast and uncast stay empty. */
typedef struct ht_kernels {
    ht_kernel_fn of[HT_OPERATION_COUNT];
} ht_kernels;
ht_kernels ht_kernels_choose(uint32_t cpu_flags);

#endif
