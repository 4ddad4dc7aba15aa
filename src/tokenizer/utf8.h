/* UTF-8 and the character classes that tokenizer components are defined by. */
#ifndef HT_TOKENIZER_UTF8_H
#define HT_TOKENIZER_UTF8_H

#include <stddef.h>
#include <stdint.h>

#include "base/text.h"

/* First character of valid UTF-8; returns its bytes (1 to 4). bytes > 0. */
size_t ht_utf8_decode(const char *text, size_t bytes, uint32_t *character);
/* Bytes of the first character of valid UTF-8, from its first byte. */
size_t ht_utf8_length(const char *text);
/* Offset of the character that ends at `end` (> 0) of valid UTF-8. */
size_t ht_utf8_before(const char *text, size_t end);
/* Write a character; returns its bytes. */
size_t ht_utf8_encode(uint32_t character, char out[4]);
void ht_utf8_append(ht_text *out, uint32_t character);

/* Bytes at the start that are valid UTF-8 (no surrogates, nothing above U+10FFFF, shortest forms). */
size_t ht_utf8_valid_prefix(const char *text, size_t bytes);
/* Append the text with every maximal part of an ill-formed sequence replaced by U+FFFD: at each position the longest
 * run of bytes that could start a character becomes one U+FFFD, or else the single byte does (Unicode 15, section 3.9,
 * table 3-8). */
void ht_utf8_append_repaired(ht_text *out, const char *text, size_t bytes);

/* Characters of valid UTF-8. */
size_t ht_utf8_count(const char *text, size_t bytes);

/* Unicode White_Space. */
int ht_char_is_space(uint32_t character);
/* Categories Nd, Nl, No. */
int ht_char_is_number(uint32_t character);
/* Categories P*, and the ASCII symbols $+<=>^`|~. */
int ht_char_is_punctuation(uint32_t character);
/* Categories Mn, Mc, Me; only Mn. */
int ht_char_is_mark(uint32_t character);
int ht_char_is_nonspacing_mark(uint32_t character);
/* Categories Cc, Cf, Cs, Co. */
int ht_char_is_other(uint32_t character);
/* Full lower case of one character, without context: at most two characters. Returns their number. */
size_t ht_char_lower(uint32_t character, uint32_t out[2]);

#endif
