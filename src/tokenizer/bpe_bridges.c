/* Where a long piece can be cut without changing its ids.
 *
 * Every token that merging can make begins and ends with a known first symbol (a character's token, a byte token or
 * the unknown token). A merge of L and R joins the symbols last(L) and first(R); so when no merge has last(L) = a and
 * first(R) = b, nothing ever crosses a boundary between a and b, and the two sides can be merged apart. The set of
 * crossing pairs is small, and most word boundaries of real text are outside of it.
 * When a token can be made in two ways with different ends, or can itself be a first symbol, the set is not used.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/bpe.h"

#include <string.h> /* memset */

#include "base/status.h"
#include "tokenizer/utf8.h"

enum { PASSES = 8 };

static const uint64_t FREE = UINT64_MAX;

typedef struct ends {
    int32_t first, last; /* -1: cannot be made (so far) */
} ends;

static uint64_t *bridge_slot(const ht_bpe *bpe, uint64_t pair) {
    for (size_t i = ht_bpe_hash(pair);; i++) {
        uint64_t *slot = &bpe->bridges[i & (bpe->bridge_slots - 1)];
        if (*slot == FREE || *slot == pair)
            return slot;
    }
}

int ht_bpe_may_bridge(const ht_bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)left << 32 | (uint32_t)right;
    return *bridge_slot(bpe, pair) == pair;
}

static ht_status resize(ht_bpe *bpe, size_t slots) {
    ht_bpe larger = *bpe;
    larger.bridge_slots = slots;
    HT_TRY(ht_allocate_raw(bpe->ctx, slots, sizeof *larger.bridges, "merges", &larger.bridges));
    memset(larger.bridges, 0xff, slots * sizeof *larger.bridges);
    for (size_t i = 0; i < bpe->bridge_slots; i++)
        if (bpe->bridges[i] != FREE)
            *bridge_slot(&larger, bpe->bridges[i]) = bpe->bridges[i];
    ht_release(bpe->ctx, bpe->bridges);
    bpe->bridges = larger.bridges;
    bpe->bridge_slots = slots;
    return HT_OK;
}

static int is_first_symbol(const ht_bpe *bpe, int32_t id) {
    const ht_token *token = &bpe->vocabulary->tokens[id];
    if (!token->text || !token->bytes)
        return 0;
    if (id == bpe->unknown || ht_utf8_length(token->text) == token->bytes)
        return 1;
    if (token->bytes == 6 && token->text[0] == '<')
        for (size_t i = 0; i < 256; i++)
            if (bpe->bytes[i] == id)
                return 1;
    return 0;
}

/* One round over the merges. Returns 1 when something was learnt, 0 when not, -1 at a contradiction. */
static int propagate(const ht_merge *list, size_t count, ends *tokens) {
    int learnt = 0;
    for (size_t i = 0; i < count; i++) {
        int32_t first = tokens[list[i].pair >> 32].first, last = tokens[list[i].pair & UINT32_MAX].last;
        ends *made = &tokens[list[i].id];
        if (first < 0 || last < 0)
            continue;
        if (made->first < 0) {
            *made = (ends){first, last};
            learnt = 1;
        } else if (made->first != first || made->last != last) {
            return -1;
        }
    }
    return learnt;
}

static ht_status collect(ht_bpe *bpe, const ht_merge *list, size_t count, const ends *tokens) {
    size_t used = 0;
    HT_TRY(resize(bpe, 1024));
    for (size_t i = 0; i < count; i++) {
        int32_t last = tokens[list[i].pair >> 32].last, first = tokens[list[i].pair & UINT32_MAX].first;
        if (first < 0 || last < 0)
            continue;
        uint64_t pair = (uint64_t)last << 32 | (uint32_t)first;
        uint64_t *slot = bridge_slot(bpe, pair);
        used += *slot == FREE;
        *slot = pair;
        if (used * 2 > bpe->bridge_slots)
            HT_TRY(resize(bpe, bpe->bridge_slots * 2));
    }
    return HT_OK;
}

ht_status ht_bpe_find_bridges(ht_bpe *bpe, const ht_merge *list, size_t count) {
    size_t named = 0;
    for (size_t i = 0; i < bpe->vocabulary->count; i++)
        named += bpe->vocabulary->tokens[i].text != NULL;
    if (named != bpe->vocabulary->used) /* two texts share an id */
        return HT_OK;
    ends *tokens;
    HT_TRY(ht_allocate_raw(bpe->ctx, bpe->vocabulary->count, sizeof *tokens, "merges", &tokens));
    for (size_t i = 0; i < bpe->vocabulary->count; i++) {
        int32_t self = is_first_symbol(bpe, (int32_t)i) ? (int32_t)i : -1;
        tokens[i] = (ends){self, self};
    }
    int learnt = 1;
    for (int pass = 0; pass < PASSES && learnt > 0; pass++)
        learnt = propagate(list, count, tokens);
    ht_status status = learnt == 0 ? collect(bpe, list, count, tokens) : HT_OK;
    ht_release(bpe->ctx, tokens);
    return status;
}
