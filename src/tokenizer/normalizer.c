/* Normalizers: the table of types, and the pipeline that runs them.
 *
 * A normalizer maps text to text. Sequence is flattened when loaded. Besides the text, a stage says how many of its
 * first bytes stem from the first character of the input (`head`), because Metaspace can treat the beginning of the
 * text apart; a stage that works character by character maps the head by itself (map_head).
 * Source: the tokenizer.json format as the Hugging Face tokenizers library 0.23 reads it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/normalizer.h"

#include <string.h> /* strcmp */

#include "base/status.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/unicode_forms.h"
#include "tokenizer/utf8.h"

/* ---- Unicode forms ---- */

static const ht_unicode_form form_values[] = {HT_NFC, HT_NFD, HT_NFKC, HT_NFKD};

static ht_status run_form(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)call;
    const ht_unicode_form *form = state;
    size_t before = out->length;
    if (in.head && in.head < in.bytes) /* exact unless a later character composes into the head */
        HT_TRY(ht_unicode_normalize(*form, in.text, in.head, out));
    *head = in.head && in.head < in.bytes ? out->length - before : in.head;
    out->length = before;
    HT_TRY(ht_unicode_normalize(*form, in.text, in.bytes, out));
    if (*head > out->length - before || in.head >= in.bytes)
        *head = in.head ? out->length - before : 0;
    return HT_OK;
}

static ht_status create_form(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    (void)tokenizer;
    ht_field_text type;
    HT_TRY(ht_field_text_required(object, "type", &type));
    static const char *const names[] = {"NFC", "NFD", "NFKC", "NFKD"};
    for (size_t i = 0; i < 4; i++)
        if (strcmp(names[i], type.data) == 0)
            *state = &form_values[i];
    return HT_OK;
}

/* ---- character by character ---- */

/* Appends what becomes of a character. */
typedef void map_fn(uint32_t character, ht_text *out);

static void map_text(map_fn *map, ht_piece in, ht_text *out, size_t *head) {
    size_t before = out->length;
    *head = 0;
    for (size_t at = 0; at < in.bytes;) {
        uint32_t character;
        at += ht_utf8_decode(in.text + at, in.bytes - at, &character);
        map(character, out);
        if (at <= in.head)
            *head = out->length - before;
    }
}

static void lower(uint32_t character, ht_text *out) {
    uint32_t mapped[2];
    size_t count = ht_char_lower(character, mapped);
    for (size_t i = 0; i < count; i++)
        ht_utf8_append(out, mapped[i]);
}

static ht_status run_lowercase(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)state, (void)call;
    map_text(lower, in, out, head);
    return HT_OK;
}

static void drop_mark(uint32_t character, ht_text *out) {
    if (character < 0x300 || !ht_char_is_mark(character))
        ht_utf8_append(out, character);
}

static ht_status run_strip_accents(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)state, (void)call;
    map_text(drop_mark, in, out, head);
    return HT_OK;
}

/* The clean-up of the neural machine translation preset of SentencePiece. */
static void nmt(uint32_t c, ht_text *out) {
    if ((c >= 1 && c <= 8) || c == 0xb || (c >= 0xe && c <= 0x1f) || c == 0x7f || c == 0x8f || c == 0x9f)
        return;
    int space = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 || (c >= 0x200b && c <= 0x200f) || c == 0x2028 ||
                c == 0x2029 || c == 0x2581 || c == 0xfeff || c == 0xfffd;
    ht_utf8_append(out, space ? ' ' : c);
}

static ht_status run_nmt(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)state, (void)call;
    map_text(nmt, in, out, head);
    return HT_OK;
}

static ht_status run_byte_level(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)state, (void)call;
    size_t before = out->length;
    ht_byte_level_encode(out, in.text, in.head);
    *head = out->length - before;
    ht_byte_level_encode(out, in.text + in.head, in.bytes - in.head);
    return HT_OK;
}

/* ---- Strip, Prepend, Replace ---- */

typedef struct strip {
    int left, right;
} strip;

static ht_status create_strip(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    strip *made = ht_stage_state(tokenizer, sizeof *made);
    if (!made)
        return HT_ERR_MEMORY;
    *state = made;
    HT_TRY(ht_field_bool(object, "strip_left", 1, &made->left));
    return ht_field_bool(object, "strip_right", 1, &made->right);
}

static ht_status run_strip(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)call;
    const strip *sides = state;
    size_t start = 0, end = in.bytes;
    uint32_t character;
    while (sides->left && start < end) {
        size_t length = ht_utf8_decode(in.text + start, end - start, &character);
        if (!ht_char_is_space(character))
            break;
        start += length;
    }
    while (sides->right && end > start) {
        size_t before = ht_utf8_before(in.text, end);
        ht_utf8_decode(in.text + before, end - before, &character);
        if (!ht_char_is_space(character))
            break;
        end = before;
    }
    ht_piece kept = ht_piece_part(in, start, end);
    ht_text_append(out, kept.text, kept.bytes);
    *head = kept.head;
    return HT_OK;
}

static ht_status create_prepend(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    ht_field_text *text = ht_stage_state(tokenizer, sizeof *text);
    *state = text;
    return text ? ht_stage_text(tokenizer, object, "prepend", text) : HT_ERR_MEMORY;
}

static ht_status run_prepend(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)call;
    const ht_field_text *text = state;
    *head = 0;
    if (!in.bytes)
        return HT_OK;
    ht_text_append(out, text->data, text->bytes);
    ht_text_append(out, in.text, in.bytes);
    *head = in.head ? in.head + text->bytes : 0;
    return HT_OK;
}

typedef struct replace {
    const ht_regex *regex;
    ht_field_text content;
} replace;

static ht_status create_replace(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    replace *made = ht_stage_state(tokenizer, sizeof *made);
    if (!made)
        return HT_ERR_MEMORY;
    *state = made;
    HT_TRY(ht_stage_pattern(tokenizer, object, &made->regex));
    return ht_stage_text(tokenizer, object, "content", &made->content);
}

/* The content takes the place of its match's last character. */
static ht_status run_replace(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    const replace *rule = state;
    size_t before = out->length, copied = 0, start, end;
    ht_regex_walk walk = {0};
    int found;
    *head = in.head;
    for (;;) {
        HT_TRY(ht_regex_next(rule->regex, &call->regex, in.text, in.bytes, &walk, &found, &start, &end));
        if (!found)
            break;
        ht_text_append(out, in.text + copied, start - copied);
        if (start <= in.head && in.head) {
            size_t from_head = end <= in.head ? rule->content.bytes + in.head - end : 0;
            *head = out->length - before + from_head;
        }
        ht_text_append(out, rule->content.data, rule->content.bytes);
        copied = end;
    }
    ht_text_append(out, in.text + copied, in.bytes - copied);
    return HT_OK;
}

/* ---- the table ---- */

static const char *const no_keys[] = {"type", NULL};
static const char *const strip_keys[] = {"type", "strip_left", "strip_right", NULL};
static const char *const prepend_keys[] = {"type", "prepend", NULL};
static const char *const replace_keys[] = {"type", "pattern", "content", NULL};
static const char *const bert_keys[] = {"type",          "clean_text", "handle_chinese_chars",
                                        "strip_accents", "lowercase",  NULL};
static const char *const charsmap_keys[] = {"type", "precompiled_charsmap", NULL};

static const struct {
    const char *type;
    const char *const *keys;
    ht_status (*create)(ht_tokenizer *tokenizer, const ht_field *object, const void **state); /* may be NULL */
    ht_normalize_fn *run;
} types[] = {
    {.type = "NFC", .keys = no_keys, .create = create_form, .run = run_form},
    {.type = "NFD", .keys = no_keys, .create = create_form, .run = run_form},
    {.type = "NFKC", .keys = no_keys, .create = create_form, .run = run_form},
    {.type = "NFKD", .keys = no_keys, .create = create_form, .run = run_form},
    {.type = "Lowercase", .keys = no_keys, .run = run_lowercase},
    {.type = "StripAccents", .keys = no_keys, .run = run_strip_accents},
    {.type = "Nmt", .keys = no_keys, .run = run_nmt},
    {.type = "ByteLevel", .keys = no_keys, .run = run_byte_level},
    {.type = "Strip", .keys = strip_keys, .create = create_strip, .run = run_strip},
    {.type = "Prepend", .keys = prepend_keys, .create = create_prepend, .run = run_prepend},
    {.type = "Replace", .keys = replace_keys, .create = create_replace, .run = run_replace},
    {.type = "BertNormalizer", .keys = bert_keys, .create = ht_bert_normalizer_create, .run = ht_bert_normalizer_run},
    {.type = "Precompiled", .keys = charsmap_keys, .create = ht_charsmap_create, .run = ht_charsmap_run},
};

static ht_status add_component(ht_tokenizer *tokenizer, const ht_field *object, const char *type) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].type, type) != 0)
            continue;
        if (tokenizer->normalizer_count == HT_STAGE_LIMIT)
            return ht_stage_full(object);
        HT_TRY(ht_field_only(object, types[i].keys));
        ht_normalizer_stage *stage = &tokenizer->normalizers[tokenizer->normalizer_count++];
        stage->run = types[i].run;
        return types[i].create ? types[i].create(tokenizer, object, &stage->state) : HT_OK;
    }
    return ht_stage_unknown(object, "normalizer", type);
}

ht_status ht_normalizers_load(ht_tokenizer *tokenizer, const ht_field *field) {
    return ht_stage_walk(tokenizer, field, "normalizers", add_component);
}

ht_status ht_normalize(ht_encode_call *call, ht_piece in, ht_piece *out) {
    const ht_tokenizer *tokenizer = call->tokenizer;
    *out = in;
    for (size_t i = 0; i < tokenizer->normalizer_count; i++) {
        ht_text *text = &call->normal[i % 2];
        size_t head = 0;
        text->length = 0;
        HT_TRY(tokenizer->normalizers[i].run(tokenizer->normalizers[i].state, call, *out, text, &head));
        HT_TRY(ht_text_check(text));
        *out = (ht_piece){text->data ? text->data : "", text->length, head};
    }
    return HT_OK;
}
