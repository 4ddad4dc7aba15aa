/* config.json of a decoder, as numbers. */
#ifndef HT_MODEL_CONFIG_H
#define HT_MODEL_CONFIG_H

#include <stddef.h>
#include <stdint.h>

#include <halftone/status.h>

#include "base/memory.h"
#include "kernels/rows.h"
#include "model/architectures.h"

typedef enum ht_rope_kind {
    HT_ROPE_DEFAULT,
    HT_ROPE_LINEAR,
    HT_ROPE_LLAMA3,
    HT_ROPE_YARN,
    HT_ROPE_LONGROPE
} ht_rope_kind;

/* Source of every rule: rope.c. */
typedef struct ht_rope_config {
    ht_rope_kind kind;
    double theta, partial; /* partial_rotary_factor */
    double factor, original_context;
    double low_frequency, high_frequency;     /* LLAMA3 */
    double beta_fast, beta_slow;              /* YARN */
    double attention_factor;                  /* of cosine and sine; 0: the rule's own */
    double mscale, mscale_all;                /* YARN; 0: not given */
    int truncate;                             /* YARN: bounds of the ramp are whole numbers */
    const double *short_factor, *long_factor; /* LONGROPE [rotary / 2] */
    size_t factors;                           /* length of both */
} ht_rope_config;

enum { HT_MAX_EOS = 16 };

typedef struct ht_decoder_config {
    const ht_architecture *architecture;
    size_t vocabulary, hidden, layers, heads, kv_heads, head_dim, intermediate, context;
    size_t experts, experts_per_token, expert_intermediate;
    int normalize_experts;
    size_t *window;        /* per layer: positions a token looks back, itself included; 0: all */
    unsigned char *sparse; /* per layer: experts instead of one MLP */
    ht_gate_function gate;
    double norm_epsilon, attention_scale, embedding_scale;
    double attention_cap, final_cap, clip_qkv; /* 0: none */
    int tied, attention_bias, mlp_bias;
    ht_rope_config rope;
    size_t rotary; /* rotated values of a head */
    int32_t eos[HT_MAX_EOS];
    size_t eos_count;
} ht_decoder_config;

/* Read the text of config.json; `label` names it in messages. Arrays live in the arena. Unknown keys are ignored; a
 * value that would change results but is not implemented is refused. Fails with UNSUPPORTED (architecture or value,
 * named), CORRUPT (missing key, wrong type or range), MEMORY. */
ht_status ht_decoder_config_parse(const char *label, const char *text, size_t bytes, ht_arena *arena,
                                  ht_decoder_config *out);

/* End-of-text ids of generation_config.json take the place of the config's, if it names any. */
ht_status ht_decoder_config_generation(const char *label, const char *text, size_t bytes, ht_decoder_config *config);

#endif
