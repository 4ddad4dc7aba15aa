/* How much the model's predictions mind an error in the outputs of its linears, and how errors of several outputs act
 * together: G = mean over tokens of g g^T, g the gradient of -log p(token drawn from the model) in the outputs.
 *
 * With H = mean x x^T of the inputs, tr(G d H d^T) is what an error d of the weight does to the KL divergence from the
 * float model, to second order and as if g and x were independent. G is kept in bands of at most HT_CURVATURE_BAND
 * rows; between bands it counts as zero. Source: Martens and Grosse, arXiv:1503.05671 (the factors); Tseng et al.,
 * arXiv:2505.22988 (rounding with both). */
#ifndef HT_QUANT_CALIBRATE_CURVATURE_H
#define HT_QUANT_CALIBRATE_CURVATURE_H

#include <stddef.h>
#include <stdint.h>

#include "model/decoder.h"
#include "quant/calibrate/moments.h"
#include "quant/calibrate/samples.h"

enum { HT_CURVATURE_BAND = 256 };

/* Of one matrix. */
typedef struct ht_output_curvature {
    size_t parameter, entry; /* of the checkpoint */
    size_t rows, bands;
    ht_moments **band; /* second moments of rows [i * HT_CURVATURE_BAND, ...) */
} ht_output_curvature;

typedef struct ht_curvature ht_curvature;

/* Of all linears of the blocks whose parameter is wanted (a byte each), over at most `most` of the samples. The model's
 * linears must be the float ones. One block's weights as f32 and the rows of four samples at every block are in memory
 * beside the result. Same bits for any number of threads. Fails with MEMORY, NUMERIC, CANCELLED. */
ht_status ht_curvature_measure(ht_model *model, const unsigned char *wanted, const ht_samples *samples, size_t most,
                               ht_curvature **out);
void ht_curvature_destroy(ht_curvature *curvature); /* NULL is allowed */
/* NULL: not measured, or no token came there. */
const ht_output_curvature *ht_curvature_of(const ht_curvature *curvature, size_t parameter, size_t entry);

#endif
