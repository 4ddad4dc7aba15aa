/* The kernel checker: every row of the kernel tables against the reference, and the same rows timed (kernel_check
 * bench).
 */
#ifndef HT_TESTS_KERNEL_CHECK_H
#define HT_TESTS_KERNEL_CHECK_H

#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* Memory that ends (or begins) at a page that may not be touched. */
typedef struct guarded {
    char *map, *data;
    size_t map_bytes;
} guarded;
guarded guard_allocate(size_t bytes, int at_begin);
void guard_free(guarded *g);

/* A packed weight of random codes. `wild`: scales over the whole range of their type. */
typedef struct subject {
    ht_weight weight;
    ht_packed packed;
    uint8_t *panels;
} subject;
int subject_make(const char *format, size_t rows, size_t cols, uint64_t seed, int wild, subject *out);
void subject_free(subject *s);

extern uint32_t kernel_check_flags; /* CPU features that may be used */

void check_products(void);
void check_floats(void);
void bench_floats(int count, char **words);
void bench_products(int count, char **words);
void bench_rows(void);

#endif
