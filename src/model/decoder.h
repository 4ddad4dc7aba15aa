/* A loaded decoder and the passes over it. Public part: halftone/model.h. */
#ifndef HT_MODEL_DECODER_H
#define HT_MODEL_DECODER_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/model.h>

#include "base/memory.h"
#include "kernels/kernels.h"
#include "model/config.h"
#include "ops/attention_round.h"
#include "ops/linear.h"

enum { HT_MAX_PARTS = 3 };

/* One or several linears that write side by side into the same rows: q|k|v, gate|up; fused in the file or not, of one
 * MLP or of every expert. */
typedef struct ht_projection {
    ht_linear **linear; /* [members][parts] */
    size_t parts;       /* 1: fused in the file */
    size_t members;     /* experts stored apart; else 1 */
    size_t *parameter;  /* [members][parts] of the checkpoint */
    int batched;        /* one linear holds all experts */
    int interleaved;    /* outputs alternate between gate and up */
    size_t offset[HT_MAX_PARTS], width, inputs;
} ht_projection;

typedef struct ht_layer {
    const float *attention_norm, *attention_post_norm, *mlp_norm, *mlp_post_norm; /* post norms may be NULL */
    const float *q_norm, *k_norm, *sinks;                                         /* may be NULL */
    ht_projection qkv, o, router, gate_up, down;
    size_t window;
    int sparse;
} ht_layer;

/* Intermediate results of up to `tokens` tokens. */
typedef struct ht_activations {
    size_t tokens;
    size_t spread;     /* experts per token that there is room for */
    float *x;          /* [hidden] residual stream */
    float *normed;     /* [hidden] input of the next block; after the last layer, of the head */
    float *qkv;        /* [qkv width] */
    float *attended;   /* [heads * head_dim] */
    float *out;        /* [hidden] what a block adds */
    float *gate_up;    /* [slots * gate_up width], slots: 1, or experts per token */
    float *gated;      /* [slots * intermediate] */
    float *router;     /* [experts] */
    float *share;      /* [experts per token] weight of each chosen expert, best first */
    float *gathered;   /* [slots * hidden] inputs in expert order */
    float *expert_out; /* [slots * hidden] */
    int32_t *chosen;   /* [experts per token] */
    int32_t *slot;     /* [experts per token] row of that expert's input in `gathered` */
} ht_activations;

/* Sees intermediate rows [tokens, width] while a pass runs: "hidden" (residual after block `layer`), "final_norm",
 * "attention", "mlp" (what a block adds), "router". For tests and calibration. */
typedef void ht_tap_fn(void *user, const char *what, size_t layer, const float *rows, size_t tokens, size_t width);

struct ht_model {
    ht_context *ctx;
    ht_checkpoint *checkpoint;
    ht_arena arena;
    ht_decoder_config config;
    ht_layer *layer;
    const ht_parameter *embedding;
    ht_decode_fn *embedding_decode;
    const float *final_norm;
    ht_linear *head;
    ht_kernels kernels;
    ht_workspace workspace;
    ht_activations act;
    uint64_t parameters, weight_bytes;
    ht_format cache; /* of the sequences to come, when quantized */
    int cache_quantized;
    ht_attention_rounder *rounder; /* of attention's operands, for sequences to come; NULL: none */
    ht_tap_fn *tap;                /* NULL: none */
    void *tap_user;
};

struct ht_sequence {
    ht_model *model;
    size_t capacity, length;
    size_t layers;       /* that the cache has room for: all, or one at a time (block.h) */
    float *k, *v;        /* [layers][kv_heads][capacity][head_dim]; quantized: one layer of it, see cache.h */
    ht_format format;    /* of records */
    size_t record;       /* bytes of one; 0: the cache is f32 */
    uint8_t *records[2]; /* keys, values: [layers][kv_heads][capacity] */
    const ht_attention_rounder *rounder; /* NULL: attention reads keys and values as they are */
    float *rounded[2];                   /* else these: one layer's keys, values [kv_heads][capacity][head_dim] */
    float *frequency, rope_factor;
    float *cosine, *sine; /* [HT_CHUNK][rotary / 2] of positions from rope_first on */
    size_t rope_first, rope_count;
};

enum { HT_CHUNK = 512 }; /* tokens of one pass: bounds the scratch */

typedef struct ht_pass ht_pass; /* model/block.h */

/* Scratch for passes of up to `tokens` tokens, each sent to `spread` experts (0: as many as the config says). */
ht_status ht_decoder_reserve(ht_model *model, size_t tokens, size_t spread);
/* The sequence's rotary table covers [first, first + count). */
void ht_decoder_rotate(ht_sequence *sequence, size_t first, size_t count);

/* Append `count` <= HT_CHUNK tokens (checked ids, within capacity). Afterwards model->act.normed holds the final hidden
 * rows [count, hidden]. On failure the sequence is as before. */
ht_status ht_decoder_pass(ht_sequence *sequence, const int32_t *ids, size_t count);

/* logits [rows, vocabulary] of final hidden rows [rows, hidden]. */
ht_status ht_decoder_logits(ht_model *model, const float *hidden, size_t rows, float *logits);

/* Ids inside the vocabulary and room in the sequence; ARGUMENT or SHAPE otherwise. */
ht_status ht_decoder_check(const ht_sequence *sequence, const int32_t *ids, size_t count);

/* work(arg, first row, row count) over blocks of rows on all threads. */
typedef void ht_some_rows_fn(void *arg, size_t row, size_t count);
ht_status ht_for_rows(ht_context *ctx, size_t rows, ht_some_rows_fn *work, void *arg);

/* y[row] of all parts of a projection for m rows of x; `jobs` has room for HT_MAX_PARTS. Returns their number. */
size_t ht_projection_jobs(const ht_projection *projection, size_t expert, const float *x, size_t m, float *y,
                          ht_linear_job *jobs);

/* act.out = experts(act.normed) of a sparse layer. */
ht_status ht_experts_pass(ht_pass *pass);

/* The `slots` best experts of a token, best first, and the shares of those that count (experts_per_token). score
 * [experts]: the router's; changed. */
void ht_experts_route(const ht_model *model, float *score, size_t slots, int32_t *chosen, float *share);

/* gated [rows, width / 2] = the gate of gate_up [rows, width], width that of the layer's gate and up. */
ht_status ht_gate_rows(const ht_model *model, const ht_layer *layer, const float *gate_up, size_t rows, float *gated);
/* x [heads, head_dim] of q or k, each head (or all of them as one) through its norm, in place. */
void ht_norm_heads(const ht_model *model, float *x, size_t heads, const float *weight);

/* A sequence whose cache holds `layers` layers. */
ht_status ht_sequence_create_for(ht_model *model, size_t capacity, size_t layers, ht_sequence **out);

/* Everything of the model but the checkpoint (load.c). */
ht_status ht_model_load(ht_model *model);

#endif
