/* Byte-pair encoding of one piece. */
#ifndef HT_TOKENIZER_BPE_H
#define HT_TOKENIZER_BPE_H

#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "base/text.h"
#include "tokenizer/fields.h"
#include "tokenizer/vocabulary.h"

typedef struct ht_merge {
    uint64_t pair; /* left id << 32 | right id */
    uint32_t rank;
    int32_t id;
} ht_merge;

/* The loaded model; immutable. */
typedef struct ht_bpe {
    ht_context *ctx;
    const ht_vocabulary *vocabulary;
    ht_merge *merges; /* open addressing; a free slot has id -1 */
    size_t merge_slots;
    int32_t *characters; /* [65536] id of the text that is one BMP character, -1 */
    int32_t bytes[256];  /* id of <0xXX>, -1 */
    uint64_t *bridges;   /* open addressing, free = UINT64_MAX: symbol pairs that a merge may bridge. NULL = any */
    size_t bridge_slots;
    ht_field_text prefix, suffix; /* continuing_subword_prefix, end_of_word_suffix; data is NULL without */
    int32_t unknown;              /* -1 without */
    int fuse_unknown, byte_fallback, ignore_merges;
} ht_bpe;

/* model.*; vocabulary is filled. Texts go to its arena. */
ht_status ht_bpe_load(ht_bpe *bpe, ht_vocabulary *vocabulary, const ht_field *model);
void ht_bpe_release(ht_bpe *bpe);

/* What one call owns: the cache of words seen, and room to merge in. */
typedef struct ht_bpe_call {
    struct ht_bpe_word *cache;
    size_t cache_slots;
    int32_t *symbols; /* of the piece */
    size_t symbol_bytes;
    void *merging; /* for ht_bpe_merge */
    size_t merging_bytes;
} ht_bpe_call;

/* text_bytes: size of the whole text, for the size of the cache. */
ht_status ht_bpe_call_init(const ht_bpe *bpe, ht_bpe_call *call, size_t text_bytes);
void ht_bpe_call_release(const ht_bpe *bpe, ht_bpe_call *call);
/* Append the ids (int32_t) of a piece of valid UTF-8. */
ht_status ht_bpe_encode(const ht_bpe *bpe, ht_bpe_call *call, const char *text, size_t bytes, ht_text *ids);

/* bpe_merge.c: the merge of a symbol pair, or NULL; and merging symbols[0..count) in place, which returns the new
 * count. room: ht_bpe_merge_room(count) bytes, 16-byte aligned. */
const ht_merge *ht_bpe_find_merge(const ht_bpe *bpe, int32_t left, int32_t right);
size_t ht_bpe_merge_room(size_t count);
size_t ht_bpe_merge(const ht_bpe *bpe, int32_t *symbols, size_t count, void *room);
/* 1 when a merge may join symbols across the boundary between left and right. */
int ht_bpe_may_bridge(const ht_bpe *bpe, int32_t left, int32_t right);
/* Fill bpe->bridges from the merges; leaves it NULL when the shortcut would not be exact. */
ht_status ht_bpe_find_bridges(ht_bpe *bpe, const ht_merge *list, size_t count);
/* A well mixed hash of a symbol pair. */
uint64_t ht_bpe_hash(uint64_t key);

#endif
