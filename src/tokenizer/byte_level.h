/* The byte-level alphabet: every byte as a printable character. */
#ifndef HT_TOKENIZER_BYTE_LEVEL_H
#define HT_TOKENIZER_BYTE_LEVEL_H

#include <stdint.h>

#include "base/text.h"

/* The pattern that byte-level components split by when nothing else is asked for (GPT-2). */
#define HT_BYTE_LEVEL_PATTERN "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

/* Append the character of every byte. */
void ht_byte_level_encode(ht_text *out, const char *bytes, size_t count);
/* Append the bytes of a text of such characters; 0 (and nothing appended) when it holds any other character. */
int ht_byte_level_decode(ht_text *out, const char *text, size_t bytes);

#endif
