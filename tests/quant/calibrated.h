/* What the tests of calibrated runs share: tiny models that have a tokenizer, runs with everything set, comparisons. */
#ifndef HT_TESTS_QUANT_CALIBRATED_H
#define HT_TESTS_QUANT_CALIBRATED_H

#include <stddef.h>

#include <halftone/quant.h>

enum { CALIBRATED_COVERAGE = 4096 };

/* A run: how it is to be done, and what of the context. */
typedef struct calibrated {
    ht_quantize_options options;
    size_t threads, memory_limit;
    const char *cpu;
    size_t *spilled; /* NULL, or takes the bytes of hidden rows that went to a file */
    char *coverage;  /* NULL, or takes the tokens of all experts in words, CALIBRATED_COVERAGE characters at most */
    ht_cancelled_fn *cancelled;
    void *user;
} calibrated;

/* Scheme and method; the first text of the test data, `samples` windows of `length` tokens. */
calibrated calibrated_run(const char *scheme, const char *method, size_t samples, size_t length);
/* In a context of its own. plan may be NULL; otherwise it is filled with copies of the plan's rows, `count` of them,
 * texts included, to be freed with free. */
ht_status calibrated_quantize(const calibrated *run, const char *input, const char *output, ht_plan_tensor **rows,
                              size_t *count);
/* tests/data/tiny/<family> with a tokenizer that knows bytes, in a fresh directory. */
const char *calibrated_family(const char *family);
/* A random mixture of experts of several layers with the same tokenizer. */
const char *calibrated_deep(void);
/* Are the files of two directories equal, by names and bytes? */
int calibrated_same(const char *a, const char *b);
void calibrated_remove(const char *path);

extern const char *const calibrated_families[]; /* NULL last */

#endif
