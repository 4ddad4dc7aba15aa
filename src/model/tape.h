/* Inside of a tape (block_gradient.h), for its files.
 *
 *     block_gradient.c      the block as f32 matrices; the tape; norms and the order of the steps
 *     gradient_linear.c     products with the matrices of a site, forth and back
 *     gradient_attention.c  heads: norms, rotation, attention
 *     gradient_mlp.c        the gate, dense and of experts
 *     gradient_rows.c       derivatives of row functions
 */
#ifndef HT_MODEL_TAPE_H
#define HT_MODEL_TAPE_H

#include "model/block_gradient.h"

struct ht_tape {
    ht_context *ctx;
    ht_model *model;
    const ht_dense_block *block; /* of the last pass */
    const ht_layer *layer;
    size_t capacity, rows, slots; /* slots: experts of a token, else 1 */
    float *memory;
    float *cosine, *sine, *back_sine; /* [capacity, rotary / 2] */
    /* What a pass keeps, [rows, ...] each. */
    float *x, *normed, *heads_in; /* heads_in: q|k|v as the linears gave them */
    float *unclipped;             /* q|k|v after their norms, where they are clipped; else NULL */
    float *heads, *attended;      /* q|k|v as attention sees them; q scaled */
    float *lse;                   /* [heads, rows] of the scores */
    float *attention, *mid;       /* what attention adds, before its norm; x + that */
    float *mlp_normed, *gate_up, *gated, *mlp;
    float *input[HT_SITE_COUNT]; /* inputs of a site, transformed and quantized */
    float *logits, *share, *gathered, *expert_out;
    int32_t *chosen, *slot;
    size_t *begin;       /* [experts + 1] first gathered row of each */
    ht_gradient_fn *see; /* may be NULL */
    void *see_user;
    /* Scratch of the way back. */
    float *d_hidden, *d_heads, *d_attended, *d_gate_up, *d_gated, *d_gathered, *d_turned, *d_share, *d_logits;
};

/* --- gradient_linear.c ---------------------------------------------------------------------------------------- */

/* y [rows, width] = all parts of a site for rows x [rows, cols] of one expert; row0: its first row among those of the
 * site. */
ht_status ht_tape_project(ht_tape *tape, ht_site site, size_t expert, const float *x, size_t row0, size_t rows,
                          float *y, size_t width);
/* dx [rows, cols] += what dy gives; gradients of the weights are added up. x as in the pass; dx NULL: not wanted. */
ht_status ht_tape_project_back(ht_tape *tape, ht_site site, size_t expert, const float *x, size_t row0, size_t rows,
                               const float *dy, size_t width, float *dx);

/* --- gradient_attention.c ------------------------------------------------------------------------------------- */

/* attended = attention(heads_in), heads on the way; d_heads = gradient of heads_in from d_attended. */
ht_status ht_tape_attend(ht_tape *tape);
ht_status ht_tape_attend_back(ht_tape *tape);

/* --- gradient_mlp.c -------------------------------------------------------------------------------------------- */

/* mlp = MLP or experts of mlp_normed; d_normed += its gradient from that of mlp. */
ht_status ht_tape_mlp(ht_tape *tape);
ht_status ht_tape_mlp_back(ht_tape *tape, const float *d_mlp, float *d_normed);

/* --- gradient_rows.c ------------------------------------------------------------------------------------------- */

/* dx [n] = gradient of x from dy, y = rmsnorm(x, weight); add: dx += it. dx may be dy unless it is added to. */
void ht_rmsnorm_back(const float *x, const float *weight, size_t n, float epsilon, const float *dy, int add, float *dx);
/* Gradients of gate and up from dy [n], values `step` apart, as ht_gate_fn reads them. */
void ht_gate_back(const ht_gate_function *rule, ht_softmax_fn *softmax, const float *gate, const float *up, size_t step,
                  size_t n, const float *dy, float *d_gate, float *d_up);

#endif
