/* Classes of parameters by name and shape, so that an unknown architecture is no obstacle.
 *
 * A name is split at its dots: model.layers.3.mlp.experts.17.up_proj.weight. The parts decide, most telling first:
 * biases, norms and vectors; what is no matrix; embeddings and heads; towers of other senses; routers; experts. What is
 * left is a linear when it lies in a numbered block. A `gate` is a router only where the module beside it holds
 * experts: some dense MLPs call their gate projection that.
 *
 * Refuses nothing: what it cannot tell is HT_CLASS_OTHER, which the built-in recipes keep and a rule may still name.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/classify.h"

#include <stdio.h>   /* snprintf */
#include <string.h>  /* strcspn, strstr */
#include <strings.h> /* strncasecmp */

#include "io/targets.h"

static const char *const reasons[HT_CLASS_COUNT] = {
    [HT_CLASS_OTHER] = "not a linear of a decoder block",
    [HT_CLASS_LINEAR] = "",
    [HT_CLASS_EXPERT] = "",
    [HT_CLASS_ROUTER] = "router: its choices are sensitive and it is small",
    [HT_CLASS_EMBEDDING] = "embedding: looked up, not multiplied",
    [HT_CLASS_LM_HEAD] = "output head: sensitive",
    [HT_CLASS_NORM] = "norm: a vector",
    [HT_CLASS_BIAS] = "bias: a vector",
    [HT_CLASS_CONVOLUTION] = "convolution: readers expect it as it is",
    [HT_CLASS_TOWER] = "outside of the decoder blocks",
};

const char *ht_class_reason(ht_class class) {
    return reasons[class];
}

static const struct {
    const char *word;
    unsigned classes;
} words[] = {
    {"linear", 1u << HT_CLASS_LINEAR | 1u << HT_CLASS_EXPERT},
    {"expert", 1u << HT_CLASS_EXPERT},
    {"router", 1u << HT_CLASS_ROUTER},
    {"embedding", 1u << HT_CLASS_EMBEDDING},
    {"lm_head", 1u << HT_CLASS_LM_HEAD},
    {"norm", 1u << HT_CLASS_NORM},
};

unsigned ht_class_word(const char *word) {
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(words[i].word, word) == 0)
            return words[i].classes;
    return 0;
}

const char *ht_class_word_at(size_t index) {
    return index < sizeof words / sizeof *words ? words[index].word : NULL;
}

/* Parts of names that tell a class. A whole part, or any part that contains the text. */
typedef struct clue {
    const char *text;
    int inside; /* 1: anywhere in a part; 0: the whole part */
    ht_class class;
} clue;

static const clue vector_clues[] = {
    {"norm", 1, HT_CLASS_NORM},
    {"ln_", 1, HT_CLASS_NORM},
    {"_ln", 1, HT_CLASS_NORM},
    {"layernorm", 1, HT_CLASS_NORM},
};
static const clue matrix_clues[] = {
    {"visual", 0, HT_CLASS_TOWER},       {"vision_", 1, HT_CLASS_TOWER},
    {"audio_", 1, HT_CLASS_TOWER},       {"multi_modal_projector", 0, HT_CLASS_TOWER},
    {"mm_projector", 0, HT_CLASS_TOWER}, {"embed", 1, HT_CLASS_EMBEDDING},
    {"wte", 0, HT_CLASS_EMBEDDING},      {"wpe", 0, HT_CLASS_EMBEDDING},
    {"lm_head", 0, HT_CLASS_LM_HEAD},    {"conv", 1, HT_CLASS_CONVOLUTION},
};

static int part_fits(const char *part, size_t length, const clue *sought) {
    size_t want = strlen(sought->text);
    if (!sought->inside)
        return length == want && memcmp(part, sought->text, want) == 0;
    for (size_t i = 0; i + want <= length; i++)
        if (strncasecmp(part + i, sought->text, want) == 0)
            return 1;
    return 0;
}

/* Class of the first clue that any part of the name fits; HT_CLASS_OTHER if none. */
static ht_class ask(const clue *clues, size_t count, const char *name) {
    for (size_t i = 0; i < count; i++)
        for (const char *part = name; *part; part += part[strcspn(part, ".")] ? strcspn(part, ".") + 1 : strlen(part))
            if (part_fits(part, strcspn(part, "."), &clues[i]))
                return clues[i].class;
    return HT_CLASS_OTHER;
}

static int ends_with(const char *text, size_t length, const char *end) {
    size_t want = strlen(end);
    return length >= want && memcmp(text + length - want, end, want) == 0;
}

/* Start of the last part of the module's name. */
static const char *last_part(const char *name, size_t length) {
    const char *last = name;
    for (size_t i = 0; i < length; i++)
        if (name[i] == '.')
            last = name + i + 1;
    return last;
}

static int part_is(const char *part, size_t length, const char *text) {
    return length == strlen(text) && memcmp(part, text, length) == 0;
}

static int has_number_part(const char *name) {
    for (const char *part = name; *part;) {
        size_t length = strcspn(part, ".");
        if (length && strspn(part, "0123456789") == length)
            return 1;
        part += part[length] ? length + 1 : length;
    }
    return 0;
}

static int is_bias(const char *name) {
    size_t length = strlen(name);
    const char *last = last_part(name, length);
    return part_is(last, strlen(last), "bias") || ends_with(name, length, "_bias");
}

/* Modules that choose experts by what they are called. */
static int is_router(const char *part, size_t length, int routes) {
    return part_is(part, length, "router") || part_is(part, length, "shared_expert_gate") ||
           (routes && (part_is(part, length, "gate") || part_is(part, length, "wg")));
}

static int has_experts_part(const char *name) {
    return strncmp(name, "experts.", 8) == 0 || strstr(name, ".experts.") != NULL;
}

ht_class ht_classify_name(const char *name, unsigned rank, int routes) {
    if (is_bias(name))
        return HT_CLASS_BIAS;
    if (rank < 2)
        return ask(vector_clues, sizeof vector_clues / sizeof *vector_clues, name);
    ht_class class = ask(matrix_clues, sizeof matrix_clues / sizeof *matrix_clues, name);
    if (class != HT_CLASS_OTHER)
        return class;
    size_t length = ht_module_length(name);
    const char *last = last_part(name, length);
    size_t part = length - (size_t)(last - name);
    if (!has_number_part(name))
        return part_is(last, part, "output") || part_is(last, part, "score") ? HT_CLASS_LM_HEAD : HT_CLASS_OTHER;
    if (is_router(last, part, routes) || (strstr(name, ".router.") && rank == 2))
        return HT_CLASS_ROUTER;
    if (has_experts_part(name) && rank <= 3)
        return HT_CLASS_EXPERT;
    if (rank > 2 || length == strlen(name)) /* stacked but no experts; or a matrix that is not called weight */
        return HT_CLASS_OTHER;
    return HT_CLASS_LINEAR;
}

/* Index of the first parameter whose name is not below `name`. */
static size_t lower_bound(const ht_checkpoint *checkpoint, const char *name) {
    size_t low = 0, high = ht_checkpoint_parameter_count(checkpoint);
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(ht_checkpoint_parameter(checkpoint, middle)->name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Do parameters named <parent of the module>.experts.* exist? */
static int holds_experts(const ht_checkpoint *checkpoint, const char *name) {
    char beside[1024];
    size_t length = ht_module_length(name), parent = (size_t)(last_part(name, length) - name);
    int want = snprintf(beside, sizeof beside, "%.*sexperts.", (int)(parent < 900 ? parent : 900), name);
    size_t at = lower_bound(checkpoint, beside);
    return at < ht_checkpoint_parameter_count(checkpoint) &&
           strncmp(ht_checkpoint_parameter(checkpoint, at)->name, beside, (size_t)want) == 0;
}

ht_class ht_classify(const ht_checkpoint *checkpoint, const ht_parameter *parameter) {
    return ht_classify_name(parameter->name, parameter->rank, holds_experts(checkpoint, parameter->name));
}

/* Linears that run as one matrix: name of the group and its members. */
static const struct {
    const char *group;
    const char *member[4];
} fused[] = {
    {"q/k/v", {"q_proj", "k_proj", "v_proj"}},
    {"gate/up", {"gate_proj", "up_proj"}},
    {"w1/w3", {"w1", "w3"}},
    {"q_a/kv_a", {"q_a_proj", "kv_a_proj_with_mqa"}},
    {"q/k/v", {"wq", "wk", "wv"}},
    {"q/k/v", {"query", "key", "value"}},
};

int ht_fused_key(const char *name, char *key, size_t size) {
    size_t length = ht_module_length(name);
    if (length == strlen(name))
        return 0;
    const char *last = last_part(name, length);
    size_t part = length - (size_t)(last - name);
    for (size_t i = 0; i < sizeof fused / sizeof *fused; i++)
        for (size_t j = 0; j < 4 && fused[i].member[j]; j++)
            if (part_is(last, part, fused[i].member[j])) {
                int want = snprintf(key, size, "%.*s%s", (int)(last - name), name, fused[i].group);
                return want > 0 && (size_t)want < size;
            }
    return 0;
}

int ht_experts_key(const char *name, char *key, size_t size) {
    const char *experts = strstr(name, ".experts.");
    if (!experts)
        return 0;
    int want = snprintf(key, size, "%.*s.experts", (int)(experts - name), name);
    return want > 0 && (size_t)want < size;
}
