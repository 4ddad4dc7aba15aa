/* The orthonormal Hadamard transform: y = H x / sqrt(n), for the row lengths that models have. */
#ifndef HT_FORMAT_HADAMARD_H
#define HT_FORMAT_HADAMARD_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#define HT_HADAMARD_MAX_ORDER 172

/* H = T (Kronecker) W: a table T of a small order times the Walsh-Hadamard matrix W of a power of two (natural order).
 */
typedef struct ht_hadamard {
    size_t n;
    unsigned order;                                            /* of T; 1: none, n is a power of two */
    int8_t sign[HT_HADAMARD_MAX_ORDER][HT_HADAMARD_MAX_ORDER]; /* T, +1 and -1; rows and columns below `order` */
} ht_hadamard;

/* Whether there is a transform of length n: n = 2^k, or 2^k times 12 20 28 36 40 44 52 60 108 140 156 172. */
int ht_hadamard_exists(size_t n);

/* Fails with SHAPE, naming the next smaller and larger lengths. */
ht_status ht_hadamard_init(ht_hadamard *h, size_t n);

/* Transform each of `rows` rows of n values in place: x H^T / sqrt(n); transposed: x H / sqrt(n), which undoes it.
 * Sums are f32 for the power of two and double for T. No scratch, deterministic. NaN and Inf spread over their row. */
void ht_hadamard_apply(const ht_hadamard *h, float *x, size_t rows, int transposed);

#endif
