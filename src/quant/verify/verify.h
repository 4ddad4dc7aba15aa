/* Verifying, from the inside: the object that collects findings, and the checks of each file. */
#ifndef HT_QUANT_VERIFY_VERIFY_H
#define HT_QUANT_VERIFY_VERIFY_H

#include <stddef.h>

#include <halftone/quant.h>

#include <jansson.h>

#include "base/memory.h"
#include "quant/classify.h"

/* What a check looked at and found. The first problem is kept, the others are counted. */
typedef struct ht_finding {
    size_t looked, problems;
    char first[512];
} ht_finding;

void ht_find(ht_finding *finding, const char *format, ...) HT_PRINTF(2, 3);

typedef struct ht_verify_run {
    ht_context *ctx;
    ht_verification *result;
    const ht_checkpoint *checkpoint;
    const ht_checkpoint *against; /* NULL: no original given */
    const char *against_path;
    json_t *config;  /* config.json; NULL when there is none */
    json_t *quant;   /* its quantization_config, borrowed; NULL when there is none */
    ht_class *class; /* by parameter */
    int searched;    /* scales were searched (scale_rule mse): they may clip */
    int edited;      /* some group's method edits the whole model first (ht_verify_edits) */
} ht_verify_run;

/* Close a check: detail says "<looked> <what>" or the first problem and how many more there are. */
ht_status ht_verify_add(ht_verify_run *v, const char *name, const ht_finding *finding, const char *what);

/* verify_config.c: does the config say what the tensors are? */
ht_status ht_verify_config(ht_verify_run *v);
/* verify_weights.c: scales, decoded values, round trip, and the error against the original. */
ht_status ht_verify_weights(ht_verify_run *v);
/* verify_readers.c: the rules of "vllm", "transformers", "llama.cpp". Fails with ARGUMENT for another reader. */
ht_status ht_verify_reader(ht_verify_run *v, const char *reader);
ht_status ht_reader_check_name(const char *reader);

/* The config group that means this module, by exact name, then by pattern, then by class; NULL if none. `name` is the
 * parameter's. In *targeted: the ignore list names it. Fails with CORRUPT (a broken pattern). */
ht_status ht_verify_group(const ht_verify_run *v, const char *name, int is_linear, const char **group, json_t **value,
                          int *ignored);

/* Does a recorded method (NULL: none) edit float weights before it quantizes, other tensors' too: smooth, awq, rotate?
 * What comes of it computes the same and compares with nothing. */
int ht_verify_edits(const char *method);

/* A matrix that readers build as a linear layer. */
int ht_verify_is_linear(const ht_verify_run *v, size_t index);

#endif
