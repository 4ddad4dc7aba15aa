/* UTF-8 decoding, repair of ill-formed input, and character classes from utf8proc's tables.
 *
 * Everything behind the repair works on valid UTF-8 and does not check again. White space is Unicode's White_Space,
 * spelled out, because libraries disagree on it (PCRE2 adds U+180E, isspace follows the locale). Lower case is the
 * unconditional mapping of SpecialCasing.txt: one character at a time, so a final sigma stays a plain sigma, and only
 * U+0130 becomes two characters.
 * Source: The Unicode Standard 15, sections 3.9 and 4.5, PropList.txt, SpecialCasing.txt.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/utf8.h"

#include <string.h> /* memchr */

#include <utf8proc.h>

size_t ht_utf8_length(const char *text) {
    unsigned char first = (unsigned char)text[0];
    return first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

size_t ht_utf8_decode(const char *text, size_t bytes, uint32_t *character) {
    const unsigned char *p = (const unsigned char *)text;
    size_t length = ht_utf8_length(text);
    if (length > bytes)
        length = 1; /* not reached with valid text */
    if (length == 1)
        *character = p[0];
    else if (length == 2)
        *character = (uint32_t)(p[0] & 0x1f) << 6 | (p[1] & 0x3f);
    else if (length == 3)
        *character = (uint32_t)(p[0] & 0x0f) << 12 | (uint32_t)(p[1] & 0x3f) << 6 | (p[2] & 0x3f);
    else
        *character = (uint32_t)(p[0] & 0x07) << 18 | (uint32_t)(p[1] & 0x3f) << 12 | (uint32_t)(p[2] & 0x3f) << 6 |
                     (p[3] & 0x3f);
    return length;
}

size_t ht_utf8_before(const char *text, size_t end) {
    do
        end--;
    while (end > 0 && ((unsigned char)text[end] & 0xc0) == 0x80);
    return end;
}

size_t ht_utf8_encode(uint32_t character, char out[4]) {
    if (character < 0x80) {
        out[0] = (char)character;
        return 1;
    }
    if (character < 0x800) {
        out[0] = (char)(0xc0 | character >> 6);
        out[1] = (char)(0x80 | (character & 0x3f));
        return 2;
    }
    if (character < 0x10000) {
        out[0] = (char)(0xe0 | character >> 12);
        out[1] = (char)(0x80 | (character >> 6 & 0x3f));
        out[2] = (char)(0x80 | (character & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | character >> 18);
    out[1] = (char)(0x80 | (character >> 12 & 0x3f));
    out[2] = (char)(0x80 | (character >> 6 & 0x3f));
    out[3] = (char)(0x80 | (character & 0x3f));
    return 4;
}

void ht_utf8_append(ht_text *out, uint32_t character) {
    char bytes[4];
    ht_text_append(out, bytes, ht_utf8_encode(character, bytes));
}

/* What follows a first byte: how many bytes, and the range of the second one (the others are 80..BF).
 *   C2..DF 80..BF | E0 A0..BF | E1..EC,EE,EF 80..BF | ED 80..9F | F0 90..BF | F1..F3 80..BF | F4 80..8F */
static size_t expect(unsigned char first, unsigned char *low, unsigned char *high) {
    *low = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    *high = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;
    if (first < 0x80)
        return 1;
    if (first < 0xc2 || first > 0xf4)
        return 0;
    return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}

/* Length of the character at p when it is complete (*whole = 1), else of the maximal part to replace. */
static size_t scan(const unsigned char *p, size_t bytes, int *whole) {
    unsigned char low, high;
    size_t length = expect(p[0], &low, &high);
    *whole = 0;
    if (length == 0)
        return 1;
    for (size_t i = 1; i < length; i++) {
        if (i >= bytes || p[i] < low || p[i] > high)
            return i;
        low = 0x80;
        high = 0xbf;
    }
    *whole = 1;
    return length;
}

size_t ht_utf8_valid_prefix(const char *text, size_t bytes) {
    size_t at = 0;
    while (at < bytes) {
        int whole;
        size_t length = (unsigned char)text[at] < 0x80 ? 1 : scan((const unsigned char *)text + at, bytes - at, &whole);
        if ((unsigned char)text[at] >= 0x80 && !whole)
            break;
        at += length;
    }
    return at;
}

void ht_utf8_append_repaired(ht_text *out, const char *text, size_t bytes) {
    while (bytes) {
        size_t valid = ht_utf8_valid_prefix(text, bytes);
        ht_text_append(out, text, valid);
        text += valid;
        bytes -= valid;
        if (bytes) {
            int whole;
            size_t bad = scan((const unsigned char *)text, bytes, &whole);
            ht_text_append(out, "\xef\xbf\xbd", 3);
            text += bad;
            bytes -= bad;
        }
    }
}

size_t ht_utf8_count(const char *text, size_t bytes) {
    size_t count = 0;
    for (size_t i = 0; i < bytes; i++)
        count += ((unsigned char)text[i] & 0xc0) != 0x80;
    return count;
}

int ht_char_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200a) ||
           c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f || c == 0x3000;
}

/* One bit per general category. */
static unsigned category(uint32_t c) {
    return 1u << utf8proc_category((utf8proc_int32_t)c);
}

int ht_char_is_number(uint32_t c) {
    return (category(c) & (1u << UTF8PROC_CATEGORY_ND | 1u << UTF8PROC_CATEGORY_NL | 1u << UTF8PROC_CATEGORY_NO)) != 0;
}

int ht_char_is_punctuation(uint32_t c) {
    if (c < 0x80)
        return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
    return (category(c) & (1u << UTF8PROC_CATEGORY_PC | 1u << UTF8PROC_CATEGORY_PD | 1u << UTF8PROC_CATEGORY_PS |
                           1u << UTF8PROC_CATEGORY_PE | 1u << UTF8PROC_CATEGORY_PI | 1u << UTF8PROC_CATEGORY_PF |
                           1u << UTF8PROC_CATEGORY_PO)) != 0;
}

int ht_char_is_nonspacing_mark(uint32_t c) {
    return category(c) == 1u << UTF8PROC_CATEGORY_MN;
}

int ht_char_is_mark(uint32_t c) {
    return (category(c) & (1u << UTF8PROC_CATEGORY_MN | 1u << UTF8PROC_CATEGORY_MC | 1u << UTF8PROC_CATEGORY_ME)) != 0;
}

int ht_char_is_other(uint32_t c) {
    return (category(c) & (1u << UTF8PROC_CATEGORY_CC | 1u << UTF8PROC_CATEGORY_CF | 1u << UTF8PROC_CATEGORY_CS |
                           1u << UTF8PROC_CATEGORY_CO)) != 0;
}

size_t ht_char_lower(uint32_t c, uint32_t out[2]) {
    if (c == 0x130) { /* capital I with dot above: i, combining dot above */
        out[0] = 'i';
        out[1] = 0x307;
        return 2;
    }
    out[0] = c < 0x80 ? (c >= 'A' && c <= 'Z' ? c + 32 : c) : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c);
    return 1;
}
