/* Precompiled: SentencePiece's normalization rules, a base64 text of
 *
 *     | trie bytes, u32 | trie: u32 units (Darts double array) | replacements, each ended by NUL |
 *
 * A unit's low byte and top bit are its label, bit 8 says that a value follows, bits 10.. (shifted by 8 more when bit 9
 * is set) are the offset to its children; a value is the place of the replacement. A grapheme cluster shorter than six
 * bytes is looked up whole, and replaced whole when the trie holds any prefix of it (of which the shortest counts);
 * otherwise its characters are looked up one by one. Every index is checked: the trie comes from a file.
 * Source: SentencePiece's normalizer specification; S. Yata, "Darts-clone".
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/normalizer.h"

#include <string.h> /* memchr, strchr */

#include <utf8proc.h>

#include "base/status.h"
#include "tokenizer/utf8.h"

enum { WHOLE_BELOW = 6 };

typedef struct charsmap {
    const uint32_t *trie;
    size_t units;
    const char *texts; /* NUL-ended replacements; one more NUL at [text_bytes] */
    size_t text_bytes;
} charsmap;

static int sextet(char c) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(alphabet, c) : NULL;
    return at ? (int)(at - alphabet) : -1;
}

/* Decode in place into out; returns the bytes, or SIZE_MAX when it is not base64. */
static size_t decode_base64(const char *text, size_t bytes, unsigned char *out) {
    size_t used = 0;
    if (bytes % 4)
        return SIZE_MAX;
    while (bytes && text[bytes - 1] == '=' && bytes % 4 != 2)
        bytes--;
    uint32_t bits = 0;
    for (size_t i = 0; i < bytes; i++) {
        int value = sextet(text[i]);
        if (value < 0)
            return SIZE_MAX;
        bits = bits << 6 | (uint32_t)value;
        if (i % 4)
            out[used++] = (unsigned char)(bits >> (6 - 2 * (i % 4)));
    }
    return used;
}

static uint32_t little(const unsigned char *p) {
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

ht_status ht_charsmap_create(ht_tokenizer *tokenizer, const ht_field *object, const void **state) {
    ht_field_text text;
    ht_field field = ht_field_get(object, "precompiled_charsmap");
    HT_TRY(ht_field_text_required(object, "precompiled_charsmap", &text));
    charsmap *map = ht_stage_state(tokenizer, sizeof *map);
    unsigned char *blob = ht_stage_state(tokenizer, text.bytes / 4 * 3 + 4);
    if (!map || !blob)
        return HT_ERR_MEMORY;
    size_t bytes = decode_base64(text.data, text.bytes, blob);
    if (bytes == SIZE_MAX)
        return ht_field_fail(&field, HT_ERR_CORRUPT, "not base64");
    size_t trie_bytes = bytes >= 4 ? little(blob) / 4 * 4 : 0;
    if (bytes < 8 || trie_bytes < 4 || trie_bytes > bytes - 4)
        return ht_field_fail(&field, HT_ERR_CORRUPT, "a trie of %zu bytes in %zu bytes", trie_bytes, bytes);
    uint32_t *trie = ht_stage_state(tokenizer, trie_bytes);
    if (!trie)
        return HT_ERR_MEMORY;
    for (size_t i = 0; i < trie_bytes / 4; i++)
        trie[i] = little(blob + 4 + 4 * i);
    blob[bytes] = 0;
    *map = (charsmap){trie, trie_bytes / 4, (const char *)blob + 4 + trie_bytes, bytes - 4 - trie_bytes};
    *state = map;
    if (ht_utf8_valid_prefix(map->texts, map->text_bytes) != map->text_bytes)
        return ht_field_fail(&field, HT_ERR_CORRUPT, "the replacements are not UTF-8");
    return HT_OK;
}

/* Replacement of the shortest prefix of key that the trie holds, or NULL. */
static const char *look_up(const charsmap *map, const char *key, size_t bytes) {
    size_t node = 0;
    uint32_t unit = map->trie[0];
    for (size_t i = 0;; i++) {
        node ^= (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
        if (i > 0 && (unit >> 8 & 1)) {
            uint32_t value = node < map->units ? map->trie[node] & 0x7fffffff : UINT32_MAX;
            int inside = value < map->text_bytes && ((unsigned char)map->texts[value] & 0xc0) != 0x80;
            return inside ? map->texts + value : value == map->text_bytes ? "" : NULL;
        }
        if (i == bytes || !key[i])
            return NULL;
        node ^= (unsigned char)key[i];
        if (node >= map->units)
            return NULL;
        unit = map->trie[node];
        if ((unit & (1u << 31 | 0xff)) != (unsigned char)key[i])
            return NULL;
    }
}

static void normalize_cluster(const charsmap *map, const char *text, size_t bytes, ht_text *out) {
    const char *replacement = bytes < WHOLE_BELOW ? look_up(map, text, bytes) : NULL;
    if (replacement) {
        ht_text_append(out, replacement, strlen(replacement));
        return;
    }
    for (size_t at = 0, length; at < bytes; at += length) {
        length = ht_utf8_length(text + at);
        replacement = look_up(map, text + at, length);
        if (replacement)
            ht_text_append(out, replacement, strlen(replacement));
        else
            ht_text_append(out, text + at, length);
    }
}

ht_status ht_charsmap_run(const void *state, ht_encode_call *call, ht_piece in, ht_text *out, size_t *head) {
    (void)call;
    size_t before = out->length, start = 0;
    utf8proc_int32_t grapheme = 0;
    uint32_t previous = 0, character;
    *head = 0;
    for (size_t at = 0, length; at < in.bytes; at += length, previous = character) {
        length = ht_utf8_decode(in.text + at, in.bytes - at, &character);
        if (at == 0 ||
            !utf8proc_grapheme_break_stateful((utf8proc_int32_t)previous, (utf8proc_int32_t)character, &grapheme))
            continue;
        normalize_cluster(state, in.text + start, at - start, out);
        if (start < in.head)
            *head = out->length - before;
        start = at;
    }
    normalize_cluster(state, in.text + start, in.bytes - start, out);
    if (start < in.head)
        *head = out->length - before;
    return HT_OK;
}
