/* Gradients through one block of the decoder, for methods that learn: a pass that keeps what it computed, and the way
 * back.
 *
 *     dense block   the block's linears as f32 matrices, which the caller may change between passes
 *     tape          what one pass of a text through it left behind
 *
 *     ht_tape_forward(tape, x, rows, y);       y = block(x)
 *     ht_tape_backward(tape, gradient);        gradient: of y before, of x after; those of the matrices are added up
 *
 * Every architecture that block.h runs. Inputs that a linear quantizes are quantized on the way forth and taken for
 * unquantized on the way back (straight through); which experts a token goes to is taken as given, their shares are
 * not. Products are ops/dense.h's, so the values are near those of ht_block_run, not its bits. Same bits for any number
 * of threads and instruction set. */
#ifndef HT_MODEL_BLOCK_GRADIENT_H
#define HT_MODEL_BLOCK_GRADIENT_H

#include <stddef.h>
#include <stdint.h>

#include "model/block.h"
#include "ops/input_transform.h"

/* One linear, of one expert. */
typedef struct ht_dense_linear {
    float *weight;     /* [rows, cols] */
    float *gradient;   /* [rows, cols], added to; NULL: not wanted */
    const float *bias; /* [rows]; NULL: none */
    size_t rows, cols;
    const ht_transformer *inputs; /* what is done to the inputs first; of the linear in its place */
    size_t entry;                 /* of its batch */
} ht_dense_linear;

typedef struct ht_dense_block {
    ht_context *ctx;
    ht_model *model;
    size_t layer;
    ht_dense_linear *linear[HT_SITE_COUNT]; /* [experts][parts]; NULL: no such site */
    size_t experts[HT_SITE_COUNT], parts[HT_SITE_COUNT];
    int has_input[HT_SITE_COUNT]; /* inputs are quantized */
    ht_format input[HT_SITE_COUNT];
    ht_scale_rule input_rule[HT_SITE_COUNT];
    float input_scale[HT_SITE_COUNT]; /* of all rows; 0: of every row */
    ht_arena arena;
    float *memory; /* weights of all */
} ht_dense_block;

/* The block as its linears are now, decoded; no gradients. Fails with MEMORY; UNSUPPORTED: parts of one site transform
 * or quantize their inputs differently. */
ht_status ht_dense_block_open(ht_model *model, size_t layer, ht_dense_block *out);
void ht_dense_block_close(ht_dense_block *block);
/* Decode the linears again, after they were exchanged. */
ht_status ht_dense_block_read(ht_dense_block *block);

static inline ht_dense_linear *ht_dense_linear_at(const ht_dense_block *block, ht_site site, size_t expert,
                                                  size_t part) {
    return &block->linear[site][expert * block->parts[site] + part];
}

typedef struct ht_tape ht_tape;

/* Room for texts of up to `capacity` tokens; of any block of the model. */
ht_status ht_tape_create(ht_model *model, size_t capacity, ht_tape **out);
void ht_tape_destroy(ht_tape *tape); /* NULL is allowed */
/* Bytes that it takes, about. */
size_t ht_tape_bytes(const ht_model *model, size_t capacity);

/* Rows of gradients of what one linear gives, seen on the way back. */
typedef struct ht_output_gradient {
    ht_site site;
    size_t expert, part;
    const float *dy; /* [rows, outputs], rows `stride` floats apart */
    size_t rows, outputs, stride;
} ht_output_gradient;
typedef ht_status ht_gradient_fn(void *user, const ht_output_gradient *gradient);
/* Who looks on while a tape goes back; NULL: nobody. Experts that no token goes to are not mentioned. */
void ht_tape_watch(ht_tape *tape, ht_gradient_fn *see, void *user);

/* y [rows, hidden] = block(x), positions from 0 on; y may be x. Fails with SHAPE past the capacity, MEMORY. */
ht_status ht_tape_forward(ht_tape *tape, const ht_dense_block *block, const float *x, size_t rows, float *y);
/* Back over the last pass. gradient [rows, hidden]: of y, becomes that of x. */
ht_status ht_tape_backward(ht_tape *tape, const ht_dense_block *block, float *gradient);

/* gradient [rows, hidden] of -log p(token) in x [rows, hidden], what the last block gives, for a token drawn for each
 * row from the model's own prediction: row i's is draw first + i of the seed. Their mean square over many rows is the
 * curvature of the KL divergence from this model. Fails with MEMORY, NUMERIC (logits that are not finite). */
ht_status ht_head_gradient(ht_model *model, const float *x, size_t rows, uint64_t seed, uint64_t first,
                           float *gradient);

#endif
