/* A matrix of which codes are learned: every code stands for a number on the grid's line that gradients move.
 *
 *     latent u [rows, cols]   --round (grid.h)-->   codes, and what they decode to: the weight that a pass runs with
 *
 * Latents begin within the rounding cell of the code that a method chose, as near to the float weight as that allows,
 * so that the first rounding gives the planes back; gradients move them by parts of the grid's steps. Works on every
 * grid; scales stay. Rows are independent, results the same for any number of threads. */
#ifndef HT_QUANT_CALIBRATE_LATENT_H
#define HT_QUANT_CALIBRATE_LATENT_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/context.h>

#include "quant/grid/grid.h"

typedef struct ht_latent {
    ht_context *ctx;
    ht_grid grid;
    size_t units;       /* of a row */
    ht_grid_cell *cell; /* [rows, units, cells of a unit] */
    float *value;       /* [rows, cols] u */
    float *step;        /* [rows, cols] distance of neighbouring values of the grid, at the code it began with */
} ht_latent;

/* From planes of a format and the float weights [rows, cols]. hold_zeros: what decodes to 0 stays. Fails with MEMORY,
 * UNSUPPORTED (no grid). */
ht_status ht_latent_create(ht_context *ctx, const ht_format *format, const ht_row_options *how, const ht_planes *planes,
                           const float *weight, size_t rows, size_t cols, int hold_zeros, ht_latent *out);
void ht_latent_release(ht_latent *latent);
/* u -= rate * step * z, z = gradient * step over the root of its mean square in the matrix, held within -1 and 1; then
 * decoded [rows, cols]. Gradients are multiplied by `keep`: what the next pass adds to is their running sum. gradient
 * NULL: only round. Fails with MEMORY. */
ht_status ht_latent_step(ht_latent *latent, float rate, float keep, float *gradient, float *decoded);
/* Codes of the latents into planes. */
ht_status ht_latent_store(const ht_latent *latent, const ht_planes *planes);
/* Bytes that a matrix takes. */
size_t ht_latent_bytes(size_t rows, size_t cols);

#endif
