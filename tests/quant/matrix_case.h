/* Problems of one matrix for the tests of methods: random weights, inputs with a common part and uneven features. */
#ifndef HT_TESTS_MATRIX_CASE_H
#define HT_TESTS_MATRIX_CASE_H

#include <halftone/context.h>

#include "quant/method/matrix.h"
#include "support/golden.h"

typedef struct matrix_case {
    ht_context *ctx;
    ht_format format;
    ht_row_options how;
    ht_settings settings;
    ht_moments input, held_out;
    ht_matrix_problem problem;
    ht_matrix_result result; /* room for the format's planes */
    float *weight;
    size_t tokens;
} matrix_case;

/* Everything made from the seed; the settings are those of `method`. */
void matrix_case_create(matrix_case *c, const char *format, const char *method, size_t rows, size_t cols, size_t tokens,
                        size_t threads, uint64_t seed);
void matrix_case_destroy(matrix_case *c);
/* Statistics of inputs written out: x [tokens, cols], x_float NULL or likewise. Replaces what was there. */
void matrix_case_inputs(ht_moments *moments, const float *x, const float *x_float, size_t tokens, size_t cols);
/* Inputs of a seed: [tokens, cols], to be freed. */
float *matrix_case_text(size_t tokens, size_t cols, uint64_t seed);
/* Weight and statistics of the stored case (tensors W, H) into a case of its shape. */
void matrix_case_stored(matrix_case *c, const golden *g);
/* GPTQ with this order and these scales; must succeed. */
void matrix_case_gptq(matrix_case *c, int order, int scales);
/* Values that differ by more than the tolerance. */
size_t matrix_case_different(const float *a, const float *b, size_t count, float tolerance);

/* Formats that have a grid: at least one of each kind. */
enum { MATRIX_CASE_GRIDS = 31 };
extern const char *const matrix_case_grids[MATRIX_CASE_GRIDS];

#endif
