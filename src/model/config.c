/* config.json of a decoder to numbers.
 *
 * Keys are rows of tables: their spellings over the years (num_local_experts, num_experts), where the value goes, its
 * range. A key that is null counts as missing. Keys that would change results if set, and are not implemented, are rows
 * too and refused when set. Everything else in the file is ignored.
 * Rotary positions are read in rope_config.c.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "model/config.h"

#include <math.h>   /* sqrt */
#include <stdlib.h> /* free */
#include <string.h> /* strcmp, memset, memcpy */

#include "base/status.h"
#include "io/json.h"
#include "model/rope_config.h"

enum { SPELLINGS = 3 };

static const json_t *lookup(const json_t *config, const char *const *names) {
    for (size_t i = 0; i < SPELLINGS && names[i]; i++) {
        const json_t *value = json_object_get(config, names[i]);
        if (value && !json_is_null(value))
            return value;
    }
    return NULL;
}

ht_status ht_config_refuse(const char *label, const char *key, const json_t *value) {
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    ht_status status =
        ht_fail(HT_ERR_UNSUPPORTED, "%s: %s is %.80s, which is not implemented", label, key, text ? text : "something");
    free(text);
    return status;
}

ht_status ht_config_malformed(const char *label, const char *key, const json_t *value, const char *wanted) {
    char *text = value ? json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT) : NULL;
    ht_status status = text ? ht_fail(HT_ERR_CORRUPT, "%s: %s is %.80s, %s is needed", label, key, text, wanted)
                            : ht_fail(HT_ERR_CORRUPT, "%s: %s is missing, %s is needed", label, key, wanted);
    free(text);
    return status;
}

/* --- sizes ------------------------------------------------------------------------------------------------- */

static const struct size_key {
    const char *name[SPELLINGS];
    size_t offset;
    json_int_t most;
    int required;
} SIZES[] = {
    {{"vocab_size"}, offsetof(ht_decoder_config, vocabulary), 1 << 28, 1},
    {{"hidden_size"}, offsetof(ht_decoder_config, hidden), 1 << 20, 1},
    {{"num_hidden_layers"}, offsetof(ht_decoder_config, layers), 1 << 14, 1},
    {{"num_attention_heads"}, offsetof(ht_decoder_config, heads), 1 << 14, 1},
    {{"num_key_value_heads"}, offsetof(ht_decoder_config, kv_heads), 1 << 14, 0},
    {{"head_dim"}, offsetof(ht_decoder_config, head_dim), 1 << 14, 0},
    {{"intermediate_size"}, offsetof(ht_decoder_config, intermediate), 1 << 24, 1},
    {{"max_position_embeddings"}, offsetof(ht_decoder_config, context), 1 << 30, 0},
    {{"num_experts", "num_local_experts"}, offsetof(ht_decoder_config, experts), 1 << 14, 0},
    {{"num_experts_per_tok", "num_experts_per_token"}, offsetof(ht_decoder_config, experts_per_token), 1 << 14, 0},
    {{"moe_intermediate_size"}, offsetof(ht_decoder_config, expert_intermediate), 1 << 24, 0},
};

static ht_status read_sizes(const char *label, const json_t *config, ht_decoder_config *out) {
    for (size_t i = 0; i < sizeof SIZES / sizeof *SIZES; i++) {
        const json_t *value = lookup(config, SIZES[i].name);
        if (!value && !SIZES[i].required)
            continue;
        if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > SIZES[i].most)
            return ht_config_malformed(label, SIZES[i].name[0], value, "a whole number of sensible size");
        *(size_t *)((char *)out + SIZES[i].offset) = (size_t)json_integer_value(value);
    }
    return HT_OK;
}

static ht_status complete_sizes(const char *label, ht_decoder_config *c) {
    const ht_architecture *architecture = c->architecture;
    if (!c->kv_heads)
        c->kv_heads = c->heads;
    if (!c->head_dim)
        c->head_dim = architecture->head_dim ? architecture->head_dim : c->hidden / c->heads;
    if (!c->head_dim || c->heads % c->kv_heads)
        return ht_fail(HT_ERR_CORRUPT, "%s: %zu heads do not fit %zu key-value heads and hidden size %zu", label,
                       c->heads, c->kv_heads, c->hidden);
    if (architecture->router == HT_ROUTER_NONE) {
        c->experts = 0;
        return HT_OK;
    }
    if (!c->experts || !c->experts_per_token || c->experts_per_token > c->experts)
        return ht_fail(HT_ERR_CORRUPT, "%s: %zu experts of which %zu per token: both are needed, the second no larger",
                       label, c->experts, c->experts_per_token);
    if (!c->expert_intermediate)
        c->expert_intermediate = c->intermediate;
    return HT_OK;
}

/* --- numbers and switches ------------------------------------------------------------------------------------ */

ht_status ht_config_real(const char *label, const json_t *config, const char *key, double fallback, double *out) {
    const json_t *value = json_object_get(config, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return HT_OK;
    double number = json_number_value(value);
    if (!json_is_number(value) || !(number > 0) || !(number < 1e12))
        return ht_config_malformed(label, key, value, "a positive number");
    *out = number;
    return HT_OK;
}

ht_status ht_config_flag(const char *label, const json_t *config, const char *key, int fallback, int *out) {
    const json_t *value = json_object_get(config, key);
    *out = fallback;
    if (!value || json_is_null(value))
        return HT_OK;
    if (!json_is_boolean(value))
        return ht_config_malformed(label, key, value, "true or false");
    *out = json_is_true(value);
    return HT_OK;
}

/* A cap that is missing has the family's default; null means none. */
static ht_status read_cap(const char *label, const json_t *config, const char *key, double fallback, double *out) {
    const json_t *value = json_object_get(config, key);
    return ht_config_real(label, config, key, value ? 0 : fallback, out);
}

static ht_status read_numbers(const char *label, const json_t *config, ht_decoder_config *c) {
    const ht_architecture *architecture = c->architecture;
    double scalar = (double)c->head_dim, alpha = 0, limit = 0;
    HT_TRY(ht_config_real(label, config, "rms_norm_eps", 0, &c->norm_epsilon));
    if (c->norm_epsilon == 0)
        return ht_config_malformed(label, "rms_norm_eps", NULL, "a positive number");
    if (architecture->query_scalar)
        HT_TRY(ht_config_real(label, config, "query_pre_attn_scalar", 256, &scalar));
    c->attention_scale = 1 / sqrt(scalar);
    c->embedding_scale = architecture->scaled_embedding ? sqrt((double)c->hidden) : 1;
    if (architecture->soft_caps) {
        HT_TRY(read_cap(label, config, "attn_logit_softcapping", 50, &c->attention_cap));
        HT_TRY(read_cap(label, config, "final_logit_softcapping", 30, &c->final_cap));
    }
    if (architecture->clip_qkv)
        HT_TRY(ht_config_real(label, config, "clip_qkv", 0, &c->clip_qkv));
    if (architecture->clamped_gate) {
        HT_TRY(ht_config_real(label, config, "swiglu_alpha", 1.702, &alpha));
        HT_TRY(ht_config_real(label, config, "swiglu_limit", 7, &limit));
        c->gate = (ht_gate_function){HT_GATE_CLAMPED, (float)alpha, (float)limit};
    }
    HT_TRY(ht_config_flag(label, config, "tie_word_embeddings", architecture->tied, &c->tied));
    HT_TRY(ht_config_flag(label, config, "attention_bias", 0, &c->attention_bias));
    HT_TRY(ht_config_flag(label, config, "mlp_bias", 0, &c->mlp_bias));
    HT_TRY(ht_config_flag(label, config, "norm_topk_prob", 0, &c->normalize_experts));
    c->normalize_experts |= architecture->renormalize;
    return HT_OK;
}

static const struct {
    const char *name;
    ht_gate_rule rule;
} ACTIVATIONS[] = {{"silu", HT_GATE_SILU},
                   {"swish", HT_GATE_SILU},
                   {"gelu_pytorch_tanh", HT_GATE_GELU_TANH},
                   {"gelu_new", HT_GATE_GELU_TANH}};

static ht_status read_activation(const char *label, const json_t *config, ht_decoder_config *c) {
    const char *key = c->architecture->gelu ? "hidden_activation" : "hidden_act";
    const json_t *value = json_object_get(config, key);
    const char *name = c->architecture->gelu ? "gelu_pytorch_tanh" : "silu";
    if (value && !json_is_null(value)) {
        if (!json_is_string(value))
            return ht_config_malformed(label, key, value, "a name");
        name = json_string_value(value);
    }
    for (size_t i = 0; i < sizeof ACTIVATIONS / sizeof *ACTIVATIONS; i++)
        if (strcmp(name, ACTIVATIONS[i].name) == 0) {
            if (c->architecture->clamped_gate)
                return ACTIVATIONS[i].rule == HT_GATE_SILU ? HT_OK : ht_config_refuse(label, key, value);
            c->gate.rule = ACTIVATIONS[i].rule;
            return HT_OK;
        }
    return ht_config_refuse(label, key, value);
}

/* Keys of other families that would change results. `harmless`: the value that does not, besides null. */
static const struct {
    const char *key;
    enum { HARMLESS_FALSE, HARMLESS_ONE, HARMLESS_EMPTY, HARMLESS_ROPE } harmless;
} REFUSED[] = {
    {"use_bidirectional_attention", HARMLESS_FALSE},
    {"rope_interleaved", HARMLESS_FALSE},
    {"rope_interleave", HARMLESS_FALSE},
    {"alibi", HARMLESS_FALSE},
    {"use_qk_norm", HARMLESS_FALSE},
    {"parallel_residual", HARMLESS_FALSE},
    {"use_parallel_residual", HARMLESS_FALSE},
    {"position_embedding_type", HARMLESS_ROPE},
    {"no_rope_layers", HARMLESS_EMPTY},
    {"embedding_multiplier", HARMLESS_ONE},
    {"residual_multiplier", HARMLESS_ONE},
    {"logits_scaling", HARMLESS_ONE},
    {"logit_scale", HARMLESS_ONE},
    {"num_shared_experts", HARMLESS_EMPTY},
    {"n_shared_experts", HARMLESS_EMPTY},
    {"shared_expert_intermediate_size", HARMLESS_EMPTY},
};

static int is_harmless(const json_t *value, int harmless) {
    if (!value || json_is_null(value))
        return 1;
    if (harmless == HARMLESS_FALSE)
        return json_is_false(value);
    if (harmless == HARMLESS_ONE)
        return json_is_number(value) && json_number_value(value) == 1;
    if (harmless == HARMLESS_ROPE)
        return json_is_string(value) &&
               (strcmp(json_string_value(value), "rope") == 0 || strcmp(json_string_value(value), "rotary") == 0);
    return (json_is_array(value) && json_array_size(value) == 0) ||
           (json_is_number(value) && json_number_value(value) == 0);
}

static ht_status refuse_unimplemented(const char *label, const json_t *config) {
    for (size_t i = 0; i < sizeof REFUSED / sizeof *REFUSED; i++) {
        const json_t *value = json_object_get(config, REFUSED[i].key);
        if (!is_harmless(value, REFUSED[i].harmless))
            return ht_config_refuse(label, REFUSED[i].key, value);
    }
    return HT_OK;
}

/* --- layers ------------------------------------------------------------------------------------------------ */

static int windowed_by_rule(const ht_decoder_config *c, size_t layer, size_t first) {
    switch (c->architecture->window) {
    case HT_WINDOW_NEVER:
        return 0;
    case HT_WINDOW_ALL:
    case HT_WINDOW_USED:
        return 1;
    case HT_WINDOW_UPPER:
        return layer >= first;
    case HT_WINDOW_EVEN:
        return layer % 2 == 0;
    }
    return 0;
}

static ht_status read_window_size(const char *label, const json_t *config, const ht_decoder_config *c, size_t *window,
                                  size_t *first) {
    ht_window_rule rule = c->architecture->window;
    const json_t *value = json_object_get(config, "sliding_window");
    int used = 1;
    if (rule == HT_WINDOW_USED || rule == HT_WINDOW_UPPER)
        HT_TRY(ht_config_flag(label, config, "use_sliding_window", 0, &used));
    *window = value ? 0 : c->architecture->window_size;
    if (value && !json_is_null(value)) {
        if (!json_is_integer(value) || json_integer_value(value) < 1)
            return ht_config_malformed(label, "sliding_window", value, "a positive number of positions");
        *window = (size_t)json_integer_value(value);
    }
    if (!used || rule == HT_WINDOW_NEVER)
        *window = 0;
    const json_t *upper = json_object_get(config, "max_window_layers");
    *first = json_is_integer(upper) && json_integer_value(upper) >= 0 ? (size_t)json_integer_value(upper) : 28;
    return HT_OK;
}

static ht_status read_windows(const char *label, const json_t *config, ht_arena *arena, ht_decoder_config *c) {
    size_t window = 0, first = 0;
    HT_TRY(read_window_size(label, config, c, &window, &first));
    c->window = ht_arena_alloc(arena, c->layers * sizeof *c->window);
    if (!c->window)
        return HT_ERR_MEMORY;
    const json_t *types = json_object_get(config, "layer_types");
    if (types && !json_is_null(types) && (!json_is_array(types) || json_array_size(types) < c->layers))
        return ht_config_malformed(label, "layer_types", types, "one name per layer");
    for (size_t layer = 0; layer < c->layers; layer++) {
        int windowed = windowed_by_rule(c, layer, first);
        if (json_is_array(types)) {
            const json_t *type = json_array_get(types, layer);
            const char *name = json_string_value(type);
            windowed = name && strcmp(name, "sliding_attention") == 0;
            if (!windowed && (!name || strcmp(name, "full_attention") != 0))
                return ht_config_refuse(label, "layer_types", type);
        }
        c->window[layer] = windowed ? window : 0;
    }
    return HT_OK;
}

static ht_status read_sparse(const char *label, const json_t *config, ht_arena *arena, ht_decoder_config *c) {
    c->sparse = ht_arena_alloc(arena, c->layers);
    if (!c->sparse)
        return HT_ERR_MEMORY;
    memset(c->sparse, c->architecture->router != HT_ROUTER_NONE, c->layers);
    if (!c->architecture->dense_layers)
        return HT_OK;
    json_int_t step = ht_json_integer(config, "decoder_sparse_step", 1);
    if (step < 1)
        return ht_config_malformed(label, "decoder_sparse_step", json_object_get(config, "decoder_sparse_step"),
                                   "a positive number");
    for (size_t layer = 0; layer < c->layers; layer++)
        c->sparse[layer] = (layer + 1) % (size_t)step == 0;
    const json_t *dense = json_object_get(config, "mlp_only_layers"), *entry;
    size_t i;
    json_array_foreach(dense, i, entry) {
        json_int_t layer = json_integer_value(entry);
        if (json_is_integer(entry) && layer >= 0 && (size_t)layer < c->layers)
            c->sparse[layer] = 0;
    }
    return HT_OK;
}

/* --- end-of-text ids ----------------------------------------------------------------------------------------- */

static void read_eos(const json_t *config, ht_decoder_config *c) {
    const json_t *value = json_object_get(config, "eos_token_id"), *entry;
    size_t i, count = 0;
    int32_t ids[HT_MAX_EOS];
    if (json_is_integer(value))
        ids[count++] = (int32_t)json_integer_value(value);
    json_array_foreach(value, i, entry) {
        if (json_is_integer(entry) && count < HT_MAX_EOS)
            ids[count++] = (int32_t)json_integer_value(entry);
    }
    if (count) {
        memcpy(c->eos, ids, count * sizeof *ids);
        c->eos_count = count;
    }
}

ht_status ht_decoder_config_generation(const char *label, const char *text, size_t bytes, ht_decoder_config *config) {
    json_t *tree;
    HT_TRY(ht_json_parse(label, "generation config", text, bytes, &tree));
    read_eos(tree, config);
    json_decref(tree);
    return HT_OK;
}

/* --- the whole --------------------------------------------------------------------------------------------- */

static ht_status find_architecture(const char *label, const json_t *config, const ht_architecture **out) {
    const json_t *names = json_object_get(config, "architectures");
    const char *name = json_string_value(json_array_get(names, 0)), *type = ht_json_string(config, "model_type");
    *out = ht_architecture_find(name, type);
    if (*out)
        return HT_OK;
    char known[512];
    ht_architecture_names(known, sizeof known);
    return ht_fail(HT_ERR_UNSUPPORTED, "%s: architecture \"%.80s\" is unknown; known: %s", label,
                   name   ? name
                   : type ? type
                          : "",
                   known);
}

static ht_status read_tree(const char *label, const json_t *tree, ht_arena *arena, ht_decoder_config *c) {
    if (!json_is_object(tree))
        return ht_fail(HT_ERR_CORRUPT, "%s: not an object", label);
    HT_TRY(find_architecture(label, tree, &c->architecture));
    HT_TRY(refuse_unimplemented(label, tree));
    HT_TRY(read_sizes(label, tree, c));
    HT_TRY(complete_sizes(label, c));
    HT_TRY(read_numbers(label, tree, c));
    HT_TRY(read_activation(label, tree, c));
    HT_TRY(read_windows(label, tree, arena, c));
    HT_TRY(read_sparse(label, tree, arena, c));
    HT_TRY(ht_rope_config_read(label, tree, arena, c));
    read_eos(tree, c);
    return HT_OK;
}

ht_status ht_decoder_config_parse(const char *label, const char *text, size_t bytes, ht_arena *arena,
                                  ht_decoder_config *out) {
    memset(out, 0, sizeof *out);
    json_t *tree;
    HT_TRY(ht_json_parse(label, "config", text, bytes, &tree));
    ht_status status = read_tree(label, tree, arena, out);
    json_decref(tree);
    return status;
}
