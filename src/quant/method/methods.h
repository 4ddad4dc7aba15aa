/* Methods: how codes and scales are chosen. A row of the table in methods.c each.
 *
 * Methods have stages, and a rule may name one of each, joined by '+' ("rotate+smooth+hadamard+gptq+autoround"): a
 * rotation, scales of inputs, a transform of inputs when the model runs, what rounds, and what refines the codes of a
 * whole block afterwards. All before the rounding change the float model without changing what it computes
 * (transform.h); a rounding method turns one matrix into codes: row by row without data, or as a whole with what is
 * known about its inputs (matrix.h). */
#ifndef HT_QUANT_METHOD_METHODS_H
#define HT_QUANT_METHOD_METHODS_H

#include <stddef.h>

#include <halftone/format.h>
#include <halftone/recipe.h>

#include "ops/cast.h"
#include "quant/method/matrix.h"
#include "quant/recipe/settings.h"

/* Rows of one matrix, quantized alone. Contract of ht_format_quantize; settings are the method's, resolved. */
typedef ht_status ht_rows_fn(const ht_format *format, const ht_row_options *options, const ht_settings *settings,
                             const void *x, ht_dtype x_dtype, size_t rows, size_t cols, const ht_planes *out);
/* The same for methods without settings, decoding on the way where the cast asks for it. Contract of ht_cast_rows. */
typedef ht_status ht_cast_fn(const ht_context *ctx, const ht_cast *cast);

typedef enum ht_stage {
    HT_STAGE_REFINE,
    HT_STAGE_ROUND,
    HT_STAGE_INPUTS,
    HT_STAGE_SCALE,
    HT_STAGE_ROTATE,
    HT_STAGE_COUNT
} ht_stage;

struct ht_scaling_problem;

typedef struct ht_method {
    ht_list_item item;
    ht_stage stage;
    int needs_data;                                /* calibration text */
    ht_status (*accepts)(const ht_scheme *scheme); /* HT_OK, or why this scheme cannot be had; NULL: takes all */
    /* HT_OK, or why these settings do not go with the scheme; NULL: all do. */
    ht_status (*fits)(const ht_scheme *scheme, const ht_settings *settings);
    ht_rows_fn *quantize_rows; /* for methods that see rows one by one */
    ht_cast_fn *cast_rows;     /* instead of it, where decoding on the way is cheaper */
    ht_matrix_fn *matrix;      /* for methods that see a whole matrix and what goes into it */
    /* Most bytes that `matrix` allocates; NULL: those of ht_matrix_loss. */
    size_t (*bytes)(const ht_format *format, const ht_settings *settings, size_t rows, size_t cols, size_t threads);
    /* What `matrix` wants to know of the inputs, of ht_moment, under these settings; NULL: nothing. */
    unsigned (*moments)(const ht_settings *settings);
    ht_status (*scales)(const struct ht_scaling_problem *problem, float *scale); /* stage SCALE: scaling.h */
    int rotates;                                                                 /* stage ROTATE */
    int mixes;                                                                   /* stage INPUTS: input_blocks.h */
} ht_method;

/* Most bytes that the work on a matrix allocates beside its weights, decoded weights and planes: the method's own, or
 * those of the loss that is reported. */
size_t ht_method_matrix_bytes(const ht_method *method, const ht_format *format, const ht_settings *settings,
                              size_t rows, size_t cols, size_t threads);

/* Methods of a rule, by stage; the rounding one is always there. Stages are done from the last to the first. */
typedef struct ht_chain {
    char name[64];      /* canonical: "smooth+gptq", "rtn" */
    const char *preset; /* "best": the scheme decides (presets.h), no stage is known yet; else NULL */
    const ht_method *stage[HT_STAGE_COUNT];
} ht_chain;

/* Read "rotate+smooth+gptq"; without a rounding method it is rtn. Fails with ARGUMENT: unknown names, two methods of a
 * stage, a later stage named before an earlier one. */
ht_status ht_chain_parse(const char *text, ht_chain *out);
int ht_chain_has(const ht_chain *chain, const ht_method *method);
int ht_chain_needs_data(const ht_chain *chain);
/* HT_OK when every method of the chain takes the scheme. */
ht_status ht_chain_accepts(const ht_chain *chain, const ht_scheme *scheme);

/* HT_OK when the methods take the scheme under these settings, resolved. */
ht_status ht_chain_fits(const ht_chain *chain, const ht_scheme *scheme, const ht_settings *settings);

/* The row of that name, case ignored. Fails with ARGUMENT, naming the nearest. */
ht_status ht_method_find(const char *name, const ht_method **out);

#endif
