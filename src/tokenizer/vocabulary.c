/* The vocabulary: an array by id and a hash table by text (open addressing, linear probing, at most half full).
 * Texts live in the tokenizer's arena. Of two entries with the same text or the same id the later one wins.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/vocabulary.h"

#include <string.h> /* memcmp, memcpy */

#include <xxhash.h>

#include "base/status.h"

void ht_vocabulary_init(ht_vocabulary *vocabulary, ht_arena *arena) {
    *vocabulary = (ht_vocabulary){.ctx = arena->ctx, .arena = arena};
}

void ht_vocabulary_release(ht_vocabulary *vocabulary) {
    ht_release(vocabulary->ctx, vocabulary->tokens);
    ht_release(vocabulary->ctx, vocabulary->slots);
    *vocabulary = (ht_vocabulary){0};
}

static ht_token_slot *slot_of(const ht_vocabulary *vocabulary, const char *text, size_t bytes, uint32_t hash) {
    for (size_t i = hash;; i++) {
        ht_token_slot *slot = &vocabulary->slots[i & (vocabulary->slot_count - 1)];
        if (!slot->text || (slot->hash == hash && slot->bytes == bytes && memcmp(slot->text, text, bytes) == 0))
            return slot;
    }
}

static ht_status grow_slots(ht_vocabulary *vocabulary) {
    if ((vocabulary->used + 1) * 2 <= vocabulary->slot_count)
        return HT_OK;
    ht_vocabulary larger = *vocabulary;
    larger.slot_count = vocabulary->slot_count ? vocabulary->slot_count * 2 : 1024;
    HT_TRY(ht_allocate(vocabulary->ctx, larger.slot_count, sizeof *larger.slots, "vocabulary", &larger.slots));
    for (size_t i = 0; i < vocabulary->slot_count; i++) {
        const ht_token_slot *slot = &vocabulary->slots[i];
        if (slot->text)
            *slot_of(&larger, slot->text, slot->bytes, slot->hash) = *slot;
    }
    ht_release(vocabulary->ctx, vocabulary->slots);
    *vocabulary = larger;
    return HT_OK;
}

static ht_status grow_tokens(ht_vocabulary *vocabulary, size_t count) {
    if (count > vocabulary->capacity) {
        size_t capacity = count + count / 2 + 256;
        ht_token *tokens;
        HT_TRY(ht_allocate(vocabulary->ctx, capacity, sizeof *tokens, "vocabulary", &tokens));
        if (vocabulary->count)
            memcpy(tokens, vocabulary->tokens, vocabulary->count * sizeof *tokens);
        ht_release(vocabulary->ctx, vocabulary->tokens);
        vocabulary->tokens = tokens;
        vocabulary->capacity = capacity;
    }
    if (count > vocabulary->count)
        vocabulary->count = count;
    return HT_OK;
}

ht_status ht_vocabulary_add(ht_vocabulary *vocabulary, const char *text, size_t bytes, int32_t id, int added) {
    if (id < 0 || id >= HT_TOKEN_ID_LIMIT || bytes > INT32_MAX)
        return ht_fail(HT_ERR_CORRUPT, "token id %d is outside 0 to %d", id, HT_TOKEN_ID_LIMIT - 1);
    HT_TRY(grow_slots(vocabulary));
    HT_TRY(grow_tokens(vocabulary, (size_t)id + 1));
    uint32_t hash = (uint32_t)XXH3_64bits(text, bytes);
    ht_token_slot *slot = slot_of(vocabulary, text, bytes, hash);
    if (!slot->text) {
        const char *copy = ht_arena_string(vocabulary->arena, text, bytes);
        if (!copy)
            return HT_ERR_MEMORY;
        *slot = (ht_token_slot){.text = copy, .bytes = (uint32_t)bytes, .hash = hash};
        vocabulary->used++;
    }
    slot->id = id;
    slot->added = added;
    ht_token *token = &vocabulary->tokens[id];
    token->text = slot->text;
    token->bytes = slot->bytes;
    return HT_OK;
}

static const ht_token_slot *find(const ht_vocabulary *vocabulary, const char *text, size_t bytes) {
    if (!vocabulary->slot_count)
        return NULL;
    const ht_token_slot *slot = slot_of(vocabulary, text, bytes, (uint32_t)XXH3_64bits(text, bytes));
    return slot->text ? slot : NULL;
}

int32_t ht_vocabulary_find(const ht_vocabulary *vocabulary, const char *text, size_t bytes) {
    const ht_token_slot *slot = find(vocabulary, text, bytes);
    return slot ? slot->id : -1;
}

int32_t ht_vocabulary_find_model(const ht_vocabulary *vocabulary, const char *text, size_t bytes) {
    const ht_token_slot *slot = find(vocabulary, text, bytes);
    return slot && !slot->added ? slot->id : -1;
}

const ht_token *ht_vocabulary_token(const ht_vocabulary *vocabulary, int32_t id) {
    if (id < 0 || (size_t)id >= vocabulary->count || !vocabulary->tokens[id].text)
        return NULL;
    return &vocabulary->tokens[id];
}
