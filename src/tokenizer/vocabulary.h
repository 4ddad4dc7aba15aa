/* Tokens by id and ids by text. */
#ifndef HT_TOKENIZER_VOCABULARY_H
#define HT_TOKENIZER_VOCABULARY_H

#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"

enum { HT_TOKEN_ID_LIMIT = 1 << 24 }; /* ids below it: a hostile id must not size a table */

typedef struct ht_token {
    const char *text; /* NUL-terminated; NULL for an unused id */
    uint32_t bytes;
    int special;
} ht_token;

typedef struct ht_token_slot {
    const char *text; /* NULL = free */
    uint32_t bytes, hash;
    int32_t id;
    int added; /* not the model's own */
} ht_token_slot;

typedef struct ht_vocabulary {
    ht_context *ctx;
    ht_arena *arena;  /* owns the texts */
    ht_token *tokens; /* [count] by id */
    size_t count, capacity;
    ht_token_slot *slots; /* open addressing, a power of two */
    size_t slot_count, used;
} ht_vocabulary;

void ht_vocabulary_init(ht_vocabulary *vocabulary, ht_arena *arena);
void ht_vocabulary_release(ht_vocabulary *vocabulary);
/* Add or replace text -> id, id -> text. 0 <= id < HT_TOKEN_ID_LIMIT. added: not one of the model's tokens. */
ht_status ht_vocabulary_add(ht_vocabulary *vocabulary, const char *text, size_t bytes, int32_t id, int added);
/* Id of a text, -1 when there is none; the second sees the model's tokens alone. */
int32_t ht_vocabulary_find(const ht_vocabulary *vocabulary, const char *text, size_t bytes);
int32_t ht_vocabulary_find_model(const ht_vocabulary *vocabulary, const char *text, size_t bytes);
/* Token of an id; NULL when the id is unused or outside. */
const ht_token *ht_vocabulary_token(const ht_vocabulary *vocabulary, int32_t id);

#endif
