/* Merging symbols: the pair of lowest rank first, the leftmost of equal ones, until no pair has a merge.
 *
 * Up to 64 symbols: scan for the lowest rank, merge, look up the two new pairs, close the gap. Longer: symbols in a
 * doubly linked list and a binary heap of (rank, position); an entry is stale when its node's pair has another rank
 * now. Both give the same result, n log n for the long ones.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/bpe.h"

#include <string.h> /* memmove */

enum { SCAN_MOST = 64 };

static const uint32_t NONE = UINT32_MAX;

uint64_t ht_bpe_hash(uint64_t key) { /* the finalizer of SplitMix64 (Steele et al., 2014) */
    key = (key ^ key >> 30) * 0xbf58476d1ce4e5b9u;
    key = (key ^ key >> 27) * 0x94d049bb133111ebu;
    return key ^ key >> 31;
}

const ht_merge *ht_bpe_find_merge(const ht_bpe *bpe, int32_t left, int32_t right) {
    uint64_t pair = (uint64_t)left << 32 | (uint32_t)right;
    for (size_t i = ht_bpe_hash(pair);; i++) {
        const ht_merge *merge = &bpe->merges[i & (bpe->merge_slots - 1)];
        if (merge->id < 0)
            return NULL;
        if (merge->pair == pair)
            return merge;
    }
}

typedef struct node {
    int32_t next, previous; /* -1 at the ends; a dead node has next -2 */
    uint32_t rank;          /* of the pair that begins here; NONE */
    int32_t merged;         /* id of that pair */
} node;

size_t ht_bpe_merge_room(size_t count) {
    return count <= SCAN_MOST ? 0 : count * (sizeof(node) + 3 * sizeof(uint64_t));
}

static size_t merge_short(const ht_bpe *bpe, int32_t *symbols, size_t count) {
    uint32_t rank[SCAN_MOST];
    int32_t merged[SCAN_MOST];
    for (size_t i = 0; i + 1 < count; i++) {
        const ht_merge *merge = ht_bpe_find_merge(bpe, symbols[i], symbols[i + 1]);
        rank[i] = merge ? merge->rank : NONE;
        merged[i] = merge ? merge->id : -1;
    }
    while (count > 1) {
        size_t best = 0;
        for (size_t i = 1; i + 1 < count; i++)
            if (rank[i] < rank[best])
                best = i;
        if (rank[best] == NONE)
            break;
        symbols[best] = merged[best];
        size_t after = count - best - 2;
        memmove(symbols + best + 1, symbols + best + 2, after * sizeof *symbols);
        if (after) { /* the pairs right of the merged symbol move down, its own pair is new */
            memmove(rank + best + 1, rank + best + 2, (after - 1) * sizeof *rank);
            memmove(merged + best + 1, merged + best + 2, (after - 1) * sizeof *merged);
            const ht_merge *merge = ht_bpe_find_merge(bpe, symbols[best], symbols[best + 1]);
            rank[best] = merge ? merge->rank : NONE;
            merged[best] = merge ? merge->id : -1;
        }
        count--;
        if (best > 0) {
            const ht_merge *merge = ht_bpe_find_merge(bpe, symbols[best - 1], symbols[best]);
            rank[best - 1] = merge ? merge->rank : NONE;
            merged[best - 1] = merge ? merge->id : -1;
        }
    }
    return count;
}

typedef struct heap {
    uint64_t *entries; /* rank << 32 | position, smallest first */
    size_t count;
} heap;

static void sift_down(heap *h, size_t at) {
    uint64_t moved = h->entries[at];
    for (size_t child; (child = 2 * at + 1) < h->count; at = child) {
        if (child + 1 < h->count && h->entries[child + 1] < h->entries[child])
            child++;
        if (moved <= h->entries[child])
            break;
        h->entries[at] = h->entries[child];
    }
    h->entries[at] = moved;
}

static void push(heap *h, uint64_t entry) {
    size_t at = h->count++;
    for (; at > 0 && entry < h->entries[(at - 1) / 2]; at = (at - 1) / 2)
        h->entries[at] = h->entries[(at - 1) / 2];
    h->entries[at] = entry;
}

static uint64_t pop(heap *h) {
    uint64_t top = h->entries[0];
    h->entries[0] = h->entries[--h->count];
    if (h->count)
        sift_down(h, 0);
    return top;
}

/* Rank of the pair that begins at node i, and its entry. */
static void rate(const ht_bpe *bpe, const int32_t *symbols, node *nodes, int32_t i, heap *h, int pushes) {
    const ht_merge *merge = nodes[i].next >= 0 ? ht_bpe_find_merge(bpe, symbols[i], symbols[nodes[i].next]) : NULL;
    nodes[i].rank = merge ? merge->rank : NONE;
    nodes[i].merged = merge ? merge->id : -1;
    if (!merge)
        return;
    uint64_t entry = (uint64_t)merge->rank << 32 | (uint32_t)i;
    if (pushes)
        push(h, entry);
    else
        h->entries[h->count++] = entry;
}

static size_t merge_long(const ht_bpe *bpe, int32_t *symbols, size_t count, void *room) {
    node *nodes = room;
    heap h = {.entries = (uint64_t *)(nodes + count)};
    for (size_t i = 0; i < count; i++) {
        nodes[i] = (node){.next = i + 1 < count ? (int32_t)i + 1 : -1, .previous = (int32_t)i - 1};
        rate(bpe, symbols, nodes, (int32_t)i, &h, 0);
    }
    for (size_t i = h.count / 2; i-- > 0;)
        sift_down(&h, i);
    while (h.count) {
        uint64_t top = pop(&h);
        int32_t i = (int32_t)(uint32_t)top;
        if (nodes[i].next < 0 || nodes[i].rank != (uint32_t)(top >> 32))
            continue;
        int32_t gone = nodes[i].next, after = nodes[gone].next;
        symbols[i] = nodes[i].merged;
        nodes[i].next = after;
        nodes[gone].next = -2;
        if (after >= 0)
            nodes[after].previous = i;
        rate(bpe, symbols, nodes, i, &h, 1);
        if (nodes[i].previous >= 0)
            rate(bpe, symbols, nodes, nodes[i].previous, &h, 1);
    }
    size_t kept = 0;
    for (int32_t i = 0; i >= 0; i = nodes[i].next)
        symbols[kept++] = symbols[i];
    return kept;
}

size_t ht_bpe_merge(const ht_bpe *bpe, int32_t *symbols, size_t count, void *room) {
    if (count < 2)
        return count;
    return count <= SCAN_MOST ? merge_short(bpe, symbols, count) : merge_long(bpe, symbols, count, room);
}
