/* The BPE model: loading it, and cutting a piece into symbols.
 *
 * A piece becomes one symbol per character: the character's own token (with the continuing-subword prefix on all but
 * the first and the end-of-word suffix on the last), else the tokens of its bytes <0xXX>, else the unknown token, of
 * which neighbours may be fused. A character with none of these is dropped. Then symbols are merged (bpe_merge.c).
 * Words up to 24 bytes and 8 ids are remembered for the rest of the call in a direct-mapped cache:
 *
 *     | hash 4 | bytes 1 | count 1 | key 26 | ids 8 x 4 |   = 64 bytes, one cache line
 *
 * Long pieces (a model without pre-tokenizer sees the whole text as one) are cut where no merge can reach across, which
 * gives the same ids; see bpe_bridges.c.
 * Refused: dropout other than 0, tokens of merges that the vocabulary lacks, ids from 2^24.
 * Source: Sennrich et al., "Neural machine translation of rare words with subword units", 2016; the tokenizer.json
 * format.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/bpe.h"

#include <stdio.h>  /* snprintf */
#include <string.h> /* memcmp, memcpy, memchr */

#include <xxhash.h>

#include "base/status.h"
#include "tokenizer/utf8.h"

enum { KEY_BYTES = 26, WORD_IDS = 8, CACHE_MOST = 1 << 14, LONG_PIECE = 48, AFFIX_BYTES = 256 };

struct ht_bpe_word {
    uint32_t hash;
    uint8_t bytes, count; /* bytes 0 = free */
    char key[KEY_BYTES];
    int32_t ids[WORD_IDS];
};
typedef struct ht_bpe_word word;
_Static_assert(sizeof(word) == 64, "a cached word is one cache line");

/* ---- loading ---- */

static ht_status load_vocabulary(ht_vocabulary *vocabulary, const ht_field *model) {
    ht_field field = ht_field_get(model, "vocab");
    HT_TRY(ht_field_object(&field));
    for (void *at = json_object_iter(field.value); at; at = json_object_iter_next(field.value, at)) {
        const char *text = json_object_iter_key(at);
        ht_field id = {.value = json_object_iter_value(at), .parent = &field, .key = text};
        int64_t value;
        HT_TRY(ht_field_integer_value(&id, 0, HT_TOKEN_ID_LIMIT - 1, &value));
        HT_TRY(ht_vocabulary_add(vocabulary, text, json_object_iter_key_len(at), (int32_t)value, 0));
    }
    return HT_OK;
}

/* "a b" or ["a", "b"]. */
static ht_status merge_sides(const ht_field *field, ht_field_text side[2]) {
    if (json_is_string(field->value)) {
        const char *text = json_string_value(field->value), *end = text + json_string_length(field->value);
        const char *space = memchr(text, ' ', (size_t)(end - text));
        if (!space || memchr(space + 1, ' ', (size_t)(end - space - 1)))
            return ht_field_fail(field, HT_ERR_CORRUPT, "a merge is two tokens with one space between, found \"%.60s\"",
                                 text);
        side[0] = (ht_field_text){text, (size_t)(space - text)};
        side[1] = (ht_field_text){space + 1, (size_t)(end - space - 1)};
        return HT_OK;
    }
    HT_TRY(ht_field_array(field));
    for (size_t i = 0; i < 2; i++) {
        const json_t *item = json_array_get(field->value, i);
        if (!json_is_string(item) || json_array_size(field->value) != 2)
            return ht_field_fail(field, HT_ERR_CORRUPT, "a merge is a pair of texts");
        side[i] = (ht_field_text){json_string_value(item), json_string_length(item)};
    }
    return HT_OK;
}

static ht_status merge_token(const ht_vocabulary *vocabulary, const ht_field *field, const char *text, size_t bytes,
                             int32_t *id) {
    *id = ht_vocabulary_find(vocabulary, text, bytes);
    return *id >= 0 ? HT_OK
                    : ht_field_fail(field, HT_ERR_CORRUPT, "token \"%.*s\" of the merge is not in model.vocab",
                                    (int)(bytes < 60 ? bytes : 60), text);
}

static ht_status read_merge(const ht_bpe *bpe, const ht_field *field, uint32_t rank, ht_text *joined, ht_merge *out) {
    ht_field_text side[2];
    int32_t left, right;
    HT_TRY(merge_sides(field, side));
    HT_TRY(merge_token(bpe->vocabulary, field, side[0].data, side[0].bytes, &left));
    HT_TRY(merge_token(bpe->vocabulary, field, side[1].data, side[1].bytes, &right));
    size_t prefix = bpe->prefix.data ? bpe->prefix.bytes : 0;
    if (side[1].bytes < prefix)
        return ht_field_fail(field, HT_ERR_CORRUPT, "the right side is shorter than continuing_subword_prefix");
    joined->length = 0;
    ht_text_append(joined, side[0].data, side[0].bytes);
    ht_text_append(joined, side[1].data + prefix, side[1].bytes - prefix);
    HT_TRY(ht_text_check(joined));
    *out = (ht_merge){.pair = (uint64_t)left << 32 | (uint32_t)right, .rank = rank};
    return merge_token(bpe->vocabulary, field, joined->data, joined->length, &out->id);
}

static void store_merge(ht_bpe *bpe, const ht_merge *merge) {
    size_t i = ht_bpe_hash(merge->pair);
    while (bpe->merges[i & (bpe->merge_slots - 1)].id >= 0 &&
           bpe->merges[i & (bpe->merge_slots - 1)].pair != merge->pair)
        i++;
    bpe->merges[i & (bpe->merge_slots - 1)] = *merge;
}

static ht_status load_merges(ht_bpe *bpe, const ht_field *model) {
    ht_field field = ht_field_get(model, "merges");
    HT_TRY(ht_field_array(&field));
    size_t count = json_array_size(field.value);
    if (count > HT_TOKEN_ID_LIMIT)
        return ht_field_fail(&field, HT_ERR_CORRUPT, "%zu merges, the limit is %d", count, HT_TOKEN_ID_LIMIT);
    for (bpe->merge_slots = 16; bpe->merge_slots < 2 * count; bpe->merge_slots *= 2)
        ;
    HT_TRY(ht_allocate_raw(bpe->ctx, bpe->merge_slots, sizeof *bpe->merges, "merges", &bpe->merges));
    for (size_t i = 0; i < bpe->merge_slots; i++)
        bpe->merges[i] = (ht_merge){.id = -1};
    ht_merge *list;
    HT_TRY(ht_allocate(bpe->ctx, count, sizeof *list, "merges", &list));
    ht_text joined = {0};
    ht_status status = HT_OK;
    for (size_t i = 0; i < count && status == HT_OK; i++) {
        ht_field item = ht_field_at(&field, i);
        status = read_merge(bpe, &item, (uint32_t)i, &joined, &list[i]);
        if (status == HT_OK)
            store_merge(bpe, &list[i]);
    }
    if (status == HT_OK && !bpe->prefix.data && !bpe->suffix.data)
        status = ht_bpe_find_bridges(bpe, list, count);
    ht_text_free(&joined);
    ht_release(bpe->ctx, list);
    return status;
}

/* Ids of single characters and of bytes, so that the common cases need no hashing. */
static ht_status load_characters(ht_bpe *bpe) {
    HT_TRY(ht_allocate_raw(bpe->ctx, 65536, sizeof *bpe->characters, "characters", &bpe->characters));
    memset(bpe->characters, 0xff, 65536 * sizeof *bpe->characters);
    for (size_t i = 0; i < bpe->vocabulary->slot_count; i++) {
        const ht_token_slot *slot = &bpe->vocabulary->slots[i];
        uint32_t character;
        if (slot->text && slot->bytes && slot->bytes <= 3 &&
            ht_utf8_decode(slot->text, slot->bytes, &character) == slot->bytes)
            bpe->characters[character] = slot->id;
    }
    for (unsigned i = 0; i < 256; i++) {
        char text[8];
        snprintf(text, sizeof text, "<0x%02X>", i);
        bpe->bytes[i] = ht_vocabulary_find(bpe->vocabulary, text, 6);
    }
    return HT_OK;
}

static ht_status load_affix(ht_bpe *bpe, const ht_field *model, const char *key, ht_field_text *out) {
    HT_TRY(ht_field_text_optional(model, key, out));
    if (out->bytes > AFFIX_BYTES)
        return ht_field_fail(model, HT_ERR_UNSUPPORTED, "%s has %zu bytes, the limit is %d", key, out->bytes,
                             AFFIX_BYTES);
    if (out->data && !(out->data = ht_arena_string(bpe->vocabulary->arena, out->data, out->bytes)))
        return HT_ERR_MEMORY;
    return HT_OK;
}

static ht_status load_options(ht_bpe *bpe, const ht_field *model) {
    static const char *const keys[] = {"type",
                                       "dropout",
                                       "unk_token",
                                       "fuse_unk",
                                       "byte_fallback",
                                       "continuing_subword_prefix",
                                       "ignore_merges",
                                       "vocab",
                                       "end_of_word_suffix",
                                       "merges",
                                       NULL};
    HT_TRY(ht_field_only(model, keys));
    ht_field dropout = ht_field_get(model, "dropout");
    if (dropout.value && !(json_is_number(dropout.value) && json_number_value(dropout.value) == 0))
        return ht_field_fail(&dropout, HT_ERR_UNSUPPORTED, "random merges are not implemented: set it to null");
    HT_TRY(ht_field_bool(model, "fuse_unk", 0, &bpe->fuse_unknown));
    HT_TRY(ht_field_bool(model, "byte_fallback", 0, &bpe->byte_fallback));
    HT_TRY(ht_field_bool(model, "ignore_merges", 0, &bpe->ignore_merges));
    HT_TRY(load_affix(bpe, model, "continuing_subword_prefix", &bpe->prefix));
    return load_affix(bpe, model, "end_of_word_suffix", &bpe->suffix);
}

ht_status ht_bpe_load(ht_bpe *bpe, ht_vocabulary *vocabulary, const ht_field *model) {
    *bpe = (ht_bpe){.ctx = vocabulary->ctx, .vocabulary = vocabulary, .unknown = -1};
    HT_TRY(load_options(bpe, model));
    HT_TRY(load_vocabulary(vocabulary, model));
    ht_field_text unknown;
    HT_TRY(ht_field_text_optional(model, "unk_token", &unknown));
    if (unknown.data) {
        bpe->unknown = ht_vocabulary_find(vocabulary, unknown.data, unknown.bytes);
        ht_field field = ht_field_get(model, "unk_token");
        if (bpe->unknown < 0)
            return ht_field_fail(&field, HT_ERR_CORRUPT, "token \"%.60s\" is not in model.vocab", unknown.data);
    }
    HT_TRY(load_characters(bpe));
    return load_merges(bpe, model);
}

void ht_bpe_release(ht_bpe *bpe) {
    ht_release(bpe->ctx, bpe->merges);
    ht_release(bpe->ctx, bpe->characters);
    ht_release(bpe->ctx, bpe->bridges);
}

/* ---- encoding ---- */

ht_status ht_bpe_call_init(const ht_bpe *bpe, ht_bpe_call *call, size_t text_bytes) {
    *call = (ht_bpe_call){.cache_slots = 64};
    while (call->cache_slots < CACHE_MOST && call->cache_slots < text_bytes / 16)
        call->cache_slots *= 2;
    return ht_allocate(bpe->ctx, call->cache_slots, sizeof *call->cache, "tokenizer cache", &call->cache);
}

void ht_bpe_call_release(const ht_bpe *bpe, ht_bpe_call *call) {
    ht_release(bpe->ctx, call->cache);
    ht_release(bpe->ctx, call->symbols);
    ht_release(bpe->ctx, call->merging);
}

/* At least `bytes` at *room; the old contents are lost. */
static ht_status reserve(ht_context *ctx, void *room, size_t *room_bytes, size_t bytes) {
    if (bytes <= *room_bytes)
        return HT_OK;
    void *old;
    memcpy(&old, room, sizeof old);
    ht_release(ctx, old);
    *room_bytes = 0;
    HT_TRY(ht_allocate_raw(ctx, 1, bytes + bytes / 2, "tokenizer", room));
    *room_bytes = bytes + bytes / 2;
    return HT_OK;
}

/* The text that stands for a character: with prefix and suffix where they belong. At most 4 + 2 * AFFIX_BYTES. */
static size_t dress(const ht_bpe *bpe, const char *character, size_t bytes, int first, int last, char *out) {
    size_t used = 0;
    if (!first && bpe->prefix.data) {
        memcpy(out, bpe->prefix.data, bpe->prefix.bytes);
        used = bpe->prefix.bytes;
    }
    memcpy(out + used, character, bytes);
    used += bytes;
    if (last && bpe->suffix.data) {
        memcpy(out + used, bpe->suffix.data, bpe->suffix.bytes);
        used += bpe->suffix.bytes;
    }
    return used;
}

/* Symbols of the bytes, when all of them have one. */
static size_t fall_back(const ht_bpe *bpe, const char *text, size_t bytes, int32_t *out) {
    for (size_t i = 0; i < bytes; i++) {
        out[i] = bpe->bytes[(unsigned char)text[i]];
        if (out[i] < 0)
            return 0;
    }
    return bytes;
}

/* Symbols of a piece. An unknown token waits until the next known one, so that neighbours can be fused; byte tokens do
 * not end the wait (the order that the format's own library gives). */
static size_t symbols_of(const ht_bpe *bpe, const char *text, size_t bytes, int32_t *out) {
    size_t count = 0, waiting = 0;
    int plain = !bpe->prefix.data && !bpe->suffix.data;
    for (size_t at = 0, length; at < bytes; at += length) {
        uint32_t character;
        char dressed[4 + 2 * AFFIX_BYTES];
        const char *spelled = text + at;
        length = ht_utf8_decode(spelled, bytes - at, &character);
        size_t spelled_bytes = length;
        int32_t id;
        if (!plain) {
            spelled_bytes = dress(bpe, text + at, length, at == 0, at + length == bytes, dressed);
            spelled = dressed;
        }
        if (plain && character < 0x10000)
            id = bpe->characters[character];
        else
            id = ht_vocabulary_find_model(bpe->vocabulary, spelled, spelled_bytes);
        if (id >= 0) {
            for (; waiting; waiting--)
                out[count++] = bpe->unknown;
            out[count++] = id;
            continue;
        }
        size_t fallen = bpe->byte_fallback ? fall_back(bpe, spelled, spelled_bytes, out + count) : 0;
        count += fallen;
        if (fallen || bpe->unknown < 0)
            continue;
        if (waiting && !bpe->fuse_unknown)
            out[count++] = bpe->unknown;
        waiting = 1;
    }
    if (waiting)
        out[count++] = bpe->unknown;
    return count;
}

static ht_status merge_part(const ht_bpe *bpe, ht_bpe_call *call, int32_t *symbols, size_t *count) {
    HT_TRY(reserve(bpe->ctx, &call->merging, &call->merging_bytes, ht_bpe_merge_room(*count)));
    *count = ht_bpe_merge(bpe, symbols, *count, call->merging);
    return HT_OK;
}

/* Merge call->symbols[0..*count) in place, part by part when the piece is long. */
static ht_status merge_all(const ht_bpe *bpe, ht_bpe_call *call, size_t *count) {
    int32_t *symbols = call->symbols;
    if (*count < LONG_PIECE || !bpe->bridges)
        return merge_part(bpe, call, symbols, count);
    size_t out = 0, start = 0;
    for (size_t i = 1; i <= *count; i++) {
        if (i < *count && ht_bpe_may_bridge(bpe, symbols[i - 1], symbols[i]))
            continue;
        size_t part = i - start;
        HT_TRY(merge_part(bpe, call, symbols + start, &part));
        memmove(symbols + out, symbols + start, part * sizeof *symbols);
        out += part;
        start = i;
    }
    *count = out;
    return HT_OK;
}

static ht_status encode_piece(const ht_bpe *bpe, ht_bpe_call *call, const char *text, size_t bytes, size_t *count) {
    size_t per_byte = bpe->byte_fallback && bpe->prefix.data ? 1 + bpe->prefix.bytes : 1;
    size_t most = bytes * per_byte + bpe->suffix.bytes + 2;
    HT_TRY(reserve(bpe->ctx, &call->symbols, &call->symbol_bytes, most * sizeof *call->symbols));
    if (bpe->ignore_merges) {
        call->symbols[0] = ht_vocabulary_find_model(bpe->vocabulary, text, bytes);
        *count = 1;
        if (call->symbols[0] >= 0)
            return HT_OK;
    }
    *count = symbols_of(bpe, text, bytes, call->symbols);
    return merge_all(bpe, call, count);
}

ht_status ht_bpe_encode(const ht_bpe *bpe, ht_bpe_call *call, const char *text, size_t bytes, ht_text *ids) {
    word *slot = NULL;
    uint32_t hash = 0;
    if (bytes <= KEY_BYTES) {
        hash = (uint32_t)XXH3_64bits(text, bytes);
        slot = &call->cache[hash & (call->cache_slots - 1)];
        if (slot->hash == hash && slot->bytes == bytes && memcmp(slot->key, text, bytes) == 0) {
            ht_text_append(ids, (const char *)slot->ids, slot->count * sizeof *slot->ids);
            return HT_OK;
        }
    }
    size_t count;
    HT_TRY(encode_piece(bpe, call, text, bytes, &count));
    ht_text_append(ids, (const char *)call->symbols, count * sizeof *call->symbols);
    if (slot && count <= WORD_IDS) {
        slot->hash = hash;
        slot->bytes = (uint8_t)bytes;
        slot->count = (uint8_t)count;
        memcpy(slot->key, text, bytes);
        memcpy(slot->ids, call->symbols, count * sizeof *slot->ids);
    }
    return HT_OK;
}
