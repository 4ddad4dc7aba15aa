/* One block of the decoder: the step that a pass repeats, open to those who want to see what goes into its linears, to
 * change them, or to run it alone over rows of their own.
 *
 *     norm -> q|k|v -> attention -> o -> add -> norm -> gate|up -> gate -> down -> add
 *             QKV                   O                   GATE_UP           DOWN        (ROUTER before GATE_UP, if
 * sparse)
 */
#ifndef HT_MODEL_BLOCK_H
#define HT_MODEL_BLOCK_H

#include <stddef.h>
#include <stdint.h>

#include "model/decoder.h"

/* Linears that read the same rows, in the order in which a block comes to them. */
typedef enum ht_site { HT_SITE_QKV, HT_SITE_O, HT_SITE_ROUTER, HT_SITE_GATE_UP, HT_SITE_DOWN, HT_SITE_COUNT } ht_site;

/* Rows about to enter a site: x [rows, cols], contiguous. Row i belongs to position first + token[i] of the text; token
 * NULL: to first + i. Of an expert, positions increase. */
typedef struct ht_site_rows {
    size_t layer, first;
    ht_site site;
    size_t expert; /* 0 where there are none */
    const float *x;
    size_t rows, cols;
    size_t routed; /* rows that the model itself sends here; the others are those of `spread` */
    const int32_t *token;
} ht_site_rows;

typedef ht_status ht_site_fn(void *user, const ht_site_rows *rows);

/* Who looks on. Experts that no token goes to are not mentioned. */
typedef struct ht_watch {
    ht_site_fn *see;
    void *user;
    ht_site stop;  /* the block ends when it comes to this site, its rows seen; HT_SITE_COUNT: runs to its end */
    size_t spread; /* send every token to this many experts, at least those it is routed to; the further ones are seen
                      but add nothing. 0: as routed */
} ht_watch;

/* A pass at one block. */
struct ht_pass {
    ht_sequence *sequence;
    ht_model *model;
    const ht_layer *layer;
    size_t index;           /* of the layer */
    size_t slot;            /* of the layer in the cache */
    size_t m, first;        /* tokens of this pass, and positions before them */
    const float *next_norm; /* of the norm that ends a half of the block */
    const float *post_norm;
    const ht_watch *watch; /* may be NULL */
    int stopped;
};

/* The block pass->index: act.x and its norm act.normed in, act.x and next norm's act.normed out. */
ht_status ht_block_step(ht_pass *pass, const float *next_norm);
/* act.normed = norm(act.x) */
ht_status ht_block_norm(ht_pass *pass, const float *weight);
/* Tell the watch about rows (layer is filled in); *pass stops when the watch says so. */
ht_status ht_block_see(ht_pass *pass, ht_site_rows rows);

/* --- Blocks alone --------------------------------------------------------------------------------------------- */

/* A sequence whose cache holds one block, of up to `capacity` positions. */
ht_status ht_block_sequence(ht_model *model, size_t capacity, ht_sequence **out);
/* x [count, hidden] = what block 0 gets for these ids (checked). */
ht_status ht_block_embed(ht_model *model, const int32_t *ids, size_t count, float *x);
/* x [rows, hidden] = block(x), a whole text from position 0 on; the same bits as in a pass of the decoder. When the
 * watch stops it, x stays as it was. Fails with SHAPE past the sequence's capacity. */
ht_status ht_block_run(ht_sequence *sequence, size_t layer, float *x, size_t rows, const ht_watch *watch);

/* --- Linears of a block --------------------------------------------------------------------------------------- */

/* The projection at a site; NULL where the layer has none (ROUTER of a dense one). */
ht_projection *ht_block_site(ht_model *model, size_t layer, ht_site site);
/* Experts whose rows at this site are their own; 1 where all rows are everyone's. */
size_t ht_block_experts(const ht_model *model, size_t layer, ht_site site);
/* The linear of `part` that expert's rows go into, its parameter in the checkpoint and the batch entry. */
typedef struct ht_block_linear {
    ht_linear **place; /* may be exchanged for another of the same shape */
    size_t parameter, entry;
} ht_block_linear;
ht_block_linear ht_block_linear_at(ht_model *model, size_t layer, ht_site site, size_t expert, size_t part);

#endif
