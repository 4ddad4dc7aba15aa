/* One matrix as a calibrated method sees it: weights in, codes and a report out.
 *
 *     weight [rows, cols] f32 ---.
 *     moments of its inputs ------+--> method --> planes (codes, scales), decoded [rows, cols], report
 *     settings, format -----------'
 *
 * A method is a pure function of its problem: same bits for any thread count, instruction set and call order; it never
 * changes the problem, so that another method can be tried on the same one. Threads are the context's (rows are
 * independent in all of them). Losses are those of algorithms specification section 1.2 (D8):
 *
 *     loss(Q) = sum over rows of (w - q) H (w - q)^T,  H = sum x x^T / tokens     (output error per token, summed)
 */
#ifndef HT_QUANT_METHOD_MATRIX_H
#define HT_QUANT_METHOD_MATRIX_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>
#include <halftone/format.h>

#include "quant/calibrate/curvature.h"
#include "quant/calibrate/moments.h"
#include "quant/recipe/settings.h"

typedef struct ht_matrix_problem {
    ht_context *ctx;
    const ht_format *format;
    const ht_row_options *how; /* scale rules of the encoder, from the recipe */
    const ht_settings *settings;
    const float *weight; /* [rows, cols] */
    size_t rows, cols;
    const ht_moments *input;            /* finished; NULL: nothing is known about the inputs */
    const ht_moments *held_out;         /* of other text, to judge by; NULL: none */
    const ht_output_curvature *outputs; /* what the model minds; NULL: all outputs count the same, each alone */
} ht_matrix_problem;

/* What becomes of it. The caller provides planes and decoded; planes.plane[HT_PLANE_GLOBAL] is READ where the format
 * has one (a number that fused matrices share). */
typedef struct ht_matrix_result {
    ht_planes planes;
    float *decoded;                                    /* [rows, cols]: what the planes decode to, bit for bit */
    double loss;                                       /* of the codes chosen, on `input`; NaN without it */
    double rtn_loss, held_out_loss, held_out_rtn_loss; /* NaN where not known */
    double damping;       /* lambda that was used, relative to the mean of diag H; 0: none */
    size_t dead_columns;  /* inputs that were never anything but zero */
    size_t saturated;     /* block scales at the end of their range */
    const char *fallback; /* static text: what replaced the method and why; NULL: nothing did */
} ht_matrix_result;

/* Fails with MEMORY, NUMERIC (weights or moments not finite; names the row or column), CANCELLED. A Hessian that cannot
 * be factorized is no failure: the method falls back and says so. */
typedef ht_status ht_matrix_fn(const ht_matrix_problem *problem, ht_matrix_result *result);

/* loss of `decoded` (another rounding of problem->weight) under the moments; f64 sums in one order. */
double ht_matrix_loss(const ht_matrix_problem *problem, const ht_moments *moments, const float *decoded);

/* Bytes that this takes, for a matrix of this size. */
size_t ht_matrix_loss_bytes(size_t rows, size_t cols);

/* How much each input counts, near 1 so that inputs may have any scale: its mean square over the mean of all; one that
 * was always zero keeps a little, so that its weights stay weights. *out [cols], to be released; NULL: nothing is
 * known. Fails with MEMORY, NUMERIC. */
ht_status ht_matrix_importance(ht_context *ctx, const ht_moments *input, float **out);

/* Round to nearest, pruned first (prune.h) where the settings ask for it, and mark the result as a fallback with this
 * reason (NULL: none). Tables that are stored with the matrix (lut) are fitted to weights whose columns count by
 * importance. */
ht_status ht_matrix_round(const ht_matrix_problem *problem, const char *reason, ht_matrix_result *result);

#endif
