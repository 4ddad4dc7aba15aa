/* The table of decoder families, and names of their tensors.
 *
 * A family is a row; loading (load.c) and running (decoder.c) ask the row, never the name. What most families share
 * (names, biases absent, silu) is the default that a row leaves out. Sources: the config.json and tensor names of the
 * published checkpoints, and the model cards and reports named at each row.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/architectures.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* strcmp */

static const char *const USUAL[HT_ROLE_COUNT] = {
    [HT_ROLE_EMBEDDING] = "model.embed_tokens.weight",
    [HT_ROLE_FINAL_NORM] = "model.norm.weight",
    [HT_ROLE_HEAD] = "lm_head.weight",
    [HT_ROLE_ATTENTION_NORM] = "model.layers.{l}.input_layernorm.weight",
    [HT_ROLE_ATTENTION_POST_NORM] = "model.layers.{l}.post_attention_layernorm.weight",
    [HT_ROLE_MLP_NORM] = "model.layers.{l}.post_attention_layernorm.weight",
    [HT_ROLE_MLP_POST_NORM] = "model.layers.{l}.post_feedforward_layernorm.weight",
    [HT_ROLE_Q] = "model.layers.{l}.self_attn.q_proj.weight",
    [HT_ROLE_K] = "model.layers.{l}.self_attn.k_proj.weight",
    [HT_ROLE_V] = "model.layers.{l}.self_attn.v_proj.weight",
    [HT_ROLE_QKV] = "model.layers.{l}.self_attn.qkv_proj.weight",
    [HT_ROLE_O] = "model.layers.{l}.self_attn.o_proj.weight",
    [HT_ROLE_Q_NORM] = "model.layers.{l}.self_attn.q_norm.weight",
    [HT_ROLE_K_NORM] = "model.layers.{l}.self_attn.k_norm.weight",
    [HT_ROLE_SINKS] = "model.layers.{l}.self_attn.sinks",
    [HT_ROLE_GATE] = "model.layers.{l}.mlp.gate_proj.weight",
    [HT_ROLE_UP] = "model.layers.{l}.mlp.up_proj.weight",
    [HT_ROLE_GATE_UP] = "model.layers.{l}.mlp.gate_up_proj.weight",
    [HT_ROLE_DOWN] = "model.layers.{l}.mlp.down_proj.weight",
    [HT_ROLE_ROUTER] = "model.layers.{l}.mlp.gate.weight",
    [HT_ROLE_EXPERT_GATE] = "model.layers.{l}.mlp.experts.{e}.gate_proj.weight",
    [HT_ROLE_EXPERT_UP] = "model.layers.{l}.mlp.experts.{e}.up_proj.weight",
    [HT_ROLE_EXPERT_GATE_UP] = "model.layers.{l}.mlp.experts.{e}.gate_up_proj.weight",
    [HT_ROLE_EXPERT_DOWN] = "model.layers.{l}.mlp.experts.{e}.down_proj.weight",
    [HT_ROLE_EXPERTS_GATE_UP] = "model.layers.{l}.mlp.experts.gate_up_proj",
    [HT_ROLE_EXPERTS_DOWN] = "model.layers.{l}.mlp.experts.down_proj",
};

static const ht_architecture TABLE[] = {
    {
        .item = {"LlamaForCausalLM", "Llama 1 to 3.2 and its many relatives", "llama"},
        .qkv_bias = HT_BIAS_CONFIG,
        .o_bias = HT_BIAS_CONFIG,
        .mlp_bias = HT_BIAS_CONFIG,
    },
    {
        .item = {"MistralForCausalLM", "Mistral 7B and later, with or without a sliding window", "mistral"},
        .window = HT_WINDOW_ALL,
    },
    {
        .item = {"Qwen2ForCausalLM", "Qwen 1.5, 2 and 2.5: biases on q, k, v", "qwen2"},
        .qkv_bias = HT_BIAS_ALWAYS,
        .window = HT_WINDOW_UPPER,
        .window_size = 4096,
    },
    {
        .item = {"Qwen3ForCausalLM", "Qwen 3: norms on the heads of q and k", "qwen3"},
        .qkv_bias = HT_BIAS_CONFIG,
        .o_bias = HT_BIAS_CONFIG,
        .qk_norm = HT_QK_NORM_HEAD,
        .window = HT_WINDOW_UPPER,
        .window_size = 4096,
        .head_dim = 128,
    },
    {
        .item = {"Qwen3MoeForCausalLM", "Qwen 3 mixture of experts", "qwen3_moe"},
        .qkv_bias = HT_BIAS_CONFIG,
        .o_bias = HT_BIAS_CONFIG,
        .qk_norm = HT_QK_NORM_HEAD,
        .window = HT_WINDOW_USED,
        .router = HT_ROUTER_SOFTMAX_FIRST,
        .dense_layers = 1,
    },
    {
        .item = {"MixtralForCausalLM", "Mixtral mixture of experts", "mixtral"},
        .window = HT_WINDOW_ALL,
        .router = HT_ROUTER_SOFTMAX_FIRST,
        .renormalize = 1,
        .rope_theta = 1e6,
        .tensor = {[HT_ROLE_ROUTER] = "model.layers.{l}.block_sparse_moe.gate.weight",
                   [HT_ROLE_EXPERT_GATE] = "model.layers.{l}.block_sparse_moe.experts.{e}.w1.weight",
                   [HT_ROLE_EXPERT_UP] = "model.layers.{l}.block_sparse_moe.experts.{e}.w3.weight",
                   [HT_ROLE_EXPERT_DOWN] = "model.layers.{l}.block_sparse_moe.experts.{e}.w2.weight",
                   [HT_ROLE_EXPERT_GATE_UP] = "model.layers.{l}.block_sparse_moe.experts.{e}.gate_up_proj.weight",
                   [HT_ROLE_EXPERTS_GATE_UP] = "model.layers.{l}.block_sparse_moe.experts.gate_up_proj",
                   [HT_ROLE_EXPERTS_DOWN] = "model.layers.{l}.block_sparse_moe.experts.down_proj"},
    },
    {
        .item = {"OlmoeForCausalLM", "OLMoE: norms over the whole of q and k, gates not renormalized", "olmoe"},
        .qkv_bias = HT_BIAS_CONFIG,
        .o_bias = HT_BIAS_CONFIG,
        .qk_norm = HT_QK_NORM_WHOLE,
        .router = HT_ROUTER_SOFTMAX_FIRST,
        .clip_qkv = 1,
    },
    {
        .item = {"Phi3ForCausalLM", "Phi-3, Phi-3.5 and Phi-4: fused q/k/v and gate/up, longrope", "phi3"},
        .window = HT_WINDOW_ALL,
    },
    {
        .item = {"Gemma2ForCausalLM", "Gemma 2: soft caps, norms before and after, every second layer windowed",
                 "gemma2"},
        .qkv_bias = HT_BIAS_CONFIG,
        .o_bias = HT_BIAS_CONFIG,
        .window = HT_WINDOW_EVEN,
        .post_norms = 1,
        .one_plus = 1,
        .soft_caps = 1,
        .scaled_embedding = 1,
        .gelu = 1,
        .query_scalar = 1,
        .tied = 1,
        .head_dim = 256,
        .window_size = 4096,
        .tensor = {[HT_ROLE_MLP_NORM] = "model.layers.{l}.pre_feedforward_layernorm.weight"},
    },
    {
        .item = {"GptOssForCausalLM",
                 "gpt-oss: sinks, every second layer windowed, clamped SwiGLU, fused experts with biases", "gpt_oss"},
        .qkv_bias = HT_BIAS_ALWAYS,
        .o_bias = HT_BIAS_ALWAYS,
        .window = HT_WINDOW_EVEN,
        .router = HT_ROUTER_TOP_FIRST,
        .router_bias = 1,
        .expert_bias = 1,
        .interleaved = 1,
        .sinks = 1,
        .clamped_gate = 1,
        .head_dim = 64,
        .window_size = 128,
        .rope_theta = 150000,
        .tensor = {[HT_ROLE_ROUTER] = "model.layers.{l}.mlp.router.weight"},
    },
};
enum { ROWS = sizeof TABLE / sizeof *TABLE };

const ht_list_item *ht_architecture_list(size_t index) {
    return index < ROWS ? &TABLE[index].item : NULL;
}

const ht_architecture *ht_architecture_find(const char *name, const char *model_type) {
    for (size_t i = 0; i < ROWS; i++) {
        if (name && strcmp(name, TABLE[i].item.name) == 0)
            return &TABLE[i];
        if (!name && model_type && strcmp(model_type, TABLE[i].item.aliases) == 0)
            return &TABLE[i];
    }
    return NULL;
}

void ht_architecture_names(char *buffer, size_t size) {
    size_t used = 0;
    for (size_t i = 0; i < ROWS && used < size; i++) {
        int more = snprintf(buffer + used, size - used, "%s%s", i ? ", " : "", TABLE[i].item.name);
        used += more > 0 ? (size_t)more : 0;
    }
}

const char *ht_architecture_pattern(const ht_architecture *architecture, ht_role role) {
    return architecture->tensor[role] ? architecture->tensor[role] : USUAL[role];
}

size_t ht_architecture_tensor(const char *pattern, size_t layer, size_t expert, char *buffer, size_t size) {
    size_t used = 0;
    while (*pattern) {
        char number[24] = {*pattern, '\0'};
        size_t taken = 1;
        if (strncmp(pattern, "{l}", 3) == 0 || strncmp(pattern, "{e}", 3) == 0) {
            snprintf(number, sizeof number, "%zu", pattern[1] == 'l' ? layer : expert);
            taken = 3;
        }
        for (const char *c = number; *c; c++, used++)
            if (used + 1 < size)
                buffer[used] = *c;
        pattern += taken;
    }
    if (size)
        buffer[used < size ? used : size - 1] = '\0';
    return used;
}
