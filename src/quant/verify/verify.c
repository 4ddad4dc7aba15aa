/* Proof of a written checkpoint: it is opened and read as a stranger would, and every check leaves one line.
 *
 * Opening already refuses what is malformed: headers, overlaps, sizes that do not fit shapes, components that do not
 * belong together. The checks here look at what the parts say about each other: config and tensors (verify_config.c),
 * scales and values (verify_weights.c), fused groups, the original if given, and the rules of a reader
 * (verify_readers.c). A problem is a result, not an error; an error is what keeps a check from being made.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "quant/verify/verify.h"

#include <dirent.h>   /* opendir */
#include <errno.h>    /* errno */
#include <stdarg.h>   /* va_list */
#include <stdio.h>    /* vsnprintf, fopen */
#include <stdlib.h>   /* qsort */
#include <string.h>   /* strcmp, memcmp */
#include <sys/stat.h> /* stat */

#include "base/file_map.h"
#include "base/status.h"
#include "base/text.h"
#include "io/json.h"
#include "quant/decode.h"
#include "quant/method/methods.h"

enum { MOST_CHECKS = 16 };

struct ht_verification {
    ht_context *ctx;
    ht_arena arena;
    ht_check check[MOST_CHECKS];
    size_t count;
};

void ht_find(ht_finding *finding, const char *format, ...) {
    va_list args;
    va_start(args, format);
    if (!finding->problems++)
        vsnprintf(finding->first, sizeof finding->first, format, args);
    va_end(args);
}

ht_status ht_verify_add(ht_verify_run *v, const char *name, const ht_finding *finding, const char *what) {
    ht_verification *result = v->result;
    const char *detail;
    if (!finding->problems)
        detail = ht_arena_printf(&result->arena, "%zu %s", finding->looked, what);
    else if (finding->problems == 1)
        detail = ht_arena_string(&result->arena, finding->first, strlen(finding->first));
    else
        detail = ht_arena_printf(&result->arena, "%s; and %zu more", finding->first, finding->problems - 1);
    if (!detail || result->count == MOST_CHECKS)
        return HT_ERR_MEMORY;
    result->check[result->count++] = (ht_check){.name = name, .ok = !finding->problems, .detail = detail};
    return HT_OK;
}

int ht_verify_is_linear(const ht_verify_run *v, size_t index) {
    const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, index);
    size_t length = strlen(parameter->name);
    ht_class class = v->class[index];
    return parameter->rank == 2 && length > 7 && strcmp(parameter->name + length - 7, ".weight") == 0 &&
           class != HT_CLASS_EMBEDDING && class != HT_CLASS_NORM && class != HT_CLASS_BIAS &&
           class != HT_CLASS_CONVOLUTION;
}

/* --- What is there ---------------------------------------------------------------------------------------- */

/* Component names of quantized tensors that no parameter has claimed: the reader and the names disagree. */
static int looks_like_component(const char *name) {
    static const char *const tails[] = {"_packed",     "_scale", "_scale_inv", "_global_scale",
                                        "_zero_point", "_shape", "_blocks",    "_scales"};
    size_t length = strlen(name);
    for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
        size_t tail = strlen(tails[i]);
        if (length > tail && strcmp(name + length - tail, tails[i]) == 0)
            return 1;
    }
    return 0;
}

static ht_status check_tensors(ht_verify_run *v) {
    ht_finding finding = {0};
    size_t quantized = 0;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        const ht_weight *weight = &parameter->weight;
        finding.looked++;
        quantized += parameter->quantized != 0;
        if (parameter->quantized && ht_format_check_shape(&weight->format, weight->rows, weight->cols) != HT_OK)
            ht_find(&finding, "%s: %s", parameter->name, ht_error_message());
        if (!parameter->quantized && looks_like_component(parameter->name))
            ht_find(&finding, "%s looks like a part of a quantized tensor, but belongs to none", parameter->name);
    }
    if (!finding.looked)
        ht_find(&finding, "there are no tensors");
    if (v->quant && !quantized)
        ht_find(&finding, "config.json has a quantization_config, but no tensor is quantized");
    char what[64];
    snprintf(what, sizeof what, "parameters, %zu quantized, all shapes fit", quantized);
    return ht_verify_add(v, "tensors", &finding, what);
}

static ht_status check_ends(ht_verify_run *v) {
    ht_finding finding = {0};
    int embedding = 0, head = 0, block = 0;
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++) {
        embedding |= v->class[i] == HT_CLASS_EMBEDDING;
        head |= v->class[i] == HT_CLASS_LM_HEAD;
        block |= v->class[i] == HT_CLASS_LINEAR || v->class[i] == HT_CLASS_EXPERT;
    }
    finding.looked = (size_t)(embedding + head);
    int tied = json_is_true(json_object_get(v->config, "tie_word_embeddings"));
    if (v->config && block && !embedding)
        ht_find(&finding, "no embedding is stored");
    if (v->config && block && !head && !tied && json_object_get(v->config, "tie_word_embeddings"))
        ht_find(&finding, "no output head is stored, and tie_word_embeddings is not true");
    return ht_verify_add(v, "embedding-and-head", &finding, tied && !head ? "of 1 stored, head tied" : "of 2 stored");
}

/* --- Fused groups ----------------------------------------------------------------------------------------- */

typedef struct member {
    const char *key;
    const ht_parameter *parameter;
} member;

static int by_key(const void *a, const void *b) {
    return strcmp(((const member *)a)->key, ((const member *)b)->key);
}

static void compare_members(ht_finding *finding, const ht_parameter *a, const ht_parameter *b) {
    const ht_weight *x = &a->weight, *y = &b->weight;
    finding->looked++;
    if (a->quantized != b->quantized || (a->quantized && !ht_format_equal(&x->format, &y->format))) {
        ht_find(finding, "%s and %s are read as one matrix, but stored in different formats", a->name, b->name);
        return;
    }
    if (x->inputs.block != y->inputs.block) {
        ht_find(finding, "%s and %s are read as one matrix, but Hadamard blocks of their inputs are %zu and %zu",
                a->name, b->name, x->inputs.block, y->inputs.block);
        return;
    }
    if (!a->quantized || x->format.family != HT_FAMILY_NVFP4 || !x->plane[HT_PLANE_GLOBAL])
        return;
    for (size_t e = 0; e < x->batch && x->batch == y->batch; e++) {
        float g, h;
        memcpy(&g, (const char *)x->plane[HT_PLANE_GLOBAL] + e * x->stride[HT_PLANE_GLOBAL], sizeof g);
        memcpy(&h, (const char *)y->plane[HT_PLANE_GLOBAL] + e * y->stride[HT_PLANE_GLOBAL], sizeof h);
        if (memcmp(&g, &h, sizeof g) != 0)
            ht_find(finding, "%s and %s are read as one matrix, but their global scales are %.9g and %.9g", a->name,
                    b->name, (double)g, (double)h);
    }
}

static ht_status check_groups(ht_verify_run *v) {
    size_t parameters = ht_checkpoint_parameter_count(v->checkpoint), count = 0;
    ht_arena scratch;
    ht_arena_init(&scratch, v->ctx);
    member *members = ht_arena_alloc(&scratch, parameters * sizeof *members + 1);
    ht_status status = members ? HT_OK : HT_ERR_MEMORY;
    for (size_t i = 0; i < parameters && status == HT_OK; i++) {
        char key[1024];
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        if (parameter->rank < 2 || !ht_fused_key(parameter->name, key, sizeof key))
            continue;
        members[count] = (member){ht_arena_string(&scratch, key, strlen(key)), parameter};
        status = members[count++].key ? HT_OK : HT_ERR_MEMORY;
    }
    ht_finding finding = {0};
    if (status == HT_OK && count)
        qsort(members, count, sizeof *members, by_key);
    for (size_t i = 1; i < count && status == HT_OK; i++)
        if (strcmp(members[i - 1].key, members[i].key) == 0)
            compare_members(&finding, members[i - 1].parameter, members[i].parameter);
    ht_arena_release(&scratch);
    HT_TRY(status);
    return ht_verify_add(v, "fused-groups", &finding, "pairs of q/k/v and gate/up agree");
}

/* --- Against the original --------------------------------------------------------------------------------- */

static ht_status check_names(ht_verify_run *v) {
    ht_finding finding = {0};
    size_t n = ht_checkpoint_parameter_count(v->checkpoint), m = ht_checkpoint_parameter_count(v->against);
    for (size_t i = 0, j = 0; i < n || j < m;) {
        const ht_parameter *a = ht_checkpoint_parameter(v->checkpoint, i), *b = ht_checkpoint_parameter(v->against, j);
        int order = !a ? 1 : !b ? -1 : strcmp(a->name, b->name);
        if (order < 0)
            ht_find(&finding, "%s is not in the original", a->name);
        else if (order > 0)
            ht_find(&finding, "%s of the original is missing", b->name);
        else if (!ht_same_matrix(a, b))
            ht_find(&finding, "%s has another shape than in the original", a->name);
        finding.looked++;
        i += order <= 0;
        j += order >= 0;
    }
    return ht_verify_add(v, "names", &finding, "parameters, named and shaped as in the original");
}

static ht_status check_kept(ht_verify_run *v) {
    ht_finding finding = {0};
    if (v->edited)
        return ht_verify_add(v, "kept", &finding,
                             "unquantized tensors compared: the method edits the float model first");
    for (size_t i = 0; i < ht_checkpoint_parameter_count(v->checkpoint); i++) {
        const ht_parameter *parameter = ht_checkpoint_parameter(v->checkpoint, i);
        const ht_stored_tensor *mine = ht_checkpoint_tensor(v->checkpoint, parameter->stored[0]);
        const ht_stored_tensor *theirs = ht_checkpoint_find(v->against, mine->name);
        if (parameter->quantized || !theirs)
            continue;
        finding.looked++;
        if (mine->dtype != theirs->dtype || mine->bytes != theirs->bytes ||
            (mine->bytes && memcmp(mine->data, theirs->data, mine->bytes) != 0))
            ht_find(&finding, "%s is not quantized, but differs from the original", mine->name);
        ht_pages_done_with(v->checkpoint, mine, 0, mine->bytes);
        ht_pages_done_with(v->against, theirs, 0, theirs->bytes);
    }
    return ht_verify_add(v, "kept", &finding, "unquantized tensors equal the original, byte for byte");
}

static int is_sidecar(const char *name) {
    size_t length = strlen(name);
    static const char *const others[] = {".safetensors", ".bin",  ".pt",   ".pth",      ".gguf",
                                         ".index.json",  ".onnx", ".ckpt", ".msgpack",  ".h5",
                                         ".npz",         ".ot",   ".ggml", ".onnx_data"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        size_t tail = strlen(others[i]);
        if (length >= tail && strcmp(name + length - tail, others[i]) == 0)
            return 0;
    }
    return name[0] != '.' && strcmp(name, "config.json") != 0;
}

static void compare_file(ht_verify_run *v, ht_finding *finding, const char *name) {
    char mine[4096], theirs[4096];
    struct stat info;
    snprintf(mine, sizeof mine, "%s/%s", ht_checkpoint_path(v->checkpoint), name);
    snprintf(theirs, sizeof theirs, "%s/%s", ht_checkpoint_path(v->against), name);
    if (stat(theirs, &info) != 0 || !S_ISREG(info.st_mode))
        return;
    finding->looked++;
    ht_file_map a, b;
    if (ht_file_map_open(theirs, &b) != HT_OK)
        return;
    if (ht_file_map_open(mine, &a) != HT_OK) {
        ht_find(finding, "%s of the original is missing", name);
    } else {
        if (a.bytes != b.bytes || (a.bytes && memcmp(a.data, b.data, a.bytes) != 0))
            ht_find(finding, "%s differs from the original's", name);
        ht_file_map_close(&a);
    }
    ht_file_map_close(&b);
}

static ht_status check_sidecars(ht_verify_run *v) {
    if (strcmp(ht_checkpoint_kind(v->against), "huggingface") != 0)
        return HT_OK;
    ht_finding finding = {0};
    const char *path = ht_checkpoint_path(v->against);
    DIR *directory = opendir(path);
    if (!directory)
        return ht_fail(HT_ERR_IO, "%s: cannot list: %s", path, strerror(errno));
    for (struct dirent *entry; (entry = readdir(directory));)
        if (is_sidecar(entry->d_name))
            compare_file(v, &finding, entry->d_name);
    closedir(directory);
    return ht_verify_add(v, "sidecars", &finding, "other files (tokenizer and the like) equal the original's");
}

/* --- All of it -------------------------------------------------------------------------------------------- */

static ht_status run_checks(ht_verify_run *v, const char *reader) {
    HT_TRY(check_tensors(v));
    HT_TRY(check_ends(v));
    HT_TRY(ht_verify_config(v));
    HT_TRY(check_groups(v));
    if (v->against) {
        HT_TRY(check_names(v));
        HT_TRY(check_kept(v));
    }
    HT_TRY(ht_verify_weights(v));
    if (v->against)
        HT_TRY(check_sidecars(v));
    return reader ? ht_verify_reader(v, reader) : HT_OK;
}

int ht_verify_edits(const char *method) {
    ht_chain chain;
    return method && ht_chain_parse(method, &chain) == HT_OK &&
           (chain.stage[HT_STAGE_SCALE] || chain.stage[HT_STAGE_ROTATE]);
}

/* What the records of groups say that quantizing leaves in the config. */
static void read_records(ht_verify_run *v, json_t *groups) {
    const char *key;
    json_t *group;
    json_object_foreach(groups, key, group) {
        const char *rule = ht_json_string(group, "scale_rule");
        v->searched |= rule && strcmp(rule, "mse") == 0;
        v->edited |= ht_verify_edits(ht_json_string(group, "method"));
    }
}

static ht_status prepare(ht_verify_run *v, ht_arena *arena) {
    size_t count = ht_checkpoint_parameter_count(v->checkpoint);
    v->class = ht_arena_alloc(arena, count * sizeof *v->class + 1);
    if (!v->class)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < count; i++)
        v->class[i] = ht_classify(v->checkpoint, ht_checkpoint_parameter(v->checkpoint, i));
    const char *text = ht_checkpoint_config(v->checkpoint);
    if (text)
        HT_TRY(ht_json_parse(ht_checkpoint_path(v->checkpoint), "config.json", text, strlen(text), &v->config));
    v->quant = json_object_get(v->config, "quantization_config");
    read_records(v, json_object_get(json_object_get(v->quant, "halftone"), "groups"));
    read_records(v, json_object_get(v->quant, "groups")); /* of the profile plain they are the records */
    return HT_OK;
}

/* Opening is the first check. What cannot be read at all (no such file) is an error. */
static ht_status open_checkpoint(ht_verify_run *v, const char *path, ht_checkpoint **out) {
    ht_finding finding = {0};
    ht_status status = ht_checkpoint_open(v->ctx, path, out);
    if (status == HT_ERR_CORRUPT || status == HT_ERR_UNSUPPORTED)
        ht_find(&finding, "%s", ht_error_message());
    else if (status != HT_OK)
        return status;
    else
        finding.looked = ht_checkpoint_tensor_count(*out);
    return ht_verify_add(v, "opens", &finding, "tensors; headers, offsets and sizes are sound");
}

static ht_status verify(ht_verify_run *v, const char *path, const char *against, const char *reader) {
    ht_checkpoint *checkpoint = NULL, *original = NULL;
    ht_arena arena;
    ht_arena_init(&arena, v->ctx);
    ht_status status = open_checkpoint(v, path, &checkpoint);
    if (status == HT_OK && against)
        status = ht_checkpoint_open(v->ctx, against, &original);
    v->checkpoint = checkpoint;
    v->against = original;
    if (status == HT_OK && checkpoint)
        status = prepare(v, &arena);
    if (status == HT_OK && checkpoint)
        status = run_checks(v, reader);
    json_decref(v->config);
    ht_checkpoint_close(original);
    ht_checkpoint_close(checkpoint);
    ht_arena_release(&arena);
    return status;
}

ht_status ht_verify(ht_context *ctx, const char *path, const char *against, const char *reader, ht_verification **out) {
    *out = NULL;
    if (reader)
        HT_TRY(ht_reader_check_name(reader));
    ht_verification *result;
    HT_TRY(ht_allocate(ctx, 1, sizeof *result, "verification", &result));
    result->ctx = ctx;
    ht_arena_init(&result->arena, ctx);
    ht_verify_run v = {.ctx = ctx, .result = result};
    ht_status status = verify(&v, path, against, reader);
    if (status == HT_OK)
        *out = result;
    else
        ht_verification_destroy(result);
    return status;
}

int ht_verification_ok(const ht_verification *verification) {
    for (size_t i = 0; i < verification->count; i++)
        if (!verification->check[i].ok)
            return 0;
    return verification->count > 0;
}

const ht_check *ht_verification_check(const ht_verification *verification, size_t index) {
    return index < verification->count ? &verification->check[index] : NULL;
}

void ht_verification_destroy(ht_verification *verification) {
    if (!verification)
        return;
    ht_context *ctx = verification->ctx;
    ht_arena_release(&verification->arena);
    ht_release(ctx, verification);
}
