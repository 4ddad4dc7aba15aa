/* config.json to numbers: spellings old and new, defaults of the families, and what is refused. Rotary frequencies of
 * every variant. Loading: missing tensors, wrong shapes, tensors without a place. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <halftone/model.h>
#include <halftone/recipe.h>

#include "base/memory.h"
#include "model/config.h"
#include "model/rope.h"
#include "support/check.h"

static ht_context *ctx;
static ht_arena arena;
static ht_decoder_config config;

#define SIZES                                                                                                          \
    "\"vocab_size\": 320, \"hidden_size\": 64, \"num_hidden_layers\": 4, \"num_attention_heads\": 4, "                 \
    "\"intermediate_size\": 96, \"rms_norm_eps\": 1e-5"

/* {"architectures": [name], sizes, more} */
static ht_status parse(const char *name, const char *more) {
    char text[2048];
    snprintf(text, sizeof text, "{\"architectures\": [\"%s\"], " SIZES "%s%s}", name, *more ? ", " : "", more);
    return ht_decoder_config_parse("c.json", text, strlen(text), &arena, &config);
}

static void test_defaults(void) {
    REQUIRE_OK(parse("LlamaForCausalLM", ""));
    CHECK_INT(config.kv_heads, 4);
    CHECK_INT(config.head_dim, 16);
    CHECK_INT(config.rotary, 16);
    CHECK(config.rope.kind == HT_ROPE_DEFAULT && config.rope.theta == 10000);
    CHECK(!config.tied && !config.attention_bias && config.gate.rule == HT_GATE_SILU && config.window[3] == 0);
    CHECK_NEAR(config.attention_scale, 0.25, 1e-12);
    REQUIRE_OK(parse("Gemma2ForCausalLM", "\"head_dim\": 32, \"query_pre_attn_scalar\": 64"));
    CHECK(config.tied && config.attention_cap == 50 && config.final_cap == 30 && config.embedding_scale == 8);
    CHECK(config.gate.rule == HT_GATE_GELU_TANH && config.window[0] == 4096 && config.window[1] == 0);
    CHECK_NEAR(config.attention_scale, 0.125, 1e-12);
    REQUIRE_OK(parse("Gemma2ForCausalLM", "\"attn_logit_softcapping\": null"));
    CHECK(config.attention_cap == 0 && config.head_dim == 256);
    REQUIRE_OK(parse("GptOssForCausalLM", "\"num_local_experts\": 4, \"num_experts_per_tok\": 2"));
    CHECK(config.gate.rule == HT_GATE_CLAMPED && config.gate.limit == 7.0f && config.window[2] == 128);
    CHECK_INT(config.expert_intermediate, 96);
}

static void test_spellings(void) {
    REQUIRE_OK(parse("LlamaForCausalLM",
                     "\"rope_theta\": 5e5, \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": 8, "
                     "\"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                     "\"original_max_position_embeddings\": 8192}, \"head_dim\": null"));
    ht_rope_config old = config.rope;
    REQUIRE_OK(parse("LlamaForCausalLM", "\"rope_parameters\": {\"rope_type\": \"llama3\", \"rope_theta\": 500000.0, "
                                         "\"factor\": 8.0, \"low_freq_factor\": 1, \"high_freq_factor\": 4, "
                                         "\"original_max_position_embeddings\": 8192}"));
    CHECK(old.kind == HT_ROPE_LLAMA3 && old.kind == config.rope.kind && old.theta == config.rope.theta);
    CHECK(old.factor == config.rope.factor && old.original_context == config.rope.original_context);
    REQUIRE_OK(parse("Qwen3MoeForCausalLM",
                     "\"num_experts\": 8, \"num_experts_per_tok\": 2, \"moe_intermediate_size\": 48, "
                     "\"decoder_sparse_step\": 2, \"mlp_only_layers\": [3]"));
    CHECK_INT(config.experts, 8);
    CHECK(!config.sparse[0] && config.sparse[1] && !config.sparse[2] && !config.sparse[3]);
    REQUIRE_OK(parse("MixtralForCausalLM", "\"num_local_experts\": 8, \"num_experts_per_tok\": 2"));
    CHECK(config.experts == 8 && config.normalize_experts && config.rope.theta == 1e6);
    REQUIRE_OK(parse("Phi3ForCausalLM", "\"partial_rotary_factor\": 0.75, \"eos_token_id\": [7, 9]"));
    CHECK(config.rotary == 12 && config.eos_count == 2 && config.eos[1] == 9);
    REQUIRE_OK(ht_decoder_config_generation("g", "{\"eos_token_id\": 5}", 19, &config));
    CHECK(config.eos_count == 1 && config.eos[0] == 5);
    char text[512];
    snprintf(text, sizeof text, "{\"model_type\": \"qwen2\", " SIZES "}");
    CHECK_OK(ht_decoder_config_parse("c", text, strlen(text), &arena, &config));
}

static void test_windows(void) {
    REQUIRE_OK(parse("MistralForCausalLM", "\"sliding_window\": 8"));
    CHECK(config.window[0] == 8 && config.window[3] == 8);
    REQUIRE_OK(parse("Qwen2ForCausalLM", "\"sliding_window\": 8, \"max_window_layers\": 2"));
    CHECK(config.window[3] == 0);
    REQUIRE_OK(
        parse("Qwen2ForCausalLM", "\"sliding_window\": 8, \"max_window_layers\": 2, \"use_sliding_window\": true"));
    CHECK(config.window[1] == 0 && config.window[2] == 8);
    REQUIRE_OK(parse("MistralForCausalLM", "\"sliding_window\": 8, \"layer_types\": [\"full_attention\", "
                                           "\"sliding_attention\", \"full_attention\", \"full_attention\"]"));
    CHECK(config.window[0] == 0 && config.window[1] == 8 && config.window[3] == 0);
}

static void refuse(const char *more, ht_status want, const char *message) {
    CHECK_FAILS(parse("LlamaForCausalLM", more), want);
    CHECK_CONTAINS(ht_error_message(), message);
    CHECK_CONTAINS(ht_error_message(), "c.json");
}

static void test_refusals(void) {
    CHECK_FAILS(parse("MambaForCausalLM", ""), HT_ERR_UNSUPPORTED);
    CHECK_CONTAINS(ht_error_message(), "\"MambaForCausalLM\" is unknown; known: LlamaForCausalLM, ");
    refuse("\"hidden_act\": \"relu2\"", HT_ERR_UNSUPPORTED, "hidden_act is \"relu2\"");
    refuse("\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 2}", HT_ERR_UNSUPPORTED, "type is \"dynamic\"");
    refuse("\"use_bidirectional_attention\": true", HT_ERR_UNSUPPORTED, "use_bidirectional_attention is true");
    refuse("\"layer_types\": [\"full_attention\", \"chunked_attention\", \"full_attention\", \"full_attention\"]",
           HT_ERR_UNSUPPORTED, "chunked_attention");
    refuse("\"rope_parameters\": {\"full_attention\": {}}", HT_ERR_UNSUPPORTED, "rope_parameters");
    refuse("\"residual_multiplier\": 0.5", HT_ERR_UNSUPPORTED, "residual_multiplier is 0.5");
    refuse("\"num_key_value_heads\": 3", HT_ERR_CORRUPT, "4 heads do not fit 3");
    refuse("\"num_key_value_heads\": 1e9", HT_ERR_CORRUPT, "num_key_value_heads");
    refuse("\"head_dim\": -1", HT_ERR_CORRUPT, "head_dim is -1");
    refuse("\"head_dim\": 15", HT_ERR_CORRUPT, "15 rotated values");
    refuse("\"tie_word_embeddings\": \"yes\"", HT_ERR_CORRUPT, "true or false");
    refuse("\"rope_theta\": -1", HT_ERR_CORRUPT, "rope_theta is -1");
    refuse("\"layer_types\": [\"full_attention\"]", HT_ERR_CORRUPT, "one name per layer");
    refuse("\"rope_scaling\": {\"type\": \"longrope\", \"short_factor\": [1]}", HT_ERR_CORRUPT, "short_factor");
    static const char *const BAD[] = {"", "[]", "{}", "null", "{\"architectures\": [\"LlamaForCausalLM\"]}"};
    for (size_t i = 0; i < sizeof BAD / sizeof *BAD; i++)
        CHECK(ht_decoder_config_parse("c", BAD[i], strlen(BAD[i]), &arena, &config) != HT_OK);
    CHECK_FAILS(parse("MixtralForCausalLM", "\"num_local_experts\": 2, \"num_experts_per_tok\": 4"), HT_ERR_CORRUPT);
}

static void test_list(void) {
    size_t count = 0;
    for (; ht_architecture_list(count); count++)
        CHECK(ht_architecture_list(count)->summary[0] != '\0');
    CHECK_INT(count, 10);
    char name[32];
    CHECK_INT(ht_architecture_tensor("a.{l}.b.{e}.c", 12, 345, name, sizeof name), 12);
    CHECK_TEXT(name, "a.12.b.345.c");
    CHECK_INT(ht_architecture_tensor("a.{l}.b", 12, 0, name, 4), 6);
    CHECK_TEXT(name, "a.1");
}

/* --- rotary frequencies ---------------------------------------------------------------------------------------------
 */

static void test_frequencies(void) {
    float f[8];
    ht_rope_config rope = {.kind = HT_ROPE_DEFAULT, .theta = 10000};
    CHECK(ht_rope_frequencies(&rope, 16, 100, f) == 1);
    for (size_t i = 0; i < 8; i++)
        CHECK_NEAR((double)f[i], pow(10000, -(double)i / 8), 1e-7);
    rope = (ht_rope_config){.kind = HT_ROPE_LINEAR, .theta = 10000, .factor = 4};
    ht_rope_frequencies(&rope, 16, 100, f);
    CHECK_NEAR((double)f[0], 0.25, 1e-7);
    rope = (ht_rope_config){.kind = HT_ROPE_LLAMA3,
                            .theta = 500000,
                            .factor = 8,
                            .low_frequency = 1,
                            .high_frequency = 4,
                            .original_context = 64};
    ht_rope_frequencies(&rope, 16, 100, f);
    CHECK_NEAR((double)f[0], 1, 1e-7);                         /* fast: kept */
    CHECK_NEAR((double)f[7], pow(500000, -7.0 / 8) / 8, 1e-7); /* slow: divided */
    rope = (ht_rope_config){
        .kind = HT_ROPE_YARN, .theta = 150000, .factor = 32, .beta_fast = 32, .beta_slow = 1, .original_context = 4096};
    CHECK_NEAR((double)ht_rope_frequencies(&rope, 16, 100, f), 0.1 * log(32) + 1, 1e-6);
    CHECK_NEAR((double)f[0], 1, 1e-7);
    CHECK_NEAR((double)f[7], pow(150000, -7.0 / 8) / 32, 1e-6);
    double shorter[8], longer[8];
    for (size_t i = 0; i < 8; i++)
        shorter[i] = 1, longer[i] = 2 + (double)i;
    rope = (ht_rope_config){.kind = HT_ROPE_LONGROPE,
                            .theta = 10000,
                            .factor = 16,
                            .original_context = 64,
                            .short_factor = shorter,
                            .long_factor = longer,
                            .factors = 8};
    CHECK_NEAR((double)ht_rope_frequencies(&rope, 16, 64, f), sqrt(1 + log(16) / log(64)), 1e-6);
    CHECK_NEAR((double)f[1], pow(10000, -1.0 / 8), 1e-7);
    ht_rope_frequencies(&rope, 16, 65, f);
    CHECK_NEAR((double)f[1], pow(10000, -1.0 / 8) / 3, 1e-7);
    float cosine[16], sine[16];
    ht_rope_table(f, 8, 1, 3, 2, cosine, sine);
    CHECK_NEAR((double)cosine[9], cos(4 * (double)f[1]), 1e-6);
    CHECK_NEAR((double)sine[1], sin(3 * (double)f[1]), 1e-6);
}

/* --- loading ---------------------------------------------------------------------------------------------------------
 */

static void write_file(const char *directory, const char *name, const char *text) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    fwrite(text, 1, strlen(text), file);
    fclose(file);
}

/* tiny/llama's tensors under another config. */
static ht_status open_with(const char *architecture, const char *more) {
    char text[2048], from[1024], to[1024];
    snprintf(text, sizeof text,
             "{\"architectures\": [\"%s\"], \"num_key_value_heads\": 2, \"vocab_size\": 320, \"hidden_size\": 64, "
             "\"num_attention_heads\": 4, \"rms_norm_eps\": 1e-5, %s}",
             architecture, more);
    write_file(check_scratch(), "config.json", text);
    snprintf(from, sizeof from, "%s/model.safetensors", check_data("tiny/llama"));
    snprintf(to, sizeof to, "cp -f '%s' '%s/model.safetensors'", from, check_scratch());
    if (system(to) != 0)
        return HT_ERR_IO;
    ht_model *model;
    ht_status status = ht_model_open(ctx, check_scratch(), &model);
    ht_model_close(model);
    return status;
}

static void test_loading(void) {
    CHECK_OK(open_with("LlamaForCausalLM", "\"num_hidden_layers\": 2, \"intermediate_size\": 96"));
    CHECK_OK(open_with("LlamaForCausalLM", "\"num_hidden_layers\": 1, \"intermediate_size\": 96"));
    CHECK_FAILS(open_with("LlamaForCausalLM", "\"num_hidden_layers\": 3, \"intermediate_size\": 96"), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "tensor model.layers.2.input_layernorm.weight is missing");
    CHECK_FAILS(open_with("LlamaForCausalLM", "\"num_hidden_layers\": 2, \"intermediate_size\": 80"), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "model.safetensors: tensor model.layers.0.mlp.gate_proj.weight is 1 x [96, 64]");
    CHECK_FAILS(open_with("Qwen2ForCausalLM", "\"num_hidden_layers\": 2, \"intermediate_size\": 96"), HT_ERR_CORRUPT);
    CHECK_CONTAINS(ht_error_message(), "q_proj.bias is missing");
    ht_model *model;
    CHECK_FAILS(ht_model_open(ctx, check_data("tiny/llama/model.safetensors"), &model), HT_ERR_UNSUPPORTED);
    CHECK_FAILS(ht_model_open(ctx, "/nonexistent", &model), HT_ERR_IO);
    CHECK(model == NULL);
}

int main(void) {
    if (ht_context_create(NULL, &ctx) != HT_OK)
        return 1;
    ht_arena_init(&arena, ctx);
    RUN(test_defaults);
    RUN(test_spellings);
    RUN(test_windows);
    RUN(test_refusals);
    RUN(test_list);
    RUN(test_frequencies);
    RUN(test_loading);
    ht_arena_release(&arena);
    CHECK_INT(ht_context_memory_used(ctx) < 1 << 16, 1);
    ht_context_destroy(ctx);
    return check_finish();
}
