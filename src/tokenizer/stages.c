/* What components of all kinds share: their type, texts, patterns and place in the pipeline.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/pipeline.h"

#include <string.h> /* memcpy, strcmp */

#include "base/status.h"

enum { DEPTH = 32 }; /* of sequences in sequences */

ht_piece ht_piece_part(ht_piece piece, size_t start, size_t end) {
    size_t head = piece.head < end ? piece.head : end;
    return (ht_piece){piece.text + start, end - start, head > start ? head - start : 0};
}

void ht_append_id(ht_text *ids, int32_t id) {
    ht_text_append(ids, (const char *)&id, sizeof id);
}

void ht_token_list_end(ht_token_list *list) {
    ht_text_append(&list->ends, (const char *)&list->bytes.length, sizeof list->bytes.length);
}

size_t ht_token_list_count(const ht_token_list *list) {
    return list->ends.length / sizeof(size_t);
}

ht_piece ht_token_list_get(const ht_token_list *list, size_t index) {
    size_t range[2] = {0, 0};
    if (index)
        memcpy(range, list->ends.data + (index - 1) * sizeof *range, 2 * sizeof *range);
    else
        memcpy(range + 1, list->ends.data, sizeof *range);
    const char *text = list->bytes.data ? list->bytes.data : "";
    return (ht_piece){text + range[0], range[1] - range[0], 0};
}

void ht_token_list_clear(ht_token_list *list) {
    list->bytes.length = list->ends.length = 0;
}

void *ht_stage_state(ht_tokenizer *tokenizer, size_t bytes) {
    return ht_arena_alloc(&tokenizer->arena, bytes);
}

ht_status ht_stage_regex(ht_tokenizer *tokenizer, const ht_field *field, ht_regex_kind kind, ht_field_text pattern,
                         const ht_regex **out) {
    ht_regex_list *entry = ht_stage_state(tokenizer, sizeof *entry);
    if (!entry)
        return HT_ERR_MEMORY;
    ht_status status = ht_regex_create(tokenizer->ctx, kind, pattern.data, pattern.bytes, &entry->regex);
    if (status == HT_ERR_MEMORY)
        return status;
    if (status != HT_OK)
        return ht_field_fail(field, status, "%s", ht_error_message());
    entry->next = tokenizer->regexes;
    tokenizer->regexes = entry;
    *out = entry->regex;
    return HT_OK;
}

ht_status ht_stage_pattern(ht_tokenizer *tokenizer, const ht_field *object, const ht_regex **out) {
    static const char *const keys[] = {"String", "Regex", NULL};
    ht_field field = ht_field_get(object, "pattern");
    HT_TRY(ht_field_object(&field));
    HT_TRY(ht_field_only(&field, keys));
    ht_field_text text;
    HT_TRY(ht_field_text_optional(&field, "Regex", &text));
    if (text.data)
        return ht_stage_regex(tokenizer, &field, HT_REGEX_ONIGURUMA, text, out);
    HT_TRY(ht_field_text_required(&field, "String", &text));
    return ht_stage_regex(tokenizer, &field, HT_REGEX_LITERAL, text, out);
}

ht_status ht_stage_text(ht_tokenizer *tokenizer, const ht_field *object, const char *key, ht_field_text *out) {
    HT_TRY(ht_field_text_required(object, key, out));
    out->data = ht_arena_string(&tokenizer->arena, out->data, out->bytes);
    return out->data ? HT_OK : HT_ERR_MEMORY;
}

static ht_status walk(ht_tokenizer *tokenizer, const ht_field *object, const char *members, ht_stage_add_fn *add,
                      int depth) {
    const char *const keys[] = {"type", members, NULL};
    ht_field_text type;
    HT_TRY(ht_field_object(object));
    HT_TRY(ht_field_text_required(object, "type", &type));
    if (strcmp(type.data, "Sequence") != 0)
        return add(tokenizer, object, type.data);
    HT_TRY(ht_field_only(object, keys));
    ht_field list = ht_field_get(object, members);
    HT_TRY(ht_field_array(&list));
    if (depth == DEPTH)
        return ht_field_fail(object, HT_ERR_UNSUPPORTED, "sequences nested more than %d deep", DEPTH);
    for (size_t i = 0; i < json_array_size(list.value); i++) {
        ht_field item = ht_field_at(&list, i);
        HT_TRY(walk(tokenizer, &item, members, add, depth + 1));
    }
    return HT_OK;
}

ht_status ht_stage_walk(ht_tokenizer *tokenizer, const ht_field *field, const char *members, ht_stage_add_fn *add) {
    return field->value ? walk(tokenizer, field, members, add, 0) : HT_OK;
}

ht_status ht_stage_unknown(const ht_field *object, const char *kind, const char *type) {
    return ht_field_fail(object, HT_ERR_UNSUPPORTED, "%s \"%.60s\" is not implemented", kind, type);
}

ht_status ht_stage_full(const ht_field *object) {
    return ht_field_fail(object, HT_ERR_UNSUPPORTED, "more than %d components of one kind", HT_STAGE_LIMIT);
}
