/* Tokenizer: opening a tokenizer.json, encoding and decoding. The stages are in pipeline.h.
 *
 * Refused: models other than BPE, unknown components and unknown keys (with their JSON path), another format version.
 * The sections "truncation" and "padding" concern batches of a training run and are ignored.
 * Source: the tokenizer.json format, version 1.0.
 * SPDX-License-Identifier: BSD-3-Clause */
#include <halftone/tokenizer.h>

#include <stdlib.h>   /* free */
#include <string.h>   /* strcmp, strlen */
#include <sys/stat.h> /* stat */

#include "base/file_map.h"
#include "base/status.h"
#include "tokenizer/pipeline.h"
#include "tokenizer/utf8.h"

/* ---- opening ---- */

static ht_status load_model(ht_tokenizer *tokenizer, const ht_field *root) {
    ht_field model = ht_field_get(root, "model");
    ht_field_text type;
    HT_TRY(ht_field_object(&model));
    HT_TRY(ht_field_text_optional(&model, "type", &type)); /* early files have none: the one with merges is BPE */
    if (type.data ? strcmp(type.data, "BPE") != 0 : !ht_field_get(&model, "merges").value)
        return ht_field_fail(&model, HT_ERR_UNSUPPORTED, "model type \"%.40s\" is not implemented, only BPE is",
                             type.data ? type.data : "");
    return ht_bpe_load(&tokenizer->bpe, &tokenizer->vocabulary, &model);
}

static ht_status load(ht_tokenizer *tokenizer, const ht_field *root) {
    static const char *const keys[] = {"version",       "truncation",     "padding", "added_tokens", "normalizer",
                                       "pre_tokenizer", "post_processor", "decoder", "model",        NULL};
    HT_TRY(ht_field_object(root));
    HT_TRY(ht_field_only(root, keys));
    ht_field_text version;
    HT_TRY(ht_field_text_optional(root, "version", &version));
    if (version.data && strcmp(version.data, "1.0") != 0)
        return ht_field_fail(root, HT_ERR_UNSUPPORTED, "version: \"%.40s\" is not known, only \"1.0\" is",
                             version.data);
    ht_field normalizer = ht_field_get(root, "normalizer"), pretokenizer = ht_field_get(root, "pre_tokenizer");
    ht_field postprocessor = ht_field_get(root, "post_processor"), decoder = ht_field_get(root, "decoder");
    ht_field added = ht_field_get(root, "added_tokens");
    HT_TRY(load_model(tokenizer, root));
    HT_TRY(ht_normalizers_load(tokenizer, &normalizer));
    HT_TRY(ht_pretokenizers_load(tokenizer, &pretokenizer));
    HT_TRY(ht_postprocessors_load(tokenizer, &postprocessor));
    HT_TRY(ht_decoders_load(tokenizer, &decoder));
    return ht_added_tokens_load(tokenizer, &added);
}

ht_status ht_tokenizer_parse(ht_context *ctx, const char *text, size_t bytes, ht_tokenizer **out) {
    *out = NULL;
    ht_tokenizer *tokenizer;
    HT_TRY(ht_allocate(ctx, 1, sizeof *tokenizer, "tokenizer", &tokenizer));
    tokenizer->ctx = ctx;
    ht_arena_init(&tokenizer->arena, ctx);
    ht_vocabulary_init(&tokenizer->vocabulary, &tokenizer->arena);
    tokenizer->bpe.ctx = ctx;
    json_error_t error;
    ht_field root = {.value = json_loadb(text, bytes, JSON_ALLOW_NUL, &error)};
    ht_status status;
    if (root.value)
        status = load(tokenizer, &root);
    else
        status = ht_fail(HT_ERR_CORRUPT, "not JSON: %s at byte %d", error.text, error.position);
    json_decref(root.value);
    if (status != HT_OK) {
        ht_tokenizer_close(tokenizer);
        return status;
    }
    *out = tokenizer;
    return HT_OK;
}

ht_status ht_tokenizer_open(ht_context *ctx, const char *path, ht_tokenizer **out) {
    *out = NULL;
    ht_text name = {0};
    struct stat info;
    int directory = stat(path, &info) == 0 && S_ISDIR(info.st_mode);
    ht_text_printf(&name, "%s%s", path, directory ? "/tokenizer.json" : "");
    ht_file_map map = {0};
    ht_status status = ht_text_check(&name);
    if (status == HT_OK)
        status = ht_file_map_open(name.data, &map);
    if (status == HT_OK) {
        status = ht_tokenizer_parse(ctx, map.data ? (const char *)map.data : "", map.bytes, out);
        if (status != HT_OK)
            status = ht_fail_prefix(status, "%s", name.data);
    }
    ht_file_map_close(&map);
    ht_text_free(&name);
    return status;
}

void ht_tokenizer_close(ht_tokenizer *tokenizer) {
    if (!tokenizer)
        return;
    for (const ht_regex_list *entry = tokenizer->regexes; entry; entry = entry->next)
        ht_regex_destroy(entry->regex);
    ht_added_tokens_release(tokenizer);
    ht_bpe_release(&tokenizer->bpe);
    ht_vocabulary_release(&tokenizer->vocabulary);
    ht_arena_release(&tokenizer->arena);
    ht_release(tokenizer->ctx, tokenizer);
}

/* ---- encoding ---- */

static ht_status encode(ht_encode_call *call, const char *text, size_t bytes, int add_special) {
    ht_text repaired = {0};
    HT_TRY(ht_bpe_call_init(&call->tokenizer->bpe, &call->bpe, bytes));
    ht_status status = HT_OK;
    if (ht_utf8_valid_prefix(text, bytes) < bytes) {
        ht_utf8_append_repaired(&repaired, text, bytes);
        status = ht_text_check(&repaired);
        text = repaired.data;
        bytes = repaired.length;
    }
    if (status == HT_OK && bytes)
        status = ht_added_tokens_split(call, (ht_piece){text, bytes, ht_utf8_length(text)});
    if (status == HT_OK)
        status = ht_postprocess(call->tokenizer, add_special, &call->ids);
    if (status == HT_OK)
        status = ht_text_check(&call->ids);
    ht_text_free(&repaired);
    return status;
}

ht_status ht_tokenizer_encode(const ht_tokenizer *tokenizer, const char *text, size_t bytes, int add_special,
                              ht_encoding *out) {
    *out = (ht_encoding){0};
    if (bytes > INT32_MAX)
        return ht_fail(HT_ERR_ARGUMENT, "tokenizer: a text of %zu bytes, the limit is %d: split it", bytes, INT32_MAX);
    ht_encode_call *call;
    HT_TRY(ht_allocate(tokenizer->ctx, 1, sizeof *call, "tokenizer", &call));
    call->tokenizer = tokenizer;
    ht_regex_scratch_init(&call->regex, tokenizer->ctx);
    ht_status status = encode(call, text, bytes, add_special);
    if (status == HT_OK) { /* the bytes of the ids become the caller's */
        void *ids = call->ids.data;
        out->ids = ids;
        out->count = call->ids.length / sizeof *out->ids;
        call->ids.data = NULL;
    }
    ht_bpe_call_release(&tokenizer->bpe, &call->bpe);
    ht_regex_scratch_release(&call->regex);
    for (size_t i = 0; i < HT_STAGE_LIMIT; i++)
        ht_text_free(&call->stage[i]);
    ht_text_free(&call->normal[0]);
    ht_text_free(&call->normal[1]);
    ht_text_free(&call->ids);
    ht_release(tokenizer->ctx, call);
    return status;
}

void ht_encoding_release(ht_encoding *encoding) {
    free(encoding->ids);
    *encoding = (ht_encoding){0};
}

/* ---- decoding ---- */

ht_status ht_tokenizer_decode(const ht_tokenizer *tokenizer, const int32_t *ids, size_t count, int skip_special,
                              char **text, size_t *bytes) {
    *text = NULL;
    *bytes = 0;
    for (size_t i = 0; i < count; i++)
        if (ids[i] < 0 || (size_t)ids[i] >= tokenizer->vocabulary.count)
            return ht_fail(HT_ERR_ARGUMENT, "token id %d at position %zu is outside the vocabulary of %zu", ids[i], i,
                           tokenizer->vocabulary.count);
    ht_token_list list = {{0}, {0}};
    for (size_t i = 0; i < count; i++) {
        const ht_token *token = ht_vocabulary_token(&tokenizer->vocabulary, ids[i]);
        if (!token || (skip_special && token->special))
            continue;
        ht_text_append(&list.bytes, token->text, token->bytes);
        ht_token_list_end(&list);
    }
    ht_text out = {0};
    ht_text_append(&out, "", 0);
    ht_status status = ht_text_check(&list.bytes);
    if (status == HT_OK)
        status = ht_text_check(&list.ends);
    if (status == HT_OK)
        status = ht_decode_tokens(tokenizer, &list, &out);
    ht_text_free(&list.bytes);
    ht_text_free(&list.ends);
    if (status != HT_OK) {
        ht_text_free(&out);
        return status;
    }
    *text = out.data;
    *bytes = out.length;
    return HT_OK;
}

void ht_text_release(char *text) {
    free(text);
}

/* ---- the vocabulary ---- */

size_t ht_tokenizer_vocabulary(const ht_tokenizer *tokenizer) {
    return tokenizer->vocabulary.count;
}

const char *ht_tokenizer_token(const ht_tokenizer *tokenizer, int32_t id) {
    const ht_token *token = ht_vocabulary_token(&tokenizer->vocabulary, id);
    return token ? token->text : NULL;
}

int ht_tokenizer_is_special(const ht_tokenizer *tokenizer, int32_t id) {
    const ht_token *token = ht_vocabulary_token(&tokenizer->vocabulary, id);
    return token && token->special;
}

int32_t ht_tokenizer_id(const ht_tokenizer *tokenizer, const char *token) {
    return ht_vocabulary_find(&tokenizer->vocabulary, token, strlen(token));
}
