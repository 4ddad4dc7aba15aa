/* Decoder families as data: what distinguishes one from another, a row each. docs/models.md explains every member. */
#ifndef HT_MODEL_ARCHITECTURES_H
#define HT_MODEL_ARCHITECTURES_H

#include <stddef.h>

#include <halftone/recipe.h>

typedef enum ht_bias_rule {
    HT_BIAS_NONE,
    HT_BIAS_ALWAYS,
    HT_BIAS_CONFIG /* as attention_bias (projections of attention) or mlp_bias says */
} ht_bias_rule;

typedef enum ht_qk_norm_rule {
    HT_QK_NORM_NONE,
    HT_QK_NORM_HEAD, /* each head's vector, weight [head_dim] */
    HT_QK_NORM_WHOLE /* the whole projection, weight [heads * head_dim] */
} ht_qk_norm_rule;

/* Which layers look back sliding_window positions only, when the config has no layer_types. */
typedef enum ht_window_rule {
    HT_WINDOW_NEVER,
    HT_WINDOW_ALL,   /* every layer, if sliding_window is set */
    HT_WINDOW_USED,  /* every layer, if use_sliding_window */
    HT_WINDOW_UPPER, /* if use_sliding_window: layers from max_window_layers on */
    HT_WINDOW_EVEN   /* layers 0, 2, 4, ... */
} ht_window_rule;

typedef enum ht_router_rule {
    HT_ROUTER_NONE,          /* dense */
    HT_ROUTER_SOFTMAX_FIRST, /* softmax over all experts, the best k; renormalized if norm_topk_prob or `renormalize` */
    HT_ROUTER_TOP_FIRST      /* the best k logits, softmax over those */
} ht_router_rule;

/* Tensors of a decoder by role. Patterns: {l} layer, {e} expert. */
typedef enum ht_role {
    HT_ROLE_EMBEDDING,
    HT_ROLE_FINAL_NORM,
    HT_ROLE_HEAD,
    HT_ROLE_ATTENTION_NORM,
    HT_ROLE_ATTENTION_POST_NORM, /* on the output of attention, before it is added */
    HT_ROLE_MLP_NORM,
    HT_ROLE_MLP_POST_NORM,
    HT_ROLE_Q,
    HT_ROLE_K,
    HT_ROLE_V,
    HT_ROLE_QKV,
    HT_ROLE_O,
    HT_ROLE_Q_NORM,
    HT_ROLE_K_NORM,
    HT_ROLE_SINKS,
    HT_ROLE_GATE,
    HT_ROLE_UP,
    HT_ROLE_GATE_UP,
    HT_ROLE_DOWN,
    HT_ROLE_ROUTER,
    HT_ROLE_EXPERT_GATE,
    HT_ROLE_EXPERT_UP,
    HT_ROLE_EXPERT_GATE_UP,
    HT_ROLE_EXPERT_DOWN,
    HT_ROLE_EXPERTS_GATE_UP, /* all experts in one tensor [experts, ...] */
    HT_ROLE_EXPERTS_DOWN,
    HT_ROLE_COUNT
} ht_role;

typedef struct ht_architecture {
    ht_list_item item; /* name: architectures[0] of config.json; alias: model_type, used when that is missing */
    ht_bias_rule qkv_bias, o_bias, mlp_bias;
    ht_qk_norm_rule qk_norm;
    ht_window_rule window;
    ht_router_rule router;
    int renormalize; /* SOFTMAX_FIRST: always */
    int router_bias, expert_bias;
    int interleaved;      /* fused gate_up of the experts: gate and up alternate */
    int sinks;            /* one extra logit per head */
    int post_norms;       /* ATTENTION_POST_NORM and MLP_POST_NORM exist */
    int one_plus;         /* norms multiply by 1 + weight */
    int soft_caps;        /* attn_logit_softcapping, final_logit_softcapping */
    int scaled_embedding; /* times sqrt(hidden) */
    int query_scalar;     /* attention scale is query_pre_attn_scalar^-0.5 */
    int clip_qkv;         /* clip_qkv is read */
    int dense_layers;     /* mlp_only_layers and decoder_sparse_step are read */
    int clamped_gate;     /* the clamped SwiGLU with swiglu_alpha, swiglu_limit */
    int gelu;             /* the activation is hidden_activation, gelu_pytorch_tanh by default; else hidden_act, silu */
    int tied;             /* tie_word_embeddings when the config does not say */
    size_t head_dim;      /* when the config does not say; 0: hidden / heads */
    size_t window_size;   /* sliding_window when the config does not say; 0: none */
    double rope_theta;    /* when the config does not say; 0: 10000 */
    const char *tensor[HT_ROLE_COUNT]; /* NULL: the usual name (ht_architecture_pattern) */
} ht_architecture;

/* Row by architectures[0] or, when that is NULL, model_type; NULL if unknown. */
const ht_architecture *ht_architecture_find(const char *name, const char *model_type);
/* "LlamaForCausalLM, MistralForCausalLM, ..." into buffer, for messages. */
void ht_architecture_names(char *buffer, size_t size);
/* Name pattern of a role. */
const char *ht_architecture_pattern(const ht_architecture *architecture, ht_role role);
/* The name itself: {l} and {e} filled in. Returns its length, as snprintf. */
size_t ht_architecture_tensor(const char *pattern, size_t layer, size_t expert, char *buffer, size_t size);

#endif
