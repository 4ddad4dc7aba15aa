/* Splitting a piece at the matches of a pattern or at characters of a class, with the five ways to treat the matches.
 *
 * The piece is a row of parts, matches and what lies between, in order. Every part is fed to a small machine that holds
 * back one part, because a part may grow by its neighbour:
 *
 *     removed               matches are dropped
 *     isolated              every part is a piece
 *     contiguous            neighbours of one kind join (an empty part between keeps its kind)
 *     merged with previous  a match joins the part before, unless that was a match
 *     merged with next      a match joins the part after, unless that is a match
 *
 * Pieces go to the next stage as they come; nothing is collected.
 * Source: the tokenizer.json format.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/split.h"

#include <string.h> /* strcmp */

#include "base/status.h"
#include "tokenizer/utf8.h"

static const struct {
    const char *name, *lower;
} behaviors[] = {
    [HT_SPLIT_REMOVED] = {"Removed", "removed"},
    [HT_SPLIT_ISOLATED] = {"Isolated", "isolated"},
    [HT_SPLIT_MERGED_WITH_PREVIOUS] = {"MergedWithPrevious", "merged_with_previous"},
    [HT_SPLIT_MERGED_WITH_NEXT] = {"MergedWithNext", "merged_with_next"},
    [HT_SPLIT_CONTIGUOUS] = {"Contiguous", "contiguous"},
};

ht_status ht_split_behavior_read(const ht_field *object, const char *key, ht_split_behavior fallback,
                                 ht_split_behavior *out) {
    ht_field_text text;
    *out = fallback;
    HT_TRY(ht_field_text_optional(object, key, &text));
    if (!text.data)
        return HT_OK;
    for (size_t i = 0; i < sizeof behaviors / sizeof behaviors[0]; i++)
        if (strcmp(text.data, behaviors[i].name) == 0 || strcmp(text.data, behaviors[i].lower) == 0) {
            *out = (ht_split_behavior)i;
            return HT_OK;
        }
    ht_field field = ht_field_get(object, key);
    return ht_field_fail(&field, HT_ERR_CORRUPT, "unknown behavior \"%.40s\"", text.data);
}

typedef struct machine {
    const ht_split *split;
    ht_encode_call *call;
    size_t stage;
    ht_piece piece;
    size_t start, end; /* the part held back */
    int held, held_match;
} machine;

static ht_status flush(machine *m) {
    if (!m->held)
        return HT_OK;
    m->held = 0;
    return ht_pretokenize_from(m->call, m->stage + 1, ht_piece_part(m->piece, m->start, m->end));
}

static int joins(const machine *m, int match) {
    switch (m->split->behavior) {
    case HT_SPLIT_CONTIGUOUS:
        return m->held && match == m->held_match;
    case HT_SPLIT_MERGED_WITH_PREVIOUS:
        return m->held && match && !m->held_match;
    case HT_SPLIT_MERGED_WITH_NEXT:
        return m->held && !match && m->held_match;
    default:
        return 0;
    }
}

static ht_status feed(machine *m, size_t start, size_t end, int match) {
    match ^= m->split->invert;
    if (joins(m, match)) {
        m->end = end;
        m->held_match = match;
        return HT_OK;
    }
    HT_TRY(flush(m));
    if (match && m->split->behavior == HT_SPLIT_REMOVED)
        return HT_OK;
    m->start = start;
    m->end = end;
    m->held = 1;
    m->held_match = match;
    return HT_OK;
}

static ht_status split_regex(machine *m) {
    size_t done = 0, start, end;
    ht_regex_walk walk = {0};
    for (;;) {
        int found;
        HT_TRY(ht_regex_next(m->split->regex, &m->call->regex, m->piece.text, m->piece.bytes, &walk, &found, &start,
                             &end));
        if (!found)
            break;
        if (done != start)
            HT_TRY(feed(m, done, start, 0));
        HT_TRY(feed(m, start, end, 1));
        done = end;
    }
    return done != m->piece.bytes ? feed(m, done, m->piece.bytes, 0) : HT_OK;
}

static ht_status split_characters(machine *m) {
    size_t done = 0;
    for (size_t at = 0, length; at < m->piece.bytes; at += length) {
        uint32_t character;
        length = ht_utf8_decode(m->piece.text + at, m->piece.bytes - at, &character);
        if (m->split->is ? !m->split->is(character) : character != m->split->character)
            continue;
        if (done != at)
            HT_TRY(feed(m, done, at, 0));
        HT_TRY(feed(m, at, at + length, 1));
        done = at + length;
    }
    return done != m->piece.bytes ? feed(m, done, m->piece.bytes, 0) : HT_OK;
}

ht_status ht_split_run(const void *state, ht_encode_call *call, size_t stage, ht_piece in) {
    machine m = {.split = state, .call = call, .stage = stage, .piece = in};
    HT_TRY(m.split->regex ? split_regex(&m) : split_characters(&m));
    return flush(&m);
}
