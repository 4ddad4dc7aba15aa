/* Mixed precision under a budget: how much each linear suffers from each scheme, and the recipe that spends a number of
 * bytes best.
 *
 *     ht_search_options options = ht_search_options_default();
 *     options.target_bits = 4.5;
 *     options.calibration.data = "calib.txt";
 *     ht_search_run(ctx, "models/novel-7m", &options, &search);
 *     ht_search_write(search, "recipe.yaml");           then: halftone quantize --recipe recipe.yaml --data calib.txt
 */
#ifndef HT_SEARCH_H
#define HT_SEARCH_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/quant.h>
#include <halftone/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What is measured of a linear under a scheme (docs/search.md). */
typedef enum ht_sensitivity {
    HT_SENSITIVITY_HESSIAN,  /* error of its outputs, tr(E H E^T) with E = W - Q, relative to tr(W H W^T), times the
                                share of the rows behind its layer that the layer adds */
    HT_SENSITIVITY_DIAGONAL, /* the same with the diagonal of H alone: memory O(columns), rounding only */
    HT_SENSITIVITY_KL        /* HESSIAN, scaled by what one exchange does to the model's output */
} ht_sensitivity;

typedef struct ht_search_options {
    double target_bits;    /* bits per weight of the linears that are searched: codes, scales, zero points and what else
                              decodes them; one of the two targets */
    uint64_t target_bytes; /* of the whole output: every file of its directory */
    const char *const
        *candidates;        /* schemes, and "keep" for the stored dtype; NULL last; NULL: the profile's defaults */
    const char *method;     /* of the recipe; NULL: "gptq" */
    const char *const *set; /* its options, "name=value", NULL last; NULL: {"scale_dtype=bf16"} */
    const char *profile;    /* NULL: "compressed-tensors" */
    ht_calibration_options calibration; /* written into the recipe, too */
    ht_sensitivity sensitivity;
    int rounding;     /* errors are those of rounding to nearest, not of the method: faster */
    size_t exchanges; /* KL: windows after those of the calibration that it is measured on; 0: 16 */
    int mixed_groups; /* members of fused groups (q/k/v; gate/up; the experts of a layer) may differ: only for readers
                         that do not run them as one matrix */
    const char *scratch; /* directory for hidden rows that do not fit the memory limit; NULL: "." */
} ht_search_options;
HT_API ht_search_options ht_search_options_default(void);

typedef struct ht_search ht_search;

/* Measure, choose. Fails with ARGUMENT: no target or two, a target below the smallest choice or above the largest (both
 * are named), an unknown scheme or method, a text that is too short; UNSUPPORTED: a candidate that no linear can have,
 * a model that cannot be run; NUMERIC: weights that are not finite; CANCELLED; MEMORY. Same result for any number of
 * threads and any memory limit. */
HT_API ht_status ht_search_run(ht_context *ctx, const char *model, const ht_search_options *options, ht_search **out);
HT_API void ht_search_close(ht_search *search); /* NULL is allowed */

/* A scheme that was offered. */
typedef struct ht_search_candidate {
    const char *scheme; /* canonical; "keep" */
    double bits;        /* per weight when every unit has it; NaN when one cannot */
    double loss;        /* then predicted */
    uint64_t weights;   /* that have it in the end */
} ht_search_candidate;
HT_API const ht_search_candidate *ht_search_candidate_at(const ht_search *search, size_t index); /* NULL past the end */

/* A unit of choice: a linear, or linears that must agree. */
typedef struct ht_search_measure {
    uint64_t bytes;
    double error; /* relative error of the outputs; NaN: cannot be had */
    double loss;  /* predicted */
} ht_search_measure;
typedef struct ht_search_unit {
    const char *name; /* of the tensor or the group */
    size_t tensors;
    uint64_t weights;
    double slope;                     /* loss per relative error */
    size_t chosen;                    /* candidate */
    const ht_search_measure *measure; /* by candidate */
} ht_search_unit;
HT_API const ht_search_unit *ht_search_unit_at(const ht_search *search, size_t index); /* NULL past the end */
HT_API const char *ht_search_unit_tensor(const ht_search *search, size_t unit, size_t index);

/* What more or less would buy: the best choice at other budgets, by rising bits. */
typedef struct ht_search_point {
    double bits;
    uint64_t bytes; /* of the searched linears, as linear_bytes */
    double loss;
} ht_search_point;
HT_API const ht_search_point *ht_search_point_at(const ht_search *search, size_t index); /* NULL past the end */

typedef struct ht_search_summary {
    size_t tensors;        /* searched */
    uint64_t weights;      /* in them */
    uint64_t linear_bytes; /* of their codes, scales, zero points, ... */
    double bits;           /* 8 * linear_bytes / weights */
    uint64_t bytes;        /* of the output's tensors, as `plan` counts */
    uint64_t output_bytes; /* of its directory: headers, config and other files, too */
    double loss;           /* predicted; KL: nats per token */
    double bound;          /* no choice of these offers has less; equal to loss when it is known to be the least */
    size_t uniform;        /* the candidate with the least loss within the budget, for all; SIZE_MAX: none fits */
    size_t reference;      /* KL: the candidate that was exchanged; SIZE_MAX */
    size_t samples, length, exchanges;
    double seconds;
} ht_search_summary;
HT_API ht_search_summary ht_search_summarize(const ht_search *search);

/* The recipe: YAML, good until the search is closed; or into a file, complete or not at all. */
HT_API const char *ht_search_recipe(const ht_search *search);
HT_API ht_status ht_search_write(const ht_search *search, const char *path);

#ifdef __cplusplus
}
#endif
#endif
