/* Any bytes as a recipe: parsed, and if it is one, applied to the names of a small model.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "io/checkpoint_file.h"
#include "quant/recipe/recipe_rules.h"

#define TENSOR(name) "\"" name "\":{\"dtype\":\"BF16\",\"shape\":[0,32],\"data_offsets\":[0,0]}"
static const char *const tensors[] = {
    TENSOR("lm_head.weight"),
    TENSOR("model.embed_tokens.weight"),
    TENSOR("model.layers.0.mlp.experts.0.up_proj.weight"),
    TENSOR("model.layers.0.mlp.gate.weight"),
    TENSOR("model.layers.0.self_attn.k_proj.weight"),
};
enum { PARAMETERS = sizeof tensors / sizeof *tensors };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int prepare(ht_context **ctx, ht_checkpoint **checkpoint) {
    static char file[2048];
    size_t length = 8;
    for (size_t i = 0; i < PARAMETERS; i++)
        length += (size_t)snprintf(file + length, sizeof file - length, "%c%s", i ? ',' : '{', tensors[i]);
    file[length++] = '}';
    uint64_t header = length - 8;
    memcpy(file, &header, sizeof header);
    ht_context_options options = ht_context_options_default();
    options.threads = 1;
    return ht_context_create(&options, ctx) == HT_OK &&
           ht_checkpoint_open_memory(*ctx, file, length, NULL, checkpoint) == HT_OK &&
           ht_checkpoint_parameter_count(*checkpoint) == PARAMETERS;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ht_context *ctx;
    static ht_checkpoint *checkpoint;
    if (!ctx && !prepare(&ctx, &checkpoint))
        __builtin_trap();
    size_t before = ht_context_memory_used(ctx);
    ht_recipe *recipe;
    if (ht_recipe_parse(ctx, (const char *)data, size, &recipe) == HT_OK) {
        ht_class classes[PARAMETERS];
        const ht_rule *rules[PARAMETERS];
        for (size_t i = 0; i < PARAMETERS; i++)
            classes[i] = ht_classify(checkpoint, ht_checkpoint_parameter(checkpoint, i));
        (void)ht_recipe_apply(recipe, checkpoint, classes, rules);
        ht_recipe_close(recipe);
    }
    if (ht_context_memory_used(ctx) != before)
        __builtin_trap();
    return 0;
}
