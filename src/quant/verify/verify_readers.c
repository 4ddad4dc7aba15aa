/* What particular programs can load. Each reader is a row: what it says about the file as a whole, and about each
 * quantized linear. The rules are those that their documentation and loaders state, and only those we are sure of: a
 * checkpoint that passes may still meet a kernel that the machine at hand lacks.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <stdio.h>  /* snprintf */
#include <string.h> /* strcmp */

#include "base/nearest.h"
#include "base/status.h"
#include "io/json.h"
#include "quant/verify/verify.h"

/* Looks at one quantized parameter. */
typedef void parameter_fn(ht_finding *finding, const ht_parameter *parameter);

typedef struct reader_row {
    const char *name;
    const char *methods; /* quant_method values that it loads, space separated; NULL: no safetensors */
    parameter_fn *parameter;
    int uniform_experts; /* all experts of a block must be stored alike */
    int transforms;      /* Hadamard blocks of the inputs of linears are applied */
} reader_row;

static void no_fused_experts(ht_finding *finding, const ht_parameter *parameter) {
    if (parameter->rank == 3 && parameter->quantized)
        ht_find(finding, "%s: stacked experts [%zu, %zu, %zu] in the compressed-tensors layout are our own extension",
                parameter->name, parameter->shape[0], parameter->shape[1], parameter->shape[2]);
}

/* vLLM: which weights its compressed-tensors and fp8 loaders have a kernel for. */
static void vllm_parameter(ht_finding *finding, const ht_parameter *parameter) {
    const ht_format *format = &parameter->weight.format;
    unsigned bits = ht_dtype_bits(format->element);
    size_t rows = parameter->weight.rows, cols = parameter->weight.cols;
    uint32_t group = format->block_rows == 1 ? format->block_cols : 0;
    if (format->family == HT_FAMILY_MX && bits == 6)
        ht_find(finding, "%s is MXFP6, which has no kernel", parameter->name);
    if (format->family == HT_FAMILY_INT && !parameter->has_input && bits != 4 && bits != 8)
        ht_find(finding, "%s has %u bits; weight-only integers need 4 or 8", parameter->name, bits);
    if (format->family == HT_FAMILY_INT && !parameter->has_input && group && group != 32 && group != 64 && group != 128)
        ht_find(finding, "%s has groups of %u; 32, 64, 128 or whole rows are needed", parameter->name, group);
    if (format->family == HT_FAMILY_INT && parameter->has_input && (bits != 8 && bits != 4))
        ht_find(finding, "%s has %u bits with int8 inputs; 4 or 8 are needed", parameter->name, bits);
    if (format->family == HT_FAMILY_FLOAT8 && (rows % 16 || cols % 16))
        ht_find(finding, "%s is %zu x %zu; float8 products need multiples of 16", parameter->name, rows, cols);
    if (format->family == HT_FAMILY_FLOAT8 && format->block_rows > 1 && (rows % 128 || cols % 128))
        ht_find(finding, "%s is %zu x %zu; 128 x 128 tiles must fit", parameter->name, rows, cols);
    if (format->family == HT_FAMILY_NVFP4 && (cols % 32 || rows % 32))
        ht_find(finding, "%s is %zu x %zu; NVFP4 products need multiples of 32", parameter->name, rows, cols);
    if (format->family == HT_FAMILY_CODEBOOK || format->family == HT_FAMILY_GGUF)
        ht_find(finding, "%s is in a format without a loader", parameter->name);
}

/* A transform that a reader leaves out changes what the model computes, and nobody is told. */
static void check_inputs(ht_finding *finding, const reader_row *row, const ht_parameter *parameter, int is_expert) {
    const ht_input_transform *inputs = &parameter->weight.inputs;
    if (inputs->block && !row->transforms)
        ht_find(finding, "%s: its inputs are to be transformed (transform_config), which %s does not do",
                parameter->name, row->name);
    else if (inputs->block && is_expert)
        ht_find(finding, "%s: its inputs are to be transformed, which %s does for linears, not for experts",
                parameter->name, row->name);
    else if (inputs->scale)
        ht_find(finding, "%s: its inputs are to be scaled, which is our own extension", parameter->name);
}

static const reader_row readers[] = {
    {"vllm", "compressed-tensors fp8 mxfp4 modelopt", vllm_parameter, 1, 1},
    {"transformers", "compressed-tensors fp8 mxfp4", NULL, 0, 0},
    {"llama.cpp", NULL, NULL, 0, 0},
};

enum { READERS = sizeof readers / sizeof *readers };

static const reader_row *find(const char *name) {
    for (size_t i = 0; i < READERS; i++)
        if (ht_word_equal(readers[i].name, name))
            return &readers[i];
    return NULL;
}

ht_status ht_reader_check_name(const char *reader) {
    if (find(reader))
        return HT_OK;
    ht_nearest nearest = {.word = reader};
    for (size_t i = 0; i < READERS; i++)
        ht_nearest_offer(&nearest, readers[i].name);
    return ht_fail(HT_ERR_ARGUMENT,
                   "reader \"%.64s\" is unknown; the nearest is %s; allowed: vllm, transformers, "
                   "llama.cpp",
                   reader, nearest.found);
}

static int has_word(const char *words, const char *word) {
    size_t length = strlen(word);
    for (const char *at = words; *at;) {
        size_t part = strcspn(at, " ");
        if (part == length && memcmp(at, word, length) == 0)
            return 1;
        at += part + strspn(at + part, " ");
    }
    return 0;
}

/* Experts of one block follow each other in the order of names; compare each with the one before. */
static void check_experts(const ht_verify_run *v, ht_finding *finding) {
    const ht_parameter *last = NULL;
    char last_key[1024] = "";
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        char key[1024];
        if (v->class[i] != HT_CLASS_EXPERT || !ht_experts_key(parameter->name, key, sizeof key))
            continue;
        if (last && strcmp(key, last_key) == 0 &&
            (parameter->quantized != last->quantized ||
             !ht_format_equal(&parameter->weight.format, &last->weight.format)))
            ht_find(finding, "%s and %s are experts of one block, but stored differently", last->name, parameter->name);
        last = parameter;
        memcpy(last_key, key, sizeof key);
    }
}

ht_status ht_verify_reader(ht_verify_run *v, const char *reader) {
    const reader_row *row = find(reader);
    ht_finding finding = {0};
    const char *method = ht_json_string(v->quant, "quant_method");
    int gguf = strcmp(ht_checkpoint_kind(v->checkpoint), "gguf") == 0;
    if (!row->methods && !gguf)
        ht_find(&finding, "%s reads GGUF files, this is safetensors", row->name);
    if (row->methods && gguf)
        ht_find(&finding, "%s is asked about a GGUF file; it is judged for safetensors only", row->name);
    if (row->methods && !gguf && !v->config)
        ht_find(&finding, "%s needs config.json beside the tensors", row->name);
    if (row->methods && v->quant && (!method || !has_word(row->methods, method)))
        ht_find(&finding, "%s does not load quant_method \"%s\"; it loads: %s", row->name, method ? method : "",
                row->methods);
    int compressed = method && strcmp(method, "compressed-tensors") == 0;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint) && row->methods; i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        if (!parameter->quantized)
            continue;
        finding.looked++;
        if (compressed)
            no_fused_experts(&finding, parameter);
        check_inputs(&finding, row, parameter, v->class[i] == HT_CLASS_EXPERT);
        if (row->parameter)
            row->parameter(&finding, parameter);
    }
    if (row->uniform_experts)
        check_experts(v, &finding);
    char what[64];
    snprintf(what, sizeof what, "quantized tensors follow the rules of %s", row->name);
    return ht_verify_add(v, "reader", &finding, what);
}
