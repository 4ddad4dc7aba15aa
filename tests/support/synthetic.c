/* Random checkpoints, written through the library's own writer. A value is a pure function of tensor and place, so the
 * bytes do not depend on threads.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "support/synthetic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/checkpoint.h>

#include "base/pool.h"
#include "base/random.h"
#include "base/status.h"

enum { BLOCK = 1 << 19, MOST = 200000 }; /* values of a work item */

typedef struct synthetic {
    ht_output_tensor *tensor;
    size_t count;
    ht_checkpoint_writer *writer;
    size_t current;
    uint64_t values;
} synthetic;

static void add(synthetic *s, const char *name, size_t rows, size_t cols) {
    ht_output_tensor *tensor = &s->tensor[s->count++];
    *tensor = (ht_output_tensor){.name = strdup(name), .dtype = HT_BF16, .rank = rows ? 2 : 1};
    tensor->shape[0] = rows ? rows : cols;
    tensor->shape[1] = rows ? cols : 0;
}

static void add_layer(synthetic *s, size_t layer, size_t hidden, size_t experts) {
    static const char *const mlp[] = {"gate_proj", "up_proj", "down_proj"};
    char name[128];
    size_t wide = hidden / 4 * 11, kv = hidden / 4;
    const struct {
        const char *tail;
        size_t rows, cols;
    } own[] = {{"input_layernorm", 0, hidden},       {"post_attention_layernorm", 0, hidden},
               {"self_attn.q_proj", hidden, hidden}, {"self_attn.k_proj", kv, hidden},
               {"self_attn.v_proj", kv, hidden},     {"self_attn.o_proj", hidden, hidden}};
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        snprintf(name, sizeof name, "model.layers.%zu.%s.weight", layer, own[i].tail);
        add(s, name, own[i].rows, own[i].cols);
    }
    if (experts) {
        snprintf(name, sizeof name, "model.layers.%zu.self_attn.q_norm.weight", layer);
        add(s, name, 0, 64);
        snprintf(name, sizeof name, "model.layers.%zu.self_attn.k_norm.weight", layer);
        add(s, name, 0, 64);
        snprintf(name, sizeof name, "model.layers.%zu.mlp.gate.weight", layer);
        add(s, name, experts, hidden);
    }
    for (size_t e = 0; e < (experts ? experts : 1); e++)
        for (size_t i = 0; i < 3; i++) {
            size_t width = experts ? hidden / 2 : wide;
            if (experts)
                snprintf(name, sizeof name, "model.layers.%zu.mlp.experts.%zu.%s.weight", layer, e, mlp[i]);
            else
                snprintf(name, sizeof name, "model.layers.%zu.mlp.%s.weight", layer, mlp[i]);
            add(s, name, i < 2 ? width : hidden, i < 2 ? hidden : width);
        }
}

static uint64_t total_bytes(const synthetic *s) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < s->count; i++)
        bytes += 2 * (uint64_t)s->tensor[i].shape[0] * (s->tensor[i].rank == 2 ? s->tensor[i].shape[1] : 1);
    return bytes;
}

static uint16_t to_bf16(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return (uint16_t)((bits + 0x8000) >> 16);
}

static ht_status fill(void *arg, size_t index, size_t worker) {
    (void)worker;
    synthetic *s = arg;
    uint64_t first = (uint64_t)index * BLOCK, count = s->values - first < BLOCK ? s->values - first : BLOCK;
    uint16_t *out = malloc(count * 2 + 16);
    if (!out)
        return ht_fail(HT_ERR_MEMORY, "synthetic: no memory");
    size_t cols = s->tensor[s->current].rank == 2 ? s->tensor[s->current].shape[1] : s->values;
    for (uint64_t i = 0; i < count; i += 4) {
        uint32_t bits[4];
        ht_philox(1, s->current, (first + i) / 4, bits);
        float scale = 0.02f / 65536.0f * (1.0f + (float)((first + i) / cols % 7));
        for (size_t j = 0; j < 4; j++) {
            float x = scale * (float)((int)(bits[j] & 0xffff) + (int)(bits[j] >> 16) - 65536);
            out[i + j] = to_bf16(bits[j] % 8191 == 0 ? 20 * x : x);
        }
    }
    ht_status status = ht_checkpoint_writer_write(s->writer, s->current, first * 2, out, count * 2);
    free(out);
    return status;
}

static ht_status write_tensors(ht_context *ctx, synthetic *s) {
    for (s->current = 0; s->current < s->count; s->current++) {
        const ht_output_tensor *tensor = &s->tensor[s->current];
        s->values = (uint64_t)tensor->shape[0] * (tensor->rank == 2 ? tensor->shape[1] : 1);
        HT_TRY(ht_parallel_for(ctx, (size_t)((s->values + BLOCK - 1) / BLOCK), fill, s));
        HT_TRY(ht_checkpoint_writer_done(s->writer, s->current));
    }
    return HT_OK;
}

static ht_status write_config(synthetic *s, size_t hidden, size_t layers, size_t experts) {
    char config[1024];
    int bytes = snprintf(config, sizeof config,
                         "{\"architectures\": [\"%s\"], \"model_type\": \"%s\", \"dtype\": \"bfloat16\",\n"
                         " \"hidden_size\": %zu, \"intermediate_size\": %zu, \"moe_intermediate_size\": %zu,\n"
                         " \"num_hidden_layers\": %zu, \"num_attention_heads\": %zu, \"num_key_value_heads\": %zu,\n"
                         " \"head_dim\": 64, \"vocab_size\": 1024, \"num_experts\": %zu, \"num_experts_per_tok\": 2,\n"
                         " \"rms_norm_eps\": 1e-5, \"rope_theta\": 10000.0, \"max_position_embeddings\": 2048,\n"
                         " \"hidden_act\": \"silu\", \"tie_word_embeddings\": true}\n",
                         experts ? "Qwen3MoeForCausalLM" : "LlamaForCausalLM", experts ? "qwen3_moe" : "llama", hidden,
                         hidden / 4 * 11, hidden / 2, layers, hidden / 64, hidden / 256, experts);
    return ht_checkpoint_writer_file(s->writer, "config.json", config, (size_t)bytes);
}

ht_status synthetic_checkpoint(ht_context *ctx, const char *directory, const synthetic_options *options) {
    size_t hidden = options->hidden ? options->hidden : options->bytes >= 1000000000u ? 2048 : 512;
    synthetic s = {.tensor = calloc(MOST, sizeof *s.tensor)};
    if (!s.tensor)
        return ht_fail(HT_ERR_MEMORY, "synthetic: no memory");
    size_t layers = 0;
    add(&s, "model.embed_tokens.weight", 1024, hidden);
    add(&s, "model.norm.weight", 0, hidden);
    do
        add_layer(&s, layers++, hidden, options->experts);
    while (total_bytes(&s) < options->bytes && s.count < MOST / 2);
    static const char *const metadata[] = {"format", "pt", NULL};
    ht_writer_options how = {.shard_bytes = options->shard_bytes, .metadata = metadata};
    ht_status status = ht_checkpoint_writer_create(ctx, directory, s.tensor, s.count, &how, &s.writer);
    if (status == HT_OK)
        status = write_tensors(ctx, &s);
    if (status == HT_OK)
        status = write_config(&s, hidden, layers, options->experts);
    if (status == HT_OK)
        status = ht_checkpoint_writer_commit(s.writer);
    ht_checkpoint_writer_destroy(s.writer);
    for (size_t i = 0; i < s.count; i++)
        free((void *)(uintptr_t)s.tensor[i].name);
    free(s.tensor);
    return status;
}
