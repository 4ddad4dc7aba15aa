/* Post-processors: the ids that stand around a single text.
 *
 * TemplateProcessing writes its "single" template: special tokens and the text ($A, once at most).
 * BertProcessing and RobertaProcessing are fixed templates. ByteLevel only moves offsets, which we do not keep.
 * Sequence is flattened when loaded. Without special tokens a template keeps only the text. Refused: a single template
 * with sequence B, with the text twice, or with more than 65536 ids. Source: the tokenizer.json format.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/pipeline.h"

#include <string.h> /* strcmp */

#include "base/status.h"

enum { IDS = 1 << 16 };

typedef struct template {
    size_t count;
    struct {
        int is_text;
        int32_t id;
    } piece[];
}
template;

static template *new_template(ht_tokenizer *tokenizer, size_t count) {
    return ht_stage_state(tokenizer, sizeof(template) + count * sizeof((template *)0)->piece[0]);
}

static ht_status run_template(const void *state, int add_special, const ht_text *in, ht_text *out) {
    const template *pieces = state;
    for (size_t i = 0; i < pieces->count; i++) {
        if (pieces->piece[i].is_text)
            ht_text_append(out, in->data, in->length);
        else if (add_special)
            ht_append_id(out, pieces->piece[i].id);
    }
    return ht_text_check(out);
}

/* ---- TemplateProcessing ---- */

/* Ids of a special token of the template, appended; with pieces NULL only counted. */
static ht_status special_ids(const ht_field *tokens, const ht_field *where, const char *name, template *pieces,
                             size_t *count) {
    static const char *const keys[] = {"id", "ids", "tokens", NULL};
    ht_field token = ht_field_get(tokens, name);
    if (!token.value)
        return ht_field_fail(where, HT_ERR_CORRUPT, "special token \"%.60s\" is not in special_tokens", name);
    HT_TRY(ht_field_object(&token));
    HT_TRY(ht_field_only(&token, keys));
    ht_field ids = ht_field_get(&token, "ids");
    HT_TRY(ht_field_array(&ids));
    for (size_t i = 0; i < json_array_size(ids.value); i++) {
        ht_field item = ht_field_at(&ids, i);
        int64_t id;
        HT_TRY(ht_field_integer_value(&item, 0, INT32_MAX, &id));
        if (pieces)
            pieces->piece[*count].id = (int32_t)id;
        if (++*count > IDS)
            return ht_field_fail(where, HT_ERR_UNSUPPORTED, "a template of more than %d ids", IDS);
    }
    return HT_OK;
}

static ht_status add_piece(const ht_field *tokens, const ht_field *item, template *pieces, size_t *count) {
    static const char *const keys[] = {"SpecialToken", "Sequence", NULL};
    static const char *const inner_keys[] = {"id", "type_id", NULL};
    ht_field_text id;
    HT_TRY(ht_field_object(item));
    HT_TRY(ht_field_only(item, keys));
    ht_field special = ht_field_get(item, "SpecialToken"), sequence = ht_field_get(item, "Sequence");
    const ht_field *inner = special.value ? &special : &sequence;
    HT_TRY(ht_field_object(inner));
    HT_TRY(ht_field_only(inner, inner_keys));
    HT_TRY(ht_field_text_required(inner, "id", &id));
    if (special.value)
        return special_ids(tokens, &special, id.data, pieces, count);
    if (strcmp(id.data, "A") != 0)
        return ht_field_fail(inner, HT_ERR_UNSUPPORTED, "sequence \"%.20s\" in the template of a single text", id.data);
    for (size_t i = 0; pieces && i < *count; i++)
        if (pieces->piece[i].is_text)
            return ht_field_fail(inner, HT_ERR_UNSUPPORTED, "the text twice in one template");
    if (pieces)
        pieces->piece[*count].is_text = 1;
    ++*count;
    return HT_OK;
}

static ht_status create_template(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    ht_field single = ht_field_get(object, "single"), tokens = ht_field_get(object, "special_tokens");
    HT_TRY(ht_field_array(&single));
    template *pieces = NULL;
    for (int pass = 0; pass < 2; pass++) { /* count, then fill */
        size_t count = 0;
        for (size_t i = 0; i < json_array_size(single.value); i++) {
            ht_field item = ht_field_at(&single, i);
            HT_TRY(add_piece(&tokens, &item, pieces, &count));
        }
        if (pass == 0 && !(pieces = new_template(tokenizer, count)))
            return HT_ERR_MEMORY;
        pieces->count = count;
    }
    *state = pieces;
    return HT_OK;
}

/* ---- BertProcessing, RobertaProcessing ---- */

/* ["[SEP]", 102] */
static ht_status pair_id(const ht_field *object, const char *key, int32_t *out) {
    ht_field pair = ht_field_get(object, key);
    HT_TRY(ht_field_array(&pair));
    ht_field item = ht_field_at(&pair, 1);
    int64_t id;
    HT_TRY(ht_field_integer_value(&item, 0, INT32_MAX, &id));
    *out = (int32_t)id;
    return HT_OK;
}

static ht_status create_frame(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    template *pieces = new_template(tokenizer, 3);
    if (!pieces)
        return HT_ERR_MEMORY;
    *state = pieces;
    pieces->count = 3;
    pieces->piece[1].is_text = 1;
    HT_TRY(pair_id(object, "cls", &pieces->piece[0].id));
    return pair_id(object, "sep", &pieces->piece[2].id);
}

/* ---- the table ---- */

static const char *const template_keys[] = {"type", "single", "pair", "special_tokens", NULL};
static const char *const bert_keys[] = {"type", "sep", "cls", NULL};
static const char *const roberta_keys[] = {"type", "sep", "cls", "trim_offsets", "add_prefix_space", NULL};
static const char *const byte_level_keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};

static const struct {
    const char *type;
    const char *const *keys;
    ht_status (*create)(ht_tokenizer *tokenizer, const ht_field *object, const void **state); /* NULL: does nothing */
} types[] = {
    {.type = "TemplateProcessing", .keys = template_keys, .create = create_template},
    {.type = "BertProcessing", .keys = bert_keys, .create = create_frame},
    {.type = "RobertaProcessing", .keys = roberta_keys, .create = create_frame},
    {.type = "ByteLevel", .keys = byte_level_keys},
};

static ht_status add_component(ht_tokenizer *tokenizer, const ht_field *object, const char *type) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].type, type) != 0)
            continue;
        HT_TRY(ht_field_only(object, types[i].keys));
        if (!types[i].create)
            return HT_OK;
        if (tokenizer->postprocessor_count) /* readers differ on what the second one sees */
            return ht_field_fail(object, HT_ERR_UNSUPPORTED, "a second template in one sequence");
        ht_postprocessor_stage *stage = &tokenizer->postprocessors[tokenizer->postprocessor_count++];
        stage->run = run_template;
        return types[i].create(tokenizer, object, &stage->state);
    }
    return ht_stage_unknown(object, "post-processor", type);
}

ht_status ht_postprocessors_load(ht_tokenizer *tokenizer, const ht_field *field) {
    return ht_stage_walk(tokenizer, field, "processors", add_component);
}

ht_status ht_postprocess(const ht_tokenizer *tokenizer, int add_special, ht_text *ids) {
    for (size_t i = 0; i < tokenizer->postprocessor_count; i++) {
        ht_text out = {0};
        ht_status status = tokenizer->postprocessors[i].run(tokenizer->postprocessors[i].state, add_special, ids, &out);
        if (status != HT_OK) {
            ht_text_free(&out);
            return status;
        }
        ht_text_free(ids);
        *ids = out;
    }
    return HT_OK;
}
