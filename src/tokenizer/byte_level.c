/* The byte-level alphabet of GPT-2: the 188 printable bytes 21..7E, A1..AC, AE..FF stand for themselves, the other 68
 * become U+0100, U+0101, ... in order. Both directions are arithmetic, so there is no table to build or to share.
 *
 *   byte  00..20          -> U+0100..U+0120
 *   byte  7F..A0          -> U+0121..U+0142
 *   byte  AD              -> U+0143
 *
 * Source: Radford et al., "Language models are unsupervised multitask learners", 2019, and the tokenizer published
 * with it.
 * SPDX-License-Identifier: BSD-3-Clause */
#include "tokenizer/byte_level.h"

#include "tokenizer/utf8.h"

static uint32_t character_of(unsigned char byte) {
    if (byte <= 0x20)
        return 0x100u + byte;
    if (byte >= 0x7f && byte <= 0xa0)
        return 0x121u + byte - 0x7f;
    return byte == 0xad ? 0x143u : byte;
}

static int byte_of(uint32_t character) {
    if (character >= 0x100 && character <= 0x120)
        return (int)(character - 0x100);
    if (character >= 0x121 && character <= 0x142)
        return (int)(character - 0x121 + 0x7f);
    if (character == 0x143)
        return 0xad;
    if (character > 0xff || character_of((unsigned char)character) != character)
        return -1;
    return (int)character;
}

void ht_byte_level_encode(ht_text *out, const char *bytes, size_t count) {
    char chunk[512];
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        used += ht_utf8_encode(character_of((unsigned char)bytes[i]), chunk + used);
        if (used > sizeof chunk - 4) {
            ht_text_append(out, chunk, used);
            used = 0;
        }
    }
    ht_text_append(out, chunk, used);
}

int ht_byte_level_decode(ht_text *out, const char *text, size_t bytes) {
    size_t before = out->length;
    for (size_t at = 0; at < bytes;) {
        uint32_t character;
        at += ht_utf8_decode(text + at, bytes - at, &character);
        int byte = byte_of(character);
        if (byte < 0) {
            out->length = before;
            return 0;
        }
        char value = (char)byte;
        ht_text_append(out, &value, 1);
    }
    return 1;
}
