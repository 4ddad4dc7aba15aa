/* Classes of parameters by name and shape; fused groups.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/classify.h"

#include <string.h>

#include "support/check.h"

static const struct {
    const char *name;
    unsigned rank;
    int routes;
    ht_class class;
} cases[] = {
    {"model.layers.0.self_attn.q_proj.weight", 2, 0, HT_CLASS_LINEAR},
    {"model.layers.0.self_attn.qkv_proj.weight", 2, 0, HT_CLASS_LINEAR},
    {"model.layers.11.mlp.gate_up_proj.weight", 2, 0, HT_CLASS_LINEAR},
    {"model.layers.0.mlp.gate_proj.weight", 2, 1, HT_CLASS_LINEAR},
    {"transformer.h.3.attn.c_attn.weight", 2, 0, HT_CLASS_LINEAR},
    {"backbone.layers.4.mixer.in_proj.weight", 2, 0, HT_CLASS_LINEAR},
    {"model.layers.0.self_attn.q_proj.bias", 1, 0, HT_CLASS_BIAS},
    {"model.layers.0.mlp.experts.gate_up_proj_bias", 2, 0, HT_CLASS_BIAS},
    {"model.layers.0.mlp.gate.e_score_correction_bias", 1, 1, HT_CLASS_BIAS},
    {"model.layers.0.input_layernorm.weight", 1, 0, HT_CLASS_NORM},
    {"model.layers.0.self_attn.q_norm.weight", 1, 0, HT_CLASS_NORM},
    {"model.norm.weight", 1, 0, HT_CLASS_NORM},
    {"transformer.h.0.ln_1.weight", 1, 0, HT_CLASS_NORM},
    {"model.layers.0.self_attn.sinks", 1, 0, HT_CLASS_OTHER},
    {"backbone.layers.4.mixer.A_log", 1, 0, HT_CLASS_OTHER},
    {"model.embed_tokens.weight", 2, 0, HT_CLASS_EMBEDDING},
    {"transformer.wte.weight", 2, 0, HT_CLASS_EMBEDDING},
    {"lm_head.weight", 2, 0, HT_CLASS_LM_HEAD},
    {"language_model.lm_head.weight", 2, 0, HT_CLASS_LM_HEAD},
    {"output.weight", 2, 0, HT_CLASS_LM_HEAD},
    {"score.weight", 2, 0, HT_CLASS_LM_HEAD},
    {"model.layers.0.mlp.gate.weight", 2, 1, HT_CLASS_ROUTER},
    {"model.layers.0.mlp.gate.weight", 2, 0, HT_CLASS_LINEAR},
    {"model.layers.0.block_sparse_moe.gate.weight", 2, 1, HT_CLASS_ROUTER},
    {"model.layers.0.mlp.router.weight", 2, 1, HT_CLASS_ROUTER},
    {"model.layers.0.mlp.shared_expert_gate.weight", 2, 0, HT_CLASS_ROUTER},
    {"model.layers.0.mlp.experts.3.down_proj.weight", 2, 0, HT_CLASS_EXPERT},
    {"model.layers.0.block_sparse_moe.experts.0.w1.weight", 2, 0, HT_CLASS_EXPERT},
    {"model.layers.0.mlp.experts.gate_up_proj", 3, 0, HT_CLASS_EXPERT},
    {"model.layers.0.mlp.shared_expert.up_proj.weight", 2, 0, HT_CLASS_LINEAR},
    {"backbone.layers.4.mixer.conv1d.weight", 3, 0, HT_CLASS_CONVOLUTION},
    {"vision_tower.encoder.layers.0.self_attn.q_proj.weight", 2, 0, HT_CLASS_TOWER},
    {"visual.blocks.0.attn.qkv.weight", 2, 0, HT_CLASS_TOWER},
    {"multi_modal_projector.linear_1.weight", 2, 0, HT_CLASS_TOWER},
    {"model.layers.0.strange", 2, 0, HT_CLASS_OTHER},
    {"projection.weight", 2, 0, HT_CLASS_OTHER},
    {"model.layers.0.cube.weight", 3, 0, HT_CLASS_OTHER},
    {"", 2, 0, HT_CLASS_OTHER},
    {".", 2, 0, HT_CLASS_OTHER},
    {"..weight", 2, 0, HT_CLASS_OTHER},
};

static void test_names(void) {
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!CHECK_INT(ht_classify_name(cases[i].name, cases[i].rank, cases[i].routes), cases[i].class))
            check_text(cases[i].name, "(the name above)", __FILE__, __LINE__, "name");
}

static void test_words(void) {
    CHECK_INT(ht_class_word("linear"), 1 << HT_CLASS_LINEAR | 1 << HT_CLASS_EXPERT);
    CHECK_INT(ht_class_word("expert"), 1 << HT_CLASS_EXPERT);
    CHECK_INT(ht_class_word("Linear"), 0);
    CHECK_INT(ht_class_word("lm_head.weight"), 0);
    for (size_t i = 0; ht_class_word_at(i); i++)
        CHECK(ht_class_word(ht_class_word_at(i)) != 0);
    for (int i = 0; i < HT_CLASS_COUNT; i++)
        CHECK_INT(*ht_class_reason((ht_class)i) == '\0', i == HT_CLASS_LINEAR || i == HT_CLASS_EXPERT);
}

static void check_same_group(const char *a, const char *b, int same) {
    char x[128] = "", y[128] = "-";
    int in = ht_fused_key(a, x, sizeof x);
    CHECK(in && ht_fused_key(b, y, sizeof y) == 1);
    CHECK_INT(strcmp(x, y) == 0, same);
}

static void test_groups(void) {
    check_same_group("model.layers.0.self_attn.q_proj.weight", "model.layers.0.self_attn.v_proj.weight", 1);
    check_same_group("model.layers.0.self_attn.q_proj.weight", "model.layers.1.self_attn.v_proj.weight", 0);
    check_same_group("model.layers.0.mlp.gate_proj.weight", "model.layers.0.mlp.up_proj.weight", 1);
    check_same_group("a.experts.0.w1.weight", "a.experts.0.w3.weight", 1);
    check_same_group("a.experts.0.w1.weight", "a.experts.1.w3.weight", 0);
    char key[128];
    CHECK(!ht_fused_key("model.layers.0.self_attn.o_proj.weight", key, sizeof key));
    CHECK(!ht_fused_key("model.layers.0.self_attn.q_proj.bias", key, sizeof key));
    CHECK(!ht_fused_key("model.layers.0.self_attn.q_proj.weight", key, 8));
    CHECK(ht_experts_key("model.layers.0.mlp.experts.3.down_proj.weight", key, sizeof key));
    CHECK_TEXT(key, "model.layers.0.mlp.experts");
}

int main(void) {
    RUN(test_names);
    RUN(test_words);
    RUN(test_groups);
    return check_finish();
}
