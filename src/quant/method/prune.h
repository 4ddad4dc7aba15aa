/* Pruning: which weights of a row become zero. Magnitude times the norm of the input (Wanda); the walk over columns
 * (gptq.h) chooses by the same rules with a measure of its own (SparseGPT).
 *
 *     sparsity 0.5          the half of a row with the least measure
 *     pattern 2:4, 4:8      2 of every 4 (4 of every 8) neighbours of a row; of a tail of n columns n / 2
 */
#ifndef HT_QUANT_METHOD_PRUNE_H
#define HT_QUANT_METHOD_PRUNE_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/recipe.h>

#include "quant/method/matrix.h"

/* What settings ask for. */
typedef struct ht_sparsity {
    double share; /* of weights that become zero; 0: none */
    size_t group; /* neighbours that have their share alone; 0: whatever is chosen together */
} ht_sparsity;

ht_sparsity ht_sparsity_of(const ht_settings *settings); /* NULL: none */
/* HT_OK, or ARGUMENT (a pattern with another share), UNSUPPORTED (a scheme whose grid has no zero, by name). */
ht_status ht_sparsity_accepts(const ht_scheme *scheme, const ht_settings *settings);
/* "2:4", "4:8", "0.5"; "" for none. */
const char *ht_sparsity_name(const ht_settings *settings, char text[16]);

/* The share and group that such a name says; none for another text. */
ht_sparsity ht_sparsity_named(const char *name);

/* pruned[i] = 1 for the share of n measures that is least, 0 for the others; of equal ones the later go. NaN stays.
 * With a pattern n counts from a multiple of the group. */
void ht_prune_choose(const ht_sparsity *how, const float *measure, size_t n, uint8_t *pruned);
/* The same for a row of weights: |w| sqrt(mean x^2), or |w| where nothing is known of the inputs. `measure`: [cols]
 * scratch. */
void ht_prune_row(const ht_sparsity *how, const float *weight, const ht_moments *input, size_t cols, float *measure,
                  uint8_t *pruned);
/* Zeros among n values, as a share. */
double ht_prune_share(const float *x, size_t n);

/* The method (matrix.h): prune, then round to nearest. ht_matrix_round does both when the settings ask for it. */
ht_matrix_fn ht_wanda_matrix;
unsigned ht_wanda_moments(const ht_settings *settings);

#endif
