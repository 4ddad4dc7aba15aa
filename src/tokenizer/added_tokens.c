/* Added tokens: texts that become one id wherever they stand, before the model sees anything.
 *
 * Tokens with "normalized": false are looked for in the text as it came; the rest of it is normalized, and the others
 * (their own text normalized likewise) are looked for in that. Of the tokens that begin at a place the longest wins,
 * places are taken from left to right: a trie per kind, walked from every byte that can begin a token.
 *
 *     node: first child, next sibling, byte, token        children are searched in order
 *
 * single_word rejects a match with a word character on either side; lstrip and rstrip swallow white space around it.
 * Ids are given as the format's own library does: the model's id of the text if it has one, else the next free id in
 * the order of the file; the id in the file is only compared, and a difference is logged.
 * Source: the tokenizer.json format as the Hugging Face tokenizers library 0.23 reads it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/pipeline.h"

#include <string.h> /* memcpy, strlen */

#include "base/context.h"
#include "base/status.h"
#include "tokenizer/utf8.h"

enum { ADDED_LIMIT = 1 << 20, NODE_LIMIT = 1 << 26 };

typedef struct added_token {
    ht_field_text content; /* in the arena */
    int32_t id;
    int single_word, lstrip, rstrip, normalized, special;
} added_token;

typedef struct trie_node {
    uint32_t child, sibling; /* 0 = none */
    uint32_t token;          /* 1 + index, 0 = none */
    uint8_t byte;
} trie_node;

struct ht_added_trie {
    const added_token *tokens;
    trie_node *nodes; /* [0] is the root */
    size_t node_count;
    uint32_t first[256];  /* children of the root by byte, 0 = none */
    const ht_regex *word; /* one word character; NULL when no token asks */
};

/* ---- loading ---- */

static ht_status read_token(ht_tokenizer *tokenizer, const ht_field *object, added_token *token, int64_t *id) {
    static const char *const keys[] = {"id",     "content",    "single_word", "lstrip",
                                       "rstrip", "normalized", "special",     NULL};
    HT_TRY(ht_field_object(object));
    HT_TRY(ht_field_only(object, keys));
    HT_TRY(ht_field_integer_required(object, "id", 0, HT_TOKEN_ID_LIMIT - 1, id));
    HT_TRY(ht_stage_text(tokenizer, object, "content", &token->content));
    HT_TRY(ht_field_bool(object, "special", 0, &token->special));
    HT_TRY(ht_field_bool(object, "single_word", 0, &token->single_word));
    HT_TRY(ht_field_bool(object, "lstrip", 0, &token->lstrip));
    HT_TRY(ht_field_bool(object, "rstrip", 0, &token->rstrip));
    return ht_field_bool(object, "normalized", !token->special, &token->normalized);
}

/* Enter a token into the vocabulary. *next: the id for a text that the model does not have. */
static ht_status give_id(ht_tokenizer *tokenizer, const ht_field *object, added_token *token, int64_t wanted,
                         size_t *next) {
    ht_vocabulary *vocabulary = &tokenizer->vocabulary;
    token->id = ht_vocabulary_find(vocabulary, token->content.data, token->content.bytes);
    if (token->id < 0) {
        if (*next >= HT_TOKEN_ID_LIMIT)
            return ht_field_fail(object, HT_ERR_CORRUPT, "no id left below %d", HT_TOKEN_ID_LIMIT);
        token->id = (int32_t)*next;
        HT_TRY(ht_vocabulary_add(vocabulary, token->content.data, token->content.bytes, token->id, 1));
    }
    if ((size_t)token->id >= *next)
        *next = (size_t)token->id + 1;
    vocabulary->tokens[token->id].special |= token->special;
    if (token->id != wanted)
        ht_log(tokenizer->ctx, HT_LOG_WARN, "tokenizer: added token \"%.60s\" has id %d, the file says %lld",
               token->content.data, token->id, (long long)wanted);
    return HT_OK;
}

static ht_status load_tokens(ht_tokenizer *tokenizer, const ht_field *list, added_token *tokens) {
    size_t next = tokenizer->vocabulary.used; /* the library counts texts, not the largest id */
    for (size_t i = 0; i < json_array_size(list->value); i++) {
        ht_field object = ht_field_at(list, i);
        int64_t wanted;
        HT_TRY(read_token(tokenizer, &object, &tokens[i], &wanted));
        if (tokens[i].content.bytes)
            HT_TRY(give_id(tokenizer, &object, &tokens[i], wanted, &next));
    }
    return HT_OK;
}

static uint32_t find_child(const ht_added_trie *trie, uint32_t node, uint8_t byte) {
    uint32_t child = trie->nodes[node].child;
    while (child && trie->nodes[child].byte != byte)
        child = trie->nodes[child].sibling;
    return child;
}

/* trie->nodes has room for all bytes of the text. The first token of a text keeps it. */
static void insert(ht_added_trie *trie, const char *text, size_t bytes, uint32_t token) {
    uint32_t node = 0;
    for (size_t i = 0; i < bytes; i++) {
        uint8_t byte = (uint8_t)text[i];
        uint32_t child = find_child(trie, node, byte);
        if (!child) {
            child = (uint32_t)trie->node_count++;
            trie->nodes[child] = (trie_node){.sibling = trie->nodes[node].child, .byte = byte};
            trie->nodes[node].child = child;
            if (node == 0)
                trie->first[byte] = child;
        }
        node = child;
    }
    if (bytes && !trie->nodes[node].token)
        trie->nodes[node].token = token + 1;
}

/* The text that a token is looked for by. */
static ht_status searched_text(ht_encode_call *call, const added_token *token, ht_piece *out) {
    *out = (ht_piece){token->content.data, token->content.bytes, 0};
    if (token->normalized && token->content.bytes)
        return ht_normalize(call, *out, out);
    return HT_OK;
}

/* Special tokens come first, so that they keep a text that several tokens share. */
static ht_status fill(ht_encode_call *call, ht_added_trie *trie, size_t count, int normalized) {
    size_t capacity = 0;
    for (int special = 1; special >= 0; special--)
        for (size_t i = 0; i < count; i++) {
            const added_token *token = &trie->tokens[i];
            ht_piece text;
            if (token->special != special || token->normalized != normalized)
                continue;
            HT_TRY(searched_text(call, token, &text));
            size_t needed = (trie->node_count ? trie->node_count : 1) + text.bytes;
            if (needed > capacity) {
                trie_node *larger;
                capacity = needed * 2 + 64;
                if (capacity > NODE_LIMIT)
                    return ht_fail(HT_ERR_UNSUPPORTED, "added_tokens: more than %d bytes of text", NODE_LIMIT / 2);
                HT_TRY(ht_allocate(call->tokenizer->ctx, capacity, sizeof *larger, "added tokens", &larger));
                if (trie->node_count)
                    memcpy(larger, trie->nodes, trie->node_count * sizeof *larger);
                ht_release(call->tokenizer->ctx, trie->nodes);
                trie->nodes = larger;
                trie->node_count += trie->node_count == 0;
            }
            insert(trie, text.text, text.bytes, (uint32_t)i);
        }
    return HT_OK;
}

static ht_status build(ht_tokenizer *tokenizer, const added_token *tokens, size_t count, int normalized,
                       ht_added_trie **out) {
    int any = 0, words = 0;
    for (size_t i = 0; i < count; i++) {
        any |= tokens[i].normalized == normalized && tokens[i].content.bytes;
        words |= tokens[i].single_word;
    }
    if (!any)
        return HT_OK;
    ht_added_trie *trie = ht_stage_state(tokenizer, sizeof *trie);
    if (!trie)
        return HT_ERR_MEMORY;
    *out = trie;
    trie->tokens = tokens;
    ht_field none = {0};
    ht_field_text word = {"[" HT_WORD_CHARACTERS "]", strlen("[" HT_WORD_CHARACTERS "]")};
    if (words)
        HT_TRY(ht_stage_regex(tokenizer, &none, HT_REGEX_ONIGURUMA, word, &trie->word));
    ht_encode_call call = {.tokenizer = tokenizer};
    ht_regex_scratch_init(&call.regex, tokenizer->ctx);
    ht_status status = fill(&call, trie, count, normalized);
    ht_regex_scratch_release(&call.regex);
    ht_text_free(&call.normal[0]);
    ht_text_free(&call.normal[1]);
    return status;
}

ht_status ht_added_tokens_load(ht_tokenizer *tokenizer, const ht_field *field) {
    if (!field->value)
        return HT_OK;
    HT_TRY(ht_field_array(field));
    size_t count = json_array_size(field->value);
    if (count > ADDED_LIMIT)
        return ht_field_fail(field, HT_ERR_UNSUPPORTED, "%zu tokens, the limit is %d", count, ADDED_LIMIT);
    added_token *tokens = ht_stage_state(tokenizer, count * sizeof *tokens);
    if (!tokens)
        return HT_ERR_MEMORY;
    HT_TRY(load_tokens(tokenizer, field, tokens));
    HT_TRY(build(tokenizer, tokens, count, 0, &tokenizer->added_raw));
    return build(tokenizer, tokens, count, 1, &tokenizer->added_normalized);
}

void ht_added_tokens_release(ht_tokenizer *tokenizer) {
    if (tokenizer->added_raw)
        ht_release(tokenizer->ctx, tokenizer->added_raw->nodes);
    if (tokenizer->added_normalized)
        ht_release(tokenizer->ctx, tokenizer->added_normalized->nodes);
}

/* ---- matching ---- */

/* The longest token that begins at text[at], or NULL. */
static const added_token *match_at(const ht_added_trie *trie, ht_piece piece, size_t at, size_t *end) {
    const added_token *best = NULL;
    uint32_t node = trie->first[(uint8_t)piece.text[at]];
    for (size_t i = at + 1; node; i++) {
        if (trie->nodes[node].token) {
            best = &trie->tokens[trie->nodes[node].token - 1];
            *end = i;
        }
        node = i < piece.bytes ? find_child(trie, node, (uint8_t)piece.text[i]) : 0;
    }
    return best;
}

static ht_status is_word(ht_encode_call *call, const ht_added_trie *trie, const char *character, int *word) {
    size_t start, end;
    return ht_regex_find(trie->word, &call->regex, character, ht_utf8_length(character), 0, word, &start, &end);
}

/* Is a match free of word characters on both sides? */
static ht_status stands_alone(ht_encode_call *call, const ht_added_trie *trie, ht_piece piece, size_t start, size_t end,
                              int *alone) {
    int word = 0;
    if (start > 0)
        HT_TRY(is_word(call, trie, piece.text + ht_utf8_before(piece.text, start), &word));
    if (!word && end < piece.bytes)
        HT_TRY(is_word(call, trie, piece.text + end, &word));
    *alone = !word;
    return HT_OK;
}

/* The run of white space that was last walked over to the right: a run full of tokens is walked once, not per token. */
typedef struct space_run {
    size_t start, end;
} space_run;

static size_t skip_spaces(ht_piece piece, size_t at, space_run *run) {
    if (at >= run->start && at < run->end)
        return run->end;
    run->start = at;
    while (at < piece.bytes) {
        uint32_t character;
        size_t length = ht_utf8_decode(piece.text + at, piece.bytes - at, &character);
        if (!ht_char_is_space(character))
            break;
        at += length;
    }
    return run->end = at;
}

/* Grow [start, end) over white space, to the left not beyond `floor`. */
static void strip_around(const added_token *token, ht_piece piece, size_t floor, space_run *run, size_t *start,
                         size_t *end) {
    while (token->lstrip && *start > floor) {
        uint32_t character;
        size_t before = ht_utf8_before(piece.text, *start);
        ht_utf8_decode(piece.text + before, *start - before, &character);
        if (!ht_char_is_space(character))
            break;
        *start = before;
    }
    if (token->lstrip && *start < floor)
        *start = floor;
    if (token->rstrip)
        *end = skip_spaces(piece, *end, run);
}

typedef ht_status rest_fn(ht_encode_call *call, ht_piece piece);

/* Ids of the tokens in a piece, in order with what `rest` makes of the text between. */
static ht_status split(ht_encode_call *call, const ht_added_trie *trie, ht_piece piece, rest_fn *rest) {
    space_run run = {0, 0};
    size_t done = 0; /* text before is dealt with; rstrip can move it into the next match */
    for (size_t at = 0; trie && at < piece.bytes;) {
        size_t start = at, end = at;
        const added_token *token = match_at(trie, piece, at, &end);
        if (!token) {
            at++;
            continue;
        }
        at = end;
        int alone = 1;
        if (token->single_word)
            HT_TRY(stands_alone(call, trie, piece, start, end, &alone));
        if (!alone)
            continue;
        strip_around(token, piece, done, &run, &start, &end);
        if (done < start)
            HT_TRY(rest(call, ht_piece_part(piece, done, start)));
        if (start < end) /* not swallowed whole by the token before */
            ht_append_id(&call->ids, token->id);
        done = end;
    }
    return done < piece.bytes ? rest(call, ht_piece_part(piece, done, piece.bytes)) : HT_OK;
}

static ht_status into_pretokenizers(ht_encode_call *call, ht_piece piece) {
    return ht_pretokenize_from(call, 0, piece);
}

static ht_status into_normalizers(ht_encode_call *call, ht_piece piece) {
    ht_piece normalized;
    HT_TRY(ht_normalize(call, piece, &normalized));
    return split(call, call->tokenizer->added_normalized, normalized, into_pretokenizers);
}

ht_status ht_added_tokens_split(ht_encode_call *call, ht_piece text) {
    return split(call, call->tokenizer->added_raw, text, into_normalizers);
}
