/* Decoders: the texts of the tokens become one text.
 *
 * A decoder maps a list of texts to a list of texts; what is left at the end is joined. Sequence is flattened when
 * loaded. Bytes that do not form UTF-8 become U+FFFD: ByteLevel repairs the joined bytes, ByteFallback replaces every
 * byte of a run that is not valid as a whole.
 * Source: the tokenizer.json format as the Hugging Face tokenizers library 0.23 reads it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/pipeline.h"

#include <string.h> /* memcmp, strcmp */

#include "base/status.h"
#include "tokenizer/byte_level.h"
#include "tokenizer/utf8.h"

static void add(ht_token_list *out, const char *text, size_t bytes) {
    ht_text_append(&out->bytes, text, bytes);
    ht_token_list_end(out);
}

static int equal(ht_piece text, const char *other, size_t bytes) {
    return text.bytes == bytes && memcmp(text.text, other, bytes) == 0;
}

/* Append text with every occurrence of `from` replaced; an empty `from` changes nothing. */
static void replace_all(ht_text *out, const char *text, size_t bytes, ht_field_text from, ht_field_text to) {
    const char *end = text + bytes, *done = text;
    for (const char *at = text; from.bytes && (size_t)(end - at) >= from.bytes;) {
        at = memmem(at, (size_t)(end - at), from.data, from.bytes);
        if (!at)
            break;
        ht_text_append(out, done, (size_t)(at - done));
        ht_text_append(out, to.data, to.bytes);
        done = at += from.bytes;
    }
    ht_text_append(out, done, (size_t)(end - done));
}

/* ---- ByteLevel, ByteFallback, Fuse ---- */

static ht_status run_byte_level(const void *state, ht_regex_scratch *scratch, const ht_token_list *in,
                                ht_token_list *out) {
    (void)state, (void)scratch;
    ht_text bytes = {0};
    for (size_t i = 0; i < ht_token_list_count(in); i++) {
        ht_piece token = ht_token_list_get(in, i);
        if (!ht_byte_level_decode(&bytes, token.text, token.bytes))
            ht_text_append(&bytes, token.text, token.bytes);
    }
    ht_text_append(&bytes, "", 0);
    ht_status status = ht_text_check(&bytes);
    if (status == HT_OK)
        ht_utf8_append_repaired(&out->bytes, bytes.data, bytes.length);
    ht_token_list_end(out);
    ht_text_free(&bytes);
    return status;
}

static int hex_digit(char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* <0xXX>: its byte; -1 for another text. */
static int byte_token(ht_piece token) {
    if (token.bytes != 6 || memcmp(token.text, "<0x", 3) != 0 || token.text[5] != '>')
        return -1;
    int high = token.text[3] == '+' ? 0 : hex_digit(token.text[3]), low = hex_digit(token.text[4]);
    return high < 0 || low < 0 ? -1 : high * 16 + low;
}

/* The bytes since run_start are one run of byte tokens: valid as a whole, or one U+FFFD each. */
static void end_run(ht_token_list *out, ht_text *run) {
    if (!run->length)
        return;
    if (ht_utf8_valid_prefix(run->data, run->length) == run->length)
        add(out, run->data, run->length);
    else
        for (size_t i = 0; i < run->length; i++)
            add(out, "\xef\xbf\xbd", 3);
    run->length = 0;
}

static ht_status run_byte_fallback(const void *state, ht_regex_scratch *scratch, const ht_token_list *in,
                                   ht_token_list *out) {
    (void)state, (void)scratch;
    ht_text run = {0};
    for (size_t i = 0; i < ht_token_list_count(in); i++) {
        ht_piece token = ht_token_list_get(in, i);
        int byte = byte_token(token);
        if (byte >= 0) {
            char value = (char)byte;
            ht_text_append(&run, &value, 1);
            continue;
        }
        end_run(out, &run);
        add(out, token.text, token.bytes);
    }
    end_run(out, &run);
    ht_status status = ht_text_check(&run);
    ht_text_free(&run);
    return status;
}

static ht_status run_fuse(const void *state, ht_regex_scratch *scratch, const ht_token_list *in, ht_token_list *out) {
    (void)state, (void)scratch;
    add(out, in->bytes.data, in->bytes.length);
    return HT_OK;
}

/* ---- Replace, Strip ---- */

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

static ht_status run_replace(const void *state, ht_regex_scratch *scratch, const ht_token_list *in,
                             ht_token_list *out) {
    const replace *rule = state;
    for (size_t i = 0; i < ht_token_list_count(in); i++) {
        ht_piece token = ht_token_list_get(in, i);
        ht_regex_walk walk = {0};
        size_t done = 0;
        for (;;) {
            int found;
            size_t start, end;
            HT_TRY(ht_regex_next(rule->regex, scratch, token.text, token.bytes, &walk, &found, &start, &end));
            if (!found)
                break;
            ht_text_append(&out->bytes, token.text + done, start - done);
            ht_text_append(&out->bytes, rule->content.data, rule->content.bytes);
            done = end;
        }
        add(out, token.text + done, token.bytes - done);
    }
    return HT_OK;
}

typedef struct strip {
    char content[4];
    size_t bytes;
    int64_t start, stop;
} strip;

static ht_status create_strip(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    strip *made = ht_stage_state(tokenizer, sizeof *made);
    uint32_t content;
    if (!made)
        return HT_ERR_MEMORY;
    *state = made;
    HT_TRY(ht_field_char_required(object, "content", &content));
    made->bytes = ht_utf8_encode(content, made->content);
    HT_TRY(ht_field_integer_required(object, "start", 0, INT32_MAX, &made->start));
    return ht_field_integer_required(object, "stop", 0, INT32_MAX, &made->stop);
}

static ht_status run_strip(const void *state, ht_regex_scratch *scratch, const ht_token_list *in, ht_token_list *out) {
    (void)scratch;
    const strip *rule = state;
    size_t bytes = rule->bytes;
    for (size_t i = 0; i < ht_token_list_count(in); i++) {
        ht_piece token = ht_token_list_get(in, i);
        for (int64_t n = 0; n < rule->start && token.bytes >= bytes; n++) {
            if (memcmp(token.text, rule->content, bytes) != 0)
                break;
            token.text += bytes;
            token.bytes -= bytes;
        }
        for (int64_t n = 0; n < rule->stop && token.bytes >= bytes; n++) {
            if (memcmp(token.text + token.bytes - bytes, rule->content, bytes) != 0)
                break;
            token.bytes -= bytes;
        }
        add(out, token.text, token.bytes);
    }
    return HT_OK;
}

/* ---- Metaspace, BPEDecoder ---- */

typedef struct metaspace {
    uint32_t replacement;
    int drops_first; /* the replacement in the first token is no space */
} metaspace;

static ht_status create_metaspace(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    metaspace *made = ht_stage_state(tokenizer, sizeof *made);
    ht_field_text scheme;
    if (!made)
        return HT_ERR_MEMORY;
    *state = made;
    HT_TRY(ht_field_char_required(object, "replacement", &made->replacement));
    HT_TRY(ht_field_bool(object, "add_prefix_space", 1, &made->drops_first));
    HT_TRY(ht_field_text_optional(object, "prepend_scheme", &scheme));
    if (scheme.data)
        made->drops_first = strcmp(scheme.data, "never") != 0;
    return HT_OK;
}

static ht_status run_metaspace(const void *state, ht_regex_scratch *scratch, const ht_token_list *in,
                               ht_token_list *out) {
    (void)scratch;
    const metaspace *rule = state;
    for (size_t i = 0; i < ht_token_list_count(in); i++) {
        ht_piece token = ht_token_list_get(in, i);
        for (size_t at = 0; at < token.bytes;) {
            uint32_t character;
            size_t length = ht_utf8_decode(token.text + at, token.bytes - at, &character);
            if (character != rule->replacement)
                ht_text_append(&out->bytes, token.text + at, length);
            else if (i > 0 || !rule->drops_first)
                ht_text_append(&out->bytes, " ", 1);
            at += length;
        }
        ht_token_list_end(out);
    }
    return HT_OK;
}

static ht_status create_bpe(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    ht_field_text *suffix = ht_stage_state(tokenizer, sizeof *suffix);
    *state = suffix;
    if (!suffix)
        return HT_ERR_MEMORY;
    if (ht_field_get(object, "suffix").value)
        return ht_stage_text(tokenizer, object, "suffix", suffix);
    *suffix = (ht_field_text){"</w>", 4};
    return HT_OK;
}

static ht_status run_bpe(const void *state, ht_regex_scratch *scratch, const ht_token_list *in, ht_token_list *out) {
    (void)scratch;
    const ht_field_text *suffix = state;
    size_t count = ht_token_list_count(in);
    for (size_t i = 0; i < count; i++) {
        ht_piece token = ht_token_list_get(in, i);
        replace_all(&out->bytes, token.text, token.bytes, *suffix, (ht_field_text){" ", i + 1 < count});
        ht_token_list_end(out);
    }
    return HT_OK;
}

/* ---- WordPiece, CTC ---- */

/* Undo the spaces that English tokenization puts around punctuation and contractions, in this order. */
static ht_status clean_up(const char *text, size_t bytes, ht_text *out) {
    static const char *const rules[][2] = {
        {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
        {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
    };
    ht_text now = {0}, next = {0};
    ht_text_append(&now, text, bytes);
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        next.length = 0;
        replace_all(&next, now.data ? now.data : "", now.length, (ht_field_text){rules[i][0], strlen(rules[i][0])},
                    (ht_field_text){rules[i][1], strlen(rules[i][1])});
        ht_text swap = now;
        now = next;
        next = swap;
    }
    ht_text_append(out, now.data, now.length);
    ht_status status = now.failed ? ht_text_check(&now) : ht_text_check(&next);
    ht_text_free(&now);
    ht_text_free(&next);
    return status;
}

typedef struct wordpiece {
    ht_field_text prefix; /* CTC: the token that stands for nothing */
    ht_field_text delimiter;
    int cleanup;
} wordpiece;

static ht_status create_wordpiece(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    wordpiece *made = ht_stage_state(tokenizer, sizeof *made);
    *state = made;
    if (!made)
        return HT_ERR_MEMORY;
    HT_TRY(ht_stage_text(tokenizer, object, "prefix", &made->prefix));
    return ht_field_bool(object, "cleanup", 1, &made->cleanup);
}

static ht_status run_wordpiece(const void *state, ht_regex_scratch *scratch, const ht_token_list *in,
                               ht_token_list *out) {
    (void)scratch;
    const wordpiece *rule = state;
    ht_text text = {0};
    ht_status status = HT_OK;
    for (size_t i = 0; i < ht_token_list_count(in) && status == HT_OK; i++) {
        ht_piece token = ht_token_list_get(in, i);
        size_t prefix = rule->prefix.bytes;
        text.length = 0;
        if (i > 0 && token.bytes >= prefix && memcmp(token.text, rule->prefix.data, prefix) == 0) {
            token.text += prefix;
            token.bytes -= prefix;
        } else if (i > 0) {
            ht_text_append(&text, " ", 1);
        }
        ht_text_append(&text, token.text, token.bytes);
        status = ht_text_check(&text);
        if (status == HT_OK && rule->cleanup)
            status = clean_up(text.data, text.length, &out->bytes);
        else
            ht_text_append(&out->bytes, text.data, text.length);
        ht_token_list_end(out);
    }
    ht_text_free(&text);
    return status;
}

static ht_status create_ctc(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    wordpiece *made = ht_stage_state(tokenizer, sizeof *made);
    *state = made;
    if (!made)
        return HT_ERR_MEMORY;
    HT_TRY(ht_stage_text(tokenizer, object, "pad_token", &made->prefix));
    HT_TRY(ht_stage_text(tokenizer, object, "word_delimiter_token", &made->delimiter));
    return ht_field_bool(object, "cleanup", 1, &made->cleanup);
}

/* Repeated tokens count once, the pad token is nothing, the delimiter is a space. */
static ht_status run_ctc(const void *state, ht_regex_scratch *scratch, const ht_token_list *in, ht_token_list *out) {
    (void)scratch;
    const wordpiece *rule = state;
    ht_text kept = {0}, clean = {0};
    ht_status status = HT_OK;
    for (size_t i = 0; i < ht_token_list_count(in) && status == HT_OK; i++) {
        ht_piece token = ht_token_list_get(in, i), before = i ? ht_token_list_get(in, i - 1) : token;
        if (i && equal(token, before.text, before.bytes))
            continue;
        kept.length = clean.length = 0;
        replace_all(&kept, token.text, token.bytes, rule->prefix, (ht_field_text){"", 0});
        status = ht_text_check(&kept);
        size_t start = out->bytes.length;
        if (status == HT_OK && rule->cleanup && kept.length) {
            status = clean_up(kept.data, kept.length, &clean);
            replace_all(&out->bytes, clean.data ? clean.data : "", clean.length, rule->delimiter,
                        (ht_field_text){" ", 1});
        } else {
            ht_text_append(&out->bytes, kept.data, kept.length);
        }
        if (out->bytes.length > start)
            ht_token_list_end(out);
    }
    ht_text_free(&kept);
    ht_text_free(&clean);
    return status;
}

/* ---- the table ---- */

static const char *const no_keys[] = {"type", NULL};
static const char *const byte_level_keys[] = {"type", "add_prefix_space", "trim_offsets", "use_regex", NULL};
static const char *const replace_keys[] = {"type", "pattern", "content", NULL};
static const char *const strip_keys[] = {"type", "content", "start", "stop", NULL};
static const char *const metaspace_keys[] = {"type",    "replacement", "add_prefix_space", "prepend_scheme", "split",
                                             "str_rep", NULL};
static const char *const bpe_keys[] = {"type", "suffix", NULL};
static const char *const wordpiece_keys[] = {"type", "prefix", "cleanup", NULL};
static const char *const ctc_keys[] = {"type", "pad_token", "word_delimiter_token", "cleanup", NULL};

static const struct {
    const char *type;
    const char *const *keys;
    ht_status (*create)(ht_tokenizer *tokenizer, const ht_field *object, const void **state); /* may be NULL */
    ht_decode_fn *run;
} types[] = {
    {.type = "ByteLevel", .keys = byte_level_keys, .run = run_byte_level},
    {.type = "ByteFallback", .keys = no_keys, .run = run_byte_fallback},
    {.type = "Fuse", .keys = no_keys, .run = run_fuse},
    {.type = "Replace", .keys = replace_keys, .create = create_replace, .run = run_replace},
    {.type = "Strip", .keys = strip_keys, .create = create_strip, .run = run_strip},
    {.type = "Metaspace", .keys = metaspace_keys, .create = create_metaspace, .run = run_metaspace},
    {.type = "BPEDecoder", .keys = bpe_keys, .create = create_bpe, .run = run_bpe},
    {.type = "WordPiece", .keys = wordpiece_keys, .create = create_wordpiece, .run = run_wordpiece},
    {.type = "CTC", .keys = ctc_keys, .create = create_ctc, .run = run_ctc},
};

static ht_status add_component(ht_tokenizer *tokenizer, const ht_field *object, const char *type) {
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (strcmp(types[i].type, type) != 0)
            continue;
        if (tokenizer->decoder_count == HT_STAGE_LIMIT)
            return ht_stage_full(object);
        HT_TRY(ht_field_only(object, types[i].keys));
        ht_decoder_stage *stage = &tokenizer->decoders[tokenizer->decoder_count++];
        stage->run = types[i].run;
        return types[i].create ? types[i].create(tokenizer, object, &stage->state) : HT_OK;
    }
    return ht_stage_unknown(object, "decoder", type);
}

ht_status ht_decoders_load(ht_tokenizer *tokenizer, const ht_field *field) {
    tokenizer->has_decoder = field->value != NULL;
    return ht_stage_walk(tokenizer, field, "decoders", add_component);
}

static ht_status run_all(const ht_tokenizer *tokenizer, ht_token_list *list, ht_regex_scratch *scratch,
                         ht_token_list *spare) {
    for (size_t i = 0; i < tokenizer->decoder_count; i++) {
        ht_token_list_clear(spare);
        HT_TRY(tokenizer->decoders[i].run(tokenizer->decoders[i].state, scratch, list, spare));
        HT_TRY(ht_text_check(&spare->bytes));
        HT_TRY(ht_text_check(&spare->ends));
        ht_token_list swap = *list;
        *list = *spare;
        *spare = swap;
    }
    return HT_OK;
}

ht_status ht_decode_tokens(const ht_tokenizer *tokenizer, ht_token_list *list, ht_text *out) {
    ht_token_list spare = {{0}, {0}};
    ht_regex_scratch scratch;
    ht_regex_scratch_init(&scratch, tokenizer->ctx);
    ht_status status = run_all(tokenizer, list, &scratch, &spare);
    if (status == HT_OK && tokenizer->has_decoder) {
        ht_text_append(out, list->bytes.data, list->bytes.length);
    } else if (status == HT_OK) {
        for (size_t i = 0; i < ht_token_list_count(list); i++) {
            ht_piece token = ht_token_list_get(list, i);
            ht_text_append(out, " ", i > 0);
            ht_text_append(out, token.text, token.bytes);
        }
    }
    ht_regex_scratch_release(&scratch);
    ht_text_free(&spare.bytes);
    ht_text_free(&spare.ends);
    return status == HT_OK ? ht_text_check(out) : status;
}
