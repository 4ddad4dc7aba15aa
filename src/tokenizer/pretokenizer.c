/* Pre-tokenizers: the table of types, and the pipeline that runs them.
 *
 * A pre-tokenizer cuts a piece into smaller ones and may rewrite it. When the file is loaded, every component becomes
 * one or more primitive stages (split, prefix, byte alphabet, ...) in one flat list; a piece walks down the list depth
 * first, and what leaves the last stage goes to the model. Each stage has a buffer of its own for rewritten text: it is
 * free again when the pieces cut from it have passed.
 * Source: the tokenizer.json format as the Hugging Face tokenizers library 0.23 reads it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/pretokenizer.h"

#include <string.h> /* strcmp, memcmp */

#include "base/status.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/split.h"
#include "tokenizer/utf8.h"

/* ---- primitive stages ---- */

static ht_status add_stage(ht_tokenizer *tokenizer, const ht_field *object, ht_pretokenize_fn *run, const void *state) {
    if (tokenizer->pretokenizer_count == HT_STAGE_LIMIT)
        return ht_stage_full(object);
    tokenizer->pretokenizers[tokenizer->pretokenizer_count++] = (ht_pretokenizer_stage){run, state};
    return HT_OK;
}

static ht_status add_split(ht_tokenizer *tokenizer, const ht_field *object, ht_split split) {
    ht_split *state = ht_stage_state(tokenizer, sizeof *state);
    if (!state)
        return HT_ERR_MEMORY;
    *state = split;
    return add_stage(tokenizer, object, ht_split_run, state);
}

static ht_status add_regex_split(ht_tokenizer *tokenizer, const ht_field *object, const char *pattern, ht_split split) {
    ht_field_text text = {pattern, strlen(pattern)};
    HT_TRY(ht_stage_regex(tokenizer, object, HT_REGEX_ONIGURUMA, text, &split.regex));
    return add_split(tokenizer, object, split);
}

/* A space before a piece that does not begin with one. */
static ht_status run_prefix_space(const void *state, ht_encode_call *call, size_t stage, ht_piece in) {
    (void)state;
    if (in.text[0] == ' ')
        return ht_pretokenize_from(call, stage + 1, in);
    ht_text *text = &call->stage[stage];
    text->length = 0;
    ht_text_append(text, " ", 1);
    ht_text_append(text, in.text, in.bytes);
    HT_TRY(ht_text_check(text));
    return ht_pretokenize_from(call, stage + 1, (ht_piece){text->data, text->length, in.head ? in.head + 1 : 0});
}

static ht_status run_byte_alphabet(const void *state, ht_encode_call *call, size_t stage, ht_piece in) {
    (void)state;
    ht_text *text = &call->stage[stage];
    text->length = 0;
    ht_byte_level_encode(text, in.text, in.head);
    size_t head = text->length;
    ht_byte_level_encode(text, in.text + in.head, in.bytes - in.head);
    HT_TRY(ht_text_check(text));
    return ht_pretokenize_from(call, stage + 1, (ht_piece){text->data, text->length, head});
}

/* Chunks of a number of characters. */
static ht_status run_fixed_length(const void *state, ht_encode_call *call, size_t stage, ht_piece in) {
    const size_t *characters = state;
    size_t start = 0, count = 0;
    for (size_t at = 0; at < in.bytes;) {
        at += ht_utf8_length(in.text + at);
        if (++count == *characters || at >= in.bytes) {
            HT_TRY(ht_pretokenize_from(call, stage + 1, ht_piece_part(in, start, at)));
            start = at;
            count = 0;
        }
    }
    return HT_OK;
}

/* ---- types ---- */

static ht_status create_split(ht_tokenizer *tokenizer, const ht_field *object) {
    ht_split split = {0};
    HT_TRY(ht_stage_pattern(tokenizer, object, &split.regex));
    HT_TRY(ht_split_behavior_read(object, "behavior", HT_SPLIT_ISOLATED, &split.behavior));
    HT_TRY(ht_field_bool(object, "invert", 0, &split.invert));
    return add_split(tokenizer, object, split);
}

static ht_status create_byte_level(ht_tokenizer *tokenizer, const ht_field *object) {
    int prefix, regex;
    HT_TRY(ht_field_bool(object, "add_prefix_space", 1, &prefix));
    HT_TRY(ht_field_bool(object, "use_regex", 1, &regex));
    if (prefix)
        HT_TRY(add_stage(tokenizer, object, run_prefix_space, NULL));
    if (regex)
        HT_TRY(add_regex_split(tokenizer, object, HT_BYTE_LEVEL_PATTERN, (ht_split){.behavior = HT_SPLIT_ISOLATED}));
    return add_stage(tokenizer, object, run_byte_alphabet, NULL);
}

static ht_status create_digits(ht_tokenizer *tokenizer, const ht_field *object) {
    int individual;
    HT_TRY(ht_field_bool(object, "individual_digits", 0, &individual));
    return add_split(
        tokenizer, object,
        (ht_split){.is = ht_char_is_number, .behavior = individual ? HT_SPLIT_ISOLATED : HT_SPLIT_CONTIGUOUS});
}

static ht_status create_punctuation(ht_tokenizer *tokenizer, const ht_field *object) {
    ht_split split = {.is = ht_char_is_punctuation};
    HT_TRY(ht_split_behavior_read(object, "behavior", HT_SPLIT_ISOLATED, &split.behavior));
    return add_split(tokenizer, object, split);
}

static ht_status create_whitespace(ht_tokenizer *tokenizer, const ht_field *object) {
    return add_regex_split(tokenizer, object, "[" HT_WORD_CHARACTERS "]+|[^" HT_WORD_CHARACTERS "\\s]+",
                           (ht_split){.behavior = HT_SPLIT_REMOVED, .invert = 1});
}

static ht_status create_whitespace_split(ht_tokenizer *tokenizer, const ht_field *object) {
    return add_split(tokenizer, object, (ht_split){.is = ht_char_is_space, .behavior = HT_SPLIT_REMOVED});
}

static ht_status create_bert(ht_tokenizer *tokenizer, const ht_field *object) {
    HT_TRY(create_whitespace_split(tokenizer, object));
    return add_split(tokenizer, object, (ht_split){.is = ht_char_is_punctuation, .behavior = HT_SPLIT_ISOLATED});
}

static ht_status create_delimiter(ht_tokenizer *tokenizer, const ht_field *object) {
    ht_split split = {.behavior = HT_SPLIT_REMOVED};
    HT_TRY(ht_field_char_required(object, "delimiter", &split.character));
    return add_split(tokenizer, object, split);
}

static ht_status create_fixed_length(ht_tokenizer *tokenizer, const ht_field *object) {
    int64_t length = 5;
    if (ht_field_get(object, "length").value)
        HT_TRY(ht_field_integer_required(object, "length", 1, INT32_MAX, &length));
    size_t *state = ht_stage_state(tokenizer, sizeof *state);
    if (!state)
        return HT_ERR_MEMORY;
    *state = (size_t)length;
    return add_stage(tokenizer, object, run_fixed_length, state);
}

/* ---- Metaspace ---- */

typedef struct metaspace {
    char replacement[4];
    size_t bytes;
    enum { NEVER, FIRST, ALWAYS } prepend;
} metaspace;

static int begins_with(ht_piece piece, const metaspace *meta) {
    return piece.bytes >= meta->bytes && memcmp(piece.text, meta->replacement, meta->bytes) == 0;
}

static void replace_spaces(const metaspace *meta, const char *text, size_t bytes, ht_text *out) {
    while (bytes) {
        const char *space = memchr(text, ' ', bytes);
        size_t before = space ? (size_t)(space - text) : bytes;
        ht_text_append(out, text, before);
        if (space)
            ht_text_append(out, meta->replacement, meta->bytes);
        text += before + (space != NULL);
        bytes -= before + (space != NULL);
    }
}

/* Spaces become the replacement; one more goes in front. */
static ht_status run_metaspace(const void *state, ht_encode_call *call, size_t stage, ht_piece in) {
    const metaspace *meta = state;
    ht_text *text = &call->stage[stage];
    text->length = 0;
    int starts = in.text[0] == ' ' || begins_with(in, meta);
    if (!starts && (meta->prepend == ALWAYS || (meta->prepend == FIRST && in.head)))
        ht_text_append(text, meta->replacement, meta->bytes);
    replace_spaces(meta, in.text, in.head, text);
    size_t head = in.head ? text->length : 0;
    replace_spaces(meta, in.text + in.head, in.bytes - in.head, text);
    HT_TRY(ht_text_check(text));
    return ht_pretokenize_from(call, stage + 1, (ht_piece){text->data, text->length, head});
}

static ht_status read_prepend(const ht_field *object, metaspace *meta) {
    int prefix;
    ht_field_text scheme;
    HT_TRY(ht_field_bool(object, "add_prefix_space", 1, &prefix));
    HT_TRY(ht_field_text_optional(object, "prepend_scheme", &scheme));
    meta->prepend = prefix ? ALWAYS : NEVER;
    if (!scheme.data)
        return HT_OK;
    ht_field field = ht_field_get(object, "prepend_scheme");
    if (strcmp(scheme.data, "always") == 0)
        meta->prepend = ALWAYS;
    else if (strcmp(scheme.data, "first") == 0)
        meta->prepend = FIRST;
    else if (strcmp(scheme.data, "never") == 0)
        meta->prepend = NEVER;
    else
        return ht_field_fail(&field, HT_ERR_CORRUPT, "unknown scheme \"%.40s\"", scheme.data);
    if (!prefix && meta->prepend != NEVER)
        return ht_field_fail(&field, HT_ERR_CORRUPT, "\"%s\" contradicts add_prefix_space false", scheme.data);
    return HT_OK;
}

static ht_status create_metaspace(ht_tokenizer *tokenizer, const ht_field *object) {
    metaspace *meta = ht_stage_state(tokenizer, sizeof *meta);
    if (!meta)
        return HT_ERR_MEMORY;
    uint32_t character;
    int split;
    HT_TRY(ht_field_char_required(object, "replacement", &character));
    HT_TRY(read_prepend(object, meta));
    HT_TRY(ht_field_bool(object, "split", 1, &split));
    meta->bytes = ht_utf8_encode(character, meta->replacement);
    HT_TRY(add_stage(tokenizer, object, run_metaspace, meta));
    if (!split)
        return HT_OK;
    return add_split(tokenizer, object, (ht_split){.character = character, .behavior = HT_SPLIT_MERGED_WITH_NEXT});
}

static ht_status create_scripts(ht_tokenizer *tokenizer, const ht_field *object) {
    const void *state;
    HT_TRY(ht_scripts_create(tokenizer, object, &state));
    return add_stage(tokenizer, object, ht_scripts_run, state);
}

/* ---- the table ---- */

static const char *const no_keys[] = {"type", NULL};
static const char *const split_keys[] = {"type", "pattern", "behavior", "invert", NULL};
static const char *const byte_level_keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
static const char *const digits_keys[] = {"type", "individual_digits", NULL};
static const char *const punctuation_keys[] = {"type", "behavior", NULL};
static const char *const delimiter_keys[] = {"type", "delimiter", NULL};
static const char *const length_keys[] = {"type", "length", NULL};
static const char *const metaspace_keys[] = {"type",    "replacement", "add_prefix_space", "prepend_scheme", "split",
                                             "str_rep", NULL};

static const struct {
    const char *type;
    const char *const *keys;
    ht_status (*create)(ht_tokenizer *tokenizer, const ht_field *object); /* adds the stages */
} types[] = {
    {.type = "Split", .keys = split_keys, .create = create_split},
    {.type = "ByteLevel", .keys = byte_level_keys, .create = create_byte_level},
    {.type = "Digits", .keys = digits_keys, .create = create_digits},
    {.type = "Metaspace", .keys = metaspace_keys, .create = create_metaspace},
    {.type = "Punctuation", .keys = punctuation_keys, .create = create_punctuation},
    {.type = "Whitespace", .keys = no_keys, .create = create_whitespace},
    {.type = "WhitespaceSplit", .keys = no_keys, .create = create_whitespace_split},
    {.type = "BertPreTokenizer", .keys = no_keys, .create = create_bert},
    {.type = "CharDelimiterSplit", .keys = delimiter_keys, .create = create_delimiter},
    {.type = "UnicodeScripts", .keys = no_keys, .create = create_scripts},
    {.type = "FixedLength", .keys = length_keys, .create = create_fixed_length},
};

static ht_status add_component(ht_tokenizer *tokenizer, const ht_field *object, const char *type) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (strcmp(types[i].type, type) == 0) {
            HT_TRY(ht_field_only(object, types[i].keys));
            return types[i].create(tokenizer, object);
        }
    return ht_stage_unknown(object, "pre-tokenizer", type);
}

ht_status ht_pretokenizers_load(ht_tokenizer *tokenizer, const ht_field *field) {
    return ht_stage_walk(tokenizer, field, "pretokenizers", add_component);
}

ht_status ht_pretokenize_from(ht_encode_call *call, size_t stage, ht_piece piece) {
    const ht_tokenizer *tokenizer = call->tokenizer;
    if (!piece.bytes)
        return HT_OK;
    if (stage == tokenizer->pretokenizer_count)
        return ht_bpe_encode(&tokenizer->bpe, &call->bpe, piece.text, piece.bytes, &call->ids);
    return tokenizer->pretokenizers[stage].run(tokenizer->pretokenizers[stage].state, call, stage, piece);
}
